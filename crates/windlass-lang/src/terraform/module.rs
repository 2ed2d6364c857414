//! One directory as Terraform reads it: which files count, overrides, and the blocks by what they are.

use super::scan;
use super::syntax::{self, Block, Body, Expr, Range};
use crate::tree::Tree;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

#[derive(Debug)]
pub struct SourceFile {
    pub path: Arc<str>,
    pub text: String,
}

/// A block and the file it stands in (an index into [`Module::files`]).
#[derive(Debug, Clone)]
pub struct Item {
    pub file: usize,
    pub block: Block,
}

#[derive(Debug, Default)]
pub struct Module {
    /// Directory, relative to the repository root; empty for the root.
    pub directory: Arc<str>,
    pub files: Vec<SourceFile>,
    /// It has `.tofu` files.
    pub tofu: bool,
    pub variables: BTreeMap<String, Item>,
    pub locals: BTreeMap<String, (usize, Expr)>,
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
}

/// How much of the files is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What edges and inputs need: resources and outputs only where they can read files.
    Edges,
    /// Also what tells which outputs are consumed.
    Needed,
    /// All of it, for diagnostics.
    All,
}

/// What makes the body of a resource or output matter: it can read files. Whole names of functions and blocks, because `file`
/// alone is in every `profile`, and `script` in every `description`.
const FILES: [&str; 9] =
    ["file(", "file (", "filebase64", "filemd5", "filesha", "fileexists", "fileset", "provisioner", "path."];
/// Or it can refer to a remote state, directly or under another name.
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
        self.mentions_workspace |= text.contains("terraform.workspace");
        let file = self.files.len();
        let parsed = self.parse(name, &text, depth);
        self.files.push(SourceFile { path, text });
        match parsed {
            Ok(blocks) => blocks.into_iter().map(|block| Item { file, block }).collect(),
            Err(error) => {
                let range = Range { start: error.at, end: error.at + 1 };
                let diagnostic = Diagnostic::error("WL201", format!("syntax error: {}", first_line(&error.message)));
                let diagnostic = self
                    .diagnostic(diagnostic, file, range, "here")
                    .help("`terraform fmt` and `terraform validate` show it too");
                self.diagnostics.push(diagnostic);
                Vec::new()
            }
        }
    }

    fn parse(&mut self, name: &str, text: &str, depth: Depth) -> Result<Vec<Block>, syntax::SyntaxError> {
        if name.ends_with(".json") {
            let blocks = syntax::parse_json(text)?.blocks;
            self.has_resources |= blocks.iter().any(|b| matches!(b.kind.as_str(), "resource" | "data"));
            return Ok(blocks);
        }
        let items = if depth == Depth::All { None } else { scan::items(text) };
        let Some(items) = items else {
            let body = syntax::parse_native(text, 0)?;
            self.has_resources |= body.blocks.iter().any(|b| matches!(b.kind.as_str(), "resource" | "data"));
            return Ok(body.blocks);
        };
        let mut blocks = Vec::with_capacity(items.len());
        for (start, end) in items {
            let slice = &text[start..end];
            let state = slice.starts_with("data") && slice.contains("terraform_remote_state");
            let resource = slice.starts_with("resource") || (slice.starts_with("data") && !state);
            self.has_resources |= resource || state;
            let skippable = resource || (depth == Depth::Edges && slice.starts_with("output"));
            let matters = FILES.iter().any(|needle| slice.contains(needle))
                || (depth == Depth::Needed && REFERENCES.iter().any(|needle| slice.contains(needle)));
            if skippable && !matters {
                continue;
            }
            match syntax::parse_native(slice, start as u32) {
                Ok(body) => blocks.extend(body.blocks),
                // The whole file tells the place and the reason better than a slice.
                Err(_) => return Ok(syntax::parse_native(text, 0)?.blocks),
            }
        }
        Ok(blocks)
    }

    fn add(&mut self, item: Item) {
        let label = |item: &Item| item.block.labels.first().cloned().unwrap_or_default();
        match item.block.kind.as_str() {
            "variable" => self.named("variable", item, |m| &mut m.variables),
            "output" => self.named("output", item, |m| &mut m.outputs),
            "module" => self.named("module", item, |m| &mut m.calls),
            "locals" => {
                for attribute in item.block.body.attributes {
                    if let Some((file, earlier)) = self.locals.get(&attribute.name) {
                        let (file, range) = (*file, earlier.range);
                        self.duplicate("local", &attribute.name, (item.file, attribute.name_range), (file, range));
                        continue;
                    }
                    self.locals.insert(attribute.name, (item.file, attribute.value));
                }
            }
            "provider" => self.providers.push(item),
            "terraform" => self.settings(item),
            "data" if label(&item) == "terraform_remote_state" => {
                let name = item.block.labels.get(1).cloned().unwrap_or_default();
                self.remote_states.insert(name, item);
            }
            _ => self.others.push(item),
        }
    }

    fn named(&mut self, what: &str, item: Item, map: impl Fn(&mut Self) -> &mut BTreeMap<String, Item>) {
        let Some(name) = item.block.labels.first().cloned() else { return };
        if let Some(earlier) = map(self).get(&name) {
            let earlier = (earlier.file, earlier.block.range);
            self.duplicate(what, &name, (item.file, item.block.range), earlier);
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
        let Item { file, block } = item;
        if let Some(version) = block.body.value("required_version").and_then(Expr::literal) {
            self.required_versions.push(version.to_owned());
        }
        for inner in block.body.blocks {
            let item = Item { file, block: inner };
            match item.block.kind.as_str() {
                "backend" => self.backend = Some(item),
                "cloud" => self.cloud = Some(item),
                _ => {}
            }
        }
    }

    /// An override file: attributes and nested blocks replace those of the block with the same head; new blocks are errors in
    /// Terraform, and are added here so that nothing they read is missed.
    fn override_with(&mut self, item: Item) {
        let file = item.file;
        let target = match (item.block.kind.as_str(), item.block.labels.as_slice()) {
            ("variable", [name]) => self.variables.get_mut(name),
            ("output", [name]) => self.outputs.get_mut(name),
            ("module", [name]) => self.calls.get_mut(name),
            ("data", [kind, name]) if kind == "terraform_remote_state" => self.remote_states.get_mut(name),
            ("locals", _) => {
                for attribute in item.block.body.attributes {
                    self.locals.insert(attribute.name, (file, attribute.value));
                }
                return;
            }
            ("terraform", _) => return self.settings(item),
            (kind, labels) => {
                self.others.iter_mut().find(|other| other.block.kind == kind && other.block.labels == labels)
            }
        };
        match target {
            Some(target) => merge(&mut target.block.body, item.block.body),
            None => self.add(item),
        }
    }
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
        assert_eq!(module.backend.as_ref().unwrap().block.labels, ["local"]);
        assert_eq!(module.calls["m"].block.body.value("source").unwrap().literal(), Some("./b"));
        assert_eq!(module.locals["x"].1.kind, syntax::ExprKind::Number(2.0));
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
