//! Edges: who reads whose state, with the evidence. [`References`] are what one stack reads, found without knowing the others;
//! [`edges`] joins those of all stacks with the states they write.

use super::inputs::is_local;
use super::scope::{ModuleScope, Variables};
use super::state::address;
use super::{Detail, Modules, uses};
use crate::eval::Value;
use crate::terraform::module::{Item, Module};
use crate::tree::{join, resolve};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::id::{InstanceId, StackId};
use windlass_model::stack::{ConsumedOutputs, Edge, EdgeKind, Gate, GateState, Instance, Stack};

/// A remote state that an instance reads, directly or in a module it calls.
#[derive(Debug)]
struct Reference {
    to: InstanceId,
    name: String,
    backend: String,
    /// Directory of the module it stands in.
    module: Arc<str>,
    outputs: ConsumedOutputs,
    gate: Option<Gate>,
    evidence: Span,
    state: Arc<str>,
}

/// What one stack reads.
#[derive(Debug, Default)]
pub struct References {
    found: Vec<Reference>,
    /// Those whose address is not known.
    diagnostics: Vec<Diagnostic>,
}

/// The remote states that the instances of `module` (with the values of their variables, in the same order) read.
pub fn references(
    modules: &Modules<'_>,
    module: &Module,
    instances: &[Instance],
    values: &[Variables],
    detail: Detail,
) -> References {
    let mut walk = Walk { modules, root: module, detail, references: References::default(), path: Vec::new() };
    let below = || children(modules, module).into_iter().any(|(_, child)| modules.reads_state(&child));
    if !module.remote_states.is_empty() || below() {
        for (instance, variables) in instances.iter().zip(values) {
            let workspace = Value::string(instance.workspace.as_str());
            walk.module(&instance.id, module, variables, &workspace, &[]);
        }
    }
    walk.references.found.shrink_to_fit();
    walk.references
}

struct Walk<'a, 'b> {
    modules: &'a Modules<'b>,
    root: &'a Module,
    detail: Detail,
    references: References,
    /// Directories from the root down, against calls that go in circles.
    path: Vec<Arc<str>>,
}

impl Walk<'_, '_> {
    fn module(&mut self, to: &InstanceId, module: &Module, variables: &Variables, workspace: &Value, gates: &[Gate]) {
        if self.path.contains(&module.directory) {
            return;
        }
        self.path.push(module.directory.clone());
        let scope = ModuleScope::new(self.modules.tree, module, variables, workspace.clone(), &self.root.directory);
        for (name, item) in &module.remote_states {
            let mut gates = gates.to_vec();
            gates.extend(gate(&scope, item));
            if let Err(why) = self.remote_state(to, &scope, name, item, gates) {
                self.unknown(to, name, module, item, &why);
            }
        }
        for (call, child) in children(self.modules, module) {
            if !self.modules.reads_state(&child) {
                continue;
            }
            let Some(child) = self.modules.get(&child) else { continue };
            // Marks mean the caller's directory here, and would mean the child's below.
            let given = |attribute: &crate::terraform::syntax::Attribute| {
                (attribute.name.clone(), scope.plain(scope.eval(&attribute.value)))
            };
            let arguments = &module.body(call).attributes;
            let inner = arguments.iter().filter(|a| child.variables.contains_key(&a.name)).map(given).collect();
            let mut gates = gates.to_vec();
            gates.extend(gate(&scope, call));
            self.module(to, child, &inner, workspace, &gates);
        }
        self.path.pop();
    }

    /// # Errors
    /// Why its address is not known.
    fn remote_state(
        &mut self,
        to: &InstanceId,
        scope: &ModuleScope<'_>,
        name: &str,
        item: &Item,
        gates: Vec<Gate>,
    ) -> Result<(), Arc<str>> {
        let module = scope.module;
        let body = module.body(item);
        let backend = match body.value("backend").map(|e| scope.eval(e)) {
            Some(Value::String(backend)) => backend.to_string(),
            Some(Value::Unknown(why)) => return Err(why),
            _ => return Err("it names no backend".into()),
        };
        let config = match body.value("config").map(|e| scope.plain(scope.eval(e))) {
            Some(Value::Object(config)) => config,
            Some(Value::Unknown(why)) => return Err(why),
            // Before Terraform 0.12 `config` was a block.
            _ => body.blocks.iter().find(|b| b.kind == "config").map(|b| scope.config(&b.body)).unwrap_or_default(),
        };
        let workspace = body.value("workspace").map_or(Value::Null, |e| scope.eval(e));
        let gate = combine(gates);
        let state = match address(&backend, &config, &workspace, scope.root) {
            Ok(state) => state,
            // Behind a closed gate the variables it needs are usually not given either.
            Err(_) if matches!(gate, Some(Gate { state: GateState::Closed, .. })) => return Ok(()),
            Err(why) if body.value("for_each").is_some() => {
                return Err(format!("it has one address per `for_each` element ({why})").into());
            }
            Err(why) => return Err(why),
        };
        let outputs = match self.detail {
            Detail::Edges => ConsumedOutputs::All,
            Detail::Outputs => uses::consumed(self.modules, &module.directory, name),
        };
        self.references.found.push(Reference {
            to: to.clone(),
            name: name.to_owned(),
            backend,
            module: module.directory.clone(),
            outputs,
            gate,
            evidence: module.span(item.file, item.head),
            state,
        });
        Ok(())
    }

