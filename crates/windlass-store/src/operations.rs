//! What becomes of the queues of a run that ends, and how long runs of an operation took.

use crate::db::{Ask, Tx, params};
use crate::journal::NewEvent;
use crate::steps::rouse;
use crate::{Result, Scope, Store};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::plan::ADMIT;
use windlass_model::run::HALTED;

/// A run that has ended leaves its queues: their projects and names.
pub(crate) fn leaving(run: &RunId) -> Ask<'_> {
    Ask::new(
        "DELETE FROM admissions WHERE run = $1
         AND EXISTS (SELECT 1 FROM runs WHERE runs.id = $1 AND ended_at IS NOT NULL) RETURNING project, name",
        params![run.as_str()],
    )
}

/// Who is next in the queues that a run has left looks again.
pub(crate) fn left(tx: &mut Tx<'_>, scope: &Scope, queues: Vec<(String, String)>) -> Result<()> {
    for (project, name) in queues {
        let next: Option<String> = tx.row(
            "SELECT steps.run FROM admissions
             JOIN steps ON steps.run = admissions.run AND steps.id = $3 AND steps.state = 'waiting'
                 AND (steps.code IS NULL OR steps.code <> $4)
             WHERE admissions.project = $1 AND admissions.name = $2 ORDER BY admissions.position LIMIT 1",
            params![&project, &name, ADMIT, HALTED],
        )?;
        if let Some(next) = next {
            wake(tx, scope, &RunId::new(next), &StepId::new(ADMIT))?;
        }
    }
    Ok(())
}

/// Lets one step look again; one that is held back because its run was halted stays so.
fn wake(tx: &mut Tx<'_>, scope: &Scope, run: &RunId, step: &StepId) -> Result<()> {
    let woken = tx.execute(
        "UPDATE steps SET state = 'pending', not_before = NULL
         WHERE run = $1 AND id = $2 AND state = 'waiting' AND (code IS NULL OR code <> $3)",
        params![run.as_str(), step.as_str(), HALTED],
    )?;
    if woken == 0 {
        return Ok(());
    }
    rouse(tx, run)?;
    scope.event(tx, NewEvent::of_step(run, step, "step.woken", serde_json::Value::Null))
}

impl Store {
    /// How long the last successful runs of a subject of the project took from their beginning, newest first, µs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn run_durations(&self, subject: &str, limit: u32) -> Result<Vec<Micros>> {
        let (project, subject) = (self.scope.project.clone(), subject.to_owned());
        self.read(move |tx| {
            tx.rows(
                "SELECT ended_at - created_at FROM runs
                 WHERE project = $1 AND subject = $2 AND state = 'succeeded' AND ended_at IS NOT NULL
                 ORDER BY id DESC LIMIT $3",
                params![&project, &subject, limit],
            )
        })
        .await
    }
}
