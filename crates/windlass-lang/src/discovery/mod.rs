//! From files to stacks: which directories are root modules, their instances, the edges between them, and what each reads.

mod inputs;
mod instances;
mod remote_states;
mod scope;
mod state;
mod uses;

use crate::terraform::module::{Depth, Module, is_configuration};
use crate::terraform::syntax::Expr;
use crate::tree::{Tree, join, resolve};
use inputs::{ModuleReads, is_local, module_reads};
use scope::ModuleScope;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;
use windlass_model::definition::{Definitions, StackDefinition};
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::id::StackId;
use windlass_model::stack::{Output, Repository, Stack, Tool, Variable};

pub use instances::environments_of;

/// What a tree holds.
#[derive(Debug, Default)]
pub struct Discovery {
    pub repository: Repository,
    pub diagnostics: Vec<Diagnostic>,
}

/// All modules of a tree by directory.
pub struct Modules<'a> {
    pub tree: &'a dyn Tree,
    by_directory: HashMap<String, Module>,
    /// What a module reads whoever calls it, made on first use.
    reads: HashMap<String, OnceLock<ModuleReads>>,
}

impl<'a> Modules<'a> {
    fn load(tree: &'a dyn Tree, depth: Depth) -> Self {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for path in tree.paths() {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            if is_configuration(name) && !crate::tree::is_internal(directory) {
                names.entry(directory).or_default().push(name);
            }
        }
        let work: Vec<(&str, Vec<&str>)> = names.into_iter().collect();
        let modules: Vec<(String, Module)> =
            parallel(&work, |(directory, names)| (directory.to_string(), Module::load(tree, directory, names, depth)));
        let reads = modules.iter().map(|(directory, _)| (directory.clone(), OnceLock::new())).collect();
        Self { tree, by_directory: modules.into_iter().collect(), reads }
    }

    pub fn get(&self, directory: &str) -> Option<&Module> {
        self.by_directory.get(directory)
    }

    /// What the module reads when nothing is known of its variables.
    fn reads(&self, directory: &str) -> Option<&ModuleReads> {
        let module = self.get(directory)?;
        Some(self.reads.get(directory)?.get_or_init(|| {
            let variables = inputs::no_variables();
            let unknown = crate::eval::Value::unknown("the workspace is the caller's");
            module_reads(&ModuleScope::new(self.tree, module, &variables, unknown, directory))
        }))
    }
}

/// `work` applied to every item on all cores, results in order.
fn parallel<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    // Small pieces even out that some are slower than others.
    let piece = items.len().div_ceil(threads * 8).max(1);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let pieces: Vec<&[I]> = items.chunks(piece).collect();
    let mut done: Vec<(usize, Vec<O>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let Some(piece) = pieces.get(at) else { return mine };
                        mine.push((at, piece.iter().map(&work).collect()));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().flat_map(|(_, outputs)| outputs).collect()
}

/// How much is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Stacks, edges and inputs; edges count as consuming all outputs, and outputs are not listed.
    Edges,
    /// Also outputs, and which of them each edge consumes.
    Outputs,
}

/// Finds the stacks of a tree with all their detail. Mistakes are collected; what can be understood in spite of them is in the
/// result.
pub fn discover(tree: &dyn Tree, definitions: &Definitions) -> Discovery {
    discover_with(tree, definitions, Detail::Outputs)
}

