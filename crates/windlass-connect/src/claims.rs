//! What a token says, and what the settings ask of it.

use crate::error::plain;
use globset::{GlobBuilder, GlobMatcher};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The claims of a token whose signature was checked.
pub(crate) type Claims = Map<String, Value>;

/// Claims that have to be there, each with the patterns of which one has to match.
#[derive(Debug, Default)]
pub(crate) struct Required(Vec<(String, Vec<GlobMatcher>)>);

impl Required {
    /// In patterns `*` stands for anything but `/`, and `**` as a whole path component for anything.
    ///
    /// # Errors
    /// A pattern that is none, or a claim without patterns.
    pub(crate) fn new(declared: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut required = Vec::new();
        for (claim, patterns) in declared {
            if patterns.is_empty() {
                return Err(format!("`claims`: `{claim}` has no pattern, so that nothing could match"));
            }
            let compile = |pattern: &String| {
                let glob = GlobBuilder::new(pattern).literal_separator(true).build();
                let glob = glob.map_err(|error| format!("`claims`: `{claim}`: {error}"))?;
                Ok(glob.compile_matcher())
            };
            required.push((claim.clone(), patterns.iter().map(compile).collect::<Result<_, String>>()?));
        }
        Ok(Self(required))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(claim, _)| claim.as_str())
    }

    /// Whether all of them are there and match; a list matches when one of its members does.
    ///
    /// # Errors
    /// The first that does not.
    pub(crate) fn check(&self, claims: &Claims) -> Result<(), String> {
        for (claim, patterns) in &self.0 {
            let found = texts(claims, claim);
            if found.iter().any(|value| patterns.iter().any(|pattern| pattern.is_match(value))) {
                continue;
            }
            let asked: Vec<_> = patterns.iter().map(|pattern| format!("`{}`", pattern.glob().glob())).collect();
            let asked = asked.join(" or ");
            return Err(if found.is_empty() {
                format!("there is no claim `{claim}`, which has to match {asked}")
            } else {
                format!("claim `{claim}` is `{}`, which does not match {asked}", plain(&found.join("`, `")))
            });
        }
        Ok(())
    }
}

/// The value of a claim as texts: one, those of a list, or none.
pub(crate) fn texts(claims: &Claims, claim: &str) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    match claims.get(claim) {
        Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
        Some(value) => text(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A claim that is one text.
pub(crate) fn text(claims: &Claims, claim: &str) -> Option<String> {
    claims.get(claim)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_claim_has_to_match_one_of_its_patterns() {
        let check = |declared: Value, claims: Value, want: &str| {
            let required = Required::new(&serde_json::from_value(declared).unwrap()).unwrap();
            let found = required.check(claims.as_object().unwrap()).err().unwrap_or_default();
            assert_eq!(found, want);
        };
        check(json!({}), json!({}), "");
        check(json!({"sub": ["a", "b"]}), json!({"sub": "b"}), "");
        check(json!({"sub": ["a"]}), json!({}), "there is no claim `sub`, which has to match `a`");
        check(json!({"sub": ["**"]}), json!({"sub": ""}), "there is no claim `sub`, which has to match `**`");
        check(json!({"sub": ["**"]}), json!({"sub": {}}), "there is no claim `sub`, which has to match `**`");
        let main = json!({"repository": ["org/*"], "ref": ["refs/heads/main", "refs/tags/v*"]});
        check(main.clone(), json!({"repository": "org/infra", "ref": "refs/tags/v1"}), "");
        check(
            main.clone(),
            json!({"repository": "org/infra", "ref": "refs/heads/main2"}),
            "claim `ref` is `refs/heads/main2`, which does not match `refs/heads/main` or `refs/tags/v*`",
        );
        check(
            main,
            json!({"repository": "organic/infra", "ref": "refs/heads/main"}),
            "claim `repository` is `organic/infra`, which does not match `org/*`",
        );
        check(
            json!({"ref": ["refs/heads/*"]}),
            json!({"ref": "refs/heads/a/b"}),
            "claim `ref` is `refs/heads/a/b`, which does not match `refs/heads/*`",
        );
        check(json!({"ref": ["refs/heads/**"]}), json!({"ref": "refs/heads/a/b"}), "");
        check(json!({"groups": ["sre"]}), json!({"groups": ["dev", "sre"]}), "");
        check(json!({"ref_protected": ["true"], "id": ["17"]}), json!({"ref_protected": true, "id": 17}), "");
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        let check = |declared: Value, want: &str| {
            let found = Required::new(&serde_json::from_value(declared).unwrap()).unwrap_err();
            assert!(found.contains(want), "{found}");
        };
        check(json!({"sub": []}), "`sub` has no pattern");
        check(json!({"sub": ["a[b"]}), "`sub`: error parsing glob");
    }
}
