//! Runs: an immutable plan of steps, the states that steps and runs go through, and the pure planner that says what comes
//! next.

use crate::Micros;
use crate::id::{RunId, StepId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run will do; never changed once stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// `review`, `apply`, …
    pub kind: String,
    /// One line for people, e.g. `feature/x against main: 4 stacks`.
    pub title: String,
    /// Parameters of the kind, e.g. base and head commit.
    pub input: serde_json::Value,
    pub steps: Vec<StepSpec>,
    /// How long it may take from when it was made, microseconds: then what is left of its main phase is cancelled, and it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Micros>,
    /// What it is a run of among those of its kind: the name of an operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl RunPlan {
    /// The plan with what its steps have added to it: each expansion behind the step that made it.
    #[must_use]
    pub fn expanded(mut self, expansions: &BTreeMap<StepId, Expansion>) -> Self {
        if expansions.is_empty() {
            return self;
        }
        let mut steps = Vec::with_capacity(self.steps.len());
        // Last in, first out: what a step has added comes before what follows it.
        let mut rest: Vec<StepSpec> = self.steps.into_iter().rev().collect();
        while let Some(mut spec) = rest.pop() {
            if let Some(gathered) = spec.flow.gathers.as_ref().and_then(|by| expansions.get(by)) {
                spec.gather(gathered);
            }
            for added in expansions.get(&spec.id).into_iter().flat_map(|expansion| expansion.steps.iter().rev()) {
                rest.push(added.clone().added_by(&spec.id));
            }
            steps.push(spec);
        }
        self.steps = steps;
        self
    }
}

/// Steps that a step adds to its run when it succeeds; recorded together with that.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Expansion {
    pub steps: Vec<StepSpec>,
    /// What the step that [gathers](Flow::gathers) them comes after besides, as [`StepSpec::after`].
    pub after: Vec<StepId>,
    /// What that step also waits for, however it ends, as [`Flow::behind`].
    pub behind: Vec<StepId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    pub id: StepId,
    pub title: String,
    /// Steps that must have ended before.
    pub after: Vec<StepId>,
    pub when: When,
    /// Which executor does it, e.g. `terraform.plan`, and with what.
    pub work: Work,
    pub repeat: Repeat,
    /// Of one attempt, in microseconds.
    pub timeout: Option<Micros>,
    pub retry: Retry,
    /// Named locks held while it runs, e.g. `stack:aws/network[tokyo]`.
    #[serde(default)]
    pub locks: Vec<String>,
    pub cost: Cost,
    /// What the worker that does it has to have, e.g. `production`; where it is empty, a worker for everything else does it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    #[serde(default, skip_serializing_if = "Flow::is_plain")]
    pub flow: Flow,
}

impl StepSpec {
    /// Waits for what was added, too.
    pub(crate) fn gather(&mut self, expansion: &Expansion) {
        self.after.extend(expansion.after.iter().cloned());
        self.flow.behind.extend(expansion.behind.iter().cloned());
    }

    pub(crate) fn added_by(mut self, step: &StepId) -> Self {
        self.flow.added_by = Some(step.clone());
        self
    }
}

/// Where a step stands in its run, beside what it comes after. The default is what steps of reviews and applies are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// Steps that must have ended before, however, whatever [`StepSpec::when`] says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<StepId>,
    /// It also waits for what this step has added to the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gathers: Option<StepId>,
    /// The step that added it to the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_by: Option<StepId>,
}

impl Flow {
    fn is_plain(&self) -> bool {
        is_default(self)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// When a step has its turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Main,
    /// Takes back what this step did or may have done, when all of the main phase has ended and the run has failed or is
    /// cancelled. One after the other, the last step first; a cancel does not stop it.
    Undo(StepId),
    /// After all undoing, when the run has failed.
    Failed,
    /// After all undoing, when the run is cancelled.
    Cancelled,
}

impl Phase {
    pub fn is_main(&self) -> bool {
        *self == Self::Main
    }
}

/// What the failure of a step of the main phase means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// What comes after it is skipped, and the run fails.
    #[default]
    Fail,
    /// What comes after it is skipped; the run does not fail for that.
    Tolerate,
    /// What comes after it goes on.
    GoOn,
}

/// Which steps a worker takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Those that ask for nothing but some of these.
    pub own: Vec<String>,
    /// Also those that ask for none.
    pub rest: bool,
}

impl Labels {
    pub fn take(&self, step: &StepSpec) -> bool {
        if step.labels.is_empty() { self.rest } else { step.labels.iter().all(|label| self.own.contains(label)) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    pub driver: String,
    pub input: serde_json::Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// All of `after` succeeded; otherwise it is skipped.
    Succeeded,
    /// All of `after` ended, however.
    Always,
}

/// Whether an attempt may be made again after one that did not report its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    Idempotent,
    /// The executor's probe is asked first.
    Checkable,
    Once,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in all; 1 means no retry.
    pub attempts: u32,
    /// Before the second attempt, microseconds; doubles each time up to `max_backoff`.
    pub backoff: Micros,
    pub max_backoff: Micros,
}

impl Retry {
    pub const NEVER: Retry = Retry { attempts: 1, backoff: 0, max_backoff: 0 };
}

/// What a running step takes from the engine's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    pub memory_mib: u32,
}

