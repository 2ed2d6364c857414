//! Drift for the terminal.

use super::review::render_effect;
use super::{count, duration, time};
use crate::terminal::{Terminal, clean};
use windlass_model::Micros;
use windlass_model::drift::{Drift, Record};
use windlass_model::effect::{Action, Effect, ResourceChange};

pub fn render(terminal: Terminal, records: &[Record], failed: &[(String, String)], now: Micros) -> String {
    let mut out = String::new();
    let quiet = records.iter().filter(|record| record.since.is_none()).count();
    for record in records {
        let (Some(since), Some(drift)) = (record.since, &record.drift) else { continue };
        let age = format!("for {}, since {}", duration(now - since), time(since));
        out.push_str(&format!("{}  {}\n", terminal.bold(record.instance.as_str()), terminal.dim(&age)));
        if !drift.refresh.is_empty() {
            out.push_str("  The world is not as the state says:\n");
            out.push_str(&world(terminal, drift));
        }
        if !drift.configuration.is_empty() {
            out.push_str("  The configuration would change what is recorded:\n");
            out.push_str(&render_effect(terminal, &drift.configuration));
        }
        if !drift.behind.is_empty() {
            let names = drift.behind.iter().map(|address| clean(address)).collect::<Vec<_>>().join(", ");
            let line = format!("No drift: {names}; code and world agree, and the next apply records it.");
            out.push_str(&format!("  {}\n", terminal.dim(&line)));
        }
        out.push_str(&next(record, drift));
        if record.history.len() > 1 {
            out.push_str(&format!("  It is the {}. finding here; `--json` has them all.\n", record.history.len()));
        }
        out.push('\n');
    }
    for (name, why) in failed {
        out.push_str(&format!("{}  {}\n", terminal.bold(&clean(name)), terminal.red(&clean(why))));
    }
    if records.is_empty() && failed.is_empty() {
        return "Nobody has looked for drift yet: run `windlass drift`.\n".into();
    }
    let drifted = records.len() - quiet;
    let line = format!("{} drifted, {quiet} did not.", count(drifted, "instance"));
    out.push_str(&format!("{}\n", if drifted == 0 { terminal.green(&line) } else { terminal.yellow(&line) }));
    out
}

/// What was done behind the state, in the words of somebody who looks at the world and not at a plan.
fn world(terminal: Terminal, drift: &Drift) -> String {
    let mut out = String::new();
    for change in &drift.refresh.changes {
        let address = clean(&change.address);
        let head = match change.action {
            Action::Destroy => format!("{} {}  {address}", terminal.red("-"), terminal.red("deleted")),
            _ => format!("{} changed  {address}", terminal.yellow("~")),
        };
        let place = drift.places.get(&change.address).map(|place| format!("  ({})", clean(place)));
        out.push_str(&format!("  {head}{}\n", terminal.dim(&place.unwrap_or_default())));
        if let Some(touched) = drift.touched.get(&change.address) {
            let part =
                |word: &str, text: &Option<String>| text.as_deref().map(|text| format!("{word} {}", clean(text)));
            let parts = [part("by", &touched.by), part("at", &touched.at)];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            out.push_str(&format!("      changed {}\n", parts.join(" ")));
        }
        out.push_str(&attributes(terminal, &drift.refresh, change));
    }
    out
}

/// The lines below the head of a change.
fn attributes(terminal: Terminal, effect: &Effect, change: &ResourceChange) -> String {
    let only = Effect {
        instance: effect.instance.clone(),
        changes: vec![change.clone()],
        outputs: Default::default(),
        checks: Default::default(),
        drift: Vec::new(),
    };
    render_effect(terminal, &only).lines().skip(1).map(|line| format!("{line}\n")).collect()
}

fn next(record: &Record, drift: &Drift) -> String {
    let review = format!("windlass review --stack '{}'", record.instance);
    let gone = drift.refresh.changes.iter().any(|change| change.action == Action::Destroy);
    let changed = drift.refresh.changes.iter().any(|change| change.action != Action::Destroy);
    let mut out = String::new();
    if gone || changed {
        out.push_str(&format!("  Next: to make it again what the code says, `{review}`, then `windlass apply`;\n"));
        let keep = match (changed, gone) {
            (true, false) => "write what is there now into the code",
            (false, _) => "take what is deleted out of the code",
            (true, true) => "write what is there now into the code, and take out what is deleted",
        };
        out.push_str(&format!("        to keep it as it is, {keep}.\n"));
    } else {
        out.push_str(&format!("  Next: `{review}`, then `windlass apply`: the code was changed and never applied.\n"));
    }
    out
}
