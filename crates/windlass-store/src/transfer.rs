//! All rows of a database on their way into a file or into another database, of whichever engine. One snapshot is read while others
//! write; what is written is one transaction, which ends when everything was counted.

use crate::db::Cell;
use crate::hold::{Alone, Hold};
use crate::postgres::connect_plain;
use crate::{MIGRATIONS_POSTGRES, MIGRATIONS_SQLITE, Result, StoreError};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a record is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// SQLite.
    File(PathBuf),
    /// PostgreSQL, by its address.
    Server(String),
}

impl Database {
    /// Reads `postgres://…`, `sqlite:PATH`, or a path.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Self::Server(text.to_owned());
        }
        Self::File(text.strip_prefix("sqlite:").unwrap_or(text).into())
    }

    /// For people: a path, or a database and its host; never a password.
    ///
    /// # Errors
    /// It is no address.
    pub fn place(&self) -> Result<String> {
        match self {
            Self::File(path) => Ok(path.display().to_string()),
            Self::Server(url) => Ok(server(url)?.place.to_string()),
        }
    }
}

pub(crate) struct Table {
    pub name: &'static str,
    /// What its rows are sorted by: the primary key.
    key: &'static str,
    /// The column whose numbers the database draws, and never twice.
    drawn: Option<&'static str>,
    /// Whether it goes into a backup: what was taken once must not be there again after a restore.
    pub lasting: bool,
    /// The version of the schema that it came with.
    since: i64,
}

const fn table(name: &'static str, key: &'static str) -> Table {
    Table { name, key, drawn: None, lasting: true, since: 1 }
}

/// Every table of the schema; one comes after those that it refers to.
pub(crate) static TABLES: &[Table] = &[
    table("runs", "id"),
    table("steps", "run, id"),
    Table { drawn: Some("id"), ..table("events", "id") },
    table("logs", "run, step, start"),
    Table { drawn: Some("position"), ..table("locks", "position") },
    table("engines", "id"),
    table("processes", "run, step, pid"),
    table("reviews", "run"),
    Table { drawn: Some("id"), ..table("approvals", "id") },
    table("used_plans", "plan"),
    table("kv", "project, scope, name"),
    Table { lasting: false, ..table("tickets", "kind, name") },
    table("tokens", "id"),
    table("seals", "number"),
    Table { since: 3, ..table("log_blocks", "run, step, start") },
    Table { since: 3, ..table("artefacts", "id") },
    Table { since: 3, ..table("artefact_contents", "id") },
    Table { since: 4, ..table("expansions", "run, step") },
    Table { since: 4, drawn: Some("position"), ..table("admissions", "position") },
    Table { since: 4, drawn: Some("id"), ..table("answers", "id") },
    Table { since: 5, ..table("schedule_states", "project, operation, schedule") },
    Table { since: 5, ..table("starts", "id") },
    Table { since: 6, ..table("notifiers", "project, name") },
    Table { since: 6, ..table("messages", "id") },
    Table { since: 9, ..table("changes", "project, number") },
    Table { since: 9, ..table("change_places", "project, instance, number") },
];

/// How many rows a table has, in the order of the tables.
pub type Counts = Vec<(String, u64)>;

/// Where artefacts are kept that are not in the database: how many, and how many bytes.
pub type Elsewhere = BTreeMap<String, (u64, u64)>;

/// What went from one place to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Poured {
    pub rows: Counts,
    /// What it counts on, and what has to be copied by itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: Elsewhere,
}

/// Where rows go.
pub(crate) trait Sink {
    /// Comes first, with the version of the schema.
    fn begin(&mut self, schema: i64) -> Result<()>;
    /// Rows of this table follow; `last` is the greatest number that was ever drawn for it.
    fn table(&mut self, table: &'static Table, columns: &[String], last: Option<i64>) -> Result<()>;
    fn row(&mut self, row: &[Cell]) -> Result<()>;
    /// Only now does anything of it count.
    fn end(&mut self, counts: &Counts) -> Result<()>;
}

/// Counts what goes into a sink, and tells of it now and then.
pub(crate) struct Pump<'a> {
    sink: &'a mut dyn Sink,
    pub counts: Counts,
    elsewhere: Elsewhere,
    /// Of artefacts: in which columns place, state and size are.
    columns: Option<[usize; 3]>,
    tell: &'a mut dyn FnMut(&str, u64),
}

