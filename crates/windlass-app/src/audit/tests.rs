use super::keys::{Keys, Trust};
use super::record::Record;
use super::sealer::Sealer;
use windlass_model::audit::export::ExportReport;
use windlass_model::audit::seal::BATCH_MAX;
use windlass_model::audit::{AuditEvent, Damage};
use windlass_model::id::{RunId, StepId};
use windlass_store::Store;
use windlass_testkit::postgres::Postgres;

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("windlass.db")).await.unwrap();
        Self { directory, store }
    }

    fn keys(&self) -> Keys {
        Keys::of(self.directory.path())
    }

    fn sealer(&self) -> Sealer {
        Sealer::new(self.store.clone(), self.keys())
    }

    async fn happen(&self, count: usize) {
        let events: Vec<_> = (0..count)
            .map(|n| ("step.noted".to_owned(), serde_json::json!({ "n": n, "f": 0.1, "text": "ü\u{1}" })))
            .collect();
        self.store.event_append(&RunId::new("r"), &StepId::new("s"), &events).await.unwrap();
    }

    async fn verify(&self) -> ExportReport {
        verify(&self.store, self.keys().trust().unwrap()).await
    }
}

async fn verify(store: &Store, trust: Option<Trust>) -> ExportReport {
    Record::open(store).await.unwrap().verify(&[], None, trust, |_| {}).await.unwrap()
}

/// How many seals, events in them, and events that wait.
fn figures(report: &ExportReport) -> (u64, u64, u64) {
    assert!(report.intact(), "{:?}", report.report.damage);
    let waiting = report.report.unsealed.as_ref().map_or(0, |unsealed| unsealed.count);
    (report.report.seals, report.report.events - waiting, waiting)
}

#[tokio::test]
async fn batches_are_sealed_one_after_the_other() {
    let world = World::new().await;
    let mut sealer = world.sealer();
    assert_eq!(sealer.seal().await.unwrap(), 0);
    assert_eq!(figures(&world.verify().await), (0, 0, 0));
    world.happen(3).await;
    assert_eq!(figures(&world.verify().await), (0, 0, 3));
    assert_eq!(sealer.seal().await.unwrap(), 1);
    assert_eq!(sealer.seal().await.unwrap(), 0);
    world.happen(2 * BATCH_MAX + 1).await;
    // As after a crash: nothing but what is stored is known.
    assert_eq!(world.sealer().seal().await.unwrap(), 3);
    world.happen(2).await;
    let report = world.verify().await;
    assert_eq!(figures(&report), (4, 2 * BATCH_MAX as u64 + 4, 2));
    let mode = std::fs::metadata(world.directory.path().join("audit-key.pk8")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o600);
}

#[tokio::test]
async fn the_mapping_of_events_is_exact() {
    let world = World::new().await;
    let store = world.store.of_project("shop").correlated("c1");
    store.event_tell("token.created", "token 1", serde_json::json!({ "a": 1 }), "ana", Some("why")).await.unwrap();
    store
        .event_append(&RunId::new("r"), &StepId::new("s"), &[("step.x".into(), serde_json::Value::Null)])
        .await
        .unwrap();
    let found = world.store.event_list(None, 0, 9).await.unwrap();
    let events: Vec<AuditEvent> = found.into_iter().map(super::audit_event).collect();
    let texts: Vec<String> = events.iter().map(|event| String::from_utf8(event.canonical()).unwrap()).collect();
    let (first, second) = (events[0].at, events[1].at);
    assert_eq!(
        texts,
        [
            format!(
                r#"{{"actor":"ana","at":{first},"correlation":"c1","data":{{"a":1}},"id":1,"kind":"token.created","project":"shop","reason":"why","subject":"token 1"}}"#
            ),
            format!(
                r#"{{"at":{second},"correlation":"c1","data":null,"id":2,"kind":"step.x","project":"shop","run":"r","step":"s"}}"#
            ),
        ]
    );
}

#[tokio::test]
async fn an_export_is_what_was_verified() {
    let world = World::new().await;
    world.happen(1500).await;
    world.sealer().seal().await.unwrap();
    world.happen(1).await;
    let mut record = Record::open(&world.store).await.unwrap();
    // What happens while it is read belongs to the next one.
    world.happen(5).await;
    world.sealer().seal().await.unwrap();
    let mut text = record.header.line().unwrap();
    while let Some(entry) = record.next().await.unwrap() {
        text.extend(entry.line().unwrap());
    }
    let key = world.keys().current().unwrap().unwrap().verifying_key();
    let report = windlass_model::audit::export::verify_export(&*text, &[key], None, |_, _| {}).unwrap();
    assert_eq!(figures(&report), (1, 1500, 1));
}

