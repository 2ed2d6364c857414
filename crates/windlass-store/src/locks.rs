//! Named locks as queues. Who holds one follows from the steps' states; nothing is ever counted.

use crate::db::{Tx, params};
use crate::journal::NewEvent;
use crate::{Durability, Result, Store};
use serde::Serialize;
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

/// Two that queue for a lock at once would not see each other, and both think that they are first: one waits here for the other.
pub(crate) fn serialise(tx: &mut Tx<'_>, project: &str, name: &str) -> Result<()> {
    tx.serialise(&format!("{project}/{name}"))
}

/// Queues for a lock that was [serialised](serialise); `None` when it is ours.
pub(crate) fn lock_in(
    tx: &mut Tx<'_>,
    project: &str,
    name: &str,
    run: &RunId,
    step: &StepId,
) -> Result<Option<Holder>> {
    let now = tx.now()?;
    tx.execute(
        "INSERT INTO locks (project, name, run, step, since, seen) VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (project, name, run, step) DO UPDATE SET seen = excluded.seen",
        params![project, name, run.as_str(), step.as_str(), now],
    )?;
    // A running step holds it; of those that wait, the first that still asks.
    let first: Option<(String, String, i64)> = tx.row(
        "SELECT locks.run, locks.step, locks.since FROM locks
         LEFT JOIN steps ON steps.run = locks.run AND steps.id = locks.step
         WHERE locks.project = $1 AND name = $2 AND (steps.state = 'running' OR seen >= $3)
         ORDER BY COALESCE(steps.state = 'running', FALSE) DESC, locks.position LIMIT 1",
        params![project, name, now - PATIENCE],
    )?;
    let holder = first.filter(|(of, at, _)| (of.as_str(), at.as_str()) != (run.as_str(), step.as_str()));
    Ok(holder.map(|(of, at, since)| Holder { run: RunId::new(of), step: StepId::new(at), since }))
}

impl Store {
    /// Takes a place in a queue away. A running step that held it is unknown from then on: what it was doing may have happened.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn lock_take_away(&self, name: &str, run: &RunId, step: &StepId, actor: &str, why: &str) -> Result<()> {
        let (scope, run, step) = (self.scope.clone(), run.clone(), step.clone());
        let (name, actor, why) = (name.to_owned(), actor.to_owned(), why.to_owned());
        self.write(Durability::Durable, move |tx| {
            tx.execute(
                "DELETE FROM locks WHERE project = $1 AND name = $2 AND run = $3 AND step = $4",
                params![&scope.project, &name, run.as_str(), step.as_str()],
            )?;
            // The epoch grows, so that a holder that lives after all can write nothing any more.
            tx.execute(
                "UPDATE steps SET state = 'unknown', epoch = epoch + 1, engine = NULL, lease_until = NULL, reason = $1
                 WHERE run = $2 AND id = $3 AND state = 'running'",
                params![&format!("its lock was taken away by {actor}: {why}"), run.as_str(), step.as_str()],
            )?;
            let data = serde_json::json!({ "lock": name, "why": why });
            let event = NewEvent {
                actor: Some(&actor),
                reason: Some(&why),
                ..NewEvent::of_step(&run, &step, "lock.taken_away", data)
            };
            scope.event(tx, event)
        })
        .await
    }

    /// All queues of the project, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn lock_list(&self) -> Result<Vec<LockRow>> {
        let project = self.scope.project.clone();
        let found: Vec<(String, String, String, i64, bool)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT name, locks.run, locks.step, since, COALESCE(steps.state = 'running', FALSE) FROM locks
                     LEFT JOIN steps ON steps.run = locks.run AND steps.id = locks.step
                     WHERE project = $1 ORDER BY name, locks.position",
                    params![&project],
                )
            })
            .await?;
        let row = |(name, run, step, since, held): (String, String, String, i64, bool)| LockRow {
            name,
            run: RunId::new(run),
            step: StepId::new(step),
            since,
            held,
        };
        Ok(found.into_iter().map(row).collect())
    }
}
