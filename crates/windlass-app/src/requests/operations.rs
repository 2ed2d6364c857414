//! Operations for callers of a server: who may see, run and answer what.

pub mod calendar;
pub mod view;

use super::run_for;
use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::{Installation, Workspace};
use crate::operations::again::Compared;
use crate::operations::answers::Asks;
use crate::operations::form::{Filled, Form, fill};
use crate::operations::{
    Arguments, Prepared, Source, StartOptions, environment, lets, places, prepare, refuse_mistakes,
};
use crate::repositories::Good;
use crate::service::Service;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_lang::expression;
use windlass_model::access::{Answer, Lets, Permission, Subject};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::OperationDefinition;
use windlass_model::operation::parameter::ChoiceSource;
use windlass_model::operation::plan::{OperationInput, Origin};
use windlass_model::review::Revision;
use windlass_model::run::RunRecord;

/// An operation as lists have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub name: String,
    /// Markdown.
    pub description: Option<String>,
    pub owner: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Names of its parameters, in the order in which they are asked for.
    pub parameters: Vec<String>,
    pub may_run: May,
}

/// Whether somebody may run an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct May {
    pub answer: MayAnswer,
    /// Sentences without a full stop.
    pub because: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MayAnswer {
    Yes,
    No,
    /// With some parameters; which, is said.
    Depends,
}

/// One operation, with its form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    #[serde(flatten)]
    pub listed: Listed,
    pub form: Form,
    /// Whether the caller may do without approvals and freezes.
    pub may_break_glass: bool,
    /// The commit whose definition it is.
    pub commit: String,
    pub definition: OperationDefinition,
}

/// What an operation is done with: the definitions in force, and the files of their commit where they are needed.
struct Ground {
    good: Arc<Good>,
    service: Service,
    head: Revision,
    /// The files are there as long as this is.
    _files: Option<Workspace>,
}

impl Ground {
    fn source(&self) -> Source<'_> {
        Source {
            service: &self.service,
            project: &self.good.project,
            policies: &self.good.deciding.policies,
            head: self.head.clone(),
            is_work_tree: false,
        }
    }
}

async fn ground(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    name: Option<&str>,
) -> AppResult<Ground> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let branch = installation.followed.status(project).and_then(|status| status.branch.clone()).unwrap_or_default();
    let head = Revision { name: branch, commit: good.commit.clone() };
    let operation = name.and_then(|name| good.deciding.definitions.operation(name));
    let runs_programs = operation.is_some_and(|operation| {
        let mut choices = operation.parameters.iter().filter_map(|parameter| parameter.choices.as_ref());
        choices.any(|choices| matches!(choices.from, ChoiceSource::Command(_) | ChoiceSource::StackOutput { .. }))
    });
    if runs_programs {
        let files = installation.workspace(project, &head).await?;
        return Ok(Ground { good, service: files.acting(installation, caller), head, _files: Some(files) });
    }
    let service = installation.service(caller, project)?;
    Ok(Ground { good, service, head, _files: None })
}

/// An operation and the run that is asked about, as access is asked for it. `None`: before the parameters are known.
fn subject(
    good: &Good,
    project: &str,
    operation: &OperationDefinition,
    arguments: Option<&BTreeMap<String, Value>>,
    of: Option<&str>,
) -> Subject {
    let nothing = BTreeMap::new();
    let known = arguments.unwrap_or(&nothing);
    // One that has no value touches no environment for certain: only who may everywhere may.
    let environment = environment(&good.deciding.definitions, operation, known).ok().flatten();
    let places = places(&good.project, operation, environment.as_deref(), known);
    Subject::of(project, "operation", of.unwrap_or(&operation.name), places).letting(lets(operation, arguments))
}

/// Whether the caller may run an operation, before anything is known of its parameters.
async fn may(
    installation: &Installation,
    caller: &Caller,
    good: &Good,
    project: &str,
    operation: &OperationDefinition,
) -> AppResult<May> {
    let certain = Subject {
        lets: lets(&OperationDefinition { grants: unconditional(operation), ..operation.clone() }, None),
        ..subject(good, project, operation, Some(&BTreeMap::new()), None)
    };
    let answer = caller.may(installation, Permission::OperationRun, &certain).await?;
    if answer.allowed {
        return Ok(May { answer: MayAnswer::Yes, because: answer.because });
    }
    // Wherever it could be, and with whatever parameters.
    let mut candidates = vec![Subject { lets: lets(operation, None), ..certain }];
    if operation.environment.as_ref().is_some_and(names_parameters) {
        for environment in &good.deciding.definitions.environments {
            let places = places(&good.project, operation, Some(&environment.name), &BTreeMap::new());
            candidates.push(Subject { places, ..candidates[0].clone() });
        }
    }
    for candidate in candidates {
        let possible: Answer = caller.may(installation, Permission::OperationRun, &candidate).await?;
        if possible.allowed {
            return Ok(May { answer: MayAnswer::Depends, because: possible.because });
        }
    }
    Ok(May { answer: MayAnswer::No, because: answer.because })
}

