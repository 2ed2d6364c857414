//! Reviews, the approvals given to them, and the plans that were used.

use crate::db::{Tx, params};
use crate::journal::NewEvent;
use crate::runs::{decode, encode};
use crate::{Durability, Result, Scope, Store, StoreError};
use windlass_model::approval::ApprovalRecord;
use windlass_model::id::{RunId, StepId};
use windlass_model::review::Review;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewState {
    Open,
    Approved,
    Applying,
    Applied,
    /// A later review of the same branch took its place.
    Superseded,
    /// Somebody who may approve it said no.
    Refused,
}

impl ReviewState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }
    pub(crate) fn parse(text: &str) -> Result<Self> {
        [Self::Open, Self::Approved, Self::Applying, Self::Applied, Self::Superseded, Self::Refused]
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| StoreError::Decode { what: "review state", message: text.to_owned() })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReviewRow {
    pub review: Review,
    pub state: ReviewState,
}

/// Moves a review from one state to another; `false` when it is not in the first.
pub(crate) fn review_move_in(
    tx: &mut Tx<'_>,
    scope: &Scope,
    run: &RunId,
    from: ReviewState,
    to: ReviewState,
) -> Result<bool> {
    let done = tx.execute(
        "UPDATE reviews SET state = $1 WHERE run = $2 AND state = $3",
        params![to.as_str(), run.as_str(), from.as_str()],
    )?;
    if done == 1 {
        let kind = format!("review.{}", to.as_str());
        scope.event(tx, NewEvent::of_run(run, &kind, serde_json::Value::Null))?;
    }
    Ok(done == 1)
}

/// Marks a plan file as used; `false` when it was used before.
///
/// `marked` is whether this very call did so before, in a transaction that may have happened: then the mark may be its own.
pub(crate) fn use_in(tx: &mut Tx<'_>, plan: &str, run: &RunId, step: &StepId, marked: &mut bool) -> Result<bool> {
    let now = tx.now()?;
    let done = tx.execute(
        "INSERT INTO used_plans (plan, run, step, at) VALUES ($1, $2, $3, $4) ON CONFLICT (plan) DO NOTHING",
        params![plan, run.as_str(), step.as_str(), now],
    )?;
    if done == 0 && *marked {
        let sql = "SELECT COUNT(*) FROM used_plans WHERE plan = $1 AND run = $2 AND step = $3";
        return Ok(tx.row::<i64>(sql, params![plan, run.as_str(), step.as_str()])? == Some(1));
    }
    *marked = done == 1;
    Ok(*marked)
}

