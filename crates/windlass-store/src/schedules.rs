//! What is known of schedules beside their definitions: up to when their times were looked at, and pauses.

use crate::db::{FromRow, Row, Tx, params};
use crate::journal::NewEvent;
use crate::starts::{NewStart, start_in};
use crate::{Durability, Result, Scope, Store};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use windlass_model::Micros;

/// Names of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ScheduleKey {
    pub project: String,
    pub operation: String,
    pub schedule: String,
}

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleState {
    pub key: ScheduleKey,
    /// Of its pattern and zone.
    pub digest: String,
    /// Since when it is known with these, µs.
    pub since: Micros,
    /// Its due times until then were looked at, µs.
    pub seen: Micros,
    pub pause: Option<Pause>,
}

/// Nothing begins by it until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// µs; [`i64::MAX`] where no end was said.
    pub until: Micros,
    pub by: String,
    pub reason: String,
}

/// What one look at a schedule came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Fire {
    pub key: ScheduleKey,
    /// What begins, and why others do not: kinds and data of events.
    pub starts: Vec<NewStart>,
    pub notes: Vec<(&'static str, Value)>,
    /// Everything until then is decided.
    pub seen: Micros,
}

impl FromRow for ScheduleState {
    fn from_row(row: &mut Row) -> Result<Self> {
        let key = ScheduleKey { project: row.take()?, operation: row.take()?, schedule: row.take()? };
        let (digest, since, seen) = (row.take()?, row.take()?, row.take()?);
        let (until, by, reason): (Option<i64>, Option<String>, Option<String>) =
            (row.take()?, row.take()?, row.take()?);
        let pause = until.map(|until| Pause { until, by: by.unwrap_or_default(), reason: reason.unwrap_or_default() });
        Ok(Self { key, digest, since, seen, pause })
    }
}

/// An event about a schedule, of whichever project.
fn tell(
    tx: &mut Tx<'_>,
    scope: &Scope,
    key: &ScheduleKey,
    kind: &str,
    mut data: Value,
    by: Option<(&str, &str)>,
) -> Result<()> {
    let scope = Scope { project: key.project.clone(), ..scope.clone() };
    if let Some(data) = data.as_object_mut() {
        data.insert("schedule".into(), key.schedule.as_str().into());
    }
    let (actor, reason) = (by.map(|(actor, _)| actor), by.map(|(_, reason)| reason));
    scope.event(tx, NewEvent { subject: Some(&key.operation), actor, reason, ..NewEvent::of(kind, data) })
}

