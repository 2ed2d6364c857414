//! Who holds and who waits for what.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use serde::{Deserialize, Serialize};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{RunId, StepId};

/// Whether the process of a holder lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    Alive,
    /// Its process is gone; the next process that drives a run recovers the step.
    Dead,
    /// It runs on another machine and still renews its lease.
    Elsewhere,
    /// It runs on another machine and has not renewed its lease.
    Silent,
    /// It waits; no process of its own is at work.
    Waiting,
}

/// A place in the queue of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// e.g. `stack:aws/network[tokyo]`.
    pub name: String,
    pub held: bool,
    pub run: RunId,
    pub step: StepId,
    /// Who started the run.
    pub owner: String,
    /// What the step does.
    pub purpose: String,
    pub since: Micros,
    pub liveness: Liveness,
}

/// All queues, holder first.
pub async fn lock_list(service: &Service) -> AppResult<Vec<LockView>> {
    lock_list_of(service, |_| true).await
}

/// The queues of locks whose names are wanted, holder first.
pub async fn lock_list_of(service: &Service, wanted: impl Fn(&str) -> bool) -> AppResult<Vec<LockView>> {
    let running = service.store.step_running().await?;
    let mut views = Vec::new();
    for row in service.store.lock_list().await?.into_iter().filter(|row| wanted(&row.name)) {
        let record = service.store.run_get(&row.run).await?;
        if record.state.is_final() {
            continue;
        }
        let attempt = running.iter().find(|lost| lost.claim.run == row.run && lost.claim.step == row.step);
        let liveness = match attempt.map(|lost| (&lost.engine, lost.expired)) {
            None => Liveness::Waiting,
            Some((Some(engine), _)) if windlass_engine::is_gone(engine) => Liveness::Dead,
            Some((Some(engine), _)) if windlass_engine::is_here(engine) => Liveness::Alive,
            Some((_, true)) => Liveness::Silent,
            Some((_, false)) => Liveness::Elsewhere,
        };
        let title = record.plan.steps.iter().find(|s| s.id == row.step).map(|s| s.title.clone());
        views.push(LockView {
            name: row.name,
            held: row.held,
            run: row.run,
            purpose: title.unwrap_or_else(|| row.step.to_string()),
            step: row.step,
            owner: record.actor,
            since: row.since,
            liveness,
        });
    }
    views.sort_by(|a, b| (&a.name, !a.held, a.since).cmp(&(&b.name, !b.held, b.since)));
    Ok(views)
}

/// Takes the first place of a queue away from a step whose process is not at work any more. One that lives is not touched.
pub async fn unlock(service: &Service, instance: &str, why: &str) -> AppResult<LockView> {
    let name = if instance.contains(':') { instance.to_owned() } else { format!("stack:{instance}") };
    let Some(first) = lock_list_of(service, |own| own == name).await?.into_iter().next() else {
        let diagnostic = Diagnostic::error("WL660", format!("nobody holds or waits for {name}"));
        return Err(AppError::new(ErrorKind::NotFound, diagnostic.help("`windlass locks` lists all of them")));
    };
    if matches!(first.liveness, Liveness::Alive | Liveness::Elsewhere) {
        let summary = format!("{name} is held by run {} ({}), and its process is at work", first.run, first.owner);
        let diagnostic = Diagnostic::error("WL661", summary)
            .help(format!("stop it with `windlass cancel {}`: it then ends its terraform in good order", first.run));
        return Err(AppError::new(ErrorKind::Conflict, diagnostic));
    }
    // What the dead process started may live on.
    windlass_engine::end_processes(&service.store, &first.run, &first.step, crate::steps::terraform::GRACE).await?;
    end_elsewhere(service, &first).await?;
    service.store.lock_take_away(&first.name, &first.run, &first.step, &service.actor.to_string(), why).await?;
    Ok(first)
}

async fn end_elsewhere(service: &Service, lock: &LockView) -> AppResult<()> {
    let record = service.store.run_get(&lock.run).await?;
    let Some(spec) = record.plan.steps.iter().find(|step| step.id == lock.step) else { return Ok(()) };
    let attempt = service.store.step_get(&lock.run, &lock.step).await?.attempt;
    let token = format!("{}/{}/{attempt}", lock.run, lock.step);
    let (work, grace) = (&spec.work.input, crate::steps::terraform::GRACE);
    let ended = crate::steps::elsewhere::end(service, &record.plan.input, work, &token, grace).await;
    ended.map_err(|why| {
        let summary = format!("what run {} had started may live on, so {} was not freed: {why}", lock.run, lock.name);
        let help = "look at the container engine or the cluster, then run the same command again";
        AppError::new(ErrorKind::Unavailable, Diagnostic::error("WL661", summary).help(help))
    })
}
