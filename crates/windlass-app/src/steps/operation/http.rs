//! `http`: one request, whose answer says whether the step is done.

use super::Work;
use crate::error::AppResult;
use serde_json::{Value, json};
use std::time::Duration;
use windlass_drivers::request::{self, Answer, Request, RequestError};
use windlass_engine::{StepFailure, StepResult};
use windlass_model::operation::HttpAction;

/// How much of an answer that is no success is told, characters.
const TOLD: usize = 300;

/// Asks once.
///
/// # Errors
/// An expression has no value.
pub async fn execute(work: &Work<'_>, action: &HttpAction) -> AppResult<StepResult> {
    let scope = &work.scope;
    let url = scope.text(&action.url)?;
    let mut headers = Vec::new();
    for (name, value) in &action.headers {
        headers.push((name.clone(), scope.text(value)?));
    }
    let body = action.body.as_ref().map(|body| scope.value(body)).transpose()?;
    let body = body.filter(|body| !body.is_null()).map(|body| match body {
        Value::String(text) => text.into_bytes(),
        other => {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("content-type".into(), "application/json".into()));
            }
            other.to_string().into_bytes()
        }
    });
    let contains = action.contains.as_ref().map(|text| scope.text(text)).transpose()?;
    let timeout = Duration::from_micros(u64::try_from(action.timeout).unwrap_or(0));
    let method = action.method.clone();
    work.cx.log(format!("{method} {url}\n").as_bytes()).await;
    work.cx.flush().await;
    let answer =
        match request::send(Request { method, url: url.clone(), headers, body, timeout }, &work.cx.cancel).await {
            Ok(answer) => answer,
            Err(RequestError::Cancelled) => return Ok(StepResult::Cancelled),
            Err(error) => {
                let retryable = !matches!(error, RequestError::Wrong(_));
                return Ok(failed(format!("{} {url}: {error}", action.method), retryable));
            }
        };
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    work.cx.log(format!("{}\n{text}\n", answer.status).as_bytes()).await;
    if let Some((why, retryable)) = refusal(&answer, &text, action.status, contains.as_deref()) {
        return Ok(failed(format!("{} {url} {why}", action.method), retryable));
    }
    let mut outputs = outputs(&answer, text);
    work.cx.mask().await.value(&mut outputs);
    Ok(StepResult::Succeeded(outputs))
}

fn failed(message: String, retryable: bool) -> StepResult {
    StepResult::Failed(StepFailure { code: "WL536".into(), message, retryable })
}

/// Why an answer is no success, and whether another one may be.
fn refusal(answer: &Answer, text: &str, status: (u16, u16), contains: Option<&str>) -> Option<(String, bool)> {
    let told: String = text.trim().chars().take(TOLD).collect();
    if !(status.0..=status.1).contains(&answer.status) {
        let wanted = if status.0 == status.1 { status.0.to_string() } else { format!("{} to {}", status.0, status.1) };
        let again = answer.status >= 500 || matches!(answer.status, 408 | 425 | 429);
        return Some((format!("answers {}, not {wanted}: {told}", answer.status), again));
    }
    let wanted = contains.filter(|wanted| !text.contains(wanted))?;
    Some((format!("answers {} without `{wanted}`: {told}", answer.status), true))
}

/// `status`, and `json` or `text`.
fn outputs(answer: &Answer, text: String) -> Value {
    let says_json = answer.content_type.as_deref().is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    });
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if says_json && !answer.cut => json!({ "status": answer.status, "json": value }),
        _ => json!({ "status": answer.status, "text": text }),
    }
}
