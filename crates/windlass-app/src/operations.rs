//! Operations: what there is, what one is asked for, and the runs of them. The terminal uses this in a checkout; what callers of a
//! server ask for is in [`crate::requests::operations`], which asks whether they may and then comes here.

pub mod again;
pub mod answers;
pub mod choices;
pub mod form;
mod policies;

use crate::error::{AppError, AppResult, ErrorKind};
use crate::policy::Policies;
use crate::project::Project;
use crate::service::Service;
use crate::steps::operation::secrets::{forget, seal};
use answers::Asks;
use form::{Filled, Form};
use serde_json::Value;
use std::collections::BTreeMap;
use windlass_lang::expression::{self, ExpressionError, Scope};
use windlass_lang::tree::Tree;
use windlass_model::access::{Lets, Place};
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::operation::parameter::ParameterKind;
use windlass_model::operation::plan::{self, OperationInput, Origin, driver};
use windlass_model::operation::{Expression, Node, OnConflict, OperationDefinition};
use windlass_model::review::Revision;
use windlass_model::run::{RunPlan, StepRecord};
use windlass_store::{Beside, Fact, Queue, Store, StoreError};

/// What was given for parameters, by name: texts as forms have them, or JSON.
pub type Arguments = BTreeMap<String, Value>;

/// What a commit says of operations, and the service to do them with.
pub struct Source<'a> {
    pub service: &'a Service,
    pub project: &'a Project,
    pub policies: &'a Policies,
    /// What the steps see the files of.
    pub head: Revision,
    /// The files are those of the work tree, not of the commit.
    pub is_work_tree: bool,
}

impl Source<'_> {
    pub fn definitions(&self) -> &Definitions {
        &self.project.definitions
    }

    /// The operation of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> AppResult<&OperationDefinition> {
        self.definitions().operation(name).ok_or_else(|| {
            let names = self.definitions().operations.iter().map(|operation| operation.name.as_str());
            let help = match windlass_lang::suggest(name, names) {
                Some(near) => format!("did you mean `{near}`? `windlass operations` lists all of them"),
                None => "`windlass operations` lists all of them".to_owned(),
            };
            let diagnostic = Diagnostic::error("WL740", format!("there is no operation `{name}`")).help(help);
            AppError::new(ErrorKind::NotFound, diagnostic)
        })
    }

    fn tree(&self) -> AppResult<Box<dyn Tree>> {
        if self.is_work_tree {
            return self.service.checkout.work_tree();
        }
        let tree = self.service.checkout.git()?.tree(&self.head.commit);
        Ok(Box::new(tree.map_err(|error| crate::project::git_error(&error))?))
    }
}

/// The operations of a checkout as its files are now, for the terminal. The files of the steps are those that are there.
pub struct Local {
    project: Project,
    policies: Policies,
    head: Revision,
}

impl Local {
    /// # Errors
    /// A file is wrong, or there is no commit yet.
    pub fn load(service: &Service) -> AppResult<Self> {
        let tree = service.checkout.work_tree()?;
        let project = Project::load(&*tree).sound()?;
        let policies = service.deciding_of(&*tree)?.policies;
        Ok(Self { project, policies, head: crate::review::head_revision(service.checkout.git()?)? })
    }

    pub fn source<'a>(&'a self, service: &'a Service) -> Source<'a> {
        let Self { project, policies, head } = self;
        Source { service, project, policies, head: head.clone(), is_work_tree: true }
    }
}

/// How a run is begun.
#[derive(Debug, Clone)]
pub struct StartOptions {
    pub origin: Origin,
    pub reason: Option<String>,
    /// At once: without approvals, in a freeze, outside of its window. Needs a reason.
    pub break_glass: bool,
    /// What was typed where the operation asks for it; only people are asked.
    pub confirm: Option<String>,
    /// Steps that are passed over once, with the reason.
    pub skip: BTreeMap<String, String>,
}

impl StartOptions {
    pub fn new(origin: Origin) -> Self {
        Self { origin, reason: None, break_glass: false, confirm: None, skip: BTreeMap::new() }
    }
}

