//! Stories of the mirror of providers: filled before the stacks are begun, from all of their lock files.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::depot::{Depot, head, platform};
use windlass_testkit::git::Git;
use windlass_testkit::registry::{self, H1, Registry, ZH};

const WRONG: &str = "h1:AAAAqXFaBkBMi5p+xVruSOxSy3orMeaV7YPUCDoIhCI=";

/// A stack with one item of the provider of each namespace, and its lock file.
fn write(env: &CliEnv, registry: &Registry, stack: &str, namespaces: &[&str], hashes: &[&str]) {
    let mut text = String::from("terraform {\n  backend \"local\" {}\n  required_providers {\n");
    for namespace in namespaces {
        let source = registry.address_in(namespace);
        text += &format!("    {namespace} = {{\n      source  = \"{source}\"\n      version = \"1.0.0\"\n    }}\n");
    }
    text += "  }\n}\n";
    for namespace in namespaces {
        text += &format!(
            "resource \"depot_item\" \"{namespace}\" {{\n  provider = {namespace}\n  name     = \"{stack}-{namespace}\"\n}}\n"
        );
    }
    env.write(&format!("{stack}/main.tf"), &text).unwrap();
    env.write(&format!("{stack}/.terraform.lock.hcl"), &registry.lock_file_of(namespaces, hashes)).unwrap();
}

/// A repository with these stacks (name, namespaces of its providers, checksums in its lock file), committed.
fn repository(stacks: &[(&str, &[&str], &[&str])]) -> (CliEnv, Depot, Registry) {
    let registry = Registry::start().unwrap();
    let mut env = env(&[("README.md", "Stacks\n")]);
    // Lock files are kept.
    env.write(".gitignore", "*.tfstate*\n.terraform/\n.windlass/\n").unwrap();
    for (stack, namespaces, hashes) in stacks {
        write(&env, &registry, stack, namespaces, hashes);
    }
    env.commit("Locked").unwrap();
    registry::trust(&registry, &mut env).unwrap();
    let depot = Depot::without_package(&env).unwrap();
    (env, depot, registry)
}

fn log(env: &CliEnv, step: &str) -> String {
    run(env, &["logs", step]).stdout
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}

