//! Going on where a run has failed.

use super::{OperationInput, OperationStep, driver};
use crate::id::StepId;
use crate::operation::Action;
use crate::run::{Flow, OnFailure, Phase, RunPlan, StepRecord, StepSpec, StepState};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The plan and the first states of a run that goes on with what one has left, whose plan has all that was added to it. What had
/// succeeded, or was not needed, is there with its outputs. The rest is done (again): what was taken back, with all that came after
/// it; an `each` whose list was made from that, with other members; gates that counted a member which is done again. Admission and
/// approvals, wherever something is still to be done behind them, are asked for anew: they were of that run, and of who began it.
pub fn resume(input: &OperationInput, plan: &RunPlan, steps: &[StepRecord]) -> (RunPlan, Vec<StepRecord>) {
    let records: HashMap<&StepId, &StepRecord> = steps.iter().map(|step| (&step.id, step)).collect();
    let mut kept = kept(plan, &records);
    let approvals = approvals(input, plan, &kept);
    for id in approvals.values().flatten() {
        kept.remove(id);
    }
    // What is made again by a step that is done again.
    let mut gone: HashSet<&StepId> = HashSet::new();
    for spec in &plan.steps {
        if let Some(by) = &spec.flow.added_by
            && (gone.contains(by) || !kept.contains(by))
        {
            gone.insert(&spec.id);
        }
    }
    let stays = |id: &StepId| !gone.contains(id);
    let spec = |spec: &StepSpec| {
        let mut after: Vec<StepId> = spec.after.iter().filter(|id| stays(id)).cloned().collect();
        // What is between them and this may be done.
        let missing = approvals.get(&spec.id).into_iter().flatten().filter(|id| !spec.after.contains(id));
        after.extend(missing.map(|id| (*id).clone()));
        let behind = spec.flow.behind.iter().filter(|id| stays(id)).cloned().collect();
        StepSpec { after, flow: Flow { behind, ..spec.flow.clone() }, ..spec.clone() }
    };
    let left: Vec<StepSpec> = plan.steps.iter().filter(|spec| stays(&spec.id)).map(spec).collect();
    let record = |spec: &StepSpec| match records.get(&spec.id).filter(|_| kept.contains(&spec.id)) {
        Some(record) => StepRecord { epoch: 0, not_before: None, ..(*record).clone() },
        None => StepRecord::pending(spec.id.clone()),
    };
    let first = left.iter().map(record).collect();
    (RunPlan { steps: left, ..plan.clone() }, first)
}

/// By steps that are to be done, the approvals that they come after, however far; those of a member of an `each` are for its own steps.
fn approvals<'a>(
    input: &OperationInput,
    plan: &'a RunPlan,
    kept: &HashSet<&'a StepId>,
) -> HashMap<&'a StepId, BTreeSet<&'a StepId>> {
    let main = || plan.steps.iter().filter(|spec| spec.flow.phase.is_main());
    let is_approval = |spec: &&StepSpec| {
        let step = OperationStep::deserialize(&spec.work.input).ok();
        let definition = step.as_ref().and_then(|step| input.definition(step));
        spec.work.driver == driver::STEP
            && definition.is_some_and(|definition| matches!(definition.action, Action::Approval(_)))
    };
    // With the `each` that they are of.
    let asked: HashMap<&StepId, Option<&StepId>> =
        main().filter(is_approval).map(|spec| (&spec.id, spec.flow.added_by.as_ref())).collect();
    let mut before: HashMap<&StepId, BTreeSet<&StepId>> = HashMap::new();
    if asked.is_empty() {
        return before;
    }
    // A step comes after those that it waits for.
    for spec in main() {
        let mut found = BTreeSet::new();
        for id in spec.after.iter().chain(&spec.flow.behind) {
            found.extend(asked.get_key_value(id).map(|(id, _)| *id));
            found.extend(before.get(id).into_iter().flatten().copied());
        }
        let ended = match spec.work.driver.as_str() {
            driver::BATCH => spec.flow.added_by.as_ref(),
            driver::GATHER => spec.flow.gathers.as_ref(),
            _ => None,
        };
        found.retain(|id| ended.is_none() || asked[*id] != ended);
        before.insert(&spec.id, found);
    }
    before.retain(|id, _| !kept.contains(id));
    before
}

fn kept<'a>(plan: &'a RunPlan, records: &HashMap<&StepId, &StepRecord>) -> HashSet<&'a StepId> {
    let begun = |id: &StepId| records.get(id).is_some_and(|record| record.has_begun());
    let mut lost: HashSet<&StepId> = HashSet::new();
    for spec in &plan.steps {
        if let Phase::Undo(of) = &spec.flow.phase
            && begun(&spec.id)
        {
            lost.insert(of);
        }
    }
    // A step comes after those that it waits for.
    for spec in plan.steps.iter().filter(|spec| spec.flow.phase.is_main()) {
        if spec.after.iter().any(|id| lost.contains(id)) {
            lost.insert(&spec.id);
        }
    }
    let fine = |spec: &StepSpec| {
        records.get(&spec.id).is_some_and(|record| {
            record.state == StepState::Succeeded
                || record.is_not_needed()
                || record.state == StepState::Failed && spec.flow.on_failure == OnFailure::GoOn
        })
    };
    // An `each` that has ended well is over, with the members that failed.
    let over: HashSet<&StepId> = plan
        .steps
        .iter()
        .filter(|spec| fine(spec) && !lost.contains(&spec.id))
        .filter_map(|spec| spec.flow.gathers.as_ref())
        .collect();
    let mut within: HashSet<&StepId> = HashSet::new();
    let mut kept: HashSet<&StepId> = HashSet::new();
    for spec in plan.steps.iter().filter(|spec| spec.flow.phase.is_main()) {
        let by = spec.flow.added_by.as_ref();
        if by.is_some_and(|by| over.contains(by) || within.contains(by)) {
            within.insert(&spec.id);
            kept.insert(&spec.id);
            continue;
        }
        let asked_anew = [driver::ADMIT, driver::APPROVE].contains(&spec.work.driver.as_str());
        let counts = [driver::BATCH, driver::GATHER].contains(&spec.work.driver.as_str());
        let sound = !counts || spec.after.iter().chain(&spec.flow.behind).all(|id| kept.contains(id));
        if fine(spec) && !lost.contains(&spec.id) && !asked_anew && sound {
            kept.insert(&spec.id);
        }
    }
    kept
}
