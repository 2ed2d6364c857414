//! What an executor is given and what it answers.

use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::StepState;
use windlass_store::{Claim, ProcessRow, Store};

/// Does the work of the steps that name it.
#[async_trait]
pub trait Executor: Send + Sync {
    /// One attempt. It has to come back soon after `cx.cancel` is cancelled, having stopped what it started.
    async fn execute(&self, cx: &StepContext) -> StepResult;

    /// After an attempt of a checkable step that did not report its end: asks the world. Its processes are dead already.
    async fn probe(&self, _cx: &StepContext) -> Probe {
        Probe::Unsettled("this kind of step cannot be checked".into())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum StepResult {
    Succeeded(Value),
    Failed(StepFailure),
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
    /// Outputs of the steps in `after` that succeeded.
    pub upstream: BTreeMap<StepId, Value>,
    pub upstream_states: BTreeMap<StepId, StepState>,
    pub cancel: CancellationToken,
    store: Store,
    claim: Claim,
    buffer: Arc<Mutex<Vec<u8>>>,
    /// Something was put into the buffer.
    said: Arc<Notify>,
}

/// Log bytes that are held back until there are this many, or they are [`AGE`] old, or the step ends.
const BUFFER: usize = 16 * 1024;
/// How long those who follow a step wait for what it said.
const AGE: Duration = Duration::from_millis(250);

impl StepContext {
    pub(crate) fn new(
        store: Store,
        claim: Claim,
        input: Value,
        run_input: Value,
        upstream: BTreeMap<StepId, Value>,
        upstream_states: BTreeMap<StepId, StepState>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            run: claim.run.clone(),
            step: claim.step.clone(),
            attempt: claim.attempt,
            token: format!("{}/{}/{}", claim.run, claim.step, claim.attempt),
            input,
            run_input,
            upstream,
            upstream_states,
            cancel,
            store,
            claim,
            buffer: Arc::default(),
            said: Arc::default(),
        }
    }

    /// Appends to the step's log. Small pieces are gathered; [`StepContext::flush`] writes them.
    pub async fn log(&self, bytes: &[u8]) {
        let mut buffer = self.buffer.lock().await;
        buffer.extend_from_slice(bytes);
        if buffer.len() >= BUFFER {
            self.write(&mut buffer).await;
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
        let mut buffer = self.buffer.lock().await;
        self.write(&mut buffer).await;
    }

    async fn write(&self, buffer: &mut Vec<u8>) {
        if buffer.is_empty() {
            return;
        }
        // A log that cannot be written now is kept for the next try, within bounds; it must not fail the work.
        if self.store.log_append(&self.run, &self.step, self.attempt, buffer).await.is_ok()
            || buffer.len() > 64 * BUFFER
        {
            buffer.clear();
        }
    }

    /// Records facts about this step, e.g. that a resource was created, before the work goes on; with the log that was held back,
    /// in one transaction.
    ///
    /// # Errors
    /// The step was given to another engine, or the store cannot be written.
    pub async fn events(&self, events: &[(String, Value)]) -> Result<(), windlass_store::StoreError> {
        let mut buffer = self.buffer.lock().await;
        self.store.step_record(&self.claim, &buffer, events).await?;
        buffer.clear();
        Ok(())
    }

    /// What [`StepContext::log`] holds back, which is then the caller's to write.
    pub(crate) async fn take_log(&self) -> Vec<u8> {
        std::mem::take(&mut *self.buffer.lock().await)
    }

    /// Remembers a child (which leads its own process group), so that recovery can end it when this engine is gone.
    ///
    /// # Errors
    /// The store cannot be written: the child should not go on.
    pub async fn process_started(&self, pid: u32) -> Result<(), windlass_store::StoreError> {
        let (host, boot) = crate::host::machine();
        let process = ProcessRow { pid: i64::from(pid), ticks: crate::host::start_ticks(pid).unwrap_or(0), host, boot };
        self.store.process_add(&self.claim, &process).await
    }
}
