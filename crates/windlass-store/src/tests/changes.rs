//! Changes of forges: each is looked at by one at a time, nothing that is due is forgotten, and queues are fair.

use super::*;
use windlass_model::approval::{Actor, ApprovalRecord};
use windlass_model::change::plan::Known;
use windlass_model::change::{Change, ChangeFilter, ChangeState, Head, Person};
use windlass_model::id::InstanceId;

/// Something in each of the tables.
pub async fn fill(store: &Store) {
    store.change_due(7, None).await.unwrap();
    store.place_take(7, &[InstanceId::new("a")]).await.unwrap();
}

cases! {
    a_change_is_looked_at_by_one_and_what_is_due_meanwhile_is_due_again,
    a_run_or_review_that_moved_has_its_change_looked_at,
    a_look_asks_the_forge_where_something_happened_there,
    a_push_that_was_fetched_has_its_open_change_looked_at,
    what_a_list_had_is_known_where_nothing_else_told,
    queues_are_in_the_order_of_coming,
    an_approval_is_taken_back,
}

const LEASE: i64 = 60_000_000;

async fn claim(store: &Store, holder: &str) -> Vec<u64> {
    let found = store.change_claim(&["p".into()], holder, LEASE, 10).await.unwrap();
    found.into_iter().map(|row| row.number).collect()
}

async fn a_change_is_looked_at_by_one_and_what_is_due_meanwhile_is_due_again(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, now) = (fixture.store.of_project("p"), fixture.clock.load(Ordering::SeqCst));
    let follow = |due| Follow { due, ..Follow::default() };
    store.change_due(7, None).await.unwrap();
    store.change_due(8, Some(now + 10)).await.unwrap();
    fixture.store.of_project("other").change_due(7, None).await.unwrap();
    assert_eq!(claim(&store, "a").await, [7]);
    assert_eq!(claim(&store, "b").await, [0; 0]);
    let known = Known { since: 5, unapplied: true, ..Known::default() };
    assert!(store.change_keep(7, "a", &known, LEASE).await.unwrap());
    assert!(!store.change_keep(7, "b", &known, LEASE).await.unwrap());
    assert!(store.change_hold(7, "a", LEASE).await.unwrap());
    assert!(!store.change_hold(7, "b", LEASE).await.unwrap());
    // Due meanwhile, and released.
    store.change_due(7, None).await.unwrap();
    assert_eq!(claim(&store, "b").await, [0; 0]);
    assert!(!store.change_release(7, "b", &follow(None)).await.unwrap());
    assert!(store.change_release(7, "a", &follow(Some(now + 99))).await.unwrap());
    assert_eq!(claim(&store, "b").await, [7]);
    assert_eq!(store.change_get(7).await.unwrap().unwrap().known, known);
    // Its holder dies: whoever asks next has it, and the dead one nothing.
    fixture.clock.fetch_add(LEASE, Ordering::SeqCst);
    assert_eq!(claim(&store, "c").await, [7, 8]);
    assert!(!store.change_keep(7, "b", &known, LEASE).await.unwrap());
    assert!(store.change_release(7, "c", &follow(None)).await.unwrap());
    store.change_put_off(8, "c", now + 3 * LEASE).await.unwrap();
    assert_eq!(claim(&store, "d").await, [0; 0]);
    fixture.clock.fetch_add(2 * LEASE, Ordering::SeqCst);
    assert_eq!(claim(&store, "d").await, [8]);
    let numbers = |rows: Vec<crate::ChangeRow>| rows.into_iter().map(|row| row.number).collect::<Vec<_>>();
    assert_eq!(numbers(store.change_list(None, None, 10).await.unwrap()), [8, 7]);
    assert_eq!(numbers(store.change_list(None, Some(8), 10).await.unwrap()), [7]);
    for (filter, want) in ChangeFilter::ALL.into_iter().zip([&[8, 7][..], &[], &[7], &[]]) {
        assert_eq!(numbers(store.change_list(Some(filter), None, 10).await.unwrap()), want, "{filter:?}");
    }
}

