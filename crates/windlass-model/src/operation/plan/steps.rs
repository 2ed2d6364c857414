//! The definition of an operation as steps of a run.

use super::{ADMIT, APPROVE, BatchStep, KIND, Member, OperationInput, OperationStep, driver, step_id};
use crate::id::StepId;
use crate::operation::{Action, Batch, EachDefinition, Expression, GateDefinition, Node, StepDefinition, WaitAction};
use crate::rollout::Gate;
use crate::run::{Cost, Expansion, Flow, OnFailure, Phase, Repeat, Retry, RunPlan, StepSpec, When, Work};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is known of expressions when a run is planned: their parameters.
pub trait Expressions {
    /// Names of the nodes whose outputs or states it uses.
    fn nodes(&self, expression: &Expression) -> Vec<String>;

    /// Its text for these members of the `each`es around.
    ///
    /// # Errors
    /// It is no text, or needs what is not known yet; why.
    fn text(&self, expression: &Expression, each: &[Member]) -> Result<String, String>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the lock `{text}` has no name yet: {message}")]
    Lock { text: String, message: String },
    #[error("it is no `each`: {path}")]
    Each { path: String },
    #[error("`{what}` takes a list or an object, and this is neither")]
    Members { what: String },
}

/// The steps of an operation. `runner` is the label of workers that its environment has, for steps that say nothing else.
///
/// # Errors
/// [`PlanError::Lock`].
pub fn plan(input: &OperationInput, runner: Option<&str>, expressions: &dyn Expressions) -> Result<RunPlan, PlanError> {
    let mut planning = Planning { input, runner, expressions, each: &[], steps: Vec::new(), undos: Vec::new() };
    planning.all()?;
    let Planning { mut steps, undos, .. } = planning;
    // Handlers are last.
    let handlers = steps.iter().position(|step| !step.flow.phase.is_main()).unwrap_or(steps.len());
    steps.splice(handlers..handlers, undos.into_iter().rev());
    Ok(RunPlan {
        kind: KIND.into(),
        title: title(input),
        input: to_value(input),
        steps,
        timeout: input.operation.timeout,
        subject: Some(input.operation.name.clone()),
    })
}

/// What an `each` adds to its run: its nodes for each member, with a gate before each batch and after the last. `of` is the input of
/// its step, `members` the value that its list has.
///
/// # Errors
/// It is no `each`, or neither a list nor an object; [`PlanError::Lock`].
pub fn expand(
    input: &OperationInput,
    of: &OperationStep,
    members: &Value,
    runner: Option<&str>,
    expressions: &dyn Expressions,
) -> Result<(super::EachOutput, Expansion), PlanError> {
    let each = input.each(of).ok_or_else(|| PlanError::Each { path: of.path.join(".") })?;
    let members = self::members(each, members)?;
    let keys = members.iter().map(|member| member.key.clone()).collect();
    let mut expansion = Expansion::default();
    let mut undos = Vec::new();
    let size = match each.batch {
        Batch::All => members.len(),
        Batch::Count(count) => count as usize,
        Batch::Percent(percent) => members.len() * percent as usize / 100,
    };
    let batches: Vec<&[Member]> = members.chunks(size.max(1)).collect();
    let adder = prefixed(driver::EACH, &of.each, &each.name);
    let mut gate: Option<StepId> = None;
    let mut ended: Vec<(String, Vec<StepId>)> = Vec::new();
    // Where there is nothing to ask, the first begins at once.
    let first = usize::from(each.gates.is_empty());
    let gates = if batches.is_empty() { 0 } else { batches.len() + 1 };
    for number in 0..gates {
        if number >= first {
            let id = StepId::new(format!("{}#{number}", prefixed(driver::BATCH, &of.each, &each.name)));
            let work = BatchStep {
                of: of.clone(),
                number,
                batches: batches.len(),
                before: gate.clone(),
                members: std::mem::take(&mut ended),
            };
            let title = match number {
                0 => format!("Before the first of {}", each.name),
                _ if number == batches.len() => format!("After the last of {}", each.name),
                _ => format!("{}: {number} of {} batches", each.name, batches.len()),
            };
            let after = vec![gate.clone().unwrap_or_else(|| adder.clone())];
            let mut step = structural(id.clone(), title, after, driver::BATCH, to_value(&work));
            step.flow.behind = work.members.iter().flat_map(|(_, ends)| ends.iter().cloned()).collect();
            step.flow.on_failure = effect(false, of.each.len());
            // What asks has to be where it can reach.
            if !each.gates.is_empty() {
                step.labels = labels(input.operation.runner.as_deref().or(runner));
            }
            expansion.steps.push(step);
            gate = Some(id);
        }
        let Some(batch) = batches.get(number) else { continue };
        let mut before = vec![gate.clone().unwrap_or_else(|| adder.clone())];
        before.extend(gated(input));
        for member in *batch {
            let around: Vec<Member> = of.each.iter().cloned().chain([member.clone()]).collect();
            let mut planning =
                Planning { input, runner, expressions, each: &around, steps: Vec::new(), undos: Vec::new() };
            let ends = planning.nodes(&each.nodes, &of.path, &before)?;
            expansion.steps.append(&mut planning.steps);
            undos.append(&mut planning.undos);
            expansion.behind.extend(each.names().iter().map(|name| step_id(&around, name)));
            ended.push((member.key.clone(), ends));
        }
    }
    expansion.steps.extend(undos.into_iter().rev());
    expansion.after.extend(gate);
    Ok((super::EachOutput { keys }, expansion))
}

