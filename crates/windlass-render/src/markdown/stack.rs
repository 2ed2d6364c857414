//! Stacks within what room there is: heads first, then names of resources, then their rows; the weightiest first.

use super::escape::{self, code};
use super::fit::Size;
use super::rows::{BRIEF, Depth, FULL, block, plain};
use super::{Cut, Options};
use crate::text::{self, count, line, shortened};
use windlass_model::diff::Row;
use windlass_model::effect::OutputAction;
use windlass_model::review::document::{ResourceEntry, StackEntry, Status};
use windlass_model::risk::Level;

/// For the line that counts the resources of a stack that are not named.
const REST: usize = 120;

/// How one resource is told.
enum Told {
    Not,
    /// By name; its rows are missing where it has some.
    Line,
    Block(String),
}

pub fn render(entries: &[&StackEntry], options: &Options, mut room: Size, cut: &mut Cut) -> String {
    if entries.is_empty() {
        return String::new();
    }
    // The line that counts what is left out.
    room = room.less(Size::reserve(REST));
    let mut heads = Vec::new();
    for entry in entries {
        let (open, close) = head(entry, options);
        let size = Size::of(&open) + Size::of(close) + Size::reserve(REST);
        if !size.fits(room) {
            break;
        }
        room = room.less(size);
        heads.push((open, close));
    }
    let shown = &entries[..heads.len()];
    cut.stacks = entries.len() - shown.len();

    // Resources of all stacks by weight; of the same weight those of the stack with the higher risk.
    let mut order: Vec<(usize, usize)> =
        shown.iter().enumerate().flat_map(|(s, entry)| (0..entry.resources.len()).map(move |r| (s, r))).collect();
    order.sort_by_key(|(s, r)| std::cmp::Reverse(shown[*s].resources[*r].weight));
    let mut told: Vec<Vec<Told>> = shown.iter().map(|e| e.resources.iter().map(|_| Told::Not).collect()).collect();
    let mut named = Vec::new();
    for (s, r) in order {
        let size = Size::of(&by_name(&shown[s].resources[r]));
        if !size.fits(room) {
            break;
        }
        room = room.less(size);
        told[s][r] = Told::Line;
        named.push((s, r));
    }
    let mut extras = Vec::new();
    for entry in shown {
        let mut take = |make: fn(&StackEntry, Depth) -> String| {
            let texts = [FULL, BRIEF].map(|depth| make(entry, depth));
            let text = texts.into_iter().find(|text| Size::of(text).fits(room));
            cut.parts += usize::from(text.is_none());
            let text = text.unwrap_or_default();
            room = room.less(Size::of(&text));
            text
        };
        let before = take(before);
        extras.push((before, take(after)));
    }
    for (s, r) in named {
        let resource = &shown[s].resources[r];
        let line = Size::of(&by_name(resource));
        for depth in [FULL, BRIEF] {
            let (text, left_out) = in_full(resource, depth);
            let more = Size::of(&text).less(line);
            if more.fits(room) {
                room = room.less(more);
                told[s][r] = Told::Block(text);
                cut.rows += usize::from(left_out > 0);
                break;
            }
        }
    }

    let mut out = String::new();
    for (((entry, (open, close)), told), (before, after)) in shown.iter().zip(heads).zip(told).zip(extras) {
        out.push_str(&open);
        out.push_str(&before);
        let mut missing = Vec::new();
        for (resource, told) in entry.resources.iter().zip(told) {
            match told {
                Told::Not => missing.push(resource),
                Told::Line => {
                    cut.rows += usize::from(!resource.rows.is_empty());
                    out.push_str(&by_name(resource));
                }
                Told::Block(text) => out.push_str(&text),
            }
        }
        if !missing.is_empty() {
            cut.resources += missing.len();
            let told = text::tally(missing.iter().copied());
            out.push_str(&format!("- and {} more: {told}\n", count(missing.len(), "resource")));
        }
        out.push_str(&after);
        out.push_str(close);
    }
    if cut.stacks > 0 {
        let rest = &entries[shown.len()..];
        let resources = text::tally(rest.iter().flat_map(|entry| &entry.resources));
        out.push_str(&format!("**And {} more**: {resources}\n\n", count(rest.len(), "stack")));
    }
    out
}

/// What a stack begins and ends with.
fn head(entry: &StackEntry, options: &Options) -> (String, &'static str) {
    let title = super::title(entry);
    let risk = entry.risk.filter(|level| *level > Level::Low).map(|level| format!("{} risk", level.as_str()));
    let about = shortened(&text::about(entry), 200);
    let status = shortened(&text::status(entry), 200);
    if options.html {
        let danger = entry.resources.iter().any(|r| r.loss.is_some());
        let open = if danger { " open" } else { "" };
        let risk = risk.map(|risk| format!(" · <b>{risk}</b>")).unwrap_or_default();
        let (title, status, about) = (escape::html(&title), escape::html(&status), escape::html(&about));
        let head = format!("<details{open}><summary><code>{title}</code> {status}{risk} · {about}</summary>\n\n");
        (head, "\n</details>\n\n")
    } else {
        let risk = risk.map(|risk| format!(" · **{risk}**")).unwrap_or_default();
        let (status, about) = (escape::text(&status), escape::text(&about));
        (format!("#### {}\n\n{status}{risk} · {about}\n\n", code(&title)), "\n")
    }
}

fn by_name(resource: &ResourceEntry) -> String {
    let order = text::order(resource.action);
    let order = if order.is_empty() { String::new() } else { format!(" ({order})") };
    let new = if resource.new { ", not as it was" } else { "" };
    let verb = text::verb(resource.action);
    format!("- **{verb}** {}{order}{new}\n", code(&shortened(&resource.address, 300)))
}

