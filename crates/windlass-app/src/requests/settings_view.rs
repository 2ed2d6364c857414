//! What settings show beside repositories: processes at work, and who may ask about others.

use super::visible::visible;
use crate::caller::Caller;
use crate::error::AppResult;
use crate::installation::Installation;
use std::collections::HashMap;
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_model::id::RunId;
use windlass_store::{EngineRow, WorkerRow};

/// A process that drives runs.
pub struct Engine {
    pub row: EngineRow,
    /// What it says of itself; `None` for one that drives runs in a checkout.
    pub worker: Option<WorkerRow>,
    /// As far as this machine can tell.
    pub alive: bool,
    pub steps: Vec<Working>,
}

/// A step that a process has under way.
pub struct Working {
    pub run: RunId,
    pub title: String,
    pub since: Micros,
}

/// Processes that drive runs and are not known to be gone, with the steps under way that the caller may see.
///
/// # Errors
/// The database cannot be read.
pub async fn workers(installation: &Installation, caller: &Caller) -> AppResult<Vec<Engine>> {
    let store = &installation.common.store;
    let now = store.now().await?;
    let mut at_work: HashMap<String, Vec<Working>> = HashMap::new();
    for lost in store.step_running().await? {
        let (Some(engine), run) = (lost.engine, &lost.claim.run) else { continue };
        // What the caller may not see is left out.
        let Ok(record) = super::run_for(installation, caller, run, Permission::ProjectRead).await else { continue };
        let step = store.step_get(run, &lost.claim.step).await?;
        let title = record.plan.steps.iter().find(|spec| spec.id == step.id).map(|spec| spec.title.clone());
        let since = step.started_at.unwrap_or(now);
        let title = title.unwrap_or_else(|| step.id.to_string());
        at_work.entry(engine.id).or_default().push(Working { run: run.clone(), title, since });
    }
    let mut said: HashMap<String, WorkerRow> =
        store.worker_list().await?.into_iter().map(|worker| (worker.id.clone(), worker)).collect();
    let engines = store.engine_list().await?.into_iter();
    let engines = engines.filter(|row| !windlass_engine::is_gone(&row.engine));
    Ok(engines
        .map(|row| Engine {
            alive: windlass_engine::is_here(&row.engine) || row.lease_until.is_some_and(|until| until > now),
            steps: at_work.remove(&row.engine.id).unwrap_or_default(),
            worker: said.remove(&row.engine.id),
            row,
        })
        .collect())
}

/// Whether the caller may ask about others: who may search the record in any project that they see.
///
/// # Errors
/// The database cannot be read.
pub async fn may_ask_about_others(installation: &Installation, caller: &Caller) -> AppResult<bool> {
    for one in visible(installation, caller).await? {
        if caller.may(installation, Permission::AuditRead, &Subject::project(one.name())).await?.allowed {
            return Ok(true);
        }
    }
    Ok(false)
}
