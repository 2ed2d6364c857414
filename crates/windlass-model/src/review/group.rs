//! Instances of one stack that have the same effect are one entry; those that nearly have it are named in it with what differs.

use super::document::{
    CheckEntry, DangerKind, OutputEntry, ReasonEntry, ResourceEntry, Since, StackEntry, Status, Variant,
    VariantDifference, is_quiet,
};
use super::summary::{Classes, Label};
use super::{AffectedKind, Outcome, Review, StackReview, references, since};
use crate::diff::{Change, Row, diff, diff_output};
use crate::effect::{Action, Effect, ResourceChange, Shown};
use crate::id::{InstanceId, StackId};
use crate::risk;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// An instance with more differences is an entry of its own.
const DIFFERENCES: usize = 12;
/// With how many entries of the same stack an instance is compared: a stack all of whose instances differ stays cheap.
const COMPARED: usize = 4;

/// The entries of a review, worst risk first, otherwise in the order of the review.
pub(super) fn entries(review: &Review, since: Option<&Since>) -> Vec<StackEntry> {
    let mut stacks: Vec<(StackId, Vec<&StackReview>)> = Vec::new();
    let mut position: HashMap<StackId, usize> = HashMap::new();
    for stack in review.stacks.iter().filter(|s| !is_quiet(s)) {
        let id = stack.instance.stack();
        let at = *position.entry(id.clone()).or_insert_with(|| {
            stacks.push((id, Vec::new()));
            stacks.len() - 1
        });
        stacks[at].1.push(stack);
    }
    let mut maker = Maker { classes: Classes::default(), new: since::subjects(since) };
    let mut out: Vec<StackEntry> = stacks.iter().flat_map(|(id, members)| maker.of_stack(id, members)).collect();
    let failed = |entry: &StackEntry| entry.label == Label::Error;
    out.sort_by_key(|entry| (std::cmp::Reverse((entry.risk, entry.score)), !failed(entry), entry.label));
    out
}

impl StackEntry {
    /// The entry of a single effect, without a review around it.
    pub fn of_effect(effect: &Effect) -> Self {
        let stack = StackReview {
            instance: effect.instance.clone(),
            kind: AffectedKind::Changed,
            reasons: Vec::new(),
            after: Vec::new(),
            environments: Vec::new(),
            owner: None,
            outcome: Outcome::Planned { effect: effect.clone() },
            findings: Vec::new(),
            binding: None,
            risk: None,
            readers: Vec::new(),
            dependants: BTreeMap::new(),
        };
        let mut maker = Maker { classes: Classes::default(), new: HashSet::new() };
        maker.entry(&stack.instance.stack(), &[&stack])
    }
}

struct Maker<'a> {
    classes: Classes<'a>,
    /// Resources that are not as they were in an earlier review.
    new: HashSet<(&'a InstanceId, &'a str)>,
}

