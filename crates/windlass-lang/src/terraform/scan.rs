//! Cuts a native file into its top-level items without parsing them, so that only what matters has to be parsed.

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// Byte ranges of the top-level items (blocks and attributes), in order. `None` when anything looks unusual: the caller then
/// parses the whole file, which also finds what is wrong with it.
pub fn items(text: &str) -> Option<Vec<(usize, usize)>> {
    let bytes = text.as_bytes();
    let mut items = Vec::new();
    let mut at = 0;
    loop {
        at = skip_blank(bytes, at)?;
        if at >= bytes.len() {
            return Some(items);
        }
        if !(bytes[at].is_ascii_alphabetic() || bytes[at] == b'_') {
            return None;
        }
        let end = item_end(bytes, at)?;
        items.push((at, end));
        at = end;
    }
}

/// Type and labels of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    pub kind: &'a str,
    pub labels: Vec<&'a str>,
    /// Bytes from the type to the end of the last label.
    pub end: usize,
    /// Byte after the opening brace.
    pub body: usize,
}

/// The head of the block that starts at byte `start`. `None` for an attribute, and for a head with anything but plain labels.
pub fn head(text: &str, start: usize) -> Option<Head<'_>> {
    let bytes = text.as_bytes();
    let kind_end = identifier_end(bytes, start)?;
    let mut head = Head { kind: &text[start..kind_end], labels: Vec::new(), end: kind_end, body: 0 };
    let mut at = kind_end;
    loop {
        while matches!(bytes.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        match bytes.get(at)? {
            b'{' => {
                head.body = at + 1;
                return Some(head);
            }
            b'"' => {
                let length = bytes[at + 1..].iter().position(|b| *b == b'"')?;
                let label = &text[at + 1..at + 1 + length];
                if label.bytes().any(|b| matches!(b, b'\\' | b'$' | b'%' | b'\n')) {
                    return None;
                }
                head.labels.push(label);
                at += length + 2;
            }
            _ => {
                let end = identifier_end(bytes, at)?;
                head.labels.push(&text[at..end]);
                at = end;
            }
        }
        head.end = at;
    }
}

/// One attribute or nested block of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Its name, and the bytes of the name and of the expression.
    Attribute(&'a str, (usize, usize), (usize, usize)),
    /// Bytes of the whole block.
    Block(usize, usize),
}

/// The parts of a block that ends at byte `end` and whose content starts at `body` (see [`Head::body`]). `None` when anything
/// looks unusual.
pub fn parts(text: &str, body: usize, end: usize) -> Option<Vec<Part<'_>>> {
    let bytes = &text.as_bytes()[..end];
    let mut parts = Vec::new();
    let mut at = body;
    loop {
        at = skip_blank(bytes, at)?;
        if bytes.get(at)? == &b'}' {
            return (skip_blank(bytes, at + 1)? == end).then_some(parts);
        }
        let name_end = identifier_end(bytes, at)?;
        let part_end = item_end(bytes, at)?;
        let mut value = name_end;
        while matches!(bytes.get(value), Some(b' ' | b'\t')) {
            value += 1;
        }
        if bytes.get(value) == Some(&b'=') && bytes.get(value + 1) != Some(&b'=') {
            let from = value + 1 + text[value + 1..part_end].len() - text[value + 1..part_end].trim_start().len();
            let to = from + text[from..part_end].trim_end().len();
            parts.push(Part::Attribute(&text[at..name_end], (at, name_end), (from, to)));
        } else {
            parts.push(Part::Block(at, part_end));
        }
        at = part_end;
    }
}

fn identifier_end(bytes: &[u8], at: usize) -> Option<usize> {
    if !bytes.get(at).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
        return None;
    }
    let more = bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    Some(at + more)
}

/// Whether a text calls a function that reads files (`file`, `templatefile`, `filesha256`, `fileset` …), names a path
/// (`path.module` …) or has a provisioner. It may answer yes for what does neither, never no for what does.
pub fn can_read_files(text: &str) -> bool {
    static NEEDLES: LazyLock<[Finder<'static>; 3]> = LazyLock::new(|| ["file", "path", "provisioner"].map(Finder::new));
    let [file, path, provisioner] = &*NEEDLES;
    let bytes = text.as_bytes();
    let followed = |needle: &Finder<'_>, by: u8| {
        needle.find_iter(bytes).any(|at| {
            let name = at + bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric()).count();
            // A slash that begins no comment divides.
            skip_blank(bytes, name).is_some_and(|next| bytes.get(next) == Some(&by))
        })
    };
    followed(file, b'(') || followed(path, b'.') || provisioner.find(bytes).is_some()
}

/// Past white space and comments.
fn skip_blank(bytes: &[u8], mut at: usize) -> Option<usize> {
    while at < bytes.len() {
        match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' | b'/' => at = skip_comment(bytes, at)?,
            _ => break,
        }
    }
    Some(at)
}

/// Past the comment at `at`, not past its line feed; `None` when there is none.
fn skip_comment(bytes: &[u8], at: usize) -> Option<usize> {
    let line_end = || bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n);
    match (bytes[at], bytes.get(at + 1)) {
        (b'#', _) | (b'/', Some(b'/')) => Some(line_end()),
        (b'/', Some(b'*')) => bytes[at + 2..].windows(2).position(|w| w == b"*/").map(|n| at + 2 + n + 2),
        _ => None,
    }
}

