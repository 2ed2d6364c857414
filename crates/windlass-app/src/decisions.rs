//! Decisions about a change: what policies are asked with, what is made of their answers, and what is kept of both.

use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::project::git_error;
use crate::service::{Deciding, Service};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use windlass_drivers::git::Target;
use windlass_drivers::terraform::plan_file;
use windlass_engine::StepContext;
use windlass_model::affected::PathChange;
use windlass_model::approval::{Actor, ApprovalRecord};
use windlass_model::definition::{ApprovalRule, DecisionKind, Definitions};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::effect::Effect;
use windlass_model::id::{InstanceId, RunId, StackId};
use windlass_model::review::{AffectedKind, Finding, Level, Outcome, Review, Verdict};
use windlass_model::stack_plan::{ReviewInput, StackWork};
use windlass_policy::decision::input::{Approval, Change, Input, PlanFacts, Question, Rule, change_of};
use windlass_policy::decision::{Decision, Required, masked_plan};
use windlass_store::{ArtefactKind, NewArtefact};

pub use windlass_policy::decision::schema;

/// Who asks, and for what.
pub type Rules = Vec<(String, ApprovalRule)>;

/// Judges the change as a whole, says what it needs, and keeps what was asked with, so that other policies can be asked the same.
pub async fn conclude(service: &Service, review: &mut Review, deciding: &Deciding) -> AppResult<()> {
    let files = files(service, review)?;
    let asked = Input::review(&Change::new(review, &files, Question::Review { approvals: None }));
    keep_change(service, review, &files, &deciding.definitions).await?;
    review.findings = deciding.policies.decide(None, &asked).findings;
    let environments = crate::review::rules(review, &deciding.definitions);
    let (required, broken) = required(review, deciding, &files, &environments);
    review.findings.extend(broken);
    review.findings.extend(crate::replay::of_change(service, review, &files).await);
    review.verdict = verdict(review, !environments.is_empty() || !required.is_empty());
    Ok(())
}

/// What its findings and what it asks for make of a review.
pub fn verdict(review: &Review, asks: bool) -> Verdict {
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Skipped { .. });
    let changes = |outcome: &Outcome| match outcome {
        Outcome::Planned { effect } => !effect.is_empty(),
        Outcome::Preview { .. } => true,
        _ => false,
    };
    let mut findings = review.stacks.iter().flat_map(|stack| &stack.findings).chain(&review.findings);
    match () {
        () if review.stacks.iter().any(|stack| failed(&stack.outcome)) => Verdict::Failed,
        () if findings.any(|finding| finding.level <= Level::Deny) => Verdict::Denied,
        () if !review.stacks.iter().any(|stack| changes(&stack.outcome)) => Verdict::Nothing,
        () if asks => Verdict::NeedsApproval,
        () => Verdict::Ready,
    }
}

/// Everything that a review needs: what its environments ask for, and what policies add to it.
///
/// # Errors
/// A policy about approvals broke: nobody knows what it would have asked for.
pub fn rules(service: &Service, review: &Review, deciding: &Deciding) -> AppResult<Rules> {
    let mut rules = crate::review::rules(review, &deciding.definitions);
    if deciding.policies.has(DecisionKind::Approval) {
        let (required, broken) = required(review, deciding, &files(service, review)?, &rules);
        refuse_broken(&broken)?;
        rules.extend(required.into_iter().map(|required| (required.subject(), required.rule)));
    }
    Ok(rules)
}

/// What policies ask for when one instance turned out to have another effect than was reviewed, beside `rules`.
///
/// # Errors
/// A policy about approvals broke.
pub fn required_of_changed(
    service: &Service,
    review: &Review,
    deciding: &Deciding,
    effect: &Effect,
    rules: &Rules,
) -> AppResult<Rules> {
    if !deciding.policies.has(DecisionKind::Approval) {
        return Ok(Vec::new());
    }
    let mut review = review.clone();
    // Only this one is to be approved.
    review.stacks.retain(|stack| stack.instance == effect.instance);
    for stack in &mut review.stacks {
        stack.outcome = Outcome::Planned { effect: effect.clone() };
        let dependants = stack.risk.iter().flat_map(|risk| &risk.reasons).cloned().collect::<Vec<_>>();
        let mut risk = windlass_model::risk::rank(effect, &windlass_model::risk::Context::default());
        // What is known about its surroundings still holds.
        if let Some(before) = stack.risk.take().filter(|before| before.score > risk.score) {
            risk.level = before.level;
            risk.score = before.score;
        }
        let new: BTreeSet<_> = risk.reasons.iter().map(|reason| reason.code).collect();
        risk.reasons.extend(dependants.into_iter().filter(|reason| !new.contains(&reason.code)));
        stack.risk = Some(risk);
    }
    review.effect_digest = effect.digest();
    let (required, broken) = required(&review, deciding, &files(service, &review)?, rules);
    refuse_broken(&broken)?;
    Ok(required.into_iter().map(|required| (required.subject(), required.rule)).collect())
}

