//! Events and logs: appended, never changed.

use crate::db::{Tx, params};
use crate::logs::log_end_in;
use crate::runs::encode;
use crate::{Claim, Durability, Result, Store};
use serde::{Deserialize, Serialize};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};

/// One fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows in the order in which events become visible; numbers may be left out.
    pub id: i64,
    pub project: String,
    pub run: Option<String>,
    pub step: Option<String>,
    /// Past tense, e.g. `step.succeeded`.
    pub kind: String,
    /// What it is about where that is no run, e.g. `token 01k…`.
    pub subject: Option<String>,
    pub data: serde_json::Value,
    pub actor: Option<String>,
    /// What the actor said.
    pub reason: Option<String>,
    /// The same for everything that one request did.
    pub correlation: Option<String>,
    pub at: Micros,
}

/// Which events are looked for: those that have all that is given.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub run: Option<RunId>,
    pub actor: Option<String>,
    pub subject: Option<String>,
    /// A kind, or the first part of it with its dot: `step.`.
    pub kind: Option<String>,
    /// From this time on, µs.
    pub from: Option<Micros>,
    /// Before this time, µs.
    pub to: Option<Micros>,
}

/// A piece of a step's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    pub step: StepId,
    pub attempt: u32,
    /// Offset of the first byte in the step's log.
    pub start: i64,
    pub bytes: Vec<u8>,
    pub at: Micros,
}

#[derive(Debug, Default)]
pub(crate) struct NewEvent<'a> {
    pub run: Option<&'a str>,
    pub step: Option<&'a str>,
    pub kind: &'a str,
    pub subject: Option<&'a str>,
    pub data: serde_json::Value,
    pub actor: Option<&'a str>,
    pub reason: Option<&'a str>,
}

impl<'a> NewEvent<'a> {
    pub fn of(kind: &'a str, data: serde_json::Value) -> Self {
        Self { kind, data, ..Self::default() }
    }

    pub fn of_run(run: &'a RunId, kind: &'a str, data: serde_json::Value) -> Self {
        Self { run: Some(run.as_str()), ..Self::of(kind, data) }
    }

    pub fn of_step(run: &'a RunId, step: &'a StepId, kind: &'a str, data: serde_json::Value) -> Self {
        Self { step: Some(step.as_str()), ..Self::of_run(run, kind, data) }
    }
}

type Row = (
    i64,
    String,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
);

fn event((id, project, run, step, kind, subject, data, actor, reason, correlation, at): Row) -> Event {
    let data = serde_json::from_str(&data).unwrap_or_default();
    Event { id, project, run, step, kind, subject, data, actor, reason, correlation, at }
}

/// Appends to the log of a step; the offset of the first new byte comes back.
pub(crate) fn log_in(tx: &mut Tx<'_>, run: &RunId, step: &StepId, attempt: u32, bytes: &[u8]) -> Result<i64> {
    let now = tx.now()?;
    tx.logged();
    let start: Option<i64> = tx.row(
        "INSERT INTO logs (run, step, start, attempt, bytes, at)
         SELECT $1, $2, COALESCE(
             (SELECT start + LENGTH(bytes) FROM logs WHERE run = $1 AND step = $2 ORDER BY start DESC LIMIT 1),
             (SELECT next FROM log_blocks WHERE run = $1 AND step = $2 ORDER BY start DESC LIMIT 1), 0
         ), CAST($3 AS BIGINT), $4, CAST($5 AS BIGINT)
         RETURNING start",
        params![run.as_str(), step.as_str(), attempt, bytes, now],
    )?;
    Ok(start.unwrap_or_default())
}

/// Whether the last facts of a step, which only its owner tells, are these.
fn told_in(tx: &mut Tx<'_>, claim: &Claim, events: &[(String, serde_json::Value)]) -> Result<bool> {
    let found: Vec<(String, String)> = tx.rows(
        "SELECT kind, data FROM events WHERE run = $1 AND step = $2 ORDER BY id DESC LIMIT $3",
        params![claim.run.as_str(), claim.step.as_str(), i64::try_from(events.len()).unwrap_or(i64::MAX)],
    )?;
    let told = events.iter().rev().map(|(kind, data)| (kind.clone(), data.to_string()));
    Ok(!events.is_empty() && found.into_iter().eq(told))
}

