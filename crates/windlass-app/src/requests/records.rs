//! What was recorded of runs and reviews: their steps, their logs.

use super::{run_for, run_planned};
use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::history::Changed;
use crate::installation::Installation;
use std::collections::HashMap;
use windlass_model::access::{Permission, Subject};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{RunRecord, RunState, StepSpec, StepState};
use windlass_store::{LogChunk, ReviewRow, ReviewState, RunSummary, StepQuery, StepRow, Store, StoreError};

/// A run with the first of its steps, at most `limit`.
pub struct RunShown {
    /// Without what steps have added to its plan.
    pub record: RunRecord,
    /// In order of the plan; what they put out is left away.
    pub steps: Vec<(StepSpec, StepRow)>,
    /// What the first step waits for that does, or in what way its end is unknown; only of a run that waits.
    pub waits: Option<String>,
}

/// # Errors
/// There is none that the caller may see.
pub async fn run_show(installation: &Installation, caller: &Caller, run: &RunId, limit: u32) -> AppResult<RunShown> {
    let steps = step_find(installation, caller, run, &StepQuery::default(), limit).await?;
    let record = run_planned(installation, caller, run).await?;
    let mut waits = None;
    for state in [StepState::Unknown, StepState::Waiting] {
        if record.state == RunState::Waiting && waits.is_none() {
            let query = StepQuery { state: Some(state), ..StepQuery::default() };
            let found = installation.common.store.step_find(run, &query, 1).await?;
            waits = found.into_iter().next().and_then(|step| step.record.reason);
        }
    }
    Ok(RunShown { record, steps, waits })
}

/// Steps of a run, at most `limit`.
///
/// # Errors
/// There is no such run that the caller may see.
pub async fn step_find(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    query: &StepQuery,
    limit: u32,
) -> AppResult<Vec<(StepSpec, StepRow)>> {
    let record = run_planned(installation, caller, run).await?;
    let found = installation.common.store.step_find(run, query, limit).await?;
    let mut specs: HashMap<StepId, StepSpec> =
        record.plan.steps.into_iter().map(|spec| (spec.id.clone(), spec)).collect();
    let spec = |mut step: StepRow| Some((step.spec.take().or_else(|| specs.remove(&step.record.id))?, step));
    Ok(found.into_iter().filter_map(spec).collect())
}

/// What the effects of two runs of one project do not have in common.
///
/// # Errors
/// There is no such run that the caller may see, or it has no effect.
pub async fn run_diff(
    installation: &Installation,
    caller: &Caller,
    before: &RunId,
    after: &RunId,
) -> AppResult<Vec<Changed>> {
    let first = run_for(installation, caller, before, Permission::ProjectRead).await?;
    let second = run_for(installation, caller, after, Permission::ProjectRead).await?;
    if first.project != second.project {
        let diagnostic = Diagnostic::error("WL662", "the two runs are of different projects");
        return Err(AppError::new(ErrorKind::Usage, diagnostic.help("compare runs of one repository")));
    }
    crate::history::diff(&installation.service(caller, &first.project)?, &first, &second).await
}

/// A review in a list.
pub struct ReviewSummary {
    pub run: RunSummary,
    pub row: ReviewRow,
}

/// Reviews of a project in a state (in any when `None`) that were made before the run `before`, newest first.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn review_list(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    state: Option<ReviewState>,
    before: Option<&RunId>,
    limit: u32,
) -> AppResult<Vec<ReviewSummary>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let store = installation.store(caller, project);
    let mut found = Vec::new();
    for (id, _) in store.review_list(state, before, limit).await? {
        let Some(row) = store.review_get(&id).await? else { continue };
        let record = store.run_get(&id).await?;
        found.push(ReviewSummary { run: summary(record), row });
    }
    Ok(found)
}

/// A run without its plan.
pub(super) fn summary(record: RunRecord) -> RunSummary {
    RunSummary {
        id: record.id,
        project: record.project,
        kind: record.plan.kind,
        title: record.plan.title,
        state: record.state,
        cancel_requested: record.cancel_requested,
        actor: record.actor,
        created_at: record.created_at,
        ended_at: record.ended_at,
        reason: record.reason,
    }
}

/// The log of a step that somebody may read.
#[derive(Debug, Clone)]
pub struct StepLog {
    store: Store,
    run: RunId,
    step: StepId,
}

impl StepLog {
    /// # Errors
    /// There is no such step that the caller may see.
    pub async fn open(installation: &Installation, caller: &Caller, run: &RunId, step: &StepId) -> AppResult<Self> {
        let record = run_planned(installation, caller, run).await?;
        let store = installation.store(caller, &record.project);
        match store.step_get(run, step).await {
            Ok(_) => Ok(Self { store, run: run.clone(), step: step.clone() }),
            Err(StoreError::NotFound { .. }) => {
                let diagnostic = Diagnostic::error("WL841", format!("run {run} has no step `{step}`"));
                let help = format!("`GET /api/v1/runs/{run}` lists its steps");
                Err(AppError::new(ErrorKind::NotFound, diagnostic.help(help)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether nothing will be added to it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn is_ended(&self) -> AppResult<bool> {
        Ok(self.store.step_get(&self.run, &self.step).await?.state.is_final())
    }

    /// From byte `from` on, at most `limit` pieces as they were recorded.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn read(&self, from: u64, limit: u32) -> AppResult<Vec<LogChunk>> {
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        Ok(self.store.log_read(&self.run, &self.step, from, limit).await?)
    }

    /// Its length by now, bytes.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn length(&self) -> AppResult<u64> {
        let end = self.store.log_end(&self.run, &self.step).await?;
        Ok(u64::try_from(end).unwrap_or_default())
    }
}
