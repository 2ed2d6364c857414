//! Which lists are sets, from `providers schema -json`: a rendered plan does not tell.

use super::Effect;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Paths of sets by provider and resource type. A path has the names on the way, without indices: `ingress.cidr_blocks`; `*`
/// for the keys of a map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

#[derive(Debug, thiserror::Error)]
pub enum SetsError {
    #[error("this is not what `providers schema -json` prints: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the format version {0} of provider schemas is not known to this release")]
    Version(String),
}

/// Of a schema, only what is needed: that of a large provider takes a hundred megabytes, most of it descriptions.
#[derive(Deserialize)]
struct Schemas {
    format_version: String,
    #[serde(default)]
    provider_schemas: BTreeMap<String, Provider>,
}

#[derive(Deserialize)]
struct Provider {
    #[serde(default)]
    resource_schemas: BTreeMap<String, Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    block: Block,
}

#[derive(Deserialize, Default)]
struct Block {
    #[serde(default)]
    attributes: BTreeMap<String, Attribute>,
    #[serde(default)]
    block_types: BTreeMap<String, Nested>,
}

#[derive(Deserialize)]
struct Nested {
    #[serde(default)]
    nesting_mode: String,
    #[serde(default)]
    block: Block,
}

#[derive(Deserialize)]
struct Attribute {
    /// `"string"`, `["set", "string"]`, `["list", ["object", {"a": "string"}]]`.
    #[serde(default, rename = "type")]
    kind: Value,
    nested_type: Option<NestedType>,
}

#[derive(Deserialize)]
struct NestedType {
    #[serde(default)]
    nesting_mode: String,
    #[serde(default)]
    attributes: BTreeMap<String, Attribute>,
}

impl Sets {
    /// Reads what `terraform providers schema -json` prints.
    ///
    /// # Errors
    /// It is something else, or of a later format.
    pub fn from_schema(json: &[u8]) -> Result<Self, SetsError> {
        let schemas: Schemas = serde_json::from_slice(json)?;
        if !schemas.format_version.starts_with("1.") && !schemas.format_version.starts_with("0.") {
            return Err(SetsError::Version(schemas.format_version));
        }
        let mut out = BTreeMap::new();
        for (provider, schema) in schemas.provider_schemas {
            let mut types = BTreeMap::new();
            for (name, resource) in schema.resource_schemas {
                let mut found = BTreeSet::new();
                of_block(&resource.block, "", &mut found);
                if !found.is_empty() {
                    types.insert(name, found);
                }
            }
            out.insert(provider, types);
        }
        Ok(Self(out))
    }

    /// These and others; the others count where both know a provider.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Takes a provider of which nothing is known for one without sets.
    pub fn add(&mut self, provider: &str) {
        self.0.entry(provider.to_owned()).or_default();
    }

