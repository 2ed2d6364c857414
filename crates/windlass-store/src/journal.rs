//! Events and logs: appended, never changed.

use crate::{Claim, Result, Store};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};

/// One fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: i64,
    pub run: Option<String>,
    pub step: Option<String>,
    /// Past tense, e.g. `step.succeeded`.
    pub kind: String,
    pub data: serde_json::Value,
    pub actor: Option<String>,
    pub at: Micros,
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

pub(crate) struct NewEvent<'a> {
    pub run: Option<&'a str>,
    pub step: Option<&'a str>,
    pub kind: &'a str,
    pub data: serde_json::Value,
    pub actor: Option<&'a str>,
}

impl Store {
    pub(crate) async fn event_in(
        &self,
        connection: &mut SqliteConnection,
        now: Micros,
        event: NewEvent<'_>,
    ) -> Result<()> {
        sqlx::query("INSERT INTO events (run, step, kind, data, actor, at) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(event.run)
            .bind(event.step)
            .bind(event.kind)
            .bind(event.data.to_string())
            .bind(event.actor)
            .bind(now)
            .execute(connection)
            .await
            .map_err(|e| self.error(e))?;
        Ok(())
    }

    /// Appends several facts about a step in one transaction.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn event_append(&self, run: &RunId, step: &StepId, events: &[(String, serde_json::Value)]) -> Result<()> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        for (kind, data) in events {
            self.event_in(
                &mut tx,
                now,
                NewEvent { run: Some(run.as_str()), step: Some(step.as_str()), kind, data: data.clone(), actor: None },
            )
            .await?;
        }
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// Appends what the attempt that has the step has seen: facts, and text for its log (both may be empty), all or nothing. An
    /// attempt that lost its step records nothing any more.
    ///
    /// # Errors
    /// [`crate::StoreError::StaleClaim`]; the database cannot be written.
    pub async fn step_record(&self, claim: &Claim, log: &[u8], events: &[(String, serde_json::Value)]) -> Result<()> {
        if events.is_empty() && log.is_empty() {
            return Ok(());
        }
        let events: Vec<(&str, String)> = events.iter().map(|(kind, data)| (kind.as_str(), data.to_string())).collect();
        let mut tx = self.begin().await?;
        // One trip to the database: each statement does nothing when the claim is not the present one.
        let done = sqlx::query(concat!(
            "INSERT INTO events (run, step, kind, data, at)
             SELECT $1, $2, value ->> 0, value ->> 1, ",
            now!("$7"),
            "
             FROM json_each($4)
             WHERE EXISTS (SELECT 1 FROM steps WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running')
             ORDER BY key;
             INSERT INTO logs (run, step, start, attempt, bytes, at)
             SELECT $1, $2, ",
            log_end!(),
            ", $5, $6, ",
            now!("$7"),
            "
             WHERE LENGTH($6) > 0
             AND EXISTS (SELECT 1 FROM steps WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running')"
        ))
        .bind(claim.run.as_str())
        .bind(claim.step.as_str())
        .bind(claim.epoch)
        .bind(crate::runs::encode("events", &events)?)
        .bind(claim.attempt)
        .bind(log)
        .bind(self.set_time())
        .execute(&mut *tx)
        .await
        .map_err(|e| self.error(e))?
        .rows_affected();
        if done == 0 {
            return Err(claim.stale());
        }
        self.commit(tx).await
    }

    /// Events after `after` (an id; 0 for all), oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn event_list(&self, run: Option<&RunId>, after: i64, limit: u32) -> Result<Vec<Event>> {
        type Row = (i64, Option<String>, Option<String>, String, String, Option<String>, i64);
        let rows: Vec<Row> = sqlx::query_as("SELECT id, run, step, kind, data, actor, at FROM events WHERE id > $1 AND ($2 IS NULL OR run = $2) ORDER BY id LIMIT $3")
            .bind(after)
            .bind(run.map(RunId::as_str))
            .bind(limit)
            .fetch_all(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        let event = |(id, run, step, kind, data, actor, at): Row| Event {
            id,
            run,
            step,
            kind,
            data: serde_json::from_str(&data).unwrap_or_default(),
            actor,
            at,
        };
        Ok(rows.into_iter().map(event).collect())
    }

    /// Appends to a step's log; the offset of the first new byte comes back.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn log_append(&self, run: &RunId, step: &StepId, attempt: u32, bytes: &[u8]) -> Result<i64> {
        // What is said is no promise: either durability will do, so this is one statement on its own.
        sqlx::query_scalar(concat!(
            "INSERT INTO logs (run, step, start, attempt, bytes, at) VALUES ($1, $2, ",
            log_end!(),
            ", $3, $4, ",
            now!("$5"),
            ") RETURNING start"
        ))
        .bind(run.as_str())
        .bind(step.as_str())
        .bind(attempt)
        .bind(bytes)
        .bind(self.set_time())
        .fetch_one(&self.writer)
        .await
        .map_err(|e| self.error(e))
    }

    /// The log of a step from byte `from` on, at most `limit` chunks; the first one is cut to begin at `from`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn log_read(&self, run: &RunId, step: &StepId, from: i64, limit: u32) -> Result<Vec<LogChunk>> {
        let rows: Vec<(i64, i64, Vec<u8>, i64)> =
            sqlx::query_as("SELECT start, attempt, bytes, at FROM logs WHERE run = $1 AND step = $2 AND start + LENGTH(bytes) > $3 ORDER BY start LIMIT $4")
                .bind(run.as_str())
                .bind(step.as_str())
                .bind(from)
                .bind(limit)
                .fetch_all(&self.reader)
                .await
                .map_err(|e| self.error(e))?;
        let chunk = |(start, attempt, bytes, at): (i64, i64, Vec<u8>, i64)| {
            let skip = usize::try_from(from - start).unwrap_or(0);
            LogChunk {
                step: step.clone(),
                attempt: attempt as u32,
                start: start + skip as i64,
                bytes: bytes[skip..].to_vec(),
                at,
            }
        };
        Ok(rows.into_iter().map(chunk).collect())
    }
}
