//! The program as a client of itself: every command that goes to a server, with its views and exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;
#[path = "remote/documentation.rs"]
mod documentation;
#[path = "remote/login.rs"]
mod login;
#[path = "remote/schedules.rs"]
mod schedules;
#[path = "remote/settling.rs"]
mod settling;
#[path = "remote/streams.rs"]
mod streams;

use common::{expect, run, wait};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use windlass_app::audit::Archive;
use windlass_app::sessions;
use windlass_app::tokens::Record;
use windlass_model::access::TokenScope;
use windlass_model::approval::Actor;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::git::Git;

struct World {
    env: CliEnv,
    git: Git,
    server: Child,
    data: std::path::PathBuf,
    url: String,
    /// Of who is signed in.
    token: String,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A stack whose state is elsewhere, as a server wants it.
fn stack(env: &CliEnv, size: u32, wait: &str) {
    let state = env.home().join("net.tfstate");
    env.write(
        "net/main.tf",
        &format!(
            "terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\nresource \"terraform_data\" \"net\" {{\n  input = \"net-{size}\"\n  provisioner \"local-exec\" {{\n    command = \"{wait}\"\n  }}\n}}\n",
            state.display()
        ),
    )
    .unwrap();
}

fn spawn(env: &CliEnv, data: &std::path::Path) -> (Child, String) {
    let config = env.home().join("windlass.toml").display().to_string();
    let data = data.display().to_string();
    let mut command = env.command(&["serve", "--listen", "127.0.0.1:0", "--config", &config, "--data", &data]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines.find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned)).unwrap();
    std::thread::spawn(move || lines.count());
    (child, url)
}

impl World {
    /// A server that follows a repository, and a checkout of that repository whose commands go there.
    fn new() -> Self {
        let mut env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        let git = env.git_init().unwrap();
        stack(&env, 1, "true");
        env.commit("Stacks").unwrap();
        let origin = env.home().join("company.git").display().to_string();
        git.run(&["clone", "--quiet", "--bare", &env.root().display().to_string(), &origin]).unwrap();
        git.run(&["remote", "add", "origin", &origin]).unwrap();
        git.run(&["fetch", "--quiet", "origin"]).unwrap();
        let config = format!(
            "admins = [\"email:ana@example.com\"]\n[[repository]]\nname = \"company\"\nurl = \"{origin}\"\nevery = 10\n"
        );
        std::fs::write(env.home().join("windlass.toml"), config).unwrap();
        let data = env.home().join("server");
        let (server, url) = spawn(&env, &data);
        env.set("WINDLASS_URL", &url);
        let mut world = Self { env, git, server, data, url, token: String::new() };
        world.sign_in("ana");
        wait(|| (run(&world.env, &["stacks"]).code == Some(0)).then_some(()));
        world
    }

    fn actor(name: &str) -> Actor {
        Actor { name: name.into(), identities: vec![format!("email:{name}@example.com")], verified: true }
    }

    fn sign_in(&mut self, name: &str) {
        let actor = Self::actor(name);
        let secret = format!("wlt_{}", sessions::secret().unwrap());
        let text = serde_json::to_string(&Record { actor: actor.clone(), scope: TokenScope::default() }).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let store = Archive::open(None, &self.data).await.unwrap().store;
            let end = store.now().await.unwrap() + 3_600_000_000;
            store.token_create(&sessions::digest(&secret), "test", &actor.to_string(), &text, end).await.unwrap();
            store.close().await;
        });
        self.env.set("WINDLASS_TOKEN", &secret);
        self.token = secret;
    }

    fn expect(&self, arguments: &[&str], code: i32, texts: &[&str]) -> String {
        expect(&self.env, arguments, code, texts).stdout
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let answer = expect(&self.env, &[arguments, &["--json"]].concat(), 0, &[]);
        serde_json::from_str(&answer.stdout).unwrap()
    }

    fn push(&self, branch: &str) {
        self.git.run(&["push", "--quiet", "origin", branch]).unwrap();
    }
}

