//! Where the definition of a step is in its operation.

use std::collections::BTreeMap;
use windlass_model::diagnostic::Span;
use windlass_model::operation::plan::{OperationInput, OperationStep};
use windlass_model::operation::{
    Action, Checklist, ChecklistItem, OperationDefinition, OutputFormat, StepDefinition, WaitAction,
};
use windlass_model::run::{Cost, Repeat, Retry};

/// The definition of a step, of its undo, of a handler, or of the command of an item of a checklist.
pub fn step(run: &OperationInput, step: &OperationStep) -> Option<StepDefinition> {
    let found = run.definition(step).cloned();
    found.or_else(|| item(&run.operation, &step.path).and_then(command))
}

/// The item of the checklist at that place.
pub fn item<'a>(operation: &'a OperationDefinition, path: &[String]) -> Option<&'a ChecklistItem> {
    let Checklist { before, during, after, .. } = operation.checklist.as_ref()?;
    let [when, name] = path else { return None };
    let items = match when.as_str() {
        "before" => before,
        "during" => during,
        "after" => after,
        _ => return None,
    };
    items.iter().find(|item| item.name == *name)
}

/// What a program decides, as a step.
fn command(item: &ChecklistItem) -> Option<StepDefinition> {
    let action = Action::Run { argv: item.run.clone()? };
    Some(StepDefinition { action, description: Some(item.text.clone()), ..plain(&item.name, &item.span) })
}

/// A step of which nothing is said, for what is no step of its own.
pub fn plain(name: &str, span: &Span) -> StepDefinition {
    StepDefinition {
        name: name.to_owned(),
        description: None,
        action: Action::Wait(WaitAction::Gates(Vec::new())),
        when: None,
        after: None,
        env: BTreeMap::new(),
        directory: None,
        runner: None,
        retry: Retry::NEVER,
        timeout: None,
        repeat: Repeat::Idempotent,
        probe: None,
        outputs: OutputFormat::None,
        artefacts: Vec::new(),
        mask: Vec::new(),
        locks: Vec::new(),
        may_fail: false,
        success: Vec::new(),
        give_up: Vec::new(),
        undo: None,
        cost: Cost::NONE,
        span: span.clone(),
    }
}
