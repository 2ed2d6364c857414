//! What people read of a review: a view document, made purely from [`Review`] and what is known around it. Terminal, Markdown,
//! HTML and JSON are drawn from this and from nothing else. It is deterministic, and holds no sensitive value: what is
//! masked in the review is `(sensitive)` here, without even its digest.

use super::group::entries;
use super::progress::{Phase, Progress};
use super::{Level, Outcome, Review, Revision, Severity, Stage, Verdict};
use super::{findings, reach, since, summary};
use crate::Micros;
use crate::diagnostic::{Diagnostic, Span};
use crate::diff::Row;
use crate::effect::{Action, EffectSummary, OutputAction, Shown};
use crate::id::{InstanceId, RunId, StackId};
use crate::risk;
use crate::waiver::Waived;
use serde::{Deserialize, Serialize};

pub use super::summary::{Label, Summary};

/// Version of the shape of [`Document`]: grows when a field goes or changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

/// What is known around a review when it is shown.
#[derive(Debug, Clone, Default)]
pub struct Context<'a> {
    /// One sentence for each approval that is still missing.
    pub missing_approvals: Vec<String>,
    /// The review of the same branch before this one: tells which findings are new.
    pub last: Option<&'a Review>,
    /// The newest review of the same branch that was approved: tells what nobody has approved yet.
    pub approved: Option<&'a Review>,
    /// Earlier reviews of the same branch, newest first.
    pub history: Vec<Earlier>,
    /// Its last apply, where there is one.
    pub progress: Option<Progress>,
    /// Address of the page that shows the whole review.
    pub link: Option<String>,
    /// The plans were made elsewhere: they are not applied from here.
    pub given: bool,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    pub run: RunId,
    pub project: String,
    pub base: Option<Revision>,
    pub head: Revision,
    pub effect_digest: String,
    /// The verdict, and what the reader must do.
    pub headline: Headline,
    /// Uncommitted files that the review includes.
    pub dirty: Vec<String>,
    /// Labels and counts, for programs.
    pub summary: Summary,
    /// Instances that could not be planned; same failures together.
    pub failures: Vec<Failure>,
    /// What checks and policies found, worst first; same findings of several instances together.
    pub findings: Vec<FindingEntry>,
    /// What the last review of the branch found and this one does not.
    pub fixed: Vec<FindingEntry>,
    /// Everything that is destroyed or replaced: data first.
    pub dangers: Vec<Danger>,
    /// What is not as it was in the review that was approved, or else in the last one.
    pub since: Option<Since>,
    /// Stacks that have something to say, worst risk first, otherwise in the order in which they are applied.
    pub stacks: Vec<StackEntry>,
    /// Instances without changes and without findings.
    pub unchanged: Vec<InstanceId>,
    /// What belongs to no single stack.
    pub diagnostics: Vec<Diagnostic>,
    /// Newest first.
    pub history: Vec<Earlier>,
    pub link: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Headline {
    pub verdict: Verdict,
    /// e.g. `Needs approval`.
    pub title: String,
    /// What the reader does next, as the end of a sentence, e.g. `approve it`; empty when nothing is to be done.
    pub todo: String,
    /// The command that does it.
    pub command: Option<String>,
    /// Approvals that are missing, one sentence each.
    pub missing: Vec<String>,
    /// How its last apply is, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub stage: Stage,
    pub instances: Vec<InstanceId>,
    /// Instances that were not planned because of these.
    pub skipped: Vec<InstanceId>,
    pub diagnostics: Vec<Diagnostic>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindingEntry {
    pub level: Level,
    pub severity: Option<Severity>,
    pub source: String,
    pub rule: Option<String>,
    pub message: String,
    /// Resources it speaks of, sorted.
    pub addresses: Vec<String>,
    /// Where to mend it.
    pub code: Option<Span>,
    /// Where the rule stands.
    pub policy: Option<Span>,
    /// Address of a page that says more.
    pub help: Option<String>,
    /// Sorted; none for what is said of the whole change.
    pub instances: Vec<InstanceId>,
    /// `None` where there is no earlier review to compare with.
    pub state: Option<FindingState>,
    /// It would deny if somebody had not waived it.
    pub waived: Option<Waived>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    New,
    Unchanged,
    Fixed,
}

/// One resource that is destroyed or replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Danger {
    pub kind: DangerKind,
    pub stack: StackId,
    /// Sorted.
    pub instances: Vec<InstanceId>,
    pub address: String,
    pub resource_type: String,
    pub action: Action,
    /// What is lost, e.g. `database: data in it is lost unless restored`; only where something is.
    pub loss: Option<String>,
    /// Attributes that force a replacement.
    pub cause: Vec<String>,
    /// Only expected: planned with what upstreams will output.
    pub preview: bool,
}

/// Worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DangerKind {
    DataDestroyed,
    DataReplaced,
    Destroyed,
    Replaced,
}

/// What is not as it was in an earlier review.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Since {
    /// That review was approved; otherwise it was only the last.
    pub approved: bool,
    pub run: RunId,
    pub commit: String,
    /// How many resources (of instances) and outputs differ.
    pub resources: usize,
    pub outputs: usize,
    pub items: Vec<SinceItem>,
    /// One sentence, e.g. `2 resources differ from the plan approved at abc123`.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinceItem {
    /// Sorted.
    pub instances: Vec<InstanceId>,
    /// Address, or `output NAME`.
    pub subject: String,
    /// e.g. `is destroyed now`, `` `tags.Name` gets another value ``.
    pub what: String,
}

/// An earlier review of the same branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    pub run: RunId,
    pub commit: String,
    /// When it was made.
    pub at: Micros,
    pub verdict: Verdict,
    pub effect: EffectSummary,
    /// Findings that deny, or of a gate that broke.
    pub denied: usize,
    pub warned: usize,
    pub approved: bool,
}

/// The instances of one stack that have the same effect, or nearly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackEntry {
    pub stack: StackId,
    /// What follows is so in each of these; the first stands for all.
    pub instances: Vec<InstanceId>,
    /// Instances that differ from this in some rows only.
    pub variants: Vec<Variant>,
    /// e.g. `aws/network[tokyo]`, `aws/network: same in 6 instances, differs in osaka`.
    pub title: String,
    /// Why it is in the review, e.g. `changed`, `renamed from aws/net`.
    pub kind: String,
    /// One line each: the cause first, then the links that lead to the stack.
    pub reasons: Vec<ReasonEntry>,
    pub environments: Vec<String>,
    pub owner: Option<String>,
    pub status: Status,
    pub label: Label,
    pub risk: Option<risk::Level>,
    /// 0 to 100.
    pub score: u32,
    /// Why, the weightiest first.
    pub risk_reasons: Vec<String>,
    /// Of one instance.
    pub effect: EffectSummary,
    /// Created, updated, replaced and destroyed, the weightiest first.
    pub resources: Vec<ResourceEntry>,
    /// Only their addresses change: from, to.
    pub moved: Vec<(String, String)>,
    /// Only taken into the state: address, id.
    pub imported: Vec<(String, String)>,
    /// Only dropped from the state.
    pub forgotten: Vec<String>,
    pub outputs: Vec<OutputEntry>,
    /// What the world changed behind the state; apart from what is intended.
    pub drift: Vec<ResourceEntry>,
    pub checks: Vec<CheckEntry>,
    /// Whom a risky change reaches.
    pub reach: Vec<Branch>,
    /// Stacks that read from it as well, and are left out.
    pub reach_more: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonEntry {
    /// `added`, `modified`, `deleted`, `renamed`, `type changed`, `upstream`.
    pub change: String,
    pub cause: String,
    /// From the cause to the stack.
    pub chain: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    Planned,
    /// Planned with what its upstreams will output.
    Preview {
        because: Vec<InstanceId>,
        values: Vec<UpstreamValue>,
    },
    Failed {
        stage: Stage,
    },
    Skipped {
        because: InstanceId,
    },
    /// The directory is gone; what it made stays until it is destroyed.
    Deleted,
    Unaffected,
}

