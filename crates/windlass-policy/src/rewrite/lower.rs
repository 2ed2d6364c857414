//! Statements the way the engine evaluates them as OPA does. What OPA evaluates before a statement becomes a statement of its own
//! before it, on the same line: `walk`, and the operands of a negated call.

use super::host;
use crate::syntax::tree::*;
use crate::syntax::visit;
use std::collections::{BTreeMap, BTreeSet};

/// Constants nested deeper or with more members than this are handed over as values: the engine's parser takes exponential time.
const DEEP_CONSTANT: usize = 3;
const LARGE_CONSTANT: usize = 64;
/// Other literals and comprehensions nested deeper than this are given a name first.
const DEEP_LITERAL: usize = 5;

pub struct Lowering<'a> {
    /// Names and arities of builtins, to know `f(a, out)` by its number of operands.
    pub builtins: &'a BTreeMap<&'static str, u8>,
    /// Number of parameters by full path of a function.
    pub functions: &'a BTreeMap<Vec<String>, usize>,
    /// OPA's default: operands of a negated call are evaluated outside of the negation.
    pub operands_outside_not: bool,
    /// A failing operator is undefined instead of an error.
    pub lenient: bool,
    /// The constants that were lifted, by number.
    pub constants: Vec<Term>,
    /// Large constants are handed over as values; not those of a query, which has no place for them.
    pub lifts: bool,
    pub rule_chain: Vec<Term>,
    /// First keys of all rules' paths.
    pub roots: BTreeSet<String>,
    /// Builtins that are called through functions which stand for them.
    pub replaced: BTreeSet<String>,
    names: usize,
}

impl<'a> Lowering<'a> {
    pub fn new(builtins: &'a BTreeMap<&'static str, u8>, functions: &'a BTreeMap<Vec<String>, usize>) -> Self {
        Self {
            builtins,
            functions,
            operands_outside_not: true,
            lenient: false,
            constants: Vec::new(),
            lifts: true,
            rule_chain: Vec::new(),
            replaced: BTreeSet::new(),
            roots: BTreeSet::new(),
            names: 0,
        }
    }

    fn fresh(&mut self, loc: Loc) -> Term {
        self.names += 1;
        Term::var(format!("__w{}", self.names), loc)
    }

    /// Gives `term` a name in a statement of its own.
    fn name(&mut self, term: Term, withs: &[With], before: &mut Vec<Stmt>) -> Term {
        let name = self.fresh(term.loc);
        let loc = term.loc;
        before.push(Stmt { kind: StmtKind::Assign(name.clone(), term), withs: withs.to_vec(), loc });
        name
    }

    pub fn rule(&mut self, rule: &mut Rule) {
        if rule.default {
            rule.head.value.iter_mut().for_each(|value| self.constant(value));
            return;
        }
        let mut first = Vec::new();
        if let Some(params) = &mut rule.head.params {
            let mut seen = BTreeSet::new();
            for param in params {
                self.parameter(param, &mut seen, &mut first);
            }
        }
        for other in &mut rule.elses {
            let mut body = first.clone();
            body.extend(other.body.take().unwrap_or_default());
            self.body(&mut body);
            let mut value = other.value.take();
            value.iter_mut().for_each(|value| self.output(value, &mut body));
            other.value = value;
            other.body = (!body.is_empty()).then_some(body);
        }
        let mut body = first;
        body.extend(rule.body.take().unwrap_or_default());
        self.body(&mut body);
        let head = &mut rule.head;
        for arg in &mut head.path {
            if let Arg::Bracket(term) = arg {
                self.output(term, &mut body);
            }
        }
        for term in head.key.iter_mut().chain(&mut head.value) {
            self.output(term, &mut body);
        }
        rule.body = (!body.is_empty()).then_some(body);
    }

