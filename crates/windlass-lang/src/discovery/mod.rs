//! From files to stacks: which directories are root modules, their instances, the edges between them, and what each reads.

mod inputs;
mod instances;
mod operations;
mod remote_states;
mod scope;
mod state;
mod uses;

use crate::terraform::module::{Depth, Item, Module, is_configuration};
use crate::terraform::syntax::Expr;
use crate::tree::{Tree, join, resolve};
use inputs::{ModuleReads, module_reads};
use remote_states::References;
use scope::ModuleScope;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;
use windlass_model::definition::{Definitions, StackDefinition};
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::id::StackId;
use windlass_model::stack::{Instance, Output, Repository, Stack, Tool, Variable};

pub use inputs::{is_local, is_moving, reference};
pub use instances::environments_of;
pub use remote_states::children;

/// What a tree holds.
#[derive(Debug, Default)]
pub struct Discovery {
    pub repository: Repository,
    pub diagnostics: Vec<Diagnostic>,
}

/// The modules of a tree by directory, read when they are asked for.
pub struct Modules<'a> {
    pub tree: &'a dyn Tree,
    depth: Depth,
    directories: BTreeMap<&'a str, Directory<'a>>,
}

struct Directory<'a> {
    /// Its configuration files.
    names: Vec<&'a str>,
    module: OnceLock<Box<Module>>,
    /// What the module reads whoever calls it.
    reads: OnceLock<ModuleReads>,
    /// Whether it or a module below it has a remote state.
    reads_state: OnceLock<bool>,
}

impl<'a> Modules<'a> {
    fn of(tree: &'a dyn Tree, depth: Depth) -> Self {
        let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        // Files of one directory stand together in the sorted list.
        let mut last: Option<(&str, Vec<&str>)> = None;
        for path in tree.paths() {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            if !is_configuration(name) || crate::tree::is_internal(directory) {
                continue;
            }
            match &mut last {
                Some((same, names)) if *same == directory => names.push(name),
                _ => {
                    if let Some((directory, found)) = last.replace((directory, vec![name])) {
                        names.entry(directory).or_default().extend(found);
                    }
                }
            }
        }
        if let Some((directory, found)) = last {
            names.entry(directory).or_default().extend(found);
        }
        let empty =
            |names| Directory { names, module: OnceLock::new(), reads: OnceLock::new(), reads_state: OnceLock::new() };
        let directories = names.into_iter().map(|(directory, names)| (directory, empty(names))).collect();
        Self { tree, depth, directories }
    }

    /// All modules of a tree, each parsed as a whole when it is asked for.
    pub fn all(tree: &'a dyn Tree) -> Self {
        Self::of(tree, Depth::All)
    }

