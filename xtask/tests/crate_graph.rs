//! Which crate may use which. The table is the one in ARCHITECTURE.md; a crate may use those above it, and nothing that its row
//! says it must not know.

#![allow(clippy::unwrap_used, reason = "a test")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Crates from the bottom up, and packages from crates.io that each must not use.
const TABLE: [(&str, &[&str]); 13] = [
    (
        "windlass-model",
        &["tokio", "rusqlite", "postgres", "axum", "reqwest", "hyper", "hcl-edit", "chrono", "clap", "regorus"],
    ),
    ("windlass-lang", &["tokio", "rusqlite", "postgres", "axum", "reqwest", "hyper", "clap"]),
    ("windlass-policy", &["tokio", "rusqlite", "postgres", "axum", "reqwest", "hyper", "clap"]),
    (
        "windlass-render",
        &[
            "windlass-lang",
            "windlass-policy",
            "tokio",
            "rusqlite",
            "postgres",
            "axum",
            "reqwest",
            "hyper",
            "clap",
            "hcl-edit",
            "regorus",
        ],
    ),
    ("windlass-store", &["axum", "reqwest", "hyper", "clap", "hcl-edit", "regorus"]),
    ("windlass-engine", &["axum", "reqwest", "hyper", "clap", "hcl-edit", "regorus"]),
    ("windlass-drivers", &["rusqlite", "postgres", "axum", "clap"]),
    ("windlass-connect", &["rusqlite", "postgres", "axum", "clap"]),
    ("windlass-app", &["axum", "clap"]),
    ("windlass-server", &["rusqlite", "postgres", "clap"]),
    ("windlass", &[]),
    (TESTKIT, &[]),
    ("xtask", &[]),
];

/// For development: no other crate ships with it.
const TESTKIT: &str = "windlass-testkit";

#[test]
fn crates_use_only_what_the_table_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 10, "the whole workspace is read");
    assert_eq!(violations(packages), [""; 0]);
}

/// One sentence for each use that is not allowed.
fn violations(packages: &[Value]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let row = |name: &str| TABLE.iter().position(|(known, _)| *known == name);
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(place) = row(name) else {
            found.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap();
            let shipped = dependency["kind"].as_str() != Some("dev");
            if TABLE[place].1.contains(&used) && shipped {
                found.push(format!("{name} must not know {used}"));
            }
            if !ours.contains(used) {
                continue;
            }
            let above = row(used).is_some_and(|upper| upper < place);
            let testing = used == TESTKIT && (!shipped || name == "xtask");
            if !testing && (!above || used == TESTKIT) {
                found.push(format!("{name} must not use {used}"));
            }
        }
    }
    found
}

#[test]
fn what_is_not_allowed_is_found() {
    let package = |name: &str, dependencies: &[(&str, Option<&str>)]| {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| serde_json::json!({"name": name, "kind": kind})).collect();
        serde_json::json!({"name": name, "dependencies": dependencies})
    };
    let found = violations(&[
        package("windlass-model", &[("serde", None), ("tokio", None), ("tokio", Some("dev"))]),
        package(
            "windlass-store",
            &[("windlass-model", None), ("windlass-engine", None), ("windlass-testkit", Some("dev"))],
        ),
        package("windlass-engine", &[("windlass-testkit", None)]),
        package("windlass-testkit", &[("windlass-store", None)]),
        package("xtask", &[("windlass-testkit", None)]),
        package("windlass-helper", &[]),
    ]);
    assert_eq!(
        found,
        [
            "windlass-model must not know tokio",
            "windlass-store must not use windlass-engine",
            "windlass-engine must not use windlass-testkit",
            "windlass-helper is not in the table",
        ]
    );
}
