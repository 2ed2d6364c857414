//! One directory as Terraform reads it: which files count, overrides, and the blocks by what they are.

use super::scan::{self, Part};
use super::syntax::{self, Attribute, Block, Body, Expr, Range};
use crate::tree::Tree;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use windlass_model::diagnostic::{Diagnostic, Span};

#[derive(Debug)]
pub struct SourceFile {
    pub path: Arc<str>,
    pub text: String,
}

/// A block of a module. Its content is parsed when it is asked for.
#[derive(Debug)]
pub struct Item {
    /// An index into [`Module::files`].
    pub file: usize,
    pub kind: String,
    pub labels: Vec<String>,
    /// Type and labels.
    pub head: Range,
    /// From the type to the closing brace.
    whole: Range,
    /// It may read files (see [`scan::can_read_files`]).
    pub reads: bool,
    body: OnceLock<Body>,
}

/// A local value, parsed when it is asked for.
#[derive(Debug)]
pub struct Local {
    pub file: usize,
    pub name_range: Range,
    /// See [`Item::reads`].
    pub reads: bool,
    text: Range,
    value: OnceLock<Expr>,
}

#[derive(Debug, Default)]
pub struct Module {
    /// Directory, relative to the repository root; empty for the root.
    pub directory: Arc<str>,
    pub files: Vec<SourceFile>,
    /// It has `.tofu` files.
    pub tofu: bool,
    pub variables: BTreeMap<String, Item>,
    pub locals: BTreeMap<String, Local>,
    pub outputs: BTreeMap<String, Item>,
    pub calls: BTreeMap<String, Item>,
    pub providers: Vec<Item>,
    pub backend: Option<Item>,
    pub cloud: Option<Item>,
    pub required_versions: Vec<String>,
    pub remote_states: BTreeMap<String, Item>,
    /// Everything else that was parsed: resources, data sources, checks, `moved`, `import`, `removed`.
    pub others: Vec<Item>,
    /// It has resources or data sources, parsed or not.
    pub has_resources: bool,
    pub mentions_workspace: bool,
    pub diagnostics: Vec<Diagnostic>,
    /// Mistakes found in what was parsed later.
    late: Mutex<Vec<Diagnostic>>,
}

/// How much of the files is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What edges and inputs need, when they need it: resources and outputs only where they can read files.
    Edges,
    /// Also what tells which outputs are consumed, at once.
    Needed,
    /// All of it, for diagnostics.
    All,
}

/// What refers to a remote state, directly or under another name.
const REFERENCES: [&str; 3] = ["remote_state", "local.", "var."];

/// Whether a file name (without directory) is configuration that Terraform or OpenTofu reads.
pub fn is_configuration(name: &str) -> bool {
    if name.starts_with('.') || name.ends_with('~') || (name.starts_with('#') && name.ends_with('#')) {
        return false;
    }
    [".tf", ".tf.json", ".tofu", ".tofu.json"].iter().any(|suffix| name.ends_with(suffix))
}

fn stem(name: &str) -> &str {
    [".tf.json", ".tofu.json", ".tf", ".tofu"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// The configuration files of a directory in the order Terraform merges them: ordinary ones by name, then overrides. A `.tofu`
/// file shadows the `.tf` file of the same name.
fn in_order<'a>(names: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let shadowed = |name: &str| {
        let other = name
            .strip_suffix(".tf")
            .map(|s| format!("{s}.tofu"))
            .or_else(|| name.strip_suffix(".tf.json").map(|s| format!("{s}.tofu.json")));
        other.is_some_and(|other| names.contains(&other.as_str()))
    };
    let mut kept: Vec<&str> = names.iter().copied().filter(|name| !shadowed(name)).collect();
    kept.sort_unstable();
    kept.into_iter().partition(|name| !(stem(name) == "override" || stem(name).ends_with("_override")))
}

impl Module {
    /// Reads the module in `directory`, whose configuration files are `names`.
    pub fn load(tree: &dyn Tree, directory: &str, names: &[&str], depth: Depth) -> Self {
        let mut module = Self { directory: directory.into(), ..Self::default() };
        module.tofu = names.iter().any(|name| name.ends_with(".tofu") || name.ends_with(".tofu.json"));
        let (ordinary, overrides) = in_order(names);
        for name in ordinary {
            for item in module.read(tree, directory, name, depth) {
                module.add(item);
            }
        }
        for name in overrides {
            for item in module.read(tree, directory, name, depth) {
                module.override_with(item);
            }
        }
        module
    }

