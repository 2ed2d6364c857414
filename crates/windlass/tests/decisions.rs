//! One policy language for every decision: whole changes, approvals, waivers, replays, bundles.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::git::Git;

fn rego(package: &str, rules: &str) -> String {
    format!("package {package}\n\nimport rego.v1\n\n{rules}\n")
}

fn json(env: &CliEnv, arguments: &[&str], code: i32) -> serde_json::Value {
    serde_json::from_str(&expect(env, arguments, code, &[]).stdout).unwrap()
}

/// One stack, and what is written beside it.
fn with(files: &[(&str, &str)]) -> CliEnv {
    let all: Vec<(&str, &str)> = [("net/main.tf", NET)].into_iter().chain(files.iter().copied()).collect();
    env(&all)
}

#[test]
fn a_policy_asks_for_more_approvals_than_the_environment() {
    let windlass = "project \"p\" {\n  environment \"e\" {\n    match = [\"**\"]\n    approvals {\n      unverified = true\n    }\n  }\n}\npolicy \"creation\" {\n  decides = \"approval\"\n  paths   = [\"policies\"]\n}\n";
    let two = rego(
        "creation",
        "require contains {\"count\": 2, \"unverified\": true, \"reason\": \"something is made\"} if {\n\tinput.rules[_].count == 1\n\tsome stack in input.stacks\n\tstack.effect.create > 0\n}",
    );
    let env = with(&[("windlass.hcl", windlass), ("policies/a.rego", &two)]);
    let texts = [
        "Needs approval",
        "environment e asks for 1 approval, has 0",
        "policy creation (something is made) asks for 2 approvals, has 0",
    ];
    expect(&env, &["review", "--all"], 0, &texts);
    let answer = expect(&env, &["approve"], 1, &["policy creation (something is made) asks for 2 approvals, has 1"]);
    assert!(!answer.stdout.contains("environment e asks"), "{}", answer.stdout);
    expect(&env, &["apply", "--yes"], 1, &["WL612", "asks for 2 approvals, has 1"]);
    // What it cannot ask for breaks it: nobody knows who would have been asked.
    env.write("policies/a.rego", &two.replace("\"count\": 2", "\"from\": [\"ghosts\"]")).unwrap();
    env.commit("Ask ghosts").unwrap();
    expect(&env, &["review", "--all"], 1, &["Denied by policy", "broken", "there is no team \"ghosts\""]);
    expect(&env, &["approve"], 1, &["WL607"]);
    // A policy alone asks too, where no environment does.
    env.write("policies/a.rego", &two.replace("\"count\": 2", "\"count\": 1").replace("input.rules[_].count == 1", ""))
        .unwrap();
    env.write("windlass.hcl", windlass.split_once("policy").map(|(_, rest)| format!("policy{rest}")).unwrap().as_str())
        .unwrap();
    env.commit("Ask one").unwrap();
    expect(&env, &["review", "--all"], 0, &["policy creation (something is made) asks for 1 approval, has 0"]);
    expect(&env, &["approve"], 0, &["Next: windlass apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 1"]);
}

