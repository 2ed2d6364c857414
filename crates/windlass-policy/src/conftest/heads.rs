//! Rules as they stand in the files: every head with its place, its extent, what it reads and what its METADATA says.

use crate::engine::{self, Kind};
use crate::syntax::tree::{Arg, Rule, TermKind};
use crate::syntax::{Source, annotations, visit};
use std::collections::BTreeSet;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};
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

impl From<&annotations::Annotations> for Annotations {
    fn from(from: &annotations::Annotations) -> Self {
        Self {
            title: from.title.clone(),
            description: from.description.clone(),
            severity: from.severity.as_deref().and_then(severity),
            related: from.related_resources.iter().map(|(reference, _)| reference.clone()).collect(),
        }
    }
}

/// What a rule reads below `input`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reads {
    /// Names right below it.
    pub names: BTreeSet<String>,
    /// Also in a way that does not say which part.
    pub whole: bool,
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
    pub reads: Reads,
    /// Names in it that could be those of other rules.
    pub words: BTreeSet<String>,
    /// Full paths in it, e.g. `data.main.deny`.
    pub paths: BTreeSet<String>,
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
        Kind::of(&self.name)
    }

    /// Whether a check judges by it.
    pub fn judges(&self) -> bool {
        self.kind().is_some_and(|kind| kind != Kind::Exception)
    }
}

/// A file with its heads in order, and what it says about its package.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    pub path: Arc<str>,
    pub text: Arc<str>,
    pub package: String,
    /// Full paths that it imports, e.g. `data.main`.
    pub imports: Vec<String>,
    pub annotations: Annotations,
    pub heads: Vec<Head>,
}

/// Reads files (path, text).
///
/// # Errors
/// What is wrong with their syntax, of all files.
pub fn files(files: &[(Arc<str>, String)]) -> Result<Vec<File>, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut read = Vec::new();
    for (path, text) in files {
        match Source::parse(path.clone(), text.as_str(), None) {
            Ok(source) => read.push(file(&source)),
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    if diagnostics.is_empty() { Ok(read) } else { Err(diagnostics) }
}

fn file(source: &Source) -> File {
    let package = engine::package(&source.module);
    // What is wrong with METADATA is told when the policies are loaded.
    let blocks = annotations::find(source).unwrap_or_default();
    let of = |wanted: annotations::Target| {
        let found = blocks.iter().rev().find(|(target, _)| *target == wanted);
        found.map_or_else(Annotations::default, |(_, block)| Annotations::from(&block.annotations))
    };
    let rules = source.module.rules.iter().enumerate();
    File {
        path: source.path.clone(),
        text: source.text.clone(),
        annotations: of(annotations::Target::Package),
        imports: source.module.imports.iter().map(|import| import.path.join(".")).collect(),
        heads: rules.map(|(index, rule)| head(source, &package, rule, of(annotations::Target::Rule(index)))).collect(),
        package,
    }
}

fn head(source: &Source, package: &str, rule: &Rule, annotations: Annotations) -> Head {
    let mut name = rule.head.name.clone();
    for part in rule.head.path.iter().map_while(Arg::text) {
        name = format!("{name}.{part}");
    }
    let mut reads = Reads::default();
    let (mut words, mut paths) = (BTreeSet::new(), BTreeSet::new());
    // A reference is seen before the variable that it begins with.
    let mut explained = 0_usize;
    visit::rule(rule, &mut |term| match &term.kind {
        TermKind::Ref(head, path) => {
            let TermKind::Var(root) = &head.kind else { return };
            let texts: Vec<&str> = path.iter().map_while(Arg::text).collect();
            if root == "input" {
                explained += 1;
                match texts.first() {
                    Some(name) => drop(reads.names.insert((*name).to_owned())),
                    None => reads.whole = true,
                }
            } else {
                words.extend(path.iter().filter_map(Arg::text).map(str::to_owned));
                if root == "data" {
                    paths.insert(format!("data.{}", texts.join(".")));
                }
            }
        }
        TermKind::Var(name) if name == "input" => match explained.checked_sub(1) {
            Some(left) => explained = left,
            None => reads.whole = true,
        },
        TermKind::Var(name) => drop(words.insert(name.clone())),
        _ => {}
    });
    let end = source.text.get(..rule.loc.end as usize).unwrap_or(&source.text).trim_end();
    Head {
        package: package.to_owned(),
        name,
        span: source.span(rule.head.name_loc),
        last_line: end.bytes().filter(|byte| *byte == b'\n').count() as u32 + 1,
        is_function: rule.head.params.is_some(),
        annotations,
        reads,
        words,
        paths,
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
