//! Stacks, resources and diagnostics as HTML.

use super::{badge, code, escape};
use crate::text::{self, count, line, names, value};
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::diff::{Change, Line, Row};
use windlass_model::effect::{Action, OutputAction, Shown};
use windlass_model::review::document::{ResourceEntry, StackEntry, Status};
use windlass_model::risk::Level;

/// With more resources than this only the dangerous ones are unfolded.
const UNFOLDED: usize = 30;
/// Characters of one value.
const VALUE: usize = 20_000;

/// A list of all stacks, to jump to each.
pub fn contents(out: &mut String, stacks: &[&StackEntry]) {
    out.push_str("<nav aria-label=\"Stacks\">\n<ul>\n");
    for (number, entry) in stacks.iter().enumerate() {
        let risk = risk(entry);
        out.push_str(&format!(
            "<li><a href=\"#wl-stack-{number}\">{}</a> {}{risk}</li>\n",
            code(&entry.title),
            escape(&text::status(entry))
        ));
    }
    out.push_str("</ul>\n</nav>\n");
}

fn risk(entry: &StackEntry) -> String {
    match entry.risk {
        Some(level) if level > Level::Low => {
            let color = if level == Level::Medium { "amber" } else { "red" };
            format!(" {}", badge(color, &format!("{} risk", level.as_str())))
        }
        _ => String::new(),
    }
}

pub fn stack(out: &mut String, number: usize, entry: &StackEntry) {
    let calm = entry.risk.is_none_or(|level| level == Level::Low);
    let open = if calm && number >= UNFOLDED { "" } else { " open" };
    out.push_str(&format!(
        "<details id=\"wl-stack-{number}\"{open}>\n<summary><h3>{}</h3> {}{} <span class=\"soft\">{}</span></summary>\n<div class=\"body\">\n",
        code(&entry.title),
        escape(&text::status(entry)),
        risk(entry),
        escape(&text::about(entry))
    ));
    let items: Vec<String> = entry
        .reasons
        .iter()
        .take(8)
        .map(|reason| {
            let chain: String = reason.chain.iter().map(|link| format!(" ← {}", escape(&line(link)))).collect();
            format!("{} {}{chain}", escape(&reason.change), code(&reason.cause))
        })
        .chain(entry.risk_reasons.iter().map(|reason| format!("risk: {}", escape(reason))))
        .collect();
    list(out, &items);
    match &entry.status {
        Status::Preview { because, values } => {
            out.push_str(&format!("<p class=\"violet\">{}</p>\n", escape(&text::preview(because))));
            let values: Vec<String> = values
                .iter()
                .map(|used| {
                    let name = format!("{}.{}", used.from, used.output);
                    format!("with {} = {}", code(&name), code(&value(&used.value, VALUE)))
                })
                .collect();
            list(out, &values);
        }
        Status::Deleted => out.push_str(&format!("<p class=\"amber\">{}</p>\n", text::DELETED)),
        Status::Planned | Status::Unaffected | Status::Failed { .. } | Status::Skipped { .. } => {}
    }
    let unfold = entry.resources.len() <= UNFOLDED;
    for entry in &entry.resources {
        resource(out, entry, unfold);
    }
    let mut state = Vec::new();
    state.extend(entry.moved.iter().map(|(from, to)| format!("move {} → {}", code(from), code(to))));
    state.extend(entry.imported.iter().map(|(address, id)| format!("import {} with id {}", code(address), code(id))));
    state.extend(
        entry
            .forgotten
            .iter()
            .map(|address| format!("forget {} (dropped from the state, not destroyed)", code(address))),
    );
    list(out, &state);
    outputs(out, entry);
    let checks: Vec<String> = entry
        .checks
        .iter()
        .map(|check| {
            let problems = escape(&check.problems.join("; "));
            format!("check {} {}: {problems}", code(&check.address), escape(&check.status))
        })
        .collect();
    list(out, &checks);
    for variant in &entry.variants {
        out.push_str(&format!("<h4>Differs in {}</h4>\n", escape(&text::instances(&variant.instances, 12))));
        for difference in &variant.differences {
            out.push_str(&format!("<p>{} {}</p>\n", code(&difference.subject), escape(&difference.what)));
            difference.rows.iter().for_each(|row| self::row(out, row));
        }
    }
    if !entry.drift.is_empty() {
        out.push_str("<h4>Drift: changed behind the state, by nobody’s plan</h4>\n");
        for entry in &entry.drift {
            resource(out, entry, false);
        }
    }
    if !entry.reach.is_empty() {
        let tree = text::tree(&entry.reach, entry.reach_more).join("\n");
        out.push_str(&format!("<h4>Reaches</h4>\n<pre class=\"tree\">{}</pre>\n", escape(&tree)));
    }
    out.push_str("</div>\n</details>\n");
}

fn list(out: &mut String, items: &[String]) {
    if !items.is_empty() {
        out.push_str("<ul>\n");
        items.iter().for_each(|item| out.push_str(&format!("<li>{item}</li>\n")));
        out.push_str("</ul>\n");
    }
}

