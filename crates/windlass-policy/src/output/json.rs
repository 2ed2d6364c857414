//! A list of outcomes.

use super::{View, severity_name};
use crate::conftest::{Judgement, Outcome};
use serde::Serialize;
use serde_json::{Map, Value, json};

pub fn render(outcomes: &[Outcome], view: &View) -> String {
    let value: Vec<Value> = outcomes.iter().map(|outcome| outcome_value(outcome, view)).collect();
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
    if value.serialize(&mut serializer).is_err() {
        // Values of JSON always become text.
        return "[]\n".into();
    }
    bytes.push(b'\n');
    String::from_utf8_lossy(&bytes).into_owned()
}

fn outcome_value(outcome: &Outcome, view: &View) -> Value {
    let mut object = Map::new();
    // Conftest has no name for standard input here.
    let file = if view.compatible && outcome.file == "-" { "" } else { &outcome.file };
    object.insert("filename".into(), file.into());
    object.insert("namespace".into(), outcome.namespace.clone().into());
    object.insert("successes".into(), outcome.successes.into());
    let lists = [
        ("skipped", &outcome.skipped),
        ("warnings", &outcome.warnings),
        ("failures", &outcome.failures),
        ("exceptions", &outcome.exceptions),
    ];
    for (name, list) in lists {
        if !list.is_empty() {
            object.insert(name.into(), list.iter().map(|judgement| judgement_value(judgement, view)).collect());
        }
    }
    if !outcome.broken.is_empty() {
        object.insert("broken".into(), json!(outcome.broken));
    }
    Value::Object(object)
}

fn judgement_value(judgement: &Judgement, view: &View) -> Value {
    let mut object = Map::new();
    object.insert("msg".into(), judgement.message.clone().into());
    if let Some((file, line)) = &judgement.place {
        let place = match line {
            Some(line) => json!({ "file": file, "line": line }),
            None => json!({ "file": file }),
        };
        object.insert("loc".into(), place);
    }
    if !judgement.metadata.is_empty() {
        object.insert("metadata".into(), Value::Object(judgement.metadata.clone()));
    }
    if !view.compatible {
        if let Some(span) = &judgement.policy {
            object.insert("policy".into(), json!({ "file": span.file, "line": span.line }));
        }
        if let Some(severity) = judgement.severity {
            object.insert("severity".into(), severity_name(severity).into());
        }
        if let Some(address) = &judgement.address {
            object.insert("address".into(), address.clone().into());
        }
        if let Some(help) = &judgement.help {
            object.insert("help".into(), help.clone().into());
        }
    }
    Value::Object(object)
}
