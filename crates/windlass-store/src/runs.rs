//! Runs.

use crate::admissions::join_in;
use crate::db::{Ask, Tx, params, read};
use crate::journal::NewEvent;
use crate::reviews::{ReviewState, review_move_in};
use crate::turns::{GAP, Look, Move, move_in, phase};
use crate::{Durability, Result, Scope, Store, StoreError};
use serde::Serialize;
use std::collections::BTreeMap;
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Expansion, RunPlan, RunRecord, RunState, StepRecord, StepSpec, StepState, Stop};

/// Which runs are listed: those that have all that is given.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub kind: Option<String>,
    /// Only those that have not ended.
    pub active: bool,
    pub state: Option<RunState>,
    pub actor: Option<String>,
    /// Of what: the name of an operation.
    pub subject: Option<String>,
    /// Only those that were made before this one.
    pub before: Option<RunId>,
}

/// A run without its plan: what a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    pub id: RunId,
    pub project: String,
    pub kind: String,
    pub title: String,
    pub state: RunState,
    pub cancel_requested: bool,
    pub actor: String,
    pub created_at: Micros,
    pub ended_at: Option<Micros>,
    pub reason: Option<String>,
}

pub(crate) fn decode<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Decode { what, message: error.to_string() })
}

pub(crate) fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Decode { what, message: error.to_string() })
}

pub(crate) fn state(text: String) -> Result<RunState> {
    RunState::parse(&text).ok_or(StoreError::Decode { what: "run state", message: text })
}

/// What is stored together with a run.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// How its steps are at first, where it goes on from where another one ended.
    pub first: Vec<StepRecord>,
    /// Where it takes its place at once.
    pub queue: Option<Queue>,
    /// What its actor did with it.
    pub fact: Option<Fact>,
}

/// A queue that does not let everybody wait.
#[derive(Debug, Clone)]
pub struct Queue {
    pub name: String,
    /// How many runs may be in it that have not ended.
    pub limit: u32,
    /// Why those that are in the way are cancelled; `None`: it is not joined when it is full.
    pub takes_place: Option<String>,
}

/// A fact, as an event tells it.
#[derive(Debug, Clone)]
pub struct Fact {
    pub kind: String,
    pub subject: String,
    pub data: serde_json::Value,
    /// What the actor said.
    pub reason: Option<String>,
}

/// Asks for the end of a run; `false` when it has ended.
pub(crate) fn stop_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: &RunId,
    actor: &str,
    reason: Option<&str>,
    kill: bool,
) -> Result<bool> {
    let done = tx.execute(
        "UPDATE runs SET cancel_requested = TRUE, kill_requested = kill_requested OR CAST($2 AS BOOLEAN)
         WHERE id = $1 AND ended_at IS NULL",
        params![run.as_str(), kill],
    )?;
    if done == 1 {
        let kind = if kill { "run.kill_requested" } else { "run.cancel_requested" };
        let event = NewEvent::of_run(run, kind, serde_json::json!({ "reason": reason }));
        scope.event(tx, NewEvent { actor: Some(actor), reason, ..event })?;
    }
    Ok(done == 1)
}

/// Runs by a filter; those that have not ended have an index of their own, and so have those of a project in a state.
macro_rules! run_search {
    ($of:literal) => {
        concat!(
            "SELECT id, project, kind, title, state, cancel_requested, actor, created_at, ended_at, reason FROM runs WHERE ",
            $of,
            "(CAST($1 AS TEXT) IS NULL OR project = $1)
             AND (CAST($2 AS TEXT) IS NULL OR kind = $2) AND (CAST($3 AS TEXT) IS NULL OR state = $3)
             AND (CAST($4 AS TEXT) IS NULL OR actor = $4) AND (CAST($5 AS TEXT) IS NULL OR id < $5)
             AND (CAST($7 AS TEXT) IS NULL OR subject = $7)
             ORDER BY id DESC LIMIT $6"
        )
    };
}

type Row = (String, String, String, String, bool, bool, String, i64, Option<i64>, Option<String>);

