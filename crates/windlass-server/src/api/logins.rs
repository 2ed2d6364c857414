//! Terminals that get a token of somebody who confirms it on a page.

use super::Body;
use super::tokens::{Token, token};
use crate::authentication::Correlation;
use crate::limits::{Address, too_often};
use crate::pages::link;
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::logins::{self, Login};
use windlass_app::tokens::DAYS;
use windlass_model::access::{Permission, TokenScope};

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::POST, "/api/v1/logins", Guard::Public, post(begin)).add(
        Method::POST,
        "/api/v1/logins/poll",
        Guard::Public,
        post(poll),
    )
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// SHA-256 of the token that is to be made, `wlt_` and what follows, in hexadecimal digits: the token itself is not sent.
    digest: String,
    /// What the machine is called, at most 100 bytes.
    host: String,
    /// Names of permissions; without it, everything that its owner may do.
    #[schema(value_type = Option<Vec<String>>)]
    permissions: Option<BTreeSet<Permission>>,
    /// Names of projects; without it, all of them and what is of the server.
    projects: Option<BTreeSet<String>>,
    /// How long the token is to be good, from 1 to 365; 30 otherwise.
    days: Option<u32>,
}

/// What to show to who is to confirm it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LoginBegun {
    /// The page that asks for it shows the same code.
    code: String,
    /// Where it is confirmed.
    url: String,
    /// How often to ask whether it was, seconds.
    interval: u32,
    /// Until when it can be, microseconds since 1970, UTC.
    expires_at: i64,
}

/// Asks for a token that somebody confirms on a page of the server.
#[utoipa::path(
    post, path = "/api/v1/logins", tag = "tokens", operation_id = "login_begin", request_body = LoginRequest,
    responses((status = 201, body = LoginBegun), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn begin(
    State(app): State<Arc<App>>,
    Extension(address): Extension<Address>,
    Extension(correlation): Extension<Correlation>,
    Body(request): Body<LoginRequest>,
) -> Result<Response, Failure> {
    if let Err(seconds) = app.limits.sign_in.pass(address.0) {
        return Ok(too_often(seconds));
    }
    let store = app.installation.common.store.of_project("").correlated(&correlation.0);
    let LoginRequest { digest, host, permissions, projects, days } = request;
    let scope = TokenScope { permissions, projects };
    let login = Login { host, address: address.0, scope, days: days.unwrap_or(DAYS) };
    let (code, expires_at) = logins::login_begin(&store, &digest, login).await?;
    let url = format!("{}{}", app.url, link::query("/terminal", &[("code", &code)]));
    let begun = LoginBegun { code, url, interval: logins::INTERVAL, expires_at };
    Ok((StatusCode::CREATED, Json(begun)).into_response())
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginPoll {
    /// The token whose digest was sent.
    token: String,
}

/// Whether a terminal has its token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LoginAnswer {
    /// `null` while nobody has decided.
    token: Option<Token>,
}

/// Whether it was confirmed; an error when it was refused, or not in time.
#[utoipa::path(
    post, path = "/api/v1/logins/poll", tag = "tokens", operation_id = "login_poll", request_body = LoginPoll,
    responses((status = 200, body = LoginAnswer), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn poll(
    State(app): State<Arc<App>>,
    Extension(address): Extension<Address>,
    Body(request): Body<LoginPoll>,
) -> Result<Response, Failure> {
    match logins::login_poll(&app.installation.common.store, &request.token).await {
        Ok(row) => Ok(Json(LoginAnswer { token: row.map(token).transpose()? }).into_response()),
        Err(error) => {
            // Who asks for what is there is not counted; who guesses is.
            if let Err(seconds) = app.limits.wrong.pass(address.0) {
                return Ok(too_often(seconds));
            }
            Err(Failure(error))
        }
    }
}
