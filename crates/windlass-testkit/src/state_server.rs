//! A real server for terraform's `http` backend: many states by path, with locks, on a port of its own.
//!
//! The protocol is the one in terraform's documentation of the `http` backend: `GET`, `POST` and `DELETE` of a state, `LOCK` and
//! `UNLOCK` with the lock's information as JSON; who meets a lock is answered 423 with the information of its holder.

use crate::TestkitError;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A server that runs until it is dropped. States live in memory and go with it.
#[derive(Debug)]
pub struct StateServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// `Authorization` header that is asked for.
    authorization: Option<String>,
    fail_writes: AtomicBool,
    stopping: AtomicBool,
    slots: Mutex<BTreeMap<String, Slot>>,
    connections: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
}

/// What is held for one name.
#[derive(Debug, Default)]
struct Slot {
    state: Option<Vec<u8>>,
    lock: Option<serde_json::Value>,
    writes: usize,
}

impl StateServer {
    /// Open to everybody on this machine.
    ///
    /// # Errors
    /// [`TestkitError::Start`] when no port can be had.
    pub fn start() -> Result<Self, TestkitError> {
        Self::listen(None)
    }

    /// Asks for this user and password (HTTP basic authentication); everything else is answered 401.
    ///
    /// # Errors
    /// [`TestkitError::Start`] when no port can be had.
    pub fn start_with_password(user: &str, password: &str) -> Result<Self, TestkitError> {
        Self::listen(Some(format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))))
    }

    fn listen(authorization: Option<String>) -> Result<Self, TestkitError> {
        let failed = |source| TestkitError::Start { program: "the state server".into(), source };
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared { authorization, ..Shared::default() });
        let accepting = std::thread::Builder::new()
            .name("state-server".into())
            .spawn({
                let shared = shared.clone();
                move || accept(&listener, &shared)
            })
            .map_err(failed)?;
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Base address without a slash at its end; the state `aws/network` is at `{url}/aws/network`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `backend` block for a state. Nothing is tried twice, so that a failed write shows at once.
    pub fn backend(&self, name: &str) -> String {
        let address = format!("{}/{name}", self.url());
        format!(
            "backend \"http\" {{\n  address        = \"{address}\"\n  lock_address   = \"{address}\"\n  unlock_address = \"{address}\"\n  retry_max      = 0\n}}\n"
        )
    }

    /// The state as it was last written; `None` when it never was, or was deleted.
    pub fn state(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.shared.slots).get(name)?.state.clone()
    }

    /// Information of the lock that is held.
    pub fn lock(&self, name: &str) -> Option<serde_json::Value> {
        lock(&self.shared.slots).get(name)?.lock.clone()
    }

    /// Makes somebody hold the lock (an object with at least `ID`), or nobody.
    pub fn set_lock(&self, name: &str, holder: Option<serde_json::Value>) {
        lock(&self.shared.slots).entry(name.to_owned()).or_default().lock = holder;
    }

    /// Whether writes of states are answered 507 from now on. Locks go on working.
    pub fn fail_writes(&self, fail: bool) {
        self.shared.fail_writes.store(fail, Ordering::SeqCst);
    }

    /// How many writes of this state were accepted.
    pub fn writes(&self, name: &str) -> usize {
        lock(&self.shared.slots).get(name).map_or(0, |slot| slot.writes)
    }
}

