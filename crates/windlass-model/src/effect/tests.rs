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
