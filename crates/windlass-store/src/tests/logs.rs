//! Logs read the same whether they are packed or not, whoever dies while they are; and artefacts are what was kept, or nothing.

use super::*;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

cases! {
    a_packed_log_reads_as_it_did,
    two_that_pack_at_once_leave_what_one_does,
    blocks_elsewhere_are_read_from_there_and_nothing_is_lost_when_it_fails,
    a_sentence_stands_where_a_log_was,
    an_artefact_is_what_was_kept_or_nothing,
    what_was_not_finished_is_found,
}

/// Somewhere else, in memory.
#[derive(Default)]
struct Elsewhere {
    there: Mutex<BTreeMap<String, Vec<u8>>>,
    is_down: std::sync::atomic::AtomicBool,
}

impl Elsewhere {
    fn up(&self) -> std::result::Result<std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>>, ContentsError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(ContentsError::Unreachable("it is down".into()));
        }
        Ok(self.there.lock().unwrap())
    }
}

#[async_trait::async_trait]
impl Contents for Elsewhere {
    fn place(&self) -> &str {
        "elsewhere"
    }
    fn takes_logs(&self) -> bool {
        true
    }
    async fn put(&self, name: &str, content: Vec<u8>) -> std::result::Result<(), ContentsError> {
        self.up()?.insert(name.to_owned(), content);
        Ok(())
    }
    async fn get(&self, name: &str) -> std::result::Result<Option<Vec<u8>>, ContentsError> {
        Ok(self.up()?.get(name).cloned())
    }
    async fn remove(&self, name: &str) -> std::result::Result<(), ContentsError> {
        self.up()?.remove(name);
        Ok(())
    }
}

/// Bytes that do not repeat soon, with every value among them.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A run of two steps that has ended, with logs: many small chunks of two attempts; and some of which one is larger than a block.
async fn ended(store: &Store, clock: &AtomicI64) -> RunId {
    let run = store.run_create(&plan(vec![step("small", &[]), step("large", &[])]), "me").await.unwrap();
    for n in 0..300 {
        clock.fetch_add(1000, Ordering::SeqCst);
        store.log_append(&run, &"small".into(), 1 + n / 200, &noise(1 + n as usize % 90, n.into())).await.unwrap();
    }
    for (n, length) in [700_000, 700_000, 1_500_000, 5, 0].into_iter().enumerate() {
        store.log_append(&run, &"large".into(), 1, &noise(length, n as u64)).await.unwrap();
    }
    store.run_set_state(&run, RunState::Queued, RunState::Running, None).await.unwrap();
    store.run_set_state(&run, RunState::Running, RunState::Succeeded, None).await.unwrap();
    run
}

/// Every chunk, read `limit` at a time from a byte on.
async fn all(store: &Store, run: &RunId, step: &str, from: i64, limit: u32) -> Vec<LogChunk> {
    let (mut chunks, mut at) = (Vec::new(), from);
    loop {
        let part = store.log_read(run, &step.into(), at, limit).await.unwrap();
        assert!(part.len() <= limit as usize);
        let is_last = part.len() < limit as usize;
        if let Some(last) = part.last() {
            at = last.start + last.bytes.len() as i64;
        }
        chunks.extend(part);
        if is_last {
            return chunks;
        }
    }
}

/// What a reader sees of both logs.
async fn seen(store: &Store, run: &RunId) -> Vec<(i64, Vec<LogChunk>)> {
    let mut seen = Vec::new();
    for (step, from) in [("small", 0), ("small", 1), ("small", 4321), ("large", 0), ("large", 1_400_001)] {
        for limit in [7, 1000] {
            let chunks = all(store, run, step, from, limit).await;
            assert!(
                chunks
                    .iter()
                    .scan(from, |at, c| Some(std::mem::replace(at, *at + c.bytes.len() as i64)))
                    .eq(chunks.iter().map(|c| c.start)),
                "no gap, nothing twice"
            );
            seen.push((store.log_end(run, &step.into()).await.unwrap(), chunks));
        }
    }
    let mut sizes = store.log_sizes(run, None).await.unwrap();
    sizes.sort();
    assert_eq!(sizes, [("large".into(), 2_900_005), ("small".into(), seen[0].0.unsigned_abs())]);
    seen
}

/// Chunks and blocks that there are.
async fn rows(store: &Store) -> (i64, i64) {
    let sql = "SELECT (SELECT COUNT(*) FROM logs), (SELECT COUNT(*) FROM log_blocks)";
    store.read(move |tx| tx.row(sql, &[])).await.unwrap().unwrap()
}