#[test]
fn a_change_goes_from_its_branch_to_the_world() {
    let mut world = World::new();
    world.expect(&["whoami"], 0, &["ana on http://127.0.0.1:", "identities: email:ana@example.com"]);
    world.expect(&["stacks"], 0, &["net"]);
    assert_eq!(world.json(&["graph"])["instances"], serde_json::json!(["net"]));
    assert_eq!(world.json(&["show", "net"])["stack"]["id"], serde_json::json!("net"));
    world.expect(&["runs"], 0, &["No runs yet"]);

    // Only what was pushed is reviewed.
    world.git.run(&["switch", "--quiet", "-c", "feature/size"]).unwrap();
    stack(&world.env, 2, "true");
    world.env.commit("Larger").unwrap();
    world.expect(&["review"], 2, &["error[WL883]", "git push -u origin feature/size"]);
    world.push("feature/size");
    world.expect(&["review"], 0, &["net"]);
    let review = world.json(&["review", "--show"]);
    assert_eq!(review["review"]["head"]["name"], serde_json::json!("feature/size"));
    world.expect(&["approve", "--reason", "looked at it"], 0, &["Approved", "Next: windlass apply"]);
    world.expect(&["apply", "--yes"], 0, &["Applied 1 instance."]);
    assert!(world.env.home().join("net.tfstate").is_file());

    // Everything that can be read of it.
    let runs = world.json(&["runs"]);
    assert_eq!((&runs[0]["kind"], &runs[0]["state"]), (&"apply".into(), &"succeeded".into()));
    world.expect(&["runs", "latest"], 0, &["apply:net"]);
    let log = world.expect(&["logs", "latest"], 0, &["── apply:net"]);
    let step = world.expect(&["logs", "latest/apply:net", "--follow"], 0, &[]);
    assert!(!step.trim().is_empty() && log.contains(step.trim()), "{log}\n{step}");
    world.expect(&["logs", "latest/nothing"], 2, &["has no step"]);
    world.expect(&["history", "net"], 0, &["ana"]);
    world.expect(&["locks"], 0, &["Nobody holds"]);
    world.expect(&["recover"], 0, &["Nothing is quarantined"]);
    // The protected branch says something else than what was applied.
    world.expect(&["drift"], 1, &["1 instance drifted"]);
    world.expect(&["cancel", "latest"], 1, &["had ended already"]);
    world.expect(&["access", "explain", "review.apply", "net"], 0, &["review.apply"]);
    world.expect(&["audit", "log", "--kind", "run.", "--limit", "3"], 0, &["ana"]);
    world.expect(&["audit", "export", "--output", "all.jsonl"], 0, &[]);
    world.expect(&["audit", "verify", "--export", "all.jsonl"], 0, &[]);
    world.expect(&["audit", "verify"], 0, &["signed by"]);

    // Tokens are listed and ended; a token makes no other.
    world.expect(&["token", "create", "another"], 2, &["a token cannot make another one"]);
    let tokens = world.json(&["token", "list"]);
    let id = tokens[0]["id"].as_str().unwrap().to_owned();
    world.expect(&["token", "revoke", &id], 0, &["is not good any more"]);
    world.expect(&["runs"], 2, &["error[WL843]"]);

    // Somebody else sees nothing.
    world.sign_in("eve");
    world.expect(&["runs"], 2, &["error[WL882]", "you see no project"]);
    world.expect(&["runs", "--project", "company"], 2, &["error[WL841]"]);
    world.expect(&["audit", "export"], 2, &["error[WL841]"]);
    world.env.set("WINDLASS_TOKEN", "");
    world.expect(&["runs"], 2, &["error[WL884]", "windlass login http://"]);

    // A server that is not there.
    world.env.set("WINDLASS_TOKEN", "wlt_x");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.env.set("WINDLASS_URL", format!("http://{closed}"));
    let answer = world.expect(&["runs", "--json"], 3, &["error[WL880]", "cannot be reached"]);
    assert!(answer.contains("\"kind\": \"unavailable\""), "{answer}");
    // What works on files goes on.
    world.expect(&["check"], 0, &[]);
}

#[test]
fn who_stops_watching_does_not_stop_the_run() {
    let world = World::new();
    let go = world.env.home().join("go");
    world.git.run(&["switch", "--quiet", "-c", "slow"]).unwrap();
    stack(&world.env, 3, &format!("while [ ! -e {} ]; do sleep 0.1; done", go.display()));
    world.env.commit("Slow").unwrap();
    world.push("slow");
    world.expect(&["review"], 0, &[]);
    let mut client =
        world.env.command(&["apply", "--yes"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(client.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("Applying as run")));
    let state = || world.json(&["runs", "latest"]);
    wait(|| (state()["steps"][0]["state"] == "running").then_some(()));
    let status = Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert!(lines.any(|line| line.contains("goes on on the server: `windlass cancel")));
    assert_eq!(client.wait().unwrap().code(), Some(1));
    assert_eq!(state()["run"]["state"], "running");
    std::fs::write(&go, "").unwrap();
    wait(|| (state()["run"]["state"] == "succeeded").then_some(()));
}
