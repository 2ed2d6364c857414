//! What other policies would have decided about the reviews there were.

use crate::affected::base_revision;
use crate::bundles::{Bundles, Fetch};
use crate::decisions::{Kept, kept_inputs, kept_runs};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::policy::{Author, Policies};
use crate::project::git_error;
use crate::service::Service;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use windlass_drivers::git::Target;
use windlass_lang::tree::Tree;
use windlass_model::affected::PathChange;
use windlass_model::definition::PolicyEngine;
use windlass_model::diagnostic::{Diagnostic, has_errors};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::{Finding, Level, Review};
use windlass_policy::Limits;
use windlass_policy::decision::Decision;

/// How two sets of policies decide about the same reviews.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// About how many reviews the policies were asked.
    pub reviews: usize,
    /// Those about which they differ, newest first.
    pub differing: Vec<ReplayedReview>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayedReview {
    pub review: RunId,
    /// What was checked out.
    pub head: String,
    pub differences: Vec<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    pub outcome: Change,
    /// `None` for the change as a whole.
    pub instance: Option<InstanceId>,
    /// e.g. `policy exposure`.
    pub source: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    NewlyBroken,
    NewlyDenied,
    NoLongerDenied,
    NoLongerBroken,
    AsksForMore,
    AsksForLess,
    NewlyWarned,
    NoLongerWarned,
}

impl Change {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewlyBroken => "newly broken",
            Self::NewlyDenied => "newly denied",
            Self::NoLongerDenied => "no longer denied",
            Self::NoLongerBroken => "no longer broken",
            Self::AsksForMore => "asks for more",
            Self::AsksForLess => "asks for less",
            Self::NewlyWarned => "newly warned",
            Self::NoLongerWarned => "no longer warned",
        }
    }
}

/// Who is asked, and for how long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    All,
    /// Nobody vouches for these policies: none is handed to another engine, and together they do not run beyond this time.
    Untrusted(Instant),
}

/// What all untrusted policies may take together, and what one may for one answer.
const TOGETHER: Duration = Duration::from_secs(30);
const ONCE: Duration = Duration::from_secs(3);

/// Asks the policies of `base` (the commit this branch left the default branch at when `None`) and those of the work tree about the
/// last reviews.
///
/// # Errors
/// One of both does not load, or nothing is kept.
pub async fn replay(service: &Service, last: usize, base: Option<&str>) -> AppResult<Replay> {
    let git = service.checkout.git()?;
    let commit = match base {
        Some(name) => git.resolve(name).map_err(|error| git_error(&error))?,
        None => base_revision(git, None, "HEAD")?.commit,
    };
    let before = service.deciding(Some(&commit)).await?;
    let after = load(&*service.checkout.work_tree()?, &service.bundles(Fetch::Missing), Author::Anybody)?
        .within(service.settings.policy_limits);
    let mut runs = kept_runs(service).await?;
    if runs.is_empty() {
        let diagnostic = Diagnostic::error("WL475", "no review is kept that policies could be asked about")
            .help("make one with `windlass review --all`");
        return Err(AppError::new(ErrorKind::NotFound, diagnostic));
    }
    runs.reverse();
    runs.truncate(last);
    compare(service, &runs, &before.policies, &after, Asked::All).await
}

fn load(tree: &dyn Tree, bundles: &Bundles, author: Author) -> AppResult<Policies> {
    let (definitions, diagnostics) = windlass_lang::definitions::load(tree);
    if has_errors(&diagnostics) {
        return Err(AppError::many(ErrorKind::Definition, diagnostics));
    }
    Policies::load(tree, &definitions, bundles, author)
}

async fn compare(
    service: &Service,
    runs: &[RunId],
    before: &Policies,
    after: &Policies,
    asked: Asked,
) -> AppResult<Replay> {
    let mut differing = Vec::new();
    let mut reviews = 0;
    let usual = service.settings.policy_limits;
    let short = Limits { time: usual.time.min(ONCE), ..usual };
    for run in runs {
        if matches!(asked, Asked::Untrusted(until) if Instant::now() >= until) {
            break;
        }
        reviews += 1;
        let inputs = kept_inputs(service, run).await?;
        let mut differences: Vec<Difference> = inputs
            .iter()
            .flat_map(|kept| {
                let input = kept.input();
                let decide = |policies: &Policies| match asked {
                    Asked::All => policies.decide(kept.stack.as_ref(), &input),
                    Asked::Untrusted(_) => policies.decide_embedded(kept.stack.as_ref(), &input, &short),
                };
                differences(kept, &decide(before), &decide(after))
            })
            .collect();
        differences.sort();
        if !differences.is_empty() {
            let head = inputs.first().map_or_else(String::new, |kept| kept.head.clone());
            differing.push(ReplayedReview { review: run.clone(), head, differences });
        }
    }
    Ok(Replay { reviews, differing })
}

