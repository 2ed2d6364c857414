//! Rewrites a module so that it is planned with outputs its upstreams do not have yet.
//!
//! Each `terraform_remote_state` that is replaced stays where it is, with its `count`, `for_each`, `depends_on`, `defaults` and
//! conditions, but an override file points it at an empty state. What it would have read is added in a local, and references to
//! it go through that local. So Terraform itself says whether the data source is read now or only during the apply.

mod json;
mod references;
mod values;

use crate::terraform::module::is_configuration;
use references::References;
use std::collections::BTreeMap;
use std::ops::Range;
use values::object;
use windlass_model::effect::PlannedOutput;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreviewError {
    #[error("{file} cannot be rewritten for a preview: {message}")]
    Syntax { file: String, message: String },
    #[error("{file} reads `{setting}` of data.terraform_remote_state.{name}, which a preview has to replace")]
    Setting { file: String, name: String, setting: String },
    #[error("data.terraform_remote_state.{name}, which a preview has to replace, is in none of the files")]
    Missing { name: String },
}

/// Outputs of an upstream, by name.
pub type Outputs = BTreeMap<String, PlannedOutput>;

/// The file the locals are written to.
pub const FILE: &str = "windlass_preview.tf";
/// The empty state that the data sources read.
const STATE: &str = "windlass_preview.tfstate";
const EMPTY_STATE: &str = "{\"version\":4,\"terraform_version\":\"0.12.0\",\"serial\":1,\"lineage\":\"windlass-preview\",\"outputs\":{},\"resources\":[]}\n";

/// Which form the data source has when it is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Counted,
    Each,
}

/// Text to be put in the place of a range of bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    from: usize,
    to: usize,
    text: String,
}

/// What one file says about replaced data sources.
#[derive(Debug, Default)]
struct Found {
    cuts: Vec<Cut>,
    /// A block of this data source, and whether it has `count` and `for_each`.
    blocks: Vec<(String, bool, bool)>,
    /// A setting of a data source that is read: data source, setting.
    settings: Vec<(String, String)>,
}

/// Rewrites the files (name, content) of one module directory. `replaced` maps names of `terraform_remote_state` data sources
/// to the outputs they will have. Only files that change come back, with [`FILE`], an override file and an empty state beside
/// them. Everything else in them stays byte for byte.
///
/// # Errors
/// A file cannot be parsed, a data source is in none of them, or something else than its outputs is read.
pub fn rewrite(
    files: &[(String, String)],
    replaced: &BTreeMap<String, Outputs>,
) -> Result<Vec<(String, String)>, PreviewError> {
    let mut out = Vec::new();
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(_, text)| text.contains("terraform_remote_state")) {
        let found = if file.ends_with(".json") { json::find(text, replaced) } else { native(text, replaced) };
        let found = found.map_err(|message| PreviewError::Syntax { file: file.clone(), message })?;
        if let Some((name, setting)) = found.settings.into_iter().next() {
            return Err(PreviewError::Setting { file: file.clone(), name, setting });
        }
        for (name, count, each) in found.blocks.into_iter().filter(|_| !is_shadowed(file, files)) {
            let shape = shapes.entry(name).or_insert(Shape::One);
            // An override can add one to what another file defines, and never takes one away. As Terraform: `count` wins.
            if count {
                *shape = Shape::Counted;
            } else if each && *shape == Shape::One {
                *shape = Shape::Each;
            }
        }
        let changed = apply(text, found.cuts);
        if changed != *text {
            out.push((file.clone(), changed));
        }
    }
    if let Some(name) = replaced.keys().find(|name| !shapes.contains_key(*name)) {
        return Err(PreviewError::Missing { name: name.clone() });
    }
    let mut locals = String::from("locals {\n");
    let mut overrides = String::new();
    for (name, shape) in &shapes {
        locals.push_str(&format!("  {} = {}\n", local_name(name), local(name, *shape, &replaced[name])));
        overrides.push_str(&format!(
            "data \"terraform_remote_state\" \"{name}\" {{\n  backend   = \"local\"\n  config    = {{ path = \"${{path.module}}/{STATE}\" }}\n  workspace = null\n}}\n"
        ));
    }
    locals.push_str("}\n");
    out.push((FILE.to_owned(), locals));
    out.push((override_name(files), overrides));
    out.push((STATE.to_owned(), EMPTY_STATE.to_owned()));
    Ok(out)
}

/// A `.tf` file that a `.tofu` file of the same name stands in for.
fn is_shadowed(file: &str, files: &[(String, String)]) -> bool {
    let other = match (file.strip_suffix(".tf.json"), file.strip_suffix(".tf")) {
        (Some(stem), _) => format!("{stem}.tofu.json"),
        (None, Some(stem)) => format!("{stem}.tofu"),
        (None, None) => return false,
    };
    files.iter().any(|(name, _)| *name == other)
}

/// Override files are merged by name: this one comes after all others.
fn override_name(files: &[(String, String)]) -> String {
    let mut name = "windlass_preview_override.tf".to_owned();
    while files.iter().any(|(other, _)| is_configuration(other) && other.contains("override.") && *other >= name) {
        name.insert(0, '\u{10fffd}');
    }
    name
}

fn local_name(name: &str) -> String {
    format!("windlass_preview_{name}")
}

/// The data source `state` with the outputs of its upstream. While it is not read, they stay unknown; `defaults` of the block
/// are in what the empty state yields.
fn with_outputs(state: &str, outputs: &Outputs) -> String {
    format!("merge({state}, {{ outputs = merge({state}.outputs, {}) }})", object(outputs))
}

/// The local in the form that the data source has: one object, a tuple, or an object of objects.
fn local(name: &str, shape: Shape, outputs: &Outputs) -> String {
    let state = format!("data.terraform_remote_state.{name}");
    let one = || with_outputs("windlass_state", outputs);
    match shape {
        Shape::One => with_outputs(&state, outputs),
        Shape::Counted => format!("[for windlass_state in {state} : {}]", one()),
        Shape::Each => {
            format!("{{ for windlass_key, windlass_state in {state} : windlass_key => {} }}", one())
        }
    }
}

fn native(text: &str, replaced: &BTreeMap<String, Outputs>) -> Result<Found, String> {
    use hcl_edit::visit::Visit as _;
    let body = hcl_edit::parser::parse_body(text).map_err(|error| error.message().to_owned())?;
    let mut references = References::new(replaced);
    references.visit_body(&body);
    Ok(references.found)
}

fn cut(range: Range<usize>, text: String) -> Cut {
    Cut { from: range.start, to: range.end, text }
}

fn apply(text: &str, mut cuts: Vec<Cut>) -> String {
    cuts.sort();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for cut in cuts {
        if cut.from < at {
            continue;
        }
        out.push_str(text.get(at..cut.from).unwrap_or_default());
        out.push_str(&cut.text);
        at = cut.to;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests;
