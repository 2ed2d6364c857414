//! One policy language for everything that is decided: each kind of decision has an input with a schema, and rules of its own.
//! Whatever breaks is a denial that says why.

pub mod input;
mod mask;
mod opa;
mod references;
mod scan;

pub use mask::{SENSITIVE, masked_plan};
pub use references::check_references;

use crate::conftest::{LoadOptions, PolicySet};
use crate::document::Document;
use crate::engine::{self, Options, Rego};
use crate::limits::{self, Apart, Ask, Job, Limits, Worker};
use scan::Head;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use windlass_model::definition::{ApprovalRule, DecisionKind, PolicyEngine};
use windlass_model::diagnostic::{Diagnostic, Span, has_errors};
use windlass_model::review::{Finding, Level};

/// The JSON Schema (draft 2020-12) of the input of a kind.
pub fn schema(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::Plan => include_str!("../schemas/plan.json"),
        DecisionKind::Review => include_str!("../schemas/review.json"),
        DecisionKind::Approval => include_str!("../schemas/approval.json"),
        DecisionKind::Operation => include_str!("../schemas/operation.json"),
        DecisionKind::Access => include_str!("../schemas/access.json"),
        DecisionKind::Trigger => include_str!("../schemas/trigger.json"),
    }
}

/// The files of one policy.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Path and text.
    pub files: Vec<(Arc<str>, String)>,
    /// Path and document.
    pub data: Vec<(Arc<str>, Value)>,
    /// Packages to decide with, without `data.`; empty means all that have a rule.
    pub namespaces: Vec<String>,
}

/// What a policy is loaded as.
#[derive(Debug, Clone)]
pub struct Terms {
    pub name: String,
    pub kind: DecisionKind,
    pub engine: PolicyEngine,
    /// Names of the teams that there are: approvals can be asked of no other.
    pub teams: Vec<String>,
    pub origin: Origin,
    /// A private directory for files that another program has to read.
    pub scratch: PathBuf,
}

/// Whose a policy is, which says where it runs.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The organisation's own, from the branch that decides: in a process that others of its own may share. Without one it runs on a
    /// thread of this process, without a limit of memory; that is for tests, and for that process itself.
    Own(Option<Worker>),
    /// Anybody's: in a process that no other shares. Without one it is not asked, and that is no pass.
    Elsewhere(Option<Worker>),
}

/// A loaded policy.
#[derive(Clone)]
pub struct Policy {
    terms: Terms,
    engine: Engine,
    /// Those that decide: their names depend on the kind.
    heads: Vec<Head>,
    digest: String,
}

#[derive(Clone)]
enum Engine {
    /// Conftest's rule kinds.
    Conftest(Box<PolicySet>),
    /// Values of rules.
    Rego(Box<Rego>),
    Opa(Arc<opa::Opa>),
    /// Either of the first two, in a process of its own.
    Apart(Arc<Apart>),
}

/// What one or several policies decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub kind: DecisionKind,
    /// Denials, warnings, and what broke.
    pub findings: Vec<Finding>,
    /// Approvals that are asked for.
    pub required: Vec<Required>,
    /// A rule allows it. Only access has to be allowed.
    pub allowed: bool,
}

/// Approvals that a policy asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Required {
    /// Name of the policy.
    pub policy: String,
    pub reason: Option<String>,
    pub rule: ApprovalRule,
}

impl Required {
    /// Who asks, such as `policy approvals (data is destroyed)`.
    pub fn subject(&self) -> String {
        match &self.reason {
            Some(reason) => format!("policy {} ({reason})", self.policy),
            None => format!("policy {}", self.policy),
        }
    }
}

impl Decision {
    /// What nobody has decided yet.
    pub fn new(kind: DecisionKind) -> Self {
        Self { kind, findings: Vec::new(), required: Vec::new(), allowed: false }
    }

    /// The answer: nothing denies and nothing broke; access has to be allowed besides.
    pub fn is_allowed(&self) -> bool {
        self.findings.iter().all(|finding| finding.level > Level::Deny)
            && (self.kind != DecisionKind::Access || self.allowed)
    }

    /// Something in it could not be decided.
    pub fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Broken)
    }

    /// Takes the decision of another policy over the same input: each may deny, any may allow.
    pub fn merge(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.required.extend(other.required);
        self.allowed |= other.allowed;
    }
}

/// The names a rule of this kind may have, for messages.
fn rule_names(kind: DecisionKind) -> &'static [&'static str] {
    match kind {
        DecisionKind::Plan | DecisionKind::Review | DecisionKind::Operation | DecisionKind::Trigger => {
            &["deny", "violation", "warn", "exception"]
        }
        DecisionKind::Approval => &["require"],
        DecisionKind::Access => &["allow", "deny"],
    }
}

