//! Decisions in Rego: Conftest's rule kinds over a document, evaluated by an embedded engine. What that engine would answer
//! differently from OPA without saying so is refused when the policy is loaded; whatever breaks is never a pass.

pub mod builtins;
mod conftest;
pub mod engine;
pub mod hygiene;
pub mod input;
pub mod output;
mod refuse;
mod rules;
pub mod testing;

pub use conftest::{
    Annotations, CheckOptions, Checker, Evaluation, Head, Judgement, Limits, LoadOptions, Mode, Outcome, PolicySet,
    Reader, heads, package_annotations,
};
