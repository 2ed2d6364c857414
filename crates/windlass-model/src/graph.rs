//! Order and reach in the graph of stacks, and its pictures.

use crate::diagnostic::Diagnostic;
use crate::id::InstanceId;
use crate::stack::{Edge, GateState, Repository};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Adjacency of the active edges, made once.
#[derive(Debug)]
pub struct GraphIndex<'a> {
    nodes: Vec<&'a InstanceId>,
    position: HashMap<&'a InstanceId, usize>,
    /// Indices into the repository's edges.
    out: Vec<Vec<&'a Edge>>,
    into: Vec<Vec<&'a Edge>>,
}

impl<'a> GraphIndex<'a> {
    pub fn new(repository: &'a Repository) -> Self {
        let nodes: Vec<&InstanceId> = repository.instances().map(|(_, i)| &i.id).collect();
        let position: HashMap<&InstanceId, usize> = nodes.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mut out = vec![Vec::new(); nodes.len()];
        let mut into = vec![Vec::new(); nodes.len()];
        for edge in repository.edges.iter().filter(|e| e.is_active()) {
            if let (Some(from), Some(to)) = (position.get(&edge.from), position.get(&edge.to)) {
                out[*from].push(edge);
                into[*to].push(edge);
            }
        }
        Self { nodes, position, out, into }
    }

    /// Active edges that leave an instance, to those that read it.
    pub fn dependants(&self, id: &InstanceId) -> &[&'a Edge] {
        self.position.get(id).map_or(&[], |i| &self.out[*i])
    }

    /// Active edges into an instance, from those it reads.
    pub fn upstreams(&self, id: &InstanceId) -> &[&'a Edge] {
        self.position.get(id).map_or(&[], |i| &self.into[*i])
    }

    /// Every instance after all it reads from, stable by position.
    ///
    /// # Errors
    /// The shortest cycle found.
    pub fn order(&self) -> Result<Vec<InstanceId>, Cycle> {
        let mut waiting: Vec<usize> =
            self.into.iter().map(|edges| edges.iter().map(|e| &e.from).collect::<BTreeSet<_>>().len()).collect();
        let mut ready: BTreeSet<usize> = (0..self.nodes.len()).filter(|i| waiting[*i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(next) = ready.pop_first() {
            order.push(self.nodes[next].clone());
            for to in self.out[next].iter().map(|e| &e.to).collect::<BTreeSet<_>>() {
                let to = self.position[to];
                waiting[to] -= 1;
                if waiting[to] == 0 {
                    ready.insert(to);
                }
            }
        }
        if order.len() == self.nodes.len() { Ok(order) } else { Err(self.cycle(&waiting)) }
    }

    /// A shortest cycle among the nodes that still wait.
    fn cycle(&self, waiting: &[usize]) -> Cycle {
        let mut best: Option<Vec<Edge>> = None;
        let stuck: Vec<usize> = (0..self.nodes.len()).filter(|i| waiting[*i] > 0).collect();
        // Enough starts to name a small cycle without quadratic work on a large tangle.
        for start in stuck.iter().copied().take(64) {
            let mut came: HashMap<usize, &Edge> = HashMap::new();
            let mut queue = VecDeque::from([start]);
            'search: while let Some(node) = queue.pop_front() {
                for edge in &self.out[node] {
                    let to = self.position[&edge.to];
                    if to == start {
                        let mut path = vec![(*edge).clone()];
                        let mut at = node;
                        while at != start {
                            let edge = came[&at];
                            path.push(edge.clone());
                            at = self.position[&edge.from];
                        }
                        path.reverse();
                        if best.as_ref().is_none_or(|b| path.len() < b.len()) {
                            best = Some(path);
                        }
                        break 'search;
                    }
                    if let std::collections::hash_map::Entry::Vacant(entry) = came.entry(to) {
                        entry.insert(edge);
                        queue.push_back(to);
                    }
                }
            }
        }
        Cycle { edges: best.unwrap_or_default() }
    }
}

/// Instances that wait for each other: the edges in order, the last one leading back to the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Cycle {
    pub edges: Vec<Edge>,
}

impl Cycle {
    pub fn diagnostic(&self) -> Diagnostic {
        let mut names: Vec<&str> = self.edges.iter().map(|e| e.from.as_str()).collect();
        names.extend(self.edges.first().map(|e| e.from.as_str()));
        let mut diagnostic =
            Diagnostic::error("WL217", format!("stacks depend on each other in a circle: {}", names.join(" → ")))
                .help("move what both need into a stack of its own, or pass one of the values in another way");
        for edge in &self.edges {
            diagnostic.labels.push(crate::diagnostic::Label {
                span: edge.evidence.clone(),
                excerpt: String::new(),
                message: format!("{} reads {}", edge.to, edge.from),
            });
        }
        diagnostic
    }
}

