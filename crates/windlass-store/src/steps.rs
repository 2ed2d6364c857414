//! Steps: claims with leases and epochs, and every way a step changes its state.

use crate::db::{Ask, Tx, params};
use crate::journal::NewEvent;
use crate::locks::Holder;
use crate::runs::decode;
use crate::turns::{Finish, Locked, Turn, finish_in};
use crate::{Durability, Result, Store, StoreError};
use std::sync::Arc;
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Expansion, HALTED, StepRecord, StepSpec, StepState};

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
    /// Under which those are one after the other that need the step to stay whose it is.
    fn key(&self) -> String {
        format!("{}/{}", self.run, self.step)
    }

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
    /// It succeeded, and adds steps to its run.
    Expanded {
        output: serde_json::Value,
        expansion: Arc<Expansion>,
    },
    /// It had nothing to do: what comes after it goes on.
    NotNeeded {
        reason: String,
    },
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

/// An engine that said that it lives, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineRow {
    pub engine: EngineIdentity,
    pub started_at: Micros,
    /// Steps that it has leases of.
    pub running: i64,
    /// Until when the last of them is good.
    pub lease_until: Option<Micros>,
}

/// A running step whose lease ended or whose engine is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub claim: Claim,
    pub engine: Option<EngineIdentity>,
    pub lease_until: Option<Micros>,
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

pub(crate) type Row =
    (String, String, i64, i64, Option<i64>, Option<i64>, Option<i64>, Option<String>, Option<String>, Option<String>);

pub(crate) fn record(
    (id, state, attempt, epoch, not_before, started_at, ended_at, output, reason, code): Row,
) -> Result<StepRecord> {
    Ok(StepRecord {
        id: StepId::new(id),
        state: StepState::parse(&state).ok_or(StoreError::Decode { what: "step state", message: state })?,
        attempt: attempt as u32,
        epoch,
        not_before,
        started_at,
        ended_at,
        output: output.map(|text| decode("step output", &text)).transpose()?,
        reason,
        code,
    })
}

/// Refuses an attempt that has lost its step; until the end of the transaction it cannot lose it.
pub(crate) fn hold(tx: &mut Tx<'_>, claim: &Claim) -> Result<()> {
    tx.serialise(&claim.key())?;
    let found: Option<i64> = tx.row(
        "SELECT epoch FROM steps WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running'",
        params![claim.run.as_str(), claim.step.as_str(), claim.epoch],
    )?;
    found.map(drop).ok_or_else(|| claim.stale())
}

/// Gives up the locks and forgets the processes of a step.
pub(crate) fn leave(tx: &mut Tx<'_>, run: &RunId, step: &StepId) -> Result<()> {
    tx.execute("DELETE FROM locks WHERE run = $1 AND step = $2", params![run.as_str(), step.as_str()])?;
    tx.execute("DELETE FROM processes WHERE run = $1 AND step = $2", params![run.as_str(), step.as_str()])?;
    Ok(())
}

/// A run that waited is looked at again: what waits is not asked step by step whether it still has to.
pub(crate) fn rouse(tx: &mut Tx<'_>, run: &RunId) -> Result<()> {
    tx.execute(
        "UPDATE runs SET state = 'running', reason = NULL WHERE id = $1 AND state = 'waiting'",
        params![run.as_str()],
    )
    .map(drop)
}

/// All steps of a run in order of its plan, without their outputs.
pub(crate) fn brief(run: &RunId) -> Ask<'_> {
    Ask::new(
        "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, CAST(NULL AS TEXT), reason, code
         FROM steps WHERE run = $1 ORDER BY position",
        params![run.as_str()],
    )
}

type RunningRow =
    (String, String, i64, i64, Option<i64>, Option<String>, Option<String>, Option<String>, Option<i64>, Option<i64>);

/// The time, and the running steps of all projects with the engines that run them.
fn running_in(tx: &mut Tx<'_>) -> Result<(Micros, Vec<RunningRow>)> {
    let found: Vec<RunningRow> = tx.rows(
        "SELECT run, steps.id, attempt, epoch, lease_until, engine, host, boot, pid, ticks
         FROM steps LEFT JOIN engines ON engines.id = steps.engine WHERE state = 'running'",
        params![],
    )?;
    // Without a running step no time is needed.
    let now = if found.is_empty() { 0 } else { tx.now()? };
    Ok((now, found))
}

