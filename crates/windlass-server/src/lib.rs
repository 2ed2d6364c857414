//! The service: JSON API, pages, event streams, sign-in and metrics over the use cases.

pub mod api;
mod authentication;
mod limits;
pub mod pages;
mod problem;
mod routes;
mod sign_in;
mod state;
mod webhooks;

pub use authentication::Who;
pub use limits::Limits;
pub use problem::{Failure, Problem};
pub use routes::{Endpoint, Guard, Routes};
pub use state::App;

use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// All endpoints of the service, each with who may use it.
pub fn routes(app: &Arc<App>) -> Routes {
    webhooks::routes(sign_in::routes(api::routes(Routes::new(app.clone()))))
}

/// Answers requests until `stop` is cancelled; those under way may end.
///
/// # Errors
/// The listener failed.
pub async fn serve(app: Arc<App>, listener: tokio::net::TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let sweep = tokio::spawn(windlass_app::sessions::sweep(app.installation.common.store.clone(), stop.clone()));
    limits::serve(routes(&app).into_router(), listener, stop, app.limits.header_time).await;
    sweep.await.map_err(std::io::Error::other)
}
