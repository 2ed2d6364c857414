//! What people said to steps that asked them: approvals, answers to questions, ticks.

use crate::db::params;
use crate::journal::NewEvent;
use crate::steps::rouse;
use crate::{Durability, Result, Store, StoreError};
use windlass_model::approval::Actor;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::answers::Answer;
use windlass_model::run::HALTED;

type Row = (String, String, Option<String>, i64);

fn answer((actor, value, reason, at): Row) -> Result<Answer> {
    let actor: Actor = serde_json::from_str(&actor)
        .map_err(|error| StoreError::Decode { what: "actor of an answer", message: error.to_string() })?;
    Ok(Answer { actor, value, reason, at })
}

impl Store {
    /// Records what somebody said to a step, and lets the step look again. `actor` is an [`Actor`] as JSON.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn answer_add(
        &self,
        run: &RunId,
        step: &StepId,
        actor: &str,
        value: &str,
        reason: Option<&str>,
    ) -> Result<()> {
        let (scope, run, step) = (self.scope.clone(), run.clone(), step.clone());
        let (actor, value, reason) = (actor.to_owned(), value.to_owned(), reason.map(str::to_owned));
        let who = serde_json::from_str::<Actor>(&actor).map_or_else(|_| actor.clone(), |actor| actor.to_string());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            tx.execute(
                "INSERT INTO answers (run, step, actor, value, reason, at) VALUES ($1, $2, $3, $4, $5, $6)",
                params![run.as_str(), step.as_str(), &actor, &value, reason.as_deref(), now],
            )?;
            tx.execute(
                "UPDATE steps SET state = 'pending', not_before = NULL
                 WHERE run = $1 AND id = $2 AND state = 'waiting' AND (code IS NULL OR code <> $3)",
                params![run.as_str(), step.as_str(), HALTED],
            )?;
            rouse(tx, &run)?;
            let event = NewEvent::of_step(&run, &step, "step.answered", serde_json::json!({ "value": value }));
            scope.event(tx, NewEvent { actor: Some(&who), reason: reason.as_deref(), ..event })
        })
        .await
    }

    /// What was said to a step, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn answer_list(&self, run: &RunId, step: &StepId) -> Result<Vec<Answer>> {
        let (run, step) = (run.clone(), step.clone());
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT actor, value, reason, at FROM answers WHERE run = $1 AND step = $2 ORDER BY id",
                    params![run.as_str(), step.as_str()],
                )
            })
            .await?;
        found.into_iter().map(answer).collect()
    }
}
