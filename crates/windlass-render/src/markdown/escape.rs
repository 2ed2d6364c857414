//! Text as Markdown that means nothing but itself.

use crate::text::line;

/// Characters that mean something within a line, to CommonMark or to a forge's additions to it.
const SPECIAL: &str = "\\`*_[]<>&~|#$^";

/// A zero-width space: after `@` it keeps a name from being called.
const BREAK: char = '\u{200b}';

/// Plain text, on one line.
pub fn text(value: &str) -> String {
    let value = line(value);
    let value = value.trim();
    if value.is_empty() {
        // Nothing at all would end a list or a quotation.
        return "(empty)".into();
    }
    let mut out = String::with_capacity(value.len() + 8);
    // `1.` and `1)` begin a list.
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    for (at, c) in value.char_indices() {
        let begins =
            at == 0 && matches!(c, '-' | '+' | '=' | ':') || (at == digits && at > 0 && matches!(c, '.' | ')'));
        if begins || SPECIAL.contains(c) {
            out.push('\\');
        }
        out.push(c);
        if matches!(c, '@' | '#') {
            out.push(BREAK);
        }
    }
    out
}

/// A code span, on one line.
pub fn code(value: &str) -> String {
    let value = line(value);
    if value.trim().is_empty() {
        return "` `".into();
    }
    let ticks = "`".repeat(longest_run(&value) + 1);
    let pad = if value.starts_with(['`', ' ']) || value.ends_with(['`', ' ']) { " " } else { "" };
    format!("{ticks}{pad}{value}{pad}{ticks}")
}

/// Text within HTML, on one line.
pub fn html(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 8);
    for c in line(value).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '@' => out.extend(['@', BREAK]),
            c => out.push(c),
        }
    }
    out
}

/// A block of code; no line of it can end it.
pub fn fence(language: &str, lines: &[String]) -> String {
    let longest = lines.iter().map(|line| longest_run(line)).max().unwrap_or(0);
    let ticks = "`".repeat(longest.max(2) + 1);
    format!("{ticks}{language}\n{}\n{ticks}\n", lines.join("\n"))
}

/// An address of a page as a link; text where it is no address that a browser should follow.
pub fn link(name: &str, address: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !"<>()[]\\`\"".contains(c);
    if is_address(address) && address.chars().all(plain) {
        format!("[{}](<{address}>)", text(name))
    } else {
        format!("{} ({})", text(name), code(address))
    }
}

/// `https://…` or `http://…`.
pub fn is_address(address: &str) -> bool {
    address.starts_with("https://") || address.starts_with("http://")
}

fn longest_run(value: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for c in value.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}
