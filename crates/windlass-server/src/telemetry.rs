//! What is said of every request: one line in the log, one count in the metrics, one span where traces are sent. A path is told as its template and without its
//! query: both hold secrets where people sign in.

use crate::authentication::Who;
use crate::metrics::Metrics;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Extension, Router};
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tracing::Instrument;

/// Who asked, once it is known.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<OnceLock<String>>);

/// Puts it around the whole service.
pub fn around(router: Router, metrics: &Arc<Metrics>) -> Router {
    router.layer(from_fn_with_state(metrics.clone(), observe)).layer(Extension(metrics.clone()))
}

/// Tells who asks, where it was found out.
pub fn note(request: &Request) {
    if let (Some(asked), Some(who)) = (request.extensions().get::<Asked>(), request.extensions().get::<Who>()) {
        let _ = asked.0.set(who.caller.actor.name.clone());
    }
}

/// The template of a path, and what stands for one that nobody answers: it is not told, as it may be anything.
const NOWHERE: &str = "-";

async fn observe(State(metrics): State<Arc<Metrics>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    // What is no method of HTTP would be a label of its own for each that is made up.
    let method = match method.as_str() {
        method @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => method,
        _ => NOWHERE,
    }
    .to_owned();
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or_else(|| NOWHERE.to_owned(), |path| path.as_str().to_owned());
    let asked = Asked::default();
    request.extensions_mut().insert(asked.clone());
    let span = {
        // Whoever asks may be in the middle of something of their own.
        let headers = HeaderExtractor(request.headers());
        let _within = opentelemetry::global::get_text_map_propagator(|from| from.extract(&headers)).attach();
        let (kind, correlation) = ("server", tracing::field::Empty);
        match path.as_str() {
            // Probes ask every few seconds.
            "/healthz" | "/readyz" | "/metrics" => {
                tracing::debug_span!("request", otel.kind = kind, %method, %path, correlation)
            }
            _ => tracing::info_span!("request", otel.kind = kind, %method, %path, correlation),
        }
    };
    let response = next.run(request).instrument(span.clone()).await;
    let took = began.elapsed();
    let correlation =
        response.headers().get("x-correlation-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    span.record("correlation", correlation);
    let status = response.status().as_u16();
    span.in_scope(|| describe(&method, &path, status));
    metrics.request(&method, &path, status, took);
    let actor = asked.0.get().map_or("", String::as_str);
    let milliseconds = took.as_secs_f64() * 1e3;
    match path.as_str() {
        "/healthz" | "/readyz" | "/metrics" if status < 500 => {
            tracing::debug!(target: "windlass::http", %method, %path, status, milliseconds, actor, correlation);
        }
        _ => tracing::info!(target: "windlass::http", %method, %path, status, milliseconds, actor, correlation),
    }
    response
}

/// Says of the span that goes on, when it is sent at all, what the conventions of OpenTelemetry have names for.
fn describe(method: &str, path: &str, status: u16) {
    let context = Context::current();
    let span = context.span();
    if !span.is_recording() {
        return;
    }
    span.update_name(format!("{method} {path}"));
    span.set_attribute(KeyValue::new("http.request.method", method.to_owned()));
    span.set_attribute(KeyValue::new("http.route", path.to_owned()));
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
}
