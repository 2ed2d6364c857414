//! Stories with a provider whose resources live outside of the state: they drift, are found, are adopted, are lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use serde_json::{Value, json};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::depot::{ADDRESS, Depot, head};

/// The configuration of an item.
fn item(name: &str, rest: &str) -> String {
    format!("resource \"depot_item\" \"{name}\" {{\n  name = \"{name}\"\n{rest}}}\n")
}

fn stack(items: &[(&str, &str)]) -> String {
    head(ADDRESS) + &items.iter().map(|(name, rest)| item(name, rest)).collect::<String>()
}

/// Stacks with the provider installed and everything applied.
fn applied(files: &[(&str, &str)]) -> (CliEnv, Depot) {
    let env = env(files);
    let depot = Depot::install(&env).unwrap();
    apply_all(&env);
    (env, depot)
}

fn json(env: &CliEnv, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(env, arguments).stdout).unwrap()
}

/// A change by somebody who does not know of terraform.
fn by_alice(depot: &Depot, name: &str, mut attributes: Value) {
    attributes["updated_by"] = "alice".into();
    attributes["updated_at"] = "2026-03-01T10:00:00Z".into();
    depot.change(&depot.id(name), attributes).unwrap();
}

#[test]
fn drift_of_the_world_is_shown_with_who_did_it_and_put_back() {
    let items =
        [("front", "  size = 1\n  labels = [\"a\", \"b\"]\n  password = \"hunter22\"\n"), ("back", "  size = 2\n")];
    let (env, depot) = applied(&[("web/main.tf", &stack(&items)), ("net/main.tf", NET)]);
    expect(&env, &["drift"], 0, &["0 instances drifted, 2 did not"]);
    by_alice(&depot, "front", json!({ "size": 7, "labels": ["b", "a"], "password": "changed-by-hand" }));
    depot.remove(&depot.id("back")).unwrap();
    let texts = [
        "The world is not as the state says",
        "- deleted  depot_item.back  (web/main.tf:",
        "~ changed  depot_item.front  (web/main.tf:",
        "changed by alice at 2026-03-01T10:00:00Z",
        "size = 1 → 7",
        "password = (sensitive)",
        "windlass review --stack 'web'",
        "write what is there now into the code, and take out what is deleted",
        "1 instance drifted, 1 did not",
    ];
    let said = expect(&env, &["drift"], 1, &texts).stdout;
    // A set has no order; the code is as it was applied; nobody is told who deleted it; and nothing secret is shown.
    for word in ["labels", "The configuration would change", "hunter22", "changed-by-hand"] {
        assert!(!said.contains(word), "{said}");
    }
    let since =
        |json: &Value| json["instances"].as_array().unwrap().iter().find(|i| i["instance"] == "web").unwrap().clone();
    let first = since(&json(&env, &["drift", "--json"]));
    assert_eq!(first["drift"]["touched"]["depot_item.front"]["by"], "alice");
    assert!(!first.to_string().contains("hunter22") && !first.to_string().contains("changed-by-hand"), "{first}");
    // The same finding again is as old as it was; another one is history.
    by_alice(&depot, "front", json!({ "size": 8 }));
    let second = since(&json(&env, &["drift", "--json"]));
    assert_eq!(second["since"], first["since"]);
    assert_eq!((first["history"].as_array().unwrap().len(), second["history"].as_array().unwrap().len()), (1, 2));

    expect(&env, &["review", "--stack", "web"], 0, &["create   depot_item.back", "size = 8 → 1"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(depot.items().len(), 2);
    expect(&env, &["drift"], 0, &["0 instances drifted, 2 did not"]);
    let third = since(&json(&env, &["drift", "--last", "--json"]));
    assert!(third["since"].is_null() && third["history"].as_array().unwrap().len() == 3, "{third}");
}

#[test]
fn drift_of_the_code_and_of_the_world_are_told_apart_and_can_be_adopted() {
    let of = |size: u32| stack(&[("front", &format!("  size = {size}\n")), ("back", "")]);
    let (env, depot) = applied(&[("web/main.tf", &of(1))]);
    // The code was changed, and never applied.
    env.write("web/main.tf", &of(5)).unwrap();
    env.commit("Five").unwrap();
    let said = expect(&env, &["drift"], 1, &["The configuration would change", "size = 1 → 5", "never applied"]).stdout;
    assert!(!said.contains("The world"), "{said}");
    // Beside it the world was changed: both are there.
    by_alice(&depot, "front", json!({ "size": 7 }));
    expect(&env, &["drift"], 1, &["size = 1 → 5", "size = 1 → 7", "changed by alice"]);
    // What is there goes into the code: nobody has to do anything, and the next apply of something else records it.
    env.write("web/main.tf", &of(7)).unwrap();
    env.commit("As it is").unwrap();
    expect(&env, &["drift"], 0, &["0 instances drifted, 1 did not"]);
    expect(&env, &["review", "--stack", "web"], 0, &["Nothing to apply"]);
    by_alice(&depot, "back", json!({ "zone": "north" }));
    expect(&env, &["drift"], 1, &["changed  depot_item.back", "No drift: depot_item.front; code and world agree"]);
}

#[test]
fn declared_noise_is_no_drift() {
    let windlass = "stack \"web\" {\n  drift_ignore = [\"depot_item.*.size\", \"*.updated_*\"]\n}\n";
    let (env, depot) = applied(&[("web/main.tf", &stack(&[("front", "  size = 1\n")])), ("windlass.hcl", windlass)]);
    by_alice(&depot, "front", json!({ "size": 7 }));
    expect(&env, &["drift"], 0, &["0 instances drifted"]);
    by_alice(&depot, "front", json!({ "size": 7, "zone": "north" }));
    let said = expect(&env, &["drift"], 1, &["zone = \"north\"", "changed by alice"]).stdout;
    assert!(!said.contains("size") && !said.contains("updated_at"), "{said}");
    // A scheduler hears of it, and of nothing else.
    expect(&env, &["drift", "--schedule-ready"], 1, &["zone"]);
    depot.change(&depot.id("front"), json!({ "zone": null })).unwrap();
    assert_eq!(expect(&env, &["drift", "--schedule-ready"], 0, &[]).stdout, "");
}
