//! What a use case answers when it cannot do what was asked: a kind with a stable exit code, and diagnostics for people.

use windlass_model::diagnostic::Diagnostic;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The answer is no: denied by policy, not approved, a run failed.
    Refused,
    /// Who asks has not said who they are, or it does not hold any more.
    Unauthenticated,
    /// Who asks may not.
    Forbidden,
    /// The request does not make sense as given.
    Usage,
    /// A file in the repository is wrong.
    Definition,
    /// No such stack, run or review.
    NotFound,
    /// Somebody else was first, or the world moved.
    Conflict,
    /// Something outside could not be reached or is missing: git, terraform, the disk.
    Unavailable,
    /// A bug.
    Internal,
}

#[derive(Debug, thiserror::Error)]
#[error("{}", .diagnostics.first().map_or("", |d| d.summary.as_str()))]
pub struct AppError {
    pub kind: ErrorKind,
    /// At least one; the first says what happened.
    pub diagnostics: Vec<Diagnostic>,
}

pub type AppResult<T> = Result<T, AppError>;

impl AppError {
    pub fn new(kind: ErrorKind, diagnostic: Diagnostic) -> Self {
        Self { kind, diagnostics: vec![diagnostic] }
    }

    pub fn many(kind: ErrorKind, diagnostics: Vec<Diagnostic>) -> Self {
        Self { kind, diagnostics }
    }

    /// The process exit code of `docs/exit-codes.md`.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Refused | ErrorKind::Forbidden => 1,
            ErrorKind::Unauthenticated
            | ErrorKind::Usage
            | ErrorKind::Definition
            | ErrorKind::NotFound
            | ErrorKind::Conflict => 2,
            ErrorKind::Unavailable => 3,
            ErrorKind::Internal => 70,
        }
    }
}

/// An invariant did not hold; `what` says which.
pub fn internal(what: impl std::fmt::Display) -> AppError {
    AppError::new(
        ErrorKind::Internal,
        Diagnostic::error("WL999", format!("internal error: {what}"))
            .help("this is a bug in Windlass; please report it with the command you ran"),
    )
}
