//! The JSON API, below `/api/v1`. A handler reads the request, calls one use case and writes the answer; nothing is decided here.

mod ci;
mod me;
mod runs;
mod tokens;

use crate::routes::Routes;

/// All endpoints of the API.
pub fn routes(routes: Routes) -> Routes {
    tokens::routes(me::routes(ci::routes(runs::routes(routes))))
}

/// How many things a page of a list has when it is not said, and at most.
const PAGE: u32 = 50;
const PAGE_MOST: u32 = 500;

/// How a list is read on.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// `cursor` of the next page; `null` at the end.
    pub next: Option<String>,
}
