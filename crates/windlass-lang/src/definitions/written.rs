//! Kinds of attributes that are not evaluated when a file is read: they are kept as they are written.

use super::reader::{Duration, Kind, Reader};
use crate::eval::Value;
use crate::terraform::syntax::{Expr, ExprKind};
use std::collections::BTreeMap;
use windlass_model::operation::{Batch, Expression};

/// An expression over parameters, steps and the like.
pub struct Written;
/// A list, each of whose items is an expression.
pub struct WrittenList;
/// An object, each of whose values is an expression.
pub struct WrittenMap;
/// A bare word, `type = string`, or the same in quotes.
pub struct Word;
/// A whole number from 0.
pub struct Number;
/// Exit statuses.
pub struct Statuses;
/// A number, or a time.
pub struct Bound;
/// One number or a range of statuses, `"200-299"`.
pub struct StatusRange;
/// How many members at once: a number or a percentage.
pub struct BatchSize;

impl Kind for Written {
    type Output = Option<Expression>;
    const EXPECTED: &'static str = "an expression, e.g. \"db-${param.cluster}\"";
    fn convert(_: &Value) -> Option<Self::Output> {
        None
    }
    fn read(reader: &mut Reader<'_>, _: &str, expr: &Expr) -> Self::Output {
        Some(reader.expression(expr))
    }
}

impl Kind for WrittenList {
    /// `None` when it is not there.
    type Output = Option<Vec<Expression>>;
    const EXPECTED: &'static str = "a list, e.g. [\"a\", param.b]";
    fn convert(_: &Value) -> Option<Self::Output> {
        None
    }
    fn read(reader: &mut Reader<'_>, name: &str, expr: &Expr) -> Self::Output {
        let ExprKind::List(items) = &expr.kind else {
            reader.wrong_type::<Self>(name);
            return None;
        };
        Some(items.iter().map(|item| reader.expression(item)).collect())
    }
}

impl Kind for WrittenMap {
    type Output = BTreeMap<String, Expression>;
    const EXPECTED: &'static str = "an object, e.g. { NAME = param.value }";
    fn convert(_: &Value) -> Option<Self::Output> {
        None
    }
    fn read(reader: &mut Reader<'_>, name: &str, expr: &Expr) -> Self::Output {
        let ExprKind::Object(items) = &expr.kind else {
            reader.wrong_type::<Self>(name);
            return BTreeMap::new();
        };
        let mut out = BTreeMap::new();
        for (key, value) in items {
            match key.literal() {
                Some(key) => drop(out.insert(key.to_owned(), reader.expression(value))),
                None => reader.wrong_type::<Self>(name),
            }
        }
        out
    }
}

impl Kind for Word {
    type Output = Option<String>;
    const EXPECTED: &'static str = "a word, e.g. string";
    fn convert(_: &Value) -> Option<Self::Output> {
        None
    }
    fn read(reader: &mut Reader<'_>, name: &str, expr: &Expr) -> Self::Output {
        match &expr.kind {
            ExprKind::Variable(word) | ExprKind::String(word) => Some(word.clone()),
            _ => {
                reader.wrong_type::<Self>(name);
                None
            }
        }
    }
}

impl Kind for Number {
    type Output = Option<u32>;
    const EXPECTED: &'static str = "a whole number from 0";
    fn convert(value: &Value) -> Option<Self::Output> {
        whole(value, 0.0, 1_000_000.0).map(|number| Some(number as u32))
    }
}

impl Kind for Statuses {
    type Output = Vec<i32>;
    const EXPECTED: &'static str = "a list of exit statuses, e.g. [0, 2]";
    fn convert(value: &Value) -> Option<Self::Output> {
        let Value::List(items) = value else { return None };
        items.iter().map(|item| whole(item, 0.0, 255.0).map(|number| number as i32)).collect()
    }
}

impl Kind for Bound {
    /// Of a time, microseconds; whether it is one.
    type Output = Option<(f64, bool)>;
    const EXPECTED: &'static str = "a number, or a time such as \"5m\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        match value {
            Value::Number(number) => Some(Some((*number, false))),
            _ => Some(Duration::convert(value)?.map(|micros| (micros as f64, true))),
        }
    }
}

impl Kind for StatusRange {
    type Output = Option<(u16, u16)>;
    const EXPECTED: &'static str = "a status or a range of them, e.g. \"200\" or \"200-299\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        let text = value.as_text()?;
        let (from, to) = text.split_once('-').unwrap_or((&text, &text));
        let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..600).contains(status));
        let (from, to) = (status(from)?, status(to)?);
        (from <= to).then_some(Some((from, to)))
    }
}

impl Kind for BatchSize {
    type Output = Option<Batch>;
    const EXPECTED: &'static str = "a number from 1, or a percentage such as \"25%\"";
    fn convert(value: &Value) -> Option<Self::Output> {
        if let Some(count) = whole(value, 1.0, 1_000_000.0) {
            return Some(Some(Batch::Count(count as u32)));
        }
        let Value::String(text) = value else { return None };
        let percent: u32 = text.strip_suffix('%')?.trim().parse().ok()?;
        (1..=100).contains(&percent).then_some(Some(Batch::Percent(percent)))
    }
}

fn whole(value: &Value, from: f64, to: f64) -> Option<f64> {
    match value {
        Value::Number(number) if number.fract() == 0.0 && (from..=to).contains(number) => Some(*number),
        _ => None,
    }
}
