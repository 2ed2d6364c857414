//! The engine and the store: what steps, processes, queues, logs and waiting cost, beside other engines on the same machine.

use super::rivals::{Burn, Rivals, Steps, number};
use super::{Bench, Row, at_most, reported};
use crate::shell::{Failure, Result, line};
use serde_json::Value;
use std::process::{Command, Stdio};
use windlass_testkit::postgres::Postgres;

/// Of Restate's latency and CPU: issue 5.
const HALF: f64 = 0.5;

/// Where the record is kept.
#[derive(Clone, Copy)]
enum Place<'a> {
    File,
    Server(&'a Postgres),
}

impl Place<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::File => "SQLite",
            Self::Server(_) => "PostgreSQL",
        }
    }
}

fn server() -> Result<Postgres> {
    Postgres::start_durable().map_err(|error| Failure::new(error.to_string()))
}

/// One scenario of the program that is measured, in a database of its own.
fn scenario(bench: &Bench, place: Place<'_>, name: &str, count: usize, round: usize) -> Result<Value> {
    let mut command = Command::new(&bench.engine);
    let database = format!("{name}-{round}");
    match place {
        Place::File => command.arg(name).arg(bench.directory.join(format!("{database}.db"))).arg(count.to_string()),
        Place::Server(server) => {
            command.arg(name).arg(server.database(&database)).args([count.to_string(), server.pid().to_string()])
        }
    };
    let output = command.stdin(Stdio::null()).output();
    let failed = |why: String| Failure::new(format!("`{}`: {why}", line(&command)));
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(format!("it printed no JSON: {error}")))
}

/// Other engines, or `None` where they cannot be had, which is said.
fn rivals(whom: &str) -> Option<Rivals> {
    Rivals::install()
        .inspect_err(|error| eprintln!("  {whom} cannot be had here, ours alone is measured: {}", error.message))
        .ok()
}

/// A rival's figures, or `None` when it fails, which is said.
fn tried<T>(whom: &str, measured: Result<T>) -> Option<T> {
    measured.inspect_err(|error| eprintln!("  {whom} gave no figures: {}", error.message)).ok()
}

fn told(whom: &str, steps: &Steps) {
    eprintln!(
        "  {whom}: p50 {:.2} ms, p99 {:.2} ms, CPU {:.2} ms; 32 at once: {:.0}/s, CPU {:.2} ms",
        steps.p50_ms, steps.p99_ms, steps.cpu_ms, steps.per_second, steps.at_once_cpu_ms
    );
}

pub fn steps(bench: &Bench) -> Result<Vec<Row>> {
    let (runs, rounds) = if bench.quick { (20, 1) } else { (300, 3) };
    let rounds = bench.rounds.unwrap_or(rounds);
    let server = server()?;
    let rivals = rivals("Restate and DBOS");
    let (mut restate, mut dbos) = (Vec::new(), Vec::new());
    let places = [Place::File, Place::Server(&server)];
    let kinds = ["once", "idempotent"];
    let mut ours = vec![Vec::new(); places.len() * kinds.len()];
    for round in 1..=rounds {
        for (index, figures) in ours.iter_mut().enumerate() {
            let (place, kind) = (places[index / kinds.len()], kinds[index % kinds.len()]);
            let said = scenario(bench, place, kind, runs, round)?;
            let figure = |name| number(&said, name);
            let steps = Steps {
                p50_ms: figure("p50_ms")?,
                p99_ms: figure("p99_ms")?,
                cpu_ms: figure("cpu_ms")? + figure("server_ms")?,
                per_second: figure("per_second")?,
                at_once_cpu_ms: figure("at_once_cpu_ms")? + figure("at_once_server_ms")?,
            };
            told(&format!("round {round}: {kind} on {}", place.name()), &steps);
            figures.push(steps);
        }
        let Some(rivals) = &rivals else { continue };
        let place = bench.directory.join(format!("restate-{round}"));
        std::fs::create_dir_all(&place)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}", place.display())))?;
        restate.extend(tried("Restate", rivals.restate(&place, runs)).inspect(|s| told("Restate", s)));
        let (url, fewer) = (server.database(&format!("dbos-{round}")), runs.div_ceil(3));
        dbos.extend(tried("DBOS", rivals.dbos(&url, server.pid(), fewer)).inspect(|s| told("DBOS", s)));
    }
    let mut rows = Vec::new();
    for (index, figures) in ours.iter().enumerate() {
        let name = format!("3 steps, {} on {}", kinds[index % kinds.len()], places[index / kinds.len()].name());
        rows.push(reported(format!("{name}: p50"), middle(figures, |s| s.p50_ms), " ms"));
        rows.push(reported(format!("{name}: p99"), middle(figures, |s| s.p99_ms), " ms"));
        rows.push(reported(format!("{name}: CPU of a run"), middle(figures, |s| s.cpu_ms), " ms"));
        rows.push(reported(format!("{name}: 32 at once"), middle(figures, |s| s.per_second), "/s"));
        rows.push(reported(format!("{name}: CPU of a run, 32 at once"), middle(figures, |s| s.at_once_cpu_ms), " ms"));
        for (whom, theirs, limit) in [("Restate", &restate, Some(HALF)), ("DBOS", &dbos, None)] {
            if theirs.is_empty() {
                continue;
            }
            for (what, of) in [("p50", (|s| s.p50_ms) as fn(&Steps) -> f64), ("CPU of a run", |s| s.cpu_ms)] {
                let ratio = middle(figures, of) / middle(theirs, of);
                let name = format!("{name}: {what}, ratio to {whom}");
                rows.push(match limit {
                    Some(limit) => at_most(name, limit, ratio, "×"),
                    None => reported(name, ratio, "×"),
                });
            }
        }
    }
    Ok(rows)
}

