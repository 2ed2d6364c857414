//! Functions of our own that rewritten modules call.

use regorus::{Engine, Value};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

/// A collection as it is; anything else has no members.
pub const ITEMS: &str = "windlass.items";
/// The number of fields of an object; anything else has -1.
pub const FIELDS: &str = "windlass.fields";
/// -1, 0 or 1, as OPA orders two values.
pub const COMPARE: &str = "windlass.compare";
/// A constant of the policies by its number.
pub const CONSTANT: &str = "windlass.constant";
/// OPA's names for `in` and for interpolation, which come with the builtins.
pub const MEMBER_2: &str = "internal.member_2";
pub const MEMBER_3: &str = "internal.member_3";
pub const TEMPLATE: &str = "internal.template_string";

/// Functions that whoever loads the policies may add, with their arities: Conftest's.
pub const FUNCTIONS: [(&str, u8); 3] =
    [("parse_combined_config_files", 1), ("parse_config", 2), ("parse_config_file", 1)];

/// The full path of the function that stands for a builtin where `with` replaces it, or replaces by it.
pub fn stand_in(builtin: &str) -> Vec<String> {
    ["data".to_owned(), "windlass".to_owned(), "builtin".to_owned(), stand_in_name(builtin)].into()
}

/// Another name than the builtin's: within its package it would be taken for itself.
fn stand_in_name(builtin: &str) -> String {
    format!("call_{}", builtin.replace('.', "_"))
}

/// The module of those functions.
pub fn stand_ins(builtins: &BTreeSet<String>, arities: &BTreeMap<&'static str, u8>) -> (Arc<str>, String) {
    let mut text = "package windlass.builtin\n".to_owned();
    for name in builtins {
        let params: Vec<String> =
            (0..arities.get(name.as_str()).copied().unwrap_or(0)).map(|n| format!("a{n}")).collect();
        let params = params.join(", ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}({params}) := out if {{ out := {name}({params}) }}", stand_in_name(name));
    }
    ("windlass/builtin.rego".into(), text)
}

/// Adds them to an engine; `constants` are what [`CONSTANT`] gives.
pub fn register(engine: &mut Engine, constants: Vec<Value>) {
    let items = |operands: Vec<Value>| {
        Ok(match operands.into_iter().next() {
            Some(collection @ (Value::Array(_) | Value::Set(_) | Value::Object(_))) => collection,
            _ => Value::new_array(),
        })
    };
    let fields = |operands: Vec<Value>| {
        let object = operands.first().and_then(|value| value.as_object().ok());
        Ok(object.map_or(Value::from(-1i64), |object| Value::from(object.len())))
    };
    let compare = |operands: Vec<Value>| {
        let [left, right] = &operands[..] else { return Ok(Value::Undefined) };
        Ok(Value::from(order(left, right) as i64))
    };
    let constants: Arc<[Value]> = constants.into();
    let constant = move |operands: Vec<Value>| {
        let number = operands.first().and_then(|number| number.as_u64().ok()).and_then(|n| usize::try_from(n).ok());
        Ok(number.and_then(|number| constants.get(number).cloned()).unwrap_or(Value::Undefined))
    };
    // The only error is that the name is there already: it is not, these names are ours.
    let _ = engine.add_extension(ITEMS.to_owned(), 1, Box::new(items));
    let _ = engine.add_extension(FIELDS.to_owned(), 1, Box::new(fields));
    let _ = engine.add_extension(COMPARE.to_owned(), 2, Box::new(compare));
    let _ = engine.add_extension(CONSTANT.to_owned(), 1, Box::new(constant));
}

/// OPA's order: null, booleans, numbers, strings, arrays, objects, sets.
fn order(left: &Value, right: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Undefined => 0,
        Value::Null => 1,
        Value::Bool(_) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
        Value::Set(_) => 7,
    };
    match (left, right) {
        (Value::Array(a), Value::Array(b)) => {
            first(a.iter().zip(b.iter()).map(|(a, b)| order(a, b))).then(a.len().cmp(&b.len()))
        }
        (Value::Set(a), Value::Set(b)) => {
            let (a, b) = (sorted(a.iter()), sorted(b.iter()));
            first(a.iter().zip(&b).map(|(a, b)| order(a, b))).then(a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let (keys, others) = (sorted(a.iter().map(|(key, _)| key)), sorted(b.iter().map(|(key, _)| key)));
            let pairs = keys.iter().zip(&others);
            first(pairs.map(|(k, l)| order(k, l).then_with(|| order(&left[*k], &right[*l]))))
                .then(keys.len().cmp(&others.len()))
        }
        _ if rank(left) == rank(right) => left.cmp(right),
        _ => rank(left).cmp(&rank(right)),
    }
}

fn sorted<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<&'v Value> {
    let mut values: Vec<&Value> = values.collect();
    values.sort_by(|a, b| order(a, b));
    values
}

fn first(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
