//! Operations as pages show them: the catalogue, one of them, and what a run asks of people.

use super::{Filling, Listed, filling, ground, listed, may, subject_of_run};
use crate::caller::Caller;
use crate::error::{AppResult, ErrorKind};
use crate::installation::Installation;
use crate::operations::answers::Asks;
use crate::operations::{Arguments, environment, scope};
use crate::requests::run_view::chosen;
use crate::requests::visible::why_not;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use windlass_lang::expression;
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_model::definition::Definitions;
use windlass_model::id::StepId;
use windlass_model::operation::answers::Answer;
use windlass_model::operation::plan::{KIND, OperationInput, driver};
use windlass_model::operation::trigger::{Freeze, ScheduleDefinition};
use windlass_model::operation::{Expression, OperationDefinition};
use windlass_model::run::{RunRecord, StepRecord, StepSpec, StepState};
use windlass_model::schedule::{Times, freeze_at, jitter};
use windlass_store::{RunFilter, RunSummary, ScheduleState, StartKind, StartRow, StepRow, Store};

/// An operation of the catalogue.
pub struct Entry {
    pub project: String,
    pub listed: Listed,
    pub last: Option<RunSummary>,
    /// When a schedule starts it next, µs.
    pub next: Option<Micros>,
}

/// The operations of all projects that the caller may see, or of one of them.
///
/// # Errors
/// The database cannot be read.
pub async fn catalogue(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Vec<Entry>> {
    let now = installation.common.store.now().await?;
    let mut found = Vec::new();
    for one in chosen(installation, caller, project).await? {
        let good = match installation.good(one.name()) {
            // Nothing good was fetched yet, which Home tells.
            Err(error) if error.kind == ErrorKind::Unavailable => continue,
            good => good?,
        };
        let store = installation.store(caller, one.name());
        let states = store.schedule_list().await?;
        let definitions = &good.deciding.definitions;
        for operation in &definitions.operations {
            let may_run = may(installation, caller, &good, one.name(), operation).await?;
            let next = schedules(one.name(), definitions, operation, &states, now, 1)
                .into_iter()
                .filter_map(|schedule| schedule.next.first().map(|due| due.at))
                .min();
            found.push(Entry {
                project: one.name().to_owned(),
                listed: listed(operation, may_run),
                last: runs(&store, operation, RunFilter::default(), 1).await?.pop(),
                next,
            });
        }
    }
    Ok(found)
}

async fn runs(
    store: &Store,
    operation: &OperationDefinition,
    filter: RunFilter,
    limit: u32,
) -> AppResult<Vec<RunSummary>> {
    let filter = RunFilter { kind: Some(KIND.to_owned()), subject: Some(operation.name.clone()), ..filter };
    Ok(store.run_search(&filter, limit).await?)
}

/// When an operation begins by itself.
pub struct ScheduleView {
    pub definition: ScheduleDefinition,
    /// Who held it back, why and until when, while that is so.
    pub pause: Option<windlass_store::Pause>,
    /// Its next times; none while it is switched off.
    pub next: Vec<Due>,
}

/// A time at which a schedule is due.
pub struct Due {
    /// With its jitter, µs.
    pub at: Micros,
    /// The freeze that holds it back.
    pub frozen: Option<String>,
}

/// The schedules of an operation with their next times after `now`.
fn schedules(
    project: &str,
    definitions: &Definitions,
    operation: &OperationDefinition,
    states: &[ScheduleState],
    now: Micros,
    count: usize,
) -> Vec<ScheduleView> {
    let view = |schedule: &ScheduleDefinition| {
        let state =
            states.iter().find(|state| state.key.operation == operation.name && state.key.schedule == schedule.name);
        let pause = state.and_then(|state| state.pause.clone()).filter(|pause| pause.until > now);
        let environment = crate::schedules::environment(operation, schedule);
        let due = |at: Micros| Due {
            at: at.saturating_add(jitter(project, &operation.name, &schedule.name, at, schedule.jitter)),
            frozen: freeze_at(&definitions.freezes, environment.as_deref(), at).map(|freeze| freeze.name.clone()),
        };
        // None begins before the end of a pause.
        let from = pause.as_ref().map_or(now, |pause| pause.until);
        let times = Times::parse(&schedule.cron, &schedule.timezone).ok().filter(|_| schedule.enabled);
        let next = times.map_or_else(Vec::new, |times| times.upcoming(from, count).into_iter().map(due).collect());
        ScheduleView { definition: schedule.clone(), pause, next }
    };
    operation.schedules.iter().map(view).collect()
}

/// One operation with a form, as it was filled so far.
pub struct OperationView {
    pub filling: Filling,
    pub listed: Listed,
    pub definition: OperationDefinition,
    /// The commit whose definition it is.
    pub commit: String,
    /// Where it would be, as far as that can be told from what was given.
    pub environment: Option<String>,
    /// Texts of its checklist, Markdown, with what was given.
    pub announcement: Option<String>,
    pub rollback: Option<String>,
    /// Changes of that environment are approved.
    pub is_protected: bool,
    /// A freeze of that environment, now.
    pub frozen: Option<Freeze>,
    /// Parameters that others depend on: those are made anew when one of these changes.
    pub depended: BTreeSet<String>,
    pub schedules: Vec<ScheduleView>,
    /// Why the caller may not pause schedules; `None` when they may.
    pub manage: Option<String>,
    /// What is to begin at a time, by time.
    pub planned: Vec<StartRow>,
    /// Its runs, newest first.
    pub runs: Vec<RunSummary>,
}

/// Starts at a time that are looked at.
const PLANNED: u32 = 100;
/// How many times a schedule is shown with.
const TIMES: usize = 5;

/// One operation, with its form as it was filled so far, and its runs: those of `filter`, at most `limit`.
///
/// # Errors
/// There is none that the caller may see.
pub async fn operation(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    name: &str,
    given: &Arguments,
    (filter, limit): (RunFilter, u32),
) -> AppResult<OperationView> {
    let now = installation.common.store.now().await?;
    let ground = ground(installation, caller, project, Some(name)).await?;
    let source = ground.source();
    let operation = source.find(name)?;
    let (filling, filled) = filling(installation, caller, &ground, project, operation, given).await?;
    let definitions = source.definitions();
    let environment = environment(definitions, operation, &filled.arguments).ok().flatten();
    let mut named = definitions.environments.iter().filter(|one| Some(&one.name) == environment.as_ref());
    let store = installation.store(caller, project);
    let checklist = operation.checklist.as_ref();
    let manage = why_not(installation, caller, Permission::ScheduleManage, &Subject::project(project)).await?;
    let mut planned = store.start_list(name, StartKind::At, PLANNED).await?;
    planned.retain(|start| start.state == "waiting");
    planned.reverse();
    let text = |text: Option<&Expression>| expression::text(text?, &scope(operation, &filled.arguments)).ok();
    Ok(OperationView {
        announcement: text(checklist.and_then(|checklist| checklist.announcement.as_ref())),
        rollback: text(checklist.and_then(|checklist| checklist.rollback.as_ref())),
        listed: listed(operation, filling.may_run.clone()),
        filling,
        definition: operation.clone(),
        commit: ground.head.commit.clone(),
        is_protected: named.any(|one| one.approvals.is_some()),
        frozen: freeze_at(&definitions.freezes, environment.as_deref(), now).cloned(),
        environment,
        depended: depended(operation),
        manage,
        planned,
        schedules: schedules(project, definitions, operation, &store.schedule_list().await?, now, TIMES),
        runs: runs(&store, operation, filter, limit).await?,
    })
}

fn depended(operation: &OperationDefinition) -> BTreeSet<String> {
    use crate::operations::form::{depends, expressions};
    let defaults = operation.parameters.iter().filter_map(|parameter| parameter.default.as_ref());
    let choices = operation.parameters.iter().filter_map(|parameter| parameter.choices.as_ref());
    let choices = choices.map(|choices| expressions(&choices.from));
    let all = defaults.chain(choices).chain(&operation.environment).chain(&operation.confirm);
    let grants = operation.grants.iter().filter_map(|grant| grant.when.as_ref());
    all.chain(grants).filter_map(|expression| depends(expression).ok()).flatten().collect()
}

/// Why the caller may not run what a run was of, with what it had; `None` when they may.
///
/// # Errors
/// The database cannot be read.
pub async fn may_run(installation: &Installation, caller: &Caller, record: &RunRecord) -> AppResult<Option<String>> {
    let good = installation.good(&record.project)?;
    match subject_of_run(&good, record) {
        Some(subject) => why_not(installation, caller, Permission::OperationRun, &subject).await,
        None => Ok(Some("it is no run of an operation".to_owned())),
    }
}

/// What a step of a run asks of people now, or has asked.
pub struct AskView {
    pub step: StepRecord,
    pub asks: Asks,
    /// Oldest first.
    pub answers: Vec<Answer>,
    /// It can be answered now.
    pub is_open: bool,
    /// Why the caller may not; `None` when they may.
    pub why_not: Option<String>,
}

/// What a run of an operation asks of people, and what was answered. Of a very long run at most `most`, open ones first.
///
/// # Errors
/// The database cannot be read.
pub async fn asks(
    installation: &Installation,
    caller: &Caller,
    record: &RunRecord,
    input: &OperationInput,
    steps: &[StepRow],
    most: usize,
) -> AppResult<Vec<AskView>> {
    let is_open =
        |step: &StepRecord| !record.state.is_final() && matches!(step.state, StepState::Waiting | StepState::Running);
    let by_id: HashMap<&StepId, &StepSpec> = record.plan.steps.iter().map(|spec| (&spec.id, spec)).collect();
    let of_people = |spec: &StepSpec| matches!(spec.work.driver.as_str(), driver::APPROVE | driver::TICK);
    let spec = |step: &'_ StepRow| step.spec.clone().or_else(|| by_id.get(&step.record.id).copied().cloned());
    let specs = steps.iter().filter_map(|step| Some((spec(step)?, &step.record)));
    let mut asking: Vec<(&StepRecord, Asks)> = specs
        .filter(|(spec, step)| of_people(spec) || is_open(step))
        .filter_map(|(spec, step)| Some((step, Asks::of_spec(&spec, input)?)))
        .collect();
    asking.sort_by_key(|(step, _)| !is_open(step));
    asking.truncate(most);
    let Ok(good) = installation.good(&record.project) else { return Ok(Vec::new()) };
    let places =
        crate::operations::places(&good.project, &input.operation, input.environment.as_deref(), &input.arguments);
    let store = installation.store(caller, &record.project);
    let mut found = Vec::new();
    for (step, asks) in asking {
        let subject =
            Subject::of(&record.project, "run", record.id.as_str(), places.clone()).letting(asks.lets(input, &step.id));
        let word = asks.words().into_iter().next().unwrap_or_default();
        let would_not_count = asks.why_not(&caller.actor, &good.deciding.definitions, &record.actor, &word);
        found.push(AskView {
            answers: store.answer_list(&record.id, &step.id).await?,
            is_open: is_open(step),
            why_not: why_not(installation, caller, Permission::OperationAnswer, &subject).await?.or(would_not_count),
            step: step.clone(),
            asks,
        });
    }
    Ok(found)
}
