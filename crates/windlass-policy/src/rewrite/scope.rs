//! Names: imports and rules become full paths (`data.lib.f`), and every declared variable gets a name of its own within its rule, so
//! that no variable is taken for a rule or for another variable of the same name.

use crate::syntax::print::is_keyword;
use crate::syntax::tree::*;
use std::collections::{BTreeMap, BTreeSet};

/// What a name of one module can mean.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub package: Vec<String>,
    /// First names of all rules of the package, of all its modules.
    pub rules: BTreeSet<String>,
    /// Full paths by name.
    pub imports: BTreeMap<String, Vec<String>>,
}

/// What is wrong with a name, and where.
#[derive(Debug)]
pub struct Wrong {
    pub message: String,
    pub loc: Loc,
}

#[derive(Debug, Default)]
struct Scope {
    /// Declared in this body, with the name it got; `None` before its declaration.
    declared: BTreeMap<String, Option<String>>,
    /// Used before its declaration: in this body, or in a body inside it.
    seen: BTreeSet<String>,
    seen_inside: BTreeSet<String>,
}

pub struct Resolver<'n> {
    names: &'n Names,
    builtins: &'n BTreeMap<&'static str, u8>,
    scopes: Vec<Scope>,
    /// Undeclared variables that are called like a rule or a keyword, with the names that they got.
    renamed: BTreeMap<String, String>,
    /// Names that stand for some variable of this rule.
    used: BTreeSet<String>,
    pub wrong: Vec<Wrong>,
}

/// The variables that a pattern binds.
pub fn pattern_variables<'t>(pattern: &'t Term, out: &mut Vec<&'t Term>) {
    match &pattern.kind {
        TermKind::Var(name) if name != "_" => out.push(pattern),
        TermKind::Array(items) => items.iter().for_each(|item| pattern_variables(item, out)),
        TermKind::Object(items) => items.iter().for_each(|(_, value)| pattern_variables(value, out)),
        _ => {}
    }
}

/// The names that a body declares itself, not in bodies inside it.
fn declarations(body: &[Stmt]) -> BTreeMap<String, Option<String>> {
    let mut terms = Vec::new();
    for statement in body {
        match &statement.kind {
            StmtKind::Some(names) => terms.extend(names),
            StmtKind::Assign(left, _) => pattern_variables(left, &mut terms),
            StmtKind::SomeIn { key, value, .. } => {
                if let Some(key) = key {
                    pattern_variables(key, &mut terms);
                }
                pattern_variables(value, &mut terms);
            }
            _ => {}
        }
    }
    terms.into_iter().filter_map(|term| Some((var_name(term)?.to_owned(), None))).collect()
}

fn var_name(term: &Term) -> Option<&str> {
    match &term.kind {
        TermKind::Var(name) => Some(name),
        _ => None,
    }
}

impl<'n> Resolver<'n> {
    pub fn new(names: &'n Names, builtins: &'n BTreeMap<&'static str, u8>) -> Self {
        Self { names, builtins, scopes: Vec::new(), renamed: BTreeMap::new(), used: BTreeSet::new(), wrong: Vec::new() }
    }

    fn wrong(&mut self, message: String, loc: Loc) {
        self.wrong.push(Wrong { message, loc });
    }

    /// Resolves a rule in place.
    pub fn rule(&mut self, rule: &mut Rule) {
        self.used.clear();
        self.renamed.clear();
        self.scopes.clear();
        let mut parameters = Scope::default();
        if let Some(params) = &mut rule.head.params {
            let mut terms = Vec::new();
            params.iter().for_each(|param| pattern_variables(param, &mut terms));
            parameters.declared = terms.iter().filter_map(|t| Some((var_name(t)?.to_owned(), None))).collect();
        }
        self.scopes.push(parameters);
        if let Some(params) = &mut rule.head.params {
            for param in params {
                self.parameter(param);
            }
        }
        let head = &mut rule.head;
        let mut no_body = Vec::new();
        let body = rule.body.as_mut().unwrap_or(&mut no_body);
        self.body(body, |resolver| {
            for arg in &mut head.path {
                if let Arg::Bracket(term) = arg {
                    resolver.term(term);
                }
            }
            for term in head.key.iter_mut().chain(&mut head.value) {
                resolver.term(term);
            }
        });
        for other in &mut rule.elses {
            let value = &mut other.value;
            let body = other.body.as_mut().unwrap_or(&mut no_body);
            self.body(body, |resolver| value.iter_mut().for_each(|term| resolver.term(term)));
        }
    }

