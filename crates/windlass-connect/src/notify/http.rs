//! Requests of channels, and what their answers mean for a message.

use super::SendError;
pub(super) use crate::client::Answer;
use crate::client::Client;
use crate::error::plain;
use std::time::Duration;
use ureq::http::Method;

/// An answer, bytes: a page of a channel's posts has some hundred thousand.
const LARGEST: u64 = 4 << 20;

/// A client for one address and what lies below it.
pub(super) struct Http(Client);

impl Http {
    /// `what` is how the notifier calls this address.
    pub fn new(what: &str, text: &str) -> Result<Self, SendError> {
        Client::new(what, text, None, LARGEST).map(Self).map_err(|problem| SendError::Settings { problem })
    }

    /// The host, for people: the rest of the address of a webhook is a secret.
    pub fn place(&self) -> String {
        self.0.place()
    }

    pub fn url(&self) -> &str {
        self.0.url()
    }

    pub fn away(&self, problem: impl Into<String>, after: Option<Duration>) -> SendError {
        SendError::Away { place: self.place(), problem: problem.into(), after }
    }

    pub fn refused(&self, problem: &str) -> SendError {
        SendError::Refused { place: self.place(), problem: plain(problem) }
    }

    /// One request to `url`, which is the address of this client or lies below it.
    pub fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, SendError> {
        self.0.ask(method, url, headers, body).map_err(|error| self.away(error.problem, None))
    }

    /// Sends JSON to the address itself, and takes any 2xx as taken.
    pub fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<(), SendError> {
        let answer = self.ask(Method::POST, self.url(), headers, Some(body))?;
        self.taken(&answer)
    }

    /// What a status means: that it was taken, that this message never will be, or that none is now.
    pub fn taken(&self, answer: &Answer) -> Result<(), SendError> {
        match answer.status {
            200..=299 => Ok(()),
            400 | 413 | 415 | 422 => Err(self.refused(&format!("{} {}", answer.status, answer.said()))),
            429 => Err(self.away("asks to be left alone for a while (429)", answer.after())),
            status => Err(self.away(format!("answers {status} {}", answer.said()).trim_end(), answer.after())),
        }
    }
}
