//! Blocks on one line. The grammar of HCL has one attribute in such a block and no block; a Windlass file may have more of both, as in
//! `param "host" { type = choice  choices = ["a", "b"] }`. Blanks between them become line feeds before the text is parsed, so
//! that every byte stays where it was.

use crate::terraform::syntax::{Body, SyntaxError, parse_native};

/// Parses a Windlass file.
///
/// # Errors
/// The parser's first complaint.
pub fn parse(text: &str) -> Result<Body, SyntaxError> {
    match parse_native(text, 0) {
        Ok(body) => Ok(body),
        Err(error) => match spread(text) {
            Some(spread) => parse_native(&spread, 0),
            None => Err(error),
        },
    }
}

/// What the scanner stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// The body of a block, or the top of the file.
    Body,
    /// Brackets of an expression.
    Brackets,
}

/// What of an item of a body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    None,
    /// A name, and perhaps labels.
    Head,
    /// An expression; whether an operand has just ended.
    Value(bool),
}

/// The text with a line feed instead of a blank between the items of one-line blocks; `None` when there is nothing to change, or
/// no blank where one is needed.
fn spread(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut open = vec![Within::Body];
    let mut items = vec![Item::None];
    // Nothing but blanks since the last line feed.
    let mut fresh = true;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let in_body = open.last() == Some(&Within::Body);
        let item = items.last_mut()?;
        let mut end = at + 1;
        match byte {
            b'\n' => {
                fresh = true;
                if in_body {
                    *item = Item::None;
                }
                at = end;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                at = end;
                continue;
            }
            b'#' => {
                at = line_end(bytes, at);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = line_end(bytes, at);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = text.get(at..)?.find("*/").map_or(bytes.len(), |length| at + length + 2);
                continue;
            }
            b'"' => {
                end = quoted(bytes, at)?;
                if let Item::Value(operand) = item {
                    *operand = true;
                }
            }
            b'<' if bytes.get(at + 1) == Some(&b'<') => {
                end = heredoc(text, at).unwrap_or(at + 2);
                *item = Item::Value(true);
            }
            b'{' | b'[' | b'(' => {
                if in_body && byte == b'{' && *item == Item::Head {
                    *item = Item::None;
                    open.push(Within::Body);
                } else {
                    open.push(Within::Brackets);
                }
                items.push(Item::None);
            }
            b'}' | b']' | b')' => {
                let blocks = in_body && open.len() > 1;
                if blocks && !fresh && bytes.get(..at)?.iter().rev().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
                    break_before(&mut out, at)?;
                }
                if open.len() > 1 {
                    open.pop();
                    items.pop();
                }
                if let Some(Item::Value(operand)) = items.last_mut() {
                    *operand = true;
                }
            }
            b'=' if in_body && *item == Item::Head && bytes.get(at + 1) != Some(&b'=') => *item = Item::Value(false),
            _ if is_name(byte) => {
                while bytes.get(end).is_some_and(|b| is_name(*b)) {
                    end += 1;
                }
                let begins = in_body && !byte.is_ascii_digit() && matches!(item, Item::None | Item::Value(true));
                if begins {
                    if !fresh {
                        break_before(&mut out, at)?;
                    }
                    *item = Item::Head;
                } else if let Item::Value(operand) = item {
                    *operand = true;
                }
            }
            _ => {
                if let Item::Value(operand) = item {
                    *operand = false;
                }
            }
        }
        fresh = false;
        at = end;
    }
    (out != bytes).then(|| String::from_utf8(out).ok()).flatten()
}

/// Makes the blank before `at` a line feed.
fn break_before(out: &mut [u8], at: usize) -> Option<()> {
    let before = out.get_mut(at.checked_sub(1)?).filter(|byte| matches!(byte, b' ' | b'\t'))?;
    *before = b'\n';
    Some(())
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || !byte.is_ascii()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes.iter().skip(at).position(|b| *b == b'\n').map_or(bytes.len(), |length| at + length)
}

