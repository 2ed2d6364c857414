//! Turns: everything an engine decides about a run at once, in one transaction.

use crate::db::{Ask, Tx, params, read};
use crate::journal::{NewEvent, log_in};
use crate::locks::{Holder, lock_in, serialise};
use crate::operations::{leaving, left};
use crate::runs::encode;
use crate::steps::leave;
use crate::{Claim, Durability, Result, Scope, StepOutcome, Store, StoreError};
use std::collections::{BTreeSet, HashMap, HashSet};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Expansion, NOT_NEEDED, Phase, RunState, StepRecord, StepSpec, StepState, Stop};

/// How an attempt ended, with the last of its log (may be empty).
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    pub claim: Claim,
    pub outcome: StepOutcome,
    pub log: Vec<u8>,
}

/// A change of a run's state, made only when it is in the first of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub from: RunState,
    pub to: RunState,
    pub reason: Option<String>,
}

/// What is written at once, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    pub finished: Vec<Finish>,
    /// Steps that will never run.
    pub closed: Vec<(StepId, StepState, String)>,
    /// Steps that are to begin, each with the names of the locks that it needs.
    pub claims: Vec<(StepId, Vec<String>)>,
    /// They are undos and handlers, which a cancel does not keep back.
    pub despite_cancel: bool,
    pub moved: Option<Move>,
}

impl Turn {
    pub fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.closed.is_empty() && self.claims.is_empty() && self.moved.is_none()
    }
}

/// A step that cannot begin: another holds a lock that it needs, or others wait for it longer. Its place in the queue is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    pub step: StepId,
    pub name: String,
    pub by: Holder,
}

/// What came of a turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turned {
    /// Those that ended, in the order they were given.
    pub finished: Vec<StepRecord>,
    /// Of what was to begin, that which does; what is not among `locked` either was begun, ended or cancelled meanwhile.
    pub claims: Vec<Claim>,
    /// What stands in the queue of a lock.
    pub locked: Vec<Locked>,
    /// The run as it was moved; `None` where it was not in the state that it was to be moved from.
    pub moved: Option<Moved>,
}

/// What became of a run that was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub ended_at: Option<Micros>,
    pub stop: Stop,
}

/// What others may have changed about a run.
#[derive(Debug, Clone)]
pub struct Look {
    pub state: RunState,
    pub stop: Stop,
    /// The last event of the run: the next look goes on behind it.
    pub seen: i64,
    /// The steps that have added others, in no order that means anything.
    pub expanded: Vec<StepId>,
    /// Steps in order of the plan, without their outputs: all, or those that something happened to.
    pub steps: Vec<StepRecord>,
}

impl StepOutcome {
    /// Shows it in the record of a step that was running. Times are left as they were.
    pub fn fill(&self, step: &mut StepRecord) {
        (step.not_before, step.output, step.reason, step.code) = (None, None, None, None);
        match self {
            Self::Succeeded(output) | Self::Expanded { output, .. } => {
                (step.state, step.output) = (StepState::Succeeded, Some(output.clone()));
            }
            Self::NotNeeded { reason } => {
                step.state = StepState::Skipped;
                (step.code, step.reason) = (Some(NOT_NEEDED.to_owned()), Some(reason.clone()));
            }
            Self::Failed { code, reason } => {
                step.state = StepState::Failed;
                (step.code, step.reason) = (Some(code.clone()), Some(reason.clone()));
            }
            Self::Waiting { reason, until } => {
                step.state = StepState::Waiting;
                (step.reason, step.not_before) = (Some(reason.clone()), *until);
            }
            Self::Again { reason, at } => {
                step.state = StepState::Pending;
                (step.reason, step.not_before) = (Some(reason.clone()), Some(*at));
            }
            Self::Cancelled => {
                (step.state, step.reason) = (StepState::Cancelled, Some("cancelled while it ran".to_owned()));
            }
            Self::Unknown { reason } => (step.state, step.reason) = (StepState::Unknown, Some(reason.clone())),
        }
    }
}

