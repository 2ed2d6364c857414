//! The service: JSON API, pages, event streams, sign-in and metrics over the use cases.

pub mod api;
mod authentication;
pub mod pages;
mod problem;
mod routes;
mod state;

pub use authentication::Who;
pub use problem::{Failure, Problem};
pub use routes::{Endpoint, Guard, Routes};
pub use state::App;

use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// All endpoints of the service, each with who may use it.
pub fn routes(app: &Arc<App>) -> Routes {
    api::routes(Routes::new(app.clone()))
}

/// Answers requests until `stop` is cancelled; those under way may end.
///
/// # Errors
/// The listener failed.
pub async fn serve(app: Arc<App>, listener: tokio::net::TcpListener, stop: CancellationToken) -> std::io::Result<()> {
    let router = routes(&app).into_router();
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
