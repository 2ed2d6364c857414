//! Actions with the real thing: programs, servers and databases of this machine, driven by an engine.

mod asked;
mod flow;
mod programs;
mod stacks;

use crate::service::Service;
use crate::steps::executors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_engine::{Engine, EngineOptions};
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::OperationDefinition;
use windlass_model::operation::plan::{OperationInput, driver};
use windlass_model::run::{RunPlan, RunRecord, RunState, StepRecord, StepState};
use windlass_testkit::git::Git;

const SPAN: &str = "w.windlass.hcl";

/// A repository with a service that has its own database.
pub struct World {
    // Removed last.
    root: tempfile::TempDir,
    pub service: Arc<Service>,
}

/// Where all of it is written.
pub fn span() -> Value {
    json!({ "file": SPAN, "line": 1, "column": 1, "end_line": 1, "end_column": 2 })
}

/// An expression.
pub fn x(text: &str) -> Value {
    json!({ "text": text, "span": span() })
}

/// A list of texts.
pub fn argv(words: &[&str]) -> Value {
    x(&serde_json::to_string(words).unwrap())
}

/// `/bin/sh -ec LINE`.
pub fn shell(line: &str) -> Value {
    json!({ "shell": { "line": x(&serde_json::to_string(line).unwrap().replace("${", "$${")) } })
}

/// A definition of a step with what is said, and as little else as can be.
pub fn step(name: &str, action: Value, more: Value) -> Value {
    let mut step = json!({
        "name": name, "description": null, "action": action, "when": null, "after": null, "env": {}, "directory": null,
        "runner": null, "retry": { "attempts": 1, "backoff": 0, "max_backoff": 0 }, "timeout": null,
        "repeat": "idempotent", "probe": null, "outputs": "none", "artefacts": [], "mask": [], "locks": [],
        "may_fail": false, "success": [], "give_up": [], "undo": null, "cost": { "cpu_milli": 0, "memory_mib": 0 },
        "span": span(),
    });
    merge(&mut step, more);
    step
}

pub fn merge(into: &mut Value, more: Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

/// An operation of these steps with what else is said of it.
pub fn operation(steps: Vec<Value>, more: Value) -> OperationDefinition {
    let mut operation = json!({
        "name": "op", "description": null, "owner": null, "allow": [], "grants": [], "labels": {}, "runner": null,
        "environment": null, "parameters": [], "secrets": [],
        "nodes": steps.into_iter().map(|step| json!({ "step": step })).collect::<Vec<_>>(),
        "on_failure": [], "on_cancel": [], "schedules": [], "triggers": [], "approvals": null, "break_glass": [],
        "concurrency": null, "timeout": null, "locks": [], "confirm": null, "checklist": null, "notify": [],
        "dead_man": null, "locals": {}, "span": span(),
    });
    merge(&mut operation, more);
    serde_json::from_value(operation).unwrap()
}

impl World {
    pub async fn new(files: &[(&str, &str)]) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let git = Git::init(root.path()).unwrap();
        for (name, content) in [("README.md", "a test\n")].iter().chain(files) {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        git.run(&["add", "."]).unwrap();
        git.commit(("Anna", "anna@example.com"), "2026-01-01T00:00:00Z", "first").unwrap();
        let service = Arc::new(Service::open(root.path(), None).await.unwrap());
        Self { root, service }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    pub fn input(&self, operation: OperationDefinition, arguments: Value) -> OperationInput {
        let (head, _) = crate::project::head_and_dirty(self.service.checkout.git().unwrap()).unwrap();
        serde_json::from_value(json!({
            "head": { "name": "main", "commit": head }, "operation": operation, "arguments": arguments, "secrets": [],
            "environment": null, "reason": null, "origin": { "by": "person", "through": "cli" }, "broke_glass": false,
            "skipped": {},
        }))
        .unwrap()
    }

    /// The steps of the operation one after the other.
    pub fn chain(&self, input: &OperationInput) -> RunPlan {
        let names: Vec<String> = input.operation.nodes.iter().map(|node| node.name().to_owned()).collect();
        let mut steps = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let definition = serde_json::to_value(&input.operation.nodes[at]).unwrap()["step"].clone();
            steps.push(json!({
                "id": name, "title": name, "after": &names[..at], "when": "succeeded",
                "work": { "driver": driver::STEP, "input": { "path": [name] } },
                "repeat": definition["repeat"], "timeout": definition["timeout"], "retry": definition["retry"],
                "cost": definition["cost"],
            }));
        }
        self.plan(input, steps)
    }

    pub fn plan(&self, input: &OperationInput, steps: Vec<Value>) -> RunPlan {
        serde_json::from_value(json!({ "kind": "operation", "title": "op", "input": input, "steps": steps })).unwrap()
    }

    pub async fn create(&self, plan: &RunPlan) -> RunId {
        self.service.store.run_create(plan, "os:anna, unverified").await.unwrap()
    }

    pub async fn engine(&self) -> Engine {
        self.engine_with(EngineOptions::default().grace).await
    }

    /// One that gives what is to end so long before it kills it.
    pub async fn engine_with(&self, grace: Duration) -> Engine {
        let options = EngineOptions { lease: Duration::from_secs(5), grace, ..EngineOptions::default() };
        Engine::start(self.service.store.clone(), executors(&self.service), options).await.unwrap()
    }

    pub async fn drive(&self, run: &RunId) -> RunRecord {
        self.engine().await.run_until_settled(run).await.unwrap()
    }

    /// Runs these steps to the end of the run.
    pub async fn run(&self, steps: Vec<Value>, more: Value, arguments: Value) -> Ran {
        let input = self.input(operation(steps, more), arguments);
        let id = self.create(&self.chain(&input)).await;
        let record = self.drive(&id).await;
        self.ran(&id, record.state).await
    }

    pub async fn ran(&self, id: &RunId, state: RunState) -> Ran {
        let steps = self.service.store.step_list(id).await.unwrap();
        Ran { id: id.clone(), state, steps: steps.into_iter().map(|step| (step.id.to_string(), step)).collect() }
    }

    pub async fn log(&self, run: &RunId, step: &str) -> String {
        let chunks = self.service.store.log_read(run, &StepId::new(step), 0, 1 << 20).await.unwrap();
        chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect()
    }
}

/// A run that is settled.
pub struct Ran {
    pub id: RunId,
    pub state: RunState,
    pub steps: BTreeMap<String, StepRecord>,
}

impl Ran {
    pub fn output(&self, step: &str) -> &Value {
        let record = &self.steps[step];
        assert_eq!(record.state, StepState::Succeeded, "{step}: {:?} {:?}", record.code, record.reason);
        record.output.as_ref().unwrap()
    }

    /// Code and reason of a step that failed.
    pub fn failure(&self, step: &str) -> (String, String) {
        let record = &self.steps[step];
        assert_eq!(record.state, StepState::Failed, "{step}: {record:?}");
        (record.code.clone().unwrap(), record.reason.clone().unwrap())
    }
}

/// Waits until it is so.
pub async fn until<T>(what: &str, mut is: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = is().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process is there and no zombie.
pub fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}
