//! From `terraform show -json` of a plan to an [`Effect`].

use super::{
    Action, AttributeChange, CheckResult, Effect, OutputAction, OutputChange, ResourceChange, Shown, UNKNOWN,
    WholeList, same_number,
};
use crate::binding::keyed_digest;
use crate::id::InstanceId;
use crate::mask::{Mask, mark, mark_of};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

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
        Reader::new(key, secrets).effect(instance, plan)
    }

    /// Takes in what another part of the same plan says.
    pub fn add(&mut self, part: Self) {
        for (all, more) in [(&mut self.changes, part.changes), (&mut self.drift, part.drift)] {
            all.extend(more);
            all.sort_by(|a, b| a.address.cmp(&b.address));
        }
        self.outputs.extend(part.outputs);
        self.checks.extend(part.checks);
    }
}

/// Reads plans, or the parts of one, whose secrets are known.
pub struct Reader<'a> {
    key: &'a [u8],
    /// Texts that are sensitive somewhere in the plan.
    mask: Mask,
}

impl<'a> Reader<'a> {
    /// `key` keys the digests of sensitive values; the texts of `secrets` are not shown.
    pub fn new(key: &'a [u8], secrets: &BTreeSet<String>) -> Self {
        Self { key, mask: Mask::new(secrets.iter().map(String::as_str)) }
    }

    /// What a plan, or a part of one that says its format, would do.
    ///
    /// # Errors
    /// It is not a plan, or one of a later format.
    pub fn effect(&self, instance: InstanceId, plan: &Value) -> Result<Effect, EffectError> {
        let version =
            plan.get("format_version").and_then(Value::as_str).ok_or(EffectError::NotAPlan("format_version"))?;
        if !version.starts_with("1.") && !version.starts_with("0.") {
            return Err(EffectError::Version(version.to_owned()));
        }
        let mut changes = Vec::new();
        for resource in array(plan.get("resource_changes")) {
            changes.extend(resource_change(resource, self)?);
        }
        changes.sort_by(|a, b| a.address.cmp(&b.address));
        let mut drift = Vec::new();
        for resource in array(plan.get("resource_drift")) {
            drift.extend(resource_change(resource, self)?.filter(|change| match change.action {
                Action::Update => !change.attributes.is_empty(),
                Action::Destroy => true,
                // What the state calls otherwise now is not of the world.
                _ => false,
            }));
        }
        drift.sort_by(|a, b| a.address.cmp(&b.address));
        let mut outputs = BTreeMap::new();
        for (name, change) in object(plan.get("output_changes")) {
            if let Some(change) = output_change(change, self) {
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
                    .map(|p| self.mask.text(&text(p, "message")))
                    .collect();
                // Unknown without a problem only means "after apply".
                if status != "unknown" {
                    checks.insert(address, CheckResult { status, problems });
                }
            }
        }
        Ok(Effect { instance, changes, outputs, checks, drift })
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

fn resource_change(resource: &Value, reader: &Reader<'_>) -> Result<Option<ResourceChange>, EffectError> {
    let mut address = text(resource, "address");
    if let Some(deposed) = resource.get("deposed").and_then(Value::as_str) {
        address = format!("{address} (deposed {deposed})");
    }
    let change = resource.get("change").ok_or(EffectError::NotAPlan("change"))?;
    let actions: Vec<&str> = array(change.get("actions")).filter_map(Value::as_str).collect();
    let previous_address = resource.get("previous_address").and_then(Value::as_str).map(str::to_owned);
    let import_id =
        change.get("importing").map(|i| reader.mask.text(i.get("id").and_then(Value::as_str).unwrap_or(UNKNOWN)));
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
        array(change.get("replace_paths")).map(|path| path_text(array(Some(path)), &reader.mask)).collect();
    let mut differ = Differ { reader, path: Vec::new(), in_list: false, out: BTreeMap::new(), lists: BTreeMap::new() };
    if !matches!(action, Action::Move | Action::Import | Action::Forget | Action::Destroy) {
        let (before, after) = sides(change);
        differ.compare(before, after);
    }
    Ok(Some(ResourceChange {
        address,
        previous_address,
        resource_type: text(resource, "type"),
        provider: text(resource, "provider_name"),
        action,
        attributes: differ.out,
        lists: differ.lists,
        replace_paths,
        reason: resource.get("action_reason").and_then(Value::as_str).map(str::to_owned),
        import_id,
    }))
}

fn output_change(change: &Value, reader: &Reader<'_>) -> Option<OutputChange> {
    let action = match array(change.get("actions")).filter_map(Value::as_str).collect::<Vec<_>>().as_slice() {
        ["create"] => OutputAction::Create,
        ["delete"] => OutputAction::Delete,
        ["no-op"] | [] => return None,
        _ => OutputAction::Update,
    };
    let (before, after) = sides(change);
    let absent =
        |value: Shown, missing: bool| if missing && value == Shown::Value(Value::Null) { Shown::Absent } else { value };
    Some(OutputChange {
        action,
        before: absent(reader.show(before), action == OutputAction::Create),
        after: absent(reader.show(after), action == OutputAction::Delete),
    })
}

/// One side of a change, or of a part of it. The masks are nested like the value.
#[derive(Clone, Copy)]
struct Side<'a> {
    value: Option<&'a Value>,
    mask: &'a Value,
    /// Of the other side: what is sensitive there was so here, or will be.
    other: &'a Value,
    unknown: &'a Value,
}

fn sides(change: &Value) -> (Side<'_>, Side<'_>) {
    let get = |name: &str| change.get(name).unwrap_or(&FALSE);
    let (old, new) = (get("before_sensitive"), get("after_sensitive"));
    (
        Side { value: change.get("before"), mask: old, other: new, unknown: &FALSE },
        Side { value: change.get("after"), mask: new, other: old, unknown: get("after_unknown") },
    )
}

static FALSE: Value = Value::Bool(false);

impl<'a> Side<'a> {
    /// A masked or unknown parent covers all its children.
    fn child(self, step: Step<'_>) -> Side<'a> {
        let of = |mask: &'a Value| match (mask, step) {
            (Value::Bool(true), _) => mask,
            (Value::Object(object), Step::Name(name)) => object.get(name).unwrap_or(&FALSE),
            (Value::Array(items), Step::Index(index)) => items.get(index).unwrap_or(&FALSE),
            _ => &FALSE,
        };
        let value = match (self.value, step) {
            (Some(Value::Object(object)), Step::Name(name)) => object.get(name),
            (Some(Value::Array(items)), Step::Index(index)) => items.get(index),
            _ => None,
        };
        Side { value, mask: of(self.mask), other: of(self.other), unknown: of(self.unknown) }
    }
    fn is_masked(self) -> bool {
        *self.mask == Value::Bool(true) || *self.other == Value::Bool(true)
    }
    fn is_unknown(self) -> bool {
        *self.unknown == Value::Bool(true)
    }
    fn is_nothing(self) -> bool {
        self.value.is_none_or(Value::is_null)
    }
    fn is_object(self) -> bool {
        matches!(self.value, Some(Value::Object(_)))
    }
    fn items(self) -> Option<&'a Vec<Value>> {
        self.value.and_then(Value::as_array)
    }
    /// Names below it; unknown ones are missing from the value and stand in the mask only.
    fn names(self) -> impl Iterator<Item = &'a str> {
        let unknown = object(Some(self.unknown)).filter(|(_, mask)| any_true(Some(mask)));
        object(self.value).chain(unknown).map(|(name, _)| name.as_str())
    }
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

