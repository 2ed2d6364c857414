//! SQLite files of the machine that does the step.

use super::{Answer, Query, SqlError, hexadecimal};
use rusqlite::types::{Value as Cell, ValueRef};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, Statement};
use serde_json::{Map, Number, Value};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a database that somebody writes to is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a file, which is relative to `directory`; a cancel interrupts the statement.
pub async fn ask(query: Query, directory: &Path, cancel: &CancellationToken) -> Result<Answer, SqlError> {
    let name = query.url.trim_start_matches("sqlite:");
    let path = directory.join(name.strip_prefix("//").unwrap_or(name));
    let (tell, told) = tokio::sync::oneshot::channel();
    let asking = tokio::task::spawn_blocking(move || {
        let connection = open(&path, query.write)?;
        // Nobody listens any more when the step is over.
        let _ = tell.send(connection.get_interrupt_handle());
        answer(&connection, &query)
    });
    let interrupt = async {
        cancel.cancelled().await;
        if let Ok(handle) = told.await {
            handle.interrupt();
        }
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        answer = asking => answer.map_err(|error| SqlError::Unreachable(error.to_string()))?,
        () = interrupt => return Err(SqlError::Cancelled),
    };
    if cancel.is_cancelled() && answer.is_err() { Err(SqlError::Cancelled) } else { answer }
}

fn open(path: &PathBuf, write: bool) -> Result<Connection, SqlError> {
    let mode = if write {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = connection.map_err(|error| SqlError::Refused(format!("{}: {error}", path.display())))?;
    connection.busy_timeout(PATIENCE).map_err(refused)?;
    Ok(connection)
}

fn refused(error: Error) -> SqlError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqlError::Unreachable(error.to_string()),
        _ => SqlError::Refused(error.to_string()),
    }
}

fn answer(connection: &Connection, query: &Query) -> Result<Answer, SqlError> {
    let mut statement = connection.prepare(&query.statement).map_err(refused)?;
    bind(&mut statement, &query.values)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    if names.is_empty() {
        let count = statement.raw_execute().map_err(refused)?;
        return Ok(Answer { rows: Vec::new(), count: count as u64 });
    }
    let (mut rows, mut found) = (statement.raw_query(), Vec::new());
    while let Some(row) = rows.next().map_err(refused)? {
        if found.len() == query.max_rows {
            return Err(SqlError::TooMany(query.max_rows));
        }
        let mut object = Map::new();
        for (at, name) in names.iter().enumerate() {
            object.insert(name.clone(), value(row.get_ref(at).map_err(refused)?));
        }
        found.push(object);
    }
    let count = found.len() as u64;
    Ok(Answer { rows: found, count })
}

/// `$2` is the second value wherever it stands; `?` are taken one after the other.
fn bind(statement: &mut Statement<'_>, values: &[Value]) -> Result<(), SqlError> {
    for at in 1..=statement.parameter_count() {
        let named = statement.parameter_name(at).and_then(|name| name.get(1..)).and_then(|digits| digits.parse().ok());
        let number: usize = named.unwrap_or(at);
        let value = number.checked_sub(1).and_then(|at| values.get(at));
        let value = value.ok_or_else(|| SqlError::Refused(format!("there is no value for ${number}")))?;
        statement.raw_bind_parameter(at, cell(value)).map_err(refused)?;
    }
    Ok(())
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Integer(i64::from(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cell::Integer(whole),
            None => Cell::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cell::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Cell::Text(value.to_string()),
    }
}

fn value(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(whole) => whole.into(),
        ValueRef::Real(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => hexadecimal(bytes).into(),
    }
}
