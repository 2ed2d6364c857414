//! Operations on the pages: who may, the form and what is wrong with it, what is asked before one begins, and what it asks.

use super::{Person, Server, field, modules, repository_of, wait};
use std::process::{Command, Stdio};

const WINDLASS: &str = r#"
project "shop" {}
team "sre" { members = ["email:anna@example.com"] }
team "ledger" { members = ["email:bob@example.com", "email:dora@example.com"] }
grant "sre" {
  to   = [team.sre]
  role = "admin"
}
grant "all" {
  to   = [team.ledger]
  role = "viewer"
}
operation "say-hello" {
  description = "Says *hello*.\n\n<b>No</b> more."
  owner       = team.ledger
  allow       = [team.ledger]
  labels      = { area = "greetings" }
  param "cluster" {
    type    = choice
    choices = ["a", "b"]
  }
  param "host" {
    type    = choice
    choices = ["${param.cluster}1", "${param.cluster}2"]
  }
  param "count" {
    type    = number
    min     = 1
    max     = 3
    default = 2
  }
  step "say" { run = ["echo", "hello ${param.host}"] }
}
operation "report" {
  allow = [team.sre]
  step "make" {
    shell     = "mkdir -p out; echo a,b >out/report.csv; echo '<script>alert(1)</script>' >'out/<b>.html'"
    artefacts = ["out/*"]
  }
}
operation "ask-me" {
  allow = [team.ledger]
  schedule { cron = "0 3 * * *" }
  step "which" {
    ask {
      question = "Which way?"
      choices  = ["left", "right"]
      from     = [team.sre]
    }
  }
  step "went" { run = ["echo", step.which.outputs.answer] }
}
operation "wipe" {
  allow   = [team.sre]
  confirm = "wipe-${param.name}"
  param "name" {
    type = string
  }
  param "password" {
    type = secret
  }
  step "wipe" { run = ["true"] }
}
"#;

const HELLO: &str = "/projects/shop/operations/say-hello";

/// The actor of a run, as its page has it.
fn actor(page: &str) -> &str {
    page.split_once("<dt>Started by</dt><dd><bdi>").unwrap().1.split('<').next().unwrap()
}

fn succeeded(server: &Server, person: &Person, run: &str) -> String {
    server.says(person, run, "</h1> <span class=\"badge ok\">succeeded</span>")
}

