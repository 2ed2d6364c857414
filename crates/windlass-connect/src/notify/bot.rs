//! Bots of Slack and Mattermost: one message about each thing, which is changed when there is something new. The message carries
//! the name of what it is about where programs alone see it, so that it is found again when nobody heard whether it arrived.

use super::chat::{Dialect, draw};
use super::http::{Answer, Http};
use super::{Delivery, SendError, name};
use serde_json::{Value, json};
use ureq::http::Method;

const SLACK: &str = "https://slack.com/api";
/// Of messages that this program sends.
const EVENT: &str = "windlass";
/// How many messages of a channel are looked through for one of ours.
const PAGE: u32 = 200;
/// Clocks differ, seconds.
const SKEW: i64 = 60;

pub struct Bot {
    http: Http,
    /// Without a slash at its end.
    api: String,
    dialect: Dialect,
    authorization: String,
    channel: String,
}

/// What became of the message that was to be changed.
enum Changed {
    Yes,
    /// It is not there any more, or too old.
    Gone,
}

impl Bot {
    pub(super) fn new(api: Option<&str>, token: &str, channel: &str) -> Result<Self, SendError> {
        let api = api.unwrap_or(SLACK).trim_end_matches('/');
        let http = Http::new("api", api)?;
        let dialect = if api.ends_with("/api/v4") { Dialect::Mattermost } else { Dialect::Slack };
        let authorization = format!("Bearer {}", token.trim());
        Ok(Self { http, api: api.to_owned(), dialect, authorization, channel: channel.trim().to_owned() })
    }

    /// Where the message is: `CHANNEL/TIME` of Slack, an id of Mattermost.
    pub(super) fn send(&self, delivery: &Delivery<'_>) -> Result<String, SendError> {
        let (text, attachments) = draw(self.dialect, delivery.notice);
        let mark = name(delivery.thread);
        let known = match (delivery.reference, delivery.unsure_since) {
            (Some(reference), _) => Some(reference.to_owned()),
            (None, Some(since)) => self.find(&mark, since - SKEW)?,
            (None, None) => None,
        };
        if let Some(reference) = known
            && let Changed::Yes = self.change(&reference, &mark, &text, &attachments)?
        {
            return Ok(reference);
        }
        self.post(&mark, &text, &attachments)
    }

    fn post(&self, mark: &str, text: &str, attachments: &Value) -> Result<String, SendError> {
        match self.dialect {
            Dialect::Slack => {
                let answer =
                    self.slack("chat.postMessage", &self.slack_message(&self.channel, mark, text, attachments))?;
                let answer = answer.map_err(|error| self.slack_error(&error))?;
                match (answer["channel"].as_str(), answer["ts"].as_str()) {
                    (Some(channel), Some(time)) => Ok(format!("{channel}/{time}")),
                    _ => Err(self.http.away("answers without the place of the message", None)),
                }
            }
            Dialect::Mattermost => {
                let channel = self.mattermost_channel()?;
                let body = json!({
                    "channel_id": channel, "message": text,
                    "props": { "attachments": attachments, EVENT: mark },
                });
                let answer = self.mattermost(Method::POST, "/posts", Some(&body))?;
                self.http.taken(&answer)?;
                let id = answer.json()["id"].as_str().map(str::to_owned);
                id.ok_or_else(|| self.http.away("answers without the id of the post", None))
            }
        }
    }

    fn change(&self, reference: &str, mark: &str, text: &str, attachments: &Value) -> Result<Changed, SendError> {
        match self.dialect {
            Dialect::Slack => {
                let Some((channel, time)) = reference.split_once('/') else { return Ok(Changed::Gone) };
                let mut message = self.slack_message(channel, mark, text, attachments);
                message["ts"] = time.into();
                match self.slack("chat.update", &message)? {
                    Ok(_) => Ok(Changed::Yes),
                    Err(error) => match error.as_str() {
                        "message_not_found" | "cant_update_message" | "edit_window_closed" => Ok(Changed::Gone),
                        error => Err(self.slack_error(error)),
                    },
                }
            }
            Dialect::Mattermost => {
                let props = json!({ "attachments": attachments, EVENT: mark });
                let body = json!({ "id": reference, "message": text, "props": props });
                let answer = self.mattermost(Method::PUT, &format!("/posts/{}", segment(reference)), Some(&body))?;
                if answer.status == 404 {
                    return Ok(Changed::Gone);
                }
                self.http.taken(&answer).map(|()| Changed::Yes)
            }
        }
    }

