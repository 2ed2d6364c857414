//! Workers.

use super::Listed;
use crate::authentication::Who;
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::Method;
use axum::routing::get;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::requests::workers;
use windlass_model::access::Permission;
use windlass_store::WorkerRow;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/workers", Guard::Server(Permission::MetricsRead), get(list))
}

/// A process that drives runs.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Worker {
    pub id: String,
    pub host: String,
    /// It takes steps that ask for some of these alone.
    pub labels: Vec<String>,
    /// It also takes steps that ask for none.
    pub rest: bool,
    pub version: String,
    /// It begins nothing more.
    pub draining: bool,
    /// Microseconds since 1970, UTC.
    pub started_at: i64,
    pub seen_at: i64,
}

impl From<WorkerRow> for Worker {
    fn from(worker: WorkerRow) -> Self {
        Self {
            id: worker.id,
            host: worker.host,
            labels: worker.labels.own,
            rest: worker.labels.rest,
            version: worker.version,
            draining: worker.draining,
            started_at: worker.started_at,
            seen_at: worker.seen_at,
        }
    }
}

/// Workers that live, servers among them.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "workers", operation_id = "worker_list",
    responses((status = 200, body = Listed<Worker>), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn list(State(app): State<Arc<App>>, who: Who) -> Result<Json<Listed<Worker>>, Failure> {
    let found = workers::worker_list(&app.installation, &who.caller).await?;
    Ok(Json(Listed { items: found.into_iter().map(Worker::from).collect(), next: None }))
}
