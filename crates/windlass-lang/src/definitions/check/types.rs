//! Types of expressions. What cannot be said is [`Type::Any`], which goes with everything: a mistake is told only where it is one.

use crate::eval::number_text;
use crate::expression::Parsed;
use crate::terraform::syntax::{Access, Expr, ExprKind, For};
use hcl_edit::expr::BinaryOperator;
use std::collections::BTreeMap;
use windlass_model::diagnostic::Span;

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Any,
    Null,
    Bool,
    Number,
    Text,
    List(Box<Type>),
    /// One whose keys are not known, and what they have in common.
    Map(Box<Type>),
    /// One whose keys are known.
    Object(BTreeMap<String, Type>),
}

impl Type {
    pub fn list(item: Type) -> Self {
        Self::List(Box::new(item))
    }

    pub fn of(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(_) => Self::Bool,
            serde_json::Value::Number(_) => Self::Number,
            serde_json::Value::String(_) => Self::Text,
            serde_json::Value::Array(items) => Self::list(items.iter().map(Self::of).reduce(join).unwrap_or(Self::Any)),
            serde_json::Value::Object(object) => {
                Self::Object(object.iter().map(|(name, value)| (name.clone(), Self::of(value))).collect())
            }
        }
    }

    /// For messages, with its article.
    fn name(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "a bool",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Object(_) => "an object",
        }
    }

    /// It can stand in a text.
    fn is_text(&self) -> bool {
        matches!(self, Self::Any | Self::Bool | Self::Number | Self::Text)
    }

    /// What a member of it is; `None` when it has none.
    pub fn member(&self) -> Option<Type> {
        match self {
            Self::Any => Some(Self::Any),
            Self::List(item) | Self::Map(item) => Some((**item).clone()),
            Self::Object(items) => Some(items.values().cloned().reduce(join).unwrap_or(Self::Any)),
            _ => None,
        }
    }
}

/// What both are.
fn join(a: Type, b: Type) -> Type {
    match (a, b) {
        (a, b) if a == b => a,
        (Type::Null, other) | (other, Type::Null) => other,
        (Type::List(a), Type::List(b)) => Type::list(join(*a, *b)),
        _ => Type::Any,
    }
}

/// What an expression has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Any,
    Text,
    Texts,
    Bool,
    List,
    /// A list or an object.
    Members,
    /// A list of texts, or an object of them.
    Choices,
}

impl Want {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Text => "a text",
            Self::Texts => "a list of texts, e.g. [\"x\", param.y]",
            Self::Bool => "a bool, e.g. param.x == \"y\"",
            Self::List => "a list",
            Self::Members => "a list or an object",
            Self::Choices => "a list of texts, or an object of texts by what is shown",
        }
    }

    fn is_met(self, found: &Type) -> bool {
        match (self, found) {
            (Self::Any, _) | (_, Type::Any) => true,
            (Self::Text, found) => found.is_text(),
            (Self::Texts | Self::Choices, Type::List(item)) => item.is_text(),
            (Self::Bool, found) => *found == Type::Bool,
            (Self::List | Self::Members, Type::List(_)) => true,
            (Self::Members, Type::Map(_) | Type::Object(_)) => true,
            (Self::Choices, Type::Map(item)) => item.is_text(),
            (Self::Choices, Type::Object(items)) => items.values().all(Type::is_text),
            _ => false,
        }
    }
}

/// Something wrong in an expression.
#[derive(Debug)]
pub struct Wrong {
    pub code: &'static str,
    pub span: Span,
    pub summary: String,
    pub help: String,
}

/// What a call gives.
#[derive(Debug, Clone, Copy)]
enum Gives {
    Text,
    Bool,
    Number,
    Texts,
    Numbers,
    /// A list of anything.
    List,
    Any,
    /// What its first argument is.
    Same,
}

