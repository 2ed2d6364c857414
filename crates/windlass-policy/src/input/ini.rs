//! INI: an object per section, with numbers and truth values where they are plain. Keys before the first section are left out, as
//! Conftest leaves them out.

use super::{Mistake, number};
use serde_json::{Map, Value};

pub fn parse(text: &str) -> Result<Value, Mistake> {
    let mut sections = Map::new();
    let mut section: Option<String> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let start = line.as_ptr() as usize - text.as_ptr() as usize;
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.rfind(']').map(|end| rest[..end].trim());
            let name = name.ok_or_else(|| Mistake::new(start, "the section has no `]`"))?;
            sections.entry(name).or_insert_with(|| Value::Object(Map::new()));
            section = Some(name.to_owned());
            continue;
        }
        let (key, mut raw) = split(line).ok_or_else(|| Mistake::new(start, "there is neither `=` nor `:`"))?;
        if key.is_empty() {
            return Err(Mistake::new(start, "the key is empty"));
        }
        // A value in three quotes or backticks goes on until they are closed.
        if let Some(quote) = ["\"\"\"", "`"].into_iter().find(|quote| raw.starts_with(quote)) {
            while !raw[quote.len()..].contains(quote) {
                let next =
                    lines.next().ok_or_else(|| Mistake::new(start, format!("the value has no closing {quote}")))?;
                raw.push('\n');
                raw.push_str(next);
            }
        }
        while raw.ends_with('\\') {
            raw.pop();
            let Some(next) = lines.next() else { break };
            raw.push_str(next.trim());
        }
        if let Some(Value::Object(keys)) = section.as_ref().and_then(|name| sections.get_mut(name)) {
            // A dash stands for the next number.
            let dashes = keys.keys().filter(|key| key.starts_with('#')).count();
            let key = if key == "-" { format!("#{}", dashes + 1) } else { key };
            keys.insert(key, typed(&value(&raw)));
        }
    }
    Ok(Value::Object(sections))
}

/// Key and value; a key in quotes may hold what would part them.
fn split(line: &str) -> Option<(String, String)> {
    let quoted = ["\"\"\"", "\"", "`"].into_iter().find_map(|quote| {
        let rest = line.strip_prefix(quote)?;
        let end = rest.find(quote)?;
        Some((&rest[..end], &rest[end + quote.len()..]))
    });
    let (key, rest) = match quoted {
        Some((key, rest)) => (key, rest),
        None => line.split_at(line.find(['=', ':'])?),
    };
    let value = rest.trim_start().strip_prefix(['=', ':'])?;
    Some((key.trim().to_owned(), value.trim().to_owned()))
}

/// Without its comment and quotes.
fn value(raw: &str) -> String {
    for quote in ["\"\"\"", "`"] {
        if let Some(rest) = raw.strip_prefix(quote)
            && let Some(end) = rest.find(quote)
        {
            return rest[..end].to_owned();
        }
    }
    let bare = raw.find(['#', ';']).map_or(raw, |at| raw[..at].trim_end());
    for quote in ['"', '\''] {
        if let Some(inner) = quoted(bare, quote) {
            return inner.to_owned();
        }
    }
    bare.to_owned()
}

fn quoted(text: &str, quote: char) -> Option<&str> {
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(quote)).then_some(inner)
}

fn typed(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => {
            let digits = text.replace('_', "");
            let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
                && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
            let parsed = if numeric { digits.parse::<f64>().ok() } else { None };
            parsed.and_then(number).unwrap_or_else(|| text.into())
        }
    }
}
