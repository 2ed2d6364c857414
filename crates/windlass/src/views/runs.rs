//! Runs and their steps.

use super::{duration, time};
use crate::terminal::{Terminal, clean, table};
use serde::Deserialize;
use windlass_app::operations::answers::Asks;
use windlass_app::run_artefacts::RunArtefact;
use windlass_model::Micros;
use windlass_model::id::RunId;
use windlass_model::operation::plan::OperationInput;
use windlass_model::run::{RunRecord, RunState, StepRecord, StepState};

pub fn render_list(terminal: Terminal, runs: &[RunRecord]) -> String {
    if runs.is_empty() {
        return "No runs yet. Start one with `windlass review`.\n".into();
    }
    let rows = runs
        .iter()
        .map(|run| {
            let took = run.ended_at.map(|end| duration(end - run.created_at)).unwrap_or_default();
            vec![
                run.id.to_string(),
                run.plan.kind.clone(),
                run.state.as_str().to_owned(),
                time(run.created_at),
                took,
                run.plan.title.clone(),
            ]
        })
        .collect();
    table(terminal, &["run", "kind", "state", "created", "took", "what"], rows)
}

pub fn render_run(terminal: Terminal, run: &RunRecord, steps: &[StepRecord], now: Micros) -> String {
    let mut out =
        format!("{} {}  {}\n", terminal.bold(run.id.as_str()), run_state(terminal, run.state), clean(&run.plan.title));
    out.push_str(&format!(
        "{}\n",
        terminal.dim(&format!("{}, started {} by {}", run.plan.kind, time(run.created_at), clean(&run.actor)))
    ));
    if let Some(reason) = &run.reason {
        out.push_str(&format!("{}\n", clean(reason)));
    }
    if run.cancel_requested && !run.state.is_final() {
        out.push_str("Cancel was asked for.\n");
    }
    out.push('\n');
    for step in steps {
        let took = step.started_at.map(|start| duration(step.ended_at.unwrap_or(now) - start)).unwrap_or_default();
        let attempt = if step.attempt > 1 { format!(", attempt {}", step.attempt) } else { String::new() };
        let code = step.code.as_deref().map(|code| format!("[{code}] ")).unwrap_or_default();
        let reason = step.reason.as_deref().map(|r| format!("  {code}{}", clean(r))).unwrap_or_default();
        out.push_str(
            format!(
                "  {} {}  {}{reason}\n",
                step_state(terminal, step.state),
                clean(step.id.as_str()),
                terminal.dim(&format!("{took}{attempt}"))
            )
            .trim_end(),
        );
        out.push('\n');
    }
    out.push_str(&next(run, steps));
    out
}

/// What somebody would do next; empty where there is nothing. Runs of a server's project go on by themselves, those of a checkout as
/// long as a process drives them.
/// How the question is answered that a step of an operation waits with; `None` where it asks nobody.
pub fn answer(run: &RunRecord, step: &StepRecord) -> Option<String> {
    let spec = run.plan.steps.iter().find(|spec| spec.id == step.id).filter(|_| step.state == StepState::Waiting)?;
    let words = Asks::of_spec(spec, &OperationInput::deserialize(&run.plan.input).ok()?)?.words();
    let words = if words.is_empty() { "TEXT".to_owned() } else { words.join("|") };
    Some(format!("windlass answer {} {} '{}'", run.id, clean(step.id.as_str()), clean(&words)))
}

fn next(run: &RunRecord, steps: &[StepRecord]) -> String {
    let is_server = !run.project.is_empty();
    let id = &run.id;
    let of_operation = run.plan.kind == windlass_model::operation::plan::KIND;
    match run.state {
        RunState::Waiting | RunState::Queued | RunState::Running
            if steps.iter().any(|s| s.state == StepState::Unknown) =>
        {
            format!("Next: look at what happened, then `windlass resume {id} --settle STEP=done|failed|repeat`.\n")
        }
        RunState::Waiting if of_operation => {
            let then = if is_server {
                String::new()
            } else {
                format!("; where no process drives it, then windlass resume {id}")
            };
            let how = steps.iter().find_map(|step| answer(run, step));
            how.map(|how| format!("Next: {how}{then}\n")).unwrap_or_default()
        }
        RunState::Waiting if is_server => format!("Next: windlass approve {id}\n"),
        RunState::Waiting => format!("Next: windlass approve {id}, then windlass resume {id}\n"),
        RunState::Queued | RunState::Running if is_server => format!("Next: windlass runs {id} --follow watches it\n"),
        RunState::Queued | RunState::Running => format!("Next: if no process is driving it, windlass resume {id}\n"),
        _ => {
            // What was passed over is no fault.
            let mut failed = steps.iter().filter(|step| step.state != StepState::Skipped);
            let explain = failed.find_map(|step| step.code.as_deref()).map(|code| {
                let goes_on = of_operation && run.state != RunState::Succeeded;
                let then = if goes_on { format!("; windlass resume {id} then goes on there") } else { String::new() };
                format!("Next: windlass explain {code} says how to mend it{then}.\n")
            });
            explain.unwrap_or_default()
        }
    }
}

/// What the steps of a run left.
pub fn render_artefacts(terminal: Terminal, run: &RunId, artefacts: &[RunArtefact]) -> String {
    if artefacts.is_empty() {
        return format!("The steps of run {run} left no artefacts.\n");
    }
    let row = |artefact: &RunArtefact| {
        let attempt = if artefact.attempt > 1 { format!(", attempt {}", artefact.attempt) } else { String::new() };
        let told = artefact.removed.as_ref().map_or_else(|| time(artefact.at), |why| why.clone());
        vec![artefact.path(), super::size(artefact.size), format!("{told}{attempt}")]
    };
    let mut out = table(terminal, &["artefact", "size", "kept"], artefacts.iter().map(row).collect());
    if artefacts.iter().any(|artefact| artefact.removed.is_none()) {
        out.push_str(&format!("Next: windlass artefacts {run}/ARTEFACT saves one.\n"));
    }
    out
}

pub fn run_state(terminal: Terminal, state: RunState) -> String {
    match state {
        RunState::Succeeded => terminal.green(state.as_str()),
        RunState::Failed => terminal.red(state.as_str()),
        RunState::Waiting | RunState::Cancelled | RunState::Abandoned => terminal.yellow(state.as_str()),
        RunState::Queued | RunState::Running => terminal.cyan(state.as_str()),
    }
}

/// One sign per state, so that a column of them can be read at a glance.
pub fn step_state(terminal: Terminal, state: StepState) -> String {
    match state {
        StepState::Succeeded => terminal.green("✓"),
        StepState::Failed => terminal.red("✗"),
        StepState::Running => terminal.cyan("▶"),
        StepState::Waiting => terminal.yellow("…"),
        StepState::Unknown => terminal.yellow("?"),
        StepState::Skipped | StepState::Cancelled => terminal.dim("-"),
        StepState::Pending => terminal.dim("·"),
    }
}
