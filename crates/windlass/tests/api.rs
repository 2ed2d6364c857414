//! The API of the real program: its description, who may use it, and its stories over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_app::configuration::Configuration;
use windlass_app::installation::{self, Installation};
use windlass_app::sessions;
use windlass_app::tokens::Record;
use windlass_connect::workload::Issuers;
use windlass_model::access::{Permission, Role, Scope, TokenScope};
use windlass_model::approval::Actor;
use windlass_policy::limits::Worker;
use windlass_server::api::openapi;
use windlass_server::{App, Endpoint, Guard, Limits, Trusted};
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
operation "greet" {
  allow = [team.operators]
  schedule "yearly" {
    cron    = "0 0 1 1 *"
    enabled = false
  }
  step "say" { run = ["echo", "hello"] }
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
    let common = installation::common(&Configuration::default(), data, worker()).await.unwrap();
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
        env.write("windlass.hcl", &format!("project \"company\" {{\n{definitions}}}\n{TEAMS}")).unwrap();
        env.commit("Stacks").unwrap();
        let data = data(&env);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let tokens = runtime.block_on(tokens(&data));
        let data = data.display().to_string();
        let mut child = env
            .command(&["serve", "--listen", "127.0.0.1:0", "--data", &data])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
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
        let mut answer = answer.unwrap_or_else(|error| panic!("{who}: {method} {path}: {error}"));
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
        let value = self.wait("developer", &format!("/api/v1/runs/{run}"), |value| !value["run"]["ended_at"].is_null());
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
    let common = installation::common(&Configuration::default(), directory.path(), worker()).await.unwrap();
    let store = common.store.clone();
    let data = directory.path().to_owned();
    let opened = tokio::task::spawn_blocking(move || Installation::open(&data, common, &[], Vec::new()));
    let installation = Arc::new(opened.await.unwrap().unwrap());
    let issuers = Arc::new(Issuers::new(Vec::new()).unwrap());
    let trusted = Trusted { providers: Vec::new(), issuers, webhook_secrets: Vec::new(), proxies: Vec::new() };
    let app = App::new(installation, "http://127.0.0.1".into(), Limits::default(), trusted);
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

/// A stack with one resource; `more` goes into it.
fn stack(more: &str) -> String {
    format!(
        "terraform {{\n  backend \"local\" {{\n    path = \"STATE\"\n  }}\n}}\nresource \"terraform_data\" \"one\" {{\n  input = 1\n{more}}}\n"
    )
}

/// Whether somebody has a permission, and whether they see the project.
fn has(who: &str, guard: Guard) -> (bool, bool) {
    let role = Role::parse(who);
    match guard {
        Guard::Public => (true, true),
        Guard::SignedIn => (who != "nobody", true),
        // A permission of projects gives nothing for the server: there they see nothing.
        Guard::Server(permission) => (who == "server's admin", permission.scope() == Scope::Server),
        Guard::Project(permission) | Guard::Within(permission) => {
            let admin = who == "server's admin";
            (admin || role.is_some_and(|role| role.has(permission)), admin || role.is_some())
        }
    }
}

#[test]
fn every_endpoint_lets_in_whom_the_table_says() {
    let server = Server::start(&[("net/main.tf", stack(""))], "");
    let run = server.post("developer", "/api/v1/projects/repo/reviews", serde_json::json!({ "all": true }));
    let run = run["run"].as_str().unwrap().to_owned();
    assert_eq!(server.ended(&run), "succeeded");
    let at = serde_json::json!({ "at": "2100-01-01T00:00:00Z" });
    let start = server.post("operator", "/api/v1/projects/repo/operations/greet/starts", at);
    let start = start["start"].as_str().unwrap().to_owned();
    let table = tokio::runtime::Runtime::new().unwrap().block_on(table());
    let people = [
        "nobody",
        "signed in",
        "another permission",
        "another project",
        "viewer",
        "developer",
        "operator",
        "admin",
        "server's admin",
    ];
    // Everybody has their own tokens, and makes them in person: there is nothing that a role decides.
    let is_meant = |path: &str| path.starts_with("/api/v1/") && !path.starts_with("/api/v1/tokens");
    let of_api: Vec<&Endpoint> = table.iter().filter(|endpoint| is_meant(endpoint.path)).collect();
    assert!(of_api.len() > 30);
    let mut wrong = Vec::new();
    for endpoint in of_api {
        let path = endpoint.path.replace("{project}", "repo").replace("{run}", &run).replace("{review}", &run);
        let path = path.replace("{other}", &run).replace("{step}", "plan%3Anet").replace("{*stack}", "net");
        let path = path.replace("{*artefact}", "plan:net/none").replace("{number}", "1");
        let path = path.replace("{name}", "greet").replace("{schedule}", "yearly").replace("{start}", &start);
        let path = match endpoint.path {
            "/api/v1/access/explain" => format!("{path}?permission=metrics.read"),
            "/api/v1/events" => format!("{path}?project=repo"),
            _ => path,
        };
        let body = match endpoint.path.rsplit('/').next().unwrap() {
            _ if endpoint.method != "POST" => None,
            "push" => Some(r#"{"instance":"net"}"#),
            "unlock" => Some(r#"{"instance":"net","lock":"none"}"#),
            "take-away" | "release" => Some(r#"{"instance":"net","reason":"test"}"#),
            "waivers" => Some(r#"{"finding":"abcd1234","reason":"test"}"#),
            "refuse" | "halt" => Some(r#"{"reason":"test"}"#),
            "exchange" => Some(r#"{"token":"none"}"#),
            "answer" => Some(r#"{"value":"approve"}"#),
            "reviews" => Some(r#"{"all":true}"#),
            "starts" => Some(r#"{"at":"2100-01-01T00:00:00Z"}"#),
            _ => Some("{}"),
        };
        for who in people {
            let answered = server.send(who, &endpoint.method, &path, &[], body);
            let code =
                serde_json::from_str::<serde_json::Value>(&answered.text).unwrap_or_default()["code"].to_string();
            let is_right = match has(who, endpoint.guard) {
                // What it is sent may be refused: that nobody is signed in is no reason.
                (true, _) if endpoint.guard == Guard::Public => answered.status < 500 && !code.contains("WL843"),
                (true, _) => !matches!(answered.status, 401 | 403 | 405 | 415 | 500..) && !code.contains("WL841"),
                _ if who == "nobody" => answered.status == 401,
                (false, true) => answered.status == 403 && code.contains("WL840"),
                (false, false) => answered.status == 404 && code.contains("WL841"),
            };
            let is_problem = answered.status < 400 || answered.kind == "application/problem+json";
            if !is_right || !is_problem {
                wrong.push(format!("{who}: {} {path}: {} {}", endpoint.method, answered.status, answered.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Whoever sees no project sees none in the lists either.
    for who in ["signed in", "another permission", "another project"] {
        for path in ["/api/v1/projects", "/api/v1/events"] {
            assert_eq!(server.get(who, path)["items"], serde_json::json!([]), "{who} {path}");
        }
    }
}

#[test]
fn a_change_is_reviewed_approved_and_applied_while_its_log_is_read() {
    // It goes on when its log has been read, or after a minute.
    let talk = "  provisioner \"local-exec\" {\n    command = \"for i in $(seq 1 80); do echo line-$i-é; [ $i -ne 40 ] || timeout 60 sh -c 'until [ -e STATE.go ]; do sleep 0.02; done'; done\"\n  }\n";
    let approvals = "environment \"all\" {\n  match = [\"**\"]\n  approvals {\n    count = 1\n    from  = [team.operators]\n  }\n}\n";
    let server = Server::start(&[("net/main.tf", stack(talk)), ("app/main.tf", stack(""))], approvals);
    let start = serde_json::json!({ "stacks": ["net"] });
    let review = server.post("developer", "/api/v1/projects/repo/reviews", start)["run"].as_str().unwrap().to_owned();
    assert_eq!(server.ended(&review), "succeeded");
    let address = format!("/api/v1/reviews/{review}");
    let document = server.get("viewer", &format!("{address}?format=json"));
    assert_eq!(document["headline"]["verdict"], "needs_approval");
    let shown = server.get("viewer", &address);
    assert_eq!((&shown["state"], shown["missing_approvals"].as_array().unwrap().len()), (&"open".into(), 1), "{shown}");
    let markdown = server.send("viewer", "GET", &format!("{address}?format=markdown"), &[], None);
    assert!(markdown.kind.starts_with("text/markdown") && markdown.text.contains("terraform_data.one"));

    // What was seen is what is approved, by somebody who may.
    let seen = serde_json::json!({ "effect": document["effect_digest"], "commit": document["head"]["commit"] });
    let refused = server.send("developer", "POST", &format!("{address}/approve"), &[], Some(&seen.to_string()));
    assert_eq!((refused.status, &refused.json()["code"]), (403, &"WL840".into()));
    let early = server.send("operator", "POST", &format!("{address}/apply"), &[], Some(&seen.to_string()));
    assert_eq!((early.status, &early.json()["code"]), (409, &"WL612".into()), "{}", early.text);
    let other = server.send("operator", "POST", &format!("{address}/approve"), &[], Some("{\"effect\":\"other\"}"));
    assert_eq!((other.status, &other.json()["code"]), (409, &"WL847".into()));
    let approved = server.post("operator", &format!("{address}/approve"), seen.clone());
    assert_eq!(approved["missing"], serde_json::json!([]));
    let apply = server.post("operator", &format!("{address}/apply"), seen)["run"].as_str().unwrap().to_owned();

    // The log is read while it is written, by somebody whose connection breaks.
    let run = format!("/api/v1/runs/{apply}");
    server.wait("viewer", &run, |run| {
        run["steps"].as_array().unwrap().iter().any(|step| step["id"] == "apply:net" && step["state"] == "running")
    });
    let log = format!("{run}/steps/apply%3Anet/log");
    let mut changes = server.stream("viewer", &format!("{address}/stream"), None);
    assert_eq!(changes.next().unwrap().event, "changed");
    let (mut text, mut next) = (String::new(), 0);
    let mut take = |sent: &Sent| {
        let chunk: serde_json::Value = serde_json::from_str(&sent.data).unwrap();
        assert_eq!(chunk["start"].as_u64().unwrap(), next, "no gap and nothing twice");
        next = chunk["next"].as_u64().unwrap();
        assert_eq!(sent.id, next.to_string());
        text.push_str(chunk["text"].as_str().unwrap());
        text.contains("line-20-")
    };
    let last = server.stream("viewer", &format!("{log}/stream?from=0"), None).find(|sent| take(sent)).unwrap().id;
    assert_eq!(server.get("viewer", &run)["run"]["ended_at"], serde_json::Value::Null, "the break is in the middle");
    std::fs::write(server.env.home().join("states/net.tfstate.go"), "").unwrap();
    let mut ended = false;
    for sent in server.stream("viewer", &format!("{log}/stream?from=0"), Some(&last)) {
        ended = sent.event == "end";
        if ended {
            break;
        }
        take(&sent);
    }
    assert!(ended, "the stream says that there is no more");
    assert_eq!(server.ended(&apply), "succeeded");
    assert!(changes.next().is_some_and(|sent| sent.event == "changed"), "the review's page is told of its apply");
    let whole = server.send("viewer", "GET", &log, &[], None);
    assert!(whole.kind.starts_with("text/plain") && whole.text == text, "{}\n---\n{text}", whole.text);
    assert!(whole.headers["content-disposition"].to_str().unwrap().contains("attachment"));
    for line in 1..=80 {
        assert_eq!(text.matches(&format!("line-{line}-é")).count(), 1, "line {line} of\n{text}");
    }
    // In parts, cut wherever.
    let (mut parts, mut at) = (String::new(), 0);
    loop {
        let part = server.get("viewer", &format!("{log}?from={at}&limit=1001"));
        let chunks = part["chunks"].as_array().unwrap();
        let Some(last) = chunks.last() else { break };
        assert!(last["next"].as_u64().unwrap() - at <= 1001);
        at = last["next"].as_u64().unwrap();
        parts.extend(chunks.iter().map(|chunk| chunk["text"].as_str().unwrap()));
        assert_eq!(part["bytes"], text.len());
    }
    assert_eq!(parts, text);
    assert_eq!(server.send("viewer", "GET", &format!("{run}/steps/none/log"), &[], None).status, 404);

    // What is left of it.
    assert_eq!(server.get("viewer", &address)["state"], "applied");
    let history = server.get("viewer", "/api/v1/projects/repo/history/net");
    assert_eq!(history["items"].as_array().unwrap().len(), 1);
    assert_eq!(history["items"][0]["run"], apply.as_str());
    let kinds = server.get("viewer", &format!("/api/v1/events?run={apply}&kind=run."));
    let kinds: Vec<&str> = kinds["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"run.succeeded"), Some(&"run.created")), "{kinds:?}");
    let stacks = server.get("viewer", "/api/v1/projects/repo/stacks?limit=1");
    assert_eq!((&stacks["items"][0]["id"], &stacks["next"]), (&"app".into(), &"app".into()));
    let stacks = server.get("viewer", "/api/v1/projects/repo/stacks?limit=1&cursor=app");
    assert_eq!((&stacks["items"][0]["id"], &stacks["next"]), (&"net".into(), &serde_json::Value::Null));
    let reviews = server.get("viewer", "/api/v1/projects/repo/reviews?state=applied");
    assert_eq!(reviews["items"][0]["id"], review.as_str());
    let why = server.get("developer", "/api/v1/access/explain?permission=review.apply&project=repo&stacks=net");
    assert_eq!((&why["allowed"], &why["teams"]), (&false.into(), &serde_json::json!(["developers"])), "{why}");
    let others = "/api/v1/access/explain?permission=review.apply&project=repo&actor=email:operator@example.com";
    assert_eq!(server.get("admin", others)["allowed"], true);
    assert_eq!(server.send("viewer", "GET", others, &[], None).status, 403);
}

#[test]
fn what_is_asked_for_twice_is_started_once() {
    let server = Server::start(&[("net/main.tf", stack(""))], "");
    let drift = "/api/v1/projects/repo/drift";
    let ask =
        |who: &str, key: &str, body: &str| server.send(who, "POST", drift, &[("idempotency-key", key)], Some(body));
    // Many at once, as after a lost connection: one is done, and the others are told the same or to wait.
    let answers: Vec<Answered> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| ask("developer", "key-1", "{}"))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (done, busy): (Vec<&Answered>, Vec<&Answered>) = answers.iter().partition(|answered| answered.status == 202);
    assert!(!done.is_empty());
    for answered in busy {
        assert_eq!((answered.status, &answered.json()["code"]), (409, &"WL872".into()));
        assert_eq!(answered.headers["retry-after"], "1");
    }
    let again = ask("developer", "key-1", "{}");
    assert_eq!((again.status, &again.headers["idempotent-replayed"]), (202, &"true".parse().unwrap()));
    assert!(done.iter().all(|answered| answered.text == again.text));
    let other = ask("developer", "key-1", r#"{"patterns":["net"]}"#);
    assert_eq!((other.status, &other.json()["code"]), (409, &"WL871".into()));
    assert_eq!(ask("developer", " ", "{}").json()["code"], "WL871");
    // The key is the caller's own, and what was refused is not kept.
    assert_eq!(ask("viewer", "key-1", "{}").status, 403);
    assert_ne!(ask("operator", "key-1", "{}").json()["run"], again.json()["run"]);
    let missing = ask("developer", "key-2", r#"{"patterns":["none"]}"#);
    assert_eq!(missing.status, 404);
    assert_eq!(ask("developer", "key-2", "{}").status, 202);
    let runs = server.get("viewer", "/api/v1/projects/repo/runs?kind=drift");
    assert_eq!(runs["items"].as_array().unwrap().len(), 3, "{runs}");

    // A client that goes away before it is answered: what it asked for is done, and once.
    let mut gone = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head =
        format!("POST {drift} HTTP/1.1\r\nhost: windlass\r\nauthorization: Bearer {}\r\n", server.tokens["developer"]);
    gone.write_all(format!("{head}idempotency-key: key-3\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes()).unwrap();
    let count = |runs: &serde_json::Value| runs["items"].as_array().unwrap().len();
    // It was begun when its key is taken; then nobody waits for the answer any more.
    server
        .wait("viewer", "/api/v1/projects/repo", |_| ask("developer", "key-3", r#"{"patterns":["x"]}"#).status == 409);
    drop(gone);
    server.wait("viewer", "/api/v1/projects/repo", |_| ask("developer", "key-3", "{}").status == 202);
    let runs = server.get("viewer", "/api/v1/projects/repo/runs?kind=drift");
    assert_eq!(count(&runs), 4, "{runs}");

    // Lists are read on where they were, whatever came meanwhile.
    let ids = |list: &serde_json::Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()).collect()
    };
    let mut read = ids(&server.get("viewer", "/api/v1/projects/repo/runs?limit=2"));
    let next = server.get("viewer", "/api/v1/projects/repo/runs?limit=2")["next"].as_str().unwrap().to_owned();
    server.post("developer", drift, serde_json::json!({}));
    let rest = server.get("viewer", &format!("/api/v1/projects/repo/runs?limit=3&cursor={next}"));
    assert_eq!(rest["next"], serde_json::Value::Null);
    read.extend(ids(&rest));
    assert_eq!(read, ids(&runs));
    let events = server.get("operator", "/api/v1/events?project=repo&limit=500");
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get("operator", &format!("/api/v1/events?project=repo&limit=3{cursor}"));
        read.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!(read.ends_with(&ids(&events)), "{read:?}");

    // Mistakes are answered as problems.
    let check = |method: &str, path: &str, body: Option<&str>, status: u16, code: &str| {
        let answered = server.send("developer", method, path, &[], body);
        assert_eq!((answered.status, answered.kind.as_str()), (status, "application/problem+json"), "{path}");
        let problem = answered.json();
        assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()), "{path}");
        assert!(problem["diagnostics"][0]["help"].is_string(), "{problem}");
    };
    check("POST", drift, Some("{"), 400, "WL870");
    check("POST", drift, Some(r#"{"pattern":[]}"#), 400, "WL870");
    check("GET", "/api/v1/projects/repo/runs?limit=many", None, 400, "WL870");
    check("GET", "/api/v1/events?project=repo&cursor=x", None, 400, "WL870");
    check("GET", "/api/v1/projects/repo/reviews?state=odd", None, 400, "WL870");
    check("GET", "/api/v1/projects/repo/stacks/none", None, 404, "WL903");
    let both = Some(r#"{"all":true,"stacks":["net"]}"#);
    check("POST", "/api/v1/projects/repo/reviews", both, 400, "WL870");
    check("POST", "/api/v1/projects/repo/reviews", Some(r#"{"branch":"none"}"#), 404, "WL849");
}

#[test]
fn streams_go_on_where_they_were_and_end_with_the_server() {
    let mut server = Server::start(&[("net/main.tf", stack(""))], "");
    let run = server.post("developer", "/api/v1/projects/repo/drift", serde_json::json!({}));
    let run = run["run"].as_str().unwrap().to_owned();
    server.ended(&run);
    let feed = "/api/v1/events/stream";
    let of = |events: Events, count: usize| -> Vec<Sent> {
        events.filter(|sent| sent.event == "event").take(count).collect()
    };
    let all = of(server.stream("operator", &format!("{feed}?after=0&project=repo"), None), 4);
    let rest = of(server.stream("operator", &format!("{feed}?after=0&project=repo"), Some(&all[1].id)), 2);
    assert_eq!(rest, all[2..]);
    let event: serde_json::Value = serde_json::from_str(&all[0].data).unwrap();
    assert_eq!(event["id"].to_string(), all[0].id);
    // Who may not search the record is only told that there is news.
    let first = server.stream("viewer", &format!("{feed}?after=0"), None).next().unwrap();
    assert_eq!((first.event.as_str(), first.data.as_str()), ("changed", "{}"));

    // Open streams of all kinds do not keep the server.
    let mut live = server.stream("operator", &format!("{feed}?kind=run."), None);
    let mut of_run = server.stream("viewer", &format!("/api/v1/runs/{run}/stream"), None);
    let again = server.post("developer", &format!("/api/v1/runs/{run}/repeat"), serde_json::json!({}));
    let sent = live.find(|sent| sent.event == "event").unwrap();
    let event: serde_json::Value = serde_json::from_str(&sent.data).unwrap();
    assert_eq!((&event["kind"], &event["run"]), (&"run.created".into(), &again["run"]));
    server.ended(again["run"].as_str().unwrap());
    let stopped = Instant::now();
    server.terminate();
    assert_eq!(of_run.next(), None);
    while live.next().is_some() {}
    let code = server.child.wait().unwrap();
    assert!(code.success() && stopped.elapsed() < Duration::from_secs(8), "{code} after {:?}", stopped.elapsed());
}

#[test]
fn who_may_not_read_any_more_is_not_told_any_more() {
    let server = Server::start(&[("net/main.tf", stack(""))], "");
    let run = server.post("developer", "/api/v1/projects/repo/drift", serde_json::json!({}));
    let run = run["run"].as_str().unwrap().to_owned();
    server.ended(&run);
    let address = format!("/api/v1/runs/{run}/stream");
    let mut stream = server.stream("viewer", &address, Some("0"));
    assert_eq!(stream.next().unwrap().event, "changed");
    // The grant goes away on the protected branch while the stream is open.
    let definitions = std::fs::read_to_string(server.env.root().join("windlass.hcl")).unwrap();
    let without = definitions.replace("to   = [team.viewers]", "to   = [team.admins]");
    assert_ne!(without, definitions);
    server.env.write("windlass.hcl", &without).unwrap();
    server.env.commit("Viewers see nothing").unwrap();
    server.post("admin", "/api/v1/projects/repo/fetch", serde_json::json!({}));
    server.wait("signed in", "/api/v1/projects", |_| {
        server.send("viewer", "GET", &format!("/api/v1/runs/{run}"), &[], None).status == 404
    });
    let since = Instant::now();
    assert_eq!(stream.next(), None);
    assert!(since.elapsed() < Duration::from_secs(75), "it took {:?}", since.elapsed());
}

#[test]
fn an_operation_is_run_by_whoever_may_with_the_right_actor_and_refused_to_others_with_the_reason() {
    let server = Server::start(&[("net/main.tf", stack(""))], "");
    let operations = server.get("viewer", "/api/v1/projects/repo/operations");
    assert_eq!(operations["items"][0]["name"], "greet", "{operations}");
    assert_eq!(operations["items"][0]["may_run"]["answer"], "no", "{operations}");
    let address = "/api/v1/projects/repo/operations/greet";
    assert_eq!(server.get("operator", address)["may_run"]["answer"], "yes");
    let refused = server.send("developer", "POST", &format!("{address}/runs"), &[], Some("{}"));
    assert_eq!((refused.status, &refused.json()["code"]), (403, &"WL840".into()), "{}", refused.text);
    assert!(refused.text.contains("lets team operators: ask somebody of them"), "{}", refused.text);
    let wrong = server.send("operator", "POST", &format!("{address}/runs"), &[], Some("{\"arguments\":{\"x\":1}}"));
    assert!(wrong.status == 400 && wrong.text.contains("takes no parameters"), "{} {}", wrong.status, wrong.text);
    // By the API, and by the terminal: the same run, of whoever asked for it.
    let run = server.post("operator", &format!("{address}/runs"), serde_json::json!({ "reason": "to see" }));
    let run = run["run"].as_str().unwrap().to_owned();
    assert_eq!(server.ended(&run), "succeeded");
    let mut terminal = server.env.command(&["run", "greet", "--json", "--project", "repo"]);
    terminal.env("WINDLASS_URL", &server.url).env("WINDLASS_TOKEN", &server.tokens["operator"]);
    let said = terminal.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let other = value["run"]["run"].as_str().unwrap().to_owned();
    let (by_api, by_terminal) = (
        server.get("viewer", &format!("/api/v1/runs/{run}/operation")),
        server.get("viewer", &format!("/api/v1/runs/{other}/operation")),
    );
    assert_eq!(by_api["origin"], serde_json::json!({ "by": "person", "through": "api" }));
    assert_eq!(by_terminal["origin"], serde_json::json!({ "by": "person", "through": "cli" }));
    assert_eq!((&by_api["operation"], &by_api["head"]), (&by_terminal["operation"], &by_terminal["head"]));
    for id in [&run, &other] {
        let record = server.get("viewer", &format!("/api/v1/runs/{id}"));
        assert!(record["run"]["actor"].as_str().unwrap().contains("operator@example.com"), "{record}");
    }
    let compared = server.get("viewer", &format!("/api/v1/runs/{run}/compare/{other}"));
    assert_eq!((&compared["same_definition"], &compared["parameters"]), (&true.into(), &serde_json::json!([])));
    let list = server.get("viewer", "/api/v1/projects/repo/runs?operation=greet");
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
}
