//! What a reviewed plan stands on beside its commit. When any of it moves before the apply, the review no longer tells what
//! would happen, and the apply is refused with the name of what moved.

use crate::Micros;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use std::collections::BTreeMap;

/// How long a review is good for where nothing else is said, microseconds: seven days.
pub const REVIEW_EXPIRES: Micros = 7 * 24 * 3_600_000_000;

/// Version of a state: it has the same lineage for its whole life, and a serial that grows with every write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVersion {
    pub lineage: String,
    pub serial: u64,
}

/// Everything one plan was made from that is not in its commit. Values appear as keyed digests only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub made_at: Micros,
    pub workspace: String,
    /// Where the state lives, for people.
    pub backend: String,
    /// Digest of the backend's effective configuration.
    pub backend_digest: String,
    /// `None` when there was no state.
    pub state: Option<StateVersion>,
    /// Digest of each consumed output of an upstream that was read, by `data.terraform_remote_state.NAME.OUTPUT`.
    pub upstream: BTreeMap<String, String>,
    /// Digest of each root variable's value.
    pub variables: BTreeMap<String, String>,
    /// Digest of `.terraform.lock.hcl`; `None` when there is none.
    pub lock_file: Option<String>,
    /// e.g. `terraform 1.11.4`.
    pub tool: String,
    /// Digest of each environment variable that is passed through; of nothing for one that is not set.
    pub environment: BTreeMap<String, String>,
}

/// One thing that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Key of the diagnostic's page.
    pub code: &'static str,
    pub what: String,
    pub help: &'static str,
}

const AGAIN: &str = "run `windlass review` again and approve what it shows";

/// In the largest unit of which there are two.
fn age(time: Micros) -> String {
    let seconds = time / 1_000_000;
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)];
    let (unit, length) = units.into_iter().find(|(_, length)| seconds >= 2 * length).unwrap_or(units[3]);
    format!("{} {unit}", seconds / length)
}

/// What of `reviewed` is not so any more, in the order of the fields. A plan that was made as a preview is bound only to the
/// upstream outputs that it read for real. `own_state` tells that the state was moved by an earlier apply of the same review;
/// `expires` is how long a review is good for, microseconds.
pub fn moved(reviewed: &Binding, now: &Binding, own_state: bool, expires: Micros) -> Vec<Moved> {
    let mut out = Vec::new();
    let mut add = |code, what: String, help| out.push(Moved { code, what, help });
    if now.made_at - reviewed.made_at > expires {
        let (old, good) = (age(now.made_at - reviewed.made_at), age(expires));
        add("WL640", format!("the review is {old} old; it was good for {good}"), AGAIN);
    }
    if reviewed.workspace != now.workspace {
        let what = format!("the workspace was `{}` and is `{}` now", reviewed.workspace, now.workspace);
        add("WL641", what, AGAIN);
    }
    if reviewed.backend != now.backend {
        let what = format!("the state was at {} and is at {} now", reviewed.backend, now.backend);
        add("WL642", what, "if it was moved on purpose, run `windlass review` again");
    } else if reviewed.backend_digest != now.backend_digest {
        let what = format!("the configuration of the backend at {} is not what it was", now.backend);
        add("WL642", what, "if it was changed on purpose, run `windlass review` again");
    }
    match (&reviewed.state, &now.state) {
        _ if own_state => {}
        (None, None) => {}
        (Some(before), Some(after)) if before == after => {}
        (Some(before), Some(after)) if before.lineage != after.lineage => {
            let what = format!(
                "the state is another one: lineage {} was reviewed, {} is there",
                before.lineage, after.lineage
            );
            add(
                "WL643",
                what,
                "find out who replaced the state before anything is applied; then run `windlass review` again",
            );
        }
        (Some(before), Some(after)) => {
            let what = format!(
                "somebody wrote the state meanwhile: serial {} was reviewed, {} is there",
                before.serial, after.serial
            );
            add("WL644", what, AGAIN);
        }
        (None, Some(after)) => {
            let what = format!("there was no state, and now there is one (serial {})", after.serial);
            add("WL644", what, AGAIN);
        }
        (Some(before), None) => {
            let what = format!("the state (lineage {}, serial {}) is gone", before.lineage, before.serial);
            add(
                "WL643",
                what,
                "find out where the state went before anything is applied; a backup may have to be restored",
            );
        }
    }
    for name in differing(&reviewed.upstream, &now.upstream) {
        add("WL645", format!("the upstream output {name} is not what it was"), AGAIN);
    }
    for name in differing(&reviewed.variables, &now.variables) {
        add("WL646", format!("variable `{name}` does not have the value it had"), AGAIN);
    }
    if reviewed.lock_file != now.lock_file {
        let what = match (&reviewed.lock_file, &now.lock_file) {
            (None, _) => "the lock file .terraform.lock.hcl was made since".to_owned(),
            (_, None) => "the lock file .terraform.lock.hcl is gone".to_owned(),
            _ => "the lock file .terraform.lock.hcl names other providers or versions".to_owned(),
        };
        add("WL647", what, "commit the lock file that is meant and run `windlass review` again");
    }
    if reviewed.tool != now.tool {
        let what = format!("it was planned with {}, and {} is here", reviewed.tool, now.tool);
        add("WL648", what, "use the version it was reviewed with, or run `windlass review` again with this one");
    }
    for name in differing(&reviewed.environment, &now.environment) {
        add("WL649", format!("the environment variable {name} does not have the value it had"), AGAIN);
    }
    out
}