impl Policy {
    /// Loads the files of one policy; what comes with it are warnings.
    ///
    /// # Errors
    /// Everything that is wrong: syntax, refused constructs, references that the input does not have, no rule that decides.
    pub fn load(terms: Terms, sources: &Sources) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut diagnostics = check_references(terms.kind, &sources.files);
        let wanted = |head: &Head| {
            rule_names(terms.kind).iter().any(|name| head.is(name))
                && (sources.namespaces.is_empty() || sources.namespaces.contains(&head.package))
        };
        let all: Vec<Head> = sources.files.iter().flat_map(|(path, text)| scan::heads(path, text)).collect();
        let mut heads: Vec<Head> = all.iter().filter(|head| wanted(head)).cloned().collect();
        heads.sort_by(|a, b| (&a.package, &a.name, &a.span).cmp(&(&b.package, &b.name, &b.span)));
        heads.dedup_by(|a, b| a.package == b.package && a.name == b.name);
        let conftest = !matches!(terms.kind, DecisionKind::Approval | DecisionKind::Access);
        if heads.iter().all(|head| head.is("exception")) && (!conftest || terms.engine == PolicyEngine::Opa) {
            diagnostics.push(undecided(&terms, sources));
        }
        if !conftest {
            diagnostics.extend(never_asked(&terms, &all));
        }
        if !conftest || terms.engine == PolicyEngine::Opa {
            diagnostics.extend(empty_namespaces(&terms, sources, &heads));
        }
        let mut digest = Sha256::new_with_prefix(format!("{:?}\0{:?}\0", terms.kind, terms.engine));
        for (path, text) in &sources.files {
            digest.update(format!("{path}\0{}\0{text}", text.len()));
        }
        for (path, value) in &sources.data {
            digest.update(format!("{path}\0{value}\0"));
        }
        digest.update(sources.namespaces.join("\0"));
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let engine = match Engine::load(&terms, sources, conftest) {
            Ok(engine) if !has_errors(&diagnostics) => engine.placed(&terms, sources),
            Ok(_) => return Err(diagnostics),
            Err(found) => {
                diagnostics.extend(found);
                return Err(diagnostics);
            }
        };
        Ok((Self { terms, engine, heads, digest }, diagnostics))
    }

    pub fn name(&self) -> &str {
        &self.terms.name
    }
    pub fn kind(&self) -> DecisionKind {
        self.terms.kind
    }
    pub fn engine(&self) -> PolicyEngine {
        self.terms.engine
    }
    /// Hexadecimal SHA-256 of everything that it decides with.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Decides about one input of its kind. Findings are sorted by level, rule and message, and say which policy they are of.
    pub fn decide(&self, input: &Value, limits: &Limits) -> Decision {
        self.decide_document(&Document::from(input), limits)
    }

    /// As [`Policy::decide`]: what several policies are asked about is read once.
    pub fn decide_document(&self, input: &Document<'_>, limits: &Limits) -> Decision {
        let mut decision = Decision::new(self.terms.kind);
        match &self.engine {
            Engine::Conftest(set) => {
                let evaluation = set.evaluate_document(input, limits);
                decision.findings = evaluation.findings;
                for diagnostic in evaluation.broken {
                    let policy = diagnostic.labels.first().map(|label| label.span.clone());
                    decision.findings.push(broken(policy, format!("[{}] {}", diagnostic.code, diagnostic.summary)));
                }
            }
            Engine::Rego(rego) => self.weigh(values(rego, &self.heads, input, limits), &mut decision),
            Engine::Opa(opa) => match input.to_json() {
                Ok(input) => self.weigh(opa.values(&self.heads, &input, limits), &mut decision),
                Err(why) => self.weigh(Err(("WL406", why)), &mut decision),
            },
            Engine::Apart(apart) => match apart.ask(&Ask::Decide, Some(input), limits, Decision::is_broken) {
                Ok(found) => decision = found,
                Err(why) => self.weigh(Err(("WL406", why.to_string())), &mut decision),
            },
        }
        for finding in &mut decision.findings {
            finding.source = format!("policy {}", self.terms.name);
        }
        decision.findings.sort_by(|a, b| {
            (a.level, &a.address, &a.message, &a.rule).cmp(&(b.level, &b.address, &b.message, &b.rule))
        });
        decision.findings.dedup();
        decision
    }

    /// From the values of the rules to a decision.
    fn weigh(&self, values: Values, decision: &mut Decision) {
        let values = match values {
            Ok(values) => values,
            Err((code, why)) => {
                let span = self.heads.first().map(|head| head.span.clone());
                decision.findings.push(broken(span, format!("[{code}] {why}")));
                return;
            }
        };
        let found: Vec<(&Head, Result<Option<Value>, String>)> = self.heads.iter().zip(values).collect();
        let mut excused: BTreeSet<(&str, String)> = BTreeSet::new();
        for (head, value) in found.iter().filter(|(head, _)| head.is("exception")) {
            if let Ok(Some(Value::Array(lists))) = value {
                let names = lists.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
                excused.extend(names.map(|name| (head.package.as_str(), name.to_owned())));
            }
        }
        for (head, value) in found {
            let value = match value {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                Err(why) => {
                    let message = format!("[WL406] rule {} could not be evaluated: {why}", head.path());
                    decision.findings.push(broken(Some(head.span.clone()), message));
                    continue;
                }
            };
            let weighed = match () {
                () if head.is("require") => self.require(&value, decision),
                () if head.is("allow") && head.name == "allow" => match value {
                    Value::Bool(allowed) => {
                        decision.allowed |= allowed;
                        Ok(())
                    }
                    other => Err(format!("is {other}, neither true nor false")),
                },
                () if head.is("exception") || head.is("allow") => Ok(()),
                () => {
                    let suffix = head.name.split_once('_').map_or("", |(_, suffix)| suffix).to_owned();
                    if excused.contains(&(head.package.as_str(), suffix)) {
                        continue;
                    }
                    let level = if head.is("warn") { Level::Warn } else { Level::Deny };
                    results(head, level, &value, &mut decision.findings)
                }
            };
            if let Err(why) = weighed {
                let message = format!("[WL405] rule {} {why}", head.path());
                decision.findings.push(broken(Some(head.span.clone()), message));
            }
        }
    }

    /// The members of a `require` rule.
    fn require(&self, value: &Value, decision: &mut Decision) -> Result<(), String> {
        let Value::Array(items) = value else {
            return Err("is neither a set nor an array: write `require contains {…} if { … }`".into());
        };
        for item in items {
            let rule = self.required(item).map_err(|why| format!("asks for {item}: {why}"))?;
            decision.required.push(rule);
        }
        Ok(())
    }

    fn required(&self, item: &Value) -> Result<Required, String> {
        let Value::Object(object) = item else { return Err("that is no object".into()) };
        let mut rule = ApprovalRule { count: 1, from: Vec::new(), author_may_approve: false, unverified: false };
        let mut reason = None;
        for (name, value) in object {
            match (name.as_str(), value) {
                ("count", value) => {
                    let count = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n >= 1);
                    rule.count = count.ok_or("`count` is a whole number from 1")?;
                }
                ("from", Value::Array(teams)) => {
                    for team in teams {
                        let team = team.as_str().ok_or("`from` is a list of names of teams")?;
                        if !self.terms.teams.iter().any(|known| known == team) {
                            return Err(format!("there is no team \"{team}\""));
                        }
                        rule.from.push(team.to_owned());
                    }
                }
                ("from", _) => return Err("`from` is a list of names of teams".into()),
                ("author_may_approve", Value::Bool(value)) => rule.author_may_approve = *value,
                ("unverified", Value::Bool(value)) => rule.unverified = *value,
                ("reason", Value::String(text)) => reason = Some(text.clone()),
                ("author_may_approve" | "unverified", _) => return Err(format!("`{name}` is true or false")),
                ("reason", _) => return Err("`reason` is a text".into()),
                (other, _) => {
                    let known = "count, from, author_may_approve, unverified, reason";
                    return Err(format!("`{other}` is none of {known}"));
                }
            }
        }
        Ok(Required { policy: self.terms.name.clone(), reason, rule })
    }
}

