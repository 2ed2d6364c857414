//! What configuration says that terraform accepts and a reader would not: declarations nobody uses, modules that move, secrets in
//! outputs, paths of one person's machine. All of it is a warning.
//!
//! `# windlass:ignore WL701` on a line, or on the one above it, takes the warnings of these codes about that line back.

use crate::discovery::{Modules, is_local, is_moving, parallel, reference};
use crate::terraform::module::{Item, Module};
use crate::terraform::syntax::{Access, Expr, ExprKind, Range};
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::diagnostic::{Diagnostic, Span};

/// Words in the name of an output that hold a secret as a rule.
const SECRETS: [&str; 9] = [
    "password",
    "passwd",
    "secret",
    "token",
    "private_key",
    "api_key",
    "access_key",
    "credential",
    "connection_string",
];
/// Words that make a name with one of [`SECRETS`] harmless.
const ABOUT_SECRETS: [&str; 11] =
    ["_arn", "_id", "_name", "_path", "_policy", "_length", "_version", "_ttl", "_url", "_rotation", "_enabled"];
/// Directories whose modules are offered to others.
const CATALOGUE: [&str; 3] = ["modules", "catalog", "catalogue"];

/// How sources end that name no directory.
const UPWARDS: [&str; 4] = ["..\"", "../\"", "\".\"", "\"./\""];

/// Warnings about the modules of these directories, by file and line. Who calls a module is looked for in the whole tree; nothing
/// that was read is kept.
pub fn lint(modules: &Modules<'_>, wanted: impl Fn(&str) -> bool + Sync) -> Vec<Diagnostic> {
    // A caller names the last segment of the directory, or goes up to it: only modules that do are read.
    let names: BTreeSet<&str> =
        modules.names().filter(|directory| wanted(directory)).map(|d| d.rsplit('/').next().unwrap_or(d)).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).chain(UPWARDS).collect();
    // Behind a link it may have any name.
    let has_links = modules.tree.has_links();
    let directories: Vec<&str> = modules.names().collect();
    let looked = parallel(&directories, |directory| {
        let is_wanted = wanted(directory);
        if !is_wanted && !has_links && !modules.mentions(directory, &names) {
            return Looked::default();
        }
        modules.read(directory).map(|module| look(modules, &module, is_wanted)).unwrap_or_default()
    });
    let mut used: BTreeMap<String, Used> = BTreeMap::new();
    let (mut found, mut outputs) = (Vec::new(), Vec::new());
    for (directory, looked) in directories.iter().zip(looked) {
        looked.uses.into_iter().for_each(|(target, uses)| used.entry(target).or_default().add(uses));
        found.extend(looked.found);
        outputs.extend(looked.outputs.into_iter().map(|(name, diagnostic)| (*directory, name, diagnostic)));
    }
    // Outputs of modules that something here calls, and no caller uses.
    let unused = outputs.into_iter().filter(|(directory, name, _)| match used.get(*directory) {
        Some(Used::These(names)) => !names.contains(name),
        Some(Used::All) | None => false,
    });
    found.extend(unused.map(|(_, _, diagnostic)| diagnostic));
    found.sort_by_key(|d: &Diagnostic| (d.labels.first().map(|l| l.span.clone()), d.code.clone(), d.summary.clone()));
    found.dedup();
    found
}

/// What one module says.
#[derive(Default)]
struct Looked {
    found: Vec<Diagnostic>,
    /// Outputs by name, with what is told when no caller uses them.
    outputs: Vec<(String, Diagnostic)>,
    /// What it uses of the modules in these directories.
    uses: Vec<(String, Used)>,
}

fn look(modules: &Modules<'_>, module: &Module, is_wanted: bool) -> Looked {
    let uses = uses(modules, module);
    // A file that could not be read may use anything.
    if !is_wanted || !module.mistakes().is_empty() {
        return Looked { uses, ..Looked::default() };
    }
    let mut lint = Lint { module, found: Vec::new() };
    lint.unused_declarations();
    lint.moving_modules();
    lint.secrets_in_outputs();
    lint.machine_paths();
    lint.missing_descriptions();
    let outputs = lint.outputs();
    Looked { found: lint.found, outputs, uses }
}

