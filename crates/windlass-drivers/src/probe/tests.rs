use super::*;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use ureq::tls::Certificate;

const TIMEOUT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

/// Answers each connection with the same bytes until it is dropped.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(serve: impl Fn(TcpStream) + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    fn on(listener: TcpListener, serve: impl Fn(TcpStream) + Send + 'static) -> Self {
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.is_cancelled() {
                    return;
                }
                serve(stream);
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    fn saying(response: &'static str) -> Self {
        Self::start(move |mut stream| answer(&mut stream, response))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(TcpStream::connect(self.address));
        let _ = self.thread.take().unwrap().join();
    }
}

/// Reads a request to its empty line and answers it.
fn answer(stream: &mut (impl Read + Write), response: &str) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    // A client that has seen enough may close at any time.
    let _ = stream.write_all(response.as_bytes());
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\nstatus: serving";

fn get(url: impl Into<String>, status: (u16, u16), contains: Option<&str>, timeout: Duration) -> Probe {
    Probe::Http { url: url.into(), status, contains: contains.map(str::to_owned), timeout }
}

/// Nothing but a directory.
fn bare(directory: &str) -> Surroundings {
    Surroundings { directory: directory.into(), ..Surroundings::default() }
}

/// Keeps the processes that started.
#[derive(Default)]
struct Started(Vec<u32>);

impl Listener for Started {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.0.push(pid);
        Ok(())
    }
    async fn output(&mut self, _: Stream, _: &[u8]) {}
}

fn shell(script: &str, timeout: Duration) -> Probe {
    Probe::Command {
        argv: ["sh", "-c", script].map(str::to_owned).into(),
        around: Box::new(Surroundings {
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("ONLY".into(), "this".into())]),
            ..bare("/")
        }),
        timeout,
    }
}

async fn check(probe: &Probe, answer: Answer, detail: &str) -> ProbeAnswer {
    let mut started = Started::default();
    let found = attempt(probe, &CancellationToken::new(), &mut started).await;
    let runs = matches!(probe, Probe::Command { .. }) && !found.detail.starts_with("cannot start");
    assert_eq!(started.0.len(), usize::from(runs && !found.detail.starts_with("there is no")), "{probe:?}");
    assert_eq!(found.answer, answer, "{probe:?}: {}", found.detail);
    assert!(found.detail.contains(detail), "{probe:?}: {}", found.detail);
    assert!(found.took < TIMEOUT, "{:?}", found.took);
    found
}

/// A port on which nobody listens: it was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn connections() {
    let tcp = |address: String, timeout| Probe::Tcp { address, timeout };
    let server = Server::start(drop);
    check(&tcp(server.address.to_string(), TIMEOUT), Answer::Pass, "accepts connections").await;
    check(&tcp(free().to_string(), TIMEOUT), Answer::Fail, "refuses connections").await;
    check(&tcp("no such host:1".into(), TIMEOUT), Answer::Hold, "cannot connect to no such host:1").await;
    check(&tcp("127.0.0.1".into(), TIMEOUT), Answer::Hold, "cannot connect").await;
}

#[tokio::test]
async fn a_gate_is_asked_for_another_process() {
    let server = Server::start(drop);
    let gate = |address: String| Gate::Tcp { address, timeout: 20_000_000, interval: 1 };
    let text = |gate: &Gate| serde_json::to_string(gate).unwrap();
    let (there, nobody) = (gate(server.address.to_string()), gate(free().to_string()));
    for (gate, status, said) in
        [(text(&there), 0, "accepts connections"), (text(&nobody), 1, "refuses"), ("{}".into(), 2, "does not know")]
    {
        let (found, answer) = ask(&gate).await;
        assert!(found == status && answer.contains(said), "{found} {answer}");
    }
    // Who asks it says it in the same words, however the program is called.
    let script = "printf '%s\\n' \"$0 $(echo \"$1\" | tr -d '{}\\\"')\"; exit 1";
    let asker = ["sh", "-c", script].map(str::to_owned).to_vec();
    let environment = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]);
    let around = Surroundings { asker, environment, ..bare("/") };
    let probe = Probe::of_gate(&nobody, &around).unwrap();
    let answer = check(&probe, Answer::Fail, "").await;
    assert!(answer.detail.starts_with("__ask kind:tcp,address:127.0.0.1:"), "{answer:?}");
    let own = Gate::Command { argv: vec!["true".into()], timeout: 20_000_000, interval: 1 };
    check(&Probe::of_gate(&own, &around).unwrap(), Answer::Pass, "`true` succeeds").await;
}

