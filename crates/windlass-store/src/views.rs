//! What lists and overviews of the service read: only what they show, however much there is.

use crate::db::{FromRow, Row, params};
use crate::runs::{decode, encode};
use crate::{Result, ReviewState, RunSummary, Store, StoreError};
use ulid::Ulid;
use windlass_model::Micros;
use windlass_model::id::{RunId, StackId, StepId};
use windlass_model::run::{RunState, StepRecord, StepSpec, StepState};

/// An apply of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedRow {
    /// e.g. `apply:aws/network[tokyo]`.
    pub step: StepId,
    pub run: RunId,
    pub state: StepState,
    pub started_at: Micros,
    pub ended_at: Option<Micros>,
    /// Who started the run.
    pub actor: String,
}

/// Which runs are looked for: those that have all that is given.
#[derive(Debug, Clone, Default)]
pub struct RunQuery {
    /// A part of the title or of the actor, or the beginning of the id; letters of either case.
    pub text: String,
    pub kind: Option<String>,
    pub state: Option<RunState>,
    /// Only those that have not ended.
    pub active: bool,
    /// Only applies of this stack.
    pub stack: Option<StackId>,
    /// What they are runs of: the name of an operation.
    pub subject: Option<String>,
    /// Only those that were made before this one.
    pub before: Option<RunId>,
    /// Only those that were made since then, µs.
    pub since: Option<Micros>,
}

/// Which reviews are looked for: those that have all that is given.
#[derive(Debug, Clone, Default)]
pub struct ReviewQuery {
    /// A part of the branch, or the beginning of the commit; letters of either case.
    pub text: String,
    /// Any of these; all when there is none.
    pub states: Vec<ReviewState>,
    pub before: Option<RunId>,
}

/// A review without its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewBrief {
    pub run: RunId,
    pub state: ReviewState,
    pub created_at: Micros,
}

type Applied = (String, String, String, i64, Option<i64>, String);

fn applied((step, run, state, started_at, ended_at, actor): Applied) -> Result<AppliedRow> {
    let state = StepState::parse(&state).ok_or(StoreError::Decode { what: "step state", message: state })?;
    Ok(AppliedRow { step: StepId::new(step), run: RunId::new(run), state, started_at, ended_at, actor })
}

/// What `LIKE` finds texts with that begin with `text`, or have it anywhere, in lower case.
fn like(text: &str, anywhere: bool) -> String {
    let beginning = like_exact(&text.to_lowercase());
    if anywhere { format!("%{beginning}") } else { beginning }
}

/// What `LIKE` finds texts with that begin with `text`; `!` stands before what has a meaning of its own.
fn like_exact(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '!') {
            out.push('!');
        }
        out.push(letter);
    }
    out.push('%');
    out
}

/// Runs by a query; those that have not ended have an index of their own, and so have those in a state.
macro_rules! run_find {
    ($active:literal) => {
        concat!(
            "SELECT id, project, kind, title, state, cancel_requested, actor, created_at, ended_at, reason FROM runs
             WHERE ",
            $active,
            "project = $1 AND (CAST($2 AS TEXT) IS NULL OR kind = $2) AND (CAST($3 AS TEXT) IS NULL OR state = $3)
             AND id >= $4 AND (CAST($5 AS TEXT) IS NULL OR id < $5)
             AND (CAST($6 AS TEXT) IS NULL OR LOWER(title) LIKE $6 ESCAPE '!' OR LOWER(actor) LIKE $6 ESCAPE '!'
                  OR id LIKE $7 ESCAPE '!')
             AND (CAST($8 AS TEXT) IS NULL OR id IN (
                 SELECT run FROM steps WHERE id LIKE 'apply:%' AND (id = $8 OR id LIKE $9 ESCAPE '!')
             ))
             AND (CAST($11 AS TEXT) IS NULL OR subject = $11)
             ORDER BY id DESC LIMIT $10"
        )
    };
}
const RUN_FIND: &str = run_find!("");
const RUN_FIND_STATE: &str = run_find!("state = $3 AND ");
const RUN_FIND_ACTIVE: &str = run_find!("ended_at IS NULL AND ");

