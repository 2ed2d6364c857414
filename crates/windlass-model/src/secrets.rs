//! Secrets that nobody marked as sensitive: found by their shape, by the name of what holds them, by their randomness.

mod shapes;

use crate::mask::Mask;
use crate::review::{Finding, Level, Severity};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Why a text is taken for a secret, and where it stands first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Of the resource; `output NAME` for an output.
    pub address: String,
    /// e.g. `environment[0].variables.DB_PASSWORD`; empty for a whole output.
    pub attribute: String,
    /// e.g. `it has the shape of a GitHub token`.
    pub why: String,
}

/// Texts of a plan (`terraform show -json`) that look like secrets and are not marked as sensitive, with where and why.
pub fn find(plan: &Value) -> BTreeMap<String, Reason> {
    let list = |name: &str| plan.get(name).and_then(Value::as_array).into_iter().flatten();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut finder = Finder { address: String::new(), path: Vec::new(), found: BTreeMap::new() };
    for resource in list("resource_changes").chain(list("resource_drift")) {
        finder.address = text(resource, "address");
        finder.change(resource.get("change"));
    }
    for (name, change) in plan.get("output_changes").and_then(Value::as_object).into_iter().flatten() {
        finder.address = format!("output {name}");
        finder.path.push(Step::Hidden(name));
        finder.change(Some(change));
        finder.path.pop();
    }
    finder.found
}

/// Texts within a text that are secrets by their shape or by the names before them.
pub fn in_text(text: &str) -> BTreeSet<String> {
    in_value(&Value::from(text))
}

/// Texts in a value that are secrets by their shape or by their names.
pub fn in_value(value: &Value) -> BTreeSet<String> {
    let mut finder = Finder { address: String::new(), path: Vec::new(), found: BTreeMap::new() };
    finder.value(value, None);
    finder.found.into_keys().collect()
}

/// One warning for each attribute in which something was found; no part of a secret is in them.
pub fn findings(found: &BTreeMap<String, Reason>) -> Vec<Finding> {
    let mask = Mask::new(found.keys().map(String::as_str));
    let mut places: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for reason in found.values() {
        places.entry((&reason.address, &reason.attribute)).or_insert(&reason.why);
    }
    let finding = |((address, attribute), why): ((&str, &str), &str)| {
        let place = if attribute.is_empty() { address.to_owned() } else { format!("{address} `{attribute}`") };
        let how = if address.starts_with("output ") {
            "set `sensitive = true` on the output"
        } else {
            "give it by a variable with `sensitive = true`, or keep it in a secret store"
        };
        let message = mask.text(&format!("{place} looks like a secret and is not marked sensitive ({why}): {how}"));
        Finding {
            rule: Some("unmarked-secret".into()),
            address: (!address.starts_with("output ")).then(|| address.to_owned()),
            severity: Some(Severity::High),
            ..Finding::new(Level::Warn, "secrets", message)
        }
    };
    places.into_iter().map(finding).collect()
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
    /// Has a meaning as a name and is not part of the path.
    Hidden(&'a str),
    /// The text here is data.
    Text,
}

struct Finder<'a> {
    address: String,
    path: Vec<Step<'a>>,
    found: BTreeMap<String, Reason>,
}

impl<'a> Finder<'a> {
    fn change(&mut self, change: Option<&'a Value>) {
        let Some(change) = change else { return };
        let after = change.get("after");
        if let Some(value) = after {
            self.value(value, change.get("after_sensitive"));
        }
        match (change.get("before"), after) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                let mask = change.get("before_sensitive");
                if mask == Some(&Value::Bool(true)) {
                    return;
                }
                // Most is as it was, and was looked at.
                for (name, value) in before.iter().filter(|(name, value)| after.get(*name) != Some(value)) {
                    self.path.push(Step::Name(name));
                    self.value(value, mask.and_then(|mask| mask.get(name)));
                    self.path.pop();
                }
            }
            (Some(before), after) if Some(before) != after => self.value(before, change.get("before_sensitive")),
            _ => {}
        }
    }

    fn value(&mut self, value: &'a Value, mask: Option<&'a Value>) {
        if mask == Some(&Value::Bool(true)) {
            return;
        }
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    self.value(item, mask.and_then(|mask| mask.get(index)));
                    self.path.pop();
                }
            }
            Value::Object(object) => {
                // `{"name": "DB_PASSWORD", "value": "…"}`, as containers have it.
                let named =
                    ["name", "key", "Name", "Key", "parameter_name"].iter().find_map(|n| object.get(*n)?.as_str());
                for (name, item) in object {
                    let is_value = matches!(name.as_str(), "value" | "Value" | "parameter_value");
                    self.path.push(Step::Name(name));
                    let hidden = named.filter(|_| is_value);
                    self.path.extend(hidden.map(Step::Hidden));
                    self.value(item, mask.and_then(|mask| mask.get(name)));
                    if hidden.is_some() {
                        self.path.pop();
                    }
                    self.path.pop();
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if text.len() < shapes::SHORTEST {
            return;
        }
        if text.trim_start().starts_with(['{', '['])
            && shapes::may_hold(text)
            && let Ok(data @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str::<Value>(text)
        {
            // What is inside does not live as long as the plan: it is looked through on its own, under the same path.
            let mut inner = Finder {
                address: self.address.clone(),
                path: self.path.iter().copied().chain([Step::Text]).collect(),
                found: BTreeMap::new(),
            };
            inner.value(&data, None);
            for (text, reason) in inner.found {
                self.found.entry(text).or_insert(reason);
            }
            return;
        }
        for (secret, why) in shapes::in_text(text) {
            self.add(secret, why.to_owned());
        }
        if let Some(decoded) = shapes::decoded(text) {
            // Scripts and the like: what is found in them is masked in the encoded text as well.
            for (secret, why) in shapes::in_text(&decoded) {
                self.add(secret, format!("{why}, in base64"));
            }
        }
        let name = self.path.iter().rev().find_map(|step| match step {
            Step::Name(name) | Step::Hidden(name) => Some(*name),
            Step::Index(_) | Step::Text => None,
        });
        if let Some(why) = name.and_then(|name| shapes::by_name(name, text)) {
            self.add(text, why);
        }
    }

    fn add(&mut self, secret: &str, why: String) {
        if self.found.contains_key(secret) {
            return;
        }
        let mut attribute = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) if attribute.is_empty() || attribute.ends_with("→ ") => attribute.push_str(name),
                Step::Name(name) => attribute.push_str(&format!(".{name}")),
                Step::Index(index) => attribute.push_str(&format!("[{index}]")),
                Step::Text => attribute.push_str(" → "),
                Step::Hidden(_) => {}
            }
        }
        self.found.insert(secret.to_owned(), Reason { address: self.address.clone(), attribute, why });
    }
}

#[cfg(test)]
mod tests;
