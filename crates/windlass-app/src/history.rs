//! What was applied to a stack, and how two runs differ.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use crate::steps::apply::Prepared;
use crate::steps::review::PlanOutput;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::effect::{Action, Effect};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::run::{RunRecord, StepState};
use windlass_model::stack_plan::{ApplyInput, ApplyWork, apply_step, driver, plan_step};
use windlass_store::RunFilter;

/// One apply of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    pub run: RunId,
    pub review: RunId,
    pub instance: InstanceId,
    /// Branch and commit.
    pub head: windlass_model::review::Revision,
    pub started_at: Micros,
    pub ended_at: Option<Micros>,
    pub outcome: StepState,
    /// Of a failure.
    pub reason: Option<String>,
    pub effect: Effect,
    /// Who started it, and who approved.
    pub actor: String,
    pub approvals: Vec<String>,
}

/// Applies of a stack (all its instances) or of one instance, newest first.
pub async fn history(service: &Service, name: &str, limit: usize) -> AppResult<Vec<Applied>> {
    let mut found = history_before(service, name, None, limit).await?;
    found.truncate(limit);
    Ok(found)
}

/// As [`history`], of runs before `before`: at least `limit` when there are, and all of each run.
pub async fn history_before(
    service: &Service,
    name: &str,
    before: Option<&RunId>,
    limit: usize,
) -> AppResult<Vec<Applied>> {
    let wanted = InstanceId::new(name.trim_end_matches('/'));
    let filter = RunFilter { kind: Some("apply".into()), before: before.cloned(), ..Default::default() };
    let mut found = Vec::new();
    for record in service.store.run_list(&filter, 10_000).await? {
        let input: ApplyInput = crate::steps::input(&record.plan.input)?;
        for spec in record.plan.steps.iter().filter(|s| s.work.driver == driver::APPLY) {
            let work: ApplyWork = crate::steps::input(&spec.work.input)?;
            let instance = work.work.instance.id.clone();
            if instance != wanted && instance.stack().as_str() != wanted.as_str() {
                continue;
            }
            let step = service.store.step_get(&record.id, &apply_step(&instance)).await?;
            let Some(started_at) = step.started_at else { continue };
            let planned = service.store.step_get(&record.id, &plan_step(&instance)).await?;
            let prepared = planned.output.and_then(|output| Prepared::deserialize(&output).ok());
            let mut approvals = Vec::new();
            for subject in [&input.review, &record.id] {
                let given = service.store.approval_list(subject).await?;
                approvals.extend(given.into_iter().map(|approval| approval.actor.to_string()));
            }
            found.push(Applied {
                run: record.id.clone(),
                review: input.review.clone(),
                head: input.head.clone(),
                started_at,
                ended_at: step.ended_at,
                outcome: step.state,
                reason: step.reason,
                effect: prepared.map_or(work.reviewed, |prepared| prepared.effect),
                actor: record.actor.clone(),
                approvals,
                instance,
            });
        }
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

/// How many resources earlier applies of each instance touched, oldest first, of the last five hundred applies.
pub async fn touched(service: &Service) -> AppResult<BTreeMap<InstanceId, Vec<usize>>> {
    let filter = RunFilter { kind: Some("apply".into()), ..Default::default() };
    let mut runs = service.store.run_list(&filter, 500).await?;
    runs.reverse();
    let mut found: BTreeMap<InstanceId, Vec<usize>> = BTreeMap::new();
    for record in runs {
        for step in service.store.step_list(&record.id).await? {
            let applied = step.state == StepState::Succeeded && step.id.as_str().starts_with("apply:");
            let Some(spec) = record.plan.steps.iter().find(|s| applied && s.id == step.id) else { continue };
            let work: ApplyWork = crate::steps::input(&spec.work.input)?;
            let size = windlass_model::risk::touched(&work.reviewed);
            if size > 0 {
                found.entry(work.work.instance.id).or_default().push(size);
            }
        }
    }
    Ok(found)
}

/// How one resource differs between two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub instance: InstanceId,
    pub address: String,
    pub before: Option<Action>,
    pub after: Option<Action>,
    /// Attributes that change in only one of the two, or otherwise.
    pub attributes: Vec<String>,
}

/// What the effects of two runs do not have in common, in order.
pub async fn diff(service: &Service, before: &RunRecord, after: &RunRecord) -> AppResult<Vec<Changed>> {
    let (before, after) = (effects(service, before).await?, effects(service, after).await?);
    let instances: BTreeSet<&InstanceId> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for instance in instances {
        let changes = |effects: &BTreeMap<InstanceId, Effect>| -> BTreeMap<String, _> {
            let effect = effects.get(instance).into_iter();
            effect.flat_map(|e| &e.changes).map(|c| (c.address.clone(), c.clone())).collect()
        };
        let (old, new) = (changes(&before), changes(&after));
        let addresses: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for address in addresses {
            let (a, b) = (old.get(address), new.get(address));
            if a == b {
                continue;
            }
            let attributes = |change: Option<&windlass_model::effect::ResourceChange>| {
                change.map(|c| c.attributes.clone()).unwrap_or_default()
            };
            let (left, right) = (attributes(a), attributes(b));
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            found.push(Changed {
                instance: instance.clone(),
                address: address.clone(),
                before: a.map(|c| c.action),
                after: b.map(|c| c.action),
                attributes: names.into_iter().filter(|n| left.get(*n) != right.get(*n)).cloned().collect(),
            });
        }
    }
    Ok(found)
}

/// Effects of a review, or of what an apply planned.
async fn effects(service: &Service, record: &RunRecord) -> AppResult<BTreeMap<InstanceId, Effect>> {
    if !matches!(record.plan.kind.as_str(), "review" | "apply") {
        let summary = format!("run {} is a {}: it has no effect to compare", record.id, record.plan.kind);
        return Err(AppError::new(ErrorKind::Usage, Diagnostic::error("WL662", summary)));
    }
    let mut found = BTreeMap::new();
    for step in service.store.step_list(&record.id).await? {
        let Some(output) = step.output else { continue };
        let effect = match record.plan.kind.as_str() {
            "review" => PlanOutput::deserialize(&output).ok().and_then(|output| output.outcome.effect().cloned()),
            _ => Prepared::deserialize(&output).ok().map(|prepared| prepared.effect),
        };
        if let Some(effect) = effect {
            found.insert(effect.instance.clone(), effect);
        }
    }
    Ok(found)
}
