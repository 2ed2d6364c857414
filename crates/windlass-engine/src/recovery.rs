//! What a dead engine left: its children are ended, then each attempt is repeated, checked or declared unknown.

use crate::context::{Executor, Probe, StepContext};
use crate::{Engine, EngineOptions, host, micros};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_model::id::{RunId, StepId};
use windlass_model::planner::Planner;
use windlass_model::run::{Repeat, RunRecord, StepRecord, StepSpec, Stop};
use windlass_store::{Claim, Durability, EngineIdentity, Lost, StepOutcome, Store, StoreError};

/// After this many attempts that took their engine with them, a step is not tried again by itself.
const POISON: u32 = 3;

/// Recovers every attempt whose engine is gone. The processes of the old attempt are dead before anything else happens. Where
/// the work must not be torn (a checkable step) they may finish it: for those of `run` that is waited for, those of other runs
/// are left to it. `running` are the running steps of all projects that nobody here owns; whether any of them was recovered
/// comes back.
pub(crate) async fn recover(
    engine: &Engine,
    running: &[Lost],
    run: &RunId,
    mut waits: impl FnMut(&StepId),
) -> Result<bool, StoreError> {
    let Engine { store, identity: own, executors, options, .. } = engine;
    let mut any = false;
    for lost in running {
        if !is_lost(lost, own) {
            continue;
        }
        let record = store.run_get(&lost.claim.run).await?;
        // Whether it happened is asked where it would have been done: others do not reach what it works on.
        if record.plan.steps.iter().any(|step| step.id == lost.claim.step && !options.take(step)) {
            continue;
        }
        let attempt = Attempt::new(store, executors, &record, &lost.claim);
        let finishing = attempt.is_finishing(store).await?;
        if finishing && lost.claim.run != *run {
            continue;
        }
        // Until its end is recorded; what fails in between is found again.
        let _owned = engine.shared.owned.own(&lost.claim.run, &lost.claim.step);
        let Some(claim) =
            store.step_take_over(&own.id, &lost.claim, micros(options.lease.max(options.grace) * 2)).await?
        else {
            continue;
        };
        any = true;
        let store = &store.of_project(&record.project);
        let attempt = Attempt::new(store, executors, &record, &claim);
        if finishing {
            waits(&claim.step);
            attempt.finish(store, own, options).await?;
        }
        crate::end_processes(store, &claim.run, &claim.step, options.grace).await?;
        let outcome = match attempt.end(options.grace).await {
            Ok(()) => settle(store, executors, &claim).await?,
            // Nothing is done again while the old attempt may be at it.
            Err(why) => StepOutcome::Unknown { reason: format!("what it had started may live on: {why}") },
        };
        match store.step_finish(&claim, &outcome, &[], Durability::Durable).await {
            Ok(_) | Err(StoreError::StaleClaim { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(any)
}

/// How long it may be that nobody can say whether an attempt lives.
const SILENCE: Duration = Duration::from_secs(60);

/// An attempt without an engine.
struct Attempt<'a> {
    record: &'a RunRecord,
    spec: Option<&'a StepSpec>,
    /// Who knows what it left elsewhere.
    executor: Option<&'a Arc<dyn Executor>>,
    cx: StepContext,
}

impl<'a> Attempt<'a> {
    fn new(
        store: &Store,
        executors: &'a HashMap<String, Arc<dyn Executor>>,
        record: &'a RunRecord,
        claim: &Claim,
    ) -> Self {
        let spec = record.plan.steps.iter().find(|step| step.id == claim.step);
        let input = spec.map(|spec| spec.work.input.clone()).unwrap_or_default();
        let cx = StepContext::new(store.clone(), claim.clone(), input, record.plan.input.clone());
        Self { record, spec, executor: spec.and_then(|spec| executors.get(&spec.work.driver)), cx }
    }

    async fn lives_elsewhere(&self) -> Result<bool, String> {
        match self.executor {
            Some(executor) => executor.lives(&self.cx).await,
            None => Ok(false),
        }
    }

    async fn end(&self, grace: Duration) -> Result<(), String> {
        match self.executor {
            Some(executor) => executor.end(&self.cx, grace).await,
            None => Ok(()),
        }
    }

    /// Whether it is of a step that must not be torn, nobody wants it cancelled, and something of it lives, as far as can be
    /// told.
    async fn is_finishing(&self, store: &Store) -> Result<bool, StoreError> {
        let checkable = self.spec.is_some_and(|spec| spec.repeat == Repeat::Checkable);
        if !checkable || self.spec.is_some_and(|spec| is_stopped(spec, self.record.stop())) {
            return Ok(false);
        }
        let here = store.process_list(&self.cx.run, &self.cx.step).await?.iter().any(host::lives);
        Ok(here || self.lives_elsewhere().await.unwrap_or(true))
    }

    /// Waits until all of it has ended, somebody cancels the run, or its time is over.
    async fn finish(&self, store: &Store, own: &EngineIdentity, options: &EngineOptions) -> Result<(), StoreError> {
        let (run, step) = (&self.cx.run, &self.cx.step);
        let timeout = self.spec.and_then(|spec| spec.timeout);
        let started = store.step_get(run, step).await?.started_at.unwrap_or(self.record.created_at);
        let mut silent_since = None;
        loop {
            let here = store.process_list(run, step).await?.iter().any(host::lives);
            let elsewhere = self.lives_elsewhere().await;
            match &elsewhere {
                Ok(_) => silent_since = None,
                Err(_) => drop(silent_since.get_or_insert_with(Instant::now)),
            }
            let silent = silent_since.is_some_and(|since| since.elapsed() > SILENCE);
            if !here && (silent || elsewhere == Ok(false)) {
                return Ok(());
            }
            let late = timeout.zip(Some(store.now().await?)).is_some_and(|(timeout, now)| now - started > timeout);
            let stop = store.run_stop_requested(run).await?;
            if late || self.spec.is_some_and(|spec| is_stopped(spec, stop)) {
                return Ok(());
            }
            store.engine_heartbeat(&own.id, micros(options.lease)).await?;
            tokio::time::sleep(crate::POLL).await;
        }
    }
}

/// Whether what was asked for is meant for this step: a cancel does not stop what takes back.
fn is_stopped(spec: &StepSpec, stop: Stop) -> bool {
    match stop {
        Stop::No => false,
        Stop::Cancel => spec.flow.phase.is_main(),
        Stop::Kill => true,
    }
}

fn is_lost(lost: &Lost, own: &EngineIdentity) -> bool {
    match &lost.engine {
        // Nobody here has it, or it would not be asked about.
        Some(engine) if engine.id == own.id => true,
        // A process that is gone does not come back; there is no need to wait for its lease.
        Some(engine) => lost.expired || host::is_gone(engine),
        None => lost.expired,
    }
}

async fn settle(
    store: &Store,
    executors: &HashMap<String, Arc<dyn Executor>>,
    claim: &Claim,
) -> Result<StepOutcome, StoreError> {
    let record = store.run_get(&claim.run).await?;
    let Some(spec) = record.plan.steps.iter().find(|s| s.id == claim.step) else {
        return Ok(StepOutcome::Failed { code: "WL999".into(), reason: "the plan has no such step".into() });
    };
    if claim.attempt >= POISON {
        let reason = format!("its engine died during each of {} attempts", claim.attempt);
        return Ok(StepOutcome::Unknown { reason });
    }
    let stopped = is_stopped(spec, record.stop());
    if stopped && spec.repeat == Repeat::Idempotent {
        return Ok(StepOutcome::Cancelled);
    }
    let now = store.now().await?;
    let again = StepOutcome::Again { reason: "its engine died; it is done again".into(), at: now };
    Ok(match spec.repeat {
        Repeat::Idempotent => again,
        Repeat::Once => StepOutcome::Unknown {
            reason: "its engine died while it was under way, and it must not be done twice".into(),
        },
        Repeat::Checkable => {
            let Some(executor) = executors.get(&spec.work.driver) else {
                return Ok(StepOutcome::Unknown {
                    reason: format!("this release has no executor `{}`", spec.work.driver),
                });
            };
            let mut steps: HashMap<StepId, StepRecord> =
                store.step_list(&claim.run).await?.into_iter().map(|step| (step.id.clone(), step)).collect();
            let known = record.plan.steps.iter().filter_map(|spec| Some((spec.clone(), steps.remove(&spec.id)?)));
            let run = Planner::new(record.plan.timeout, known);
            let (input, run_input) = (spec.work.input.clone(), record.plan.input.clone());
            let cx = StepContext::new(store.clone(), claim.clone(), input, run_input).seeing(&run, spec);
            let probe = executor.probe(&cx).await;
            let (mask, log) = (cx.mask().await, cx.take_log().await);
            if !log.is_empty() {
                // What it said is worth less than what it found.
                let _ = store.log_append(&claim.run, &claim.step, claim.attempt, &log).await;
            }
            match probe {
                Probe::Done(value) => StepOutcome::Succeeded(value),
                Probe::Repeat if stopped => StepOutcome::Cancelled,
                Probe::Repeat => again,
                Probe::Unsettled(reason) => StepOutcome::Unknown { reason: mask.text(&reason) },
            }
        }
    })
}
