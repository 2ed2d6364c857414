//! Servers that share a database and a place for artefacts, and no directory.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::{expect, run, wait, walk};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use tokio::runtime::Runtime;
use windlass_app::sessions;
use windlass_app::tokens::Record;
use windlass_model::access::TokenScope;
use windlass_model::approval::Actor;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Cost, Flow, Repeat, Retry, RunPlan, RunState, StepSpec, StepState, When, Work};
use windlass_store::{ArtefactKind, Claim, ClaimResult, Durability, RunFilter, StepOutcome, Store};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::git::Git;
use windlass_testkit::postgres::Postgres;
use windlass_testkit::s3::S3;
use windlass_testkit::state_server::StateServer;

/// A server with a data directory of its own.
struct Server {
    child: Child,
    url: String,
    data: PathBuf,
}

impl Server {
    fn start(env: &CliEnv, name: &str) -> Self {
        let config = env.home().join("windlass.toml").display().to_string();
        let data = env.home().join(name);
        let text = data.display().to_string();
        let mut command = env.command(&["serve", "--listen", "127.0.0.1:0", "--config", &config, "--data", &text]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned)).unwrap();
        std::thread::spawn(move || lines.count());
        Self { child, url, data }
    }

    /// As by a power failure.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct World {
    env: CliEnv,
    runtime: Runtime,
    store: Store,
    database: String,
    s3: S3,
    _postgres: Postgres,
}

impl World {
    /// Its stack has its state in a file elsewhere.
    fn new() -> Self {
        Self::with(|env| {
            let state = env.home().join("net.tfstate");
            format!("  backend \"local\" {{\n    path = \"{}\"\n  }}\n", state.display())
        })
    }

    fn with(backend: impl Fn(&CliEnv) -> String) -> Self {
        let mut env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        let git = env.git_init().unwrap();
        let (postgres, s3) = (Postgres::start().unwrap(), S3::start().unwrap());
        let database = postgres.database("windlass");
        for (name, value) in s3.environment() {
            env.set(name, value);
        }
        env.set("WINDLASS_LEASE", "2");
        env.set("WINDLASS_HOUSEKEEPING_SECONDS", "1");
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(Store::connect(&database)).unwrap();
        let world = Self { env, runtime, store, database, s3, _postgres: postgres };
        world.publish(&git, &backend(&world.env));
        std::fs::write(world.env.home().join("key"), "0a".repeat(32)).unwrap();
        world.configure("");
        world
    }

    /// A repository with a stack whose state is elsewhere.
    fn publish(&self, git: &Git, backend: &str) {
        let stack = |size: u32| {
            let text = format!(
                "terraform {{\n{backend}}}\nresource \"terraform_data\" \"net\" {{\n  input = \"net-{size}\"\n}}\n"
            );
            self.env.write("net/main.tf", &text).unwrap();
        };
        stack(1);
        self.env.commit("Stacks").unwrap();
        let origin = self.env.home().join("company.git").display().to_string();
        git.run(&["clone", "--quiet", "--bare", &self.env.root().display().to_string(), &origin]).unwrap();
        git.run(&["remote", "add", "origin", &origin]).unwrap();
        git.run(&["switch", "--quiet", "-c", "larger"]).unwrap();
        stack(2);
        self.env.commit("Larger").unwrap();
        git.run(&["push", "--quiet", "origin", "larger"]).unwrap();
        git.run(&["fetch", "--quiet", "origin"]).unwrap();
    }

    fn configure(&self, more: &str) {
        let home = self.env.home();
        let text = format!(
            "database = \"{}\"\nartefacts = \"s3://{}/company\"\nkey_file = \"{}\"\nadmins = [\"email:ana@example.com\"]\n{more}\n[[repository]]\nname = \"company\"\nurl = \"{}\"\nevery = 10\n",
            self.database,
            self.s3.bucket(),
            home.join("key").display(),
            home.join("company.git").display(),
        );
        std::fs::write(home.join("windlass.toml"), text).unwrap();
    }

    /// Commands go to this server from now on.
    fn through(&mut self, server: &Server) {
        let identities = vec!["email:ana@example.com".to_owned()];
        let actor = Actor { name: "ana".into(), identities, verified: true };
        let secret = format!("wlt_{}", sessions::secret().unwrap());
        let text = serde_json::to_string(&Record { actor: actor.clone(), scope: TokenScope::default() }).unwrap();
        self.runtime.block_on(async {
            let end = self.store.now().await.unwrap() + 3_600_000_000;
            let digest = sessions::digest(&secret);
            self.store.token_create(&digest, "test", &actor.to_string(), &text, end).await.unwrap();
        });
        self.env.set("WINDLASS_TOKEN", secret);
        self.env.set("WINDLASS_URL", server.url.clone());
        wait(|| (run(&self.env, &["stacks"]).code == Some(0)).then_some(()));
    }

