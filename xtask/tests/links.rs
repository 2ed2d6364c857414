//! Every relative link in the documentation leads to a file, and every page of the book is reachable.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn markdown(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

/// Targets of `[text](target)` outside of code, without those that lead to other sites, split into file and anchor.
fn links(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let prose = text.split("```").step_by(2).collect::<String>();
    for part in prose.split("](").skip(1) {
        let target = part.split(')').next().unwrap_or_default();
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) =
            target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor.to_owned())));
        found.push((file.to_owned(), anchor));
    }
    found
}

/// Anchors of the headings, as mdBook and forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase());
    headings
        .map(|heading| {
            heading.replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let root = workspace();
    let mut pages = markdown(&root);
    for directory in ["docs", "docs/design", "docs/codes"] {
        pages.extend(markdown(&root.join(directory)));
    }
    let mut broken = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for (file, anchor) in links(&text) {
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(&file) };
            let there = match (&anchor, std::fs::read_to_string(&target)) {
                (Some(anchor), Ok(text)) => anchors(&text).contains(anchor),
                (None, _) => target.exists(),
                (Some(_), Err(_)) => false,
            };
            if !there {
                broken.push(format!("{}: {file}#{}", page.display(), anchor.unwrap_or_default()));
            }
        }
    }
    assert!(pages.len() > 10, "the documentation is read");
    assert_eq!(broken, [""; 0]);
}

#[test]
fn every_page_is_in_the_book() {
    let docs = workspace().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = links(&summary).into_iter().map(|(file, _)| docs.join(file)).collect();
    let mut pages = markdown(&docs);
    pages.extend(markdown(&docs.join("design")));
    let left_out: Vec<&PathBuf> =
        pages.iter().filter(|page| !page.ends_with("SUMMARY.md") && !listed.contains(*page)).collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

#[test]
fn links_are_found_in_prose_only() {
    let text = "[a](b.md#c) `x` [site](https://example.com)\n```\n[no](no.md)\n```\n[d](e.md)";
    let found: Vec<String> = links(text).into_iter().map(|(file, anchor)| file + &anchor.unwrap_or_default()).collect();
    assert_eq!(found, ["b.mdc", "e.md"]);
    assert!(anchors("# The `env` of it\n").contains("the-env-of-it"));
}
