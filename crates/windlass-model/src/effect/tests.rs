use super::*;
use serde_json::{Value, json};

const KEY: &[u8] = b"key";

fn effect(changes: Value, outputs: Value) -> Effect {
    let plan = json!({"format_version": "1.2", "resource_changes": changes, "output_changes": outputs});
    Effect::from_plan_json("a".into(), &plan, KEY).unwrap()
}

fn resource(address: &str, change: Value) -> Value {
    json!({"address": address, "type": "terraform_data", "provider_name": "terraform.io/builtin/terraform", "change": change})
}

fn one(change: Value) -> ResourceChange {
    effect(json!([resource("terraform_data.x", change)]), json!({})).changes.remove(0)
}

#[test]
fn actions_are_told_apart() {
    let check = |actions: Value, want: Option<Action>| {
        let found = effect(json!([resource("terraform_data.x", json!({"actions": actions}))]), json!({})).changes;
        assert_eq!(found.first().map(|c| c.action), want, "{actions}");
    };
    check(json!(["create"]), Some(Action::Create));
    check(json!(["update"]), Some(Action::Update));
    check(json!(["delete"]), Some(Action::Destroy));
    check(json!(["delete", "create"]), Some(Action::Replace));
    check(json!(["create", "delete"]), Some(Action::ReplaceCreateFirst));
    check(json!(["forget"]), Some(Action::Forget));
    check(json!(["no-op"]), None);
    check(json!(["read"]), None);
    let moved = json!([{"address": "b", "previous_address": "a", "change": {"actions": ["no-op"]}}]);
    assert_eq!(effect(moved, json!({})).changes[0].action, Action::Move);
    let imported = json!([{"address": "b", "change": {"actions": ["no-op"], "importing": {"id": "i-1"}}}]);
    assert_eq!(effect(imported, json!({})).changes[0].import_id.as_deref(), Some("i-1"));
    let plan = json!({"format_version": "1.2", "resource_changes": [resource("x", json!({"actions": ["explode"]}))]});
    assert!(matches!(Effect::from_plan_json("a".into(), &plan, KEY), Err(EffectError::Actions { .. })));
    assert!(matches!(
        Effect::from_plan_json("a".into(), &json!({"format_version": "2.0"}), KEY),
        Err(EffectError::Version(_))
    ));
}

#[test]
fn attributes_differ_by_path_with_what_forces_a_replacement() {
    let change = one(json!({
        "actions": ["delete", "create"],
        "before": {"id": "1", "input": {"size": 3, "tags": ["a", "b"]}, "same": 1},
        "after": {"input": {"size": 5, "tags": ["a", "c"]}, "same": 1},
        "after_unknown": {"id": true, "output": true},
        "replace_paths": [["input", "size"], ["list", 0]]
    }));
    let shown: Vec<String> =
        change.attributes.iter().map(|(path, c)| format!("{path}: {:?} -> {:?}", c.before, c.after)).collect();
    assert_eq!(
        shown,
        [
            "id: Value(String(\"1\")) -> Unknown",
            "input.size: Value(Number(3)) -> Value(Number(5))",
            "input.tags[1]: Value(String(\"b\")) -> Value(String(\"c\"))",
            "output: Absent -> Unknown"
        ]
    );
    assert_eq!(change.replace_paths, ["input.size", "list[0]"]);
}

#[test]
fn sensitive_values_are_masked_by_mask_and_by_value() {
    let change = one(json!({
        "actions": ["update"],
        "before": {"password": "hunter22", "url": "x"},
        "after": {"password": "hunter33", "url": "https://user:hunter33@host"},
        "before_sensitive": {"password": true}, "after_sensitive": {"password": true}
    }));
    let text = serde_json::to_string(&change).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    let Shown::Sensitive(before) = &change.attributes["password"].before else { panic!("masked") };
    let Shown::Sensitive(after) = &change.attributes["password"].after else { panic!("masked") };
    assert_ne!(before, after);
}

#[test]
fn the_digest_depends_on_what_is_done_not_on_its_order() {
    let a = resource("a.a", json!({"actions": ["create"], "after": {"x": 1, "y": 2}}));
    let b = resource("b.b", json!({"actions": ["create"], "after": {"y": 2, "x": 1}}));
    assert_eq!(effect(json!([a, b]), json!({})).digest(), effect(json!([b, a]), json!({})).digest());
    let c = resource("b.b", json!({"actions": ["create"], "after": {"y": 3, "x": 1}}));
    assert_ne!(effect(json!([a, b]), json!({})).digest(), effect(json!([a, c]), json!({})).digest());
}

