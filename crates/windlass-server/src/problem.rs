//! Errors as answers: a problem document (RFC 9457) for programs, a page for people.

use crate::pages::error::ErrorPage;
use crate::pages::{Frame, Section};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use windlass_app::error::{AppError, ErrorKind};
use windlass_model::diagnostic::Diagnostic;

/// What went wrong, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// The page of the diagnostic's code.
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
            r#type: format!("https://windlass.example/codes/{code}"),
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
        // The outermost layer makes a page of it where a browser asked.
        response.extensions_mut().insert(std::sync::Arc::new(self.0));
        response
    }
}

/// The same as a page.
#[expect(dead_code, reason = "for browsers")]
pub fn page(frame: &Frame, error: &AppError, correlation: &str) -> Response {
    let summary = error.diagnostics.first().map_or("", |diagnostic| diagnostic.summary.as_str());
    let code = status(error.kind);
    let page = match error.kind {
        ErrorKind::NotFound => ErrorPage::not_found(),
        ErrorKind::Internal => ErrorPage::internal(correlation),
        _ => ErrorPage::refused(code.as_u16(), summary),
    };
    let frame = Frame { section: Section::Outside, ..frame.clone() };
    (code, Html(crate::pages::error::render(&frame, &page))).into_response()
}
