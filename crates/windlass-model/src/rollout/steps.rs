//! Waves as steps of a run: after the applies of a wave comes a step that counts failures and soaks, after it the gates, and
//! after those the first steps of the next wave.

use super::{Gate, Wave};
use crate::Micros;
use crate::id::{InstanceId, StepId};
use crate::place::Place;
use crate::run::{Cost, Flow, Repeat, Retry, StepSpec, StepState, Steps, When, Work};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names of the executors.
pub mod driver {
    /// Input [`super::SoakInput`]; the answer is [`super::soak_answer`].
    pub const SOAK: &str = "rollout.soak";
    /// Input [`super::GateInput`]; when to ask again is [`super::gate_wait`].
    pub const GATE: &str = "rollout.gate";
}

/// The steps an instance has in the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSteps {
    /// What has to wait for the wave before, e.g. its plan.
    pub first: StepId,
    /// Its apply.
    pub apply: StepId,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSteps {
    /// Soaks and gates, in order.
    pub steps: Vec<StepSpec>,
    /// What steps of instances have to wait for in addition; all with [`When::Succeeded`].
    pub after: BTreeMap<StepId, Vec<StepId>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoakInput {
    pub wave: usize,
    pub name: String,
    /// Microseconds.
    pub soak: Micros,
    pub max_failures: u32,
    /// Of the wave.
    pub instances: BTreeMap<InstanceId, InstanceSteps>,
    /// Soak and gates of the wave before: when one of them did not succeed, this wave did not take place.
    pub before: Vec<StepId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateInput {
    pub wave: usize,
    pub name: String,
    pub gate: Gate,
    /// Microseconds, from the end of the soak.
    pub gate_timeout: Micros,
    /// Its end is when the gate begins.
    pub soak: StepId,
    /// Of the wave.
    pub instances: BTreeMap<InstanceId, InstanceSteps>,
    /// Where a command runs: where the programs of the wave's first instance do.
    #[serde(default)]
    pub place: Place,
}

impl GateInput {
    /// Nothing was applied in the wave, so there is nothing to judge: the gate passes without being asked.
    pub fn is_moot(&self, steps: &Steps) -> bool {
        !self.instances.values().any(|own| steps.get(&own.apply).is_some_and(|s| s.state == StepState::Succeeded))
    }
}

/// What a soak step does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SoakAnswer {
    /// Succeeds.
    Passed,
    /// Waits.
    Until(Micros),
    /// Fails, so that the waves after it are skipped.
    Failed(String),
}

/// When a gate is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateWait {
    Now,
    Until(Micros),
    /// It held too long: a person decides.
    Ask,
}

pub fn soak_step(rollout: &str, wave: usize) -> StepId {
    StepId::new(format!("soak:{rollout}/{}", wave + 1))
}

pub fn gate_step(rollout: &str, wave: usize, gate: usize) -> StepId {
    StepId::new(format!("wave-gate:{rollout}/{}.{}", wave + 1, gate + 1))
}

/// The steps that chain the waves of the rollout called `name`, which makes their ids different from another's. Instances without an entry in `instances` have no steps in the run and are left out; a wave
/// with none of them gets no steps. `placed` says where the programs of an instance run, and which labels a worker needs for that.
///
/// A soak comes after all applies of its wave however they ended, because some may fail; everything after it comes only when it
/// succeeded. The engine skips the waves after a failed soak or gate: that is the halt.
pub fn to_steps(
    name: &str,
    waves: &[Wave],
    gate_timeout: Micros,
    max_failures: u32,
    instances: &BTreeMap<InstanceId, InstanceSteps>,
    placed: impl Fn(&InstanceId) -> (Place, Vec<String>),
) -> RolloutSteps {
    let mut steps = Vec::new();
    let mut after: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
    let mut before: Vec<StepId> = Vec::new();
    for (index, wave) in waves.iter().enumerate() {
        let of_wave: BTreeMap<InstanceId, InstanceSteps> = wave
            .instances
            .iter()
            .filter_map(|instance| Some((instance.clone(), instances.get(instance)?.clone())))
            .collect();
        if of_wave.is_empty() {
            continue;
        }
        if !before.is_empty() {
            for own in of_wave.values() {
                after.entry(own.first.clone()).or_default().extend(before.iter().cloned());
            }
        }
        let soak = soak_step(name, index);
        let waits = of_wave.values().map(|own| own.apply.clone()).chain(before.iter().cloned()).collect();
        let input = SoakInput {
            wave: index,
            name: wave.name.clone(),
            soak: wave.soak,
            max_failures,
            instances: of_wave.clone(),
            before,
        };
        let title = format!("Wave {} settles", wave.name);
        steps.push(step(soak.clone(), title, waits, When::Always, driver::SOAK, &input, None));
        before = vec![soak.clone()];
        let (place, labels) = of_wave.keys().next().map(&placed).unwrap_or_default();
        for (number, gate) in wave.gates.iter().enumerate() {
            let input = GateInput {
                wave: index,
                name: wave.name.clone(),
                gate: gate.clone(),
                gate_timeout,
                soak: soak.clone(),
                instances: of_wave.clone(),
                place: place.clone(),
            };
            let id = gate_step(name, index, number);
            let title = format!("Gate of wave {}: {}", wave.name, gate.title());
            // The probe keeps its own time; this is for one that does not come back.
            let timeout = gate.timeout().map(|timeout| timeout.saturating_add(MINUTE));
            let gate = step(id.clone(), title, vec![soak.clone()], When::Succeeded, driver::GATE, &input, timeout);
            steps.push(StepSpec { labels: labels.clone(), ..gate });
            before.push(id);
        }
    }
    RolloutSteps { steps, after }
}

