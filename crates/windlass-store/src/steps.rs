//! Steps: claims with leases and epochs, and every way a step changes its state.

use crate::journal::NewEvent;
use crate::locks::{self, Holder};
use crate::{Durability, Result, Store, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{StepRecord, StepSpec, StepState};

/// The process an engine lives in, enough to tell later whether it still does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineIdentity {
    pub id: String,
    pub host: String,
    /// Boot id of the host: process ids mean something within one boot only.
    pub boot: String,
    pub pid: i64,
    /// Start time of the process in clock ticks since boot.
    pub ticks: i64,
}

/// The right to run one attempt of a step until the lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub run: RunId,
    pub step: StepId,
    pub attempt: u32,
    pub epoch: i64,
}

impl Claim {
    /// The refusal of this claim.
    pub(crate) fn stale(&self) -> StoreError {
        StoreError::StaleClaim { run: self.run.to_string(), step: self.step.to_string() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimResult {
    Claimed(Claim),
    /// It was started, ended or cancelled meanwhile.
    Gone,
    /// A lock is held, or others wait for it longer.
    Locked {
        name: String,
        by: Holder,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum StepOutcome {
    Succeeded(serde_json::Value),
    Failed {
        code: String,
        reason: String,
    },
    /// It will be started again when woken, or at a time.
    Waiting {
        reason: String,
        until: Option<Micros>,
    },
    /// It will be tried again at a time.
    Again {
        reason: String,
        at: Micros,
    },
    Cancelled,
    /// Nobody knows whether it happened.
    Unknown {
        reason: String,
    },
}

/// A running step whose lease ended or whose engine is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub claim: Claim,
    pub engine: Option<EngineIdentity>,
    pub expired: bool,
}

/// A child process of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRow {
    pub pid: i64,
    pub ticks: i64,
    pub host: String,
    pub boot: String,
}

/// What a person says about a step whose end is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    Done,
    Failed,
    Repeat,
}

fn record(row: &SqliteRow) -> Result<StepRecord> {
    let state: String = row.get("state");
    let output: Option<String> = row.get("output");
    Ok(StepRecord {
        id: StepId::new(row.get::<String, _>("id")),
        state: StepState::parse(&state).ok_or(StoreError::Decode { what: "step state", message: state })?,
        attempt: row.get::<i64, _>("attempt") as u32,
        epoch: row.get("epoch"),
        not_before: row.get("not_before"),
        started_at: row.get("started_at"),
        ended_at: row.get("ended_at"),
        output: output
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|e| StoreError::Decode { what: "step output", message: e.to_string() })?,
        reason: row.get("reason"),
        code: row.get("code"),
    })
}

const COLUMNS: &str =
    "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, output, reason, code FROM steps";

/// SQL for the time, when the step ($1 run, $2 step, $3 time that a test has set) can be claimed now.
macro_rules! open {
    () => {
        concat!(
            "SELECT clock.now AS open_at, NULL AS holder_run, NULL AS holder_step, NULL AS since
             FROM (SELECT ", now!("$3"), " AS now) AS clock, steps JOIN runs ON runs.id = steps.run
             WHERE run = $1 AND steps.id = $2 AND steps.state = 'pending' AND (not_before IS NULL OR not_before <= clock.now)
             AND runs.ended_at IS NULL AND NOT runs.cancel_requested"
        )
    };
}

const OPEN: &str = open!();

/// As [`OPEN`], then a place in the queue of lock $4, and who holds it or stands first in it: a running step holds it; of those that
/// wait, the first that asked within the last $5 microseconds.
const OPEN_AND_LOCK: &str = concat!(
    open!(),
    "; INSERT INTO locks (name, run, step, since, seen)
     SELECT $4, $1, $2, clock.now, clock.now FROM (SELECT ",
    now!("$3"),
    " AS now) AS clock WHERE TRUE
     ON CONFLICT (name, run, step) DO UPDATE SET seen = excluded.seen;
     SELECT NULL AS open_at, locks.run AS holder_run, locks.step AS holder_step, locks.since AS since
     FROM locks LEFT JOIN steps ON steps.run = locks.run AND steps.id = locks.step
     WHERE name = $4 AND (steps.state = 'running' OR seen >= ",
    now!("$3"),
    " - $5)
     ORDER BY (steps.state = 'running') DESC, locks.position LIMIT 1"
);

impl Store {
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn step_get(&self, run: &RunId, step: &StepId) -> Result<StepRecord> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE run = $1 AND id = $2")))
            .bind(run.as_str())
            .bind(step.as_str())
            .fetch_optional(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        record(&row.ok_or_else(|| StoreError::NotFound { what: "step", id: format!("{run}/{step}") })?)
    }

    /// All steps of a run in order of its plan.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_list(&self, run: &RunId) -> Result<Vec<StepRecord>> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE run = $1 ORDER BY position")))
            .bind(run.as_str())
            .fetch_all(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        rows.iter().map(record).collect()
    }

    /// As [`Store::step_list`] without the outputs, which are all `None`: cheap enough to ask often.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_list_brief(&self, run: &RunId) -> Result<Vec<StepRecord>> {
        let rows = sqlx::query("SELECT id, state, attempt, epoch, not_before, started_at, ended_at, NULL AS output, reason, code FROM steps WHERE run = $1 ORDER BY position")
            .bind(run.as_str())
            .fetch_all(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        rows.iter().map(record).collect()
    }

    /// Makes this engine known.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn engine_register(&self, engine: &EngineIdentity) -> Result<()> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        // Engines without a running step are of no use to anybody later.
        sqlx::query("DELETE FROM engines WHERE id NOT IN (SELECT engine FROM steps WHERE state = 'running' AND engine IS NOT NULL) AND started_at < $1")
            .bind(now - 86_400_000_000)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        sqlx::query("INSERT INTO engines (id, host, boot, pid, ticks, started_at) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(&engine.id)
            .bind(&engine.host)
            .bind(&engine.boot)
            .bind(engine.pid)
            .bind(engine.ticks)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// Claims a step that is pending, or waiting and woken; its locks are taken in the same transaction.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn step_claim(&self, engine: &str, run: &RunId, step: &StepSpec, lease: Micros) -> Result<ClaimResult> {
        let durability = Durability::of(step.repeat);
        let mut tx = self.begin_with(durability).await?;
        let (first, more) = match step.locks.split_first() {
            Some((first, more)) => (Some(first), more),
            None => (None, &[][..]),
        };
        let rows = sqlx::query(if first.is_some() { OPEN_AND_LOCK } else { OPEN })
            .bind(run.as_str())
            .bind(step.id.as_str())
            .bind(self.set_time())
            .bind(first)
            .bind(locks::PATIENCE)
            .fetch_all(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        let Some(now) = rows.iter().find_map(|row| row.get::<Option<Micros>, _>("open_at")) else {
            // A place in a queue that was just taken is given up with everything else.
            return Ok(ClaimResult::Gone);
        };
        let before = rows.iter().find_map(|row| locks::holder(row, run, &step.id));
        let mut held = first.zip(before);
        for name in more {
            if held.is_some() {
                break;
            }
            held = self.lock_in(&mut tx, now, name, run, &step.id).await?.map(|by| (name, by));
        }
        if let Some((name, by)) = held {
            // The place in the queue is kept, everything else is given up.
            self.commit(tx).await?;
            return Ok(ClaimResult::Locked { name: name.clone(), by });
        }
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "UPDATE steps SET state = 'running', attempt = attempt + 1, epoch = epoch + 1, engine = $3, lease_until = $4, started_at = COALESCE(started_at, $5), reason = NULL, not_before = NULL
             WHERE run = $1 AND id = $2 RETURNING attempt, epoch;
             INSERT INTO events (run, step, kind, data, at)
             SELECT run, id, 'step.started', json_object('attempt', attempt), $5 FROM steps WHERE run = $1 AND id = $2",
        )
        .bind(run.as_str())
        .bind(step.id.as_str())
        .bind(engine)
        .bind(now + lease)
        .bind(now)
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| self.error(e))?;
        let Some((attempt, epoch)) = rows.first().copied() else { return Ok(ClaimResult::Gone) };
        self.commit(tx).await?;
        Ok(ClaimResult::Claimed(Claim { run: run.clone(), step: step.id.clone(), attempt: attempt as u32, epoch }))
    }

    /// Extends the leases of everything an engine runs.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn engine_heartbeat(&self, engine: &str, lease: Micros) -> Result<()> {
        let mut tx = self.begin_with(Durability::Lazy).await?;
        let now = self.now_in(&mut tx).await?;
        sqlx::query("UPDATE steps SET lease_until = $1 WHERE engine = $2 AND state = 'running'")
            .bind(now + lease)
            .bind(engine)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// Records how a claimed attempt ended, with the last of its log (may be empty), and gives the step as it is then. A success
    /// is recorded exactly once: a claim that was lost is refused.
    ///
    /// # Errors
    /// [`StoreError::StaleClaim`].
    pub async fn step_finish(
        &self,
        claim: &Claim,
        outcome: &StepOutcome,
        log: &[u8],
        durability: Durability,
    ) -> Result<StepRecord> {
        let (state, output, reason, code, not_before) = match outcome {
            StepOutcome::Succeeded(output) => (StepState::Succeeded, Some(output.to_string()), None, None, None),
            StepOutcome::Failed { code, reason } => {
                (StepState::Failed, None, Some(reason.as_str()), Some(code.as_str()), None)
            }
            StepOutcome::Waiting { reason, until } => (StepState::Waiting, None, Some(reason.as_str()), None, *until),
            StepOutcome::Again { reason, at } => (StepState::Pending, None, Some(reason.as_str()), None, Some(*at)),
            StepOutcome::Cancelled => (StepState::Cancelled, None, Some("cancelled while it ran"), None, None),
            StepOutcome::Unknown { reason } => (StepState::Unknown, None, Some(reason.as_str()), None, None),
        };
        let kind = match outcome {
            StepOutcome::Again { .. } => "step.retried".to_owned(),
            _ => format!("step.{}", state.as_str()),
        };
        let data = serde_json::json!({ "attempt": claim.attempt, "reason": reason, "code": code });
        let mut tx = self.begin_with(durability).await?;
        // One trip to the database. When the first statement finds no step of this claim, all is given up below.
        let rows = sqlx::query(
            concat!("UPDATE steps SET state = $4, output = $5, reason = $6, code = $7, not_before = $8, ended_at = CASE WHEN $9 THEN ", now!("$14"), " END, engine = NULL, lease_until = NULL
             WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running'
             RETURNING id, state, attempt, epoch, not_before, started_at, ended_at, NULL AS output, reason, code;
             DELETE FROM locks WHERE run = $1 AND step = $2;
             DELETE FROM processes WHERE run = $1 AND step = $2;
             INSERT INTO events (run, step, kind, data, at)
             VALUES ($1, $2, $12, $13, ", now!("$14"), ");
             INSERT INTO logs (run, step, start, attempt, bytes, at)
             SELECT $1, $2, ", log_end!(), ", $10, $11, ", now!("$14"), "
             WHERE LENGTH($11) > 0"),
        )
        .bind(claim.run.as_str())
        .bind(claim.step.as_str())
        .bind(claim.epoch)
        .bind(state.as_str())
        .bind(output)
        .bind(reason)
        .bind(code)
        .bind(not_before)
        .bind(state.is_final())
        .bind(claim.attempt)
        .bind(log)
        .bind(kind)
        .bind(data.to_string())
        .bind(self.set_time())
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| self.error(e))?;
        let mut finished = record(rows.first().ok_or_else(|| claim.stale())?)?;
        if let StepOutcome::Succeeded(output) = outcome {
            finished.output = Some(output.clone());
        }
        self.commit(tx).await?;
        Ok(finished)
    }

    /// Gives up the locks and forgets the processes of a step.
    async fn leave(&self, connection: &mut SqliteConnection, run: &RunId, step: &StepId) -> Result<()> {
        for text in
            ["DELETE FROM locks WHERE run = $1 AND step = $2", "DELETE FROM processes WHERE run = $1 AND step = $2"]
        {
            sqlx::query(text)
                .bind(run.as_str())
                .bind(step.as_str())
                .execute(&mut *connection)
                .await
                .map_err(|e| self.error(e))?;
        }
        Ok(())
    }

    /// Ends steps that will never run, in one transaction.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn step_close(&self, run: &RunId, steps: &[(StepId, StepState, String)]) -> Result<()> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        for (step, state, reason) in steps {
            let done = sqlx::query("UPDATE steps SET state = $1, reason = $2, ended_at = $3 WHERE run = $4 AND id = $5 AND state IN ('pending', 'waiting', 'unknown')")
                .bind(state.as_str())
                .bind(reason)
                .bind(now)
                .bind(run.as_str())
                .bind(step.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|e| self.error(e))?
                .rows_affected();
            if done == 1 {
                self.leave(&mut tx, run, step).await?;
                let kind = format!("step.{}", state.as_str());
                let data = serde_json::json!({ "reason": reason });
                self.event_in(
                    &mut tx,
                    now,
                    NewEvent { run: Some(run.as_str()), step: Some(step.as_str()), kind: &kind, data, actor: None },
                )
                .await?;
            }
        }
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// Lets the waiting steps of a run look again.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn step_wake(&self, run: &RunId) -> Result<()> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        sqlx::query("UPDATE steps SET state = 'pending', not_before = NULL WHERE run = $1 AND state = 'waiting'")
            .bind(run.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        self.event_in(
            &mut tx,
            now,
            NewEvent {
                run: Some(run.as_str()),
                step: None,
                kind: "run.woken",
                data: serde_json::Value::Null,
                actor: None,
            },
        )
        .await?;
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// Says what became of a step whose end is unknown.
    ///
    /// # Errors
    /// It is not unknown, or the database cannot be written.
    pub async fn step_settle(&self, run: &RunId, step: &StepId, settlement: Settlement, actor: &str) -> Result<()> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        let (state, word) = match settlement {
            Settlement::Done => ("succeeded", "done"),
            Settlement::Failed => ("failed", "failed"),
            Settlement::Repeat => ("pending", "repeat"),
        };
        let ended = (settlement != Settlement::Repeat).then_some(now);
        let done = sqlx::query(
            "UPDATE steps SET state = $1, reason = $2, ended_at = $3 WHERE run = $4 AND id = $5 AND state = 'unknown'",
        )
        .bind(state)
        .bind(format!("settled as {word} by {actor}"))
        .bind(ended)
        .bind(run.as_str())
        .bind(step.as_str())
        .execute(&mut *tx)
        .await
        .map_err(|e| self.error(e))?
        .rows_affected();
        if done == 0 {
            return Err(StoreError::Conflict(format!(
                "step {step} of run {run} is not unknown: there is nothing to settle"
            )));
        }
        let data = serde_json::json!({ "as": word });
        self.event_in(
            &mut tx,
            now,
            NewEvent {
                run: Some(run.as_str()),
                step: Some(step.as_str()),
                kind: "step.settled",
                data,
                actor: Some(actor),
            },
        )
        .await?;
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// Running steps with the engines that run them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_running(&self) -> Result<Vec<Lost>> {
        let now = self.now().await?;
        let rows = sqlx::query(
            "SELECT run, steps.id AS step, attempt, epoch, lease_until, engine, host, boot, pid, ticks FROM steps LEFT JOIN engines ON engines.id = steps.engine WHERE state = 'running'",
        )
        .fetch_all(&self.reader)
        .await
        .map_err(|e| self.error(e))?;
        let lost = |row: &SqliteRow| Lost {
            claim: Claim {
                run: RunId::new(row.get::<String, _>("run")),
                step: StepId::new(row.get::<String, _>("step")),
                attempt: row.get::<i64, _>("attempt") as u32,
                epoch: row.get("epoch"),
            },
            engine: row.get::<Option<String>, _>("host").map(|host| EngineIdentity {
                id: row.get("engine"),
                host,
                boot: row.get("boot"),
                pid: row.get("pid"),
                ticks: row.get("ticks"),
            }),
            expired: row.get::<Option<i64>, _>("lease_until").is_none_or(|until| until < now),
        };
        Ok(rows.iter().map(lost).collect())
    }

    /// Takes a lost attempt over, so that its recovery is this engine's alone; `None` when another engine did so first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn step_take_over(&self, engine: &str, lost: &Claim, lease: Micros) -> Result<Option<Claim>> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        let epoch: Option<i64> = sqlx::query_scalar("UPDATE steps SET epoch = epoch + 1, engine = $1, lease_until = $2 WHERE run = $3 AND id = $4 AND epoch = $5 AND state = 'running' RETURNING epoch")
            .bind(engine)
            .bind(now + lease)
            .bind(lost.run.as_str())
            .bind(lost.step.as_str())
            .bind(lost.epoch)
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        if epoch.is_some() {
            let data = serde_json::json!({ "attempt": lost.attempt });
            self.event_in(
                &mut tx,
                now,
                NewEvent {
                    run: Some(lost.run.as_str()),
                    step: Some(lost.step.as_str()),
                    kind: "step.lost",
                    data,
                    actor: None,
                },
            )
            .await?;
        }
        tx.commit().await.map_err(|e| self.error(e))?;
        Ok(epoch.map(|epoch| Claim { epoch, ..lost.clone() }))
    }

