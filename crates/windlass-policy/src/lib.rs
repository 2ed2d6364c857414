//! Decisions in Rego: Conftest's rule kinds over a document, evaluated by an embedded engine. What that engine would answer
//! differently from OPA is rewritten or refused when the policy is loaded; whatever breaks is never a pass.

pub mod builtins;
mod conftest;
pub mod decision;
mod document;
pub mod engine;
pub mod hygiene;
pub mod input;
pub mod library;
pub mod limits;
pub mod output;
mod rewrite;
pub mod syntax;
pub mod testing;

pub use conftest::{
    Annotations, CheckOptions, Checker, Documents, Evaluation, File, Head, Judgement, LoadOptions, Mode, Outcome,
    PolicySet, Reader, files,
};
pub use document::Document;
pub use limits::Limits;
pub use rewrite::Shape;
