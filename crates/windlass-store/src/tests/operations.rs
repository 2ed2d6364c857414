//! Queues, steps that were added, runs that go on, and lists of the runs of an operation.

use super::*;
use crate::{Look, StepOrder, StepQuery, StepsOf};
use windlass_model::operation::plan::ADMIT;
use windlass_model::run::{Expansion, NOT_NEEDED, Phase, StepRecord};

cases! {
    who_is_next_in_a_queue_is_woken,
    what_a_step_adds_is_recorded_with_its_success,
    a_large_run_is_read_by_windows,
    a_cancel_keeps_back_the_main_phase_and_a_kill_everything,
    a_run_goes_on_with_what_another_had_done,
    a_run_takes_its_place_when_it_is_stored_or_is_not_stored,
    runs_of_an_operation_are_found_by_its_name,
    a_run_whose_time_is_over_is_looked_at,
}

fn of(subject: &str, steps: Vec<StepSpec>) -> RunPlan {
    RunPlan { subject: Some(subject.into()), ..plan(steps) }
}

/// A run whose admission waits.
async fn queued(store: &Store) -> RunId {
    let admit = step(ADMIT, &[]);
    let run = store.run_create(&of("o", vec![admit.clone()]), "me").await.unwrap();
    let claim = claimed(store.step_claim("e", &run, &admit, 1000).await.unwrap());
    let waiting = StepOutcome::Waiting { reason: "waits for a place".into(), until: None };
    store.step_finish(&claim, &waiting, &[], Durability::Durable).await.unwrap();
    store.run_set_state(&run, RunState::Queued, RunState::Waiting, None).await.unwrap();
    run
}

async fn end(store: &Store, run: &RunId) {
    let state = store.run_get(run).await.unwrap().state;
    assert!(store.run_set_state(run, state, RunState::Succeeded, None).await.unwrap());
}

async fn who_is_next_in_a_queue_is_woken(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("shop");
    let mut runs = Vec::new();
    for _ in 0..4 {
        let run = queued(&store).await;
        store.admission_take("db", &run, 2).await.unwrap();
        runs.push(run);
    }
    let [a, b, c, d] = &runs[..] else { unreachable!() };
    store.step_wake(a).await.unwrap();
    store.step_wake(b).await.unwrap();
    end(&store, b).await;
    // Whose step waits first is woken, and nobody else.
    let waits = async |run| store.step_get(run, &ADMIT.into()).await.unwrap().state == StepState::Waiting;
    assert!(!waits(c).await && waits(d).await);
    assert_eq!(store.run_get(c).await.unwrap().state, RunState::Running);
    assert!(store.admission_take("db", c, 2).await.unwrap().is_empty());
    assert_eq!(store.admission_list("db").await.unwrap(), [a.clone(), c.clone(), d.clone()]);
}

async fn what_a_step_adds_is_recorded_with_its_success(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let each = step("each", &[]);
    let run = store.run_create(&plan(vec![step("a", &[]), each.clone(), step("z", &[])]), "me").await.unwrap();
    let added = |of: &str, count: usize| {
        let steps = (0..count).map(|n| step(&format!("{of}[{n}]"), &[])).collect();
        StepOutcome::Expanded { output: 7.into(), expansion: Arc::new(Expansion { steps, ..Expansion::default() }) }
    };
    let claim = claimed(store.step_claim("e1", &run, &each, 10).await.unwrap());
    let taken = store.step_take_over("e2", &claim, 10).await.unwrap().unwrap();
    // Who lost the step adds nothing.
    assert!(store.step_finish(&claim, &added("each", 9), &[], Durability::Durable).await.is_err());
    let ended = store.step_finish(&taken, &added("each", 2), &[], Durability::Durable).await.unwrap();
    assert_eq!((ended.state, ended.output), (StepState::Succeeded, Some(7.into())));
    // What is added can add more, as often as it likes.
    let mut inner = "each[1]".to_owned();
    for _ in 0..30 {
        let spec =
            store.run_get(&run).await.unwrap().plan.steps.into_iter().find(|spec| spec.id.as_str() == inner).unwrap();
        let claim = claimed(store.step_claim("e2", &run, &spec, 10).await.unwrap());
        store.step_finish(&claim, &added(&inner, 2), &[], Durability::Durable).await.unwrap();
        inner = format!("{inner}[1]");
    }
    let plan: Vec<StepId> = store.run_get(&run).await.unwrap().plan.steps.into_iter().map(|spec| spec.id).collect();
    let steps: Vec<StepId> = store.step_list(&run).await.unwrap().into_iter().map(|step| step.id).collect();
    assert_eq!((plan.len(), &plan), (3 + 2 * 31, &steps), "in one order");
    assert_eq!((steps[1].as_str(), steps[2].as_str(), steps.last().unwrap().as_str()), ("each", "each[0]", "z"));
    let each = store.run_get(&run).await.unwrap().plan.steps;
    assert_eq!(each[2].flow.added_by, Some("each".into()));
}

