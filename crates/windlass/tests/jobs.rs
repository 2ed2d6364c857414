//! Steps of operations that are Kubernetes Jobs: the real program, and a cluster that really runs what it is given.

#![cfg(feature = "kubernetes")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::{Server, run_of};
use common::*;
use serde::Deserialize;
use serde_json::{Value, json};
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
operation "flaky" {
  step "try" {
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-c", "echo x >>TALE.begins; echo attempt $WINDLASS_ATTEMPT is broken; [ $WINDLASS_ATTEMPT = 3 ] || exit 4"]
    }
    retry {
      attempts = 3
      backoff  = "100ms"
    }
  }
}
operation "hopeless" {
  param "status" { type = number }
  step "try" {
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-c", "echo x >>TALE.begins; echo no such ledger >&2; exit ${param.status}"]
    }
    give_up = [2]
    success = [0, 5]
    retry {
      attempts = 2
      backoff  = "100ms"
    }
  }
}
operation "greedy" {
  step "try" {
    job {
      image  = "registry.test/tools:1"
      memory = "40MiB"
      run    = ["sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); sleep 600"]
    }
  }
}
operation "patient" {
  step "wait" {
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-ec", "echo x >>TALE.begins; while [ ! -e TALE.go ]; do sleep 0.1; done; echo x >>TALE.ends"]
    }
    retry {
      attempts = 2
      backoff  = "100ms"
    }
  }
}
operation "late" {
  param "image" {
    type    = string
    default = "registry.test/tools:1"
  }
  step "wait" {
    job {
      image = param.image
      run   = ["sh", "-c", "trap 'touch TALE.ended; exit 1' TERM; touch TALE.begun; while :; do sleep 0.1; done"]
    }
    timeout = "3s"
  }
}
operation "once" {
  step "wait" {
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-ec", "echo x >>TALE.begins; while [ ! -e TALE.go ]; do sleep 0.1; done; echo x >>TALE.ends"]
    }
    repeat = "once"
  }
}
operation "checked" {
  param "outputs" {
    type    = choice
    choices = ["text", "none"]
  }
  step "quiet" {
    when = param.outputs == "none"
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-ec", "echo x >>TALE.begins; while [ ! -e TALE.go ]; do sleep 0.1; done; echo x >>TALE.ends"]
    }
    repeat = "checkable"
    probe  = ["sh", "-c", "test -e TALE.ends"]
  }
  step "telling" {
    when = param.outputs == "text"
    job {
      image = "registry.test/tools:1"
      run   = ["sh", "-ec", "echo x >>TALE.begins; while [ ! -e TALE.go ]; do sleep 0.1; done; echo x >>TALE.ends; echo told"]
    }
    outputs = "text"
    repeat  = "checkable"
    probe   = ["sh", "-c", "test -e TALE.ends"]
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
        let config = json!({
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

/// Message and number of attempts of the step of the newest run.
fn told(env: &CliEnv) -> (String, u64) {
    let shown: Value = serde_json::from_str(&run(env, &["runs", "latest", "--json"]).stdout).unwrap();
    let step = shown["steps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| ["try", "wait"].contains(&step["id"].as_str().unwrap()))
        .unwrap();
    (step["reason"].as_str().unwrap_or_default().to_owned(), step["attempt"].as_u64().unwrap())
}

#[test]
fn a_job_that_fails_is_tried_again_as_its_statuses_say() {
    let story = Story::new();
    let env = &story.env;
    expect(env, &["run", "flaky", "--yes"], 0, &["`sh` ended with status 4: attempt 1 is broken"]);
    assert_eq!((story.lines("begins"), told(env).1), (3, 3));
    expect(env, &["logs", "latest/try"], 0, &["attempt 1 is broken", "attempt 3 is broken"]);
    for (status, code, attempts) in [("2", 1, 1), ("3", 1, 2), ("5", 0, 1)] {
        std::fs::remove_file(story.tale("begins")).unwrap();
        expect(env, &["run", "hopeless", "--yes", &format!("status={status}")], code, &[]);
        assert_eq!(story.lines("begins"), attempts, "{status}");
        let (message, attempt) = told(env);
        assert_eq!(attempt, attempts as u64);
        let wanted = format!("`sh` ended with status {status}: no such ledger");
        assert!(code == 0 || message == wanted, "{message}");
    }
    wait(|| (story.kubernetes.running() == 0).then_some(()));
}

#[test]
fn a_job_that_is_ended_from_outside_says_by_whom_and_is_tried_again() {
    let story = Story::new();
    let env = &story.env;
    expect(env, &["run", "greedy", "--yes"], 1, &["WL876", "`sh` ran out of memory"]);
    let begun = |times| wait(|| (story.lines("begins") == times && story.kubernetes.running() == 1).then_some(()));
    let log = || run(env, &["logs", "latest/wait"]).stdout;
    let (mut times, endings) = (0, ["pressure", "jobs", "pods"]);
    for by in endings {
        let mut child = start(env, &["run", "patient", "--yes"]);
        begun(times + 1);
        match by {
            "pressure" => {
                story.kubernetes.set(|settings| settings.pressure = true);
                wait(|| log().contains("Evicted: The node was low on resource: memory.").then_some(()));
                wait(|| log().contains("waits: Unschedulable: 0/1 nodes are available").then_some(()));
                story.kubernetes.set(|settings| settings.pressure = false);
            }
            kind => {
                story.kubernetes.delete(kind);
                wait(|| log().contains("somebody deleted the pod while its program ran").then_some(()));
            }
        }
        begun(times + 2);
        std::fs::write(story.tale("go"), "").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{}", log());
        std::fs::remove_file(story.tale("go")).unwrap();
        times += 2;
    }
    assert_eq!(story.lines("ends"), endings.len(), "of each run one attempt went to its end");
    // Nobody is left to try again.
    let child = start(env, &["run", "patient", "--yes"]);
    for time in [times + 1, times + 2] {
        begun(time);
        story.kubernetes.delete("jobs");
    }
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    let (message, _) = told(env);
    assert_eq!(message, "`sh` was ended by signal: 15 (SIGTERM): somebody deleted the pod while its program ran");
}

#[test]
fn a_job_that_takes_too_long_or_cannot_begin_is_ended() {
    let story = Story::new();
    let env = &story.env;
    expect(env, &["run", "late", "--yes"], 1, &["WL616", "it took longer than its time limit"]);
    assert!(story.has("begun") && story.has("ended"), "it is asked to end");
    story.none_left();
    // What cannot be pulled says so while it waits.
    expect(env, &["run", "late", "--yes", "image=registry.test/none:1"], 1, &["WL616"]);
    let why = "waits: ImagePullBackOff: Back-off pulling image \"registry.test/none:1\"";
    expect(env, &["logs", "latest/wait"], 0, &[why]);
    story.none_left();
    expect(env, &["run", "late", "--yes", "image=No Image"], 1, &["WL887", "InvalidImageName"]);
    story.none_left();
}

#[test]
fn a_cluster_that_goes_away_and_comes_back_is_waited_for() {
    let story = Story::new();
    let env = &story.env;
    let mut child = start(env, &["run", "patient", "--yes"]);
    wait(|| (story.lines("begins") == 1).then_some(()));
    story.kubernetes.away(true);
    std::fs::write(story.tale("go"), "").unwrap();
    wait(|| (story.lines("ends") == 1 && story.kubernetes.running() == 0).then_some(()));
    assert!(child.try_wait().unwrap().is_none(), "nobody has told it");
    story.kubernetes.away(false);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!((story.lines("begins"), told(env).1), (1, 1));
    // One that is cancelled meanwhile is ended when the cluster is back.
    let _ = std::fs::remove_file(story.tale("go"));
    let mut child = start(env, &["run", "patient", "--yes"]);
    wait(|| (story.lines("begins") == 2).then_some(()));
    story.kubernetes.away(true);
    expect(env, &["cancel", "latest"], 0, &[]);
    assert!(child.try_wait().unwrap().is_none());
    assert_eq!(story.kubernetes.running(), 1);
    story.kubernetes.away(false);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    wait(|| (story.kubernetes.running() == 0).then_some(()));
    expect(env, &["runs", "latest"], 0, &["cancelled"]);
}

#[test]
fn a_server_that_is_killed_finds_its_jobs_again() {
    let story = Story::new();
    let env = &story.env;
    let mut server = Server::start(env, "");
    for (operation, arguments, step) in [
        ("again", json!({}), "wait"),
        ("once", json!({}), "wait"),
        ("checked", json!({ "outputs": "none" }), "quiet"),
        ("checked", json!({ "outputs": "text" }), "telling"),
    ] {
        for name in ["begins", "ends", "go"] {
            let _ = std::fs::remove_file(story.tale(name));
        }
        let runs = format!("/api/v1/projects/shop/operations/{operation}/runs");
        let run = run_of(&server.post(&runs, &json!({ "arguments": arguments })));
        wait(|| (story.lines("begins") == 1).then_some(()));
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        assert_eq!(story.kubernetes.running(), 1, "it does not notice");
        server = Server::start(env, "");
        let reason = || {
            let shown = server.get(&format!("/api/v1/runs/{run}")).json();
            let step = shown["steps"].as_array().unwrap().iter().find(|found| found["id"] == step).unwrap().clone();
            step["reason"].as_str().unwrap_or_default().to_owned()
        };
        match step {
            // It is ended, and done again.
            "wait" if operation == "again" => {
                wait(|| (story.lines("begins") == 2).then_some(()));
                std::fs::write(story.tale("go"), "").unwrap();
                assert_eq!(server.ended(&run), "succeeded");
                assert_eq!(story.lines("ends"), 1, "the first was dead");
            }
            // It is ended, and nobody knows how far it was.
            "wait" => {
                server.comes_to(&run, step, "unknown");
                assert_eq!((story.kubernetes.running(), story.lines("begins"), story.lines("ends")), (0, 1, 0));
                assert!(reason().contains("must not be done twice"), "{}", reason());
            }
            // It is let finish.
            _ => {
                assert_eq!(story.kubernetes.running(), 1);
                std::fs::write(story.tale("go"), "").unwrap();
                if step == "quiet" {
                    assert_eq!(server.ended(&run), "succeeded");
                } else {
                    server.comes_to(&run, step, "unknown");
                    assert!(reason().contains("it had happened, but its outputs are lost"), "{}", reason());
                }
                assert_eq!((story.lines("begins"), story.lines("ends")), (1, 1));
            }
        }
        wait(|| (story.kubernetes.running() == 0).then_some(()));
    }
}
