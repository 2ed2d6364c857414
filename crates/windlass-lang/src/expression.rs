//! Expressions of operations: what was written is kept as text in the definition, and means something when a run is planned or a
//! step begins, with the values of that moment.
//!
//! ```
//! # use windlass_lang::expression::{Scope, text};
//! # use windlass_model::{diagnostic::Span, operation::Expression};
//! let written = Expression { text: "\"db-${param.cluster}\"".into(), span: Span::file("windlass.hcl") };
//! let scope = Scope::default().with("param", serde_json::json!({ "cluster": "a" }));
//! assert_eq!(text(&written, &scope).unwrap(), "db-a");
//! ```

use crate::definitions::references;
use crate::eval::{self, MISSING, Value};
use crate::terraform::syntax::{Access, Expr, ExprKind, Range, parse_expression};
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_model::Micros;
use windlass_model::diagnostic::Span;
use windlass_model::operation::plan::{Expressions, Member};
use windlass_model::operation::{Expression, GateDefinition};
use windlass_model::rollout::Gate;

/// Roots whose names are texts: `team.sre` is `"sre"`.
const NAMES: [&str; 5] = ["team", "notifier", "template", "service", "host_set"];

/// Why an expression has no value. No message holds a value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    #[error("{span}: `{text}` cannot be read: {message}")]
    Syntax { span: Span, text: String, message: String },
    /// It names something that is not there, or does something that cannot be done.
    #[error("{span}: {what}{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown { span: Span, what: String, near: Option<String> },
    /// Its value is of another type than what is done with it.
    #[error("{span}: `{text}` is {found}, and has to be {expected}")]
    Type { span: Span, text: String, found: &'static str, expected: &'static str },
}

impl ExpressionError {
    pub fn span(&self) -> &Span {
        match self {
            Self::Syntax { span, .. } | Self::Unknown { span, .. } | Self::Type { span, .. } => span,
        }
    }
}

/// The values that expressions may name, by root: `param` is an object of parameters, `step` one of steps with their `outputs` and
/// `state`, and so on. A root that is not there cannot be used.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    roots: BTreeMap<String, serde_json::Value>,
}

impl Scope {
    /// With what `root` stands for, mostly an object.
    #[must_use]
    pub fn with(mut self, root: &str, value: serde_json::Value) -> Self {
        self.set(root, value);
        self
    }

    /// Sets what `root` stands for.
    pub fn set(&mut self, root: &str, value: serde_json::Value) {
        self.roots.insert(root.to_owned(), value);
    }

    /// What `root` stands for.
    pub fn get(&self, root: &str) -> Option<&serde_json::Value> {
        self.roots.get(root)
    }
}

/// Of parameters alone, as they are when a run is planned; members of `each`es are what is known beside them.
impl Expressions for Scope {
    fn nodes(&self, expression: &Expression) -> Vec<String> {
        let found = references(expression).unwrap_or_default();
        found.into_iter().filter(|reference| reference.root == "step").filter_map(|reference| reference.name).collect()
    }

    fn text(&self, expression: &Expression, each: &[Member]) -> Result<String, String> {
        let around = each
            .last()
            .map(|member| serde_json::json!({ "key": member.key, "value": member.value, "index": member.index }));
        let text = match around {
            Some(member) => text(expression, &self.clone().with("each", member)),
            None => text(expression, self),
        };
        text.map_err(|error| error.to_string())
    }
}

impl eval::Scope for Scope {
    fn lookup(&self, root: &str, name: Option<&str>) -> Option<Value> {
        match (self.roots.get(root), name) {
            (Some(value), None) => Some(Value::from_json(value)),
            (Some(value), Some(name)) => {
                Some(value.get(name).map_or_else(|| Value::unknown(MISSING), Value::from_json))
            }
            (None, Some(name)) if NAMES.contains(&root) => Some(Value::string(name)),
            (None, _) => Some(Value::unknown(MISSING)),
        }
    }

