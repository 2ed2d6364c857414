//! Conftest's rule kinds over a document. Whatever breaks is never a pass.

use crate::engine::{Options, Rego};
use crate::rules::{Kind, Rule};
use regorus::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::review::{Finding, Level};

#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Packages to judge with, without `data.`; empty means all that have a rule.
    pub namespaces: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Wall time of one evaluation.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(30) }
    }
}

/// Loaded policies; cheap to evaluate many times.
#[derive(Clone)]
pub struct PolicySet {
    rego: Rego,
    rules: Vec<Rule>,
    digest: String,
}

/// What the policies say about one input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    pub findings: Vec<Finding>,
    /// Rules that could not be evaluated. Not a pass.
    pub broken: Vec<Diagnostic>,
}

impl PolicySet {
    /// Loads Rego files (path, text) and data documents.
    ///
    /// # Errors
    /// Everything that is wrong: syntax, constructs that are refused, namespaces that select nothing.
    pub fn load(
        files: &[(Arc<str>, String)],
        data: &[(Arc<str>, serde_json::Value)],
        options: &LoadOptions,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut hash = Sha256::new();
        for (path, text) in files {
            hash.update(format!("{path}\0{}\0", text.len()));
            hash.update(text);
        }
        let mut rego = Rego::load(files, &Options::default())?;
        let found = std::mem::take(&mut rego.rules);
        for (path, value) in data {
            hash.update(format!("{path}\0{value}\0"));
            if let Err(error) = rego.add_data(value) {
                diagnostics.push(
                    Diagnostic::error("WL401", format!("policy data {path} cannot be used: {error}"))
                        .at(Span::file(path.clone())),
                );
            }
        }
        for namespace in &options.namespaces {
            if !found.iter().any(|rule| rule.package == *namespace) {
                let packages: BTreeSet<&str> = found.iter().map(|rule| rule.package.as_str()).collect();
                let known = if packages.is_empty() {
                    "none".to_owned()
                } else {
                    packages.into_iter().collect::<Vec<_>>().join(", ")
                };
                diagnostics.push(
                    Diagnostic::error(
                        "WL403",
                        format!(
                            "namespace `{namespace}` has no deny, violation or warn rule: it would pass everything"
                        ),
                    )
                    .at(files.first().map_or_else(|| Span::file("policy"), |(path, _)| Span::file(path.clone())))
                    .help(format!("packages with rules: {known}")),
                );
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let mut rules: Vec<Rule> = found
            .into_iter()
            .filter(|rule| options.namespaces.is_empty() || options.namespaces.contains(&rule.package))
            .collect();
        rules.sort();
        rules.dedup_by(|a, b| a.package == b.package && a.name == b.name);
        if rules.iter().all(|rule| rule.kind == Kind::Exception) {
            let place = files.first().map_or_else(|| Span::file("policy"), |(path, _)| Span::file(path.clone()));
            return Err(vec![
                Diagnostic::error(
                    "WL403",
                    "these policies have no deny, violation or warn rule: they would pass everything",
                )
                .at(place)
                .help("name a rule `deny`, `violation` or `warn` (a suffix such as `deny_public` is fine)"),
            ]);
        }
        Ok(Self { rego, rules, digest: hash.finalize().iter().map(|b| format!("{b:02x}")).collect() })
    }

    /// Hexadecimal SHA-256 of all files and data.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Judges one input, sorted by rule and message.
    pub fn evaluate(&self, input: &serde_json::Value, limits: &Limits) -> Evaluation {
        let (sender, receiver) = mpsc::channel();
        let set = self.clone();
        let input = Value::from(input.clone());
        // The engine checks its time between steps only; a thread of its own bounds what the caller waits.
        let spawned = std::thread::Builder::new().name("policy".into()).stack_size(64 << 20).spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| set.evaluate_here(input)));
            // The receiver may have given up.
            let _ = sender.send(result);
        });
        let broke = |why: String| Evaluation {
            findings: Vec::new(),
            broken: vec![Diagnostic::error("WL406", why).help("the gate broke, which is not a pass: mend the policy")],
        };
        if let Err(error) = spawned {
            return broke(format!("cannot evaluate policies: {error}"));
        }
        match receiver.recv_timeout(limits.time) {
            Ok(Ok(evaluation)) => evaluation,
            Ok(Err(_)) => broke("the policy engine panicked".into()),
            Err(_) => broke(format!("the policies took longer than {} s", limits.time.as_secs())),
        }
    }

    fn evaluate_here(self, input: Value) -> Evaluation {
        let mut rego = self.rego;
        rego.set_input(input);
        let mut out = Evaluation::default();
        let mut excused: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for rule in &self.rules {
            if rule.kind == Kind::Exception {
                match rego.eval_rule(&rule.path()) {
                    Ok(value) => excused.entry(&rule.package).or_default().extend(exceptions(&value)),
                    Err(error) => out.broken.push(broken(rule, &error)),
                }
            }
        }
        for rule in &self.rules {
            let level = match rule.kind {
                Kind::Exception => continue,
                Kind::Deny => Level::Deny,
                Kind::Warn => Level::Warn,
            };
            if excused.get(rule.package.as_str()).is_some_and(|suffixes| suffixes.contains(rule.suffix())) {
                continue;
            }
            let value = match rego.eval_rule(&rule.path()) {
                Ok(value) => value,
                Err(error) => {
                    out.broken.push(broken(rule, &error));
                    continue;
                }
            };
            let items: Vec<Value> = match &value {
                Value::Undefined => continue,
                Value::Set(set) => set.iter().cloned().collect(),
                Value::Array(items) => items.iter().cloned().collect(),
                _ => {
                    out.broken.push(
                        Diagnostic::error(
                            "WL405",
                            format!("rule {} is neither a set nor an array: its result would be ignored", rule.path()),
                        )
                        .at(rule.span.clone())
                        .help(format!("write `{} contains msg if {{ … }}`", rule.name)),
                    );
                    continue;
                }
            };
            for item in items {
                match finding(rule, level, &item) {
                    Ok(finding) => out.findings.push(finding),
                    Err(why) => out.broken.push(broken(rule, &why)),
                }
            }
        }
        out.findings.sort_by(|a, b| (a.level, &a.rule, &a.message).cmp(&(b.level, &b.rule, &b.message)));
        out
    }
}