async fn a_large_run_is_read_by_windows(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let each = step("each", &[]);
    let mut undo = step("undo:a", &[]);
    undo.flow.phase = Phase::Undo("a".into());
    let run = store.run_create(&plan(vec![step("a", &[]), each.clone(), step("z", &[]), undo]), "me").await.unwrap();
    let since = store.run_look(&run, None).await.unwrap().seen;
    let claim = claimed(store.step_claim("e", &run, &each, 10).await.unwrap());
    let steps: Vec<_> = (0..5).map(|n| step(&format!("each[Host-{n}]"), &[])).collect();
    let expansion = Arc::new(Expansion { steps: steps.clone(), ..Expansion::default() });
    let outcome = StepOutcome::Expanded { output: 7.into(), expansion };
    store.step_finish(&claim, &outcome, &[], Durability::Durable).await.unwrap();
    let claim = claimed(store.step_claim("e", &run, &steps[3], 10).await.unwrap());
    let failed = StepOutcome::Failed { code: "WL543".into(), reason: "no".into() };
    store.step_finish(&claim, &failed, b"said", Durability::Durable).await.unwrap();
    claimed(store.step_claim("e", &run, &steps[1], 10).await.unwrap());

    // Only what happened is looked at, all of it where that may be anything.
    let names = |look: &Look| look.steps.iter().map(|step| step.id.to_string()).collect::<Vec<_>>().join(" ");
    let look = store.run_look(&run, Some(since)).await.unwrap();
    assert_eq!((names(&look).as_str(), &look.expanded[..]), ("each each[Host-1] each[Host-3]", &["each".into()][..]));
    let again = store.run_look(&run, Some(look.seen)).await.unwrap();
    assert_eq!((names(&again).as_str(), again.seen), ("", look.seen));
    store.run_halt(&run, "me", "why").await.unwrap();
    let halted = store.run_look(&run, Some(look.seen)).await.unwrap();
    assert_eq!((halted.steps.len(), halted.seen > look.seen), (9, true));
    store.run_resume(&run, "me").await.unwrap();

    let find = async |query: StepQuery, limit: u32, wanted: &str| {
        let found = store.step_find(&run, &query, limit).await.unwrap();
        let ids: Vec<&str> = found.iter().map(|step| step.record.id.as_str()).collect();
        assert_eq!(ids.join(" "), wanted, "{query:?}");
        found
    };
    let members = || StepQuery { of: StepsOf::Step("each".into()), ..StepQuery::default() };
    let own = StepQuery { of: StepsOf::Plan, ..StepQuery::default() };
    find(own.clone(), 9, "a each z undo:a").await;
    find(StepQuery { begun: true, ..own }, 9, "a each z").await;
    let all = "a each each[Host-0] each[Host-1] each[Host-2] each[Host-3] each[Host-4] z undo:a";
    let rows = find(StepQuery::default(), 9, all).await;
    find(StepQuery { after: Some(rows[5].position), ..StepQuery::default() }, 2, "each[Host-4] z").await;
    assert_eq!((&rows[2].spec, &rows[2].added_by), (&Some(steps[0].clone()), &Some("each".into())));
    assert_eq!((&rows[0].spec, &rows[0].added_by), (&None, &None));
    let troubled = StepQuery { order: StepOrder::Trouble, ..members() };
    find(troubled.clone(), 3, "each[Host-3] each[Host-1] each[Host-0]").await;
    find(StepQuery { skip: 3, ..troubled }, 3, "each[Host-2] each[Host-4]").await;
    find(StepQuery { text: "HOST-2".into(), ..members() }, 3, "each[Host-2]").await;
    find(StepQuery { text: "h%t".into(), ..members() }, 3, "").await;
    find(StepQuery { state: Some(StepState::Pending), ..members() }, 2, "each[Host-0] each[Host-2]").await;
    let some = store.step_some(&run, &["z".into(), "each[Host-3]".into(), "none".into()]).await.unwrap();
    assert_eq!(some.iter().map(|step| step.record.id.as_str()).collect::<Vec<_>>(), ["each[Host-3]", "z"]);

    let mut tally = store.step_tally(&run).await.unwrap();
    tally.retain(|some| some.added_by.is_some());
    let mut counts: Vec<_> = tally.iter().map(|some| (some.state.as_str(), some.count, some.main)).collect();
    counts.sort();
    assert_eq!(counts, [("failed", 1, true), ("pending", 3, true), ("running", 1, true)]);
    let only = ["each[Host-3]".into(), "a".into()];
    assert_eq!(store.log_sizes(&run, Some(&only)).await.unwrap(), [("each[Host-3]".into(), 4)]);
    let events = store.event_of_steps(&run, &only, 9).await.unwrap();
    assert_eq!(events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["step.started", "step.failed"]);
    let (planned, whole) = (store.run_planned(&run).await.unwrap(), store.run_get(&run).await.unwrap());
    assert_eq!((planned.plan.steps.len(), whole.plan.steps.len()), (4, 9));
}

