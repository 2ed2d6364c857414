//! The run engine: claims steps, drives them through executors, keeps their leases, and recovers what a dead engine left.
//! It knows nothing of what a step does.

mod context;
mod drive;
mod host;
mod leases;
mod owned;
mod recovery;
mod serve;
mod slots;

pub use context::{Executor, Probe, StepContext, StepFailure, StepResult};
pub use host::{identity, is_gone, is_here};
pub use serve::Watcher;

use drive::Drive;
use leases::Leases;
use slots::Slots;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use windlass_model::id::{RunId, StepId};
use windlass_model::planner::retry_at;
use windlass_model::run::{Cost, Labels, Repeat, Retry, RunRecord, StepSpec, StepState};
use windlass_store::{Claim, EngineIdentity, Lost, StepOutcome, Store, StoreError, UNREACHABLE};

/// How long an executor may take to come back when its run is killed.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// How often the world outside this process is looked at: cancel requests, locks, other engines.
const POLL: Duration = Duration::from_millis(300);

#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// What steps may take together; a step that costs more runs alone.
    pub budget: Cost,
    /// How long a claim is good for without a sign of life.
    pub lease: Duration,
    /// How long a cancelled or timed-out executor may take to come back before its attempt counts as unknown.
    pub grace: Duration,
    /// Which steps it takes; all when it is not said, as where a run is driven for the person who waits for it.
    pub labels: Option<Labels>,
}

impl EngineOptions {
    fn take(&self, step: &StepSpec) -> bool {
        self.labels.as_ref().is_none_or(|labels| labels.take(step))
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        Self {
            budget: Cost { cpu_milli: cores * 1000, memory_mib: 4096 },
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(90),
            labels: None,
        }
    }
}

/// What can be watched while a run is driven.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    Step {
        id: StepId,
        state: StepState,
        reason: Option<String>,
    },
    /// Ready, but held back; the sentence says by what.
    Held {
        id: StepId,
        why: String,
    },
}

#[derive(Clone)]
pub struct Engine {
    store: Store,
    executors: Arc<HashMap<String, Arc<dyn Executor>>>,
    options: EngineOptions,
    identity: EngineIdentity,
    progress: Option<mpsc::UnboundedSender<Progress>>,
    /// What runs here now, whichever run it is of.
    slots: Arc<Slots>,
    /// Once cancelled, nothing more is begun.
    drain: CancellationToken,
    /// It drives all runs there are, and finds those again whose time has come.
    serves: bool,
    shared: Arc<Shared>,
}

/// What is asked and told once for all runs that are driven here: with many runs it would be each time as much for each of them.
#[derive(Default)]
struct Shared {
    /// When the leases of all steps that run here were extended.
    beat: Mutex<Option<Instant>>,
    /// Running steps of all projects that nobody here owns, and when they were read.
    running: tokio::sync::Mutex<Option<(Instant, Arc<[Lost]>)>>,
    owned: owned::Steps,
    /// What other engines' leases looked like, and since when.
    leases: Mutex<Leases>,
}

impl Engine {
    /// An engine of this process.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn start(
        store: Store,
        executors: HashMap<String, Arc<dyn Executor>>,
        options: EngineOptions,
    ) -> Result<Self, StoreError> {
        let identity = host::identity();
        store.engine_register(&identity).await?;
        let (slots, drain) = (Arc::default(), CancellationToken::new());
        Ok(Self {
            store,
            executors: Arc::new(executors),
            options,
            identity,
            progress: None,
            slots,
            drain,
            serves: false,
            shared: Arc::default(),
        })
    }

    /// The name under which it claims.
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// Where [`Progress`] goes.
    #[must_use]
    pub fn with_progress(mut self, sender: mpsc::UnboundedSender<Progress>) -> Self {
        self.progress = Some(sender);
        self
    }

    /// Extends the leases of what runs here, when it is time to.
    async fn beat(&self) -> Result<(), StoreError> {
        let due = {
            let mut beat = self.shared.beat.lock().unwrap_or_else(PoisonError::into_inner);
            let due = beat.is_some_and(|at| at.elapsed() >= self.options.lease / 3);
            if due || beat.is_none() {
                *beat = Some(Instant::now());
            }
            due
        };
        // What has just begun has its lease.
        if due { self.store.engine_heartbeat(&self.identity.id, micros(self.options.lease)).await } else { Ok(()) }
    }

    /// Running steps of all projects that nobody here owns, as they were a moment ago. One that is this engine's by the record is
    /// among them when the answer to its claim was lost, or when who drove it gave up.
    async fn running(&self) -> Result<Arc<[Lost]>, StoreError> {
        let mut known = self.shared.running.lock().await;
        if let Some((at, running)) = known.as_ref()
            && at.elapsed() < POLL
        {
            return Ok(running.clone());
        }
        // Neither what ends during the question nor what begins during it is lost.
        let before = self.shared.owned.all();
        let mut running = self.store.step_running().await?;
        let after = self.shared.owned.all();
        running.retain(|lost| {
            let step = (lost.claim.run.clone(), lost.claim.step.clone());
            let own = lost.engine.as_ref().is_some_and(|engine| engine.id == self.identity.id);
            !own || !before.contains(&step) && !after.contains(&step)
        });
        self.shared.leases.lock().unwrap_or_else(PoisonError::into_inner).judge(&mut running, &self.options);
        let running: Arc<[Lost]> = running.into();
        *known = Some((Instant::now(), running.clone()));
        Ok(running)
    }

    fn tell(&self, progress: Progress) {
        if let Some(sender) = &self.progress {
            // Nobody listening is no reason to stop.
            let _ = sender.send(progress);
        }
    }

    /// Drives one run until it has ended or waits for something that only a person can give. Steps that died engines left,
    /// in any run, are recovered on the way, because they may hold what this run needs.
    ///
    /// # Errors
    /// The store failed. Attempts that were under way are told to stop; they are recovered by the next engine.
    pub async fn run_until_settled(&self, run: &RunId) -> Result<RunRecord, StoreError> {
        self.settle(run).await.map(|(record, _)| record)
    }

    /// As [`Engine::run_until_settled`], with whether it was this engine that recorded the run's end.
    async fn settle(&self, run: &RunId) -> Result<(RunRecord, bool), StoreError> {
        let (record, look) = self.store.run_open(run).await?;
        let of_project = Self { store: self.store.of_project(&record.project), ..self.clone() };
        let mut drive = Drive::new(of_project, record, look);
        let result = drive.follow().await;
        drive.stop().await;
        result?;
        drive.into_record().await
    }
}

