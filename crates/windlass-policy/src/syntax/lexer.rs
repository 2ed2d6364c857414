//! Text to tokens and comments.

use super::tree::{Comment, Loc};

#[derive(Debug, Clone, PartialEq)]
pub enum Tok {
    /// Identifiers and keywords.
    Word(String),
    Number(String),
    String(String),
    /// An interpolated string: text and the tokens of each `{…}`, which end with [`Tok::End`].
    Template(Vec<Piece>),
    /// Punctuation, one of [`SYMBOLS`].
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    Text(String),
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub tok: Tok,
    pub loc: Loc,
    /// White space stands before it.
    pub spaced: bool,
}

/// Longest first.
const SYMBOLS: [&str; 24] = [
    ":=", "==", "!=", "<=", ">=", "{", "}", "[", "]", "(", ")", ",", ";", ":", ".", "=", "<", ">", "+", "-", "*", "/",
    "%", "&",
];

/// Interpolations inside interpolations.
const DEEPEST_TEMPLATE: usize = 16;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    pub message: String,
    pub help: Option<String>,
    pub loc: Loc,
}

impl Trouble {
    pub fn new(message: impl Into<String>, loc: Loc) -> Self {
        Self { message: message.into(), help: None, loc }
    }
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

pub struct Lexed {
    /// Ends with [`Tok::End`].
    pub tokens: Vec<Token>,
    pub comments: Vec<Comment>,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
    comments: Vec<Comment>,
}

/// # Errors
/// The first thing that is no token.
pub fn lex(text: &str) -> Result<Lexed, Trouble> {
    let mut lexer = Lexer { text, at: 0, line: 1, line_start: 0, comments: Vec::new() };
    // A byte order mark.
    if text.starts_with('\u{feff}') {
        lexer.at = '\u{feff}'.len_utf8();
    }
    let tokens = lexer.tokens(None, 0)?;
    Ok(Lexed { tokens, comments: lexer.comments })
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        if c == '\n' {
            self.line += 1;
            self.line_start = self.at;
        }
        Some(c)
    }

    fn here(&self) -> Loc {
        let end = self.at + self.peek().map_or(0, char::len_utf8);
        Loc { start: self.at as u32, end: end as u32, line: self.line }
    }

    /// Tokens up to the end of the text, or to the `}` that closes an interpolation opened at `open`.
    fn tokens(&mut self, open: Option<Loc>, depth: usize) -> Result<Vec<Token>, Trouble> {
        let mut tokens = Vec::new();
        let mut braces = 0usize;
        loop {
            let before = self.at;
            self.blank();
            let spaced = self.at != before;
            let start = self.here();
            let Some(c) = self.peek() else {
                if let Some(open) = open {
                    return Err(Trouble::new("the `{` of this interpolated string is not closed", open));
                }
                tokens.push(Token { tok: Tok::End, loc: start, spaced });
                return Ok(tokens);
            };
            if open.is_some() {
                match c {
                    '{' => braces += 1,
                    '}' if braces == 0 => {
                        tokens.push(Token { tok: Tok::End, loc: start, spaced });
                        self.bump();
                        return Ok(tokens);
                    }
                    '}' => braces -= 1,
                    _ => {}
                }
            }
            let tok = self.token(c, depth)?;
            tokens.push(Token { tok, loc: Loc { end: self.at as u32, ..start }, spaced });
        }
    }

