//! Constructs that the embedded engine answers differently from OPA without an error. A gate that passes because of one would be
//! worse than no gate: they are refused, with what to write instead.

use crate::rules::without_comments;
use std::collections::BTreeSet;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

/// Deeper literals take the parser exponential time.
const DEEPEST: usize = 12;

/// Builtins that the engine lacks and plans use; without them a rule would not even load, but the message would not say why.
const MISSING: [&str; 9] = [
    "rego.metadata.",
    "net.cidr_intersects",
    "net.cidr_merge",
    "net.cidr_contains_matches",
    "crypto.sha256",
    "crypto.md5",
    "crypto.sha1",
    "array.flatten",
    "regex.globs_match",
];

pub fn check(path: &Arc<str>, text: &str, rule_names: &BTreeSet<String>) -> Vec<Diagnostic> {
    let plain = without_comments(text);
    let mut found = Vec::new();
    let mut add = |at: usize, summary: String, help: &str| {
        let span = Span::of(path, &plain, at, at + 1);
        found.push(Diagnostic::error("WL404", summary).at_source(span, text, "this construct is refused").help(help));
    };
    for (at, _) in plain.match_indices("walk(") {
        let before = plain[..at].trim_end();
        let word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        if !word && before.ends_with('=') && !before.ends_with("==") {
            add(
                at,
                "`… = walk(x)` yields nothing in the embedded engine".into(),
                "write `walk(x, [path, value])`, which means the same",
            );
        }
    }
    for (at, _) in plain.match_indices("some ") {
        let boundary = plain[..at].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '"'));
        let rest = plain[at + 5..].lines().next().unwrap_or_default();
        let declared = rest.split([';', '}']).next().unwrap_or_default();
        let uses_in = declared.split_whitespace().any(|word| word == "in");
        let names: Vec<&str> = declared.split(" in ").next().unwrap_or_default().split(',').map(str::trim).collect();
        if let Some(name) = names.iter().find(|name| boundary && rule_names.contains(**name)) {
            let what = if uses_in { "fails" } else { "yields nothing" };
            add(
                at,
                format!("`some {name}` {what} in the embedded engine, because a rule is called `{name}` as well"),
                "give the variable another name",
            );
        }
    }
    for (at, _) in plain.match_indices("sprintf(") {
        if let Some((verbs, arguments)) = sprintf(&plain[at + "sprintf(".len()..])
            && verbs != arguments
        {
            add(
                at,
                format!("sprintf has {verbs} verbs and {arguments} values: the denial would be lost"),
                "give one value per verb",
            );
        }
    }
    for name in MISSING {
        for (at, _) in plain.match_indices(name) {
            add(
                at,
                format!("builtin `{}` is not available in the embedded engine", name.trim_end_matches('.')),
                "express it with other builtins, or compute it into data",
            );
        }
    }
    for (at, _) in plain.match_indices("$\"") {
        add(
            at,
            "string interpolation `$\"…\"` is not available in the embedded engine".into(),
            "write sprintf(\"…\", […])",
        );
    }
    let mut depth = 0usize;
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in plain.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '[' | '{' if !quoted => {
                depth += 1;
                if depth == DEEPEST + 1 {
                    add(
                        at,
                        format!("literals nested deeper than {DEEPEST} take the parser exponential time"),
                        "move the constant into a JSON data file beside the policy",
                    );
                }
            }
            ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
    }
    found
}

/// Verbs of a literal pattern and values of a literal list: `"%s is %d", [a, b])` → (2, 2); `None` when either is no literal.
fn sprintf(text: &str) -> Option<(usize, usize)> {
    let text = text.trim_start();
    let body = text.strip_prefix('"')?;
    let mut verbs = 0;
    let mut chars = body.char_indices().peekable();
    let end = loop {
        let (at, c) = chars.next()?;
        match c {
            '\\' => drop(chars.next()),
            '"' => break at,
            '%' => match chars.peek() {
                Some((_, '%')) => drop(chars.next()),
                _ => verbs += 1,
            },
            _ => {}
        }
    };
    let rest = body[end + 1..].trim_start().strip_prefix(',')?.trim_start().strip_prefix('[')?;
    let mut depth = 0usize;
    let mut count = 0;
    let mut any = false;
    let mut quoted = false;
    let mut escaped = false;
    for c in rest.chars() {
        match c {
            '"' if !escaped => {
                quoted = !quoted;
                any = true;
            }
            _ if quoted => {}
            '(' | '[' | '{' => {
                depth += 1;
                any = true;
            }
            // A comprehension is no list of values.
            '|' if depth == 0 => return None,
            ']' if depth == 0 => return Some((verbs, if any { count + 1 } else { 0 })),
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                count += 1;
                // A trailing comma is followed by nothing.
                any = false;
            }
            c if !c.is_whitespace() => any = true,
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        if c == ']' && depth == 0 && !any && count > 0 {
            return Some((verbs, count));
        }
    }
    None
}