fn record(
    (id, project, plan, state, cancel_requested, kill_requested, actor, created_at, ended_at, reason): Row,
) -> Result<RunRecord> {
    Ok(RunRecord {
        id: RunId::new(id),
        project,
        plan: decode("run plan", &plan)?,
        state: self::state(state)?,
        cancel_requested,
        kill_requested,
        actor,
        created_at,
        ended_at,
        reason,
    })
}

fn planned(run: &RunId) -> Ask<'_> {
    Ask::new(
        "SELECT id, project, plan, state, cancel_requested, kill_requested, actor, created_at, ended_at, reason
         FROM runs WHERE id = $1",
        params![run.as_str()],
    )
}

/// What the steps of a run have added to its plan, each with its step.
fn documents(run: &RunId) -> Ask<'_> {
    Ask::new("SELECT step, document FROM expansions WHERE run = $1", params![run.as_str()])
}

/// What the steps of a run have added to its plan.
struct Grown {
    documents: Vec<(String, String)>,
    /// By whom each step was added, and what it is.
    steps: Vec<(String, String)>,
}

/// `documents` is what came of [`documents`].
fn grown_in(tx: &mut Tx<'_>, run: &RunId, documents: Vec<crate::db::Row>) -> Result<Grown> {
    let mut grown = Grown { documents: read(documents)?, steps: Vec::new() };
    if !grown.documents.is_empty() {
        let sql = "SELECT added_by, spec FROM steps WHERE run = $1 AND spec IS NOT NULL ORDER BY position";
        grown.steps = tx.rows(sql, params![run.as_str()])?;
    }
    Ok(grown)
}

impl Grown {
    /// The run with the plan as it has grown.
    fn show(self, mut run: RunRecord) -> Result<RunRecord> {
        let expansion = |(step, text): (String, String)| Ok((StepId::new(step), decode("expansion", &text)?));
        let mut expansions: BTreeMap<StepId, Expansion> =
            self.documents.into_iter().map(expansion).collect::<Result<_>>()?;
        for (by, spec) in self.steps {
            if let Some(expansion) = expansions.get_mut(by.as_str()) {
                expansion.steps.push(decode("step", &spec)?);
            }
        }
        run.plan = run.plan.expanded(&expansions);
        Ok(run)
    }
}

fn unknown(run: &RunId) -> StoreError {
    StoreError::NotFound { what: "run", id: run.to_string() }
}

impl Store {
    /// An id that no run has.
    pub fn run_id() -> RunId {
        RunId::new(ulid::Ulid::generate().to_string().to_lowercase())
    }

