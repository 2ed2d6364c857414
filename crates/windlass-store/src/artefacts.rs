//! Artefacts: what steps leave that is too large or too secret for the record. The record knows what there is of them and where;
//! what is in them is kept in the database, or wherever [`Contents`] are, under a digest that also says what each is of.

use crate::db::{Param, Tx, params};
use crate::{Durability, Result, Store, StoreError};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use windlass_model::Micros;
use windlass_model::id::RunId;

/// Where artefacts are when they are in the database.
pub(crate) const DATABASE: &str = "the database";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtefactKind {
    /// A plan file.
    Plan,
    /// The state of an instance from before an apply.
    State,
    /// A state that an apply could not write.
    Errored,
    /// What policies were asked with.
    Input,
    /// A part of the log of a step.
    Log,
    /// A file that a step of an operation left.
    File,
}

impl ArtefactKind {
    pub const ALL: [Self; 6] = [Self::Plan, Self::State, Self::Errored, Self::Input, Self::Log, Self::File];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::State => "state",
            Self::Errored => "errored",
            Self::Input => "input",
            Self::Log => "log",
            Self::File => "file",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What an artefact is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewArtefact {
    pub kind: ArtefactKind,
    pub run: RunId,
    /// The instance, the step, the name, or the step and the path.
    pub subject: String,
    /// The attempt of a plan, a file or a state that could not be written, the first byte of a part of a log; 0 otherwise.
    pub number: i64,
}

impl fmt::Display for NewArtefact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, run, subject, number } = self;
        match kind {
            ArtefactKind::Plan => write!(f, "plan of {subject} in run {run} (attempt {number})"),
            ArtefactKind::State => write!(f, "state of {subject} from before run {run}"),
            ArtefactKind::Errored => {
                write!(f, "state of {subject} that run {run} could not write (attempt {number})")
            }
            ArtefactKind::Input => write!(f, "policy input {subject} of run {run}"),
            ArtefactKind::File => write!(f, "file {subject} of run {run} (attempt {number})"),
            ArtefactKind::Log => write!(f, "log of step {subject} of run {run} from byte {number} on"),
        }
    }
}

impl NewArtefact {
    /// The name of an artefact: of what it is and what is in it, so that neither can be another. 64 hexadecimal digits.
    pub fn id(&self, content: &[u8]) -> String {
        let mut digest = Sha256::new();
        for part in [self.kind.as_str(), self.run.as_str(), &self.subject, &self.number.to_string()] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(content);
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// An artefact that is kept, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artefact {
    pub id: String,
    pub project: String,
    #[serde(flatten)]
    pub of: NewArtefact,
    /// Bytes.
    pub size: i64,
    /// Where it is, for people.
    pub place: String,
    /// Why it is not there any more.
    pub note: Option<String>,
    pub at: Micros,
}

impl Artefact {
    /// What it is called among other contents. The kind is one of ours and the id a digest: nothing in it is of anybody else.
    fn name(&self) -> String {
        format!("{}/{}", self.of.kind.as_str(), self.id)
    }
}

/// Why contents could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// Nobody knows what is there.
    #[error("{0}")]
    Unreachable(String),
    /// Something else is there.
    #[error("{0}")]
    Changed(String),
}

/// Where artefacts are kept outside of the database. Names are `KIND/ID`; a name never gets another content.
#[async_trait::async_trait]
pub trait Contents: Send + Sync {
    /// For people; never a password. What is there under this name is there for all that name it.
    fn place(&self) -> &str;
    /// Whether logs of runs that have ended go there too.
    fn takes_logs(&self) -> bool;
    /// Keeps a content; one that is there is overwritten by the same.
    async fn put(&self, name: &str, content: Vec<u8>) -> std::result::Result<(), ContentsError>;
    /// `None` when there is none.
    async fn get(&self, name: &str) -> std::result::Result<Option<Vec<u8>>, ContentsError>;
    /// No error when there is none.
    async fn remove(&self, name: &str) -> std::result::Result<(), ContentsError>;
}

impl fmt::Debug for dyn Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("place", &self.place()).finish()
    }
}

/// What nobody needs any more, and is to be removed from where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// Whoever put it there did not come to the end of it.
    Unfinished { before: Micros },
    /// It is as old as that.
    Older { kind: ArtefactKind, before: Micros },
}

