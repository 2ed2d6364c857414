//! Regular expressions.

use super::{Answer, Builtin, BuiltinError, text, wrong};
use regex::Regex;
use regorus::Value;

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("glob.quote_meta", 1, quote_meta),
    ("re_match", 2, re_match),
    ("regex.find_all_string_submatch_n", 3, find_all_submatches),
    ("regex.globs_match", 2, globs_match),
    ("regex.replace", 3, replace),
    ("regex.split", 2, split),
    ("regex.template_match", 4, template_match),
];

fn compile(pattern: &str) -> Result<Regex, BuiltinError> {
    Regex::new(pattern).map_err(|error| BuiltinError::failed(error.to_string()))
}

/// All matches, or the first so many: each with its groups, of which one without a match is the empty text.
fn find_all_submatches(operands: &[Value]) -> Answer {
    let (regex, whole) = (compile(text(operands, 0)?)?, text(operands, 1)?);
    let Value::Number(count) = &operands[2] else { return Err(wrong(operands, 2, "number")) };
    let count = count.as_i64().ok_or_else(|| BuiltinError::failed("operand 3 must be an integer"))?;
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let groups = |found: regex::Captures| -> Value {
        found.iter().map(|group| Value::from(group.map_or("", |group| group.as_str()))).collect::<Vec<_>>().into()
    };
    Ok(regex.captures_iter(whole).take(most).map(groups).collect::<Vec<_>>().into())
}

