//! Logs: read by offset wherever they are; and packed when their runs have ended, block by block. A block takes the place of its
//! chunks in one transaction, so that nothing is ever there twice or not at all.

use crate::artefacts::{Artefact, ArtefactKind, NewArtefact, keep_in, leave_in};
use crate::db::{Tx, params};
use crate::journal::NewEvent;
use crate::{Durability, LogChunk, Result, Scope, Store, StoreError};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};

/// A block is closed when it has so much text, bytes.
const BLOCK: usize = 1 << 20;
/// Chunks that are read at once on the way into a block.
const PAGE: u32 = 64;
/// Blocks that are kept in memory after they were read.
const RECENT: usize = 8;

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    pub blocks: u64,
    /// Of the text.
    pub bytes: u64,
    /// Of what is kept.
    pub size: u64,
}

/// Blocks that were read last, newest first. A log is read in small parts, and a block is a large one.
#[derive(Default)]
pub(crate) struct Blocks(Mutex<VecDeque<(Place, Arc<Vec<LogChunk>>)>>);

/// Which part of which log, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    run: RunId,
    step: StepId,
    start: i64,
    next: i64,
    removed: bool,
}

impl Blocks {
    fn get(&self, place: &Place) -> Option<Arc<Vec<LogChunk>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(other, _)| other == place)?;
        let found = known.remove(at)?;
        let chunks = found.1.clone();
        known.push_front(found);
        Some(chunks)
    }

    fn put(&self, place: Place, chunks: Arc<Vec<LogChunk>>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_front((place, chunks));
        known.truncate(RECENT);
    }
}

/// Chunks as a zstd of a line of JSON that says length, attempt and time of each, and their text after it.
fn pack(chunks: &[LogChunk]) -> Result<Vec<u8>> {
    let head: Vec<(usize, u32, Micros)> = chunks.iter().map(|c| (c.bytes.len(), c.attempt, c.at)).collect();
    let mut plain = crate::runs::encode("block of a log", &head)?.into_bytes();
    plain.push(b'\n');
    chunks.iter().for_each(|chunk| plain.extend_from_slice(&chunk.bytes));
    zstd::encode_all(plain.as_slice(), 0).map_err(|error| wrong(&error))
}

fn unpack(step: &StepId, start: i64, packed: &[u8]) -> Result<Vec<LogChunk>> {
    let plain = zstd::decode_all(packed).map_err(|error| wrong(&error))?;
    let end = plain.iter().position(|byte| *byte == b'\n').ok_or_else(|| wrong(&"it has no head"))?;
    let head: Vec<(usize, u32, Micros)> = serde_json::from_slice(&plain[..end]).map_err(|error| wrong(&error))?;
    let (mut rest, mut start) = (&plain[end + 1..], start);
    let mut chunks = Vec::with_capacity(head.len());
    for (length, attempt, at) in head {
        let (bytes, after) = rest.split_at_checked(length).ok_or_else(|| wrong(&"its text is too short"))?;
        chunks.push(LogChunk { step: step.clone(), attempt, start, bytes: bytes.to_vec(), at });
        start += length as i64;
        rest = after;
    }
    Ok(chunks)
}

fn wrong(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Decode { what: "block of a log", message: error.to_string() }
}

/// What is left of a chunk from a byte on.
fn cut(mut chunk: LogChunk, from: i64) -> LogChunk {
    let skip = usize::try_from(from - chunk.start).unwrap_or(0).min(chunk.bytes.len());
    chunk.bytes.drain(..skip);
    chunk.start += skip as i64;
    chunk
}

type ChunkRow = (i64, i64, Vec<u8>, i64);

fn chunk(step: &StepId, (start, attempt, bytes, at): ChunkRow) -> LogChunk {
    LogChunk { step: step.clone(), attempt: attempt as u32, start, bytes, at }
}

/// Where the log of a step goes on.
pub(crate) fn log_end_in(tx: &mut Tx<'_>, run: &RunId, step: &StepId) -> Result<i64> {
    let end: Option<i64> = tx.row(
        "SELECT COALESCE(
             (SELECT start + LENGTH(bytes) FROM logs WHERE run = $1 AND step = $2 ORDER BY start DESC LIMIT 1),
             (SELECT next FROM log_blocks WHERE run = $1 AND step = $2 ORDER BY start DESC LIMIT 1), 0
         )",
        params![run.as_str(), step.as_str()],
    )?;
    Ok(end.unwrap_or_default())
}

