//! Going back: what an apply applied, reviewed and applied again as it was applied before.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::history::history;
use crate::project::{Detail, Project, git_error};
use crate::service::Service;
use std::collections::BTreeMap;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::{Affected, AffectedKind, Reason};
use windlass_model::rollout::OnFailure;
use windlass_model::run::{RunRecord, StepState};
use windlass_model::stack_plan::{ApplyWork, StackWork, driver, stack_works};

/// The work of taking every instance that the run began to apply back to the commit that was applied to it before.
pub async fn works(service: &Service, run: &RunId) -> AppResult<Vec<StackWork>> {
    let record = service.store.run_get(run).await?;
    if record.plan.kind != "apply" || !record.state.is_final() {
        let summary = format!("run {run} is a {} that is {}", record.plan.kind, record.state.as_str());
        let help = "only an apply that has ended can be rolled back; `windlass runs` lists them";
        return Err(AppError::new(ErrorKind::Usage, Diagnostic::error("WL669", summary).help(help)));
    }
    let mut by_commit: BTreeMap<String, Vec<Affected>> = BTreeMap::new();
    let mut first_time: Vec<InstanceId> = Vec::new();
    for spec in record.plan.steps.iter().filter(|s| s.work.driver == driver::APPLY) {
        if service.store.step_get(run, &spec.id).await?.attempt == 0 {
            continue;
        }
        let work: ApplyWork = crate::steps::input(&spec.work.input)?;
        let instance = work.work.instance.id;
        let earlier = history(service, instance.as_str(), 10_000).await?.into_iter().find(|applied| {
            applied.instance == instance && applied.run < *run && applied.outcome == StepState::Succeeded
        });
        let Some(earlier) = earlier else {
            first_time.push(instance);
            continue;
        };
        let commit = earlier.head.commit;
        let short = commit.get(..12).unwrap_or(&commit).to_owned();
        let cause = format!("run {}", earlier.run);
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