#[test]
fn a_policy_judges_the_whole_change() {
    let windlass = "policy \"change\" {\n  decides = \"review\"\n  paths   = [\"policies/change\"]\n}\n";
    let change = rego(
        "change",
        "deny contains msg if {\n\tmade := {stack.instance | some stack in input.stacks; stack.effect.create > 0}\n\tcount(made) > 1\n\tmsg := sprintf(\"makes things in %v at once\", [concat(\" and \", made)])\n}\n\ndeny contains \"somebody has to look first\" if {\n\tinput.moment == \"apply\"\n\tcount(input.approvals) == 0\n}",
    );
    // Beside it, a policy over plans without any configuration, which knows where it is.
    let plan = rego(
        "main",
        "warn contains msg if {\n\tnot input.windlass.preview\n\tmsg := sprintf(\"planned %v\", [input.windlass.instance])\n}",
    );
    let env = env(&[
        ("net/main.tf", NET),
        ("app/main.tf", APP),
        ("windlass.hcl", windlass),
        ("policies/change/a.rego", &change),
        ("policy/a.rego", &plan),
    ]);
    let texts =
        ["deny makes things in app and net at once", "policy change", "policies/change/a.rego:5", "Denied by policy"];
    let answer = expect(&env, &["review", "--all"], 1, &texts);
    assert!(answer.stdout.contains("planned net") && !answer.stdout.contains("planned app"), "{}", answer.stdout);
    let review = json(&env, &["review", "--show", "--json"], 1);
    assert_eq!(review["review"]["findings"][0]["rule"], "data.change.deny");
    expect(&env, &["apply", "--yes"], 1, &["WL607"]);
    expect(&env, &["review", "--stack", "net"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 1, &["WL454", "somebody has to look first"]);
    expect(&env, &["approve"], 0, &[]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 1"]);
}

#[test]
fn real_inputs_are_as_the_schemas_say() {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    let mut windlass = String::new();
    for (kind, rule) in [("plan", "deny"), ("review", "deny"), ("approval", "require")] {
        let schema = run(&env, &["policy", "schema", kind]).stdout;
        let member = if rule == "require" { "{\"reason\": msg}" } else { "msg" };
        let text = format!(
            "{rule} contains {member} if {{\n\t[ok, errors] := json.match_schema(input, data.schema)\n\tnot ok\n\tmsg := sprintf(\"{kind} %v\", [errors])\n}}\n\nseen if input"
        );
        env.write(&format!("policies/{kind}/a.rego"), &rego(kind, &text)).unwrap();
        env.write(&format!("policies/{kind}/schema.json"), &format!("{{\"schema\": {schema}}}")).unwrap();
        windlass.push_str(&format!(
            "policy \"{kind}\" {{\n  decides = \"{kind}\"\n  paths   = [\"policies/{kind}\"]\n}}\n"
        ));
    }
    env.write("windlass.hcl", &windlass).unwrap();
    env.commit("Check inputs").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 2"]);
    Git::open(&env.root()).run(&["switch", "--quiet", "--create", "change"]).unwrap();
    env.write("net/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("Two").unwrap();
    expect(&env, &["review"], 0, &["Ready to apply"]);
    expect(&env, &["destroy", "net", "app"], 0, &["Ready to apply"]);
    // That they would notice is seen by a schema that is wrong.
    let wrong = std::fs::read_to_string(env.root().join("policies/review/schema.json")).unwrap();
    Git::open(&env.root()).run(&["switch", "--quiet", "main"]).unwrap();
    env.write("policies/review/schema.json", &wrong.replace("\"risk_score\"", "\"risk_points\"")).unwrap();
    env.commit("A wrong schema").unwrap();
    expect(&env, &["review", "--all"], 1, &["Denied by policy", "deny review"]);
    let kinds = json(&env, &["policy", "schema", "--json"], 0);
    assert_eq!(kinds.as_array().unwrap().len(), 6);
}

#[test]
fn a_reference_that_the_input_does_not_have_is_an_error() {
    let windlass = "policy \"change\" {\n  decides = \"review\"\n  paths   = [\"policies\"]\n}\n";
    let change = rego("change", "deny contains \"x\" if {\n\tsome stack in input.stacks\n\tstack.efect.destroy > 0\n}");
    let env = with(&[("windlass.hcl", windlass), ("policies/a.rego", &change)]);
    let texts = ["[WL450]", "policies/a.rego:7", "`input.stacks[_].efect`", "did you mean `effect`?"];
    expect(&env, &["check"], 1, &texts);
    expect(&env, &["review", "--all"], 2, &["[WL450]"]);
    // Policies over plans may be meant for other documents.
    env.write("windlass.hcl", "").unwrap();
    env.write("policies/a.rego", &rego("main", "deny contains \"x\" if input.resource.aws_s3_bucket")).unwrap();
    std::fs::rename(env.root().join("policies"), env.root().join("policy")).unwrap();
    expect(&env, &["check"], 0, &["warning[WL450]", "did you mean `resource_drift`?"]);
}

const WAIVABLE: &str = "team \"sre\" {\n  members = [\"email:test@example.com\"]\n}\npolicy \"names\" {\n  paths = [\"policy\"]\n  waivers {\n    from       = [team.sre]\n    unverified = true\n    longest    = \"2d\"\n  }\n}\n";

fn names() -> String {
    rego(
        "names",
        "deny contains {\"msg\": \"net-1 is a bad name\", \"address\": change.address} if {\n\tsome change in input.resource_changes\n\tchange.change.after.input == \"net-1\"\n}",
    )
}

#[test]
fn a_person_with_the_right_waives_one_finding() {
    let env = with(&[("windlass.hcl", WAIVABLE), ("policy/names.rego", &names())]);
    expect(&env, &["waivers"], 0, &["Nothing was ever waived"]);
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name", "Denied by policy"]);
    let listed = json(&env, &["waive", "--json"], 1);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    expect(&env, &["waive"], 1, &[&id, "names.deny", "you may waive it"]);
    expect(&env, &["waive", &id], 2, &["WL463", "needs a reason"]);
    expect(&env, &["waive", "deny_other", "--reason", "r"], 2, &["WL460", &id]);
    expect(&env, &["waive", &id, "--reason", "r", "--expires", "3d"], 2, &["WL463", "2d at most"]);
    expect(&env, &["waive", &id, "--reason", "r", "--expires", "soon"], 2, &["expected a time"]);
    expect(&env, &["apply", "--yes"], 1, &["WL607"]);
    let texts = ["Waived until", "net-1 is a bad name", "Ready to apply", "Next: windlass apply"];
    expect(&env, &["waive", "deny", "--reason", "agreed in OPS-1", "--expires", "36h"], 0, &texts);
    let texts = ["waived net-1 is a bad name", "test@example.com", "agreed in OPS-1", "Ready to apply"];
    expect(&env, &["review", "--show"], 0, &texts);
    let shown = json(&env, &["review", "--show", "--json"], 0);
    assert_eq!(shown["review"]["verdict"], "ready");
    assert_eq!(shown["review"]["stacks"][0]["findings"][0]["waived"]["reason"], "agreed in OPS-1");
    expect(&env, &["apply", "--yes"], 0, &["Applied 1"]);
    let list = json(&env, &["waivers", "--json"], 0);
    assert_eq!(list["per_rule"]["data.names.deny"], serde_json::json!({ "given": 1, "expired": 0, "reviews": 1 }));
    assert_eq!(list["waivers"][0]["actor"]["verified"], false);
    assert_eq!(list["per_person"].as_object().unwrap().len(), 1);
    expect(&env, &["waivers"], 0, &["data.names.deny", "agreed in OPS-1", "1 of 1 waiver still hold"]);
    // It was for that review, and for no other.
    env.write("net/more.tf", "resource \"terraform_data\" \"net2\" {\n  input = \"net-1\"\n}\n").unwrap();
    env.commit("Another one").unwrap();
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name", "Denied by policy"]);
}

#[test]
fn waivers_hold_through_previews_and_for_the_whole_change() {
    let windlass = "team \"sre\" {\n  members = [\"email:test@example.com\"]\n}\nproject \"p\" {\n  waivers {\n    from       = [team.sre]\n    unverified = true\n  }\n}\npolicy \"change\" {\n  decides = \"review\"\n  paths   = [\"policies\"]\n}\n";
    let change = rego("change", "deny contains \"makes several things\" if count(input.stacks) > 1");
    let app = rego(
        "app",
        "deny contains {\"msg\": \"app is made\", \"address\": change.address} if {\n\tsome change in input.resource_changes\n\tchange.address == \"terraform_data.app\"\n\t\"create\" in change.change.actions\n}",
    );
    let env = env(&[
        ("net/main.tf", NET),
        ("app/main.tf", APP),
        ("windlass.hcl", windlass),
        ("policies/a.rego", &change),
        ("policy/app.rego", &app),
    ]);
    expect(&env, &["review", "--all"], 1, &["deny app is made", "deny makes several things", "preview"]);
    expect(&env, &["waive", "data.change.deny", "--reason", "once"], 0, &["Still denied"]);
    expect(&env, &["review", "--show"], 1, &["waived makes several things", "deny app is made"]);
    expect(&env, &["waive", "data.app.deny", "--reason", "once"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 2"]);
    expect(&env, &["waivers"], 0, &["data.app.deny", "data.change.deny", "the change: makes several things"]);
}

#[test]
fn who_has_no_right_waives_nothing() {
    let check = |windlass: &str, texts: &[&str]| {
        let env = with(&[("windlass.hcl", windlass), ("policy/names.rego", &names())]);
        expect(&env, &["review", "--all"], 1, &["Denied by policy"]);
        let mut all = vec!["WL461"];
        all.extend(texts);
        expect(&env, &["waive", "deny", "--reason", "r"], 1, &all);
        expect(&env, &["review", "--show"], 1, &["Denied by policy"]);
        assert_eq!(json(&env, &["waivers", "--json"], 0)["waivers"], serde_json::json!([]));
        env
    };
    check("", &["nobody may waive what policy policy finds"]);
    check(&WAIVABLE.replace("email:test@", "email:other@"), &["is not a member of team sre"]);
    check(&WAIVABLE.replace("    unverified = true\n", ""), &["nobody checked who"]);
    // The project's block is for policies without one of their own.
    let project = "team \"sre\" {\n  members = [\"email:other@example.com\"]\n}\nproject \"p\" {\n  waivers {\n    from = [team.sre]\n  }\n}\n";
    let env = check(project, &["is not a member of team sre"]);
    // A change does not give the right to itself, and its author has none unless it is said.
    env.write("windlass.hcl", WAIVABLE).unwrap();
    env.commit("Allow it").unwrap();
    let git = Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "change"]).unwrap();
    env.write("net/more.tf", "resource \"terraform_data\" \"net2\" {}\n").unwrap();
    env.write("windlass.hcl", &WAIVABLE.replace("unverified", "author_may_waive = true\n    unverified")).unwrap();
    git.run(&["add", "--all"]).unwrap();
    git.commit(("Test User", "test@example.com"), "2026-01-05T09:00:00Z", "My own").unwrap();
    expect(&env, &["review"], 1, &["Denied by policy"]);
    expect(&env, &["waive", "deny", "--reason", "r"], 1, &["WL461", "an author of the change"]);
}

#[test]
fn what_broke_is_not_waived() {
    let broken = rego("names", "deny := \"x\" if input.resource_changes");
    let env = with(&[("windlass.hcl", WAIVABLE), ("policy/names.rego", &broken)]);
    expect(&env, &["review", "--all"], 1, &["broken", "Denied by policy"]);
    let id = json(&env, &["waive", "--json"], 1)[0]["id"].as_str().unwrap().to_owned();
    expect(&env, &["waive", &id, "--reason", "r"], 1, &["WL462", "the gate broke"]);
}

#[test]
fn a_waiver_ends_with_its_time_and_with_the_effect() {
    let env = with(&[("windlass.hcl", WAIVABLE), ("policy/names.rego", &names())]);
    expect(&env, &["review", "--all"], 1, &[]);
    expect(&env, &["waive", "deny", "--reason", "r", "--expires", "1s"], 0, &[]);
    wait(|| json(&env, &["waivers", "--json"], 0)["waivers"][0]["expired"].as_bool().filter(|expired| *expired));
    expect(&env, &["review", "--show"], 1, &["deny net-1 is a bad name", "Denied by policy"]);
    expect(&env, &["apply", "--yes"], 1, &["WL607"]);
    expect(&env, &["waivers"], 0, &["expired", "0 of 1 waiver still hold"]);
    // Waived again; then somebody does something else behind it.
    expect(&env, &["waive", "deny", "--reason", "r"], 0, &["Ready to apply"]);
    by_hand(&env, "net", &["apply", "-auto-approve", "-var=size=7"]);
    expect(&env, &["apply", "--yes"], 1, &["policy denies net: net-1 is a bad name"]);
}

/// Two stacks, of which the second turns out to do something that its preview could not know.
fn surprising(files: &[(&str, &str)]) -> CliEnv {
    let net = "terraform {\n  backend \"local\" {}\n}\nresource \"terraform_data\" \"net\" {\n  provisioner \"local-exec\" {\n    command = \"echo one >> ../made.log\"\n  }\n}\noutput \"id\" {\n  value = terraform_data.net.id\n}\n";
    let app =
        format!("{APP}resource \"terraform_data\" \"log\" {{\n  input = try(file(\"../made.log\"), \"none\")\n}}\n");
    let all: Vec<(&str, &str)> =
        [("net/main.tf", net), ("app/main.tf", &app)].into_iter().chain(files.iter().copied()).collect();
    env(&all)
}

#[test]
fn a_changed_effect_is_asked_about_anew() {
    let windlass = "team \"dba\" {\n  members = [\"email:other@example.com\"]\n}\npolicy \"log\" {\n  decides = \"approval\"\n  paths   = [\"policies\"]\n}\n";
    let log = rego(
        "log",
        "require contains {\"from\": [\"dba\"], \"reason\": \"something was logged\"} if {\n\tsome stack in input.stacks\n\tsome resource in stack.effect.resources\n\tresource.attributes.input.after == \"one\\n\"\n}",
    );
    let env = surprising(&[("windlass.hcl", windlass), ("policies/a.rego", &log)]);
    expect(&env, &["review", "--all"], 0, &["preview", "Ready to apply"]);
    let sentence = "policy log (something was logged) asks for 1 approval from team dba, has 0";
    expect(&env, &["apply", "--yes"], 1, &["app is not what was reviewed", sentence]);
    expect(&env, &["approve"], 1, &["not enough yet", sentence, "nobody checked"]);
}

#[test]
fn a_changed_effect_is_not_waived() {
    let log = rego(
        "names",
        "deny contains {\"msg\": \"no logs\", \"address\": change.address} if {\n\tsome change in input.resource_changes\n\tchange.address == \"terraform_data.log\"\n}",
    );
    let env = surprising(&[("windlass.hcl", WAIVABLE), ("policy/names.rego", &log)]);
    expect(&env, &["review", "--all"], 1, &["preview", "deny no logs"]);
    expect(&env, &["waive", "deny", "--reason", "r"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 1, &["✓ apply:net", "policy denies app: no logs"]);
}

#[test]
fn other_policies_are_asked_about_earlier_reviews() {
    let secret = "variable \"pin\" {\n  default   = \"hunter22-hunter22\"\n  sensitive = true\n}\nresource \"terraform_data\" \"secret\" {\n  input = var.pin\n}\n";
    let env = with(&[("policy/names.rego", &names()), ("net/secret.tf", secret)]);
    expect(&env, &["policy", "replay"], 2, &["WL475"]);
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name"]);
    expect(&env, &["policy", "replay"], 0, &["The last review would have been decided the same"]);
    // Nothing of it lies there in the clear.
    let files = walk(&env.root().join(".windlass/artefacts/input"));
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"hunter22" || window == b"terrafor"));
    }
    Git::open(&env.root()).run(&["switch", "--quiet", "--create", "policies"]).unwrap();
    let all = rego(
        "names",
        "deny contains msg if {\n\tsome change in input.resource_changes\n\tmsg := sprintf(\"%s has %v\", [change.address, change.change.after.input])\n}",
    );
    env.write("policy/names.rego", &all).unwrap();
    let texts = [
        "newly denied net: terraform_data.net has net-1",
        "newly denied net: terraform_data.secret has (sensitive)",
        "no longer denied net: net-1 is a bad name",
        "The last review would have been decided differently: 2 newly denied, 1 no longer denied.",
    ];
    let answer = expect(&env, &["policy", "replay"], 1, &texts);
    assert!(!answer.stdout.contains("hunter22"), "{}", answer.stdout);
    let replay = json(&env, &["policy", "replay", "--json", "--last", "1", "--base", "main"], 1);
    assert_eq!(replay["differing"][0]["differences"][0]["outcome"], "newly_denied");
    // Its review says the same in one finding.
    env.write("net/more.tf", "resource \"terraform_data\" \"other\" {}\n").unwrap();
    env.commit("Other policies").unwrap();
    let texts = [
        "warn with the policies of this change, the last review would have been decided differently: 2 newly",
        "windlass policy replay",
    ];
    expect(&env, &["review"], 1, &texts);
    expect(&env, &["review", "--all"], 1, &["warn with the policies of this change, 2 of the last 2 reviews"]);
    env.write("policy/names.rego", "package names\n\ndeny contains\n").unwrap();
    env.commit("Broken policies").unwrap();
    expect(&env, &["review"], 1, &["the policies of this change do not load"]);
}

/// A repository with one policy, and its commit.
fn policies(env: &CliEnv) -> (std::path::PathBuf, String) {
    let root = env.home().join("policies");
    std::fs::create_dir_all(root.join("base/inner")).unwrap();
    let git = Git::init(&root).unwrap();
    std::fs::write(root.join("base/names.rego"), names()).unwrap();
    std::fs::write(root.join("base/inner/data.json"), "{\"known\": [1]}").unwrap();
    std::fs::write(root.join("README.md"), "Policies").unwrap();
    git.run(&["add", "--all"]).unwrap();
    git.commit(("Dev", "dev@example.com"), "2026-01-05T09:00:00Z", "Policies").unwrap();
    git.run(&["tag", "v1"]).unwrap();
    let head = std::fs::read_to_string(root.join(".git/refs/heads/main")).unwrap().trim().to_owned();
    (root, head)
}

#[test]
fn a_bundle_from_git_is_pinned() {
    let env = with(&[]);
    let (root, commit) = policies(&env);
    let declare = |reference: &str, more: &str| {
        let text = format!(
            "policy \"company\" {{\n  source = \"git::file://{}//base?ref={reference}\"\n{more}}}\n",
            root.display()
        );
        env.write("windlass.hcl", &text).unwrap();
    };
    declare("v1", "");
    expect(&env, &["check"], 1, &["[WL471]", "can change", "windlass policy pull"]);
    let pulled = json(&env, &["policy", "pull", "--json"], 1);
    assert_eq!((&pulled["bundles"][0]["state"], &pulled["bundles"][0]["files"]), (&"not_declared".into(), &2.into()));
    let checksum = pulled["bundles"][0]["checksum"].as_str().unwrap().to_owned();
    declare("v1", &format!("  checksum = \"sha256:{}\"\n", "0".repeat(64)));
    expect(&env, &["check"], 1, &["[WL472]", &checksum]);
    declare("v1", &format!("  checksum = \"{checksum}\"\n"));
    expect(&env, &["policy", "pull"], 0, &["company", "as its definition says", &checksum]);
    env.commit("Pin it").unwrap();
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name", "bundle:company/names.rego:5"]);
    // The tag moves: what is kept is still what was pinned.
    std::fs::write(root.join("base/names.rego"), rego("names", "deny contains \"never\" if false")).unwrap();
    Git::open(&root).run(&["add", "--all"]).unwrap();
    Git::open(&root).commit(("Dev", "dev@example.com"), "2026-01-06T09:00:00Z", "Weaker").unwrap();
    Git::open(&root).run(&["tag", "--force", "v1"]).unwrap();
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name"]);
    expect(&env, &["policy", "pull"], 1, &["not what its definition says"]);
    let kept = env.root().join(".windlass/bundles");
    let file = kept.join(format!("{}.json", checksum.trim_start_matches("sha256:")));
    let content = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, content.replace("net-1", "net-9")).unwrap();
    expect(&env, &["review", "--all"], 2, &["[WL472]", "was changed"]);
    std::fs::remove_dir_all(&kept).unwrap();
    expect(&env, &["review", "--all"], 2, &["[WL472]", "not what its checksum says"]);
    // A full commit pins by itself, and needs nobody once it is kept.
    declare(&commit, "");
    env.commit("Pin the commit").unwrap();
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name"]);
    std::fs::rename(&root, root.with_extension("away")).unwrap();
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name"]);
    expect(&env, &["policy", "pull"], 3, &["[WL473]", "cannot be fetched"]);
    std::fs::remove_dir_all(&kept).unwrap();
    expect(&env, &["review", "--all"], 2, &["[WL473]"]);
    // Nothing is fetched for a policy that only a change names.
    env.write("windlass.hcl", "").unwrap();
    env.commit("None").unwrap();
    Git::open(&env.root()).run(&["switch", "--quiet", "--create", "change"]).unwrap();
    std::fs::rename(root.with_extension("away"), &root).unwrap();
    declare(&commit, "");
    env.commit("A bundle").unwrap();
    let texts = ["would have decided is not known", "is not kept on this machine", "Ready to apply"];
    expect(&env, &["review", "--all"], 0, &texts);
    assert!(walk(&kept).is_empty());
    env.write("windlass.hcl", "policy \"p\" {\n  source = \"git::ext://sh?ref=x\"\n}\n").unwrap();
    expect(&env, &["check"], 1, &["[WL470]", "nothing else"]);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A registry with what it is given by path; asks for a token first. Ends when the test does.
fn registry(content: Arc<Mutex<std::collections::BTreeMap<String, Vec<u8>>>>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let allowed = head.to_lowercase().contains("authorization: bearer t0ken");
            let (status, more, body) = if path.starts_with("/token?") {
                ("200 OK", String::new(), b"{\"token\": \"t0ken\"}".to_vec())
            } else if !allowed {
                let challenge =
                    format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"r\"\r\n");
                ("401 Unauthorized", challenge, Vec::new())
            } else {
                match content.lock().unwrap().get(&path) {
                    Some(body) => ("200 OK", String::new(), body.clone()),
                    None => ("404 Not Found", String::new(), Vec::new()),
                }
            };
            let head =
                format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that went away is its own business.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    port
}

