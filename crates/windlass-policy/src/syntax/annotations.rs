//! METADATA comments: YAML above a package or a rule.

use super::Source;
use super::tree::{Comment, Loc};
use serde_json::Value;
use windlass_model::diagnostic::Diagnostic;

/// What a METADATA block says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Annotations {
    /// `rule`, `document`, `package` or `subpackages`.
    pub scope: String,
    pub title: Option<String>,
    pub description: Option<String>,
    /// `custom.severity`, or `severity` itself.
    pub severity: Option<String>,
    /// Reference and description of each.
    pub related_resources: Vec<(String, Option<String>)>,
    /// The `custom` object, or null.
    pub custom: Value,
    /// The whole block as OPA shows it, with its scope.
    pub all: Value,
}

/// A block and the first line after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub annotations: Annotations,
    pub loc: Loc,
    pub end_line: u32,
}

/// What a block is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Package,
    /// Index of the rule.
    Rule(usize),
}

/// All blocks of a file with what they describe, in order of the file.
///
/// # Errors
/// WL410 for a block that is no YAML object, has an unknown scope or describes nothing.
pub fn find(source: &Source) -> Result<Vec<(Target, Block)>, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    for comments in groups(&source.comments) {
        let Some(start) = comments.iter().position(|comment| comment.text.trim() == "METADATA") else { continue };
        let (title, lines) = (&comments[start], &comments[start + 1..]);
        let yaml: String = lines.iter().map(|comment| format!("{}\n", comment.text)).collect();
        let end_line = lines.last().unwrap_or(title).loc.line + 1;
        let value = match regorus::Value::from_yaml_str(&yaml) {
            Ok(value) => serde_json::to_value(&value).unwrap_or_default(),
            Err(error) => {
                let why = error.to_string();
                wrong.push(source.error("WL410", format!("METADATA is no YAML: {why}"), title.loc));
                continue;
            }
        };
        let Value::Object(_) = value else {
            wrong.push(
                source
                    .error("WL410", "METADATA holds no keys", title.loc)
                    .help("write `# title: …` on the line below it, or remove it"),
            );
            continue;
        };
        let target = target(source, end_line);
        let Some((target, scope)) = target else {
            wrong.push(
                source
                    .error("WL410", "METADATA describes nothing: no package or rule follows it", title.loc)
                    .help("put it above the rule that it describes"),
            );
            continue;
        };
        match annotations(value, scope) {
            Ok(annotations) => found.push((target, Block { annotations, loc: title.loc, end_line })),
            Err(why) => wrong.push(source.error("WL410", why, title.loc)),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

fn groups(comments: &[Comment]) -> Vec<&[Comment]> {
    comments.chunk_by(|a, b| a.alone && b.alone && b.loc.line == a.loc.line + 1).filter(|g| g[0].alone).collect()
}

fn target(source: &Source, line: u32) -> Option<(Target, &'static str)> {
    let module = &source.module;
    if module.package_loc.line >= line {
        return Some((Target::Package, "package"));
    }
    let index = module.rules.iter().position(|rule| rule.loc.line >= line)?;
    if module.imports.iter().any(|import| import.loc.line >= line && import.loc.line < module.rules[index].loc.line) {
        return None;
    }
    Some((Target::Rule(index), "rule"))
}

fn annotations(mut value: Value, default_scope: &str) -> Result<Annotations, String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let scope = match value.get("scope") {
        None => default_scope.to_owned(),
        Some(Value::String(scope)) if matches!(scope.as_str(), "rule" | "document" | "package" | "subpackages") => {
            scope.clone()
        }
        Some(other) => {
            return Err(format!("METADATA has scope {other}: it is rule, document, package or subpackages"));
        }
    };
    if matches!(scope.as_str(), "package" | "subpackages") != (default_scope == "package") {
        return Err(format!("METADATA with scope {scope} stands above a {default_scope}"));
    }
    let custom = value.get("custom").cloned().unwrap_or_default();
    let severity = text(&custom, "severity").or_else(|| text(&value, "severity"));
    let related_resources = value
        .get("related_resources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|item| match item {
            Value::String(reference) => Some((reference.clone(), None)),
            other => Some((text(other, "ref")?, text(other, "description"))),
        })
        .collect();
    let out = Annotations {
        title: text(&value, "title"),
        description: text(&value, "description"),
        severity,
        related_resources,
        custom,
        scope: scope.clone(),
        all: Value::Null,
    };
    if let Value::Object(map) = &mut value {
        map.insert("scope".into(), scope.into());
        if let Some(Value::Array(items)) = map.get_mut("related_resources") {
            for item in items {
                if let Value::String(reference) = item {
                    *item = serde_json::json!({ "ref": reference });
                }
            }
        }
        if let Some(Value::Array(items)) = map.get_mut("authors") {
            for item in items {
                if let Value::String(author) = item {
                    *item = self::author(author);
                }
            }
        }
    }
    Ok(Annotations { all: value, ..out })
}

/// `Jane Doe <jane@example.org>` → name and email.
fn author(text: &str) -> Value {
    match text.rsplit_once('<').and_then(|(name, rest)| Some((name.trim(), rest.trim().strip_suffix('>')?))) {
        Some(("", email)) => serde_json::json!({ "email": email }),
        Some((name, email)) => serde_json::json!({ "name": name, "email": email }),
        None => serde_json::json!({ "name": text }),
    }
}