/// As [`discover`], with as much detail as is asked for.
pub fn discover_with(tree: &dyn Tree, definitions: &Definitions, detail: Detail) -> Discovery {
    let modules = Modules::load(tree, if detail == Detail::Edges { Depth::Edges } else { Depth::Needed });
    let mut diagnostics = Vec::new();
    let called = called_directories(&modules, &mut diagnostics);
    let declared: BTreeMap<&str, &StackDefinition> = definitions.stacks.iter().map(|d| (d.id.as_str(), d)).collect();
    let mut roots: Vec<&Module> = modules.by_directory.values().collect();
    roots.sort_by(|a, b| a.directory.cmp(&b.directory));
    let found = parallel(&roots, |module| {
        let id = if module.directory.is_empty() { "." } else { &*module.directory };
        let definition = declared.get(id).copied();
        if definition.is_some_and(|d| !d.enabled) {
            return None;
        }
        let declared = || definition.map(|_| "is declared in a Windlass file".to_owned());
        let why = why_stack(module, called.contains(&*module.directory)).or_else(declared)?;
        let mut diagnostics = Vec::new();
        let stack = stack(&modules, module, StackId::new(id), why, definition, definitions, &mut diagnostics);
        Some((stack, diagnostics))
    });
    let mut stacks = Vec::with_capacity(found.len());
    for (stack, mistakes) in found.into_iter().flatten() {
        stacks.push(stack);
        diagnostics.extend(mistakes);
    }
    for definition in &definitions.stacks {
        let directory = if definition.id.as_str() == "." { "" } else { definition.id.as_str() };
        if modules.get(directory).is_none() {
            let near = crate::suggest(definition.id.as_str(), stacks.iter().map(|s: &Stack| s.id.as_str()));
            let diagnostic =
                Diagnostic::error("WL210", format!("stack \"{}\" has no directory with configuration", definition.id))
                    .at(definition.span.clone());
            diagnostics.push(match near {
                Some(near) => diagnostic.help(format!("did you mean \"{near}\"?")),
                None => diagnostic.help("name the directory relative to the repository's root"),
            });
        }
    }
    for module in modules.by_directory.values() {
        diagnostics.extend(module.diagnostics.iter().cloned());
    }
    let (edges, found) = remote_states::edges(&modules, &stacks, definitions, detail);
    diagnostics.extend(found);
    for stack in &stacks {
        for module in stack.inputs.remote_modules.iter().filter(|m| m.moving) {
            let what = module.reference.as_ref().map_or("no reference".to_owned(), |r| format!("`{r}`"));
            diagnostics.push(
                Diagnostic::warning(
                    "WL206",
                    format!("module source {} can move under {}: it is pinned to {what}", module.source, stack.id),
                )
                .at(module.span.clone())
                .help("pin it to a version tag or a commit, so that a plan means the same tomorrow"),
            );
        }
    }
    let repository = Repository { stacks, edges };
    if let Err(cycle) = windlass_model::graph::order(&repository) {
        diagnostics.push(cycle.diagnostic());
    }
    sort(&mut diagnostics);
    Discovery { repository, diagnostics }
}

/// Every syntax error of every configuration file, and references to variables and locals that are not declared.
pub fn check(tree: &dyn Tree, _definitions: &Definitions) -> Vec<Diagnostic> {
    let modules = Modules::load(tree, Depth::All);
    let mut diagnostics = Vec::new();
    for module in modules.by_directory.values() {
        diagnostics.extend(module.diagnostics.iter().cloned());
        // A file that could not be read may declare anything.
        if module.diagnostics.is_empty() {
            undeclared(module, &mut diagnostics);
        }
    }
    sort(&mut diagnostics);
    diagnostics
}

