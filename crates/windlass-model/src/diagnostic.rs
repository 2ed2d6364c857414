//! Diagnostics are data: made by checkers that collect all mistakes, rendered once per medium.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Notice,
}

/// A place in a file. Lines and columns count from 1, columns in characters; `end` is exclusive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Path relative to the repository root, `/`-separated.
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    pub end_column: u32,
}

impl Span {
    /// The span from byte `start` to byte `end` (exclusive) of `text`, which is the content of `file`.
    pub fn of(file: &Arc<str>, text: &str, start: usize, end: usize) -> Self {
        let (line, column) = position(text, start);
        let (end_line, end_column) = position(text, end.max(start));
        Self { file: file.clone(), line, column, end_line, end_column }
    }

    /// The whole of a file, when no better place is known.
    pub fn file(file: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), line: 1, column: 1, end_line: 1, end_column: 1 }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Line and column (from 1, in characters) of byte `at` of `text`; a position past the end is the end, one inside a
/// character is that character's start.
pub fn position(text: &str, at: usize) -> (u32, u32) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line = before.bytes().filter(|b| *b == b'\n').count() as u32 + 1;
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    (line, before[start..].chars().count() as u32 + 1)
}

/// A span with what it shows and why it is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    #[serde(flatten)]
    pub span: Span,
    /// The source line the span starts in, without its line end; empty when the source is not at hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
    /// What stands there, e.g. `first defined here`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One finding of a checker. `code` is a key of the catalogue in [`crate::diagnostic`]'s pages, e.g. `WL201`, shown by
/// `windlass explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub code: String,
    /// One line: what is wrong, with the names involved.
    pub summary: String,
    /// What was expected, what follows from it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The first is the primary place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// The way out: what to write or run instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn new(severity: Severity, code: &str, summary: impl Into<String>) -> Self {
        Self {
            severity,
            code: code.to_owned(),
            summary: summary.into(),
            detail: String::new(),
            labels: Vec::new(),
            help: None,
        }
    }
    pub fn error(code: &str, summary: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, summary)
    }
    pub fn warning(code: &str, summary: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, summary)
    }
    pub fn notice(code: &str, summary: impl Into<String>) -> Self {
        Self::new(Severity::Notice, code, summary)
    }
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Adds a place without its source.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.labels.push(Label { span, excerpt: String::new(), message: String::new() });
        self
    }
    /// Adds a place with an excerpt cut from `text`, the content of the span's file.
    #[must_use]
    pub fn at_source(mut self, span: Span, text: &str, message: impl Into<String>) -> Self {
        let excerpt = text.lines().nth(span.line as usize - 1).unwrap_or("").to_owned();
        self.labels.push(Label { span, excerpt, message: message.into() });
        self
    }
}

/// True when any of them is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| d.severity == Severity::Error)
}
