//! The policies of a project, loaded from one tree, and what they say about a plan.

use crate::error::{AppError, AppResult, ErrorKind};
use globset::GlobMatcher;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use windlass_lang::tree::Tree;
use windlass_model::definition::{Definitions, Enforcement, PolicyDefinition};
use windlass_model::diagnostic::{Diagnostic, Span, has_errors};
use windlass_model::id::StackId;
use windlass_model::review::{Finding, Level};
use windlass_policy::hygiene::{self, InputKind};
use windlass_policy::{Limits, LoadOptions, PolicySet};

/// All policies that decide, ready to judge.
pub struct Policies {
    judges: Vec<Judge>,
    pub digest: String,
}

struct Judge {
    name: String,
    matchers: Vec<GlobMatcher>,
    enforcement: Enforcement,
    set: PolicySet,
}

impl Policies {
    /// Loads what `definitions` declare from `tree`. A project that declares none uses the Rego files in `policy/`, if any.
    pub fn load(tree: &dyn Tree, definitions: &Definitions) -> AppResult<Self> {
        let (policies, diagnostics) = load(tree, definitions);
        if has_errors(&diagnostics) { Err(AppError::many(ErrorKind::Definition, diagnostics)) } else { Ok(policies) }
    }

    /// What they say about the plan of `stack`, sorted. Something that broke is a finding of its own, never a pass.
    pub fn judge(&self, stack: &StackId, plan: &serde_json::Value) -> Vec<Finding> {
        let mut findings = Vec::new();
        for judge in self
            .judges
            .iter()
            .filter(|j| j.matchers.is_empty() || j.matchers.iter().any(|m| m.is_match(stack.as_str())))
        {
            let evaluation = judge.set.evaluate(plan, &Limits::default());
            for mut finding in evaluation.findings {
                finding.source = format!("policy {}", judge.name);
                if judge.enforcement == Enforcement::Warn && finding.level == Level::Deny {
                    finding.level = Level::Warn;
                }
                findings.push(finding);
            }
            findings.extend(evaluation.broken.into_iter().map(|diagnostic| {
                let message = format!("[{}] {}", diagnostic.code, diagnostic.summary);
                let policy = diagnostic.labels.first().map(|l| l.span.clone());
                Finding { policy, ..Finding::new(Level::Broken, format!("policy {}", judge.name), message) }
            }));
        }
        findings.sort_by(|a, b| {
            (a.level, &a.address, &a.message, &a.rule).cmp(&(b.level, &b.address, &b.message, &b.rule))
        });
        findings.dedup();
        findings
    }

    pub fn is_empty(&self) -> bool {
        self.judges.is_empty()
    }
}

/// Everything wrong with the policies of a tree.
pub fn check(tree: &dyn Tree, definitions: &Definitions) -> Vec<Diagnostic> {
    load(tree, definitions).1
}

fn load(tree: &dyn Tree, definitions: &Definitions) -> (Policies, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut judges = Vec::new();
    let mut hash = Sha256::new();
    let conventional = [PolicyDefinition {
        name: "policy".into(),
        paths: vec!["policy".into()],
        matches: Vec::new(),
        namespaces: Vec::new(),
        enforcement: Enforcement::Deny,
        span: Span::file("policy"),
    }];
    let declared = !definitions.policies.is_empty();
    let list = if declared { definitions.policies.as_slice() } else { &conventional };
    for definition in list {
        let mut files: Vec<(Arc<str>, String)> = Vec::new();
        let mut data = Vec::new();
        for path in tree.paths().iter().filter(|p| definition.paths.iter().any(|wanted| lies_under(p, wanted))) {
            let is_rego = path.ends_with(".rego");
            if !is_rego && !path.ends_with(".json") {
                continue;
            }
            let content = tree.read(path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(content) = content else {
                diagnostics.push(
                    Diagnostic::error("WL401", format!("cannot read policy file {path} as UTF-8 text"))
                        .at(Span::file(path.clone())),
                );
                continue;
            };
            if is_rego {
                files.push((path.clone(), content));
            } else {
                match serde_json::from_str(&content) {
                    Ok(value) => data.push((path.clone(), value)),
                    Err(error) => diagnostics.push(
                        Diagnostic::error("WL401", format!("policy data {path} is not JSON: {error}"))
                            .at(Span { line: error.line() as u32, ..Span::file(path.clone()) }),
                    ),
                }
            }
        }
        if files.is_empty() {
            if declared {
                let paths = definition.paths.join(", ");
                diagnostics.push(
                    Diagnostic::error("WL402", format!("policy `{}` has no Rego file under {paths}", definition.name))
                        .at(definition.span.clone())
                        .help(
                            "a policy that selects nothing would pass everything: correct `paths`, or remove the block",
                        ),
                );
            }
            continue;
        }
        let options = LoadOptions { namespaces: definition.namespaces.clone() };
        match PolicySet::load(&files, &data, &options) {
            Ok(set) => {
                diagnostics.extend(hygiene::check(&files, &definition.namespaces, Some(InputKind::Plan)));
                hash.update(format!(
                    "{}\0{:?}\0{:?}\0{}\0",
                    definition.name,
                    definition.matches,
                    definition.enforcement,
                    set.digest()
                ));
                let matchers = definition.matches.iter().filter_map(|glob| windlass_lang::glob(glob).ok()).collect();
                judges.push(Judge {
                    name: definition.name.clone(),
                    matchers,
                    enforcement: definition.enforcement,
                    set,
                });
            }
            Err(found) => diagnostics.extend(found),
        }
    }
    (Policies { judges, digest: hex(&hash.finalize()) }, diagnostics)
}

fn lies_under(path: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_start_matches("./").trim_end_matches('/');
    wanted.is_empty()
        || wanted == "."
        || path == wanted
        || path.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('/'))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_lang::tree::MemoryTree;

    fn tree(files: &[(&str, &str)]) -> MemoryTree {
        MemoryTree::new(files.iter().map(|(path, content)| (path.to_string(), content.to_string())))
    }

    #[test]
    fn the_conventional_directory_judges_when_nothing_is_declared() {
        let tree = tree(&[("policy/a.rego", "package main\nimport rego.v1\ndeny contains \"no\" if input.bad\n")]);
        let policies = Policies::load(&tree, &Definitions::default()).unwrap();
        let findings = policies.judge(&"a".into(), &serde_json::json!({"bad": true}));
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].level, findings[0].message.as_str()), (Level::Deny, "no"));
        assert!(policies.judge(&"a".into(), &serde_json::json!({"bad": false})).is_empty());
    }

    #[test]
    fn rules_that_never_fire_on_plans_are_told() {
        let text = "package main\nimport rego.v1\ndeny contains \"no\" if input.resource.aws_s3_bucket\n";
        let found = check(&tree(&[("policy/a.rego", text)]), &Definitions::default());
        let codes: Vec<&str> = found.iter().map(|d| d.code.as_str()).collect();
        assert_eq!(codes, ["WL435", "WL434"]);
        assert!(!has_errors(&found));
    }

    #[test]
    fn a_declared_policy_without_files_is_an_error() {
        let mut definitions = Definitions::default();
        definitions.policies.push(PolicyDefinition {
            name: "p".into(),
            paths: vec!["polic".into()],
            matches: Vec::new(),
            namespaces: Vec::new(),
            enforcement: Enforcement::Deny,
            span: Span::file("windlass.hcl"),
        });
        let error = Policies::load(&tree(&[("policy/a.rego", "package main\n")]), &definitions).err().unwrap();
        assert_eq!(error.diagnostics[0].code, "WL402");
    }
}
