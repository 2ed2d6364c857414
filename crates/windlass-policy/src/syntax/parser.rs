//! Tokens to a module: packages, imports, rules and statements. Terms are in [`super::terms`]. Every token is read once, so that
//! nesting costs nothing extra; nesting itself is limited.

use super::lexer::{Tok, Token, Trouble};
use super::tree::*;

/// Brackets inside brackets. Deeper text is not written by people, and every later pass recurses.
const DEEPEST: usize = 120;

/// Words that cannot be variables.
pub const KEYWORDS: [&str; 15] = [
    "as", "contains", "default", "else", "every", "false", "if", "import", "in", "not", "null", "package", "some",
    "true", "with",
];

/// What v0 writes like any other name, unless it is imported.
const FUTURE: [&str; 4] = ["contains", "every", "if", "in"];

pub(super) struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
    /// First head that only v1 has, and first rule that only v0 has.
    only_v1: Option<Loc>,
    only_v0: Option<Loc>,
    pub(super) last: Loc,
}

impl<'t> Parser<'t> {
    pub(super) fn new(tokens: &'t [Token], depth: usize) -> Self {
        Self { tokens, at: 0, depth, only_v1: None, only_v0: None, last: Loc::default() }
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn token(&self) -> &'t Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn ahead(&self, n: usize) -> &'t Token {
        &self.tokens[(self.at + n).min(self.tokens.len() - 1)]
    }

    pub(super) fn loc(&self) -> Loc {
        self.token().loc
    }

    fn ahead_of(&self, at: usize) -> &'t Token {
        &self.tokens[(at + 1).min(self.tokens.len() - 1)]
    }

