//! What runs of operations ask of people: approvals, questions, items of checklists. Answers are put on record here; the executor
//! of the step decides what they amount to.

use super::lets;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::service::Service;
use crate::steps::operation::definition;
use serde::Deserialize;
use windlass_model::access::Lets;
use windlass_model::approval::{Actor, is_member};
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::StepId;
use windlass_model::operation::plan::{OperationInput, OperationStep, driver, word};
use windlass_model::operation::{Action, AskAction, ChecklistItem, OperationApprovals};
use windlass_model::run::{RunRecord, StepSpec, StepState};

/// What a step asks of people.
#[derive(Debug, Clone, PartialEq)]
pub enum Asks {
    Approval(OperationApprovals),
    Question(AskAction),
    Tick(ChecklistItem),
}

impl Asks {
    /// What the step of that id asks; `None` where it asks nobody, or there is none. In a checkout questions and items are for
    /// whoever has its files.
    pub fn of(record: &RunRecord, input: &OperationInput, step: &StepId) -> Option<Self> {
        let mut asks = Self::of_spec(record.plan.steps.iter().find(|spec| spec.id == *step)?, input)?;
        if record.project.is_empty() {
            match &mut asks {
                Self::Approval(_) => {}
                Self::Question(ask) => ask.from.clear(),
                Self::Tick(item) => item.from.clear(),
            }
        }
        Some(asks)
    }

    /// What a step of a run with this input asks; `None` where it asks nobody.
    pub fn of_spec(spec: &StepSpec, input: &OperationInput) -> Option<Self> {
        let operation = &input.operation;
        if spec.work.driver == driver::APPROVE {
            return operation.approvals.clone().map(Self::Approval);
        }
        let place = OperationStep::deserialize(&spec.work.input).ok()?;
        if spec.work.driver == driver::TICK {
            return definition::item(operation, &place.path).cloned().map(Self::Tick);
        }
        match definition::step(input, &place)?.action {
            Action::Approval(approvals) => Some(Self::Approval(approvals)),
            Action::Ask(ask) => Some(Self::Question(*ask)),
            _ => None,
        }
    }

    fn from(&self) -> &[String] {
        match self {
            Self::Approval(approvals) => &approvals.from,
            Self::Question(ask) => &ask.from,
            Self::Tick(item) => &item.from,
        }
    }

    /// Whom it lets answer.
    pub fn lets(&self, input: &OperationInput, step: &StepId) -> Vec<Lets> {
        let by = format!("step {step}");
        match self.from() {
            [] if matches!(self, Self::Approval(_)) => vec![Lets { teams: None, by }],
            [] => lets(&input.operation, Some(&input.arguments)),
            teams => vec![Lets { teams: Some(teams.to_vec()), by }],
        }
    }

    /// The answers that there are; empty where any text is one.
    pub fn words(&self) -> Vec<String> {
        let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
        match self {
            Self::Approval(_) => words([word::APPROVE, word::REFUSE]),
            Self::Question(ask) => ask.choices.clone(),
            Self::Tick(_) => words([word::DONE, word::UNDONE]),
        }
    }

    /// Why an answer by somebody would not count.
    pub(crate) fn why_not(
        &self,
        actor: &Actor,
        definitions: &Definitions,
        starter: &str,
        value: &str,
    ) -> Option<String> {
        if let Self::Approval(approvals) = self
            && value == word::APPROVE
        {
            if actor.to_string() == starter {
                return Some("who started a run does not approve it: somebody else has to".to_owned());
            }
            if !actor.verified && !approvals.unverified {
                let why =
                    "nobody checked who you are, and these approvals do not take that (`unverified = true` would)";
                return Some(why.to_owned());
            }
        }
        let from = self.from();
        (!from.is_empty() && !is_member(actor, from, &definitions.teams)).then(|| {
            let teams = from.join(" or ");
            format!("it asks team {teams}, and {} was not of it in the commit that the run is of", actor.name)
        })
    }
}

fn refused<T>(kind: ErrorKind, summary: String, help: &str) -> AppResult<T> {
    Err(AppError::new(kind, Diagnostic::error("WL748", summary).help(help)))
}

/// Puts an answer on record, and has the run look at it. Who is of which team is what the commit of the run says, as it is for the
/// step: an answer that is taken counts.
///
/// # Errors
/// The step asks nobody, or not now; it is no answer to what it asks; or it would not count.
pub async fn answer(
    service: &Service,
    record: &RunRecord,
    input: &OperationInput,
    step: &StepId,
    value: &str,
    reason: Option<&str>,
) -> AppResult<()> {
    let Some(asks) = Asks::of(record, input, step) else {
        let help = "`windlass runs RUN` shows which steps wait for an answer";
        return refused(ErrorKind::Usage, format!("step {step} of run {} asks nobody", record.id), help);
    };
    let found = service.store.step_get(&record.id, step).await?;
    if found.state.is_final() || record.state.is_final() {
        let state = found.state.as_str();
        return refused(ErrorKind::Conflict, format!("step {step} does not ask any more: it is {state}"), "");
    }
    if !matches!(found.state, StepState::Waiting | StepState::Running) {
        let help = "answer when it waits: what it asks about may look different then";
        return refused(ErrorKind::Conflict, format!("step {step} does not ask yet"), help);
    }
    let value = value.trim();
    let words = asks.words();
    if value.is_empty() || (!words.is_empty() && !words.iter().any(|word| word == value)) {
        let help = if words.is_empty() {
            "any text is an answer".to_owned()
        } else {
            format!("answer {}", words.join(" or "))
        };
        return refused(ErrorKind::Usage, format!("`{value}` is no answer to step {step}"), &help);
    }
    let deciding = service.deciding(Some(&input.head.commit)).await?;
    if let Some(why) = asks.why_not(&service.actor, &deciding.definitions, &record.actor, value) {
        return refused(ErrorKind::Refused, format!("this answer to step {step} would not count"), &why);
    }
    let actor = serde_json::to_string(&service.actor).map_err(internal)?;
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    service.store.answer_add(&record.id, step, &actor, value, reason).await?;
    Ok(())
}
