//! Words that all renderers share. Nothing here is escaped for a sink.

use windlass_model::Micros;
use windlass_model::diagnostic::Span;
use windlass_model::effect::{Action, EffectSummary, Shown};
use windlass_model::id::InstanceId;
use windlass_model::review::Level;
use windlass_model::review::document::{
    Branch, Document, Earlier, Failure, FindingEntry, ResourceEntry, StackEntry, Status,
};

/// Control characters and those that turn the direction of writing made visible, so that text from a repository or a plan
/// cannot steer a terminal or hide in a page. Line feeds and tabs stay.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_hostile(c) { '\u{fffd}' } else { c }).collect()
}

fn is_hostile(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Directions, invisible separators, and the mark of byte order.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}' => true,
        '\u{2028}' | '\u{2029}' => true,
        c => c.is_control(),
    }
}

/// [`clean`], and on one line.
pub fn line(text: &str) -> String {
    clean(&text.replace("\r\n", "\n")).replace('\n', "⏎").replace('\t', " ")
}

/// At most `most` characters, then how many are left out.
pub fn shortened(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let note = format!("… ({} more characters)", length.saturating_sub(most));
    let kept = most.saturating_sub(note.chars().count());
    if kept < 8 {
        return text.chars().take(most.saturating_sub(1)).chain(['…']).collect();
    }
    let head: String = text.chars().take(kept).collect();
    format!("{head}… ({} more characters)", length - kept)
}

/// A value on one line of at most `most` characters.
pub fn value(shown: &Shown, most: usize) -> String {
    match shown {
        Shown::Absent => "(none)".into(),
        Shown::Sensitive(_) => "(sensitive)".into(),
        Shown::Unknown => "(known after apply)".into(),
        Shown::Value(value) => shortened(&line(&value.to_string()), most),
    }
}

/// `1 stack`, `2 stacks`, `2 entries`.
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ if noun.ends_with('y') => format!("{number} {}ies", &noun[..noun.len() - 1]),
        _ => format!("{number} {noun}s"),
    }
}

/// The first twelve digits of a digest or commit.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// `2026-11-21 09:30 UTC`.
pub fn time(at: Micros) -> String {
    match jiff::Timestamp::from_microsecond(at) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => format!("{at} µs"),
    }
}

/// `a`, `a, b and c`, `a, b and 7 more`.
pub fn names<T: std::fmt::Display>(all: &[T], most: usize) -> String {
    let text = |items: &[T]| items.iter().map(|item| line(&item.to_string())).collect::<Vec<_>>().join(", ");
    match all {
        [] => String::new(),
        [one] => text(std::slice::from_ref(one)),
        [head @ .., last] if all.len() <= most.max(2) => format!("{} and {}", text(head), line(&last.to_string())),
        _ => format!("{} and {} more", text(&all[..most.max(1)]), all.len() - most.max(1)),
    }
}

/// Instances; those of one stack with its name once: `aws/db [osaka, tokyo]`.
pub fn instances(all: &[InstanceId], most: usize) -> String {
    let mut stacks: Vec<(String, Vec<&str>)> = Vec::new();
    for instance in all {
        let stack = instance.stack().to_string();
        // They come sorted.
        match stacks.last_mut() {
            Some((known, keys)) if *known == stack && !keys.is_empty() => keys.extend(instance.key()),
            _ => stacks.push((stack, instance.key().into_iter().collect())),
        }
    }
    let texts: Vec<String> = stacks
        .into_iter()
        .map(|(stack, keys)| match keys.as_slice() {
            [] => stack,
            [only] => format!("{stack}[{only}]"),
            several if several.len() <= most => format!("{stack} [{}]", several.join(", ")),
            several => format!("{stack} [{} and {} more]", several[..most].join(", "), several.len() - most),
        })
        .collect();
    names(&texts, most)
}

pub fn level(level: Level) -> &'static str {
    match level {
        Level::Broken => "broken",
        Level::Deny => "deny",
        Level::Warn => "warn",
    }
}

pub fn severity(severity: windlass_model::review::Severity) -> &'static str {
    use windlass_model::review::Severity;
    match severity {
        Severity::Critical => "critical",
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
        Severity::Info => "info",
    }
}

