//! Where the definition of a step is in its operation.

use std::collections::BTreeMap;
use windlass_model::diagnostic::Span;
use windlass_model::operation::plan::OperationStep;
use windlass_model::operation::{
    Action, Checklist, ChecklistItem, EachDefinition, Node, OperationDefinition, OutputFormat, StepDefinition,
    WaitAction,
};
use windlass_model::run::{Cost, Repeat, Retry};

/// The definition of a step, of its undo, of a handler, or of the command of an item of a checklist.
pub fn step(operation: &OperationDefinition, step: &OperationStep) -> Option<StepDefinition> {
    let names: Vec<&str> = step.path.iter().map(String::as_str).collect();
    let handler = |steps: &[StepDefinition], name: &str| steps.iter().find(|step| step.name == name).cloned();
    let found = match names.as_slice() {
        ["on_failure", name] => handler(&operation.on_failure, name),
        ["on_cancel", name] => handler(&operation.on_cancel, name),
        _ => None,
    };
    let found = found.or_else(|| item(operation, &step.path).and_then(command));
    let found = found.or_else(|| match node(&operation.nodes, &step.path)? {
        Node::Step(step) => Some((**step).clone()),
        Node::Each(_) | Node::Parallel(_) => None,
    })?;
    if step.undo { found.undo.map(|undo| *undo) } else { Some(found) }
}

/// The `each` at that place.
pub fn each<'a>(operation: &'a OperationDefinition, path: &[String]) -> Option<&'a EachDefinition> {
    match node(&operation.nodes, path)? {
        Node::Each(each) => Some(each),
        Node::Step(_) | Node::Parallel(_) => None,
    }
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

fn node<'a>(nodes: &'a [Node], path: &[String]) -> Option<&'a Node> {
    let (first, rest) = path.split_first()?;
    let found = nodes.iter().find(|node| node.name() == first)?;
    match found {
        _ if rest.is_empty() => Some(found),
        Node::Step(_) => None,
        Node::Each(each) => node(&each.nodes, rest),
        Node::Parallel(parallel) => node(&parallel.nodes, rest),
    }
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