async fn a_run_or_review_that_moved_has_its_change_looked_at(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("p");
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    store.change_due(7, None).await.unwrap();
    assert_eq!(claim(&store, "a").await, [7]);
    let seen = crate::changes::looked(Some("queued"), None, 0);
    let follow = Follow { run: Some(run.clone()), review: Some(run.clone()), looked: seen.clone(), due: None };
    store.change_release(7, "a", &follow).await.unwrap();
    assert_eq!(store.change_moved().await.unwrap(), 0);
    assert_eq!(claim(&store, "a").await, [0; 0]);
    store.run_set_state(&run, RunState::Queued, RunState::Running, None).await.unwrap();
    assert_eq!(store.change_moved().await.unwrap(), 1);
    assert_eq!(store.change_moved().await.unwrap(), 0, "it is due already");
    assert_eq!(claim(&store, "a").await, [7]);
    // What moved between the look and its end is seen.
    let stale = Follow { looked: crate::changes::looked(Some("running"), None, 0), ..follow.clone() };
    store.approval_add(&run, &approval("alice")).await.unwrap();
    store.change_release(7, "a", &stale).await.unwrap();
    assert_eq!(store.change_moved().await.unwrap(), 1);
    assert_eq!(claim(&store, "a").await, [7]);
    let right = Follow { looked: crate::changes::looked(Some("running"), None, 1), ..follow };
    store.change_release(7, "a", &right).await.unwrap();
    assert_eq!(store.change_moved().await.unwrap(), 0);
}

async fn a_look_asks_the_forge_where_something_happened_there(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("p");
    let asks = async || {
        let rows = store.change_claim(&["p".into()], "a", LEASE, 10).await.unwrap();
        rows.into_iter().map(|row| row.asks).collect::<Vec<_>>()
    };
    let release = async |follow: &Follow| assert!(store.change_release(7, "a", follow).await.unwrap());
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    let moves = Follow { run: Some(run), ..Follow::default() };
    store.change_due(7, None).await.unwrap();
    assert_eq!(asks().await, [true]);
    release(&moves).await;
    assert_eq!(store.change_moved().await.unwrap(), 1);
    assert_eq!(asks().await, [false], "only the record moved");
    // Both at once, in either order, and what happens while it is looked at.
    store.change_due(7, None).await.unwrap();
    release(&moves).await;
    assert_eq!(store.change_moved().await.unwrap(), 0);
    assert_eq!(asks().await, [true]);
    release(&moves).await;
    assert_eq!(store.change_moved().await.unwrap(), 1);
    store.change_due(7, None).await.unwrap();
    assert_eq!(asks().await, [true]);
    release(&moves).await;
    // A look that failed, and one that never ended.
    assert_eq!(store.change_moved().await.unwrap(), 1);
    assert_eq!(asks().await, [false]);
    store.change_put_off(7, "a", fixture.clock.load(Ordering::SeqCst)).await.unwrap();
    assert_eq!(asks().await, [true]);
    release(&moves).await;
    assert_eq!(store.change_moved().await.unwrap(), 1);
    assert_eq!(asks().await, [false]);
    fixture.clock.fetch_add(LEASE, Ordering::SeqCst);
    assert_eq!(asks().await, [true]);
}

async fn a_push_that_was_fetched_has_its_open_change_looked_at(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("p");
    let change = |number, branch: &str, fork: Option<&str>, state| Change {
        number,
        title: "x".into(),
        url: String::new(),
        author: Person { id: "1".into(), login: "anna".into() },
        state,
        draft: false,
        head: Head { branch: branch.into(), commit: "c1".into(), fork: fork.map(str::to_owned), reference: None },
        base: "main".into(),
        merged_as: None,
        labels: Vec::new(),
        updated_at: 0,
    };
    let changes = [
        change(1, "topic", None, ChangeState::Open),
        change(2, "topic", Some("eve/infra"), ChangeState::Open),
        change(3, "topic", None, ChangeState::Merged),
        change(4, "other", None, ChangeState::Open),
    ];
    for change in &changes {
        store.change_due(change.number, None).await.unwrap();
    }
    assert_eq!(claim(&store, "a").await, [1, 2, 3, 4]);
    for change in &changes {
        let known = Known { change: Some(change.clone()), ..Known::default() };
        assert!(store.change_keep(change.number, "a", &known, LEASE).await.unwrap());
        assert!(store.change_release(change.number, "a", &Follow::default()).await.unwrap());
    }
    let pushed = async |commit: Option<&str>| {
        store.change_pushed(vec![("topic".into(), commit.map(str::to_owned))]).await.unwrap();
        claim(&store, "a").await
    };
    let told = store.changes();
    assert_eq!(pushed(Some("c1")).await, [0; 0], "that is known already");
    assert!(!told.has_changed().unwrap());
    assert_eq!(pushed(Some("c2")).await, [1]);
    assert!(told.has_changed().unwrap(), "who looks does not wait");
    assert!(store.change_release(1, "a", &Follow::default()).await.unwrap());
    assert_eq!(pushed(None).await, [1], "it was deleted");
}

