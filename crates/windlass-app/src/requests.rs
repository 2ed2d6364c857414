//! What callers of a server ask for. Each asks whether they may, then does what the terminal does in a checkout, with the same
//! use case; pages, the API and chat have no others.

pub mod artefacts;
pub mod changes;
pub mod events;
pub mod explain;
pub mod home;
pub mod operations;
pub mod projects;
pub mod records;
pub mod run_view;
pub mod schedules;
pub mod settings_view;
pub mod stacks_view;
pub mod visible;
pub mod workers;

use crate::apply::Approved;
use crate::caller::{Caller, not_found};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::{Installation, Workspace};
use crate::locks::LockView;
use crate::operations::{Arguments, StartOptions};
use crate::project::environments_of;
use crate::repositories::Good;
use crate::review::{Around, Selection};
use crate::service::Service;
use crate::waivers::Candidate;
use serde::Deserialize;
use std::sync::Arc;
use windlass_model::Micros;
use windlass_model::access::{Permission, Place, Subject};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::journal::Quarantine;
use windlass_model::review::document::Document;
use windlass_model::review::{Review, Revision};
use windlass_model::run::{RunPlan, RunRecord};
use windlass_model::stack_plan::{ApplyWork, StackWork};
use windlass_model::waiver::Waiver;
use windlass_store::{ReviewRow, RunFilter, RunSummary, StoreError};

/// What a review is to be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewRequest {
    /// A branch of the repository; the protected one when it is not said.
    pub branch: Option<String>,
    /// The very commit that is meant, when the branch may have moved.
    pub commit: Option<String>,
    pub selection: Selection,
}

/// What somebody saw when they decided: an answer to something else does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub commit: Option<String>,
    pub effect: Option<String>,
}

/// Environments and owners as the protected branch has them: a change does not say who may make it.
fn places<'a>(good: &Good, instances: impl IntoIterator<Item = &'a InstanceId>) -> Vec<Place> {
    let place = |instance: &InstanceId| Place {
        instance: instance.clone(),
        environments: environments_of(&good.deciding.definitions, instance),
        owner: good.project.repository.stack(&instance.stack()).and_then(|stack| stack.owner.clone()),
    };
    instances.into_iter().map(place).collect()
}

/// The instances that the steps of a run work on.
fn instances(plan: &RunPlan) -> Vec<InstanceId> {
    let of = |input: &serde_json::Value| {
        let work = StackWork::deserialize(input).or_else(|_| ApplyWork::deserialize(input).map(|apply| apply.work));
        work.ok().map(|work| work.instance.id)
    };
    let mut found: Vec<InstanceId> = plan.steps.iter().filter_map(|step| of(&step.work.input)).collect();
    found.sort();
    found.dedup();
    found
}

/// A run, for whoever may do that with all it works on.
///
/// # Errors
/// There is none that the caller may see, or the caller may not.
pub async fn run_for(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    permission: Permission,
) -> AppResult<RunRecord> {
    let record = found(run, installation.common.store.run_get(run).await)?;
    allowed(installation, caller, record, permission).await
}

/// A run for whoever may see it, with the plan that it was made with: nothing of what its steps have added is read.
///
/// # Errors
/// There is none that the caller may see.
pub async fn run_planned(installation: &Installation, caller: &Caller, run: &RunId) -> AppResult<RunRecord> {
    let record = found(run, installation.common.store.run_planned(run).await)?;
    allowed(installation, caller, record, Permission::ProjectRead).await
}

fn found(run: &RunId, record: Result<RunRecord, StoreError>) -> AppResult<RunRecord> {
    match record {
        Err(StoreError::NotFound { .. }) => Err(not_found("run", run.as_str())),
        record => Ok(record?),
    }
}

async fn allowed(
    installation: &Installation,
    caller: &Caller,
    record: RunRecord,
    permission: Permission,
) -> AppResult<RunRecord> {
    let run = &record.id;
    let subject = match permission {
        Permission::ProjectRead => Subject::project(&record.project),
        _ => run_subject(installation, &record)?,
    };
    match caller.must(installation, permission, &subject).await {
        Err(error) if error.kind == ErrorKind::NotFound => Err(not_found("run", run.as_str())),
        allowed => allowed.map(|()| record),
    }
}