fn unconditional(operation: &OperationDefinition) -> Vec<windlass_model::operation::OperationGrant> {
    operation.grants.iter().filter(|grant| grant.when.is_none()).cloned().collect()
}

fn names_parameters(expression: &windlass_model::operation::Expression) -> bool {
    expression::references(expression).is_ok_and(|named| named.iter().any(|reference| reference.root == "param"))
}

fn listed(operation: &OperationDefinition, may_run: May) -> Listed {
    Listed {
        name: operation.name.clone(),
        description: operation.description.clone(),
        owner: operation.owner.clone(),
        labels: operation.labels.clone(),
        parameters: operation.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
        may_run,
    }
}

/// The operations of a project, and whether the caller may run them.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn list(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Vec<Listed>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let mut found = Vec::new();
    for operation in &good.deciding.definitions.operations {
        found.push(listed(operation, may(installation, caller, &good, project, operation).await?));
    }
    Ok(found)
}

/// One operation with its form.
///
/// # Errors
/// There is none that the caller may see.
pub async fn show(installation: &Arc<Installation>, caller: &Caller, project: &str, name: &str) -> AppResult<Shown> {
    let ground = ground(installation, caller, project, Some(name)).await?;
    let source = ground.source();
    let operation = source.find(name)?;
    let may_run = may(installation, caller, &ground.good, project, operation).await?;
    let filled = fill_for(&source, operation, &Arguments::new(), may_run.answer).await?;
    let may_break_glass = breaks_glass(installation, caller, &ground.good, project, operation, &filled).await?.allowed;
    Ok(Shown {
        listed: listed(operation, may_run),
        form: filled.form,
        may_break_glass,
        commit: ground.head.commit.clone(),
        definition: operation.clone(),
    })
}

/// For those who only look: nothing is asked for choices.
fn without_programs(operation: &OperationDefinition) -> OperationDefinition {
    let mut operation = operation.clone();
    for parameter in &mut operation.parameters {
        parameter.choices = parameter.choices.take().filter(|choices| matches!(choices.from, ChoiceSource::List(_)));
    }
    operation
}

async fn breaks_glass(
    installation: &Installation,
    caller: &Caller,
    good: &Good,
    project: &str,
    operation: &OperationDefinition,
    filled: &Filled,
) -> AppResult<Answer> {
    let subject = subject(good, project, operation, Some(&filled.arguments), None);
    caller.may(installation, Permission::OperationBreakGlass, &glass(operation, subject)).await
}

/// The same, as it is asked for whether somebody may break the glass.
fn glass(operation: &OperationDefinition, subject: Subject) -> Subject {
    let by = format!("`break_glass` of operation `{}` ({})", operation.name, operation.span);
    let lets = Lets { teams: Some(operation.break_glass.clone()), by };
    subject.letting(if operation.break_glass.is_empty() { Vec::new() } else { vec![lets] })
}

/// A form with what was given so far, and whether it could be run like that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Filling {
    pub form: Form,
    /// With what was given; before it is enough to tell, with anything.
    pub may_run: May,
    pub may_break_glass: bool,
}

/// The form of an operation with what was given so far, and why the caller may run it like that, or may not.
///
/// # Errors
/// There is none that the caller may see.
pub async fn form(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    name: &str,
    given: &Arguments,
) -> AppResult<Filling> {
    let ground = ground(installation, caller, project, Some(name)).await?;
    let source = ground.source();
    let operation = source.find(name)?;
    Ok(filling(installation, caller, &ground, project, operation, given).await?.0)
}

async fn filling(
    installation: &Installation,
    caller: &Caller,
    ground: &Ground,
    project: &str,
    operation: &OperationDefinition,
    given: &Arguments,
) -> AppResult<(Filling, Filled)> {
    let before = may(installation, caller, &ground.good, project, operation).await?;
    let filled = fill_for(&ground.source(), operation, given, before.answer).await?;
    let subject = subject(&ground.good, project, operation, Some(&filled.arguments), None);
    let answer = caller.may(installation, Permission::OperationRun, &subject).await?;
    let may_run = match (before.answer, answer.allowed) {
        (MayAnswer::Depends, true) => May { answer: MayAnswer::Yes, because: answer.because },
        (MayAnswer::Depends, false) if filled.form.complete => May { answer: MayAnswer::No, because: answer.because },
        _ => before,
    };
    let may_break_glass = breaks_glass(installation, caller, &ground.good, project, operation, &filled).await?.allowed;
    Ok((Filling { form: filled.form.clone(), may_run, may_break_glass }, filled))
}

