//! What somebody is told, in words: what is on record of a run, with links to it and to where its log tells more.

use crate::error::AppResult;
use crate::operations::answers::Asks;
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::Occasion;
use windlass_model::operation::occasion::{Happening, Notice};
use windlass_model::operation::plan::{KIND, OperationInput, Origin, driver};
use windlass_model::run::{OnFailure, RunRecord, RunState, StepRecord, StepSpec, StepState};
use windlass_store::{Event, Store};

/// So much of the end of a log is looked through for its last line, bytes.
const TAIL: i64 = 8 << 10;
/// Parameters that are told, and letters of each.
const PARAMETERS: usize = 8;
const LETTERS: usize = 120;

/// What is known of a run of an operation.
pub(super) struct Brief {
    /// Without the steps of its plan.
    pub run: RunRecord,
    pub input: OperationInput,
    pub steps: BTreeSet<StepId>,
    /// Steps that wait for a person, with who that may be.
    pub asks: BTreeMap<StepId, String>,
    /// The step that admits it: with its success the run has begun.
    pub begins: Option<StepId>,
    /// When a schedule meant it to begin, µs.
    pub due: Option<Micros>,
    pub broke_glass: bool,
}

impl Brief {
    /// `None` of a run that is not of an operation.
    pub fn of(mut run: RunRecord) -> Option<Self> {
        if run.plan.kind != KIND {
            return None;
        }
        let input: OperationInput = serde_json::from_value(std::mem::take(&mut run.plan.input)).ok()?;
        let plan = std::mem::take(&mut run.plan.steps);
        let asks = plan.iter().filter_map(|spec| Some((spec.id.clone(), asks(&input, spec)?))).collect();
        let admits = plan.iter().find(|spec| spec.work.driver == driver::ADMIT).or(plan.first());
        let due = match &input.origin {
            Origin::Schedule { due, .. } => Some(*due),
            _ => None,
        };
        Some(Self {
            begins: admits.map(|spec| spec.id.clone()),
            steps: plan.into_iter().map(|spec| spec.id).collect(),
            asks,
            due,
            broke_glass: input.broke_glass,
            input,
            run,
        })
    }
}

/// Who may answer what a step asks; `None` of one that asks nobody.
fn asks(input: &OperationInput, spec: &StepSpec) -> Option<String> {
    let lets = Asks::of_spec(spec, input)?.lets(input, &spec.id);
    let teams: Option<Vec<Vec<String>>> = lets.into_iter().map(|lets| lets.teams).collect();
    Some(match teams.map(|teams| teams.concat()) {
        None => "anybody else who may see the run".into(),
        Some(teams) if teams.is_empty() => "whoever may do everything".into(),
        Some(teams) => teams.join(", "),
    })
}

/// Puts what happened into words.
pub(super) struct Words {
    pub store: Store,
    /// How people reach the server, without a slash at its end.
    pub url: String,
}

impl Words {
    /// All but the title, which says why it is told.
    pub async fn of_run(&self, brief: &Brief, what: Happening, event: Option<&Event>, at: Micros) -> AppResult<Notice> {
        let (run, input) = (&brief.run, &brief.input);
        let state = match what {
            Happening::Ended(state) => state,
            Happening::Waits => RunState::Waiting,
            Happening::BrokeGlass => RunState::Queued,
            _ => RunState::Running,
        };
        let mut notice = Notice {
            occasion: None,
            state: Some(state),
            project: run.project.clone(),
            operation: Some(input.operation.name.clone()),
            run: Some(run.id.to_string()),
            title: String::new(),
            text: String::new(),
            facts: Vec::new(),
            links: Vec::new(),
            at,
        };
        let said = event.and_then(|event| event.data["reason"].as_str()).unwrap_or_default();
        let place = self.run_url(&run.id);
        match what {
            Happening::Ended(RunState::Failed | RunState::Abandoned) => {
                let steps = self.store.step_list_brief(&run.id).await?;
                // With what was added to it meanwhile.
                let plan = self.store.run_get(&run.id).await?.plan.steps;
                notice.text = said.to_owned();
                if let Some(step) = failed(&plan, &steps) {
                    notice.text = step.reason.clone().unwrap_or_else(|| said.to_owned());
                    notice.facts.push(("failed at".into(), step.id.to_string()));
                    notice.links.push(("the log where it failed".into(), self.log_url(&run.id, &step.id).await?));
                }
                notice.facts.push(("after".into(), duration(at - run.created_at)));
            }
            Happening::Ended(_) => {
                notice.text = said.to_owned();
                notice.facts.push(("after".into(), duration(at - run.created_at)));
            }
            Happening::Waits => {
                notice.text = said.to_owned();
                let step = event.and_then(|event| event.step.as_deref()).map(StepId::new);
                let who = step.as_ref().and_then(|step| brief.asks.get(step)).cloned();
                // Of a step of which nobody knows what became of it.
                let who = who.unwrap_or_else(|| "whoever may settle runs".into());
                notice.facts.push(("may answer".into(), who));
                notice.facts.extend(step.map(|step| ("step".into(), step.to_string())));
            }
            Happening::UnderWay(long) => notice.facts.push(("for".into(), duration(long))),
            Happening::Began(late) => notice.facts.push(("late by".into(), duration(late))),
            _ => {}
        }
        let parameters = input.arguments.iter().filter(|(_, value)| !value.is_null()).take(PARAMETERS);
        notice.facts.extend(parameters.map(|(name, value)| (name.clone(), short(value))));
        notice.facts.push(("started by".into(), started_by(brief)));
        if brief.broke_glass {
            notice.facts.push(("glass broken".into(), "no approvals, no freeze and no window count".into()));
        }
        if let Some(reason) = &input.reason {
            notice.facts.push(("reason".into(), reason.clone()));
        }
        notice.links.push(("the run".into(), place));
        Ok(notice)
    }