/// Lengths of the logs of the steps `chosen`, each by its last piece.
macro_rules! log_sizes {
    () => {
        " SELECT id, next FROM (
              SELECT id, COALESCE(
                  (SELECT start + LENGTH(bytes) FROM logs WHERE run = $1 AND step = id ORDER BY start DESC LIMIT 1),
                  (SELECT next FROM log_blocks WHERE run = $1 AND step = id ORDER BY start DESC LIMIT 1)
              ) AS next FROM chosen
          ) AS sizes WHERE next IS NOT NULL"
    };
}

/// Whose steps are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StepsOf {
    /// All of the run.
    #[default]
    All,
    /// Those that the run was made with.
    Plan,
    /// Those that this step has added.
    Step(StepId),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepOrder {
    /// That of the plan.
    #[default]
    Plan,
    /// What failed or is unknown, then what is under way or waits, then the rest; each in order of the plan.
    Trouble,
}

/// Which steps of a run are looked for: those that have all that is given.
#[derive(Debug, Clone, Default)]
pub struct StepQuery {
    pub of: StepsOf,
    pub state: Option<StepState>,
    /// A part of the id; letters of either case.
    pub text: String,
    /// Without what takes back and handles ends, as long as that has not begun.
    pub begun: bool,
    /// Only those behind this [place](StepRow::position).
    pub after: Option<i64>,
    pub order: StepOrder,
    /// How many of them are passed over.
    pub skip: u32,
}

/// A step in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRow {
    /// Without its output.
    pub record: StepRecord,
    /// Where it stands in its run: grows along the plan.
    pub position: i64,
    pub added_by: Option<StepId>,
    /// What the plan says of it, where it was added; otherwise that is in the plan that the run was made with.
    pub spec: Option<StepSpec>,
}

impl FromRow for StepRow {
    fn from_row(row: &mut Row) -> Result<Self> {
        let (id, state): (String, String) = (row.take()?, row.take()?);
        Ok(Self {
            record: StepRecord {
                id: StepId::new(id),
                state: StepState::parse(&state).ok_or(StoreError::Decode { what: "step state", message: state })?,
                attempt: row.take::<i64>()? as u32,
                epoch: row.take()?,
                not_before: row.take()?,
                started_at: row.take()?,
                ended_at: row.take()?,
                output: None,
                reason: row.take()?,
                code: row.take()?,
            },
            position: row.take()?,
            added_by: row.take::<Option<String>>()?.map(StepId::new),
            spec: row.take::<Option<String>>()?.map(|text| decode("step", &text)).transpose()?,
        })
    }
}

/// How many steps of a run are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTally {
    pub added_by: Option<StepId>,
    /// They are of the main phase.
    pub main: bool,
    pub state: StepState,
    pub count: usize,
}

/// Ids as JSON, for a statement that is given as many as there are.
fn ids(ids: &[StepId]) -> Result<String> {
    encode("step ids", &ids)
}

/// Steps by a query, in an order.
macro_rules! step_find {
    ($order:literal) => {
        concat!(
            "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, reason, code, position, added_by, spec
             FROM steps WHERE run = $1
             AND (CAST($2 AS TEXT) IS NULL OR COALESCE(added_by, '') = $2)
             AND (CAST($3 AS TEXT) IS NULL OR state = $3)
             AND (CAST($4 AS TEXT) IS NULL OR LOWER(id) LIKE $4 ESCAPE '!')
             AND (NOT CAST($5 AS BOOLEAN) OR phase = 'main' OR state NOT IN ('pending', 'skipped'))
             AND (CAST($6 AS BIGINT) IS NULL OR position > $6)
             ORDER BY ",
            $order,
            "position LIMIT $7 OFFSET $8"
        )
    };
}
const STEP_FIND: &str = step_find!("");
const STEP_FIND_TROUBLE: &str = step_find!(
    "CASE WHEN state IN ('failed', 'unknown') THEN 0 WHEN state IN ('running', 'waiting') THEN 1 ELSE 2 END, "
);

