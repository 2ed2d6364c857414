//! What is going on while a run is driven: a line per change, and on a terminal one line that is kept up to date.

use super::runs::step_state;
use crate::terminal::{Terminal, clean};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};
use windlass_app::Progress;
use windlass_model::run::{RunRecord, RunState, StepRecord, StepState};

pub struct View {
    terminal: Terminal,
    total: usize,
    done: usize,
    running: BTreeMap<String, Instant>,
    held: BTreeSet<String>,
    drawn: bool,
}

impl View {
    pub fn new(terminal: Terminal, total: usize, done: usize) -> Self {
        Self { terminal, total, done, running: BTreeMap::new(), held: BTreeSet::new(), drawn: false }
    }

    pub fn update(&mut self, progress: &Progress) {
        self.clear();
        match progress {
            Progress::Held { id, why } => {
                self.held.insert(id.to_string());
                // Waiting for a place on the machine is the normal course of things; a lock is news.
                if !why.contains("free place") {
                    eprintln!(
                        "{} {} {}",
                        step_state(self.terminal, StepState::Waiting),
                        clean(id.as_str()),
                        self.terminal.dim(&clean(why))
                    );
                }
            }
            Progress::Step { id, state, reason } => {
                let name = id.to_string();
                self.held.remove(&name);
                let began = self.running.remove(&name);
                if *state == StepState::Running {
                    self.running.insert(name, Instant::now());
                    self.draw();
                    return;
                }
                if state.is_final() {
                    self.done += 1;
                }
                let took = began.map(|at| super::duration(at.elapsed().as_micros() as i64)).unwrap_or_default();
                let reason = reason.as_deref().map(|r| format!("  {}", clean(r))).unwrap_or_default();
                eprintln!(
                    "{} {}  {}{reason}",
                    step_state(self.terminal, *state),
                    clean(id.as_str()),
                    self.terminal.dim(&took)
                );
            }
        }
        self.draw();
    }

    /// Says what belongs to the last change.
    pub fn tell(&mut self, text: &str) {
        self.clear();
        eprintln!("  {text}");
        self.draw();
    }

    /// Redraws the last line, which shows what runs and for how long.
    pub fn tick(&mut self) {
        self.clear();
        self.draw();
    }

    fn draw(&mut self) {
        if !self.terminal.interactive || self.running.is_empty() {
            return;
        }
        let names: Vec<String> = self
            .running
            .iter()
            .take(3)
            .map(|(name, at)| format!("{} {}", clean(name), seconds(at.elapsed())))
            .collect();
        let more = self.running.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let waiting = if self.held.is_empty() {
            String::new()
        } else {
            format!(", {} waiting for a free place", self.held.len())
        };
        let line: String = format!("{}/{} done, running {}{more}{waiting}", self.done, self.total, names.join(", "))
            .chars()
            .take(110)
            .collect();
        eprint!("{}", self.terminal.dim(&line));
        let _ = std::io::stderr().flush();
        self.drawn = true;
    }

    pub fn clear(&mut self) {
        if self.drawn {
            eprint!("\r\u{1b}[2K");
            self.drawn = false;
        }
    }
}

/// A run that something else drives: what changed is what differs from the look before.
#[derive(Default)]
pub struct Watch {
    known: BTreeMap<String, StepState>,
    view: Option<View>,
}

impl Watch {
    pub fn look(&mut self, terminal: Terminal, steps: &[StepRecord]) {
        let view = self.view.get_or_insert_with(|| View::new(terminal, steps.len(), 0));
        for step in steps {
            let before = self.known.insert(step.id.to_string(), step.state);
            if before != Some(step.state) && !(before.is_none() && step.state == StepState::Pending) {
                let (id, reason) = (step.id.clone(), step.reason.clone());
                view.update(&Progress::Step { id, state: step.state, reason });
            }
        }
    }

    pub fn tick(&mut self) {
        self.view.iter_mut().for_each(View::tick);
    }

    pub fn clear(&mut self) {
        self.view.iter_mut().for_each(View::clear);
    }
}

/// Whether nothing will happen in a run unless somebody acts.
pub fn is_over(record: &RunRecord, steps: &[StepRecord]) -> bool {
    let goes_on = steps.iter().any(|step| matches!(step.state, StepState::Running | StepState::Pending));
    record.state.is_final() || (record.state == RunState::Waiting && !goes_on)
}

fn seconds(elapsed: Duration) -> String {
    format!("{}s", elapsed.as_secs())
}
