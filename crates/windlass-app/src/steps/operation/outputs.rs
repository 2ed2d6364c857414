//! Outputs of a step: what its program says, read as its definition tells, and what it writes into the file that it is given.

use serde_json::{Map, Value};
use windlass_model::operation::OutputFormat;

/// More than this, bytes, is no output but a file.
pub const LIMIT: usize = 1024 * 1024;

/// The outputs in what a program said on its standard output.
///
/// # Errors
/// It is not of that format; one sentence.
pub fn parse(format: OutputFormat, said: &[u8]) -> Result<Map<String, Value>, String> {
    if format == OutputFormat::None {
        return Ok(Map::new());
    }
    let text = text(said)?;
    match format {
        OutputFormat::None => Ok(Map::new()),
        OutputFormat::Json => object(text),
        OutputFormat::KeyValue => Ok(lines(text)),
        OutputFormat::Text => Ok(Map::from_iter([("text".to_owned(), without_line_end(text).into())])),
    }
}

/// The outputs in the file that a program was given: one JSON object, or lines `key=value`.
///
/// # Errors
/// It is neither.
pub fn of_file(content: &[u8]) -> Result<Map<String, Value>, String> {
    let text = text(content)?;
    if text.trim_start().starts_with('{') { object(text) } else { Ok(lines(text)) }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.len() > LIMIT {
        return Err(format!("they are longer than {} MiB; leave a file and name it in `artefacts`", LIMIT >> 20));
    }
    std::str::from_utf8(bytes).map_err(|error| format!("they are no text: {error}"))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("they are JSON, but not an object".into()),
        Err(error) => Err(format!("they are not one JSON object: {error}")),
    }
}

/// Lines `key=value`; others are no outputs.
fn lines(text: &str) -> Map<String, Value> {
    let is_key = |key: &str| {
        key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let pairs = text.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| is_key(key));
    pairs.map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// Without the line break at its end.
pub fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outputs_are_read_as_they_are_declared() {
        let check = |format: OutputFormat, said: &str, want: Result<Value, &str>| {
            let found = parse(format, said.as_bytes());
            match (found, want) {
                (Ok(found), Ok(want)) => assert_eq!(Value::Object(found), want, "{said}"),
                (Err(found), Err(want)) => assert!(found.contains(want), "{found}"),
                (found, want) => panic!("{said}: {found:?} instead of {want:?}"),
            }
        };
        check(OutputFormat::None, "anything", Ok(json!({})));
        check(OutputFormat::Json, "{\"path\": \"/x\", \"n\": [1]}\n", Ok(json!({ "path": "/x", "n": [1] })));
        check(OutputFormat::Json, "[1]", Err("not an object"));
        check(OutputFormat::Json, "", Err("not one JSON object"));
        check(OutputFormat::Json, "{} {}", Err("not one JSON object"));
        check(OutputFormat::KeyValue, "begun\na=1=2\n b=3\nc-d=\r\n1x=2\n", Ok(json!({ "a": "1=2", "c-d": "" })));
        check(OutputFormat::Text, "one\ntwo\r\n", Ok(json!({ "text": "one\ntwo" })));
        check(OutputFormat::Text, &"x".repeat(LIMIT + 1), Err("longer than 1 MiB"));
        assert!(parse(OutputFormat::Text, b"\xff").unwrap_err().contains("no text"));
        assert_eq!(Value::Object(of_file(b" {\"a\": 1}").unwrap()), json!({ "a": 1 }));
        assert_eq!(Value::Object(of_file(b"a=1\n").unwrap()), json!({ "a": "1" }));
        assert!(of_file(b"{").is_err());
    }
}
