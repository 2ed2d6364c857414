//! `GET /healthz` and `GET /readyz`, for whatever starts and stops servers.

use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/healthz", Guard::Public, get(healthz)).add(
        Method::GET,
        "/readyz",
        Guard::Public,
        get(readyz),
    )
}

/// The process lives: nothing else is asked, so that a database that is away restarts no server.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests should come here; what is missing when not.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let ready = windlass_app::health::ready(&app.installation).await;
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ready)).into_response()
}
