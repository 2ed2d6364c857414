//! What denies a review and what a dead apply left are settled from a terminal.

use super::World;
use super::common::{run, wait};
use windlass_testkit::state_server::StateServer;

const WINDLASS: &str = "team \"sre\" {\n  members = [\"email:ana@example.com\"]\n}\npolicy \"names\" {\n  paths = [\"policy\"]\n  waivers {\n    from = [team.sre]\n  }\n}\n";
const POLICY: &str = "package names\n\nimport rego.v1\n\ndeny contains {\"msg\": \"kept is a bad name\", \"address\": change.address} if {\n\tsome change in input.resource_changes\n\tchange.change.after.input == \"kept\"\n}\n";

#[test]
fn denials_and_what_a_dead_apply_left_are_settled_from_a_terminal() {
    let states = StateServer::start().unwrap();
    let world = World::new();
    let stack = |more: &str| {
        let backend = states.backend("kept");
        let text = format!(
            "terraform {{\n{backend}}}\nresource \"terraform_data\" \"kept\" {{\n  input = \"kept\"\n}}\n{more}"
        );
        world.env.write("kept/main.tf", &text).unwrap();
    };
    stack("");
    world.env.write("windlass.hcl", WINDLASS).unwrap();
    world.env.write("policy/names.rego", POLICY).unwrap();
    world.env.commit("A stack, and who may waive what").unwrap();
    world.push("main");
    wait(|| (run(&world.env, &["show", "kept"]).code == Some(0)).then_some(()));
    world.expect(&["waivers"], 0, &["Nothing was ever waived"]);
    world.git.run(&["switch", "--quiet", "-c", "more"]).unwrap();
    stack("resource \"terraform_data\" \"more\" {}\n");
    world.env.commit("More").unwrap();
    world.push("more");

    world.expect(&["review", "--stack", "kept"], 1, &["deny kept is a bad name", "Denied by policy"]);
    let review = world.json(&["runs", "latest"])["run"]["run"].as_str().unwrap().to_owned();
    world.expect(&["waive"], 1, &["names.deny", "you may waive it"]);
    world.expect(&["waive", "other", "--reason", "r"], 2, &["WL460"]);
    world.expect(&["waive", "deny", "--reason", "agreed in OPS-1"], 0, &["Waived until", "Ready to apply"]);
    world.expect(&["waive"], 0, &["Nothing denies review"]);
    world.expect(&["waivers"], 0, &["data.names.deny", "agreed in OPS-1"]);
    let given = &world.json(&["waivers"])["per_rule"]["data.names.deny"];
    assert_eq!(*given, serde_json::json!({ "given": 1, "expired": 0, "reviews": 1 }));

    states.fail_writes(true);
    world.expect(&["apply", "--yes"], 1, &["kept is quarantined"]);
    world.expect(&["recover"], 1, &["kept"]);
    world.expect(&["recover", "kept"], 1, &["terraform could not write its state", "windlass recover kept --push"]);
    world.expect(&["recover", "kept", "--push"], 1, &["error["]);
    states.fail_writes(false);
    world.expect(&["recover", "kept", "--force-unlock", "f00"], 1, &["error[WL656]"]);
    world.expect(&["recover", "kept", "--snapshot", "latest"], 2, &["error[WL904]", "secrets in the clear"]);
    world.expect(&["recover", "kept", "--push"], 0, &["Pushed."]);
    world.expect(&["recover", "kept", "--push"], 2, &["error[WL654]"]);
    world.expect(&["recover", "kept", "--release", "--why", "pushed"], 0, &["windlass review"]);
    world.expect(&["recover"], 0, &["Nothing is quarantined"]);
    world.expect(&["recover", "kept", "--push"], 2, &["error[WL653]"]);
    // The waiver was for that review alone.
    world.expect(&["review", "--stack", "kept"], 1, &["No changes in 1 instance", "Denied by policy"]);
    world.expect(&["diff", &review, "latest"], 1, &["terraform_data.more"]);
    world.expect(&["audit", "log", "--kind", "state."], 0, &["state.pushed"]);
}

#[test]
fn a_mistake_has_its_place_wherever_it_is_found() {
    let world = World::new();
    world.git.run(&["switch", "--quiet", "-c", "wrong"]).unwrap();
    world.env.write("windlass.hcl", "project \"p\" {\n  enviroment \"e\" {}\n}\n").unwrap();
    world.env.commit("A mistake").unwrap();
    world.push("wrong");
    let here = run(&world.env, &["check"]);
    let there = run(&world.env, &["review"]);
    assert_eq!(there.code, Some(2), "{there:?}");
    let of = |text: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.starts_with("error["));
        lines.take_while(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    };
    let found = of(&there.stderr);
    assert!(found.iter().any(|line| line.contains("windlass.hcl:2")) && found.len() > 2, "{there:?}");
    assert_eq!(found, of(&format!("{}{}", here.stdout, here.stderr)));
}
