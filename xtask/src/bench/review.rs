//! A review of many tiny stacks against terraform alone.

use super::discover::remove;
use super::measure::{Usage, measure as measure_command};
use super::{Bench, Row, at_most, median};
use crate::shell::{Failure, Result, works};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use windlass_testkit::synthetic::write_tiny;

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let stacks = if bench.quick { 10 } else { 100 };
    let rounds = bench.rounds.unwrap_or(if bench.quick { 1 } else { 3 });
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let bare = once(bench, "bare", stacks, |root| {
            let mut command = Command::new(&bench.xtask);
            command.arg("bare-loop").arg(root);
            Ok((measure_command(bench, &mut command, &[0])?.0, ()))
        })?;
        let ours = once(bench, "review", stacks, |root| {
            let cold = review(bench, root, stacks)?;
            Ok((cold, review(bench, root, stacks)?))
        })?;
        let (bare, (cold, warm)) = (bare.0, ours);
        eprintln!(
            "  round {round}: bare {:.0} ms CPU ({:.0} wall); review {:.0} ({:.0}), again {:.0} ({:.0})",
            bare.cpu_ms, bare.wall_ms, cold.cpu_ms, cold.wall_ms, warm.cpu_ms, warm.wall_ms
        );
        first.push(cold.cpu_ms / bare.cpu_ms);
        second.push(warm.cpu_ms / bare.cpu_ms);
    }
    Ok(vec![
        at_most(format!("review of {stacks}: CPU, ratio to init + plan + show"), 1.05, median(first), "×"),
        at_most(format!("review of {stacks}, init skipped: CPU, the same ratio"), 0.75, median(second), "×"),
    ])
}

/// Fresh stacks for one measurement, removed afterwards.
fn once<T>(
    bench: &Bench,
    name: &str,
    stacks: usize,
    measure: impl FnOnce(&Path) -> Result<(Usage, T)>,
) -> Result<(Usage, T)> {
    let root = bench.directory.join(format!("tiny-{name}"));
    remove(&root)?;
    write_tiny(&root, stacks)?;
    let result = measure(&root);
    remove(&root)?;
    result
}

/// One review of all stacks, which has to plan every one.
pub fn review(bench: &Bench, root: &Path, stacks: usize) -> Result<Usage> {
    let mut command = Command::new(&bench.windlass);
    command.args(["review", "--base", "empty", "--json"]).current_dir(root);
    let (usage, answer) = measure_command(bench, &mut command, &[0])?;
    // Every stack has to have been planned: each creates one resource.
    let planned = answer.matches("\"outcome\": \"planned\"").count();
    if planned != stacks {
        return Err(Failure::new(format!("`windlass review` planned {planned} of {stacks} stacks:\n{answer}")));
    }
    Ok(usage)
}

/// `xtask bare-loop DIR`: init, plan and show of each stack below `DIR/stacks`, one after the other, with the least that terraform
/// needs.
pub fn bare_loop(arguments: &[String]) -> Result<()> {
    let [root] = arguments else { return Err(Failure::usage("bare-loop DIR")) };
    let tool = if works("terraform", "-version") { "terraform" } else { "tofu" };
    let read = std::fs::read_dir(Path::new(root).join("stacks"))
        .map_err(|e| Failure::new(format!("cannot read {root}: {e}")))?;
    let mut stacks: Vec<PathBuf> = read.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    stacks.sort();
    // An empty configuration of the command line, so that none of this machine is read.
    let settings = Path::new(root).join("terraform.rc");
    std::fs::write(&settings, "").map_err(|e| Failure::new(format!("cannot write {}: {e}", settings.display())))?;
    for stack in &stacks {
        let run = |arguments: &[&str]| -> Result<()> {
            let output = Command::new(tool)
                .args(arguments)
                .current_dir(stack)
                .env("TF_DATA_DIR", stack.join(".terraform"))
                .env("TF_CLI_CONFIG_FILE", &settings)
                .env("TF_IN_AUTOMATION", "1")
                .env("CHECKPOINT_DISABLE", "1")
                .stdin(Stdio::null())
                .output()
                .map_err(|error| Failure::new(format!("cannot start {tool}: {error}")))?;
            if output.status.success() {
                return Ok(());
            }
            Err(Failure::new(format!(
                "{tool} {arguments:?} in {}: {}",
                stack.display(),
                String::from_utf8_lossy(&output.stderr)
            )))
        };
        run(&["init", "-input=false", "-no-color"])?;
        run(&["plan", "-input=false", "-no-color", "-out=plan.bin"])?;
        run(&["show", "-json", "plan.bin"])?;
    }
    println!("{} stacks", stacks.len());
    Ok(())
}
