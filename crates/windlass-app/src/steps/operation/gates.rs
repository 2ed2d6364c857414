//! Gates of operations: probes whose texts are expressions, asked again until they pass or their time is over.

use super::{Work, files, programs};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::steps::elsewhere;
use crate::steps::rollout::Starts;
use std::path::Path;
use windlass_drivers::probe::{self, Probe, Surroundings};
use windlass_drivers::process::Token;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::GateDefinition;
use windlass_model::rollout::{Answer, Gate};

/// What gates say together.
pub enum Asked {
    Passed,
    /// Which one does not pass, and when it is asked again, microseconds since the Unix epoch.
    Held {
        reason: String,
        again: Micros,
    },
    /// Its time is over.
    Failed(String),
    Cancelled,
}

/// Asks each gate once, in order, until one does not pass. `since` is when they were first asked.
///
/// # Errors
/// A gate cannot be asked here.
pub async fn ask(work: &Work<'_>, gates: &[GateDefinition], since: Micros, now: Micros) -> AppResult<Asked> {
    let directory = programs::directory(work)?;
    let place = programs::place(work).await?;
    let environment = programs::environment(work, &place)?;
    let (token, reach) = (Token::parse(&work.cx.token), vec![work.service.checkout.root.clone()]);
    let mut around = Surroundings { directory: directory.clone(), environment, place, token, reach, asker: Vec::new() };
    for definition in gates {
        let gate = at_home(work.scope.gate(definition)?, &directory);
        let title = gate.title();
        elsewhere::ask_there(work.service, &mut around, &gate).await?;
        let Some(probe) = Probe::of_gate(&gate, &around) else {
            let diagnostic = Diagnostic::error("WL541", format!("{title} cannot be asked by an operation"));
            let diagnostic = diagnostic.at(definition.span.clone()).help("use `command`, `http` or `tcp`");
            return Err(AppError::new(ErrorKind::Definition, diagnostic));
        };
        let answer = probe::attempt(&probe, &work.cx.cancel, &mut Starts(work.cx)).await;
        work.cx.log(format!("{title}: {}\n{}", answer.detail, answer.output).as_bytes()).await;
        if answer.answer == Answer::Pass {
            continue;
        }
        if work.cx.cancel.is_cancelled() {
            return Ok(Asked::Cancelled);
        }
        let until = since.saturating_add(definition.within);
        if now >= until {
            let seconds = definition.within / 1_000_000;
            return Ok(Asked::Failed(format!("{title} did not pass within {seconds} s: {}", answer.detail)));
        }
        let again = now.saturating_add(gate.interval().unwrap_or(definition.within)).min(until);
        return Ok(Asked::Held { reason: format!("{title}: {}", answer.detail), again });
    }
    Ok(Asked::Passed)
}

/// A command that is named with a directory is of this one.
pub(in crate::steps) fn at_home(gate: Gate, directory: &Path) -> Gate {
    match gate {
        Gate::Command { mut argv, timeout, interval } => {
            if let Some(first) = argv.first_mut() {
                *first = files::program(first, directory).display().to_string();
            }
            Gate::Command { argv, timeout, interval }
        }
        other => other,
    }
}
