//! What policies of each kind are asked with, as types. The schemas in `schemas/` describe the same and are tested against them.

use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::Micros;
use windlass_model::access;
use windlass_model::affected::PathChange;
use windlass_model::approval::{Actor, ApprovalRecord};
use windlass_model::definition::{ApprovalRule, DecisionKind};
use windlass_model::effect::{Effect, EffectSummary, OutputAction, ResourceChange, Shown};
use windlass_model::review::{AffectedKind, Finding, Level, Outcome, Review, Revision, StackReview};
use windlass_model::risk;

/// What stands beside the plan of one instance, as `input.windlass`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanFacts {
    pub project: String,
    pub instance: String,
    pub stack: String,
    /// The key in brackets; `None` for a stack with one instance.
    pub region: Option<String>,
    pub environments: Vec<String>,
    /// A team.
    pub owner: Option<String>,
    pub change: &'static str,
    /// Planned with values that its upstreams do not have yet.
    pub preview: bool,
    /// Everything it has is destroyed.
    pub destroy: bool,
}

/// A whole change: the input of `review` and, with the rules, of `approval`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub project: String,
    /// `review` or `apply`.
    pub moment: &'static str,
    pub base: Option<Revision>,
    pub head: Revision,
    pub authors: Vec<Person>,
    /// Paths that differ from the commit.
    pub uncommitted: Vec<String>,
    pub files: Vec<File>,
    pub stacks: Vec<Stack>,
    pub effect: Totals,
    /// The highest of all stacks.
    pub risk: &'static str,
    pub risk_score: u32,
    /// Names of those in which something changes.
    pub environments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Vec<Approval>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Person {
    pub name: String,
    pub email: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct File {
    pub path: String,
    /// `added`, `modified`, `deleted`, `renamed`, `type_changed`.
    pub change: Value,
    pub old_path: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    #[serde(flatten)]
    pub counts: EffectSummary,
    /// Hexadecimal SHA-256.
    pub digest: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stack {
    pub instance: String,
    pub stack: String,
    pub region: Option<String>,
    pub change: &'static str,
    pub renamed_from: Option<String>,
    pub environments: Vec<String>,
    pub owner: Option<String>,
    /// Instances that come before it.
    pub after: Vec<String>,
    pub outcome: &'static str,
    pub effect: StackEffect,
    pub risk: StackRisk,
    pub findings: Vec<FindingFacts>,
}

/// What would be done to one instance; nothing where there is no plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StackEffect {
    #[serde(flatten)]
    pub counts: EffectSummary,
    pub digest: String,
    pub resources: Vec<Resource>,
    /// What happens to each output: `create`, `update`, `delete`.
    pub changed_outputs: BTreeMap<String, OutputAction>,
    pub failed_checks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    pub address: String,
    pub previous_address: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub provider: String,
    /// `create`, `update`, `replace`, `replace_create_first`, `destroy`, `move`, `import`, `forget`.
    pub action: Value,
    /// By path, e.g. `tags.Name`; sensitive values are `(sensitive)`, those nobody knows yet `(known after apply)`.
    pub attributes: BTreeMap<String, BeforeAfter>,
    pub replace_paths: Vec<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BeforeAfter {
    pub before: Value,
    pub after: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StackRisk {
    pub level: &'static str,
    pub score: u32,
    pub reasons: Vec<RiskReason>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RiskReason {
    pub code: risk::ReasonCode,
    pub text: String,
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FindingFacts {
    pub level: Level,
    pub source: String,
    pub rule: Option<String>,
    pub message: String,
    pub address: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Approval {
    pub actor: ActorFacts,
    pub reason: Option<String>,
    /// Microseconds since the Unix epoch.
    pub at: Micros,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActorFacts {
    pub name: String,
    /// Such as `email:a@b.example`.
    pub identities: Vec<String>,
    pub verified: bool,
    /// Names of teams it belongs to.
    pub teams: Vec<String>,
}

/// What is asked for already.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    /// e.g. `environment production`.
    pub subject: String,
    #[serde(flatten)]
    pub rule: ApprovalRule,
}

/// Whether an operation may run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operation {
    pub project: String,
    pub operation: Subject,
    pub parameters: BTreeMap<String, Value>,
    pub actor: ActorFacts,
    /// `web`, `cli`, `api`, `chat`, `ci` or `schedule`.
    pub from: String,
    pub reason: Option<String>,
    /// Names of environments that it touches.
    pub environments: Vec<String>,
    pub at: Micros,
}

/// Whether somebody may do something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Access {
    pub project: String,
    pub actor: ActorFacts,
    /// A permission, e.g. `review.approve`.
    pub action: String,
    /// Whether grants, the default role or the settings of the server give it.
    pub granted: bool,
    pub resource: AccessedThing,
    pub at: Micros,
}

/// What somebody wants to do something with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccessedThing {
    /// `project`, `stack`, `review`, `run`, …
    pub kind: String,
    /// Its name or id.
    pub name: String,
    /// Names of all environments that its instances belong to.
    pub environments: BTreeSet<String>,
    /// The stack instances that it touches.
    pub instances: Vec<AccessedInstance>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccessedInstance {
    pub instance: String,
    pub stack: String,
    /// The key in brackets; `None` for a stack with one instance.
    pub region: Option<String>,
    pub environments: Vec<String>,
    /// A team.
    pub owner: Option<String>,
}

/// Whether an event may start something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trigger {
    pub project: String,
    pub event: Event,
    /// What it would start.
    pub subject: Subject,
    pub actor: Option<ActorFacts>,
    /// How the subject ended the last time.
    pub last: Option<LastRun>,
    pub at: Micros,
}

/// Something that has a name: an operation, a stack, a review.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subject {
    pub kind: String,
    pub name: String,
    /// A team.
    pub owner: Option<String>,
    pub environments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// `push`, `schedule`, `webhook`, `upstream` or `manual`.
    pub kind: String,
    /// Of the branch, the schedule, the hook, the run.
    pub name: String,
    pub data: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LastRun {
    pub run: String,
    pub state: String,
    pub ended_at: Option<Micros>,
}

/// One input, ready to be asked with.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub kind: DecisionKind,
    pub value: Value,
}

impl Input {
    /// The plan of one instance (`terraform show -json`) with the facts beside it.
    pub fn plan(mut plan: Value, facts: &PlanFacts) -> Self {
        if let (Value::Object(object), Ok(facts)) = (&mut plan, serde_json::to_value(facts)) {
            object.insert("windlass".to_owned(), facts);
        }
        Self { kind: DecisionKind::Plan, value: plan }
    }

    pub fn review(change: &Change) -> Self {
        Self::of(DecisionKind::Review, change)
    }
    pub fn approval(change: &Change) -> Self {
        Self::of(DecisionKind::Approval, change)
    }
    pub fn operation(operation: &Operation) -> Self {
        Self::of(DecisionKind::Operation, operation)
    }
    pub fn access(access: &Access) -> Self {
        Self::of(DecisionKind::Access, access)
    }
    pub fn trigger(trigger: &Trigger) -> Self {
        Self::of(DecisionKind::Trigger, trigger)
    }

    fn of<T: Serialize>(kind: DecisionKind, value: &T) -> Self {
        // Plain data with text keys: serialising it cannot fail.
        Self { kind, value: serde_json::to_value(value).unwrap_or_default() }
    }
}

/// Which question about a change is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// Whether it may go on: when the review is made, or with the approvals it has when it is applied.
    Review { approvals: Option<Vec<Approval>> },
    /// Who has to approve it, beside these.
    Approval { rules: Vec<Rule> },
}

impl Change {
    pub fn new(review: &Review, files: &[PathChange], question: Question) -> Self {
        let (moment, approvals, rules) = match question {
            Question::Review { approvals: None } => ("review", Some(Vec::new()), None),
            Question::Review { approvals: Some(given) } => ("apply", Some(given), None),
            Question::Approval { rules } => ("review", None, Some(rules)),
        };
        let stacks: Vec<Stack> = review.stacks.iter().map(Stack::new).collect();
        let highest = review.stacks.iter().filter_map(|s| s.risk.as_ref()).max_by_key(|risk| risk.score);
        let touched = stacks.iter().filter(|stack| stack.is_changed());
        let environments: BTreeSet<String> = touched.flat_map(|stack| stack.environments.iter().cloned()).collect();
        let counts = review.effects().map(Effect::summary).sum();
        Self {
            project: review.project.clone(),
            moment,
            base: review.base.clone(),
            head: review.head.clone(),
            authors: review.authors.iter().map(|author| Person::new(author)).collect(),
            uncommitted: review.dirty.clone(),
            files: files.iter().map(File::new).collect(),
            effect: Totals { counts, digest: review.effect_digest.clone() },
            risk: highest.map_or("none", |risk| risk.level.as_str()),
            risk_score: highest.map_or(0, |risk| risk.score),
            environments: environments.into_iter().collect(),
            stacks,
            approvals,
            rules,
        }
    }
}

impl Person {
    /// From `Name <mail>`.
    fn new(text: &str) -> Self {
        let (name, email) = text.split_once(" <").map_or((text, ""), |(name, mail)| (name, mail.trim_end_matches('>')));
        Self { name: name.to_owned(), email: email.to_owned() }
    }
}

impl File {
    fn new(change: &PathChange) -> Self {
        let kind = serde_json::to_value(change.kind).unwrap_or_default();
        Self { path: change.path.clone(), change: kind, old_path: change.old_path.clone() }
    }
}

impl Approval {
    pub fn new(record: &ApprovalRecord, teams: Vec<String>) -> Self {
        Self { actor: ActorFacts::new(&record.actor, teams), reason: record.reason.clone(), at: record.at }
    }
}

impl AccessedThing {
    pub fn new(subject: &access::Subject) -> Self {
        let instances = subject.places.iter().map(|place| AccessedInstance {
            instance: place.instance.to_string(),
            stack: place.instance.stack().to_string(),
            region: place.instance.key().map(str::to_owned),
            environments: place.environments.clone(),
            owner: place.owner.clone(),
        });
        Self {
            kind: subject.kind.clone(),
            name: subject.name.clone(),
            environments: subject.places.iter().flat_map(|place| place.environments.iter().cloned()).collect(),
            instances: instances.collect(),
        }
    }
}

impl ActorFacts {
    pub fn new(actor: &Actor, teams: Vec<String>) -> Self {
        Self { name: actor.name.clone(), identities: actor.identities.clone(), verified: actor.verified, teams }
    }
}

/// How an instance came into the change.
pub fn change_of(kind: &AffectedKind) -> &'static str {
    match kind {
        AffectedKind::Changed => "changed",
        AffectedKind::New => "new",
        AffectedKind::Deleted => "deleted",
        AffectedKind::Renamed { .. } => "renamed",
        AffectedKind::Dependant => "dependant",
    }
}