/// A run that could be stored.
#[derive(Debug)]
pub struct Prepared {
    pub plan: RunPlan,
    pub input: OperationInput,
    secrets: BTreeMap<String, String>,
}

/// Values of what an operation's expressions may name before a step has run.
pub(crate) fn scope(operation: &OperationDefinition, arguments: &BTreeMap<String, Value>) -> Scope {
    let object = |map: &BTreeMap<String, Value>| Value::Object(map.clone().into_iter().collect());
    Scope::default().with("param", object(arguments)).with("local", object(&operation.locals))
}

/// What is announced for a planned run, and how it is taken back, both Markdown; `None` for what is not said.
pub fn checklist_texts(input: &OperationInput) -> (Option<String>, Option<String>) {
    let Some(checklist) = &input.operation.checklist else { return (None, None) };
    let scope = scope(&input.operation, &input.arguments);
    let text = |of: &Option<Expression>| expression::text(of.as_ref()?, &scope).ok();
    (text(&checklist.announcement), text(&checklist.rollback))
}

/// An expression that has no value.
pub(crate) fn unevaluated(error: &ExpressionError) -> AppError {
    let diagnostic = Diagnostic::error("WL746", error.to_string()).at(error.span().clone());
    AppError::new(ErrorKind::Definition, diagnostic)
}

/// The environment that a run with these arguments touches.
///
/// # Errors
/// Its expression has no value, or it names none of the project.
pub fn environment(
    definitions: &Definitions,
    operation: &OperationDefinition,
    arguments: &BTreeMap<String, Value>,
) -> AppResult<Option<String>> {
    let Some(expression) = &operation.environment else { return Ok(None) };
    let name = expression::text(expression, &scope(operation, arguments)).map_err(|error| unevaluated(&error))?;
    if definitions.environments.iter().any(|environment| environment.name == name) {
        return Ok(Some(name));
    }
    let diagnostic = Diagnostic::error("WL746", format!("the project has no environment `{name}`"))
        .at(expression.span.clone())
        .help("name one that the `project` block has");
    Err(AppError::new(ErrorKind::Definition, diagnostic))
}

/// Whom an operation lets run it with these arguments; with any at all where there are none.
pub fn lets(operation: &OperationDefinition, arguments: Option<&BTreeMap<String, Value>>) -> Vec<Lets> {
    let by = format!("operation `{}` ({})", operation.name, operation.span);
    let mut lets = Vec::new();
    if !operation.allow.is_empty() {
        lets.push(Lets { teams: Some(operation.allow.clone()), by: by.clone() });
    }
    for grant in &operation.grants {
        let holds = match (&grant.when, arguments) {
            (Some(when), Some(arguments)) => {
                // What cannot be told is no permission.
                expression::boolean(when, &scope(operation, arguments)).unwrap_or(false)
            }
            _ => true,
        };
        let condition = grant.when.as_ref().map_or_else(String::new, |when| format!(" when {}", when.text));
        if holds {
            lets.push(Lets { teams: Some(grant.to.clone()), by: format!("{by}{condition}") });
        }
    }
    lets
}

/// What a run touches, as access is asked for it: the operation in its environment, and the stacks that were chosen.
pub fn places(
    source_project: &Project,
    operation: &OperationDefinition,
    environment: Option<&str>,
    arguments: &BTreeMap<String, Value>,
) -> Vec<Place> {
    let itself = Place {
        instance: InstanceId::new(format!("{}{}", windlass_model::access::OPERATION, operation.name)),
        environments: environment.map(str::to_owned).into_iter().collect(),
        owner: operation.owner.clone(),
    };
    let chosen = operation.parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Stack);
    let chosen = chosen.filter_map(|parameter| arguments.get(&parameter.name)?.as_str()).map(InstanceId::new);
    let of = |instance: InstanceId| Place {
        environments: crate::project::environments_of(&source_project.definitions, &instance),
        owner: source_project.repository.stack(&instance.stack()).and_then(|stack| stack.owner.clone()),
        instance,
    };
    // An operation without an environment is one of none: who may only somewhere may not run it.
    environment.map(|_| itself).into_iter().chain(chosen.map(of)).collect()
}

