//! What configuration says that terraform accepts and a reader would not: declarations nobody uses, modules that move, secrets in
//! outputs, paths of one person's machine. All of it is a warning.
//!
//! `# windlass:ignore WL701` on a line, or on the one above it, takes the warnings of these codes about that line back.

use crate::discovery::{Modules, is_local, is_moving, reference};
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

/// Warnings about the modules of these directories, by file and line. Who calls a module is looked for in the whole tree.
pub fn lint(modules: &Modules<'_>, wanted: impl Fn(&str) -> bool + Sync) -> Vec<Diagnostic> {
    let used = used_outputs(modules);
    let mut found = Vec::new();
    for directory in modules.names().filter(|directory| wanted(directory)) {
        let Some(module) = modules.get(directory) else { continue };
        // A file that could not be read may use anything.
        if !module.mistakes().is_empty() {
            continue;
        }
        let mut lint = Lint { module, found: Vec::new() };
        lint.unused_declarations();
        lint.unused_outputs(used.get(directory));
        lint.moving_modules();
        lint.secrets_in_outputs();
        lint.machine_paths();
        lint.missing_descriptions();
        found.extend(lint.found);
    }
    found.sort_by_key(|d: &Diagnostic| (d.labels.first().map(|l| l.span.clone()), d.code.clone(), d.summary.clone()));
    found.dedup();
    found
}

/// Which outputs of a local module its callers use.
enum Used {
    /// A caller uses the module as a whole.
    All,
    These(BTreeSet<String>),
}

/// By directory of the module; only those that something in the tree calls.
fn used_outputs(modules: &Modules<'_>) -> BTreeMap<String, Used> {
    let mut used: BTreeMap<String, Used> = BTreeMap::new();
    for directory in modules.names() {
        let Some(module) = modules.get(directory) else { continue };
        let children = crate::discovery::children(modules, module);
        if children.is_empty() {
            continue;
        }
        let mut by_name: BTreeMap<&str, Used> = BTreeMap::new();
        each_expression(module, |_, expr| expr.walk(&mut |inner| note_module(inner, &mut by_name)));
        for (call, target) in children {
            let name = call.labels.first().map(String::as_str).unwrap_or_default();
            let here = by_name.remove(name).unwrap_or(Used::These(BTreeSet::new()));
            let all = used.entry(target).or_insert(Used::These(BTreeSet::new()));
            match (all, here) {
                (Used::All, _) => {}
                (all, Used::All) => *all = Used::All,
                (Used::These(all), Used::These(here)) => all.extend(here),
            }
        }
    }
    used
}

/// `module.NAME.OUTPUT`, also with an index or a splat between; anything else with `module.NAME` uses all of it.
fn note_module<'e>(expr: &'e Expr, by_name: &mut BTreeMap<&'e str, Used>) -> bool {
    if let ExprKind::Attribute(base, output) = &expr.kind {
        let called = match &base.kind {
            ExprKind::Index(inner, index) => called(inner).filter(|_| index.literal().is_some() || is_plain(index)),
            _ => called(base),
        };
        if let Some(name) = called {
            if let Used::These(outputs) = by_name.entry(name).or_insert(Used::These(BTreeSet::new())) {
                outputs.insert(output.clone());
            }
            return false;
        }
    }
    if let ExprKind::Splat(base, rest) = &expr.kind
        && let (Some(name), Some(Access::Attribute(output))) = (called(base), rest.first())
    {
        if let Used::These(outputs) = by_name.entry(name).or_insert(Used::These(BTreeSet::new())) {
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
        let span = self.module.span(file, range);
        let text = &self.module.files[file].text;
        if !is_ignored(text, &span, code) {
            self.found.push(Diagnostic::warning(code, summary).at_source(span, text, "").help(help));
        }
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

    /// WL703: outputs of a module that is called here, which no caller uses.
    fn unused_outputs(&mut self, used: Option<&Used>) {
        let Some(Used::These(used)) = used else { return };
        for (name, item) in &self.module.outputs {
            if !used.contains(name) {
                let summary = format!("output `{name}` is used by no caller of this module");
                self.warn(
                    "WL703",
                    item.file,
                    item.head,
                    summary,
                    "remove it, unless it is meant for other repositories",
                );
            }
        }
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
