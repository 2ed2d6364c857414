//! When schedules begin operations, and what became of it: for a calendar.

use crate::caller::Caller;
use crate::error::{AppResult, internal};
use crate::installation::Installation;
use crate::schedules::environment;
use std::collections::{BTreeMap, HashMap};
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_model::id::RunId;
use windlass_model::operation::plan::KIND;
use windlass_model::operation::trigger::Freeze;
use windlass_model::run::RunState;
use windlass_model::schedule::{LATE, Times, freeze_at};
use windlass_store::{RunFilter, RunSummary, ScheduleKey, StartKind, StartRow};

/// Starts of an operation that are looked at, and times of one schedule.
const STARTS: u32 = 2_000;
const TIMES: usize = 5_000;

/// What schedules do in a time.
pub struct Calendar {
    /// By time.
    pub times: Vec<Time>,
    /// Those that hold something back meanwhile.
    pub freezes: Vec<Freeze>,
    /// A schedule has more times than are looked at: this one, from then on.
    pub cut: Vec<(ScheduleKey, Micros)>,
    /// The project has a schedule at all.
    pub is_any: bool,
}

/// A due time of a schedule.
pub struct Time {
    pub operation: String,
    pub schedule: String,
    /// µs.
    pub due: Micros,
    pub what: What,
}

/// What became of a due time, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Comes,
    /// It will not begin: the schedule is paused then.
    Paused,
    /// A freeze of that name holds it back.
    Frozen(String),
    /// It began, so much after its time, µs, where that is late; the state of its run where that is not long ago.
    Began {
        run: RunId,
        late: Option<Micros>,
        state: Option<RunState>,
    },
    /// It was taken up and has not begun yet.
    Waits,
    /// It did not begin, for this reason.
    Missed(String),
}

/// Due times of the schedules of a project after `from` until `to`, µs.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn calendar(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    (from, to): (Micros, Micros),
) -> AppResult<Calendar> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let definitions = &good.deciding.definitions;
    let store = installation.store(caller, project);
    let (now, states) = (store.now().await?, store.schedule_list().await?);
    let overlaps = |freeze: &&Freeze| freeze.from < to && freeze.to > from;
    let freezes = definitions.freezes.iter().filter(overlaps).cloned().collect();
    let is_any = definitions.operations.iter().any(|operation| !operation.schedules.is_empty());
    let mut calendar = Calendar { times: Vec::new(), freezes, cut: Vec::new(), is_any };
    for operation in definitions.operations.iter().filter(|operation| !operation.schedules.is_empty()) {
        let starts = store.start_list(&operation.name, StartKind::Schedule, STARTS).await?;
        let by_due: BTreeMap<(&str, Micros), &StartRow> =
            starts.iter().map(|start| ((start.name.as_str(), start.due), start)).collect();
        let filter =
            RunFilter { kind: Some(KIND.to_owned()), subject: Some(operation.name.clone()), ..RunFilter::default() };
        let runs = store.run_search(&filter, STARTS).await?;
        let runs: HashMap<&RunId, &RunSummary> = runs.iter().map(|run| (&run.id, run)).collect();
        for schedule in operation.schedules.iter().filter(|schedule| schedule.enabled) {
            // It was read with the definitions.
            let times = Times::parse(&schedule.cron, &schedule.timezone).map_err(internal)?;
            let environment = environment(operation, schedule);
            let state = states
                .iter()
                .find(|state| state.key.operation == operation.name && state.key.schedule == schedule.name);
            for (number, due) in times.due_between(from, to).enumerate() {
                if number == TIMES {
                    let (operation, schedule) = (operation.name.clone(), schedule.name.clone());
                    calendar.cut.push((ScheduleKey { project: project.to_owned(), operation, schedule }, due));
                    break;
                }
                let pause = state.and_then(|state| state.pause.as_ref());
                let freeze = freeze_at(&definitions.freezes, environment.as_deref(), due);
                let what = if let Some(start) = by_due.get(&(schedule.name.as_str(), due)) {
                    became(start, &runs)
                } else if due > now && pause.is_some_and(|pause| due <= pause.until) {
                    What::Paused
                } else if let Some(freeze) = freeze {
                    What::Frozen(freeze.name.clone())
                } else if due > now {
                    What::Comes
                } else if state.is_some_and(|state| due > state.since && due <= state.seen) {
                    What::Missed("no server was there, or a pause held it back".to_owned())
                } else {
                    // Before it was there, or before it was looked at.
                    continue;
                };
                let (operation, schedule) = (operation.name.clone(), schedule.name.clone());
                calendar.times.push(Time { operation, schedule, due, what });
            }
        }
    }
    calendar.times.sort_by_key(|time| time.due);
    Ok(calendar)
}

fn became(start: &StartRow, runs: &HashMap<&RunId, &RunSummary>) -> What {
    match (&start.run, start.state.as_str()) {
        (Some(run), "started") => {
            let run_of = runs.get(run);
            let late = run_of.map(|run| run.created_at - start.at).filter(|late| *late > LATE);
            What::Began { run: run.clone(), late, state: run_of.map(|run| run.state) }
        }
        (_, "waiting" | "taken") => What::Waits,
        (_, state) => What::Missed(start.note.clone().unwrap_or_else(|| format!("it was {state}"))),
    }
}
