//! Attributes of one block against its schema: every mistake is reported in the same words, with what was expected.

use super::Names;
use super::schema::{Attribute, Attributes, Schema};
use crate::eval::{Value, evaluate};
use crate::terraform::syntax::{Block, Body, Expr, Range};
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::operation::Expression;

/// A type of attribute: what is written, and what is read.
pub trait Kind {
    /// What an attribute gives; its default when it is not there or wrong.
    type Output: Default;
    /// What a value looks like.
    const EXPECTED: &'static str;
    /// `None` when the value is of another type.
    fn convert(value: &Value) -> Option<Self::Output>;
    /// Mistakes in values of the right type: summary and help.
    fn mistakes(_output: &Self::Output) -> Vec<(String, &'static str)> {
        Vec::new()
    }
    /// What is read of the attribute `name`. Kinds that are not evaluated here read it as it is written.
    fn read(reader: &mut Reader<'_>, name: &str, expr: &Expr) -> Self::Output
    where
        Self: Sized,
    {
        reader.evaluated::<Self>(name, expr)
    }
}

pub struct Text;
pub struct Texts;
/// Patterns over paths.
pub struct Globs;
pub struct Flag;
/// A whole number from 1.
pub struct Count;
pub struct Map;
/// A time such as `90s`, `5m`, `2h`, `7d`; microseconds.
pub struct Duration;
/// A text that may hold outputs of the stack, `${output.NAME}`.
pub struct Template;
pub struct Templates;
/// A size such as `512MiB` or `2GiB`; MiB.
pub struct Memory;
/// Processors, such as `"1.5"` or `2`; thousandths of one.
pub struct Cpu;

impl Kind for Memory {
    type Output = Option<u32>;
    const EXPECTED: &'static str = "a size, e.g. \"512MiB\" or \"2GiB\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        let Value::String(text) = value else { return None };
        let sizes = [("MiB", 1), ("GiB", 1024), ("TiB", 1 << 20)];
        let parsed = sizes.iter().find_map(|(unit, mib)| {
            let number: u32 = text.strip_suffix(unit)?.trim().parse().ok()?;
            number.checked_mul(*mib).filter(|mib| *mib > 0)
        });
        parsed.map(Some)
    }
}

impl Kind for Cpu {
    type Output = Option<u32>;
    const EXPECTED: &'static str = "a number of processors, e.g. \"1.5\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        let number: f64 = match value {
            Value::Number(number) => *number,
            Value::String(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        let milli = (number * 1000.0).round();
        (1.0..=1_000_000.0).contains(&milli).then_some(Some(milli as u32))
    }
}

impl Kind for Template {
    type Output = Option<String>;
    const EXPECTED: &'static str = "a string, which may hold outputs of the stack, e.g. \"${output.host}:9042\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        if let Value::String(text) = value { Some(Some(text.to_string())) } else { None }
    }
}

impl Kind for Templates {
    type Output = Vec<String>;
    const EXPECTED: &'static str = "a list of strings, which may hold outputs of the stack";
    fn convert(value: &Value) -> Option<Self::Output> {
        let Value::List(items) = value else { return None };
        items.iter().map(|item| Template::convert(item).flatten()).collect()
    }
}

impl Kind for Duration {
    type Output = Option<windlass_model::Micros>;
    const EXPECTED: &'static str = "a time, e.g. \"90s\", \"5m\", \"2h\" or \"7d\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        let Value::String(text) = value else { return None };
        windlass_model::operation::parameter::duration(text).map(Some)
    }
}

impl Kind for Text {
    type Output = Option<String>;
    const EXPECTED: &'static str = "a string, e.g. \"x\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        Template::convert(value).filter(|text| text.as_ref().is_none_or(|text| !text.contains(super::OUTPUT)))
    }
}

impl Kind for Texts {
    type Output = Vec<String>;
    const EXPECTED: &'static str = "a list of strings, e.g. [\"x\"]";
    fn convert(value: &Value) -> Option<Self::Output> {
        let Value::List(items) = value else { return None };
        items.iter().map(|item| Text::convert(item).flatten()).collect()
    }
}

impl Kind for Globs {
    type Output = Vec<String>;
    const EXPECTED: &'static str = Texts::EXPECTED;
    fn convert(value: &Value) -> Option<Self::Output> {
        Texts::convert(value)
    }
    fn mistakes(globs: &Self::Output) -> Vec<(String, &'static str)> {
        let wrong = |glob: &String| {
            let error = crate::glob(&glob.replace('[', "[[]")).err()?;
            let help = "`*` stands for anything within a segment, `**` for any number of segments";
            Some((format!("pattern `{glob}` is not valid: {error}"), help))
        };
        globs.iter().filter_map(wrong).collect()
    }
}

impl Kind for Flag {
    type Output = Option<bool>;
    const EXPECTED: &'static str = "true or false";
    fn convert(value: &Value) -> Option<Self::Output> {
        if let Value::Bool(value) = value { Some(Some(*value)) } else { None }
    }
}

impl Kind for Count {
    type Output = Option<u32>;
    const EXPECTED: &'static str = "a whole number from 1";
    fn convert(value: &Value) -> Option<Self::Output> {
        match value {
            Value::Number(number) if number.fract() == 0.0 && (1.0..=1000.0).contains(number) => {
                Some(Some(*number as u32))
            }
            _ => None,
        }
    }
}