const MINUTE: Micros = 60_000_000;

fn step(
    id: StepId,
    title: String,
    after: Vec<StepId>,
    when: When,
    driver: &str,
    input: &impl Serialize,
    timeout: Option<Micros>,
) -> StepSpec {
    StepSpec {
        id,
        title,
        after,
        when,
        // Plain data with text keys: serialising it cannot fail.
        work: Work { driver: driver.into(), input: serde_json::to_value(input).unwrap_or_default() },
        repeat: Repeat::Idempotent,
        timeout,
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    }
}

/// What a soak step does at `now`, from the records of the run's steps. An instance that was skipped from its first step on waited
/// for one that failed: that one counts, not this. A wave in which nothing was applied does not soak.
pub fn soak_answer(input: &SoakInput, steps: &Steps, now: Micros) -> SoakAnswer {
    let state = |id: &StepId| steps.get(id).map(|step| step.state);
    if let Some(id) = input.before.iter().find(|id| state(id) != Some(StepState::Succeeded)) {
        return SoakAnswer::Failed(format!("{id}, before wave {}, did not pass", input.name));
    }
    let failed: Vec<String> = input
        .instances
        .iter()
        .filter_map(|(instance, own)| {
            let cause = match (state(&own.apply)?, state(&own.first)?) {
                (StepState::Skipped, StepState::Skipped) => return None,
                (StepState::Skipped, StepState::Failed | StepState::Cancelled) => &own.first,
                (StepState::Failed | StepState::Cancelled | StepState::Skipped, _) => &own.apply,
                _ => return None,
            };
            let step = steps.get(cause)?;
            Some(format!("{instance}: {}", step.reason.as_deref().unwrap_or(step.state.as_str())))
        })
        .collect();
    if u32::try_from(failed.len()).map_or(true, |count| count > input.max_failures) {
        let (count, all) = (failed.len(), input.instances.len());
        return SoakAnswer::Failed(format!("{count} of {all} in wave {} failed: {}", input.name, failed.join("; ")));
    }
    let applied = input.instances.values().filter_map(|own| steps.get(&own.apply));
    let last = applied.filter(|step| step.state == StepState::Succeeded).filter_map(|step| step.ended_at).max();
    match last.map(|at| at.saturating_add(input.soak)) {
        Some(until) if now < until => SoakAnswer::Until(until),
        _ => SoakAnswer::Passed,
    }
}

/// When a gate that has not passed is asked (again). `since` is when its time began, `answered` when it last said hold.
pub fn gate_wait(gate: &Gate, timeout: Micros, since: Micros, answered: Option<Micros>, now: Micros) -> GateWait {
    let end = since.saturating_add(timeout);
    if now >= end {
        return GateWait::Ask;
    }
    match answered {
        None => GateWait::Now,
        Some(at) => match gate.interval().map_or(end, |interval| at.saturating_add(interval).min(end)) {
            until if until <= now => GateWait::Now,
            until => GateWait::Until(until),
        },
    }
}
