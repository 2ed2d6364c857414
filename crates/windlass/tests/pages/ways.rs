//! One operation by every way: a page in a browser, the terminal, the API, and a job of a CI. The runs are the same and each says whose
//! it is; who is of another team is told why not, and nothing is kept of it but that.

use super::{Person, Server, modules, repository_of};
use crate::common::wait;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::oidc::{OidcProvider, PUBLIC};

const WINDLASS: &str = r#"
project "shop" {}
team "ledger" {
  members = ["email:bob@example.com", "email:dora@example.com", "email:erin@example.com", "ci:builds:repository=org/ledger"]
}
team "web" { members = ["email:mia@example.com", "ci:builds:repository=org/web"] }
grant "all" {
  to   = [team.ledger, team.web]
  role = "developer"
}
operation "restart" {
  allow = [team.ledger]
  param "host" {
    type    = choice
    choices = ["app1", "app2"]
  }
  param "count" {
    type    = number
    default = 2
  }
  step "stop" {
    shell   = "echo \"{\\\"stopped\\\": \\\"$HOST\\\"}\""
    env     = { HOST = param.host }
    outputs = "json"
  }
  step "start" { run = ["echo", "starting ${step.stop.outputs.stopped} ${param.count} times"] }
}
"#;

const RUNS: &str = "/api/v1/projects/shop/operations/restart/runs";

/// What a run is, but for what is its own: its plan, what became of its steps, and what they said.
#[derive(Debug, PartialEq)]
struct Same {
    plan: Value,
    state: String,
    steps: Vec<(String, String, Value)>,
    log: Vec<String>,
}

/// What stands in the database of a server.
struct Recorded(rusqlite::Connection);

impl Recorded {
    fn of(server: &Server) -> Self {
        Self(rusqlite::Connection::open(server.data.join("windlass.db")).unwrap())
    }

    fn rows(&self, sql: &str, of: &str) -> Vec<Vec<String>> {
        let mut statement = self.0.prepare(sql).unwrap();
        let columns = statement.column_count();
        let text = |row: &rusqlite::Row<'_>, at| match row.get_ref(at).unwrap() {
            rusqlite::types::ValueRef::Null => String::new(),
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            value => value.as_str().unwrap().to_owned(),
        };
        let rows = statement.query_map([of], |row| Ok((0..columns).map(|at| text(row, at)).collect())).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn run(&self, run: &str) -> (Same, Value, String) {
        let row = self.rows("SELECT plan, state, actor FROM runs WHERE id = ?", run).remove(0);
        let mut plan: Value = serde_json::from_str(&row[0]).unwrap();
        let origin = plan["input"]["origin"].take();
        let steps = self.rows("SELECT id, state, output FROM steps WHERE run = ? ORDER BY position", run);
        let value = |text: &str| serde_json::from_str(text).unwrap_or_default();
        let steps = steps.iter().map(|step| (step[0].clone(), step[1].clone(), value(&step[2]))).collect();
        (Same { plan, state: row[1].clone(), steps, log: Vec::new() }, origin, row[2].clone())
    }

    /// Kinds and actors of the events that a run left, in order; those of its engine have none.
    fn acts(&self, run: &str) -> Vec<(String, String)> {
        let rows = self.rows("SELECT kind, actor FROM events WHERE run = ? AND actor IS NOT NULL ORDER BY id", run);
        rows.into_iter().map(|mut row| (row.remove(0), row.remove(0))).collect()
    }

    /// Kind, actor and data of events after this one.
    fn since(&self, event: &str) -> Vec<Vec<String>> {
        self.rows("SELECT kind, actor, data FROM events WHERE id > CAST(? AS INTEGER) ORDER BY id", event)
    }

    fn last(&self) -> String {
        self.rows("SELECT max(id) FROM events WHERE kind <> ?", "").remove(0).remove(0)
    }