struct Differ<'a> {
    reader: &'a Reader<'a>,
    path: Vec<Step<'a>>,
    in_list: bool,
    out: BTreeMap<String, AttributeChange>,
    lists: BTreeMap<String, WholeList>,
}

impl<'a> Differ<'a> {
    fn compare(&mut self, before: Side<'a>, after: Side<'a>) {
        let leaf = before.is_masked() || after.is_masked() || after.is_unknown();
        if !leaf
            && (before.is_object() || before.is_nothing())
            && (after.is_object() || after.is_nothing())
            && (before.is_object() || after.is_object() || self.path.is_empty())
        {
            for name in before.names().chain(after.names()).collect::<BTreeSet<_>>() {
                self.descend(Step::Name(name), before, after);
            }
            return;
        }
        if let (false, Some(old), Some(new)) = (leaf, before.items(), after.items()) {
            if old == new && before.mask == after.mask && !any_true(Some(after.unknown)) {
                return;
            }
            let (outermost, known) = (!std::mem::replace(&mut self.in_list, true), self.out.len());
            for index in 0..old.len().max(new.len()) {
                self.descend(Step::Index(index), before, after);
            }
            if outermost {
                self.in_list = false;
                if self.out.len() > known && [before, after].iter().all(|side| is_small(side.value)) {
                    let whole = |side: Side<'_>| self.reader.masked(side.value.unwrap_or(&Value::Null), side);
                    let list = WholeList { before: whole(before), after: whole(after), sets: Vec::new() };
                    self.lists.insert(self.path_text(), list);
                }
            }
            return;
        }
        if before.value == after.value && before.mask == after.mask && !any_true(Some(after.unknown)) {
            return;
        }
        if let (false, Some(Value::Number(old)), Some(Value::Number(new))) = (leaf, before.value, after.value)
            && same_number(old, new)
        {
            return;
        }
        let normal = |shown: Shown| if shown == Shown::Value(Value::Null) { Shown::Absent } else { shown };
        let (before, after) = (normal(self.reader.show(before)), normal(self.reader.show(after)));
        if before != after {
            self.out.insert(self.path_text(), AttributeChange { before, after });
        }
    }

