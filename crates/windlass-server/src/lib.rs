//! The service: JSON API, pages, event streams, sign-in and metrics over the use cases.

pub mod api;
mod authentication;
mod health;
mod hooks;
mod idempotency;
mod limits;
mod metrics;
pub mod pages;
mod problem;
mod routes;
mod sign_in;
mod state;
pub mod streams;
mod telemetry;
mod web;
mod webhooks;

pub use authentication::Who;
pub use limits::Limits;
pub use problem::{Failure, Problem};
pub use routes::{Endpoint, Guard, Routes};
pub use state::{App, Trusted};

use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long requests under way may take to end when the server stops.
const PATIENCE: Duration = Duration::from_secs(10);

/// All endpoints of the service, each with who may use it.
pub fn routes(app: &Arc<App>) -> Routes {
    let routes = api::routes(Routes::new(app.clone()));
    let routes = hooks::routes(webhooks::routes(sign_in::routes(routes)));
    web::routes(metrics::routes(health::routes(routes)))
}

/// Answers requests until `stop` is cancelled; streams end then, and other requests under way may, for some seconds.
///
/// # Errors
/// The listener failed.
pub async fn serve(app: Arc<App>, listener: tokio::net::TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let sweep = tokio::spawn(windlass_app::sessions::sweep(app.installation.common.store.clone(), stop.clone()));
    let router = telemetry::around(routes(&app).into_router(), &Arc::default());
    let router = router.layer(axum::Extension(streams::Stop(stop.clone())));
    let served = limits::serve(router, listener, stop.clone(), &app.limits);
    tokio::select! {
        () = served => {}
        // Somebody who does not read what they asked for does not keep the server.
        () = async { stop.cancelled().await; tokio::time::sleep(PATIENCE).await } => {}
    }
    sweep.await.map_err(std::io::Error::other)
}
