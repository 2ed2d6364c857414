use super::*;
use serde_json::json;

const SECOND: i64 = 1_000_000;

fn key(schedule: &str) -> ScheduleKey {
    ScheduleKey { project: "p".into(), operation: "o".into(), schedule: schedule.into() }
}

fn start(id: &str, at: i64) -> NewStart {
    NewStart {
        id: id.into(),
        project: "p".into(),
        operation: "o".into(),
        kind: StartKind::Schedule,
        name: "nightly".into(),
        request: json!({ "n": 1 }),
        actor: "windlass".into(),
        due: at,
        at,
        series: None,
    }
}

async fn kinds(store: &Store) -> Vec<String> {
    store.event_list(None, 0, 100).await.unwrap().into_iter().map(|event| event.kind).collect()
}

/// Something in each of the tables.
pub async fn fill(store: &Store) {
    store.schedule_keep("p", vec![(key("nightly"), "a".to_owned())]).await.unwrap();
    store.start_put(start("a", 1), None).await.unwrap();
}

pub async fn what_is_due_is_put_in_once(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (fixture.store.of_project("p"), &fixture.clock);
    let began = clock.load(Ordering::SeqCst);
    let nightly = vec![(key("nightly"), "a".to_owned())];
    let known = store.schedule_keep("p", nightly.clone()).await.unwrap();
    assert_eq!((known[0].since, known[0].seen, &known[0].pause), (began, began, &None));
    clock.fetch_add(10 * SECOND, Ordering::SeqCst);
    let fire = |to: i64, notes: &[&'static str]| Fire {
        key: key("nightly"),
        starts: vec![start(&format!("s/{to}"), to)],
        notes: notes.iter().map(|kind| (*kind, json!({}))).collect(),
        seen: to,
    };
    let both = tokio::join!(
        store.schedule_fire(vec![fire(began + SECOND, &["schedule.missed"])]),
        store.schedule_fire(vec![fire(began + SECOND, &["schedule.missed"])])
    );
    assert_eq!(both.0.unwrap() + both.1.unwrap(), 1);
    assert_eq!(kinds(&store).await, ["schedule.missed"]);
    // The same pattern goes on where it was, another one begins now.
    assert_eq!(store.schedule_keep("p", nightly.clone()).await.unwrap()[0].seen, began + SECOND);
    let changed = store.schedule_keep("p", vec![(key("nightly"), "b".to_owned())]).await.unwrap();
    assert_eq!(changed[0].seen, began + 10 * SECOND);
    // Set back, its times are gone over again, and what is there stays as it is.
    clock.store(began + SECOND, Ordering::SeqCst);
    assert_eq!(store.schedule_fire(vec![fire(began + SECOND, &[])]).await.unwrap(), 0);
    clock.store(began + 20 * SECOND, Ordering::SeqCst);
    let pause = Pause { until: began + 30 * SECOND, by: "me".into(), reason: "moving".into() };
    assert!(store.schedule_pause(&key("nightly"), Some(&pause), "me").await.unwrap());
    assert_eq!(store.schedule_list().await.unwrap()[0].pause, Some(pause));
    assert_eq!(store.schedule_fire(vec![fire(began + 15 * SECOND, &[])]).await.unwrap(), 0);
    assert!(store.schedule_pause(&key("nightly"), None, "me").await.unwrap());
    assert_eq!(store.schedule_list().await.unwrap()[0].seen, began + 20 * SECOND, "a pause is not made up for");
    assert_eq!(store.schedule_fire(vec![fire(began + 21 * SECOND, &[])]).await.unwrap(), 1);
    assert!(!store.schedule_pause(&key("other"), None, "me").await.unwrap());
    assert!(store.schedule_overdue(&key("nightly"), began, 2).await.unwrap());
    assert!(!store.schedule_overdue(&key("nightly"), began, 2).await.unwrap());
    assert_eq!(
        kinds(&store).await,
        ["schedule.missed", "schedule.paused", "schedule.held", "schedule.resumed", "operation.overdue"]
    );
    assert_eq!(store.schedule_keep("p", Vec::new()).await.unwrap(), []);
    assert_eq!(store.schedule_fire(vec![fire(began + 40 * SECOND, &[])]).await.unwrap(), 0, "it is a schedule no more");
}

