//! How often, how much and how slowly somebody may ask; and that a bug ends one request, not a connection.

use crate::problem::{Failure, Problem};
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use windlass_app::error::{AppError, ErrorKind, internal};
use windlass_model::diagnostic::Diagnostic;

/// Where deliveries of forges arrive, which are longer than anything else.
pub const WEBHOOKS: &str = "/webhooks";

/// How the addresses of triggers of operations begin.
pub const HOOKS: &str = "/hooks/";

/// What one server allows.
#[derive(Debug)]
pub struct Limits {
    /// Tries to sign in, and exchanges of tokens.
    pub sign_in: Gate,
    /// Tokens and signatures that are wrong. Good ones are never counted, nor refused because of others from the same address.
    pub wrong: Gate,
    /// The longest body, bytes; and that of a webhook.
    pub body: usize,
    pub webhook: usize,
    /// How long the head and the body of a request may take to arrive; an idle connection is closed after the first, too.
    pub header_time: Duration,
    pub body_time: Duration,
    /// Connections at once; who comes when there are so many waits.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A whole company may come from one address in the morning; secrets are too long to be guessed at any rate.
            sign_in: Gate::new(60, 600),
            wrong: Gate::new(60, 600),
            body: 1 << 20,
            webhook: 25 << 20,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            connections: 2_000,
        }
    }
}

/// Addresses that a gate remembers before it forgets those that have not been there for a while.
const REMEMBERED: usize = 10_000;

/// Lets so many through at once, and that number again within a minute; each address and all of them.
#[derive(Debug)]
pub struct Gate {
    each: DefaultKeyedRateLimiter<IpAddr>,
    all: DefaultDirectRateLimiter,
}

impl Gate {
    /// `each` and `all` per minute; 0 counts as 1.
    pub fn new(each: u32, all: u32) -> Self {
        let quota = |number| Quota::per_minute(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN));
        Self { each: RateLimiter::keyed(quota(each)), all: RateLimiter::direct(quota(all)) }
    }

    /// Counts one more of `address`.
    ///
    /// # Errors
    /// The seconds until the next is let through.
    pub fn pass(&self, address: IpAddr) -> Result<(), u64> {
        if self.each.len() > REMEMBERED {
            self.each.retain_recent();
        }
        let checked = self.each.check_key(&network(address)).and_then(|()| self.all.check());
        let wait = |until: governor::NotUntil<_>| until.wait_time_from(DefaultClock::default().now());
        checked.map_err(|until| wait(until).as_secs() + 1)
    }
}

/// Whoever has an address of IPv6 has a whole network of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from(u128::from(six) >> 64 << 64)),
    }
}

fn refused(status: StatusCode, diagnostic: Diagnostic) -> Response {
    let problem = Problem { status: status.as_u16(), ..Problem::of(&AppError::new(ErrorKind::Usage, diagnostic)) };
    let mut response = (status, Json(problem)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// The answer to somebody whom a [`Gate`] holds up.
pub fn too_often(seconds: u64) -> Response {
    let diagnostic = Diagnostic::error("WL860", "too many tries from this address, or from all together");
    let mut response =
        refused(StatusCode::TOO_MANY_REQUESTS, diagnostic.help(format!("try again in {seconds} seconds")));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The request with its whole body, when that is not too long and does not come too slowly.
///
/// # Errors
/// The answer to give instead.
pub async fn read(request: Request, limits: &Limits) -> Result<Request, Box<Response>> {
    let path = request.uri().path();
    let most = if path == WEBHOOKS || path.starts_with(HOOKS) { limits.webhook } else { limits.body };
    let said = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let too_long = || {
        let diagnostic = Diagnostic::error("WL861", format!("the request is longer than {} MiB", most >> 20));
        Box::new(refused(StatusCode::PAYLOAD_TOO_LARGE, diagnostic))
    };
    if said.is_some_and(|length: usize| length > most) {
        return Err(too_long());
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(limits.body_time, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        // The connection broke, and nobody reads this; or it was too long after all.
        Ok(Err(_)) => Err(too_long()),
        Err(_) => {
            let seconds = limits.body_time.as_secs();
            let diagnostic = Diagnostic::error("WL862", format!("the request did not arrive within {seconds} s"));
            Err(Box::new(refused(StatusCode::REQUEST_TIMEOUT, diagnostic)))
        }
    }
}

/// The answer, also when a bug ends whoever makes it.
pub async fn unbroken(answer: impl Future<Output = Response>, correlation: &str) -> Response {
    let mut answer = pin!(answer);
    std::future::poll_fn(|context| {
        // It is not polled again after a panic, and what it shared is behind locks that bear one.
        catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<&str>().copied();
            let what = what.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
            tracing::error!(correlation, "a request was ended by a bug: {what}");
            let error = internal(format!("the server's log says more under {correlation}"));
            Poll::Ready(Failure(error).into_response())
        })
    })
    .await
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub IpAddr);

impl Address {
    /// Who is connected, or for whom that proxy says that it asks, when it is one of `trusted`.
    pub fn of(request: &Request, trusted: &[IpNet]) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical());
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        if !is_trusted(&peer) {
            return Self(peer);
        }
        let found = [
            through(peer, listed(request.headers(), "x-forwarded-for").map(plain), is_trusted),
            through(peer, listed(request.headers(), "forwarded").map(forwarded), is_trusted),
        ];
        // A proxy writes one of them. When the other comes along as well, its client wrote it, and which is which cannot be told.
        Self(match found {
            [Some(one), Some(other)] if one != other => peer,
            [one, other] => one.or(other).unwrap_or(peer),
        })
    }
}

