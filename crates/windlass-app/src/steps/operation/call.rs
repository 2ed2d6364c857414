//! `operation`: another operation, as a run of its own that the step waits for.

use super::Work;
use crate::error::AppResult;
use crate::operations::{self, Source, StartOptions};
use crate::service::Service;
use crate::steps::executors;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use windlass_engine::{Engine, EngineOptions, StepFailure, StepResult};
use windlass_model::approval::Actor;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::Expression;
use windlass_model::operation::plan::Origin;
use windlass_model::run::{RunRecord, RunState, StepState};
use windlass_store::{Store, StoreError};

/// How often the other run is looked at, and how long one that was cancelled is waited for: what it undoes takes time.
const LOOK: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(60);

/// Begins the other run, once for the step, and waits for its end. Its actor is that of this run.
///
/// # Errors
/// The operation refuses these arguments; the database cannot be read.
pub async fn execute(work: &Work<'_>, name: &str, arguments: &BTreeMap<String, Expression>) -> AppResult<StepResult> {
    let (service, cx) = (work.service, work.cx);
    let id = id_of(&cx.run, &cx.step);
    if find(&service.store, &id).await?.is_none() {
        let mut values = BTreeMap::new();
        for (name, value) in arguments {
            values.insert(name.clone(), work.scope.value(value)?);
        }
        let broke_glass = begin(work, &id, name, values).await?;
        let whole = if work.input.broke_glass && !broke_glass {
            "; its glass is whole: not everybody who may break that of this operation may break it"
        } else {
            ""
        };
        cx.log(format!("run {id} of `{name}`{whole}\n").as_bytes()).await;
        cx.flush().await;
    }
    let driven = drive(service, &id).await?;
    let record = follow(work, &id).await;
    if let Some(driven) = driven {
        driven.abort();
    }
    let record = record?;
    if !record.state.is_final() || cx.cancel.is_cancelled() {
        return Ok(StepResult::Cancelled);
    }
    if record.state == RunState::Succeeded {
        return Ok(StepResult::Succeeded(outputs(service, &record).await?));
    }
    let why = record.reason.map_or_else(String::new, |reason| format!(": {reason}"));
    let message = format!("run {id} of `{name}` {}{why}", record.state.as_str());
    Ok(StepResult::Failed(StepFailure { code: "WL542".into(), message, retryable: false }))
}

/// Begins it; whether the broken glass of this run is one of that run as well: where all may break that who may break this.
async fn begin(work: &Work<'_>, id: &RunId, name: &str, arguments: BTreeMap<String, Value>) -> AppResult<bool> {
    let (service, cx) = (work.service, work.cx);
    let project = service.checkout.project()?.sound()?;
    let deciding = service.deciding(Some(&work.input.head.commit)).await?;
    // Whoever began this run began that one: for them it is not to approve either.
    let name_of = service.store.run_get(&cx.run).await?.actor;
    let actor = Actor { name: name_of, identities: Vec::new(), verified: true };
    let acting = service.acting(actor, service.store.creating(id));
    let head = work.input.head.clone();
    let source = Source { service: &acting, project: &project, policies: &deciding.policies, head, is_work_tree: true };
    let origin = Origin::Run { run: cx.run.clone(), step: cx.step.to_string() };
    let reason = work.input.reason.clone();
    let theirs = &source.find(name)?.break_glass;
    let break_glass =
        work.input.broke_glass && work.input.operation.break_glass.iter().all(|team| theirs.contains(team));
    let options = StartOptions { reason, break_glass, ..StartOptions::new(origin) };
    operations::start(&source, name, &arguments, options).await?;
    Ok(break_glass)
}

/// The id of the run that a step begins: the same for all its attempts. Its time is that of the run it is begun by.
fn id_of(run: &RunId, step: &StepId) -> RunId {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digest = Sha256::digest(format!("{run}/{step}"));
    let letters = digest.iter().take(16).map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    let time = run.as_str().get(..10).unwrap_or(run.as_str());
    RunId::new(format!("{time}{}", letters.collect::<String>()))
}

async fn find(store: &Store, id: &RunId) -> Result<Option<RunRecord>, StoreError> {
    match store.run_get(id).await {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Drives it here where no worker does: in the terminal.
async fn drive(service: &Arc<Service>, id: &RunId) -> AppResult<Option<JoinHandle<()>>> {
    if !service.store.worker_list().await?.is_empty() {
        return Ok(None);
    }
    let options = EngineOptions { lease: service.settings.lease, ..EngineOptions::default() };
    let engine = Engine::start(service.store.clone(), executors(service), options).await?;
    let (service, id) = (service.clone(), id.clone());
    Ok(Some(tokio::spawn(async move {
        // One that waits for a person is driven on as soon as it was answered.
        while let Ok(record) = engine.run_until_settled(&id).await {
            if record.state.is_final() {
                // What is left is cleared up with the run that began it.
                let _ = crate::runs::run_end(&service, &id).await;
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    })))
}

/// Waits for its end. A cancel is passed on.
async fn follow(work: &Work<'_>, id: &RunId) -> AppResult<RunRecord> {
    let (store, cx) = (&work.service.store, work.cx);
    let mut told = None;
    let mut until = None;
    loop {
        let record = store.run_get(id).await?;
        if record.state.is_final() || until.is_some_and(|until| tokio::time::Instant::now() > until) {
            return Ok(record);
        }
        if record.reason.is_some() && record.reason != told {
            let reason = record.reason.clone().unwrap_or_default();
            cx.log(format!("run {id} is {}: {reason}\n", record.state.as_str()).as_bytes()).await;
            told = record.reason;
        }
        if cx.cancel.is_cancelled() && until.is_none() {
            let reason = format!("step {} of run {} is cancelled", cx.step, cx.run);
            store.run_cancel(id, &record.actor, Some(&reason)).await?;
            until = Some(tokio::time::Instant::now() + PATIENCE);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = cx.cancel.cancelled(), if until.is_none() => {}
        }
    }
}

/// The id of the run, and the outputs of its steps by their names.
async fn outputs(service: &Service, record: &RunRecord) -> AppResult<Value> {
    let steps = service.store.step_list(&record.id).await?;
    let own = |id: &StepId| !id.as_str().contains(['[', ':', '/']);
    let done = steps.into_iter().filter(|step| step.state == StepState::Succeeded && own(&step.id));
    let outputs =
        done.filter_map(|step| Some((step.id.to_string(), step.output.filter(|output| *output != json!({}))?)));
    let mut all: Map<String, Value> = outputs.collect();
    all.insert("run".into(), record.id.as_str().into());
    Ok(Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_begins_one_run() {
        let (run, other) = (Store::run_id(), Store::run_id());
        let id = id_of(&run, &StepId::new("call"));
        assert_eq!((id.as_str().len(), &id.as_str()[..10]), (run.as_str().len(), &run.as_str()[..10]));
        assert_eq!(id, id_of(&run, &StepId::new("call")));
        assert_ne!(id, id_of(&run, &StepId::new("call2")));
        assert_ne!(id, id_of(&other, &StepId::new("call")));
    }
}
