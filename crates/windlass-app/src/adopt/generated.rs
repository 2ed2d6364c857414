//! Configuration that terraform generated: made shorter, and without what it cannot accept itself.

use windlass_lang::terraform::scan::{self, Part};

/// Leaves out top-level attributes that are `null`, which is what leaving them out means. `null # sensitive` stays: somebody has
/// to write the value. Text that looks unusual stays as it is.
pub fn tidy(text: &str) -> String {
    let mut gone = Vec::new();
    for (start, end) in scan::items(text).unwrap_or_default() {
        let parts = scan::head(text, start).and_then(|head| scan::parts(text, head.body, end)).unwrap_or_default();
        gone.extend(parts.iter().filter_map(|part| match part {
            Part::Attribute(_, name, value) if &text[value.0..value.1] == "null" => Some((name.0, value.1)),
            _ => None,
        }));
    }
    remove(text, &gone)
}

/// The text without the innermost attributes or nested blocks that stand on these lines (from 1), and their names such as
/// `aws_instance.web: cpu_core_count`. `None` when none of the lines has one.
pub fn without(text: &str, lines: &[u32]) -> Option<(String, Vec<String>)> {
    let (mut gone, mut names) = (Vec::new(), Vec::new());
    for (start, end) in scan::items(text)? {
        let head = scan::head(text, start)?;
        let address = head.labels.join(".");
        for line in lines {
            if let Some((name, range)) = innermost(text, head.body, end, *line).filter(|(_, r)| !gone.contains(r)) {
                names.push(format!("{address}: {name}"));
                gone.push(range);
            }
        }
    }
    // What lies in a block that goes as a whole goes with it.
    let outer = gone.clone();
    gone.retain(|range| !outer.iter().any(|o| o != range && o.0 <= range.0 && range.1 <= o.1));
    if gone.is_empty() { None } else { Some((remove(text, &gone), names)) }
}

fn innermost(text: &str, body: usize, end: usize, line: u32) -> Option<(String, (usize, usize))> {
    let line_of = |at: usize| text[..at].matches('\n').count() as u32 + 1;
    for part in scan::parts(text, body, end)? {
        match part {
            Part::Attribute(name, at, value) if (line_of(at.0)..=line_of(value.1)).contains(&line) => {
                return Some((name.to_owned(), (at.0, value.1)));
            }
            Part::Block(start, end) if (line_of(start)..=line_of(end)).contains(&line) => {
                let head = scan::head(text, start)?;
                let name = head.kind.to_owned();
                return Some(match innermost(text, head.body, end, line) {
                    Some((inner, range)) => (format!("{name}.{inner}"), range),
                    None => (name, (start, end)),
                });
            }
            _ => {}
        }
    }
    None
}

/// Without these ranges and the lines they leave empty.
fn remove(text: &str, ranges: &[(usize, usize)]) -> String {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (start, end) in ranges {
        let line = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let start = if text[line..start].trim().is_empty() { line } else { start };
        let rest = text[end..].find('\n').map_or(text.len(), |n| end + n + 1);
        let end = if text[end..rest].trim().is_empty() { rest } else { end };
        out.push_str(&text[at..start]);
        at = end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# by terraform\nresource \"a\" \"b\" {\n  one = null\n  two = null # sensitive\n  three = {\n    x = null\n  }\n  inner {\n    four = 1\n    five = null\n  }\n}\n";

    #[test]
    fn what_is_null_goes() {
        assert_eq!(tidy(TEXT), TEXT.replace("  one = null\n", ""));
        assert_eq!(tidy("resource \"a\" \"b\" {\n  x = null\n}"), "resource \"a\" \"b\" {\n}");
        assert_eq!(tidy("not } terraform"), "not } terraform");
    }

    #[test]
    fn what_an_error_points_at_goes() {
        let check = |lines: &[u32], cut: &str, names: &[&str]| {
            let found = without(TEXT, lines);
            let want = (TEXT.replace(cut, ""), names.iter().map(|n| n.to_string()).collect());
            assert_eq!(found, (!names.is_empty()).then_some(want), "{lines:?}");
        };
        check(&[3], "  one = null\n", &["a.b: one"]);
        check(&[6], "  three = {\n    x = null\n  }\n", &["a.b: three"]);
        check(&[9], "    four = 1\n", &["a.b: inner.four"]);
        check(&[8], "  inner {\n    four = 1\n    five = null\n  }\n", &["a.b: inner"]);
        check(&[9, 9], "    four = 1\n", &["a.b: inner.four"]);
        check(&[1], "", &[]);
        check(&[2], "", &[]);
        check(&[12], "", &[]);
    }
}