/// A search that begins with a condition which an index serves: of one that may be left out it would not be used.
macro_rules! search {
    ($first:literal) => {
        concat!(
            "SELECT id, project, run, step, kind, subject, data, actor, reason, correlation, at FROM events WHERE ",
            $first,
            " AND (CAST($1 AS TEXT) IS NULL OR project = $1) AND (CAST($2 AS TEXT) IS NULL OR run = $2)
             AND (CAST($3 AS TEXT) IS NULL OR actor = $3) AND (CAST($4 AS TEXT) IS NULL OR subject = $4)
             AND (CAST($5 AS TEXT) IS NULL OR (kind >= $5 AND kind <= $6))
             AND (CAST($7 AS BIGINT) IS NULL OR at >= $7) AND (CAST($8 AS BIGINT) IS NULL OR at < $8)
             AND (CAST($9 AS BIGINT) IS NULL OR id < $9)
             ORDER BY id DESC LIMIT $10"
        )
    };
}

/// By what has the fewest events.
fn search_of(filter: &EventFilter, project: Option<&str>) -> &'static str {
    // A step begins and ends so often that a search for that is short.
    let rare = |kind: &String| !kind.ends_with('.') && !["step.started", "step.succeeded"].contains(&kind.as_str());
    if filter.run.is_some() {
        search!("run = $2")
    } else if filter.subject.is_some() {
        search!("subject = $4")
    } else if filter.kind.as_ref().is_some_and(rare) {
        search!("kind = $5 AND kind NOT IN ('step.started', 'step.succeeded')")
    } else if filter.actor.is_some() {
        search!("actor = $3")
    } else if project.is_some() {
        search!("project = $1")
    } else {
        search!("TRUE")
    }
}

