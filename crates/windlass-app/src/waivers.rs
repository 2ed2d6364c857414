//! Waivers: given to one finding on one review, applied whenever the review is read, counted.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::{Deciding, Service};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::Micros;
use windlass_model::definition::WaiverRule;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::{Finding, Level, Review, Verdict};
use windlass_model::waiver::{Waived, Waiver, fingerprint, waivable, why_not};
use windlass_store::{ReviewRow, ReviewState};

/// How many digits of a fingerprint are shown; as few may be given.
const SHOWN: usize = 8;
/// How long a waiver holds where nothing is said, microseconds: seven days.
const DEFAULT: Micros = 7 * 86_400_000_000;

/// A denial in a review, and whether the actor may waive it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The first digits of the fingerprint.
    pub id: String,
    pub fingerprint: String,
    /// `None` for the change as a whole.
    pub instance: Option<InstanceId>,
    pub finding: Finding,
    /// Why the actor may not waive it; `None` when they may.
    pub why_not: Option<String>,
}

/// All denials of a review that are not waived now.
pub async fn candidate_list(service: &Service, id: &RunId) -> AppResult<Vec<Candidate>> {
    let (row, deciding) = read(service, id).await?;
    Ok(candidates(service, &row.review, &deciding))
}

async fn read(service: &Service, id: &RunId) -> AppResult<(ReviewRow, std::sync::Arc<Deciding>)> {
    let Some(row) = review_get(service, id).await? else {
        let diagnostic =
            Diagnostic::error("WL610", format!("there is no review {id}")).help("`windlass runs` lists what there is");
        return Err(AppError::new(ErrorKind::NotFound, diagnostic));
    };
    let commit = crate::apply::deciding_commit(service, id).await?;
    Ok((row, service.deciding(commit.as_deref()).await?))
}

fn candidates(service: &Service, review: &Review, deciding: &Deciding) -> Vec<Candidate> {
    let mut out = Vec::new();
    let mut add = |instance: Option<&InstanceId>, finding: &Finding, digest: &str| {
        let fingerprint = fingerprint(finding, instance, digest);
        let why_not = match waivable(finding) {
            Err(why) => Some(why.to_owned()),
            Ok(policy) => match rule_of(deciding, policy) {
                None => Some(format!("nobody may waive what policy {policy} finds")),
                Some(rule) => {
                    let (teams, unknown) = (&deciding.definitions.teams, &review.unknown_authors);
                    why_not(rule, teams, &service.actor, &review.authors, unknown)
                }
            },
        };
        let id = fingerprint[..SHOWN].to_owned();
        out.push(Candidate { id, fingerprint, instance: instance.cloned(), finding: finding.clone(), why_not });
    };
    for stack in &review.stacks {
        let digest = stack.outcome.effect().map(windlass_model::effect::Effect::digest).unwrap_or_default();
        let denied = stack.findings.iter().filter(|finding| finding.level <= Level::Deny);
        denied.for_each(|finding| add(Some(&stack.instance), finding, &digest));
    }
    let denied = review.findings.iter().filter(|finding| finding.level <= Level::Deny);
    denied.for_each(|finding| add(None, finding, &review.effect_digest));
    out
}

/// Who may waive what a policy finds: as it says itself, else as the project says.
fn rule_of<'a>(deciding: &'a Deciding, policy: &str) -> Option<&'a WaiverRule> {
    let definitions = &deciding.definitions;
    let own = definitions.policies.iter().find(|definition| definition.name == policy);
    own.and_then(|definition| definition.waivers.as_ref()).or(definitions.waivers.as_ref())
}

