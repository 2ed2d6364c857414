//! What changes in a resource, as a person reads it: one row per difference, noise folded.

use crate::effect::{Action, OutputChange, ResourceChange, Shown};
use serde::{Deserialize, Serialize};

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

/// What changes in a resource: rows that force a replacement first, then by path.
pub fn diff(change: &ResourceChange) -> Diff {
    let mut found = Diff::default();
    let made = matches!(change.action, Action::Create | Action::Replace | Action::ReplaceCreateFirst);
    for (path, attribute) in &change.attributes {
        let forces_replacement = change.replace_paths.iter().any(|cause| within(cause, path) || within(path, cause));
        if made && !forces_replacement && attribute.after == Shown::Unknown {
            found.unknown.push(path.clone());
            continue;
        }
        let change = of_values(&attribute.before, &attribute.after);
        found.rows.extend(change.map(|change| Row { path: path.clone(), change, forces_replacement }));
    }
    for cause in &change.replace_paths {
        if !found.rows.iter().any(|row| within(&row.path, cause) || within(cause, &row.path)) {
            found.rows.push(Row { path: cause.clone(), change: Change::Lines(Vec::new()), forces_replacement: true });
        }
    }
    found.rows.sort_by_key(|row| !row.forces_replacement);
    found
}

/// What changes in an output.
pub fn diff_output(change: &OutputChange) -> Vec<Row> {
    let change = of_values(&change.before, &change.after);
    change.into_iter().map(|change| Row { path: String::new(), change, forces_replacement: false }).collect()
}

fn of_values(before: &Shown, after: &Shown) -> Option<Change> {
    match (before, after) {
        (before, after) if before == after => None,
        (Shown::Absent, after) => Some(Change::Added(after.clone())),
        (before, Shown::Absent) => Some(Change::Removed(before.clone())),
        (before, after) => Some(Change::Changed { before: before.clone(), after: after.clone() }),
    }
}

/// `path` is `outer` or lies in it.
fn within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests;
