//! Arguments against the parameters that they are for.

use super::types::{Roots, Want};
use super::{Checker, Seen};
use crate::expression;
use serde_json::Value;
use std::collections::BTreeMap;
use windlass_model::diagnostic::Span;
use windlass_model::operation::parameter::{Choice, ChoiceSource, Context, Parameter, ParameterKind, validate};
use windlass_model::operation::{Action, Expression, OperationDefinition, StepDefinition};

/// Why what is on record takes no secret.
const KEPT: &str = "what starts by itself keeps its arguments: use a `secret` block of the operation instead";

/// What a value of the kind may be written as.
pub(super) fn wanted(kind: ParameterKind) -> Want {
    match kind {
        // A list, or a text with commas.
        ParameterKind::MultiChoice | ParameterKind::HostSet => Want::Any,
        _ => Want::Text,
    }
}

impl<'a> Checker<'a> {
    /// Arguments of a run of `called`; what it is that gives them is named in messages. Secrets may be given to secrets, where they
    /// are not kept.
    pub(super) fn arguments(
        &mut self,
        what: &str,
        called: &OperationDefinition,
        given: &BTreeMap<String, Expression>,
        span: &Span,
        roots: &Roots,
        seen: Seen,
    ) {
        for (name, value) in given {
            let Some(parameter) = called.parameters.iter().find(|parameter| parameter.name == *name) else {
                let names = called.parameters.iter().map(|parameter| parameter.name.as_str());
                let help = match crate::suggest(name, names.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if called.parameters.is_empty() => format!("\"{}\" has no parameters", called.name),
                    None => format!("\"{}\" has {}", called.name, names.collect::<Vec<_>>().join(", ")),
                };
                let summary = format!("{what} gives `{name}`, which is no parameter of \"{}\"", called.name);
                self.wrong("WL127", &value.span, summary, help);
                continue;
            };
            let is_secret = parameter.kind == ParameterKind::Secret;
            if is_secret && seen == Seen::Shown {
                self.wrong("WL127", &value.span, format!("{what} cannot give the secret `{name}`"), KEPT);
                continue;
            }
            let seen = if is_secret { Seen::Hidden } else { Seen::Shown };
            self.expression(value, wanted(parameter.kind), roots, seen);
            self.constant("WL127", &format!("`{name}` of {what}"), parameter, value);
        }
        for parameter in &called.parameters {
            if parameter.required && parameter.default.is_none() && !given.contains_key(&parameter.name) {
                let summary = format!("{what} does not give `{}`, which \"{}\" needs", parameter.name, called.name);
                let help = if parameter.kind == ParameterKind::Secret && seen == Seen::Shown {
                    KEPT.to_owned()
                } else {
                    format!("add `arguments = {{ {} = … }}`, or give the parameter a default", parameter.name)
                };
                self.wrong("WL127", span, summary, help);
            }
        }
    }

    /// A value that is always the same has to be one of the parameter.
    pub(super) fn constant(&mut self, code: &'static str, what: &str, parameter: &Parameter, value: &Expression) {
        // Which stacks and services there are is known when a project is discovered.
        if matches!(parameter.kind, ParameterKind::Stack | ParameterKind::Service | ParameterKind::Secret) {
            return;
        }
        let Some(found) = self.known_value(value) else { return };
        let choices = match parameter.choices.as_ref().map(|choices| &choices.from) {
            None => None,
            Some(ChoiceSource::List(list)) => match self.known_value(list) {
                Some(Value::Array(items)) => Some(items.iter().filter_map(Value::as_str).map(Choice::plain).collect()),
                Some(Value::Object(items)) => {
                    let choice =
                        |(label, value): (String, Value)| Some(Choice { value: value.as_str()?.to_owned(), label });
                    Some(items.into_iter().filter_map(choice).collect::<Vec<_>>())
                }
                _ => return,
            },
            // They are known when somebody asks.
            Some(_) => return,
        };
        let context = Context { choices: choices.as_deref(), host_sets: &self.definitions.host_sets };
        if let Err(mistakes) = validate(parameter, &found, context) {
            let why: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            let help = format!("it is a {}", parameter.kind.as_str());
            self.wrong(code, &value.span, format!("{what} is wrong: {}", why.join("; ")), help);
        }
    }

    /// The value of an expression that names nothing but locals.
    pub(super) fn known_value(&self, expression: &Expression) -> Option<Value> {
        expression::constant(expression, &self.operation.locals)
    }

    /// A step that runs another operation.
    pub(super) fn call(
        &mut self,
        step: &StepDefinition,
        name: &str,
        arguments: &BTreeMap<String, Expression>,
        roots: &Roots,
    ) {
        let definitions = self.definitions;
        if let Some(called) = definitions.operation(name) {
            let what = format!("step \"{}\"", step.name);
            self.arguments(&what, called, arguments, &step.span, roots, Seen::Hidden);
        } else if !self.known.contains(name) {
            let help = match crate::suggest(name, self.known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("define it: operation \"{name}\" {{ … }}"),
            };
            self.wrong("WL121", &step.span, format!("there is no operation \"{name}\""), help);
        }
    }

    /// A step of it that in the end runs it again.
    pub(super) fn calls_in_circle(&mut self) {
        let operation = self.operation;
        for (step, called) in calls(operation) {
            let mut seen = vec![operation.name.as_str()];
            let mut open = vec![called];
            while let Some(name) = open.pop() {
                if name == operation.name {
                    let summary = format!("step \"{}\" runs \"{called}\", which runs \"{name}\" again", step.name);
                    let help = "it would never end: make an operation of what both need";
                    self.wrong("WL128", &step.span, summary, help);
                    break;
                }
                if !seen.contains(&name) {
                    seen.push(name);
                    let next = self.definitions.operation(name);
                    open.extend(next.into_iter().flat_map(calls).map(|(_, called)| called));
                }
            }
        }
    }
}

/// All operations that one runs, with the steps that run them.
fn calls(operation: &OperationDefinition) -> Vec<(&StepDefinition, &str)> {
    let steps = operation.steps().into_iter();
    steps
        .filter_map(
            |step| if let Action::Operation { name, .. } = &step.action { Some((step, name.as_str())) } else { None },
        )
        .collect()
}