fn preview() -> Effect {
    effect(
        json!([
            resource(
                "t.x",
                json!({"actions": ["update"], "before": {"ip": "1", "n": 1}, "after": {"n": 2}, "after_unknown": {"ip": true}})
            ),
            resource(
                "t.y",
                json!({"actions": ["create"], "after": {"v": {"k": 1}}, "after_unknown": {"v": {"u": true}}})
            )
        ]),
        json!({"o": {"actions": ["create"], "before": null, "after_unknown": true}}),
    )
}

#[test]
fn a_preview_is_matched_by_any_value_of_what_it_did_not_know() {
    assert_eq!(matches_preview(&preview(), &preview()), Ok(()));
    let real = effect(
        json!([
            resource(
                "t.x",
                json!({"actions": ["update"], "before": {"ip": "1", "n": 1}, "after": {"n": 2, "ip": "2"}})
            ),
            resource("t.y", json!({"actions": ["create"], "after": {"v": {"k": 1, "u": "now"}}}))
        ]),
        json!({"o": {"actions": ["create"], "before": null, "after": "value"}}),
    );
    assert_eq!(matches_preview(&preview(), &real), Ok(()));
    assert_ne!(preview().digest(), real.digest());
}

#[test]
fn what_a_preview_knew_has_to_hold() {
    let check = |changes: Value, want: &str| {
        let real = effect(changes, json!({"o": {"actions": ["create"], "before": null, "after": "value"}}));
        let found = matches_preview(&preview(), &real).unwrap_err();
        let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains(want), "{text}");
    };
    let y = || resource("t.y", json!({"actions": ["create"], "after": {"v": {"k": 1, "u": "now"}}}));
    let x = |actions: Value, n: i64| {
        resource("t.x", json!({"actions": actions, "before": {"ip": "1", "n": 1}, "after": {"n": n, "ip": "2"}}))
    };
    check(json!([x(json!(["update"]), 3), y()]), "a: t.x would get another value of `n`");
    check(json!([x(json!(["delete", "create"]), 2), y()]), "t.x would be replaced, not updated");
    check(json!([y()]), "t.x would not be updated any more");
    check(
        json!([x(json!(["update"]), 2), y(), resource("t.z", json!({"actions": ["delete"]}))]),
        "t.z would be destroyed, which was not seen",
    );
}

#[test]
fn what_is_left_after_an_interruption_is_part_of_what_was_approved() {
    let approved = effect(
        json!([
            resource("t.a", json!({"actions": ["create"], "after": {"n": 1}})),
            resource("t.b", json!({"actions": ["delete", "create"], "before": {"n": 1}, "after": {"n": 2}}))
        ]),
        json!({}),
    );
    let left = |changes: Value| remaining_of(&approved, &effect(changes, json!({})));
    assert_eq!(left(json!([])), Ok(()));
    assert_eq!(left(json!([resource("t.a", json!({"actions": ["create"], "after": {"n": 1}}))])), Ok(()));
    assert_eq!(left(json!([resource("t.b", json!({"actions": ["create"], "after": {"n": 2}}))])), Ok(()));
    let mut tainted = resource("t.a", json!({"actions": ["delete", "create"], "before": {"n": 1}, "after": {"n": 1}}));
    tainted["action_reason"] = json!("replace_because_tainted");
    assert_eq!(left(json!([tainted])), Ok(()));
    assert!(left(json!([resource("t.a", json!({"actions": ["create"], "after": {"n": 9}}))])).is_err());
    assert!(left(json!([resource("t.c", json!({"actions": ["create"]}))])).is_err());
    assert!(left(json!([resource("t.a", json!({"actions": ["delete"]}))])).is_err());
}

#[test]
fn planned_outputs_keep_what_is_unknown() {
    let plan = json!({"output_changes": {
        "a": {"actions": ["update"], "after": "1", "after_unknown": false, "after_sensitive": true},
        "b": {"actions": ["no-op"], "after": "2"},
        "c": {"actions": ["create"], "after_unknown": true},
        "d": {"actions": ["delete"]}
    }});
    let outputs = planned_outputs(&plan);
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(outputs["a"].changed && outputs["a"].sensitive && !outputs["b"].changed);
    assert_eq!(outputs["c"].unknown, json!(true));
}

