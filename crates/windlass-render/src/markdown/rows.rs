//! Rows of a resource as lines of a `diff` block.

use crate::text::{count, line, names, shortened, value};
use windlass_model::diff::{Change, Line, Row};
use windlass_model::effect::{Action, Shown};
use windlass_model::review::document::ResourceEntry;

/// How much of a resource is told.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    pub rows: usize,
    pub lines: usize,
    /// Characters of one value.
    pub value: usize,
}

/// Everything within reason: one value does not take the whole comment.
pub const FULL: Depth = Depth { rows: 200, lines: 400, value: 2_000 };
pub const BRIEF: Depth = Depth { rows: 8, lines: 12, value: 160 };

/// Lines of the block, and how many rows are left out of it.
pub fn block(resource: &ResourceEntry, depth: Depth) -> (Vec<String>, usize) {
    let mut out = Vec::new();
    for row in resource.rows.iter().take(depth.rows) {
        add(&mut out, row, depth);
    }
    let left_out = resource.rows.len().saturating_sub(depth.rows);
    if left_out > 0 {
        out.push(format!("# and {} more", count(left_out, "attribute")));
    }
    if !resource.unknown.is_empty() && resource.action != Action::Destroy {
        out.push(format!("# known after apply: {}", names(&resource.unknown, 8)));
    }
    (out, left_out)
}

/// Rows of an output or of an instance that differs.
pub fn plain(rows: &[Row], depth: Depth) -> Vec<String> {
    let mut out = Vec::new();
    for row in rows.iter().take(depth.rows) {
        add(&mut out, row, depth);
    }
    if rows.len() > depth.rows {
        out.push(format!("# and {} more", count(rows.len() - depth.rows, "row")));
    }
    out
}

fn add(out: &mut Vec<String>, row: &Row, depth: Depth) {
    let path = shortened(&line(&row.path), 200);
    let name = if path.is_empty() { String::new() } else { format!("{path} = ") };
    let mark = if row.forces_replacement { "  # forces replacement" } else { "" };
    let told = |shown: &Shown| value(shown, depth.value);
    match &row.change {
        Change::Lines(lines) if lines.is_empty() => out.push(format!("! {path}{mark}")),
        Change::Lines(lines) => {
            out.push(format!("! {path}:{mark}"));
            for text in lines.iter().take(depth.lines) {
                out.push(match text {
                    Line::Same(text) => format!("    {}", shortened(&line(text), depth.value)),
                    Line::Added(text) => format!("+   {}", shortened(&line(text), depth.value)),
                    Line::Removed(text) => format!("-   {}", shortened(&line(text), depth.value)),
                    Line::Folded(number) => format!("@@ {} unchanged @@", count(*number, "line")),
                });
            }
            if lines.len() > depth.lines {
                out.push(format!("@@ {} more @@", count(lines.len() - depth.lines, "line")));
            }
        }
        Change::Added(after) => out.push(format!("+ {name}{}{mark}", told(after))),
        Change::Removed(before) => out.push(format!("- {name}{}{mark}", told(before))),
        Change::Changed { before: Shown::Sensitive(_), after: Shown::Sensitive(_) } => {
            out.push(format!("- {name}(sensitive)"));
            out.push(format!("+ {name}(sensitive, another one){mark}"));
        }
        Change::Changed { before, after } => {
            out.push(format!("- {name}{}", told(before)));
            out.push(format!("+ {name}{}{mark}", told(after)));
        }
    }
}