async fn a_packed_log_reads_as_it_did(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let run = ended(store, clock).await;
    let live = store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    store.log_append(&live, &"a".into(), 1, b"lives").await.unwrap();
    let before = seen(store, &run).await;
    let now = clock.load(Ordering::SeqCst);
    assert_eq!(store.log_unpacked(now, None, 10).await.unwrap(), [], "it has ended just now");
    assert_eq!(store.log_unpacked(now + 1, None, 10).await.unwrap(), [(run.clone(), now)]);
    assert_eq!(store.log_unpacked(now + 1, Some(&run), 10).await.unwrap(), []);
    let packed = store.log_pack(&run, now).await.unwrap();
    let length = before[0].0.unsigned_abs() + 2_900_005;
    assert_eq!((packed.blocks, packed.bytes), (4, length));
    assert_eq!(rows(store).await, (1, 4));
    assert_eq!(seen(store, &run).await, before);
    assert_eq!(store.log_unpacked(now + 1, None, 10).await.unwrap(), []);
    assert_eq!(store.log_pack(&run, now).await.unwrap(), Packed::default());
    let kept = store.artefact_sums().await.unwrap();
    assert_eq!(kept, [(ArtefactKind::Log, 4, packed.size as i64)]);
    // What comes late goes on where the log ends, and is packed in its turn.
    let end = before[0].0;
    assert_eq!(store.log_append(&run, &"small".into(), 2, b"late").await.unwrap(), end);
    for _ in 0..2 {
        let tail = all(store, &run, "small", end - 1, 3).await;
        assert_eq!(tail.iter().map(|c| c.bytes.len()).sum::<usize>(), 5);
        assert_eq!(tail.last().unwrap().bytes, b"late");
        assert_eq!(store.log_end(&run, &"small".into()).await.unwrap(), end + 4);
        store.log_pack(&run, now).await.unwrap();
    }
    assert_eq!(rows(store).await, (1, 5));
}

async fn two_that_pack_at_once_leave_what_one_does(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let other = open(&fixture.at, clock).await;
    for elsewhere in [false, true] {
        if elsewhere {
            let contents = Arc::new(Elsewhere::default());
            store.keep_artefacts(contents.clone());
            other.keep_artefacts(contents);
        }
        let run = ended(store, clock).await;
        let (before, now) = (seen(store, &run).await, clock.load(Ordering::SeqCst));
        let reading = tokio::spawn({
            let (store, run) = (store.clone(), run.clone());
            async move { seen(&store, &run).await }
        });
        let both = tokio::join!(store.log_pack(&run, now), other.log_pack(&run, now));
        both.0.unwrap();
        both.1.unwrap();
        assert_eq!(reading.await.unwrap(), before, "while they are packed");
        assert_eq!(seen(&other, &run).await, before);
        assert_eq!(rows(store).await, (0, if elsewhere { 8 } else { 4 }));
    }
    // Nothing of it is left to be swept away.
    let left = store.artefact_unread(Unread::Unfinished { before: i64::MAX }).await.unwrap();
    assert_eq!(left, []);
    other.close().await;
}

async fn blocks_elsewhere_are_read_from_there_and_nothing_is_lost_when_it_fails(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (store, clock) = (&fixture.store, &fixture.clock);
    let contents = Arc::new(Elsewhere::default());
    store.keep_artefacts(contents.clone());
    let run = ended(store, clock).await;
    let (before, now) = (seen(store, &run).await, clock.load(Ordering::SeqCst));
    contents.is_down.store(true, Ordering::SeqCst);
    let error = store.log_pack(&run, now).await.unwrap_err();
    assert!(matches!(&error, StoreError::Contents { place, .. } if place == "elsewhere"), "{error}");
    assert_eq!(seen(store, &run).await, before, "what could not be packed is where it was");
    contents.is_down.store(false, Ordering::SeqCst);
    store.log_pack(&run, now).await.unwrap();
    assert_eq!(rows(store).await, (0, 4));
    assert_eq!(contents.there.lock().unwrap().len(), 4);
    // By a reader that has nothing of it in memory.
    let other = open(&fixture.at, clock).await;
    other.keep_artefacts(contents.clone());
    assert_eq!(seen(&other, &run).await, before);
    other.close().await;
    let elsewhere = std::mem::take(&mut *contents.there.lock().unwrap());
    let other = open(&fixture.at, clock).await;
    other.keep_artefacts(contents.clone());
    let error = other.log_read(&run, &"small".into(), 3, 10).await.unwrap_err();
    let (code, text) = (error.code(), error.to_string());
    assert!(code == "WL890" && text.contains("log of step small") && text.contains("elsewhere"), "{text}");
    *contents.there.lock().unwrap() = elsewhere;
    other.log_read(&run, &"small".into(), 3, 10).await.unwrap();
    other.close().await;
}

