//! Texts in queries of addresses, as Go's package `net/url` has them; and what tells of the world, which is nothing.

use super::{Answer, Builtin, BuiltinError, text, wrong};
use regorus::Value;
use std::collections::BTreeMap;

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("opa.runtime", 0, runtime),
    ("trace", 1, |operands| text(operands, 0).map(|_| true.into())),
    ("urlquery.decode", 1, |operands| decode(text(operands, 0)?).map(Value::from)),
    ("urlquery.decode_object", 1, decode_object),
    ("urlquery.encode", 1, |operands| Ok(encode(text(operands, 0)?).into())),
    ("urlquery.encode_object", 1, encode_object),
];

/// The release of OPA whose answers the builtins give.
const VERSION: &str = "1.17.1";

/// The names that OPA gives without any configuration. A decision does not depend on the process it is made in, and sees nothing
/// of it: the environment is empty.
fn runtime(_: &[Value]) -> Answer {
    Ok(Value::from(serde_json::json!({
        "authorization_enabled": false,
        "commit": "",
        "env": {},
        "skip_known_schema_check": false,
        "version": VERSION,
    })))
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decode(text: &str) -> Result<String, BuiltinError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                    let shown = String::from_utf8_lossy(&rest[..rest.len().min(2)]).into_owned();
                    return Err(BuiltinError::failed(format!("invalid URL escape \"%{shown}\"")));
                };
                bytes.push(byte);
                rest = &rest[2..];
            }
            other => bytes.push(*other),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn decode_object(operands: &[Value]) -> Answer {
    let mut fields: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
    for pair in text(operands, 0)?.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return Err(BuiltinError::failed("invalid semicolon separator in query"));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.entry(decode(name)?.into()).or_default().push(decode(value)?.into());
    }
    Ok(fields.into_iter().map(|(name, values)| (name, values.into())).collect::<BTreeMap<_, Value>>().into())
}

fn encode_object(operands: &[Value]) -> Answer {
    let Value::Object(fields) = &operands[0] else { return Err(wrong(operands, 0, "object")) };
    let mut pairs = Vec::new();
    for (name, value) in fields.iter_sorted() {
        let Value::String(name) = name else { return Err(BuiltinError::failed("operand 1: keys must be strings")) };
        let values: Vec<&Value> = match value {
            Value::Array(items) => items.iter().collect(),
            Value::Set(items) => items.iter_sorted().collect(),
            one => vec![one],
        };
        for value in values {
            let Value::String(value) = value else {
                return Err(BuiltinError::failed("operand 1: values must be strings, or arrays or sets of them"));
            };
            pairs.push(format!("{}={}", encode(name), encode(value)));
        }
    }
    Ok(pairs.join("&").into())
}
