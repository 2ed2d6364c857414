//! TOML; dates become the texts that Conftest makes of them.

use super::{Mistake, number};
use serde_json::Value;
use toml::value::{Datetime, Offset};

pub fn parse(text: &str) -> Result<Value, Mistake> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Mistake::new(error.span().map_or(0, |span| span.start), error.message().trim())
    })?;
    Ok(convert(toml::Value::Table(table)))
}

fn convert(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(whole) => whole.into(),
        // Infinity is no number of JSON.
        toml::Value::Float(float) => number(float).unwrap_or_else(|| float.to_string().into()),
        toml::Value::Boolean(bool) => bool.into(),
        toml::Value::Datetime(time) => datetime(&time).into(),
        toml::Value::Array(items) => items.into_iter().map(convert).collect(),
        toml::Value::Table(table) => Value::Object(table.into_iter().map(|(k, v)| (k, convert(v))).collect()),
    }
}

/// RFC 3339, with the missing parts as zero.
fn datetime(time: &Datetime) -> String {
    let date = time.date.map_or_else(|| "0000-01-01".to_owned(), |date| date.to_string());
    let clock = time.time.map_or_else(|| "00:00:00".to_owned(), |time| time.to_string());
    let offset = match time.offset {
        None | Some(Offset::Z) => "Z".to_owned(),
        Some(offset) => offset.to_string(),
    };
    format!("{date}T{clock}{offset}")
}
