//! Planners of the two runs every change goes through: the review of affected instances and the apply of a review.
//! Pure: repository and review in, [`RunPlan`] out.

use crate::Micros;
use crate::binding::Binding;
use crate::effect::Effect;
use crate::graph::GraphIndex;
use crate::id::{InstanceId, RunId, StackId, StepId};
use crate::review::{Affected, AffectedKind, Outcome, Reason, Review, Revision};
use crate::run::{Cost, Repeat, Retry, RunPlan, StepSpec, When, Work};
use crate::stack::{ConsumedOutputs, EdgeKind, Instance, Repository, Tool};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names of the executors the steps are done by.
pub mod driver {
    pub const FORMAT: &str = "review.format";
    pub const PLAN: &str = "review.plan";
    pub const ASSEMBLE: &str = "review.assemble";
    pub const PREPARE: &str = "apply.plan";
    pub const GATE: &str = "apply.gate";
    pub const APPLY: &str = "apply.apply";
    pub const FINISH: &str = "apply.finish";
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
    /// Instances that read from it, directly or through others, in this run or not.
    #[serde(default)]
    pub dependants: usize,
    /// Single files it reads, beside those in its directories.
    #[serde(default)]
    pub files: Vec<Arc<str>>,
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

/// Steps of a review: format once, a plan per instance in the order of the works, then the document.
pub fn review(works: &[StackWork], files: &[String], input: &ReviewInput, costs: &Costs) -> RunPlan {
    let mut steps = Vec::with_capacity(works.len() + 2);
    let mut ends = Vec::new();
    if !files.is_empty() {
        let id = StepId::new("format");
        ends.push(id.clone());
        steps.push(StepSpec {
            id,
            title: "Check the format of changed files".into(),
            after: Vec::new(),
            when: When::Succeeded,
            work: Work { driver: driver::FORMAT.into(), input: serde_json::json!({ "files": files }) },
            repeat: Repeat::Idempotent,
            timeout: Some(HOUR),
            retry: Retry::NEVER,
            locks: Vec::new(),
            cost: UNMEASURED,
        });
    }
    for work in works {
        let id = plan_step(&work.instance.id);
        ends.push(id.clone());
        steps.push(StepSpec {
            id,
            title: format!("Plan {}", work.instance.id),
            after: work.after.iter().map(plan_step).collect(),
            when: When::Always,
            work: Work { driver: driver::PLAN.into(), input: to_value(work) },
            repeat: Repeat::Idempotent,
            timeout: Some(4 * HOUR),
            retry: Retry::NEVER,
            locks: Vec::new(),
            cost: costs.get(&work.instance.id).copied().unwrap_or(UNMEASURED),
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
    });
    let against = input.base.as_ref().map_or("all".to_owned(), |b| format!("against {}", b.name));
    RunPlan { kind: "review".into(), title: format!("{} {against}", input.head.name), input: to_value(input), steps }
}

/// Steps of an apply: for each instance that changes or was only previewed, plan → gate → apply, after the applies of its
/// upstreams; then one that records the end. `None` when nothing is to be done.
pub fn apply(
    review: &Review,
    works: &BTreeMap<InstanceId, StackWork>,
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
            after: upstreams.iter().map(apply_step).collect(),
            when: When::Succeeded,
            work: Work { driver: driver::PREPARE.into(), input: input.clone() },
            repeat: Repeat::Idempotent,
            timeout: Some(4 * HOUR),
            retry: Retry::NEVER,
            locks: lock.clone(),
            cost,
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
        });
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
    });
    let input = to_value(&ApplyInput { review: review.run.clone(), head: review.head.clone(), deciding });
    Some(RunPlan {
        kind: "apply".into(),
        title: format!("{} of review {}", review.head.name, review.run),
        input,
        steps,
    })
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
    for edge in repository.edges.iter().filter(|e| e.is_active()) {
        if let EdgeKind::RemoteState { name, outputs, .. } = &edge.kind {
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
            dependants: index.as_ref().map_or(0, |index| reached(index, &item.instance)),
            files: stack.inputs.files.iter().map(|f| f.path.clone()).collect(),
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

fn to_value<T: Serialize>(value: &T) -> serde_json::Value {
    // Plain data with text keys: serialising it cannot fail.
    serde_json::to_value(value).unwrap_or_default()
}
