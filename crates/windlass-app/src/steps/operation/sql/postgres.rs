//! PostgreSQL. A cancel is told to the server, so that the query ends there, too.

use super::{Answer, Query, SqlError, hexadecimal};
use futures_util::{StreamExt, pin_mut};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Number, Value, json};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};
use tokio_postgres::{Client, Config, Error, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

const CONNECT: Duration = Duration::from_secs(10);
/// 2000-01-01T00:00:00Z in seconds since the Unix epoch: from where PostgreSQL counts.
const EPOCH: i64 = 946_684_800;

/// Asks a server; its certificate has to be good for the roots of this machine where the address asks for TLS.
pub async fn ask(query: Query, cancel: &CancellationToken) -> Result<Answer, SqlError> {
    let mut config: Config = query.url.parse().map_err(|error: Error| SqlError::Refused(plain(&error)))?;
    config.application_name("windlass").connect_timeout(CONNECT);
    let tls = tls()?;
    let (client, connection) = config.connect(tls.clone()).await.map_err(told)?;
    let connection = tokio::spawn(connection);
    let stop = client.cancel_token();
    let answer = tokio::select! {
        answer = answer(&client, &query) => answer,
        () = cancel.cancelled() => {
            // What cannot be told ends with the connection at the latest.
            let _ = tokio::time::timeout(CONNECT, stop.cancel_query(tls)).await;
            Err(SqlError::Cancelled)
        }
    };
    drop(client);
    connection.abort();
    answer
}

fn tls() -> Result<MakeRustlsConnect, SqlError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    // What cannot be read is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SqlError::Refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// What the server says, or why nothing could be heard of it.
fn told(error: Error) -> SqlError {
    let text = plain(&error);
    match error.as_db_error() {
        // Of the classes of errors: connections, resources, and what an operator did.
        Some(said) if ["08", "53", "57"].iter().any(|class| said.code().code().starts_with(class)) => {
            SqlError::Unreachable(text)
        }
        Some(_) => SqlError::Refused(text),
        None if error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()) => {
            SqlError::Unreachable(text)
        }
        None => SqlError::Refused(text),
    }
}

fn plain(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => said.to_string(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

async fn answer(client: &Client, query: &Query) -> Result<Answer, SqlError> {
    if !query.write {
        // In it no statement can give itself more.
        client.batch_execute("BEGIN TRANSACTION READ ONLY").await.map_err(told)?;
    }
    let statement = client.prepare(&query.statement).await.map_err(told)?;
    let wanted = statement.params().len();
    let values: Vec<Loose<'_>> = query.values.iter().take(wanted).map(Loose).collect();
    if values.len() < wanted {
        return Err(SqlError::Refused(format!("there is no value for ${}", values.len() + 1)));
    }
    let values = values.iter().map(|value| value as &(dyn ToSql + Sync));
    let rows = client.query_raw(&statement, values.collect::<Vec<_>>()).await.map_err(told)?;
    pin_mut!(rows);
    let mut found = Vec::new();
    while let Some(row) = rows.next().await {
        if found.len() == query.max_rows {
            return Err(SqlError::TooMany(query.max_rows));
        }
        found.push(object(&row.map_err(told)?)?);
    }
    let count = rows.rows_affected().unwrap_or(found.len() as u64);
    if !query.write {
        client.batch_execute("ROLLBACK").await.map_err(told)?;
    }
    Ok(Answer { rows: found, count })
}

/// A value as the text that the server reads as whatever is wanted there.
#[derive(Debug)]
struct Loose<'a>(&'a Value);

impl ToSql for Loose<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        if self.0.is_null() {
            return Ok(IsNull::Yes);
        }
        out.extend_from_slice(literal(self.0, matches!(kind.kind(), Kind::Array(_))).as_bytes());
        Ok(IsNull::No)
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }
    fn to_sql_checked(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.to_sql(kind, out)
    }
}

