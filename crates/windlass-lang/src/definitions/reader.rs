//! Attributes of one block against its schema: every mistake is reported in the same words, with what was expected.

use super::Names;
use crate::eval::{Value, evaluate};
use crate::terraform::syntax::{Block, Body, Expr, Range};
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Texts,
    Bool,
    /// A whole number from 1.
    Count,
    Map,
    /// A time such as `90s`, `5m`, `2h`, `7d`.
    Duration,
    /// A text that may hold outputs of the stack, `${output.NAME}`: they are known when it has been applied.
    Template,
    Templates,
}

/// What a block may hold: attributes (name, kind, required) and nested blocks.
#[derive(Debug)]
pub struct Schema {
    pub block: &'static str,
    pub attributes: &'static [(&'static str, Kind, bool)],
    pub blocks: &'static [&'static str],
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
    pub fn new(
        path: &'a Arc<str>,
        text: &'a str,
        body: &'a Body,
        head: Range,
        schema: &'static Schema,
        names: &'a Names,
        diagnostics: &'a mut Vec<Diagnostic>,
    ) -> Self {
        Self { path, text, body, head, schema, names, diagnostics }
    }

    fn span(&self, range: Range) -> Span {
        Span::of(self.path, self.text, range.start as usize, range.end as usize)
    }

    /// Reports what is unknown or missing; call it once, when all attributes were read.
    pub fn finish(self) {
        let names: Vec<&str> = self.schema.attributes.iter().map(|(name, ..)| *name).collect();
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
        for (name, kind, required) in self.schema.attributes {
            if *required && self.body.value(name).is_none() {
                let diagnostic = Diagnostic::error("WL109", format!("{} needs `{name}`", self.schema.block));
                self.diagnostics.push(
                    diagnostic
                        .at_source(self.span(self.head), self.text, "in this block")
                        .help(format!("add `{name} = …`, {}", expected(*kind))),
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

    fn value(&mut self, name: &str) -> Option<(&'a Expr, Value)> {
        let expr = self.body.value(name)?;
        let value = evaluate(expr, self.names);
        if let Some(why) = value.why_unknown() {
            self.mistake(
                name,
                "WL105",
                &format!("`{name}` has no value: {why}"),
                "Windlass files know `local.x`, `team.x`, `stack.path` and pure functions",
            );
            return None;
        }
        Some((expr, value))
    }

    fn wrong(&mut self, name: &str, kind: Kind) {
        self.mistake(name, "WL110", &format!("`{name}` has the wrong type"), &format!("expected {}", expected(kind)));
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.value(name)?.1 {
            Value::String(text) => Some(text.to_string()),
            _ => {
                self.wrong(name, Kind::Text);
                None
            }
        }
    }

    pub fn texts(&mut self, name: &str) -> Vec<String> {
        let Some((_, value)) = self.value(name) else { return Vec::new() };
        let items = match value {
            Value::List(items) => items
                .iter()
                .map(|v| if let Value::String(text) = v { Some(text.to_string()) } else { None })
                .collect::<Option<Vec<_>>>(),
            _ => None,
        };
        items.unwrap_or_else(|| {
            self.wrong(name, Kind::Texts);
            Vec::new()
        })
    }

    pub fn globs(&mut self, name: &str) -> Vec<String> {
        let globs = self.texts(name);
        for glob in &globs {
            if let Err(error) = crate::glob(&glob.replace('[', "[[]")) {
                self.mistake(
                    name,
                    "WL106",
                    &format!("pattern `{glob}` is not valid: {error}"),
                    "`*` stands for anything within a segment, `**` for any number of segments",
                );
            }
        }
        globs
    }

    pub fn bool(&mut self, name: &str) -> Option<bool> {
        match self.value(name)?.1 {
            Value::Bool(value) => Some(value),
            _ => {
                self.wrong(name, Kind::Bool);
                None
            }
        }
    }

    pub fn count(&mut self, name: &str) -> Option<u32> {
        match self.value(name)?.1 {
            Value::Number(number) if number.fract() == 0.0 && (1.0..=1000.0).contains(&number) => Some(number as u32),
            _ => {
                self.wrong(name, Kind::Count);
                None
            }
        }
    }

    /// Microseconds.
    pub fn duration(&mut self, name: &str) -> Option<windlass_model::Micros> {
        let text = self.text(name)?;
        let units: [(&str, i64); 5] =
            [("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];
        let parsed = units.iter().find_map(|(unit, micros)| {
            let number: i64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            (number >= 0).then(|| number.checked_mul(*micros)).flatten()
        });
        if parsed.is_none() {
            self.wrong(name, Kind::Duration);
        }
        parsed
    }

    /// A text in which outputs of the stack stay as `${output.NAME}`.
    pub fn template(&mut self, name: &str) -> Option<String> {
        let expr = self.body.value(name)?;
        let text = self.with_outputs(expr);
        if text.is_none() {
            self.wrong(name, Kind::Template);
        }
        text
    }

    /// See [`Reader::template`].
    pub fn templates(&mut self, name: &str) -> Vec<String> {
        let Some(expr) = self.body.value(name) else { return Vec::new() };
        let items = match &expr.kind {
            ExprKind::List(items) => items.iter().map(|item| self.with_outputs(item)).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        items.unwrap_or_else(|| {
            self.wrong(name, Kind::Templates);
            Vec::new()
        })
    }

    fn with_outputs(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Template(parts) => parts.iter().map(|part| self.with_outputs(part)).collect(),
            ExprKind::Attribute(base, name) if matches!(&base.kind, ExprKind::Variable(root) if root == "output") => {
                Some(format!("${{output.{name}}}"))
            }
            _ => evaluate(expr, self.names).as_text().map(|text| text.to_string()),
        }
    }

    pub fn map(&mut self, name: &str) -> BTreeMap<String, serde_json::Value> {
        let Some((_, value)) = self.value(name) else { return BTreeMap::new() };
        match value.to_json() {
            Some(serde_json::Value::Object(object)) => object.into_iter().collect(),
            _ => {
                self.wrong(name, Kind::Map);
                BTreeMap::new()
            }
        }
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a string, e.g. \"x\"",
        Kind::Texts => "a list of strings, e.g. [\"x\"]",
        Kind::Bool => "true or false",
        Kind::Count => "a whole number from 1",
        Kind::Map => "an object, e.g. { name = \"value\" }",
        Kind::Duration => "a time, e.g. \"90s\", \"5m\", \"2h\" or \"7d\"",
        Kind::Template => "a string, which may hold outputs of the stack, e.g. \"${output.host}:9042\"",
        Kind::Templates => "a list of strings, which may hold outputs of the stack",
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
