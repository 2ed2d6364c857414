//! Windlass files: `windlass.hcl` at the root and `*.windlass.hcl` anywhere, into [`Definitions`]. All mistakes are collected.

mod changes;
mod check;
mod grant;
mod lint;
mod notifier;
mod oneline;
mod operation;
mod operation_schema;
mod parameter;
mod policy;
mod reader;
pub(crate) mod references;
mod rollout;
mod runner;
mod schedule;
mod schema;
mod step;
mod written;

use crate::eval::{Scope, Value, evaluate};
use crate::terraform::syntax::{Block, Expr, ExprKind};
use crate::tree::Tree;
pub(crate) use oneline::parse;
use reader::Reader;
use schema::{
    ApprovalsValues, Attributes, EnvironmentValues, InstanceValues, ProjectValues, StackValues, TOP, TeamValues,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use windlass_model::definition::{ApprovalRule, Definitions, Environment, InstanceDefinition, StackDefinition, Team};
use windlass_model::diagnostic::{Diagnostic, Span};

/// How a label is written: they are given on command lines, one after the other.
const LABEL: &str = "use letters, digits, `-`, `_` and `.`, as in `windlass worker --label production`";

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn check_runner(runner: Option<&str>, reader: &mut Reader<'_>) {
    if runner.is_some_and(|label| !is_label(label)) {
        reader.mistake("runner", "WL106", "`runner` is no label", LABEL);
    }
}

/// Whether a path is a Windlass file.
pub fn is_windlass_file(path: &str) -> bool {
    path == "windlass.hcl" || path.ends_with(".windlass.hcl")
}

/// Reads all Windlass files of a tree.
pub fn load(tree: &dyn Tree) -> (Definitions, Vec<Diagnostic>) {
    let mut files = Vec::new();
    let mut diagnostics = Vec::new();
    for path in tree.paths().iter().filter(|path| is_windlass_file(path)) {
        match tree.read(path) {
            Ok(Some(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => files.push((path.clone(), text)),
                Err(_) => diagnostics.push(
                    Diagnostic::error("WL202", format!("{path} is not UTF-8 text"))
                        .at(Span::file(path.clone()))
                        .help("save the file as UTF-8"),
                ),
            },
            Ok(None) => {}
            Err(error) => diagnostics
                .push(Diagnostic::error("WL203", format!("cannot read {path}: {error}")).at(Span::file(path.clone()))),
        }
    }
    let (definitions, found) = load_files(&files);
    diagnostics.extend(found);
    (definitions, diagnostics)
}

/// Reads these files (path, content).
pub fn load_files(files: &[(Arc<str>, String)]) -> (Definitions, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut blocks: Vec<(usize, Block)> = Vec::new();
    for (index, (path, text)) in files.iter().enumerate() {
        match parse(text) {
            Ok(mut body) => {
                references::resolve(path, text, &mut body, &mut diagnostics);
                for attribute in &body.attributes {
                    let span =
                        Span::of(path, text, attribute.name_range.start as usize, attribute.name_range.end as usize);
                    let diagnostic = Diagnostic::error(
                        "WL102",
                        format!("unknown attribute `{}` at the top of a Windlass file", attribute.name),
                    );
                    diagnostics.push(
                        diagnostic
                            .at_source(span, text, "only blocks are expected here")
                            .help("put it into a block, such as `project`, `stack`, `operation` or `locals`"),
                    );
                }
                blocks.extend(body.blocks.into_iter().map(|block| (index, block)));
            }
            Err(error) => {
                let at = error.at as usize;
                if let Some(diagnostic) = references::unreadable(path, text, at) {
                    diagnostics.push(diagnostic);
                    continue;
                }
                let what = error.message.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("not valid HCL");
                diagnostics.push(Diagnostic::error("WL101", format!("syntax error: {what}")).at_source(
                    Span::of(path, text, at, at + 1),
                    text,
                    "here",
                ));
            }
        }
    }
    let names = Names::new(&blocks);
    let templates = blocks.iter().filter(|(_, block)| block.kind == "template");
    let templates = templates.filter_map(|(file, block)| Some((block.labels.first()?.clone(), (*file, block))));
    let mut loader = Loader {
        files,
        names: &names,
        diagnostics,
        definitions: Definitions::default(),
        seen: HashMap::new(),
        templates: templates.collect(),
    };
    for (file, block) in &blocks {
        loader.top(*file, block);
    }
    loader.references(&blocks);
    loader.operations(&blocks);
    let Loader { definitions, mut diagnostics, .. } = loader;
    diagnostics.sort_by_key(|d| d.labels.first().map(|l| l.span.clone()));
    // What is wrong in a template is found again in every operation that is made of it.
    let mut told = std::collections::HashSet::new();
    diagnostics.retain(|d| told.insert((d.labels.first().map(|l| l.span.clone()), d.summary.clone())));
    (definitions, diagnostics)
}

/// Path and content.
type LoadedFile = (Arc<str>, String);

/// What expressions may refer to: `team.x`, `stack.a/b`, `local.x`.
struct Names {
    locals: HashMap<String, Expr>,
    known: RefCell<HashMap<String, Option<Value>>>,
    /// Those that expressions name which are evaluated later on.
    locals_used: RefCell<BTreeSet<String>>,
}

impl Names {
    fn new(blocks: &[(usize, Block)]) -> Self {
        let attributes = blocks.iter().filter(|(_, b)| b.kind == "locals").flat_map(|(_, b)| &b.body.attributes);
        Self {
            locals: attributes.map(|a| (a.name.clone(), a.value.clone())).collect(),
            known: RefCell::default(),
            locals_used: RefCell::default(),
        }
    }

    /// Remembers the locals that an expression names, for whoever evaluates it.
    fn note_locals(&self, expr: &Expr) {
        expr.walk(&mut |part| {
            if let ExprKind::Attribute(base, name) = &part.kind
                && matches!(&base.kind, ExprKind::Variable(root) if root == "local")
            {
                self.locals_used.borrow_mut().insert(name.clone());
            }
            true
        });
    }

    /// Values of those; what has none was told where it is defined, or is told where it is used.
    fn used_locals(&self) -> BTreeMap<String, serde_json::Value> {
        let names = self.locals_used.take();
        let value = |name: String| Some((self.lookup("local", Some(&name))?.to_json()?, name));
        names.into_iter().filter_map(value).map(|(value, name)| (name, value)).collect()
    }
}

/// How a text stands for an output of the stack.
const OUTPUT: &str = "${output.";

impl Scope for Names {
    fn lookup(&self, root: &str, name: Option<&str>) -> Option<Value> {
        // What else begins with `stack` was resolved before, and so was `team[…]`.
        match (root, name) {
            ("stack", None) => return Some(Value::unknown("`stack` needs a path, such as `stack.aws/network`")),
            ("team", None) => return Some(Value::unknown("`team` needs a name, such as `team.sre`")),
            _ => {}
        }
        match (root, name?) {
            ("team" | "notifier" | "template" | "service" | "host_set", name) => Some(Value::string(name)),
            ("param" | "step" | "each" | "secret" | "run" | "trigger" | "failure", _) => Some(Value::unknown(format!(
                "what begins with `{root}.` is known when the operation runs, and this has to be known before"
            ))),
            // Known when the stack has been applied; only kinds that wait for it take such a text.
            ("output", name) => Some(Value::string(format!("{OUTPUT}{name}}}"))),
            ("local", name) => {
                match self.known.borrow().get(name) {
                    Some(Some(value)) => return Some(value.clone()),
                    Some(None) => return Some(Value::unknown(format!("local `{name}` refers to itself"))),
                    None => {}
                }
                let Some(expr) = self.locals.get(name) else {
                    return Some(Value::unknown(format!("there is no local `{name}`")));
                };
                self.known.borrow_mut().insert(name.to_owned(), None);
                let value = evaluate(expr, self);
                self.known.borrow_mut().insert(name.to_owned(), Some(value.clone()));
                Some(value)
            }
            _ => None,
        }
    }
    fn file(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
}

struct Loader<'a> {
    files: &'a [(Arc<str>, String)],
    names: &'a Names,
    diagnostics: Vec<Diagnostic>,
    definitions: Definitions,
    /// First place of each named block, by kind and name.
    seen: HashMap<(String, String), Span>,
    /// By name.
    templates: HashMap<String, (usize, &'a Block)>,
}

impl<'a> Loader<'a> {
    fn read<'b, A: Attributes>(&'b mut self, file: usize, block: &'b Block) -> (A, Reader<'b>) {
        Reader::read(&self.files[file], block, self.names, &mut self.diagnostics)
    }

    /// The one label of a block, checked for presence and doubles.
    fn name(&mut self, file: usize, block: &Block, within: &str) -> Option<(String, Span)> {
        let (path, text) = &self.files[file];
        let span = Span::of(path, text, block.range.start as usize, block.range.end as usize);
        let [name] = block.labels.as_slice() else {
            let diagnostic = Diagnostic::error("WL103", format!("a `{}` block needs exactly one name", block.kind));
            self.diagnostics.push(
                diagnostic.at_source(span, text, "here").help(format!("write `{} \"name\" {{ … }}`", block.kind)),
            );
            return None;
        };
        let key = (format!("{within}{}", block.kind), name.clone());
        if let Some(first) = self.seen.get(&key) {
            let first_text = &self.files.iter().find(|(path, _)| *path == first.file).map_or("", |(_, text)| text);
            let diagnostic = Diagnostic::error("WL104", format!("{} \"{name}\" is defined twice", block.kind))
                .at_source(span, text, "again here");
            self.diagnostics.push(
                diagnostic.at_source(first.clone(), first_text, "first here").help("merge or rename one of them"),
            );
            return None;
        }
        self.seen.insert(key, span.clone());
        Some((name.clone(), span))
    }

    fn mistake_at(&mut self, file: usize, block: &Block, code: &str, summary: &str, help: &str) {
        let (path, text) = &self.files[file];
        let span = Span::of(path, text, block.range.start as usize, block.range.end as usize);
        self.diagnostics.push(Diagnostic::error(code, summary).at_source(span, text, "here").help(help));
    }

    fn top(&mut self, file: usize, block: &'a Block) {
        match block.kind.as_str() {
            "project" => self.project(file, block),
            "team" => self.team(file, block),
            "grant" => self.grant(file, block),
            "runner" => self.runner(file, block),
            "stack" => self.stack(file, block),
            "policy" => self.policy(file, block),
            "operation" => self.operation(file, block),
            "template" => self.template(file, block),
            "batch" => self.batch(file, block),
            "notifier" => self.notifier(file, block),
            "freeze" => self.freeze(file, block),
            "host_set" => self.host_set(file, block),
            "service" => self.service(file, block),
            "locals" => {
                for attribute in &block.body.attributes {
                    let (path, text) = &self.files[file];
                    let range = attribute.name_range;
                    let span = Span::of(path, text, range.start as usize, range.end as usize);
                    if let Some(first) = self.seen.insert(("local".into(), attribute.name.clone()), span.clone()) {
                        let diagnostic =
                            Diagnostic::error("WL104", format!("local `{}` is defined twice", attribute.name));
                        self.diagnostics.push(
                            diagnostic
                                .at_source(span, text, "again here")
                                .at(first)
                                .help("rename or remove one of them"),
                        );
                    }
                    let value = evaluate(&attribute.value, self.names);
                    if let Some(why) = value.why_unknown() {
                        let (path, text) = &self.files[file];
                        let span = Span::of(
                            path,
                            text,
                            attribute.value.range.start as usize,
                            attribute.value.range.end as usize,
                        );
                        self.diagnostics.push(
                            Diagnostic::error("WL105", format!("local `{}` has no value: {why}", attribute.name))
                                .at_source(span, text, "here"),
                        );
                    }
                }
            }
            _ => {
                let (path, text) = &self.files[file];
                self.diagnostics.push(reader::unknown_block(path, text, block, TOP));
            }
        }
    }

    fn project(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.name(file, block, "") else { return };
        if let Some(((_, _), first)) = self.seen.iter().find(|((kind, other), _)| kind == "project" && *other != name) {
            let text = &self.files[file].1;
            self.diagnostics.push(
                Diagnostic::error("WL104", "there are two `project` blocks")
                    .at_source(span, text, "again here")
                    .at(first.clone())
                    .help("a repository is one project"),
            );
            return;
        }
        self.definitions.project = Some(name);
        let (values, mut reader) = self.read::<ProjectValues>(file, block);
        let default_role = values.default_role.and_then(|name| grant::role(&mut reader, "default_role", &name));
        self.definitions.default_role = default_role;
        self.definitions.review_expires = values.review_expires;
        self.definitions.lint = self.lint(file, block);
        self.definitions.changes = self.changes(file, block);
        for inner in block.body.blocks.iter().filter(|b| b.kind == "environment") {
            self.environment(file, inner);
        }
        self.definitions.waivers = self.waivers(file, block);
        self.change_notify(file, block, None);
    }

    fn environment(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.name(file, block, "") else { return };
        let (EnvironmentValues { matches, runner, apply }, mut reader) = self.read(file, block);
        check_runner(runner.as_deref(), &mut reader);
        let apply = apply.and_then(|apply| changes::apply_when(&apply, &mut reader));
        let mut approvals = None;
        let blocks: Vec<&Block> = block.body.blocks.iter().filter(|b| b.kind == "approvals").collect();
        if let [first, second, ..] = blocks.as_slice() {
            let (path, text) = &self.files[file];
            let place = |block: &Block| Span::of(path, text, block.range.start as usize, block.range.end as usize);
            let diagnostic = Diagnostic::error("WL104", format!("environment \"{name}\" has two `approvals` blocks"));
            let diagnostic =
                diagnostic.at_source(place(second), text, "again here").at_source(place(first), text, "first here");
            self.diagnostics.push(diagnostic.help("an environment has one rule: merge them"));
        }
        for inner in blocks.into_iter().take(1) {
            let (values, _) = self.read::<ApprovalsValues>(file, inner);
            approvals = Some(ApprovalRule {
                count: values.count.unwrap_or(1),
                from: values.from,
                author_may_approve: values.author_may_approve.unwrap_or(false),
                unverified: values.unverified.unwrap_or(false),
            });
        }
        let rollout = self.rollout(file, block);
        self.change_notify(file, block, Some(&name));
        self.definitions.environments.push(Environment { name, matches, approvals, rollout, runner, apply, span });
    }

    fn team(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.name(file, block, "") else { return };
        let (TeamValues { members }, mut reader) = self.read(file, block);
        for member in &members {
            if !windlass_model::access::is_identity(member) {
                reader.mistake(
                    "members",
                    "WL106",
                    &format!("member `{member}` does not say what it is"),
                    "write e.g. \"user:NAME\", \"email:a@b.example\", \"github:org/team\" or \"oidc-group:NAME\"",
                );
            }
        }
        self.definitions.teams.push(Team { name, members, span });
    }

    fn stack(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.name(file, block, "") else { return };
        let (values, mut reader) = self.read::<StackValues>(file, block);
        if values.tool.as_deref().is_some_and(|tool| !matches!(tool, "terraform" | "tofu")) {
            reader.mistake(
                "tool",
                "WL106",
                "`tool` is \"terraform\" or \"tofu\"",
                "leave it out to take what the stack requires",
            );
        }
        check_runner(values.runner.as_deref(), &mut reader);
        let mut definition = StackDefinition {
            id: name.trim_end_matches('/').trim_start_matches("./").into(),
            owner: values.owner,
            regions: values.regions,
            instances: Vec::new(),
            after: values.after.into_iter().map(|s| s.as_str().into()).collect(),
            var_files: values.var_files,
            variables: values.variables,
            backend_config: text_map(values.backend_config),
            tool: values.tool,
            runner: values.runner,
            env: values.env,
            enabled: values.enabled.unwrap_or(true),
            protect: values.protect.unwrap_or(false),
            drift_ignore: values.drift_ignore,
            ready: Vec::new(),
            rollout: None,
            span,
        };
        let both = !definition.regions.is_empty() && block.body.blocks.iter().any(|b| b.kind == "instance");
        if both {
            reader.mistake(
                "regions",
                "WL107",
                "`regions` and `instance` blocks exclude each other",
                "keep the `instance` blocks when the regions differ in more than their name",
            );
        }
        definition.ready = self.ready(file, block);
        definition.rollout = self.rollout(file, block);
        for inner in block.body.blocks.iter().filter(|b| b.kind == "instance") {
            let Some((key, span)) = self.name(file, inner, &format!("{}/", definition.id)) else { continue };
            let (values, _) = self.read::<InstanceValues>(file, inner);
            definition.instances.push(InstanceDefinition {
                key,
                workspace: values.workspace,
                var_files: values.var_files,
                variables: values.variables,
                backend_config: text_map(values.backend_config),
                span,
            });
        }
        self.definitions.stacks.push(definition);
    }

    /// Checks the operations as a whole, and leaves out those that have mistakes.
    fn operations(&mut self, blocks: &[(usize, Block)]) {
        let named = blocks.iter().filter(|(_, block)| matches!(block.kind.as_str(), "operation" | "batch"));
        let names = named.filter_map(|(_, block)| block.labels.first().cloned()).collect();
        let mut wrong = BTreeSet::new();
        for (at, diagnostic) in check::check(self.files, &self.definitions, &names) {
            wrong.extend(at);
            self.diagnostics.push(diagnostic);
        }
        let mut at = 0..;
        self.definitions.operations.retain(|_| at.next().is_some_and(|at| !wrong.contains(&at)));
    }

    /// Teams, environments, notifiers and runners that are named but not defined.
    fn references(&mut self, blocks: &[(usize, Block)]) {
        let names = |of: &mut dyn Iterator<Item = &String>| of.cloned().collect::<Vec<_>>();
        let teams = names(&mut self.definitions.teams.iter().map(|t| &t.name));
        let environments = names(&mut self.definitions.environments.iter().map(|e| &e.name));
        let runners = names(&mut self.definitions.runners.iter().map(|r| &r.name));
        let notifiers = blocks.iter().filter(|(_, block)| block.kind == "notifier");
        let notifiers = names(&mut notifiers.filter_map(|(_, block)| block.labels.first()));
        let mut named: Vec<(usize, &Expr, Named)> = Vec::new();
        for (file, block) in blocks {
            named_in(*file, block, None, &mut named);
        }
        for (file, expr, what) in named {
            let known = match what {
                Named::Team => &teams,
                Named::Environment => &environments,
                Named::Runner => &runners,
                Named::Notifier => &notifiers,
            };
            let values = match evaluate(expr, self.names) {
                Value::List(items) => items,
                single => vec![single],
            };
            for name in values.iter().filter_map(Value::as_text) {
                if known.iter().any(|known| **known == *name) {
                    continue;
                }
                let (path, text) = &self.files[file];
                let span = Span::of(path, text, expr.range.start as usize, expr.range.end as usize);
                let kind = what.kind();
                let diagnostic = Diagnostic::error(what.code(), format!("there is no {kind} \"{name}\"")).at_source(
                    span,
                    text,
                    "named here",
                );
                self.diagnostics.push(match crate::suggest(&name, known.iter().map(String::as_str)) {
                    Some(near) => diagnostic.help(format!("did you mean \"{near}\"?")),
                    None => diagnostic.help(what.way_out(&name)),
                });
            }
        }
    }
}

/// Attributes of a block, and of those in it, that name something.
fn named_in<'b>(file: usize, block: &'b Block, around: Option<&str>, out: &mut Vec<(usize, &'b Expr, Named)>) {
    let attributes: &[(&str, Named)] = match (around, block.kind.as_str()) {
        (None, "stack" | "service") => &[("owner", Named::Team)],
        (None, "grant") => &[("to", Named::Team), ("environments", Named::Environment)],
        (None, "freeze") => &[("environments", Named::Environment)],
        (None, "operation" | "template" | "batch") => {
            &[("owner", Named::Team), ("allow", Named::Team), ("break_glass", Named::Team)]
        }
        (Some("policy" | "project"), "waivers") => &[("from", Named::Team)],
        (Some("lint"), "tool") => &[("runner", Named::Runner)],
        (Some("operation" | "template" | "batch"), "grant") => &[("to", Named::Team)],
        (Some(_), "approvals" | "approval" | "ask") => &[("from", Named::Team)],
        (Some("checklist"), "before" | "during" | "after") => &[("from", Named::Team)],
        (Some(_), "notify") => &[("to", Named::Notifier)],
        _ => &[],
    };
    for (attribute, what) in attributes {
        out.extend(block.body.value(attribute).map(|expr| (file, expr, *what)));
    }
    for inner in &block.body.blocks {
        named_in(file, inner, Some(&block.kind), out);
    }
}

/// What a name in an attribute stands for.
#[derive(Debug, Clone, Copy)]
enum Named {
    Team,
    Environment,
    /// One with a block.
    Runner,
    Notifier,
}

impl Named {
    fn kind(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Environment => "environment",
            Self::Runner => "runner",
            Self::Notifier => "notifier",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Team => "WL108",
            Self::Environment => "WL113",
            Self::Runner => "WL879",
            Self::Notifier => "WL121",
        }
    }

    fn way_out(self, name: &str) -> String {
        match self {
            Self::Team => format!("define it: team \"{name}\" {{ members = [ … ] }}"),
            Self::Environment => format!("define it in `project`: environment \"{name}\" {{ match = [ … ] }}"),
            Self::Runner => format!("define it: runner \"{name}\" {{ container {{ image = … }} }}"),
            Self::Notifier => format!("define it: notifier \"{name}\" {{ webhook {{ url = secret.hook }} }}"),
        }
    }
}

fn text_map(map: BTreeMap<String, serde_json::Value>) -> BTreeMap<String, String> {
    map.into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect()
}

#[cfg(test)]
mod operation_tests;
#[cfg(test)]
mod tests;
