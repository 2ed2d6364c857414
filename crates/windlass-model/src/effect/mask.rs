//! Where secrets stand in texts, also in the encodings in which they travel, and values without them.

use crate::binding::keyed_digest;
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;

/// What stands in the place of a secret where no two have to be told apart.
pub const SENSITIVE: &str = "(sensitive)";
/// Before the keyed digest of a secret inside a value that is stored.
const MARK: &str = "(sensitive ";
/// Hexadecimal digits of the digest in a mark.
const MARK_DIGITS: usize = 16;
/// Bytes of a pattern that are searched for; the rest is compared where they are found, so that long secrets cost no memory.
const SEARCHED: usize = 24;
/// Shorter forms of a secret are found by chance.
const SHORTEST_FORM: usize = 6;
/// Lines of a key that are searched for singly: it may stand indented.
const SHORTEST_KEY_LINE: usize = 20;

/// Finds secrets in texts in time that does not depend on how many there are.
#[derive(Debug)]
pub struct Mask {
    forms: Vec<Form>,
    /// Over the first bytes of each form; `None` when there is none.
    automaton: Option<AhoCorasick>,
}

/// One way to write a secret.
#[derive(Debug)]
struct Form {
    bytes: Box<[u8]>,
    /// The letter before and after may hold bits of the secret.
    base64: bool,
}

impl Mask {
    /// For texts of at least six bytes; shorter ones would be found by chance and are not looked for.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for secret in secrets.into_iter().filter(|s| s.len() >= super::read::SHORTEST_SECRET) {
            for (bytes, base64) in forms(secret) {
                if bytes.len() >= SHORTEST_FORM {
                    *found.entry(bytes).or_default() |= base64;
                }
            }
        }
        let forms: Vec<Form> = found.into_iter().map(|(bytes, base64)| Form { bytes: bytes.into(), base64 }).collect();
        let heads = forms.iter().map(|form| &form.bytes[..form.bytes.len().min(SEARCHED)]);
        // It fails for more states than 32 bits can number: gigabytes of secrets, which would not have fitted before.
        let automaton = (!forms.is_empty())
            .then(|| AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(heads).ok())
            .flatten();
        Self { forms, automaton }
    }

    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Where secrets stand, in order, apart from each other. Forms are whole texts and what base64 adds are ASCII letters, so
    /// that they begin and end on the borders of characters.
    fn ranges(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let Some(automaton) = &self.automaton else { return found };
        if text.len() < SHORTEST_FORM {
            return found;
        }
        for hit in automaton.find_overlapping_iter(text) {
            let form = &self.forms[hit.pattern().as_usize()];
            let (mut start, mut end) = (hit.start(), hit.start() + form.bytes.len());
            if text.as_bytes().get(start..end) != Some(&*form.bytes) {
                continue;
            }
            if form.base64 {
                let letter = |at: usize| text.as_bytes().get(at).is_some_and(|b| is_base64(*b));
                start -= usize::from(start > 0 && letter(start - 1));
                end += usize::from(letter(end));
            }
            found.push(start..end);
        }
        found.sort_by_key(|range| (range.start, range.end));
        let mut apart: Vec<Range<usize>> = Vec::new();
        for range in found {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }

    pub fn finds(&self, text: &str) -> bool {
        !self.ranges(text).is_empty()
    }

    /// The text with each secret replaced by what `with` makes of it; `None` when there is none in it.
    fn replaced(&self, text: &str, with: impl Fn(&str) -> String) -> Option<String> {
        let ranges = self.ranges(text);
        if ranges.is_empty() {
            return None;
        }
        let (mut out, mut from) = (String::with_capacity(text.len()), 0);
        for range in ranges {
            out.push_str(&text[from..range.start]);
            out.push_str(&with(&text[range.clone()]));
            from = range.end;
        }
        out.push_str(&text[from..]);
        // What stood around a secret may be one together with what replaces it.
        Some(if self.finds(&out) { with(text) } else { out })
    }

    /// A text without the secrets in it.
    pub fn text(&self, text: &str) -> String {
        self.replaced(text, |_| SENSITIVE.to_owned()).unwrap_or_else(|| text.to_owned())
    }

    /// A text in whose place of each secret stands a mark with a keyed digest of it.
    pub(super) fn marked(&self, text: &str, key: &[u8]) -> Option<String> {
        self.replaced(text, |secret| mark(&keyed_digest(key, secret.as_bytes())))
    }
}

/// What stands for a secret inside a value.
pub(super) fn mark(digest: &str) -> String {
    format!("{MARK}{})", &digest[..digest.len().min(MARK_DIGITS)])
}

/// The digest of a text that is a mark and nothing else.
pub(crate) fn mark_of(text: &str) -> Option<&str> {
    let digest = text.strip_prefix(MARK)?.strip_suffix(')')?;
    is_mark_digest(digest).then_some(digest)
}

