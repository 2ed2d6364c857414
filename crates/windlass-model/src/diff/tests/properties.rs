//! `apply(diff(before, after), before) == after`, and masked values are in no row.

use super::super::values::{Comparer, Found, Step, What};
use super::super::{Change, Line, diff, diff_output, text};
use crate::effect::{Effect, Shown};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Names that begin with `s` are sets in these tests.
const SETS: [&str; 6] = ["s", "a.s", "b.s", "a.b.s", "a.s.s", "s.s"];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0i64..4).prop_map(Value::from),
        prop_oneof![Just(json!(1.0)), Just(json!(0.5)), Just(json!(u64::MAX)), Just(json!(i64::MAX))],
        "[a-c]{0,2}".prop_map(Value::from),
        "([xy]{0,1}\n){0,4}[xy]{0,1}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[abs]|a\\.b| ", inner.clone(), 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            inner.clone().prop_map(|value| value.to_string().into()),
            inner.prop_map(|value| format!("{value:#}").into()),
        ]
    })
}

/// Values that have something in common.
fn pair() -> impl Strategy<Value = (Value, Value)> {
    (value(), value(), any::<u64>()).prop_map(|(a, b, seed)| {
        let mixed = mix(&a, &b, &mut { seed });
        (a, mixed)
    })
}

/// `a` with parts of `b` in it.
fn mix(a: &Value, b: &Value, seed: &mut u64) -> Value {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let choice = *seed >> 61;
    match (a, b) {
        _ if choice == 0 => b.clone(),
        _ if choice == 1 => a.clone(),
        (Value::Object(old), _) => {
            let mut out = Map::new();
            for (name, value) in old {
                let other = b.get(name).unwrap_or(b);
                out.insert(name.clone(), mix(value, other, seed));
            }
            if let (2..4, Value::Object(new)) = (choice, b) {
                out.extend(new.clone());
            }
            Value::Object(out)
        }
        (Value::Array(old), _) => {
            let mut out: Vec<Value> = old.iter().map(|value| mix(value, b, seed)).collect();
            match choice {
                2 => out.reverse(),
                3 => out.insert(0, b.clone()),
                4 if !out.is_empty() => drop(out.remove(0)),
                _ => {}
            }
            Value::Array(out)
        }
        _ => a.clone(),
    }
}

/// What `before` becomes when the differences are carried out.
fn apply(found: &[Found], before: &Value, at: usize) -> Value {
    let Some(first) = found.first() else { return before.clone() };
    if found.len() == 1 && first.path.len() == at {
        return match &first.what {
            What::Added(value) | What::Changed(_, value) => value.clone(),
            What::Lines(_, after) | What::Formatting(after) => after.as_str().into(),
            What::Removed(_) => panic!("the whole is not removed"),
        };
    }
    let mut groups: Vec<(Step, Vec<Found>)> = Vec::new();
    for one in found {
        let step = one.path[at].clone();
        let added = one.path.len() == at + 1 && matches!(one.what, What::Added(_));
        match groups.iter_mut().find(|(known, list)| {
            *known == step && added == (list[0].path.len() == at + 1 && matches!(list[0].what, What::Added(_)))
        }) {
            Some((_, list)) => list.push(one.clone()),
            None => groups.push((step, vec![one.clone()])),
        }
    }
    match before {
        Value::String(text) => {
            assert!(matches!(groups.as_slice(), [(Step::Text, _)]), "{groups:?}");
            let read = text::data(text, text).expect("it was read before").0;
            apply(&groups[0].1, &read, at + 1).to_string().into()
        }
        Value::Object(old) => {
            let mut out = old.clone();
            for (step, list) in &groups {
                let Step::Name(name) = step else { panic!("a name") };
                match &list[0].what {
                    What::Removed(_) if list[0].path.len() == at + 1 => drop(out.remove(name)),
                    _ => {
                        let value = apply(list, old.get(name).unwrap_or(&Value::Null), at + 1);
                        out.insert(name.clone(), value);
                    }
                }
            }
            Value::Object(out)
        }
        Value::Array(old) => {
            let mut kept: Vec<Option<Value>> = old.iter().cloned().map(Some).collect();
            let mut added: BTreeMap<usize, Value> = BTreeMap::new();
            for (step, list) in &groups {
                let Step::Index(index) = step else { panic!("an index") };
                match &list[0].what {
                    What::Added(value) if list[0].path.len() == at + 1 => drop(added.insert(*index, value.clone())),
                    What::Removed(_) if list[0].path.len() == at + 1 => kept[*index] = None,
                    _ => kept[*index] = Some(apply(list, &old[*index], at + 1)),
                }
            }
            let mut out: Vec<Value> = kept.into_iter().flatten().collect();
            for (index, value) in added {
                // In a set, the place does not matter.
                out.insert(index.min(out.len()), value);
            }
            Value::Array(out)
        }
        other => panic!("nothing is below {other}"),
    }
}

