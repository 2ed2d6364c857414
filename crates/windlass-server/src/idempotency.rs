//! Requests that are sent again because nobody knows whether they arrived: with the same `Idempotency-Key`, what they start is
//! started once, and the same answer comes again.

use crate::authentication::Who;
use crate::problem::Failure;
use crate::state::App;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::sessions::digest;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_store::Store;

const TICKET: &str = "idempotency";
/// How long an answer is kept, µs.
const KEPT: Micros = 24 * 3600 * 1_000_000;
/// How long a request may be under way, µs; after that its server is taken to have died.
const UNDER_WAY: Micros = 10 * 60 * 1_000_000;
/// The longest key, bytes.
const LONGEST: usize = 200;
/// The longest request and the longest answer, bytes.
const BODY: usize = 1 << 20;

/// What is kept of a request.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Of its method, address and body.
    request: String,
    /// `None` while it is under way.
    answer: Option<Answer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    status: u16,
    kind: Option<String>,
    body: String,
}

fn refused(kind: ErrorKind, code: &str, summary: &str, help: &str) -> AppError {
    AppError::new(kind, Diagnostic::error(code, summary).help(help))
}

/// Has the request handled once for its key. Without a key it is handled whenever it comes.
pub async fn once(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match handle(&app, request, next).await {
        Ok(response) => response,
        Err(error) => {
            let busy = error.diagnostics.first().is_some_and(|diagnostic| diagnostic.code == "WL872");
            let mut response = Failure(error).into_response();
            if busy {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    }
}

async fn handle(app: &App, request: Request, next: Next) -> AppResult<Response> {
    let (parts, body) = request.into_parts();
    // Also where the handler needs none of it: a connection with unread bytes is closed.
    let body = to_bytes(body, BODY).await.map_err(|_| {
        refused(ErrorKind::Usage, "WL870", "the body cannot be read, or is longer than 1 MiB", "send less at once")
    })?;
    let who = parts.extensions.get::<Who>().cloned();
    let key = parts.headers.get("idempotency-key").cloned();
    let (Some(who), Some(key)) = (who, key) else {
        return Ok(next.run(Request::from_parts(parts, Body::from(body))).await);
    };
    let key = key.to_str().ok().map(str::trim).filter(|key| !key.is_empty() && key.len() <= LONGEST);
    let key = key.ok_or_else(|| {
        let help = "it is 1 to 200 visible characters, such as a UUID";
        refused(ErrorKind::Usage, "WL871", "this is no idempotency key", help)
    })?;
    let said = format!("{} {}\n{}", parts.method, parts.uri, String::from_utf8_lossy(&body));
    let (request_digest, name) = (digest(&said), digest(&format!("{}\n{key}", who.caller.actor)));
    let store = app.installation.common.store.clone();
    let begun = Kept { request: request_digest.clone(), answer: None };
    let end = store.now().await? + UNDER_WAY;
    if !store.ticket_put(TICKET, &name, &text(&begun)?, end).await? {
        return again(&store, &name, &request_digest).await;
    }
    let request = Request::from_parts(parts, Body::from(body));
    // It goes on when nobody waits for its answer any more: half of it would be worse than all.
    let work = tokio::spawn(async move {
        let response = next.run(request).await;
        keep(&store, &name, request_digest, response).await
    });
    work.await.map_err(internal)?
}

fn text(kept: &Kept) -> AppResult<String> {
    serde_json::to_string(kept).map_err(internal)
}

/// Keeps what was answered. Where nothing was begun, the key is free again: what was refused may be allowed the next time.
async fn keep(store: &Store, name: &str, request: String, response: Response) -> AppResult<Response> {
    if !response.status().is_success() {
        store.ticket_take(TICKET, name).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, BODY).await.map_err(internal)?;
    let kind = kind(&parts.headers);
    let answer = Answer { status: parts.status.as_u16(), kind, body: String::from_utf8_lossy(&body).into_owned() };
    let end = store.now().await? + KEPT;
    store.ticket_renew(TICKET, name, &text(&Kept { request, answer: Some(answer) })?, end).await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn kind(headers: &HeaderMap) -> Option<String> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok().map(str::to_owned)
}

/// The answer that was given before.
async fn again(store: &Store, name: &str, request: &str) -> AppResult<Response> {
    let busy = || {
        let help = "ask again in a second: its answer will be the same";
        refused(ErrorKind::Conflict, "WL872", "the first request with this idempotency key is under way", help)
    };
    // One that went away meanwhile is as good as one that is under way: the next try finds it free.
    let kept = store.ticket_get(TICKET, name).await?.ok_or_else(busy)?;
    let kept: Kept = serde_json::from_str(&kept).map_err(internal)?;
    if kept.request != request {
        let help = "make a new key for each thing that is to happen";
        return Err(refused(ErrorKind::Conflict, "WL871", "this idempotency key was used for another request", help));
    }
    let answer = kept.answer.ok_or_else(busy)?;
    let mut response = Response::new(Body::from(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(internal)?;
    if let Some(kind) = answer.kind {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_str(&kind).map_err(internal)?);
    }
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}
