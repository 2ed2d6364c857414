//! Steps: what each of them may name, and what its expressions have to be.

use super::types::{Roots, Type, Want};
use super::{Checker, Seen};
use crate::expression;
use std::collections::BTreeMap;
use windlass_model::diagnostic::Span;
use windlass_model::operation::{
    Action, EachDefinition, Expression, GateDefinition, Node, OperationDefinition, OutputFormat, StepDefinition,
    WaitAction,
};
use windlass_model::rollout::Gate;

/// Where a node is.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    node: &'a Node,
    /// In the order in which they are written, from the outside in.
    order: usize,
    /// Names of the `each`es around it, from the outside in.
    eaches: Vec<&'a str>,
}

/// All nodes of an operation by name.
pub(super) fn index(operation: &OperationDefinition) -> BTreeMap<&str, Place<'_>> {
    fn add<'a>(nodes: &'a [Node], eaches: &[&'a str], out: &mut BTreeMap<&'a str, Place<'a>>) {
        for node in nodes {
            let order = out.len();
            out.insert(node.name(), Place { node, order, eaches: eaches.to_vec() });
            match node {
                Node::Step(_) => {}
                Node::Each(each) => {
                    let inner: Vec<&str> = eaches.iter().copied().chain([each.name.as_str()]).collect();
                    add(&each.nodes, &inner, out);
                }
                Node::Parallel(parallel) => add(&parallel.nodes, eaches, out),
            }
        }
    }
    let mut out = BTreeMap::new();
    add(&operation.nodes, &[], &mut out);
    out
}

/// From where steps are named.
#[derive(Debug, Clone)]
struct From<'a> {
    /// Nodes before it are there; `usize::MAX` where all are.
    order: usize,
    eaches: Vec<&'a str>,
    /// What its `each` gives it, and what is there because something failed.
    roots: Roots,
}

impl<'a> Checker<'a> {
    /// All steps, handlers and items of checklists; `roots` is what all of them may name.
    pub(super) fn steps(&mut self, roots: &Roots) {
        let operation = self.operation;
        let mut roots = roots.clone();
        roots.insert("secret", self.secrets());
        let from = From { order: 0, eaches: Vec::new(), roots };
        self.nodes(&operation.nodes, &from);
        let mut at_end = From { order: usize::MAX, ..from.clone() };
        if let Some(checklist) = &operation.checklist {
            for (items, from) in [(&checklist.before, &from), (&checklist.during, &from), (&checklist.after, &at_end)] {
                for item in items {
                    self.of_step(item.run.as_ref(), Want::Texts, from, Seen::Hidden);
                }
            }
            for text in [&checklist.announcement, &checklist.rollback] {
                self.of_step(text.as_ref(), Want::Text, &from, Seen::Shown);
            }
        }
        at_end.roots.insert("failure", failure());
        for step in operation.on_failure.iter().chain(&operation.on_cancel) {
            self.step(step, &at_end);
        }
    }

    fn nodes(&mut self, nodes: &'a [Node], around: &From<'a>) {
        let siblings: Vec<&str> = nodes.iter().map(Node::name).collect();
        for (at, node) in nodes.iter().enumerate() {
            let order = self.nodes.get(node.name()).map_or(0, |place| place.order);
            let from = From { order, ..around.clone() };
            match node {
                Node::Step(step) => {
                    for name in step.after.iter().flatten() {
                        self.after(step, name, &siblings, at);
                    }
                    self.step(step, &from);
                    if let Some(undo) = &step.undo {
                        // It may name the step that it undoes.
                        let mut from = From { order: order + 1, ..from.clone() };
                        from.roots.insert("failure", failure());
                        self.step(undo, &from);
                    }
                }
                Node::Each(each) => self.each(each, from),
                Node::Parallel(parallel) => self.nodes(&parallel.nodes, &from),
            }
        }
    }

    fn after(&mut self, step: &StepDefinition, name: &str, siblings: &[&str], at: usize) {
        if siblings[..at].contains(&name) {
            return;
        }
        let summary = format!("step \"{}\" cannot be after \"{name}\"", step.name);
        let help = if siblings.contains(&name) {
            "it names steps of its level that are written before it: change the order".to_owned()
        } else {
            match crate::suggest(name, siblings[..at].iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "it names steps of the same level that are written before it".to_owned(),
            }
        };
        self.wrong("WL122", &step.span, summary, help);
    }

    fn each(&mut self, each: &'a EachDefinition, mut from: From<'a>) {
        let of = self.of_step(Some(&each.members), Want::Members, &from, Seen::Shown);
        for gate in &each.gates {
            self.gate(gate, &from);
        }
        let fields = [
            ("key", Type::Text),
            ("value", of.and_then(|of| of.member()).unwrap_or(Type::Any)),
            ("index", Type::Number),
        ];
        from.roots.insert("each", Type::Object(fields.map(|(name, of)| (name.to_owned(), of)).into()));
        from.eaches.push(&each.name);
        self.nodes(&each.nodes, &from);
    }

