//! `cargo xtask bench`: ratios against a named baseline that is measured in the same run.

pub mod apply;
pub mod changes;
pub mod discover;
pub mod engine;
pub mod measure;
pub mod plan;
pub mod review;
mod rivals;
pub mod service;

use crate::options::Options;
use crate::setup;
use crate::shell::{self, Failure, Result, cargo, target};
use std::path::PathBuf;

pub const HELP: &str = "\
Usage: cargo xtask bench [--quick] [--only NAME] [--rounds N] [--open N] [--pushes N] [--stacks N]

Builds the release binary and measures, each against a baseline in the same run, rounds alternating, medians printed:

  discover  `windlass affected`, a cold process, on synthetic repositories of 100, 1,000 and 10,000 stacks,
            against one plain read of all .tf files plus `git diff --name-only`
  review    `windlass review` of 100 tiny stacks, CPU of the whole process tree,
            against a bare loop of terraform init + plan + show over the same stacks
  apply     `windlass apply` of 40 reviewed stacks, CPU of the whole process tree, against a careful script that runs
            the same commands with the same options, as many at a time: plan into a file, show it, apply that file;
            and the CPU of recording that apply once more (steps, events, logs, processes, sealing, opening and
            digests of plans) as a share of the same script's
  plan      `windlass review --plan` of one rendered plan of 10,000 resources and 50 MB, with policies, a cold process,
            against one that reads and parses the file
  steps     runs of three steps that do nothing, through the engine as `windlass serve` drives it, on SQLite and on a
            PostgreSQL that syncs: latency, CPU and runs per second, against Restate and DBOS doing the same
  processes a run of 40 steps that are a process each, their output stored as it comes
  burn      queued steps that do nothing on PostgreSQL, until none is left, against awa's jobs
  log       one million lines with two viewers, one of which comes again and again; the end of a log of 1 GiB
  each      a run with 10,000 steps that one of its steps has added, each doing nothing, on SQLite: time and CPU of one of
            them, against a run with 1,000
  idle      1,000 runs that wait for a person: CPU and memory of the engine and the store
  page      the pages of a run with 10,000 members, 200 times over HTTP: p95, beside that of a run with 100
  schedules 10,000 schedules, each due every ten minutes, for a minute: how late their runs are; and 1,000 with nothing
            due: CPU and memory of the loop that keeps the time
  changes   a server and a forge that speaks as GitHub does, with 1,000 open changes: what it asks for while nothing happens,
            against a client that asks for each once a minute; 200 pushes, 50 a minute, of some of which no delivery comes:
            how soon each is taken up, and calls, against the least that tell of a push; and one change of 300 stacks, really
            planned, against a bare loop of terraform over them. 20 minutes

Restate, DBOS and awa come from npm and PyPI into ~/.cache/windlass-bench, pinned; where they cannot be had, that is said
and ours alone is measured.

  --quick   small sizes, few rounds, development builds: shows that it works, not how fast it is
  --only    one of the names above
  --rounds  how many rounds [default: 5 for discover and apply, 3 for review]
  --open, --pushes, --stacks
            sizes of `changes`, which there are as many of as stands there

Exits with 1 when a target is missed (never with --quick).";

/// Programs and the place to work in.
pub struct Bench {
    pub windlass: PathBuf,
    /// This program, built for release: it is the baseline.
    pub xtask: PathBuf,
    /// Records an apply once more; built for the same profile.
    pub record_again: PathBuf,
    /// Drives the engine and the store; built for the same profile.
    pub engine: PathBuf,
    /// Asks for the pages of a large run.
    pub page: PathBuf,
    /// Keeps the time of many schedules.
    pub clock: PathBuf,
    pub directory: PathBuf,
    pub path: std::ffi::OsString,
    pub quick: bool,
    pub rounds: Option<usize>,
    /// Sizes of [`changes`].
    pub open: Option<usize>,
    pub pushes: Option<usize>,
    pub stacks: Option<usize>,
}

/// A figure against what it should be.
pub struct Row {
    pub name: String,
    pub target: String,
    pub measured: String,
    pub met: bool,
}

type Measurement = fn(&Bench) -> Result<Vec<Row>>;

