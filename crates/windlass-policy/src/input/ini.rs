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
        let end = line.find(['=', ':']).ok_or_else(|| Mistake::new(start, "there is neither `=` nor `:`"))?;
        let key = line[..end].trim().trim_matches(['"', '`']);
        if key.is_empty() {
            return Err(Mistake::new(start, "the key is empty"));
        }
        let mut raw = line[end + 1..].trim().to_owned();
        while raw.ends_with('\\') {
            raw.pop();
            let Some(next) = lines.next() else { break };
            raw.push_str(next.trim());
        }
        if let Some(Value::Object(keys)) = section.as_ref().and_then(|name| sections.get_mut(name)) {
            keys.insert(key.to_owned(), typed(&value(&raw)));
        }
    }
    Ok(Value::Object(sections))
}

/// Without its comment and quotes.
fn value(raw: &str) -> String {
    if let Some(rest) = raw.strip_prefix('`')
        && let Some(end) = rest.find('`')
    {
        return rest[..end].to_owned();
    }
    let bare = raw.find(['#', ';']).map_or(raw, |at| raw[..at].trim_end());
    for quote in ['"', '\''] {
        if let Some(inner) = bare.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner.to_owned();
        }
    }
    bare.to_owned()
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
