//! Planners of the two runs every change goes through: the review of affected instances and the apply of a review.
//! Pure: repository and review in, [`RunPlan`] out.

use crate::Micros;
use crate::binding::Binding;
use crate::effect::Effect;
use crate::graph::GraphIndex;
use crate::id::{InstanceId, RunId, StackId, StepId};
use crate::place::Place;
use crate::review::{Affected, AffectedKind, Finding, Outcome, Reason, Review, Revision};
use crate::rollout::{Gate, InstanceSteps, Rollout, Target, WavePlan, plan_waves, to_steps};
use crate::run::{Cost, Flow, Repeat, Retry, RunPlan, StepSpec, When, Work};
use crate::stack::{ConsumedOutputs, EdgeKind, Instance, Repository, Tool};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names of the executors the steps are done by.
pub mod driver {
    /// Input [`super::ChecksInput`].
    pub const CHECKS: &str = "review.checks";
    /// Input [`super::ProvidersInput`].
    pub const PROVIDERS: &str = "stack.providers";
    pub const PLAN: &str = "review.plan";
    pub const ASSEMBLE: &str = "review.assemble";
    pub const PREPARE: &str = "apply.plan";
    pub const GATE: &str = "apply.gate";
    pub const APPLY: &str = "apply.apply";
    pub const READY: &str = "apply.ready";
    pub const FINISH: &str = "apply.finish";
    pub const DRIFT: &str = "drift.look";
}

/// Everything a step needs to run terraform for one instance, so that any process can do it from the stored plan alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StackWork {
    pub stack: StackId,
    pub instance: Instance,
    pub tool: Tool,
    pub required_version: Vec<String>,
    pub env: Vec<String>,
    /// Directories of the stack's configuration: its own first, then its local modules.
    pub directories: Vec<Arc<str>>,
    pub owner: Option<String>,
    pub kind: AffectedKind,
    pub reasons: Vec<Reason>,
    /// Remote states it reads from instances of the same run.
    pub reads: Vec<Read>,
    /// Outputs it uses of every stack it reads, by name of the data source; one that is not named here may be used in full.
    #[serde(default)]
    pub consumes: BTreeMap<String, ConsumedOutputs>,
    /// Instances of the same run it waits for: those it reads from, and declared ones.
    pub after: Vec<InstanceId>,
    /// Everything it has is destroyed.
    #[serde(default)]
    pub destroy: bool,
    /// The commit its configuration is read from; `None` for the work tree.
    #[serde(default)]
    pub source: Option<String>,
    /// Outputs of the stacks it reads that are declared sensitive, by name of the data source.
    #[serde(default)]
    pub sensitive: BTreeMap<String, BTreeSet<String>>,
    /// What has to pass between its apply and its dependants.
    #[serde(default)]
    pub ready: Vec<Gate>,
    /// The rollout it is a part of, by name.
    #[serde(default)]
    pub rollout: Option<(String, Rollout)>,
    /// What may drift without being told.
    #[serde(default)]
    pub drift_ignore: Vec<String>,
    /// Instances that read from it, directly or through others, in this run or not.
    #[serde(default)]
    pub dependants: usize,
    /// Single files it reads, beside those in its directories.
    #[serde(default)]
    pub files: Vec<Arc<str>>,
    /// Labels that a worker has to have to do its steps, as the deciding commit says.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Where its programs run, as the deciding commit says.
    #[serde(default)]
    pub place: Place,
}

/// A `terraform_remote_state` of an upstream in the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Read {
    pub from: InstanceId,
    /// Name of the data source, and the directory of the module it stands in.
    pub name: String,
    pub module: Arc<str>,
    pub outputs: ConsumedOutputs,
}

/// Parameters of a review run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewInput {
    pub project: String,
    pub base: Option<Revision>,
    pub head: Revision,
    /// The commit whose policies, teams and approval rules decide; `None` when there is none yet.
    pub deciding: Option<String>,
    pub dirty: Vec<String>,
    pub authors: Vec<String>,
    #[serde(default)]
    pub unknown_authors: Vec<String>,
    pub deleted: Vec<Affected>,
    /// Notices for the document, found before the run.
    pub diagnostics: Vec<crate::diagnostic::Diagnostic>,
}

