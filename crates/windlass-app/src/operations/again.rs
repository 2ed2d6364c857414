//! Runs of operations that there were: what is different between two, and going on with one that failed.

use super::{Arguments, Source, StartOptions};
use crate::error::{AppError, AppResult, ErrorKind, internal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::parameter::{Context, validate};
use windlass_model::operation::plan::{self, OperationInput, Origin};
use windlass_model::run::{RunRecord, RunState, StepRecord};

/// What is different between two runs of operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub before: Side,
    pub after: Side,
    /// Parameters with other values; secrets are not on record.
    pub parameters: Vec<Difference>,
    /// The operation is defined in the same words.
    pub same_definition: bool,
    /// Every step that one of them has, those of the second run first in its order.
    pub steps: Vec<StepPair>,
}

/// One of the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    pub run: RunId,
    pub operation: String,
    pub state: String,
    pub actor: String,
    pub commit: String,
    /// From when it was made to its end, microseconds.
    pub took: Option<Micros>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub name: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPair {
    pub step: StepId,
    pub before: Option<StepSide>,
    pub after: Option<StepSide>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSide {
    pub state: String,
    pub attempts: u32,
    /// From its begin to its end, microseconds.
    pub took: Option<Micros>,
}

/// A run, what it was made of, and its steps.
pub type Whole<'a> = (&'a RunRecord, &'a OperationInput, &'a [StepRecord]);

/// Compares two runs.
pub fn compare(before: Whole<'_>, after: Whole<'_>) -> Compared {
    let (old, new) = (&before.1.arguments, &after.1.arguments);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let parameters = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).map(|name| Difference {
        name: name.clone(),
        before: old.get(name).cloned(),
        after: new.get(name).cloned(),
    });
    let by_id = |steps: &[StepRecord]| -> BTreeMap<StepId, StepSide> {
        steps.iter().map(|step| (step.id.clone(), step_side(step))).collect()
    };
    let (mut first, mut second) = (by_id(before.2), by_id(after.2));
    let ids = after.2.iter().chain(before.2).map(|step| step.id.clone());
    let mut seen = BTreeSet::new();
    let steps = ids.filter(|id| seen.insert(id.clone())).map(|step| StepPair {
        before: first.remove(&step),
        after: second.remove(&step),
        step,
    });
    let steps = steps.collect();
    Compared {
        before: side(before),
        after: side(after),
        parameters: parameters.collect(),
        same_definition: before.1.operation == after.1.operation,
        steps,
    }
}

fn side((record, input, _): Whole<'_>) -> Side {
    Side {
        run: record.id.clone(),
        operation: input.operation.name.clone(),
        state: record.state.as_str().to_owned(),
        actor: record.actor.clone(),
        commit: input.head.commit.clone(),
        took: record.ended_at.map(|end| end - record.created_at),
    }
}

fn step_side(step: &StepRecord) -> StepSide {
    StepSide {
        state: step.state.as_str().to_owned(),
        attempts: step.attempt,
        took: step.ended_at.zip(step.started_at).map(|(end, begin)| end - begin),
    }
}

/// Whether what a run is repeated with has the secrets that the run had: without them it would be another one.
///
/// # Errors
/// One is missing.
pub fn asks_secrets_again(input: &OperationInput, is_given: impl Fn(&str) -> bool) -> AppResult<()> {
    let missing: Vec<Diagnostic> = input.secrets.iter().filter(|name| !is_given(name)).map(not_kept).collect();
    if missing.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Usage, missing)) }
}

fn not_kept(name: &String) -> Diagnostic {
    Diagnostic::error("WL741", format!("`{name}`: it is required: secrets are not kept"))
        .help(format!("give it again: `{name}=@FILE`, or `{name}=@-` for standard input"))
}

/// Goes on where a run failed or was cancelled, as a new run of the same definition and parameters, in which what had succeeded and
/// was not taken back is done. `secrets` are those that it had, given again: they are kept no longer than a run.
///
/// # Errors
/// It has not ended, or succeeded; a secret is missing; breaking the glass has no reason; a policy denies it now; another run is in
/// the way; or the database cannot be written.
pub async fn resume(
    source: &Source<'_>,
    record: &RunRecord,
    input: &OperationInput,
    secrets: &Arguments,
    options: StartOptions,
) -> AppResult<RunId> {
    if !matches!(record.state, RunState::Failed | RunState::Cancelled) {
        let diagnostic = Diagnostic::error("WL617", format!("run {} {}", record.id, record.state.predicate()));
        return Err(AppError::new(
            ErrorKind::Conflict,
            diagnostic.help("one that failed or was cancelled can be gone on with"),
        ));
    }
    let mut wrong: Vec<Diagnostic> = Vec::new();
    let mut given = BTreeMap::new();
    for name in &input.secrets {
        let value = secrets.get(name).unwrap_or(&Value::Null);
        let parameter = input.operation.parameters.iter().find(|parameter| parameter.name == *name);
        match parameter.map(|parameter| validate(parameter, value, Context::default())) {
            Some(Ok(Value::String(text))) => drop(given.insert(name.clone(), text)),
            Some(Err(mistakes)) => {
                wrong.extend(mistakes.iter().map(|mistake| Diagnostic::error("WL741", format!("`{name}`: {mistake}"))));
            }
            _ => wrong.push(not_kept(name)),
        }
    }
    let others = secrets.keys().filter(|name| !input.secrets.contains(name));
    wrong.extend(others.map(|name| {
        Diagnostic::error("WL741", format!("`{name}`: the parameters of a run that goes on are those it had"))
            .help("`windlass repeat` begins anew, with others")
    }));
    if !wrong.is_empty() {
        return Err(AppError::many(ErrorKind::Usage, wrong));
    }
    let reason = super::stated(options.reason, options.break_glass)?;
    let mut skipped = input.skipped.clone();
    skipped.extend(options.skip);
    let again = OperationInput {
        origin: Origin::Resumed { run: record.id.clone() },
        reason: reason.or_else(|| input.reason.clone()),
        broke_glass: options.break_glass,
        skipped,
        ..input.clone()
    };
    super::policies::refuse_denied(source, &again).await?;
    let service = source.service;
    let steps = service.store.step_list(&record.id).await?;
    let (mut plan, first) = plan::resume(input, &record.plan, &steps);
    plan.input = serde_json::to_value(&again).map_err(internal)?;
    super::create(service, &plan, &again, &given, first).await
}