type Row = (String, String, String, String, String, i64, i64, String, Option<String>, i64);

fn artefact((id, project, kind, run, subject, number, size, place, note, at): Row) -> Result<Artefact> {
    let kind = ArtefactKind::parse(&kind).ok_or(StoreError::Decode { what: "kind of artefact", message: kind })?;
    let of = NewArtefact { kind, run: RunId::new(run), subject, number };
    Ok(Artefact { id, project, of, size, place, note, at })
}

/// Marks artefacts as being removed in a transaction that removes what refers to them; [`Store::artefact_drop`] does the rest.
pub(crate) fn leave_in(tx: &mut Tx<'_>, id: &str, note: Option<&str>) -> Result<()> {
    tx.execute("UPDATE artefacts SET state = 'removing', note = $2 WHERE id = $1", params![id, note]).map(drop)
}

/// An artefact that was put where it belongs counts from now on.
pub(crate) fn keep_in(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    tx.execute("UPDATE artefacts SET state = 'kept' WHERE id = $1 AND state = 'writing'", params![id]).map(drop)
}

impl Store {
    /// Says where artefacts are kept from now on; without it, or said twice, they are where they were kept before.
    pub fn keep_artefacts(&self, contents: Arc<dyn Contents>) {
        // Whoever opens a store says it once.
        let _ = self.inner.contents.set(contents);
    }

    /// Where artefacts are kept, for people.
    pub fn artefact_place(&self) -> &str {
        self.inner.contents.get().map_or(DATABASE, |contents| contents.place())
    }

    pub(crate) fn contents(&self) -> Option<Arc<dyn Contents>> {
        self.inner.contents.get().cloned()
    }

    /// Keeps an artefact of this project; its id.
    ///
    /// # Errors
    /// It cannot be written where artefacts are kept.
    pub async fn artefact_put(&self, of: &NewArtefact, content: Vec<u8>) -> Result<String> {
        let id = self.artefact_write(of, content).await?;
        if self.contents().is_some() {
            let kept = id.clone();
            self.write(Durability::Durable, move |tx| keep_in(tx, &kept)).await?;
        }
        Ok(id)
    }

