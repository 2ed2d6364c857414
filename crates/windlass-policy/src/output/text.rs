//! A line per result and a closing count.

use super::{Tally, View, broken_line, origin};
use crate::conftest::{Judgement, Outcome};

pub fn render(outcomes: &[Outcome], view: &View) -> String {
    let mut out = String::new();
    let paint = |color: u8, text: &str| {
        if view.color { format!("\u{1b}[{color}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    for outcome in outcomes {
        let place = format!("{} - {}", clean(&outcome.file), outcome.namespace);
        let mut lines = |word: &str, color: u8, judgements: &[Judgement]| {
            for judgement in judgements {
                out.push_str(&format!("{} - {place} - {}\n", paint(color, word), clean(&judgement.message)));
                let origin = origin(judgement);
                if !view.compatible && judgement.policy.is_some() {
                    out.push_str(&format!("       {}\n", paint(2, &clean(&origin))));
                }
            }
        };
        lines("WARN", 33, &outcome.warnings);
        lines("FAIL", 31, &outcome.failures);
        if !view.suppress_exceptions {
            lines("EXCP", 36, &outcome.exceptions);
        }
        for diagnostic in &outcome.broken {
            out.push_str(&format!("{} - {place} - {}\n", paint(31, "BROKE"), clean(&broken_line(diagnostic))));
        }
    }
    let tally = Tally::of(outcomes);
    let color = match () {
        () if tally.failures + tally.broken > 0 => 31,
        () if tally.warnings > 0 => 33,
        () if tally.exceptions > 0 => 36,
        () => 32,
    };
    out.push_str(&format!("\n{}\n", paint(color, &tally.to_string())));
    out
}

/// Control characters made visible, so that a message cannot steer the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}