pub async fn a_start_is_taken_by_one_and_becomes_one_run(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (fixture.store.of_project("p"), &fixture.clock);
    let now = clock.load(Ordering::SeqCst);
    assert!(store.start_put(start("a", now + SECOND), Some("operation.planned")).await.unwrap());
    assert!(!store.start_put(start("a", now + SECOND), Some("operation.planned")).await.unwrap());
    assert!(store.start_put(start("b", now + 2 * SECOND), None).await.unwrap());
    assert_eq!(store.start_next().await.unwrap(), Some(now + SECOND));
    assert_eq!(store.start_take(60 * SECOND, 10).await.unwrap(), []);
    clock.fetch_add(SECOND, Ordering::SeqCst);
    let both = tokio::join!(store.start_take(60 * SECOND, 10), store.start_take(60 * SECOND, 10));
    let [first] = <[StartRow; 1]>::try_from([both.0.unwrap(), both.1.unwrap()].concat()).unwrap();
    assert_eq!((first.id.as_str(), &first.request), ("a", &json!({ "n": 1 })));
    // Whoever had it died after it made the run; the next one finds the same id.
    let run = first.run.clone().unwrap();
    store.creating(&run).run_create(&plan(vec![]), "windlass").await.unwrap();
    clock.fetch_add(61 * SECOND, Ordering::SeqCst);
    let again = store.start_take(60 * SECOND, 10).await.unwrap();
    let found: Vec<_> = again.iter().map(|start| (start.id.as_str(), start.run == Some(run.clone()))).collect();
    assert_eq!(found, [("a", true), ("b", false)]);
    store.start_end(&again[0], &Started::Refused("it runs already".into())).await.unwrap();
    store.start_end(&again[1], &Started::Refused("no".into())).await.unwrap();
    store.start_end(&again[1], &Started::Run { late: Some(5) }).await.unwrap();
    assert_eq!(store.start_get("a").await.unwrap().unwrap().state, "started");
    let b = store.start_get("b").await.unwrap().unwrap();
    assert_eq!((b.state.as_str(), b.note.as_deref()), ("refused", Some("no")));
    assert_eq!(store.start_next().await.unwrap(), None);
    let listed: Vec<String> =
        store.start_list("o", StartKind::Schedule, 10).await.unwrap().into_iter().map(|start| start.id).collect();
    assert_eq!(listed, ["b", "a"]);
    store.start_put(start("c", now), None).await.unwrap();
    assert!(!store.of_project("q").start_cancel("c", "me").await.unwrap());
    assert!(store.start_cancel("c", "me").await.unwrap());
    assert!(!store.start_cancel("c", "me").await.unwrap());
    assert_eq!(store.start_take(1, 10).await.unwrap(), []);
    assert_eq!(store.start_sweep(i64::MAX).await.unwrap(), 3);
    let told = ["operation.planned", "run.created", "operation.not_started", "operation.start_cancelled"];
    assert_eq!(kinds(&store).await, told);
}

pub async fn a_series_goes_in_its_order_so_many_at_once(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = fixture.store.of_project("p");
    let now = fixture.clock.load(Ordering::SeqCst);
    let of_series = |id: &str| NewStart { series: Some(("fill".into(), 2)), ..start(id, now) };
    let all = ["a", "b", "c", "d"].map(of_series).to_vec();
    assert_eq!(store.start_put_all(all[..1].to_vec()).await.unwrap(), 1);
    assert_eq!(store.start_put_all(all).await.unwrap(), 3);
    let turns = async || {
        let mut turns = String::new();
        for id in ["a", "b", "c", "d"] {
            if store.start_turn(id).await.unwrap() {
                turns.push_str(id);
            }
        }
        turns
    };
    assert_eq!(turns().await, "ab");
    let taken = store.start_take(SECOND, 10).await.unwrap();
    store.start_end(&taken[0], &Started::Refused("no".into())).await.unwrap();
    assert_eq!(turns().await, "abc");
    let run = store.creating(taken[1].run.as_ref().unwrap()).run_create(&plan(vec![]), "windlass").await.unwrap();
    store.start_end(&taken[1], &Started::Run { late: None }).await.unwrap();
    assert_eq!(turns().await, "abc", "its run has not ended");
    assert!(store.run_set_state(&run, RunState::Queued, RunState::Succeeded, None).await.unwrap());
    assert_eq!(turns().await, "abcd");
}
