//! Deliveries to triggers of operations.

use crate::limits::{Address, too_often};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::sync::Arc;
use windlass_app::error::{ErrorKind, internal};
use windlass_app::triggers::{Delivery, deliver};

pub fn routes(routes: Routes) -> Routes {
    let path = "/hooks/operations/{project}/{operation}/{trigger}";
    routes.add(Method::POST, path, Guard::Public, post(received))
}

/// Takes a delivery that the key of the trigger signed.
async fn received(
    State(app): State<Arc<App>>,
    Extension(address): Extension<Address>,
    Path((project, operation, trigger)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    // It was read before, and was not too long.
    let body = to_bytes(body, app.limits.webhook).await.map_err(internal)?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let delivery =
        Delivery { project: &project, operation: &operation, trigger: &trigger, header: &header, body: &body };
    match deliver(&app.installation, &delivery).await {
        Ok(delivered) => {
            tracing::info!(
                project,
                operation,
                trigger,
                accepted = delivered.accepted,
                known = delivered.known,
                "a delivery"
            );
            Ok((StatusCode::ACCEPTED, axum::Json(delivered)).into_response())
        }
        Err(error) if error.kind == ErrorKind::Unauthenticated => {
            if let Err(seconds) = app.limits.wrong.pass(address.0) {
                return Ok(too_often(seconds));
            }
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}
