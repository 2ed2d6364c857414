//! Steps of operations: one executor that finds the definition of its step and does what it says, one module per kind of action.

mod admit;
mod call;
pub(crate) mod definition;
mod each;
mod files;
mod gates;
mod http;
mod notify;
mod outputs;
mod people;
mod programs;
mod scope;
pub mod secrets;
mod sql;
mod stacks;
mod wait;

pub use admit::Admit;
pub use each::{Batch, Each, Gather, Join};
pub(super) use gates::at_home;
pub use people::{Approve, Tick};

use super::{failed, input};
use crate::error::{AppResult, internal};
use crate::service::Service;
use scope::Scope;
use std::sync::Arc;
use windlass_engine::{Executor, Probe, StepContext, StepResult};
use windlass_model::Micros;
use windlass_model::operation::plan::{OperationInput, OperationStep};
use windlass_model::operation::{Action, StepDefinition};
use windlass_model::place::Place;

/// A step, an undo, a handler, or the command of an item of a checklist.
pub struct Step(pub Arc<Service>);

/// What an attempt of a step has.
struct Work<'a> {
    service: &'a Arc<Service>,
    cx: &'a StepContext,
    input: &'a OperationInput,
    definition: StepDefinition,
    scope: Scope,
}

impl Work<'_> {
    /// When the step began: its first attempt, however often it has waited since.
    async fn since(&self, now: Micros) -> AppResult<Micros> {
        let record = self.service.store.step_get(&self.cx.run, &self.cx.step).await?;
        Ok(record.started_at.unwrap_or(now))
    }
}

impl Step {
    /// Does `what` with all that a step has.
    async fn with<T>(&self, cx: &StepContext, what: impl AsyncFnOnce(&Work<'_>) -> AppResult<T>) -> AppResult<T> {
        let run: OperationInput = input(&cx.run_input)?;
        let step: OperationStep = input(&cx.input)?;
        let definition = definition::step(&run, &step)
            .ok_or_else(|| internal(format!("the operation has no step {}", step.path.join("/"))))?;
        let source = serde_json::to_string(&definition).map_err(internal)?;
        self.with_definition(cx, &run, &step, definition, &source, what).await
    }

    /// As [`Step::with`] for what is no step of its own, and has its expressions in `source`.
    async fn with_definition<T>(
        &self,
        cx: &StepContext,
        run: &OperationInput,
        step: &OperationStep,
        definition: StepDefinition,
        source: &str,
        what: impl AsyncFnOnce(&Work<'_>) -> AppResult<T>,
    ) -> AppResult<T> {
        cx.hide(self.0.hidden.all()).await;
        let scope = Scope::of_step(&self.0, cx, run, step, source).await?;
        for expression in &definition.mask {
            cx.hide([scope.text(expression)?]).await;
        }
        what(&Work { service: &self.0, cx, input: run, definition, scope }).await
    }
}

/// Does what the definition says.
async fn act(work: &Work<'_>) -> AppResult<StepResult> {
    match &work.definition.action {
        Action::Run { .. }
        | Action::Shell { .. }
        | Action::Script { .. }
        | Action::Container { .. }
        | Action::Job { .. } => programs::execute(work).await,
        Action::Http(action) => http::execute(work, action).await,
        Action::Sql(action) => sql::execute(work, action).await,
        Action::Terraform { stack, command, variables } => stacks::terraform(work, stack, *command, variables).await,
        Action::StackOutputs { stack } => stacks::outputs(work, stack).await,
        Action::Approval(rule) => people::approval(work, rule).await,
        Action::Ask(action) => people::ask(work, action).await,
        Action::Wait(action) => wait::execute(work, action).await,
        Action::Operation { name, arguments } => call::execute(work, name, arguments).await,
        Action::Notify { to, text } => notify::execute(work, to, text).await,
    }
}

#[async_trait::async_trait]
impl Executor for Step {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        let done = self.with(cx, async |work| {
            // Who began it does not do without what others have to say.
            let is_approval = matches!(work.definition.action, Action::Approval(_));
            if let Some(reason) = work.input.passed_over(&cx.step).filter(|_| !is_approval) {
                return Ok(StepResult::NotNeeded(format!("passed over: {reason}")));
            }
            match &work.definition.when {
                Some(when) if !work.scope.is_true(when)? => {
                    Ok(StepResult::NotNeeded(format!("{} is false", when.text)))
                }
                _ => act(work).await,
            }
        });
        done.await.unwrap_or_else(failed)
    }

    async fn probe(&self, cx: &StepContext) -> Probe {
        match self.with(cx, async |work| Ok(programs::probe(work).await)).await {
            Ok(probe) => probe,
            Err(error) => Probe::Unsettled(error.to_string()),
        }
    }
}

/// Where the programs of a step run, as far as it takes to find them again: without the image.
///
/// # Errors
/// The definitions of the commit that decides cannot be read.
pub async fn place_of(service: &Service, run: &OperationInput, step: &OperationStep) -> AppResult<Place> {
    // What is no step of its own runs no program.
    let Some(definition) = definition::step(run, step) else { return Ok(Place::Here) };
    match definition.action {
        Action::Container { container, .. } => Ok(Place::Container(container)),
        Action::Job { job, .. } => Ok(Place::Job(job)),
        _ => place_of_runner(service, run, &definition).await,
    }
}

/// The place of the runner whose label a step has: its own, the operation's, or its environment's.
async fn place_of_runner(service: &Service, run: &OperationInput, definition: &StepDefinition) -> AppResult<Place> {
    if definition.runner.is_none() && run.operation.runner.is_none() && run.environment.is_none() {
        return Ok(Place::Here);
    }
    let deciding = service.deciding(Some(&run.head.commit)).await?;
    let own = definition.runner.as_deref().or(run.operation.runner.as_deref());
    let label = own.or_else(|| deciding.definitions.runner_of(run.environment.as_deref()));
    let runner = deciding.definitions.runners.iter().find(|runner| Some(runner.name.as_str()) == label);
    Ok(runner.map_or(Place::Here, |runner| runner.place.clone()))
}

#[cfg(test)]
mod tests;
