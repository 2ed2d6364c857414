//! Who may do what: permissions, roles, grants in git, and the decision. Whatever is not given is refused.

mod decision;
mod permission;

pub use decision::{Answer, Ground, Place, Question, Rules, Subject, TokenScope, decide};
pub use permission::{Permission, Role, Scope, matrix};

#[cfg(test)]
mod tests;
