//! Partial evaluation: what can be said about an expression without running Terraform. What cannot be said is
//! [`Value::Unknown`], with the reason.

mod functions;

use crate::terraform::syntax::{Access, Expr, ExprKind, For};
use hcl_edit::expr::BinaryOperator;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Not known, and why, in a few words that can follow "because".
    Unknown(Arc<str>),
    Null,
    Bool(bool),
    Number(f64),
    String(Arc<str>),
    List(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Value {
    pub fn unknown(why: impl Into<Arc<str>>) -> Self {
        Self::Unknown(why.into())
    }
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(text.into())
    }
    pub fn from_json(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(value) => Self::Number(value.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Self::string(text.as_str()),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(object) => {
                Self::Object(object.iter().map(|(k, v)| (k.clone(), Self::from_json(v))).collect())
            }
        }
    }
    /// `None` when any part is unknown.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Unknown(_) => return None,
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => (*number as i64).into(),
            Self::Number(number) => (*number).into(),
            Self::String(text) => text.as_ref().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect::<Option<Vec<_>>>()?.into(),
            Self::Object(object) => serde_json::Value::Object(
                object
                    .iter()
                    .map(|(k, v)| Some((k.clone(), v.to_json()?)))
                    .collect::<Option<serde_json::Map<_, _>>>()?,
            ),
        })
    }
    /// The first unknown part's reason.
    pub fn why_unknown(&self) -> Option<Arc<str>> {
        match self {
            Self::Unknown(why) => Some(why.clone()),
            Self::List(items) => items.iter().find_map(Self::why_unknown),
            Self::Object(object) => object.values().find_map(Self::why_unknown),
            _ => None,
        }
    }
    /// Text as Terraform converts primitives to strings; `None` for collections, null and unknown.
    pub fn as_text(&self) -> Option<Arc<str>> {
        match self {
            Self::String(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string().into()),
            Self::Number(number) => Some(number_text(*number).into()),
            _ => None,
        }
    }
    fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::String(text) => text.parse().ok(),
            _ => None,
        }
    }
    fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::String(text) => text.parse().ok(),
            _ => None,
        }
    }
}

pub fn number_text(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 9e15 { format!("{}", number as i64) } else { format!("{number}") }
}

/// Where names get their values from.
pub trait Scope {
    /// Value of a whole reference such as `var.x` (root `var`, name `x`), `local.x`, `path.module`, `terraform.workspace`,
    /// `module.x`, `data.x`; `None` when this scope does not have the root at all.
    fn lookup(&self, root: &str, name: Option<&str>) -> Option<Value>;
    /// Directory of the module relative to the repository's root, for functions that read files.
    fn file(&self, path: &str) -> Option<Vec<u8>>;
    /// Nothing becomes known later: what has no value is a mistake, which `try` and `can` catch.
    fn is_final(&self) -> bool {
        false
    }
    /// The value of `root.a.b.c` at once, where that is cheaper than the value of `root.a`.
    fn deep(&self, _root: &str, _names: &[&str]) -> Option<Value> {
        None
    }
}

/// Evaluates in a scope.
pub fn evaluate(expr: &Expr, scope: &dyn Scope) -> Value {
    Evaluator { scope, bound: Vec::new() }.eval(expr)
}

struct Evaluator<'a> {
    scope: &'a dyn Scope,
    /// Names bound by enclosing `for` expressions.
    bound: Vec<(String, Value)>,
}