fn lost(now: Micros, running: Vec<RunningRow>) -> Vec<Lost> {
    let lost = |(run, step, attempt, epoch, lease_until, engine, host, boot, pid, ticks): RunningRow| Lost {
        claim: Claim { run: RunId::new(run), step: StepId::new(step), attempt: attempt as u32, epoch },
        engine: match (engine, host, boot, pid, ticks) {
            (Some(id), Some(host), Some(boot), Some(pid), Some(ticks)) => {
                Some(EngineIdentity { id, host, boot, pid, ticks })
            }
            _ => None,
        },
        lease_until,
        expired: lease_until.is_none_or(|until| until < now),
    };
    running.into_iter().map(lost).collect()
}

impl Store {
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn step_get(&self, run: &RunId, step: &StepId) -> Result<StepRecord> {
        let (of, id) = (run.clone(), step.clone());
        let found: Option<Row> = self
            .read(move |tx| {
                tx.row(
                    "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, output, reason, code FROM steps
                     WHERE run = $1 AND id = $2",
                    params![of.as_str(), id.as_str()],
                )
            })
            .await?;
        record(found.ok_or_else(|| StoreError::NotFound { what: "step", id: format!("{run}/{step}") })?)
    }

    /// All steps of a run in order of its plan.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_list(&self, run: &RunId) -> Result<Vec<StepRecord>> {
        let run = run.clone();
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, output, reason, code FROM steps
                     WHERE run = $1 ORDER BY position",
                    params![run.as_str()],
                )
            })
            .await?;
        found.into_iter().map(record).collect()
    }

    /// As [`Store::step_list`] without the outputs, which are all `None`: cheap enough to ask often.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_list_brief(&self, run: &RunId) -> Result<Vec<StepRecord>> {
        let run = run.clone();
        let found = self.read(move |tx| tx.rows(brief(&run).sql, &brief(&run).params)).await?;
        found.into_iter().map(record).collect()
    }

    /// Makes this engine known.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn engine_register(&self, engine: &EngineIdentity) -> Result<()> {
        let engine = engine.clone();
        self.write_again(Durability::Durable, move |tx| {
            let now = tx.now()?;
            // Engines without a running step are of no use to anybody later.
            tx.execute(
                "DELETE FROM engines WHERE started_at < $1
                 AND id NOT IN (SELECT engine FROM steps WHERE state = 'running' AND engine IS NOT NULL)",
                params![now - 86_400_000_000],
            )?;
            tx.execute(
                "INSERT INTO engines (id, host, boot, pid, ticks, started_at) VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (id) DO NOTHING",
                params![&engine.id, &engine.host, &engine.boot, engine.pid, engine.ticks, now],
            )?;
            Ok(())
        })
        .await
    }

    /// Engines that are known, newest first: those that have ended stay for a day.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn engine_list(&self) -> Result<Vec<EngineRow>> {
        type Row = (String, String, String, i64, i64, i64, i64, Option<i64>);
        let found: Vec<Row> = self
            .read(|tx| {
                tx.rows(
                    "SELECT engines.id, host, boot, pid, ticks, engines.started_at, COUNT(steps.run), MAX(steps.lease_until)
                     FROM engines LEFT JOIN steps ON steps.engine = engines.id AND steps.state = 'running'
                     GROUP BY engines.id, host, boot, pid, ticks, engines.started_at
                     ORDER BY engines.started_at DESC, engines.id",
                    params![],
                )
            })
            .await?;
        let row = |(id, host, boot, pid, ticks, started_at, running, lease_until): Row| EngineRow {
            engine: EngineIdentity { id, host, boot, pid, ticks },
            started_at,
            running,
            lease_until,
        };
        Ok(found.into_iter().map(row).collect())
    }

    /// Claims a step that is pending or whose time has come; its locks are taken in the same transaction.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn step_claim(&self, engine: &str, run: &RunId, step: &StepSpec, lease: Micros) -> Result<ClaimResult> {
        let turn = Turn {
            claims: vec![(step.id.clone(), step.locks.clone())],
            despite_cancel: !step.flow.phase.is_main(),
            ..Turn::default()
        };
        let mut turned = self.run_turn(engine, run, &turn, lease, Durability::of(step.repeat)).await?;
        Ok(match (turned.claims.pop(), turned.locked.pop()) {
            (Some(claim), _) => ClaimResult::Claimed(claim),
            (None, Some(Locked { name, by, .. })) => ClaimResult::Locked { name, by },
            (None, None) => ClaimResult::Gone,
        })
    }

    /// Extends the leases of everything an engine runs.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn engine_heartbeat(&self, engine: &str, lease: Micros) -> Result<()> {
        let engine = engine.to_owned();
        self.write_again(Durability::Lazy, move |tx| {
            let now = tx.now()?;
            tx.execute(
                "UPDATE steps SET lease_until = $1 WHERE engine = $2 AND state = 'running'",
                params![now + lease, &engine],
            )
            .map(drop)
        })
        .await
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
        let finish = Finish { claim: claim.clone(), outcome: outcome.clone(), log: log.to_vec() };
        let (scope, stale) = (self.scope.clone(), claim.stale());
        let finished = self
            .write(durability, move |tx| finish_in(tx, &scope, &finish.claim.run, std::slice::from_ref(&finish), None))
            .await?;
        finished.into_iter().next().ok_or(stale)
    }

    /// Holds back whatever of a run has not begun, until it is resumed; `false` when it has ended. What is under way goes on, and what
    /// waits for something else goes on waiting for that.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn run_halt(&self, run: &RunId, actor: &str, reason: &str) -> Result<bool> {
        let (scope, run) = (self.scope.clone(), run.clone());
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        self.write(Durability::Durable, move |tx| {
            let open: Option<i64> =
                tx.row("SELECT created_at FROM runs WHERE id = $1 AND ended_at IS NULL", params![run.as_str()])?;
            if open.is_none() {
                return Ok(false);
            }
            tx.execute(
                "UPDATE steps SET state = 'waiting', not_before = NULL, code = $1, reason = $2
                 WHERE run = $3 AND state = 'pending'",
                params![HALTED, &format!("halted by {actor}: {reason}"), run.as_str()],
            )?;
            let event = NewEvent::of_run(&run, "run.halted", serde_json::Value::Null);
            scope.event(tx, NewEvent { actor: Some(&actor), reason: Some(&reason), ..event })?;
            Ok(true)
        })
        .await
    }

    /// Lets a run go on: what was held back may begin, and what waits looks again.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn run_resume(&self, run: &RunId, actor: &str) -> Result<()> {
        let (scope, run, actor) = (self.scope.clone(), run.clone(), actor.to_owned());
        self.write(Durability::Durable, move |tx| {
            tx.execute(
                "UPDATE steps SET state = 'pending', not_before = NULL, code = NULL WHERE run = $1 AND state = 'waiting'",
                params![run.as_str()],
            )?;
            rouse(tx, &run)?;
            let event = NewEvent::of_run(&run, "run.resumed", serde_json::Value::Null);
            scope.event(tx, NewEvent { actor: Some(&actor), ..event })
        })
        .await
    }

    /// Lets the waiting steps of a run look again; those that are held back because it was halted stay so.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn step_wake(&self, run: &RunId) -> Result<()> {
        let (scope, run) = (self.scope.clone(), run.clone());
        self.write(Durability::Durable, move |tx| {
            tx.execute(
                "UPDATE steps SET state = 'pending', not_before = NULL
                 WHERE run = $1 AND state = 'waiting' AND (code IS NULL OR code <> $2)",
                params![run.as_str(), HALTED],
            )?;
            rouse(tx, &run)?;
            scope.event(tx, NewEvent::of_run(&run, "run.woken", serde_json::Value::Null))
        })
        .await
    }

    /// Says what became of a step whose end is unknown, and how that is known where somebody says so.
    ///
    /// # Errors
    /// It is not unknown, or the database cannot be written.
    pub async fn step_settle(
        &self,
        run: &RunId,
        step: &StepId,
        settlement: Settlement,
        actor: &str,
        reason: Option<&str>,
    ) -> Result<()> {
        let (state, word) = match settlement {
            Settlement::Done => ("succeeded", "done"),
            Settlement::Failed => ("failed", "failed"),
            Settlement::Repeat => ("pending", "repeat"),
        };
        let (scope, run, step, actor) = (self.scope.clone(), run.clone(), step.clone(), actor.to_owned());
        let reason = reason.map(str::to_owned);
        let told = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let done = tx.execute(
                "UPDATE steps SET state = $1, reason = $2, ended_at = $3 WHERE run = $4 AND id = $5 AND state = 'unknown'",
                params![
                    state,
                    &format!("settled as {word} by {actor}{told}"),
                    (settlement != Settlement::Repeat).then_some(now),
                    run.as_str(),
                    step.as_str()
                ],
            )?;
            if done == 0 {
                return Err(StoreError::Conflict(format!(
                    "step {step} of run {run} is not unknown: there is nothing to settle"
                )));
            }
            rouse(tx, &run)?;
            let data = serde_json::json!({ "as": word });
            let event = NewEvent::of_step(&run, &step, "step.settled", data);
            scope.event(tx, NewEvent { actor: Some(&actor), reason: reason.as_deref(), ..event })
        })
        .await
    }

    /// Running steps of all projects with the engines that run them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_running(&self) -> Result<Vec<Lost>> {
        let (now, found) = self.read(running_in).await?;
        Ok(lost(now, found))
    }

    /// Takes a lost attempt over, so that its recovery is this engine's alone; `None` when another engine did so first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn step_take_over(&self, engine: &str, lost: &Claim, lease: Micros) -> Result<Option<Claim>> {
        let (scope, engine, lost) = (self.scope.clone(), engine.to_owned(), lost.clone());
        self.write(Durability::Durable, move |tx| {
            tx.serialise(&lost.key())?;
            let now = tx.now()?;
            let epoch: Option<i64> = tx.row(
                "UPDATE steps SET epoch = epoch + 1, engine = $1, lease_until = $2
                 WHERE run = $3 AND id = $4 AND epoch = $5 AND state = 'running' RETURNING epoch",
                params![&engine, now + lease, lost.run.as_str(), lost.step.as_str(), lost.epoch],
            )?;
            if epoch.is_some() {
                let data = serde_json::json!({ "attempt": lost.attempt });
                scope.event(tx, NewEvent::of_step(&lost.run, &lost.step, "step.lost", data))?;
            }
            Ok(epoch.map(|epoch| Claim { epoch, ..lost.clone() }))
        })
        .await
    }

    /// Remembers a child process, so that it can be ended when this engine is gone; with the plan file that it uses up, where it
    /// does. `false` when that was used before: nothing is recorded then, and the child may not begin.
    ///
    /// # Errors
    /// [`StoreError::StaleClaim`]: the child has no right to go on; the database cannot be written.
    pub async fn process_add(&self, claim: &Claim, process: &ProcessRow, uses: Option<&str>) -> Result<bool> {
        let (claim, process, uses) = (claim.clone(), process.clone(), uses.map(str::to_owned));
        // Processes do not outlive the machine they run on.
        let durability = if uses.is_some() { Durability::Durable } else { Durability::Lazy };
        let mut marked = false;
        self.write_again(durability, move |tx| {
            if let Some(plan) = &uses
                && !crate::reviews::use_in(tx, plan, &claim.run, &claim.step, &mut marked)?
            {
                return Ok(false);
            }
            let done = tx.execute(
                "INSERT INTO processes (run, step, attempt, pid, ticks, host, boot)
                 SELECT run, id, attempt, CAST($4 AS BIGINT), CAST($5 AS BIGINT), $6, $7 FROM steps
                 WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running'
                 ON CONFLICT (run, step, pid) DO UPDATE SET ticks = excluded.ticks",
                params![
                    claim.run.as_str(),
                    claim.step.as_str(),
                    claim.epoch,
                    process.pid,
                    process.ticks,
                    &process.host,
                    &process.boot
                ],
            )?;
            if done == 0 { Err(claim.stale()) } else { Ok(true) }
        })
        .await
    }

    /// Child processes of a step that were not seen to end.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn process_list(&self, run: &RunId, step: &StepId) -> Result<Vec<ProcessRow>> {
        let (run, step) = (run.clone(), step.clone());
        let found: Vec<(i64, i64, String, String)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT pid, ticks, host, boot FROM processes WHERE run = $1 AND step = $2",
                    params![run.as_str(), step.as_str()],
                )
            })
            .await?;
        Ok(found.into_iter().map(|(pid, ticks, host, boot)| ProcessRow { pid, ticks, host, boot }).collect())
    }
}
