//! What is promised when a disk, a network, a server, a process or our own code fails.

use super::*;
use crate::journal::NewEvent;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use windlass_testkit::proxy::{Moment, Proxy, port};

cases! {
    a_panic_ends_its_transaction_alone,
    text_with_nul_can_be_recorded,
}

async fn tell(store: &Store, subject: String) -> Result<()> {
    store.event_tell("x.told", &subject, serde_json::Value::Null, "me", None).await
}

/// How often each subject was told.
async fn told(store: &Store) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for event in store.event_list(None, 0, 1_000_000).await.unwrap() {
        *counts.entry(event.subject.unwrap_or_default()).or_default() += 1;
    }
    counts
}

async fn a_panic_ends_its_transaction_alone(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let panicking = || {
        store.write(Durability::Durable, |tx| -> Result<()> {
            tx.execute("INSERT INTO kv (project, scope, name, value) VALUES ('', 's', 'lost', '1')", &[])?;
            panic!("on purpose");
        })
    };
    let names: Vec<String> = (0..20).map(|n| format!("kept-{n:02}")).collect();
    let writers: Vec<_> = names
        .iter()
        .map(|name| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move { store.kv_set("s", &name, "1").await })
        })
        .collect();
    // More than there are threads.
    for _ in 0..12 {
        let error = panicking().await.unwrap_err();
        assert!(matches!(&error, StoreError::Panicked(why) if why == "on purpose"), "{error:?}");
    }
    let read = store.read(|_| -> Result<()> { panic!("{}", "in a question") }).await.unwrap_err();
    assert!(read.to_string().contains("in a question"));
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let found: Vec<String> = store.kv_list("s").await.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, names);
}

async fn text_with_nul_can_be_recorded(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let a = step("a", &[]);
    let run = store.run_create(&plan(vec![a.clone()]), "me").await.unwrap();
    let claim = claimed(store.step_claim("e", &run, &a, 10).await.unwrap());
    let failed = StepOutcome::Failed { code: "x".into(), reason: "it said \0 and went".into() };
    store.step_finish(&claim, &failed, b"\0", Durability::Durable).await.unwrap();
    let reason = store.step_get(&run, &a.id).await.unwrap().reason.unwrap();
    assert_eq!(reason.replace(['\0', '\u{fffd}'], "?"), "it said ? and went");
}

#[tokio::test]
async fn on_a_full_disk_each_of_many_writers_is_told_the_truth() {
    let fixture = Place::File.fixture().await;
    let store = &fixture.store;
    let run = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    let pages = pragma(store, "PRAGMA page_count".into()).await.unwrap();
    pragma(store, format!("PRAGMA max_page_count = {}", pages + 60)).await;
    // Written at once, so that they share transactions; small ones still fit when large ones do not any more.
    let writers: Vec<_> = (0..200)
        .map(|n| {
            let (store, run) = (store.clone(), run.clone());
            tokio::spawn(async move {
                let id = StepId::new(format!("s{n}"));
                let size = if n % 3 == 0 { 10 } else { 8000 };
                (n, size, store.log_append(&run, &id, 1, &vec![b'x'; size]).await)
            })
        })
        .collect();
    let mut counts = [0, 0];
    let mut answers = Vec::new();
    for writer in writers {
        let (n, size, answer) = writer.await.unwrap();
        counts[usize::from(answer.is_ok())] += 1;
        assert!(matches!(answer, Ok(0) | Err(StoreError::Disk { .. })), "{answer:?}");
        answers.push((n, if answer.is_ok() { size as i64 } else { 0 }));
    }
    assert!(counts.iter().all(|count| *count > 10), "some fail and some do not: {counts:?}");
    pragma(store, "PRAGMA max_page_count = 1000000".into()).await;
    for (n, wanted) in answers {
        assert_eq!(store.log_end(&run, &StepId::new(format!("s{n}"))).await.unwrap(), wanted);
    }
}