impl Store {
    /// Stores a review as open. Open and approved reviews of the same branch are superseded. Storing it again changes nothing.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn review_put(&self, review: &Review) -> Result<()> {
        let document = encode("review", review)?;
        let (scope, run, head) = (self.scope.clone(), review.run.clone(), review.head.clone());
        let (effect, verdict) = (review.effect_digest.clone(), review.verdict);
        self.write_again(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let done = tx.execute(
                "INSERT INTO reviews (run, project, state, head, head_commit, effect_digest, document, created_at)
                 VALUES ($1, $2, 'open', $3, $4, $5, $6, $7) ON CONFLICT (run) DO NOTHING",
                params![run.as_str(), &scope.project, &head.name, &head.commit, &effect, &document, now],
            )?;
            if done == 1 {
                tx.execute(
                    "UPDATE reviews SET state = 'superseded'
                     WHERE project = $1 AND head = $2 AND run <> $3 AND state IN ('open', 'approved')",
                    params![&scope.project, &head.name, run.as_str()],
                )?;
                let data = serde_json::json!({ "verdict": verdict, "effect": effect });
                scope.event(tx, NewEvent::of_run(&run, "review.created", data))?;
            }
            Ok(())
        })
        .await
    }

    /// # Errors
    /// The database cannot be read.
    pub async fn review_get(&self, run: &RunId) -> Result<Option<ReviewRow>> {
        let run = run.clone();
        let found: Option<(String, String)> = self
            .read(move |tx| tx.row("SELECT state, document FROM reviews WHERE run = $1", params![run.as_str()]))
            .await?;
        let row = |(state, document): (String, String)| {
            Ok(ReviewRow { review: decode("review", &document)?, state: ReviewState::parse(&state)? })
        };
        found.map(row).transpose()
    }

    /// The newest review of the project.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn review_latest(&self) -> Result<Option<RunId>> {
        let project = self.scope.project.clone();
        let id: Option<String> = self
            .read(move |tx| {
                tx.row("SELECT run FROM reviews WHERE project = $1 ORDER BY run DESC LIMIT 1", params![&project])
            })
            .await?;
        Ok(id.map(RunId::new))
    }

    /// Reviews of the project in a state (in any when `None`), made before `before`: newest first, with their states.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn review_list(
        &self,
        state: Option<ReviewState>,
        before: Option<&RunId>,
        limit: u32,
    ) -> Result<Vec<(RunId, ReviewState)>> {
        let (project, before) = (self.scope.project.clone(), before.cloned());
        let found: Vec<(String, String)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT run, state FROM reviews WHERE project = $1 AND (CAST($2 AS TEXT) IS NULL OR state = $2)
                     AND (CAST($3 AS TEXT) IS NULL OR run < $3) ORDER BY run DESC LIMIT $4",
                    params![&project, state.map(ReviewState::as_str), before.as_ref().map(RunId::as_str), limit],
                )
            })
            .await?;
        found.into_iter().map(|(run, state)| Ok((RunId::new(run), ReviewState::parse(&state)?))).collect()
    }

    /// Moves a review from one state to another; `false` when it is not in the first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn review_set_state(&self, run: &RunId, from: ReviewState, to: ReviewState) -> Result<bool> {
        let (scope, run) = (self.scope.clone(), run.clone());
        self.write(Durability::Durable, move |tx| review_move_in(tx, &scope, &run, from, to)).await
    }

    /// Refuses a review that is open or approved; `false` when it is something else.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn review_refuse(&self, run: &RunId, actor: &str, reason: &str) -> Result<bool> {
        let (scope, run) = (self.scope.clone(), run.clone());
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        self.write(Durability::Durable, move |tx| {
            let done = tx.execute(
                "UPDATE reviews SET state = 'refused' WHERE run = $1 AND state IN ('open', 'approved')",
                params![run.as_str()],
            )?;
            if done == 1 {
                let event = NewEvent {
                    actor: Some(&actor),
                    reason: Some(&reason),
                    ..NewEvent::of_run(&run, "review.refused", serde_json::Value::Null)
                };
                scope.event(tx, event)?;
            }
            Ok(done == 1)
        })
        .await
    }

    /// Records an approval of a review or of a waiting apply run.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn approval_add(&self, subject: &RunId, record: &ApprovalRecord) -> Result<()> {
        let text = encode("approval", record)?;
        let (scope, subject, record) = (self.scope.clone(), subject.clone(), record.clone());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            tx.execute(
                "INSERT INTO approvals (subject, record, at) VALUES ($1, $2, $3)",
                params![subject.as_str(), &text, now],
            )?;
            let data =
                serde_json::json!({ "effect": record.effect_digest, "commit": record.commit, "reason": record.reason });
            let actor = record.actor.to_string();
            let event = NewEvent {
                actor: Some(&actor),
                reason: record.reason.as_deref(),
                ..NewEvent::of_run(&subject, "approval.given", data)
            };
            scope.event(tx, event)
        })
        .await
    }

    /// Oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn approval_list(&self, subject: &RunId) -> Result<Vec<ApprovalRecord>> {
        let subject = subject.clone();
        let found: Vec<String> = self
            .read(move |tx| {
                tx.rows("SELECT record FROM approvals WHERE subject = $1 ORDER BY id", params![subject.as_str()])
            })
            .await?;
        found.iter().map(|text| decode("approval", text)).collect()
    }

    /// Marks a plan file as used; `false` when it was used before.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn plan_mark_used(&self, plan: &str, run: &RunId, step: &StepId) -> Result<bool> {
        let (plan, run, step) = (plan.to_owned(), run.clone(), step.clone());
        let mut marked = false;
        self.write_again(Durability::Durable, move |tx| use_in(tx, &plan, &run, &step, &mut marked)).await
    }
}
