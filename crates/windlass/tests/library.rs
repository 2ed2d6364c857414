//! The starter library of policies, from the list to what it denies.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::{APP, NET, apply_all, env, expect, run};
use windlass_testkit::cli::CliEnv;

const SETTINGS: &str = "policy/library/settings.json";

fn read(env: &CliEnv, path: &str) -> String {
    std::fs::read_to_string(env.root().join(path)).unwrap()
}

fn settings(env: &CliEnv) -> serde_json::Value {
    serde_json::from_str(&read(env, SETTINGS)).unwrap()
}

fn set(env: &CliEnv, name: &str, value: serde_json::Value) {
    let mut document = settings(env);
    document["library"]["settings"][name] = value;
    env.write(SETTINGS, &document.to_string()).unwrap();
}

#[test]
fn the_library_is_listed() {
    let env = env(&[]);
    expect(
        &env,
        &["policy", "library"],
        0,
        &["aws/tags", "terraform/data_deletion       critical  Data is not deleted"],
    );
    let rows: serde_json::Value = serde_json::from_str(&run(&env, &["policy", "library", "--json"]).stdout).unwrap();
    let tags = rows.as_array().unwrap().iter().find(|row| row["name"] == "azure/tags").unwrap();
    assert_eq!((&tags["cloud"], &tags["severity"]), (&"azure".into(), &"low".into()));
    assert_eq!(tags["settings"], serde_json::json!(["required_tags"]));
}

#[test]
fn copies_add_up_and_spare_what_was_changed() {
    let env = env(&[]);
    expect(&env, &["policy", "init", "aws/tags"], 0, &["1 policy of the library", "windlass policy test"]);
    set(&env, "required_tags", serde_json::json!(["team"]));
    expect(&env, &["policy", "init", "aws", "terraform-module-pinning"], 0, &["6 policies", "4 were there already"]);
    let there = settings(&env)["library"]["settings"].clone();
    assert_eq!(there["required_tags"], serde_json::json!(["team"]));
    assert_eq!(there["public_ports"], serde_json::json!([80, 443]));
    assert!(there.get("max_destroys").is_none(), "{there}");
    let page = read(&env, "policy/library/README.md");
    assert!(page.contains("aws/wildcard_iam.rego") && page.contains("| `moving_refs` |"), "{page}");
    expect(&env, &["policy", "test"], 0, &["0 failures"]);
    // The same again writes nothing.
    let again = run(&env, &["policy", "init", "aws", "terraform/module_pinning", "--json"]);
    let again: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["written"], serde_json::json!([]));

    env.write("policy/library/aws/tags.rego", "package library.aws.tags\n").unwrap();
    env.write("policy/library/README.md", "Ours\n").unwrap();
    let texts = ["WL446", "policy/library/aws/tags.rego is not", "policy/library/README.md is not", "--force"];
    expect(&env, &["policy", "init", "azure/tags", "aws/tags"], 2, &texts);
    assert!(!env.root().join("policy/library/azure").exists(), "nothing is written when something is refused");
    expect(&env, &["policy", "init", "azure/tags", "aws/tags", "--force"], 0, &["2 policies"]);
    assert!(read(&env, "policy/library/aws/tags.rego").contains("required_tags"));

    expect(&env, &["policy", "init", "awz"], 2, &["WL445", "`awz`", "aws/encryption"]);
    env.write(SETTINGS, "{\"library\": []}").unwrap();
    expect(&env, &["policy", "init", "azure/tags"], 2, &["WL401", "is not of its shape"]);
    assert_eq!(read(&env, SETTINGS), "{\"library\": []}");
}

#[test]
fn a_project_with_policy_blocks_is_told_to_name_the_library() {
    let own = "package own\nimport rego.v1\ndeny contains \"no\" if input.bad\n";
    let block = "policy \"own\" {\n  paths = [\"rules\"]\n}\n";
    let env = env(&[("rules/own.rego", own), ("windlass.hcl", block)]);
    expect(&env, &["policy", "init", "aws"], 0, &["note:", "policy \"library\" { paths = [\"policy/library\"] }"]);
    env.write("windlass.hcl", &format!("{block}policy \"library\" {{\n  paths = [\"policy/library\"]\n}}\n")).unwrap();
    let answer = expect(&env, &["policy", "init", "aws"], 0, &["0 files written"]);
    assert!(!answer.stderr.contains("note:"), "{}", answer.stderr);
    expect(&env, &["check"], 0, &[]);
}

#[test]
fn reviews_judge_by_it() {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    expect(&env, &["policy", "init"], 0, &["23 policies of the library"]);
    env.commit("Policies").unwrap();
    apply_all(&env);

    // What holds data is a setting; a change that renames it is denied, with what to do.
    set(&env, "data_types", serde_json::json!(["terraform_data"]));
    env.commit("Our types that hold data").unwrap();
    env.write(
        "net/main.tf",
        &NET.replace("terraform_data\" \"net", "terraform_data\" \"renamed")
            .replace("terraform_data.net", "terraform_data.renamed"),
    )
    .unwrap();
    let texts = ["terraform_data.net would be destroyed, with the data in it", "may_delete"];
    expect(&env, &["review"], 1, &texts);
}

#[test]
fn files_are_judged_by_it() {
    let env = env(&[]);
    expect(&env, &["policy", "init", "aws/public_exposure", "kubernetes"], 0, &[]);
    let plan = |range: &str| {
        let rule = serde_json::json!({"from_port": 22, "to_port": 22, "protocol": "tcp", "cidr_blocks": [range]});
        let change = serde_json::json!({
            "address": "aws_security_group.web", "mode": "managed", "type": "aws_security_group", "name": "web",
            "change": {"actions": ["create"], "before": null, "after": {"ingress": [rule]}, "after_unknown": {}},
        });
        serde_json::json!({"format_version": "1.2", "resource_changes": [change]}).to_string()
    };
    let check = ["policy", "check", "-p", "policy/library", "-d", SETTINGS, "--all-namespaces"];
    let judged = |file: &str, content: &str, code: i32, texts: &[&str]| {
        env.write(file, content).unwrap();
        expect(&env, &[&check[..], &[file]].concat(), code, texts)
    };
    let denied = ["aws_security_group.web lets the whole internet in on port 22", "aws/public_exposure.rego:"];
    judged("plan.json", &plan("0.0.0.0/0"), 1, &denied);
    judged("plan.json", &plan("203.0.113.0/24"), 0, &["0 failures"]);

    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels:\n    app.kubernetes.io/name: web\nspec:\n  containers:\n    - name: app\n      image: app\n";
    judged("pod.yaml", pod, 1, &["container app of Pod/web runs whatever app is on the day", "may run as root"]);
    let safe = "      resources:\n        limits:\n          memory: 64Mi\n      securityContext:\n        runAsNonRoot: true\n";
    judged("pod.yaml", &format!("{}{safe}", pod.replace("image: app", "image: app:1")), 0, &["0 failures"]);

    set(&env, "public_ports", serde_json::json!([22]));
    judged("plan.json", &plan("0.0.0.0/0"), 0, &["0 failures"]);
}