    /// How many rows there are of what a start could leave.
    fn left(&self) -> Vec<String> {
        let tables = ["runs", "steps", "admissions", "answers", "tickets", "messages"];
        let count =
            |table: &str| self.rows(&format!("SELECT count(*) FROM {table} WHERE ? = ''"), "").remove(0).remove(0);
        tables.iter().map(|table| format!("{table}: {}", count(table))).collect()
    }
}

/// A person's token, made as the settings page makes it.
fn token(server: &Server, person: &Person) -> String {
    let page = server.send(person, "/settings/tokens", &[("name", "mine"), ("days", "1")]).is(200, &["wlt_"]).text;
    format!("wlt_{}", page.split_once("<pre>wlt_").unwrap().1.split('<').next().unwrap())
}

struct Api<'a>(&'a Server);

impl Api<'_> {
    fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let mut request = self.0.agent.post(format!("{}{path}", self.0.url)).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answer = request.send(body.to_string()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(text.into()))
    }

    fn start(&self, token: &str) -> (u16, Value) {
        let body = json!({ "arguments": { "host": "app2", "count": 3 }, "reason": "OPS-1" });
        self.post(RUNS, Some(token), &body)
    }

    fn exchanged(&self, identity: &str) -> String {
        let (status, answer) = self.post("/api/v1/ci/exchange", None, &json!({ "token": identity }));
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }
}

