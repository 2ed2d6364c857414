//! The channel of a notifier with its secrets, which are read when something is sent and kept no longer.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use windlass_connect::notify::{Channel, Delivery, SendError};
use windlass_lang::expression::{self, Scope};
use windlass_model::mask::Mask;
use windlass_model::operation::occasion::{Manner, Notice};
use windlass_model::operation::{Expression, Notifier, NotifyChannel, SecretSource};

/// A channel that something can be sent through.
pub(super) struct Open {
    channel: Arc<Channel>,
    mask: Mask,
}

/// Reads the secrets of a notifier and makes its channel.
pub(super) async fn open(notifier: &Notifier) -> Result<Open, SendError> {
    let mut secrets = Map::new();
    for source in &notifier.secrets {
        secrets.insert(source.name.clone(), read(source).await?.into());
    }
    let hidden: BTreeSet<String> = secrets.values().filter_map(Value::as_str).map(str::to_owned).collect();
    let scope = Scope::default().with("secret", secrets.into());
    let text = |expression: &Expression| {
        expression::text(expression, &scope).map_err(|error| SendError::Settings { problem: error.to_string() })
    };
    let channel = match &notifier.channel {
        NotifyChannel::Webhook { url } => Channel::webhook(&text(url)?),
        NotifyChannel::Bot { api, token, channel } => Channel::bot(api.as_deref(), &text(token)?, channel),
        NotifyChannel::Email { smtp, from, to } => Channel::email(&text(smtp)?, from, to),
        NotifyChannel::Signed { url, key } => Channel::signed(&text(url)?, &text(key)?),
    };
    Ok(Open { channel: Arc::new(channel?), mask: Mask::new(hidden.iter().map(String::as_str)) })
}

impl Open {
    /// How it takes several messages about one thing.
    pub fn manner(&self) -> Manner {
        self.channel.manner()
    }

    /// As [`Channel::send`], on a thread that may block.
    pub async fn send(
        &self,
        at: i64,
        key: &str,
        thread: &str,
        reference: Option<&str>,
        unsure_since: Option<i64>,
        notice: &Notice,
    ) -> Result<Option<String>, SendError> {
        let (channel, key, thread) = (self.channel.clone(), key.to_owned(), thread.to_owned());
        let (reference, notice) = (reference.map(str::to_owned), notice.clone());
        let sent = tokio::task::spawn_blocking(move || {
            let reference = reference.as_deref();
            channel.send(&Delivery { key: &key, thread: &thread, reference, unsure_since, notice: &notice, at })
        });
        let sent = sent.await.unwrap_or_else(|error| Err(SendError::Settings { problem: error.to_string() }));
        sent.map_err(|error| self.hidden(error))
    }

    /// What a channel answers may repeat what it was sent.
    fn hidden(&self, error: SendError) -> SendError {
        let hide = |text: String| self.mask.text(&text);
        match error {
            SendError::Settings { problem } => SendError::Settings { problem: hide(problem) },
            SendError::Away { place, problem, after } => {
                SendError::Away { place: hide(place), problem: hide(problem), after }
            }
            SendError::Refused { place, problem } => SendError::Refused { place: hide(place), problem: hide(problem) },
        }
    }
}

async fn read(source: &SecretSource) -> Result<String, SendError> {
    let settings = |why| SendError::Settings { problem: format!("the secret `{}` cannot be read: {why}", source.name) };
    crate::steps::operation::secrets::value(source, Path::new("."), None).await.map_err(settings)
}
