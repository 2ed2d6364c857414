//! The ways in which a secret is written.

use crate::mask::SHORTEST;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Lines of a key that are searched for singly: it may stand indented.
const SHORTEST_KEY_LINE: usize = 20;

/// What is not escaped in URLs beside letters and digits: by RFC 3986, in paths, by JavaScript, by forms, by Go in paths, and in
/// user names and passwords.
const KEPT: [&[u8]; 6] = [b"-._~", b"-._~/", b"-._~!'()*", b"-._*", b"-._~$&+=:@", b"-._~$&+,;="];

/// How a secret may be written, with whether it is base64: as it is, escaped for JSON, URLs and shells, in hexadecimal digits, in
/// base64 at each of the three places that it can have in a longer text; the lines of a private key. The same without the
/// space around it.
pub(super) fn forms(secret: &str) -> Vec<(Vec<u8>, bool)> {
    let (mut plain, mut base64) = (BTreeSet::new(), BTreeSet::new());
    for text in BTreeSet::from([secret, secret.trim()]).into_iter().filter(|text| text.len() >= SHORTEST) {
        written(text, &mut plain);
        for before in 0..3 {
            let standard = base64_core(text.as_bytes(), before);
            let of_urls = |b: &u8| match b {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            };
            base64.insert(standard.iter().map(of_urls).collect::<Vec<u8>>());
            base64.insert(standard);
        }
    }
    if secret.contains("PRIVATE KEY-----") {
        let lines = secret.lines().map(str::trim);
        plain.extend(lines.filter(|l| l.len() >= SHORTEST_KEY_LINE && !l.starts_with("-----")).map(str::to_owned));
    }
    let plain = plain.into_iter().map(|text| (text.into_bytes(), false));
    plain.chain(base64.into_iter().map(|text| (text, true))).collect()
}

/// Everything but base64.
fn written(text: &str, out: &mut BTreeSet<String>) {
    let escaped = json_escaped(text);
    // Go, and so `jsonencode`, writes these three as numbers.
    let of_go = escaped.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let of_ascii = ascii_escaped(&escaped);
    out.extend([json_escaped(&escaped), json_escaped(&of_go), escaped.replace('/', "\\/"), escaped, of_go, of_ascii]);
    for kept in KEPT {
        for (digits, space) in [("0123456789ABCDEF", "%20"), ("0123456789abcdef", "%20"), ("0123456789ABCDEF", "+")] {
            out.insert(url_encoded(text, digits.as_bytes(), space, kept));
        }
    }
    // In quotes, as shells and those who write for them do it.
    out.insert(text.replace('\'', r"'\''"));
    out.insert(text.replace('\'', r#"'"'"'"#));
    out.insert(backslashed(text, |c| matches!(c, '\\' | '"' | '$' | '`')));
    out.insert(backslashed(text, |c| " !\"#$&'()*,;<>?[\\]^`{|}".contains(c)));
    out.insert(backslashed(text, |c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"_@%+=:,./-".contains(c)));
    out.insert(backslashed(text, |c| c.is_ascii() && !c.is_ascii_alphanumeric()));
    out.insert(ansi_c(text, false));
    out.insert(ansi_c(text, true));
    let hex = text.bytes().fold(String::new(), |mut out, byte| {
        // Writing to a text cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    });
    let percent = hex.as_bytes().chunks(2).flat_map(|two| [b'%'].into_iter().chain(two.iter().copied()));
    let percent: String = percent.map(char::from).collect();
    out.extend([percent.to_ascii_uppercase(), percent, hex.to_ascii_uppercase(), hex]);
    out.insert(text.to_owned());
}

fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// With characters beyond ASCII as UTF-16 numbers.
fn ascii_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(out, "\\u{unit:04x}");
            });
        }
    }
    out
}

fn backslashed(text: &str, special: impl Fn(char) -> bool) -> String {
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// What bash writes between `$'` and `'`; with characters beyond ASCII in octal digits where it has no locale.
fn ansi_c(text: &str, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            '\x1b' => out.push_str("\\E"),
            _ if c.is_ascii_control() || (ascii && !c.is_ascii()) => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                    let _ = write!(out, "\\{byte:03o}");
                });
            }
            _ => out.push(c),
        }
    }
    out
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
