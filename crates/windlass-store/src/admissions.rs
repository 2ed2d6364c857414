//! Queues of runs: of those of a project that stand in one and have not ended, the oldest are admitted.

use crate::db::{Tx, params};
use crate::runs::{Queue, stop_in};
use crate::{Durability, Result, Scope, Store, StoreError};
use windlass_model::id::RunId;

/// Those that have not ended, oldest first.
fn queue_in(tx: &mut Tx<'_>, project: &str, name: &str) -> Result<Vec<RunId>> {
    let found: Vec<(String,)> = tx.rows(
        "SELECT admissions.run FROM admissions JOIN runs ON runs.id = admissions.run
         WHERE admissions.project = $1 AND admissions.name = $2 AND runs.ended_at IS NULL
         ORDER BY admissions.position",
        params![project, name],
    )?;
    Ok(found.into_iter().map(|(run,)| RunId::new(run)).collect())
}

/// Puts a run at the end of a queue, where it is not in it yet. From then on until the end of the transaction nobody else does.
fn add_in(tx: &mut Tx<'_>, project: &str, name: &str, run: &RunId) -> Result<()> {
    let now = tx.now()?;
    // Positions are in the order in which they can be seen.
    tx.serialise(&format!("{project}/{name}/admissions"))?;
    tx.execute(
        "INSERT INTO admissions (project, name, run, at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (project, name, run) DO NOTHING",
        params![project, name, run.as_str(), now],
    )?;
    Ok(())
}

/// Puts a new run into its queue: what is in the way is cancelled, or it is refused.
pub(crate) fn join_in(tx: &mut Tx<'_>, scope: &Scope, queue: &Queue, run: &RunId, actor: &str) -> Result<()> {
    let Queue { name, limit, takes_place } = queue;
    add_in(tx, &scope.project, name, run)?;
    let mut before = queue_in(tx, &scope.project, name)?;
    before.retain(|other| other != run);
    if before.len() < usize::try_from(*limit).unwrap_or(usize::MAX) {
        return Ok(());
    }
    let Some(reason) = takes_place else {
        let runs = before.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(StoreError::Conflict(format!("`{name}` is taken: run {runs} has not ended")));
    };
    for other in &before {
        stop_in(tx, scope, other, actor, Some(reason), false)?;
    }
    Ok(())
}

impl Store {
    /// Puts a run into a queue, where it is not in it yet; the runs before it that are in its way when so many may run at once.
    /// It is admitted when there are none.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn admission_take(&self, name: &str, run: &RunId, limit: u32) -> Result<Vec<RunId>> {
        let (project, name, run) = (self.scope.project.clone(), name.to_owned(), run.clone());
        self.write(Durability::Durable, move |tx| {
            add_in(tx, &project, &name, &run)?;
            let mut before: Vec<RunId> = queue_in(tx, &project, &name)?;
            before.truncate(before.iter().position(|other| *other == run).unwrap_or(before.len()));
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            Ok(if before.len() < limit { Vec::new() } else { before })
        })
        .await
    }

    /// The runs in a queue of this project that have not ended, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn admission_list(&self, name: &str) -> Result<Vec<RunId>> {
        let (project, name) = (self.scope.project.clone(), name.to_owned());
        self.read(move |tx| queue_in(tx, &project, &name)).await
    }
}