/// The step as it is after an attempt, but for when it had begun.
fn ended(finish: &Finish, now: Micros) -> StepRecord {
    let claim = &finish.claim;
    let mut step = StepRecord {
        id: claim.step.clone(),
        state: StepState::Running,
        attempt: claim.attempt,
        epoch: claim.epoch,
        not_before: None,
        started_at: None,
        ended_at: None,
        output: None,
        reason: None,
        code: None,
    };
    finish.outcome.fill(&mut step);
    step.ended_at = step.state.is_final().then_some(now);
    step
}

/// Records how attempts of a run ended: all, or the first that lost its step is refused. `started` is what came of [`end_all`] where
/// that was asked already.
pub(crate) fn finish_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: &RunId,
    finished: &[Finish],
    started: Option<Started>,
) -> Result<Vec<StepRecord>> {
    if finished.is_empty() {
        return Ok(Vec::new());
    }
    let now = tx.now()?;
    let mut steps: Vec<StepRecord> = finished.iter().map(|finish| ended(finish, now)).collect();
    let started = match started {
        Some(started) => started,
        None if tx.is_remote() => {
            let given = ends(&steps);
            let all = end_all(run, &given);
            tx.rows(all.sql, &all.params)?.into_iter().collect()
        }
        None => end_each(tx, run, &steps)?,
    };
    for (finish, step) in finished.iter().zip(&mut steps) {
        step.started_at = *started.get(step.id.as_str()).ok_or_else(|| finish.claim.stale())?;
        if !finish.log.is_empty() {
            log_in(tx, run, &step.id, step.attempt, &finish.log)?;
        }
        let kind = match &finish.outcome {
            StepOutcome::Again { .. } => "step.retried".to_owned(),
            _ => format!("step.{}", step.state.as_str()),
        };
        let mut data = serde_json::json!({ "attempt": step.attempt, "reason": step.reason, "code": step.code });
        if let StepOutcome::Expanded { expansion, .. } = &finish.outcome {
            expand_in(tx, run, &step.id, expansion)?;
            data["added"] = expansion.steps.len().into();
        }
        scope.event(tx, NewEvent::of_step(run, &step.id, &kind, data))?;
    }
    Ok(steps)
}

/// When the steps that ended had begun: of those whose claims were good.
pub(crate) type Started = HashMap<String, Option<Micros>>;

fn output(step: &StepRecord) -> Option<String> {
    step.output.as_ref().map(serde_json::Value::to_string)
}

fn end_each(tx: &mut Tx<'_>, run: &RunId, steps: &[StepRecord]) -> Result<Started> {
    let mut started = HashMap::new();
    for step in steps {
        let found: Option<(Option<i64>,)> = tx.row(
            "UPDATE steps SET state = $4, output = $5, reason = $6, code = $7, not_before = $8, ended_at = $9,
                 engine = NULL, lease_until = NULL
             WHERE run = $1 AND id = $2 AND epoch = $3 AND state = 'running' RETURNING started_at",
            params![
                run.as_str(),
                step.id.as_str(),
                step.epoch,
                step.state.as_str(),
                output(step).as_deref(),
                step.reason.as_deref(),
                step.code.as_deref(),
                step.not_before,
                step.ended_at,
            ],
        )?;
        if let Some((at,)) = found {
            leave(tx, run, &step.id)?;
            started.insert(step.id.to_string(), at);
        }
    }
    Ok(started)
}

/// How steps ended, as it is given to [`end_all`].
fn ends(steps: &[StepRecord]) -> String {
    let given = steps
        .iter()
        .map(|step| {
            serde_json::json!({
                "id": step.id, "epoch": step.epoch, "state": step.state.as_str(), "output": output(step),
                "reason": step.reason, "code": step.code, "not_before": step.not_before, "ended_at": step.ended_at,
            })
        })
        .collect();
    crate::db::rows_as_json(given)
}

