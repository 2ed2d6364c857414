//! Two servers on one database.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

cases! {
    each_of_many_steps_is_claimed_once,
    a_lock_never_has_two_holders,
    a_reader_by_cursor_sees_every_event_once_and_in_order,
}

/// The same record as two servers have it; a file has one server, and terminals beside it.
async fn two(fixture: &Fixture) -> [Store; 2] {
    [fixture.store.clone(), open(&fixture.at, &fixture.clock).await]
}

async fn each_of_many_steps_is_claimed_once(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let stores = two(&fixture).await;
    let steps: Vec<StepSpec> = (0..200).map(|n| step(&format!("s{n:03}"), &[])).collect();
    let run = stores[0].run_create(&plan(steps.clone()), "me").await.unwrap();
    let tasks: Vec<_> = (0..16usize)
        .map(|task| {
            let (store, run, mut steps) = (stores[task % 2].clone(), run.clone(), steps.clone());
            tokio::spawn(async move {
                // Each begins elsewhere, and meets the others.
                steps.rotate_left(task * 5);
                let mut mine = Vec::new();
                for spec in &steps {
                    if let ClaimResult::Claimed(claim) =
                        store.step_claim(&format!("e{task}"), &run, spec, 10).await.unwrap()
                    {
                        assert_eq!(claim.attempt, 1);
                        store
                            .step_finish(&claim, &StepOutcome::Succeeded(task.into()), &[], Durability::Lazy)
                            .await
                            .unwrap();
                        mine.push((spec.id.clone(), task));
                    }
                }
                mine
            })
        })
        .collect();
    let mut claims = BTreeMap::new();
    for task in tasks {
        for (id, task) in task.await.unwrap() {
            assert_eq!(claims.insert(id.clone(), task), None, "{id} was claimed twice");
        }
    }
    assert_eq!(claims.len(), 200);
    for record in stores[1].step_list(&run).await.unwrap() {
        assert_eq!(record.output, Some(claims[&record.id].into()));
    }
    let kinds = stores[1].event_list(Some(&run), 0, 1000).await.unwrap();
    let of =
        |kind: &str| kinds.iter().filter(|e| e.kind == kind).map(|e| e.step.clone()).collect::<BTreeSet<_>>().len();
    assert_eq!((kinds.len(), of("step.started"), of("step.succeeded")), (401, 200, 200));
    stores[1].close().await;
}

async fn a_lock_never_has_two_holders(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let stores = two(&fixture).await;
    let spec = step("s", &["a", "b"]);
    let holders = Arc::new(AtomicI64::new(0));
    let mut tasks = Vec::new();
    for task in 0..8usize {
        // Half of them ask for the same locks in the other order.
        let spec = if task < 4 { spec.clone() } else { step("s", &["b", "a"]) };
        let (store, holders) = (stores[task % 2].clone(), holders.clone());
        tasks.push(tokio::spawn(async move {
            let mut met = 0;
            for _ in 0..4 {
                let run = store.run_create(&plan(vec![spec.clone()]), "me").await.unwrap();
                let claim = loop {
                    match store.step_claim(&format!("e{task}"), &run, &spec, 1_000_000).await.unwrap() {
                        ClaimResult::Claimed(claim) => break claim,
                        ClaimResult::Locked { by, .. } => assert_ne!(by.run, run),
                        ClaimResult::Gone => panic!("nobody else wants this step"),
                    }
                    met += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                };
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                let held = store.lock_list().await.unwrap();
                let held: Vec<_> = held.iter().filter(|lock| lock.held).map(|lock| (&*lock.name, &lock.run)).collect();
                assert_eq!(held, [("a", &run), ("b", &run)]);
                holders.fetch_sub(1, Ordering::SeqCst);
                store.step_finish(&claim, &StepOutcome::Succeeded(1.into()), &[], Durability::Lazy).await.unwrap();
            }
            met
        }));
    }
    let mut met = 0;
    for task in tasks {
        met += task.await.unwrap();
    }
    assert!(met > 0, "they never met");
    assert!(stores[0].lock_list().await.unwrap().is_empty());
    stores[1].close().await;
}

async fn a_reader_by_cursor_sees_every_event_once_and_in_order(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let stores = two(&fixture).await;
    let writers: Vec<_> = (0..8usize)
        .map(|writer| {
            let store = stores[writer % 2].clone();
            tokio::spawn(async move {
                let (run, id) = (RunId::new(format!("w{writer}")), StepId::new("s"));
                for n in 0..60i64 {
                    // One or several in a transaction.
                    let events: Vec<_> =
                        (0..=n % 3).map(|part| ("x".to_owned(), serde_json::json!([n, part]))).collect();
                    store.event_append(&run, &id, &events).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen: Vec<Event> = Vec::new();
    let mut polls = 0;
    loop {
        let done = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let after = seen.last().map_or(0, |event| event.id);
        let found = stores[polls % 2].event_list(None, after, 7).await.unwrap();
        if done && found.is_empty() {
            break;
        }
        seen.extend(found);
        polls += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(seen.is_sorted_by(|a, b| a.id < b.id), "in order, none twice");
    assert_eq!(seen, stores[0].event_list(None, 0, 10_000).await.unwrap(), "none skipped");
    assert_eq!(seen.len(), 8 * 20 * (1 + 2 + 3));
    for writer in 0..8 {
        let of = seen.iter().filter(|event| event.run == Some(format!("w{writer}")));
        let numbers: Vec<_> =
            of.map(|event| (event.data[0].as_i64().unwrap(), event.data[1].as_i64().unwrap())).collect();
        assert!(numbers.is_sorted(), "the order of its transactions and in them");
    }
    // Those of one transaction stand together.
    let transactions: Vec<_> = seen.iter().map(|event| (&event.run, event.data[0].clone())).collect();
    let runs = transactions.chunk_by(|a, b| a == b).count();
    assert_eq!(runs, 8 * 60);
    stores[1].close().await;
}
