//! The effect of a plan: its semantic content, read from `terraform show -json`, without noise, masked, with a digest.

use crate::id::InstanceId;
use serde::{Deserialize, Serialize};
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

impl Effect {
    /// Nothing would be done: no resource and no output changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.outputs.is_empty()
    }
}
