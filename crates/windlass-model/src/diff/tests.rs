use super::*;
use crate::effect::Effect;
use serde_json::{Value, json};

/// One line per row, as a person might write it down.
fn written(rows: &[Row]) -> Vec<String> {
    let shown = |value: &Shown| match value {
        Shown::Absent => "-".to_owned(),
        Shown::Value(value) => value.to_string(),
        Shown::Sensitive(_) => "***".into(),
        Shown::Unknown => "?".into(),
    };
    rows.iter()
        .map(|row| {
            let change = match &row.change {
                Change::Added(value) => format!("+ {}", shown(value)),
                Change::Removed(value) => format!("- {}", shown(value)),
                Change::Changed { before, after } => format!("{} => {}", shown(before), shown(after)),
                Change::Lines(lines) => {
                    let line = |line: &Line| match line {
                        Line::Same(text) => format!(" {text}"),
                        Line::Added(text) => format!("+{text}"),
                        Line::Removed(text) => format!("-{text}"),
                        Line::Folded(count) => format!("@{count}"),
                    };
                    lines.iter().map(line).collect::<Vec<_>>().join("|")
                }
            };
            let mark = if row.forces_replacement { "! " } else { "" };
            format!("{mark}{}: {change}", row.path)
        })
        .collect()
}

fn of_plan(change: Value) -> Diff {
    let resource = json!({"address": "t.x", "type": "t", "provider_name": "p", "change": change});
    let plan = json!({"format_version": "1.2", "resource_changes": [resource]});
    diff(&Effect::from_plan_json("a".into(), &plan, b"key").unwrap().changes[0])
}

#[test]
fn rows_are_in_order_and_noise_is_folded() {
    let found = of_plan(json!({
        "actions": ["delete", "create"],
        "before": {"id": "1", "z": 1, "a": 1, "gone": true, "arn": "x"},
        "after": {"z": 2, "a": 2, "new": [1]},
        "after_unknown": {"id": true, "arn": true, "output": true},
        "replace_paths": [["z"], ["same"]]
    }));
    assert_eq!(found.unknown, ["arn", "id", "output"]);
    assert_eq!(written(&found.rows), ["! z: 1 => 2", "! same: ", "a: 1 => 2", "gone: - true", "new: + [1]"]);
    let update = of_plan(json!({
        "actions": ["update"], "before": {"id": "1"}, "after": {}, "after_unknown": {"id": true}
    }));
    assert_eq!(written(&update.rows), ["id: \"1\" => ?"]);
    assert!(update.unknown.is_empty());
}

/// Rows of an update from one object to another; `sets` are those of the provider's schema.
fn update(before: Value, after: Value, sets: Value) -> Vec<String> {
    let change = json!({"actions": ["update"], "before": before, "after": after});
    let resource = json!({"address": "t.x", "type": "t", "provider_name": "p", "change": change});
    let plan = json!({"format_version": "1.2", "resource_changes": [resource]});
    let mut effect = Effect::from_plan_json("a".into(), &plan, b"key").unwrap();
    let schema =
        json!({"format_version": "1.0", "provider_schemas": {"p": {"resource_schemas": {"t": {"block": sets}}}}});
    effect.mark_sets(&crate::effect::Sets::from_schema(schema.to_string().as_bytes()).unwrap());
    written(&diff(&effect.changes[0]).rows)
}

