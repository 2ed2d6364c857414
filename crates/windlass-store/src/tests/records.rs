//! What each kind of record promises to those that ask for it.

use super::*;
use windlass_model::approval::Actor;
use windlass_model::review::{Review, Revision, Verdict};
use windlass_model::waiver::Waiver;

cases! {
    a_ticket_is_good_for_a_time_and_taken_once,
    a_token_is_good_until_it_ends_or_is_revoked,
    a_seal_has_its_number_once,
    runs_are_found_by_what_they_are,
    events_are_found_by_what_they_are,
    a_run_is_ready_when_something_is_to_be_done,
    projects_see_what_is_theirs,
    a_review_is_taken_together_with_its_run,
    changes_wake_those_that_wait,
}

async fn a_ticket_is_good_for_a_time_and_taken_once(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let now = clock.load(Ordering::SeqCst);
    assert!(store.ticket_put("link", "a", "1", now + 10).await.unwrap());
    // One that is good stays, whatever comes.
    assert!(!store.ticket_put("link", "a", "2", now + 99).await.unwrap());
    assert!(store.ticket_put("other", "a", "3", now + 10).await.unwrap());
    assert_eq!(store.ticket_get("link", "a").await.unwrap().as_deref(), Some("1"));
    assert!(store.ticket_renew("link", "a", "4", now + 20).await.unwrap());
    assert!(!store.ticket_renew("link", "b", "4", now + 20).await.unwrap());
    // Who has read what somebody else changed meanwhile changes nothing.
    assert!(!store.ticket_swap("link", "a", "1", Some(("5", now + 20))).await.unwrap());
    assert!(!store.ticket_swap("link", "a", "1", None).await.unwrap());
    assert!(store.ticket_swap("link", "a", "4", Some(("6", now + 20))).await.unwrap());
    assert!(store.ticket_swap("link", "a", "6", Some(("4", now + 20))).await.unwrap());
    assert!(store.ticket_swap("other", "a", "3", None).await.unwrap());
    assert!(store.ticket_put("other", "a", "3", now + 10).await.unwrap());

    let takers: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.ticket_take("link", "a").await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    assert_eq!(taken, ["4"]);

    for (name, end) in [("short", 10), ("long", 30)] {
        assert!(store.ticket_put("session", name, "v", now + end).await.unwrap());
    }
    clock.store(now + 10, Ordering::SeqCst);
    // From its end on it is good for nothing, and its name is free.
    assert_eq!(store.ticket_get("session", "short").await.unwrap(), None);
    assert!(!store.ticket_renew("session", "short", "w", now + 50).await.unwrap());
    assert_eq!(store.ticket_take("other", "a").await.unwrap(), None);
    assert!(store.ticket_put("session", "short", "w", now + 20).await.unwrap());
    clock.store(now + 25, Ordering::SeqCst);
    assert_eq!((store.ticket_sweep().await.unwrap(), store.ticket_sweep().await.unwrap()), (1, 0));
    assert_eq!(store.ticket_get("session", "long").await.unwrap().as_deref(), Some("v"));
}

async fn a_token_is_good_until_it_ends_or_is_revoked(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let now = clock.load(Ordering::SeqCst);
    let made = store.token_create("d1", "ci", "ann", "{}", now + 200_000_000).await.unwrap();
    let second = store.token_create("d2", "cd", "bob", "{}", now + 1_000_000_000).await.unwrap();
    assert!(store.token_create("d1", "ci", "ann", "{}", now).await.is_err(), "a digest is there once");
    assert_eq!(store.token_use("d0").await.unwrap(), None);
    assert_eq!(store.token_use("d1").await.unwrap().unwrap(), made);
    let used = async || store.token_list(Some("ann")).await.unwrap()[0].used_at;
    assert_eq!(used().await, Some(now));
    // To the minute: not every use is written down.
    for (later, seen) in [(59_999_999, now), (60_000_000, now + 60_000_000)] {
        clock.store(now + later, Ordering::SeqCst);
        store.token_use("d1").await.unwrap().unwrap();
        assert_eq!(used().await, Some(seen));
    }
    clock.store(now + 200_000_000, Ordering::SeqCst);
    assert_eq!(store.token_use("d1").await.unwrap(), None, "it has ended");
    assert!(!store.token_revoke(&second.id, Some("ann"), "ann").await.unwrap(), "it is bob's");
    assert!(store.token_use("d2").await.unwrap().is_some());
    assert!(store.token_revoke(&second.id, Some("bob"), "bob").await.unwrap());
    assert!(!store.token_revoke(&second.id, None, "root").await.unwrap());
    assert_eq!(store.token_use("d2").await.unwrap(), None);
    let mut names: Vec<String> = store.token_list(None).await.unwrap().into_iter().map(|token| token.name).collect();
    names.sort();
    assert_eq!(names, ["cd", "ci"]);
    let filter = EventFilter { subject: Some(format!("token {}", second.id)), ..EventFilter::default() };
    let told = store.event_search(&filter, None, 10).await.unwrap();
    let told: Vec<_> = told.iter().map(|e| (e.kind.as_str(), e.actor.as_deref())).collect();
    assert_eq!(told, [("token.revoked", Some("bob")), ("token.created", Some("bob"))]);
}

