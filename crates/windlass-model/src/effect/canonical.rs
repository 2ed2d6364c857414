//! JSON with the keys of all objects in order, so that what is the same has the same digest. An effect can be large: it is
//! written down once, not copied before.

use super::{AttributeChange, Effect, ResourceChange, Shown};
use serde::Serialize;
use serde_json::{Number, Value};
use std::collections::BTreeMap;

/// What is approved of an effect: the instance, the changes, the outputs. Checks judge and do not act, and drift is done already.
pub(super) fn effect(effect: &Effect) -> String {
    let Effect { instance, changes, outputs, checks: _, drift: _ } = effect;
    let mut out = String::from("[");
    plain(instance, &mut out);
    out.push_str(",[");
    separated(changes, &mut out, resource);
    out.push_str("],");
    plain(outputs, &mut out);
    out.push(']');
    out
}

pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// Below this, different whole numbers are different as floating-point numbers (2^53).
pub(crate) const EXACT: f64 = 9_007_199_254_740_992.0;

/// The same number, however it is written: `1` and `1.0`.
pub(crate) fn same_number(a: &Number, b: &Number) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b && a.abs() < EXACT)
}

fn separated<T>(items: impl IntoIterator<Item = T>, out: &mut String, mut each: impl FnMut(T, &mut String)) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(item, out);
    }
}

/// For small things: through a value, whose keys are put in order.
fn plain(item: &impl Serialize, out: &mut String) {
    // Plain data with text keys: serialising it cannot fail.
    write(&serde_json::to_value(item).unwrap_or_default(), out);
}

fn field(name: &str, out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
}

/// As it is serialised, fields in order, without `lists`: they are for the reader.
fn resource(change: &ResourceChange, out: &mut String) {
    let ResourceChange {
        address,
        previous_address,
        resource_type,
        provider,
        action,
        attributes,
        lists: _,
        replace_paths,
        reason,
        import_id,
    } = change;
    out.push('{');
    field("action", out);
    plain(action, out);
    field("address", out);
    plain(address, out);
    field("attributes", out);
    out.push('{');
    for (name, AttributeChange { before, after }) in attributes {
        if !out.ends_with('{') {
            out.push(',');
        }
        quoted(name, out);
        out.push_str(":{\"after\":");
        shown(after, out);
        out.push_str(",\"before\":");
        shown(before, out);
        out.push('}');
    }
    out.push('}');
    for (name, text) in [("import_id", import_id), ("previous_address", previous_address)] {
        if let Some(text) = text {
            field(name, out);
            quoted(text, out);
        }
    }
    field("provider", out);
    quoted(provider, out);
    if let Some(reason) = reason {
        field("reason", out);
        quoted(reason, out);
    }
    if !replace_paths.is_empty() {
        field("replace_paths", out);
        plain(replace_paths, out);
    }
    field("resource_type", out);
    quoted(resource_type, out);
    out.push('}');
}

fn shown(value: &Shown, out: &mut String) {
    match value {
        Shown::Value(value) => {
            out.push_str("{\"value\":");
            write(value, out);
            out.push('}');
        }
        other => plain(other, out),
    }
}

fn quoted(text: &str, out: &mut String) {
    // As above; a text is written without being copied.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            out.push('{');
            separated(object.iter().collect::<BTreeMap<_, _>>(), out, |(name, value), out| {
                quoted(name, out);
                out.push(':');
                write(value, out);
            });
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            separated(items, out, write);
            out.push(']');
        }
        Value::String(text) => quoted(text, out),
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(object) => {
                let ordered: BTreeMap<String, Value> = object.into_iter().map(|(k, v)| (k, sorted(v))).collect();
                Value::Object(ordered.into_iter().collect())
            }
            Value::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }

    /// What is written by hand is what serialising would write: digests of earlier releases hold.
    #[test]
    fn it_is_what_serialising_writes() {
        let change = |actions: Value| {
            json!({"actions": actions, "before": {"b": "x\"\n", "a": 1, "pw": "hunter22"}, "after": {"a": {"z": 1.5, "b": [true, null]}},
                "after_unknown": {"id": true}, "before_sensitive": {"pw": true}, "replace_paths": [["a"], ["l", 0]], "importing": {"id": "i"}})
        };
        let plan = json!({"format_version": "1.2", "resource_changes": [
            {"address": "t.\"x\"", "type": "t", "provider_name": "p", "previous_address": "t.y", "action_reason": "r", "change": change(json!(["update"]))},
            {"address": "t.z", "type": "t", "provider_name": "p", "change": change(json!(["delete", "create"]))},
            {"address": "t.d", "type": "t", "provider_name": "p", "change": {"actions": ["delete"]}}],
            "output_changes": {"o": {"actions": ["update"], "before": {"z": 1, "a": 2}, "after": "x"}}});
        let effect = Effect::from_plan_json("i".into(), &plan, b"k").unwrap();
        assert!(effect.changes.iter().all(|change| change.lists.is_empty()));
        let want = sorted(json!([effect.instance, effect.changes, effect.outputs])).to_string();
        assert_eq!(super::effect(&effect), want);
        assert_eq!(text(&plan), sorted(plan.clone()).to_string());
    }
}
