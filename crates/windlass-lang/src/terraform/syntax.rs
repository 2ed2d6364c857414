//! One small syntax tree for native HCL and for JSON configuration, with byte spans.

use super::scan::{self, Part};
use hcl_edit::Span as _;
use hcl_edit::expr::{BinaryOperator, Expression, ObjectKey, TraversalOperator, UnaryOperator};
use hcl_edit::structure as edit;
use hcl_edit::template::{Directive, Element, Template};

/// Bytes from `start` to `end` (exclusive) of the file an item stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    pub start: u32,
    pub end: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub range: Range,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    /// Literal text and interpolations in turn; a directive (`%{if}`) is one part that is never evaluated.
    Template(Vec<Expr>),
    /// `%{if}` or `%{for}`: what it mentions.
    Directive(Vec<Expr>),
    List(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    Variable(String),
    Attribute(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    /// `base[*].rest` or `base.*.rest`: the accesses after the splat are applied to each element.
    Splat(Box<Expr>, Vec<Access>),
    Conditional(Box<Expr>, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>, bool),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary(Box<Expr>, BinaryOperator, Box<Expr>),
    For(Box<For>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Access {
    Attribute(String),
    Index(Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub struct For {
    pub key: Option<String>,
    pub value: String,
    pub collection: Expr,
    /// Given for an object comprehension.
    pub result_key: Option<Expr>,
    pub result: Expr,
    pub grouping: bool,
    pub condition: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Body {
    pub attributes: Vec<Attribute>,
    pub blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    pub name: String,
    pub name_range: Range,
    pub value: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub kind: String,
    pub labels: Vec<String>,
    pub body: Body,
    /// Of the block's head (type and labels).
    pub range: Range,
    /// Of all of it.
    pub whole: Range,
}

impl Body {
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.name == name)
    }
    pub fn value(&self, name: &str) -> Option<&Expr> {
        self.attribute(name).map(|a| &a.value)
    }
    /// Every expression in it, nested blocks included.
    pub fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        for attribute in &self.attributes {
            visit(&attribute.value);
        }
        for block in &self.blocks {
            block.body.visit(visit);
        }
    }
}

impl Expr {
    pub fn literal(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// Calls `visit` for this expression and, while it answers true, for everything below.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr) -> bool) {
        if !visit(self) {
            return;
        }
        match &self.kind {
            ExprKind::Null | ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Variable(_) => {}
            ExprKind::Template(parts)
            | ExprKind::Directive(parts)
            | ExprKind::List(parts)
            | ExprKind::Call(_, parts, _) => parts.iter().for_each(|p| p.walk(visit)),
            ExprKind::Object(items) => items.iter().for_each(|(key, value)| {
                key.walk(visit);
                value.walk(visit);
            }),
            ExprKind::Attribute(base, _) | ExprKind::Not(base) | ExprKind::Negative(base) => base.walk(visit),
            ExprKind::Index(base, index) | ExprKind::Binary(base, _, index) => {
                base.walk(visit);
                index.walk(visit);
            }
            ExprKind::Splat(base, rest) => {
                base.walk(visit);
                for access in rest {
                    if let Access::Index(index) = access {
                        index.walk(visit);
                    }
                }
            }
            ExprKind::Conditional(a, b, c) => {
                a.walk(visit);
                b.walk(visit);
                c.walk(visit);
            }
            ExprKind::For(inner) => {
                inner.collection.walk(visit);
                inner.result_key.iter().for_each(|e| e.walk(visit));
                inner.result.walk(visit);
                inner.condition.iter().for_each(|e| e.walk(visit));
            }
        }
    }
}

/// A mistake in the syntax: what, and the byte it was noticed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub message: String,
    pub at: u32,
}

/// Parses native syntax. `offset` is added to every range.
///
/// # Errors
/// The parser's first complaint.
pub fn parse_native(text: &str, offset: u32) -> Result<Body, SyntaxError> {
    let body = hcl_edit::parser::parse_body(text).map_err(|error| SyntaxError {
        message: error.message().to_owned(),
        at: offset + error.location().offset() as u32,
    })?;
    Ok(Converter { offset }.body(&body))
}

/// Parses one expression.
///
/// # Errors
/// The parser's first complaint.
pub fn parse_expression(text: &str, offset: u32) -> Result<Expr, SyntaxError> {
    if let Some(kind) = plain(text, offset) {
        return Ok(Expr { kind, range: Range { start: offset, end: offset + text.len() as u32 } });
    }
    let expression = hcl_edit::parser::parse_expr(text).map_err(|error| SyntaxError {
        message: error.message().to_owned(),
        at: offset + error.location().offset() as u32,
    })?;
    Ok(Converter { offset }.expr(&expression))
}

/// A string without escapes or templates, a whole number, `true`, `false`, `null`, `var.x` or `local.x`, or an object of
/// such with one attribute on each line: most values are one of these, and need no parser.
fn plain(text: &str, offset: u32) -> Option<ExprKind> {
    let bytes = text.as_bytes();
    match bytes {
        b"true" => Some(ExprKind::Bool(true)),
        b"false" => Some(ExprKind::Bool(false)),
        b"null" => Some(ExprKind::Null),
        [b'"', inner @ .., b'"'] if !inner.iter().any(|b| matches!(b, b'"' | b'\\' | b'$' | b'%' | b'\n' | b'\r')) => {
            Some(ExprKind::String(text[1..text.len() - 1].to_owned()))
        }
        [b'0'..=b'9', ..] if bytes.len() < 16 && bytes.iter().all(u8::is_ascii_digit) => {
            text.parse().ok().map(ExprKind::Number)
        }
        [b'{', .., b'}'] => object(text, offset),
        _ => {
            let (root, name) = text.split_once('.').filter(|(root, _)| matches!(*root, "var" | "local"))?;
            let simple = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            let range = Range { start: offset, end: offset + root.len() as u32 };
            let root = Expr { kind: ExprKind::Variable(root.to_owned()), range };
            simple.then(|| ExprKind::Attribute(Box::new(root), name.to_owned()))
        }
    }
}

fn object(text: &str, offset: u32) -> Option<ExprKind> {
    let entry = |part| match part {
        Part::Attribute(name, (start, end), (from, to)) => {
            let range = Range { start: offset + start as u32, end: offset + end as u32 };
            let key = Expr { kind: ExprKind::String(name.to_owned()), range };
            Some((key, parse_expression(&text[from..to], offset + from as u32).ok()?))
        }
        Part::Block(..) => None,
    };
    scan::parts(text, 1, text.len())?.into_iter().map(entry).collect::<Option<Vec<_>>>().map(ExprKind::Object)
}

struct Converter {
    offset: u32,
}

impl Converter {
    fn range(&self, span: Option<std::ops::Range<usize>>) -> Range {
        let span = span.unwrap_or(0..0);
        Range { start: self.offset + span.start as u32, end: self.offset + span.end as u32 }
    }

    fn body(&self, body: &edit::Body) -> Body {
        let mut out = Body::default();
        for structure in body.iter() {
            match structure {
                edit::Structure::Attribute(attribute) => out.attributes.push(Attribute {
                    name: attribute.key.as_str().to_owned(),
                    name_range: self.range(attribute.key.span()),
                    value: self.expr(&attribute.value),
                }),
                edit::Structure::Block(block) => {
                    let mut range = self.range(block.ident.span());
                    let labels = block
                        .labels
                        .iter()
                        .map(|label| {
                            range.end = range.end.max(self.range(label.span()).end);
                            label.as_str().to_owned()
                        })
                        .collect();
                    out.blocks.push(Block {
                        kind: block.ident.as_str().to_owned(),
                        labels,
                        body: self.body(&block.body),
                        range,
                        whole: self.range(block.span()),
                    });
                }
            }
        }
        out
    }

    fn boxed(&self, expression: &Expression) -> Box<Expr> {
        Box::new(self.expr(expression))
    }

    fn expr(&self, expression: &Expression) -> Expr {
        let range = self.range(expression.span());
        let kind = match expression {
            Expression::Null(_) => ExprKind::Null,
            Expression::Bool(value) => ExprKind::Bool(*value.value()),
            Expression::Number(value) => ExprKind::Number(value.value().as_f64().unwrap_or(f64::NAN)),
            Expression::String(value) => ExprKind::String(value.value().clone()),
            Expression::Array(items) => ExprKind::List(items.iter().map(|e| self.expr(e)).collect()),
            Expression::Object(object) => ExprKind::Object(
                object
                    .iter()
                    .map(|(key, value)| {
                        let key = match key {
                            ObjectKey::Ident(ident) => Expr {
                                kind: ExprKind::String(ident.as_str().to_owned()),
                                range: self.range(ident.span()),
                            },
                            ObjectKey::Expression(Expression::Variable(ident)) => Expr {
                                kind: ExprKind::String(ident.as_str().to_owned()),
                                range: self.range(ident.span()),
                            },
                            ObjectKey::Expression(expression) => self.expr(expression),
                        };
                        (key, self.expr(value.expr()))
                    })
                    .collect(),
            ),
            Expression::StringTemplate(template) => {
                ExprKind::Template(template.iter().map(|e| self.element(e)).collect())
            }
            Expression::HeredocTemplate(heredoc) => self.template(&heredoc.template),
            Expression::Parenthesis(inner) => return Expr { range, ..self.expr(inner.inner()) },
            Expression::Variable(ident) => ExprKind::Variable(ident.as_str().to_owned()),
            Expression::Conditional(c) => {
                ExprKind::Conditional(self.boxed(&c.cond_expr), self.boxed(&c.true_expr), self.boxed(&c.false_expr))
            }
            Expression::FuncCall(call) => {
                let mut name: String = call.name.namespace.iter().map(|part| format!("{}::", part.as_str())).collect();
                name.push_str(call.name.name.as_str());
                ExprKind::Call(name, call.args.iter().map(|e| self.expr(e)).collect(), call.args.expand_final())
            }
            Expression::Traversal(traversal) => return self.traversal(&traversal.expr, &traversal.operators, range),
            Expression::UnaryOp(op) => match *op.operator.value() {
                UnaryOperator::Not => ExprKind::Not(self.boxed(&op.expr)),
                UnaryOperator::Neg => ExprKind::Negative(self.boxed(&op.expr)),
            },
            Expression::BinaryOp(op) => {
                ExprKind::Binary(self.boxed(&op.lhs_expr), *op.operator.value(), self.boxed(&op.rhs_expr))
            }
            Expression::ForExpr(inner) => ExprKind::For(Box::new(For {
                key: inner.intro.key_var.as_ref().map(|k| k.as_str().to_owned()),
                value: inner.intro.value_var.as_str().to_owned(),
                collection: self.expr(&inner.intro.collection_expr),
                result_key: inner.key_expr.as_ref().map(|e| self.expr(e)),
                result: self.expr(&inner.value_expr),
                grouping: inner.grouping,
                condition: inner.cond.as_ref().map(|c| self.expr(&c.expr)),
            })),
        };
        Expr { kind, range }
    }

    fn traversal(&self, base: &Expression, operators: &[hcl_edit::Decorated<TraversalOperator>], range: Range) -> Expr {
        let mut expr = self.expr(base);
        for (position, operator) in operators.iter().enumerate() {
            let so_far = Range { start: range.start, end: self.range(operator.span()).end.max(range.start) };
            let kind = match operator.value() {
                TraversalOperator::GetAttr(name) => ExprKind::Attribute(Box::new(expr), name.as_str().to_owned()),
                TraversalOperator::Index(index) => ExprKind::Index(Box::new(expr), self.boxed(index)),
                TraversalOperator::LegacyIndex(index) => {
                    let index = Expr { kind: ExprKind::Number(*index.value() as f64), range: so_far };
                    ExprKind::Index(Box::new(expr), Box::new(index))
                }
                TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                    let rest = operators[position + 1..]
                        .iter()
                        .filter_map(|operator| match operator.value() {
                            TraversalOperator::GetAttr(name) => Some(Access::Attribute(name.as_str().to_owned())),
                            TraversalOperator::Index(index) => Some(Access::Index(self.expr(index))),
                            TraversalOperator::LegacyIndex(index) => Some(Access::Index(Expr {
                                kind: ExprKind::Number(*index.value() as f64),
                                range: so_far,
                            })),
                            // A splat within a splat: rare, and the first one already covers the reference.
                            TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => None,
                        })
                        .collect();
                    return Expr { kind: ExprKind::Splat(Box::new(expr), rest), range };
                }
            };
            expr = Expr { kind, range: so_far };
        }
        Expr { range, ..expr }
    }

    fn template(&self, template: &Template) -> ExprKind {
        let parts: Vec<Expr> = template.iter().map(|e| self.element(e)).collect();
        match parts.as_slice() {
            [] => ExprKind::String(String::new()),
            [Expr { kind: ExprKind::String(text), .. }] => ExprKind::String(text.clone()),
            _ => ExprKind::Template(parts),
        }
    }

    fn element(&self, element: &Element) -> Expr {
        match element {
            Element::Literal(text) => {
                Expr { kind: ExprKind::String(text.value().clone()), range: self.range(text.span()) }
            }
            Element::Interpolation(interpolation) => self.expr(&interpolation.expr),
            Element::Directive(directive) => {
                let mut parts = Vec::new();
                match directive.as_ref() {
                    Directive::If(inner) => {
                        parts.push(self.expr(&inner.if_expr.cond_expr));
                        parts.extend(inner.if_expr.template.iter().map(|e| self.element(e)));
                        if let Some(other) = &inner.else_expr {
                            parts.extend(other.template.iter().map(|e| self.element(e)));
                        }
                    }
                    Directive::For(inner) => {
                        parts.push(self.expr(&inner.for_expr.collection_expr));
                        parts.extend(inner.for_expr.template.iter().map(|e| self.element(e)));
                    }
                }
                Expr { kind: ExprKind::Directive(parts), range: self.range(element.span()) }
            }
        }
    }
}

/// Parses JSON configuration. Expressions inside strings are parsed as templates; all ranges are that of the whole file.
///
/// # Errors
/// The JSON parser's complaint, or that the file is no object.
pub fn parse_json(text: &str) -> Result<Body, SyntaxError> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        SyntaxError { message: error.to_string(), at: (before + error.column().saturating_sub(1)) as u32 }
    })?;
    // A body is an object, or several of them in an array.
    let objects = match value {
        serde_json::Value::Array(items) => items,
        value => vec![value],
    };
    let top: Option<Vec<_>> = objects.iter().map(serde_json::Value::as_object).collect();
    let Some(top) = top else {
        return Err(SyntaxError { message: "expected an object, or an array of objects, at the top".into(), at: 0 });
    };
    let json = Json { text };
    let mut body = Body::default();
    for (kind, content) in top.into_iter().flatten() {
        let labels = match kind.as_str() {
            "resource" | "data" | "ephemeral" => 2,
            "variable" | "output" | "module" | "provider" | "check" => 1,
            _ => 0,
        };
        json.blocks(kind, content, labels, &mut Vec::new(), &mut body.blocks);
    }
    Ok(body)
}