impl Stack {
    fn new(stack: &StackReview) -> Self {
        let outcome = match &stack.outcome {
            Outcome::Planned { .. } => "planned",
            Outcome::Preview { .. } => "preview",
            Outcome::Unaffected => "unaffected",
            Outcome::Failed { .. } => "failed",
            Outcome::Skipped { .. } => "skipped",
            Outcome::Deleted => "deleted",
        };
        let renamed_from = match &stack.kind {
            AffectedKind::Renamed { from } => Some(from.to_string()),
            _ => None,
        };
        Self {
            instance: stack.instance.to_string(),
            stack: stack.instance.stack().to_string(),
            region: stack.instance.key().map(str::to_owned),
            change: change_of(&stack.kind),
            renamed_from,
            environments: stack.environments.clone(),
            owner: stack.owner.clone(),
            after: stack.after.iter().map(ToString::to_string).collect(),
            outcome,
            effect: StackEffect::new(stack.outcome.effect()),
            risk: StackRisk::new(stack.risk.as_ref()),
            findings: stack.findings.iter().map(FindingFacts::new).collect(),
        }
    }

    fn is_changed(&self) -> bool {
        self.outcome == "preview" || !self.effect.resources.is_empty() || !self.effect.changed_outputs.is_empty()
    }
}

