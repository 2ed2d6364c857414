//! What starts operations without a person being there: kept until a server has made a run of it, or knows why there is none.

use crate::db::{Tx, params};
use crate::journal::NewEvent;
use crate::runs::encode;
use crate::{Durability, Result, Scope, Store};
use serde::Serialize;
use serde_json::Value;
use windlass_model::Micros;
use windlass_model::id::RunId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StartKind {
    /// A due time of a schedule.
    Schedule,
    /// A delivery to a trigger, or an event for it.
    Trigger,
    /// What somebody asked to be done at a time.
    At,
}

impl StartKind {
    pub const ALL: [Self; 3] = [Self::Schedule, Self::Trigger, Self::At];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Trigger => "trigger",
            Self::At => "at",
        }
    }
}

/// Something that is to start an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct NewStart {
    /// Made of what it is: of two with the same id there is one.
    pub id: String,
    pub project: String,
    pub operation: String,
    pub kind: StartKind,
    /// Of the schedule or trigger.
    pub name: String,
    pub request: Value,
    /// As recorded.
    pub actor: String,
    /// What it is meant for, and when it begins at the earliest, µs.
    pub due: Micros,
    pub at: Micros,
    /// Of a backfill: its id, and how many of it are under way at once. They begin in the order of their ids.
    pub series: Option<(String, u32)>,
}

/// One that was put in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StartRow {
    pub id: String,
    pub project: String,
    pub operation: String,
    pub kind: StartKind,
    pub name: String,
    #[serde(skip)]
    pub request: Value,
    pub actor: String,
    pub due: Micros,
    pub at: Micros,
    /// `waiting`, `taken`, `started`, `refused`, `ignored` or `cancelled`.
    pub state: String,
    pub run: Option<RunId>,
    /// Why there is no run.
    pub note: Option<String>,
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// Its run was made. `late`: so many µs after its time.
    Run { late: Option<Micros> },
    /// There will be no run of it, for this reason.
    Refused(String),
    /// Its own condition says that it is nothing to be done.
    Ignored(String),
}

impl crate::db::FromRow for StartRow {
    fn from_row(row: &mut crate::db::Row) -> Result<Self> {
        let (id, project, operation): (String, String, String) = (row.take()?, row.take()?, row.take()?);
        let (kind, name, request): (String, String, String) = (row.take()?, row.take()?, row.take()?);
        let (actor, due, at, state) = (row.take()?, row.take()?, row.take()?, row.take()?);
        let (run, note): (Option<String>, Option<String>) = (row.take()?, row.take()?);
        let unknown = || crate::StoreError::Decode { what: "kind of start", message: kind.clone() };
        Ok(Self {
            kind: StartKind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or_else(unknown)?,
            request: crate::runs::decode("start", &request)?,
            run: run.map(RunId::new),
            id,
            project,
            operation,
            name,
            actor,
            due,
            at,
            state,
            note,
        })
    }
}

/// Puts one in; whether it was not there.
pub(crate) fn start_in(tx: &mut Tx<'_>, start: &NewStart) -> Result<bool> {
    let request = encode("start", &start.request)?;
    let done = tx.execute(
        "INSERT INTO starts (id, project, operation, kind, name, request, actor, due, at, series, width, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'waiting') ON CONFLICT (id) DO NOTHING",
        params![
            &start.id,
            &start.project,
            &start.operation,
            start.kind.as_str(),
            &start.name,
            &request,
            &start.actor,
            start.due,
            start.at,
            start.series.as_ref().map(|(series, _)| series),
            start.series.as_ref().map(|(_, width)| *width),
        ],
    )?;
    Ok(done > 0)
}