/// Which outputs of a local module its callers use.
enum Used {
    /// A caller uses the module as a whole.
    All,
    These(BTreeSet<String>),
}

impl Default for Used {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Used {
    fn add(&mut self, more: Self) {
        match (self, more) {
            (Self::All, _) => {}
            (all, Self::All) => *all = Self::All,
            (Self::These(all), Self::These(more)) => all.extend(more),
        }
    }
}

/// What a module uses of the local modules that it calls, by their directories.
fn uses(modules: &Modules<'_>, module: &Module) -> Vec<(String, Used)> {
    let children = crate::discovery::children(modules, module);
    if children.is_empty() {
        return Vec::new();
    }
    let mut by_name: BTreeMap<&str, Used> = BTreeMap::new();
    each_expression(module, |_, expr| expr.walk(&mut |inner| note_module(inner, &mut by_name)));
    let name = |call: &Item| call.labels.first().map(String::as_str).unwrap_or_default().to_owned();
    children
        .into_iter()
        .map(|(call, target)| (target, by_name.remove(name(call).as_str()).unwrap_or_default()))
        .collect()
}

/// `module.NAME.OUTPUT`, also with an index or a splat between; anything else with `module.NAME` uses all of it.
fn note_module<'e>(expr: &'e Expr, by_name: &mut BTreeMap<&'e str, Used>) -> bool {
    if let ExprKind::Attribute(base, output) = &expr.kind {
        let called = match &base.kind {
            ExprKind::Index(inner, index) => called(inner).filter(|_| index.literal().is_some() || is_plain(index)),
            _ => called(base),
        };
        if let Some(name) = called {
            if let Used::These(outputs) = by_name.entry(name).or_default() {
                outputs.insert(output.clone());
            }
            return false;
        }
    }
    if let ExprKind::Splat(base, rest) = &expr.kind
        && let (Some(name), Some(Access::Attribute(output))) = (called(base), rest.first())
    {
        if let Used::These(outputs) = by_name.entry(name).or_default() {
            outputs.insert(output.clone());
        }
        return false;
    }
    if let Some(name) = called(expr) {
        by_name.insert(name, Used::All);
        return false;
    }
    true
}

/// An index that refers to no module itself.
fn is_plain(index: &Expr) -> bool {
    let mut plain = true;
    index.walk(&mut |inner| {
        plain &= called(inner).is_none();
        plain
    });
    plain
}

/// `module.NAME`.
fn called(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Attribute(base, name) if base.kind == ExprKind::Variable("module".into()) => Some(name),
        _ => None,
    }
}

fn items(module: &Module) -> impl Iterator<Item = &Item> {
    module
        .variables
        .values()
        .chain(module.outputs.values())
        .chain(module.calls.values())
        .chain(module.remote_states.values())
        .chain(&module.providers)
        .chain(&module.others)
        .chain(&module.backend)
        .chain(&module.cloud)
}

fn each_expression<'m>(module: &'m Module, mut visit: impl FnMut(usize, &'m Expr)) {
    for local in module.locals.values() {
        visit(local.file, module.local_value(local));
    }
    for item in items(module) {
        module.body(item).visit(&mut |expr| visit(item.file, expr));
    }
}

struct Lint<'m> {
    module: &'m Module,
    found: Vec<Diagnostic>,
}

impl<'m> Lint<'m> {
    fn warn(&mut self, code: &'static str, file: usize, range: Range, summary: String, help: impl Into<String>) {
        let told = self.told(code, file, range, summary, help);
        self.found.extend(told);
    }

