//! Schedules for callers of a server: what there is, pauses, starts at a time, and what was missed.

use crate::caller::{Caller, not_found};
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::installation::Installation;
use crate::operations::refuse_mistakes;
use crate::repositories::Good;
use crate::schedules::{Planned, environment, new_start};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::trigger::ScheduleDefinition;
use windlass_model::schedule::{Times, freeze_at};
use windlass_store::{NewStart, Pause, StartKind, Store};
pub use windlass_store::{ScheduleKey, StartRow};

/// Due times that are shown.
const SHOWN: usize = 5;
/// Due times that one backfill may take.
const MOST: usize = 10_000;

/// A schedule as lists have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScheduleView {
    pub operation: String,
    pub name: String,
    pub cron: String,
    pub timezone: String,
    pub enabled: bool,
    /// When it is due next, µs; where it is paused or frozen as well.
    pub next: Vec<Micros>,
    pub pause: Option<Pause>,
    /// The freeze that holds it back now.
    pub freeze: Option<String>,
    /// What became of its last due time.
    pub last: Option<StartRow>,
}

/// The schedules of a project, by operation and name.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn list(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Vec<ScheduleView>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let store = installation.store(caller, project);
    let (now, states) = (store.now().await?, store.schedule_list().await?);
    let mut found = views_of(&good.deciding.definitions, now)?;
    let mut starts: BTreeMap<String, Vec<StartRow>> = BTreeMap::new();
    for view in &mut found {
        let key = (&view.operation, &view.name);
        let state = states.iter().find(|state| (&state.key.operation, &state.key.schedule) == key);
        view.pause = state.and_then(|state| state.pause.clone()).filter(|pause| pause.until > now);
        if !starts.contains_key(&view.operation) {
            let rows = store.start_list(&view.operation, StartKind::Schedule, 100).await?;
            starts.insert(view.operation.clone(), rows);
        }
        view.last =
            starts.get(&view.operation).and_then(|rows| rows.iter().find(|start| start.name == view.name)).cloned();
    }
    Ok(found)
}

/// The schedules that definitions say, at `now` (µs), without what is on record of them.
///
/// # Errors
/// A pattern is none.
pub fn views_of(definitions: &Definitions, now: Micros) -> AppResult<Vec<ScheduleView>> {
    let mut found = Vec::new();
    for operation in &definitions.operations {
        for schedule in &operation.schedules {
            let freeze = freeze_at(&definitions.freezes, environment(operation, schedule).as_deref(), now);
            found.push(ScheduleView {
                operation: operation.name.clone(),
                name: schedule.name.clone(),
                cron: schedule.cron.clone(),
                timezone: schedule.timezone.clone(),
                enabled: schedule.enabled,
                next: times(schedule)?.upcoming(now, SHOWN),
                pause: None,
                freeze: freeze.map(|freeze| freeze.name.clone()),
                last: None,
            });
        }
    }
    Ok(found)
}

fn times(schedule: &ScheduleDefinition) -> AppResult<Times> {
    // It was read with the definitions.
    Times::parse(&schedule.cron, &schedule.timezone).map_err(internal)
}

/// A schedule in force, where the caller may manage it.
async fn managed(
    installation: &Installation,
    caller: &Caller,
    key: &ScheduleKey,
) -> AppResult<(Arc<Good>, ScheduleDefinition)> {
    caller.must(installation, Permission::ScheduleManage, &Subject::project(&key.project)).await?;
    let good = installation.good(&key.project)?;
    let operation = good.deciding.definitions.operation(&key.operation);
    let schedule =
        operation.and_then(|operation| operation.schedules.iter().find(|known| known.name == key.schedule)).cloned();
    let name = || format!("{} of {}", key.schedule, key.operation);
    let schedule = schedule.ok_or_else(|| not_found("schedule", &name()))?;
    Ok((good, schedule))
}

