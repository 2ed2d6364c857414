use super::*;
use serde_json::json;

fn load(text: &str) -> Result<PolicySet, Vec<Diagnostic>> {
    PolicySet::load(&[("policy/a.rego".into(), text.to_owned())], &[], &LoadOptions::default())
}

fn judge(text: &str, input: serde_json::Value) -> Vec<String> {
    let evaluation = load(text).unwrap_or_else(|d| panic!("{d:?}")).evaluate(&input, &Limits::default());
    assert_eq!(evaluation.broken, vec![]);
    evaluation.findings.into_iter().map(|f| format!("{:?} {} {}", f.level, f.rule.unwrap(), f.message)).collect()
}

const V1: &str = "package main\nimport rego.v1\n\ndeny contains msg if {\n  some r in input.resources\n  r.public\n  msg := sprintf(\"%s is public\", [r.name])\n}\n";

#[test]
fn conftests_rule_kinds_judge() {
    assert_eq!(
        judge(V1, json!({"resources": [{"name": "b", "public": true}, {"name": "a", "public": true}, {"name": "c"}]})),
        ["Deny data.main.deny a is public", "Deny data.main.deny b is public"]
    );
    let v0 = "package main\n\nviolation_x[{\"msg\": msg, \"address\": \"t.a\"}] {\n  input.x\n  msg = \"old\"\n}\nwarn[msg] {\n  msg = \"careful\"\n}\n";
    assert_eq!(judge(v0, json!({"x": true})), ["Deny data.main.violation_x old", "Warn data.main.warn careful"]);
    let excused = format!("{V1}\nexception contains rules if {{\n  input.excused\n  rules := [\"\"]\n}}\n");
    assert!(judge(&excused, json!({"excused": true, "resources": [{"name": "b", "public": true}]})).is_empty());
}

#[test]
fn findings_say_where_the_rule_stands() {
    let evaluation =
        load(V1).unwrap().evaluate(&json!({"resources": [{"name": "b", "public": true}]}), &Limits::default());
    assert_eq!(evaluation.findings[0].policy.as_ref().unwrap().to_string(), "policy/a.rego:4");
}

#[test]
fn what_would_silently_pass_is_refused_with_its_line() {
    let check = |body: &str, want: &str| {
        let text = format!("package main\nimport rego.v1\n{body}\n");
        let diagnostics = load(&text).err().unwrap_or_else(|| panic!("loaded: {body}"));
        assert!(diagnostics[0].summary.contains(want), "{diagnostics:?}");
        assert!(diagnostics[0].labels[0].span.line >= 3, "{diagnostics:?}");
    };
    check("deny contains \"x\" if {\n  count(y) > 0\n}", "var y is unsafe");
    check("deny contains \"x\" if startwith(input.a, \"b\")", "no function `startwith`");
    check("deny contains \"x\" if graphql.parse_query(input.b)", "graphql.parse_query");
    check("deny contains \"x\" if { not deny[\"y\"] }", "recursive");
    // Allowed forms of the same.
    load("package main\nimport rego.v1\ndeny contains \"x\" if {\n  walk(input, [p, v])\n  v == 1\n}\n# [p, v] := walk(x)\n").unwrap();
}

#[test]
fn a_gate_that_breaks_is_no_pass() {
    let broken = |text: &str, input: serde_json::Value| load(text).unwrap().evaluate(&input, &Limits::default()).broken;
    let not_a_set = broken("package main\nimport rego.v1\ndeny := \"x\" if input.a\n", json!({"a": true}));
    assert_eq!(not_a_set[0].code, "WL405");
    let number = broken("package main\nimport rego.v1\ndeny contains 1 if input.a\n", json!({"a": true}));
    assert_eq!(number[0].code, "WL406");
    let failing = broken(
        "package main\nimport rego.v1\ndeny contains \"x\" if to_number(input.a) > 1\n",
        json!({"a": "no number"}),
    );
    assert_eq!(failing[0].code, "WL406");
    let slow = "package main\nimport rego.v1\ndeny contains \"x\" if {\n  count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a == b]) == 0\n}\n";
    let evaluation = load(slow)
        .unwrap()
        .evaluate(&json!({}), &Limits { time: std::time::Duration::from_millis(50), ..Limits::default() });
    assert!(evaluation.broken[0].summary.contains("took longer"), "{evaluation:?}");
}

