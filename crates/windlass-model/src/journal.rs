//! What an apply was seen to do, compared with the state it left: what was under way when it ended, and what exists but is in
//! no state.

use crate::Micros;
use crate::id::{InstanceId, RunId, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Kinds of the events that an apply records for each resource.
pub mod event {
    pub const STARTED: &str = "resource.apply_started";
    pub const PROGRESS: &str = "resource.apply_progress";
    pub const APPLIED: &str = "resource.applied";
    pub const FAILED: &str = "resource.apply_failed";
    /// A provider died in the middle of a change, so that nobody knows whether what failed was done; of which resource is seldom
    /// told (`address`).
    pub const UNANSWERED: &str = "resource.apply_unanswered";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It was begun and no end was seen.
    InFlight,
    Done,
    Failed,
}

/// One resource of an apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub address: String,
    /// `create`, `update`, `delete` …, as terraform says.
    pub action: String,
    pub progress: Progress,
    /// Attribute that identifies it, and its value, where terraform told them.
    pub id_key: Option<String>,
    pub id_value: Option<String>,
}

/// The entries of one attempt, from its recorded events (kind, data) in order.
pub fn journal<'a>(events: impl Iterator<Item = (&'a str, &'a Value)>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (kind, data) in events {
        let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
        let progress = match kind {
            event::STARTED => Progress::InFlight,
            event::APPLIED => Progress::Done,
            event::FAILED => Progress::Failed,
            event::UNANSWERED => {
                let address = text("address");
                let meant = |e: &&mut Entry| address.as_ref().is_none_or(|address| e.address == *address);
                for entry in entries.iter_mut().filter(|e| e.progress == Progress::Failed).filter(meant) {
                    entry.progress = Progress::InFlight;
                }
                continue;
            }
            _ => continue,
        };
        let (address, action) = (text("address").unwrap_or_default(), text("action").unwrap_or_default());
        // A replacement is a delete and a create of one address.
        let known = entries.iter_mut().rev().find(|e| e.address == address && e.action == action);
        match known.filter(|_| progress != Progress::InFlight) {
            Some(entry) => {
                entry.progress = progress;
                entry.id_key = text("id_key").or(entry.id_key.take());
                entry.id_value = text("id_value").or(entry.id_value.take());
            }
            None => {
                entries.push(Entry { address, action, progress, id_key: text("id_key"), id_value: text("id_value") })
            }
        }
    }
    entries
}

/// What has to be looked at after an apply that ended badly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aftermath {
    /// Begun and not ended: they may have happened, wholly or in part.
    pub in_flight: Vec<Entry>,
    /// Created for certain, and in no state.
    pub lost: Vec<Entry>,
}

impl Aftermath {
    pub fn is_clean(&self) -> bool {
        self.in_flight.is_empty() && self.lost.is_empty()
    }
}

/// Compares what was seen with the state (format version 4, as `terraform state pull` prints it; `Null` for none).
pub fn aftermath(entries: &[Entry], state: &Value) -> Aftermath {
    let present = addresses(state);
    let in_flight = entries.iter().filter(|e| e.progress == Progress::InFlight).cloned().collect();
    let lost = entries
        .iter()
        .enumerate()
        .filter(|(at, entry)| {
            let deleted_later = entries[at + 1..].iter().any(|e| e.address == entry.address && e.action == "delete");
            entry.progress == Progress::Done
                && entry.action == "create"
                && !deleted_later
                && !present.contains_key(&entry.address)
        })
        .map(|(_, entry)| entry.clone())
        .collect();
    Aftermath { in_flight, lost }
}

/// Addresses of all managed resource instances of a state, with their ids where they have one.
pub fn addresses(state: &Value) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    for resource in state.get("resources").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| resource.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("mode") != "managed" {
            continue;
        }
        let module = if text("module").is_empty() { String::new() } else { format!("{}.", text("module")) };
        for instance in resource.get("instances").and_then(Value::as_array).into_iter().flatten() {
            if instance.get("deposed").is_some() {
                continue;
            }
            let index = match instance.get("index_key") {
                None | Some(Value::Null) => String::new(),
                Some(key) => format!("[{key}]"),
            };
            let id = instance.pointer("/attributes/id").and_then(Value::as_str).map(str::to_owned);
            found.insert(format!("{module}{}.{}{index}", text("type"), text("name")), id);
        }
    }
    found
}

/// An `import` block that takes the resource into the state, ready to be put beside its configuration. Where the id is not known
/// it says so in its place.
pub fn import_block(entry: &Entry) -> String {
    let id = entry.id_value.as_deref().map_or_else(
        || "\"<look the id up where the resource lives>\"".to_owned(),
        |id| Value::from(id).to_string().replace("${", "$${").replace("%{", "%%{"),
    );
    format!("import {{\n  to = {}\n  id = {id}\n}}\n", entry.address)
}