/// Names of `before` whose value is another one after, or gone.
fn differing<'a>(before: &'a BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<&'a str> {
    let moved = before.iter().filter(|(name, value)| after.get(*name) != Some(value));
    moved.map(|(name, _)| name.as_str()).collect()
}

/// Keyed digest (HMAC-SHA256, hexadecimal) of a text: tells two values apart without telling them.
pub fn keyed_digest(key: &[u8], text: &[u8]) -> String {
    // A key of any length is accepted; the error is of the interface, not of this algorithm.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(text);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Digests of the root variables' values, from `terraform show -json` of a plan.
pub fn variables_of(plan: &Value, key: &[u8]) -> BTreeMap<String, String> {
    let variables = plan.get("variables").and_then(Value::as_object);
    let digest = |value: &Value| keyed_digest(key, value.get("value").unwrap_or(&Value::Null).to_string().as_bytes());
    variables.into_iter().flatten().map(|(name, value)| (name.clone(), digest(value))).collect()
}

/// Digests of the outputs that the plan read from remote states and that `consumes` (name of the data source, name of the
/// output) says matter, from `terraform show -json` of a plan.
pub fn upstream_of(plan: &Value, key: &[u8], consumes: impl Fn(&str, &str) -> bool) -> BTreeMap<String, String> {
    remote_outputs(plan)
        .filter(|output| consumes(output.data, output.name))
        .map(|output| {
            let digest = keyed_digest(key, output.value.to_string().as_bytes());
            (format!("{}.{}", output.address, output.name), digest)
        })
        .collect()
}

/// An output of another stack that a plan read.
#[derive(Debug, Clone, Copy)]
pub struct RemoteOutput<'a> {
    /// Name of the `terraform_remote_state`.
    pub data: &'a str,
    /// Its address, modules included.
    pub address: &'a str,
    pub name: &'a str,
    pub value: &'a Value,
}