/// Programs of the repository are for those who could run the operation.
async fn fill_for(
    source: &Source<'_>,
    operation: &OperationDefinition,
    given: &Arguments,
    may: MayAnswer,
) -> AppResult<Filled> {
    match may {
        MayAnswer::No => fill(source, &without_programs(operation), given).await,
        MayAnswer::Yes | MayAnswer::Depends => fill(source, operation, given).await,
    }
}

/// Begins an operation.
///
/// # Errors
/// There is none that the caller may see, the caller may not run it with these parameters, or as for
/// [`crate::operations::prepare`].
#[tracing::instrument(skip_all, fields(%project, %name))]
pub async fn start(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    name: &str,
    arguments: &Arguments,
    options: StartOptions,
) -> AppResult<RunId> {
    let ground = ground(installation, caller, project, Some(name)).await?;
    let source = ground.source();
    let operation = source.find(name)?;
    // Nothing of the repository runs for somebody who may not with any parameters.
    let before = may(installation, caller, &ground.good, project, operation).await?;
    let filled = fill_for(&source, operation, arguments, before.answer).await?;
    let asked = subject(&ground.good, project, operation, Some(&filled.arguments), None);
    let may_run = caller.may(installation, Permission::OperationRun, &asked).await?;
    if before.answer == MayAnswer::Depends && !may_run.allowed {
        // Whether the caller may cannot be told yet.
        refuse_mistakes(&filled.form)?;
    }
    caller.must(installation, Permission::OperationRun, &asked).await?;
    if options.break_glass {
        caller.must(installation, Permission::OperationBreakGlass, &glass(operation, asked)).await?;
    }
    let run = prepare(&source, operation, filled, options).await?.create(source.service).await?;
    Ok(installation.made(run))
}

/// Makes the run of an operation that begins by itself (a schedule, a trigger), without storing it, and the service to store it
/// with: what the definition says on the protected branch is the permission.
///
/// # Errors
/// There is no such operation, or as for [`crate::operations::prepare`].
pub async fn prepare_itself(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    name: &str,
    arguments: &Arguments,
    origin: Origin,
) -> AppResult<(Service, Prepared)> {
    let good = installation.good(project)?;
    let branch = installation.followed.status(project).and_then(|status| status.branch.clone()).unwrap_or_default();
    let head = Revision { name: branch, commit: good.commit.clone() };
    let files = installation.workspace(project, &head).await?;
    let service = files.acting(installation, caller);
    let prepared = {
        let source = Source {
            service: &service,
            project: &good.project,
            policies: &good.deciding.policies,
            head,
            is_work_tree: false,
        };
        let operation = source.find(name)?;
        let filled = fill(&source, operation, arguments).await?;
        prepare(&source, operation, filled, StartOptions::new(origin)).await?
    };
    Ok((service, prepared))
}

/// As [`prepare_itself`], stored.
///
/// # Errors
/// As there, or the database cannot be written.
pub async fn start_itself(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    name: &str,
    arguments: &Arguments,
    origin: Origin,
) -> AppResult<RunId> {
    let (service, prepared) = prepare_itself(installation, caller, project, name, arguments, origin).await?;
    Ok(installation.made(prepared.create(&service).await?))
}

/// What a run of an operation is a run of.
///
/// # Errors
/// It is the run of something else.
pub fn input(record: &RunRecord) -> AppResult<OperationInput> {
    if record.plan.kind != windlass_model::operation::plan::KIND {
        let diagnostic = Diagnostic::error("WL747", format!("run {} is of kind {}", record.id, record.plan.kind))
            .help("this is for runs of operations: `windlass runs --operation NAME` lists them");
        return Err(AppError::new(ErrorKind::Usage, diagnostic));
    }
    OperationInput::deserialize(&record.plan.input).map_err(crate::error::internal)
}

