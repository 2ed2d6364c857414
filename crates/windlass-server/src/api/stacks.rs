//! Stacks of a project: what there is, what was done to it, and what stands in its way.

use super::{Asked, Body, Listed, Paged, limit, of_model};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use windlass_app::history;
use windlass_app::locks::LockView;
use windlass_app::requests;
use windlass_model::access::Permission;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::{drift, journal, stack};

pub fn routes(routes: Routes) -> Routes {
    let read = Guard::Project(Permission::ProjectRead);
    routes
        .add(Method::GET, "/api/v1/projects/{project}/stacks", read, get(list))
        .add(Method::GET, "/api/v1/projects/{project}/graph", read, get(graph))
        .add(Method::GET, "/api/v1/projects/{project}/stacks/{*stack}", read, get(show))
        .add(Method::GET, "/api/v1/projects/{project}/history/{*stack}", read, get(applied))
        .add(Method::GET, "/api/v1/projects/{project}/drift", read, get(drift_list))
        .once("/api/v1/projects/{project}/drift", Guard::Within(Permission::DriftCheck), post(drift_start))
        .add(Method::GET, "/api/v1/projects/{project}/locks", read, get(lock_list))
        .once(
            "/api/v1/projects/{project}/locks/take-away",
            Guard::Within(Permission::LockTakeAway),
            post(lock_take_away),
        )
        .add(Method::GET, "/api/v1/projects/{project}/quarantines", read, get(quarantine_list))
        .once(
            "/api/v1/projects/{project}/quarantines/release",
            Guard::Within(Permission::StackRecover),
            post(quarantine_release),
        )
        .once(
            "/api/v1/projects/{project}/quarantines/push",
            Guard::Within(Permission::StackRecover),
            post(quarantine_push),
        )
        .once(
            "/api/v1/projects/{project}/quarantines/unlock",
            Guard::Within(Permission::StackRecover),
            post(quarantine_unlock),
        )
        .add(Method::GET, "/api/v1/projects/{project}/waivers", read, get(waiver_list))
}

of_model! {
    /// A stack as `windlass stacks --json` has it: its instances, variables, outputs and inputs.
    Stack(stack::Stack);
    /// `to` reads what `from` wrote, with the evidence.
    Edge(stack::Edge);
    /// One apply of one instance, as `windlass history --json` has it.
    Applied(history::Applied);
    /// What is known of the drift of an instance, as `windlass drift --json` has it.
    DriftRecord(drift::Record);
    /// A place in the queue of a lock, as `windlass locks --json` has it.
    Lock(LockView);
    /// Why an instance is not applied until somebody settled it, as `windlass recover --json` has it.
    Quarantine(journal::Quarantine);
    /// All waivers, newest first, and how many there are by rule and by person, as `windlass waivers --json` has it.
    WaiverList(windlass_app::waivers::WaiverList);
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StackQuery {
    /// Only stacks whose path holds this.
    q: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many at most; 50 otherwise, 500 at most.
    limit: Option<u32>,
}

/// Stacks of the commit in force, by path.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/stacks", tag = "stacks", operation_id = "stack_list",
    params(("project" = String, Path, description = "Name of a followed repository"), StackQuery),
    responses((status = 200, body = Listed<Stack>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(query): Asked<StackQuery>,
) -> Result<Json<Listed<Stack>>, Failure> {
    let good = requests::projects::good(&app.installation, &who.caller, &project).await?;
    let wanted = |stack: &&stack::Stack| query.q.as_ref().is_none_or(|q| stack.id.as_str().contains(q.as_str()));
    let found: Vec<&stack::Stack> = good.project.repository.stacks.iter().filter(wanted).collect();
    let paged = Paged { cursor: query.cursor.clone(), limit: query.limit };
    Ok(Json(Listed::page(found, &paged, |stack| stack.id.to_string()).map(|stack| Stack(stack.clone()))))
}

/// All instances and the edges between them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Graph {
    #[schema(value_type = Vec<String>)]
    pub instances: Vec<InstanceId>,
    pub edges: Vec<Edge>,
    #[schema(value_type = Vec<Object>)]
    pub diagnostics: Vec<Diagnostic>,
}

/// The graph of the commit in force.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/graph", tag = "stacks", operation_id = "stack_graph",
    params(("project" = String, Path, description = "Name of a followed repository")),
    responses((status = 200, body = Graph)),
)]
pub async fn graph(State(app): State<Arc<App>>, who: Who, Path(project): Path<String>) -> Result<Json<Graph>, Failure> {
    let good = requests::projects::good(&app.installation, &who.caller, &project).await?;
    let repository = &good.project.repository;
    Ok(Json(Graph {
        instances: repository.instances().map(|(_, instance)| instance.id.clone()).collect(),
        edges: repository.edges.iter().cloned().map(Edge).collect(),
        diagnostics: good.project.diagnostics.clone(),
    }))
}