    /// Directories with configuration, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.directories.keys().copied()
    }

    /// Reads a module without keeping it.
    pub fn read(&self, directory: &str) -> Option<Module> {
        self.directories.get_key_value(directory).map(|(directory, of)| self.load(directory, of))
    }

    /// Whether the text of the module's files has one of these words anywhere; nothing is parsed.
    pub fn mentions(&self, directory: &str, words: &[&str]) -> bool {
        let Some(of) = self.directories.get(directory) else { return false };
        let has = |name: &&str| {
            let path = if directory.is_empty() { (*name).to_owned() } else { format!("{directory}/{name}") };
            let path = resolve(self.tree, &path).map_or(path, |(path, _)| path);
            let text = self.tree.read(&path).ok().flatten().unwrap_or_default();
            words.iter().any(|word| memchr::memmem::find(&text, word.as_bytes()).is_some())
        };
        of.names.iter().any(has)
    }

    fn has(&self, directory: &str) -> bool {
        self.directories.contains_key(directory)
    }

    /// Reads a module without keeping it.
    fn load(&self, directory: &str, of: &Directory<'_>) -> Module {
        Module::load(self.tree, directory, &of.names, self.depth)
    }

    /// The module, kept from now on.
    pub fn get(&self, directory: &str) -> Option<&Module> {
        let (directory, of) = self.directories.get_key_value(directory)?;
        Some(of.module.get_or_init(|| Box::new(self.load(directory, of))))
    }

    /// What the module reads when nothing is known of its variables.
    fn reads(&self, directory: &str) -> Option<&ModuleReads> {
        let module = self.get(directory)?;
        let none = scope::Variables::new();
        let scope = || ModuleScope::of_any_caller(self.tree, module, &none);
        Some(self.directories.get(directory)?.reads.get_or_init(|| module_reads(&scope())))
    }

    /// Whether the module or one below it has a remote state.
    pub fn reads_state(&self, directory: &str) -> bool {
        fn find(modules: &Modules<'_>, directory: &str, seen: &mut BTreeSet<String>) -> bool {
            if !seen.insert(directory.to_owned()) {
                return false;
            }
            let Some(module) = modules.get(directory) else { return false };
            let below = remote_states::children(modules, module);
            !module.remote_states.is_empty() || below.into_iter().any(|(_, child)| find(modules, &child, seen))
        }
        let Some(of) = self.directories.get(directory) else { return false };
        *of.reads_state.get_or_init(|| find(self, directory, &mut BTreeSet::new()))
    }

    /// A place in a file with the line it shows.
    pub fn label(&self, span: &Span, message: &str) -> windlass_model::diagnostic::Label {
        let content = resolve(self.tree, &span.file).and_then(|(path, _)| self.tree.read(&path).ok().flatten());
        let content = String::from_utf8_lossy(content.as_deref().unwrap_or_default()).into_owned();
        let excerpt = content.lines().nth(span.line as usize - 1).unwrap_or_default().to_owned();
        windlass_model::diagnostic::Label { span: span.clone(), excerpt, message: message.to_owned() }
    }
}