#[test]
fn a_bundle_from_a_registry_is_checked_against_its_digest() {
    let env = with(&[]);
    let content = Arc::new(Mutex::new(std::collections::BTreeMap::new()));
    let port = registry(content.clone());
    let layer = names().into_bytes();
    let digest = format!("sha256:{}", sha256(&layer));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "layers": [{
            "mediaType": "application/vnd.cncf.openpolicyagent.policy.layer.v1+rego", "digest": digest,
            "size": layer.len(), "annotations": { "org.opencontainers.image.title": "names.rego" },
        }],
    })
    .to_string()
    .into_bytes();
    let pinned = format!("sha256:{}", sha256(&manifest));
    content.lock().unwrap().extend([
        (format!("/v2/team/policies/manifests/{pinned}"), manifest.clone()),
        ("/v2/team/policies/manifests/v1".to_owned(), manifest),
        (format!("/v2/team/policies/blobs/{digest}"), layer),
    ]);
    let declare = |reference: &str| {
        let text =
            format!("policy \"company\" {{\n  source = \"oci://127.0.0.1:{port}/team/policies{reference}\"\n}}\n");
        env.write("windlass.hcl", &text).unwrap();
    };
    declare(":v1");
    expect(&env, &["check"], 1, &["[WL471]"]);
    declare(&format!(":v1@{pinned}"));
    expect(&env, &["policy", "pull"], 0, &["pinned by its source", "1 file"]);
    env.commit("Pin it").unwrap();
    expect(&env, &["review", "--all"], 1, &["deny net-1 is a bad name", "bundle:company/names.rego:5"]);
    // A layer, then a manifest, that is not what it was.
    std::fs::remove_dir_all(env.root().join(".windlass/bundles")).unwrap();
    content.lock().unwrap().insert(format!("/v2/team/policies/blobs/{digest}"), b"package other\n".to_vec());
    expect(&env, &["check"], 1, &["[WL473]", "one of its layers is not what its digest"]);
    content.lock().unwrap().insert(format!("/v2/team/policies/manifests/{pinned}"), b"{\"layers\": []}".to_vec());
    expect(&env, &["check"], 1, &["[WL473]", "its manifest is not what its digest"]);
    content.lock().unwrap().clear();
    expect(&env, &["review", "--all"], 2, &["[WL473]", "404"]);
}

