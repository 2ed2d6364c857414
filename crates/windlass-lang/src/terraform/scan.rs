//! Cuts a native file into its top-level items without parsing them, so that only what matters has to be parsed.

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
            _ => at += 1,
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
    use super::items;

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
