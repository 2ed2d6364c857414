//! `stack.aws/network[tokyo]` in expressions. The grammar reads a division; a division whose leftmost operand begins with `stack`
//! is a reference to a stack and stands for its path as text, wherever it is.

use crate::terraform::syntax::{Access, Body, Expr, ExprKind, For, Range};
use hcl_edit::expr::BinaryOperator;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

/// Replaces the references in all expressions of a file by what they stand for.
pub(super) fn resolve(path: &Arc<str>, text: &str, body: &mut Body, diagnostics: &mut Vec<Diagnostic>) {
    Resolver { path, text, bound: Vec::new(), diagnostics }.body(body);
}

/// The same in one expression, `text`.
pub(crate) fn resolve_expression(path: &Arc<str>, text: &str, expr: &mut Expr, diagnostics: &mut Vec<Diagnostic>) {
    Resolver { path, text, bound: Vec::new(), diagnostics }.expr(expr);
}

/// A reference that the grammar cannot read at all, around the byte where it gave up.
pub(super) fn unreadable(path: &Arc<str>, text: &str, at: usize) -> Option<Diagnostic> {
    let is_path = |c: char| c.is_alphanumeric() || "-_./".contains(c);
    let before = text.get(..at)?;
    let start = before.len() - before.chars().rev().take_while(|c| is_path(*c)).map(char::len_utf8).sum::<usize>();
    let end = at + text.get(at..)?.chars().take_while(|c| is_path(*c)).map(char::len_utf8).sum::<usize>();
    let found = text.get(start..end)?;
    // Anything else at this place is another mistake.
    let rest = found.strip_prefix("stack.")?;
    rest.split(['/', '.']).find(|part| part.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(mistake(path, text, Range { start: start as u32, end: end as u32 }))
}

fn mistake(path: &Arc<str>, text: &str, range: Range) -> Diagnostic {
    let (start, end) = (range.start as usize, range.end as usize);
    let written: String = text.get(start..end).unwrap_or_default().split_whitespace().collect();
    Diagnostic::error("WL112", format!("`{written}` cannot be read as a reference to a stack"))
        .at_source(Span::of(path, text, start, end), text, "this path is no name to the grammar")
        .help(format!("write `stack[\"{}\"]`", meant(&written)))
}

/// The path that was probably meant.
fn meant(written: &str) -> String {
    written.strip_prefix("stack").unwrap_or(written).trim_start_matches('.').replace('"', "")
}

struct Resolver<'a> {
    path: &'a Arc<str>,
    text: &'a str,
    /// Names bound by the `for` expressions around.
    bound: Vec<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn body(&mut self, body: &mut Body) {
        body.attributes.iter_mut().for_each(|attribute| self.expr(&mut attribute.value));
        body.blocks.iter_mut().for_each(|block| self.body(&mut block.body));
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|bound| bound == name)
    }

    fn slice(&self, range: Range) -> &str {
        self.text.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    fn expr(&mut self, expr: &mut Expr) {
        if self.is_rooted(expr, "stack") {
            if let Some(parts) = self.parts(expr) {
                expr.kind = joined(parts, expr.range);
                self.inner(expr);
            } else if !matches!(expr.kind, ExprKind::Variable(_)) {
                self.diagnostics.push(mistake(self.path, self.text, expr.range));
                let written: String = self.slice(expr.range).split_whitespace().collect();
                // As if it were right: one mistake is told once.
                expr.kind = ExprKind::String(meant(&written));
            }
            return;
        }
        // `team["x"]` is `team.x`, for any text.
        if let ExprKind::Index(base, index) = &expr.kind
            && matches!(&base.kind, ExprKind::Variable(root) if root == "team")
            && !self.is_bound("team")
        {
            expr.kind = index.kind.clone();
        }
        self.inner(expr);
    }

    /// It is a traversal from `root`, or arithmetic whose leftmost operand is one.
    fn is_rooted(&self, expr: &Expr, root: &str) -> bool {
        match &expr.kind {
            ExprKind::Variable(name) => name == root && !self.is_bound(root),
            ExprKind::Attribute(base, _) | ExprKind::Index(base, _) | ExprKind::Splat(base, _) => {
                self.is_rooted(base, root)
            }
            ExprKind::Binary(left, operator, _) => is_arithmetic(*operator) && self.is_rooted(left, root),
            _ => false,
        }
    }

    /// The text of a reference in parts; `None` for what is no path, with an instance at most at its end.
    fn parts(&self, expr: &Expr) -> Option<Vec<Expr>> {
        // To the grammar, the brackets belong to the last name.
        if let ExprKind::Binary(left, BinaryOperator::Div, right) = &expr.kind
            && let Some((right, index)) = self.instance(right)
        {
            let mut parts = self.stack(left)?;
            parts.push(literal(format!("/{}", self.segment(right)?), right.range));
            return Some(self.with_instance(parts, index));
        }
        match self.instance(expr) {
            Some((base, index)) if !matches!(base.kind, ExprKind::Variable(_)) => {
                Some(self.with_instance(self.stack(base)?, index))
            }
            _ => self.stack(expr),
        }
    }

    fn with_instance(&self, mut parts: Vec<Expr>, index: &Expr) -> Vec<Expr> {
        let index = match &index.kind {
            // A bare name is itself, unless it is a variable of a `for`.
            ExprKind::Variable(name) if !self.is_bound(name) => literal(name.clone(), index.range),
            _ => index.clone(),
        };
        let range = index.range;
        parts.extend([literal("[".into(), range), index, literal("]".into(), range)]);
        parts
    }

    /// `base[index]`, but not `base.0`.
    fn instance<'e>(&self, expr: &'e Expr) -> Option<(&'e Expr, &'e Expr)> {
        let ExprKind::Index(base, index) = &expr.kind else { return None };
        (!self.is_legacy(expr, base)).then_some((base, index))
    }

    /// What comes after the base of an index is `.0`.
    fn is_legacy(&self, expr: &Expr, base: &Expr) -> bool {
        self.slice(Range { start: base.range.end, end: expr.range.end }).trim_start().starts_with('.')
    }

    /// The path of a stack, without an instance.
    fn stack(&self, expr: &Expr) -> Option<Vec<Expr>> {
        match &expr.kind {
            ExprKind::Attribute(base, name) if matches!(base.kind, ExprKind::Variable(_)) => {
                Some(vec![literal(name.clone(), expr.range)])
            }
            ExprKind::Index(base, index) if matches!(base.kind, ExprKind::Variable(_)) => {
                Some(vec![if self.is_legacy(expr, base) { self.after_dot(expr, base)? } else { (**index).clone() }])
            }
            ExprKind::Attribute(base, name) => {
                let mut parts = self.stack(base)?;
                parts.push(literal(format!(".{name}"), expr.range));
                Some(parts)
            }
            ExprKind::Index(base, _) if self.is_legacy(expr, base) => {
                let mut parts = self.stack(base)?;
                let number = self.after_dot(expr, base)?;
                parts.push(literal(format!(".{}", number.literal()?), expr.range));
                Some(parts)
            }
            ExprKind::Binary(left, BinaryOperator::Div, right) => {
                let mut parts = self.stack(left)?;
                parts.push(literal(format!("/{}", self.segment(right)?), right.range));
                Some(parts)
            }
            _ => None,
        }
    }

    /// The digits of `base.0`, as they are written.
    fn after_dot(&self, expr: &Expr, base: &Expr) -> Option<Expr> {
        let digits = self.slice(Range { start: base.range.end, end: expr.range.end }).trim().strip_prefix('.')?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| literal(digits.to_owned(), expr.range))
    }

    /// What may stand behind a `/`: a name with dots in it, or a number.
    fn segment(&self, expr: &Expr) -> Option<String> {
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
        match &expr.kind {
            ExprKind::Variable(_) | ExprKind::Attribute(..) | ExprKind::Index(..) | ExprKind::Number(_) => {
                let text = self.slice(expr.range).trim();
                plain(text).then(|| text.to_owned())
            }
            // Names to the grammar, and to nobody else.
            ExprKind::Null => Some("null".into()),
            ExprKind::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    fn inner(&mut self, expr: &mut Expr) {
        match &mut expr.kind {
            ExprKind::Template(parts)
            | ExprKind::Directive(parts)
            | ExprKind::List(parts)
            | ExprKind::Call(_, parts, _) => parts.iter_mut().for_each(|part| self.expr(part)),
            ExprKind::Object(items) => items.iter_mut().for_each(|(key, value)| {
                self.expr(key);
                self.expr(value);
            }),
            ExprKind::Attribute(base, _) | ExprKind::Not(base) | ExprKind::Negative(base) => self.expr(base),
            ExprKind::Index(base, index) | ExprKind::Binary(base, _, index) => {
                self.expr(base);
                self.expr(index);
            }
            ExprKind::Splat(base, rest) => {
                self.expr(base);
                for access in rest {
                    if let Access::Index(index) = access {
                        self.expr(index);
                    }
                }
            }
            ExprKind::Conditional(a, b, c) => [a, b, c].into_iter().for_each(|part| self.expr(part)),
            ExprKind::For(inner) => {
                let For { key, value, collection, result_key, result, condition, .. } = inner.as_mut();
                self.expr(collection);
                let outside = self.bound.len();
                self.bound.extend(key.iter().chain([&*value]).cloned());
                result_key.iter_mut().chain([result]).chain(condition).for_each(|part| self.expr(part));
                self.bound.truncate(outside);
            }
            ExprKind::Null | ExprKind::Bool(_) | ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Variable(_) => {}
        }
    }
}

fn is_arithmetic(operator: BinaryOperator) -> bool {
    use BinaryOperator::{Div, Minus, Mod, Mul, Plus};
    matches!(operator, Div | Minus | Mod | Mul | Plus)
}

fn literal(text: String, range: Range) -> Expr {
    Expr { kind: ExprKind::String(text), range }
}

/// One text where it is known, else a template.
fn joined(parts: Vec<Expr>, range: Range) -> ExprKind {
    let mut out: Vec<Expr> = Vec::new();
    for part in parts {
        match (out.last_mut(), part) {
            (Some(Expr { kind: ExprKind::String(text), .. }), Expr { kind: ExprKind::String(more), .. }) => {
                text.push_str(&more);
            }
            (_, part) => out.push(part),
        }
    }
    match out.len() {
        1 => out.swap_remove(0).kind,
        // A template of one part keeps the part's type; two parts are always text.
        _ => ExprKind::Template(if out.is_empty() { vec![literal(String::new(), range)] } else { out }),
    }
}