    /// Remembers a child process, so that it can be ended when this engine is gone.
    ///
    /// # Errors
    /// [`StoreError::StaleClaim`]: the child has no right to go on; the database cannot be written.
    pub async fn process_add(&self, claim: &Claim, process: &ProcessRow) -> Result<()> {
        // Processes do not outlive the machine they run on: either durability will do, so this is one statement on its own.
        let done = sqlx::query("INSERT INTO processes (run, step, attempt, pid, ticks, host, boot) SELECT run, id, attempt, $4, $5, $6, $7 FROM steps WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running' ON CONFLICT (run, step, pid) DO UPDATE SET ticks = excluded.ticks")
            .bind(claim.run.as_str())
            .bind(claim.step.as_str())
            .bind(claim.epoch)
            .bind(process.pid)
            .bind(process.ticks)
            .bind(&process.host)
            .bind(&process.boot)
            .execute(&self.writer)
            .await
            .map_err(|e| self.error(e))?
            .rows_affected();
        if done == 0 { Err(claim.stale()) } else { Ok(()) }
    }

    /// Child processes of a step that were not seen to end.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn process_list(&self, run: &RunId, step: &StepId) -> Result<Vec<ProcessRow>> {
        let rows: Vec<(i64, i64, String, String)> =
            sqlx::query_as("SELECT pid, ticks, host, boot FROM processes WHERE run = $1 AND step = $2")
                .bind(run.as_str())
                .bind(step.as_str())
                .fetch_all(&self.reader)
                .await
                .map_err(|e| self.error(e))?;
        Ok(rows.into_iter().map(|(pid, ticks, host, boot)| ProcessRow { pid, ticks, host, boot }).collect())
    }
}
