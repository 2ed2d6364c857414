//! What the policies of the library say about a plan, against what OPA 1.17.1 said about the same.
//!
//! `recorded/library.json` is the value of `data.recorded.result` (`recorded/asked.rego`) over the library without its tests and
//! the plan that `cargo run -p windlass-testkit --example plan -- 108` prints. When the plan or the library changes, ask OPA again.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use windlass_policy::engine::{Options, Rego};

fn modules() -> Vec<(Arc<str>, String)> {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("library");
    let mut found = vec![("asked.rego".into(), include_str!("recorded/asked.rego").to_owned())];
    let mut directories = vec![library];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                directories.push(path);
            } else if name.ends_with(".rego") && !name.ends_with("_test.rego") {
                found.push((path.display().to_string().into(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// Sets have no order in JSON.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(sorted).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> = members.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        other => other,
    }
}

#[test]
fn the_library_says_what_it_says_under_opa() {
    let plan = windlass_testkit::plan::synthetic_plan(108, 1);
    let mut rego = Rego::load(&modules(), &Options::default()).unwrap();
    rego.set_input(regorus::Value::from(plan));
    let found = serde_json::to_value(rego.eval_rule("data.recorded.result").unwrap()).unwrap();
    let recorded: Value = serde_json::from_str(include_str!("recorded/library.json")).unwrap();
    let (found, recorded) = (sorted(found), sorted(recorded));
    let clouds = recorded.as_object().unwrap();
    for (cloud, policies) in clouds {
        for (name, kinds) in policies.as_object().unwrap() {
            assert_eq!(&found[cloud][name], kinds, "{cloud}/{name}");
        }
    }
    assert_eq!(found, recorded);
    let denials = clouds.values().flat_map(|p| p.as_object().unwrap().values());
    let denials: usize = denials.filter_map(|kinds| kinds["deny"].as_array()).map(Vec::len).sum();
    assert!(denials > 60, "only {denials}: what was recorded is no test");
}
