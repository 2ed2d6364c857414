//! Which instances a set of changed paths affects. No false negative is acceptable; every answer says why.

use crate::graph::GraphIndex;
use crate::id::InstanceId;
use crate::review::{Affected, AffectedKind, Reason};
use crate::stack::{Evidence, Instance, Repository, Stack};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathChange {
    pub path: String,
    /// Where it was, for a rename.
    pub old_path: Option<String>,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    Renamed,
    TypeChanged,
}

impl ChangeKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::TypeChanged => "type changed",
        }
    }
}

/// Whether a file name (without directory) counts as a stack's input by lying in one of its directories.
pub fn is_configuration(name: &str) -> bool {
    let suffixes = [".tf", ".tf.json", ".tofu", ".tofu.json", ".tfvars", ".tfvars.json"];
    suffixes.iter().any(|suffix| name.ends_with(suffix)) || name == ".terraform.lock.hcl"
}

/// Files that choose the version of terraform for everything below their directory.
const TOOL_VERSIONS: [&str; 4] = [".terraform-version", ".opentofu-version", ".tool-versions", ".terraformrc"];

/// Whether the stacks of the base have to be known: when a change can take a stack, an instance or an edge away. Then files that
/// say what is a stack were deleted, moved or edited.
pub fn base_needed(changes: &[PathChange]) -> bool {
    let says = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        is_configuration(name) || is_windlass_file(path)
    };
    changes.iter().any(|change| match change.kind {
        ChangeKind::Added => is_windlass_file(&change.path),
        ChangeKind::Modified if !is_windlass_file(&change.path) => false,
        _ => says(&change.path) || change.old_path.as_deref().is_some_and(says),
    })
}

fn is_windlass_file(path: &str) -> bool {
    path == "windlass.hcl" || path.ends_with(".windlass.hcl")
}

/// The instances that `changes` affect, sorted. `base` is the repository before, where [`base_needed`] asks for it.
pub fn affected(head: &Repository, base: Option<&Repository>, changes: &[PathChange]) -> Vec<Affected> {
    let mut found: BTreeMap<InstanceId, Affected> = BTreeMap::new();
    let changed = changed_stacks(head, changes);
    for (index, reasons) in changed {
        let stack = &head.stacks[index];
        for instance in &stack.instances {
            let mut reasons: Vec<Reason> =
                reasons.iter().filter(|reason| concerns(stack, instance, &reason.cause)).cloned().collect();
            reasons.sort();
            // The stack's own file needs no chain beside it.
            reasons.dedup_by(|later, earlier| later.cause == earlier.cause && earlier.chain.is_empty());
            reasons.dedup();
            if !reasons.is_empty() {
                let item = Affected {
                    instance: instance.id.clone(),
                    stack: stack.id.clone(),
                    kind: AffectedKind::Changed,
                    reasons,
                };
                found.insert(instance.id.clone(), item);
            }
        }
    }
    if let Some(base) = base {
        compare(head, base, &mut found);
    }
    dependants(head, base, &mut found);
    found.into_values().collect()
}

/// A variable file of one instance does not concern the others.
fn concerns(stack: &Stack, instance: &Instance, cause: &str) -> bool {
    let relative = match (stack.id.as_str(), cause) {
        (".", path) => Some(path),
        (id, path) => path.strip_prefix(id).and_then(|rest| rest.strip_prefix('/')),
    };
    let Some(relative) = relative else { return true };
    let of = |i: &Instance| i.var_files.iter().any(|file| file == relative);
    of(instance) || !stack.instances.iter().any(of)
}

/// Stacks (by index) with an input among the changed paths, and why.
fn changed_stacks(head: &Repository, changes: &[PathChange]) -> BTreeMap<usize, Vec<Reason>> {
    // One index over all inputs, so that the work is linear in inputs plus changes.
    let mut directories: HashMap<&str, Vec<(usize, &[Evidence])>> = HashMap::new();
    let mut files: HashMap<&str, Vec<(usize, &[Evidence])>> = HashMap::new();
    let mut trees: HashMap<&str, Vec<(usize, &[Evidence])>> = HashMap::new();
    for (index, stack) in head.stacks.iter().enumerate() {
        for (map, list) in [
            (&mut directories, &stack.inputs.directories),
            (&mut files, &stack.inputs.files),
            (&mut trees, &stack.inputs.trees),
        ] {
            for input in list {
                map.entry(&input.path).or_default().push((index, &input.chain));
            }
        }
    }
    let mut reasons: BTreeMap<usize, Vec<Reason>> = BTreeMap::new();
    for change in changes {
        for path in std::iter::once(&change.path).chain(&change.old_path) {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            let mut hit = |list: Option<&Vec<(usize, &[Evidence])>>| {
                for (index, chain) in list.into_iter().flatten() {
                    let chain = chain.iter().map(|e| format!("{} ({})", e.what, e.span)).collect();
                    let kind = if *path == change.path { change.kind } else { ChangeKind::Deleted };
                    reasons.entry(*index).or_default().push(Reason {
                        cause: path.clone(),
                        change: kind.as_str().into(),
                        chain,
                    });
                }
            };
            if is_configuration(name) {
                hit(directories.get(directory));
            }
            if TOOL_VERSIONS.contains(&name) {
                for (index, stack) in head.stacks.iter().enumerate() {
                    let below = directory.is_empty()
                        || stack.id.as_str() == directory
                        || stack.id.as_str().strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
                    if below {
                        hit(Some(&vec![(index, &[])]));
                    }
                }
            }
            hit(files.get(path.as_str()));
            // A path that became a file or a link where a directory was read, and every tree above it.
            hit(directories.get(path.as_str()));
            let mut above = Some(path.as_str());
            while let Some(current) = above {
                hit(trees.get(current));
                if current.is_empty() {
                    break;
                }
                above = Some(current.rsplit_once('/').map_or("", |(parent, _)| parent));
            }
        }
    }
    reasons
}