/// All that is wrong with what was given, as one refusal.
///
/// # Errors
/// Something is.
pub fn refuse_mistakes(form: &Form) -> AppResult<()> {
    let diagnostics: Vec<Diagnostic> =
        form.mistakes().map(|(name, mistake)| Diagnostic::error("WL741", format!("`{name}`: {mistake}"))).collect();
    if diagnostics.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Usage, diagnostics)) }
}

/// Makes the run of an operation from a form that was filled, without storing it. Whether the actor may has been asked.
///
/// # Errors
/// The form is not filled as it has to be, what has to be typed was not, breaking the glass has no reason, or a policy denies it.
pub async fn prepare(
    source: &Source<'_>,
    operation: &OperationDefinition,
    filled: Filled,
    options: StartOptions,
) -> AppResult<Prepared> {
    refuse_mistakes(&filled.form)?;
    let Filled { form, arguments, secrets } = filled;
    let of_a_person =
        matches!(options.origin, Origin::Person { .. } | Origin::Resumed { .. } | Origin::Repeated { .. });
    if let (true, Some(wanted)) = (of_a_person, &form.confirm)
        && options.confirm.as_deref().map(str::trim) != Some(wanted.as_str())
    {
        let diagnostic = Diagnostic::error("WL742", format!("`{}` has to be confirmed", operation.name))
            .help(format!("type `{wanted}` (in the terminal: `--confirm {wanted}`): it cannot be taken back"));
        return Err(AppError::new(ErrorKind::Refused, diagnostic));
    }
    let reason = stated(options.reason, options.break_glass)?;
    let environment = environment(source.definitions(), operation, &arguments)?;
    let input = OperationInput {
        head: source.head.clone(),
        operation: operation.clone(),
        arguments,
        secrets: secrets.keys().cloned().collect(),
        environment,
        reason,
        origin: options.origin,
        broke_glass: options.break_glass,
        skipped: options.skip,
    };
    policies::refuse_denied(source, &input).await?;
    Ok(Prepared { plan: planned(source.definitions(), &input)?, input, secrets })
}

/// The steps of a run.
///
/// # Errors
/// The name of a lock has no value before a step has run.
fn planned(definitions: &Definitions, input: &OperationInput) -> AppResult<RunPlan> {
    let runner = definitions.runner_of(input.environment.as_deref());
    plan::plan(input, runner, &scope(&input.operation, &input.arguments)).map_err(|error| {
        let diagnostic = Diagnostic::error("WL746", error.to_string()).at(input.operation.span.clone());
        AppError::new(ErrorKind::Definition, diagnostic)
    })
}

/// The key of the queue that a run stands in, and how many of it may run at once.
///
/// # Errors
/// Its expression has no value.
pub fn queue(input: &OperationInput) -> AppResult<Option<(String, u32)>> {
    let Some(concurrency) = &input.operation.concurrency else { return Ok(None) };
    let key = match &concurrency.key {
        Some(key) => expression::text(key, &scope(&input.operation, &input.arguments)),
        None => Ok(input.operation.name.clone()),
    };
    Ok(Some((key.map_err(|error| unevaluated(&error))?, concurrency.limit)))
}

/// The queue that a run takes its place in when it is stored; one that waits for its turn takes it when it is admitted.
///
/// # Errors
/// The expression of its key has no value.
fn taken(input: &OperationInput) -> AppResult<Option<Queue>> {
    let on_conflict = input.operation.concurrency.as_ref().map(|concurrency| concurrency.on_conflict);
    let takes_place = match on_conflict {
        None | Some(OnConflict::Queue) => return Ok(None),
        Some(OnConflict::Reject) => None,
        Some(OnConflict::CancelRunning) => Some(format!("another run of `{}` takes its place", input.operation.name)),
    };
    Ok(queue(input)?.map(|(name, limit)| Queue { name, limit, takes_place }))
}

