//! Whether what was given for a parameter is a value of it. Forms, terminals and chat give texts, programs give JSON: both become
//! the same value.

use super::{Parameter, ParameterKind};
use crate::Micros;
use crate::operation::HostSet;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// The longest content of a file, and the longest text, bytes.
const LONGEST: usize = 1 << 20;
/// How many choices a sentence names.
const NAMED: usize = 12;

/// Something that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub value: String,
    /// What is shown for it.
    pub label: String,
}

impl Choice {
    /// One that is shown as it is.
    pub fn plain(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { label: value.clone(), value }
    }
}

/// What a value is compared with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// What there is to choose from; of stacks and services those of the project. `None` where the parameter has no choices.
    pub choices: Option<&'a [Choice]>,
    /// Those of the project.
    pub host_sets: &'a [HostSet],
}

/// What is wrong with a value: a sentence without a full stop that says what to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mistake(pub String);

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T, Vec<Mistake>> {
    Err(vec![Mistake(text.into())])
}

/// The value as the run has it: a number, a truth value, a text, or a list of texts; `null` for what is not given and not
/// required. An empty text counts as not given.
///
/// # Errors
/// All that is wrong with it.
pub fn validate(parameter: &Parameter, given: &Value, context: Context<'_>) -> Result<Value, Vec<Mistake>> {
    let is_empty = match given {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if is_empty {
        return if parameter.required { wrong(missing(parameter)) } else { Ok(Value::Null) };
    }
    let value = convert(parameter, given, context)?;
    let mistakes = limits(parameter, &value);
    if mistakes.is_empty() { Ok(value) } else { Err(mistakes) }
}

fn missing(parameter: &Parameter) -> String {
    let what = match parameter.kind {
        ParameterKind::Choice => "choose one",
        ParameterKind::MultiChoice => "choose at least one",
        ParameterKind::File => "choose a file",
        ParameterKind::Stack => "choose a stack",
        ParameterKind::Service => "choose a service",
        ParameterKind::HostSet => "choose hosts",
        _ => "give a value",
    };
    format!("it is required: {what}")
}

fn convert(parameter: &Parameter, given: &Value, context: Context<'_>) -> Result<Value, Vec<Mistake>> {
    match parameter.kind {
        ParameterKind::String | ParameterKind::Secret | ParameterKind::File => {
            let text = text(given).ok_or_else(|| vec![Mistake("a text is expected".into())])?;
            if text.len() > LONGEST {
                return wrong(format!("it is longer than {} KiB", LONGEST >> 10));
            }
            if text.contains('\0') {
                return wrong("it holds a null character, which no program can be given");
            }
            match context.choices {
                Some(choices) if parameter.kind == ParameterKind::String => one_of(&text, choices),
                _ => Ok(text.into()),
            }
        }
        ParameterKind::Number => number(given),
        ParameterKind::Bool => match given {
            Value::Bool(_) => Ok(given.clone()),
            Value::String(text) => match text.trim().to_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true.into()),
                "false" | "no" | "off" | "0" => Ok(false.into()),
                _ => wrong(format!("{text:?} is neither true nor false")),
            },
            _ => wrong("true or false is expected"),
        },
        ParameterKind::Choice | ParameterKind::Stack | ParameterKind::Service => {
            let text = text(given).ok_or_else(|| vec![Mistake("one of the choices is expected, as a text".into())])?;
            one_of(&text, context.choices.unwrap_or_default())
        }
        ParameterKind::MultiChoice => {
            let choices = context.choices.unwrap_or_default();
            all(list(given)?, |text| one_of(text, choices))
        }
        ParameterKind::HostSet => hosts(&list(given)?, context.host_sets),
        ParameterKind::Duration => match given.as_str().and_then(|text| Some((text, duration(text)?))) {
            Some((text, _)) => Ok(text.trim().into()),
            None => wrong(format!("{given} is no duration: give a number and a unit, such as 90s, 5m, 2h or 7d")),
        },
        ParameterKind::DateTime => match given.as_str() {
            Some(text) => date_time(text),
            None => wrong("a date and a time are expected, as a text"),
        },
    }
}

