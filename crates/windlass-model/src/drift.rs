//! Drift: what the configuration would change although nobody changed it, and what the world changed behind the state.

mod touched;

pub use touched::{AT, BY, INSIDE, Touched, touched};

use crate::Micros;
use crate::effect::{Action, Effect, EffectSummary, Shown, digest_all};
use crate::id::InstanceId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What one look at an instance found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// What an apply of the present configuration would do to the state as it is recorded.
    pub configuration: Effect,
    /// What the world has otherwise than the state.
    pub refresh: Effect,
    /// Who changed a resource behind the state, by address, where its provider tells.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub touched: BTreeMap<String, Touched>,
    /// `FILE:LINE` of the configuration of what drifted, by address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, String>,
    /// Addresses where code and world agree and only the state does not know it yet: no drift.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<String>,
}

impl Drift {
    pub fn is_none(&self) -> bool {
        self.configuration.is_empty() && self.refresh.is_empty()
    }

    /// Without what is declared to be noise: patterns over `ADDRESS.ATTRIBUTE` (or an address, for all of it), in which `*` stands
    /// for anything.
    pub fn without(mut self, ignored: &[String]) -> Self {
        for effect in [&mut self.configuration, &mut self.refresh] {
            for change in &mut effect.changes {
                change.attributes.retain(|name, _| {
                    let full = format!("{}.{name}", change.address);
                    !ignored.iter().any(|pattern| matches(pattern, &full) || matches(pattern, &change.address))
                });
            }
            // A change of which nothing is left is none; one that never had attributes (a create, a delete) stands for itself.
            effect.changes.retain(|change| {
                let all = ignored.iter().any(|pattern| matches(pattern, &change.address));
                !all && (!change.attributes.is_empty() || change.action != Action::Update)
            });
        }
        self
    }

    /// Without what the world has just as the code says: somebody wrote into the code what was changed by hand, and the next
    /// apply takes it into the state. Each such address goes into [`Self::behind`].
    pub fn settled(mut self) -> Self {
        let (refresh, behind) = (&mut self.refresh.changes, &mut self.behind);
        self.configuration.changes.retain(|wanted| {
            let Some(found) = refresh.iter_mut().find(|found| found.address == wanted.address) else { return true };
            let settled = match (wanted.action, found.action) {
                (Action::Destroy | Action::Forget, Action::Destroy) => true,
                // What is not known before the apply goes with what is: alone it is no wish.
                (Action::Update, Action::Update) => wanted.attributes.iter().all(|(path, attribute)| {
                    attribute.after == Shown::Unknown
                        || found.attributes.get(path).is_some_and(|found| found.after == attribute.after)
                }),
                _ => false,
            };
            if settled {
                found.attributes.retain(|path, _| !wanted.attributes.contains_key(path));
                if found.action == Action::Destroy || found.attributes.is_empty() {
                    behind.push(wanted.address.clone());
                }
            }
            !settled
        });
        self.refresh.changes.retain(|change| !self.behind.contains(&change.address));
        self
    }

    fn digest(&self) -> String {
        digest_all([&self.configuration, &self.refresh].into_iter())
    }
}

/// `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The plan of `-refresh-only`, read as if what drifted were what it changes.
pub fn refresh_as_changes(mut plan: Value) -> Value {
    let drifted = plan.get_mut("resource_drift").map(Value::take).unwrap_or_default();
    if let Value::Object(object) = &mut plan {
        object.insert("resource_changes".into(), if drifted.is_null() { Value::Array(Vec::new()) } else { drifted });
        object.remove("output_changes");
        object.remove("checks");
    }
    plan
}

/// What is known of the drift of an instance over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub instance: InstanceId,
    pub looked_at: Micros,
    /// Since when there has been drift, whatever it was; `None` when there is none.
    pub since: Option<Micros>,
    pub drift: Option<Drift>,
    /// Earlier findings that were other than the one after them, oldest first.
    pub history: Vec<Past>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    pub at: Micros,
    pub configuration: EffectSummary,
    pub refresh: EffectSummary,
}

/// Findings that are kept.
const HISTORY: usize = 50;

