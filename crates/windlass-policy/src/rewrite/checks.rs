//! What OPA refuses when it compiles: unknown functions, unsafe variables, recursion, rules that contradict each other.

use super::safety::Safety;
use super::{Shape, known, rule_path};
use crate::builtins;
use crate::syntax::tree::*;
use crate::syntax::{Source, visit};
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::diagnostic::Diagnostic;

pub struct Checks<'a> {
    pub sources: &'a [Source],
    /// The modules with full paths, in the order of the sources.
    pub modules: &'a [Module],
    pub builtins: &'a BTreeMap<&'static str, u8>,
    pub functions: &'a BTreeMap<Vec<String>, usize>,
}

impl Checks<'_> {
    pub fn run(&self, wrong: &mut Vec<Diagnostic>) {
        for (source, module) in self.sources.iter().zip(self.modules) {
            for rule in &module.rules {
                visit::rule(rule, &mut |term| self.call(source, term, wrong));
                if !rule.chained {
                    self.unsafe_variables(source, &self.safety(&|f| self.arity(f)).rule(rule), wrong);
                }
            }
        }
        self.conflicts(wrong);
        self.recursion(wrong);
    }

    /// The same for a query.
    pub fn query(&self, source: &Source, body: &[Stmt], wrong: &mut Vec<Diagnostic>) {
        visit::body(body, &mut |term| self.call(source, term, wrong));
        let arity = |function: &Term| self.arity(function);
        let missing = self.safety(&arity).body(body, &[], &mut BTreeSet::new());
        self.unsafe_variables(source, &missing, wrong);
    }

    /// Arranges the statements of rules and of a query; see [`Safety::arrange`].
    pub fn arrange(&self, rules: &mut [Rule], query: &mut Vec<Stmt>) {
        let arity = |function: &Term| self.arity(function);
        let safety = self.safety(&arity);
        rules.iter_mut().for_each(|rule| safety.arrange(rule));
        safety.arrange_body(query, &mut BTreeSet::new());
    }

    fn safety<'s>(&self, arity: &'s dyn Fn(&Term) -> Option<usize>) -> Safety<'s> {
        Safety { arity }
    }

    fn unsafe_variables(&self, source: &Source, missing: &BTreeMap<String, Loc>, wrong: &mut Vec<Diagnostic>) {
        for (name, loc) in missing {
            wrong.push(source.error("WL413", format!("var {name} is unsafe"), *loc).help(
                "nothing gives it a value: assign it, iterate with `some … in …`, or correct the name of the rule or import",
            ));
        }
    }

    fn arity(&self, function: &Term) -> Option<usize> {
        let path = function.static_path()?;
        if path[0] == "data" {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            return self.functions.get(&path).copied();
        }
        self.builtins.get(path.join(".").as_str()).map(|arity| usize::from(*arity))
    }

    /// A test puts something else in its place: it is named other than in a call.
    fn is_mocked(&self, name: &str) -> bool {
        let named = |term: &Term| term.static_path().is_some_and(|path| path.join(".") == name);
        let mut others = 0i64;
        for rule in self.modules.iter().flat_map(|module| &module.rules) {
            visit::rule(rule, &mut |term| match &term.kind {
                TermKind::Call(function, _) => others -= i64::from(named(function)),
                _ => others += i64::from(named(term)),
            });
        }
        others > 0
    }

    fn call(&self, source: &Source, term: &Term, wrong: &mut Vec<Diagnostic>) {
        let TermKind::Call(function, args) = &term.kind else { return };
        let Some(path) = function.static_path() else { return };
        let name = path.join(".");
        if name == "print" {
            return;
        }
        if let Some(reason) = builtins::refusal(&name).filter(|_| !self.is_mocked(&name)) {
            let what = format!("builtin `{name}` is not available in the embedded engine");
            wrong.push(source.error("WL404", what, function.loc).help(reason));
            return;
        }
        let Some(arity) = self.arity(function) else {
            let known = known::OPA.binary_search_by_key(&name.as_str(), |(name, _)| name).is_ok();
            wrong.push(if known {
                source
                    .error("WL404", format!("builtin `{name}` is not available in the embedded engine"), function.loc)
                    .help("express it with other builtins, or compute it into data")
            } else {
                let near = known::OPA
                    .iter()
                    .map(|(known, _)| (strsim::damerau_levenshtein(known, &name), *known))
                    .min()
                    .filter(|(distance, _)| *distance <= 2);
                source.error("WL412", format!("there is no function `{name}`"), function.loc).help(match near {
                    Some((_, near)) => format!("did you mean `{near}`?"),
                    None => "define it, import its package, or correct its name".to_owned(),
                })
            });
            return;
        };
        // One more takes on the result.
        if args.len() != arity && args.len() != arity + 1 {
            wrong.push(
                source
                    .error("WL412", format!("`{name}` takes {arity} operands and gets {}", args.len()), term.loc)
                    .help("see its description in OPA's policy reference"),
            );
        }
    }

    fn conflicts(&self, wrong: &mut Vec<Diagnostic>) {
        let mut first: BTreeMap<Vec<String>, (Shape, Option<usize>)> = BTreeMap::new();
        let mut defaults = BTreeSet::new();
        for (source, module) in self.sources.iter().zip(self.modules) {
            for rule in &module.rules {
                let path = rule_path(&module.package, &rule.head);
                let name = format!("data.{}", path.join("."));
                let shape = Shape::of(&rule.head);
                let params = rule.head.params.as_ref().map(Vec::len);
                if rule.default && !defaults.insert(path.clone()) {
                    wrong.push(
                        source
                            .error("WL415", format!("multiple default rules {name} found"), rule.head.name_loc)
                            .help("keep one of them"),
                    );
                }
                let (other, other_params) = *first.entry(path).or_insert((shape, params));
                if (shape, params) != (other, other_params) && shape != Shape::Object && other != Shape::Object {
                    wrong.push(
                        source
                            .error("WL415", format!("conflicting rules {name} found"), rule.head.name_loc)
                            .help("one name is a set, a value or a function with one number of parameters"),
                    );
                }
            }
        }
        for (source, module) in self.sources.iter().zip(self.modules) {
            for length in 1..=module.package.len() {
                if let Some((shape, _)) = first.get(&module.package[..length])
                    && *shape != Shape::Object
                {
                    let name = module.package[..length].join(".");
                    wrong.push(
                        source
                            .error("WL415", format!("package conflicts with rule data.{name}"), module.package_loc)
                            .help("rename the package or the rule"),
                    );
                }
            }
            for rule in &module.rules {
                let path = rule_path(&module.package, &rule.head);
                let above = (module.package.len() + 1..path.len()).find_map(|length| {
                    first.get(&path[..length]).filter(|(shape, _)| *shape != Shape::Object).map(|_| &path[..length])
                });
                if let Some(above) = above {
                    let message = format!("rule data.{} conflicts with data.{}", path.join("."), above.join("."));
                    wrong.push(source.error("WL415", message, rule.head.name_loc).help("rename one of them"));
                }
            }
        }
    }

    fn recursion(&self, wrong: &mut Vec<Diagnostic>) {
        let mut nodes: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        let mut places: Vec<(usize, Loc)> = Vec::new();
        for (index, module) in self.modules.iter().enumerate() {
            for rule in &module.rules {
                nodes.entry(rule_path(&module.package, &rule.head)).or_insert_with(|| {
                    places.push((index, rule.head.name_loc));
                    places.len() - 1
                });
            }
        }
        let mut edges: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); places.len()];
        for module in self.modules {
            for rule in &module.rules {
                let from = nodes[&rule_path(&module.package, &rule.head)];
                visit::rule(rule, &mut |term| {
                    let Some((path, rest)) = data_path(term) else { return };
                    for length in 1..=path.len() {
                        edges[from].extend(nodes.get(&path[..length]));
                    }
                    let below = nodes.range(path.clone()..).take_while(|(other, _)| other.starts_with(&path));
                    let matching = below.filter(|(other, _)| {
                        other[path.len()..]
                            .iter()
                            .zip(&rest)
                            .all(|(key, wanted)| wanted.as_ref().is_none_or(|w| w == key))
                    });
                    edges[from].extend(matching.map(|(_, node)| *node));
                });
            }
        }
        let names: BTreeMap<usize, &Vec<String>> = nodes.iter().map(|(path, node)| (*node, path)).collect();
        let cycles = cycles(&edges);
        if cycles.is_empty()
            && let Some(node) = heights(&edges).iter().position(|height| *height > LONGEST_CHAIN)
        {
            let (index, loc) = places[node];
            let message = format!(
                "rule data.{} needs a chain of more than {LONGEST_CHAIN} rules, each needing the next",
                names[&node].join(".")
            );
            wrong.push(self.sources[index].error("WL404", message, loc).help("put what belongs together in one rule"));
        }
        for cycle in cycles {
            let (index, loc) = places[cycle[0]];
            let way: Vec<String> =
                cycle.iter().chain(&cycle[..1]).map(|node| format!("data.{}", names[node].join("."))).collect();
            wrong.push(
                self.sources[index]
                    .error("WL414", format!("rule {} is recursive: {}", way[0], way.join(" -> ")), loc)
                    .help("a rule cannot depend on itself; walk() and graph.reachable() follow nested data"),
            );
        }
    }
}

