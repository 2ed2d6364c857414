//! Runs and reviews as pages show them.

use super::visible::{Visible, visible, why_not};
use super::{instances, places, run_for, run_planned};
use crate::apply::review_missing;
use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::Installation;
use crate::service::Service;
use crate::steps::apply::Prepared;
use crate::waivers::Candidate;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use windlass_model::access::{Permission, Subject};
use windlass_model::approval::ApprovalRecord;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId, StepId};
use windlass_model::operation::plan::{self, OperationStep};
use windlass_model::review::document::{Context, Document};
use windlass_model::review::progress::Progress;
use windlass_model::review::{Review, Verdict};
use windlass_model::rollout;
use windlass_model::run::{RunRecord, StepRecord, StepSpec, StepState};
use windlass_model::stack_plan::{ApplyInput, ApplyWork, driver, plan_step};
use windlass_store::{
    Event, EventFilter, ReviewQuery, ReviewRow, ReviewState, RunQuery, RunSummary, StepQuery, StepRow, StepTally, Store,
};

/// Runs of all projects that the caller may see, or of one of them: newest first.
///
/// # Errors
/// The database cannot be read.
pub async fn run_find(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    query: &RunQuery,
    limit: u32,
) -> AppResult<Vec<RunSummary>> {
    let mut found = Vec::new();
    for one in chosen(installation, caller, project).await? {
        found.extend(installation.store(caller, one.name()).run_find(query, limit).await?);
    }
    // Ids grow with time.
    found.sort_by(|a, b| b.id.cmp(&a.id));
    found.truncate(limit as usize);
    Ok(found)
}

/// Those that the caller may see; only `project` where that is not empty.
pub(super) async fn chosen(installation: &Installation, caller: &Caller, project: &str) -> AppResult<Vec<Visible>> {
    let mut found = visible(installation, caller).await?;
    found.retain(|one| project.is_empty() || one.name() == project);
    Ok(found)
}

/// An effect that differs from what was approved.
pub struct Changed {
    pub instance: InstanceId,
    pub differences: Vec<String>,
    pub effect_digest: String,
}

/// Everything about one run but its steps: of these there may be very many, and some are here.
pub struct RunView {
    /// With the plan that it was made with: what its steps have added is not in it.
    pub record: RunRecord,
    /// How many steps are in which state.
    pub tally: Vec<StepTally>,
    /// Those that were asked for, and whether there are more of them.
    pub steps: Vec<StepRow>,
    pub more: bool,
    /// What those come after, where it was not asked for itself.
    pub before: Vec<StepRow>,
    /// Those that wait, are unknown or run, and those that ask people or stand in a checklist: in order of the plan, of very many
    /// the first.
    pub open: Vec<StepRow>,
    /// What became of the steps that were asked for when, oldest first: of those whose record does not tell by itself.
    pub events: Vec<Event>,
    pub log_sizes: BTreeMap<StepId, u64>,
    pub changed: Vec<Changed>,
    /// Why it lacks a worker, in one sentence; `None` when it does not.
    pub unserved: Option<String>,
    /// Why the caller may not; `None` when they may.
    pub cancel: Option<String>,
    pub resume: Option<String>,
    pub settle: Option<String>,
    pub approve: Option<String>,
    pub repeat: Option<String>,
}

/// How many steps that others come after are read with those.
const BEFORE: usize = 1_000;
/// How many events of steps one page is made of.
const EVENTS: u32 = 5_000;
/// Steps in one state that are looked at for what they ask.
const OPEN: u32 = 500;

/// Whether the record of a step alone tells what it did when: it was begun once at most, and nothing interrupted it.
pub fn tells_all(step: &StepRecord) -> bool {
    match step.attempt {
        0 => true,
        1 => !matches!(step.state, StepState::Pending | StepState::Waiting | StepState::Unknown),
        _ => false,
    }
}

/// A step of an operation that stands before all others for people, or in its checklist.
fn is_shown_apart(spec: &StepSpec) -> bool {
    let listed = |step: OperationStep| {
        step.path.len() == 2
            && step.path.first().is_some_and(|kind| ["before", "during", "after"].contains(&kind.as_str()))
    };
    matches!(spec.work.driver.as_str(), plan::driver::APPROVE | plan::driver::TICK)
        || OperationStep::deserialize(&spec.work.input).is_ok_and(listed)
}

