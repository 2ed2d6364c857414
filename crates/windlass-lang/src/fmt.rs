//! The one format of Windlass files: two spaces per level, `=` aligned in runs of single-line attributes, no trailing space, at
//! most one blank line. Only white space at the start and end of lines and around `=` changes; heredocs, comments and texts over
//! several lines stay, and so do the file's line endings.

use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

/// Formats a file.
///
/// # Errors
/// It is not valid HCL: nothing is changed then.
pub fn format(path: &str, text: &str) -> Result<String, Box<Diagnostic>> {
    if let Err(error) = crate::definitions::parse(text) {
        let at = error.at as usize;
        let what = error.message.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("not valid HCL").to_owned();
        let span = Span::of(&Arc::from(path), text, at, at + 1);
        return Err(Box::new(
            Diagnostic::error("WL101", format!("syntax error: {what}")).at_source(span, text, "here"),
        ));
    }
    let formatted = layout(text);
    // Layout is all that may change: a file that the formatter does not understand well enough stays as it is.
    Ok(if same(text, &formatted) { formatted } else { text.to_owned() })
}

/// Whether two texts mean the same and differ in white space only.
fn same(a: &str, b: &str) -> bool {
    fn plain(body: &mut crate::terraform::syntax::Body) {
        use crate::terraform::syntax::{Access, Expr, ExprKind, For, Range};
        fn expr(e: &mut Expr) {
            e.range = Range::default();
            match &mut e.kind {
                ExprKind::Template(parts)
                | ExprKind::Directive(parts)
                | ExprKind::List(parts)
                | ExprKind::Call(_, parts, _) => parts.iter_mut().for_each(expr),
                ExprKind::Object(items) => items.iter_mut().for_each(|(key, value)| {
                    expr(key);
                    expr(value);
                }),
                ExprKind::Attribute(base, _) | ExprKind::Not(base) | ExprKind::Negative(base) => expr(base),
                ExprKind::Splat(base, rest) => {
                    expr(base);
                    for access in rest {
                        if let Access::Index(index) = access {
                            expr(index);
                        }
                    }
                }
                ExprKind::Index(base, index) | ExprKind::Binary(base, _, index) => {
                    expr(base);
                    expr(index);
                }
                ExprKind::Conditional(a, b, c) => {
                    expr(a);
                    expr(b);
                    expr(c);
                }
                ExprKind::For(inner) => {
                    let For { collection, result_key, result, condition, .. } = inner.as_mut();
                    expr(collection);
                    result_key.iter_mut().for_each(expr);
                    expr(result);
                    condition.iter_mut().for_each(expr);
                }
                ExprKind::Null
                | ExprKind::Bool(_)
                | ExprKind::Number(_)
                | ExprKind::String(_)
                | ExprKind::Variable(_) => {}
            }
        }
        for attribute in &mut body.attributes {
            attribute.name_range = Range::default();
            expr(&mut attribute.value);
        }
        for block in &mut body.blocks {
            block.range = Range::default();
            block.whole = Range::default();
            plain(&mut block.body);
        }
    }
    let parsed = |text: &str| {
        let mut body = crate::definitions::parse(text).ok()?;
        plain(&mut body);
        Some(body)
    };
    let ink = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let (parsed_a, parsed_b) = (parsed(a), parsed(b));
    ink(a) == ink(b) && parsed_a.is_some() && parsed_a == parsed_b
}

/// One line of a file and what it does.
struct Line<'a> {
    /// Without its line ending.
    text: &'a str,
    /// As it is in the file; empty at the end of one that has no final line feed.
    ending: &'a str,
    /// It begins within a comment, a heredoc or a quoted text: nothing in it is layout.
    starts_within: bool,
    /// It ends within one: what follows on the line, and its ending, are not layout.
    ends_within: bool,
    /// Closing brackets before anything else.
    leading: usize,
    /// Opening brackets less closing ones.
    net: isize,
    /// The last thing on it is an opening bracket.
    opens: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Comment,
    Quote,
    /// Its closing marker.
    Heredoc(String),
    /// `${` or `%{` of a text, and how many braces are open in it.
    Template(usize),
}