impl<'a> Maker<'a> {
    fn of_stack(&mut self, id: &StackId, members: &[&'a StackReview]) -> Vec<StackEntry> {
        let mut classes: Vec<Vec<&'a StackReview>> = Vec::new();
        if let [only] = members {
            classes.push(vec![only]);
        } else {
            let mut known: HashMap<[u8; 32], usize> = HashMap::new();
            for stack in members {
                let at = *known.entry(digest(stack)).or_insert_with(|| {
                    classes.push(Vec::new());
                    classes.len() - 1
                });
                classes[at].push(stack);
            }
        }
        // The largest class stands for all; of equal ones the first.
        classes.sort_by_key(|class| std::cmp::Reverse(class.len()));
        let mut entries: Vec<(StackEntry, &'a StackReview)> = Vec::new();
        'classes: for class in classes {
            let first = class[0];
            for (entry, base) in entries.iter_mut().take(COMPARED) {
                if let Some(differences) = variant(base, first) {
                    let instances = class.iter().map(|s| s.instance.clone());
                    if differences.is_empty() {
                        // Only masked values differ, or what is not shown.
                        entry.instances.extend(instances);
                    } else {
                        entry.variants.push(Variant { instances: instances.collect(), differences });
                    }
                    merge(entry, &class);
                    continue 'classes;
                }
            }
            entries.push((self.entry(id, &class), first));
        }
        entries
            .into_iter()
            .map(|(mut entry, _)| {
                entry.title = title(&entry);
                entry
            })
            .collect()
    }

    fn entry(&mut self, id: &StackId, class: &[&'a StackReview]) -> StackEntry {
        let first = class[0];
        let mut entry = StackEntry {
            stack: id.clone(),
            instances: class.iter().map(|s| s.instance.clone()).collect(),
            variants: Vec::new(),
            title: String::new(),
            kind: kind_text(&first.kind),
            reasons: Vec::new(),
            environments: Vec::new(),
            owner: first.owner.clone(),
            status: status(&first.outcome),
            label: Label::of(first),
            risk: first.risk.as_ref().map(|r| r.level),
            score: first.risk.as_ref().map_or(0, |r| r.score),
            risk_reasons: first.risk.iter().flat_map(|r| &r.reasons).map(|r| r.text.clone()).collect(),
            effect: first.outcome.effect().map(Effect::summary).unwrap_or_default(),
            resources: Vec::new(),
            moved: Vec::new(),
            imported: Vec::new(),
            forgotten: Vec::new(),
            outputs: Vec::new(),
            drift: Vec::new(),
            checks: Vec::new(),
            reach: Vec::new(),
            reach_more: 0,
        };
        merge(&mut entry, class);
        if let Some(effect) = first.outcome.effect() {
            self.fill(&mut entry, effect, class);
        }
        entry
    }

    fn fill(&mut self, entry: &mut StackEntry, effect: &'a Effect, class: &[&'a StackReview]) {
        let mut points: BTreeMap<&str, u32> = BTreeMap::new();
        for reason in class[0].risk.iter().flat_map(|r| &r.reasons) {
            for address in &reason.addresses {
                let known = points.entry(address).or_default();
                *known = (*known).max(reason.points);
            }
        }
        for change in &effect.changes {
            match change.action {
                Action::Move => {
                    let from = change.previous_address.clone().unwrap_or_default();
                    entry.moved.push((from, change.address.clone()));
                }
                Action::Import => {
                    let id = change.import_id.clone().unwrap_or_default();
                    entry.imported.push((change.address.clone(), id));
                }
                Action::Forget => entry.forgotten.push(change.address.clone()),
                _ => {
                    let new = class.iter().any(|s| self.new.contains(&(&s.instance, change.address.as_str())));
                    let points = points.get(change.address.as_str()).copied().unwrap_or(0);
                    let mut resource = self.resource(change, points);
                    resource.new = new;
                    if resource.danger.is_some() || points > 0 {
                        resource.dependants = class[0].dependants.get(&change.address).cloned().unwrap_or_default();
                    }
                    entry.resources.push(resource);
                }
            }
        }
        cause_paths(&mut entry.resources, &class[0].dependants);
        // By address where the weight is the same: so they came.
        entry.resources.sort_by_key(|resource| std::cmp::Reverse(resource.weight));
        entry.outputs = effect
            .outputs
            .iter()
            .map(|(name, output)| {
                let all = class.iter().flat_map(|s| &s.readers).filter(|reader| reader.reads(name));
                let readers: BTreeSet<InstanceId> = all.map(|reader| reader.instance.clone()).collect();
                OutputEntry {
                    name: name.clone(),
                    action: output.action,
                    rows: without_digests(diff_output(output)),
                    readers: readers.into_iter().collect(),
                }
            })
            .collect();
        entry.drift = effect.drift.iter().map(|change| self.drift(change)).collect();
        entry.checks = effect
            .checks
            .iter()
            .map(|(address, check)| CheckEntry {
                address: address.clone(),
                status: check.status.clone(),
                problems: check.problems.clone(),
            })
            .collect();
    }

    /// What the world changed is no danger of this change.
    fn drift(&mut self, change: &'a ResourceChange) -> ResourceEntry {
        ResourceEntry { danger: None, loss: None, weight: 0, ..self.resource(change, 0) }
    }

    fn resource(&mut self, change: &'a ResourceChange, points: u32) -> ResourceEntry {
        let (danger, loss) = match self.classes.danger(change) {
            Some((kind, loss)) => (Some(kind), loss),
            None => (None, None),
        };
        let diff = diff(change);
        let weight = match (danger, change.action) {
            (Some(DangerKind::DataDestroyed), _) => 100,
            (Some(DangerKind::DataReplaced), _) => 95,
            (Some(DangerKind::Destroyed), _) => 90,
            (Some(DangerKind::Replaced), _) => 85,
            (None, Action::Update) => 20 + points.min(60),
            (None, _) => 10 + points.min(60),
        };
        ResourceEntry {
            address: change.address.clone(),
            previous_address: change.previous_address.clone(),
            resource_type: change.resource_type.clone(),
            action: change.action,
            danger,
            loss,
            cause: change.replace_paths.clone(),
            cause_path: Vec::new(),
            reason: change.reason.as_deref().and_then(reason_text),
            import_id: change.import_id.clone(),
            rows: without_digests(diff.rows),
            unknown: diff.unknown,
            new: false,
            dependants: Vec::new(),
            weight,
        }
    }
}

/// How many replacements are followed back from one.
const CHAIN: usize = 5;

/// Follows each replacement that is forced by a value nobody knows yet to the replacement that makes it unknown.
fn cause_paths(resources: &mut [ResourceEntry], dependants: &BTreeMap<String, Vec<String>>) {
    let is_replaced = |r: &ResourceEntry| matches!(r.action, Action::Replace | Action::ReplaceCreateFirst);
    let forced_by_unknown = |r: &ResourceEntry| {
        let unknown = |row: &Row| match &row.change {
            Change::Added(after) | Change::Changed { after, .. } => *after == Shown::Unknown,
            Change::Removed(_) => false,
            // Only the path is known: no value differs that could be told.
            Change::Lines(lines) => lines.is_empty(),
        };
        r.rows.iter().any(|row| row.forces_replacement && unknown(row))
    };
    // By name in the configuration: what a replaced resource that it refers to is called.
    let mut upstream: HashMap<&str, &str> = HashMap::new();
    for resource in resources.iter().filter(|r| is_replaced(r)) {
        for name in dependants.get(&resource.address).into_iter().flatten() {
            upstream.entry(name).or_insert(&resource.address);
        }
    }
    let by_address: HashMap<&str, bool> =
        resources.iter().map(|r| (r.address.as_str(), is_replaced(r) && forced_by_unknown(r))).collect();
    let paths: Vec<Vec<String>> = resources
        .iter()
        .map(|resource| {
            let mut path: Vec<String> = Vec::new();
            let mut at = resource.address.as_str();
            while path.len() < CHAIN && by_address.get(at) == Some(&true) {
                match upstream.get(references::without_indices(at).as_str()) {
                    Some(next) if *next != resource.address && !path.iter().any(|known| known == next) => {
                        path.push((*next).to_owned());
                        at = next;
                    }
                    _ => break,
                }
            }
            path
        })
        .collect();
    for (resource, path) in resources.iter_mut().zip(paths) {
        resource.cause_path = path;
    }
}

/// What may differ between the instances of a group.
fn merge(entry: &mut StackEntry, class: &[&StackReview]) {
    for stack in class {
        for environment in &stack.environments {
            if !entry.environments.contains(environment) {
                entry.environments.push(environment.clone());
            }
        }
        for reason in &stack.reasons {
            let (change, cause, chain) = (reason.change.clone(), reason.cause.clone(), reason.chain.clone());
            let reason = ReasonEntry { change, cause, chain: chain.into_iter().rev().collect() };
            if !entry.reasons.contains(&reason) {
                entry.reasons.push(reason);
            }
        }
    }
}

fn title(entry: &StackEntry) -> String {
    let key = |id: &InstanceId| id.key().map_or_else(|| "the instance without a key".to_owned(), str::to_owned);
    let keys = |ids: &[InstanceId]| match ids {
        [] => String::new(),
        ids if ids.len() <= 4 => ids.iter().map(key).collect::<Vec<_>>().join(", "),
        ids => format!("{} and {} more", ids[..3].iter().map(key).collect::<Vec<_>>().join(", "), ids.len() - 3),
    };
    let mut text = match entry.instances.as_slice() {
        [only] => only.to_string(),
        several => format!("{}: same in {} instances ({})", entry.stack, several.len(), keys(several)),
    };
    let others: Vec<InstanceId> = entry.variants.iter().flat_map(|v| v.instances.clone()).collect();
    if !others.is_empty() {
        text.push_str(&format!(", differs in {}", keys(&others)));
    }
    text
}

/// Of everything in which instances of a group are equal.
fn digest(stack: &StackReview) -> [u8; 32] {
    let mut hash = Hashing(Sha256::new());
    let because: Vec<StackId> = match &stack.outcome {
        Outcome::Preview { because, .. } => because.iter().map(InstanceId::stack).collect(),
        Outcome::Skipped { because } => vec![because.stack()],
        _ => Vec::new(),
    };
    let failure = match &stack.outcome {
        Outcome::Failed { stage, diagnostics } => Some((stage, diagnostics)),
        _ => None,
    };
    let effect = stack.outcome.effect();
    let parts = (
        outcome_name(&stack.outcome),
        because,
        failure,
        effect.map(|e| (&e.changes, &e.outputs, &e.checks, &e.drift)),
        stack.risk.as_ref().map(|r| r.level),
    );
    // Plain data with text keys: serialising it cannot fail.
    let _ = serde_json::to_writer(&mut hash, &parts);
    hash.0.finalize().into()
}

struct Hashing(Sha256);

impl std::io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Planned { .. } => "planned",
        Outcome::Preview { .. } => "preview",
        Outcome::Unaffected => "unaffected",
        Outcome::Failed { .. } => "failed",
        Outcome::Skipped { .. } => "skipped",
        Outcome::Deleted => "deleted",
    }
}