    /// The message with this mark that was sent since then, where the bot may read the channel.
    fn find(&self, mark: &str, since: i64) -> Result<Option<String>, SendError> {
        match self.dialect {
            Dialect::Slack => {
                let query = format!(
                    "conversations.history?channel={}&oldest={since}&limit={PAGE}&include_all_metadata=true",
                    segment(&self.channel)
                );
                let url = format!("{}/{query}", self.api);
                let answer = self.http.ask(Method::GET, &url, &[("authorization", &self.authorization)], None)?;
                self.http.taken(&answer)?;
                let answer = answer.json();
                // A bot that may only write, or that knows its channel by name, cannot tell.
                let ours = |message: &&Value| message["metadata"]["event_payload"]["mark"] == mark;
                let found = answer["messages"].as_array().and_then(|list| list.iter().find(ours));
                Ok(found.and_then(|found| found["ts"].as_str()).map(|time| format!("{}/{time}", self.channel)))
            }
            Dialect::Mattermost => {
                let channel = self.mattermost_channel()?;
                let path = format!("/channels/{}/posts?since={}", segment(&channel), since.saturating_mul(1000));
                let answer = self.mattermost(Method::GET, &path, None)?;
                if answer.status == 403 {
                    return Ok(None);
                }
                self.http.taken(&answer)?;
                let answer = answer.json();
                let ours = |post: &&Value| post["props"][EVENT] == mark && post["delete_at"].as_i64().unwrap_or(0) == 0;
                let found = answer["posts"].as_object().and_then(|posts| posts.values().find(ours));
                Ok(found.and_then(|found| found["id"].as_str()).map(str::to_owned))
            }
        }
    }

    fn slack_message(&self, channel: &str, mark: &str, text: &str, attachments: &Value) -> Value {
        json!({
            "channel": channel, "text": text, "attachments": attachments, "unfurl_links": false,
            "metadata": { "event_type": EVENT, "event_payload": { "mark": mark } },
        })
    }

    /// What a method of Slack answers, or the name of its error.
    fn slack(&self, method: &str, body: &Value) -> Result<Result<Value, String>, SendError> {
        let url = format!("{}/{method}", self.api);
        let headers = [("authorization", self.authorization.as_str())];
        let answer = self.http.ask(Method::POST, &url, &headers, Some(body.to_string().as_bytes()))?;
        self.http.taken(&answer)?;
        let json = answer.json();
        if json["ok"] == true {
            return Ok(Ok(json));
        }
        Ok(Err(json["error"].as_str().unwrap_or("no error is named").to_owned()))
    }

    fn slack_error(&self, error: &str) -> SendError {
        match error {
            "msg_too_long"
            | "no_text"
            | "invalid_attachments"
            | "too_many_attachments"
            | "invalid_metadata_format"
            | "metadata_too_large" => self.http.refused(error),
            error => self.http.away(format!("does not take it: {}", crate::error::plain(error)), None),
        }
    }

    fn mattermost(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, SendError> {
        let headers = [("authorization", self.authorization.as_str())];
        let body = body.map(Value::to_string);
        self.http.ask(method, &format!("{}{path}", self.api), &headers, body.as_ref().map(String::as_bytes))
    }

    /// The id of the channel, which `team/name` may stand for.
    fn mattermost_channel(&self) -> Result<String, SendError> {
        let Some((team, channel)) = self.channel.split_once('/') else { return Ok(self.channel.clone()) };
        let path = format!("/teams/name/{}/channels/name/{}", segment(team), segment(channel));
        let answer = self.mattermost(Method::GET, &path, None)?;
        self.http.taken(&answer)?;
        let id = answer.json()["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| self.http.away("answers without the id of the channel", None))
    }
}

/// A part of an address.
fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
