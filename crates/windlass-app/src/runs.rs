//! Runs: driven, listed, cancelled, resumed.

use crate::apply::release_ended;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use crate::steps::executors;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use windlass_engine::{Engine, EngineOptions, Progress};
use windlass_model::approval::Actor;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{RunRecord, StepRecord};
use windlass_store::{ArtefactKind, LogChunk, RunFilter, RunSummary, Settlement, Store};

/// Drives a run in this process until it has ended or waits for a person. The first interrupt of the terminal asks it to be
/// cancelled; what runs is then given time to stop.
pub async fn run_drive(
    service: &Arc<Service>,
    run: &RunId,
    progress: mpsc::UnboundedSender<Progress>,
) -> AppResult<RunRecord> {
    let options = EngineOptions { lease: service.settings.lease, ..EngineOptions::default() };
    let engine = Engine::start(service.store.clone(), executors(service), options).await?.with_progress(progress);
    let interrupted = async {
        loop {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            // A second interrupt changes nothing: terraform must not get one.
            if let Err(error) =
                service.store.run_cancel(run, &service.actor.to_string(), Some("interrupted at the terminal")).await
            {
                return error;
            }
        }
    };
    let record = tokio::select! {
        record = engine.run_until_settled(run) => record?,
        error = interrupted => return Err(error.into()),
    };
    if record.state.is_final() {
        run_end(service, run).await?;
    }
    Ok(record)
}

/// Clears up after a run that has ended.
///
/// # Errors
/// The database cannot be written.
pub async fn run_end(service: &Service, run: &RunId) -> AppResult<()> {
    release_ended(service, run).await?;
    crate::steps::operation::secrets::forget(&service.store, run).await?;
    // Scratch files hold secrets in the clear and nothing needs them any more.
    let _ = std::fs::remove_dir_all(service.directory.run(run));
    for plan in service.store.artefact_list(ArtefactKind::Plan, Some(run), None).await? {
        // They are sealed, and go when they are old at the latest.
        let _ = service.store.artefact_remove(&plan, None).await;
    }
    Ok(())
}

/// Newest first; those of an operation alone where one is named.
pub async fn run_list(service: &Service, operation: Option<String>, limit: u32) -> AppResult<Vec<RunRecord>> {
    Ok(service.store.run_list(&RunFilter { subject: operation, ..RunFilter::default() }, limit).await?)
}

/// A run by its id, a unique beginning of it, or `latest`.
pub async fn run_find(service: &Service, name: &str) -> AppResult<RunRecord> {
    let name = name.to_lowercase();
    let runs = service.store.run_search(&RunFilter::default(), 10_000).await?;
    let matching: Vec<&RunSummary> = if name == "latest" {
        runs.iter().take(1).collect()
    } else {
        runs.iter().filter(|r| r.id.as_str().starts_with(&name)).collect()
    };
    match matching.as_slice() {
        [only] => Ok(service.store.run_get(&only.id).await?),
        [] if runs.is_empty() => Err(AppError::new(
            ErrorKind::NotFound,
            Diagnostic::error("WL623", "there are no runs yet").help("start one with `windlass review`"),
        )),
        [] => Err(AppError::new(
            ErrorKind::NotFound,
            Diagnostic::error("WL623", format!("there is no run `{name}`")).help("`windlass runs` lists what there is"),
        )),
        several => {
            let ids = several.iter().take(5).map(|r| r.id.as_str()).collect::<Vec<_>>().join(", ");
            Err(AppError::new(
                ErrorKind::Usage,
                Diagnostic::error("WL623", format!("`{name}` is the beginning of several runs: {ids}"))
                    .help("give more of it"),
            ))
        }
    }
}

/// The review that is meant by an id or its beginning, or the newest.
pub async fn review_find(service: &Service, name: Option<&str>) -> AppResult<RunId> {
    match name {
        Some(name) if name != "latest" => Ok(run_find(service, name).await?.id),
        _ => service.store.review_latest().await?.ok_or_else(|| {
            AppError::new(
                ErrorKind::NotFound,
                Diagnostic::error("WL610", "there is no review yet").help("make one with `windlass review`"),
            )
        }),
    }
}