async fn a_sentence_stands_where_a_log_was(place: &Place<'_>) {
    for elsewhere in [false, true] {
        let suffix = if elsewhere { "_elsewhere" } else { "" };
        let (at, _directory) = place.empty(suffix);
        let clock = Arc::new(AtomicI64::new(1_000_000_000));
        let store = open(&at, &clock).await.of_project("shop");
        let contents = Arc::new(Elsewhere::default());
        if elsewhere {
            store.keep_artefacts(contents.clone());
        }
        let run = ended(&store, &clock).await;
        let now = clock.load(Ordering::SeqCst);
        let packed = store.log_pack(&run, now).await.unwrap();
        seen(&store, &run).await;
        assert_eq!(store.log_expired(now).await.unwrap(), []);
        assert_eq!(store.log_expired(now + 1).await.unwrap(), std::slice::from_ref(&run));
        let all_of_it = store.of_project("").log_remove(&run, "removed today", "windlass").await.unwrap();
        assert_eq!(all_of_it, packed.size);
        for name in ["small", "large"] {
            let check = async |from: i64, want: &str| {
                let text: Vec<u8> = all(&store, &run, name, from, 5).await.into_iter().flat_map(|c| c.bytes).collect();
                assert_eq!(String::from_utf8(text).unwrap(), want);
            };
            check(0, "removed today\n").await;
            check(8, "today\n").await;
            check(14, "").await;
            check(4321, "").await;
            assert_eq!(store.log_end(&run, &name.into()).await.unwrap(), 14);
        }
        let events = store.event_list(Some(&run), 0, 100).await.unwrap();
        let told: Vec<_> = events.iter().filter(|event| event.kind == "log.removed").collect();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].project.as_str(), told[0].actor.as_deref()), ("shop", Some("windlass")));
        assert_eq!(told[0].data["steps"], serde_json::json!(["large", "small"]));
        // Once.
        assert_eq!(store.log_expired(i64::MAX).await.unwrap(), []);
        assert_eq!(store.log_remove(&run, "again", "windlass").await.unwrap(), 0);
        assert_eq!(contents.there.lock().unwrap().len(), 0);
        assert_eq!(store.artefact_list(ArtefactKind::Log, None, None).await.unwrap(), []);
        store.close().await;
    }
}

fn new(kind: ArtefactKind, run: &str, subject: &str, number: i64) -> NewArtefact {
    NewArtefact { kind, run: run.into(), subject: subject.into(), number }
}

