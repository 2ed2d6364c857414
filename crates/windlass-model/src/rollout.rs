//! Waves: a change reaches the instances of a rollout in groups, each of which has to prove itself before the next one begins.
//!
//! [`plan_waves`] cuts instances into waves and [`to_steps`] writes the waves as steps of a run; [`soak_answer`] and [`gate_wait`]
//! say what those steps do.

mod plan;
mod steps;

pub use plan::{Target, Wave, WavePlan, plan_waves};
pub use steps::{
    GateInput, GateWait, InstanceSteps, RolloutSteps, SoakAnswer, SoakInput, driver, gate_step, gate_wait, soak_answer,
    soak_step, to_steps,
};

use crate::Micros;
use crate::id::InstanceId;
use serde::{Deserialize, Serialize};

/// What a definition says about waves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub waves: WaveOrder,
    /// How long a wave is left alone before its gates are asked, microseconds.
    pub soak: Micros,
    /// Asked after each wave; all have to pass.
    pub gates: Vec<Gate>,
    /// How long a gate may hold before a person is asked, microseconds.
    pub gate_timeout: Micros,
    /// Failed instances that a wave may have and still go on.
    pub max_failures: u32,
    pub on_failure: OnFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveOrder {
    /// First the canary, then the other regions and environments, `batch` of them at a time; 0 is all at once. Without a
    /// selector the canary is the first region.
    Derived {
        canary: Option<Selector>,
        batch: usize,
    },
    Declared(Vec<WaveSpec>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveSpec {
    pub name: String,
    /// An instance belongs to the first wave of which any selector matches it.
    pub select: Vec<Selector>,
    /// Instead of the rollout's.
    pub soak: Option<Micros>,
    /// Instead of the rollout's.
    pub gates: Option<Vec<Gate>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    Instance(InstanceId),
    Region(String),
    Environment(String),
    /// Whatever no wave before it selects.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing more is begun; a person decides.
    Halt,
    /// What was applied is to go back to the last applied commit, as a run of its own that is reviewed like any other.
    Rollback,
}

/// What a wave has to pass. Times are microseconds; `interval` is the time from an answer to the next question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Gate {
    /// Passes with exit status 0, fails with 1, holds with any other.
    Command { argv: Vec<String>, timeout: Micros, interval: Micros },
    /// Passes with a status from `status.0` to `status.1` and, where it is given, a body with this text.
    Http { url: String, status: (u16, u16), contains: Option<String>, timeout: Micros, interval: Micros },
    /// Passes when `host:port` accepts a connection.
    Tcp { address: String, timeout: Micros, interval: Micros },
    /// The `check` blocks of the wave's instances, as their applies left them.
    Checks,
    /// A service level by its name.
    ServiceLevel { name: String, interval: Micros },
}

impl Gate {
    /// How it is called on a screen.
    pub fn title(&self) -> String {
        match self {
            Self::Command { argv, .. } => format!("command `{}`", argv.join(" ")),
            Self::Http { url, .. } => format!("GET {url}"),
            Self::Tcp { address, .. } => format!("connection to {address}"),
            Self::Checks => "terraform checks".into(),
            Self::ServiceLevel { name, .. } => format!("service level {name}"),
        }
    }

    /// From an answer to the next question. Checks do not change by themselves: they are asked again when somebody resumes.
    pub fn interval(&self) -> Option<Micros> {
        match self {
            Self::Command { interval, .. }
            | Self::Http { interval, .. }
            | Self::Tcp { interval, .. }
            | Self::ServiceLevel { interval, .. } => Some(*interval),
            Self::Checks => None,
        }
    }

    /// Of one question.
    pub fn timeout(&self) -> Option<Micros> {
        match self {
            Self::Command { timeout, .. } | Self::Http { timeout, .. } | Self::Tcp { timeout, .. } => Some(*timeout),
            Self::Checks | Self::ServiceLevel { .. } => None,
        }
    }
}

/// What a gate says. No data, too little data and a question that could not be asked are [`Answer::Hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Pass,
    Hold,
    Fail,
}

#[cfg(test)]
mod tests;
