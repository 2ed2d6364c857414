//! Backups of the record, restores, and moves from one database to another.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::Checkout;
use crate::settings::StateDirectory;
use serde::Serialize;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use windlass_model::diagnostic::Diagnostic;
pub use windlass_store::Poured;
use windlass_store::backup::{self, Content};
use windlass_store::{Database, StoreError};

/// Hears of tables, and of how many of their rows were read.
pub type Tell<'a> = &'a mut dyn FnMut(&str, u64);

/// A backup that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Backup {
    pub database: String,
    /// `None` for standard output.
    pub file: Option<PathBuf>,
    /// Of the file.
    pub bytes: u64,
    #[serde(flatten)]
    pub content: Content,
}

/// What was put into a database.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    pub database: String,
    #[serde(flatten)]
    pub content: Content,
}

/// What went from one database into another.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    pub from: String,
    pub to: String,
    #[serde(flatten)]
    pub poured: Poured,
}

/// The database that was named (`postgres://…`, or a path), or that of the checkout that `directory` lies in.
///
/// # Errors
/// None was named, and `directory` is in no repository.
pub fn choose(directory: &Path, named: Option<&str>) -> AppResult<Database> {
    match named.filter(|text| !text.is_empty()) {
        Some(text) => Ok(Database::parse(text)),
        None => Ok(Database::File(StateDirectory::at(&Checkout::open(directory)?.root).database())),
    }
}

/// Makes a backup in a file, which must not be there yet, or on standard output. Others may write meanwhile.
///
/// # Errors
/// The database cannot be read, or the file cannot be made.
pub fn backup(database: &Database, file: Option<&Path>, tell: Tell<'_>) -> AppResult<Backup> {
    let place = database.place()?;
    let Some(path) = file else {
        let mut out = Counted { out: std::io::stdout().lock(), bytes: 0 };
        let content = backup::backup(database, &mut out, tell)?;
        return Ok(Backup { database: place, file: None, bytes: out.bytes, content });
    };
    let unmade = |error: std::io::Error| file_error("make", path, &error);
    if path.exists() {
        return Err(unmade(std::io::ErrorKind::AlreadyExists.into()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Whole or not at all, and for the owner only: it holds all that the database does.
    let draft = tempfile::Builder::new().prefix(".windlass-backup-").tempfile_in(folder).map_err(unmade)?;
    let mut out = Counted { out: draft.as_file(), bytes: 0 };
    let content = backup::backup(database, &mut out, tell)?;
    let bytes = out.bytes;
    draft.as_file().sync_all().map_err(unmade)?;
    draft.persist_noclobber(path).map_err(|error| unmade(error.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(unmade)?;
    Ok(Backup { database: place, file: Some(path.to_owned()), bytes, content })
}

/// Puts a backup (`None`: from standard input) into a database that nobody uses, and that is empty unless it is to be replaced.
///
/// # Errors
/// The file was cut or altered; the database is in use, not empty, or cannot be written. It is as it was then.
pub fn restore(file: Option<&Path>, database: &Database, replace: bool, tell: Tell<'_>) -> AppResult<Restored> {
    let place = database.place()?;
    let content = backup::restore(input(file)?, database, replace, tell).map_err(refused)?;
    Ok(Restored { database: place, content })
}

/// Reads a backup to its end.
///
/// # Errors
/// It was cut or altered.
pub fn check(file: Option<&Path>) -> AppResult<Content> {
    backup::check(input(file)?).map_err(refused)
}

/// Copies all of a database into another one; nobody may use either. The first stays as it is.
///
/// # Errors
/// As of [`backup()`] and [`restore`].
pub fn relocate(from: &Database, to: &Database, replace: bool, tell: Tell<'_>) -> AppResult<Moved> {
    let (of, into) = (from.place()?, to.place()?);
    let poured = backup::copy(from, to, replace, tell).map_err(refused)?;
    Ok(Moved { from: of, to: into, poured })
}

/// Counts the bytes that go through it.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn input(file: Option<&Path>) -> AppResult<Box<dyn Read>> {
    match file {
        None => Ok(Box::new(std::io::stdin().lock())),
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| file_error("open", path, &error))?;
            Ok(Box::new(file))
        }
    }
}

fn file_error(what: &str, path: &Path, error: &std::io::Error) -> AppError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        _ => ErrorKind::Unavailable,
    };
    let why = match kind {
        ErrorKind::Conflict => "it is there already, and is not overwritten".to_owned(),
        _ => error.to_string(),
    };
    AppError::new(kind, Diagnostic::error("WL850", format!("cannot {what} the backup {}: {why}", path.display())))
}

/// Of what is wrong with the request itself, the exit code says so.
fn refused(error: StoreError) -> AppError {
    match error {
        StoreError::NotEmpty { .. } | StoreError::Backup(_) => {
            AppError::new(ErrorKind::Usage, Diagnostic::error(error.code(), error.to_string()))
        }
        error => error.into(),
    }
}