type Found<'a> = BTreeSet<(Level, &'a str, &'a str, Option<&'a str>)>;

fn found(decision: &Decision) -> Found<'_> {
    decision.findings.iter().map(|f| (f.level, f.source.as_str(), f.message.as_str(), f.address.as_deref())).collect()
}

fn differences(kept: &Kept, before: &Decision, after: &Decision) -> Vec<Difference> {
    let asks = |decision: &Decision| -> BTreeSet<(String, String)> {
        let sentence = |required: &windlass_policy::decision::Required| {
            let rule = &required.rule;
            let from = if rule.from.is_empty() { String::new() } else { format!(" from {}", rule.from.join(" or ")) };
            let more = if rule.count == 1 { "" } else { "s" };
            (required.subject(), format!("{} approval{more}{from}", rule.count))
        };
        decision.required.iter().map(sentence).collect()
    };
    let (old, new, old_asks, new_asks) = (found(before), found(after), asks(before), asks(after));
    let mut out = Vec::new();
    let mut add = |outcome: Change, source: &str, message: String| {
        out.push(Difference { outcome, instance: kept.instance.clone(), source: source.to_owned(), message });
    };
    let changes = |level: Level| match level {
        Level::Broken => (Change::NewlyBroken, Change::NoLongerBroken),
        Level::Deny => (Change::NewlyDenied, Change::NoLongerDenied),
        Level::Warn => (Change::NewlyWarned, Change::NoLongerWarned),
    };
    let text = |message: &str, address: Option<&str>| match address {
        Some(address) if !message.contains(address) => format!("{message} ({address})"),
        _ => message.to_owned(),
    };
    new.difference(&old)
        .for_each(|(level, source, message, address)| add(changes(*level).0, source, text(message, *address)));
    old.difference(&new)
        .for_each(|(level, source, message, address)| add(changes(*level).1, source, text(message, *address)));
    new_asks.difference(&old_asks).for_each(|(subject, what)| add(Change::AsksForMore, subject, what.clone()));
    old_asks.difference(&new_asks).for_each(|(subject, what)| add(Change::AsksForLess, subject, what.clone()));
    out
}

impl Replay {
    /// `2 of the last 10 reviews would have been decided differently: 3 newly denied, 1 no longer denied`.
    pub fn summary(&self) -> String {
        let reviews = match self.reviews {
            1 => "the last review".to_owned(),
            n => format!("the last {n} reviews"),
        };
        if self.differing.is_empty() {
            return format!("{reviews} would have been decided the same");
        }
        let mut counts: BTreeMap<Change, usize> = BTreeMap::new();
        for difference in self.differing.iter().flat_map(|review| &review.differences) {
            *counts.entry(difference.outcome).or_default() += 1;
        }
        let counts: Vec<String> = counts.iter().map(|(change, n)| format!("{n} {}", change.as_str())).collect();
        let which = if self.reviews == 1 { reviews } else { format!("{} of {reviews}", self.differing.len()) };
        format!("{which} would have been decided differently: {}", counts.join(", "))
    }
}

/// How many reviews are asked about when a change touches policies.
const LAST: usize = 10;