/// A stack instance that nothing may be applied to until a person has looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub instance: InstanceId,
    pub run: RunId,
    pub step: StepId,
    pub since: Micros,
    /// One sentence.
    pub reason: String,
    pub aftermath: Aftermath,
    /// A state that terraform could not write, kept for `windlass recover --push`: the id of the artefact, or the path of the file
    /// on the machine of the apply where no artefact could be kept.
    pub errored_state: Option<String>,
    /// A lock at the backend that may be the dead apply's own: a person has to say.
    #[serde(default)]
    pub lock: Option<BackendLock>,
}

/// A lock of a state as its backend describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendLock {
    pub id: String,
    /// `user@machine`.
    pub who: String,
    pub operation: String,
    /// RFC 3339.
    pub created: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn started(address: &str, action: &str) -> (&'static str, Value) {
        (event::STARTED, json!({ "address": address, "action": action }))
    }
    fn done(address: &str, action: &str, id: &str) -> (&'static str, Value) {
        (event::APPLIED, json!({ "address": address, "action": action, "id_key": "id", "id_value": id }))
    }
    fn state(resources: Value) -> Value {
        json!({ "version": 4, "resources": resources })
    }

    #[test]
    fn what_is_left_after_an_apply() {
        let check = |events: &[(&'static str, Value)], state: Value, in_flight: &[&str], lost: &[&str]| {
            let entries = journal(events.iter().map(|(kind, data)| (*kind, data)));
            let found = aftermath(&entries, &state);
            let names = |entries: &[Entry]| entries.iter().map(|e| e.address.clone()).collect::<Vec<_>>();
            assert_eq!(
                (names(&found.in_flight), names(&found.lost)),
                (in_flight.iter().map(|s| s.to_string()).collect(), lost.iter().map(|s| s.to_string()).collect()),
                "{entries:?}"
            );
        };
        let a =
            json!([{ "mode": "managed", "type": "t", "name": "a", "instances": [{ "attributes": { "id": "1" } }] }]);
        check(&[], Value::Null, &[], &[]);
        check(&[started("t.a", "create"), done("t.a", "create", "1")], state(a.clone()), &[], &[]);
        check(&[started("t.a", "create"), done("t.a", "create", "1")], Value::Null, &[], &["t.a"]);
        check(&[started("t.a", "create")], state(a.clone()), &["t.a"], &[]);
        check(
            &[started("t.a", "create"), (event::FAILED, json!({ "address": "t.a", "action": "create" }))],
            Value::Null,
            &[],
            &[],
        );
        // The provider died over it: perhaps it was made.
        let failed = |address: &str| (event::FAILED, json!({ "address": address, "action": "create" }));
        let unanswered = |address: &str| (event::UNANSWERED, json!({ "address": address }));
        check(
            &[started("t.a", "create"), started("t.b", "create"), failed("t.a"), failed("t.b"), unanswered("t.a")],
            Value::Null,
            &["t.a"],
            &[],
        );
        check(&[started("t.a", "create"), done("t.a", "create", "1"), unanswered("t.a")], state(a.clone()), &[], &[]);
        // Which one is not told: each that failed is in doubt.
        let anyone = (event::UNANSWERED, json!({ "address": null }));
        check(
            &[started("t.a", "create"), started("t.b", "create"), failed("t.a"), failed("t.b"), anyone],
            Value::Null,
            &["t.a", "t.b"],
            &[],
        );
        // A replacement: the old one is deleted, the new one made.
        let replaced = [
            started("t.a", "delete"),
            done("t.a", "delete", "1"),
            started("t.a", "create"),
            done("t.a", "create", "2"),
        ];
        check(&replaced, state(a.clone()), &[], &[]);
        check(&replaced, Value::Null, &[], &["t.a"]);
        check(&replaced[..3], Value::Null, &["t.a"], &[]);
        // Made first, deleted later: nothing is missing.
        check(
            &[
                started("t.b", "create"),
                done("t.b", "create", "2"),
                started("t.b", "delete"),
                done("t.b", "delete", "2"),
            ],
            Value::Null,
            &[],
            &[],
        );
        let many = json!([{ "module": "module.m[\"x\"]", "mode": "managed", "type": "t", "name": "c",
            "instances": [{ "index_key": 0, "attributes": {} }, { "index_key": "k", "attributes": {} }, { "deposed": "0a", "attributes": {} }] },
            { "mode": "data", "type": "t", "name": "d", "instances": [{}] }]);
        let names: Vec<String> = addresses(&state(many)).into_keys().collect();
        assert_eq!(names, ["module.m[\"x\"].t.c[\"k\"]", "module.m[\"x\"].t.c[0]"]);
    }

    #[test]
    fn import_blocks_are_ready_to_use() {
        let entry = |id: Option<&str>| Entry {
            address: "t.a[\"x\"]".into(),
            action: "create".into(),
            progress: Progress::Done,
            id_key: Some("id".into()),
            id_value: id.map(str::to_owned),
        };
        assert_eq!(import_block(&entry(Some("a\"${b}"))), "import {\n  to = t.a[\"x\"]\n  id = \"a\\\"$${b}\"\n}\n");
        assert!(import_block(&entry(None)).contains("<look the id up"));
    }
}