/// Reads lines one after the other; what a line begins within is what stands open before it.
#[derive(Default)]
struct Scan {
    open: Vec<Within>,
}

impl Scan {
    fn line<'a>(&mut self, whole: &'a str) -> Line<'a> {
        let text = whole.strip_suffix('\n').map_or(whole, |t| t.strip_suffix('\r').unwrap_or(t));
        let mut line = Line {
            text,
            ending: &whole[text.len()..],
            starts_within: !self.open.is_empty(),
            ends_within: false,
            leading: 0,
            net: 0,
            opens: false,
        };
        let mut rest = text;
        if matches!(self.open.last(), Some(Within::Heredoc(marker)) if text.trim_matches(BLANK).strip_prefix(marker.as_str()).is_some_and(|after| !after.starts_with(is_identifier)))
        {
            self.open.pop();
            let marker = text.trim_start_matches(BLANK);
            rest = marker.trim_start_matches(is_identifier);
        }
        let mut first = true;
        let mut heredoc = None;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            let (taken, significant) = self.step(c, after, &mut line, first, &mut heredoc);
            first &= !significant;
            rest = rest.get(taken..).unwrap_or_default();
        }
        // Its text begins on the next line.
        self.open.extend(heredoc.map(Within::Heredoc));
        line.ends_within = !self.open.is_empty();
        line
    }

    /// One token, or one character of a text: how many bytes it has, and whether anything but closing brackets.
    fn step(
        &mut self,
        c: char,
        after: &str,
        line: &mut Line<'_>,
        first: bool,
        heredoc: &mut Option<String>,
    ) -> (usize, bool) {
        let one = c.len_utf8();
        let begins_template = matches!(c, '$' | '%') && after.starts_with('{');
        match self.open.last_mut() {
            Some(Within::Comment) => {
                let ends = c == '*' && after.starts_with('/');
                if ends {
                    self.open.pop();
                }
                return (if ends { 2 } else { one }, true);
            }
            Some(within @ (Within::Quote | Within::Heredoc(_))) => {
                let quote = *within == Within::Quote;
                return match c {
                    '\\' if quote => (1 + after.chars().next().map_or(0, char::len_utf8), true),
                    '"' if quote => {
                        self.open.pop();
                        (1, true)
                    }
                    // `$${` is an escape.
                    '$' | '%' if after.starts_with(c) && after[1..].starts_with('{') => (3, true),
                    _ if begins_template => {
                        self.open.push(Within::Template(0));
                        (2, true)
                    }
                    _ => (one, true),
                };
            }
            Some(Within::Template(depth)) => match c {
                '{' => *depth += 1,
                '}' if *depth == 0 => {
                    self.open.pop();
                    return (1, true);
                }
                '}' => *depth -= 1,
                _ => {}
            },
            None => {}
        }
        let layout = self.open.is_empty();
        let mut opens = false;
        let taken = match c {
            '"' => {
                self.open.push(Within::Quote);
                1
            }
            // To the end of the line.
            '#' => return (one + after.len(), true),
            '/' if after.starts_with('/') => return (one + after.len(), true),
            '/' if after.starts_with('*') => {
                self.open.push(Within::Comment);
                return (2, true);
            }
            '<' if after.starts_with('<') => {
                let marker = after[1..].strip_prefix('-').unwrap_or(&after[1..]).trim_end_matches(BLANK);
                if !marker.is_empty() && marker.chars().all(is_identifier) {
                    *heredoc = Some(marker.to_owned());
                    one + after.len()
                } else {
                    1
                }
            }
            '{' | '[' | '(' if layout => {
                line.net += 1;
                opens = true;
                1
            }
            '}' | ']' | ')' if layout => {
                line.net -= 1;
                if first {
                    line.leading += 1;
                    return (1, false);
                }
                1
            }
            c if BLANK.contains(&c) => return (1, false),
            _ => one,
        };
        line.opens = opens;
        (taken, true)
    }
}

