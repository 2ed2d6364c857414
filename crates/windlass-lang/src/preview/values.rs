//! Planned outputs as expressions.

use super::Outputs;
use serde_json::Value;
use std::collections::BTreeSet;

/// What a plan does not know yet: unknown, of any type.
const UNKNOWN: &str = "jsondecode(uuid())";

/// The outputs as a state has them: those that are null are not in it.
pub(super) fn object(outputs: &Outputs) -> String {
    let items: Vec<String> = outputs
        .iter()
        .filter(|(_, output)| !output.value.is_null() || any(&output.unknown))
        .map(|(name, output)| {
            let value = expression(&output.value, &output.unknown);
            format!("{} = {}", quoted(name), if output.sensitive { format!("sensitive({value})") } else { value })
        })
        .collect();
    if items.is_empty() { "{}".into() } else { format!("{{ {} }}", items.join(", ")) }
}

fn any(mask: &Value) -> bool {
    match mask {
        Value::Bool(mask) => *mask,
        Value::Array(items) => items.iter().any(any),
        Value::Object(items) => items.values().any(any),
        _ => false,
    }
}

/// A value with its unknown parts, as an expression.
pub(super) fn expression(value: &Value, unknown: &Value) -> String {
    match (value, unknown) {
        (_, Value::Bool(true)) => UNKNOWN.into(),
        (Value::Object(items), Value::Object(masks)) if any(unknown) => {
            let names: BTreeSet<&String> = items.keys().chain(masks.keys()).collect();
            let of = |name: &String| {
                expression(items.get(name).unwrap_or(&Value::Null), masks.get(name).unwrap_or(&Value::Bool(false)))
            };
            let items: Vec<String> = names.into_iter().map(|name| format!("{} = {}", quoted(name), of(name))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        (Value::Array(items), Value::Array(masks)) if any(unknown) => {
            let of = |index: usize| {
                expression(items.get(index).unwrap_or(&Value::Null), masks.get(index).unwrap_or(&Value::Bool(false)))
            };
            let items: Vec<String> = (0..items.len().max(masks.len())).map(of).collect();
            format!("[{}]", items.join(", "))
        }
        // Nothing planned and nothing masked as known: the whole of it comes later.
        (Value::Null, mask) if any(mask) => UNKNOWN.into(),
        (value, _) => format!("jsondecode({})", quoted(&value.to_string())),
    }
}

/// An HCL string that means exactly this text.
fn quoted(text: &str) -> String {
    let escaped = Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{");
    // JSON's short forms that HCL does not know.
    escaped.replace("\\b", "\\u0008").replace("\\f", "\\u000c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_that_are_unknown_stay_unknown_and_text_is_escaped() {
        let check = |value: Value, unknown: Value, want: &str| assert_eq!(expression(&value, &unknown), want);
        check(
            json!({"a": "${x}", "b": null}),
            json!({"b": true}),
            "{ \"a\" = jsondecode(\"\\\"$${x}\\\"\"), \"b\" = jsondecode(uuid()) }",
        );
        check(json!([1, null]), json!([false, true]), "[jsondecode(\"1\"), jsondecode(uuid())]");
        check(json!({"a": [1]}), json!({"a": [false]}), "jsondecode(\"{\\\"a\\\":[1]}\")");
        check(Value::Null, json!({"a": true}), "jsondecode(uuid())");
    }
}