fn undeclared(module: &Module, diagnostics: &mut Vec<Diagnostic>) {
    use crate::terraform::syntax::ExprKind;
    let mut visit = |file: usize, expr: &Expr| {
        expr.walk(&mut |inner| {
            if let ExprKind::Attribute(base, name) = &inner.kind {
                let (what, known, names): (&str, bool, Vec<&String>) = match &base.kind {
                    ExprKind::Variable(root) if root == "var" => {
                        ("variable", module.variables.contains_key(name), module.variables.keys().collect())
                    }
                    ExprKind::Variable(root) if root == "local" => {
                        ("local", module.locals.contains_key(name), module.locals.keys().collect())
                    }
                    _ => return true,
                };
                if !known {
                    let diagnostic =
                        Diagnostic::error("WL205", format!("{what} `{name}` is not declared in this module"));
                    let diagnostic = module.diagnostic(diagnostic, file, inner.range, "used here");
                    diagnostics.push(match crate::suggest(name, names.iter().map(|n| n.as_str())) {
                        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                        None => diagnostic.help(format!(
                            "declare it with a `{}` block",
                            if what == "local" { "locals" } else { "variable" }
                        )),
                    });
                }
            }
            true
        });
    };
    for (file, expr) in module.locals.values() {
        visit(*file, expr);
    }
    let items = module
        .outputs
        .values()
        .chain(module.calls.values())
        .chain(module.remote_states.values())
        .chain(&module.providers)
        .chain(&module.others);
    for item in items {
        item.block.body.visit(&mut |expr| visit(item.file, expr));
    }
}

fn sort(diagnostics: &mut Vec<Diagnostic>) {
    let key = |d: &Diagnostic| (d.labels.first().map(|l| l.span.clone()), d.code.clone(), d.summary.clone());
    diagnostics.sort_by_key(key);
    diagnostics.dedup();
}

/// Directories that some module calls.
fn called_directories(modules: &Modules<'_>, diagnostics: &mut Vec<Diagnostic>) -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for module in modules.by_directory.values() {
        for (name, call) in &module.calls {
            let Some(source) = call.block.body.attribute("source") else { continue };
            let Some(text) = source.value.literal().filter(|text| is_local(text)) else { continue };
            let target =
                join(&module.directory, text).and_then(|path| resolve(modules.tree, &path)).map(|(path, _)| path);
            match target {
                Some(target) if modules.get(&target).is_some() => drop(called.insert(target)),
                target => {
                    let shown = target.unwrap_or_else(|| text.to_owned());
                    let diagnostic = Diagnostic::error(
                        "WL207",
                        format!("module \"{name}\" calls {text}, where there is no configuration"),
                    );
                    let diagnostic = module.diagnostic(
                        diagnostic,
                        call.file,
                        source.value.range,
                        &format!("{shown} has no .tf file"),
                    );
                    diagnostics.push(match crate::suggest(&shown, modules.by_directory.keys().map(String::as_str)) {
                        Some(near) => diagnostic.help(format!("did you mean the directory {near}?")),
                        None => diagnostic.help("add the module, or correct the source"),
                    });
                }
            }
        }
    }
    called
}

/// Why a directory is a root module; `None` when it is not one.
fn why_stack(module: &Module, called: bool) -> Option<String> {
    if called {
        return None;
    }
    if let Some(backend) = &module.backend {
        return Some(format!("configures backend \"{}\"", backend.block.labels.first().map_or("", String::as_str)));
    }
    if module.cloud.is_some() {
        return Some("configures a cloud workspace".into());
    }
    if let Some(provider) = module.providers.first() {
        return Some(format!("configures provider \"{}\"", provider.block.labels.first().map_or("", String::as_str)));
    }
    if !module.remote_states.is_empty() {
        return Some("reads a remote state".into());
    }
    let library =
        module.directory.split('/').any(|segment| matches!(segment, "modules" | "examples" | "tests" | "fixtures"));
    let content = module.has_resources || !module.calls.is_empty() || !module.outputs.is_empty();
    let broken = !module.diagnostics.is_empty();
    (!library && (content || broken)).then(|| "has configuration that no module calls".into())
}

