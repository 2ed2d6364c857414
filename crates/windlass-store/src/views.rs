//! What lists and overviews of the service read: only what they show, however much there is.

use crate::db::params;
use crate::{Result, ReviewState, RunSummary, Store, StoreError};
use ulid::Ulid;
use windlass_model::Micros;
use windlass_model::id::{RunId, StackId, StepId};
use windlass_model::run::{RunState, StepState};

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

/// Runs by a query; those that have not ended have an index of their own.
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
const RUN_FIND_ACTIVE: &str = run_find!("ended_at IS NULL AND ");

impl Store {
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
                    if query.active { RUN_FIND_ACTIVE } else { RUN_FIND },
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

    /// How long the log of each step of a run is, bytes; of those that have one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn log_sizes(&self, run: &RunId) -> Result<Vec<(StepId, u64)>> {
        let run = run.clone();
        let found: Vec<(String, i64)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT step, CAST(MAX(next) AS BIGINT) FROM (
                         SELECT step, start + LENGTH(bytes) AS next FROM logs WHERE run = $1
                         UNION ALL SELECT step, next FROM log_blocks WHERE run = $1
                     ) AS parts GROUP BY step",
                    params![run.as_str()],
                )
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