impl Store {
    /// The log of a step from byte `from` on, at most `limit` chunks; the first one is cut to begin at `from`. Fewer are there only
    /// where the log ends.
    ///
    /// # Errors
    /// The database cannot be read, or a part of the log is not there any more.
    pub async fn log_read(&self, run: &RunId, step: &StepId, from: i64, limit: u32) -> Result<Vec<LogChunk>> {
        let (mut found, mut at, limit) = (Vec::new(), from, limit as usize);
        while found.len() < limit {
            let room = u32::try_from(limit - found.len()).unwrap_or(u32::MAX);
            let loose = self.log_loose(run, step, at, room).await?;
            if loose.first().is_some_and(|first| first.start <= at) {
                found.extend(loose.into_iter().map(|chunk| cut(chunk, at)));
                break;
            }
            // What is packed is before what is not. It may have been packed just now: this is looked at last.
            let Some(block) = self.log_block(run, step, at).await? else { break };
            let fits = block.iter().filter(|chunk| chunk.start + chunk.bytes.len() as i64 > at);
            let before = found.len();
            found.extend(fits.take(room as usize).map(|chunk| cut(chunk.clone(), at)));
            match found[before..].last() {
                Some(last) => at = last.start + last.bytes.len() as i64,
                None => break,
            }
        }
        Ok(found)
    }

