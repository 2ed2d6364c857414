//! Who or what changed a resource, and when, where its provider tells: read from attributes whose names are used for that.

use crate::effect::masked_text;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The last change of a resource, in the words of its provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Names that say who, without regard to case, `_`, `-` and what stands before a `/` (as in `example.com/updated-by`); the
/// better ones first.
pub const BY: [&str; 12] = [
    "lastmodifiedby",
    "lastupdatedby",
    "lastchangedby",
    "lasteditedby",
    "lastmodifyinguser",
    "lastmodifieduser",
    "lastmodifiedbyuser",
    "modifiedby",
    "updatedby",
    "changedby",
    "editedby",
    "updateduser",
];

/// Names that say when.
pub const AT: [&str; 38] = [
    "lastmodifiedat",
    "lastmodifiedon",
    "lastmodifieddate",
    "lastmodifiedtime",
    "lastmodifiedtimestamp",
    "lastmodified",
    "lastupdatedat",
    "lastupdatedon",
    "lastupdateddate",
    "lastupdatedtime",
    "lastupdatedtimestamp",
    "lastupdated",
    "lastchangedat",
    "lastchangedon",
    "lastchangeddate",
    "lastchangedtime",
    "lastchangedtimestamp",
    "lastchanged",
    "lastupdatetime",
    "lastupdatetimestamp",
    "modifiedat",
    "modifiedon",
    "modifieddate",
    "modifiedtime",
    "modifiedtimestamp",
    "updatedat",
    "updatedon",
    "updateddate",
    "updatedtime",
    "updatedtimestamp",
    "changedat",
    "changedon",
    "changeddate",
    "changedtime",
    "changedtimestamp",
    "updatetime",
    "updatetimestamp",
    "timeupdated",
];

/// Attributes that are looked into: maps of tags and the like, and what clouds keep about a resource.
pub const INSIDE: [&str; 8] = [
    "tags",
    "tags_all",
    "labels",
    "effective_labels",
    "annotations",
    "effective_annotations",
    "metadata",
    "system_data",
];

/// By address, what the plan of `-refresh-only` tells about each resource that drifted. Nothing is told of a resource whose
/// names all have the value they had before: the change may be somebody else's.
pub fn touched(plan: &Value, secrets: &BTreeSet<String>) -> BTreeMap<String, Touched> {
    let drifted = plan.get("resource_drift").and_then(Value::as_array).into_iter().flatten();
    drifted
        .filter_map(|resource| {
            let change = resource.get("change")?;
            let (before, after) = (change.get("before")?, change.get("after")?);
            let mask = change.get("after_sensitive").unwrap_or(&Value::Null);
            let found = |names: &[&str]| names.iter().find_map(|name| text(after, mask, name, secrets));
            let (by, at) = (found(&BY), found(&AT));
            let known = |names: &[&str]| names.iter().find_map(|name| text(before, mask, name, secrets));
            let fresh = by != known(&BY) || at != known(&AT);
            let touched = Touched { by, at };
            let address = resource.get("address")?.as_str()?.to_owned();
            (fresh && touched != Touched::default()).then_some((address, touched))
        })
        .collect()
}

/// The text of the attribute of this name, at the top or inside one of [`INSIDE`]; none that is sensitive or empty.
fn text(value: &Value, mask: &Value, name: &str, secrets: &BTreeSet<String>) -> Option<String> {
    if *mask == Value::Bool(true) {
        return None;
    }
    let direct = value.as_object()?.iter().find_map(|(key, value)| {
        let text = value.as_str().filter(|text| !text.is_empty() && plain(key) == name)?;
        (mask.get(key) != Some(&Value::Bool(true))).then(|| masked_text(text, secrets))
    });
    direct.or_else(|| {
        INSIDE.iter().find_map(|inside| {
            let (mut value, mut mask) = (value.get(*inside)?, mask.get(*inside).unwrap_or(&Value::Null));
            // A block that may stand there once is a list of one.
            if let Some([only]) = value.as_array().map(Vec::as_slice) {
                (value, mask) = (only, mask.get(0).unwrap_or(mask));
            }
            // `metadata { annotations = {…} }` is the one that lies deeper, and there is nothing below that.
            text(value, mask, name, secrets)
        })
    })
}

fn plain(name: &str) -> String {
    let last = name.rsplit(['/', '.', ':']).next().unwrap_or(name);
    last.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_changed_it_is_told_where_the_provider_tells() {
        let check = |before: Value, after: Value, mask: Value, want: Option<(&str, &str)>| {
            let plan = json!({ "resource_drift": [
                { "address": "t.x", "change": { "before": before, "after": after, "after_sensitive": mask } }
            ] });
            let secrets = ["hunter22".to_owned()].into_iter().collect();
            let found = touched(&plan, &secrets);
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let found = found.get("t.x").map(|t| (text(&t.by), text(&t.at)));
            assert_eq!(found, want.map(|(by, at)| (by.to_owned(), at.to_owned())), "{plan}");
        };
        let none = || json!({});
        check(json!({"a": 1}), json!({"a": 2}), none(), None);
        check(json!({"updated_by": "tf"}), json!({"updated_by": "ann"}), none(), Some(("ann", "")));
        // The same person, at another time; and nobody who is known.
        check(
            json!({"updatedBy": "ann", "updateTime": "1"}),
            json!({"updatedBy": "ann", "updateTime": "2"}),
            none(),
            Some(("ann", "2")),
        );
        check(json!({"a": 1, "updated_by": "ann"}), json!({"a": 2, "updated_by": "ann"}), none(), None);
        // At the top before inside; the better name before the other one.
        check(
            none(),
            json!({"tags": {"ModifiedBy": "b"}, "modified_by": "a", "last_modified": "t"}),
            none(),
            Some(("a", "t")),
        );
        check(none(), json!({"tags": {"updated-by": "b", "Last Modified By": "c"}}), none(), Some(("c", "")));
        check(none(), json!({"metadata": [{"annotations": {"ops.example/updated-by": "d"}}]}), none(), Some(("d", "")));
        check(
            none(),
            json!({"system_data": [{"last_modified_by": "e", "last_modified_at": "t"}]}),
            none(),
            Some(("e", "t")),
        );
        // Neither what is masked nor what is secret elsewhere.
        check(none(), json!({"updated_by": "f"}), json!({"updated_by": true}), None);
        check(none(), json!({"tags": {"updated_by": "f"}}), json!({"tags": true}), None);
        check(none(), json!({"updated_by": "hunter22"}), none(), Some(("(sensitive)", "")));
        // It is gone, and with it who did it.
        check(json!({"updated_by": "g"}), Value::Null, Value::Bool(false), None);
        check(none(), json!({"updated_by": "", "created_by": "h"}), none(), None);
    }
}
