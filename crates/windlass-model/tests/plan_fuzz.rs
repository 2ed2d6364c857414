//! The reader of plans is given what no terraform would write: it refuses or reads, and never panics or gives a secret away.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use windlass_model::id::InstanceId;
use windlass_model::{binding, diff, drift, effect, risk, secrets};
use windlass_testkit::plan::synthetic_plan;

/// All that is done with a plan.
fn read(plan: &Value) -> Option<effect::Effect> {
    let mut hidden = effect::secrets(plan, |_, _| true);
    hidden.extend(secrets::find(plan).into_keys());
    effect::planned_outputs(plan);
    effect::texts(plan);
    binding::variables_of(plan, b"key");
    binding::upstream_of(plan, b"key", |_, _| true);
    drift::refresh_as_changes(plan.clone());
    let effect = effect::Effect::from_plan(InstanceId::new("a[b]"), plan, b"key", &hidden).ok()?;
    for change in effect.changes.iter().chain(&effect.drift) {
        diff::diff(change);
    }
    effect.outputs.values().for_each(|output| drop(diff::diff_output(output)));
    risk::rank(&effect, &risk::Context { protected: false, dependants: 3, history: vec![1, 2, 3] });
    assert_eq!(effect::remaining_of(&effect, &effect).err(), None);
    let stored = serde_json::to_string(&effect).unwrap();
    assert_eq!(serde_json::from_str::<effect::Effect>(&stored).unwrap().digest(), effect.digest());
    Some(effect)
}

/// Every place in a document.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, inner)| {
            places(inner, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), out);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, inner)| places(inner, format!("{at}/{index}"), out));
        }
        _ => {}
    }
    out.push(at);
}

fn strange() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(Value::from),
        Just(json!(["create", "create"])),
        Just(json!(["delete", "create"])),
        Just(json!("{\"a\": [1, {\"b\": null}]}")),
        Just(json!("a: [\n- b: &x c\n  *x")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_with_anything_anywhere_is_read_or_refused(
        seed in any::<u64>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), strange()), 1..12),
    ) {
        let mut plan = synthetic_plan(12, seed);
        for (index, value) in changes {
            let mut all = Vec::new();
            places(&plan, String::new(), &mut all);
            *plan.pointer_mut(index.get::<String>(&all)).unwrap() = value;
        }
        read(&plan);
    }

    #[test]
    fn any_document_is_read_or_refused(document in strange()) {
        read(&document);
        read(&json!({ "format_version": "1.2", "resource_changes": document, "output_changes": document }));
    }
}

/// Lists within lists, as deep as the parser of JSON goes.
#[test]
fn deep_values_do_not_overflow() {
    let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(120), "]".repeat(120));
    let text = format!(
        r#"{{"format_version": "1.2", "resource_changes": [{{"address": "a.b", "type": "a", "mode": "managed", "change":
        {{"actions": ["update"], "before": {{"x": {}}}, "after": {{"x": {}}}, "after_unknown": {{}},
        "before_sensitive": {{}}, "after_sensitive": {{}}}}}}]}}"#,
        deep("1"),
        deep("2")
    );
    let effect = read(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(effect.changes.len(), 1);
}

#[test]
fn no_sensitive_value_is_stored() {
    let plan = synthetic_plan(400, 3);
    let mut passwords = BTreeSet::new();
    let changes = plan["resource_changes"].as_array().unwrap();
    for name in ["password", "admin_password", "root_password"] {
        for side in ["before", "after"] {
            passwords.extend(changes.iter().filter_map(|c| c["change"][side][name].as_str()));
        }
    }
    assert!(passwords.len() > 10);
    let stored = serde_json::to_string(&read(&plan).unwrap()).unwrap();
    for password in passwords {
        assert!(!stored.contains(password), "{password}");
    }
}
