//! How the stacks of a project are: what is known of all instances, and everything about one stack.

use super::places;
use super::visible::why_not;
use crate::caller::{Caller, not_found};
use crate::drift::Looked;
use crate::error::{AppResult, internal};
use crate::installation::Installation;
use crate::locks::LockView;
use crate::repositories::Good;
use crate::steps::apply::Prepared;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use windlass_model::access::{Permission, Subject};
use windlass_model::drift::Record;
use windlass_model::effect::EffectSummary;
use windlass_model::id::{InstanceId, StackId};
use windlass_model::journal::Quarantine;
use windlass_model::run::StepState;
use windlass_model::stack_plan::{apply_step, plan_step};
use windlass_store::AppliedRow;

/// What is known of all instances of a project.
pub struct States {
    pub good: Arc<Good>,
    pub quarantines: BTreeMap<InstanceId, Quarantine>,
    pub looked: HashMap<InstanceId, Looked>,
    /// The last apply of each that was ever begun.
    pub applied: HashMap<InstanceId, AppliedRow>,
}

/// How an instance is; what is worst goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Quarantined,
    Failed,
    Applying,
    Drifted,
    InSync,
    Unchecked,
    NeverApplied,
}

impl States {
    pub fn of(&self, instance: &InstanceId) -> State {
        let (applied, looked) = (self.applied.get(instance), self.looked.get(instance));
        // What was looked at before the last apply says nothing about what that left.
        let fresh =
            looked.filter(|looked| applied.and_then(|row| row.ended_at).is_none_or(|ended| looked.looked_at >= ended));
        match applied.map(|row| row.state) {
            _ if self.quarantines.contains_key(instance) => State::Quarantined,
            Some(StepState::Failed | StepState::Unknown) => State::Failed,
            Some(StepState::Running | StepState::Waiting) => State::Applying,
            applied => match (fresh, applied) {
                (Some(looked), _) if looked.since.is_some() => State::Drifted,
                (Some(_), _) => State::InSync,
                (None, Some(_)) => State::Unchecked,
                (None, None) => State::NeverApplied,
            },
        }
    }
}

/// The states of all instances of a project.
///
/// # Errors
/// There is no such project that the caller may see, or the database cannot be read.
pub async fn states(installation: &Installation, caller: &Caller, project: &str) -> AppResult<States> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let service = installation.service(caller, project)?;
    let quarantines = crate::recover::quarantine_list(&service).await?;
    let looked = crate::drift::looked(&service).await?;
    let applied = service.store.applied_last().await?;
    let instance = |row: &AppliedRow| Some(InstanceId::new(row.step.as_str().strip_prefix("apply:")?));
    Ok(States {
        good,
        quarantines: quarantines.into_iter().map(|one| (one.instance.clone(), one)).collect(),
        looked: looked.into_iter().map(|one| (one.instance.clone(), one)).collect(),
        applied: applied.into_iter().filter_map(|row| Some((instance(&row)?, row))).collect(),
    })
}

/// What looking for drift found last, in full; of those that were looked at.
///
/// # Errors
/// There is no such project that the caller may see, or the database cannot be read.
pub async fn drift_records(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    instances: &[InstanceId],
) -> AppResult<Vec<Record>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let store = installation.store(caller, project);
    let mut found = Vec::new();
    for instance in instances {
        if let Some(text) = store.kv_get(crate::drift::SCOPE, instance.as_str()).await? {
            found.push(serde_json::from_str(&text).map_err(internal)?);
        }
    }
    Ok(found)
}

/// An apply of an instance, with what it did.
pub struct AppliedView {
    pub instance: InstanceId,
    pub row: AppliedRow,
    /// Of the plan that was applied, as far as it is known.
    pub effect: Option<EffectSummary>,
}

/// Everything about one stack that is no part of its definition.
pub struct StackView {
    /// Of its instances alone.
    pub states: States,
    /// Of each instance in the order of its definition, where it was looked at.
    pub drift: Vec<Record>,
    /// Newest first.
    pub history: Vec<AppliedView>,
    pub history_total: usize,
    /// Queues of its instances.
    pub locks: Vec<LockView>,
    /// Why the caller may not; `None` when they may.
    pub review: Option<String>,
    pub check: Option<String>,
    pub unlock: Option<String>,
    pub recover: Option<String>,
}

/// How many applies a stack shows.
const HISTORY: u32 = 20;

/// One stack.
///
/// # Errors
/// There is none that the caller may see, or the database cannot be read.
pub async fn stack_show(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    stack: &StackId,
) -> AppResult<StackView> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let found = good.project.repository.stack(stack).ok_or_else(|| not_found("stack", stack.as_str()))?;
    let service = installation.service(caller, project)?;
    let instances: Vec<InstanceId> = found.instances.iter().map(|instance| instance.id.clone()).collect();
    let drift = drift_records(installation, caller, project, &instances).await?;
    let quarantines = crate::recover::quarantine_list(&service).await?;
    let looked = drift.iter().map(Looked::of);
    let mut states = States {
        quarantines: quarantines.into_iter().map(|one| (one.instance.clone(), one)).collect(),
        looked: looked.map(|one| (one.instance.clone(), one)).collect(),
        applied: HashMap::new(),
        good: good.clone(),
    };
    let (mut history, mut history_total) = (Vec::new(), 0);
    for instance in &instances {
        let (rows, total) = service.store.applied_of(&apply_step(instance), HISTORY).await?;
        history_total += total;
        states.applied.extend(rows.first().map(|row| (instance.clone(), row.clone())));
        history.extend(rows.into_iter().map(|row| AppliedView { instance: instance.clone(), row, effect: None }));
    }
    history.sort_by(|a, b| b.row.run.cmp(&a.row.run));
    history.truncate(HISTORY as usize);
    for one in &mut history {
        let step = service.store.step_get(&one.row.run, &plan_step(&one.instance)).await?;
        let prepared = step.output.and_then(|output| Prepared::deserialize(&output).ok());
        one.effect = prepared.map(|prepared| prepared.effect.summary());
    }
    let own = |name: &str| instances.iter().any(|id| name.strip_prefix("stack:") == Some(id.as_str()));
    let locks = crate::locks::lock_list_of(&service, own).await?;
    let subject = Subject::of(project, "stack", stack.as_str(), places(&good, &instances));
    let why = |permission| why_not(installation, caller, permission, &subject);
    Ok(StackView {
        review: why(Permission::ReviewCreate).await?,
        check: why(Permission::DriftCheck).await?,
        unlock: why(Permission::LockTakeAway).await?,
        recover: why(Permission::StackRecover).await?,
        states,
        drift,
        history,
        history_total,
        locks,
    })
}