impl Store {
    /// Appends a fact that belongs to no run, about `subject`.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn event_tell(
        &self,
        kind: &str,
        subject: &str,
        data: serde_json::Value,
        actor: &str,
        reason: Option<&str>,
    ) -> Result<()> {
        let (scope, kind, subject) = (self.scope.clone(), kind.to_owned(), subject.to_owned());
        let (actor, reason) = (actor.to_owned(), reason.map(str::to_owned));
        self.write(Durability::Durable, move |tx| {
            let event = NewEvent {
                subject: Some(&subject),
                actor: Some(&actor),
                reason: reason.as_deref(),
                ..NewEvent::of(&kind, data.clone())
            };
            scope.event(tx, event)
        })
        .await
    }

    /// Appends several facts about a step in one transaction.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn event_append(&self, run: &RunId, step: &StepId, events: &[(String, serde_json::Value)]) -> Result<()> {
        let (scope, run, step, events) = (self.scope.clone(), run.clone(), step.clone(), events.to_vec());
        self.write(Durability::Durable, move |tx| {
            for (kind, data) in &events {
                scope.event(tx, NewEvent::of_step(&run, &step, kind, data.clone()))?;
            }
            Ok(())
        })
        .await
    }

    /// Appends what the attempt that has the step has seen: facts, and text for its log (both may be empty), all or nothing. An
    /// attempt that lost its step records nothing any more. Where the log ends then, bytes; `None` when there was nothing for it.
    ///
    /// # Errors
    /// [`crate::StoreError::StaleClaim`]; the database cannot be written.
    pub async fn step_record(
        &self,
        claim: &Claim,
        log: &[u8],
        events: &[(String, serde_json::Value)],
    ) -> Result<Option<i64>> {
        if events.is_empty() && log.is_empty() {
            return Ok(None);
        }
        // A log alone is no fact that somebody stands on.
        let durability = if events.is_empty() { Durability::Lazy } else { Durability::Durable };
        let (scope, claim, log, events) = (self.scope.clone(), claim.clone(), log.to_vec(), events.to_vec());
        let mut tries = 0;
        // Facts are found again where they are on record already; a log alone may say the same twice.
        self.write_job(durability, !events.is_empty(), move |tx| {
            crate::steps::hold(tx, &claim)?;
            tries += 1;
            if tries > 1 && told_in(tx, &claim, &events)? {
                return if log.is_empty() { Ok(None) } else { log_end_in(tx, &claim.run, &claim.step).map(Some) };
            }
            for (kind, data) in &events {
                scope.event(tx, NewEvent::of_step(&claim.run, &claim.step, kind, data.clone()))?;
            }
            if log.is_empty() {
                return Ok(None);
            }
            let start = log_in(tx, &claim.run, &claim.step, claim.attempt, &log)?;
            Ok(Some(start + log.len() as i64))
        })
        .await
    }

    /// Events of a run, or of everything, after `after` (an id; 0 for all), oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn event_list(&self, run: Option<&RunId>, after: i64, limit: u32) -> Result<Vec<Event>> {
        let run = run.cloned();
        let found: Vec<Row> = self
            .read(move |tx| match &run {
                Some(run) => tx.rows(
                    "SELECT id, project, run, step, kind, subject, data, actor, reason, correlation, at FROM events
                     WHERE run = $1 AND id > $2 ORDER BY id LIMIT $3",
                    params![run.as_str(), after, limit],
                ),
                None => tx.rows(
                    "SELECT id, project, run, step, kind, subject, data, actor, reason, correlation, at FROM events
                     WHERE id > $1 ORDER BY id LIMIT $2",
                    params![after, limit],
                ),
            })
            .await?;
        Ok(found.into_iter().map(event).collect())
    }

    /// What happened to some steps of a run, oldest first; of very much the newest.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn event_of_steps(&self, run: &RunId, steps: &[StepId], limit: u32) -> Result<Vec<Event>> {
        let (run, steps) = (run.clone(), encode("step ids", &steps)?);
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    tx.pick(
                        "SELECT id, project, run, step, kind, subject, data, actor, reason, correlation, at FROM events
                         WHERE run = $1 AND step IN (SELECT value FROM json_each($2))
                         AND kind LIKE 'step.%' ORDER BY id DESC LIMIT $3",
                        "SELECT id, project, run, step, kind, subject, data, actor, reason, correlation, at FROM events
                         WHERE run = $1 AND step IN (SELECT json_array_elements_text(CAST($2 AS json)))
                         AND kind LIKE 'step.%' ORDER BY id DESC LIMIT $3",
                    ),
                    params![run.as_str(), &steps, limit],
                )
            })
            .await?;
        Ok(found.into_iter().rev().map(event).collect())
    }

    /// Events of this project (of all where the handle has none) before `before` (an id), newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn event_search(&self, filter: &EventFilter, before: Option<i64>, limit: u32) -> Result<Vec<Event>> {
        let (filter, project) = (filter.clone(), self.scope.project.clone());
        let found: Vec<Row> = self
            .read(move |tx| {
                let project = Some(project.as_str()).filter(|project| !project.is_empty());
                // A range instead of a pattern: an index serves it, and nothing in the text has a meaning of its own.
                let kind = filter.kind.as_deref();
                let last = kind.map(|kind| if kind.ends_with('.') { format!("{kind}\u{7f}") } else { kind.to_owned() });
                tx.rows(
                    search_of(&filter, project),
                    params![
                        project,
                        filter.run.as_ref().map(RunId::as_str),
                        filter.actor.as_deref(),
                        filter.subject.as_deref(),
                        kind,
                        last.as_deref(),
                        filter.from,
                        filter.to,
                        before,
                        limit,
                    ],
                )
            })
            .await?;
        Ok(found.into_iter().map(event).collect())
    }

    /// Appends to a step's log; the offset of the first new byte comes back.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn log_append(&self, run: &RunId, step: &StepId, attempt: u32, bytes: &[u8]) -> Result<i64> {
        let (run, step, bytes) = (run.clone(), step.clone(), bytes.to_vec());
        // What is said is no promise.
        self.write(Durability::Lazy, move |tx| {
            // Of two at once both would begin where the log ends now.
            tx.serialise(&format!("{run}/{step}/log"))?;
            log_in(tx, &run, &step, attempt, &bytes)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_serves_a_search() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("windlass.db");
        let mut connection = crate::sqlite::connect(&path).unwrap();
        crate::sqlite::migrate(&mut connection, &path).unwrap();
        let check = |filter: EventFilter, project: Option<&str>, wanted: &str| {
            let text = format!("EXPLAIN QUERY PLAN {}", search_of(&filter, project));
            let mut statement = connection.prepare(&text).unwrap();
            let told: String = statement.raw_query().next().unwrap().unwrap().get("detail").unwrap();
            assert!(told.contains(wanted), "{filter:?}: {told}");
        };
        let of = EventFilter::default;
        let kind = |kind: &str| Some(kind.to_owned());
        check(EventFilter { run: Some(RunId::new("r")), kind: kind("a.b"), ..of() }, Some("p"), "INDEX events_run");
        check(EventFilter { subject: Some("s".into()), kind: kind("a.b"), ..of() }, None, "INDEX events_subject");
        check(EventFilter { kind: kind("a.b"), actor: Some("ann".into()), ..of() }, None, "INDEX events_kind");
        check(
            EventFilter { kind: kind("step.started"), actor: Some("ann".into()), ..of() },
            None,
            "INDEX events_actor",
        );
        check(of(), Some("p"), "INDEX events_project");
        // From the newest backwards.
        check(EventFilter { kind: kind("step."), ..of() }, None, "SCAN events");
    }
}
