//! Steps on stacks: their outputs, a plan, and an apply of exactly that plan.

use super::Work;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::steps::plan::{Judged, PlanKind, Planned, plan_instance, plan_path, purpose};
use crate::steps::terraform::{Recorder, driver_error, stack_directory};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use windlass_drivers::terraform::plan_file::Opened;
use windlass_engine::StepResult;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::InstanceId;
use windlass_model::mask::SENSITIVE;
use windlass_model::operation::{Expression, TerraformCommand};
use windlass_model::review::Level;
use windlass_model::stack_plan::{self, StackWork};

/// The real outputs of an instance; sensitive ones are there without their values.
///
/// # Errors
/// There is no such instance; terraform fails.
pub async fn outputs(work: &Work<'_>, stack: &Expression) -> AppResult<StepResult> {
    let (of, _) = instance(work, stack)?;
    read(work, &of).await
}

/// A command of terraform.
///
/// # Errors
/// It is refused, or fails.
pub async fn terraform(
    work: &Work<'_>,
    stack: &Expression,
    command: TerraformCommand,
    variables: &BTreeMap<String, Expression>,
) -> AppResult<StepResult> {
    let (mut of, protected) = instance(work, stack)?;
    for (name, value) in variables {
        of.instance.variables.insert(name.clone(), work.scope.value(value)?);
    }
    match command {
        TerraformCommand::Output => read(work, &of).await,
        TerraformCommand::Plan => Ok(match plan(work, &of).await? {
            None => StepResult::Cancelled,
            Some(judged) => StepResult::Succeeded(told(&judged)),
        }),
        TerraformCommand::Apply => {
            if let Some(environment) = protected {
                let summary =
                    format!("{} is of the environment {environment}, whose changes are approved", of.instance.id);
                let help = "commit the change, and use `windlass review` and `windlass apply`";
                return Err(refused(summary, help));
            }
            apply(work, &of).await
        }
    }
}

fn refused(summary: String, help: &str) -> AppError {
    AppError::new(ErrorKind::Refused, Diagnostic::error("WL544", summary).help(help))
}

/// The work of one instance, and its environment that asks for approvals.
fn instance(work: &Work<'_>, stack: &Expression) -> AppResult<(StackWork, Option<String>)> {
    let name = work.scope.text(stack)?;
    let project = work.service.checkout.project()?.sound()?;
    let wanted = InstanceId::new(name.trim_start_matches("./").trim_end_matches('/'));
    let affected = crate::review::chosen(&project, |id| *id == wanted);
    let mut works = stack_plan::stack_works(&project.repository, &affected);
    let Some(mut found) = works.pop() else {
        let ids: Vec<&str> = project.repository.instances().map(|(_, instance)| instance.id.as_str()).collect();
        let near = windlass_lang::suggest(wanted.as_str(), ids.into_iter());
        let help = near
            .map_or_else(|| "`windlass stacks` lists all of them".to_owned(), |near| format!("did you mean `{near}`?"));
        let diagnostic = Diagnostic::error("WL903", format!("there is no instance `{wanted}`")).at(stack.span.clone());
        return Err(AppError::new(ErrorKind::NotFound, diagnostic.help(help)));
    };
    found.place = crate::project::place_of(&project.definitions, &wanted)?;
    let names = crate::project::environments_of(&project.definitions, &wanted);
    let protected = project
        .definitions
        .environments
        .iter()
        .find(|environment| environment.approvals.is_some() && names.contains(&environment.name));
    Ok((found, protected.map(|environment| environment.name.clone())))
}

