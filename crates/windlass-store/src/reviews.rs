//! Reviews, the approvals given to them, and the plans that were used.

use crate::journal::NewEvent;
use crate::runs::encode;
use crate::{Result, Store, StoreError};
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
}

impl ReviewState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Superseded => "superseded",
        }
    }
    fn parse(text: &str) -> Result<Self> {
        [Self::Open, Self::Approved, Self::Applying, Self::Applied, Self::Superseded]
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

impl Store {
    /// Stores a review as open. Open and approved reviews of the same branch are superseded. Storing it again changes nothing.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn review_put(&self, review: &Review) -> Result<()> {
        let document = encode("review", review)?;
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        let done = sqlx::query("INSERT INTO reviews (run, state, head, head_commit, effect_digest, document, created_at) VALUES ($1, 'open', $2, $3, $4, $5, $6) ON CONFLICT (run) DO NOTHING")
            .bind(review.run.as_str())
            .bind(&review.head.name)
            .bind(&review.head.commit)
            .bind(&review.effect_digest)
            .bind(document)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?
            .rows_affected();
        if done == 1 {
            sqlx::query("UPDATE reviews SET state = 'superseded' WHERE head = $1 AND run <> $2 AND state IN ('open', 'approved')")
                .bind(&review.head.name)
                .bind(review.run.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|e| self.error(e))?;
            let data = serde_json::json!({ "verdict": review.verdict, "effect": review.effect_digest });
            self.event_in(
                &mut tx,
                now,
                NewEvent { run: Some(review.run.as_str()), step: None, kind: "review.created", data, actor: None },
            )
            .await?;
        }
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// # Errors
    /// The database cannot be read.
    pub async fn review_get(&self, run: &RunId) -> Result<Option<ReviewRow>> {
        let row: Option<(String, String)> = sqlx::query_as("SELECT state, document FROM reviews WHERE run = $1")
            .bind(run.as_str())
            .fetch_optional(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        row.map(|(state, document)| {
            let review = serde_json::from_str(&document)
                .map_err(|e| StoreError::Decode { what: "review", message: e.to_string() })?;
            Ok(ReviewRow { review, state: ReviewState::parse(&state)? })
        })
        .transpose()
    }

    /// The newest review.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn review_latest(&self) -> Result<Option<RunId>> {
        let id: Option<String> = sqlx::query_scalar("SELECT run FROM reviews ORDER BY run DESC LIMIT 1")
            .fetch_optional(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        Ok(id.map(RunId::new))
    }

    /// Moves a review from one state to another; `false` when it is not in the first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn review_set_state(&self, run: &RunId, from: ReviewState, to: ReviewState) -> Result<bool> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        let done = sqlx::query("UPDATE reviews SET state = $1 WHERE run = $2 AND state = $3")
            .bind(to.as_str())
            .bind(run.as_str())
            .bind(from.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?
            .rows_affected();
        if done == 1 {
            let kind = format!("review.{}", to.as_str());
            self.event_in(
                &mut tx,
                now,
                NewEvent {
                    run: Some(run.as_str()),
                    step: None,
                    kind: &kind,
                    data: serde_json::Value::Null,
                    actor: None,
                },
            )
            .await?;
        }
        tx.commit().await.map_err(|e| self.error(e))?;
        Ok(done == 1)
    }

    /// Records an approval of a review or of a waiting apply run.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn approval_add(&self, subject: &RunId, record: &ApprovalRecord) -> Result<()> {
        let text = encode("approval", record)?;
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        sqlx::query("INSERT INTO approvals (subject, record, at) VALUES ($1, $2, $3)")
            .bind(subject.as_str())
            .bind(&text)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?;
        let data =
            serde_json::json!({ "effect": record.effect_digest, "commit": record.commit, "reason": record.reason });
        let actor = record.actor.to_string();
        self.event_in(
            &mut tx,
            now,
            NewEvent { run: Some(subject.as_str()), step: None, kind: "approval.given", data, actor: Some(&actor) },
        )
        .await?;
        tx.commit().await.map_err(|e| self.error(e))
    }

    /// Oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn approval_list(&self, subject: &RunId) -> Result<Vec<ApprovalRecord>> {
        let rows: Vec<String> = sqlx::query_scalar("SELECT record FROM approvals WHERE subject = $1 ORDER BY id")
            .bind(subject.as_str())
            .fetch_all(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        rows.iter()
            .map(|text| {
                serde_json::from_str(text).map_err(|e| StoreError::Decode { what: "approval", message: e.to_string() })
            })
            .collect()
    }

    /// Marks a plan file as used; `false` when it was used before.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn plan_mark_used(&self, plan: &str, run: &RunId, step: &StepId) -> Result<bool> {
        let mut tx = self.begin().await?;
        let done = sqlx::query(concat!(
            "INSERT INTO used_plans (plan, run, step, at) VALUES ($1, $2, $3, ",
            now!("$4"),
            ") ON CONFLICT (plan) DO NOTHING"
        ))
        .bind(plan)
        .bind(run.as_str())
        .bind(step.as_str())
        .bind(self.set_time())
        .execute(&mut *tx)
        .await
        .map_err(|e| self.error(e))?
        .rows_affected();
        self.commit(tx).await?;
        Ok(done == 1)
    }
}
