//! The record: runs, steps, events, logs, locks, reviews and approvals, every change in one transaction with the event that tells
//! of it; in a SQLite file or in PostgreSQL, by the same statements.

mod admissions;
mod answers;
mod artefacts;
pub mod backup;
pub mod changes;
mod db;
mod error;
mod hold;
mod journal;
mod kv;
mod locks;
mod logs;
mod notifications;
mod operations;
mod postgres;
mod queue;
mod reviews;
mod runs;
mod schedules;
mod seals;
mod sqlite;
mod starts;
mod states;
mod steps;
mod tickets;
mod tokens;
mod transfer;
mod turns;
mod views;
mod waivers;

pub use artefacts::{Artefact, ArtefactKind, Contents, ContentsError, NewArtefact, Unread};
pub use changes::{ChangeRow, Follow};
pub use error::{StoreError, UNREACHABLE};
pub use journal::{Event, EventFilter, LogChunk};
pub use locks::{Holder, LockRow};
pub use logs::Packed;
pub use notifications::{MessageEnd, MessageRow, MessageState, NewMessage, NotifierRow, PastRun};
pub use reviews::{ReviewRow, ReviewState};
pub use runs::{Beside, Fact, Queue, RunFilter, RunSummary};
pub use schedules::{Fire, Pause, ScheduleKey, ScheduleState};
pub use seals::SealRow;
pub use starts::{NewStart, StartKind, StartRow, Started};
pub use states::{RunEnd, RunWait, StuckStep, WaitClass, WorkerRow};
pub use steps::{Claim, ClaimResult, EngineIdentity, EngineRow, Lost, ProcessRow, Settlement, StepOutcome};
pub use tokens::TokenRow;
pub use transfer::{Counts, Database, Elsewhere, Poured};
pub use turns::{Finish, Locked, Look, Move, Moved, Turn, Turned};
pub use views::{AppliedRow, ReviewBrief, ReviewQuery, RunQuery, StepOrder, StepQuery, StepRow, StepTally, StepsOf};

pub use db::Changes;
use db::{EventRow, Tx, params};
use hold::{Alone, Hold};
use journal::NewEvent;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, Tracer};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use windlass_model::Micros;
use windlass_model::id::RunId;
use windlass_model::run::Repeat;

type Result<T> = std::result::Result<T, StoreError>;

static MIGRATIONS_SQLITE: &[(i64, &str)] = &[
    (1, include_str!("../migrations/sqlite/0001_runs.sql")),
    (2, include_str!("../migrations/sqlite/0002_views.sql")),
    (3, include_str!("../migrations/sqlite/0003_artefacts.sql")),
    (4, include_str!("../migrations/sqlite/0004_operations.sql")),
    (5, include_str!("../migrations/sqlite/0005_schedules.sql")),
    (6, include_str!("../migrations/sqlite/0006_notifications.sql")),
    (7, include_str!("../migrations/sqlite/0007_smaller.sql")),
    (8, include_str!("../migrations/sqlite/0008_steps.sql")),
    (9, include_str!("../migrations/sqlite/0009_changes.sql")),
    (10, include_str!("../migrations/sqlite/0010_listed.sql")),
];
static MIGRATIONS_POSTGRES: &[(i64, &str)] = &[
    (1, include_str!("../migrations/postgres/0001_runs.sql")),
    (2, include_str!("../migrations/postgres/0002_views.sql")),
    (3, include_str!("../migrations/postgres/0003_artefacts.sql")),
    (4, include_str!("../migrations/postgres/0004_operations.sql")),
    (5, include_str!("../migrations/postgres/0005_schedules.sql")),
    (6, include_str!("../migrations/postgres/0006_notifications.sql")),
    (7, include_str!("../migrations/postgres/0007_smaller.sql")),
    (8, include_str!("../migrations/postgres/0008_steps.sql")),
    (9, include_str!("../migrations/postgres/0009_changes.sql")),
    (10, include_str!("../migrations/postgres/0010_listed.sql")),
];

/// How many connections to PostgreSQL one process has.
const CONNECTIONS: usize = 9;

/// A transaction that took so long, its waiting for others included, is told in traces.
const SLOW: Duration = Duration::from_millis(100);

/// What a power failure may take. The end of a process never takes anything that was written, and what is lost is always the
/// newest: nothing survives that was written after something that did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the disk before the call returns: what was promised to somebody, and what tells of effects that happened, or may from
    /// now on.
    Durable,
    /// With the next durable write at the latest: what is done again, or means nothing, after the machine started anew.
    Lazy,
}

impl Durability {
    /// For the bookkeeping of a step: one that may be repeated is, when its record is lost.
    pub fn of(repeat: Repeat) -> Self {
        match repeat {
            Repeat::Idempotent => Self::Lazy,
            Repeat::Checkable | Repeat::Once => Self::Durable,
        }
    }
}