fn required(
    review: &Review,
    deciding: &Deciding,
    files: &[PathChange],
    rules: &Rules,
) -> (Vec<Required>, Vec<Finding>) {
    let asked = approval_input(review, files, rules);
    let Decision { required, findings, .. } = deciding.policies.decide(None, &asked);
    (required, findings)
}

fn approval_input(review: &Review, files: &[PathChange], rules: &Rules) -> Input {
    let rules = rules.iter().map(|(subject, rule)| Rule { subject: subject.clone(), rule: rule.clone() }).collect();
    Input::approval(&Change::new(review, files, Question::Approval { rules }))
}

fn refuse_broken(broken: &[Finding]) -> AppResult<()> {
    let broken: Vec<Diagnostic> = broken.iter().map(|finding| denial("WL455", finding)).collect();
    if broken.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Refused, broken)) }
}

fn denial(code: &str, finding: &Finding) -> Diagnostic {
    let diagnostic = Diagnostic::error(code, format!("{}: {}", finding.source, finding.message));
    match &finding.policy {
        Some(span) => diagnostic.at(span.clone()),
        None => diagnostic,
    }
}

/// Asks the policies over whole changes once more, with the approvals that were given.
///
/// # Errors
/// One of them denies it, or broke.
pub async fn refuse_denied(service: &Service, review: &Review) -> AppResult<()> {
    let deciding = crate::apply::deciding_commit(service, &review.run).await?;
    let deciding = service.deciding(deciding.as_deref()).await?;
    if !deciding.policies.has(DecisionKind::Review) {
        return Ok(());
    }
    let counts = |record: &ApprovalRecord| {
        record.commit == review.head.commit
            && record.effect_digest == review.effect_digest
            && record.policy_digest == review.policy_digest
    };
    let given = service.store.approval_list(&review.run).await?;
    let rules = windlass_model::access::Rules::new(&deciding.definitions, &[]);
    let teams = |actor: &Actor| rules.teams_of(actor).into_iter().map(str::to_owned).collect();
    let approvals =
        given.iter().filter(|record| counts(record)).map(|record| Approval::new(record, teams(&record.actor)));
    let question = Question::Review { approvals: Some(approvals.collect()) };
    let asked = Input::review(&Change::new(review, &files(service, review)?, question));
    let findings = deciding.policies.decide(None, &asked).findings;
    let left = crate::waivers::without_waived_change(service, review, findings).await?;
    let denied: Vec<Diagnostic> = left
        .iter()
        .filter(|finding| finding.level <= Level::Deny)
        .map(|finding| denial("WL454", finding).help("do what it asks for, then apply again"))
        .collect();
    if denied.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Refused, denied)) }
}

/// What differs between the base of a review and its commit.
fn files(service: &Service, review: &Review) -> AppResult<Vec<PathChange>> {
    let Some(base) = &review.base else { return Ok(Vec::new()) };
    let target = Target::Commit(review.head.commit.clone());
    service.checkout.git()?.changes(&base.commit, &target).map_err(|error| git_error(&error))
}

/// The plan of one instance with what is known about the instance.
pub fn plan_input(
    service: &Service,
    work: &StackWork,
    plan: serde_json::Value,
    preview: bool,
    deciding: &Deciding,
) -> Input {
    let facts = plan_facts(service, deciding, &work.instance.id, work.owner.clone());
    Input::plan(plan, &PlanFacts { change: change_of(&work.kind), preview, destroy: work.destroy, ..facts })
}

/// What is known about an instance whose stack is changed.
pub fn plan_facts(service: &Service, deciding: &Deciding, instance: &InstanceId, owner: Option<String>) -> PlanFacts {
    PlanFacts {
        project: service.checkout.name(&deciding.definitions),
        instance: instance.to_string(),
        stack: instance.stack().to_string(),
        region: instance.key().map(str::to_owned),
        environments: crate::project::environments_of(&deciding.definitions, instance),
        owner,
        change: change_of(&AffectedKind::Changed),
        preview: false,
        destroy: false,
    }
}