    /// An expression of a step; what it is.
    fn of_step(&mut self, expression: Option<&Expression>, want: Want, from: &From<'a>, seen: Seen) -> Option<Type> {
        let expression = expression?;
        let mut roots = from.roots.clone();
        let mut steps = BTreeMap::new();
        let mut is_right = true;
        for reference in expression::references(expression).unwrap_or_default() {
            if reference.root != "step" {
                continue;
            }
            let Some(name) = reference.name else { continue };
            let uses_outputs = reference.rest.first().is_some_and(|field| field == "outputs");
            match self.outputs(&name, uses_outputs, from, &reference.span) {
                Some(outputs) => {
                    let fields = [("state".to_owned(), Type::Text), ("outputs".to_owned(), outputs)];
                    steps.insert(name, Type::Object(fields.into()));
                }
                None => is_right = false,
            }
        }
        if !is_right {
            return None;
        }
        roots.insert("step", Type::Object(steps));
        Some(self.expression(expression, want, &roots, seen))
    }

    /// Outputs of a step that is named; `None` when it cannot be named, which is told.
    fn outputs(&mut self, name: &str, uses_outputs: bool, from: &From<'a>, span: &Span) -> Option<Type> {
        let Some(place) = self.nodes.get(name).cloned() else {
            let near = crate::suggest(name, self.nodes.keys().copied());
            let help = match near {
                Some(near) => format!("did you mean `step.{near}`?"),
                None => "the steps of this operation are what can be named".to_owned(),
            };
            self.wrong("WL120", span, format!("there is no step \"{name}\""), help);
            return None;
        };
        if place.order >= from.order || from.eaches.contains(&name) {
            let help = "steps have outputs when they have ended: move this one behind it";
            self.wrong("WL122", span, format!("step \"{name}\" comes later"), help);
            return None;
        }
        if !from.eaches.starts_with(&place.eaches) {
            let each = place.eaches.last().copied().unwrap_or_default();
            let help = format!("outside of it, `step.{each}.outputs` has the outputs of all members by key");
            self.wrong("WL122", span, format!("step \"{name}\" is within each \"{each}\""), help);
            return None;
        }
        let outputs = match place.node {
            Node::Each(_) => Some(Type::Map(Box::new(Type::Any))),
            Node::Parallel(_) => None,
            Node::Step(step) => outputs(step),
        };
        if outputs.is_none() && uses_outputs {
            let help = match place.node {
                Node::Parallel(_) => "name the steps in it",
                _ => "say how its output is read: `outputs = \"json\"`, \"key_value\" or \"text\"",
            };
            self.wrong("WL122", span, format!("\"{name}\" has no outputs"), help);
            return None;
        }
        Some(outputs.unwrap_or(Type::Any))
    }

    fn step(&mut self, step: &'a StepDefinition, from: &From<'a>) {
        self.of_step(step.when.as_ref(), Want::Bool, from, Seen::Shown);
        self.of_step(step.directory.as_ref(), Want::Text, from, Seen::Shown);
        self.of_step(step.probe.as_ref(), Want::Texts, from, Seen::Hidden);
        for expression in step.env.values().chain(&step.mask) {
            self.of_step(Some(expression), Want::Text, from, Seen::Hidden);
        }
        // They are held from the beginning: nothing of the run is known then.
        let mut of_lock = from.roots.clone();
        of_lock.retain(|root, _| matches!(*root, "param" | "local" | "each"));
        for lock in &step.locks {
            self.expression(lock, Want::Text, &of_lock, Seen::Shown);
        }
        self.action(step, from);
    }