    /// Stores a run with all its steps; one of [`Store::creating`] that is there already stays as it is.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn run_create(&self, plan: &RunPlan, actor: &str) -> Result<RunId> {
        self.create(plan, actor, Beside::default(), None).await
    }

    /// As [`Store::run_create`], with what belongs to it, all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: its queue is taken and lets nobody wait; the database cannot be written.
    pub async fn run_create_with(&self, plan: &RunPlan, actor: &str, beside: Beside) -> Result<RunId> {
        self.create(plan, actor, beside, None).await
    }

    /// Stores a run that applies a review, which is taken for it in the same transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: the review is not `from` any more; the database cannot be written.
    pub async fn run_create_of(&self, plan: &RunPlan, actor: &str, review: &RunId, from: ReviewState) -> Result<RunId> {
        self.create(plan, actor, Beside::default(), Some((review.clone(), from))).await
    }

    async fn create(
        &self,
        plan: &RunPlan,
        actor: &str,
        beside: Beside,
        of: Option<(RunId, ReviewState)>,
    ) -> Result<RunId> {
        let Beside { mut first, queue, fact } = beside;
        first.retain(|step| step.state != StepState::Pending);
        let id = self.scope.run.clone().unwrap_or_else(Self::run_id);
        let text = encode("run plan", plan)?;
        let (scope, run, actor) = (self.scope.clone(), id.clone(), actor.to_owned());
        let (kind, title, subject, timeout) =
            (plan.kind.clone(), plan.title.clone(), plan.subject.clone(), plan.timeout);
        let row = |spec: &StepSpec| (spec.id.clone(), phase(&spec.flow.phase), spec.flow.added_by.clone());
        let (steps, rows) = (plan.steps.len(), encode("steps", &plan.steps.iter().map(row).collect::<Vec<_>>())?);
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let of_run = Ask::new(
                "INSERT INTO runs (id, project, kind, title, plan, state, actor, created_at, subject, deadline)
                 VALUES ($1, $2, $3, $4, $5, 'queued', $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING RETURNING id",
                params![
                    run.as_str(),
                    &scope.project,
                    &kind,
                    &title,
                    &text,
                    &actor,
                    now,
                    subject.as_deref(),
                    timeout.map(|timeout| now.saturating_add(timeout)),
                ],
            );
            // A run that was there has its steps.
            let of_steps = Ask::new(
                tx.pick(
                    "INSERT INTO steps (run, id, position, state, phase, added_by)
                     SELECT $1, json_extract(value, '$[0]'), key * $3, 'pending', json_extract(value, '$[1]'),
                         json_extract(value, '$[2]')
                     FROM json_each($2) WHERE NOT EXISTS (SELECT 1 FROM steps WHERE run = $1)",
                    "INSERT INTO steps (run, id, position, state, phase, added_by)
                     SELECT $1, value->>0, (ordinality - 1) * CAST($3 AS BIGINT), 'pending', value->>1, value->>2
                     FROM json_array_elements(CAST($2 AS json)) WITH ORDINALITY
                     WHERE NOT EXISTS (SELECT 1 FROM steps WHERE run = $1)",
                ),
                params![run.as_str(), &rows, GAP],
            );
            let [created, _] = tx.rows_of(&[of_run, of_steps])?;
            if created.is_empty() {
                return Ok(());
            }
            if let Some((review, from)) = &of
                && !review_move_in(tx, &scope, review, *from, ReviewState::Applying)?
            {
                return Err(StoreError::Conflict(format!("review {review} was taken by another process just now")));
            }
            for step in &first {
                let output = step.output.as_ref().map(ToString::to_string);
                tx.execute(
                    "UPDATE steps SET state = $3, attempt = $4, started_at = $5, ended_at = $6, output = $7, reason = $8,
                         code = $9
                     WHERE run = $1 AND id = $2",
                    params![
                        run.as_str(),
                        step.id.as_str(),
                        step.state.as_str(),
                        step.attempt,
                        step.started_at,
                        step.ended_at,
                        output.as_deref(),
                        step.reason.as_deref(),
                        step.code.as_deref(),
                    ],
                )?;
            }
            if let Some(queue) = &queue {
                join_in(tx, &scope, queue, &run, &actor)?;
            }
            if let Some(Fact { kind, subject, data, reason }) = &fact {
                let told = NewEvent::of_run(&run, kind, data.clone());
                let told = NewEvent { subject: Some(subject), actor: Some(&actor), reason: reason.as_deref(), ..told };
                scope.event(tx, told)?;
            }
            let data = serde_json::json!({ "kind": kind, "title": title, "steps": steps });
            scope.event(tx, NewEvent { actor: Some(&actor), ..NewEvent::of_run(&run, "run.created", data) })
        })
        .await?;
        Ok(id)
    }

    /// A run with its plan, and with all that its steps have added to that.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn run_get(&self, id: &RunId) -> Result<RunRecord> {
        let run = id.clone();
        let (found, grown) = self
            .read(move |tx| {
                let [found, documents] = tx.rows_of(&[planned(&run), documents(&run)])?;
                Ok((read::<Row>(found)?.pop(), grown_in(tx, &run, documents)?))
            })
            .await?;
        grown.show(record(found.ok_or_else(|| unknown(id))?)?)
    }

    /// A run as [`Store::run_get`] gives it, with the first look at it, in one question.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn run_open(&self, id: &RunId) -> Result<(RunRecord, Look)> {
        let run = id.clone();
        let (found, seen, steps, grown) = self
            .read(move |tx| {
                // The last event comes before the steps, and what they added after them: what happens meanwhile is seen twice, and not missed.
                let seen = Ask::new("SELECT COALESCE(MAX(id), 0) FROM events WHERE run = $1", params![run.as_str()]);
                let [seen, found, steps, documents] =
                    tx.rows_of(&[seen, planned(&run), crate::steps::brief(&run), documents(&run)])?;
                let (seen, found) = (read::<i64>(seen)?.pop(), read::<Row>(found)?.pop());
                Ok((found, seen, read(steps)?, grown_in(tx, &run, documents)?))
            })
            .await?;
        let steps: Vec<crate::steps::Row> = steps;
        let found = record(found.ok_or_else(|| unknown(id))?)?;
        let look = Look {
            state: found.state,
            stop: found.stop(),
            seen: seen.unwrap_or_default(),
            expanded: grown.documents.iter().map(|(step, _)| StepId::new(step.as_str())).collect(),
            steps: steps.into_iter().map(crate::steps::record).collect::<Result<_>>()?,
        };
        Ok((grown.show(found)?, look))
    }

    /// A run with the plan that it was made with: however much its steps have added to that, nothing of it is read.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn run_planned(&self, id: &RunId) -> Result<RunRecord> {
        let run = id.clone();
        let found = self.read(move |tx| tx.row(planned(&run).sql, &planned(&run).params)).await?;
        record(found.ok_or_else(|| StoreError::NotFound { what: "run", id: id.to_string() })?)
    }

    /// Runs of the project (of all where the handle has none), newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_list(&self, filter: &RunFilter, limit: u32) -> Result<Vec<RunRecord>> {
        let mut records = Vec::new();
        for summary in self.run_search(filter, limit).await? {
            records.push(self.run_get(&summary.id).await?);
        }
        Ok(records)
    }

    /// As [`Store::run_list`], without the plans.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_search(&self, filter: &RunFilter, limit: u32) -> Result<Vec<RunSummary>> {
        type Row = (String, String, String, String, String, bool, String, i64, Option<i64>, Option<String>);
        let (filter, project) = (filter.clone(), self.scope.project.clone());
        let found: Vec<Row> = self
            .read(move |tx| {
                let project = Some(project.as_str()).filter(|project| !project.is_empty());
                let before = filter.before.as_ref().map(RunId::as_str);
                let state = filter.state.map(RunState::as_str);
                let sql = match (filter.active, project, state) {
                    (true, ..) => run_search!("ended_at IS NULL AND "),
                    (false, Some(_), Some(_)) => run_search!("project = $1 AND state = $3 AND "),
                    _ => run_search!(""),
                };
                let (kind, actor, subject) =
                    (filter.kind.as_deref(), filter.actor.as_deref(), filter.subject.as_deref());
                tx.rows(sql, params![project, kind, state, actor, before, limit, subject])
            })
            .await?;
        let summary =
            |(id, project, kind, title, state, cancel_requested, actor, created_at, ended_at, reason): Row| {
                Ok(RunSummary {
                    id: RunId::new(id),
                    project,
                    kind,
                    title,
                    state: self::state(state)?,
                    cancel_requested,
                    actor,
                    created_at,
                    ended_at,
                    reason,
                })
            };
        found.into_iter().map(summary).collect()
    }

    /// Runs of the project (of all where the handle has none) that have not ended.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_active(&self) -> Result<Vec<RunRecord>> {
        self.run_list(&RunFilter { active: true, ..RunFilter::default() }, 10_000).await
    }

    /// Runs of all projects in which something is to be done now: they have begun and do not wait, or wait for a lock or a time
    /// that has come, or a cancel was asked for. Oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_ready(&self, limit: u32) -> Result<Vec<RunId>> {
        let found: Vec<String> = self
            .read(move |tx| {
                let now = tx.now()?;
                tx.rows(
                    // A run that waits for a person is not looked at one by one: only what has a time is, by its index.
                    "SELECT id FROM runs WHERE ended_at IS NULL AND (
                         cancel_requested OR deadline <= $1 OR state IN ('queued', 'running')
                         OR id IN (SELECT run FROM steps WHERE state = 'waiting' AND not_before <= $1)
                         OR id IN (SELECT run FROM steps WHERE state = 'pending' AND not_before <= $1)
                         OR id IN (SELECT run FROM locks)
                     ) ORDER BY id LIMIT $2",
                    params![now, limit],
                )
            })
            .await?;
        Ok(found.into_iter().map(RunId::new).collect())
    }

    /// Runs of all projects that have not ended, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_unended(&self) -> Result<Vec<RunId>> {
        let found: Vec<String> =
            self.read(|tx| tx.rows("SELECT id FROM runs WHERE ended_at IS NULL ORDER BY id", params![])).await?;
        Ok(found.into_iter().map(RunId::new).collect())
    }

    /// How many runs are in each state, by project; of those that ended, the ones since `since` (µs).
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_count(&self, since: Micros) -> Result<Vec<(String, String, RunState, i64)>> {
        let found: Vec<(String, String, String, i64)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT project, kind, state, COUNT(*) FROM runs WHERE ended_at IS NULL OR ended_at >= $1
                     GROUP BY project, kind, state ORDER BY project, kind, state",
                    params![since],
                )
            })
            .await?;
        found.into_iter().map(|(project, kind, state, count)| Ok((project, kind, self::state(state)?, count))).collect()
    }

    /// Whether a cancel was asked for; cheap enough to ask often.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_cancel_requested(&self, id: &RunId) -> Result<bool> {
        Ok(self.run_stop_requested(id).await? > Stop::No)
    }

    /// What was asked for; cheap enough to ask often.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_stop_requested(&self, id: &RunId) -> Result<Stop> {
        let run = id.clone();
        let found: Option<(bool, bool)> = self
            .read(move |tx| {
                tx.row("SELECT cancel_requested, kill_requested FROM runs WHERE id = $1", params![run.as_str()])
            })
            .await?;
        let (cancel, kill) = found.ok_or_else(|| StoreError::NotFound { what: "run", id: id.to_string() })?;
        Ok(Stop::of(cancel, kill))
    }

    /// Moves a run from one state to another; `false` when it is not in the first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn run_set_state(&self, id: &RunId, from: RunState, to: RunState, reason: Option<&str>) -> Result<bool> {
        let (scope, run) = (self.scope.clone(), id.clone());
        let moved = Move { from, to, reason: reason.map(str::to_owned) };
        // What goes on in a run follows from its steps and is found again; that it has ended was told to somebody.
        let durability = if to.is_final() { Durability::Durable } else { Durability::Lazy };
        self.write(durability, move |tx| Ok(move_in(tx, &scope, &run, &moved, None)?.is_some())).await
    }

    /// Asks for a run to be cancelled; `false` when it has ended.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the database cannot be written.
    pub async fn run_cancel(&self, id: &RunId, actor: &str, reason: Option<&str>) -> Result<bool> {
        self.stop(id, actor, reason, false).await
    }

    /// Asks for a run to end at once, with nothing taken back; `false` when it has ended.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the database cannot be written.
    pub async fn run_kill(&self, id: &RunId, actor: &str, reason: Option<&str>) -> Result<bool> {
        self.stop(id, actor, reason, true).await
    }

    async fn stop(&self, id: &RunId, actor: &str, reason: Option<&str>, kill: bool) -> Result<bool> {
        self.run_cancel_requested(id).await?;
        let (scope, run) = (self.scope.clone(), id.clone());
        let (actor, reason) = (actor.to_owned(), reason.map(str::to_owned));
        self.write(Durability::Durable, move |tx| stop_in(tx, &scope, &run, &actor, reason.as_deref(), kill)).await
    }
}
