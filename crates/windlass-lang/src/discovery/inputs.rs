//! Everything a stack reads: its directories, local modules, files and trees named by expressions, remote modules.

use super::Modules;
use super::scope::{ModuleScope, repository_path};
use crate::eval::{Scope, Value, evaluate};
use crate::terraform::module::Module;
use crate::terraform::syntax::{Body, Expr, ExprKind};
use crate::tree::{join, resolve};
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::diagnostic::Span;
use windlass_model::stack::{Evidence, InputPath, Inputs, RemoteModule};

/// A path that a module reads, as written: relative to the module or to whichever root calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    path: String,
    what: String,
    span: Span,
    tree: bool,
}

/// What one module reads whoever calls it.
#[derive(Debug, Default)]
pub struct ModuleReads {
    named: Vec<Named>,
}

const FILE_FUNCTIONS: [&str; 11] = [
    "file",
    "filebase64",
    "filebase64sha256",
    "filebase64sha512",
    "fileexists",
    "filemd5",
    "filesha1",
    "filesha256",
    "filesha512",
    "templatefile",
    "fileset",
];

/// Walks all expressions of the module that can read files.
pub fn module_reads(scope: &ModuleScope<'_>) -> ModuleReads {
    let module = scope.module;
    let mut reads = ModuleReads::default();
    let named = module
        .variables
        .values()
        .chain(module.outputs.values())
        .chain(module.calls.values())
        .chain(module.remote_states.values());
    for item in named.chain(&module.providers).chain(&module.others).filter(|item| item.reads) {
        visit_body(scope, item.file, module.body(item), &mut reads.named);
    }
    for local in module.locals.values().filter(|local| local.reads) {
        visit(scope, local.file, module.local_value(local), &mut reads.named);
    }
    reads.named.sort();
    reads.named.dedup();
    reads
}

fn visit_body(scope: &ModuleScope<'_>, file: usize, body: &Body, out: &mut Vec<Named>) {
    for attribute in &body.attributes {
        visit(scope, file, &attribute.value, out);
    }
    for block in &body.blocks {
        if block.kind == "provisioner" {
            provisioner(scope, file, &block.body, out);
        }
        visit_body(scope, file, &block.body, out);
    }
}

/// Files a provisioner runs or copies.
fn provisioner(scope: &ModuleScope<'_>, file: usize, body: &Body, out: &mut Vec<Named>) {
    for name in ["script", "source", "scripts", "working_dir"] {
        let Some(expr) = body.value(name) else { continue };
        let items = match &expr.kind {
            ExprKind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(expr),
        };
        for item in items {
            add(scope, file, item, &format!("provisioner {name}"), true, out);
        }
    }
    if let Some(command) = body.value("command")
        && let Some(text) = scope.eval(command).as_text()
    {
        for word in text
            .split(|c: char| c.is_whitespace() || "\"';|&<>()".contains(c))
            .filter(|w| w.starts_with("./") || w.starts_with("../"))
        {
            out.push(Named {
                path: word.to_owned(),
                what: "provisioner command".into(),
                span: scope.module.span(file, command.range),
                tree: false,
            });
        }
    }
}

fn visit(scope: &ModuleScope<'_>, file: usize, expr: &Expr, out: &mut Vec<Named>) {
    expr.walk(&mut |inner| {
        match &inner.kind {
            ExprKind::Call(name, arguments, _) if FILE_FUNCTIONS.contains(&name.as_str()) => {
                if let Some(path) = arguments.first() {
                    add(scope, file, path, name, name == "fileset", out);
                }
                arguments.iter().skip(1).for_each(|argument| visit(scope, file, argument, out));
                false
            }
            // A path built from `path.module` is handed to something that may read it.
            ExprKind::Template(parts) if parts.iter().any(mentions_path) => {
                add(scope, file, inner, "path", true, out);
                true
            }
            ExprKind::Call(name, arguments, _)
                if matches!(name.as_str(), "join" | "format" | "abspath" | "pathexpand")
                    && arguments.iter().any(mentions_path) =>
            {
                add(scope, file, inner, name, true, out);
                false
            }
            _ => true,
        }
    });
}