/// Ends what a step's attempts left running on this machine: one interrupt, some time, then a kill.
///
/// # Errors
/// The store cannot be read.
pub async fn end_processes(store: &Store, run: &RunId, step: &StepId, grace: Duration) -> Result<(), StoreError> {
    for process in store.process_list(run, step).await? {
        host::end_group(&process, grace).await;
    }
    Ok(())
}

/// Of a step that may be repeated and could not reach the record, whatever is said of its own failures.
const RECORD_AWAY: Retry = Retry { attempts: 5, backoff: 1_000_000, max_backoff: 15_000_000 };

/// How often a step is tried that failed like this.
fn retry(spec: &StepSpec, failure: &StepFailure) -> Retry {
    let away = failure.code == UNREACHABLE && spec.repeat == Repeat::Idempotent;
    if away && spec.retry.attempts < RECORD_AWAY.attempts { RECORD_AWAY } else { spec.retry }
}

fn outcome(result: StepResult, spec: Option<&StepSpec>, claim: &Claim, now: windlass_model::Micros) -> StepOutcome {
    match result {
        StepResult::Succeeded(value) => StepOutcome::Succeeded(value),
        StepResult::Expanded { output, expansion } => StepOutcome::Expanded { output, expansion: Arc::new(expansion) },
        StepResult::NotNeeded(reason) => StepOutcome::NotNeeded { reason },
        StepResult::Wait { reason, until } => StepOutcome::Waiting { reason, until },
        StepResult::Again { reason, after } => StepOutcome::Again { reason, at: now.saturating_add(micros(after)) },
        StepResult::Cancelled => StepOutcome::Cancelled,
        StepResult::Unknown(reason) => StepOutcome::Unknown { reason },
        StepResult::Failed(failure) => {
            let spec = spec.filter(|_| failure.retryable);
            let again = spec.and_then(|spec| retry_at(&retry(spec, &failure), claim.attempt, now));
            match again {
                Some(at) => StepOutcome::Again { reason: failure.message, at },
                None => StepOutcome::Failed { code: failure.code, reason: failure.message },
            }
        }
    }
}

/// One attempt, with its time limit, its cancel and its panics.
async fn attempt(
    cx: &StepContext,
    executor: Arc<dyn Executor>,
    timeout: Option<Duration>,
    grace: Duration,
) -> StepResult {
    let inner = cx.clone();
    let mut task = tokio::spawn(async move { executor.execute(&inner).await });
    let limit = async {
        match timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let timed_out = tokio::select! {
        ended = &mut task => return unpanicked(ended),
        () = cx.cancel.cancelled() => false,
        () = limit => true,
    };
    cx.cancel.cancel();
    let killed = async {
        cx.kill.cancelled().await;
        tokio::time::sleep(KILL_GRACE.min(grace)).await;
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(grace, &mut task) => ended.ok(),
        () = killed => None,
    };
    match ended {
        Some(ended) if timed_out => match unpanicked(ended) {
            // It was done before it noticed.
            done @ (StepResult::Succeeded(_) | StepResult::Expanded { .. } | StepResult::NotNeeded(_)) => done,
            _ => StepResult::Failed(StepFailure {
                code: "WL616".into(),
                message: "it took longer than its time limit".into(),
                retryable: true,
            }),
        },
        Some(ended) => unpanicked(ended),
        None => {
            task.abort();
            if cx.kill.is_cancelled() {
                cx.end_processes().await;
            }
            StepResult::Unknown("it did not stop when asked".into())
        }
    }
}

fn unpanicked(ended: Result<StepResult, tokio::task::JoinError>) -> StepResult {
    ended.unwrap_or_else(|error| {
        StepResult::Failed(StepFailure {
            code: "WL999".into(),
            message: format!("internal error: the executor panicked: {error}"),
            retryable: false,
        })
    })
}

fn micros(duration: Duration) -> windlass_model::Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