impl Evaluator<'_> {
    fn eval(&mut self, expr: &Expr) -> Value {
        match &expr.kind {
            ExprKind::Null => Value::Null,
            ExprKind::Bool(value) => Value::Bool(*value),
            ExprKind::Number(number) => Value::Number(*number),
            ExprKind::String(text) => Value::string(text.as_str()),
            ExprKind::Template(parts) => self.template(parts),
            ExprKind::Directive(_) => Value::unknown("a template directive is not evaluated"),
            ExprKind::List(items) => Value::List(items.iter().map(|e| self.eval(e)).collect()),
            ExprKind::Object(items) => {
                let mut object = BTreeMap::new();
                for (key, value) in items {
                    match self.eval(key) {
                        Value::Unknown(why) => return Value::Unknown(why),
                        key => match key.as_text() {
                            Some(key) => drop(object.insert(key.to_string(), self.eval(value))),
                            None => return Value::unknown("an object key is not a string"),
                        },
                    }
                }
                Value::Object(object)
            }
            ExprKind::Variable(name) => {
                self.name(name, None).unwrap_or_else(|| Value::unknown(format!("`{name}` is not known before a plan")))
            }
            ExprKind::Attribute(base, name) => {
                if let ExprKind::Variable(root) = &base.kind
                    && !self.is_bound(root)
                {
                    return self
                        .name(root, Some(name))
                        .unwrap_or_else(|| Value::unknown(format!("`{root}.{name}` is not known before a plan")));
                }
                if let Some(value) = self.deep(expr) {
                    return value;
                }
                attribute(&self.eval(base), name)
            }
            ExprKind::Index(base, index) => {
                let (base, index) = (self.eval(base), self.eval(index));
                element(&base, &index)
            }
            ExprKind::Splat(base, rest) => self.splat(base, rest),
            ExprKind::Conditional(condition, yes, no) => match self.eval(condition) {
                Value::Unknown(why) => {
                    // Both branches alike: the condition does not matter.
                    let (yes, no) = (self.eval(yes), self.eval(no));
                    if yes == no { yes } else { Value::Unknown(why) }
                }
                value => match value.as_bool() {
                    Some(true) => self.eval(yes),
                    Some(false) => self.eval(no),
                    None => Value::unknown("a condition is not a bool"),
                },
            },
            ExprKind::Call(name, arguments, expand) => self.call(name, arguments, *expand),
            ExprKind::Not(inner) => match self.eval(inner) {
                Value::Unknown(why) => Value::Unknown(why),
                value => value
                    .as_bool()
                    .map_or_else(|| Value::unknown("`!` of something that is no bool"), |b| Value::Bool(!b)),
            },
            ExprKind::Negative(inner) => match self.eval(inner) {
                Value::Unknown(why) => Value::Unknown(why),
                value => value
                    .as_number()
                    .map_or_else(|| Value::unknown("`-` of something that is no number"), |n| Value::Number(-n)),
            },
            ExprKind::Binary(left, operator, right) => {
                let (left, right) = (self.eval(left), self.eval(right));
                binary(&left, *operator, &right)
            }
            ExprKind::For(inner) => self.for_expression(inner),
        }
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|(bound, _)| bound == name)
    }

    fn name(&self, root: &str, name: Option<&str>) -> Option<Value> {
        match self.bound.iter().rev().find(|(bound, _)| bound == root) {
            Some((_, value)) => Some(value.clone()),
            None => self.scope.lookup(root, name),
        }
    }

    /// A traversal by names alone, as far as the scope can say it at once.
    fn deep(&self, expr: &Expr) -> Option<Value> {
        let mut names = Vec::new();
        let mut at = expr;
        while let ExprKind::Attribute(base, name) = &at.kind {
            names.push(name.as_str());
            at = base;
        }
        let ExprKind::Variable(root) = &at.kind else { return None };
        names.reverse();
        (!self.is_bound(root)).then(|| self.scope.deep(root, &names)).flatten()
    }

    fn template(&mut self, parts: &[Expr]) -> Value {
        // `"${x}"` keeps the type of x.
        if let [only] = parts {
            return self.eval(only);
        }
        let mut text = String::new();
        for part in parts {
            match self.eval(part) {
                Value::Unknown(why) => return Value::Unknown(why),
                value => match value.as_text() {
                    Some(part) => text.push_str(&part),
                    None => return Value::unknown("a template has a part that is no text"),
                },
            }
        }
        Value::string(text)
    }

    fn splat(&mut self, base: &Expr, rest: &[Access]) -> Value {
        let items = match self.eval(base) {
            Value::Unknown(why) => return Value::Unknown(why),
            Value::Null => Vec::new(),
            Value::List(items) => items,
            single => vec![single],
        };
        let mut out = Vec::with_capacity(items.len());
        for mut item in items {
            for access in rest {
                item = match access {
                    Access::Attribute(name) => attribute(&item, name),
                    Access::Index(index) => {
                        let index = self.eval(index);
                        element(&item, &index)
                    }
                };
            }
            out.push(item);
        }
        Value::List(out)
    }

    fn call(&mut self, name: &str, arguments: &[Expr], expand: bool) -> Value {
        match name {
            "try" => {
                let mut last = Value::unknown("no argument of try() could be evaluated");
                for argument in arguments {
                    let value = self.eval(argument);
                    match value {
                        // An error and something not known yet look the same from here.
                        Value::Unknown(why) => last = Value::Unknown(why),
                        value => {
                            return if !self.scope.is_final()
                                && matches!(last, Value::Unknown(ref w) if &**w != MISSING && !w.starts_with("no argument"))
                            {
                                last
                            } else {
                                value
                            };
                        }
                    }
                }
                return last;
            }
            "can" => {
                return match arguments.first().map(|a| self.eval(a)) {
                    Some(Value::Unknown(why)) if &*why == MISSING || self.scope.is_final() => Value::Bool(false),
                    Some(Value::Unknown(why)) => Value::Unknown(why),
                    Some(_) => Value::Bool(true),
                    None => Value::unknown("can() without an argument"),
                };
            }
            _ => {}
        }
        let mut values: Vec<Value> = arguments.iter().map(|a| self.eval(a)).collect();
        if expand {
            match values.pop() {
                Some(Value::List(items)) => values.extend(items),
                Some(Value::Unknown(why)) => return Value::Unknown(why),
                _ => return Value::unknown("`...` after something that is no list"),
            }
        }
        functions::call(name, &values, self.scope)
    }

    fn for_expression(&mut self, inner: &For) -> Value {
        let pairs: Vec<(Value, Value)> = match self.eval(&inner.collection) {
            Value::Unknown(why) => return Value::Unknown(why),
            Value::List(items) => items.into_iter().enumerate().map(|(i, v)| (Value::Number(i as f64), v)).collect(),
            Value::Object(object) => object.into_iter().map(|(k, v)| (Value::string(k), v)).collect(),
            _ => return Value::unknown("`for` over something that is no collection"),
        };
        let mut list = Vec::new();
        let mut object: BTreeMap<String, Value> = BTreeMap::new();
        for (key, value) in pairs {
            let depth = self.bound.len();
            if let Some(name) = &inner.key {
                self.bound.push((name.clone(), key));
            }
            self.bound.push((inner.value.clone(), value));
            let keep = match inner.condition.as_ref().map(|c| self.eval(c)) {
                None => Ok(true),
                Some(Value::Unknown(why)) => Err(why),
                Some(value) => value.as_bool().ok_or_else(|| "a `for` condition is no bool".into()),
            };
            let result = keep.and_then(|keep| {
                if !keep {
                    return Ok(());
                }
                let value = self.eval(&inner.result);
                let Some(key) = &inner.result_key else {
                    list.push(value);
                    return Ok(());
                };
                let key = match self.eval(key) {
                    Value::Unknown(why) => return Err(why),
                    key => key.as_text().ok_or_else(|| Arc::from("a `for` key is no string"))?.to_string(),
                };
                if inner.grouping {
                    match object.entry(key).or_insert_with(|| Value::List(Vec::new())) {
                        Value::List(group) => group.push(value),
                        _ => return Err("a `for` group is no list".into()),
                    }
                } else {
                    object.insert(key, value);
                }
                Ok(())
            });
            self.bound.truncate(depth);
            if let Err(why) = result {
                return Value::Unknown(why);
            }
        }
        if inner.result_key.is_some() { Value::Object(object) } else { Value::List(list) }
    }
}

