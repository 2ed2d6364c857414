//! Endpoints. There is no way to add one without saying who may use it.

use crate::authentication::{Who, identify};
use crate::problem::Failure;
use crate::state::App;
use axum::Router;
use axum::extract::{RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use windlass_model::access::{Permission, Subject};

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// Everybody who reaches the server.
    Public,
    /// Everybody who is signed in; what they see is what they may read.
    SignedIn,
    /// Who has the permission for the server.
    Server(Permission),
    /// Who has the permission in the project that the path names as `{project}`.
    Project(Permission),
    /// Whoever the use case lets: it asks for the permission on what the request is about.
    Within(Permission),
}

/// An endpoint, for documents and tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    pub method: String,
    pub path: &'static str,
    pub guard: Guard,
    /// It takes an `Idempotency-Key`.
    pub once: bool,
}

pub struct Routes {
    app: Arc<App>,
    router: Router<Arc<App>>,
    table: Vec<Endpoint>,
}

impl Routes {
    pub fn new(app: Arc<App>) -> Self {
        Self { app, router: Router::new(), table: Vec::new() }
    }

    /// Adds `handler` (of that method alone) under `path`.
    #[must_use]
    pub fn add(mut self, method: Method, path: &'static str, guard: Guard, handler: MethodRouter<Arc<App>>) -> Self {
        self.table.push(Endpoint { method: method.to_string(), path, guard, once: false });
        let check = from_fn_with_state((self.app.clone(), guard), check);
        self.router = self.router.route(path, handler.route_layer(check));
        self
    }

    /// As [`Routes::add`], for a POST that starts something: with an `Idempotency-Key` it is done once.
    #[must_use]
    pub fn once(mut self, path: &'static str, guard: Guard, handler: MethodRouter<Arc<App>>) -> Self {
        let handler = handler.route_layer(from_fn_with_state(self.app.clone(), crate::idempotency::once));
        self = self.add(Method::POST, path, guard, handler);
        if let Some(endpoint) = self.table.last_mut() {
            endpoint.once = true;
        }
        self
    }

    /// What was added, in order.
    pub fn table(&self) -> &[Endpoint] {
        &self.table
    }

    /// The whole service.
    pub fn into_router(self) -> Router {
        let app = self.app;
        // Inside, errors become pages of somebody who is signed in; outside, those of `identify` itself.
        self.router
            .fallback(crate::problem::nowhere)
            .layer(from_fn_with_state(app.clone(), crate::problem::pages))
            .layer(from_fn_with_state(app.clone(), identify))
            .layer(from_fn_with_state(app.clone(), crate::problem::pages))
            .layer(from_fn(crate::authentication::harden))
            .with_state(app)
    }
}

/// How much of a request that is refused is read, bytes.
const UNREAD: usize = 1 << 16;

/// Lets the request through when the guard does.
async fn check(
    State((app, guard)): State<(Arc<App>, Guard)>,
    parameters: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    crate::telemetry::note(&request);
    let who = request.extensions().get::<Who>().cloned();
    let allowed = async {
        let Some(who) = who else {
            return match guard {
                Guard::Public => Ok(()),
                _ => Err(crate::authentication::unknown()),
            };
        };
        match guard {
            Guard::Public | Guard::SignedIn | Guard::Within(_) => Ok(()),
            Guard::Server(permission) => who.caller.must(&app.installation, permission, &Subject::server()).await,
            Guard::Project(permission) => {
                let project = parameters.iter().find(|(name, _)| *name == "project").map_or("", |(_, value)| value);
                who.caller.must(&app.installation, permission, &Subject::project(project)).await
            }
        }
    };
    match allowed.await {
        Ok(()) => next.run(request).await,
        Err(error) => {
            // A connection with unread bytes is closed, which takes the next request of its client by surprise.
            let rest = axum::body::to_bytes(request.into_body(), UNREAD);
            let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
            Failure(error).into_response()
        }
    }
}
