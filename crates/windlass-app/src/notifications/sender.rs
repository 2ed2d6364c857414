//! Sends what waits. A notifier is one server's at a time, by a lease; its messages are sent one after the other, and an attempt that
//! fails lets all of them wait, those of other notifiers never.

use super::InForce;
use super::channel::{self, Open};
use crate::error::AppResult;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_connect::notify::SendError;
use windlass_model::Micros;
use windlass_model::operation::Notifier;
use windlass_model::operation::occasion::{Notice, worth};
use windlass_store::{MessageEnd, MessageRow, Store};

/// Messages that are looked at together.
const QUEUE: u32 = 100;
/// What waited for so long is given up, µs: a day.
const OLD: Micros = 86_400_000_000;
/// Before the second attempt; doubles up to the longest.
const BACKOFF: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);

pub(super) struct Sender {
    pub store: Store,
    pub in_force: Arc<dyn InForce>,
    /// Tells this process from all others.
    pub holder: String,
    /// How long a notifier is ours without a word, µs; longer than any attempt takes.
    pub lease: Micros,
    pub stop: CancellationToken,
}

/// Why nothing more is sent for now, and when (µs) the next attempt may be made.
type Wait = Option<(String, Micros)>;

impl Sender {
    /// Sends all that waits for a notifier, if nobody else does.
    ///
    /// # Errors
    /// The database cannot be used: the notifier stays ours until its lease has ended.
    pub async fn send(&self, project: &str, name: &str) -> AppResult<()> {
        let Some(failures) = self.store.notifier_claim(project, name, &self.holder, self.lease).await? else {
            return Ok(());
        };
        let wait = self.empty(project, name, failures).await?;
        let failure = wait.as_ref().map(|(why, not_before)| (why.as_str(), *not_before));
        Ok(self.store.notifier_release(project, name, &self.holder, failure).await?)
    }

    /// Sends until nothing waits, or an attempt fails.
    async fn empty(&self, project: &str, name: &str, failures: i64) -> AppResult<Wait> {
        let (mut open, mut failures): (Option<Open>, i64) = (None, failures);
        while !self.stop.is_cancelled() {
            let queue = self.store.message_queue(project, name, QUEUE).await?;
            let now = self.store.now().await?;
            let Some(first) = queue.first() else { return Ok(None) };
            if first.created_at + OLD < now {
                let why = format!("it waited for a day; {}", self.last_failure(project, name).await?);
                if !self.end(first, &MessageEnd::GivenUp(why.trim_end_matches("; ").to_owned())).await? {
                    return Ok(None);
                }
                continue;
            }
            let notifier = match self.notifier(project, name) {
                Ok(notifier) => notifier,
                Err(problem) => return Ok(Some((problem, now + backoff(failures, None)))),
            };
            let Some(notifier) = notifier else {
                let why = "there is no notifier of this name any more".to_owned();
                if !self.end(first, &MessageEnd::GivenUp(why)).await? {
                    return Ok(None);
                }
                continue;
            };
            if open.is_none() {
                match channel::open(&notifier).await {
                    Ok(opened) => open = Some(opened),
                    Err(error) => return Ok(Some((error.to_string(), now + backoff(failures, None)))),
                }
            }
            let Some(open) = &open else { return Ok(None) };
            let of_thread: Vec<&MessageRow> = queue.iter().filter(|message| message.thread == first.thread).collect();
            match self.thread(open, project, name, &of_thread).await? {
                Sent::Some => failures = 0,
                Sent::Nothing => {}
                Sent::Lost => return Ok(None),
                Sent::Failed(error) => {
                    let now = self.store.now().await?;
                    return Ok(Some((error.to_string(), now + backoff(failures, error.after()))));
                }
            }
        }
        Ok(None)
    }

