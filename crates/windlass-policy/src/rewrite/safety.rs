//! Every variable must get a value from somewhere, in whatever order the statements are evaluated.

use super::scope::pattern_variables;
use crate::syntax::tree::*;
use crate::syntax::visit;
use std::collections::{BTreeMap, BTreeSet};

/// Knows how many operands a call takes, to tell that the last of `f(a, out)` is bound by it.
pub struct Safety<'a> {
    pub arity: &'a dyn Fn(&Term) -> Option<usize>,
}

type Bound = BTreeSet<String>;

/// What one statement needs and gives.
#[derive(Default)]
struct Flow {
    needs: BTreeMap<String, Loc>,
    /// Needed, and not given by a reference of the same statement.
    roots: BTreeMap<String, Loc>,
    gives: Bound,
    /// Given as keys of references.
    keys: Bound,
}

impl Flow {
    /// Forgets the needs that references of the same statement fulfil.
    fn settle(&mut self) {
        self.needs.retain(|name, _| !self.keys.contains(name));
        self.needs.append(&mut self.roots);
    }
}

enum Step<'t> {
    Statement(&'t Stmt),
    Term(&'t Term),
    Pattern(&'t Term),
}

impl Safety<'_> {
    /// The unsafe variables of a rule, with their places.
    pub fn rule(&self, rule: &Rule) -> BTreeMap<String, Loc> {
        let mut bound = Bound::new();
        for param in rule.head.params.iter().flatten() {
            let mut names = Vec::new();
            pattern_variables(param, &mut names);
            bound.extend(names.iter().filter_map(|name| variable(name).map(str::to_owned)));
        }
        let head = &rule.head;
        let path = head.path.iter().filter_map(|arg| match arg {
            Arg::Bracket(term) => Some(term),
            Arg::Dot(..) => None,
        });
        let outputs: Vec<&Term> = path.chain(&head.key).chain(&head.value).collect();
        let params: Vec<&Term> = head.params.iter().flatten().collect();
        let mut wrong = self.steps(rule.body.as_deref(), &outputs, &params, &mut bound.clone());
        for other in &rule.elses {
            let outputs: Vec<&Term> = other.value.iter().collect();
            wrong.append(&mut self.steps(other.body.as_deref(), &outputs, &params, &mut bound.clone()));
        }
        wrong
    }

    /// The unsafe variables of a body whose results are `outputs`; adds to `bound` what the body binds.
    pub fn body(&self, body: &[Stmt], outputs: &[&Term], bound: &mut Bound) -> BTreeMap<String, Loc> {
        self.steps(Some(body), outputs, &[], bound)
    }

    fn steps(
        &self,
        body: Option<&[Stmt]>,
        outputs: &[&Term],
        params: &[&Term],
        bound: &mut Bound,
    ) -> BTreeMap<String, Loc> {
        let statements = body.unwrap_or_default().iter().map(Step::Statement);
        let outputs = outputs.iter().map(|term| Step::Term(term));
        let mut waiting: Vec<Step> =
            statements.chain(outputs).chain(params.iter().map(|term| Step::Pattern(term))).collect();
        loop {
            let before = waiting.len();
            let mut missing = BTreeMap::new();
            waiting.retain(|step| {
                let mut flow = Flow::default();
                match step {
                    Step::Statement(statement) => self.statement(statement, bound, &mut flow),
                    Step::Term(term) => self.term(term, bound, &mut flow),
                    Step::Pattern(term) => self.pattern(term, bound, &mut flow),
                }
                flow.settle();
                let ready = flow.needs.is_empty();
                if ready {
                    bound.append(&mut flow.gives);
                    bound.append(&mut flow.keys);
                } else {
                    missing.append(&mut flow.needs);
                }
                !ready
            });
            if waiting.is_empty() {
                return BTreeMap::new();
            }
            if waiting.len() == before {
                return missing;
            }
        }
    }

    /// Puts statements into an order in which every variable has its value before it is needed. The engine finds one itself, but
    /// takes `not p[x]` for something that gives `x` its value when that comes first.
    pub fn arrange(&self, rule: &mut Rule) {
        let mut bound = Bound::new();
        for param in rule.head.params.iter().flatten() {
            let mut names = Vec::new();
            pattern_variables(param, &mut names);
            bound.extend(names.iter().filter_map(|name| variable(name).map(str::to_owned)));
        }
        for other in &mut rule.elses {
            let mut bound = bound.clone();
            other.body.iter_mut().for_each(|body| self.arrange_body(body, &mut bound));
            other.value.iter_mut().for_each(|value| self.arrange_term(value, &bound));
        }
        rule.body.iter_mut().for_each(|body| self.arrange_body(body, &mut bound));
        for arg in &mut rule.head.path {
            if let Arg::Bracket(term) = arg {
                self.arrange_term(term, &bound);
            }
        }
        rule.head.key.iter_mut().chain(&mut rule.head.value).for_each(|term| self.arrange_term(term, &bound));
    }

    fn arrange_term(&self, term: &mut Term, bound: &Bound) {
        visit::closures(term, &mut |body| self.arrange_body(body, &mut bound.clone()));
    }

    /// The same for a body; `bound` gets what it binds.
    pub fn arrange_body(&self, body: &mut Vec<Stmt>, bound: &mut Bound) {
        let mut waiting = std::mem::take(body);
        loop {
            let before = waiting.len();
            for mut statement in std::mem::take(&mut waiting) {
                let mut flow = Flow::default();
                self.statement(&statement, bound, &mut flow);
                flow.settle();
                if !flow.needs.is_empty() {
                    waiting.push(statement);
                    continue;
                }
                let mut inner = bound.clone();
                inner.extend(flow.keys.iter().cloned());
                if let StmtKind::Every { key, value, .. } = &statement.kind {
                    inner.extend(key.iter().chain([value]).filter_map(|name| variable(name).map(str::to_owned)));
                }
                visit::statement_closures(&mut statement, &mut |body| self.arrange_body(body, &mut inner.clone()));
                bound.append(&mut flow.gives);
                bound.append(&mut flow.keys);
                body.push(statement);
            }
            if waiting.is_empty() || waiting.len() == before {
                // What is unsafe was told before.
                body.append(&mut waiting);
                return;
            }
        }
    }

    fn statement(&self, statement: &Stmt, bound: &Bound, flow: &mut Flow) {
        for with in &statement.withs {
            // A function is replaced by a function.
            if (self.arity)(&with.value).is_none() {
                self.term(&with.value, bound, flow);
            }
        }
        self.kind(&statement.kind, bound, flow);
    }

    fn kind(&self, kind: &StmtKind, bound: &Bound, flow: &mut Flow) {
        match kind {
            StmtKind::Expr(term) => {
                if let TermKind::Call(function, args) = &term.kind
                    && let Some((last, operands)) = args.split_last()
                    && (self.arity)(function) == Some(operands.len())
                {
                    operands.iter().for_each(|operand| self.term(operand, bound, flow));
                    return self.pattern(last, bound, flow);
                }
                self.term(term, bound, flow);
            }
            StmtKind::Unify(left, right) => self.unify(left, right, bound, flow),
            StmtKind::Assign(left, right) => {
                self.term(right, bound, flow);
                self.pattern(left, bound, flow);
            }
            StmtKind::Not(inner) => {
                let mut own = Flow::default();
                match &**inner {
                    StmtKind::Expr(Term { kind: TermKind::Infix(Op::Eq, left, right), .. }) => {
                        self.negated(left, bound, &mut own);
                        self.negated(right, bound, &mut own);
                    }
                    StmtKind::Unify(left, right) => {
                        self.negated(left, bound, &mut own);
                        self.negated(right, bound, &mut own);
                    }
                    StmtKind::Expr(term) => self.negated(term, bound, &mut own),
                    other => self.kind(other, bound, &mut own),
                }
                flow.needs.append(&mut own.needs);
                flow.roots.append(&mut own.roots);
                flow.keys.append(&mut own.keys);
            }
            StmtKind::Some(_) => {}
            StmtKind::SomeIn { key, value, collection } => {
                self.term(collection, bound, flow);
                for pattern in key.iter().chain([value]) {
                    self.pattern(pattern, bound, flow);
                }
            }
            StmtKind::Every { key, value, domain, body } => {
                self.term(domain, bound, flow);
                let mut inner = bound.clone();
                inner.extend(flow.gives.iter().chain(&flow.keys).cloned());
                inner.extend(key.iter().chain([value]).filter_map(|term| variable(term).map(str::to_owned)));
                flow.needs.append(&mut self.body(body, &[], &mut inner));
            }
        }
    }

    /// A side of a negated equality: what a reference would bind has to be bound outside.
    fn negated(&self, term: &Term, bound: &Bound, flow: &mut Flow) {
        let TermKind::Ref(head, args) = &term.kind else { return self.term(term, bound, flow) };
        self.root(head, bound, flow);
        for arg in args {
            match arg {
                Arg::Bracket(Term { kind: TermKind::Var(name), loc }) => {
                    if !bound.contains(name) && !is_root(name) {
                        flow.roots.insert(name.clone(), *loc);
                    }
                }
                Arg::Bracket(key) => self.term(key, bound, flow),
                Arg::Dot(..) => {}
            }
        }
    }

    /// A term that takes on a value: its variables get theirs.
    fn pattern(&self, term: &Term, bound: &Bound, flow: &mut Flow) {
        match &term.kind {
            TermKind::Var(name) if name == "_" => {}
            TermKind::Var(name) => drop(flow.gives.insert(name.clone())),
            TermKind::Array(items) => items.iter().for_each(|item| self.pattern(item, bound, flow)),
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.term(key, bound, flow);
                    self.pattern(value, bound, flow);
                }
            }
            _ => self.term(term, bound, flow),
        }
    }

    fn unify(&self, left: &Term, right: &Term, bound: &Bound, flow: &mut Flow) {
        match (&left.kind, &right.kind) {
            (TermKind::Array(a), TermKind::Array(b)) if a.len() == b.len() => {
                return self.pairs(a.iter().zip(b).collect(), bound, flow);
            }
            (TermKind::Object(a), TermKind::Object(b)) if a.len() == b.len() => {
                let found = a.iter().filter_map(|(key, value)| {
                    b.iter().find(|(other, _)| other == key).map(|(_, other)| (value, other))
                });
                return self.pairs(found.collect(), bound, flow);
            }
            // Never equal: nothing is bound.
            (TermKind::Array(_), TermKind::Array(_)) | (TermKind::Object(_), TermKind::Object(_)) => {
                self.term(left, bound, flow);
                self.term(right, bound, flow);
                return;
            }
            _ => {}
        }
        for (pattern, value) in [(left, right), (right, left)] {
            let mut given = Flow::default();
            self.term(value, bound, &mut given);
            given.settle();
            if given.needs.is_empty() {
                flow.keys.append(&mut given.keys);
                self.pattern(pattern, bound, flow);
                return;
            }
        }
        self.term(left, bound, flow);
        self.term(right, bound, flow);
    }

    /// Members that are unified each with each, in whatever order they bind.
    fn pairs(&self, mut waiting: Vec<(&Term, &Term)>, bound: &Bound, flow: &mut Flow) {
        let mut known = bound.clone();
        loop {
            let before = waiting.len();
            let mut missing = Flow::default();
            waiting.retain(|(left, right)| {
                let mut own = Flow::default();
                self.unify(left, right, &known, &mut own);
                own.settle();
                if own.needs.is_empty() {
                    known.extend(own.gives.iter().chain(&own.keys).cloned());
                    flow.gives.append(&mut own.gives);
                    flow.keys.append(&mut own.keys);
                    return false;
                }
                missing.needs.append(&mut own.needs);
                true
            });
            if waiting.is_empty() || waiting.len() == before {
                flow.needs.append(&mut missing.needs);
                return;
            }
        }
    }

    fn term(&self, term: &Term, bound: &Bound, flow: &mut Flow) {
        match &term.kind {
            TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_) => {}
            TermKind::Var(name) => {
                if !is_root(name) && !bound.contains(name) {
                    flow.needs.insert(name.clone(), term.loc);
                }
            }
            TermKind::Template(parts) => {
                for part in parts {
                    if let Part::Term(term, withs) = part {
                        withs.iter().for_each(|with| self.term(&with.value, bound, flow));
                        self.term(term, bound, flow);
                    }
                }
            }
            TermKind::Ref(head, args) => {
                self.root(head, bound, flow);
                for arg in args {
                    if let Arg::Bracket(key) = arg {
                        let mut own = Flow::default();
                        self.pattern(key, bound, &mut own);
                        flow.needs.append(&mut own.needs);
                        flow.roots.append(&mut own.roots);
                        flow.keys.append(&mut own.keys);
                        flow.keys.append(&mut own.gives);
                    }
                }
            }
            TermKind::Call(_, args) => args.iter().for_each(|arg| self.term(arg, bound, flow)),
            TermKind::Array(items) | TermKind::Set(items) => {
                items.iter().for_each(|item| self.term(item, bound, flow));
            }
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.term(key, bound, flow);
                    self.term(value, bound, flow);
                }
            }
            TermKind::ArrayCompr(head, body) | TermKind::SetCompr(head, body) => {
                self.closure(body, &[head], bound, flow);
            }
            TermKind::ObjectCompr(key, value, body) => self.closure(body, &[key, value], bound, flow),
            TermKind::Infix(_, left, right) => {
                self.term(left, bound, flow);
                self.term(right, bound, flow);
            }
            TermKind::In(key, value, collection) => {
                for term in key.iter().chain([value, collection]) {
                    self.term(term, bound, flow);
                }
            }
        }
    }

    /// What a reference begins with.
    fn root(&self, head: &Term, bound: &Bound, flow: &mut Flow) {
        match &head.kind {
            TermKind::Var(name) if !is_root(name) && !bound.contains(name) => {
                flow.roots.insert(name.clone(), head.loc);
            }
            _ => self.term(head, bound, flow),
        }
    }

    fn closure(&self, body: &[Stmt], outputs: &[&Term], bound: &Bound, flow: &mut Flow) {
        let mut inner = bound.clone();
        inner.extend(flow.keys.iter().cloned());
        flow.needs.append(&mut self.body(body, outputs, &mut inner));
    }
}

fn variable(term: &Term) -> Option<&str> {
    match &term.kind {
        TermKind::Var(name) => Some(name),
        _ => None,
    }
}

fn is_root(name: &str) -> bool {
    matches!(name, "input" | "data")
}
