//! A service on PostgreSQL whose servers come and go, and a client that does not give up.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use windlass_app::audit::Archive;
use windlass_app::sessions;
use windlass_app::tokens::Record;
use windlass_model::access::TokenScope;
use windlass_model::approval::Actor;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::git::Git;

/// How long anything may take on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until `until` answers.
#[track_caller]
pub fn patiently<T>(what: &str, mut until: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = until() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that says what it does, and is ended with its test.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<Vec<String>>>::default();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    said.lock().unwrap().push(line);
                }
            });
        }
        Self { child, said }
    }

    /// What follows `before` in the first line that has it.
    pub fn said(&self, before: &str) -> Option<String> {
        let said = self.said.lock().unwrap();
        said.iter().find_map(|line| line.split_once(before).map(|(_, rest)| rest.to_owned()))
    }

    /// Where a server listens, once it does.
    pub fn port(&self) -> Option<u16> {
        let rest = self.said("\"address\":\"127.0.0.1:")?;
        rest.split('"').next()?.parse().ok()
    }

    pub fn all(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    pub fn signal(&self, signal: &str) {
        // One that has ended meanwhile hears nothing.
        let _ = Command::new("kill").args([signal, &self.child.id().to_string()]).stderr(Stdio::null()).status();
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn code(&mut self) -> Option<i32> {
        patiently("its end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that was stopped is killed as well.
        self.kill();
    }
}

/// Starts a program again whenever it has ended, as those do that servers run under.
#[derive(Default)]
pub struct Keeper {
    program: Mutex<Option<Program>>,
}

impl Keeper {
    /// Until `ended`; `at` is told the port where it listens, and `None` when it is gone.
    pub fn keep(&self, ended: &AtomicBool, start: impl Fn() -> Program, at: impl Fn(Option<u16>)) {
        while !ended.load(Ordering::SeqCst) {
            *self.program.lock().unwrap() = Some(start());
            let mut known = None;
            while !ended.load(Ordering::SeqCst) {
                let (has_ended, port) = {
                    let mut program = self.program.lock().unwrap();
                    let program = program.as_mut().unwrap();
                    (program.child.try_wait().unwrap().is_some(), program.port())
                };
                if has_ended {
                    break;
                }
                if known != port {
                    known = port;
                    at(port);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            at(None);
        }
        *self.program.lock().unwrap() = None;
    }

    /// SIGKILL; it is started again.
    pub fn kill(&self) {
        self.program.lock().unwrap().iter_mut().for_each(Program::kill);
    }

    pub fn signal(&self, signal: &str) {
        self.program.lock().unwrap().iter().for_each(|program| program.signal(signal));
    }

    pub fn port(&self) -> Option<u16> {
        self.program.lock().unwrap().as_ref()?.port()
    }

    /// What follows `before` in the first line that has it.
    pub fn says(&self, before: &str) -> String {
        patiently(before, || self.program.lock().unwrap().as_ref()?.said(before))
    }
}

/// What all servers and workers have in common.
pub struct Service {
    pub env: CliEnv,
    /// Somebody who may do everything.
    pub token: String,
    data: PathBuf,
    config: String,
}

impl Service {
    /// A repository with a branch `change-N` for each stack `sN`, whose one resource takes a while and notes when it is made.
    /// `definitions` go into the project; there is a team `admins`.
    pub fn new(database: &str, stacks: usize, definitions: &str) -> Self {
        let mut env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        // What died is taken over soon.
        env.set("WINDLASS_LEASE", "3");
        env.set("WINDLASS_SEAL_SECONDS", "2");
        let git = env.git_init().unwrap();
        let team = "team \"admins\" { members = [\"email:admin@example.com\"] }\n";
        env.write("windlass.hcl", &format!("project \"company\" {{\n{definitions}}}\n{team}")).unwrap();
        env.write("README.md", "Stacks\n").unwrap();
        env.commit("Definitions").unwrap();
        for stack in 0..stacks {
            branch(&env, &git, stack);
        }
        let (data, config) = (env.home().join("server"), env.home().join("windlass.toml"));
        let text = format!(
            "admins = [\"email:admin@example.com\"]\n[[repository]]\nname = \"repo\"\nurl = \"{}\"\n",
            env.root().display()
        );
        std::fs::write(&config, text).unwrap();
        let mut service = Self { env, token: String::new(), data, config: config.display().to_string() };
        service.token = service.make_token(database);
        service
    }

    fn make_token(&self, database: &str) -> String {
        let email = "email:admin@example.com".to_owned();
        let actor = Actor { name: "admin".into(), identities: vec![email], verified: true };
        let secret = format!("wlt_{}", sessions::secret().unwrap());
        let text = serde_json::to_string(&Record { actor: actor.clone(), scope: TokenScope::default() }).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Archive::open(Some(database), &self.data).await.unwrap().store;
            let end = store.now().await.unwrap() + 24 * 3_600_000_000;
            store.token_create(&sessions::digest(&secret), "test", &actor.to_string(), &text, end).await.unwrap();
            store.close().await;
        });
        secret
    }

    fn command(&self, program: &str, database: &str, more: &[&str]) -> Command {
        let data = self.data.display().to_string();
        let shared = [program, "--config", &self.config, "--data", &data, "--database", database];
        self.env.command(&[&shared, more].concat())
    }

    /// A server that people reach at `url`.
    pub fn serve(&self, database: &str, url: &str, more: &[&str]) -> Program {
        let own = ["--listen", "127.0.0.1:0", "--url", url, "--log-format", "json"];
        Program::start(self.command("serve", database, &[&own, more].concat()))
    }

    pub fn work(&self, database: &str, label: &str) -> Program {
        Program::start(self.command("worker", database, &["--label", label, "--log-format", "json"]))
    }

    /// What was made, in the order of its making.
    pub fn made(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.env.home().join("made.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The state of a stack holds its one resource, as it was written by one apply.
    pub fn check_state(&self, stack: usize) {
        let text = std::fs::read_to_string(self.env.home().join(format!("states/s{stack}.tfstate"))).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["resources"].as_array().unwrap().len(), 1, "s{stack}: {state}");
        assert_eq!(state["resources"][0]["instances"][0]["status"], serde_json::Value::Null, "s{stack} is tainted");
    }

    /// The sealed record is whole.
    pub fn audit(&self, database: &str) {
        let data = self.data.display().to_string();
        let arguments = ["audit", "verify", "--json", "--database", database, "--data", &data];
        patiently("a whole record", || {
            let answer = self.env.run(&arguments).unwrap();
            let value: serde_json::Value =
                serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{}{}", answer.stdout, answer.stderr));
            // A database that was broken last may not be back.
            if value["error"]["kind"] == "unavailable" {
                return None;
            }
            assert_eq!(value["intact"], true, "{value}");
            value["unsealed"].is_null().then_some(())
        });
    }
}

fn branch(env: &CliEnv, git: &Git, stack: usize) {
    let name = format!("s{stack}");
    git.run(&["checkout", "--quiet", "-b", &format!("change-{stack}"), "main"]).unwrap();
    let (state, log) = (env.home().join(format!("states/{name}.tfstate")), env.home().join("made.log"));
    let text = format!(
        "terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\nresource \"terraform_data\" \"one\" {{\n  provisioner \"local-exec\" {{\n    command = \"echo begin; sleep 0.4; echo {name} >> {}; echo end\"\n  }}\n}}\n",
        state.display(),
        log.display()
    );
    env.write(&format!("{name}/main.tf"), &text).unwrap();
    env.commit(&format!("Stack {name}")).unwrap();
    git.run(&["checkout", "--quiet", "main"]).unwrap();
}

/// Somebody who asks again until there is an answer.
#[derive(Clone)]
pub struct Client {
    url: String,
    /// Who it is.
    headers: Vec<(&'static str, String)>,
    agent: ureq::Agent,
}

impl Client {
    pub fn new(url: &str, token: &str) -> Self {
        Self::with(url, vec![("authorization", format!("Bearer {token}"))])
    }

    /// A browser that was signed in by a link: with the token that its pages send along.
    pub fn signed_in(url: &str, link: &str) -> Self {
        let browser = Self::with(url, Vec::new());
        let path = link.split_once("/sign-in/").map(|(_, rest)| format!("{url}/sign-in/{rest}")).unwrap();
        let cookie = patiently("a session", || {
            let request = ureq::http::Request::builder().method("POST").uri(&path);
            let answer = browser.agent.run(request.body(()).unwrap()).ok()?;
            let cookie = answer.headers().get("set-cookie")?.to_str().unwrap();
            Some(cookie.split(';').next().unwrap().to_owned())
        });
        let mut browser = Self::with(url, vec![("cookie", cookie.clone())]);
        let page = browser.get("/").as_str().unwrap().to_owned();
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        browser.headers.push(("x-csrf-token", csrf.to_owned()));
        browser
    }

    fn with(url: &str, headers: Vec<(&'static str, String)>) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        // A server that was stopped answers nobody, and every request may go to another one.
        let config = config.timeout_global(Some(Duration::from_secs(8))).max_idle_connections(0).max_redirects(0);
        Self { url: url.to_owned(), headers, agent: config.build().new_agent() }
    }

    /// Status and body of one try.
    pub fn once(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&serde_json::Value>,
    ) -> Option<(u16, serde_json::Value)> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let mut answer = match body {
            Some(body) => {
                self.agent.run(request.header("content-type", "application/json").body(body.to_string()).unwrap())
            }
            None => self.agent.run(request.body(()).unwrap()),
        }
        .ok()?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(text.into())))
    }

    /// Asks until somebody answers who is well, and not that it is under way.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, key: Option<&str>, body: Option<&serde_json::Value>) -> serde_json::Value {
        let mut told = String::new();
        patiently(path, || {
            let (status, answer) = self.once(method, path, key, body)?;
            let trouble = format!("{method} {path}: {status} {answer}");
            let busy = status == 409 && answer["code"] == "WL872";
            // A server that has just started has not loaded the repository yet: WL841, WL842.
            let early = ["WL841", "WL842", "WL849"].iter().any(|code| answer["code"] == *code);
            if matches!(status, 429 | 503) || busy || early {
                if told != trouble {
                    eprintln!("{trouble}");
                    told = trouble;
                }
                return None;
            }
            assert!((200..300).contains(&status), "{trouble}");
            Some(answer)
        })
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> serde_json::Value {
        self.ask("GET", path, None, None)
    }

    #[track_caller]
    pub fn post(&self, path: &str, key: &str, body: serde_json::Value) -> serde_json::Value {
        self.ask("POST", path, Some(key), Some(&body))
    }

    /// All items of a list.
    pub fn list(&self, path: &str) -> Vec<serde_json::Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}{cursor}"));
            items.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
    }

    /// Waits for the end of a run, which succeeded.
    #[track_caller]
    pub fn succeeds(&self, run: &str) {
        let ended = patiently(run, || {
            let value = self.get(&format!("/api/v1/runs/{run}"));
            let waits = value["run"]["state"] == "waiting";
            (waits || !value["run"]["ended_at"].is_null()).then_some(value)
        });
        assert_eq!(ended["run"]["state"], "succeeded", "{ended:#}");
    }

    /// Has the change of a stack reviewed, approved and applied. The ids of the two runs.
    pub fn change(&self, stack: usize) -> [String; 2] {
        self.change_and(stack, || {}, |_| {})
    }

    /// As [`Client::change`]; `acknowledged` is told of each answer, and `begun` of the apply run.
    pub fn change_and(&self, stack: usize, acknowledged: impl Fn(), begun: impl FnOnce(&str)) -> [String; 2] {
        let key = |what: &str| format!("{what}-{stack}");
        let body = serde_json::json!({ "branch": format!("change-{stack}") });
        let asked = self.post("/api/v1/projects/repo/reviews", &key("review"), body);
        let review = asked["run"].as_str().unwrap().to_owned();
        acknowledged();
        self.succeeds(&review);
        let path = format!("/api/v1/reviews/{review}");
        let seen = serde_json::json!({ "effect": self.get(&path)["review"]["effect_digest"] });
        self.post(&format!("{path}/approve"), &key("approve"), seen.clone());
        acknowledged();
        let asked = self.post(&format!("{path}/apply"), &key("apply"), seen);
        let apply = asked["run"].as_str().unwrap().to_owned();
        acknowledged();
        begun(&apply);
        self.succeeds(&apply);
        assert_eq!(self.get(&path)["state"], "applied");
        [review, apply]
    }

    /// Follows a stream of server-sent events through broken connections until `stop`.
    pub fn follow(&self, path: &str, stop: &AtomicBool, mut took: impl FnMut(Sent)) {
        let mut last = None::<String>;
        while !stop.load(Ordering::SeqCst) {
            // A server that cannot be reached is another one the next time.
            let _ = self.follow_once(path, stop, &mut last, &mut took);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn follow_once(
        &self,
        path: &str,
        stop: &AtomicBool,
        last: &mut Option<String>,
        took: &mut impl FnMut(Sent),
    ) -> std::io::Result<()> {
        let mut connection = TcpStream::connect(self.url.trim_start_matches("http://"))?;
        // One that has nothing to say for so long may have been stopped.
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        // As 1.0 the answer comes as it is, and not in pieces with lengths.
        let id = last.as_ref().map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let who: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        write!(connection, "GET {path} HTTP/1.0\r\nhost: windlass\r\n{who}{id}\r\n")?;
        let mut lines = BufReader::new(connection).lines();
        if !lines.next().transpose()?.is_some_and(|line| line.contains(" 200 ")) {
            return Ok(());
        }
        let mut sent = Sent::default();
        for line in lines.by_ref().skip_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).skip(1) {
            let line = line?;
            match line.split_once(':') {
                Some(("event", value)) => sent.event = value.trim_start().to_owned(),
                Some(("id", value)) => sent.id = value.trim_start().to_owned(),
                Some(("data", value)) => sent.data.push_str(value.trim_start()),
                None if line.is_empty() && !sent.data.is_empty() => {
                    if !sent.id.is_empty() {
                        *last = Some(sent.id.clone());
                    }
                    took(std::mem::take(&mut sent));
                }
                _ => {}
            }
            if stop.load(Ordering::SeqCst) {
                break;
            }
        }
        Ok(())
    }
}

/// One server-sent event.
#[derive(Debug, Default, Clone)]
pub struct Sent {
    pub event: String,
    pub id: String,
    pub data: String,
}

/// Sets it when it is dropped, also by a panic.
pub fn ends(ended: &AtomicBool) -> impl Drop + use<'_> {
    struct Ended<'a>(&'a AtomicBool);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    Ended(ended)
}

/// These runs and those of `others` are all there are. Each step of these succeeded once, and each was created and ended once, as the
/// events have it.
pub fn once_each(client: &Client, runs: &[String], others: &[&String]) {
    for run in runs {
        let events = client.list(&format!("/api/v1/events?run={run}&limit=500"));
        let mut seen = BTreeSet::new();
        for event in &events {
            let kind = event["kind"].as_str().unwrap();
            let ends = ["run.created", "run.succeeded", "step.succeeded", "review.applied"].contains(&kind);
            let what = format!("{kind} {}", event["step"]);
            assert!(!ends || seen.insert(what.clone()), "{run}: {what} twice in {events:#?}");
        }
        assert!(seen.iter().any(|what| what.starts_with("run.succeeded")), "{run}: {seen:?}");
    }
    let listed: BTreeSet<String> = client
        .list("/api/v1/projects/repo/runs?limit=100")
        .iter()
        .map(|run| run["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        listed,
        runs.iter().chain(others.iter().copied()).cloned().collect(),
        "a run that nobody asked for, or one that is gone"
    );
}
