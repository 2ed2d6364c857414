//! Incoming webhooks of Slack and Mattermost. They tell nothing of what they took: each message stays as it is.

use super::chat::{Dialect, draw};
use super::http::Http;
use super::{Delivery, SendError};
use serde_json::json;

pub struct Webhook {
    http: Http,
    dialect: Dialect,
}

impl Webhook {
    pub(super) fn new(url: &str) -> Result<Self, SendError> {
        let http = Http::new("url", url)?;
        let slack = ["hooks.slack.com", "hooks.slack-gov.com"].contains(&http.place().as_str());
        Ok(Self { http, dialect: if slack { Dialect::Slack } else { Dialect::Mattermost } })
    }

    pub(super) fn send(&self, delivery: &Delivery<'_>) -> Result<(), SendError> {
        let (text, attachments) = draw(self.dialect, delivery.notice);
        self.http.post(&[], json!({ "text": text, "attachments": attachments }).to_string().as_bytes())
    }
}