/// The same as [`end_each`] in one statement, which is one way to the server and back instead of three for each: the ids, and when
/// they had begun.
fn end_all<'a>(run: &'a RunId, given: &'a str) -> Ask<'a> {
    Ask::new(
        "WITH given AS MATERIALIZED (
             SELECT * FROM json_to_recordset(CAST($2 AS json)) AS g (
                 id TEXT, epoch BIGINT, state TEXT, output TEXT, reason TEXT, code TEXT, not_before BIGINT, ended_at BIGINT
             )
         ), done AS (
             UPDATE steps SET state = given.state, output = given.output, reason = given.reason, code = given.code,
                 not_before = given.not_before, ended_at = given.ended_at, engine = NULL, lease_until = NULL
             FROM given
             WHERE steps.run = $1 AND steps.id = given.id AND steps.epoch = given.epoch AND steps.state = 'running'
             RETURNING steps.id, steps.started_at
         ), unlocked AS (
             DELETE FROM locks USING done WHERE locks.run = $1 AND locks.step = done.id
         ), forgotten AS (
             DELETE FROM processes USING done WHERE processes.run = $1 AND processes.step = done.id
         )
         SELECT id, started_at FROM done",
        params![run.as_str(), given],
    )
}

/// Takes the locks that steps need, and gives the steps that have all of theirs. One that could not begin anyway stands in no
/// queue.
fn locks_in<'a>(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: &RunId,
    wanted: &'a [(StepId, Vec<String>)],
    despite_cancel: bool,
) -> Result<(Vec<&'a StepId>, Vec<Locked>)> {
    let now = if wanted.iter().all(|(_, locks)| locks.is_empty()) { 0 } else { tx.now()? };
    let (mut ready, mut open) = (Vec::new(), Vec::new());
    for (step, locks) in wanted {
        if locks.is_empty() {
            ready.push(step);
            continue;
        }
        let found: Option<i64> = tx.row(
            "SELECT epoch FROM steps WHERE run = $1 AND id = $2
             AND (state = 'pending' AND not_before IS NULL OR state IN ('pending', 'waiting') AND not_before <= $3)
             AND EXISTS (
                 SELECT 1 FROM runs WHERE runs.id = $1 AND ended_at IS NULL
                 AND (NOT cancel_requested OR CAST($4 AS BOOLEAN)) AND NOT kill_requested
             )",
            params![run.as_str(), step.as_str(), now, despite_cancel],
        )?;
        if found.is_some() {
            open.push((step, locks));
        }
    }
    // In one order for everybody, here and in the queues: two that need the same locks never wait for each other.
    let names: BTreeSet<&String> = open.iter().flat_map(|(_, locks)| *locks).collect();
    for name in names {
        serialise(tx, &scope.project, name)?;
    }
    let mut locked = Vec::new();
    for (step, locks) in open {
        let (locks, mut held): (BTreeSet<&String>, _) = (locks.iter().collect(), None);
        for name in locks {
            if let Some(by) = lock_in(tx, &scope.project, name, run, step)? {
                held = Some(Locked { step: step.clone(), name: name.clone(), by });
                break;
            }
        }
        match held {
            Some(held) => locked.push(held),
            None => ready.push(step),
        }
    }
    Ok((ready, locked))
}