/// In what an instance differs from the one that stands for its group; `None` when it is too much, or too weighty: what is
/// destroyed in one of them only is never told in passing.
fn variant(base: &StackReview, other: &StackReview) -> Option<Vec<VariantDifference>> {
    let kind = |stack: &StackReview| outcome_name(&stack.outcome);
    let level = |stack: &StackReview| stack.risk.as_ref().map_or(risk::Level::Low, |r| r.level);
    if kind(base) != kind(other) || level(base) != level(other) {
        return None;
    }
    let (left, right) = (base.outcome.effect()?, other.outcome.effect()?);
    let mut out = Vec::new();
    let room = |out: &Vec<VariantDifference>| out.iter().map(|d| d.rows.len().max(1)).sum::<usize>() <= DIFFERENCES;
    let (old, new) = (by_address(left), by_address(right));
    if old.len().abs_diff(new.len()) > DIFFERENCES {
        return None;
    }
    for address in old.keys().chain(new.keys()).copied().collect::<BTreeSet<_>>() {
        match (old.get(address), new.get(address)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) if a.action == b.action => {
                let found = rows_of(without_digests(diff(a).rows), without_digests(diff(b).rows));
                if !found.rows.is_empty() || !found.what.is_empty() {
                    out.push(VariantDifference { subject: address.to_owned(), ..found });
                }
            }
            (a, b) => {
                if [a, b].into_iter().flatten().any(|c| is_destructive(c.action)) {
                    return None;
                }
                let what = match (a, b) {
                    (Some(a), Some(b)) => format!("is {}, not {}", b.action.as_str(), a.action.as_str()),
                    (None, Some(b)) => format!("is {} here only", b.action.as_str()),
                    (Some(a), _) => format!("is not {} here", a.action.as_str()),
                    (None, None) => continue,
                };
                let rows =
                    if a.is_none() { b.map(|b| without_digests(diff(b).rows)).unwrap_or_default() } else { vec![] };
                out.push(VariantDifference { subject: address.to_owned(), what, rows });
            }
        }
        if !room(&out) {
            return None;
        }
    }
    for name in left.outputs.keys().chain(right.outputs.keys()).collect::<BTreeSet<_>>() {
        let (a, b) = (left.outputs.get(name), right.outputs.get(name));
        if a == b {
            continue;
        }
        let rows = |output: Option<&crate::effect::OutputChange>| {
            output.map(|output| without_digests(diff_output(output))).unwrap_or_default()
        };
        let (base, rows) = (rows(a), rows(b));
        if a.is_some() && b.is_some() && base == rows {
            continue;
        }
        let what = if b.is_none() { "does not change here".to_owned() } else { String::new() };
        out.push(VariantDifference { subject: format!("output {name}"), what, rows });
    }
    let drifted = |effect: &'_ Effect| -> BTreeMap<String, ResourceChange> {
        effect.drift.iter().map(|change| (change.address.clone(), change.clone())).collect()
    };
    if left.drift != right.drift {
        let (a, b) = (drifted(left), drifted(right));
        for address in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            let (a, b) = (a.get(address), b.get(address));
            if a != b {
                let rows = b.map(|b| without_digests(diff(b).rows)).unwrap_or_default();
                let what = if b.is_none() { "is not there" } else { "" };
                let subject = format!("drift of {address}");
                out.push(VariantDifference { subject, what: what.to_owned(), rows });
            }
        }
    }
    if left.checks != right.checks {
        return None;
    }
    // More differences than what is shared is no group.
    let shared = left.changes.len() + left.outputs.len();
    (room(&out) && out.len() <= shared).then_some(out)
}