#[test]
fn values_differ_where_they_do() {
    let check = |before: Value, after: Value, want: &[&str]| {
        assert_eq!(update(json!({ "a": before }), json!({ "a": after }), json!({})), want);
    };
    check(json!({"x": {"y": 1, "z": 1}}), json!({"x": {"y": 2, "z": 1}}), &["a.x.y: 1 => 2"]);
    check(json!([1, 2]), json!([1.0, 3.5]), &["a[1]: 2 => 3.5"]);
    check(json!("1"), json!(1), &["a: \"1\" => 1"]);
    check(json!([1]), json!({"b": 1}), &["a: [1] => {\"b\":1}"]);
    // An item that was put in is one row, not one for each that stands elsewhere now.
    check(json!(["a", "b", "c"]), json!(["x", "a", "b", "c"]), &["a[0]: + \"x\""]);
    check(json!(["a", "b", "c"]), json!(["b", "c", "d"]), &["a[0]: - \"a\"", "a[2]: + \"d\""]);
    check(json!(["a", "b"]), json!(["a", "c"]), &["a[1]: \"b\" => \"c\""]);
    // Objects in lists: what changed in them, beside what is new and gone.
    check(
        json!([{"name": "ssh", "port": 22, "from": ["a"]}, {"name": "web", "port": 80, "from": ["b"]}]),
        json!([{"name": "dns", "port": 53, "from": null}, {"name": "ssh", "port": 2222, "from": ["a"]}]),
        &[
            "a[0].port: 22 => 2222",
            "a[1]: - {\"name\":\"web\",\"port\":80,\"from\":[\"b\"]}",
            "a[0]: + {\"name\":\"dns\",\"port\":53}",
        ],
    );
    check(json!([{"k.x": 1}]), json!([{"k.x": 2}]), &["a[0][\"k.x\"]: 1 => 2"]);
}

#[test]
fn sets_have_no_order() {
    let schema = || {
        json!({"attributes": {"s": {"type": ["set", "string"]}}, "block_types": {
        "rule": {"nesting_mode": "set", "block": {"attributes": {"from": {"type": ["set", "string"]}, "ports": {"type": ["list", "number"]}}}}}})
    };
    let check = |before: Value, after: Value, want: &[&str]| assert_eq!(update(before, after, schema()), want);
    check(json!({"s": ["a", "b", "c"]}), json!({"s": ["c", "a", "b"]}), &[]);
    check(json!({"s": ["a", "b"]}), json!({"s": ["c", "b"]}), &["s[0]: - \"a\"", "s[0]: + \"c\""]);
    let rule = |port: u16, from: &[&str], text: &str| json!({"port": port, "protocol": "tcp", "from": from, "text": text, "self": false});
    check(
        json!({"rule": [rule(22, &["x", "y"], "ssh"), rule(80, &["z"], "web")]}),
        json!({"rule": [rule(80, &["z"], "web"), rule(22, &["y", "q", "x"], "ssh")]}),
        &["rule[0].from[1]: + \"q\""],
    );
    // Two that have little in common are two.
    check(
        json!({"rule": [rule(22, &["x"], "ssh")]}),
        json!({"rule": [rule(443, &["y"], "web")]}),
        &[
            "rule[0]: - {\"port\":22,\"protocol\":\"tcp\",\"from\":[\"x\"],\"text\":\"ssh\",\"self\":false}",
            "rule[0]: + {\"port\":443,\"protocol\":\"tcp\",\"from\":[\"y\"],\"text\":\"web\",\"self\":false}",
        ],
    );
    check(
        json!({"rule": [{"ports": [1, 2], "text": "a"}]}),
        json!({"rule": [{"ports": [2, 1], "text": "a"}]}),
        &["rule[0].ports[0]: + 2", "rule[0].ports[1]: - 2"],
    );
}