/// A stack and the edges to and from it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StackAnswer {
    pub stack: Stack,
    pub edges: Vec<Edge>,
}

/// One stack of the commit in force.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/stacks/{stack}", tag = "stacks", operation_id = "stack_get",
    params(
        ("project" = String, Path, description = "Name of a followed repository"),
        ("stack" = String, Path, description = "Path of the stack; its slashes may stand as they are"),
    ),
    responses((status = 200, body = StackAnswer)),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, stack)): Path<(String, String)>,
) -> Result<Json<StackAnswer>, Failure> {
    let good = requests::projects::good(&app.installation, &who.caller, &project).await?;
    let stack = good.project.stack(&stack)?;
    let touches = |edge: &&stack::Edge| edge.from.stack() == stack.id || edge.to.stack() == stack.id;
    let edges = good.project.repository.edges.iter().filter(touches).cloned().map(Edge).collect();
    Ok(Json(StackAnswer { stack: Stack(stack.clone()), edges }))
}

/// Applies of a stack or of one instance, newest first. A page has all that one run did, also where it is more than `limit`.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/history/{stack}", tag = "stacks", operation_id = "stack_history",
    params(
        ("project" = String, Path, description = "Name of a followed repository"),
        ("stack" = String, Path, description = "Path of the stack, or an instance of it; its slashes may stand as they are"),
        Paged,
    ),
    responses((status = 200, body = Listed<Applied>)),
)]
pub async fn applied(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, stack)): Path<(String, String)>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Applied>>, Failure> {
    let limit = limit(paged.limit);
    let before = paged.cursor.map(RunId::new);
    let found = requests::projects::stack_history(
        &app.installation,
        &who.caller,
        &project,
        &stack,
        before.as_ref(),
        limit as usize,
    );
    Ok(Json(Listed::read(found.await?, limit, |applied| applied.run.to_string()).map(Applied)))
}

/// What is known of the drift of each instance that was ever looked at.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/drift", tag = "stacks", operation_id = "drift_list",
    params(("project" = String, Path, description = "Name of a followed repository"), Paged),
    responses((status = 200, body = Listed<DriftRecord>)),
)]
pub async fn drift_list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<DriftRecord>>, Failure> {
    let records = requests::projects::drift_list(&app.installation, &who.caller, &project).await?;
    Ok(Json(Listed::page(records, &paged, |record| record.instance.to_string()).map(DriftRecord)))
}

#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DriftRequest {
    /// Patterns of stacks or instances; all when there is none.
    patterns: Vec<String>,
}

/// A run that was started.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Started {
    /// `null` when there is nothing to do.
    #[schema(value_type = Option<String>)]
    pub run: Option<RunId>,
}

impl Started {
    /// As an answer: accepted, or that nothing had to be.
    pub fn answer(run: Option<RunId>) -> (StatusCode, Json<Self>) {
        let status = if run.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
        (status, Json(Self { run }))
    }
}

/// Look for drift now, on the protected branch.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/drift", tag = "stacks", operation_id = "drift_start",
    params(("project" = String, Path, description = "Name of a followed repository")),
    request_body = DriftRequest, responses((status = 202, body = Started)),
)]
pub async fn drift_start(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Body(request): Body<DriftRequest>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let run = requests::drift_start(&app.installation, &who.caller, &project, &request.patterns).await?;
    Ok(Started::answer(Some(run)))
}

