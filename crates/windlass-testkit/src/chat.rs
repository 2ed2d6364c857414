//! Chats and receivers of webhooks on a loopback port: what of the APIs of Slack and Mattermost a bot that writes and changes its
//! messages uses, with the rules that their documentation has for it, incoming webhooks, and an endpoint for signed webhooks.
//!
//! `/api/…` is Slack's Web API, `/api/v4/…` Mattermost's, `/hooks/KEY` an incoming webhook, `/signed` takes anything.

use crate::TestkitError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// The token of the bot.
pub const TOKEN: &str = "xoxb-of-tests-4711";
/// Id and name of the channel that it is in, and the team of Mattermost.
pub const CHANNEL: &str = "C0123456789";
pub const CHANNEL_NAME: &str = "ops";
pub const TEAM: &str = "company";
/// The key of the incoming webhook.
pub const HOOK: &str = "hook-of-tests-4711";

/// Longest texts that are taken, letters.
const SLACK_LONGEST: usize = 40_000;
const MATTERMOST_LONGEST: usize = 16_383;

/// A message as people see it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// `ts` of Slack, `id` of Mattermost, a number of a webhook.
    pub id: String,
    pub text: String,
    pub attachments: Value,
    /// What programs see: `metadata` or `props`.
    pub hidden: Value,
    /// How often it was changed.
    pub changes: usize,
}

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Method and path.
    pub request: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

#[derive(Debug, Default)]
struct Inside {
    posts: Vec<Post>,
    heard: Vec<Heard>,
    /// Status, and seconds of `Retry-After`, of the next so many requests, which do nothing.
    refusals: Option<(usize, u16, Option<u64>)>,
    /// Nobody may read channels.
    blind: bool,
    /// Ids are drawn from here.
    drawn: u64,
}

/// A chat that runs until this is dropped.
#[derive(Debug)]
pub struct Chat {
    place: String,
    inside: Arc<Mutex<Inside>>,
    /// While it is true requests are done, and not answered.
    held: watch::Sender<bool>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct App {
    inside: Arc<Mutex<Inside>>,
    held: watch::Receiver<bool>,
}

impl Chat {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// There is no port.
    pub fn start() -> Result<Self, TestkitError> {
        Self::start_at("127.0.0.1:0")
    }

    /// Starts it at an address, such as that of one that was stopped.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start_at(address: &str) -> Result<Self, TestkitError> {
        let failed = |source| TestkitError::Start { program: "the chat".into(), source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let place = listener.local_addr().map_err(failed)?.to_string();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (inside, (held, holding)) = (Arc::<Mutex<Inside>>::default(), watch::channel(false));
        let app = App { inside: inside.clone(), held: holding };
        let (stop, stopped) = oneshot::channel();
        let served = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let router = Router::new().fallback(answer).with_state(app);
                tokio::select! {
                    // What is under way ends with it, as when it is killed.
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { place, inside, held, stop: Some(stop), served: Some(served) })
    }

    /// `127.0.0.1:PORT`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// `http://127.0.0.1:PORT`, and what comes after it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.place)
    }

    /// The address of the incoming webhook.
    pub fn hook(&self) -> String {
        self.url(&format!("/hooks/{HOOK}"))
    }

    /// All messages, in the order in which they were posted.
    pub fn posts(&self) -> Vec<Post> {
        self.lock().posts.clone()
    }

    /// All requests that were made.
    pub fn heard(&self) -> Vec<Heard> {
        self.lock().heard.clone()
    }

    /// Answers the next `count` requests with this status, and `Retry-After`, and does nothing for them.
    pub fn refuse(&self, count: usize, status: u16, after: Option<u64>) {
        self.lock().refusals = Some((count, status, after));
    }

    /// Somebody removes a message.
    pub fn remove(&self, id: &str) {
        self.lock().posts.retain(|post| post.id != id);
    }

    /// From now on the bot may not read channels.
    pub fn blind(&self) {
        self.lock().blind = true;
    }

    /// Does what it is asked to and answers nobody, until [`Self::release`].
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Ends [`Self::hold`].
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.served.take().map(JoinHandle::join);
    }
}

