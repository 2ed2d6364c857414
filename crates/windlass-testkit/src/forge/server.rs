//! One forge: a server over its state, with what may go wrong on the way.

use super::delivery::{Deliveries, Outbox};
use super::state::{State, TOKEN};
use super::{Dialect, bitbucket, data_center, gitea, github, gitlab};
use crate::TestkitError;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};
use tokio::sync::oneshot;

/// A forge that runs until this is dropped.
pub struct Forge {
    place: String,
    inside: Arc<Inside>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
}

struct Inside {
    dialect: Dialect,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    outbox: Outbox,
}

/// What somebody does.
type Act = Box<dyn FnOnce(&mut State) + Send>;

#[derive(Default)]
struct Faults {
    heard: Vec<Heard>,
    /// Status, and seconds of `Retry-After`, of the next so many requests, which do nothing.
    refusals: Option<(usize, u16, Option<u64>)>,
    /// So many answers to requests that create something are lost.
    lost: usize,
    /// What somebody does right before the next wish to merge is answered.
    overtaking: Option<Act>,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Heard {
    pub method: String,
    /// With its query.
    pub path: String,
    /// The change that it was about.
    pub change: Option<u64>,
    pub status: u16,
    /// When it came.
    pub at: Instant,
}

/// A request.
pub(super) struct Asked {
    pub method: String,
    /// Its parts between slashes, decoded.
    pub path: Vec<String>,
    query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn parts(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The body; null when it is no JSON or is not called so.
    pub fn json(&self) -> Value {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/json") {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        self.parameter(name)?.parse().ok()
    }

    /// Path and query with another value of one parameter.
    pub fn path_with(&self, name: &str, value: &str) -> String {
        let part =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let path: Vec<String> = self.path.iter().map(|text| part(text)).collect();
        let others = self.query.iter().filter(|(key, _)| key != name);
        let mut query: Vec<String> = others.map(|(key, value)| format!("{}={}", part(key), part(value))).collect();
        query.push(format!("{name}={}", part(value)));
        format!("/{}?{}", path.join("/"), query.join("&"))
    }
}

/// An answer.
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Nothing where it is null.
    pub body: Value,
}

impl Reply {
    pub fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    pub fn empty(status: u16) -> Self {
        Self::new(status, Value::Null)
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = if self.body.is_null() { String::new() } else { self.body.to_string() };
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

impl Forge {
    /// # Errors
    /// There is no port, or no git.
    pub fn github() -> Result<Self, TestkitError> {
        Self::start(github::DIALECT)
    }

    /// Gitea and Forgejo, which answer alike.
    ///
    /// # Errors
    /// There is no port, or no git.
    pub fn gitea() -> Result<Self, TestkitError> {
        Self::start(gitea::DIALECT)
    }

    /// # Errors
    /// There is no port, or no git.
    pub fn gitlab() -> Result<Self, TestkitError> {
        Self::start(gitlab::DIALECT)
    }

    /// Bitbucket Cloud.
    ///
    /// # Errors
    /// There is no port, or no git.
    pub fn bitbucket() -> Result<Self, TestkitError> {
        Self::start(bitbucket::DIALECT)
    }

    /// Bitbucket Data Center.
    ///
    /// # Errors
    /// There is no port, or no git.
    pub fn data_center() -> Result<Self, TestkitError> {
        Self::start(data_center::DIALECT)
    }

    pub(super) fn start(dialect: Dialect) -> Result<Self, TestkitError> {
        let failed = |source| TestkitError::Start { program: dialect.name.into(), source };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let place = listener.local_addr().map_err(failed)?.to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut state = State::new(dialect.reference)?;
        state.url = format!("http://{place}");
        let first = [("README.md", Some("# infrastructure\n"))];
        state.push("anna", super::state::REPOSITORY, "main", None, &first)?;
        state.happened.clear();
        let inside = Arc::new(Inside {
            dialect,
            state: Mutex::new(state),
            faults: Mutex::default(),
            outbox: Outbox::start().map_err(failed)?,
        });
        let (stop, stopped) = oneshot::channel();
        let served = inside.clone();
        let served = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let router = Router::new().fallback(move |request: Request| answer(served.clone(), request));
                tokio::select! {
                    // What is under way ends with it, as when it is killed.
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { place, inside, stop: Some(stop), served: Some(served) })
    }

    pub fn name(&self) -> &'static str {
        self.inside.dialect.name
    }

    /// `http://127.0.0.1:PORT`, and what comes after it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.place)
    }

    /// Acts as people, or looks; what happened is told to the webhook.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.inside.state();
        let result = act(&mut state);
        self.inside.tell(&mut state);
        result
    }

    /// Sees what was pushed to its repositories with git.
    ///
    /// # Errors
    /// git fails.
    pub fn pushed(&self, login: &str) -> Result<(), TestkitError> {
        self.with(|state| state.look(login))
    }

