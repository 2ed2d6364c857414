//! The JSON API, below `/api/v1`. A handler reads the request, calls one use case and writes the answer; nothing is decided here.

mod access;
mod audit;
mod ci;
mod events;
mod logins;
mod logs;
mod me;
mod notifiers;
pub mod openapi;
mod operations;
mod projects;
mod request;
mod reviews;
mod runs;
mod schedules;
pub(crate) mod stacks;
mod tokens;
mod workers;

use crate::routes::Routes;
use request::{Asked, Body, Listed, Paged, limit, nonsense};

/// All endpoints of the API.
pub fn routes(routes: Routes) -> Routes {
    let routes = projects::routes(routes);
    let routes = stacks::routes(routes);
    let routes = reviews::routes(routes);
    let routes = runs::routes(routes);
    let routes = schedules::routes(operations::routes(routes));
    let routes = logs::routes(routes);
    let routes = events::routes(routes);
    let routes = access::routes(routes);
    let routes = logins::routes(tokens::routes(me::routes(ci::routes(routes))));
    let routes = notifiers::routes(workers::routes(audit::routes(routes)));
    openapi::routes(routes)
}

/// Values of the model, which programs get as the terminal prints them with `--json`: the model does not know of schemas.
macro_rules! of_model {
    ($($(#[$about:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Object)]
        pub struct $name(pub $inner);
    )*};
}
use of_model;