/// White space that is layout.
const BLANK: [char; 2] = [' ', '\t'];

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// A line that is written: its indentation and text, and its ending where that is not layout.
struct Written<'a> {
    text: String,
    ending: Option<&'a str>,
    /// Name and value of an attribute that is all on this line: its indentation is before it.
    attribute: Option<(usize, &'a str, &'a str)>,
}

impl Written<'_> {
    fn is_blank(&self) -> bool {
        self.text.is_empty() && self.attribute.is_none() && self.ending.is_none()
    }
}

fn layout(text: &str) -> String {
    let mut scan = Scan::default();
    let mut depth = 0usize;
    let mut after_opening = true;
    // The first that is layout decides for all others.
    let mut file_ending = None;
    let mut out: Vec<Written<'_>> = Vec::new();
    for whole in text.split_inclusive('\n') {
        let line = scan.line(whole);
        let ending = line.ends_within.then_some(line.ending);
        let trimmed = match line.ends_within {
            true => line.text.trim_start_matches(BLANK),
            false => line.text.trim_matches(BLANK),
        };
        if !line.starts_within && trimmed.is_empty() {
            // One blank line at most, none after an opening.
            if !after_opening && out.last().is_some_and(|last| !last.is_blank()) {
                out.push(Written { text: String::new(), ending: None, attribute: None });
            }
            continue;
        }
        if !line.ends_within && !line.ending.is_empty() {
            file_ending.get_or_insert(line.ending);
        }
        if !line.starts_within && line.leading > 0 && out.last().is_some_and(Written::is_blank) {
            out.pop();
        }
        let indentation = 2 * depth.saturating_sub(line.leading);
        depth = depth.saturating_add_signed(line.net);
        after_opening = line.opens;
        let attribute = attribute(trimmed).filter(|_| !line.starts_within);
        let single = line.net == 0 && !line.ends_within;
        out.push(match attribute {
            _ if line.starts_within => {
                let kept = if line.ends_within { line.text } else { line.text.trim_end_matches(BLANK) };
                Written { text: kept.to_owned(), ending, attribute: None }
            }
            Some((name, value)) if single => {
                Written { text: String::new(), ending, attribute: Some((indentation, name, value)) }
            }
            Some((name, value)) => {
                Written { text: format!("{}{name} = {value}", " ".repeat(indentation)), ending, attribute: None }
            }
            None => Written { text: format!("{}{trimmed}", " ".repeat(indentation)), ending, attribute: None },
        });
    }
    while out.last().is_some_and(Written::is_blank) {
        out.pop();
    }
    align(&mut out);
    let first_ending = if text.lines().next() == text.split('\n').next() { "\n" } else { "\r\n" };
    let ending = file_ending.unwrap_or(first_ending);
    out.iter().flat_map(|line| [line.text.as_str(), line.ending.unwrap_or(ending)]).collect()
}

/// `name = value`: name and value. Anything that opens something before is left to itself.
fn attribute(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim_end_matches(BLANK), value.trim_start_matches(BLANK));
    let plain = !name.is_empty() && name.chars().all(is_identifier);
    (plain
        && !line[name.len()..].trim_start_matches(BLANK).starts_with("==")
        && !value.starts_with('>')
        && !value.is_empty())
    .then_some((name, value))
}

/// Writes the attributes of each run with their `=` in one column.
fn align(lines: &mut [Written<'_>]) {
    let same_run = |a: &Written<'_>, b: &Written<'_>| match (a.attribute, b.attribute) {
        (Some((a, ..)), Some((b, ..))) => a == b,
        _ => false,
    };
    for run in lines.chunk_by_mut(same_run) {
        let width = run.iter().filter_map(|line| line.attribute).map(|(_, name, _)| name.chars().count()).max();
        for line in run {
            if let (Some((indentation, name, value)), Some(width)) = (line.attribute, width) {
                let padding = width - name.chars().count();
                line.text = format!("{}{name}{} = {value}", " ".repeat(indentation), " ".repeat(padding));
            }
        }
    }
}

#[cfg(test)]
mod tests;