    /// The warning, unless a comment takes it back.
    fn told(
        &self,
        code: &'static str,
        file: usize,
        range: Range,
        summary: String,
        help: impl Into<String>,
    ) -> Option<Diagnostic> {
        let span = self.module.span(file, range);
        let text = &self.module.files[file].text;
        let wanted = !is_ignored(text, &span, code);
        wanted.then(|| Diagnostic::warning(code, summary).at_source(span, text, "").help(help))
    }

    /// WL701, WL702: variables and locals that nothing refers to. A variable's own validation is no use of it.
    fn unused_declarations(&mut self) {
        let module = self.module;
        let mut used: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut note = |own: Option<&str>, expr: &'m Expr| {
            expr.walk(&mut |inner| {
                if let ExprKind::Attribute(base, name) = &inner.kind
                    && let ExprKind::Variable(root) = &base.kind
                    && matches!(root.as_str(), "var" | "local")
                    && (root != "var" || own != Some(name.as_str()))
                {
                    used.insert((root.as_str(), name.as_str()));
                }
                true
            });
        };
        for local in module.locals.values() {
            note(None, module.local_value(local));
        }
        for item in items(module) {
            let own = (item.kind == "variable").then(|| item.labels.first().map(String::as_str)).flatten();
            module.body(item).visit(&mut |expr| note(own, expr));
        }
        // JSON expressions in places that have no syntax tree, and templates, are searched as text.
        let text = |kind: &str, name: &str| {
            let needle = format!("{kind}.{name}");
            let files = module.files.iter().filter(|file| file.path.ends_with(".json"));
            files.into_iter().any(|file| file.text.contains(&needle))
        };
        for (name, item) in &module.variables {
            if !used.contains(&("var", name)) && !text("var", name) {
                let summary = format!("variable `{name}` is not used");
                self.warn("WL701", item.file, item.head, summary, "remove it, and what callers pass to it");
            }
        }
        for (name, local) in &module.locals {
            if !used.contains(&("local", name)) && !text("local", name) {
                let summary = format!("local `{name}` is not used");
                self.warn("WL702", local.file, local.name_range, summary, "remove it");
            }
        }
    }

    /// WL703: its outputs, with what is told where the module is called and no caller uses them.
    fn outputs(&self) -> Vec<(String, Diagnostic)> {
        let told = |(name, item): (&String, &Item)| {
            let summary = format!("output `{name}` is used by no caller of this module");
            let help = "remove it, unless it is meant for other repositories";
            Some((name.clone(), self.told("WL703", item.file, item.head, summary, help)?))
        };
        self.module.outputs.iter().filter_map(told).collect()
    }

    /// WL704: remote modules whose content can change without a change here.
    fn moving_modules(&mut self) {
        for (name, call) in &self.module.calls {
            let Some(source) = self.module.literal(call, "source").filter(|source| !is_local(source)) else { continue };
            let reference = reference(&source, self.module.literal(call, "version").as_deref());
            if !is_moving(&source, reference.as_deref()) {
                continue;
            }
            let (what, help) = match &reference {
                Some(reference) => (format!("moves with `{reference}`"), "name a tag, a commit, or one exact version"),
                None if source.contains("://") || source.contains(".git") => {
                    ("has no `ref`".to_owned(), "add `?ref=` with a tag or a commit to its source")
                }
                None => ("has no `version`".to_owned(), "add `version = \"…\"` with one exact version"),
            };
            self.warn("WL704", call.file, call.head, format!("module \"{name}\" is not pinned: it {what}"), help);
        }
    }

    /// WL705: outputs that look like secrets and do not say `sensitive`.
    fn secrets_in_outputs(&mut self) {
        for (name, item) in &self.module.outputs {
            let body = self.module.body(item);
            if body.value("sensitive").is_some_and(|expr| expr.kind != ExprKind::Bool(false)) {
                continue;
            }
            let Some(value) = body.value("value") else { continue };
            let shown = if is_secret(name) { Some(name.as_str()) } else { last_name(value).filter(|n| is_secret(n)) };
            if let Some(shown) =
                shown.filter(|_| !matches!(value.kind, ExprKind::Call(ref f, ..) if f == "nonsensitive"))
            {
                let summary =
                    format!("output `{name}` gives `{shown}` away to everybody who can read the state's outputs");
                self.warn("WL705", item.file, item.head, summary, "add `sensitive = true`");
            }
        }
    }

    /// WL706: paths that exist on one person's machine.
    fn machine_paths(&mut self) {
        let mut places = Vec::new();
        each_expression(self.module, |file, expr| {
            expr.walk(&mut |inner| {
                if let Some(text) = inner.literal()
                    && is_machine_path(text)
                {
                    places.push((file, inner.range, text.to_owned()));
                }
                true
            });
        });
        for (file, range, text) in places {
            let shown: String = text.chars().take(60).collect();
            let summary = format!("`{shown}` is a path of one person's machine");
            self.warn(
                "WL706",
                file,
                range,
                summary,
                "make it relative to `${path.module}`, or a variable without a default",
            );
        }
    }

    /// WL707: what a module of a catalogue takes and gives, without a word about it.
    fn missing_descriptions(&mut self) {
        let mut segments = self.module.directory.split('/');
        let offered = segments.any(|segment| CATALOGUE.contains(&segment));
        if !offered || self.module.backend.is_some() || self.module.cloud.is_some() {
            return;
        }
        let module = self.module;
        let undescribed = |item: &&Item| {
            let described = module.body(item).value("description").is_some_and(|e| e.literal() != Some(""));
            let span = module.span(item.file, item.head);
            !described && !is_ignored(&module.files[item.file].text, &span, "WL707")
        };
        let found: Vec<&Item> = module.variables.values().chain(module.outputs.values()).filter(undescribed).collect();
        // One sentence for all of them: they are mended together.
        let Some(first) = found.first() else { return };
        let shown: Vec<String> = found
            .iter()
            .take(4)
            .map(|item| format!("{} `{}`", item.kind, item.labels.first().map_or("", String::as_str)))
            .collect();
        let more = found.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let summary = format!("a shared module does not describe {}{more}", shown.join(", "));
        self.warn("WL707", first.file, first.head, summary, "add `description = \"…\"`: forms and reviews show it");
    }
}