async fn a_seal_has_its_number_once(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let seal =
        |number, body: &str| SealRow { number, first: number * 10, last: number * 10 + 9, body: body.into(), at: 5 };
    assert_eq!(store.seal_last().await.unwrap(), None);
    for number in 1..=3 {
        // Servers seal at the same time; one of them is first.
        let at_once: Vec<_> = (0..4)
            .map(|server| {
                let (store, seal) = (store.clone(), seal(number, &format!("by {server}")));
                tokio::spawn(async move { store.seal_add(&seal).await.unwrap().then_some(seal) })
            })
            .collect();
        let mut won = Vec::new();
        for one in at_once {
            won.extend(one.await.unwrap());
        }
        assert_eq!(won.len(), 1);
        assert_eq!(store.seal_last().await.unwrap().as_ref(), won.first());
    }
    let numbers = async |after, limit| -> Vec<i64> {
        store.seal_list(after, limit).await.unwrap().iter().map(|seal| seal.number).collect()
    };
    assert_eq!((numbers(0, 2).await, numbers(2, 9).await), (vec![1, 2], vec![3]));
}

async fn runs_are_found_by_what_they_are(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (shop, shed) = (fixture.store.of_project("shop"), fixture.store.of_project("shed"));
    let made = async |store: &Store, kind: &str, actor: &str, ended: bool| {
        let run = store.run_create(&RunPlan { kind: kind.into(), ..plan(vec![]) }, actor).await.unwrap();
        if ended {
            assert!(store.run_set_state(&run, RunState::Queued, RunState::Failed, Some("no")).await.unwrap());
        }
        // Ids grow by the millisecond.
        let millisecond = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let then = millisecond();
        while millisecond() == then {
            tokio::task::yield_now().await;
        }
        run
    };
    let a = made(&shop, "review", "ann", true).await;
    let b = made(&shop, "apply", "ann", false).await;
    let c = made(&shed, "review", "bob", false).await;
    let d = made(&shop, "review", "bob", false).await;
    let of = RunFilter::default;
    let check = async |store: &Store, filter: RunFilter, limit, wanted: &[&RunId]| {
        let found = store.run_search(&filter, limit).await.unwrap();
        assert_eq!(found.iter().map(|run| &run.id).collect::<Vec<_>>(), wanted, "{filter:?}");
        let records = store.run_list(&filter, limit).await.unwrap();
        assert!(records.iter().map(|run| &run.id).eq(wanted.iter().copied()));
    };
    check(&fixture.store, of(), 9, &[&d, &c, &b, &a]).await;
    check(&shop, of(), 9, &[&d, &b, &a]).await;
    check(&shop, of(), 2, &[&d, &b]).await;
    check(&shop, RunFilter { before: Some(b.clone()), ..of() }, 9, &[&a]).await;
    check(&shop, RunFilter { kind: Some("review".into()), ..of() }, 9, &[&d, &a]).await;
    check(&shop, RunFilter { active: true, ..of() }, 9, &[&d, &b]).await;
    check(&shop, RunFilter { active: true, before: Some(d.clone()), ..of() }, 9, &[&b]).await;
    check(&shop, RunFilter { state: Some(RunState::Failed), ..of() }, 9, &[&a]).await;
    check(&shop, RunFilter { actor: Some("ann".into()), active: true, ..of() }, 9, &[&b]).await;
    check(&shed, RunFilter { kind: Some("apply".into()), ..of() }, 9, &[]).await;
    let counts = fixture.store.run_count(0).await.unwrap();
    let count = |project: &str, kind: &str, state, n| (project.to_owned(), kind.to_owned(), state, n);
    let (queued, failed) = (RunState::Queued, RunState::Failed);
    let wanted = [
        count("shed", "review", queued, 1),
        count("shop", "apply", queued, 1),
        count("shop", "review", failed, 1),
        count("shop", "review", queued, 1),
    ];
    assert_eq!(counts, wanted);
    assert_eq!(fixture.store.run_count(i64::MAX).await.unwrap().len(), 3, "those that ended long ago do not count");
}

