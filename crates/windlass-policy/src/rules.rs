//! Which rules a file has, by their heads.

use std::sync::Arc;
use windlass_model::diagnostic::Span;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Deny,
    Warn,
    Exception,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub package: String,
    pub name: String,
    pub kind: Kind,
    pub span: Span,
}

impl Rule {
    /// e.g. `data.main.deny`.
    pub fn path(&self) -> String {
        format!("data.{}.{}", self.package, self.name)
    }
    /// `deny_public` → `public`, `deny` → ``.
    pub fn suffix(&self) -> &str {
        self.name.split_once('_').map_or("", |(_, suffix)| suffix)
    }
}

/// The text without comments; strings and line breaks stay, so that places stay.
pub fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut raw, mut comment, mut escaped) = (false, false, false, false);
    for c in text.chars() {
        if c == '\n' {
            comment = false;
            quoted = false;
            escaped = false;
        } else if comment {
            continue;
        } else if quoted {
            quoted = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if raw {
            raw = c != '`';
        } else {
            match c {
                '"' => quoted = true,
                '`' => raw = true,
                '#' => {
                    comment = true;
                    continue;
                }
                _ => {}
            }
        }
        out.push(c);
    }
    out
}

fn head(line: &str) -> Option<&str> {
    let line = line.strip_prefix("default ").unwrap_or(line);
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(line.len());
    let name = &line[..end];
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts && !matches!(name, "package" | "import" | "else" | "default")).then_some(name)
}

/// Names of all rules of a file: rule heads begin in the first column.
pub fn names(text: &str) -> Vec<String> {
    without_comments(text).lines().filter_map(head).map(str::to_owned).collect()
}

/// The rules that Conftest knows by name, each at its first head.
pub fn find(path: &Arc<str>, text: &str) -> Vec<Rule> {
    let plain = without_comments(text);
    let package =
        plain.lines().find_map(|line| line.trim().strip_prefix("package ")).unwrap_or_default().trim().to_owned();
    let mut rules: Vec<Rule> = Vec::new();
    for (index, line) in plain.lines().enumerate() {
        let Some(name) = head(line) else { continue };
        let is = |word: &str| name == word || name.strip_prefix(word).is_some_and(|rest| rest.starts_with('_'));
        let kind = match () {
            () if is("deny") || is("violation") => Kind::Deny,
            () if is("warn") => Kind::Warn,
            () if name == "exception" => Kind::Exception,
            () => continue,
        };
        if rules.iter().all(|rule| rule.name != name) {
            let line = index as u32 + 1;
            let span = Span { line, end_line: line, end_column: name.len() as u32 + 1, ..Span::file(path.clone()) };
            rules.push(Rule { package: package.clone(), name: name.to_owned(), kind, span });
        }
    }
    rules
}