/// Stores a run with what belongs to it, all or nothing: its secrets, its place in a queue, and that somebody broke the glass.
/// `first` is how its steps are at first.
///
/// # Errors
/// Something cannot be passed over, another run is in the way, or the database cannot be written.
async fn create(
    service: &Service,
    plan: &RunPlan,
    input: &OperationInput,
    secrets: &BTreeMap<String, String>,
    first: Vec<StepRecord>,
) -> AppResult<RunId> {
    let run = service.store.creates().cloned().unwrap_or_else(Store::run_id);
    let fact = input.broke_glass.then(|| Fact {
        kind: "operation.broke_glass".to_owned(),
        subject: format!("operation {}", input.operation.name),
        data: serde_json::json!({ "arguments": input.arguments, "environment": input.environment }),
        reason: input.reason.clone(),
    });
    refuse_skips(plan, input)?;
    let beside = Beside { first, queue: taken(input)?, fact };
    seal(&service.store, &service.key, &run, secrets).await?;
    match service.store.creating(&run).run_create_with(plan, &service.actor.to_string(), beside).await {
        Ok(run) => Ok(run),
        Err(StoreError::Conflict(summary)) => {
            // They are for a run that is not there.
            forget(&service.store, &run).await?;
            let diagnostic = Diagnostic::error("WL745", summary)
                .help("wait for it, or cancel it: the operation says that another one is refused meanwhile");
            Err(AppError::new(ErrorKind::Conflict, diagnostic))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses to pass over what is not there or what somebody has to approve, or without a reason.
///
/// # Errors
/// Something cannot be passed over.
fn refuse_skips(plan: &RunPlan, input: &OperationInput) -> AppResult<()> {
    let is_member = |id: &str| {
        let of = id.split_once('[').map(|(each, _)| each);
        input.operation.nodes.iter().any(|node| matches!(node, Node::Each(_)) && of == Some(node.name()))
    };
    let wrong = input.skipped.iter().filter_map(|(id, reason)| {
        let spec = plan.steps.iter().find(|spec| spec.id.as_str() == id);
        let why = match spec {
            Some(spec) if matches!(Asks::of_spec(spec, input), Some(Asks::Approval(_))) => "somebody has to approve it",
            Some(spec) if ![driver::STEP, driver::TICK].contains(&spec.work.driver.as_str()) => {
                "it is no step of its own"
            }
            None if !is_member(id) => "there is no such step",
            _ if reason.trim().is_empty() => "a reason is missing",
            _ => return None,
        };
        let diagnostic = Diagnostic::error("WL765", format!("`{id}` cannot be passed over: {why}"));
        Some(diagnostic.help("name a step of the operation, or `member[KEY]` for one of its members, and say why"))
    });
    let wrong: Vec<Diagnostic> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Usage, wrong)) }
}

/// The reason that is given, which breaking the glass needs.
///
/// # Errors
/// It has none.
fn stated(reason: Option<String>, break_glass: bool) -> AppResult<Option<String>> {
    let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    if break_glass && reason.is_none() {
        let diagnostic = Diagnostic::error("WL743", "the glass is broken for a reason")
            .help("say why: everybody who is told reads it (in the terminal: `--reason`)");
        return Err(AppError::new(ErrorKind::Usage, diagnostic));
    }
    Ok(reason)
}

impl Prepared {
    /// Stores the run; an engine drives it.
    ///
    /// # Errors
    /// Another run is in the way, or the database cannot be written.
    pub async fn create(self, service: &Service) -> AppResult<RunId> {
        create(service, &self.plan, &self.input, &self.secrets, Vec::new()).await
    }
}

/// Begins an operation, for somebody who may.
///
/// # Errors
/// As for [`prepare`], there is no such operation, or another run is in the way.
pub async fn start(source: &Source<'_>, name: &str, arguments: &Arguments, options: StartOptions) -> AppResult<RunId> {
    let operation = source.find(name)?;
    let filled = form::fill(source, operation, arguments).await?;
    prepare(source, operation, filled, options).await?.create(source.service).await
}