#[test]
fn overlapping_lock_files_are_fetched_once_before_the_first_init() {
    let (env, depot, registry) =
        repository(&[("a", &["acme"], &[H1, ZH]), ("b", &["acme", "spare"], &[H1]), ("c", &["spare"], &[H1, ZH])]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    assert_eq!([registry.fetched_in("acme"), registry.fetched_in("spare")], [1, 1]);
    let said = log(&env, "latest/providers");
    let (acme, spare) = (registry.address_in("acme"), registry.address_in("spare"));
    let downloaded = |address: &str| format!("{address} 1.0.0 {}: downloaded ", platform());
    says(
        &said,
        &[&downloaded(&acme), &downloaded(&spare), "0 of 2 there already, 2 downloaded", " saved\n", "2 packages"],
    );
    for stack in ["a", "b", "c"] {
        // Its init had nothing to fetch: all was there before.
        let own = log(&env, &format!("latest/plan:{stack}"));
        assert!(
            !own.contains("into the mirror") && own.contains("Terraform has been successfully initialized"),
            "{own}"
        );
    }
    expect(&env, &["doctor"], 0, &["2 packages", "4 links to them here save"]);

    // Later runs find it: also an apply, and a look for drift.
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    says(&log(&env, "latest/providers"), &["2 of 2 there already, 0 downloaded"]);
    assert_eq!(depot.items().len(), 4);
    expect(&env, &["drift"], 0, &["0 instances drifted, 3 did not"]);
    says(&log(&env, "latest/providers"), &["2 of 2 there already"]);
    // Only what a run is about is looked for.
    expect(&env, &["review", "--stack", "a"], 0, &["Nothing to apply"]);
    says(&log(&env, "latest/providers"), &["1 of 1 there already"]);
    assert_eq!(registry.fetched(), 2);
}

#[test]
fn without_its_registry_a_run_has_what_the_mirror_has() {
    let (env, _depot, registry) = repository(&[("a", &["acme"], &[H1, ZH])]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    registry.stop();
    // Nothing that init left is needed, only the mirror.
    std::fs::remove_dir_all(env.root().join(".windlass/terraform")).unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    says(&log(&env, "latest/providers"), &["1 of 1 there already"]);

    // One more stack needs what nobody fetched: it alone cannot be planned.
    write(&env, &registry, "b", &["acme", "spare"], &[H1]);
    env.commit("Another one").unwrap();
    let spare = registry.address_in("spare");
    let missing = format!("{spare} 1.0.0 is not in the mirror and could not be fetched; b cannot be planned");
    let texts = ["WL521", &missing, "see whether its registry can be reached", "WL506", "create   depot_item.acme"];
    expect(&env, &["review", "--all"], 1, &texts);
    let said = log(&env, "latest/providers");
    says(&said, &["WL521", &missing, "connection refused", "1 of 2 there already, 0 downloaded (0.0 KiB), 1 not in"]);
    let states = steps(&env, "latest");
    assert!(states.iter().all(|(_, state)| state == "succeeded") && states.len() == 5, "{states:?}");
}

#[test]
fn what_a_lock_file_does_not_allow_is_refused_and_others_go_on() {
    let (env, _depot, registry) = repository(&[("a", &["acme"], &[H1]), ("b", &["spare"], &[WRONG])]);
    expect(&env, &["review", "--all"], 1, &["WL520", "the lock file allows neither", "create   depot_item.acme"]);
    says(&log(&env, "latest/providers"), &["WL520", "0 of 2 there already, 1 downloaded", "1 not in the mirror"]);
    let package = |namespace: &str| {
        let below = format!("{}/1.0.0/{}", registry.address_in(namespace), platform());
        env.home().join(".cache/windlass/providers/packages").join(below)
    };
    assert!(package("acme").is_dir() && !package("spare").exists());
}

#[test]
fn where_nothing_is_locked_there_is_no_step_and_init_gets_it_by_itself() {
    let (mut env, _depot, registry) = repository(&[]);
    let item = "resource \"depot_item\" \"one\" {\n  name = \"one\"\n}\n";
    env.write("a/main.tf", &(head(&registry.address()) + item)).unwrap();
    env.commit("Not locked").unwrap();
    registry::trust(&registry, &mut env).unwrap();
    expect(&env, &["review", "--all"], 0, &["create   depot_item.one"]);
    let states = steps(&env, "latest");
    assert!(states.iter().all(|(step, _)| step != "providers"), "{states:?}");
    assert_eq!(registry.fetched(), 1);
}

#[test]
fn a_cancel_ends_the_download_and_keeps_nothing_of_it() {
    let (env, _depot, registry) = repository(&[("a", &["acme", "spare"], &[H1])]);
    registry.hold();
    let mut child = start(&env, &["review", "--all"]);
    // Both at once: neither waits for the other one.
    wait(|| (registry.fetched() == 2).then_some(()));
    expect(&env, &["cancel", "latest", "--reason", "enough"], 0, &["asked to stop"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let states = steps(&env, "latest");
    let cancelled = |step: &str| states.contains(&(step.to_owned(), "cancelled".to_owned()));
    assert!(cancelled("providers") && cancelled("plan:a"), "{states:?}");
    let filling = env.home().join(".cache/windlass/providers/filling");
    assert!(std::fs::read_dir(filling).unwrap().next().is_none());
    registry.release();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    says(&log(&env, "latest/providers"), &["0 of 2 there already, 2 downloaded"]);
}

#[test]
fn a_registry_at_its_limit_is_asked_again() {
    let (env, _depot, registry) = repository(&[("a", &["acme"], &[H1])]);
    registry.refuse(1);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    says(
        &log(&env, "latest/providers"),
        &["bad response code: 503: a registry is overloaded", "attempt 2 of 3", ": downloaded "],
    );
}

#[test]
fn the_lock_file_of_a_deleted_stack_is_that_of_its_last_commit() {
    let (env, depot, registry) = repository(&[("a", &["acme"], &[H1]), ("b", &["spare"], &[H1])]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    Git::open(&env.root()).run(&["checkout", "-q", "-b", "gone"]).unwrap();
    Git::open(&env.root()).run(&["rm", "-q", "b/main.tf", "b/.terraform.lock.hcl"]).unwrap();
    env.commit("Not needed any more").unwrap();
    std::fs::remove_dir_all(env.home().join(".cache/windlass/providers")).unwrap();
    expect(&env, &["review"], 0, &["destroy  depot_item.spare"]);
    says(&log(&env, "latest/providers"), &["0 of 1 there already, 1 downloaded"]);
    assert_eq!([registry.fetched_in("acme"), registry.fetched_in("spare")], [1, 2]);
    assert_eq!(depot.items().len(), 2);
}