/// The members of an `each`: of a list called by their texts, or by their numbers where that is no text or comes twice.
fn members(each: &EachDefinition, value: &Value) -> Result<Vec<Member>, PlanError> {
    let member =
        |(index, (key, value)): (usize, (String, Value))| Member { name: each.name.clone(), key, value, index };
    let keyed: Vec<(String, Value)> = match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        Value::Array(list) => {
            let mut times: BTreeMap<&str, usize> = BTreeMap::new();
            for text in list.iter().filter_map(Value::as_str) {
                *times.entry(text).or_default() += 1;
            }
            let once = |text: &&str| times.get(text) == Some(&1);
            let key = |(index, value): (usize, &Value)| {
                (value.as_str().filter(once).map_or_else(|| index.to_string(), str::to_owned), value.clone())
            };
            let keyed: Vec<(String, Value)> = list.iter().enumerate().map(key).collect();
            // A text may be the number of another.
            let distinct: std::collections::BTreeSet<&str> = keyed.iter().map(|(key, _)| key.as_str()).collect();
            if distinct.len() == keyed.len() {
                keyed
            } else {
                list.iter().enumerate().map(|(index, value)| (index.to_string(), value.clone())).collect()
            }
        }
        _ => return Err(PlanError::Members { what: each.members.text.clone() }),
    };
    Ok(keyed.into_iter().enumerate().map(member).collect())
}

/// `each:member`, `batch:outer[a]/member`.
fn prefixed(driver: &str, each: &[Member], name: &str) -> StepId {
    let kind = driver.trim_start_matches("operation.");
    StepId::new(format!("{kind}:{}", step_id(each, name)))
}

/// What every step of the main phase comes after, so that a run that goes on waits for it although it had begun.
fn gated(input: &OperationInput) -> Option<StepId> {
    Some(StepId::new(if has_approval(input) { APPROVE } else { ADMIT }))
}

fn has_approval(input: &OperationInput) -> bool {
    input.operation.approvals.is_some() && !input.broke_glass
}

/// One line for people: the name with the arguments that are short.
fn title(input: &OperationInput) -> String {
    let mut title = input.operation.name.clone();
    for parameter in &input.operation.parameters {
        let text = match input.arguments.get(&parameter.name) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            _ => continue,
        };
        let argument = format!(" {}={text}", parameter.name);
        if !text.contains(char::is_control) && title.len() + argument.len() <= 100 {
            title.push_str(&argument);
        }
    }
    title
}