    /// A parameter that is no plain pattern, or a variable for the second time, is compared in the body.
    fn parameter(&mut self, term: &mut Term, seen: &mut BTreeSet<String>, first: &mut Vec<Stmt>) {
        match &mut term.kind {
            TermKind::Var(name) if name == "_" || seen.insert(name.clone()) => {}
            TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_) => {}
            TermKind::Array(items) => items.iter_mut().for_each(|item| self.parameter(item, seen, first)),
            TermKind::Object(items) => {
                items.iter_mut().for_each(|(_, value)| self.parameter(value, seen, first));
                self.objects(term, first);
            }
            _ => {
                let loc = term.loc;
                let name = self.fresh(loc);
                let wanted = std::mem::replace(term, name.clone());
                first.push(Stmt { kind: StmtKind::Expr(infix(Op::Eq, name, wanted)), withs: Vec::new(), loc });
            }
        }
    }

    /// What a rule or comprehension gives: anything but a name or a constant is evaluated at the end of its body, so that an undefined
    /// one ends the body.
    fn output(&mut self, term: &mut Term, body: &mut Vec<Stmt>) {
        let mut before = Vec::new();
        self.term(term, &[], &mut before, 0);
        body.append(&mut before);
        let plain = match &term.kind {
            TermKind::Var(name) => name != "_",
            TermKind::ArrayCompr(..) | TermKind::SetCompr(..) | TermKind::ObjectCompr(..) => true,
            _ => term.is_constant(),
        };
        if !plain {
            let value = std::mem::replace(term, Term::new(TermKind::Null, term.loc));
            *term = self.name(value, &[], body);
        }
    }

    pub fn body(&mut self, body: &mut Vec<Stmt>) {
        let mut out = Vec::with_capacity(body.len());
        for mut statement in body.drain(..) {
            // Names are unique by now, and the engine takes a declaration within a loop for a second one.
            if matches!(statement.kind, StmtKind::Some(_)) {
                continue;
            }
            let mut before = Vec::new();
            for with in &mut statement.withs {
                // Evaluated without the replacements.
                self.term(&mut with.value, &[], &mut before, 0);
                self.stand_in(&mut with.target);
                self.stand_in(&mut with.value);
                // The engine forgets the rules that it evaluates for a value.
                if !self.is_function(&with.value)
                    && !matches!(with.value.kind, TermKind::Var(_))
                    && !with.value.is_constant()
                {
                    let value = std::mem::replace(&mut with.value, Term::new(TermKind::Null, with.loc));
                    with.value = self.name(value, &[], &mut before);
                }
            }
            let withs = statement.withs.clone();
            let mut after = Vec::new();
            self.kind(&mut statement.kind, &withs, &mut before, &mut after);
            out.append(&mut before);
            out.push(statement);
            out.append(&mut after);
        }
        *body = out;
    }

    fn kind(&mut self, kind: &mut StmtKind, withs: &[With], before: &mut Vec<Stmt>, after: &mut Vec<Stmt>) {
        match kind {
            StmtKind::Expr(term) => {
                if let Some((result, call)) = self.result_operand(term) {
                    *kind = StmtKind::Unify(result, call);
                    return self.kind(kind, withs, before, after);
                }
                self.top(term, withs, before);
                // The engine reads what a statement begins with twice, which would be exponential in nested comprehensions.
                let lead = leading(term);
                if holds_comprehension(lead) {
                    let value = std::mem::replace(lead, Term::new(TermKind::Null, lead.loc));
                    let name = self.name(value, withs, before);
                    *leading(term) = name;
                }
            }
            StmtKind::Unify(left, right) if !is_pattern(left) && !is_pattern(right) || is_own_key(left, right) => {
                if matches!(left.kind, TermKind::Var(_)) {
                    std::mem::swap(left, right);
                }
                // Nothing is bound but by references: a comparison, which the engine takes with any literals.
                let null = || Term::new(TermKind::Null, Loc::default());
                let (left, right) = (std::mem::replace(left, null()), std::mem::replace(right, null()));
                *kind = StmtKind::Expr(infix(Op::Eq, left, right));
                self.kind(kind, withs, before, after);
            }
            StmtKind::Unify(left, right) => {
                if let Some(pairs) = pairs(left, right) {
                    let loc = left.loc;
                    for (left, right) in pairs {
                        let mut kind = StmtKind::Unify(left, right);
                        let mut own = Vec::new();
                        self.kind(&mut kind, withs, before, &mut own);
                        before.push(Stmt { kind, withs: withs.to_vec(), loc });
                        before.append(&mut own);
                    }
                    *kind = StmtKind::Expr(Term::new(TermKind::Bool(true), loc));
                    return;
                }
                for side in [left, right] {
                    self.term(side, withs, before, 0);
                    self.objects(side, after);
                }
            }
            StmtKind::Assign(left, right) => {
                self.pattern(left, withs, before);
                self.term(right, withs, before, 0);
                self.objects(left, after);
            }
            StmtKind::Not(inner) => {
                if self.operands_outside_not {
                    self.negated(inner, withs, before);
                }
                if let StmtKind::Expr(term) = &mut **inner
                    && let Some((result, call)) = self.result_operand(term)
                {
                    **inner = StmtKind::Unify(result, call);
                }
                let (mut inside, mut last) = (Vec::new(), Vec::new());
                self.kind(inner, withs, &mut inside, &mut last);
                if !inside.is_empty() || !last.is_empty() {
                    // The inner statements belong to the negation: it holds when no answer of them is left.
                    let loc = inside.first().or(last.first()).map(|s| s.loc).unwrap_or_default();
                    let statement = std::mem::replace(&mut **inner, StmtKind::Some(Vec::new()));
                    inside.push(Stmt { kind: statement, withs: Vec::new(), loc });
                    inside.append(&mut last);
                    for statement in &mut inside {
                        statement.withs.clear();
                    }
                    let one = Term::new(TermKind::Bool(true), loc);
                    let found = Term::new(TermKind::ArrayCompr(Box::new(one), inside), loc);
                    let none = Term::new(TermKind::Array(Vec::new()), loc);
                    *kind = StmtKind::Expr(infix(Op::Eq, none, found));
                }
            }
            StmtKind::Some(_) => {}
            StmtKind::SomeIn { key, value, collection } => {
                self.term(collection, withs, before, 0);
                let literal = matches!(
                    collection.kind,
                    TermKind::Array(_)
                        | TermKind::Set(_)
                        | TermKind::Object(_)
                        | TermKind::ArrayCompr(..)
                        | TermKind::SetCompr(..)
                        | TermKind::ObjectCompr(..)
                );
                if !literal {
                    // The engine breaks on null and other scalars, which have no members in OPA.
                    let inner = std::mem::replace(collection, Term::new(TermKind::Null, collection.loc));
                    let loc = inner.loc;
                    *collection = Term::call(host::ITEMS, vec![inner], loc);
                }
                for pattern in key.iter_mut().chain([value]) {
                    if !matches!(pattern.kind, TermKind::Var(_)) {
                        let loc = pattern.loc;
                        let name = self.fresh(loc);
                        let mut wanted = std::mem::replace(pattern, name.clone());
                        self.term(&mut wanted, withs, after, 0);
                        let mut own = Vec::new();
                        self.objects(&mut wanted, &mut own);
                        after.push(Stmt { kind: StmtKind::Unify(wanted, name), withs: Vec::new(), loc });
                        after.append(&mut own);
                    }
                }
            }
            StmtKind::Every { key, value, domain, body } => {
                self.term(domain, withs, before, 0);
                self.body(body);
                // The engine does not know these as bound when it plans a unification.
                for name in key.iter_mut().chain([value]) {
                    if !matches!(&name.kind, TermKind::Var(name) if name == "_") {
                        let loc = name.loc;
                        let fresh = self.fresh(loc);
                        let own = std::mem::replace(name, fresh.clone());
                        body.insert(0, Stmt { kind: StmtKind::Assign(own, fresh), withs: Vec::new(), loc });
                    }
                }
            }
        }
    }

    /// `f(a, out)` → `(out, f(a))`, when `f` takes one operand less.
    fn result_operand(&self, term: &mut Term) -> Option<(Term, Term)> {
        let TermKind::Call(function, args) = &mut term.kind else { return None };
        let path = function.static_path()?;
        let arity = if path[0] == "data" {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            *self.functions.get(&path)?
        } else {
            usize::from(*self.builtins.get(path.join(".").as_str())?)
        };
        // `walk(x, out)` is what the engine has itself.
        if args.len() != arity + 1 || path == ["walk"] {
            return None;
        }
        let result = args.pop()?;
        Some((result, term.clone()))
    }

    /// Names what OPA evaluates before a negated statement.
    fn negated(&mut self, kind: &mut StmtKind, withs: &[With], before: &mut Vec<Stmt>) {
        match kind {
            StmtKind::Expr(term) => match &mut term.kind {
                TermKind::Infix(Op::Eq, left, right) => {
                    self.negated_side(left, withs, before);
                    self.negated_side(right, withs, before);
                }
                TermKind::Infix(_, left, right) => {
                    self.outside(left, withs, before);
                    self.outside(right, withs, before);
                }
                TermKind::Call(_, args) => args.iter_mut().for_each(|arg| self.outside(arg, withs, before)),
                TermKind::In(key, value, collection) => {
                    for term in key.iter_mut().chain([value, collection]) {
                        self.outside(term, withs, before);
                    }
                }
                _ => self.negated_side(term, withs, before),
            },
            StmtKind::Unify(left, right) => {
                self.negated_side(left, withs, before);
                self.negated_side(right, withs, before);
            }
            _ => {}
        }
    }

    /// A side of an equality: a reference stays inside, what it is made of does not.
    fn negated_side(&mut self, term: &mut Term, withs: &[With], before: &mut Vec<Stmt>) {
        match &mut term.kind {
            TermKind::Ref(head, args) => {
                if !matches!(head.kind, TermKind::Var(_)) {
                    self.outside(head, withs, before);
                }
                for arg in args {
                    if let Arg::Bracket(key) = arg {
                        self.outside(key, withs, before);
                    }
                }
            }
            TermKind::Var(_) => {}
            _ => self.outside(term, withs, before),
        }
    }

    fn outside(&mut self, term: &mut Term, withs: &[With], before: &mut Vec<Stmt>) {
        match &mut term.kind {
            TermKind::Ref(..) | TermKind::Call(..) | TermKind::Infix(..) | TermKind::In(..) | TermKind::Template(_) => {
                let mut value = std::mem::replace(term, Term::new(TermKind::Null, term.loc));
                self.term(&mut value, withs, before, 0);
                *term = self.name(value, withs, before);
            }
            TermKind::Array(items) | TermKind::Set(items) => {
                items.iter_mut().for_each(|item| self.outside(item, withs, before));
            }
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.outside(key, withs, before);
                    self.outside(value, withs, before);
                }
            }
            _ => {}
        }
    }

    /// A pattern of an object fits objects with exactly its fields; the engine would take any that have them.
    fn objects(&mut self, pattern: &mut Term, after: &mut Vec<Stmt>) {
        match &mut pattern.kind {
            TermKind::Array(items) => items.iter_mut().for_each(|item| self.objects(item, after)),
            TermKind::Object(items) if !items.iter().all(|(key, value)| key.is_constant() && value.is_constant()) => {
                let loc = pattern.loc;
                let number = Term::new(TermKind::Number(items.len().to_string()), loc);
                let name = self.fresh(loc);
                let mut inner = std::mem::replace(pattern, name.clone());
                let fields = Term::call(host::FIELDS, vec![name.clone()], loc);
                after.push(Stmt { kind: StmtKind::Expr(infix(Op::Eq, fields, number)), withs: Vec::new(), loc });
                let mut own = Vec::new();
                if let TermKind::Object(items) = &mut inner.kind {
                    items.iter_mut().for_each(|(_, value)| self.objects(value, &mut own));
                }
                after.push(Stmt { kind: StmtKind::Unify(inner, name), withs: Vec::new(), loc });
                after.append(&mut own);
            }
            _ => {}
        }
    }

    /// The left side of `:=`: only keys of objects are terms.
    fn pattern(&mut self, term: &mut Term, withs: &[With], before: &mut Vec<Stmt>) {
        match &mut term.kind {
            TermKind::Array(items) => items.iter_mut().for_each(|item| self.pattern(item, withs, before)),
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.term(key, withs, before, 0);
                    self.pattern(value, withs, before);
                }
            }
            _ => {}
        }
    }

    /// A term that is a statement: its own operator stays.
    fn top(&mut self, term: &mut Term, withs: &[With], before: &mut Vec<Stmt>) {
        match &mut term.kind {
            TermKind::In(key, value, collection) => {
                for term in key.iter_mut().chain([value, collection]) {
                    self.term(term, withs, before, 0);
                }
            }
            TermKind::Call(function, args)
                if function.static_path().as_deref() == Some(&["walk"]) && args.len() == 2 =>
            {
                self.term(&mut args[0], withs, before, 0);
                if !matches!(args[1].kind, TermKind::Var(_)) {
                    // Patterns of the engine do not compare with what is bound already.
                    let loc = args[1].loc;
                    let name = self.fresh(loc);
                    let mut wanted = std::mem::replace(&mut args[1], name.clone());
                    let walk = std::mem::replace(term, Term::new(TermKind::Null, loc));
                    before.push(Stmt { kind: StmtKind::Expr(walk), withs: withs.to_vec(), loc });
                    self.term(&mut wanted, withs, before, 0);
                    let mut own = Vec::new();
                    self.objects(&mut wanted, &mut own);
                    before.push(Stmt { kind: StmtKind::Unify(wanted, name), withs: Vec::new(), loc });
                    before.append(&mut own);
                    *term = Term::new(TermKind::Bool(true), loc);
                }
            }
            _ => self.term(term, withs, before, 0),
        }
    }

    fn constant(&mut self, term: &mut Term) {
        if self.lifts && term.is_constant() && (depth(term) > DEEP_CONSTANT || size(term) > LARGE_CONSTANT) {
            let loc = term.loc;
            let number = self.constants.len();
            let index = Term::new(TermKind::Number(number.to_string()), loc);
            self.constants.push(std::mem::replace(term, Term::call(host::CONSTANT, vec![index], loc)));
        }
    }

    /// Lowers a term in place; `nesting` literals are around it.
    fn term(&mut self, term: &mut Term, withs: &[With], before: &mut Vec<Stmt>, nesting: usize) {
        let loc = term.loc;
        if term.is_constant() {
            return self.constant(term);
        }
        match &mut term.kind {
            TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_) | TermKind::Var(_) => {}
            TermKind::Template(parts) => {
                let parts = parts.drain(..).map(|part| match part {
                    Part::Text(text) => Term::string(text, loc),
                    Part::Term(inner, withs) => {
                        let name = self.fresh(inner.loc);
                        let loc = inner.loc;
                        let kind = StmtKind::Assign(name.clone(), inner);
                        let body = vec![Stmt { kind, withs, loc }];
                        Term::new(TermKind::SetCompr(Box::new(name), body), loc)
                    }
                });
                let parts = Term::new(TermKind::Array(parts.collect()), loc);
                *term = Term::call(host::TEMPLATE, vec![parts], loc);
                self.term(term, withs, before, nesting);
            }
            TermKind::Ref(head, args) => {
                self.term(head, withs, before, nesting + 1);
                for arg in args.iter_mut() {
                    if let Arg::Bracket(key) = arg {
                        self.term(key, withs, before, nesting + 1);
                    }
                }
                if matches!(&head.kind, TermKind::Var(root) if root == "data")
                    && let Some((Arg::Bracket(key), rest)) = args.split_first()
                    && !matches!(key.kind, TermKind::String(_))
                {
                    self.evaluate_roots(rest, withs, before, loc);
                }
                if !matches!(head.kind, TermKind::Var(_)) {
                    let inner = std::mem::replace(&mut **head, Term::new(TermKind::Null, loc));
                    **head = self.name(inner, withs, before);
                }
            }
            TermKind::Call(function, args) => {
                let path = function.static_path();
                if path.as_deref() == Some(&["rego", "metadata", "rule"])
                    || path.as_deref() == Some(&["rego", "metadata", "chain"])
                {
                    let chain = path.is_some_and(|path| path[2] == "chain");
                    *term = self.metadata(chain, loc);
                    return self.constant(term);
                }
                let is_walk = path.as_deref() == Some(&["walk"]);
                args.iter_mut().for_each(|arg| self.term(arg, withs, before, nesting + 1));
                self.stand_in(function);
                if is_walk && args.len() == 1 {
                    let name = self.fresh(loc);
                    args.push(name.clone());
                    let walk = std::mem::replace(term, name);
                    before.push(Stmt { kind: StmtKind::Expr(walk), withs: withs.to_vec(), loc });
                }
            }
            TermKind::Array(items) | TermKind::Set(items) => {
                items.iter_mut().for_each(|item| self.term(item, withs, before, nesting + 1));
                self.flatten(term, withs, before, nesting);
            }
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.term(key, withs, before, nesting + 1);
                    self.term(value, withs, before, nesting + 1);
                }
                self.flatten(term, withs, before, nesting);
            }
            TermKind::ArrayCompr(head, body) | TermKind::SetCompr(head, body) => {
                self.body(body);
                self.output(head, body);
            }
            TermKind::ObjectCompr(key, value, body) => {
                self.body(body);
                self.output(key, body);
                self.output(value, body);
            }
            TermKind::Infix(op, left, right) => {
                self.term(left, withs, before, nesting + 1);
                self.term(right, withs, before, nesting + 1);
                let op = *op;
                let name = match op {
                    // Objects are smaller than sets in OPA, and greater in the engine.
                    Op::Lt | Op::Le | Op::Gt | Op::Ge if !is_scalar(left) && !is_scalar(right) => Some(host::COMPARE),
                    op if self.lenient => operator_name(op),
                    _ => None,
                };
                let Some(name) = name else { return };
                let TermKind::Infix(_, left, right) = std::mem::replace(&mut term.kind, TermKind::Null) else { return };
                let call = Term::call(name, vec![*left, *right], loc);
                *term = if name == host::COMPARE {
                    infix(op, call, Term::new(TermKind::Number("0".into()), loc))
                } else {
                    call
                };
            }
            TermKind::In(..) => {
                let TermKind::In(key, value, collection) = std::mem::replace(&mut term.kind, TermKind::Null) else {
                    return;
                };
                let name = if key.is_some() { host::MEMBER_3 } else { host::MEMBER_2 };
                let mut args: Vec<Term> = key.into_iter().chain([value, collection]).map(|term| *term).collect();
                args.iter_mut().for_each(|arg| self.term(arg, withs, before, nesting + 1));
                *term = Term::call(name, args, loc);
            }
        }
    }

    /// Before `data[x].a`: the engine evaluates rules only below a constant key, so each is asked for.
    fn evaluate_roots(&mut self, rest: &[Arg], withs: &[With], before: &mut Vec<Stmt>, loc: Loc) {
        let keys: Vec<&str> = rest.iter().map_while(Arg::text).collect();
        let one = Term::new(TermKind::Number("1".into()), loc);
        for root in &self.roots {
            let path = ["data", root].into_iter().chain(keys.iter().copied()).map(str::to_owned);
            let kind = StmtKind::Unify(Term::var("_", loc), Term::path(path, loc));
            let body = vec![Stmt { kind, withs: Vec::new(), loc }];
            let asked = Term::new(TermKind::ArrayCompr(Box::new(one.clone()), body), loc);
            before.push(Stmt { kind: StmtKind::Expr(asked), withs: withs.to_vec(), loc });
        }
    }

    /// A literal deep inside others gets a name.
    fn flatten(&mut self, term: &mut Term, withs: &[With], before: &mut Vec<Stmt>, nesting: usize) {
        if nesting > 0 && nesting.is_multiple_of(DEEP_LITERAL) {
            let literal = std::mem::replace(term, Term::new(TermKind::Null, term.loc));
            *term = self.name(literal, withs, before);
        }
    }

    /// The name of a function, not a value.
    fn is_function(&self, term: &Term) -> bool {
        let Some(path) = term.static_path() else { return false };
        let full: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.functions.contains_key(&full) || self.builtins.contains_key(path.join(".").as_str())
    }

    /// A builtin that some `with` is about becomes the function that stands for it.
    fn stand_in(&self, function: &mut Term) {
        if self.replaced.is_empty() {
            return;
        }
        if let Some(path) = function.static_path()
            && let Some(name) = self.replaced.get(&path.join("."))
        {
            *function = Term::path(host::stand_in(name), function.loc);
        }
    }

    fn metadata(&mut self, chain: bool, loc: Loc) -> Term {
        if chain {
            return Term::new(TermKind::Array(self.rule_chain.clone()), loc);
        }
        let own = self.rule_chain.first().and_then(|entry| match &entry.kind {
            TermKind::Object(items) => items
                .iter()
                .find(|(key, _)| matches!(&key.kind, TermKind::String(name) if name == "annotations"))
                .map(|(_, value)| value.clone()),
            _ => None,
        });
        own.unwrap_or_else(|| Term::new(TermKind::Object(Vec::new()), loc))
    }
}

