//! `each` and `parallel`: what adds members to a run, what stands between batches of them, and what gathers them.

use super::gates::{self, Asked};
use super::{Step, definition};
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::service::Service;
use crate::steps::{failed, input};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use windlass_engine::{Executor, StepContext, StepFailure, StepResult};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::StepId;
use windlass_model::operation::EachDefinition;
use windlass_model::operation::plan::{
    BatchOutput, BatchStep, EachOutput, Member, OperationInput, OperationStep, PlanError, expand, step_id,
};

fn definition_of<'a>(run: &'a OperationInput, step: &OperationStep) -> AppResult<&'a EachDefinition> {
    run.each(step).ok_or_else(|| internal(format!("the operation has no each {}", step.path.join("/"))))
}

/// Adds the steps of its members to the run.
pub struct Each(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Each {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        self.add(cx).await.unwrap_or_else(failed)
    }
}

impl Each {
    async fn add(&self, cx: &StepContext) -> AppResult<StepResult> {
        let (run, step): (OperationInput, OperationStep) = (input(&cx.run_input)?, input(&cx.input)?);
        let each = definition_of(&run, &step)?;
        let deciding = match &run.environment {
            None => None,
            Some(_) => Some(self.0.deciding(Some(&run.head.commit)).await?),
        };
        let runner = deciding.as_ref().and_then(|found| found.definitions.runner_of(run.environment.as_deref()));
        let asked = Step(self.0.clone());
        let plain = definition::plain(&each.name, &each.span);
        let expanded = asked.with_definition(cx, &run, &step, plain, &each.members.text, async |work| {
            let members = work.scope.value(&each.members)?;
            let of = expand(&run, &step, &members, runner, work.scope.expressions());
            of.map_err(|error| wrong(each, &error))
        });
        let (output, expansion) = expanded.await?;
        cx.log(format!("{} members\n", output.keys.len()).as_bytes()).await;
        Ok(StepResult::Expanded { output: serde_json::to_value(output).map_err(internal)?, expansion })
    }
}

fn wrong(each: &EachDefinition, error: &PlanError) -> AppError {
    let diagnostic = Diagnostic::error("WL543", format!("`{}` has no members: {error}", each.name));
    let diagnostic = diagnostic.at(each.members.span.clone()).help("`in` is a list or an object");
    AppError::new(ErrorKind::Definition, diagnostic)
}

/// Stands before a batch and after the last: counts what failed, and asks the gates.
pub struct Batch(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Batch {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        self.ask(cx).await.unwrap_or_else(failed)
    }
}

impl Batch {
    async fn ask(&self, cx: &StepContext) -> AppResult<StepResult> {
        let (run, batch): (OperationInput, BatchStep) = (input(&cx.run_input)?, input(&cx.input)?);
        let each = definition_of(&run, &batch.of)?;
        let before = batch.before.as_ref().and_then(|before| cx.upstream.get(before));
        let before: Option<BatchOutput> = before.map(input).transpose()?;
        let output = batch.failed(before, |id| cx.upstream_bad.contains(id));
        let fails = |message| StepResult::Failed(StepFailure { code: "WL543".into(), message, retryable: false });
        if output.failed.len() as u64 > u64::from(each.max_failures) {
            let some: Vec<&str> = output.failed.iter().take(5).map(String::as_str).collect();
            let count = output.failed.len();
            let members = if count == 1 { "member" } else { "members" };
            let message = format!(
                "{count} {members} of `{}` failed ({}), and it tolerates {}",
                each.name,
                some.join(", "),
                each.max_failures
            );
            return Ok(fails(message));
        }
        let passed = StepResult::Succeeded(serde_json::to_value(&output).map_err(internal)?);
        if each.gates.is_empty() {
            return Ok(passed);
        }
        let now = self.0.store.now().await?;
        let source = serde_json::to_string(&each.gates).map_err(internal)?;
        let plain = definition::plain(&each.name, &each.span);
        let asked = Step(self.0.clone());
        let asked = asked.with_definition(cx, &run, &batch.of, plain, &source, async |work| {
            gates::ask(work, &each.gates, work.since(now).await?, now).await
        });
        Ok(match asked.await? {
            Asked::Passed => passed,
            Asked::Held { reason, again } => StepResult::Wait { reason, until: Some(again) },
            Asked::Failed(message) => fails(message),
            Asked::Cancelled => StepResult::Cancelled,
        })
    }
}

/// The end of an `each`: the outputs of the steps of its members, by key and name.
pub struct Gather;

#[async_trait::async_trait]
impl Executor for Gather {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        gather(cx).map_or_else(failed, StepResult::Succeeded)
    }
}

fn gather(cx: &StepContext) -> AppResult<Value> {
    let (run, step): (OperationInput, OperationStep) = (input(&cx.run_input)?, input(&cx.input)?);
    let each = definition_of(&run, &step)?;
    let adder = StepId::new(format!("each:{}", step_id(&step.each, &each.name)));
    let known: EachOutput = cx.upstream.get(&adder).map(input).transpose()?.unwrap_or_default();
    let (mut all, names) = (Map::new(), each.names());
    let mut around = step.each.clone();
    for (index, key) in known.keys.iter().enumerate() {
        around.push(Member { name: each.name.clone(), key: key.clone(), value: Value::Null, index });
        let outputs = names.iter().filter_map(|name| {
            let output = cx.upstream.get(&step_id(&around, name)).filter(|output| **output != json!({}))?;
            Some(((*name).to_owned(), output.clone()))
        });
        let outputs: Map<String, Value> = outputs.collect();
        if !outputs.is_empty() {
            all.insert(key.clone(), outputs.into());
        }
        around.pop();
    }
    Ok(all.into())
}

/// The end of a `parallel`.
pub struct Join;

#[async_trait::async_trait]
impl Executor for Join {
    async fn execute(&self, _: &StepContext) -> StepResult {
        StepResult::Succeeded(json!({}))
    }
}
