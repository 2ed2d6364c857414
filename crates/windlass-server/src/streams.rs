//! Server-sent events. A stream looks for news whenever the store says that something happened, and every now and then anyway; it
//! holds what one look found and looks again when that was sent, so that a slow reader costs nothing. It ends when the server
//! stops and when its reader may not read any more; browsers come back with the id of the last event that they got.

use crate::authentication::{Who, bearer, cookie, cookie_name, unknown};
use crate::problem::Failure;
use crate::state::App;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_app::caller::Caller;
use windlass_app::error::{AppError, AppResult};
use windlass_app::{sessions, tokens};

/// How long browsers wait before they come back.
const RETRY: Duration = Duration::from_secs(2);
/// How often something is sent at least, so that nothing between takes the connection for dead.
const ALIVE: Duration = Duration::from_secs(15);
/// How often it is asked whether the reader still may.
const ASK: Duration = Duration::from_secs(60);

/// Ends all streams when the server stops.
#[derive(Debug, Clone, Default)]
pub struct Stop(pub CancellationToken);

/// Who reads, for as long as a stream lasts.
pub struct Reader {
    app: Arc<App>,
    pub caller: Caller,
    bearer: Option<String>,
    session: Option<String>,
    /// The id that the browser got last.
    pub last: Option<u64>,
    stop: CancellationToken,
    asked: Instant,
}

impl FromRequestParts<Arc<App>> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let who = Who::from_request_parts(parts, app).await?;
        let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let last = text(HeaderName::from_static("last-event-id")).and_then(|id| id.trim().parse().ok());
        Ok(Self {
            app: app.clone(),
            caller: who.caller,
            bearer: bearer(&parts.headers).map(str::to_owned),
            session: cookie(&parts.headers, cookie_name(app)).map(str::to_owned),
            last,
            stop: parts.extensions.get::<Stop>().cloned().unwrap_or_default().0,
            asked: Instant::now(),
        })
    }
}

impl Reader {
    /// Finds out anew who it is: a session may have ended, a token may have been revoked.
    async fn renew(&mut self) -> AppResult<()> {
        let store = &self.app.installation.common.store;
        match (&self.bearer, &self.session) {
            (Some(token), _) => {
                let (actor, scope) = tokens::token_use(store, token).await?.ok_or_else(unknown)?;
                (self.caller.actor, self.caller.token) = (actor, Some(scope));
            }
            (None, Some(secret)) => {
                self.caller.actor = sessions::session_use(store, secret).await?.ok_or_else(unknown)?.actor;
            }
            (None, None) => return Err(unknown()),
        }
        Ok(())
    }
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Look {
    pub events: Vec<Event>,
    /// Nothing will come any more.
    pub ended: bool,
    /// There may be more already.
    pub more: bool,
}

/// Where a stream's events come from.
pub trait Source: Send + 'static {
    /// How long to wait for the store to say that something happened before looking anyway.
    const PAUSE: Duration;
    /// How long to leave alone what happens in quick succession.
    const BREATH: Duration = Duration::ZERO;

    /// Refuses unless the caller may still read this.
    fn allow(&mut self, app: &App, caller: &Caller) -> impl Future<Output = AppResult<()>> + Send;

    /// What came since the last look.
    fn look(&mut self, app: &App) -> impl Future<Output = AppResult<Look>> + Send;
}

struct State<S> {
    reader: Reader,
    source: S,
    changes: watch::Receiver<windlass_store::Changes>,
    queue: VecDeque<Event>,
    /// What comes after the queue.
    then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Look,
    Wait,
    End,
}

impl<S: Source> State<S> {
    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> AppResult<Option<Event>> {
        loop {
            if self.reader.stop.is_cancelled() {
                return Ok(None);
            }
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            match self.then {
                Then::End => return Ok(None),
                Then::Wait => self.wait().await,
                Then::Look => {}
            }
            if self.reader.asked.elapsed() >= ASK {
                self.reader.asked = Instant::now();
                self.reader.renew().await?;
                self.source.allow(&self.reader.app, &self.reader.caller).await?;
            }
            // Before the look: what comes during it is news.
            self.changes.borrow_and_update();
            let look = self.source.look(&self.reader.app).await?;
            self.queue.extend(look.events);
            self.then = match (look.ended, look.more) {
                (true, _) => Then::End,
                (false, true) => Then::Look,
                (false, false) => Then::Wait,
            };
        }
    }

    async fn wait(&mut self) {
        let news = async {
            tokio::time::sleep(S::BREATH).await;
            tokio::select! {
                // A store that was closed says nothing any more.
                changed = self.changes.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = tokio::time::sleep(S::PAUSE) => {}
            }
        };
        tokio::select! {
            () = self.reader.stop.cancelled() => {}
            () = news => {}
        }
        self.then = Then::Look;
    }
}

/// The answer that sends what comes from `source`, which its reader may read now.
pub fn stream<S: Source>(reader: Reader, source: S) -> Response {
    let changes = reader.app.installation.common.store.changes();
    let queue = VecDeque::from([Event::default().retry(RETRY)]);
    let state = State { reader, source, changes, queue, then: Then::Look };
    let events = stream::unfold(state, |mut state| async move {
        let next = state.next().await.unwrap_or_else(|error: AppError| {
            // Who comes back is told why by the answer to that.
            tracing::debug!(%error, "a stream ends");
            None
        });
        next.map(|event| (Ok::<_, Infallible>(event), state))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response();
    // Proxies that collect answers would keep everything for themselves.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