/// A time, RFC 3339, as µs.
///
/// # Errors
/// It is none.
pub fn time(text: &str) -> AppResult<Micros> {
    let read = text.parse::<jiff::Timestamp>().or_else(|_| text.parse::<jiff::Zoned>().map(|zoned| zoned.timestamp()));
    let read = read.map(jiff::Timestamp::as_microsecond);
    read.map_err(|_| {
        refused(format!("`{text}` is no time"), "write it as `2026-03-29T02:30:00+01:00`, or with `Z` for UTC")
    })
}

fn refused(summary: impl Into<String>, help: &str) -> AppError {
    AppError::new(ErrorKind::Usage, Diagnostic::error("WL724", summary).help(help))
}

/// Pauses a schedule until a time (µs; for as long as nobody resumes it where none is said). What is due meanwhile is not made up for.
///
/// # Errors
/// There is none that the caller may see, or the caller may not; no reason is given, or the time has passed.
pub async fn pause(
    installation: &Installation,
    caller: &Caller,
    key: &ScheduleKey,
    until: Option<Micros>,
    reason: &str,
) -> AppResult<()> {
    managed(installation, caller, key).await?;
    let store = installation.store(caller, &key.project);
    if reason.trim().is_empty() {
        return Err(refused("a pause needs a reason", "say why, for those who wonder why nothing runs"));
    }
    if until.is_some_and(|until| until < i64::MAX) && until <= Some(store.now().await?) {
        return Err(refused("the end of the pause has passed", "give a time that is to come"));
    }
    let by = caller.actor.to_string();
    let pause = Pause { until: until.unwrap_or(Micros::MAX), by: by.clone(), reason: reason.trim().to_owned() };
    recorded(store.schedule_pause(key, Some(&pause), &by).await?)
}

/// Ends the pause of a schedule.
///
/// # Errors
/// There is none that the caller may see, or the caller may not.
pub async fn resume(installation: &Installation, caller: &Caller, key: &ScheduleKey) -> AppResult<()> {
    managed(installation, caller, key).await?;
    let store = installation.store(caller, &key.project);
    recorded(store.schedule_pause(key, None, &caller.actor.to_string()).await?)
}

fn recorded(known: bool) -> AppResult<()> {
    if known {
        return Ok(());
    }
    let diagnostic = Diagnostic::error("WL725", "no server has taken this schedule up yet");
    Err(AppError::new(
        ErrorKind::Conflict,
        diagnostic.help("wait some seconds and ask again; one that is not enabled is never taken up"),
    ))
}

/// What is to be done at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct AtRequest {
    /// µs.
    pub at: Micros,
    pub arguments: BTreeMap<String, Value>,
    pub reason: Option<String>,
    /// As in [`windlass_model::operation::plan::Origin::Person`].
    pub through: String,
}

/// Has an operation begun at a time, once; the id of that. Whether the caller may is asked again when it begins, with what is in
/// force then.
///
/// # Errors
/// There is no such operation that the caller may see, the caller may not run it so, the time has passed, or secrets are given,
/// which are not kept.
pub async fn start_at(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    operation: &str,
    request: AtRequest,
) -> AppResult<String> {
    let filling = super::operations::form(installation, caller, project, operation, &request.arguments).await?;
    if filling.may_run.answer != super::operations::MayAnswer::Yes {
        let diagnostic = Diagnostic::error("WL840", format!("{} may not run `{operation}`", caller.actor.name));
        return Err(AppError::new(ErrorKind::Forbidden, diagnostic.detail(filling.may_run.because.join("\n"))));
    }
    let good = installation.good(project)?;
    let definition = good.deciding.definitions.operation(operation).ok_or_else(|| not_found("operation", operation))?;
    let store = installation.store(caller, project);
    if request.at <= store.now().await? {
        return Err(refused("the time has passed", "give a time that is to come, or start it now"));
    }
    let secret = |parameter: &&windlass_model::operation::parameter::Parameter| {
        parameter.kind == windlass_model::operation::parameter::ParameterKind::Secret
            && request.arguments.contains_key(&parameter.name)
    };
    if let Some(parameter) = definition.parameters.iter().find(secret) {
        let summary = format!("`{}` is a secret, which is not kept until then", parameter.name);
        return Err(refused(summary, "start it when it is to begin, or have the secret read by the operation itself"));
    }
    refuse_mistakes(&filling.form)?;
    if filling.form.confirm.is_some() {
        let summary = format!("`{operation}` has to be confirmed when it begins");
        return Err(refused(summary, "start it when it is to begin"));
    }
    let at = request.at;
    let planned = Planned {
        actor: caller.actor.clone(),
        token: caller.token.clone(),
        through: request.through,
        arguments: request.arguments,
        reason: request.reason,
    };
    // What is asked for again by the same request is there already.
    let id = caller.creates.clone().unwrap_or_else(Store::run_id).to_string();
    let start = NewStart {
        id: id.clone(),
        project: project.to_owned(),
        operation: operation.to_owned(),
        kind: StartKind::At,
        name: String::new(),
        request: serde_json::to_value(planned).map_err(internal)?,
        actor: caller.actor.to_string(),
        due: at,
        at,
        series: None,
    };
    store.start_put(start, Some("operation.planned")).await?;
    Ok(id)
}