impl Drop for StateServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // The accepting thread looks at the flag when somebody comes.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            let _ = accepting.join();
        }
        for (stream, thread) in std::mem::take(&mut *lock(&self.shared.connections)) {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

/// What is behind it stays whole even when a holder panicked: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Ok(ours) = stream.try_clone() else { continue };
        let serving = std::thread::Builder::new().name("state-server-connection".into()).spawn({
            let shared = shared.clone();
            move || {
                // A client that goes away in the middle is its own affair.
                let _ = serve(&stream, &shared);
                // The list of connections holds it open otherwise.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        let mut connections = lock(&shared.connections);
        connections.retain(|(_, thread)| !thread.is_finished());
        connections.extend(serving.ok().map(|thread| (ours, thread)));
    }
}

struct Request {
    method: String,
    /// Without its query, without slashes at its ends.
    name: String,
    query: String,
    /// Names in lower case.
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    body: Vec<u8>,
}

/// Serves one connection until either side closes it.
fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let response = match request {
            Ok(request) => answer(&request, shared),
            Err(status) => Response { status, body: Vec::new() },
        };
        let mut head = format!("HTTP/1.1 {}\r\nContent-Length: {}\r\n", response.status, response.body.len());
        if response.status.starts_with("401") {
            head.push_str("WWW-Authenticate: Basic realm=\"states\"\r\n");
        }
        head.push_str("\r\n");
        let mut writer = stream;
        writer.write_all(head.as_bytes())?;
        writer.write_all(&response.body)?;
        if response.status.starts_with("400") {
            // Where the next request begins is not known.
            return Ok(());
        }
    }
    Ok(())
}

/// The next request of a connection, `None` at its end, a status for one that is not understood.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Result<Request, &'static str>>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(Some(Err("400 Bad Request")));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers.get("content-length").map(|text| text.parse::<usize>());
    let body = match (headers.get("transfer-encoding"), length) {
        (Some(_), _) => read_chunks(reader)?,
        (None, None) => Some(Vec::new()),
        (None, Some(Ok(length))) => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            Some(body)
        }
        (None, Some(Err(_))) => None,
    };
    let Some(body) = body else { return Ok(Some(Err("400 Bad Request"))) };
    Ok(Some(Ok(Request {
        method: method.to_owned(),
        name: path.trim_matches('/').to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })))
}

/// A chunked body (RFC 9112, section 7.1), which terraform sends when it unlocks by force; `None` when it is not one.
fn read_chunks(reader: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else { return Ok(None) };
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        let mut end = String::new();
        reader.read_line(&mut end)?;
        if size == 0 {
            return Ok(Some(body));
        }
    }
}