/// What the two repositories themselves say: new, deleted, renamed, and instances defined differently.
fn compare(head: &Repository, base: &Repository, found: &mut BTreeMap<InstanceId, Affected>) {
    let before: HashMap<&InstanceId, (&Stack, &Instance)> = base.instances().map(|(s, i)| (&i.id, (s, i))).collect();
    let now: HashMap<&InstanceId, (&Stack, &Instance)> = head.instances().map(|(s, i)| (&i.id, (s, i))).collect();
    let gone_by_state: HashMap<&str, &InstanceId> = base
        .instances()
        .filter(|(_, i)| !now.contains_key(&i.id))
        .filter_map(|(_, i)| Some((i.state.as_deref()?, &i.id)))
        .collect();
    let mut moved = BTreeSet::new();
    for (stack, instance) in head.instances() {
        let add = |found: &mut BTreeMap<InstanceId, Affected>, kind: AffectedKind, reason: Reason| {
            let item = found.entry(instance.id.clone()).or_insert_with(|| Affected {
                instance: instance.id.clone(),
                stack: stack.id.clone(),
                kind: AffectedKind::Changed,
                reasons: Vec::new(),
            });
            if kind != AffectedKind::Changed {
                item.kind = kind;
            }
            item.reasons.push(reason);
        };
        match before.get(&instance.id) {
            None => {
                let from = instance.state.as_deref().and_then(|state| gone_by_state.get(state));
                match from {
                    Some(from) => {
                        moved.insert((*from).clone());
                        let reason = Reason {
                            cause: from.to_string(),
                            change: "renamed".into(),
                            chain: vec!["it keeps its state".into()],
                        };
                        add(found, AffectedKind::Renamed { from: from.stack() }, reason);
                    }
                    None => add(
                        found,
                        AffectedKind::New,
                        Reason { cause: instance.id.to_string(), change: "added".into(), chain: Vec::new() },
                    ),
                }
            }
            Some((_, old)) => {
                let same = old.workspace == instance.workspace
                    && old.var_files == instance.var_files
                    && old.variables == instance.variables
                    && old.backend_config == instance.backend_config
                    && old.state == instance.state;
                if !same {
                    let reason = Reason {
                        cause: "its definition".into(),
                        change: "modified".into(),
                        chain: vec!["instance variables, workspace or state".into()],
                    };
                    add(found, AffectedKind::Changed, reason);
                }
            }
        }
    }
    for (stack, instance) in base.instances() {
        if now.contains_key(&instance.id) || moved.contains(&instance.id) {
            continue;
        }
        let reason = Reason { cause: instance.id.to_string(), change: "deleted".into(), chain: Vec::new() };
        let item = Affected {
            instance: instance.id.clone(),
            stack: stack.id.clone(),
            kind: AffectedKind::Deleted,
            reasons: vec![reason],
        };
        found.insert(instance.id.clone(), item);
    }
}

/// Everything that reads, directly or not, from what is affected; edges of the base count for what is gone.
fn dependants(head: &Repository, base: Option<&Repository>, found: &mut BTreeMap<InstanceId, Affected>) {
    let index = GraphIndex::new(head);
    let mut queue: VecDeque<InstanceId> = found.keys().cloned().collect();
    let present: HashMap<&InstanceId, &Stack> = head.instances().map(|(s, i)| (&i.id, s)).collect();
    let mut gone: HashMap<&InstanceId, Vec<(&InstanceId, String)>> = HashMap::new();
    for edge in base.iter().flat_map(|base| &base.edges).filter(|e| e.is_active()) {
        if found.get(&edge.from).is_some_and(|a| a.kind == AffectedKind::Deleted) {
            gone.entry(&edge.from).or_default().push((&edge.to, format!("read it ({})", edge.evidence)));
        }
    }
    while let Some(from) = queue.pop_front() {
        let edges = index.dependants(&from).iter().map(|e| (&e.to, format!("reads it ({})", e.evidence)));
        let edges: Vec<_> =
            edges.chain(gone.get(&from).into_iter().flatten().map(|(to, how)| (*to, how.clone()))).collect();
        for (to, how) in edges {
            let Some(stack) = present.get(to) else { continue };
            let reason = Reason { cause: from.to_string(), change: "upstream".into(), chain: vec![how] };
            match found.get_mut(to) {
                Some(item) => {
                    if item.kind == AffectedKind::Dependant && !item.reasons.contains(&reason) {
                        item.reasons.push(reason);
                    }
                }
                None => {
                    let item = Affected {
                        instance: to.clone(),
                        stack: stack.id.clone(),
                        kind: AffectedKind::Dependant,
                        reasons: vec![reason],
                    };
                    found.insert(to.clone(), item);
                    queue.push_back(to.clone());
                }
            }
        }
    }
}
