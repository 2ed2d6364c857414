//! The API of the real program: its description, who may use it, and its stories over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_app::installation::{self, Installation};
use windlass_app::sessions;
use windlass_app::tokens::Record;
use windlass_connect::workload::Issuers;
use windlass_model::access::{Permission, Role, TokenScope};
use windlass_model::approval::Actor;
use windlass_policy::limits::Worker;
use windlass_server::api::openapi;
use windlass_server::{App, Endpoint, Guard};
use windlass_testkit::cli::CliEnv;

const TEAMS: &str = r#"
team "viewers"    { members = ["email:viewer@example.com"] }
team "developers" { members = ["email:developer@example.com"] }
team "operators"  { members = ["email:operator@example.com"] }
team "admins"     { members = ["email:admin@example.com"] }
grant "viewers"    {
  to   = [team.viewers]
  role = "viewer"
}
grant "developers" {
  to   = [team.developers]
  role = "developer"
}
grant "operators"  {
  to   = [team.operators]
  role = "operator"
}
grant "admins"     {
  to   = [team.admins]
  role = "admin"
}
"#;

/// The program as a service of one repository, called `repo`, with a token for each kind of person.
struct Server {
    env: CliEnv,
    child: Child,
    url: String,
    tokens: BTreeMap<String, String>,
    agent: ureq::Agent,
}

/// What was answered.
struct Answered {
    status: u16,
    kind: String,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answered {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

fn worker() -> Worker {
    Worker { program: env!("CARGO_BIN_EXE_windlass").into(), arguments: Vec::new(), environment: Vec::new() }
}

fn data(env: &CliEnv) -> PathBuf {
    env.home().join("server")
}

/// Tokens of all kinds of people, made before the server starts.
async fn tokens(data: &Path) -> BTreeMap<String, String> {
    let common = installation::common(None, data, worker()).await.unwrap();
    let store = common.store;
    let person = |name: &str| Actor {
        name: name.to_owned(),
        identities: vec![format!("email:{name}@example.com")],
        verified: true,
    };
    let local = Actor { verified: true, ..windlass_app::actor::local(None) };
    let everything = TokenScope::default();
    let other_permission = TokenScope { permissions: Some([Permission::MetricsRead].into()), projects: None };
    let other_project = TokenScope { permissions: None, projects: Some(["elsewhere".to_owned()].into()) };
    let mut people =
        vec![("server's admin", local.clone(), everything.clone()), ("signed in", person("stranger"), everything)];
    people.extend(Role::ALL.map(|role| (role.as_str(), person(role.as_str()), TokenScope::default())));
    people.push(("another permission", person("admin"), other_permission));
    people.push(("another project", local, other_project));
    let end = store.now().await.unwrap() + 3_600_000_000;
    let mut made = BTreeMap::new();
    for (name, actor, scope) in people {
        let secret = format!("wlt_{}", sessions::secret().unwrap());
        let text = serde_json::to_string(&Record { actor: actor.clone(), scope }).unwrap();
        store.token_create(&sessions::digest(&secret), name, &actor.to_string(), &text, end).await.unwrap();
        made.insert(name.to_owned(), secret);
    }
    store.close().await;
    made
}

impl Server {
    fn start(stacks: &[(&str, String)], definitions: &str) -> Self {
        let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        env.git_init().unwrap();
        for (path, content) in stacks {
            let state = env.home().join("states").join(path.replace('/', "-"));
            env.write(path, &content.replace("STATE", &format!("{}.tfstate", state.display()))).unwrap();
        }
        env.write("windlass.hcl", &format!("project \"company\" {{\n}}\n{TEAMS}{definitions}")).unwrap();
        env.commit("Stacks").unwrap();
        let data = data(&env);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let tokens = runtime.block_on(tokens(&data));
        let data = data.display().to_string();
        let mut child = env
            .command(&["serve", "--listen", "127.0.0.1:0", "--data", &data])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned)).unwrap();
        // Nobody else reads it.
        std::thread::spawn(move || lines.for_each(drop));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let server = Self { env, child, url, tokens, agent };
        server.wait("admin", "/api/v1/projects/repo", |project| !project["commit"].is_null());
        server
    }

