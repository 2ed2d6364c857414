//! Channels that messages go through: chats, mail, and webhooks of programs.
//!
//! A message is sent at least once. It carries a key that is the same for every attempt, and a channel that can tell by it what
//! arrived before is asked to.

mod bot;
mod chat;
mod email;
mod error;
mod http;
mod signed;
mod webhook;

pub use error::SendError;

use windlass_model::operation::occasion::{Manner, Notice};

/// Where a notifier's messages go, with its secrets. It is made when it is needed and not kept.
pub enum Channel {
    Webhook(webhook::Webhook),
    Bot(bot::Bot),
    Email(email::Email),
    Signed(signed::Signed),
}

/// One message on its way.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The same for every attempt.
    pub key: &'a str,
    /// The same for all messages about one thing.
    pub thread: &'a str,
    /// What [`Channel::send`] answered for the first message about it; `None` for the first.
    pub reference: Option<&'a str>,
    /// Since when, seconds since the Unix epoch, another attempt may have arrived of which nobody heard.
    pub unsure_since: Option<i64>,
    pub notice: &'a Notice,
    /// Now, seconds since the Unix epoch.
    pub at: i64,
}

impl Channel {
    /// An incoming webhook of Slack or Mattermost.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn webhook(url: &str) -> Result<Self, SendError> {
        webhook::Webhook::new(url).map(Self::Webhook)
    }

    /// A bot of Slack, or of Mattermost where `api` is an address that ends with `/api/v4`. `channel` is an id, of Slack also
    /// `#name`, of Mattermost also `team/name`.
    ///
    /// # Errors
    /// The address cannot be used.
    pub fn bot(api: Option<&str>, token: &str, channel: &str) -> Result<Self, SendError> {
        bot::Bot::new(api, token, channel).map(Self::Bot)
    }

    /// Mail through `smtp`: `smtps://USER:PASSWORD@HOST` (TLS), `smtp://…` (STARTTLS; plain on this machine).
    ///
    /// # Errors
    /// The address of the server, of the sender or of a recipient is not well formed.
    pub fn email(smtp: &str, from: &str, to: &[String]) -> Result<Self, SendError> {
        email::Email::new(smtp, from, to).map(Self::Email)
    }

    /// A webhook of the Standard Webhooks specification. `key` is `whsec_` and Base64; several, between spaces, sign each.
    ///
    /// # Errors
    /// The address or a key cannot be used.
    pub fn signed(url: &str, key: &str) -> Result<Self, SendError> {
        signed::Signed::new(url, key).map(Self::Signed)
    }

    /// How it takes several messages about one thing.
    pub fn manner(&self) -> Manner {
        match self {
            Self::Bot(_) => Manner::InPlace,
            Self::Webhook(_) | Self::Email(_) => Manner::Apart,
            Self::Signed(_) => Manner::Every,
        }
    }

    /// Sends it; where it can be found there, for later messages about the same. Blocks, for at most half a minute.
    ///
    /// # Errors
    /// It was not taken, or nobody knows.
    pub fn send(&self, delivery: &Delivery<'_>) -> Result<Option<String>, SendError> {
        match self {
            Self::Webhook(webhook) => webhook.send(delivery).map(|()| None),
            Self::Bot(bot) => bot.send(delivery).map(Some),
            Self::Email(email) => email.send(delivery).map(Some),
            Self::Signed(signed) => signed.send(delivery).map(|()| None),
        }
    }
}

/// A name for a key in the few letters that every protocol takes: 32 hexadecimal digits.
fn name(key: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(key)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
