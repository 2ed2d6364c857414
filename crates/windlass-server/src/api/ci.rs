//! Jobs of a CI get a token of ours for the identity token that their CI gives them.

use super::Body;
use crate::authentication::Correlation;
use crate::limits::{Address, too_often};
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::error::internal;
use windlass_app::sessions::{self, Way};
use windlass_app::tokens;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::POST, "/api/v1/ci/exchange", Guard::Public, post(exchange))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct Exchange {
    /// The identity token of the CI, made for the audience that the server's settings say.
    token: String,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Exchanged {
    /// For `Authorization: Bearer …`.
    token: String,
    /// Microseconds since 1970, UTC.
    expires_at: i64,
}

/// Exchanges the identity token of a CI job, once, for a token of this server that is good for an hour.
#[utoipa::path(
    post, path = "/api/v1/ci/exchange", tag = "tokens", operation_id = "ci_exchange", request_body = Exchange,
    responses((status = 200, body = Exchanged), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn exchange(
    State(app): State<Arc<App>>,
    Extension(address): Extension<Address>,
    Extension(correlation): Extension<Correlation>,
    Body(request): Body<Exchange>,
) -> Result<Response, Failure> {
    if let Err(seconds) = app.limits.sign_in.pass(address.0) {
        return Ok(too_often(seconds));
    }
    let store = app.installation.common.store.of_project("").correlated(&correlation.0);
    let (issuers, now) = (app.trusted().issuers.clone(), store.now().await?);
    let verify = move || issuers.verify(&request.token, now);
    let verified = tokio::task::spawn_blocking(verify).await.map_err(internal)?;
    let exchanged = match verified.map_err(|error| crate::sign_in::identity_error(&error)) {
        Ok(workload) => tokens::token_exchange(&store, &workload).await,
        Err(error) => Err(error),
    };
    match exchanged {
        Ok((token, expires_at)) => Ok(Json(Exchanged { token, expires_at }).into_response()),
        Err(error) => {
            let way = Way { how: "ci", address: address.0 };
            sessions::sign_in_refused(&store, way, &error.to_string()).await?;
            Err(Failure(error))
        }
    }
}
