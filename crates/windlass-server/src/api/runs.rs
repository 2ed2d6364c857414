//! Runs.

use super::{Listed, PAGE, PAGE_MOST};
use crate::authentication::Who;
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::Method;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use windlass_app::requests;
use windlass_model::access::Permission;
use windlass_model::id::RunId;
use windlass_store::{RunFilter, RunSummary};

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/projects/{project}/runs", Guard::Project(Permission::ProjectRead), get(list))
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
    responses((status = 200, body = Listed<Run>), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Query(query): Query<RunQuery>,
) -> Result<Json<Listed<Run>>, Failure> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    let filter = RunFilter {
        kind: query.kind,
        active: query.active,
        before: query.cursor.map(RunId::new),
        ..RunFilter::default()
    };
    let runs = requests::run_list(&app.installation, &who.caller, &project, &filter, limit).await?;
    let next = (runs.len() == limit as usize).then(|| runs.last().map(|run| run.id.to_string())).flatten();
    Ok(Json(Listed { items: runs.into_iter().map(Run::from).collect(), next }))
}