    fn company(&self) -> Store {
        self.store.of_project("company")
    }

    /// A run of somebody else's that wants a lock.
    fn other(&self, lock: &str) -> (RunId, StepSpec) {
        let step = StepSpec {
            id: "other".into(),
            title: "other".into(),
            after: vec![],
            when: When::Succeeded,
            work: Work { driver: "other".into(), input: Value::Null },
            repeat: Repeat::Idempotent,
            timeout: None,
            retry: Retry::NEVER,
            locks: vec![lock.to_owned()],
            cost: Cost::NONE,
            labels: vec!["nobody".into()],
            flow: Flow::default(),
        };
        let plan = RunPlan {
            kind: "other".into(),
            title: "other".into(),
            input: Value::Null,
            steps: vec![step.clone()],
            ..RunPlan::default()
        };
        (self.runtime.block_on(self.company().run_create(&plan, "test")).unwrap(), step)
    }

    /// Asks for the lock once.
    fn ask(&self, (run, step): &(RunId, StepSpec)) -> Option<Claim> {
        match self.runtime.block_on(self.company().step_claim("test", run, step, 3_600_000_000)).unwrap() {
            ClaimResult::Claimed(claim) => Some(claim),
            ClaimResult::Locked { .. } => None,
            ClaimResult::Gone => panic!("somebody else has it"),
        }
    }

    fn end(&self, claim: &Claim) {
        let outcome = StepOutcome::Succeeded(Value::Null);
        self.runtime.block_on(self.company().step_finish(claim, &outcome, b"", Durability::Durable)).unwrap();
    }

    fn queue(&self) -> usize {
        self.runtime.block_on(self.company().lock_list()).unwrap().len()
    }

    fn newest(&self, kind: &str) -> Option<RunId> {
        let filter = RunFilter { kind: Some(kind.into()), ..RunFilter::default() };
        let list = self.runtime.block_on(self.company().run_list(&filter, 1)).unwrap();
        list.first().map(|run| run.id.clone())
    }

    fn is(&self, run: &RunId, state: RunState) -> bool {
        self.runtime.block_on(self.store.run_get(run)).unwrap().state == state
    }

    fn step(&self, run: &RunId, step: &str) -> (StepState, u32) {
        let step = self.runtime.block_on(self.store.step_get(run, &StepId::new(step))).unwrap();
        (step.state, step.attempt)
    }

    fn artefacts(&self, kind: ArtefactKind) -> Vec<windlass_store::Artefact> {
        self.runtime.block_on(self.company().artefact_list(kind, None, None)).unwrap()
    }
}

