//! The page on which somebody gives a terminal a token of theirs.

use super::{Asked, Sent, lead};
use crate::limits::{Address, too_often};
use crate::pages::common::Moment;
use crate::pages::terminal::{self, Terminal};
use crate::pages::{Section, terminal::Asked as Wanted};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::{Extension, State};
use axum::http::{Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use windlass_app::error::ErrorKind;
use windlass_app::logins::{self, Login};
use windlass_model::Micros;
use windlass_model::access::Permission;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/terminal", Guard::SignedIn, get(show))
        .add(Method::POST, "/terminal/approve", Guard::Within(Permission::TokenOwn), post(approve))
        .add(Method::POST, "/terminal/refuse", Guard::SignedIn, post(refuse))
}

fn wanted(login: Login, until: Micros, now: Micros) -> Wanted {
    Wanted {
        host: login.host,
        address: login.address.to_string(),
        may: login.scope.permissions.iter().flatten().map(ToString::to_string).collect(),
        only: login.scope.projects.into_iter().flatten().collect(),
        days: login.days,
        until: Moment::new(until, now),
    }
}

async fn show(
    State(app): State<Arc<App>>,
    Extension(address): Extension<Address>,
    asked: Asked,
) -> Result<Response, Failure> {
    let mut page = Terminal { code: asked.query.one("code").trim().to_owned(), ..Terminal::default() };
    let mut status = StatusCode::OK;
    if !page.code.is_empty() {
        // Codes are short: they are not to be tried out.
        if let Err(seconds) = app.limits.sign_in.pass(address.0) {
            return Ok(too_often(seconds));
        }
        match logins::login_show(&app.installation, &asked.who.caller, &page.code).await {
            Ok((login, until)) => page.asked = Some(wanted(login, until, asked.now)),
            Err(error) if error.kind == ErrorKind::NotFound => {
                status = StatusCode::NOT_FOUND;
                let help = error.diagnostics.first().and_then(|diagnostic| diagnostic.help.clone());
                page.problem = Some(format!("{error}: {}", help.unwrap_or_default()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((status, Html(terminal::render(&asked.frame(Section::Settings), &page))).into_response())
}

async fn approve(State(app): State<Arc<App>>, Extension(address): Extension<Address>, sent: Sent) -> Response {
    if let Err(seconds) = app.limits.sign_in.pass(address.0) {
        return too_often(seconds);
    }
    let done = logins::login_approve(&app.installation, &sent.who.caller, sent.fields.one("code")).await;
    let done = done.map(|_| lead("/terminal", "given"));
    sent.answer(&app, done).await
}

async fn refuse(State(app): State<Arc<App>>, Extension(address): Extension<Address>, sent: Sent) -> Response {
    if let Err(seconds) = app.limits.sign_in.pass(address.0) {
        return too_often(seconds);
    }
    let done = logins::login_refuse(&app.installation, &sent.who.caller, sent.fields.one("code")).await;
    let done = done.map(|()| lead("/terminal", "denied"));
    sent.answer(&app, done).await
}