fn quote_meta(operands: &[Value]) -> Answer {
    let mut out = String::new();
    for c in text(operands, 0)?.chars() {
        if matches!(c, '*' | '?' | '\\' | '[' | ']' | '{' | '}') {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(out.into())
}

fn replace(operands: &[Value]) -> Answer {
    let (whole, pattern, new) = (text(operands, 0)?, text(operands, 1)?, text(operands, 2)?);
    Ok(compile(pattern)?.replace_all(whole, new).into_owned().into())
}

/// As Go splits: an empty match at either end splits nothing off.
fn split(operands: &[Value]) -> Answer {
    let (pattern, whole) = (text(operands, 0)?, text(operands, 1)?);
    let regex = compile(pattern)?;
    if whole.is_empty() {
        let nothing = if pattern.is_empty() { Vec::new() } else { vec![Value::from("")] };
        return Ok(nothing.into());
    }
    let mut parts: Vec<Value> = Vec::new();
    let (mut start, mut end) = (0, 0);
    for found in regex.find_iter(whole) {
        end = found.start();
        if found.end() != 0 {
            parts.push(whole[start..end].into());
        }
        start = found.end();
    }
    if end != whole.len() {
        parts.push(whole[start..].into());
    }
    Ok(parts.into())
}

/// A text that holds regular expressions between two delimiters, of one character each, and is matched as a whole.
fn template_match(operands: &[Value]) -> Answer {
    let (template, whole) = (text(operands, 0)?, text(operands, 1)?);
    let delimiter = |index| -> Result<char, BuiltinError> {
        let mut chars = text(operands, index)?.chars();
        match (chars.next(), chars.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(BuiltinError::failed(format!("operand {} must be one character", index + 1))),
        }
    };
    let (open, close) = (delimiter(2)?, delimiter(3)?);
    let unbalanced = || BuiltinError::failed(format!("unbalanced braces in {template:?}"));
    let mut pattern = String::from("^");
    let mut rest = template;
    while let Some(at) = rest.find([open, close]) {
        let (literal, from) = rest.split_at(at);
        let mut inside = from.strip_prefix(open).ok_or_else(unbalanced)?;
        // Delimiters inside of an expression come in pairs.
        let mut depth = 1;
        let end = inside
            .char_indices()
            .find(|(_, c)| {
                depth += i32::from(*c == open) - i32::from(*c == close);
                depth == 0
            })
            .ok_or_else(unbalanced)?
            .0;
        let expression;
        (expression, inside) = inside.split_at(end);
        pattern.push_str(&regex::escape(literal));
        pattern.push_str(&format!("({expression})"));
        rest = &inside[close.len_utf8()..];
    }
    pattern.push_str(&regex::escape(rest));
    pattern.push('$');
    Ok(compile(&pattern)?.is_match(whole).into())
}

/// Of Rego v0: `regex.match` under its old name.
fn re_match(operands: &[Value]) -> Answer {
    let (pattern, value) = (text(operands, 0)?, text(operands, 1)?);
    Ok(compile(pattern)?.is_match(value).into())
}

/// Whether two globs have a text in common. A glob is made of characters, `.` for any character and `[a-z]` for one of a set, each
/// followed by `*` (any number), `+` (at least one) or nothing.
///
/// OPA's own search for the common text misses some (`[a-c]` and `ab*` have `a` in common, and OPA says no). A policy gets OPA's
/// answer, so this searches as OPA does, and not further.
fn globs_match(operands: &[Value]) -> Answer {
    let (a, b) = (parse_glob(text(operands, 0)?)?, parse_glob(text(operands, 1)?)?);
    let Some((a, b)) = without_ends(&a, &b) else { return Ok(false.into()) };
    let mut steps = 0;
    common(a, b, &mut steps).map(Value::from)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Symbol {
    Any,
    One(char),
    /// Sorted and apart.
    Ranges(Vec<(char, char)>),
}

impl Symbol {
    /// Whether a character is meant by both. `.` meets everything, even a set that has no character.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::One(a), Self::One(b)) => a == b,
            (Self::One(c), Self::Ranges(ranges)) | (Self::Ranges(ranges), Self::One(c)) => {
                ranges.iter().any(|(from, to)| from <= c && c <= to)
            }
            (Self::Ranges(a), Self::Ranges(b)) => {
                a.iter().any(|(from, to)| b.iter().any(|(other_from, other_to)| from <= other_to && other_from <= to))
            }
        }
    }

    fn set(mut ranges: Vec<(char, char)>) -> Self {
        ranges.sort_unstable();
        let mut apart: Vec<(char, char)> = Vec::new();
        for (from, to) in ranges {
            match apart.last_mut() {
                Some(last) if u32::from(from) <= u32::from(last.1) + 1 => last.1 = last.1.max(to),
                _ => apart.push((from, to)),
            }
        }
        Self::Ranges(apart)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    AtLeastOnce,
    Any,
}

#[derive(Debug)]
struct Token {
    symbol: Symbol,
    times: Times,
}

impl Token {
    fn meets(&self, other: &Self) -> bool {
        self.symbol.meets(&other.symbol)
    }
}

fn parse_glob(glob: &str) -> Result<Vec<Token>, BuiltinError> {
    let chars: Vec<char> = glob.chars().collect();
    let bad = |at: usize, why: String| {
        BuiltinError::failed(format!("input:{glob}, pos:{at}, {why}: the input provided is invalid"))
    };
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        let symbol = match c {
            '*' | '+' => {
                let flagged = tokens.last_mut().filter(|token| token.times == Times::Once);
                let token = flagged.ok_or_else(|| bad(at, format!("flag '{c}' must be preceded by a non-flag")))?;
                token.times = if c == '*' { Times::Any } else { Times::AtLeastOnce };
                continue;
            }
            '.' => Symbol::Any,
            ']' => return Err(bad(at, "set-close ']' with no preceding '['".into())),
            '[' => {
                let mut ranges: Vec<(char, char)> = Vec::new();
                let mut joinable = false;
                loop {
                    let &c = chars.get(at).ok_or_else(|| bad(at, "found [ without matching ]".into()))?;
                    at += 1;
                    match c {
                        ']' => break,
                        '-' => {
                            let start = ranges.last().copied().filter(|_| joinable).ok_or_else(|| {
                                bad(at, "range character '-' must be preceded by a Unicode character".into())
                            })?;
                            let mut end = chars.get(at).copied().filter(|c| *c != ']').ok_or_else(|| {
                                bad(at, "range character '-' must be followed by a Unicode character".into())
                            })?;
                            at += 1;
                            if end == '\\' {
                                end = *chars
                                    .get(at)
                                    .ok_or_else(|| bad(at - 1, "input ends with a \\ (escape) character".into()))?;
                                at += 1;
                            }
                            if end < start.0 {
                                let (from, to) = (start.0, end);
                                return Err(bad(
                                    at,
                                    format!("range is out of order: '{to}' comes before '{from}' in Unicode"),
                                ));
                            }
                            if let Some(last) = ranges.last_mut() {
                                last.1 = end;
                            }
                            joinable = false;
                        }
                        '\\' => {
                            let &escaped = chars
                                .get(at)
                                .ok_or_else(|| bad(at - 1, "input ends with a \\ (escape) character".into()))?;
                            at += 1;
                            ranges.push((escaped, escaped));
                            joinable = true;
                        }
                        c => {
                            ranges.push((c, c));
                            joinable = true;
                        }
                    }
                }
                Symbol::set(ranges)
            }
            '\\' => {
                let &escaped =
                    chars.get(at).ok_or_else(|| bad(at - 1, "input ends with a \\ (escape) character".into()))?;
                at += 1;
                Symbol::One(escaped)
            }
            c => Symbol::One(c),
        };
        tokens.push(Token { symbol, times: Times::Once });
    }
    Ok(joined(tokens))
}

/// Neighbours that repeat the same symbol are one token: `a*a+` is `a+`.
fn joined(tokens: Vec<Token>) -> Vec<Token> {
    let mut joined: Vec<Token> = Vec::new();
    for token in tokens {
        match joined.last_mut() {
            Some(last) if last.times != Times::Once && token.times != Times::Once && last.symbol == token.symbol => {
                if token.times == Times::AtLeastOnce {
                    last.times = Times::AtLeastOnce;
                }
            }
            _ => joined.push(token),
        }
    }
    joined
}

/// What is left of both globs when single symbols that meet are taken off both ends, save one on each side; nothing when two of
/// them do not meet.
fn without_ends<'a>(a: &'a [Token], b: &'a [Token]) -> Option<(&'a [Token], &'a [Token])> {
    let single = |a: &Token, b: &Token| a.times == Times::Once && b.times == Times::Once;
    let run = |pairs: &mut dyn Iterator<Item = (&'a Token, &'a Token)>| -> Option<usize> {
        let mut length = 0;
        for (a, b) in pairs.take_while(|(a, b)| single(a, b)) {
            if !a.meets(b) {
                return None;
            }
            length += 1;
        }
        Some(length)
    };
    let start = run(&mut a.iter().zip(b))?.saturating_sub(1);
    let (a, b) = (&a[start..], &b[start..]);
    let end = run(&mut a.iter().rev().zip(b.iter().rev()))?.saturating_sub(1);
    Some((&a[..a.len() - end], &b[..b.len() - end]))
}

