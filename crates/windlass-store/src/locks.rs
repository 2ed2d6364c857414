//! Named locks as queues. Who holds one follows from the steps' states; nothing is ever counted.

use crate::{Result, Store};
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};

/// A queue row that was not touched for this long belongs to somebody who does not ask any more.
pub(crate) const PATIENCE: Micros = 10_000_000;

/// Who holds a lock, or stands before us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub run: RunId,
    pub step: StepId,
    pub since: Micros,
}

/// A row of a queue, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockRow {
    pub name: String,
    pub run: RunId,
    pub step: StepId,
    pub since: Micros,
    pub held: bool,
}

/// Who is before this step in a queue, from a row with the first of it (`holder_run`, `holder_step`, `since`).
pub(crate) fn holder(row: &SqliteRow, run: &RunId, step: &StepId) -> Option<Holder> {
    let (first_run, first_step): (String, String) = (row.get::<Option<_>, _>("holder_run")?, row.get("holder_step"));
    let ours = first_run == run.as_str() && first_step == step.as_str();
    (!ours).then(|| Holder { run: RunId::new(first_run), step: StepId::new(first_step), since: row.get("since") })
}

impl Store {
    /// Queues for a lock; `None` when it is ours.
    pub(crate) async fn lock_in(
        &self,
        connection: &mut SqliteConnection,
        now: Micros,
        name: &str,
        run: &RunId,
        step: &StepId,
    ) -> Result<Option<Holder>> {
        sqlx::query("INSERT INTO locks (name, run, step, since, seen) VALUES ($1, $2, $3, $4, $4) ON CONFLICT (name, run, step) DO UPDATE SET seen = excluded.seen")
            .bind(name)
            .bind(run.as_str())
            .bind(step.as_str())
            .bind(now)
            .execute(&mut *connection)
            .await
            .map_err(|e| self.error(e))?;
        // A running step holds it; of those that wait, the first that still asks.
        let first = sqlx::query(
            "SELECT locks.run AS holder_run, locks.step AS holder_step, locks.since AS since FROM locks LEFT JOIN steps ON steps.run = locks.run AND steps.id = locks.step WHERE name = $1 AND (steps.state = 'running' OR seen >= $2) ORDER BY (steps.state = 'running') DESC, locks.position LIMIT 1",
        )
        .bind(name)
        .bind(now - PATIENCE)
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| self.error(e))?;
        Ok(holder(&first, run, step))
    }

    /// Takes a place in a queue away. A running step that held it is unknown from then on: what it was doing may have happened.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn lock_take_away(&self, name: &str, run: &RunId, step: &StepId, actor: &str, why: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        sqlx::query("DELETE FROM locks WHERE name = $1 AND run = $2 AND step = $3")
            .bind(name)
            .bind(run.as_str())
            .bind(step.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        // The epoch grows, so that a holder that lives after all can write nothing any more.
        sqlx::query("UPDATE steps SET state = 'unknown', epoch = epoch + 1, engine = NULL, lease_until = NULL, reason = $1 WHERE run = $2 AND id = $3 AND state = 'running'")
            .bind(format!("its lock was taken away by {actor}: {why}"))
            .bind(run.as_str())
            .bind(step.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        let data = serde_json::json!({ "lock": name, "why": why });
        let event = crate::journal::NewEvent {
            run: Some(run.as_str()),
            step: Some(step.as_str()),
            kind: "lock.taken_away",
            data,
            actor: Some(actor),
        };
        self.event_in(&mut tx, now, event).await?;
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// All queues, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn lock_list(&self) -> Result<Vec<LockRow>> {
        let rows: Vec<(String, String, String, i64, bool)> = sqlx::query_as(
            "SELECT name, locks.run, locks.step, since, COALESCE(steps.state = 'running', FALSE) FROM locks LEFT JOIN steps ON steps.run = locks.run AND steps.id = locks.step ORDER BY name, locks.position",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(|e| self.error(e))?;
        Ok(rows
            .into_iter()
            .map(|(name, run, step, since, held)| LockRow {
                name,
                run: RunId::new(run),
                step: StepId::new(step),
                since,
                held,
            })
            .collect())
    }
}
