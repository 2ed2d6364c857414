//! A plan as it may be kept: every sensitive value replaced.

use serde_json::Value;
use std::collections::BTreeSet;

/// What stands for a sensitive value.
pub const SENSITIVE: &str = "(sensitive)";

/// Replaces what the masks of a plan (`terraform show -json`) say is sensitive, and in every other text what `mask` replaces in
/// it. What cannot be known for certain to be no secret is replaced too: a mask hides all that is below it.
pub fn masked_plan(plan: &mut Value, mask: &dyn Fn(&str) -> String) {
    let hidden: BTreeSet<String> = plan
        .pointer("/configuration/root_module/variables")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, variable)| variable.get("sensitive") == Some(&Value::Bool(true)))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Object(variables)) = plan.get_mut("variables") {
        for (_, variable) in variables.iter_mut().filter(|(name, _)| hidden.contains(*name)) {
            *variable = serde_json::json!({ "value": SENSITIVE });
        }
    }
    walk(plan, mask);
}

/// Value and mask stand side by side under these names.
const PAIRS: [(&str, &str); 5] = [
    ("before", "before_sensitive"),
    ("after", "after_sensitive"),
    ("values", "sensitive_values"),
    ("before_identity", "before_sensitive"),
    ("after_identity", "after_sensitive"),
];

fn walk(value: &mut Value, text_mask: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(object) => {
            for (name, mask) in PAIRS {
                if let Some(mask) = object.get(mask).cloned()
                    && let Some(value) = object.get_mut(name)
                {
                    hide(value, &mask);
                }
            }
            // An output, or a variable of a module.
            if object.get("sensitive") == Some(&Value::Bool(true)) {
                for name in ["value", "default"] {
                    if let Some(value) = object.get_mut(name) {
                        *value = Value::String(SENSITIVE.to_owned());
                    }
                }
            }
            object.iter_mut().for_each(|(_, value)| walk(value, text_mask));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| walk(value, text_mask)),
        Value::String(text) => *text = text_mask(text),
        _ => {}
    }
}

fn hide(value: &mut Value, mask: &Value) {
    match (value, mask) {
        (value, Value::Bool(true)) if !value.is_null() => *value = Value::String(SENSITIVE.to_owned()),
        (Value::Object(object), Value::Object(masks)) => {
            for (name, mask) in masks {
                if let Some(value) = object.get_mut(name) {
                    hide(value, mask);
                }
            }
        }
        (Value::Array(items), Value::Array(masks)) => {
            items.iter_mut().zip(masks).for_each(|(value, mask)| hide(value, mask));
        }
        _ => {}
    }
}