#[test]
fn texts_are_data_where_they_are() {
    let check = |before: &str, after: &str, want: &[&str]| {
        assert_eq!(update(json!({ "a": before }), json!({ "a": after }), json!({})), want, "{before:?} {after:?}");
    };
    check(
        r#"{"Statement":[{"Action":["s3:Get"],"Effect":"Allow"}]}"#,
        r#"{ "Statement": [ { "Effect": "Allow", "Action": ["s3:Get", "s3:Put"] } ] }"#,
        &["a → Statement[0].Action[1]: + \"s3:Put\""],
    );
    check(r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1.0 }"#, &["a:  (only formatting)"]);
    check(r#"{"a":null}"#, r#"{}"#, &["a → a: - null"]);
    check(r#"["x"]"#, r#"["y"]"#, &["a → [0]: \"x\" => \"y\""]);
    check(r#"{"in":"{\"b\":1}"}"#, r#"{"in":"{\"b\":2}"}"#, &["a → in → b: 1 => 2"]);
    // Reading these as data would lose what differs.
    check(r#"{"a":1,"a":2}"#, r#"{"a":2}"#, &[r#"a: "{\"a\":1,\"a\":2}" => "{\"a\":2}""#]);
    check(
        r#"[1234567890123456789012]"#,
        r#"[1234567890123456789013]"#,
        &[r#"a: "[1234567890123456789012]" => "[1234567890123456789013]""#],
    );
    check("a: 1\nb:\n  - x\n", "a: 1\nb:\n  - x\n  - y\n", &["a → b[1]: + \"y\""]);
    check("a: 1\nb: [x]\n", "a:   1\nb:  [x]\n", &["a:  (only formatting)"]);
    check("a: \"x\"\n", "a: x\n", &["a: \"a: \\\"x\\\"\\n\" => \"a: x\\n\""]);
    check("v: 1.10\nw: 2\n", "v: 1.1\nw: 2\n", &["a: -v: 1.10|+v: 1.1| w: 2"]);
    check("on: yes\nb: 1\n", "on: \"yes\"\nb: 1\n", &["a: -on: yes|+on: \"yes\"| b: 1"]);
    check("#cloud-config\na: 1\n", "#cloud\na: 1\n", &["a: -#cloud-config|+#cloud| a: 1"]);
    check("---\na: 1\n---\nb: 2\n", "---\na: 1\n---\nb: 3\n", &["a → [1].b: 2 => 3"]);
    check("a: !Ref x\nb: 1\n", "a: !Ref y\nb: 1\n", &["a: -a: !Ref x|+a: !Ref y| b: 1"]);
}

#[test]
fn long_texts_differ_by_line() {
    let text = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let check = |before: String, after: String, want: &str| {
        assert_eq!(update(json!({ "a": before }), json!({ "a": after }), json!({})), [format!("a: {want}")]);
    };
    let script = ["#!/bin/sh", "set -e", "one", "two", "three", "four", "five"];
    let mut other = script;
    other[5] = "4";
    check(text(&script), text(&other), "@3| two| three|-four|+4| five");
    check(text(&["a", "b"]), "a\nb".into(), " a|-b|+b (no newline at the end)");
    check(text(&["a", "b"]), text(&["a\r", "b"]), "-a|+a␍| b");
    check(text(&["x"]), text(&["x", "y"]), " x|+y");
}

/// What is long, deep or made to be expensive is shown all the same.
#[test]
fn large_texts_and_lists_end_in_time() {
    let lines = |step: usize| (0..20_000).map(|n| format!("line {}\n", n * step % 20_011)).collect::<String>();
    let found = update(json!({ "a": lines(1) }), json!({ "a": lines(7) }), json!({}));
    assert_eq!(found.len(), 1);
    let items = |step: usize| (0..20_000).map(|n| json!({"n": n * step % 20_011})).collect::<Value>();
    let found = of_plan(json!({"actions": ["update"], "before": {"a": items(1)}, "after": {"a": items(7)}}));
    assert!(found.rows.len() > 10_000);
    let bomb = |end: &str| {
        let rows = (1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
        format!("a0: &a0 [x]\n{}end: {end}\n", rows.collect::<String>())
    };
    let found = update(json!({ "a": bomb("1") }), json!({ "a": bomb("2") }), json!({}));
    assert!(found.len() == 1 && found[0].ends_with("-end: 1|+end: 2"), "{found:?}");
}

#[test]
fn what_is_sensitive_masks_only_itself() {
    let found = of_plan(json!({
        "actions": ["update"],
        "before": {"list": [{"name": "a", "pw": "hunter22"}, {"name": "b"}], "doc": "{\"n\":1,\"pw\":\"hunter22\"}", "t": "x\nhunter22\ny\n"},
        "after": {"list": [{"name": "a", "pw": "hunter33"}, {"name": "b"}, {"name": "c", "pw": "hunter33"}], "doc": "{\"n\":2,\"pw\":\"hunter33\"}", "t": "x\nhunter33\ny\n"},
        "before_sensitive": {"list": [{"pw": true}]},
        "after_sensitive": {"list": [{"pw": true}, {}, {"pw": true}]}
    }));
    assert_eq!(
        written(&found.rows),
        [
            "doc → n: 1 => 2",
            "doc → pw: *** => ***",
            "list[0].pw: *** => ***",
            "list[2]: + {\"name\":\"c\",\"pw\":\"(sensitive)\"}",
            "t:  x|-(sensitive)|+(sensitive)| y"
        ]
    );
}

#[test]
fn what_is_unknown_is_one_of_what_changes() {
    let change = |actions: Value| {
        of_plan(
            json!({"actions": actions, "before": {"l": [{"id": "1", "n": "a"}, {"id": "2", "n": "b"}], "m": {"a": "1"}},
            "after": {"l": [{"n": "x"}, {"n": "a"}, {"n": "b"}], "m": {}},
            "after_unknown": {"l": [{"id": true}, {"id": true}, {"id": true}], "m": {"a": true}}}),
        )
    };
    let added = "l[0]: + {\"n\":\"x\",\"id\":\"(known after apply)\"}";
    let updated = change(json!(["update"]));
    assert_eq!(written(&updated.rows), ["l[0].id: \"1\" => ?", "l[1].id: \"2\" => ?", added, "m.a: \"1\" => ?"]);
    let replaced = change(json!(["delete", "create"]));
    assert_eq!(
        (written(&replaced.rows), replaced.unknown),
        (vec![added.to_owned()], ["l[0].id", "l[1].id", "m.a"].map(str::to_owned).to_vec())
    );
}

#[test]
fn the_cause_of_a_replacement_is_marked() {
    let check = |paths: Value, want: &[&str]| {
        let found = of_plan(json!({
            "actions": ["delete", "create"], "before": {"l": ["a", "b"], "p": "{\"x\":1}"},
            "after": {"l": ["z", "a", "b"], "p": "{\"x\":2}"}, "after_unknown": {"l": [], "id": true}, "replace_paths": paths
        }));
        assert_eq!(written(&found.rows), want);
    };
    check(json!([["l"]]), &["! l[0]: + \"z\"", "p → x: 1 => 2"]);
    check(json!([["l", 2]]), &["! l[0]: + \"z\"", "p → x: 1 => 2"]);
    check(json!([["p"]]), &["! p → x: 1 => 2", "l[0]: + \"z\""]);
    check(json!([["id"]]), &["! id: + ?", "l[0]: + \"z\"", "p → x: 1 => 2"]);
}

#[test]
fn outputs_differ_by_part() {
    let plan = json!({"format_version": "1.2", "output_changes": {
        "a": {"actions": ["update"], "before": {"x": [1, 2]}, "after": {"x": [1, 2, 3]}},
        "b": {"actions": ["create"], "before": null, "after_unknown": true},
        "c": {"actions": ["update"], "before": "1", "after": "2", "before_sensitive": true, "after_sensitive": true},
        "d": {"actions": ["delete"], "before": "x", "after": null}
    }});
    let effect = Effect::from_plan_json("a".into(), &plan, b"key").unwrap();
    let found: Vec<String> = effect.outputs.values().flat_map(|output| written(&diff_output(output))).collect();
    assert_eq!(found, ["x[2]: + 3", ": + ?", ": *** => ***", ": - \"x\""]);
}

mod properties;
