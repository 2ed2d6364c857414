//! The run of an operation: what is stored of it, the steps it consists of, and those that it goes on with.

mod resume;
mod steps;
#[cfg(test)]
mod tests;

pub use resume::resume;
pub use steps::{Expressions, PlanError, expand, plan};

use super::{EachDefinition, Node, OperationDefinition, StepDefinition};
use crate::id::RunId;
use crate::id::StepId;
use crate::review::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Kind of the runs of operations.
pub const KIND: &str = "operation";

/// The step that waits for a freeze to end, a window to open, and a place in a queue.
pub const ADMIT: &str = "run:admit";
/// The step that waits for approvals of the whole run.
pub const APPROVE: &str = "run:approve";

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
    Person { through: String },
    /// `due`, microseconds since the Unix epoch, is the time it was meant for.
    Schedule { name: String, due: i64 },
    Trigger {
        name: String,
        event: String,
        /// Operations that led to it, each by what a run of it told; the first one first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        causes: Vec<String>,
    },
    /// A step `operation` of another run.
    Run { run: RunId, step: String },
    /// It goes on where another one failed, with what that one had done.
    Resumed { run: RunId },
    /// Once more with the same parameters.
    Repeated { run: RunId },
}

/// What is stored as the input of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// What is stored as the input of a step of [`driver::BATCH`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchStep {
    /// Where the `each` is.
    #[serde(flatten)]
    pub of: OperationStep,
    /// From 0; the last is asked after the last batch.
    pub number: usize,
    /// How many batches there are.
    pub batches: usize,
    /// The one before it, whose output counts the failures up to then, see [`BatchOutput`].
    pub before: Option<StepId>,
    /// Members of the batch before it, with the steps that they end with.
    pub members: Vec<(String, Vec<StepId>)>,
}

/// The output of a step of [`driver::BATCH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOutput {
    /// Members of all batches before it that failed.
    pub failed: Vec<String>,
}

impl BatchStep {
    /// The members that have failed so far, from the output of the one before it and the steps before it after which nothing goes on.
    pub fn failed(&self, before: Option<BatchOutput>, is_bad: impl Fn(&StepId) -> bool) -> BatchOutput {
        let mut failed = before.map_or_else(Vec::new, |before| before.failed);
        let bad = self.members.iter().filter(|(_, ends)| ends.iter().any(&is_bad));
        failed.extend(bad.map(|(key, _)| key.clone()));
        BatchOutput { failed }
    }
}

/// The output of a step of [`driver::EACH`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EachOutput {
    /// Keys of the members, in their order.
    pub keys: Vec<String>,
}

/// The steps of a node are called by its name, within a member of an `each` after the member: `member[a]/stop`.
pub fn step_id(each: &[Member], name: &str) -> StepId {
    let mut id = String::new();
    for member in each {
        id.push_str(&member.name);
        id.push('[');
        id.push_str(&member.key);
        id.push_str("]/");
    }
    id.push_str(name);
    StepId::new(id)
}

impl Node {
    fn nodes(&self) -> &[Node] {
        match self {
            Self::Step(_) => &[],
            Self::Each(each) => &each.nodes,
            Self::Parallel(parallel) => &parallel.nodes,
        }
    }
}

/// The nodes of a level with those of its `parallel`s, which are called as if they stood there.
fn level(nodes: &[Node]) -> Vec<&Node> {
    let mut found = Vec::new();
    for node in nodes {
        found.push(node);
        if let Node::Parallel(parallel) = node {
            found.extend(level(&parallel.nodes));
        }
    }
    found
}

impl EachDefinition {
    /// Names of what its members consist of and has outputs: steps and `each`es, those in `parallel`s as well.
    pub fn names(&self) -> Vec<&str> {
        let has_outputs = |node: &&Node| !matches!(node, Node::Parallel(_));
        level(&self.nodes).into_iter().filter(has_outputs).map(Node::name).collect()
    }
}

impl OperationDefinition {
    /// The node at a path, as [`OperationStep::path`] has it for steps of the main phase.
    pub fn node(&self, path: &[String]) -> Option<&Node> {
        let (first, rest) = path.split_first()?;
        let mut node = self.nodes.iter().find(|node| node.name() == first)?;
        for name in rest {
            node = node.nodes().iter().find(|node| node.name() == name)?;
        }
        Some(node)
    }
}

impl OperationInput {
    /// The definition of the step, undo or handler that `step` is; `None` for an item of the checklist, and for what is no step.
    pub fn definition(&self, step: &OperationStep) -> Option<&StepDefinition> {
        let handlers = match step.path.first().map(String::as_str) {
            Some("on_failure") if step.path.len() == 2 => Some(&self.operation.on_failure),
            Some("on_cancel") if step.path.len() == 2 => Some(&self.operation.on_cancel),
            _ => None,
        };
        // A node may be called as a kind of handlers is.
        let handler = handlers.and_then(|of| of.iter().find(|handler| handler.name == step.path[1]));
        let found = match (self.operation.node(&step.path), handler) {
            (Some(Node::Step(found)), _) => found,
            (_, found) => found?,
        };
        if step.undo { found.undo.as_deref() } else { Some(found) }
    }

    /// The `each` that a step of [`driver::EACH`], [`driver::BATCH`] or [`driver::GATHER`] is of.
    pub fn each(&self, step: &OperationStep) -> Option<&EachDefinition> {
        match self.operation.node(&step.path) {
            Some(Node::Each(each)) => Some(each),
            _ => None,
        }
    }

    /// Which step an expression of `step` means by a name: the one of its own member, else one of a member around it.
    pub fn named(&self, step: &OperationStep, name: &str) -> Option<StepId> {
        for depth in (0..=step.each.len()).rev() {
            let nodes = match depth {
                0 => Some(&self.operation.nodes),
                _ => self.each_at(&step.path, depth).map(|each| &each.nodes),
            };
            if nodes.is_some_and(|nodes| level(nodes).iter().any(|node| node.name() == name)) {
                return Some(step_id(&step.each[..depth], name));
            }
        }
        None
    }

    /// The `each` number `depth` around what is at a path, the outermost is 1.
    fn each_at(&self, path: &[String], depth: usize) -> Option<&EachDefinition> {
        let eaches = (1..=path.len()).filter_map(|length| match self.operation.node(&path[..length]) {
            Some(Node::Each(each)) => Some(&**each),
            _ => None,
        });
        eaches.into_iter().nth(depth - 1)
    }

    /// Why a person passed a step over: by its id, or by that of the member that it is of.
    pub fn passed_over(&self, step: &StepId) -> Option<&str> {
        let is_of =
            |id: &str| step.as_str().strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.skipped.iter().find(|(id, _)| is_of(id)).map(|(_, reason)| reason.as_str())
    }
}
