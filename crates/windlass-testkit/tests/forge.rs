//! The forges that are made up have real repositories, and tell what happens in them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use windlass_testkit::forge::state::{ChangeState, Hindrance, Protection, REPOSITORY, State, Word};
use windlass_testkit::forge::{Forge, Method, Order};
use windlass_testkit::git::Git;

/// A branch with one file, and the change that wants it in `main`.
fn proposed(state: &mut State, branch: &str, file: &str, text: &str) -> u64 {
    state.push("bob", REPOSITORY, branch, Some("refs/heads/main"), &[(file, Some(text))]).unwrap();
    state.open("bob", branch, REPOSITORY, branch, "main").unwrap()
}

fn files(state: &State, commit: &str) -> String {
    let listed = Git::open(state.main().unwrap().path()).run(&["ls-tree", "--name-only", commit]).unwrap();
    listed.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn changes_are_merged_in_every_way() {
    let forge = Forge::gitea().unwrap();
    forge.with(|state| {
        for (method, parents) in [(Method::Merge, 2), (Method::Squash, 1), (Method::Rebase, 1)] {
            let branch = format!("{method:?}");
            let number = proposed(state, &branch, &branch, "x\n");
            proposed(state, &format!("before-{branch}"), &format!("{branch}-2"), "y\n");
            state.merge("anna", number + 1, None, Method::Merge).unwrap().unwrap();
            let head = state.change(number).unwrap().commit.clone();
            let merged = state.merge("anna", number, Some(&head), method).unwrap().unwrap();
            let git = Git::open(state.main().unwrap().path());
            let line = git.run(&["rev-list", "--parents", "--max-count=1", &merged]).unwrap();
            assert_eq!(line.split_whitespace().count(), parents + 1, "{method:?}");
            assert!(files(state, "main").contains(&format!("{branch} {branch}-2")), "{}", files(state, "main"));
            let reference = format!("refs/pull/{number}/head");
            assert_eq!(state.main().unwrap().commit(&reference), Some(head));
        }
        let first = proposed(state, "first", "same", "1\n");
        let second = proposed(state, "second", "same", "2\n");
        state.merge("anna", first, None, Method::Merge).unwrap().unwrap();
        for method in [Method::Merge, Method::Squash, Method::Rebase] {
            assert_eq!(state.merge("anna", second, None, method).unwrap(), Err(Hindrance::Conflict), "{method:?}");
        }
        assert_eq!(
            state.merge("anna", first, None, Method::Merge).unwrap(),
            Err(Hindrance::NotOpen(ChangeState::Merged))
        );
        assert_eq!(state.merge("anna", second, Some("0"), Method::Merge).unwrap(), Err(Hindrance::HeadMoved));
        state.protection = Protection { statuses: Vec::new(), approvals: 1 };
        let waits = |state: &State| matches!(state.hindrance(second, None), Some(Hindrance::Waits(_)));
        assert!(waits(state) && state.review("bob", second, Word::Approves).is_err());
        state.review("anna", second, Word::Approves).unwrap();
        assert!(!waits(state));
        state.dismiss("carol", second, "anna").unwrap();
        assert!(waits(state));
    });
}

#[test]
fn a_push_with_git_moves_the_change_of_a_fork() {
    let forge = Forge::gitea().unwrap();
    let (fork, number) = forge.with(|state| {
        let fork = state.fork("mallory").unwrap();
        state.push("mallory", &fork, "theirs", None, &[("a", Some("1\n"))]).unwrap();
        let number = state.open("mallory", "theirs", &fork, "theirs", "main").unwrap();
        (state.repository(&fork).unwrap().path().to_owned(), number)
    });
    let clone = tempfile::tempdir().unwrap();
    let git = Git::open(clone.path());
    let at = |path: &Path| path.to_string_lossy().into_owned();
    git.run(&["clone", "--quiet", "--branch", "theirs", &at(&fork), "."]).unwrap();
    std::fs::write(clone.path().join("a"), "2\n").unwrap();
    git.run(&["add", "a"]).unwrap();
    git.commit(("mallory", "mallory@example.com"), "2026-01-01T00:00:00Z", "more").unwrap();
    git.run(&["push", "--quiet", "origin", "theirs"]).unwrap();
    forge.pushed("mallory").unwrap();
    forge.with(|state| {
        let change = state.change(number).unwrap().clone();
        let pushed = state.main().unwrap().commit(&format!("refs/pull/{number}/head"));
        assert_eq!(pushed.as_deref(), Some(&*change.commit));
        assert_eq!(git.run(&["rev-parse", "HEAD"]).unwrap().trim(), change.commit);
        state.fork_delete(&change.repository).unwrap();
        assert_eq!(state.change(number).unwrap().repository, "");
    });
}

#[test]
fn deliveries_are_lost_repeated_and_turned_around() {
    // Another forge takes what this one tells: its answers say that they came.
    let (forge, receiver) = (Forge::gitea().unwrap(), Forge::gitea().unwrap());
    let deliveries = forge.deliveries();
    deliveries.send_to(&receiver.url("/hook"), "a secret");
    let number = forge.with(|state| proposed(state, "one", "a", "1\n"));
    deliveries.lose(1);
    forge.with(|state| state.comment("anna", number, "is lost").unwrap());
    deliveries.hold();
    deliveries.repeat(1);
    forge.with(|state| state.comment("anna", number, "comes twice").unwrap());
    deliveries.repeat(0);
    forge.with(|state| state.close("anna", number).unwrap());
    assert!(deliveries.settle());
    assert_eq!(deliveries.done().len(), 2, "those that are held back wait");
    deliveries.release(Order::Reversed);
    assert!(deliveries.settle());
    let done = deliveries.done();
    let seen: Vec<&str> = done.iter().map(|delivered| delivered.event.as_str()).collect();
    assert_eq!(seen, ["push", "pull_request", "pull_request", "issue_comment", "issue_comment"]);
    assert!(done.iter().all(|delivered| delivered.status == Some(401)));
    assert_eq!((&done[3].headers, &done[3].body), (&done[4].headers, &done[4].body));
    assert!(done[3].headers.iter().any(|(name, value)| name == "x-gitea-signature" && value.len() == 64));
    deliveries.again(&done[0]);
    assert!(deliveries.settle());
    assert_eq!(deliveries.done().last().map(|it| it.event.clone()), Some("push".into()));
    assert_eq!(receiver.heard().len(), 6);
}
