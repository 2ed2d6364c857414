//! Rewrites a module so that it is planned with outputs its upstreams do not have yet: the `terraform_remote_state` blocks are
//! replaced by locals. What the upstream's plan does not know is written `jsondecode(uuid())`, which Terraform treats as unknown
//! of any type.

use crate::terraform::syntax::{Block, Body, Expr, ExprKind, Range, parse_native};
use serde_json::Value;
use std::collections::BTreeMap;
use windlass_model::effect::PlannedOutput;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreviewError {
    #[error("{file} cannot be rewritten for a preview: {message}")]
    Syntax { file: String, message: String },
}

/// Outputs of an upstream, by name.
pub type Outputs = BTreeMap<String, PlannedOutput>;

/// The file the locals are written to.
pub const FILE: &str = "windlass_preview.tf";

/// Rewrites the files (name, content) of one module directory. `replaced` maps names of `terraform_remote_state` data sources
/// to the outputs they will have. Only files that change, and [`FILE`], come back. Everything else in them stays byte for byte.
///
/// # Errors
/// A file cannot be parsed.
pub fn rewrite(
    files: &[(String, String)],
    replaced: &BTreeMap<String, Outputs>,
) -> Result<Vec<(String, String)>, PreviewError> {
    let mut out = Vec::new();
    let mut locals: BTreeMap<String, String> = BTreeMap::new();
    for (name, text) in files {
        if !text.contains("terraform_remote_state") {
            continue;
        }
        let changed = if name.ends_with(".json") {
            json(name, text, replaced, &mut locals)?
        } else {
            native(name, text, replaced, &mut locals)?
        };
        if changed != *text {
            out.push((name.clone(), changed));
        }
    }
    let mut content = String::from("locals {\n");
    for (name, expression) in locals {
        content.push_str(&format!("  windlass_preview_{name} = {expression}\n"));
    }
    content.push_str("}\n");
    out.push((FILE.to_owned(), content));
    Ok(out)
}

/// Cuts to be made in a text: from, to, replacement.
type Cuts = Vec<(usize, usize, String)>;

fn native(
    name: &str,
    text: &str,
    replaced: &BTreeMap<String, Outputs>,
    locals: &mut BTreeMap<String, String>,
) -> Result<String, PreviewError> {
    let error = |message: String| PreviewError::Syntax { file: name.to_owned(), message };
    let body = parse_native(text, 0).map_err(|e| error(e.message))?;
    let mut cuts: Cuts = Vec::new();
    references_in(&body, text, replaced, &mut cuts);
    for block in &body.blocks {
        let Some((source, outputs)) = replaced_block(block, replaced) else { continue };
        let (start, end) = (block.whole.start as usize, block.whole.end as usize);
        // References inside the block go with it, but those in `count` live on in the local.
        let inner: Cuts = cuts.iter().filter(|(from, ..)| (start..end).contains(from)).cloned().collect();
        cuts.retain(|(from, ..)| !(start..end).contains(from));
        let moved = |expr: &Expr| {
            let (from, to) = (expr.range.start as usize, expr.range.end as usize);
            apply(
                text.get(from..to).unwrap_or_default(),
                inner
                    .iter()
                    .filter(|(a, b, _)| *a >= from && *b <= to)
                    .map(|(a, b, r)| (a - from, b - from, r.clone()))
                    .collect(),
            )
        };
        let state = format!("{{ outputs = {} }}", object(outputs));
        let count = block.body.value("count").map(moved);
        let each = block.body.value("for_each").map(moved);
        locals.insert(source.to_owned(), local(&state, count, each));
        cuts.push((start, end, String::new()));
    }
    Ok(apply(text, cuts))
}

/// The local in the shape the data source had: one object, a tuple, or a map.
fn local(state: &str, count: Option<String>, each: Option<String>) -> String {
    match (count, each) {
        (Some(count), _) => format!("[for windlass_index in range({count}) : {state}]"),
        (None, Some(each)) => format!("{{ for windlass_key, windlass_value in {each} : windlass_key => {state} }}"),
        (None, None) => state.to_owned(),
    }
}

fn replaced_block<'a>(block: &Block, replaced: &'a BTreeMap<String, Outputs>) -> Option<(&'a str, &'a Outputs)> {
    match (block.kind.as_str(), block.labels.as_slice()) {
        ("data", [kind, name]) if kind == "terraform_remote_state" => {
            replaced.get_key_value(name).map(|(name, outputs)| (name.as_str(), outputs))
        }
        _ => None,
    }
}