#[tokio::test]
async fn a_key_is_followed_by_another() {
    let world = World::new().await;
    let keys = world.keys();
    assert_eq!(keys.rotate().unwrap_err().diagnostics[0].code, "WL828");
    world.happen(1).await;
    world.sealer().seal().await.unwrap();
    let first = keys.current().unwrap().unwrap().verifying_key();
    let second = keys.rotate().unwrap();
    assert_eq!(keys.rotate().unwrap(), second, "asked twice, it is one");
    let before = std::fs::read(world.directory.path().join("audit-key.pk8")).unwrap();
    let next = std::fs::read(world.directory.path().join("audit-key.next.pk8")).unwrap();
    world.sealer().seal().await.unwrap();
    assert_eq!(keys.current().unwrap().unwrap().verifying_key(), second);
    // As when the process ended right after the seal.
    std::fs::write(world.directory.path().join("audit-key.pk8"), before).unwrap();
    std::fs::write(world.directory.path().join("audit-key.next.pk8"), next).unwrap();
    world.happen(1).await;
    world.sealer().seal().await.unwrap();
    assert_eq!(keys.current().unwrap().unwrap().verifying_key(), second);
    let report = world.verify().await;
    assert_eq!(figures(&report), (3, 3, 0));
    assert_eq!(report.report.keys, [first, second]);
    let kinds: Vec<String> = world.store.event_list(None, 0, 9).await.unwrap().into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["step.noted", "audit.key_rotated", "step.noted"]);
}

#[tokio::test]
async fn without_the_key_nothing_is_signed() {
    let world = World::new().await;
    world.happen(1).await;
    world.sealer().seal().await.unwrap();
    world.happen(1).await;
    let other = tempfile::tempdir().unwrap();
    let error = Sealer::new(world.store.clone(), Keys::of(other.path())).seal().await.unwrap_err();
    assert_eq!(error.diagnostics[0].code, "WL828");
    assert_eq!(figures(&world.verify().await), (1, 1, 1));
    std::fs::copy(world.directory.path().join("audit-key.pk8"), other.path().join("audit-key.pk8")).unwrap();
    assert_eq!(Sealer::new(world.store.clone(), Keys::of(other.path())).seal().await.unwrap(), 1);
    // The first goes on from what the other sealed.
    world.happen(1).await;
    assert_eq!(world.sealer().seal().await.unwrap(), 1);
    assert_eq!(figures(&world.verify().await), (3, 3, 0));
}

#[tokio::test]
async fn a_database_of_yesterday_is_noticed() {
    let world = World::new().await;
    world.happen(1).await;
    world.sealer().seal().await.unwrap();
    let old = tempfile::tempdir().unwrap();
    world.store.close().await;
    std::fs::copy(world.directory.path().join("windlass.db"), old.path().join("windlass.db")).unwrap();
    let store = Store::open(&world.directory.path().join("windlass.db")).await.unwrap();
    let world = World { store, ..world };
    world.happen(1).await;
    world.sealer().seal().await.unwrap();
    // The keys of now, and the database of then.
    let restored = World { store: Store::open(&old.path().join("windlass.db")).await.unwrap(), ..world };
    let damage = |report: ExportReport| report.report.damage.unwrap();
    assert!(matches!(damage(restored.verify().await), Damage::Truncated { last: Some(1), checkpoint: 2, .. }));
    // What happens now is sealed, and the gap stays known.
    for number in 2..=3 {
        restored.happen(1).await;
        assert_eq!(restored.sealer().seal().await.unwrap_err().diagnostics[0].code, "WL827");
        assert_eq!(restored.store.seal_last().await.unwrap().unwrap().number, number);
        assert!(matches!(damage(restored.verify().await), Damage::Seal { number: 2, .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_write_and_two_seal_one_chain() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.url();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Keys::of(here.path()).current_or_new().unwrap();
    std::fs::copy(here.path().join("audit-key.pk8"), there.path().join("audit-key.pk8")).unwrap();
    let mut writers = Vec::new();
    for writer in 0..6 {
        let store = Store::connect(&url).await.unwrap();
        writers.push(tokio::spawn(async move {
            for n in 0..50 {
                let events = [("step.a".to_owned(), serde_json::json!(n)), ("step.b".to_owned(), serde_json::json!(n))];
                store.event_append(&RunId::new(format!("r{writer}")), &StepId::new("s"), &events).await.unwrap();
            }
        }));
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let mut sealers = Vec::new();
    for directory in [&here, &there] {
        let mut sealer = Sealer::new(Store::connect(&url).await.unwrap(), Keys::of(directory.path()));
        let stop = stop.clone();
        sealers.push(tokio::spawn(async move {
            let mut made = 0;
            while !stop.is_cancelled() {
                made += sealer.seal().await.unwrap();
            }
            made + sealer.seal().await.unwrap()
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    stop.cancel();
    let mut made = 0;
    for sealer in sealers {
        made += sealer.await.unwrap();
    }
    let store = Store::connect(&url).await.unwrap();
    for directory in [here, there] {
        let trust = Keys::of(directory.path()).trust().unwrap();
        assert_eq!(figures(&verify(&store, trust).await), (made, 600, 0));
    }
    assert!(made > 1);
}
