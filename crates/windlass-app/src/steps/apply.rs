//! Steps of an apply: plan again and compare, wait for approval where the effect moved, apply, record the end.

use super::plan::{Judged, PlanKind, Planned, plan_instance, purpose};
use super::{failed, input};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use windlass_drivers::terraform::plan_file::Opened;
use windlass_engine::{Executor, Probe, StepContext, StepResult};
use windlass_model::Micros;
use windlass_model::binding::{Binding, REVIEW_EXPIRES, moved};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::effect::{Difference, Effect, matches_preview, remaining_of};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::{Finding, Level};
use windlass_model::stack_plan::{ApplyInput, ApplyWork, apply_step, driver, plan_step};

/// What [`Prepare`] leaves for the gate and the apply.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    /// The artefact with the sealed plan file.
    pub plan: String,
    pub binding: Binding,
    pub effect: Effect,
    pub effect_digest: String,
    /// Why it is not what was reviewed, one sentence each; empty when it is.
    pub differences: Vec<String>,
}

/// Plans for real, after the upstreams were applied, and compares with what was reviewed.
pub struct Prepare(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Prepare {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match prepare(&self.0, cx, Compare::Review).await {
            Ok(Some(prepared)) => super::succeeded(&prepared),
            Ok(None) => StepResult::Cancelled,
            Err(error) => failed(error),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    /// All of the reviewed effect, or what an earlier apply of the same review left of it.
    Review,
    /// What is left after an attempt that did not report its end.
    Remainder,
}

/// A plan that was compared longer ago than this, microseconds, is made again before it is applied: ten minutes.
const FRESH: windlass_model::Micros = 600_000_000;

async fn prepare(service: &Service, cx: &StepContext, compare: Compare) -> AppResult<Option<Prepared>> {
    let ApplyWork { work, reviewed, preview, binding: reviewed_on } = input(&cx.input)?;
    let run: ApplyInput = input(&cx.run_input)?;
    crate::apply::checked_out(service, &run.head)?;
    crate::recover::refuse_quarantined(service, std::iter::once(&work.instance.id)).await?;
    let deciding = service.deciding(run.deciding.as_deref()).await?;
    let planned = match plan_instance(service, cx, &work, &PlanKind::Real, &deciding).await? {
        None => return Ok(None),
        Some(Planned::Failed { diagnostics, .. }) => return Err(AppError::many(ErrorKind::Refused, diagnostics)),
        Some(Planned::Done(judged)) => *judged,
    };
    let Judged { effect, findings, artefact, binding, .. } = planned;
    let same = if preview { matches_preview(&reviewed, &effect) } else { equal(&reviewed, &effect) };
    let expires = deciding.definitions.review_expires.unwrap_or(REVIEW_EXPIRES);
    let is_moved = reviewed_on.as_ref().is_some_and(|reviewed| !moved(reviewed, &binding, false, expires).is_empty());
    // Only when something is not as it was it matters whether an earlier attempt did it.
    let again = compare == Compare::Remainder
        || ((is_moved || same.is_err()) && was_attempted(service, &run, &work.instance.id).await?);
    // Findings were waived on the reviewed effect, and on no other.
    let as_reviewed = same.is_ok() || (again && remaining_of(&reviewed, &effect).is_ok());
    let digest = if as_reviewed { reviewed.digest() } else { effect.digest() };
    let findings = crate::waivers::without_waived(service, &run.review, &work.instance.id, &digest, findings).await?;
    let denied: Vec<&Finding> = findings.iter().filter(|f| f.level <= Level::Deny).collect();
    if !denied.is_empty() {
        let diagnostics = denied
            .iter()
            .map(|f| {
                Diagnostic::error("WL602", format!("policy denies {}: {}", work.instance.id, f.message))
                    .help("mend it, commit, and run `windlass review` again")
            })
            .collect();
        return Err(AppError::many(ErrorKind::Refused, diagnostics));
    }
    if let Some(reviewed_on) = reviewed_on.filter(|_| is_moved) {
        refuse_moved(&work.instance.id, &reviewed_on, &binding, again, expires)?;
    }
    let differences = match same {
        Ok(()) => Vec::new(),
        // Nothing left to do, or a part of what was approved after an attempt that ended early: less than what was allowed.
        Err(_) if effect.is_empty() => Vec::new(),
        Err(_) if again && remaining_of(&reviewed, &effect).is_ok() => Vec::new(),
        Err(differences) => differences.into_iter().map(|d| d.to_string()).collect(),
    };
    let effect_digest = effect.digest();
    Ok(Some(Prepared { plan: artefact, binding, effect, effect_digest, differences }))
}

/// Refuses when something that the reviewed plan stands on is not what it was, with the name of each thing that moved.
fn refuse_moved(
    instance: &InstanceId,
    reviewed: &Binding,
    now: &Binding,
    own_state: bool,
    expires: Micros,
) -> AppResult<()> {
    let diagnostics: Vec<Diagnostic> = moved(reviewed, now, own_state, expires)
        .into_iter()
        .map(|moved| {
            Diagnostic::error(moved.code, format!("{instance} is not what was reviewed: {}", moved.what))
                .help(moved.help)
        })
        .collect();
    if diagnostics.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Conflict, diagnostics)) }
}

