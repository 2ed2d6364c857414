//! Backups, restores and moves: everything arrives as it was, on whichever engine, or nothing does.

use super::*;
use crate::backup::{Content, backup, check, copy, restore};
use crate::db::{Cell, params};
use crate::transfer::{Pump, Sink, TABLES, Table, read};
use std::collections::BTreeMap;
use std::io::{Read, Write};

cases! {
    a_backup_holds_everything_and_comes_back_on_both_engines,
    a_snapshot_is_of_one_moment,
    numbers_go_on_after_the_greatest_that_was_drawn,
    what_is_not_empty_is_not_overwritten,
    a_file_that_was_cut_or_altered_changes_nothing,
    a_database_in_use_is_neither_restored_nor_moved,
    both_engines_have_the_tables_that_are_copied,
}

/// Characters that mean something to JSON, to COPY, to SQL or to nobody.
const ODD: &str = "a\tb\nc\r\\d\\N 'e' \"f\" $1 {g} \u{1} é 漢 🦀 \\x00 \\.";

type Rows = BTreeMap<String, Vec<String>>;

/// A sink that remembers.
#[derive(Default)]
struct Seen {
    rows: Rows,
    last: BTreeMap<String, i64>,
    table: String,
    columns: Vec<String>,
}

impl Sink for Seen {
    fn begin(&mut self, _: i64) -> Result<()> {
        Ok(())
    }
    fn table(&mut self, table: &'static Table, columns: &[String], last: Option<i64>) -> Result<()> {
        self.table = table.name.into();
        self.columns = columns.to_vec();
        self.rows.insert(self.table.clone(), vec![]);
        last.map(|last| self.last.insert(self.table.clone(), last));
        Ok(())
    }
    fn row(&mut self, row: &[Cell]) -> Result<()> {
        let text = self.columns.iter().zip(row).map(|(column, cell)| format!("{column}={cell:?} ")).collect();
        self.rows.get_mut(&self.table).unwrap().push(text);
        Ok(())
    }
    fn end(&mut self, counts: &Counts) -> Result<()> {
        let found: Counts = TABLES
            .iter()
            .filter_map(|t| self.rows.get(t.name).map(|rows| (t.name.to_owned(), rows.len() as u64)))
            .collect();
        assert_eq!(&found, counts);
        Ok(())
    }
}

async fn off<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(body).await.unwrap()
}

async fn all(at: &Database, tickets: bool) -> Seen {
    let at = at.clone();
    off(move || {
        let mut seen = Seen::default();
        read(&at, tickets, Pump::new(&mut seen, &mut |_, _| {})).unwrap();
        seen
    })
    .await
}

async fn to_bytes(at: &Database) -> (Vec<u8>, Content) {
    let at = at.clone();
    off(move || {
        let mut bytes = Vec::new();
        let content = backup(&at, &mut bytes, &mut |_, _| {}).unwrap();
        (bytes, content)
    })
    .await
}

async fn from_bytes(bytes: &[u8], at: &Database, replace: bool) -> Result<Content> {
    let (bytes, at) = (bytes.to_vec(), at.clone());
    off(move || restore(&bytes[..], &at, replace, &mut |_, _| {})).await
}

/// All of one into another.
async fn moved(from: &Database, to: &Database, replace: bool) -> Result<Poured> {
    let (from, to) = (from.clone(), to.clone());
    off(move || copy(&from, &to, replace, &mut |_, _| {})).await
}

