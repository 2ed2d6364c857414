//! The executors of a server: each hands a step to that of the project and the commit which its run is of.

use crate::error::AppResult;
use crate::installation::{Installation, Workspace, is_full};
use crate::traces;
use async_trait::async_trait;
use opentelemetry::trace::FutureExt;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_engine::{Engine, EngineOptions, Executor, Probe, StepContext, StepResult, Watcher};
use windlass_model::Micros;
use windlass_model::id::RunId;
use windlass_model::review::Revision;
use windlass_model::run::{Labels, RunRecord};
use windlass_store::{Store, StoreError, WorkerRow};

/// What all runs have in common that work on files of a commit.
#[derive(Deserialize)]
struct OfCommit {
    head: Revision,
}

/// Is told what a person who keeps the server should know about a run.
type Tell = dyn Fn(&RunId, &str) + Send + Sync;

/// Runs of all projects of an installation.
struct Anywhere {
    installation: Arc<Installation>,
    /// Of runs that are driven here now.
    workspaces: Mutex<HashMap<RunId, Workspace>>,
    failed: Box<Tell>,
}

/// How long a worker counts as alive after it said so, and how often it says so.
const ALIVE: Micros = 30_000_000;
const TELL: Duration = Duration::from_secs(10);

/// Before what could not begin is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Before it is looked again for room for the files of a run.
const ROOM: Duration = Duration::from_secs(3);

/// Drives runs of all projects in this process, as far as the labels of their steps let it, until `stop` is cancelled; whether what
/// was under way ended within `drain`.
pub async fn work(
    installation: Arc<Installation>,
    labels: Labels,
    stop: CancellationToken,
    drain: Duration,
    failed: impl Fn(&RunId, &str) + Send + Sync + 'static,
) -> bool {
    let store = installation.common.store.clone();
    let anywhere = Arc::new(Anywhere { installation, workspaces: Mutex::default(), failed: Box::new(failed) });
    let (engine, worker) = loop {
        match anywhere.begin(&labels).await {
            Ok(begun) => break begun,
            // A server without an engine would take runs that nobody drives.
            Err(error) => tracing::error!(%error, "nothing is driven yet: it is tried again"),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.cancelled() => return true,
        }
    };
    let telling = tokio::spawn(tell(store.clone(), worker.clone(), stop.clone()));
    let drained = engine.serve(stop, drain, anywhere).await;
    telling.abort();
    // What it says of itself ends by itself when this is not told.
    let _ = store.worker_end(&worker.id).await;
    drained
}

/// Says again and again that the worker lives, and once stopped that it begins nothing more.
async fn tell(store: Store, mut worker: WorkerRow, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TELL) => {}
            () = stop.cancelled(), if !worker.draining => worker.draining = true,
        }
        // A database that is away comes back; until then it does not count as alive.
        let _ = store.worker_tell(&worker, ALIVE).await;
    }
}

impl Anywhere {
    /// An engine, and what is told of it: both are known to the others.
    async fn begin(self: &Arc<Self>, labels: &Labels) -> Result<(Engine, WorkerRow), StoreError> {
        let common = &self.installation.common;
        let options =
            EngineOptions { lease: common.settings.lease, labels: Some(labels.clone()), ..EngineOptions::default() };
        let engine = Engine::start(common.store.clone(), self.executors(), options).await?;
        let worker = WorkerRow {
            id: engine.id().to_owned(),
            host: engine.id().split('/').next().unwrap_or_default().to_owned(),
            labels: labels.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: false,
            started_at: common.store.now().await?,
            seen_at: 0,
        };
        common.store.worker_tell(&worker, ALIVE).await?;
        Ok((engine, worker))
    }

    /// By the names of drivers.
    fn executors(self: &Arc<Self>) -> HashMap<String, Arc<dyn Executor>> {
        let one = |driver: &&str| {
            let executor: Arc<dyn Executor> = Arc::new(Handed { anywhere: self.clone(), driver: (*driver).to_owned() });
            ((*driver).to_owned(), executor)
        };
        super::DRIVERS.iter().map(one).collect()
    }

