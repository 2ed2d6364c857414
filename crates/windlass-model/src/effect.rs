//! The effect of a plan: its semantic content, read from `terraform show -json`, without noise, masked, with a digest.

mod canonical;
mod compare;
mod read;
mod sets;

pub use crate::mask::{Mask, SENSITIVE};
pub(crate) use crate::mask::{mark_of, without_marks};
pub(crate) use canonical::{EXACT, same_number};
pub use compare::{Difference, matches_preview, remaining_of};
pub use read::{
    EffectError, PlannedOutput, Reader, marked_secrets, masked_text, planned_outputs, secrets, secrets_of_output, texts,
};
pub use sets::{Sets, SetsError};

use crate::id::InstanceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What applying one plan would do. Contains no sensitive value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    pub instance: InstanceId,
    /// Sorted by address; no-ops and pure reads are left out.
    pub changes: Vec<ResourceChange>,
    /// Outputs whose value changes, by name.
    pub outputs: BTreeMap<String, OutputChange>,
    /// Failed or unknown `check` blocks, preconditions and postconditions, by address.
    pub checks: BTreeMap<String, CheckResult>,
    /// What the world has otherwise than the state had: changes that were made elsewhere, not what would be done. Only what
    /// differs, and what is gone; by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<ResourceChange>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceChange {
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_address: Option<String>,
    pub resource_type: String,
    pub provider: String,
    pub action: Action,
    /// Attribute paths that change, e.g. `tags.Name`, `ingress[0].cidr_blocks`.
    pub attributes: BTreeMap<String, AttributeChange>,
    /// The outermost lists in which something differs, whole, by path: what is the same in them tells an insertion from a
    /// change. They are for the reader; what is approved stands in `attributes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, WholeList>,
    /// Attribute paths that force a replacement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replace_paths: Vec<String>,
    /// Terraform's `action_reason`, e.g. `replace_because_tainted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Id given in an `import` block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    /// Destroyed, then created.
    Replace,
    /// Created, then destroyed.
    ReplaceCreateFirst,
    Destroy,
    /// Only its address changes.
    Move,
    /// Only taken into the state.
    Import,
    /// Only dropped from the state.
    Forget,
}

/// A list on both sides. Where it is sensitive it has marks with digests, `(known after apply)` where it is unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WholeList {
    pub before: serde_json::Value,
    pub after: serde_json::Value,
    /// Which lists in it are sets: paths of names below its items, without indices, `*` for any name; empty for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
}

/// What stands inside a value for a part that is known after apply.
pub(crate) const UNKNOWN: &str = "(known after apply)";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttributeChange {
    pub before: Shown,
    pub after: Shown,
}

/// A value as it may be shown and stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    Absent,
    Value(serde_json::Value),
    /// Masked; the text is a keyed digest (HMAC-SHA256, hex) that tells two values apart without telling them.
    Sensitive(String),
    /// Known after apply.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputChange {
    pub action: OutputAction,
    pub before: Shown,
    pub after: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputAction {
    Create,
    Update,
    Delete,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// `fail`, `error` or `unknown`.
    pub status: String,
    pub problems: Vec<String>,
}

/// How many resources each action touches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectSummary {
    pub create: usize,
    pub update: usize,
    pub replace: usize,
    pub destroy: usize,
    pub moved: usize,
    pub import: usize,
    pub forget: usize,
    pub outputs: usize,
}

impl std::ops::Add for EffectSummary {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            create: self.create + other.create,
            update: self.update + other.update,
            replace: self.replace + other.replace,
            destroy: self.destroy + other.destroy,
            moved: self.moved + other.moved,
            import: self.import + other.import,
            forget: self.forget + other.forget,
            outputs: self.outputs + other.outputs,
        }
    }
}

impl std::iter::Sum for EffectSummary {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |a, b| a + b)
    }
}

impl std::fmt::Display for EffectSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            (self.create, "to create"),
            (self.update, "to update"),
            (self.replace, "to replace"),
            (self.destroy, "to destroy"),
            (self.moved, "to move"),
            (self.import, "to import"),
            (self.forget, "to forget"),
        ];
        let mut parts: Vec<String> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        match self.outputs {
            0 => {}
            1 => parts.push("1 output changes".into()),
            n => parts.push(format!("{n} outputs change")),
        }
        f.write_str(&if parts.is_empty() { "no changes".to_owned() } else { parts.join(", ") })
    }
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
            Self::Replace | Self::ReplaceCreateFirst => "replaced",
            Self::Destroy => "destroyed",
            Self::Move => "moved",
            Self::Import => "imported",
            Self::Forget => "forgotten",
        }
    }
}

impl Effect {
    /// Nothing would be done: no resource and no output changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.outputs.is_empty()
    }

    pub fn summary(&self) -> EffectSummary {
        let mut summary = EffectSummary { outputs: self.outputs.len(), ..EffectSummary::default() };
        for change in &self.changes {
            *match change.action {
                Action::Create => &mut summary.create,
                Action::Update => &mut summary.update,
                Action::Replace | Action::ReplaceCreateFirst => &mut summary.replace,
                Action::Destroy => &mut summary.destroy,
                Action::Move => &mut summary.moved,
                Action::Import => &mut summary.import,
                Action::Forget => &mut summary.forget,
            } += 1;
        }
        summary
    }

    /// Hexadecimal SHA-256 of what would be done. Checks are left out: they judge, they do not act.
    pub fn digest(&self) -> String {
        digest_all(std::iter::once(self))
    }
}

/// Hexadecimal SHA-256 of several effects, whatever their order. Effects that do nothing do not count.
pub fn digest_all<'a>(effects: impl Iterator<Item = &'a Effect>) -> String {
    let mut parts: Vec<String> = effects.filter(|effect| !effect.is_empty()).map(canonical::effect).collect();
    parts.sort();
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
