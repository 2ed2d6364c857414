//! Edges: who reads whose state, with the evidence.

use super::inputs::is_local;
use super::scope::{ModuleScope, Variables};
use super::state::address;
use super::{Detail, Modules, instances, uses};
use crate::eval::Value;
use crate::terraform::module::{Item, Module};
use crate::terraform::syntax::Expr;
use crate::tree::{join, resolve};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::id::{InstanceId, StackId};
use windlass_model::stack::{ConsumedOutputs, Edge, EdgeKind, Gate, GateState, Stack};

/// All edges, sorted by dependant and upstream, and what is wrong with the references.
pub fn edges(
    modules: &Modules<'_>,
    stacks: &[Stack],
    definitions: &Definitions,
    detail: Detail,
) -> (Vec<Edge>, Vec<Diagnostic>) {
    let mut finder = Finder {
        modules,
        by_state: HashMap::new(),
        edges: Vec::new(),
        diagnostics: Vec::new(),
        consumed: HashMap::new(),
        detail,
        ids: stacks.iter().map(|s| s.id.as_str()).collect(),
        reads: HashMap::new(),
    };
    finder.index(stacks);
    for stack in stacks {
        let directory = if stack.id.as_str() == "." { "" } else { stack.id.as_str() };
        let Some(module) = modules.get(directory) else { continue };
        if !finder.reads_any(directory) {
            continue;
        }
        for instance in &stack.instances {
            let variables = instances::values_of(modules, module, instance);
            let workspace = Value::string(instance.workspace.as_str());
            finder.module(&instance.id, module, &variables, &workspace, directory, &[], 0);
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
    consumed: HashMap<(String, String), ConsumedOutputs>,
    detail: Detail,
    ids: BTreeSet<&'a str>,
    /// Whether a module or one below it has a remote state.
    reads: HashMap<String, bool>,
}

impl Finder<'_, '_> {
    fn index(&mut self, stacks: &[Stack]) {
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
                diagnostic = diagnostic.at(self.backend_span(&writer.stack()));
            }
            self.diagnostics.push(diagnostic);
        }
    }

    fn backend_span(&self, stack: &StackId) -> Span {
        let directory = if stack.as_str() == "." { "" } else { stack.as_str() };
        match self.modules.get(directory) {
            Some(module) => match (&module.backend, module.files.first()) {
                (Some(backend), _) => module.span(backend.file, backend.block.range),
                (None, Some(file)) => Span::file(file.path.clone()),
                (None, None) => Span::file(directory),
            },
            None => Span::file(directory),
        }
    }

    fn reads_any(&mut self, directory: &str) -> bool {
        if let Some(known) = self.reads.get(directory) {
            return *known;
        }
        // Against module calls that go in circles.
        self.reads.insert(directory.to_owned(), false);
        let Some(module) = self.modules.get(directory) else { return false };
        let found = !module.remote_states.is_empty()
            || children(self.modules, module).into_iter().any(|(_, _, child)| self.reads_any(&child));
        self.reads.insert(directory.to_owned(), found);
        found
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one walk down the module calls")]
    fn module(
        &mut self,
        to: &InstanceId,
        module: &Module,
        variables: &Variables,
        workspace: &Value,
        root: &str,
        gates: &[Gate],
        depth: usize,
    ) {
        if depth > 32 {
            return;
        }
        let scope = ModuleScope::new(self.modules.tree, module, variables, workspace.clone(), root);
        for (name, item) in &module.remote_states {
            let mut gates = gates.to_vec();
            gates.extend(gate(&scope, item));
            self.remote_state(to, &scope, name, item, gates);
        }
        for (_, call, child) in children(self.modules, module) {
            if !self.reads_any(&child) {
                continue;
            }
            let Some(child_module) = self.modules.get(&child) else { continue };
            let mut inner: Variables = child_module
                .variables
                .iter()
                .map(|(name, item)| {
                    let value = item.block.body.value("default").map_or_else(
                        || Value::unknown(format!("variable `{name}` is not given by its caller")),
                        |default| crate::eval::evaluate(default, &super::scope::Nothing),
                    );
                    (name.clone(), value)
                })
                .collect();
            for attribute in &call.block.body.attributes {
                if inner.contains_key(&attribute.name) {
                    // Marks mean the caller's directory here, and would mean the child's below.
                    inner.insert(attribute.name.clone(), scope.plain(scope.eval(&attribute.value)));
                }
            }
            let mut gates = gates.to_vec();
            gates.extend(gate(&scope, call));
            self.module(to, child_module, &inner, workspace, root, &gates, depth + 1);
        }
    }

    fn remote_state(&mut self, to: &InstanceId, scope: &ModuleScope<'_>, name: &str, item: &Item, gates: Vec<Gate>) {
        let module = scope.module;
        let body = &item.block.body;
        let span = module.span(item.file, item.block.range);
        let backend = match body.value("backend").map(|e| scope.eval(e)) {
            Some(Value::String(backend)) => backend.to_string(),
            Some(Value::Unknown(why)) => return self.unknown(to, name, module, item, &why),
            _ => return self.unknown(to, name, module, item, "it names no backend"),
        };
        let config = match body.value("config").map(|e| scope.plain(scope.eval(e))) {
            Some(Value::Object(config)) => config,
            Some(Value::Unknown(why)) => return self.unknown(to, name, module, item, &why),
            // Before Terraform 0.12 `config` was a block.
            _ => body.blocks.iter().find(|b| b.kind == "config").map(|b| scope.config(&b.body)).unwrap_or_default(),
        };
        let each = body.value("for_each").is_some();
        let workspace = body.value("workspace").map_or(Value::Null, |e| scope.eval(e));
        let gate = combine(gates);
        let closed = matches!(gate, Some(Gate { state: GateState::Closed, .. }));
        let state = match address(&backend, &config, &workspace, scope.root) {
            Ok(state) => state,
            // Behind a closed gate the variables it needs are usually not given either.
            Err(_) if closed => return,
            Err(why) if each => {
                return self.unknown(
                    to,
                    name,
                    module,
                    item,
                    &format!("it has one address per `for_each` element ({why})"),
                );
            }
            Err(why) => return self.unknown(to, name, module, item, &why),
        };
        let directory = module.directory.to_string();
        let modules = self.modules;
        let outputs = match self.detail {
            Detail::Edges => ConsumedOutputs::All,
            Detail::Outputs => {
                let key = (directory.clone(), name.to_owned());
                self.consumed.entry(key).or_insert_with(|| uses::consumed(modules, &directory, name)).clone()
            }
        };
        let Some(writers) = self.by_state.get(&state) else {
            return self.dangling(to, name, module, item, &backend, &state);
        };
        for from in writers {
            self.edges.push(Edge {
                from: from.clone(),
                to: to.clone(),
                kind: EdgeKind::RemoteState {
                    name: name.to_owned(),
                    backend: backend.clone(),
                    module: module.directory.clone(),
                    outputs: outputs.clone(),
                },
                gate: gate.clone(),
                evidence: span.clone(),
            });
        }
    }

    fn unknown(&mut self, to: &InstanceId, name: &str, module: &Module, item: &Item, why: &str) {
        let diagnostic =
            Diagnostic::warning("WL213", format!("which state `{name}` of {to} reads is not known: {why}"));
        let diagnostic = module.diagnostic(diagnostic, item.file, item.block.range, "read here");
        self.diagnostics.push(
            diagnostic.help(
                "give the value in a variable file or default, or declare the order with `after` in a stack block",
            ),
        );
    }

    fn dangling(&mut self, to: &InstanceId, name: &str, module: &Module, item: &Item, backend: &str, state: &str) {
        let place = |d: Diagnostic| module.diagnostic(d, item.file, item.block.range, "read here");
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
                let Some(from) = by_id.get(after.as_str()) else {
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
                        if related {
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

/// Local module calls: name, call, canonical directory.
fn children<'m>(modules: &Modules<'_>, module: &'m Module) -> Vec<(&'m str, &'m Item, String)> {
    let mut out = Vec::new();
    for (name, call) in &module.calls {
        let Some(source) = call.block.body.value("source").and_then(Expr::literal).filter(|s| is_local(s)) else {
            continue;
        };
        if let Some((target, _)) = join(&module.directory, source).and_then(|path| resolve(modules.tree, &path)) {
            out.push((name.as_str(), call, target));
        }
    }
    out
}

/// `count` or `for_each` of a block.
fn gate(scope: &ModuleScope<'_>, item: &Item) -> Option<Gate> {
    let expr = item.block.body.value("count").or_else(|| item.block.body.value("for_each"))?;
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