impl<'a> Pump<'a> {
    pub fn new(sink: &'a mut dyn Sink, tell: &'a mut dyn FnMut(&str, u64)) -> Self {
        Self { sink, counts: Counts::new(), elsewhere: Elsewhere::new(), columns: None, tell }
    }

    pub fn begin(&mut self, schema: i64) -> Result<()> {
        self.sink.begin(schema)
    }

    pub fn table(&mut self, table: &'static Table, columns: &[String], last: Option<i64>) -> Result<()> {
        self.counts.push((table.name.to_owned(), 0));
        let at = |name: &str| columns.iter().position(|column| column == name);
        let found = at("place").zip(at("state")).zip(at("size")).map(|((place, state), size)| [place, state, size]);
        self.columns = found.filter(|_| table.name == "artefacts");
        (self.tell)(table.name, 0);
        self.sink.table(table, columns, last)
    }

    pub fn row(&mut self, row: &[Cell]) -> Result<()> {
        self.sink.row(row)?;
        let kept = self.columns.map(|columns| columns.map(|at| row.get(at)));
        if let Some([Some(Cell::Text(place)), Some(Cell::Text(state)), Some(Cell::Int(size))]) = kept
            && state == "kept"
            && place != crate::artefacts::DATABASE
        {
            let sum = self.elsewhere.entry(place.clone()).or_default();
            *sum = (sum.0 + 1, sum.1 + size.unsigned_abs());
        }
        if let Some((name, count)) = self.counts.last_mut() {
            *count += 1;
            if *count % 10_000 == 0 {
                (self.tell)(name, *count);
            }
        }
        Ok(())
    }

    pub fn end(self) -> Result<Poured> {
        self.sink.end(&self.counts)?;
        Ok(Poured { rows: self.counts, elsewhere: self.elsewhere })
    }
}

/// Reads a snapshot of all tables; `tickets` too when they are to go on being good.
pub(crate) fn read(database: &Database, tickets: bool, pump: Pump<'_>) -> Result<Poured> {
    let tables = TABLES.iter().filter(|table| table.lasting || tickets);
    match database {
        Database::File(path) => read_sqlite(path, tables, pump),
        Database::Server(url) => read_postgres(&server(url)?, tables, pump),
    }
}

/// A sink that makes all of a database anew. It has to be empty unless it is to be replaced, and nobody may use it.
pub(crate) fn sink(database: &Database, replace: bool) -> Result<Box<dyn Sink>> {
    Ok(match database {
        Database::File(path) => Box::new(SqliteSink::open(path, replace)?),
        Database::Server(url) => Box::new(PostgresSink::open(server(url)?, replace)?),
    })
}

/// Refuses a database that somebody uses, and keeps others from a file.
pub(crate) fn alone(database: &Database) -> Result<Option<Hold>> {
    match database {
        Database::File(path) => {
            sqlite_exists(path)?;
            Hold::alone(path, Alone::Restore).map(Some)
        }
        Database::Server(url) => {
            let shared = server(url)?;
            refuse_others(&shared, &mut connect_plain(&shared)?)?;
            Ok(None)
        }
    }
}

fn of_sqlite(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| StoreError::of_sqlite(path, &error)
}

fn sqlite_exists(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    Err(StoreError::NotFound { what: "database", id: path.display().to_string() })
}

