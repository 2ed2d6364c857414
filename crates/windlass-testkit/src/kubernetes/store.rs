//! Objects with their versions, and the changes since some time.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A change that watches are told of.
#[derive(Debug, Clone)]
pub struct Change {
    pub version: u64,
    pub plural: &'static str,
    pub namespace: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    pub object: Value,
}

#[derive(Debug, Default)]
pub struct Store {
    version: u64,
    objects: BTreeMap<(&'static str, String, String), Value>,
    changes: Vec<Change>,
    /// Changes up to this version are forgotten.
    compacted: u64,
    made: u64,
}

/// Text of a member.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.changes.clear();
    }

    pub fn get(&self, plural: &'static str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(plural, namespace.to_owned(), name.to_owned()))
    }

    pub fn all(&self, plural: &str) -> Vec<Value> {
        self.objects.iter().filter(|((kind, ..), _)| *kind == plural).map(|(_, object)| object.clone()).collect()
    }

    /// Changes after a version; `None` when they are forgotten.
    pub fn since(&self, version: u64) -> Option<Vec<Change>> {
        (version >= self.compacted)
            .then(|| self.changes.iter().filter(|change| change.version > version).cloned().collect())
    }

    /// Text that no other call gives.
    pub fn unique(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub fn add(&mut self, plural: &'static str, namespace: &str, mut object: Value) -> Value {
        let number = self.unique();
        let metadata = &mut object["metadata"];
        metadata["namespace"] = namespace.into();
        metadata["uid"] = format!("00000000-0000-4000-8000-{number:012x}").into();
        metadata["creationTimestamp"] = now().into();
        metadata["generation"] = 1.into();
        self.write(plural, "ADDED", object)
    }

    /// Writes an object that is there; nothing happens when it is as it was. One that is to be deleted and waits for nobody goes.
    pub fn update(&mut self, plural: &'static str, object: Value) {
        let current = self.get(plural, text(&object, "/metadata/namespace"), text(&object, "/metadata/name"));
        let Some(current) = current.filter(|current| **current != object) else { return };
        let generation = current["metadata"]["generation"].as_u64().unwrap_or(1);
        let mut object = object;
        if current["spec"] != object["spec"] {
            object["metadata"]["generation"] = (generation + 1).into();
        }
        let waits = object.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
        let object = self.write(plural, "MODIFIED", object);
        // A pod goes when its node says so.
        if plural != "pods" && object["metadata"]["deletionTimestamp"].is_string() && !waits {
            self.remove(plural, &object);
        }
    }

    /// Changes the object in place, where it still is.
    pub fn edit(&mut self, plural: &'static str, object: &Value, edit: impl FnOnce(&mut Value)) {
        let found = self.get(plural, text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let Some(found) = found.filter(|found| found["metadata"]["uid"] == object["metadata"]["uid"]) else { return };
        let mut found = found.clone();
        edit(&mut found);
        self.update(plural, found);
    }

    pub fn remove(&mut self, plural: &'static str, object: &Value) {
        let key = (plural, text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned());
        if let Some(mut removed) = self.objects.remove(&key) {
            self.version += 1;
            removed["metadata"]["resourceVersion"] = self.version.to_string().into();
            let change = Change { version: self.version, plural, namespace: key.1, kind: "DELETED", object: removed };
            self.changes.push(change);
        }
    }

    fn write(&mut self, plural: &'static str, kind: &'static str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let namespace = text(&object, "/metadata/namespace").to_owned();
        let key = (plural, namespace.clone(), text(&object, "/metadata/name").to_owned());
        self.objects.insert(key, object.clone());
        self.changes.push(Change { version: self.version, plural, namespace, kind, object: object.clone() });
        object
    }
}

/// A status as the API answers with.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": if code < 300 { "Success" } else { "Failure" },
        "reason": reason, "message": message, "code": code })
}