    fn file(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn is_final(&self) -> bool {
        true
    }

    /// Without making values of everything around: outputs may be large.
    fn deep(&self, root: &str, names: &[&str]) -> Option<Value> {
        let mut value = self.roots.get(root)?;
        for name in names {
            value = value.get(name)?;
        }
        Some(Value::from_json(value))
    }
}

/// An expression that was read.
#[derive(Debug, Clone)]
pub struct Parsed {
    expr: Expr,
    text: String,
    span: Span,
}

/// What an expression names: `step.dump.outputs.path` has the root `step`, the name `dump` and the rest `outputs`, `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub root: String,
    pub name: Option<String>,
    /// As far as it is written: what is in brackets and is no literal ends it.
    pub rest: Vec<String>,
    pub span: Span,
}

/// Reads an expression.
///
/// # Errors
/// [`ExpressionError::Syntax`].
pub fn parse(expression: &Expression) -> Result<Parsed, ExpressionError> {
    let Expression { text, span } = expression;
    // A heredoc ends with the line of its marker.
    let read = parse_expression(text, 0).or_else(|error| parse_expression(&format!("{text}\n"), 0).map_err(|_| error));
    let mut expr = read.map_err(|error| {
        let message = error.message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no expression");
        ExpressionError::Syntax { span: span.clone(), text: text.clone(), message: message.to_owned() }
    })?;
    let mut mistakes = Vec::new();
    references::resolve_expression(&span.file, text, &mut expr, &mut mistakes);
    if let Some(mistake) = mistakes.into_iter().next() {
        let (span, text) = (span.clone(), text.clone());
        return Err(ExpressionError::Syntax { span, text, message: mistake.help.unwrap_or(mistake.summary) });
    }
    Ok(Parsed { expr, text: text.clone(), span: span.clone() })
}

impl Parsed {
    /// Its value with these.
    ///
    /// # Errors
    /// [`ExpressionError::Unknown`] with the part of it that has no value.
    pub fn evaluate(&self, scope: &Scope) -> Result<serde_json::Value, ExpressionError> {
        let value = eval::evaluate(&self.expr, scope);
        value.to_json().ok_or_else(|| self.blame(&self.expr, scope, value.why_unknown()))
    }

    /// Everything that it names, in the order in which it is written; what a `for` in it binds is not named.
    pub fn references(&self) -> Vec<Reference> {
        let mut out = Vec::new();
        self.collect(&self.expr, &mut Vec::new(), &mut out);
        out
    }

    pub(crate) fn expr(&self) -> &Expr {
        &self.expr
    }

    /// Where a part of it stands in its file.
    pub(crate) fn place(&self, range: Range) -> Span {
        let part = Span::of(&self.span.file, &self.text, range.start as usize, range.end as usize);
        let column = |line: u32, column: u32| if line == 1 { self.span.column + column - 1 } else { column };
        Span {
            file: part.file,
            line: self.span.line + part.line - 1,
            column: column(part.line, part.column),
            end_line: self.span.line + part.end_line - 1,
            end_column: column(part.end_line, part.end_column),
        }
    }

    pub(crate) fn slice(&self, range: Range) -> &str {
        self.text.get(range.start as usize..range.end as usize).unwrap_or(&self.text)
    }

    fn collect(&self, expr: &Expr, bound: &mut Vec<String>, out: &mut Vec<Reference>) {
        if let Some((root, mut names)) = self.chain(expr, bound, out) {
            if !bound.contains(&root) {
                let rest = names.split_off(1.min(names.len()));
                out.push(Reference { root, name: names.pop(), rest, span: self.place(expr.range) });
            }
            return;
        }
        match &expr.kind {
            ExprKind::For(inner) => {
                self.collect(&inner.collection, bound, out);
                let outside = bound.len();
                bound.extend(inner.key.iter().chain([&inner.value]).cloned());
                for part in inner.result_key.iter().chain([&inner.result]).chain(&inner.condition) {
                    self.collect(part, bound, out);
                }
                bound.truncate(outside);
            }
            _ => {
                let mut first = true;
                // The children alone: each is looked at by itself.
                expr.walk(&mut |part| {
                    if std::mem::take(&mut first) {
                        return true;
                    }
                    self.collect(part, bound, out);
                    false
                });
            }
        }
    }

