//! Deliveries of forges: a repository is fetched, and a change looked at, sooner.

use crate::limits::{Address, WEBHOOKS, too_often};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::sync::Arc;
use windlass_app::changes;
use windlass_app::error::{AppError, ErrorKind, internal};
use windlass_app::repositories::{Repository, webhook_matches};
use windlass_app::sessions::digest;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::POST, WEBHOOKS, Guard::Public, post(deliver))
}

/// Tickets of deliveries that came, and how long they are remembered, µs: forges repeat them for hours.
const SEEN: &str = "webhook";
const REMEMBERED: Micros = 3 * 24 * 3600 * 1_000_000;

/// How forges number their deliveries.
const DELIVERY: [&str; 6] = [
    "x-github-delivery",
    "x-gitea-delivery",
    "x-forgejo-delivery",
    "x-gitlab-event-uuid",
    "x-request-uuid",
    "x-windlass-delivery",
];

/// Takes a delivery that one of our secrets signed; what it is about is not told.
async fn deliver(
    State(app): State<Arc<App>>,
    Extension(address): Extension<Address>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // It was read before, and was not too long.
    let body = to_bytes(body, app.limits.webhook).await.map_err(internal)?;
    let followed = &app.installation.followed;
    let repositories: Vec<Repository> = followed.list().into_iter().map(|(repository, _)| repository).collect();
    let trusted = app.trusted();
    let secrets: Vec<&[u8]> = trusted.webhook_secrets.iter().map(Vec::as_slice).collect();
    let Some(delivered) = webhook_matches(header, &body, &secrets, &repositories) else {
        if let Err(seconds) = app.limits.wrong.pass(address.0) {
            return Ok(too_often(seconds));
        }
        let diagnostic = Diagnostic::error("WL863", "this delivery is signed with none of the server's secrets");
        let diagnostic = diagnostic.help("give the forge the secret of a file that `webhook_secrets` names");
        return Err(AppError::new(ErrorKind::Unauthenticated, diagnostic).into());
    };
    if let Some(id) = DELIVERY.into_iter().find_map(header) {
        let store = &app.installation.common.store;
        if !store.ticket_put(SEEN, &digest(id), "", store.now().await? + REMEMBERED).await? {
            return Ok(StatusCode::ACCEPTED.into_response());
        }
    }
    for name in delivered.repositories {
        let store = app.installation.common.store.of_project(&name);
        let has_forge = repositories.iter().any(|repository| repository.name == name && repository.forge.is_some());
        let change = delivered.change.filter(|_| has_forge);
        if change.is_some() && changes::is_our_own(&store, delivered.by.as_deref()).await? {
            continue;
        }
        tracing::info!(repository = name, "a webhook says that it moved");
        followed.poke(&name);
        if let Some(number) = change {
            store.change_due(number, None).await.map_err(AppError::from)?;
        }
    }
    Ok(StatusCode::ACCEPTED.into_response())
}
