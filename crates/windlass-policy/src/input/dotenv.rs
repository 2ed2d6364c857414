//! Files of environment variables.

use super::Mistake;
use serde_json::{Map, Value};

pub fn parse(text: &str) -> Result<Value, Mistake> {
    let mut object = Map::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let line = rest.split_inclusive('\n').next().unwrap_or(rest);
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at += line.len();
            continue;
        }
        let start = at + (line.len() - line.trim_start().len());
        let body = trimmed.strip_prefix("export ").map_or(trimmed, str::trim_start);
        let separator = body
            .find(['=', ':'])
            .ok_or_else(|| Mistake::new(start, format!("`{trimmed}` has no value: there is no `=`")))?;
        let key = body[..separator].trim();
        let valid =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !valid {
            return Err(Mistake::new(start, format!("`{key}` is no name of a variable")));
        }
        let after = &body[separator + 1..];
        let value_start = after.as_ptr() as usize - text.as_ptr() as usize;
        let tail = &text[value_start..];
        let skipped = tail.len() - tail.trim_start_matches([' ', '\t']).len();
        let quote = tail[skipped..].chars().next().filter(|c| matches!(c, '"' | '\''));
        let value = if let Some(quote) = quote {
            let inner = &tail[skipped + 1..];
            let end = closing(inner, quote)
                .ok_or_else(|| Mistake::new(value_start + skipped, "the quoted value has no end"))?;
            let after = value_start + skipped + 1 + end + 1;
            at = text[after..].find('\n').map_or(text.len(), |n| after + n + 1);
            if quote == '"' { expand(&unescape(&inner[..end]), &object) } else { inner[..end].to_owned() }
        } else {
            at += line.len();
            let bare = after.find('#').map_or(after, |n| &after[..n]);
            expand(bare.trim(), &object)
        };
        object.insert(key.to_owned(), value.into());
    }
    Ok(Value::Object(object))
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !escaped {
            return Some(at);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('r')) => out.push('\r'),
            // A dollar stays escaped until variables are put in.
            ('\\', Some('$')) => out.push_str("\\$"),
            ('\\', Some(other)) => out.push(other),
            (c, _) => out.push(c),
        }
    }
    out
}

/// `$NAME` and `${NAME}` by what stands above; nothing comes from the environment.
fn expand(text: &str, known: &Map<String, Value>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        if rest[..at].ends_with('\\') {
            out.push_str(&rest[..at - 1]);
            out.push('$');
            rest = &rest[at + 1..];
            continue;
        }
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{').and_then(|inner| inner.find('}').map(|end| (&inner[..end], end + 2)));
        let (name, used) = braced.unwrap_or_else(|| {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            (&after[..end], end)
        });
        if name.is_empty() {
            out.push('$');
        } else if let Some(Value::String(value)) = known.get(name) {
            out.push_str(value);
        }
        rest = &after[used..];
    }
    out.push_str(rest);
    out
}