/// `data.a.b[x].c` → `["a", "b"]` and `[None, "c"]`: the constant part, and what must match after it.
fn data_path(term: &Term) -> Option<(Vec<String>, Vec<Option<String>>)> {
    let TermKind::Ref(head, args) = &term.kind else { return None };
    if !matches!(&head.kind, TermKind::Var(root) if root == "data") {
        return None;
    }
    let keys: Vec<Option<String>> = args
        .iter()
        .map(|arg| match arg {
            Arg::Bracket(Term { kind: TermKind::Number(number), .. }) => Some(number.clone()),
            arg => arg.text().map(str::to_owned),
        })
        .collect();
    let path: Vec<String> = keys.iter().map_while(Clone::clone).collect();
    let rest = keys[path.len()..].to_vec();
    Some((path, rest))
}

/// The engine evaluates a rule within the one that needs it, on the stack of one thread.
const LONGEST_CHAIN: usize = 500;

/// How many rules come after each on the longest way from it, where there are no cycles.
fn heights(edges: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut heights: Vec<Option<usize>> = vec![None; edges.len()];
    for start in 0..edges.len() {
        let mut open = vec![(start, edges[start].iter())];
        while let Some((node, rest)) = open.last_mut() {
            let node = *node;
            match rest.find(|next| heights[**next].is_none()) {
                Some(next) => open.push((*next, edges[*next].iter())),
                None => {
                    heights[node] =
                        edges[node].iter().filter_map(|next| heights[*next]).map(|h| h + 1).max().or(Some(0));
                    open.pop();
                }
            }
        }
    }
    heights.into_iter().flatten().collect()
}

/// One way round for each group of nodes that reach each other.
fn cycles(edges: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let mut done = vec![false; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        if done[start] {
            continue;
        }
        // Depth first, without recursion; `path` is the way from the start.
        let mut path: Vec<(usize, std::collections::btree_set::Iter<usize>)> = vec![(start, edges[start].iter())];
        let mut on_path = BTreeSet::from([start]);
        while let Some((node, rest)) = path.last_mut() {
            let node = *node;
            match rest.next() {
                Some(next) if on_path.contains(next) => {
                    let from = path.iter().position(|(other, _)| other == next).unwrap_or(0);
                    let cycle: Vec<usize> = path[from..].iter().map(|(node, _)| *node).collect();
                    cycle.iter().for_each(|node| done[*node] = true);
                    found.push(cycle);
                    // One report for this way is enough.
                    path.iter().for_each(|(node, _)| done[*node] = true);
                    path.clear();
                }
                Some(next) if done[*next] => {}
                Some(next) => {
                    on_path.insert(*next);
                    path.push((*next, edges[*next].iter()));
                }
                None => {
                    done[node] = true;
                    on_path.remove(&node);
                    path.pop();
                }
            }
        }
    }
    found
}