    /// All requests that were answered.
    pub fn heard(&self) -> Vec<Heard> {
        self.inside.faults().heard.clone()
    }

    /// How many requests were answered.
    pub fn asked(&self) -> usize {
        self.inside.faults().heard.len()
    }

    /// How many requests were about a change.
    pub fn calls(&self, number: u64) -> usize {
        self.inside.faults().heard.iter().filter(|heard| heard.change == Some(number)).count()
    }

    /// Answers the next `count` requests with this status, and `Retry-After`, and does nothing for them.
    pub fn refuse(&self, count: usize, status: u16, after: Option<u64>) {
        self.inside.faults().refusals = (count > 0).then_some((count, status, after));
    }

    /// The answers to the next `count` requests that create something are cut off, although it is created.
    pub fn answers_lose(&self, count: usize) {
        self.inside.faults().lost = count;
    }

    /// Somebody does this right before the next wish to merge is answered.
    pub fn overtake(&self, act: impl FnOnce(&mut State) + Send + 'static) {
        self.inside.faults().overtaking = Some(Box::new(act));
    }

    /// What the token of tests may do from now on.
    pub fn allow(&self, rights: &[super::state::Right]) {
        let mut state = self.inside.state();
        if let Some(token) = state.tokens.get_mut(TOKEN) {
            token.rights = rights.iter().copied().collect();
        }
    }

    /// Webhooks.
    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries { outbox: &self.inside.outbox }
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.served.take().map(JoinHandle::join);
    }
}

impl Inside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &mut State) {
        for happening in std::mem::take(&mut state.happened) {
            if let Some(message) = (self.dialect.message)(state, &happening) {
                self.outbox.put(&self.dialect, &message);
            }
        }
    }

    fn reply(&self, asked: &Asked) -> Reply {
        let refusal = {
            let mut faults = self.faults();
            let refusal = faults.refusals.take();
            faults.refusals =
                refusal.and_then(|(count, status, after)| (count > 1).then_some((count - 1, status, after)));
            refusal
        };
        if let Some((_, status, after)) = refusal {
            let reply = Reply::new(status, serde_json::json!({ "message": "not now" }));
            return match after {
                Some(after) => reply.with("retry-after", after.to_string()),
                None => reply,
            };
        }
        let mut state = self.state();
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        if let Some(budget) = &mut state.budget {
            if budget.resets_at <= now {
                budget.remaining = budget.limit;
                budget.resets_at = now + 3_600;
            }
            if budget.remaining == 0 {
                return (self.dialect.exhausted)(budget);
            }
            budget.remaining -= 1;
        }
        if asked.path.last().is_some_and(|part| part == "merge")
            && let Some(act) = self.faults().overtaking.take()
        {
            act(&mut state);
        }
        // Whoever pushes with git is not known here.
        if let Err(error) = state.look("anna") {
            return Reply::new(500, serde_json::json!({ "message": error.to_string() }));
        }
        let mut reply = (self.dialect.answer)(&mut state, asked);
        if let Some(budget) = &state.budget {
            reply.headers.extend((self.dialect.budget)(budget));
        }
        self.tell(&mut state);
        reply
    }
}

async fn answer(inside: Arc<Inside>, request: Request) -> Response {
    let at = Instant::now();
    let (parts, body) = request.into_parts();
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let query = parts.uri.query().unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().trim_matches('/').split('/').map(decode).collect(),
        // A plus is a space in a query, as forms have it.
        query: pairs.map(|(name, value)| (decode(name), decode(&value.replace('+', " ")))).collect(),
        headers: parts.headers,
        body: axum::body::to_bytes(body, 16 << 20).await.unwrap_or_default(),
    };
    let reply = inside.reply(&asked);
    let mut faults = inside.faults();
    faults.heard.push(Heard {
        method: asked.method.clone(),
        path: parts.uri.to_string(),
        change: change_of(&asked.path),
        status: reply.status,
        at,
    });
    if faults.lost > 0 && asked.method == "POST" && (200..300).contains(&reply.status) {
        faults.lost -= 1;
        let cut = futures_util::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut off"))]);
        return Response::new(Body::from_stream(cut));
    }
    reply.response()
}

/// Forges name a change after what they call changes.
fn change_of(path: &[String]) -> Option<u64> {
    let kinds = ["pulls", "issues", "merge_requests", "pullrequests", "pull-requests"];
    let at = path.iter().position(|part| kinds.contains(&part.as_str()))?;
    path.get(at + 1)?.parse().ok()
}

/// So many entries of a list from one on, and how many there are.
pub(super) fn page(list: Vec<Value>, from: usize, size: usize) -> (Vec<Value>, usize) {
    let total = list.len();
    (list.into_iter().skip(from).take(size).collect(), total)
}