    fn action(&mut self, step: &'a StepDefinition, from: &From<'a>) {
        let hidden: Vec<(Option<&Expression>, Want)> = match &step.action {
            Action::Run { argv } => vec![(Some(argv), Want::Texts)],
            Action::Shell { line } => vec![(Some(line), Want::Text)],
            Action::Script { text, file, arguments, .. } => {
                vec![(text.as_ref(), Want::Text), (file.as_ref(), Want::Text), (arguments.as_ref(), Want::Texts)]
            }
            Action::Container { image, argv, .. } | Action::Job { image, argv, .. } => {
                vec![(Some(image), Want::Text), (argv.as_ref(), Want::Texts)]
            }
            Action::Http(http) => {
                let headers = http.headers.values().map(|header| (Some(header), Want::Text));
                let others = [
                    (Some(&http.url), Want::Text),
                    (http.body.as_ref(), Want::Any),
                    (http.contains.as_ref(), Want::Text),
                ];
                others.into_iter().chain(headers).collect()
            }
            Action::Sql(sql) => vec![
                (Some(&sql.url), Want::Text),
                (Some(&sql.statement), Want::Text),
                (sql.values.as_ref(), Want::List),
            ],
            Action::Terraform { stack, variables, .. } => {
                self.of_step(Some(stack), Want::Text, from, Seen::Shown);
                variables.values().map(|variable| (Some(variable), Want::Any)).collect()
            }
            Action::StackOutputs { stack } => {
                self.of_step(Some(stack), Want::Text, from, Seen::Shown);
                Vec::new()
            }
            Action::Approval(approvals) => {
                self.of_step(approvals.when.as_ref(), Want::Bool, from, Seen::Shown);
                Vec::new()
            }
            Action::Ask(ask) => {
                self.of_step(Some(&ask.question), Want::Text, from, Seen::Shown);
                Vec::new()
            }
            Action::Wait(WaitAction::Time { duration: at }) => {
                self.of_step(Some(at), Want::Text, from, Seen::Shown);
                let known = self.known_value(at);
                if let Some(known) = known
                    && known.as_str().and_then(windlass_model::operation::parameter::duration).is_none()
                {
                    let help = "write a number with `s`, `m`, `h` or `d` behind it, such as \"5m\"";
                    self.wrong("WL123", &at.span, format!("`{}` is no time", at.text), help);
                }
                Vec::new()
            }
            Action::Wait(WaitAction::Until { at }) => {
                self.of_step(Some(at), Want::Text, from, Seen::Shown);
                Vec::new()
            }
            Action::Wait(WaitAction::Gates(gates)) => {
                let mut from = from.clone();
                from.roots.insert("output", Type::Any);
                for gate in gates {
                    self.gate(gate, &from);
                }
                Vec::new()
            }
            Action::Operation { name, arguments } => {
                let mut roots = from.roots.clone();
                // Names of steps are looked at first: what they are is not known where they cannot be named.
                let is_right = arguments.values().all(|argument| self.steps_are_there(argument, from));
                roots.insert("step", Type::Any);
                if is_right {
                    self.call(step, name, arguments, &roots);
                }
                Vec::new()
            }
            Action::Notify { text, .. } => {
                self.of_step(Some(text), Want::Text, from, Seen::Shown);
                Vec::new()
            }
        };
        for (expression, want) in hidden {
            self.of_step(expression, want, from, Seen::Hidden);
        }
    }

    fn steps_are_there(&mut self, expression: &Expression, from: &From<'a>) -> bool {
        let named = expression::references(expression).unwrap_or_default().into_iter();
        let steps: Vec<_> = named.filter(|reference| reference.root == "step").collect();
        steps.into_iter().all(|reference| {
            let uses_outputs = reference.rest.first().is_some_and(|field| field == "outputs");
            reference.name.is_none_or(|name| self.outputs(&name, uses_outputs, from, &reference.span).is_some())
        })
    }

    fn gate(&mut self, gate: &GateDefinition, from: &From<'a>) {
        let mut texts: Vec<&str> = Vec::new();
        match &gate.gate {
            Gate::Command { argv, .. } => texts.extend(argv.iter().map(String::as_str)),
            Gate::Http { url, contains, .. } => texts.extend([url].into_iter().chain(contains).map(String::as_str)),
            Gate::Tcp { address, .. } => texts.push(address),
            Gate::ServiceLevel { name, .. } => texts.push(name),
            Gate::Checks => {}
        }
        for text in texts {
            let expression = Expression { text: text.to_owned(), span: gate.span.clone() };
            self.of_step(Some(&expression), Want::Text, from, Seen::Hidden);
        }
    }
}

/// What a step has as outputs; `None` when it has none.
fn outputs(step: &StepDefinition) -> Option<Type> {
    let known = |name: &str| Type::Object([(name.to_owned(), Type::Text)].into());
    match (&step.action, step.outputs) {
        (Action::Ask(_), _) => Some(known("answer")),
        (
            Action::Run { .. }
            | Action::Shell { .. }
            | Action::Script { .. }
            | Action::Container { .. }
            | Action::Job { .. },
            format,
        ) => match format {
            OutputFormat::None => None,
            OutputFormat::Text => Some(known("text")),
            OutputFormat::KeyValue => Some(Type::Map(Box::new(Type::Text))),
            OutputFormat::Json => Some(Type::Map(Box::new(Type::Any))),
        },
        (Action::Wait(_) | Action::Notify { .. }, _) => None,
        (
            Action::Http(_)
            | Action::Sql(_)
            | Action::Terraform { .. }
            | Action::StackOutputs { .. }
            | Action::Approval(_)
            | Action::Operation { .. },
            _,
        ) => Some(Type::Map(Box::new(Type::Any))),
    }
}

fn failure() -> Type {
    Type::Object([("step".to_owned(), Type::Text), ("reason".to_owned(), Type::Text)].into())
}