impl Cost {
    pub const NONE: Cost = Cost { cpu_milli: 0, memory_mib: 0 };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Queued,
    Running,
    /// No step runs; at least one waits for a gate, a person or a time.
    Waiting,
    Succeeded,
    Failed,
    Cancelled,
    Abandoned,
}

impl RunState {
    /// What is said of a run in this state: `run 01k… {}`.
    pub fn predicate(self) -> &'static str {
        match self {
            Self::Queued => "is queued",
            Self::Running => "is running",
            Self::Waiting => "waits",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "was cancelled",
            Self::Abandoned => "was abandoned",
        }
    }

    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Abandoned)
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Waiting, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Abandoned]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not started, or to be started again at `not_before`.
    Pending,
    Running,
    /// Its executor said what it waits for; it is started again when woken.
    Waiting,
    /// Was under way when its engine died and may not simply be repeated.
    Unknown,
    Succeeded,
    Failed,
    Skipped,
    Cancelled,
}

impl StepState {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled)
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Unknown => "unknown",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Running,
            Self::Waiting,
            Self::Unknown,
            Self::Succeeded,
            Self::Failed,
            Self::Skipped,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|s| s.as_str() == text)
    }
}

/// The code of a step that was to begin and waits because its run was halted.
pub const HALTED: &str = "WL915";

/// The code of a step that was skipped because it was not needed, or was passed over by a person: what comes after it goes on as
/// after a success.
pub const NOT_NEEDED: &str = "WL916";

/// The recorded state of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    pub id: StepId,
    pub state: StepState,
    /// Attempts started so far.
    pub attempt: u32,
    /// Grows with every claim; a write that carries an older one is refused.
    pub epoch: i64,
    pub not_before: Option<Micros>,
    pub started_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    /// Result of a success.
    pub output: Option<serde_json::Value>,
    /// Of a failure, a skip, a wait or an unknown: one sentence.
    pub reason: Option<String>,
    /// Stable code of the failure, e.g. `WL501`; [`HALTED`] of one that is held back, [`NOT_NEEDED`] of one that was skipped for
    /// that.
    pub code: Option<String>,
}

impl StepRecord {
    /// As it is when its run is made.
    pub fn pending(id: StepId) -> Self {
        Self {
            id,
            state: StepState::Pending,
            attempt: 0,
            epoch: 0,
            not_before: None,
            started_at: None,
            ended_at: None,
            output: None,
            reason: None,
            code: None,
        }
    }

    /// It was skipped, and what comes after it goes on.
    pub fn is_not_needed(&self) -> bool {
        self.state == StepState::Skipped && self.code.as_deref() == Some(NOT_NEEDED)
    }

    /// Something of it may have happened.
    pub fn has_begun(&self) -> bool {
        self.attempt > 0 && self.state != StepState::Skipped
    }
}

/// A run as recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    /// Name of the followed repository it belongs to; empty for one that works in a checkout of its own.
    #[serde(default)]
    pub project: String,
    pub plan: RunPlan,
    pub state: RunState,
    /// Set when somebody asked for it to be cancelled.
    pub cancel_requested: bool,
    /// Set when it was also asked that nothing is taken back, and that what runs ends at once.
    #[serde(default)]
    pub kill_requested: bool,
    /// Who started it, as recorded, e.g. `os:anna (Anna <anna@example.com>), unverified`.
    pub actor: String,
    pub created_at: Micros,
    pub ended_at: Option<Micros>,
    /// Why it failed, was cancelled or abandoned, or what it waits for.
    pub reason: Option<String>,
}

impl RunRecord {
    /// What somebody asked for.
    pub fn stop(&self) -> Stop {
        Stop::of(self.cancel_requested, self.kill_requested)
    }

    /// Somebody asked for that: what was asked for before stays so.
    pub fn told_to(&mut self, stop: Stop) {
        self.cancel_requested |= stop >= Stop::Cancel;
        self.kill_requested |= stop == Stop::Kill;
    }
}

/// What somebody asked for while a run was under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    #[default]
    No,
    /// The main phase ends; what it did is taken back.
    Cancel,
    /// All of it ends.
    Kill,
}

impl Stop {
    pub fn of(cancel_requested: bool, kill_requested: bool) -> Self {
        match (kill_requested, cancel_requested) {
            (true, _) => Self::Kill,
            (false, true) => Self::Cancel,
            (false, false) => Self::No,
        }
    }
}

/// What the planner says is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Ready to be claimed, in order of the plan.
    Start(StepId),
    /// Will never run.
    Skip(StepId, String),
    /// A step that was not started is cancelled with its run.
    Cancel(StepId),
    /// Nothing to do before this time.
    Sleep(Micros),
    /// The run's recorded state should become this.
    Become(RunState, Option<String>),
}

/// Step records by id.
pub type Steps = BTreeMap<StepId, StepRecord>;