    fn blank(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' => drop(self.bump()),
                '#' => {
                    let alone = self.text[self.line_start..self.at].trim_start_matches('\u{feff}').trim().is_empty();
                    let length = self.rest().find('\n').unwrap_or(self.rest().len());
                    let text = self.rest()[1..length].trim_end().to_owned();
                    let loc = Loc { start: self.at as u32, end: (self.at + length) as u32, line: self.line };
                    self.comments.push(Comment { text, loc, alone });
                    self.at += length;
                }
                _ => break,
            }
        }
    }

    fn token(&mut self, c: char, depth: usize) -> Result<Tok, Trouble> {
        if c == '_' || c.is_ascii_alphabetic() {
            let length =
                self.rest().find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
            let word = self.rest()[..length].to_owned();
            self.at += length;
            return Ok(Tok::Word(word));
        }
        if c.is_ascii_digit() || (c == '.' && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit())) {
            return self.number();
        }
        match c {
            '"' => {
                let start = self.here();
                self.bump();
                return Ok(Tok::String(self.quoted(start)?));
            }
            '`' => {
                let start = self.here();
                self.bump();
                let Some(length) = self.rest().find('`') else {
                    return Err(Trouble::new("this raw string is not closed", start).help("close it with a backquote"));
                };
                let text = self.rest()[..length].to_owned();
                for _ in text.chars() {
                    self.bump();
                }
                self.bump();
                return Ok(Tok::String(text.replace('\r', "")));
            }
            '$' if self.rest()[1..].starts_with(['"', '`']) => return self.template(depth),
            '|' => {
                self.bump();
                return Ok(Tok::Symbol("|"));
            }
            _ => {}
        }
        let Some(symbol) = SYMBOLS.into_iter().find(|symbol| self.rest().starts_with(symbol)) else {
            let help = match c {
                '\'' => "strings are written in double quotes",
                '!' => "negation is written `not …`",
                _ => "remove it, or put it into a string",
            };
            return Err(Trouble::new(format!("`{}` is no part of Rego", c.escape_default()), self.here()).help(help));
        };
        self.at += symbol.len();
        Ok(Tok::Symbol(symbol))
    }

    fn number(&mut self) -> Result<Tok, Trouble> {
        let start = self.here();
        let bytes = self.text.as_bytes();
        let begin = self.at;
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > from
        };
        let mut at = begin;
        digits(&mut at);
        let whole = at - begin;
        if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
            at += 1;
            digits(&mut at);
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let mut exponent = at + 1;
            if matches!(bytes.get(exponent), Some(b'+' | b'-')) {
                exponent += 1;
            }
            if digits(&mut exponent) {
                at = exponent;
            }
        }
        let text = &self.text[begin..at];
        self.at = at;
        let loc = Loc { end: at as u32, ..start };
        if whole > 1 && text.starts_with('0') {
            return Err(Trouble::new(format!("number `{text}` has a leading zero"), loc).help("remove the zero"));
        }
        if self.peek().is_some_and(|c| c == '_' || c.is_ascii_alphabetic()) {
            return Err(Trouble::new("a number is followed by a letter", self.here()).help("put a space between them"));
        }
        // `.5` is a number to OPA.
        Ok(Tok::Number(if whole == 0 { format!("0{text}") } else { text.to_owned() }))
    }

    /// The rest of a string whose opening quote has been read.
    fn quoted(&mut self, start: Loc) -> Result<String, Trouble> {
        let mut out = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => {
                    return Err(Trouble::new("this string is not closed on its line", start)
                        .help("close it with `\"`; text of several lines goes between backquotes"));
                }
                Some('"') => {
                    self.bump();
                    return Ok(out);
                }
                Some('\\') => out.push(self.escape(false)?),
                Some(c) => {
                    self.bump();
                    out.push(c);
                }
            }
        }
    }

    /// An escape sequence from its backslash on.
    fn escape(&mut self, template: bool) -> Result<char, Trouble> {
        let place = self.here();
        self.bump();
        let wrong = |what: String| {
            Trouble::new(what, place)
                .help(r#"the escapes are \" \\ \/ \b \f \n \r \t \uXXXX; a backslash itself is \\"#)
        };
        Ok(match self.bump() {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(c @ '{') if template => c,
            Some('u') => {
                let first = self.hex().ok_or_else(|| wrong("\\u needs four hexadecimal digits".into()))?;
                if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
                    let saved = (self.at, self.line);
                    self.at += 2;
                    if let Some(second @ 0xdc00..=0xdfff) = self.hex() {
                        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
                    }
                    (self.at, self.line) = saved;
                }
                char::from_u32(first).unwrap_or('\u{fffd}')
            }
            Some(c) => return Err(wrong(format!("`\\{}` is no escape", c.escape_default()))),
            None => return Err(wrong("the text ends within a string".into())),
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        let value = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())??;
        self.at += 4;
        Some(value)
    }

    fn template(&mut self, depth: usize) -> Result<Tok, Trouble> {
        let start = self.here();
        if depth == DEEPEST_TEMPLATE {
            return Err(Trouble::new("interpolated strings are nested too deeply", start)
                .help("give the inner string a name: `inner := $\"…\"`"));
        }
        self.bump();
        let raw = self.bump() == Some('`');
        let mut pieces = Vec::new();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(Trouble::new("this interpolated string is not closed", start)),
                Some('\n') if !raw => {
                    return Err(Trouble::new("this interpolated string is not closed on its line", start)
                        .help("text of several lines goes between backquotes: $`…`"));
                }
                Some('`') if raw => break,
                Some('"') if !raw => break,
                Some('\\') if !raw => text.push(self.escape(true)?),
                Some('\\') if raw && self.rest().starts_with("\\{") => {
                    self.bump();
                    self.bump();
                    text.push('{');
                }
                Some('{') => {
                    let open = self.here();
                    self.bump();
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(Piece::Tokens(self.tokens(Some(open), depth + 1)?));
                }
                Some(c) => {
                    self.bump();
                    text.push(c);
                }
            }
        }
        self.bump();
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Tok::Template(pieces))
    }
}
