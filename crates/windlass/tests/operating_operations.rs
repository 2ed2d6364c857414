//! An operation as whoever runs it over the API goes through it: what it asks, what fails and is taken back, going on and repeating;
//! and what its steps left.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::{Server, run_of};
use common::{expect, wait};
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
operation "report" {
  allow = [team.sre]
  param "password" {
    type     = secret
    required = false
  }
  step "make" {
    shell     = "mkdir -p out/deep; echo a,b >'out/r \u00e9.csv'; echo it is $PASSWORD. >out/told.txt; head -c 300000 /dev/zero >out/deep/zeros; : >out/none"
    env       = { PASSWORD = param.password == null ? "nothing" : param.password }
    artefacts = ["out/**"]
  }
  each "member" {
    in    = ["a/b", "c"]
    batch = 1
    step "stop" {
      shell     = "echo ${each.value} >left.txt"
      artefacts = ["left.txt"]
    }
  }
}
"#;

const SECRET: &str = "hunter2-of-the-store";

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
    server.comes_to(&first, "sure", "waiting");
    let answers = |run: &str| format!("/api/v1/runs/{run}/steps/sure/answer");
    assert_eq!(server.ask(&answers(&first), &json!({ "value": "perhaps" })).status, 400);
    // Who is asked does not change while it waits: what is taken counts, and no other is taken.
    write("email:somebody@example.com");
    server.post(&answers(&first), &json!({ "value": "yes" }));
    assert_eq!(server.ended(&first), "failed");
    assert!(!beside("taken"), "what was done is taken back");
    assert_eq!(told(), "made\n");
    write(&member);

    let resume = format!("/api/v1/runs/{first}/go-on");
    let refused = server.ask(&resume, &json!({}));
    assert!(refused.status == 400 && refused.text().contains("secrets are not kept"), "{refused:?}");
    std::fs::write(tale.with_extension("whole"), "").unwrap();
    let second = run_of(&server.post(&resume, &json!({ "arguments": { "password": SECRET } })));
    server.comes_to(&second, "finish", "succeeded");
    assert_eq!(server.ended(&second), "succeeded");
    assert_eq!(told(), format!("made\n{second}\n"), "what was done is not done again");

    let repeat = format!("/api/v1/runs/{second}/repeat");
    let refused = server.ask(&repeat, &json!({}));
    assert!(refused.status == 400 && refused.text().contains("password"), "{refused:?}");

    let long = run_of(&server.post("/api/v1/projects/shop/operations/long/runs", &json!({ "arguments": {} })));
    server.comes_to(&long, "wait", "running");
    server.post(&format!("/api/v1/runs/{long}/cancel"), &json!({ "kill": true }));
    assert_eq!(server.ended(&long), "cancelled");
    assert!(!beside("undone"), "a kill takes nothing back");

    for name in ["windlass.db", "windlass.db-wal"] {
        let kept = std::fs::read(server.data.join(name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&kept).contains(SECRET), "{name}");
    }
    assert!(!std::fs::read_to_string(env.home().join("server.log")).unwrap().contains(SECRET));
}

/// What the run of `report` leaves, with sizes.
const LEFT: [(&str, u64); 6] = [
    ("make/out/deep/zeros", 300_000),
    ("make/out/none", 0),
    ("make/out/r é.csv", 4),
    ("make/out/told.txt", 0),
    ("member[a/b]/stop/left.txt", 4),
    ("member[c]/stop/left.txt", 2),
];

fn names(list: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = list.as_array().unwrap_or_else(|| panic!("{list}"));
    list.iter().map(|one| format!("{}/{}", text(&one["step"]), text(&one["name"]))).collect()
}

/// The one file below `directory` that holds the artefact with this id.
fn object(directory: &std::path::Path, id: &str) -> std::path::PathBuf {
    directory.join("file").join(id)
}