fn to_value<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn labels(runner: Option<&str>) -> Vec<String> {
    runner.map(str::to_owned).into_iter().collect()
}

/// A failure in an `each` is counted by its gates.
fn effect(may_fail: bool, depth: usize) -> OnFailure {
    match (may_fail, depth) {
        (true, _) => OnFailure::GoOn,
        (false, 0) => OnFailure::Fail,
        (false, _) => OnFailure::Tolerate,
    }
}

/// A step that only decides what goes on.
fn structural(id: StepId, title: String, after: Vec<StepId>, driver: &str, input: Value) -> StepSpec {
    StepSpec {
        id,
        title,
        after,
        when: When::Succeeded,
        work: Work { driver: driver.into(), input },
        repeat: Repeat::Idempotent,
        timeout: None,
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    }
}

struct Planning<'a> {
    input: &'a OperationInput,
    runner: Option<&'a str>,
    expressions: &'a dyn Expressions,
    /// The members around.
    each: &'a [Member],
    steps: Vec<StepSpec>,
    undos: Vec<StepSpec>,
}

impl Planning<'_> {
    fn all(&mut self) -> Result<(), PlanError> {
        let operation = &self.input.operation;
        let admit = StepId::new(ADMIT);
        let whole = to_value(&OperationStep::default());
        let title = format!("Admission of {}", operation.name);
        self.steps.push(structural(admit.clone(), title, Vec::new(), driver::ADMIT, whole.clone()));
        let mut entry = vec![admit.clone()];
        if has_approval(self.input) {
            let approve = StepId::new(APPROVE);
            self.steps.push(structural(approve.clone(), "Approval".into(), entry, driver::APPROVE, whole));
            entry = vec![approve];
        }
        if let Some(checklist) = &operation.checklist {
            let mut before = Vec::new();
            for item in &checklist.before {
                before.push(self.item("before", &item.name, &item.text, item.run.is_some(), &entry));
            }
            entry.extend(before);
        }
        self.nodes(&operation.nodes, &[], &entry)?;
        if let Some(checklist) = &operation.checklist {
            for item in &checklist.during {
                self.item("during", &item.name, &item.text, item.run.is_some(), &entry);
            }
            let mut ends: Vec<StepId> = entry.clone();
            ends.extend(operation.nodes.iter().map(|node| step_id(&[], node.name())));
            for item in &checklist.after {
                self.item("after", &item.name, &item.text, item.run.is_some(), &ends);
            }
        }
        for (kind, phase, handlers) in [
            ("on_failure", Phase::Failed, &operation.on_failure),
            ("on_cancel", Phase::Cancelled, &operation.on_cancel),
        ] {
            let mut before: Vec<StepId> = Vec::new();
            for handler in handlers {
                let path = vec![kind.to_owned(), handler.name.clone()];
                let id = StepId::new(format!("{kind}:{}", handler.name));
                let work = OperationStep { path, ..OperationStep::default() };
                let mut step = self.step(id.clone(), handler, work, std::mem::take(&mut before))?;
                (step.when, step.flow.phase, step.flow.on_failure) = (When::Always, phase.clone(), OnFailure::Fail);
                self.steps.push(step);
                before.push(id);
            }
        }
        Ok(())
    }

    fn item(&mut self, kind: &str, name: &str, text: &str, by_program: bool, after: &[StepId]) -> StepId {
        let id = StepId::new(format!("{kind}:{name}"));
        let work = OperationStep { path: vec![kind.to_owned(), name.to_owned()], ..OperationStep::default() };
        let driver = if by_program { driver::STEP } else { driver::TICK };
        let mut step = structural(id.clone(), text.to_owned(), after.to_vec(), driver, to_value(&work));
        if by_program {
            step.labels = labels(self.input.operation.runner.as_deref().or(self.runner));
        }
        self.steps.push(step);
        id
    }

    /// The steps of a level, whose first come after `entry`; those that it ends with.
    fn nodes(&mut self, nodes: &[Node], path: &[String], entry: &[StepId]) -> Result<Vec<StepId>, PlanError> {
        let mut previous: Option<StepId> = None;
        let mut ends: Vec<StepId> = Vec::new();
        let gate = gated(self.input);
        for node in nodes {
            let mut after: Vec<StepId> = match node {
                Node::Step(step) if step.after.is_some() => {
                    step.after.iter().flatten().map(|name| step_id(self.each, name)).collect()
                }
                _ => previous.iter().cloned().collect(),
            };
            if after.is_empty() {
                after = entry.to_vec();
            } else {
                after.extend(gate.iter().cloned());
            }
            let passed: Vec<StepId> = after.clone();
            ends.retain(|end| !passed.contains(end));
            let id = self.node(node, path, after)?;
            ends.push(id.clone());
            previous = Some(id);
        }
        Ok(ends)
    }

    fn node(&mut self, node: &Node, path: &[String], after: Vec<StepId>) -> Result<StepId, PlanError> {
        let path: Vec<String> = path.iter().cloned().chain([node.name().to_owned()]).collect();
        let id = step_id(self.each, node.name());
        let work = OperationStep { path, each: self.each.to_vec(), undo: false };
        match node {
            Node::Step(definition) => {
                let mut step = self.step(id.clone(), definition, work.clone(), after)?;
                step.flow.on_failure = effect(definition.may_fail, self.each.len());
                self.steps.push(step);
                if let Some(undo) = &definition.undo {
                    let own = StepId::new(format!("undo:{id}"));
                    let mut step = self.step(own, undo, OperationStep { undo: true, ..work }, vec![id.clone()])?;
                    (step.when, step.flow.phase) = (When::Always, Phase::Undo(id.clone()));
                    step.title = undo.description.clone().unwrap_or_else(|| format!("Undo {}", definition.name));
                    self.undos.push(step);
                }
            }
            Node::Each(each) => {
                let adder = prefixed(driver::EACH, self.each, &each.name);
                let after = self.after(after, &work, [&each.members]);
                let title = format!("Members of {}", each.name);
                let mut step = structural(adder.clone(), title, after, driver::EACH, to_value(&work));
                step.flow.on_failure = effect(false, self.each.len());
                self.steps.push(step);
                let mut gather =
                    structural(id.clone(), each.name.clone(), vec![adder.clone()], driver::GATHER, to_value(&work));
                gather.flow.gathers = Some(adder);
                gather.flow.on_failure = effect(false, self.each.len());
                self.steps.push(gather);
            }
            Node::Parallel(parallel) => {
                let mut ends = Vec::new();
                for inner in &parallel.nodes {
                    // Only `after` says that one comes after another.
                    let among: Vec<StepId> = match inner {
                        Node::Step(step) => step.after.iter().flatten().map(|name| step_id(self.each, name)).collect(),
                        _ => Vec::new(),
                    };
                    let after = after.iter().cloned().chain(among).collect();
                    ends.push(self.node(inner, &work.path, after)?);
                }
                if ends.is_empty() {
                    ends = after;
                }
                let title = parallel.name.clone();
                let mut join = structural(id.clone(), title, ends, driver::JOIN, to_value(&work));
                join.flow.on_failure = effect(false, self.each.len());
                self.steps.push(join);
            }
        }
        Ok(id)
    }

    fn step(
        &self,
        id: StepId,
        definition: &StepDefinition,
        work: OperationStep,
        after: Vec<StepId>,
    ) -> Result<StepSpec, PlanError> {
        let operation = &self.input.operation;
        let mut locks = Vec::new();
        for lock in operation.locks.iter().chain(&definition.locks) {
            let text = self.expressions.text(lock, self.each);
            locks.push(text.map_err(|message| PlanError::Lock { text: lock.text.clone(), message })?);
        }
        let runner = definition.runner.as_deref().or(operation.runner.as_deref()).or(self.runner);
        let by_people =
            matches!(
                definition.action,
                Action::Approval(_) | Action::Ask(_) | Action::Operation { .. } | Action::Notify { .. }
            ) || matches!(definition.action, Action::Wait(WaitAction::Time { .. } | WaitAction::Until { .. }));
        let after = self.after(after, &work, expressions(definition));
        let after = match gates(definition) {
            gates if gates.is_empty() => after,
            gates => self.after(after, &work, &gates),
        };
        Ok(StepSpec {
            id,
            title: definition.description.clone().unwrap_or_else(|| definition.name.clone()),
            after,
            when: When::Succeeded,
            work: Work { driver: driver::STEP.into(), input: to_value(&work) },
            repeat: definition.repeat,
            timeout: definition.timeout,
            retry: definition.retry,
            locks,
            cost: if by_people { Cost::NONE } else { definition.cost },
            labels: if by_people { Vec::new() } else { labels(runner) },
            flow: Flow::default(),
        })
    }

    /// With every step whose outputs these name.
    fn after<'e>(
        &self,
        mut after: Vec<StepId>,
        work: &OperationStep,
        expressions: impl IntoIterator<Item = &'e Expression>,
    ) -> Vec<StepId> {
        let own = work.path.last();
        for expression in expressions {
            for name in self.expressions.nodes(expression) {
                let Some(id) = self.input.named(work, &name) else { continue };
                let itself = !work.undo && own == Some(&name) && id == step_id(self.each, &name);
                if !itself && !after.contains(&id) {
                    after.push(id);
                }
            }
        }
        after
    }
}