    pub(super) fn advance(&mut self) -> &'t Token {
        let token = self.token();
        self.last = token.loc;
        self.at += 1;
        token
    }

    pub(super) fn is(&self, symbol: &str) -> bool {
        matches!(self.token().tok, Tok::Symbol(found) if found == symbol)
    }

    /// `symbol` follows at once, without white space.
    pub(super) fn touches(&self, symbol: &str) -> bool {
        self.is(symbol) && !self.token().spaced
    }

    pub(super) fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }

    /// The keyword stands here as a keyword, not as the root of a reference such as `if.foo`.
    pub(super) fn is_word(&self, word: &str) -> bool {
        let next = self.ahead(1);
        let rooted = next.tok == Tok::Symbol(".") && !next.spaced;
        matches!(&self.token().tok, Tok::Word(w) if w == word) && !rooted
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, symbol: &str, context: &str) -> Result<Loc, Trouble> {
        let loc = self.loc();
        if self.take(symbol) { Ok(loc) } else { Err(self.unexpected(&format!("`{symbol}` {context}"))) }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> Trouble {
        let token = self.token();
        let found = match &token.tok {
            Tok::Word(word) => format!("`{word}`"),
            Tok::Number(number) => format!("number {number}"),
            Tok::String(_) | Tok::Template(_) => "a string".to_owned(),
            Tok::Symbol(symbol) => format!("`{symbol}`"),
            Tok::End => "the end".to_owned(),
        };
        Trouble::new(format!("expected {wanted}, found {found}"), token.loc)
    }

    pub(super) fn enter(&mut self) -> Result<(), Trouble> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Trouble::new(format!("nested deeper than {DEEPEST} levels"), self.loc())
                .help("give an inner part a name, or move a constant into a data file"));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn at_end(&self) -> bool {
        self.token().tok == Tok::End
    }

    /// # Errors
    /// The first thing that is not Rego, of either dialect unless one is asked for.
    pub(super) fn module(mut self, wanted: Option<Dialect>) -> Result<Module, Trouble> {
        if !self.take_word("package") {
            return Err(self.unexpected("`package`").help("a policy begins with `package main`"));
        }
        let start = self.last;
        let package = self.package_path()?;
        let package_loc = start.to(self.last);
        let mut imports = Vec::new();
        let mut rules = Vec::new();
        let mut strict = None;
        while !self.at_end() {
            if self.take(";") {
                continue;
            }
            if self.is_word("import") && !self.is_head_after_word() {
                let import = self.import()?;
                if import.path == ["rego", "v1"] {
                    strict.get_or_insert(import.loc);
                }
                imports.push(import);
            } else {
                self.rules(&mut rules)?;
            }
        }
        let future = imports.iter().any(|import| import.path.first().is_some_and(|root| root == "future"));
        let dialect = match (wanted, self.only_v0, self.only_v1) {
            (Some(Dialect::V1), Some(loc), _) => return Err(needs_if(loc)),
            (_, Some(loc), _) if strict.is_some() => return Err(needs_if(loc)),
            (None, Some(loc), Some(_)) if !future => return Err(needs_if(loc)),
            (Some(dialect), ..) => dialect,
            (None, Some(_), _) => Dialect::V0,
            (None, None, _) => Dialect::V1,
        };
        Ok(Module { package, package_loc, imports, rules, dialect })
    }

    /// `import := 1` and `default[x]` are heads, not keywords.
    fn is_head_after_word(&self) -> bool {
        let next = self.ahead(1);
        matches!(next.tok, Tok::Symbol(":=" | "=" | "{" | "(")) || (next.tok == Tok::Symbol("[") && !next.spaced)
    }

    fn package_path(&mut self) -> Result<Vec<String>, Trouble> {
        let mut path = vec![self.name("a package name")?];
        self.keys(&mut path)?;
        Ok(path)
    }

    fn keys(&mut self, path: &mut Vec<String>) -> Result<(), Trouble> {
        loop {
            if self.touches(".") {
                self.advance();
                path.push(self.name("a name after `.`")?);
            } else if self.touches("[") {
                self.advance();
                let Tok::String(key) = &self.token().tok else { return Err(self.unexpected("a string in quotes")) };
                path.push(key.clone());
                self.advance();
                self.expect("]", "after the key")?;
            } else {
                return Ok(());
            }
        }
    }

    /// Any word, keywords too.
    pub(super) fn name(&mut self, what: &str) -> Result<String, Trouble> {
        let Tok::Word(word) = &self.token().tok else { return Err(self.unexpected(what)) };
        self.advance();
        Ok(word.clone())
    }

    fn import(&mut self) -> Result<Import, Trouble> {
        self.advance();
        let start = self.last;
        let root = self.loc();
        let mut path = vec![self.name("what to import")?];
        self.keys(&mut path)?;
        let known = match path[0].as_str() {
            "data" | "input" => true,
            "rego" => path.len() == 2 && path[1] == "v1",
            "future" => {
                path.get(1).is_some_and(|word| word == "keywords")
                    && path.len() <= 3
                    && path.get(2).is_none_or(|word| FUTURE.contains(&word.as_str()) || word == "not")
            }
            _ => false,
        };
        if !known {
            return Err(Trouble::new(format!("`{}` cannot be imported", path.join(".")), root.to(self.last))
                .help("imports begin with `data.` or `input.`, or are `rego.v1` and `future.keywords`"));
        }
        let mut alias = None;
        if self.take_word("as") {
            let loc = self.loc();
            let name = self.name("a name after `as`")?;
            if matches!(path[0].as_str(), "rego" | "future") || name == "_" || KEYWORDS.contains(&name.as_str()) {
                return Err(Trouble::new(format!("`{name}` cannot be the name of this import"), loc));
            }
            alias = Some(name);
        }
        Ok(Import { path, alias, loc: start.to(self.last) })
    }

    /// A rule with its chained bodies.
    fn rules(&mut self, rules: &mut Vec<Rule>) -> Result<(), Trouble> {
        let start = self.loc();
        let default = self.is_word("default") && !self.is_head_after_word();
        if default {
            self.advance();
        }
        let mut head = self.head(start)?;
        let head_end = self.last;
        let has_if = self.take_word("if");
        if has_if {
            self.only_v1.get_or_insert(self.last);
        }
        let mut body = None;
        let mut plain_body = false;
        if has_if {
            body = Some(self.after_if()?);
        } else if self.is("{") && self.loc().line == head_end.line {
            plain_body = true;
            self.only_v0.get_or_insert(self.loc());
            body = Some(self.braced()?);
        }
        if default {
            if let Some(loc) = body.as_ref().map(|_| self.last) {
                return Err(Trouble::new("a default has no body", loc).help("write `default name := value`"));
            }
            if head.value.is_none() || head.key.is_some() {
                return Err(
                    Trouble::new("a default needs a value", start.to(self.last)).help("write `default name := value`")
                );
            }
        }
        // v0: `p[x]` and `p.x` without `if` and value are sets.
        if !has_if && head.key.is_none() && head.value.is_none() && head.params.is_none() && head.path.len() == 1 {
            self.only_v0.get_or_insert(head.name_loc);
            head.bracket_set = true;
            head.key = match head.path.pop() {
                Some(Arg::Bracket(term)) => Some(term),
                Some(Arg::Dot(name, loc)) => Some(Term::string(name, loc)),
                None => None,
            };
        } else if body.is_none() && head.value.is_none() && head.params.is_some() {
            // v0: such a function is true.
            self.only_v0.get_or_insert(head.name_loc);
        } else if body.is_none() && head.key.is_none() && head.value.is_none() && !default {
            return Err(Trouble::new(format!("rule `{}` has neither a value nor a body", head.name), head.loc)
                .help(format!("write `{} := value` or `{} if {{ … }}`", head.name, head.name)));
        }
        let mut rule = Rule { default, head, body, elses: Vec::new(), chained: false, loc: start.to(self.last) };
        if rule.body.is_some() {
            while self.is_word("else") {
                let other = self.otherwise(has_if)?;
                rule.elses.push(other);
            }
        }
        rule.loc = start.to(self.last);
        if let (Some(other), true) = (rule.elses.first(), rule.head.key.is_some()) {
            return Err(Trouble::new("`else` cannot follow a set rule", other.loc)
                .help("write a second rule with the same name"));
        }
        let chainable = plain_body && rule.elses.is_empty();
        let head = chainable.then(|| rule.head.clone());
        rules.push(rule);
        while let (Some(head), true) = (&head, self.is("{")) {
            let start = self.loc();
            let body = Some(self.braced()?);
            rules.push(Rule {
                default: false,
                head: head.clone(),
                body,
                elses: Vec::new(),
                chained: true,
                loc: start.to(self.last),
            });
        }
        Ok(())
    }

    fn otherwise(&mut self, has_if: bool) -> Result<Else, Trouble> {
        self.advance();
        let start = self.last;
        let mut value = None;
        if self.take(":=") || self.take("=") {
            value = Some(self.expression()?);
        }
        let body = if self.take_word("if") {
            self.only_v1.get_or_insert(self.last);
            Some(self.after_if()?)
        } else if self.is("{") {
            if has_if {
                return Err(needs_if(self.loc()));
            }
            self.only_v0.get_or_insert(self.loc());
            Some(self.braced()?)
        } else {
            None
        };
        if value.is_none() && body.is_none() {
            return Err(self.unexpected("a value or a body after `else`").help("write `else := value if { … }`"));
        }
        Ok(Else { value, body, loc: start.to(self.last) })
    }

    fn head(&mut self, start: Loc) -> Result<Head, Trouble> {
        let word = self.loc();
        let name = match &self.token().tok {
            Tok::Word(name) => name.clone(),
            _ => return Err(self.unexpected("the name of a rule")),
        };
        let next = self.ahead(1);
        let rooted = matches!(next.tok, Tok::Symbol("." | "[")) && !next.spaced;
        if KEYWORDS.contains(&name.as_str()) && !rooted && !FUTURE.contains(&name.as_str()) {
            return Err(self.unexpected("the name of a rule").help(format!("`{name}` is a keyword")));
        }
        self.advance();
        let mut path = Vec::new();
        self.arguments(&mut path)?;
        let name_loc = word.to(self.last);
        let mut params = None;
        if self.touches("(") {
            self.advance();
            params = Some(self.list(")")?);
        }
        let mut key = None;
        let mut value = None;
        if params.is_none() && self.is_word("contains") && self.loc().line == self.last.line {
            self.advance();
            self.only_v1.get_or_insert(self.last);
            key = Some(self.expression()?);
        } else if self.take(":=") || self.take("=") {
            value = Some(self.expression()?);
        }
        Ok(Head { name, path, params, key, value, loc: start.to(self.last), name_loc, bracket_set: false })
    }

    /// A body in braces, or one statement, which may itself begin with a brace. Only here is text read twice, and never in nesting.
    fn after_if(&mut self) -> Result<Vec<Stmt>, Trouble> {
        if !self.is("{") {
            return Ok(vec![self.statement()?]);
        }
        let (at, last, depth) = (self.at, self.last, self.depth);
        let trouble = match self.braced() {
            Ok(body) => return Ok(body),
            Err(trouble) if matches!(self.ahead_of(at).tok, Tok::Symbol("}")) => return Err(trouble),
            Err(trouble) => trouble,
        };
        (self.at, self.last, self.depth) = (at, last, depth);
        self.statement().map(|statement| vec![statement]).map_err(|_| trouble)
    }

    pub(super) fn braced(&mut self) -> Result<Vec<Stmt>, Trouble> {
        let open = self.expect("{", "before a body")?;
        self.statements("}", open)
    }

    /// Statements up to and with `close`; at least one.
    pub(super) fn statements(&mut self, close: &str, open: Loc) -> Result<Vec<Stmt>, Trouble> {
        self.enter()?;
        if self.is(close) {
            return Err(
                Trouble::new("this body is empty", open.to(self.loc())).help("write `true` for a body that holds")
            );
        }
        let mut statements = Vec::new();
        loop {
            statements.push(self.statement()?);
            let line = self.last_line();
            let separated = self.take(";");
            if self.take(close) {
                self.leave();
                return Ok(statements);
            }
            if self.at_end() {
                return Err(Trouble::new(format!("this is closed by no `{close}`"), open));
            }
            if !separated && self.loc().line == line {
                return Err(self.unexpected(&format!("`{close}`, `;` or a new line")));
            }
        }
    }

    /// The line that the last token ends on.
    fn last_line(&self) -> u32 {
        // Raw strings span lines; a token after one on its last line is on a later line than its start.
        self.last.line
    }

    /// A query: statements up to the end.
    pub(super) fn query(mut self) -> Result<Vec<Stmt>, Trouble> {
        let mut statements = Vec::new();
        while self.take(";") {}
        while !self.at_end() {
            statements.push(self.statement()?);
            let line = self.last_line();
            let separated = self.take(";");
            if !separated && !self.at_end() && self.loc().line == line {
                return Err(self.unexpected("`;` or a new line"));
            }
        }
        if statements.is_empty() { Err(self.unexpected("a query")) } else { Ok(statements) }
    }

    fn statement(&mut self) -> Result<Stmt, Trouble> {
        let start = self.loc();
        let negated = self.take_word("not");
        let mut kind = if !negated && self.is_word("some") {
            self.some()?
        } else if !negated && self.is_word("every") && matches!(self.ahead(1).tok, Tok::Word(_)) {
            self.every()?
        } else {
            let left = self.expression()?;
            if self.take(":=") {
                StmtKind::Assign(left, self.expression()?)
            } else if self.take("=") {
                StmtKind::Unify(left, self.expression()?)
            } else {
                StmtKind::Expr(left)
            }
        };
        if negated {
            if let StmtKind::Assign(left, _) = &kind {
                return Err(Trouble::new("`:=` cannot be negated", left.loc).help("compare with `==`"));
            }
            kind = StmtKind::Not(Box::new(kind));
        }
        let withs = self.withs()?;
        Ok(Stmt { kind, withs, loc: start.to(self.last) })
    }

    pub(super) fn withs(&mut self) -> Result<Vec<With>, Trouble> {
        let mut withs = Vec::new();
        while self.is_word("with") {
            self.advance();
            let start = self.last;
            let target = self.term()?;
            if target.static_path().is_none() {
                return Err(Trouble::new(
                    "`with` replaces `input`, `data` or a function, by a path of names",
                    target.loc,
                )
                .help("write `with input.a as …`, `with data.a.b as …` or `with f as …`"));
            }
            if !self.take_word("as") {
                return Err(self.unexpected("`as`"));
            }
            let value = self.expression()?;
            withs.push(With { target, value, loc: start.to(self.last) });
        }
        Ok(withs)
    }

    fn some(&mut self) -> Result<StmtKind, Trouble> {
        self.advance();
        let mut terms = vec![self.above_in()?];
        while self.take(",") {
            terms.push(self.above_in()?);
        }
        if self.take_word("in") {
            let collection = self.above_in()?;
            let mut terms = terms.into_iter();
            return match (terms.next(), terms.next(), terms.next()) {
                (Some(value), None, _) => Ok(StmtKind::SomeIn { key: None, value, collection }),
                (Some(key), Some(value), None) => Ok(StmtKind::SomeIn { key: Some(key), value, collection }),
                (_, _, third) => {
                    let loc = third.map_or(collection.loc, |term| term.loc);
                    Err(Trouble::new("`some … in` takes a key and a value, no more", loc))
                }
            };
        }
        if let Some(term) = terms.iter().find(|term| !matches!(term.kind, TermKind::Var(_))) {
            return Err(Trouble::new("`some` declares variables", term.loc)
                .help("write `some name`, or `some pattern in collection`"));
        }
        Ok(StmtKind::Some(terms))
    }

    fn every(&mut self) -> Result<StmtKind, Trouble> {
        self.advance();
        let mut value = self.variable()?;
        let mut key = None;
        if self.take(",") {
            key = Some(value);
            value = self.variable()?;
        }
        if !self.take_word("in") {
            return Err(self.unexpected("`in`"));
        }
        let domain = self.above_in()?;
        let body = self.braced()?;
        Ok(StmtKind::Every { key, value, domain, body })
    }

    fn variable(&mut self) -> Result<Term, Trouble> {
        let loc = self.loc();
        match &self.token().tok {
            Tok::Word(word) if !KEYWORDS.contains(&word.as_str()) => {
                self.advance();
                Ok(Term::var(word, loc))
            }
            _ => Err(self.unexpected("a variable")),
        }
    }
}

fn needs_if(loc: Loc) -> Trouble {
    Trouble::new("Rego v1 needs `if` before a body and `contains` in a set rule", loc)
        .help("write `deny contains msg if { … }`; a file that has neither anywhere is read as v0")
}