/// The value with sets in order, texts that are data read, whole numbers written as such.
fn normal(value: &Value, path: &str, sets: bool) -> Value {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(object) => object.iter().map(|(k, v)| (k.clone(), normal(v, &below(k), sets))).collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| normal(item, path, sets)).collect();
            if sets && SETS.contains(&path) {
                items.sort_by_key(Value::to_string);
            }
            Value::Array(items)
        }
        Value::String(text) => match text::data(text, text) {
            Some((read, _)) => json!({ "text": normal(&read, "", false) }),
            None => value.clone(),
        },
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => json!(float as i64),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Order of keys does not matter.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let fields: BTreeMap<&String, String> = object.iter().map(|(k, v)| (k, sorted(v))).collect();
            format!("{fields:?}")
        }
        Value::Array(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

fn check(before: &Value, after: &Value) -> Result<(), TestCaseError> {
    let sets: Vec<String> = SETS.map(str::to_owned).to_vec();
    let mut comparer = Comparer::new(&sets, true);
    comparer.compare(before, after);
    let got = apply(&comparer.out, before, 0);
    let (got, want) = (sorted(&normal(&got, "", true)), sorted(&normal(after, "", true)));
    prop_assert_eq!(got, want, "{} to {} by {:?}", before, after, comparer.out);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_shown_leads_from_before_to_after((before, after) in pair()) {
        check(&before, &after)?;
    }

    #[test]
    fn what_is_the_same_has_no_rows(value in value()) {
        let mut comparer = Comparer::new(&[], true);
        comparer.compare(&value, &value);
        prop_assert!(comparer.out.is_empty());
    }

    #[test]
    fn lines_lead_from_one_text_to_the_other(before in "([ab\u{e9}]\n){0,12}", after in "([ab\u{e9}]\n){0,12}") {
        let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
        let (mut at, mut got) = (0, Vec::new());
        for line in text::lines(&before, &after) {
            match line {
                Line::Same(text) => {
                    prop_assert_eq!(&text, old[at]);
                    got.push(text);
                    at += 1;
                }
                Line::Removed(text) => {
                    prop_assert_eq!(&text, old[at]);
                    at += 1;
                }
                Line::Added(text) => got.push(text),
                Line::Folded(count) => {
                    got.extend(old[at..at + count].iter().map(|line| line.to_string()));
                    at += count;
                }
            }
        }
        prop_assert_eq!(at, old.len());
        prop_assert_eq!(got, new);
    }
}

/// A value with secrets in it, and the mask that says where they are; in some places the mask says nothing.
fn secret_value() -> impl Strategy<Value = (Value, Value)> {
    let secret = "QQ[A-Zq\"\\\\<& \n]{6,12}WW";
    let leaf = prop_oneof![
        leaf().prop_map(|value| (value, json!(false))),
        secret.prop_map(|text| (text.into(), json!(true))),
        (secret, "[a-c]{0,3}").prop_map(|(text, around)| (format!("{around}{text}{around}").into(), json!(true))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                (items.iter().map(|(v, _)| v.clone()).collect(), items.iter().map(|(_, m)| m.clone()).collect())
            }),
            prop::collection::btree_map("[abs]", inner.clone(), 0..4).prop_map(|map| {
                let value = map.iter().map(|(k, (v, _))| (k.clone(), v.clone())).collect();
                (value, map.iter().map(|(k, (_, m))| (k.clone(), m.clone())).collect())
            }),
            inner.prop_map(|(value, _)| (value, json!(true))),
        ]
    })
}