pub fn run(options: &Options) -> Result<()> {
    let all: [(&str, Measurement); 13] = [
        ("discover", discover::measure),
        ("review", review::measure),
        ("apply", apply::measure),
        ("plan", plan::measure),
        ("steps", engine::steps),
        ("processes", engine::processes),
        ("burn", engine::burn),
        ("log", engine::log),
        ("each", engine::each),
        ("idle", engine::idle),
        ("page", service::page),
        ("schedules", service::schedules),
        ("changes", changes::measure),
    ];
    let chosen: Vec<_> =
        all.into_iter().filter(|(name, _)| options.value("--only").is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        return Err(Failure::usage(format!("there is no benchmark of that name\n\n{HELP}")));
    }
    let number = |name: &str| match options.value(name).map(str::parse) {
        None => Ok(None),
        Some(Ok(number)) if number > 0 => Ok(Some(number)),
        Some(_) => Err(Failure::usage(format!("`{name}` is a number from 1"))),
    };
    let (rounds, open) = (number("--rounds")?, number("--open")?);
    let (pushes, stacks) = (number("--pushes")?, number("--stacks")?);
    let quick = options.has("--quick");
    let release: &[&str] = if quick { &[] } else { &["--release"] };
    // Each builds what it needs alone: the engine without the rest takes a minute, all of it ten.
    let engine = |name: &str| ["steps", "processes", "burn", "log", "each", "idle"].contains(&name);
    if chosen.iter().any(|(name, _)| engine(name)) {
        setup::postgresql()?;
        let example = ["build", "--package", "windlass-drivers", "--example", "engine-bench"];
        shell::run(cargo().args(example).args(release))?;
    }
    let service = |name: &str| match name {
        "page" => Some(("windlass-server", "page-bench")),
        "schedules" => Some(("windlass-app", "clock-bench")),
        _ => None,
    };
    for (package, example) in chosen.iter().filter_map(|(name, _)| service(name)) {
        shell::run(cargo().args(["build", "--package", package, "--example", example]).args(release))?;
    }
    let (path, windlass) = if chosen.iter().all(|(name, _)| engine(name) || service(name).is_some()) {
        (std::env::var_os("PATH").unwrap_or_default(), PathBuf::new())
    } else {
        let path = setup::everything()?;
        let windlass = setup::windlass(!quick)?;
        if chosen.iter().any(|(name, _)| *name == "apply") {
            shell::run(
                cargo().args(["build", "--package", "windlass-app", "--example", "record-again"]).args(release),
            )?;
        }
        (path, windlass)
    };
    if !quick {
        shell::run(cargo().args(["build", "--release", "--package", "xtask"]))?;
    }
    let built = target().join(if quick { "debug" } else { "release" });
    // Of this process alone: two benchmarks at once disturb each other's figures, but not each other's files.
    let directory = target().join(format!("bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)
        .map_err(|e| Failure::new(format!("cannot make {}: {e}", directory.display())))?;
    let bench = Bench {
        windlass,
        xtask: built.join("xtask"),
        record_again: built.join("examples/record-again"),
        engine: built.join("examples/engine-bench"),
        page: built.join("examples/page-bench"),
        clock: built.join("examples/clock-bench"),
        directory,
        path,
        quick,
        rounds,
        open,
        pushes,
        stacks,
    };
    let measured = measure_all(&bench, chosen);
    discover::remove(&bench.directory)?;
    let rows = measured?;
    println!("\n{:<58} {:>12} {:>12}", "", "target", "measured");
    for row in &rows {
        println!(
            "{:<58} {:>12} {:>12}  {}",
            row.name,
            row.target,
            row.measured,
            if row.met { "met" } else { "MISSED" }
        );
    }
    let missed = rows.iter().filter(|row| !row.met).count();
    if bench.quick {
        println!("\nQuick: small sizes, few rounds. The figures show that it works and nothing else.");
    } else if missed > 0 {
        return Err(Failure::new(format!("{missed} of {} targets missed", rows.len())));
    }
    Ok(())
}

fn measure_all(bench: &Bench, chosen: Vec<(&str, Measurement)>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, measure) in chosen {
        eprintln!("\n== {name}");
        rows.extend(measure(bench)?);
    }
    Ok(rows)
}

/// The middle value; of an even number the lower one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// A figure without a target: it is watched, and may be what a later target is made from.
fn reported(name: impl Into<String>, measured: f64, unit: &str) -> Row {
    Row { name: name.into(), target: "reported".into(), measured: format!("{measured:.2}{unit}"), met: true }
}

/// A row for a ratio that should be at most `limit`.
pub fn at_most(name: impl Into<String>, limit: f64, measured: f64, unit: &str) -> Row {
    let digits = if limit >= 100.0 { 0 } else { 2 };
    Row {
        name: name.into(),
        target: format!("≤ {limit:.digits$}{unit}"),
        measured: format!("{measured:.digits$}{unit}"),
        met: measured <= limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!(median(vec![3.0, 1.0, 2.0]) == 2.0);
        assert!(median(vec![4.0, 1.0, 2.0, 3.0]) == 2.0);
        assert!(median(vec![5.0]) == 5.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn nothing_measured_is_not_met() {
        assert!(at_most("x", 2.0, 2.0, "×").met);
        assert!(!at_most("x", 2.0, 2.01, "×").met);
        assert!(!at_most("x", 2.0, f64::NAN, "×").met);
    }
}