async fn events_are_found_by_what_they_are(place: &Place<'_>) {
    let fixture = place.fixture().await;
    events_found(&fixture).await;
}

async fn events_found(fixture: &Fixture) {
    let (store, clock) = (&fixture.store, &fixture.clock);
    let now = clock.load(Ordering::SeqCst);
    let (shop, shed) = (store.of_project("shop"), store.of_project("shed"));
    let (one, two) = (RunId::new("r1"), RunId::new("r2"));
    let id = StepId::new("s");
    let kind = |kind: &str| (kind.to_owned(), serde_json::Value::Null);
    shop.event_append(&one, &id, &[kind("step.started"), kind("step.succeeded")]).await.unwrap();
    clock.store(now + 10, Ordering::SeqCst);
    shop.correlated("c1").event_tell("token.created", "token 1", 1.into(), "ann", Some("for ci")).await.unwrap();
    shed.event_append(&two, &id, &[kind("step.started")]).await.unwrap();
    clock.store(now + 20, Ordering::SeqCst);
    shop.event_tell("steps.counted", "token 1", serde_json::Value::Null, "bob", None).await.unwrap();
    shop.event_tell("step.", "x", serde_json::Value::Null, "bob", None).await.unwrap();
    let of = EventFilter::default;
    let check = async |store: &Store, filter: EventFilter, before, wanted: &[i64]| {
        let found = store.event_search(&filter, before, 10).await.unwrap();
        assert_eq!(found.iter().map(|event| event.id).collect::<Vec<_>>(), wanted, "{filter:?}");
    };
    check(store, of(), None, &[6, 5, 4, 3, 2, 1]).await;
    check(&shop, of(), None, &[6, 5, 3, 2, 1]).await;
    check(&shed, of(), None, &[4]).await;
    check(&shop, of(), Some(3), &[2, 1]).await;
    check(store, EventFilter { run: Some(one.clone()), ..of() }, None, &[2, 1]).await;
    check(store, EventFilter { actor: Some("bob".into()), ..of() }, None, &[6, 5]).await;
    check(store, EventFilter { subject: Some("token 1".into()), ..of() }, None, &[5, 3]).await;
    check(store, EventFilter { kind: Some("step.started".into()), ..of() }, None, &[4, 1]).await;
    // The first part is a part, not the first letters.
    check(store, EventFilter { kind: Some("step.".into()), ..of() }, None, &[6, 4, 2, 1]).await;
    check(store, EventFilter { kind: Some("step".into()), ..of() }, None, &[]).await;
    check(store, EventFilter { from: Some(now + 10), ..of() }, None, &[6, 5, 4, 3]).await;
    check(store, EventFilter { to: Some(now + 10), ..of() }, None, &[2, 1]).await;
    check(store, EventFilter { from: Some(now + 10), to: Some(now + 20), ..of() }, Some(4), &[3]).await;
    let both = EventFilter { actor: Some("ann".into()), kind: Some("token.".into()), ..of() };
    check(&shop, both.clone(), None, &[3]).await;
    check(&shed, both.clone(), None, &[]).await;
    let found = store.event_search(&both, None, 1).await.unwrap().remove(0);
    assert_eq!((found.correlation.as_deref(), found.reason.as_deref()), (Some("c1"), Some("for ci")));
    assert_eq!((found.project.as_str(), found.data, found.at), ("shop", 1.into(), now + 10));
}

