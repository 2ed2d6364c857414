//! Changes of a forge, and what environments run.

use super::{Asked, Listed, limit, nonsense};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use windlass_app::requests::changes;
use windlass_model::access::Permission;
use windlass_model::change::ChangeFilter;
use windlass_store::ChangeRow;

pub fn routes(routes: Routes) -> Routes {
    let read = Guard::Project(Permission::ProjectRead);
    routes
        .add(Method::GET, "/api/v1/projects/{project}/changes", read, get(list))
        .add(Method::GET, "/api/v1/projects/{project}/changes/{number}", read, get(show))
        .add(Method::GET, "/api/v1/projects/{project}/environments", read, get(environments))
}

/// A pull request or merge request, and how it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Change {
    pub number: u64,
    pub title: String,
    pub url: String,
    /// The account at the forge.
    pub author: String,
    /// `open`, `merged` or `closed`.
    pub state: String,
    pub draft: bool,
    pub branch: String,
    /// The head.
    pub commit: String,
    /// The commit in the base that has it.
    pub merged_as: Option<String>,
    /// How it stands as a whole: `pending`, `success`, `failure` or `error`; nothing before that was said.
    pub status: Option<String>,
    /// The same in one sentence.
    pub says: Option<String>,
    /// Its review.
    pub review: Option<String>,
    /// Its last apply.
    pub apply: Option<String>,
    /// It has a place in the queues of its stacks.
    pub queued: bool,
    /// Why the last look at it came to no end; it is looked at again.
    pub failure: Option<String>,
    /// When it was looked at last; microseconds since 1970, UTC.
    pub looked_at: i64,
}

fn change(row: ChangeRow) -> Option<Change> {
    let standing = changes::standing(&row).cloned();
    let known = row.known;
    let change = known.change?;
    Some(Change {
        number: row.number,
        title: change.title,
        url: change.url,
        author: change.author.login,
        state: change.state.as_str().to_owned(),
        draft: change.draft,
        branch: change.head.branch,
        commit: change.head.commit,
        merged_as: change.merged_as,
        status: standing.as_ref().map(|check| check.state.as_str().to_owned()),
        says: standing.map(|check| check.text),
        review: known.review.map(|review| review.run.to_string()),
        apply: known.apply.map(|apply| apply.run.to_string()),
        queued: known.queued,
        failure: known.failure,
        looked_at: row.updated_at,
    })
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChangeQuery {
    /// Only changes in this state: `open`, `merged`, `closed`, or `unapplied` (merged into a branch that is followed, and not
    /// applied in full).
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<u64>,
    /// How many at most; 50 otherwise, 500 at most.
    limit: Option<u32>,
}

/// Changes of a project, newest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/changes", tag = "changes", operation_id = "change_list",
    params(("project" = String, Path, description = "Name of a followed repository"), ChangeQuery),
    responses((status = 200, body = Listed<Change>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(query): Asked<ChangeQuery>,
) -> Result<Json<Listed<Change>>, Failure> {
    let wanted = |name| ChangeFilter::parse(name).ok_or_else(|| nonsense(format!("`{name}` is no state of a change")));
    let filter = query.state.as_deref().map(wanted).transpose()?;
    let limit = limit(query.limit);
    let rows = changes::change_list(&app.installation, &who.caller, &project, filter, query.cursor, limit).await?;
    let listed = Listed::read(rows, limit, |row| row.number.to_string());
    Ok(Json(Listed { items: listed.items.into_iter().filter_map(change).collect(), next: listed.next }))
}

/// One change.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/changes/{number}", tag = "changes", operation_id = "change_get",
    params(
        ("project" = String, Path, description = "Name of a followed repository"),
        ("number" = u64, Path, description = "As the forge numbers it"),
    ),
    responses((status = 200, body = Change)),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, number)): Path<(String, u64)>,
) -> Result<Json<Change>, Failure> {
    let row = changes::change_show(&app.installation, &who.caller, &project, number).await?;
    let found = change(row).ok_or_else(|| windlass_app::caller::not_found("change", &number.to_string()))?;
    Ok(Json(found))
}

/// An environment, and the commits that its stacks were applied from.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Environment {
    pub name: String,
    /// The newest apply first.
    pub runs: Vec<RunsCommit>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RunsCommit {
    pub commit: String,
    /// Instances that were applied last from it.
    pub instances: Vec<String>,
    /// When the last of them was; microseconds since 1970, UTC.
    pub applied_at: i64,
}

/// What every environment runs. One in which nothing was applied from here is not there.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/environments", tag = "changes", operation_id = "environment_list",
    params(("project" = String, Path, description = "Name of a followed repository")),
    responses((status = 200, body = Vec<Environment>)),
)]
pub async fn environments(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
) -> Result<Json<Vec<Environment>>, Failure> {
    let found = changes::environment_list(&app.installation, &who.caller, &project).await?;
    let runs = |one: changes::RunsCommit| RunsCommit {
        commit: one.commit,
        instances: one.instances.iter().map(ToString::to_string).collect(),
        applied_at: one.at,
    };
    let all =
        found.into_iter().map(|(name, commits)| Environment { name, runs: commits.into_iter().map(runs).collect() });
    Ok(Json(all.collect()))
}
