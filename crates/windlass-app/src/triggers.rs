//! Triggers: what happened is put on record as something that starts an operation, and is begun from there as a due time is.

mod delivery;
mod watch;

pub use delivery::{Delivered, Delivery, deliver, path};
pub use watch::Watch;

use crate::error::AppResult;
use crate::installation::ITSELF;
use crate::schedules::begin::{Intent, evaluate, locals};
use crate::sessions::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use windlass_lang::expression::{self, ExpressionError, Scope};
use windlass_model::Micros;
use windlass_model::operation::OperationDefinition;
use windlass_model::operation::plan::Origin;
use windlass_model::operation::trigger::TriggerDefinition;
use windlass_store::{NewStart, StartKind, StartRow, Store};

/// Tickets that say which start the same text led to within a trigger's window.
const SAME: &str = "trigger";

/// How many runs at most start each other, one by what the one before told.
const CHAIN: usize = 8;

/// What a trigger is told: `trigger.event` and `trigger.payload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Happened {
    /// `id` and `kind` at least; and `causes`, the operations that led to it, where there are any.
    pub event: Value,
    pub payload: Value,
}

impl Happened {
    fn causes(&self) -> Vec<String> {
        let causes = self.event["causes"].as_array().into_iter().flatten();
        causes.filter_map(|cause| cause.as_str().map(str::to_owned)).collect()
    }
}

/// Puts on record that a trigger was met; whether it was not known. `id` is what tells it from others of the trigger.
async fn put(
    store: &Store,
    operation: &str,
    trigger: &TriggerDefinition,
    id: &str,
    now: Micros,
    happened: &Happened,
) -> AppResult<bool> {
    let project = store.project();
    let start = NewStart {
        id: format!("trigger/{project}/{operation}/{}/{}", trigger.name, digest(id)),
        project: project.to_owned(),
        operation: operation.to_owned(),
        kind: StartKind::Trigger,
        name: trigger.name.clone(),
        request: serde_json::to_value(happened).map_err(crate::error::internal)?,
        actor: ITSELF.into(),
        due: now,
        at: now,
        series: None,
    };
    Ok(store.start_put(start, Some("trigger.received")).await?)
}

/// What a trigger that was met comes to.
pub(crate) async fn intent(store: &Store, operation: &OperationDefinition, start: &StartRow) -> AppResult<Intent> {
    let Some(trigger) = operation.triggers.iter().find(|trigger| trigger.name == start.name) else {
        return Ok(Intent::Refuse(format!("there is no trigger `{}` any more", start.name)));
    };
    let happened: Happened = serde_json::from_value(start.request.clone()).map_err(crate::error::internal)?;
    let event = happened.event["id"].as_str().unwrap_or_default().to_owned();
    let scope = Scope::default().with("trigger", start.request.clone()).with("local", locals(operation));
    let wanted = || -> Result<_, ExpressionError> {
        if let Some(when) = &trigger.when
            && !expression::boolean(when, &scope)?
        {
            return Ok(None);
        }
        let same = trigger.deduplicate.as_ref().map(|same| expression::text(same, &scope)).transpose()?;
        Ok(Some((same, evaluate(&trigger.arguments, &scope)?)))
    };
    let (same, arguments) = match wanted() {
        Err(error) => return Ok(Intent::Refuse(error.to_string())),
        Ok(None) => return Ok(Intent::Ignore("its condition is false".into())),
        Ok(Some(wanted)) => wanted,
    };
    if let Some(same) = same {
        let name = digest(&format!("{}/{}/{}/{same}", start.project, start.operation, start.name));
        // Whoever took this start before may have put it in.
        let first = store.ticket_put(SAME, &name, &start.id, start.at.saturating_add(trigger.window)).await?;
        if !first && store.ticket_get(SAME, &name).await?.is_some_and(|known| known != start.id) {
            return Ok(Intent::Ignore(format!("the same (`{same}`) has started it shortly before")));
        }
    }
    let causes = happened.causes();
    if causes.len() >= CHAIN {
        let led = causes.join(", ");
        return Ok(Intent::Refuse(format!("{} runs have started each other, and no more may: of {led}", causes.len())));
    }
    let origin = Origin::Trigger { name: trigger.name.clone(), event, causes };
    Ok(Intent::Start { arguments, origin, person: None })
}

#[cfg(test)]
mod tests;