/// What is asked about where somebody wants to do something with a run.
fn run_subject(installation: &Installation, record: &RunRecord) -> AppResult<Subject> {
    let good = installation.good(&record.project)?;
    Ok(operations::subject_of_run(&good, record).unwrap_or_else(|| {
        Subject::of(&record.project, "run", record.id.as_str(), places(&good, &instances(&record.plan)))
    }))
}

/// Runs of a project, newest first.
///
/// # Errors
/// There is no such project that the caller may see.
pub async fn run_list(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    filter: &RunFilter,
    limit: u32,
) -> AppResult<Vec<RunSummary>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    Ok(installation.store(caller, project).run_search(filter, limit).await?)
}

/// A review, for whoever may do that with all its stacks; and the service to do it with.
async fn review_for(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    permission: Permission,
) -> AppResult<(Service, ReviewRow)> {
    let record = run_for(installation, caller, run, Permission::ProjectRead).await?;
    let service = installation.service(caller, &record.project)?;
    let row = crate::waivers::review_get(&service, run).await?.ok_or_else(|| not_found("review", run.as_str()))?;
    if permission != Permission::ProjectRead {
        let good = installation.good(&record.project)?;
        let instances = row.review.stacks.iter().map(|stack| &stack.instance);
        let subject = Subject::of(&record.project, "review", run.as_str(), places(&good, instances));
        caller.must(installation, permission, &subject).await?;
    }
    Ok((service, row))
}

fn refuse_moved(review: &Review, seen: &Seen) -> AppResult<()> {
    let moved = seen.commit.as_ref().is_some_and(|commit| *commit != review.head.commit)
        || seen.effect.as_ref().is_some_and(|effect| *effect != review.effect_digest);
    if moved {
        let diagnostic = Diagnostic::error("WL847", format!("review {} is not what you saw", review.run))
            .help("load it again, look at what it says now, and decide then");
        return Err(AppError::new(ErrorKind::Conflict, diagnostic));
    }
    Ok(())
}

/// Stores a review run of a branch; an engine drives it. `None` when nothing is affected.
///
/// # Errors
/// There is no such branch, the definitions at its commit are wrong, or the caller may not.
#[tracing::instrument(skip_all, fields(%project))]
pub async fn review_start(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    request: &ReviewRequest,
) -> AppResult<Option<RunId>> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let head = head(installation, project, request)?;
    review_of(installation, caller, project, &head, &request.selection, Around::default(), true).await
}

/// As [`review_start`], of a commit that is there. Whether the caller may is asked where they are `asked`: a change that was pushed to the
/// repository itself is reviewed although nobody asks for it.
pub(crate) async fn review_of(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    head: &Revision,
    selection: &Selection,
    around: Around,
    asked: bool,
) -> AppResult<Option<RunId>> {
    let good = installation.good(project)?;
    let workspace = installation.workspace(project, head).await?;
    let service = workspace.acting(installation, caller);
    let Some(prepared) = crate::review::review_prepare(&service, selection, Vec::new(), around).await? else {
        return Ok(None);
    };
    if asked {
        let touched = places(&good, prepared.places.iter().map(|place| &place.instance));
        let subject = Subject::of(project, "branch", &*head.name, touched);
        caller.must(installation, Permission::ReviewCreate, &subject).await?;
    }
    if let Some(instance) = prepared.beside.first() {
        let diagnostic =
            Diagnostic::error("WL848", format!("the state of {instance} is in a file beside its configuration"))
                .detail("a server works in checkouts that come and go: the state would be lost")
                .help(
                    "configure a backend that is reached from everywhere, or an absolute path, and migrate the state",
                );
        return Err(AppError::new(ErrorKind::Refused, diagnostic));
    }
    let run = service.store.run_create(&prepared.plan, &service.actor.to_string()).await?;
    Ok(Some(installation.made(run)))
}