/// `# windlass:ignore CODE …` on the first line of the place, or above it.
fn is_ignored(text: &str, span: &Span, code: &str) -> bool {
    let line = span.line.saturating_sub(1) as usize;
    let lines = text.lines().skip(line.saturating_sub(1)).take(if line == 0 { 1 } else { 2 });
    let mut marks = lines.filter_map(|line| {
        let comment = line.find('#').or_else(|| line.find("//"))?;
        line[comment..].split_once("windlass:ignore").map(|(_, codes)| codes)
    });
    marks.any(|codes| codes.split([' ', ',']).any(|word| word == code))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRETS.iter().any(|word| name.contains(word))
        && !ABOUT_SECRETS.iter().any(|end| name.ends_with(end))
        && !name.starts_with("secret_manager")
}

/// `aws_db_instance.x.password` → `password`.
fn last_name(expr: &Expr) -> Option<&str> {
    match &expr.kind {
        ExprKind::Attribute(_, name) => Some(name),
        ExprKind::Index(base, _) => last_name(base),
        _ => None,
    }
}

fn is_machine_path(text: &str) -> bool {
    let user = |rest: &str| rest.split('/').next().is_some_and(|user| !user.is_empty() && !is_machine_account(user));
    text.strip_prefix("/home/").or_else(|| text.strip_prefix("/Users/")).is_some_and(user)
        || text.starts_with("~/")
        || text.get(1..9).is_some_and(|rest| rest.eq_ignore_ascii_case(":\\Users\\"))
}

/// Accounts that images bring along: a path in their home is one of a server.
fn is_machine_account(user: &str) -> bool {
    ["ubuntu", "ec2-user", "centos", "admin", "debian", "azureuser", "core", "opc", "rocky", "fedora", "Shared"]
        .contains(&user)
}

#[cfg(test)]
mod tests;
