//! Requests of channels: over TLS or on this machine, without redirects, within limits on time and size.

use super::SendError;
use crate::error::plain;
use crate::http::{is_loopback, tls};
use openidconnect::url::Url;
use serde_json::Value;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Method, Request, header};

/// From the first byte sent to the last one read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer, bytes: a page of a channel's posts has some hundred thousand.
const LARGEST: u64 = 4 << 20;
/// Nobody is asked to wait longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// A client for one address and what lies below it.
pub(super) struct Http {
    agent: Agent,
    url: Url,
}

pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    after: Option<Duration>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Http {
    /// `what` is how the notifier calls this address.
    pub fn new(what: &str, text: &str) -> Result<Self, SendError> {
        let settings = |problem: &str| SendError::Settings { problem: format!("`{what}` {problem}") };
        // The text is not repeated: it may be a secret.
        let url = Url::parse(text.trim()).map_err(|error| settings(&format!("is no address: {error}")))?;
        let bare = url.scheme() == "http" && is_loopback(&url);
        if url.scheme() != "https" && !bare {
            return Err(settings("has to begin with https://, unless it is on this machine"));
        }
        let mut config = Agent::config_builder()
            .tls_config(tls(None).map_err(|problem| SendError::Settings { problem })?)
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // What is signed or secret is for whom it was declared.
            .max_redirects(0)
            .user_agent("windlass");
        if is_loopback(&url) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().new_agent(), url })
    }

    /// The host, for people: the rest of the address of a webhook is a secret.
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub fn url(&self) -> &str {
        self.url.as_str()
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
        let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let broken = |_| SendError::Settings { problem: format!("what is sent to {} is no request", self.place()) };
        let failed = |error: ureq::Error| self.away(problem(&error), None);
        let answer = match body {
            Some(body) => self.agent.run(request.body(body).map_err(broken)?),
            None => self.agent.run(request.body(()).map_err(broken)?),
        };
        let (parts, mut body) = answer.map_err(failed)?.into_parts();
        let body = body.with_config().limit(LARGEST).read_to_vec().map_err(failed)?;
        let after = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        Ok(Answer { status: parts.status.as_u16(), body, after: after.map(|after| after.min(LONGEST)) })
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
            400 | 413 | 415 | 422 => Err(self.refused(&format!("{} {}", answer.status, said(answer)))),
            429 => Err(self.away("asks to be left alone for a while (429)", answer.after)),
            status => Err(self.away(format!("answers {status} {}", said(answer)).trim_end(), answer.after)),
        }
    }
}

/// What an answer says about itself, in some words.
fn said(answer: &Answer) -> String {
    let json = answer.json();
    let text = json["message"].as_str().or(json["error"].as_str()).map(str::to_owned);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned());
    // A page of a proxy says nothing to anybody here.
    if text.trim_start().starts_with('<') { String::new() } else { plain(text.trim()) }
}

fn problem(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("does not answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::BodyExceedsLimit(_) => "answers too much".into(),
        ureq::Error::HostNotFound => "is a name that is not known here".into(),
        ureq::Error::Io(error) => format!("cannot be reached: {error}"),
        other => format!("cannot be asked: {}", plain(&other.to_string())),
    }
}
