//! Approving a review and applying it.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::review::approval_status;
use crate::service::Service;
use crate::steps::apply::Prepared;
use crate::unmoved::Unmoved;
use serde::Deserialize;
use std::collections::BTreeMap;
use windlass_model::approval::{ApprovalRecord, ApprovalStatus, ChangeIdentity, evaluate};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::{Review, Revision, Verdict};
use windlass_model::run::{RunState, StepState};
use windlass_model::stack_plan::{self, ApplyInput, ApplyWork, ReviewInput, StackWork, driver, gate_step, plan_step};
use windlass_store::{ReviewRow, ReviewState, StoreError};

/// What an approval was given to, and what is still missing.
#[derive(Debug)]
pub struct Approved {
    pub id: RunId,
    /// What was approved, e.g. `review`, or the instance whose changed effect it was.
    pub subjects: Vec<String>,
    /// Empty when it can go on now.
    pub missing: Vec<String>,
}

/// Approves a review; or, given a waiting apply run, the effects in it that are not what was reviewed.
pub async fn approve(service: &Service, id: &RunId, reason: Option<&str>) -> AppResult<Approved> {
    if let Some(row) = crate::waivers::review_get(service, id).await? {
        return approve_review(service, row, reason).await;
    }
    approve_waiting(service, id, reason).await
}

async fn approve_review(service: &Service, row: ReviewRow, reason: Option<&str>) -> AppResult<Approved> {
    let review = row.review;
    let refuse = |code: &str, summary: String, help: &str| {
        Err(AppError::new(ErrorKind::Refused, Diagnostic::error(code, summary).help(help)))
    };
    match row.state {
        ReviewState::Open | ReviewState::Approved => {}
        state => {
            return refuse(
                "WL606",
                format!("review {} is {}", review.run, state.as_str()),
                "run `windlass review` for a new one",
            );
        }
    }
    match review.verdict {
        Verdict::Denied | Verdict::Failed => {
            return refuse(
                "WL607",
                format!("review {} {}: it cannot be approved", review.run, refusal(review.verdict)),
                "mend what it shows, commit, and run `windlass review` again",
            );
        }
        Verdict::Nothing => {
            return refuse("WL607", format!("review {} changes nothing", review.run), "there is nothing to approve");
        }
        Verdict::Ready | Verdict::NeedsApproval => {}
    }
    if !review.dirty.is_empty() {
        return refuse(
            "WL608",
            format!("review {} includes uncommitted changes", review.run),
            "commit them and run `windlass review` again: an approval is bound to a commit",
        );
    }
    let record = ApprovalRecord {
        actor: service.actor.clone(),
        commit: review.head.commit.clone(),
        effect_digest: review.effect_digest.clone(),
        policy_digest: review.policy_digest.clone(),
        at: service.store.now().await?,
        reason: reason.map(str::to_owned),
    };
    service.store.approval_add(&review.run, &record).await?;
    let missing = review_settle(service, &review).await?;
    Ok(Approved { id: review.run.clone(), subjects: vec!["review".into()], missing })
}

/// Refuses a review: it cannot be approved or applied any more.
///
/// # Errors
/// No reason is given, or it is decided already.
pub async fn refuse(service: &Service, row: &ReviewRow, reason: &str) -> AppResult<()> {
    if reason.trim().is_empty() {
        let diagnostic = Diagnostic::error("WL463", "a refusal needs a reason");
        return Err(AppError::new(ErrorKind::Usage, diagnostic.help("say what has to be different")));
    }
    let run = &row.review.run;
    if service.store.review_refuse(run, &service.actor.to_string(), reason).await? {
        return Ok(());
    }
    let diagnostic = Diagnostic::error("WL606", format!("review {run} is {}", row.state.as_str()));
    Err(AppError::new(ErrorKind::Conflict, diagnostic.help("only one that is open or approved can be refused")))
}

