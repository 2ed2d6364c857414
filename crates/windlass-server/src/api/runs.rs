//! Runs.

use super::operations::RunBody;
use super::reviews::{ApproveBody, ApprovedAnswer, approve_any};
use super::stacks::Started;
use super::{Asked, Body, Listed, limit, nonsense, of_model};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use windlass_app::requests;
use windlass_app::requests::records::RunShown;
use windlass_model::access::Permission;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{RunState, StepRecord, StepSpec, StepState};
use windlass_store::{RunFilter, RunSummary, StepQuery, StepsOf};

pub fn routes(routes: Routes) -> Routes {
    let within = Guard::Within;
    routes
        .add(Method::GET, "/api/v1/projects/{project}/runs", Guard::Project(Permission::ProjectRead), get(list))
        .add(Method::GET, "/api/v1/runs/{run}", within(Permission::ProjectRead), get(show))
        .add(Method::GET, "/api/v1/runs/{run}/steps", within(Permission::ProjectRead), get(steps))
        .add(Method::GET, "/api/v1/runs/{run}/diff/{other}", within(Permission::ProjectRead), get(diff))
        .once("/api/v1/runs/{run}/cancel", within(Permission::RunCancel), post(cancel))
        .once("/api/v1/runs/{run}/halt", within(Permission::RunCancel), post(halt))
        .once("/api/v1/runs/{run}/resume", within(Permission::RunResume), post(resume))
        .once("/api/v1/runs/{run}/repeat", within(Permission::ReviewCreate), post(repeat))
        .once("/api/v1/runs/{run}/approve", within(Permission::ReviewApprove), post(approve))
}

of_model! {
    /// How one resource differs between two runs, as `windlass diff --json` has it.
    Changed(windlass_app::history::Changed);
}

/// A run, as lists have it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Run {
    #[schema(value_type = String)]
    pub id: RunId,
    pub project: String,
    /// `review`, `apply`, `drift`, …
    pub kind: String,
    pub title: String,
    /// `queued`, `running`, `waiting`, `succeeded`, `failed`, `cancelled` or `abandoned`.
    pub state: String,
    pub cancel_requested: bool,
    pub actor: String,
    /// Microseconds since 1970, UTC.
    pub created_at: i64,
    pub ended_at: Option<i64>,
    /// Why it failed or was cancelled, or what it waits for.
    pub reason: Option<String>,
}

impl From<RunSummary> for Run {
    fn from(run: RunSummary) -> Self {
        Self {
            id: run.id,
            project: run.project,
            kind: run.kind,
            title: run.title,
            state: run.state.as_str().to_owned(),
            cancel_requested: run.cancel_requested,
            actor: run.actor,
            created_at: run.created_at,
            ended_at: run.ended_at,
            reason: run.reason,
        }
    }
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunQuery {
    /// Only runs of this kind.
    kind: Option<String>,
    /// Only runs of this operation.
    operation: Option<String>,
    /// Only runs in this state.
    state: Option<String>,
    /// Only runs that this actor started, as runs have it.
    actor: Option<String>,
    /// Only runs that have not ended.
    #[serde(default)]
    active: bool,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many at most; 50 otherwise, 500 at most.
    limit: Option<u32>,
}

/// Runs of a project, newest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/runs", tag = "runs", operation_id = "run_list",
    params(("project" = String, Path, description = "Name of a followed repository"), RunQuery),
    responses((status = 200, body = Listed<Run>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(query): Asked<RunQuery>,
) -> Result<Json<Listed<Run>>, Failure> {
    let limit = limit(query.limit);
    let state = match &query.state {
        None => None,
        Some(name) => {
            Some(RunState::parse(name).ok_or_else(|| nonsense(format!("there is no state of runs `{name}`")))?)
        }
    };
    let filter = RunFilter {
        kind: query.kind,
        subject: query.operation,
        state,
        actor: query.actor,
        active: query.active,
        before: query.cursor.map(RunId::new),
    };
    let runs = requests::run_list(&app.installation, &who.caller, &project, &filter, limit).await?;
    Ok(Json(Listed::read(runs, limit, |run| run.id.to_string()).map(Run::from)))
}

/// A step of a run.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Step {
    /// Holds `/`, `[` and `:`; in an address it is one segment, percent-encoded.
    #[schema(value_type = String)]
    pub id: StepId,
    pub title: String,
    /// Steps that have to end before.
    #[schema(value_type = Vec<String>)]
    pub after: Vec<StepId>,
    /// What does it, e.g. `terraform.plan`.
    pub driver: String,
    /// `pending`, `running`, `waiting`, `unknown`, `succeeded`, `failed`, `skipped` or `cancelled`.
    pub state: String,
    /// Attempts that were begun.
    pub attempt: u32,
    /// It is not begun before this time; microseconds since 1970, UTC, as the next two.
    pub not_before: Option<i64>,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    /// Why it failed, was skipped, waits, or is unknown.
    pub reason: Option<String>,
    /// Stable code of a failure.
    pub code: Option<String>,
}

/// A run with its steps, or the first of them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RunAnswer {
    pub run: Run,
    /// In order of the plan; a thousand at most.
    pub steps: Vec<Step>,
    /// Where `/api/v1/runs/{run}/steps` goes on, as its `cursor`; `null` when these are all.
    pub next: Option<String>,
    /// Why it waits, in one sentence; only while it does.
    pub waits: Option<String>,
}

