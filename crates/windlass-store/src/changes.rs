//! Changes of forges: what is known of each, which one server at a time looks after, and the queues of the stacks that they touch.

use crate::db::{Tx, params};
use crate::journal::NewEvent;
use crate::{Durability, Result, Store};
use windlass_model::Micros;
use windlass_model::approval::ApprovalRecord;
use windlass_model::change::plan::{Before, Known};
use windlass_model::change::{Change, ChangeFilter, ChangeState};
use windlass_model::id::{InstanceId, RunId};

/// A change as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeRow {
    pub project: String,
    pub number: u64,
    pub known: Known,
    pub updated_at: Micros,
    /// The look that was begun last has to ask the forge: something happened there, or how the look before ended is not known.
    pub asks: bool,
    /// The change as a list of the forge had it, where that is all that happened: the look does not have to ask for it.
    pub listed: Option<Change>,
}

/// What a look leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Follow {
    /// The run and the review whose state is followed.
    pub run: Option<RunId>,
    pub review: Option<RunId>,
    /// [`looked`] as the look found them.
    pub looked: String,
    /// When to look again although nothing happens.
    pub due: Option<Micros>,
}

/// How a run, a review and its approvals are, as one text that differs when any of it does.
pub fn looked(run: Option<&str>, review: Option<&str>, approvals: usize) -> String {
    format!("{}/{}/{approvals}", run.unwrap_or_default(), review.unwrap_or_default())
}

/// The same, as the record has it.
const LOOKED: &str = "UPDATE changes SET due = $1
     WHERE due IS NULL AND (run IS NOT NULL OR review IS NOT NULL) AND looked <>
         COALESCE((SELECT state FROM runs WHERE runs.id = changes.run), '') || '/' ||
         COALESCE((SELECT state FROM reviews WHERE reviews.run = changes.review), '') || '/' ||
         CAST((SELECT COUNT(*) FROM approvals WHERE approvals.subject = changes.review) AS TEXT)";

type Row = (String, i64, String, i64, bool, Option<String>);

