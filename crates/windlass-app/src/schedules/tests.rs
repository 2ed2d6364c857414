#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::error::ErrorKind;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use windlass_lang::tree::MemoryTree;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::operation::plan::Origin;
use windlass_model::run::{RunPlan, RunState};
use windlass_store::{Pause, StartRow};
use windlass_testkit::postgres::Postgres;

const SECOND: Micros = 1_000_000;
const MINUTE: Micros = 60 * SECOND;
const HOUR: Micros = 60 * MINUTE;
/// 2026-01-01T00:00:00Z.
const START: Micros = 1_767_225_600 * SECOND;

/// Definitions as a repository has them.
fn project(text: &str) -> Arc<Project> {
    let project = Project::load(&MemoryTree::new([("windlass.hcl", text)]));
    assert_eq!(project.diagnostics.iter().map(|d| d.summary.as_str()).collect::<Vec<_>>(), [""; 0], "{text}");
    Arc::new(project)
}

type Force = Arc<Mutex<InForce>>;

fn force(text: &str) -> Force {
    Arc::new(Mutex::new(vec![("shop".to_owned(), "c1".to_owned(), project(text))]))
}

fn clock(store: &Store, force: &Force) -> Clock {
    let force = force.clone();
    Clock::new(store.clone(), move || force.lock().unwrap().clone())
}

/// Makes runs of no steps, and remembers what it was asked.
#[derive(Default)]
struct Recorder {
    asked: Mutex<Vec<Asked>>,
    refuses: Mutex<Option<ErrorKind>>,
}

struct Making(Arc<Recorder>, Store);

#[async_trait::async_trait]
impl Starter for Making {
    async fn start(&self, asked: Asked) -> AppResult<RunId> {
        if let Some(kind) = *self.0.refuses.lock().unwrap() {
            return Err(AppError::new(kind, Diagnostic::error("WL740", "not now")));
        }
        let plan = json!({ "kind": "operation", "title": asked.operation, "subject": asked.operation, "input": null, "steps": [] });
        let plan = serde_json::from_value::<RunPlan>(plan).unwrap();
        let run = self.1.of_project(&asked.project).creating(&asked.run).run_create(&plan, ITSELF).await?;
        self.0.asked.lock().unwrap().push(asked);
        Ok(run)
    }
}

/// What was started: operation, schedule and seconds since the beginning.
fn started(recorder: &Recorder) -> Vec<(String, i64)> {
    let asked = recorder.asked.lock().unwrap();
    let mut found: Vec<_> = asked
        .iter()
        .map(|asked| match &asked.origin {
            Origin::Schedule { due, .. } => (asked.operation.clone(), (due - START) / SECOND),
            other => panic!("{other:?}"),
        })
        .collect();
    found.sort();
    found
}

async fn round_to_end(clock: &mut Clock, starter: &Arc<dyn Starter>) -> Duration {
    let mut work = JoinSet::new();
    let pause = round(clock, starter, &mut work).await.unwrap();
    while let Some(done) = work.join_next().await {
        done.unwrap().unwrap();
    }
    pause
}

struct Fixture {
    store: Store,
    time: Arc<AtomicI64>,
    recorder: Arc<Recorder>,
    starter: Arc<dyn Starter>,
    _directory: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicI64::new(START));
    let store = Store::open_with(&directory.path().join("w.db"), Some(time.clone())).await.unwrap();
    let recorder = Arc::new(Recorder::default());
    let starter: Arc<dyn Starter> = Arc::new(Making(recorder.clone(), store.clone()));
    Fixture { store, time, recorder, starter, _directory: directory }
}

async fn kinds(store: &Store) -> Vec<String> {
    let all = store.event_list(None, 0, 1000).await.unwrap();
    all.into_iter().map(|event| event.kind).filter(|kind| kind != "run.created").collect()
}