/// Begins those of the steps that are to be done now and have their locks, and says which stand in a queue. `begun` is what came of
/// [`begin_all`] where that was asked already.
fn claim_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: &RunId,
    turn: &Turn,
    engine: &str,
    lease: Micros,
    begun: Option<Begun>,
) -> Result<(Vec<Claim>, Vec<Locked>)> {
    let despite_cancel = turn.despite_cancel;
    let (steps, locked) = locks_in(tx, scope, run, &turn.claims, despite_cancel)?;
    if steps.is_empty() {
        return Ok((Vec::new(), locked));
    }
    let now = tx.now()?;
    // A claim can be lost with a database that crashes before it is on its disk. Who had it does not know, and the next claim must
    // not look like it: an epoch is never the same as one at another time.
    let mut begun: HashMap<String, (i64, i64)> = match begun {
        Some(begun) => begun.into_iter().map(|(id, attempt, epoch)| (id, (attempt, epoch))).collect(),
        None if tx.is_remote() => {
            let ids = serde_json::to_string(&steps).unwrap_or_default();
            let all = begin_all(run, &ids, engine, (now, lease), despite_cancel);
            let found: Begun = tx.rows(all.sql, &all.params)?;
            found.into_iter().map(|(id, attempt, epoch)| (id, (attempt, epoch))).collect()
        }
        None => HashMap::new(),
    };
    if !tx.is_remote() {
        for step in &steps {
            let found: Option<(i64, i64)> = tx.row(
                "UPDATE steps SET state = 'running', attempt = attempt + 1, epoch = MAX(epoch + 1, $5), engine = $3,
                     lease_until = $4, started_at = COALESCE(started_at, $5), reason = NULL, not_before = NULL
                 WHERE run = $1 AND id = $2
                 AND (state = 'pending' AND not_before IS NULL OR state IN ('pending', 'waiting') AND not_before <= $5)
                 AND EXISTS (
                     SELECT 1 FROM runs WHERE runs.id = $1 AND ended_at IS NULL
                     AND (NOT cancel_requested OR $6) AND NOT kill_requested
                 )
                 RETURNING attempt, epoch",
                params![run.as_str(), step.as_str(), engine, now + lease, now, despite_cancel],
            )?;
            begun.extend(found.map(|found| (step.to_string(), found)));
        }
    }
    let mut claims = Vec::new();
    for step in steps {
        let Some((attempt, epoch)) = begun.remove(step.as_str()) else { continue };
        scope.event(tx, NewEvent::of_step(run, step, "step.started", serde_json::json!({ "attempt": attempt })))?;
        claims.push(Claim { run: run.clone(), step: step.clone(), attempt: attempt as u32, epoch });
    }
    Ok((claims, locked))
}

/// Steps that were begun: the id, the attempt and the epoch.
type Begun = Vec<(String, i64, i64)>;

/// Begins steps, whose ids are an array of JSON, in one statement: those that are [`Begun`]. A row that another engine has its
/// hands on is that engine's: nobody waits for anybody.
fn begin_all<'a>(
    run: &'a RunId,
    ids: &'a str,
    engine: &'a str,
    (now, lease): (Micros, Micros),
    despite_cancel: bool,
) -> Ask<'a> {
    Ask::new(
        "UPDATE steps SET state = 'running', attempt = attempt + 1, epoch = GREATEST(epoch + 1, $5), engine = $3,
             lease_until = $4, started_at = COALESCE(started_at, $5), reason = NULL, not_before = NULL
         WHERE run = $1 AND id IN (
             SELECT id FROM steps
             WHERE run = $1 AND id IN (SELECT json_array_elements_text(CAST($2 AS json)))
             AND (state = 'pending' AND not_before IS NULL OR state IN ('pending', 'waiting') AND not_before <= $5)
             FOR UPDATE SKIP LOCKED
         )
         AND EXISTS (
             SELECT 1 FROM runs WHERE runs.id = $1 AND ended_at IS NULL
             AND (NOT cancel_requested OR CAST($6 AS BOOLEAN)) AND NOT kill_requested
         )
         RETURNING id, attempt, epoch",
        params![run.as_str(), ids, engine, now + lease, now, despite_cancel],
    )
}

/// How a phase is recorded.
pub(crate) fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Main => "main",
        Phase::Undo(_) => "undo",
        Phase::Failed | Phase::Cancelled => "handler",
    }
}

/// Between steps of a plan there is room for what they add.
pub(crate) const GAP: i64 = 1 << 40;

