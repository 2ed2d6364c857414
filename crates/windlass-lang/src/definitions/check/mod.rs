//! What operations say about each other and about themselves: names, types, order, and what may be seen.

mod arguments;
mod nodes;
mod types;

use super::{LoadedFile, Named};
use crate::expression::{self, Parsed};
use std::collections::{BTreeMap, BTreeSet};
use types::{Roots, Type, Want, Wrong};
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::operation::parameter::{ChoiceSource, Parameter, ParameterKind};
use windlass_model::operation::trigger::{TriggerDefinition, TriggerSource};
use windlass_model::operation::{Expression, Notifier, NotifyChannel, OperationApprovals, OperationDefinition};

/// Everything that is wrong with the operations and notifiers, by the place in `definitions.operations` of the operation it is in.
/// `known` are the names of all operations, also of those that could not be read.
pub(super) fn check(
    files: &[LoadedFile],
    definitions: &Definitions,
    known: &BTreeSet<String>,
) -> Vec<(Option<usize>, Diagnostic)> {
    let mut out = Vec::new();
    let diagnostic = |wrong: Wrong| {
        let text = files.iter().find(|(path, _)| *path == wrong.span.file).map_or("", |(_, text)| text);
        Diagnostic::error(wrong.code, wrong.summary).at_source(wrong.span, text, "here").help(wrong.help)
    };
    for (at, operation) in definitions.operations.iter().enumerate() {
        let mut checker = Checker { operation, definitions, known, nodes: nodes::index(operation), wrong: Vec::new() };
        checker.whole();
        out.extend(checker.wrong.into_iter().map(|wrong| (Some(at), diagnostic(wrong))));
    }
    out.extend(started_by_each_other(definitions).into_iter().map(|(span, summary)| {
        let text = files.iter().find(|(path, _)| *path == span.file).map_or("", |(_, text)| text);
        let help = "say with `when` which runs are meant, such as `trigger.event.subject == \"backup-ledger\"`";
        (None, Diagnostic::warning("WL773", summary).at_source(span, text, "here").help(help))
    }));
    for notifier in &definitions.notifiers {
        out.extend(self::notifier(notifier).into_iter().map(|wrong| (None, diagnostic(wrong))));
    }
    out
}

/// Operations that start each other for as long as there is no end to it: both are started by something that every run tells.
fn started_by_each_other(definitions: &Definitions) -> Vec<(Span, String)> {
    const ALWAYS: [&str; 3] = ["run.created", "run.running", "run.succeeded"];
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    let mut out = Vec::new();
    for operation in &definitions.operations {
        let all = operation.triggers.iter().filter(|trigger| trigger.when.is_none());
        for trigger in all {
            let TriggerSource::Event { kinds } = &trigger.source else { continue };
            for kind in kinds.iter().filter(|kind| ALWAYS.contains(&kind.as_str())) {
                let first = *found.entry(kind).or_insert(&operation.name);
                if first != operation.name {
                    let summary = format!("operations `{first}` and `{}` start each other", operation.name);
                    out.push((trigger.span.clone(), summary));
                }
            }
        }
    }
    out
}

/// Who sees the value of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It is shown, kept or compared: no secret may be a part of it.
    Shown,
    /// It is handed to what a step does.
    Hidden,
}

struct Checker<'a> {
    operation: &'a OperationDefinition,
    definitions: &'a Definitions,
    known: &'a BTreeSet<String>,
    nodes: BTreeMap<&'a str, nodes::Place<'a>>,
    wrong: Vec<Wrong>,
}

impl<'a> Checker<'a> {
    fn wrong(&mut self, code: &'static str, span: &Span, summary: impl Into<String>, help: impl Into<String>) {
        self.wrong.push(Wrong { code, span: span.clone(), summary: summary.into(), help: help.into() });
    }