#[test]
fn an_operation_is_run_from_its_form() {
    let env = repository_of(|_| vec![("windlass.hcl".to_owned(), WINDLASS.to_owned())]);
    let server = Server::start(&env);
    let (anna, bob, carol) = (server.person("anna"), server.person("bob"), server.person("carol"));
    server.says(&anna, "/operations", "say-hello");

    // The catalogue: what there is, for whom, and what it was limited to.
    server.page(&bob, "/operations").is(200, &["4 of 4 operations", "Not for you", "Says hello."]);
    server.page(&bob, "/projects/shop/operations?mine=1").is(200, &["2 of 4 operations"]);
    server.page(&anna, "/operations?q=WIPE&project=shop").is(200, &["1 of 4 operations"]);
    server.page(&anna, "/operations?by=label&label=area%3Dgreetings").is(200, &["area=greetings", "1 of 4"]);
    server.page(&anna, "/operations?q=nothing").is(200, &["No operation matches"]);
    server.page(&carol, "/operations").is(200, &["No operation is defined yet"]);
    server.page(&carol, "/projects/shop/operations").is(404, &[]);
    server.page(&carol, HELLO).is(404, &[]);
    server.page(&anna, "/projects/shop/operations/absent").is(404, &[]);

    // The form: fields that depend on others, mistakes beside the fields, nothing begun.
    let page = server
        .page(&bob, HELLO)
        .is(200, &["Says <em>hello</em>.", "&lt;b&gt;No", "give that first", "It has not run yet"]);
    assert!(!page.text.contains("aria-invalid"), "nothing is wrong before anything was given");
    let given = [("p.cluster", "b"), ("p.count", "2")];
    server.send(&bob, &format!("{HELLO}/form"), &given).is(200, &[">b1</option>", ">b2</option>"]);
    let wrong = [("p.cluster", "b"), ("p.host", "a1"), ("p.count", "9"), ("do", "run"), ("reason", "OPS-<1>")];
    server.send(&bob, HELLO, &wrong).is(400, &["aria-invalid=\"true\"", "value=\"9\"", "OPS-&#60;1&#62;"]);
    server.send(&carol, HELLO, &wrong).is(404, &[]);
    assert!(server.page(&bob, HELLO).text.contains("It has not run yet"));

    // It begins, and says who began it with what.
    let good = [("p.cluster", "b"), ("p.host", "b2"), ("p.count", "3"), ("do", "run"), ("reason", "OPS-1")];
    let run = server.send(&bob, HELLO, &good).leads("begun");
    let page = succeeded(&server, &bob, &run);
    assert!(actor(&page).starts_with("bob"), "{}", actor(&page));
    for text in ["somebody on these pages", "<code>b2</code>", "OPS-1", "Run it again…"] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    server.page(&bob, HELLO).is(200, &[&run]);
    assert!(!server.page(&bob, &format!("{HELLO}?state=failed")).is(200, &["No run is like this"]).text.contains(&run));

    // Once more, with something else, and what is different.
    let again = format!("{HELLO}?repeats={}", &run[6..]);
    let page = server.page(&bob, &again).is(200, &["Run it again", "<option value=\"b2\" selected>"]).text;
    let repeats = field(&page, "repeats").to_owned();
    let other = [("p.cluster", "b"), ("p.host", "b1"), ("p.count", "3"), ("do", "run"), ("repeats", &repeats)];
    let second = server.send(&bob, HELLO, &other).leads("begun");
    succeeded(&server, &bob, &second);
    server.page(&bob, &second).is(200, &["doing it once more", &run]);
    let compare = format!("{run}/compare/{}", &second[6..]);
    server.page(&bob, &compare).is(200, &["<code>b2</code>", "<code>b1</code>", "in the same words"]);
    server.page(&carol, &compare).is(404, &[]);
    let foreign = [("do", "run"), ("p.name", "x"), ("confirmed", "1"), ("repeats", repeats.as_str())];
    server.send(&anna, "/projects/shop/operations/wipe", &foreign).is(404, &[]);
}

#[test]
fn what_cannot_be_taken_back_is_confirmed_and_its_secret_is_never_sent_back() {
    let env = repository_of(|_| vec![("windlass.hcl".to_owned(), WINDLASS.to_owned())]);
    let server = Server::start(&env);
    let (anna, bob) = (server.person("anna"), server.person("bob"));
    server.says(&anna, "/operations", "say-hello");
    let wipe = "/projects/shop/operations/wipe";
    let page = server.page(&bob, wipe).is(200, &["You may not run it like this", "disabled"]).text;
    assert!(!page.contains("Break the glass"));
    server.send(&bob, wipe, &[("p.name", "db"), ("do", "run"), ("confirmed", "1")]).is(403, &["You may not do this"]);

    let page = server.send(&anna, wipe, &[("p.name", "db"), ("do", "run"), ("reason", "OPS-2")]);
    let page = page.is(200, &["Before it begins", "<code>wipe-db</code>", "type=\"password\"", "value=\"OPS-2\""]).text;
    assert_eq!(field(&page, "p.name"), "db");
    let typed = |confirm: &'static str| {
        [("p.name", "db"), ("p.password", "hunter2"), ("confirm", confirm), ("confirmed", "1"), ("do", "run")]
    };
    let refused = server.send(&anna, wipe, &typed("wipe-web")).is(409, &["WL742", "type=\"password\""]).text;
    assert!(!refused.contains("hunter2"), "the secret is sent back");
    let missing = [("p.name", "db"), ("confirm", "wipe-db"), ("confirmed", "1"), ("do", "run")];
    server.send(&anna, wipe, &missing).is(400, &["WL741", "password"]);
    let back = [("p.name", "db"), ("p.password", "hunter2"), ("do", "back")];
    assert!(!server.send(&anna, wipe, &back).is(200, &["value=\"db\""]).text.contains("hunter2"));
    let glass = [("p.name", "db"), ("do", "break_glass")];
    server.send(&anna, wipe, &glass).is(200, &["Break the glass for", "Everybody who is to know"]);

    let run = server.send(&anna, wipe, &typed("wipe-db")).leads("begun");
    let page = succeeded(&server, &anna, &run);
    assert!(page.contains("a secret") && !page.contains("hunter2"));
}

