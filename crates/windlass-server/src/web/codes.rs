//! What diagnostics mean, for everybody: problem documents name these addresses as their types.

use super::Page;
use crate::authentication::Who;
use crate::pages::Frame;
use crate::pages::code::{Code, render, render_list};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::Html;
use axum::routing::get;
use std::sync::Arc;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/codes", Guard::Public, get(list)).add(
        Method::GET,
        "/codes/{code}",
        Guard::Public,
        get(one),
    )
}

async fn around(app: &App, who: Option<&Who>) -> Result<Frame, Failure> {
    match who {
        Some(who) => Ok(super::frame(app, who, "").await?),
        None => Ok(Frame::outside()),
    }
}

async fn list(State(app): State<Arc<App>>, who: Option<Who>) -> Page {
    Ok(Html(render_list(&around(&app, who.as_ref()).await?)))
}

async fn one(State(app): State<Arc<App>>, Path(code): Path<String>, who: Option<Who>) -> Page {
    let Some(page) = Code::of(&code) else {
        return Err(Failure(windlass_app::caller::not_found("code", &code)));
    };
    Ok(Html(render(&around(&app, who.as_ref()).await?, &page)))
}