/// Steps that wait, are unknown or run, and those of an operation that ask people or stand in a checklist, in order.
pub(super) async fn open(store: &Store, record: &RunRecord, tally: &[StepTally]) -> AppResult<Vec<StepRow>> {
    let mut found = Vec::new();
    for state in [StepState::Waiting, StepState::Unknown, StepState::Running] {
        if tally.iter().any(|some| some.state == state) {
            let query = StepQuery { state: Some(state), ..StepQuery::default() };
            found.extend(store.step_find(&record.id, &query, OPEN).await?);
        }
    }
    if record.plan.kind == plan::KIND {
        let apart = record.plan.steps.iter().filter(|spec| is_shown_apart(spec));
        let asked: Vec<StepId> = apart.map(|spec| spec.id.clone()).collect();
        found.extend(store.step_some(&record.id, &asked).await?);
    }
    found.sort_by_key(|step| step.position);
    found.dedup_by(|a, b| a.record.id == b.record.id);
    Ok(found)
}

/// One run, with at most `limit` of the steps that `query` asks for.
///
/// # Errors
/// There is none that the caller may see, or the database cannot be read.
pub async fn run_show(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    query: &StepQuery,
    limit: u32,
) -> AppResult<RunView> {
    let record = run_planned(installation, caller, run).await?;
    let store = installation.store(caller, &record.project);
    let mut steps = store.step_find(run, query, limit.saturating_add(1)).await?;
    let more = steps.len() > limit as usize;
    steps.truncate(limit as usize);
    let here: BTreeSet<&StepId> = steps.iter().map(|step| &step.record.id).collect();
    let specs: HashMap<&StepId, &StepSpec> = record.plan.steps.iter().map(|spec| (&spec.id, spec)).collect();
    let spec = |step: &StepRow| step.spec.as_ref().or_else(|| specs.get(&step.record.id).copied()).cloned();
    let after: BTreeSet<StepId> = steps.iter().filter_map(spec).flat_map(|spec| spec.after).collect();
    let after: Vec<StepId> = after.into_iter().filter(|id| !here.contains(id)).take(BEFORE).collect();
    let before = if after.is_empty() { Vec::new() } else { store.step_some(run, &after).await? };
    let untold = steps.iter().map(|step| &step.record).filter(|step| !tells_all(step));
    let untold: Vec<StepId> = untold.map(|step| step.id.clone()).collect();
    let events = if untold.is_empty() { Vec::new() } else { store.event_of_steps(run, &untold, EVENTS).await? };
    let shown: Vec<StepId> = steps.iter().map(|step| step.record.id.clone()).collect();
    let tally = store.step_tally(run).await?;
    let open = open(&store, &record, &tally).await?;
    let mut changed = Vec::new();
    let waits: BTreeSet<&StepId> =
        open.iter().map(|step| &step.record).filter(|s| s.state == StepState::Waiting).map(|step| &step.id).collect();
    for spec in record.plan.steps.iter().filter(|spec| spec.work.driver == driver::GATE && waits.contains(&spec.id)) {
        let Ok(work) = ApplyWork::deserialize(&spec.work.input) else { continue };
        let instance = work.work.instance.id;
        let output = store.step_get(run, &plan_step(&instance)).await?.output;
        let Some(prepared) = output.and_then(|output| Prepared::deserialize(&output).ok()) else { continue };
        let (differences, effect_digest) = (prepared.differences, prepared.effect_digest);
        changed.push(Changed { instance, differences, effect_digest });
    }
    let of_operation = installation.good(&record.project).ok();
    let of_operation = of_operation.and_then(|good| super::operations::subject_of_run(&good, &record));
    let subject =
        of_operation.unwrap_or_else(|| subject(installation, &record.project, "run", run, &instances(&record.plan)));
    let why = |permission| why_not(installation, caller, permission, &subject);
    Ok(RunView {
        log_sizes: store.log_sizes(run, Some(&shown)).await?.into_iter().collect(),
        tally,
        unserved: crate::health::unserved(&store, &record, &store.worker_list().await?).await?,
        cancel: why(Permission::RunCancel).await?,
        resume: why(Permission::RunResume).await?,
        settle: why(Permission::RunSettle).await?,
        approve: why(Permission::ReviewApprove).await?,
        repeat: why(Permission::ReviewCreate).await?,
        steps,
        more,
        before,
        open,
        events,
        changed,
        record,
    })
}

