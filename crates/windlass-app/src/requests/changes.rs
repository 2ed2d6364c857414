//! Changes of a forge as lists show them, and which commits environments run.

use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::Installation;
use crate::project::environments_of;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_model::change::{Budget, ChangeFilter, Check};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::run::StepState;
use windlass_model::stack_plan::ApplyInput;
use windlass_store::ChangeRow;

/// Changes of a project (all when `filter` is `None`) with a number below `before`, the newest first.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn change_list(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    filter: Option<ChangeFilter>,
    before: Option<u64>,
    limit: u32,
) -> AppResult<Vec<ChangeRow>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    Ok(installation.store(caller, project).change_list(filter, before, limit).await?)
}

/// One change.
///
/// # Errors
/// There is none that the caller may see.
pub async fn change_show(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    number: u64,
) -> AppResult<ChangeRow> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let row = installation.store(caller, project).change_get(number).await?;
    row.filter(|row| row.known.change.is_some()).ok_or_else(|| {
        let diagnostic = Diagnostic::error("WL787", format!("the project {project} has no change {number}"));
        AppError::new(ErrorKind::NotFound, diagnostic.help("compare the number with the forge"))
    })
}

/// How many requests the forge of a project still took when it was asked last; `None` where it does not say.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn budget(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Option<Budget>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    crate::changes::budget(&installation.store(caller, project)).await
}

/// How a change stands as a whole, as its status was last set.
pub fn standing(row: &ChangeRow) -> Option<&Check> {
    row.known.said.checks.iter().find(|check| check.name == windlass_model::change::tell::NAME)
}

/// A commit that instances of an environment run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsCommit {
    pub commit: String,
    /// Those that were applied last from it, sorted.
    pub instances: Vec<InstanceId>,
    /// When the last of them was applied.
    pub at: Micros,
}

/// What every environment of a project runs: the commits that its instances were applied from last, the newest apply first. What
/// was never applied from here is not there.
///
/// # Errors
/// There is no such project that the caller may see, or its definitions are not known yet.
pub async fn environment_list(
    installation: &Installation,
    caller: &Caller,
    project: &str,
) -> AppResult<Vec<(String, Vec<RunsCommit>)>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let store = installation.store(caller, project);
    let mut commits: HashMap<RunId, Option<String>> = HashMap::new();
    let mut found: BTreeMap<String, BTreeMap<String, RunsCommit>> = BTreeMap::new();
    for applied in store.applied_last().await? {
        if applied.state != StepState::Succeeded {
            continue;
        }
        let Some(instance) = applied.step.as_str().strip_prefix("apply:").map(InstanceId::new) else { continue };
        if !commits.contains_key(&applied.run) {
            let record = store.run_planned(&applied.run).await?;
            let input = ApplyInput::deserialize(&record.plan.input).ok();
            commits.insert(applied.run.clone(), input.map(|input| input.head.commit));
        }
        let Some(Some(commit)) = commits.get(&applied.run) else { continue };
        let at = applied.ended_at.unwrap_or(applied.started_at);
        for environment in environments_of(&good.deciding.definitions, &instance) {
            let of = found.entry(environment).or_default().entry(commit.clone());
            let runs = of.or_insert_with(|| RunsCommit { commit: commit.clone(), instances: Vec::new(), at });
            runs.instances.push(instance.clone());
            runs.at = runs.at.max(at);
        }
    }
    let sorted = |(name, commits): (String, BTreeMap<String, RunsCommit>)| {
        let mut commits: Vec<RunsCommit> = commits.into_values().collect();
        commits.iter_mut().for_each(|runs| runs.instances.sort());
        commits.sort_by_key(|runs| std::cmp::Reverse(runs.at));
        (name, commits)
    };
    Ok(found.into_iter().map(sorted).collect())
}
