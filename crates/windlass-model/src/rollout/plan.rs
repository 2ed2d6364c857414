//! Which instance belongs to which wave.

use super::{Gate, Rollout, Selector, WaveOrder};
use crate::Micros;
use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// An instance as waves see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub instance: InstanceId,
    pub region: Option<String>,
    pub environments: Vec<String>,
}

/// Instances that go together. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    pub name: String,
    /// Upstream first.
    pub instances: Vec<InstanceId>,
    /// Microseconds.
    pub soak: Micros,
    pub gates: Vec<Gate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WavePlan {
    /// Empty when `diagnostics` holds an error.
    pub waves: Vec<Wave>,
    /// WL217 (error): a cycle. WL230 (warning): an edge contradicts the declared order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Cuts instances into waves; each is in exactly one, and none is in an earlier wave than what it reads from.
///
/// `edges` are (upstream, dependant); those that touch anything outside `targets` are ignored.
///
/// - An instance belongs to the first wave that selects it.
/// - One that no wave selects (in a derived order: one without region, environment and key) goes to the first wave in which
///   something reads from it, else to a last wave `rest`.
/// - Where a declared order puts an instance before one that it reads from, it is moved back to that one's wave, with a warning:
///   an early wave never grows by more than was declared for it.
/// - The canary of a derived order takes along what it reads from, because it cannot be applied before that.
/// - A wave that no instance is left in does not exist: it neither soaks nor asks gates.
pub fn plan_waves(rollout: &Rollout, targets: &[Target], edges: &[(InstanceId, InstanceId)]) -> WavePlan {
    let graph = Graph::new(targets, edges);
    let order = match graph.order() {
        Ok(order) => order,
        Err(cycle) => {
            let names: Vec<&str> = cycle.iter().map(|index| graph.targets[*index].instance.as_str()).collect();
            let diagnostic =
                Diagnostic::error("WL217", format!("stacks depend on each other in a circle: {}", names.join(" → ")))
                    .help("move what both need into a stack of its own, or pass one of the values in another way");
            return WavePlan { waves: Vec::new(), diagnostics: vec![diagnostic] };
        }
    };
    let (mut waves, wanted) = match &rollout.waves {
        WaveOrder::Declared(specs) => {
            let wanted: Vec<Option<usize>> = graph
                .targets
                .iter()
                .map(|target| specs.iter().position(|spec| spec.select.iter().any(|s| selects(s, target))))
                .collect();
            let waves = specs
                .iter()
                .map(|spec| Wave {
                    name: spec.name.clone(),
                    instances: Vec::new(),
                    soak: spec.soak.unwrap_or(rollout.soak),
                    gates: spec.gates.clone().unwrap_or_else(|| rollout.gates.clone()),
                })
                .collect();
            (waves, wanted)
        }
        WaveOrder::Derived { canary, batch } => derive(rollout, &graph, &order, canary.as_ref(), *batch),
    };
    waves.push(Wave { name: "rest".into(), instances: Vec::new(), soak: rollout.soak, gates: rollout.gates.clone() });
    let rest = waves.len() - 1;
    let mut place = vec![rest; graph.targets.len()];
    for index in order.iter().rev() {
        let needed = graph.out[*index].iter().map(|to| place[*to]).min();
        place[*index] = wanted[*index].or(needed).unwrap_or(rest);
    }
    let mut diagnostics = Vec::new();
    for index in &order {
        let Some(last) = graph.into[*index].iter().copied().max_by_key(|from| place[*from]) else { continue };
        if place[last] <= place[*index] {
            continue;
        }
        if matches!(rollout.waves, WaveOrder::Declared(_)) {
            let (to, from) = (&graph.targets[*index].instance, &graph.targets[last].instance);
            let (early, late) = (&waves[place[*index]].name, &waves[place[last]].name);
            diagnostics.push(
                Diagnostic::warning("WL230", format!("{to} is in wave {early}, but reads from {from} in wave {late}"))
                    .detail(format!("It is applied in wave {late}, after {from}."))
                    .help(format!("select {from} in wave {early} or before, or {to} in wave {late}")),
            );
        }
        place[*index] = place[last];
    }
    for index in &order {
        waves[place[*index]].instances.push(graph.targets[*index].instance.clone());
    }
    waves.retain(|wave| !wave.instances.is_empty());
    WavePlan { waves, diagnostics }
}

fn selects(selector: &Selector, target: &Target) -> bool {
    match selector {
        Selector::Instance(id) => target.instance == *id,
        Selector::Region(region) => target.region.as_ref() == Some(region),
        Selector::Environment(environment) => target.environments.contains(environment),
        Selector::Rest => true,
    }
}

/// Canary and batches. What goes together are the instances of one environment and region; without a region, of one key.
fn derive(
    rollout: &Rollout,
    graph: &Graph,
    order: &[usize],
    canary: Option<&Selector>,
    batch: usize,
) -> (Vec<Wave>, Vec<Option<usize>>) {
    let wave = |name: String| Wave { name, instances: Vec::new(), soak: rollout.soak, gates: rollout.gates.clone() };
    let regional = graph.targets.iter().any(|target| target.region.is_some());
    let group = |target: &Target| -> Option<String> {
        let place = target.region.as_deref().or(target.instance.key());
        let parts: Vec<&str> = target.environments.first().map(String::as_str).into_iter().chain(place).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    };
    let groups: Vec<Option<String>> = graph.targets.iter().map(|target| group(target)).collect();
    let first = graph
        .targets
        .iter()
        .zip(&groups)
        .find(|(target, group)| group.is_some() && (target.region.is_some() || !regional))
        .and_then(|(_, group)| group.clone());
    let is_canary = |index: usize| match canary {
        Some(selector) => selects(selector, graph.targets[index]),
        None => first.is_some() && groups[index] == first,
    };
    let mut wanted: Vec<Option<usize>> = (0..graph.targets.len()).map(|index| is_canary(index).then_some(0)).collect();
    for index in order.iter().rev() {
        if graph.out[*index].iter().any(|to| wanted[*to] == Some(0)) {
            wanted[*index] = Some(0);
        }
    }
    let mut left: Vec<String> = Vec::new();
    for (group, wanted) in groups.iter().zip(&wanted) {
        if let (Some(group), None) = (group, wanted)
            && !left.contains(group)
        {
            left.push(group.clone());
        }
    }
    // A group whose upstream groups have been placed comes first; between groups that need each other the given order decides.
    let needs = |group: &String, left: &[String]| {
        (0..groups.len()).filter(|index| wanted[*index].is_none() && groups[*index].as_ref() == Some(group)).any(
            |index| {
                graph.into[index].iter().any(|from| {
                    wanted[*from].is_none()
                        && groups[*from].as_ref().is_some_and(|other| other != group && left.contains(other))
                })
            },
        )
    };
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let next = left.iter().position(|group| !needs(group, &left)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    let mut waves = vec![wave("canary".into())];
    for groups_together in ordered.chunks(if batch == 0 { ordered.len().max(1) } else { batch }) {
        for (index, group) in groups.iter().enumerate() {
            if wanted[index].is_none() && group.as_ref().is_some_and(|group| groups_together.contains(group)) {
                wanted[index] = Some(waves.len());
            }
        }
        waves.push(wave(match groups_together {
            [one] => one.clone(),
            many => format!("{} to {}", many[0], many[many.len() - 1]),
        }));
    }
    (waves, wanted)
}

struct Graph<'a> {
    targets: Vec<&'a Target>,
    /// Dependants and upstreams by index.
    out: Vec<Vec<usize>>,
    into: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn new(targets: &'a [Target], edges: &[(InstanceId, InstanceId)]) -> Self {
        let mut position: BTreeMap<&InstanceId, usize> = BTreeMap::new();
        let mut distinct = Vec::new();
        for target in targets {
            position.entry(&target.instance).or_insert_with(|| {
                distinct.push(target);
                distinct.len() - 1
            });
        }
        let mut out = vec![Vec::new(); distinct.len()];
        let mut into = vec![Vec::new(); distinct.len()];
        let distinct_edges: BTreeSet<&(InstanceId, InstanceId)> = edges.iter().collect();
        for (from, to) in distinct_edges {
            if let (Some(from), Some(to)) = (position.get(from), position.get(to)) {
                out[*from].push(*to);
                into[*to].push(*from);
            }
        }
        Self { targets: distinct, out, into }
    }

    /// Upstream first, else as given.
    ///
    /// # Errors
    /// A cycle: its members, the first one again at the end.
    fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut waiting: Vec<usize> = self.into.iter().map(Vec::len).collect();
        let mut ready: BTreeSet<usize> = (0..waiting.len()).filter(|index| waiting[*index] == 0).collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(index) = ready.pop_first() {
            order.push(index);
            for to in &self.out[index] {
                waiting[*to] -= 1;
                if waiting[*to] == 0 {
                    ready.insert(*to);
                }
            }
        }
        let Some(start) = (0..waiting.len()).find(|index| waiting[*index] > 0) else { return Ok(order) };
        // Each that waits has an upstream that waits: walking up comes round.
        let mut path = vec![start];
        loop {
            let at = path[path.len() - 1];
            let Some(up) = self.into[at].iter().copied().find(|from| waiting[*from] > 0) else { return Err(path) };
            if let Some(begin) = path.iter().position(|seen| *seen == up) {
                let mut cycle = path.split_off(begin);
                cycle.push(up);
                cycle.reverse();
                return Err(cycle);
            }
            path.push(up);
        }
    }
}
