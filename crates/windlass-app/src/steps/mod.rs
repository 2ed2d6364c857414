//! The executors behind the steps of runs.

pub mod anywhere;
pub mod apply;
pub mod checks;
pub mod elsewhere;
pub mod operation;
pub mod plan;
pub mod providers;
pub mod review;
pub mod rollout;
pub mod terraform;

use crate::error::{AppError, ErrorKind};
use crate::service::Service;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_engine::{Executor, StepFailure, StepResult};
use windlass_model::operation::plan::driver as operations;
use windlass_model::rollout::driver as waves;
use windlass_model::stack_plan::driver;

/// Names of all drivers that [`executors`] has.
pub(crate) const DRIVERS: [&str; 20] = [
    driver::CHECKS,
    driver::PROVIDERS,
    driver::PLAN,
    driver::ASSEMBLE,
    driver::PREPARE,
    driver::GATE,
    driver::APPLY,
    driver::DRIFT,
    driver::READY,
    waves::SOAK,
    waves::GATE,
    driver::FINISH,
    operations::STEP,
    operations::EACH,
    operations::BATCH,
    operations::GATHER,
    operations::ADMIT,
    operations::APPROVE,
    operations::TICK,
    operations::JOIN,
];

/// All executors, by the name that [`windlass_model::run::Work::driver`] gives.
pub fn executors(service: &Arc<Service>) -> HashMap<String, Arc<dyn Executor>> {
    let mut map: HashMap<String, Arc<dyn Executor>> = HashMap::new();
    map.insert(driver::CHECKS.into(), Arc::new(checks::Checks(service.clone())));
    map.insert(driver::PROVIDERS.into(), Arc::new(providers::Providers(service.clone())));
    map.insert(driver::PLAN.into(), Arc::new(review::Plan(service.clone())));
    map.insert(driver::ASSEMBLE.into(), Arc::new(review::Assemble(service.clone())));
    map.insert(driver::PREPARE.into(), Arc::new(apply::Prepare(service.clone())));
    map.insert(driver::GATE.into(), Arc::new(apply::Gate(service.clone())));
    map.insert(driver::APPLY.into(), Arc::new(apply::Apply(service.clone())));
    map.insert(driver::DRIFT.into(), Arc::new(crate::drift::Look(service.clone())));
    map.insert(driver::READY.into(), Arc::new(rollout::Ready(service.clone())));
    map.insert(waves::SOAK.into(), Arc::new(rollout::Soak(service.clone())));
    map.insert(waves::GATE.into(), Arc::new(rollout::WaveGate(service.clone())));
    map.insert(driver::FINISH.into(), Arc::new(apply::Finish(service.clone())));
    map.insert(operations::STEP.into(), Arc::new(operation::Step(service.clone())));
    map.insert(operations::EACH.into(), Arc::new(operation::Each(service.clone())));
    map.insert(operations::BATCH.into(), Arc::new(operation::Batch(service.clone())));
    map.insert(operations::GATHER.into(), Arc::new(operation::Gather));
    map.insert(operations::ADMIT.into(), Arc::new(operation::Admit(service.clone())));
    map.insert(operations::APPROVE.into(), Arc::new(operation::Approve(service.clone())));
    map.insert(operations::TICK.into(), Arc::new(operation::Tick(service.clone())));
    map.insert(operations::JOIN.into(), Arc::new(operation::Join));
    for executor in map.values_mut() {
        *executor = Arc::new(elsewhere::Elsewhere(executor.clone(), service.clone()));
    }
    map
}

/// A use-case error as the result of a step.
pub(crate) fn failed(error: AppError) -> StepResult {
    let code = error.diagnostics.first().map_or_else(|| "WL999".to_owned(), |d| d.code.clone());
    let message = error.diagnostics.iter().map(|d| d.summary.clone()).collect::<Vec<_>>().join("; ");
    StepResult::Failed(StepFailure { code, message, retryable: error.kind == ErrorKind::Unavailable })
}

fn succeeded<T: serde::Serialize>(value: &T) -> StepResult {
    match serde_json::to_value(value) {
        Ok(value) => StepResult::Succeeded(value),
        Err(error) => failed(crate::error::internal(error)),
    }
}

/// Input of a step that was stored by one of our planners.
pub(crate) fn input<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> Result<T, AppError> {
    T::deserialize(value).map_err(|error| crate::error::internal(format!("stored step input: {error}")))
}
