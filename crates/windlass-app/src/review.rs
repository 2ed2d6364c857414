//! Reviews: made by a run, kept as a document, approved and applied by others.

use crate::affected::{AffectedAnswer, affected_find, base_revision};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::{Detail, Project, git_error};
use crate::service::Service;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use windlass_drivers::git::GitRepository;
use windlass_model::access::Place;
use windlass_model::approval::{ApprovalStatus, ChangeIdentity, evaluate};
use windlass_model::definition::{ApprovalRule, Definitions};
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::document::{Context, Document, Earlier};
use windlass_model::review::progress::Progress;
use windlass_model::review::{
    Affected, AffectedKind, Finding, Outcome, Reason, Review, Revision, StackReview, Verdict,
};
use windlass_model::risk::ReasonCode;
use windlass_model::run::RunPlan;
use windlass_model::stack::Instance;
use windlass_model::stack_plan::{self, ChecksInput, ReviewInput};
use windlass_store::{ReviewRow, ReviewState, RunFilter};

/// Which instances a review is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// What differs from the merge base with this revision (the default branch when `None`).
    Affected { base: Option<String> },
    /// Every instance.
    All,
    /// Instances that match one of these patterns.
    Matching(Vec<String>),
    /// Instances that match one of these patterns, to be destroyed.
    Destroy(Vec<String>),
    /// What this apply applied, as it was applied before.
    Rollback(RunId),
}

/// Stores a review run for the work tree as it is now; the engine has to drive it. `None` when nothing is affected. `handed` are
/// findings of other programs ([`report_read`]).
pub async fn review_create(
    service: &Service,
    selection: &Selection,
    handed: Vec<Finding>,
    around: Around,
) -> AppResult<Option<RunId>> {
    let Some(prepared) = review_prepare(service, selection, handed, around).await? else {
        return Ok(None);
    };
    Ok(Some(service.store.run_create(&prepared.plan, &service.actor.to_string()).await?))
}

/// A review that could be made.
pub struct ReviewPrepared {
    pub plan: RunPlan,
    /// What would be planned.
    pub places: Vec<Place>,
    /// Instances whose state is in a file beside the configuration.
    pub beside: Vec<InstanceId>,
}

/// What is known of a change beside its commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// Who made it, beside the authors of its commits that git names.
    pub authors: Vec<String>,
    /// Those of all authors that the forge knows no account for.
    pub unknown: Vec<String>,
    /// The commit that decides, where it is not the one that the change is compared with.
    pub deciding: Option<String>,
}

