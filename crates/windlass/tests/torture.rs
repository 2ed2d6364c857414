//! Kills at every moment of an apply over several backends. Whatever is killed, nothing that was made is lost without being
//! listed, nothing is made a second time without somebody asking for it, and no foreign lock is broken.
//!
//! The normal run takes a sample; `WINDLASS_TORTURE=N` takes N kill points of the same sequence (`cargo xtask torture`).

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::postgres::Postgres;
use windlass_testkit::state_server::StateServer;
use windlass_testkit::synthetic::Random;

const RESOURCES: usize = 3;

/// A stack whose resources note in `made.log` when they are made, one after the other.
fn stack(backend: &str) -> String {
    let mut text = format!("terraform {{\n{backend}\n}}\n");
    let mut before = String::new();
    for n in 1..=RESOURCES {
        text.push_str(&format!("resource \"terraform_data\" \"r{n}\" {{\n{before}  provisioner \"local-exec\" {{\n    command = \"sleep 0.05; echo r{n} >> ../made.log; sleep 0.05\"\n  }}\n}}\n"));
        before = format!("  depends_on = [terraform_data.r{n}]\n");
    }
    text
}

fn pull(env: &CliEnv) -> BTreeSet<String> {
    let mut command = std::process::Command::new(windlass_testkit::cli::terraform().unwrap());
    command.args(["state", "pull"]).current_dir(env.root().join("net")).env("CHECKPOINT_DISABLE", "1");
    command.env("TF_DATA_DIR", env.root().join(".windlass/terraform/net")).env("TF_CLI_CONFIG_FILE", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let state = serde_json::from_slice(&output.stdout).unwrap_or_default();
    windlass_model::journal::addresses(&state).into_keys().collect()
}

/// What the apply has said so far, straight from the file it writes to.
fn said(env: &CliEnv) -> usize {
    let files = walk(&env.root().join(".windlass/runs"));
    let content = files.iter().filter(|f| f.ends_with(".out")).map(|f| std::fs::read_to_string(f).unwrap_or_default());
    content.map(|text| text.matches("\"type\":\"apply_").count()).sum()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Windlass,
    Terraform,
    Both,
}

fn terraform_of(root: &Path) -> Option<i32> {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let directory: PathBuf = entry.path();
        let command = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        let place = std::fs::read_link(directory.join("cwd")).unwrap_or_default();
        if place.starts_with(root) && String::from_utf8_lossy(&command).contains("apply\0-json") {
            return entry.file_name().to_string_lossy().parse().ok();
        }
    }
    None
}

fn kill(pid: i32) {
    let _ = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
}

