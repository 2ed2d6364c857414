//! MySQL and MariaDB. A cancel ends the connection from a second one: the server does not look whether the first is still there.

use super::{Answer, Query, SqlError, hexadecimal};
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Conn, Error, IoError, Opts, OptsBuilder, Params, Value as Cell};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CONNECT: Duration = Duration::from_secs(10);
/// The character set of what is no text.
const BINARY: u16 = 63;
/// Too many connections, a shutdown, a lock that is waited for too long, a deadlock, and a connection that somebody ended: another
/// attempt may go better.
const PASSING: [u16; 6] = [1040, 1053, 1203, 1205, 1213, 1927];
const WHERE: &str = "SELECT CONCAT(@@hostname, ':', @@port)";

/// Asks a server; its certificate has to be good for the roots of this machine where the address asks for TLS.
pub async fn ask(query: Query, cancel: &CancellationToken) -> Result<Answer, SqlError> {
    let options = options(&query)?;
    let mut connection = connect(options.clone()).await?;
    let (id, server) = (connection.id(), connection.query_first::<String, _>(WHERE).await.map_err(told)?);
    let answer = tokio::select! {
        answer = answer(&mut connection, &query) => answer,
        () = cancel.cancelled() => Err(SqlError::Cancelled),
    };
    match &answer {
        // More would be sent, and read to its end before the connection is closed.
        Err(SqlError::Cancelled | SqlError::TooMany(_)) => {
            let _ = tokio::time::timeout(CONNECT, end(options, id, server)).await;
        }
        _ => {
            let _ = tokio::time::timeout(CONNECT, connection.disconnect()).await;
        }
    }
    answer
}

fn options(query: &Query) -> Result<Opts, SqlError> {
    let rest = query.url.split_once(':').map_or("", |(_, rest)| rest);
    let options = Opts::from_url(&format!("mysql:{rest}")).map_err(|error| told(error.into()))?;
    let tls = options.ssl_opts().map(|tls| {
        // One that cannot be read would make the library refuse them all; it is not trusted.
        let mut roots = rustls_native_certs::load_native_certs().certs;
        roots.retain(|root| rustls::RootCertStore::empty().add(root.clone()).is_ok());
        let roots = roots.into_iter().map(|root| root.to_vec().into()).collect();
        tls.clone().with_disable_built_in_roots(true).with_root_certs(roots)
    });
    // What the server is set to otherwise decides whether a write stays, and what a TIMESTAMP says.
    let mut setup = vec!["SET SESSION autocommit = 1, time_zone = '+00:00'"];
    if !query.write {
        // The second one holds for the statement, the first one for a procedure that ends the transaction.
        setup.extend(["SET SESSION TRANSACTION READ ONLY", "START TRANSACTION READ ONLY"]);
    }
    Ok(OptsBuilder::from_opts(options).ssl_opts(tls).prefer_socket(false).setup(setup).into())
}

async fn connect(options: Opts) -> Result<Conn, SqlError> {
    match tokio::time::timeout(CONNECT, Conn::new(options)).await {
        Ok(connection) => connection.map_err(told),
        Err(_) => Err(SqlError::Unreachable(format!("no connection within {} s", CONNECT.as_secs()))),
    }
}

/// Ends the connection `id`, unless an address of many servers leads to another one now.
async fn end(options: Opts, id: u32, server: Option<String>) -> Result<(), Error> {
    let mut connection = Conn::new(options).await?;
    if connection.query_first::<String, _>(WHERE).await? == server {
        connection.query_drop(format!("KILL {id}")).await?;
    }
    connection.disconnect().await
}

/// What the server says, or why nothing could be heard of it.
fn told(error: Error) -> SqlError {
    match &error {
        Error::Server(said) if PASSING.contains(&said.code) => SqlError::Unreachable(said.to_string()),
        Error::Server(said) => SqlError::Refused(said.to_string()),
        Error::Io(IoError::Io(source)) => SqlError::Unreachable(source.to_string()),
        Error::Driver(said) => SqlError::Refused(said.to_string()),
        Error::Url(said) => SqlError::Refused(said.to_string()),
        Error::Io(_) | Error::Other(_) => SqlError::Refused(error.to_string()),
    }
}