fn masked_texts(value: &Value, mask: &Value, out: &mut Vec<String>) {
    match (value, mask) {
        (Value::String(text), Value::Bool(true)) => out.push(text.clone()),
        (Value::Array(items), _) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, v)| masked_texts(v, if mask == &json!(true) { mask } else { &mask[i] }, out));
        }
        (Value::Object(object), _) => {
            object.iter().for_each(|(k, v)| masked_texts(v, if mask == &json!(true) { mask } else { &mask[k] }, out));
        }
        _ => {}
    }
}

fn all_texts(change: &Change, out: &mut Vec<String>) {
    fn texts(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) => out.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|v| texts(v, out)),
            Value::Object(object) => object.iter().for_each(|(k, v)| {
                out.push(k.clone());
                texts(v, out);
            }),
            _ => {}
        }
    }
    let mut shown = |shown: &Shown| {
        if let Shown::Value(value) = shown {
            texts(value, out)
        }
    };
    match change {
        Change::Added(value) | Change::Removed(value) => shown(value),
        Change::Changed { before, after } => {
            shown(before);
            shown(after);
        }
        Change::Lines(lines) => {
            let whole: Vec<&str> = lines
                .iter()
                .map(|line| match line {
                    Line::Same(text) | Line::Added(text) | Line::Removed(text) => text.as_str(),
                    Line::Folded(_) => "",
                })
                .collect();
            out.push(whole.join("\n"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn masked_values_are_in_no_row(
        (before, before_mask) in secret_value(),
        (after, after_mask) in secret_value(),
        made in any::<bool>(),
    ) {
        let mut secrets = Vec::new();
        masked_texts(&before, &before_mask, &mut secrets);
        masked_texts(&after, &after_mask, &mut secrets);
        // Line ends are no part of what is looked for.
        secrets.retain(|text| text.len() >= 6 && text.bytes().filter(|b| !matches!(b, b'\n' | b'\r')).count() >= crate::mask::SHORTEST);
        // The same secrets again, where no mask tells of them, and inside other texts.
        let copies: Vec<Value> = secrets.iter().map(|text| json!({ "copy": text, "url": format!("x://u:{text}@h\nline\n") })).collect();
        let documents: Vec<Value> = secrets.iter().map(|text| json!({ "in": text, "n": 1 }).to_string().into()).collect();
        let change = json!({
            "actions": if made { json!(["delete", "create"]) } else { json!(["update"]) },
            "before": {"a": before, "s": copies, "docs": [], "t": documents.first()},
            "after": {"a": after, "s": [], "docs": documents, "t": "{\"in\":1}"},
            "before_sensitive": {"a": before_mask}, "after_sensitive": {"a": after_mask}
        });
        let plan = json!({"format_version": "1.2",
            "resource_changes": [{"address": "t.x", "type": "t", "provider_name": "p", "change": change}],
            "resource_drift": [{"address": "t.x", "type": "t", "provider_name": "p", "change": change}],
            "output_changes": {"o": {"actions": ["update"], "before": copies, "after": documents}}});
        let effect = Effect::from_plan_json("a".into(), &plan, b"key").unwrap();
        let mut texts = Vec::new();
        for change in effect.changes.iter().chain(&effect.drift) {
            for row in diff(change).rows {
                all_texts(&row.change, &mut texts);
                texts.push(row.path);
            }
        }
        for row in effect.outputs.values().flat_map(diff_output) {
            all_texts(&row.change, &mut texts);
        }
        let stored = serde_json::to_string(&effect).unwrap();
        for secret in &secrets {
            prop_assert!(!texts.iter().any(|text| text.contains(secret.as_str())), "{secret:?} in {texts:?}");
            let escaped = Value::from(secret.as_str()).to_string();
            prop_assert!(!stored.contains(&escaped[1..escaped.len() - 1]), "{secret:?} in {stored}");
        }
        let again: Effect = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(again, effect);
    }
}
