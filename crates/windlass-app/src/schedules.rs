//! The clock of a server: looks at schedules when something of them is due, and starts what is to be started by itself. Nothing is
//! looked at because time passes: what is due next stands in a queue. Several servers do the same side by side, and the record says
//! who was first.

pub(crate) mod begin;

pub use begin::{Asked, Itself, Planned, Starter};

use crate::error::{AppError, AppResult};
use crate::installation::{ITSELF, Installation};
use crate::project::Project;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_lang::expression;
use windlass_model::Micros;
use windlass_model::definition::Definitions;
use windlass_model::operation::OperationDefinition;
use windlass_model::operation::trigger::{Freeze, ScheduleDefinition};
use windlass_model::schedule::{Look, Times, decide, thaw};
use windlass_store::{Fire, NewStart, ScheduleKey, StartKind, Store};

/// The longest pause between two looks at the clock: it may have been set.
const LONGEST: Duration = Duration::from_secs(5);
/// Events come in crowds; what they announce is looked for once for all that come within this time.
const CROWD: Duration = Duration::from_millis(50);
/// Starts that are under way at once, and how long one belongs to the server that took it, µs.
const AT_ONCE: usize = 32;
const LEASE: Micros = 120_000_000;
/// Looks that go into one transaction.
const BATCH: usize = 256;
/// How long it is remembered what became of a start, µs: 90 days.
const REMEMBERED: Micros = 90 * 86_400_000_000;
const DAY: Micros = 86_400_000_000;

/// What is in force, by project: its commit and what that says.
pub type InForce = Vec<(String, String, Arc<Project>)>;

/// What the repositories that a server follows say now.
pub fn in_force(installation: &Installation) -> InForce {
    let good = |(repository, status): (crate::repositories::Repository, Arc<crate::repositories::Status>)| {
        let good = status.good.as_ref()?;
        Some((repository.name, good.commit.clone(), good.project.clone()))
    };
    installation.followed.list().into_iter().filter_map(good).collect()
}

/// A schedule that is looked after.
struct Entry {
    schedule: ScheduleDefinition,
    times: Times,
    freezes: Arc<[Freeze]>,
    /// Of what it starts.
    environment: Option<String>,
    /// Intervals without a success after which that is told.
    dead_man: Option<u32>,
    since: Micros,
    seen: Micros,
    /// When it is looked at next, as it stands in the queue.
    at: Option<Micros>,
}

/// What one server knows of schedules.
pub struct Clock {
    store: Store,
    in_force: Box<dyn Fn() -> InForce + Send + Sync>,
    commits: BTreeMap<String, String>,
    entries: BTreeMap<ScheduleKey, Entry>,
    queue: BTreeSet<(Micros, ScheduleKey)>,
    /// When it was looked at the clock last, and when old starts were forgotten.
    looked: Micros,
    swept: Micros,
}

/// The environment of an operation for what a schedule of it starts; where that is not known before it begins, `None`: then the run
/// itself waits for the freeze.
pub(crate) fn environment(operation: &OperationDefinition, schedule: &ScheduleDefinition) -> Option<String> {
    let mut arguments = BTreeMap::new();
    for parameter in &operation.parameters {
        let value = schedule.arguments.get(&parameter.name).or(parameter.default.as_ref());
        let known = crate::operations::scope(operation, &arguments);
        if let Some(value) = value.and_then(|value| expression::evaluate(value, &known).ok()) {
            arguments.insert(parameter.name.clone(), value);
        }
    }
    expression::text(operation.environment.as_ref()?, &crate::operations::scope(operation, &arguments)).ok()
}

fn entries_of(project: &str, definitions: &Definitions) -> Vec<(ScheduleKey, String, Entry)> {
    let freezes: Arc<[Freeze]> = definitions.freezes.clone().into();
    let mut found = Vec::new();
    for operation in &definitions.operations {
        for schedule in operation.schedules.iter().filter(|schedule| schedule.enabled) {
            // What cannot be read was refused when the definitions were.
            let Ok(times) = Times::parse(&schedule.cron, &schedule.timezone) else { continue };
            let (operation_name, name) = (operation.name.clone(), schedule.name.clone());
            let key = ScheduleKey { project: project.to_owned(), operation: operation_name, schedule: name };
            let entry = Entry {
                schedule: schedule.clone(),
                times,
                freezes: freezes.clone(),
                environment: environment(operation, schedule),
                dead_man: operation.dead_man,
                since: 0,
                seen: 0,
                at: None,
            };
            found.push((key, format!("{} {}", schedule.cron, schedule.timezone), entry));
        }
    }
    found
}