    pub fn span(&self, file: usize, range: Range) -> Span {
        let source = &self.files[file];
        Span::of(&source.path, &source.text, range.start as usize, range.end as usize)
    }

    pub fn diagnostic(&self, diagnostic: Diagnostic, file: usize, range: Range, message: &str) -> Diagnostic {
        diagnostic.at_source(self.span(file, range), &self.files[file].text, message)
    }

    fn read(&mut self, tree: &dyn Tree, directory: &str, name: &str, depth: Depth) -> Vec<Item> {
        let path: Arc<str> = if directory.is_empty() { name.into() } else { format!("{directory}/{name}").into() };
        let resolved = crate::tree::resolve(tree, &path).map(|(resolved, _)| resolved);
        let bytes = match resolved.map(|resolved| tree.read(&resolved)) {
            Some(Ok(Some(bytes))) => bytes,
            // Listed, but gone from the work tree.
            Some(Ok(None)) if tree.link(&path).is_none() => return Vec::new(),
            Some(Err(error)) => {
                self.diagnostics
                    .push(Diagnostic::error("WL203", format!("cannot read {path}: {error}")).at(Span::file(path)));
                return Vec::new();
            }
            _ => {
                let diagnostic = Diagnostic::error("WL203", format!("{path} is a symbolic link that leads nowhere"))
                    .at(Span::file(path));
                self.diagnostics.push(diagnostic.help("correct or remove the link"));
                return Vec::new();
            }
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count() as u32 + 1;
                let span = Span { line, end_line: line, ..Span::file(path.clone()) };
                self.diagnostics.push(
                    Diagnostic::error("WL202", format!("{path} is not UTF-8 text"))
                        .at(span)
                        .help("save the file as UTF-8"),
                );
                return Vec::new();
            }
        };
        self.mentions_workspace |= memchr::memmem::find(text.as_bytes(), b"terraform.workspace").is_some();
        let parsed = self.parse(name, &text, depth);
        self.files.push(SourceFile { path, text });
        parsed.unwrap_or_else(|error| {
            let diagnostic = self.syntax_error(self.files.len() - 1, &error);
            self.diagnostics.push(diagnostic);
            Vec::new()
        })
    }

    /// The blocks of a file. Slices that are not needed are left out, the others parsed now or later as `depth` says.
    fn parse(&mut self, name: &str, text: &str, depth: Depth) -> Result<Vec<Item>, syntax::SyntaxError> {
        let file = self.files.len();
        let parsed = |module: &mut Self, body: Body| {
            module.has_resources |= body.blocks.iter().any(|b| matches!(b.kind.as_str(), "resource" | "data"));
            Ok(body.blocks.into_iter().map(|block| Item::parsed(file, block)).collect())
        };
        if name.ends_with(".json") {
            return parsed(self, syntax::parse_json(text)?);
        }
        let ranges = if depth == Depth::All { None } else { scan::items(text) };
        let Some(ranges) = ranges else { return parsed(self, syntax::parse_native(text, 0)?) };
        let mut items = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            let slice = &text[start..end];
            let state = slice.starts_with("data") && slice.contains("terraform_remote_state");
            let resource = slice.starts_with("resource") || (slice.starts_with("data") && !state);
            self.has_resources |= resource || state;
            let skippable = resource || (depth == Depth::Edges && slice.starts_with("output"));
            let reads = scan::can_read_files(slice);
            let refers = depth == Depth::Needed && REFERENCES.iter().any(|needle| slice.contains(needle));
            if skippable && !reads && !refers {
                continue;
            }
            if depth == Depth::Edges
                && let Some(head) = scan::head(text, start)
            {
                items.push(Item {
                    file,
                    kind: head.kind.to_owned(),
                    labels: head.labels.into_iter().map(str::to_owned).collect(),
                    head: range(start, head.end),
                    whole: range(start, end),
                    reads,
                    body: OnceLock::new(),
                });
                continue;
            }
            match syntax::parse_native(slice, start as u32) {
                Ok(body) => items.extend(body.blocks.into_iter().map(|block| Item::parsed(file, block))),
                // The whole file tells the place and the reason better than a slice.
                Err(_) => return parsed(self, syntax::parse_native(text, 0)?),
            }
        }
        Ok(items)
    }

    /// The content of a block.
    pub fn body<'m>(&'m self, item: &'m Item) -> &'m Body {
        item.body.get_or_init(|| {
            let text = &self.files[item.file].text;
            if let Some(body) = by_parts(text, item.whole.start as usize, item.whole.end as usize) {
                return body;
            }
            let slice = &text[item.whole.start as usize..item.whole.end as usize];
            match syntax::parse_native(slice, item.whole.start) {
                Ok(body) => body.blocks.into_iter().next().map(|block| block.body).unwrap_or_default(),
                Err(error) => {
                    self.mistake_later(item.file, error);
                    Body::default()
                }
            }
        })
    }

    /// One attribute of a block, without parsing the rest of it where that can be avoided.
    pub fn value<'m>(&'m self, item: &'m Item, name: &str) -> Option<Cow<'m, Expr>> {
        if item.body.get().is_none()
            && let Some(parts) = self.parts(item)
        {
            let found = parts.into_iter().find_map(|part| match part {
                Part::Attribute(found, _, value) if found == name => Some(value),
                _ => None,
            });
            let (start, end) = found?;
            let text = &self.files[item.file].text[start..end];
            if let Ok(expr) = syntax::parse_expression(text, start as u32) {
                return Some(Cow::Owned(expr));
            }
        }
        self.body(item).value(name).map(Cow::Borrowed)
    }

    /// The text of an attribute that is a plain string.
    pub fn literal(&self, item: &Item, name: &str) -> Option<String> {
        self.value(item, name).and_then(|expr| expr.literal().map(str::to_owned))
    }

    fn parts(&self, item: &Item) -> Option<Vec<Part<'_>>> {
        let text = &self.files[item.file].text;
        let head = scan::head(text, item.whole.start as usize)?;
        scan::parts(text, head.body, item.whole.end as usize)
    }

    /// The value of a local; `None` when there is none of that name.
    pub fn local(&self, name: &str) -> Option<&Expr> {
        self.locals.get(name).map(|local| self.local_value(local))
    }

    pub fn local_value<'m>(&'m self, local: &'m Local) -> &'m Expr {
        local.value.get_or_init(|| {
            let text = &self.files[local.file].text;
            let (start, end) = (local.text.start as usize, local.text.end as usize);
            syntax::parse_expression(&text[start..end], local.text.start)
                .or_else(|error| {
                    // A comment behind the expression is no part of it, but may follow it in a body.
                    match syntax::parse_native(&format!("x={}\n", &text[start..end]), local.text.start - 2) {
                        Ok(body) => body.attributes.into_iter().next().map(|attribute| attribute.value).ok_or(error),
                        Err(_) => Err(error),
                    }
                })
                .unwrap_or_else(|error| {
                    self.mistake_later(local.file, error);
                    Expr { kind: syntax::ExprKind::Null, range: local.text }
                })
        })
    }

    fn mistake_later(&self, file: usize, error: syntax::SyntaxError) {
        // The whole file tells the place and the reason better than a slice.
        let error = syntax::parse_native(&self.files[file].text, 0).err().unwrap_or(error);
        let diagnostic = self.syntax_error(file, &error);
        self.late.lock().unwrap_or_else(PoisonError::into_inner).push(diagnostic);
    }

    /// All that was found wrong so far.
    pub fn mistakes(&self) -> Vec<Diagnostic> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        self.diagnostics.iter().chain(late.iter()).cloned().collect()
    }

    fn syntax_error(&self, file: usize, error: &syntax::SyntaxError) -> Diagnostic {
        let diagnostic = Diagnostic::error("WL201", format!("syntax error: {}", first_line(&error.message)));
        self.diagnostic(diagnostic, file, Range { start: error.at, end: error.at + 1 }, "here")
            .help("`terraform fmt` and `terraform validate` show it too")
    }

    fn add(&mut self, item: Item) {
        match item.kind.as_str() {
            "variable" => self.named("variable", item, |m| &mut m.variables),
            "output" => self.named("output", item, |m| &mut m.outputs),
            "module" => self.named("module", item, |m| &mut m.calls),
            "locals" => {
                for (name, local) in self.locals_of(item) {
                    if let Some(earlier) = self.locals.get(&name) {
                        let earlier = (earlier.file, earlier.name_range);
                        self.duplicate("local", &name, (local.file, local.name_range), earlier);
                        continue;
                    }
                    self.locals.insert(name, local);
                }
            }
            "provider" => self.providers.push(item),
            "terraform" => self.settings(item),
            "data" if item.labels.first().is_some_and(|kind| kind == "terraform_remote_state") => {
                let name = item.labels.get(1).cloned().unwrap_or_default();
                self.remote_states.insert(name, item);
            }
            _ => self.others.push(item),
        }
    }

    fn locals_of(&self, item: Item) -> Vec<(String, Local)> {
        let parts = if item.body.get().is_none() { self.parts(&item) } else { None };
        let simple = parts.and_then(|parts| {
            parts
                .into_iter()
                .map(|part| match part {
                    Part::Attribute(name, name_range, value) => {
                        let local = Local {
                            file: item.file,
                            name_range: range(name_range.0, name_range.1),
                            reads: item.reads,
                            text: range(value.0, value.1),
                            value: OnceLock::new(),
                        };
                        Some((name.to_owned(), local))
                    }
                    Part::Block(..) => None,
                })
                .collect::<Option<Vec<_>>>()
        });
        if let Some(simple) = simple {
            return simple;
        }
        self.body(&item);
        let body = item.body.into_inner().unwrap_or_default();
        let local = |attribute: syntax::Attribute| {
            let Attribute { name, name_range, value } = attribute;
            (name, Local { file: item.file, name_range, reads: true, text: value.range, value: value.into() })
        };
        body.attributes.into_iter().map(local).collect()
    }

    fn named(&mut self, what: &str, item: Item, map: impl Fn(&mut Self) -> &mut BTreeMap<String, Item>) {
        let Some(name) = item.labels.first().cloned() else { return };
        if let Some(earlier) = map(self).get(&name) {
            let earlier = (earlier.file, earlier.head);
            self.duplicate(what, &name, (item.file, item.head), earlier);
            return;
        }
        map(self).insert(name, item);
    }

    fn duplicate(&mut self, what: &str, name: &str, second: (usize, Range), first: (usize, Range)) {
        let diagnostic = Diagnostic::error("WL204", format!("{what} `{name}` is defined twice"));
        let diagnostic = self.diagnostic(diagnostic, second.0, second.1, "again here");
        let diagnostic = self.diagnostic(diagnostic, first.0, first.1, "first here");
        self.diagnostics.push(diagnostic.help("rename or remove one of them"));
    }

    fn settings(&mut self, item: Item) {
        if let Some(version) = self.literal(&item, "required_version") {
            self.required_versions.push(version);
        }
        let file = item.file;
        let parts = if item.body.get().is_none() { self.parts(&item) } else { None };
        let heads = parts.and_then(|parts| {
            let text = &self.files[file].text;
            let blocks = parts.into_iter().filter_map(|part| match part {
                Part::Block(start, end) => Some((start, end)),
                Part::Attribute(..) => None,
            });
            blocks
                .map(|(start, end)| {
                    let head = scan::head(text, start)?;
                    Some(Item {
                        file,
                        kind: head.kind.to_owned(),
                        labels: head.labels.into_iter().map(str::to_owned).collect(),
                        head: range(start, head.end),
                        whole: range(start, end),
                        reads: item.reads,
                        body: OnceLock::new(),
                    })
                })
                .collect::<Option<Vec<_>>>()
        });
        let items = heads.unwrap_or_else(|| {
            self.body(&item);
            let body = item.body.into_inner().unwrap_or_default();
            body.blocks.into_iter().map(|block| Item::parsed(file, block)).collect()
        });
        for item in items {
            match item.kind.as_str() {
                "backend" => self.backend = Some(item),
                "cloud" => self.cloud = Some(item),
                _ => {}
            }
        }
    }

    /// An override file: attributes and nested blocks replace those of the block with the same head; new blocks are errors in
    /// Terraform, and are added here so that nothing they read is missed.
    fn override_with(&mut self, item: Item) {
        if item.kind == "locals" {
            for (name, local) in self.locals_of(item) {
                self.locals.insert(name, local);
            }
            return;
        }
        if item.kind == "terraform" {
            return self.settings(item);
        }
        let target = match (item.kind.as_str(), item.labels.as_slice()) {
            ("variable", [name]) => self.variables.remove(name),
            ("output", [name]) => self.outputs.remove(name),
            ("module", [name]) => self.calls.remove(name),
            ("data", [kind, name]) if kind == "terraform_remote_state" => self.remote_states.remove(name),
            (kind, labels) => {
                let found = self.others.iter().position(|other| other.kind == kind && other.labels == labels);
                found.map(|found| self.others.remove(found))
            }
        };
        let Some(target) = target else { return self.add(item) };
        self.body(&target);
        self.body(&item);
        let mut body = target.body.into_inner().unwrap_or_default();
        merge(&mut body, item.body.into_inner().unwrap_or_default());
        self.add(Item { reads: target.reads || item.reads, body: body.into(), ..target });
    }
}

