//! Runs and their steps.

use super::{duration, time};
use crate::terminal::{Terminal, clean, table};
use serde::Deserialize;
use windlass_app::operations::answers::Asks;
use windlass_model::Micros;
use windlass_model::id::StepId;
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
    let next = match run.state {
        RunState::Waiting | RunState::Queued | RunState::Running
            if steps.iter().any(|s| s.state == StepState::Unknown) =>
        {
            format!(
                "Next: look at what happened, then `windlass resume {} --settle STEP=done|failed|repeat`.\n",
                run.id
            )
        }
        RunState::Waiting if run.plan.kind == windlass_model::operation::plan::KIND => {
            let input = OperationInput::deserialize(&run.plan.input).ok();
            let asks = steps.iter().filter(|step| step.state == StepState::Waiting).find_map(|step| {
                let spec = run.plan.steps.iter().find(|spec| spec.id == step.id)?;
                let words = Asks::of_spec(spec, input.as_ref()?)?.words();
                Some((&step.id, if words.is_empty() { "TEXT".to_owned() } else { words.join("|") }))
            });
            let next = |(step, words): (&StepId, String)| {
                let (step, words) = (clean(step.as_str()), clean(&words));
                format!("Next: windlass answer {0} {step} '{words}'; in a checkout then windlass resume {0}\n", run.id)
            };
            asks.map(next).unwrap_or_default()
        }
        RunState::Waiting => format!("Next: windlass approve {0}, then windlass resume {0}\n", run.id),
        RunState::Queued | RunState::Running => {
            format!("Next: if no process is driving it, windlass resume {}\n", run.id)
        }
        // What was passed over is no fault.
        _ => steps
            .iter()
            .filter(|step| step.state != StepState::Skipped)
            .find_map(|step| step.code.as_deref())
            .map(|code| format!("Next: windlass explain {code} says how to mend it.\n"))
            .unwrap_or_default(),
    };
    out.push_str(&next);
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
