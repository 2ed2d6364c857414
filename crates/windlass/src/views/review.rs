//! The review for the terminal: what would change, what is wrong, what to do next.

use super::{affected, count, diagnostic, short};
use crate::terminal::{Terminal, clean, table};
use windlass_model::diagnostic::Span;
use windlass_model::effect::{Action, Effect, EffectSummary, OutputAction, ResourceChange, Shown};
use windlass_model::review::{Finding, Level as FindingLevel, Outcome, Review, StackReview, Verdict};
use windlass_model::risk::Level;

/// Attribute rows shown per resource before the rest is counted.
const ATTRIBUTES: usize = 12;

pub fn render(terminal: Terminal, review: &Review, missing_approvals: &[String]) -> String {
    let mut out = String::new();
    let base = review
        .base
        .as_ref()
        .map_or_else(|| "of chosen stacks".to_owned(), |b| format!("against {} ({})", b.name, short(&b.commit)));
    out.push_str(&format!(
        "{} {} ({}) {base}\n",
        terminal.bold("Review"),
        clean(&review.head.name),
        short(&review.head.commit)
    ));
    out.push_str(&format!("{}\n", terminal.dim(&format!("{}, effect {}", review.run, short(&review.effect_digest)))));
    if !review.dirty.is_empty() {
        let names = review.dirty.iter().take(3).map(|p| clean(p)).collect::<Vec<_>>().join(", ");
        let more = review.dirty.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        out.push_str(
            &terminal.yellow(&format!("Includes uncommitted changes ({names}{more}): readable, not approvable.\n")),
        );
    }
    out.push('\n');
    let (quiet, loud): (Vec<_>, Vec<_>) = review.stacks.iter().partition(|s| is_quiet(s));
    if loud.len() >= OVERVIEW {
        out.push_str(&overview(terminal, &loud));
        out.push('\n');
    }
    for stack in loud {
        out.push_str(&render_stack(terminal, stack));
        out.push('\n');
    }
    if !quiet.is_empty() {
        let names = quiet.iter().map(|s| s.instance.as_str()).collect::<Vec<_>>();
        let shown = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
        out.push_str(&format!(
            "{} {shown}{more}\n\n",
            terminal.dim(&format!("{} without changes:", count(names.len(), "instance")))
        ));
    }
    if !review.diagnostics.is_empty() {
        out.push_str(&diagnostic::render_errors(terminal, &review.diagnostics));
    }
    out.push_str(&render_verdict(terminal, review, missing_approvals));
    out
}

/// With this many stacks that have something to say, a table of them comes first.
const OVERVIEW: usize = 3;

fn overview(terminal: Terminal, stacks: &[&StackReview]) -> String {
    let rows = stacks.iter().map(|stack| {
        let effect = match &stack.outcome {
            Outcome::Planned { effect } => effect.summary().to_string(),
            Outcome::Preview { effect, .. } => format!("{} (preview)", effect.summary()),
            Outcome::Unaffected => "nothing".into(),
            Outcome::Failed { stage, .. } => terminal.red(&format!("failed at {}", stage.as_str())),
            Outcome::Skipped { because } => terminal.yellow(&format!("not planned: {because} failed")),
            Outcome::Deleted => terminal.yellow("its directory is gone"),
        };
        let risk = stack.risk.as_ref().filter(|risk| risk.level > Level::Low);
        let denied = stack.findings.iter().filter(|f| f.level <= FindingLevel::Deny).count();
        let warned = stack.findings.len() - denied;
        let mut findings = Vec::new();
        findings.extend((denied > 0).then(|| terminal.red_bold(&format!("{denied} denied"))));
        findings.extend((warned > 0).then(|| terminal.yellow(&format!("{warned} warned"))));
        vec![
            stack.instance.to_string(),
            effect,
            risk.map(|risk| risk.level.as_str().to_owned()).unwrap_or_default(),
            findings.join(", "),
        ]
    });
    table(terminal, &["instance", "effect", "risk", "policy"], rows.collect())
}

fn is_quiet(stack: &StackReview) -> bool {
    let empty = match &stack.outcome {
        Outcome::Unaffected => true,
        Outcome::Planned { effect } | Outcome::Preview { effect, .. } => effect.is_empty(),
        _ => false,
    };
    empty && stack.findings.is_empty()
}

