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

#[test]
fn a_review_expires_when_the_project_says_so() {
    let env = env(&[("net/main.tf", NET), ("windlass.hcl", "project \"p\" {\n  review_expires = \"1ms\"\n}\n")]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 1, &["[WL640]", "seconds old; it was good for 0 seconds"]);
    env.write("windlass.hcl", "project \"p\" {\n  review_expires = \"1h\"\n}\n").unwrap();
    env.commit("Longer").unwrap();
    apply_all(&env);
}

/// Three regions of one stack; each instance notes when it is applied.
fn regions(extra: &str) -> Vec<(&'static str, String)> {
    let stack = "terraform {\n  backend \"local\" {}\n}\nvariable \"region\" {\n  type = string\n}\nvariable \"size\" {\n  default = 1\n}\nresource \"terraform_data\" \"x\" {\n  triggers_replace = var.size\n  provisioner \"local-exec\" {\n    command = \"echo ${var.region} >> ../made.log; test ! -e ../broken-${var.region}\"\n  }\n}\noutput \"id\" {\n  value = var.region\n}\n";
    let windlass = format!("stack \"svc\" {{\n  regions = [\"tokyo\", \"osaka\", \"seoul\"]\n{extra}}}\n");
    vec![
        ("svc/main.tf", stack.to_owned()),
        ("windlass.hcl", windlass),
        (".gitignore", "*.tfstate*\n.terraform*\nmade.log\nbroken-*\nsick\n".to_owned()),
    ]
}

fn rolled(extra: &str) -> windlass_testkit::cli::CliEnv {
    let files = regions(extra);
    env(&files.iter().map(|(path, content)| (*path, content.as_str())).collect::<Vec<_>>())
}

#[test]
fn waves_go_one_after_the_other_and_a_failed_gate_halts() {
    let env = rolled(
        "  rollout {\n    canary = \"osaka\"\n    batch  = 1\n    soak   = \"1s\"\n    gate {\n      command = [\"sh\", \"-c\", \"test ! -e ../sick\"]\n    }\n  }\n",
    );
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let applied = expect(&env, &["apply", "--yes"], 0, &["Applied 3"]);
    assert_eq!(made(&env), ["osaka", "tokyo", "seoul"]);
    assert!(applied.stderr.contains("soaks for another"), "{}", applied.stderr);
    // The next change: the gate is not well after the canary.
    env.write("svc/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("Two").unwrap();
    env.write("sick", "").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 1, &["[WL668]", "fails after wave", "windlass explain"]);
    assert_eq!(made(&env), ["osaka", "tokyo", "seoul", "osaka"]);
    // It is mended, and goes on where it halted.
    std::fs::remove_file(env.root().join("sick")).unwrap();
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(made(&env)[4..], ["tokyo", "seoul"]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
}

#[test]
fn a_failed_canary_leaves_the_others_alone_and_is_rolled_back() {
    let env = rolled("  rollout {\n    canary     = \"tokyo\"\n    on_failure = \"rollback\"\n  }\n");
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 3"]);
    env.write("svc/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("Two").unwrap();
    env.write("broken-tokyo", "").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    // The review of going back comes by itself, and is approved and applied like any other.
    let texts = ["[WL667]", "1 of 1 in wave", "The rollout says to go back", "applied commit", "Ready to apply"];
    expect(&env, &["apply", "--yes"], 1, &texts);
    assert_eq!(made(&env).len(), 4);
    std::fs::remove_file(env.root().join("broken-tokyo")).unwrap();
    expect(&env, &["apply", "--yes"], 0, &["Applied 1"]);
    let state = std::fs::read_to_string(env.root().join("svc/terraform.tfstate.d/tokyo/terraform.tfstate")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["resources"][0]["instances"][0]["attributes"]["triggers_replace"]["value"], 1);
    expect(&env, &["rollback", "latest"], 0, &["Nothing to apply"]);
}

#[test]
fn a_dependant_waits_until_its_upstream_is_ready() {
    let ready = "stack \"net\" {\n  ready {\n    command  = [\"test\", \"-e\", \"../${output.id}\"]\n    timeout  = \"2s\"\n    interval = \"100ms\"\n  }\n}\n";
    let env =
        env(&[("net/main.tf", &NET.replace("net-${var.size}", "up")), ("app/main.tf", APP), ("windlass.hcl", ready)]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let failed =
        expect(&env, &["apply", "--yes"], 1, &["✓ apply:net", "✗ ready:net", "net is not ready", "- plan:app"]);
    assert!(!failed.stdout.contains("✓ apply:app"));
    let ignore = std::fs::read_to_string(env.root().join(".gitignore")).unwrap();
    env.write(".gitignore", &format!("{ignore}up\n")).unwrap();
    env.commit("Ignore it").unwrap();
    env.write("up", "").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(resources(&env, "app"), 1);
    let wrong = ready.replace("output.id", "output.nothing");
    env.write("windlass.hcl", &wrong).unwrap();
    env.write("net/size.auto.tfvars", "size = 3\n").unwrap();
    env.write("net/more.tf", "resource \"terraform_data\" \"more\" {}\n").unwrap();
    env.commit("Wrong").unwrap();
    expect(&env, &["review", "--all"], 0, &[]);
    expect(&env, &["apply", "--yes"], 1, &["[WL666]", "`nothing`"]);
    env.write("windlass.hcl", "stack \"net\" {\n  ready {\n    tcp = \"a:1\"\n    http = \"http://a\"\n    timeout = \"soon\"\n  }\n  rollout {\n    on_failure = \"pray\"\n  }\n}\n").unwrap();
    expect(&env, &["check"], 1, &["asks one thing, this one asks 2", "expected a time", "\"halt\" or \"rollback\""]);
}

#[test]
fn drift_is_found_remembered_and_ends() {
    let ignore = "stack \"app\" {\n  drift_ignore = [\"terraform_data.app.*\"]\n}\n";
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP), ("windlass.hcl", ignore)]);
    expect(&env, &["drift", "--last"], 0, &["Nobody has looked"]);
    apply_all(&env);
    expect(&env, &["drift"], 0, &["0 instances drifted, 2 did not"]);
    assert_eq!(expect(&env, &["drift", "--schedule-ready"], 0, &[]).stdout, "");
    // Somebody applies something else by hand.
    by_hand(&env, "net", &["apply", "-auto-approve", "-var=size=7"]);
    let texts = [
        "net  for",
        "The configuration would change what is recorded",
        "\"net-7\" → \"net-1\"",
        "windlass review --stack 'net'",
        "1 instance drifted, 1 did not",
    ];
    expect(&env, &["drift"], 1, &texts);
    expect(&env, &["drift", "--schedule-ready"], 1, &["net-7"]);
    let json = expect(&env, &["drift", "--last", "--json"], 1, &[]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let net = json["instances"].as_array().unwrap().iter().find(|r| r["instance"] == "net").unwrap();
    assert_eq!((net["history"].as_array().unwrap().len(), net["since"].is_i64()), (1, true));
    expect(&env, &["drift", "nothing"], 2, &["WL903"]);
    // It is put back by an apply.
    expect(&env, &["review", "--stack", "net"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    expect(&env, &["drift"], 0, &["0 instances drifted"]);
    env.write("net/main.tf", "resource \"terraform_data\" \"x\" {\n  input = var.nothing\n}\n").unwrap();
    expect(&env, &["drift", "net"], 3, &["WL663", "net"]);
}