/// `+`, `~`, `∓`, `-` and so on.
pub fn sign(action: Action) -> &'static str {
    match action {
        Action::Create => "+",
        Action::Update => "~",
        Action::Replace => "∓",
        Action::ReplaceCreateFirst => "±",
        Action::Destroy => "-",
        Action::Move => "→",
        Action::Import => "↓",
        Action::Forget => "×",
    }
}

pub fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Replace | Action::ReplaceCreateFirst => "replace",
        Action::Destroy => "destroy",
        Action::Move => "move",
        Action::Import => "import",
        Action::Forget => "forget",
    }
}

/// In which order a replacement goes; empty for everything else.
pub fn order(action: Action) -> &'static str {
    match action {
        Action::Replace => "destroyed, then created",
        Action::ReplaceCreateFirst => "created, then destroyed",
        _ => "",
    }
}

/// What is told of a resource beside its rows, one sentence each.
pub fn notes(resource: &ResourceEntry) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(resource.loss.as_deref().map(|loss| format!("data: {loss}")));
    if !resource.cause.is_empty() {
        let path: String = resource.cause_path.iter().map(|up| format!(" ← {} is replaced", line(up))).collect();
        notes.push(format!("replaced because of {}{path}", names(&resource.cause, 6)));
    }
    notes.extend(resource.reason.as_deref().map(line));
    if let Some(from) = &resource.previous_address {
        notes.push(format!("moved from {}", line(from)));
    }
    if let Some(id) = &resource.import_id {
        notes.push(format!("imported with id {}", line(id)));
    }
    if !resource.dependants.is_empty() {
        notes.push(format!("read by {}", names(&resource.dependants, 6)));
    }
    notes
}

/// `new, production, owner team-a`.
pub fn about(entry: &StackEntry) -> String {
    let mut notes = vec![line(&entry.kind)];
    notes.extend(entry.environments.iter().map(|e| line(e)));
    notes.extend(entry.owner.iter().map(|owner| format!("owner {}", line(owner))));
    notes.join(", ")
}

/// What a stack comes to, e.g. `2 to create`, `failed at plan`.
pub fn status(entry: &StackEntry) -> String {
    match &entry.status {
        Status::Planned => entry.effect.to_string(),
        Status::Preview { .. } => format!("{} (preview)", entry.effect),
        Status::Failed { stage } => format!("failed at {}", stage.as_str()),
        Status::Skipped { because } => format!("not planned: {because} failed"),
        Status::Deleted => "its directory is gone".into(),
        Status::Unaffected => "nothing".into(),
    }
}

/// It was not planned: what is told of it stands with the failures.
pub fn is_failed(entry: &StackEntry) -> bool {
    matches!(entry.status, Status::Failed { .. } | Status::Skipped { .. })
}

/// `aws/app not planned: aws/network failed`.
pub fn skipped(failure: &Failure) -> String {
    format!("{} not planned: {} failed", instances(&failure.skipped, 8), instances(&failure.instances, 4))
}

pub const DELETED: &str =
    "the directory is gone; what it made stays until it is destroyed from the last commit that had it";

/// Why a preview is one.
pub fn preview(because: &[InstanceId]) -> String {
    format!("preview: planned with what {} will output; planned for real after it", instances(because, 4))
}

/// The places that a finding speaks of, and what else is told of it.
pub fn finding_places(finding: &FindingEntry) -> Vec<String> {
    let place = |span: &Span| line(&span.to_string());
    let mut out = Vec::new();
    out.extend(finding.code.as_ref().map(|span| format!("mend {}", place(span))));
    out.push(line(&finding.source));
    out.extend(finding.policy.as_ref().map(|span| format!("rule {}", place(span))));
    out.extend(finding.severity.map(|s| format!("{} severity", severity(s))));
    out.extend(finding.state.map(|state| state.as_str().to_owned()));
    out
}

/// The id by which the review can be found again, and `rest`; nothing for one that is not kept.
pub fn kept_as(document: &Document, rest: &str) -> String {
    if document.run.as_str().is_empty() { String::new() } else { format!("{}{rest}", document.run) }
}

/// `deny`, `waived`, …
pub fn finding_word(finding: &FindingEntry) -> &'static str {
    if finding.waived.is_some() { "waived" } else { level(finding.level) }
}

/// By whom, until when and why it is waived.
pub fn waived(finding: &FindingEntry) -> Option<String> {
    let waived = finding.waived.as_ref()?;
    Some(format!("waived until {} by {}: {}", time(waived.until), line(&waived.by), line(&waived.reason)))
}

