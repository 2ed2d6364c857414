//! The record of a server: sealed while it runs, taken out, verified, tampered with.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::{NET, env, expect, run, wait};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use windlass_app::audit::Archive;
use windlass_app::audit::keys::Keys;
use windlass_app::audit::sealer::Sealer;
use windlass_app::sessions;
use windlass_app::tokens::Record;
use windlass_model::access::TokenScope;
use windlass_model::approval::Actor;
use windlass_model::id::{RunId, StepId};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::postgres::Postgres;

const CONFIG: &str = "admins = [\"email:admin@example.com\"]\n";

/// A server that ends with the test.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(env: &CliEnv, arguments: &[&str]) -> Server {
    let mut command =
        env.command(&[&["serve", "--listen", "127.0.0.1:0", "--config", "windlass.toml"], arguments].concat());
    let mut child =
        command.env("WINDLASS_SEAL_SECONDS", "1").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines.find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned)).unwrap();
    // Nobody reads on: what the server says later must not stop it.
    std::thread::spawn(move || lines.count());
    Server { child, url }
}

fn signal(server: &Server, name: &str) {
    let status = Command::new("kill").args([name, &server.child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn world() -> CliEnv {
    let env = env(&[("net/main.tf", NET)]);
    env.write("windlass.toml", CONFIG).unwrap();
    env
}

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

/// Lets things happen, as another program that writes the same database.
fn happen(database: Option<&str>, data: &Path, count: usize) {
    block(async {
        let archive = Archive::open(database, data).await.unwrap();
        let events: Vec<_> = (0..count).map(|n| ("step.noted".to_owned(), json!({ "n": n }))).collect();
        archive.store.event_append(&RunId::new("r"), &StepId::new("s"), &events).await.unwrap();
        archive.store.close().await;
    });
}

/// What `audit verify --json` says of the record, once nothing waits for a seal.
fn sealed(env: &CliEnv, of: &[&str], at_least: u64) -> Value {
    wait(|| {
        let answer = run(env, &[&["audit", "verify", "--json"], of].concat());
        let value: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(value["intact"], json!(true), "{value}");
        let done = value["unsealed"].is_null() && value["events"].as_u64() >= Some(at_least);
        done.then_some(value)
    })
}

/// A token of somebody.
fn token(data: &Path, email: &str) -> String {
    let actor = Actor { name: email.into(), identities: vec![format!("email:{email}")], verified: true };
    let secret = format!("wlt_{}", sessions::secret().unwrap());
    let text = serde_json::to_string(&Record { actor: actor.clone(), scope: TokenScope::default() }).unwrap();
    block(async {
        let archive = Archive::open(None, data).await.unwrap();
        let end = archive.store.now().await.unwrap() + 3_600_000_000;
        let made = archive.store.token_create(&sessions::digest(&secret), "test", &actor.to_string(), &text, end).await;
        made.unwrap();
        archive.store.close().await;
    });
    secret
}

fn get(server: &Server, path: &str, token: &str) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.get(format!("{}{path}", server.url));
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call().unwrap();
    let mut text = String::new();
    answer.body_mut().as_reader().read_to_string(&mut text).unwrap();
    (answer.status().as_u16(), text)
}

#[test]
fn a_server_seals_what_happens_and_gives_it_out() {
    let env = world();
    let data = env.root().join(".windlass/server");
    expect(&env, &["audit", "verify"], 2, &["error[WL829]: no server keeps its record here", "--export FILE"]);
    let mut server = serve(&env, &[]);
    happen(None, &data, 5);
    // The server remembers its key, once the first seal is there.
    let first = wait(|| Some(sealed(&env, &[], 5)).filter(|value| value["key_source"] == "given"));
    env.write("checkpoint.json", &first["head"].to_string()).unwrap();

    // Another key, while it runs.
    let asked = expect(&env, &["audit", "rotate-key", "--json"], 0, &["ed25519:"]);
    let next: Value = serde_json::from_str(&asked.stdout).unwrap();
    let rotated = wait(|| Some(sealed(&env, &[], 6)).filter(|value| value["head"]["next_key"] == next["key"]));
    happen(None, &data, 2);
    let second = sealed(&env, &[], rotated["events"].as_u64().unwrap() + 2);
    assert_eq!(second["keys"], json!([first["keys"][0], next["key"]]));

    // Out of the server by HTTP, and out of its database: the same.
    let admin = token(&data, "admin@example.com");
    assert_eq!(get(&server, "/api/v1/audit/export", "").0, 401);
    for path in ["/api/v1/audit/export", "/api/v1/audit/seals", "/api/v1/audit/checkpoint"] {
        assert!([403, 404].contains(&get(&server, path, &token(&data, "eve@example.com")).0), "{path}");
    }
    let (status, text) = get(&server, "/api/v1/audit/export", &admin);
    assert_eq!(status, 200);
    env.write("http.jsonl", &text).unwrap();
    let key = first["keys"][0].as_str().unwrap();
    expect(
        &env,
        &["audit", "verify", "--export", "http.jsonl", "--key", key, "--checkpoint", "checkpoint.json"],
        0,
        &["Intact"],
    );
    let total = sealed(&env, &[], 0)["seals"].as_u64().unwrap();
    let page: Value = serde_json::from_str(&get(&server, "/api/v1/audit/seals?limit=1", &admin).1).unwrap();
    assert_eq!((&page["items"][0]["number"], &page["next"]), (&json!(1), &json!("1")));
    assert!(page["items"][0]["events"].is_null(), "a checkpoint has no list");
    let rest: Value = serde_json::from_str(&get(&server, "/api/v1/audit/seals?cursor=1", &admin).1).unwrap();
    assert!(rest["items"].as_array().unwrap().len() as u64 >= total - 1 && rest["next"].is_null());
    let head: Value = serde_json::from_str(&get(&server, "/api/v1/audit/checkpoint", &admin).1).unwrap();
    assert!(head["head"]["number"].as_u64().unwrap() >= total);

    // What happens until it stops is sealed before it has ended.
    happen(None, &data, 3);
    signal(&server, "-TERM");
    assert!(server.child.wait().unwrap().success());
    let last = sealed(&env, &[], 0);
    expect(&env, &["audit", "export", "--output", "all.jsonl"], 0, &[]);
    expect(&env, &["audit", "verify", "--export", "all.jsonl"], 0, &["Intact", "warning[WL823]"]);
    assert_eq!(
        last["events"].as_u64().unwrap(),
        std::fs::read_to_string(env.root().join("all.jsonl")).unwrap().lines().count() as u64
            - 1
            - last["seals"].as_u64().unwrap()
    );

    // Who took it out stands in it.
    expect(&env, &["audit", "log", "--kind", "audit.exported"], 0, &["admin@example.com", "audit record"]);
    expect(&env, &["audit", "log", "--actor", "nobody"], 0, &["Nothing that was recorded"]);
    let answer = expect(&env, &["audit", "log", "--kind", "step.", "--since", "1h", "--limit", "4", "--json"], 0, &[]);
    let list: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 4);
    let early = expect(&env, &["audit", "log", "--to", "2020-01-01", "--json"], 0, &[]);
    assert_eq!(early.stdout.trim(), "[]");
    expect(&env, &["audit", "log", "--from", "soon"], 2, &["not a time"]);
}

/// Three seals of two events each, and one event that waits.
fn record(data: &Path) {
    std::fs::create_dir_all(data).unwrap();
    std::fs::write(data.join("windlass.db"), "").unwrap();
    for _ in 0..3 {
        happen(None, data, 2);
        block(async {
            let archive = Archive::open(None, data).await.unwrap();
            Sealer::new(archive.store.clone(), Keys::of(data)).seal().await.unwrap();
            archive.store.close().await;
        });
    }
    happen(None, data, 1);
}

#[test]
fn every_kind_of_tampering_is_named() {
    let env = world();
    let data = env.root().join("data");
    record(&data);
    expect(
        &env,
        &["audit", "verify", "--data", "data"],
        0,
        &["Intact up to event 6, by seal 3", "Not sealed yet: 1 event"],
    );
    let check = |sql: &str, code: &str, text: &str| {
        let copy = env.root().join("copy");
        let _ = std::fs::remove_dir_all(&copy);
        std::fs::create_dir(&copy).unwrap();
        for name in ["windlass.db", "audit-key.pk8", "audit-trust.json"] {
            std::fs::copy(data.join(name), copy.join(name)).unwrap();
        }
        rusqlite::Connection::open(copy.join("windlass.db")).unwrap().execute_batch(sql).unwrap();
        let answer = run(&env, &["audit", "verify", "--data", "copy"]);
        let all = format!("{}{}", answer.stdout, answer.stderr);
        assert!(all.contains(&format!("error[{code}]: {text}")), "{sql}\n{all}");
        assert_eq!(answer.code, Some(1), "{sql}\n{all}");
    };
    let columns = "project, run, step, kind, subject, data, actor, reason, correlation, at";
    let copied =
        |id: i64| format!("INSERT INTO events (id, {columns}) SELECT {id}, {columns} FROM events WHERE id = 2");
    for (column, value) in [
        ("project", "'other'"),
        ("run", "'other'"),
        ("step", "NULL"),
        ("kind", "'step.other'"),
        ("subject", "'x'"),
        ("data", "'{\"n\":2}'"),
        ("data", "'no json'"),
        ("actor", "'eve'"),
        ("reason", "'because'"),
        ("correlation", "'c'"),
        ("at", "at + 1"),
    ] {
        check(&format!("UPDATE events SET {column} = {value} WHERE id = 3"), "WL825", "event 3 (step.noted");
    }
    check("UPDATE events SET at = 'noon' WHERE id = 3", "WL825", "the event after event 2 was changed");
    check("DELETE FROM events WHERE id = 4", "WL825", "event 4 (step.noted");
    check("DELETE FROM events WHERE id = 1", "WL825", "event 1 (step.noted");
    check("DELETE FROM events", "WL825", "event 1 (step.noted");
    check("UPDATE events SET id = 100 WHERE id = 3", "WL825", "event 3 (step.noted");
    check("UPDATE events SET id = -1 WHERE id = 2", "WL825", "event");
    check(
        "UPDATE events SET id = 50 WHERE id = 2; UPDATE events SET id = 2 WHERE id = 3; UPDATE events SET id = 3 WHERE id = 50",
        "WL825",
        "event 2 (step.noted",
    );
    check(&copied(0), "WL825", "event 0 (step.noted");
    check(
        &format!("UPDATE events SET id = 8 WHERE id = 7; UPDATE events SET id = 7 WHERE id = 6; {}", copied(6)),
        "WL825",
        "event 6",
    );
    check("DELETE FROM seals WHERE number = 2", "WL826", "seal 2 is missing");
    check("DELETE FROM seals WHERE number = 1", "WL826", "seal 1 is missing");
    check("DELETE FROM seals WHERE number = 3", "WL827", "the end of the log was cut off");
    check(
        "DELETE FROM seals WHERE number = 3; DELETE FROM events WHERE id > 4",
        "WL827",
        "the end of the log was cut off",
    );
    check("DELETE FROM seals; DELETE FROM events", "WL827", "the end of the log was cut off");
    check("UPDATE seals SET body = 'x' WHERE number = 2", "WL826", "seal 2 was altered");
    check("UPDATE seals SET body = 'x' WHERE number = 3", "WL826", "seal 3 was altered");
    check("UPDATE seals SET last = 3 WHERE number = 2", "WL826", "seal 2 was altered");
    check(
        "UPDATE seals SET body = replace(body, 'step.noted', 'step.taken') WHERE number = 2",
        "WL826",
        "seal 2 was altered",
    );
    check("UPDATE seals SET number = 4 WHERE number = 3", "WL826", "seal");
    check(
        "UPDATE seals SET body = (SELECT body FROM seals WHERE number = 1) WHERE number = 2",
        "WL826",
        "seal 2 was altered",
    );

    // Written anew as a whole by somebody who has no key of ours: their own fits, and it is not the one that is remembered.
    let forged = env.root().join("forged");
    record(&forged);
    std::fs::copy(data.join("audit-trust.json"), forged.join("audit-trust.json")).unwrap();
    let answer = run(&env, &["audit", "verify", "--data", "forged", "--json"]);
    assert_eq!(answer.code, Some(1), "{}{}", answer.stdout, answer.stderr);
    assert!(answer.stdout.contains("WL826") && answer.stdout.contains("is of another log"), "{}", answer.stdout);
}

#[test]
fn a_server_that_was_killed_while_it_sealed_goes_on() {
    let env = world();
    let data = env.root().join(".windlass/server");
    drop(serve(&env, &[]));
    happen(None, &data, 60_000);
    let database = data.join("windlass.db");
    let seals = || -> i64 {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.query_row("SELECT COUNT(*) FROM seals", [], |row| row.get(0)).unwrap()
    };
    for most in [1, 4, 8] {
        let server = serve(&env, &[]);
        wait(|| (seals() >= most).then_some(()));
        signal(&server, "-KILL");
    }
    assert!(seals() < 16, "it was not killed in the middle");
    let _server = serve(&env, &[]);
    let value = sealed(&env, &[], 60_000);
    assert_eq!(value["seals"].as_i64().unwrap(), seals());
}

#[test]
fn two_servers_of_one_database_seal_one_chain() {
    let env = world();
    let postgres = Postgres::start().unwrap();
    let url = postgres.url();
    let path = |name: &str| -> PathBuf { env.root().join(name) };
    let of = |name: &'static str| ["--database", url.as_str(), "--data", name];
    let first = serve(&env, &of("a"));
    happen(Some(&url), &path("a"), 10);
    sealed(&env, &of("a"), 10);
    // They need one key for what is kept, and may have another one each for the audit record.
    std::fs::create_dir(path("b")).unwrap();
    std::fs::copy(path("a/key"), path("b/key")).unwrap();
    let _second = serve(&env, &of("b"));
    // Without the key of the record the other one does not seal; with it, it takes over.
    std::fs::copy(path("a/audit-key.pk8"), path("b/audit-key.pk8")).unwrap();
    happen(Some(&url), &path("a"), 10);
    sealed(&env, &of("a"), 20);
    signal(&first, "-KILL");
    happen(Some(&url), &path("a"), 10);
    let value = sealed(&env, &of("b"), 30);
    assert_eq!(value["keys"].as_array().unwrap().len(), 1);
    expect(&env, &["audit", "verify", "--database", &url, "--data", "a"], 0, &["Intact"]);
}
