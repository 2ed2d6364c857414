//! The pure functions of Terraform that repositories use in backend, remote-state and gate expressions.

use super::{MISSING, Scope, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The value of `name(arguments…)`. Functions that are not here are unknown, and say so.
pub(super) fn call(name: &str, arguments: &[Value], scope: &dyn Scope) -> Value {
    // These can say something although a part is unknown.
    match (name, arguments) {
        ("merge", objects) => return merge(objects),
        ("lookup", [object, key, rest @ ..]) => return lookup(object, key, rest.first()),
        ("coalesce", values) => {
            for value in values {
                match value {
                    Value::Null => {}
                    Value::String(text) if text.is_empty() => {}
                    other => return other.clone(),
                }
            }
            return Value::unknown("coalesce() of nothing but null");
        }
        ("concat", lists) => return flatten_once(lists),
        ("length", [Value::List(items)]) => return Value::Number(items.len() as f64),
        ("length", [Value::Object(object)]) => return Value::Number(object.len() as f64),
        ("keys", [Value::Object(object)]) => {
            return Value::List(object.keys().map(|k| Value::string(k.as_str())).collect());
        }
        ("values", [Value::Object(object)]) => return Value::List(object.values().cloned().collect()),
        ("element", [Value::List(items), index]) if !items.is_empty() => {
            return match index {
                Value::Unknown(why) => Value::Unknown(why.clone()),
                index => match index.as_number() {
                    Some(index) if index >= 0.0 => items[index as usize % items.len()].clone(),
                    _ => Value::unknown(MISSING),
                },
            };
        }
        ("contains", [Value::List(items), wanted]) if items.contains(wanted) && wanted.why_unknown().is_none() => {
            return Value::Bool(true);
        }
        ("one", [Value::List(items)]) => {
            return match items.as_slice() {
                [] => Value::Null,
                [only] => only.clone(),
                _ => Value::unknown("one() of several elements"),
            };
        }
        ("nonsensitive" | "sensitive" | "tolist" | "tomap" | "ephemeralasnull", [value]) => return value.clone(),
        _ => {}
    }
    if let Some(why) = arguments.iter().find_map(Value::why_unknown) {
        return Value::Unknown(why);
    }
    known(name, arguments, scope)
        .unwrap_or_else(|| Value::unknown(format!("function {name}() is not evaluated here with such arguments")))
}

fn known(name: &str, arguments: &[Value], scope: &dyn Scope) -> Option<Value> {
    let text = |index: usize| arguments.get(index).and_then(Value::as_text);
    let number = |index: usize| arguments.get(index).and_then(Value::as_number);
    let list = |index: usize| match arguments.get(index) {
        Some(Value::List(items)) => Some(items),
        _ => None,
    };
    let string = |text: String| Some(Value::string(text));
    match name {
        "format" => format(&text(0)?, arguments.get(1..)?).map(Value::string),
        "formatlist" => {
            let pattern = text(0)?;
            let length = arguments
                .get(1..)?
                .iter()
                .filter_map(|a| if let Value::List(items) = a { Some(items.len()) } else { None })
                .max()?;
            let rows = (0..length).map(|row| {
                let row: Option<Vec<Value>> = arguments[1..]
                    .iter()
                    .map(|a| if let Value::List(items) = a { items.get(row).cloned() } else { Some(a.clone()) })
                    .collect();
                format(&pattern, &row?).map(Value::string)
            });
            rows.collect::<Option<Vec<_>>>().map(Value::List)
        }
        "join" => {
            let mut parts = Vec::new();
            for argument in arguments.get(1..)? {
                let Value::List(items) = argument else { return None };
                for item in items {
                    parts.push(item.as_text()?.to_string());
                }
            }
            string(parts.join(&text(0)?))
        }
        "split" => {
            let (separator, text) = (text(0)?, text(1)?);
            if text.is_empty() {
                return Some(Value::List(vec![Value::string("")]));
            }
            Some(Value::List(text.split(&*separator).map(Value::string).collect()))
        }
        "replace" => {
            let pattern = text(1)?;
            // `/…/` is a regular expression, which is left to Terraform.
            if pattern.len() > 1 && pattern.starts_with('/') && pattern.ends_with('/') {
                return None;
            }
            string(text(0)?.replace(&*pattern, &text(2)?))
        }
        "lower" => string(text(0)?.to_lowercase()),
        "upper" => string(text(0)?.to_uppercase()),
        "title" => {
            let mut start = true;
            string(
                text(0)?
                    .chars()
                    .map(|c| {
                        let out = if start { c.to_uppercase().next().unwrap_or(c) } else { c };
                        start = !c.is_alphanumeric() && c != '\'';
                        out
                    })
                    .collect(),
            )
        }
        "trimspace" => string(text(0)?.trim().to_owned()),
        "chomp" => string(text(0)?.trim_end_matches(['\r', '\n']).to_owned()),
        "trim" => {
            let (text, set) = (text(0)?, text(1)?);
            string(text.trim_matches(|c| set.contains(c)).to_owned())
        }
        "trimprefix" => {
            let (text, prefix) = (text(0)?, text(1)?);
            string(text.strip_prefix(&*prefix).unwrap_or(&text).to_owned())
        }
        "trimsuffix" => {
            let (text, suffix) = (text(0)?, text(1)?);
            string(text.strip_suffix(&*suffix).unwrap_or(&text).to_owned())
        }
        "startswith" => Some(Value::Bool(text(0)?.starts_with(&*text(1)?))),
        "endswith" => Some(Value::Bool(text(0)?.ends_with(&*text(1)?))),
        "strcontains" => Some(Value::Bool(text(0)?.contains(&*text(1)?))),
        "strrev" => string(text(0)?.chars().rev().collect()),
        "substr" => {
            let chars: Vec<char> = text(0)?.chars().collect();
            let offset = number(1)?;
            let start = if offset < 0.0 {
                chars.len().saturating_sub((-offset) as usize)
            } else {
                (offset as usize).min(chars.len())
            };
            let length = number(2)?;
            let end = if length < 0.0 { chars.len() } else { start.saturating_add(length as usize).min(chars.len()) };
            string(chars[start..end].iter().collect())
        }
        "tostring" => match arguments.first()? {
            Value::Null => Some(Value::Null),
            value => value.as_text().map(Value::String),
        },
        "tonumber" => number(0).map(Value::Number),
        "tobool" => arguments.first()?.as_bool().map(Value::Bool),
        "toset" | "distinct" => {
            let mut out: Vec<Value> = Vec::new();
            for item in list(0)? {
                if !out.contains(item) {
                    out.push(item.clone());
                }
            }
            if name == "toset" {
                out.sort_by_key(|v| v.as_text());
            }
            Some(Value::List(out))
        }
        "sort" => {
            let mut texts: Vec<Arc<str>> = list(0)?.iter().map(Value::as_text).collect::<Option<_>>()?;
            texts.sort();
            Some(Value::List(texts.into_iter().map(Value::String).collect()))
        }
        "reverse" => Some(Value::List(list(0)?.iter().rev().cloned().collect())),
        "compact" => Some(Value::List(
            list(0)?
                .iter()
                .filter(|v| !matches!(v, Value::Null) && v.as_text().is_none_or(|t| !t.is_empty()))
                .cloned()
                .collect(),
        )),
        "flatten" => {
            fn flatten(items: &[Value], out: &mut Vec<Value>) {
                for item in items {
                    match item {
                        Value::List(inner) => flatten(inner, out),
                        other => out.push(other.clone()),
                    }
                }
            }
            let mut out = Vec::new();
            flatten(list(0)?, &mut out);
            Some(Value::List(out))
        }
        "coalescelist" => arguments.iter().find(|a| matches!(a, Value::List(items) if !items.is_empty())).cloned(),
        "contains" => Some(Value::Bool(list(0)?.contains(arguments.get(1)?))),
        "index" => list(0)?.iter().position(|v| Some(v) == arguments.get(1)).map(|i| Value::Number(i as f64)),
        "slice" => {
            let (start, end) = (number(1)? as usize, number(2)? as usize);
            list(0)?.get(start..end).map(|items| Value::List(items.to_vec()))
        }
        "range" => {
            let (start, end, step) = match arguments.len() {
                1 => (0.0, number(0)?, 1.0),
                2 => (number(0)?, number(1)?, 1.0),
                _ => (number(0)?, number(1)?, number(2)?),
            };
            if step == 0.0 || ((end - start) / step) > 1024.0 {
                return None;
            }
            let mut out = Vec::new();
            let mut at = start;
            while (step > 0.0 && at < end) || (step < 0.0 && at > end) {
                out.push(Value::Number(at));
                at += step;
            }
            Some(Value::List(out))
        }
        "zipmap" => {
            let keys: Vec<Arc<str>> = list(0)?.iter().map(Value::as_text).collect::<Option<_>>()?;
            Some(Value::Object(keys.iter().map(|k| k.to_string()).zip(list(1)?.iter().cloned()).collect()))
        }
        "min" | "max" => {
            let numbers: Vec<f64> = (0..arguments.len()).map(number).collect::<Option<_>>()?;
            let pick = if name == "min" { f64::min } else { f64::max };
            numbers.into_iter().reduce(pick).map(Value::Number)
        }
        "abs" => Some(Value::Number(number(0)?.abs())),
        "ceil" => Some(Value::Number(number(0)?.ceil())),
        "floor" => Some(Value::Number(number(0)?.floor())),
        "length" => Some(Value::Number(text(0)?.chars().count() as f64)),
        "alltrue" => list(0)?
            .iter()
            .map(Value::as_bool)
            .collect::<Option<Vec<_>>>()
            .map(|all| Value::Bool(all.into_iter().all(|b| b))),
        "anytrue" => list(0)?
            .iter()
            .map(Value::as_bool)
            .collect::<Option<Vec<_>>>()
            .map(|all| Value::Bool(all.into_iter().any(|b| b))),
        "jsondecode" => serde_json::from_str(&text(0)?).ok().map(|value| Value::from_json(&value)),
        "jsonencode" => string(arguments.first()?.to_json()?.to_string()),
        "basename" => string(text(0)?.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()),
        "dirname" => string(match text(0)?.rsplit_once('/') {
            Some(("", _)) => "/".to_owned(),
            Some((directory, _)) => directory.to_owned(),
            None => ".".to_owned(),
        }),
        "pathexpand" => text(0).filter(|t| !t.starts_with('~')).map(Value::String),
        "file" => String::from_utf8(scope.file(&text(0)?)?).ok().map(Value::string),
        "fileexists" => Some(Value::Bool(scope.file(&text(0)?).is_some())),
        _ => None,
    }
}

fn merge(objects: &[Value]) -> Value {
    let mut out = BTreeMap::new();
    for object in objects {
        match object {
            Value::Object(object) => out.extend(object.iter().map(|(k, v)| (k.clone(), v.clone()))),
            Value::Null => {}
            // Which keys it would overwrite is not known, so nothing is.
            Value::Unknown(why) => return Value::Unknown(why.clone()),
            _ => return Value::unknown("merge() of something that is no object"),
        }
    }
    Value::Object(out)
}

fn lookup(object: &Value, key: &Value, default: Option<&Value>) -> Value {
    match (object, key.as_text()) {
        (Value::Unknown(why), _) => Value::Unknown(why.clone()),
        (Value::Object(object), Some(key)) => {
            object.get(&*key).or(default).cloned().unwrap_or_else(|| Value::unknown(MISSING))
        }
        _ => {
            key.why_unknown().map_or_else(|| Value::unknown("lookup() in something that is no object"), Value::Unknown)
        }
    }
}

fn flatten_once(lists: &[Value]) -> Value {
    let mut out = Vec::new();
    for list in lists {
        match list {
            Value::List(items) => out.extend(items.iter().cloned()),
            Value::Unknown(why) => return Value::Unknown(why.clone()),
            _ => return Value::unknown("concat() of something that is no list"),
        }
    }
    Value::List(out)
}

/// The verbs that occur in names: `%s`, `%d`, `%v`, `%q`, `%t`, `%%`, zero-padded width for numbers, and `%[n]s`.
fn format(pattern: &str, arguments: &[Value]) -> Option<String> {
    let mut out = String::new();
    let mut next = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(c) = chars.peek().copied().filter(|c| c.is_ascii_digit() || "[]-+#.".contains(*c)) {
            flags.push(c);
            chars.next();
        }
        let verb = chars.next()?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        if let Some((index, rest)) = flags.strip_prefix('[').and_then(|f| f.split_once(']')) {
            next = index.parse::<usize>().ok()?.checked_sub(1)?;
            flags = rest.to_owned();
        }
        let argument = arguments.get(next)?;
        next += 1;
        let text = match verb {
            's' | 'v' => argument.as_text()?.to_string(),
            'd' => super::number_text(argument.as_number().filter(|n| n.fract() == 0.0)?),
            'q' => serde_json::Value::from(&*argument.as_text()?).to_string(),
            't' => argument.as_bool()?.to_string(),
            _ => return None,
        };
        // Wider than any name, and than the formatter takes.
        if flags.trim_start_matches('0').len() > 4 {
            return None;
        }
        match (flags.strip_prefix('0').and_then(|w| w.parse::<usize>().ok()), flags.parse::<usize>().ok()) {
            _ if flags.is_empty() => out.push_str(&text),
            (Some(width), _) if verb == 'd' => out.push_str(&format!("{text:0>width$}")),
            (None, Some(width)) => out.push_str(&format!("{text:>width$}")),
            _ => return None,
        }
    }
    Some(out)
}