async fn a_cancel_keeps_back_the_main_phase_and_a_kill_everything(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let undo = |locks: &[&str]| {
        let mut undo = step("undo", locks);
        undo.flow.phase = Phase::Undo("a".into());
        undo
    };
    for locks in [&[][..], &["l"]] {
        for (kill, wanted) in [(false, true), (true, false)] {
            let run = store.run_create(&plan(vec![step("a", locks), undo(locks)]), "me").await.unwrap();
            let asked =
                if kill { store.run_kill(&run, "me", None).await } else { store.run_cancel(&run, "me", None).await };
            assert!(asked.unwrap());
            let record = store.run_get(&run).await.unwrap();
            assert_eq!((record.cancel_requested, record.kill_requested), (true, kill));
            assert_eq!(store.run_look(&run, None).await.unwrap().stop, record.stop());
            assert_eq!(store.step_claim("e", &run, &step("a", locks), 10).await.unwrap(), ClaimResult::Gone);
            let claim = store.step_claim("e", &run, &undo(locks), 10).await.unwrap();
            assert_eq!(matches!(claim, ClaimResult::Claimed(_)), wanted, "{locks:?} {kill}");
            if let ClaimResult::Claimed(claim) = claim {
                let outcome = StepOutcome::NotNeeded { reason: "nothing".into() };
                let ended = store.step_finish(&claim, &outcome, &[], Durability::Durable).await.unwrap();
                assert_eq!((ended.state, ended.code.as_deref()), (StepState::Skipped, Some(NOT_NEEDED)));
            }
        }
    }
}

async fn a_run_goes_on_with_what_another_had_done(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let done = StepRecord {
        state: StepState::Succeeded,
        attempt: 2,
        started_at: Some(5),
        ended_at: Some(6),
        output: Some(serde_json::json!({ "x": 1 })),
        ..StepRecord::pending("a".into())
    };
    let passed = StepRecord {
        state: StepState::Skipped,
        code: Some(NOT_NEEDED.into()),
        reason: Some("by ben".into()),
        ..StepRecord::pending("b".into())
    };
    let first = [done, passed, StepRecord::pending("c".into())];
    let steps = vec![step("a", &[]), step("b", &[]), step("c", &[])];
    let run =
        store.run_create_with(&plan(steps), "me", Beside { first: first.to_vec(), ..Beside::default() }).await.unwrap();
    assert_eq!(store.step_list(&run).await.unwrap(), first);
}

