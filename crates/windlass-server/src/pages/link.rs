//! Addresses of pages. Names from repositories are encoded, so that none can leave its place in an address.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what needs no encoding anywhere in an address (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn part(text: &str) -> String {
    // A browser resolves `.` and `..` even where they are encoded; no name of ours is one.
    match text {
        "." | ".." => "_".into(),
        _ => utf8_percent_encode(text, ENCODED).to_string(),
    }
}

/// `path` with a query of the pairs whose value is not empty.
pub fn query(path: &str, pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", part(value)))
        .collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// One stack: `/stacks/PROJECT/aws/network`; the slashes of a stack's id stay.
pub fn stack(project: &str, stack: &str) -> String {
    let parts: Vec<String> = stack.split('/').map(part).collect();
    format!("/stacks/{}/{}", part(project), parts.join("/"))
}

pub fn run(id: &str) -> String {
    format!("/runs/{}", part(id))
}

/// A file that a step of a run left.
pub fn artefact(run: &str, id: &str) -> String {
    format!("/api/v1/runs/{}/artefacts/{}", part(run), part(id))
}

/// What is different between two runs, the older one first.
pub fn compare(before: &str, after: &str) -> String {
    format!("/runs/{}/compare/{}", part(before), part(after))
}

pub fn review(id: &str) -> String {
    format!("/reviews/{}", part(id))
}

/// What begins by itself in a project.
pub fn schedules(project: &str) -> String {
    format!("/projects/{}/schedules", part(project))
}

/// One operation of a project.
pub fn operation(project: &str, name: &str) -> String {
    format!("/projects/{}/operations/{}", part(project), part(name))
}

/// What a diagnostic's code means.
pub fn code(code: &str) -> String {
    format!("/codes/{}", part(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_place() {
        assert_eq!(stack("shop", "aws/network"), "/stacks/shop/aws/network");
        assert_eq!(stack("a/b", "x?y/../z#<\">"), "/stacks/a%2Fb/x%3Fy/_/z%23%3C%22%3E");
        assert_eq!(query("/runs", &[("project", ""), ("state", "a&b=c")]), "/runs?state=a%26b%3Dc");
        assert_eq!(query("/runs", &[("project", "")]), "/runs");
        assert_eq!(code("WL612/.."), "/codes/WL612%2F..");
        assert_eq!((run("r/1"), review("ü")), ("/runs/r%2F1".into(), "/reviews/%C3%BC".into()));
    }
}