fn is_destructive(action: Action) -> bool {
    matches!(action, Action::Destroy | Action::Replace | Action::ReplaceCreateFirst)
}

/// Rows as they are in the second, where they are not as in the first.
fn rows_of(base: Vec<Row>, other: Vec<Row>) -> VariantDifference {
    let paths: BTreeSet<&str> = other.iter().map(|r| r.path.as_str()).collect();
    let gone: Vec<&str> = base.iter().map(|r| r.path.as_str()).filter(|path| !paths.contains(path)).collect();
    let what = if gone.is_empty() { String::new() } else { format!("does not change `{}`", gone.join("`, `")) };
    let rows = other.iter().filter(|row| !base.contains(row)).cloned().collect();
    VariantDifference { subject: String::new(), what, rows }
}

fn by_address(effect: &Effect) -> BTreeMap<&str, &ResourceChange> {
    effect.changes.iter().map(|change| (change.address.as_str(), change)).collect()
}

/// A digest tells two masked values apart; a reader has no use for it.
pub(super) fn without_digests(mut rows: Vec<Row>) -> Vec<Row> {
    let clear = |shown: &mut Shown| {
        if let Shown::Sensitive(digest) = shown {
            digest.clear();
        }
    };
    for row in &mut rows {
        match &mut row.change {
            Change::Added(shown) | Change::Removed(shown) => clear(shown),
            Change::Changed { before, after } => {
                clear(before);
                clear(after);
            }
            Change::Lines(_) => {}
        }
    }
    rows
}