async fn an_artefact_is_what_was_kept_or_nothing(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let (shop, clock) = (fixture.store.of_project("shop"), &fixture.clock);
    let plan = |number| new(ArtefactKind::Plan, "r1", "../../net", number);
    let inside = shop.artefact_put(&plan(1), b"one".to_vec()).await.unwrap();
    assert_eq!(shop.artefact_read(&inside).await.unwrap(), b"one");
    assert_eq!(inside, shop.artefact_put(&plan(1), b"one".to_vec()).await.unwrap(), "the same is there once");
    let contents = Arc::new(Elsewhere::default());
    shop.keep_artefacts(contents.clone());
    let outside = shop.artefact_put(&plan(2), b"one".to_vec()).await.unwrap();
    assert_ne!(inside, outside, "of another attempt");
    let state = shop.artefact_put(&new(ArtefactKind::State, "r1", "net", 0), b"two".to_vec()).await.unwrap();
    for (id, want) in [(&inside, b"one"), (&outside, b"one"), (&state, b"two")] {
        assert_eq!(shop.artefact_read(id).await.unwrap(), want, "wherever it is");
    }
    let names: Vec<String> = contents.there.lock().unwrap().keys().cloned().collect();
    assert_eq!(names, [format!("plan/{outside}"), format!("state/{state}")], "no name is of what somebody wrote");
    let list = async |subject: Option<&str>| {
        let run = Some(RunId::new("r1"));
        let list = shop.artefact_list(ArtefactKind::Plan, run.as_ref(), subject).await.unwrap();
        list.into_iter().map(|artefact| artefact.of.number).collect::<Vec<_>>()
    };
    assert_eq!(
        (list(None).await, list(Some("../../net")).await, list(Some("net")).await),
        (vec![1, 2], vec![1, 2], vec![])
    );
    assert_eq!(fixture.store.artefact_list(ArtefactKind::Plan, None, None).await.unwrap(), [], "of another project");

    // Of one run, a page at a time, and by name.
    let mut files = Vec::new();
    for (run, subject, attempt) in [("r1", "b/x", 1), ("r1", "a/y", 2), ("r1", "a/y", 1), ("r2", "a/z", 1)] {
        let of = new(ArtefactKind::File, run, subject, attempt);
        files.push(shop.artefact_put(&of, subject.as_bytes().to_vec()).await.unwrap());
    }
    let r1 = RunId::new("r1");
    let page = async |after: Option<&str>, limit| {
        let list = shop.artefact_page(ArtefactKind::File, &r1, after, limit).await.unwrap();
        list.into_iter().map(|artefact| artefact.id).collect::<Vec<_>>()
    };
    let sorted = [files[2].clone(), files[1].clone(), files[0].clone()];
    assert_eq!(page(None, 10).await, sorted);
    assert_eq!(page(None, 2).await, sorted[..2]);
    assert_eq!(page(Some(&sorted[1]), 2).await, sorted[2..]);
    assert_eq!(page(Some("nothing"), 2).await, <[String; 0]>::default());
    let find = async |name: &str| {
        let found = shop.artefact_find(ArtefactKind::File, &r1, name).await.unwrap();
        found.map(|artefact| artefact.id)
    };
    assert_eq!(find("a/y").await, Some(sorted[1].clone()), "of the last attempt");
    assert_eq!(find(&sorted[0]).await, Some(sorted[0].clone()));
    for name in [files[3].as_str(), "a/z", "y", "", &state] {
        assert_eq!(find(name).await, None, "{name}: of another run, of another kind, or of none");
    }
    for id in &files {
        let artefact = shop.artefact_get(id).await.unwrap().unwrap();
        shop.artefact_remove(&artefact, None).await.unwrap();
    }

    // Another content under the same name, another artefact's content, and none.
    let swap = |name: &str, content: Option<&[u8]>| {
        let mut there = contents.there.lock().unwrap();
        match content {
            Some(content) => there.insert(name.to_owned(), content.to_vec()),
            None => there.remove(name),
        };
    };
    let check = async |id: &str, code: &str, texts: &[&str]| {
        let error = shop.artefact_read(id).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(texts.iter().all(|text| error.to_string().contains(text)), "{error}");
    };
    for content in [&b"onE"[..], b"two", b""] {
        swap(&names[0], Some(content));
        check(&outside, "WL891", &["plan of ../../net in run r1 (attempt 2)", "elsewhere"]).await;
    }
    swap(&names[0], None);
    check(&outside, "WL890", &["plan of ../../net in run r1 (attempt 2)", "elsewhere has nothing", &outside]).await;
    contents.is_down.store(true, Ordering::SeqCst);
    check(&state, "WL892", &["elsewhere", "it is down"]).await;
    contents.is_down.store(false, Ordering::SeqCst);
    check(&"0".repeat(64), "WL890", &["nothing of that name"]).await;
    // Somebody who does not look there.
    let other = open(&fixture.at, clock).await;
    assert_eq!(other.artefact_read(&inside).await.unwrap(), b"one");
    let error = other.artefact_read(&state).await.unwrap_err();
    assert!(error.to_string().contains("was kept in elsewhere"), "{error}");
    let of_state = other.artefact_get(&state).await.unwrap().unwrap();
    other.artefact_remove(&of_state, None).await.unwrap();
    assert_eq!(shop.artefact_read(&state).await.unwrap(), b"two", "it is not theirs to remove");
    other.close().await;

    let at = fixture.at.clone();
    let copied = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let made = crate::backup::backup(&at, &mut bytes, &mut |_, _| {}).unwrap();
        (made, crate::backup::check(&bytes[..]).unwrap())
    });
    let (made, checked) = copied.await.unwrap();
    assert_eq!(made, checked);
    assert_eq!(made.poured.elsewhere, [("elsewhere".to_owned(), (2, 6))].into(), "what a backup counts on");

    shop.artefact_remove(&of_state, Some("removed today")).await.unwrap();
    check(&state, "WL890", &["state of net from before run r1", "removed today"]).await;
    let kept = shop.artefact_get(&inside).await.unwrap().unwrap();
    shop.artefact_remove(&kept, None).await.unwrap();
    check(&inside, "WL890", &["nothing of that name"]).await;
    assert_eq!(list(None).await, [2]);
    let states = shop.artefact_list(ArtefactKind::State, None, None).await.unwrap();
    assert_eq!(states[0].note.as_deref(), Some("removed today"));
    assert!(contents.there.lock().unwrap().is_empty());
}

