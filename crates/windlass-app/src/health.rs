//! How the installation is: read from the same record that lists and pages show, for metrics, probes and people.

use crate::error::AppResult;
use crate::housekeeping::Stored;
use crate::installation::Installation;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use windlass_model::Micros;
use windlass_model::planner::{Situation, next};
use windlass_model::run::{Decision, RunRecord, RunState, StepSpec, StepState, Steps};
use windlass_store::{NotifierRow, RunWait, StepQuery, Store, StuckStep, WaitClass, WorkerRow};

/// Runs that wait are looked at one by one up to this many; the newest beyond that are not counted by what they wait for.
const WAITS: u32 = 10_000;
/// Of so many runs that wait for a place, the labels of their steps are compared with those of workers.
const LABELLED: usize = 200;
/// What should have begun so long ago is late, µs.
const LATE: Micros = 60_000_000;

/// Everything that metrics tell of the installation as a whole, at one time.
#[derive(Debug, Clone)]
pub struct Readings {
    /// The database's time.
    pub at: Micros,
    /// How long the database took to answer one question.
    pub database: Duration,
    /// Runs that have not ended: project, kind, state, how many.
    pub runs: Vec<(String, String, RunState, i64)>,
    /// Steps of runs that have not ended.
    pub steps: Vec<(String, String, StepState, i64)>,
    /// Runs of which nothing is under way, and what each waits for.
    pub waits: Vec<RunWait>,
    pub stuck: Vec<StuckStep>,
    pub workers: Vec<WorkerRow>,
    /// When the newest seal over the record was made.
    pub sealed: Option<Micros>,
    /// What steps left, by kind, as it was found last.
    pub stored: BTreeMap<String, Stored>,
    pub repositories: Vec<RepositoryHealth>,
    pub notifiers: Vec<NotifierRow>,
}

/// A followed repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepositoryHealth {
    pub project: String,
    pub branch: String,
    /// The commit whose definitions are in force; empty before the first good one.
    pub commit: String,
    /// The last fetch that worked, µs.
    pub fetched: Option<Micros>,
    /// Fetches that failed, one after another, since then.
    pub failures: u32,
    /// Whether the newest commit's definitions are wrong.
    pub is_bad: bool,
}

impl Readings {
    /// Reads all of it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take(installation: &Installation) -> AppResult<Self> {
        let store = &installation.common.store;
        let began = Instant::now();
        let at = store.now().await?;
        let database = began.elapsed();
        let workers = store.worker_list().await?;
        let mut waits = store.run_waits(WAITS).await?;
        for wait in waits.iter_mut().filter(|wait| wait.class == WaitClass::Place).take(LABELLED) {
            if unserved(store, &store.run_planned(&wait.run).await?, &workers).await?.is_some() {
                wait.class = WaitClass::Worker;
            }
        }
        Ok(Self {
            at,
            database,
            runs: store.run_count(Micros::MAX).await?,
            steps: store.step_count().await?,
            waits,
            stuck: store.step_stuck().await?,
            workers,
            sealed: store.seal_last().await?.map(|seal| seal.at),
            stored: crate::housekeeping::stored(store).await?,
            repositories: repositories(installation),
            notifiers: store.of_project("").notifier_list().await?,
        })
    }

    /// How many runs wait, by project, kind and what for.
    pub fn waiting(&self) -> BTreeMap<(&str, &str, WaitClass), i64> {
        let mut counts = BTreeMap::new();
        for wait in &self.waits {
            *counts.entry((wait.project.as_str(), wait.kind.as_str(), wait.class)).or_default() += 1;
        }
        counts
    }

    /// Runs that should have begun or gone on more than a minute ago.
    pub fn late(&self) -> impl Iterator<Item = &RunWait> {
        self.waits.iter().filter(|wait| self.at - ready_since(wait) > LATE && is_queued(wait))
    }

    /// How long the run that waits longest for a place or a worker does so, µs; 0 when none does.
    pub fn queue_age(&self) -> Micros {
        let ages = self.waits.iter().filter(|wait| is_queued(wait)).map(|wait| self.at - ready_since(wait));
        ages.max().unwrap_or(0)
    }
}

/// Whether only a machine is missing.
fn is_queued(wait: &RunWait) -> bool {
    matches!(wait.class, WaitClass::Place | WaitClass::Worker)
}

