//! Who drives runs, and what of them lacks somebody.

use crate::caller::Caller;
use crate::error::AppResult;
use crate::installation::Installation;
use windlass_model::access::{Permission, Subject};
use windlass_model::id::RunId;
use windlass_store::WorkerRow;

/// Workers that live, servers among them.
///
/// # Errors
/// The caller may not.
pub async fn worker_list(installation: &Installation, caller: &Caller) -> AppResult<Vec<WorkerRow>> {
    caller.must(installation, Permission::MetricsRead, &Subject::server()).await?;
    Ok(installation.common.store.worker_list().await?)
}

/// Why a run waits for a worker, in one sentence; `None` when it does not.
///
/// # Errors
/// There is no such run that the caller may see.
pub async fn run_unserved(installation: &Installation, caller: &Caller, run: &RunId) -> AppResult<Option<String>> {
    let record = super::run_for(installation, caller, run, Permission::ProjectRead).await?;
    let store = &installation.common.store;
    crate::health::unserved(store, &record, &store.worker_list().await?).await
}