#[test]
fn a_question_is_answered_on_the_page_of_the_run() {
    let env = repository_of(|_| vec![("windlass.hcl".to_owned(), WINDLASS.to_owned())]);
    let server = Server::start(&env);
    let (anna, bob, carol) = (server.person("anna"), server.person("bob"), server.person("carol"));
    server.says(&anna, "/operations", "say-hello");
    let run = server.send(&bob, "/projects/shop/operations/ask-me", &[("do", "run")]).leads("begun");
    let page = server.says(&anna, &run, "Which way?");
    assert!(page.contains("value=\"left\"") && page.contains("value=\"right\""), "{page}");
    server.page(&bob, &run).is(200, &["<strong>Answering</strong> is not possible"]);
    let left = [("step", "which"), ("value", "left"), ("reason", "it is shorter")];
    server.send(&bob, &format!("{run}/answer"), &left).is(403, &[]);
    server.send(&carol, &format!("{run}/answer"), &left).is(404, &[]);
    server.send(&anna, &format!("{run}/answer"), &[("step", "which"), ("value", "up")]).is(400, &["WL748"]);
    assert_eq!(server.send(&anna, &format!("{run}/answer"), &left).leads("answered"), run);
    succeeded(&server, &anna, &run);
}

#[test]
fn what_steps_left_is_on_the_page_of_their_run() {
    let env = repository_of(|_| vec![("windlass.hcl".to_owned(), WINDLASS.to_owned())]);
    let server = Server::start(&env);
    let (anna, bob, carol) = (server.person("anna"), server.person("bob"), server.person("carol"));
    server.says(&anna, "/operations", "report");
    let run = server.send(&anna, "/projects/shop/operations/report", &[("do", "run")]).leads("begun");
    succeeded(&server, &anna, &run);
    let page = server.page(&bob, &run).is(200, &["Artefacts</h2>", "&#60;b&#62;.html", "4 B"]).text;
    let link = format!("<a href=\"/api/v1{run}/artefacts/");
    let hrefs: Vec<&str> = page.split(&link).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(hrefs.len(), 2, "{page}");
    let download = |person: &Person, id: &str| server.get(Some(person), &format!("/api/v1{run}/artefacts/{id}"));
    download(&bob, hrefs[0]).is(200, &["<script>alert(1)</script>"]);
    assert_eq!(download(&bob, hrefs[1]).text, "a,b\n");
    // Another team.
    for path in [hrefs[0], "make/out/report.csv", "..%2F..%2Fkey", ""] {
        let path = format!("/api/v1{run}/artefacts/{path}");
        assert_eq!(server.get(Some(&carol), path.trim_end_matches('/')).status, 404, "{path}");
    }
    server.page(&carol, &run).is(404, &[]);
    // A page of them that begins after the first.
    let rest = server.page(&bob, &format!("{run}?artefacts={}", hrefs[0])).is(200, &["report.csv", ">First</a>"]).text;
    assert!(!rest.contains("&#60;b&#62;.html"), "{rest}");
}