struct Json<'a> {
    text: &'a str,
}

impl Json<'_> {
    /// The first place of `"key"`, which is where a reader would look.
    fn find(&self, key: &str) -> Range {
        let quoted = format!("\"{key}\"");
        let start = self.text.find(&quoted).unwrap_or(0);
        Range { start: start as u32, end: (start + quoted.len()).min(self.text.len()) as u32 }
    }

    fn blocks(
        &self,
        kind: &str,
        content: &serde_json::Value,
        labels: usize,
        path: &mut Vec<String>,
        out: &mut Vec<Block>,
    ) {
        match content {
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.blocks(kind, item, labels, path, out)),
            serde_json::Value::Object(object) if labels > 0 => {
                for (label, inner) in object {
                    if label == "//" {
                        continue;
                    }
                    path.push(label.clone());
                    self.blocks(kind, inner, labels - 1, path, out);
                    path.pop();
                }
            }
            serde_json::Value::Object(object) => {
                let range = self.find(path.last().map_or(kind, String::as_str));
                let whole = Range { start: 0, end: self.text.len() as u32 };
                out.push(Block {
                    kind: kind.to_owned(),
                    labels: path.clone(),
                    body: self.body(kind, object),
                    range,
                    whole,
                });
            }
            _ => {}
        }
    }

    /// Without a schema, nested objects are attributes, except for the few that Terraform itself defines as blocks.
    fn body(&self, kind: &str, object: &serde_json::Map<String, serde_json::Value>) -> Body {
        let mut body = Body::default();
        for (name, value) in object {
            if name == "//" {
                continue;
            }
            let labels = match (kind, name.as_str()) {
                ("terraform", "backend") | ("resource", "provisioner") => Some(1),
                ("terraform", "cloud" | "required_providers") | ("cloud", "workspaces") => Some(0),
                _ => None,
            };
            match labels {
                Some(labels) => self.blocks(name, value, labels, &mut Vec::new(), &mut body.blocks),
                None => body.attributes.push(Attribute {
                    name: name.clone(),
                    name_range: self.find(name),
                    value: self.expr(name, value),
                }),
            }
        }
        body
    }

    fn expr(&self, name: &str, value: &serde_json::Value) -> Expr {
        let range = self.find(name);
        let kind = match value {
            serde_json::Value::Null => ExprKind::Null,
            serde_json::Value::Bool(value) => ExprKind::Bool(*value),
            serde_json::Value::Number(value) => ExprKind::Number(value.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::Array(items) => ExprKind::List(items.iter().map(|e| self.expr(name, e)).collect()),
            serde_json::Value::Object(object) => ExprKind::Object(
                object
                    .iter()
                    .map(|(key, value)| {
                        (Expr { kind: ExprKind::String(key.clone()), range: self.find(key) }, self.expr(key, value))
                    })
                    .collect(),
            ),
            serde_json::Value::String(text) if text.contains("${") || text.contains("%{") => {
                match hcl_edit::parser::parse_template(text) {
                    Ok(template) => match (Converter { offset: 0 }).template(&template) {
                        // `"${x}"` is x itself, as in native syntax.
                        ExprKind::Template(mut parts) if parts.len() == 1 => parts.remove(0).kind,
                        kind => kind,
                    },
                    Err(_) => ExprKind::String(text.clone()),
                }
            }
            serde_json::Value::String(text) => ExprKind::String(text.clone()),
        };
        Expr { kind, range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_bodies_are_objects_or_arrays_of_them() {
        let kinds = |text: &str| {
            parse_json(text).map(|body| body.blocks.into_iter().map(|b| b.labels.join(".")).collect::<Vec<_>>())
        };
        let both = [r#"{"variable": {"a": {}, "b": {}}}"#, r#"[{"variable": {"a": {}}}, {"variable": [{"b": {}}]}]"#];
        for text in both {
            assert_eq!(kinds(text).unwrap(), ["a", "b"], "{text}");
        }
        assert!(kinds("[1]").is_err() && kinds("\"x\"").is_err() && kinds("{").is_err());
    }

    /// What is read without the parser is what the parser reads.
    #[test]
    fn plain_values_are_as_the_parser_reads_them() {
        let check = |text: &str, shortcut: bool| {
            assert_eq!(plain(text, 7).is_some(), shortcut, "{text}");
            let by_parser = hcl_edit::parser::parse_expr(text).map(|expr| Converter { offset: 7 }.expr(&expr));
            match (parse_expression(text, 7), by_parser) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{text}"),
                (ours, theirs) => assert_eq!(ours.is_err(), theirs.is_err(), "{text}"),
            }
        };
        for text in [
            "true",
            "null",
            "\"a b\"",
            "\"\"",
            "0",
            "42",
            "var.x",
            "local.a-b_1",
            "{}",
            "{\n  a = 1\n\n  b   = \"x\"\n}",
            "{\n  a = {\n    b = var.c\n  }\n  d = [1, 2]\n  e = \"${f}\"\n}",
        ] {
            check(text, true);
        }
        for text in [
            "\"${a}\"",
            "\"a\\n\"",
            "\"a\" == \"b\"",
            "1.5",
            "-1",
            "var.x.y",
            "var.x[0]",
            "data.a.b",
            "{ a = 1 }",
            "{\n  a = 1,\n  b = 2\n}",
            "{\n  (a) = 1\n}",
            "{\n  \"a\" = 1\n}",
            "{for k, v in x : k => v}",
            "{\n  a = 1 # one\n}",
            "{\n  a : 1\n}",
            "{} == {}",
            "\"$${a}\"",
            "",
            "99999999999999999999",
            "{\n  a = \n}",
        ] {
            check(text, false);
        }
    }
}