async fn what_was_not_finished_is_found(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let store = &fixture.store;
    let contents = Arc::new(Elsewhere::default());
    store.keep_artefacts(contents.clone());
    contents.is_down.store(true, Ordering::SeqCst);
    let of = new(ArtefactKind::Plan, "r1", "net", 1);
    store.artefact_put(&of, b"one".to_vec()).await.unwrap_err();
    assert_eq!(store.artefact_list(ArtefactKind::Plan, None, None).await.unwrap(), [], "it does not count");
    contents.is_down.store(false, Ordering::SeqCst);
    let removed = new(ArtefactKind::Plan, "r1", "app", 1);
    let id = store.artefact_put(&removed, b"two".to_vec()).await.unwrap();
    let now = fixture.clock.load(Ordering::SeqCst);
    let unread = async |which| store.artefact_unread(which).await.unwrap();
    let old = Unread::Older { kind: ArtefactKind::Plan, before: now + 1 };
    assert_eq!(unread(old).await.len(), 1);
    assert_eq!(unread(Unread::Older { kind: ArtefactKind::Plan, before: now }).await, []);
    assert_eq!(unread(Unread::Older { kind: ArtefactKind::State, before: now + 1 }).await, []);
    // It fails after it was marked.
    let artefact = store.artefact_get(&id).await.unwrap().unwrap();
    contents.is_down.store(true, Ordering::SeqCst);
    store.artefact_remove(&artefact, Some("gone")).await.unwrap_err();
    contents.is_down.store(false, Ordering::SeqCst);
    assert_eq!(unread(Unread::Unfinished { before: now }).await, [], "somebody may be at it");
    let left = unread(Unread::Unfinished { before: now + 1 }).await;
    assert_eq!(left.len(), 2);
    for artefact in &left {
        store.artefact_abandon(artefact).await.unwrap();
    }
    assert_eq!(unread(Unread::Unfinished { before: now + 1 }).await, []);
    assert!(contents.there.lock().unwrap().is_empty());
    let noted = store.artefact_list(ArtefactKind::Plan, None, None).await.unwrap();
    assert_eq!(
        noted.iter().map(|a| (a.of.subject.as_str(), a.note.as_deref())).collect::<Vec<_>>(),
        [("app", Some("gone"))]
    );
    // One that counts by now is nobody's to abandon.
    let id = store.artefact_put(&of, b"one".to_vec()).await.unwrap();
    store.artefact_abandon(&left[0]).await.unwrap();
    store.artefact_abandon(&left[1]).await.unwrap();
    assert_eq!(store.artefact_read(&id).await.unwrap(), b"one");
}

/// Packs what there is in the file that the environment names.
#[tokio::test]
#[ignore = "the process that the next test kills"]
async fn pack_until_killed() {
    let Some(path) = std::env::var_os("WINDLASS_TEST_PACK") else { return };
    let store = Store::open(path.as_ref()).await.unwrap();
    while let Some((run, ended)) = store.log_unpacked(i64::MAX, None, 1).await.unwrap().pop() {
        store.log_pack(&run, ended).await.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_packing_loses_and_doubles_nothing() {
    let fixture = Place::File.fixture().await;
    let Database::File(path) = fixture.at.clone() else { panic!("a file") };
    let mut runs = Vec::new();
    for _ in 0..4 {
        let run = ended(&fixture.store, &fixture.clock).await;
        runs.push((run.clone(), seen(&fixture.store, &run).await));
    }
    let mut killed = 0;
    loop {
        let before = rows(&fixture.store).await;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::logs::pack_until_killed", "--ignored"])
            .env("WINDLASS_TEST_PACK", &path)
            .spawn()
            .unwrap();
        // As soon as it has packed something more.
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if rows(&fixture.store).await.1 > before.1 {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                break None;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        for (run, before) in &runs {
            assert_eq!(&seen(&fixture.store, run).await, before);
        }
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
    }
    assert!(killed > 0, "it was killed in the middle at least once");
    assert_eq!(rows(&fixture.store).await, (0, 16));
}