/// Parameters of an apply run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyInput {
    pub review: RunId,
    pub head: Revision,
    pub deciding: Option<String>,
}

/// Parameters of a run that looks for drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftInput {
    /// What is looked at is configured there.
    pub head: Revision,
}

/// Input of the steps of an apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplyWork {
    pub work: StackWork,
    pub reviewed: Effect,
    /// The reviewed effect is a preview: what it could not know may have any value.
    pub preview: bool,
    /// What the reviewed plan stands on.
    pub binding: Option<Binding>,
}

/// What one instance usually costs, learned from earlier runs.
pub type Costs = BTreeMap<InstanceId, Cost>;

/// A terraform process that was never measured.
pub const UNMEASURED: Cost = Cost { cpu_milli: 1000, memory_mib: 400 };

const HOUR: Micros = 3_600_000_000;

/// What is looked at without a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChecksInput {
    /// Configuration whose format is checked.
    pub files: Vec<String>,
    /// Directories of the modules that are checked.
    pub directories: BTreeSet<String>,
    /// Findings of reports that were handed in.
    pub handed: Vec<Finding>,
    /// Where formats are checked. A format is the same everywhere, but the program is not.
    #[serde(default)]
    pub place: Place,
    /// Labels of a worker that has such a place.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// The step of the static checks.
pub fn checks_step() -> StepId {
    StepId::new("checks")
}

/// Instances of a run whose lock files name providers that have to come from somewhere. What they have to do is in their own steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidersInput {
    pub instances: BTreeSet<InstanceId>,
}

/// The step that fetches what lock files name.
pub fn providers_step() -> StepId {
    StepId::new("providers")
}

/// The step before all that run `init`, when one of the instances that are `wanted` needs it. What it cannot fetch is left to them:
/// it does not fail for that, so they come after it whatever they ask of their other predecessors.
fn providers(locked: &ProvidersInput, wanted: impl Fn(&InstanceId) -> bool) -> Option<StepSpec> {
    let instances: BTreeSet<InstanceId> = locked.instances.iter().filter(|id| wanted(id)).cloned().collect();
    (!instances.is_empty()).then(|| StepSpec {
        id: providers_step(),
        title: "Fetch the providers that lock files name".into(),
        after: Vec::new(),
        when: When::Succeeded,
        work: Work { driver: driver::PROVIDERS.into(), input: to_value(&ProvidersInput { instances }) },
        repeat: Repeat::Idempotent,
        timeout: Some(HOUR),
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: UNMEASURED,
        labels: Vec::new(),
        flow: Flow::default(),
    })
}

/// Steps of a review: static checks and providers once, a plan per instance in the order of the works, then the document.
pub fn review(
    works: &[StackWork],
    checks: &ChecksInput,
    locked: &ProvidersInput,
    input: &ReviewInput,
    costs: &Costs,
) -> RunPlan {
    let mut steps = Vec::with_capacity(works.len() + 3);
    let mut ends = Vec::new();
    let provided = providers(locked, |_| true);
    let first: Vec<StepId> = provided.iter().map(|step| step.id.clone()).collect();
    ends.extend(first.iter().cloned());
    steps.extend(provided);
    if *checks != ChecksInput::default() {
        let id = checks_step();
        ends.push(id.clone());
        steps.push(StepSpec {
            id,
            title: "Check the configuration of changed stacks".into(),
            after: Vec::new(),
            when: When::Succeeded,
            work: Work { driver: driver::CHECKS.into(), input: to_value(checks) },
            repeat: Repeat::Idempotent,
            timeout: Some(HOUR),
            retry: Retry::NEVER,
            locks: Vec::new(),
            cost: UNMEASURED,
            labels: checks.labels.clone(),
            flow: Flow::default(),
        });
    }
    for work in works {
        let id = plan_step(&work.instance.id);
        ends.push(id.clone());
        steps.push(StepSpec {
            id,
            title: format!("Plan {}", work.instance.id),
            after: work.after.iter().map(plan_step).chain(first.iter().cloned()).collect(),
            when: When::Always,
            work: Work { driver: driver::PLAN.into(), input: to_value(work) },
            repeat: Repeat::Idempotent,
            timeout: Some(4 * HOUR),
            retry: Retry::NEVER,
            locks: Vec::new(),
            cost: costs.get(&work.instance.id).copied().unwrap_or(UNMEASURED),
            labels: work.labels.clone(),
            flow: Flow::default(),
        });
    }
    steps.push(StepSpec {
        id: StepId::new("review"),
        title: "Put the review together".into(),
        after: ends,
        when: When::Always,
        work: Work { driver: driver::ASSEMBLE.into(), input: serde_json::Value::Null },
        repeat: Repeat::Idempotent,
        timeout: Some(HOUR),
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    });
    let against = input.base.as_ref().map_or("all".to_owned(), |b| format!("against {}", b.name));
    RunPlan {
        kind: "review".into(),
        title: format!("{} {against}", input.head.name),
        input: to_value(input),
        steps,
        ..RunPlan::default()
    }
}