/// The functions that are evaluated. Those that read files of the repository are not: a run has none before it begins.
const FUNCTIONS: [(&str, Gives); 61] = [
    ("abs", Gives::Number),
    ("alltrue", Gives::Bool),
    ("anytrue", Gives::Bool),
    ("basename", Gives::Text),
    ("can", Gives::Bool),
    ("ceil", Gives::Number),
    ("chomp", Gives::Text),
    ("coalesce", Gives::Any),
    ("coalescelist", Gives::List),
    ("compact", Gives::List),
    ("concat", Gives::List),
    ("contains", Gives::Bool),
    ("dirname", Gives::Text),
    ("distinct", Gives::Same),
    ("element", Gives::Any),
    ("endswith", Gives::Bool),
    ("ephemeralasnull", Gives::Same),
    ("flatten", Gives::List),
    ("floor", Gives::Number),
    ("format", Gives::Text),
    ("formatlist", Gives::Texts),
    ("index", Gives::Number),
    ("join", Gives::Text),
    ("jsondecode", Gives::Any),
    ("jsonencode", Gives::Text),
    ("keys", Gives::Texts),
    ("length", Gives::Number),
    ("lookup", Gives::Any),
    ("lower", Gives::Text),
    ("max", Gives::Number),
    ("merge", Gives::Any),
    ("min", Gives::Number),
    ("nonsensitive", Gives::Same),
    ("one", Gives::Any),
    ("pathexpand", Gives::Text),
    ("range", Gives::Numbers),
    ("replace", Gives::Text),
    ("reverse", Gives::Same),
    ("sensitive", Gives::Same),
    ("slice", Gives::Same),
    ("sort", Gives::Texts),
    ("split", Gives::Texts),
    ("startswith", Gives::Bool),
    ("strcontains", Gives::Bool),
    ("strrev", Gives::Text),
    ("substr", Gives::Text),
    ("title", Gives::Text),
    ("tobool", Gives::Bool),
    ("tolist", Gives::Same),
    ("tomap", Gives::Same),
    ("tonumber", Gives::Number),
    ("toset", Gives::Same),
    ("tostring", Gives::Text),
    ("trim", Gives::Text),
    ("trimprefix", Gives::Text),
    ("trimspace", Gives::Text),
    ("trimsuffix", Gives::Text),
    ("try", Gives::Any),
    ("upper", Gives::Text),
    ("values", Gives::List),
    ("zipmap", Gives::Any),
];

/// Types of what an expression may name, by root.
pub type Roots = BTreeMap<&'static str, Type>;

/// Every root that there is anywhere.
const ROOTS: [&str; 10] = ["param", "step", "each", "secret", "run", "trigger", "failure", "output", "local", "team"];
/// Roots whose names are texts wherever they stand.
const NAMES: [&str; 5] = ["team", "notifier", "template", "service", "host_set"];

/// Checks that an expression is what is wanted.
pub fn check(parsed: &Parsed, roots: &Roots, want: Want, out: &mut Vec<Wrong>) -> Type {
    let before = out.len();
    let mut types = Types { parsed, roots, bound: Vec::new(), out };
    let found = types.infer(parsed.expr());
    if !want.is_met(&found) && types.out.len() == before {
        types.wrong(
            parsed.expr(),
            "WL123",
            |written| format!("`{written}` is {}", found.name()),
            format!("it has to be {}", want.name()),
        );
    }
    found
}

struct Types<'a> {
    parsed: &'a Parsed,
    roots: &'a Roots,
    /// Names that `for` expressions around bind.
    bound: Vec<(String, Type)>,
    out: &'a mut Vec<Wrong>,
}

