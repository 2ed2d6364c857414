//! What all adapters share: requests to the API of a forge, and what answers mean that mean the same everywhere.

use super::ForgeError;
use super::settings::Address;
use crate::client::{Answer, Client, bearable};
use crate::error::plain;
use serde_json::Value;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use ureq::http::Method;
use windlass_model::Micros;
use windlass_model::change::{Budget, Person, Signature};

/// An answer, bytes: a page of a hundred comments of full length.
const LARGEST: u64 = 16 << 20;
/// All pages of a list together.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long nothing is asked where a forge counts requests and does not say until when.
const PAUSE: Duration = Duration::from_secs(60);
/// How far a clock of a forge may be away from ours when it tells a time instead of a pause.
const SKEW: Duration = Duration::from_secs(1);

/// The API of one forge.
pub(super) struct Api {
    client: Client,
    /// Without a slash at its end.
    base: String,
    /// The host that people know.
    place: String,
    budget: Mutex<Option<Budget>>,
}

/// One request.
pub(super) struct Call<'a> {
    pub method: Method,
    /// What comes after the address of the API, with a `/` first; or a whole address that the forge gave for the next page.
    pub path: &'a str,
    pub body: Option<&'a Value>,
    /// For people, after "to": "comment on #12".
    pub what: &'a str,
    /// Whether it matters that nobody knows if it was done.
    pub creates: bool,
    /// Besides those that every request has.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<'a> Call<'a> {
    pub fn get(path: &'a str, what: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, path, body: None, what, creates: false, headers }
    }

    pub fn send(
        method: Method,
        path: &'a str,
        body: Option<&'a Value>,
        what: &'a str,
        headers: &'a [(&'a str, &'a str)],
    ) -> Self {
        Self { method, path, body, what, creates: false, headers }
    }

    /// That it makes something: what was cut off may have been done.
    pub fn creates(self) -> Self {
        Self { creates: true, ..self }
    }
}

impl Api {
    /// `roots`: a PEM file with certificates that are trusted besides the machine's own.
    pub fn new(address: &Address, roots: Option<&Path>) -> Result<Self, ForgeError> {
        let base = address.api.trim_end_matches('/').to_owned();
        let client = Client::new("api", &base, roots, LARGEST).map_err(|problem| ForgeError::Settings { problem })?;
        Ok(Self { client, base, place: address.host.clone(), budget: Mutex::default() })
    }

    /// Without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn budget(&self) -> Option<Budget> {
        *self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn away(&self, problem: impl Into<String>, after: Option<Duration>, unsure: bool) -> ForgeError {
        ForgeError::Away { forge: self.place.clone(), problem: problem.into(), after, unsure }
    }

    pub fn forbidden(&self, what: &str, problem: &str) -> ForgeError {
        ForgeError::Forbidden { forge: self.place.clone(), what: what.to_owned(), problem: plain(problem) }
    }

    pub fn refused(&self, what: &str, answer: &Answer) -> ForgeError {
        let problem = format!("{} {}", answer.status, answer.said()).trim_end().to_owned();
        ForgeError::Refused { forge: self.place.clone(), what: what.to_owned(), problem }
    }

    /// An answer of the right status that lacks what it has to have.
    pub fn odd(&self, what: &str) -> ForgeError {
        self.away(format!("gives an answer that cannot be read when asked to {what}"), None, false)
    }

    /// Sends it. An answer that comes back is one of 2xx, or of 4xx that is neither about us nor about now: what that means the
    /// caller knows.
    ///
    /// # Errors
    /// [`ForgeError::Away`], [`ForgeError::Forbidden`]; [`ForgeError::Refused`] where it is somewhere else now.
    pub fn ask(&self, call: &Call<'_>) -> Result<Answer, ForgeError> {
        let url = match call.path.strip_prefix('/') {
            Some(_) => format!("{}{}", self.base, call.path),
            // Tokens go to nobody else.
            None if self.client.is_same_origin(call.path) => call.path.to_owned(),
            None => return Err(self.odd(call.what)),
        };
        let body = call.body.map(Value::to_string);
        let answer = self.client.ask(call.method.clone(), &url, call.headers, body.as_ref().map(String::as_bytes));
        let answer = answer.map_err(|error| self.away(error.problem, None, call.creates && error.sent))?;
        self.count(&answer);
        let said = || format!("answers {} {}", answer.status, answer.said()).trim_end().to_owned();
        match answer.status {
            429 => {
                Err(self.away("asks to be left alone for a while (429)", self.after(&answer).or(Some(PAUSE)), false))
            }
            403 if is_limit(&answer) => {
                Err(self.away("takes no more requests for now (403)", self.after(&answer).or(Some(PAUSE)), false))
            }
            401 | 403 => Err(self.forbidden(call.what, &format!("{} {}", answer.status, answer.said()))),
            300..=399 => Err(self.refused(call.what, &answer)),
            408 | 500.. => Err(self.away(said(), self.after(&answer), call.creates)),
            _ => Ok(answer),
        }
    }

