//! From `terraform show -json` of a plan to an [`Effect`].

use super::{Action, AttributeChange, CheckResult, Effect, OutputAction, OutputChange, ResourceChange, Shown};
use crate::id::InstanceId;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EffectError {
    #[error("this is no plan rendered by `show -json`: `{0}` is missing")]
    NotAPlan(&'static str),
    #[error("the plan's format version {0} is not known to this release")]
    Version(String),
    #[error("{address} has the actions {actions}, which are not known to this release")]
    Actions { address: String, actions: String },
}

/// Secrets shorter than this are not searched for in other values: too much would match by chance.
const SHORTEST_SECRET: usize = 6;

/// What an output will be. Holds real values: never stored or shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedOutput {
    pub value: Value,
    /// What the state has now.
    pub before: Value,
    /// `true` where it is known after apply only, nested like the value.
    pub unknown: Value,
    pub sensitive: bool,
    /// It will differ from what the state has now.
    pub changed: bool,
}

impl Effect {
    /// Reads a plan. `key` keys the digests of sensitive values.
    ///
    /// # Errors
    /// It is not a plan, or one of a later format.
    pub fn from_plan_json(instance: InstanceId, plan: &Value, key: &[u8]) -> Result<Self, EffectError> {
        Self::from_plan(instance, plan, key, &secrets(plan, |_, _| false))
    }

    /// As [`Effect::from_plan_json`], with the texts that must not be shown ([`secrets`]).
    ///
    /// # Errors
    /// It is not a plan, or one of a later format.
    pub fn from_plan(
        instance: InstanceId,
        plan: &Value,
        key: &[u8],
        secrets: &BTreeSet<String>,
    ) -> Result<Self, EffectError> {
        let version =
            plan.get("format_version").and_then(Value::as_str).ok_or(EffectError::NotAPlan("format_version"))?;
        if !version.starts_with("1.") && !version.starts_with("0.") {
            return Err(EffectError::Version(version.to_owned()));
        }
        let masker = Masker { key, secrets };
        let mut changes = Vec::new();
        for resource in array(plan.get("resource_changes")) {
            changes.extend(resource_change(resource, &masker)?);
        }
        changes.sort_by(|a, b| a.address.cmp(&b.address));
        let mut outputs = BTreeMap::new();
        for (name, change) in object(plan.get("output_changes")) {
            if let Some(change) = output_change(change, &masker) {
                outputs.insert(name.clone(), change);
            }
        }
        let mut checks = BTreeMap::new();
        for check in array(plan.get("checks")) {
            let status = text(check, "status");
            if status != "pass" && !status.is_empty() {
                let address = check.get("address").map(|a| text(a, "to_display")).unwrap_or_default();
                let problems = array(check.get("instances"))
                    .flat_map(|i| array(i.get("problems")))
                    .map(|p| masker.masked_text(&text(p, "message")))
                    .collect();
                // Unknown without a problem only means "after apply".
                if status != "unknown" {
                    checks.insert(address, CheckResult { status, problems });
                }
            }
        }
        Ok(Self { instance, changes, outputs, checks })
    }
}

/// What each output of the plan will be.
pub fn planned_outputs(plan: &Value) -> BTreeMap<String, PlannedOutput> {
    let planned = plan.pointer("/planned_values/outputs");
    object(plan.get("output_changes"))
        .filter(|(_, change)| !has_actions(change, &["delete"]))
        .map(|(name, change)| {
            let value = change
                .get("after")
                .filter(|v| !v.is_null())
                .or_else(|| planned.and_then(|p| p.get(name)).and_then(|o| o.get("value")));
            let output = PlannedOutput {
                value: value.cloned().unwrap_or(Value::Null),
                before: change.get("before").cloned().unwrap_or(Value::Null),
                unknown: change.get("after_unknown").cloned().unwrap_or(Value::Bool(false)),
                sensitive: any_true(change.get("after_sensitive")),
                changed: !has_actions(change, &["no-op"]),
            };
            (name.clone(), output)
        })
        .collect()
}

