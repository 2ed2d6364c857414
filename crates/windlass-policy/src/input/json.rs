//! JSON, JSON with comments, and bills of materials in JSON.

use super::{Mistake, Parser};
use serde_json::Value;

pub fn parse(text: &str) -> Result<Value, Mistake> {
    serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or(&what).to_owned();
        Mistake::at_line(text, error.line(), error.column(), what)
    })
}

/// With `//` and `/* */` comments and trailing commas.
pub fn parse_with_comments(text: &str) -> Result<Value, Mistake> {
    parse(&plain(text))
}

/// A bill of materials: JSON with the mark of its kind.
pub fn parse_bill(parser: Parser, text: &str) -> Result<Value, Mistake> {
    let value = parse(text).map_err(|mistake| {
        let start = text.trim_start();
        let other = start.starts_with('<') || start.starts_with("SPDXVersion:");
        if other { Mistake::new(0, "give it in JSON, not in another format") } else { mistake }
    })?;
    let (mark, known) = match parser {
        Parser::Spdx => ("spdxVersion", value.get("spdxVersion").is_some()),
        _ => ("bomFormat", value.get("bomFormat").is_some()),
    };
    if known { Ok(value) } else { Err(Mistake::new(0, format!("there is no `{mark}`"))) }
}

/// The text with comments and trailing commas replaced by blanks of the same length, so that places stay.
fn plain(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    let mut comma = None;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                comma = None;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    bytes[at] = b' ';
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = text.get(at + 2..).and_then(|rest| rest.find("*/")).map_or(bytes.len(), |n| at + 2 + n + 2);
                for byte in &mut bytes[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
            }
            b',' => {
                comma = Some(at);
                at += 1;
            }
            b']' | b'}' => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
                at += 1;
            }
            byte => {
                if !byte.is_ascii_whitespace() {
                    comma = None;
                }
                at += 1;
            }
        }
    }
    // Only whole comments and ASCII commas were replaced.
    String::from_utf8_lossy(&bytes).into_owned()
}
