//! Gates that look like gates and are none: rules that can never fire on what they are given, functions named as denials, packages
//! that nobody tests.

use crate::conftest::{self, File, Head};
use std::collections::BTreeSet;
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

/// What the policies are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputKind {
    /// `terraform show -json` of a plan.
    Plan,
    /// Terraform configuration in the shape of [`crate::input::Parser::Hcl2`].
    Configuration,
}

impl InputKind {
    /// Names at the top of such an input.
    fn keys(self) -> &'static [&'static str] {
        match self {
            // What terraform 1.15 and tofu 1.11 write.
            Self::Plan => &[
                "action_invocations",
                "applyable",
                "checks",
                "complete",
                "configuration",
                "deferred_changes",
                "errored",
                "format_version",
                "output_changes",
                "planned_values",
                "prior_state",
                "proposed_unknown",
                "relevant_attributes",
                "resource_changes",
                "resource_drift",
                "terraform_version",
                "timestamp",
                "variables",
                // What stands beside the plan in a review.
                "windlass",
            ],
            Self::Configuration => &[
                "action",
                "check",
                "data",
                "ephemeral",
                "import",
                "list",
                "locals",
                "module",
                "moved",
                "output",
                "provider",
                "removed",
                "resource",
                "terraform",
                "variable",
            ],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plan => "the JSON of a plan",
            Self::Configuration => "Terraform configuration",
        }
    }

    /// The kind of a document, when it is one of these.
    pub fn of(document: &serde_json::Value) -> Option<Self> {
        let plan = document.get("format_version").is_some()
            && ["resource_changes", "planned_values", "output_changes"].iter().any(|key| document.get(key).is_some());
        plan.then_some(Self::Plan)
    }
}

/// Everything suspicious in Rego files (path, text) whose rules judge inputs of `kind`, or of any kind. `namespaces` are the packages
/// that judge; empty means all.
pub fn check(files: &[(Arc<str>, String)], namespaces: &[String], kind: Option<InputKind>) -> Vec<Diagnostic> {
    // What is wrong with the syntax is told when the policies are loaded.
    let Ok(files) = conftest::files(files) else { return Vec::new() };
    let text = |head: &Head| files.iter().find(|file| file.path == head.span.file).map_or("", |file| &*file.text);
    let all: Vec<&Head> = files.iter().flat_map(|file| &file.heads).collect();
    let chosen = |head: &&Head| head.judges() && (namespaces.is_empty() || namespaces.contains(&head.package));
    let judging: Vec<&Head> = all.iter().copied().filter(chosen).collect();
    let mut found = Vec::new();
    for head in judging.iter().filter(|head| head.is_function) {
        found.push(
            Diagnostic::warning(
                "WL436",
                format!("{} is a function: nobody calls it as a rule, so it never judges", head.path()),
            )
            .at_source(head.span.clone(), text(head), "")
            .help("give it another name, and call it from a rule that is a set"),
        );
    }
    if let Some(kind) = kind {
        for head in &judging {
            let Some(reads) = reads(head, &all).filter(|reads| !reads.is_empty()) else { continue };
            if reads.iter().any(|name| kind.keys().contains(&name.as_str())) {
                continue;
            }
            let names: Vec<String> = reads.iter().map(|name| format!("input.{name}")).collect();
            found.push(
                Diagnostic::warning(
                    "WL434",
                    format!(
                        "{} can never fire: it reads {} of {}, which has no such thing",
                        head.path(),
                        names.join(", "),
                        kind.name()
                    ),
                )
                .at_source(head.span.clone(), text(head), "never fires")
                .help(format!("at the top are: {}", kind.keys().join(", "))),
            );
        }
    }
    found.extend(untested(&judging, &files));
    found.sort_by(|a, b| {
        a.labels.first().map(|l| &l.span).cmp(&b.labels.first().map(|l| &l.span)).then_with(|| a.code.cmp(&b.code))
    });
    found
}