/// The id of a due time.
pub(crate) fn start_id(key: &ScheduleKey, due: Micros) -> String {
    // So that the order of ids is that of times.
    format!("schedule/{}/{}/{}/{due:020}", key.project, key.operation, key.schedule)
}

pub(crate) fn new_start(key: &ScheduleKey, due: Micros, at: Micros) -> NewStart {
    NewStart {
        id: start_id(key, due),
        project: key.project.clone(),
        operation: key.operation.clone(),
        kind: StartKind::Schedule,
        name: key.schedule.clone(),
        request: serde_json::Value::Null,
        actor: ITSELF.into(),
        due,
        at,
        series: None,
    }
}

impl Clock {
    pub fn new(store: Store, in_force: impl Fn() -> InForce + Send + Sync + 'static) -> Self {
        Self {
            store: store.of_project(""),
            in_force: Box::new(in_force),
            commits: BTreeMap::new(),
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            looked: 0,
            swept: 0,
        }
    }

    fn queue(&mut self, key: &ScheduleKey, at: Option<Micros>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(old) = std::mem::replace(&mut entry.at, at) {
            self.queue.remove(&(old, key.clone()));
        }
        self.queue.extend(at.map(|at| (at, key.clone())));
    }

    fn forget(&mut self, project: &str) {
        self.entries.retain(|key, _| key.project != project);
        self.queue.retain(|(_, key)| key.project != project);
    }

    /// Takes up what is in force now.
    async fn refresh(&mut self, now: Micros) -> AppResult<()> {
        let in_force = (self.in_force)();
        let gone: Vec<String> =
            self.commits.keys().filter(|name| !in_force.iter().any(|(known, ..)| known == *name)).cloned().collect();
        for project in gone {
            self.forget(&project);
            self.commits.remove(&project);
        }
        for (project, commit, found) in in_force {
            if self.commits.get(&project) == Some(&commit) {
                continue;
            }
            let entries = entries_of(&project, &found.definitions);
            let keys = entries.iter().map(|(key, digest, _)| (key.clone(), digest.clone())).collect();
            let states = self.store.schedule_keep(&project, keys).await?;
            self.forget(&project);
            for (key, _, entry) in entries {
                let Some(state) = states.iter().find(|state| state.key == key) else { continue };
                self.entries.insert(key.clone(), Entry { since: state.since, seen: state.seen, ..entry });
                self.queue(&key, Some(now));
            }
            self.commits.insert(project, commit);
        }
        Ok(())
    }

