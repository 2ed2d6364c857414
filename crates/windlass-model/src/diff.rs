//! What changes in a resource, as a person reads it: one row per difference, noise folded.

mod text;
mod values;

use crate::effect::{Action, OutputChange, ResourceChange, Shown, UNKNOWN, mark_of, without_marks};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use values::{Comparer, Found, Step, What};

/// What changes in one resource, for every renderer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// What forces a replacement first, then by path.
    pub rows: Vec<Row>,
    /// Attributes of which no more is known than that the provider will give them, on create and replace: folded noise.
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `ingress[0].cidr_blocks`; `policy → Statement[0].Action` where a text is data. Empty for the whole of an output.
    pub path: String,
    pub change: Change,
    pub forces_replacement: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added(Shown),
    Removed(Shown),
    Changed {
        before: Shown,
        after: Shown,
    },
    /// Long text, by line. Empty where only the path is known: it forces a replacement, and no difference is told.
    Lines(Vec<Line>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Same(String),
    Added(String),
    Removed(String),
    /// So many unchanged lines are left out.
    Folded(usize),
}

/// What changes in a resource: rows that force a replacement first, then by path. The last index of a row that is added counts
/// in the new list, every other index in the old one.
pub fn diff(change: &ResourceChange) -> Diff {
    let mut found = Diff::default();
    let mut parts: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for (path, list) in &change.lists {
        parts.insert(path, rows(path, &list.before, &list.after, &list.sets));
    }
    for (path, attribute) in &change.attributes {
        if !change.lists.keys().any(|list| within(path, list)) {
            parts.insert(path, of_shown(path, &attribute.before, &attribute.after));
        }
    }
    found.rows = parts.into_values().flatten().collect();
    for cause in &change.replace_paths {
        let mut known = false;
        for row in found.rows.iter_mut().filter(|row| within(&row.path, cause) || within(cause, &row.path)) {
            (row.forces_replacement, known) = (true, true);
        }
        // An item of a list may stand at another place now.
        let outer = without_indices(cause);
        if !known && cause.contains('[') {
            for row in found.rows.iter_mut().filter(|row| within(&without_indices(&row.path), &outer)) {
                (row.forces_replacement, known) = (true, true);
            }
        }
        if !known {
            found.rows.push(Row { path: cause.clone(), change: Change::Lines(Vec::new()), forces_replacement: true });
        }
    }
    if matches!(change.action, Action::Create | Action::Replace | Action::ReplaceCreateFirst) {
        let (noise, rows) = found.rows.into_iter().partition(|row| !row.forces_replacement && row.is_unknown());
        found.unknown = Vec::into_iter(noise).map(|row: Row| row.path).collect();
        found.rows = rows;
    }
    found.rows.sort_by_key(|row| !row.forces_replacement);
    found
}

/// What changes in an output.
pub fn diff_output(change: &OutputChange) -> Vec<Row> {
    of_shown("", &change.before, &change.after)
}

impl Row {
    fn is_unknown(&self) -> bool {
        matches!(&self.change, Change::Added(Shown::Unknown) | Change::Changed { after: Shown::Unknown, .. })
    }
}

fn of_shown(path: &str, before: &Shown, after: &Shown) -> Vec<Row> {
    let change = match (before, after) {
        (before, after) if before == after => return Vec::new(),
        (Shown::Value(before), Shown::Value(after)) => return rows(path, before, after, &[]),
        (Shown::Absent, after) => Change::Added(readable(after)),
        (before, Shown::Absent) => Change::Removed(readable(before)),
        (before, after) => Change::Changed { before: readable(before), after: readable(after) },
    };
    vec![Row { path: path.to_owned(), change, forces_replacement: false }]
}

fn rows(path: &str, before: &Value, after: &Value, sets: &[String]) -> Vec<Row> {
    let mut comparer = Comparer::new(sets, false);
    comparer.compare(before, after);
    let row = |found: Found| {
        let in_text = found.path.contains(&Step::Text);
        let shown = |value| shown(if in_text { value } else { without_nulls(value) });
        let change = match found.what {
            What::Added(value) => Change::Added(shown(value)),
            What::Removed(value) => Change::Removed(shown(value)),
            What::Changed(before, after) => Change::Changed { before: shown(before), after: shown(after) },
            What::Lines(before, after) => Change::Lines(text::lines(&before, &after)),
            What::Formatting(_) => Change::Lines(vec![Line::Same("(only formatting)".into())]),
        };
        Row { path: path_text(path, &found.path), change, forces_replacement: false }
    };
    comparer.out.into_iter().map(row).collect()
}

/// A stored value as people read it.
fn readable(value: &Shown) -> Shown {
    match value {
        Shown::Value(value) => shown(without_nulls(value.clone())),
        other => other.clone(),
    }
}

fn shown(value: Value) -> Shown {
    match value {
        Value::String(text) if text == UNKNOWN => Shown::Unknown,
        Value::String(text) => match mark_of(&text) {
            Some(digest) => Shown::Sensitive(digest.to_owned()),
            None => Shown::Value(without_marks(&text).into()),
        },
        other => Shown::Value(unmarked(other)),
    }
}

/// Without attributes that have no value.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(object) => {
            let there = object.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

fn unmarked(value: Value) -> Value {
    match value {
        Value::String(text) => without_marks(&text).into(),
        Value::Array(items) => items.into_iter().map(unmarked).collect(),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(name, value)| (name, unmarked(value))).collect())
        }
        other => other,
    }
}

fn path_text(base: &str, steps: &[Step]) -> String {
    let mut out = base.to_owned();
    let mut first = base.is_empty();
    for step in steps {
        // Writing to a text cannot fail.
        let _ = match step {
            Step::Text => write!(out, "{}→ ", if first { "" } else { " " }),
            Step::Index(index) => write!(out, "[{index}]"),
            Step::Name(name) if !is_plain(name) => write!(out, "[{}]", Value::from(name.as_str())),
            Step::Name(name) => write!(out, "{}{name}", if first { "" } else { "." }),
        };
        first = *step == Step::Text;
    }
    out
}

/// Can stand in a path without quotes.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || ".[]\"→".contains(c))
}

/// `path` is `outer` or lies in it.
fn within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ' ']))
}

fn without_indices(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for part in path.split('[') {
        let index = part.find(']').filter(|end| *end > 0 && part[..*end].bytes().all(|b| b.is_ascii_digit()));
        match index {
            Some(end) => out.push_str(&part[end + 1..]),
            None if out.is_empty() => out.push_str(part),
            None => {
                out.push('[');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
