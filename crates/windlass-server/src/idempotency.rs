//! Requests that are sent again because nobody knows whether they arrived: with the same `Idempotency-Key`, what they start is
//! started once, and the same answer comes again. The id of the run that a request creates is chosen with its key: when a server
//! dies in the middle, whichever takes the request up finds the run, or creates that one.

use crate::api::stacks::Started;
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
use std::time::Duration;
use windlass_app::caller::Caller;
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::sessions::digest;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_store::Store;

const TICKET: &str = "idempotency";
/// How long a key is kept, µs.
const KEPT: Micros = 24 * 3600 * 1_000_000;
/// How long a request counts as under way, µs, without its server saying so again; after that another may take it up.
const UNDER_WAY: Micros = 15_000_000;
/// How often a server says that a request is under way.
const TELL: Duration = Duration::from_secs(5);
/// The longest key, bytes.
const LONGEST: usize = 200;
/// The longest request and the longest answer, bytes.
const BODY: usize = 1 << 20;

/// What is kept of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// Of its method, address and body.
    request: String,
    /// The id of the run that it creates, if it creates one.
    run: RunId,
    /// Until when (µs) it is under way for certain.
    until: Micros,
    /// `None` while it is under way.
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
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
    let name = digest(&format!("{}\n{key}", who.caller.actor));
    let store = app.installation.common.store.clone();
    let now = store.now().await?;
    let begun = Kept { request: digest(&said), run: Store::run_id(), until: now + UNDER_WAY, answer: None };
    let mut ticket = if store.ticket_put(TICKET, &name, &text(&begun)?, now + KEPT).await? {
        Ticket { store, name, kept: begun }
    } else {
        match again(store, name, begun).await? {
            Again::Answered(answer) => return respond(answer),
            Again::TakenUp(ticket) => match ticket.store.run_get(&ticket.kept.run).await {
                Ok(run) => return ticket.answered(Started::answer(Some(run.id)).into_response()).await,
                Err(error) if error.is_not_found() => ticket,
                Err(error) => return Err(error.into()),
            },
        }
    };
    let mut request = Request::from_parts(parts, Body::from(body));
    let creates = Some(ticket.kept.run.clone());
    request.extensions_mut().insert(Who { caller: Caller { creates, ..who.caller }, ..who });
    // It goes on when nobody waits for its answer any more: half of it would be worse than all.
    let work = tokio::spawn(async move {
        let mut answer = std::pin::pin!(next.run(request));
        let response = loop {
            match tokio::time::timeout(TELL, &mut answer).await {
                Ok(response) => break response,
                // When it cannot be told, somebody else may take it up, and finds the same run.
                Err(_) => drop(ticket.renew().await),
            }
        };
        ticket.answered(response).await
    });
    work.await.map_err(internal)?
}

fn text(kept: &Kept) -> AppResult<String> {
    serde_json::to_string(kept).map_err(internal)
}

/// The key of a request that is handled here.
struct Ticket {
    store: Store,
    name: String,
    /// As it is stored, unless somebody else took it up.
    kept: Kept,
}

impl Ticket {
    /// Says that it is under way.
    async fn renew(&mut self) -> AppResult<()> {
        let until = self.store.now().await? + UNDER_WAY;
        self.change(Kept { until, ..self.kept.clone() }).await.map(drop)
    }

    /// Whether it was as it is thought to be.
    async fn change(&mut self, to: Kept) -> AppResult<bool> {
        let end = self.store.now().await? + KEPT;
        let done = self.store.ticket_swap(TICKET, &self.name, &text(&self.kept)?, Some((&text(&to)?, end))).await?;
        if done {
            self.kept = to;
        }
        Ok(done)
    }

    /// Keeps what was answered. Where it was refused, the key is free again: what was refused may be allowed the next time. Where
    /// something broke, it may have happened all the same: the next try takes it up.
    async fn answered(mut self, response: Response) -> AppResult<Response> {
        let status = response.status();
        if status.is_server_error() {
            self.change(Kept { until: 0, ..self.kept.clone() }).await?;
            return Ok(response);
        }
        if !status.is_success() {
            self.store.ticket_swap(TICKET, &self.name, &text(&self.kept)?, None).await?;
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, BODY).await.map_err(internal)?;
        let kind = kind(&parts.headers);
        let answer = Answer { status: status.as_u16(), kind, body: String::from_utf8_lossy(&body).into_owned() };
        self.change(Kept { answer: Some(answer), ..self.kept.clone() }).await?;
        Ok(Response::from_parts(parts, Body::from(body)))
    }
}

fn kind(headers: &HeaderMap) -> Option<String> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok().map(str::to_owned)
}

/// What becomes of a request whose key is known.
enum Again {
    Answered(Answer),
    /// Who handled it has died, or failed.
    TakenUp(Ticket),
}

async fn again(store: Store, name: String, asked: Kept) -> AppResult<Again> {
    let busy = || {
        let help = "ask again in a second: its answer will be the same";
        refused(ErrorKind::Conflict, "WL872", "the first request with this idempotency key is under way", help)
    };
    // One that went away meanwhile is as good as one that is under way: the next try finds it free.
    let found = store.ticket_get(TICKET, &name).await?.ok_or_else(busy)?;
    let kept: Kept = serde_json::from_str(&found).map_err(internal)?;
    if kept.request != asked.request {
        let help = "make a new key for each thing that is to happen";
        return Err(refused(ErrorKind::Conflict, "WL871", "this idempotency key was used for another request", help));
    }
    if let Some(answer) = kept.answer {
        return Ok(Again::Answered(answer));
    }
    let is_left = kept.until < store.now().await?;
    let mut ticket = Ticket { store, name, kept };
    if is_left && ticket.change(Kept { until: asked.until, ..ticket.kept.clone() }).await? {
        Ok(Again::TakenUp(ticket))
    } else {
        Err(busy())
    }
}

/// The answer that was given before.
fn respond(answer: Answer) -> AppResult<Response> {
    let mut response = Response::new(Body::from(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(internal)?;
    if let Some(kind) = answer.kind {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_str(&kind).map_err(internal)?);
    }
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}
