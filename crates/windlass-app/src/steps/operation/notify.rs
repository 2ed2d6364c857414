//! `notify`: a text to notifiers.

use super::Work;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::notifications;
use crate::steps::failed;
use serde_json::json;
use windlass_engine::{StepFailure, StepResult};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::Expression;

/// Sends a text to each of them. A second attempt carries the same key, so that a channel that can tell shows it once.
///
/// # Errors
/// The text has no value, or a notifier is not there.
pub async fn execute(work: &Work<'_>, to: &[String], text: &Expression) -> AppResult<StepResult> {
    // What is told to people has no secrets in it.
    let text = work.cx.mask().await.text(&work.scope.text(text)?);
    let deciding = work.service.deciding(Some(&work.input.head.commit)).await?;
    let mut failures = Vec::new();
    for name in to {
        let known = deciding.definitions.notifiers.iter().find(|notifier| notifier.name == *name);
        let notifier = known.ok_or_else(|| {
            let diagnostic = Diagnostic::error("WL545", format!("there is no notifier `{name}`"));
            AppError::new(
                ErrorKind::Definition,
                diagnostic.at(work.definition.span.clone()).help("write a `notifier` block"),
            )
        })?;
        let key = format!("{}/{}", work.cx.run, work.cx.step);
        match notifications::send_now(notifier, work.service.store.project(), &text, &key).await {
            Ok(()) => work.cx.log(format!("told {name}\n").as_bytes()).await,
            Err(error) => {
                work.cx.log(format!("{error}\n").as_bytes()).await;
                failures.push(error);
            }
        }
    }
    let Some(first) = failures.pop() else { return Ok(StepResult::Succeeded(json!({ "told": to }))) };
    let retryable = notifications::may_retry(&first) || failures.iter().any(notifications::may_retry);
    Ok(match failed(first) {
        StepResult::Failed(failure) => StepResult::Failed(StepFailure { retryable, ..failure }),
        other => return Err(internal(format!("a failure is {other:?}"))),
    })
}
