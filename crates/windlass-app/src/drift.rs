//! Drift: looked for by a run, remembered per instance.

use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::review::{chosen, pattern};
use crate::service::Service;
use crate::steps::terraform::{Recorder, driver_error, stack_directory};
use crate::steps::{failed, input};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_drivers::terraform::PlanResult;
use windlass_engine::{Executor, StepContext, StepFailure, StepResult};
use windlass_lang::discovery::{Modules, resource_span};
use windlass_model::Micros;
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::drift::{Drift, Record, Touched, refresh_as_changes, touched};
use windlass_model::effect::{Effect, secrets};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::run::RunPlan;
use windlass_model::stack_plan::{self, StackWork};

pub(crate) const SCOPE: &str = "drift";

/// The scope of what lists show of each record.
const LOOKED: &str = "drift-looked";

/// What looking for drift found last, without what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    pub instance: InstanceId,
    pub looked_at: Micros,
    /// Since when there has been drift; `None` when there is none.
    pub since: Option<Micros>,
}

impl Looked {
    pub fn of(record: &Record) -> Self {
        Self { instance: record.instance.clone(), looked_at: record.looked_at, since: record.since }
    }
}

/// That of each instance that was ever looked at, by instance.
pub async fn looked(service: &Service) -> AppResult<Vec<Looked>> {
    let rows = service.store.kv_list(LOOKED).await?;
    rows.into_iter().map(|(_, text)| serde_json::from_str(&text).map_err(internal)).collect()
}

/// Stores a run that looks at the instances that match one of the patterns; at all when there is none.
pub async fn drift_create(service: &Service, patterns: &[String]) -> AppResult<RunId> {
    let plan = drift_prepare(service, patterns).await?;
    Ok(service.store.run_create(&plan, &service.actor.to_string()).await?)
}

/// As [`drift_create`], without storing it.
pub async fn drift_prepare(service: &Service, patterns: &[String]) -> AppResult<RunPlan> {
    let project = service.checkout.project()?.sound()?;
    let matchers = patterns.iter().map(|p| pattern(p)).collect::<AppResult<Vec<_>>>()?;
    let affected = chosen(&project, |id| {
        matchers.is_empty() || matchers.iter().any(|m| m.is_match(id.as_str()) || m.is_match(id.stack().as_str()))
    });
    if affected.is_empty() {
        let diagnostic = Diagnostic::error("WL903", format!("no instance matches {}", patterns.join(", ")));
        return Err(AppError::new(ErrorKind::NotFound, diagnostic.help("`windlass stacks` lists all of them")));
    }
    let mut works = stack_plan::stack_works(&project.repository, &affected);
    for work in &mut works {
        let definition = project.definitions.stacks.iter().find(|d| d.id == work.stack);
        work.drift_ignore = definition.map(|d| d.drift_ignore.clone()).unwrap_or_default();
        work.labels = crate::project::labels_of(&project.definitions, &work.instance.id);
        work.place = crate::project::place_of(&project.definitions, &work.instance.id)?;
    }
    let locked = crate::steps::providers::locked(service, &works);
    let head = crate::review::head_revision(service.checkout.git()?)?;
    Ok(stack_plan::drift(&works, &locked, &head, &service.costs().await?))
}

/// What is known of each instance that was ever looked at, by instance.
pub async fn records(service: &Service) -> AppResult<Vec<Record>> {
    let rows = service.store.kv_list(SCOPE).await?;
    rows.into_iter().map(|(_, text)| serde_json::from_str(&text).map_err(internal)).collect()
}

/// Looks at one instance.
pub struct Look(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Look {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.look(cx).await {
            Ok(result) => result,
            Err(error) => failed(error),
        }
    }
}

