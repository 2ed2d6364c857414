//! A server as whoever keeps it sees it: probes, metrics, logs, stops; and workers beside it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::program::{Program, get};
use common::wait;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::postgres::Postgres;

fn repository() -> CliEnv {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let state = env.home().join("state.tfstate");
    let stack = format!(
        "terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\nresource \"terraform_data\" \"net\" {{}}\n",
        state.display()
    );
    env.write("net/main.tf", &stack).unwrap();
    env.commit("Stack").unwrap();
    env
}

#[test]
fn a_server_says_how_it_is() {
    let env = repository();
    let mut server = Program::start(&env, &["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    let url = server.says("Listening on ");
    assert_eq!(get(&format!("{url}/healthz"), &[]), (200, "ok\n".into()));
    let ready = wait(|| Some(get(&format!("{url}/readyz"), &[])).filter(|(status, _)| *status == 200)).1;
    assert!(ready.contains("\"1 loaded\""), "{ready}");

    let (status, metrics) = get(&format!("{url}/metrics"), &[]);
    assert_eq!(status, 200, "{metrics}");
    assert!(metrics.contains("windlass_database_up 1\n"), "{metrics}");
    assert!(metrics.contains("windlass_workers{label=\"\"} 1\n"), "{metrics}");
    assert!(metrics.contains("windlass_repository_bad_definitions{project=\"repo\"} 0\n"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let (status, refused) = get(&format!("{url}/metrics"), &["X-Forwarded-For: 192.0.2.1"]);
    assert_eq!((status, refused.contains("WL843")), (401, true), "{refused}");
    assert_eq!(get(&format!("{url}/api/v1/workers"), &[]).0, 401);

    // A path that nobody answers may hold anything: it is not told, and neither are queries.
    get(&format!("{url}/nothing/p4ssw0rd?code=s3cr3t"), &[]);
    get(&format!("{url}/api/v1/projects/repo/runs?cursor=s3cr3t"), &[]);
    let line = server.says("/api/v1/projects/{project}/runs");
    assert!(line.contains("\"status\":401"), "{line}");
    let all = server.all();
    assert!(!all.contains("s3cr3t") && !all.contains("p4ssw0rd"), "{all}");
    let lines = all.lines().filter(|line| line.contains("windlass::http"));
    let logged: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(logged.iter().all(|line| line["correlation"].as_str().is_some_and(|id| id.len() == 26)), "{all}");

    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "{}", server.all());
}

#[test]
fn a_server_that_others_reach_without_tls_warns() {
    let env = repository();
    let server = Program::start(&env, &["serve", "--listen", "0.0.0.0:0"]);
    server.says("nothing says that TLS is before it");
}

#[test]
fn doctor_says_what_a_server_lacks() {
    let env = repository();
    let bare = env.root().display().to_string();
    let write = |url: &str| {
        let data = env.home().join("data");
        let text = format!("data = \"{}\"\n[[repository]]\nname = \"infra\"\nurl = \"{url}\"\n", data.display());
        std::fs::write(env.home().join("windlass.toml"), text).unwrap();
    };
    let config = env.home().join("windlass.toml").display().to_string();
    write(&bare);
    let answer = env.run(&["doctor", "--config", &config]).unwrap();
    assert!(answer.stdout.contains("✓ repository infra") && answer.stdout.contains("✓ data directory"), "{answer:?}");
    write("/nowhere/at/all");
    let answer = env.run(&["doctor", "--config", &config]).unwrap();
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stdout.contains("✗ repository infra"), "{answer:?}");
}

/// The value of a metric.
fn metric(url: &str, name: &str) -> Option<String> {
    let (_, text) = get(&format!("{url}/metrics"), &[]);
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let env = repository();
    let server = Program::start(&env, &["serve", "--listen", "127.0.0.1:0"]);
    server.says("Listening on ");
    let second = env.run(&["serve", "--listen", "127.0.0.1:0"]).unwrap();
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains("WL627") && second.stderr.contains("another server (process "), "{second:?}");
}

#[test]
fn a_worker_joins_and_leaves() {
    let env = repository();
    let postgres = Postgres::start().unwrap();
    let database = postgres.database("windlass");
    let (data, config) = (env.home().join("worker"), env.home().join("windlass.toml"));
    let text =
        format!("database = \"{database}\"\n[[repository]]\nname = \"infra\"\nurl = \"{}\"\n", env.root().display());
    std::fs::write(&config, text).unwrap();
    let (config, data_text) = (config.display().to_string(), data.display().to_string());
    let server = Program::start(&env, &["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    let url = server.says("Listening on ");
    let arguments = ["worker", "--label", "gpu", "--config", &config, "--data", &data_text];
    let refused = env.run(&arguments).unwrap();
    assert!(refused.code == Some(2) && refused.stderr.contains("WL909"), "{refused:?}");

    std::fs::create_dir(&data).unwrap();
    std::fs::copy(env.root().join(".windlass/server/key"), data.join("key")).unwrap();
    let mut worker = Program::start(&env, &arguments);
    worker.says("Working for ");
    wait(|| metric(&url, "windlass_workers{label=\"gpu\"}").filter(|count| count == "1"));
    assert_eq!(metric(&url, "windlass_workers{label=\"\"}").as_deref(), Some("1"), "the server alone");
    worker.signal("-TERM");
    assert_eq!(worker.code(), Some(0), "{}", worker.all());
    wait(|| metric(&url, "windlass_workers{label=\"gpu\"}").is_none().then_some(()));
}