/// The operand that a statement begins with.
fn leading(term: &mut Term) -> &mut Term {
    match term.kind {
        TermKind::Infix(_, ref mut left, _)
        | TermKind::In(Some(ref mut left), ..)
        | TermKind::In(None, ref mut left, _) => leading(left),
        _ => term,
    }
}

fn holds_comprehension(term: &Term) -> bool {
    let mut found = false;
    visit::term(term, &mut |inner| {
        found |= matches!(inner.kind, TermKind::ArrayCompr(..) | TermKind::SetCompr(..) | TermKind::ObjectCompr(..));
    });
    found
}

/// `x = xs[x]`: the reference gives the variable its value.
fn is_own_key(left: &Term, right: &Term) -> bool {
    let ((TermKind::Var(name), TermKind::Ref(_, args)) | (TermKind::Ref(_, args), TermKind::Var(name))) =
        (&left.kind, &right.kind)
    else {
        return false;
    };
    name != "_"
        && args.iter().any(|arg| matches!(arg, Arg::Bracket(Term { kind: TermKind::Var(key), .. }) if key == name))
}

/// A constant that is smaller than every collection.
fn is_scalar(term: &Term) -> bool {
    matches!(term.kind, TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_))
}

/// A variable, or a literal that holds one.
fn is_pattern(term: &Term) -> bool {
    match &term.kind {
        TermKind::Var(_) => true,
        TermKind::Array(items) => items.iter().any(is_pattern),
        TermKind::Object(items) => items.iter().any(|(key, value)| is_pattern(key) || is_pattern(value)),
        _ => false,
    }
}