/// The members of a header that is a list, over all its lines.
fn listed<'a>(headers: &'a HeaderMap, name: &'static str) -> impl DoubleEndedIterator<Item = &'a str> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    lines.into_iter().flat_map(|line| line.split(','))
}

/// The last address that no trusted proxy has: everything before it is what a client says of itself.
fn through(
    peer: IpAddr,
    hops: impl DoubleEndedIterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut hops = hops.rev().peekable();
    hops.peek()?;
    let mut last = peer;
    for hop in hops {
        let Some(hop) = hop else { break };
        last = hop;
        if !is_trusted(&hop) {
            break;
        }
    }
    Some(last)
}

/// An address as proxies write it, with or without a port.
fn plain(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The `for` of RFC 7239.
fn forwarded(text: &str) -> Option<IpAddr> {
    let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("for"));
    found.and_then(|(_, value)| plain(value.trim_matches('"')))
}

/// Answers requests until `stop`; those under way may end. A connection on which no head arrives within the time for it is closed,
/// and when there are as many as may be, the next waits for one to end.
pub async fn serve(router: Router, listener: TcpListener, stop: CancellationToken, limits: &Limits) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_time);
    let places = Arc::new(Semaphore::new(limits.connections));
    let open = GracefulShutdown::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot take a connection: {error}");
                // Files may have run out; some are given back soon.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Streams send little at a time, and that at once. Where it cannot be had, they are slower.
        let _ = stream.set_nodelay(true);
        let service = router.clone().map_request(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            request
        });
        let connection = open.watch(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
        // That a client goes away, or is too slow, is no error of ours.
        tokio::spawn(async move {
            drop(connection.await);
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn address(peer: &str, headers: &[(&'static str, &str)], want: &str) {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect();
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        assert_eq!(Address::of(&request, &trusted).0.to_string(), want, "{peer} {headers:?}");
    }

    #[test]
    fn only_trusted_proxies_say_for_whom_they_ask() {
        let xff = "x-forwarded-for";
        address("192.0.2.1", &[], "192.0.2.1");
        address("192.0.2.1", &[(xff, "198.51.100.7")], "192.0.2.1");
        address("10.1.1.1", &[(xff, "198.51.100.7")], "198.51.100.7");
        address("::ffff:10.1.1.1", &[(xff, "198.51.100.7")], "198.51.100.7");
        address("10.1.1.1", &[(xff, "203.0.113.9, 198.51.100.7")], "198.51.100.7");
        address("10.1.1.1", &[(xff, "203.0.113.9"), (xff, "198.51.100.7, 10.2.2.2")], "198.51.100.7");
        address("10.1.1.1", &[(xff, "198.51.100.7:4711")], "198.51.100.7");
        address("10.1.1.1", &[(xff, "[2001:db8::1]:4711")], "2001:db8::1");
        address("10.1.1.1", &[(xff, "2001:db8::1")], "2001:db8::1");
        // What cannot be read ends the search at the last proxy that could.
        address("10.1.1.1", &[(xff, "198.51.100.7, unknown, 10.2.2.2")], "10.2.2.2");
        address("10.1.1.1", &[(xff, "")], "10.1.1.1");
        address("10.1.1.1", &[(xff, "10.3.3.3, 10.2.2.2")], "10.3.3.3");
        address("fd00::1", &[("forwarded", "for=\"[2001:db8::1]:4711\";proto=https")], "2001:db8::1");
        address("10.1.1.1", &[("forwarded", "For=203.0.113.9, for=198.51.100.7;by=10.1.1.1")], "198.51.100.7");
        address("10.1.1.1", &[("forwarded", "for=_hidden")], "10.1.1.1");
        // Both: believed as far as they agree.
        address("10.1.1.1", &[("forwarded", "for=198.51.100.7"), (xff, "198.51.100.7")], "198.51.100.7");
        address("10.1.1.1", &[("forwarded", "for=203.0.113.9"), (xff, "198.51.100.7")], "10.1.1.1");
    }

    #[test]
    fn a_gate_counts_each_address_and_all() {
        let gate = Gate::new(3, 5);
        let pass = |address: &str| gate.pass(address.parse().unwrap());
        for _ in 0..3 {
            assert_eq!(pass("2001:db8::1"), Ok(()));
        }
        // The same network.
        let wait = pass("2001:db8::2").unwrap_err();
        assert!((1..=21).contains(&wait), "{wait}");
        assert_eq!((pass("192.0.2.1"), pass("192.0.2.2")), (Ok(()), Ok(())));
        let wait = pass("192.0.2.3").unwrap_err();
        assert!((1..=13).contains(&wait), "{wait}");
    }

    /// What a server with small limits answers to `parts` of a request that are sent one after another, until it says something.
    async fn raw(parts: &[&[u8]]) -> (String, Duration) {
        async fn broken() -> Response {
            panic!("a bug of a test");
        }
        let short = Duration::from_millis(300);
        let limits: &'static Limits =
            Box::leak(Box::new(Limits { body: 1000, body_time: short, header_time: short, ..Limits::default() }));
        let bounds = axum::middleware::from_fn(move |request: Request, next: axum::middleware::Next| async move {
            let answer = async {
                match read(request, limits).await {
                    Ok(request) => next.run(request).await,
                    Err(response) => *response,
                }
            };
            unbroken(answer, "the-id").await
        });
        let echo = post(|body: axum::body::Bytes| async move { body.len().to_string() });
        let router = Router::new().route("/", echo).route("/broken", get(broken)).layer(bounds);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn({
            let stop = stop.clone();
            async move { serve(router, listener, stop, limits).await }
        });
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answer = Vec::new();
        for part in parts {
            // It may have been closed meanwhile, with an answer that can still be read.
            let _ = stream.write_all(part).await;
        }
        let _ = stream.read_to_end(&mut answer).await;
        stop.cancel();
        served.await.unwrap();
        (String::from_utf8(answer).unwrap(), begun.elapsed())
    }

    #[tokio::test]
    async fn what_is_too_long_or_too_slow_is_refused() {
        let check = async |parts: &[&[u8]], want: &str| {
            let (answer, took) = raw(parts).await;
            assert!(if want.is_empty() { answer.is_empty() } else { answer.contains(want) }, "{want}: {answer}");
            assert!(took < Duration::from_secs(20), "{took:?}");
        };
        check(&[b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\n", b"abc"], "\r\n3")
            .await;
        check(&[b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"], "413 Payload Too Large").await;
        let long = [b'x'; 0x400];
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n";
        check(&[head, &long, b"\r\n0\r\n\r\n"], "WL861").await;
        check(&[b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", b"a"], "408 Request Timeout").await;
        // A head that never ends, and a connection that says nothing.
        check(&[b"POST / HTTP/1.1\r\nHost: x\r\n"], "").await;
        check(&[], "").await;
    }

    #[tokio::test]
    async fn no_more_connections_are_taken_than_may_be() {
        let limits = Limits { connections: 2, header_time: Duration::from_secs(600), ..Limits::default() };
        let router = Router::new().route("/", get(async || "there"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn({
            let stop = stop.clone();
            async move { serve(router, listener, stop, &limits).await }
        });
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            stream
        };
        let hear = async |stream: &mut TcpStream| {
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.map(|_| first)
        };
        let (mut one, mut two) = (ask().await, ask().await);
        assert_eq!(
            (hear(&mut one).await.unwrap(), hear(&mut two).await.unwrap()),
            (*b"HTTP/1.1 200", *b"HTTP/1.1 200")
        );
        let mut three = ask().await;
        // Nobody answers while the two are open: as long as it takes to hear nothing.
        assert!(tokio::time::timeout(Duration::from_millis(200), hear(&mut three)).await.is_err());
        drop(one);
        assert_eq!(hear(&mut three).await.unwrap(), *b"HTTP/1.1 200");
        stop.cancel();
        drop((two, three));
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_bug_is_an_answer_with_its_correlation() {
        let (answer, _) = raw(&[b"GET /broken HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]).await;
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("the-id"), "{answer}");
        assert!(!answer.contains("a bug of a test"), "{answer}");
    }
}