impl Store {
    /// Makes these the schedules of a project: what is new, or has another pattern or zone, is known from now on. All of them come
    /// back.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn schedule_keep(
        &self,
        project: &str,
        schedules: Vec<(ScheduleKey, String)>,
    ) -> Result<Vec<ScheduleState>> {
        let project = project.to_owned();
        let kept = {
            let project = project.clone();
            self.read(move |tx| states(tx, &project)).await?
        };
        let same = kept.len() == schedules.len()
            && schedules
                .iter()
                .all(|(key, digest)| kept.iter().any(|state| state.key == *key && state.digest == *digest));
        if same {
            return Ok(kept);
        }
        self.write(Durability::Durable, move |tx| {
            tx.serialise("schedules")?;
            let now = tx.now()?;
            for state in states(tx, &project)? {
                if !schedules.iter().any(|(key, _)| *key == state.key) {
                    tx.execute(
                        "DELETE FROM schedule_states WHERE project = $1 AND operation = $2 AND schedule = $3",
                        params![&project, &state.key.operation, &state.key.schedule],
                    )?;
                }
            }
            for (key, digest) in &schedules {
                tx.execute(
                    "INSERT INTO schedule_states (project, operation, schedule, digest, since, seen) VALUES ($1, $2, $3, $4, $5, $5)
                     ON CONFLICT (project, operation, schedule) DO UPDATE
                     SET digest = excluded.digest, since = excluded.since, seen = excluded.seen, overdue_since = NULL
                     WHERE schedule_states.digest <> excluded.digest",
                    params![&key.project, &key.operation, &key.schedule, digest, now],
                )?;
            }
            states(tx, &project)
        })
        .await
    }

    /// What is known of the schedules of the project, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn schedule_list(&self) -> Result<Vec<ScheduleState>> {
        let project = self.scope.project.clone();
        self.read(move |tx| states(tx, &project)).await
    }

    /// Records looks, each with what it starts, in one transaction. What another server has put in already, and what a pause holds
    /// back, is not put in; how many are new.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn schedule_fire(&self, fires: Vec<Fire>) -> Result<u64> {
        let (scope, fires) = (self.scope.clone(), Arc::new(fires));
        self.write(Durability::Durable, move |tx| {
            tx.serialise("schedules")?;
            let now = tx.now()?;
            let mut new = 0;
            for fire in fires.iter() {
                let key = &fire.key;
                // A clock that was set back goes over its times again, which are put in once.
                let moved: Option<(Option<i64>,)> = tx.row(
                    "UPDATE schedule_states SET seen = $4 WHERE project = $1 AND operation = $2 AND schedule = $3
                     AND (seen < $4 OR seen > $5) RETURNING paused_until",
                    params![&key.project, &key.operation, &key.schedule, fire.seen, now],
                )?;
                // Somebody else has looked, or it is a schedule no more.
                let Some((paused_until,)) = moved else { continue };
                if paused_until.is_some_and(|until| until > now) {
                    if !fire.starts.is_empty() {
                        let due: Vec<Micros> = fire.starts.iter().map(|start| start.due).collect();
                        tell(
                            tx,
                            &scope,
                            key,
                            "schedule.held",
                            serde_json::json!({ "due": due, "why": "paused" }),
                            None,
                        )?;
                    }
                    continue;
                }
                for start in &fire.starts {
                    new += u64::from(start_in(tx, start)?);
                }
                for (kind, data) in &fire.notes {
                    tell(tx, &scope, key, kind, data.clone(), None)?;
                }
            }
            Ok(new)
        })
        .await
    }

    /// Pauses a schedule, or with `None` lets it go on; times of the pause are not made up for. `false` when there is none.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn schedule_pause(&self, key: &ScheduleKey, pause: Option<&Pause>, actor: &str) -> Result<bool> {
        let (scope, key, pause, actor) = (self.scope.clone(), key.clone(), pause.cloned(), actor.to_owned());
        self.write(Durability::Durable, move |tx| {
            tx.serialise("schedules")?;
            let now = tx.now()?;
            let (until, by, reason) = match &pause {
                Some(pause) => (Some(pause.until), Some(&pause.by), Some(&pause.reason)),
                None => (None, None, None),
            };
            let done = tx.execute(
                "UPDATE schedule_states SET paused_until = $4, paused_by = $5, reason = $6,
                 seen = CASE WHEN CAST($4 AS BIGINT) IS NULL AND paused_until > seen AND seen < $7 THEN $7 ELSE seen END
                 WHERE project = $1 AND operation = $2 AND schedule = $3",
                params![&key.project, &key.operation, &key.schedule, until, by, reason, now],
            )?;
            if done == 0 {
                return Ok(false);
            }
            let (kind, data) = match &pause {
                Some(pause) => (
                    "schedule.paused",
                    serde_json::json!({ "until": Some(pause.until).filter(|until| *until < i64::MAX) }),
                ),
                None => ("schedule.resumed", serde_json::json!({})),
            };
            let said = pause.as_ref().map_or("", |pause| pause.reason.as_str());
            tell(tx, &scope, &key, kind, data, Some((&actor, said)))?;
            Ok(true)
        })
        .await
    }

    /// When a run of an operation of the project succeeded last, whoever began it, µs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn operation_succeeded(&self, operation: &str) -> Result<Option<Micros>> {
        let (project, operation) = (self.scope.project.clone(), operation.to_owned());
        let found: Option<(Option<i64>,)> = self
            .read(move |tx| {
                tx.row(
                    "SELECT MAX(ended_at) FROM runs WHERE project = $1 AND subject = $2 AND state = 'succeeded'",
                    params![&project, &operation],
                )
            })
            .await?;
        Ok(found.and_then(|(at,)| at))
    }

    /// Tells that an operation has not succeeded since a time (µs) for longer than it may; once for each such time.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn schedule_overdue(&self, key: &ScheduleKey, since: Micros, intervals: u32) -> Result<bool> {
        let (scope, key) = (self.scope.clone(), key.clone());
        self.write(Durability::Durable, move |tx| {
            let done = tx.execute(
                "UPDATE schedule_states SET overdue_since = $4 WHERE project = $1 AND operation = $2 AND schedule = $3
                 AND (overdue_since IS NULL OR overdue_since <> $4)",
                params![&key.project, &key.operation, &key.schedule, since],
            )?;
            if done > 0 {
                let data = serde_json::json!({ "since": since, "intervals": intervals });
                tell(tx, &scope, &key, "operation.overdue", data, None)?;
            }
            Ok(done > 0)
        })
        .await
    }
}

fn states(tx: &mut Tx<'_>, project: &str) -> Result<Vec<ScheduleState>> {
    tx.rows(
        "SELECT project, operation, schedule, digest, since, seen, paused_until, paused_by, reason FROM schedule_states
         WHERE project = $1 ORDER BY operation, schedule",
        params![project],
    )
}