    /// Sends it and takes any 2xx; what was answered as JSON, null when that was nothing.
    ///
    /// # Errors
    /// As [`Self::ask`], and [`ForgeError::Refused`] for any other answer.
    pub fn done(&self, call: &Call<'_>) -> Result<Value, ForgeError> {
        let answer = self.ask(call)?;
        self.taken(call.what, &answer)
    }

    /// The JSON of a 2xx.
    ///
    /// # Errors
    /// [`ForgeError::Refused`] for any other.
    pub fn taken(&self, what: &str, answer: &Answer) -> Result<Value, ForgeError> {
        match answer.status {
            200..=299 => Ok(answer.json()),
            _ => Err(self.refused(what, answer)),
        }
    }

    /// The entries of a list that comes in pages, up to the first that is not `wanted`; `None` where its first page is not found.
    /// `next` finds the address of the page after one ([`next_link`] where the forge says it in a header), `entries` what is on it.
    ///
    /// # Errors
    /// As [`Self::done`].
    pub fn pages(
        &self,
        call: &Call<'_>,
        next: impl Fn(&Answer, &Value) -> Option<String>,
        entries: impl Fn(Value) -> Option<Vec<Value>>,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Option<Vec<Value>>, ForgeError> {
        let begun = Instant::now();
        let (mut found, mut path) = (Vec::new(), call.path.to_owned());
        loop {
            let answer = self.ask(&Call { path: &path, method: call.method.clone(), ..*call })?;
            if answer.status == 404 && path == call.path {
                return Ok(None);
            }
            let body = self.taken(call.what, &answer)?;
            let next = next(&answer, &body);
            for entry in entries(body).ok_or_else(|| self.odd(call.what))? {
                if !wanted(&entry) {
                    return Ok(Some(found));
                }
                found.push(entry);
            }
            let Some(next) = next else { return Ok(Some(found)) };
            if begun.elapsed() > PATIENCE {
                return Err(self.away(format!("is too slow with many pages when asked to {}", call.what), None, false));
            }
            path = next;
        }
    }

    /// When it asks to be asked again.
    fn after(&self, answer: &Answer) -> Option<Duration> {
        let counted = || {
            let budget = counted(answer).filter(|budget| budget.remaining == 0)?;
            let left = u64::try_from(budget.resets_at - now()).unwrap_or(0);
            Some(bearable(Duration::from_micros(left) + SKEW))
        };
        answer.after().or_else(counted)
    }

    fn count(&self, answer: &Answer) {
        if let Some(budget) = counted(answer) {
            *self.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget);
        }
    }
}

/// Whether a 403 is about how much was asked, not about who asks.
fn is_limit(answer: &Answer) -> bool {
    answer.after().is_some()
        || ["x-ratelimit-remaining", "ratelimit-remaining"].iter().any(|name| answer.header(name) == Some("0"))
        || answer.said().to_lowercase().contains("rate limit")
}

/// GitHub and Data Center name these headers with `x-`, GitLab without; a time is in seconds since the Unix epoch.
fn counted(answer: &Answer) -> Option<Budget> {
    let number = |name: &str| {
        let value =
            answer.header(&format!("x-ratelimit-{name}")).or_else(|| answer.header(&format!("ratelimit-{name}")));
        value?.parse::<u64>().ok()
    };
    // GitHub counts kinds of requests apart.
    if answer.header("x-ratelimit-resource").is_some_and(|resource| resource != "core") {
        return None;
    }
    let seconds = i64::try_from(number("reset")?).ok()?;
    Some(Budget {
        limit: number("limit")?,
        remaining: number("remaining")?,
        resets_at: seconds.checked_mul(1_000_000)?,
    })
}

/// Where the page after this one is, by RFC 8288: `<https://…?page=2>; rel="next"`.
pub(super) fn next_link(answer: &Answer) -> Option<String> {
    let links = answer.header("link")?;
    let next = links.split(',').find(|link| {
        let parameters = link.split(';').skip(1).map(str::trim);
        parameters.into_iter().any(|parameter| parameter == "rel=\"next\"" || parameter == "rel=next")
    })?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// A part of a path, with nothing in it that has a meaning there.
pub(super) fn segment(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

/// A time as forges write it (RFC 3339), in microseconds; 0 where it is none.
pub(super) fn micros(value: &Value) -> Micros {
    let time = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.map_or(0, |time| time.as_microsecond())
}

/// What a list of JSON is.
pub(super) fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

/// Text, empty where it is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An id that may be a number.
pub(super) fn id(value: &Value) -> String {
    value.as_str().map_or_else(|| value.as_u64().map(|id| id.to_string()).unwrap_or_default(), str::to_owned)
}

/// How a commit is signed, where a person is there when the forge has an account.
pub(super) fn signature(name: &Value, mail: &Value, person: Option<Person>) -> Signature {
    Signature { name: format!("{} <{}>", text(name), text(mail)), person }
}

/// A text of at most so many letters; one that is cut ends with `…`.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Protocols compare times with this machine's clock.
pub(super) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

#[cfg(test)]
mod tests;
