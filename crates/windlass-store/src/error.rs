use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {} is damaged: {message}. It was left as it is; move it away to start with an empty record, or restore a copy", .path.display())]
    Corrupt { path: PathBuf, message: String },
    #[error("the database {} has schema {found}, but this release knows up to {known}: use the newer release of Windlass that wrote it", .path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
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
    #[error("database: {0}")]
    Sql(#[source] sqlx::Error),
}

impl StoreError {
    pub(crate) fn of(path: &Path, error: sqlx::Error) -> Self {
        let path = path.to_owned();
        if let sqlx::Error::Database(inner) = &error {
            // Primary result codes of SQLite; extended ones carry them in the low byte.
            let code = inner.code().and_then(|c| c.parse::<i64>().ok()).map(|c| c & 0xff);
            let message = inner.message().to_owned();
            match code {
                Some(11 | 26) => return Self::Corrupt { path, message },
                Some(8 | 10 | 13 | 14) => return Self::Disk { path, message },
                _ => {}
            }
        }
        Self::Sql(error)
    }

    /// Somebody else was first.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::StaleClaim { .. } | Self::Conflict(_))
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Key of its page.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "WL620",
            Self::Newer { .. } => "WL621",
            Self::Disk { .. } => "WL622",
            Self::NotFound { .. } => "WL623",
            Self::StaleClaim { .. } | Self::Conflict(_) => "WL624",
            Self::Decode { .. } | Self::Sql(_) => "WL625",
        }
    }
}
