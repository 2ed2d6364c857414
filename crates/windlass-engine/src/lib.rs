//! The run engine: claims steps, drives them through executors, keeps their leases, and recovers what a dead engine left.
//! It knows nothing of what a step does.

mod context;
mod host;
mod recovery;
mod serve;
mod slots;

pub use context::{Executor, Probe, StepContext, StepFailure, StepResult};
pub use host::{identity, is_gone, is_here};
pub use serve::Watcher;

use slots::{Slot, Slots};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_model::id::{RunId, StepId};
use windlass_model::planner::{next, retry_at};
use windlass_model::run::{Cost, Decision, RunRecord, RunState, StepRecord, StepSpec, StepState, Steps};
use windlass_store::{Claim, ClaimResult, Durability, EngineIdentity, StepOutcome, Store, StoreError};

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
}

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        Self {
            budget: Cost { cpu_milli: cores * 1000, memory_mib: 4096 },
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(90),
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
}

struct Running {
    cancel: CancellationToken,
    _slot: Slot,
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
        Ok(Self { store, executors: Arc::new(executors), options, identity, progress: None, slots, drain })
    }

    /// Where [`Progress`] goes.
    #[must_use]
    pub fn with_progress(mut self, sender: mpsc::UnboundedSender<Progress>) -> Self {
        self.progress = Some(sender);
        self
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
        let mut tasks: JoinSet<Finished> = JoinSet::new();
        let mut running: HashMap<StepId, Running> = HashMap::new();
        let project = self.store.run_get(run).await?.project;
        let of_project = Self { store: self.store.of_project(&project), ..self.clone() };
        let result = of_project.drive(run, &mut tasks, &mut running).await;
        for step in running.values() {
            step.cancel.cancel();
        }
        while tasks.join_next().await.is_some() {}
        result
    }

    async fn drive(
        &self,
        run: &RunId,
        tasks: &mut JoinSet<Finished>,
        running: &mut HashMap<StepId, Running>,
    ) -> Result<RunRecord, StoreError> {
        let mut record = self.store.run_get(run).await?;
        let specs: HashMap<StepId, StepSpec> = record.plan.steps.iter().map(|s| (s.id.clone(), s.clone())).collect();
        let mut steps: Steps = BTreeMap::new();
        let mut told: HashMap<StepId, String> = HashMap::new();
        let mut looked: Option<Instant> = None;
        let mut beat = Instant::now();
        loop {
            if record.state.is_final() {
                return Ok(record);
            }
            if looked.is_none_or(|at| at.elapsed() >= POLL) {
                let waits = |step: &StepId| {
                    let why = "its process died; what it had started is finishing, and is waited for".to_owned();
                    self.tell(Progress::Held { id: step.clone(), why });
                };
                recovery::recover(&self.store, &self.identity, &self.executors, &self.options, run, waits).await?;
                self.look(run, &mut steps).await?;
                record.cancel_requested = self.store.run_cancel_requested(run).await?;
                looked = Some(Instant::now());
            }
            if beat.elapsed() >= self.options.lease / 3 && !running.is_empty() {
                self.store.engine_heartbeat(&self.identity.id, micros(self.options.lease)).await?;
                beat = Instant::now();
            }
            if record.cancel_requested {
                running.values().for_each(|step| step.cancel.cancel());
            }
            if self.drain.is_cancelled() {
                let Some(finished) = tasks.join_next().await else { return Ok(record) };
                self.finished(finished, &mut steps, running, run, &specs).await?;
                continue;
            }
            let now = self.store.now().await?;
            let mut held = HashSet::new();
            let mut close = Vec::new();
            let mut state = (record.state, None);
            let mut changed = false;
            let mut sleeps = false;
            for decision in next(&record.plan, &steps, record.cancel_requested, now) {
                match decision {
                    Decision::Start(id) => {
                        let Some(spec) = specs.get(&id) else { continue };
                        let Some(slot) = self.slots.take(&self.options.budget, spec.cost) else {
                            let alone = spec.cost.memory_mib > self.options.budget.memory_mib;
                            let why = if alone {
                                "waits to have this machine for itself"
                            } else {
                                "waits for a free place on this machine"
                            };
                            self.hold(&mut told, &id, why);
                            held.insert(id);
                            continue;
                        };
                        match self.begin(&record, spec, &steps, slot, tasks, running).await? {
                            Begun::Yes => {
                                told.remove(&id);
                                changed = true;
                            }
                            Begun::Gone => looked = None,
                            Begun::Held(why) => {
                                self.hold(&mut told, &id, &why);
                                held.insert(id.clone());
                            }
                        }
                        if let Some(step) = steps.get_mut(&id).filter(|_| running.contains_key(&id)) {
                            step.state = StepState::Running;
                        }
                    }
                    Decision::Skip(id, reason) => close.push((id, StepState::Skipped, reason)),
                    Decision::Cancel(id) => {
                        close.push((id, StepState::Cancelled, "cancelled before it began".to_owned()))
                    }
                    Decision::Become(to, reason) => state = (to, reason),
                    Decision::Sleep(_) => sleeps = true,
                }
            }
            if !close.is_empty() {
                self.store.step_close(run, &close).await?;
                for (id, ended, reason) in close {
                    if let Some(step) = steps.get_mut(&id) {
                        step.state = ended;
                        step.reason = Some(reason.clone());
                    }
                    self.tell(Progress::Step { id, state: ended, reason: Some(reason) });
                }
                continue;
            }
            if state.0 != record.state || (state.0 == RunState::Waiting && state.1 != record.reason) {
                // When another engine was quicker, its word is as good as ours.
                self.store.run_set_state(run, record.state, state.0, state.1.as_deref()).await?;
                let cancel_requested = record.cancel_requested;
                record = self.store.run_get(run).await?;
                record.cancel_requested |= cancel_requested;
                if record.state.is_final() {
                    return Ok(record);
                }
            }
            if record.state == RunState::Waiting && running.is_empty() && held.is_empty() && !changed && !sleeps {
                return Ok(record);
            }
            for step in steps.values().filter(|s| sleeps && s.state == StepState::Waiting && s.not_before.is_some()) {
                self.hold(&mut told, &step.id, step.reason.as_deref().unwrap_or("waits"));
            }
            if changed {
                continue;
            }
            tokio::select! {
                Some(finished) = tasks.join_next() => self.finished(finished, &mut steps, running, run, &specs).await?,
                () = tokio::time::sleep(POLL) => {}
            }
            while let Some(finished) = tasks.try_join_next() {
                self.finished(finished, &mut steps, running, run, &specs).await?;
            }
        }
    }

    /// Brings `steps` up to date with what is recorded. An output does not change within an epoch: only new ones are read.
    async fn look(&self, run: &RunId, steps: &mut Steps) -> Result<(), StoreError> {
        if steps.is_empty() {
            *steps = self.store.step_list(run).await?.into_iter().map(|s| (s.id.clone(), s)).collect();
            return Ok(());
        }
        for mut found in self.store.step_list_brief(run).await? {
            let known =
                steps.get_mut(&found.id).filter(|known| (known.state, known.epoch) == (found.state, found.epoch));
            if let Some(known) = known {
                found.output = known.output.take();
            } else if found.state == StepState::Succeeded {
                found = self.store.step_get(run, &found.id).await?;
            }
            steps.insert(found.id.clone(), found);
        }
        Ok(())
    }

    fn hold(&self, told: &mut HashMap<StepId, String>, id: &StepId, why: &str) {
        if told.insert(id.clone(), why.to_owned()).as_deref() != Some(why) {
            self.tell(Progress::Held { id: id.clone(), why: why.to_owned() });
        }
    }

    async fn begin(
        &self,
        record: &RunRecord,
        spec: &StepSpec,
        steps: &Steps,
        slot: Slot,
        tasks: &mut JoinSet<Finished>,
        running: &mut HashMap<StepId, Running>,
    ) -> Result<Begun, StoreError> {
        if steps.get(&spec.id).is_some_and(|s| s.state == StepState::Waiting) {
            // Its time has come.
            self.store.step_wake(&record.id).await?;
        }
        let claim = match self.store.step_claim(&self.identity.id, &record.id, spec, micros(self.options.lease)).await?
        {
            ClaimResult::Claimed(claim) => claim,
            ClaimResult::Gone => return Ok(Begun::Gone),
            ClaimResult::Locked { name, by } => {
                return Ok(Begun::Held(format!("waits for {name}, held by run {} ({})", by.run, by.step)));
            }
        };
        let Some(executor) = self.executors.get(&spec.work.driver).cloned() else {
            let reason = format!("this release has no executor `{}`", spec.work.driver);
            self.store
                .step_finish(&claim, &StepOutcome::Failed { code: "WL615".into(), reason }, &[], Durability::Durable)
                .await?;
            return Ok(Begun::Gone);
        };
        let cancel = CancellationToken::new();
        let cx = self.context(record, spec, steps, claim.clone(), cancel.clone());
        running.insert(spec.id.clone(), Running { cancel: cancel.clone(), _slot: slot });
        self.tell(Progress::Step { id: spec.id.clone(), state: StepState::Running, reason: None });
        let (timeout, grace) =
            (spec.timeout.and_then(|t| u64::try_from(t).ok()).map(Duration::from_micros), self.options.grace);
        tasks.spawn(async move {
            let result = attempt(&cx, executor, timeout, grace).await;
            Finished { claim, result, log: cx.take_log().await }
        });
        Ok(Begun::Yes)
    }

    fn context(
        &self,
        record: &RunRecord,
        spec: &StepSpec,
        steps: &Steps,
        claim: Claim,
        cancel: CancellationToken,
    ) -> StepContext {
        let upstream = spec.after.iter().filter_map(|id| Some((id.clone(), steps.get(id)?.output.clone()?))).collect();
        let states = spec.after.iter().filter_map(|id| Some((id.clone(), steps.get(id)?.state))).collect();
        StepContext::new(
            self.store.clone(),
            claim,
            spec.work.input.clone(),
            record.plan.input.clone(),
            upstream,
            states,
            cancel,
        )
    }

    /// Records how an attempt ended; a lost claim means that another engine decides.
    async fn finished(
        &self,
        finished: Result<Finished, tokio::task::JoinError>,
        steps: &mut Steps,
        running: &mut HashMap<StepId, Running>,
        run: &RunId,
        specs: &HashMap<StepId, StepSpec>,
    ) -> Result<(), StoreError> {
        let Finished { claim, result, log } = match finished {
            Ok(finished) => finished,
            // Panics are caught inside; what is left is a runtime that is going down.
            Err(_) => return Ok(()),
        };
        running.remove(&claim.step);
        let now = self.store.now().await?;
        let outcome = outcome(result, specs.get(&claim.step), &claim, now);
        let durability = specs.get(&claim.step).map_or(Durability::Durable, |spec| Durability::of(spec.repeat));
        let fresh: StepRecord = match store_firmly(&self.store, &claim, &outcome, &log, durability).await {
            Ok(fresh) => fresh,
            Err(StoreError::StaleClaim { .. }) => {
                // What it said is part of its attempt's log all the same.
                if !log.is_empty() {
                    self.store.log_append(run, &claim.step, claim.attempt, &log).await?;
                }
                self.store.step_get(run, &claim.step).await?
            }
            Err(error) => return Err(error),
        };
        self.tell(Progress::Step { id: fresh.id.clone(), state: fresh.state, reason: fresh.reason.clone() });
        steps.insert(fresh.id.clone(), fresh);
        Ok(())
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

enum Begun {
    Yes,
    Gone,
    Held(String),
}

struct Finished {
    claim: Claim,
    result: StepResult,
    /// The last of its log, which is not written yet.
    log: Vec<u8>,
}

fn outcome(result: StepResult, spec: Option<&StepSpec>, claim: &Claim, now: windlass_model::Micros) -> StepOutcome {
    match result {
        StepResult::Succeeded(value) => StepOutcome::Succeeded(value),
        StepResult::Wait { reason, until } => StepOutcome::Waiting { reason, until },
        StepResult::Cancelled => StepOutcome::Cancelled,
        StepResult::Unknown(reason) => StepOutcome::Unknown { reason },
        StepResult::Failed(failure) => {
            let again = spec.filter(|_| failure.retryable).and_then(|spec| retry_at(&spec.retry, claim.attempt, now));
            match again {
                Some(at) => StepOutcome::Again { reason: failure.message, at },
                None => StepOutcome::Failed { code: failure.code, reason: failure.message },
            }
        }
    }
}

/// A result that cannot be written is tried again for a while: the work is done, and forgetting it would do it twice.
async fn store_firmly(
    store: &Store,
    claim: &Claim,
    outcome: &StepOutcome,
    log: &[u8],
    durability: Durability,
) -> Result<StepRecord, StoreError> {
    let mut wait = Duration::from_millis(50);
    loop {
        match store.step_finish(claim, outcome, log, durability).await {
            Err(error) if error.retryable() && wait < Duration::from_secs(4) => {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            result => return result,
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
    match tokio::time::timeout(grace, &mut task).await {
        Ok(ended) if timed_out => match unpanicked(ended) {
            // It was done before it noticed.
            done @ StepResult::Succeeded(_) => done,
            _ => StepResult::Failed(StepFailure {
                code: "WL616".into(),
                message: "it took longer than its time limit".into(),
                retryable: true,
            }),
        },
        Ok(ended) => unpanicked(ended),
        Err(_) => {
            task.abort();
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
