//! Whether the record is whole.

use super::{count, diagnostic, time};
use crate::terminal::{Terminal, clean, table};
use std::io::Write;
use std::time::{Duration, Instant};
use windlass_app::audit::Event;
use windlass_model::audit::export::ExportReport;
use windlass_model::diagnostic::Diagnostic;

pub fn verified(terminal: Terminal, answer: &ExportReport, checkpoint: bool, diagnostics: &[Diagnostic]) -> String {
    let report = &answer.report;
    let (events, seals) = (count(report.events as usize, "event"), count(report.seals as usize, "seal"));
    let name = terminal.bold(&clean(&answer.header.log));
    let mut out = format!("{name}: {events} and {seals}, exported {}\n", time(answer.header.at));
    for key in &report.keys {
        out.push_str(&format!("{}\n", terminal.dim(&format!("signed by {key}"))));
    }
    out.push('\n');
    let problems = diagnostic::render_all(terminal, diagnostics);
    if !answer.intact() {
        return format!("{out}{problems}{}\n", terminal.red_bold("Damaged."));
    }
    match &report.head {
        Some(head) => {
            let sealed = format!("Intact up to event {}, by seal {} of {}.", head.last, head.number, time(head.at));
            out.push_str(&format!("{}\n", terminal.green(&sealed)));
            if !checkpoint {
                out.push_str(
                    "That nothing was cut off at the end shows only with a checkpoint that was kept elsewhere.\n",
                );
            }
        }
        None => out.push_str("Nothing in it is sealed.\n"),
    }
    if let Some(unsealed) = &report.unsealed {
        out.push_str(&format!(
            "Not sealed yet: {}, from event {} of {} on.\n",
            count(unsealed.count as usize, "event"),
            unsealed.first,
            time(unsealed.since)
        ));
    }
    if !problems.is_empty() {
        out.push_str(&format!("\n{problems}"));
    }
    out.trim_end().to_owned() + "\n"
}

/// Who did what, to what, when and why.
pub fn log(terminal: Terminal, list: &[Event]) -> String {
    if list.is_empty() {
        return "Nothing that was recorded has all of that.\n".into();
    }
    let row = |event: &Event| {
        let of = |text: &Option<String>| clean(text.as_deref().unwrap_or_default());
        let what = match (&event.subject, &event.run, &event.step) {
            (Some(subject), ..) => clean(subject),
            (None, Some(run), Some(step)) => clean(&format!("{run}/{step}")),
            (None, run, _) => of(run),
        };
        vec![time(event.at), of(&event.actor), clean(&event.kind), what, clean(&event.project), of(&event.reason)]
    };
    table(terminal, &["when", "who", "what", "of", "project", "why"], list.iter().map(row).collect())
}

/// How far a long verification is, on a terminal.
pub struct Progress {
    terminal: Terminal,
    /// Bytes, where they are known.
    size: Option<u64>,
    drawn: Option<Instant>,
    since: Instant,
}

impl Progress {
    pub fn new(terminal: Terminal, size: Option<u64>) -> Self {
        Self { terminal, size, drawn: None, since: Instant::now() }
    }

    /// Told after each line.
    pub fn update(&mut self, lines: u64, bytes: u64) {
        // Looking at the clock costs more than most lines.
        if !self.terminal.interactive || !lines.is_multiple_of(256) {
            return;
        }
        let last = self.drawn.unwrap_or(self.since);
        if last.elapsed() < Duration::from_millis(200) {
            return;
        }
        let share = match self.size {
            Some(size) if size > 0 => format!(", {} %", bytes.min(size) * 100 / size),
            _ => String::new(),
        };
        eprint!("\r\u{1b}[2K{}", self.terminal.dim(&format!("{lines} lines{share}")));
        let _ = std::io::stderr().flush();
        self.drawn = Some(Instant::now());
    }

    pub fn clear(&mut self) {
        if self.drawn.take().is_some() {
            eprint!("\r\u{1b}[2K");
        }
    }
}