/// Kills `victim` once the apply has said `moment` things about resources, and checks what must hold.
fn one(backend: &str, server: Option<(&StateServer, &str)>, victim: Victim, moment: usize) {
    let what =
        format!("{victim:?} killed after {moment} events over {}", backend.trim().lines().next().unwrap_or_default());
    let env = env(&[("net/main.tf", &stack(backend))]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut child = start(&env, &["apply", "--yes"]);
    wait(|| (said(&env) >= moment || child.try_wait().unwrap().is_some()).then_some(()));
    let terraform = terraform_of(&env.root());
    if victim != Victim::Terraform {
        child.kill().unwrap();
    }
    if victim != Victim::Windlass {
        terraform.into_iter().for_each(kill);
    }
    child.wait().unwrap();
    // Whoever drives a run next recovers what was left.
    let state = |env: &CliEnv| {
        let answer = run(env, &["runs", "latest", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        value["run"]["state"].as_str().unwrap_or_default().to_owned()
    };
    if matches!(state(&env).as_str(), "running" | "queued" | "waiting") {
        run(&env, &["resume"]);
    }
    // A provisioner that outlived a killed terraform is done by now, or was killed with its group.
    let made_now = made(&env);
    let unique: BTreeSet<&String> = made_now.iter().collect();
    assert_eq!(unique.len(), made_now.len(), "{what}: made twice without being asked: {made_now:?}");
    let listed = run(&env, &["recover", "net", "--json"]).stdout;
    let present = pull(&env);
    for name in &made_now {
        let address = format!("terraform_data.{name}");
        assert!(
            present.contains(&address) || listed.contains(&address),
            "{what}: {address} was made and is nowhere\n{listed}"
        );
    }
    if let Some(lock) = server.and_then(|(server, name)| server.lock(name)) {
        // Nothing proved that it is ours: it is listed, and a person breaks it.
        let id = lock["ID"].as_str().unwrap();
        assert!(listed.contains(id), "{what}: our dead lock is left, and not listed");
        expect(&env, &["recover", "net", "--force-unlock", "other"], 1, &["WL656"]);
        expect(&env, &["recover", "net", "--force-unlock", id], 0, &["broken"]);
    }
    // A person looks, and asks for the rest.
    let quarantined = run(&env, &["recover"]).code == Some(1);
    if quarantined {
        expect(&env, &["recover", "net", "--release", "--why", "looked at it"], 0, &[]);
    }
    if state(&env) == "waiting" {
        run(&env, &["resume", "--settle", "apply:net=repeat"]);
    }
    if state(&env) != "succeeded" || !is_apply(&env) {
        expect(&env, &["review", "--all"], 0, &[]);
        expect(&env, &["apply", "--yes"], 0, &[]);
    }
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
    assert_eq!(pull(&env).len(), RESOURCES, "{what}");
    if !quarantined {
        assert_eq!(made(&env).len(), RESOURCES, "{what}: {:?}", made(&env));
    }
}

#[test]
fn nothing_is_lost_wherever_it_is_killed() {
    let points: usize = std::env::var("WINDLASS_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(9);
    let server = StateServer::start().unwrap();
    let postgres = Postgres::start().unwrap();
    let mut random = Random::new(20_261_121);
    for point in 0..points {
        let victim = [Victim::Windlass, Victim::Terraform, Victim::Both][point % 3];
        let moment = random.below(2 * RESOURCES + 1);
        let name = format!("point-{point}");
        match (point / 3) % 3 {
            0 => one(&server.backend(&name), Some((&server, &name)), victim, moment),
            1 => one("  backend \"local\" {}", None, victim, moment),
            _ => {
                let (url, schema) = (postgres.url(), format!("point_{point}"));
                let backend =
                    format!("  backend \"pg\" {{\n    conn_str    = \"{url}\"\n    schema_name = \"{schema}\"\n  }}");
                one(&backend, None, victim, moment);
            }
        }
        eprintln!("{}/{points}", point + 1);
    }
}

#[test]
fn a_foreign_lock_is_shown_and_never_broken() {
    let server = StateServer::start().unwrap();
    let env = env(&[("net/main.tf", &stack(&server.backend("net")))]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let foreign = serde_json::json!({ "ID": "f00", "Operation": "OperationTypeApply", "Who": "somebody@elsewhere", "Version": "1.11.4", "Created": "2026-11-21T00:00:00Z", "Path": "", "Info": "" });
    server.set_lock("net", Some(foreign.clone()));
    let mut env = env;
    env.set("WINDLASS_LOCK_TIMEOUT", "1s");
    expect(&env, &["apply", "--yes"], 1, &["WL504"]);
    assert_eq!(server.lock("net"), Some(foreign));
    server.set_lock("net", None);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
}

#[test]
fn a_state_that_cannot_be_written_is_kept_and_pushed() {
    let server = StateServer::start().unwrap();
    let env = env(&[("net/main.tf", &stack(&server.backend("net")))]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    server.fail_writes(true);
    expect(&env, &["apply", "--yes"], 1, &["net is quarantined", "windlass recover net"]);
    expect(&env, &["recover", "net"], 1, &["terraform could not write its state", "windlass recover net --push"]);
    expect(&env, &["recover", "net", "--push"], 1, &[]);
    server.fail_writes(false);
    expect(&env, &["recover", "net", "--push"], 0, &["Pushed"]);
    expect(&env, &["recover", "net", "--release", "--why", "pushed"], 0, &[]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
    assert_eq!(made(&env).len(), RESOURCES);
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that has ended meanwhile stays a zombie until it is waited for.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z']))
}

/// Whether a process is writing into a database: SQLite's lock for that is byte 120 of the shared index of the log.
fn holds_the_database(pid: u32) -> bool {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let (pid, end) = (format!(" {pid} "), " 120 120");
    locks.lines().any(|line| line.contains(" WRITE ") && line.contains(&pid) && line.ends_with(end))
}

/// A worker that was stopped for longer than its lease and wakes up again writes nothing any more.
#[test]
fn a_worker_that_slept_through_its_lease_is_refused() {
    let mut env = env(&[("net/main.tf", &stack("  backend \"local\" {}"))]);
    env.set("WINDLASS_LEASE", "1");
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut old = start(&env, &["apply", "--yes"]);
    wait(|| (said(&env) >= 1 || old.try_wait().unwrap().is_some()).then_some(()));
    let signal = |name: &str| {
        let pid = old.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    // One that is stopped within a transaction holds up everybody who writes: that is not what is looked at here.
    wait(|| {
        signal("-STOP");
        wait(|| is_stopped(old.id()).then_some(()));
        let between = !holds_the_database(old.id());
        if !between {
            signal("-CONT");
        }
        between.then_some(())
    });
    let events = |env: &CliEnv| {
        let answer = run(env, &["runs", "latest", "--json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()
    };
    // Once the lease is over, another worker takes the step: what the sleeper started is done by then.
    expect(&env, &["resume"], 0, &["Applied"]);
    let settled = events(&env);
    assert_eq!(terraform_of(&env.root()), None);
    signal("-CONT");
    assert_eq!(old.wait().unwrap().code(), Some(0));
    assert_eq!(events(&env), settled, "the sleeper wrote after it had lost its step");
    assert_eq!(made(&env), ["r1", "r2", "r3"]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
}

/// An operation that applies a stack is killed while a resource is made. Where terraform lived on it is stopped in good order, and the
/// step goes on by itself; where it was killed, too, nobody knows what became of the resource, and a person looks.
#[test]
fn an_operation_that_applies_is_killed_and_goes_on_or_asks() {
    const GROW: &str = "operation \"grow\" {\n  step \"apply\" {\n    locks = [\"stack:net\"]\n    terraform {\n      stack   = \"net\"\n      \
                        command = \"apply\"\n    }\n  }\n}\n";
    let killed = |victim: Victim| {
        // Long enough to be met in the middle.
        let stack = stack("  backend \"local\" {}").replace("sleep 0.05; echo", "sleep 1; echo");
        let env = env(&[("net/main.tf", &stack), ("windlass.hcl", GROW)]);
        let mut child = start(&env, &["run", "grow", "--yes"]);
        // The first one was made, and the second one is begun.
        wait(|| (made(&env).len() == 1 && said(&env) >= 3).then_some(()));
        let terraform = terraform_of(&env.root()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if victim == Victim::Both {
            kill(terraform);
        }
        env
    };
    let env = killed(Victim::Windlass);
    expect(&env, &["resume"], 0, &["apply"]);
    assert_eq!(made(&env), ["r1", "r2", "r3"]);
    let all = ["terraform_data.r1", "terraform_data.r2", "terraform_data.r3"].map(str::to_owned);
    assert_eq!(pull(&env), BTreeSet::from(all.clone()));
    expect(&env, &["recover"], 0, &["Nothing is quarantined"]);

    let env = killed(Victim::Both);
    expect(&env, &["resume"], 1, &["WL651", "terraform_data.r2"]);
    expect(&env, &["recover"], 1, &["net", "terraform_data.r2"]);
    assert_eq!(pull(&env), BTreeSet::from([all[0].clone()]));
    expect(&env, &["run", "grow", "--yes"], 1, &["net"]);
    assert!(!made(&env).contains(&"r3".to_owned()), "nothing is applied before somebody has looked");
    expect(&env, &["recover", "net", "--release", "--why", "r2 is not there"], 0, &[]);
    expect(&env, &["run", "grow", "--yes"], 0, &[]);
    assert_eq!(pull(&env), BTreeSet::from(all));
}