/// Bytes that [`item_end`] has to look at.
const MARKS: [bool; 256] = {
    let mut marks = [false; 256];
    let mut at = 0;
    let bytes = b"\"#/<{[(}])\n";
    while at < bytes.len() {
        marks[bytes[at] as usize] = true;
        at += 1;
    }
    marks
};

fn item_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0usize;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = skip_string(bytes, at)?,
            b'#' => at = skip_comment(bytes, at)?,
            b'/' => at = skip_comment(bytes, at).unwrap_or(at + 1),
            b'<' if bytes.get(at + 1) == Some(&b'<') => at = skip_heredoc(bytes, at)?,
            b'{' | b'[' | b'(' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' | b')' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b'\n' if depth == 0 => return Some(at),
            _ => at += 1 + bytes[at + 1..].iter().take_while(|b| !MARKS[usize::from(**b)]).count(),
        }
    }
    (depth == 0).then_some(at)
}

/// Past the quoted string at `at`, templates included.
fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            b'\n' => return None,
            b'$' | b'%' if bytes.get(at + 1) == Some(&b'{') => {
                // `$${` is an escape.
                if at > 0 && bytes[at - 1] == bytes[at] { at += 2 } else { at = skip_template(bytes, at + 2)? }
            }
            _ => at += 1,
        }
    }
    None
}

/// Past the `}` that closes an interpolation whose content starts at `at`.
fn skip_template(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1usize;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = skip_string(bytes, at)?;
                continue;
            }
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Past the closing marker of the heredoc at `at`.
fn skip_heredoc(bytes: &[u8], at: usize) -> Option<usize> {
    let mut name = at + 2;
    if bytes.get(name) == Some(&b'-') {
        name += 1;
    }
    let end = bytes[name..].iter().position(|b| *b == b'\n')? + name;
    let marker = std::str::from_utf8(&bytes[name..end]).ok()?.trim();
    if marker.is_empty() || !marker.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return None;
    }
    let mut line = end + 1;
    while line <= bytes.len() {
        let line_end = bytes[line..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| line + n);
        if std::str::from_utf8(&bytes[line..line_end]).is_ok_and(|text| text.trim() == marker) {
            return Some(line_end);
        }
        if line_end >= bytes.len() {
            return None;
        }
        line = line_end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_into_parts() {
        let text = "data \"a\" b {\n  x = 1 # one\n  nested \"n\" {\n    y = 2\n  }\n\n  z   = { k = \"}\" }\n}\n";
        let found = head(text, 0).unwrap();
        assert_eq!((found.kind, found.labels.as_slice(), found.end), ("data", ["a", "b"].as_slice(), 10));
        let shown: Vec<String> = parts(text, found.body, text.len() - 1)
            .unwrap()
            .into_iter()
            .map(|part| match part {
                Part::Attribute(name, _, (a, b)) => format!("{name}: {}", &text[a..b]),
                Part::Block(a, b) => text[a..b].to_owned(),
            })
            .collect();
        assert_eq!(shown, ["x: 1 # one", "nested \"n\" {\n    y = 2\n  }", "z: { k = \"}\" }"]);
        for unusual in ["a { x = 1 }", "a \"${x}\" {\n}", "a = 1\n"] {
            let cut = head(unusual, 0).and_then(|h| parts(unusual, h.body, unusual.len()));
            assert_eq!(cut, None, "{unusual}");
        }
    }

    #[test]
    fn what_can_read_files() {
        let check = |text: &str, want: bool| assert_eq!(can_read_files(text), want, "{text}");
        for yes in [
            "x = file(\"a\")",
            "templatefile (",
            "filebase64sha256\t(\"x\")",
            "\"${path.module}/x\"",
            "path .root",
            "provisioner \"local-exec\" {",
            "file /* c */ (\"a\")",
        ] {
            check(yes, true);
        }
        for no in ["profile = \"x\"", "file = 1", "path = \"/\"", "file_name(", "iam_profile.x"] {
            check(no, false);
        }
    }

    #[test]
    fn items_are_cut_where_they_end() {
        let check = |text: &str, want: Option<&[&str]>| {
            let found = items(text)
                .map(|ranges| ranges.into_iter().map(|(a, b)| text[a..b].trim().to_owned()).collect::<Vec<_>>());
            assert_eq!(found, want.map(|w| w.iter().map(|s| s.to_string()).collect()), "{text}");
        };
        check("# c\na {\n x = \"}\"\n}\n\nb = 1\n", Some(&["a {\n x = \"}\"\n}", "b = 1"]));
        check(
            "a {\n x = \"${f(\"}\", {b = 1})}\"\n}\nb {}\n",
            Some(&["a {\n x = \"${f(\"}\", {b = 1})}\"\n}", "b {}"]),
        );
        check("a {\n x = <<-EOT\n  }}} \"\n  EOT\n}\nb {}", Some(&["a {\n x = <<-EOT\n  }}} \"\n  EOT\n}", "b {}"]));
        check("a { /* } */\n// }\n}\n", Some(&["a { /* } */\n// }\n}"]));
        check("a {\n x = \"$${\"\n}\n", Some(&["a {\n x = \"$${\"\n}"]));
        check("a {\n", None);
        check("}\n", None);
    }
}
