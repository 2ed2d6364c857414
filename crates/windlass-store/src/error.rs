use std::path::{Path, PathBuf};

/// Code of what fails because the database is away.
pub const UNREACHABLE: &str = "WL626";

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the database {} is damaged: {message}. It was left as it is; move it away to start with an empty record, or restore a copy", .path.display())]
    Corrupt { path: PathBuf, message: String },
    #[error(
        "the database {place} has schema {found}, but this release knows up to {known}: use the newer release of Windlass that wrote it"
    )]
    Newer { place: String, found: i64, known: i64 },
    #[error("cannot write the database {}: {message}. Make room or correct its permissions, then run the same command again; what was acknowledged is kept", .path.display())]
    Disk { path: PathBuf, message: String },
    #[error("there is no {what} `{id}`")]
    NotFound { what: &'static str, id: String },
    #[error("step {step} of run {run} is no longer this engine's")]
    StaleClaim { run: String, step: String },
    #[error("{0}")]
    Conflict(String),
    #[error("stored {what} cannot be read: {message}")]
    Decode { what: &'static str, message: String },
    #[error("not the address of a database: {0}; write it as postgres://USER@HOST/DATABASE")]
    Address(String),
    #[error("the database {place} cannot be reached: {message}")]
    Unreachable { place: String, message: String },
    /// Another transaction was in the way; this one changed nothing.
    #[error("the database is busy: {0}")]
    Met(String),
    #[error("internal error in a transaction, which was taken back: {0}")]
    Panicked(String),
    #[error("the database was closed")]
    Closed,
    /// Somebody has it alone, or wants it alone while others have it.
    #[error("the database {place} is in use by {by}")]
    InUse { place: String, by: String },
    #[error("the database {place} is not empty: {rows}. Choose another, or give --replace to lose what is in it")]
    NotEmpty { place: String, rows: String },
    #[error("the backup cannot be written: {0}")]
    Output(String),
    #[error("the backup cannot be used: {0}")]
    Backup(String),
    /// It was there, or should be.
    #[error("the {what} is not there: {why}")]
    ArtefactGone { what: String, why: String },
    #[error("the {what} in {place} is not what was kept: {why}")]
    ArtefactChanged { what: String, place: String, why: String },
    #[error("artefacts in {place} cannot be read or written: {message}")]
    Contents { place: String, message: String },
    #[error("database: {0}")]
    Sql(String),
}

impl StoreError {
    pub(crate) fn of_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let (path, message) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, message },
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                Self::Disk { path, message }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Met(message),
            _ => Self::Sql(message),
        }
    }

    pub(crate) fn of_postgres(place: &str, error: &postgres::Error) -> Self {
        // What the server said is more than its kind.
        let message = match error.as_db_error() {
            Some(said) => format!("{} ({})", said.message(), said.code().code()),
            None => std::error::Error::source(error).map_or_else(|| error.to_string(), |why| format!("{error}: {why}")),
        };
        if crate::postgres::met(error) {
            Self::Met(message)
        } else if crate::postgres::unreachable(error) {
            Self::Unreachable { place: place.to_owned(), message }
        } else {
            Self::Sql(message)
        }
    }

    /// The same of a transaction of which nobody knows whether it happened.
    pub(crate) fn unknown(self) -> Self {
        match self {
            Self::Unreachable { place, message } => {
                let message = format!("{message}, in the middle of a commit: nobody knows whether it happened");
                Self::Unreachable { place, message }
            }
            other => other,
        }
    }

    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("a panic").to_owned())
    }

    /// Somebody else was first.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::StaleClaim { .. } | Self::Conflict(_))
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether doing the same again later can help.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Disk { .. }
            | Self::Unreachable { .. }
            | Self::Met(_)
            | Self::Sql(_)
            | Self::InUse { .. }
            | Self::Contents { .. }
            | Self::Output(_) => true,
            Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::NotFound { .. }
            | Self::StaleClaim { .. }
            | Self::Conflict(_)
            | Self::Decode { .. }
            | Self::Address(_)
            | Self::Panicked(_)
            | Self::Closed
            | Self::NotEmpty { .. }
            | Self::ArtefactGone { .. }
            | Self::ArtefactChanged { .. }
            | Self::Backup(_) => false,
        }
    }

    /// Key of its page.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "WL620",
            Self::Newer { .. } => "WL621",
            Self::Disk { .. } | Self::Output(_) => "WL622",
            Self::NotFound { .. } => "WL623",
            Self::StaleClaim { .. } | Self::Conflict(_) => "WL624",
            Self::Decode { .. } | Self::Met(_) | Self::Closed | Self::Sql(_) => "WL625",
            Self::Unreachable { .. } | Self::Address(_) => UNREACHABLE,
            Self::Panicked(_) => "WL999",
            Self::InUse { .. } => "WL627",
            Self::NotEmpty { .. } => "WL628",
            Self::Backup(_) => "WL629",
            Self::ArtefactGone { .. } => "WL890",
            Self::ArtefactChanged { .. } => "WL891",
            Self::Contents { .. } => "WL892",
        }
    }
}