    fn unknown(&mut self, to: &InstanceId, name: &str, module: &Module, item: &Item, why: &str) {
        let diagnostic =
            Diagnostic::warning("WL213", format!("which state `{name}` of {to} reads is not known: {why}"));
        let diagnostic = module.diagnostic(diagnostic, item.file, item.head, "read here");
        self.references.diagnostics.push(
            diagnostic.help(
                "give the value in a variable file or default, or declare the order with `after` in a stack block",
            ),
        );
    }
}

/// All edges, sorted by dependant and upstream, and what is wrong with the references. `backends` says where each stack
/// configures its backend.
pub fn edges(
    modules: &Modules<'_>,
    stacks: &[Stack],
    references: Vec<References>,
    backends: &HashMap<StackId, Span>,
    definitions: &Definitions,
) -> (Vec<Edge>, Vec<Diagnostic>) {
    let mut finder = Finder {
        modules,
        by_state: HashMap::new(),
        edges: Vec::new(),
        diagnostics: Vec::new(),
        ids: stacks.iter().map(|s| s.id.as_str()).collect(),
    };
    finder.index(stacks, backends);
    for References { found, diagnostics } in references {
        finder.diagnostics.extend(diagnostics);
        for reference in found {
            finder.join(reference);
        }
    }
    finder.declared(stacks, definitions);
    let Finder { mut edges, diagnostics, .. } = finder;
    edges.sort_by(|a, b| (&a.to, &a.from, &a.evidence).cmp(&(&b.to, &b.from, &b.evidence)));
    edges.dedup();
    (edges, diagnostics)
}

struct Finder<'a, 'b> {
    modules: &'a Modules<'b>,
    by_state: HashMap<Arc<str>, Vec<InstanceId>>,
    edges: Vec<Edge>,
    diagnostics: Vec<Diagnostic>,
    ids: BTreeSet<&'a str>,
}

impl Finder<'_, '_> {
    fn index(&mut self, stacks: &[Stack], backends: &HashMap<StackId, Span>) {
        for instance in stacks.iter().flat_map(|s| &s.instances) {
            if let Some(state) = &instance.state {
                self.by_state.entry(state.clone()).or_default().push(instance.id.clone());
            }
        }
        let mut shared: Vec<_> = self.by_state.iter().filter(|(_, writers)| writers.len() > 1).collect();
        shared.sort();
        for (state, writers) in shared {
            let names = writers.iter().map(|w| w.as_str()).collect::<Vec<_>>().join(" and ");
            let mut diagnostic = Diagnostic::error("WL212", format!("{names} write the same state {state}"))
                .detail("each apply of one would plan to destroy what the other made")
                .help("give each its own key, path or workspace; a stack that was renamed leaves only one of the two directories");
            for writer in writers {
                diagnostic.labels.extend(backends.get(&writer.stack()).map(|span| self.modules.label(span, "")));
            }
            self.diagnostics.push(diagnostic);
        }
    }

    fn join(&mut self, reference: Reference) {
        let Reference { to, name, backend, module, outputs, gate, evidence, state } = reference;
        let Some(writers) = self.by_state.get(&state) else {
            return self.dangling(&to, &name, &backend, &state, &evidence);
        };
        for from in writers {
            let kind = EdgeKind::RemoteState {
                name: name.clone(),
                backend: backend.clone(),
                module: module.clone(),
                outputs: outputs.clone(),
            };
            let (from, to, gate, evidence) = (from.clone(), to.clone(), gate.clone(), evidence.clone());
            self.edges.push(Edge { from, to, kind, gate, evidence });
        }
    }