/// Numbers and truth values are given as texts where programs make them.
fn text(given: &Value) -> Option<String> {
    match given {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn number(given: &Value) -> Result<Value, Vec<Mistake>> {
    let Some(text) = text(given) else { return wrong("a number is expected") };
    let text = text.trim();
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(whole.into());
    }
    let parsed = text.parse::<f64>().ok().and_then(Number::from_f64);
    parsed.map(Value::Number).ok_or_else(|| vec![Mistake(format!("{text:?} is no number: give one such as 3 or 0.5"))])
}

/// A JSON list, or a text with commas between.
fn list(given: &Value) -> Result<Vec<String>, Vec<Mistake>> {
    let mut found: Vec<String> = match given {
        Value::Array(items) => match items.iter().map(text).collect() {
            Some(texts) => texts,
            None => return wrong("a list of texts is expected"),
        },
        Value::String(text) => text.split(',').map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect(),
        _ => return wrong("a list is expected, or a text with commas between its members"),
    };
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|text| seen.insert(text.clone()));
    Ok(found)
}

fn all(texts: Vec<String>, check: impl Fn(&str) -> Result<Value, Vec<Mistake>>) -> Result<Value, Vec<Mistake>> {
    let (mut values, mut mistakes) = (Vec::new(), Vec::new());
    for text in texts {
        match check(&text) {
            Ok(value) => values.push(value),
            Err(more) => mistakes.extend(more),
        }
    }
    if mistakes.is_empty() { Ok(Value::Array(values)) } else { Err(mistakes) }
}

/// The value of a choice; what is shown for it counts as well where it means one alone.
fn one_of(text: &str, choices: &[Choice]) -> Result<Value, Vec<Mistake>> {
    if let Some(choice) = choices.iter().find(|choice| choice.value == text) {
        return Ok(choice.value.clone().into());
    }
    let mut labelled = choices.iter().filter(|choice| choice.label == text);
    if let (Some(choice), None) = (labelled.next(), labelled.next()) {
        return Ok(choice.value.clone().into());
    }
    wrong(match choices {
        [] => format!("{text:?} cannot be chosen: there is nothing to choose from"),
        choices => {
            let names: Vec<&str> = choices.iter().take(NAMED).map(|choice| choice.value.as_str()).collect();
            let more = match choices.len() - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{text:?} is not among the choices: {}{more}", names.join(", "))
        }
    })
}

