//! Steps that wait for people: approvals, questions, items of a checklist.

use super::{Step, Work, definition};
use crate::error::{AppResult, internal};
use crate::service::Service;
use crate::steps::{failed, input};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use windlass_engine::{Executor, StepContext, StepFailure, StepResult};
use windlass_model::Micros;
use windlass_model::definition::Team;
use windlass_model::operation::answers::{self, Decision};
use windlass_model::operation::plan::{OperationInput, OperationStep};
use windlass_model::operation::{AskAction, OperationApprovals};

/// How often is looked whether somebody answered between a look and the beginning of the wait, microseconds.
const AGAIN: Micros = 30_000_000;

/// `approval`: somebody else has to agree.
///
/// # Errors
/// An expression has no value; the database cannot be read.
pub async fn approval(work: &Work<'_>, rule: &OperationApprovals) -> AppResult<StepResult> {
    if let Some(when) = &rule.when
        && !work.scope.is_true(when)?
    {
        return Ok(StepResult::NotNeeded(format!("no approval is needed: {} is false", when.text)));
    }
    if work.input.broke_glass {
        return Ok(StepResult::NotNeeded("somebody broke the glass".into()));
    }
    let asked = Asked::of(work.service, work.cx, work.input).await?;
    let starter = work.service.store.run_get(&work.cx.run).await?.actor;
    Ok(asked.result(answers::approval(rule, &asked.answers, &starter, &asked.teams, asked.times), "WL539"))
}

/// `ask`: the answer is an output. In a checkout whoever has its files answers.
///
/// # Errors
/// As of [`approval`].
pub async fn ask(work: &Work<'_>, action: &AskAction) -> AppResult<StepResult> {
    let question = work.scope.text(&action.question)?;
    let asked = Asked::of(work.service, work.cx, work.input).await?;
    let mut action = action.clone();
    if asked.in_checkout {
        action.from.clear();
    }
    Ok(asked.result(answers::question(&action, &question, &asked.answers, &asked.teams, asked.times), "WL540"))
}

/// What a step that asks stands on.
struct Asked {
    answers: Vec<answers::Answer>,
    teams: Vec<Team>,
    /// Since when it asks, and now.
    times: (Micros, Micros),
    /// Nobody is asked who they are there.
    in_checkout: bool,
}

impl Asked {
    async fn of(service: &Service, cx: &StepContext, run: &OperationInput) -> AppResult<Self> {
        let now = service.store.now().await?;
        let since = service.store.step_get(&cx.run, &cx.step).await?.started_at.unwrap_or(now);
        let answers = service.store.answer_list(&cx.run, &cx.step).await?;
        let teams = service.deciding(Some(&run.head.commit)).await?.definitions.teams.clone();
        let in_checkout = service.store.project().is_empty();
        Ok(Self { answers, teams, times: (since, now), in_checkout })
    }

    fn result(&self, decision: Decision, code: &str) -> StepResult {
        let fails = |message| StepResult::Failed(StepFailure { code: code.into(), message, retryable: false });
        match decision {
            Decision::Done { answer, by, reason } => {
                StepResult::Succeeded(json!({ "answer": answer, "by": by, "reason": reason }))
            }
            Decision::Refused { by, reason } => {
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                fails(format!("{by} refused{reason}"))
            }
            Decision::Expired(what) => fails(format!("nobody answered in time; it waited for {what}")),
            Decision::Waits { what, until } => {
                let at = until.and_then(|until| Timestamp::from_microsecond(until).ok());
                let limit = at.map_or_else(String::new, |at| format!(" (until {at:.0})"));
                let again = self.times.1.saturating_add(AGAIN);
                let until = Some(until.map_or(again, |until| until.min(again)));
                StepResult::Wait { reason: format!("waits for {what}{limit}"), until }
            }
        }
    }
}

/// Approvals of the whole run.
pub struct Approve(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Approve {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        let done = async {
            let run: OperationInput = input(&cx.run_input)?;
            let rule = run.operation.approvals.clone().ok_or_else(|| internal("no approvals are asked for"))?;
            let (step, definition) = (OperationStep::default(), definition::plain("approve", &rule.span));
            let source = rule.when.as_ref().map_or("", |when| &when.text);
            let asked = Step(self.0.clone());
            asked.with_definition(cx, &run, &step, definition, source, async |work| approval(work, &rule).await).await
        };
        done.await.unwrap_or_else(failed)
    }
}

/// An item of a checklist that a person ticks.
pub struct Tick(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Tick {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        let done = async {
            let run: OperationInput = input(&cx.run_input)?;
            let step: OperationStep = input(&cx.input)?;
            if let Some(reason) = run.passed_over(&cx.step) {
                return Ok(StepResult::NotNeeded(format!("passed over: {reason}")));
            }
            let item = definition::item(&run.operation, &step.path).ok_or_else(|| internal("no such item"))?;
            let (asked, mut item) = (Asked::of(&self.0, cx, &run).await?, item.clone());
            if asked.in_checkout {
                item.from.clear();
            }
            Ok(asked.result(answers::tick(&item, &asked.answers, &asked.teams), "WL539"))
        };
        done.await.unwrap_or_else(failed)
    }
}
