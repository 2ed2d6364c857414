use super::*;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Cost, Flow, Repeat, Retry, RunPlan, RunState, StepSpec, StepState, When, Work};
use windlass_testkit::postgres::Postgres;

fn step(id: &str, locks: &[&str]) -> StepSpec {
    StepSpec {
        id: id.into(),
        title: id.into(),
        after: vec![],
        when: When::Succeeded,
        work: Work { driver: "d".into(), input: serde_json::Value::Null },
        repeat: Repeat::Idempotent,
        timeout: None,
        retry: Retry::NEVER,
        locks: locks.iter().map(|l| l.to_string()).collect(),
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    }
}

fn plan(steps: Vec<StepSpec>) -> RunPlan {
    RunPlan { kind: "test".into(), title: "t".into(), input: serde_json::Value::Null, steps, ..RunPlan::default() }
}

struct Fixture {
    store: Store,
    clock: Arc<AtomicI64>,
    at: Database,
    /// Of the file, where it is one.
    _directory: Option<tempfile::TempDir>,
}

async fn open(at: &Database, clock: &Arc<AtomicI64>) -> Store {
    match at {
        Database::File(path) => Store::open_with(path, Some(clock.clone())).await.unwrap(),
        Database::Server(url) => Store::connect_with(url, Some(clock.clone())).await.unwrap(),
    }
}

/// Where a case keeps its record.
enum Place<'a> {
    File,
    /// A server, in which each case gets a database of its own.
    Server(&'a Postgres, &'static str),
}

impl Place<'_> {
    async fn fixture(&self) -> Fixture {
        let clock = Arc::new(AtomicI64::new(1_000_000_000));
        let (at, directory) = self.empty("");
        Fixture { store: open(&at, &clock).await, clock, at, _directory: directory }
    }

    /// A database in which there is nothing, not even a schema.
    fn empty(&self, suffix: &str) -> (Database, Option<tempfile::TempDir>) {
        match self {
            Place::File => {
                let directory = tempfile::tempdir().unwrap();
                (Database::File(directory.path().join("w.db")), Some(directory))
            }
            Place::Server(server, name) => (Database::Server(server.database(&format!("{name}{suffix}"))), None),
        }
    }
}

/// Each case is a test on a file; all of them together are one on a server, which takes seconds to start.
macro_rules! cases {
    ($($name:ident,)*) => {
        mod file {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Place::File).await;
            })*
        }

        #[tokio::test]
        async fn all_cases_on_postgres() {
            let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap();
            $($name(&Place::Server(&server, stringify!($name))).await;)*
            tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
        }
    };
}

mod backup;
mod changes;
mod faults;
mod hold;
mod logs;
mod operations;
mod records;
mod schedules;
mod servers;

use schedules::{
    a_series_goes_in_its_order_so_many_at_once, a_start_is_taken_by_one_and_becomes_one_run, what_is_due_is_put_in_once,
};

cases! {
    a_step_is_claimed_once_and_finished_by_its_claim_alone,
    locks_are_queues_that_forget_the_dead,
    logs_have_offsets_without_gaps,
    a_run_whose_id_was_chosen_is_created_once,
    runs_change_state_by_compare_and_set,
    plans_are_used_once,
    facts_and_log_are_recorded_together_and_by_the_present_claim_alone,
    a_value_is_found_by_its_name,
    a_step_with_several_locks_takes_all_or_waits_for_the_one_that_is_held,
    a_turn_is_written_as_a_whole_or_not_at_all,
    transactions_that_wait_together_fail_alone,
    nothing_waits_for_the_next_transaction_to_come,
    a_run_that_waits_is_ready_when_it_is_woken_or_its_time_has_come,
    lists_find_what_they_show,
    what_is_due_is_put_in_once,
    a_start_is_taken_by_one_and_becomes_one_run,
    the_oldest_of_a_queue_are_admitted,
    answers_are_kept_and_wake_the_step_that_asked,
    a_series_goes_in_its_order_so_many_at_once,
}

/// Steps that need no lock.
fn free(ids: &[StepId]) -> Vec<(StepId, Vec<String>)> {
    ids.iter().map(|id| (id.clone(), Vec::new())).collect()
}

fn claimed(result: ClaimResult) -> Claim {
    match result {
        ClaimResult::Claimed(claim) => claim,
        other => panic!("not claimed: {other:?}"),
    }
}

