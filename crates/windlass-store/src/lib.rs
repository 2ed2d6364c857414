//! The record: runs, steps, events, logs, locks, reviews and approvals in SQLite, every change in one transaction with the
//! event that tells of it.

/// SQL for the time: that which a test has set (a parameter, NULL otherwise), or the database's.
macro_rules! now {
    ($set:literal) => {
        concat!("COALESCE(", $set, ", CAST(unixepoch('subsec') * 1000000 AS INTEGER))")
    };
}

/// SQL for where the log of step $2 of run $1 ends.
macro_rules! log_end {
    () => {
        "COALESCE((SELECT start + LENGTH(bytes) FROM logs WHERE run = $1 AND step = $2 ORDER BY start DESC LIMIT 1), 0)"
    };
}

mod error;
mod journal;
mod locks;
mod reviews;
mod runs;
mod steps;
mod waivers;

pub use error::StoreError;
pub use journal::{Event, LogChunk};
pub use locks::{Holder, LockRow};
pub use reviews::{ReviewRow, ReviewState};
pub use runs::RunFilter;
pub use steps::{Claim, ClaimResult, EngineIdentity, Lost, ProcessRow, Settlement, StepOutcome};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use windlass_model::Micros;
use windlass_model::run::Repeat;

type Result<T> = std::result::Result<T, StoreError>;

static MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../migrations/sqlite/0001_runs.sql"))];

/// Marks the file as ours (`application_id`): "WLSS".
const APPLICATION: i64 = 0x574c_5353;

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

    /// Both levels keep the file whole; they differ in whether the commit waits for the disk. It cannot be changed within a
    /// transaction, and the one writing connection is used for both.
    fn begin(self) -> &'static str {
        match self {
            Self::Durable => "PRAGMA synchronous = FULL; BEGIN IMMEDIATE",
            Self::Lazy => "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE",
        }
    }
}

/// A handle that is cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    reader: SqlitePool,
    /// One connection: writers queue here instead of meeting `SQLITE_BUSY`.
    writer: SqlitePool,
    /// Set by tests; otherwise time comes from the database.
    clock: Option<Arc<AtomicI64>>,
}

impl Store {
    /// Opens or creates the database file; its directory is made with mode 0700.
    ///
    /// # Errors
    /// The file is damaged, of a newer release, not ours, or cannot be written.
    pub async fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, None).await
    }

    /// As [`Store::open`], with a clock that only moves when `clock` is set (microseconds).
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(path: &Path, clock: Option<Arc<AtomicI64>>) -> Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|error| StoreError::Disk { path: path.to_owned(), message: error.to_string() })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Each transaction says whether it has to survive a power failure: see `Durability`.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30));
        // A connection is a thread of this process: there is nothing to test before it is used.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await
            .map_err(|e| StoreError::of(path, e))?;
        let reader = SqlitePoolOptions::new().max_connections(2).test_before_acquire(false).connect_lazy_with(options);
        let store = Self { path: path.to_owned(), reader, writer, clock };
        store.migrate().await?;
        restrict(path);
        Ok(store)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn migrate(&self) -> Result<()> {
        let mut tx = self.begin().await?;
        let of = |e| StoreError::of(&self.path, e);
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *tx).await.map_err(of)?;
        let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *tx).await.map_err(of)?;
        let newest = MIGRATIONS.last().map_or(0, |(number, _)| *number);
        if version > newest {
            return Err(StoreError::Newer { path: self.path.clone(), found: version, known: newest });
        }
        if version > 0 && application != APPLICATION {
            return Err(StoreError::Corrupt {
                path: self.path.clone(),
                message: "it is a database of another program".into(),
            });
        }
        for (number, text) in MIGRATIONS.iter().filter(|(number, _)| *number > version) {
            sqlx::raw_sql(*text).execute(&mut *tx).await.map_err(of)?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
                "PRAGMA user_version = {number}; PRAGMA application_id = {APPLICATION}"
            )))
            .execute(&mut *tx)
            .await
            .map_err(of)?;
        }
        tx.commit().await.map_err(of)
    }

    /// A transaction that is durable when its commit returns.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.begin_with(Durability::Durable).await
    }

    async fn begin_with(&self, durability: Durability) -> Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with(durability.begin()).await.map_err(|e| self.error(e))
    }

    async fn commit(&self, tx: Transaction<'static, Sqlite>) -> Result<()> {
        tx.commit().await.map_err(|e| self.error(e))
    }

    fn error(&self, error: sqlx::Error) -> StoreError {
        StoreError::of(&self.path, error)
    }

    async fn now_in(&self, connection: &mut SqliteConnection) -> Result<Micros> {
        match &self.clock {
            Some(clock) => Ok(clock.load(Ordering::SeqCst)),
            None => sqlx::query_scalar("SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)")
                .fetch_one(connection)
                .await
                .map_err(|e| self.error(e)),
        }
    }

    /// Time as the tests set it; statements take the database's own where there is none.
    fn set_time(&self) -> Option<Micros> {
        self.clock.as_ref().map(|clock| clock.load(Ordering::SeqCst))
    }

    /// The database's time: the one that leases and schedules go by.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn now(&self) -> Result<Micros> {
        if let Some(clock) = &self.clock {
            return Ok(clock.load(Ordering::SeqCst));
        }
        let mut connection = self.reader.acquire().await.map_err(|e| self.error(e))?;
        self.now_in(&mut connection).await
    }

    /// All values of a scope, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn kv_list(&self, scope: &str) -> Result<Vec<(String, String)>> {
        sqlx::query_as("SELECT name, value FROM kv WHERE scope = $1 ORDER BY name")
            .bind(scope)
            .fetch_all(&self.reader)
            .await
            .map_err(|e| self.error(e))
    }

    /// One value of a scope.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn kv_get(&self, scope: &str, name: &str) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT value FROM kv WHERE scope = $1 AND name = $2")
            .bind(scope)
            .bind(name)
            .fetch_optional(&self.reader)
            .await
            .map_err(|e| self.error(e))
    }

    /// Sets a value; one that is set already costs no write.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn kv_set(&self, scope: &str, name: &str, value: &str) -> Result<()> {
        let query = sqlx::query(
            "INSERT INTO kv (scope, name, value) VALUES ($1, $2, $3) ON CONFLICT (scope, name) DO UPDATE SET value = excluded.value WHERE kv.value <> excluded.value",
        );
        let mut tx = self.begin().await?;
        query.bind(scope).bind(name).bind(value).execute(&mut *tx).await.map_err(|e| self.error(e))?;
        self.commit(tx).await
    }

    /// Removes a value; whether there was one.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn kv_remove(&self, scope: &str, name: &str) -> Result<bool> {
        let query = sqlx::query("DELETE FROM kv WHERE scope = $1 AND name = $2").bind(scope).bind(name);
        let mut tx = self.begin().await?;
        let done = query.execute(&mut *tx).await.map_err(|e| self.error(e))?.rows_affected();
        self.commit(tx).await?;
        Ok(done > 0)
    }

    /// Closes all connections, so that the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Plans and logs are for the owner only. A file system without modes keeps what it has.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
}

#[cfg(test)]
mod tests;