/// What is asked about; without good definitions it touches no known place.
fn subject(installation: &Installation, project: &str, kind: &str, run: &RunId, instances: &[InstanceId]) -> Subject {
    let places = installation.good(project).map(|good| places(&good, instances)).unwrap_or_default();
    Subject::of(project, kind, run.as_str(), places)
}

/// A review of a list.
pub struct ReviewListed {
    pub project: String,
    pub row: ReviewRow,
    pub created_at: windlass_model::Micros,
    /// Approvals that are missing, one sentence each; empty once nothing is asked for.
    pub missing: Vec<String>,
}

/// Which reviews are listed: those that have all that is given.
#[derive(Debug, Clone, Default)]
pub struct ReviewFilter {
    pub text: String,
    pub states: Vec<ReviewState>,
    pub verdict: Option<Verdict>,
    /// Only those whose commit is in the protected branch, and that would change something.
    pub merged: bool,
    /// Only those that wait for an approval which the caller may give.
    pub waiting: bool,
    pub before: Option<RunId>,
}

/// How many reviews are looked at for one page of those that match.
const LOOKED_AT: usize = 200;

/// Reviews of all projects that the caller may see, or of one of them: newest first; and whether there may be more, with the last
/// one that was looked at.
///
/// # Errors
/// The database cannot be read.
pub async fn review_find(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    filter: &ReviewFilter,
    limit: usize,
) -> AppResult<(Vec<ReviewListed>, Option<RunId>)> {
    let query = ReviewQuery { text: filter.text.clone(), states: filter.states.clone(), before: filter.before.clone() };
    let mut briefs = Vec::new();
    let projects = chosen(installation, caller, project).await?;
    for one in &projects {
        let found = installation.store(caller, one.name()).review_find(&query, LOOKED_AT as u32).await?;
        briefs.extend(found.into_iter().map(|brief| (one, brief)));
    }
    briefs.sort_by(|(_, a), (_, b)| b.run.cmp(&a.run));
    let (mut found, mut last, total) = (Vec::new(), None, briefs.len());
    for (at, (one, brief)) in briefs.into_iter().take(LOOKED_AT).enumerate() {
        if found.len() == limit {
            return Ok((found, last));
        }
        last = Some(brief.run.clone());
        let service = installation.service(caller, one.name())?;
        let Some(row) = crate::waivers::review_get(&service, &brief.run).await? else { continue };
        let verdict = row.review.verdict;
        if filter.verdict.is_some_and(|wanted| wanted != verdict) {
            continue;
        }
        if filter.merged && !(would_change(verdict) && is_merged(&service, one, &row.review)) {
            continue;
        }
        let asks = matches!(row.state, ReviewState::Open) && verdict == Verdict::NeedsApproval;
        if filter.waiting && !(asks && may_approve(installation, caller, one.name(), &row.review).await?) {
            continue;
        }
        // Definitions that cannot be read any more ask for nothing that could be named here; the review itself says so.
        let missing = if asks { review_missing(&service, &row.review).await.unwrap_or_default() } else { Vec::new() };
        found.push(ReviewListed { project: one.name().to_owned(), row, created_at: brief.created_at, missing });
        if at + 1 == total {
            last = None;
        }
    }
    let all = total < LOOKED_AT;
    Ok((found, last.filter(|_| !all)))
}

fn would_change(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Ready | Verdict::NeedsApproval)
}

fn is_merged(service: &Service, project: &Visible, review: &Review) -> bool {
    let Some(good) = &project.status.good else { return false };
    let commit = &review.head.commit;
    *commit == good.commit
        || service
            .checkout
            .git_if_any()
            .is_some_and(|git| git.merge_base(commit, &good.commit).is_ok_and(|base| base == *commit))
}

async fn may_approve(installation: &Installation, caller: &Caller, project: &str, review: &Review) -> AppResult<bool> {
    let instances: Vec<InstanceId> = review.stacks.iter().map(|stack| stack.instance.clone()).collect();
    let subject = subject(installation, project, "review", &review.run, &instances);
    Ok(why_not(installation, caller, Permission::ReviewApprove, &subject).await?.is_none())
}

