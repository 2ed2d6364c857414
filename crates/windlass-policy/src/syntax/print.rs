//! Trees to text that keeps lines: whatever stands on line n of the source is printed on line n, so that errors, coverage and prints
//! of the engine keep their places. Brackets are printed only where they are needed.

use super::parser::KEYWORDS;
use super::tree::*;

/// The text of a module; parsing it gives the same tree.
pub fn module(module: &Module) -> String {
    let mut printer = Printer::default();
    printer.to(module.package_loc.line);
    printer.text("package ");
    printer.keys(&module.package);
    for import in &module.imports {
        printer.line_or(import.loc.line, "\n");
        printer.text("import ");
        printer.keys(&import.path);
        if let Some(alias) = &import.alias {
            printer.text(" as ");
            printer.text(alias);
        }
    }
    let v0 = module.dialect == Dialect::V0;
    for rule in &module.rules {
        printer.rule(rule, v0);
    }
    printer.text("\n");
    printer.out
}

/// The text of a query.
pub fn query(statements: &[Stmt]) -> String {
    let mut printer = Printer { line: 1, ..Printer::default() };
    printer.statements(statements);
    printer.out
}

/// The text of one term.
pub fn term(term: &Term) -> String {
    let mut printer = Printer { line: u32::MAX, ..Printer::default() };
    printer.term(term);
    printer.out
}

/// `name` can stand after a dot and as a variable.
pub fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// A string in quotes.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Printer {
    out: String,
    line: u32,
}

impl Default for Printer {
    fn default() -> Self {
        Self { out: String::new(), line: 1 }
    }
}

impl Printer {
    fn text(&mut self, text: &str) {
        self.line = self.line.saturating_add(text.bytes().filter(|b| *b == b'\n').count() as u32);
        self.out.push_str(text);
    }

    /// Goes to `line`, if it is not there or past it.
    fn to(&mut self, line: u32) {
        while self.line < line {
            self.out.push('\n');
            self.line += 1;
        }
    }

    /// Goes to `line`, or separates by `text` when it is there.
    fn line_or(&mut self, line: u32, text: &str) {
        if self.line < line { self.to(line) } else { self.text(text) }
    }

    fn keys(&mut self, path: &[String]) {
        for (index, key) in path.iter().enumerate() {
            if index == 0 {
                self.text(key);
            } else {
                self.key(key);
            }
        }
    }

    fn key(&mut self, key: &str) {
        if is_identifier(key) {
            self.text(".");
            self.text(key);
        } else {
            self.text("[");
            self.text(&quoted(key));
            self.text("]");
        }
    }

    fn args(&mut self, args: &[Arg]) {
        for arg in args {
            match arg {
                Arg::Dot(name, _) => self.key(name),
                Arg::Bracket(term) => {
                    self.text("[");
                    self.member(term);
                    self.text("]");
                }
            }
        }
    }

    fn rule(&mut self, rule: &Rule, v0: bool) {
        if rule.chained && v0 {
            self.line_or(rule.loc.line, " ");
            self.body(rule.body.as_deref().unwrap_or_default());
            return;
        }
        self.line_or(rule.loc.line, " ");
        if rule.default {
            self.text("default ");
        }
        let head = &rule.head;
        self.text(&head.name);
        self.args(&head.path);
        if let Some(params) = &head.params {
            self.text("(");
            self.list(params);
            self.text(")");
        }
        if let Some(key) = &head.key {
            if head.bracket_set {
                self.text("[");
                self.member(key);
                self.text("]");
            } else {
                self.text(" contains ");
                self.term(key);
            }
        }
        if let Some(value) = &head.value {
            self.text(" := ");
            self.term(value);
        }
        if let Some(body) = &rule.body {
            self.text(if v0 && !(head.path.len() == 1 && head.value.is_none()) { " " } else { " if " });
            self.body(body);
        }
        for other in &rule.elses {
            self.line_or(other.loc.line, " ");
            self.text("else");
            if let Some(value) = &other.value {
                self.text(" := ");
                self.term(value);
            }
            if let Some(body) = &other.body {
                self.text(if v0 { " " } else { " if " });
                self.body(body);
            }
        }
    }

    fn body(&mut self, statements: &[Stmt]) {
        self.text("{ ");
        self.statements(statements);
        self.text(" }");
    }

    fn statements(&mut self, statements: &[Stmt]) {
        for (index, statement) in statements.iter().enumerate() {
            if index > 0 {
                self.text("; ");
            }
            self.to(statement.loc.line);
            self.statement(&statement.kind);
            self.withs(&statement.withs);
        }
    }

    fn withs(&mut self, withs: &[With]) {
        for with in withs {
            self.line_or(with.loc.line, " ");
            self.text("with ");
            self.term(&with.target);
            self.text(" as ");
            self.term(&with.value);
        }
    }

    fn statement(&mut self, kind: &StmtKind) {
        match kind {
            StmtKind::Expr(term) => self.term(term),
            StmtKind::Unify(left, right) => self.assignment(left, " = ", right),
            StmtKind::Assign(left, right) => self.assignment(left, " := ", right),
            StmtKind::Not(inner) => {
                self.text("not ");
                self.statement(inner);
            }
            StmtKind::Some(names) => {
                self.text("some ");
                self.list(names);
            }
            StmtKind::SomeIn { key, value, collection } => {
                self.text("some ");
                if let Some(key) = key {
                    self.operand(key, 2);
                    self.text(", ");
                }
                self.operand(value, 2);
                self.text(" in ");
                self.operand(collection, 2);
            }
            StmtKind::Every { key, value, domain, body } => {
                self.text("every ");
                if let Some(key) = key {
                    self.term(key);
                    self.text(", ");
                }
                self.term(value);
                self.text(" in ");
                self.operand(domain, 2);
                self.text(" ");
                self.body(body);
            }
        }
    }