fn head(installation: &Installation, project: &str, request: &ReviewRequest) -> AppResult<Revision> {
    let status = installation.followed.status(project).ok_or_else(|| not_found("project", project))?;
    let protected = status.branch.clone().unwrap_or_default();
    let name = request.branch.clone().unwrap_or(protected);
    let found = [format!("refs/heads/{name}"), name.clone()];
    let commit = found.iter().find_map(|reference| status.references.get(reference)).cloned();
    let commit = commit.ok_or_else(|| {
        let names: Vec<&str> = status.references.keys().filter_map(|name| name.strip_prefix("refs/heads/")).collect();
        let near = windlass_lang::suggest(&name, names.iter().copied());
        let help = near.map_or_else(
            || "push it; it is noticed within a minute".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let diagnostic = Diagnostic::error("WL849", format!("the repository `{project}` has no branch `{name}`"));
        AppError::new(ErrorKind::NotFound, diagnostic.help(help))
    })?;
    match &request.commit {
        Some(wanted) if *wanted != commit => {
            let summary = format!("`{name}` is at {commit}, not at {wanted}");
            Err(AppError::new(
                ErrorKind::Conflict,
                Diagnostic::error("WL849", summary).help("ask again, for what it is now"),
            ))
        }
        _ => Ok(Revision { name, commit }),
    }
}

/// A review as it is shown.
///
/// # Errors
/// There is none that the caller may see.
pub async fn review_show(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
) -> AppResult<(ReviewRow, Document)> {
    let (service, row) = review_for(installation, caller, run, Permission::ProjectRead).await?;
    let document = crate::review::document(&service, &row).await?;
    Ok((row, document))
}

/// Approves a review, or the changed effects that an apply run waits with.
///
/// # Errors
/// The caller may not, it is not what was seen, or it cannot be approved.
#[tracing::instrument(skip_all, fields(%run))]
pub async fn approve(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    seen: &Seen,
    reason: Option<&str>,
) -> AppResult<Approved> {
    let record = run_for(installation, caller, run, Permission::ReviewApprove).await?;
    let service = installation.service(caller, &record.project)?;
    if let Some(row) = crate::waivers::review_get(&service, run).await? {
        refuse_moved(&row.review, seen)?;
    }
    crate::apply::approve(&service, run, reason).await
}

/// Refuses a review: it cannot be approved or applied any more.
///
/// # Errors
/// The caller may not, it is not what was seen, or it is decided already.
#[tracing::instrument(skip_all, fields(%run))]
pub async fn review_refuse(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    seen: &Seen,
    reason: &str,
) -> AppResult<()> {
    let (service, row) = review_for(installation, caller, run, Permission::ReviewApprove).await?;
    refuse_moved(&row.review, seen)?;
    crate::apply::refuse(&service, &row, reason).await
}

/// Waives one finding of a review.
///
/// # Errors
/// The caller may not, or there is no such finding.
#[tracing::instrument(skip_all, fields(%run))]
pub async fn waive(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    finding: &str,
    reason: &str,
    time: Option<Micros>,
) -> AppResult<Waiver> {
    let (service, _) = review_for(installation, caller, run, Permission::ReviewWaive).await?;
    crate::waivers::waive(&service, run, finding, reason, time).await
}

/// What denies a review, and which of it the caller may waive.
///
/// # Errors
/// There is none that the caller may see.
pub async fn waivable(installation: &Installation, caller: &Caller, run: &RunId) -> AppResult<Vec<Candidate>> {
    let (service, _) = review_for(installation, caller, run, Permission::ProjectRead).await?;
    crate::waivers::candidate_list(&service, run).await
}

/// Stores an apply run of a review; an engine drives it. `None` when there is nothing to apply.
///
/// # Errors
/// The caller may not, it is not what was seen, or it may not be applied.
#[tracing::instrument(skip_all, fields(%run))]
pub async fn apply_start(
    installation: &Arc<Installation>,
    caller: &Caller,
    run: &RunId,
    seen: &Seen,
    confirmed: &[String],
) -> AppResult<Option<RunId>> {
    let (service, row) = review_for(installation, caller, run, Permission::ReviewApply).await?;
    refuse_moved(&row.review, seen)?;
    let workspace = installation.workspace(service.store.project(), &row.review.head).await?;
    let made = crate::apply::apply_create(&workspace.acting(installation, caller), run, confirmed).await?;
    Ok(made.map(|run| installation.made(run)))
}

/// As [`apply_start`], of a review whose environments are applied without anybody saying so: the definitions in force do.
pub(crate) async fn apply_of(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    run: &RunId,
    confirmed: &[String],
) -> AppResult<Option<RunId>> {
    let service = installation.service(caller, project)?;
    let row = crate::waivers::review_get(&service, run).await?.ok_or_else(|| not_found("review", run.as_str()))?;
    let workspace = installation.workspace(project, &row.review.head).await?;
    let made = crate::apply::apply_create(&workspace.acting(installation, caller), run, confirmed).await?;
    Ok(made.map(|run| installation.made(run)))
}

/// Whether somebody may do something with a review.
///
/// # Errors
/// There is none that the caller may see, or the caller may not.
pub(crate) async fn review_may(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    permission: Permission,
) -> AppResult<()> {
    review_for(installation, caller, run, permission).await.map(drop)
}

/// Whether somebody may do something with some stack instances.
///
/// # Errors
/// The caller may not.
pub(crate) async fn stacks_may(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    instances: &[InstanceId],
    permission: Permission,
) -> AppResult<()> {
    let good = installation.good(project)?;
    caller
        .must(installation, permission, &Subject::of(project, "stacks", "of a change", places(&good, instances)))
        .await
}

/// Asks a run to stop, at once with `kill`: nothing is taken back then. `false` when it has ended.
///
/// # Errors
/// There is none, or the caller may not.
#[tracing::instrument(skip_all, fields(%run))]
pub async fn run_cancel(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    reason: Option<&str>,
    kill: bool,
) -> AppResult<bool> {
    let record = run_for(installation, caller, run, Permission::RunCancel).await?;
    let (store, actor) = (installation.store(caller, &record.project), caller.actor.to_string());
    Ok(if kill { store.run_kill(run, &actor, reason).await? } else { store.run_cancel(run, &actor, reason).await? })
}

/// Has nothing new begin in a run, until it is resumed.
///
/// # Errors
/// There is none, the caller may not, there is no reason, or it has ended.
pub async fn run_halt(installation: &Installation, caller: &Caller, run: &RunId, reason: &str) -> AppResult<()> {
    let record = run_for(installation, caller, run, Permission::RunCancel).await?;
    crate::runs::run_halt(&installation.store(caller, &record.project), &caller.actor, &record, reason).await
}

/// Lets a run go on, with what became of its unknown steps (`STEP=done|failed|repeat`) and how that is known.
///
/// # Errors
/// The caller may not, or it has ended.
#[tracing::instrument(skip_all, fields(%run))]
pub async fn run_resume(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    settle: &[String],
    reason: Option<&str>,
) -> AppResult<()> {
    let permission = if settle.is_empty() { Permission::RunResume } else { Permission::RunSettle };
    let record = run_for(installation, caller, run, permission).await?;
    crate::runs::run_resume(&installation.service(caller, &record.project)?, run, settle, reason).await
}

/// Does a run once more, exactly as it was planned; that of an operation as [`operations::repeat`] says. An apply is not repeated:
/// what it would do has to be reviewed.
///
/// # Errors
/// The caller may not, or it is an apply.
#[tracing::instrument(skip_all, fields(%run))]
pub async fn run_repeat(
    installation: &Arc<Installation>,
    caller: &Caller,
    run: &RunId,
    more: &Arguments,
    options: StartOptions,
) -> AppResult<RunId> {
    let record = run_for(installation, caller, run, Permission::ProjectRead).await?;
    if record.plan.kind == windlass_model::operation::plan::KIND {
        return operations::repeat(installation, caller, run, more, options).await;
    }
    let record = run_for(installation, caller, run, Permission::ReviewCreate).await?;
    if !matches!(record.plan.kind.as_str(), "review" | "drift") {
        let diagnostic = Diagnostic::error("WL839", format!("a run of kind {} is not repeated", record.plan.kind))
            .help("make a new review: what it says is what will be done");
        return Err(AppError::new(ErrorKind::Refused, diagnostic));
    }
    let store = installation.store(caller, &record.project);
    Ok(installation.made(store.run_create(&record.plan, &caller.actor.to_string()).await?))
}

/// Stores a run that looks for drift, on the protected branch, of the instances that match (all without a pattern).
///
/// # Errors
/// The caller may not, or nothing matches.
#[tracing::instrument(skip_all, fields(%project))]
pub async fn drift_start(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    patterns: &[String],
) -> AppResult<RunId> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let branch = installation.followed.status(project).and_then(|status| status.branch.clone()).unwrap_or_default();
    let head = Revision { name: branch, commit: good.commit.clone() };
    let workspace = installation.workspace(project, &head).await?;
    let service = workspace.acting(installation, caller);
    let plan = crate::drift::drift_prepare(&service, patterns).await?;
    let touched = places(&good, &instances(&plan));
    caller
        .must(installation, Permission::DriftCheck, &Subject::of(project, "stacks", patterns.join(", "), touched))
        .await?;
    Ok(installation.made(service.store.run_create(&plan, &service.actor.to_string()).await?))
}