/// Something in every table.
async fn fill(store: &Store) -> RunId {
    let shop = store.of_project("shop").correlated("01k");
    let (a, b) = (step("a", &["x", "y"]), step("b", &["x"]));
    let run = shop.run_create(&RunPlan { title: ODD.into(), ..plan(vec![a.clone(), b.clone()]) }, ODD).await.unwrap();
    let engine = EngineIdentity { id: "e".into(), host: "h".into(), boot: "b".into(), pid: 1, ticks: 2 };
    store.engine_register(&engine).await.unwrap();
    let claim = claimed(shop.step_claim("e", &run, &a, 10).await.unwrap());
    shop.step_claim("e", &run, &b, 10).await.unwrap();
    let process = ProcessRow { pid: 7, ticks: 1, host: "h".into(), boot: "b".into() };
    shop.process_add(&claim, &process, None).await.unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let seen = ("x.seen".to_owned(), serde_json::json!({ "odd": ODD, "n": i64::MAX }));
    shop.step_record(&claim, &bytes, &[seen]).await.unwrap();
    shop.log_append(&run, &"b".into(), 1, b"").await.unwrap();
    shop.run_cancel(&run, "me", None).await.unwrap();
    shop.kv_set("s", ODD, "").await.unwrap();
    shop.plan_mark_used("p", &run, &"a".into()).await.unwrap();
    shop.token_create("digest", "ci", "me", "{}", i64::MAX).await.unwrap();
    shop.ticket_put("session", "s1", ODD, 2_000_000_000).await.unwrap();
    schedules::fill(&shop).await;
    changes::fill(&shop).await;
    let message = ["m", "shop", "ops", ODD, ODD].map(str::to_owned);
    let [id, project, notifier, thread, body] = message;
    shop.message_add(None, &[NewMessage { id, project, notifier, thread, body }]).await.unwrap();
    shop.seal_add(&SealRow { number: 1, first: 1, last: 2, body: ODD.into(), at: -5 }).await.unwrap();
    let plan = NewArtefact { kind: ArtefactKind::Plan, run: run.clone(), subject: ODD.into(), number: 1 };
    shop.artefact_put(&plan, bytes).await.unwrap();
    let each = step("each", &[]);
    let grown = shop.run_create(&super::plan(vec![each.clone()]), "me").await.unwrap();
    shop.admission_take(ODD, &grown, 1).await.unwrap();
    let actor = r#"{"name":"ann","identities":["user:ann"],"verified":true}"#;
    shop.answer_add(&grown, &each.id, actor, ODD, Some(ODD)).await.unwrap();
    let expansion = windlass_model::run::Expansion { steps: vec![step(ODD, &[])], ..Default::default() };
    let added = StepOutcome::Expanded { output: ODD.into(), expansion: Arc::new(expansion) };
    let claim = claimed(shop.step_claim("e", &grown, &each, 10).await.unwrap());
    shop.step_finish(&claim, &added, &[], Durability::Durable).await.unwrap();
    let of = run.clone();
    let raw = move |tx: &mut Tx<'_>| {
        tx.execute(
            "INSERT INTO reviews (run, project, state, head, head_commit, effect_digest, document, created_at)
             VALUES ($1, 'shop', 'open', 'main', 'c', 'd', '{}', 5)",
            params![of.as_str()],
        )?;
        tx.execute(
            "INSERT INTO log_blocks (run, step, start, next, bytes, size, run_ended_at, removed)
             VALUES ($1, 'c', 0, 4, $2, 2, 7, TRUE), ($1, 'd', 0, 4, NULL, 2, 7, FALSE)",
            params![of.as_str(), &[0u8, 255][..]],
        )?;
        tx.execute("INSERT INTO approvals (subject, record, at) VALUES ($1, $2, 6)", params![of.as_str(), ODD])
            .map(drop)
    };
    store.write(Durability::Durable, raw).await.unwrap();
    run
}

async fn a_backup_holds_everything_and_comes_back_on_both_engines(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let run = fill(&fixture.store).await;
    let before = all(&fixture.at, true).await;
    assert!(before.rows.values().all(|rows| !rows.is_empty()), "something in every table: {:?}", before.rows);
    // While the store is open, and others may write.
    let (bytes, content) = to_bytes(&fixture.at).await;
    assert_eq!(content, check(&bytes[..]).unwrap());
    assert_eq!(content.poured.rows.iter().find(|(name, _)| name == "steps").unwrap().1, 4);
    let mut lasting = before.rows.clone();
    // What was good for a time is not good again.
    lasting.insert("tickets".into(), vec![]);

    // On the same engine, and on a file whichever that is.
    for (suffix, at) in [("_to", place), ("", &Place::File)] {
        let (to, _directory) = at.empty(suffix);
        from_bytes(&bytes, &to, false).await.unwrap();
        let after = all(&to, true).await;
        assert_eq!((&after.rows, &after.last), (&lasting, &before.last));
        assert_eq!(to_bytes(&to).await.1.poured.rows, content.poured.rows);
        // It is a database to work with.
        let store = open(&to, &fixture.clock).await;
        assert_eq!(store.run_get(&run).await.unwrap(), fixture.store.run_get(&run).await.unwrap());
        store.of_project("shop").run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
        store.close().await;
    }
    // Moved, with what is good for a time: to the same engine, and to a file and back.
    fixture.store.close().await;
    let (same, file, back) = (place.empty("_same"), Place::File.empty(""), place.empty("_back"));
    let (same, file, back) = (&same.0, &file.0, &back.0);
    for (from, to) in [(&fixture.at, same), (&fixture.at, file), (file, back)] {
        moved(from, to, false).await.unwrap();
        let after = all(to, true).await;
        assert_eq!((&after.rows, &after.last), (&before.rows, &before.last));
    }
}

/// Writes with a pause in which others do something.
struct Slow<F>(Vec<u8>, Option<F>);