fn terminal(env: &CliEnv, server: &Server, token: &str, arguments: &[&str]) -> Output {
    let mut command = env.command(arguments);
    command.env("WINDLASS_URL", &server.url).env("WINDLASS_TOKEN", token).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn browser(server: &Server, own: &Person, other: &Person) -> Value {
    let cookie = |person: &Person| person.cookie.strip_prefix("windlass=").unwrap().to_owned();
    let output = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages/ways.mjs"))
        .arg(modules())
        .args([&server.url, &cookie(own), &cookie(other)])
        .stdin(Stdio::null())
        .output()
        .expect("node has to be installed: the walk runs playwright-core");
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

/// Why somebody of team web may not, and what to do.
fn check_told(way: &str, who: &str, told: &str) {
    let nothing = format!("nothing gives {who} (of team web) `operation.run` for operation restart");
    for wanted in [&*nothing, "operation `restart` (windlass.hcl:", "lets team ledger: ask somebody of them"] {
        assert!(told.contains(wanted), "{way} does not say `{wanted}`: {told}");
    }
}

#[test]
fn one_operation_is_the_same_run_by_every_way_and_refused_to_another_team_by_each() {
    let env = repository_of(|_| vec![("windlass.hcl".to_owned(), WINDLASS.to_owned())]);
    let provider = OidcProvider::start().unwrap();
    provider.fill_tokens().unwrap();
    let config = env.home().join("windlass.toml");
    let ci = format!(
        "[[ci]]\nname = \"builds\"\nkind = \"github\"\nissuer = \"{}\"\naudience = \"{PUBLIC}\"\n\
         claims = {{ repository = [\"org/*\"] }}\n",
        provider.issuer()
    );
    std::fs::write(&config, ci).unwrap();
    let server = Server::with(&env, &["--config", config.to_str().unwrap()]);
    let (bob, other) = (server.person("bob"), server.person("mia"));
    server.says(&bob, "/operations", "restart");
    let api = Api(&server);
    let recorded = Recorded::of(&server);
    let mia = token(&server, &other);
    let [dora, erin] = ["dora", "erin"].map(|name| token(&server, &server.person(name)));
    let job = |login: &str| api.exchanged(&provider.identity_token(login).unwrap());
    let (own_job, other_job) = (job("job-of-ledger"), job("job-of-web"));
    let (github, hubot) =
        ("workflow \"deploy\" of org/ledger started by octocat", "workflow \"deploy\" of org/web started by hubot");
    let run_of = |(status, answer): (u16, Value)| {
        assert_eq!(status, 202, "{answer}");
        answer["run"].as_str().unwrap().to_owned()
    };
    let arguments = ["run", "restart", "host=app2", "count=3", "--reason", "OPS-1"];

    // By the terminal, the API, and a job.
    let ran = terminal(&env, &server, &dora, &arguments);
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
    let by_terminal = text(&ran).split_once("Running as ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let by_api = run_of(api.start(&erin));
    let by_job = run_of(api.start(&own_job));
    for run in [&by_api, &by_job] {
        wait(|| (recorded.run(run).0.state == "succeeded").then_some(()));
    }

    // The others, by the same ways.
    let (before, left) = (recorded.last(), recorded.left());
    let refused = terminal(&env, &server, &mia, &arguments);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    check_told("the terminal", "mia", &text(&refused));
    assert!(text(&refused).contains("windlass access explain operation.run"), "{}", text(&refused));
    for (token, who) in [(&mia, "mia"), (&other_job, hubot)] {
        let (status, answer) = api.start(token);
        assert_eq!((status, &answer["code"]), (403, &"WL840".into()), "{answer}");
        check_told("the API", who, answer["detail"].as_str().unwrap());
        assert!(answer["diagnostics"][0]["help"].as_str().unwrap().contains("windlass access explain"), "{answer}");
    }
    let events = recorded.since(&before);
    let told: Vec<(&str, &str)> = events.iter().map(|event| (event[0].as_str(), event[1].as_str())).collect();
    let mail = "mia <mia@example.com>";
    let wanted = [mail, mail, hubot].map(|who| ("access.refused", who));
    assert_eq!(told, wanted, "{events:?}");
    assert!(events.iter().all(|event| event[2].contains("operation.run")), "{events:?}");
    assert_eq!(recorded.left(), left, "something is left of what was refused");

    // By a browser, both.
    let seen = browser(&server, &bob, &other);
    let by_browser = seen["run"].as_str().unwrap().to_owned();
    let said = |key: &str| seen[key].as_str().unwrap();
    assert!(said("shown").contains("bob <bob@") && said("shown").contains("somebody on these pages"), "{seen}");
    check_told("the form", "mia", said("told"));
    assert_eq!((&seen["offered"], &seen["status"]), (&false.into(), &403.into()), "{seen}");
    check_told("the page", "mia", said("refused"));

    // Four times the same, each by somebody else.
    let runs = [
        (&by_browser, "bob <bob@example.com>", "web"),
        (&by_terminal, "dora <dora@example.com>", "cli"),
        (&by_api, "erin <erin@example.com>", "api"),
        (&by_job, github, "ci"),
    ];
    let mut all = Vec::new();
    for (run, actor, through) in runs {
        let (mut same, origin, by) = recorded.run(run);
        assert_eq!((by.as_str(), origin), (actor, json!({ "by": "person", "through": through })), "{run}");
        let acts = recorded.acts(run);
        assert!(!acts.is_empty() && acts.iter().all(|(_, by)| by == actor), "{acts:?}");
        same.log = log(&env, &server, &dora, run);
        all.push(same);
    }
    let first = &all[0];
    assert_eq!(first.plan["input"]["arguments"], json!({ "host": "app2", "count": 3 }), "{first:?}");
    assert_eq!(first.state, "succeeded");
    assert!(first.log.iter().any(|line| line.contains("starting app2 3 times")), "{first:?}");
    assert!(first.steps.iter().any(|(step, _, _)| step == "start"), "{first:?}");
    all[1..].iter().for_each(|other| assert_eq!(other, first));

    server.page(&other, &format!("/runs/{by_job}")).is(200, &["a job of a CI", "org/ledger started by octocat"]);
    let count = recorded.rows("SELECT count(*) FROM runs WHERE ? = ''", "").remove(0);
    assert_eq!(count, ["4"]);
}

fn log(env: &CliEnv, server: &Server, token: &str, run: &str) -> Vec<String> {
    let output = terminal(env, server, token, &["logs", run]);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