/// The place of the file that the process below writes.
const FILE: &str = "WINDLASS_TEST_STORE";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that the next test kills"]
async fn write_until_killed() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let store = Store::open(Path::new(&path)).await.unwrap();
    for task in 0..4 {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let durability = if n % 2 == 0 { Durability::Durable } else { Durability::Lazy };
                let name = format!("{task}-{n}");
                let written = name.clone();
                let body = move |tx: &mut Tx<'_>| {
                    let sql = "INSERT INTO kv (project, scope, name, value) VALUES ('', 's', $1, '')";
                    tx.execute(sql, crate::db::params![&written])?;
                    Scope::default().event(tx, NewEvent { subject: Some(&written), ..NewEvent::of("x", 1.into()) })
                };
                store.write(durability, body).await.unwrap();
                // Only now is it acknowledged.
                println!("wrote {name}");
            }
        });
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.db");
    let mut acknowledged = Vec::new();
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::faults::write_until_killed", "--ignored", "--nocapture"])
            .env(FILE, directory.path().join(format!("w{round}.db")))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(std::result::Result::ok);
        let name = |line: String| line.split_once("wrote ").map(|(_, name)| name.to_owned());
        let mut names: Vec<String> = lines.by_ref().filter_map(name).take(200 * round).collect();
        child.kill().unwrap();
        // What it still said is acknowledged as well; a line that was cut is not.
        names.extend(lines.filter_map(name));
        child.wait().unwrap();
        names.truncate(names.len() - 1);
        assert!(names.len() >= 200 * round - 1);
        std::fs::rename(directory.path().join(format!("w{round}.db")), &path).unwrap();
        for end in ["-wal", "-shm"] {
            let from = directory.path().join(format!("w{round}.db{end}"));
            let _ = std::fs::rename(from, directory.path().join(format!("w.db{end}")));
        }
        let store = Store::open(&path).await.unwrap();
        let found = told(&store).await;
        let kept: Vec<String> = store.kv_list("s").await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| found.get(name) == Some(&1)), "an acknowledged write is gone");
        assert!(found.keys().eq(kept.iter()), "a transaction is whole or not there");
        store.close().await;
        std::fs::remove_file(&path).unwrap();
        acknowledged.extend(names);
    }
    assert!(acknowledged.len() > 1000);
}

/// Eight tasks write until `meanwhile` has ended; each write and how it was answered.
async fn written_while(store: &Store, name: &str, meanwhile: impl Future<Output = ()>) -> Vec<(String, Result<()>)> {
    let go = Arc::new(AtomicBool::new(true));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (store, go, name) = (store.clone(), go.clone(), name.to_owned());
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for n in 0.. {
                    if !go.load(Ordering::SeqCst) {
                        break;
                    }
                    let name = format!("{name} {task}-{n}");
                    answers.push((name.clone(), tell(&store, name).await));
                }
                answers
            })
        })
        .collect();
    meanwhile.await;
    go.store(false, Ordering::SeqCst);
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

/// Everything that was acknowledged is there once, nothing twice.
async fn once_each(store: &Store, answers: &[(String, Result<()>)], least: usize) {
    let found = told(store).await;
    assert!(answers.len() > least, "only {} were written", answers.len());
    assert!(found.values().all(|count| *count == 1), "one was doubled");
    let lost = answers.iter().filter(|(name, answer)| answer.is_ok() && !found.contains_key(name)).count();
    assert_eq!(lost, 0, "acknowledged, and gone");
}

fn without_errors(answers: &[(String, Result<()>)]) {
    let errors: Vec<_> = answers.iter().filter_map(|(_, answer)| answer.as_ref().err()).collect();
    assert!(errors.is_empty(), "{} of {}: {:?}", errors.len(), answers.len(), errors.first());
}