    /// Reads an expression and checks it; what it is, where that can be said.
    fn expression(&mut self, expression: &Expression, want: Want, roots: &Roots, seen: Seen) -> Type {
        let parsed = match expression::parse(expression) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.wrong("WL101", &expression.span, error.to_string(), "correct the expression");
                return Type::Any;
            }
        };
        if seen == Seen::Shown
            && let Some(secret) = self.secret_in(&parsed)
        {
            let help =
                "what is written here is shown and kept: use secrets in what a step does, its `env` or its `mask`";
            self.wrong("WL130", &expression.span, format!("`{secret}` would be seen"), help);
            return Type::Any;
        }
        types::check(&parsed, roots, want, &mut self.wrong)
    }

    fn optional(&mut self, expression: Option<&Expression>, want: Want, roots: &Roots, seen: Seen) {
        if let Some(expression) = expression {
            self.expression(expression, want, roots, seen);
        }
    }

    /// A secret, or a parameter that is one, that an expression names.
    fn secret_in(&self, parsed: &Parsed) -> Option<String> {
        parsed.references().into_iter().find_map(|reference| {
            let name = reference.name?;
            let is_secret = match reference.root.as_str() {
                "secret" => true,
                "param" => self.parameter(&name).is_some_and(|parameter| parameter.kind == ParameterKind::Secret),
                _ => false,
            };
            is_secret.then(|| format!("{}.{name}", reference.root))
        })
    }

    fn parameter(&self, name: &str) -> Option<&'a Parameter> {
        self.operation.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// What is known of every expression of the operation: parameters and locals.
    fn base(&self) -> Roots {
        let mut roots = locals(&self.operation.locals);
        let parameters = self.operation.parameters.iter().map(|p| (p.name.clone(), of_parameter(p.kind)));
        roots.insert("param", Type::Object(parameters.collect()));
        roots
    }

    fn whole(&mut self) {
        let operation = self.operation;
        let base = self.base();
        self.parameters(&operation.parameters);
        self.optional(operation.environment.as_ref(), Want::Text, &base, Seen::Shown);
        self.environment();
        self.optional(operation.confirm.as_ref(), Want::Text, &base, Seen::Shown);
        for grant in &operation.grants {
            self.optional(grant.when.as_ref(), Want::Bool, &base, Seen::Shown);
        }
        if let Some(approvals) = &operation.approvals {
            self.approvals(approvals, &base);
        }
        let key = operation.concurrency.as_ref().and_then(|concurrency| concurrency.key.as_ref());
        self.optional(key, Want::Text, &base, Seen::Shown);
        for lock in &operation.locks {
            self.expression(lock, Want::Text, &base, Seen::Shown);
        }
        for schedule in &operation.schedules {
            let mut roots = locals(&operation.locals);
            roots.insert("run", run());
            let what = format!("schedule \"{}\"", schedule.name);
            self.arguments(&what, operation, &schedule.arguments, &schedule.span, &roots, Seen::Shown);
        }
        if operation.dead_man.is_some() && operation.schedules.is_empty() {
            let help = "add a `schedule`, or remove it";
            self.wrong(
                "WL107",
                &operation.span,
                "`alert_after` counts the intervals of schedules, and there are none",
                help,
            );
        }
        operation.triggers.iter().for_each(|trigger| self.trigger(trigger));
        let mut of_run = base;
        of_run.insert("run", run());
        self.steps(&of_run);
        self.calls_in_circle();
    }

    /// The environment, where it is always the same.
    fn environment(&mut self) {
        let Some(expression) = &self.operation.environment else { return };
        let Some(serde_json::Value::String(name)) = self.known_value(expression) else { return };
        let names: Vec<&str> = self.definitions.environments.iter().map(|e| e.name.as_str()).collect();
        if !names.contains(&name.as_str()) {
            let help = match crate::suggest(&name, names.into_iter()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("define it in `project`: environment \"{name}\" {{ match = [ … ] }}"),
            };
            self.wrong(
                Named::Environment.code(),
                &expression.span,
                format!("there is no environment \"{name}\""),
                help,
            );
        }
    }

    fn approvals(&mut self, approvals: &OperationApprovals, roots: &Roots) {
        self.optional(approvals.when.as_ref(), Want::Bool, roots, Seen::Shown);
    }

    fn parameters(&mut self, parameters: &'a [Parameter]) {
        for (at, parameter) in parameters.iter().enumerate() {
            let mut roots = locals(&self.operation.locals);
            let before = parameters[..at].iter().map(|p| (p.name.clone(), of_parameter(p.kind)));
            roots.insert("param", Type::Object(before.collect()));
            let mut all: Vec<(&Expression, Want)> = Vec::new();
            if let Some(choices) = &parameter.choices {
                match &choices.from {
                    ChoiceSource::List(list) => all.push((list, Want::Choices)),
                    ChoiceSource::Command(argv) => all.push((argv, Want::Texts)),
                    ChoiceSource::File(path) => all.push((path, Want::Text)),
                    ChoiceSource::Http { url, .. } => all.push((url, Want::Text)),
                    ChoiceSource::StackOutput { stack, .. } => all.push((stack, Want::Text)),
                }
            }
            all.extend(parameter.default.as_ref().map(|default| (default, arguments::wanted(parameter.kind))));
            for (expression, want) in all {
                if !self.is_after(parameters, at, expression) {
                    self.expression(expression, want, &roots, Seen::Shown);
                }
            }
            if let Some(default) = &parameter.default {
                let what = format!("the default of param \"{}\"", parameter.name);
                self.constant("WL124", &what, parameter, default);
            }
        }
    }

    /// A parameter that needs one which is asked for later, or itself, is told.
    fn is_after(&mut self, parameters: &[Parameter], at: usize, expression: &Expression) -> bool {
        let named = expression::references(expression).unwrap_or_default();
        let later = named.into_iter().find(|reference| {
            let is_later = |p: &Parameter| Some(p.name.as_str()) == reference.name.as_deref();
            reference.root == "param" && parameters[at..].iter().any(is_later)
        });
        if let Some(reference) = &later {
            let name = reference.name.clone().unwrap_or_default();
            let what = match name == parameters[at].name {
                true => format!("param \"{name}\" depends on itself"),
                false => {
                    format!("param \"{}\" depends on `param.{name}`, which is asked for later", parameters[at].name)
                }
            };
            self.wrong("WL124", &reference.span, what, "put what others depend on before them");
        }
        later.is_some()
    }

    fn trigger(&mut self, trigger: &TriggerDefinition) {
        let secrets = secret_names(self.operation.secrets.iter().map(|secret| secret.name.as_str()));
        let mut of_key = locals(&self.operation.locals);
        of_key.insert("secret", secrets);
        if let TriggerSource::Webhook { key } | TriggerSource::Alertmanager { key, .. } = &trigger.source {
            self.expression(key, Want::Text, &of_key, Seen::Hidden);
            no_plain_key(key, &mut self.wrong);
        }
        let mut roots = locals(&self.operation.locals);
        let fields = [("payload", Type::Any), ("event", Type::Any)].map(|(name, of)| (name.to_owned(), of));
        roots.insert("trigger", Type::Object(fields.into()));
        self.optional(trigger.when.as_ref(), Want::Bool, &roots, Seen::Shown);
        self.optional(trigger.deduplicate.as_ref(), Want::Text, &roots, Seen::Shown);
        let what = format!("trigger \"{}\"", trigger.name);
        self.arguments(&what, self.operation, &trigger.arguments, &trigger.span, &roots, Seen::Shown);
    }

    fn secrets(&self) -> Type {
        secret_names(self.operation.secrets.iter().map(|secret| secret.name.as_str()))
    }
}