    /// Writes an artefact that does not count yet, unless it is in the database: [`keep_in`] makes it count.
    pub(crate) async fn artefact_write(&self, of: &NewArtefact, content: Vec<u8>) -> Result<String> {
        let (id, kind, of) = (of.id(&content), of.kind, of.clone());
        let contents = self.contents();
        let (project, place) = (self.scope.project.clone(), self.artefact_place().to_owned());
        let (state, inside) = if contents.is_some() { ("writing", None) } else { ("kept", Some(content.clone())) };
        let (new, size) = (id.clone(), i64::try_from(content.len()).unwrap_or(i64::MAX));
        // It is on record before it is anywhere, so that nothing is left somewhere that nobody knows of.
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            tx.execute(
                "INSERT INTO artefacts (id, project, kind, run, subject, number, size, place, state, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                 ON CONFLICT (id) DO UPDATE SET place = excluded.place, state = excluded.state, note = NULL, at = excluded.at
                 WHERE artefacts.state <> 'kept'",
                &[
                    Param::from(&new),
                    Param::from(&project),
                    Param::from(of.kind.as_str()),
                    Param::from(of.run.as_str()),
                    Param::from(&of.subject),
                    Param::from(of.number),
                    Param::from(size),
                    Param::from(&place),
                    Param::from(state),
                    Param::from(now),
                ],
            )?;
            if let Some(bytes) = &inside {
                tx.execute(
                    "INSERT INTO artefact_contents (id, bytes) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
                    params![&new, bytes],
                )?;
            }
            Ok(())
        })
        .await?;
        if let Some(contents) = contents {
            let name = format!("{}/{id}", kind.as_str());
            contents.put(&name, content).await.map_err(|error| failed(&*contents, &error))?;
        }
        Ok(id)
    }

    /// An artefact by its id, also one that was removed.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn artefact_get(&self, id: &str) -> Result<Option<Artefact>> {
        let id = id.to_owned();
        let found: Option<Row> = self
            .read(move |tx| {
                tx.row(
                    "SELECT id, project, kind, run, subject, number, size, place, note, at FROM artefacts
                     WHERE id = $1 AND state <> 'writing'",
                    params![&id],
                )
            })
            .await?;
        found.map(artefact).transpose()
    }

    /// Artefacts of this project, also those that were removed by age; oldest first: ids of runs grow with time.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn artefact_list(
        &self,
        kind: ArtefactKind,
        run: Option<&RunId>,
        subject: Option<&str>,
    ) -> Result<Vec<Artefact>> {
        let (project, run, subject) = (self.scope.project.clone(), run.cloned(), subject.map(str::to_owned));
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT id, project, kind, run, subject, number, size, place, note, at FROM artefacts
                     WHERE project = $1 AND kind = $2 AND state <> 'writing'
                     AND (CAST($3 AS TEXT) IS NULL OR run = $3) AND (CAST($4 AS TEXT) IS NULL OR subject = $4)
                     ORDER BY run, subject, number, at",
                    params![&project, kind.as_str(), run.as_ref().map(RunId::as_str), subject.as_deref()],
                )
            })
            .await?;
        found.into_iter().map(artefact).collect()
    }

    /// Artefacts of a run, also those that were removed by age, by their subjects and numbers: from the one after the id `after` on, at
    /// most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn artefact_page(
        &self,
        kind: ArtefactKind,
        run: &RunId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Artefact>> {
        let (run, after) = (run.clone(), after.map(str::to_owned));
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT id, project, kind, run, subject, number, size, place, note, at FROM artefacts
                     WHERE run = $1 AND kind = $2 AND state <> 'writing' AND (CAST($3 AS TEXT) IS NULL
                         OR (subject, number, id) > (SELECT subject, number, id FROM artefacts WHERE id = $3))
                     ORDER BY subject, number, id LIMIT $4",
                    params![run.as_str(), kind.as_str(), after.as_deref(), i64::from(limit)],
                )
            })
            .await?;
        found.into_iter().map(artefact).collect()
    }

    /// The artefact of a run that has this id or this subject, also one that was removed by age; the one with the largest number
    /// where several have the subject.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn artefact_find(&self, kind: ArtefactKind, run: &RunId, name: &str) -> Result<Option<Artefact>> {
        let (run, name) = (run.clone(), name.to_owned());
        let found: Option<Row> = self
            .read(move |tx| {
                tx.row(
                    "SELECT id, project, kind, run, subject, number, size, place, note, at FROM artefacts
                     WHERE run = $1 AND kind = $2 AND state <> 'writing' AND (id = $3 OR subject = $3)
                     ORDER BY number DESC, at DESC, id LIMIT 1",
                    params![run.as_str(), kind.as_str(), &name],
                )
            })
            .await?;
        found.map(artefact).transpose()
    }

    /// What is in an artefact, exactly as it was kept.
    ///
    /// # Errors
    /// [`StoreError::ArtefactGone`], [`StoreError::ArtefactChanged`], [`StoreError::Contents`].
    pub async fn artefact_read(&self, id: &str) -> Result<Vec<u8>> {
        let gone = |what: String, why: String| StoreError::ArtefactGone { what, why };
        let Some(found) = self.artefact_get(id).await? else {
            return Err(gone(format!("artefact {id}"), "nothing of that name is on record".into()));
        };
        let what = found.of.to_string();
        if let Some(note) = found.note {
            return Err(gone(what, note));
        }
        let content = if found.place == DATABASE {
            let id = id.to_owned();
            let content: Option<(Vec<u8>,)> =
                self.read(move |tx| tx.row("SELECT bytes FROM artefact_contents WHERE id = $1", params![&id])).await?;
            content.map(|(bytes,)| bytes)
        } else {
            match self.contents() {
                None => None,
                Some(contents) => contents.get(&found.name()).await.map_err(|error| match error {
                    ContentsError::Changed(why) => {
                        StoreError::ArtefactChanged { what: what.clone(), place: contents.place().to_owned(), why }
                    }
                    error => failed(&*contents, &error),
                })?,
            }
        };
        let Some(content) = content else {
            let here = self.artefact_place();
            let why = if here == found.place {
                format!("{} has nothing of the name {}", found.place, found.name())
            } else {
                format!("it was kept in {}, and artefacts are in {here} now", found.place)
            };
            return Err(gone(what, why));
        };
        if found.of.id(&content) != id {
            return Err(StoreError::ArtefactChanged { what, place: found.place, why: "its digest is another".into() });
        }
        Ok(content)
    }

    /// Removes an artefact. A note stays in its place; without one, nothing does. What is not kept here stays for those who have it.
    ///
    /// # Errors
    /// It cannot be removed from where it is; the next [`Store::artefact_unread`] finds it.
    pub async fn artefact_remove(&self, artefact: &Artefact, note: Option<&str>) -> Result<()> {
        if artefact.place != DATABASE && artefact.place != self.artefact_place() {
            return Ok(());
        }
        let (id, kept) = (artefact.id.clone(), note.map(str::to_owned));
        self.write(Durability::Lazy, move |tx| leave_in(tx, &id, kept.as_deref())).await?;
        self.artefact_drop(artefact).await
    }

    /// Removes what somebody did not come to the end of.
    ///
    /// # Errors
    /// As of [`Store::artefact_remove`].
    pub async fn artefact_abandon(&self, artefact: &Artefact) -> Result<()> {
        let id = artefact.id.clone();
        let sql = "UPDATE artefacts SET state = 'removing' WHERE id = $1 AND state <> 'kept'";
        let is_left = self.write(Durability::Lazy, move |tx| tx.execute(sql, params![&id])).await? > 0;
        if is_left { self.artefact_drop(artefact).await } else { Ok(()) }
    }

    /// Removes what is in an artefact that [`leave_in`] marked.
    pub(crate) async fn artefact_drop(&self, artefact: &Artefact) -> Result<()> {
        if artefact.place != DATABASE
            && let Some(contents) = self.contents()
        {
            contents.remove(&artefact.name()).await.map_err(|error| failed(&*contents, &error))?;
        }
        let id = artefact.id.clone();
        self.write(Durability::Lazy, move |tx| {
            tx.execute("DELETE FROM artefact_contents WHERE id = $1", params![&id])?;
            tx.execute("DELETE FROM artefacts WHERE id = $1 AND state = 'removing' AND note IS NULL", params![&id])?;
            tx.execute("UPDATE artefacts SET state = 'removed' WHERE id = $1 AND state = 'removing'", params![&id])
        })
        .await
        .map(drop)
    }

    /// Artefacts of all projects that are to be removed from where this process keeps them; at most 500.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn artefact_unread(&self, which: Unread) -> Result<Vec<Artefact>> {
        let place = self.artefact_place().to_owned();
        let found: Vec<Row> = self
            .read(move |tx| match which {
                Unread::Unfinished { before } => tx.rows(
                    "SELECT id, project, kind, run, subject, number, size, place, note, at FROM artefacts
                     WHERE state IN ('writing', 'removing') AND at < $1 AND place IN ($2, $3) LIMIT 500",
                    params![before, &place, DATABASE],
                ),
                Unread::Older { kind, before } => tx.rows(
                    "SELECT id, project, kind, run, subject, number, size, place, note, at FROM artefacts
                     WHERE kind = $1 AND state = 'kept' AND at < $2 AND place IN ($3, $4)
                     ORDER BY at LIMIT 500",
                    params![kind.as_str(), before, &place, DATABASE],
                ),
            })
            .await?;
        found.into_iter().map(artefact).collect()
    }

    /// How many artefacts of each kind are kept, and how many bytes; packed logs in the database among the logs.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn artefact_sums(&self) -> Result<Vec<(ArtefactKind, i64, i64)>> {
        let found: Vec<(String, i64, i64)> = self
            .read(|tx| {
                tx.rows(
                    "SELECT kind, CAST(SUM(number) AS BIGINT), CAST(SUM(size) AS BIGINT) FROM (
                         SELECT kind, COUNT(*) AS number, SUM(size) AS size FROM artefacts
                         WHERE state = 'kept' GROUP BY kind
                         UNION ALL SELECT 'log', COUNT(*), COALESCE(SUM(size), 0) FROM log_blocks
                         WHERE NOT removed AND artefact IS NULL
                     ) AS parts GROUP BY kind",
                    params![],
                )
            })
            .await?;
        let sum = |(kind, number, size): (String, i64, i64)| Some((ArtefactKind::parse(&kind)?, number, size));
        Ok(found.into_iter().filter_map(sum).collect())
    }
}

fn failed(contents: &dyn Contents, error: &ContentsError) -> StoreError {
    StoreError::Contents { place: contents.place().to_owned(), message: error.to_string() }
}