    async fn workspace(&self, run: &RunId) -> AppResult<Workspace> {
        let known = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned();
        if let Some(workspace) = known {
            return Ok(workspace);
        }
        let record = self.installation.common.store.run_get(run).await?;
        let input: OfCommit = super::input(&record.plan.input)?;
        self.installation.workspace_of_run(&record.project, &input.head, run).await
    }

    /// Keeps the files of a run that is driven here from one step to the next.
    fn keep(&self, run: &RunId, workspace: &Workspace) {
        let mut workspaces = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        workspaces.entry(run.clone()).or_insert_with(|| workspace.clone());
    }

    /// Gives back the files of a run that is not driven here any more; it gets them anew when it goes on.
    fn leave(&self, run: &RunId) {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }

    async fn end(&self, run: &RunRecord) -> AppResult<()> {
        if run.state.is_final() {
            let workspace = self.workspace(&run.id).await?;
            crate::runs::run_end(&workspace.service, &run.id).await?;
        }
        Ok(())
    }

    /// Sends the trace of a run that ended, where traces are sent and its is among them.
    async fn trace(&self, run: &RunRecord) -> AppResult<()> {
        let traces = self.installation.traces.as_deref();
        if let Some(traces) = traces.filter(|traces| traces.is_sampled(traces::trace_id(&run.id))) {
            traces.send(&traces::run_trace(&self.installation.common.store, run).await?);
        }
        Ok(())
    }
}

#[async_trait]
impl Watcher for Anywhere {
    async fn settled(&self, run: &RunRecord, ended_here: bool) {
        if let Err(error) = self.end(run).await {
            (self.failed)(&run.id, &error.to_string());
        }
        // Of several servers that followed it one sends its trace.
        if ended_here && let Err(error) = self.trace(run).await {
            (self.failed)(&run.id, &format!("its trace cannot be read: {error}"));
        }
        self.leave(&run.id);
    }

    fn failed(&self, run: &RunId, error: &StoreError) {
        (self.failed)(run, &error.to_string());
        // It may be another server that goes on with it.
        self.leave(run);
    }
}

struct Handed {
    anywhere: Arc<Anywhere>,
    driver: String,
}

impl Handed {
    fn executor(&self, workspace: &Workspace) -> AppResult<Arc<dyn Executor>> {
        super::executors(&workspace.service)
            .remove(&self.driver)
            .ok_or_else(|| crate::error::internal(format!("no executor `{}`", self.driver)))
    }
}

#[async_trait]
impl Executor for Handed {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        let work = async {
            match self.anywhere.workspace(&cx.run).await.and_then(|files| Ok((self.executor(&files)?, files))) {
                Ok((executor, files)) => {
                    self.anywhere.keep(&cx.run, &files);
                    cx.hide(self.anywhere.installation.common.hidden.all()).await;
                    executor.execute(cx).await
                }
                // Runs that have their files end, and give them back.
                Err(error) if is_full(&error) => StepResult::Again { reason: error.to_string(), after: ROOM },
                Err(error) => super::failed(error),
            }
        };
        match &self.anywhere.installation.traces {
            Some(traces) => work.with_context(traces::within(&**traces, &cx.run, &cx.step, cx.attempt)).await,
            None => work.await,
        }
    }

    async fn probe(&self, cx: &StepContext) -> Probe {
        // Of a run that may be driven elsewhere: nothing is kept for it.
        match self.anywhere.workspace(&cx.run).await.and_then(|files| Ok((self.executor(&files)?, files))) {
            Ok((executor, _files)) => {
                cx.hide(self.anywhere.installation.common.hidden.all()).await;
                executor.probe(cx).await
            }
            Err(error) => Probe::Unsettled(error.to_string()),
        }
    }

    async fn lives(&self, cx: &StepContext) -> Result<bool, String> {
        let files = self.anywhere.workspace(&cx.run).await.map_err(|error| error.to_string())?;
        super::elsewhere::lives(&files.service, cx).await
    }

    async fn end(&self, cx: &StepContext, grace: Duration) -> Result<(), String> {
        let files = self.anywhere.workspace(&cx.run).await.map_err(|error| error.to_string())?;
        super::elsewhere::end(&files.service, &cx.run_input, &cx.input, &cx.token, grace).await
    }
}