    /// The schema of the provider was read.
    pub fn knows(&self, provider: &str) -> bool {
        self.0.contains_key(provider)
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Notes the path where its items are of a set, and gives that of what is in it.
fn nested(mode: &str, path: String, out: &mut BTreeSet<String>) -> String {
    match mode {
        "set" => {
            out.insert(path.clone());
            path
        }
        "map" => below(&path, "*"),
        _ => path,
    }
}

fn of_block(block: &Block, path: &str, out: &mut BTreeSet<String>) {
    of_attributes(&block.attributes, path, out);
    for (name, inner) in &block.block_types {
        let path = nested(&inner.nesting_mode, below(path, name), out);
        of_block(&inner.block, &path, out);
    }
}

fn of_attributes(attributes: &BTreeMap<String, Attribute>, path: &str, out: &mut BTreeSet<String>) {
    for (name, attribute) in attributes {
        let path = below(path, name);
        match &attribute.nested_type {
            Some(inner) => {
                let path = nested(&inner.nesting_mode, path, out);
                of_attributes(&inner.attributes, &path, out);
            }
            None => of_type(&attribute.kind, path, out),
        }
    }
}

fn of_type(kind: &Value, path: String, out: &mut BTreeSet<String>) {
    match (kind.get(0).and_then(Value::as_str), kind.get(1)) {
        (Some("object"), Some(Value::Object(fields))) => {
            fields.iter().for_each(|(name, kind)| of_type(kind, below(&path, name), out));
        }
        (Some(mode), Some(inner)) => {
            let path = nested(mode, path, out);
            of_type(inner, path, out);
        }
        _ => {}
    }
}

impl Effect {
    /// Providers of changed resources in which lists differ: whether these are sets is what has to be known to show them well.
    pub fn providers_with_lists(&self) -> BTreeSet<&str> {
        let changes = self.changes.iter().chain(&self.drift);
        changes.filter(|change| !change.lists.is_empty()).map(|change| change.provider.as_str()).collect()
    }

    /// Notes which of the lists are sets. What is approved stays the same.
    pub fn mark_sets(&mut self, sets: &Sets) {
        for change in self.changes.iter_mut().chain(&mut self.drift) {
            let known = sets.0.get(&change.provider).and_then(|types| types.get(&change.resource_type));
            let Some(known) = known else { continue };
            for (path, list) in &mut change.lists {
                let names: Vec<&str> = path.split(['.', '[']).filter(|step| !step.ends_with(']')).collect();
                list.sets = known.iter().filter_map(|pattern| rest(pattern, &names)).collect();
            }
        }
    }
}

/// What of a pattern lies below a path of names.
fn rest(pattern: &str, names: &[&str]) -> Option<String> {
    let steps: Vec<&str> = pattern.split('.').collect();
    let (head, rest) = steps.split_at_checked(names.len())?;
    let fits = head.iter().zip(names).all(|(step, name)| *step == "*" || step == name);
    fits.then(|| rest.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"format_version": "1.0", "provider_schemas": {"p": {"resource_schemas": {"t": {"version": 0, "block": {
            "attributes": {
                "plain": {"type": "string"},
                "cidrs": {"type": ["set", "string"]},
                "deep": {"type": ["list", ["object", {"a": ["set", "number"], "b": "string"}]]},
                "by_name": {"type": ["map", ["set", "string"]]},
                "new_style": {"nested_type": {"nesting_mode": "map", "attributes": {"in": {"type": ["set", "string"]}}}}
            },
            "block_types": {
                "ingress": {"nesting_mode": "set", "block": {"attributes": {"blocks": {"type": ["set", "string"]}}}},
                "rule": {"nesting_mode": "list", "block": {"block_types": {"part": {"nesting_mode": "set", "block": {}}}}}
            }
        }}}}}})
    }

    #[test]
    fn sets_are_read_from_a_schema() {
        let sets = Sets::from_schema(schema().to_string().as_bytes()).unwrap();
        let found: Vec<&str> = sets.0["p"]["t"].iter().map(String::as_str).collect();
        assert_eq!(found, ["by_name.*", "cidrs", "deep.a", "ingress", "ingress.blocks", "new_style.*.in", "rule.part"]);
        assert!(sets.knows("p") && !sets.knows("q"));
        assert!(matches!(Sets::from_schema(b"{\"format_version\":\"2.0\"}"), Err(SetsError::Version(_))));
        assert!(matches!(Sets::from_schema(b"[]"), Err(SetsError::Json(_))));
    }

    #[test]
    fn lists_of_an_effect_are_marked() {
        let change = json!({"actions": ["update"],
            "before": {"ingress": [{"blocks": ["a"]}], "by_name": {"x": ["a"]}, "other": ["a"]},
            "after": {"ingress": [{"blocks": ["b"]}], "by_name": {"x": ["b"]}, "other": ["b"]}});
        let plan = json!({"format_version": "1.2",
            "resource_changes": [{"address": "t.x", "type": "t", "provider_name": "p", "change": change}]});
        let mut effect = Effect::from_plan_json("a".into(), &plan, b"k").unwrap();
        let digest = effect.digest();
        assert_eq!(effect.providers_with_lists(), BTreeSet::from(["p"]));
        effect.mark_sets(&Sets::from_schema(schema().to_string().as_bytes()).unwrap());
        let sets: Vec<(&str, &[String])> =
            effect.changes[0].lists.iter().map(|(path, list)| (path.as_str(), list.sets.as_slice())).collect();
        let (own, both) = ([String::new()], [String::new(), "blocks".to_owned()]);
        assert_eq!(sets, [("by_name.x", &own[..]), ("ingress", &both[..]), ("other", &[][..])]);
        assert_eq!(effect.digest(), digest);
    }
}