fn resource_change(resource: &Value, masker: &Masker<'_>) -> Result<Option<ResourceChange>, EffectError> {
    let mut address = text(resource, "address");
    if let Some(deposed) = resource.get("deposed").and_then(Value::as_str) {
        address = format!("{address} (deposed {deposed})");
    }
    let change = resource.get("change").ok_or(EffectError::NotAPlan("change"))?;
    let actions: Vec<&str> = array(change.get("actions")).filter_map(Value::as_str).collect();
    let previous_address = resource.get("previous_address").and_then(Value::as_str).map(str::to_owned);
    let import_id = change
        .get("importing")
        .map(|i| i.get("id").and_then(Value::as_str).unwrap_or("(known after apply)").to_owned());
    let action = match actions.as_slice() {
        ["no-op"] if import_id.is_some() => Action::Import,
        ["no-op"] if previous_address.is_some() => Action::Move,
        ["no-op"] | ["read"] | ["open"] | ["close"] | [] => return Ok(None),
        ["create"] => Action::Create,
        ["update"] => Action::Update,
        ["delete"] => Action::Destroy,
        ["delete", "create"] => Action::Replace,
        ["create", "delete"] => Action::ReplaceCreateFirst,
        ["forget"] => Action::Forget,
        // Forgotten, and made anew in its place.
        ["create", "forget"] | ["forget", "create"] => Action::Create,
        other => return Err(EffectError::Actions { address, actions: other.join(", ") }),
    };
    let replace_paths: Vec<String> =
        array(change.get("replace_paths")).map(|path| path_text(array(Some(path)))).collect();
    let mut attributes = BTreeMap::new();
    if !matches!(action, Action::Move | Action::Import | Action::Forget | Action::Destroy) {
        let side = |value: &str, mask: &str| {
            (change.get(value).cloned().unwrap_or(Value::Null), change.get(mask).cloned().unwrap_or(Value::Bool(false)))
        };
        let (before, before_mask) = side("before", "before_sensitive");
        let (after, after_mask) = side("after", "after_sensitive");
        let unknown = change.get("after_unknown").cloned().unwrap_or(Value::Bool(false));
        let mut differ = Differ { masker, out: &mut attributes };
        differ.compare(
            "",
            Side { value: Some(&before), mask: &before_mask, unknown: &Value::Bool(false) },
            Side { value: Some(&after), mask: &after_mask, unknown: &unknown },
        );
    }
    Ok(Some(ResourceChange {
        address,
        previous_address,
        resource_type: text(resource, "type"),
        provider: text(resource, "provider_name"),
        action,
        attributes,
        replace_paths,
        reason: resource.get("action_reason").and_then(Value::as_str).map(str::to_owned),
        import_id,
    }))
}

fn output_change(change: &Value, masker: &Masker<'_>) -> Option<OutputChange> {
    let action = match array(change.get("actions")).filter_map(Value::as_str).collect::<Vec<_>>().as_slice() {
        ["create"] => OutputAction::Create,
        ["delete"] => OutputAction::Delete,
        ["no-op"] | [] => return None,
        _ => OutputAction::Update,
    };
    let no = Value::Bool(false);
    let show = |value: &str, mask: &str, unknown: &Value| {
        let side = Side { value: change.get(value), mask: change.get(mask).unwrap_or(&no), unknown };
        masker.show(&side)
    };
    let unknown = change.get("after_unknown").unwrap_or(&no);
    let absent =
        |value: Shown, missing: bool| if missing && value == Shown::Value(Value::Null) { Shown::Absent } else { value };
    Some(OutputChange {
        action,
        before: absent(show("before", "before_sensitive", &no), action == OutputAction::Create),
        after: absent(show("after", "after_sensitive", unknown), action == OutputAction::Delete),
    })
}

#[derive(Clone, Copy)]
struct Side<'a> {
    value: Option<&'a Value>,
    mask: &'a Value,
    unknown: &'a Value,
}

const NO: Value = Value::Bool(false);
static FALSE: Value = NO;

impl<'a> Side<'a> {
    /// A masked or unknown parent covers all its children.
    fn child(&self, key: &Key<'_>) -> Side<'a> {
        let of = |mask: &'a Value| match (mask, key) {
            (Value::Bool(true), _) => mask,
            (Value::Object(object), Key::Name(name)) => object.get(*name).unwrap_or(&FALSE),
            (Value::Array(items), Key::Index(index)) => items.get(*index).unwrap_or(&FALSE),
            _ => &FALSE,
        };
        let value = match (self.value, key) {
            (Some(Value::Object(object)), Key::Name(name)) => object.get(*name),
            (Some(Value::Array(items)), Key::Index(index)) => items.get(*index),
            _ => None,
        };
        Side { value, mask: of(self.mask), unknown: of(self.unknown) }
    }
    fn is_masked(&self) -> bool {
        *self.mask == Value::Bool(true)
    }
    fn is_unknown(&self) -> bool {
        *self.unknown == Value::Bool(true)
    }
}

enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

struct Differ<'a, 'b> {
    masker: &'a Masker<'a>,
    out: &'b mut BTreeMap<String, AttributeChange>,
}

impl Differ<'_, '_> {
    fn compare(&mut self, path: &str, before: Side<'_>, after: Side<'_>) {
        let leaf = before.is_masked() || after.is_masked() || after.is_unknown();
        let names = |side: &Side<'_>| match side.value {
            Some(Value::Object(object)) => object.keys().cloned().collect::<BTreeSet<_>>(),
            _ => BTreeSet::new(),
        };
        let is_object = |side: &Side<'_>| matches!(side.value, Some(Value::Object(_)));
        let is_array = |side: &Side<'_>| matches!(side.value, Some(Value::Array(_)));
        let nothing = |side: &Side<'_>| matches!(side.value, None | Some(Value::Null));
        // Unknown attributes are missing from `after` and stand in its mask only.
        let unknown_names = match after.unknown {
            Value::Object(object) => {
                object.iter().filter(|(_, v)| any_true(Some(v))).map(|(k, _)| k.clone()).collect::<BTreeSet<_>>()
            }
            _ => BTreeSet::new(),
        };
        if !leaf
            && (is_object(&before) || nothing(&before))
            && (is_object(&after) || nothing(&after))
            && (is_object(&before) || is_object(&after) || path.is_empty())
        {
            for name in names(&before).into_iter().chain(names(&after)).chain(unknown_names).collect::<BTreeSet<_>>() {
                let key = Key::Name(&name);
                let child = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                self.compare(&child, before.child(&key), after.child(&key));
            }
            return;
        }
        if !leaf && is_array(&before) && is_array(&after) {
            let length = |side: &Side<'_>| side.value.and_then(Value::as_array).map_or(0, Vec::len);
            for index in 0..length(&before).max(length(&after)) {
                let key = Key::Index(index);
                self.compare(&format!("{path}[{index}]"), before.child(&key), after.child(&key));
            }
            return;
        }
        let (shown_before, shown_after) = (self.masker.show(&before), self.masker.show(&after));
        let normal = |shown: Shown| if shown == Shown::Value(Value::Null) { Shown::Absent } else { shown };
        let (shown_before, shown_after) = (normal(shown_before), normal(shown_after));
        if shown_before != shown_after {
            self.out.insert(path.to_owned(), AttributeChange { before: shown_before, after: shown_after });
        }
    }
}

struct Masker<'a> {
    key: &'a [u8],
    /// Texts that are sensitive somewhere in the plan.
    secrets: &'a BTreeSet<String>,
}

impl Masker<'_> {
    fn show(&self, side: &Side<'_>) -> Shown {
        if side.is_unknown() || (side.value.is_none_or(Value::is_null) && any_true(Some(side.unknown))) {
            return Shown::Unknown;
        }
        let Some(value) = side.value else { return Shown::Absent };
        if value.is_null() {
            return Shown::Value(Value::Null);
        }
        if side.is_masked() || any_true(Some(side.mask)) || self.holds_secret(value) {
            return Shown::Sensitive(self.digest(value));
        }
        if any_true(Some(side.unknown)) {
            return Shown::Value(with_unknown(value, side.unknown));
        }
        Shown::Value(value.clone())
    }

    fn holds_secret(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.secrets.iter().any(|secret| text.contains(secret.as_str())),
            Value::Array(items) => items.iter().any(|v| self.holds_secret(v)),
            Value::Object(object) => object.values().any(|v| self.holds_secret(v)),
            _ => false,
        }
    }

    fn masked_text(&self, text: &str) -> String {
        masked_text(text, self.secrets)
    }

    fn digest(&self, value: &Value) -> String {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key) else { return String::new() };
        mac.update(super::sorted(value.clone()).to_string().as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The value with its unknown parts named.
fn with_unknown(value: &Value, unknown: &Value) -> Value {
    match (value, unknown) {
        (_, Value::Bool(true)) => Value::String("(known after apply)".into()),
        (Value::Object(object), Value::Object(mask)) => {
            let mut out = object.clone();
            for (name, mask) in mask {
                if any_true(Some(mask)) {
                    let inner = with_unknown(object.get(name).unwrap_or(&Value::Null), mask);
                    out.insert(name.clone(), inner);
                }
            }
            Value::Object(out)
        }
        (Value::Array(items), Value::Array(mask)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| mask.get(index).map_or_else(|| item.clone(), |m| with_unknown(item, m)))
            .collect(),
        (value, _) => value.clone(),
    }
}

/// The texts of an output that must not be shown: none unless it is sensitive.
pub fn secrets_of_output(output: &PlannedOutput) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for value in [&output.value, &output.before] {
        masked_texts(value, &Value::Bool(output.sensitive), &mut out);
    }
    out
}