fn status(outcome: &Outcome) -> Status {
    match outcome {
        Outcome::Planned { .. } => Status::Planned,
        Outcome::Preview { because, .. } => Status::Preview { because: because.clone(), values: Vec::new() },
        Outcome::Unaffected => Status::Unaffected,
        Outcome::Failed { stage, .. } => Status::Failed { stage: *stage },
        Outcome::Skipped { because } => Status::Skipped { because: because.clone() },
        Outcome::Deleted => Status::Deleted,
    }
}

fn kind_text(kind: &AffectedKind) -> String {
    match kind {
        AffectedKind::Changed => "changed".into(),
        AffectedKind::New => "new".into(),
        AffectedKind::Deleted => "deleted".into(),
        AffectedKind::Renamed { from } => format!("renamed from {from}"),
        AffectedKind::Dependant => "dependant".into(),
    }
}

/// Terraform's reason for an action as a sentence; `None` where the attributes say it.
fn reason_text(reason: &str) -> Option<String> {
    let text = match reason {
        "replace_because_cannot_update" => return None,
        "replace_because_tainted" => "it is tainted: an earlier apply made it in part only",
        "replace_by_request" => "its replacement was asked for",
        "replace_by_triggers" => "`replace_triggered_by` names something that changes",
        "delete_because_no_resource_config" => "its block is gone from the configuration",
        "delete_because_no_module" => "the module it was in is gone from the configuration",
        "delete_because_wrong_repetition" => "`count` or `for_each` was added to its block or taken from it",
        "delete_because_count_index" => "`count` is too small for it now",
        "delete_because_each_key" => "`for_each` does not have its key any more",
        "delete_because_no_move_target" => "a `moved` block names a target that is not there",
        other => return Some(other.replace('_', " ")),
    };
    Some(text.to_owned())
}