fn row((project, number, document, updated_at, asks, listed): Row) -> Result<ChangeRow> {
    let known = crate::runs::decode("change", &document)?;
    let listed = listed.map(|listed| crate::runs::decode("change", &listed)).transpose()?;
    Ok(ChangeRow { project, number: number.unsigned_abs(), known, updated_at, asks, listed })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Lets every change that has a place in one of these queues, or in one that it shared, be looked at.
fn due_in(tx: &mut Tx<'_>, project: &str, instances: &[String], but: i64) -> Result<()> {
    let now = tx.now()?;
    for instance in instances {
        tx.execute(
            "UPDATE changes SET due = $3 WHERE project = $1 AND number <> $4 AND (due IS NULL OR due > $3) AND number IN
                 (SELECT number FROM change_places WHERE project = $1 AND instance = $2)",
            params![project, instance, now, but],
        )?;
    }
    Ok(())
}

impl Store {
    /// Has a change looked at from `at` on (µs), or now, since something happened at its forge; one that nobody has heard of is taken up.
    /// What is due sooner stays so.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_due(&self, number: u64, at: Option<Micros>) -> Result<()> {
        self.due(number, at, None).await
    }

    /// As [`Store::change_due`], now, of a change that a list of its forge has otherwise than it is known.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_listed(&self, change: &Change) -> Result<()> {
        self.due(change.number, None, Some(crate::runs::encode("change", change)?)).await
    }

    async fn due(&self, number: u64, at: Option<Micros>, listed: Option<String>) -> Result<()> {
        let (project, number) = (self.scope.project.clone(), signed(number));
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let due = at.unwrap_or(now);
            tx.due();
            tx.execute(
                "INSERT INTO changes (project, number, due, touched, updated_at, listed) VALUES ($1, $2, $3, TRUE, $4, $5)
                 ON CONFLICT (project, number) DO UPDATE SET touched = TRUE,
                     listed = CASE WHEN changes.touched THEN NULL ELSE excluded.listed END,
                     due = CASE WHEN changes.due <= excluded.due THEN changes.due ELSE excluded.due END",
                params![&project, number, due, now, listed.as_deref()],
            )
            .map(drop)
        })
        .await
    }

    /// Has the open changes looked at whose branches of the repository itself were pushed to, to other commits than are known; how many.
    /// A branch without a commit was deleted.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_pushed(&self, branches: Vec<(String, Option<String>)>) -> Result<u64> {
        let project = self.scope.project.clone();
        self.write(Durability::Durable, move |tx| {
            let (now, mut found) = (tx.now()?, 0);
            for (branch, commit) in &branches {
                found += tx.execute(
                    "UPDATE changes SET touched = TRUE, listed = NULL, due = CASE WHEN due <= $4 THEN due ELSE $4 END
                     WHERE project = $1 AND branch = $2 AND head <> $3 AND state = 'open'",
                    params![&project, branch, commit.as_deref().unwrap_or_default(), now],
                )?;
            }
            if found > 0 {
                tx.due();
            }
            Ok(found)
        })
        .await
    }

    /// Has those changes looked at whose run or review is not as it was at the last look; how many.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_moved(&self) -> Result<u64> {
        self.write(Durability::Lazy, move |tx| {
            let now = tx.now()?;
            tx.execute(LOOKED, params![now])
        })
        .await
    }

    /// Takes changes of `projects` that are due, or whose last look never ended, for as long as `lease` (µs): those that nobody else
    /// looks at, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_claim(
        &self,
        projects: &[String],
        holder: &str,
        lease: Micros,
        limit: u32,
    ) -> Result<Vec<ChangeRow>> {
        let (projects, holder) = (projects.to_vec(), holder.to_owned());
        let found: Vec<Row> = self
            .write(Durability::Durable, move |tx| {
                let now = tx.now()?;
                let mut found = Vec::new();
                for project in &projects {
                    let due: Vec<i64> = tx.rows(
                        "SELECT number FROM changes WHERE project = $1 AND lease_until <= $2 AND (due <= $2 OR lease_until > 0)
                         ORDER BY COALESCE(due, 0), number LIMIT $3",
                        params![project, now, limit.saturating_sub(found.len() as u32)],
                    )?;
                    for number in due {
                        // What is due from now on is due again.
                        found.extend(tx.row(
                            "UPDATE changes SET holder = $3, lease_until = $4, due = NULL,
                                 asks = (touched OR lease_until > 0), touched = FALSE,
                                 listed = CASE WHEN touched AND lease_until = 0 THEN listed END
                             WHERE project = $1 AND number = $2 AND lease_until <= $5
                             RETURNING project, number, document, updated_at, asks, listed",
                            params![project, number, &holder, now + lease, now],
                        )?);
                    }
                }
                Ok(found)
            })
            .await?;
        found.into_iter().map(row).collect()
    }

    /// Keeps what is known of a change, and extends the lease; `false` when somebody else looks at it by now.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_keep(&self, number: u64, holder: &str, known: &Known, lease: Micros) -> Result<bool> {
        let document = crate::runs::encode("change", known)?;
        let unapplied = known.unapplied;
        let state = known.change.as_ref().map_or(ChangeState::Open, |change| change.state).as_str();
        let side = known.change.as_ref().map(|change| &change.head);
        let head = side.map(|head| head.commit.clone()).unwrap_or_default();
        let branch = side.filter(|head| head.fork.is_none()).map(|head| head.branch.clone());
        let (project, number, holder) = (self.scope.project.clone(), signed(number), holder.to_owned());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let kept = tx.execute(
                "UPDATE changes SET document = $4, state = $5, lease_until = $6, updated_at = $7, unapplied = $8, head = $9, branch = $10
                 WHERE project = $1 AND number = $2 AND holder = $3 AND lease_until > $7",
                params![&project, number, &holder, &document, state, now + lease, now, unapplied, &head, branch.as_deref()],
            )?;
            Ok(kept == 1)
        })
        .await
    }

    /// Extends the lease; `false` when somebody else looks at the change by now.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_hold(&self, number: u64, holder: &str, lease: Micros) -> Result<bool> {
        let (project, number, holder) = (self.scope.project.clone(), signed(number), holder.to_owned());
        self.write(Durability::Lazy, move |tx| {
            let now = tx.now()?;
            let held = tx.execute(
                "UPDATE changes SET lease_until = $4 WHERE project = $1 AND number = $2 AND holder = $3 AND lease_until > $5",
                params![&project, number, &holder, now + lease, now],
            )?;
            Ok(held == 1)
        })
        .await
    }

    /// Lets a change go, with what is followed from now on; `false` when somebody else looks at it by now.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_release(&self, number: u64, holder: &str, follow: &Follow) -> Result<bool> {
        let (project, number) = (self.scope.project.clone(), signed(number));
        let (holder, follow) = (holder.to_owned(), follow.clone());
        self.write(Durability::Durable, move |tx| {
            let Follow { run, review, looked, due } = &follow;
            let left = tx.execute(
                "UPDATE changes SET holder = NULL, lease_until = 0, run = $4, review = $5, looked = $6,
                     due = CASE WHEN due IS NULL THEN CAST($7 AS BIGINT) WHEN $7 < due THEN $7 ELSE due END
                 WHERE project = $1 AND number = $2 AND holder = $3",
                params![
                    &project,
                    number,
                    &holder,
                    run.as_ref().map(RunId::as_str),
                    review.as_ref().map(RunId::as_str),
                    looked,
                    *due
                ],
            )?;
            Ok(left == 1)
        })
        .await
    }

    /// Lets a change go whose look came to nothing: it is due again at `due` (µs).
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn change_put_off(&self, number: u64, holder: &str, due: Micros) -> Result<()> {
        let (project, number, holder) = (self.scope.project.clone(), signed(number), holder.to_owned());
        self.write(Durability::Durable, move |tx| {
            tx.execute(
                "UPDATE changes SET holder = NULL, lease_until = 0, due = $4, touched = TRUE, listed = NULL
                 WHERE project = $1 AND number = $2 AND holder = $3",
                params![&project, number, &holder, due],
            )
            .map(drop)
        })
        .await
    }

    /// One change of the project.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn change_get(&self, number: u64) -> Result<Option<ChangeRow>> {
        let (project, number) = (self.scope.project.clone(), signed(number));
        let found: Option<Row> = self
            .read(move |tx| {
                tx.row(
                    "SELECT project, number, document, updated_at, asks, listed FROM changes WHERE project = $1 AND number = $2",
                    params![&project, number],
                )
            })
            .await?;
        found.map(row).transpose()
    }

    /// Changes of the project (all when `filter` is `None`) with a number below `before`, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn change_list(
        &self,
        filter: Option<ChangeFilter>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ChangeRow>> {
        let (project, before) = (self.scope.project.clone(), before.map_or(i64::MAX, signed));
        let found: Vec<Row> = self
            .read(move |tx| match filter {
                Some(ChangeFilter::Unapplied) => tx.rows(
                    "SELECT project, number, document, updated_at, asks, listed FROM changes
                     WHERE project = $1 AND unapplied AND number < $2 ORDER BY number DESC LIMIT $3",
                    params![&project, before, limit],
                ),
                None | Some(ChangeFilter::In(_)) => tx.rows(
                    "SELECT project, number, document, updated_at, asks, listed FROM changes
                     WHERE project = $1 AND (CAST($2 AS TEXT) IS NULL OR state = $2) AND number < $3
                     ORDER BY number DESC LIMIT $4",
                    params![&project, filter.map(ChangeFilter::as_str), before, limit],
                ),
            })
            .await?;
        found.into_iter().map(row).collect()
    }

    /// Puts a change into the queues of these instances, behind those that are there; places that it has it keeps. Who is before it comes
    /// back.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn place_take(&self, number: u64, instances: &[InstanceId]) -> Result<Vec<Before>> {
        let (project, own) = (self.scope.project.clone(), signed(number));
        let names: Vec<String> = instances.iter().map(ToString::to_string).collect();
        self.write(Durability::Durable, move |tx| {
            // Two that come at once are in one order in all queues.
            tx.serialise("change_places")?;
            let last: Option<i64> = tx.row("SELECT COALESCE(MAX(since), 0) FROM change_places", params![])?;
            // Behind whoever came first, even where its transaction began later.
            let now = tx.now()?.max(last.unwrap_or(0) + 1);
            for name in &names {
                tx.execute(
                    "INSERT INTO change_places (project, instance, number, since) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (project, instance, number) DO NOTHING",
                    params![&project, name, own, now],
                )?;
            }
            Ok(())
        })
        .await?;
        self.place_before(number, instances).await
    }

    /// Who is before a change in the queues of these instances; where it has no place, everybody who has one is.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn place_before(&self, number: u64, instances: &[InstanceId]) -> Result<Vec<Before>> {
        let (project, own) = (self.scope.project.clone(), signed(number));
        let instances = instances.to_vec();
        self.read(move |tx| {
            let mut found = Vec::new();
            for instance in &instances {
                let first: Option<(i64, i64)> = tx.row(
                    "SELECT number, since FROM change_places WHERE project = $1 AND instance = $2
                     ORDER BY since, number LIMIT 1",
                    params![&project, instance.as_str()],
                )?;
                let other = first.filter(|(number, _)| *number != own);
                found.extend(other.map(|(number, since)| Before {
                    instance: instance.clone(),
                    number: number.unsigned_abs(),
                    since,
                }));
            }
            Ok(found)
        })
        .await
    }

    /// The instances in whose queues a change is.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn place_list(&self, number: u64) -> Result<Vec<InstanceId>> {
        let (project, number) = (self.scope.project.clone(), signed(number));
        let found: Vec<String> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT instance FROM change_places WHERE project = $1 AND number = $2 ORDER BY instance",
                    params![&project, number],
                )
            })
            .await?;
        Ok(found.into_iter().map(InstanceId::new).collect())
    }

    /// Gives places back; those who are next are looked at.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn place_give_back(
        &self,
        number: u64,
        instances: &[InstanceId],
        actor: &str,
        why: Option<&str>,
    ) -> Result<()> {
        let (scope, own) = (self.scope.clone(), signed(number));
        let names: Vec<String> = instances.iter().map(ToString::to_string).collect();
        let (actor, why) = (actor.to_owned(), why.map(str::to_owned));
        self.write(Durability::Durable, move |tx| {
            let mut given = Vec::new();
            for name in &names {
                let gone = tx.execute(
                    "DELETE FROM change_places WHERE project = $1 AND instance = $2 AND number = $3",
                    params![&scope.project, name, own],
                )?;
                given.extend((gone == 1).then(|| name.clone()));
            }
            due_in(tx, &scope.project, &given, own)?;
            if given.is_empty() {
                return Ok(());
            }
            let subject = format!("change {own}");
            let data = serde_json::json!({ "stacks": given });
            let event = NewEvent {
                subject: Some(&subject),
                actor: Some(&actor),
                reason: why.as_deref(),
                ..NewEvent::of("change.unlocked", data)
            };
            scope.event(tx, event)
        })
        .await
    }

    /// Takes back every approval that somebody of this name gave to a review or a waiting apply; how many.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn approval_withdraw(&self, subject: &RunId, name: &str, why: &str) -> Result<u64> {
        let (scope, subject) = (self.scope.clone(), subject.clone());
        let (name, why) = (name.to_owned(), why.to_owned());
        self.write(Durability::Durable, move |tx| {
            let found: Vec<(i64, String)> =
                tx.rows("SELECT id, record FROM approvals WHERE subject = $1", params![subject.as_str()])?;
            let mut gone = 0;
            for (id, text) in found {
                let record: ApprovalRecord = crate::runs::decode("approval", &text)?;
                if record.actor.name == name {
                    gone += tx.execute("DELETE FROM approvals WHERE id = $1", params![id])?;
                }
            }
            if gone > 0 {
                tx.execute(
                    "UPDATE reviews SET state = 'open' WHERE run = $1 AND state = 'approved'",
                    params![subject.as_str()],
                )?;
                let event = NewEvent {
                    actor: Some(&name),
                    reason: Some(&why),
                    ..NewEvent::of_run(&subject, "approval.withdrawn", serde_json::Value::Null)
                };
                scope.event(tx, event)?;
            }
            Ok(gone)
        })
        .await
    }
}
