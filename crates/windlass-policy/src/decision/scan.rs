//! Words of Rego texts with their places: enough to find rule heads and what is read of `input`, whatever the version.

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

/// All words of a text; comments are left out.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let (mut at, mut depth, mut line, mut line_start) = (0, 0usize, 1u32, 0);
    while at < bytes.len() {
        let (start, first) = (at, at == line_start);
        let mut push = |word: Word, end: usize, depth: usize| {
            out.push(Token { word, start, end, depth, line, first });
        };
        match bytes[at] {
            b'\n' => {
                at += 1;
                line += 1;
                line_start = at;
            }
            b'#' => at = text[at..].find('\n').map_or(bytes.len(), |n| at + n),
            b'"' => {
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != b'"' && bytes[end] != b'\n' {
                    end += if bytes[end] == b'\\' && bytes.get(end + 1) != Some(&b'\n') { 2 } else { 1 };
                }
                let close = end.min(bytes.len());
                let inner = text.get(at + 1..close).unwrap_or_default().to_owned();
                // One that is not closed ends with its line.
                at = if bytes.get(close) == Some(&b'"') { close + 1 } else { close };
                push(Word::Text(inner), at, depth);
            }
            b'`' => {
                let close = text[at + 1..].find('`').map_or(bytes.len(), |n| at + 1 + n);
                let inner = text.get(at + 1..close).unwrap_or_default();
                let lines = inner.bytes().filter(|b| *b == b'\n').count() as u32;
                at = (close + 1).min(bytes.len());
                push(Word::Text(inner.to_owned()), at, depth);
                line += lines;
                if lines > 0 {
                    // Whatever follows on that line is not in its first column.
                    line_start = usize::MAX;
                }
            }
            c if c.is_ascii_alphabetic() || c == b'_' => {
                let end = bytes[at..].iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_'));
                at = end.map_or(bytes.len(), |n| at + n);
                push(Word::Name(text[start..at].to_owned()), at, depth);
            }
            c if c.is_ascii_digit() => {
                let end = bytes[at..].iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'.'));
                at = end.map_or(bytes.len(), |n| at + n);
                push(Word::Number, at, depth);
            }
            b':' if bytes.get(at + 1) == Some(&b'=') => {
                at += 2;
                push(Word::Assign, at, depth);
            }
            c if c.is_ascii_whitespace() => at += 1,
            c if c.is_ascii() => {
                at += 1;
                if matches!(c, b')' | b']' | b'}') {
                    depth = depth.saturating_sub(1);
                }
                push(Word::Sign(c as char), at, depth);
                if matches!(c, b'(' | b'[' | b'{') {
                    depth += 1;
                }
            }
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
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
