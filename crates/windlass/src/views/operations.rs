//! Operations and their forms.

use crate::terminal::{Terminal, clean, table};
use serde_json::Value;
use windlass_app::operations::again::{Compared, Side, StepSide};
use windlass_app::operations::form::{Field, Form};
use windlass_app::requests::operations::{Listed, May, MayAnswer};
use windlass_model::operation::parameter::ParameterKind;
use windlass_model::operation::{Node, OperationDefinition};

/// How many choices are listed.
const LISTED: usize = 40;

fn may(terminal: Terminal, may: &May) -> String {
    match may.answer {
        MayAnswer::Yes => terminal.green("yes"),
        MayAnswer::No => terminal.red("no"),
        MayAnswer::Depends => terminal.yellow("depends"),
    }
}

/// The first sentence of a text, whose lines may break anywhere.
fn first_sentence(text: Option<&str>) -> String {
    let lines = text.unwrap_or_default().lines().map(str::trim).skip_while(|line| line.is_empty());
    let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    match paragraph.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => paragraph,
    }
}

pub fn list(terminal: Terminal, all: &[Listed]) -> String {
    if all.is_empty() {
        return "There are no operations. docs/operations.md says how one is written: five lines are enough.\n".into();
    }
    let plain = Terminal::plain();
    let row = |one: &Listed| {
        let parameters = one.parameters.join(" ");
        vec![one.name.clone(), may(plain, &one.may_run), parameters, first_sentence(one.description.as_deref())]
    };
    table(terminal, &["operation", "may run", "asks for", "what"], all.iter().map(row).collect())
}

/// One operation: what it asks for, who may run it, what it does.
pub fn one(terminal: Terminal, listed: &Listed, definition: &OperationDefinition, form: &Form) -> String {
    let mut out = format!("{}\n", terminal.bold(&clean(&listed.name)));
    if let Some(description) = &listed.description {
        out.push_str(&format!("{}\n", clean(description.trim())));
    }
    let owner = listed.owner.as_ref().map(|owner| format!(", of team {}", clean(owner))).unwrap_or_default();
    out.push_str(&terminal.dim(&format!("{}{owner}", definition.span)));
    out.push_str(&format!("\n\nMay you run it: {}\n", may(terminal, &listed.may_run)));
    listed.may_run.because.iter().for_each(|sentence| out.push_str(&format!("  {}\n", clean(sentence))));
    if !form.fields.is_empty() {
        out.push('\n');
        let rows = form.fields.iter().map(|field| vec![field.name.clone(), kind(field), wanted(field)]).collect();
        out.push_str(&table(terminal, &["parameter", "kind", "what"], rows));
    }
    out.push_str(&format!("\n{}\n", terminal.bold("Steps")));
    steps(&definition.nodes, 1, &mut out);
    out.push_str(&format!("\nNext: windlass run {}{}\n", clean(&listed.name), example(form)));
    out
}

fn kind(field: &Field) -> String {
    field.kind.as_str().replace('_', " ")
}

fn wanted(field: &Field) -> String {
    let mut parts = Vec::new();
    parts.extend(field.description.as_deref().map(|text| first_sentence(Some(text))));
    match (&field.choices, &field.why_no_choices) {
        (Some(choices), _) => {
            let names: Vec<&str> = choices.iter().take(8).map(|choice| choice.value.as_str()).collect();
            let more = if choices.len() > names.len() { ", …" } else { "" };
            parts.push(format!("one of {}{more}", names.join(", ")));
        }
        (None, Some(why)) => parts.push(why.clone()),
        (None, None) => {}
    }
    parts.extend(field.pattern.as_ref().map(|pattern| format!("matches {pattern}")));
    match &field.default {
        Some(default) => parts.push(format!("default {}", text(default))),
        None if field.required => parts.push("required".to_owned()),
        None => {}
    }
    parts.join("; ")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        value => value.to_string(),
    }
}