    /// The one line, by what it is told as.
    pub fn title(&self, notice: &mut Notice, what: Happening) {
        let name = notice.operation.as_deref().unwrap_or_default();
        notice.title = match (notice.occasion, what) {
            (Some(Occasion::Recovered), _) => format!("{name} works again"),
            (Some(Occasion::BreakGlass), _) => format!("{name}: somebody broke the glass"),
            (Some(Occasion::Slow), _) => format!("{name} takes longer than usual"),
            (Some(Occasion::Late), _) => format!("{name} is late"),
            (_, Happening::Waits) => format!("{name} waits for somebody"),
            (_, Happening::Ended(state)) => match state {
                RunState::Succeeded => format!("{name} succeeded"),
                RunState::Cancelled => format!("{name} was cancelled"),
                RunState::Abandoned => format!("{name} was abandoned"),
                _ => format!("{name} failed"),
            },
            _ => format!("{name} goes on"),
        };
    }

    /// Of an operation that has missed its intervals.
    pub fn missed(&self, event: &Event, name: &str) -> Notice {
        Notice {
            occasion: None,
            state: None,
            project: event.project.clone(),
            operation: Some(name.to_owned()),
            run: None,
            title: format!("{name} has not succeeded for too long"),
            text: String::new(),
            facts: vec![
                ("schedule".into(), event.data["schedule"].as_str().unwrap_or_default().to_owned()),
                ("intervals".into(), event.data["intervals"].to_string()),
            ],
            links: vec![("its runs".into(), format!("{}/runs?project={}", self.url, encoded(&event.project)))],
            at: event.at,
        }
    }

    pub fn run_url(&self, run: &RunId) -> String {
        format!("{}/runs/{}", self.url, encoded(run.as_str()))
    }

    /// Where the last line of the log of a step begins.
    async fn log_url(&self, run: &RunId, step: &StepId) -> AppResult<String> {
        let end = self.store.log_end(run, step).await?;
        let from = (end - TAIL).max(0);
        let mut tail = Vec::new();
        let mut start = from;
        for chunk in self.store.log_read(run, step, from, 1_000).await? {
            if tail.is_empty() {
                start = chunk.start;
            }
            tail.extend_from_slice(&chunk.bytes);
        }
        let line = start + last_line(&tail);
        Ok(format!("{}#step-{}:B{line}", self.run_url(run), encoded(step.as_str())))
    }
}

/// Where the last line that says something begins.
fn last_line(text: &[u8]) -> i64 {
    let said = text.trim_ascii_end();
    let begin = said.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    i64::try_from(begin).unwrap_or_default()
}

/// The step for which a run failed: the first that did of those whose failure counts.
fn failed<'a>(plan: &[StepSpec], steps: &'a [StepRecord]) -> Option<&'a StepRecord> {
    let failed = steps.iter().filter(|step| matches!(step.state, StepState::Failed | StepState::Unknown));
    let counts = |step: &StepRecord| {
        let flow = plan.iter().find(|spec| spec.id == step.id).map(|spec| &spec.flow);
        flow.is_some_and(|flow| flow.phase.is_main() && flow.on_failure == OnFailure::Fail)
    };
    failed.min_by_key(|step| (!counts(step), step.ended_at.unwrap_or(Micros::MAX)))
}

fn started_by(brief: &Brief) -> String {
    match &brief.input.origin {
        Origin::Person { .. } | Origin::Repeated { .. } | Origin::Resumed { .. } => brief.run.actor.clone(),
        Origin::Schedule { name, .. } => format!("schedule {name}"),
        Origin::Trigger { name, .. } => format!("trigger {name}"),
        Origin::Run { run, .. } => format!("run {run}"),
    }
}

fn short(value: &serde_json::Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(LETTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// `3 min 5 s`, in its two largest units.
pub(super) fn duration(micros: Micros) -> String {
    let seconds = (micros / 1_000_000).max(0);
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let told = parts.iter().skip(first).take(2).filter(|(number, _)| *number > 0);
    let told: Vec<String> = told.map(|(number, unit)| format!("{number} {unit}")).collect();
    if told.is_empty() { "less than a second".into() } else { told.join(" ") }
}

/// A part of an address, as the pages write it.
pub(super) fn encoded(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        let check = |seconds: i64, want: &str| assert_eq!(duration(seconds * 1_000_000), want);
        check(0, "less than a second");
        check(-5, "less than a second");
        check(59, "59 s");
        check(60, "1 min");
        check(185, "3 min 5 s");
        check(3_600 * 26 + 59, "1 d 2 h");
    }

    #[test]
    fn the_last_line_is_the_one_that_says_something() {
        let check = |text: &str, want: i64| assert_eq!(last_line(text.as_bytes()), want, "{text:?}");
        check("", 0);
        check("one", 0);
        check("one\ntwo\n\n \n", 4);
        check("one\ntwo", 4);
    }
}
