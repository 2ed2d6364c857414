//! The record of an installation as something that can be proven: [sealed](sealer) in batches while a server runs, read in the order
//! of its [export](record), and verified.

pub mod keys;
pub mod record;
pub mod sealer;
#[cfg(test)]
mod tests;

use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::Installation;
use crate::settings::StateDirectory;
use keys::Keys;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_model::access::{Permission, Subject};
use windlass_model::audit::{AuditEvent, Seal};
use windlass_model::diagnostic::Diagnostic;
use windlass_store::Store;

pub use windlass_store::{Event, EventFilter};

/// When a batch is sealed: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// `WINDLASS_SEAL_SECONDS`: so long after the seal before; 10 s when it is not set.
    pub every: Duration,
    /// `WINDLASS_SEAL_EVENTS`: when so many events wait; 1000 when it is not set.
    pub events: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), events: 1000 }
    }
}

impl Pace {
    /// `variable` gives a variable of the environment; an empty one counts as not set.
    ///
    /// # Errors
    /// One is not well formed.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> AppResult<Self> {
        let number = |name: &str, otherwise: i64| match variable(name).filter(|value| !value.is_empty()) {
            None => Ok(otherwise),
            Some(value) => match value.to_str().and_then(|text| text.parse().ok()) {
                Some(number @ 1..=3600) => Ok(number),
                _ => {
                    let summary = format!("{name} is set to `{}`", value.to_string_lossy());
                    let diagnostic = Diagnostic::error("WL906", summary).help("it is a whole number from 1 to 3600");
                    Err(AppError::new(ErrorKind::Usage, diagnostic))
                }
            },
        };
        let every = number("WINDLASS_SEAL_SECONDS", 10)?;
        Ok(Self { every: Duration::from_secs(every.unsigned_abs()), events: number("WINDLASS_SEAL_EVENTS", 1000)? })
    }
}

/// Seals what happens in `store` until `stop` is cancelled, and then what is left: to be stopped last. The key is in the directory
/// `data`. Any number of servers may do this on one database: each batch is sealed by one of them. `told` hears what keeps it from
/// sealing, once; it tries again all the time.
pub async fn run(store: Store, data: PathBuf, pace: Pace, stop: CancellationToken, told: impl Fn(&AppError) + Send) {
    /// How long the last seal may take.
    const LAST: Duration = Duration::from_secs(10);
    let mut sealer = sealer::Sealer::new(store, Keys::of(&data));
    let mut before = None;
    loop {
        let stopped = sealer.wait(pace, &stop).await;
        let result = if stopped {
            tokio::time::timeout(LAST, sealer.seal()).await.unwrap_or(Ok(0))
        } else {
            sealer.seal().await
        };
        let failure = result.err();
        let now = failure.as_ref().map(ToString::to_string);
        if let Some(failure) = failure.filter(|_| now != before) {
            told(&failure);
        }
        before = now;
        if stopped {
            return;
        }
    }
}

/// An event of the store as it is sealed and exported.
pub fn audit_event(event: Event) -> AuditEvent {
    let Event { id, project, run, step, kind, subject, data, actor, reason, correlation, at } = event;
    AuditEvent { id, project, run, step, kind, data, actor, at, correlation, subject, reason }
}

/// The record of a server: its database, and what is in its data directory.
#[derive(Debug)]
pub struct Archive {
    pub store: Store,
    pub keys: Keys,
}

impl Archive {
    /// Of a server whose data directory is `data`, and whose database is there or at the address `database`.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn open(database: Option<&str>, data: &Path) -> AppResult<Self> {
        let store = match database {
            Some(url) => Store::connect(url).await?,
            None => {
                let file = data.join("windlass.db");
                if !file.is_file() {
                    return Err(nothing(&format!("there is no record of a server in {}", data.display())));
                }
                Store::open(&file).await?
            }
        };
        Ok(Self { store, keys: Keys::of(data) })
    }

    /// Of a checkout, without any server: it can be searched, and nobody seals it.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub async fn of_checkout(root: &Path) -> AppResult<Self> {
        let file = StateDirectory::at(root).database();
        if !file.is_file() {
            return Err(nothing("nothing was recorded here yet"));
        }
        let store = Store::open(&file).await?;
        Ok(Self { store, keys: Keys::of(&root.join(".windlass")) })
    }

    /// Events that have all that is asked for, of one project or of all, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn search(&self, project: Option<&str>, filter: &EventFilter, limit: u32) -> AppResult<Vec<Event>> {
        let store = self.store.of_project(project.unwrap_or_default());
        Ok(store.event_search(filter, None, limit).await?)
    }
}

/// What is asked for is only where a server works.
pub fn nothing(summary: &str) -> AppError {
    let diagnostic = Diagnostic::error("WL829", summary)
        .detail("Only servers seal what happens: a person who works in a checkout could sign anything.")
        .help("name a server's data directory (`--data DIR`), its database (`--database`), or an export (`--export FILE`)");
    AppError::new(ErrorKind::Usage, diagnostic)
}

/// Begins an export of the whole record for a caller; that it was taken out is recorded before.
///
/// # Errors
/// The caller may not, or the database cannot be used.
pub async fn export(installation: &Installation, caller: &Caller) -> AppResult<record::Record> {
    may(installation, caller).await?;
    let store = installation.store(caller, "");
    store.event_tell("audit.exported", "audit record", serde_json::json!({}), &caller.actor.to_string(), None).await?;
    record::Record::open(&installation.common.store).await
}

/// Seals after a number, oldest first, without the lists of their events: each is a checkpoint.
///
/// # Errors
/// The caller may not, or the database cannot be read.
pub async fn seal_list(installation: &Installation, caller: &Caller, after: i64, limit: u32) -> AppResult<Vec<Seal>> {
    may(installation, caller).await?;
    let rows = installation.common.store.seal_list(after, limit).await?;
    rows.iter().map(|row| record::seal(row).map(|seal| seal.checkpoint())).collect()
}

/// The last seal, without the list of its events; `None` before the first.
///
/// # Errors
/// The caller may not, or the database cannot be read.
pub async fn checkpoint(installation: &Installation, caller: &Caller) -> AppResult<Option<Seal>> {
    may(installation, caller).await?;
    let last = installation.common.store.seal_last().await?;
    last.as_ref().map(|row| record::seal(row).map(|seal| seal.checkpoint())).transpose()
}

/// The record is of all projects at once.
async fn may(installation: &Installation, caller: &Caller) -> AppResult<()> {
    caller.must(installation, Permission::AuditExport, &Subject::server()).await
}