fn resource(out: &mut String, resource: &ResourceEntry, unfold: bool) {
    let open = if unfold || resource.danger.is_some() { " open" } else { "" };
    let color = match resource.action {
        Action::Create => "green",
        Action::Update => "amber",
        Action::Destroy | Action::Replace | Action::ReplaceCreateFirst => "red",
        Action::Move | Action::Import | Action::Forget => "violet",
    };
    let order = text::order(resource.action);
    let order = if order.is_empty() { String::new() } else { format!(" <span class=\"soft\">({order})</span>") };
    let new = if resource.new { format!(" {}", badge("violet", "not as it was")) } else { String::new() };
    let verb = badge(color, text::verb(resource.action));
    out.push_str(&format!(
        "<details{open}>\n<summary>{verb} <h4>{}</h4>{order}{new}</summary>\n<div class=\"body\">\n",
        code(&resource.address)
    ));
    let notes: Vec<String> = text::notes(resource)
        .iter()
        .map(|note| {
            let loss = note.starts_with("data: ") && resource.loss.is_some();
            if loss { format!("<strong class=\"red\">{}</strong>", escape(note)) } else { escape(note) }
        })
        .collect();
    list(out, &notes);
    resource.rows.iter().for_each(|row| self::row(out, row));
    if !resource.unknown.is_empty() {
        let told = escape(&names(&resource.unknown, 12));
        out.push_str(&format!("<p class=\"soft\">(known after apply): {told}</p>\n"));
    }
    out.push_str("</div>\n</details>\n");
}

fn row(out: &mut String, row: &Row) {
    let forces =
        if row.forces_replacement { format!(" {}", badge("red", "forces replacement")) } else { String::new() };
    let path = if row.path.is_empty() { String::new() } else { code(&row.path) };
    out.push_str(&format!("<div class=\"row\">{path}{forces}\n"));
    let told = |shown: &Shown| escape(&value(shown, VALUE));
    match &row.change {
        Change::Added(after) => out.push_str(&format!("<ins><code>{}</code></ins>\n", told(after))),
        Change::Removed(before) => out.push_str(&format!("<del><code>{}</code></del>\n", told(before))),
        Change::Changed { before, after } => {
            let another = matches!((before, after), (Shown::Sensitive(_), Shown::Sensitive(_)));
            let another = if another { " (another one)" } else { "" };
            out.push_str(&format!(
                "<del><code>{}</code></del>\n<ins><code>{}</code>{another}</ins>\n",
                told(before),
                told(after)
            ));
        }
        Change::Lines(lines) if lines.is_empty() => {}
        Change::Lines(lines) => {
            out.push_str("<pre class=\"lines\">");
            for text_line in lines {
                let (class, sign, text) = match text_line {
                    Line::Same(text) => ("", " ", escape(&line(text))),
                    Line::Added(text) => (" class=\"plus\"", "+", escape(&line(text))),
                    Line::Removed(text) => (" class=\"minus\"", "-", escape(&line(text))),
                    Line::Folded(number) => (" class=\"soft\"", "…", format!("{} unchanged", count(*number, "line"))),
                };
                out.push_str(&format!("<span{class}>{sign} {text}</span>"));
            }
            out.push_str("</pre>\n");
        }
    }
    out.push_str("</div>\n");
}

fn outputs(out: &mut String, entry: &StackEntry) {
    for output in &entry.outputs {
        let (color, verb) = match output.action {
            OutputAction::Create => ("green", "create"),
            OutputAction::Update => ("amber", "update"),
            OutputAction::Delete => ("red", "delete"),
        };
        let verb = badge(color, verb);
        out.push_str(&format!("<div class=\"row\">{verb} output {}\n", code(&output.name)));
        output.rows.iter().for_each(|row| self::row(out, row));
        if !output.readers.is_empty() {
            let told = escape(&text::instances(&output.readers, 12));
            out.push_str(&format!("<p class=\"soft\">read by {told}</p>\n"));
        }
        out.push_str("</div>\n");
    }
}

pub fn diagnostic(out: &mut String, diagnostic: &Diagnostic) {
    let color = match diagnostic.severity {
        Severity::Error => "red",
        Severity::Warning => "amber",
        Severity::Notice => "violet",
    };
    out.push_str(&format!("<p>{} {}</p>\n", badge(color, &diagnostic.code), escape(&diagnostic.summary)));
    for label in &diagnostic.labels {
        let message = if label.message.is_empty() { String::new() } else { format!(" {}", escape(&label.message)) };
        out.push_str(&format!("<p class=\"soft\">at {}{message}</p>\n", code(&label.span.to_string())));
        if !label.excerpt.is_empty() {
            out.push_str(&format!("<pre class=\"excerpt\">{}</pre>\n", escape(&label.excerpt)));
        }
    }
    if !diagnostic.detail.is_empty() {
        out.push_str(&format!("<pre class=\"excerpt\">{}</pre>\n", escape(&diagnostic.detail)));
    }
    if let Some(help) = &diagnostic.help {
        out.push_str(&format!("<p><strong>To mend it</strong>: {}</p>\n", escape(help)));
    }
}