fn mentions_path(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |inner| {
        found |= matches!(&inner.kind, ExprKind::Attribute(base, _) if matches!(&base.kind, ExprKind::Variable(root) if root == "path"));
        !found
    });
    found
}

/// A path that is known becomes a file (and, where it may be a directory, a tree); one that is known in part the tree of its
/// known directory; one that is not known at all the module's own directory.
fn add(scope: &ModuleScope<'_>, file: usize, expr: &Expr, what: &str, tree: bool, out: &mut Vec<Named>) {
    let span = scope.module.span(file, expr.range);
    let named = |path: String, tree: bool| Named { path, what: what.to_owned(), span: span.clone(), tree };
    if let Some(path) = scope.eval(expr).as_text() {
        if tree {
            out.push(named(path.to_string(), true));
        }
        out.push(named(path.to_string(), false));
        return;
    }
    let prefix = match &expr.kind {
        ExprKind::Template(parts) => {
            let mut prefix = String::new();
            for part in parts {
                match evaluate(part, scope as &dyn Scope) {
                    value @ (Value::String(_) | Value::Number(_)) => {
                        prefix.push_str(&value.as_text().unwrap_or_default())
                    }
                    _ => break,
                }
            }
            prefix.rsplit_once('/').map(|(directory, _)| directory.to_owned())
        }
        _ => None,
    };
    out.push(named(prefix.unwrap_or_else(|| super::scope::MODULE_MARK.to_owned()), true));
}

/// Collects the inputs of the stack in `root`, whose own reads (with its instances' variables) are `own`.
pub fn collect(modules: &Modules<'_>, root: &Module, own: &[ModuleReads], var_files: &[String]) -> Inputs {
    let module = root;
    let root = &*root.directory;
    let mut collector = Collector {
        modules,
        root,
        module,
        inputs: Inputs::default(),
        seen: BTreeSet::new(),
        files: BTreeMap::new(),
        trees: BTreeMap::new(),
    };
    collector.directory(root, Vec::new());
    for reads in own {
        collector.named(root, &reads.named, &[]);
    }
    for file in var_files {
        if let Some(path) = join(root, file) {
            let evidence = Evidence { what: "variable file".into(), span: Span::file(path.as_str()) };
            collector.path(&path, &[evidence], false);
        }
    }
    let mut inputs = collector.inputs;
    inputs.files = collector.files.into_iter().map(|(path, chain)| InputPath { path: path.into(), chain }).collect();
    inputs.trees = collector.trees.into_iter().map(|(path, chain)| InputPath { path: path.into(), chain }).collect();
    inputs
}

struct Collector<'a, 'b> {
    modules: &'a Modules<'b>,
    root: &'a str,
    /// The module in `root`.
    module: &'a Module,
    inputs: Inputs,
    seen: BTreeSet<String>,
    files: BTreeMap<String, Vec<Evidence>>,
    trees: BTreeMap<String, Vec<Evidence>>,
}

impl Collector<'_, '_> {
    /// A directory of configuration and everything below its module calls.
    fn directory(&mut self, directory: &str, chain: Vec<Evidence>) {
        let Some((resolved, links)) = resolve(self.modules.tree, directory) else {
            self.trees.entry(directory.to_owned()).or_insert(chain);
            return;
        };
        self.links(&links, &chain);
        if !self.seen.insert(resolved.clone()) {
            return;
        }
        self.inputs.directories.push(InputPath { path: resolved.as_str().into(), chain: chain.clone() });
        let found = if resolved == self.root { Some(self.module) } else { self.modules.get(&resolved) };
        let Some(module) = found else { return };
        // Files of the directory that are links lead to content elsewhere.
        if self.modules.tree.has_links() {
            for source in &module.files {
                if let Some((_, links)) = resolve(self.modules.tree, &source.path) {
                    self.links(&links, &chain);
                    if let Some((target, _)) =
                        resolve(self.modules.tree, &source.path).filter(|(target, _)| **target != *source.path)
                    {
                        self.path(
                            &target,
                            &[
                                chain.as_slice(),
                                &[Evidence { what: "symbolic link".into(), span: Span::file(source.path.clone()) }],
                            ]
                            .concat(),
                            false,
                        );
                    }
                }
            }
        }
        let modules = self.modules;
        // What the root reads depends on its instances, and is added by `collect`.
        if resolved != self.root
            && let Some(reads) = modules.reads(&resolved)
        {
            self.named(&resolved, &reads.named, &chain);
        }
        for (name, call) in &module.calls {
            let Some(source) = module.value(call, "source") else { continue };
            let evidence = Evidence { what: format!("module \"{name}\""), span: module.span(call.file, call.head) };
            let text = match source.literal() {
                Some(text) => text,
                // OpenTofu allows expressions: anything local could be meant.
                None => {
                    self.trees.entry(resolved.clone()).or_insert_with(|| [chain.as_slice(), &[evidence]].concat());
                    continue;
                }
            };
            if is_local(text) {
                if let Some(target) = join(&resolved, text) {
                    self.directory(&target, [chain.as_slice(), &[evidence]].concat());
                }
            } else {
                let reference = reference(text, module.literal(call, "version").as_deref());
                let module = RemoteModule {
                    source: text.to_owned(),
                    moving: is_moving(text, reference.as_deref()),
                    reference,
                    span: evidence.span,
                };
                if !self.inputs.remote_modules.contains(&module) {
                    self.inputs.remote_modules.push(module);
                }
            }
        }
    }