/// Steps of an apply: for each instance that changes or was only previewed, plan → gate → apply, after the applies of its
/// upstreams; then one that records the end. `None` when nothing is to be done.
pub fn apply(
    review: &Review,
    works: &BTreeMap<InstanceId, StackWork>,
    locked: &ProvidersInput,
    deciding: Option<String>,
    costs: &Costs,
) -> Option<RunPlan> {
    let chosen: Vec<(&InstanceId, &Effect, bool, &Option<Binding>)> = review
        .stacks
        .iter()
        .filter_map(|stack| match &stack.outcome {
            Outcome::Planned { effect } if !effect.is_empty() => Some((&stack.instance, effect, false, &stack.binding)),
            Outcome::Preview { effect, .. } => Some((&stack.instance, effect, true, &stack.binding)),
            _ => None,
        })
        .collect();
    if chosen.is_empty() {
        return None;
    }
    let mut steps = Vec::new();
    let mut ends = Vec::new();
    let chosen_set: BTreeSet<&InstanceId> = chosen.iter().map(|(instance, ..)| *instance).collect();
    let provided = providers(locked, |id| chosen_set.contains(id));
    let first: Vec<StepId> = provided.iter().map(|step| step.id.clone()).collect();
    steps.extend(provided);
    for (instance, effect, preview, binding) in &chosen {
        let Some(work) = works.get(*instance) else { continue };
        let lock = vec![format!("stack:{instance}")];
        let cost = costs.get(*instance).copied().unwrap_or(UNMEASURED);
        let input = to_value(&ApplyWork {
            work: work.clone(),
            reviewed: (*effect).clone(),
            preview: *preview,
            binding: (*binding).clone(),
        });
        let upstreams = nearest(&work.after, works, &chosen_set);
        let ids = [plan_step(instance), gate_step(instance), apply_step(instance)];
        ends.push(ids[2].clone());
        steps.push(StepSpec {
            id: ids[0].clone(),
            title: format!("Plan {instance} again and compare with the review"),
            after: upstreams.iter().map(|upstream| last_step(works, upstream)).chain(first.iter().cloned()).collect(),
            when: When::Succeeded,
            work: Work { driver: driver::PREPARE.into(), input: input.clone() },
            repeat: Repeat::Idempotent,
            timeout: Some(4 * HOUR),
            retry: Retry::NEVER,
            locks: lock.clone(),
            cost,
            labels: work.labels.clone(),
            flow: Flow::default(),
        });
        steps.push(StepSpec {
            id: ids[1].clone(),
            title: format!("Approval of {instance}"),
            after: vec![ids[0].clone()],
            when: When::Succeeded,
            work: Work { driver: driver::GATE.into(), input: input.clone() },
            repeat: Repeat::Idempotent,
            timeout: None,
            retry: Retry::NEVER,
            locks: Vec::new(),
            cost: Cost::NONE,
            labels: Vec::new(),
            flow: Flow::default(),
        });
        steps.push(StepSpec {
            id: ids[2].clone(),
            title: format!("Apply {instance}"),
            after: vec![ids[0].clone(), ids[1].clone()],
            when: When::Succeeded,
            work: Work { driver: driver::APPLY.into(), input },
            repeat: Repeat::Checkable,
            timeout: Some(12 * HOUR),
            retry: Retry::NEVER,
            locks: lock,
            cost,
            labels: work.labels.clone(),
            flow: Flow::default(),
        });
        if !work.ready.is_empty() && !work.destroy {
            let id = ready_step(instance);
            ends.push(id.clone());
            let limit: Micros = work.ready.iter().filter_map(Gate::timeout).sum();
            steps.push(StepSpec {
                id,
                title: format!("{instance} is ready"),
                after: vec![apply_step(instance)],
                when: When::Succeeded,
                work: Work { driver: driver::READY.into(), input: to_value(work) },
                repeat: Repeat::Idempotent,
                timeout: Some(limit + HOUR / 60),
                retry: Retry::NEVER,
                locks: Vec::new(),
                cost: Cost::NONE,
                labels: work.labels.clone(),
                flow: Flow::default(),
            });
        }
    }
    let in_order = chosen.iter().filter_map(|(instance, ..)| works.get(*instance));
    for (name, (rollout, instances)) in rollouts(in_order) {
        let waves = waves_of(&rollout, &instances, works, &chosen_set).waves;
        let own = |id: &InstanceId| InstanceSteps { first: plan_step(id), apply: last_step(works, id) };
        let own = instances.iter().map(|id| (id.clone(), own(id))).collect();
        let placed =
            |id: &InstanceId| works.get(id).map(|work| (work.place.clone(), work.labels.clone())).unwrap_or_default();
        let chain = to_steps(&name, &waves, rollout.gate_timeout, rollout.max_failures, &own, placed);
        for (id, after) in chain.after {
            if let Some(step) = steps.iter_mut().find(|s| s.id == id) {
                step.after.extend(after);
            }
        }
        ends.extend(chain.steps.iter().map(|s| s.id.clone()));
        steps.extend(chain.steps);
    }
    steps.push(StepSpec {
        id: StepId::new("finish"),
        title: "Record the result".into(),
        after: ends,
        when: When::Always,
        work: Work { driver: driver::FINISH.into(), input: serde_json::Value::Null },
        repeat: Repeat::Idempotent,
        timeout: Some(HOUR),
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    });
    let input = to_value(&ApplyInput { review: review.run.clone(), head: review.head.clone(), deciding });
    Some(RunPlan {
        kind: "apply".into(),
        title: format!("{} of review {}", review.head.name, review.run),
        input,
        steps,
        ..RunPlan::default()
    })
}

