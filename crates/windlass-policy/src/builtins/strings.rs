//! Texts, and values as text.

use super::verbs::{self, Operand};
use super::{Answer, Builtin, BuiltinError, array, text};
use regex::Regex;
use regorus::Value;
use std::sync::LazyLock;

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("indexof", 2, indexof),
    ("indexof_n", 2, indexof_n),
    ("sprintf", 2, sprintf),
    ("strings.count", 2, count),
    ("strings.replace_n", 2, replace_n),
];

/// Places of a text in another, in characters; overlapping ones too.
fn places(operands: &[Value]) -> Result<impl Iterator<Item = usize>, BuiltinError> {
    let (whole, part) = (text(operands, 0)?, text(operands, 1)?);
    if part.is_empty() {
        return Err(BuiltinError::failed("empty search character"));
    }
    let starts = whole.char_indices().enumerate();
    Ok(starts.filter_map(move |(place, (at, _))| whole[at..].starts_with(part).then_some(place)))
}

fn indexof(operands: &[Value]) -> Answer {
    Ok(places(operands)?.next().map_or(Value::from(-1_i64), Value::from))
}

fn indexof_n(operands: &[Value]) -> Answer {
    Ok(places(operands)?.map(Value::from).collect::<Vec<_>>().into())
}

/// Replaces all at once: what came from one replacement is not replaced again. Of two that fit at a place the one with the
/// smaller key wins, and the empty one fits between all characters.
fn replace_n(operands: &[Value]) -> Answer {
    let Value::Object(patterns) = &operands[0] else { return Err(super::wrong(operands, 0, "object")) };
    let whole = text(operands, 1)?;
    let mut pairs = Vec::new();
    for (old, new) in patterns.iter_sorted() {
        let (Value::String(old), Value::String(new)) = (old, new) else {
            return Err(BuiltinError::failed("operand 1: non-string key or value found in pattern object"));
        };
        pairs.push((&**old, &**new));
    }
    let mut out = String::with_capacity(whole.len());
    let mut at = 0;
    // An empty pattern fits once at a place, not again behind what it put there.
    let mut after_match = false;
    while at <= whole.len() {
        let rest = &whole[at..];
        let found = pairs.iter().find(|(old, _)| rest.starts_with(old) && !(old.is_empty() && after_match));
        after_match = false;
        if let Some((old, new)) = found {
            out.push_str(new);
            at += old.len();
            if !old.is_empty() {
                after_match = true;
                continue;
            }
        }
        match whole[at..].chars().next() {
            Some(c) => {
                out.push(c);
                at += c.len_utf8();
            }
            None => break,
        }
    }
    Ok(out.into())
}

fn count(operands: &[Value]) -> Answer {
    let (whole, part) = (text(operands, 0)?, text(operands, 1)?);
    let found = if part.is_empty() { whole.chars().count() + 1 } else { whole.matches(part).count() };
    Ok(found.into())
}

fn sprintf(operands: &[Value]) -> Answer {
    let format = text(operands, 0)?;
    let operands: Vec<Operand> = array(operands, 1)?.iter().map(operand).collect();
    verbs::sprintf(format, &operands).map(Value::from).map_err(BuiltinError::Refused)
}

fn operand(value: &Value) -> Operand {
    match value {
        Value::String(text) => Operand::Text(text.to_string()),
        Value::Number(number) => match (number.as_i64(), number.as_big()) {
            (Some(small), _) => Operand::Int(small),
            (None, Some(_)) => Operand::Big(value.clone()),
            (None, None) => number.as_f64().map_or_else(|| Operand::Text(number.format_decimal()), Operand::Float),
        },
        other => Operand::Text(term(other)),
    }
}

/// Whether an integer is negative, and its digits in a base.
pub(super) fn digits(value: &Value, base: u32) -> (bool, String) {
    let text = match value {
        Value::Number(number) => number.to_big().map(|big| big.to_str_radix(base)).unwrap_or_default(),
        _ => String::new(),
    };
    text.strip_prefix('-').map_or_else(|| (false, text.clone()), |digits| (true, digits.to_owned()))
}

/// A value as OPA writes a term: `{"a": [1, {2}]}`, `set()`.
pub(super) fn term(value: &Value) -> String {
    let list = |items: &mut dyn Iterator<Item = &Value>| items.map(term).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.format_decimal(),
        Value::String(text) => quote(text, false),
        Value::Array(items) => format!("[{}]", list(&mut items.iter())),
        Value::Set(items) if items.is_empty() => "set()".into(),
        Value::Set(items) => format!("{{{}}}", list(&mut items.iter_sorted())),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter_sorted().map(|(key, value)| format!("{}: {}", term(key), term(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Undefined => "<undefined>".into(),
    }
}

static PRINTABLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]$").ok());

/// Letters, marks, numbers, punctuation, symbols and the ASCII space: what Go shows as it is.
pub(super) fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let mut buffer = [0; 4];
    PRINTABLE.as_ref().is_some_and(|printable| printable.is_match(c.encode_utf8(&mut buffer)))
}

/// As Go's `strconv.Quote`.
pub(super) fn quote(text: &str, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        escape(&mut out, c, '"', ascii);
    }
    out.push('"');
    out
}

/// As Go's `strconv.QuoteRune`.
pub(super) fn quote_char(c: char, ascii: bool) -> String {
    let mut out = String::from('\'');
    escape(&mut out, c, '\'', ascii);
    out.push('\'');
    out
}

fn escape(out: &mut String, c: char, quote: char, ascii: bool) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        c if is_print(c) && (!ascii || c.is_ascii()) => out.push(c),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
    }
}

/// Whether the text can stand between backquotes: one line, nothing invisible but the tab.
pub(super) fn can_backquote(text: &str) -> bool {
    text.chars().all(|c| c != '`' && c != '\u{feff}' && c != '\u{7f}' && (c >= ' ' || c == '\t'))
}