/// Marks an open review as approved when it is; what is missing comes back.
pub(crate) async fn review_settle(service: &Service, review: &Review) -> AppResult<Vec<String>> {
    let missing = review_missing(service, review).await?;
    if missing.is_empty() {
        service.store.review_set_state(&review.run, ReviewState::Open, ReviewState::Approved).await?;
    }
    Ok(missing)
}

fn refusal(verdict: Verdict) -> &'static str {
    if verdict == Verdict::Denied { "was denied by policy" } else { "could not be planned in full" }
}

/// What a review still needs before it can be applied, one sentence each.
pub async fn review_missing(service: &Service, review: &Review) -> AppResult<Vec<String>> {
    let deciding = service.deciding(deciding_commit(service, &review.run).await?.as_deref()).await?;
    Ok(sentences(approval_status(service, review, &deciding).await?))
}

fn sentences(status: ApprovalStatus) -> Vec<String> {
    match status {
        ApprovalStatus::Satisfied => Vec::new(),
        ApprovalStatus::Missing(missing) => missing.into_iter().flat_map(|m| m.sentences).collect(),
    }
}

pub(crate) async fn deciding_commit(service: &Service, review: &RunId) -> AppResult<Option<String>> {
    let record = service.store.run_get(review).await?;
    Ok(ReviewInput::deserialize(&record.plan.input).ok().and_then(|input| input.deciding))
}

async fn approve_waiting(service: &Service, id: &RunId, reason: Option<&str>) -> AppResult<Approved> {
    let record = service.store.run_get(id).await?;
    let mut subjects = Vec::new();
    let mut missing = Vec::new();
    let input: ApplyInput = ApplyInput::deserialize(&record.plan.input).map_err(|_| {
        AppError::new(
            ErrorKind::Usage,
            Diagnostic::error("WL609", format!("run {id} is a {}; it takes no approval", record.plan.kind)),
        )
    })?;
    for step in record.plan.steps.iter().filter(|s| s.work.driver == driver::GATE) {
        if service.store.step_get(id, &step.id).await?.state != StepState::Waiting {
            continue;
        }
        let Ok(work) = ApplyWork::deserialize(&step.work.input) else { continue };
        let instance = work.work.instance.id.clone();
        let Some(output) = service.store.step_get(id, &plan_step(&instance)).await?.output else { continue };
        let Ok(prepared) = Prepared::deserialize(&output) else { continue };
        let deciding = service.deciding(input.deciding.as_deref()).await?;
        let approval = ApprovalRecord {
            actor: service.actor.clone(),
            commit: input.head.commit.clone(),
            effect_digest: prepared.effect_digest.clone(),
            policy_digest: deciding.policies.digest.clone(),
            at: service.store.now().await?,
            reason: reason.map(str::to_owned),
        };
        service.store.approval_add(id, &approval).await?;
        missing.extend(missing_approvals(service, id, &work, &prepared).await?);
        subjects.push(instance.to_string());
    }
    if subjects.is_empty() {
        let diagnostic = Diagnostic::error("WL609", format!("nothing in run {id} waits for an approval"))
            .help(format!("`windlass runs {id}` shows what it does"));
        return Err(AppError::new(ErrorKind::Conflict, diagnostic));
    }
    service.store.step_wake(id).await?;
    Ok(Approved { id: id.clone(), subjects, missing })
}

