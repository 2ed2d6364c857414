//! HCL in the two shapes that policies know. `hcl2`: labels nest, blocks are lists, expressions are `${…}` texts. `hcl1`: every
//! block and label is a list of objects.

use super::{Mistake, number};
use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey, UnaryOperator};
use hcl_edit::structure::{Block, Body, Structure};
use hcl_edit::template::{Element, Strip, Template};
use serde_json::{Map, Value};
use std::ops::Range;

/// The shape of `hcl2`.
pub fn parse(text: &str) -> Result<Value, Mistake> {
    let body = read(text)?;
    Converter { text, old: false }.body(&body).map(Value::Object)
}

/// The shape of `hcl1`.
pub fn parse_old(text: &str) -> Result<Value, Mistake> {
    let body = read(text)?;
    Converter { text, old: true }.body(&body).map(Value::Object)
}

fn read(text: &str) -> Result<Body, Mistake> {
    hcl_edit::parser::parse_body(text)
        .map_err(|error| Mistake::new(error.location().offset(), error.message().trim().to_owned()))
}

struct Converter<'a> {
    text: &'a str,
    old: bool,
}

impl Converter<'_> {
    fn body(&self, body: &Body) -> Result<Map<String, Value>, Mistake> {
        let mut out = Map::new();
        for structure in body.iter() {
            match structure {
                Structure::Attribute(attribute) => {
                    out.insert(attribute.key.to_string(), self.expression(&attribute.value));
                }
                Structure::Block(block) => self.block(block, &mut out)?,
            }
        }
        Ok(out)
    }

    fn block(&self, block: &Block, out: &mut Map<String, Value>) -> Result<(), Mistake> {
        let labels: Vec<&str> = block.labels.iter().map(|label| label.as_str()).collect();
        let at = block.span().map_or(0, |span| span.start);
        let value = Value::Object(self.body(&block.body)?);
        if self.old {
            let nested = labels.iter().rev().fold(value, |value, label| {
                Value::Object(Map::from_iter([((*label).to_owned(), Value::Array(vec![value]))]))
            });
            return append(out, block.ident.as_str(), nested, at);
        }
        let mut place = out;
        let mut key = block.ident.as_str();
        for label in labels {
            let inner = place.entry(key).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(object) = inner else {
                return Err(Mistake::new(at, format!("`{key}` is used with and without labels")));
            };
            place = object;
            key = label;
        }
        append(place, key, value, at)
    }

    fn source(&self, span: Option<Range<usize>>) -> &str {
        span.and_then(|span| self.text.get(span)).unwrap_or_default()
    }

    fn wrapped(&self, expression: &Expression) -> String {
        format!("${{{}}}", self.source(expression.span()))
    }

    fn expression(&self, expression: &Expression) -> Value {
        match expression {
            Expression::Null(_) => Value::Null,
            Expression::Bool(value) => (*value.value()).into(),
            Expression::Number(value) => numeric(value.value()),
            Expression::String(text) => escaped(text.value()).into(),
            Expression::Array(items) => items.iter().map(|item| self.item(item)).collect(),
            Expression::Object(object) => {
                let mut out = Map::new();
                for (key, value) in object.iter() {
                    out.insert(self.key(key), self.item(value.expr()));
                }
                if self.old { Value::Array(vec![Value::Object(out)]) } else { Value::Object(out) }
            }
            Expression::StringTemplate(template) => {
                self.template(&template.iter().cloned().collect::<Template>()).into()
            }
            // The parser has taken the indent off.
            Expression::HeredocTemplate(heredoc) => self.template(&heredoc.template).into(),
            Expression::UnaryOp(operation) => match (operation.operator.value(), &operation.expr) {
                (UnaryOperator::Not, Expression::Bool(value)) => (!*value.value()).into(),
                (UnaryOperator::Neg, Expression::Number(value)) => {
                    value.value().as_f64().and_then(|value| number(-value)).unwrap_or(Value::Null)
                }
                _ => self.wrapped(expression).into(),
            },
            _ => self.wrapped(expression).into(),
        }
    }

    /// Within a list or object, where the old shape has plain objects.
    fn item(&self, expression: &Expression) -> Value {
        match self.expression(expression) {
            Value::Array(mut items) if self.old && matches!(expression, Expression::Object(_)) => {
                items.pop().unwrap_or_default()
            }
            other => other,
        }
    }

    fn key(&self, key: &ObjectKey) -> String {
        match key {
            ObjectKey::Ident(name) => name.as_str().to_owned(),
            ObjectKey::Expression(Expression::Variable(name)) => name.value().as_str().to_owned(),
            ObjectKey::Expression(traversal @ Expression::Traversal(_)) => self.source(traversal.span()).to_owned(),
            ObjectKey::Expression(expression) => match self.expression(expression) {
                Value::String(text) => text,
                other => other.to_string(),
            },
        }
    }

    fn template(&self, template: &Template) -> String {
        let elements: Vec<&Element> = template.iter().collect();
        let mut out = String::new();
        for (index, element) in elements.iter().enumerate() {
            match element {
                Element::Literal(text) => {
                    let before = index.checked_sub(1).and_then(|before| elements.get(before));
                    let cut = before.is_some_and(|before| strips(before).1);
                    let cut_end = elements.get(index + 1).is_some_and(|after| strips(after).0);
                    let text: &str = text;
                    let text = if cut { after_blanks(text) } else { text };
                    out.push_str(&escaped(if cut_end { text.trim_end() } else { text }));
                }
                Element::Interpolation(interpolation) => out.push_str(&self.wrapped(&interpolation.expr)),
                Element::Directive(directive) => match &**directive {
                    hcl_edit::template::Directive::If(directive) => {
                        let condition = self.source(directive.if_expr.cond_expr.span());
                        out.push_str(&format!("%{{if {condition}}}{}", self.template(&directive.if_expr.template)));
                        if let Some(other) = &directive.else_expr {
                            out.push_str(&format!("%{{else}}{}", self.template(&other.template)));
                        }
                        out.push_str("%{endif}");
                    }
                    hcl_edit::template::Directive::For(directive) => {
                        let head = &directive.for_expr;
                        let key =
                            head.key_var.as_ref().map_or_else(String::new, |key| format!("{}, ", key.value().as_str()));
                        let collection = self.source(head.collection_expr.span());
                        let value = head.value_var.value().as_str();
                        out.push_str(&format!(
                            "%{{for {key}{value} in {collection}}}{}",
                            self.template(&head.template)
                        ));
                        out.push_str("%{endfor}");
                    }
                },
            }
        }
        out
    }
}