fn references_in(body: &Body, text: &str, replaced: &BTreeMap<String, Outputs>, cuts: &mut Cuts) {
    for attribute in &body.attributes {
        if let (true, ExprKind::List(items)) = (attribute.name == "depends_on", &attribute.value.kind) {
            let kept: Vec<&str> = items
                .iter()
                .filter(|item| named(unindexed(item), replaced).is_none())
                .map(|item| slice(text, item.range))
                .collect();
            if kept.len() != items.len() {
                cuts.push((
                    attribute.value.range.start as usize,
                    attribute.value.range.end as usize,
                    format!("[{}]", kept.join(", ")),
                ));
            }
            continue;
        }
        attribute.value.walk(&mut |expr| match named(expr, replaced) {
            Some(name) => {
                cuts.push((
                    expr.range.start as usize,
                    expr.range.end as usize,
                    format!("local.windlass_preview_{name}"),
                ));
                false
            }
            None => true,
        });
    }
    for block in &body.blocks {
        references_in(&block.body, text, replaced, cuts);
    }
}

/// `x[0]` → `x`: `depends_on` may name an instance.
fn unindexed(expr: &Expr) -> &Expr {
    match &expr.kind {
        ExprKind::Index(base, _) => base,
        _ => expr,
    }
}

fn slice(text: &str, range: Range) -> &str {
    text.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// The name when the expression is exactly `data.terraform_remote_state.NAME` of a replaced one.
fn named<'a>(expr: &Expr, replaced: &'a BTreeMap<String, Outputs>) -> Option<&'a str> {
    let ExprKind::Attribute(base, name) = &expr.kind else { return None };
    let ExprKind::Attribute(root, kind) = &base.kind else { return None };
    let is_data = matches!(&root.kind, ExprKind::Variable(root) if root == "data") && kind == "terraform_remote_state";
    replaced.get_key_value(name).filter(|_| is_data).map(|(name, _)| name.as_str())
}