impl Store {
    /// Steps of a run by a query. However many the run has, they are found by an index of its order and nothing is read of the rest
    /// but what the query asks for.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_find(&self, run: &RunId, query: &StepQuery, limit: u32) -> Result<Vec<StepRow>> {
        let (run, query) = (run.clone(), query.clone());
        self.read(move |tx| {
            let of = match &query.of {
                StepsOf::All => None,
                StepsOf::Plan => Some(""),
                StepsOf::Step(step) => Some(step.as_str()),
            };
            let text = (!query.text.is_empty()).then(|| like(&query.text, true));
            let sql = match query.order {
                StepOrder::Plan => STEP_FIND,
                StepOrder::Trouble => STEP_FIND_TROUBLE,
            };
            let state = query.state.map(StepState::as_str);
            tx.rows(sql, params![run.as_str(), of, state, text.as_ref(), query.begun, query.after, limit, query.skip])
        })
        .await
    }

    /// How many steps of a run are in which state, by what has added them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_tally(&self, run: &RunId) -> Result<Vec<StepTally>> {
        let run = run.clone();
        let found: Vec<(Option<String>, String, String, i64)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT added_by, phase, state, COUNT(*) FROM steps WHERE run = $1 GROUP BY added_by, phase, state
                     ORDER BY MIN(position)",
                    params![run.as_str()],
                )
            })
            .await?;
        let tally = |(added_by, phase, state, count): (Option<String>, String, String, i64)| {
            Ok(StepTally {
                added_by: added_by.map(StepId::new),
                main: phase == "main",
                state: StepState::parse(&state).ok_or(StoreError::Decode { what: "step state", message: state })?,
                count: usize::try_from(count).unwrap_or_default(),
            })
        };
        found.into_iter().map(tally).collect()
    }

    /// Some steps of a run, in order of the plan; those that it has not are left out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn step_some(&self, run: &RunId, some: &[StepId]) -> Result<Vec<StepRow>> {
        let (run, some) = (run.clone(), ids(some)?);
        self.read(move |tx| {
            tx.rows(
                tx.pick(
                    "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, reason, code, position, added_by, spec
                     FROM steps WHERE run = $1 AND id IN (SELECT value FROM json_each($2)) ORDER BY position",
                    "SELECT id, state, attempt, epoch, not_before, started_at, ended_at, reason, code, position, added_by, spec
                     FROM steps WHERE run = $1 AND id IN (SELECT json_array_elements_text(CAST($2 AS json))) ORDER BY position",
                ),
                params![run.as_str(), &some],
            )
        })
        .await
    }

    /// The last apply of each instance of the project that was ever begun. However many applies there were, an instance costs two
    /// looks into an index.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn applied_last(&self) -> Result<Vec<AppliedRow>> {
        let project = self.scope.project.clone();
        let found: Vec<Applied> = self
            .read(move |tx| {
                tx.rows(
                    "WITH RECURSIVE names (id) AS (
                         SELECT MIN(id) FROM steps WHERE id LIKE 'apply:%'
                         UNION ALL
                         SELECT (SELECT MIN(steps.id) FROM steps WHERE steps.id LIKE 'apply:%' AND steps.id > names.id)
                         FROM names WHERE names.id IS NOT NULL
                     ), last AS (
                         SELECT names.id AS step, (
                             SELECT steps.run FROM steps JOIN runs ON runs.id = steps.run
                             WHERE steps.id LIKE 'apply:%' AND steps.id = names.id AND steps.started_at IS NOT NULL
                             AND runs.project = $1 ORDER BY steps.run DESC LIMIT 1
                         ) AS run FROM names WHERE names.id IS NOT NULL
                     )
                     SELECT steps.id, steps.run, steps.state, steps.started_at, steps.ended_at, runs.actor
                     FROM last JOIN steps ON steps.run = last.run AND steps.id = last.step JOIN runs ON runs.id = last.run",
                    params![&project],
                )
            })
            .await?;
        found.into_iter().map(applied).collect()
    }

    /// Applies of one instance that were begun, newest first, and how many there are in all.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn applied_of(&self, step: &StepId, limit: u32) -> Result<(Vec<AppliedRow>, usize)> {
        let (project, step) = (self.scope.project.clone(), step.clone());
        let (found, total): (Vec<Applied>, Option<i64>) = self
            .read(move |tx| {
                let found = tx.rows(
                    "SELECT steps.id, steps.run, steps.state, steps.started_at, steps.ended_at, runs.actor
                     FROM steps JOIN runs ON runs.id = steps.run
                     WHERE steps.id LIKE 'apply:%' AND steps.id = $1 AND steps.started_at IS NOT NULL AND runs.project = $2
                     ORDER BY steps.run DESC LIMIT $3",
                    params![step.as_str(), &project, limit],
                )?;
                let total = tx.row(
                    "SELECT COUNT(*) FROM steps JOIN runs ON runs.id = steps.run
                     WHERE steps.id LIKE 'apply:%' AND steps.id = $1 AND steps.started_at IS NOT NULL AND runs.project = $2",
                    params![step.as_str(), &project],
                )?;
                Ok((found, total))
            })
            .await?;
        let total = usize::try_from(total.unwrap_or_default()).unwrap_or_default();
        Ok((found.into_iter().map(applied).collect::<Result<_>>()?, total))
    }

    /// Runs of the project, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_find(&self, query: &RunQuery, limit: u32) -> Result<Vec<RunSummary>> {
        type Row = (String, String, String, String, String, bool, String, i64, Option<i64>, Option<String>);
        let (query, project) = (query.clone(), self.scope.project.clone());
        let found: Vec<Row> = self
            .read(move |tx| {
                let text = (!query.text.is_empty()).then(|| (like(&query.text, true), like(&query.text, false)));
                let (part, beginning) = text.as_ref().map(|(part, beginning)| (part, beginning)).unzip();
                let steps = query.stack.as_ref().map(|stack| (format!("apply:{stack}"), format!("apply:{stack}[")));
                let steps = steps.map(|(only, keyed)| (only, like_exact(&keyed)));
                let (only, keyed) = steps.as_ref().map(|(only, keyed)| (only, keyed)).unzip();
                // Ids begin with the time, in milliseconds.
                let since = query.since.map(|at| Ulid::from_parts(u64::try_from(at / 1000).unwrap_or(0), 0));
                let since = since.map(|id| id.to_string().to_lowercase());
                tx.rows(
                    match query.state {
                        _ if query.active => RUN_FIND_ACTIVE,
                        Some(_) => RUN_FIND_STATE,
                        None => RUN_FIND,
                    },
                    params![
                        &project,
                        query.kind.as_deref(),
                        query.state.map(RunState::as_str),
                        since.as_deref().unwrap_or_default(),
                        query.before.as_ref().map(RunId::as_str),
                        part,
                        beginning,
                        only,
                        keyed,
                        limit,
                        query.subject.as_deref(),
                    ],
                )
            })
            .await?;
        let summary =
            |(id, project, kind, title, state, cancel_requested, actor, created_at, ended_at, reason): Row| {
                let state = RunState::parse(&state).ok_or(StoreError::Decode { what: "run state", message: state })?;
                let id = RunId::new(id);
                Ok(RunSummary {
                    id,
                    project,
                    kind,
                    title,
                    state,
                    cancel_requested,
                    actor,
                    created_at,
                    ended_at,
                    reason,
                })
            };
        found.into_iter().map(summary).collect()
    }

    /// Reviews of the project, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn review_find(&self, query: &ReviewQuery, limit: u32) -> Result<Vec<ReviewBrief>> {
        let (query, project) = (query.clone(), self.scope.project.clone());
        let found: Vec<(String, String, i64)> = self
            .read(move |tx| {
                let text = (!query.text.is_empty()).then(|| (like(&query.text, true), like(&query.text, false)));
                let (part, beginning) = text.as_ref().map(|(part, beginning)| (part, beginning)).unzip();
                // Between commas, since the number of places of a statement is fixed.
                let states: String = query.states.iter().map(|state| format!("{},", state.as_str())).collect();
                let states = (!states.is_empty()).then(|| format!(",{states}"));
                tx.rows(
                    "SELECT run, state, created_at FROM reviews WHERE project = $1
                     AND (CAST($2 AS TEXT) IS NULL OR $2 LIKE '%,' || state || ',%') AND (CAST($3 AS TEXT) IS NULL OR run < $3)
                     AND (CAST($4 AS TEXT) IS NULL OR LOWER(head) LIKE $4 ESCAPE '!' OR head_commit LIKE $5 ESCAPE '!')
                     ORDER BY run DESC LIMIT $6",
                    params![
                        &project,
                        states.as_ref(),
                        query.before.as_ref().map(RunId::as_str),
                        part,
                        beginning,
                        limit,
                    ],
                )
            })
            .await?;
        let brief = |(run, state, created_at): (String, String, i64)| {
            Ok(ReviewBrief { run: RunId::new(run), state: ReviewState::parse(&state)?, created_at })
        };
        found.into_iter().map(brief).collect()
    }

    /// The last apply of a review, of the first five hundred applies of the project after it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn apply_of(&self, review: &RunId) -> Result<Option<RunId>> {
        let (project, review) = (self.scope.project.clone(), review.clone());
        let found: Option<String> = self
            .read(move |tx| {
                let input = format!("%\"review\":\"{review}\"%");
                tx.row(
                    "SELECT id FROM (SELECT id, plan FROM runs WHERE project = $1 AND kind = 'apply' AND id > $2
                     ORDER BY id LIMIT 500) AS later WHERE plan LIKE $3 ORDER BY id DESC LIMIT 1",
                    params![&project, review.as_str(), &input],
                )
            })
            .await?;
        Ok(found.map(RunId::new))
    }

    /// How long the log of each step of a run is, bytes, or of some of them; of those that have one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn log_sizes(&self, run: &RunId, only: Option<&[StepId]>) -> Result<Vec<(StepId, u64)>> {
        let (run, only) = (run.clone(), only.map(ids).transpose()?);
        let found: Vec<(String, i64)> = self
            .read(move |tx| match &only {
                None => tx.rows(
                    "SELECT step, CAST(MAX(next) AS BIGINT) FROM (
                         SELECT step, start + LENGTH(bytes) AS next FROM logs WHERE run = $1
                         UNION ALL SELECT step, next FROM log_blocks WHERE run = $1
                     ) AS parts GROUP BY step",
                    params![run.as_str()],
                ),
                Some(only) => tx.rows(
                    tx.pick(
                        concat!("WITH chosen AS (SELECT value AS id FROM json_each($2))", log_sizes!()),
                        concat!(
                            "WITH chosen AS (SELECT json_array_elements_text(CAST($2 AS json)) AS id)",
                            log_sizes!()
                        ),
                    ),
                    params![run.as_str(), only],
                ),
            })
            .await?;
        Ok(found.into_iter().map(|(step, bytes)| (StepId::new(step), bytes.unsigned_abs())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_typed_is_a_pattern() {
        let check = |text: &str, anywhere: bool, want: &str| assert_eq!(like(text, anywhere), want);
        check("Net", true, "%net%");
        check("01k", false, "01k%");
        check("100%_!", true, "%100!%!_!!%");
        assert_eq!(like_exact("apply:A_b["), "apply:A!_b[%");
    }
}
