//! `sql`: one statement, in a session that cannot write unless the step says so. Values are bound, never part of the text.

mod mysql;
mod postgres;
mod sqlite;

use super::{Work, outputs};
use crate::error::{AppError, AppResult, ErrorKind};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use windlass_engine::{StepFailure, StepResult};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::SqlAction;

/// What is asked of a database.
struct Query {
    /// After the scheme, as the database's own library reads it.
    url: String,
    statement: String,
    values: Vec<Value>,
    write: bool,
    max_rows: usize,
}

/// What it answers.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    rows: Vec<Map<String, Value>>,
    /// Rows that were changed, or are in the answer.
    count: u64,
}

#[derive(Debug, thiserror::Error)]
enum SqlError {
    /// It cannot be reached, or the session ended.
    #[error("{0}")]
    Unreachable(String),
    /// What it says against the statement.
    #[error("{0}")]
    Refused(String),
    #[error("it answers more than {0} rows")]
    TooMany(usize),
    #[error("cancelled")]
    Cancelled,
}

/// Asks once.
///
/// # Errors
/// An expression has no value.
pub async fn execute(work: &Work<'_>, action: &SqlAction) -> AppResult<StepResult> {
    let scope = &work.scope;
    let url = scope.text(&action.url)?;
    work.cx.hide(windlass_model::secrets::in_text(&url)).await;
    let values = match &action.values {
        Some(values) => match scope.value(values)? {
            Value::Array(values) => values,
            other => vec![other],
        },
        None => Vec::new(),
    };
    let statement = scope.text(&action.statement)?;
    let max_rows = usize::try_from(action.max_rows).unwrap_or(usize::MAX);
    work.cx.log(format!("{statement}\n").as_bytes()).await;
    work.cx.flush().await;
    let query = Query { url, statement, values, write: action.write, max_rows };
    let answer = match ask(query, work, &work.cx.cancel).await? {
        Ok(answer) => answer,
        Err(SqlError::Cancelled) => return Ok(StepResult::Cancelled),
        Err(error) => {
            let code = if matches!(error, SqlError::TooMany(_)) { "WL538" } else { "WL537" };
            let retryable = matches!(error, SqlError::Unreachable(_));
            return Ok(StepResult::Failed(StepFailure { code: code.into(), message: error.to_string(), retryable }));
        }
    };
    work.cx.log(format!("{} rows\n", answer.count).as_bytes()).await;
    let mut outputs = json!({ "rows": answer.rows, "count": answer.count });
    if outputs.to_string().len() > outputs::LIMIT {
        let message = format!("its rows are larger than {} MiB together", outputs::LIMIT >> 20);
        return Ok(StepResult::Failed(StepFailure { code: "WL538".into(), message, retryable: false }));
    }
    work.cx.mask().await.value(&mut outputs);
    Ok(StepResult::Succeeded(outputs))
}

async fn ask(query: Query, work: &Work<'_>, cancel: &CancellationToken) -> AppResult<Result<Answer, SqlError>> {
    let scheme = query.url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match scheme.as_str() {
        "postgres" | "postgresql" => Ok(postgres::ask(query, cancel).await),
        "mysql" | "mariadb" => Ok(mysql::ask(query, cancel).await),
        "sqlite" => Ok(sqlite::ask(query, &super::programs::directory(work)?, cancel).await),
        _ => {
            // The address may be a secret.
            let diagnostic = Diagnostic::error("WL537", "the address of the database is of no kind that is known")
                .at(work.definition.span.clone())
                .help("use postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:FILE");
            Err(AppError::new(ErrorKind::Definition, diagnostic))
        }
    }
}

/// Bytes as they are written everywhere.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
