//! Steps of a review: format, plan one instance, put the document together.

use super::checks::ChecksOutput;
use super::plan::{Judged, PlanKind, Planned, plan_instance};
use super::providers::ProvidersOutput;
use super::{failed, input};
use crate::error::AppResult;
use crate::service::Service;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_engine::{Executor, StepContext, StepResult};
use windlass_model::binding::Binding;
use windlass_model::id::InstanceId;
use windlass_model::review::{AffectedKind, Finding, Outcome, StackReview, Stage};
use windlass_model::risk;
use windlass_model::run::StepState;
use windlass_model::stack_plan::{ReviewInput, StackWork, checks_step, plan_step, providers_step};

/// What the plan step of one instance leaves for its dependants and for the document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanOutput {
    pub outcome: Outcome,
    pub findings: Vec<Finding>,
    /// Names of outputs that change, for the dependants.
    pub changed_outputs: Vec<String>,
    #[serde(default)]
    pub binding: Option<Binding>,
    /// By address of a resource that changes: the resources of the same plan that refer to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dependants: BTreeMap<String, Vec<String>>,
}

impl PlanOutput {
    fn without_plan(outcome: Outcome) -> Self {
        Self { outcome, findings: Vec::new(), changed_outputs: Vec::new(), binding: None, dependants: BTreeMap::new() }
    }
}

/// init → plan → show → effect → policy of one instance.
pub struct Plan(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Plan {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.plan(cx).await {
            Ok(Some(output)) => super::succeeded(&output),
            Ok(None) => StepResult::Cancelled,
            Err(error) => failed(error),
        }
    }
}

impl Plan {
    async fn plan(&self, cx: &StepContext) -> AppResult<Option<PlanOutput>> {
        let service = &self.0;
        let work: StackWork = input(&cx.input)?;
        let run: ReviewInput = input(&cx.run_input)?;
        let upstream = match upstream_results(cx, &work)? {
            Ok(upstream) => upstream,
            Err(because) => {
                return Ok(Some(PlanOutput::without_plan(Outcome::Skipped { because })));
            }
        };
        // Data sources whose upstream will output something else than its state says now.
        let stale: Vec<_> = work
            .reads
            .iter()
            .filter(|read| {
                upstream.get(&read.from).is_some_and(|u| u.changed_outputs.iter().any(|name| read.consumes(name)))
            })
            .cloned()
            .collect();
        if work.kind == AffectedKind::Dependant && stale.is_empty() {
            return Ok(Some(PlanOutput::without_plan(Outcome::Unaffected)));
        }
        let deciding = service.deciding(run.deciding.as_deref()).await?;
        let kind = if stale.is_empty() { PlanKind::Real } else { PlanKind::Preview(stale) };
        let mut because: Vec<InstanceId> = match &kind {
            PlanKind::Real => Vec::new(),
            PlanKind::Preview(stale) => stale.iter().map(|read| read.from.clone()).collect(),
        };
        because.dedup();
        Ok(match plan_instance(service, cx, &work, &kind, &deciding).await? {
            None => None,
            Some(Planned::Failed { stage, mut diagnostics }) => {
                if stage == Stage::Init {
                    let providers: Option<ProvidersOutput> =
                        cx.upstream.get(&providers_step()).map(input).transpose()?;
                    diagnostics.extend(providers.unwrap_or_default().missing_of(&work.instance.id));
                }
                Some(PlanOutput::without_plan(Outcome::Failed { stage, diagnostics }))
            }
            Some(Planned::Done(judged)) => {
                let Judged { effect, findings, changed_outputs, binding, dependants, .. } = *judged;
                let outcome =
                    if because.is_empty() { Outcome::Planned { effect } } else { Outcome::Preview { effect, because } };
                Some(PlanOutput { outcome, findings, changed_outputs, binding: Some(binding), dependants })
            }
        })
    }
}

