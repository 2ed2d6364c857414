//! Operations: what there is, their forms, and runs of them.

use super::stacks::Started;
use super::{Asked, Body, Listed, Paged, of_model};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::operations::StartOptions;
use windlass_app::requests::operations;
use windlass_model::access::Permission;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::plan::Origin;

pub fn routes(routes: Routes) -> Routes {
    let read = Guard::Project(Permission::ProjectRead);
    routes
        .add(Method::GET, "/api/v1/projects/{project}/operations", read, get(list))
        .add(Method::GET, "/api/v1/projects/{project}/operations/{name}", read, get(show))
        .add(Method::POST, "/api/v1/projects/{project}/operations/{name}/form", read, post(form))
        .once("/api/v1/projects/{project}/operations/{name}/runs", Guard::Within(Permission::OperationRun), post(start))
        .once("/api/v1/runs/{run}/go-on", Guard::Within(Permission::OperationRun), post(go_on))
        .once("/api/v1/runs/{run}/steps/{step}/answer", Guard::Within(Permission::OperationAnswer), post(answer))
        .add(Method::GET, "/api/v1/runs/{run}/operation", Guard::Within(Permission::ProjectRead), get(run_show))
        .add(Method::GET, "/api/v1/runs/{run}/compare/{other}", Guard::Within(Permission::ProjectRead), get(compare))
}

of_model! {
    /// An operation, and whether you may run it, as `windlass operations --json` has it.
    Operation(operations::Listed);
    /// An operation with its form and its definition, as `windlass operations NAME --json` has it.
    OperationShown(operations::Shown);
    /// A form with what was given so far, what is wrong with it, and whether you may run it like that.
    Filling(operations::Filling);
    /// What a run of an operation was made of: the definition as it was, the parameters, who or what began it and why.
    RunInput(windlass_model::operation::plan::OperationInput);
    /// What is different between two runs of operations: parameters, definitions, durations of steps.
    Compared(windlass_app::operations::again::Compared);
}

/// Operations of a project.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/operations", tag = "operations", operation_id = "operation_list",
    params(("project" = String, Path, description = "Name of a followed repository"), Paged),
    responses((status = 200, body = Listed<Operation>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Operation>>, Failure> {
    let found = operations::list(&app.installation, &who.caller, &project).await?;
    Ok(Json(Listed::page(found, &paged, |operation| operation.name.clone()).map(Operation)))
}

/// One operation.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/operations/{name}", tag = "operations", operation_id = "operation_get",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation")),
    responses((status = 200, body = OperationShown)),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, name)): Path<(String, String)>,
) -> Result<Json<OperationShown>, Failure> {
    Ok(Json(OperationShown(operations::show(&app.installation, &who.caller, &project, &name).await?)))
}

#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FormBody {
    /// Values by parameter: JSON, or texts as a form has them.
    #[schema(value_type = Object)]
    arguments: BTreeMap<String, Value>,
}

/// The form of an operation with what was given so far. Nothing is begun.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/operations/{name}/form", tag = "operations", operation_id = "operation_form",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation")),
    request_body = FormBody, responses((status = 200, body = Filling)),
)]
pub async fn form(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, name)): Path<(String, String)>,
    Body(body): Body<FormBody>,
) -> Result<Json<Filling>, Failure> {
    let filling = operations::form(&app.installation, &who.caller, &project, &name, &body.arguments).await?;
    Ok(Json(Filling(filling)))
}

#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunBody {
    /// Values by parameter: JSON, or texts as a form has them.
    #[schema(value_type = Object)]
    arguments: BTreeMap<String, Value>,
    /// Why it is run; needed to break the glass.
    reason: Option<String>,
    /// At once: without approvals, in a freeze, outside of its window. Everybody is told.
    break_glass: bool,
    /// What the form says has to be typed.
    confirm: Option<String>,
    /// Steps that are passed over once, with the reason.
    skip: BTreeMap<String, String>,
}

impl RunBody {
    /// What to run, and how.
    pub(super) fn options(self, who: &Who, headers: &HeaderMap) -> (BTreeMap<String, Value>, StartOptions) {
        let Self { arguments, reason, break_glass, confirm, skip } = self;
        (arguments, StartOptions { origin: through(who, headers), reason, break_glass, confirm, skip })
    }
}