impl Step {
    fn of(spec: &StepSpec, step: StepRecord) -> Self {
        Self {
            id: step.id,
            title: spec.title.clone(),
            after: spec.after.clone(),
            driver: spec.work.driver.clone(),
            state: step.state.as_str().to_owned(),
            attempt: step.attempt,
            not_before: step.not_before,
            started_at: step.started_at,
            ended_at: step.ended_at,
            reason: step.reason,
            code: step.code,
        }
    }
}

impl RunAnswer {
    fn of(shown: RunShown) -> Self {
        let RunShown { record, steps, waits } = shown;
        let waits = match record.state {
            RunState::Waiting => record.reason.clone().or(waits),
            RunState::Queued => Some("nothing has taken it up yet".to_owned()),
            _ => None,
        };
        let next = steps.last().filter(|_| steps.len() == STEPS as usize).map(|(_, step)| step.position.to_string());
        let run = Run {
            id: record.id,
            project: record.project,
            kind: record.plan.kind,
            title: record.plan.title,
            state: record.state.as_str().to_owned(),
            cancel_requested: record.cancel_requested,
            actor: record.actor,
            created_at: record.created_at,
            ended_at: record.ended_at,
            reason: record.reason,
        };
        let steps = steps.into_iter().map(|(spec, step)| Step::of(&spec, step.record)).collect();
        Self { run, steps, next, waits }
    }
}

/// How many steps an answer about a run has at most.
const STEPS: u32 = 1000;

/// One run.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}", tag = "runs", operation_id = "run_get",
    params(("run" = String, Path, description = "Id of the run")), responses((status = 200, body = RunAnswer)),
)]
pub async fn show(State(app): State<Arc<App>>, who: Who, Path(run): Path<String>) -> Result<Json<RunAnswer>, Failure> {
    let shown = requests::records::run_show(&app.installation, &who.caller, &RunId::new(run), STEPS).await?;
    Ok(Json(RunAnswer::of(shown)))
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StepsQuery {
    /// Only steps in this state.
    state: Option<String>,
    /// Only steps that have this in their id; letters of either case.
    search: Option<String>,
    /// Only what this step has added.
    added_by: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many at most; 50 otherwise, 500 at most.
    limit: Option<u32>,
}

/// Steps of a run, in order of the plan: for runs with so many that one answer would be too large.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/steps", tag = "runs", operation_id = "run_steps",
    params(("run" = String, Path, description = "Id of the run"), StepsQuery),
    responses((status = 200, body = Listed<Step>)),
)]
pub async fn steps(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Asked(query): Asked<StepsQuery>,
) -> Result<Json<Listed<Step>>, Failure> {
    let limit = limit(query.limit);
    let state = query
        .state
        .map(|name| StepState::parse(&name).ok_or_else(|| nonsense(format!("there is no state of steps `{name}`"))));
    let cursor = query.cursor.map(|at| at.parse().map_err(|_| nonsense(format!("`{at}` is no cursor of steps"))));
    let asked = StepQuery {
        of: query.added_by.map_or(StepsOf::All, |step| StepsOf::Step(StepId::new(step))),
        state: state.transpose()?,
        text: query.search.unwrap_or_default(),
        after: cursor.transpose()?,
        ..StepQuery::default()
    };
    let found = requests::records::step_find(&app.installation, &who.caller, &RunId::new(run), &asked, limit).await?;
    let listed = Listed::read(found, limit, |(_, step)| step.position.to_string());
    Ok(Json(listed.map(|(spec, step)| Step::of(&spec, step.record))))
}