/// Who holds and who waits for which lock.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/locks", tag = "stacks", operation_id = "lock_list",
    params(("project" = String, Path, description = "Name of a followed repository"), Paged),
    responses((status = 200, body = Listed<Lock>)),
)]
pub async fn lock_list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Lock>>, Failure> {
    let locks = requests::projects::lock_list(&app.installation, &who.caller, &project).await?;
    let key = |lock: &LockView| {
        let place = if lock.held { 0 } else { lock.since };
        format!("{} {place:020} {} {}", lock.name, lock.run, lock.step)
    };
    Ok(Json(Listed::page(locks, &paged, key).map(Lock)))
}

/// What is done to an instance, and why.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceRequest {
    /// e.g. `aws/network[tokyo]`.
    instance: String,
    reason: String,
}

/// Take the lock of an instance away from a step whose process is not at work any more.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/locks/take-away", tag = "stacks", operation_id = "lock_take_away",
    params(("project" = String, Path, description = "Name of a followed repository")),
    request_body = InstanceRequest, responses((status = 200, body = Lock)),
)]
pub async fn lock_take_away(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Body(request): Body<InstanceRequest>,
) -> Result<Json<Lock>, Failure> {
    let instance = InstanceId::new(request.instance);
    let lock = requests::unlock(&app.installation, &who.caller, &project, &instance, &request.reason).await?;
    Ok(Json(Lock(lock)))
}

/// Instances that are not applied until somebody settled what a crash left.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/quarantines", tag = "stacks", operation_id = "quarantine_list",
    params(("project" = String, Path, description = "Name of a followed repository"), Paged),
    responses((status = 200, body = Listed<Quarantine>)),
)]
pub async fn quarantine_list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Quarantine>>, Failure> {
    let found = requests::projects::quarantine_list(&app.installation, &who.caller, &project).await?;
    Ok(Json(Listed::page(found, &paged, |quarantine| quarantine.instance.to_string()).map(Quarantine)))
}

/// Lift the quarantine of an instance.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/quarantines/release", tag = "stacks", operation_id = "quarantine_release",
    params(("project" = String, Path, description = "Name of a followed repository")),
    request_body = InstanceRequest, responses((status = 200, body = Quarantine)),
)]
pub async fn quarantine_release(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Body(request): Body<InstanceRequest>,
) -> Result<Json<Quarantine>, Failure> {
    let instance = InstanceId::new(request.instance);
    let lifted = requests::release(&app.installation, &who.caller, &project, &instance, &request.reason).await?;
    Ok(Json(Quarantine(lifted)))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// e.g. `aws/network[tokyo]`.
    instance: String,
}

/// Push the state of a quarantined instance that terraform could not write; terraform refuses one that does not follow the present.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/quarantines/push", tag = "stacks", operation_id = "quarantine_push",
    params(("project" = String, Path, description = "Name of a followed repository")),
    request_body = PushRequest, responses((status = 200, body = Quarantine)),
)]
pub async fn quarantine_push(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Body(request): Body<PushRequest>,
) -> Result<Json<Quarantine>, Failure> {
    let instance = InstanceId::new(request.instance);
    let left = requests::state_push(&app.installation, &who.caller, &project, &instance).await?;
    Ok(Json(Quarantine(left)))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlockRequest {
    /// e.g. `aws/network[tokyo]`.
    instance: String,
    /// Id of the lock that the quarantine names.
    lock: String,
}

/// Break the lock at the backend that may be the dead apply's own.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/quarantines/unlock", tag = "stacks", operation_id = "quarantine_unlock",
    params(("project" = String, Path, description = "Name of a followed repository")),
    request_body = UnlockRequest, responses((status = 204)),
)]
pub async fn quarantine_unlock(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Body(request): Body<UnlockRequest>,
) -> Result<StatusCode, Failure> {
    let instance = InstanceId::new(request.instance);
    requests::backend_unlock(&app.installation, &who.caller, &project, &instance, &request.lock).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All waivers that were ever given, and how many.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/waivers", tag = "stacks", operation_id = "waiver_list",
    params(("project" = String, Path, description = "Name of a followed repository")),
    responses((status = 200, body = WaiverList)),
)]
pub async fn waiver_list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
) -> Result<Json<WaiverList>, Failure> {
    Ok(Json(WaiverList(requests::projects::waiver_list(&app.installation, &who.caller, &project).await?)))
}
