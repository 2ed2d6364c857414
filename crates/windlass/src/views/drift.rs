//! Drift for the terminal.

use super::review::render_effect;
use super::{count, duration, time};
use crate::terminal::{Terminal, clean};
use windlass_model::Micros;
use windlass_model::drift::Record;

pub fn render(terminal: Terminal, records: &[Record], failed: &[(String, String)], now: Micros) -> String {
    let mut out = String::new();
    let quiet = records.iter().filter(|record| record.since.is_none()).count();
    for record in records {
        let (Some(since), Some(drift)) = (record.since, &record.drift) else { continue };
        let age = format!("for {}, since {}", duration(now - since), time(since));
        out.push_str(&format!("{}  {}\n", terminal.bold(record.instance.as_str()), terminal.dim(&age)));
        if !drift.refresh.is_empty() {
            out.push_str("  The world is not as the state says:\n");
            out.push_str(&render_effect(terminal, &drift.refresh));
        }
        if !drift.configuration.is_empty() {
            out.push_str("  The configuration would change what is recorded:\n");
            out.push_str(&render_effect(terminal, &drift.configuration));
        }
        out.push_str(&format!(
            "  Next: `windlass review --stack '{}'` to put it back by an apply, or change the code to what is there.\n",
            record.instance
        ));
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
