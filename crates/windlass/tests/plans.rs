//! Plans that were made elsewhere, reviewed.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use windlass_testkit::plan::synthetic_plan;

const POLICY: &str = "package names\n\nimport rego.v1\n\ndeny contains {\"msg\": msg, \"address\": change.address} if {\n\tsome change in input.resource_changes\n\tchange.type == \"terraform_data\"\n\tchange.change.after.input == \"net-7\"\n\tmsg := sprintf(\"%s has a bad name on %s\", [change.address, input.windlass.instance])\n}\n";

/// The plan of `net` with a size, rendered.
fn planned(env: &windlass_testkit::cli::CliEnv, size: u32) {
    by_hand(env, "net", &["init"]);
    by_hand(env, "net", &["plan", "-out=tfplan", &format!("-var=size={size}")]);
    let shown = by_hand(env, "net", &["show", "-json", "tfplan"]);
    env.write("net/plan.json", &shown).unwrap();
}

#[test]
fn a_given_plan_is_judged_and_shown() {
    let env = env(&[("net/main.tf", NET), ("policy/names.rego", POLICY)]);
    planned(&env, 1);
    // Where it lies tells whose it is.
    let texts = ["Nothing stands against it", "net", "+ create   terraform_data.net", "input = \"net-1\""];
    let shown = expect(&env, &["review", "--plan", "net/plan.json"], 0, &texts);
    assert!(!shown.stdout.contains("windlass apply"), "{}", shown.stdout);
    planned(&env, 7);
    let texts = ["Denied by policy", "terraform_data.net has a bad name on net", "mend net/main.tf:7"];
    expect(&env, &["review", "--plan", "net/plan.json"], 1, &texts);
    // Under another name, as Markdown, as data.
    let texts = ["bad name on prod/net", "**deny**"];
    expect(&env, &["review", "--plan", "prod/net=net/plan.json", "--format", "markdown"], 1, &texts);
    let json = expect(&env, &["review", "--plan", "net/plan.json", "--json"], 1, &[]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["review"]["verdict"], "denied");
    // Nothing of it is kept.
    assert_eq!(run(&env, &["runs", "--json"]).stdout.trim(), "[]");
}

#[test]
fn several_plans_are_one_review_without_their_secrets() {
    let env = env(&[("net/main.tf", NET)]);
    let plan = synthetic_plan(72, 5);
    env.write("a.json", &plan.to_string()).unwrap();
    env.write("b.json", &synthetic_plan(36, 6).to_string()).unwrap();
    let a = env.root().join("a.json").display().to_string();
    for format in ["terminal", "markdown", "html", "json"] {
        let shown = expect(&env, &["review", "--plan", &a, "--plan", "x/b[tokyo]=b.json", "--format", format], 0, &[]);
        assert!(shown.stdout.contains("x/b[tokyo]") && shown.stdout.contains("aws_instance"), "{format}");
        let changes = plan["resource_changes"].as_array().unwrap();
        for secret in changes.iter().filter_map(|c| c["change"]["after"]["password"].as_str()) {
            assert!(!shown.stdout.contains(secret), "{format}");
        }
    }
}

#[test]
fn what_is_no_plan_is_refused() {
    let env = env(&[("net/main.tf", NET)]);
    planned(&env, 1);
    expect(&env, &["review", "--plan", "nowhere.json"], 2, &["[WL691]", "nowhere.json", "terraform show -json"]);
    expect(&env, &["review", "--plan", "net/tfplan"], 2, &["[WL691]", "not rendered"]);
    env.write("a.json", "{\"format_version\": \"9.0\"}").unwrap();
    expect(&env, &["review", "--plan", "a.json"], 2, &["[WL691]", "9.0"]);
    env.write("a.json", "{\"format_version\": ").unwrap();
    expect(&env, &["review", "--plan", "a.json"], 2, &["[WL691]", "line 1"]);
}