/// The version of the schema of a file of ours; 0 when there is nothing in it.
fn sqlite_schema(connection: &Connection, path: &Path) -> Result<i64> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(of_sqlite(path));
    let (version, application) = (number("PRAGMA user_version")?, number("PRAGMA application_id")?);
    let tables = number("SELECT COUNT(*) FROM sqlite_master")?;
    if application != crate::sqlite::APPLICATION && (version > 0 || tables > 0) {
        let message = "it is a database of another program, or of a Windlass before its first release".into();
        return Err(StoreError::Corrupt { path: path.to_owned(), message });
    }
    known(version, MIGRATIONS_SQLITE, path.display().to_string())
}

fn known(version: i64, migrations: &[(i64, &str)], place: String) -> Result<i64> {
    let newest = migrations.last().map_or(0, |(number, _)| *number);
    if version > newest {
        return Err(StoreError::Newer { place, found: version, known: newest });
    }
    Ok(version)
}

fn read_sqlite<'t>(path: &Path, tables: impl Iterator<Item = &'t Table>, mut pump: Pump<'_>) -> Result<Poured>
where
    't: 'static,
{
    sqlite_exists(path)?;
    let of = of_sqlite(path);
    let connection = crate::sqlite::connect(path)?;
    connection.execute_batch("PRAGMA query_only = ON; BEGIN").map_err(&of)?;
    let schema = sqlite_schema(&connection, path)?;
    if schema == 0 {
        return Err(StoreError::NotFound { what: "record in the database", id: path.display().to_string() });
    }
    pump.begin(schema)?;
    for table in tables.filter(|table| table.since <= schema) {
        let last = match table.drawn {
            Some(_) => {
                let sql = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = $1";
                Some(connection.query_row(sql, [table.name], |row| row.get(0)).map_err(&of)?)
            }
            None => None,
        };
        let sql = format!("SELECT * FROM {} ORDER BY {}", table.name, table.key);
        let mut statement = connection.prepare(&sql).map_err(&of)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        pump.table(table, &columns, last)?;
        let mut rows = statement.query([]).map_err(&of)?;
        let mut cells = Vec::with_capacity(columns.len());
        while let Some(row) = rows.next().map_err(&of)? {
            cells.clear();
            for column in 0..columns.len() {
                cells.push(match row.get_ref(column).map_err(&of)? {
                    ValueRef::Null => Cell::Null,
                    ValueRef::Integer(value) => Cell::Int(value),
                    ValueRef::Real(value) => Cell::Text(value.to_string()),
                    ValueRef::Text(value) => Cell::Text(String::from_utf8_lossy(value).into_owned()),
                    ValueRef::Blob(value) => Cell::Bytes(value.to_vec()),
                });
            }
            pump.row(&cells)?;
        }
    }
    pump.end()
}

struct SqliteSink {
    path: PathBuf,
    connection: Connection,
    replace: bool,
    schema: i64,
    /// The insert of the present table.
    insert: String,
    _hold: Hold,
}

impl SqliteSink {
    fn open(path: &Path, replace: bool) -> Result<Self> {
        crate::sqlite::make_directory(path)?;
        let hold = Hold::alone(path, Alone::Restore)?;
        let connection = crate::sqlite::connect(path)?;
        crate::sqlite::restrict(path);
        Ok(Self { path: path.to_owned(), connection, replace, schema: 0, insert: String::new(), _hold: hold })
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.connection.execute_batch(sql).map_err(of_sqlite(&self.path))
    }

    fn number(&self, sql: &str) -> Result<i64> {
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(of_sqlite(&self.path))
    }
}

