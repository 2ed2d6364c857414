//! What a server does with much of something: the pages of a run with very many steps, and very many schedules.

use super::rivals::number;
use super::{Bench, Row, at_most, reported};
use crate::shell::{Failure, Result, line};
use serde_json::Value;
use std::process::{Command, Stdio};

/// What one of the measuring programs printed.
fn said(command: &mut Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output();
    let failed = |why: String| Failure::new(format!("`{}`: {why}", line(command)));
    let output = output.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(format!("it printed no JSON: {error}")))
}

pub fn page(bench: &Bench) -> Result<Vec<Row>> {
    let (sizes, requests) = if bench.quick { ([100, 1_000], 20) } else { ([100, 10_000], 200) };
    let mut p95 = Vec::new();
    let mut rows = Vec::new();
    for members in sizes {
        let place = bench.directory.join(format!("page-{members}"));
        let said = said(Command::new(&bench.page).arg(place).args([members.to_string(), requests.to_string()]))?;
        eprintln!("  {members} members: {said}");
        let measured = number(&said, "p95_ms")?;
        p95.push(measured);
        rows.push(at_most(format!("pages of a run with {members} members: p95"), 200.0, measured, " ms"));
    }
    let ratio = p95[1] / p95[0];
    rows.push(reported(format!("p95 with {} members, ratio to {}", sizes[1], sizes[0]), ratio, "×"));
    Ok(rows)
}

pub fn schedules(bench: &Bench) -> Result<Vec<Row>> {
    let (many, some, seconds) = if bench.quick { (500, 100, 5) } else { (10_000, 1_000, 60) };
    let watch = |scenario: &str, count: usize| -> Result<Value> {
        let database = bench.directory.join(format!("schedules-{scenario}.db"));
        let mut command = Command::new(&bench.clock);
        let said = said(command.arg(scenario).arg(database).args([count.to_string(), seconds.to_string()]))?;
        eprintln!("  {scenario}: {said}");
        Ok(said)
    };
    let (late, idle) = (watch("late", many)?, watch("idle", some)?);
    let (of_late, of_idle) = (format!("{many} schedules, each due every 10 minutes"), format!("{some} idle schedules"));
    Ok(vec![
        at_most(format!("{of_late}: p99 of lateness"), 100.0, number(&late, "p99_ms")?, " ms"),
        reported(format!("{of_late}: runs"), number(&late, "fired")?, ""),
        reported(format!("{of_late}: CPU, of a core"), number(&late, "cpu_percent")?, " %"),
        at_most(format!("{of_idle}: CPU, of a core"), 0.5, number(&idle, "cpu_percent")?, " %"),
        at_most(format!("{of_idle}: resident set"), 60.0, number(&idle, "rss_mib")?, " MiB"),
    ])
}