#[test]
fn what_one_server_planned_another_applies() {
    let mut world = World::new();
    let mut first = Server::start(&world.env, "first");
    world.through(&first);
    expect(&world.env, &["review"], 0, &["net"]);
    expect(&world.env, &["approve", "--reason", "looked at it"], 0, &["Approved"]);
    assert!(!world.artefacts(ArtefactKind::Input).is_empty());

    // Somebody else has the stack before the plan of the apply, and again between the plan and the apply.
    let lock = "stack:net";
    let (before, between) = (world.other(lock), world.other(lock));
    let held = world.ask(&before).unwrap();
    let mut client = common::start(&world.env, &["apply", "--yes"]);
    wait(|| (world.queue() == 2).then_some(()));
    assert!(world.ask(&between).is_none());
    world.end(&held);
    let apply = world.newest("apply").unwrap();
    let held = wait(|| world.ask(&between));
    wait(|| (world.step(&apply, "plan:net") == (StepState::Succeeded, 1)).then_some(()));
    let plans = world.artefacts(ArtefactKind::Plan);
    let plan = plans.iter().find(|plan| plan.of.run == apply).unwrap();
    assert_eq!(plan.place, format!("s3://{}/company", world.s3.bucket()));
    first.kill();
    let _ = client.kill();
    client.wait().unwrap();
    assert!(walk(&first.data).iter().all(|file| !file.contains("artefacts") && !file.contains(".tfplan")));
    assert!(!world.env.home().join("net.tfstate").exists());

    // With another key nothing is begun.
    let other_key = |file: &str| {
        let config = world.env.home().join("windlass.toml").display().to_string();
        let data = world.env.home().join("other").display().to_string();
        let mut command =
            world.env.command(&["serve", "--listen", "127.0.0.1:0", "--config", &config, "--data", &data]);
        command.env("WINDLASS_KEY_FILE", file).output().unwrap()
    };
    let key = world.env.home().join("another");
    std::fs::write(&key, "0b".repeat(32)).unwrap();
    let refused = other_key(&key.display().to_string());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("WL894") && !refused.status.success(), "{refused:?}");

    let second = Server::start(&world.env, "second");
    world.through(&second);
    world.end(&held);
    wait(|| world.is(&apply, RunState::Succeeded).then_some(()));
    assert!(world.env.home().join("net.tfstate").is_file());
    assert_eq!(world.step(&apply, "plan:net").1, 1, "it was planned once");
    assert_eq!(world.step(&apply, "apply:net"), (StepState::Succeeded, 1), "by the first one to apply it");
    let used = world.runtime.block_on(world.store.plan_mark_used(&plan.id, &apply, &"test".into())).unwrap();
    assert!(!used, "it is the very plan that was used");
    wait(|| world.artefacts(ArtefactKind::Plan).iter().all(|plan| plan.of.run != apply).then_some(()));

    // What both said is packed, and reads as before, through either.
    let logs = || expect(&world.env, &["logs", apply.as_str()], 0, &["── plan:net", "── apply:net"]).stdout;
    let said = logs();
    wait(|| {
        let unpacked = world.runtime.block_on(world.store.log_unpacked(i64::MAX, None, 100)).unwrap();
        unpacked.iter().all(|(run, _)| *run != apply).then_some(())
    });
    let packed = world.artefacts(ArtefactKind::Log);
    assert!(packed.iter().any(|part| part.of.run == apply && part.of.subject == "apply:net"), "{packed:?}");
    assert_eq!(logs(), said);
    let third = Server::start(&world.env, "third");
    world.through(&third);
    assert_eq!(expect(&world.env, &["logs", apply.as_str()], 0, &[]).stdout, said);
    drop((second, third));

    // A server that keeps them for no longer than that.
    world.configure("retain_logs = \"1s\"");
    let fourth = Server::start(&world.env, "fourth");
    world.through(&fourth);
    wait(|| world.artefacts(ArtefactKind::Log).is_empty().then_some(()));
    expect(&world.env, &["logs", apply.as_str()], 0, &["This log was removed on", "logs are kept for 1 second"]);
    expect(&world.env, &["audit", "log", "--kind", "log.removed"], 0, &["log.removed"]);
}

#[test]
fn a_state_that_one_server_could_not_write_another_pushes() {
    let states = StateServer::start().unwrap();
    let mut world = World::with(|_| states.backend("net"));
    let first = Server::start(&world.env, "first");
    world.through(&first);
    expect(&world.env, &["review"], 0, &["net"]);
    states.fail_writes(true);
    expect(&world.env, &["apply", "--yes"], 1, &["net is quarantined"]);
    // terraform itself has one, which says where the state is.
    let is_state = |file: &String| file.ends_with(".tfstate") && !file.ends_with("/terraform.tfstate");
    let files = |server: &Server| walk(&server.data).into_iter().filter(is_state).count();
    assert_eq!(files(&first), 0, "nothing of it is in the clear");
    let kept = world.artefacts(ArtefactKind::Errored);
    assert_eq!((kept.len(), kept[0].of.subject.as_str(), kept[0].note.as_deref()), (1, "net", None));
    drop(first);

    let second = Server::start(&world.env, "second");
    world.through(&second);
    expect(&world.env, &["recover", "net"], 1, &["terraform could not write its state", "--push"]);
    expect(&world.env, &["recover", "net", "--push"], 1, &["error["]);
    states.fail_writes(false);
    expect(&world.env, &["recover", "net", "--push"], 0, &["Pushed."]);
    expect(&world.env, &["recover", "net", "--push"], 2, &["error[WL654]"]);
    assert_eq!(files(&second), 0);
    let note = world.artefacts(ArtefactKind::Errored).pop().unwrap().note;
    assert_eq!(note.as_deref(), Some("It was pushed by ana <ana@example.com>"));
    expect(&world.env, &["recover", "net", "--release", "--why", "pushed"], 0, &["windlass review"]);
    expect(&world.env, &["review"], 0, &["Nothing to apply", "is not created any more"]);
}