fn answer(request: &Request, shared: &Shared) -> Response {
    let plain = |status| Response { status, body: Vec::new() };
    if shared.authorization.is_some() && shared.authorization.as_ref() != request.headers.get("authorization") {
        return plain("401 Unauthorized");
    }
    let mut slots = lock(&shared.slots);
    let slot = slots.entry(request.name.clone()).or_default();
    let held = |holder: &serde_json::Value| Response { status: "423 Locked", body: holder.to_string().into_bytes() };
    let id = |lock: &serde_json::Value| lock.get("ID").and_then(serde_json::Value::as_str).map(str::to_owned);
    match request.method.as_str() {
        "GET" => match &slot.state {
            Some(state) => Response { status: "200 OK", body: state.clone() },
            None => plain("404 Not Found"),
        },
        "POST" | "DELETE" => {
            let given = request.query.split('&').find_map(|part| part.strip_prefix("ID="));
            match &slot.lock {
                Some(holder) if id(holder).as_deref() != given => return held(holder),
                _ if shared.fail_writes.load(Ordering::SeqCst) => return plain("507 Insufficient Storage"),
                _ => {}
            }
            if request.method == "DELETE" {
                slot.state = None;
            } else {
                slot.state = Some(request.body.clone());
                slot.writes += 1;
            }
            plain("200 OK")
        }
        "LOCK" => match (&slot.lock, serde_json::from_slice::<serde_json::Value>(&request.body)) {
            (Some(holder), _) => held(holder),
            (None, Ok(asker)) if id(&asker).is_some() => {
                slot.lock = Some(asker);
                plain("200 OK")
            }
            (None, _) => plain("422 Unprocessable Content"),
        },
        // Terraform's `force-unlock` sends no body.
        "UNLOCK" if request.body.is_empty() => {
            slot.lock = None;
            plain("200 OK")
        }
        "UNLOCK" => match (&slot.lock, serde_json::from_slice::<serde_json::Value>(&request.body)) {
            (_, Err(_)) => plain("422 Unprocessable Content"),
            (Some(holder), Ok(asker)) if id(holder) != id(&asker) => held(holder),
            (_, Ok(_)) => {
                slot.lock = None;
                plain("200 OK")
            }
        },
        _ => plain("405 Method Not Allowed"),
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0u32, |number, i| number << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let index = (number >> (18 - 6 * place)) as usize & 63;
            out.push(if place <= group.len() { ALPHABET[index] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Answer, CliEnv, terraform};
    use std::io::Read;
    use std::time::{Duration, Instant};

    /// Asks over a connection of its own; gives the status and the body.
    fn ask(server: &StateServer, method: &str, target: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let length = body.len();
        write!(stream, "{method} /{target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn environment(server: &StateServer, resources: &str) -> CliEnv {
        let mut env = CliEnv::new(terraform().unwrap()).unwrap();
        env.set("CHECKPOINT_DISABLE", "1");
        env.set("TF_IN_AUTOMATION", "1");
        env.write("main.tf", &format!("terraform {{\n{}}}\n{resources}", server.backend("aws/network"))).unwrap();
        env
    }

    fn run(env: &CliEnv, arguments: &[&str]) -> Answer {
        env.run(arguments).unwrap()
    }

    fn succeeds(env: &CliEnv, arguments: &[&str]) {
        let answer = run(env, arguments);
        assert_eq!(answer.code, Some(0), "{arguments:?}: {}{}", answer.stdout, answer.stderr);
    }

    fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_protocol() {
        let server = StateServer::start().unwrap();
        let check = |method: &str, target: &str, body: &str, status: u16, answer: &str| {
            assert_eq!(ask(&server, method, target, "", body), (status, answer.to_owned()), "{method} {target} {body}");
        };
        let (mine, other) = (r#"{"ID":"1","Who":"me"}"#, r#"{"ID":"2","Who":"you"}"#);
        check("GET", "a", "", 404, "");
        check("POST", "a", "x", 200, "");
        check("GET", "a", "", 200, "x");
        check("GET", "a/b", "", 404, "");
        check("LOCK", "a", "no json", 422, "");
        check("LOCK", "a", mine, 200, "");
        check("LOCK", "a", other, 423, mine);
        check("LOCK", "a/b", other, 200, "");
        check("POST", "a?ID=1", "y", 200, "");
        check("POST", "a?ID=2", "z", 423, mine);
        check("POST", "a", "z", 423, mine);
        check("GET", "a", "", 200, "y");
        check("UNLOCK", "a", other, 423, mine);
        check("UNLOCK", "a", mine, 200, "");
        check("UNLOCK", "a", mine, 200, "");
        check("DELETE", "a", "", 200, "");
        check("GET", "a", "", 404, "");
        check("PUT", "a", "", 405, "");
        assert_eq!((server.writes("a"), server.writes("a/b")), (2, 0));
        let chunks = "Transfer-Encoding: chunked\r\n";
        assert_eq!(ask(&server, "POST", "c", chunks, "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").0, 200);
        assert_eq!(server.state("c"), Some(b"abcde".to_vec()));
        assert_eq!(ask(&server, "POST", "c", chunks, "no size\r\n").0, 400);
        server.set_lock("a", Some(serde_json::json!({ "ID": "3" })));
        check("POST", "a", "z", 423, r#"{"ID":"3"}"#);
        server.set_lock("a", None);
        server.fail_writes(true);
        check("POST", "a", "z", 507, "");
        check("LOCK", "a", mine, 200, "");
        assert_eq!(server.state("a"), None);
    }

    #[test]
    fn a_password_is_asked_for() {
        let server = StateServer::start_with_password("terraform", "swordfish").unwrap();
        assert_eq!(ask(&server, "GET", "a", "", "").0, 401);
        let wrong = format!("Authorization: Basic {}\r\n", base64(b"terraform:sword"));
        assert_eq!(ask(&server, "POST", "a", &wrong, "x").0, 401);
        assert_eq!(server.state("a"), None);
        // The text as coreutils' base64 gives it.
        let right = "Authorization: Basic dGVycmFmb3JtOnN3b3JkZmlzaA==\r\n";
        assert_eq!(ask(&server, "POST", "a", right, "x").0, 200);
        assert_eq!(server.state("a"), Some(b"x".to_vec()));
    }

    #[test]
    fn a_dropped_server_is_gone_also_for_open_connections() {
        let server = StateServer::start().unwrap();
        let address = server.address;
        let mut open = TcpStream::connect(address).unwrap();
        write!(open, "GET /a HTTP/1.1\r\n\r\n").unwrap();
        let mut first = [0; 12];
        open.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 404");
        drop(server);
        let mut rest = Vec::new();
        // The end, or a reset: never a wait.
        let _ = open.read_to_end(&mut rest);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn terraform_keeps_its_state_here() {
        let server = StateServer::start().unwrap();
        let env = environment(&server, "resource \"terraform_data\" \"a\" {\n  input = \"apple\"\n}\n");
        succeeds(&env, &["init", "-input=false", "-no-color"]);
        assert_eq!(server.state("aws/network"), None);
        succeeds(&env, &["apply", "-auto-approve", "-input=false", "-no-color"]);
        let state: serde_json::Value = serde_json::from_slice(&server.state("aws/network").unwrap()).unwrap();
        assert_eq!(state["resources"][0]["instances"][0]["attributes"]["output"]["value"], "apple");
        assert!(server.writes("aws/network") >= 1);
        assert_eq!(server.lock("aws/network"), None);

        // Somebody else holds the lock.
        let holder = serde_json::json!({ "ID": "0b1c", "Operation": "OperationTypeApply", "Who": "anna@desk" });
        server.set_lock("aws/network", Some(holder.clone()));
        let refused = run(&env, &["plan", "-input=false", "-no-color"]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("Error acquiring the state lock"), "{}", refused.stderr);
        assert_eq!(server.lock("aws/network"), Some(holder));
        succeeds(&env, &["force-unlock", "-force", "0b1c"]);
        assert_eq!(server.lock("aws/network"), None);
        succeeds(&env, &["plan", "-input=false", "-no-color"]);
    }

    #[test]
    fn a_killed_terraform_leaves_its_lock() {
        let server = StateServer::start().unwrap();
        let wait = "provisioner \"local-exec\" {\n    command = \"until [ -e go ]; do sleep 0.05; done\"\n  }";
        let env = environment(&server, &format!("resource \"terraform_data\" \"a\" {{\n  {wait}\n}}\n"));
        succeeds(&env, &["init", "-input=false", "-no-color"]);
        let mut apply = env.command(&["apply", "-auto-approve", "-input=false"]);
        let mut apply = apply.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        wait_for("the lock is taken", || server.lock("aws/network").is_some());
        let holder = server.lock("aws/network").unwrap();
        assert_eq!(holder["Operation"], "OperationTypeApply");
        apply.kill().unwrap();
        apply.wait().unwrap();
        // The command that it had started ends by itself now.
        env.write("go", "").unwrap();
        assert_eq!(server.lock("aws/network"), Some(holder.clone()));
        assert_eq!(run(&env, &["plan", "-input=false", "-no-color"]).code, Some(1));
        succeeds(&env, &["force-unlock", "-force", holder["ID"].as_str().unwrap()]);
        succeeds(&env, &["apply", "-auto-approve", "-input=false", "-no-color"]);
        assert!(server.state("aws/network").is_some());
    }

    #[test]
    fn a_state_that_cannot_be_written_is_kept_by_terraform() {
        let server = StateServer::start().unwrap();
        let env = environment(&server, "resource \"terraform_data\" \"a\" {}\n");
        succeeds(&env, &["init", "-input=false", "-no-color"]);
        server.fail_writes(true);
        let failed = run(&env, &["apply", "-auto-approve", "-input=false", "-no-color"]);
        assert_eq!(failed.code, Some(1));
        assert_eq!((server.writes("aws/network"), server.state("aws/network")), (0, None));
        assert!(env.root().join("errored.tfstate").exists(), "{}", failed.stderr);
        server.fail_writes(false);
        succeeds(&env, &["state", "push", "errored.tfstate"]);
        assert_eq!(server.writes("aws/network"), 1);
    }
}