impl Types<'_> {
    fn wrong(&mut self, expr: &Expr, code: &'static str, what: impl FnOnce(&str) -> String, help: String) {
        let summary = what(self.parsed.slice(expr.range));
        self.out.push(Wrong { code, span: self.parsed.place(expr.range), summary, help });
    }

    fn want(&mut self, expr: &Expr, found: &Type, is_right: bool, want: &str) {
        if !is_right && *found != Type::Any {
            let name = found.name();
            self.wrong(expr, "WL123", |written| format!("`{written}` is {name}"), format!("it has to be {want} here"));
        }
    }

    fn infer(&mut self, expr: &Expr) -> Type {
        match &expr.kind {
            ExprKind::Null => Type::Null,
            ExprKind::Bool(_) => Type::Bool,
            ExprKind::Number(_) => Type::Number,
            ExprKind::String(_) => Type::Text,
            ExprKind::Template(parts) if parts.len() == 1 => self.infer(&parts[0]),
            ExprKind::Template(parts) => {
                for part in parts {
                    let found = self.infer(part);
                    self.want(part, &found, found.is_text(), "a text");
                }
                Type::Text
            }
            ExprKind::Directive(_) => {
                let help = "use a conditional, `a ? b : c`, or `join` with a `for` expression".to_owned();
                self.wrong(expr, "WL123", |_| "template directives are not evaluated".to_owned(), help);
                Type::Text
            }
            ExprKind::List(items) => {
                let items: Vec<Type> = items.iter().map(|item| self.infer(item)).collect();
                // A list with an item that is no text is none of texts, whatever the others are.
                match items.iter().find(|item| !item.is_text()) {
                    Some(odd) => Type::list(odd.clone()),
                    None => Type::list(items.into_iter().reduce(join).unwrap_or(Type::Any)),
                }
            }
            ExprKind::Object(items) => {
                let mut object = BTreeMap::new();
                let mut is_known = true;
                for (key, value) in items {
                    let of_key = self.infer(key);
                    self.want(key, &of_key, of_key.is_text(), "a text");
                    let value = self.infer(value);
                    match key.literal() {
                        Some(key) => drop(object.insert(key.to_owned(), value)),
                        None => is_known = false,
                    }
                }
                if is_known { Type::Object(object) } else { Type::Map(Box::new(Type::Any)) }
            }
            ExprKind::Variable(name) => self.root(expr, name),
            ExprKind::Attribute(base, name) => match &base.kind {
                ExprKind::Variable(root) if NAMES.contains(&root.as_str()) && !self.is_bound(root) => Type::Text,
                _ => {
                    let of = self.infer(base);
                    self.attribute(expr, base, of, name)
                }
            },
            ExprKind::Index(base, index) => {
                let (of, by) = (self.infer(base), self.infer(index));
                match (&of, &index.kind) {
                    (Type::Object(_), ExprKind::String(name)) => self.attribute(expr, base, of, name),
                    (Type::Object(_), ExprKind::Number(number)) => {
                        self.attribute(expr, base, of, &number_text(*number))
                    }
                    (Type::List(item), _) => {
                        self.want(index, &by, by == Type::Number, "a number");
                        (**item).clone()
                    }
                    _ => of.member().unwrap_or_else(|| {
                        self.want(base, &of, false, "a list or an object");
                        Type::Any
                    }),
                }
            }
            ExprKind::Splat(base, rest) => {
                let of = self.infer(base);
                let mut item = of.member().filter(|_| matches!(of, Type::List(_))).unwrap_or(Type::Any);
                for access in rest {
                    item = match access {
                        Access::Attribute(name) => self.attribute(expr, base, item, name),
                        Access::Index(index) => {
                            self.infer(index);
                            Type::Any
                        }
                    };
                }
                Type::list(item)
            }
            ExprKind::Conditional(condition, yes, no) => {
                let found = self.infer(condition);
                self.want(condition, &found, found == Type::Bool, "a bool");
                let (yes, no) = (self.infer(yes), self.infer(no));
                join(yes, no)
            }
            ExprKind::Call(name, arguments, _) => self.call(expr, name, arguments),
            ExprKind::Not(inner) => {
                let found = self.infer(inner);
                self.want(inner, &found, found == Type::Bool, "a bool");
                Type::Bool
            }
            ExprKind::Negative(inner) => {
                let found = self.infer(inner);
                self.want(inner, &found, found == Type::Number, "a number");
                Type::Number
            }
            ExprKind::Binary(left, operator, right) => self.binary(expr, left, *operator, right),
            ExprKind::For(inner) => self.for_expression(inner),
        }
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|(bound, _)| bound == name)
    }

    fn root(&mut self, expr: &Expr, name: &str) -> Type {
        if let Some((_, found)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return found.clone();
        }
        if let Some(found) = self.roots.get(name) {
            return found.clone();
        }
        let help = match name {
            "each" => "it is for steps within an `each` block".to_owned(),
            "secret" => "secrets are for what a step does, for the keys of triggers and for notifiers".to_owned(),
            "step" => "it is for steps, once an earlier one has ended".to_owned(),
            "trigger" => "it is for the condition and the arguments of a `trigger`".to_owned(),
            "failure" => "it is for `undo`, `on_failure` and `on_cancel`".to_owned(),
            "output" => "it is for the gates of a `wait`".to_owned(),
            _ => match crate::suggest(name, ROOTS.into_iter()).filter(|near| *near != name) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("here are {}", self.roots.keys().copied().collect::<Vec<_>>().join(", ")),
            },
        };
        let known = ROOTS.contains(&name);
        let what = if known { "cannot be used here" } else { "is not known" };
        self.wrong(expr, "WL120", |_| format!("`{name}` {what}"), help);
        Type::Any
    }

    fn attribute(&mut self, expr: &Expr, base: &Expr, of: Type, name: &str) -> Type {
        match of {
            Type::Object(mut items) => {
                if let Some(found) = items.remove(name) {
                    return found;
                }
                let of = self.parsed.slice(base.range).to_owned();
                let known: Vec<&str> = items.keys().map(String::as_str).collect();
                let help = match crate::suggest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{of}.{near}`?"),
                    None if known.is_empty() => format!("there is nothing in `{of}` here"),
                    None => format!("there are {}", known.join(", ")),
                };
                self.wrong(expr, "WL120", |_| format!("`{of}` has no `{name}`"), help);
                Type::Any
            }
            Type::Any => Type::Any,
            Type::Map(item) => *item,
            // `list.0`
            Type::List(item) if name.bytes().all(|b| b.is_ascii_digit()) => *item,
            found => {
                self.want(base, &found, false, "an object");
                Type::Any
            }
        }
    }

    fn call(&mut self, expr: &Expr, name: &str, arguments: &[Expr]) -> Type {
        // What they catch is no mistake.
        let is_caught = matches!(name, "try" | "can");
        let before = self.out.len();
        let found: Vec<Type> = arguments.iter().map(|argument| self.infer(argument)).collect();
        if is_caught {
            let mut at = 0;
            self.out.retain(|wrong| {
                at += 1;
                at <= before || wrong.code != "WL120"
            });
        }
        let Some((_, gives)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            let help = match crate::suggest(name, FUNCTIONS.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "they are listed in the documentation of Windlass files, under Expressions".to_owned(),
            };
            self.wrong(expr, "WL120", |_| format!("there is no function `{name}` here"), help);
            return Type::Any;
        };
        match gives {
            Gives::Text => Type::Text,
            Gives::Bool => Type::Bool,
            Gives::Number => Type::Number,
            Gives::Texts => Type::list(Type::Text),
            Gives::Numbers => Type::list(Type::Number),
            Gives::List => {
                let lists = found.into_iter().map(|list| match list {
                    Type::List(item) if name != "flatten" => *item,
                    _ => Type::Any,
                });
                Type::list(lists.reduce(join).unwrap_or(Type::Any))
            }
            Gives::Any => Type::Any,
            Gives::Same => found.into_iter().next().unwrap_or(Type::Any),
        }
    }

    fn binary(&mut self, expr: &Expr, left: &Expr, operator: BinaryOperator, right: &Expr) -> Type {
        use BinaryOperator as Op;
        let (a, b) = (self.infer(left), self.infer(right));
        match operator {
            Op::Eq | Op::NotEq => {
                let is_other = |a: &Type, b: &Type| {
                    !matches!((a, b), (Type::Any | Type::Null, _) | (_, Type::Any | Type::Null)) && a.name() != b.name()
                };
                if is_other(&a, &b) {
                    let help = "compare values of one type: `tostring`, `tonumber` and quotes change it".to_owned();
                    let (a, b) = (a.name(), b.name());
                    self.wrong(expr, "WL123", |_| format!("{a} is never equal to {b}"), help);
                }
                Type::Bool
            }
            Op::And | Op::Or => {
                for (side, found) in [(left, a), (right, b)] {
                    self.want(side, &found, found == Type::Bool, "a bool");
                }
                Type::Bool
            }
            Op::Less | Op::LessEq | Op::Greater | Op::GreaterEq => {
                for (side, found) in [(left, a), (right, b)] {
                    self.want(side, &found, found == Type::Number, "a number");
                }
                Type::Bool
            }
            Op::Plus | Op::Minus | Op::Mul | Op::Div | Op::Mod => {
                for (side, found) in [(left, a), (right, b)] {
                    self.want(side, &found, found == Type::Number, "a number");
                }
                Type::Number
            }
        }
    }

    fn for_expression(&mut self, inner: &For) -> Type {
        let of = self.infer(&inner.collection);
        let item = of.member().unwrap_or_else(|| {
            self.want(&inner.collection, &of, false, "a list or an object");
            Type::Any
        });
        let outside = self.bound.len();
        if let Some(key) = &inner.key {
            let of_key = match of {
                Type::List(_) => Type::Number,
                Type::Map(_) | Type::Object(_) => Type::Text,
                _ => Type::Any,
            };
            self.bound.push((key.clone(), of_key));
        }
        self.bound.push((inner.value.clone(), item));
        if let Some(condition) = &inner.condition {
            let found = self.infer(condition);
            self.want(condition, &found, found == Type::Bool, "a bool");
        }
        if let Some(key) = &inner.result_key {
            let found = self.infer(key);
            self.want(key, &found, found.is_text(), "a text");
        }
        let result = self.infer(&inner.result);
        self.bound.truncate(outside);
        match (&inner.result_key, inner.grouping) {
            (None, _) => Type::list(result),
            (Some(_), false) => Type::Map(Box::new(result)),
            (Some(_), true) => Type::Map(Box::new(Type::list(result))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_model::operation::Expression;

    /// With too few, too many and senseless arguments.
    #[test]
    fn no_function_panics() {
        let values =
            ["null", "-1", "1e300", "true", "\"\"", "\"%99999999999dé%s\"", "[]", "[1, \"b\", null]", "{ a = 1 }"];
        let evaluate = |arguments: &[&str]| {
            for (name, _) in FUNCTIONS {
                let text = format!("{name}({})", arguments.join(", "));
                let span = Span::file("w.hcl");
                let scope = crate::expression::Scope::default();
                let found = crate::expression::evaluate(&Expression { text: text.clone(), span }, &scope);
                assert!(found.is_ok() || found.is_err_and(|error| !error.to_string().is_empty()), "{text}");
            }
        };
        evaluate(&[]);
        for a in values {
            evaluate(&[a]);
            for b in values {
                evaluate(&[a, b]);
                values[..6].iter().for_each(|c| evaluate(&[a, b, c]));
            }
        }
    }

    #[test]
    fn the_functions_are_documented() {
        let page = include_str!("../../../../../docs/windlass-files.md");
        for (name, _) in FUNCTIONS {
            assert!(page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}(")), "{name}");
        }
        assert!(FUNCTIONS.is_sorted_by_key(|(name, _)| *name));
    }
}
