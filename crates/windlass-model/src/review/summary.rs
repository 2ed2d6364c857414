//! Labels and counts for programs, and the list of what is destroyed.

use super::document::{Danger, DangerKind, FindingEntry, FindingState};
use super::{Level, Outcome, Review, StackReview, Verdict};
use crate::effect::{Action, Effect, EffectSummary, ResourceChange};
use crate::id::{InstanceId, RunId, StackId};
use crate::risk;
use crate::risk::types::{Class, Holds, class_of};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// What a review comes to, in one word. The worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// It could not be planned, or a gate broke.
    Error,
    /// Something is destroyed or replaced.
    Destroy,
    AddOrUpdate,
    NoChanges,
}

/// A review for programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub run: RunId,
    pub project: String,
    /// What was reviewed.
    pub commit: String,
    pub effect_digest: String,
    pub verdict: Verdict,
    /// The worst of [`Summary::labels`].
    pub label: Label,
    /// All that apply, the worst first.
    pub labels: Vec<Label>,
    /// Resources and outputs of all instances.
    pub effect: EffectSummary,
    pub instances: InstanceCounts,
    pub findings: FindingCounts,
    pub dangers: DangerCounts,
    /// Each instance, in the order in which it is applied.
    pub stacks: Vec<InstanceSummary>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceCounts {
    pub all: usize,
    /// With changes; previews as well.
    pub changed: usize,
    pub preview: usize,
    pub failed: usize,
    pub skipped: usize,
    /// Whose directory is gone, and which nothing destroys.
    pub deleted: usize,
}

/// Of entries, not of instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingCounts {
    pub broken: usize,
    pub deny: usize,
    pub warn: usize,
    /// Of all these.
    pub new: usize,
    pub fixed: usize,
}

/// Resources, by what becomes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DangerCounts {
    pub data_destroyed: usize,
    pub data_replaced: usize,
    pub destroyed: usize,
    pub replaced: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceSummary {
    pub instance: InstanceId,
    pub label: Label,
    /// Planned with what its upstreams will output.
    pub preview: bool,
    pub effect: EffectSummary,
    pub risk: Option<risk::Level>,
    /// Findings that deny, or of a gate that broke.
    pub denied: usize,
    pub warned: usize,
}

impl Label {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Destroy => "destroy",
            Self::AddOrUpdate => "add-or-update",
            Self::NoChanges => "no-changes",
        }
    }

    /// Of one instance.
    pub(super) fn of(stack: &StackReview) -> Self {
        if stack.findings.iter().any(|f| f.level == Level::Broken) {
            return Self::Error;
        }
        match &stack.outcome {
            Outcome::Failed { .. } | Outcome::Skipped { .. } => Self::Error,
            Outcome::Planned { effect } | Outcome::Preview { effect, .. } => {
                let summary = effect.summary();
                match () {
                    () if summary.destroy + summary.replace > 0 => Self::Destroy,
                    () if !effect.is_empty() => Self::AddOrUpdate,
                    () => Self::NoChanges,
                }
            }
            Outcome::Unaffected | Outcome::Deleted => Self::NoChanges,
        }
    }
}

impl DangerCounts {
    fn count(&mut self, kind: DangerKind, number: usize) {
        *match kind {
            DangerKind::DataDestroyed => &mut self.data_destroyed,
            DangerKind::DataReplaced => &mut self.data_replaced,
            DangerKind::Destroyed => &mut self.destroyed,
            DangerKind::Replaced => &mut self.replaced,
        } += number;
    }
}

