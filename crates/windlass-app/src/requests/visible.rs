//! What a caller may see at all: the beginning of every page.

use crate::caller::Caller;
use crate::error::AppResult;
use crate::installation::Installation;
use crate::repositories::{Repository, Status};
use std::sync::Arc;
use windlass_model::access::{Permission, Subject};

/// A followed repository that the caller may read.
#[derive(Clone)]
pub struct Visible {
    pub repository: Repository,
    pub status: Arc<Status>,
}

impl Visible {
    pub fn name(&self) -> &str {
        &self.repository.name
    }
}

/// All of them, by name.
///
/// # Errors
/// The database cannot be read.
pub async fn visible(installation: &Installation, caller: &Caller) -> AppResult<Vec<Visible>> {
    let mut found = Vec::new();
    for (repository, status) in installation.followed.list() {
        let subject = Subject::project(&repository.name);
        if caller.may(installation, Permission::ProjectRead, &subject).await?.allowed {
            found.push(Visible { repository, status });
        }
    }
    Ok(found)
}

/// Why the caller may not do this, in one sentence; `None` when they may.
///
/// # Errors
/// The database cannot be read.
pub async fn why_not(
    installation: &Installation,
    caller: &Caller,
    permission: Permission,
    subject: &Subject,
) -> AppResult<Option<String>> {
    let answer = caller.may(installation, permission, subject).await?;
    let why = || answer.because.first().cloned().unwrap_or_else(|| format!("you have no permission {permission}"));
    Ok((!answer.allowed).then(why))
}
