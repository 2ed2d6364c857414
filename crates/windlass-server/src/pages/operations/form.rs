//! The form of an operation: a field for each parameter.

use windlass_app::operations::Arguments;
use windlass_app::operations::form::{Field as Known, Form};
use windlass_model::operation::parameter::{Choice, ParameterKind};

use serde_json::Value;
use std::collections::BTreeSet;

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Field {
    pub name: String,
    /// As Markdown.
    pub description: String,
    pub required: bool,
    pub control: Control,
    /// What it has to be like, e.g. `from 1 to 5`.
    pub hint: String,
    /// Why there is nothing to choose from, in words.
    pub why_no_choices: String,
    pub mistakes: Vec<String>,
    /// Other fields depend on it.
    pub depended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Control {
    Text {
        value: String,
        suggestions: Vec<Suggestion>,
    },
    Long {
        value: String,
    },
    Select {
        choices: Vec<Suggestion>,
        may_be_empty: bool,
    },
    Several {
        choices: Vec<Suggestion>,
    },
    /// Asked for on the page before it begins, so that it is never sent back to a browser.
    Secret,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Suggestion {
    pub value: String,
    pub label: String,
    pub chosen: bool,
}

/// How many choices a select has; more are suggested while one types.
const SELECTED: usize = 300;
/// How many are suggested.
const SUGGESTED: usize = 2_000;

/// The name of a parameter's field in the form.
pub fn field_name(parameter: &str) -> String {
    format!("p.{parameter}")
}

/// As it stands in a field.
pub fn told(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(told).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

impl Field {
    /// The fields of a form with what was typed so far. Mistakes of what was not given yet are told once it is `sent`.
    pub fn all(form: &Form, given: &Arguments, depended: &BTreeSet<String>, sent: bool) -> Vec<Self> {
        form.fields.iter().map(|field| Self::of(field, given, depended, sent)).collect()
    }

    fn of(field: &Known, given: &Arguments, depended: &BTreeSet<String>, sent: bool) -> Self {
        let is_secret = field.kind == ParameterKind::Secret;
        let value = given.get(&field.name).or(field.value.as_ref()).or(field.default.as_ref());
        let mistakes = field.mistakes.iter().filter(|_| !is_secret && (sent || field.given));
        Self {
            name: field.name.clone(),
            description: field.description.clone().unwrap_or_default(),
            required: field.required,
            control: if is_secret { Control::Secret } else { Control::of(field, value) },
            hint: hint(field),
            why_no_choices: field.why_no_choices.clone().unwrap_or_default(),
            mistakes: mistakes.map(|mistake| mistake.0.clone()).collect(),
            depended: depended.contains(&field.name),
        }
    }
}

impl Control {
    fn of(field: &Known, value: Option<&Value>) -> Self {
        let text = value.map(told).unwrap_or_default();
        let plain = |text: String| Self::Text { value: text, suggestions: Vec::new() };
        if field.kind == ParameterKind::MultiChoice {
            let chosen: BTreeSet<String> = match value {
                Some(Value::Array(items)) => items.iter().map(told).collect(),
                Some(Value::String(text)) => text.split(',').map(|item| item.trim().to_owned()).collect(),
                _ => BTreeSet::new(),
            };
            let choices =
                field.choices.iter().flatten().map(|choice| suggestion(choice, chosen.contains(&choice.value)));
            return Self::Several { choices: choices.collect() };
        }
        if field.kind == ParameterKind::Bool {
            let choices = [("true", "yes"), ("false", "no")].map(|(value, label)| Suggestion {
                value: value.into(),
                label: label.into(),
                chosen: value == text,
            });
            return Self::Select { choices: choices.into(), may_be_empty: value.is_none() || !field.required };
        }
        match &field.choices {
            None if field.kind == ParameterKind::File => Self::Long { value: text },
            None => plain(text),
            // Any of them with another, or a list that nobody reads to its end.
            Some(choices) if field.kind == ParameterKind::HostSet || choices.len() > SELECTED => Self::Text {
                value: text,
                suggestions: choices.iter().take(SUGGESTED).map(|choice| suggestion(choice, false)).collect(),
            },
            Some(choices) => Self::Select {
                may_be_empty: !field.required || !choices.iter().any(|choice| choice.value == text),
                choices: choices.iter().map(|choice| suggestion(choice, choice.value == text)).collect(),
            },
        }
    }
}

fn suggestion(choice: &Choice, chosen: bool) -> Suggestion {
    Suggestion { value: choice.value.clone(), label: choice.label.clone(), chosen }
}

fn hint(field: &Known) -> String {
    let mut hints = Vec::new();
    match field.kind {
        ParameterKind::Duration => hints.push("a duration such as 90s, 5m, 2h or 7d".to_owned()),
        ParameterKind::DateTime => hints.push("a time with a zone, such as 2026-03-29T02:30:00+01:00".to_owned()),
        ParameterKind::Number => hints.push("a number".to_owned()),
        ParameterKind::File => hints.push("the content of a file, at most 1 MiB".to_owned()),
        ParameterKind::HostSet => hints.push("a host set, or hosts with commas between".to_owned()),
        _ => {}
    }
    if field.kind != ParameterKind::Duration {
        match (field.min, field.max) {
            (Some(min), Some(max)) => hints.push(format!("from {min} to {max}")),
            (Some(min), None) => hints.push(format!("at least {min}")),
            (None, Some(max)) => hints.push(format!("at most {max}")),
            (None, None) => {}
        }
    }
    hints.extend(field.pattern.as_ref().map(|pattern| format!("like {pattern}")));
    hints.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(kind: ParameterKind) -> Known {
        Known {
            name: "p".into(),
            kind,
            description: None,
            required: true,
            default: None,
            choices: None,
            why_no_choices: None,
            pattern: None,
            min: None,
            max: None,
            given: false,
            value: None,
            mistakes: Vec::new(),
        }
    }

    #[test]
    fn every_kind_has_a_control() {
        #[track_caller]
        fn check(field: &Known, value: Value, want: &str) {
            let control = Control::of(field, Some(&value).filter(|value| !value.is_null()));
            assert_eq!(serde_json::to_string(&control).unwrap(), want);
        }
        let two = || Some(vec![Choice::plain("a"), Choice::plain("b")]);
        check(&known(ParameterKind::String), "x".into(), r#"{"Text":{"value":"x","suggestions":[]}}"#);
        check(&known(ParameterKind::Number), 3.into(), r#"{"Text":{"value":"3","suggestions":[]}}"#);
        check(&known(ParameterKind::File), "a\nb".into(), r#"{"Long":{"value":"a\nb"}}"#);
        let choice = Known { choices: two(), ..known(ParameterKind::Choice) };
        check(
            &choice,
            "b".into(),
            r#"{"Select":{"choices":[{"value":"a","label":"a","chosen":false},{"value":"b","label":"b","chosen":true}],"may_be_empty":false}}"#,
        );
        check(
            &Known { choices: two(), ..known(ParameterKind::MultiChoice) },
            serde_json::json!(["a"]),
            r#"{"Several":{"choices":[{"value":"a","label":"a","chosen":true},{"value":"b","label":"b","chosen":false}]}}"#,
        );
        check(
            &known(ParameterKind::Bool),
            Value::Null,
            r#"{"Select":{"choices":[{"value":"true","label":"yes","chosen":false},{"value":"false","label":"no","chosen":false}],"may_be_empty":true}}"#,
        );
        check(
            &Known { choices: two(), ..known(ParameterKind::HostSet) },
            serde_json::json!(["h1", "h2"]),
            r#"{"Text":{"value":"h1, h2","suggestions":[{"value":"a","label":"a","chosen":false},{"value":"b","label":"b","chosen":false}]}}"#,
        );
        let many = (0..=SELECTED).map(|n| Choice::plain(n.to_string())).collect();
        let many = Known { choices: Some(many), ..known(ParameterKind::Stack) };
        assert!(
            matches!(Control::of(&many, None), Control::Text { suggestions, .. } if suggestions.len() == SELECTED + 1)
        );
    }

    #[test]
    fn mistakes_are_told_once_there_is_something_to_be_wrong() {
        let mut field = known(ParameterKind::String);
        field.mistakes = vec![windlass_model::operation::parameter::Mistake("it is required".into())];
        let count = |field: &Known, sent| Field::of(field, &Arguments::new(), &BTreeSet::new(), sent).mistakes.len();
        assert_eq!((count(&field, false), count(&field, true)), (0, 1));
        field.given = true;
        assert_eq!(count(&field, false), 1);
        field.kind = ParameterKind::Secret;
        let secret = Field::of(&field, &[("p".to_owned(), "hunter2".into())].into(), &BTreeSet::new(), true);
        assert_eq!((secret.control, secret.mistakes.len()), (Control::Secret, 0));
    }
}