impl Look {
    async fn look(&self, cx: &StepContext) -> AppResult<StepResult> {
        let service = &self.0;
        let work: StackWork = input(&cx.input)?;
        let mut effects = Vec::with_capacity(2);
        for refresh_only in [false, true] {
            match self.effect(cx, &work, refresh_only).await? {
                Ok(effect) => effects.push(effect),
                Err(ended) => return Ok(ended),
            }
        }
        let (Some((refresh, touched)), Some((configuration, _))) = (effects.pop(), effects.pop()) else {
            return Err(internal("two plans without two effects"));
        };
        let mut drift = Drift { configuration, refresh, touched, places: BTreeMap::new(), behind: Vec::new() }
            .settled()
            .without(&work.drift_ignore);
        drift.places = places(service, &work, &drift)?;
        let instance = &work.instance.id;
        let before = record(service, instance).await?;
        let now = service.store.now().await?;
        let after = Record::after(before.clone(), instance, drift, now);
        let text = serde_json::to_string(&after).map_err(internal)?;
        service.store.kv_set(SCOPE, instance.as_str(), &text).await?;
        let text = serde_json::to_string(&Looked::of(&after)).map_err(internal)?;
        service.store.kv_set(LOOKED, instance.as_str(), &text).await?;
        if before.and_then(|record| record.since).is_some() != after.since.is_some() {
            let kind = if after.since.is_some() { "stack.drifted" } else { "stack.drift_ended" };
            cx.events(&[(kind.to_owned(), serde_json::json!({ "instance": instance }))]).await?;
        }
        Ok(StepResult::Succeeded(serde_json::json!({ "drift": after.since.is_some() })))
    }

    async fn effect(
        &self,
        cx: &StepContext,
        work: &StackWork,
        refresh_only: bool,
    ) -> AppResult<Result<(Effect, BTreeMap<String, Touched>), StepResult>> {
        let service = &self.0;
        let stack = stack_directory(service, cx, work).await?;
        let file = service.directory.run(&cx.run).join(format!("{}.tfplan", work.instance.id.file_name()));
        let result = stack.plan_drift(&file, refresh_only, &cx.cancel, &mut Recorder::new(cx)).await;
        // It holds secrets in the clear.
        let _ = std::fs::remove_file(&file);
        let plan = match result.map_err(|e| driver_error(&e))? {
            PlanResult::Cancelled => return Ok(Err(StepResult::Cancelled)),
            PlanResult::Failed { diagnostics, .. } => {
                let first = diagnostics.iter().find(|d| d.severity == Severity::Error);
                let code = first.map_or_else(|| "WL503".to_owned(), |d| d.code.clone());
                let message = first.map_or_else(|| "terraform failed".to_owned(), |d| d.summary.clone());
                return Ok(Err(StepResult::Failed(StepFailure { code, message, retryable: false })));
            }
            PlanResult::Done(plan) => plan.json,
        };
        let mut secrets = secrets(&plan, |data, output| work.is_sensitive(data, output));
        service.secrets_put(&work.instance.id, secrets.iter().cloned());
        secrets.extend(crate::secrets::of_work(work));
        cx.hide(secrets.iter().cloned()).await;
        let touched = touched(&plan, &secrets);
        let plan = if refresh_only { refresh_as_changes(plan) } else { plan };
        let instance = &work.instance.id;
        let effect = Effect::from_plan(instance.clone(), &plan, &service.key, &secrets).map_err(|error| {
            let summary = format!("the plan of {instance} cannot be read: {error}");
            AppError::new(ErrorKind::Internal, Diagnostic::error("WL515", summary))
        })?;
        Ok(Ok((effect, touched)))
    }
}

/// Where the configuration of what drifted stands.
fn places(service: &Service, work: &StackWork, drift: &Drift) -> AppResult<BTreeMap<String, String>> {
    let tree = service.checkout.work_tree()?;
    let modules = Modules::all(&*tree);
    let changes = drift.refresh.changes.iter().chain(&drift.configuration.changes);
    let place = |address: &String| {
        let span = resource_span(&modules, &work.stack, address)?;
        Some((address.clone(), format!("{}:{}", span.file, span.line)))
    };
    Ok(changes.filter_map(|change| place(&change.address)).collect())
}

async fn record(service: &Service, instance: &InstanceId) -> AppResult<Option<Record>> {
    let found = service.store.kv_get(SCOPE, instance.as_str()).await?;
    found.map(|text| serde_json::from_str(&text).map_err(internal)).transpose()
}
