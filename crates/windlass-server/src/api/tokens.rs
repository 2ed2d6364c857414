//! API tokens.

use super::{Asked, Body, Listed};
use crate::authentication::{Who, bearer};
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use windlass_app::error::internal;
use windlass_app::tokens::{self, NewToken, Record};
use windlass_model::access::{Permission, TokenScope};
use windlass_store::TokenRow;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/api/v1/tokens", Guard::SignedIn, get(list))
        .add(Method::POST, "/api/v1/tokens", Guard::Within(Permission::TokenOwn), post(create))
        .add(Method::DELETE, "/api/v1/tokens/this", Guard::SignedIn, delete(end))
        .add(Method::DELETE, "/api/v1/tokens/{id}", Guard::SignedIn, delete(revoke))
}

/// What a token is limited to, of what its owner may do.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Scope {
    /// `null`: everything.
    #[schema(value_type = Option<Vec<String>>)]
    pub permissions: Option<BTreeSet<Permission>>,
    /// `null`: all projects, and what is of the server.
    pub projects: Option<BTreeSet<String>>,
}

impl From<TokenScope> for Scope {
    fn from(scope: TokenScope) -> Self {
        Self { permissions: scope.permissions, projects: scope.projects }
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Token {
    pub id: String,
    pub name: String,
    /// Who made it.
    pub owner: String,
    #[serde(flatten)]
    pub scope: Scope,
    /// Microseconds since 1970, UTC; so are the others.
    pub created_at: i64,
    pub expires_at: i64,
    /// To the minute; `null` when it never was.
    pub used_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

pub(super) fn token(row: TokenRow) -> Result<Token, Failure> {
    let record: Record = serde_json::from_str(&row.record).map_err(internal)?;
    let TokenRow { id, name, owner, created_at, expires_at, used_at, revoked_at, .. } = row;
    Ok(Token { id, name, owner, scope: record.scope.into(), created_at, expires_at, used_at, revoked_at })
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// Everybody's, for who has `token.manage`.
    #[serde(default)]
    everybody: bool,
}

/// One's own tokens, or everybody's; newest first, with those that are not good any more.
#[utoipa::path(
    get, path = "/api/v1/tokens", tag = "tokens", operation_id = "token_list", params(TokenQuery),
    responses((status = 200, body = Listed<Token>), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Asked(query): Asked<TokenQuery>,
) -> Result<Json<Listed<Token>>, Failure> {
    let rows = tokens::token_list(&app.installation, &who.caller, query.everybody).await?;
    Ok(Json(Listed { items: rows.into_iter().map(token).collect::<Result<_, _>>()?, next: None }))
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is for.
    name: String,
    /// Names of permissions; without it, everything that its owner may do.
    #[schema(value_type = Option<Vec<String>>)]
    permissions: Option<BTreeSet<Permission>>,
    /// Names of projects; without it, all of them and what is of the server.
    projects: Option<BTreeSet<String>>,
    /// How long it is good, from 1 to 365; 30 otherwise.
    days: Option<u32>,
}

/// A new token, with its secret this once.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Made {
    #[serde(flatten)]
    pub token: Token,
    /// For `Authorization: Bearer …`. It cannot be shown again.
    pub secret: String,
}

/// Makes a token; in person only.
#[utoipa::path(
    post, path = "/api/v1/tokens", tag = "tokens", operation_id = "token_create", request_body = TokenRequest,
    responses((status = 201, body = Made), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    who: Who,
    Body(request): Body<TokenRequest>,
) -> Result<(StatusCode, Json<Made>), Failure> {
    let TokenRequest { name, permissions, projects, days } = request;
    let scope = TokenScope { permissions, projects };
    let new = NewToken { name, scope, days: days.unwrap_or(tokens::DAYS) };
    let (row, secret) = tokens::token_create(&app.installation, &who.caller, &new).await?;
    Ok((StatusCode::CREATED, Json(Made { token: token(row)?, secret })))
}

/// Ends a token of one's own; of anybody, for who has `token.manage`.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{id}", tag = "tokens", operation_id = "token_revoke",
    params(("id" = String, Path, description = "As the list has it")),
    responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn revoke(State(app): State<Arc<App>>, who: Who, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    tokens::token_revoke(&app.installation, &who.caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends the very token that is used, whatever it is limited to.
#[utoipa::path(
    delete, path = "/api/v1/tokens/this", tag = "tokens", operation_id = "token_end",
    responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn end(State(app): State<Arc<App>>, who: Who, headers: HeaderMap) -> Result<StatusCode, Failure> {
    tokens::token_end(&app.installation, &who.caller, bearer(&headers).unwrap_or_default()).await?;
    Ok(StatusCode::NO_CONTENT)
}