async fn read(work: &Work<'_>, of: &StackWork) -> AppResult<StepResult> {
    let stack = stack_directory(work.service, work.cx, of).await?;
    let mut recorder = Recorder::new(work.cx);
    if let Some(init) = stack.init(&work.cx.cancel, &mut recorder).await.map_err(|e| driver_error(&e))?
        && !init.success
    {
        if init.cancelled {
            return Ok(StepResult::Cancelled);
        }
        return Err(AppError::many(ErrorKind::Refused, init.diagnostics));
    }
    let found = stack.all_outputs(&work.cx.cancel, &mut recorder).await.map_err(|e| driver_error(&e))?;
    if work.cx.cancel.is_cancelled() {
        return Ok(StepResult::Cancelled);
    }
    let found = found.map_err(|diagnostics| AppError::many(ErrorKind::Refused, diagnostics))?;
    let mut outputs = Map::new();
    for (name, output) in found {
        outputs.insert(name, if output.sensitive { SENSITIVE.into() } else { output.value });
    }
    Ok(StepResult::Succeeded(Value::Object(outputs)))
}

async fn plan(work: &Work<'_>, of: &StackWork) -> AppResult<Option<Judged>> {
    crate::recover::refuse_quarantined(work.service, std::iter::once(&of.instance.id)).await?;
    let deciding = work.service.deciding(Some(&work.input.head.commit)).await?;
    let judged = match plan_instance(work.service, work.cx, of, &PlanKind::Real, &deciding).await? {
        None => return Ok(None),
        Some(Planned::Failed { diagnostics, .. }) => return Err(AppError::many(ErrorKind::Refused, diagnostics)),
        Some(Planned::Done(judged)) => *judged,
    };
    let denied = judged.findings.iter().filter(|finding| finding.level <= Level::Deny);
    let denied: Vec<Diagnostic> = denied
        .map(|finding| {
            Diagnostic::error("WL602", format!("policy denies {}: {}", of.instance.id, finding.message))
                .help("mend it, commit, and run the operation again")
        })
        .collect();
    if denied.is_empty() { Ok(Some(judged)) } else { Err(AppError::many(ErrorKind::Refused, denied)) }
}

/// What a plan would do, without values.
fn told(judged: &Judged) -> Value {
    let changes: Vec<Value> = judged
        .effect
        .changes
        .iter()
        .map(|change| json!({ "address": change.address, "action": change.action }))
        .collect();
    json!({ "changes": changes, "count": changes.len(), "empty": judged.effect.is_empty(), "outputs": judged.changed_outputs })
}

/// Plans, records what that would do, and applies that very plan while the instance is locked.
async fn apply(work: &Work<'_>, of: &StackWork) -> AppResult<StepResult> {
    let (service, cx, id) = (work.service, work.cx, &of.instance.id);
    let lock = format!("stack:{id}");
    let record = service.store.run_get(&cx.run).await?;
    if !record.plan.steps.iter().any(|step| step.id == cx.step && step.locks.contains(&lock)) {
        let help = format!("write `locks = [\"{lock}\"]` in the step or in the operation");
        return Err(refused(format!("a step that applies {id} has to hold its lock"), &help));
    }
    if cx.attempt > 1 {
        let stack = stack_directory(service, cx, of).await?;
        if let Some(doubts) = crate::recover::look_back(service, cx, &stack, of).await? {
            let summary = format!("what an earlier attempt did to {id} is not known: {doubts}");
            return Err(AppError::new(
                ErrorKind::Refused,
                Diagnostic::error("WL651", summary).help("`windlass recover` shows it"),
            ));
        }
    }
    let Some(judged) = plan(work, of).await? else { return Ok(StepResult::Cancelled) };
    let planned = told(&judged);
    cx.events(&[("operation.planned".into(), json!({ "instance": id, "plan": planned }))]).await?;
    if judged.effect.is_empty() {
        return Ok(StepResult::Succeeded(json!({ "applied": false, "plan": planned })));
    }
    let purpose = purpose(&cx.run, id, &judged.effect.digest(), &judged.binding);
    let sealed = service.store.artefact_read(&judged.artefact).await?;
    let path = plan_path(service, cx, id, cx.attempt).with_extension("tfplan.open");
    let open = Opened::new(&sealed, path, &service.key, &purpose).map_err(internal)?;
    match crate::steps::terraform::apply(service, cx, of, open.path(), &judged.artefact).await? {
        StepResult::Succeeded(_) => Ok(StepResult::Succeeded(json!({ "applied": true, "plan": planned }))),
        other => Ok(other),
    }
}