/// Every instance after all it reads from.
///
/// # Errors
/// A cycle.
pub fn order(repository: &Repository) -> Result<Vec<InstanceId>, Cycle> {
    GraphIndex::new(repository).order()
}

/// Graphviz; closed gates dotted, open and unknown ones dashed with their condition.
pub fn to_dot(repository: &Repository) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = String::from("digraph stacks {\n  rankdir=LR;\n  node [shape=box];\n");
    for (_, instance) in repository.instances() {
        out.push_str(&format!("  {};\n", quote(instance.id.as_str())));
    }
    for edge in &repository.edges {
        let style = match &edge.gate {
            None => String::new(),
            Some(gate) => {
                let style = if gate.state == GateState::Closed { "dotted" } else { "dashed" };
                format!(" [style={style}, label={}]", quote(&one_line(&gate.condition)))
            }
        };
        out.push_str(&format!("  {} -> {}{style};\n", quote(edge.from.as_str()), quote(edge.to.as_str())));
    }
    out.push_str("}\n");
    out
}

/// Mermaid flowchart with the same meaning as [`to_dot`].
pub fn to_mermaid(repository: &Repository) -> String {
    let names: BTreeMap<&InstanceId, usize> =
        repository.instances().enumerate().map(|(n, (_, i))| (&i.id, n)).collect();
    let quote =
        |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
    let mut out = String::from("flowchart LR\n");
    for (id, number) in &names {
        out.push_str(&format!("  n{number}[\"{}\"]\n", quote(id.as_str())));
    }
    for edge in &repository.edges {
        let (Some(from), Some(to)) = (names.get(&edge.from), names.get(&edge.to)) else { continue };
        let arrow = match &edge.gate {
            None => "-->".to_owned(),
            Some(gate) => format!(
                "-. \"{}{}\" .->",
                quote(&one_line(&gate.condition)),
                if gate.state == GateState::Closed { " (closed)" } else { "" }
            ),
        };
        out.push_str(&format!("  n{from} {arrow} n{to}\n"));
    }
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A tree for the terminal: who reads whom, upstreams at the top. A node that stands elsewhere with its dependants is marked `↑`.
pub fn to_tree(repository: &Repository) -> String {
    let mut below: BTreeMap<&InstanceId, BTreeMap<&InstanceId, Option<String>>> = BTreeMap::new();
    let mut has_upstream = BTreeSet::new();
    for edge in &repository.edges {
        let note = match &edge.gate {
            Some(gate) => match &gate.state {
                GateState::Closed => Some(format!("gate closed: {}", one_line(&gate.condition))),
                GateState::Open => Some(format!("gate open: {}", one_line(&gate.condition))),
                GateState::Unknown(_) => Some(format!("gate: {}", one_line(&gate.condition))),
            },
            None => None,
        };
        has_upstream.insert(&edge.to);
        below.entry(&edge.from).or_default().entry(&edge.to).or_insert(note);
    }
    let mut out = String::new();
    let mut shown = BTreeSet::new();
    let roots: Vec<&InstanceId> =
        repository.instances().map(|(_, i)| &i.id).filter(|id| !has_upstream.contains(id)).collect();
    let rest: Vec<&InstanceId> =
        repository.instances().map(|(_, i)| &i.id).filter(|id| has_upstream.contains(id)).collect();
    for root in roots {
        out.push_str(&format!("{root}\n"));
        branch(root, &below, &mut shown, "", &mut out);
    }
    // Only a cycle leaves a node unshown.
    for node in rest {
        if !shown.contains(node) {
            out.push_str(&format!("{node}  (in a circle)\n"));
            branch(node, &below, &mut shown, "", &mut out);
        }
    }
    out
}

fn branch<'a>(
    node: &'a InstanceId,
    below: &BTreeMap<&'a InstanceId, BTreeMap<&'a InstanceId, Option<String>>>,
    shown: &mut BTreeSet<&'a InstanceId>,
    prefix: &str,
    out: &mut String,
) {
    shown.insert(node);
    let Some(children) = below.get(node) else { return };
    for (position, (child, note)) in children.iter().enumerate() {
        let last = position + 1 == children.len();
        let note = note.as_ref().map(|n| format!("  [{n}]")).unwrap_or_default();
        let again = shown.contains(*child) && below.contains_key(*child);
        out.push_str(&format!(
            "{prefix}{} {child}{note}{}\n",
            if last { "└─" } else { "├─" },
            if again { " ↑" } else { "" }
        ));
        if again {
            continue;
        }
        shown.insert(child);
        branch(child, below, shown, &format!("{prefix}{}  ", if last { " " } else { "│" }), out);
    }
}