/// A notice for each package that no test speaks of.
fn untested(judging: &[&Head], files: &[File]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for head in judging {
        if !seen.insert(head.package.as_str()) {
            continue;
        }
        let package = format!("data.{}", head.package);
        let below = format!("{package}.");
        let is = |path: &String| *path == package || path.starts_with(&below);
        let tested = files.iter().any(|file| {
            let mut tests = file.heads.iter().filter(|test| test.name.starts_with("test_")).peekable();
            let imported = file.package == head.package || file.imports.iter().any(is);
            tests.peek().is_some() && (imported || tests.any(|test| test.paths.iter().any(is)))
        });
        if !tested {
            found.push(
                Diagnostic::notice("WL435", format!("package {} has no test", head.package))
                    .at(Span::file(head.span.file.clone()))
                    .help("write a rule `test_…` in a file `…_test.rego` beside it; `windlass policy test` runs it"),
            );
        }
    }
    found
}

/// What a rule and all that it calls read; `None` when that cannot be said.
fn reads(head: &Head, all: &[&Head]) -> Option<BTreeSet<String>> {
    let mut names: BTreeSet<&str> = BTreeSet::from([head.name.as_str()]);
    let mut pending = vec![head];
    let mut reads = BTreeSet::new();
    while let Some(head) = pending.pop() {
        if head.reads.whole {
            return None;
        }
        reads.extend(head.reads.names.iter().cloned());
        for word in &head.words {
            let called: Vec<&Head> = all.iter().copied().filter(|other| other.name == *word).collect();
            if !called.is_empty() && names.insert(word) {
                pending.extend(called);
            }
        }
    }
    Some(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_plan(text: &str, want: &[(&str, u32)]) {
        let found = check(&[("p.rego".into(), text.to_owned())], &[], Some(InputKind::Plan));
        let got: Vec<(&str, u32)> = found.iter().map(|d| (d.code.as_str(), d.labels[0].span.line)).collect();
        assert_eq!(got, want, "{text}\n{found:?}");
    }

    #[test]
    fn rules_that_read_nothing_of_a_plan_are_found() {
        let tested = "test_x if { true }\n";
        let rule = |body: &str| format!("package p\nimport rego.v1\ndeny contains \"x\" if {{\n\t{body}\n}}\n{tested}");
        check_plan(&rule("input.resource.aws_s3_bucket"), &[("WL434", 3)]);
        check_plan(&rule("input[\"resource\"].x"), &[("WL434", 3)]);
        check_plan(&rule("some r in input.resource_changes\n\tinput.resource"), &[]);
        check_plan(&rule("walk(input, [p, v])"), &[]);
        check_plan(&rule("input[k]"), &[]);
        check_plan(&rule("data.input.resource"), &[]);
        check_plan(&rule("\"input.resource\" == \"\""), &[]);
        check_plan(&rule("# input.resource\n\ttrue"), &[]);
        // Through what it calls.
        check_plan(&format!("{}bad contains r if some r in input.resource\n", rule("some r in bad")), &[("WL434", 3)]);
        check_plan(&format!("{}bad contains r if some r in input.resource_changes\n", rule("some r in bad")), &[]);
        check_plan(&format!("{}bad(x) if input.resource[x]\n", rule("bad(1)")), &[("WL434", 3)]);
    }

    #[test]
    fn functions_and_untested_packages_are_found() {
        check_plan("package p\nimport rego.v1\ndeny(x) := {1} if x\n", &[("WL435", 1), ("WL436", 3)]);
        check_plan("package p\nimport rego.v1\nhelper(x) := {1} if x\n", &[]);
        let rule = ("p.rego".into(), "package p\nimport rego.v1\ndeny contains \"x\" if input.a\n".to_owned());
        let test = |text: &str| {
            let test = ("p_test.rego".into(), text.to_owned());
            check(&[rule.clone(), test], &[], None).len()
        };
        assert_eq!(test("package p_test\nimport rego.v1\nimport data.p\ntest_a if count(p.deny) == 0\n"), 0);
        assert_eq!(test("package p\nimport rego.v1\ntest_a if count(deny) == 0\n"), 0);
        assert_eq!(test("package q\nimport rego.v1\ntest_a if data.pq.x\n"), 1);
    }
}
