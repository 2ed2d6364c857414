//! The policies of a project, loaded from one tree and the bundles it pins, and what they decide.

use crate::bundles::Bundles;
use crate::error::{AppError, AppResult, ErrorKind};
use globset::GlobMatcher;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use windlass_lang::tree::{MemoryTree, Tree};
use windlass_model::definition::{DecisionKind, Definitions, Enforcement, PolicyDefinition, PolicyEngine};
use windlass_model::diagnostic::{Diagnostic, Span, has_errors};
use windlass_model::id::StackId;
use windlass_model::review::{Finding, Level};
use windlass_policy::decision::input::Input;
use windlass_policy::decision::{Decision, Origin, Policy, Sources, Terms};
use windlass_policy::hygiene::{self, InputKind};
use windlass_policy::{Document, Limits};

/// Who wrote the policies of a tree. Those of bundles come from elsewhere in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// They are on the branch that decides.
    Organisation,
    /// Nobody has agreed to them yet: a change, a work tree.
    Anybody,
}

/// All policies that decide, ready to judge.
pub struct Policies {
    judges: Vec<Judge>,
    limits: Limits,
    pub digest: String,
}

struct Judge {
    matchers: Vec<GlobMatcher>,
    enforcement: Enforcement,
    policy: Policy,
}

impl Policies {
    /// Loads what `definitions` declare from `tree` and from bundles. A project that declares no policy over plans uses the Rego
    /// files in `policy/` that no other policy has, if any.
    pub fn load(tree: &dyn Tree, definitions: &Definitions, bundles: &Bundles, author: Author) -> AppResult<Self> {
        let (policies, diagnostics) = load(tree, definitions, bundles, author);
        if has_errors(&diagnostics) { Err(AppError::many(ErrorKind::Definition, diagnostics)) } else { Ok(policies) }
    }

    /// Gives each policy these limits for each answer.
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What all policies of the input's kind decide about it; those over a plan only where the stack is theirs. Something that
    /// broke is a finding of its own, never a pass.
    pub fn decide(&self, stack: Option<&StackId>, input: &Input) -> Decision {
        self.decide_with(stack, input.kind, Document::from(&input.value), &self.limits, |_| true)
    }

    /// As [`Policies::decide`] about a plan that nobody has read.
    pub fn decide_plan(&self, stack: &StackId, plan: Document<'_>) -> Decision {
        self.decide_with(Some(stack), DecisionKind::Plan, plan, &self.limits, |_| true)
    }

    /// As [`Policies::decide`], by the policies in this program only, each within its limits.
    pub fn decide_embedded(&self, stack: Option<&StackId>, input: &Input, limits: &Limits) -> Decision {
        let document = Document::from(&input.value);
        self.decide_with(stack, input.kind, document, limits, |policy| policy.engine() == PolicyEngine::Embedded)
    }

    fn decide_with(
        &self,
        stack: Option<&StackId>,
        kind: DecisionKind,
        document: Document<'_>,
        limits: &Limits,
        wanted: impl Fn(&Policy) -> bool,
    ) -> Decision {
        let mut decision = Decision::new(kind);
        let asked = self.judges.iter().filter(|judge| {
            let matches = |id: &StackId| judge.matchers.iter().any(|m| m.is_match(id.as_str()));
            judge.policy.kind() == kind && (judge.matchers.is_empty() || stack.is_none_or(matches))
        });
        for judge in asked.filter(|judge| wanted(&judge.policy)) {
            let mut found = judge.policy.decide_document(&document, limits);
            if judge.enforcement == Enforcement::Warn {
                let denials = found.findings.iter_mut().filter(|finding| finding.level == Level::Deny);
                denials.for_each(|finding| finding.level = Level::Warn);
            }
            decision.merge(found);
        }
        sort(&mut decision.findings);
        decision
    }

    /// Whether any policy is of that kind.
    pub fn has(&self, kind: DecisionKind) -> bool {
        self.judges.iter().any(|judge| judge.policy.kind() == kind)
    }

    /// Whether any policy is decided by that engine.
    pub fn uses(&self, engine: PolicyEngine) -> bool {
        self.judges.iter().any(|judge| judge.policy.engine() == engine)
    }

    pub fn is_empty(&self) -> bool {
        self.judges.is_empty()
    }
}

fn sort(findings: &mut Vec<Finding>) {
    findings
        .sort_by(|a, b| (a.level, &a.address, &a.message, &a.rule).cmp(&(b.level, &b.address, &b.message, &b.rule)));
    findings.dedup();
}

