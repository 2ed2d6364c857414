//! Reviews, applies, drift and quarantines: what of them somebody is told, and in which words.

use super::words::{Words, duration, encoded};
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::id::{InstanceId, RunId, StepId};
use windlass_model::operation::Occasion;
use windlass_model::operation::occasion::{Happening, Notice};
use windlass_model::review::Verdict;
use windlass_model::run::{RunRecord, RunState};
use windlass_model::stack_plan::{ApplyInput, ReviewInput, driver};
use windlass_store::Event;

/// How many instances a message names.
const NAMED: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Review,
    Apply,
    Drift,
}

/// What is known of a run that is about stacks.
pub(super) struct Change {
    pub kind: Kind,
    /// Without its plan.
    pub run: RunRecord,
    /// The branch, or what else it was asked for by.
    head: String,
    /// What a person looks at: the review that it is or applies.
    review: RunId,
    /// With the names of their environments.
    instances: BTreeMap<InstanceId, BTreeSet<String>>,
    /// Steps that wait for a person when they wait.
    gates: BTreeSet<StepId>,
}

impl Change {
    /// `None` of a run that is about something else.
    pub fn of(mut run: RunRecord) -> Option<Self> {
        let plan = std::mem::take(&mut run.plan);
        let (kind, head, review) = match plan.kind.as_str() {
            "review" => {
                let input: ReviewInput = serde_json::from_value(plan.input).ok()?;
                (Kind::Review, input.head.name, run.id.clone())
            }
            "apply" => {
                let input: ApplyInput = serde_json::from_value(plan.input).ok()?;
                (Kind::Apply, input.head.name, input.review)
            }
            "drift" => (Kind::Drift, String::new(), run.id.clone()),
            _ => return None,
        };
        let work = [driver::PLAN, driver::PREPARE, driver::DRIFT];
        let instance = |input: &serde_json::Value| {
            let instance = &input.get("work").unwrap_or(input)["instance"];
            let environments = instance["environments"].as_array().into_iter().flatten();
            let environments = environments.filter_map(|name| name.as_str().map(str::to_owned)).collect();
            Some((InstanceId::new(instance["id"].as_str()?), environments))
        };
        let steps = plan.steps.iter();
        let worked = steps.clone().filter(|step| work.contains(&step.work.driver.as_str()));
        Some(Self {
            kind,
            head,
            review,
            instances: worked.filter_map(|step| instance(&step.work.input)).collect(),
            gates: steps.filter(|step| step.work.driver == driver::GATE).map(|step| step.id.clone()).collect(),
            run,
        })
    }

    /// What an event of the run means to people.
    pub fn happening(&self, event: &Event) -> Option<Happening> {
        let asks = || event.step.as_deref().is_some_and(|step| self.gates.contains(&StepId::new(step)));
        let verdict = || serde_json::from_value::<Verdict>(event.data["verdict"].clone()).ok();
        let ended = || event.kind.strip_prefix("run.").and_then(RunState::parse).filter(|state| state.is_final());
        Some(match (self.kind, event.kind.as_str()) {
            (Kind::Review, "review.created") if verdict() == Some(Verdict::NeedsApproval) => Happening::Waits,
            (Kind::Review, "review.approved" | "review.applying") => Happening::WentOn,
            (Kind::Review, "review.applied") => Happening::Ended(RunState::Succeeded),
            (Kind::Review, "review.refused") => Happening::Ended(RunState::Cancelled),
            (Kind::Apply, "step.waiting") if asks() => Happening::Waits,
            (Kind::Apply, "step.unknown" | "run.halted") => Happening::Waits,
            (Kind::Apply, "step.succeeded") if asks() => Happening::WentOn,
            (Kind::Apply, "step.settled" | "run.resumed") => Happening::WentOn,
            (Kind::Apply, "stack.quarantined") => Happening::Quarantined,
            (Kind::Apply, _) => Happening::Ended(ended()?),
            (Kind::Drift, _) => ended().map(|_| Happening::Drifted)?,
            _ => return None,
        })
    }

    /// The environments of these instances; of all where none is named.
    pub fn environments(&self, of: &BTreeSet<InstanceId>) -> BTreeSet<&str> {
        let chosen = self.instances.iter().filter(|(id, _)| of.is_empty() || of.contains(*id));
        chosen.flat_map(|(_, environments)| environments.iter().map(String::as_str)).collect()
    }
}

/// The instance that an event is about.
pub(super) fn instance_of(event: &Event) -> Option<InstanceId> {
    event.data["instance"].as_str().map(InstanceId::new)
}