    fn dangling(&mut self, to: &InstanceId, name: &str, backend: &str, state: &str, evidence: &Span) {
        let place = |mut diagnostic: Diagnostic| {
            diagnostic.labels.push(self.modules.label(evidence, "read here"));
            diagnostic
        };
        if backend == "local" {
            let path = state.trim_start_matches("local:");
            let directory = path.split("/terraform.tfstate").next().unwrap_or(path);
            let diagnostic = place(Diagnostic::warning(
                "WL214",
                format!("`{name}` of {to} reads {path}, which no stack here writes"),
            ));
            self.diagnostics.push(match crate::suggest(directory, self.ids.iter().copied()) {
                Some(near) => diagnostic.help(format!("did you mean the state of {near}?")),
                None => diagnostic.help("the stack may have been removed, or its workspace is another one"),
            });
            return;
        }
        let bucket = |state: &str| state.split('/').next().unwrap_or_default().to_owned();
        let own = bucket(state);
        if self.by_state.keys().any(|other| bucket(other) == own) {
            let diagnostic =
                Diagnostic::notice("WL215", format!("`{name}` of {to} reads {state}, which no stack here writes"));
            self.diagnostics.push(place(diagnostic).help("it is taken to be written by another repository"));
        }
    }

    /// `after` of the definitions: instances with the same key depend on each other, a default instance on all and all on it.
    fn declared(&mut self, stacks: &[Stack], definitions: &Definitions) {
        let by_id: BTreeMap<&str, &Stack> = stacks.iter().map(|s| (s.id.as_str(), s)).collect();
        for definition in &definitions.stacks {
            let Some(to) = by_id.get(definition.id.as_str()) else { continue };
            for after in &definition.after {
                // An instance stands for itself, a stack for all of its own.
                let after = InstanceId::new(after.as_str());
                let from = by_id.get(after.stack().as_str()).copied();
                let known = from.filter(|from| after.key().is_none() || from.instances.iter().any(|i| i.id == after));
                let Some(from) = known else {
                    let diagnostic = Diagnostic::error(
                        "WL216",
                        format!("`after` of stack \"{}\" names \"{after}\", which is no stack", definition.id),
                    )
                    .at(definition.span.clone());
                    self.diagnostics.push(match crate::suggest(after.as_str(), self.ids.iter().copied()) {
                        Some(near) => diagnostic.help(format!("did you mean \"{near}\"?")),
                        None => diagnostic.help("`windlass stacks` lists all stacks"),
                    });
                    continue;
                };
                for a in &from.instances {
                    for b in &to.instances {
                        let related = a.id.key() == b.id.key() || a.id.key().is_none() || b.id.key().is_none();
                        let meant = if after.key().is_some() { a.id == after } else { related };
                        if meant {
                            self.edges.push(Edge {
                                from: a.id.clone(),
                                to: b.id.clone(),
                                kind: EdgeKind::After,
                                gate: None,
                                evidence: definition.span.clone(),
                            });
                        }
                    }
                }
            }
        }
    }
}

/// Local module calls: call, canonical directory.
pub fn children<'m>(modules: &Modules<'_>, module: &'m Module) -> Vec<(&'m Item, String)> {
    let target = |call: &Item| {
        let source = module.literal(call, "source").filter(|source| is_local(source))?;
        resolve(modules.tree, &join(&module.directory, &source)?).map(|(target, _)| target)
    };
    module.calls.values().filter_map(|call| target(call).map(|target| (call, target))).collect()
}

/// `count` or `for_each` of a block.
fn gate(scope: &ModuleScope<'_>, item: &Item) -> Option<Gate> {
    let body = scope.module.body(item);
    let expr = body.value("count").or_else(|| body.value("for_each"))?;
    let text = &scope.module.files[item.file].text;
    let condition = text.get(expr.range.start as usize..expr.range.end as usize).unwrap_or_default().trim().to_owned();
    let state = match scope.eval(expr) {
        Value::Unknown(why) => GateState::Unknown(why.to_string()),
        Value::Number(number) if number <= 0.0 => GateState::Closed,
        Value::List(items) if items.is_empty() => GateState::Closed,
        Value::Object(object) if object.is_empty() => GateState::Closed,
        Value::Null => GateState::Closed,
        _ => GateState::Open,
    };
    Some(Gate { condition, state })
}

/// All have to be open.
fn combine(gates: Vec<Gate>) -> Option<Gate> {
    let condition = gates.iter().map(|g| g.condition.as_str()).collect::<Vec<_>>().join(" and ");
    gates
        .into_iter()
        .map(|g| g.state)
        .reduce(|a, b| match (a, b) {
            (GateState::Closed, _) | (_, GateState::Closed) => GateState::Closed,
            (GateState::Unknown(why), _) | (_, GateState::Unknown(why)) => GateState::Unknown(why),
            (GateState::Open, GateState::Open) => GateState::Open,
        })
        .map(|state| Gate { condition, state })
}
