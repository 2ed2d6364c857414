//! What an executor is given and what it answers.

use async_trait::async_trait;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::mask::{Mask, Stream};
use windlass_model::planner::Planner;
use windlass_model::run::{Expansion, StepSpec, StepState};
use windlass_store::{Claim, ProcessRow, Store, StoreError};

/// Does the work of the steps that name it.
#[async_trait]
pub trait Executor: Send + Sync {
    /// One attempt. It has to come back soon after `cx.cancel` is cancelled, having stopped what it started.
    async fn execute(&self, cx: &StepContext) -> StepResult;

    /// After an attempt of a checkable step that did not report its end: asks the world. Its processes are dead already.
    async fn probe(&self, _cx: &StepContext) -> Probe {
        Probe::Unsettled("this kind of step cannot be checked".into())
    }

    /// Whether something that attempts of the step started lives where it is no process that was recorded: in a container, in a
    /// cluster.
    ///
    /// # Errors
    /// It cannot be told now; why not.
    async fn lives(&self, _cx: &StepContext) -> Result<bool, String> {
        Ok(false)
    }

    /// Ends that: one interrupt, `grace`, then a kill. It is gone when this comes back.
    ///
    /// # Errors
    /// It may live on; why.
    async fn end(&self, _cx: &StepContext, _grace: Duration) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum StepResult {
    Succeeded(Value),
    /// It succeeded, and adds steps to its run, whose ids are new in it; both are recorded at once.
    Expanded {
        output: Value,
        expansion: Expansion,
    },
    /// There was nothing to do, for this reason: what comes after it goes on.
    NotNeeded(String),
    Failed(StepFailure),
    /// It could not begin, and is to try again in so long, as often as that is so.
    Again {
        reason: String,
        after: Duration,
    },
    /// Nothing can be done until somebody wakes it, or until a time.
    Wait {
        reason: String,
        until: Option<Micros>,
    },
    Cancelled,
    /// It may or may not have happened.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// Key of the diagnostic's page.
    pub code: String,
    pub message: String,
    /// Whether trying again can help.
    pub retryable: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// It had happened, with this result.
    Done(Value),
    /// It had not, or only in part; doing it again is right.
    Repeat,
    /// A person has to say.
    Unsettled(String),
}

/// One attempt of one step.
#[derive(Clone)]
pub struct StepContext {
    pub run: RunId,
    pub step: StepId,
    pub attempt: u32,
    /// `run/step/attempt`: handed to children, so that a late one can be told from the present one.
    pub token: String,
    pub input: Value,
    pub run_input: Value,
    /// Outputs of the steps that it comes after and that succeeded.
    pub upstream: BTreeMap<StepId, Value>,
    pub upstream_states: BTreeMap<StepId, StepState>,
    /// Those of them after which only what does not mind goes on: a failure that counts, or a skip because of one.
    pub upstream_bad: BTreeSet<StepId>,
    /// The first step whose failure fails the run, with its reason: for undos and handlers.
    pub failure: Option<(StepId, String)>,
    pub cancel: CancellationToken,
    /// Comes with `cancel`, or after it: there is no time for a graceful end.
    pub kill: CancellationToken,
    store: Store,
    claim: Claim,
    log: Arc<Mutex<Log>>,
    /// Something was put into the log.
    said: Arc<Notify>,
}

/// What was said and is not known to be on record.
#[derive(Default)]
struct Log {
    said: Stream,
    /// Without secrets.
    masked: Vec<u8>,
    secrets: BTreeSet<String>,
    mask: Arc<Mask>,
    /// Where the log ends, as far as this attempt has written it.
    end: Option<i64>,
    /// The last write failed, and may have happened all the same.
    in_doubt: bool,
}

impl Log {
    /// Takes the secrets out of what can be written.
    fn give(&mut self) {
        self.said.give(&self.mask, &mut self.masked);
    }
}

/// Log bytes that are held back until there are this many, or they are [`AGE`] old, or the step ends.
const BUFFER: usize = 16 * 1024;
/// A longer line is recorded in pieces, bytes: readers have some of them in memory at once.
const PIECE: usize = 64 * 1024;
/// So much of a log is kept while it cannot be written, bytes.
const KEPT: usize = 1024 * 1024;
/// How long those who follow a step wait for what it said.
const AGE: Duration = Duration::from_millis(250);

impl StepContext {
    /// Without anything that comes before it.
    pub(crate) fn new(store: Store, claim: Claim, input: Value, run_input: Value) -> Self {
        Self {
            run: claim.run.clone(),
            step: claim.step.clone(),
            attempt: claim.attempt,
            token: format!("{}/{}/{}", claim.run, claim.step, claim.attempt),
            input,
            run_input,
            upstream: BTreeMap::new(),
            upstream_states: BTreeMap::new(),
            upstream_bad: BTreeSet::new(),
            failure: None,
            cancel: CancellationToken::new(),
            kill: CancellationToken::new(),
            store,
            claim,
            log: Arc::default(),
            said: Arc::default(),
        }
    }