    /// Sends what is worth it of the messages about one thing, oldest first.
    async fn thread(&self, open: &Open, project: &str, name: &str, messages: &[&MessageRow]) -> AppResult<Sent> {
        let Some(thread) = messages.first().map(|message| message.thread.clone()) else { return Ok(Sent::Nothing) };
        let before = self.store.message_sent(project, name, &thread).await?;
        let notices: Vec<Option<Notice>> = messages.iter().map(|message| super::notice(message)).collect();
        let readable: Vec<Notice> = notices.iter().flatten().cloned().collect();
        let mut worth = worth(open.manner(), before.is_some(), &readable).into_iter();
        let (mut reference, mut sent) = (before.flatten(), Sent::Nothing);
        // What was left unclear by an attempt for one of them is unclear for all: they may be one message there.
        let unsure = messages.iter().filter(|message| message.attempts > 0).map(|message| message.created_at).min();
        for (message, notice) in messages.iter().zip(notices) {
            let end = match notice {
                None => MessageEnd::GivenUp("it was written by another release and cannot be read".into()),
                Some(_) if worth.next() == Some(false) => MessageEnd::LeftOut,
                Some(notice) => {
                    if !self.store.message_begin(&self.holder, &message.id, self.lease).await? {
                        return Ok(Sent::Lost);
                    }
                    let at = self.store.now().await? / 1_000_000;
                    let unsure = unsure.map(|since| since / 1_000_000);
                    let key = format!("{project}/{name}/{thread}");
                    match open.send(at, &message.id, &key, reference.as_deref(), unsure, &notice).await {
                        Ok(place) => {
                            (reference, sent) = (place.or(reference), Sent::Some);
                            MessageEnd::Sent(reference.clone())
                        }
                        Err(error) if error.retryable() => return Ok(Sent::Failed(error)),
                        Err(error) => MessageEnd::GivenUp(error.to_string()),
                    }
                }
            };
            if !self.end(message, &end).await? {
                return Ok(Sent::Lost);
            }
        }
        Ok(sent)
    }

    /// Whether it is still ours.
    async fn end(&self, message: &MessageRow, end: &MessageEnd) -> AppResult<bool> {
        Ok(self.store.message_end(&self.holder, &message.id, end).await?)
    }

    /// As the definitions in force have it; `None` when they have none of that name, and why they are not known.
    fn notifier(&self, project: &str, name: &str) -> Result<Option<Notifier>, String> {
        let all = self.in_force.notifiers(project).map_err(|error| error.to_string())?;
        Ok(all.into_iter().find(|notifier| notifier.name == name))
    }

    async fn last_failure(&self, project: &str, name: &str) -> AppResult<String> {
        let list = self.store.of_project(project).notifier_list().await?;
        Ok(list.into_iter().find(|row| row.name == name).and_then(|row| row.failure).unwrap_or_default())
    }
}

/// What became of messages about one thing; of the first two, none of them waits any more.
enum Sent {
    Some,
    /// All were old news, or were refused.
    Nothing,
    /// Somebody else has the notifier.
    Lost,
    Failed(SendError),
}

/// How long nothing is sent after an attempt that failed, µs, where so many had failed before and the channel asked for `after`.
fn backoff(failures: i64, after: Option<Duration>) -> Micros {
    let doubled = BACKOFF.saturating_mul(1 << failures.clamp(0, 10)).min(LONGEST);
    Micros::try_from(doubled.max(after.unwrap_or_default()).as_micros()).unwrap_or(Micros::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_and_a_channel_may_ask_for_more_time() {
        let check = |failures, after: Option<u64>, want: i64| {
            assert_eq!(backoff(failures, after.map(Duration::from_secs)), want * 1_000_000, "{failures} {after:?}");
        };
        check(0, None, 5);
        check(1, None, 10);
        check(6, None, 320);
        check(7, None, 600);
        check(i64::MAX, None, 600);
        check(0, Some(30), 30);
        check(7, Some(30), 600);
        check(0, Some(3_600), 3_600);
    }
}