fn ready_since(wait: &RunWait) -> Micros {
    wait.due.map_or(wait.created_at, |due| due.max(wait.created_at))
}

fn repositories(installation: &Installation) -> Vec<RepositoryHealth> {
    let list = installation.followed.list();
    let health = list.into_iter().map(|(repository, status)| RepositoryHealth {
        project: repository.name.clone(),
        branch: status.branch.clone().unwrap_or_default(),
        commit: status.good.as_ref().map_or_else(String::new, |good| good.commit.clone()),
        fetched: status.fetched.map(Timestamp::as_microsecond),
        failures: status.failure.as_ref().map_or(0, |failure| failure.count),
        is_bad: status.bad.is_some(),
    });
    health.collect()
}

/// Steps that are to begin of which it is looked at which worker they ask for.
const STEPS: u32 = 50;

/// Why a run waits that only lacks a worker, in one sentence: a step of it could begin, and none that lives has its labels.
///
/// # Errors
/// The database cannot be read.
pub async fn unserved(store: &Store, run: &RunRecord, workers: &[WorkerRow]) -> AppResult<Option<String>> {
    let served = |step: &StepSpec| workers.iter().any(|worker| !worker.draining && worker.labels.take(step));
    let is_no_matter = |step: &StepSpec| step.labels.is_empty() || served(step);
    if run.state.is_final() {
        return Ok(None);
    }
    // What was added together asks for the same: of very much, the first tells of all.
    let query = StepQuery { state: Some(StepState::Pending), ..StepQuery::default() };
    let added = store.step_find(&run.id, &query, STEPS).await?;
    if run.plan.steps.iter().chain(added.iter().filter_map(|step| step.spec.as_ref())).all(is_no_matter) {
        return Ok(None);
    }
    let run = &store.run_get(&run.id).await?;
    let steps: Steps = store.step_list_brief(&run.id).await?.into_iter().map(|step| (step.id.clone(), step)).collect();
    let now = store.now().await?;
    let missing = next(&run.plan, &steps, &Situation::of(run, now)).into_iter().find_map(|decision| {
        let Decision::Start(id) = decision else { return None };
        let step = run.plan.steps.iter().find(|step| step.id == id)?;
        (!step.labels.is_empty() && !served(step)).then_some((id, &step.labels))
    });
    Ok(missing.map(|(id, labels)| {
        let (noun, them) = if labels.len() == 1 { ("label", "it") } else { ("labels", "them") };
        let given: Vec<String> = labels.iter().map(|label| format!("--label {label}")).collect();
        format!(
            "{id} cannot begin: no worker with the {noun} `{}` is alive; start one that has {them}: `windlass worker {}`",
            labels.join("`, `"),
            given.join(" ")
        )
    }))
}

/// Whether the server can do what it is for.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    pub ready: bool,
    pub checks: Vec<ReadyCheck>,
    /// What somebody should look at, and is no reason to send people elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ReadyCheck {
    pub name: String,
    pub ready: bool,
    /// What is found, or what is missing; nothing that only people who are signed in should know.
    pub detail: String,
}

/// How long the database may take to answer before it counts as away.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks the database, and whether each repository was loaded once. A repository that cannot be fetched now, but has definitions in
/// force, is no reason to send people elsewhere.
pub async fn ready(installation: &Installation) -> Ready {
    let answered = tokio::time::timeout(ANSWER, installation.common.store.now()).await;
    let database = match answered {
        Ok(Ok(_)) => (true, "answers"),
        Ok(Err(_)) => (false, "cannot be read"),
        Err(_) => (false, "does not answer"),
    };
    let list = installation.followed.list();
    let missing = list.iter().filter(|(_, status)| status.good.is_none() && status.bad.is_none()).count();
    let repositories = match (list.len(), missing) {
        (all, 0) => (true, format!("{all} loaded")),
        (all, missing) => (false, format!("{missing} of {all} not loaded yet")),
    };
    let checks = vec![
        ReadyCheck { name: "database".into(), ready: database.0, detail: database.1.into() },
        ReadyCheck { name: "repositories".into(), ready: repositories.0, detail: repositories.1 },
    ];
    let warnings = installation.configured().warning().into_iter().collect();
    Ready { ready: checks.iter().all(|check| check.ready), checks, warnings }
}