#[test]
fn what_begins_by_itself_is_paused_and_begun_at_a_time() {
    let env = repository_of(|_| vec![("windlass.hcl".to_owned(), WINDLASS.to_owned())]);
    let server = Server::start(&env);
    let (anna, bob, carol) = (server.person("anna"), server.person("bob"), server.person("carol"));
    server.says(&anna, "/operations", "say-hello");
    let ask = "/projects/shop/operations/ask-me";
    server.page(&bob, ask).is(200, &["0 3 * * *", "Pausing is not possible"]);
    let schedules = format!("{ask}/schedules");
    let pause = [("schedule", "default"), ("do", "pause"), ("reason", "moving <house>"), ("until", "2h")];
    server.send(&bob, &schedules, &pause).is(403, &[]);
    server.send(&carol, &schedules, &pause).is(404, &[]);
    let wrong = [("schedule", "default"), ("do", "pause"), ("reason", "x"), ("until", "soon")];
    server.send(&anna, &schedules, &wrong).is(400, &["`soon` is no time"]);
    // The server takes schedules up some time after it has begun.
    wait(|| Some(server.send(&anna, &schedules, &pause)).filter(|answer| answer.status == 303)).leads("paused");
    server.page(&anna, ask).is(200, &["moving &#60;house&#62;", "value=\"resume\""]);
    server.send(&anna, &schedules, &[("schedule", "default"), ("do", "resume")]).leads("goes_on");
    assert!(!server.page(&anna, ask).text.contains("value=\"resume\""));

    // Tomorrow it is due, whatever the week and the month of today have left.
    let tomorrow = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).strftime("%F").to_string();
    for view in ["", "view=week&zone=Asia/Tokyo&"] {
        let path = format!("/projects/shop/schedules?{view}");
        server.page(&bob, &path).is(200, &["aria-current=\"date\""]);
        server.page(&bob, &format!("{path}day={tomorrow}")).is(200, &["ask-me"]);
        server.page(&carol, &path).is(404, &[]);
    }
    server.page(&bob, "/projects/shop/schedules?day=1900-01-01").is(200, &["January 1900"]);
    server.page(&bob, "/projects/shop/schedules?zone=Moon").is(400, &["no time zone `Moon`"]);

    // Once, later; taken back by who asked for it, and by nobody else who may not.
    let later = [("p.cluster", "b"), ("p.host", "b2"), ("p.count", "3"), ("do", "run"), ("at", "2h")];
    let path = server.send(&bob, HELLO, &later).leads("planned");
    let page = server.page(&bob, &path).is(200, &["Take it back", "asked for by", "It has not run yet"]).text;
    let id = field(&page, "id").to_owned();
    let planned = format!("{HELLO}/planned");
    server.send(&server.person("dora"), &planned, &[("id", &id)]).is(403, &[]);
    server.send(&bob, &planned, &[("id", &id)]).leads("taken_back");
    assert!(!server.page(&bob, HELLO).text.contains("Take it back"));
    let past = [("p.cluster", "b"), ("p.host", "b2"), ("do", "run"), ("at", "2020-01-01T00:00:00Z")];
    server.send(&bob, HELLO, &past).is(400, &["WL724"]);
}

#[test]
fn a_person_runs_operations_in_a_browser() {
    let env = repository_of(|_| vec![("windlass.hcl".to_owned(), WINDLASS.to_owned())]);
    let server = Server::start(&env);
    let anna = server.person("anna");
    server.says(&anna, "/operations", "say-hello");
    let shots = std::env::var("WINDLASS_SHOTS").unwrap_or_default();
    let output = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages/operations.mjs"))
        .arg(modules())
        .args([&server.url, anna.cookie.strip_prefix("windlass=").unwrap(), &shots])
        .stdin(Stdio::null())
        .output()
        .expect("node has to be installed: the walk runs playwright-core");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("done"), "{told}");
}
