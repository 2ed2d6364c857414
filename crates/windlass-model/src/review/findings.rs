//! Findings and failures: same ones of several instances together, and what became of them since the last review.

use super::document::{Failure, FindingEntry, FindingState};
use super::{Finding, Outcome, Review, StackReview};
use crate::id::InstanceId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What makes two findings of one review the same.
type Same<'a> = (u8, &'a str, Option<&'a str>, &'a str, Option<(&'a str, u32)>);

/// What makes a finding of two reviews the same: code moves from line to line between two pushes.
type Lasting<'a> = (&'a str, Option<&'a str>, &'a str, Option<&'a str>);

fn same(finding: &Finding) -> Same<'_> {
    let code = finding.code.as_ref().map(|span| (&*span.file, span.line));
    (finding.level as u8, &finding.source, finding.rule.as_deref(), &finding.message, code)
}

fn lasting(finding: &Finding) -> Lasting<'_> {
    let file = finding.code.as_ref().map(|span| &*span.file);
    (&finding.source, finding.rule.as_deref(), &finding.message, file)
}

/// All findings, those of the whole change without an instance.
fn with_instance(review: &Review) -> impl Iterator<Item = (Option<&InstanceId>, &Finding)> {
    let stacks = review.stacks.iter();
    let own = stacks.flat_map(|stack| stack.findings.iter().map(move |finding| (Some(&stack.instance), finding)));
    own.chain(review.findings.iter().map(|finding| (None, finding)))
}

/// The findings of a review, worst first, and those of `last` that are gone. What belongs to an instance that could not be
/// planned this time is not called gone: nobody knows.
pub(super) fn collect(review: &Review, last: Option<&Review>) -> (Vec<FindingEntry>, Vec<FindingEntry>) {
    let before: HashSet<Lasting<'_>> = last.into_iter().flat_map(with_instance).map(|(_, f)| lasting(f)).collect();
    let now: HashSet<Lasting<'_>> = with_instance(review).map(|(_, f)| lasting(f)).collect();
    let state = |finding: &Finding| {
        last.map(|_| if before.contains(&lasting(finding)) { FindingState::Unchanged } else { FindingState::New })
    };
    let found = grouped(with_instance(review), state);
    let unknown: HashSet<&InstanceId> = review.stacks.iter().filter(|s| !is_known(s)).map(|s| &s.instance).collect();
    let here: HashSet<&InstanceId> = review.stacks.iter().map(|s| &s.instance).collect();
    let whole = last.is_some_and(|last| is_whole(review, last));
    let known = |instance: &InstanceId| (whole || here.contains(instance)) && !unknown.contains(instance);
    let gone = last
        .into_iter()
        .flat_map(with_instance)
        .filter(|(instance, finding)| instance.map_or(whole, known) && !now.contains(&lasting(finding)));
    (found, grouped(gone, |_| Some(FindingState::Fixed)))
}

/// Both reviews have all that the change affects: what is in one of them only is not affected in the other. Reviews of chosen
/// stacks say nothing of the others.
pub(super) fn is_whole(review: &Review, earlier: &Review) -> bool {
    review.base.is_some() && earlier.base.is_some()
}

fn is_known(stack: &StackReview) -> bool {
    !matches!(stack.outcome, Outcome::Failed { .. } | Outcome::Skipped { .. })
}

fn grouped<'a>(
    findings: impl Iterator<Item = (Option<&'a InstanceId>, &'a Finding)>,
    state: impl Fn(&Finding) -> Option<FindingState>,
) -> Vec<FindingEntry> {
    let mut entries: Vec<FindingEntry> = Vec::new();
    let mut known: HashMap<Same<'_>, usize> = HashMap::new();
    for (instance, finding) in findings {
        let at = *known.entry(same(finding)).or_insert_with(|| {
            entries.push(FindingEntry {
                level: finding.level,
                severity: finding.severity,
                source: finding.source.clone(),
                rule: finding.rule.clone(),
                message: finding.message.clone(),
                addresses: Vec::new(),
                code: finding.code.clone(),
                policy: finding.policy.clone(),
                help: finding.help.clone(),
                instances: Vec::new(),
                state: state(finding),
                waived: finding.waived.clone(),
            });
            entries.len() - 1
        });
        entries[at].instances.extend(instance.cloned());
        entries[at].addresses.extend(finding.address.clone());
    }
    for entry in &mut entries {
        entry.instances.sort();
        entry.instances.dedup();
        entry.addresses.sort();
        entry.addresses.dedup();
    }
    // Without a severity it counts as medium: between what is told to be bad and what is told to be harmless.
    let severity = |entry: &FindingEntry| entry.severity.unwrap_or(super::Severity::Medium);
    let old = |entry: &FindingEntry| entry.state == Some(FindingState::Unchanged);
    entries.sort_by(|a, b| {
        (a.level, severity(a), old(a), &a.code, &a.message).cmp(&(b.level, severity(b), old(b), &b.code, &b.message))
    });
    entries
}

/// Instances that could not be planned, the same failures together, with the instances that were not planned because of them.
pub(super) fn failures(review: &Review) -> Vec<Failure> {
    let mut skipped: BTreeMap<&InstanceId, Vec<InstanceId>> = BTreeMap::new();
    for stack in &review.stacks {
        if let Outcome::Skipped { because } = &stack.outcome {
            skipped.entry(because).or_default().push(stack.instance.clone());
        }
    }
    let mut found: Vec<Failure> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for stack in &review.stacks {
        let Outcome::Failed { stage, diagnostics } = &stack.outcome else { continue };
        // Plain data with text keys: serialising it cannot fail.
        let key = serde_json::to_string(&(stage, diagnostics)).unwrap_or_default();
        let at = *known.entry(key).or_insert_with(|| {
            let diagnostics = diagnostics.clone();
            found.push(Failure { stage: *stage, instances: Vec::new(), skipped: Vec::new(), diagnostics });
            found.len() - 1
        });
        found[at].instances.push(stack.instance.clone());
        found[at].skipped.extend(skipped.remove(&stack.instance).unwrap_or_default());
    }
    for failure in &mut found {
        failure.instances.sort();
        failure.skipped.sort();
    }
    found
}
