//! Notifiers: where messages go, and how that does.

use super::Listed;
use crate::authentication::Who;
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::notifications::{self, NotifierView};
use windlass_model::access::Permission;
use windlass_store::MessageRow;

pub fn routes(routes: Routes) -> Routes {
    let test = "/api/v1/projects/{project}/notifiers/{name}/test";
    routes
        .add(Method::GET, "/api/v1/projects/{project}/notifiers", Guard::Project(Permission::ProjectRead), get(list))
        .once(test, Guard::Project(Permission::ProjectManage), post(try_out))
}

/// A notifier, without its addresses and secrets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Notifier {
    pub name: String,
    /// `webhook`, `bot`, `email` or `signed`.
    pub channel: String,
    /// Messages that wait.
    pub queued: i64,
    /// Since the beginning.
    pub sent: i64,
    pub given_up: i64,
    /// Attempts that failed, one after another, since the last one that did not.
    pub failures: i64,
    /// Why the last one failed, or a message was given up.
    pub failure: Option<String>,
    /// Microseconds since 1970, UTC; so are the others.
    pub failed_at: Option<i64>,
    pub sent_at: Option<i64>,
    /// When the next attempt may be made, where the last one failed.
    pub next_at: Option<i64>,
    /// The last messages, newest first.
    pub messages: Vec<Message>,
}

/// A message of a notifier.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Message {
    pub title: String,
    pub run: Option<String>,
    /// `queued`, `sent`, `left_out` (something newer about the same was sent) or `given_up`.
    pub state: String,
    /// Attempts to send it.
    pub attempts: i64,
    /// Why it was given up.
    pub reason: Option<String>,
    /// Microseconds since 1970, UTC; so is the other.
    pub created_at: i64,
    pub ended_at: Option<i64>,
}

impl From<MessageRow> for Message {
    fn from(row: MessageRow) -> Self {
        let notice = notifications::notice(&row);
        Self {
            title: notice.as_ref().map(|notice| notice.title.clone()).unwrap_or_default(),
            run: notice.and_then(|notice| notice.run),
            state: row.state.as_str().to_owned(),
            attempts: row.attempts,
            reason: row.reason,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

impl From<NotifierView> for Notifier {
    fn from(view: NotifierView) -> Self {
        let row = view.row.as_ref();
        Self {
            channel: view.channel().to_owned(),
            queued: row.map_or(0, |row| row.queued),
            sent: row.map_or(0, |row| row.sent),
            given_up: row.map_or(0, |row| row.given_up),
            failures: row.map_or(0, |row| row.failures),
            failure: row.and_then(|row| row.failure.clone()),
            failed_at: row.and_then(|row| row.failed_at),
            sent_at: row.and_then(|row| row.sent_at),
            next_at: row.filter(|row| row.failures > 0).map(|row| row.not_before),
            messages: view.messages.into_iter().map(Message::from).collect(),
            name: view.notifier.name,
        }
    }
}

/// The notifiers of a project, with the last messages of each.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/notifiers", tag = "notifiers", operation_id = "notifier_list",
    params(("project" = String, Path, description = "Name of the project")),
    responses((status = 200, body = Listed<Notifier>), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
) -> Result<Json<Listed<Notifier>>, Failure> {
    let found = notifications::notifier_list(&app.installation, &who.caller, &project).await?;
    Ok(Json(Listed { items: found.into_iter().map(Notifier::from).collect(), next: None }))
}

/// Sends a message that says who tries the notifier; what waits there is tried again at once.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/notifiers/{name}/test", tag = "notifiers", operation_id = "notifier_test",
    params(
        ("project" = String, Path, description = "Name of the project"),
        ("name" = String, Path, description = "Name of the notifier"),
    ),
    responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn try_out(
    State(app): State<Arc<App>>,
    who: Who,
    Path((project, name)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    notifications::notifier_test(&app.installation, &who.caller, &project, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
