//! From a start to its run.

use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::installation::{ITSELF, Installation};
use crate::project::Project;
use crate::triggers;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_lang::expression::{self, ExpressionError, Scope};
use windlass_model::Micros;
use windlass_model::access::TokenScope;
use windlass_model::approval::Actor;
use windlass_model::definition::DecisionKind;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::operation::plan::{KIND, Origin};
use windlass_model::operation::trigger::TriggerSource;
use windlass_model::operation::{Expression, OperationDefinition};
use windlass_model::review::Level;
use windlass_model::schedule::LATE;
use windlass_policy::decision::input::{Event, Input, LastRun, Subject, Trigger};
use windlass_store::{RunFilter, StartKind, StartRow, Started, Store};

/// What could not be done for want of something outside is tried again after this, for this long after its time, µs.
const AGAIN: Micros = 10_000_000;
const GIVE_UP: Micros = 3_600_000_000;
/// How long it is before one that is not at its turn is asked again, µs.
const TURN: Micros = 2_000_000;

/// A run that is to be made.
#[derive(Debug, Clone)]
pub struct Asked {
    pub project: String,
    pub operation: String,
    pub arguments: BTreeMap<String, Value>,
    pub origin: Origin,
    /// The id that it gets: asked again, there is one run.
    pub run: RunId,
    /// What happened, for policies.
    pub data: Value,
    /// Who asked for it to be done then; nobody did where a schedule or trigger starts it.
    pub person: Option<Planned>,
    /// What belongs together in the record.
    pub correlation: String,
}

/// What somebody asked to be done at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub actor: Actor,
    pub token: Option<TokenScope>,
    pub through: String,
    pub arguments: BTreeMap<String, Value>,
    pub reason: Option<String>,
}

/// Makes runs.
#[async_trait::async_trait]
pub trait Starter: Send + Sync {
    /// # Errors
    /// The operation may not, or cannot, begin.
    async fn start(&self, asked: Asked) -> AppResult<RunId>;
}

/// The installation's own, by the use case that people start operations with.
pub struct Itself(pub Arc<Installation>);

#[async_trait::async_trait]
impl Starter for Itself {
    async fn start(&self, asked: Asked) -> AppResult<RunId> {
        if asked.person.is_none() {
            self.refuse_denied(&asked).await?;
        }
        let Asked { project, operation, arguments, origin, run, person, correlation, .. } = asked;
        let (actor, token) = match &person {
            Some(planned) => (planned.actor.clone(), planned.token.clone()),
            None => (Actor { name: ITSELF.into(), identities: Vec::new(), verified: true }, None),
        };
        let caller = Caller { actor, token, correlation, creates: Some(run) };
        use crate::requests::operations;
        match person {
            None => operations::start_itself(&self.0, &caller, &project, &operation, &arguments, origin).await,
            Some(planned) => {
                let options = crate::operations::StartOptions {
                    reason: planned.reason,
                    ..crate::operations::StartOptions::new(origin)
                };
                operations::start(&self.0, &caller, &project, &operation, &arguments, options).await
            }
        }
    }
}

impl Itself {
    /// # Errors
    /// A policy denies that this starts it, or broke.
    async fn refuse_denied(&self, asked: &Asked) -> AppResult<()> {
        let good = self.0.good(&asked.project)?;
        let policies = &good.deciding.policies;
        let operation = good.deciding.definitions.operation(&asked.operation);
        let Some(operation) = operation.filter(|_| policies.has(DecisionKind::Trigger)) else { return Ok(()) };
        let (kind, name) = match &asked.origin {
            Origin::Schedule { name, .. } => ("schedule", name.as_str()),
            Origin::Trigger { name, .. } => {
                let trigger = operation.triggers.iter().find(|trigger| trigger.name == *name);
                (trigger.map_or("webhook", |trigger| kind(&trigger.source)), name.as_str())
            }
            _ => ("manual", ""),
        };
        let store = self.0.common.store.of_project(&asked.project);
        let own = RunFilter { kind: Some(KIND.into()), subject: Some(asked.operation.clone()), ..RunFilter::default() };
        let last = store.run_search(&own, 1).await?.into_iter().next();
        let environment =
            crate::operations::environment(&good.deciding.definitions, operation, &asked.arguments).ok().flatten();
        let input = Input::trigger(&Trigger {
            project: asked.project.clone(),
            event: Event { kind: kind.into(), name: name.to_owned(), data: asked.data.clone() },
            subject: Subject {
                kind: KIND.into(),
                name: operation.name.clone(),
                owner: operation.owner.clone(),
                environments: environment.into_iter().collect(),
            },
            actor: None,
            last: last.map(|run| LastRun {
                run: run.id.to_string(),
                state: run.state.as_str().to_owned(),
                ended_at: run.ended_at,
            }),
            at: store.now().await?,
        });
        let findings = policies.decide(None, &input).findings;
        let denials: Vec<Diagnostic> = findings
            .iter()
            .filter(|finding| finding.level <= Level::Deny)
            .map(|finding| Diagnostic::error("WL727", format!("{}: {}", finding.source, finding.message)))
            .collect();
        if denials.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Refused, denials)) }
    }
}