impl<F: FnOnce()> Write for Slow<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(meanwhile) = self.1.take() {
            meanwhile();
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn a_snapshot_is_of_one_moment(place: &Place<'_>) {
    let fixture = place.fixture().await;
    // As much as no buffer on the way holds back: the first of it is written while the rest was not read.
    let run = fixture.store.run_create(&plan(vec![step("a", &[])]), "me").await.unwrap();
    let mut state = 1u64;
    for _ in 0..40 {
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        });
        let noise: Vec<u8> = noise.take(10_000).collect();
        fixture.store.log_append(&run, &"a".into(), 1, &noise).await.unwrap();
    }
    fixture.store.kv_set("s", "n", "before").await.unwrap();
    let (store, at, handle) = (fixture.store.clone(), fixture.at.clone(), tokio::runtime::Handle::current());
    let bytes = off(move || {
        let meanwhile = move || {
            handle.block_on(async {
                store.kv_set("s", "n", "after").await.unwrap();
                store.kv_set("s", "new", "1").await.unwrap();
            });
        };
        let mut out = Slow(Vec::new(), Some(meanwhile));
        backup(&at, &mut out, &mut |_, _| {}).unwrap();
        assert!(out.1.is_none());
        out.0
    })
    .await;
    assert_eq!(fixture.store.kv_get("s", "n").await.unwrap().as_deref(), Some("after"));
    let (to, _directory) = place.empty("_to");
    from_bytes(&bytes, &to, false).await.unwrap();
    let restored = open(&to, &fixture.clock).await;
    assert_eq!(restored.kv_list("s").await.unwrap(), [("n".into(), "before".into())]);
    assert_eq!(restored.log_end(&run, &"a".into()).await.unwrap(), 400_000);
    restored.close().await;
}

async fn numbers_go_on_after_the_greatest_that_was_drawn(place: &Place<'_>) {
    let fixture = place.fixture().await;
    for n in 0..5 {
        fixture.store.event_tell("x.told", &n.to_string(), serde_json::Value::Null, "me", None).await.unwrap();
    }
    // The last went; a cursor that stood behind them must not see others under their numbers.
    let delete = |tx: &mut Tx<'_>| tx.execute("DELETE FROM events WHERE id > 3", params![]);
    fixture.store.write(Durability::Durable, delete).await.unwrap();
    let (bytes, _) = to_bytes(&fixture.at).await;
    for (suffix, at) in [("_to", place), ("", &Place::File)] {
        let (to, _directory) = at.empty(suffix);
        from_bytes(&bytes, &to, false).await.unwrap();
        let store = open(&to, &fixture.clock).await;
        store.event_tell("x.told", "next", serde_json::Value::Null, "me", None).await.unwrap();
        let ids: Vec<i64> = store.event_list(None, 0, 10).await.unwrap().iter().map(|event| event.id).collect();
        assert_eq!(ids, [1, 2, 3, 6]);
        store.close().await;
    }
}

async fn what_is_not_empty_is_not_overwritten(place: &Place<'_>) {
    let fixture = place.fixture().await;
    fixture.store.kv_set("s", "a", "1").await.unwrap();
    let (bytes, _) = to_bytes(&fixture.at).await;
    let (to, _directory) = place.empty("_to");
    let other = open(&to, &fixture.clock).await;
    other.kv_set("s", "b", "2").await.unwrap();
    other.event_tell("x.told", "b", serde_json::Value::Null, "me", None).await.unwrap();
    other.close().await;
    let before = all(&to, true).await.rows;
    let refused = from_bytes(&bytes, &to, false).await.unwrap_err();
    assert!(matches!(&refused, StoreError::NotEmpty { rows, .. } if rows == "it holds events"), "{refused:?}");
    assert!(refused.to_string().contains("--replace"));
    assert_eq!(all(&to, true).await.rows, before);
    from_bytes(&bytes, &to, true).await.unwrap();
    assert_eq!(all(&to, true).await.rows, all(&fixture.at, true).await.rows);
}