fn broken(rule: &Rule, why: &str) -> Diagnostic {
    let line = why.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or(why);
    Diagnostic::error("WL406", format!("rule {} could not be evaluated: {line}", rule.path())).at(rule.span.clone())
}

fn exceptions(value: &Value) -> Vec<String> {
    let Ok(serde_json::Value::Array(lists)) = serde_json::to_value(value) else { return Vec::new() };
    lists
        .iter()
        .flat_map(|list| list.as_array().into_iter().flatten())
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

fn finding(rule: &Rule, level: Level, item: &Value) -> Result<Finding, String> {
    let item = serde_json::to_value(item).map_err(|e| e.to_string())?;
    let text = |name: &str| item.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let message = match &item {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Object(_) => text("msg").ok_or("a result is an object without a string `msg`")?,
        other => return Err(format!("a result is {other}, neither a string nor an object with `msg`")),
    };
    let code = item.get("_loc").and_then(|loc| {
        let file = loc.get("file")?.as_str()?;
        let line = loc.get("line").and_then(serde_json::Value::as_u64).unwrap_or(1) as u32;
        Some(Span { line, end_line: line, ..Span::file(file) })
    });
    Ok(Finding {
        rule: Some(rule.path()),
        address: text("address").or_else(|| text("resource")),
        code,
        policy: Some(rule.span.clone()),
        ..Finding::new(level, "policy", message)
    })
}

#[cfg(test)]
mod tests;
