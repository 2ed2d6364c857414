//! The one format of Windlass files: two spaces per level, `=` aligned in runs of single-line attributes, no trailing space, at
//! most one blank line. Only white space at the start of lines and around `=` changes; heredocs and comments stay.

use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

/// Formats a file.
///
/// # Errors
/// It is not valid HCL: nothing is changed then.
pub fn format(path: &str, text: &str) -> Result<String, Box<Diagnostic>> {
    let parsed = |text: &str| crate::terraform::syntax::parse_native(text, 0);
    if let Err(error) = parsed(text) {
        let at = error.at as usize;
        let what = error.message.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("not valid HCL").to_owned();
        let span = Span::of(&Arc::from(path), text, at, at + 1);
        return Err(Box::new(
            Diagnostic::error("WL101", format!("syntax error: {what}")).at_source(span, text, "here"),
        ));
    }
    let formatted = align(&indent(text));
    // Layout is all that may change: a file that the formatter does not understand well enough stays as it is.
    Ok(if same(text, &formatted) { formatted } else { text.to_owned() })
}

/// Whether two texts mean the same.
fn same(a: &str, b: &str) -> bool {
    fn plain(body: &mut crate::terraform::syntax::Body) {
        use crate::terraform::syntax::{Expr, ExprKind, For, Range};
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
                ExprKind::Attribute(base, _)
                | ExprKind::Not(base)
                | ExprKind::Negative(base)
                | ExprKind::Splat(base, _) => expr(base),
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
        let mut body = crate::terraform::syntax::parse_native(text, 0).ok()?;
        plain(&mut body);
        Some(body)
    };
    let (a, b) = (parsed(a), parsed(b));
    a.is_some() && a == b
}

/// What a line does to the depth, leaving out strings and comments.
struct Scan {
    depth: usize,
    heredoc: Option<String>,
    comment: bool,
}

impl Scan {
    /// Depth change of a line: (closers before anything else, net change).
    fn line(&mut self, line: &str) -> (usize, isize) {
        let mut leading = 0usize;
        let mut only_closers = true;
        let mut net = 0isize;
        let mut chars = line.char_indices().peekable();
        let mut quoted = false;
        let mut template = 0usize;
        while let Some((at, c)) = chars.next() {
            if self.comment {
                if c == '*' && chars.peek().is_some_and(|(_, n)| *n == '/') {
                    chars.next();
                    self.comment = false;
                }
                continue;
            }
            if quoted {
                match c {
                    '\\' => drop(chars.next()),
                    '$' | '%' if chars.peek().is_some_and(|(_, n)| *n == '{') => {
                        chars.next();
                        template += 1;
                    }
                    '}' if template > 0 => template -= 1,
                    '"' if template == 0 => quoted = false,
                    _ => {}
                }
                continue;
            }
            match c {
                '"' => {
                    quoted = true;
                    only_closers = false;
                }
                '#' => break,
                '/' if chars.peek().is_some_and(|(_, n)| *n == '/') => break,
                '/' if chars.peek().is_some_and(|(_, n)| *n == '*') => {
                    chars.next();
                    self.comment = true;
                }
                '<' if line[at..].starts_with("<<") => {
                    let marker = line[at + 2..].trim_start_matches('-').trim();
                    if !marker.is_empty() && marker.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
                        self.heredoc = Some(marker.to_owned());
                        break;
                    }
                }
                '{' | '[' | '(' => {
                    net += 1;
                    only_closers = false;
                }
                '}' | ']' | ')' => {
                    net -= 1;
                    if only_closers {
                        leading += 1;
                    }
                }
                c if c.is_whitespace() => {}
                _ => only_closers = false,
            }
        }
        (leading, net)
    }
}