/// Everything about one review.
pub struct ReviewView {
    pub project: String,
    pub row: ReviewRow,
    pub document: Document,
    pub created_at: windlass_model::Micros,
    pub approvals: Vec<ApprovalRecord>,
    pub missing: Vec<String>,
    /// The event of its refusal.
    pub refused: Option<Event>,
    /// Instances that would be destroyed as a whole.
    pub destroyed: Vec<InstanceId>,
    pub waivable: Vec<Candidate>,
    /// Of the same branch, newest first, with whether somebody approved it.
    pub earlier: Vec<(ReviewRow, windlass_model::Micros, bool)>,
    /// The apply that goes on, or the last one, with its steps and what was seen of resources.
    pub apply: Option<Applying>,
    /// Why the caller may not; `None` when they may.
    pub approve: Option<String>,
    pub apply_why: Option<String>,
    pub waive: Option<String>,
    pub create: Option<String>,
    pub cancel: Option<String>,
    pub resume: Option<String>,
}

/// An apply while it goes on.
pub struct Applying {
    pub record: RunRecord,
    pub steps: Vec<StepRecord>,
    /// Of resources, oldest first.
    pub events: Vec<Event>,
    /// What gates of waves said that have passed; of the first hundred.
    pub gates: BTreeMap<StepId, String>,
    /// Instances that it left quarantined, and that still are.
    pub quarantined: BTreeSet<InstanceId>,
}

/// How many gates are asked for what they said.
const GATES: usize = 100;

async fn gate_answers(
    service: &Service,
    record: &RunRecord,
    steps: &[StepRecord],
) -> AppResult<BTreeMap<StepId, String>> {
    let gates: BTreeSet<&StepId> = record
        .plan
        .steps
        .iter()
        .filter(|spec| spec.work.driver == rollout::driver::GATE)
        .map(|spec| &spec.id)
        .collect();
    let mut answers = BTreeMap::new();
    let passed = steps.iter().filter(|step| step.state == StepState::Succeeded && gates.contains(&step.id));
    for step in passed.take(GATES) {
        let output = service.store.step_get(&record.id, &step.id).await?.output.unwrap_or_default();
        answers.insert(step.id.clone(), output["answer"].as_str().unwrap_or_default().to_owned());
    }
    Ok(answers)
}

/// How many earlier reviews of a branch are told of.
const EARLIER: usize = 5;

/// One review.
///
/// # Errors
/// There is none that the caller may see, or the database cannot be read.
pub async fn review_view(installation: &Installation, caller: &Caller, run: &RunId) -> AppResult<ReviewView> {
    let (service, row) = super::review_for(installation, caller, run, Permission::ProjectRead).await?;
    let project = service.store.project().to_owned();
    let record = service.store.run_get(run).await?;
    let review = &row.review;
    let missing = match review.verdict {
        Verdict::NeedsApproval => review_missing(&service, review).await?,
        _ => Vec::new(),
    };
    let refused = match row.state {
        ReviewState::Refused => {
            let kind = Some("review.refused".to_owned());
            let filter = EventFilter { run: Some(run.clone()), kind, ..EventFilter::default() };
            service.store.event_search(&filter, None, 1).await?.pop()
        }
        _ => None,
    };
    let waivable = match (row.state, review.verdict) {
        (ReviewState::Open | ReviewState::Approved, Verdict::Denied) => {
            crate::waivers::candidate_list(&service, run).await?
        }
        _ => Vec::new(),
    };
    let apply = match service.store.apply_of(run).await? {
        Some(apply) => {
            let filter =
                EventFilter { run: Some(apply.clone()), kind: Some("resource.".into()), ..EventFilter::default() };
            let mut events = service.store.event_search(&filter, None, EVENTS).await?;
            events.reverse();
            let steps = service.store.step_list_brief(&apply).await?;
            let record = service.store.run_get(&apply).await?;
            let gates = gate_answers(&service, &record, &steps).await?;
            let quarantined = crate::recover::quarantine_list(&service).await?;
            let quarantined = quarantined.into_iter().filter(|one| one.run == apply).map(|one| one.instance).collect();
            Some(Applying { record, steps, events, gates, quarantined })
        }
        None => None,
    };
    let progress = apply.as_ref().map(|apply| Progress::of(&apply.record, &apply.steps));
    let context = Context { missing_approvals: missing.clone(), progress, ..Context::default() };
    let document = Document::new(review, context);
    let instances: Vec<InstanceId> = review.stacks.iter().map(|stack| stack.instance.clone()).collect();
    let subject = subject(installation, &project, "review", run, &instances);
    let why = |permission| why_not(installation, caller, permission, &subject);
    Ok(ReviewView {
        earlier: earlier(&service, review).await?,
        approvals: service.store.approval_list(run).await?,
        destroyed: crate::destroy::destroyed(&record, review)?,
        approve: why(Permission::ReviewApprove).await?,
        apply_why: why(Permission::ReviewApply).await?,
        waive: why(Permission::ReviewWaive).await?,
        create: why(Permission::ReviewCreate).await?,
        cancel: why(Permission::RunCancel).await?,
        resume: why(Permission::RunResume).await?,
        created_at: record.created_at,
        project,
        document,
        missing,
        refused,
        waivable,
        apply,
        row,
    })
}