#[test]
fn drift_stands_apart_from_what_would_be_done() {
    let drifted = |before: Value, after: Value| {
        resource(
            "t.d",
            json!({"actions": ["update"], "before": before, "after": after, "after_sensitive": {"pw": true}}),
        )
    };
    let mut moved = resource("t.m", json!({"actions": ["no-op"]}));
    moved["previous_address"] = json!("t.n");
    let plan = json!({"format_version": "1.2",
    "resource_changes": [resource("t.x", json!({"actions": ["create"], "after": {"a": 1}}))],
    "resource_drift": [
        drifted(json!({"n": 1, "pw": "hunter22"}), json!({"n": 2, "pw": "hunter33"})),
        resource("t.c", json!({"actions": ["delete"], "before": {"n": 1}, "after": null})),
        resource("t.e", json!({"actions": ["update"], "before": {"n": 1}, "after": {"n": 1.0, "gone": null}})),
        moved
    ]});
    let whole = Effect::from_plan_json("a".into(), &plan, KEY).unwrap();
    let found: Vec<(&str, Action, Vec<&str>)> = whole
        .drift
        .iter()
        .map(|c| (c.address.as_str(), c.action, c.attributes.keys().map(String::as_str).collect()))
        .collect();
    assert_eq!(found, [("t.c", Action::Destroy, vec![]), ("t.d", Action::Update, vec!["n", "pw"])]);
    assert_eq!(whole.changes.len(), 1);
    let without = effect(json!([resource("t.x", json!({"actions": ["create"], "after": {"a": 1}}))]), json!({}));
    assert_eq!(whole.digest(), without.digest());
    assert_eq!(matches_preview(&without, &whole), Ok(()));
    assert!(!serde_json::to_string(&whole).unwrap().contains("hunter"));
    let only_drift = Effect { changes: vec![], ..whole };
    assert!(only_drift.is_empty());
}

/// As a release without whole lists, sets and drift stored it.
#[test]
fn an_old_stored_effect_is_read() {
    let stored = r#"{"instance":"a","changes":[{"address":"t.x","resource_type":"t","provider":"p","action":"update",
        "attributes":{"l[0]":{"before":{"value":"a"},"after":"unknown"},"l[1]":{"before":"absent","after":{"sensitive":"00ff"}}}}],
        "outputs":{},"checks":{}}"#;
    let effect: Effect = serde_json::from_str(stored).unwrap();
    assert_eq!(effect.digest(), "c70236327d4683125f89628f54e3b5ea765e1d9a4132b46112b285aefdfa80fa");
    let rows = crate::diff::diff(&effect.changes[0]).rows;
    assert_eq!(rows.iter().map(|row| row.path.as_str()).collect::<Vec<_>>(), ["l[0]", "l[1]"]);
}

#[test]
fn a_long_list_is_not_kept_whole() {
    let check = |length: usize, want: usize| {
        let (before, mut after) = (vec![json!("a"); length], vec![json!("a"); length]);
        after[0] = json!("b");
        let change = one(json!({"actions": ["update"], "before": {"l": before}, "after": {"l": after}}));
        assert_eq!((change.lists.len(), change.attributes.len()), (want, 1));
    };
    check(100, 1);
    check(30_000, 0);
}

/// Names of keys are texts, too.
#[test]
fn secrets_in_names_and_ids_are_masked() {
    let found = effect(
        json!([resource(
            "t.x",
            json!({"actions": ["update"], "importing": {"id": "hunter22"},
            "before": {"pw": "hunter22", "m": {}}, "after": {"pw": "hunter22", "m": {"hunter22": 1, "l": [{"hunter22": "x"}]}},
            "before_sensitive": {"pw": true}, "after_sensitive": {"pw": true}})
        )]),
        json!({"o": {"actions": ["create"], "after": {"aHVudGVyMjI=": "x%20hunter22"}}}),
    );
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("hunter22") && !text.contains("aHVudGVyMjI"), "{text}");
    assert!(found.changes[0].attributes.contains_key("m.(sensitive)"), "{text}");
}
