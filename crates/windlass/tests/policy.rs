//! Policies on files: `windlass policy`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::{expect, run};
use std::io::Write;
use std::process::Stdio;
use windlass_testkit::cli::CliEnv;

const RULES: &str = r#"# METADATA
# title: Exposure
package main

import rego.v1

# METADATA
# title: Nothing is public
# description: A public bucket is read by everybody.
# related_resources:
# - ref: https://example.com/public
# custom:
#   severity: HIGH
deny_public contains {"msg": msg, "address": r.name, "_loc": {"file": "main.tf", "line": 7}} if {
	some r in input.resources
	r.public
	msg := sprintf("%s is public", [r.name])
}

warn contains "old" if input.old

exception contains ["public"] if input.excused
"#;

const TESTS: &str = r#"package main

import rego.v1

test_public_is_denied if count(deny_public) == 1 with input as {"resources": [{"name": "a", "public": true}]}

test_private_passes if {
	found := deny_public with input as {"resources": [{"name": "a", "public": false}]}
	print("found", found)
	count(found) == 0
}

todo_test_later if false
"#;

const BAD: &str =
    "{\"resources\": [{\"name\": \"b\", \"public\": true}, {\"name\": \"a\", \"public\": true}], \"old\": true}";

fn env(files: &[(&str, &str)]) -> CliEnv {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    for (path, content) in files {
        env.write(path, content).unwrap();
    }
    env
}

fn usual() -> CliEnv {
    env(&[
        ("policy/a.rego", RULES),
        ("policy/a_test.rego", TESTS),
        ("bad.json", BAD),
        ("good.json", "{}"),
        ("warn.json", "{\"old\": true}"),
    ])
}