/// Takes the lock of an instance away from a step whose process is not at work any more.
///
/// # Errors
/// The caller may not, or nobody holds it.
#[tracing::instrument(skip_all, fields(%project))]
pub async fn unlock(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    instance: &InstanceId,
    why: &str,
) -> AppResult<LockView> {
    of_instance(installation, caller, project, instance, Permission::LockTakeAway).await?;
    crate::locks::unlock(&installation.service(caller, project)?, instance.as_str(), why).await
}

/// Lifts the quarantine of an instance.
///
/// # Errors
/// The caller may not, or it is not quarantined.
#[tracing::instrument(skip_all, fields(%project))]
pub async fn release(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    instance: &InstanceId,
    why: &str,
) -> AppResult<Quarantine> {
    of_instance(installation, caller, project, instance, Permission::StackRecover).await?;
    crate::recover::release(&installation.service(caller, project)?, instance, why).await
}

/// Pushes the state of a quarantined instance that terraform could not write; what is left of the quarantine comes back.
///
/// # Errors
/// The caller may not, it is not quarantined, no state was kept on this machine, or terraform refuses it.
pub async fn state_push(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    instance: &InstanceId,
) -> AppResult<Quarantine> {
    let workspace = settling(installation, caller, project, instance).await?;
    crate::recover::push(&workspace.acting(installation, caller), instance).await
}

