//! Conftest's rule kinds over a document. Whatever breaks is never a pass.

mod check;
mod heads;
mod reader;

pub use check::{CheckOptions, Checker, Documents, Judgement, Mode, Outcome};
pub(crate) use check::{prints, register_parsers};
pub use heads::{Annotations, File, Head, files};
pub use reader::Reader;

use crate::document::Document;
use crate::limits::{self, Limits};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::review::{Finding, Level};

#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Packages to judge with, without `data.`; empty means all that have a rule.
    pub namespaces: Vec<String>,
}

/// Loaded policies; cheap to evaluate many times.
#[derive(Clone)]
pub struct PolicySet {
    checker: Checker,
    digest: String,
}

/// What the policies say about one input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    pub findings: Vec<Finding>,
    /// Rules that could not be evaluated. Not a pass.
    pub broken: Vec<Diagnostic>,
}

impl PolicySet {
    /// Loads Rego files (path, text) and data documents.
    ///
    /// # Errors
    /// Everything that is wrong: syntax, constructs that are refused, namespaces that select nothing.
    pub fn load(
        files: &[(Arc<str>, String)],
        data: &[(Arc<str>, serde_json::Value)],
        options: &LoadOptions,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut hash = Sha256::new();
        for (path, text) in files {
            hash.update(format!("{path}\0{}\0", text.len()));
            hash.update(text);
        }
        for (path, value) in data {
            hash.update(format!("{path}\0{value}\0"));
        }
        let options = CheckOptions { namespaces: options.namespaces.clone(), ..CheckOptions::default() };
        let checker = Checker::load(files, data, &options, None)?;
        Ok(Self { checker, digest: hash.finalize().iter().map(|b| format!("{b:02x}")).collect() })
    }

    /// Hexadecimal SHA-256 of all files and data.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Judges one input, sorted by rule and message.
    pub fn evaluate(&self, input: &serde_json::Value, limits: &Limits) -> Evaluation {
        self.evaluate_document(&Document::from(input), limits)
    }

    /// As [`PolicySet::evaluate`].
    pub fn evaluate_document(&self, input: &Document<'_>, limits: &Limits) -> Evaluation {
        let outcome = self.checker.evaluate_document(input, limits);
        let failures = outcome.failures.into_iter().map(|judgement| finding(Level::Deny, judgement));
        let warnings = outcome.warnings.into_iter().map(|judgement| finding(Level::Warn, judgement));
        let mut findings: Vec<Finding> = failures.chain(warnings).collect();
        findings.sort_by(|a, b| (a.level, &a.rule, &a.message).cmp(&(b.level, &b.rule, &b.message)));
        Evaluation { findings, broken: outcome.broken }
    }
}

fn finding(level: Level, judgement: Judgement) -> Finding {
    let code = judgement.place.map(|(file, line)| {
        let line = line.unwrap_or(1);
        Span { line, end_line: line, ..Span::file(file) }
    });
    Finding {
        rule: Some(judgement.rule),
        address: judgement.address,
        code,
        policy: judgement.policy,
        severity: judgement.severity,
        help: judgement.help,
        ..Finding::new(level, "policy", judgement.message)
    }
}

/// Runs within the limits; see [`limits::watched`].
///
/// # Errors
/// A sentence: it took too long, or panicked.
pub(crate) fn bounded<T: Send + 'static>(
    limits: &Limits,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    limits::watched(limits, work).map_err(|broken| broken.to_string())
}

#[cfg(test)]
mod tests;
