//! What is proved of each sample operation: it works; when a step fails nothing of it stays; when Windlass is killed and resumed it
//! ends as if nothing had been.

use super::common::*;
use super::faults::{Fault, Faults, Point};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::operations::{Site, write_operations};
use windlass_testkit::synthetic::Random;

/// What all of the operations call.
const PROGRAMS: [&str; 37] = [
    "awk",
    "basename",
    "cat",
    "createdb",
    "cut",
    "diff",
    "dirname",
    "dropdb",
    "etcdctl",
    "find",
    "jq",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "openssl",
    "pg_dump",
    "pg_restore",
    "psql",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sha256sum",
    "sleep",
    "socat",
    "sort",
    "stat",
    "sv",
    "sync",
    "tail",
    "touch",
    "tr",
    "wc",
    "xargs",
    "mktemp",
    "cp",
];

/// How long the samples wait before they try again, and for a gate that does not pass; and how long they do here: as often, and to
/// the same end.
const WAITS: [(&str, &str); 4] = [
    ("backoff  = \"1s\"", "backoff  = \"300ms\""),
    ("backoff  = \"2s\"", "backoff  = \"300ms\""),
    ("within  = \"1m\"", "within  = \"15s\""),
    ("within  = \"10s\"", "within  = \"5s\""),
];

pub struct Story {
    pub env: CliEnv,
    pub faults: Faults,
    operation: &'static str,
    /// Whether it has a checklist.
    planned: bool,
}

/// What a story is about.
pub trait Sample {
    /// `windlass run OPERATION …`, from here on.
    fn arguments(&self) -> Vec<String>;
    /// All that the operation works on, to compare.
    fn world(&self) -> String;
    /// Whether what was asked for is there, and nothing else.
    fn done(&self);
    /// Makes it as it was before a run that was done.
    fn back(&self);
    /// Steps whose failure fails nothing.
    fn tolerated(&self) -> &[&str] {
        &[]
    }
}

/// How many points of a sample are taken: all of them in `cargo xtask torture --operations`.
fn points(random: &mut Random, all: Vec<Point>, count: usize) -> Vec<Point> {
    let count = std::env::var("WINDLASS_TORTURE").ok().and_then(|n| n.parse().ok()).unwrap_or(count);
    let mut left = all;
    let mut taken = Vec::new();
    while taken.len() < count && !left.is_empty() {
        taken.push(left.swap_remove(random.below(left.len())));
    }
    taken
}