fn literal(value: &Value, is_array: bool) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if is_array => {
            let item = |item: &Value| match item {
                Value::Null => "NULL".to_owned(),
                Value::Array(_) => literal(item, true),
                other => format!("\"{}\"", literal(other, false).replace('\\', "\\\\").replace('"', "\\\"")),
            };
            format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn object(row: &Row) -> Result<Map<String, Value>, SqlError> {
    let columns = row.columns().iter().enumerate();
    let cell = |(at, column): (usize, &tokio_postgres::Column)| {
        let cell: Option<Cell> = row.try_get(at).map_err(|_| {
            let (name, kind) = (column.name(), column.type_().name());
            SqlError::Refused(format!("the column {name} is of the type {kind}: write {name}::text"))
        })?;
        Ok((column.name().to_owned(), cell.map_or(Value::Null, |cell| cell.0)))
    };
    columns.map(cell).collect()
}

/// A value of one of the types that JSON has something for.
struct Cell(Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        let text = |at: Result<Timestamp, jiff::Error>| at.map(|at| Value::from(at.to_string()));
        Ok(Self(match *kind {
            Type::BOOL => bool::from_sql(kind, raw)?.into(),
            Type::INT2 => i16::from_sql(kind, raw)?.into(),
            Type::INT4 => i32::from_sql(kind, raw)?.into(),
            Type::INT8 => i64::from_sql(kind, raw)?.into(),
            Type::OID => u32::from_sql(kind, raw)?.into(),
            Type::FLOAT4 => number(f64::from(f32::from_sql(kind, raw)?)),
            Type::FLOAT8 => number(f64::from_sql(kind, raw)?),
            Type::NUMERIC => numeric(raw).ok_or("a number that is none")?.into(),
            Type::JSON => serde_json::from_slice(raw)?,
            // A version goes before it.
            Type::JSONB => serde_json::from_slice(raw.get(1..).unwrap_or_default())?,
            Type::UUID => uuid(raw).into(),
            Type::BYTEA => hexadecimal(raw).into(),
            Type::TIMESTAMPTZ => text(since(i64::from_be_bytes(raw.try_into()?)))?,
            Type::TIMESTAMP => {
                let at = since(i64::from_be_bytes(raw.try_into()?))?;
                at.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_string().into()
            }
            Type::DATE => {
                let days = i32::from_be_bytes(raw.try_into()?);
                let at = Timestamp::from_second(EPOCH + i64::from(days) * 86_400)?;
                at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string().into()
            }
            Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::NAME_ARRAY => {
                json!(Vec::<Option<String>>::from_sql(kind, raw)?)
            }
            Type::INT4_ARRAY => json!(Vec::<Option<i32>>::from_sql(kind, raw)?),
            Type::INT8_ARRAY => json!(Vec::<Option<i64>>::from_sql(kind, raw)?),
            _ => String::from_sql(kind, raw)?.into(),
        }))
    }
    fn accepts(kind: &Type) -> bool {
        let known = [
            Type::BOOL,
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::OID,
            Type::FLOAT4,
            Type::FLOAT8,
            Type::NUMERIC,
            Type::JSON,
            Type::JSONB,
            Type::UUID,
            Type::BYTEA,
            Type::TIMESTAMPTZ,
            Type::TIMESTAMP,
            Type::DATE,
            Type::TEXT_ARRAY,
            Type::VARCHAR_ARRAY,
            Type::NAME_ARRAY,
            Type::INT4_ARRAY,
            Type::INT8_ARRAY,
        ];
        known.contains(kind) || <String as FromSql>::accepts(kind)
    }
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)
}

fn since(micros: i64) -> Result<Timestamp, jiff::Error> {
    Timestamp::from_second(EPOCH)?.checked_add(SignedDuration::from_micros(micros))
}

fn uuid(raw: &[u8]) -> String {
    let all = hexadecimal(raw);
    let part = |from: usize, to: usize| all.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// A `numeric` exactly, as a text: digits to the base of 10,000, the weight of the first, the sign, and the digits to show after the
/// point, as PostgreSQL sends them (`numeric_send` in its sources).
fn numeric(raw: &[u8]) -> Option<String> {
    let word = |at: usize| Some(u16::from_be_bytes([*raw.get(at)?, *raw.get(at + 1)?]));
    let (count, weight, sign, scale) = (word(0)?, word(2)? as i16, word(4)?, usize::from(word(6)?));
    match sign {
        0xC000 => return Some("NaN".into()),
        0xD000 => return Some("Infinity".into()),
        0xF000 => return Some("-Infinity".into()),
        _ => {}
    }
    let digit = |place: i32| -> Option<u16> {
        let at = i32::from(weight) - place;
        if at < 0 || at >= i32::from(count) { Some(0) } else { word(8 + 2 * usize::try_from(at).ok()?) }
    };
    let mut text = String::new();
    for place in (0..=i32::from(weight).max(0)).rev() {
        text.push_str(&format!("{:04}", digit(place)?));
    }
    let whole = text.trim_start_matches('0');
    let mut text = if whole.is_empty() { "0".to_owned() } else { whole.to_owned() };
    if scale > 0 {
        let mut fraction = String::new();
        let groups = i32::try_from(scale.div_ceil(4)).ok()?;
        for place in 1..=groups {
            fraction.push_str(&format!("{:04}", digit(-place)?));
        }
        text = format!("{text}.{}", &fraction[..scale]);
    }
    Some(if sign == 0x4000 { format!("-{text}") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_what_the_server_reads() {
        let check = |value: Value, is_array: bool, want: &str| assert_eq!(literal(&value, is_array), want);
        check(json!("a'b"), false, "a'b");
        check(json!(true), false, "true");
        check(json!(1.5), false, "1.5");
        check(json!({ "a": [1] }), false, "{\"a\":[1]}");
        check(json!(["a\"b", null, 2, ["c"]]), true, "{\"a\\\"b\",NULL,\"2\",{\"c\"}}");
        check(json!([1]), false, "[1]");
    }
}
