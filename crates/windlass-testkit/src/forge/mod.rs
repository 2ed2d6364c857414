//! Forges on a loopback port: the APIs of GitHub's kin as their documentation has them, over one state with real git repositories.
//!
//! A test acts as people do through [`Forge::with`], and as the network does with [`Forge::refuse`], [`Forge::answers_lose`] and
//! the switches of [`Forge::deliveries`]. What is pushed with git is seen at the next request.

pub mod bitbucket;
mod data_center;
mod delivery;
mod gitea;
pub mod github;
mod gitlab;
mod repository;
mod server;
pub mod state;

pub use delivery::{Delivered, Deliveries, Order};
pub use repository::{Bare, Method};
pub use server::{Forge, Heard};

use serde_json::Value;
use server::{Asked, Reply};
use state::{Budget, Happening, State};

/// What differs from forge to forge.
#[derive(Clone, Copy)]
pub struct Dialect {
    pub name: &'static str,
    /// Under which reference the repository offers the head of a change.
    reference: fn(u64) -> Option<String>,
    /// What it answers, whoever asks.
    answer: fn(&mut State, &Asked) -> Reply,
    /// What its webhooks tell of something, where they do.
    message: fn(&State, &Happening) -> Option<Message>,
    /// The headers of a delivery: of this message, with this id, signed with this secret.
    headers: fn(&Message, &str, &str) -> Vec<(String, String)>,
    /// How it says how much more it takes, and what it answers when that is nothing.
    budget: fn(&Budget) -> Vec<(String, String)>,
    exhausted: fn(&Budget) -> Reply,
}

/// A delivery of a webhook.
pub struct Message {
    /// As the forge calls it.
    event: String,
    body: Value,
}

impl Message {
    /// The bytes that are sent, and signed.
    fn bytes(&self) -> Vec<u8> {
        self.body.to_string().into_bytes()
    }
}

/// Microseconds as RFC 3339, with so many digits of the second.
fn time(micros: i64, digits: u8) -> String {
    let at = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
    let parts = 10_i64.pow(u32::from(6 - digits.min(6)));
    let at = jiff::Timestamp::from_microsecond(at.as_microsecond() / parts * parts).unwrap_or_default();
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(digits)).timestamp_to_string(&at)
}

/// Seconds until a budget is whole again.
fn until(budget: &Budget) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
    u64::try_from(budget.resets_at).unwrap_or(0).saturating_sub(now).to_string()
}

/// Microseconds of a time in RFC 3339.
fn micros(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}

/// HMAC-SHA256 of bytes, in hexadecimal digits.
fn signature(secret: &str, bytes: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(bytes);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