/// A handle that is cheap to clone. Lists, values by name, locks and what is appended are those of its project; what has an id of
/// its own is found by that.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    scope: Arc<Scope>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("place", &self.inner.place).field("scope", &self.scope).finish()
    }
}

struct Inner {
    place: String,
    /// `None` when it was closed.
    threads: Mutex<Option<Threads>>,
    /// Set by tests; otherwise time comes from the database.
    clock: Option<Arc<AtomicI64>>,
    changed: Arc<tokio::sync::watch::Sender<Changes>>,
    /// Where artefacts are kept; in the database where nothing was said.
    contents: OnceLock<Arc<dyn Contents>>,
    /// Blocks of logs that were read last.
    blocks: logs::Blocks,
    settled: Settled,
}

/// Who waits for what was written before to be on the disk: one of them does it for all that asked until then.
#[derive(Default)]
struct Settled {
    /// How many have asked.
    asked: AtomicU64,
    /// For how many of them it was done.
    done: tokio::sync::Mutex<u64>,
}

enum Threads {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// What goes into each event.
#[derive(Debug, Clone, Default)]
struct Scope {
    project: String,
    correlation: Option<String>,
    /// The id of the run that is created, where it was chosen before.
    run: Option<RunId>,
}

impl Scope {
    fn event(&self, tx: &mut Tx<'_>, event: NewEvent<'_>) -> Result<()> {
        let row = EventRow {
            project: self.project.clone(),
            run: event.run.map(str::to_owned),
            step: event.step.map(str::to_owned),
            kind: event.kind.to_owned(),
            subject: event.subject.map(str::to_owned),
            data: event.data.to_string(),
            actor: event.actor.map(str::to_owned),
            reason: event.reason.map(str::to_owned),
            correlation: self.correlation.clone(),
            at: tx.now()?,
        };
        tx.event(row);
        Ok(())
    }
}

impl Store {
    /// Opens or creates the database file; its directory is made with mode 0700. Several may have it open at once.
    ///
    /// # Errors
    /// The file is damaged, of a newer release, not ours, or cannot be written; [`StoreError::InUse`] when a server has it.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, None).await
    }

    /// As [`Store::open`] for a server, which has the file alone until it has closed it: whoever opens it meanwhile is told so.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another server or command has it; otherwise as [`Store::open`].
    pub async fn open_exclusive(path: &Path) -> Result<Self> {
        Self::open_file(path, None, |path| Hold::alone(path, Alone::Server)).await
    }

    /// As [`Store::open`], with a clock that only moves when `clock` is set (microseconds).
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(path: &Path, clock: Option<Arc<AtomicI64>>) -> Result<Self> {
        Self::open_file(path, clock, Hold::shared).await
    }

    async fn open_file(
        path: &Path,
        clock: Option<Arc<AtomicI64>>,
        hold: impl FnOnce(&Path) -> Result<Hold> + Send + 'static,
    ) -> Result<Self> {
        let changed = Arc::new(tokio::sync::watch::Sender::new(Changes::default()));
        let (of, told, time) = (path.to_owned(), changed.clone(), clock.clone());
        let threads = blocking(move || {
            sqlite::make_directory(&of)?;
            let hold = Arc::new(hold(&of)?);
            sqlite::Sqlite::open(&sqlite::Shared { path: of, clock: time, changed: told, _hold: hold })
        })
        .await?;
        Ok(Self::new(path.display().to_string(), Threads::Sqlite(threads), clock, changed))
    }