    /// Root and names of a traversal; what is in its brackets is collected.
    fn chain(&self, expr: &Expr, bound: &mut Vec<String>, out: &mut Vec<Reference>) -> Option<(String, Vec<String>)> {
        match &expr.kind {
            ExprKind::Variable(root) => Some((root.clone(), Vec::new())),
            ExprKind::Attribute(base, name) => {
                let (root, mut names) = self.chain(base, bound, out)?;
                names.push(name.clone());
                Some((root, names))
            }
            ExprKind::Index(base, index) => {
                let (root, mut names) = self.chain(base, bound, out)?;
                match &index.kind {
                    ExprKind::String(name) => names.push(name.clone()),
                    ExprKind::Number(number) => names.push(eval::number_text(*number)),
                    _ => self.collect(index, bound, out),
                }
                Some((root, names))
            }
            ExprKind::Splat(base, rest) => {
                let found = self.chain(base, bound, out)?;
                for access in rest {
                    if let Access::Index(index) = access {
                        self.collect(index, bound, out);
                    }
                }
                Some(found)
            }
            _ => None,
        }
    }

    /// The innermost part that has no value for this reason.
    fn blame(&self, expr: &Expr, scope: &Scope, why: Option<Arc<str>>) -> ExpressionError {
        let why = why.unwrap_or_else(|| "it has no value".into());
        let mut inner = None;
        let mut first = true;
        expr.walk(&mut |part| {
            if std::mem::take(&mut first) {
                // What a `for` binds has no value outside of it.
                return !matches!(part.kind, ExprKind::For(_));
            }
            if inner.is_none() && eval::evaluate(part, scope).why_unknown().as_ref() == Some(&why) {
                inner = Some(part);
            }
            false
        });
        if let Some(inner) = inner
            && !matches!(&inner.kind, ExprKind::Variable(root) if scope.get(root).is_none())
        {
            return self.blame(inner, scope, Some(why));
        }
        let span = self.place(expr.range);
        let written = self.slice(expr.range);
        if *why != *MISSING {
            return ExpressionError::Unknown { span, what: format!("`{written}` has no value: {why}"), near: None };
        }
        let (base, name) = match &expr.kind {
            ExprKind::Attribute(base, name) => (base, Some(name.clone())),
            ExprKind::Index(base, index) => (base, eval::evaluate(index, scope).as_text().map(|name| name.to_string())),
            _ => return ExpressionError::Unknown { span, what: format!("`{written}` is not known here"), near: None },
        };
        let of = self.slice(base.range);
        if matches!(&base.kind, ExprKind::Variable(root) if scope.get(root).is_none()) {
            let roots = scope.roots.keys().map(String::as_str);
            let near = crate::suggest(of, roots).map(str::to_owned);
            return ExpressionError::Unknown { span, what: format!("`{of}` is not known here"), near };
        }
        let known = match eval::evaluate(base, scope) {
            Value::Object(object) => object.into_keys().collect(),
            _ => Vec::new(),
        };
        let name = name.unwrap_or_default();
        let near = crate::suggest(&name, known.iter().map(String::as_str)).map(|near| format!("{of}.{near}"));
        let what = match (&near, known.as_slice()) {
            (None, [_, ..]) if known.len() <= 8 => format!("`{of}` has no `{name}`, only {}", known.join(", ")),
            _ => format!("`{of}` has no `{name}`"),
        };
        ExpressionError::Unknown { span, what, near }
    }

    fn wrong(&self, value: &serde_json::Value, expected: &'static str) -> ExpressionError {
        ExpressionError::Type { span: self.span.clone(), text: self.text.clone(), found: kind(value), expected }
    }
}

/// How a type is called in messages.
fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a bool",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