async fn earlier(service: &Service, review: &Review) -> AppResult<Vec<(ReviewRow, windlass_model::Micros, bool)>> {
    // Without a branch nothing tells which reviews are of the same change.
    if review.head.name == "HEAD" {
        return Ok(Vec::new());
    }
    let query = ReviewQuery { text: review.head.name.clone(), before: Some(review.run.clone()), ..Default::default() };
    let mut found = Vec::new();
    for brief in service.store.review_find(&query, 50).await? {
        let Some(row) = service.store.review_get(&brief.run).await? else { continue };
        if row.review.head.name == review.head.name {
            let approved = !service.store.approval_list(&brief.run).await?.is_empty();
            found.push((row, brief.created_at, approved));
        }
        if found.len() == EARLIER {
            break;
        }
    }
    Ok(found)
}

/// Approves the changed effects that an apply waits with, one of which has to be what was seen.
///
/// # Errors
/// The caller may not, or nothing waits that was seen.
pub async fn approve_changed(
    installation: &Installation,
    caller: &Caller,
    run: &RunId,
    effect: &str,
    reason: Option<&str>,
) -> AppResult<()> {
    let view = run_show(installation, caller, run, &StepQuery::default(), 0).await?;
    if !view.changed.iter().any(|changed| changed.effect_digest == effect) {
        let diagnostic = Diagnostic::error("WL847", format!("what run {run} waits with is not what you saw"))
            .help("load it again, look at what it says now, and decide then");
        return Err(AppError::new(ErrorKind::Conflict, diagnostic));
    }
    super::approve(installation, caller, run, &super::Seen::default(), reason).await.map(drop)
}

/// The review that an apply applies.
pub fn review_of(record: &RunRecord) -> Option<RunId> {
    ApplyInput::deserialize(&record.plan.input).ok().map(|input| input.review)
}

/// Has what a run applied planned as it was before: a review of its own. Who asked for it, and why, is recorded.
///
/// # Errors
/// There is no such apply, the caller may not, or there is nothing to go back to.
pub async fn rollback_start(
    installation: &std::sync::Arc<Installation>,
    caller: &Caller,
    run: &RunId,
    reason: Option<&str>,
) -> AppResult<Option<RunId>> {
    let record = run_for(installation, caller, run, Permission::ReviewCreate).await?;
    let input = ApplyInput::deserialize(&record.plan.input).map_err(|_| {
        let diagnostic = Diagnostic::error("WL850", format!("run {run} applied nothing"));
        AppError::new(ErrorKind::Refused, diagnostic.help("choose an apply"))
    })?;
    // A branch that was merged is often deleted: what goes back then goes back from the protected one.
    let status = installation.followed.status(&record.project);
    let name = format!("refs/heads/{}", input.head.name);
    let is_there = status.is_some_and(|status| status.references.contains_key(&name));
    let request = super::ReviewRequest {
        branch: is_there.then_some(input.head.name),
        commit: None,
        selection: crate::review::Selection::Rollback(run.clone()),
    };
    let review = super::review_start(installation, caller, &record.project, &request).await?;
    if let Some(review) = &review {
        let (subject, actor) = (format!("run {run}"), caller.actor.to_string());
        let data = serde_json::json!({ "run": run, "review": review });
        let store = installation.store(caller, &record.project);
        store.event_tell("run.rollback_asked", &subject, data, &actor, reason).await?;
    }
    Ok(review)
}
