//! Schedules of operations: what there is, pauses, starts at a time, and backfills.

use super::operations::through;
use super::{Asked, Body, Listed, Paged, of_model};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::requests::schedules::{self, AtRequest, ScheduleKey, time};
use windlass_model::access::Permission;
use windlass_model::operation::plan::Origin;

pub fn routes(routes: Routes) -> Routes {
    let read = Guard::Project(Permission::ProjectRead);
    let manage = Guard::Project(Permission::ScheduleManage);
    let within = Guard::Within(Permission::OperationRun);
    routes
        .add(Method::GET, "/api/v1/projects/{project}/schedules", read, get(list))
        .add(
            Method::POST,
            "/api/v1/projects/{project}/operations/{name}/schedules/{schedule}/pause",
            manage,
            post(pause),
        )
        .add(
            Method::POST,
            "/api/v1/projects/{project}/operations/{name}/schedules/{schedule}/resume",
            manage,
            post(resume),
        )
        .once("/api/v1/projects/{project}/operations/{name}/schedules/{schedule}/backfill", manage, post(backfill))
        .add(Method::GET, "/api/v1/projects/{project}/operations/{name}/starts", read, get(starts))
        .once("/api/v1/projects/{project}/operations/{name}/starts", within, post(start_at))
        .add(Method::POST, "/api/v1/projects/{project}/starts/{start}/cancel", within, post(cancel))
}

of_model! {
    /// A schedule: its next due times (µs since 1970), pause, freeze, and what became of its last time.
    Schedule(schedules::ScheduleView);
    /// What is to start an operation at a time, or did.
    Start(schedules::StartRow);
}

/// Schedules of the operations of a project.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/schedules", tag = "operations", operation_id = "schedule_list",
    params(("project" = String, Path, description = "Name of a followed repository"), Paged),
    responses((status = 200, body = Listed<Schedule>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Schedule>>, Failure> {
    let found = schedules::list(&app.installation, &who.caller, &project).await?;
    let id = |schedule: &schedules::ScheduleView| format!("{} {}", schedule.operation, schedule.name);
    Ok(Json(Listed::page(found, &paged, id).map(Schedule)))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseBody {
    /// RFC 3339; for as long as nobody resumes it where it is left out.
    until: Option<String>,
    reason: String,
}

fn key((project, operation, schedule): (String, String, String)) -> ScheduleKey {
    ScheduleKey { project, operation, schedule }
}

/// Pause a schedule. What is due meanwhile is not made up for.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/operations/{name}/schedules/{schedule}/pause", tag = "operations",
    operation_id = "schedule_pause",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation"),
        ("schedule" = String, Path, description = "Of the schedule")),
    request_body = PauseBody, responses((status = 204)),
)]
pub async fn pause(
    State(app): State<Arc<App>>,
    who: Who,
    Path(names): Path<(String, String, String)>,
    Body(body): Body<PauseBody>,
) -> Result<StatusCode, Failure> {
    let until = body.until.as_deref().map(time).transpose()?;
    schedules::pause(&app.installation, &who.caller, &key(names), until, &body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a schedule that is paused go on.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/operations/{name}/schedules/{schedule}/resume", tag = "operations",
    operation_id = "schedule_resume",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation"),
        ("schedule" = String, Path, description = "Of the schedule")),
    responses((status = 204)),
)]
pub async fn resume(
    State(app): State<Arc<App>>,
    who: Who,
    Path(names): Path<(String, String, String)>,
) -> Result<StatusCode, Failure> {
    schedules::resume(&app.installation, &who.caller, &key(names)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillBody {
    /// RFC 3339; not itself.
    after: String,
    /// RFC 3339; itself as well.
    until: String,
    /// How many are under way at once; 1 where it is left out.
    at_once: Option<u32>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BackfillAnswer {
    /// Due times that had not begun, and will.
    starts: u64,
}

/// Have due times of the past begun that have not, oldest first.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/operations/{name}/schedules/{schedule}/backfill", tag = "operations",
    operation_id = "schedule_backfill",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation"),
        ("schedule" = String, Path, description = "Of the schedule")),
    request_body = BackfillBody, responses((status = 202, body = BackfillAnswer)),
)]
pub async fn backfill(
    State(app): State<Arc<App>>,
    who: Who,
    Path(names): Path<(String, String, String)>,
    Body(body): Body<BackfillBody>,
) -> Result<(StatusCode, Json<BackfillAnswer>), Failure> {
    let range = (time(&body.after)?, time(&body.until)?);
    let starts =
        schedules::backfill(&app.installation, &who.caller, &key(names), range, body.at_once.unwrap_or(1)).await?;
    Ok((StatusCode::ACCEPTED, Json(BackfillAnswer { starts })))
}

/// What is to be done of an operation at a time, or was, latest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/operations/{name}/starts", tag = "operations", operation_id = "start_list",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation"), Paged),
    responses((status = 200, body = Listed<Start>)),
)]
pub async fn starts(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, name)): Path<(String, String)>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Start>>, Failure> {
    let found = schedules::start_list(&app.installation, &who.caller, &project, &name).await?;
    Ok(Json(Listed::page(found, &paged, |start| start.id.clone()).map(Start)))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartBody {
    /// RFC 3339.
    at: String,
    /// Values by parameter; no secrets, which are not kept.
    #[serde(default)]
    #[schema(value_type = Object)]
    arguments: BTreeMap<String, Value>,
    reason: Option<String>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StartAnswer {
    /// Its id, to take it back.
    start: String,
}

/// Have an operation begun at a time, once.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/operations/{name}/starts", tag = "operations", operation_id = "start_at",
    params(("project" = String, Path, description = "Name of a followed repository"), ("name" = String, Path, description = "Of the operation")),
    request_body = StartBody, responses((status = 202, body = StartAnswer)),
)]
pub async fn start_at(
    State(app): State<Arc<App>>,
    who: Who,
    headers: HeaderMap,
    Path((project, name)): Path<(String, String)>,
    Body(body): Body<StartBody>,
) -> Result<(StatusCode, Json<StartAnswer>), Failure> {
    let Origin::Person { through } = through(&who, &headers) else {
        return Err(windlass_app::error::internal("nobody").into());
    };
    let StartBody { at, arguments, reason } = body;
    let request = AtRequest { at: time(&at)?, arguments, reason, through };
    let start = schedules::start_at(&app.installation, &who.caller, &project, &name, request).await?;
    Ok((StatusCode::ACCEPTED, Json(StartAnswer { start })))
}

/// Take a start at a time back.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/starts/{start}/cancel", tag = "operations", operation_id = "start_cancel",
    params(("project" = String, Path, description = "Name of a followed repository"), ("start" = String, Path, description = "Id of the start")),
    responses((status = 204)),
)]
pub async fn cancel(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, start)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    schedules::start_cancel(&app.installation, &who.caller, &project, &start).await?;
    Ok(StatusCode::NO_CONTENT)
}
