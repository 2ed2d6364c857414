//! Backups, restores and moves, as people do them with the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::postgres::Postgres;

fn reviewed() -> CliEnv {
    let env = env(&[("net/main.tf", NET)]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    env
}

fn json(env: &CliEnv, arguments: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&expect(env, &all, 0, &[]).stdout).unwrap()
}

fn rows(value: &serde_json::Value, table: &str) -> u64 {
    let all = value["rows"].as_array().unwrap();
    all.iter().find(|row| row[0] == table).unwrap()[1].as_u64().unwrap()
}

#[test]
fn a_backup_is_checked_and_restored() {
    let env = reviewed();
    let before = run(&env, &["runs", "--json"]).stdout;
    let made = json(&env, &["backup", "--output", "one.backup"]);
    assert_eq!((made["file"].as_str(), rows(&made, "runs")), (Some("one.backup"), 1));
    let file = env.root().join("one.backup");
    assert_eq!(made["bytes"].as_u64(), Some(file.metadata().unwrap().len()));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    expect(&env, &["backup", "--output", "one.backup"], 2, &["WL850", "is there already"]);
    expect(&env, &["restore", "--check", "one.backup"], 0, &["A whole backup", "1 run, 1 review"]);

    // Another run comes, and the restore takes it away again.
    expect(&env, &["review", "--all"], 0, &["net  changed"]);
    expect(&env, &["restore", "one.backup"], 2, &["WL628", "not empty", "--replace"]);
    expect(&env, &["restore", "one.backup", "--replace"], 0, &["Restored", "1 run, 1 review"]);
    assert_eq!(run(&env, &["runs", "--json"]).stdout, before);
    expect(&env, &["review", "--show"], 0, &["Ready to apply"]);

    // A file that was cut changes nothing.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(env.root().join("cut.backup"), &bytes[..bytes.len() / 2]).unwrap();
    for arguments in [&["restore", "--check", "cut.backup"][..], &["restore", "cut.backup", "--replace"]] {
        expect(&env, arguments, 2, &["WL629", "the end of it is missing"]);
    }
    expect(&env, &["restore", "none.backup"], 2, &["WL850", "none.backup"]);
    assert_eq!(run(&env, &["runs", "--json"]).stdout, before);

    // Without a name it gets one, and a failed one leaves nothing.
    expect(&env, &["backup"], 0, &["Backed up", "in windlass-2", "1 run, 1 review"]);
    expect(&env, &["backup", "--output", "no.backup", "--database", "nothing.db"], 2, &["WL623", "nothing.db"]);
    let names = std::fs::read_dir(env.root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut backups: Vec<String> = names.filter(|name| name.contains("backup")).collect();
    backups.sort();
    assert_eq!(backups.len(), 3, "{backups:?}");
}

#[test]
fn a_backup_goes_through_a_pipe() {
    let mut env = reviewed();
    let out = env.command(&["backup", "--output", "-"]).output().unwrap();
    assert!(out.status.success() && String::from_utf8_lossy(&out.stderr).contains("Backed up"));
    let mut restore = env.command(&["restore", "-", "--database", "other.db"]);
    let mut child = restore.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &out.stdout).unwrap();
    assert!(child.wait().unwrap().success());
    env.set("WINDLASS_DATABASE", "other.db");
    assert_eq!(rows(&json(&env, &["backup", "--output", "two.backup"]), "reviews"), 1);
}

#[test]
fn the_record_moves_to_postgres_and_back() {
    let env = reviewed();
    let before = run(&env, &["runs", "--json"]).stdout;
    let server = Postgres::start().unwrap();
    let url = server.url();
    let moved = json(&env, &["database", "move", "--to", &url]);
    assert_eq!((rows(&moved, "runs"), moved["to"].as_str()), (1, Some("postgres at 127.0.0.1")));
    expect(&env, &["database", "move", "--to", &url], 2, &["WL628", "postgres at 127.0.0.1"]);
    expect(&env, &["backup", "--output", "pg.backup", "--database", &url], 0, &["1 run, 1 review"]);
    std::fs::remove_dir_all(env.root().join(".windlass")).unwrap();
    expect(&env, &["database", "move", "--from", &url, "--to", ".windlass/windlass.db"], 0, &["Moved postgres at"]);
    assert_eq!(run(&env, &["runs", "--json"]).stdout, before);
    drop(server);
    expect(&env, &["backup", "--database", &url], 3, &["WL626", "cannot be reached"]);
    expect(&env, &["backup", "--database", "postgres://:x:y"], 3, &["WL626"]);
}
