//! `glob.match`: `*` is any text without a delimiter, `**` any text, `?` one character that is no delimiter, `[a-c]` and `[!ab]`
//! one character, `{x,y}` one of several.

use super::{Answer, Builtin, BuiltinError, text, wrong};
use regex::Regex;
use regorus::Value;

pub(super) const FUNCTIONS: &[Builtin] = &[("glob.match", 3, glob_match)];

fn glob_match(operands: &[Value]) -> Answer {
    let (pattern, whole) = (text(operands, 0)?, text(operands, 2)?);
    let delimiters: Vec<char> = match &operands[1] {
        Value::Null => Vec::new(),
        Value::Array(items) if items.is_empty() => vec!['.'],
        Value::Array(items) => items.iter().map(delimiter).collect::<Result<_, _>>()?,
        _ => return Err(wrong(operands, 1, "one of {array, null}")),
    };
    // One character alone, any or not among others, is what OPA finds in the empty text too.
    let inside = pattern.strip_prefix("[!").and_then(|rest| rest.strip_suffix(']'));
    if whole.is_empty() && (pattern == "?" || inside.is_some_and(|inside| !inside.contains([']', '\\']))) {
        return Ok(true.into());
    }
    let regex =
        Regex::new(&translate(pattern, &delimiters)?).map_err(|error| BuiltinError::failed(error.to_string()))?;
    Ok(regex.is_match(whole).into())
}

fn delimiter(value: &Value) -> Result<char, BuiltinError> {
    let Value::String(text) = value else { return Err(BuiltinError::failed("operand 2 must be array of strings")) };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(BuiltinError::failed("operand 2 must be array of single characters")),
    }
}

/// A character as a member of a class.
fn class(c: char) -> String {
    if matches!(c, '\\' | '[' | ']' | '^' | '-' | '&' | '~') { format!("\\{c}") } else { c.to_string() }
}

/// The glob as a regular expression.
fn translate(glob: &str, delimiters: &[char]) -> Result<String, BuiltinError> {
    let bad = |why: &str| BuiltinError::failed(format!("glob {glob:?}: {why}"));
    let none: String = delimiters.iter().map(|c| class(*c)).collect();
    let one = if delimiters.is_empty() { ".".to_owned() } else { format!("[^{none}]") };
    let mut out = String::from(r"(?s)\A");
    let mut chars = glob.chars().peekable();
    let mut open = 0;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push_str(&regex::escape(&chars.next().ok_or_else(|| bad("ends with a backslash"))?.to_string()))
            }
            '*' if chars.next_if_eq(&'*').is_some() => out.push_str(".*"),
            '*' => out.push_str(&format!("{one}*")),
            '?' => out.push_str(&one),
            '[' => {
                let not = if chars.next_if_eq(&'!').is_some() { "^" } else { "" };
                let mut members = String::new();
                loop {
                    let member = chars.next().ok_or_else(|| bad("a class has no end"))?;
                    match member {
                        ']' => break,
                        '\\' => members.push_str(&class(chars.next().ok_or_else(|| bad("a class has no end"))?)),
                        '-' if !members.is_empty() && chars.peek().is_some_and(|next| *next != ']') => {
                            members.push('-')
                        }
                        member => members.push_str(&class(member)),
                    }
                }
                if members.is_empty() {
                    return Err(bad("a class is empty"));
                }
                out.push_str(&format!("[{not}{members}]"));
            }
            '{' => {
                open += 1;
                out.push_str("(?:");
            }
            '}' if open > 0 => {
                open -= 1;
                out.push(')');
            }
            ',' if open > 0 => out.push('|'),
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    if open > 0 {
        return Err(bad("a choice has no end"));
    }
    out.push_str(r"\z");
    Ok(out)
}