#[test]
fn opa_decides_where_it_is_and_nothing_passes_where_it_is_not() {
    let windlass = "policy \"names\" {\n  paths  = [\"policy\"]\n  engine = \"opa\"\n}\n";
    let mut env = with(&[("windlass.hcl", windlass), ("policy/names.rego", &names())]);
    env.only_programs(&["git", "terraform", "tofu", "cat", "sh", "env"]).unwrap();
    let texts = ["broken", "[WL452]", "no opa on the PATH", "Denied by policy"];
    expect(&env, &["review", "--all"], 1, &texts);
    // What it says is recorded from the real program.
    let programs = env.home().parent().unwrap().join("only");
    let answer = "{\"result\": [{\"expressions\": [{\"value\": [[[{\"msg\": \"opa says no\", \"address\": \"terraform_data.net\"}]]], \"text\": \"\"}]}]}";
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\ncapabilities) echo '{{\"builtins\": [{{\"name\": \"http.send\"}}, {{\"name\": \"count\"}}]}}' ;;\neval) cat > /dev/null\n  for a in \"$@\"; do case \"$a\" in */capabilities.json) cat \"$a\" >&2 ;; esac; done\n  echo \"$@\" > '{}/asked'\n  echo '{answer}' ;;\nesac\n",
        programs.display()
    );
    std::fs::write(programs.join("opa"), script).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(programs.join("opa"), std::fs::Permissions::from_mode(0o755)).unwrap();
    expect(&env, &["review", "--all"], 1, &["deny opa says no", "policy names", "policy/names.rego:5"]);
    let asked = std::fs::read_to_string(programs.join("asked")).unwrap();
    assert!(asked.contains("--strict-builtin-errors") && asked.contains("[v | v := data.names.deny]"), "{asked}");
    std::fs::write(programs.join("opa"), "#!/bin/sh\ncat > /dev/null\necho '{\"errors\": [{\"message\": \"var x is unsafe\", \"code\": \"rego_unsafe_var_error\"}], \"builtins\": []}'\nexit 2\n").unwrap();
    expect(&env, &["review", "--all"], 1, &["[WL453]", "var x is unsafe", "Denied by policy"]);
}
