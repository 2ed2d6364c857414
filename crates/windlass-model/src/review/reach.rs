//! How far a change reaches: who reads the outputs of a stack, and with which values a preview was planned.

use super::document::{Branch, StackEntry, Status, UpstreamValue};
use super::group::without_digests;
use super::{Outcome, Reader, Review, StackReview};
use crate::diff::{Change, diff_output};
use crate::effect::{OutputAction, OutputChange, Shown};
use crate::id::{InstanceId, StackId};
use crate::risk::Level;
use crate::stack::{ConsumedOutputs, EdgeKind, Repository};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How deep the tree of readers goes, and how many stacks are named below one.
const DEPTH: usize = 3;
const BREADTH: usize = 8;

impl Review {
    /// Notes who reads from the instances of this review, as the graph says.
    pub fn add_readers(&mut self, repository: &Repository) {
        let mut readers: BTreeMap<&InstanceId, BTreeMap<&InstanceId, Option<BTreeSet<&str>>>> = BTreeMap::new();
        for edge in repository.edges.iter().filter(|edge| edge.is_active()) {
            let EdgeKind::RemoteState { outputs, .. } = &edge.kind else { continue };
            let known = readers.entry(&edge.from).or_default().entry(&edge.to).or_insert_with(|| Some(BTreeSet::new()));
            match (outputs, &mut *known) {
                (ConsumedOutputs::Named(names), Some(known)) => known.extend(names.keys().map(String::as_str)),
                _ => *known = None,
            }
        }
        let of = |instance: &InstanceId| -> Vec<Reader> {
            let found = readers.get(instance).into_iter().flatten();
            found
                .map(|(reader, outputs)| Reader {
                    instance: (*reader).clone(),
                    outputs: outputs.as_ref().map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
                })
                .collect()
        };
        for stack in &mut self.stacks {
            stack.readers = of(&stack.instance);
        }
        let inside: BTreeSet<&InstanceId> = self.stacks.iter().map(|stack| &stack.instance).collect();
        let mut queue: Vec<InstanceId> =
            self.stacks.iter().flat_map(|stack| &stack.readers).map(|reader| reader.instance.clone()).collect();
        let mut beyond = BTreeMap::new();
        while let Some(instance) = queue.pop() {
            if inside.contains(&instance) || beyond.contains_key(&instance) {
                continue;
            }
            let found = of(&instance);
            queue.extend(found.iter().map(|reader| reader.instance.clone()));
            beyond.insert(instance, found);
        }
        beyond.retain(|_, readers| !readers.is_empty());
        self.readers_beyond = beyond;
    }
}

/// Values of previews, and whom what is risky reaches.
pub(super) fn fill(review: &Review, entries: &mut [StackEntry]) {
    let index = Index { review, stacks: review.stacks.iter().map(|stack| (&stack.instance, stack)).collect() };
    for entry in entries {
        let first = &entry.instances[0];
        if let Status::Preview { because, values } = &mut entry.status {
            *values = because.iter().flat_map(|from| index.values(from, first)).collect();
        }
        let risky =
            entry.risk.is_some_and(|level| level > Level::Low) || entry.resources.iter().any(|r| r.danger.is_some());
        if risky {
            let roots: Vec<&InstanceId> =
                entry.instances.iter().chain(entry.variants.iter().flat_map(|v| &v.instances)).collect();
            let mut seen = BTreeSet::from([entry.stack.clone()]);
            (entry.reach, entry.reach_more) = index.branches(&roots, DEPTH, &mut seen);
        }
    }
}

/// A value as a reader sees it: as that of an output that is made.
fn readable(value: &Shown) -> Shown {
    let made = OutputChange { action: OutputAction::Create, before: Shown::Absent, after: value.clone() };
    match without_digests(diff_output(&made)).pop().map(|row| row.change) {
        Some(Change::Added(value)) => value,
        _ => Shown::Absent,
    }
}

/// A stack, its instances that read, and what they read where that is known.
type Found<'a> = (StackId, BTreeSet<&'a InstanceId>, Option<BTreeSet<&'a String>>);