impl Engine {
    fn load(terms: &Terms, sources: &Sources, conftest: bool) -> Result<Self, Vec<Diagnostic>> {
        if terms.engine == PolicyEngine::Opa {
            return Ok(Self::Opa(Arc::new(opa::Opa::new(terms, sources))));
        }
        if conftest {
            let options = LoadOptions { namespaces: sources.namespaces.clone() };
            return PolicySet::load(&sources.files, &sources.data, &options).map(|set| Self::Conftest(Box::new(set)));
        }
        let mut rego = Rego::load(&sources.files, &Options::default())?;
        let mut diagnostics = Vec::new();
        for (path, value) in &sources.data {
            if let Err(error) = rego.add_data(value) {
                diagnostics.push(
                    Diagnostic::error("WL401", format!("policy data {path} cannot be used: {error}"))
                        .at(Span::file(path.clone())),
                );
            }
        }
        if diagnostics.is_empty() { Ok(Self::Rego(Box::new(rego))) } else { Err(diagnostics) }
    }

    /// Where the policies are evaluated. The `opa` program is a process of its own anyway.
    fn placed(self, terms: &Terms, sources: &Sources) -> Self {
        match (self, &terms.origin) {
            (Self::Conftest(_) | Self::Rego(_), Origin::Elsewhere(worker)) => {
                Self::Apart(Arc::new(Apart::new(Job::policy(terms, sources), worker.clone(), false)))
            }
            (Self::Conftest(_) | Self::Rego(_), Origin::Own(worker @ Some(_))) => {
                Self::Apart(Arc::new(Apart::new(Job::policy(terms, sources), worker.clone(), true)))
            }
            (engine, _) => engine,
        }
    }
}

