//! Runs: an immutable plan of steps, the states that steps and runs go through, and the pure planner that says what comes
//! next.

use crate::Micros;
use crate::id::{RunId, StepId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run will do; never changed once stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// `review`, `apply`, …
    pub kind: String,
    /// One line for people, e.g. `feature/x against main: 4 stacks`.
    pub title: String,
    /// Parameters of the kind, e.g. base and head commit.
    pub input: serde_json::Value,
    pub steps: Vec<StepSpec>,
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
    /// Stable code of the failure, e.g. `WL501`; [`HALTED`] of one that is held back.
    pub code: Option<String>,
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
    /// Who started it, as recorded, e.g. `os:anna (Anna <anna@example.com>), unverified`.
    pub actor: String,
    pub created_at: Micros,
    pub ended_at: Option<Micros>,
    /// Why it failed, was cancelled or abandoned, or what it waits for.
    pub reason: Option<String>,
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
