//! Sign-in by a provider or by a one-time link, and sign-out.

use crate::authentication::{Correlation, Who, cookie, cookie_name, csrf};
use crate::limits::Address;
use crate::pages::sign_in::{Problem, Provider as Choice, SignIn};
use crate::pages::{Frame, Section};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;
use windlass_app::error::{AppError, ErrorKind, internal};
use windlass_app::sessions::{self, PENDING_TIME, Pending, Way};
use windlass_connect::IdentityError;
use windlass_connect::oidc::{Callback, Provider};
use windlass_model::approval::Actor;
use windlass_store::Store;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/sign-in", Guard::Public, get(choose))
        .add(Method::POST, "/sign-in", Guard::Public, post(begin))
        .add(Method::GET, "/sign-in/link/{secret}", Guard::Public, get(link))
        .add(Method::POST, "/sign-in/link/{secret}", Guard::Public, post(link_use))
        .add(Method::GET, "/sign-in/{provider}/callback", Guard::Public, get(callback))
        .add(Method::POST, "/sign-out", Guard::Public, post(sign_out))
}

/// How long browsers keep the cookie of a session; how long it is good, the server decides. Seconds.
const KEEP: i64 = 7 * 24 * 3600;

/// All but what needs no encoding anywhere in an address (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path of this server to go to, whatever was asked for.
fn own(next: &str) -> &str {
    // What browsers read as another host: `//host`, `/\host`, and both with tabs and line ends, which they leave out.
    let rest = next.strip_prefix('/').filter(|rest| !rest.starts_with(['/', '\\']));
    let is_plain = next.len() <= 2048 && next.bytes().all(|byte| byte.is_ascii_graphic());
    let leads_back = rest.is_some_and(|rest| rest.starts_with("sign-in") || rest.starts_with("sign-out"));
    if rest.is_some() && is_plain && !leads_back { next } else { "/" }
}

/// A line that has the browser keep `value`, or forget it where it is empty; scripts cannot read it.
fn set_cookie(app: &App, name: &str, value: &str, seconds: i64) -> Result<(HeaderName, HeaderValue), Failure> {
    let secure = if app.is_secure() { "; Secure" } else { "" };
    let line = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    Ok((header::SET_COOKIE, line.parse().map_err(internal)?))
}

/// The cookie of a sign-in that is under way.
fn pending_name(app: &App) -> String {
    format!("{}-sign-in", cookie_name(app))
}

/// For what is recorded of a request.
fn store(app: &App, correlation: &Correlation) -> Store {
    app.installation.common.store.of_project("").correlated(&correlation.0)
}

fn frame(who: Option<&Who>) -> Frame {
    Frame {
        user: who.map(|who| who.caller.actor.name.clone()).unwrap_or_default(),
        csrf: who.map(|who| who.csrf.clone()).unwrap_or_default(),
        section: Section::Outside,
        projects: Vec::new(),
        project: String::new(),
        notice: String::new(),
    }
}

