//! SQLite: one thread writes, some read. A transaction is one message to a thread, and those that wait together share the wait
//! for the disk.

use crate::db::{Cell, Changes, EventRow, Link, Param, Row, Tx, Work};
use crate::hold::Hold;
use crate::queue::{Receiver, Sender, channel};
use crate::{Durability, MIGRATIONS_SQLITE, Result, StoreError};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use windlass_model::Micros;

/// Marks the file as ours (`application_id`): "WLSS", second layout.
pub(crate) const APPLICATION: i64 = 0x574c_5353 + 1;

/// Statements that are kept prepared on a connection.
const PREPARED: usize = 128;

/// How many transactions share one wait for the disk at most.
pub(crate) const GROUP: usize = 64;

const READERS: usize = 2;

pub(crate) struct Job {
    pub durability: Durability,
    /// Done twice it is as if it had been done once.
    pub is_repeatable: bool,
    pub work: Box<dyn Work>,
}

impl Job {
    /// Whether the next goes into the same transaction: what may be lost with the machine does not wait for the disk, and what must not
    /// be does not go without.
    pub fn takes(&self, next: &Self) -> bool {
        self.durability == Durability::Durable || next.durability == self.durability
    }
}

/// The threads of one file.
pub(crate) struct Sqlite {
    pub writer: Sender<Job>,
    pub reader: Sender<Box<dyn Work>>,
    writing: std::thread::JoinHandle<()>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// What the threads share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub path: PathBuf,
    /// Set by tests; otherwise time comes from the database.
    pub clock: Option<Arc<AtomicI64>>,
    /// Grows when something was written that others wait for.
    pub changed: Arc<tokio::sync::watch::Sender<Changes>>,
    /// Of the file, until the last thread has ended.
    pub _hold: Arc<Hold>,
}

impl Shared {
    fn now(&self) -> Option<Micros> {
        self.clock.as_ref().map(|clock| clock.load(Ordering::SeqCst))
    }
}

impl Sqlite {
    /// Opens the file, brings its schema up to date and starts the threads.
    pub fn open(shared: &Shared) -> Result<Self> {
        restrict_all(&shared.path);
        let mut writer = connect(&shared.path)?;
        migrate(&mut writer, &shared.path)?;
        let ((write, jobs), (read, questions)) = (channel(), channel());
        let writing = spawn("store-write", {
            let shared = shared.clone();
            move || write_all(&writer, &jobs, &shared)
        });
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (shared, questions, reader) = (shared.clone(), questions.clone(), connect(&shared.path)?);
            readers.push(spawn("store-read", move || read_all(&reader, &questions, &shared)));
        }
        Ok(Self { writer: write, reader: read, writing, readers })
    }

    /// Ends the threads, so that the write-ahead log is folded into the file: the last connection does that, and of two that close
    /// at the same time neither is the last.
    pub fn close(self) {
        // A thread that panicked has nothing more to close.
        drop(self.reader);
        for thread in self.readers {
            let _ = thread.join();
        }
        drop(self.writer);
        let _ = self.writing.join();
    }
}

pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    // Without memory for a thread nothing of this process would go on.
    #[expect(clippy::expect_used, reason = "as std::thread::spawn does")]
    std::thread::Builder::new().name(name.into()).spawn(body).expect("a thread can be started")
}

/// Makes the directory of a file, for the owner only, where it is missing.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| StoreError::Disk { path: path.to_owned(), message: error.to_string() })
}

pub(crate) fn connect(path: &Path) -> Result<Connection> {
    let of = |error| StoreError::of_sqlite(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(of)?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(of)?;
    connection.set_prepared_statement_cache_capacity(PREPARED);
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON").map_err(of)?;
    Ok(connection)
}

pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let of = |error| StoreError::of_sqlite(path, &error);
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(of)?;
    let version: i64 = tx.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(of)?;
    let application: i64 = tx.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(of)?;
    let newest = MIGRATIONS_SQLITE.last().map_or(0, |(number, _)| *number);
    if version > newest {
        return Err(StoreError::Newer { place: path.display().to_string(), found: version, known: newest });
    }
    if version > 0 && application != APPLICATION {
        let message = "it is a database of another program, or of a Windlass before its first release".into();
        return Err(StoreError::Corrupt { path: path.to_owned(), message });
    }
    for (number, text) in MIGRATIONS_SQLITE.iter().filter(|(number, _)| *number > version) {
        tx.execute_batch(text).map_err(of)?;
        let mark = format!("PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION}");
        tx.execute_batch(&mark).map_err(of)?;
    }
    tx.commit().map_err(of)
}

/// Plans and logs are for the owner only. A file system without modes keeps what it has.
pub(crate) fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
}

/// The same of what SQLite has beside the file, which is made with the modes of the file: it is there before there is anything in it.
fn restrict_all(path: &Path) {
    // What cannot be made here is told when it is opened.
    let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        restrict(Path::new(&name));
    }
}