/// Of the migrations, those up to a version, or those after it.
fn part(migrations: &[(i64, &'static str)], wanted: impl Fn(i64) -> bool) -> impl Iterator<Item = &'static str> {
    migrations.iter().filter(move |(number, _)| wanted(*number)).map(|(_, text)| *text)
}

impl Sink for SqliteSink {
    fn begin(&mut self, schema: i64) -> Result<()> {
        // Tables that refer to others go away together with them; references are looked at as a whole at the end.
        self.execute("PRAGMA foreign_keys = OFF; PRAGMA synchronous = FULL; BEGIN IMMEDIATE")?;
        let present = sqlite_schema(&self.connection, &self.path)?;
        if present > 0 {
            let place = self.path.display().to_string();
            empty(&place, present, self.replace, |sql| self.number(sql).map(|count| count > 0))?;
            for table in TABLES.iter().rev() {
                self.execute(&format!("DROP TABLE IF EXISTS {}", table.name))?;
            }
        }
        self.schema = schema;
        part(MIGRATIONS_SQLITE, |number| number <= schema).try_for_each(|text| self.execute(text))
    }

    fn table(&mut self, table: &'static Table, columns: &[String], last: Option<i64>) -> Result<()> {
        let values: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
        self.insert = format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), values.join(", "));
        if let Some(last) = last {
            let sql = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";
            self.connection.execute(sql, (table.name, last)).map_err(of_sqlite(&self.path))?;
        }
        Ok(())
    }

    fn row(&mut self, row: &[Cell]) -> Result<()> {
        let insert = || {
            self.connection.prepare_cached(&self.insert)?.execute(rusqlite::params_from_iter(row))?;
            Ok(())
        };
        insert().map_err(of_sqlite(&self.path))
    }

    fn end(&mut self, counts: &Counts) -> Result<()> {
        for (name, wanted) in counts {
            verify(name, *wanted, self.number(&format!("SELECT COUNT(*) FROM {name}"))?)?;
        }
        let loose = self.number("SELECT COUNT(*) FROM pragma_foreign_key_check")?;
        if loose > 0 {
            return Err(StoreError::Backup(format!("{loose} rows refer to others that are not in it")));
        }
        part(MIGRATIONS_SQLITE, |number| number > self.schema).try_for_each(|text| self.execute(text))?;
        let newest = MIGRATIONS_SQLITE.last().map_or(0, |(number, _)| *number);
        let mark = format!(
            "PRAGMA user_version = {newest}; PRAGMA application_id = {}; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
            crate::sqlite::APPLICATION
        );
        self.execute(&mark)
    }
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Int(value) => ValueRef::Integer(*value),
            Cell::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Cell::Text(value) => ValueRef::Text(value.as_bytes()),
            Cell::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}

/// Refuses a database in which there is something that would be lost.
fn empty(place: &str, schema: i64, replace: bool, mut any: impl FnMut(&str) -> Result<bool>) -> Result<()> {
    if replace {
        return Ok(());
    }
    for table in TABLES.iter().filter(|table| table.since <= schema) {
        if any(&format!("SELECT COUNT(*) FROM {}", table.name))? {
            return Err(StoreError::NotEmpty { place: place.to_owned(), rows: format!("it holds {}", table.name) });
        }
    }
    Ok(())
}

fn verify(table: &str, wanted: u64, found: i64) -> Result<()> {
    if u64::try_from(found) == Ok(wanted) {
        return Ok(());
    }
    Err(StoreError::Backup(format!("of {wanted} rows of {table}, {found} arrived; nothing was changed")))
}

fn server(url: &str) -> Result<crate::postgres::Shared> {
    crate::postgres::shared(url, None, Arc::new(tokio::sync::watch::Sender::new(crate::Changes::default())))
}

/// Refuses a database that servers are connected to. One that has just ended is waited for.
fn refuse_others(shared: &crate::postgres::Shared, client: &mut postgres::Client) -> Result<()> {
    let since = Instant::now();
    loop {
        let others: i64 = client
            .query_one(
                "SELECT COUNT(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'windlass' AND pid <> pg_backend_pid()",
                &[],
            )
            .map_err(|error| StoreError::of_postgres(&shared.place, &error))?
            .get(0);
        if others == 0 {
            return Ok(());
        }
        if since.elapsed() > Duration::from_secs(10) {
            let by = format!("Windlass servers or workers ({others} connections); stop them first");
            return Err(StoreError::InUse { place: shared.place.to_string(), by });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The version of the schema; 0 when there is none.
fn postgres_schema(client: &mut postgres::Client, place: &str) -> Result<i64> {
    let of = |error| StoreError::of_postgres(place, &error);
    if !exists(client, "windlass_schema").map_err(of)? {
        return Ok(0);
    }
    let version: i64 =
        client.query_one("SELECT COALESCE(MAX(version), 0) FROM windlass_schema", &[]).map_err(of)?.get(0);
    known(version, MIGRATIONS_POSTGRES, place.to_owned())
}

fn exists(client: &mut postgres::Client, table: &str) -> std::result::Result<bool, postgres::Error> {
    Ok(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])?.get(0))
}

fn read_postgres(
    shared: &crate::postgres::Shared,
    tables: impl Iterator<Item = &'static Table>,
    mut pump: Pump<'_>,
) -> Result<Poured> {
    let of = |error| StoreError::of_postgres(&shared.place, &error);
    let mut client = connect_plain(shared)?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").map_err(of)?;
    let schema = postgres_schema(&mut client, &shared.place)?;
    if schema == 0 {
        return Err(StoreError::NotFound { what: "record in the database", id: shared.place.to_string() });
    }
    pump.begin(schema)?;
    for table in tables.filter(|table| table.since <= schema) {
        let last = match table.drawn {
            Some(column) => {
                let sequence = format!("{}_{column}_seq", table.name);
                let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
                Some(client.query_one(&sql, &[]).map_err(of)?.get(0))
            }
            None => None,
        };
        let sql = format!("SELECT * FROM {} ORDER BY {}", table.name, table.key);
        let statement = client.prepare(&sql).map_err(of)?;
        let columns: Vec<String> = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        pump.table(table, &columns, last)?;
        let mut rows = client.query_raw(&statement, std::iter::empty::<&(dyn ToSql + Sync)>()).map_err(of)?;
        let mut cells = Vec::with_capacity(columns.len());
        while let Some(row) = rows.next().map_err(of)? {
            cells.clear();
            for (number, column) in row.columns().iter().enumerate() {
                let cell = match *column.type_() {
                    Type::INT8 => row.try_get::<_, Option<i64>>(number).map(|value| value.map(Cell::Int)),
                    Type::BOOL => {
                        row.try_get::<_, Option<bool>>(number).map(|value| value.map(|v| Cell::Int(v.into())))
                    }
                    Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(number).map(|value| value.map(Cell::Bytes)),
                    _ => row.try_get::<_, Option<String>>(number).map(|value| value.map(Cell::Text)),
                };
                cells.push(cell.map(Option::unwrap_or_default).map_err(of)?);
            }
            pump.row(&cells)?;
        }
    }
    pump.end()
}

/// How many bytes of rows are sent at once.
const BATCH: usize = 1 << 20;

struct PostgresSink {
    shared: crate::postgres::Shared,
    client: postgres::Client,
    replace: bool,
    schema: i64,
    table: Option<(&'static Table, Option<i64>)>,
    /// How rows of the present table are copied, and those that wait for it, in the text format of COPY.
    copy: String,
    rows: String,
}

impl PostgresSink {
    fn open(shared: crate::postgres::Shared, replace: bool) -> Result<Self> {
        let client = connect_plain(&shared)?;
        let (copy, rows) = Default::default();
        Ok(Self { shared, client, replace, schema: 0, table: None, copy, rows })
    }

    fn execute(&mut self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).map_err(|error| StoreError::of_postgres(&self.shared.place, &error))
    }

    fn number(&mut self, sql: &str) -> Result<i64> {
        let found = self.client.query_one(sql, &[]);
        found.map(|row| row.get(0)).map_err(|error| StoreError::of_postgres(&self.shared.place, &error))
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut writer =
            self.client.copy_in(&self.copy).map_err(|error| StoreError::of_postgres(&self.shared.place, &error))?;
        let sent = writer.write_all(self.rows.as_bytes());
        // What the server said about the rows comes with the end.
        writer.finish().map_err(|error| StoreError::of_postgres(&self.shared.place, &error))?;
        let unreachable = |error: std::io::Error| StoreError::Unreachable {
            place: self.shared.place.to_string(),
            message: error.to_string(),
        };
        sent.map_err(unreachable)?;
        self.rows.clear();
        Ok(())
    }

    /// After the last row of a table: its numbers go on after the greatest.
    fn finish_table(&mut self) -> Result<()> {
        self.flush()?;
        let Some((Table { name, drawn: Some(column), .. }, last)) = self.table.take() else { return Ok(()) };
        let last = last.unwrap_or(0);
        let sql = format!(
            "SELECT setval('{name}_{column}_seq', GREATEST(top, 1), top > 0)
             FROM (SELECT GREATEST({last}, COALESCE(MAX({column}), 0)) AS top FROM {name}) AS t"
        );
        self.number(&sql).map(drop)
    }
}

impl Sink for PostgresSink {
    fn begin(&mut self, schema: i64) -> Result<()> {
        refuse_others(&self.shared, &mut self.client)?;
        self.execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({})", crate::postgres::EVENTS))?;
        let present = postgres_schema(&mut self.client, &self.shared.place)?;
        if present > 0 {
            let place = self.shared.place.to_string();
            empty(&place, present, self.replace, |sql| self.number(sql).map(|count| count > 0))?;
            for table in TABLES.iter().rev() {
                self.execute(&format!("DROP TABLE IF EXISTS {}", table.name))?;
            }
        }
        self.schema = schema;
        part(MIGRATIONS_POSTGRES, |number| number <= schema).try_for_each(|text| self.execute(text))
    }

    fn table(&mut self, table: &'static Table, columns: &[String], last: Option<i64>) -> Result<()> {
        self.finish_table()?;
        self.table = Some((table, last));
        self.copy = format!("COPY {} ({}) FROM STDIN", table.name, columns.join(", "));
        Ok(())
    }

    fn row(&mut self, row: &[Cell]) -> Result<()> {
        for (number, cell) in row.iter().enumerate() {
            if number > 0 {
                self.rows.push('\t');
            }
            copied(cell, &mut self.rows);
        }
        self.rows.push('\n');
        if self.rows.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn end(&mut self, counts: &Counts) -> Result<()> {
        self.finish_table()?;
        for (name, wanted) in counts {
            let found = self.number(&format!("SELECT COUNT(*) FROM {name}"))?;
            verify(name, *wanted, found)?;
        }
        let schema = self.schema;
        part(MIGRATIONS_POSTGRES, |number| number > schema).try_for_each(|text| self.execute(text))?;
        let newest = MIGRATIONS_POSTGRES.last().map_or(0, |(number, _)| *number);
        let mark = format!(
            "CREATE TABLE IF NOT EXISTS windlass_schema (version BIGINT NOT NULL);
             DELETE FROM windlass_schema; INSERT INTO windlass_schema (version) VALUES ({newest}); COMMIT; ANALYZE"
        );
        self.execute(&mark)
    }
}

/// A value in the text format of COPY.
fn copied(cell: &Cell, into: &mut String) {
    match cell {
        Cell::Null => into.push_str("\\N"),
        Cell::Int(value) => {
            let _ = write!(into, "{value}");
        }
        Cell::Bool(value) => into.push(if *value { 't' } else { 'f' }),
        Cell::Text(text) => {
            for character in text.chars() {
                match character {
                    '\\' => into.push_str("\\\\"),
                    '\n' => into.push_str("\\n"),
                    '\r' => into.push_str("\\r"),
                    '\t' => into.push_str("\\t"),
                    // The one character that PostgreSQL cannot store.
                    '\0' => into.push(char::REPLACEMENT_CHARACTER),
                    other => into.push(other),
                }
            }
        }
        Cell::Bytes(bytes) => {
            into.push_str("\\\\x");
            const DIGITS: [u8; 16] = *b"0123456789abcdef";
            for byte in bytes {
                into.push(DIGITS[usize::from(byte >> 4)].into());
                into.push(DIGITS[usize::from(byte & 15)].into());
            }
        }
    }
}