fn hourly(more: &str) -> String {
    format!(
        "operation \"report\" {{\n  step \"s\" {{ run = [\"true\"] }}\n  param \"day\" {{ type = string }}\n  \
         schedule {{\n    cron = \"0 * * * *\"\n    arguments = {{ day = run.due }}\n  {more}\n  }}\n}}\n"
    )
}

#[tokio::test]
async fn what_is_due_begins_once_with_its_arguments() {
    let f = fixture().await;
    let mut clock = clock(&f.store, &force(&hourly("")));
    assert_eq!(round_to_end(&mut clock, &f.starter).await, LONGEST);
    f.time.store(START + HOUR - 2 * SECOND, Ordering::SeqCst);
    assert_eq!(round_to_end(&mut clock, &f.starter).await, Duration::from_secs(2), "it wakes when something is due");
    for at in [HOUR, HOUR, HOUR + SECOND] {
        f.time.store(START + at, Ordering::SeqCst);
        round_to_end(&mut clock, &f.starter).await;
    }
    assert_eq!(started(&f.recorder), [("report".to_owned(), 3600)]);
    let asked = f.recorder.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.arguments, BTreeMap::from([("day".to_owned(), json!("2026-01-01T01:00:00Z"))]));
    let listed = f.store.of_project("shop").start_list("report", StartKind::Schedule, 10).await.unwrap();
    assert_eq!(
        listed.iter().map(|s| (s.state.as_str(), s.run.clone())).collect::<Vec<_>>(),
        [("started", Some(asked.run))]
    );
    assert_eq!(kinds(&f.store).await, [""; 0]);
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_begins_nothing_twice() {
    let f = fixture().await;
    let mut clock = clock(&f.store, &force(&hourly("missed = \"all\"\n    within = \"48h\"")));
    let mut at = async |hours: f64| {
        f.time.store(START + (hours * HOUR as f64) as Micros, Ordering::SeqCst);
        round_to_end(&mut clock, &f.starter).await;
        started(&f.recorder).into_iter().map(|(_, at)| at / 3600).collect::<Vec<_>>()
    };
    assert_eq!(at(0.0).await, [0; 0]);
    assert_eq!(at(3.5).await, [1, 2, 3]);
    // Back over what has begun: it has.
    assert_eq!(at(1.5).await, [1, 2, 3]);
    assert_eq!(at(2.0).await, [1, 2, 3]);
    assert_eq!(at(4.0).await, [1, 2, 3, 4]);
    // Far ahead, and back: real times are not lost by it.
    assert_eq!(at(6.0).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(at(4.5).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(at(7.0).await, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn another_server_goes_on_where_one_ended() {
    let f = fixture().await;
    let force = force(&hourly("within = \"48h\""));
    let mut first = clock(&f.store, &force);
    round_to_end(&mut first, &f.starter).await;
    f.time.store(START + HOUR, Ordering::SeqCst);
    // It decided, and ended before it began anything.
    first.tick(START + HOUR).await.unwrap();
    drop(first);
    f.time.store(START + HOUR + 90 * SECOND, Ordering::SeqCst);
    let mut second = clock(&f.store, &force);
    round_to_end(&mut second, &f.starter).await;
    assert_eq!(started(&f.recorder), [("report".to_owned(), 3600)]);
    assert_eq!(kinds(&f.store).await, ["operation.late"]);
    // Nobody was there for three hours: the newest is made up for.
    f.time.store(START + 4 * HOUR + 30 * MINUTE, Ordering::SeqCst);
    let mut third = clock(&f.store, &force);
    round_to_end(&mut third, &f.starter).await;
    assert_eq!(started(&f.recorder), [("report".to_owned(), 3600), ("report".to_owned(), 4 * 3600)]);
    assert_eq!(kinds(&f.store).await, ["operation.late", "schedule.missed", "operation.late"]);
}

#[tokio::test]
async fn pauses_and_freezes_hold_back_and_say_so() {
    let f = fixture().await;
    let text = hourly("missed = \"skip\"")
        + "freeze \"f\" {\n  from = \"2026-01-01T02:30:00Z\"\n  to = \"2026-01-01T03:30:00Z\"\n  reason = \"fair\"\n}\n";
    let mut clock = clock(&f.store, &force(&text));
    round_to_end(&mut clock, &f.starter).await;
    let key = ScheduleKey { project: "shop".into(), operation: "report".into(), schedule: "default".into() };
    let pause = Pause { until: START + HOUR + MINUTE, by: "me".into(), reason: "moving".into() };
    assert!(f.store.schedule_pause(&key, Some(&pause), "me").await.unwrap());
    for hour in 1..=4 {
        f.time.store(START + hour * HOUR, Ordering::SeqCst);
        round_to_end(&mut clock, &f.starter).await;
    }
    assert_eq!(started(&f.recorder).iter().map(|(_, at)| at / 3600).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(kinds(&f.store).await, ["schedule.paused", "schedule.held", "schedule.held"]);
}

#[tokio::test]
async fn what_a_freeze_held_back_is_told_when_it_ends() {
    let f = fixture().await;
    let text = hourly("missed = \"latest\"")
        + "freeze \"f\" {\n  from = \"2026-01-01T00:30:00Z\"\n  to = \"2026-01-01T03:30:00Z\"\n  reason = \"fair\"\n}\n";
    let mut clock = clock(&f.store, &force(&text));
    round_to_end(&mut clock, &f.starter).await;
    f.time.store(START + 2 * HOUR, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    assert_eq!((started(&f.recorder), kinds(&f.store).await), (vec![], vec![]));
    f.time.store(START + 3 * HOUR + 30 * MINUTE, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    assert_eq!(started(&f.recorder), [("report".to_owned(), 3 * 3600)]);
    assert_eq!(kinds(&f.store).await, ["schedule.missed", "schedule.held", "operation.late"]);
}

#[tokio::test]
async fn what_cannot_begin_is_tried_again_or_told() {
    let f = fixture().await;
    let mut clock = clock(&f.store, &force(&hourly("")));
    round_to_end(&mut clock, &f.starter).await;
    *f.recorder.refuses.lock().unwrap() = Some(ErrorKind::Unavailable);
    f.time.store(START + HOUR, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    assert_eq!(kinds(&f.store).await, [""; 0]);
    *f.recorder.refuses.lock().unwrap() = None;
    f.time.store(START + HOUR + 9 * SECOND, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    assert_eq!(started(&f.recorder), []);
    f.time.store(START + HOUR + 10 * SECOND, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    assert_eq!(started(&f.recorder), [("report".to_owned(), 3600)]);
    *f.recorder.refuses.lock().unwrap() = Some(ErrorKind::Refused);
    f.time.store(START + 2 * HOUR, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    let listed = f.store.of_project("shop").start_list("report", StartKind::Schedule, 1).await.unwrap();
    assert_eq!((listed[0].state.as_str(), listed[0].note.as_deref()), ("refused", Some("not now")));
    assert_eq!(kinds(&f.store).await, ["operation.not_started"]);
}

#[tokio::test]
async fn changed_definitions_are_taken_up() {
    let f = fixture().await;
    let force = force(&hourly(""));
    let mut clock = clock(&f.store, &force);
    round_to_end(&mut clock, &f.starter).await;
    let half = hourly("").replace("0 * * * *", "30 * * * *");
    *force.lock().unwrap() = vec![("shop".into(), "c2".into(), project(&half))];
    f.time.store(START + HOUR, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    assert_eq!(started(&f.recorder), [], "another pattern has missed nothing");
    f.time.store(START + HOUR + HOUR / 2, Ordering::SeqCst);
    round_to_end(&mut clock, &f.starter).await;
    assert_eq!(started(&f.recorder), [("report".to_owned(), 5400)]);
    *force.lock().unwrap() = Vec::new();
    f.time.store(START + 3 * HOUR, Ordering::SeqCst);
    assert_eq!(round_to_end(&mut clock, &f.starter).await, LONGEST);
    assert_eq!(started(&f.recorder).len(), 1);
}

#[tokio::test]
async fn a_batch_that_does_not_succeed_is_told_of_once() {
    let f = fixture().await;
    let text =
        "batch \"nightly\" {\n  command = [\"true\"]\n  alert_after = 2\n  schedule { cron = \"0 * * * *\" }\n}\n";
    let mut clock = clock(&f.store, &force(text));
    let mut told = Vec::new();
    for hour in 0..=8 {
        f.time.store(START + hour * HOUR, Ordering::SeqCst);
        round_to_end(&mut clock, &f.starter).await;
        if hour == 4 {
            let run = f.recorder.asked.lock().unwrap().last().unwrap().run.clone();
            assert!(f.store.run_set_state(&run, RunState::Queued, RunState::Succeeded, None).await.unwrap());
        }
        told.push(kinds(&f.store).await.iter().filter(|kind| *kind == "operation.overdue").count());
    }
    assert_eq!(told, [0, 0, 0, 1, 1, 1, 1, 2, 2]);
}

#[tokio::test]
async fn three_servers_on_postgres_begin_everything_once() {
    let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap();
    let url = server.database("schedules");
    let time = Arc::new(AtomicI64::new(START));
    let text: String = (0..5)
        .map(|n| {
            format!("operation \"o{n}\" {{\n  step \"s\" {{ run = [\"true\"] }}\n  schedule {{\n    cron = \"*/10 * * * * *\"\n    missed = \"all\"\n    within = \"24h\"\n  }}\n}}\n")
        })
        .collect();
    let force = force(&text);
    let recorder = Arc::new(Recorder::default());
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    let mut stores = Vec::new();
    for _ in 0..3 {
        let store = Store::connect_with(&url, Some(time.clone())).await.unwrap();
        let starter: Arc<dyn Starter> = Arc::new(Making(recorder.clone(), store.clone()));
        servers.spawn(run(clock(&store, &force), starter, stop.clone(), |error| panic!("{error}")));
        stores.push(store);
    }
    let looked = async |seconds: i64| {
        // Whoever looks wakes by the events of others, or after a while.
        let until = std::time::Instant::now() + Duration::from_secs(120);
        loop {
            let open = stores[0].start_next().await.unwrap();
            let count = recorder.asked.lock().unwrap().len();
            if open.is_none() && count as i64 >= 5 * (seconds / 10) {
                return;
            }
            assert!(std::time::Instant::now() < until, "{count} runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // All three know the schedules from the beginning.
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while stores[0].of_project("shop").schedule_list().await.unwrap().len() < 5 {
        assert!(std::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for seconds in [10, 60, 30, 120] {
        time.store(START + seconds * SECOND, Ordering::SeqCst);
        if seconds != 30 {
            looked(seconds).await;
        }
    }
    stop.cancel();
    while let Some(done) = servers.join_next().await {
        done.unwrap();
    }
    let mut runs: Vec<RunId> = recorder.asked.lock().unwrap().iter().map(|asked| asked.run.clone()).collect();
    runs.sort();
    runs.dedup();
    let mut due = started(&recorder);
    due.dedup();
    assert_eq!(due.len(), 5 * 12);
    assert_eq!(runs.len(), 5 * 12);
    let starts: Vec<StartRow> = stores[0].of_project("shop").start_list("o0", StartKind::Schedule, 100).await.unwrap();
    assert!(starts.len() == 12 && starts.iter().all(|start| start.state == "started"));
    for store in stores {
        store.close().await;
    }
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[test]
fn an_environment_is_known_before_where_it_can_be() {
    let project = project(&hourly("").replace("run.due", "\"staging\""));
    let check = |environment: &str, want: Option<&str>| {
        let mut operation = project.definitions.operations[0].clone();
        let span = operation.span.clone();
        operation.environment = Some(windlass_model::operation::Expression { text: environment.into(), span });
        assert_eq!(super::environment(&operation, &operation.schedules[0]).as_deref(), want, "{environment}");
    };
    check("param.day", Some("staging"));
    check("\"production\"", Some("production"));
    check("param.other", None);
}