#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CancelBody {
    reason: Option<String>,
    /// At once: nothing is taken back, and what runs is given no time.
    kill: bool,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CancelAnswer {
    pub run: String,
    /// `false` when it had ended already.
    pub cancel_requested: bool,
}

/// Ask a run to stop.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/cancel", tag = "runs", operation_id = "run_cancel",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = CancelBody, responses((status = 200, body = CancelAnswer)),
)]
pub async fn cancel(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<CancelBody>,
) -> Result<Json<CancelAnswer>, Failure> {
    let id = RunId::new(run.clone());
    let asked = requests::run_cancel(&app.installation, &who.caller, &id, body.reason.as_deref(), body.kill).await?;
    Ok(Json(CancelAnswer { run, cancel_requested: asked }))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HaltBody {
    /// Why, for whoever resumes it.
    reason: String,
}

/// Have nothing new begin in a run, until it is resumed. What is under way goes on.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/halt", tag = "runs", operation_id = "run_halt",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = HaltBody, responses((status = 202, body = Started)),
)]
pub async fn halt(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<HaltBody>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let run = RunId::new(run);
    requests::run_halt(&app.installation, &who.caller, &run, &body.reason).await?;
    Ok(Started::answer(Some(run)))
}

#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResumeBody {
    /// What became of steps whose end is unknown: `STEP=done`, `STEP=failed` or `STEP=repeat`. Needs `run.settle`.
    settle: Vec<String>,
    /// How that is known.
    reason: Option<String>,
}

/// Let a run go on: what waits looks again, and unknown steps are settled as said.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/resume", tag = "runs", operation_id = "run_resume",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = ResumeBody, responses((status = 202, body = Started)),
)]
pub async fn resume(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<ResumeBody>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let run = RunId::new(run);
    requests::run_resume(&app.installation, &who.caller, &run, &body.settle, body.reason.as_deref()).await?;
    Ok(Started::answer(Some(run)))
}

/// Do a review or a look for drift once more, as it was planned; or an operation with the same parameters, as it is defined now.
/// Its secrets have to be given again. The body is for operations.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/repeat", tag = "runs", operation_id = "run_repeat",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = RunBody, responses((status = 202, body = Started)),
)]
pub async fn repeat(
    State(app): State<Arc<App>>,
    who: Who,
    headers: HeaderMap,
    Path(run): Path<String>,
    Body(body): Body<RunBody>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let (more, options) = body.options(&who, &headers);
    let again = requests::run_repeat(&app.installation, &who.caller, &RunId::new(run), &more, options).await?;
    Ok(Started::answer(Some(again)))
}

/// Approve the changed effects that an apply run waits with.
#[utoipa::path(
    post, path = "/api/v1/runs/{run}/approve", tag = "runs", operation_id = "run_approve",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = ApproveBody, responses((status = 200, body = ApprovedAnswer)),
)]
pub async fn approve(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<ApproveBody>,
) -> Result<Json<ApprovedAnswer>, Failure> {
    approve_any(&app, &who, &run, body).await
}

/// What the effects of two runs (reviews or applies) do not have in common.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/diff/{other}", tag = "runs", operation_id = "run_diff",
    params(("run" = String, Path, description = "Id of the first run"), ("other" = String, Path, description = "Id of the second")),
    responses((status = 200, body = Listed<Changed>)),
)]
pub async fn diff(
    State(app): State<Arc<App>>,
    who: Who,
    Path((run, other)): Path<(String, String)>,
) -> Result<Json<Listed<Changed>>, Failure> {
    let (before, after) = (RunId::new(run), RunId::new(other));
    let found = requests::records::run_diff(&app.installation, &who.caller, &before, &after).await?;
    Ok(Json(Listed { items: found.into_iter().map(Changed).collect(), next: None }))
}
