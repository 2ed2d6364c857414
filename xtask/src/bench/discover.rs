//! Discovery, graph and affected set of large repositories.

use super::measure::{Usage, measure as measure_command};
use super::{Bench, Row, at_most, median, reported};
use crate::shell::{Failure, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use windlass_testkit::synthetic::{Synthetic, write_synthetic};

const SEED: u64 = 20_260_105;

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let sizes: &[usize] = if bench.quick { &[100, 1_000] } else { &[100, 1_000, 10_000] };
    let rounds = bench.rounds.unwrap_or(if bench.quick { 2 } else { 5 });
    let mut rows = Vec::new();
    let mut walls = Vec::new();
    for &size in sizes {
        let root = bench.directory.join(format!("synthetic-{size}"));
        remove(&root)?;
        eprintln!("making a repository of {size} stacks");
        let made = write_synthetic(&root, size, SEED)?;
        eprintln!("  {} files, {:.1} MB, {} edges", made.files, made.bytes as f64 / 1e6, made.edges);
        // Once for the page cache, which both read from; "cold" means a new process without anything kept between runs.
        baseline(bench, &root)?;
        let mut plain = Vec::new();
        let mut ours = Vec::new();
        for round in 1..=rounds {
            plain.push(baseline(bench, &root)?);
            ours.push(affected(bench, &made)?);
            eprintln!("  round {round}: read + diff {}; affected {}", show(plain.last()), show(ours.last()));
        }
        let wall = middle(&ours, |u| u.wall_ms);
        walls.push((size, wall));
        rows.push(at_most(
            format!("{size} stacks: wall, ratio to read + diff"),
            2.0,
            wall / middle(&plain, |u| u.wall_ms),
            "×",
        ));
        let cpu = middle(&ours, |u| u.cpu_ms) / middle(&plain, |u| u.cpu_ms);
        rows.push(reported(format!("{size} stacks: CPU, ratio to read + diff"), cpu, "×"));
        if size == 10_000 {
            rows.push(at_most("10000 stacks: wall", 1_000.0, wall, " ms"));
            rows.push(at_most("10000 stacks: largest resident set", 300.0, middle(&ours, |u| u.rss_mib), " MB"));
        }
        remove(&root)?;
    }
    for pair in walls.windows(2) {
        if let [(small, before), (large, after)] = pair {
            // Linear, with a little more allowed: caches of the processor end somewhere in between.
            let limit = *large as f64 / *small as f64 * 1.2;
            rows.push(at_most(format!("from {small} to {large} stacks: wall grows by"), limit, after / before, "×"));
        }
    }
    Ok(rows)
}

fn affected(bench: &Bench, made: &Synthetic) -> Result<Usage> {
    let mut command = Command::new(&bench.windlass);
    command.args(["affected", "--base", "HEAD~1", "--json"]).current_dir(&made.root);
    let (usage, answer) = measure_command(bench, &mut command, &[0])?;
    // A fast wrong answer is no answer.
    let json: serde_json::Value = serde_json::from_str(&answer)
        .map_err(|error| Failure::new(format!("`windlass affected --json` gave no JSON: {error}")))?;
    if !mentions(&json, &made.changed_stack) {
        return Err(Failure::new(format!("`windlass affected` did not name {}:\n{answer}", made.changed_stack)));
    }
    Ok(usage)
}

fn mentions(value: &serde_json::Value, text: &str) -> bool {
    match value {
        serde_json::Value::String(found) => found == text,
        serde_json::Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        serde_json::Value::Object(members) => members.values().any(|member| mentions(member, text)),
        _ => false,
    }
}

fn baseline(bench: &Bench, root: &Path) -> Result<Usage> {
    measure_command(bench, Command::new(&bench.xtask).arg("read-all").arg(root), &[0]).map(|(usage, _)| usage)
}

/// `xtask read-all DIR`: one thread reads every `.tf` file, then git names what differs. The least that any tool has to do.
pub fn read_all(arguments: &[String]) -> Result<()> {
    let [root] = arguments else { return Err(Failure::usage("read-all DIR")) };
    let io = |path: &Path, error: std::io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let mut directories = vec![PathBuf::from(root)];
    let (mut files, mut bytes) = (0u64, 0u64);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|e| io(&directory, e))? {
            let entry = entry.map_err(|e| io(&directory, e))?;
            let (name, kind) = (entry.file_name(), entry.file_type().map_err(|e| io(&directory, e))?);
            if kind.is_dir() && name != ".git" {
                directories.push(entry.path());
            } else if kind.is_file() && name.as_encoded_bytes().ends_with(b".tf") {
                let path = entry.path();
                let content = std::fs::read(&path).map_err(|e| io(&path, e))?;
                files += 1;
                bytes += std::hint::black_box(content).len() as u64;
            }
        }
    }
    let status = Command::new("git").args(["diff", "--name-only", "HEAD~1"]).current_dir(root).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(Failure::new("git diff failed"));
    }
    println!("{files} files, {bytes} bytes");
    Ok(())
}

pub fn middle(usages: &[Usage], of: fn(&Usage) -> f64) -> f64 {
    median(usages.iter().map(of).collect())
}

pub fn show(usage: Option<&Usage>) -> String {
    usage.map(|u| format!("{:.0} ms wall, {:.0} ms CPU, {:.0} MB", u.wall_ms, u.cpu_ms, u.rss_mib)).unwrap_or_default()
}

pub fn remove(root: &Path) -> Result<()> {
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("cannot remove {}: {error}", root.display())))
        }
        _ => Ok(()),
    }
}