fn indent(text: &str) -> String {
    let mut scan = Scan { depth: 0, heredoc: None, comment: false };
    let mut out: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(marker) = &scan.heredoc {
            if line.trim() == marker.as_str() {
                scan.heredoc = None;
            }
            out.push(line.to_owned());
            continue;
        }
        let was_comment = scan.comment;
        let trimmed = line.trim();
        if trimmed.is_empty() && !was_comment {
            // One blank line at most, none after an opening.
            if out.last().is_some_and(|last| !last.is_empty() && !last.ends_with(['{', '[', '('])) {
                out.push(String::new());
            }
            continue;
        }
        let before = scan.depth;
        let (leading, net) = scan.line(trimmed);
        let depth = before.saturating_sub(leading);
        scan.depth = before.saturating_add_signed(net);
        if leading > 0 && out.last().is_some_and(String::is_empty) {
            out.pop();
        }
        out.push(if was_comment { line.trim_end().to_owned() } else { format!("{}{trimmed}", "  ".repeat(depth)) });
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    let mut text = out.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// `name = value` on one line: indentation, name, value. Anything that opens something is left to itself.
fn attribute(line: &str) -> Option<(usize, &str, &str)> {
    let depth = line.len() - line.trim_start().len();
    let (name, value) = line.trim_start().split_once('=')?;
    let name = name.trim_end();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    (plain && !value.starts_with(['=', '>']) && !value.trim().is_empty()).then(|| (depth, name, value.trim()))
}

fn align(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut run: Vec<(usize, &str, &str)> = Vec::new();
    let mut heredoc: Option<String> = None;
    let flush = |run: &mut Vec<(usize, &str, &str)>, out: &mut Vec<String>| {
        let width = run.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or(0);
        out.extend(run.drain(..).map(|(depth, name, value)| {
            format!("{}{name}{} = {value}", " ".repeat(depth), " ".repeat(width - name.chars().count()))
        }));
    };
    for line in text.lines() {
        if let Some(marker) = &heredoc {
            if line.trim() == marker.as_str() {
                heredoc = None;
            }
            out.push(line.to_owned());
            continue;
        }
        let mut scan = Scan { depth: 0, heredoc: None, comment: false };
        let (_, net) = scan.line(line.trim());
        heredoc = scan.heredoc.take();
        let single = net == 0 && heredoc.is_none() && !scan.comment;
        match attribute(line).filter(|_| single) {
            Some(found) => {
                if run.last().is_some_and(|(depth, ..)| *depth != found.0) {
                    flush(&mut run, &mut out);
                }
                run.push(found);
            }
            None => {
                flush(&mut run, &mut out);
                out.push(match attribute(line) {
                    Some((depth, name, value)) => format!("{}{name} = {value}", " ".repeat(depth)),
                    None => line.to_owned(),
                });
            }
        }
    }
    flush(&mut run, &mut out);
    let mut text = out.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) {
        let formatted = format("w", text).unwrap();
        assert_eq!(formatted, want);
        assert_eq!(format("w", &formatted).unwrap(), formatted);
    }

    #[test]
    fn files_are_indented_and_aligned() {
        check(
            "project \"x\" {\n\n\n environment \"p\" {\nmatch=[\n\"a\", # one\n\"b\"]\n   approvals {\ncount = 1\n  author_may_approve   =    false   \n}\n\n }\n}\n\n\n\nteam \"a\" { members = [\"user:a\"] }\n\n",
            "project \"x\" {\n  environment \"p\" {\n    match = [\n      \"a\", # one\n      \"b\"]\n    approvals {\n      count              = 1\n      author_may_approve = false\n    }\n  }\n}\n\nteam \"a\" { members = [\"user:a\"] }\n",
        );
        check(
            "locals {\n  t = <<-EOT\n     keep  =  this\n  EOT\n a = \"}\"\n}\n",
            "locals {\n  t = <<-EOT\n     keep  =  this\n  EOT\n  a = \"}\"\n}\n",
        );
        check("a = <<MY-EOT\n  x  =  1\nMY-EOT\n", "a = <<MY-EOT\n  x  =  1\nMY-EOT\n");
        check("", "");
    }

    #[test]
    fn broken_files_are_not_touched() {
        assert_eq!(format("w", "a {").unwrap_err().code, "WL101");
    }
}
