//! Arrays, sets and objects.

use super::{Answer, Builtin, BuiltinError, array, elements, wrong};
use regorus::Value;
use std::collections::BTreeSet;

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("all", 1, all),
    ("any", 1, any),
    ("array.flatten", 1, flatten),
    ("graph.reachable_paths", 2, reachable_paths),
    ("numbers.range_step", 3, range_step),
    ("object.subset", 2, subset),
    ("set_diff", 2, set_diff),
];

fn flatten(operands: &[Value]) -> Answer {
    let mut flat = Vec::new();
    for item in array(operands, 0)? {
        match item {
            Value::Array(inner) => flat.extend(inner.iter().cloned()),
            other => flat.push(other.clone()),
        }
    }
    Ok(flat.into())
}

/// Of Rego v0: whether all elements are `true`.
fn all(operands: &[Value]) -> Answer {
    Ok(elements(operands, 0)?.into_iter().all(|item| *item == Value::Bool(true)).into())
}

/// Of Rego v0: whether one element is `true`.
fn any(operands: &[Value]) -> Answer {
    Ok(elements(operands, 0)?.into_iter().any(|item| *item == Value::Bool(true)).into())
}

fn set_diff(operands: &[Value]) -> Answer {
    match (&operands[0], &operands[1]) {
        (Value::Set(a), Value::Set(b)) => Ok(a.difference(b).into_value()),
        (Value::Set(_), _) => Err(wrong(operands, 1, "set")),
        _ => Err(wrong(operands, 0, "set")),
    }
}

fn subset(operands: &[Value]) -> Answer {
    let within = match (&operands[0], &operands[1]) {
        (Value::Object(_), Value::Object(_)) | (Value::Set(_), Value::Set(_)) | (Value::Array(_), Value::Array(_)) => {
            contains(&operands[0], &operands[1])
        }
        (Value::Array(whole), Value::Set(part)) => part.iter().all(|item| whole.contains(item)),
        _ => {
            return Err(BuiltinError::failed("both arguments object.subset must be of the same type or array and set"));
        }
    };
    Ok(within.into())
}

/// Objects key by key and recursively, sets by membership, arrays as a run of equal neighbours; everything else by equality.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|other| contains(other, value)))
        }
        (Value::Set(whole), Value::Set(part)) => part.is_subset(whole),
        (Value::Array(whole), Value::Array(part)) => {
            let (whole, part) = (whole.as_slice(), part.as_slice());
            part.is_empty() || whole.windows(part.len()).any(|window| window == part)
        }
        _ => whole == part,
    }
}

/// `numbers.range_step(from, to, step)`, both ends included, downwards when `to` is below `from`.
fn range_step(operands: &[Value]) -> Answer {
    let mut numbers = Vec::with_capacity(3);
    for index in 0..3 {
        let Value::Number(number) = &operands[index] else { return Err(wrong(operands, index, "number")) };
        if !number.is_integer() {
            return Err(BuiltinError::failed(format!(
                "operand {} must be integer number but got floating-point number",
                index + 1
            )));
        }
        numbers.push(number);
    }
    let [from, to, step] = numbers[..] else { return Ok(Value::Undefined) };
    if operands[2] <= Value::from(0_u64) {
        return Err(BuiltinError::failed("step must be a positive integer"));
    }
    let too_far = |_| BuiltinError::failed("the range leaves the numbers");
    let upwards = from <= to;
    let mut items = Vec::new();
    let mut at = from.clone();
    while if upwards { at <= *to } else { at >= *to } {
        if items.len() >= LONGEST_RANGE {
            return Err(BuiltinError::Refused("the range has more than ten million numbers"));
        }
        items.push(Value::Number(at.clone()));
        at = if upwards { at.add(step) } else { at.sub(step) }.map_err(too_far)?;
    }
    Ok(items.into())
}

/// A range is memory without a step of the policy in between, where limits are looked at.
const LONGEST_RANGE: usize = 10_000_000;

/// Paths from the given vertices to where they end: at a vertex without edges, before one that is not in the graph, or where the
/// next vertex is on the path already. A start that has an edge to itself is walked twice, as OPA does.
fn reachable_paths(operands: &[Value]) -> Answer {
    let Value::Object(graph) = &operands[0] else { return Err(wrong(operands, 0, "object")) };
    let mut paths = BTreeSet::new();
    for root in elements(operands, 1)? {
        let Some(edges) = graph.get(root) else { continue };
        let edges = neighbours(edges);
        if edges.is_empty() {
            paths.insert(Value::from(vec![root.clone()]));
        }
        for neighbour in edges {
            walk(&operands[0], neighbour, vec![root.clone()], &mut paths)?;
        }
    }
    Ok(paths.into())
}

/// Paths are memory without a step of the policy in between, where limits are looked at.
const MOST_PATHS: usize = 1_000_000;
/// Bounds the stack.
const LONGEST_PATH: usize = 10_000;

/// Calls itself as deep as the longest path.
fn walk(graph: &Value, vertex: &Value, mut path: Vec<Value>, paths: &mut BTreeSet<Value>) -> Result<(), BuiltinError> {
    if paths.len() > MOST_PATHS || path.len() > LONGEST_PATH {
        return Err(BuiltinError::Refused("the graph has too many or too long paths"));
    }
    let Some(edges) = graph.as_object().ok().and_then(|graph| graph.get(vertex)) else {
        paths.insert(path.into());
        return Ok(());
    };
    path.push(vertex.clone());
    let edges = neighbours(edges);
    if edges.is_empty() {
        paths.insert(path.into());
        return Ok(());
    }
    for neighbour in edges {
        if path.contains(neighbour) {
            paths.insert(path.clone().into());
        } else {
            walk(graph, neighbour, path.clone(), paths)?;
        }
    }
    Ok(())
}

fn neighbours(edges: &Value) -> Vec<&Value> {
    match edges {
        Value::Array(items) => items.iter().collect(),
        Value::Set(items) => items.iter_sorted().collect(),
        _ => Vec::new(),
    }
}
