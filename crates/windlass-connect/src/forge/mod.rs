//! Forges: where changes are proposed, talked about, checked and merged. One port; an adapter for each forge has what differs.
//!
//! Nothing here decides or remembers: a caller may ask again what it asked before, and set again what is set. What creates
//! something (a comment) may have happened although the answer was lost: [`ForgeError::unsure`] tells, and the caller looks.

mod access;
mod address;
mod api;
mod bitbucket;
mod data_center;
mod delivery;
mod error;
mod gitea;
mod github;
mod gitlab;
mod settings;

pub use address::place;
pub use delivery::{Touched, touched};
pub use error::ForgeError;
pub use settings::{Account, AppSettings, ForgeKind, ForgeSettings, connect, connect_as};

use windlass_model::Micros;
use windlass_model::change::{
    Budget, Change, ChangeState, Check, Comment, Commit, ForgeReview, MergeMethod, Merged, Person, Reaction,
};

/// One repository at one forge, with the right to act there. Every call blocks, for at most half a minute.
pub trait Forge: Send + Sync {
    /// What it takes.
    fn limits(&self) -> Limits;

    /// Under which account it acts: whose comments are our own.
    ///
    /// # Errors
    /// As all of them: [`ForgeError`].
    fn me(&self) -> Result<Person, ForgeError>;

    /// Changes in one of `states` that were touched at `since` or later (clocks of forges tell seconds: what was touched in the
    /// same one comes again), most recently touched first, at most `most`.
    fn changes(&self, states: &[ChangeState], since: Option<Micros>, most: usize) -> Result<Vec<Change>, ForgeError>;

    /// One change; `None` when there is none of that number.
    fn change(&self, number: u64) -> Result<Option<Change>, ForgeError>;

    /// Its commits, in any order, with the accounts that the forge knows their signatures of.
    fn commits(&self, number: u64) -> Result<Vec<Commit>, ForgeError>;

    /// Its comments that were made or changed at `since` or later, oldest first.
    fn comments(&self, number: u64, since: Option<Micros>) -> Result<Vec<Comment>, ForgeError>;

    /// Makes a comment.
    fn comment_create(&self, number: u64, body: &str) -> Result<Comment, ForgeError>;

    /// Changes a comment of our own; `false` when somebody has deleted it.
    fn comment_update(&self, number: u64, comment: &str, body: &str) -> Result<bool, ForgeError>;

    /// Answers a comment without a word; nothing when it is gone or was answered so before. `false` where the forge has no such answer.
    fn react(&self, number: u64, comment: &str, reaction: Reaction) -> Result<bool, ForgeError>;

    /// Newest reviews that count, one of each person.
    fn reviews(&self, number: u64) -> Result<Vec<ForgeReview>, ForgeError>;

    /// Sets a status of a commit.
    fn check_set(&self, commit: &str, check: &Check) -> Result<(), ForgeError>;

    /// Puts labels on a change and takes others away, those that it has or has not already included.
    fn labels_change(&self, number: u64, add: &[String], remove: &[String]) -> Result<(), ForgeError>;

    /// Merges a change whose head is still `commit`. Bitbucket Cloud cannot be told so: what was pushed in between is merged there, and
    /// the change tells by its head.
    fn merge(&self, number: u64, commit: &str, method: MergeMethod) -> Result<Merged, ForgeError>;

    /// Deletes a branch of the repository itself; nothing when it is gone.
    fn branch_delete(&self, branch: &str) -> Result<(), ForgeError>;

    /// Whether an account is in a team or group, named as definitions do: `org/team` (GitHub, Gitea), `group/subgroup` (GitLab),
    /// `workspace/group` (Bitbucket Cloud), `group` (Data Center).
    fn is_member(&self, team: &str, person: &Person) -> Result<bool, ForgeError>;

    /// What the last answers said about how much more may be asked; `None` where the forge does not say.
    fn budget(&self) -> Option<Budget>;
}

/// What a forge takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A comment, in characters (UTF-16 units where the forge counts so; never more than it takes).
    pub comment_chars: usize,
    /// A comment, bytes.
    pub comment_bytes: usize,
}