    /// Shows what comes before it.
    pub(crate) fn seeing(mut self, run: &Planner, spec: &StepSpec) -> Self {
        for id in spec.after.iter().chain(&spec.flow.behind) {
            let Some(step) = run.step(id) else { continue };
            self.upstream.extend(step.output.clone().map(|output| (id.clone(), output)));
            self.upstream_states.insert(id.clone(), step.state);
            if !run.is_fine(id) {
                self.upstream_bad.insert(id.clone());
            }
        }
        if !spec.flow.phase.is_main() {
            self.failure = run.failure().map(|(id, reason)| (id.clone(), reason.unwrap_or_default().to_owned()));
        }
        self
    }

    /// From now on these are kept out of everything that this attempt leaves: its log, events, reasons and errors, and what its
    /// executor passes through [`StepContext::mask`]. Those that are too short ([`windlass_model::mask::SHORTEST`]) are not.
    pub async fn hide(&self, secrets: impl IntoIterator<Item = String>) {
        let mut log = self.log.lock().await;
        let known = log.secrets.len();
        log.secrets.extend(secrets);
        if log.secrets.len() > known {
            log.mask = Arc::new(Mask::new(log.secrets.iter().map(String::as_str)));
        }
    }

    /// What takes the secrets of this attempt out of texts.
    pub async fn mask(&self) -> Arc<Mask> {
        self.log.lock().await.mask.clone()
    }

    /// Appends to the step's log. Small pieces are gathered; [`StepContext::flush`] writes them.
    pub async fn log(&self, bytes: &[u8]) {
        let mut log = self.log.lock().await;
        log.said.push(bytes);
        self.gathered(&mut log).await;
    }

    /// As [`StepContext::log`] of what stands before a line without being said: a secret goes on behind it.
    pub async fn log_aside(&self, bytes: &[u8]) {
        self.log.lock().await.said.push_aside(bytes);
    }

    async fn gathered(&self, log: &mut Log) {
        if log.said.fresh() >= BUFFER {
            self.write(log).await;
        } else {
            self.said.notify_one();
        }
    }

    /// Writes what [`StepContext::log`] holds back as soon as it is old, until `done`.
    pub(crate) async fn keep_written(&self, done: &CancellationToken) {
        let old = async || {
            self.said.notified().await;
            tokio::time::sleep(AGE).await;
        };
        // A write is never given up in the middle: whether it happened would not be known.
        while done.run_until_cancelled(old()).await.is_some() {
            self.flush().await;
        }
    }

    /// Writes what [`StepContext::log`] holds back.
    pub async fn flush(&self) {
        self.write(&mut *self.log.lock().await).await;
    }

    async fn write(&self, log: &mut Log) {
        log.give();
        // A log that cannot be written now is kept for the next try, within bounds; it must not fail the work.
        let lost = matches!(self.record(log, &[]).await, Err(StoreError::StaleClaim { .. }));
        if lost || log.masked.len() > KEPT {
            log.masked.clear();
        }
    }

    /// Writes what is masked, with these facts.
    async fn record(&self, log: &mut Log, events: &[(String, Value)]) -> Result<(), StoreError> {
        self.settle(log).await?;
        while log.masked.len() > PIECE {
            self.write_piece(log, PIECE, &[]).await?;
        }
        self.write_piece(log, log.masked.len(), events).await
    }

    async fn write_piece(&self, log: &mut Log, length: usize, events: &[(String, Value)]) -> Result<(), StoreError> {
        match self.store.step_record(&self.claim, &log.masked[..length], events).await {
            Ok(end) => {
                log.masked.drain(..length);
                log.end = end.or(log.end);
                Ok(())
            }
            Err(error) => {
                log.in_doubt = true;
                Err(error)
            }
        }
    }