fn html(status: StatusCode, text: String) -> Response {
    let mut response = (status, Html(text)).into_response();
    // As everywhere, but the form of a provider leads to it, and from there wherever it sends people.
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                  frame-ancestors 'none'; base-uri 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

fn page(app: &App, who: Option<&Who>, status: StatusCode, next: &str, problem: Option<Problem>) -> Response {
    let choice = |provider: &Arc<Provider>| Choice { id: provider.name().into(), name: provider.name().into() };
    let providers = app.trusted().providers.iter().map(choice).collect();
    let page = SignIn { providers, next: own(next).into(), problem };
    html(status, crate::pages::sign_in::render(&frame(who), &page))
}

fn too_often(app: &App, who: Option<&Who>, next: &str, seconds: u64) -> Response {
    let mut response = page(app, who, StatusCode::TOO_MANY_REQUESTS, next, Some(Problem::TooOften(seconds)));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    #[serde(default)]
    next: String,
    /// `ended` or `signed-out`.
    #[serde(default)]
    because: String,
}

/// The providers to choose from.
async fn choose(State(app): State<Arc<App>>, who: Option<Who>, Query(wanted): Query<Wanted>) -> Response {
    let problem = match wanted.because.as_str() {
        "ended" => Some(Problem::SessionEnded),
        "signed-out" => Some(Problem::SignedOut),
        _ => None,
    };
    page(&app, who.as_ref(), StatusCode::OK, &wanted.next, problem)
}

#[derive(Debug, Deserialize)]
struct Chosen {
    provider: String,
    #[serde(default)]
    next: String,
}

/// Sends the browser to a provider.
async fn begin(
    State(app): State<Arc<App>>,
    who: Option<Who>,
    Extension(address): Extension<Address>,
    Extension(correlation): Extension<Correlation>,
    headers: HeaderMap,
    Form(chosen): Form<Chosen>,
) -> Result<Response, Failure> {
    csrf::check_site(&headers, &app.url)?;
    let next = own(&chosen.next);
    if let Err(seconds) = app.limits.sign_in.pass(address.0) {
        return Ok(too_often(&app, who.as_ref(), next, seconds));
    }
    let Some(provider) = app.trusted().providers.iter().find(|provider| provider.name() == chosen.provider).cloned()
    else {
        return Err(windlass_app::caller::not_found("provider", &chosen.provider).into());
    };
    let store = store(&app, &correlation);
    let (now, redirect) = (store.now().await?, redirect(&app, &provider));
    let asked = {
        let provider = provider.clone();
        tokio::task::spawn_blocking(move || provider.authorise(&redirect, now)).await.map_err(internal)?
    };
    match asked {
        Ok(authorisation) => {
            let mut answer = Redirect::to(&authorisation.url).into_response();
            let pending = Pending { provider: provider.name().into(), next: next.into(), authorisation };
            let browser = sessions::sign_in_begin(&store, pending).await?;
            let (name, value) = set_cookie(&app, &pending_name(&app), &browser, PENDING_TIME / 1_000_000)?;
            answer.headers_mut().insert(name, value);
            Ok(answer)
        }
        Err(error) => {
            let way = Way { how: &format!("oidc:{}", provider.name()), address: address.0 };
            refuse(&app, who.as_ref(), &store, way, next, &error).await
        }
    }
}

/// The address that is registered at the provider.
fn redirect(app: &App, provider: &Provider) -> String {
    format!("{}/sign-in/{}/callback", app.url, utf8_percent_encode(provider.name(), ENCODED))
}

/// Who did not get in is told why, and so is the record.
async fn refuse(
    app: &App,
    who: Option<&Who>,
    store: &Store,
    way: Way<'_>,
    next: &str,
    error: &IdentityError,
) -> Result<Response, Failure> {
    tracing::warn!(code = error.code(), address = %way.address, how = way.how, "sign-in refused: {error}");
    sessions::sign_in_refused(store, way, &error.to_string()).await?;
    let status = if error.retryable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
    Ok(page(app, who, status, next, Some(Problem::Refused(error.to_string()))))
}

/// Where a provider sends people back to.
async fn callback(
    State(app): State<Arc<App>>,
    who: Option<Who>,
    Extension(address): Extension<Address>,
    Extension(correlation): Extension<Correlation>,
    Path(name): Path<String>,
    headers: HeaderMap,
    query: Result<Query<Callback>, QueryRejection>,
) -> Result<Response, Failure> {
    if let Err(seconds) = app.limits.sign_in.pass(address.0) {
        return Ok(too_often(&app, who.as_ref(), "", seconds));
    }
    let Some(provider) = app.trusted().providers.iter().find(|provider| provider.name() == name).cloned() else {
        return Err(windlass_app::caller::not_found("provider", &name).into());
    };
    let store = store(&app, &correlation);
    let how = format!("oidc:{name}");
    let way = Way { how: &how, address: address.0 };
    let callback = query.map(|Query(callback)| callback).unwrap_or_default();
    let pending = match (&callback.state, cookie(&headers, &pending_name(&app))) {
        (Some(state), Some(browser)) => sessions::sign_in_take(&store, state, browser).await?,
        _ => None,
    };
    let Some(pending) = pending.filter(|pending| pending.provider == name) else {
        let problem = "it was answered before, it took too long, or another browser began it".into();
        let error = IdentityError::State { provider: name.clone(), problem };
        return refuse(&app, who.as_ref(), &store, way, "", &error).await;
    };
    let (now, redirect, next) = (store.now().await?, redirect(&app, &provider), pending.next);
    let exchange = move || {
        let begun = pending.authorisation;
        let code = provider.code(&callback, &begun.state)?;
        provider.exchange(&code, &begun.pkce_verifier, &begun.nonce, &redirect, now)
    };
    match tokio::task::spawn_blocking(exchange).await.map_err(internal)? {
        Ok(identity) => enter(&app, &headers, &store, &identity.actor(), way, &next).await,
        Err(error) => refuse(&app, who.as_ref(), &store, way, &next, &error).await,
    }
}

/// A new session for this browser, whatever it had before.
async fn enter(
    app: &App,
    headers: &HeaderMap,
    store: &Store,
    actor: &Actor,
    way: Way<'_>,
    next: &str,
) -> Result<Response, Failure> {
    if let Some(old) = cookie(headers, cookie_name(app)) {
        sessions::session_end(store, old).await?;
    }
    let secret = sessions::session_create(store, actor, way).await?;
    let mut response = Redirect::to(own(next)).into_response();
    for (name, value) in
        [set_cookie(app, cookie_name(app), &secret, KEEP)?, set_cookie(app, &pending_name(app), "", 0)?]
    {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

#[derive(Template)]
#[template(path = "sign_in_link.html")]
struct LinkPage<'a> {
    frame: &'a Frame,
}

/// A button. What only looks at an address, such as the preview of a chat, does not use it up.
async fn link(who: Option<Who>) -> Result<Response, Failure> {
    let text = LinkPage { frame: &frame(who.as_ref()) }.render().map_err(internal)?;
    Ok(html(StatusCode::OK, text))
}

/// Signs in whoever has the link, once.
async fn link_use(
    State(app): State<Arc<App>>,
    who: Option<Who>,
    Extension(address): Extension<Address>,
    Extension(correlation): Extension<Correlation>,
    Path(secret): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    csrf::check_site(&headers, &app.url)?;
    if let Err(seconds) = app.limits.sign_in.pass(address.0) {
        return Ok(too_often(&app, who.as_ref(), "", seconds));
    }
    let store = store(&app, &correlation);
    let way = Way { how: "link", address: address.0 };
    match sessions::link_take(&store, &secret).await? {
        Some(actor) => enter(&app, &headers, &store, &actor, way, "/").await,
        None => {
            sessions::sign_in_refused(&store, way, "the link was used before, is too old, or never was one").await?;
            Ok(page(&app, who.as_ref(), StatusCode::GONE, "", Some(Problem::LinkExpired)))
        }
    }
}

/// Ends the session.
async fn sign_out(
    State(app): State<Arc<App>>,
    who: Option<Who>,
    headers: HeaderMap,
    Extension(correlation): Extension<Correlation>,
) -> Result<Response, Failure> {
    // Also without a session: the cookie of one, which browsers do not send along from other sites, would be forgotten.
    csrf::check_site(&headers, &app.url)?;
    let session = cookie(&headers, cookie_name(&app));
    // A token is no session; its request may carry the cookie of one that nobody showed to be meant.
    if let Some(secret) = session.filter(|_| who.is_some_and(|who| who.caller.token.is_none())) {
        sessions::session_end(&store(&app, &correlation), secret).await?;
    }
    let mut response = Redirect::to("/sign-in?because=signed-out").into_response();
    let (name, value) = set_cookie(&app, cookie_name(&app), "", 0)?;
    response.headers_mut().insert(name, value);
    Ok(response)
}

/// What became of a token or of a provider, as an error of a use case.
pub fn identity_error(error: &IdentityError) -> AppError {
    let kind = if error.retryable() { ErrorKind::Unavailable } else { ErrorKind::Unauthenticated };
    AppError::new(kind, error.diagnostic())
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn only_paths_of_our_own_are_gone_to() {
        let check = |next: &str, want: &str| assert_eq!(own(next), want, "{next:?}");
        for path in ["/", "/reviews/01k9?tab=a%2Fb#x", "/stacks//x"] {
            check(path, path);
        }
        for other in [
            "",
            "reviews",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "\t//evil.example",
            "/x\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            "/sign-in?next=/sign-in",
            "/sign-out",
            "/ü",
            &format!("/{}", "x".repeat(2048)),
        ] {
            check(other, "/");
        }
    }
}