/// The search can take exponential time on globs made for that.
const MOST_STEPS: usize = 1_000_000;

fn common(a: &[Token], b: &[Token], steps: &mut usize) -> Result<bool, BuiltinError> {
    *steps += 1;
    if *steps > MOST_STEPS {
        return Err(BuiltinError::Refused("these globs take too long to compare"));
    }
    match (a.first(), b.first()) {
        (None, None) => Ok(true),
        (Some(x), Some(y)) => match (x.times, y.times) {
            (Times::Once, Times::Once) => Ok(x.meets(y) && common(&a[1..], &b[1..], steps)?),
            (Times::Once, _) => repeated(y, b, a, steps),
            _ => repeated(x, a, b, steps),
        },
        _ => Ok(false),
    }
}

/// `token` is the first of `a` and repeats: it takes tokens of `b` until the rest of both has a text in common.
fn repeated(token: &Token, a: &[Token], b: &[Token], steps: &mut usize) -> Result<bool, BuiltinError> {
    let mut others = b;
    if token.times == Times::AtLeastOnce {
        match b.first() {
            Some(first) if !token.meets(first) => return Ok(false),
            Some(first) if first.times == Times::Once => others = &b[1..],
            _ => {}
        }
    }
    let Some(next) = a.get(1) else { return Ok(others.iter().all(|other| token.meets(other))) };
    for (place, other) in others.iter().enumerate() {
        if other.meets(next) && common(&a[1..], &others[place..], steps)? {
            return Ok(true);
        }
        if !token.meets(other) {
            return Ok(false);
        }
    }
    Ok(false)
}
