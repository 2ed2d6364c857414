//! Who asks.

use crate::authentication::Who;
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::Method;
use axum::routing::get;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::sessions;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/me", Guard::SignedIn, get(me))
}

/// Who is signed in, or whose token it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Me {
    /// As it stands in the record.
    pub name: String,
    /// As teams name their members.
    pub identities: Vec<String>,
    /// What the token that is used is limited to; `null` in a session.
    pub token: Option<super::tokens::Scope>,
    /// The teams that this is a member of, by project; those projects alone that may be seen.
    pub teams: BTreeMap<String, Vec<String>>,
}

/// Who asks, as the server knows them.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "tokens", operation_id = "me",
    responses((status = 200, body = Me), (status = "default", body = Problem, content_type = "application/problem+json")),
)]
pub async fn me(State(app): State<Arc<App>>, who: Who) -> Result<Json<Me>, Failure> {
    let teams = sessions::teams(&app.installation, &who.caller).await?;
    let actor = who.caller.actor;
    Ok(Json(Me { name: actor.name, identities: actor.identities, token: who.caller.token.map(Into::into), teams }))
}
