//! Driving all runs there are, until told to stop.

use crate::Engine;
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_model::id::RunId;
use windlass_model::run::RunRecord;
use windlass_store::StoreError;

/// Is told what becomes of runs.
#[async_trait]
pub trait Watcher: Send + Sync {
    /// It has ended, or waits for something that only a person can give; whether it was this engine that recorded its end.
    async fn settled(&self, run: &RunRecord, ended_here: bool);
    /// The store failed; it is looked at again.
    fn failed(&self, run: &RunId, error: &StoreError);
}

/// How often it is looked for runs without having been woken: of other servers, and such whose time has come.
const LOOK: Duration = Duration::from_millis(500);

/// How often every run is looked at that has not ended, whatever it waits for: an engine that died may have held one back for a
/// reason that nobody else knows.
const ALL: Duration = Duration::from_secs(300);

/// How many runs one engine drives at once.
const RUNS: u32 = 200;

impl Engine {
    /// Drives every run in which something is to be done, of all projects, until `stop` is cancelled. Then nothing more is begun,
    /// and what is under way may end within `drain`: whether all of it did. What did not is left as by a process that dies, which
    /// is for the next engine to recover: the caller should end this process.
    pub async fn serve(&self, stop: CancellationToken, drain: Duration, watcher: Arc<dyn Watcher>) -> bool {
        let engine = Self { drain: stop.child_token(), serves: true, ..self.clone() };
        let driven: Arc<Mutex<HashSet<RunId>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let mut changes = engine.store.changes();
        let mut all = None::<Instant>;
        while !stop.is_cancelled() {
            let work = changes.borrow_and_update().work;
            // A database that is away comes back, and is asked again.
            let found = if all.is_none_or(|at| at.elapsed() >= ALL) {
                engine.store.run_unended().await.inspect(|_| all = Some(Instant::now()))
            } else {
                engine.store.run_ready(RUNS).await
            };
            for run in found.unwrap_or_default() {
                if !driven.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone()) {
                    continue;
                }
                let (engine, driven, watcher) = (engine.clone(), driven.clone(), watcher.clone());
                tasks.spawn(async move {
                    match engine.settle(&run).await {
                        Ok((record, ended_here)) => watcher.settled(&record, ended_here).await,
                        Err(error) => watcher.failed(&run, &error),
                    }
                    driven.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
                });
            }
            while tasks.try_join_next().is_some() {}
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
                Some(_) = tasks.join_next() => {}
                // Whoever keeps the sender keeps the store.
                _ = changes.wait_for(|now| now.work != work) => {}
            }
        }
        let ended = tokio::time::timeout(drain, async { while tasks.join_next().await.is_some() {} }).await;
        // To cancel it would be an end of its own, such as a half-done apply.
        tasks.detach_all();
        ended.is_ok()
    }
}
