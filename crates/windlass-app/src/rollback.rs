//! Going back: what an apply applied, reviewed and applied again as it was applied before.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::{Detail, Project, git_error};
use crate::service::Service;
use std::collections::BTreeMap;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::{Affected, AffectedKind, Reason};
use windlass_model::rollout::OnFailure;
use windlass_model::run::{RunRecord, StepState};
use windlass_model::stack_plan::{ApplyInput, ApplyWork, StackWork, apply_step, driver, stack_works};
use windlass_store::RunFilter;

/// The work of taking every instance that the run began to apply back to the commit that was applied to it before.
pub async fn works(service: &Service, run: &RunId) -> AppResult<Vec<StackWork>> {
    let record = service.store.run_get(run).await?;
    if record.plan.kind != "apply" || !record.state.is_final() {
        let summary = format!("run {run} is a {} that is {}", record.plan.kind, record.state.as_str());
        let help = "only an apply that has ended can be rolled back; `windlass runs` lists them";
        return Err(AppError::new(ErrorKind::Usage, Diagnostic::error("WL669", summary).help(help)));
    }
    let begun = begun(service, &record).await?;
    let mut before = last_commits(service, run, &begun).await?;
    let mut by_commit: BTreeMap<String, Vec<Affected>> = BTreeMap::new();
    let mut first_time: Vec<InstanceId> = Vec::new();
    for instance in begun {
        let Some((earlier, commit)) = before.remove(&instance) else {
            first_time.push(instance);
            continue;
        };
        let short = commit.get(..12).unwrap_or(&commit).to_owned();
        let cause = format!("run {earlier}");
        by_commit.entry(commit).or_default().push(Affected {
            stack: instance.stack(),
            instance,
            kind: AffectedKind::Changed,
            reasons: vec![Reason { cause, change: format!("applied commit {short} before"), chain: Vec::new() }],
        });
    }
    if !first_time.is_empty() {
        let names = first_time.iter().map(|id| id.as_str()).collect::<Vec<_>>();
        let summary =
            format!("{} was never applied before run {run}: there is nothing to go back to", names.join(", "));
        let help = format!("take it away with `windlass destroy {}`, or mend it", names.join(" "));
        return Err(AppError::new(ErrorKind::Refused, Diagnostic::error("WL669", summary).help(help)));
    }
    let mut works = Vec::new();
    for (commit, affected) in by_commit {
        let tree = service.checkout.git()?.tree(&commit).map_err(|e| git_error(&e))?;
        let project = Project::load_with(&tree, Detail::Outputs).sound()?;
        let mut found = stack_works(&project.repository, &affected);
        found.iter_mut().for_each(|work| work.source = Some(commit.clone()));
        works.extend(found);
    }
    Ok(works)
}

/// The instances that the run began to apply, in its order.
async fn begun(service: &Service, record: &RunRecord) -> AppResult<Vec<InstanceId>> {
    let attempts: BTreeMap<_, _> =
        service.store.step_list(&record.id).await?.into_iter().map(|step| (step.id, step.attempt)).collect();
    let applies = record.plan.steps.iter().filter(|s| s.work.driver == driver::APPLY);
    applies
        .filter(|spec| attempts.get(&spec.id).is_some_and(|attempt| *attempt > 0))
        .map(|spec| Ok(crate::steps::input::<ApplyWork>(&spec.work.input)?.work.instance.id))
        .collect()
}

/// Which run applied each of these instances last before `run`, and which commit.
async fn last_commits(
    service: &Service,
    run: &RunId,
    wanted: &[InstanceId],
) -> AppResult<BTreeMap<InstanceId, (RunId, String)>> {
    let mut found = BTreeMap::new();
    let filter = RunFilter { kind: Some("apply".into()), ..Default::default() };
    for record in service.store.run_list(&filter, 10_000).await?.into_iter().filter(|record| record.id < *run) {
        if found.len() == wanted.len() {
            break;
        }
        let input: ApplyInput = crate::steps::input(&record.plan.input)?;
        for step in service.store.step_list(&record.id).await?.iter().filter(|s| s.state == StepState::Succeeded) {
            if let Some(instance) = wanted.iter().find(|id| apply_step(id) == step.id) {
                found.entry(instance.clone()).or_insert_with(|| (record.id.clone(), input.head.commit.clone()));
            }
        }
    }
    Ok(found)
}

/// Whether a rollout of the apply says that a failure is answered by going back.
pub fn is_wanted(record: &RunRecord) -> AppResult<bool> {
    for spec in record.plan.steps.iter().filter(|s| s.work.driver == driver::APPLY) {
        let work: ApplyWork = crate::steps::input(&spec.work.input)?;
        if work.work.rollout.is_some_and(|(_, rollout)| rollout.on_failure == OnFailure::Rollback) {
            return Ok(true);
        }
    }
    Ok(false)
}