/// Rollouts by name, with the instances of each in the order of the works: where nothing else decides, waves keep it.
fn rollouts<'a>(works: impl Iterator<Item = &'a StackWork>) -> BTreeMap<String, (Rollout, Vec<InstanceId>)> {
    let mut found: BTreeMap<String, (Rollout, Vec<InstanceId>)> = BTreeMap::new();
    for work in works {
        if let Some((name, rollout)) = &work.rollout {
            let entry = found.entry(name.clone()).or_insert_with(|| (rollout.clone(), Vec::new()));
            entry.1.push(work.instance.id.clone());
        }
    }
    found
}

fn waves_of(
    rollout: &Rollout,
    instances: &[InstanceId],
    works: &BTreeMap<InstanceId, StackWork>,
    chosen: &BTreeSet<&InstanceId>,
) -> WavePlan {
    let members: BTreeSet<&InstanceId> = instances.iter().collect();
    let mut edges = Vec::new();
    let mut targets = Vec::new();
    for work in instances.iter().filter_map(|id| works.get(id)) {
        let id = &work.instance.id;
        let upstreams = nearest(&work.after, works, chosen);
        edges.extend(upstreams.into_iter().filter(|up| members.contains(up)).map(|up| (up, id.clone())));
        targets.push(Target {
            instance: id.clone(),
            region: id.key().map(str::to_owned),
            environments: work.instance.environments.clone(),
        });
    }
    plan_waves(rollout, &targets, &edges)
}

/// What is odd about the waves of these works, if all of them were applied.
pub fn rollout_diagnostics(works: &[StackWork]) -> Vec<crate::diagnostic::Diagnostic> {
    let by_id: BTreeMap<InstanceId, StackWork> = works.iter().map(|w| (w.instance.id.clone(), w.clone())).collect();
    let chosen: BTreeSet<&InstanceId> = by_id.keys().collect();
    let found = rollouts(works.iter());
    found.values().flat_map(|(rollout, ids)| waves_of(rollout, ids, &by_id, &chosen).diagnostics).collect()
}