/// Runs with a text on standard input.
fn piped(env: &CliEnv, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = env.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn files_are_judged_and_the_exit_code_says_how() {
    let env = usual();
    let answer = expect(&env, &["policy", "check", "bad.json", "good.json"], 1, &[]);
    assert_eq!(
        answer.stdout,
        "WARN - bad.json - main - old\n       data.main.warn, policy/a.rego:20\n\
         FAIL - bad.json - main - a is public\n       data.main.deny_public, policy/a.rego:14, high, a\n\
         FAIL - bad.json - main - b is public\n       data.main.deny_public, policy/a.rego:14, high, b\n\n\
         5 tests, 2 passed, 1 warning, 2 failures, 0 exceptions\n"
    );
    assert_eq!(answer.stderr, "");
    expect(&env, &["policy", "check", "good.json"], 0, &["2 tests, 2 passed"]);
    expect(&env, &["policy", "check", "warn.json"], 0, &["1 warning"]);
    expect(&env, &["policy", "check", "--fail-on-warn", "good.json"], 0, &[]);
    expect(&env, &["policy", "check", "--fail-on-warn", "warn.json"], 1, &[]);
    expect(&env, &["policy", "check", "--fail-on-warn", "bad.json"], 2, &[]);
    expect(&env, &["policy", "check", "--no-fail", "bad.json"], 0, &["2 failures"]);
    expect(
        &env,
        &["policy", "check", "--trace", "bad.json"],
        1,
        &["trace: bad.json: data.main.deny_public (policy/a.rego:14): 2 results in"],
    );
    let quiet = expect(&env, &["policy", "check", "--quiet", "good.json"], 0, &[]);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let excused = BAD.replace("\"old\"", "\"excused\"");
    let (code, text, _) = piped(&env, &["policy", "check", "--stdin-filename", "x.json", "-"], &excused);
    assert_eq!(code, Some(0));
    assert!(text.contains("EXCP - x.json - main - data.main.exception[_][_] == \"public\"\n"), "{text}");
}

#[test]
fn a_broken_gate_never_passes() {
    let env = usual();
    let broken = |arguments: &[&str], texts: &[&str]| drop(expect(&env, arguments, 3, texts));
    broken(&["policy", "check", "-n", "nothing", "good.json"], &["WL403", "packages with rules: main"]);
    broken(&["policy", "check", "-p", "none", "good.json"], &["WL433"]);
    broken(&["policy", "check", "none.json"], &["WL433"]);
    env.write("broken.json", "{\"a\":\n  1,, }").unwrap();
    broken(&["policy", "check", "broken.json"], &["WL430", "broken.json:2:", "1,, }"]);
    broken(&["policy", "check", "--no-fail", "good.json", "broken.json"], &["WL430"]);
    env.write("x.cue", "a: 1").unwrap();
    broken(&["policy", "check", "x.cue"], &["WL431", "cue export"]);
    // What as YAML is one plain text would pass any policy.
    env.write("Jenkinsfile", "pipeline { agent any }\n").unwrap();
    broken(&["policy", "check", "Jenkinsfile"], &["WL431", "groovy"]);
    env.write("script", "echo x\n").unwrap();
    broken(&["policy", "check", "script"], &["WL431", "--parser"]);
    assert_eq!(piped(&env, &["policy", "check", "-"], "echo x\n").0, Some(3));
    env.write("set/a.rego", "package main\nimport rego.v1\ndeny := \"x\" if input.a\n").unwrap();
    env.write("a.json", "{\"a\": 1}").unwrap();
    broken(&["policy", "check", "-p", "set", "a.json"], &["WL405", "set/a.rego:3", "BROKE", "1 broken"]);
    env.write("fails/a.rego", "package main\nimport rego.v1\ndeny contains \"x\" if to_number(input.a) > 1\n").unwrap();
    env.write("text.json", "{\"a\": \"b\"}").unwrap();
    broken(&["policy", "check", "-p", "fails", "text.json"], &["WL406"]);
    env.write("syntax/a.rego", "package main\nimport rego.v1\n\ndeny contains msg if {\n  msg := \n}\n").unwrap();
    for format in ["json", "tap", "table", "junit", "github", "sarif", "azuredevops"] {
        let answer = expect(&env, &["policy", "check", "-p", "syntax", "-o", format, "a.json"], 3, &[]);
        assert!(answer.stdout.contains("WL407"), "{format}: {}", answer.stdout);
    }
    // Conftest's own way is there for those who ask for it.
    expect(&env, &["policy", "check", "--compatible", "-n", "nothing", "good.json"], 0, &["0 tests"]);
    expect(&env, &["policy", "check", "--compatible", "-p", "set", "a.json"], 0, &["1 passed"]);
    expect(&env, &["policy", "check", "--compatible", "-p", "fails", "text.json"], 0, &["1 passed"]);
    expect(
        &env,
        &["policy", "check", "--compatible", "--show-builtin-errors", "-p", "fails", "text.json"],
        1,
        &["WL406"],
    );
    expect(&env, &["policy", "check", "--compatible", "--strict", "-n", "nothing", "good.json"], 3, &["WL403"]);
}

#[test]
fn many_kinds_of_files_are_judged() {
    let env = env(&[
        (
            "policy/a.rego",
            "package main\nimport rego.v1\ndeny contains msg if {\n\tsome path, value\n\twalk(input, [path, value])\n\tvalue == \"bad\"\n\tmsg := sprintf(\"bad at %v\", [path])\n}\n",
        ),
        ("in/a.yaml", "a: good\n---\nb: bad\n"),
        ("in/b.toml", "[x]\ny = \"bad\"\n"),
        ("in/c.tf", "resource \"t\" \"n\" {\n  v = \"bad\"\n}\n"),
        ("in/Dockerfile", "FROM bad\n"),
        ("in/e.ini", "[s]\nk = bad\n"),
        ("in/.env", "A=bad\n"),
        ("in/g.properties", "a.b=bad\n"),
        ("in/h.xml", "<r><x>bad</x></r>\n"),
        ("in/readme.md", "bad\n"),
        ("in/skip/i.json", "\"bad\""),
    ]);
    let answer = expect(&env, &["policy", "check", "--ignore", "skip/", "in"], 1, &["8 failures"]);
    for line in [
        "FAIL - in/.env - main - bad at [\"A\"]",
        "FAIL - in/Dockerfile - main - bad at [0, \"Value\", 0]",
        "FAIL - in/a.yaml - main - bad at [\"b\"]",
        "FAIL - in/b.toml - main - bad at [\"x\", \"y\"]",
        "FAIL - in/c.tf - main - bad at [\"resource\", \"t\", \"n\", 0, \"v\"]",
        "FAIL - in/e.ini - main - bad at [\"s\", \"k\"]",
        "FAIL - in/g.properties - main - bad at [\"a.b\"]",
        "FAIL - in/h.xml - main - bad at [\"r\", \"x\"]",
    ] {
        assert!(answer.stdout.contains(line), "{line}\n{}", answer.stdout);
    }
    let combined = expect(&env, &["policy", "check", "--combine", "in/a.yaml", "in/b.toml"], 1, &[]);
    assert!(
        combined.stdout.contains("FAIL - Combined - main - bad at [0, \"contents\", 1, \"b\"]"),
        "{}",
        combined.stdout
    );
    assert!(
        combined.stdout.contains("FAIL - Combined - main - bad at [1, \"contents\", \"x\", \"y\"]"),
        "{}",
        combined.stdout
    );
    expect(&env, &["policy", "check", "--parser", "yaml", "in/readme.md"], 1, &["bad at []"]);
}

#[test]
fn settings_of_conftest_are_honoured() {
    let mut env = env(&[
        ("rules/a.rego", "package net\nimport rego.v1\nwarn contains msg if msg := data.limits.text\n"),
        ("values/limits/a.yaml", "text: from data\n"),
        ("x.json", "{}"),
        (
            "conftest.toml",
            "policy = \"rules\"\ndata = [\"values\"]\nnamespace = \"net\"\nfail-on-warn = true\noutput = \"tap\"\n",
        ),
    ]);
    expect(&env, &["policy", "check", "x.json"], 1, &["not ok 1 - x.json - net - from data"]);
    expect(&env, &["policy", "check", "-o", "text", "x.json"], 1, &["WARN - x.json - net - from data"]);
    env.set("CONFTEST_FAIL_ON_WARN", "false");
    expect(&env, &["policy", "check", "x.json"], 0, &["not ok 1"]);
    env.set("CONFTEST_NAMESPACE", "other");
    expect(&env, &["policy", "check", "x.json"], 3, &["WL403"]);
    expect(&env, &["policy", "check", "-n", "n*", "x.json"], 0, &["not ok 1"]);
    expect(&env, &["policy", "check", "--all-namespaces", "x.json"], 0, &["not ok 1"]);
    env.set("CONFTEST_OUTPUT", "nothing");
    expect(&env, &["policy", "check", "x.json"], 3, &["WL432", "azuredevops"]);
}

#[test]
fn policies_of_the_project_judge_when_none_is_named() {
    let env = env(&[
        (
            "windlass.hcl",
            "policy \"net\" {\n  paths = [\"gates/net\"]\n}\npolicy \"soft\" {\n  paths       = [\"gates/soft\"]\n  enforcement = \"warn\"\n}\n",
        ),
        ("gates/net/a.rego", "package net\nimport rego.v1\ndeny contains \"hard\" if input.a\n"),
        ("gates/soft/a.rego", "package soft\nimport rego.v1\ndeny contains \"soft\" if input.a\n"),
        ("x.json", "{\"a\": 1}"),
    ]);
    expect(&env, &["policy", "check", "x.json"], 1, &["FAIL - x.json - net - hard", "WARN - x.json - soft - soft"]);
    expect(&env, &["policy", "check", "-n", "soft", "x.json"], 0, &["WARN - x.json - soft - soft"]);
    expect(&env, &["policy", "check", "-n", "none", "x.json"], 3, &["WL403"]);
}

#[test]
fn data_beside_the_policies_is_that_of_reviews() {
    let rule = "package main\nimport rego.v1\ndeny contains \"forbidden\" if input.name in data.forbidden\n";
    let files = [
        ("policy/a.rego", rule),
        ("policy/lists/b.json", "{\"forbidden\": [\"x\"]}"),
        ("other/a.rego", rule),
        ("x.yaml", "name: x\n"),
    ];
    let env = env(&files);
    expect(&env, &["policy", "check", "x.yaml"], 1, &["forbidden"]);
    // What is named is what there is, as with Conftest.
    expect(&env, &["policy", "check", "-p", "policy", "x.yaml"], 0, &[]);
    expect(&env, &["policy", "check", "--compatible", "x.yaml"], 0, &[]);
    expect(&env, &["policy", "check", "-p", "policy", "-d", "policy/lists", "x.yaml"], 1, &["forbidden"]);
    env.write("windlass.hcl", "policy \"p\" {\n  paths = [\"other\", \"policy/lists\"]\n}\n").unwrap();
    expect(&env, &["policy", "check", "x.yaml"], 1, &["forbidden"]);
}

#[test]
fn suspicious_gates_are_told() {
    let plan = "{\"format_version\": \"1.2\", \"resource_changes\": [], \"planned_values\": {}}";
    let env = env(&[
        (
            "policy/a.rego",
            "package main\nimport rego.v1\n\ndeny contains \"x\" if input.resource.aws_s3_bucket.b.acl == \"public\"\n\ndeny_b contains \"y\" if {\n\tsome change in input.resource_changes\n\tchange.bad\n}\n",
        ),
        ("plan.json", plan),
        ("main.tf", "resource \"aws_s3_bucket\" \"b\" {\n  acl = \"public\"\n}\n"),
    ]);
    let answer = expect(
        &env,
        &["policy", "check", "plan.json"],
        0,
        &["WL434", "data.main.deny can never fire", "policy/a.rego:4", "WL435"],
    );
    assert!(!answer.stderr.contains("deny_b can never fire"), "{}", answer.stderr);
    let answer = run(&env, &["policy", "check", "main.tf"]);
    assert!(
        answer.stderr.contains("deny_b can never fire") && !answer.stderr.contains("deny can never fire"),
        "{}",
        answer.stderr
    );
    env.git_init().unwrap();
    expect(&env, &["check"], 0, &["WL434", "WL435"]);
}

#[test]
fn tests_of_policies_run() {
    let env = usual();
    expect(&env, &["policy", "test"], 0, &["SKIP   data.main.todo_test_later", "3 tests, 2 passed", "1 skipped"]);
    expect(&env, &["policy", "verify", "policy", "--run", "denied$"], 0, &["1 test, 1 passed"]);
    env.write("policy/values.yaml", "a: 1\n").unwrap();
    env.write(
        "policy/file_test.rego",
        "package main\nimport rego.v1\ntest_file if parse_config_file(\"values.yaml\").a == 1\n",
    )
    .unwrap();
    expect(&env, &["policy", "test", "--run", "test_file"], 0, &["1 test, 1 passed"]);
    expect(&env, &["policy", "test", "--run", "nothing"], 3, &["WL433"]);
    let covered = expect(&env, &["policy", "test", "--coverage"], 0, &["policy/a.rego", "of the lines are covered"]);
    assert!(!covered.stdout.contains("a_test.rego  "), "{}", covered.stdout);
    expect(&env, &["policy", "test", "--coverage", "--threshold", "20"], 0, &[]);
    expect(&env, &["policy", "test", "--coverage", "--threshold", "100"], 1, &["less than 100 %"]);
    env.write(
        "policy/b_test.rego",
        "package main\nimport rego.v1\n\ntest_wrong if {\n\tx := 1\n\tprint(\"x is\", x)\n\tx == 2\n\tx < 9\n}\n",
    )
    .unwrap();
    let failed = expect(
        &env,
        &["policy", "test"],
        1,
        &["FAIL   data.main.test_wrong  policy/b_test.rego:4", "print: policy/b_test.rego:6: x is 1", "1 failure"],
    );
    assert!(failed.stdout.contains("        7 | x == 2   is not true\n"), "{}", failed.stdout);
    for (format, text) in [
        ("json", "\"msg\": \"data.main.test_wrong\""),
        ("tap", "not ok 4 - policy/b_test.rego -  - data.main.test_wrong"),
        ("junit", "<failure message=\"Failed\" type=\"\">data.main.test_wrong</failure>"),
    ] {
        expect(&env, &["policy", "test", "-o", format], 1, &[text]);
    }
    let json = expect(&env, &["policy", "test", "--coverage", "--json"], 1, &[]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["tests"][3]["failing_line"], 7);
    assert_eq!(value["coverage"]["files"][0]["file"], "policy/a.rego");
    env.write("policy/c_test.rego", "package main\nimport rego.v1\ntest_broken if to_number(\"x\") == 1\n").unwrap();
    expect(&env, &["policy", "test"], 3, &["BROKE  data.main.test_broken", "1 broken"]);
}

#[test]
fn policies_are_formatted() {
    let env = usual();
    expect(&env, &["policy", "fmt", "--check"], 0, &[]);
    let ugly = "package main\nimport rego.v1\ndeny contains   \"x\" if {\n  input.a   # why\n}\n";
    env.write("policy/ugly.rego", ugly).unwrap();
    let read = || std::fs::read_to_string(env.root().join("policy/ugly.rego")).unwrap();
    let checked = expect(&env, &["policy", "fmt", "--check"], 1, &[]);
    assert_eq!((checked.stdout.as_str(), read().as_str()), ("policy/ugly.rego\n", ugly));
    expect(&env, &["policy", "fmt", "policy/ugly.rego"], 0, &["policy/ugly.rego"]);
    assert_eq!(read(), "package main\n\nimport rego.v1\n\ndeny contains \"x\" if {\n\tinput.a # why\n}\n");
    expect(&env, &["policy", "fmt", "--check"], 0, &[]);
    env.write("policy/broken.rego", "package main\ndeny contains\n").unwrap();
    expect(&env, &["policy", "fmt"], 3, &["WL407", "policy/broken.rego:"]);
}

#[test]
fn queries_are_answered() {
    let env = usual();
    let value = expect(&env, &["policy", "eval", "data.main.warn", "--input", "bad.json"], 0, &[]);
    assert_eq!(value.stdout, "[\n  \"old\"\n]\n");
    expect(&env, &["policy", "eval", "input.nothing", "--input", "bad.json"], 1, &["undefined"]);
    expect(
        &env,
        &["policy", "eval", "some r in input.resources; r.name == \"b\"", "--input", "bad.json"],
        0,
        &["\"public\": true"],
    );
    expect(&env, &["policy", "eval", "input.(", "--input", "bad.json"], 3, &["WL438"]);
    let (code, text, _) = piped(&env, &["policy", "eval", "input.a + 1", "--input", "-"], "a: 41");
    assert_eq!((code, text.as_str()), (Some(0), "42\n"));
    let json = expect(&env, &["--json", "policy", "eval", "1 + 1"], 0, &[]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["value"], 2);
}

#[test]
fn comparison_with_opa_shows_differences() {
    let mut env = usual();
    env.only_programs(&["sh", "cat"]).unwrap();
    expect(&env, &["policy", "eval", "1 + 1", "--compare"], 3, &["WL438", "`opa` is not on the PATH"]);
    let opa = env.root().join("../only/opa");
    let answers = |value: &str| {
        use std::os::unix::fs::PermissionsExt;
        let text =
            format!("#!/bin/sh\ncat <<'X'\n{{\"result\": [{{\"expressions\": [{{\"value\": {value}}}]}}]}}\nX\n");
        std::fs::write(&opa, text).unwrap();
        std::fs::set_permissions(&opa, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    answers("2");
    expect(&env, &["policy", "eval", "1 + 1", "--compare"], 0, &["2\n"]);
    answers("3");
    expect(&env, &["policy", "eval", "1 + 1", "--compare"], 1, &["windlass answers\n2\n", "opa answers\n3\n"]);
}

#[test]
fn rules_explain_themselves() {
    let env = usual();
    let answer = expect(&env, &["policy", "explain", "deny_public"], 0, &[]);
    assert_eq!(
        answer.stdout,
        "data.main.deny_public denies\nNothing is public\n  A public bucket is read by everybody.\nseverity: high\n\
         where: policy/a.rego:14\nsee: https://example.com/public\ntest: data.main.test_public_is_denied\n\
         test: data.main.test_private_passes\n"
    );
    expect(&env, &["policy", "explain", "data.main.warn"], 0, &["Exposure", "tests: none names it"]);
    expect(&env, &["policy", "explain", "wl434"], 0, &["can never fire"]);
    expect(&env, &["policy", "explain", "nothing"], 3, &["WL905"]);
}

#[test]
fn a_saved_plan_is_rendered() {
    let env = env(&[
        (
            "policy/a.rego",
            "package main\nimport rego.v1\ndeny contains msg if {\n\tsome change in input.resource_changes\n\t\"create\" in change.change.actions\n\tmsg := sprintf(\"%s is new\", [change.address])\n}\n",
        ),
        ("main.tf", "resource \"terraform_data\" \"x\" {\n  input = 1\n}\n"),
    ]);
    let terraform = windlass_testkit::cli::terraform().unwrap();
    for arguments in [&["init", "-no-color"][..], &["plan", "-no-color", "-out=plan.bin"]] {
        let mut command = std::process::Command::new(&terraform);
        command.args(arguments).current_dir(env.root()).env("CHECKPOINT_DISABLE", "1");
        assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    }
    expect(&env, &["policy", "check", "plan.bin"], 1, &["FAIL - plan.bin - main - terraform_data.x is new"]);
}