struct Index<'a> {
    review: &'a Review,
    stacks: HashMap<&'a InstanceId, &'a StackReview>,
}

impl<'a> Index<'a> {
    fn readers(&self, instance: &InstanceId) -> &'a [Reader] {
        match self.stacks.get(instance) {
            Some(stack) => &stack.readers,
            None => self.review.readers_beyond.get(instance).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    /// What `reader` was planned with instead of what the state of `from` says.
    fn values(&self, from: &InstanceId, reader: &InstanceId) -> Vec<UpstreamValue> {
        let Some(effect) = self.stacks.get(from).and_then(|s| s.outcome.effect()) else { return Vec::new() };
        let edge = self.readers(from).iter().find(|r| r.instance == *reader);
        let used = effect.outputs.iter().filter(|(name, _)| edge.is_none_or(|edge| edge.reads(name)));
        used.filter(|(_, output)| output.after != Shown::Absent)
            .map(|(name, output)| UpstreamValue {
                from: from.clone(),
                output: name.clone(),
                value: readable(&output.after),
            })
            .collect()
    }

    /// The stacks that read from any of these, each once in the whole tree; and how many are left out.
    fn branches(&self, from: &[&InstanceId], depth: usize, seen: &mut BTreeSet<StackId>) -> (Vec<Branch>, usize) {
        let mut found: Vec<Found<'a>> = Vec::new();
        let mut position: HashMap<StackId, usize> = HashMap::new();
        for reader in from.iter().flat_map(|id| self.readers(id)) {
            let stack = reader.instance.stack();
            if seen.contains(&stack) {
                continue;
            }
            let at = *position.entry(stack.clone()).or_insert_with(|| {
                found.push((stack, BTreeSet::new(), Some(BTreeSet::new())));
                found.len() - 1
            });
            let (_, instances, outputs) = &mut found[at];
            instances.insert(&reader.instance);
            match (&reader.outputs, &mut *outputs) {
                (Some(names), Some(known)) => known.extend(names),
                _ => *outputs = None,
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let more = found.len().saturating_sub(BREADTH);
        found.truncate(BREADTH);
        seen.extend(found.iter().map(|(stack, ..)| stack.clone()));
        let branches = found
            .into_iter()
            .map(|(stack, instances, outputs)| {
                let members: Vec<&InstanceId> = instances.iter().copied().collect();
                let (branches, more) = match depth {
                    0 | 1 => (Vec::new(), self.unseen(&members, seen)),
                    _ => self.branches(&members, depth - 1, seen),
                };
                Branch {
                    stack,
                    planned: self.planned(&members),
                    instances: instances.into_iter().cloned().collect(),
                    outputs: outputs.map(|names| names.into_iter().cloned().collect()),
                    branches,
                    more,
                }
            })
            .collect();
        (branches, more)
    }

    fn unseen(&self, from: &[&InstanceId], seen: &BTreeSet<StackId>) -> usize {
        let stacks: BTreeSet<StackId> = from
            .iter()
            .flat_map(|id| self.readers(id))
            .map(|r| r.instance.stack())
            .filter(|id| !seen.contains(id))
            .collect();
        stacks.len()
    }

    fn planned(&self, instances: &[&InstanceId]) -> Option<String> {
        let stacks: Vec<&StackReview> = instances.iter().filter_map(|id| self.stacks.get(*id).copied()).collect();
        let first = stacks.first()?;
        let total = stacks
            .iter()
            .filter_map(|s| s.outcome.effect())
            .map(crate::effect::Effect::summary)
            .sum::<crate::effect::EffectSummary>();
        Some(match &first.outcome {
            Outcome::Failed { .. } | Outcome::Skipped { .. } => "could not be planned".to_owned(),
            Outcome::Unaffected => "unaffected".to_owned(),
            Outcome::Deleted => "its directory is gone".to_owned(),
            Outcome::Preview { .. } => format!("preview: {total}"),
            Outcome::Planned { .. } => total.to_string(),
        })
    }
}