impl StackEffect {
    fn new(effect: Option<&Effect>) -> Self {
        let Some(effect) = effect else {
            return Self {
                counts: EffectSummary::default(),
                digest: String::new(),
                resources: Vec::new(),
                changed_outputs: BTreeMap::new(),
                failed_checks: Vec::new(),
            };
        };
        Self {
            counts: effect.summary(),
            digest: effect.digest(),
            resources: effect.changes.iter().map(Resource::new).collect(),
            changed_outputs: effect.outputs.iter().map(|(name, output)| (name.clone(), output.action)).collect(),
            failed_checks: effect.checks.keys().cloned().collect(),
        }
    }
}

impl Resource {
    fn new(change: &ResourceChange) -> Self {
        let attributes = change.attributes.iter().map(|(path, attribute)| {
            (path.clone(), BeforeAfter { before: shown(&attribute.before), after: shown(&attribute.after) })
        });
        Self {
            address: change.address.clone(),
            previous_address: change.previous_address.clone(),
            kind: change.resource_type.clone(),
            provider: change.provider.clone(),
            action: serde_json::to_value(change.action).unwrap_or_default(),
            attributes: attributes.collect(),
            replace_paths: change.replace_paths.clone(),
            reason: change.reason.clone(),
        }
    }
}

fn shown(value: &Shown) -> Value {
    match value {
        Shown::Absent => Value::Null,
        Shown::Value(value) => value.clone(),
        Shown::Sensitive(_) => Value::String(super::mask::SENSITIVE.to_owned()),
        Shown::Unknown => Value::String("(known after apply)".to_owned()),
    }
}

impl StackRisk {
    fn new(risk: Option<&risk::Risk>) -> Self {
        let reasons = risk.into_iter().flat_map(|risk| &risk.reasons).map(|reason| RiskReason {
            code: reason.code,
            text: reason.text.clone(),
            addresses: reason.addresses.clone(),
        });
        Self {
            level: risk.map_or("none", |risk| risk.level.as_str()),
            score: risk.map_or(0, |risk| risk.score),
            reasons: reasons.collect(),
        }
    }
}

impl FindingFacts {
    fn new(finding: &Finding) -> Self {
        Self {
            level: finding.level,
            source: finding.source.clone(),
            rule: finding.rule.clone(),
            message: finding.message.clone(),
            address: finding.address.clone(),
        }
    }
}
