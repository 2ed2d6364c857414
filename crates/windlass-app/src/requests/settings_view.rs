//! What settings show beside repositories: processes at work, and why somebody may or may not.

use super::places;
use super::visible::visible;
use crate::access::authorise;
use crate::caller::{Caller, not_found};
use crate::error::AppResult;
use crate::installation::Installation;
use std::collections::HashMap;
use windlass_model::Micros;
use windlass_model::access::{Answer, Permission, Question, Rules, Subject, decide, is_identity};
use windlass_model::approval::Actor;
use windlass_model::id::{InstanceId, RunId};
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

/// "Why may I, or not?"
pub struct Asking<'a> {
    /// An identity; empty for the caller.
    pub actor: &'a str,
    pub permission: Permission,
    /// `PROJECT`, or `PROJECT:INSTANCE`; empty for the server.
    pub subject: &'a str,
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

/// The answer with its reasons.
///
/// # Errors
/// There is no such project that the caller may see, or the caller may not ask about others.
pub async fn access_explain(installation: &Installation, caller: &Caller, asking: &Asking<'_>) -> AppResult<Answer> {
    let (project, instance) = asking.subject.split_once(':').unwrap_or((asking.subject, ""));
    if !project.is_empty() {
        let read = Subject::project(project);
        caller.must(installation, Permission::ProjectRead, &read).await?;
    }
    let subject = match (project, instance) {
        ("", _) => Subject::server(),
        (project, "") => Subject::project(project),
        (project, instance) => {
            let good = installation.good(project)?;
            let id = InstanceId::new(instance);
            let stack = good.project.repository.stack(&id.stack()).ok_or_else(|| not_found("stack", instance))?;
            let all = stack.instances.iter().map(|one| &one.id).filter(|one| **one == id || id.key().is_none());
            Subject::of(project, "stack", instance, places(&good, all))
        }
    };
    if asking.actor.is_empty() {
        return caller.may(installation, asking.permission, &subject).await;
    }
    let about = if project.is_empty() { Subject::server() } else { Subject::project(project) };
    let needs = if project.is_empty() { Permission::ServerManage } else { Permission::AuditRead };
    caller.must(installation, needs, &about).await?;
    let name = asking.actor.to_owned();
    let identities = if is_identity(&name) { vec![name.clone()] } else { vec![format!("user:{name}")] };
    let actor = Actor { name, identities, verified: true };
    let question = Question { actor: &actor, token: None, permission: asking.permission, subject: &subject };
    let at = installation.common.store.now().await?;
    let admins = installation.admins();
    Ok(match installation.good(project) {
        Ok(good) => {
            let rules = Rules::new(&good.deciding.definitions, &admins);
            authorise(&rules, &good.deciding.policies, &question, at)
        }
        Err(_) => decide(&question, &Rules::server(&admins)),
    })
}
