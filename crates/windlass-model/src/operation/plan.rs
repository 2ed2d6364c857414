//! The run of an operation.

use super::OperationDefinition;
use crate::id::RunId;
use crate::review::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Kind of the runs of operations.
pub const KIND: &str = "operation";

/// Names of the executors of their steps.
pub mod driver {
    /// An [`super::super::Action`]: of a step, an undo, a handler, or the command of a checklist item.
    pub const STEP: &str = "operation.step";
    /// Adds the steps of an `each` to the run.
    pub const EACH: &str = "operation.each";
    /// Asked before a batch of an `each`, and after the last: failures so far, and its gates.
    pub const BATCH: &str = "operation.batch";
    /// The end of an `each`: its outputs are those of its members by key.
    pub const GATHER: &str = "operation.gather";
    /// Waits for the freeze to end, the window to open, and a place among the runs of the same key.
    pub const ADMIT: &str = "operation.admit";
    /// Approvals of the whole run.
    pub const APPROVE: &str = "operation.approve";
    /// An item of a checklist that a person ticks.
    pub const TICK: &str = "operation.tick";
    /// The end of a `parallel`.
    pub const JOIN: &str = "operation.join";

    pub const ALL: [&str; 8] = [STEP, EACH, BATCH, GATHER, ADMIT, APPROVE, TICK, JOIN];
}

/// What people say to a step that asks them; the value of an answer to a question is the choice or the text itself.
pub mod word {
    /// Of an approval: yes.
    pub const APPROVE: &str = "approve";
    /// Of an approval: no, which fails the step.
    pub const REFUSE: &str = "refuse";
    /// Of an item of a checklist.
    pub const DONE: &str = "done";
    /// It was ticked by mistake.
    pub const UNDONE: &str = "undone";
}

/// What is stored as the input of the run: the definition as it was, and all that was decided when it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationInput {
    /// The commit whose files the steps see, and that the definition is of.
    pub head: Revision,
    pub operation: OperationDefinition,
    /// Of every parameter that is no secret; what a file parameter holds is here as text.
    pub arguments: BTreeMap<String, Value>,
    /// Secret parameters that were given: their values are sealed under the id of the run while it lives.
    pub secrets: Vec<String>,
    pub environment: Option<String>,
    pub reason: Option<String>,
    pub origin: Origin,
    /// Somebody broke the glass: no approvals, no freeze, no window.
    pub broke_glass: bool,
    /// Steps that are passed over once, with the reason.
    pub skipped: BTreeMap<String, String>,
}

/// What made a run of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Origin {
    /// `web`, `cli`, `api`, `chat` or `ci`.
    Person {
        through: String,
    },
    /// `due`, microseconds since the Unix epoch, is the time it was meant for.
    Schedule {
        name: String,
        due: i64,
    },
    Trigger {
        name: String,
        event: String,
    },
    /// A step `operation` of another run.
    Run {
        run: RunId,
        step: String,
    },
    /// It goes on where another one failed, with what that one had done.
    Resumed {
        run: RunId,
    },
    /// Once more with the same parameters.
    Repeated {
        run: RunId,
    },
}

/// What is stored as the input of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationStep {
    /// Where its definition is in the operation: names of nodes from the outside in, such as `["member", "stop"]`. Of handlers and
    /// checklists the first is `on_failure`, `on_cancel`, `before`, `during` or `after`.
    pub path: Vec<String>,
    /// The members of the `each`es around it, from the outside in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<Member>,
    /// It is the `undo` of what is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Name of the `each`.
    pub name: String,
    pub key: String,
    pub value: Value,
    pub index: usize,
}