impl Store {
    /// Puts one in, with an event of that kind where there is one; `false` when it was there.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_put(&self, start: NewStart, event: Option<&'static str>) -> Result<bool> {
        let scope = Scope { project: start.project.clone(), ..Scope::clone(&self.scope) };
        self.write(Durability::Durable, move |tx| {
            if !start_in(tx, &start)? {
                return Ok(false);
            }
            if let Some(kind) = event {
                let data =
                    serde_json::json!({ "start": start.id, "kind": start.kind, "name": start.name, "at": start.at });
                let told =
                    NewEvent { subject: Some(&start.operation), actor: Some(&start.actor), ..NewEvent::of(kind, data) };
                scope.event(tx, told)?;
            }
            Ok(true)
        })
        .await
    }

    /// Takes up to `limit` whose time has come, the oldest first, for `lease` µs: until then nobody else takes them. Each has the id
    /// of its run, which is the same whoever takes it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_take(&self, lease: Micros, limit: u32) -> Result<Vec<StartRow>> {
        self.write(Durability::Durable, move |tx| {
            // Whoever comes second finds the rows as the first one left them.
            tx.serialise("starts")?;
            let now = tx.now()?;
            let due: Vec<(String, Option<String>)> = tx.rows(
                "SELECT id, run FROM starts WHERE state IN ('waiting', 'taken') AND at <= $1
                 AND (taken_until IS NULL OR taken_until <= $1) ORDER BY at, id LIMIT $2",
                params![now, limit],
            )?;
            let mut taken = Vec::new();
            for (id, run) in due {
                let run = run.unwrap_or_else(|| Self::run_id().to_string());
                taken.extend(tx.row::<StartRow>(
                    "UPDATE starts SET state = 'taken', run = $2, taken_until = $3 WHERE id = $1
                     RETURNING id, project, operation, kind, name, request, actor, due, at, state, run, note",
                    params![&id, &run, now + lease],
                )?);
            }
            Ok(taken)
        })
        .await
    }

    /// Records what became of one that was taken, with an event; nothing where it is recorded already.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_end(&self, start: &StartRow, ended: &Started) -> Result<()> {
        let scope = Scope { project: start.project.clone(), ..Scope::clone(&self.scope) };
        let (start, ended) = (start.clone(), ended.clone());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let (state, note) = match &ended {
                Started::Run { .. } => ("started", None),
                Started::Refused(why) => ("refused", Some(why)),
                Started::Ignored(why) => ("ignored", Some(why)),
            };
            // A run that was made by whoever had it before is a run.
            let recorded: Option<String> = tx.row(
                "UPDATE starts SET state = CASE WHEN EXISTS (SELECT 1 FROM runs WHERE runs.id = starts.run) THEN 'started' ELSE $2 END,
                 note = $3, ended_at = $4, taken_until = NULL WHERE id = $1 AND state = 'taken' RETURNING state",
                params![&start.id, state, note, now],
            )?;
            if recorded.is_none_or(|recorded| recorded != state) {
                return Ok(());
            }
            let about = |more: Value| {
                let mut data =
                    serde_json::json!({ "start": start.id, "kind": start.kind, "name": start.name, "due": start.due });
                if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
                    data.extend(more);
                }
                data
            };
            let subject = Some(start.operation.as_str());
            match &ended {
                Started::Run { late: Some(late) } => {
                    let run = start.run.as_ref().map(RunId::as_str);
                    let data = about(serde_json::json!({ "late": late }));
                    scope.event(tx, NewEvent { run, subject, ..NewEvent::of("operation.late", data) })
                }
                Started::Refused(why) => {
                    let data = about(serde_json::json!({ "why": why }));
                    scope.event(tx, NewEvent { subject, ..NewEvent::of("operation.not_started", data) })
                }
                Started::Run { late: None } | Started::Ignored(_) => Ok(()),
            }
        })
        .await
    }

    /// Puts many in at once, of which those that are there already stay as they are; how many are new.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_put_all(&self, starts: Vec<NewStart>) -> Result<u64> {
        let starts = std::sync::Arc::new(starts);
        self.write(Durability::Durable, move |tx| {
            let mut new = 0;
            for start in starts.iter() {
                new += u64::from(start_in(tx, start)?);
            }
            Ok(new)
        })
        .await
    }

    /// Whether it is the turn of one that is part of a series: fewer than its width of those before it have not ended.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn start_turn(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.read(move |tx| {
            let row: Option<(bool,)> = tx.row(
                "SELECT mine.series IS NULL OR (
                     SELECT COUNT(*) FROM starts AS other LEFT JOIN runs ON runs.id = other.run
                     WHERE other.series = mine.series AND other.id < mine.id
                     AND (other.state IN ('waiting', 'taken') OR (other.state = 'started' AND runs.ended_at IS NULL))
                 ) < mine.width FROM starts AS mine WHERE mine.id = $1",
                params![&id],
            )?;
            Ok(row.is_some_and(|(turn,)| turn))
        })
        .await
    }

    /// Lets go of one that was taken: it is tried again at `at`.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_later(&self, id: &str, at: Micros) -> Result<()> {
        let id = id.to_owned();
        self.write(Durability::Lazy, move |tx| {
            tx.execute("UPDATE starts SET taken_until = $2 WHERE id = $1 AND state = 'taken'", params![&id, at])?;
            Ok(())
        })
        .await
    }

    /// Takes back one that has not begun; `false` when it has, or is none of the project.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_cancel(&self, id: &str, actor: &str) -> Result<bool> {
        let (scope, id, actor) = (self.scope.clone(), id.to_owned(), actor.to_owned());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let found: Option<String> = tx.row(
                "UPDATE starts SET state = 'cancelled', ended_at = $3 WHERE id = $1 AND project = $2 AND state = 'waiting'
                 RETURNING operation",
                params![&id, &scope.project, now],
            )?;
            let Some(operation) = found else { return Ok(false) };
            let data = serde_json::json!({ "start": id });
            let told = NewEvent { subject: Some(&operation), actor: Some(&actor), ..NewEvent::of("operation.start_cancelled", data) };
            scope.event(tx, told)?;
            Ok(true)
        })
        .await
    }

    /// One of the project, by its id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn start_get(&self, id: &str) -> Result<Option<StartRow>> {
        let (project, id) = (self.scope.project.clone(), id.to_owned());
        self.read(move |tx| {
            tx.row(
                "SELECT id, project, operation, kind, name, request, actor, due, at, state, run, note FROM starts
                 WHERE id = $1 AND project = $2",
                params![&id, &project],
            )
        })
        .await
    }

    /// Those of an operation of the project, latest due time first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn start_list(&self, operation: &str, kind: StartKind, limit: u32) -> Result<Vec<StartRow>> {
        let (project, operation) = (self.scope.project.clone(), operation.to_owned());
        self.read(move |tx| {
            tx.rows(
                "SELECT id, project, operation, kind, name, request, actor, due, at, state, run, note FROM starts
                 WHERE project = $1 AND operation = $2 AND kind = $3 ORDER BY due DESC LIMIT $4",
                params![&project, &operation, kind.as_str(), limit],
            )
        })
        .await
    }

    /// When the next one that nobody has taken is to begin, of all projects, µs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn start_next(&self) -> Result<Option<Micros>> {
        let found: Option<Option<i64>> = self
            .read(move |tx| {
                let row: Option<(Option<i64>,)> = tx.row(
                    "SELECT MIN(CASE WHEN taken_until > at THEN taken_until ELSE at END) FROM starts WHERE state IN ('waiting', 'taken')",
                    params![],
                )?;
                Ok(row.map(|(at,)| at))
            })
            .await?;
        Ok(found.flatten())
    }

    /// Forgets those that ended before a time (µs); how many.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn start_sweep(&self, before: Micros) -> Result<u64> {
        self.write(Durability::Lazy, move |tx| tx.execute("DELETE FROM starts WHERE ended_at < $1", params![before]))
            .await
    }
}