    /// Drops what is on record already although its write seemed to fail. Nobody else writes to it meanwhile.
    async fn settle(&self, log: &mut Log) -> Result<(), StoreError> {
        if let (true, Some(known)) = (log.in_doubt, log.end) {
            let end = self.store.log_end(&self.run, &self.step).await?;
            let done = usize::try_from(end - known).unwrap_or(0).min(log.masked.len());
            log.masked.drain(..done);
            log.end = Some(end);
        }
        log.in_doubt = false;
        Ok(())
    }

    /// Records facts about this step, e.g. that a resource was created, before the work goes on; with the log that was held back,
    /// in one transaction.
    ///
    /// # Errors
    /// The step was given to another engine, or the store cannot be written.
    pub async fn events(&self, events: &[(String, Value)]) -> Result<(), StoreError> {
        let mut log = self.log.lock().await;
        let mask = log.mask.clone();
        let masked = events.iter().map(|(kind, data)| {
            let mut data = data.clone();
            mask.value(&mut data);
            (kind.clone(), data)
        });
        let masked: Vec<(String, Value)> = masked.collect();
        log.give();
        self.record(&mut log, &masked).await
    }

    /// As [`StepContext::log`], at once, and only while the step is ours: before something that nobody else may do.
    ///
    /// # Errors
    /// The step was given to another engine, or the store cannot be written.
    pub async fn log_owned(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut log = self.log.lock().await;
        log.said.push(bytes);
        log.give();
        self.record(&mut log, &[]).await
    }

    #[cfg(test)]
    pub(crate) async fn doubt(&self) {
        self.log.lock().await.in_doubt = true;
    }

    /// All of the log that is not written, which is then the caller's to write: nothing more is said.
    pub(crate) async fn take_log(&self) -> Vec<u8> {
        let mut log = self.log.lock().await;
        let log = &mut *log;
        log.said.finish(&log.mask, &mut log.masked);
        // Where nobody can be asked, a piece may come twice.
        let _ = self.settle(log).await;
        std::mem::take(&mut log.masked)
    }

    /// What an attempt says of itself, without secrets. What it gives to others is its executor's to mask: it is read by programs.
    pub(crate) async fn masked(&self, result: StepResult) -> StepResult {
        let mask = self.mask().await;
        match result {
            StepResult::Failed(failure) => {
                StepResult::Failed(StepFailure { message: mask.text(&failure.message), ..failure })
            }
            StepResult::Wait { reason, until } => StepResult::Wait { reason: mask.text(&reason), until },
            StepResult::Again { reason, after } => StepResult::Again { reason: mask.text(&reason), after },
            StepResult::Unknown(reason) => StepResult::Unknown(mask.text(&reason)),
            StepResult::NotNeeded(reason) => StepResult::NotNeeded(mask.text(&reason)),
            other @ (StepResult::Succeeded(_) | StepResult::Expanded { .. } | StepResult::Cancelled) => other,
        }
    }

    /// Kills what its attempts have left running on this machine.
    pub(crate) async fn end_processes(&self) {
        // What cannot be read now is found by recovery.
        let _ = crate::end_processes(&self.store, &self.run, &self.step, Duration::ZERO).await;
    }

    /// Remembers a child (which leads its own process group), so that recovery can end it when this engine is gone.
    ///
    /// # Errors
    /// The store cannot be written: the child should not go on.
    pub async fn process_started(&self, pid: u32) -> Result<(), StoreError> {
        self.process_add(pid, None).await.map(drop)
    }

    /// As [`StepContext::process_started`] of a child that uses up a plan file; `false` when that was used before, so that the child
    /// must not begin.
    ///
    /// # Errors
    /// As there.
    pub async fn process_started_using(&self, pid: u32, plan: &str) -> Result<bool, StoreError> {
        self.process_add(pid, Some(plan)).await
    }

    async fn process_add(&self, pid: u32, uses: Option<&str>) -> Result<bool, StoreError> {
        let (host, boot) = crate::host::machine();
        let process = ProcessRow { pid: i64::from(pid), ticks: crate::host::start_ticks(pid).unwrap_or(0), host, boot };
        self.store.process_add(&self.claim, &process, uses).await
    }
}
