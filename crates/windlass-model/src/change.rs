//! Changes as a forge has them: pull requests of GitHub, Gitea, Forgejo and Bitbucket, merge requests of GitLab. Both are called
//! *change* here.

pub mod authors;
pub mod command;
pub mod owners;
pub mod plan;
pub mod settings;
pub mod tell;

use crate::Micros;
use serde::{Deserialize, Serialize};

/// Somebody with an account at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Person {
    /// What the forge calls the account whatever its name becomes.
    pub id: String,
    /// The name of the account, which people know.
    pub login: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    Open,
    Merged,
    /// Closed and not merged.
    Closed,
}

impl ChangeState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Merged => "merged",
            Self::Closed => "closed",
        }
    }
}

/// Which changes a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeFilter {
    In(ChangeState),
    /// Merged into a branch that is followed, and not applied in full.
    Unapplied,
}

impl ChangeFilter {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::In(ChangeState::Open), Self::In(ChangeState::Merged), Self::Unapplied, Self::In(ChangeState::Closed)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::In(state) => state.as_str(),
            Self::Unapplied => "unapplied",
        }
    }

    /// The one that is called so.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.as_str() == name)
    }
}

/// A change as its forge has it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// As people write it: `#12`, `!12`.
    pub number: u64,
    pub title: String,
    /// Where people read it.
    pub url: String,
    pub author: Person,
    pub state: ChangeState,
    /// Its author does not want it merged yet.
    pub draft: bool,
    pub head: Head,
    /// The branch it is to go into.
    pub base: String,
    /// The commit on `base` that has it, once it is merged.
    pub merged_as: Option<String>,
    pub labels: Vec<String>,
    /// When anything about it changed last, by the forge's clock.
    pub updated_at: Micros,
}

/// What a change brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub branch: String,
    pub commit: String,
    /// Full name of the repository that the branch is in, where that is another one; `None` in the same repository. A fork that was
    /// deleted is the empty text.
    pub fork: Option<String>,
    /// The reference of the followed repository under which the forge offers the commit, such as `refs/pull/12/head`; `None` where
    /// a forge has none: then only branches of the same repository can be fetched.
    pub reference: Option<String>,
}

/// A commit of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Empty for what comes after the commits that a forge tells at most.
    pub id: String,
    pub author: Signature,
    /// Who made it of what the author wrote; `None` where the forge does not say.
    pub committer: Option<Signature>,
}

/// How a commit is signed, which whoever makes it may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// `Name <mail>`.
    pub name: String,
    /// Whose address the forge says that this is.
    pub person: Option<Person>,
}

/// A comment on a change as a whole, not on a line of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    pub id: String,
    pub author: Person,
    pub body: String,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// What a person's newest word about a change is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opinion {
    Approves,
    /// Wants something changed before it is merged.
    Refuses,
}

/// The newest review of a person that still counts; one that was dismissed, withdrawn or is only a remark is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgeReview {
    pub person: Person,
    pub opinion: Opinion,
    /// The commit that it was given for; `None` where the forge does not say.
    pub commit: Option<String>,
    pub at: Micros,
}

/// What a status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Pending,
    Success,
    Failure,
    /// It could not be found out.
    Error,
}

impl CheckState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }

    pub fn is_success(self) -> bool {
        self == Self::Success
    }
}

/// A status of a commit, by its name: one that is set again replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Such as `windlass/production`.
    pub name: String,
    pub state: CheckState,
    /// One sentence; adapters cut it to what the forge takes.
    pub text: String,
    pub url: Option<String>,
}

/// The answer to a comment that costs nobody a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// It was understood and is being done.
    Seen,
    /// It is not done; a comment says why.
    Refused,
}

/// How a change comes into its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeMethod {
    /// A commit with two parents.
    #[default]
    Merge,
    /// One commit of all of it.
    Squash,
    /// Its commits, on top of the base.
    Rebase,
}

/// What came of a wish to merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merged {
    /// It is in the base now (also when it was before), as this commit where the forge says so.
    Done(Option<String>),
    /// The forge does not allow it now, in its own words: conflicts, missing reviews, failing checks, a head that moved.
    Refused(String),
}

/// How many requests a forge still takes, as its last answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub limit: u64,
    pub remaining: u64,
    /// When it is `limit` again.
    pub resets_at: Micros,
}