async fn a_step_is_claimed_once_and_finished_by_its_claim_alone(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let a = step("a", &[]);
    let run = store.run_create(&plan(vec![a.clone()]), "me").await.unwrap();
    let claim = claimed(store.step_claim("e1", &run, &a, 10).await.unwrap());
    assert_eq!(store.step_claim("e2", &run, &a, 10).await.unwrap(), ClaimResult::Gone);
    let taken = store.step_take_over("e2", &claim, 10).await.unwrap().unwrap();
    assert_eq!(store.step_take_over("e3", &claim, 10).await.unwrap(), None);
    let late = store.step_finish(&claim, &StepOutcome::Succeeded(1.into()), &[], Durability::Durable).await;
    assert!(matches!(late, Err(StoreError::StaleClaim { .. })));
    store.step_finish(&taken, &StepOutcome::Succeeded(2.into()), &[], Durability::Durable).await.unwrap();
    assert!(store.step_finish(&taken, &StepOutcome::Succeeded(3.into()), &[], Durability::Durable).await.is_err());
    let record = store.step_get(&run, &a.id).await.unwrap();
    assert_eq!((record.state, record.output), (StepState::Succeeded, Some(2.into())));
    let kinds: Vec<String> = store.event_list(Some(&run), 0, 100).await.unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["run.created", "step.started", "step.lost", "step.succeeded"]);
}

async fn locks_are_queues_that_forget_the_dead(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let s = step("s", &["stack:a"]);
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(store.run_create(&plan(vec![s.clone()]), "me").await.unwrap());
    }
    let first = claimed(store.step_claim("e", &runs[0], &s, 10).await.unwrap());
    let locked = store.step_claim("e", &runs[1], &s, 10).await.unwrap();
    assert!(matches!(locked, ClaimResult::Locked { by, .. } if by.run == runs[0]));
    assert!(matches!(store.step_claim("e", &runs[2], &s, 10).await.unwrap(), ClaimResult::Locked { .. }));
    store.step_finish(&first, &StepOutcome::Succeeded(1.into()), &[], Durability::Durable).await.unwrap();
    // The second came first.
    assert!(
        matches!(store.step_claim("e", &runs[2], &s, 10).await.unwrap(), ClaimResult::Locked { by, .. } if by.run == runs[1])
    );
    // It does not ask any more.
    clock.fetch_add(20_000_000, Ordering::SeqCst);
    claimed(store.step_claim("e", &runs[2], &s, 10).await.unwrap());
    assert_eq!(store.lock_list().await.unwrap().iter().filter(|l| l.held).count(), 1);
}

