//! What needs somebody: the first page.

use super::records::summary;
use super::run_view::{ReviewFilter, ReviewListed, chosen, review_find, run_find};
use super::stacks_view::{State, States, states};
use super::visible::Visible;
use crate::caller::Caller;
use crate::drift::Looked;
use crate::error::{AppResult, ErrorKind};
use crate::installation::Installation;
use windlass_model::access::Rules;
use windlass_model::drift::Record;
use windlass_model::journal::Quarantine;
use windlass_model::run::RunState;
use windlass_store::{ReviewState, RunQuery, RunSummary};

/// Everything that waits for somebody.
pub struct Needs {
    pub projects: Vec<Visible>,
    /// Teams that the caller belongs to, with the names of their projects.
    pub teams: Vec<(String, String)>,
    pub approvals: Vec<ReviewListed>,
    /// With the name of the project; so below.
    pub quarantines: Vec<(String, Quarantine)>,
    /// Failed in the last days.
    pub failures: Vec<RunSummary>,
    /// With why.
    pub waiting: Vec<(RunSummary, String)>,
    /// Longest first.
    pub drift: Vec<(String, Looked)>,
    /// What drifted, of the first of them.
    pub drift_records: Vec<Record>,
    pub unapplied: Vec<ReviewListed>,
    pub stacks: usize,
}

/// How many of each are shown.
pub const SHOWN: usize = 5;
/// How many of each are counted.
const COUNTED: u32 = 100;
/// How long a failed run is news, µs: three days.
const NEWS: i64 = 3 * 86_400_000_000;

/// What needs somebody in all projects that the caller may see, or in one of them.
///
/// # Errors
/// The database cannot be read.
pub async fn needs(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Needs> {
    let now = installation.common.store.now().await?;
    let projects = chosen(installation, caller, project).await?;
    let waiting = RunQuery { state: Some(RunState::Waiting), active: true, ..RunQuery::default() };
    let failed = RunQuery { state: Some(RunState::Failed), since: Some(now - NEWS), ..RunQuery::default() };
    let open = ReviewFilter { states: vec![ReviewState::Open], waiting: true, ..ReviewFilter::default() };
    let unapplied = ReviewFilter {
        states: vec![ReviewState::Open, ReviewState::Approved],
        merged: true,
        ..ReviewFilter::default()
    };
    // What lacks a worker does so until somebody starts one; what waits otherwise goes on when its time has come.
    let unserved = super::workers::unserved(installation, &projects).await?;
    let mut waits: Vec<(RunSummary, String)> = unserved.into_iter().map(|(run, why)| (summary(run), why)).collect();
    let waiting = run_find(installation, caller, project, &waiting, COUNTED).await?;
    waits.extend(waiting.into_iter().map(|mut run| {
        let why = run.reason.take().unwrap_or_default();
        (run, why)
    }));
    let mut needs = Needs {
        approvals: review_find(installation, caller, project, &open, COUNTED as usize).await?.0,
        unapplied: review_find(installation, caller, project, &unapplied, COUNTED as usize).await?.0,
        waiting: waits,
        failures: run_find(installation, caller, project, &failed, COUNTED).await?,
        quarantines: Vec::new(),
        drift: Vec::new(),
        drift_records: Vec::new(),
        stacks: 0,
        teams: Vec::new(),
        projects: Vec::new(),
    };
    let admins = installation.admins();
    for one in &projects {
        let known = match states(installation, caller, one.name()).await {
            // Nothing good was fetched yet, which is told apart.
            Err(error) if error.kind == ErrorKind::Unavailable => continue,
            known => known?,
        };
        let rules = Rules::new(&known.good.deciding.definitions, &admins);
        let teams = rules.teams_of(&caller.actor).into_iter();
        needs.teams.extend(teams.map(|team| (one.name().to_owned(), team.to_owned())));
        needs.stacks += known.good.project.repository.stacks.len();
        needs.take(one.name(), known);
    }
    needs.drift.sort_by_key(|(_, looked)| looked.since);
    for (project, looked) in needs.drift.iter().take(SHOWN) {
        let instance = std::slice::from_ref(&looked.instance);
        needs.drift_records.extend(super::stacks_view::drift_records(installation, caller, project, instance).await?);
    }
    needs.projects = projects;
    Ok(needs)
}

impl Needs {
    fn take(&mut self, project: &str, known: States) {
        let drifted: Vec<Looked> =
            known.looked.values().filter(|looked| known.of(&looked.instance) == State::Drifted).cloned().collect();
        self.drift.extend(drifted.into_iter().map(|looked| (project.to_owned(), looked)));
        self.quarantines.extend(known.quarantines.into_values().map(|one| (project.to_owned(), one)));
    }
}