/// Waits until so many more events are there.
async fn progress(store: &Store, more: i64) {
    let last = async || store.event_search(&EventFilter::default(), None, 1).await.unwrap().first().map_or(0, |e| e.id);
    let from = last().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while last().await < from + more {
        assert!(Instant::now() < deadline, "nothing is written any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_go_away_in_the_middle() {
    let mut server = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap();
    let url = format!("{}&options=-c%20synchronous_commit%3Don", server.database("faults"));
    let proxy = Proxy::start(port(&url)).unwrap();
    let behind = proxy.url(&url);
    assert_ne!(behind, url);
    // One has a direct line, the other one's network fails.
    let (direct, store) = (Store::connect(&url).await.unwrap(), Store::connect(&behind).await.unwrap());

    // One is stopped in the middle of a transaction in which another waits for it: it loses what it has, and does it again.
    let (go, gone) = std::sync::mpsc::channel();
    let (holds, mut held) = tokio::sync::mpsc::unbounded_channel();
    let mut tries = 0;
    let stopped = store.write(Durability::Durable, move |tx| {
        let sql = "INSERT INTO kv (project, scope, name, value) VALUES ('', 's', 'x', 'stopped')
                   ON CONFLICT (project, scope, name) DO UPDATE SET value = excluded.value";
        tx.execute(sql, &[])?;
        tries += 1;
        if tries == 1 {
            holds.send(()).unwrap();
            gone.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        tx.execute(sql, &[]).map(|_| tries)
    });
    let another = async {
        held.recv().await.unwrap();
        direct.kv_set("s", "x", "another").await.unwrap();
        go.send(()).unwrap();
    };
    assert_eq!(tokio::join!(stopped, another).0.unwrap(), 2);
    assert_eq!(direct.kv_get("s", "x").await.unwrap().as_deref(), Some("stopped"));

    // The server ends connections, whatever they do.
    let killed = written_while(&store, "killed", async {
        for _ in 0..20 {
            progress(&direct, 20).await;
            let kill = "SELECT COUNT(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE pid <> pg_backend_pid() AND datname = 'faults') AS k";
            let _: Option<i64> = direct.read(move |tx| tx.row(kill, &[])).await.unwrap();
        }
    });
    let killed = killed.await;
    without_errors(&killed);
    once_each(&direct, &killed, 400).await;

    // The network ends them, also between a commit and its answer.
    let cut = written_while(&store, "cut", async {
        for _ in 0..20 {
            progress(&direct, 20).await;
            proxy.cut();
        }
    });
    let cut = cut.await;
    without_errors(&cut);
    once_each(&direct, &cut, 400).await;

    // It is slow, then stands still for a time.
    proxy.delay(Duration::from_millis(10));
    let slow = written_while(&store, "slow", async {
        progress(&direct, 30).await;
        proxy.delay(Duration::ZERO);
        for _ in 0..3 {
            proxy.stall(true);
            tokio::time::sleep(Duration::from_millis(300)).await;
            proxy.stall(false);
            progress(&direct, 20).await;
        }
    });
    let slow = slow.await;
    without_errors(&slow);
    once_each(&direct, &slow, 60).await;

    // The server is stopped and started again; then it crashes. What was being committed then may be known to nobody, and is said to
    // be so; everything else goes on.
    for (name, mode) in [("stopped", "fast"), ("crashed", "immediate")] {
        let restart = async {
            for _ in 0..3 {
                progress(&direct, 20).await;
                tokio::task::block_in_place(|| server.restart(mode)).unwrap();
            }
            progress(&direct, 20).await;
        };
        let answers = written_while(&store, name, restart).await;
        once_each(&direct, &answers, 80).await;
        for error in answers.iter().filter_map(|(_, answer)| answer.as_ref().err()) {
            let honest = matches!(error, StoreError::Unreachable { .. }) && error.to_string().contains("nobody knows");
            assert!(honest, "{name}: {error:?}");
        }
    }
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

/// Waits until a commit is held.
async fn held(proxy: &Proxy) {
    let held = async {
        while !proxy.is_held() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_done_twice_is_done_again_where_nobody_knows_of_its_commit() {
    let mut server = tokio::task::spawn_blocking(Postgres::start).await.unwrap().unwrap();
    let url = format!("{}&options=-c%20synchronous_commit%3Don", server.database("again"));
    let proxy = Proxy::start(port(&url)).unwrap();
    let store = Store::connect(&proxy.url(&url)).await.unwrap();
    let engine = |id: String| EngineIdentity { id, host: "h".into(), boot: "b".into(), pid: 1, ticks: 1 };
    for (moment, together) in [(Moment::Before, 1), (Moment::After, 1), (Moment::After, 20)] {
        let name = format!("{moment:?}-{together}");
        proxy.hold(1, moment);
        let (of, first) = (store.clone(), engine(format!("{name}-0")));
        let mut asked = vec![tokio::spawn(async move { of.engine_register(&first).await })];
        held(&proxy).await;
        for number in 1..together {
            let (of, another) = (store.clone(), engine(format!("{name}-{number}")));
            asked.push(tokio::spawn(async move { of.engine_register(&another).await }));
        }
        tokio::task::block_in_place(|| server.restart("immediate")).unwrap();
        proxy.cut();
        proxy.release();
        for one in asked {
            one.await.unwrap().unwrap();
        }
        // Facts of a step: with its log, once.
        let a = StepSpec { repeat: Repeat::Once, ..step("a", &[]) };
        let id = store.run_create(&plan(vec![a.clone()]), "me").await.unwrap();
        let claim = claimed(store.step_claim("e1", &id, &a, 60_000_000).await.unwrap());
        proxy.hold(1, moment);
        let (of, by) = (store.clone(), claim.clone());
        let facts = [("x.one".to_owned(), serde_json::json!({ "n": 1 })), ("x.two".to_owned(), serde_json::json!({}))];
        let asked = tokio::spawn(async move { of.step_record(&by, b"said\n", &facts).await });
        held(&proxy).await;
        tokio::task::block_in_place(|| server.restart("immediate")).unwrap();
        proxy.cut();
        proxy.release();
        assert_eq!(asked.await.unwrap().unwrap(), Some(5));
        // A child that uses up a plan may begin, and no other.
        let process = ProcessRow { pid: 7, ticks: 1, host: "h".into(), boot: "b".into() };
        proxy.hold(1, moment);
        let (of, by, row) = (store.clone(), claim.clone(), process.clone());
        let plan = name.clone();
        let asked = tokio::spawn(async move { of.process_add(&by, &row, Some(&plan)).await });
        held(&proxy).await;
        tokio::task::block_in_place(|| server.restart("immediate")).unwrap();
        proxy.cut();
        proxy.release();
        assert!(asked.await.unwrap().unwrap());
        assert!(!store.process_add(&claim, &process, Some(&name)).await.unwrap());
        let facts = store.event_list(Some(&id), 0, 100).await.unwrap().into_iter().filter(|e| e.kind.starts_with("x."));
        assert_eq!(facts.map(|event| event.kind).collect::<Vec<_>>(), ["x.one", "x.two"]);
        assert_eq!(store.log_end(&id, &claim.step).await.unwrap(), 5);
        let known =
            store.engine_list().await.unwrap().into_iter().filter(|row| row.engine.id.starts_with(&name)).count();
        assert_eq!(known, together, "{name}");
    }
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_was_told_of_outlives_a_crash_of_postgres() {
    let mut server = Postgres::start_durable().unwrap();
    let store = Store::connect(&server.database("settled")).await.unwrap();
    let mut told: Vec<String> = Vec::new();
    for round in 0..5 {
        let names: Vec<String> = (0..20).map(|number| format!("{round}-{number:02}")).collect();
        for name in &names {
            let name = name.clone();
            // As the beginning of a step that may be repeated.
            let write = store.write(Durability::Lazy, move |tx| {
                tx.execute("INSERT INTO kv (project, scope, name, value) VALUES ('', 's', $1, '1')", params![&name])
            });
            write.await.unwrap();
        }
        // Many ask at once.
        let asked: Vec<_> =
            (0..8).map(|_| store.clone()).map(|store| tokio::spawn(async move { store.settle().await })).collect();
        for answer in asked {
            answer.await.unwrap().unwrap();
        }
        told.extend(names);
        tokio::task::block_in_place(|| server.restart("immediate")).unwrap();
        let found: Vec<String> = store.kv_list("s").await.unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, told);
    }
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_database_is_one_file() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = directory.path().join(format!("{round}.db"));
        let store = Store::open(&path).await.unwrap();
        store.kv_set("s", "name", "1").await.unwrap();
        store.close().await;
        assert!(!path.with_extension("db-wal").exists(), "round {round}");
    }
}