/// Most databases sort text as people do, where a dot weighs nothing.
#[tokio::test]
async fn events_are_found_whatever_the_database_sorts_by() {
    let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000_000_000));
    let url = server.database_with("sorted", "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US-u-ka-shifted'");
    let at = Database::Server(url);
    let fixture = Fixture { store: open(&at, &clock).await, clock, at, _directory: None };
    let sorted: Option<bool> = fixture.store.read(|tx| tx.row("SELECT 'step.z' < 'steps.a'", &[])).await.unwrap();
    assert_eq!(sorted, Some(false), "it does not sort by bytes");
    events_found(&fixture).await;
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

async fn a_run_is_ready_when_something_is_to_be_done(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let now = clock.load(Ordering::SeqCst);
    let a = step("a", &[]);
    let check = async |wanted: &[&RunId]| {
        let found = store.run_ready(9).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted);
    };
    let run = store.of_project("p").run_create(&plan(vec![a.clone()]), "me").await.unwrap();
    check(&[&run]).await;
    assert!(store.run_set_state(&run, RunState::Queued, RunState::Waiting, None).await.unwrap());
    // What stands behind a gate is pending for as long as the gate waits: it is no reason to look.
    check(&[]).await;
    let end = async |outcome| {
        let claim = claimed(store.step_claim("e", &run, &a, 10).await.unwrap());
        store.step_finish(&claim, &outcome, &[], Durability::Lazy).await.unwrap();
        // As whoever drives it would; a run that was woken is running until then.
        store.run_set_state(&run, RunState::Running, RunState::Waiting, None).await.unwrap();
    };
    // Waiting for a time, which comes.
    end(StepOutcome::Again { reason: "later".into(), at: now + 10 }).await;
    check(&[]).await;
    clock.store(now + 10, Ordering::SeqCst);
    check(&[&run]).await;
    end(StepOutcome::Waiting { reason: "soak".into(), until: Some(now + 20) }).await;
    check(&[]).await;
    clock.store(now + 20, Ordering::SeqCst);
    check(&[&run]).await;
    store.step_wake(&run).await.unwrap();
    // Waiting for somebody, who wakes it or cancels it.
    end(StepOutcome::Waiting { reason: "approval".into(), until: None }).await;
    check(&[]).await;
    store.step_wake(&run).await.unwrap();
    check(&[&run]).await;
    end(StepOutcome::Waiting { reason: "approval".into(), until: None }).await;
    assert!(store.run_cancel(&run, "me", None).await.unwrap());
    check(&[&run]).await;
    assert!(store.run_set_state(&run, RunState::Waiting, RunState::Cancelled, None).await.unwrap());
    check(&[]).await;
}

fn review(run: &RunId, head: &str) -> Review {
    Review {
        run: run.clone(),
        project: String::new(),
        base: None,
        head: Revision { name: head.into(), commit: "c".into() },
        dirty: vec![],
        authors: vec![],
        unknown_authors: vec![],
        stacks: vec![],
        diagnostics: vec![],
        findings: vec![],
        policy_digest: String::new(),
        effect_digest: "e".into(),
        verdict: Verdict::Ready,
        readers_beyond: Default::default(),
    }
}

async fn a_review_is_taken_together_with_its_run(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let of = store.run_create(&plan(vec![]), "me").await.unwrap();
    store.review_put(&review(&of, "main")).await.unwrap();
    let (apply, open) = (plan(vec![step("a", &[])]), ReviewState::Open);
    let tries: Vec<_> = (0..6)
        .map(|_| {
            let (store, apply, of) = (store.clone(), apply.clone(), of.clone());
            tokio::spawn(async move { store.run_create_of(&apply, "me", &of, open).await })
        })
        .collect();
    let mut made = Vec::new();
    for tried in tries {
        match tried.await.unwrap() {
            Ok(run) => made.push(run),
            Err(error) => assert!(matches!(error, StoreError::Conflict(_)), "{error:?}"),
        }
    }
    assert_eq!(made.len(), 1);
    assert_eq!(store.review_get(&of).await.unwrap().unwrap().state, ReviewState::Applying);
    let runs = store.run_list(&RunFilter::default(), 10).await.unwrap();
    assert_eq!(runs.len(), 2, "what was refused left no run");
    // Who asks for the same run again is told of it, whatever became of the review.
    let again = store.creating(&made[0]).run_create_of(&apply, "me", &of, open).await;
    assert_eq!(again.unwrap(), made[0]);
}