fn stack(
    modules: &Modules<'_>,
    module: &Module,
    id: StackId,
    why: String,
    definition: Option<&StackDefinition>,
    definitions: &Definitions,
    diagnostics: &mut Vec<Diagnostic>,
) -> Stack {
    let (instances, values) = instances::instances(modules, module, &id, definition, definitions, diagnostics);
    let reads: Vec<ModuleReads> = instances
        .iter()
        .zip(&values)
        .map(|(instance, variables)| {
            let workspace = crate::eval::Value::string(instance.workspace.as_str());
            module_reads(&ModuleScope::new(modules.tree, module, variables, workspace, &module.directory))
        })
        .collect();
    let mut var_files: Vec<String> = instances.iter().flat_map(|i| i.var_files.iter().cloned()).collect();
    var_files.sort();
    var_files.dedup();
    let inputs = inputs::collect(modules, &module.directory, &reads, &var_files);
    let text = |expr: Option<&Expr>| expr.and_then(Expr::literal).unwrap_or_default().to_owned();
    let flag =
        |expr: Option<&Expr>| matches!(expr.map(|e| &e.kind), Some(crate::terraform::syntax::ExprKind::Bool(true)));
    let variables = module
        .variables
        .iter()
        .map(|(name, item)| {
            let body = &item.block.body;
            let source = &module.files[item.file].text;
            Variable {
                name: name.clone(),
                type_text: body.value("type").map_or("any".to_owned(), |e| {
                    source.get(e.range.start as usize..e.range.end as usize).unwrap_or("any").trim().to_owned()
                }),
                required: body.value("default").is_none(),
                sensitive: flag(body.value("sensitive")),
                description: text(body.value("description")),
                span: module.span(item.file, item.block.range),
            }
        })
        .collect();
    let outputs = module
        .outputs
        .iter()
        .map(|(name, item)| Output {
            name: name.clone(),
            sensitive: flag(item.block.body.value("sensitive")),
            description: text(item.block.body.value("description")),
            span: module.span(item.file, item.block.range),
        })
        .collect();
    let tool = match definition.and_then(|d| d.tool.as_deref()) {
        Some("tofu") => Tool::Tofu,
        Some("terraform") => Tool::Terraform,
        _ if module.tofu => Tool::Tofu,
        _ => Tool::Any,
    };
    Stack {
        id,
        why,
        owner: definition.and_then(|d| d.owner.clone()),
        required_version: module.required_versions.clone(),
        tool,
        env: definition.map(|d| d.env.clone()).unwrap_or_default(),
        instances,
        variables,
        outputs,
        inputs,
    }
}

/// Place of a resource in the module of a stack (or below it, following the local module calls of its address), for findings.
/// `address` is a Terraform address such as `module.a["x"].aws_vpc.main[0]`.
pub fn resource_span(tree: &dyn Tree, stack: &StackId, address: &str) -> Option<Span> {
    let plain: String = strip_indices(address);
    let mut parts = plain.split('.').peekable();
    let mut directory = if stack.as_str() == "." { String::new() } else { stack.as_str().to_owned() };
    loop {
        let names: Vec<&str> = tree
            .paths()
            .iter()
            .filter_map(|path| {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                (parent == directory && is_configuration(name)).then_some(name)
            })
            .collect();
        let module = Module::load(tree, &directory, &names, Depth::All);
        if parts.peek() == Some(&"module") {
            parts.next();
            let call = module.calls.get(parts.next()?)?;
            let here = module.span(call.file, call.block.range);
            let source = call.block.body.value("source").and_then(Expr::literal).filter(|s| is_local(s));
            // Behind a remote module the call is the place that can be changed here.
            let Some((target, _)) = source.and_then(|s| join(&directory, s)).and_then(|path| resolve(tree, &path))
            else {
                return Some(here);
            };
            directory = target;
            continue;
        }
        let kind = parts.next()?;
        let (block, kind) = if kind == "data" { ("data", parts.next()?) } else { ("resource", kind) };
        let name = parts.next()?;
        let item = module.others.iter().find(|i| i.block.kind == block && i.block.labels == [kind, name])?;
        return Some(module.span(item.file, item.block.range));
    }
}

fn strip_indices(address: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut depth = 0usize;
    for c in address.chars() {
        match c {
            '"' if depth > 0 => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth = depth.saturating_sub(1),
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}