/// `work` applied to every item on all cores, results in order.
pub(crate) fn parallel<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
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
    let modules = Modules::of(tree, if detail == Detail::Edges { Depth::Edges } else { Depth::Needed });
    let declared: BTreeMap<&str, &StackDefinition> = definitions.stacks.iter().map(|d| (d.id.as_str(), d)).collect();
    let directories: Vec<(&str, &Directory<'_>)> = modules.directories.iter().map(|(d, of)| (*d, of)).collect();
    let views = parallel(&directories, |(directory, of)| {
        let own;
        // Outputs are followed from module to module later; edges need a module no longer than it takes to look at it.
        let module = match detail {
            Detail::Edges => {
                own = modules.load(directory, of);
                &own
            }
            Detail::Outputs => modules.get(directory)?,
        };
        // All its files are gone from the work tree.
        if module.files.is_empty() && module.diagnostics.is_empty() {
            return None;
        }
        let id = if directory.is_empty() { "." } else { directory };
        Some(view(&modules, module, StackId::new(id), declared.get(id).copied(), definitions, detail))
    });
    let mut views: Vec<View> = views.into_iter().flatten().collect();
    let called: BTreeSet<String> = views.iter_mut().flat_map(|view| std::mem::take(&mut view.calls)).collect();
    let mut diagnostics = Vec::new();
    let mut stacks = Vec::with_capacity(views.len());
    let mut references = Vec::with_capacity(views.len());
    let mut backends = HashMap::with_capacity(views.len());
    for view in views {
        diagnostics.extend(view.diagnostics);
        let Some(root) = view.root else { continue };
        if called.contains(&view.directory) && !declared.contains_key(root.stack.id.as_str()) {
            continue;
        }
        diagnostics.extend(root.diagnostics);
        backends.insert(root.stack.id.clone(), root.backend);
        references.push(root.references);
        stacks.push(root.stack);
    }
    stacks.sort_by(|a, b| a.id.cmp(&b.id));
    for definition in &definitions.stacks {
        let directory = if definition.id.as_str() == "." { "" } else { definition.id.as_str() };
        if !modules.has(directory) {
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
    let (edges, found) = remote_states::edges(&modules, &stacks, references, &backends, definitions);
    diagnostics.extend(found);
    diagnostics.extend(operations::unknown_stacks(definitions, &stacks));
    let repository = Repository { stacks, edges };
    if let Err(cycle) = windlass_model::graph::order(&repository) {
        diagnostics.push(cycle.diagnostic());
    }
    sort(&mut diagnostics);
    Discovery { repository, diagnostics }
}

/// Every syntax error of every configuration file, and references to variables and locals that are not declared.
pub fn check(tree: &dyn Tree, _definitions: &Definitions) -> Vec<Diagnostic> {
    let modules = Modules::of(tree, Depth::All);
    let directories: Vec<(&str, &Directory<'_>)> = modules.directories.iter().map(|(d, of)| (*d, of)).collect();
    let found = parallel(&directories, |(directory, of)| {
        let module = modules.load(directory, of);
        let mut diagnostics = module.mistakes();
        // A file that could not be read may declare anything.
        if diagnostics.is_empty() {
            undeclared(&module, &mut diagnostics);
        }
        diagnostics
    });
    let mut diagnostics: Vec<Diagnostic> = found.into_iter().flatten().collect();
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
    for local in module.locals.values() {
        visit(local.file, module.local_value(local));
    }
    let items = module
        .outputs
        .values()
        .chain(module.calls.values())
        .chain(module.remote_states.values())
        .chain(&module.providers)
        .chain(&module.others);
    for item in items {
        module.body(item).visit(&mut |expr| visit(item.file, expr));
    }
}

fn sort(diagnostics: &mut Vec<Diagnostic>) {
    let key = |d: &Diagnostic| (d.labels.first().map(|l| l.span.clone()), d.code.clone(), d.summary.clone());
    diagnostics.sort_by_key(key);
    diagnostics.dedup();
}

/// What one directory says, without knowing who calls it.
struct View {
    directory: String,
    /// Directories it calls.
    calls: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    /// The stack it is, unless another module calls it.
    root: Option<Root>,
}

struct Root {
    stack: Stack,
    references: References,
    /// Where its backend is configured.
    backend: Span,
    diagnostics: Vec<Diagnostic>,
}

fn view(
    modules: &Modules<'_>,
    module: &Module,
    id: StackId,
    definition: Option<&StackDefinition>,
    definitions: &Definitions,
    detail: Detail,
) -> View {
    let mut diagnostics = Vec::new();
    let calls = calls(modules, module, &mut diagnostics);
    let why = why_stack(module).or_else(|| definition.map(|_| "is declared in a Windlass file".to_owned()));
    let why = why.filter(|_| definition.is_none_or(|d| d.enabled));
    let root = why.map(|why| {
        let mut diagnostics = Vec::new();
        let (instances, values) = instances::instances(modules, module, &id, definition, definitions, &mut diagnostics);
        let references = remote_states::references(modules, module, &instances, &values, detail);
        let backend = match (&module.backend, module.files.first()) {
            (Some(backend), _) => module.span(backend.file, backend.head),
            (None, Some(file)) => Span::file(file.path.clone()),
            (None, None) => Span::file(&*module.directory),
        };
        let stack = stack(modules, module, id, why, definition, instances, &values, detail);
        Root { stack, references, backend, diagnostics }
    });
    diagnostics.extend(module.mistakes());
    View { directory: module.directory.to_string(), calls, diagnostics, root }
}

/// Directories that the module calls.
fn calls(modules: &Modules<'_>, module: &Module, diagnostics: &mut Vec<Diagnostic>) -> Vec<String> {
    let mut called = Vec::new();
    for (name, call) in &module.calls {
        let Some(source) = module.value(call, "source") else { continue };
        let Some(text) = source.literal().filter(|text| is_local(text)) else { continue };
        let target = join(&module.directory, text).and_then(|path| resolve(modules.tree, &path)).map(|(path, _)| path);
        match target {
            Some(target) if modules.has(&target) => called.push(target),
            target => {
                let shown = target.unwrap_or_else(|| text.to_owned());
                let diagnostic = Diagnostic::error(
                    "WL207",
                    format!("module \"{name}\" calls {text}, where there is no configuration"),
                );
                let diagnostic =
                    module.diagnostic(diagnostic, call.file, source.range, &format!("{shown} has no .tf file"));
                diagnostics.push(match crate::suggest(&shown, modules.directories.keys().copied()) {
                    Some(near) => diagnostic.help(format!("did you mean the directory {near}?")),
                    None => diagnostic.help("add the module, or correct the source"),
                });
            }
        }
    }
    called
}

/// Why a directory is a root module, if no other module calls it; `None` when it is not one.
fn why_stack(module: &Module) -> Option<String> {
    if let Some(backend) = &module.backend {
        return Some(format!("configures backend \"{}\"", backend.labels.first().map_or("", String::as_str)));
    }
    if module.cloud.is_some() {
        return Some("configures a cloud workspace".into());
    }
    if let Some(provider) = module.providers.first() {
        return Some(format!("configures provider \"{}\"", provider.labels.first().map_or("", String::as_str)));
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

#[allow(clippy::too_many_arguments, reason = "everything a stack is made of")]
fn stack(
    modules: &Modules<'_>,
    module: &Module,
    id: StackId,
    why: String,
    definition: Option<&StackDefinition>,
    instances: Vec<Instance>,
    values: &[scope::Variables],
    detail: Detail,
) -> Stack {
    let reads: Vec<ModuleReads> = instances
        .iter()
        .zip(values)
        .map(|(instance, variables)| {
            let workspace = crate::eval::Value::string(instance.workspace.as_str());
            module_reads(&ModuleScope::new(modules.tree, module, variables, workspace, &module.directory))
        })
        .collect();
    let mut var_files: Vec<String> = instances.iter().flat_map(|i| i.var_files.iter().cloned()).collect();
    var_files.sort();
    var_files.dedup();
    let inputs = inputs::collect(modules, module, &reads, &var_files);
    let (variables, outputs) = match detail {
        Detail::Edges => (Vec::new(), Vec::new()),
        Detail::Outputs => (variables(module), outputs(module)),
    };
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

fn text(expr: Option<&Expr>) -> String {
    expr.and_then(Expr::literal).unwrap_or_default().to_owned()
}

fn flag(expr: Option<&Expr>) -> bool {
    matches!(expr.map(|e| &e.kind), Some(crate::terraform::syntax::ExprKind::Bool(true)))
}

fn variables(module: &Module) -> Vec<Variable> {
    let variable = |(name, item): (&String, &Item)| {
        let body = module.body(item);
        let source = &module.files[item.file].text;
        Variable {
            name: name.clone(),
            type_text: body.value("type").map_or("any".to_owned(), |e| {
                source.get(e.range.start as usize..e.range.end as usize).unwrap_or("any").trim().to_owned()
            }),
            required: body.value("default").is_none(),
            sensitive: flag(body.value("sensitive")),
            description: text(body.value("description")),
            span: module.span(item.file, item.head),
        }
    };
    module.variables.iter().map(variable).collect()
}

fn outputs(module: &Module) -> Vec<Output> {
    let output = |(name, item): (&String, &Item)| {
        let body = module.body(item);
        Output {
            name: name.clone(),
            sensitive: flag(body.value("sensitive")),
            description: text(body.value("description")),
            span: module.span(item.file, item.head),
        }
    };
    module.outputs.iter().map(output).collect()
}

/// Place of a resource in the module of a stack (or below it, following the local module calls of its address), for findings.
/// `address` is a Terraform address such as `module.a["x"].aws_vpc.main[0]`.
pub fn resource_span(modules: &Modules<'_>, stack: &StackId, address: &str) -> Option<Span> {
    let plain: String = strip_indices(address);
    let mut parts = plain.split('.').peekable();
    let mut directory = if stack.as_str() == "." { String::new() } else { stack.as_str().to_owned() };
    loop {
        let module = modules.get(&directory)?;
        if parts.peek() == Some(&"module") {
            parts.next();
            let call = module.calls.get(parts.next()?)?;
            let source = module.literal(call, "source").filter(|s| is_local(s));
            let target = source.and_then(|s| join(&directory, &s)).and_then(|path| resolve(modules.tree, &path));
            match target {
                Some((target, _)) => directory = target,
                // Behind a remote module the call is the place that can be changed here.
                None => return Some(module.span(call.file, call.head)),
            }
            continue;
        }
        let kind = parts.next()?;
        let (block, kind) = if kind == "data" { ("data", parts.next()?) } else { ("resource", kind) };
        let name = parts.next()?;
        let item = match (block, kind) {
            ("data", "terraform_remote_state") => module.remote_states.get(name)?,
            _ => module.others.iter().find(|i| i.kind == block && i.labels == [kind, name])?,
        };
        return Some(module.span(item.file, item.head));
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
