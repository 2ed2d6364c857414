//! The starter library: its own tests under the engine, what it says about itself, and its pages.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::collections::BTreeSet;
use std::path::Path;
use windlass_policy::engine::{Options, Rego};
use windlass_policy::hygiene::{self, InputKind};
use windlass_policy::library::{self, FILES, Library};
use windlass_policy::{Limits, LoadOptions, PolicySet};

fn below(directory: &Path, root: &Path, out: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, root, out);
        } else {
            out.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn every_file_is_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("library");
    let mut there = BTreeSet::new();
    below(&root, &root, &mut there);
    let embedded: Vec<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(embedded, there.into_iter().collect::<Vec<_>>());
}

/// Every `test_` rule is true, and together they evaluate all but a line of every file.
#[track_caller]
fn check_tests(data: Option<serde_json::Value>) {
    let mut rego = Rego::load(&library::files(), &Options::default()).unwrap();
    if let Some(data) = data {
        rego.add_data(&data).unwrap();
    }
    rego.enable_coverage();
    let mut failed = Vec::new();
    let mut number = 0;
    for (path, text) in FILES.iter().filter(|(path, _)| path.ends_with("_test.rego")) {
        let package = text.lines().find_map(|line| line.strip_prefix("package ")).unwrap();
        for name in text.lines().filter(|line| line.starts_with("test_")).filter_map(|line| line.split(' ').next()) {
            let value = rego.eval_rule(&format!("data.{package}.{name}"));
            if value != Ok(true.into()) {
                failed.push(format!("{path}: {name}: {value:?}"));
            }
            number += 1;
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(number > 130, "{number}");
    let coverage = rego.take_coverage().unwrap();
    let missed: Vec<_> =
        coverage.iter().filter(|(path, lines)| !path.ends_with("_test.rego") && lines.not_covered.len() > 1).collect();
    assert!(missed.is_empty(), "lines that no test evaluates: {missed:?}");
}

#[test]
fn all_tests_pass_whatever_a_team_has_set() {
    check_tests(None);
    let library = Library::read().unwrap();
    let odd = |default: &serde_json::Value| match default {
        serde_json::Value::Bool(value) => serde_json::json!(!value),
        serde_json::Value::Number(_) => serde_json::json!(1000),
        _ => serde_json::json!(["*"]),
    };
    let settings: serde_json::Map<_, _> =
        library.settings.iter().map(|setting| (setting.name.clone(), odd(&setting.default))).collect();
    check_tests(Some(serde_json::json!({"library": {"settings": settings}})));
}

#[test]
fn every_policy_describes_itself_and_has_a_test() {
    let library = Library::read().unwrap();
    assert_eq!(library.policies.len(), 23);
    for policy in &library.policies {
        let id = policy.id();
        let has = |path: String| FILES.iter().any(|(known, _)| *known == path);
        assert!(has(format!("{id}_test.rego")), "{id} has no tests");
        assert!(!policy.title.is_empty() && !policy.title.ends_with('.'), "{id}: {}", policy.title);
        assert!(policy.description.ends_with('.'), "{id}: {}", policy.description);
        assert!(policy.related.iter().all(|page| page.starts_with("https://")) && !policy.related.is_empty(), "{id}");
        let paths: Vec<&str> = policy.paths().collect();
        assert!(paths.contains(&"plan.rego") && paths.len() >= 4, "{paths:?}");
    }
    let quiet = hygiene::check(&library::files(), &[], Some(InputKind::Plan));
    assert!(quiet.is_empty(), "{quiet:?}");
}

#[test]
fn every_file_is_formatted() {
    for (path, text) in FILES {
        assert_eq!(windlass_policy::syntax::format(path, text).unwrap(), *text, "{path}");
    }
}

#[test]
fn policies_are_chosen_by_cloud_name_or_both() {
    let library = Library::read().unwrap();
    let ids = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        library.choose(&names).map(|found| found.into_iter().map(|policy| policy.id()).collect::<Vec<_>>())
    };
    assert_eq!(ids(&[]).unwrap().len(), 23);
    assert_eq!(ids(&["aws"]).unwrap().len(), 5);
    assert_eq!(ids(&["aws/tags"]).unwrap(), ["aws/tags"]);
    assert_eq!(ids(&["google-public-exposure", "aws_tags"]).unwrap(), ["aws/tags", "google/public_exposure"]);
    assert_eq!(ids(&["labels"]).unwrap(), ["google/labels", "kubernetes/labels"]);
    assert_eq!(ids(&["aws", "aw", "tag"]).unwrap_err(), ["aw", "tag"]);
}

#[test]
fn what_is_judged_by_everything_breaks_nothing() {
    let data = [("settings.json".into(), serde_json::json!({"library": {"settings": {"public_ports": [8443]}}}))];
    let set = PolicySet::load(&library::files(), &data, &LoadOptions::default()).unwrap();
    let library = Library::read().unwrap();
    let change = |kind: &str, after: serde_json::Value| {
        serde_json::json!({
            "address": format!("{kind}.x"), "mode": "managed", "type": kind, "provider_name": "registry.terraform.io/hashicorp/aws",
            "change": {"actions": ["delete", "create"], "before": {}, "after": after, "after_unknown": {"tags_all": true}},
        })
    };
    // Null, and of a shape that no provider has, wherever a policy looks.
    let mut types = BTreeSet::new();
    let pattern = regex::Regex::new("\"((?:aws|azurerm|google|kubernetes)_[a-z0-9_]+)\"").unwrap();
    for (_, text) in FILES {
        types.extend(pattern.captures_iter(text).map(|found| found[1].to_owned()));
    }
    assert!(types.len() > 150, "{}", types.len());
    let names = regex::Regex::new("\"([a-z][a-z0-9_]+)\"").unwrap();
    let attributes: BTreeSet<String> = FILES
        .iter()
        .filter(|(path, _)| !path.ends_with("_test.rego"))
        .flat_map(|(_, text)| names.captures_iter(text).map(|found| found[1].to_owned()))
        .collect();
    let shapes = [
        serde_json::json!(null),
        serde_json::json!(""),
        serde_json::json!("x"),
        serde_json::json!([]),
        serde_json::json!([null]),
        serde_json::json!([{}]),
        serde_json::json!(["x"]),
        serde_json::json!({}),
        serde_json::json!(1.5),
        serde_json::json!(false),
    ];
    for shape in shapes {
        let after: serde_json::Map<_, _> = attributes.iter().map(|name| (name.clone(), shape.clone())).collect();
        let changes: Vec<_> = types.iter().map(|kind| change(kind, after.clone().into())).collect();
        let plan = serde_json::json!({"format_version": "1.2", "resource_changes": changes, "configuration": {"root_module": {}}});
        let evaluation = set.evaluate(&plan, &Limits::default());
        assert_eq!(evaluation.broken, [], "every attribute is {shape}");
        assert!(!evaluation.findings.is_empty());
        for finding in &evaluation.findings {
            let rule = finding.rule.as_deref().unwrap_or_default();
            let policy =
                library.policies.iter().find(|p| rule.starts_with(&format!("data.library.{}.{}.", p.cloud, p.name)));
            let policy = policy.unwrap();
            assert_eq!(
                (finding.severity, finding.help.as_ref()),
                (Some(policy.severity), policy.related.first()),
                "{rule}"
            );
        }
    }
}

#[test]
fn every_policy_has_a_page_that_names_its_types_and_settings() {
    let library = Library::read().unwrap();
    let summary = std::fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let index = std::fs::read_to_string(docs().join("library/index.md")).unwrap();
    let pattern = regex::Regex::new("\"((?:aws|azurerm|google)_[a-z0-9_]+)\"").unwrap();
    let mentioned = regex::Regex::new("`((?:aws|azurerm|google)_[a-z0-9_]+)`").unwrap();
    let mut pages = BTreeSet::from(["index.md".to_owned()]);
    for policy in &library.policies {
        let id = policy.id();
        let name = format!("{}.md", id.replace(['/', '_'], "-"));
        let page = std::fs::read_to_string(docs().join("library").join(&name)).unwrap_or_else(|_| panic!("no {name}"));
        assert!(page.starts_with(&format!("# {}\n", policy.title)), "{name}: {}", policy.title);
        assert!(summary.contains(&format!("(library/{name})")), "{name} is not in SUMMARY.md");
        assert!(index.contains(&format!("[{id}]({name})")), "{name} is not in the index");
        let severity = format!("{:?}", policy.severity).to_lowercase();
        assert!(page.contains(&format!("severity {severity}")), "{name}: {severity}");
        let (_, text) = FILES.iter().find(|(path, _)| *path == format!("{id}.rego")).unwrap();
        let settings: BTreeSet<&str> = policy.settings.iter().map(String::as_str).collect();
        for name_of_type in pattern.captures_iter(text).map(|found| found[1].to_owned()) {
            let is_setting = settings.contains(name_of_type.as_str());
            assert!(is_setting || page.contains(&format!("`{name_of_type}`")), "{name} lacks {name_of_type}");
        }
        for found in mentioned.captures_iter(&page) {
            assert!(text.contains(&found[1]), "{name} names {}, which the policy does not", &found[1]);
        }
        for setting in library.settings_of(&[policy]) {
            let row = format!("| `{}` | `{}` | {} |", setting.name, setting.default, setting.meaning);
            assert!(page.contains(&row), "{name} lacks the row\n{row}");
        }
        pages.insert(name);
    }
    let there: BTreeSet<String> = std::fs::read_dir(docs().join("library"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, pages);
}
