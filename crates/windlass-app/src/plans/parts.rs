//! A plan as text, read in parts: all its values at once take several times the memory of the text.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// How many changes are values at the same time.
const AT_ONCE: usize = 256;

/// The lists that are read in parts.
const LISTS: [&str; 2] = ["resource_changes", "resource_drift"];

/// A rendered plan without what tells nothing about its changes: the state it was made from, and all that will be.
pub(super) struct Parts<'a> {
    /// All but the lists.
    rest: Value,
    lists: [Vec<&'a RawValue>; LISTS.len()],
}

impl<'a> Parts<'a> {
    /// # Errors
    /// It is not an object of JSON, or a list is none.
    pub fn of(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// All but the lists of changes.
    pub fn rest(&self) -> &Value {
        &self.rest
    }

    /// Plans with some of the changes each, in their order: together with the rest they are the plan.
    ///
    /// # Errors
    /// Those of `of`.
    pub fn each(&self, mut of: impl FnMut(&Value) -> Result<(), String>) -> Result<(), String> {
        let version = self.rest.get("format_version").cloned().unwrap_or_default();
        for (name, list) in LISTS.into_iter().zip(&self.lists) {
            for some in list.chunks(AT_ONCE) {
                let values: serde_json::Result<Vec<Value>> =
                    some.iter().map(|raw| serde_json::from_str(raw.get())).collect();
                let values = values.map_err(|error| error.to_string())?;
                of(&serde_json::json!({ "format_version": version, name: values }))?;
            }
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Parts<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Parts<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a rendered plan")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Parts<'de>, A::Error> {
                let mut rest = serde_json::Map::new();
                let mut lists = [const { Vec::new() }; LISTS.len()];
                while let Some(name) = map.next_key::<String>()? {
                    if matches!(name.as_str(), "prior_state" | "planned_values") {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else if let Some(at) = LISTS.iter().position(|list| *list == name) {
                        lists[at] = map.next_value::<Option<Vec<&RawValue>>>()?.unwrap_or_default();
                    } else {
                        rest.insert(name, map.next_value()?);
                    }
                }
                Ok(Parts { rest: rest.into(), lists })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::Parts;
    use serde_json::json;
    use windlass_model::effect::Effect;

    /// A change of a password that is hidden in one resource, and stands in the plain of another.
    fn resource(n: usize) -> serde_json::Value {
        let hidden = n == 7;
        json!({
            "address": format!("terraform_data.x[{n}]"), "mode": "managed", "type": "terraform_data", "name": "x", "index": n,
            "provider_name": "terraform.io/builtin/terraform",
            "change": {
                "actions": ["update"],
                "before": { "input": "old" },
                "after": { "input": if hidden || n == 690 { "correct-horse-battery" } else { "new" } },
                "after_unknown": {}, "before_sensitive": {}, "after_sensitive": { "input": hidden }
            }
        })
    }

    #[test]
    fn the_parts_are_the_plan() {
        let resources: Vec<_> = (0..700).rev().map(resource).collect();
        let plan = json!({
            "format_version": "1.2", "prior_state": { "values": {} }, "resource_changes": resources,
            "resource_drift": [resource(3), resource(2)],
            "output_changes": { "o": { "actions": ["create"], "before": null, "after": 1, "after_unknown": false } }
        });
        let whole = Effect::from_plan_json("a".into(), &plan, b"key").unwrap();
        let read = super::super::changes(&plan.to_string(), &"a".into(), b"key").unwrap();
        assert_eq!(read.effect, whole);
        assert_eq!((whole.changes.len(), whole.drift.len(), whole.outputs.len()), (700, 2, 1));
        let shown = serde_json::to_string(&whole).unwrap();
        assert!(!shown.contains("correct-horse"), "what is hidden in one part is hidden in all");
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in ["[]", "{", r#"{"resource_changes": 1}"#, r#"{"resource_changes": [{"a": tru}]}"#] {
            assert!(Parts::of(text).is_err(), "{text}");
        }
        let nothing = Parts::of(r#"{"resource_changes": null, "resource_drift": []}"#).unwrap();
        nothing.each(|_| Err("there is nothing".into())).unwrap();
    }
}
