//! How far the apply of a review has come.

use crate::run::{RunRecord, RunState, StepRecord, StepSpec, StepState};
use crate::stack_plan::{ApplyWork, StackWork, driver};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The last apply of a review, as a reader wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// Instances that are applied, and those that were to be.
    pub done: usize,
    pub all: usize,
    /// Where it stopped first, e.g. `aws/network[tokyo]`.
    pub stopped_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Applying,
    /// It goes on when a time has come, or when somebody has done something.
    Waiting,
    Applied,
    /// It failed.
    Stopped,
    Cancelled,
}

impl Progress {
    /// Of an apply run with its steps, whose outputs are not needed.
    pub fn of(record: &RunRecord, steps: &[StepRecord]) -> Self {
        let states: HashMap<&str, StepState> = steps.iter().map(|step| (step.id.as_str(), step.state)).collect();
        let state = |spec: &StepSpec| states.get(spec.id.as_str()).copied();
        let applies = || record.plan.steps.iter().filter(|spec| spec.work.driver == driver::APPLY);
        let broken = |spec: &&StepSpec| matches!(state(spec), Some(StepState::Failed | StepState::Unknown));
        Self {
            phase: match record.state {
                RunState::Queued | RunState::Running => Phase::Applying,
                RunState::Waiting => Phase::Waiting,
                RunState::Succeeded => Phase::Applied,
                RunState::Failed | RunState::Abandoned => Phase::Stopped,
                RunState::Cancelled => Phase::Cancelled,
            },
            done: applies().filter(|spec| state(spec) == Some(StepState::Succeeded)).count(),
            all: applies().count(),
            stopped_at: record.plan.steps.iter().find(broken).map(name),
        }
    }

    /// e.g. `Applying: 3 of 9 instances`.
    pub fn title(&self) -> String {
        let all = format!("{} {}", self.all, if self.all == 1 { "instance" } else { "instances" });
        let so_far = format!("{} of {all}", self.done);
        match (self.phase, &self.stopped_at) {
            (Phase::Applying, _) => format!("Applying: {so_far}"),
            (Phase::Waiting, _) => format!("Waiting, with {so_far} applied"),
            (Phase::Applied, _) => format!("Applied: {all}"),
            (Phase::Stopped, Some(at)) => format!("Stopped at {at}, with {so_far} applied"),
            (Phase::Stopped, None) => format!("Stopped, with {so_far} applied"),
            (Phase::Cancelled, _) => format!("Cancelled, with {so_far} applied"),
        }
    }
}

/// The instance that a step works on, or else what the step is called.
fn name(spec: &StepSpec) -> String {
    let input = &spec.work.input;
    let work = ApplyWork::deserialize(input).map(|apply| apply.work).or_else(|_| StackWork::deserialize(input));
    work.map_or_else(|_| spec.title.clone(), |work| work.instance.id.to_string())
}
