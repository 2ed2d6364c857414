//! `cargo xtask check`.

use crate::licences;
use crate::options::Options;
use crate::shell::{self, Failure, Result, cargo, read, workspace};
use std::process::Command;

pub const HELP: &str = "\
Usage: cargo xtask check

What has to be clean before a commit: the format, clippy and rustdoc with warnings as errors, licences and sources of
all dependencies (by cargo-deny when it is installed), the crate graph, no markers of unfinished work. Runs all of
them, also after one failed, and installs nothing.";

type Check = (&'static str, fn() -> Result<()>);

const CHECKS: [Check; 6] = [
    ("format", || shell::run(cargo().args(["fmt", "--all", "--", "--check"]))),
    ("clippy", || {
        let all = ["clippy", "--workspace", "--all-targets", "--all-features", "--quiet", "--", "-D", "warnings"];
        shell::run(cargo().args(all))
    }),
    ("documentation", || {
        shell::run(cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("dependencies", dependencies),
    ("crate graph", || shell::run(cargo().args(["test", "--quiet", "--package", "xtask", "--test", "crate_graph"]))),
    ("unfinished work", markers),
];

fn run_all(checks: &[Check]) -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in checks {
        eprintln!("== {name}");
        if let Err(failure) = check() {
            eprintln!("{failure}");
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        eprintln!("All {} checks passed.", checks.len());
        return Ok(());
    }
    Err(Failure::new(format!("{} of {} checks failed: {}", failed.len(), checks.len(), failed.join(", "))))
}

pub fn run(_: &Options) -> Result<()> {
    run_all(&CHECKS)
}

fn dependencies() -> Result<()> {
    if cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        return shell::run(cargo().args(["deny", "--workspace", "check", "--hide-inclusion-graph"]));
    }
    licences::check()?;
    eprintln!(
        "note: licences and sources were checked by xtask itself; known vulnerabilities were not. For those:\n\
         note:   cargo install cargo-deny --locked && cargo deny check"
    );
    Ok(())
}

/// Words that say that something is not finished. Written in halves, so that this file passes.
const MARKERS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!(")];

fn markers() -> Result<()> {
    let files = read(
        Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(workspace()),
    )?;
    let mut found = Vec::new();
    for file in files
        .lines()
        .filter(|file| [".rs", ".md", ".toml", ".hcl", ".tf", ".sql", ".sh"].iter().any(|end| file.ends_with(end)))
    {
        // A file that was just deleted is still in the index.
        let Ok(text) = std::fs::read_to_string(workspace().join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if MARKERS.iter().any(|marker| has_word(line, marker)) {
                found.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::new(found.join("\n"))) }
}

/// Whether the marker stands there as a word of its own.
fn has_word(line: &str, marker: &str) -> bool {
    line.match_indices(marker).any(|(at, _)| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back().is_some_and(word);
        let after = line[at + marker.len()..].chars().next().is_some_and(word);
        // `(` ends the word already.
        !before && (marker.ends_with('(') || !after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_checks_run_also_after_a_failure() {
        let checks: [Check; 3] =
            [("one", || Err(Failure::new("no"))), ("two", || Ok(())), ("three", || Err(Failure::new("no")))];
        let failure = run_all(&checks).unwrap_err();
        assert_eq!(failure.message, "2 of 3 checks failed: one, three");
        assert!(run_all(&checks[1..2]).is_ok());
    }

    #[test]
    fn markers_are_words() {
        let marker = MARKERS[0];
        assert!(has_word(&format!("// {marker}: later"), marker));
        assert!(!has_word(&format!("{marker}S_TABLE"), marker));
        assert!(!has_word(&format!("MY_{marker}"), marker));
        assert!(has_word(&format!("{})", MARKERS[2]), MARKERS[2]));
    }
}