/// How many reviews are kept.
const KEPT: usize = 50;
/// A longer input is not kept, bytes.
const LONGEST: u64 = 16 << 20;

/// One input as it is kept: without any sensitive value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub kind: DecisionKind,
    pub instance: Option<InstanceId>,
    pub stack: Option<StackId>,
    /// What was checked out, e.g. the branch.
    pub head: String,
    pub value: serde_json::Value,
}

impl Kept {
    pub fn input(&self) -> Input {
        Input { kind: self.kind, value: self.value.clone() }
    }
}

/// Keeps what the policies were asked with about one instance of a review; nothing in other runs. `mask` replaces secrets in a
/// text.
pub async fn keep_plan(
    service: &Service,
    cx: &StepContext,
    work: &StackWork,
    asked: Input,
    mask: impl Fn(&str) -> String,
) -> AppResult<()> {
    let Ok(run) = ReviewInput::deserialize(&cx.run_input) else { return Ok(()) };
    let Input { kind, mut value } = asked;
    masked_plan(&mut value, &mask);
    let instance = work.instance.id.clone();
    let name = format!("plan-{}", instance.file_name());
    let kept = Kept { kind, instance: Some(instance), stack: Some(work.stack.clone()), head: run.head.name, value };
    keep(service, &cx.run, &name, &kept).await
}

async fn keep_change(
    service: &Service,
    review: &Review,
    files: &[PathChange],
    definitions: &Definitions,
) -> AppResult<()> {
    let environments = crate::review::rules(review, definitions);
    let change = Change::new(review, files, Question::Review { approvals: None });
    for input in [Input::review(&change), approval_input(review, files, &environments)] {
        let Input { kind, value } = input;
        let kept = Kept { kind, instance: None, stack: None, head: review.head.name.clone(), value };
        keep(service, &review.run, kind.as_str(), &kept).await?;
    }
    let runs = kept_runs(service).await?;
    for old in runs.iter().take(runs.len().saturating_sub(KEPT)) {
        for input in service.store.artefact_list(ArtefactKind::Input, Some(old), None).await? {
            // One too many does no harm.
            let _ = service.store.artefact_remove(&input, None).await;
        }
    }
    Ok(())
}

async fn keep(service: &Service, run: &RunId, name: &str, kept: &Kept) -> AppResult<()> {
    let mut packed =
        Limited { inner: flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()), left: LONGEST };
    match serde_json::to_writer(&mut packed, kept) {
        Ok(()) => {}
        // Not worth its room.
        Err(_) if packed.left == 0 => return Ok(()),
        Err(error) => return Err(internal(error)),
    }
    let packed = packed.inner.finish().map_err(internal)?;
    let sealed = plan_file::seal(&packed, &service.key, &purpose(run, name)).map_err(internal)?;
    let of = NewArtefact { kind: ArtefactKind::Input, run: run.clone(), subject: name.to_owned(), number: 0 };
    service.store.artefact_put(&of, sealed).await?;
    Ok(())
}

fn purpose(run: &RunId, name: &str) -> String {
    format!("policy input {name} of review {run}")
}

/// Writes until there is no room left.
struct Limited<W> {
    inner: W,
    left: u64,
}

impl<W: Write> Write for Limited<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = bytes.len() as u64;
        if length > self.left {
            self.left = 0;
            return Err(std::io::Error::other("too long to be kept"));
        }
        self.left -= length;
        self.inner.write_all(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Reviews whose inputs are kept, oldest first: ids of runs grow with time.
pub async fn kept_runs(service: &Service) -> AppResult<Vec<RunId>> {
    let inputs = service.store.artefact_list(ArtefactKind::Input, None, None).await?;
    let mut runs: Vec<RunId> = inputs.into_iter().map(|input| input.of.run).collect();
    runs.dedup();
    Ok(runs)
}

/// The inputs of one review, by name. What cannot be had or opened (of another installation, or changed) is left out.
pub async fn kept_inputs(service: &Service, run: &RunId) -> AppResult<Vec<Kept>> {
    let mut found = Vec::new();
    for input in service.store.artefact_list(ArtefactKind::Input, Some(run), None).await? {
        if let Ok(sealed) = service.store.artefact_read(&input.id).await {
            found.extend(open(service, run, &input.of.subject, &sealed));
        }
    }
    Ok(found)
}

fn open(service: &Service, run: &RunId, name: &str, sealed: &[u8]) -> Option<Kept> {
    let packed = plan_file::open(sealed, &service.key, &purpose(run, name)).ok()?;
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).take(LONGEST + 1).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