/// Waives the one finding of a review that `what` means: the first digits of its id, or its rule (`deny_public`,
/// `data.exposure.deny_public`) where no other finding is of that rule. It holds for `time` from now; seven days when it is not
/// given, or as long as it may where that is less.
pub async fn waive(service: &Service, id: &RunId, what: &str, reason: &str, time: Option<Micros>) -> AppResult<Waiver> {
    let (row, deciding) = read(service, id).await?;
    let refuse = |kind: ErrorKind, code: &str, summary: String, help: String| {
        Err(AppError::new(kind, Diagnostic::error(code, summary).help(help)))
    };
    if !matches!(row.state, ReviewState::Open | ReviewState::Approved) {
        let summary = format!("review {id} is {}", row.state.as_str());
        return refuse(ErrorKind::Refused, "WL606", summary, "run `windlass review` for a new one".into());
    }
    if reason.trim().is_empty() {
        let help = "say who agreed to it, and when it will be mended".into();
        return refuse(ErrorKind::Usage, "WL463", "a waiver needs a reason".into(), help);
    }
    let all = candidates(service, &row.review, &deciding);
    let is_meant = |candidate: &&Candidate| {
        let rule = candidate.finding.rule.as_deref().unwrap_or_default();
        (what.len() >= 4 && candidate.fingerprint.starts_with(&what.to_lowercase()))
            || rule == what
            || rule.rsplit('.').next() == Some(what)
    };
    let meant: Vec<&Candidate> = all.iter().filter(is_meant).collect();
    let candidate = match meant.as_slice() {
        [only] => *only,
        [] => {
            let ids: Vec<&str> = all.iter().map(|candidate| candidate.id.as_str()).collect();
            let help = if ids.is_empty() {
                "nothing denies this review".to_owned()
            } else {
                format!("it has {}; `windlass waive --review {id}` shows them", ids.join(", "))
            };
            return refuse(ErrorKind::NotFound, "WL460", format!("no finding of review {id} is `{what}`"), help);
        }
        several => {
            let ids: Vec<&str> = several.iter().map(|candidate| candidate.id.as_str()).collect();
            let summary =
                format!("{} findings of review {id} are `{what}`, and one is waived at a time", several.len());
            return refuse(ErrorKind::Usage, "WL460", summary, format!("name one of {}", ids.join(", ")));
        }
    };
    let finding = &candidate.finding;
    let policy = match waivable(finding) {
        Ok(policy) => policy,
        Err(why) => {
            let summary = format!("`{}` cannot be waived: {why}", finding.message);
            return refuse(ErrorKind::Refused, "WL462", summary, "mend it, commit, and review again".into());
        }
    };
    let Some(rule) = rule_of(&deciding, policy).filter(|_| candidate.why_not.is_none()) else {
        let why = candidate.why_not.clone().unwrap_or_default();
        let help = format!("who may is said by the `waivers` block of policy \"{policy}\" on the branch this goes to");
        return refuse(ErrorKind::Refused, "WL461", format!("you may not waive `{}`: {why}", finding.message), help);
    };
    let time = time.unwrap_or(DEFAULT.min(rule.longest));
    if time <= 0 || time > rule.longest {
        let days = rule.longest / 86_400_000_000;
        let longest = if days > 0 { format!("{days}d") } else { format!("{}m", rule.longest / 60_000_000) };
        let summary = format!("a waiver of what policy {policy} finds holds for {longest} at most");
        return refuse(ErrorKind::Usage, "WL463", summary, format!("give `--expires {longest}` or less"));
    }
    let now = service.store.now().await?;
    let waiver = Waiver {
        finding: candidate.fingerprint.clone(),
        review: id.clone(),
        instance: candidate.instance.clone(),
        policy: policy.to_owned(),
        rule: finding.rule.clone(),
        address: finding.address.clone(),
        message: finding.message.clone(),
        actor: service.actor.clone(),
        reason: reason.trim().to_owned(),
        at: now,
        until: now + time,
    };
    service.store.waiver_put(&waiver).await?;
    Ok(waiver)
}

/// A review with its waivers: what is waived only warns, and the verdict is what follows from the rest.
pub async fn review_get(service: &Service, id: &RunId) -> AppResult<Option<ReviewRow>> {
    let Some(mut row) = service.store.review_get(id).await? else { return Ok(None) };
    let given = given(service, id, row.state == ReviewState::Applied).await?;
    if given.is_empty() {
        return Ok(Some(row));
    }
    let mut any = false;
    for stack in &mut row.review.stacks {
        let digest = stack.outcome.effect().map(windlass_model::effect::Effect::digest).unwrap_or_default();
        any |= mark(&given, Some(&stack.instance), &digest, &mut stack.findings);
    }
    let digest = row.review.effect_digest.clone();
    any |= mark(&given, None, &digest, &mut row.review.findings);
    if any && row.review.verdict == Verdict::Denied {
        let commit = crate::apply::deciding_commit(service, id).await?;
        let deciding = service.deciding(commit.as_deref()).await?;
        // Where the rules cannot be known, something broke, and that denies already.
        let asks = crate::decisions::rules(service, &row.review, &deciding).map_or(true, |rules| !rules.is_empty());
        row.review.verdict = crate::decisions::verdict(&row.review, asks);
    }
    Ok(Some(row))
}

