//! Operators under their names, e.g. `plus(1, 2)`, and what OPA's compiler makes of membership and interpolation.

use super::strings::term;
use super::{Answer, Builtin, BuiltinError, array, wrong};
use regorus::Value;

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("and", 2, and),
    ("div", 2, div),
    ("equal", 2, |o| Ok((o[0] == o[1]).into())),
    ("gt", 2, |o| Ok((o[0] > o[1]).into())),
    ("gte", 2, |o| Ok((o[0] >= o[1]).into())),
    ("internal.member_2", 2, member_2),
    ("internal.member_3", 3, member_3),
    ("internal.template_string", 1, template_string),
    ("lt", 2, |o| Ok((o[0] < o[1]).into())),
    ("lte", 2, |o| Ok((o[0] <= o[1]).into())),
    ("minus", 2, minus),
    ("mul", 2, mul),
    ("neq", 2, |o| Ok((o[0] != o[1]).into())),
    ("or", 2, or),
    ("plus", 2, plus),
    ("rem", 2, rem),
];

fn member_2(operands: &[Value]) -> Answer {
    let found = match &operands[1] {
        Value::Array(items) => items.contains(&operands[0]),
        Value::Set(items) => items.contains(&operands[0]),
        Value::Object(fields) => fields.values().any(|value| *value == operands[0]),
        _ => false,
    };
    Ok(found.into())
}

fn member_3(operands: &[Value]) -> Answer {
    let found = match &operands[2] {
        Value::Array(items) => {
            items.iter().enumerate().any(|(place, item)| Value::from(place) == operands[0] && *item == operands[1])
        }
        Value::Set(items) => operands[0] == operands[1] && items.contains(&operands[0]),
        Value::Object(fields) => fields.get(&operands[0]) == Some(&operands[1]),
        _ => false,
    };
    Ok(found.into())
}

/// The parts of an interpolated text: a text as it is, a set of one value for an expression, an empty one for an undefined one.
fn template_string(operands: &[Value]) -> Answer {
    let mut out = String::new();
    for part in array(operands, 0)? {
        match part {
            Value::String(text) => out.push_str(text),
            Value::Set(values) => match (values.len(), values.first()) {
                (0, _) => out.push_str("<undefined>"),
                (1, Some(Value::String(text))) => out.push_str(text),
                (1, Some(value)) => out.push_str(&term(value)),
                _ => return Err(BuiltinError::failed("template-strings must not produce multiple outputs")),
            },
            other => out.push_str(&term(other)),
        }
    }
    Ok(out.into())
}

/// Both operands as numbers, put through an operation of the engine.
macro_rules! arithmetic {
    ($operands:ident, |$a:ident, $b:ident| $result:expr) => {{
        let (Value::Number($a), Value::Number($b)) = (&$operands[0], &$operands[1]) else {
            let index = usize::from(matches!($operands[0], Value::Number(_)));
            return Err(wrong($operands, index, "number"));
        };
        $result.map(Value::Number).map_err(|error| BuiltinError::failed(error.to_string()))
    }};
}

fn plus(operands: &[Value]) -> Answer {
    arithmetic!(operands, |a, b| a.add(b))
}

fn mul(operands: &[Value]) -> Answer {
    arithmetic!(operands, |a, b| a.mul(b))
}

fn minus(operands: &[Value]) -> Answer {
    match (&operands[0], &operands[1]) {
        (Value::Set(a), Value::Set(b)) => Ok(a.difference(b).into_value()),
        (Value::Set(_), _) => Err(wrong(operands, 1, "set")),
        _ => arithmetic!(operands, |a, b| a.sub(b)),
    }
}

fn div(operands: &[Value]) -> Answer {
    if operands[1] == Value::from(0_u64) && matches!(operands[0], Value::Number(_)) {
        return Err(BuiltinError::failed("divide by zero"));
    }
    arithmetic!(operands, |a, b| a.clone().divide(b))
}

fn rem(operands: &[Value]) -> Answer {
    if let (Value::Number(a), Value::Number(b)) = (&operands[0], &operands[1]) {
        if !a.is_integer() || !b.is_integer() {
            return Err(BuiltinError::failed("modulo on floating-point number"));
        }
        if operands[1] == Value::from(0_u64) {
            return Err(BuiltinError::failed("modulo by zero"));
        }
    }
    arithmetic!(operands, |a, b| a.clone().modulo(b))
}

fn and(operands: &[Value]) -> Answer {
    match (&operands[0], &operands[1]) {
        (Value::Set(a), Value::Set(b)) => Ok(a.intersection(b).into_value()),
        (Value::Set(_), _) => Err(wrong(operands, 1, "set")),
        _ => Err(wrong(operands, 0, "set")),
    }
}

fn or(operands: &[Value]) -> Answer {
    match (&operands[0], &operands[1]) {
        (Value::Set(a), Value::Set(b)) => Ok(a.union(b).into_value()),
        (Value::Set(_), _) => Err(wrong(operands, 1, "set")),
        _ => Err(wrong(operands, 0, "set")),
    }
}