async fn a_file_that_was_cut_or_altered_changes_nothing(place: &Place<'_>) {
    let fixture = place.fixture().await;
    fill(&fixture.store).await;
    let (bytes, _) = to_bytes(&fixture.at).await;
    let (to, _directory) = place.empty("_to");
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut plain).unwrap();
    let packed = |text: &str| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let without = |line: usize| {
        let lines: Vec<&str> = plain.lines().enumerate().filter(|(n, _)| *n != line).map(|(_, text)| text).collect();
        packed(&format!("{}\n", lines.join("\n")))
    };
    let replaced = |what: &str, by: &str| {
        assert!(plain.contains(what), "{what}");
        packed(&plain.replacen(what, by, 1))
    };
    let table = |name: &str| plain.lines().position(|line| line.contains(&format!("\"table\":\"{name}\""))).unwrap();
    let (steps, logs) = (table("steps"), table("logs"));
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "no backup of Windlass"),
        ("another file", b"SQLite format 3".to_vec(), "no backup of Windlass"),
        ("another gzip", packed("hello\n"), "no backup of Windlass"),
        ("half", bytes[..bytes.len() / 2].to_vec(), "the end of it is missing"),
        ("the last byte", bytes[..bytes.len() - 1].to_vec(), "end"),
        ("more", [&bytes[..], b"x"].concat(), "added to its end"),
        ("twice", [&bytes[..], &bytes[..]].concat(), "added to its end"),
        ("a line more", packed(&format!("{plain}[1]\n")), "added to its end"),
        ("a bit", flipped(bytes.len() / 2), ""),
        ("the checksum", flipped(bytes.len() - 6), "damaged"),
        ("a row taken out", without(steps + 1), "altered"),
        ("a table taken out", without(logs), ""),
        ("the end taken out", without(plain.lines().count() - 1), "the end of it is missing"),
        ("a value", replaced("\"shop\"", "\"shed\""), "altered"),
        ("a table of others", replaced("\"table\":\"steps\"", "\"table\":\"users\""), "does not belong"),
        ("a table of tickets", replaced("\"table\":\"tokens\"", "\"table\":\"tickets\""), "does not belong"),
        ("statements", replaced("\"not_before\"", "\"x); DROP\""), "does not belong"),
        ("a later layout", replaced("backup\":1", "backup\":2"), "use a newer release"),
    ];
    for (what, file, wanted) in files {
        let error = from_bytes(&file, &to, false).await.expect_err(what);
        let told = error.to_string();
        assert!(matches!(error, StoreError::Backup(_)) && told.contains(wanted), "{what}: {error:?}");
    }
    let later = from_bytes(&replaced(&format!("schema\":{}", MIGRATIONS_SQLITE.len()), "schema\":99"), &to, false)
        .await
        .unwrap_err();
    assert!(matches!(later, StoreError::Newer { found: 99, .. }), "{later:?}");
    let empty = open(&to, &fixture.clock).await;
    assert!(empty.event_list(None, 0, 10).await.unwrap().is_empty());
    empty.close().await;
    // What is there is left as it was, too.
    let before = all(&fixture.at, true).await.rows;
    fixture.store.close().await;
    from_bytes(&bytes[..bytes.len() - 9], &fixture.at, true).await.unwrap_err();
    assert_eq!(all(&fixture.at, true).await.rows, before);
}

async fn a_database_in_use_is_neither_restored_nor_moved(place: &Place<'_>) {
    let fixture = place.fixture().await;
    fixture.store.kv_set("s", "a", "1").await.unwrap();
    let (bytes, _) = to_bytes(&fixture.at).await;
    let refused = from_bytes(&bytes, &fixture.at, true).await.unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused:?}");
    let (to, _directory) = place.empty("_to");
    let refused = moved(&fixture.at, &to, false).await.unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused:?}");
    fixture.store.close().await;
    assert!(moved(&fixture.at, &fixture.at, true).await.unwrap_err().is_conflict());
    from_bytes(&bytes, &fixture.at, true).await.unwrap();
    moved(&fixture.at, &to, false).await.unwrap();
}

/// Name, and whether it may be absent, of every column of every table.
async fn columns(at: &Database, store: &Store) -> Vec<(String, String, bool)> {
    let sql = match at {
        Database::File(_) => {
            "SELECT m.name, c.name, c.\"notnull\" = 0 AND c.pk = 0 FROM sqlite_master AS m, pragma_table_info(m.name) AS c
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.name"
        }
        Database::Server(_) => {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), is_nullable = 'YES' FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name <> 'windlass_schema'
             ORDER BY table_name COLLATE \"C\", column_name COLLATE \"C\""
        }
    };
    store.read(move |tx| tx.rows(sql, &[])).await.unwrap()
}

async fn both_engines_have_the_tables_that_are_copied(place: &Place<'_>) {
    let fixture = place.fixture().await;
    let found = columns(&fixture.at, &fixture.store).await;
    let mut tables: Vec<&str> = found.iter().map(|(table, ..)| table.as_str()).collect();
    tables.dedup();
    let mut copied: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    copied.sort_unstable();
    assert_eq!(tables, copied);
    let file = Place::File.fixture().await;
    assert_eq!(found, columns(&file.at, &file.store).await, "the same on both engines");
    // A schema that migrations made one after the other is that of a fresh database: there is nothing but migrations.
    let numbers = |list: &[(i64, &str)]| list.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    assert_eq!(numbers(MIGRATIONS_SQLITE), numbers(MIGRATIONS_POSTGRES));
    assert!(numbers(MIGRATIONS_SQLITE).iter().copied().eq(1..=MIGRATIONS_SQLITE.len() as i64));
}
