//! An operation as whoever runs it over the API goes through it: what it asks, what fails and is taken back, going on and repeating.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::{Answer, Server};
use common::wait;
use serde_json::{Value, json};
use windlass_testkit::cli::CliEnv;

const DEFINITIONS: &str = r#"
team "sre"    { members = ["MEMBER"] }
team "ledger" { members = ["email:nobody@example.com"] }
operation "upgrade" {
  allow = [team.sre]
  param "version"  { type = string }
  param "password" {
    type     = secret
    required = false
  }
  step "make" {
    shell = "echo made >>TALE; echo with $PASSWORD"
    env   = { PASSWORD = param.password }
  }
  step "take" {
    run  = ["touch", "TALE.taken"]
    undo { run = ["rm", "TALE.taken"] }
  }
  step "sure" {
    after = ["make"]
    ask {
      question = "Go on?"
      choices  = ["yes", "no"]
      from     = [team.sre]
    }
  }
  step "finish" {
    after = ["sure", "take"]
    shell = "test -e TALE.whole && echo ${run.id} >>TALE"
  }
}
operation "long" {
  allow = [team.sre]
  step "wait" {
    run  = ["sleep", "600"]
    undo { run = ["touch", "TALE.undone"] }
  }
}
"#;

const SECRET: &str = "hunter2-of-the-store";

fn post(server: &Server, path: &str, body: &Value) -> Answer {
    let headers = [("cookie", &*server.cookie), ("x-csrf-token", &*server.csrf), ("content-type", "application/json")];
    server.send("POST", path, &headers, body.to_string().as_bytes())
}

fn run_of(value: &Value) -> String {
    value["run"].as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// Waits until a step is in a state.
#[track_caller]
fn comes_to(server: &Server, run: &str, step: &str, state: &str) {
    wait(|| {
        let shown = server.get(&format!("/api/v1/runs/{run}")).json();
        let steps = shown["steps"].as_array()?;
        steps.iter().any(|found| found["id"] == step && found["state"] == state).then_some(())
    });
}

#[test]
fn an_operation_asks_fails_goes_on_is_repeated_and_killed() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let tale = env.home().join("tale");
    let write = |member: &str| {
        let text = DEFINITIONS.replace("TALE", &tale.display().to_string()).replace("MEMBER", member);
        env.write("windlass.hcl", &text).unwrap();
        env.commit("Operations").unwrap();
    };
    let member = windlass_app::actor::local(None).identities.remove(0);
    write(&member);
    let server = Server::start(&env, "");
    let runs = "/api/v1/projects/shop/operations/upgrade/runs";
    let told = || std::fs::read_to_string(&tale).unwrap_or_default();
    let beside = |name: &str| tale.with_extension(name).exists();

    let arguments = json!({ "arguments": { "version": "2", "password": SECRET } });
    let first = run_of(&server.post(runs, &arguments));
    comes_to(&server, &first, "sure", "waiting");
    let answers = |run: &str| format!("/api/v1/runs/{run}/steps/sure/answer");
    assert_eq!(post(&server, &answers(&first), &json!({ "value": "perhaps" })).status, 400);
    // Who is asked does not change while it waits: what is taken counts, and no other is taken.
    write("email:somebody@example.com");
    server.post(&answers(&first), &json!({ "value": "yes" }));
    assert_eq!(server.ended(&first), "failed");
    assert!(!beside("taken"), "what was done is taken back");
    assert_eq!(told(), "made\n");
    write(&member);

    let resume = format!("/api/v1/runs/{first}/go-on");
    let refused = post(&server, &resume, &json!({}));
    assert!(refused.status == 400 && refused.text().contains("secrets are not kept"), "{refused:?}");
    std::fs::write(tale.with_extension("whole"), "").unwrap();
    let second = run_of(&server.post(&resume, &json!({ "arguments": { "password": SECRET } })));
    comes_to(&server, &second, "finish", "succeeded");
    assert_eq!(server.ended(&second), "succeeded");
    assert_eq!(told(), format!("made\n{second}\n"), "what was done is not done again");

    let repeat = format!("/api/v1/runs/{second}/repeat");
    let refused = post(&server, &repeat, &json!({}));
    assert!(refused.status == 400 && refused.text().contains("password"), "{refused:?}");

    let long = run_of(&server.post("/api/v1/projects/shop/operations/long/runs", &json!({ "arguments": {} })));
    comes_to(&server, &long, "wait", "running");
    server.post(&format!("/api/v1/runs/{long}/cancel"), &json!({ "kill": true }));
    assert_eq!(server.ended(&long), "cancelled");
    assert!(!beside("undone"), "a kill takes nothing back");

    for name in ["windlass.db", "windlass.db-wal"] {
        let kept = std::fs::read(server.data.join(name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&kept).contains(SECRET), "{name}");
    }
    assert!(!std::fs::read_to_string(env.home().join("server.log")).unwrap().contains(SECRET));
}
