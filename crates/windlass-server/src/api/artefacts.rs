//! Files that steps of operations left.

use super::{Asked, Listed, Paged, attachment, limit};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::error::AppResult;
use windlass_app::requests::artefacts::{Opened, artefact_list, artefact_open};
use windlass_app::run_artefacts::RunArtefact;
use windlass_model::access::Permission;
use windlass_model::id::RunId;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/runs/{run}/artefacts", Guard::Within(Permission::ProjectRead), get(list)).add(
        Method::GET,
        "/api/v1/runs/{run}/artefacts/{*artefact}",
        Guard::Within(Permission::ArtefactRead),
        get(show),
    )
}

/// A file that a step left.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Artefact {
    /// 64 hexadecimal digits.
    pub id: String,
    pub step: String,
    /// Its path, relative to the directory of the step.
    pub name: String,
    /// The attempt of the step that left it, from 1.
    pub attempt: u32,
    /// Bytes.
    pub size: u64,
    /// When it was kept, microseconds since 1970, UTC.
    pub at: i64,
    /// Why it is not there any more; `null` while it is.
    pub removed: Option<String>,
}

impl From<RunArtefact> for Artefact {
    fn from(artefact: RunArtefact) -> Self {
        let RunArtefact { id, step, name, attempt, size, at, removed } = artefact;
        Self { id, step: step.to_string(), name, attempt, size, at, removed }
    }
}

/// What the steps of a run of an operation left, by step and name; also what was removed since, with why.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/artefacts", tag = "logs", operation_id = "artefact_list",
    params(("run" = String, Path, description = "Id of the run"), Paged),
    responses((status = 200, body = Listed<Artefact>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Artefact>>, Failure> {
    let (limit, after) = (limit(paged.limit), paged.cursor.as_deref());
    let found = artefact_list(&app.installation, &who.caller, &RunId::new(run), after, limit).await?;
    Ok(Json(Listed::read(found, limit, |artefact| artefact.id.clone()).map(Artefact::from)))
}

/// What is in a file that a step left: masked like logs where it is text, and exactly as it was kept otherwise.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/artefacts/{artefact}", tag = "logs", operation_id = "artefact_get",
    params(
        ("run" = String, Path, description = "Id of the run"),
        ("artefact" = String, Path, description = "Its id, or `STEP/NAME` for what the last attempt of the step left; it may hold `/`"),
    ),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream", description = "The file")),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    Path((run, artefact)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let opened = artefact_open(&app.installation, &who.caller, &RunId::new(run), &artefact).await?;
    Ok(download(opened)?)
}

/// How much is handed over at once, bytes.
const PIECE: usize = 64 * 1024;

fn download(opened: Opened) -> AppResult<Response> {
    let Opened { artefact, content, place } = opened;
    let length = content.len();
    // Its place among those that are being sent is given up with the last piece, or with a connection that broke.
    let body = stream::unfold((Bytes::from(content), place), |(mut rest, place)| async move {
        let piece = rest.split_to(rest.len().min(PIECE));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (rest, place)))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    // Whatever it is, a browser saves it and shows nothing of it.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let name = artefact.name.rsplit('/').next().unwrap_or_default();
    headers.insert(header::CONTENT_DISPOSITION, attachment(name)?);
    Ok(response)
}