async fn logs_have_offsets_without_gaps(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    let id = StepId::new("a");
    assert_eq!(store.log_append(&run, &id, 1, b"hello ").await.unwrap(), 0);
    assert_eq!(store.log_append(&run, &id, 1, b"world").await.unwrap(), 6);
    let read = async |from| {
        store
            .log_read(&run, &id, from, 10)
            .await
            .unwrap()
            .into_iter()
            .map(|c| (c.start, String::from_utf8(c.bytes).unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(read(0).await, [(0, "hello ".to_owned()), (6, "world".to_owned())]);
    assert_eq!(read(8).await, [(8, "rld".to_owned())]);
    assert_eq!(read(11).await, []);
}

async fn a_run_whose_id_was_chosen_is_created_once(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let chosen = Store::run_id();
    let tries: Vec<_> = (0..6)
        .map(|_| {
            let store = fixture.store.creating(&chosen);
            tokio::spawn(async move { store.run_create(&plan(vec![step("a", &[])]), "me").await })
        })
        .collect();
    for tried in tries {
        assert_eq!(tried.await.unwrap().unwrap(), chosen);
    }
    let created = fixture.store.event_list(Some(&chosen), 0, 10).await.unwrap();
    assert_eq!(created.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["run.created"]);
    assert_eq!(fixture.store.step_list(&chosen).await.unwrap().len(), 1);
    assert_ne!(fixture.store.run_create(&plan(vec![]), "me").await.unwrap(), chosen);
}

async fn runs_change_state_by_compare_and_set(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    assert!(store.run_set_state(&run, RunState::Queued, RunState::Running, None).await.unwrap());
    assert!(!store.run_set_state(&run, RunState::Queued, RunState::Running, None).await.unwrap());
    assert!(store.run_cancel(&run, "me", Some("why")).await.unwrap());
    assert!(store.run_get(&run).await.unwrap().cancel_requested);
    assert!(store.run_set_state(&run, RunState::Running, RunState::Cancelled, Some("asked")).await.unwrap());
    assert!(!store.run_cancel(&run, "me", None).await.unwrap());
    assert!(store.run_cancel(&RunId::new("nope"), "me", None).await.unwrap_err().is_not_found());
}

async fn plans_are_used_once(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let a = step("a", &[]);
    let run = store.run_create(&plan(vec![a.clone()]), "me").await.unwrap();
    assert!(store.plan_mark_used("s", &run, &"a".into()).await.unwrap());
    assert!(!store.plan_mark_used("s", &run, &"b".into()).await.unwrap());
    // Together with the process that uses it.
    let claim = claimed(store.step_claim("e", &run, &a, 10).await.unwrap());
    let process = ProcessRow { pid: 7, ticks: 1, host: "h".into(), boot: "b".into() };
    assert!(!store.process_add(&claim, &process, Some("s")).await.unwrap());
    assert!(store.process_list(&run, &a.id).await.unwrap().is_empty(), "it may not begin");
    // A claim that was lost uses nothing up.
    let lost = Claim { epoch: claim.epoch - 1, ..claim.clone() };
    assert!(store.process_add(&lost, &process, Some("t")).await.is_err());
    assert!(store.process_add(&claim, &process, Some("t")).await.unwrap());
    assert_eq!(store.process_list(&run, &a.id).await.unwrap(), [process]);
    assert!(!store.plan_mark_used("t", &run, &a.id).await.unwrap());
}

fn succeeded(claim: &Claim, output: i64) -> Finish {
    Finish { claim: claim.clone(), outcome: StepOutcome::Succeeded(output.into()), log: b"said".to_vec() }
}

async fn a_turn_is_written_as_a_whole_or_not_at_all(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&plan(["a", "b", "c", "d"].map(|id| step(id, &[])).to_vec()), "me").await.unwrap();
    let turn = async |turn: Turn| store.run_turn("e1", &run, &turn, 10, Durability::Durable).await;
    let ids = |names: &[&str]| names.iter().map(|name| StepId::new(*name)).collect::<Vec<_>>();
    let moved = |from, to| Some(Move { from, to, reason: None });
    let begun = turn(Turn {
        claims: free(&ids(&["b", "a", "nope"])),
        moved: moved(RunState::Queued, RunState::Running),
        ..Turn::default()
    })
    .await
    .unwrap();
    assert!(begun.moved.is_some());
    let names: Vec<&str> = begun.claims.iter().map(|claim| claim.step.as_str()).collect();
    assert_eq!(names, ["b", "a"], "in the order they were given, without what is not there");
    let [b, a] = &begun.claims[..] else { panic!("{begun:?}") };
    // Another engine took one of them over: nothing of the turn is written.
    let taken = store.step_take_over("e2", a, 10).await.unwrap().unwrap();
    let both = |a: &Claim| Turn {
        finished: vec![succeeded(b, 1), succeeded(a, 2)],
        closed: vec![("d".into(), StepState::Skipped, "why".into())],
        claims: free(&ids(&["a", "c"])),
        despite_cancel: false,
        moved: moved(RunState::Queued, RunState::Failed),
    };
    assert!(matches!(turn(both(a)).await, Err(StoreError::StaleClaim { step, .. }) if step == "a"));
    let states = async || {
        let look = store.run_look(&run, None).await.unwrap();
        let of = |step: &windlass_model::run::StepRecord| format!("{} {}", step.id, step.state.as_str());
        (
            look.state,
            look.steps.iter().map(of).collect::<Vec<_>>().join(", "),
            store.step_running().await.unwrap().len(),
        )
    };
    assert_eq!(states().await, (RunState::Running, "a running, b running, c pending, d pending".to_owned(), 2));
    assert_eq!(store.log_end(&run, &b.step).await.unwrap(), 0);
    // With good claims all of it is, but what is not as it was thought: `a` ended in this very turn, the run is not queued.
    let written = turn(both(&taken)).await.unwrap();
    let outputs: Vec<_> = written.finished.iter().map(|step| (step.id.as_str(), step.output.clone())).collect();
    assert_eq!(outputs, [("b", Some(1.into())), ("a", Some(2.into()))]);
    for step in &written.finished {
        assert_eq!(*step, store.step_get(&run, &step.id).await.unwrap(), "as it is recorded");
    }
    assert_eq!(written.claims.iter().map(|claim| claim.step.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(written.moved.is_none());
    assert_eq!(states().await, (RunState::Running, "a succeeded, b succeeded, c running, d skipped".to_owned(), 1));
    assert_eq!(store.log_end(&run, &b.step).await.unwrap(), 4);
    let events = store.event_list(Some(&run), 0, 100).await.unwrap();
    let kinds: Vec<String> =
        events.iter().map(|e| format!("{} {}", e.kind, e.step.as_deref().unwrap_or("-"))).collect();
    assert_eq!(
        kinds,
        [
            "run.created -",
            "step.started b",
            "step.started a",
            "run.running -",
            "step.lost a",
            "step.succeeded b",
            "step.succeeded a",
            "step.skipped d",
            "step.started c"
        ]
    );
}

async fn transactions_that_wait_together_fail_alone(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&plan((0..20).map(|n| step(&format!("s{n}"), &[])).collect()), "me").await.unwrap();
    let ids: Vec<StepId> = (0..20).map(|n| StepId::new(format!("s{n}"))).collect();
    let turn = Turn { claims: free(&ids), ..Turn::default() };
    let claims = store.run_turn("e", &run, &turn, 10, Durability::Durable).await.unwrap().claims;
    let mut tasks = tokio::task::JoinSet::new();
    for (number, mut claim) in claims.into_iter().enumerate() {
        // Every fifth has lost its step.
        claim.epoch += i64::from(number % 5 == 0);
        let (store, finish) = (store.clone(), succeeded(&claim, 1));
        tasks.spawn(async move {
            let Finish { claim, outcome, log } = finish;
            (number, store.step_finish(&claim, &outcome, &log, Durability::Durable).await)
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let (number, result) = ended.unwrap();
        assert_eq!(result.is_err(), number % 5 == 0, "{number}: {result:?}");
    }
    let events = store.event_list(Some(&run), 0, 100).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == "step.succeeded").count(), 16, "each once");
    for (number, id) in ids.iter().enumerate() {
        let want = if number % 5 == 0 { 0 } else { 4 };
        assert_eq!(store.log_end(&run, id).await.unwrap(), want, "{id}: what it said is there once");
    }
}

async fn nothing_waits_for_the_next_transaction_to_come(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    for _ in 0..20 {
        // Of both kinds at once: those that the first group does not take are left to whoever took them from the queue.
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..12 {
            let (store, run) = (store.clone(), run.clone());
            tasks.spawn(async move {
                match number % 2 {
                    0 => store.log_append(&run, &"a".into(), 1, b"x").await.map(drop),
                    _ => store.kv_set("s", &number.to_string(), "1").await,
                }
            });
        }
        let all = async { while tasks.join_next().await.is_some_and(|ended| ended.unwrap().is_ok()) {} };
        tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("each has its turn");
    }
    assert_eq!(store.log_end(&run, &"a".into()).await.unwrap(), 120);
}

async fn a_run_that_waits_is_ready_when_it_is_woken_or_its_time_has_come(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let mut changes = store.changes();
    let run = store.run_create(&plan(vec![step("gate", &[]), step("after", &[])]), "me").await.unwrap();
    // It is told before anybody looks; on a server the first word may be that somebody listens now.
    assert!(changes.wait_for(|now| now.work > 0).await.unwrap().events > 0);
    let wait = async |until: Option<i64>| {
        let state = store.run_get(&run).await.unwrap().state;
        let turn = Turn { claims: free(&["gate".into()]), ..Turn::default() };
        let claim = store.run_turn("e", &run, &turn, 10, Durability::Lazy).await.unwrap().claims.remove(0);
        let outcome = StepOutcome::Waiting { reason: "asks".into(), until };
        let turn = Turn {
            finished: vec![Finish { claim, outcome, log: vec![] }],
            moved: Some(Move { from: state, to: RunState::Waiting, reason: Some("asks".into()) }),
            ..Turn::default()
        };
        assert!(store.run_turn("e", &run, &turn, 10, Durability::Lazy).await.unwrap().moved.is_some());
    };
    let ready = async || store.run_ready(10).await.unwrap().len();
    assert_eq!(ready().await, 1);
    wait(None).await;
    assert_eq!(ready().await, 0, "although a step of it is pending");
    let before = changes.borrow_and_update().work;
    store.step_wake(&run).await.unwrap();
    changes.wait_for(|now| now.work > before).await.unwrap();
    assert_eq!((ready().await, store.run_get(&run).await.unwrap().state), (1, RunState::Running));
    let until = clock.load(Ordering::SeqCst) + 100;
    wait(Some(until)).await;
    assert_eq!(ready().await, 0);
    clock.store(until, Ordering::SeqCst);
    assert_eq!(ready().await, 1);
    wait(None).await;
    let before = changes.borrow_and_update().logs;
    store.log_append(&run, &"gate".into(), 1, b"x").await.unwrap();
    changes.wait_for(|now| now.logs > before).await.unwrap();
}

/// What a file says about itself, on the connection that writes.
async fn pragma(store: &Store, text: String) -> Option<i64> {
    let text: &'static str = text.leak();
    store.write(Durability::Durable, move |tx| tx.row(text, &[])).await.unwrap()
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let rubbish = b"this is not a database, but long enough to be taken for one by its size ".repeat(100);
    std::fs::write(&path, &rubbish).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("w.db"));
    assert_eq!(std::fs::read(&path).unwrap(), rubbish);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let store = Store::open(&path).await.unwrap();
    pragma(&store, "PRAGMA user_version = 99".into()).await;
    store.close().await;
    assert!(matches!(Store::open(&path).await, Err(StoreError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn a_full_disk_is_told_and_loses_nothing_that_was_acknowledged() {
    let fixture = Place::File.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    let pages = pragma(store, "PRAGMA page_count".into()).await.unwrap();
    pragma(store, format!("PRAGMA max_page_count = {}", pages + 2)).await;
    let mut acknowledged = 0i64;
    let error = loop {
        match store.log_append(&run, &"a".into(), 1, &[b'x'; 4096]).await {
            Ok(_) => acknowledged += 4096,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Disk { .. }), "{error:?}");
    pragma(store, "PRAGMA max_page_count = 1000000".into()).await;
    let chunks = store.log_read(&run, &"a".into(), 0, 1000).await.unwrap();
    assert_eq!(chunks.iter().map(|c| c.bytes.len() as i64).sum::<i64>(), acknowledged);
}

#[tokio::test]
async fn a_transaction_waits_for_the_disk_when_it_has_to() {
    let fixture = Place::File.fixture().await;
    // One connection serves both: what the one before it asked for must not stay.
    for (durability, level) in
        [(Durability::Lazy, 1), (Durability::Durable, 2), (Durability::Durable, 2), (Durability::Lazy, 1)]
    {
        let found: Option<i64> = fixture.store.write(durability, |tx| tx.row("PRAGMA synchronous", &[])).await.unwrap();
        assert_eq!(found, Some(level), "{durability:?}");
    }
    let of = [Repeat::Idempotent, Repeat::Checkable, Repeat::Once].map(Durability::of);
    assert_eq!(of, [Durability::Lazy, Durability::Durable, Durability::Durable]);
}

async fn facts_and_log_are_recorded_together_and_by_the_present_claim_alone(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let a = step("a", &["l"]);
    let run = store.run_create(&plan(vec![a.clone()]), "me").await.unwrap();
    let claim = claimed(store.step_claim("e1", &run, &a, 10).await.unwrap());
    let fact = |n: i64| ("x.happened".to_owned(), serde_json::json!({ "n": n, "text": "a \"b\"\n{" }));
    let process = ProcessRow { pid: 7, ticks: 1, host: "h".into(), boot: "b".into() };
    assert!(store.process_add(&claim, &process, None).await.unwrap());
    // How much of each there is after a call.
    let check = async |facts: &[i64], log: &str| {
        let events = store.event_list(Some(&run), 0, 100).await.unwrap();
        let happened = events.iter().filter(|e| e.kind == "x.happened");
        assert!(happened.clone().all(|e| e.data["text"] == "a \"b\"\n{" && e.at == 1_000_000_000));
        assert_eq!(happened.map(|e| e.data["n"].as_i64().unwrap()).collect::<Vec<_>>(), facts);
        let chunks = store.log_read(&run, &a.id, 0, 100).await.unwrap();
        assert_eq!(chunks.iter().flat_map(|c| c.bytes.clone()).collect::<Vec<u8>>(), log.as_bytes());
        let starts = chunks.iter().scan(0, |at, c| Some(std::mem::replace(at, *at + c.bytes.len() as i64)));
        assert!(chunks.iter().map(|c| c.start).eq(starts));
    };
    store.step_record(&claim, b"", &[]).await.unwrap();
    check(&[], "").await;
    assert_eq!(store.step_record(&claim, b"", &[fact(1)]).await.unwrap(), None);
    assert_eq!(store.step_record(&claim, b"one ", &[fact(2), fact(3)]).await.unwrap(), Some(4));
    assert_eq!(store.step_record(&claim, b"two ", &[]).await.unwrap(), Some(8));
    assert_eq!(store.log_append(&run, &a.id, 1, b"three ").await.unwrap(), 8);
    check(&[1, 2, 3], "one two three ").await;

    let taken = store.step_take_over("e2", &claim, 10).await.unwrap().unwrap();
    let success = StepOutcome::Succeeded(1.into());
    let refused = [
        store.step_record(&claim, b"late", &[fact(4)]).await.map(drop),
        store.step_record(&claim, b"late", &[]).await.map(drop),
        store.process_add(&claim, &process, None).await.map(drop),
        store.process_add(&claim, &process, Some("late")).await.map(drop),
        store.step_finish(&claim, &success, b"late", Durability::Lazy).await.map(|_| ()),
    ];
    assert!(refused.iter().all(|r| matches!(r, Err(StoreError::StaleClaim { .. }))), "{refused:?}");
    check(&[1, 2, 3], "one two three ").await;
    assert_eq!(store.lock_list().await.unwrap().len(), 1, "a refused end gives up nothing");
    assert_eq!(store.process_list(&run, &a.id).await.unwrap().len(), 1);

    let end = store.step_finish(&taken, &success, b"four", Durability::Lazy).await.unwrap();
    assert_eq!(end, store.step_get(&run, &a.id).await.unwrap());
    assert_eq!((end.state, end.ended_at), (StepState::Succeeded, Some(1_000_000_000)));
    check(&[1, 2, 3], "one two three four").await;
    assert!(store.lock_list().await.unwrap().is_empty() && store.process_list(&run, &a.id).await.unwrap().is_empty());
    let brief = store.step_list_brief(&run).await.unwrap();
    assert_eq!(brief, [windlass_model::run::StepRecord { output: None, ..end }]);
}

async fn a_value_is_found_by_its_name(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    assert_eq!(store.kv_get("s", "a").await.unwrap(), None);
    for (name, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "3")] {
        store.kv_set("s", name, value).await.unwrap();
    }
    store.kv_set("t", "a", "4").await.unwrap();
    assert_eq!(store.kv_get("s", "a").await.unwrap().as_deref(), Some("3"));
    assert_eq!(store.kv_list("s").await.unwrap(), [("a".into(), "3".into()), ("b".into(), "2".into())]);
    assert!(store.kv_remove("s", "a").await.unwrap() && !store.kv_remove("s", "a").await.unwrap());
    assert_eq!(store.kv_get("s", "a").await.unwrap(), None);
}

async fn a_step_with_several_locks_takes_all_or_waits_for_the_one_that_is_held(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let (holder, both) = (step("holder", &["y"]), step("both", &["x", "y"]));
    let run = store.run_create(&plan(vec![holder.clone(), both.clone()]), "me").await.unwrap();
    let held = claimed(store.step_claim("e1", &run, &holder, 10).await.unwrap());
    match store.step_claim("e1", &run, &both, 10).await.unwrap() {
        ClaimResult::Locked { name, by } => assert_eq!((name.as_str(), by.step), ("y", holder.id.clone())),
        other => panic!("{other:?}"),
    }
    store.step_finish(&held, &StepOutcome::Succeeded(1.into()), &[], Durability::Durable).await.unwrap();
    claimed(store.step_claim("e1", &run, &both, 10).await.unwrap());
    let gone = store.step_claim("e2", &run, &holder, 10).await.unwrap();
    assert_eq!(gone, ClaimResult::Gone);
    let locks: Vec<String> =
        store.lock_list().await.unwrap().into_iter().map(|l| format!("{} {}", l.name, l.step)).collect();
    assert_eq!(locks, ["x both", "y both"], "one that cannot begin stands in no queue");
    // In one turn: what ends gives up its locks before the others ask for them, and those do so one after the other.
    let specs = [step("one", &["x"]), step("two", &["y", "x"]), step("three", &[]), step("four", &["z"])];
    let next = store.run_create(&plan(specs.to_vec()), "me").await.unwrap();
    let wanted = || specs.iter().map(|spec| (spec.id.clone(), spec.locks.clone())).collect();
    let turn = Turn { claims: wanted(), ..Turn::default() };
    let turned = store.run_turn("e", &next, &turn, 10, Durability::Durable).await.unwrap();
    let begun = |turned: &Turned| turned.claims.iter().map(|claim| claim.step.to_string()).collect::<Vec<_>>();
    let waits = |turned: &Turned| -> Vec<String> {
        turned.locked.iter().map(|l| format!("{} for {} of {}", l.step, l.name, l.by.step)).collect()
    };
    assert_eq!(begun(&turned), ["three", "four"]);
    assert_eq!(waits(&turned), ["one for x of both", "two for x of both"]);
    let held: Vec<Claim> = store
        .step_running()
        .await
        .unwrap()
        .into_iter()
        .map(|lost| lost.claim)
        .filter(|claim| claim.step == both.id)
        .collect();
    let ended = Turn { finished: vec![succeeded(&held[0], 1)], ..Turn::default() };
    store.run_turn("e", &run, &ended, 10, Durability::Durable).await.unwrap();
    let turned = store.run_turn("e", &next, &turn, 10, Durability::Durable).await.unwrap();
    assert_eq!(begun(&turned), ["one"]);
    assert_eq!(waits(&turned), ["two for x of one"]);
    let turn = Turn { finished: vec![succeeded(&turned.claims[0], 1)], claims: wanted(), ..Turn::default() };
    let turned = store.run_turn("e", &next, &turn, 10, Durability::Durable).await.unwrap();
    assert_eq!((begun(&turned), waits(&turned)), (vec!["two".to_owned()], vec![]));
}

async fn lists_find_what_they_show(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (shop, data) = (fixture.store.of_project("shop"), fixture.store.of_project("data"));
    let mut runs = Vec::new();
    for (store, kind, title, steps, actor) in [
        (&shop, "apply", "Bigger_net: 1 stack", ["plan:a[x]", "apply:a[x]"], "anna"),
        (&shop, "apply", "smaller net", ["plan:a[x]", "apply:a[x]"], "bob"),
        (&shop, "apply", "other", ["plan:ab", "apply:ab"], "bob"),
        (&data, "apply", "net", ["plan:a[x]", "apply:a[x]"], "anna"),
        (&shop, "review", "net", ["plan:a[x]", "checks"], "anna"),
    ] {
        let steps: Vec<StepSpec> = steps.iter().map(|id| step(id, &[])).collect();
        let input = serde_json::json!({ "review": format!("of-{title}") });
        let plan =
            RunPlan { kind: kind.into(), title: title.into(), input, steps: steps.clone(), ..RunPlan::default() };
        let run = store.run_create(&plan, actor).await.unwrap();
        let claim = claimed(store.step_claim("e", &run, &steps[1], 10).await.unwrap());
        fixture.clock.fetch_add(1_000, std::sync::atomic::Ordering::SeqCst);
        store.step_finish(&claim, &StepOutcome::Succeeded(1.into()), b"log", Durability::Lazy).await.unwrap();
        runs.push(run);
        // Ids of one millisecond have no order.
        while ulid::Ulid::generate().to_string().to_lowercase()[..10]
            == *runs.last().unwrap().as_str().get(..10).unwrap()
        {}
    }
    let last = shop.applied_last().await.unwrap();
    let mut last: Vec<(&str, &RunId, &str)> =
        last.iter().map(|row| (row.step.as_str(), &row.run, row.actor.as_str())).collect();
    last.sort();
    assert_eq!(last, [("apply:a[x]", &runs[1], "bob"), ("apply:ab", &runs[2], "bob")]);
    let (of, total) = shop.applied_of(&"apply:a[x]".into(), 1).await.unwrap();
    assert_eq!((of.len(), &of[0].run, total), (1, &runs[1], 2));

    let find = async |query: RunQuery, want: &[usize]| {
        let found = shop.run_find(&query, 10).await.unwrap();
        let want: Vec<&RunId> = want.iter().map(|number| &runs[*number]).collect();
        assert_eq!(found.iter().map(|run| &run.id).collect::<Vec<_>>(), want, "{query:?}");
    };
    let text = |text: &str| RunQuery { text: text.into(), ..RunQuery::default() };
    find(RunQuery::default(), &[4, 2, 1, 0]).await;
    find(text("NET"), &[4, 1, 0]).await;
    find(text("r_n"), &[0]).await;
    find(text("%"), &[]).await;
    find(text("BOB"), &[2, 1]).await;
    find(text(&runs[2].as_str()[..20]), &[2]).await;
    find(RunQuery { kind: Some("apply".into()), before: Some(runs[2].clone()), ..text("net") }, &[1, 0]).await;
    find(RunQuery { state: Some(RunState::Failed), ..RunQuery::default() }, &[]).await;
    let made = ulid::Ulid::from_string(&runs[2].as_str().to_uppercase()).unwrap().timestamp_ms();
    let since = Some(i64::try_from(made).unwrap() * 1000);
    find(RunQuery { since, ..RunQuery::default() }, &[4, 2]).await;
    find(RunQuery { since, active: true, kind: Some("apply".into()), ..RunQuery::default() }, &[2]).await;
    find(RunQuery { stack: Some("a".into()), ..RunQuery::default() }, &[1, 0]).await;
    find(RunQuery { stack: Some("ab".into()), active: true, ..RunQuery::default() }, &[2]).await;

    assert_eq!(shop.log_sizes(&runs[0], None).await.unwrap(), [("apply:a[x]".into(), 3)]);
    assert_eq!(shop.apply_of(&"of-smaller net".into()).await.unwrap(), None);
    let input = serde_json::json!({ "review": runs[4] });
    let plan = RunPlan {
        kind: "apply".into(),
        title: "t".into(),
        input,
        steps: vec![step("apply:a[x]", &[])],
        ..RunPlan::default()
    };
    let apply = shop.run_create(&plan, "anna").await.unwrap();
    assert_eq!(shop.apply_of(&runs[4]).await.unwrap(), Some(apply));
    assert_eq!(data.apply_of(&runs[4]).await.unwrap(), None);
}

async fn the_oldest_of_a_queue_are_admitted(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("shop");
    let mut runs = Vec::new();
    for _ in 0..6 {
        runs.push(store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap());
    }
    // All at once: whoever is told that nobody is in the way is right.
    let asked: Vec<_> = runs
        .iter()
        .cloned()
        .map(|run| {
            let store = store.clone();
            tokio::spawn(async move { (store.admission_take("db", &run, 2).await.unwrap().is_empty(), run) })
        })
        .collect();
    let mut admitted = Vec::new();
    for asked in asked {
        let (is_admitted, run) = asked.await.unwrap();
        admitted.extend(is_admitted.then_some(run));
    }
    let queue = store.admission_list("db").await.unwrap();
    assert_eq!((queue.len(), admitted.len()), (6, 2));
    assert!(queue[..2].iter().all(|run| admitted.contains(run)), "{queue:?} {admitted:?}");
    assert_eq!(store.admission_take("db", &queue[2], 2).await.unwrap(), queue[..2]);
    assert!(store.admission_take("db", &queue[2], 3).await.unwrap().is_empty(), "it may have been made longer");
    assert!(store.admission_take("other", &queue[2], 1).await.unwrap().is_empty());
    assert!(fixture.store.of_project("bank").admission_list("db").await.unwrap().is_empty());
    store.run_set_state(&queue[1], RunState::Queued, RunState::Failed, None).await.unwrap();
    assert!(store.admission_take("db", &queue[2], 2).await.unwrap().is_empty());
    assert_eq!(store.admission_take("db", &queue[3], 2).await.unwrap(), [queue[0].clone(), queue[2].clone()]);
}

async fn answers_are_kept_and_wake_the_step_that_asked(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let (a, b) = (step("a", &[]), step("b", &[]));
    let run = store.run_create(&plan(vec![a.clone(), b.clone()]), "me").await.unwrap();
    for step in [&a, &b] {
        let claim = claimed(store.step_claim("e", &run, step, 10).await.unwrap());
        let waits = StepOutcome::Waiting { reason: "asks".into(), until: None };
        store.step_finish(&claim, &waits, &[], Durability::Durable).await.unwrap();
    }
    let actor = r#"{"name":"ann","identities":["user:ann"],"verified":true}"#;
    store.answer_add(&run, &a.id, actor, "approve", Some("seen")).await.unwrap();
    store.answer_add(&run, &a.id, actor, "refuse", None).await.unwrap();
    let found = store.answer_list(&run, &a.id).await.unwrap();
    let found: Vec<_> = found.iter().map(|a| (a.actor.name.as_str(), a.value.as_str(), a.reason.as_deref())).collect();
    assert_eq!(found, [("ann", "approve", Some("seen")), ("ann", "refuse", None)]);
    assert!(store.answer_list(&run, &b.id).await.unwrap().is_empty());
    let states: Vec<_> = store.step_list(&run).await.unwrap().into_iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Pending, StepState::Waiting]);
    let events = store.event_list(Some(&run), 0, 100).await.unwrap();
    let told: Vec<_> = events.iter().filter(|e| e.kind == "step.answered").map(|e| e.actor.as_deref()).collect();
    assert_eq!(told, [Some("ann"), Some("ann")]);
}