/// Adds steps to a run, right behind the one that adds them.
fn expand_in(tx: &mut Tx<'_>, run: &RunId, step: &StepId, expansion: &Expansion) -> Result<()> {
    // What it adds is with the steps.
    let rest = Expansion { steps: Vec::new(), ..expansion.clone() };
    let document = encode("expansion", &rest)?;
    tx.execute(
        "INSERT INTO expansions (run, step, document) VALUES ($1, $2, $3)",
        params![run.as_str(), step.as_str(), &document],
    )?;
    let count = expansion.steps.len() as i64;
    if count == 0 {
        return Ok(());
    }
    let (at, next): (i64, i64) = tx
        .row(
            "SELECT position, COALESCE(
                 (SELECT MIN(later.position) FROM steps AS later WHERE later.run = $1 AND later.position > own.position),
                 position + CAST($3 AS BIGINT)
             ) FROM steps AS own WHERE run = $1 AND id = $2",
            params![run.as_str(), step.as_str(), GAP],
        )?
        .ok_or_else(|| StoreError::NotFound { what: "step", id: format!("{run}/{step}") })?;
    let mut apart = (next - at) / (count + 1);
    if apart == 0 {
        apart = 1 << 10;
        tx.execute(
            "UPDATE steps SET position = position + $3 WHERE run = $1 AND position > $2",
            params![run.as_str(), at, apart * (count + 1)],
        )?;
    }
    let row = |spec: &StepSpec| Ok((spec.id.clone(), phase(&spec.flow.phase), encode("step", spec)?));
    let rows = encode("steps", &expansion.steps.iter().map(row).collect::<Result<Vec<_>>>()?)?;
    tx.execute(
        tx.pick(
            "INSERT INTO steps (run, id, position, state, added_by, phase, spec)
             SELECT $1, json_extract(value, '$[0]'), $3 + (key + 1) * $4, 'pending', $5, json_extract(value, '$[1]'),
                 json_extract(value, '$[2]')
             FROM json_each($2)",
            "INSERT INTO steps (run, id, position, state, added_by, phase, spec)
             SELECT $1, value->>0, CAST($3 AS BIGINT) + ordinality * CAST($4 AS BIGINT), 'pending', $5, value->>1, value->>2
             FROM json_array_elements(CAST($2 AS json)) WITH ORDINALITY",
        ),
        params![run.as_str(), &rows, at, apart, step.as_str()],
    )
    .map(drop)
}

/// Ends steps that will never run.
pub(crate) fn close_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: &RunId,
    steps: &[(StepId, StepState, String)],
) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let now = tx.now()?;
    let closed: HashSet<String> =
        if tx.is_remote() { close_all(tx, run, steps, now)? } else { close_each(tx, run, steps, now)? };
    for (step, state, reason) in steps.iter().filter(|(step, ..)| closed.contains(step.as_str())) {
        let kind = format!("step.{}", state.as_str());
        scope.event(tx, NewEvent::of_step(run, step, &kind, serde_json::json!({ "reason": reason })))?;
    }
    Ok(())
}

fn close_each(
    tx: &mut Tx<'_>,
    run: &RunId,
    steps: &[(StepId, StepState, String)],
    now: Micros,
) -> Result<HashSet<String>> {
    let mut closed = HashSet::new();
    for (step, state, reason) in steps {
        let done = tx.execute(
            "UPDATE steps SET state = $1, reason = $2, ended_at = $3
             WHERE run = $4 AND id = $5 AND state IN ('pending', 'waiting', 'unknown')",
            params![state.as_str(), reason, now, run.as_str(), step.as_str()],
        )?;
        if done == 1 {
            leave(tx, run, step)?;
            closed.insert(step.to_string());
        }
    }
    Ok(closed)
}

/// The same as [`close_each`] in one statement.
fn close_all(
    tx: &mut Tx<'_>,
    run: &RunId,
    steps: &[(StepId, StepState, String)],
    now: Micros,
) -> Result<HashSet<String>> {
    let given: Vec<serde_json::Value> = steps
        .iter()
        .map(|(step, state, reason)| serde_json::json!({ "id": step, "state": state.as_str(), "reason": reason }))
        .collect();
    let closed: Vec<String> = tx.rows(
        "WITH given AS MATERIALIZED (
             SELECT * FROM json_to_recordset(CAST($2 AS json)) AS g (id TEXT, state TEXT, reason TEXT)
         ), done AS (
             UPDATE steps SET state = given.state, reason = given.reason, ended_at = $3 FROM given
             WHERE steps.run = $1 AND steps.id = given.id AND steps.state IN ('pending', 'waiting', 'unknown')
             RETURNING steps.id
         ), unlocked AS (
             DELETE FROM locks USING done WHERE locks.run = $1 AND locks.step = done.id
         ), forgotten AS (
             DELETE FROM processes USING done WHERE processes.run = $1 AND processes.step = done.id
         )
         SELECT id FROM done",
        params![run.as_str(), &crate::db::rows_as_json(given), now],
    )?;
    Ok(closed.into_iter().collect())
}