/// All expressions of a step, but for those of its gates and its undo.
fn expressions(step: &StepDefinition) -> Vec<&Expression> {
    let mut found: Vec<&Expression> = Vec::new();
    found.extend(&step.when);
    found.extend(step.env.values());
    found.extend(&step.directory);
    found.extend(&step.probe);
    found.extend(&step.mask);
    match &step.action {
        Action::Run { argv } => found.push(argv),
        Action::Shell { line } => found.push(line),
        Action::Script { text, file, arguments, .. } => found.extend([text, file, arguments].into_iter().flatten()),
        Action::Container { image, argv, .. } | Action::Job { image, argv, .. } => {
            found.push(image);
            found.extend(argv);
        }
        Action::Http(http) => {
            found.push(&http.url);
            found.extend(http.headers.values());
            found.extend([&http.body, &http.contains].into_iter().flatten());
        }
        Action::Sql(sql) => {
            found.extend([&sql.url, &sql.statement]);
            found.extend(&sql.values);
        }
        Action::Terraform { stack, variables, .. } => {
            found.push(stack);
            found.extend(variables.values());
        }
        Action::StackOutputs { stack } => found.push(stack),
        Action::Approval(approval) => found.extend(&approval.when),
        Action::Ask(ask) => found.push(&ask.question),
        Action::Wait(WaitAction::Time { duration }) => found.push(duration),
        Action::Wait(WaitAction::Until { at }) => found.push(at),
        Action::Wait(WaitAction::Gates(_)) => {}
        Action::Operation { arguments, .. } => found.extend(arguments.values()),
        Action::Notify { text, .. } => found.push(text),
    }
    found
}

/// The texts of the gates of a step, which are sources of expressions.
fn gates(step: &StepDefinition) -> Vec<Expression> {
    let Action::Wait(WaitAction::Gates(gates)) = &step.action else { return Vec::new() };
    let texts = |definition: &GateDefinition| -> Vec<Expression> {
        let texts: Vec<&String> = match &definition.gate {
            Gate::Command { argv, .. } => argv.iter().collect(),
            Gate::Http { url, contains, .. } => [Some(url), contains.as_ref()].into_iter().flatten().collect(),
            Gate::Tcp { address, .. } => vec![address],
            Gate::ServiceLevel { name, .. } => vec![name],
            Gate::Checks => Vec::new(),
        };
        let expression = |text: &String| Expression { text: text.clone(), span: definition.span.clone() };
        texts.into_iter().map(expression).collect()
    };
    gates.iter().flat_map(texts).collect()
}
