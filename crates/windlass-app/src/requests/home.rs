//! What needs somebody: the first page.

use super::operations::view;
use super::records::summary;
use super::run_view::{ReviewFilter, ReviewListed, chosen, review_find, run_find};
use super::stacks_view::{State, States, states};
use super::visible::Visible;
use crate::caller::Caller;
use crate::drift::Looked;
use crate::error::{AppResult, ErrorKind};
use crate::installation::Installation;
use std::collections::HashSet;
use windlass_model::access::Rules;
use windlass_model::change::ChangeFilter;
use windlass_model::drift::Record;
use windlass_model::id::RunId;
use windlass_model::journal::Quarantine;
use windlass_model::operation::plan::KIND;
use windlass_model::run::RunState;
use windlass_store::{ChangeRow, ReviewState, RunQuery, RunSummary};

/// Everything that waits for somebody.
pub struct Needs {
    pub projects: Vec<Visible>,
    /// Teams that the caller belongs to, with the names of their projects.
    pub teams: Vec<(String, String)>,
    pub approvals: Vec<ReviewListed>,
    /// With the name of the project; so below.
    pub quarantines: Vec<(String, Quarantine)>,
    /// Runs of operations that ask the caller, with what.
    pub asked: Vec<(RunSummary, String)>,
    /// Failed in the last days; of operations those that the caller may run.
    pub failures: Vec<RunSummary>,
    /// With why.
    pub waiting: Vec<(RunSummary, String)>,
    /// Longest first.
    pub drift: Vec<(String, Looked)>,
    /// What drifted, of the first of them.
    pub drift_records: Vec<Record>,
    /// Changes of a forge that were merged and are not applied.
    pub merged: Vec<ChangeRow>,
    /// Reviews of commits that were merged without one, and were never applied.
    pub unapplied: Vec<ReviewListed>,
    pub stacks: usize,
}

/// How many of each are shown.
pub const SHOWN: usize = 5;
/// How many of each are counted.
const COUNTED: u32 = 100;
/// How many runs are asked what they ask, and how many questions of each.
const LOOKED_AT: usize = 20;
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
    let (waits, asked) = asking(installation, caller, waits).await?;
    let failed = run_find(installation, caller, project, &failed, COUNTED).await?;
    let mut needs = Needs {
        asked,
        approvals: review_find(installation, caller, project, &open, COUNTED as usize).await?.0,
        unapplied: review_find(installation, caller, project, &unapplied, COUNTED as usize).await?.0,
        waiting: waits,
        failures: of_caller(installation, caller, failed).await?,
        quarantines: Vec::new(),
        drift: Vec::new(),
        drift_records: Vec::new(),
        merged: Vec::new(),
        stacks: 0,
        teams: Vec::new(),
        projects: Vec::new(),
    };
    let admins = installation.admins();
    for one in &projects {
        let store = installation.store(caller, one.name());
        needs.merged.extend(store.change_list(Some(ChangeFilter::Unapplied), None, COUNTED).await?);
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
    let of_changes: HashSet<&RunId> =
        needs.merged.iter().filter_map(|row| row.known.review.as_ref()).map(|review| &review.run).collect();
    needs.unapplied.retain(|one| !of_changes.contains(&one.row.review.run));
    needs.drift.sort_by_key(|(_, looked)| looked.since);
    for (project, looked) in needs.drift.iter().take(SHOWN) {
        let instance = std::slice::from_ref(&looked.instance);
        needs.drift_records.extend(super::stacks_view::drift_records(installation, caller, project, instance).await?);
    }
    needs.projects = projects;
    Ok(needs)
}

/// Those of `waits` that ask others or nobody, and those that ask the caller.
async fn asking(
    installation: &Installation,
    caller: &Caller,
    waits: Vec<(RunSummary, String)>,
) -> AppResult<(Vec<(RunSummary, String)>, Vec<(RunSummary, String)>)> {
    let (mut others, mut own, mut looked) = (Vec::new(), Vec::new(), 0);
    for (run, why) in waits {
        if run.kind != KIND || looked == LOOKED_AT {
            others.push((run, why));
            continue;
        }
        looked += 1;
        let store = &installation.common.store;
        let record = store.run_planned(&run.id).await?;
        let steps = super::run_view::open(store, &record, &store.step_tally(&run.id).await?).await?;
        let input = super::operations::input(&record)?;
        let asks = view::asks(installation, caller, &record, &input, &steps, LOOKED_AT).await?;
        match asks.into_iter().find(|ask| ask.is_open && ask.why_not.is_none()) {
            Some(ask) => own.push((run, ask.step.reason.unwrap_or(why))),
            None => others.push((run, why)),
        }
    }
    Ok((others, own))
}

/// Without runs of operations that the caller may not run.
async fn of_caller(installation: &Installation, caller: &Caller, runs: Vec<RunSummary>) -> AppResult<Vec<RunSummary>> {
    let mut found = Vec::new();
    for run in runs {
        if run.kind == KIND {
            let record = installation.common.store.run_planned(&run.id).await?;
            // Without good definitions nobody may anything, and hears of all.
            if installation.good(&run.project).is_ok() && view::may_run(installation, caller, &record).await?.is_some()
            {
                continue;
            }
        }
        found.push(run);
    }
    Ok(found)
}

impl Needs {
    fn take(&mut self, project: &str, known: States) {
        let drifted: Vec<Looked> =
            known.looked.values().filter(|looked| known.of(&looked.instance) == State::Drifted).cloned().collect();
        self.drift.extend(drifted.into_iter().map(|looked| (project.to_owned(), looked)));
        self.quarantines.extend(known.quarantines.into_values().map(|one| (project.to_owned(), one)));
    }
}