/// What a change to policies would have decided about the last reviews, where the change has one. Policies of a change are not
/// trusted: nothing is fetched for them, they run in processes of their own, and no other engine runs them.
pub async fn of_change(service: &Service, review: &Review, files: &[PathChange]) -> Option<Finding> {
    let touches = |path: &str| {
        path.ends_with(".rego") || path.ends_with(".json") || windlass_lang::definitions::is_windlass_file(path)
    };
    let git = service.checkout.git().ok()?;
    let (base, known) = match &review.base {
        Some(base) => (base.commit.clone(), files.to_vec()),
        // A review of chosen stacks is of a branch too.
        None => {
            let base = base_revision(git, None, &review.head.commit).ok()?.commit;
            let files = git.changes(&base, &Target::Commit(review.head.commit.clone())).ok()?;
            (base, files)
        }
    };
    let paths = known.iter().flat_map(|file| [Some(&file.path), file.old_path.as_ref()]).flatten();
    if !paths.chain(&review.dirty).any(|path| touches(path)) {
        return None;
    }
    let warn = |message: String| {
        let help = "windlass policy replay".to_owned();
        Some(Finding { help: Some(help), ..Finding::new(Level::Warn, "change of policies", message) })
    };
    let bundles = service.bundles(Fetch::Never);
    let before = load(&git.tree(&base).ok()?, &bundles, Author::Organisation).ok()?;
    let after = {
        let tree = service.checkout.work_tree().ok()?;
        load(&*tree, &bundles, Author::Anybody)
    };
    let after = match after {
        Ok(after) => after,
        // Nothing is fetched on the word of a change.
        Err(error) if error.diagnostics.iter().all(|diagnostic| diagnostic.code == "WL473") => {
            return warn(format!("what the policies of this change would have decided is not known: {error}"));
        }
        Err(error) => {
            return warn(format!(
                "the policies of this change do not load: {error}; everything will be refused with them"
            ));
        }
    };
    if before.digest == after.digest {
        return None;
    }
    let mut runs: Vec<RunId> = kept_runs(service).await.ok()?.into_iter().filter(|run| *run != review.run).collect();
    runs.reverse();
    runs.truncate(LAST);
    if runs.is_empty() {
        return warn("this change touches policies; no earlier review is kept that they could be asked about".into());
    }
    let asked = Asked::Untrusted(Instant::now() + TOGETHER);
    let replay = compare(service, &runs, &before, &after, asked).await.ok()?;
    let mut message = format!("with the policies of this change, {}", replay.summary());
    let worst = replay.differing.iter().flat_map(|review| review.differences.iter().map(move |d| (review, d)));
    if let Some((review, worst)) = worst.min_by_key(|(_, difference)| difference.outcome) {
        let place = worst.instance.as_ref().map_or("the change", |instance| instance.as_str());
        let Difference { outcome, source, message: what, .. } = worst;
        let (head, outcome) = (&review.head, outcome.as_str());
        message.push_str(&format!("; for example {place} on {head}: {outcome}, {source}: {what}"));
    }
    if after.uses(PolicyEngine::Opa) {
        message.push_str(" (policies with `engine = \"opa\"` were not asked)");
    }
    warn(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_model::definition::{ApprovalRule, DecisionKind};
    use windlass_policy::decision::Required;

    fn decision(findings: &[(Level, &str)], asks: &[(u32, &str)]) -> Decision {
        let mut decision = Decision::new(DecisionKind::Plan);
        decision.findings = findings.iter().map(|(level, text)| Finding::new(*level, "policy p", *text)).collect();
        let rule = |count: u32, team: &str| ApprovalRule {
            count,
            from: vec![team.to_owned()],
            author_may_approve: false,
            unverified: false,
        };
        let required =
            |(count, team): &(u32, &str)| Required { policy: "q".into(), reason: None, rule: rule(*count, team) };
        decision.required = asks.iter().map(required).collect();
        decision
    }

    #[test]
    fn what_differs_between_two_decisions() {
        let kept = Kept {
            kind: DecisionKind::Plan,
            instance: Some(InstanceId::new("net")),
            stack: None,
            head: "main".into(),
            value: serde_json::Value::Null,
        };
        let check = |before: Decision, after: Decision, want: &[&str]| {
            let found = differences(&kept, &before, &after);
            let found: Vec<String> =
                found.iter().map(|d| format!("{}, {}: {}", d.outcome.as_str(), d.source, d.message)).collect();
            assert_eq!(found, want);
        };
        let (broken, deny, warn) = (Level::Broken, Level::Deny, Level::Warn);
        check(decision(&[(deny, "a")], &[]), decision(&[(deny, "a")], &[]), &[]);
        check(decision(&[], &[]), decision(&[(deny, "a")], &[]), &["newly denied, policy p: a"]);
        check(decision(&[(deny, "a")], &[]), decision(&[], &[]), &["no longer denied, policy p: a"]);
        let lowered = ["newly warned, policy p: a", "no longer denied, policy p: a"];
        check(decision(&[(deny, "a")], &[]), decision(&[(warn, "a")], &[]), &lowered);
        check(decision(&[(broken, "b")], &[]), decision(&[], &[]), &["no longer broken, policy p: b"]);
        check(decision(&[], &[]), decision(&[(broken, "b")], &[]), &["newly broken, policy p: b"]);
        let more = ["asks for more, policy q: 2 approvals from dba", "asks for less, policy q: 1 approval from dba"];
        check(decision(&[], &[(1, "dba")]), decision(&[], &[(2, "dba")]), &more);
    }

    #[test]
    fn a_replay_is_told_in_one_sentence() {
        let difference =
            |outcome| Difference { outcome, instance: None, source: "policy p".into(), message: "m".into() };
        let review =
            |differences: Vec<Difference>| ReplayedReview { review: RunId::new("r"), head: "h".into(), differences };
        let check = |reviews: usize, differing: Vec<ReplayedReview>, want: &str| {
            assert_eq!(Replay { reviews, differing }.summary(), want);
        };
        check(1, Vec::new(), "the last review would have been decided the same");
        check(4, Vec::new(), "the last 4 reviews would have been decided the same");
        let one = review(vec![
            difference(Change::NoLongerDenied),
            difference(Change::NewlyDenied),
            difference(Change::NewlyDenied),
        ]);
        let want = "1 of the last 4 reviews would have been decided differently: 2 newly denied, 1 no longer denied";
        check(4, vec![one.clone()], want);
        let want = "the last review would have been decided differently: 2 newly denied, 1 no longer denied";
        check(1, vec![one], want);
    }
}
