//! An apply while it goes on: a bar for each stack, in waves.

use crate::pages::parts::{Moment, Offer};
use windlass_model::rollout::Answer;
use windlass_model::run::RunState;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Id of the run.
    pub run: String,
    pub state: RunState,
    /// Why it waits, in one sentence; only while it does.
    pub waits: Option<String>,
    /// In order; one without a rollout.
    pub waves: Vec<Wave>,
    /// Waves before and after them that are not shown.
    pub before: usize,
    pub after: usize,
    /// Somebody has to say how a step ended, or whether a gate passes: on the page of the run.
    pub settle: bool,
    /// What makes sense now. The forms send `reason` where one is asked for.
    pub deeds: Vec<Deed>,
}

impl Live {
    pub(super) fn title(&self) -> &'static str {
        if self.state.is_final() { "The apply" } else { "Being applied" }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// e.g. `1. canary`.
    pub name: String,
    pub state: WaveState,
    /// Of a large wave those at work and in trouble first.
    pub bars: Vec<Bar>,
    /// Stacks that have no bar here.
    pub more: usize,
    pub soak: Option<Soak>,
    pub gates: Vec<Gate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveState {
    Waiting,
    Applying,
    Soaking,
    Gated,
    Done,
    Halted,
    Failed,
}

impl WaveState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "not begun",
            Self::Applying => "being applied",
            Self::Soaking => "soaking",
            Self::Gated => "at its gates",
            Self::Done => "done",
            Self::Halted => "halted",
            Self::Failed => "failed",
        }
    }
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Waiting => "",
            Self::Applying => "info",
            Self::Soaking | Self::Gated => "wait",
            Self::Done => "ok",
            Self::Halted => "warn",
            Self::Failed => "bad",
        }
    }
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub instance: String,
    pub state: BarState,
    /// Resources that are done, and how many there are.
    pub done: u32,
    pub total: u32,
    /// What is being done, e.g. `creating aws_instance.app`.
    pub current: Option<String>,
    /// Why it waits, failed or is quarantined.
    pub reason: Option<String>,
    /// Its log, within this site.
    pub href: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarState {
    Waiting,
    Running,
    Done,
    Failed,
    Quarantined,
}

impl BarState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
        }
    }
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Waiting => "",
            Self::Running => "info",
            Self::Done => "ok",
            Self::Failed | Self::Quarantined => "bad",
        }
    }
}

impl Bar {
    /// A bar of nothing is not allowed: what has no changes is one that is done or not.
    pub(super) fn total_or_one(&self) -> u32 {
        self.total.max(1)
    }
    pub(super) fn done_shown(&self) -> u32 {
        if self.state == BarState::Done { self.total_or_one() } else { self.done.min(self.total) }
    }
    pub(super) fn told(&self) -> String {
        let mut told = vec![format!("{} of {}", self.done, self.total)];
        told.extend(self.current.clone());
        told.extend(self.reason.clone());
        told.join(" · ")
    }
}

/// Time to wait after a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soak {
    pub until: Moment,
    pub over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// e.g. `https://shop.example.com/healthz answers 200`.
    pub title: String,
    /// What it said last; `None` before it was asked.
    pub answer: Option<Answer>,
    /// What that stands on, in one sentence.
    pub told: Option<String>,
}

impl Gate {
    pub(super) fn word(&self) -> &'static str {
        match self.answer {
            None => "not asked yet",
            Some(Answer::Pass) => "pass",
            Some(Answer::Hold) => "hold",
            Some(Answer::Fail) => "fail",
        }
    }
    pub(super) fn class(&self) -> &'static str {
        match self.answer {
            None => "",
            Some(Answer::Pass) => "ok",
            Some(Answer::Hold) => "wait",
            Some(Answer::Fail) => "bad",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub kind: DeedKind,
    pub offer: Offer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeedKind {
    /// Nothing new begins.
    Halt,
    Resume,
    Cancel,
    RollBack,
}

impl DeedKind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Halt => "Halt",
            Self::Resume => "Resume",
            Self::Cancel => "Cancel",
            Self::RollBack => "Roll back",
        }
    }
    pub(super) fn gerund(self) -> &'static str {
        match self {
            Self::Halt => "Halting",
            Self::Resume => "Resuming",
            Self::Cancel => "Cancelling",
            Self::RollBack => "Rolling back",
        }
    }
    /// Before the field for a reason; empty where none is asked for.
    pub(super) fn ask(self) -> &'static str {
        match self {
            Self::Halt => "Begin nothing new, because",
            Self::Resume => "",
            Self::Cancel => "Stop what runs and end it, because",
            Self::RollBack => "Apply what was before, because",
        }
    }
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Halt => "",
            Self::Resume => "primary",
            Self::Cancel | Self::RollBack => "danger",
        }
    }
    pub(super) fn needs_reason(self) -> bool {
        matches!(self, Self::Halt | Self::Cancel | Self::RollBack)
    }
}