/// Results of the upstreams in this run; or the upstream without which this instance cannot be planned.
fn upstream_results(
    cx: &StepContext,
    work: &StackWork,
) -> AppResult<Result<BTreeMap<InstanceId, PlanOutput>, InstanceId>> {
    let mut results = BTreeMap::new();
    for upstream in &work.after {
        let step = plan_step(upstream);
        let Some(value) =
            cx.upstream.get(&step).filter(|_| cx.upstream_states.get(&step) == Some(&StepState::Succeeded))
        else {
            return Ok(Err(upstream.clone()));
        };
        let output: PlanOutput = input(value)?;
        match &output.outcome {
            Outcome::Failed { .. } => return Ok(Err(upstream.clone())),
            Outcome::Skipped { because } => return Ok(Err(because.clone())),
            _ => {}
        }
        results.insert(upstream.clone(), output);
    }
    Ok(Ok(results))
}

/// Puts the document together and stores it; older open reviews of the same branch are superseded.
pub struct Assemble(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Assemble {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.assemble(cx).await {
            Ok(value) => StepResult::Succeeded(value),
            Err(error) => failed(error),
        }
    }
}

impl Assemble {
    async fn assemble(&self, cx: &StepContext) -> AppResult<serde_json::Value> {
        let service = &self.0;
        let run: ReviewInput = input(&cx.run_input)?;
        let record = service.store.run_get(&cx.run).await?;
        let deciding = service.deciding(run.deciding.as_deref()).await?;
        let checks: ChecksOutput = cx.upstream.get(&checks_step()).map(input).transpose()?.unwrap_or_default();
        let history = crate::history::touched(service).await?;
        let mut stacks = Vec::new();
        for step in &record.plan.steps {
            if step.work.driver != windlass_model::stack_plan::driver::PLAN {
                continue;
            }
            let work: StackWork = input(&step.work.input)?;
            let output = match cx.upstream.get(&step.id) {
                Some(value) => input(value)?,
                None => {
                    let reason = service
                        .store
                        .step_get(&cx.run, &step.id)
                        .await?
                        .reason
                        .unwrap_or_else(|| "it did not end".into());
                    PlanOutput::without_plan(Outcome::Failed {
                        stage: Stage::Plan,
                        diagnostics: vec![windlass_model::diagnostic::Diagnostic::error(
                            "WL601",
                            format!("the plan of {} failed: {reason}", work.instance.id),
                        )],
                    })
                }
            };
            let mut findings = output.findings;
            let here = |finding: &&Finding| {
                let file = finding.code.as_ref().map(|span| &*span.file);
                // What has no place speaks of all of it.
                file.is_none_or(|file| work.directories.iter().any(|directory| lies_in(file, directory)))
            };
            findings.extend(checks.findings.iter().filter(here).cloned());
            let risk = output.outcome.effect().filter(|effect| !effect.is_empty()).map(|effect| {
                let protected = deciding.definitions.stacks.iter().any(|d| d.id == work.stack && d.protect);
                let history = history.get(&work.instance.id).cloned().unwrap_or_default();
                risk::rank(effect, &risk::Context { protected, dependants: work.dependants, history })
            });
            stacks.push(StackReview {
                risk,
                environments: crate::project::environments_of(&deciding.definitions, &work.instance.id),
                instance: work.instance.id,
                kind: work.kind,
                reasons: work.reasons,
                after: work.after,
                owner: work.owner,
                outcome: output.outcome,
                findings,
                binding: output.binding,
                readers: Vec::new(),
                dependants: output.dependants,
            });
        }
        let mut review = crate::review::assemble(&cx.run, run, stacks, deciding.policies.digest.clone());
        crate::decisions::conclude(service, &mut review, &deciding).await?;
        if review.effects().any(|effect| !effect.is_empty()) {
            // Who reads from whom is told where it is known; a tree that cannot be read any more takes nothing from the review.
            if let Ok(project) = service.checkout.project() {
                review.add_readers(&project.repository);
            }
        }
        service.store.review_put(&review).await?;
        Ok(serde_json::json!({ "verdict": review.verdict, "effect": review.effect_digest }))
    }
}

fn lies_in(file: &str, directory: &str) -> bool {
    let parent = file.rsplit_once('/').map_or(".", |(parent, _)| parent);
    parent == directory || (parent == "." && directory.is_empty())
}