/// Takes back a start at a time: one's own, or any where the caller may manage schedules.
///
/// # Errors
/// There is none that the caller may see, the caller may not, or it has begun.
pub async fn start_cancel(installation: &Installation, caller: &Caller, project: &str, id: &str) -> AppResult<()> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let store = installation.store(caller, project);
    let start = store.start_get(id).await?.filter(|start| start.kind == StartKind::At);
    let start = start.ok_or_else(|| not_found("start", id))?;
    let by = caller.actor.to_string();
    if start.actor != by {
        caller.must(installation, Permission::ScheduleManage, &Subject::project(project)).await?;
    }
    if store.start_cancel(id, &by).await? {
        return Ok(());
    }
    let diagnostic = Diagnostic::error("WL726", format!("this start is {} already", start.state));
    Err(AppError::new(ErrorKind::Conflict, diagnostic.help("cancel the run that came of it")))
}

/// What is to start operations of a project at a time, or did.
///
/// # Errors
/// There is no such operation that the caller may see.
pub async fn start_list(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    operation: &str,
) -> AppResult<Vec<StartRow>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    installation
        .good(project)?
        .deciding
        .definitions
        .operation(operation)
        .ok_or_else(|| not_found("operation", operation))?;
    Ok(installation.store(caller, project).start_list(operation, StartKind::At, 100).await?)
}

/// Has the due times of a schedule after `from` until `to` (µs) begun that have not begun, `width` at once, oldest first; how many.
///
/// # Errors
/// There is no such schedule that the caller may see, or the caller may not; the range is wrong, or holds too many.
pub async fn backfill(
    installation: &Installation,
    caller: &Caller,
    key: &ScheduleKey,
    (from, to): (Micros, Micros),
    width: u32,
) -> AppResult<u64> {
    let (_, schedule) = managed(installation, caller, key).await?;
    let store = installation.store(caller, &key.project);
    let now = store.now().await?;
    if to > now || from >= to {
        return Err(refused("the range is not of the past", "give a beginning before an end that is not to come"));
    }
    let due: Vec<Micros> = times(&schedule)?.due_between(from, to).take(MOST + 1).collect();
    if due.len() > MOST {
        return Err(refused(format!("more than {MOST} times are due in this range"), "take a part of it"));
    }
    let series = Store::run_id().to_string();
    let starts = due.into_iter().map(|due| NewStart {
        actor: caller.actor.to_string(),
        series: Some((series.clone(), width.max(1))),
        ..new_start(key, due, now)
    });
    let new = store.start_put_all(starts.collect()).await?;
    let data =
        serde_json::json!({ "schedule": key.schedule, "from": from, "to": to, "count": new, "width": width.max(1) });
    store.event_tell("schedule.backfilled", &key.operation, data, &caller.actor.to_string(), None).await?;
    Ok(new)
}