impl Kind for Map {
    type Output = BTreeMap<String, serde_json::Value>;
    const EXPECTED: &'static str = "an object, e.g. { name = \"value\" }";
    fn convert(value: &Value) -> Option<Self::Output> {
        match value.to_json() {
            Some(serde_json::Value::Object(object)) => Some(object.into_iter().collect()),
            _ => None,
        }
    }
}

pub struct Reader<'a> {
    path: &'a Arc<str>,
    text: &'a str,
    body: &'a Body,
    head: Range,
    schema: &'static Schema,
    names: &'a Names,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    /// Reads all attributes of a block, and reports what is unknown, missing or wrong. The reader takes further mistakes.
    pub fn read<A: Attributes>(
        (path, text): &'a (Arc<str>, String),
        block: &'a Block,
        names: &'a Names,
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> (A, Self) {
        let mut reader =
            Self { path, text, body: &block.body, head: block.range, schema: A::SCHEMA, names, diagnostics };
        reader.unexpected();
        (A::read(&mut reader), reader)
    }

    fn span(&self, range: Range) -> Span {
        Span::of(self.path, self.text, range.start as usize, range.end as usize)
    }

    /// What is not expected, or missing.
    fn unexpected(&mut self) {
        let names: Vec<&str> = self.schema.attributes.iter().map(|attribute| attribute.name).collect();
        for attribute in &self.body.attributes {
            if names.contains(&attribute.name.as_str()) {
                continue;
            }
            let diagnostic =
                Diagnostic::error("WL102", format!("unknown attribute `{}` in {}", attribute.name, self.schema.block))
                    .at_source(self.span(attribute.name_range), self.text, "not expected here");
            self.diagnostics.push(match crate::suggest(&attribute.name, names.iter().copied()) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None if names.is_empty() => diagnostic.help(format!("{} takes no attributes", self.schema.block)),
                None => diagnostic.help(format!("it takes {}", names.join(", "))),
            });
        }
        for block in &self.body.blocks {
            if !self.schema.blocks.contains(&block.kind.as_str()) {
                self.diagnostics.push(unknown_block(self.path, self.text, block, self.schema));
            }
        }
        for Attribute { name, expected, meaning, .. } in self.schema.attributes.iter().filter(|a| a.required) {
            if self.body.value(name).is_none() {
                let diagnostic = Diagnostic::error("WL109", format!("{} needs `{name}`", self.schema.block));
                self.diagnostics.push(
                    diagnostic
                        .at_source(self.span(self.head), self.text, "in this block")
                        .help(format!("add `{name} = …`, {expected}: {meaning}")),
                );
            }
        }
    }

    /// A mistake in the value of one attribute.
    pub fn mistake(&mut self, attribute: &str, code: &str, summary: &str, help: &str) {
        let range = self.body.value(attribute).map_or(self.head, |e| e.range);
        let diagnostic = Diagnostic::error(code, summary).at_source(self.span(range), self.text, "here").help(help);
        self.diagnostics.push(diagnostic);
    }

    /// One attribute; its default when it is not there or wrong.
    pub fn value<K: Kind>(&mut self, name: &str) -> K::Output {
        match self.body.value(name) {
            Some(expr) => K::read(self, name, expr),
            None => K::Output::default(),
        }
    }

    fn evaluated<K: Kind>(&mut self, name: &str, expr: &Expr) -> K::Output {
        let value = evaluate(expr, self.names);
        if let Some(why) = value.why_unknown() {
            self.mistake(
                name,
                "WL105",
                &format!("`{name}` has no value: {why}"),
                "Windlass files know `local.x`, `team.x`, `stack.path` and pure functions",
            );
            return K::Output::default();
        }
        let Some(output) = K::convert(&value) else {
            self.wrong_type::<K>(name);
            return K::Output::default();
        };
        for (summary, help) in K::mistakes(&output) {
            self.mistake(name, "WL106", &summary, help);
        }
        output
    }

    /// The value of an attribute is not what its kind takes.
    pub fn wrong_type<K: Kind>(&mut self, name: &str) {
        let meaning = self.schema.attributes.iter().find(|a| a.name == name).map_or("", |a| a.meaning);
        let help = format!("expected {}: {meaning}", K::EXPECTED);
        self.mistake(name, "WL110", &format!("`{name}` has the wrong type"), &help);
    }

    /// The attribute is written in this block.
    pub fn has(&self, name: &str) -> bool {
        self.body.value(name).is_some()
    }

    /// An expression as it is written; the locals in it are noted.
    pub fn expression(&self, expr: &Expr) -> Expression {
        self.names.note_locals(expr);
        let text = self.text.get(expr.range.start as usize..expr.range.end as usize).unwrap_or_default();
        Expression { text: text.to_owned(), span: self.span(expr.range) }
    }
}

pub fn unknown_block(path: &Arc<str>, text: &str, block: &Block, schema: &Schema) -> Diagnostic {
    let span = Span::of(path, text, block.range.start as usize, block.range.end as usize);
    let diagnostic = Diagnostic::error("WL111", format!("unknown block `{}` in {}", block.kind, schema.block))
        .at_source(span, text, "not expected here");
    match crate::suggest(&block.kind, schema.blocks.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None if schema.blocks.is_empty() => diagnostic.help(format!("{} takes no blocks", schema.block)),
        None => diagnostic.help(format!("it takes the blocks {}", schema.blocks.join(", "))),
    }
}