#[test]
fn what_steps_left_is_listed_and_downloaded_from_a_server() {
    let mut env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let member = windlass_app::actor::local(None).identities.remove(0);
    env.write("windlass.hcl", &DEFINITIONS.replace("TALE", "tale").replace("MEMBER", &member)).unwrap();
    env.commit("Operations").unwrap();
    let server = Server::start(&env, "");
    let arguments = json!({ "arguments": { "password": SECRET } });
    let run = run_of(&server.post("/api/v1/projects/shop/operations/report/runs", &arguments));
    assert_eq!(server.ended(&run), "succeeded");

    // The list, whole and in pages.
    let all = format!("/api/v1/runs/{run}/artefacts");
    let list = server.get(&all).json();
    assert_eq!(names(&list["items"]), LEFT.map(|(name, _)| name));
    for (one, (name, size)) in list["items"].as_array().unwrap().iter().zip(LEFT) {
        assert_eq!((&one["attempt"], &one["removed"]), (&1.into(), &Value::Null), "{one}");
        assert!(one["size"] == size || name.ends_with("told.txt"), "{one}");
    }
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    while paged.len() < LEFT.len() {
        let page = server.get(&format!("{all}?limit=4{cursor}")).json();
        paged.extend(names(&page["items"]));
        cursor = format!("&cursor={}", page["next"].as_str().unwrap_or_default());
    }
    assert_eq!(paged, LEFT.map(|(name, _)| name));

    // By name and by id, exactly as it was left, for no browser to show.
    let zeros = server.get(&format!("{all}/make/out/deep/zeros"));
    assert!(zeros.status == 200 && zeros.bytes == vec![0; 300_000]);
    let header = |name: &str| zeros.headers[name].to_str().unwrap();
    assert_eq!(
        (header("content-type"), header("content-disposition"), header("x-content-type-options")),
        ("application/octet-stream", "attachment; filename=\"zeros\"", "nosniff")
    );
    assert_eq!(header("content-length"), "300000");
    let csv = list["items"][2]["id"].as_str().unwrap();
    for name in [csv, "make/out/r%20%C3%A9.csv", "make%2Fout%2Fr%20%C3%A9.csv"] {
        let answer = server.get(&format!("{all}/{name}"));
        assert_eq!((answer.status, answer.text()), (200, "a,b\n".to_owned()), "{name}");
        assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"r--.csv\"");
    }
    let none = server.get(&format!("{all}/make/out/none"));
    assert!(none.status == 200 && none.bytes.is_empty() && none.headers["content-length"] == "0");
    assert_eq!(server.get(&format!("{all}/member%5Ba%2Fb%5D/stop/left.txt")).text(), "a/b\n");
    let told = server.get(&format!("{all}/make/out/told.txt")).text();
    assert!(told.starts_with("it is ") && !told.contains(SECRET), "{told}");

    // What is no name on record is nothing, and whoever is not signed in gets nothing.
    let other = run_of(&server.post("/api/v1/projects/shop/operations/report/runs", &json!({ "arguments": {} })));
    assert_eq!(server.ended(&other), "succeeded");
    let key = server.data.join("key");
    assert!(key.is_file());
    for name in [
        "make",
        "make/out",
        "make/out/r",
        "make/out/../out/none",
        "..%2F..%2F..%2Fkey",
        "%2e%2e/%2e%2e/key",
        "%2Fetc%2Fpasswd",
        &key.display().to_string()[1..],
        "%00",
        "%25",
        &"0".repeat(64),
    ] {
        let answer = server.get(&format!("{all}/{name}"));
        assert_eq!((answer.status, &answer.json()["code"]), (404, &"WL760".into()), "{name}");
    }
    let elsewhere = server.get(&format!("/api/v1/runs/{other}/artefacts/{csv}"));
    assert_eq!((elsewhere.status, &elsewhere.json()["code"]), (404, &"WL760".into()), "of another run");
    for path in [all.clone(), format!("{all}/{csv}")] {
        assert_eq!(server.send("GET", &path, &[], b"").status, 401);
    }

    // The terminal through the server.
    let token = server.post("/api/v1/tokens", &json!({ "name": "test", "days": 1 }));
    env.set("WINDLASS_TOKEN", token["secret"].as_str().unwrap());
    env.set("WINDLASS_URL", server.url.clone());
    expect(&env, &["artefacts", &run], 0, &["make/out/r é.csv", "300.0 kB", "member[a/b]/stop/left.txt", "Next:"]);
    saved(&env, &run);

    // One that somebody took away, and one that was changed.
    let artefacts = server.data.join("artefacts");
    std::fs::remove_file(object(&artefacts, csv)).unwrap();
    let gone = server.get(&format!("{all}/{csv}"));
    assert!(gone.status == 503 && gone.text().contains("WL890"), "{}", gone.text());
    expect(&env, &["artefacts", &format!("{run}/{csv}")], 3, &["WL890", "r é.csv"]);
    std::fs::write(object(&artefacts, list["items"][1]["id"].as_str().unwrap()), "other").unwrap();
    let changed = server.get(&format!("{all}/make/out/none"));
    assert!(changed.status == 503 && changed.text().contains("WL891"), "{}", changed.text());
    drop(server);

    // A server that keeps them for no longer than that.
    env.set("WINDLASS_HOUSEKEEPING_SECONDS", "1");
    let server = Server::start(&env, "retain_logs = \"1s\"");
    wait(|| {
        let list = server.get(&all).json();
        list["items"].as_array().unwrap().iter().all(|one| !one["removed"].is_null()).then_some(())
    });
    let gone = server.get(&format!("{all}/make/out/deep/zeros"));
    assert_eq!((gone.status, &gone.json()["code"]), (404, &"WL890".into()));
    assert!(gone.text().contains("files are kept for 1 second"), "{}", gone.text());
    env.set("WINDLASS_URL", server.url.clone());
    let told = expect(&env, &["artefacts", &run], 0, &["It was removed on", "files are kept for 1 second"]);
    assert!(!told.stdout.contains("Next:"), "{}", told.stdout);
    assert!(server.get(&format!("/api/v1/runs/{run}")).status == 200, "the run itself is kept");
}