/// The exact effect, value by value: also what it starts from.
fn equal(reviewed: &Effect, now: &Effect) -> Result<(), Vec<Difference>> {
    if reviewed.digest() == now.digest() {
        return Ok(());
    }
    matches_preview(reviewed, now)?;
    let what = "would start from other values than were reviewed".into();
    Err(vec![Difference { instance: now.instance.clone(), subject: "the plan".into(), what }])
}

/// An earlier apply of the same review got as far as applying this instance.
async fn was_attempted(
    service: &Service,
    run: &ApplyInput,
    instance: &windlass_model::id::InstanceId,
) -> AppResult<bool> {
    for earlier in service
        .store
        .run_list(&windlass_store::RunFilter { kind: Some("apply".into()), ..Default::default() }, 1000)
        .await?
    {
        let same = ApplyInput::deserialize(&earlier.plan.input).is_ok_and(|other| other.review == run.review);
        if same && service.store.step_get(&earlier.id, &apply_step(instance)).await.is_ok_and(|step| step.attempt > 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Lets an unchanged effect through under the review's approval, and waits for a new approval of a changed one.
pub struct Gate(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Gate {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.gate(cx).await {
            Ok(result) => result,
            Err(error) => failed(error),
        }
    }
}

impl Gate {
    async fn gate(&self, cx: &StepContext) -> AppResult<StepResult> {
        let work: ApplyWork = input(&cx.input)?;
        let prepared = prepared(cx, &work)?;
        if prepared.differences.is_empty() {
            return Ok(StepResult::Succeeded(serde_json::json!({ "approval": "of the review" })));
        }
        let missing = crate::apply::missing_approvals(&self.0, &cx.run, &work, &prepared).await?;
        if missing.is_empty() {
            return Ok(StepResult::Succeeded(serde_json::json!({ "approval": "of the changed effect" })));
        }
        let reason = format!(
            "{} is not what was reviewed ({}); {}",
            work.work.instance.id,
            prepared.differences.join("; "),
            missing.join("; ")
        );
        Ok(StepResult::Wait { reason, until: None })
    }
}

fn prepared(cx: &StepContext, work: &ApplyWork) -> AppResult<Prepared> {
    let value = cx
        .upstream
        .get(&plan_step(&work.work.instance.id))
        .ok_or_else(|| crate::error::internal("an apply without its plan"))?;
    input(value)
}

/// Applies the plan file that was compared; after an attempt that ended early, what is left of it.
pub struct Apply(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Apply {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.apply(cx).await {
            Ok(result) => result,
            Err(error) => failed(error),
        }
    }

    /// Asks the world: what would a plan still do?
    async fn probe(&self, cx: &StepContext) -> Probe {
        match self.doubts(cx).await {
            Ok(None) => {}
            Ok(Some(reason)) => return Probe::Unsettled(reason),
            Err(error) => return Probe::Unsettled(format!("could not look at what it left: {error}")),
        }
        match prepare(&self.0, cx, Compare::Remainder).await {
            Ok(Some(left)) if left.effect.is_empty() => {
                Probe::Done(serde_json::json!({ "applied": true, "found": "already in place" }))
            }
            Ok(Some(left)) if left.differences.is_empty() => Probe::Repeat,
            Ok(Some(left)) => Probe::Unsettled(format!(
                "what is left is not part of what was approved: {}",
                left.differences.join("; ")
            )),
            Ok(None) => Probe::Unsettled("cancelled while asking terraform what is left to do".into()),
            Err(error) => Probe::Unsettled(format!("could not ask terraform what is left to do: {error}")),
        }
    }
}

impl Apply {
    /// What an attempt without an end leaves in doubt.
    async fn doubts(&self, cx: &StepContext) -> AppResult<Option<String>> {
        let ApplyWork { work, .. } = input(&cx.input)?;
        let stack = super::terraform::stack_directory(&self.0, cx, &work).await?;
        crate::recover::look(&self.0, cx, &stack, &work).await
    }

    async fn apply(&self, cx: &StepContext) -> AppResult<StepResult> {
        let service = &self.0;
        let work: ApplyWork = input(&cx.input)?;
        let prepared = if cx.attempt > 1 {
            match prepare(service, cx, Compare::Remainder).await? {
                None => return Ok(StepResult::Cancelled),
                Some(left) if left.differences.is_empty() => left,
                Some(left) => {
                    let summary = format!(
                        "what is left of {} is not part of what was approved: {}",
                        work.work.instance.id,
                        left.differences.join("; ")
                    );
                    return Err(AppError::new(
                        ErrorKind::Refused,
                        Diagnostic::error("WL603", summary)
                            .help("run `windlass review` again to see it, and approve that"),
                    ));
                }
            }
        } else {
            let compared = prepared(cx, &work)?;
            let age = service.store.now().await? - compared.binding.made_at;
            // While somebody made up their mind, the world went on.
            if age > FRESH || !compared.differences.is_empty() {
                match same_again(service, cx, &work, &compared).await? {
                    None => return Ok(StepResult::Cancelled),
                    Some(fresh) => fresh,
                }
            } else {
                compared
            }
        };
        if prepared.effect.is_empty() {
            return Ok(StepResult::Succeeded(serde_json::json!({ "applied": false, "found": "nothing to do" })));
        }
        let instance = &work.work.instance.id;
        let purpose = purpose(&cx.run, instance, &prepared.effect_digest, &prepared.binding);
        let sealed = service.store.artefact_read(&prepared.plan).await?;
        let open = super::plan::plan_path(service, cx, instance, cx.attempt).with_extension("tfplan.open");
        let plan = Opened::new(&sealed, open, &service.key, &purpose).map_err(|error| {
            AppError::new(
                ErrorKind::Refused,
                Diagnostic::error(
                    "WL604",
                    format!("the plan file of {} is not the one that was compared: {error}", work.work.instance.id),
                )
                .help("nothing was applied; run `windlass apply` again, which plans anew"),
            )
        })?;
        super::terraform::apply(service, cx, &work.work, plan.path(), &prepared.plan).await
    }
}

/// Plans once more and refuses unless it would still do exactly what was compared (and approved, where it was not what was
/// reviewed).
async fn same_again(
    service: &Service,
    cx: &StepContext,
    work: &ApplyWork,
    compared: &Prepared,
) -> AppResult<Option<Prepared>> {
    let Some(fresh) = prepare(service, cx, Compare::Review).await? else { return Ok(None) };
    let instance = &work.work.instance.id;
    refuse_moved(instance, &compared.binding, &fresh.binding, false, Micros::MAX)?;
    if fresh.effect_digest != compared.effect_digest {
        let summary = format!("{instance} would do something else now than was approved");
        let help = "run `windlass apply` again: it shows what, and asks";
        return Err(AppError::new(ErrorKind::Conflict, Diagnostic::error("WL603", summary).help(help)));
    }
    Ok(Some(fresh))
}

/// Records on the review how its apply ended, and removes the plan files.
pub struct Finish(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Finish {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.finish(cx).await {
            Ok(value) => StepResult::Succeeded(value),
            Err(error) => failed(error),
        }
    }
}

impl Finish {
    async fn finish(&self, cx: &StepContext) -> AppResult<serde_json::Value> {
        let run: ApplyInput = input(&cx.run_input)?;
        let record = self.0.store.run_get(&cx.run).await?;
        let applies: Vec<_> = record.plan.steps.iter().filter(|s| s.work.driver == driver::APPLY).collect();
        let done =
            applies.iter().all(|s| cx.upstream_states.get(&s.id) == Some(&windlass_model::run::StepState::Succeeded));
        let state = if done { windlass_store::ReviewState::Applied } else { windlass_store::ReviewState::Open };
        self.0.store.review_set_state(&run.review, windlass_store::ReviewState::Applying, state).await?;
        remove_files(&self.0, &cx.run);
        Ok(serde_json::json!({ "applied": done }))
    }
}

/// Plan files hold secrets in the clear: they go as soon as no step can need them.
fn remove_files(service: &Service, run: &RunId) {
    // What is left behind is made again or ignored; a failure to remove must not fail an apply that succeeded.
    let _ = std::fs::remove_dir_all(service.directory.run(run));
}