impl Item {
    fn parsed(file: usize, block: Block) -> Self {
        Self {
            file,
            kind: block.kind,
            labels: block.labels,
            head: block.range,
            whole: block.whole,
            reads: true,
            body: block.body.into(),
        }
    }
}

/// The content of a block, each attribute parsed for itself: values that are plain then need no parser at all. `None` where that
/// does not do.
fn by_parts(text: &str, start: usize, end: usize) -> Option<Body> {
    let mut body = Body::default();
    for part in scan::parts(text, scan::head(text, start)?.body, end)? {
        match part {
            Part::Attribute(name, name_range, (from, to)) => body.attributes.push(Attribute {
                name: name.to_owned(),
                name_range: range(name_range.0, name_range.1),
                value: syntax::parse_expression(&text[from..to], from as u32).ok()?,
            }),
            Part::Block(start, end) => {
                let head = scan::head(text, start)?;
                body.blocks.push(Block {
                    kind: head.kind.to_owned(),
                    labels: head.labels.into_iter().map(str::to_owned).collect(),
                    body: by_parts(text, start, end)?,
                    range: range(start, head.end),
                    whole: range(start, end),
                });
            }
        }
    }
    Some(body)
}

fn range(start: usize, end: usize) -> Range {
    Range { start: start as u32, end: end as u32 }
}