/// Saves what the run left from the terminal, wherever that looks.
fn saved(env: &CliEnv, run: &str) {
    let list = expect(env, &["artefacts", run, "--json"], 0, &[]).stdout;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(names(&list), LEFT.map(|(name, _)| name));
    let zeros = format!("{run}/make/out/deep/zeros");
    expect(env, &["artefacts", &zeros], 0, &["Saved make/out/deep/zeros (300.0 kB) as", "zeros"]);
    assert_eq!(std::fs::read(env.root().join("zeros")).unwrap(), vec![0; 300_000]);
    expect(env, &["artefacts", &zeros], 2, &["WL761", "is there already", "--output FILE"]);
    let csv = format!("{run}/make/out/r é.csv");
    let file = env.home().join("report.csv");
    for _ in 0..2 {
        expect(env, &["artefacts", &csv, "--output", &file.display().to_string()], 0, &["Saved"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a,b\n");
    }
    assert_eq!(expect(env, &["artefacts", &csv, "--output", "-"], 0, &[]).stdout, "a,b\n");
    let by_id = format!("{run}/{}", list[4]["id"].as_str().unwrap());
    assert_eq!(expect(env, &["artefacts", &by_id, "-o", "-"], 0, &[]).stdout, "a/b\n");
    let kept = expect(env, &["artefacts", &csv, "--json", "-o", &file.display().to_string()], 0, &[]).stdout;
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), json!({ "file": "[HOME]/report.csv", "size": 4 }));
    for (name, code) in [("make/out/none/../zeros", "WL760"), ("../../../windlass.hcl", "WL760")] {
        expect(env, &["artefacts", &format!("{run}/{name}")], 2, &[code, "windlass artefacts"]);
    }
    expect(env, &["artefacts", run, "--output", "x"], 2, &["WL904", "none is named"]);
    expect(env, &["artefacts", "01nothing"], 2, &["01nothing"]);
    std::fs::remove_file(env.root().join("zeros")).unwrap();
}

#[test]
fn what_steps_left_is_saved_in_a_checkout() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let member = windlass_app::actor::local(None).identities.remove(0);
    env.write("windlass.hcl", &DEFINITIONS.replace("TALE", "tale").replace("MEMBER", &member)).unwrap();
    env.commit("Operations").unwrap();
    expect(&env, &["run", "report", "--yes"], 0, &[]);
    saved(&env, "latest");
    expect(&env, &["artefacts", "latest"], 0, &["member[c]/stop/left.txt", "Next: windlass artefacts"]);
    let list: Value = serde_json::from_str(&expect(&env, &["artefacts", "latest", "--json"], 0, &[]).stdout).unwrap();
    let id = list[0]["id"].as_str().unwrap();
    std::fs::remove_file(object(&env.root().join(".windlass/artefacts"), id)).unwrap();
    expect(&env, &["artefacts", "latest/make/out/deep/zeros"], 3, &["WL890"]);
    assert!(!env.root().join("zeros").exists(), "nothing is saved of it");
    expect(&env, &["run", "long", "--detach", "--yes"], 0, &[]);
    expect(&env, &["artefacts", "latest"], 0, &["left no artefacts"]);
}
