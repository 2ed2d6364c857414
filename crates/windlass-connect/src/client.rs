//! Requests to services that something is told to or done at: over TLS or on this machine, without redirects, within limits on
//! time and size. Their callers say what an answer means.

use crate::error::plain;
use crate::http::{is_loopback, tls};
use openidconnect::url::Url;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request, header};

/// From the first byte sent to the last one read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Until there is a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Nobody is asked to wait longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// A client for one address and what lies below it.
pub(crate) struct Client {
    agent: Agent,
    url: Url,
    /// An answer, bytes.
    largest: u64,
}

pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why there is no answer. `sent`: the request may have arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoAnswer {
    /// After the name of the place: "cannot be reached: …".
    pub problem: String,
    pub sent: bool,
}

impl Client {
    /// `what` is how the settings call this address; `roots` a PEM file with certificates that are trusted besides the
    /// machine's own; `largest` the bytes of an answer.
    ///
    /// # Errors
    /// What is wrong with the settings; the address, which may be a secret, is not repeated.
    pub fn new(what: &str, text: &str, roots: Option<&Path>, largest: u64) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|error| format!("`{what}` is no address: {error}"))?;
        let bare = url.scheme() == "http" && is_loopback(&url);
        if url.scheme() != "https" && !bare {
            return Err(format!("`{what}` has to begin with https://, unless it is on this machine"));
        }
        let mut config = Agent::config_builder()
            .tls_config(tls(roots)?)
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT))
            .http_status_as_error(false)
            // What is signed or secret is for whom it was declared.
            .max_redirects(0)
            .user_agent("windlass");
        if is_loopback(&url) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().new_agent(), url, largest })
    }

    /// The host, for people: the rest of an address may be a secret.
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Whether an address leads to the same server in the same way.
    pub fn is_same_origin(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| url.origin() == self.url.origin())
    }

    /// One request to `url`, which is the address of this client or lies below it, whatever the status of its answer. A body is
    /// JSON.
    pub fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder().method(method).uri(url);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
            request = request.header(header::ACCEPT, "application/json");
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let broken = |_| NoAnswer { problem: "cannot be asked: what is sent is no request".into(), sent: false };
        let failed = |error: ureq::Error| NoAnswer { problem: problem(&error), sent: may_be_sent(&error) };
        let answer = match body {
            Some(body) => self.agent.run(request.body(body).map_err(broken)?),
            None => self.agent.run(request.body(()).map_err(broken)?),
        };
        let (parts, mut body) = answer.map_err(failed)?.into_parts();
        let body = body.with_config().limit(self.largest).read_to_vec();
        let body = body.map_err(|error| NoAnswer { problem: problem(&error), sent: true })?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// When it asks to be asked again.
    pub fn after(&self) -> Option<Duration> {
        let seconds = self.header(header::RETRY_AFTER.as_str())?.parse().ok()?;
        Some(Duration::from_secs(seconds).min(LONGEST))
    }

    /// What it says about itself, in some words.
    pub fn said(&self) -> String {
        let json = self.json();
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let one =
            |value: &Value| ["message", "code"].iter().find_map(|name| text(&value[name])).or_else(|| text(value));
        let mut said: Vec<String> = [&json["message"], &json["error"]].into_iter().filter_map(one).take(1).collect();
        let more = json["errors"].as_array().into_iter().flatten().filter_map(one);
        said.extend(more.filter(|more| said.first() != Some(more)).collect::<Vec<_>>());
        if said.is_empty() {
            let whole = String::from_utf8_lossy(&self.body);
            // A page of a proxy says nothing to anybody here.
            said.extend((!whole.trim_start().starts_with('<')).then(|| whole.into_owned()));
        }
        plain(said.join("; ").trim())
    }
}

/// At most an hour.
pub(crate) fn bearable(after: Duration) -> Duration {
    after.min(LONGEST)
}

fn problem(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("does not answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::BodyExceedsLimit(_) => "answers too much".into(),
        ureq::Error::HostNotFound => "is a name that is not known here".into(),
        ureq::Error::Io(error) => format!("cannot be reached: {error}"),
        other => format!("cannot be asked: {}", plain(&other.to_string())),
    }
}

fn may_be_sent(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Timeout(at) => !matches!(at, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        ureq::Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::Http(_)
        | ureq::Error::BadUri(_)
        | ureq::Error::InvalidProxyUrl => false,
        _ => true,
    }
}