async fn what_a_list_had_is_known_where_nothing_else_told(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("p");
    let change = Change {
        number: 7,
        title: "Seven".into(),
        url: "https://forge.example.com/7".into(),
        author: Person { id: "1".into(), login: "anna".into() },
        state: ChangeState::Open,
        draft: false,
        head: Head { branch: "topic".into(), commit: "c1".into(), fork: None, reference: None },
        base: "main".into(),
        merged_as: None,
        labels: Vec::new(),
        updated_at: 5,
    };
    let taken = async || {
        let rows = store.change_claim(&["p".to_owned()], "a", LEASE, 9).await.unwrap();
        rows.into_iter().map(|row| (row.asks, row.listed)).collect::<Vec<_>>()
    };
    let done = async || assert!(store.change_release(7, "a", &Follow::default()).await.unwrap());
    store.change_listed(&change).await.unwrap();
    assert_eq!(taken().await, [(true, Some(change.clone()))]);
    done().await;
    store.change_listed(&change).await.unwrap();
    assert_eq!(taken().await, [(true, Some(change.clone()))]);
    // It was listed before that happened, or behind it: who knows.
    store.change_listed(&change).await.unwrap();
    store.change_due(7, None).await.unwrap();
    done().await;
    assert_eq!(taken().await, [(true, None)]);
    store.change_due(7, None).await.unwrap();
    store.change_listed(&change).await.unwrap();
    done().await;
    assert_eq!(taken().await, [(true, None)]);
    // Nor is it known what a look found that failed, or never ended.
    store.change_listed(&change).await.unwrap();
    store.change_put_off(7, "a", 0).await.unwrap();
    assert_eq!(taken().await, [(true, None)]);
    store.change_listed(&change).await.unwrap();
    fixture.clock.fetch_add(LEASE, Ordering::SeqCst);
    assert_eq!(taken().await, [(true, None)]);
}

async fn queues_are_in_the_order_of_coming(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("p");
    let of = |names: &[&str]| names.iter().map(|name| InstanceId::new(*name)).collect::<Vec<_>>();
    let before = |found: Vec<windlass_model::change::plan::Before>| {
        found.into_iter().map(|one| (one.instance.to_string(), one.number)).collect::<Vec<_>>()
    };
    let other = |name: &str, number| (name.to_owned(), number);
    assert_eq!(before(store.place_take(2, &of(&["a", "b"])).await.unwrap()), []);
    // The clock stands still; a smaller number does not go before.
    assert_eq!(before(store.place_take(1, &of(&["b", "c"])).await.unwrap()), [other("b", 2)]);
    assert_eq!(
        before(store.place_before(3, &of(&["a", "b", "c", "d"])).await.unwrap()),
        [other("a", 2), other("b", 2), other("c", 1)]
    );
    assert_eq!(before(store.place_take(3, &of(&["b"])).await.unwrap()), [other("b", 2)]);
    assert_eq!(store.place_list(1).await.unwrap(), of(&["b", "c"]));
    for number in 1..=3 {
        store.change_due(number, None).await.unwrap();
    }
    let mut all = claim(&store, "a").await;
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3]);
    for number in 1..=3 {
        store.change_release(number, "a", &Follow::default()).await.unwrap();
    }
    store.place_give_back(2, &of(&["a", "b"]), "me", Some("merged")).await.unwrap();
    assert_eq!(claim(&store, "a").await, [1, 3], "those who wait are looked at");
    assert_eq!(before(store.place_before(1, &of(&["b", "c"])).await.unwrap()), []);
    assert_eq!(before(store.place_before(3, &of(&["b"])).await.unwrap()), [other("b", 1)]);
    let kinds: Vec<String> = store.event_list(None, 0, 10).await.unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["change.unlocked"]);
}

fn approval(name: &str) -> ApprovalRecord {
    ApprovalRecord {
        actor: Actor { name: name.into(), identities: vec![], verified: true },
        commit: "c".into(),
        effect_digest: "e".into(),
        policy_digest: "p".into(),
        at: 0,
        reason: None,
    }
}

async fn an_approval_is_taken_back(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("p");
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    for name in ["alice", "bob", "alice"] {
        store.approval_add(&run, &approval(name)).await.unwrap();
    }
    assert_eq!(store.approval_withdraw(&run, "alice", "dismissed").await.unwrap(), 2);
    assert_eq!(store.approval_withdraw(&run, "alice", "dismissed").await.unwrap(), 0);
    let left: Vec<String> = store.approval_list(&run).await.unwrap().into_iter().map(|a| a.actor.name).collect();
    assert_eq!(left, ["bob"]);
    let events = store.event_list(Some(&run), 0, 100).await.unwrap();
    let told: Vec<_> = events.iter().filter(|e| e.kind == "approval.withdrawn").map(|e| e.actor.clone()).collect();
    assert_eq!(told, [Some("alice".to_owned())]);
}
