//! Rego as a tree: text is read once into [`tree::Module`] with places, and printed again, for the engine or for people.

pub mod annotations;
mod format;
pub(crate) mod lexer;
mod parser;
pub mod print;
mod terms;
pub mod tree;
pub mod visit;

pub use format::format;
use lexer::Trouble;
use parser::Parser;
use std::sync::Arc;
use tree::{Comment, Dialect, Loc, Module, Stmt};
use windlass_model::diagnostic::{Diagnostic, Span};

/// A module with the text it was read from.
#[derive(Debug, Clone)]
pub struct Source {
    pub path: Arc<str>,
    pub text: Arc<str>,
    pub module: Module,
    pub comments: Vec<Comment>,
}

impl Source {
    /// Reads a module, in `dialect` or in the one that it is written in.
    ///
    /// # Errors
    /// WL407 with the place and a way out.
    pub fn parse(path: Arc<str>, text: impl Into<Arc<str>>, dialect: Option<Dialect>) -> Result<Self, Box<Diagnostic>> {
        let text = text.into();
        if text.len() > u32::MAX as usize / 2 {
            return Err(Box::new(Diagnostic::error("WL407", "policy is too large").at(Span::file(path))));
        }
        let parsed =
            lexer::lex(&text).and_then(|lexed| Ok((Parser::new(&lexed.tokens, 0).module(dialect)?, lexed.comments)));
        match parsed {
            Ok((module, comments)) => Ok(Self { path, text, module, comments }),
            Err(trouble) => Err(Box::new(diagnostic(&trouble, &path, &text))),
        }
    }

    /// For places in a query.
    pub(crate) fn of_query(text: &str) -> Self {
        let module = Module {
            package: Vec::new(),
            package_loc: Loc::default(),
            imports: Vec::new(),
            rules: Vec::new(),
            dialect: Dialect::V1,
        };
        Self { path: "query".into(), text: text.into(), module, comments: Vec::new() }
    }

    /// Where a node stands.
    pub fn span(&self, loc: Loc) -> Span {
        span(&self.path, &self.text, loc)
    }

    /// A diagnostic at a node, with its line as excerpt.
    pub fn error(&self, code: &str, summary: impl Into<String>, loc: Loc) -> Diagnostic {
        Diagnostic::error(code, summary).at_source(self.span(loc), &self.text, "")
    }
}

/// Reads a query: statements separated by `;` or new lines.
///
/// # Errors
/// WL407 at its place in the query.
pub fn parse_query(text: &str) -> Result<Vec<Stmt>, Box<Diagnostic>> {
    lexer::lex(text)
        .and_then(|lexed| Parser::new(&lexed.tokens, 0).query())
        .map_err(|trouble| Box::new(diagnostic(&trouble, &Arc::from("query"), text)))
}

/// The line is known, so that only the node's own lines are counted.
fn span(path: &Arc<str>, text: &str, loc: Loc) -> Span {
    let column = |at: usize| {
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        text[start..at].chars().count() as u32 + 1
    };
    let (start, end) = (loc.start as usize, (loc.end.max(loc.start) as usize).min(text.len()));
    let start = start.min(end);
    let line = loc.line.max(1);
    let end_line = line + text[start..end].bytes().filter(|byte| *byte == b'\n').count() as u32;
    Span { file: path.clone(), line, column: column(start), end_line, end_column: column(end) }
}

fn diagnostic(trouble: &Trouble, path: &Arc<str>, text: &str) -> Diagnostic {
    let out = Diagnostic::error("WL407", format!("policy cannot be parsed: {}", trouble.message)).at_source(
        span(path, text, trouble.loc),
        text,
        "here",
    );
    match &trouble.help {
        Some(help) => out.help(help.clone()),
        None => out.help("see https://www.openpolicyagent.org/docs/policy-reference for the grammar"),
    }
}

#[cfg(test)]
mod tests;