fn append(out: &mut Map<String, Value>, key: &str, value: Value, at: usize) -> Result<(), Mistake> {
    match out.get_mut(key) {
        None => drop(out.insert(key.to_owned(), Value::Array(vec![value]))),
        Some(Value::Array(items)) => items.push(value),
        Some(_) => return Err(Mistake::new(at, format!("`{key}` is both a block and something else"))),
    }
    Ok(())
}

/// Whether an element strips the blanks before and after it.
fn strips(element: &Element) -> (bool, bool) {
    let both = |first: Strip, last: Strip| (first.strip_start(), last.strip_end());
    match element {
        Element::Literal(_) => (false, false),
        Element::Interpolation(interpolation) => both(interpolation.strip, interpolation.strip),
        Element::Directive(directive) => match &**directive {
            hcl_edit::template::Directive::If(directive) => both(directive.if_expr.strip, directive.endif_expr.strip),
            hcl_edit::template::Directive::For(directive) => {
                both(directive.for_expr.strip, directive.endfor_expr.strip)
            }
        },
    }
}

fn after_blanks(text: &str) -> &str {
    text.trim_start()
}

/// A literal in a template, where `${` and `%{` mean something else.
fn escaped(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

fn numeric(value: &hcl_edit::Number) -> Value {
    if let Some(whole) = value.as_i64() {
        return whole.into();
    }
    if let Some(whole) = value.as_u64() {
        return whole.into();
    }
    value.as_f64().and_then(number).unwrap_or(Value::Null)
}