/// Everything wrong with the policies of a tree.
pub fn check(tree: &dyn Tree, definitions: &Definitions, bundles: &Bundles) -> Vec<Diagnostic> {
    load(tree, definitions, bundles, Author::Anybody).1
}

fn load(tree: &dyn Tree, definitions: &Definitions, bundles: &Bundles, author: Author) -> (Policies, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut judges = Vec::new();
    let mut hash = Sha256::new();
    let teams: Vec<String> = definitions.teams.iter().map(|team| team.name.clone()).collect();
    let mut taken: BTreeSet<Arc<str>> = BTreeSet::new();
    let conventional = conventional();
    let over_plans = definitions.policies.iter().any(|policy| policy.decides == DecisionKind::Plan);
    let list = definitions.policies.iter().map(|policy| (policy, true));
    for (definition, declared) in list.chain((!over_plans).then_some((&conventional, false))) {
        let mut sources = match &definition.source {
            None => {
                let mut found = read(tree, &definition.paths, "", &mut diagnostics);
                if !declared {
                    // What another policy is made of is no policy over plans.
                    found.files.retain(|(path, _)| !taken.contains(path));
                }
                taken.extend(found.files.iter().map(|(path, _)| path.clone()));
                found
            }
            Some(text) => match bundles.get(definition, text) {
                Ok(files) => {
                    let everything = [String::new()];
                    let paths = if definition.paths.is_empty() { &everything[..] } else { &definition.paths };
                    let prefix = format!("bundle:{}/", definition.name);
                    read(&MemoryTree::new(files), paths, &prefix, &mut diagnostics)
                }
                Err(diagnostic) => {
                    diagnostics.push(*diagnostic);
                    continue;
                }
            },
        };
        if sources.files.is_empty() {
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
        sources.namespaces.clone_from(&definition.namespaces);
        let origin = match (author, &definition.source) {
            (Author::Organisation, None) => Origin::Own(bundles.worker.clone()),
            _ => Origin::Elsewhere(bundles.worker.clone()),
        };
        let terms = Terms {
            name: definition.name.clone(),
            origin,
            kind: definition.decides,
            engine: definition.engine,
            teams: teams.clone(),
            scratch: bundles.scratch.clone(),
        };
        match Policy::load(terms, &sources) {
            Ok((policy, warnings)) => {
                diagnostics.extend(warnings);
                if !matches!(definition.decides, DecisionKind::Approval | DecisionKind::Access) {
                    let kind = (definition.decides == DecisionKind::Plan).then_some(InputKind::Plan);
                    diagnostics.extend(hygiene::check(&sources.files, &definition.namespaces, kind));
                }
                hash.update(format!(
                    "{}\0{:?}\0{:?}\0{}\0",
                    definition.name,
                    definition.matches,
                    definition.enforcement,
                    policy.digest()
                ));
                let matchers = definition.matches.iter().filter_map(|glob| windlass_lang::glob(glob).ok()).collect();
                judges.push(Judge { matchers, enforcement: definition.enforcement, policy });
            }
            Err(found) => diagnostics.extend(found),
        }
    }
    (Policies { judges, limits: Limits::default(), digest: hex(&hash.finalize()) }, diagnostics)
}

/// What is used without any configuration.
fn conventional() -> PolicyDefinition {
    PolicyDefinition {
        name: "policy".into(),
        decides: DecisionKind::Plan,
        paths: vec!["policy".into()],
        source: None,
        checksum: None,
        matches: Vec::new(),
        namespaces: Vec::new(),
        enforcement: Enforcement::Deny,
        engine: PolicyEngine::Embedded,
        waivers: None,
        span: Span::file("policy"),
    }
}

/// The Rego files and JSON documents under `paths`; `prefix` goes before their names.
fn read(tree: &dyn Tree, paths: &[String], prefix: &str, diagnostics: &mut Vec<Diagnostic>) -> Sources {
    let mut sources = Sources::default();
    for path in tree.paths().iter().filter(|p| paths.iter().any(|wanted| lies_under(p, wanted))) {
        let is_rego = path.ends_with(".rego");
        if !is_rego && !path.ends_with(".json") {
            continue;
        }
        let name: Arc<str> = if prefix.is_empty() { path.clone() } else { format!("{prefix}{path}").into() };
        let content = tree.read(path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(content) = content else {
            diagnostics.push(
                Diagnostic::error("WL401", format!("cannot read policy file {name} as UTF-8 text"))
                    .at(Span::file(name.clone())),
            );
            continue;
        };
        if is_rego {
            sources.files.push((name, content));
        } else {
            match serde_json::from_str(&content) {
                Ok(value) => sources.data.push((name, value)),
                Err(error) => diagnostics.push(
                    Diagnostic::error("WL401", format!("policy data {name} is not JSON: {error}"))
                        .at(Span { line: error.line() as u32, ..Span::file(name.clone()) }),
                ),
            }
        }
    }
    sources
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
    use crate::bundles::Fetch;
    use crate::settings::StateDirectory;

    fn load(files: &[(&str, &str)], windlass: &str) -> AppResult<Policies> {
        let all = files.iter().copied().chain([("windlass.hcl", windlass)]);
        let tree = MemoryTree::new(all.map(|(path, content)| (path.to_string(), content.to_string())));
        let (definitions, diagnostics) = windlass_lang::definitions::load(&tree);
        assert_eq!(diagnostics, vec![]);
        let directory = StateDirectory::at(std::path::Path::new("/nonexistent"));
        Policies::load(&tree, &definitions, &Bundles::new(&directory, Fetch::Never), Author::Organisation)
    }

    fn judged(policies: &Policies, kind: DecisionKind, input: serde_json::Value) -> Vec<String> {
        let decision = policies.decide(Some(&"a".into()), &Input { kind, value: input });
        decision.findings.iter().map(|f| format!("{:?} {}: {}", f.level, f.source, f.message)).collect()
    }

    const PLAN: &str = "package main\nimport rego.v1\ndeny contains \"no\" if input.errored\n";
    const REVIEW: &str = "package change\nimport rego.v1\ndeny contains \"big\" if input.risk == \"high\"\n";

    #[test]
    fn the_conventional_directory_judges_unless_a_policy_over_plans_is_declared() {
        let plan = serde_json::json!({ "errored": true });
        let only = load(&[("policy/a.rego", PLAN)], "").unwrap();
        assert_eq!(judged(&only, DecisionKind::Plan, plan.clone()), ["Deny policy policy: no"]);
        assert!(judged(&only, DecisionKind::Plan, serde_json::json!({ "errored": false })).is_empty());
        // A policy about something else does not switch it off, and is none itself.
        let both = load(
            &[("policy/a.rego", PLAN), ("policy/review/b.rego", REVIEW)],
            "policy \"big\" {\n  decides = \"review\"\n  paths = [\"policy/review\"]\n}\n",
        )
        .unwrap();
        assert_eq!(judged(&both, DecisionKind::Plan, plan.clone()), ["Deny policy policy: no"]);
        let high = serde_json::json!({ "risk": "high" });
        assert_eq!(judged(&both, DecisionKind::Review, high), ["Deny policy big: big"]);
        let declared = load(
            &[("policy/a.rego", PLAN), ("other/a.rego", PLAN)],
            "policy \"p\" {\n  paths = [\"other\"]\n  enforcement = \"warn\"\n}\n",
        )
        .unwrap();
        assert_eq!(judged(&declared, DecisionKind::Plan, plan), ["Warn policy p: no"]);
        assert!(declared.has(DecisionKind::Plan) && !declared.has(DecisionKind::Review));
        assert_ne!(declared.digest, both.digest);
    }

    #[test]
    fn rules_that_never_fire_on_plans_are_told() {
        let text = "package main\nimport rego.v1\ndeny contains \"no\" if input.resource.aws_s3_bucket\n";
        let tree = MemoryTree::new([("policy/a.rego", text)]);
        let directory = StateDirectory::at(std::path::Path::new("/nonexistent"));
        let found = check(&tree, &Definitions::default(), &Bundles::new(&directory, Fetch::Never));
        let codes: Vec<&str> = found.iter().map(|d| d.code.as_str()).collect();
        assert_eq!(codes, ["WL450", "WL435", "WL434"]);
        assert!(!has_errors(&found));
    }

    #[test]
    fn a_policy_that_would_pass_everything_is_an_error() {
        let check = |windlass: &str, code: &str| {
            let error = load(&[("policy/a.rego", PLAN)], windlass).err().unwrap_or_else(|| panic!("{windlass}"));
            assert!(error.diagnostics.iter().any(|d| d.code == code), "{windlass}: {error:?}");
        };
        check("policy \"p\" {\n  paths = [\"polic\"]\n}\n", "WL402");
        check("policy \"p\" {\n  source = \"git::https://h/r?ref=main\"\n}\n", "WL471");
        check("policy \"p\" {\n  source = \"https://h/r?ref=main\"\n}\n", "WL470");
        check(&format!("policy \"p\" {{\n  source = \"git::https://h/r?ref={}\"\n}}\n", "0".repeat(40)), "WL473");
        check("policy \"p\" {\n  decides = \"approval\"\n  paths = [\"policy\"]\n}\n", "WL451");
    }
}