#[tokio::test]
async fn http_answers() {
    let server = Server::saying(OK);
    let url = format!("http://{}/health", server.address);
    check(&get(&url, (200, 299), None, TIMEOUT), Answer::Pass, "answers 200").await;
    check(&get(&url, (200, 299), Some("serving"), TIMEOUT), Answer::Pass, "with `serving`").await;
    check(&get(&url, (200, 299), Some("draining"), TIMEOUT), Answer::Fail, "without `draining`").await;
    check(&get(&url, (204, 204), None, TIMEOUT), Answer::Fail, "answers 200, not 204").await;
    let broken = Server::saying("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let url = format!("http://{}", broken.address);
    check(&get(&url, (200, 399), None, TIMEOUT), Answer::Fail, "answers 503, not 200 to 399").await;
    check(&get(&url, (500, 599), None, TIMEOUT), Answer::Pass, "answers 503").await;
    // Not followed: where it leads is another question.
    let moved = Server::saying(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    check(&get(format!("http://{}", moved.address), (302, 302), None, TIMEOUT), Answer::Pass, "answers 302").await;
    let noise = Server::saying("SSH-2.0-OpenSSH_9.2\r\n");
    check(&get(format!("http://{}", noise.address), (200, 299), None, TIMEOUT), Answer::Hold, "cannot ask").await;
    let short = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\nhalf");
    check(&get(format!("http://{}", short.address), (200, 299), Some("x"), TIMEOUT), Answer::Hold, "cannot be read")
        .await;
    check(&get(format!("http://{}", free()), (200, 299), None, TIMEOUT), Answer::Fail, "refuses connections").await;
    check(&get("not a url", (200, 299), None, TIMEOUT), Answer::Hold, "cannot ask").await;
}

#[tokio::test]
async fn what_hangs_holds() {
    // Accepted by the system, answered by nobody.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let found = check(&get(url, (200, 299), None, SHORT), Answer::Hold, "no answer within 0.2 s").await;
    assert!(found.took >= SHORT, "{:?}", found.took);
}

#[test]
fn certificates_are_checked() {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let der = signed.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let server = Server::start(move |stream| {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        answer(&mut stream, OK);
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let url = format!("https://{}/", server.address);
    let known = RootCerts::new_with_certs(&[Certificate::from_der(&der).to_owned()]);
    let (answer, detail) = http(&url, (200, 200), Some("serving"), TIMEOUT, known);
    assert_eq!(answer, Answer::Pass, "{detail}");
    // This machine does not know who signed it.
    let (answer, detail) = http(&url, (200, 200), None, TIMEOUT, crate::http::system_roots());
    assert_eq!(answer, Answer::Hold, "{detail}");
    assert!(detail.contains("certificate"), "{detail}");
}

#[tokio::test]
async fn commands() {
    let found = check(&shell("echo $ONLY; env | grep -c HOME", TIMEOUT), Answer::Fail, "status 1: 0").await;
    assert_eq!(found.output, "this\n0\n");
    check(&shell("echo all is well; echo", TIMEOUT), Answer::Pass, "`sh` succeeds: all is well").await;
    check(&shell("echo no data >&2; exit 2", TIMEOUT), Answer::Hold, "`sh` ends with status 2: no data").await;
    check(&shell("kill -9 $$", TIMEOUT), Answer::Hold, "signal: 9").await;
    let command = |argv: &[&str]| Probe::Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        around: Box::new(bare("/")),
        timeout: TIMEOUT,
    };
    check(&command(&["/no/such/program"]), Answer::Hold, "cannot start /no/such/program").await;
    check(&command(&[]), Answer::Hold, "no command").await;
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let script = "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done";
    let found = check(&shell(script, TIMEOUT), Answer::Pass, "line 4999").await;
    assert_eq!(found.output.len(), OUTPUT);
    assert!(found.output.ends_with("line 4998\nline 4999\n"));
}

/// Waits for a killed process to be gone: the system takes a moment.
async fn goes(pid: &str) -> bool {
    let deadline = Instant::now() + TIMEOUT;
    let lives =
        || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "));
    while lives() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    !lives()
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_its_children() {
    let script = "trap '' INT; sh -c 'trap \"\" INT TERM HUP; sleep 600' & echo $!; wait; sleep 600";
    let found = check(&shell(script, Duration::from_secs(1)), Answer::Hold, "did not end within 1.0 s").await;
    assert!(found.output.trim().parse::<u32>().is_ok(), "{}", found.output);
    assert!(goes(&found.output).await, "{}", found.output);
    // A child that stays behind when the command has ended goes, too.
    let found = check(&shell("(trap '' INT TERM HUP; sleep 600) & echo $!", TIMEOUT), Answer::Pass, "succeeds").await;
    assert!(goes(&found.output).await, "{}", found.output);
}

#[tokio::test]
async fn a_cancel_holds() {
    let mut started = Started::default();
    let cancel = CancellationToken::new();
    let probe = shell("sleep 600", TIMEOUT);
    let (found, ()) = tokio::join!(attempt(&probe, &cancel, &mut started), async { cancel.cancel() });
    assert_eq!((found.answer, found.detail.as_str()), (Answer::Hold, "cancelled"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = get(format!("http://{}", listener.local_addr().unwrap()), (200, 200), None, SHORT);
    assert_eq!(attempt(&hangs, &cancel, &mut started).await.detail, "cancelled");
    let refuses = Probe::Tcp { address: free().to_string(), timeout: TIMEOUT };
    let cancel = CancellationToken::new();
    let deadline = Instant::now() + TIMEOUT * 10;
    let (found, ()) =
        tokio::join!(until(&refuses, deadline, TIMEOUT * 5, &cancel, &mut started), async { cancel.cancel() });
    assert_eq!((found.answer, found.detail.as_str()), (Answer::Hold, "cancelled"));
}

#[tokio::test]
async fn it_is_asked_until_it_passes() {
    let mut started = Started::default();
    // Fails twice, says nothing once, then is well.
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count").display().to_string();
    let script =
        format!("echo x >> {count}; case $(wc -l < {count}) in 1|2) exit 1;; 3) exit 9;; *) echo ready;; esac");
    let found = until(
        &shell(&script, TIMEOUT),
        Instant::now() + TIMEOUT * 3,
        Duration::from_millis(1),
        &CancellationToken::new(),
        &mut started,
    )
    .await;
    assert_eq!(started.0.len(), 4);
    assert_eq!((found.answer, found.output.as_str()), (Answer::Pass, "ready\n"), "{}", found.detail);
    assert_eq!(std::fs::read_to_string(folder.path().join("count")).unwrap(), "x\nx\nx\nx\n");
}

#[tokio::test]
async fn a_service_that_comes_up_passes() {
    let mut started = Started::default();
    let address = free();
    let probe = get(format!("http://{address}/"), (200, 200), Some("serving"), TIMEOUT);
    let refused = check(&probe, Answer::Fail, "refuses connections").await;
    assert!(refused.output.is_empty());
    let cancel = CancellationToken::new();
    let asking = until(&probe, Instant::now() + TIMEOUT * 3, Duration::from_millis(5), &cancel, &mut started);
    let starting = tokio::task::spawn_blocking(move || {
        Server::on(TcpListener::bind(address).unwrap(), |mut stream| answer(&mut stream, OK))
    });
    let (found, server) = tokio::join!(asking, starting);
    assert_eq!(found.answer, Answer::Pass, "{}", found.detail);
    drop(server.unwrap());
}

#[tokio::test]
async fn a_deadline_never_passes() {
    let mut started = Started::default();
    let cancel = CancellationToken::new();
    let refuses = Probe::Tcp { address: free().to_string(), timeout: TIMEOUT };
    let found = until(&refuses, Instant::now() + SHORT, Duration::from_millis(20), &cancel, &mut started).await;
    assert_eq!(found.answer, Answer::Fail, "{}", found.detail);
    assert!(found.detail.starts_with("not within 0."), "{}", found.detail);
    assert!(found.detail.ends_with("refuses connections"), "{}", found.detail);
    // An attempt that would take longer is cut short.
    let found =
        until(&shell("sleep 600", TIMEOUT), Instant::now() + SHORT, Duration::from_millis(20), &cancel, &mut started)
            .await;
    assert_eq!(found.answer, Answer::Hold);
    assert!(found.took < TIMEOUT && found.detail.contains("asked once"), "{found:?}");
    let found = until(&refuses, Instant::now(), Duration::ZERO, &cancel, &mut started).await;
    assert_eq!(found.answer, Answer::Hold, "{}", found.detail);
}

#[test]
fn gates_are_asked_by_probes() {
    let check = |gate: Gate, want: Option<Probe>| {
        assert_eq!(Probe::of_gate(&gate, &bare("/repo")), want, "{gate:?}");
    };
    let (timeout, interval) = (1_500_000, 10);
    let limit = Duration::from_millis(1500);
    check(
        Gate::Tcp { address: "a:1".into(), timeout, interval },
        Some(Probe::Tcp { address: "a:1".into(), timeout: limit }),
    );
    check(
        Gate::Http { url: "http://a".into(), status: (200, 204), contains: Some("x".into()), timeout, interval },
        Some(get("http://a", (200, 204), Some("x"), limit)),
    );
    check(
        Gate::Command { argv: vec!["true".into()], timeout, interval },
        Some(Probe::Command { argv: vec!["true".into()], around: Box::new(bare("/repo")), timeout: limit }),
    );
    check(Gate::Checks, None);
    check(Gate::ServiceLevel { name: "up".into(), interval }, None);
}