async fn projects_see_what_is_theirs(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (one, two) = (fixture.store.of_project("one"), fixture.store.of_project("two"));
    // Values.
    one.kv_set("s", "a", "1").await.unwrap();
    two.kv_set("s", "a", "2").await.unwrap();
    assert!(two.kv_remove("s", "a").await.unwrap());
    assert_eq!((one.kv_get("s", "a").await.unwrap().as_deref(), two.kv_list("s").await.unwrap().len()), (Some("1"), 0));

    // Locks of one name are two.
    let a = step("a", &["stack:net"]);
    let mut runs = Vec::new();
    for store in [&one, &two] {
        let run = store.run_create(&plan(vec![a.clone()]), "me").await.unwrap();
        claimed(store.step_claim("e", &run, &a, 10).await.unwrap());
        assert_eq!(store.lock_list().await.unwrap().iter().map(|lock| &lock.run).collect::<Vec<_>>(), [&run]);
        runs.push(run);
    }
    // One may not take away what is held in the other.
    two.lock_take_away("stack:net", &runs[1], &a.id, "me", "why").await.unwrap();
    assert!(two.lock_list().await.unwrap().is_empty() && one.lock_list().await.unwrap()[0].held);

    // A review of a branch takes the place of another of the same project alone.
    let mut reviews = Vec::new();
    for store in [&one, &two, &one] {
        let run = store.run_create(&plan(vec![]), "me").await.unwrap();
        store.review_put(&review(&run, "main")).await.unwrap();
        store.review_put(&review(&run, "main")).await.unwrap();
        reviews.push(run);
    }
    let states = async |store: &Store| {
        let mut found = store.review_list(None, None, 9).await.unwrap();
        found.sort_by_key(|(run, _)| reviews.iter().position(|known| known == run));
        found
    };
    let (open, superseded) = (ReviewState::Open, ReviewState::Superseded);
    assert_eq!(states(&one).await, [(reviews[0].clone(), superseded), (reviews[2].clone(), open)]);
    assert_eq!(states(&two).await, [(reviews[1].clone(), open)]);
    assert_eq!(two.review_latest().await.unwrap().as_ref(), Some(&reviews[1]));

    let actor = Actor { name: "ops".into(), identities: vec![], verified: true };
    let waiver = Waiver {
        finding: "f".into(),
        review: reviews[0].clone(),
        instance: None,
        policy: "p".into(),
        rule: None,
        address: None,
        message: String::new(),
        actor,
        reason: "once".into(),
        at: 1,
        until: 2,
    };
    one.waiver_put(&waiver).await.unwrap();
    assert_eq!((one.waiver_list().await.unwrap().len(), two.waiver_list().await.unwrap().len()), (1, 0));
    assert_eq!(one.run_active().await.unwrap().len() + two.run_active().await.unwrap().len(), 5);
}

async fn changes_wake_those_that_wait(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let mut changes = vec![fixture.store.changes()];
    // Another server hears of it on PostgreSQL.
    let other = match place {
        Place::File => None,
        Place::Server(..) => Some(open(&fixture.at, &fixture.clock).await),
    };
    changes.extend(other.iter().map(Store::changes));
    let limit = std::time::Duration::from_secs(20);
    for change in &mut changes {
        // The other one hears something once it listens.
        if change.borrow_and_update().to_owned() == Changes::default() && other.is_some() {
            tokio::time::timeout(limit, change.changed()).await.unwrap().unwrap();
        }
        change.borrow_and_update();
    }
    for n in 0..3 {
        fixture.store.event_tell("x.told", &n.to_string(), serde_json::Value::Null, "me", None).await.unwrap();
        for change in &mut changes {
            tokio::time::timeout(limit, change.changed()).await.unwrap().unwrap();
        }
    }
    if let Some(other) = other {
        other.close().await;
    }
}