/// A run of an operation as access is asked for it: whoever may run the operation as it is now, with these parameters, may do with
/// its runs what running it is needed for.
pub(super) fn subject_of_run(good: &Good, record: &RunRecord) -> Option<Subject> {
    let input = input(record).ok()?;
    let now = good.deciding.definitions.operation(&input.operation.name);
    let places = places(&good.project, &input.operation, input.environment.as_deref(), &input.arguments);
    let lets = now.map(|operation| lets(operation, Some(&input.arguments))).unwrap_or_default();
    Some(Subject::of(&record.project, "run", record.id.as_str(), places).letting(lets))
}

/// A run of an operation that the caller may see.
///
/// # Errors
/// There is none.
pub async fn run_of(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
) -> AppResult<(RunRecord, OperationInput)> {
    let record = run_for(installation, caller, run, Permission::ProjectRead).await?;
    let input = input(&record)?;
    Ok((record, input))
}

/// Answers what a step of a run asks of people.
///
/// # Errors
/// There is none that the caller may see, it does not ask the caller, or as for [`crate::operations::answers::answer`].
#[tracing::instrument(skip_all, fields(%run, %step))]
pub async fn answer(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    step: &StepId,
    value: &str,
    reason: Option<&str>,
) -> AppResult<()> {
    let record = run_for(installation, caller, run, Permission::ProjectRead).await?;
    let Ok(input) = input(&record) else {
        run_for(installation, caller, run, Permission::OperationAnswer).await?;
        return self::input(&record).map(drop);
    };
    let good = installation.good(&record.project)?;
    let whom = Asks::of(&record, &input, step).map(|asks| asks.lets(&input, step)).unwrap_or_default();
    let places = places(&good.project, &input.operation, input.environment.as_deref(), &input.arguments);
    let subject = Subject::of(&record.project, "run", run.as_str(), places).letting(whom);
    caller.must(installation, Permission::OperationAnswer, &subject).await?;
    let service = installation.service(caller, &record.project)?;
    crate::operations::answers::answer(&service, &record, &input, step, value, reason).await
}

/// What is different between two runs of operations of one project.
///
/// # Errors
/// There is no such run that the caller may see.
pub async fn compare(
    installation: &Installation,
    caller: &Caller,
    before: &RunId,
    after: &RunId,
) -> AppResult<Compared> {
    let first = run_for(installation, caller, before, Permission::ProjectRead).await?;
    let second = run_for(installation, caller, after, Permission::ProjectRead).await?;
    let (own, other) = (input(&first)?, input(&second)?);
    if first.project != second.project {
        let diagnostic = Diagnostic::error("WL747", "the two runs are of different projects");
        return Err(AppError::new(ErrorKind::Usage, diagnostic.help("compare runs of one repository")));
    }
    let store = &installation.common.store;
    let (old, new) = (store.step_list_brief(before).await?, store.step_list_brief(after).await?);
    Ok(crate::operations::again::compare((&first, &own, &old), (&second, &other, &new)))
}

/// Runs an operation once more with the same parameters, as it is defined now. Secrets are asked for again: `more` has them, and
/// what is to be different.
///
/// # Errors
/// As for [`start`].
pub async fn repeat(
    installation: &Arc<Installation>,
    caller: &Caller,
    run: &RunId,
    more: &Arguments,
    options: StartOptions,
) -> AppResult<RunId> {
    let (record, input) = run_of(installation, caller, run).await?;
    crate::operations::again::asks_secrets_again(&input, |name| more.contains_key(name))?;
    let mut arguments = input.arguments;
    arguments.extend(more.clone());
    let options = StartOptions { origin: Origin::Repeated { run: run.clone() }, ..options };
    start(installation, caller, &record.project, &input.operation.name, &arguments, options).await
}

/// Goes on where a run of an operation failed or was cancelled, for whoever may run it.
///
/// # Errors
/// There is none that the caller may see, the caller may not, or as for [`crate::operations::again::resume`].
#[tracing::instrument(skip_all, fields(%run))]
pub async fn resume(
    installation: &Arc<Installation>,
    caller: &Caller,
    run: &RunId,
    secrets: &Arguments,
    options: StartOptions,
) -> AppResult<RunId> {
    let record = run_for(installation, caller, run, Permission::OperationRun).await?;
    let input = input(&record)?;
    let ground = ground(installation, caller, &record.project, None).await?;
    let source = ground.source();
    if options.break_glass {
        let subject = subject_of_run(&ground.good, &record).unwrap_or_else(|| Subject::project(&record.project));
        // Who may is what its definition says now.
        let now = source.find(&input.operation.name)?;
        caller.must(installation, Permission::OperationBreakGlass, &glass(now, subject)).await?;
    }
    Ok(installation.made(crate::operations::again::resume(&source, &record, &input, secrets, options).await?))
}
