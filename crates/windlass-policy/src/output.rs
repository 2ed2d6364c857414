//! What was judged, for people and programs. The shapes are Conftest's, so that what reads its answers can read ours; what it does
//! not have (where a rule stands, severity, address) is added unless the view is compatible.

mod ci;
mod json;
mod junit;
mod sarif;
mod table;
mod tap;
mod text;

use crate::conftest::{Judgement, Outcome};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Json,
    Tap,
    Table,
    Junit,
    Github,
    Sarif,
    Azuredevops,
}

impl Format {
    /// All names, as `--output` takes them; `stdout` is another name of `text`.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("text", Self::Text),
        ("stdout", Self::Text),
        ("json", Self::Json),
        ("tap", Self::Tap),
        ("table", Self::Table),
        ("junit", Self::Junit),
        ("github", Self::Github),
        ("sarif", Self::Sarif),
        ("azuredevops", Self::Azuredevops),
    ];

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }
}

/// How much is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    pub color: bool,
    /// Nothing when everything passed.
    pub quiet: bool,
    /// Leave out what `exception` took back.
    pub suppress_exceptions: bool,
    /// GitHub: leave out files that passed.
    pub hide_passed: bool,
    /// JUnit: the message is no part of the name.
    pub hide_message: bool,
    /// Nothing that Conftest does not write.
    pub compatible: bool,
    /// Exit code of the check, for formats that tell it.
    pub exit_code: u8,
}

/// The answer as one text, ending in a line feed unless it is empty.
pub fn render(outcomes: &[Outcome], format: Format, view: &View) -> String {
    let silent =
        |outcome: &Outcome| outcome.failures.is_empty() && outcome.warnings.is_empty() && outcome.broken.is_empty();
    if view.quiet && outcomes.iter().all(silent) {
        return String::new();
    }
    match format {
        Format::Text => text::render(outcomes, view),
        Format::Tap => tap::render(outcomes),
        Format::Table => table::render(outcomes),
        Format::Junit => junit::render(outcomes, view),
        Format::Sarif => sarif::render(outcomes, view),
        Format::Github => ci::github(outcomes, view),
        Format::Azuredevops => ci::azure(outcomes),
        Format::Json => json::render(outcomes, view),
    }
}

/// How many results of each kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub tests: usize,
    pub passed: usize,
    pub warnings: usize,
    pub failures: usize,
    pub exceptions: usize,
    pub skipped: usize,
    /// Rules that could not be evaluated.
    pub broken: usize,
}

impl Tally {
    pub fn of(outcomes: &[Outcome]) -> Self {
        let sum = |count: fn(&Outcome) -> usize| outcomes.iter().map(count).sum();
        let broken = sum(|outcome| outcome.broken.len());
        Self {
            tests: sum(Outcome::total) + broken,
            passed: sum(|outcome| outcome.successes),
            warnings: sum(|outcome| outcome.warnings.len()),
            failures: sum(|outcome| outcome.failures.len()),
            exceptions: sum(|outcome| outcome.exceptions.len()),
            skipped: sum(|outcome| outcome.skipped.len()),
            broken,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        write!(
            f,
            "{}, {} passed, {}, {}, {}",
            count(self.tests, "test"),
            self.passed,
            count(self.warnings, "warning"),
            count(self.failures, "failure"),
            count(self.exceptions, "exception"),
        )?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        if self.broken > 0 {
            write!(f, ", {} broken", self.broken)?;
        }
        Ok(())
    }
}

/// One line: what could not be evaluated, with its code and place.
fn broken_line(diagnostic: &windlass_model::diagnostic::Diagnostic) -> String {
    let place = diagnostic.labels.first().map_or_else(String::new, |label| format!(" ({})", label.span));
    format!("[{}] {}{place}", diagnostic.code, diagnostic.summary)
}

/// Where the rule stands and how bad it is, e.g. `data.main.deny, policy/a.rego:4, high`.
fn origin(judgement: &Judgement) -> String {
    let mut parts = Vec::new();
    if !judgement.rule.is_empty() {
        parts.push(judgement.rule.clone());
    }
    parts.extend(judgement.policy.as_ref().map(ToString::to_string));
    parts.extend(judgement.severity.map(severity_name).map(str::to_owned));
    parts.extend(judgement.address.clone());
    parts.join(", ")
}

fn severity_name(severity: windlass_model::review::Severity) -> &'static str {
    use windlass_model::review::Severity;
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
        Severity::Info => "info",
    }
}

#[cfg(test)]
mod tests;
