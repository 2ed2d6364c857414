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
