//! Licences and sources of all dependencies, by the list in `deny.toml`: the cheap form of what cargo-deny checks.

use crate::shell::{Failure, Result, cargo, read, workspace};
use serde_json::Value;

/// # Errors
/// Names every package whose licence is not allowed or that does not come from crates.io.
pub fn check() -> Result<()> {
    let deny = std::fs::read_to_string(workspace().join("deny.toml"))
        .map_err(|e| Failure::new(format!("cannot read deny.toml: {e}")))?;
    let allowed = allowed(&deny);
    if allowed.is_empty() {
        return Err(Failure::new("deny.toml has no `allow = [` list of licences"));
    }
    let metadata: Value = serde_json::from_str(&read(cargo().args(["metadata", "--format-version", "1", "--locked"]))?)
        .map_err(|error| Failure::new(format!("cargo metadata gave no JSON: {error}")))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let refused: Vec<String> = packages.iter().filter_map(|package| refuse(package, &allowed)).collect();
    if !refused.is_empty() {
        return Err(Failure::new(refused.join("\n")));
    }
    eprintln!("{} packages: all licences allowed, all from crates.io", packages.len());
    Ok(())
}

/// The strings of the first `allow = [ … ]` list.
fn allowed(deny: &str) -> Vec<String> {
    let list = deny
        .split_once("\nallow = [")
        .map(|(_, rest)| rest)
        .and_then(|rest| rest.split_once(']'))
        .map(|(list, _)| list);
    let lines = list.unwrap_or_default().lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Why a package is refused.
fn refuse(package: &Value, allowed: &[String]) -> Option<String> {
    let name = format!("{} {}", package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
    // No source: a crate of this workspace.
    if let Some(source) = package["source"].as_str()
        && source != "registry+https://github.com/rust-lang/crates.io-index"
    {
        return Some(format!("{name} comes from {source}, not from crates.io"));
    }
    match package["license"].as_str() {
        None => Some(format!("{name} names no licence")),
        Some(expression) if permits(expression, allowed) => None,
        Some(expression) => Some(format!("{name}: licence `{expression}` is not on the list in deny.toml")),
    }
}

/// Evaluates an SPDX licence expression (SPDX specification, annex D: `WITH` binds tighter than `AND`, that tighter than `OR`;
/// the old `/` means `OR`).
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let permitted = any(&mut words, allowed);
    permitted && words.is_empty()
}

/// Words come from the end of the list.
fn any(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut permitted = all(words, allowed);
    while words.last() == Some(&"OR") {
        words.pop();
        permitted |= all(words, allowed);
    }
    permitted
}

fn all(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    let mut permitted = one(words, allowed);
    while words.last() == Some(&"AND") {
        words.pop();
        permitted &= one(words, allowed);
    }
    permitted
}

fn one(words: &mut Vec<&str>, allowed: &[String]) -> bool {
    match words.pop() {
        Some("(") => {
            let permitted = any(words, allowed);
            permitted && words.pop() == Some(")")
        }
        Some(name) => {
            let mut name = name.to_owned();
            if words.last() == Some(&"WITH") {
                words.pop();
                name = format!("{name} WITH {}", words.pop().unwrap_or_default());
            }
            allowed.contains(&name)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated() {
        let allowed: Vec<String> =
            ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
        let check = |expression: &str, want: bool| assert_eq!(permits(expression, &allowed), want, "{expression}");
        check("MIT", true);
        check("GPL-3.0", false);
        check("MIT OR GPL-3.0", true);
        check("MIT AND GPL-3.0", false);
        check("GPL-3.0 OR MIT AND Apache-2.0", true);
        check("(MIT OR GPL-3.0) AND Unicode-3.0", true);
        check("(GPL-3.0 OR LGPL-3.0) AND MIT", false);
        check("MIT/Apache-2.0", true);
        check("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true);
        check("GPL-2.0 WITH LLVM-exception", false);
        check("MIT OR", true);
        check("", false);
        check("MIT GPL-3.0", false);
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        let text = "[licenses]\nallow = [\n  \"MIT\", # \"not this\"\n  \"ISC\",\n]\nother = [\"X\"]\n";
        assert_eq!(allowed(text), ["MIT", "ISC"]);
    }

    #[test]
    fn other_sources_are_refused() {
        let package =
            |source: Value| serde_json::json!({"name": "p", "version": "1.0.0", "license": "MIT", "source": source});
        let allowed = ["MIT".to_owned()];
        assert_eq!(refuse(&package(Value::Null), &allowed), None);
        assert_eq!(refuse(&package("registry+https://github.com/rust-lang/crates.io-index".into()), &allowed), None);
        assert!(
            refuse(&package("git+https://example.com/p".into()), &allowed)
                .is_some_and(|why| why.contains("not from crates.io"))
        );
    }
}