/// What `windlass approve` without an id means: the newest apply that waits, else the newest review.
pub async fn approvable_find(service: &Service, name: Option<&str>) -> AppResult<RunId> {
    if name.is_none() {
        let waiting = service
            .store
            .run_active()
            .await?
            .into_iter()
            .find(|run| run.plan.kind == "apply" && run.state == windlass_model::run::RunState::Waiting);
        if let Some(run) = waiting {
            return Ok(run.id);
        }
    }
    review_find(service, name).await
}

/// The newest run that has not ended.
pub async fn run_unfinished(service: &Service) -> AppResult<RunRecord> {
    let runs = service.store.run_active().await?;
    runs.into_iter().next().ok_or_else(|| {
        AppError::new(
            ErrorKind::NotFound,
            Diagnostic::error("WL623", "every run has ended: there is nothing to resume")
                .help("`windlass runs` lists them"),
        )
    })
}

/// Has nothing new begin in a run, until it is resumed.
///
/// # Errors
/// There is no reason, or it has ended.
pub async fn run_halt(store: &Store, actor: &Actor, run: &RunRecord, reason: &str) -> AppResult<()> {
    if reason.trim().is_empty() {
        let diagnostic = Diagnostic::error("WL904", "a run is halted for a reason");
        return Err(AppError::new(ErrorKind::Usage, diagnostic.help("say why: whoever resumes it wants to know")));
    }
    if !store.run_halt(&run.id, &actor.to_string(), reason.trim()).await? {
        let diagnostic = Diagnostic::error("WL617", format!("run {} has ended: it {}", run.id, run.state.predicate()));
        return Err(AppError::new(ErrorKind::Conflict, diagnostic.help("nothing more begins in it")));
    }
    Ok(())
}

/// Lets a run go on: what was halted may begin, and waiting steps look again; or only the latter, where steps whose end is unknown are settled as said (`STEP=done|failed|repeat`),
/// for this reason.
pub async fn run_resume(service: &Service, run: &RunId, settle: &[String], reason: Option<&str>) -> AppResult<()> {
    let record = service.store.run_get(run).await?;
    if record.state.is_final() {
        let diagnostic = Diagnostic::error("WL617", format!("run {run} has ended: it {}", record.state.predicate()))
            .help("start again with `windlass apply` or `windlass review`");
        return Err(AppError::new(ErrorKind::Conflict, diagnostic));
    }
    for answer in settle {
        let parsed = answer.rsplit_once('=').and_then(|(step, answer)| {
            let settlement = match answer {
                "done" => Settlement::Done,
                "failed" => Settlement::Failed,
                "repeat" => Settlement::Repeat,
                _ => return None,
            };
            Some((StepId::new(step), settlement))
        });
        let Some((step, settlement)) = parsed else {
            return Err(AppError::new(
                ErrorKind::Usage,
                Diagnostic::error("WL904", format!("`{answer}` is no settlement"))
                    .help("write STEP=done, STEP=failed or STEP=repeat"),
            ));
        };
        service.store.step_settle(run, &step, settlement, &service.actor.to_string(), reason).await?;
    }
    if settle.is_empty() {
        service.store.run_resume(run, &service.actor.to_string()).await?;
    } else {
        service.store.step_wake(run).await?;
    }
    Ok(())
}

/// Steps of a run in order.
pub async fn run_steps(service: &Service, run: &RunId) -> AppResult<Vec<StepRecord>> {
    Ok(service.store.step_list(run).await?)
}

/// Log of a run from where each step was read up to (`offsets`), which moves on. Steps are read in order of their plan.
pub async fn log_follow(
    service: &Service,
    record: &RunRecord,
    only: Option<&StepId>,
    offsets: &mut std::collections::BTreeMap<StepId, i64>,
) -> AppResult<Vec<LogChunk>> {
    let mut chunks = Vec::new();
    // Of very many steps most have said nothing new.
    let only = only.map(std::slice::from_ref);
    let mut ends: HashMap<StepId, u64> = service.store.log_sizes(&record.id, only).await?.into_iter().collect();
    ends.retain(|step, end| offsets.get(step).is_none_or(|from| from.unsigned_abs() < *end));
    for step in record.plan.steps.iter().filter(|step| ends.contains_key(&step.id)) {
        loop {
            let from = offsets.get(&step.id).copied().unwrap_or(0);
            let read = service.store.log_read(&record.id, &step.id, from, 256).await?;
            let Some(last) = read.last() else { break };
            offsets.insert(step.id.clone(), last.start + last.bytes.len() as i64);
            chunks.extend(read);
        }
    }
    Ok(chunks)
}
