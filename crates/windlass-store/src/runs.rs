//! Runs.

use crate::journal::NewEvent;
use crate::{Result, Store, StoreError};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use windlass_model::id::RunId;
use windlass_model::run::{RunPlan, RunRecord, RunState};

/// Which runs are listed.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub kind: Option<String>,
    /// Only those that have not ended.
    pub active: bool,
}

const COLUMNS: &str = "SELECT id, plan, state, cancel_requested, actor, created_at, ended_at, reason FROM runs";

fn decode<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Decode { what, message: error.to_string() })
}

pub(crate) fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Decode { what, message: error.to_string() })
}

fn record(row: &SqliteRow) -> Result<RunRecord> {
    let state: String = row.get("state");
    Ok(RunRecord {
        id: RunId::new(row.get::<String, _>("id")),
        plan: decode("run plan", row.get("plan"))?,
        state: RunState::parse(&state).ok_or(StoreError::Decode { what: "run state", message: state })?,
        cancel_requested: row.get("cancel_requested"),
        actor: row.get("actor"),
        created_at: row.get("created_at"),
        ended_at: row.get("ended_at"),
        reason: row.get("reason"),
    })
}

impl Store {
    /// Stores a run with all its steps.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn run_create(&self, plan: &RunPlan, actor: &str) -> Result<RunId> {
        let id = RunId::new(ulid::Ulid::generate().to_string().to_lowercase());
        let text = encode("run plan", plan)?;
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        sqlx::query(
            "INSERT INTO runs (id, kind, plan, state, actor, created_at) VALUES ($1, $2, $3, 'queued', $4, $5)",
        )
        .bind(id.as_str())
        .bind(&plan.kind)
        .bind(&text)
        .bind(actor)
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(|e| self.error(e))?;
        for (position, step) in plan.steps.iter().enumerate() {
            sqlx::query("INSERT INTO steps (run, id, position, state) VALUES ($1, $2, $3, 'pending')")
                .bind(id.as_str())
                .bind(step.id.as_str())
                .bind(position as i64)
                .execute(&mut *tx)
                .await
                .map_err(|e| self.error(e))?;
        }
        let data = serde_json::json!({ "kind": plan.kind, "title": plan.title, "steps": plan.steps.len() });
        self.event_in(
            &mut tx,
            now,
            NewEvent { run: Some(id.as_str()), step: None, kind: "run.created", data, actor: Some(actor) },
        )
        .await?;
        tx.commit().await.map_err(|e| self.error(e))?;
        Ok(id)
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn run_get(&self, id: &RunId) -> Result<RunRecord> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE id = $1")))
            .bind(id.as_str())
            .fetch_optional(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        record(&row.ok_or_else(|| StoreError::NotFound { what: "run", id: id.to_string() })?)
    }

    /// Newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_list(&self, filter: &RunFilter, limit: u32) -> Result<Vec<RunRecord>> {
        let text = format!(
            "{COLUMNS} WHERE ($1 IS NULL OR kind = $1) AND ($2 = FALSE OR ended_at IS NULL) ORDER BY id DESC LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(&filter.kind)
            .bind(filter.active)
            .bind(limit)
            .fetch_all(&self.reader)
            .await
            .map_err(|e| self.error(e))?;
        rows.iter().map(record).collect()
    }

    /// Runs that have not ended.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_active(&self) -> Result<Vec<RunRecord>> {
        self.run_list(&RunFilter { kind: None, active: true }, 10_000).await
    }

    /// Whether a cancel was asked for; cheap enough to ask often.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_cancel_requested(&self, id: &RunId) -> Result<bool> {
        sqlx::query_scalar("SELECT cancel_requested FROM runs WHERE id = $1")
            .bind(id.as_str())
            .fetch_one(&self.reader)
            .await
            .map_err(|e| self.error(e))
    }

    /// Moves a run from one state to another; `false` when it is not in the first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn run_set_state(&self, id: &RunId, from: RunState, to: RunState, reason: Option<&str>) -> Result<bool> {
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        let done = sqlx::query("UPDATE runs SET state = $1, reason = $2, ended_at = $3 WHERE id = $4 AND state = $5")
            .bind(to.as_str())
            .bind(reason)
            .bind(to.is_final().then_some(now))
            .bind(id.as_str())
            .bind(from.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?
            .rows_affected();
        if done == 1 {
            let kind = format!("run.{}", to.as_str());
            let data = serde_json::json!({ "reason": reason });
            self.event_in(
                &mut tx,
                now,
                NewEvent { run: Some(id.as_str()), step: None, kind: &kind, data, actor: None },
            )
            .await?;
        }
        tx.commit().await.map_err(|e| self.error(e))?;
        Ok(done == 1)
    }

    /// Asks for a run to be cancelled; `false` when it has ended.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or the database cannot be written.
    pub async fn run_cancel(&self, id: &RunId, actor: &str, reason: Option<&str>) -> Result<bool> {
        self.run_get(id).await?;
        let mut tx = self.begin().await?;
        let now = self.now_in(&mut tx).await?;
        let done = sqlx::query("UPDATE runs SET cancel_requested = TRUE WHERE id = $1 AND ended_at IS NULL")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .map_err(|e| self.error(e))?
            .rows_affected();
        if done == 1 {
            let data = serde_json::json!({ "reason": reason });
            self.event_in(
                &mut tx,
                now,
                NewEvent { run: Some(id.as_str()), step: None, kind: "run.cancel_requested", data, actor: Some(actor) },
            )
            .await?;
        }
        tx.commit().await.map_err(|e| self.error(e))?;
        Ok(done == 1)
    }
}