fn merge(base: &mut Body, over: Body) {
    for attribute in over.attributes {
        base.attributes.retain(|a| a.name != attribute.name);
        base.attributes.push(attribute);
    }
    for block in &over.blocks {
        base.blocks.retain(|b| b.kind != block.kind);
    }
    base.blocks.extend(over.blocks);
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("not valid HCL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::MemoryTree;

    fn load(files: &[(&str, &str)]) -> Module {
        let tree = MemoryTree::new(files.iter().map(|(n, c)| (n.to_string(), c.to_string())));
        let names: Vec<&str> = files.iter().map(|(n, _)| *n).filter(|n| is_configuration(n)).collect();
        Module::load(&tree, "", &names, Depth::Needed)
    }

    #[test]
    fn files_merge_in_terraforms_order() {
        let module = load(&[
            (
                "a.tf",
                "terraform {\n  backend \"s3\" {}\n}\nlocals {\n  x = 1\n}\nmodule \"m\" {\n  source = \"./a\"\n}\n",
            ),
            (
                "b.tf.json",
                r#"{"variable": {"v": {"default": "${local.x}"}}, "terraform": {"required_version": ">= 1.0"}}"#,
            ),
            (
                "z_override.tf",
                "terraform {\n  backend \"local\" {}\n}\nmodule \"m\" {\n  source = \"./b\"\n}\nlocals {\n  x = 2\n}\n",
            ),
            ("c.tf", "ignored = broken ["),
            ("c.tofu", "output \"o\" {\n  value = 1\n}\n"),
            (".hidden.tf", "{"),
        ]);
        assert_eq!(module.diagnostics, vec![]);
        assert_eq!(module.backend.as_ref().unwrap().labels, ["local"]);
        assert_eq!(module.literal(&module.calls["m"], "source").as_deref(), Some("./b"));
        assert_eq!(module.local("x").unwrap().kind, syntax::ExprKind::Number(2.0));
        assert!(module.variables.contains_key("v") && module.outputs.contains_key("o") && module.tofu);
        assert_eq!(module.required_versions, [">= 1.0"]);
    }

    #[test]
    fn a_broken_file_is_reported_with_its_line_and_the_others_count() {
        let module = load(&[("a.tf", "variable \"ok\" {}\n"), ("b.tf", "variable \"x\" {\n  default = \n}\n")]);
        assert!(module.variables.contains_key("ok"));
        assert_eq!(module.diagnostics.len(), 1);
        let diagnostic = &module.diagnostics[0];
        assert_eq!(
            (diagnostic.code.as_str(), diagnostic.labels[0].span.file.as_ref(), diagnostic.labels[0].span.line),
            ("WL201", "b.tf", 2)
        );
    }

    #[test]
    fn doubles_name_both_places() {
        let module = load(&[("a.tf", "variable \"x\" {}\n"), ("b.tf", "\nvariable \"x\" {}\n")]);
        let places: Vec<String> = module.diagnostics[0].labels.iter().map(|l| l.span.to_string()).collect();
        assert_eq!(places, ["b.tf:2", "a.tf:1"]);
    }
}