/// What the changed effect of one instance still needs. Where no environment asks for approvals, one by anybody is enough:
/// what nobody has seen is never applied.
pub async fn missing_approvals(
    service: &Service,
    run: &RunId,
    work: &ApplyWork,
    prepared: &Prepared,
) -> AppResult<Vec<String>> {
    let record = service.store.run_get(run).await?;
    let input: ApplyInput = crate::steps::input(&record.plan.input)?;
    let deciding = service.deciding(input.deciding.as_deref()).await?;
    let Some(row) = service.store.review_get(&input.review).await? else {
        return Err(crate::error::internal("an apply without its review"));
    };
    let approvals: Vec<ApprovalRecord> = service.store.approval_list(run).await?;
    let environments = crate::project::environments_of(&deciding.definitions, &work.work.instance.id);
    let mut rules: Vec<_> = deciding
        .definitions
        .environments
        .iter()
        .filter(|e| environments.contains(&e.name))
        .filter_map(|e| e.approvals.as_ref().map(|rule| (format!("environment {}", e.name), rule.clone())))
        .collect();
    rules.extend(crate::decisions::required_of_changed(service, &row.review, &deciding, &prepared.effect, &rules)?);
    let change = ChangeIdentity {
        commit: input.head.commit,
        effect_digest: prepared.effect_digest.clone(),
        policy_digest: deciding.policies.digest.clone(),
        authors: row.review.authors,
        unknown: row.review.unknown_authors,
    };
    if rules.is_empty() {
        let seen = approvals.iter().any(|a| a.effect_digest == change.effect_digest && a.commit == change.commit);
        return Ok(if seen {
            Vec::new()
        } else {
            vec![format!("the changed effect has to be approved: windlass approve {run}")]
        });
    }
    Ok(sentences(evaluate(&rules, &deciding.definitions.teams, &approvals, &change)))
}

/// Stores an apply run for an approved review; the engine has to drive it. `None` when there is nothing to apply.
/// `confirmed` are names of instances that may be destroyed as a whole.
pub async fn apply_create(service: &Service, id: &RunId, confirmed: &[String]) -> AppResult<Option<RunId>> {
    let Some(row) = crate::waivers::review_get(service, id).await? else {
        let diagnostic =
            Diagnostic::error("WL610", format!("there is no review {id}")).help("`windlass runs` lists what there is");
        return Err(AppError::new(ErrorKind::NotFound, diagnostic));
    };
    let (review, mut state) = (row.review, row.state);
    match state {
        ReviewState::Open | ReviewState::Approved => {}
        ReviewState::Applying => match running_apply(service, id).await? {
            Some(run) => {
                let diagnostic = Diagnostic::error("WL611", format!("review {id} is being applied by run {run}"))
                    .help("follow it with `windlass runs`; if its process died, go on with `windlass resume`");
                return Err(AppError::new(ErrorKind::Conflict, diagnostic));
            }
            // Its run has ended, and whoever ended it died before the review was given back.
            None if service.store.review_set_state(id, state, ReviewState::Open).await? => state = ReviewState::Open,
            None => return Err(taken(id)),
        },
        state => {
            let diagnostic = Diagnostic::error("WL606", format!("review {id} is {}", state.as_str()))
                .help("run `windlass review` for a new one");
            return Err(AppError::new(ErrorKind::Refused, diagnostic));
        }
    }
    match review.verdict {
        Verdict::Nothing => return Ok(None),
        Verdict::Denied | Verdict::Failed => {
            let diagnostic =
                Diagnostic::error("WL607", format!("review {id} {}: it cannot be applied", refusal(review.verdict)))
                    .help(format!(
                        "see why with `windlass review --show {id}`; mend it, commit, and run `windlass review` again"
                    ));
            return Err(AppError::new(ErrorKind::Refused, diagnostic));
        }
        Verdict::Ready | Verdict::NeedsApproval => {}
    }
    if !review.dirty.is_empty() {
        let diagnostic = Diagnostic::error("WL608", format!("review {id} includes uncommitted changes"))
            .help("commit them and run `windlass review` again: only a commit can be applied");
        return Err(AppError::new(ErrorKind::Refused, diagnostic));
    }
    checked_out(service, &review.head)?;
    let changing = review.stacks.iter().filter(|s| s.outcome.effect().is_some_and(|e| !e.is_empty()));
    crate::recover::refuse_quarantined(service, changing.map(|s| &s.instance)).await?;
    let missing = review_missing(service, &review).await?;
    if !missing.is_empty() {
        let diagnostic = Diagnostic::error("WL612", format!("review {id} is not approved"))
            .detail(missing.join("\n"))
            .help(format!("windlass approve {id}"));
        return Err(AppError::new(ErrorKind::Refused, diagnostic));
    }
    crate::decisions::refuse_denied(service, &review).await?;
    let record = service.store.run_get(id).await?;
    crate::destroy::refuse_unconfirmed(service, &record, &review, confirmed).await?;
    let works: BTreeMap<InstanceId, StackWork> = record
        .plan
        .steps
        .iter()
        .filter(|s| s.work.driver == driver::PLAN)
        .map(|s| crate::steps::input::<StackWork>(&s.work.input).map(|work| (work.instance.id.clone(), work)))
        .collect::<AppResult<_>>()?;
    let deciding = deciding_commit(service, id).await?;
    let locked = crate::steps::providers::locked(service, works.values());
    let costs = service.costs().await?;
    let Some(plan) = stack_plan::apply(&review, &works, &locked, deciding, &costs) else { return Ok(None) };
    match service.store.run_create_of(&plan, &service.actor.to_string(), id, state).await {
        Err(StoreError::Conflict(_)) => Err(taken(id)),
        created => Ok(Some(created?)),
    }
}