fn secret_names<'n>(names: impl Iterator<Item = &'n str>) -> Type {
    Type::Object(names.map(|name| (name.to_owned(), Type::Text)).collect())
}

/// A key that stands in the repository is none.
fn no_plain_key(key: &Expression, wrong: &mut Vec<Wrong>) {
    let named = expression::references(key).unwrap_or_default();
    if !named.iter().any(|reference| reference.root == "secret") {
        wrong.push(Wrong {
            code: "WL130",
            span: key.span.clone(),
            summary: "a key that is written here is no secret".to_owned(),
            help: "add `secret \"key\" { env = \"…\" }`, and write `secret.key`".to_owned(),
        });
    }
}

fn notifier(notifier: &Notifier) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut roots = Roots::new();
    roots.insert("secret", secret_names(notifier.secrets.iter().map(|secret| secret.name.as_str())));
    let (all, key) = match &notifier.channel {
        NotifyChannel::Webhook { url } => (vec![url], None),
        NotifyChannel::Bot { token, .. } => (vec![token], Some(token)),
        NotifyChannel::Email { smtp, .. } => (vec![smtp], None),
        NotifyChannel::Signed { url, key } => (vec![url, key], Some(key)),
    };
    for expression in all {
        match expression::parse(expression) {
            // Values of locals are not kept for notifiers.
            Ok(parsed) => drop(types::check(&parsed, &roots, Want::Text, &mut wrong)),
            Err(error) => wrong.push(Wrong {
                code: "WL101",
                span: expression.span.clone(),
                summary: error.to_string(),
                help: "correct the expression".to_owned(),
            }),
        }
    }
    if let Some(key) = key {
        no_plain_key(key, &mut wrong);
    }
    wrong
}

fn locals(values: &BTreeMap<String, serde_json::Value>) -> Roots {
    let object = values.iter().map(|(name, value)| (name.clone(), Type::of(value))).collect();
    Roots::from([("local", Type::Object(object))])
}

fn run() -> Type {
    let fields = [
        ("id", Type::Text),
        ("actor", Type::Text),
        ("reason", Type::Text),
        ("url", Type::Text),
        ("attempt", Type::Number),
        ("due", Type::Text),
    ];
    Type::Object(fields.map(|(name, of)| (name.to_owned(), of)).into())
}

fn of_parameter(kind: ParameterKind) -> Type {
    match kind {
        ParameterKind::Number => Type::Number,
        ParameterKind::Bool => Type::Bool,
        ParameterKind::MultiChoice | ParameterKind::HostSet => Type::list(Type::Text),
        ParameterKind::String
        | ParameterKind::Choice
        | ParameterKind::Duration
        | ParameterKind::DateTime
        | ParameterKind::Secret
        | ParameterKind::File
        | ParameterKind::Stack
        | ParameterKind::Service => Type::Text,
    }
}
