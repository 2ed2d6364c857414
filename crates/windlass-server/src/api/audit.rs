//! The audit record as a whole: for those who keep it, and prove it, elsewhere.

use super::{Asked, Listed};
use crate::authentication::Who;
use crate::problem::{Failure, Problem};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};
use windlass_app::audit::{self, record::Record};
use windlass_app::error::AppResult;
use windlass_model::access::Permission;
use windlass_model::audit::Seal;

pub fn routes(routes: Routes) -> Routes {
    // A chain is of the whole installation.
    let guard = Guard::Server(Permission::AuditExport);
    routes
        .add(Method::GET, "/api/v1/audit/export", guard, get(export))
        .add(Method::GET, "/api/v1/audit/seals", guard, get(seals))
        .add(Method::GET, "/api/v1/audit/checkpoint", guard, get(checkpoint))
}

/// How many lines wait at most for a client that reads slowly.
const WAITING: usize = 64;

/// The whole record, as JSON lines: a header, events, and after the last event of each batch its seal. `windlass audit verify
/// --export` verifies it.
#[utoipa::path(
    get, path = "/api/v1/audit/export", tag = "audit", operation_id = "audit_export",
    responses(
        (status = 200, body = String, content_type = "application/jsonl"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn export(State(app): State<Arc<App>>, who: Who) -> Result<Response, Failure> {
    let record = audit::export(&app.installation, &who.caller).await?;
    let (lines, receiver) = mpsc::channel(WAITING);
    tokio::spawn(send(record, lines));
    let body = Body::from_stream(ReaderStream::new(Lines { receiver, line: Vec::new(), read: 0 }));
    let headers = [
        (header::CONTENT_TYPE, "application/jsonl"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"windlass-audit.jsonl\""),
    ];
    Ok((headers, body).into_response())
}

/// Reads the record as fast as it is taken; ends when nobody takes it any more.
async fn send(mut record: Record, lines: mpsc::Sender<io::Result<Vec<u8>>>) {
    let header = record.header.line().map_err(io::Error::other);
    if lines.send(header).await.is_err() {
        return;
    }
    loop {
        let line: AppResult<Option<Vec<u8>>> = async {
            match record.next().await? {
                Some(entry) => entry.line().map(Some),
                None => Ok(None),
            }
        }
        .await;
        let line = match line {
            Ok(Some(line)) => Ok(line),
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "the audit record cannot be exported");
                Err(io::Error::other(error))
            }
        };
        let failed = line.is_err();
        if lines.send(line).await.is_err() || failed {
            return;
        }
    }
}

/// Lines as bytes. A failure breaks the answer off: it must not look whole.
struct Lines {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    line: Vec<u8>,
    read: usize,
}

impl AsyncRead for Lines {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.read == self.line.len() {
            match self.receiver.poll_recv(cx) {
                Poll::Ready(Some(line)) => (self.line, self.read) = (line?, 0),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let rest = &self.line[self.read..];
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.read += length;
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SealQuery {
    /// `next` of the page before.
    cursor: Option<i64>,
    /// How many at most; 50 otherwise, 500 at most.
    limit: Option<u32>,
}

/// Seals, oldest first, without the lists of their events. Each can be kept as a checkpoint.
#[utoipa::path(
    get, path = "/api/v1/audit/seals", tag = "audit", operation_id = "audit_seal_list", params(SealQuery),
    responses(
        (status = 200, body = Listed<Object>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn seals(
    State(app): State<Arc<App>>,
    who: Who,
    Asked(query): Asked<SealQuery>,
) -> Result<Json<Listed<Seal>>, Failure> {
    let limit = query.limit.unwrap_or(50).clamp(1, 500);
    let items = audit::seal_list(&app.installation, &who.caller, query.cursor.unwrap_or(0), limit).await?;
    let next = (items.len() == limit as usize).then(|| items.last().map(|seal| seal.number.to_string())).flatten();
    Ok(Json(Listed { items, next }))
}

/// What to keep where the server cannot write, to find later that the end of the record was cut off.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checkpoint {
    /// The last seal without the list of its events; `null` before the first.
    #[schema(value_type = Option<Object>)]
    head: Option<Seal>,
}

/// The last seal.
#[utoipa::path(
    get, path = "/api/v1/audit/checkpoint", tag = "audit", operation_id = "audit_checkpoint",
    responses(
        (status = 200, body = Checkpoint),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn checkpoint(State(app): State<Arc<App>>, who: Who) -> Result<Json<Checkpoint>, Failure> {
    Ok(Json(Checkpoint { head: audit::checkpoint(&app.installation, &who.caller).await? }))
}