pub(super) fn of(review: &Review, findings: &[FindingEntry], fixed: &[FindingEntry]) -> Summary {
    let mut instances = InstanceCounts { all: review.stacks.len(), ..InstanceCounts::default() };
    let mut stacks = Vec::with_capacity(review.stacks.len());
    for stack in &review.stacks {
        let effect = stack.outcome.effect();
        let preview = matches!(stack.outcome, Outcome::Preview { .. });
        instances.changed += usize::from(effect.is_some_and(|e| !e.is_empty()));
        instances.preview += usize::from(preview);
        instances.failed += usize::from(matches!(stack.outcome, Outcome::Failed { .. }));
        instances.skipped += usize::from(matches!(stack.outcome, Outcome::Skipped { .. }));
        instances.deleted += usize::from(matches!(stack.outcome, Outcome::Deleted));
        let denied = stack.findings.iter().filter(|f| f.level <= Level::Deny).count();
        stacks.push(InstanceSummary {
            instance: stack.instance.clone(),
            label: Label::of(stack),
            preview,
            effect: effect.map(Effect::summary).unwrap_or_default(),
            risk: stack.risk.as_ref().map(|r| r.level),
            denied,
            warned: stack.findings.len() - denied,
        });
    }
    let mut labels: Vec<Label> = stacks.iter().map(|s| s.label).collect();
    labels.sort();
    labels.dedup();
    if labels.len() > 1 || labels.is_empty() {
        labels.retain(|label| *label != Label::NoChanges);
    }
    if labels.is_empty() {
        labels.push(Label::NoChanges);
    }
    let mut counts = FindingCounts { fixed: fixed.len(), ..FindingCounts::default() };
    for finding in findings {
        *match finding.level {
            Level::Broken => &mut counts.broken,
            Level::Deny => &mut counts.deny,
            Level::Warn => &mut counts.warn,
        } += 1;
        counts.new += usize::from(finding.state == Some(FindingState::New));
    }
    let mut dangers = DangerCounts::default();
    let mut classes = Classes::default();
    for change in review.effects().flat_map(|e| &e.changes) {
        if let Some((kind, _)) = classes.danger(change) {
            dangers.count(kind, 1);
        }
    }
    Summary {
        run: review.run.clone(),
        project: review.project.clone(),
        commit: review.head.commit.clone(),
        effect_digest: review.effect_digest.clone(),
        verdict: review.verdict,
        label: labels[0],
        labels,
        effect: stacks.iter().map(|s| s.effect).sum(),
        instances,
        findings: counts,
        dangers,
        stacks,
    }
}

/// Classes of resource types, each looked up once.
#[derive(Default)]
pub(super) struct Classes<'a>(HashMap<&'a str, Option<Class>>);

impl<'a> Classes<'a> {
    fn data(&mut self, resource_type: &'a str) -> Option<Holds> {
        match self.0.entry(resource_type).or_insert_with(|| class_of(resource_type)) {
            Some(Class::Data(holds)) => Some(*holds),
            _ => None,
        }
    }

    /// Whether a change destroys or replaces, and what is lost with it.
    pub(super) fn danger(&mut self, change: &'a ResourceChange) -> Option<(DangerKind, Option<String>)> {
        let destroyed = match change.action {
            Action::Destroy => true,
            Action::Replace | Action::ReplaceCreateFirst => false,
            _ => return None,
        };
        Some(match self.data(&change.resource_type) {
            Some(holds) => {
                let words = holds.words();
                let kind = if destroyed { DangerKind::DataDestroyed } else { DangerKind::DataReplaced };
                (kind, Some(format!("{}: {}", words.one, words.loss_one)))
            }
            None if destroyed => (DangerKind::Destroyed, None),
            None => (DangerKind::Replaced, None),
        })
    }
}

/// Everything that is destroyed or replaced, data first, then in order of the review. The same resource of several instances of
/// a stack is one.
pub(super) fn dangers(review: &Review) -> Vec<Danger> {
    type Key<'a> = (StackId, &'a str, Action, bool);
    let mut found: Vec<Danger> = Vec::new();
    let mut known: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    let mut classes = Classes::default();
    for stack in &review.stacks {
        let Some(effect) = stack.outcome.effect() else { continue };
        let id = stack.instance.stack();
        let preview = matches!(stack.outcome, Outcome::Preview { .. });
        for change in &effect.changes {
            let Some((kind, loss)) = classes.danger(change) else { continue };
            let at = *known.entry((id.clone(), &change.address, change.action, preview)).or_insert_with(|| {
                found.push(Danger {
                    kind,
                    stack: id.clone(),
                    instances: Vec::new(),
                    address: change.address.clone(),
                    resource_type: change.resource_type.clone(),
                    action: change.action,
                    loss,
                    cause: change.replace_paths.clone(),
                    preview,
                });
                found.len() - 1
            });
            found[at].instances.push(stack.instance.clone());
        }
    }
    found.iter_mut().for_each(|danger| danger.instances.sort());
    found.sort_by_key(|danger| danger.kind);
    found
}

/// Nothing changes, nothing was noticed.
pub(super) fn says_nothing(effect: &Effect) -> bool {
    effect.is_empty() && effect.checks.is_empty() && effect.drift.is_empty()
}
