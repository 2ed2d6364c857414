//! What somebody is to be told: a queue for each notifier of a project, which one server at a time sends from.

use crate::db::{Tx, params};
use crate::journal::NewEvent;
use crate::{Durability, Result, Store, StoreError};
use std::collections::BTreeSet;
use windlass_model::Micros;
use windlass_model::id::RunId;
use windlass_model::run::RunState;

const SCOPE: &str = "notifications";
const CURSOR: &str = "cursor";

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// There is one of each.
    pub id: String,
    pub project: String,
    pub notifier: String,
    /// What it is about.
    pub thread: String,
    pub body: String,
}

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    pub id: String,
    pub thread: String,
    pub body: String,
    pub state: MessageState,
    /// Attempts to send it that were begun.
    pub attempts: i64,
    pub reason: Option<String>,
    pub created_at: Micros,
    pub ended_at: Option<Micros>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    Queued,
    Sent,
    /// Something newer about the same was sent instead.
    LeftOut,
    GivenUp,
}

impl MessageState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::LeftOut => "left_out",
            Self::GivenUp => "given_up",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Sent, Self::LeftOut, Self::GivenUp].into_iter().find(|state| state.as_str() == text)
    }
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEnd {
    /// With where it is in the channel.
    Sent(Option<String>),
    LeftOut,
    /// Why.
    GivenUp(String),
}

/// How a notifier does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifierRow {
    pub project: String,
    pub name: String,
    /// Attempts that failed, one after another, since the last one that did not.
    pub failures: i64,
    /// When the next one may be made.
    pub not_before: Micros,
    /// Why the last one failed.
    pub failure: Option<String>,
    pub failed_at: Option<Micros>,
    pub sent_at: Option<Micros>,
    pub sent: i64,
    pub given_up: i64,
    pub queued: i64,
}

/// A run of the same subject that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastRun {
    pub state: RunState,
    pub created_at: Micros,
    pub ended_at: Micros,
}

type Row = (String, String, String, String, i64, Option<String>, i64, Option<i64>);

fn message((id, thread, body, state, attempts, reason, created_at, ended_at): Row) -> Result<MessageRow> {
    let state = MessageState::parse(&state).ok_or(StoreError::Decode { what: "message state", message: state })?;
    Ok(MessageRow { id, thread, body, state, attempts, reason, created_at, ended_at })
}

/// Whether somebody still has the notifier.
fn holds(tx: &mut Tx<'_>, holder: &str, id: &str) -> Result<bool> {
    let now = tx.now()?;
    let found: Option<i64> = tx.row(
        "SELECT messages.attempts FROM messages JOIN notifiers
         ON notifiers.project = messages.project AND notifiers.name = messages.notifier
         WHERE messages.id = $1 AND messages.state = 'queued' AND notifiers.holder = $2 AND notifiers.lease_until > $3",
        params![id, holder, now],
    )?;
    Ok(found.is_some())
}