/// The end of the quoted text that begins at `at`, with the templates in it.
fn quoted(bytes: &[u8], at: usize) -> Option<usize> {
    // Braces that are open in each template around; a text within has none of its own.
    let mut templates: Vec<Option<usize>> = vec![None];
    let mut at = at + 1;
    loop {
        let byte = *bytes.get(at)?;
        let next = bytes.get(at + 1).copied();
        match templates.last_mut()? {
            None => match byte {
                b'\\' => at += 1,
                b'"' => {
                    templates.pop();
                    if templates.is_empty() {
                        return Some(at + 1);
                    }
                }
                b'$' | b'%' if next == Some(byte) && bytes.get(at + 2) == Some(&b'{') => at += 2,
                b'$' | b'%' if next == Some(b'{') => {
                    templates.push(Some(0));
                    at += 1;
                }
                _ => {}
            },
            Some(depth) => match byte {
                b'"' => templates.push(None),
                b'{' => *depth += 1,
                b'}' if *depth == 0 => drop(templates.pop()),
                b'}' => *depth -= 1,
                _ => {}
            },
        }
        at += 1;
    }
}

/// The end of the heredoc that begins at `at`: behind its closing marker.
fn heredoc(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at + 2..)?;
    let (first, _) = rest.split_once('\n')?;
    let marker = first.trim_start_matches('-').trim();
    let mut end = at + 2 + first.len() + 1;
    for line in text.get(end..)?.split_inclusive('\n') {
        if line.trim() == marker {
            return Some(end + line.trim_end().len());
        }
        end += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blanks_between_items_become_line_feeds() {
        let check = |text: &str, want: Option<&str>| assert_eq!(spread(text).as_deref(), want, "{text}");
        check("a = 1\nb {\n  c = 2\n}\n", None);
        check("b { a = 1  c = 2 }\n", Some("b {\na = 1 \nc = 2\n}\n"));
        check("b { c { d = [1, 2]  e = f(x) } }\n", Some("b {\nc {\nd = [1, 2] \ne = f(x)\n}\n}\n"));
        check(
            "b { a = x ? y : z  c = { d = 1, e = 2 }  f = \"${ { g = \"}\" } }\" }\n",
            Some("b {\na = x ? y : z \nc = { d = 1, e = 2 } \nf = \"${ { g = \"}\" } }\"\n}\n"),
        );
        check("b { a = x.y == 1 && !z.w  c = -1 }", Some("b {\na = x.y == 1 && !z.w \nc = -1\n}"));
        check(
            "b { a = [for i in x : i if i > 1]  c = stack.a/b[tokyo]  d = 1 }",
            Some("b {\na = [for i in x : i if i > 1] \nc = stack.a/b[tokyo] \nd = 1\n}"),
        );
        check("b { a = 1 } # c = 2 d = 3\n", Some("b {\na = 1\n} # c = 2 d = 3\n"));
        check("b {}\n", None);
        check("b {a = 1 c = 2}", None);
        check("b { t \"x\" { a = 1 }  t \"y\" {} }", Some("b {\nt \"x\" {\na = 1\n} \nt \"y\" {}\n}"));
        check(
            "a = <<E\n x { a = 1 b = 2 }\nE\nb { c = 1  d = 2 }\n",
            Some("a = <<E\n x { a = 1 b = 2 }\nE\nb {\nc = 1 \nd = 2\n}\n"),
        );
    }

    #[test]
    fn what_was_spread_is_read() {
        let body = parse("b \"n\" { a = 1  c { d = \"x y\"  e = [\n  1,\n] } }\n").unwrap();
        let inner = &body.blocks[0].body;
        assert_eq!((inner.attributes.len(), inner.blocks[0].body.attributes.len()), (1, 2));
        assert!(parse("b { a = 1  c = }\n").is_err());
        assert!(parse("b { a = 1 \n").is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_byte_moves(text in "([ab{}\"$%=<E\\[\\]()#/*.,é \n-]|\\$\\{|<<E\n|b \\{ a = 1  c = 2 \\}){0,40}") {
            if let Some(spread) = spread(&text) {
                prop_assert_eq!(spread.len(), text.len());
                let ink = |text: &str| text.split_ascii_whitespace().collect::<String>();
                prop_assert_eq!(ink(&spread), ink(&text));
            }
            let _ = parse(&text);
        }
    }
}