async fn answer(connection: &mut Conn, query: &Query) -> Result<Answer, SqlError> {
    let statement = connection.prep(query.statement.as_str()).await.map_err(told)?;
    let wanted = usize::from(statement.num_params());
    let values: Vec<Cell> = query.values.iter().take(wanted).map(bound).collect();
    if values.len() < wanted {
        return Err(SqlError::Refused(format!("there is no value for the ? number {}", values.len() + 1)));
    }
    let values = if values.is_empty() { Params::Empty } else { Params::Positional(values) };
    let mut rows = connection.exec_iter(&statement, values).await.map_err(told)?;
    let columns = rows.columns().unwrap_or_default();
    if columns.is_empty() {
        return Ok(Answer { rows: Vec::new(), count: rows.affected_rows() });
    }
    let mut found = Vec::new();
    while let Some(row) = rows.next().await.map_err(told)? {
        if found.len() == query.max_rows {
            return Err(SqlError::TooMany(query.max_rows));
        }
        // Of a row that no value was taken from all are there.
        let cells = columns.iter().zip(row.unwrap());
        let object: Result<Map<String, Value>, SqlError> =
            cells.map(|(column, cell)| Ok((column.name_str().into_owned(), value(column, cell)?))).collect();
        found.push(object?);
    }
    let count = found.len() as u64;
    Ok(Answer { rows: found, count })
}

fn bound(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::NULL,
        Value::Bool(yes) => Cell::Int(i64::from(*yes)),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Cell::Int(number),
            (None, Some(number)) => Cell::UInt(number),
            (None, None) => number.as_f64().map_or(Cell::NULL, Cell::Double),
        },
        Value::String(text) => Cell::Bytes(text.clone().into_bytes()),
        other => Cell::Bytes(other.to_string().into_bytes()),
    }
}

fn value(column: &Column, cell: Cell) -> Result<Value, SqlError> {
    use ColumnType as Kind;
    let float = |value: f64| serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number);
    Ok(match cell {
        Cell::NULL => Value::Null,
        Cell::Int(number) => number.into(),
        Cell::UInt(number) => number.into(),
        Cell::Float(number) => float(f64::from(number)),
        Cell::Double(number) => float(number),
        Cell::Date(year, month, day, hour, minute, second, micros) => {
            let date = format!("{year:04}-{month:02}-{day:02}");
            let time = format!("{hour:02}:{minute:02}:{second:02}{}", fraction(micros));
            match column.column_type() {
                Kind::MYSQL_TYPE_DATE | Kind::MYSQL_TYPE_NEWDATE => date.into(),
                // The session is in UTC.
                Kind::MYSQL_TYPE_TIMESTAMP | Kind::MYSQL_TYPE_TIMESTAMP2 => format!("{date}T{time}Z").into(),
                _ => format!("{date}T{time}").into(),
            }
        }
        Cell::Time(is_negative, days, hours, minutes, seconds, micros) => {
            let (sign, hours) = (if is_negative { "-" } else { "" }, days * 24 + u32::from(hours));
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micros)).into()
        }
        Cell::Bytes(bytes) => match column.column_type() {
            // At most 64 of them, the highest first.
            Kind::MYSQL_TYPE_BIT => {
                bytes.iter().fold(0, |number: u64, byte| number.wrapping_shl(8) | u64::from(*byte)).into()
            }
            Kind::MYSQL_TYPE_JSON => serde_json::from_slice(&bytes).map_err(|_| unreadable(column))?,
            Kind::MYSQL_TYPE_DECIMAL | Kind::MYSQL_TYPE_NEWDECIMAL => text(column, bytes)?,
            _ if column.character_set() == BINARY => hexadecimal(&bytes).into(),
            _ => text(column, bytes)?,
        },
    })
}

fn text(column: &Column, bytes: Vec<u8>) -> Result<Value, SqlError> {
    String::from_utf8(bytes).map(Value::from).map_err(|_| unreadable(column))
}

fn unreadable(column: &Column) -> SqlError {
    let name = column.name_str();
    SqlError::Refused(format!("what the column {name} holds is not what its type says: write HEX({name})"))
}

/// What goes after the seconds, without zeros at its end.
fn fraction(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}").trim_end_matches('0').to_owned() }
}