impl Store {
    /// Up to which event (its id) was read what somebody is to be told of. Who asks first begins with what happens from then on.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn notification_cursor(&self) -> Result<i64> {
        let shared = self.of_project("");
        let text = match shared.kv_get(SCOPE, CURSOR).await? {
            Some(text) => text,
            None => {
                let newest = self.read(|tx| tx.row("SELECT COALESCE(MAX(id), 0) FROM events", params![])).await?;
                shared.kv_first(SCOPE, CURSOR, &newest.unwrap_or(0_i64).to_string()).await?
            }
        };
        text.parse().map_err(|_| StoreError::Decode { what: "cursor", message: text })
    }

    /// Puts messages into their queues, where those that are or were there already stay as they are. With `read`, events from the
    /// first number to the second were read for it: `false`, and nothing happens, when somebody else was faster.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn message_add(&self, read: Option<(i64, i64)>, messages: &[NewMessage]) -> Result<bool> {
        let messages = messages.to_vec();
        self.write(Durability::Durable, move |tx| {
            if let Some((from, to)) = read {
                let moved = tx.execute(
                    "UPDATE kv SET value = $1 WHERE project = '' AND scope = $2 AND name = $3 AND value = $4",
                    params![&to.to_string(), SCOPE, CURSOR, &from.to_string()],
                )?;
                if moved == 0 {
                    return Ok(false);
                }
            }
            if messages.is_empty() {
                return Ok(true);
            }
            // Of two at once both would be the last.
            tx.serialise("messages")?;
            let now = tx.now()?;
            for message in &messages {
                tx.execute(
                    "INSERT INTO notifiers (project, name) VALUES ($1, $2) ON CONFLICT (project, name) DO NOTHING",
                    params![&message.project, &message.notifier],
                )?;
                tx.execute(
                    "INSERT INTO messages (id, project, notifier, thread, position, body, state, created_at)
                     VALUES ($1, $2, $3, $4, (SELECT COALESCE(MAX(position), 0) + 1 FROM messages), $5, 'queued', $6)
                     ON CONFLICT (id) DO NOTHING",
                    params![&message.id, &message.project, &message.notifier, &message.thread, &message.body, now],
                )?;
            }
            Ok(true)
        })
        .await
    }

    /// The notifiers that have, or will have, a message in this thread.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn message_told(&self, thread: &str) -> Result<BTreeSet<String>> {
        let thread = thread.to_owned();
        let found: Vec<String> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT DISTINCT notifier FROM messages WHERE thread = $1 AND state IN ('queued', 'sent')",
                    params![&thread],
                )
            })
            .await?;
        Ok(found.into_iter().collect())
    }

    /// Notifiers, by project and name, that have something to send, that nobody sends for, and whose time has come.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn notifier_due(&self) -> Result<Vec<(String, String)>> {
        self.read(|tx| {
            let now = tx.now()?;
            tx.rows(
                "SELECT project, name FROM notifiers WHERE lease_until <= $1 AND not_before <= $1
                 AND EXISTS (SELECT 1 FROM messages WHERE messages.project = notifiers.project
                             AND messages.notifier = notifiers.name AND messages.state = 'queued')
                 ORDER BY not_before, project, name",
                params![now],
            )
        })
        .await
    }

    /// Takes a notifier for as long as `lease` (µs), to send for it: how many attempts failed before, or `None` when somebody else
    /// has it or its time has not come.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn notifier_claim(&self, project: &str, name: &str, holder: &str, lease: Micros) -> Result<Option<i64>> {
        let (project, name, holder) = (project.to_owned(), name.to_owned(), holder.to_owned());
        self.write(Durability::Lazy, move |tx| {
            let now = tx.now()?;
            tx.row(
                "UPDATE notifiers SET holder = $3, lease_until = $4
                 WHERE project = $1 AND name = $2 AND lease_until <= $5 AND not_before <= $5 RETURNING failures",
                params![&project, &name, &holder, now + lease, now],
            )
        })
        .await
    }

    /// What waits for a notifier, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn message_queue(&self, project: &str, notifier: &str, limit: u32) -> Result<Vec<MessageRow>> {
        let (project, notifier) = (project.to_owned(), notifier.to_owned());
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT id, thread, body, state, attempts, reason, created_at, ended_at FROM messages
                     WHERE project = $1 AND notifier = $2 AND state = 'queued' ORDER BY position LIMIT $3",
                    params![&project, &notifier, limit],
                )
            })
            .await?;
        found.into_iter().map(message).collect()
    }

    /// The last messages of a notifier, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn message_list(&self, project: &str, notifier: &str, limit: u32) -> Result<Vec<MessageRow>> {
        let (project, notifier) = (project.to_owned(), notifier.to_owned());
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT id, thread, body, state, attempts, reason, created_at, ended_at FROM messages
                     WHERE project = $1 AND notifier = $2 ORDER BY position DESC LIMIT $3",
                    params![&project, &notifier, limit],
                )
            })
            .await?;
        found.into_iter().map(message).collect()
    }

    /// Whether a message of the thread was sent, and where the first is.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn message_sent(&self, project: &str, notifier: &str, thread: &str) -> Result<Option<Option<String>>> {
        let (project, notifier, thread) = (project.to_owned(), notifier.to_owned(), thread.to_owned());
        self.read(move |tx| {
            let found: Option<(Option<String>,)> = tx.row(
                "SELECT reference FROM messages
                 WHERE thread = $1 AND notifier = $2 AND project = $3 AND state = 'sent' ORDER BY position DESC LIMIT 1",
                params![&thread, &notifier, &project],
            )?;
            Ok(found.map(|(reference,)| reference))
        })
        .await
    }

    /// Records that a message is about to be sent, and extends the lease; `false` when the notifier is somebody else's by now.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn message_begin(&self, holder: &str, id: &str, lease: Micros) -> Result<bool> {
        let (holder, id) = (holder.to_owned(), id.to_owned());
        self.write(Durability::Durable, move |tx| {
            if !holds(tx, &holder, &id)? {
                return Ok(false);
            }
            let now = tx.now()?;
            tx.execute("UPDATE messages SET attempts = attempts + 1 WHERE id = $1", params![&id])?;
            let held = tx.execute(
                "UPDATE notifiers SET lease_until = $3 WHERE holder = $2 AND lease_until > $4
                 AND EXISTS (SELECT 1 FROM messages WHERE messages.id = $1 AND messages.project = notifiers.project
                             AND messages.notifier = notifiers.name)",
                params![&id, &holder, now + lease, now],
            )?;
            Ok(held == 1)
        })
        .await
    }

    /// Records what became of a message; `false` when the notifier is somebody else's by now.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn message_end(&self, holder: &str, id: &str, end: &MessageEnd) -> Result<bool> {
        let (scope, holder, id, end) = (self.scope.clone(), holder.to_owned(), id.to_owned(), end.clone());
        self.write(Durability::Durable, move |tx| {
            if !holds(tx, &holder, &id)? {
                return Ok(false);
            }
            let now = tx.now()?;
            let (state, reference, reason) = match &end {
                MessageEnd::Sent(reference) => (MessageState::Sent, reference.as_deref(), None),
                MessageEnd::LeftOut => (MessageState::LeftOut, None, None),
                MessageEnd::GivenUp(why) => (MessageState::GivenUp, None, Some(why.as_str())),
            };
            let of: Option<(String, String, String)> = tx.row(
                "UPDATE messages SET state = $2, reference = $3, reason = $4, ended_at = $5 WHERE id = $1 AND state = 'queued'
                 RETURNING project, notifier, thread",
                params![&id, state.as_str(), reference, reason, now],
            )?;
            let Some((project, notifier, thread)) = of else { return Ok(false) };
            match state {
                MessageState::Sent => {
                    tx.execute(
                        "UPDATE notifiers SET sent = sent + 1, sent_at = $3, failures = 0, failure = NULL
                         WHERE project = $1 AND name = $2",
                        params![&project, &notifier, now],
                    )?;
                }
                MessageState::GivenUp => {
                    tx.execute(
                        "UPDATE notifiers SET given_up = given_up + 1, failed_at = $3, failure = $4
                         WHERE project = $1 AND name = $2",
                        params![&project, &notifier, now, reason],
                    )?;
                    let subject = format!("notifier {notifier}");
                    let data = serde_json::json!({ "reason": reason, "thread": thread });
                    let event = NewEvent { subject: Some(&subject), ..NewEvent::of("notification.given_up", data) };
                    let scope = crate::Scope { project, ..crate::Scope::clone(&scope) };
                    scope.event(tx, event)?;
                }
                MessageState::LeftOut | MessageState::Queued => {}
            }
            Ok(true)
        })
        .await
    }

    /// Lets a notifier go: with why an attempt failed and when (µs) the next one may be made, or because there was nothing more to do.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn notifier_release(
        &self,
        project: &str,
        name: &str,
        holder: &str,
        failure: Option<(&str, Micros)>,
    ) -> Result<()> {
        let (project, name, holder) = (project.to_owned(), name.to_owned(), holder.to_owned());
        let failure = failure.map(|(why, not_before)| (why.to_owned(), not_before));
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            match &failure {
                Some((why, not_before)) => tx.execute(
                    "UPDATE notifiers SET holder = NULL, lease_until = 0, failures = failures + 1, failure = $4,
                         failed_at = $5, not_before = $6
                     WHERE project = $1 AND name = $2 AND holder = $3",
                    params![&project, &name, &holder, why, now, *not_before],
                ),
                None => tx.execute(
                    "UPDATE notifiers SET holder = NULL, lease_until = 0 WHERE project = $1 AND name = $2 AND holder = $3",
                    params![&project, &name, &holder],
                ),
            }
            .map(drop)
        })
        .await
    }

    /// Lets the next attempt of a notifier be made at once: somebody has looked after it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn notifier_rouse(&self, project: &str, name: &str) -> Result<()> {
        let (project, name) = (project.to_owned(), name.to_owned());
        self.write(Durability::Lazy, move |tx| {
            tx.execute("UPDATE notifiers SET not_before = 0 WHERE project = $1 AND name = $2", params![&project, &name])
                .map(drop)
        })
        .await
    }

    /// All notifiers that ever had something to send, of this project (of all where the handle has none).
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn notifier_list(&self) -> Result<Vec<NotifierRow>> {
        type Row = (String, String, i64, i64, Option<String>, Option<i64>, Option<i64>, i64, i64, i64);
        let project = self.scope.project.clone();
        let found: Vec<Row> = self
            .read(move |tx| {
                let project = Some(project.as_str()).filter(|project| !project.is_empty());
                tx.rows(
                    "SELECT project, name, failures, not_before, failure, failed_at, sent_at, sent, given_up,
                         (SELECT COUNT(*) FROM messages WHERE messages.project = notifiers.project
                          AND messages.notifier = notifiers.name AND messages.state = 'queued')
                     FROM notifiers WHERE CAST($1 AS TEXT) IS NULL OR project = $1 ORDER BY project, name",
                    params![project],
                )
            })
            .await?;
        let row = |(project, name, failures, not_before, failure, failed_at, sent_at, sent, given_up, queued): Row| {
            NotifierRow { project, name, failures, not_before, failure, failed_at, sent_at, sent, given_up, queued }
        };
        Ok(found.into_iter().map(row).collect())
    }

    /// Forgets messages that ended before a time (µs); how many.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn message_sweep(&self, before: Micros) -> Result<u64> {
        self.write(Durability::Lazy, move |tx| tx.execute("DELETE FROM messages WHERE ended_at < $1", params![before]))
            .await
    }

    /// Runs of a subject of this project that were made before `run` and succeeded or failed, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_past(&self, subject: &str, run: &RunId, limit: u32) -> Result<Vec<PastRun>> {
        let (project, subject, run) = (self.scope.project.clone(), subject.to_owned(), run.clone());
        let found: Vec<(String, i64, i64)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT state, created_at, ended_at FROM runs WHERE project = $1 AND subject = $2 AND id < $3
                     AND state IN ('succeeded', 'failed', 'abandoned') AND ended_at IS NOT NULL ORDER BY id DESC LIMIT $4",
                    params![&project, &subject, run.as_str(), limit],
                )
            })
            .await?;
        let past = |(state, created_at, ended_at): (String, i64, i64)| {
            Ok(PastRun { state: crate::runs::state(state)?, created_at, ended_at })
        };
        found.into_iter().map(past).collect()
    }
}
