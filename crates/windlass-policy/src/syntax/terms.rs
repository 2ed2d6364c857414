//! Terms and expressions.

use super::lexer::{Piece, Tok, Trouble};
use super::parser::{KEYWORDS, Parser};
use super::print::is_identifier;
use super::tree::*;

/// Operators in one row: `a + b + …`.
const LONGEST: usize = 400;

impl Parser<'_> {
    /// A whole expression: operators and `in`.
    pub(super) fn expression(&mut self) -> Result<Term, Trouble> {
        let left = self.above_in()?;
        self.membership(left, true)
    }

    /// An expression as a member of a list, where a comma ends it.
    fn member(&mut self) -> Result<Term, Trouble> {
        let left = self.above_in()?;
        self.membership(left, false)
    }

    /// An expression without `in`.
    pub(super) fn above_in(&mut self) -> Result<Term, Trouble> {
        self.enter()?;
        let left = self.term()?;
        let out = self.operators(left, 2);
        self.leave();
        out
    }

    fn membership(&mut self, mut left: Term, pairs: bool) -> Result<Term, Trouble> {
        if pairs && self.is(",") {
            self.advance();
            let value = self.above_in()?;
            if !self.take_word("in") {
                return Err(self.unexpected("`in` after `key, value`"));
            }
            let collection = self.above_in()?;
            let loc = left.loc.to(self.last);
            left = Term::new(TermKind::In(Some(Box::new(left)), Box::new(value), Box::new(collection)), loc);
        }
        let mut count = 0;
        while self.is_word("in") {
            self.advance();
            self.limit(&mut count)?;
            let collection = self.above_in()?;
            let loc = left.loc.to(self.last);
            left = Term::new(TermKind::In(None, Box::new(left), Box::new(collection)), loc);
        }
        Ok(left)
    }

    fn limit(&self, count: &mut usize) -> Result<(), Trouble> {
        *count += 1;
        if *count > LONGEST {
            return Err(Trouble::new(format!("more than {LONGEST} operators in one row"), self.loc())
                .help("use sum(), concat() or a comprehension over a list"));
        }
        Ok(())
    }

    fn operator(&self) -> Option<Op> {
        let Tok::Symbol(symbol) = self.token().tok else { return None };
        Some(match symbol {
            "+" => Op::Add,
            "-" => Op::Sub,
            "*" => Op::Mul,
            "/" => Op::Div,
            "%" => Op::Rem,
            "&" => Op::And,
            "|" => Op::Or,
            "==" => Op::Eq,
            "!=" => Op::Ne,
            "<" => Op::Lt,
            "<=" => Op::Le,
            ">" => Op::Gt,
            ">=" => Op::Ge,
            _ => return None,
        })
    }

    /// Operators of at least `strength` after `left`.
    fn operators(&mut self, mut left: Term, strength: u8) -> Result<Term, Trouble> {
        let mut count = 0;
        while let Some(op) = self.operator().filter(|op| op.strength() >= strength) {
            self.advance();
            self.limit(&mut count)?;
            let right = self.term()?;
            let right = self.operators(right, op.strength() + 1)?;
            let loc = left.loc.to(right.loc);
            left = Term::new(TermKind::Infix(op, Box::new(left), Box::new(right)), loc);
        }
        Ok(left)
    }

    /// A term without operators.
    pub(super) fn term(&mut self) -> Result<Term, Trouble> {
        self.enter()?;
        let out = self.reference();
        self.leave();
        out
    }

    fn reference(&mut self) -> Result<Term, Trouble> {
        let start = self.loc();
        let mut head = self.root()?;
        let named = matches!(head.kind, TermKind::Var(_));
        let parens = !named && matches!(head.kind, TermKind::Infix(..) | TermKind::In(..));
        let mut path = Vec::new();
        if !parens {
            self.arguments(&mut path)?;
        }
        if !path.is_empty() {
            head = Term::new(TermKind::Ref(Box::new(head), path), start.to(self.last));
        }
        if named && self.touches("(") {
            if head.static_path().is_none() {
                return Err(Trouble::new("a function is called by a constant name", head.loc));
            }
            self.advance();
            let args = self.list(")")?;
            let loc = start.to(self.last);
            head = if args.is_empty() && matches!(&head.kind, TermKind::Var(name) if name == "set") {
                Term::new(TermKind::Set(Vec::new()), loc)
            } else {
                Term::new(TermKind::Call(Box::new(head), args), loc)
            };
            let mut path = Vec::new();
            self.arguments(&mut path)?;
            if !path.is_empty() {
                head = Term::new(TermKind::Ref(Box::new(head), path), start.to(self.last));
            }
        }
        Ok(head)
    }

    /// `.name` and `[term]` that follow at once.
    pub(super) fn arguments(&mut self, path: &mut Vec<Arg>) -> Result<(), Trouble> {
        loop {
            if self.touches(".") {
                self.advance();
                if self.token().spaced {
                    return Err(Trouble::new("white space after `.`", self.last).help("remove it"));
                }
                let loc = self.loc();
                path.push(Arg::Dot(self.name("a name after `.`")?, loc));
            } else if self.touches("[") {
                self.advance();
                let key = self.expression()?;
                self.expect("]", "after the key")?;
                // `["name"]` is `.name`.
                path.push(match key {
                    Term { kind: TermKind::String(name), loc } if is_identifier(&name) => Arg::Dot(name, loc),
                    key => Arg::Bracket(key),
                });
            } else {
                return Ok(());
            }
        }
    }

    /// Members up to and with `close`; a comma may end the list.
    pub(super) fn list(&mut self, close: &str) -> Result<Vec<Term>, Trouble> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.member()?);
            if !self.take(",") && !self.is(close) {
                return Err(self.unexpected(&format!("`,` or `{close}`")));
            }
        }
        Ok(items)
    }

    fn root(&mut self) -> Result<Term, Trouble> {
        let start = self.loc();
        match &self.token().tok {
            Tok::Word(word) => {
                if self.is_word(word) {
                    match word.as_str() {
                        "null" => return Ok(self.simple(TermKind::Null)),
                        "true" => return Ok(self.simple(TermKind::Bool(true))),
                        "false" => return Ok(self.simple(TermKind::Bool(false))),
                        // `contains` is a builtin; v0 has the others as names.
                        "contains" | "if" | "in" | "every" => {}
                        _ if KEYWORDS.contains(&word.as_str()) => {
                            return Err(self.unexpected("a term").help(format!("`{word}` is a keyword")));
                        }
                        _ => {}
                    }
                }
                Ok(self.simple(TermKind::Var(word.clone())))
            }
            Tok::Number(number) => Ok(self.simple(TermKind::Number(number.clone()))),
            Tok::String(text) => Ok(self.simple(TermKind::String(text.clone()))),
            Tok::Template(pieces) => {
                let mut parts = Vec::new();
                for piece in pieces {
                    parts.push(match piece {
                        Piece::Text(text) => Part::Text(text.clone()),
                        Piece::Tokens(tokens) => {
                            let mut inner = Parser::new(tokens, self.depth());
                            let term = inner.expression()?;
                            let withs = inner.withs()?;
                            if !inner.at_end() {
                                return Err(inner.unexpected("`}` after one expression"));
                            }
                            Part::Term(term, withs)
                        }
                    });
                }
                Ok(self.simple(TermKind::Template(parts)))
            }
            Tok::Symbol("-") => {
                self.advance();
                let Tok::Number(number) = &self.token().tok else {
                    return Err(self.unexpected("a number after `-`").help("write `0 - x`"));
                };
                let number = format!("-{number}");
                self.advance();
                Ok(Term::new(TermKind::Number(number), start.to(self.last)))
            }
            Tok::Symbol("(") => {
                self.advance();
                let mut inner = self.expression()?;
                self.expect(")", "after the expression")?;
                inner.loc = start.to(self.last);
                Ok(inner)
            }
            Tok::Symbol("[") => self.array(start),
            Tok::Symbol("{") => self.braces(start),
            _ => Err(self.unexpected("a term")),
        }
    }

    fn simple(&mut self, kind: TermKind) -> Term {
        let loc = self.loc();
        self.advance();
        Term::new(kind, loc)
    }

    /// The rest of an expression that began with `head`.
    fn rest(&mut self, head: Term) -> Result<Term, Trouble> {
        let left = self.operators(head, 2)?;
        self.membership(left, false)
    }

    /// After the first term of a literal: is it the head of a comprehension?
    fn comprehension(&mut self, close: &str, open: Loc) -> Result<Option<Vec<Stmt>>, Trouble> {
        if !self.take("|") {
            return Ok(None);
        }
        let bar = self.last;
        self.statements(close, open).map(Some).map_err(|trouble| {
            if trouble.help.is_none() && trouble.message.contains("found `,`") {
                trouble.help(format!(
                    "after `|` (line {}) a comprehension's body is expected; write a union in a literal as `(a | b)`",
                    bar.line
                ))
            } else {
                trouble
            }
        })
    }

    fn array(&mut self, start: Loc) -> Result<Term, Trouble> {
        self.advance();
        if self.take("]") {
            return Ok(Term::new(TermKind::Array(Vec::new()), start.to(self.last)));
        }
        let head = self.term()?;
        if let Some(body) = self.comprehension("]", start)? {
            return Ok(Term::new(TermKind::ArrayCompr(Box::new(head), body), start.to(self.last)));
        }
        let mut items = vec![self.rest(head)?];
        if self.take(",") {
            items.extend(self.list("]")?);
        } else if !self.take("]") {
            return Err(self.unexpected("`,` or `]`"));
        }
        Ok(Term::new(TermKind::Array(items), start.to(self.last)))
    }

    fn braces(&mut self, start: Loc) -> Result<Term, Trouble> {
        self.advance();
        if self.take("}") {
            return Ok(Term::new(TermKind::Object(Vec::new()), start.to(self.last)));
        }
        let head = self.term()?;
        if let Some(body) = self.comprehension("}", start)? {
            return Ok(Term::new(TermKind::SetCompr(Box::new(head), body), start.to(self.last)));
        }
        let first = self.rest(head)?;
        if !self.take(":") {
            let mut items = vec![first];
            if self.take(",") {
                items.extend(self.list("}")?);
            } else if !self.take("}") {
                return Err(self.unexpected("`,`, `:` or `}`"));
            }
            return Ok(Term::new(TermKind::Set(items), start.to(self.last)));
        }
        let value = self.term()?;
        if let Some(body) = self.comprehension("}", start)? {
            let kind = TermKind::ObjectCompr(Box::new(first), Box::new(value), body);
            return Ok(Term::new(kind, start.to(self.last)));
        }
        let mut items = vec![(first, self.rest(value)?)];
        loop {
            let comma = self.take(",");
            if self.take("}") {
                return Ok(Term::new(TermKind::Object(items), start.to(self.last)));
            }
            if !comma {
                return Err(self.unexpected("`,` or `}`"));
            }
            let key = self.member()?;
            self.expect(":", "between key and value")?;
            items.push((key, self.member()?));
        }
    }
}