/// As [`review_create`], without storing it.
pub async fn review_prepare(
    service: &Service,
    selection: &Selection,
    handed: Vec<Finding>,
    around: Around,
) -> AppResult<Option<ReviewPrepared>> {
    let git = service.checkout.git()?;
    let head = head_revision(git)?;
    let (base, affected, project) = match selection {
        Selection::Affected { base } => {
            let AffectedAnswer { base, affected, project, .. } =
                affected_find(&service.checkout, base.as_deref(), None, Detail::Outputs)?;
            (Some(base), affected, project.sound()?)
        }
        Selection::Rollback(_) => (None, Vec::new(), service.checkout.project()?.sound()?),
        Selection::All => {
            let project = service.checkout.project()?.sound()?;
            (None, chosen(&project, |_| true), project)
        }
        Selection::Matching(patterns) | Selection::Destroy(patterns) => {
            let project = service.checkout.project()?.sound()?;
            let matchers = patterns.iter().map(|p| pattern(p)).collect::<AppResult<Vec<_>>>()?;
            let mut affected = chosen(&project, |id| {
                matchers.iter().any(|m| m.is_match(id.as_str()) || m.is_match(id.stack().as_str()))
            });
            if affected.is_empty() {
                let diagnostic = Diagnostic::error("WL903", format!("no instance matches {}", patterns.join(", ")))
                    .help("`windlass stacks` lists all of them");
                return Err(AppError::new(ErrorKind::NotFound, diagnostic));
            }
            if matches!(selection, Selection::Destroy(_)) {
                affected.iter_mut().for_each(|item| item.reasons = vec![crate::destroy::reason()]);
            }
            (None, affected, project)
        }
    };
    let back = match selection {
        Selection::Rollback(run) => crate::rollback::works(service, run).await?,
        _ => Vec::new(),
    };
    if affected.is_empty() && back.is_empty() {
        return Ok(None);
    }
    // What decides comes from the branch the change goes to, never from the change itself.
    let deciding = match (around.deciding, &base) {
        (Some(commit), _) => commit,
        (None, Some(base)) => base.commit.clone(),
        (None, None) => base_revision(git, None, &head.commit).map_or_else(|_| head.commit.clone(), |base| base.commit),
    };
    let dirty = crate::project::head_and_dirty(git)?.1;
    let mut authors = match &base {
        Some(base) => git.authors(&base.commit, &head.commit).map_err(|e| git_error(&e))?,
        None => git.authors(&deciding, &head.commit).map_err(|e| git_error(&e))?,
    };
    authors.extend(around.authors);
    let mut seen = BTreeSet::new();
    authors.retain(|author| seen.insert(author.clone()));
    let (deleted, mut present): (Vec<_>, Vec<_>) = affected.into_iter().partition(|a| a.kind == AffectedKind::Deleted);
    // In the order in which it will be applied. A circle is an error of its own, found before.
    if let Ok(order) = windlass_model::graph::order(&project.repository) {
        let position: std::collections::HashMap<&InstanceId, usize> =
            order.iter().enumerate().map(|(at, id)| (id, at)).collect();
        present.sort_by_key(|item| position.get(&item.instance).copied());
    }
    let mut checks = match selection {
        Selection::Destroy(_) => ChecksInput { handed, ..ChecksInput::default() },
        _ => {
            let (files, directories) = configuration(service, &project, &present)?;
            ChecksInput { files, directories, handed, ..ChecksInput::default() }
        }
    };
    let (mut works, deleted) = match selection {
        Selection::Rollback(_) => (back, deleted),
        Selection::Destroy(_) => {
            let decisive = service.deciding(Some(&deciding)).await?;
            crate::destroy::refuse_dependants(service, &project, &decisive.definitions, &present).await?;
            (stack_plan::destroy_works(&project.repository, &present, &Default::default(), None), deleted)
        }
        _ => {
            let mut works = stack_plan::stack_works(&project.repository, &present);
            let (more, unplanned) = crate::destroy::of_deleted(service, base.as_ref(), deleted, &works, &project)?;
            works.extend(more);
            (works, unplanned)
        }
    };
    for work in works.iter_mut().filter(|work| !work.destroy && work.source.is_none()) {
        arrange(work, &project.definitions);
    }
    let concerned = |d: &&Diagnostic| d.severity == Severity::Warning;
    let input = ReviewInput {
        project: service.checkout.name(&project.definitions),
        base,
        head,
        deciding: Some(deciding),
        dirty,
        authors,
        unknown_authors: around.unknown,
        deleted,
        diagnostics: project
            .diagnostics
            .iter()
            .filter(concerned)
            .cloned()
            .chain(stack_plan::rollout_diagnostics(&works))
            .collect(),
    };
    // A mistake in what decides is told now, not after minutes of planning.
    let decisive = service.deciding(input.deciding.as_deref()).await?;
    for work in &mut works {
        work.labels = crate::project::labels_of(&decisive.definitions, &work.instance.id);
        work.place = crate::project::place_of(&decisive.definitions, &work.instance.id)?;
    }
    if let Some(first) = works.first().filter(|_| !checks.files.is_empty()) {
        (checks.place, checks.labels) = (first.place.clone(), first.labels.clone());
    }
    let costs = service.costs().await?;
    let locked = crate::steps::providers::locked(service, &works);
    let plan = stack_plan::review(&works, &checks, &locked, &input, &costs);
    let place = |work: &stack_plan::StackWork| Place {
        instance: work.instance.id.clone(),
        environments: work.instance.environments.clone(),
        owner: project.repository.stack(&work.stack).and_then(|stack| stack.owner.clone()),
    };
    let beside = |work: &&stack_plan::StackWork| is_beside(&work.instance);
    Ok(Some(ReviewPrepared {
        plan,
        places: works.iter().map(place).collect(),
        beside: works.iter().filter(beside).map(|work| work.instance.id.clone()).collect(),
    }))
}

/// What the definitions say about the order and the readiness of an instance. A stack's own rollout goes before that of its
/// environment.
fn arrange(work: &mut stack_plan::StackWork, definitions: &Definitions) {
    let stack = definitions.stacks.iter().find(|d| d.id == work.stack);
    work.ready = stack.map(|d| d.ready.clone()).unwrap_or_default();
    let own = stack.and_then(|d| Some((format!("stack {}", d.id), d.rollout.clone()?)));
    let environments = definitions.environments.iter().filter(|e| work.instance.environments.contains(&e.name));
    let mut shared = environments.filter_map(|e| Some((format!("environment {}", e.name), e.rollout.clone()?)));
    work.rollout = own.or_else(|| shared.next());
}

pub(crate) fn chosen(project: &Project, wanted: impl Fn(&InstanceId) -> bool) -> Vec<Affected> {
    project
        .repository
        .instances()
        .filter(|(_, instance)| wanted(&instance.id))
        .map(|(stack, instance)| Affected {
            instance: instance.id.clone(),
            stack: stack.id.clone(),
            kind: AffectedKind::Changed,
            reasons: vec![Reason { cause: "asked for".into(), change: "selected".into(), chain: Vec::new() }],
        })
        .collect()
}