/// All texts in the values of a plan's changes that are long enough to be secrets.
pub fn texts(plan: &Value) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let changes = array(plan.get("resource_changes")).filter_map(|r| r.get("change"));
    for change in changes.chain(object(plan.get("output_changes")).map(|(_, c)| c)) {
        for value in [change.get("before"), change.get("after")].into_iter().flatten() {
            masked_texts(value, &Value::Bool(true), &mut out);
        }
    }
    out
}

/// A text without the secrets in it.
pub fn masked_text(text: &str, secrets: &BTreeSet<String>) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "(sensitive)"))
}

/// Every sensitive text of the plan: masked attributes and outputs, sensitive variables, and outputs of other stacks that
/// `upstream` (name of the data source, name of the output) says are sensitive: terraform forgets that when it reads them.
pub fn secrets(plan: &Value, upstream: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for output in crate::binding::remote_outputs(plan).filter(|output| upstream(output.data, output.name)) {
        masked_texts(output.value, &Value::Bool(true), &mut out);
    }
    let mut add = |value: Option<&Value>, mask: Option<&Value>| {
        if let (Some(value), Some(mask)) = (value, mask) {
            masked_texts(value, mask, &mut out);
        }
    };
    let resources =
        array(plan.get("resource_changes")).chain(array(plan.get("resource_drift"))).filter_map(|r| r.get("change"));
    for change in resources.chain(object(plan.get("output_changes")).map(|(_, c)| c)) {
        add(change.get("before"), change.get("before_sensitive"));
        add(change.get("after"), change.get("after_sensitive"));
    }
    for (name, variable) in object(plan.pointer("/configuration/root_module/variables")) {
        if variable.get("sensitive") == Some(&Value::Bool(true)) {
            add(
                plan.pointer("/variables").and_then(|v| v.get(name)).and_then(|v| v.get("value")),
                Some(&Value::Bool(true)),
            );
        }
    }
    out
}

fn masked_texts(value: &Value, mask: &Value, out: &mut BTreeSet<String>) {
    match (value, mask) {
        (Value::String(text), Value::Bool(true)) if text.len() >= SHORTEST_SECRET => drop(out.insert(text.clone())),
        (Value::Object(object), Value::Bool(true)) => object.values().for_each(|v| masked_texts(v, mask, out)),
        (Value::Array(items), Value::Bool(true)) => items.iter().for_each(|v| masked_texts(v, mask, out)),
        (Value::Object(object), Value::Object(masks)) => {
            masks
                .iter()
                .filter_map(|(name, mask)| Some((object.get(name)?, mask)))
                .for_each(|(v, m)| masked_texts(v, m, out));
        }
        (Value::Array(items), Value::Array(masks)) => {
            items.iter().zip(masks).for_each(|(v, m)| masked_texts(v, m, out))
        }
        _ => {}
    }
}

fn any_true(mask: Option<&Value>) -> bool {
    match mask {
        Some(Value::Bool(value)) => *value,
        Some(Value::Array(items)) => items.iter().any(|m| any_true(Some(m))),
        Some(Value::Object(object)) => object.values().any(|m| any_true(Some(m))),
        _ => false,
    }
}

fn has_actions(change: &Value, wanted: &[&str]) -> bool {
    array(change.get("actions")).filter_map(Value::as_str).eq(wanted.iter().copied())
}

fn array(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn object(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn path_text<'a>(steps: impl Iterator<Item = &'a Value>) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Value::String(name) if out.is_empty() => out.push_str(name),
            Value::String(name) => out.push_str(&format!(".{name}")),
            other => out.push_str(&format!("[{other}]")),
        }
    }
    out
}