/// The writing thread: until nobody can ask any more.
fn write_all(connection: &Connection, jobs: &Receiver<Job>, shared: &Shared) {
    let mut synchronous = None;
    while let Some(mut group) = jobs.receive_group(GROUP, Job::takes) {
        let durability = group[0].durability;
        if synchronous != Some(durability) {
            let pragma = match durability {
                Durability::Durable => "PRAGMA synchronous = FULL",
                Durability::Lazy => "PRAGMA synchronous = NORMAL",
            };
            synchronous = connection.execute_batch(pragma).is_ok().then_some(durability);
        }
        match write(connection, &mut group, shared) {
            Ok(()) => group.into_iter().for_each(|job| job.work.end(Ok(()))),
            Err(error) if group.len() == 1 => {
                if let Some(job) = group.pop() {
                    job.work.end(Err(error));
                }
            }
            // One of them failed: each has a transaction of its own.
            Err(_) => {
                for job in group {
                    let mut alone = [job];
                    let result = write(connection, &mut alone, shared);
                    let [job] = alone;
                    job.work.end(result);
                }
            }
        }
    }
}

/// All of the group in one transaction, or nothing.
fn write(connection: &Connection, group: &mut [Job], shared: &Shared) -> Result<()> {
    let of = |error| StoreError::of_sqlite(&shared.path, &error);
    connection.execute_batch("BEGIN IMMEDIATE").map_err(of)?;
    let mut link = SqliteLink { connection, path: &shared.path };
    let mut told = Changes::default();
    let mut all = || -> Result<()> {
        for job in group.iter_mut() {
            let mut tx = Tx::new(&mut link, shared.now());
            job.work.run(&mut tx)?;
            let (events, of_job) = tx.take();
            link.append(&events)?;
            told = told + of_job;
        }
        connection.execute_batch("COMMIT").map_err(of)
    };
    let result = all();
    if result.is_err() && !connection.is_autocommit() {
        // Some errors, such as a full disk, have rolled back already.
        let _ = connection.execute_batch("ROLLBACK");
    }
    if result.is_ok() {
        told.tell(&shared.changed);
    }
    result
}

fn read_all(connection: &Connection, questions: &Receiver<Box<dyn Work>>, shared: &Shared) {
    while let Some(mut work) = questions.receive() {
        let mut link = SqliteLink { connection, path: &shared.path };
        let result = work.run(&mut Tx::new(&mut link, shared.now()));
        work.end(result);
    }
}

struct SqliteLink<'a> {
    connection: &'a Connection,
    path: &'a Path,
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Param::Null => ValueRef::Null,
            Param::Int(value) => ValueRef::Integer(*value),
            Param::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Param::Text(value) => ValueRef::Text(value.as_bytes()),
            Param::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}

/// How SQLite calls them: to it they are names, not numbers.
const NAMES: [&str; 16] =
    ["$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8", "$9", "$10", "$11", "$12", "$13", "$14", "$15", "$16"];

impl SqliteLink<'_> {
    fn with<T>(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
        body: impl FnOnce(&mut rusqlite::CachedStatement<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let run = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            for (name, param) in NAMES.iter().zip(params) {
                if let Some(index) = statement.parameter_index(name)? {
                    statement.raw_bind_parameter(index, param)?;
                }
            }
            body(&mut statement)
        };
        run().map_err(|error| StoreError::of_sqlite(self.path, &error))
    }
}

impl Link for SqliteLink<'_> {
    fn rows(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.with(sql, params, |statement| {
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let mut cells = Vec::with_capacity(columns);
                for column in 0..columns {
                    cells.push(match row.get_ref(column)? {
                        ValueRef::Null => Cell::Null,
                        ValueRef::Integer(value) => Cell::Int(value),
                        // No column of ours holds one.
                        ValueRef::Real(value) => Cell::Text(value.to_string()),
                        ValueRef::Text(value) => Cell::Text(String::from_utf8_lossy(value).into_owned()),
                        ValueRef::Blob(value) => Cell::Bytes(value.to_vec()),
                    });
                }
                found.push(Row::new(cells));
            }
            Ok(found)
        })
    }

    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<u64> {
        self.with(sql, params, |statement| statement.raw_execute()).map(|rows| rows as u64)
    }

    /// SQLite's time is that of the machine.
    fn now(&mut self) -> Result<Micros> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// There is one writer at a time anyway.
    fn serialise(&mut self, _name: &str) -> Result<()> {
        Ok(())
    }

    fn is_remote(&self) -> bool {
        false
    }
}

impl SqliteLink<'_> {
    fn append(&mut self, events: &[EventRow]) -> Result<()> {
        for event in events {
            self.execute(
                "INSERT INTO events (project, run, step, kind, subject, data, actor, reason, correlation, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &event.params(),
            )?;
        }
        Ok(())
    }
}
