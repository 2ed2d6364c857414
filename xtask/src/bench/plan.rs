//! Policies and review of one large plan.

use super::discover::{middle, remove, show};
use super::measure::{Usage, measure as measure_command, memory_at_once};
use super::{Bench, Row, at_most};
use crate::shell::{self, Failure, Result};
use std::path::Path;
use std::process::Command;
use windlass_testkit::plan::synthetic_plan;

const SEED: u64 = 20_260_105;

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let (resources, rounds) = if bench.quick { (500, 2) } else { (10_000, 5) };
    let rounds = bench.rounds.unwrap_or(rounds);
    let root = bench.directory.join("plan");
    prepare(&root, resources)?;
    let mut plain = Vec::new();
    let mut ours = Vec::new();
    // Once for the page cache.
    parse(bench, &root)?;
    for round in 1..=rounds {
        plain.push(parse(bench, &root)?);
        ours.push(review(bench, &root, resources)?);
        eprintln!("  round {round}: read + parse {}; policies + review {}", show(plain.last()), show(ours.last()));
    }
    let together = memory_at_once(bench, &mut command(bench, &root))?;
    remove(&root)?;
    let wall = middle(&ours, |u| u.wall_ms) / middle(&plain, |u| u.wall_ms);
    let memory = middle(&ours, |u| u.rss_mib) / middle(&plain, |u| u.rss_mib);
    let name = format!("plan of {resources}: policies + review");
    let mut rows = vec![
        at_most(format!("{name}, wall, ratio to read + parse"), 3.0, wall, "×"),
        at_most(format!("{name}, memory, ratio to read + parse"), 2.0, memory, "×"),
    ];
    if !bench.quick {
        rows.push(at_most(format!("{name}, CPU"), 3_000.0, middle(&ours, |u| u.cpu_ms), " ms"));
        rows.push(at_most(format!("{name}, largest resident set"), 500.0, middle(&ours, |u| u.rss_mib), " MB"));
        rows.extend(together.map(|most| at_most(format!("{name}, all processes at once"), 500.0, most, " MB")));
    }
    Ok(rows)
}

/// A repository with policies of the library, and the plan beside it.
fn prepare(root: &Path, resources: usize) -> Result<()> {
    remove(root)?;
    let io = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", root.display()));
    std::fs::create_dir_all(root.join("policy")).map_err(io)?;
    let library = shell::workspace().join("crates/windlass-policy/library");
    for (from, to) in [("plan.rego", "plan.rego"), ("aws/public_exposure.rego", "public_exposure.rego")] {
        std::fs::copy(library.join(from), root.join("policy").join(to)).map_err(io)?;
    }
    shell::run(Command::new("git").args(["init", "--quiet"]).arg(root))?;
    eprintln!("making a plan of {resources} resources");
    let text = synthetic_plan(resources, SEED).to_string();
    eprintln!("  {:.1} MB", text.len() as f64 / 1e6);
    std::fs::write(root.join("plan.json"), text).map_err(io)
}

fn parse(bench: &Bench, root: &Path) -> Result<Usage> {
    let mut command = Command::new(&bench.xtask);
    command.arg("parse-json").arg(root.join("plan.json"));
    measure_command(bench, &mut command, &[0]).map(|(usage, _)| usage)
}

/// `xtask parse-json FILE`: reads and parses it. The least that any tool has to do that looks at all of a plan.
pub fn parse_json(arguments: &[String]) -> Result<()> {
    let [path] = arguments else { return Err(Failure::usage("parse-json FILE")) };
    let text = std::fs::read(path).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| Failure::new(format!("cannot parse {path}: {e}")))?;
    println!("{} members", std::hint::black_box(&value).as_object().map_or(0, serde_json::Map::len));
    // As a program that ends: what it holds is left to the system.
    std::mem::forget(value);
    Ok(())
}

fn command(bench: &Bench, root: &Path) -> Command {
    let mut command = Command::new(&bench.windlass);
    command.args(["review", "--plan", "plan.json", "--format", "markdown"]).current_dir(root);
    command
}

fn review(bench: &Bench, root: &Path, resources: usize) -> Result<Usage> {
    let (usage, answer) = measure_command(bench, &mut command(bench, root), &[0, 1])?;
    // A fast wrong answer is no answer.
    let changed = resources * 3 / 4;
    if !answer.contains("to create") || answer.len() < changed.min(10_000) {
        return Err(Failure::new(format!("`windlass review --plan` gave no review:\n{answer}")));
    }
    Ok(usage)
}