/// When it ended and whether it is to stop, where the run is moved.
fn moving<'a>(run: &'a RunId, moved: &'a Move, now: Micros) -> Ask<'a> {
    let ended = moved.to.is_final().then_some(now);
    Ask::new(
        "UPDATE runs SET state = $1, reason = $2, ended_at = $3 WHERE id = $4 AND state = $5
         RETURNING ended_at, cancel_requested, kill_requested",
        params![moved.to.as_str(), moved.reason.as_deref(), ended, run.as_str(), moved.from.as_str()],
    )
}

/// What is answered where a run is moved: of [`moving`], and of [`leaving`] where that ends it.
type Answers = (Vec<(Option<Micros>, bool, bool)>, Vec<(String, String)>);

/// `answers` is what came of it where that was asked already.
pub(crate) fn move_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: &RunId,
    moved: &Move,
    answers: Option<Answers>,
) -> Result<Option<Moved>> {
    let (found, queues) = match answers {
        Some(answers) => answers,
        None => {
            let asked = moving(run, moved, tx.now()?);
            let found = tx.rows(asked.sql, &asked.params)?;
            let asked = leaving(run);
            let is_end = moved.to.is_final() && !found.is_empty();
            (found, if is_end { tx.rows(asked.sql, &asked.params)? } else { Vec::new() })
        }
    };
    let Some((ended_at, cancel, kill)) = found.into_iter().next() else { return Ok(None) };
    left(tx, scope, queues)?;
    let kind = format!("run.{}", moved.to.as_str());
    scope.event(tx, NewEvent::of_run(run, &kind, serde_json::json!({ "reason": moved.reason })))?;
    Ok(Some(Moved { ended_at, stop: Stop::of(cancel, kill) }))
}

/// What was asked of a server at once.
#[derive(Default)]
struct AtOnce {
    started: Option<Started>,
    begun: Option<Begun>,
    moved: Option<Answers>,
}

/// Asks all of a turn of a server at once, where no part of it needs what came of another: one way there and back instead of three.
fn at_once(tx: &mut Tx<'_>, run: &RunId, turn: &Turn, engine: &str, lease: Micros) -> Result<AtOnce> {
    let adds = |finish: &Finish| matches!(finish.outcome, StepOutcome::Expanded { .. });
    let locks = |(_, locks): &(StepId, Vec<String>)| !locks.is_empty();
    let apart = !turn.closed.is_empty() || turn.claims.iter().any(locks) || turn.finished.iter().any(adds);
    if !tx.is_remote() || apart {
        return Ok(AtOnce::default());
    }
    let now = tx.now()?;
    let given = ends(&turn.finished.iter().map(|finish| ended(finish, now)).collect::<Vec<_>>());
    let ids: Vec<&StepId> = turn.claims.iter().map(|(step, _)| step).collect();
    let ids = serde_json::to_string(&ids).unwrap_or_default();
    let mut asks = Vec::new();
    if !turn.finished.is_empty() {
        asks.push(end_all(run, &given));
    }
    if !turn.claims.is_empty() {
        asks.push(begin_all(run, &ids, engine, (now, lease), turn.despite_cancel));
    }
    asks.extend(turn.moved.as_ref().map(|moved| moving(run, moved, now)));
    let is_end = turn.moved.as_ref().is_some_and(|moved| moved.to.is_final());
    asks.extend(is_end.then(|| leaving(run)));
    let mut answers = tx.rows_each(&asks)?.into_iter();
    let mut answer = |is_asked: bool| if is_asked { answers.next() } else { None };
    let started = answer(!turn.finished.is_empty());
    let begun = answer(!turn.claims.is_empty());
    let moved = answer(turn.moved.is_some());
    let queues = answer(is_end).unwrap_or_default();
    Ok(AtOnce {
        started: started.map(|rows| Ok::<_, StoreError>(read(rows)?.into_iter().collect())).transpose()?,
        begun: begun.map(read).transpose()?,
        moved: moved.map(|rows| Ok::<_, StoreError>((read(rows)?, read(queues)?))).transpose()?,
    })
}