pub(crate) fn pattern(text: &str) -> AppResult<globset::GlobMatcher> {
    // The brackets of an instance are meant as they stand, not as a character class.
    let literal = text.replace('[', "[[]");
    windlass_lang::glob(&literal).map_err(|error| {
        AppError::new(
            ErrorKind::Usage,
            Diagnostic::error("WL904", format!("bad pattern `{text}`: {error}"))
                .help("for example 'aws/**' or 'aws/network[tokyo]'"),
        )
    })
}

/// Whether the state of an instance is in a file beside its configuration, which only one checkout has.
fn is_beside(instance: &Instance) -> bool {
    let file = instance.state.as_deref().and_then(|state| state.strip_prefix("local:"));
    instance.backend == "local" && !file.is_some_and(|path| path.starts_with('/'))
}

/// The commit that is checked out, under the name of its branch.
pub(crate) fn head_revision(git: &GitRepository) -> AppResult<Revision> {
    let commit = git.resolve("HEAD").map_err(|e| git_error(&e))?;
    let name = git.current_branch().unwrap_or_else(|| "HEAD".to_owned());
    Ok(Revision { name, commit })
}

/// The directories of the affected stacks' own and local modules, and the configuration files in them.
fn configuration(
    service: &Service,
    project: &Project,
    affected: &[Affected],
) -> AppResult<(Vec<String>, BTreeSet<String>)> {
    let mut directories = BTreeSet::new();
    for item in affected.iter().filter(|a| a.kind != AffectedKind::Dependant) {
        if let Some(stack) = project.repository.stack(&item.stack) {
            // A tree has no name for its root.
            let names = stack.inputs.directories.iter().map(|d| d.path.to_string());
            directories.extend(names.map(|name| if name == "." { String::new() } else { name }));
        }
    }
    let tree = service.checkout.work_tree()?;
    let files = tree
        .paths()
        .iter()
        .filter(|path| path.ends_with(".tf") || path.ends_with(".tfvars") || path.ends_with(".tofu"))
        .filter(|path| directories.contains(path.rsplit_once('/').map_or("", |(directory, _)| directory)))
        .map(|path| path.to_string())
        .collect();
    Ok((files, directories))
}

/// Findings of a report in SARIF that another program made of this repository.
///
/// # Errors
/// It cannot be read, or is no such report.
pub fn report_read(service: &Service, path: &std::path::Path) -> AppResult<Vec<Finding>> {
    let refuse = |kind: ErrorKind, why: String| {
        let diagnostic = Diagnostic::error("WL710", format!("cannot use the report {}: {why}", path.display()));
        AppError::new(kind, diagnostic.help("hand in a SARIF 2.1.0 file, e.g. of `tflint --format sarif`"))
    };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(ErrorKind::NotFound, error.to_string()))?;
    let root = std::fs::canonicalize(&service.checkout.root).unwrap_or_else(|_| service.checkout.root.clone());
    windlass_model::sarif::findings(&text, &root.display().to_string())
        .map_err(|error| refuse(ErrorKind::Definition, error.to_string()))
}

/// The document from the results of all steps.
pub fn assemble(run: &RunId, input: ReviewInput, mut stacks: Vec<StackReview>, policy_digest: String) -> Review {
    stacks.extend(input.deleted.iter().map(|item| StackReview {
        instance: item.instance.clone(),
        kind: item.kind.clone(),
        reasons: item.reasons.clone(),
        after: Vec::new(),
        environments: Vec::new(),
        owner: None,
        outcome: Outcome::Deleted,
        findings: Vec::new(),
        binding: None,
        risk: None,
        readers: Vec::new(),
        dependants: BTreeMap::new(),
    }));
    let effects: Vec<_> = stacks.iter().filter_map(|s| s.outcome.effect()).collect();
    let effect_digest = windlass_model::effect::digest_all(effects.into_iter());
    let mut review = Review {
        run: run.clone(),
        project: input.project,
        base: input.base,
        head: input.head,
        dirty: input.dirty,
        authors: input.authors,
        unknown_authors: input.unknown_authors,
        stacks,
        diagnostics: input.diagnostics,
        findings: Vec::new(),
        policy_digest,
        effect_digest,
        verdict: Verdict::Nothing,
        readers_beyond: BTreeMap::new(),
    };
    review.verdict = crate::decisions::verdict(&review, false);
    review
}

/// How many runs are looked through for earlier reviews of a branch, and how many of them are told of.
const RUNS: u32 = 50;
const EARLIER: usize = 5;

