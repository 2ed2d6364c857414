//! What is under way and what waits, counted: from the same rows that lists and pages show.

use crate::db::params;
use crate::runs::decode;
use crate::{Durability, Result, Store, StoreError};
use serde::{Deserialize, Serialize};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Labels, RunState, StepState};

/// What a run that has not ended, and of which nothing is under way, waits for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitClass {
    /// Somebody has to say what became of a step.
    Person,
    /// An approval.
    Approval,
    /// A lock that another run has, or stands before it for.
    Lock,
    /// A time: a retry, a soak, a gate that holds.
    Time,
    /// A place on a machine.
    Place,
    /// A machine that has its labels: none lives. [`Store::run_waits`] does not tell it from a place.
    Worker,
}

impl WaitClass {
    pub const ALL: [Self; 6] = [Self::Person, Self::Approval, Self::Lock, Self::Time, Self::Place, Self::Worker];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Approval => "approval",
            Self::Lock => "lock",
            Self::Time => "time",
            Self::Place => "place",
            Self::Worker => "worker",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

/// A run that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunWait {
    pub run: RunId,
    pub project: String,
    pub kind: String,
    pub class: WaitClass,
    /// When the run was made.
    pub created_at: Micros,
    /// When the step whose time comes next may begin; `None` where no time is waited for.
    pub due: Option<Micros>,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    pub project: String,
    pub kind: String,
    pub state: RunState,
    pub created_at: Micros,
    pub ended_at: Micros,
}

/// A step that is recorded as running although nobody has renewed its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckStep {
    pub project: String,
    pub run: RunId,
    pub step: StepId,
    pub lease_until: Micros,
}

/// A process that drives runs, as it said itself some seconds ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// The engine's.
    pub id: String,
    pub host: String,
    /// Which steps it takes.
    pub labels: Labels,
    pub version: String,
    /// It begins nothing any more.
    pub draining: bool,
    pub started_at: Micros,
    pub seen_at: Micros,
}

/// The kind of ticket by which workers say that they live.
const WORKER: &str = "worker";

impl Store {
    /// How many steps of runs that have not ended are in each state, by project and kind of run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_count(&self) -> Result<Vec<(String, String, StepState, i64)>> {
        let found: Vec<(String, String, String, i64)> = self
            .read(|tx| {
                tx.rows(
                    "SELECT project, kind, steps.state, COUNT(*) FROM runs JOIN steps ON steps.run = runs.id
                     WHERE runs.ended_at IS NULL GROUP BY project, kind, steps.state ORDER BY project, kind, steps.state",
                    params![],
                )
            })
            .await?;
        let state =
            |text: String| StepState::parse(&text).ok_or(StoreError::Decode { what: "step state", message: text });
        found.into_iter().map(|(project, kind, text, count)| Ok((project, kind, state(text)?, count))).collect()
    }

    /// All runs, of all projects, that have not ended and of which nothing is under way; oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_waits(&self, limit: u32) -> Result<Vec<RunWait>> {
        let found: Vec<(String, String, String, i64, String, Option<i64>)> = self
            .read(move |tx| {
                let now = tx.now()?;
                tx.rows(
                    "SELECT id, project, kind, created_at, CASE
                         WHEN EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND steps.state = 'unknown') THEN 'person'
                         WHEN EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND steps.state = 'waiting'
                             AND not_before IS NULL) THEN 'approval'
                         WHEN EXISTS (SELECT 1 FROM locks WHERE locks.run = runs.id) THEN 'lock'
                         WHEN EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND steps.state IN ('waiting', 'pending')
                             AND not_before > $1) THEN 'time'
                         ELSE 'place' END,
                         (SELECT MIN(not_before) FROM steps WHERE run = runs.id AND steps.state IN ('waiting', 'pending'))
                     FROM runs WHERE ended_at IS NULL
                     AND NOT EXISTS (SELECT 1 FROM steps WHERE run = runs.id AND steps.state = 'running')
                     ORDER BY id LIMIT $2",
                    params![now, limit],
                )
            })
            .await?;
        let wait = |(run, project, kind, created_at, class, due): (String, String, String, i64, String, _)| {
            let class = WaitClass::parse(&class).ok_or(StoreError::Decode { what: "wait", message: class })?;
            Ok(RunWait { run: RunId::new(run), project, kind, class, created_at, due })
        };
        found.into_iter().map(wait).collect()
    }

    /// Runs of all projects that ended after `from` and not after `to` (µs).
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_ends(&self, from: Micros, to: Micros) -> Result<Vec<RunEnd>> {
        let found: Vec<(String, String, String, i64, i64)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT project, kind, state, created_at, ended_at FROM runs WHERE ended_at > $1 AND ended_at <= $2",
                    params![from, to],
                )
            })
            .await?;
        let end = |(project, kind, state, created_at, ended_at): (String, String, String, i64, i64)| {
            let state = RunState::parse(&state).ok_or(StoreError::Decode { what: "run state", message: state })?;
            Ok(RunEnd { project, kind, state, created_at, ended_at })
        };
        found.into_iter().map(end).collect()
    }

    /// Steps whose lease ended, and that nobody took over.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_stuck(&self) -> Result<Vec<StuckStep>> {
        let found: Vec<(String, String, String, i64)> = self
            .read(|tx| {
                let now = tx.now()?;
                tx.rows(
                    "SELECT project, run, steps.id, lease_until FROM steps JOIN runs ON runs.id = run
                     WHERE steps.state = 'running' AND lease_until < $1 ORDER BY lease_until",
                    params![now],
                )
            })
            .await?;
        let step = |(project, run, step, lease_until): (String, String, String, i64)| StuckStep {
            project,
            run: RunId::new(run),
            step: StepId::new(step),
            lease_until,
        };
        Ok(found.into_iter().map(step).collect())
    }

    /// Says that a worker lives, for `lease` µs from now. `seen_at` is set here.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn worker_tell(&self, worker: &WorkerRow, lease: Micros) -> Result<()> {
        let mut worker = worker.clone();
        self.write_again(Durability::Lazy, move |tx| {
            worker.seen_at = tx.now()?;
            let value = crate::runs::encode("worker", &worker)?;
            tx.execute(
                "INSERT INTO tickets (kind, name, value, expires_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
                params![WORKER, &worker.id, &value, worker.seen_at + lease],
            )
            .map(drop)
        })
        .await
    }

    /// A worker has ended.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn worker_end(&self, id: &str) -> Result<()> {
        self.ticket_take(WORKER, id).await.map(drop)
    }

    /// Workers that live, by id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn worker_list(&self) -> Result<Vec<WorkerRow>> {
        let found: Vec<String> = self
            .read(|tx| {
                let now = tx.now()?;
                tx.rows(
                    "SELECT value FROM tickets WHERE kind = $1 AND expires_at > $2 ORDER BY name",
                    params![WORKER, now],
                )
            })
            .await?;
        found.iter().map(|text| decode("worker", text)).collect()
    }
}

#[cfg(test)]
mod tests;
