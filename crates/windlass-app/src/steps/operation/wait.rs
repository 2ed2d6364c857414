//! `wait`: for a time, until a time, or until gates pass.

use super::Work;
use super::gates::{self, Asked};
use crate::error::{AppError, AppResult, ErrorKind};
use jiff::Timestamp;
use serde_json::json;
use windlass_engine::{StepFailure, StepResult};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::{Expression, WaitAction};

/// Waits, or says that it is over.
///
/// # Errors
/// An expression has no value; the database cannot be read.
pub async fn execute(work: &Work<'_>, action: &WaitAction) -> AppResult<StepResult> {
    let now = work.service.store.now().await?;
    let since = work.since(now).await?;
    let until = match action {
        WaitAction::Time { duration } => since.saturating_add(work.scope.duration(duration)?),
        WaitAction::Until { at } => instant(work, at)?,
        WaitAction::Gates(gates) => {
            return Ok(match gates::ask(work, gates, since, now).await? {
                Asked::Passed => StepResult::Succeeded(json!({ "waited_seconds": (now - since) / 1_000_000 })),
                Asked::Held { reason, again } => StepResult::Wait { reason, until: Some(again) },
                Asked::Failed(message) => {
                    StepResult::Failed(StepFailure { code: "WL541".into(), message, retryable: true })
                }
                Asked::Cancelled => StepResult::Cancelled,
            });
        }
    };
    if now >= until {
        return Ok(StepResult::Succeeded(json!({ "waited_seconds": (now - since) / 1_000_000 })));
    }
    let at = Timestamp::from_microsecond(until)
        .map_or_else(|_| "a time that never comes".to_owned(), |at| format!("{at:.0}"));
    Ok(StepResult::Wait { reason: format!("waits until {at}"), until: Some(until) })
}

/// Microseconds since the Unix epoch of a time with an offset or a zone.
fn instant(work: &Work<'_>, expression: &Expression) -> AppResult<Micros> {
    let text = work.scope.text(expression)?;
    let found = text.parse::<Timestamp>().or_else(|_| text.parse::<jiff::Zoned>().map(|zoned| zoned.timestamp()));
    found.map(Timestamp::as_microsecond).map_err(|error| {
        let summary = format!("`{}` is no time with an offset or a zone: {error}", expression.text);
        let diagnostic = Diagnostic::error("WL532", summary).at(expression.span.clone());
        AppError::new(ErrorKind::Definition, diagnostic.help("write it as 2026-03-29T02:30:00+01:00"))
    })
}
