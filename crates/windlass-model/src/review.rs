//! The review: one record of a whole change, as it is stored. [`document`] makes of it what every renderer draws.

pub mod document;
mod findings;
mod group;
pub mod progress;
mod reach;
pub mod references;
mod since;
mod summary;

#[cfg(test)]
mod tests;

use crate::binding::Binding;
use crate::diagnostic::{Diagnostic, Span};
use crate::effect::Effect;
use crate::id::{InstanceId, RunId, StackId};
use crate::risk::Risk;
use crate::waiver::Waived;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why an instance is in a review; from [`crate::graph`]'s affected planner. Sorted by instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Affected {
    pub instance: InstanceId,
    pub stack: StackId,
    pub kind: AffectedKind,
    /// At least one, each a complete chain from a changed path to the stack.
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AffectedKind {
    /// One of its inputs differs.
    Changed,
    /// It did not exist at the base.
    New,
    /// It exists at the base only.
    Deleted,
    /// Same state address as the stack that was at `from`.
    Renamed { from: StackId },
    /// No input differs, but a stack it reads from may change outputs.
    Dependant,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reason {
    /// The changed path, or the upstream instance for a dependant.
    pub cause: String,
    /// `added`, `modified`, `deleted`, `renamed`, `type changed`, `upstream`.
    pub change: String,
    /// The links from the cause to the stack, outermost first, each one sentence with its place, e.g.
    /// `module "vpc" (aws/network/main.tf:3)`; empty when the path is the stack's own.
    pub chain: Vec<String>,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Review {
    pub run: RunId,
    pub project: String,
    /// What was asked for, e.g. `main` (a ref), and what it resolved to (40 or 64 hexadecimal digits).
    pub base: Option<Revision>,
    pub head: Revision,
    /// The work tree differs from `head` in files that matter: such a review can be read but not approved.
    pub dirty: Vec<String>,
    /// Git identities (`Name <mail>`) of the commits between base and head; of a change also the accounts, such as `github:anna`.
    pub authors: Vec<String>,
    /// Those of `authors` that the forge of the change knows no account for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_authors: Vec<String>,
    /// In graph order.
    pub stacks: Vec<StackReview>,
    /// Notices that belong to no single stack.
    pub diagnostics: Vec<Diagnostic>,
    /// What policies found in the change as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Digest of all policies that judged, hex SHA-256; of nothing when there is none.
    pub policy_digest: String,
    /// Digest of all effects, hex SHA-256.
    pub effect_digest: String,
    pub verdict: Verdict,
    /// Who reads from those instances outside of this review that can be reached from one in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readers_beyond: BTreeMap<InstanceId, Vec<Reader>>,
}

/// An instance that reads outputs of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    pub instance: InstanceId,
    /// Names of the outputs, sorted; `None` where any of them may be read.
    pub outputs: Option<Vec<String>>,
}

impl Reader {
    /// Whether it may read the output `name`.
    pub fn reads(&self, name: &str) -> bool {
        self.outputs.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revision {
    pub name: String,
    pub commit: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackReview {
    pub instance: InstanceId,
    pub kind: AffectedKind,
    pub reasons: Vec<Reason>,
    /// Instances in this review it has to wait for.
    pub after: Vec<InstanceId>,
    pub environments: Vec<String>,
    pub owner: Option<String>,
    pub outcome: Outcome,
    pub findings: Vec<Finding>,
    /// What the plan stands on, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// How much can go wrong, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// Who reads its outputs, in this review or not; sorted by instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<Reader>,
    /// By address of a resource that changes: the resources of the same plan that refer to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dependants: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Planned against the state as it is; the saved plan can be applied.
    Planned { effect: Effect },
    /// Planned with values its upstreams do not have yet: shows what to expect, is never applied.
    Preview { effect: Effect, because: Vec<InstanceId> },
    /// A dependant none of whose consumed outputs change.
    Unaffected,
    /// terraform refused or failed; its diagnostics say why.
    Failed { stage: Stage, diagnostics: Vec<Diagnostic> },
    /// Not planned because an upstream failed.
    Skipped { because: InstanceId },
    /// The directory is gone; what it made stays until it is destroyed.
    Deleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Format,
    Init,
    Validate,
    Plan,
    Show,
    Policy,
    Apply,
}

/// One result of a check or a policy on one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub level: Level,
    /// e.g. `policy no-public`, `terraform fmt`, `check`.
    pub source: String,
    /// Rule that fired, e.g. `data.main.deny_public`.
    pub rule: Option<String>,
    pub message: String,
    /// Resource address it speaks of.
    pub address: Option<String>,
    /// Where to mend it.
    pub code: Option<Span>,
    /// Where the rule stands.
    pub policy: Option<Span>,
    /// How bad it is, where the rule's METADATA or the tool says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Address of a page that says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Somebody took the responsibility for it: it only warns until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Critical,
    High,
    Medium,
    Low,
    Info,
}

impl Finding {
    pub fn new(level: Level, source: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level,
            source: source.into(),
            rule: None,
            message: message.into(),
            address: None,
            code: None,
            policy: None,
            severity: None,
            help: None,
            waived: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The gate itself broke: never a pass.
    Broken,
    Deny,
    Warn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing would change.
    Nothing,
    /// Can be applied as it is, no approval is asked for.
    Ready,
    /// Can be applied once approved.
    NeedsApproval,
    /// A policy denies it.
    Denied,
    /// A stack failed.
    Failed,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Init => "init",
            Self::Validate => "validate",
            Self::Plan => "plan",
            Self::Show => "show",
            Self::Policy => "policy",
            Self::Apply => "apply",
        }
    }
}

impl Outcome {
    /// The effect it was planned or previewed to have.
    pub fn effect(&self) -> Option<&Effect> {
        match self {
            Self::Planned { effect } | Self::Preview { effect, .. } => Some(effect),
            _ => None,
        }
    }
}

impl Review {
    /// The effects of all stacks, in order.
    pub fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.stacks.iter().filter_map(|s| s.outcome.effect())
    }
}