fn render_stack(terminal: Terminal, stack: &StackReview) -> String {
    let mut out = terminal.bold(stack.instance.as_str());
    let mut notes = vec![affected::kind(&stack.kind)];
    notes.extend(stack.environments.iter().cloned());
    notes.extend(stack.owner.iter().map(|owner| format!("owner {owner}")));
    out.push_str(&format!("  {}\n", terminal.dim(&notes.join(", "))));
    out.push_str(&affected::reasons(terminal, &stack.reasons, 2));
    if let Some(risk) = stack.risk.as_ref().filter(|risk| risk.level > Level::Low) {
        let word = format!("{} risk", risk.level.as_str());
        let word = if risk.level == Level::Medium { terminal.yellow(&word) } else { terminal.red_bold(&word) };
        for (at, reason) in risk.reasons.iter().enumerate() {
            let head = if at == 0 { format!("{word}: ") } else { "  and ".to_owned() };
            out.push_str(&format!("  {head}{}\n", clean(&reason.text)));
        }
    }
    match &stack.outcome {
        Outcome::Planned { effect } => out.push_str(&render_effect(terminal, effect)),
        Outcome::Preview { effect, because } => {
            let names = because.iter().map(|i| i.as_str()).collect::<Vec<_>>().join(", ");
            out.push_str(&format!(
                "  {}\n",
                terminal.magenta(&format!("preview: planned with what {names} will output; planned for real after it"))
            ));
            out.push_str(&render_effect(terminal, effect));
        }
        Outcome::Unaffected => {}
        Outcome::Failed { stage, diagnostics } => {
            out.push_str(&format!("  {}\n", terminal.red_bold(&format!("failed at {}", stage.as_str()))));
            out.push_str(&indent(&diagnostic::render_all(terminal, diagnostics)));
        }
        Outcome::Skipped { because } => {
            out.push_str(&format!("  {}\n", terminal.yellow(&format!("not planned: {because} failed"))))
        }
        Outcome::Deleted => out.push_str(&format!(
            "  {}\n",
            terminal.yellow(
                "the directory is gone; what it made stays until it is destroyed from the last commit that had it"
            )
        )),
    }
    for finding in &stack.findings {
        out.push_str(&render_finding(terminal, finding));
    }
    out
}

fn indent(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}

pub fn render_effect(terminal: Terminal, effect: &Effect) -> String {
    let mut out = String::new();
    if effect.is_empty() {
        out.push_str(&format!("  {}\n", terminal.dim("no changes")));
    }
    for change in &effect.changes {
        out.push_str(&render_change(terminal, change));
    }
    for (name, output) in &effect.outputs {
        let (sign, after) = match output.action {
            OutputAction::Create => (terminal.green("+"), shown(&output.after)),
            OutputAction::Update => {
                (terminal.yellow("~"), format!("{} → {}", shown(&output.before), shown(&output.after)))
            }
            OutputAction::Delete => (terminal.red("-"), shown(&output.before)),
        };
        out.push_str(&format!("  {sign} output {} = {after}\n", clean(name)));
    }
    for (address, check) in &effect.checks {
        out.push_str(&format!("  {} {}: check {}\n", terminal.yellow("!"), clean(address), clean(&check.status)));
        for problem in &check.problems {
            out.push_str(&format!("      {}\n", clean(problem)));
        }
    }
    out
}