/// What somebody uses: a page, the terminal, a job of a CI, or a program.
pub(super) fn through(who: &Who, headers: &HeaderMap) -> Origin {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let through = match () {
        () if who.caller.actor.identities.iter().any(|identity| identity.starts_with("ci:")) => "ci",
        () if !who.csrf.is_empty() => "web",
        () if agent.starts_with("windlass/") => "cli",
        () => "api",
    };
    Origin::Person { through: through.to_owned() }
}

/// Run an operation.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/operations/{name}/runs", tag = "operations", operation_id = "operation_run",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation")),
    request_body = RunBody, responses((status = 202, body = Started)),
)]
pub async fn start(
    State(app): State<Arc<App>>,
    who: Who,
    headers: HeaderMap,
    Path((project, name)): Path<(String, String)>,
    Body(body): Body<RunBody>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let (arguments, options) = body.options(&who, &headers);
    let run = operations::start(&app.installation, &who.caller, &project, &name, &arguments, options).await?;
    Ok(Started::answer(Some(run)))
}

/// Go on where a run of an operation failed or was cancelled, as a new run in which what had succeeded is done. Of `arguments` only
/// its secrets are taken, which have to be given again.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/go-on", tag = "operations", operation_id = "run_go_on",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = RunBody, responses((status = 202, body = Started)),
)]
pub async fn go_on(
    State(app): State<Arc<App>>,
    who: Who,
    headers: HeaderMap,
    Path(run): Path<String>,
    Body(body): Body<RunBody>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let (secrets, options) = body.options(&who, &headers);
    let new = operations::resume(&app.installation, &who.caller, &RunId::new(run), &secrets, options).await?;
    Ok(Started::answer(Some(new)))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerBody {
    /// `approve` or `refuse` of an approval, one of the choices (or a text) of a question, `done` or `undone` of an item of a checklist.
    value: String,
    reason: Option<String>,
}

#[derive(Debug, Clone, serde::Serialize, ToSchema)]
pub struct AnswerAnswer {
    run: String,
    step: String,
    value: String,
}

/// Answer what a step of a run asks of people: an approval, a question, an item of a checklist.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/steps/{step}/answer", tag = "operations", operation_id = "step_answer",
    params(("run" = String, Path, description = "Id of the run"), ("step" = String, Path, description = "Id of the step, percent-encoded")),
    request_body = AnswerBody, responses((status = 200, body = AnswerAnswer)),
)]
pub async fn answer(
    State(app): State<Arc<App>>,
    who: Who,
    Path((run, step)): Path<(String, String)>,
    Body(body): Body<AnswerBody>,
) -> Result<Json<AnswerAnswer>, Failure> {
    let (id, of) = (RunId::new(run.clone()), StepId::new(step.clone()));
    let AnswerBody { value, reason } = body;
    operations::answer(&app.installation, &who.caller, &id, &of, &value, reason.as_deref()).await?;
    Ok(Json(AnswerAnswer { run, step, value }))
}

/// What a run of an operation was made of.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/operation", tag = "operations", operation_id = "run_operation",
    params(("run" = String, Path, description = "Id of the run")), responses((status = 200, body = RunInput)),
)]
pub async fn run_show(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
) -> Result<Json<RunInput>, Failure> {
    let (_, input) = operations::run_of(&app.installation, &who.caller, &RunId::new(run)).await?;
    Ok(Json(RunInput(input)))
}

/// What is different between two runs of operations.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/compare/{other}", tag = "operations", operation_id = "run_compare",
    params(("run" = String, Path, description = "Id of the first run"), ("other" = String, Path, description = "Id of the second")),
    responses((status = 200, body = Compared)),
)]
pub async fn compare(
    State(app): State<Arc<App>>,
    who: Who,
    Path((run, other)): Path<(String, String)>,
) -> Result<Json<Compared>, Failure> {
    let (before, after) = (RunId::new(run), RunId::new(other));
    Ok(Json(Compared(operations::compare(&app.installation, &who.caller, &before, &after).await?)))
}
