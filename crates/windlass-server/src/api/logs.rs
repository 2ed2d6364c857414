//! Logs of steps: in parts, as a whole, and live.

use super::{Asked, attachment};
use crate::authentication::Who;
use crate::pages::log::{Chunk, Part, Stored, chunks};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use crate::streams::{Look, Reader, Source, stream};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream as streams;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use windlass_app::caller::Caller;
use windlass_app::error::{AppResult, internal};
use windlass_app::requests::records::StepLog;
use windlass_app::requests::run_planned;
use windlass_model::access::Permission;
use windlass_model::id::{RunId, StepId};
use windlass_store::LogChunk;

pub fn routes(routes: Routes) -> Routes {
    let read = Guard::Within(Permission::ProjectRead);
    routes.add(Method::GET, "/api/v1/runs/{run}/steps/{step}/log", read, get(show)).add(
        Method::GET,
        "/api/v1/runs/{run}/steps/{step}/log/stream",
        read,
        get(live),
    )
}

/// How many bytes a part has when it is not said, at least (a character fits in), and at most.
const PART: u64 = 256 * 1024;
const PART_LEAST: u64 = 16;
const PART_MOST: u64 = 4 * 1024 * 1024;
/// How many recorded pieces are read at once.
const PIECES: u32 = 32;

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Offset of the first byte; 0 otherwise.
    from: Option<u64>,
    /// How many bytes at most; 262144 otherwise, 4194304 at most.
    limit: Option<u64>,
}

/// A part of a log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogPart {
    pub chunks: Vec<LogText>,
    /// Length of the whole log by now, bytes.
    pub bytes: u64,
}

/// A piece of a log as text.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogText {
    /// Offset of its first byte.
    pub start: u64,
    /// Offset of the byte after it: where to go on reading.
    pub next: u64,
    /// From 1.
    pub attempt: u32,
    /// When it was recorded, microseconds since 1970, UTC.
    pub at: i64,
    /// Never cut within a character; bytes that are no UTF-8 are U+FFFD.
    pub text: String,
}

impl From<Part> for LogPart {
    fn from(part: Part) -> Self {
        let text = |Chunk { start, next, attempt, at, text }: Chunk| LogText { start, next, attempt, at, text };
        Self { chunks: part.chunks.into_iter().map(text).collect(), bytes: part.bytes }
    }
}

fn stored(chunk: &LogChunk) -> Stored<'_> {
    let start = u64::try_from(chunk.start).unwrap_or_default();
    Stored { start, attempt: chunk.attempt, at: chunk.at, bytes: &chunk.bytes }
}

/// A log with its end cut off at the byte `end`.
async fn read(log: &StepLog, from: u64, end: u64) -> AppResult<Vec<LogChunk>> {
    let (mut at, mut found) = (from, Vec::new());
    while at < end {
        let mut pieces = log.read(at, PIECES).await?;
        let Some(last) = pieces.last().map(stored) else { break };
        at = last.start + last.bytes.len() as u64;
        for piece in &mut pieces {
            let room = end.saturating_sub(stored(piece).start);
            piece.bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        }
        found.extend(pieces.into_iter().filter(|piece| !piece.bytes.is_empty()));
    }
    Ok(found)
}

/// The log of a step: a part of it as JSON where `Accept` says so or a part is asked for, all of it as text otherwise.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/steps/{step}/log", tag = "logs", operation_id = "log_get",
    params(
        ("run" = String, Path, description = "Id of the run"),
        ("step" = String, Path, description = "Id of the step, percent-encoded as one segment"),
        LogQuery,
    ),
    responses(
        (status = 200, content((LogPart = "application/json"), (String = "text/plain")), description = "A part, or all of it"),
    ),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    Path((run, step)): Path<(String, String)>,
    Asked(query): Asked<LogQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (run, step) = (RunId::new(run), StepId::new(step));
    let log = StepLog::open(&app.installation, &who.caller, &run, &step).await?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let whole = !accepts.contains("application/json") && query.from.is_none() && query.limit.is_none();
    if whole {
        return Ok(download(log, &run, &step).await?);
    }
    // Whether it has ended is asked first: then its length is final.
    let (ended, bytes) = (log.is_ended().await?, log.length().await?);
    let from = query.from.unwrap_or(0);
    let end = from.saturating_add(query.limit.unwrap_or(PART).clamp(PART_LEAST, PART_MOST));
    let pieces = read(&log, from, end).await?;
    let chunks = chunks(pieces.iter().map(stored), from, ended && end >= bytes);
    Ok(Json(LogPart::from(Part { chunks, bytes })).into_response())
}

/// All of a log up to its present end, a piece at a time.
async fn download(log: StepLog, run: &RunId, step: &StepId) -> AppResult<Response> {
    let length = log.length().await?;
    let body = streams::try_unfold((log, 0), move |(log, at)| async move {
        if at >= length {
            return AppResult::Ok(None);
        }
        let pieces = read(&log, at, length.min(at + PART)).await?;
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
        if bytes.is_empty() {
            return Err(internal("a log that got shorter"));
        }
        let next = at + bytes.len() as u64;
        Ok(Some((bytes, (log, next))))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_DISPOSITION, attachment(&format!("{run}-{step}.log"))?);
    Ok(response)
}

/// The log of a step while it is written: each event is a piece of text as JSON whose id is the offset to go on at, and `end` says
/// that there will be no more.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/steps/{step}/log/stream", tag = "logs", operation_id = "log_stream",
    params(
        ("run" = String, Path, description = "Id of the run"),
        ("step" = String, Path, description = "Id of the step, percent-encoded as one segment"),
        ("from" = Option<u64>, Query, description = "Offset of the first byte; `Last-Event-ID` goes before it"),
    ),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "Server-sent events")),
)]
pub async fn live(
    State(app): State<Arc<App>>,
    reader: Reader,
    Path((run, step)): Path<(String, String)>,
    Asked(query): Asked<LogQuery>,
) -> Result<Response, Failure> {
    let run = RunId::new(run);
    let log = StepLog::open(&app.installation, &reader.caller, &run, &StepId::new(step)).await?;
    let next = reader.last.or(query.from).unwrap_or(0);
    Ok(stream(reader, Live { run, log, next }))
}

struct Live {
    run: RunId,
    log: StepLog,
    next: u64,
}

impl Source for Live {
    // What is said is no event of the store: it has to be looked for.
    const PAUSE: Duration = Duration::from_millis(250);
    const BREATH: Duration = Duration::from_millis(50);

    async fn allow(&mut self, app: &App, caller: &Caller) -> AppResult<()> {
        run_planned(&app.installation, caller, &self.run).await.map(drop)
    }

    async fn look(&mut self, app: &App) -> AppResult<Look> {
        // Asked first: what is read after a step has ended is all there is.
        let ended = self.log.is_ended().await?;
        let pieces = self.log.read(self.next, PIECES).await?;
        if !pieces.is_empty() {
            app.installation.common.store.settle().await?;
        }
        // More than was read may be there: only a read that finds less than it asked for has the end.
        let last = pieces.len() < PIECES as usize;
        let found = chunks(pieces.iter().map(stored), self.next, ended && last);
        let mut look = Look { more: !last && !found.is_empty(), ended: ended && last, ..Look::default() };
        for chunk in found {
            self.next = chunk.next;
            look.events.push(Event::default().id(chunk.next.to_string()).json_data(&chunk).map_err(internal)?);
        }
        if look.ended {
            look.events.push(Event::default().event("end").data("{}"));
        }
        Ok(look)
    }
}
