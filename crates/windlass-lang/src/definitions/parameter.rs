//! `param` and `secret` blocks of operations.

use super::operation::one_of;
use super::operation_schema::{ChoicesFromValues, ParamValues, SecretValues};
use super::{Block, Loader};
use windlass_model::Micros;
use windlass_model::operation::parameter::{ChoiceSource, Choices, Parameter, ParameterKind};
use windlass_model::operation::{SecretFrom, SecretSource};

/// How long choices are good for where nothing is said, microseconds.
const CHOICES_CACHED: Micros = 60_000_000;

impl Loader<'_> {
    pub(super) fn parameter(&mut self, file: usize, block: &Block, within: &str) -> Option<Parameter> {
        let (name, span) = self.name(file, block, within)?;
        let inner: Vec<(usize, &Block)> = block.body.blocks.iter().map(|inner| (file, inner)).collect();
        let from = self.single(&inner, "choices_from");
        let from_block = from.and_then(|(file, inner)| self.choices_from(file, inner));
        let (values, mut reader) = self.read::<ParamValues>(file, block);
        if !is_name(&name) {
            let help = "use letters, digits and `_`, as in `param.cluster` and `windlass run backup cluster=a`";
            reader.mistake("", "WL106", &format!("param \"{name}\" is no name"), help);
        }
        let known = ParameterKind::ALL.map(|kind| (kind.as_str(), kind));
        let has_choices = values.choices.is_some() || from.is_some();
        let default = if has_choices { ParameterKind::Choice } else { ParameterKind::String };
        let kind = match values.kind.as_deref() {
            None => default,
            text => one_of(&mut reader, "type", text, &known)?,
        };
        let is_choice = matches!(kind, ParameterKind::Choice | ParameterKind::MultiChoice);
        if is_choice && !has_choices {
            let help = "add `choices = [ … ]`, or a `choices_from` block";
            reader.mistake("", "WL109", &format!("param \"{name}\" needs choices"), help);
        }
        if has_choices && !is_choice {
            let help = "write `type = choice` or `type = multi_choice`";
            reader.mistake("choices", "WL107", &format!("a {} has no choices", kind.as_str()), help);
        }
        if values.choices.is_some() && from.is_some() {
            let what = "`choices` and `choices_from` exclude each other";
            reader.mistake("choices", "WL107", what, "keep one of them");
        }
        if let Some(pattern) = &values.pattern {
            if !matches!(kind, ParameterKind::String | ParameterKind::Secret | ParameterKind::File) {
                let help = "a pattern is for texts: remove it";
                reader.mistake("pattern", "WL107", &format!("a {} has no pattern", kind.as_str()), help);
            } else if let Err(error) = regex::Regex::new(pattern) {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let help = "it is written as for the crate `regex`, without look-around";
                reader.mistake("pattern", "WL124", &format!("`{pattern}` is no regular expression: {why}"), help);
            }
        }
        let is_time = kind == ParameterKind::Duration;
        for (attribute, bound) in [("min", values.min), ("max", values.max)] {
            let Some((_, time)) = bound else { continue };
            if matches!(
                kind,
                ParameterKind::Bool
                    | ParameterKind::Choice
                    | ParameterKind::DateTime
                    | ParameterKind::Stack
                    | ParameterKind::Service
            ) {
                let what = format!("a {} has no `{attribute}`", kind.as_str());
                reader.mistake(attribute, "WL107", &what, "remove it");
            } else if time != is_time {
                let what = format!("`{attribute}` of a {} has the wrong type", kind.as_str());
                let help = if is_time { "write a time such as \"5m\"" } else { "write a number" };
                reader.mistake(attribute, "WL110", &what, help);
            }
        }
        let (min, max) = (values.min.map(|(bound, _)| bound), values.max.map(|(bound, _)| bound));
        if let (Some(least), Some(most)) = (min, max)
            && least > most
        {
            reader.mistake("min", "WL124", "`min` is more than `max`", "no value fits: change one of them");
        }
        if kind == ParameterKind::Secret && values.default.is_some() {
            let help = "remove it; a value that is always the same is a `secret` block of the operation";
            reader.mistake("default", "WL124", "a secret has no default", help);
        }
        let list = values.choices.map(|list| Choices { from: ChoiceSource::List(list), cache: CHOICES_CACHED });
        Some(Parameter {
            name,
            kind,
            description: values.description,
            default: values.default,
            required: values.required.unwrap_or(true),
            pattern: values.pattern,
            min,
            max,
            choices: list.or(from_block),
            span,
        })
    }

    fn choices_from(&mut self, file: usize, block: &Block) -> Option<Choices> {
        let (values, mut reader) = self.read::<ChoicesFromValues>(file, block);
        let cache = values.cache.unwrap_or(CHOICES_CACHED);
        if values.pointer.is_some() && values.http.is_none() {
            reader.mistake("pointer", "WL107", "`pointer` belongs to `http`", "remove it");
        }
        if values.pointer.as_ref().is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            reader.mistake("pointer", "WL106", "`pointer` is no JSON pointer", "write it as \"/items\"");
        }
        if values.stack.is_some() != values.output.is_some() {
            reader.mistake("output", "WL107", "`stack` and `output` belong together", "add the other");
            return None;
        }
        let mut found: Vec<ChoiceSource> = Vec::new();
        found.extend(values.command.map(ChoiceSource::Command));
        found.extend(values.file.map(ChoiceSource::File));
        found.extend(values.http.map(|url| ChoiceSource::Http { url, pointer: values.pointer }));
        found
            .extend(values.stack.zip(values.output).map(|(stack, output)| ChoiceSource::StackOutput { stack, output }));
        if found.len() != 1 {
            let what = format!("choices come from one thing, these from {}", found.len());
            reader.mistake("", "WL107", &what, "give one of command, file, http or stack");
            return None;
        }
        Some(Choices { from: found.pop()?, cache })
    }

    pub(super) fn secret(&mut self, file: usize, block: &Block, within: &str) -> Option<SecretSource> {
        let (name, span) = self.name(file, block, within)?;
        let (values, mut reader) = self.read::<SecretValues>(file, block);
        if !is_name(&name) {
            let help = "use letters, digits and `_`, as in `secret.password`";
            reader.mistake("", "WL106", &format!("secret \"{name}\" is no name"), help);
        }
        if values.file.as_ref().is_some_and(|path| !path.starts_with('/')) {
            let help = "secrets are not in the repository: name a file of the worker, from the root";
            reader.mistake("file", "WL106", "`file` is no whole path", help);
        }
        let mut found: Vec<SecretFrom> = Vec::new();
        found.extend(values.env.map(SecretFrom::Env));
        found.extend(values.file.map(SecretFrom::File));
        found.extend((!values.command.is_empty()).then_some(SecretFrom::Command(values.command)));
        if found.len() != 1 {
            let what = format!("a secret comes from one thing, this one from {}", found.len());
            reader.mistake("", "WL107", &what, "give one of env, file or command");
            return None;
        }
        Some(SecretSource { name, from: found.pop()?, span })
    }
}

/// It can stand behind `param.`.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}