    /// Connects to PostgreSQL (`postgres://USER@HOST/DATABASE?sslmode=require`) and brings its schema up to date.
    ///
    /// # Errors
    /// It is no address, cannot be reached, or has the schema of a newer release.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, None).await
    }

    /// As [`Store::connect`], with a clock that only moves when `clock` is set (microseconds).
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_with(url: &str, clock: Option<Arc<AtomicI64>>) -> Result<Self> {
        let changed = Arc::new(tokio::sync::watch::Sender::new(Changes::default()));
        let shared = postgres::shared(url, clock.clone(), changed.clone())?;
        let place = shared.place.to_string();
        let threads = blocking(move || postgres::Postgres::open(&shared, CONNECTIONS)).await?;
        Ok(Self::new(place, Threads::Postgres(threads), clock, changed))
    }

    fn new(
        place: String,
        threads: Threads,
        clock: Option<Arc<AtomicI64>>,
        changed: Arc<tokio::sync::watch::Sender<Changes>>,
    ) -> Self {
        let threads = Mutex::new(Some(threads));
        let (contents, blocks) = (OnceLock::new(), logs::Blocks::default());
        let inner = Inner { place, threads, clock, changed, contents, blocks, settled: Settled::default() };
        Self { inner: Arc::new(inner), scope: Arc::default() }
    }

    /// Where it is, for people: a path, or a database and its host.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The same store as one project sees it.
    #[must_use]
    pub fn of_project(&self, project: &str) -> Self {
        let scope = Scope { project: project.to_owned(), ..Scope::clone(&self.scope) };
        Self { inner: self.inner.clone(), scope: Arc::new(scope) }
    }

    /// The same store, whose events say that they belong together.
    #[must_use]
    pub fn correlated(&self, correlation: &str) -> Self {
        let scope = Scope { correlation: Some(correlation.to_owned()), ..Scope::clone(&self.scope) };
        Self { inner: self.inner.clone(), scope: Arc::new(scope) }
    }

    /// The same store, whose [`Store::run_create`] creates this run: when it is asked again, there is one.
    #[must_use]
    pub fn creating(&self, run: &RunId) -> Self {
        let scope = Scope { run: Some(run.clone()), ..Scope::clone(&self.scope) };
        Self { inner: self.inner.clone(), scope: Arc::new(scope) }
    }

    /// The id that [`Store::creating`] gave.
    pub fn creates(&self) -> Option<&RunId> {
        self.scope.run.as_ref()
    }

    pub fn project(&self) -> &str {
        &self.scope.project
    }

    /// Changes whenever events were appended, by this process, and on PostgreSQL by any, or logs have grown or changes of forges are
    /// due, by this process. Others that write the same SQLite file are not noticed.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<Changes> {
        self.inner.changed.subscribe()
    }

    /// One transaction. It may be done again from its beginning, after nothing of it happened.
    async fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        body: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_job(durability, false, body).await
    }

    /// As [`Store::write`], of what is as if it had been done once when it is done twice: where a database died in the middle of its
    /// commit, so that nobody knows whether it happened, it is done again.
    async fn write_again<T: Send + 'static>(
        &self,
        durability: Durability,
        body: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_job(durability, true, body).await
    }

    async fn write_job<T: Send + 'static>(
        &self,
        durability: Durability,
        is_repeatable: bool,
        body: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let began = SystemTime::now();
        let (work, result) = db::work(body);
        {
            let threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = match threads.as_ref() {
                Some(Threads::Sqlite(threads)) => &threads.writer,
                Some(Threads::Postgres(threads)) => &threads.writer,
                None => return Err(StoreError::Closed),
            };
            queue.send(sqlite::Job { durability, is_repeatable, work });
        }
        let result = result.await.unwrap_or(Err(StoreError::Closed));
        if began.elapsed().is_ok_and(|took| took >= SLOW) {
            let tracer = opentelemetry::global::tracer("windlass");
            let error = result.as_ref().err().map(|error| KeyValue::new("error.message", error.to_string()));
            tracer.span_builder("transaction").with_start_time(began).with_attributes(error).start(&tracer).end();
        }
        result
    }

    /// Statements that change nothing.
    async fn read<T: Send + 'static>(&self, body: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let (work, result) = db::work(body);
        {
            let threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = match threads.as_ref() {
                Some(Threads::Sqlite(threads)) => &threads.reader,
                Some(Threads::Postgres(threads)) => &threads.reader,
                None => return Err(StoreError::Closed),
            };
            queue.send(work);
        }
        result.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Returns when all that could be read before is on the disk of PostgreSQL, so that a crash of it takes nothing back that somebody was told
    /// of. A file that only this machine reads has nobody who would see it change.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn settle(&self) -> Result<()> {
        let is_file =
            matches!(*self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner), Some(Threads::Sqlite(_)));
        if is_file {
            return Ok(());
        }
        let number = self.inner.settled.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.inner.settled.done.lock().await;
        if *done >= number {
            return Ok(());
        }
        let all = self.inner.settled.asked.load(Ordering::SeqCst);
        // A message that nobody reads makes the commit one that is waited for, and with it all that came before.
        let settle = "SELECT COUNT(CASE WHEN pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()
                      THEN pg_logical_emit_message(true, 'windlass', '') END)";
        self.read(move |tx| tx.row::<(i64,)>(settle, params![])).await?;
        *done = all;
        Ok(())
    }

    /// The database's time: the one that leases and schedules go by.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn now(&self) -> Result<Micros> {
        if let Some(clock) = &self.inner.clock {
            return Ok(clock.load(Ordering::SeqCst));
        }
        self.read(|tx| tx.now()).await
    }

    /// Closes all connections, so that the write-ahead log is folded into the file.
    pub async fn close(&self) {
        let threads = self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let closed = blocking(move || {
            match threads {
                Some(Threads::Sqlite(threads)) => threads.close(),
                Some(Threads::Postgres(threads)) => threads.close(),
                None => {}
            }
            Ok(())
        });
        // There is nothing to tell anybody.
        let _ = closed.await;
    }
}

/// What waits for a disk or a network does so on a thread of its own.
async fn blocking<T: Send + 'static>(body: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(body).await.unwrap_or(Err(StoreError::Closed))
}

#[cfg(test)]
mod tests;