fn steps(nodes: &[Node], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for node in nodes {
        let (what, below): (String, &[Node]) = match node {
            Node::Step(step) => (step.description.clone().unwrap_or_default(), &[]),
            Node::Each(each) => (format!("each of {}", each.members.text), &each.nodes),
            Node::Parallel(parallel) => ("all at the same time".to_owned(), &parallel.nodes),
        };
        let what = first_sentence(Some(&what));
        let line = format!("{indent}{}  {}", clean(node.name()), clean(&what));
        out.push_str(&format!("{}\n", line.trim_end()));
        steps(below, depth + 1, out);
    }
}

fn example(form: &Form) -> String {
    let required = form.fields.iter().filter(|field| field.required);
    let value = |field: &Field| if field.kind == ParameterKind::Secret { "@FILE" } else { "…" };
    required.map(|field| format!(" {}={}", clean(&field.name), value(field))).collect()
}

/// The question for one field, with its choices.
pub fn question(terminal: Terminal, field: &Field) -> String {
    let mut out = String::new();
    let choices = field.choices.as_deref().unwrap_or_default();
    for (number, choice) in choices.iter().take(LISTED).enumerate() {
        out.push_str(&format!("  {:>3}  {}\n", number + 1, clean(&choice.label)));
    }
    if choices.len() > LISTED {
        out.push_str(&format!("       and {} more\n", choices.len() - LISTED));
    }
    let hint = match field.kind {
        ParameterKind::MultiChoice | ParameterKind::HostSet => " (several with commas)",
        ParameterKind::Bool => " (yes or no)",
        ParameterKind::File => " (path of a file)",
        ParameterKind::Secret => " (is not shown)",
        _ => "",
    };
    let about = first_sentence(field.description.as_deref());
    let about = if about.is_empty() { String::new() } else { format!("  {}", terminal.dim(&clean(&about))) };
    out.push_str(&format!("{}{hint}{about}: ", terminal.bold(&clean(&field.name))));
    out
}

/// What is about to be run, before somebody says yes.
pub fn summary(terminal: Terminal, form: &Form) -> String {
    let mut out = format!("{}\n", terminal.bold(&clean(&form.operation)));
    for field in &form.fields {
        let value = match (&field.value, field.kind) {
            (_, ParameterKind::Secret) if field.given => "(a secret)".to_owned(),
            (_, ParameterKind::File) if field.given => "(a file)".to_owned(),
            (Some(Value::Null) | None, _) => continue,
            (Some(value), _) => text(value),
        };
        out.push_str(&format!("  {} = {}\n", clean(&field.name), clean(&value)));
    }
    out
}

/// What is different between two runs.
pub fn compared(terminal: Terminal, compared: &Compared) -> String {
    let took = |micros: Option<i64>| micros.map_or_else(|| "-".to_owned(), super::duration);
    let side = |side: &Side| {
        let commit = side.commit.get(..12).unwrap_or(&side.commit).to_owned();
        vec![
            side.run.to_string(),
            side.operation.clone(),
            side.state.clone(),
            took(side.took),
            side.actor.clone(),
            commit,
        ]
    };
    let rows = vec![side(&compared.before), side(&compared.after)];
    let mut out = table(terminal, &["run", "operation", "state", "took", "by", "commit"], rows);
    out.push_str(if compared.same_definition {
        "\nThe definition is the same.\n"
    } else {
        "\nThe definition is another one.\n"
    });
    if !compared.parameters.is_empty() {
        let value = |value: &Option<Value>| value.as_ref().map(text).unwrap_or_default();
        let row = |one: &windlass_app::operations::again::Difference| {
            vec![one.name.clone(), value(&one.before), value(&one.after)]
        };
        out.push_str("\nOther values:\n");
        out.push_str(&table(
            terminal,
            &["parameter", "before", "after"],
            compared.parameters.iter().map(row).collect(),
        ));
    }
    let cell = |side: &Option<StepSide>| {
        side.as_ref().map_or_else(|| "-".to_owned(), |side| format!("{} {}", side.state, took(side.took)))
    };
    let rows = compared.steps.iter().map(|pair| vec![pair.step.to_string(), cell(&pair.before), cell(&pair.after)]);
    out.push('\n');
    out.push_str(&table(terminal, &["step", "before", "after"], rows.collect()));
    out
}
