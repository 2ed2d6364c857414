//! Projects: the repositories that are followed.

use super::{Asked, Listed, Paged};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::repositories::{Repository, Status};
use windlass_app::requests;
use windlass_model::access::Permission;
use windlass_model::diagnostic::Diagnostic;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/api/v1/projects", Guard::SignedIn, get(list))
        .add(Method::GET, "/api/v1/projects/{project}", Guard::Project(Permission::ProjectRead), get(show))
        .once("/api/v1/projects/{project}/fetch", Guard::Project(Permission::ProjectManage), post(fetch))
}

/// A repository that is followed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Project {
    pub name: String,
    /// Where it is fetched from; never with a password.
    pub url: String,
    /// The protected branch, whose definitions decide; `null` until it is known.
    pub branch: Option<String>,
    /// The commit whose definitions are in force, and when it was first seen (microseconds since 1970, UTC).
    pub commit: Option<String>,
    pub since: Option<i64>,
    /// How many stacks it has.
    pub stacks: usize,
    /// The last fetch that worked, microseconds since 1970, UTC.
    pub fetched_at: Option<i64>,
    /// Why the last fetches failed; only while they do.
    #[schema(value_type = Option<Object>)]
    pub failure: Option<Diagnostic>,
    /// Something newer than `commit` whose definitions are wrong, and everything wrong with it.
    pub bad: Option<BadCommit>,
    /// Warnings about the definitions in force.
    #[schema(value_type = Vec<Object>)]
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BadCommit {
    pub commit: String,
    /// When it was first seen, microseconds since 1970, UTC.
    pub at: i64,
    #[schema(value_type = Vec<Object>)]
    pub diagnostics: Vec<Diagnostic>,
}

impl Project {
    fn of(repository: &Repository, status: &Status) -> Self {
        let good = status.good.as_ref();
        let bad = status.bad.as_ref();
        Self {
            name: repository.name.clone(),
            url: repository.url.clone(),
            branch: status.branch.clone(),
            commit: good.map(|good| good.commit.clone()),
            since: good.map(|good| good.at.as_microsecond()),
            stacks: good.map_or(0, |good| good.project.repository.stacks.len()),
            fetched_at: status.fetched.map(|at| at.as_microsecond()),
            failure: status.failure.as_ref().map(|failure| failure.diagnostic.clone()),
            bad: bad.map(|bad| BadCommit {
                commit: bad.commit.clone(),
                at: bad.at.as_microsecond(),
                diagnostics: bad.diagnostics.clone(),
            }),
            diagnostics: good.map(|good| good.project.diagnostics.clone()).unwrap_or_default(),
        }
    }
}

/// The projects that you may see, by name.
#[utoipa::path(
    get, path = "/api/v1/projects", tag = "projects", operation_id = "project_list", params(Paged),
    responses((status = 200, body = Listed<Project>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Listed<Project>>, Failure> {
    let all = requests::projects::project_list(&app.installation, &who.caller).await?;
    let listed = Listed::page(all, &paged, |(repository, _)| repository.name.clone());
    Ok(Json(listed.map(|(repository, status)| Project::of(&repository, &status))))
}

/// One project.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}", tag = "projects", operation_id = "project_get",
    params(("project" = String, Path, description = "Name of a followed repository")),
    responses((status = 200, body = Project)),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
) -> Result<Json<Project>, Failure> {
    let (repository, status) = requests::projects::project_get(&app.installation, &who.caller, &project).await?;
    Ok(Json(Project::of(&repository, &status)))
}

/// Have the repository fetched soon.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/fetch", tag = "projects", operation_id = "project_fetch",
    params(("project" = String, Path, description = "Name of a followed repository")),
    responses((status = 202, description = "It will be, within seconds")),
)]
pub async fn fetch(State(app): State<Arc<App>>, who: Who, Path(project): Path<String>) -> Result<StatusCode, Failure> {
    requests::project_fetch(&app.installation, &who.caller, &project).await?;
    Ok(StatusCode::ACCEPTED)
}
