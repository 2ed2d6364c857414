//! Words of Rego texts with their places: enough to find rule heads and what is read of `input`, whatever the version.

use crate::syntax::lexer::{self, Tok};
use std::sync::Arc;
use windlass_model::diagnostic::Span;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Name(String),
    /// Of a string without its quotes.
    Text(String),
    Number,
    Sign(char),
    /// `:=`
    Assign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub word: Word,
    /// Bytes.
    pub start: usize,
    pub end: usize,
    /// Brackets of any kind that are open before it.
    pub depth: usize,
    /// From 1.
    pub line: u32,
    /// It stands in the first column.
    pub first: bool,
}

impl Token {
    pub fn name(&self) -> Option<&str> {
        if let Word::Name(name) = &self.word { Some(name) } else { None }
    }
    pub fn is(&self, sign: char) -> bool {
        self.word == Word::Sign(sign)
    }
}

/// All words of a text; comments are left out. None for a text that is no Rego: whoever loads it says where.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let lexed = lexer::lex(text).map(|lexed| lexed.tokens).unwrap_or_default();
    let mut out = Vec::with_capacity(lexed.len());
    let mut depth = 0usize;
    for token in lexed {
        let word = match token.tok {
            Tok::Word(name) => Word::Name(name),
            Tok::String(text) => Word::Text(text),
            // What is interpolated is no constant.
            Tok::Template(_) | Tok::Number(_) => Word::Number,
            Tok::Symbol(":=") => Word::Assign,
            Tok::Symbol(symbol) => Word::Sign(symbol.chars().next().unwrap_or_default()),
            Tok::End => continue,
        };
        if matches!(word, Word::Sign(')' | ']' | '}')) {
            depth = depth.saturating_sub(1);
        }
        let opens = matches!(word, Word::Sign('(' | '[' | '{'));
        let (start, end) = (token.loc.start as usize, token.loc.end as usize);
        let first = start == 0 || text.as_bytes().get(start - 1) == Some(&b'\n');
        out.push(Token { word, start, end, depth, line: token.loc.line, first });
        depth += usize::from(opens);
    }
    out
}

/// A rule by its first head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub package: String,
    pub name: String,
    pub span: Span,
}

impl Head {
    /// e.g. `data.main.deny`.
    pub fn path(&self) -> String {
        format!("data.{}.{}", self.package, self.name)
    }
    /// It is called `word` or `word_…`.
    pub fn is(&self, word: &str) -> bool {
        self.name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }
}

/// The package of a file, dotted, and its rules: their heads come first on a line and are in no bracket. What only looks like
/// one, in an expression over several lines, is a rule of that name too, or none that anybody asks.
pub(super) fn heads(path: &Arc<str>, text: &str) -> Vec<Head> {
    let tokens = tokens(text);
    let mut package = String::new();
    let mut out: Vec<Head> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let is_later = index > 0 && tokens[index - 1].line == token.line;
        if is_later || token.depth > 0 {
            continue;
        }
        match token.name() {
            Some("package") => package = dotted(&tokens[index + 1..], token.line),
            Some("import" | "else") | None => {}
            Some("default") => {
                if let Some(next) = tokens.get(index + 1)
                    && let Some(name) = next.name()
                {
                    add(&mut out, path, text, &package, name, next);
                }
            }
            Some(name) => add(&mut out, path, text, &package, name, token),
        }
    }
    out
}

fn add(out: &mut Vec<Head>, path: &Arc<str>, text: &str, package: &str, name: &str, token: &Token) {
    if out.iter().all(|head| head.name != name) {
        let span = Span::of(path, text, token.start, token.end);
        out.push(Head { package: package.to_owned(), name: name.to_owned(), span });
    }
}

/// `a.b["c"]` on one line.
fn dotted(tokens: &[Token], line: u32) -> String {
    let words = tokens.iter().take_while(|token| token.line == line).filter_map(|token| match &token.word {
        Word::Name(name) | Word::Text(name) => Some(name.as_str()),
        _ => None,
    });
    words.collect::<Vec<_>>().join(".")
}