/// The value of an expression.
///
/// # Errors
/// It cannot be read, or a part of it has no value.
pub fn evaluate(expression: &Expression, scope: &Scope) -> Result<serde_json::Value, ExpressionError> {
    parse(expression)?.evaluate(scope)
}

/// The value of an expression that is the same in every run: it names nothing but these locals. `None` for any other.
pub(crate) fn constant(
    expression: &Expression,
    locals: &BTreeMap<String, serde_json::Value>,
) -> Option<serde_json::Value> {
    let parsed = parse(expression).ok()?;
    let is_constant = parsed.references().iter().all(|reference| reference.root == "local");
    is_constant.then(|| parsed.evaluate(&Scope::default().with("local", serde_json::json!(locals))).ok()).flatten()
}

/// What an expression names.
///
/// # Errors
/// It cannot be read.
pub fn references(expression: &Expression) -> Result<Vec<Reference>, ExpressionError> {
    Ok(parse(expression)?.references())
}

/// The value as a text; numbers and bools are written as one.
///
/// # Errors
/// As for [`evaluate`], or it is no such.
pub fn text(expression: &Expression, scope: &Scope) -> Result<String, ExpressionError> {
    let parsed = parse(expression)?;
    let value = parsed.evaluate(scope)?;
    as_text(&value).ok_or_else(|| parsed.wrong(&value, "a text"))
}

/// The value as a list of texts, such as a program and its arguments.
///
/// # Errors
/// As for [`evaluate`], or it is no such.
pub fn texts(expression: &Expression, scope: &Scope) -> Result<Vec<String>, ExpressionError> {
    let parsed = parse(expression)?;
    let value = parsed.evaluate(scope)?;
    let items = value.as_array().and_then(|items| items.iter().map(as_text).collect());
    items.ok_or_else(|| parsed.wrong(&value, "a list of texts"))
}

/// The value as a bool.
///
/// # Errors
/// As for [`evaluate`], or it is none.
pub fn boolean(expression: &Expression, scope: &Scope) -> Result<bool, ExpressionError> {
    let parsed = parse(expression)?;
    let value = parsed.evaluate(scope)?;
    match &value {
        serde_json::Value::Bool(value) => Ok(*value),
        // As HCL converts it.
        serde_json::Value::String(text) => text.parse().map_err(|_| parsed.wrong(&value, "true or false")),
        _ => Err(parsed.wrong(&value, "true or false")),
    }
}

/// The value as a time such as `"5m"`, microseconds.
///
/// # Errors
/// As for [`evaluate`], or it is none.
pub fn duration(expression: &Expression, scope: &Scope) -> Result<Micros, ExpressionError> {
    let parsed = parse(expression)?;
    let value = parsed.evaluate(scope)?;
    let micros = value.as_str().and_then(windlass_model::operation::parameter::duration);
    micros.ok_or_else(|| parsed.wrong(&value, "a time such as \"5m\""))
}

/// The gate with the values of the expressions that its texts are.
///
/// # Errors
/// As for [`text`].
pub fn gate(definition: &GateDefinition, scope: &Scope) -> Result<Gate, ExpressionError> {
    let value = |source: &String| text(&Expression { text: source.clone(), span: definition.span.clone() }, scope);
    Ok(match definition.gate.clone() {
        Gate::Command { argv, timeout, interval } => {
            Gate::Command { argv: argv.iter().map(value).collect::<Result<_, _>>()?, timeout, interval }
        }
        Gate::Http { url, status, contains, timeout, interval } => Gate::Http {
            url: value(&url)?,
            status,
            contains: contains.as_ref().map(value).transpose()?,
            timeout,
            interval,
        },
        Gate::Tcp { address, timeout, interval } => Gate::Tcp { address: value(&address)?, timeout, interval },
        Gate::ServiceLevel { name, interval } => Gate::ServiceLevel { name: value(&name)?, interval },
        Gate::Checks => Gate::Checks,
    })
}

fn as_text(value: &serde_json::Value) -> Option<String> {
    Value::from_json(value).as_text().map(|text| text.to_string())
}

#[cfg(test)]
mod tests;