/// Two literals of one kind, member by member; one pair that never fits when they cannot be equal.
fn pairs(left: &Term, right: &Term) -> Option<Vec<(Term, Term)>> {
    let never = |loc| vec![(Term::new(TermKind::Bool(true), loc), Term::new(TermKind::Bool(false), loc))];
    match (&left.kind, &right.kind) {
        (TermKind::Array(a), TermKind::Array(b)) if !left.is_constant() || !right.is_constant() => {
            if a.len() != b.len() {
                return Some(never(left.loc));
            }
            Some(a.iter().cloned().zip(b.iter().cloned()).collect())
        }
        (TermKind::Object(a), TermKind::Object(b)) if !left.is_constant() || !right.is_constant() => {
            if !a.iter().chain(b).all(|(key, _)| key.is_constant()) {
                return None;
            }
            let found: Option<Vec<_>> = a
                .iter()
                .map(|(key, value)| {
                    let (_, other) = b.iter().find(|(other, _)| other == key)?;
                    Some((value.clone(), other.clone()))
                })
                .collect();
            Some(found.filter(|found| found.len() == b.len()).unwrap_or_else(|| never(left.loc)))
        }
        _ => None,
    }
}

fn infix(op: Op, left: Term, right: Term) -> Term {
    let loc = left.loc;
    Term::new(TermKind::Infix(op, Box::new(left), Box::new(right)), loc)
}

/// Operators that fail on operands of other types.
fn operator_name(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Add => "plus",
        Op::Sub => "minus",
        Op::Mul => "mul",
        Op::Div => "div",
        Op::Rem => "rem",
        Op::And => "and",
        Op::Or => "or",
        _ => return None,
    })
}

fn depth(term: &Term) -> usize {
    match &term.kind {
        TermKind::Array(items) | TermKind::Set(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        TermKind::Object(items) => 1 + items.iter().map(|(k, v)| depth(k).max(depth(v))).max().unwrap_or(0),
        _ => 0,
    }
}

fn size(term: &Term) -> usize {
    match &term.kind {
        TermKind::Array(items) | TermKind::Set(items) => 1 + items.iter().map(size).sum::<usize>(),
        TermKind::Object(items) => 1 + items.iter().map(|(k, v)| size(k) + size(v)).sum::<usize>(),
        _ => 1,
    }
}
