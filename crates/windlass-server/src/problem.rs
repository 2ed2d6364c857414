//! Errors as answers: a problem document (RFC 9457) for programs, a page for people.

use crate::authentication::{Correlation, Who};
use crate::pages::Frame;
use crate::pages::error::ErrorPage;
use crate::state::App;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use windlass_app::error::{AppError, ErrorKind};
use windlass_model::diagnostic::Diagnostic;

/// What went wrong, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// The page of the diagnostic's code, on this server: `/codes/CODE`.
    pub r#type: String,
    /// One line.
    pub title: String,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable code, e.g. `WL612`; `windlass explain CODE` says more.
    pub code: String,
    /// Everything that is known, with places and help.
    #[schema(value_type = Vec<Object>)]
    pub diagnostics: Vec<Diagnostic>,
}

/// An error on its way out of a handler.
#[derive(Debug)]
pub struct Failure(pub AppError);

impl<E: Into<AppError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The status of HTTP that a kind of error has.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Refused | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        ErrorKind::Definition => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Problem {
    pub fn of(error: &AppError) -> Self {
        let first = error.diagnostics.first();
        let code = first.map_or_else(|| "WL999".to_owned(), |diagnostic| diagnostic.code.clone());
        Self {
            r#type: crate::pages::link::code(&code),
            title: first.map_or_else(String::new, |diagnostic| diagnostic.summary.clone()),
            status: status(error.kind).as_u16(),
            detail: first.map(|diagnostic| diagnostic.detail.clone()).filter(|detail| !detail.is_empty()),
            code,
            diagnostics: error.diagnostics.clone(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem::of(&self.0);
        let mut response = (status(self.0.kind), Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // A layer makes a page of it where a browser asked.
        response.extensions_mut().insert(Arc::new(self.0));
        response
    }
}

/// A page instead of what was asked for.
pub fn page(frame: &Frame, page: &ErrorPage) -> Response {
    let code = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, Html(crate::pages::error::render(frame, page))).into_response()
}

/// Makes pages of errors where a browser asked for a page, and leads who is not signed in to where they can.
pub async fn pages(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = accept.contains("text/html") && !path.starts_with("/api/");
    let reads = request.method() == Method::GET;
    let who = request.extensions().get::<Who>().cloned();
    let correlation = request.extensions().get::<Correlation>().map(|one| one.0.clone()).unwrap_or_default();
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<Arc<AppError>>().filter(|_| wanted) else { return response };
    if error.kind == ErrorKind::Unauthenticated && who.is_none() {
        let next = if reads && path != "/" { path.as_str() } else { "" };
        return crate::web::see_other(&crate::pages::link::query("/sign-in", &[("next", next)]));
    }
    let frame = match who {
        Some(who) => crate::web::frame(&app, &who, "").await.ok(),
        None => None,
    };
    page(&frame.unwrap_or_else(Frame::outside), &ErrorPage::of(&error, &correlation))
}

/// Nothing has this address.
pub async fn nowhere(request: Request) -> Failure {
    Failure(windlass_app::caller::not_found("address", request.uri().path()))
}
