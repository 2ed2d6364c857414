//! Parts of a document by their paths: `a/b/0`, or `["a", "b", 0]`.

use super::{Answer, Builtin, BuiltinError, elements, wrong};
use regorus::Value;
use std::collections::BTreeMap;

pub(super) const FUNCTIONS: &[Builtin] = &[("json.filter", 2, filter), ("json.remove", 2, remove)];

/// The paths as a tree; the end of one has no branches.
#[derive(Default)]
struct Tree(BTreeMap<Value, Tree>);

fn tree(operands: &[Value]) -> Result<Tree, BuiltinError> {
    let mut root = Tree::default();
    for path in elements(operands, 1)? {
        let parts: Vec<Value> = match path {
            Value::String(path) => {
                let path = path.trim_start_matches('/');
                path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~").into()).collect()
            }
            Value::Array(parts) => parts.to_vec(),
            _ => {
                return Err(BuiltinError::failed(
                    "operand 2: must be one of {set, array} containing string paths or array of path segments",
                ));
            }
        };
        if parts.is_empty() {
            continue;
        }
        let mut at = &mut root;
        for (place, part) in parts.iter().enumerate() {
            let known = at.0.contains_key(part);
            let next = at.0.entry(part.clone()).or_default();
            // A path that ends above ends here too.
            if known && next.0.is_empty() {
                break;
            }
            if place + 1 == parts.len() {
                next.0.clear();
            }
            at = next;
        }
    }
    Ok(root)
}

fn filter(operands: &[Value]) -> Answer {
    if !matches!(operands[0], Value::Object(_)) {
        return Err(wrong(operands, 0, "object"));
    }
    let tree = tree(operands)?;
    Ok(if tree.0.is_empty() { Value::new_object() } else { kept(&operands[0], &tree) })
}

/// A key of a tree for a place in an array: as number or as text.
fn branch(tree: &Tree, place: usize) -> Option<&Tree> {
    tree.0.get(&Value::from(place)).or_else(|| tree.0.get(&Value::from(place.to_string())))
}

fn kept(value: &Value, tree: &Tree) -> Value {
    if tree.0.is_empty() {
        return value.clone();
    }
    match value {
        Value::Object(fields) => {
            let kept_fields: BTreeMap<Value, Value> =
                fields.iter().filter_map(|(key, value)| Some((key.clone(), kept(value, tree.0.get(key)?)))).collect();
            kept_fields.into()
        }
        Value::Array(items) => {
            let kept_items: Vec<Value> =
                items.iter().enumerate().filter_map(|(place, item)| Some(kept(item, branch(tree, place)?))).collect();
            kept_items.into()
        }
        Value::Set(items) => {
            let kept_items: std::collections::BTreeSet<Value> =
                items.iter().filter_map(|item| Some(kept(item, tree.0.get(item)?))).collect();
            kept_items.into()
        }
        other => other.clone(),
    }
}

fn remove(operands: &[Value]) -> Answer {
    if !matches!(operands[0], Value::Object(_)) {
        return Err(wrong(operands, 0, "object"));
    }
    let tree = tree(operands)?;
    Ok(if tree.0.is_empty() { operands[0].clone() } else { removed(&operands[0], &tree) })
}

/// The value without what the branches end at.
fn removed(value: &Value, tree: &Tree) -> Value {
    // What becomes of one member: nothing, itself, or itself without something.
    let member = |value: &Value, branch: Option<&Tree>| match branch {
        None => Some(value.clone()),
        Some(end) if end.0.is_empty() => None,
        Some(branch) => Some(removed(value, branch)),
    };
    match value {
        Value::Object(fields) => {
            let left: BTreeMap<Value, Value> =
                fields.iter().filter_map(|(key, value)| Some((key.clone(), member(value, tree.0.get(key))?))).collect();
            left.into()
        }
        Value::Array(items) => {
            let left: Vec<Value> =
                items.iter().enumerate().filter_map(|(place, item)| member(item, branch(tree, place))).collect();
            left.into()
        }
        Value::Set(items) => {
            let left: std::collections::BTreeSet<Value> =
                items.iter().filter_map(|item| member(item, tree.0.get(item))).collect();
            left.into()
        }
        other => other.clone(),
    }
}