fn taken(review: &RunId) -> AppError {
    let diagnostic = Diagnostic::error("WL611", format!("review {review} was taken by another process just now"))
        .help("follow it with `windlass runs`");
    AppError::new(ErrorKind::Conflict, diagnostic)
}

async fn running_apply(service: &Service, review: &RunId) -> AppResult<Option<RunId>> {
    let runs = service.store.run_active().await?;
    Ok(runs
        .into_iter()
        .find(|run| {
            run.plan.kind == "apply"
                && ApplyInput::deserialize(&run.plan.input).is_ok_and(|input| input.review == *review)
        })
        .map(|run| run.id))
}

/// Refuses unless the work tree is exactly the reviewed commit. Git is asked again only when something in it moved.
pub fn checked_out(service: &Service, head: &Revision) -> AppResult<()> {
    let git = service.checkout.git()?;
    // Before git looks: what changes from here on is seen as moved the next time.
    let look = Unmoved::look(git.root(), std::time::SystemTime::now());
    if service.is_unmoved(&head.commit, look.as_ref()) {
        return Ok(());
    }
    let (now, dirty) = crate::project::head_and_dirty(git)?;
    if now != head.commit {
        let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
        let diagnostic = Diagnostic::error(
            "WL613",
            format!("the work tree is at {}, but {} was reviewed", short(&now), short(&head.commit)),
        )
        .help(format!("check out `{}` at that commit, or run `windlass review` for what is checked out", head.name));
        return Err(AppError::new(ErrorKind::Conflict, diagnostic));
    }
    if !dirty.is_empty() {
        let diagnostic = Diagnostic::error("WL614", "the work tree has uncommitted changes")
            .detail(dirty.join("\n"))
            .help("commit or put them aside; what is applied is what was reviewed");
        return Err(AppError::new(ErrorKind::Conflict, diagnostic));
    }
    service.clean_put(&head.commit, look);
    Ok(())
}

/// Puts a review whose apply run ended without its last step back to open, so that it can be applied again.
pub async fn release_ended(service: &Service, run: &RunId) -> AppResult<()> {
    let record = service.store.run_get(run).await?;
    if record.plan.kind != "apply" || !record.state.is_final() || record.state == RunState::Succeeded {
        return Ok(());
    }
    let input: ApplyInput = crate::steps::input(&record.plan.input)?;
    service.store.review_set_state(&input.review, ReviewState::Applying, ReviewState::Open).await?;
    Ok(())
}

/// The gate steps of a run that wait, for people.
pub fn is_gate(step: &windlass_model::id::StepId) -> bool {
    step.as_str().starts_with(gate_step(&InstanceId::new("")).as_str())
}