/// Outputs that a plan (`terraform show -json`) read from remote states.
pub fn remote_outputs(plan: &Value) -> impl Iterator<Item = RemoteOutput<'_>> {
    let mut modules: Vec<&Value> = ["prior_state", "planned_values"]
        .iter()
        .filter_map(|name| plan.get(name))
        .filter_map(|state| state.get("values").unwrap_or(state).get("root_module"))
        .collect();
    let mut found = Vec::new();
    while let Some(module) = modules.pop() {
        modules.extend(module.get("child_modules").and_then(Value::as_array).into_iter().flatten());
        for resource in module.get("resources").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| resource.get(name).and_then(Value::as_str).unwrap_or_default();
            if text("mode") != "data" || text("type") != "terraform_remote_state" {
                continue;
            }
            let outputs = resource.get("values").and_then(|v| v.get("outputs")).and_then(Value::as_object);
            let (data, address) = (text("name"), text("address"));
            found.extend(outputs.into_iter().flatten().map(|(name, value)| RemoteOutput {
                data,
                address,
                name,
                value,
            }));
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    fn binding() -> Binding {
        Binding {
            made_at: 0,
            workspace: "default".into(),
            backend: "s3:bucket/key".into(),
            backend_digest: "b1".into(),
            state: Some(StateVersion { lineage: "l1".into(), serial: 4 }),
            upstream: map(&[("data.terraform_remote_state.net.id", "u1")]),
            variables: map(&[("size", "v1")]),
            lock_file: Some("f1".into()),
            tool: "terraform 1.11.4".into(),
            environment: map(&[("AWS_PROFILE", "e1")]),
        }
    }

    /// Each bound thing is moved once; each is named for the right reason, and what is not bound is not.
    #[test]
    fn what_moved_is_named() {
        let check = |change: fn(&mut Binding), want: &[(&str, &str)]| {
            let mut now = binding();
            change(&mut now);
            let found = moved(&binding(), &now, false, REVIEW_EXPIRES);
            let codes: Vec<&str> = found.iter().map(|m| m.code).collect();
            assert_eq!(codes, want.iter().map(|(code, _)| *code).collect::<Vec<_>>(), "{found:?}");
            for (moved, (_, text)) in found.iter().zip(want) {
                assert!(moved.what.contains(text) && !moved.help.is_empty(), "{moved:?} does not say {text}");
            }
        };
        check(|_| {}, &[]);
        check(|b| b.made_at = REVIEW_EXPIRES, &[]);
        check(|b| b.made_at = REVIEW_EXPIRES + 1, &[("WL640", "7 days old")]);
        check(|b| b.workspace = "prod".into(), &[("WL641", "`prod`")]);
        check(|b| b.backend = "s3:other/key".into(), &[("WL642", "s3:other/key")]);
        check(|b| b.backend_digest = "b2".into(), &[("WL642", "configuration of the backend")]);
        check(|b| b.state.as_mut().unwrap().lineage = "l2".into(), &[("WL643", "l2")]);
        check(|b| b.state = None, &[("WL643", "is gone")]);
        check(|b| b.state.as_mut().unwrap().serial = 5, &[("WL644", "serial 4 was reviewed, 5")]);
        check(
            |b| drop(b.upstream.insert("data.terraform_remote_state.net.id".into(), "u2".into())),
            &[("WL645", "net.id")],
        );
        check(|b| drop(b.upstream.insert("data.terraform_remote_state.net.unread".into(), "x".into())), &[]);
        check(|b| drop(b.variables.insert("size".into(), "v2".into())), &[("WL646", "`size`")]);
        check(|b| b.variables.clear(), &[("WL646", "`size`")]);
        check(|b| b.lock_file = Some("f2".into()), &[("WL647", "other providers")]);
        check(|b| b.lock_file = None, &[("WL647", "is gone")]);
        check(|b| b.tool = "terraform 1.12.0".into(), &[("WL648", "terraform 1.12.0")]);
        check(|b| b.environment.clear(), &[("WL649", "AWS_PROFILE")]);
        let mut both = binding();
        both.workspace = "x".into();
        both.tool = "tofu 1.10.6".into();
        assert_eq!(moved(&binding(), &both, false, REVIEW_EXPIRES).len(), 2);
        let mut first = binding();
        first.state = None;
        assert_eq!(moved(&first, &binding(), false, REVIEW_EXPIRES)[0].code, "WL644");
        assert_eq!(moved(&first, &binding(), true, REVIEW_EXPIRES), vec![]);
    }

    #[test]
    fn values_are_read_from_plans_and_never_told() {
        let plan = serde_json::json!({
            "variables": { "size": { "value": 3 }, "secret": { "value": "hunter2" } },
            "prior_state": { "values": { "root_module": {
                "resources": [
                    { "mode": "data", "type": "terraform_remote_state", "name": "net", "address": "data.terraform_remote_state.net",
                      "values": { "outputs": { "id": "vpc-1", "other": "x" } } },
                    { "mode": "managed", "type": "terraform_data", "name": "x", "address": "terraform_data.x", "values": {} },
                ],
                "child_modules": [ { "resources": [
                    { "mode": "data", "type": "terraform_remote_state", "name": "db", "address": "module.m.data.terraform_remote_state.db",
                      "values": { "outputs": { "url": "postgres://" } } } ] } ] } } },
        });
        let upstream = upstream_of(&plan, b"k", |name, output| (name, output) != ("net", "other"));
        let names: Vec<&str> = upstream.keys().map(String::as_str).collect();
        assert_eq!(names, ["data.terraform_remote_state.net.id", "module.m.data.terraform_remote_state.db.url"]);
        let variables = variables_of(&plan, b"k");
        assert_eq!(variables.len(), 2);
        assert_ne!(variables["secret"], variables_of(&plan, b"other")["secret"]);
        assert!(!format!("{variables:?}{upstream:?}").contains("hunter2"));
    }
}