/// What policies call a source.
fn kind(source: &TriggerSource) -> &'static str {
    match source {
        TriggerSource::Webhook { .. } | TriggerSource::Alertmanager { .. } => "webhook",
        TriggerSource::Event { .. } | TriggerSource::Image { .. } => "upstream",
        TriggerSource::Files { .. } => "push",
    }
}

/// What expressions of an operation find as `local`.
pub(crate) fn locals(operation: &OperationDefinition) -> Value {
    operation.locals.clone().into_iter().collect::<serde_json::Map<_, _>>().into()
}

pub(crate) fn evaluate(
    arguments: &BTreeMap<String, Expression>,
    scope: &Scope,
) -> Result<BTreeMap<String, Value>, ExpressionError> {
    arguments.iter().map(|(name, value)| Ok((name.clone(), expression::evaluate(value, scope)?))).collect()
}

/// What is to be done with a start.
pub(crate) enum Intent {
    Start { arguments: BTreeMap<String, Value>, origin: Origin, person: Option<Box<Planned>> },
    Refuse(String),
    Ignore(String),
}

/// A time as expressions find it.
fn time(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map(|at| at.to_string()).unwrap_or_default()
}

async fn intent(store: &Store, project: Option<&Project>, start: &StartRow) -> AppResult<Intent> {
    let Some(operation) = project.and_then(|project| project.definitions.operation(&start.operation)) else {
        return Ok(Intent::Refuse(format!("there is no operation `{}` any more", start.operation)));
    };
    match start.kind {
        StartKind::Schedule => {
            let Some(schedule) = operation.schedules.iter().find(|schedule| schedule.name == start.name) else {
                return Ok(Intent::Refuse(format!("there is no schedule `{}` any more", start.name)));
            };
            let run = serde_json::json!({ "due": time(start.due), "id": start.run });
            let scope = Scope::default().with("run", run).with("local", locals(operation));
            Ok(match evaluate(&schedule.arguments, &scope) {
                Ok(arguments) => {
                    let origin = Origin::Schedule { name: schedule.name.clone(), due: start.due };
                    Intent::Start { arguments, origin, person: None }
                }
                Err(error) => Intent::Refuse(error.to_string()),
            })
        }
        StartKind::At => {
            let planned: Planned = serde_json::from_value(start.request.clone()).map_err(internal)?;
            let origin = Origin::Person { through: planned.through.clone() };
            Ok(Intent::Start { arguments: planned.arguments.clone(), origin, person: Some(Box::new(planned)) })
        }
        StartKind::Trigger => triggers::intent(store, operation, start).await,
    }
}

/// Makes the run of a start that was taken, or records why there is none.
pub(super) async fn begin(
    store: Store,
    starter: Arc<dyn Starter>,
    project: Option<Arc<Project>>,
    start: StartRow,
) -> AppResult<()> {
    if !store.start_turn(&start.id).await? {
        let at = store.now().await? + TURN;
        return Ok(store.start_later(&start.id, at).await?);
    }
    let Some(run) = start.run.clone() else { return Err(internal("a start was taken without a run")) };
    let ended = match intent(&store, project.as_deref(), &start).await? {
        Intent::Refuse(why) => Started::Refused(why),
        Intent::Ignore(why) => Started::Ignored(why),
        Intent::Start { arguments, origin, person } => {
            let asked = Asked {
                project: start.project.clone(),
                operation: start.operation.clone(),
                arguments,
                origin,
                run,
                data: start.request.clone(),
                person: person.map(|person| *person),
                correlation: start.id.clone(),
            };
            let made = starter.start(asked).await;
            let now = store.now().await?;
            match made {
                Ok(_) => Started::Run { late: Some(now - start.at).filter(|late| *late > LATE) },
                Err(error) if error.kind == ErrorKind::Unavailable && now - start.at < GIVE_UP => {
                    return Ok(store.start_later(&start.id, now + AGAIN).await?);
                }
                Err(error) => Started::Refused(why(&error)),
            }
        }
    };
    Ok(store.start_end(&start, &ended).await?)
}

/// All that is wrong, in a line.
fn why(error: &AppError) -> String {
    let line = |diagnostic: &Diagnostic| match diagnostic.detail.as_str() {
        "" => diagnostic.summary.clone(),
        detail => format!("{} ({})", diagnostic.summary, detail.replace('\n', "; ")),
    };
    error.diagnostics.iter().map(line).collect::<Vec<_>>().join("; ")
}