/// The view of a stored review, with what is known around it: approvals that are missing, how its apply is, and earlier reviews of
/// the same branch up to the last one that was applied.
pub async fn document(service: &Service, row: &ReviewRow) -> AppResult<Document> {
    let review = &row.review;
    let missing_approvals = match review.verdict {
        Verdict::NeedsApproval => crate::apply::review_missing(service, review).await?,
        _ => Vec::new(),
    };
    let filter = RunFilter { kind: Some("review".into()), ..Default::default() };
    let (mut last, mut approved, mut history) = (None, None, Vec::new());
    // Without a branch nothing tells which reviews are of the same change.
    let runs = if review.head.name == "HEAD" { Vec::new() } else { service.store.run_list(&filter, RUNS).await? };
    for record in runs {
        // Ids sort by time.
        let same = ReviewInput::deserialize(&record.plan.input).is_ok_and(|input| input.head.name == review.head.name);
        if !same || record.id >= review.run {
            continue;
        }
        let Some(earlier) = service.store.review_get(&record.id).await? else { continue };
        if matches!(earlier.state, ReviewState::Applying | ReviewState::Applied) {
            break;
        }
        let given = !service.store.approval_list(&record.id).await?.is_empty();
        history.push(Earlier::of(&earlier.review, record.created_at, given));
        if given && approved.is_none() {
            approved = Some(earlier.review.clone());
        }
        if last.is_none() {
            last = Some(earlier.review);
        }
        if history.len() == EARLIER {
            break;
        }
    }
    let context = Context {
        missing_approvals,
        last: last.as_ref(),
        approved: approved.as_ref(),
        history,
        progress: progress(service, &review.run).await?,
        link: None,
        given: false,
    };
    Ok(Document::new(review, context))
}

/// How the last apply of a review is; `None` when there was none.
async fn progress(service: &Service, review: &RunId) -> AppResult<Option<Progress>> {
    let Some(run) = service.store.apply_of(review).await? else { return Ok(None) };
    let (record, steps) = (service.store.run_get(&run).await?, service.store.step_list_brief(&run).await?);
    Ok(Some(Progress::of(&record, &steps)))
}

/// The view of a change that affects nothing.
pub fn document_of_nothing(service: &Service) -> AppResult<Document> {
    let head = head_revision(service.checkout.git()?)?;
    let input = ReviewInput {
        project: service.checkout.name(&service.checkout.project()?.definitions),
        base: None,
        head,
        deciding: None,
        dirty: Vec::new(),
        authors: Vec::new(),
        unknown_authors: Vec::new(),
        deleted: Vec::new(),
        diagnostics: Vec::new(),
    };
    let review = assemble(&RunId::new(""), input, Vec::new(), String::new());
    Ok(Document::new(&review, Context::default()))
}

/// Approval rules of the environments in which the review changes something, and who asks. Where an effect is unexpectedly large
/// for its stack, each asks for one more; and somebody has to look also where no environment asks.
pub fn rules(review: &Review, definitions: &Definitions) -> Vec<(String, ApprovalRule)> {
    let touched: std::collections::BTreeSet<&str> = review
        .stacks
        .iter()
        .filter(|s| s.outcome.effect().is_some_and(|e| !e.is_empty()) || matches!(s.outcome, Outcome::Preview { .. }))
        .flat_map(|s| s.environments.iter().map(String::as_str))
        .collect();
    let mut rules: Vec<(String, ApprovalRule)> = definitions
        .environments
        .iter()
        .filter(|environment| touched.contains(environment.name.as_str()))
        .filter_map(|environment| Some((format!("environment {}", environment.name), environment.approvals.clone()?)))
        .collect();
    let large = |stack: &&StackReview| {
        let reasons = stack.risk.iter().flat_map(|risk| &risk.reasons);
        reasons.into_iter().any(|reason| reason.code == ReasonCode::UnexpectedlyLarge)
    };
    if let Some(stack) = review.stacks.iter().find(large) {
        let subject = format!("the unexpectedly large effect on {}", stack.instance);
        if rules.is_empty() {
            let anybody = ApprovalRule { count: 1, from: Vec::new(), author_may_approve: true, unverified: true };
            rules.push((subject, anybody));
        } else {
            for (who, rule) in &mut rules {
                rule.count += 1;
                who.push_str(&format!(", because of {subject},"));
            }
        }
    }
    rules
}

/// Whether the approvals given so far are enough.
pub async fn approval_status(
    service: &Service,
    review: &Review,
    deciding: &crate::service::Deciding,
) -> AppResult<ApprovalStatus> {
    let approvals = service.store.approval_list(&review.run).await?;
    let change = ChangeIdentity {
        commit: review.head.commit.clone(),
        effect_digest: review.effect_digest.clone(),
        policy_digest: review.policy_digest.clone(),
        authors: review.authors.clone(),
        unknown: review.unknown_authors.clone(),
    };
    let rules = crate::decisions::rules(service, review, deciding)?;
    Ok(evaluate(&rules, &deciding.definitions.teams, &approvals, &change))
}
