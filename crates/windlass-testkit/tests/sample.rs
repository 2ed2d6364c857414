//! The sample under the real git and the real terraform: it is made the same everywhere, and it can be applied in its order.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use windlass_testkit::git::Git;
use windlass_testkit::sample::{BREAKING, FIXED, INSTANCES, UPGRADE, write_sample};

#[test]
fn the_history_is_the_same_everywhere() {
    let temporary = tempfile::tempdir().unwrap();
    let ids = |name: &str| -> String {
        let root = temporary.path().join(name);
        write_sample(&root).unwrap();
        Git::open(&root).run(&["for-each-ref", "--format=%(refname:short) %(objectname)"]).unwrap()
    };
    let first = ids("first");
    assert_eq!(first, ids("second"));
    let names: Vec<&str> = first.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, [BREAKING, FIXED, UPGRADE, "main"]);
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let temporary = tempfile::tempdir().unwrap();
    std::fs::write(temporary.path().join("mine"), "x").unwrap();
    assert!(write_sample(temporary.path()).is_err());
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
}

#[test]
fn every_instance_applies_in_order() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("sample");
    write_sample(&root).unwrap();
    let git = Git::open(&root);
    for instance in INSTANCES {
        apply(&root, instance);
    }
    assert_eq!(outputs(&root, "aws/monitor[osaka]")["jobs"], serde_json::json!(["cassandra"]));
    assert_eq!(outputs(&root, "aws/monitor[tokyo]")["jobs"], serde_json::json!(["cassandra", "scalardl"]));
    assert_eq!(outputs(&root, "aws/cassandra[tokyo]")["seeds"].as_array().unwrap().len(), 3);

    // States are no part of the repository, and switching branches keeps them.
    assert_eq!(git.run(&["status", "--porcelain"]).unwrap(), "");
    git.run(&["switch", "--quiet", FIXED]).unwrap();
    apply(&root, "aws/cassandra[tokyo]");
    assert_eq!(outputs(&root, "aws/cassandra[tokyo]")["seeds"].as_array().unwrap().len(), 5);
}

fn apply(root: &Path, instance: &str) {
    let var_file = match key(instance) {
        Some(key) => vec![format!("-var-file={key}.tfvars")],
        None => Vec::new(),
    };
    terraform(root, instance, &["init", "-input=false"], &[]);
    select(root, instance);
    terraform(root, instance, &["apply", "-input=false", "-auto-approve"], &var_file);
}

fn select(root: &Path, instance: &str) {
    if let Some(key) = key(instance) {
        terraform(root, instance, &["workspace", "select", "-or-create", key], &[]);
    }
}

fn outputs(root: &Path, instance: &str) -> BTreeMap<String, serde_json::Value> {
    select(root, instance);
    let text = terraform(root, instance, &["output", "-json"], &[]);
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    all.into_iter().map(|(name, output)| (name, output["value"].clone())).collect()
}

fn key(instance: &str) -> Option<&str> {
    instance.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'))
}

fn terraform(root: &Path, instance: &str, arguments: &[&str], more: &[String]) -> String {
    let directory = root.join(instance.split('[').next().unwrap());
    let output = Command::new(windlass_testkit::cli::terraform().unwrap())
        .args(arguments)
        .args(more)
        .current_dir(directory)
        .env_clear()
        .envs(["PATH", "HOME"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("CHECKPOINT_DISABLE", "1")
        .env("TF_IN_AUTOMATION", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{instance}: {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