fn is_mark_digest(text: &str) -> bool {
    text.len() == MARK_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The text with its marks as people read them.
pub(crate) fn without_marks(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(MARK) {
        let after = &rest[at + MARK.len()..];
        let marked = after.get(..MARK_DIGITS).is_some_and(is_mark_digest) && after[MARK_DIGITS..].starts_with(')');
        out.push_str(&rest[..at]);
        out.push_str(if marked { SENSITIVE } else { MARK });
        rest = if marked { &after[MARK_DIGITS + 1..] } else { after };
    }
    out.push_str(rest);
    out
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// How a secret may be written, with whether it is base64: as it is, escaped for JSON and for URLs, in hexadecimal digits, in
/// base64 at each of the three places that it can have in a longer text; the lines of a private key.
fn forms(secret: &str) -> Vec<(Vec<u8>, bool)> {
    let mut plain: BTreeSet<String> = BTreeSet::from([secret.to_owned()]);
    let trimmed = secret.trim();
    if trimmed.len() >= super::read::SHORTEST_SECRET {
        plain.insert(trimmed.to_owned());
    }
    let escaped = json_escaped(secret);
    // Go, and so `jsonencode`, writes these three as numbers.
    let of_go = escaped.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    plain.extend([json_escaped(&escaped), json_escaped(&of_go), escaped, of_go]);
    for (digits, space) in [("0123456789ABCDEF", "%20"), ("0123456789abcdef", "%20"), ("0123456789ABCDEF", "+")] {
        plain.insert(url_encoded(secret, digits.as_bytes(), space, b"-._~"));
        plain.insert(url_encoded(secret, digits.as_bytes(), space, b"-._~/"));
    }
    if secret.contains("PRIVATE KEY-----") {
        let lines = secret.lines().map(str::trim);
        plain.extend(lines.filter(|l| l.len() >= SHORTEST_KEY_LINE && !l.starts_with("-----")).map(str::to_owned));
    }
    let hex = secret.bytes().fold(String::new(), |mut out, byte| {
        // Writing to a text cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    });
    plain.insert(hex.to_ascii_uppercase());
    plain.insert(hex);
    let mut out: Vec<(Vec<u8>, bool)> = plain.into_iter().map(|text| (text.into_bytes(), false)).collect();
    for before in 0..3 {
        let standard = base64_core(secret.as_bytes(), before);
        let for_urls: Vec<u8> = standard
            .iter()
            .map(|b| match b {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        if for_urls != standard {
            out.push((for_urls, true));
        }
        out.push((standard, true));
    }
    out
}

fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn url_encoded(text: &str, digits: &[u8], space: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push_str(space),
            _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => out.push(byte.into()),
            _ => {
                let digit = |value: u8| char::from(digits[usize::from(value)]);
                out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out
}

/// The letters of base64 (RFC 4648) that depend on `bytes` alone, when `before` (0 to 2) bytes stand before them in their group.
fn base64_core(bytes: &[u8], before: usize) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| -> u8 { (bytes[at / 8] >> (7 - at % 8)) & 1 };
    // Letters begin every six bits, counted from the beginning of the group.
    let first = match before {
        0 => 0,
        1 => 4,
        _ => 2,
    };
    let letters = (bytes.len() * 8).saturating_sub(first) / 6;
    (0..letters)
        .map(|letter| (0..6).fold(0, |value, n| (value << 1) | bit(first + letter * 6 + n)))
        .map(|value: u8| LETTERS[usize::from(value)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr\u{e9}t/\"p&ss+w<rd\\";

    /// The secret in a longer text, in each encoding; and not where it is not.
    #[test]
    fn secrets_are_found_in_their_encodings() {
        let mask = Mask::new([SECRET, "hunter22", "short"]);
        let check = |text: &str, want: &str| assert_eq!(mask.text(text), want, "{text}");
        check("nothing here", "nothing here");
        check("short texts stay", "short texts stay");
        check(&format!("a {SECRET} b"), "a (sensitive) b");
        check("hunter22hunter22", "(sensitive)");
        check("hunterhunter22!", "hunter(sensitive)!");
        check("68756e7465723232", "(sensitive)");
        check("x68756E7465723232x", "x(sensitive)x");
        check(&format!("{{\"k\":{}}}", Value::from(SECRET)), "{\"k\":\"(sensitive)\"}");
        check("s3cr\u{e9}t/\\\"p\\u0026ss+w\\u003crd\\\\", "(sensitive)");
        check("u:s3cr%C3%A9t%2F%22p%26ss%2Bw%3Crd%5C@h", "u:(sensitive)@h");
        check("u:s3cr%c3%a9t%2f%22p%26ss%2bw%3crd%5c@h", "u:(sensitive)@h");
        // printf 'user:hunter22' | base64; with one and two letters less before.
        check("dXNlcjpodW50ZXIyMg==", "dXNlcj(sensitive)==");
        check("c2VyOmh1bnRlcjIy", "c2VyO(sensitive)");
        check("ZXI6aHVudGVyMjI=", "ZXI(sensitive)=");
    }

    #[test]
    fn keys_are_found_where_they_are_indented() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\nggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\n";
        let mask = Mask::new([key]);
        let text = key.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let masked = mask.text(&text);
        assert!(!masked.contains("MII") && !masked.contains("ggSj") && masked.contains("END"), "{masked}");
    }

    #[test]
    fn marks_tell_secrets_apart_and_are_read_away() {
        let mask = Mask::new(["hunter22", "hunter33"]);
        let (a, b) = (mask.marked("x hunter22", b"k").unwrap(), mask.marked("x hunter33", b"k").unwrap());
        assert_ne!(a, b);
        assert_eq!((without_marks(&a), mark_of(&a)), ("x (sensitive)".into(), None));
        assert_eq!(mask.marked("hunter22", b"k").as_deref().and_then(mark_of).map(str::len), Some(16));
        assert_eq!(without_marks("(sensitive data) (sensitive "), "(sensitive data) (sensitive ");
    }
}