    /// Decides about everything that is due at `now`, and records it; when to look again, µs.
    ///
    /// # Errors
    /// The database cannot be used; what is due stays due.
    pub async fn tick(&mut self, now: Micros) -> AppResult<Option<Micros>> {
        self.refresh(now).await?;
        if now < self.looked {
            // The clock was set back: its times come again, and what has been started by them is on record.
            let keys: Vec<ScheduleKey> = self.entries.keys().cloned().collect();
            for key in keys {
                self.queue(&key, Some(now));
            }
        }
        self.looked = now;
        loop {
            let due: Vec<ScheduleKey> =
                self.queue.iter().take_while(|(at, _)| *at <= now).take(BATCH).map(|(_, key)| key.clone()).collect();
            if due.is_empty() {
                break;
            }
            let mut fires = Vec::new();
            let mut decided = Vec::new();
            for key in due {
                let Some(entry) = self.entries.get(&key) else { continue };
                let look = Look {
                    project: &key.project,
                    operation: &key.operation,
                    schedule: &entry.schedule,
                    times: &entry.times,
                    freezes: &entry.freezes,
                    environment: entry.environment.as_deref(),
                };
                let decision = decide(look, entry.seen.min(now), now);
                let range = |(count, first, last): (u64, Micros, Micros), why: &str| serde_json::json!({ "count": count, "first": first, "last": last, "why": why });
                let mut notes = Vec::new();
                notes.extend(decision.passed.map(|passed| ("schedule.missed", range(passed, "nobody was there"))));
                notes.extend(decision.frozen.map(|frozen| ("schedule.held", range(frozen, "a freeze"))));
                let starts: Vec<NewStart> =
                    decision.start.iter().map(|due| new_start(&key, *due, look.begins(*due))).collect();
                if !starts.is_empty() || !notes.is_empty() {
                    fires.push(Fire { key: key.clone(), starts, notes, seen: decision.seen });
                }
                decided.push((key, decision.seen, decision.next));
            }
            let told = !fires.is_empty();
            if told {
                self.store.schedule_fire(fires).await?;
            }
            for (key, seen, next) in decided {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.seen = seen;
                }
                self.queue(&key, next);
                self.overdue(&key, now).await?;
            }
        }
        if now - self.swept > DAY {
            self.swept = now;
            self.store.start_sweep(now - REMEMBERED).await?;
        }
        Ok(self.queue.first().map(|(at, _)| *at))
    }

    /// Tells where an operation has not succeeded for more of its times than it may.
    async fn overdue(&self, key: &ScheduleKey, now: Micros) -> AppResult<()> {
        let Some(entry) = self.entries.get(key) else { return Ok(()) };
        let Some(intervals) = entry.dead_man else { return Ok(()) };
        if thaw(&entry.freezes, entry.environment.as_deref(), now) > now {
            return Ok(());
        }
        let store = self.store.of_project(&key.project);
        let succeeded = store.operation_succeeded(&key.operation).await?;
        let since = succeeded.map_or(entry.since, |at| at.max(entry.since));
        // So many have come, and the last of them had the time until the next one.
        let most = intervals as usize + 1;
        if entry.times.due_between(since, now).take(most).count() < most {
            return Ok(());
        }
        let paused = |pause: &windlass_store::Pause| pause.until > now;
        let state = store.schedule_list().await?.into_iter().find(|state| state.key == *key);
        if !state.is_some_and(|state| state.pause.as_ref().is_some_and(paused)) {
            self.store.schedule_overdue(key, since, intervals).await?;
        }
        Ok(())
    }
}

/// Keeps the time until `stop` is cancelled. What went wrong is told to `failed`, and tried again.
pub async fn run(
    mut clock: Clock,
    starter: Arc<dyn Starter>,
    stop: CancellationToken,
    failed: impl Fn(&AppError) + Send + Sync + 'static,
) {
    let store = clock.store.clone();
    let mut changes = store.changes();
    let mut work: JoinSet<AppResult<()>> = JoinSet::new();
    while !stop.is_cancelled() {
        let pause = match round(&mut clock, &starter, &mut work).await {
            Ok(pause) => pause,
            Err(error) => {
                failed(&error);
                Duration::from_secs(1)
            }
        };
        let news = async {
            // Nobody who writes is a reason to look again, and again.
            tokio::time::sleep(CROWD.min(pause)).await;
            let _ = changes.changed().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            () = news => {}
            Some(done) = work.join_next(), if !work.is_empty() => {
                if let Err(error) = done.map_err(crate::error::internal).and_then(|done| done) {
                    failed(&error);
                }
            }
        }
        changes.mark_unchanged();
    }
    // What is under way is done; a start that nobody ended is taken by the next server.
    while work.join_next().await.is_some() {}
}

/// Decides what is due, and begins what is to be started; how long there is nothing to do then.
async fn round(
    clock: &mut Clock,
    starter: &Arc<dyn Starter>,
    work: &mut JoinSet<AppResult<()>>,
) -> AppResult<Duration> {
    let store = clock.store.clone();
    let mut now = store.now().await?;
    let mut next = clock.tick(now).await?;
    let free = AT_ONCE.saturating_sub(work.len());
    let waiting = store.start_next().await?;
    if free > 0 && waiting.is_some_and(|at| at <= now) {
        let taken = store.start_take(LEASE, u32::try_from(free).unwrap_or(u32::MAX)).await?;
        for start in taken {
            let project = clock.project(&start.project);
            work.spawn(begin::begin(store.of_project(&start.project), starter.clone(), project, start));
        }
        now = store.now().await?;
    }
    if free > 0 {
        next = next.into_iter().chain(store.start_next().await?).min();
    }
    let pause = next.map_or(LONGEST, |next| Duration::from_micros(u64::try_from(next - now).unwrap_or(0)));
    Ok(pause.min(LONGEST))
}

impl Clock {
    /// What is in force in a project.
    fn project(&self, name: &str) -> Option<Arc<Project>> {
        (self.in_force)().into_iter().find(|(project, ..)| project == name).map(|(.., project)| project)
    }
}

#[cfg(test)]
mod tests;