async fn a_run_takes_its_place_when_it_is_stored_or_is_not_stored(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("shop");
    let beside = |takes_place: Option<&str>| Beside {
        queue: Some(Queue { name: "db".into(), limit: 2, takes_place: takes_place.map(str::to_owned) }),
        fact: Some(Fact {
            kind: "operation.broke_glass".into(),
            subject: "operation o".into(),
            data: 7.into(),
            reason: Some("it burns".into()),
        }),
        ..Beside::default()
    };
    let new = of("o", vec![step(ADMIT, &[])]);
    let create = async |beside| store.run_create_with(&new, "me", beside).await;
    // Of ten at the same time there is room for two, and of the others nothing is left.
    let tries: Vec<_> = (0..10)
        .map(|_| {
            let (store, new, beside) = (store.clone(), new.clone(), beside(None));
            tokio::spawn(async move { store.run_create_with(&new, "me", beside).await })
        })
        .collect();
    let mut good = Vec::new();
    for created in tries {
        match created.await.unwrap() {
            Ok(run) => good.push(run),
            Err(error) => assert!(error.is_conflict() && error.to_string().contains("`db` is taken: run "), "{error}"),
        }
    }
    assert_eq!(good.len(), 2);
    let facts = async || {
        let events = store.event_list(None, 0, 1000).await.unwrap();
        let told = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
        (told("operation.broke_glass"), told("run.created"), told("run.cancel_requested"))
    };
    assert_eq!(facts().await, (2, 2, 0));
    assert_eq!(store.run_search(&RunFilter::default(), 100).await.unwrap().len(), 2);
    let told = store.event_list(Some(&good[0]), 0, 10).await.unwrap().remove(0);
    assert_eq!((told.subject.as_deref(), told.actor.as_deref()), (Some("operation o"), Some("me")));
    assert_eq!((told.reason.as_deref(), told.data), (Some("it burns"), 7.into()));

    // One that takes the place of others has it once they have ended; the same asked for again is the same.
    let id = Store::run_id();
    let taking = async || store.creating(&id).run_create_with(&new, "me", beside(Some("there is another"))).await;
    assert_eq!(taking().await.unwrap(), id);
    assert_eq!(taking().await.unwrap(), id);
    assert_eq!(facts().await, (3, 3, 2));
    for run in &good {
        let record = store.run_get(run).await.unwrap();
        assert!(record.cancel_requested && !record.kill_requested);
    }
    assert_eq!(store.admission_take("db", &id, 2).await.unwrap().len(), 2);
    assert!(create(beside(None)).await.is_err());
    end(&store, &good[0]).await;
    assert!(store.admission_take("db", &id, 2).await.unwrap().is_empty());
    end(&store, &good[1]).await;
    create(beside(None)).await.unwrap();
}

async fn runs_of_an_operation_are_found_by_its_name(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("shop");
    let mut runs = Vec::new();
    for (number, subject) in ["dump", "dump", "clean", "dump"].iter().enumerate() {
        let run = store.run_create(&of(subject, vec![]), "me").await.unwrap();
        fixture.clock.fetch_add(1000 * (number as i64 + 1), std::sync::atomic::Ordering::SeqCst);
        if number < 3 {
            end(&store, &run).await;
        }
        runs.push(run);
    }
    let find = async |filter: RunFilter| -> Vec<usize> {
        let filter = RunFilter { subject: Some("dump".into()), ..filter };
        let found = store.run_search(&filter, 10).await.unwrap();
        found.iter().map(|run| runs.iter().position(|known| *known == run.id).unwrap()).collect()
    };
    assert_eq!(find(RunFilter::default()).await, [3, 1, 0]);
    assert_eq!(find(RunFilter { active: true, ..RunFilter::default() }).await, [3]);
    assert_eq!(find(RunFilter { before: Some(runs[1].clone()), ..RunFilter::default() }).await, [0]);
    let query = RunQuery { subject: Some("clean".into()), ..RunQuery::default() };
    assert_eq!(store.run_find(&query, 10).await.unwrap().len(), 1);
    assert_eq!(store.run_durations("dump", 10).await.unwrap(), [2000, 1000]);
    assert_eq!(store.run_durations("dump", 1).await.unwrap(), [2000]);
    assert!(store.of_project("bar").run_durations("dump", 10).await.unwrap().is_empty());
}

async fn a_run_whose_time_is_over_is_looked_at(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&RunPlan { timeout: Some(1000), ..plan(vec![]) }, "me").await.unwrap();
    store.run_set_state(&run, RunState::Queued, RunState::Waiting, None).await.unwrap();
    assert_eq!(store.run_ready(10).await.unwrap(), []);
    fixture.clock.fetch_add(1000, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(store.run_ready(10).await.unwrap(), std::slice::from_ref(&run));
    end(store, &run).await;
    assert_eq!(store.run_ready(10).await.unwrap(), []);
}
