//! Files that are lists of lines: ignore files and CODEOWNERS.

use serde_json::{Value, json};

/// Lines of a `.gitignore` or `.dockerignore`, in a list of their own because a top-level list would be many documents.
pub fn ignore(text: &str) -> Value {
    let lines: Vec<Value> = text
        .split('\n')
        .map(|line| {
            let line = line.trim_end_matches('\r');
            let (kind, value) = match () {
                () if line.trim().is_empty() => ("Empty", ""),
                () if line.starts_with('#') => ("Comment", line[1..].trim()),
                () if line.starts_with('!') => ("NegatedPath", &line[1..]),
                () => ("Path", line),
            };
            json!({ "Kind": kind, "Value": value, "Original": line })
        })
        .collect();
    json!([lines])
}

pub fn codeowners(text: &str) -> Value {
    let mut rules = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (body, comment) = line.split_once('#').map_or((line, ""), |(body, comment)| (body, comment.trim()));
        let mut words = body.split_whitespace();
        let Some(pattern) = words.next() else { continue };
        let owners: Vec<Value> = words
            .map(|owner| match owner.strip_prefix('@') {
                Some(team) if team.contains('/') => json!({ "type": "team", "value": team }),
                Some(user) => json!({ "type": "username", "value": user }),
                None => json!({ "type": "email", "value": owner }),
            })
            .collect();
        rules.push(json!({ "pattern": pattern, "owners": owners, "comment": comment, "lineNumber": index + 1 }));
    }
    json!({ "rules": rules })
}
