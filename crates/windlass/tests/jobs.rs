//! Steps of operations that are Kubernetes Jobs: the real program, and a cluster that really runs what it is given.

#![cfg(feature = "kubernetes")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::kubernetes::Kubernetes;

/// They find each other's files below `TALE`: nothing separates a pod of this cluster from the machine.
const OPERATIONS: &str = r#"
operation "report" {
  step "make" {
    job {
      image       = "registry.test/tools:1"
      environment = { WHERE = "inside" }
      run         = ["sh", "-ec", "echo where=$WHERE; echo to the log >&2"]
    }
    outputs = "key_value"
  }
  step "use" { run = ["test", "${step.make.outputs.where}", "=", "inside"] }
}
operation "long" {
  step "wait" {
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-c", "touch TALE.begun; trap 'touch TALE.ended; exit 1' INT TERM; while :; do sleep 0.1; done"]
    }
  }
}
operation "again" {
  step "wait" {
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-ec", "echo x >>TALE.begins; while [ ! -e TALE.go ]; do sleep 0.1; done; echo x >>TALE.ends"]
    }
    repeat = "idempotent"
  }
}
"#;

struct Story {
    env: CliEnv,
    kubernetes: Kubernetes,
    _runtime: Runtime,
}

impl Story {
    /// With the rights of the role that ships.
    fn new() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/kubernetes/runner-role.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut documents = yaml_serde::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap());
        let role = documents.find(|document| document["kind"] == "Role").unwrap();
        let runtime = Runtime::new().unwrap();
        let kubernetes = runtime.block_on(Kubernetes::start(role["rules"].as_array().unwrap().clone())).unwrap();
        let mut env = env(&[]);
        let tale = env.home().join("tale").display().to_string();
        env.write("windlass.hcl", &OPERATIONS.replace("TALE", &tale)).unwrap();
        env.commit("Operations").unwrap();
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": kubernetes.url() } }],
            "users": [{ "name": "test", "user": {} }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "ops" } }],
        });
        let file = env.home().join("kubeconfig");
        std::fs::write(&file, config.to_string()).unwrap();
        env.set("KUBECONFIG", file);
        Self { env, kubernetes, _runtime: runtime }
    }

    fn tale(&self, name: &str) -> PathBuf {
        self.env.home().join(format!("tale.{name}"))
    }

    fn has(&self, name: &str) -> bool {
        self.tale(name).exists()
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.tale(name)).unwrap_or_default().lines().count()
    }

    /// Nothing of it is in the cluster any more.
    fn none_left(&self) {
        wait(|| (self.kubernetes.running() == 0).then_some(()));
        for kind in ["jobs", "pods", "secrets"] {
            wait(|| self.kubernetes.objects(kind).is_empty().then_some(()));
        }
    }
}

#[test]
fn a_job_ends_well() {
    let story = Story::new();
    let env = &story.env;
    expect(env, &["run", "report", "--yes"], 0, &[]);
    expect(env, &["logs", "latest/make"], 0, &["to the log"]);
    // What ended by itself stays until the cluster removes it.
    wait(|| (story.kubernetes.running() == 0).then_some(()));
}

#[test]
fn a_job_is_cancelled_and_killed() {
    let story = Story::new();
    let env = &story.env;
    for kill in [false, true] {
        for name in ["begun", "ended"] {
            let _ = std::fs::remove_file(story.tale(name));
        }
        let mut child = start(env, &["run", "long", "--yes"]);
        wait(|| story.has("begun").then_some(()));
        assert_eq!(story.kubernetes.running(), 1);
        let arguments: &[&str] = if kill { &["cancel", "latest", "--kill"] } else { &["cancel", "latest"] };
        expect(env, arguments, 0, &[]);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        story.none_left();
        assert!(kill || story.has("ended"), "it is asked to end before it is made to");
        expect(env, &["runs", "latest"], 0, &["cancelled"]);
    }
}

#[test]
fn a_job_whose_worker_was_lost_is_ended_before_the_next_begins() {
    let story = Story::new();
    let env = &story.env;
    let mut child = start(env, &["run", "again", "--yes"]);
    wait(|| (story.lines("begins") == 1).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(story.kubernetes.running(), 1, "it does not notice");
    let mut resumed = start(env, &["resume", "latest"]);
    wait(|| (story.lines("begins") == 2).then_some(()));
    wait(|| (story.kubernetes.running() == 1).then_some(()));
    std::fs::write(story.tale("go"), "").unwrap();
    assert_eq!(resumed.wait().unwrap().code(), Some(0));
    assert_eq!(story.lines("ends"), 1, "the first was dead");
    expect(env, &["runs", "latest"], 0, &["succeeded"]);
    wait(|| (story.kubernetes.running() == 0).then_some(()));
}
