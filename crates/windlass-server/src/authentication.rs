//! Who asks: a session of a browser, or a token of a program.

use crate::limits::{Address, read, too_often, unbroken};
use crate::problem::Failure;
use crate::state::App;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use windlass_app::caller::Caller;
use windlass_app::error::{AppError, ErrorKind};
use windlass_app::{sessions, tokens};
use windlass_model::diagnostic::Diagnostic;

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub struct Who {
    pub caller: Caller,
    /// What forms and scripts of a browser's session have to send along; empty for programs.
    pub csrf: String,
}

/// The name of the cookie: with the prefix, browsers take it over TLS only, for this host and all paths.
pub fn cookie_name(app: &App) -> &'static str {
    if app.is_secure() { "__Host-windlass" } else { "windlass" }
}

/// Nobody is signed in.
pub fn unknown() -> AppError {
    let diagnostic = Diagnostic::error("WL843", "nobody is signed in, or it does not hold any more")
        .help("sign in, or send a token as `Authorization: Bearer …`");
    AppError::new(ErrorKind::Unauthenticated, diagnostic)
}

/// What is so long that nobody would have made it.
const LONGEST: usize = 8192;

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// What a program sends along to be known by.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Finds out who asks and from where, and puts it where handlers find it. A request that changes something with nothing but a
/// cookie has to show that it comes from our pages.
pub async fn identify(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let correlation = ulid::Ulid::generate().to_string().to_lowercase();
    let address = Address::of(&request, &app.trusted().proxies);
    request.extensions_mut().insert(Correlation(correlation.clone()));
    request.extensions_mut().insert(address);
    let answer = async {
        match find(&app, request, correlation.clone(), address).await {
            Ok(request) => next.run(request).await,
            Err(response) => *response,
        }
    };
    let mut response = unbroken(answer, &correlation).await;
    if let Ok(value) = HeaderValue::from_str(&correlation) {
        response.headers_mut().insert(HeaderName::from_static("x-correlation-id"), value);
    }
    response
}

/// The id that everything one request does has in common.
#[derive(Debug, Clone)]
pub struct Correlation(pub String);

async fn find(
    app: &App,
    mut request: Request,
    correlation: String,
    address: Address,
) -> Result<Request, Box<Response>> {
    let refuse = |error: AppError| Box::new(Failure(error).into_response());
    let store = &app.installation.common.store;
    if let Some(token) = bearer(request.headers()) {
        let known = if token.len() > LONGEST { None } else { tokens::token_use(store, token).await.map_err(refuse)? };
        let Some((actor, scope)) = known else {
            app.limits.wrong.pass(address.0).map_err(|seconds| Box::new(too_often(seconds)))?;
            let mut response = refuse(unknown());
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Err(response);
        };
        let caller = Caller { actor, token: Some(scope), correlation, creates: None };
        request.extensions_mut().insert(Who { caller, csrf: String::new() });
        return read(request, &app.limits).await;
    }
    let mut request = read(request, &app.limits).await?;
    let Some(secret) = cookie(request.headers(), cookie_name(app)).filter(|secret| secret.len() <= LONGEST) else {
        return Ok(request);
    };
    let Some(session) = sessions::session_use(store, secret).await.map_err(refuse)? else { return Ok(request) };
    let csrf = session.csrf.clone();
    let who = Who { caller: Caller { actor: session.actor, token: None, correlation, creates: None }, csrf };
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        request = crate::authentication::csrf::check(request, &who.csrf, &app.url).await.map_err(refuse)?;
    }
    request.extensions_mut().insert(who);
    Ok(request)
}

pub mod csrf {
    //! Requests that change something show that they come from our pages.

    use super::{AppError, Diagnostic, ErrorKind, HeaderMap, Request, header};
    use axum::body::{Body, to_bytes};

    /// The longest form.
    const FORM: usize = 1 << 20;

    fn refused(why: &str) -> AppError {
        let diagnostic =
            Diagnostic::error("WL844", format!("this request does not come from a page of Windlass: {why}"))
                .help("load the page again and repeat what you did");
        AppError::new(ErrorKind::Forbidden, diagnostic)
    }

    /// Compares without telling by the time it takes how much is right.
    fn same(a: &str, b: &str) -> bool {
        a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }

    /// That no other site had a browser send it, as far as browsers say. What sends neither header is none.
    ///
    /// # Errors
    /// WL844.
    pub fn check_site(headers: &HeaderMap, url: &str) -> Result<(), AppError> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host = text("host").unwrap_or_default();
        let is_ours = match (text("sec-fetch-site"), text("origin")) {
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            (None, Some(origin)) => origin == url || origin.split_once("://").is_some_and(|(_, rest)| rest == host),
            (None, None) => true,
        };
        if is_ours { Ok(()) } else { Err(refused("another site sent it")) }
    }

    /// The request again, when it has what our pages send: a header, or a field of its form. `url` is where people reach us.
    ///
    /// # Errors
    /// WL844.
    pub async fn check(request: Request, csrf: &str, url: &str) -> Result<Request, AppError> {
        check_site(request.headers(), url)?;
        if let Some(sent) = request.headers().get("x-csrf-token") {
            let is_ours = sent.to_str().is_ok_and(|sent| same(sent, csrf));
            return if is_ours { Ok(request) } else { Err(refused("its token is of another session")) };
        }
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return Err(refused("it carries no token"));
        }
        let (parts, body) = request.into_parts();
        let bytes = to_bytes(body, FORM).await.map_err(|_| refused("its form is too long"))?;
        let sent = bytes.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"csrf="));
        // Our tokens have only characters that forms leave as they are.
        let is_ours = sent.and_then(|sent| std::str::from_utf8(sent).ok()).is_some_and(|sent| same(sent, csrf));
        if is_ours {
            Ok(Request::from_parts(parts, Body::from(bytes)))
        } else {
            Err(refused("its token is of another session"))
        }
    }
}

/// Puts on every answer what keeps browsers from being used against their owner.
pub async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Who>().cloned().ok_or_else(|| Failure(unknown()))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Failure> {
        Ok(parts.extensions.get::<Who>().cloned())
    }
}