fn render_change(terminal: Terminal, change: &ResourceChange) -> String {
    let address = clean(&change.address);
    let from = change.previous_address.as_deref().map(clean).unwrap_or_default();
    let head = match change.action {
        Action::Create => format!("{} create   {address}", terminal.green("+")),
        Action::Update => format!("{} update   {address}", terminal.yellow("~")),
        Action::Replace => {
            format!("{} {}  {address} (destroyed, then created)", terminal.red("∓"), terminal.red("replace"))
        }
        Action::ReplaceCreateFirst => {
            format!("{} {}  {address} (created, then destroyed)", terminal.red("±"), terminal.red("replace"))
        }
        Action::Destroy => format!("{} {}  {address}", terminal.red("-"), terminal.red("destroy")),
        Action::Move => format!("{} move     {from} → {address}", terminal.cyan("→")),
        Action::Import => format!("{} import   {address}", terminal.cyan("↓")),
        Action::Forget => format!("{} forget   {address} (dropped from the state, not destroyed)", terminal.cyan("×")),
    };
    let mut out = format!("  {head}\n");
    if !from.is_empty() && change.action != Action::Move {
        out.push_str(&format!("      moved from {from}\n"));
    }
    if let Some(id) = &change.import_id {
        out.push_str(&format!("      imported with id {}\n", clean(id)));
    }
    if let Some(reason) = &change.reason {
        out.push_str(&format!("      {}\n", terminal.dim(&clean(&reason.replace('_', " ")))));
    }
    let forced = |path: &str| change.replace_paths.iter().any(|p| p == path);
    // What forces a replacement comes first: it is what the reader has to understand.
    let mut rows: Vec<_> = change.attributes.iter().collect();
    rows.sort_by_key(|(path, _)| !forced(path));
    for (path, attribute) in rows.iter().take(ATTRIBUTES) {
        let value = match (&attribute.before, &attribute.after) {
            (Shown::Absent, after) => shown(after),
            (before, Shown::Absent) => format!("{} → (removed)", shown(before)),
            (before, after) => format!("{} → {}", shown(before), shown(after)),
        };
        let mark = if forced(path) { format!("  {}", terminal.red("forces replacement")) } else { String::new() };
        out.push_str(&format!("      {} = {value}{mark}\n", clean(path)));
    }
    if rows.len() > ATTRIBUTES {
        out.push_str(&format!(
            "      {}\n",
            terminal.dim(&format!("and {} more; see them with --json", count(rows.len() - ATTRIBUTES, "attribute")))
        ));
    }
    for path in change.replace_paths.iter().filter(|p| !change.attributes.contains_key(*p)) {
        out.push_str(&format!("      {} {}\n", clean(path), terminal.red("forces replacement")));
    }
    out
}

/// A value on one line, at most 80 characters.
fn shown(value: &Shown) -> String {
    match value {
        Shown::Absent => "(none)".into(),
        Shown::Sensitive(_) => "(sensitive)".into(),
        Shown::Unknown => "(known after apply)".into(),
        Shown::Value(value) => {
            let text = clean(&value.to_string());
            if text.chars().count() > 80 { text.chars().take(79).chain(['…']).collect() } else { text }
        }
    }
}

fn render_finding(terminal: Terminal, finding: &Finding) -> String {
    let word = match finding.level {
        FindingLevel::Broken => terminal.red_bold("broken"),
        FindingLevel::Deny => terminal.red_bold("deny"),
        FindingLevel::Warn => terminal.yellow("warn"),
    };
    let mut out = format!("  {word} {}", clean(&finding.message));
    if let Some(address) = finding.address.as_deref().filter(|a| !finding.message.contains(a)) {
        out.push_str(&format!(" ({})", clean(address)));
    }
    out.push('\n');
    let place = |span: &Option<Span>| span.as_ref().map(|s| clean(&s.to_string()));
    let places = [
        place(&finding.code).map(|p| format!("mend {p}")),
        Some(clean(&finding.source)),
        place(&finding.policy).map(|p| format!("rule {p}")),
    ];
    out.push_str(&format!("       {}\n", terminal.dim(&places.into_iter().flatten().collect::<Vec<_>>().join(", "))));
    out
}

fn render_verdict(terminal: Terminal, review: &Review, missing_approvals: &[String]) -> String {
    let id = &review.run;
    let totals = review.effects().map(Effect::summary).sum::<EffectSummary>().to_string();
    match review.verdict {
        Verdict::Nothing => format!("{}\n", terminal.green("Nothing to apply.")),
        Verdict::Denied => format!(
            "{totals}\n{}\nNext: mend what is denied, commit, and run `windlass review` again.\n",
            terminal.red_bold("Denied by policy.")
        ),
        Verdict::Failed => format!(
            "{totals}\n{}\nNext: mend what failed, commit, and run `windlass review` again.\n",
            terminal.red_bold("Could not be planned in full.")
        ),
        Verdict::Ready | Verdict::NeedsApproval if !review.dirty.is_empty() => {
            format!("{totals}\nNext: commit the changes and run `windlass review` again, then approve it.\n")
        }
        Verdict::NeedsApproval if !missing_approvals.is_empty() => {
            let mut out = format!("{totals}\n{}\n", terminal.yellow("Needs approval:"));
            for sentence in missing_approvals {
                out.push_str(&format!("  {}\n", clean(sentence)));
            }
            out.push_str(&format!("Next: windlass approve {id}\n"));
            out
        }
        Verdict::Ready | Verdict::NeedsApproval => {
            format!("{totals}\n{}\nNext: windlass apply {id}\n", terminal.green("Ready to apply."))
        }
    }
}
