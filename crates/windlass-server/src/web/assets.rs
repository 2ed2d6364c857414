//! Scripts, style sheets and the icon.

use crate::pages::assets;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use axum::extract::{Path, Query};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/assets/{name}", Guard::Public, get(asset))
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    v: String,
}

async fn asset(Path(name): Path<String>, Query(version): Query<Version>) -> Result<Response, Failure> {
    let Some((kind, bytes, digest)) = assets::get(&name) else {
        return Err(Failure(windlass_app::caller::not_found("asset", &name)));
    };
    // Another version of the program has other content under the same name.
    let kept = if version.v == digest { "public, max-age=31536000, immutable" } else { "no-cache" };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, kept)], bytes).into_response())
}