    fn send(&self, who: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answered {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(token) = self.tokens.get(who) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match body {
            Some(body) => {
                self.agent.run(request.header("content-type", "application/json").body(body.to_owned()).unwrap())
            }
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut answer = answer.unwrap();
        let headers = answer.headers().clone();
        let kind = headers.get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        // Streams have no end.
        let text =
            if kind == "text/event-stream" { String::new() } else { answer.body_mut().read_to_string().unwrap() };
        Answered { status: answer.status().as_u16(), kind, headers, text }
    }

    #[track_caller]
    fn get(&self, who: &str, path: &str) -> serde_json::Value {
        let answered = self.send(who, "GET", path, &[], None);
        assert_eq!(answered.status, 200, "{path}: {}", answered.text);
        answered.json()
    }

    #[track_caller]
    fn post(&self, who: &str, path: &str, body: serde_json::Value) -> serde_json::Value {
        let answered = self.send(who, "POST", path, &[], Some(&body.to_string()));
        assert!((200..300).contains(&answered.status), "{path}: {} {}", answered.status, answered.text);
        if answered.text.is_empty() { serde_json::Value::Null } else { answered.json() }
    }

    /// Waits until what is there is as wanted, for at most a minute.
    #[track_caller]
    fn wait(&self, who: &str, path: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answered = self.send(who, "GET", path, &[], None);
            let value: serde_json::Value = serde_json::from_str(&answered.text).unwrap_or_default();
            if answered.status == 200 && wanted(&value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{path} did not come to it: {}", answered.text);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the end of a run and gives its state.
    #[track_caller]
    fn ended(&self, run: &str) -> String {
        let value = self.wait("viewer", &format!("/api/v1/runs/{run}"), |value| !value["run"]["ended_at"].is_null());
        value["run"]["state"].as_str().unwrap().to_owned()
    }

    /// The lines of a stream.
    fn stream(&self, who: &str, path: &str, last: Option<&str>) -> Events {
        let mut request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.tokens[who]));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.call().unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Events(BufReader::new(Box::new(answer.into_body().into_reader())))
    }

    fn terminate(&self) {
        let kill = std::process::Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Server-sent events as they come.
struct Events(BufReader<Box<dyn Read>>);

#[derive(Debug, Default, PartialEq)]
struct Sent {
    event: String,
    id: String,
    data: String,
}

impl Iterator for Events {
    type Item = Sent;

    fn next(&mut self) -> Option<Sent> {
        let mut sent = Sent::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(':') {
                None if sent.data.is_empty() => sent = Sent::default(),
                None => return Some(sent),
                Some(("event", value)) => sent.event = value.trim_start().to_owned(),
                Some(("id", value)) => sent.id = value.trim_start().to_owned(),
                Some(("data", value)) => sent.data.push_str(value.strip_prefix(' ').unwrap_or(value)),
                Some(_) => {}
            }
        }
    }
}

/// The endpoints of the program, without one that runs.
async fn table() -> Vec<Endpoint> {
    let directory = tempfile::tempdir().unwrap();
    let common = installation::common(None, directory.path(), worker()).await.unwrap();
    let store = common.store.clone();
    let data = directory.path().to_owned();
    let opened = tokio::task::spawn_blocking(move || Installation::open(&data, common, &[], Vec::new()));
    let app = App {
        installation: Arc::new(opened.await.unwrap().unwrap()),
        providers: Vec::new(),
        issuers: Arc::new(Issuers::new(Vec::new()).unwrap()),
        url: "http://127.0.0.1".into(),
        webhook_secrets: Vec::new(),
    };
    let table = windlass_server::routes(&Arc::new(app)).table().to_vec();
    store.close().await;
    table
}

/// Compares a file that is made from code with what it has to be; with `WINDLASS_RENEW=1` it is written.
#[track_caller]
fn same(file: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    if std::env::var_os("WINDLASS_RENEW").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{file} is not what the endpoints say. Renew it, and look at the difference:\n    WINDLASS_RENEW=1 cargo test -p windlass --test api"
    );
}

const MATRIX: &str = "# Who may use which endpoint

Made from the endpoints of the program; a test compares it. The columns are roles in the project that a request is about, as
[access](access.md) explains them: who is signed in has those of the default role at least. \"Server's admins\" are those whom the
settings of the server name. What a grant or a policy gives beyond roles, and what a token takes away, is not in here.

";

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_that_of_the_endpoints() {
    let table = table().await;
    let document = openapi::document(&table).unwrap_or_else(|wrong| panic!("{}", wrong.join("\n")));
    same("crates/windlass-server/openapi.json", &(serde_json::to_string_pretty(&document).unwrap() + "\n"));
    same("docs/api-access.md", &format!("{MATRIX}{}", openapi::matrix(&table)));
}