fn apply(text: &str, mut cuts: Cuts) -> String {
    cuts.sort();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (from, to, replacement) in cuts {
        if from < at {
            continue;
        }
        out.push_str(text.get(at..from).unwrap_or_default());
        out.push_str(&replacement);
        at = to;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

fn json(
    name: &str,
    text: &str,
    replaced: &BTreeMap<String, Outputs>,
    locals: &mut BTreeMap<String, String>,
) -> Result<String, PreviewError> {
    let mut value: Value = serde_json::from_str(text)
        .map_err(|e| PreviewError::Syntax { file: name.to_owned(), message: e.to_string() })?;
    if let Some(states) = value.pointer_mut("/data/terraform_remote_state").and_then(Value::as_object_mut) {
        for (name, outputs) in replaced {
            let Some(block) = states.remove(name) else { continue };
            let argument = |key: &str| match block.get(key) {
                Some(Value::String(text)) => {
                    Some(in_strings(text, replaced).trim_start_matches("${").trim_end_matches('}').to_owned())
                }
                Some(other) => Some(format!("jsondecode({})", quoted(&other.to_string()))),
                None => None,
            };
            let state = format!("{{ outputs = {} }}", object(outputs));
            locals.insert(name.clone(), local(&state, argument("count"), argument("for_each")));
        }
    }
    walk_strings(&mut value, replaced);
    Ok(value.to_string())
}

fn walk_strings(value: &mut Value, replaced: &BTreeMap<String, Outputs>) {
    match value {
        Value::String(text) => *text = in_strings(text, replaced),
        Value::Array(items) => {
            let exact = |item: &Value| {
                replaced.keys().any(|name| item.as_str() == Some(&format!("data.terraform_remote_state.{name}")))
            };
            items.retain(|item| !exact(item));
            items.iter_mut().for_each(|v| walk_strings(v, replaced));
        }
        Value::Object(object) => object.values_mut().for_each(|v| walk_strings(v, replaced)),
        _ => {}
    }
}

/// Replaces whole references inside a JSON string.
fn in_strings(text: &str, replaced: &BTreeMap<String, Outputs>) -> String {
    let mut out = text.to_owned();
    for name in replaced.keys() {
        let needle = format!("data.terraform_remote_state.{name}");
        let mut from = 0;
        while let Some(at) = out[from..].find(&needle).map(|i| i + from) {
            let end = at + needle.len();
            let whole = !out[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
            let replacement = format!("local.windlass_preview_{name}");
            if whole {
                out.replace_range(at..end, &replacement);
                from = at + replacement.len();
            } else {
                from = end;
            }
        }
    }
    out
}

fn object(outputs: &Outputs) -> String {
    let items: Vec<String> = outputs
        .iter()
        .map(|(name, output)| {
            let value = expression(&output.value, &output.unknown);
            format!("{} = {}", quoted(name), if output.sensitive { format!("sensitive({value})") } else { value })
        })
        .collect();
    format!("{{ {} }}", items.join(", "))
}

/// A value with its unknown parts, as an expression.
fn expression(value: &Value, unknown: &Value) -> String {
    match (value, unknown) {
        (_, Value::Bool(true)) => "jsondecode(uuid())".into(),
        (Value::Object(items), Value::Object(masks)) if !masks.is_empty() => {
            let names: std::collections::BTreeSet<&String> = items.keys().chain(masks.keys()).collect();
            let of = |name: &String| {
                expression(items.get(name).unwrap_or(&Value::Null), masks.get(name).unwrap_or(&Value::Bool(false)))
            };
            format!(
                "{{ {} }}",
                names.into_iter().map(|name| format!("{} = {}", quoted(name), of(name))).collect::<Vec<_>>().join(", ")
            )
        }
        (Value::Array(items), Value::Array(masks)) if !masks.is_empty() => {
            let of = |index: usize| {
                expression(items.get(index).unwrap_or(&Value::Null), masks.get(index).unwrap_or(&Value::Bool(false)))
            };
            format!("[{}]", (0..items.len().max(masks.len())).map(of).collect::<Vec<_>>().join(", "))
        }
        // Nothing planned and nothing masked as known: the whole of it comes later.
        (Value::Null, Value::Object(masks)) if !masks.is_empty() => "jsondecode(uuid())".into(),
        (value, _) => format!("jsondecode({})", quoted(&value.to_string())),
    }
}

/// An HCL string that means exactly this text.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outputs(value: Value, unknown: Value, sensitive: bool) -> Outputs {
        BTreeMap::from([("id".to_owned(), PlannedOutput { value, unknown, sensitive, changed: true })])
    }

    fn check(text: &str, outputs: Outputs, want: &str, local: &str) {
        let files = rewrite(&[("a.tf".into(), text.into())], &BTreeMap::from([("net".to_owned(), outputs)])).unwrap();
        let get = |name: &str| files.iter().find(|(n, _)| n == name).map_or("", |(_, c)| c.as_str()).to_owned();
        assert_eq!(get("a.tf").trim(), want);
        assert_eq!(get(FILE), format!("locals {{\n  windlass_preview_net = {local}\n}}\n"));
        parse_native(&get("a.tf"), 0).unwrap();
        parse_native(&get(FILE), 0).unwrap();
    }

    #[test]
    fn references_become_locals() {
        check(
            "data \"terraform_remote_state\" \"net\" {\n  backend = \"local\"\n}\nlocals {\n  a = \"x-${data.terraform_remote_state.net.outputs.id}\" # keep\n  b = data.terraform_remote_state.network.outputs.id\n}\n",
            outputs(json!("v"), json!(false), false),
            "locals {\n  a = \"x-${local.windlass_preview_net.outputs.id}\" # keep\n  b = data.terraform_remote_state.network.outputs.id\n}",
            "{ outputs = { \"id\" = jsondecode(\"\\\"v\\\"\") } }",
        );
    }

    #[test]
    fn count_keeps_its_meaning_and_depends_on_its_others() {
        check(
            "data \"terraform_remote_state\" \"net\" {\n  count = var.on ? 1 : 0\n}\nresource \"t\" \"x\" {\n  input      = data.terraform_remote_state.net[0].outputs.id\n  depends_on = [data.terraform_remote_state.net[0], t.y]\n}\n",
            outputs(Value::Null, json!(true), true),
            "resource \"t\" \"x\" {\n  input      = local.windlass_preview_net[0].outputs.id\n  depends_on = [t.y]\n}",
            "[for windlass_index in range(var.on ? 1 : 0) : { outputs = { \"id\" = sensitive(jsondecode(uuid())) } }]",
        );
    }

    #[test]
    fn parts_that_are_unknown_stay_unknown_and_text_is_escaped() {
        assert_eq!(
            expression(&json!({"a": "${x}", "b": null}), &json!({"b": true})),
            "{ \"a\" = jsondecode(\"\\\"$${x}\\\"\"), \"b\" = jsondecode(uuid()) }"
        );
        assert_eq!(expression(&json!([1, null]), &json!([false, true])), "[jsondecode(\"1\"), jsondecode(uuid())]");
    }

    #[test]
    fn json_configuration_is_rewritten_too() {
        let text = r#"{"data":{"terraform_remote_state":{"net":{"backend":"local","count":"${var.n}"}}},"output":{"o":{"value":"${data.terraform_remote_state.net[0].outputs.id}"}}}"#;
        let files = rewrite(
            &[("a.tf.json".into(), text.into())],
            &BTreeMap::from([("net".to_owned(), outputs(json!(1), json!(false), false))]),
        )
        .unwrap();
        assert_eq!(
            files[0].1,
            r#"{"data":{"terraform_remote_state":{}},"output":{"o":{"value":"${local.windlass_preview_net[0].outputs.id}"}}}"#
        );
        assert!(files[1].1.contains("range(var.n)"));
    }
}