    fn descend(&mut self, step: Step<'a>, before: Side<'a>, after: Side<'a>) {
        self.path.push(step);
        self.compare(before.child(step), after.child(step));
        self.path.pop();
    }

    fn path_text(&self) -> String {
        let mut out = String::new();
        self.path.iter().for_each(|step| add_step(&mut out, *step, &self.reader.mask));
        out
    }
}

fn add_step(path: &mut String, step: Step<'_>, mask: &Mask) {
    // Writing to a text cannot fail.
    let _ = match step {
        Step::Name(name) => write!(path, "{}{}", if path.is_empty() { "" } else { "." }, mask.text(name)),
        Step::Index(index) => write!(path, "[{index}]"),
    };
}

impl Reader<'_> {
    fn show(&self, side: Side<'_>) -> Shown {
        if side.is_unknown() || (side.is_nothing() && any_true(Some(side.unknown))) {
            return Shown::Unknown;
        }
        let Some(value) = side.value else { return Shown::Absent };
        if side.is_masked() && !value.is_null() {
            return Shown::Sensitive(self.digest(value));
        }
        match self.masked(value, side) {
            Value::String(text) if value.is_string() && mark_of(&text).is_some() => {
                Shown::Sensitive(self.digest(value))
            }
            shown => Shown::Value(shown),
        }
    }

    /// The value with marks where it is sensitive, and its unknown parts named.
    fn masked(&self, value: &Value, side: Side<'_>) -> Value {
        let side = Side { value: Some(value), ..side };
        if side.is_unknown() {
            return UNKNOWN.into();
        }
        match value {
            Value::Null => Value::Null,
            value if side.is_masked() => mark(&self.digest(value)).into(),
            Value::String(text) => self.mask.marked(text, self.key).map_or_else(|| value.clone(), Value::String),
            Value::Object(_) => {
                let mut out = Map::new();
                for name in side.names() {
                    let child = side.child(Step::Name(name));
                    out.insert(self.mask.text(name), self.masked(child.value.unwrap_or(&Value::Null), child));
                }
                Value::Object(out)
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.masked(item, side.child(Step::Index(index))))
                .collect(),
            other => other.clone(),
        }
    }

    fn digest(&self, value: &Value) -> String {
        keyed_digest(self.key, super::canonical::text(value).as_bytes())
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
    let resources = array(plan.get("resource_changes")).chain(array(plan.get("resource_drift")));
    let changes = resources.filter_map(|r| r.get("change"));
    for change in changes.chain(object(plan.get("output_changes")).map(|(_, c)| c)) {
        for value in [change.get("before"), change.get("after")].into_iter().flatten() {
            masked_texts(value, &Value::Bool(true), &mut out);
        }
    }
    out
}

/// A text without the secrets in it. For many texts, make one [`Mask`].
pub fn masked_text(text: &str, secrets: &BTreeSet<String>) -> String {
    Mask::new(secrets.iter().map(String::as_str)).text(text)
}

/// Every secret text of the plan: those that are marked ([`marked_secrets`]), and what looks like one
/// ([`crate::secrets::find`]).
pub fn secrets(plan: &Value, upstream: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
    let mut out = marked_secrets(plan, upstream);
    out.extend(crate::secrets::find(plan).into_keys());
    out
}

/// Every sensitive text of the plan: masked attributes and outputs, sensitive variables, and outputs of other stacks that
/// `upstream` (name of the data source, name of the output) says are sensitive: terraform forgets that when it reads them.
pub fn marked_secrets(plan: &Value, upstream: impl Fn(&str, &str) -> bool) -> BTreeSet<String> {
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

/// Values that a list that is kept whole may have; of a longer one only what differs is kept.
const KEPT: usize = 20_000;

fn is_small(value: Option<&Value>) -> bool {
    fn fits(value: &Value, left: &mut usize) -> bool {
        *left = left.saturating_sub(1);
        *left > 0
            && match value {
                Value::Array(items) => items.iter().all(|item| fits(item, left)),
                Value::Object(object) => object.values().all(|item| fits(item, left)),
                _ => true,
            }
    }
    value.is_none_or(|value| fits(value, &mut { KEPT }))
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

fn path_text<'a>(steps: impl Iterator<Item = &'a Value>, mask: &Mask) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Value::String(name) => add_step(&mut out, Step::Name(name), mask),
            // Writing to a text cannot fail.
            other => drop(write!(out, "[{other}]")),
        }
    }
    out
}
