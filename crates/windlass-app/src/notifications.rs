//! Telling people: a reading of the events, kept in a queue for each notifier of a project until it was taken there.

mod channel;

use crate::error::{AppError, AppResult, ErrorKind};
use jiff::Timestamp;
use windlass_connect::notify::SendError;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::Notifier;
use windlass_model::operation::occasion::Notice;

/// How long ago another attempt to send the same may have been made of which nobody heard, seconds.
const RETRIED: i64 = 3_600;

/// Sends a text through a notifier now: its first line is the title. `key` is the same for every attempt to send the same, so that a
/// channel that can tell shows it once.
///
/// # Errors
/// A secret of the notifier cannot be read, or the text was not taken; [`may_retry`] says whether it may be later.
pub async fn send_now(notifier: &Notifier, project: &str, text: &str, key: &str) -> AppResult<()> {
    let now = Timestamp::now();
    let (title, rest) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
    let notice = Notice {
        occasion: None,
        state: None,
        project: project.to_owned(),
        operation: None,
        run: None,
        title: title.trim().to_owned(),
        text: rest.trim().to_owned(),
        facts: Vec::new(),
        links: Vec::new(),
        at: now.as_microsecond(),
    };
    let open = channel::open(notifier).await.map_err(|error| failed(notifier, &error))?;
    let key = format!("{project}/{}/{key}", notifier.name);
    let sent = open.send(now.as_second(), &key, &key, None, Some(now.as_second() - RETRIED), &notice).await;
    sent.map(drop).map_err(|error| failed(notifier, &error))
}

/// Whether what [`send_now`] could not send may arrive later although nothing of it is changed.
pub fn may_retry(error: &AppError) -> bool {
    error.kind == ErrorKind::Unavailable
}

fn failed(notifier: &Notifier, error: &SendError) -> AppError {
    let kind = if error.retryable() { ErrorKind::Unavailable } else { ErrorKind::Refused };
    let diagnostic = error.diagnostic();
    let summary = format!("notifier `{}`: {}", notifier.name, diagnostic.summary);
    AppError::new(kind, Diagnostic { summary, ..diagnostic }.at(notifier.span.clone()))
}