/// Breaks the lock at the backend that a quarantined instance is left with, by its id.
///
/// # Errors
/// The caller may not, it is not quarantined, or the lock in doubt is another one.
pub async fn backend_unlock(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    instance: &InstanceId,
    lock: &str,
) -> AppResult<()> {
    let workspace = settling(installation, caller, project, instance).await?;
    crate::recover::force_unlock(&workspace.acting(installation, caller), instance, lock).await
}

/// The files that the quarantined apply of an instance worked on.
async fn settling(
    installation: &Arc<Installation>,
    caller: &Caller,
    project: &str,
    instance: &InstanceId,
) -> AppResult<Workspace> {
    of_instance(installation, caller, project, instance, Permission::StackRecover).await?;
    let head = crate::recover::worked_on(&installation.service(caller, project)?, instance).await?;
    installation.workspace(project, &head).await
}

async fn of_instance(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    instance: &InstanceId,
    permission: Permission,
) -> AppResult<()> {
    caller.must(installation, Permission::ProjectRead, &Subject::project(project)).await?;
    let good = installation.good(project)?;
    let subject = Subject::of(project, "stack", instance.as_str(), places(&good, [instance]));
    caller.must(installation, permission, &subject).await
}

/// Has a repository fetched now.
///
/// # Errors
/// The caller may not, or there is none of that name.
#[tracing::instrument(skip_all, fields(%project))]
pub async fn project_fetch(installation: &Installation, caller: &Caller, project: &str) -> AppResult<()> {
    caller.must(installation, Permission::ProjectManage, &Subject::project(project)).await?;
    let store = installation.store(caller, project);
    let subject = format!("project {project}");
    store.event_tell("project.fetch_asked", &subject, serde_json::Value::Null, &caller.actor.to_string(), None).await?;
    installation.followed.poke(project);
    Ok(())
}
