//! Why somebody may, or may not.

use super::{Asked, nonsense, of_model};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::Method;
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use windlass_app::{access, requests};
use windlass_model::access::Permission;
use windlass_model::approval::Actor;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/api/v1/access/explain", Guard::SignedIn, get(explain))
}

of_model! {
    /// Whether it is allowed and because of what, as `windlass access explain --json` has it.
    Explained(access::Explained);
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// e.g. `review.apply`.
    permission: String,
    /// Name of a followed repository; needed for what is not of the server.
    project: Option<String>,
    /// Stacks or instances, with commas between them; the project as a whole without any.
    stacks: Option<String>,
    /// Identities of somebody else, with commas between them, e.g. `email:anna@example.com,oidc-group:sre`. Needs `audit.read`.
    actor: Option<String>,
}

/// The parts of a list with commas.
fn parts(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Why you, or somebody else, may or may not do something.
#[utoipa::path(
    get, path = "/api/v1/access/explain", tag = "access", operation_id = "access_explain", params(ExplainQuery),
    responses((status = 200, body = Explained)),
)]
pub async fn explain(
    State(app): State<Arc<App>>,
    who: Who,
    Asked(query): Asked<ExplainQuery>,
) -> Result<Json<Explained>, Failure> {
    let permission = Permission::parse(&query.permission)
        .ok_or_else(|| nonsense(format!("there is no permission `{}`", query.permission)))?;
    let identities = parts(query.actor.as_deref());
    let name =
        identities.first().map(|first| first.split_once(':').map_or(first.as_str(), |(_, name)| name).to_owned());
    let other = name.map(|name| Actor { name, identities, verified: true });
    let (project, stacks) = (query.project.as_deref(), parts(query.stacks.as_deref()));
    let explained =
        requests::explain::explain(&app.installation, &who.caller, other, permission, project, &stacks).await?;
    Ok(Json(Explained(explained)))
}
