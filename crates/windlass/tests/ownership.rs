//! Day-to-day ownership of stacks: destroying them, drift, adoption.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;

fn resources(env: &windlass_testkit::cli::CliEnv, stack: &str) -> usize {
    let text = std::fs::read_to_string(env.root().join(stack).join("terraform.tfstate")).unwrap_or_default();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    state["resources"].as_array().map_or(0, |all| all.iter().filter(|r| r["mode"] == "managed").count())
}

#[test]
fn stacks_are_destroyed_against_the_order_of_their_edges() {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    apply_all(&env);
    expect(&env, &["destroy", "net"], 1, &["WL670", "app depends on net", "app/main.tf:4", "windlass destroy net app"]);
    expect(&env, &["destroy", "nothing"], 2, &["WL903"]);
    expect(&env, &["destroy", "net", "app"], 0, &["destroy", "terraform_data.net", "Ready to apply"]);
    expect(&env, &["apply", "--yes"], 1, &["WL672", "--confirm 'net'", "--confirm 'app'"]);
    expect(&env, &["apply", "--yes", "--confirm", "net"], 1, &["WL672", "everything that app has"]);
    assert_eq!((resources(&env, "net"), resources(&env, "app")), (1, 1));
    let applied = expect(&env, &["apply", "--yes", "--confirm", "net", "--confirm", "app"], 0, &["Applied 2"]);
    let order: Vec<usize> = ["apply:app", "plan:net", "apply:net"]
        .iter()
        .map(|s| applied.stderr.find(&format!("✓ {s}")).unwrap())
        .collect();
    assert!(order.is_sorted(), "{}", applied.stderr);
    assert_eq!((resources(&env, "net"), resources(&env, "app")), (0, 0));
    // A dependant that does not exist is in nobody's way; an approval does as well as a name.
    expect(&env, &["review", "--stack", "net"], 0, &[]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    expect(&env, &["destroy", "net"], 0, &["destroy"]);
    expect(&env, &["approve"], 0, &[]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(resources(&env, "net"), 0);
}

#[test]
fn a_protected_stack_is_never_destroyed() {
    let env = env(&[("net/main.tf", NET), ("windlass.hcl", "stack \"net\" {\n  protect = true\n}\n")]);
    apply_all(&env);
    expect(&env, &["destroy", "net"], 1, &["net is protected", "Denied by policy"]);
    expect(&env, &["apply", "--yes", "--confirm", "net"], 1, &["WL607"]);
    // Neither by deleting it together with its protection.
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "away"]).unwrap();
    git.run(&["rm", "--quiet", "-r", "net", "windlass.hcl"]).unwrap();
    env.commit("Away with it").unwrap();
    expect(&env, &["review"], 1, &["net is protected"]);
    assert_eq!(resources(&env, "net"), 1);
}

#[test]
fn a_deleted_directory_is_destroyed_from_the_last_commit_that_had_it() {
    let module = "variable \"size\" {\n  default = 1\n}\nresource \"terraform_data\" \"inner\" {\n  input = file(\"${path.module}/text.txt\")\n}\n";
    let old = format!("{NET}module \"m\" {{\n  source = \"../modules/m\"\n}}\n");
    let env = env(&[
        ("net/main.tf", &old),
        ("app/main.tf", APP),
        ("modules/m/main.tf", module),
        ("modules/m/text.txt", "text"),
    ]);
    apply_all(&env);
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "away"]).unwrap();
    git.run(&["rm", "--quiet", "-r", "net", "app", "modules"]).unwrap();
    env.commit("Away with both").unwrap();
    expect(
        &env,
        &["review"],
        0,
        &["- destroy", "module.m.terraform_data.inner", "terraform_data.app", "Ready to apply"],
    );
    assert_eq!((resources(&env, "net"), resources(&env, "app")), (2, 1));
    expect(&env, &["apply", "--yes"], 1, &["WL672"]);
    let applied = expect(&env, &["apply", "--yes", "--confirm", "net", "--confirm", "app"], 0, &["Applied 2"]);
    assert!(applied.stderr.find("✓ apply:app").unwrap() < applied.stderr.find("✓ plan:net").unwrap());
    assert_eq!((resources(&env, "net"), resources(&env, "app")), (0, 0));
    expect(&env, &["review"], 0, &["Nothing to apply."]);
}

#[test]
fn a_stack_that_was_moved_with_its_state_is_not_destroyed() {
    let shared = NET.replace("backend \"local\" {}", "backend \"local\" {\n    path = \"../state/net.tfstate\"\n  }");
    let env = env(&[("net/main.tf", &shared), ("state/keep", "")]);
    apply_all(&env);
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "move"]).unwrap();
    git.run(&["mv", "net", "network"]).unwrap();
    env.commit("A better name").unwrap();
    let review = expect(&env, &["review"], 0, &["Nothing to apply"]);
    assert!(!review.stdout.contains("destroy"), "{}", review.stdout);
}

#[test]
fn an_unexpectedly_large_effect_asks_for_one_more_approval() {
    let many = |count: usize| format!("{NET}resource \"terraform_data\" \"many\" {{\n  count = {count}\n}}\n");
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    for count in 1..=3 {
        env.write("net/main.tf", &many(count)).unwrap();
        env.commit("Grow").unwrap();
        expect(&env, &["review", "--stack", "net"], 0, &["Ready to apply"]);
        expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    }
    env.write("net/main.tf", &many(40)).unwrap();
    env.commit("Grow a lot").unwrap();
    let texts = [
        "medium risk",
        "touches 37 resources; its last 3 applies touched at most 2",
        "1 other instance reads from it",
        "asks for 1 approval",
    ];
    expect(&env, &["review", "--stack", "net"], 0, &texts);
    expect(&env, &["apply", "--yes"], 1, &["WL612", "unexpectedly large effect on net"]);
    expect(&env, &["approve", "--reason", "meant so"], 0, &[]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
}