#[test]
fn files_without_rules_and_broken_files_are_refused() {
    assert_eq!(load("package main\nimport rego.v1\nallow if true\n").err().unwrap()[0].code, "WL403");
    let syntax = load("package main\nimport rego.v1\n\ndeny contains msg if {\n  msg := \n}\n").err().unwrap();
    assert_eq!(syntax[0].code, "WL407");
    assert!(syntax[0].labels[0].span.line >= 4, "{syntax:?}");
    let options = LoadOptions { namespaces: vec!["other".into()] };
    let wrong = PolicySet::load(&[("a.rego".into(), V1.into())], &[], &options).err().unwrap();
    assert!(wrong[0].help.as_ref().unwrap().contains("main"));
}

#[test]
fn findings_carry_what_the_rule_and_its_metadata_say() {
    let text = "package main\nimport rego.v1\n\n# METADATA\n# custom:\n#   severity: MEDIUM\n# related_resources:\n# - ref: https://example.com/a\ndeny contains {\"msg\": \"m\", \"resource\": \"t.a\", \"_loc\": {\"file\": \"a.tf\", \"line\": 3}} if input.a\nwarn contains {\"msg\": \"w\", \"severity\": \"low\"} if input.a\n";
    let found = load(text).unwrap().evaluate(&json!({"a": 1}), &Limits::default()).findings;
    let deny = &found[0];
    assert_eq!(deny.severity, Some(windlass_model::review::Severity::Medium));
    assert_eq!(deny.help.as_deref(), Some("https://example.com/a"));
    assert_eq!(deny.address.as_deref(), Some("t.a"));
    assert_eq!(deny.code.as_ref().unwrap().to_string(), "a.tf:3");
    assert_eq!(deny.policy.as_ref().unwrap().to_string(), "policy/a.rego:9");
    assert_eq!(found[1].severity, Some(windlass_model::review::Severity::Low));
}

fn checker(options: CheckOptions) -> Result<Checker, Vec<Diagnostic>> {
    let file = |path: &str, text: &str| (Arc::from(path), text.to_owned());
    let files = [
        file(
            "a.rego",
            "package k8s.simple\nimport rego.v1\ndeny contains \"a\" if input.a\ndeny contains \"b\" if input.b\ndeny_x := true if input.a\n",
        ),
        file("b.rego", "package net\nimport rego.v1\nwarn contains \"n\" if input.a\n"),
        file("c.rego", "package lib\nimport rego.v1\nhelper := 1\n"),
    ];
    Checker::load(&files, &[], &options, None)
}

#[test]
fn namespaces_are_chosen_by_patterns() {
    let check = |namespaces: &[&str], mode: Mode, want: Result<&[&str], &str>| {
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let loaded = checker(CheckOptions { namespaces, mode, ..CheckOptions::default() });
        let got = loaded.as_ref().map(Checker::namespaces).map_err(|diagnostics| diagnostics[0].code.as_str());
        assert_eq!(got.map(<[String]>::to_vec), want.map(|names| names.iter().map(|n| (*n).to_owned()).collect()));
    };
    check(&[], Mode::Strict, Ok(&["k8s.simple", "net"]));
    check(&[], Mode::Compatible, Ok(&["k8s.simple", "lib", "net"]));
    check(&["k8s.*"], Mode::Strict, Ok(&["k8s.simple"]));
    check(&["n?t", "*"], Mode::Strict, Ok(&["net", "k8s.simple"]));
    check(&["[kn]*"], Mode::Strict, Ok(&["k8s.simple", "net"]));
    check(&["lib"], Mode::Strict, Err("WL403"));
    check(&["lib"], Mode::Compatible, Ok(&["lib"]));
    check(&["x*"], Mode::Compatible, Ok(&[]));
}

#[test]
fn results_are_counted_as_conftest_counts() {
    let compatible = CheckOptions { mode: Mode::Compatible, ..CheckOptions::default() };
    let checker = checker(compatible).unwrap();
    let check = |input: serde_json::Value, want: (usize, usize, usize)| {
        let documents = Documents::of(&input);
        let path = std::path::Path::new("/x/a.json");
        let outcome = checker.check("a.json", path, &documents, "k8s.simple", &Limits::default());
        assert_eq!((outcome.successes, outcome.failures.len(), outcome.broken.len()), want, "{outcome:?}");
    };
    check(json!({}), (3, 0, 0));
    check(json!({"a": 1}), (2, 1, 0));
    check(json!({"a": 1, "b": 1}), (1, 2, 0));
    check(json!([{"a": 1}, {"b": 1}, {}]), (7, 2, 0));
    check(json!([]), (0, 0, 0));
}