impl Words {
    /// What is told of a change; `about` are the instances that it is about where they are not all.
    pub fn of_change(&self, change: &Change, what: Happening, event: &Event, about: &BTreeSet<InstanceId>) -> Notice {
        let state = match what {
            Happening::Ended(state) => Some(state),
            Happening::Waits => Some(RunState::Waiting),
            Happening::Quarantined => Some(RunState::Running),
            _ => None,
        };
        let mut notice = Notice {
            occasion: None,
            state: state.or((change.kind != Kind::Drift).then_some(RunState::Running)),
            project: change.run.project.clone(),
            operation: None,
            run: Some(change.run.id.to_string()),
            title: String::new(),
            text: event.data["reason"].as_str().unwrap_or_default().to_owned(),
            facts: Vec::new(),
            links: Vec::new(),
            at: event.at,
        };
        let all: Vec<&str> = match about.is_empty() {
            true => change.instances.keys().map(InstanceId::as_str).collect(),
            false => about.iter().map(InstanceId::as_str).collect(),
        };
        let mut named = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if all.len() > NAMED {
            named.push_str(&format!(" and {} more", all.len() - NAMED));
        }
        notice.facts.push(("stacks".into(), named));
        let environments = change.environments(about).into_iter().collect::<Vec<_>>().join(", ");
        if !environments.is_empty() {
            notice.facts.push(("environments".into(), environments));
        }
        if let (Happening::Waits | Happening::WentOn, Some(step)) = (what, &event.step) {
            notice.facts.push(("step".into(), step.clone()));
        }
        if let (Happening::Ended(_), Kind::Apply) = (what, change.kind) {
            notice.facts.push(("after".into(), duration(event.at - change.run.created_at)));
        }
        notice.facts.push(("started by".into(), change.run.actor.clone()));
        if what == Happening::Quarantined {
            let stack = about.iter().next().map(InstanceId::stack);
            let path = stack.iter().flat_map(|stack| stack.as_str().split('/')).map(encoded);
            let path: Vec<String> = std::iter::once(encoded(&change.run.project)).chain(path).collect();
            notice.links.push(("the stack".into(), format!("{}/stacks/{}", self.url, path.join("/"))));
        }
        if change.kind != Kind::Drift {
            notice
                .links
                .push(("the review".into(), format!("{}/reviews/{}", self.url, encoded(change.review.as_str()))));
        }
        if change.kind != Kind::Review {
            notice.links.push(("the run".into(), self.run_url(&change.run.id)));
        }
        notice.title = title(change, what, all.len(), about);
        notice
    }
}

fn title(change: &Change, what: Happening, count: usize, about: &BTreeSet<InstanceId>) -> String {
    let of = match change.kind {
        Kind::Review => format!("The review of {}", change.head),
        Kind::Apply => format!("The apply of {}", change.head),
        Kind::Drift if count == 1 => "1 stack".to_owned(),
        Kind::Drift => format!("{count} stacks"),
    };
    let said = match (change.kind, what) {
        (Kind::Review, Happening::Waits) => "waits for approval",
        (Kind::Review, Happening::WentOn) => "goes on",
        (Kind::Review, Happening::Ended(RunState::Succeeded)) => "was applied",
        (Kind::Review, Happening::Ended(_)) => "was refused",
        (_, Happening::Waits) => "waits for somebody",
        (_, Happening::Quarantined) => {
            let names = about.iter().map(InstanceId::as_str).collect::<Vec<_>>().join(", ");
            return format!("{names} is quarantined");
        }
        (_, Happening::Drifted) => "drifted",
        (_, Happening::Ended(RunState::Succeeded)) => "succeeded",
        (_, Happening::Ended(RunState::Cancelled)) => "was cancelled",
        (_, Happening::Ended(RunState::Abandoned)) => "was abandoned",
        (_, Happening::Ended(_)) => "failed",
        _ => "goes on",
    };
    format!("{of} {said}")
}

/// What a telling is called among all of its run, so that it is told once.
pub(super) fn once(occasion: Option<Occasion>, event: &Event, about: &BTreeSet<InstanceId>) -> String {
    match occasion {
        Some(Occasion::Waiting) => format!("waiting/{}", event.step.as_deref().unwrap_or(&event.kind)),
        Some(Occasion::Quarantine) => {
            format!("quarantine/{}", about.iter().next().map(InstanceId::as_str).unwrap_or_default())
        }
        Some(occasion) => occasion.as_str().to_owned(),
        None => format!("event/{}", event.id),
    }
}
