//! Who may do what: permissions, roles, grants in git, and the decision. Whatever is not given is refused.

mod decision;
mod permission;

pub use decision::{Answer, Ground, Lets, OPERATION, Place, Question, Rules, Subject, TokenScope, decide};
pub use permission::{Permission, Role, Scope, matrix};

/// How identities begin, those of members of teams and of admins.
pub const IDENTITIES: [&str; 9] =
    ["user:", "email:", "github:", "gitlab:", "gitea:", "bitbucket:", "oidc:", "oidc-group:", "ci:"];

/// Whether a text says what kind of identity it is, and which.
pub fn is_identity(text: &str) -> bool {
    IDENTITIES.iter().any(|kind| text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests;
