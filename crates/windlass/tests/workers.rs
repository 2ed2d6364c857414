//! Steps that ask for a label, while the workers that have it are killed, stopped, and told to end.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod service;

use service::{Client, Program, Service, once_each, patiently};
use std::time::{Duration, Instant};
use windlass_testkit::postgres::Postgres;

const RUNNER: &str = "environment \"all\" {\n  match  = [\"**\"]\n  runner = \"gpu\"\n}\n";

struct Story {
    service: Service,
    database: String,
    client: Client,
    // Before the database, which goes last.
    _server: Program,
    _postgres: Postgres,
}

impl Story {
    /// A server that does no step of a stack, and a worker that does.
    fn new() -> (Self, Program) {
        let postgres = Postgres::start_durable().unwrap();
        let database = postgres.database("workers");
        let service = Service::new(&database, 1, RUNNER);
        let server = service.serve(&database, "http://127.0.0.1", &[]);
        let port = patiently("a server", || server.port());
        let client = Client::new(&format!("http://127.0.0.1:{port}"), &service.token);
        let worker = service.work(&database, "gpu");
        (Self { service, database, client, _server: server, _postgres: postgres }, worker)
    }

    fn worker(&self) -> Program {
        self.service.work(&self.database, "gpu")
    }

    /// The kinds of the events of the apply step, oldest first.
    fn events(&self, run: &str) -> Vec<String> {
        let mut events = self.client.list(&format!("/api/v1/events?run={run}&limit=500"));
        events.retain(|event| event["step"] == "apply:s0");
        events.iter().rev().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    fn count(&self, run: &str, kind: &str) -> usize {
        self.events(run).iter().filter(|found| *found == kind).count()
    }

    /// Applies the change; what happens in the middle of terraform's work is for `meanwhile`. The id of the apply run.
    fn apply(&self, meanwhile: impl FnOnce(&str)) -> String {
        let runs = self.client.change_and(
            0,
            || {},
            |apply| {
                // Something is begun, and takes a moment.
                patiently("terraform's work", || (self.count(apply, "resource.apply_started") > 0).then_some(()));
                meanwhile(apply);
            },
        );
        once_each(&self.client, &runs, &[]);
        assert_eq!(self.service.made(), ["s0"]);
        self.service.check_state(0);
        let [_, apply] = runs;
        apply
    }
}

#[test]
fn a_killed_worker_is_fenced_before_another_does_its_step() {
    let (story, mut worker) = Story::new();
    let mut second = None;
    let apply = story.apply(|_| {
        worker.kill();
        second = Some(story.worker());
    });
    let events = story.events(&apply);
    assert_eq!(story.count(&apply, "step.lost"), 1, "{events:?}");
    let lost = events.iter().position(|kind| kind == "step.lost").unwrap();
    assert_eq!(events.iter().position(|kind| kind == "step.succeeded"), Some(events.len() - 1), "{events:?}");
    assert!(events[..lost].iter().any(|kind| kind == "step.started"), "{events:?}");
}

#[test]
fn a_worker_that_slept_through_its_lease_writes_nothing_more() {
    let (story, worker) = Story::new();
    let mut second = None;
    let apply = story.apply(|apply| {
        worker.signal("-STOP");
        second = Some(story.worker());
        // Its lease ends, and the other one is careful with what it had begun.
        patiently("another owner", || (story.count(apply, "step.lost") > 0).then_some(()));
        worker.signal("-CONT");
    });
    let events = story.events(&apply);
    assert_eq!((story.count(&apply, "step.lost"), story.count(&apply, "step.succeeded")), (1, 1), "{events:?}");
    // What it had in hand is refused, and it lives on for others.
    let since = Instant::now();
    patiently("some looks", || (since.elapsed() > Duration::from_secs(2)).then_some(()));
    assert_eq!(story.events(&apply), events);
    worker.signal("-TERM");
    let mut worker = worker;
    assert_eq!(worker.code(), Some(0), "{}", worker.all());
}

#[test]
fn a_worker_that_is_told_to_end_ends_its_step_and_begins_no_other() {
    let (story, mut worker) = Story::new();
    let mut second = None;
    let apply = story.apply(|apply| {
        worker.signal("-TERM");
        assert_eq!(worker.code(), Some(0), "{}", worker.all());
        assert_eq!((story.count(apply, "step.succeeded"), story.service.made().len()), (1, 1));
        second = Some(story.worker());
    });
    let events = story.events(&apply);
    assert_eq!((story.count(&apply, "step.started"), story.count(&apply, "step.lost")), (1, 0), "{events:?}");
}
