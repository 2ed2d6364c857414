//! What is not as it was in the review that was approved, or else in the last one.

use super::document::{Context, Since, SinceItem};
use super::{Outcome, Review};
use crate::effect::{Action, Effect, ResourceChange};
use crate::id::{InstanceId, StackId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How many attributes of a resource are named.
const NAMED: usize = 4;

/// Resources that [`compare`] found to differ.
pub(super) fn subjects(since: Option<&Since>) -> HashSet<(&InstanceId, &str)> {
    let items = since.into_iter().flat_map(|since| &since.items);
    items.flat_map(|item| item.instances.iter().map(|instance| (instance, item.subject.as_str()))).collect()
}

/// `None` when there is nothing to compare with.
pub(super) fn compare(review: &Review, context: &Context<'_>) -> Option<Since> {
    let earlier = context.approved.or(context.last)?;
    let approved = context.approved.is_some();
    let before = effects(earlier);
    let after = effects(review);
    // An instance that could not be planned this time is told of elsewhere.
    let unknown: HashSet<&InstanceId> = review
        .stacks
        .iter()
        .filter(|s| matches!(s.outcome, Outcome::Failed { .. } | Outcome::Skipped { .. }))
        .map(|s| &s.instance)
        .collect();
    let mut found: Vec<(StackId, String, String, Vec<InstanceId>)> = Vec::new();
    let mut known: HashMap<(StackId, String, String), usize> = HashMap::new();
    let (mut resources, mut outputs) = (0, 0);
    let order: Vec<&InstanceId> = review.stacks.iter().map(|s| &s.instance).collect();
    let in_order: HashSet<&InstanceId> = order.iter().copied().collect();
    let gone = earlier.stacks.iter().map(|s| &s.instance).filter(|id| !in_order.contains(id));
    let whole = super::findings::is_whole(review, earlier);
    let there: HashSet<&InstanceId> = earlier.stacks.iter().map(|s| &s.instance).collect();
    let comparable =
        |id: &&InstanceId| !unknown.contains(*id) && (whole || (there.contains(*id) && in_order.contains(*id)));
    for instance in order.iter().copied().chain(gone).filter(comparable) {
        let (old, new) = (before.get(instance).copied(), after.get(instance).copied());
        for (subject, what) in differences(old, new) {
            if subject.starts_with("output ") {
                outputs += 1;
            } else {
                resources += 1;
            }
            let stack = instance.stack();
            let at = *known.entry((stack.clone(), subject.clone(), what.clone())).or_insert_with(|| {
                found.push((stack, subject, what, Vec::new()));
                found.len() - 1
            });
            found[at].3.push(instance.clone());
        }
    }
    let items = found
        .into_iter()
        .map(|(_, subject, what, mut instances)| {
            instances.sort();
            SinceItem { instances, subject, what }
        })
        .collect();
    let commit = earlier.head.commit.clone();
    let text = sentence(resources, outputs, approved, &commit);
    Some(Since { approved, run: earlier.run.clone(), commit, resources, outputs, items, text })
}

fn sentence(resources: usize, outputs: usize, approved: bool, commit: &str) -> String {
    let short = commit.get(..7).unwrap_or(commit);
    let whence =
        if approved { format!("the plan approved at {short}") } else { format!("the last review, of {short}") };
    let mut parts = Vec::new();
    match resources {
        0 => {}
        1 => parts.push("1 resource".to_owned()),
        n => parts.push(format!("{n} resources")),
    }
    match outputs {
        0 => {}
        1 => parts.push("1 output".to_owned()),
        n => parts.push(format!("{n} outputs")),
    }
    match resources + outputs {
        0 => format!("nothing differs from {whence}"),
        1 => format!("{} differs from {whence}", parts.join(" and ")),
        _ => format!("{} differ from {whence}", parts.join(" and ")),
    }
}

fn effects(review: &Review) -> BTreeMap<&InstanceId, &Effect> {
    review.stacks.iter().filter_map(|s| Some((&s.instance, s.outcome.effect()?))).collect()
}

/// Subject and what of it differs, sorted by subject, resources first.
fn differences(before: Option<&Effect>, after: Option<&Effect>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let (old, new) = (by_address(before), by_address(after));
    for address in old.keys().chain(new.keys()).copied().collect::<BTreeSet<_>>() {
        let what = match (old.get(address), new.get(address)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(old), Some(new)) if old.action != new.action => {
                format!("is {} now, not {}", new.action.as_str(), old.action.as_str())
            }
            (Some(old), Some(new)) => changed(old, new),
            (None, Some(new)) => format!("is {} now", new.action.as_str()),
            (Some(old), None) => format!("is not {} any more", old.action.as_str()),
            (None, None) => continue,
        };
        out.push((address.to_owned(), what));
    }
    let outputs = |effect: Option<&Effect>| effect.map(|e| e.outputs.clone()).unwrap_or_default();
    let (old, new) = (outputs(before), outputs(after));
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let what = match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => continue,
            (Some(_), Some(_)) => "gets another value",
            (None, _) => "changes now",
            (Some(_), None) => "does not change any more",
        };
        out.push((format!("output {name}"), what.to_owned()));
    }
    out
}

fn by_address(effect: Option<&Effect>) -> BTreeMap<&str, &ResourceChange> {
    effect.into_iter().flat_map(|e| &e.changes).map(|change| (change.address.as_str(), change)).collect()
}

fn changed(old: &ResourceChange, new: &ResourceChange) -> String {
    let names = old.attributes.keys().chain(new.attributes.keys()).collect::<BTreeSet<_>>();
    let differing: Vec<&str> = names
        .into_iter()
        .filter(|name| old.attributes.get(*name) != new.attributes.get(*name))
        .map(String::as_str)
        .collect();
    match differing.as_slice() {
        [] if matches!(new.action, Action::Replace | Action::ReplaceCreateFirst) => {
            "is replaced for another reason".into()
        }
        [] => "is not as it was".into(),
        [only] => format!("`{only}` gets another value"),
        several if several.len() <= NAMED => format!("`{}` get other values", several.join("`, `")),
        several => format!("`{}` and {} more get other values", several[..NAMED].join("`, `"), several.len() - NAMED),
    }
}