    /// Resolves a query; gives the user's name of each variable and the one it got.
    pub fn query(&mut self, body: &mut [Stmt]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        self.scopes.push(Scope::default());
        self.body(body, |resolver| {
            if let Some(scope) = resolver.scopes.last() {
                found = scope
                    .declared
                    .iter()
                    .filter_map(|(name, new)| Some((name.clone(), new.clone()?)))
                    .chain(scope.seen.iter().map(|name| (name.clone(), name.clone())))
                    .collect();
            }
        });
        found
    }

    /// A parameter: the same variable may stand in it more than once.
    fn parameter(&mut self, term: &mut Term) {
        match &mut term.kind {
            TermKind::Var(name) if name != "_" => {
                let known = self.scopes[0].declared.get(name).cloned().flatten();
                *name = known.unwrap_or_else(|| self.declare(0, &name.clone()));
            }
            TermKind::Array(items) => items.iter_mut().for_each(|item| self.parameter(item)),
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.term(key);
                    self.parameter(value);
                }
            }
            _ => self.term(term),
        }
    }

    fn is_reserved(&self, name: &str) -> bool {
        self.names.rules.contains(name) || matches!(name, "input" | "data") || is_keyword(name)
    }

    fn fresh(&mut self, name: &str, other: bool) -> String {
        let mut new = name.to_owned();
        let mut number = 1;
        while self.used.contains(&new) || self.is_reserved(&new) || (other && number == 1) {
            new = format!("{name}_{number}");
            number += 1;
        }
        self.used.insert(new.clone());
        new
    }

    fn declare(&mut self, scope: usize, name: &str) -> String {
        let other = self.scopes[scope].seen_inside.contains(name);
        let new = self.fresh(name, other);
        self.scopes[scope].declared.insert(name.to_owned(), Some(new.clone()));
        new
    }

    fn body(&mut self, body: &mut [Stmt], head: impl FnOnce(&mut Self)) {
        self.scopes.push(Scope { declared: declarations(body), ..Scope::default() });
        for statement in body {
            self.statement(statement);
        }
        head(self);
        self.scopes.pop();
    }

    fn statement(&mut self, statement: &mut Stmt) {
        self.withs(&mut statement.withs);
        self.kind(&mut statement.kind);
    }

    fn withs(&mut self, withs: &mut [With]) {
        for with in withs {
            for term in [&mut with.target, &mut with.value] {
                let builtin =
                    term.static_path().is_some_and(|path| self.builtins.contains_key(path.join(".").as_str()));
                if builtin { self.function(term) } else { self.term(term) }
            }
        }
    }

    fn kind(&mut self, kind: &mut StmtKind) {
        match kind {
            StmtKind::Expr(term) => self.term(term),
            StmtKind::Unify(left, right) => {
                self.term(left);
                self.term(right);
            }
            StmtKind::Not(inner) => self.kind(inner),
            StmtKind::Some(names) => names.iter_mut().for_each(|name| self.pattern(name, "declared")),
            StmtKind::Assign(left, right) => {
                self.term(right);
                self.pattern(left, "assigned");
            }
            StmtKind::SomeIn { key, value, collection } => {
                self.term(collection);
                if let Some(key) = key {
                    self.pattern(key, "declared");
                }
                self.pattern(value, "declared");
            }
            StmtKind::Every { key, value, domain, body } => {
                self.term(domain);
                let names = key.iter().chain([&*value]).filter_map(|t| Some((var_name(t)?.to_owned(), None)));
                self.scopes.push(Scope { declared: names.collect(), ..Scope::default() });
                if let Some(key) = key {
                    self.pattern(key, "declared");
                }
                self.pattern(value, "declared");
                self.body(body, |_| {});
                self.scopes.pop();
            }
        }
    }

    /// A pattern whose variables are declared here.
    fn pattern(&mut self, term: &mut Term, how: &str) {
        match &mut term.kind {
            TermKind::Var(name) if name != "_" => {
                let here = self.scopes.len() - 1;
                let scope = &self.scopes[here];
                if scope.declared.get(name).is_some_and(Option::is_some) {
                    let message = format!("var {name} {how} above");
                    self.wrong(message, term.loc);
                } else if scope.seen.contains(name) {
                    let message = format!("var {name} referenced above");
                    self.wrong(message, term.loc);
                } else {
                    *name = self.declare(here, &name.clone());
                }
            }
            TermKind::Array(items) => items.iter_mut().for_each(|item| self.pattern(item, how)),
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.term(key);
                    self.pattern(value, how);
                }
            }
            TermKind::Var(_) => {}
            _ if how == "assigned" => {
                let message = "cannot assign to this: `:=` declares variables".to_owned();
                self.wrong(message, term.loc);
            }
            _ => self.term(term),
        }
    }

    /// What a name means: `None` for a variable, whose name is changed in place.
    fn name(&mut self, name: &mut String) -> Option<Vec<String>> {
        if name == "_" {
            return None;
        }
        let innermost = self.scopes.len() - 1;
        let known = self.scopes.iter().rev().find_map(|scope| scope.declared.get(name).cloned().flatten());
        if let Some(new) = known {
            *name = new;
            return None;
        }
        if let Some(index) = self.scopes.iter().rposition(|scope| scope.declared.contains_key(name)) {
            let scope = &mut self.scopes[index];
            if index == innermost {
                scope.seen.insert(name.clone());
            } else {
                scope.seen_inside.insert(name.clone());
            }
            self.undeclared(name);
            return None;
        }
        if matches!(name.as_str(), "input" | "data") {
            return Some(vec![name.clone()]);
        }
        if let Some(path) = self.names.imports.get(name) {
            return Some(path.clone());
        }
        if self.names.rules.contains(name) {
            let root = std::iter::once("data".to_owned());
            return Some(root.chain(self.names.package.iter().cloned()).chain([name.clone()]).collect());
        }
        for scope in &mut self.scopes {
            scope.seen.insert(name.clone());
        }
        self.undeclared(name);
        None
    }

    /// A variable that nothing declares keeps its name, unless the engine would take that for something else: for a rule, or for a
    /// keyword, which v0 has as names.
    fn undeclared(&mut self, name: &mut String) {
        if !self.is_reserved(name) {
            self.used.insert(name.clone());
        } else if let Some(new) = self.renamed.get(name) {
            name.clone_from(new);
        } else {
            let new = self.fresh(name, true);
            self.renamed.insert(std::mem::replace(name, new.clone()), new);
        }
    }

    pub fn term(&mut self, term: &mut Term) {
        let loc = term.loc;
        match &mut term.kind {
            TermKind::Null | TermKind::Bool(_) | TermKind::Number(_) | TermKind::String(_) => {}
            TermKind::Var(name) => {
                if let Some(path) = self.name(name) {
                    *term = Term::path(path, loc);
                }
            }
            TermKind::Ref(head, args) => {
                for arg in args.iter_mut() {
                    if let Arg::Bracket(key) = arg {
                        self.term(key);
                    }
                }
                self.term(head);
                if let TermKind::Ref(root, first) = &mut head.kind {
                    let mut path = std::mem::take(first);
                    path.append(args);
                    let root = std::mem::replace(&mut **root, Term::new(TermKind::Null, loc));
                    term.kind = TermKind::Ref(Box::new(root), path);
                }
            }
            TermKind::Call(function, args) => {
                self.function(function);
                args.iter_mut().for_each(|arg| self.term(arg));
            }
            TermKind::Template(parts) => {
                for part in parts {
                    if let Part::Term(term, withs) = part {
                        self.withs(withs);
                        self.term(term);
                    }
                }
            }
            TermKind::Array(items) | TermKind::Set(items) => items.iter_mut().for_each(|item| self.term(item)),
            TermKind::Object(items) => {
                for (key, value) in items {
                    self.term(key);
                    self.term(value);
                }
            }
            TermKind::ArrayCompr(head, body) | TermKind::SetCompr(head, body) => {
                self.body(body, |resolver| resolver.term(head));
            }
            TermKind::ObjectCompr(key, value, body) => self.body(body, |resolver| {
                resolver.term(key);
                resolver.term(value);
            }),
            TermKind::Infix(_, left, right) => {
                self.term(left);
                self.term(right);
            }
            TermKind::In(key, value, collection) => {
                if let Some(key) = key {
                    self.term(key);
                }
                self.term(value);
                self.term(collection);
            }
        }
    }

    /// A function's name: a rule, an imported function, or else a builtin.
    fn function(&mut self, function: &mut Term) {
        let root = match &function.kind {
            TermKind::Var(name) => name,
            TermKind::Ref(head, _) => match &head.kind {
                TermKind::Var(name) => name,
                _ => return,
            },
            _ => return,
        };
        let bare = matches!(function.kind, TermKind::Var(_));
        let known = root == "data"
            || self.names.rules.contains(root)
            || self.names.imports.get(root).is_some_and(|path| !(bare && path.first().is_some_and(|r| r == "input")));
        if known && !self.scopes.iter().any(|scope| scope.declared.contains_key(root)) {
            self.term(function);
        }
    }
}
