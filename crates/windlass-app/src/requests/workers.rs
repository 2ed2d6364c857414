//! Who drives runs, and what of them lacks somebody.

use super::visible::Visible;
use crate::caller::Caller;
use crate::error::AppResult;
use crate::installation::Installation;
use windlass_model::access::{Permission, Subject};
use windlass_model::run::RunRecord;
use windlass_store::{WaitClass, WorkerRow};

/// Workers that live, servers among them.
///
/// # Errors
/// The caller may not.
pub async fn worker_list(installation: &Installation, caller: &Caller) -> AppResult<Vec<WorkerRow>> {
    caller.must(installation, Permission::MetricsRead, &Subject::server()).await?;
    Ok(installation.common.store.worker_list().await?)
}

/// How many runs that wait for a place are looked at, and how many of them are told of.
const LOOKED_AT: u32 = 200;
const TOLD: usize = 20;

/// Runs of these projects that lack a worker, oldest first, with why in one sentence: of the two hundred that wait longest for a
/// place.
///
/// # Errors
/// The database cannot be read.
pub(super) async fn unserved(installation: &Installation, projects: &[Visible]) -> AppResult<Vec<(RunRecord, String)>> {
    let store = &installation.common.store;
    let workers = store.worker_list().await?;
    let mut found = Vec::new();
    for wait in store.run_waits(LOOKED_AT).await? {
        if wait.class != WaitClass::Place || !projects.iter().any(|one| one.name() == wait.project) {
            continue;
        }
        let record = store.run_planned(&wait.run).await?;
        if let Some(why) = crate::health::unserved(store, &record, &workers).await? {
            found.push((record, why));
        }
        if found.len() == TOLD {
            break;
        }
    }
    Ok(found)
}