/// Names of sets stand for their hosts.
fn hosts(given: &[String], sets: &[HostSet]) -> Result<Value, Vec<Mistake>> {
    let (mut found, mut mistakes): (Vec<String>, Vec<Mistake>) = (Vec::new(), Vec::new());
    for name in given {
        match sets.iter().find(|set| set.name == *name) {
            Some(set) => found.extend(set.members.iter().cloned()),
            None if sets.iter().any(|set| set.members.contains(name)) => found.push(name.clone()),
            None => {
                let names: Vec<&str> = sets.iter().take(NAMED).map(|set| set.name.as_str()).collect();
                let help = if names.is_empty() {
                    "the project has no host_set".to_owned()
                } else {
                    format!("give {}, or hosts that are in them", names.join(", "))
                };
                mistakes.push(Mistake(format!("{name:?} is no host set and no host of one: {help}")));
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|host| seen.insert(host.clone()));
    if mistakes.is_empty() { Ok(found.into()) } else { Err(mistakes) }
}

/// `90s`, `5m`, `2h`, `7d` or `500ms` in microseconds; `None` for anything else.
pub fn duration(text: &str) -> Option<Micros> {
    let units = [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000_i64)];
    units.iter().find_map(|(unit, micros)| {
        let number: i64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
        (number >= 0).then(|| number.checked_mul(*micros)).flatten()
    })
}

/// RFC 3339 with an offset, with the name of a zone behind it, or with that name alone; with both they have to agree.
fn date_time(text: &str) -> Result<Value, Vec<Mistake>> {
    let text = text.trim();
    let help = "give a date and a time with an offset or a zone, such as 2026-03-29T02:30:00+01:00 or \
                2026-03-29T02:30[Europe/Berlin]";
    if text.contains('[') {
        // A time of the wall that is skipped or comes twice has to say its offset.
        let parser = jiff::fmt::temporal::DateTimeParser::new()
            .offset_conflict(jiff::tz::OffsetConflict::Reject)
            .disambiguation(jiff::tz::Disambiguation::Reject);
        return match parser.parse_zoned(text) {
            Ok(zoned) => Ok(zoned.to_string().into()),
            Err(error) => wrong(format!("{text:?} is no such time: {error}; {help}")),
        };
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(_) => Ok(text.into()),
        Err(_) => wrong(format!("{text:?} is no time: {help}")),
    }
}

fn limits(parameter: &Parameter, value: &Value) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    if let Some(pattern) = &parameter.pattern {
        match regex::Regex::new(&format!("^(?:{pattern})$")) {
            Ok(regex) => {
                let texts: Vec<&str> = match value {
                    Value::String(text) => vec![text],
                    Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
                    _ => Vec::new(),
                };
                // A secret is not repeated.
                let name = |text: &str| match parameter.kind {
                    ParameterKind::Secret | ParameterKind::File => "it".to_owned(),
                    _ => format!("{text:?}"),
                };
                let wrong = texts.into_iter().filter(|text| !regex.is_match(text));
                mistakes.extend(wrong.map(|text| Mistake(format!("{} does not match `{pattern}`", name(text)))));
            }
            Err(_) => mistakes.push(Mistake(format!("its pattern `{pattern}` is no regular expression"))),
        }
    }
    let (size, unit) = match (parameter.kind, value) {
        (ParameterKind::Duration, Value::String(text)) => (duration(text).map(|micros| micros as f64), "duration"),
        (_, Value::Number(number)) => (number.as_f64(), "number"),
        (ParameterKind::DateTime | ParameterKind::Choice | ParameterKind::Stack | ParameterKind::Service, _) => {
            (None, "")
        }
        (_, Value::String(text)) => (Some(text.chars().count() as f64), "characters"),
        (_, Value::Array(items)) => (Some(items.len() as f64), "members"),
        _ => (None, ""),
    };
    let Some(size) = size else { return mistakes };
    let say = |limit: f64| match unit {
        "duration" => format!("{} s", limit / 1e6),
        "number" => limit.to_string(),
        unit => format!("{limit} {unit}"),
    };
    if let Some(min) = parameter.min.filter(|min| size < *min) {
        mistakes.push(Mistake(format!("it has to be at least {}", say(min))));
    }
    if let Some(max) = parameter.max.filter(|max| size > *max) {
        mistakes.push(Mistake(format!("it may be at most {}", say(max))));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;
    use serde_json::json;

    fn parameter(kind: &str) -> Parameter {
        let kind = ParameterKind::parse(kind).unwrap();
        let (name, span) = ("p".to_owned(), Span::file("w.hcl"));
        Parameter {
            name,
            kind,
            description: None,
            default: None,
            required: true,
            pattern: None,
            min: None,
            max: None,
            choices: None,
            span,
        }
    }

    fn sets() -> Vec<HostSet> {
        let set = |name: &str, members: &[&str]| HostSet {
            name: name.into(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            span: Span::file("w.hcl"),
        };
        vec![set("db", &["db1", "db2"]), set("app", &["app1", "db2"])]
    }

    /// `want` is the value, or a text that the only mistake holds.
    #[track_caller]
    fn check_as(parameter: &Parameter, given: Value, want: Result<Value, &str>) {
        let choices = [
            Choice { value: "a".into(), label: "Alpha".into() },
            Choice { value: "b".into(), label: "Beta".into() },
            Choice { value: "c".into(), label: "Beta".into() },
        ];
        let choose = matches!(
            parameter.kind,
            ParameterKind::Choice | ParameterKind::MultiChoice | ParameterKind::Stack | ParameterKind::Service
        );
        let sets = sets();
        let context = Context { choices: choose.then_some(&choices[..]), host_sets: &sets };
        let found = validate(parameter, &given, context);
        match (&found, want) {
            (Ok(found), Ok(want)) => assert_eq!(*found, want, "{given}"),
            (Err(mistakes), Err(want)) => {
                let text = mistakes.iter().map(|mistake| mistake.0.clone()).collect::<Vec<_>>().join("\n");
                assert!(text.contains(want), "{given}: {text} / {want}");
            }
            _ => panic!("{given}: {found:?}"),
        }
    }

    #[track_caller]
    fn check(kind: &str, given: Value, want: Result<Value, &str>) {
        check_as(&parameter(kind), given, want);
    }

    #[test]
    fn texts_and_json_become_the_same_value() {
        check("string", json!("x y"), Ok(json!("x y")));
        check("string", json!(3), Ok(json!("3")));
        check("string", json!({}), Err("a text is expected"));
        check("string", json!("a\0b"), Err("null character"));
        check("number", json!(" 12 "), Ok(json!(12)));
        check("number", json!(1.5), Ok(json!(1.5)));
        check("number", json!("1e3"), Ok(json!(1000.0)));
        check("number", json!("NaN"), Err("no number"));
        check("number", json!("twelve"), Err("give one such as 3"));
        check("bool", json!("Yes"), Ok(json!(true)));
        check("bool", json!(false), Ok(json!(false)));
        check("bool", json!("off"), Ok(json!(false)));
        check("bool", json!("maybe"), Err("neither true nor false"));
        check("choice", json!("a"), Ok(json!("a")));
        check("choice", json!("Alpha"), Ok(json!("a")));
        // Two are shown as that.
        check("choice", json!("Beta"), Err("not among the choices: a, b, c"));
        check("stack", json!("nowhere"), Err("not among the choices"));
        check("multi_choice", json!("a, b,a"), Ok(json!(["a", "b"])));
        check("multi_choice", json!(["c"]), Ok(json!(["c"])));
        check("multi_choice", json!(["c", "x", "y"]), Err("\"y\" is not among"));
        check("multi_choice", json!(3), Err("a list is expected"));
        check("host_set", json!("db"), Ok(json!(["db1", "db2"])));
        check("host_set", json!(["db", "app"]), Ok(json!(["db1", "db2", "app1"])));
        check("host_set", json!("db2"), Ok(json!(["db2"])));
        check("host_set", json!("web"), Err("give db, app"));
        check("secret", json!("s3cret"), Ok(json!("s3cret")));
        check("file", json!("one\ntwo\n"), Ok(json!("one\ntwo\n")));
        check("file", json!("x".repeat(LONGEST + 1)), Err("longer than 1024 KiB"));
    }

    #[test]
    fn times_say_where_they_are() {
        check("duration", json!("90s"), Ok(json!("90s")));
        check("duration", json!("5 m"), Ok(json!("5 m")));
        check("duration", json!("5"), Err("a unit, such as 90s"));
        check("duration", json!(5), Err("a unit, such as 90s"));
        check("duration", json!("-5m"), Err("no duration"));
        check("date_time", json!("2026-03-29T02:30:00Z"), Ok(json!("2026-03-29T02:30:00Z")));
        check("date_time", json!("2026-03-29T01:30:00+09:00"), Ok(json!("2026-03-29T01:30:00+09:00")));
        check(
            "date_time",
            json!("2026-03-28T02:30[Europe/Berlin]"),
            Ok(json!("2026-03-28T02:30:00+01:00[Europe/Berlin]")),
        );
        // The hour that is skipped, and the one that comes twice.
        check("date_time", json!("2026-03-29T02:30[Europe/Berlin]"), Err("no such time"));
        check("date_time", json!("2026-10-25T02:30[Europe/Berlin]"), Err("no such time"));
        check(
            "date_time",
            json!("2026-10-25T02:30:00+01:00[Europe/Berlin]"),
            Ok(json!("2026-10-25T02:30:00+01:00[Europe/Berlin]")),
        );
        check("date_time", json!("2026-07-01T02:30:00+01:00[Europe/Berlin]"), Err("no such time"));
        check("date_time", json!("2026-07-01T02:30:00"), Err("an offset or a zone"));
        check("date_time", json!("tomorrow"), Err("no time"));
    }

    #[test]
    fn what_is_not_given_is_missing_or_null() {
        for kind in ParameterKind::ALL {
            let required = parameter(kind.as_str());
            let optional = Parameter { required: false, ..required.clone() };
            for nothing in [Value::Null, json!(""), json!([])] {
                check_as(&required, nothing.clone(), Err("it is required"));
                check_as(&optional, nothing, Ok(Value::Null));
            }
        }
    }

    #[test]
    fn limits_hold_for_numbers_durations_and_lengths() {
        let of = |kind: &str, min: f64, max: f64| Parameter { min: Some(min), max: Some(max), ..parameter(kind) };
        check_as(&of("number", 1.0, 3.0), json!("3"), Ok(json!(3)));
        check_as(&of("number", 1.0, 3.0), json!("4"), Err("at most 3"));
        check_as(&of("number", 1.0, 3.0), json!(0.5), Err("at least 1"));
        check_as(&of("duration", 60e6, 3600e6), json!("2h"), Err("at most 3600 s"));
        check_as(&of("duration", 60e6, 3600e6), json!("60m"), Ok(json!("60m")));
        check_as(&of("string", 2.0, 3.0), json!("ä"), Err("at least 2 characters"));
        check_as(&of("multi_choice", 2.0, 3.0), json!("a"), Err("at least 2 members"));
        let pattern = |kind: &str, pattern: &str| Parameter { pattern: Some(pattern.into()), ..parameter(kind) };
        check_as(&pattern("string", "[a-z]+|x"), json!("abc"), Ok(json!("abc")));
        // The whole of it, not a line of it, and not one side of the bar.
        check_as(&pattern("string", "[a-z]+|x"), json!("abc1"), Err("\"abc1\" does not match"));
        check_as(&pattern("string", "[a-z]+"), json!("abc\n"), Err("does not match"));
        check_as(&pattern("secret", "[a-z]+"), json!("S3CRET"), Err("it does not match"));
        check_as(&pattern("string", "("), json!("x"), Err("no regular expression"));
    }
}