async fn answer(State(mut app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let answer = {
        let mut inside = app.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
        inside.heard.push(Heard {
            request: format!("{} {}", parts.method, parts.uri.path()),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        let asked = Asked {
            method: parts.method.to_string(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body,
        };
        inside.answer(parts.uri.path(), &asked)
    };
    // Nobody holds it any more when the sender is gone.
    let _ = app.held.wait_for(|held| !held).await;
    answer
}

struct Asked {
    method: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn json(&self) -> Option<Value> {
        let kind = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        kind.starts_with("application/json").then(|| serde_json::from_slice(&self.body).ok())?
    }

    fn is_authorized(&self) -> bool {
        let given = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        given == Some(&format!("Bearer {TOKEN}"))
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

fn reply(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn slack_error(error: &str) -> Response {
    reply(200, &json!({ "ok": false, "error": error }))
}

fn mattermost_error(status: u16, message: &str) -> Response {
    reply(status, &json!({ "id": "api.error", "message": message, "status_code": status }))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

impl Inside {
    fn answer(&mut self, path: &str, asked: &Asked) -> Response {
        if let Some((count, status, after)) = self.refusals.take() {
            self.refusals = (count > 1).then_some((count - 1, status, after));
            let mut answer = reply(status, &json!({ "message": "not now" }));
            if let Some(after) = after {
                answer.headers_mut().insert(header::RETRY_AFTER, after.into());
            }
            return answer;
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("POST", ["signed"]) => reply(200, &json!({})),
            ("POST", ["hooks", key]) => self.hook(key, asked),
            (_, ["api", "v4", ..]) if !asked.is_authorized() => mattermost_error(401, "Invalid or expired session"),
            ("POST", ["api", "v4", "posts"]) => self.mattermost_post(asked),
            ("PUT", ["api", "v4", "posts", id]) => self.mattermost_update(id, asked),
            ("GET", ["api", "v4", "channels", channel, "posts"]) => self.mattermost_list(channel, asked),
            ("GET", ["api", "v4", "teams", "name", team, "channels", "name", channel]) => {
                if (*team, *channel) != (TEAM, CHANNEL_NAME) {
                    return mattermost_error(404, "Channel does not exist");
                }
                reply(200, &json!({ "id": CHANNEL, "name": CHANNEL_NAME }))
            }
            (_, ["api", _]) if asked.headers.get(header::AUTHORIZATION).is_none() => slack_error("not_authed"),
            (_, ["api", _]) if !asked.is_authorized() => slack_error("invalid_auth"),
            ("POST", ["api", "chat.postMessage"]) => self.slack_post(asked),
            ("POST", ["api", "chat.update"]) => self.slack_update(asked),
            (_, ["api", "conversations.history"]) => self.slack_history(asked),
            _ => reply(404, &json!({})),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn hook(&mut self, key: &str, asked: &Asked) -> Response {
        if key != HOOK {
            return (StatusCode::NOT_FOUND, "no_service").into_response();
        }
        let Some(body) = asked.json() else { return (StatusCode::BAD_REQUEST, "invalid_payload").into_response() };
        let text = body["text"].as_str().unwrap_or_default().to_owned();
        if text.is_empty() && is_empty(&body["attachments"]) {
            return (StatusCode::BAD_REQUEST, "no_text").into_response();
        }
        let id = self.draw().to_string();
        let attachments = body["attachments"].clone();
        self.posts.push(Post { id, text, attachments, hidden: Value::Null, changes: 0 });
        "ok".into_response()
    }

    fn slack_message(body: &Value) -> Result<(String, Value, Value), &'static str> {
        let text = body["text"].as_str().unwrap_or_default().to_owned();
        if text.is_empty() && is_empty(&body["attachments"]) {
            return Err("no_text");
        }
        if text.chars().count() > SLACK_LONGEST {
            return Err("msg_too_long");
        }
        let hidden = &body["metadata"];
        let is_whole = hidden["event_type"].is_string() && hidden["event_payload"].is_object();
        if !hidden.is_null() && !is_whole {
            return Err("invalid_metadata_format");
        }
        Ok((text, body["attachments"].clone(), hidden.clone()))
    }

    fn slack_post(&mut self, asked: &Asked) -> Response {
        let Some(body) = asked.json() else { return slack_error("invalid_json") };
        // Messages may be posted by the name of a channel, too.
        if body["channel"] != CHANNEL && body["channel"] != format!("#{CHANNEL_NAME}") {
            return slack_error("channel_not_found");
        }
        match Self::slack_message(&body) {
            Err(refused) => slack_error(refused),
            Ok((text, attachments, hidden)) => {
                let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
                let id = format!("{now}.{:06}", self.draw());
                self.posts.push(Post { id: id.clone(), text, attachments, hidden, changes: 0 });
                reply(200, &json!({ "ok": true, "channel": CHANNEL, "ts": id }))
            }
        }
    }

    fn slack_update(&mut self, asked: &Asked) -> Response {
        let Some(body) = asked.json() else { return slack_error("invalid_json") };
        if body["channel"] != CHANNEL {
            return slack_error("channel_not_found");
        }
        let (text, attachments, hidden) = match Self::slack_message(&body) {
            Ok(message) => message,
            Err(refused) => return slack_error(refused),
        };
        let Some(post) = self.posts.iter_mut().find(|post| body["ts"] == post.id) else {
            return slack_error("message_not_found");
        };
        *post = Post { id: post.id.clone(), text, attachments, hidden, changes: post.changes + 1 };
        reply(200, &json!({ "ok": true, "channel": CHANNEL, "ts": post.id }))
    }

    fn slack_history(&self, asked: &Asked) -> Response {
        if self.blind {
            return slack_error("missing_scope");
        }
        if asked.parameter("channel") != Some(CHANNEL) {
            return slack_error("channel_not_found");
        }
        let oldest: f64 = asked.parameter("oldest").and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let limit = asked.parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(100);
        let told = asked.parameter("include_all_metadata") == Some("true");
        let newer = self.posts.iter().rev().filter(|post| post.id.parse::<f64>().is_ok_and(|at| at > oldest));
        let message = |post: &Post| {
            let mut message = json!({ "type": "message", "ts": post.id, "text": post.text });
            if told && !post.hidden.is_null() {
                message["metadata"] = post.hidden.clone();
            }
            message
        };
        let messages: Vec<Value> = newer.take(limit).map(message).collect();
        reply(200, &json!({ "ok": true, "messages": messages, "has_more": false }))
    }

    fn mattermost_post(&mut self, asked: &Asked) -> Response {
        let Some(body) = asked.json() else { return mattermost_error(400, "Invalid or missing post in request body.") };
        if body["channel_id"] != CHANNEL {
            return mattermost_error(403, "You do not have the appropriate permissions.");
        }
        let text = body["message"].as_str().unwrap_or_default().to_owned();
        let attachments = body["props"]["attachments"].clone();
        if text.is_empty() && is_empty(&attachments) || text.chars().count() > MATTERMOST_LONGEST {
            return mattermost_error(400, "Invalid message.");
        }
        let id = format!("p{:025}", self.draw());
        self.posts.push(Post { id: id.clone(), text, attachments, hidden: body["props"].clone(), changes: 0 });
        reply(201, &json!({ "id": id, "channel_id": CHANNEL }))
    }

    fn mattermost_update(&mut self, id: &str, asked: &Asked) -> Response {
        let body = asked.json().unwrap_or_default();
        if body["id"] != id {
            return mattermost_error(400, "Invalid or missing id in request body.");
        }
        let Some(post) = self.posts.iter_mut().find(|post| post.id == id) else {
            return mattermost_error(404, "Unable to get the post.");
        };
        post.text = body["message"].as_str().unwrap_or_default().to_owned();
        post.attachments = body["props"]["attachments"].clone();
        post.hidden = body["props"].clone();
        post.changes += 1;
        reply(200, &json!({ "id": id }))
    }

    fn mattermost_list(&self, channel: &str, asked: &Asked) -> Response {
        if self.blind || channel != CHANNEL {
            return mattermost_error(403, "You do not have the appropriate permissions.");
        }
        if asked.parameter("since").and_then(|text| text.parse::<i64>().ok()).is_none() {
            return mattermost_error(400, "Invalid or missing since parameter in request URL.");
        }
        let order: Vec<&str> = self.posts.iter().rev().map(|post| post.id.as_str()).collect();
        let post = |post: &Post| (post.id.clone(), json!({ "id": post.id, "delete_at": 0, "props": post.hidden }));
        let posts: serde_json::Map<String, Value> = self.posts.iter().map(post).collect();
        reply(200, &json!({ "order": order, "posts": posts }))
    }
}