    /// Chunks that are not packed.
    async fn log_loose(&self, run: &RunId, step: &StepId, from: i64, limit: u32) -> Result<Vec<LogChunk>> {
        let (of, at) = (run.clone(), step.clone());
        let found: Vec<ChunkRow> = self
            .read(move |tx| {
                // Chunks have no gaps: the one that holds the byte is the last that does not begin after it.
                tx.rows(
                    "SELECT start, attempt, bytes, at FROM logs WHERE run = $1 AND step = $2 AND start >= COALESCE(
                         (SELECT start FROM logs WHERE run = $1 AND step = $2 AND start <= $3 ORDER BY start DESC LIMIT 1), 0
                     ) AND start + LENGTH(bytes) > $3
                     ORDER BY start LIMIT $4",
                    params![of.as_str(), at.as_str(), from, limit],
                )
            })
            .await?;
        Ok(found.into_iter().map(|row| chunk(step, row)).collect())
    }

    /// The chunks of the block that holds a byte.
    async fn log_block(&self, run: &RunId, step: &StepId, at: i64) -> Result<Option<Arc<Vec<LogChunk>>>> {
        let (of, of_step) = (run.clone(), step.clone());
        let found: Option<(i64, i64, Option<String>, bool)> = self
            .read(move |tx| {
                tx.row(
                    "SELECT start, next, artefact, removed FROM log_blocks WHERE run = $1 AND step = $2 AND start <= $3
                     ORDER BY start DESC LIMIT 1",
                    params![of.as_str(), of_step.as_str(), at],
                )
            })
            .await?;
        let Some((start, next, artefact, removed)) = found.filter(|(_, next, ..)| *next > at) else { return Ok(None) };
        let place = Place { run: run.clone(), step: step.clone(), start, next, removed };
        if let Some(known) = self.inner.blocks.get(&place) {
            return Ok(Some(known));
        }
        let packed = match artefact {
            Some(artefact) => self.artefact_read(&artefact).await?,
            None => {
                let (of, of_step) = (run.clone(), step.clone());
                let found: Option<(Option<Vec<u8>>,)> = self
                    .read(move |tx| {
                        tx.row(
                            "SELECT bytes FROM log_blocks WHERE run = $1 AND step = $2 AND start = $3",
                            params![of.as_str(), of_step.as_str(), start],
                        )
                    })
                    .await?;
                found.and_then(|(bytes,)| bytes).ok_or_else(|| wrong(&"it was removed just now; ask again"))?
            }
        };
        let of_step = step.clone();
        let chunks = Arc::new(crate::blocking(move || unpack(&of_step, start, &packed)).await?);
        self.inner.blocks.put(place, chunks.clone());
        Ok(Some(chunks))
    }

    /// Where the log of a step ends: its length in bytes.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn log_end(&self, run: &RunId, step: &StepId) -> Result<i64> {
        let (run, step) = (run.clone(), step.clone());
        self.read(move |tx| log_end_in(tx, &run, &step)).await
    }

    /// Runs that ended before `before` (µs) and whose logs are not packed, with their ends; after the run `after`, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn log_unpacked(
        &self,
        before: Micros,
        after: Option<&RunId>,
        limit: usize,
    ) -> Result<Vec<(RunId, Micros)>> {
        let after = after.map(|run| run.to_string()).unwrap_or_default();
        self.read(move |tx| {
            let (mut at, mut found) = (after.clone(), Vec::new());
            // One look into the index for each run, however many chunks it has.
            while found.len() < limit {
                let next: Option<String> =
                    tx.row("SELECT run FROM logs WHERE run > $1 ORDER BY run LIMIT 1", params![&at])?;
                let Some(next) = next else { break };
                let ended: Option<i64> =
                    tx.row("SELECT ended_at FROM runs WHERE id = $1 AND ended_at < $2", params![&next, before])?;
                found.extend(ended.map(|ended| (RunId::new(next.clone()), ended)));
                at = next;
            }
            Ok(found)
        })
        .await
    }

    /// Packs the logs of a run that has ended at `ended` (µs). A process that dies at any point of it loses nothing, and two that do
    /// it at once leave what one would.
    ///
    /// # Errors
    /// The database, or what keeps artefacts, cannot be written.
    pub async fn log_pack(&self, run: &RunId, ended: Micros) -> Result<Packed> {
        let of = run.clone();
        let found: Option<String> =
            self.read(move |tx| tx.row("SELECT project FROM runs WHERE id = $1", params![of.as_str()])).await?;
        let store = self.of_project(&found.unwrap_or_default());
        let of = run.clone();
        let steps: Vec<String> = store
            .read(move |tx| {
                tx.rows("SELECT DISTINCT step FROM logs WHERE run = $1 ORDER BY step", params![of.as_str()])
            })
            .await?;
        let mut packed = Packed::default();
        for step in steps.into_iter().map(StepId::new) {
            loop {
                let chunks = store.log_first(run, &step).await?;
                let Some(last) = chunks.last() else { break };
                let (start, next) = (chunks[0].start, last.start + last.bytes.len() as i64);
                let size = store.log_block_put(run, &step, ended, chunks).await?;
                packed.blocks += 1;
                packed.bytes += (next - start).unsigned_abs();
                packed.size += size;
            }
        }
        Ok(packed)
    }

    /// The first chunks of a log that are not packed: enough for a block.
    async fn log_first(&self, run: &RunId, step: &StepId) -> Result<Vec<LogChunk>> {
        let (mut chunks, mut length): (Vec<LogChunk>, usize) = (Vec::new(), 0);
        while length < BLOCK {
            let (of, at) = (run.clone(), step.clone());
            let after = chunks.last().map_or(-1, |last| last.start);
            let page: Vec<ChunkRow> = self
                .read(move |tx| {
                    tx.rows(
                        "SELECT start, attempt, bytes, at FROM logs WHERE run = $1 AND step = $2 AND start > $3
                         ORDER BY start LIMIT $4",
                        params![of.as_str(), at.as_str(), after, PAGE],
                    )
                })
                .await?;
            let whole = page.len() < PAGE as usize;
            for row in page {
                if length >= BLOCK {
                    break;
                }
                let chunk = chunk(step, row);
                length += chunk.bytes.len();
                chunks.push(chunk);
            }
            if whole {
                break;
            }
        }
        Ok(chunks)
    }

    /// Puts a block in the place of its chunks; the size of it.
    async fn log_block_put(&self, run: &RunId, step: &StepId, ended: Micros, chunks: Vec<LogChunk>) -> Result<u64> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(0) };
        let (start, from, next) = (first.start, last.start, last.start + last.bytes.len() as i64);
        let block = crate::blocking(move || pack(&chunks)).await?;
        let size = block.len() as i64;
        let outside = next > start && self.contents().is_some_and(|contents| contents.takes_logs());
        let of = NewArtefact { kind: ArtefactKind::Log, run: run.clone(), subject: step.to_string(), number: start };
        let (artefact, bytes) =
            if outside { (Some(self.artefact_write(&of, block).await?), None) } else { (None, Some(block)) };
        let (run, step, id) = (run.clone(), step.clone(), artefact.clone());
        let put = self.write(Durability::Durable, move |tx| {
            tx.serialise(&format!("{run}/{step}/log"))?;
            if next > start {
                let put = tx.execute(
                    "INSERT INTO log_blocks (run, step, start, next, bytes, artefact, size, run_ended_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (run, step, start) DO NOTHING",
                    params![run.as_str(), step.as_str(), start, next, bytes.as_ref(), artefact.as_deref(), size, ended],
                )?;
                if put == 0 {
                    // Somebody else packed the same just now, and took the chunks.
                    return Ok(false);
                }
                if let Some(artefact) = &artefact {
                    keep_in(tx, artefact)?;
                }
            }
            tx.execute(
                "DELETE FROM logs WHERE run = $1 AND step = $2 AND start >= $3 AND start <= $4",
                params![run.as_str(), step.as_str(), start, from],
            )?;
            Ok(true)
        });
        if let (false, Some(id)) = (put.await?, id) {
            // It may have seen more of the chunks than this one did.
            let (project, place) = (self.scope.project.clone(), self.artefact_place().to_owned());
            let mine = Artefact { id, project, of, size, place, note: None, at: 0 };
            self.artefact_abandon(&mine).await?;
        }
        Ok(size.unsigned_abs())
    }

    /// Runs that ended before `before` (µs) and whose packed logs are still there; at most 100.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn log_expired(&self, before: Micros) -> Result<Vec<RunId>> {
        let found: Vec<String> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT run FROM log_blocks WHERE NOT removed AND run_ended_at < $1
                     GROUP BY run ORDER BY MIN(run_ended_at) LIMIT 100",
                    params![before],
                )
            })
            .await?;
        Ok(found.into_iter().map(RunId::new).collect())
    }

    /// Puts a sentence in the place of the packed logs of a run, with an event that says so; how many bytes that frees.
    ///
    /// # Errors
    /// The database, or what keeps artefacts, cannot be written.
    pub async fn log_remove(&self, run: &RunId, note: &str, actor: &str) -> Result<u64> {
        let record = self.run_get(run).await?;
        let scope = Scope { project: record.project, ..Scope::clone(&self.scope) };
        let (of, note, actor) = (run.clone(), note.to_owned(), actor.to_owned());
        let (freed, outside): (i64, Vec<String>) = self
            .write(Durability::Durable, move |tx| {
                let now = tx.now()?;
                let blocks: Vec<(String, Option<String>, i64, i64)> = tx.rows(
                    "DELETE FROM log_blocks WHERE run = $1 AND NOT removed RETURNING step, artefact, size, run_ended_at",
                    params![of.as_str()],
                )?;
                let Some((_, _, _, ended)) = blocks.first() else { return Ok((0, Vec::new())) };
                let steps: BTreeSet<&String> = blocks.iter().map(|(step, ..)| step).collect();
                let text = format!("{note}\n").into_bytes();
                let next = text.len() as i64;
                let sentence = pack(&[LogChunk { step: "".into(), attempt: 1, start: 0, bytes: text, at: now }])?;
                for step in &steps {
                    tx.execute(
                        "INSERT INTO log_blocks (run, step, start, next, bytes, size, run_ended_at, removed)
                         VALUES ($1, $2, 0, $3, $4, $5, $6, TRUE)",
                        params![of.as_str(), step.as_str(), next, &sentence, sentence.len() as i64, *ended],
                    )?;
                }
                let artefacts: Vec<String> = blocks.iter().filter_map(|(_, artefact, ..)| artefact.clone()).collect();
                for artefact in &artefacts {
                    leave_in(tx, artefact, None)?;
                }
                let freed = blocks.iter().map(|(.., size, _)| size).sum();
                let data = serde_json::json!({ "steps": steps, "bytes": freed, "note": note });
                let event = NewEvent { actor: Some(&actor), ..NewEvent::of_run(&of, "log.removed", data) };
                scope.event(tx, event)?;
                Ok((freed, artefacts))
            })
            .await?;
        for id in outside {
            if let Some(artefact) = self.artefact_get(&id).await? {
                self.log_part_drop(&artefact).await?;
            }
        }
        Ok(freed.unsigned_abs())
    }

    /// A part that another server keeps is left for that one.
    async fn log_part_drop(&self, artefact: &Artefact) -> Result<()> {
        if artefact.place == self.artefact_place() { self.artefact_drop(artefact).await } else { Ok(()) }
    }
}
