//! What there is to see in a project.

use crate::caller::{Caller, not_found};
use crate::error::AppResult;
use crate::history::Applied;
use crate::installation::Installation;
use crate::locks::LockView;
use crate::repositories::{Good, Repository, Status};
use crate::service::Service;
use crate::waivers::WaiverList;
use std::sync::Arc;
use windlass_model::access::{Permission, Subject};
use windlass_model::drift::Record;
use windlass_model::id::RunId;
use windlass_model::journal::Quarantine;

/// The projects that the caller may see, by name.
///
/// # Errors
/// The database cannot be read.
pub async fn project_list(installation: &Installation, caller: &Caller) -> AppResult<Vec<(Repository, Arc<Status>)>> {
    let mut seen = Vec::new();
    for (repository, status) in installation.followed.list() {
        if caller.may(installation, Permission::ProjectRead, &Subject::project(&repository.name)).await?.allowed {
            seen.push((repository, status));
        }
    }
    Ok(seen)
}

async fn read(installation: &Installation, caller: &Caller, project: &str) -> AppResult<()> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await
}

/// One project, as far as it is known.
///
/// # Errors
/// There is none of that name that the caller may see.
pub async fn project_get(
    installation: &Installation,
    caller: &Caller,
    project: &str,
) -> AppResult<(Repository, Arc<Status>)> {
    read(installation, caller, project).await?;
    let all = installation.followed.list();
    let found = all.into_iter().find(|(repository, _)| repository.name == project);
    found.ok_or_else(|| not_found("project", project))
}

/// Definitions and stacks of a project.
///
/// # Errors
/// There is none that the caller may see, or nothing good was fetched yet.
pub async fn good(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Arc<Good>> {
    read(installation, caller, project).await?;
    installation.good(project)
}

async fn service(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Service> {
    read(installation, caller, project).await?;
    installation.service(caller, project)
}

/// Applies of a stack or of one instance that were made before the run `before`, newest first: about `limit` of them, and all of
/// each run.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn stack_history(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    stack: &str,
    before: Option<&RunId>,
    limit: usize,
) -> AppResult<Vec<Applied>> {
    let service = service(installation, caller, project).await?;
    crate::history::history_before(&service, stack, before, limit).await
}

/// What is known of each instance that was ever looked at for drift, by instance.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn drift_list(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Vec<Record>> {
    crate::drift::records(&service(installation, caller, project).await?).await
}

/// All queues of locks, holder first.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn lock_list(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Vec<LockView>> {
    crate::locks::lock_list(&service(installation, caller, project).await?).await
}

/// All quarantined instances.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn quarantine_list(
    installation: &Installation,
    caller: &Caller,
    project: &str,
) -> AppResult<Vec<Quarantine>> {
    crate::recover::quarantine_list(&service(installation, caller, project).await?).await
}

/// All waivers there were, newest first, and how many.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn waiver_list(installation: &Installation, caller: &Caller, project: &str) -> AppResult<WaiverList> {
    crate::waivers::waiver_list(&service(installation, caller, project).await?).await
}
