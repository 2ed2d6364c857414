//! The repositories made here are what they say: read by the real discovery, they have the stacks and edges they were made with.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use windlass_lang::discovery::discover;
use windlass_lang::tree::DirTree;
use windlass_model::stack::{EdgeKind, GateState, Repository};
use windlass_testkit::git::Git;
use windlass_testkit::sample::{BREAKING, FIXED, INSTANCES, UPGRADE, write_sample};
use windlass_testkit::synthetic::{write_synthetic, write_tiny};

fn read(root: &Path) -> Repository {
    let tree = DirTree::open(root).unwrap();
    let (definitions, mut diagnostics) = windlass_lang::definitions::load(&tree);
    let found = discover(&tree, &definitions);
    diagnostics.extend(found.diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:#?}");
    found.repository
}

fn edges(repository: &Repository) -> Vec<String> {
    let edge = |edge: &windlass_model::stack::Edge| {
        let gate = match edge.gate.as_ref().map(|gate| &gate.state) {
            None => "",
            Some(GateState::Open) => " (open)",
            Some(GateState::Closed) => " (closed)",
            Some(GateState::Unknown(_)) => " (unknown)",
        };
        format!("{} -> {}{gate}", edge.from, edge.to)
    };
    let mut edges: Vec<String> = repository.edges.iter().map(edge).collect();
    edges.sort();
    edges
}

#[test]
fn the_sample_has_its_graph_on_every_branch() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("sample");
    write_sample(&root).unwrap();
    for branch in ["main", BREAKING, FIXED, UPGRADE] {
        Git::open(&root).run(&["switch", "--quiet", branch]).unwrap();
        let repository = read(&root);
        let mut instances: Vec<&str> = repository.instances().map(|(_, instance)| instance.id.as_str()).collect();
        let mut want = INSTANCES;
        instances.sort_unstable();
        want.sort_unstable();
        assert_eq!(instances, want, "{branch}");
        let mut want = Vec::new();
        for region in ["osaka", "tokyo"] {
            for (from, to) in
                [("network", "cassandra"), ("network", "scalardl"), ("cassandra", "scalardl"), ("network", "monitor")]
            {
                want.push(format!("aws/{from}[{region}] -> aws/{to}[{region}]"));
            }
            want.push(format!("global/dns -> aws/network[{region}]"));
            want.push(format!("aws/cassandra[{region}] -> aws/monitor[{region}] (open)"));
            let gate = if region == "tokyo" { "open" } else { "closed" };
            want.push(format!("aws/scalardl[{region}] -> aws/monitor[{region}] ({gate})"));
        }
        want.sort();
        assert_eq!(edges(&repository), want, "{branch}");
    }
}

#[test]
fn environments_of_the_sample_are_by_region() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("sample");
    write_sample(&root).unwrap();
    for (_, instance) in read(&root).instances() {
        let want = if instance.id.as_str().ends_with("[osaka]") { "standby" } else { "production" };
        assert_eq!(instance.environments, [want], "{}", instance.id);
    }
}

#[test]
fn a_synthetic_repository_has_the_edges_it_was_made_with() {
    let temporary = tempfile::tempdir().unwrap();
    let made = write_synthetic(&temporary.path().join("repo"), 200, 11).unwrap();
    let repository = read(&made.root);
    assert_eq!((repository.stacks.len(), repository.edges.len()), (made.stacks, made.edges));
    assert!(repository.stacks.iter().any(|stack| stack.id.as_str() == made.changed_stack));
    assert!(repository.edges.iter().all(|edge| matches!(edge.kind, EdgeKind::RemoteState { .. })));
}

#[test]
fn tiny_stacks_are_unrelated() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("repo");
    assert_eq!(write_tiny(&root, 12).unwrap().len(), 12);
    let repository = read(&root);
    assert_eq!((repository.stacks.len(), repository.edges.len()), (12, 0));
}
