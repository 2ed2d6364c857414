//! What the definitions of the protected branch say about changes.

use super::MergeMethod;
use serde::{Deserialize, Serialize};

/// When a change is applied. A change that touches several environments waits for the last of the times that they name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyWhen {
    /// By a person, while it is open.
    #[default]
    BeforeMerge,
    /// As soon as it is merged.
    OnMerge,
    /// By a person, once it is merged.
    AfterMerge,
    /// Not from a change.
    Never,
}

impl ApplyWhen {
    pub const ALL: [Self; 4] = [Self::BeforeMerge, Self::OnMerge, Self::AfterMerge, Self::Never];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeMerge => "before_merge",
            Self::OnMerge => "on_merge",
            Self::AfterMerge => "after_merge",
            Self::Never => "never",
        }
    }

    /// That of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|when| when.as_str() == text)
    }
}

/// Whether changes of forks are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forks {
    /// Once somebody who may says so, for that commit.
    #[default]
    Ask,
    Never,
}

/// `changes { apply = "before_merge"  merge = false  method = "merge"  delete_branch = false  forks = "ask"  autoplan = true
/// labels = false }` inside `project`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSettings {
    /// Of what belongs to no environment that says it.
    pub apply: ApplyWhen,
    /// Whether a change is merged once all of it was applied.
    pub merge: bool,
    pub method: MergeMethod,
    /// Whether the branch of a change that was merged is deleted.
    pub delete_branch: bool,
    pub forks: Forks,
    /// Whether changes are planned without being asked for.
    pub autoplan: bool,
    /// Whether they get labels of what they do.
    pub labels: bool,
}

impl Default for ChangeSettings {
    fn default() -> Self {
        Self {
            apply: ApplyWhen::default(),
            merge: false,
            method: MergeMethod::default(),
            delete_branch: false,
            forks: Forks::default(),
            autoplan: true,
            labels: false,
        }
    }
}