impl Record {
    /// The record after another look.
    pub fn after(before: Option<Self>, instance: &InstanceId, drift: Drift, now: Micros) -> Self {
        let found = (!drift.is_none()).then_some(drift);
        let mut record = before.unwrap_or_else(|| Self {
            instance: instance.clone(),
            looked_at: now,
            since: None,
            drift: None,
            history: Vec::new(),
        });
        let digest = |drift: &Option<Drift>| drift.as_ref().map(Drift::digest);
        if digest(&record.drift) != digest(&found) {
            let summary = |of: fn(&Drift) -> &Effect| found.as_ref().map(|d| of(d).summary()).unwrap_or_default();
            let past = Past { at: now, configuration: summary(|d| &d.configuration), refresh: summary(|d| &d.refresh) };
            record.history.push(past);
            let surplus = record.history.len().saturating_sub(HISTORY);
            record.history.drain(..surplus);
        }
        record.since = found.as_ref().map(|_| record.since.unwrap_or(now));
        record.looked_at = now;
        record.drift = found;
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn effect(changes: Value) -> Effect {
        let plan = json!({ "format_version": "1.2", "resource_drift": changes });
        Effect::from_plan_json("a".into(), &refresh_as_changes(plan), b"k").unwrap()
    }

    fn update(address: &str, before: Value, after: Value) -> Value {
        json!({ "address": address, "mode": "managed", "type": "t", "name": "x", "provider_name": "p",
            "change": { "actions": ["update"], "before": before, "after": after, "after_unknown": {}, "before_sensitive": {}, "after_sensitive": {} } })
    }

    fn drift(changes: Value) -> Drift {
        both(json!([]), changes)
    }

    fn both(configuration: Value, refresh: Value) -> Drift {
        Drift {
            configuration: effect(configuration),
            refresh: effect(refresh),
            touched: BTreeMap::new(),
            places: BTreeMap::new(),
            behind: Vec::new(),
        }
    }

    #[test]
    fn what_was_written_into_the_code_is_no_drift() {
        let unknown = |address: &str, before: Value, after: Value, unknown: Value| {
            let mut change = update(address, before, after);
            change["change"]["after_unknown"] = unknown;
            change
        };
        let gone = |address: &str| {
            let mut change = update(address, json!({"n": 1}), Value::Null);
            change["change"]["actions"] = json!(["delete"]);
            change
        };
        let check = |configuration: Value, refresh: Value, left: (usize, usize), behind: &[&str]| {
            let found = both(configuration, refresh).settled();
            assert_eq!((found.configuration.changes.len(), found.refresh.changes.len()), left, "{found:?}");
            assert_eq!(found.behind, behind);
        };
        let change = |after: u32| update("t.x", json!({"n": 1, "by": "a"}), json!({"n": after, "by": "a"}));
        check(json!([change(2)]), json!([change(2)]), (0, 0), &["t.x"]);
        check(json!([change(3)]), json!([change(2)]), (1, 1), &[]);
        check(json!([]), json!([change(2)]), (0, 1), &[]);
        check(json!([change(2)]), json!([]), (1, 0), &[]);
        // The code wants what is there, and what cannot be known yet is there as well.
        let computed = unknown("t.x", json!({"n": 1, "by": "a"}), json!({"n": 2}), json!({"by": true}));
        check(
            json!([computed]),
            json!([update("t.x", json!({"n": 1, "by": "a"}), json!({"n": 2, "by": "b"}))]),
            (0, 0),
            &["t.x"],
        );
        // One attribute more was changed by hand: that is still drift.
        let more = update("t.x", json!({"n": 1, "m": 1}), json!({"n": 2, "m": 2}));
        check(json!([update("t.x", json!({"n": 1, "m": 1}), json!({"n": 2, "m": 1}))]), json!([more]), (0, 1), &[]);
        check(json!([gone("t.x")]), json!([gone("t.x")]), (0, 0), &["t.x"]);
        check(json!([change(2)]), json!([gone("t.x")]), (1, 1), &[]);
    }

    #[test]
    fn what_the_world_changed_is_read_and_noise_is_left_out() {
        let found = drift(json!([
            update("t.x", json!({"a": 1, "b": 1}), json!({"a": 2, "b": 2})),
            update("t.y", json!({"n": 1}), json!({"n": 3}))
        ]));
        assert_eq!(found.refresh.changes.len(), 2);
        let check = |ignored: &[&str], want: &[(&str, usize)]| {
            let ignored: Vec<String> = ignored.iter().map(|s| s.to_string()).collect();
            let left = found.clone().without(&ignored);
            let left: Vec<(&str, usize)> =
                left.refresh.changes.iter().map(|c| (c.address.as_str(), c.attributes.len())).collect();
            assert_eq!(left, want, "{ignored:?}");
        };
        check(&[], &[("t.x", 2), ("t.y", 1)]);
        check(&["t.x.a"], &[("t.x", 1), ("t.y", 1)]);
        check(&["t.*.n", "t.x"], &[]);
        check(&["*.a"], &[("t.x", 1), ("t.y", 1)]);
        check(&["t"], &[("t.x", 2), ("t.y", 1)]);
    }

    #[test]
    fn drift_has_an_age_and_a_history() {
        let (one, two) = (
            drift(json!([update("t.x", json!({"a": 1}), json!({"a": 2}))])),
            drift(json!([update("t.x", json!({"a": 1}), json!({"a": 3}))])),
        );
        let id = InstanceId::new("a");
        let mut record = None;
        let mut look = |drift: Drift, now| {
            let next = Record::after(record.clone(), &id, drift, now);
            record = Some(next.clone());
            (next.since, next.history.len())
        };
        assert_eq!(look(drift(json!([])), 1), (None, 0));
        assert_eq!(look(one.clone(), 2), (Some(2), 1));
        assert_eq!(look(one, 3), (Some(2), 1));
        assert_eq!(look(two, 4), (Some(2), 2));
        assert_eq!(look(drift(json!([])), 5), (None, 3));
    }
}