/// A resource with its notes and rows, and how many rows are left out.
fn in_full(resource: &ResourceEntry, depth: Depth) -> (String, usize) {
    let mut out = by_name(resource);
    for note in text::notes(resource) {
        out.push_str(&format!("  - {}\n", escape::text(&shortened(&note, depth.value))));
    }
    let (lines, left_out) = block(resource, depth);
    if !lines.is_empty() {
        out.push_str(&format!("\n{}\n", escape::fence("diff", &lines)));
    }
    (out, left_out)
}

/// What is told of a stack before its resources.
fn before(entry: &StackEntry, depth: Depth) -> String {
    let mut out = String::new();
    let mut item = |text: String| out.push_str(&format!("- {text}\n"));
    if let Status::Preview { because, values } = &entry.status {
        item(escape::text(&text::preview(because)));
        for used in values.iter().take(depth.rows) {
            let name = format!("{}.{}", used.from, used.output);
            item(format!("with {} = {}", code(&name), code(&text::value(&used.value, depth.value))));
        }
        if values.len() > depth.rows {
            item(format!("and {} more", count(values.len() - depth.rows, "value")));
        }
    }
    for reason in entry.risk_reasons.iter().take(depth.rows) {
        item(format!("risk: {}", escape::text(&shortened(reason, depth.value))));
    }
    if entry.status == Status::Deleted {
        item(escape::text(text::DELETED));
    }
    for reason in entry.reasons.iter().take(4) {
        let chain: String = reason.chain.iter().map(|link| format!(" ← {}", line(link))).collect();
        let chain = if chain.is_empty() { chain } else { format!(" {}", escape::text(&shortened(&chain, 300))) };
        item(format!("{}: {}{chain}", escape::text(&reason.change), code(&reason.cause)));
    }
    out
}

/// What is told of a stack after its resources.
fn after(entry: &StackEntry, depth: Depth) -> String {
    let mut out = String::new();
    let mut item = |text: String| out.push_str(&format!("- {text}\n"));
    for (from, to) in entry.moved.iter().take(depth.rows) {
        item(format!("**move** {} → {}", code(from), code(to)));
    }
    for (address, id) in entry.imported.iter().take(depth.rows) {
        item(format!("**import** {} with id {}", code(address), code(&shortened(id, depth.value))));
    }
    for address in entry.forgotten.iter().take(depth.rows) {
        item(format!("**forget** {} (dropped from the state, not destroyed)", code(address)));
    }
    for (all, what) in
        [(entry.moved.len(), "moved"), (entry.imported.len(), "imported"), (entry.forgotten.len(), "forgotten")]
    {
        if all > depth.rows {
            item(format!("and {} more {what}", all - depth.rows));
        }
    }
    for check in &entry.checks {
        let problems: String =
            check.problems.iter().map(|p| format!(": {}", escape::text(&shortened(p, depth.value)))).collect();
        item(format!("check {} {}{}", code(&check.address), escape::text(&check.status), problems));
    }
    for output in entry.outputs.iter().take(depth.rows) {
        let verb = match output.action {
            OutputAction::Create => "created",
            OutputAction::Update => "changed",
            OutputAction::Delete => "deleted",
        };
        item(format!("output {} is {verb}{}", code(&output.name), read_by(&output.readers)));
    }
    if entry.outputs.len() > depth.rows {
        item(format!("and {} more", count(entry.outputs.len() - depth.rows, "output")));
    }
    let values: Vec<String> = entry
        .outputs
        .iter()
        .take(depth.rows)
        .flat_map(|output| {
            let named = output.rows.iter().map(|row| Row { path: joined(&output.name, &row.path), ..row.clone() });
            plain(&named.collect::<Vec<_>>(), depth)
        })
        .collect();
    if !values.is_empty() {
        out.push_str(&format!("\n{}\n", escape::fence("diff", &values)));
    }
    for variant in &entry.variants {
        out.push_str(&format!("\ndiffers in {}:\n\n", escape::text(&text::instances(&variant.instances, 8))));
        for difference in variant.differences.iter().take(depth.rows) {
            let what = match difference.what.as_str() {
                "" => String::new(),
                what => format!(" {}", escape::text(what)),
            };
            out.push_str(&format!("- {}{what}\n", code(&difference.subject)));
            let lines = plain(&difference.rows, depth);
            if !lines.is_empty() {
                out.push_str(&format!("\n{}\n", escape::fence("diff", &lines)));
            }
        }
    }
    if !entry.drift.is_empty() {
        out.push_str("\n**Drift**: changed behind the state, by nobody's plan\n\n");
        for resource in entry.drift.iter().take(depth.rows) {
            out.push_str(&in_full(resource, depth).0);
        }
        if entry.drift.len() > depth.rows {
            out.push_str(&format!("- and {} more\n", entry.drift.len() - depth.rows));
        }
    }
    if !entry.reach.is_empty() {
        out.push_str(&format!("\nReaches:\n\n{}\n", escape::fence("", &text::tree(&entry.reach, entry.reach_more))));
    }
    out
}

fn joined(name: &str, path: &str) -> String {
    match path {
        "" => name.to_owned(),
        path if path.starts_with('[') => format!("{name}{path}"),
        path => format!("{name}.{path}"),
    }
}

fn read_by(readers: &[windlass_model::id::InstanceId]) -> String {
    if readers.is_empty() { String::new() } else { format!(", read by {}", escape::text(&text::instances(readers, 6))) }
}