/// Waivers of a review that hold now, by fingerprint; once it was applied, those it was applied with.
async fn given(service: &Service, review: &RunId, applied: bool) -> AppResult<BTreeMap<String, Waiver>> {
    let now = service.store.now().await?;
    let all = service.store.waiver_list().await?;
    let holds = |waiver: &Waiver| waiver.review == *review && (applied || !waiver.is_expired(now));
    Ok(all.into_iter().filter(holds).map(|waiver| (waiver.finding.clone(), waiver)).collect())
}

fn mark(
    given: &BTreeMap<String, Waiver>,
    instance: Option<&InstanceId>,
    digest: &str,
    findings: &mut [Finding],
) -> bool {
    let mut any = false;
    for finding in findings.iter_mut().filter(|finding| waivable(finding).is_ok()) {
        if let Some(waiver) = given.get(&fingerprint(finding, instance, digest)) {
            let by = waiver.actor.to_string();
            finding.level = Level::Warn;
            finding.waived = Some(Waived { by, reason: waiver.reason.clone(), until: waiver.until });
            any = true;
        }
    }
    any
}

/// What a new plan of an instance is judged by, without what was waived on `digest`, the effect that was reviewed.
pub async fn without_waived(
    service: &Service,
    review: &RunId,
    instance: &InstanceId,
    digest: &str,
    mut findings: Vec<Finding>,
) -> AppResult<Vec<Finding>> {
    if findings.iter().any(|finding| finding.level == Level::Deny) {
        mark(&given(service, review, false).await?, Some(instance), digest, &mut findings);
    }
    Ok(findings)
}

/// As [`without_waived`], for findings in the change as a whole.
pub async fn without_waived_change(
    service: &Service,
    review: &Review,
    mut findings: Vec<Finding>,
) -> AppResult<Vec<Finding>> {
    if findings.iter().any(|finding| finding.level == Level::Deny) {
        mark(&given(service, &review.run, false).await?, None, &review.effect_digest, &mut findings);
    }
    Ok(findings)
}

/// All waivers there were, newest first, and how many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaiverList {
    pub waivers: Vec<ListedWaiver>,
    pub per_rule: BTreeMap<String, Count>,
    pub per_person: BTreeMap<String, Count>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedWaiver {
    /// The first digits of the fingerprint.
    pub id: String,
    pub expired: bool,
    #[serde(flatten)]
    pub waiver: Waiver,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub given: usize,
    pub expired: usize,
    /// How many reviews they were given on.
    pub reviews: usize,
}

/// Lists and counts.
pub async fn waiver_list(service: &Service) -> AppResult<WaiverList> {
    let now = service.store.now().await?;
    let mut waivers: Vec<ListedWaiver> = service
        .store
        .waiver_list()
        .await?
        .into_iter()
        .map(|waiver| ListedWaiver {
            id: waiver.finding[..SHOWN.min(waiver.finding.len())].to_owned(),
            expired: waiver.is_expired(now),
            waiver,
        })
        .collect();
    waivers.sort_by_key(|listed| std::cmp::Reverse(listed.waiver.at));
    let rule = |waiver: &Waiver| waiver.rule.clone().unwrap_or_else(|| format!("policy {}", waiver.policy));
    let per_rule = count(&waivers, rule);
    let per_person = count(&waivers, |waiver| waiver.actor.to_string());
    Ok(WaiverList { waivers, per_rule, per_person })
}

fn count(waivers: &[ListedWaiver], key: impl Fn(&Waiver) -> String) -> BTreeMap<String, Count> {
    let mut out: BTreeMap<String, (Count, BTreeSet<&RunId>)> = BTreeMap::new();
    for listed in waivers {
        let (count, reviews) = out.entry(key(&listed.waiver)).or_default();
        count.given += 1;
        count.expired += usize::from(listed.expired);
        reviews.insert(&listed.waiver.review);
        count.reviews = reviews.len();
    }
    out.into_iter().map(|(key, (count, _))| (key, count)).collect()
}