fn middle<T>(measured: &[T], of: impl Fn(&T) -> f64) -> f64 {
    super::median(measured.iter().map(of).collect())
}

/// What a step costs that was added to a run must not grow with how many there are.
pub fn each(bench: &Bench) -> Result<Vec<Row>> {
    let (small, large) = if bench.quick { (100, 1_000) } else { (1_000, 10_000) };
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds.unwrap_or(if bench.quick { 1 } else { 3 }) {
        for (count, figures) in [(small, &mut few), (large, &mut many)] {
            let said = scenario(bench, Place::File, "each", count, round * large + count)?;
            let of = |name| number(&said, name);
            let (took, cpu, read) = (of("item_ms")?, of("item_cpu_ms")?, of("read_ms")?);
            eprintln!("  {count} items: {took:.3} ms and {cpu:.3} ms CPU each; the plan is read in {read:.0} ms");
            figures.push((took, cpu));
        }
    }
    let ratio = |of: fn(&(f64, f64)) -> f64| middle(&many, of) / middle(&few, of);
    Ok(vec![
        at_most(format!("an item of {large}: time, ratio to one of {small}"), 1.2, ratio(|each| each.0), "×"),
        at_most(format!("an item of {large}: CPU, ratio to one of {small}"), 1.2, ratio(|each| each.1), "×"),
    ])
}

pub fn processes(bench: &Bench) -> Result<Vec<Row>> {
    let said = scenario(bench, Place::File, "processes", bench.rounds.unwrap_or(if bench.quick { 2 } else { 9 }), 1)?;
    Ok(vec![
        at_most("run of 40 processes with live logs: p50", 300.0, number(&said, "p50_ms")?, " ms"),
        reported("run of 40 processes with live logs: CPU of ours", number(&said, "cpu_ms")?, " ms"),
    ])
}

pub fn burn(bench: &Bench) -> Result<Vec<Row>> {
    let (steps, rounds) = if bench.quick { (2_000, 1) } else { (100_000, 1) };
    let server = server()?;
    let rivals = rivals("awa");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds.unwrap_or(rounds) {
        let said = scenario(bench, Place::Server(&server), "burn", steps, round)?;
        let burn =
            Burn { seconds: number(&said, "seconds")?, cpu_s: number(&said, "cpu_s")? + number(&said, "server_s")? };
        eprintln!(
            "  round {round}: {:.2} s, CPU {:.2} s, {:.0} MiB",
            burn.seconds,
            burn.cpu_s,
            number(&said, "peak_mib")?
        );
        ours.push(burn);
        let Some(rivals) = &rivals else { continue };
        let url = server.database(&format!("awa-{round}"));
        let awa = tried("awa", rivals.awa(&url, server.pid(), steps));
        theirs.extend(awa.inspect(|awa| eprintln!("  awa: {:.2} s, CPU {:.2} s", awa.seconds, awa.cpu_s)));
    }
    let name = format!("burn-down of {steps} steps on PostgreSQL");
    let mut rows = vec![
        reported(format!("{name}: steps per second"), steps as f64 / middle(&ours, |b| b.seconds), "/s"),
        reported(format!("{name}: CPU"), middle(&ours, |b| b.cpu_s), " s"),
    ];
    if !theirs.is_empty() {
        let ratio = middle(&ours, |b| b.seconds) / middle(&theirs, |b| b.seconds);
        rows.push(at_most(format!("{name}: time, ratio to awa"), 1.0, ratio, "×"));
        let ratio = middle(&ours, |b| b.cpu_s) / middle(&theirs, |b| b.cpu_s);
        rows.push(reported(format!("{name}: CPU, ratio to awa"), ratio, "×"));
    }
    Ok(rows)
}

pub fn log(bench: &Bench) -> Result<Vec<Row>> {
    let (lines, mib) = if bench.quick { (20_000, 16) } else { (1_000_000, 1024) };
    let server = server()?;
    let mut rows = Vec::new();
    for place in [Place::File, Place::Server(&server)] {
        let on = place.name();
        let said = scenario(bench, place, "log", lines, 1)?;
        eprintln!("  {on}: {said}");
        let name = format!("{lines} lines with two viewers on {on}");
        rows.push(at_most(format!("{name}: memory grown"), 32.0, number(&said, "grown_mib")?, " MiB"));
        rows.push(reported(format!("{name}: written in"), number(&said, "write_s")?, " s"));
        rows.push(reported(format!("{name}: viewers behind at the end"), number(&said, "behind_ms")?, " ms"));
        let said = scenario(bench, place, "tail", mib, 1)?;
        let name = format!("the end of a log of {mib} MiB on {on}");
        rows.push(at_most(name, 200.0, number(&said, "slowest_ms")?, " ms"));
    }
    Ok(rows)
}

pub fn idle(bench: &Bench) -> Result<Vec<Row>> {
    let runs = if bench.quick { 50 } else { 1_000 };
    let server = server()?;
    let mut rows = Vec::new();
    for place in [Place::File, Place::Server(&server)] {
        let said = scenario(bench, place, "idle", runs, 1)?;
        eprintln!("  {}: {said}", place.name());
        let name = format!("{runs} waiting runs on {}", place.name());
        rows.push(at_most(format!("{name}: CPU, of a core"), 0.5, number(&said, "cpu_percent")?, " %"));
        rows.push(at_most(format!("{name}: resident set"), 60.0, number(&said, "rss_mib")?, " MiB"));
    }
    Ok(rows)
}
