//! Steps whose programs run where they are no processes of ours: which tools are there, and what dead attempts left.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use windlass_drivers::process::{self, ProcessError, Token};
use windlass_drivers::terraform::{ToolBox, tools_in};
use windlass_engine::{Executor, Probe, StepContext, StepResult};
use windlass_model::operation::plan::OperationStep;
use windlass_model::place::Place;

/// terraform and tofu of a place, asked there once for each image.
pub async fn tools(service: &Service, place: &Place, token: &str) -> AppResult<Arc<ToolBox>> {
    let failed = |error: ProcessError| match error.diagnostic() {
        Some(diagnostic) => AppError::new(ErrorKind::Unavailable, diagnostic),
        None => super::terraform::driver_error(&error.into()),
    };
    let image = process::image(place).await.map_err(failed)?;
    let key = format!("{image} {}", serde_json::to_string(place).map_err(crate::error::internal)?);
    if let Some(known) = service.tools_get(&key) {
        return Ok(known);
    }
    let found = tools_in(place, &service.checkout.root, Token::parse(token)).await.map_err(failed)?;
    Ok(service.tools_put(key, found))
}

/// Where the programs of a step run.
async fn place_of(service: &Service, run_input: &Value, input: &Value) -> AppResult<Place> {
    if let Some(step) = operation_step(input) {
        return super::operation::place_of(service, &super::input(run_input)?, &step).await;
    }
    let place = input.get("place").or_else(|| input.get("work")?.get("place"));
    Ok(place.and_then(|place| Place::deserialize(place).ok()).unwrap_or_default())
}

fn operation_step(input: &Value) -> Option<OperationStep> {
    input.get("path")?;
    OperationStep::deserialize(input).ok()
}

/// Whether something of a step lives elsewhere.
///
/// # Errors
/// It cannot be told now; why not.
pub async fn lives(service: &Service, cx: &StepContext) -> Result<bool, String> {
    let place = place_of(service, &cx.run_input, &cx.input).await.map_err(|error| error.to_string())?;
    match (place, Token::parse(&cx.token)) {
        (Place::Here, _) | (_, None) => Ok(false),
        (place, Some(token)) => process::lives(&place, &token).await.map_err(|error| error.to_string()),
    }
}

/// Ends what the attempts of a step of a run with this input left elsewhere.
///
/// # Errors
/// It may live on; why.
pub async fn end(
    service: &Service,
    run_input: &Value,
    input: &Value,
    token: &str,
    grace: Duration,
) -> Result<(), String> {
    let place = place_of(service, run_input, input).await.map_err(|error| error.to_string())?;
    match (place, Token::parse(token)) {
        (Place::Here, _) | (_, None) => Ok(()),
        (place, Some(token)) => process::end(&place, &token, grace).await.map_err(|error| error.to_string()),
    }
}

/// An executor, with what is known of its dead attempts.
pub struct Elsewhere(pub Arc<dyn Executor>, pub Arc<Service>);

#[async_trait]
impl Executor for Elsewhere {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        self.0.execute(cx).await
    }

    async fn probe(&self, cx: &StepContext) -> Probe {
        self.0.probe(cx).await
    }

    async fn lives(&self, cx: &StepContext) -> Result<bool, String> {
        lives(&self.1, cx).await
    }

    async fn end(&self, cx: &StepContext, grace: Duration) -> Result<(), String> {
        end(&self.1, &cx.run_input, &cx.input, &cx.token, grace).await
    }
}
