//! Whether what would be done now is what was seen before.

use super::{Action, AttributeChange, Effect, ResourceChange, Shown, UNKNOWN};
use crate::id::InstanceId;
use serde_json::Value;
use std::collections::BTreeMap;

/// One way in which an effect is not the one that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub instance: InstanceId,
    /// Address of the resource, or `output NAME`.
    pub subject: String,
    /// What it would be now and what was seen, e.g. `would be replaced, not updated`.
    pub what: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.instance, self.subject, self.what)
    }
}

/// Equal, where a value that was unknown when it was seen may be any value now.
///
/// # Errors
/// Every difference.
pub fn matches_preview(seen: &Effect, now: &Effect) -> Result<(), Vec<Difference>> {
    let mut out = Differences { instance: &now.instance, found: Vec::new() };
    let before = by_address(seen);
    let after = by_address(now);
    for (address, change) in &after {
        match before.get(address) {
            None => out.add(address, format!("would be {}, which was not seen", change.action.as_str())),
            Some(seen) if seen.action != change.action => {
                out.add(address, format!("would be {}, not {}", change.action.as_str(), seen.action.as_str()))
            }
            Some(seen) => out.attributes(address, seen, change),
        }
    }
    for (address, change) in &before {
        if !after.contains_key(address) {
            out.add(address, format!("would not be {} any more", change.action.as_str()));
        }
    }
    out.outputs(seen, now, true);
    out.result()
}

/// What is still planned after an attempt that ended early was all part of what was approved: the same changes, or the rest of
/// one (the creation that follows a destruction; the replacement of what was created only in part).
///
/// # Errors
/// Everything that goes beyond.
pub fn remaining_of(approved: &Effect, now: &Effect) -> Result<(), Vec<Difference>> {
    let mut out = Differences { instance: &now.instance, found: Vec::new() };
    let approved_changes = by_address(approved);
    for change in &now.changes {
        // A deposed object is the old half of a replacement that creates first.
        let address = change.address.split(" (deposed ").next().unwrap_or(&change.address);
        let tainted = change.reason.as_deref() == Some("replace_because_tainted");
        match approved_changes.get(address) {
            None => out.add(&change.address, format!("would be {}, which was not approved", change.action.as_str())),
            Some(seen) => match (seen.action, change.action) {
                (a, b) if a == b => out.attributes(&change.address, seen, change),
                (Action::Replace | Action::ReplaceCreateFirst, Action::Create | Action::Destroy) => {}
                (
                    Action::Create | Action::Replace | Action::ReplaceCreateFirst,
                    Action::Replace | Action::ReplaceCreateFirst,
                ) if tainted => {}
                (a, b) => out.add(&change.address, format!("would be {}, not {}", b.as_str(), a.as_str())),
            },
        }
    }
    out.outputs(approved, now, false);
    out.result()
}

fn by_address(effect: &Effect) -> BTreeMap<&str, &ResourceChange> {
    effect.changes.iter().map(|change| (change.address.as_str(), change)).collect()
}

struct Differences<'a> {
    instance: &'a InstanceId,
    found: Vec<Difference>,
}

impl Differences<'_> {
    fn add(&mut self, subject: &str, what: String) {
        self.found.push(Difference { instance: self.instance.clone(), subject: subject.to_owned(), what });
    }

    fn result(self) -> Result<(), Vec<Difference>> {
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }

    fn attributes(&mut self, address: &str, seen: &ResourceChange, now: &ResourceChange) {
        if seen.previous_address != now.previous_address || seen.import_id != now.import_id {
            self.add(address, "would be moved or imported from elsewhere".into());
        }
        for (path, change) in &now.attributes {
            let covered = match seen.attributes.get(path) {
                Some(earlier) => agrees(&earlier.after, &change.after),
                // A parent that was unknown, or known in part, covers what is below it.
                None => parents(path).any(|parent| {
                    seen.attributes.get(parent).is_some_and(|earlier| covers(earlier, path, parent, &change.after))
                }),
            };
            if !covered {
                self.add(address, format!("would get another value of `{path}`"));
            }
        }
        for (path, earlier) in &seen.attributes {
            let still = now.attributes.contains_key(path)
                || now.attributes.keys().any(|p| parents(p).any(|parent| parent == path));
            // What was unknown may turn out to be what it is already.
            if !still && earlier.after != Shown::Unknown {
                self.add(address, format!("would not change `{path}` any more"));
            }
        }
    }

    fn outputs(&mut self, seen: &Effect, now: &Effect, all: bool) {
        for (name, output) in &now.outputs {
            let agreed = seen.outputs.get(name).is_some_and(|earlier| agrees(&earlier.after, &output.after));
            if !agreed {
                self.add(&format!("output {name}"), "would get another value".into());
            }
        }
        for (name, output) in seen.outputs.iter().filter(|_| all) {
            if !now.outputs.contains_key(name) && output.after != Shown::Unknown {
                self.add(&format!("output {name}"), "would not change any more".into());
            }
        }
    }
}

/// `a.b[0].c` → `a.b[0]`, `a.b`, `a`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let cut = rest.rfind(['.', '['])?;
        rest = &rest[..cut];
        Some(rest)
    })
}

fn covers(earlier: &AttributeChange, path: &str, parent: &str, _now: &Shown) -> bool {
    match &earlier.after {
        Shown::Unknown => true,
        Shown::Value(value) => at(value, &path[parent.len()..]).is_some_and(|v| v == UNKNOWN),
        Shown::Absent | Shown::Sensitive(_) => false,
    }
}

/// The part of a value at a path such as `.a[0]`.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = value;
    for step in path.split(['.', '[']).filter(|s| !s.is_empty()) {
        value = match step.strip_suffix(']') {
            Some(index) => value.get(index.parse::<usize>().ok()?)?,
            None => value.get(step)?,
        };
    }
    Some(value)
}

/// The later value is the earlier one, wherever that was known. What turns out sensitive only now could not be compared.
fn agrees(earlier: &Shown, now: &Shown) -> bool {
    match (earlier, now) {
        (Shown::Unknown, _) => true,
        (Shown::Value(earlier), Shown::Value(now)) => value_agrees(earlier, now),
        (earlier, now) => earlier == now,
    }
}

fn value_agrees(earlier: &Value, now: &Value) -> bool {
    match (earlier, now) {
        (Value::String(text), _) if text == UNKNOWN => true,
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| value_agrees(v, w)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| value_agrees(v, w)),
        (a, b) => a == b,
    }
}