/// An output of an upstream as a preview was planned with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamValue {
    pub from: InstanceId,
    pub output: String,
    pub value: Shown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceEntry {
    pub address: String,
    pub previous_address: Option<String>,
    pub resource_type: String,
    pub action: Action,
    pub danger: Option<DangerKind>,
    /// What is lost with it.
    pub loss: Option<String>,
    /// Attributes that force a replacement.
    pub cause: Vec<String>,
    /// Where such an attribute is not known because another resource is replaced: that one, the one that it is replaced
    /// because of, and so on.
    pub cause_path: Vec<String>,
    /// Why, in a sentence, where it is not an attribute.
    pub reason: Option<String>,
    /// It is imported as well.
    pub import_id: Option<String>,
    pub rows: Vec<Row>,
    /// Attributes that are known after apply only.
    pub unknown: Vec<String>,
    /// It is not as it was in the review that [`Document::since`] speaks of.
    pub new: bool,
    /// Resources of the same plan that read it, directly.
    pub dependants: Vec<String>,
    /// What is cut first when space is short has the least; 0 to 100.
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputEntry {
    pub name: String,
    pub action: OutputAction,
    pub rows: Vec<Row>,
    /// Who reads it.
    pub readers: Vec<InstanceId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckEntry {
    pub address: String,
    /// `fail`, `error` or `unknown`.
    pub status: String,
    pub problems: Vec<String>,
}

/// Instances of a stack that differ from the entry they stand in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    pub instances: Vec<InstanceId>,
    pub differences: Vec<VariantDifference>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantDifference {
    /// Address, `output NAME`, or `drift of ADDRESS`.
    pub subject: String,
    /// e.g. `is created here too`, `does not change `tags.Name``; empty where the rows say it.
    pub what: String,
    /// Rows as they are here.
    pub rows: Vec<Row>,
}

/// A stack that reads from another, and who reads from it in turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    pub stack: StackId,
    pub instances: Vec<InstanceId>,
    /// What it reads; `None` where it may be anything.
    pub outputs: Option<Vec<String>>,
    /// What this review says of it, e.g. `preview: 2 to update`; `None` when it is not in it.
    pub planned: Option<String>,
    pub branches: Vec<Branch>,
    /// Stacks that are left out below it.
    pub more: usize,
}

impl Document {
    /// The view of a review.
    pub fn new(review: &Review, context: Context<'_>) -> Self {
        let since = since::compare(review, &context);
        let mut stacks = entries(review, since.as_ref());
        reach::fill(review, &mut stacks);
        let (findings, fixed) = findings::collect(review, context.last);
        let unchanged = review.stacks.iter().filter(|s| is_quiet(s)).map(|s| s.instance.clone()).collect();
        Self {
            version: VERSION,
            run: review.run.clone(),
            project: review.project.clone(),
            base: review.base.clone(),
            head: review.head.clone(),
            effect_digest: review.effect_digest.clone(),
            headline: Headline::of(review, &context),
            dirty: review.dirty.clone(),
            summary: summary::of(review, &findings, &fixed),
            failures: findings::failures(review),
            findings,
            fixed,
            dangers: summary::dangers(review),
            since,
            stacks,
            unchanged,
            diagnostics: review.diagnostics.clone(),
            history: context.history,
            link: context.link,
        }
    }
}

/// Nothing changes, nothing was found.
pub(super) fn is_quiet(stack: &super::StackReview) -> bool {
    let empty = match &stack.outcome {
        Outcome::Unaffected => true,
        Outcome::Planned { effect } | Outcome::Preview { effect, .. } => summary::says_nothing(effect),
        _ => false,
    };
    empty && stack.findings.is_empty()
}

impl Headline {
    fn of(review: &Review, context: &Context<'_>) -> Self {
        if let Some(progress) = &context.progress {
            return Self::applied(review, progress);
        }
        let (id, missing, given) = (&review.run, context.missing_approvals.clone(), context.given);
        let again = || Some("windlass review".to_owned());
        let (title, todo, command) = match review.verdict {
            Verdict::Nothing => ("Nothing to apply", "", None),
            Verdict::Ready | Verdict::NeedsApproval if given => ("Nothing stands against it", "", None),
            Verdict::Denied if given => ("Denied by policy", "mend what is denied, and plan it again", None),
            Verdict::Denied => ("Denied by policy", "mend what is denied, commit, and review it again", again()),
            Verdict::Failed => {
                ("Could not be planned in full", "mend what failed, commit, and review it again", again())
            }
            Verdict::Ready | Verdict::NeedsApproval if !review.dirty.is_empty() => {
                ("Readable, not approvable", "commit the changes, review again, and approve that", again())
            }
            Verdict::NeedsApproval if !missing.is_empty() => {
                ("Needs approval", "approve it", Some(format!("windlass approve {id}")))
            }
            Verdict::Ready | Verdict::NeedsApproval => {
                ("Ready to apply", "apply it", Some(format!("windlass apply {id}")))
            }
        };
        let missing =
            if review.verdict == Verdict::NeedsApproval && review.dirty.is_empty() { missing } else { vec![] };
        Self { verdict: review.verdict, title: title.into(), todo: todo.into(), command, missing, phase: None }
    }

    /// Once it is being applied, what it asked for is of the past.
    fn applied(review: &Review, progress: &Progress) -> Self {
        let (todo, command) = match progress.phase {
            Phase::Applying | Phase::Waiting | Phase::Applied => ("", None),
            Phase::Stopped => ("mend what failed, and review it again", Some("windlass review".to_owned())),
            Phase::Cancelled => ("apply the rest", Some(format!("windlass apply {}", review.run))),
        };
        let phase = Some(progress.phase);
        Self {
            verdict: review.verdict,
            title: progress.title(),
            todo: todo.into(),
            command,
            missing: Vec::new(),
            phase,
        }
    }
}

impl Verdict {
    /// For people, e.g. `needs approval`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing to apply",
            Self::Ready => "ready",
            Self::NeedsApproval => "needs approval",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl FindingState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Unchanged => "unchanged",
            Self::Fixed => "fixed",
        }
    }
}

impl DangerKind {
    /// What holds data is lost or made anew.
    pub fn is_data(self) -> bool {
        matches!(self, Self::DataDestroyed | Self::DataReplaced)
    }

    /// `destroyed` or `replaced`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DataDestroyed | Self::Destroyed => "destroyed",
            Self::DataReplaced | Self::Replaced => "replaced",
        }
    }
}

impl Earlier {
    /// What is told of a review when a later one took its place.
    pub fn of(review: &Review, at: Micros, approved: bool) -> Self {
        let denied = |f: &&super::Finding| f.level <= Level::Deny;
        let all = || review.stacks.iter().flat_map(|s| &s.findings).chain(&review.findings);
        let denied = all().filter(denied).count();
        Self {
            run: review.run.clone(),
            commit: review.head.commit.clone(),
            at,
            verdict: review.verdict,
            effect: review.effects().map(crate::effect::Effect::summary).sum(),
            denied,
            warned: all().count() - denied,
            approved,
        }
    }
}

impl StackEntry {
    /// All instances, those that differ as well.
    pub fn all_instances(&self) -> impl Iterator<Item = &InstanceId> {
        self.instances.iter().chain(self.variants.iter().flat_map(|v| &v.instances))
    }
}
