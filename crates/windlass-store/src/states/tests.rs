use super::*;
use crate::{ClaimResult, RunFilter, StepOutcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use windlass_model::run::{Cost, Repeat, Retry, RunPlan, StepSpec, When, Work};
use windlass_testkit::postgres::Postgres;

const START: Micros = 1_000_000_000;

fn step(id: &str, lock: Option<&str>) -> StepSpec {
    let value = serde_json::json!({
        "id": id, "title": id, "after": [], "when": When::Succeeded, "work": Work { driver: "d".into(), input: serde_json::Value::Null },
        "repeat": Repeat::Idempotent, "timeout": null, "retry": Retry::NEVER, "cost": Cost::NONE,
        "locks": lock.into_iter().collect::<Vec<_>>(),
    });
    serde_json::from_value(value).unwrap()
}

/// The same sequence of numbers for the same seed (a linear congruential generator, constants of Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What is counted is what lists show, at every point of a story.
async fn agree(store: &Store, specs: &BTreeMap<RunId, Vec<StepSpec>>, now: Micros) {
    let active = RunFilter { active: true, ..RunFilter::default() };
    let listed = store.run_search(&active, 1000).await.unwrap();
    let waits = store.run_waits(1000).await.unwrap();
    let mut of_state: BTreeMap<(String, &str), i64> = BTreeMap::new();
    let mut waiting = Vec::new();
    let queues = store.lock_list().await.unwrap();
    for run in listed.iter().rev() {
        let steps = store.step_list(&run.id).await.unwrap();
        assert_eq!(steps.len(), specs[&run.id].len());
        for step in &steps {
            *of_state.entry((run.kind.clone(), step.state.as_str())).or_default() += 1;
        }
        if steps.iter().any(|step| step.state == StepState::Running) {
            continue;
        }
        let class = if steps.iter().any(|step| step.state == StepState::Unknown) {
            WaitClass::Person
        } else if steps.iter().any(|step| step.state == StepState::Waiting && step.not_before.is_none()) {
            WaitClass::Approval
        } else if queues.iter().any(|row| row.run == run.id) {
            WaitClass::Lock
        } else if steps.iter().any(|step| !step.state.is_final() && step.not_before.is_some_and(|at| at > now)) {
            WaitClass::Time
        } else {
            WaitClass::Place
        };
        waiting.push((run.id.clone(), class));
    }
    assert_eq!(waits.into_iter().map(|wait| (wait.run, wait.class)).collect::<Vec<_>>(), waiting);
    let counted: BTreeMap<_, _> = store
        .step_count()
        .await
        .unwrap()
        .into_iter()
        .map(|(_, kind, state, count)| ((kind, state.as_str()), count))
        .collect();
    assert_eq!(counted, of_state);
    let mut counted: BTreeMap<&str, i64> = BTreeMap::new();
    for (_, _, state, count) in store.run_count(0).await.unwrap() {
        *counted.entry(state.as_str()).or_default() += count;
    }
    let mut all: BTreeMap<&str, i64> = BTreeMap::new();
    for run in store.run_search(&RunFilter::default(), 1000).await.unwrap() {
        *all.entry(run.state.as_str()).or_default() += 1;
    }
    assert_eq!(counted, all);
}

/// A story of random claims, ends and times, on one engine.
async fn story(store: &Store, clock: &AtomicI64, seed: u64) {
    let store = &store.of_project("p");
    let (mut dice, mut now) = (Dice(seed), START);
    let mut specs: BTreeMap<RunId, Vec<StepSpec>> = BTreeMap::new();
    let mut claims = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for turn in 0..60 {
        match dice.roll(5) {
            0 => {
                let steps = vec![step("a", (dice.roll(2) == 0).then_some("stack:x")), step("b", None)];
                let plan = RunPlan {
                    kind: format!("k{}", dice.roll(2)),
                    title: "t".into(),
                    input: 1.into(),
                    steps,
                    ..RunPlan::default()
                };
                let run = store.run_create(&plan, "me").await.unwrap();
                specs.insert(run, plan.steps);
            }
            1 | 2 if !specs.is_empty() => {
                let (run, steps) = specs.iter().nth(dice.roll(specs.len() as u64) as usize).unwrap();
                let spec = &steps[dice.roll(2) as usize];
                if let ClaimResult::Claimed(claim) = store.step_claim("e", run, spec, 30_000_000).await.unwrap() {
                    claims.push(claim);
                }
            }
            3 if !claims.is_empty() => {
                let claim = claims.swap_remove(dice.roll(claims.len() as u64) as usize);
                let outcome = match dice.roll(6) {
                    0 => StepOutcome::Unknown { reason: "who knows".into() },
                    1 => StepOutcome::Waiting { reason: "approval".into(), until: None },
                    2 => StepOutcome::Waiting { reason: "soaks".into(), until: Some(now + 5_000_000) },
                    3 => StepOutcome::Again { reason: "again".into(), at: now + 3_000_000 },
                    _ => StepOutcome::Succeeded(1.into()),
                };
                store.step_finish(&claim, &outcome, &[], Durability::Lazy).await.unwrap();
                let ended = store.step_list(&claim.run).await.unwrap().iter().all(|step| step.state.is_final());
                if ended {
                    store.run_set_state(&claim.run, RunState::Queued, RunState::Succeeded, None).await.unwrap();
                }
            }
            _ => {
                now += dice.roll(4_000_000) as i64;
                clock.store(now, Ordering::SeqCst);
            }
        }
        agree(store, &specs, now).await;
        if turn % 20 == 19 {
            seen.extend(store.run_waits(1000).await.unwrap().into_iter().map(|wait| wait.class));
        }
    }
    assert!(seen.len() > 1, "a story in which runs wait for one thing alone shows nothing: {seen:?}");
    let ends = store.run_ends(0, now).await.unwrap();
    let ended =
        store.run_search(&RunFilter { state: Some(RunState::Succeeded), ..RunFilter::default() }, 1000).await.unwrap();
    assert_eq!(ends.len(), ended.len());
    assert!(store.run_ends(now, now + 1).await.unwrap().is_empty());
}

async fn stuck_and_alive(store: &Store, clock: &AtomicI64) {
    clock.store(START, Ordering::SeqCst);
    let spec = step("a", None);
    let plan = RunPlan {
        kind: "k".into(),
        title: "t".into(),
        input: 1.into(),
        steps: vec![spec.clone()],
        ..RunPlan::default()
    };
    let run = store.of_project("p").run_create(&plan, "me").await.unwrap();
    let claimed = store.step_claim("lonely", &run, &spec, 10).await.unwrap();
    assert!(matches!(claimed, ClaimResult::Claimed(_)));
    let worker = WorkerRow {
        id: "w".into(),
        host: "h".into(),
        labels: Labels { own: vec!["gpu".into()], rest: false },
        version: "1".into(),
        draining: false,
        started_at: START,
        seen_at: 0,
    };
    store.worker_tell(&worker, 10).await.unwrap();
    assert!(store.step_stuck().await.unwrap().iter().all(|step| step.run != run));
    assert_eq!(store.worker_list().await.unwrap(), [WorkerRow { seen_at: START, ..worker.clone() }]);
    clock.store(START + 11, Ordering::SeqCst);
    let stuck = store.step_stuck().await.unwrap();
    assert!(stuck.iter().any(|step| step.run == run && step.lease_until == START + 10), "{stuck:?}");
    assert_eq!(store.worker_list().await.unwrap(), [], "it does not say any more that it lives");
    store.worker_tell(&worker, 10).await.unwrap();
    store.worker_end("w").await.unwrap();
    assert_eq!(store.worker_list().await.unwrap(), []);
}

#[tokio::test]
async fn counts_agree_with_lists_on_a_file() {
    for seed in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(START));
        let store = Store::open_with(&directory.path().join("w.db"), Some(clock.clone())).await.unwrap();
        story(&store, &clock, seed).await;
        stuck_and_alive(&store, &clock).await;
    }
}

#[tokio::test]
async fn counts_agree_with_lists_on_postgres() {
    let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap();
    let clock = Arc::new(AtomicI64::new(START));
    let store = Store::connect_with(&server.database("states"), Some(clock.clone())).await.unwrap();
    story(&store, &clock, 7).await;
    stuck_and_alive(&store, &clock).await;
    store.close().await;
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
