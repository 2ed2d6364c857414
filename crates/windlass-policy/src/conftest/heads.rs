//! Rules as they stand in the files: every head with its place, its extent and what its METADATA says.

use crate::input::{self, Parser};
use crate::rules::{Kind, without_comments};
use serde_json::Value;
use std::sync::Arc;
use windlass_model::diagnostic::Span;
use windlass_model::review::Severity;

/// What `# METADATA` above a rule or package says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    pub title: Option<String>,
    pub description: Option<String>,
    pub severity: Option<Severity>,
    /// Addresses of pages that say more.
    pub related: Vec<String>,
}

/// One head of a rule; a rule can have several.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Without `data.`.
    pub package: String,
    pub name: String,
    pub span: Span,
    /// Last line of its body.
    pub last_line: u32,
    /// It takes arguments.
    pub is_function: bool,
    pub annotations: Annotations,
}

impl Head {
    /// e.g. `data.main.deny`.
    pub fn path(&self) -> String {
        format!("data.{}.{}", self.package, self.name)
    }

    /// What it does in a check, in one word.
    pub fn effect(&self) -> &'static str {
        match self.kind() {
            Some(Kind::Deny) => "denies",
            Some(Kind::Warn) => "warns",
            Some(Kind::Exception) => "excuses",
            None => "helps",
        }
    }

    /// What Conftest takes the rule for.
    pub fn kind(&self) -> Option<Kind> {
        kind(&self.name)
    }
}

/// What Conftest takes a rule of this name for.
pub fn kind(name: &str) -> Option<Kind> {
    let is = |word: &str| name == word || name.strip_prefix(word).is_some_and(|rest| rest.starts_with('_'));
    match () {
        () if is("deny") || is("violation") => Some(Kind::Deny),
        () if is("warn") => Some(Kind::Warn),
        () if name == "exception" => Some(Kind::Exception),
        () => None,
    }
}

/// All heads of a file, in order; rule heads begin in the first column.
pub fn heads(path: &Arc<str>, text: &str) -> Vec<Head> {
    let plain = without_comments(text);
    let lines: Vec<&str> = plain.lines().collect();
    let commented: Vec<&str> = text.lines().collect();
    let package = lines.iter().find_map(|line| line.trim().strip_prefix("package ")).unwrap_or_default();
    let package = package.trim().to_owned();
    let mut found: Vec<Head> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = name_of(line) else { continue };
        let number = index as u32 + 1;
        let span =
            Span { line: number, end_line: number, end_column: name.len() as u32 + 1, ..Span::file(path.clone()) };
        found.push(Head {
            package: package.clone(),
            name: name.to_owned(),
            span,
            last_line: number,
            is_function: line.get(name.len()..).is_some_and(|rest| rest.starts_with('(')),
            annotations: annotations(&commented[..index]),
        });
    }
    for index in 0..found.len() {
        let from = found[index].span.line as usize;
        let to = found.get(index + 1).map_or(lines.len(), |next| next.span.line as usize - 1);
        let last = (from..to).rev().find(|line| lines.get(*line).is_some_and(|text| !text.trim().is_empty()));
        found[index].last_line = last.map_or(from as u32, |line| line as u32 + 1);
    }
    found
}

/// What the file says about its package as a whole.
pub fn package_annotations(text: &str) -> Annotations {
    let lines: Vec<&str> = text.lines().collect();
    let package = lines.iter().position(|line| line.starts_with("package "));
    package.map_or_else(Annotations::default, |index| annotations(&lines[..index]))
}

fn name_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix("default ").unwrap_or(line);
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(line.len());
    let name = &line[..end];
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts && !matches!(name, "package" | "import" | "else" | "default")).then_some(name)
}

/// From the block of comments that ends the lines.
fn annotations(before: &[&str]) -> Annotations {
    let block: Vec<&str> = before
        .iter()
        .rev()
        .take_while(|line| line.starts_with('#'))
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let Some(start) = block.iter().position(|line| line.trim_start_matches('#').trim() == "METADATA") else {
        return Annotations::default();
    };
    let yaml: String = block[start + 1..]
        .iter()
        .map(|line| {
            let line = line.trim_start_matches('#');
            format!("{}\n", line.strip_prefix(' ').unwrap_or(line))
        })
        .collect();
    let Ok(value) = input::parse(Parser::Yaml, &"METADATA".into(), &yaml) else { return Annotations::default() };
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let custom = value.get("custom").unwrap_or(&Value::Null);
    let related = value.get("related_resources").and_then(Value::as_array).into_iter().flatten();
    Annotations {
        title: text("title"),
        description: text("description"),
        severity: custom.get("severity").and_then(Value::as_str).and_then(severity),
        related: related
            .filter_map(|item| item.as_str().or_else(|| item.get("ref")?.as_str()))
            .map(str::to_owned)
            .collect(),
    }
}

/// `HIGH` → high; other scales are translated as far as they have an equal.
pub fn severity(text: &str) -> Option<Severity> {
    Some(match text.to_lowercase().as_str() {
        "critical" => Severity::Critical,
        "high" | "error" => Severity::High,
        "medium" | "moderate" | "warning" => Severity::Medium,
        "low" => Severity::Low,
        "info" | "note" | "informational" => Severity::Info,
        _ => return None,
    })
}