/// Where it was found.
pub fn finding_instances(finding: &FindingEntry, most: usize) -> String {
    if finding.instances.is_empty() {
        "about the whole change".into()
    } else {
        format!("in {}", instances(&finding.instances, most))
    }
}

/// Addresses that the message does not name itself.
pub fn finding_addresses(finding: &FindingEntry) -> Vec<&str> {
    finding.addresses.iter().map(String::as_str).filter(|a| !finding.message.contains(a)).collect()
}

/// `3 to create, 1 denied`.
pub fn earlier(earlier: &Earlier) -> String {
    let mut parts = vec![earlier.effect.to_string()];
    if earlier.denied > 0 {
        parts.push(format!("{} denied", earlier.denied));
    }
    if earlier.warned > 0 {
        parts.push(format!("{} warned", earlier.warned));
    }
    if earlier.approved {
        parts.push("approved".into());
    }
    parts.join(", ")
}

/// A tree of readers, one line each.
pub fn tree(branches: &[Branch], more: usize) -> Vec<String> {
    fn walk(branches: &[Branch], more: usize, prefix: &str, out: &mut Vec<String>) {
        for (at, branch) in branches.iter().enumerate() {
            let last = at + 1 == branches.len() && more == 0;
            let mut text = match branch.instances.as_slice() {
                [one] => line(one.as_str()),
                several => format!("{} ({})", line(branch.stack.as_str()), count(several.len(), "instance")),
            };
            match &branch.outputs {
                Some(names) if !names.is_empty() => text.push_str(&format!(" reads {}", self::names(names, 4))),
                _ => {}
            }
            match &branch.planned {
                Some(planned) => text.push_str(&format!(": {}", line(planned))),
                None => text.push_str(": not in this review"),
            }
            out.push(format!("{prefix}{} {text}", if last { "└─" } else { "├─" }));
            let below = format!("{prefix}{}  ", if last { " " } else { "│" });
            walk(&branch.branches, branch.more, &below, out);
        }
        if more > 0 {
            out.push(format!("{prefix}└─ and {} more", count(more, "stack")));
        }
    }
    let mut out = Vec::new();
    walk(branches, more, "", &mut out);
    out
}

/// Resources by what becomes of them, e.g. `3 to create, 1 to update`.
pub fn tally<'a>(resources: impl Iterator<Item = &'a ResourceEntry>) -> String {
    let mut summary = EffectSummary::default();
    for resource in resources {
        *match resource.action {
            Action::Create => &mut summary.create,
            Action::Update => &mut summary.update,
            Action::Replace | Action::ReplaceCreateFirst => &mut summary.replace,
            Action::Destroy => &mut summary.destroy,
            Action::Move => &mut summary.moved,
            Action::Import => &mut summary.import,
            Action::Forget => &mut summary.forget,
        } += 1;
    }
    summary.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(clean("a\u{1b}[31mb\tc\n\u{202e}d"), "a\u{fffd}[31mb\tc\n\u{fffd}d");
        assert_eq!(line("a\r\nb\tc"), "a⏎b c");
    }

    #[test]
    fn long_texts_say_how_much_is_left_out() {
        let check = |text: &str, most: usize, want: &str| {
            let found = shortened(text, most);
            assert_eq!(found, want);
            assert!(found.chars().count() <= most.max(text.chars().count().min(most)));
        };
        check("short", 10, "short");
        check(&"x".repeat(20), 10, "xxxxxxxxx…");
        check(&"x".repeat(100), 40, "xxxxxxxxxxxxxxxxxx… (82 more characters)");
    }

    #[test]
    fn instances_of_a_stack_are_named_together() {
        let check = |ids: &[&str], most: usize, want: &str| {
            let ids: Vec<InstanceId> = ids.iter().map(|id| InstanceId::new(*id)).collect();
            assert_eq!(instances(&ids, most), want);
        };
        check(&["a"], 3, "a");
        check(&["a[x]"], 3, "a[x]");
        check(&["a[x]", "a[y]", "b"], 3, "a [x, y] and b");
        check(&["a[1]", "a[2]", "a[3]", "a[4]"], 2, "a [1, 2 and 2 more]");
        check(&["a", "b", "c", "d"], 2, "a, b and 2 more");
    }
}