/// Reason of an attribute or element that is certainly not there: an error in Terraform, which `try` and `can` may catch.
pub(crate) const MISSING: &str = "there is no such attribute or element";

fn attribute(base: &Value, name: &str) -> Value {
    match base {
        Value::Unknown(why) => Value::Unknown(why.clone()),
        Value::Object(object) => object.get(name).cloned().unwrap_or_else(|| Value::unknown(MISSING)),
        Value::List(items) => match name.parse::<usize>() {
            Ok(index) => items.get(index).cloned().unwrap_or_else(|| Value::unknown(MISSING)),
            Err(_) => Value::unknown(MISSING),
        },
        _ => Value::unknown(MISSING),
    }
}

fn element(base: &Value, index: &Value) -> Value {
    match (base, index) {
        (Value::Unknown(why), _) | (_, Value::Unknown(why)) => Value::Unknown(why.clone()),
        (Value::List(items), index) => match index.as_number() {
            Some(index) if index >= 0.0 => {
                items.get(index as usize).cloned().unwrap_or_else(|| Value::unknown(MISSING))
            }
            _ => Value::unknown(MISSING),
        },
        (base, index) => match index.as_text() {
            Some(name) => attribute(base, &name),
            None => Value::unknown(MISSING),
        },
    }
}

fn binary(left: &Value, operator: BinaryOperator, right: &Value) -> Value {
    use BinaryOperator as Op;
    let bools = (left.as_bool(), right.as_bool());
    match (operator, bools) {
        // One side decides, whatever the other is.
        (Op::And, (Some(false), _) | (_, Some(false))) => return Value::Bool(false),
        (Op::Or, (Some(true), _) | (_, Some(true))) => return Value::Bool(true),
        _ => {}
    }
    if let Some(why) = left.why_unknown().or_else(|| right.why_unknown()) {
        return Value::Unknown(why);
    }
    match operator {
        Op::Eq => return Value::Bool(left == right),
        Op::NotEq => return Value::Bool(left != right),
        Op::And | Op::Or => {
            return match bools {
                (Some(a), Some(b)) => Value::Bool(if operator == Op::And { a && b } else { a || b }),
                _ => Value::unknown("a logical operator on something that is no bool"),
            };
        }
        _ => {}
    }
    let (Some(a), Some(b)) = (left.as_number(), right.as_number()) else {
        return Value::unknown("arithmetic on something that is no number");
    };
    match operator {
        Op::Plus => Value::Number(a + b),
        Op::Minus => Value::Number(a - b),
        Op::Mul => Value::Number(a * b),
        Op::Div if b != 0.0 => Value::Number(a / b),
        Op::Mod if b != 0.0 => Value::Number(a % b),
        Op::Less => Value::Bool(a < b),
        Op::LessEq => Value::Bool(a <= b),
        Op::Greater => Value::Bool(a > b),
        Op::GreaterEq => Value::Bool(a >= b),
        _ => Value::unknown("division by zero"),
    }
}

#[cfg(test)]
mod tests;
