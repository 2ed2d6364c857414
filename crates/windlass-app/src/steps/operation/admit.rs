//! The first step of a run: it waits for the end of a freeze, for its window, and for its turn.

use super::{Step, definition};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use crate::steps::{failed, input};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;
use windlass_engine::{Executor, StepContext, StepResult};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::OperationDefinition;
use windlass_model::operation::plan::{OperationInput, OperationStep};
use windlass_model::operation::trigger::Freeze;
use windlass_model::schedule::{freeze_at, thaw};

/// How often a run that stands in a queue looks by itself; it is woken when its turn comes. Microseconds.
const AGAIN: Micros = 30_000_000;

pub struct Admit(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Admit {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        self.admit(cx).await.unwrap_or_else(failed)
    }
}

impl Admit {
    async fn admit(&self, cx: &StepContext) -> AppResult<StepResult> {
        let (service, run) = (&self.0, input::<OperationInput>(&cx.run_input)?);
        let now = service.store.now().await?;
        if !run.broke_glass {
            let deciding = service.deciding(Some(&run.head.commit)).await?;
            if let Some((reason, until)) =
                held(&run.operation, run.environment.as_deref(), &deciding.definitions.freezes, now)?
            {
                return Ok(StepResult::Wait { reason, until });
            }
        }
        let Some(concurrency) = &run.operation.concurrency else { return Ok(StepResult::Succeeded(json!({}))) };
        let key = match &concurrency.key {
            None => run.operation.name.clone(),
            Some(key) => {
                let (step, nothing) = (OperationStep::default(), definition::plain("admit", &run.operation.span));
                let asked = Step(service.clone());
                asked.with_definition(cx, &run, &step, nothing, &key.text, async |work| work.scope.text(key)).await?
            }
        };
        let limit = concurrency.limit;
        let before = service.store.admission_take(&key, &cx.run, limit).await?;
        let Some(last) = before.last() else { return Ok(StepResult::Succeeded(json!({ "key": key }))) };
        let (count, at) = (before.len(), format!("`{key}` ({limit} at the same time)"));
        let reason = format!("waits for its turn at {at}: {count} before it, the last of them run {last}");
        Ok(StepResult::Wait { reason, until: Some(now + AGAIN) })
    }
}

/// What keeps a run of the operation from beginning now, and until when.
fn held(
    operation: &OperationDefinition,
    environment: Option<&str>,
    freezes: &[Freeze],
    now: Micros,
) -> AppResult<Option<(String, Option<Micros>)>> {
    let told =
        |until: Micros| Timestamp::from_microsecond(until).map_or_else(|_| "later".to_owned(), |at| format!("{at:.0}"));
    if let Some(freeze) = freeze_at(freezes, environment, now) {
        let until = thaw(freezes, environment, now);
        let reason = format!("the freeze `{}` lasts until {}: {}", freeze.name, told(until), freeze.reason);
        return Ok(Some((reason, Some(until))));
    }
    let Some(window) = operation.checklist.as_ref().and_then(|checklist| checklist.window.as_ref()) else {
        return Ok(None);
    };
    let wrong = |error: windlass_model::schedule::ScheduleError| {
        let diagnostic = Diagnostic::error("WL547", format!("the maintenance window is wrong: {error}"));
        AppError::new(
            ErrorKind::Definition,
            diagnostic.at(operation.span.clone()).help("name a zone such as Asia/Tokyo"),
        )
    };
    if window.is_open(now).map_err(wrong)? {
        return Ok(None);
    }
    Ok(Some(match window.next_opening(now).map_err(wrong)? {
        Some(at) => (format!("the maintenance window opens at {}", told(at)), Some(at)),
        None => ("the maintenance window never opens".to_owned(), None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_model::diagnostic::Span;
    use windlass_model::operation::MaintenanceWindow;

    #[test]
    fn freezes_and_windows_hold_runs_back() {
        let second = |at: &str| at.parse::<Timestamp>().unwrap().as_microsecond();
        let mut operation = super::super::tests::operation(Vec::new(), json!({}));
        let freezes = [Freeze {
            name: "year-end".into(),
            environments: vec!["production".into()],
            from: second("2026-12-20T00:00:00Z"),
            to: second("2027-01-04T00:00:00Z"),
            reason: "nobody is there".into(),
            span: Span::file("w"),
        }];
        let check = |operation: &OperationDefinition, environment, at: &str, want: Option<(&str, &str)>| {
            let found = held(operation, environment, &freezes, second(at)).unwrap();
            match (found, want) {
                (None, None) => {}
                (Some((reason, until)), Some((wanted, at))) => {
                    assert!(reason.contains(wanted), "{reason}");
                    assert_eq!(until, Some(second(at)));
                }
                (found, want) => panic!("{found:?} instead of {want:?} at {at}"),
            }
        };
        let frozen = Some(("`year-end` lasts until 2027-01-04T00:00:00Z: nobody is there", "2027-01-04T00:00:00Z"));
        check(&operation, Some("production"), "2026-12-24T00:00:00Z", frozen);
        check(&operation, Some("staging"), "2026-12-24T00:00:00Z", None);
        check(&operation, None, "2026-12-24T00:00:00Z", None);
        check(&operation, Some("production"), "2027-01-04T00:00:00Z", None);
        let window = MaintenanceWindow { days: vec![1], from: 22 * 60, to: 2 * 60, zone: "Asia/Tokyo".into() };
        operation.checklist = Some(windlass_model::operation::Checklist { window: Some(window), ..Default::default() });
        let opens = Some(("opens at 2026-11-23T13:00:00Z", "2026-11-23T13:00:00Z"));
        check(&operation, None, "2026-11-21T00:00:00Z", opens);
        check(&operation, None, "2026-11-23T14:00:00Z", None);
        check(&operation, Some("production"), "2026-12-21T14:00:00Z", frozen);
    }
}