/// Values of rules in the order of their heads, `None` where one is undefined; or a code and why there are none at all.
type Values = Result<Vec<Result<Option<Value>, String>>, (&'static str, String)>;

/// Evaluates within the limits.
fn values(rego: &Rego, heads: &[Head], input: &Document<'_>, limits: &Limits) -> Values {
    let time = limits.time;
    let input = input.value().map_err(|why| ("WL406", why))?;
    let mut rego = rego.clone();
    let paths: Vec<String> = heads.iter().map(Head::path).collect();
    let work = move || {
        rego.limit_time(time);
        rego.set_input(input);
        let value = |path: &String| match rego.eval_rule(path) {
            Ok(regorus::Value::Undefined) => Ok(None),
            Ok(value) => engine::plain(&value).map(Some),
            Err(error) => Err(last_line(&error).to_owned()),
        };
        paths.iter().map(value).collect::<Vec<_>>()
    };
    limits::watched(limits, work).map_err(|broken| ("WL406", broken.to_string()))
}

fn last_line(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(text)
}

fn broken(policy: Option<Span>, message: String) -> Finding {
    Finding { policy, ..Finding::new(Level::Broken, "policy", message) }
}

/// The members of a rule that denies or warns.
fn results(head: &Head, level: Level, value: &Value, out: &mut Vec<Finding>) -> Result<(), String> {
    let Value::Array(items) = value else {
        let name = &head.name;
        return Err(format!("is neither a set nor an array: write `{name} contains msg if {{ … }}`"));
    };
    for item in items {
        let text = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = match item {
            Value::String(text) => text.clone(),
            Value::Object(_) => text("msg").ok_or("gives an object without a text `msg`")?,
            other => return Err(format!("gives {other}, neither a text nor an object with `msg`")),
        };
        let code = item.get("_loc").and_then(|loc| {
            let line = loc.get("line").and_then(Value::as_u64).unwrap_or(1) as u32;
            Some(Span { line, end_line: line, ..Span::file(loc.get("file")?.as_str()?) })
        });
        out.push(Finding {
            rule: Some(head.path()),
            address: text("address").or_else(|| text("resource")),
            code,
            policy: Some(head.span.clone()),
            ..Finding::new(level, "policy", message)
        });
    }
    Ok(())
}

fn undecided(terms: &Terms, sources: &Sources) -> Diagnostic {
    let place = sources.files.first().map_or_else(|| Span::file("policy"), |(path, _)| Span::file(path.clone()));
    let names = rule_names(terms.kind).join(" or ");
    let kind = terms.kind.as_str();
    Diagnostic::error("WL451", format!("policy `{}` decides about {kind} and has no rule named {names}", terms.name))
        .at(place)
        .help("rename the rule that decides, or correct `decides` and `namespaces`")
}

/// Namespaces without a rule that decides.
fn empty_namespaces(terms: &Terms, sources: &Sources, heads: &[Head]) -> Vec<Diagnostic> {
    let has = |namespace: &String| heads.iter().any(|head| head.package == *namespace && !head.is("exception"));
    let place = sources.files.first().map_or_else(|| Span::file("policy"), |(path, _)| Span::file(path.clone()));
    let empty = sources.namespaces.iter().filter(|namespace| !has(namespace));
    empty
        .map(|namespace| {
            let names = rule_names(terms.kind).join(" or ");
            let summary = format!("namespace `{namespace}` has no rule named {names}: it would decide nothing");
            Diagnostic::error("WL403", summary).at(place.clone()).help("correct `namespaces` of the policy")
        })
        .collect()
}

/// Rules that would decide in a policy of another kind, and that nobody asks here.
fn never_asked(terms: &Terms, heads: &[Head]) -> Vec<Diagnostic> {
    let names = rule_names(terms.kind);
    let meant = ["deny", "violation", "warn", "allow", "require"];
    let idle = heads.iter().filter(|head| {
        meant.iter().any(|name| head.is(name))
            && !names.iter().any(|name| head.is(name))
            && !head.name.starts_with("test_")
    });
    idle.map(|head| {
        let kind = terms.kind.as_str();
        Diagnostic::error(
            "WL451",
            format!("rule {} is never asked: `{}` decides about {kind}", head.path(), terms.name),
        )
        .at(head.span.clone())
        .help(format!("policies of that kind have the rules {}", names.join(", ")))
    })
    .collect()
}

#[cfg(test)]
mod tests;