    fn named(&mut self, module: &str, named: &[Named], chain: &[Evidence]) {
        for named in named {
            let Some(path) = repository_path(&named.path, module, self.root) else { continue };
            let evidence = Evidence { what: named.what.clone(), span: named.span.clone() };
            self.path(&path, &[chain, &[evidence]].concat(), named.tree);
        }
    }

    fn path(&mut self, path: &str, chain: &[Evidence], tree: bool) {
        let path = match resolve(self.modules.tree, path) {
            Some((resolved, links)) => {
                self.links(&links, chain);
                resolved
            }
            None => path.to_owned(),
        };
        let map = if tree { &mut self.trees } else { &mut self.files };
        map.entry(path).or_insert_with(|| chain.to_vec());
    }

    fn links(&mut self, links: &[String], chain: &[Evidence]) {
        for link in links {
            let evidence = Evidence { what: "symbolic link".into(), span: Span::file(link.as_str()) };
            self.files.entry(link.clone()).or_insert_with(|| [chain, &[evidence]].concat());
        }
    }
}

pub fn is_local(source: &str) -> bool {
    source.starts_with("./") || source.starts_with("../") || source == "." || source == ".."
}

/// The version constraint, or the `ref` of a git source.
pub fn reference(source: &str, version: Option<&str>) -> Option<String> {
    let query = source.split_once('?').map(|(_, query)| query);
    let from_query = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("ref=")));
    from_query.or(version).map(str::to_owned)
}

/// Whether what a reference names can change: a branch, nothing at all, an open constraint. A tag is taken to stay.
pub fn is_moving(source: &str, reference: Option<&str>) -> bool {
    let git = source.starts_with("git::")
        || source.starts_with("git@")
        || source.starts_with("github.com/")
        || source.starts_with("bitbucket.org/")
        || source.contains(".git");
    match reference {
        None => git || !source.contains("://"),
        Some(reference) if git => {
            let commit = reference.len() >= 7 && reference.bytes().all(|b| b.is_ascii_hexdigit());
            let tag = reference
                .trim_start_matches(|c: char| !c.is_ascii_digit())
                .split(['.', '-'])
                .next()
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            let pinned = commit || (tag && reference.contains('.'));
            !pinned
        }
        Some(version) => !version.trim_start_matches('=').trim().bytes().all(|b| b.is_ascii_digit() || b == b'.'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_move() {
        let check = |source: &str, version: Option<&str>, want: bool| {
            let found = reference(source, version);
            assert_eq!(is_moving(source, found.as_deref()), want, "{source} {version:?}");
        };
        check("git::https://e.com/x.git//m?ref=master", None, true);
        check("git::https://e.com/x.git//m", None, true);
        check("git::https://e.com/x.git//m?ref=v1.2.0", None, false);
        check("git::https://e.com/x.git?depth=1&ref=0a1b2c3d", None, false);
        check("terraform-aws-modules/vpc/aws", Some("5.1.0"), false);
        check("terraform-aws-modules/vpc/aws", Some("~> 5.1"), true);
        check("terraform-aws-modules/vpc/aws", None, true);
    }
}