/// Whether something happened after an event that may have changed any step.
fn is_of_run(tx: &mut Tx<'_>, run: &RunId, since: i64) -> Result<bool> {
    let sql = "SELECT id FROM events WHERE run = $1 AND id > $2 AND step IS NULL LIMIT 1";
    Ok(tx.row::<i64>(sql, params![run.as_str(), since])?.is_some())
}

/// Steps that something happened to after an event, in order, without their outputs.
fn changed_in(tx: &mut Tx<'_>, run: &RunId, since: i64) -> Result<Vec<crate::steps::Row>> {
    tx.rows(
        "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, CAST(NULL AS TEXT), reason, code FROM steps
         WHERE run = $1 AND id IN (SELECT step FROM events WHERE run = $1 AND id > $2) ORDER BY position",
        params![run.as_str(), since],
    )
}

impl Store {
    /// Writes a turn: all of it or, when an attempt in it has lost its step, nothing. Success is recorded exactly once.
    ///
    /// # Errors
    /// [`StoreError::StaleClaim`].
    pub async fn run_turn(
        &self,
        engine: &str,
        run: &RunId,
        turn: &Turn,
        lease: Micros,
        durability: Durability,
    ) -> Result<Turned> {
        let (scope, engine, run, turn) = (self.scope.clone(), engine.to_owned(), run.clone(), turn.clone());
        self.write(durability, move |tx| {
            let AtOnce { started, begun, moved } = at_once(tx, &run, &turn, &engine, lease)?;
            let finished = finish_in(tx, &scope, &run, &turn.finished, started)?;
            close_in(tx, &scope, &run, &turn.closed)?;
            let (claims, locked) = claim_in(tx, &scope, &run, &turn, &engine, lease, begun)?;
            let moved = turn.moved.as_ref().map(|to| move_in(tx, &scope, &run, to, moved)).transpose()?;
            Ok(Turned { finished, claims, locked, moved: moved.flatten() })
        })
        .await
    }

    /// Everything about a run that others may change, in one question. With the last event of an earlier look, only what happened
    /// since: no step changes without an event of it, or of the run.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn run_look(&self, run: &RunId, since: Option<i64>) -> Result<Look> {
        let of = run.clone();
        let (found, expanded, steps) = self
            .read(move |tx| {
                // The last event comes before the steps: what happens meanwhile is seen twice, and not missed.
                let sql = "SELECT state, cancel_requested, kill_requested,
                     COALESCE((SELECT MAX(id) FROM events WHERE run = $1), 0)
                     FROM runs WHERE id = $1";
                let state = Ask::new(sql, params![of.as_str()]);
                // After the steps: one that has succeeded has added what it adds.
                let expanded = Ask::new("SELECT step FROM expansions WHERE run = $1", params![of.as_str()]);
                let Some(since) = since else {
                    let asks = [state, crate::steps::brief(&of), expanded];
                    let [found, steps, expanded] = tx.rows_of(&asks)?;
                    let found = read::<(String, bool, bool, i64)>(found)?.pop();
                    return Ok((found, read(expanded)?, read(steps)?));
                };
                let found: Option<(String, bool, bool, i64)> = tx.row(state.sql, &state.params)?;
                let seen = found.as_ref().map_or(0, |(.., seen)| *seen);
                let steps = if seen <= since {
                    Vec::new()
                } else if is_of_run(tx, &of, since)? {
                    let all = crate::steps::brief(&of);
                    tx.rows(all.sql, &all.params)?
                } else {
                    changed_in(tx, &of, since)?
                };
                let expanded: Vec<String> = tx.rows(expanded.sql, &expanded.params)?;
                Ok((found, expanded, steps))
            })
            .await?;
        let (state, cancel, kill, seen) =
            found.ok_or_else(|| StoreError::NotFound { what: "run", id: run.to_string() })?;
        let state = crate::runs::state(state)?;
        let steps = steps.into_iter().map(crate::steps::record).collect::<Result<_>>()?;
        let expanded = expanded.into_iter().map(StepId::new).collect();
        Ok(Look { state, stop: Stop::of(cancel, kill), seen, expanded, steps })
    }
}