    fn assignment(&mut self, left: &Term, sign: &str, right: &Term) {
        self.term(left);
        self.text(sign);
        self.term(right);
    }

    fn list(&mut self, items: &[Term]) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text(", ");
            }
            self.member(item);
        }
    }

    /// A term in a list: `k, v in c` needs brackets there.
    fn member(&mut self, term: &Term) {
        self.to(term.loc.line);
        let pair = matches!(term.kind, TermKind::In(Some(_), ..));
        self.bracketed(term, pair);
    }

    fn bracketed(&mut self, term: &Term, brackets: bool) {
        if brackets {
            self.text("(");
        }
        self.term(term);
        if brackets {
            self.text(")");
        }
    }

    /// A term as an operand of something that binds with `strength`.
    fn operand(&mut self, term: &Term, strength: u8) {
        let own = match &term.kind {
            TermKind::Infix(op, ..) => op.strength(),
            TermKind::In(..) => 1,
            _ => u8::MAX,
        };
        self.bracketed(term, own < strength);
    }

    /// The first term of a literal: with an operator at its top, `|` could be taken for a comprehension's.
    fn head(&mut self, term: &Term) {
        let weak = matches!(term.kind, TermKind::Infix(..) | TermKind::In(..));
        self.to(term.loc.line);
        self.bracketed(term, weak);
    }

    fn first_and_rest(&mut self, items: &[Term]) {
        if let Some((first, rest)) = items.split_first() {
            if contains_union(first) {
                self.head(first)
            } else {
                self.member(first)
            }
            for item in rest {
                self.text(", ");
                self.member(item);
            }
        }
    }

    fn term(&mut self, term: &Term) {
        match &term.kind {
            TermKind::Null => self.text("null"),
            TermKind::Bool(value) => self.text(if *value { "true" } else { "false" }),
            TermKind::Number(text) => self.text(text),
            TermKind::String(text) => self.text(&quoted(text)),
            TermKind::Template(parts) => self.template(parts),
            TermKind::Var(name) => self.text(name),
            TermKind::Ref(head, args) => {
                let plain = !matches!(head.kind, TermKind::Infix(..) | TermKind::In(..));
                self.bracketed(head, !plain);
                self.args(args);
            }
            TermKind::Call(function, args) => {
                self.term(function);
                self.text("(");
                self.list(args);
                self.text(")");
            }
            TermKind::Array(items) => {
                self.text("[");
                self.first_and_rest(items);
                self.text("]");
            }
            TermKind::Set(items) if items.is_empty() => self.text("set()"),
            TermKind::Set(items) => {
                self.text("{");
                self.first_and_rest(items);
                self.text("}");
            }
            TermKind::Object(items) => {
                self.text("{");
                for (index, (key, value)) in items.iter().enumerate() {
                    if index > 0 {
                        self.text(", ");
                    }
                    if contains_union(key) {
                        self.head(key)
                    } else {
                        self.member(key)
                    }
                    self.text(": ");
                    if contains_union(value) { self.head(value) } else { self.member(value) }
                }
                self.text("}");
            }
            TermKind::ArrayCompr(head, body) => {
                self.text("[");
                self.head(head);
                self.text(" | ");
                self.statements(body);
                self.text("]");
            }
            TermKind::SetCompr(head, body) => {
                self.text("{");
                self.head(head);
                self.text(" | ");
                self.statements(body);
                self.text("}");
            }
            TermKind::ObjectCompr(key, value, body) => {
                self.text("{");
                if contains_union(key) {
                    self.head(key)
                } else {
                    self.member(key)
                }
                self.text(": ");
                self.head(value);
                self.text(" | ");
                self.statements(body);
                self.text("}");
            }
            TermKind::Infix(op, left, right) => {
                self.operand(left, op.strength());
                self.text(&format!(" {op} "));
                self.operand(right, op.strength() + 1);
            }
            TermKind::In(key, value, collection) => {
                if let Some(key) = key {
                    self.operand(key, 2);
                    self.text(", ");
                    self.operand(value, 2);
                } else {
                    self.operand(value, if matches!(&value.kind, TermKind::In(None, ..)) { 1 } else { 2 });
                }
                self.text(" in ");
                self.operand(collection, 2);
            }
        }
    }

    fn template(&mut self, parts: &[Part]) {
        self.text("$\"");
        for part in parts {
            match part {
                Part::Text(text) => {
                    let text = quoted(text).replace('{', "\\{");
                    self.text(&text[1..text.len() - 1]);
                }
                Part::Term(term, withs) => {
                    self.text("{");
                    let line = std::mem::replace(&mut self.line, u32::MAX);
                    self.term(term);
                    self.withs(withs);
                    self.line = line;
                    self.text("}");
                }
            }
        }
        self.text("\"");
    }
}

/// A `|` that a parser could take for a comprehension's when the term begins a literal.
fn contains_union(term: &Term) -> bool {
    match &term.kind {
        TermKind::Infix(Op::Or, ..) => true,
        TermKind::Infix(_, left, _) => contains_union(left),
        TermKind::In(_, value, _) => contains_union(value),
        _ => false,
    }
}

/// A word that cannot be a variable.
pub fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}
