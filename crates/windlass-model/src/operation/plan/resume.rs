//! Going on where a run has failed.

use super::driver;
use crate::id::StepId;
use crate::run::{Flow, OnFailure, Phase, RunPlan, StepRecord, StepSpec, StepState};
use std::collections::{HashMap, HashSet};

/// The plan and the first states of a run that goes on with what one has left, whose plan has all that was added to it. What had
/// succeeded, or was not needed, is there with its outputs. The rest is done (again): what was taken back, with all that came after
/// it; an `each` whose list was made from that, with other members; gates that counted a member which is done again. Admission and
/// approval are asked for anew: they were of that run.
pub fn resume(plan: &RunPlan, steps: &[StepRecord]) -> (RunPlan, Vec<StepRecord>) {
    let records: HashMap<&StepId, &StepRecord> = steps.iter().map(|step| (&step.id, step)).collect();
    let kept = kept(plan, &records);
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
        let after = spec.after.iter().filter(|id| stays(id)).cloned().collect();
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