impl Story {
    pub fn new(operation: &'static str, site: &Site, variables: &[(&str, &str)]) -> Self {
        let mut env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        env.git_init().unwrap();
        write_operations(&env.root(), site).unwrap();
        for name in ["backup/backup", "certificate/renew", "etcd/upgrade", "report/report", "switch/switch"] {
            let file = env.root().join(format!("{name}.windlass.hcl"));
            let text = std::fs::read_to_string(&file).unwrap();
            let quick = WAITS.iter().fold(text.clone(), |text, (slow, quick)| text.replace(slow, quick));
            assert_ne!(quick, text, "{name} does not wait as it did");
            std::fs::write(file, quick).unwrap();
        }
        env.commit("Wait less").unwrap();
        std::fs::write(env.home().join(".gitconfig"), "[user]\n\tname = SRE\n\temail = sre@example.com\n").unwrap();
        let faults = Faults::new(&env.home().join("faults"), &PROGRAMS);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(faults.programs()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(all).unwrap();
        env.set("PATH", path);
        for (name, value) in variables {
            env.set(name, *value);
        }
        Self { env, faults, operation, planned: operation == "upgrade-etcd" }
    }

    /// Runs it to its end, or to the end of Windlass; whether that was its own.
    fn run(&self, sample: &dyn Sample) -> bool {
        let mut line = vec!["run".to_owned(), self.operation.to_owned(), "--yes".to_owned()];
        line.extend(sample.arguments());
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        self.windlass(&line)
    }

    /// Ticks what a person has to look at, for as long as there is something.
    fn tick(&self) {
        let answer = run(&self.env, &["runs", "latest", "--json"]);
        let latest: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        for step in latest["steps"].as_array().into_iter().flatten().filter(|step| step["state"] == "waiting") {
            let id = step["id"].as_str().unwrap_or_default();
            if id.starts_with("before:") || id.starts_with("after:") {
                run(&self.env, &["answer", "latest", id, "done"]);
            }
        }
    }

    /// Whether Windlass came to its own end.
    fn windlass(&self, line: &[&str]) -> bool {
        let plain = self.env.command(line);
        // The shell notes who it is, and becomes Windlass.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ >\"$0\"; exec \"$@\""]).arg(self.faults.victim()).arg(plain.get_program());
        command.args(plain.get_args()).current_dir(self.env.root()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code().is_some();
            }
            if self.planned {
                self.tick();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The newest run.
    pub fn latest(&self) -> Value {
        let answer = expect(&self.env, &["runs", "latest", "--json"], 0, &[]);
        serde_json::from_str(&answer.stdout).unwrap()
    }

    fn state(&self) -> String {
        self.latest()["run"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Runs it as it should be, and gives the calls of its steps.
    fn works(&self, sample: &dyn Sample) -> Vec<Point> {
        self.faults.clear();
        assert!(self.run(sample));
        assert_eq!(self.state(), "succeeded", "{}: {}", self.operation, self.report());
        sample.done();
        let points = self.faults.points();
        self.faults.clear();
        points
    }

    /// With a fault in a step it fails and leaves nothing behind, or gets along without what failed.
    fn fails(&self, sample: &dyn Sample, point: &Point, fault: Fault) {
        let before = sample.world();
        self.faults.inject(point, fault);
        assert!(self.run(sample));
        self.faults.clear();
        match self.state().as_str() {
            "failed" => assert_eq!(sample.world(), before, "{point:?} {fault:?}: {}", self.report()),
            "succeeded" => {
                // A first call that fails is never overlooked.
                let overlooked = sample.tolerated().contains(&point.step.as_str()) || point.call > 1;
                assert!(overlooked, "{point:?} {fault:?}: {}", self.report());
                sample.back();
            }
            state => panic!("{point:?} {fault:?}: {state}: {}", self.report()),
        }
    }

    /// Killed at a point and resumed it ends as it should.
    fn survives(&self, sample: &dyn Sample, point: &Point, fault: Fault) {
        self.faults.inject(point, fault);
        let what = format!("{point:?} {fault:?}");
        if self.run(sample) {
            // What asks until something is so asks more often on one day than on another; a first call always comes.
            assert!(point.call > 1 && self.state() == "succeeded", "{what}: it was not killed: {}", self.report());
            sample.done();
        } else {
            self.resume(sample, &what);
        }
        self.faults.clear();
        sample.back();
    }

    pub fn resume(&self, sample: &dyn Sample, what: &str) {
        assert!(self.windlass(&["resume"]));
        assert_eq!(self.state(), "succeeded", "{what}: {}", self.report());
        sample.done();
    }

    /// For whoever reads a failure.
    pub fn report(&self) -> String {
        let answer = run(&self.env, &["runs", "latest"]);
        let logs = run(&self.env, &["logs", "latest"]);
        format!("{}{}{}{}", answer.stdout, answer.stderr, logs.stdout, logs.stderr)
    }

    /// So many steps fail, one after the other, and so many points of every kind besides.
    pub fn prove(&self, sample: &dyn Sample, steps: usize, count: usize) {
        let all = self.works(sample);
        sample.back();
        let mut random = Random::new(20_261_121);
        let firsts = all.iter().filter(|point| point.call == 1).cloned().collect();
        for point in points(&mut random, firsts, steps) {
            self.fails(sample, &point, Fault::FailBefore);
        }
        for fault in [Fault::FailBefore, Fault::FailAfter] {
            for point in points(&mut random, all.clone(), count) {
                self.fails(sample, &point, fault);
            }
        }
        // What is done, and not on record: it is done again.
        let ends = all.iter().filter(|point| point.last).cloned().collect();
        for point in points(&mut random, ends, count.max(1)) {
            self.survives(sample, &point, Fault::KillAfter);
        }
        for fault in [Fault::KillBefore, Fault::KillAfter] {
            for point in points(&mut random, all.clone(), count) {
                self.survives(sample, &point, fault);
            }
        }
    }
}