/// The step after which an instance is there for its dependants.
fn last_step(works: &BTreeMap<InstanceId, StackWork>, instance: &InstanceId) -> StepId {
    match works.get(instance) {
        Some(work) if !work.ready.is_empty() && !work.destroy => ready_step(instance),
        _ => apply_step(instance),
    }
}

/// The nearest chosen ancestors: an upstream without changes is passed through to what it waits for itself.
fn nearest(
    after: &[InstanceId],
    works: &BTreeMap<InstanceId, StackWork>,
    chosen: &BTreeSet<&InstanceId>,
) -> BTreeSet<InstanceId> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut queue: Vec<&InstanceId> = after.iter().collect();
    while let Some(instance) = queue.pop() {
        if !seen.insert(instance) {
            continue;
        }
        if chosen.contains(instance) {
            found.insert(instance.clone());
        } else if let Some(work) = works.get(instance) {
            queue.extend(&work.after);
        }
    }
    found
}

/// The work of each affected instance that exists at the head, in order of `affected`.
pub fn stack_works(repository: &Repository, affected: &[Affected]) -> Vec<StackWork> {
    let mut consumes: BTreeMap<&InstanceId, BTreeMap<String, ConsumedOutputs>> = BTreeMap::new();
    let mut sensitive: BTreeMap<&InstanceId, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for edge in repository.edges.iter().filter(|e| e.is_active()) {
        if let EdgeKind::RemoteState { name, outputs, .. } = &edge.kind {
            let declared = repository.stack(&edge.from.stack()).into_iter().flat_map(|stack| &stack.outputs);
            let names = declared.filter(|output| output.sensitive).map(|output| output.name.clone());
            sensitive.entry(&edge.to).or_default().entry(name.clone()).or_default().extend(names);
            let of = consumes.entry(&edge.to).or_default();
            match of.get_mut(name) {
                Some(known) => known.add(outputs),
                None => drop(of.insert(name.clone(), outputs.clone())),
            }
        }
    }
    let index = (!affected.is_empty()).then(|| GraphIndex::new(repository));
    let in_run: BTreeSet<&InstanceId> =
        affected.iter().filter(|a| a.kind != AffectedKind::Deleted).map(|a| &a.instance).collect();
    let mut edges: BTreeMap<&InstanceId, Vec<_>> = BTreeMap::new();
    for edge in repository.edges.iter().filter(|e| e.is_active() && in_run.contains(&e.from) && in_run.contains(&e.to))
    {
        edges.entry(&edge.to).or_default().push(edge);
    }
    let mut works = Vec::new();
    for item in affected {
        let Some((stack, instance)) = repository.instance(&item.instance) else { continue };
        let edges = edges.get(&item.instance).map(Vec::as_slice).unwrap_or_default();
        let after: BTreeSet<InstanceId> = edges.iter().map(|e| e.from.clone()).collect();
        let reads = edges
            .iter()
            .filter_map(|edge| match &edge.kind {
                EdgeKind::RemoteState { name, module, outputs, .. } => Some(Read {
                    from: edge.from.clone(),
                    name: name.clone(),
                    module: module.clone(),
                    outputs: outputs.clone(),
                }),
                EdgeKind::After => None,
            })
            .collect();
        works.push(StackWork {
            stack: stack.id.clone(),
            instance: instance.clone(),
            tool: stack.tool,
            required_version: stack.required_version.clone(),
            env: stack.env.clone(),
            directories: stack.inputs.directories.iter().map(|d| d.path.clone()).collect(),
            owner: stack.owner.clone(),
            kind: item.kind.clone(),
            reasons: item.reasons.clone(),
            consumes: consumes.get(&item.instance).cloned().unwrap_or_default(),
            reads,
            after: after.into_iter().collect(),
            destroy: false,
            source: None,
            sensitive: sensitive.get(&item.instance).cloned().unwrap_or_default(),
            ready: Vec::new(),
            rollout: None,
            drift_ignore: Vec::new(),
            dependants: index.as_ref().map_or(0, |index| reached(index, &item.instance)),
            files: stack.inputs.files.iter().map(|f| f.path.clone()).collect(),
            labels: Vec::new(),
            place: Place::Here,
        });
    }
    works
}

/// How many instances depend on one, directly or through others.
fn reached(index: &GraphIndex<'_>, instance: &InstanceId) -> usize {
    let mut seen = BTreeSet::from([instance]);
    let mut queue = vec![instance];
    while let Some(next) = queue.pop() {
        for edge in index.dependants(next).iter().filter(|e| e.is_active()) {
            if seen.insert(&edge.to) {
                queue.push(&edge.to);
            }
        }
    }
    seen.len() - 1
}

/// A look at each instance, in no order; providers first.
pub fn drift(works: &[StackWork], locked: &ProvidersInput, head: &Revision, costs: &Costs) -> RunPlan {
    let provided = providers(locked, |_| true);
    let first: Vec<StepId> = provided.iter().map(|step| step.id.clone()).collect();
    let step = |work: &StackWork| StepSpec {
        id: StepId::new(format!("drift:{}", work.instance.id)),
        title: format!("Look for drift of {}", work.instance.id),
        after: first.clone(),
        when: When::Succeeded,
        work: Work { driver: driver::DRIFT.into(), input: to_value(work) },
        repeat: Repeat::Idempotent,
        timeout: Some(4 * HOUR),
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: costs.get(&work.instance.id).copied().unwrap_or(UNMEASURED),
        labels: work.labels.clone(),
        flow: Flow::default(),
    };
    RunPlan {
        kind: "drift".into(),
        title: format!("drift of {} instances", works.len()),
        input: to_value(&DriftInput { head: head.clone() }),
        steps: provided.into_iter().chain(works.iter().map(step)).collect(),
        ..RunPlan::default()
    }
}

/// The work of destroying instances of `repository`: each after everything that depends on it, be it destroyed as well or, in
/// `kept`, changed in the same run so that it does so no longer. `source` is the commit that has their configuration.
pub fn destroy_works(
    repository: &Repository,
    chosen: &[Affected],
    kept: &BTreeSet<InstanceId>,
    source: Option<&str>,
) -> Vec<StackWork> {
    let asked: Vec<Affected> =
        chosen.iter().map(|item| Affected { kind: AffectedKind::Changed, ..item.clone() }).collect();
    let ids: BTreeSet<&InstanceId> = chosen.iter().map(|item| &item.instance).collect();
    let mut works = stack_works(repository, &asked);
    for work in &mut works {
        let dependants = repository.edges.iter().filter(|e| e.is_active() && e.from == work.instance.id);
        let dependants: BTreeSet<InstanceId> =
            dependants.map(|e| e.to.clone()).filter(|to| ids.contains(to) || kept.contains(to)).collect();
        work.after = dependants.into_iter().collect();
        work.reads = Vec::new();
        work.destroy = true;
        work.source = source.map(str::to_owned);
        if let Some(item) = chosen.iter().find(|item| item.instance == work.instance.id) {
            work.kind = item.kind.clone();
        }
    }
    works
}

impl Read {
    /// Whether the output `name` is among those read.
    pub fn consumes(&self, name: &str) -> bool {
        self.outputs.has(name)
    }
}

impl StackWork {
    /// Whether this output of the remote state that it knows by this name is declared sensitive.
    pub fn is_sensitive(&self, data: &str, output: &str) -> bool {
        self.sensitive.get(data).is_some_and(|outputs| outputs.contains(output))
    }

    /// Whether it uses this output of the remote state that it knows by this name.
    pub fn consumes(&self, data: &str, output: &str) -> bool {
        self.consumes.get(data).is_none_or(|outputs| outputs.has(output))
    }
}

pub fn plan_step(instance: &InstanceId) -> StepId {
    StepId::new(format!("plan:{instance}"))
}
pub fn gate_step(instance: &InstanceId) -> StepId {
    StepId::new(format!("gate:{instance}"))
}
pub fn apply_step(instance: &InstanceId) -> StepId {
    StepId::new(format!("apply:{instance}"))
}

pub fn ready_step(instance: &InstanceId) -> StepId {
    StepId::new(format!("ready:{instance}"))
}

fn to_value<T: Serialize>(value: &T) -> serde_json::Value {
    // Plain data with text keys: serialising it cannot fail.
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
