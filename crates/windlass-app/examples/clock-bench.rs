//! `clock-bench SCENARIO DATABASE NUMBER SECONDS`: what schedules take, for `cargo xtask bench`: NUMBER of them in the SQLite file
//! DATABASE, watched for so many SECONDS through the loop that a server keeps time with.
//!
//! - `late`: each is due every ten minutes, at a second of its own; how late their runs are there, ms
//! - `idle`: each is due once in a year
//!
//! Printed is one line of JSON.

#![allow(clippy::unwrap_used, reason = "a measurement that fails is none")]

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use windlass_app::error::AppResult;
use windlass_app::project::Project;
use windlass_app::schedules::{Asked, Clock, Starter, run};
use windlass_lang::tree::MemoryTree;
use windlass_model::id::RunId;
use windlass_model::operation::plan::Origin;
use windlass_model::run::RunPlan;
use windlass_store::Store;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PROJECT: &str = "bench";
/// Schedules of one operation.
const EACH: usize = 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, database, number, seconds] = arguments.as_slice() else {
        return Err("usage: clock-bench SCENARIO DATABASE NUMBER SECONDS".into());
    };
    let (number, seconds) = (number.parse()?, Duration::from_secs(seconds.parse()?));
    let cron = match scenario.as_str() {
        "late" => |n: usize| format!("{} {}-59/10 * * * *", n % 60, n / 60 % 10),
        "idle" => |n: usize| format!("{} {} 3 29 2 *", n % 60, n / 60 % 60),
        other => return Err(format!("there is no scenario {other}").into()),
    };
    let measured = tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(
        Path::new(database),
        number,
        seconds,
        cron,
    ))?;
    println!("{measured}");
    Ok(())
}

fn definitions(number: usize, cron: fn(usize) -> String) -> Result<Arc<Project>> {
    let mut text = format!("project \"{PROJECT}\" {{}}\nteam \"all\" {{ members = [\"email:anna@example.com\"] }}\n");
    for operation in 0..number.div_ceil(EACH) {
        writeln!(text, "operation \"o{operation}\" {{\n  allow = [team.all]\n  step \"do\" {{ run = [\"true\"] }}")?;
        for n in operation * EACH..((operation + 1) * EACH).min(number) {
            writeln!(text, "  schedule \"s{n}\" {{\n    cron = \"{}\"\n  }}", cron(n))?;
        }
        text.push_str("}\n");
    }
    let project = Project::load(&MemoryTree::new([("windlass.hcl", text)]));
    let schedules: usize = project.definitions.operations.iter().map(|operation| operation.schedules.len()).sum();
    match project.diagnostics.first() {
        Some(wrong) => Err(format!("{}: {}", wrong.code, wrong.summary).into()),
        None if schedules != number => Err(format!("there are {schedules} schedules").into()),
        None => Ok(Arc::new(project)),
    }
}

/// Records runs of no steps, and how late each is there, ms.
struct Recorder {
    store: Store,
    late: Mutex<Vec<f64>>,
}

#[async_trait::async_trait]
impl Starter for Recorder {
    async fn start(&self, asked: Asked) -> AppResult<RunId> {
        let (title, subject) = (asked.operation.clone(), Some(asked.operation));
        let plan = RunPlan { kind: "operation".into(), title, subject, ..RunPlan::default() };
        let run = self.store.of_project(&asked.project).creating(&asked.run).run_create(&plan, "bench").await?;
        if let Origin::Schedule { due, .. } = asked.origin {
            let late = self.store.now().await? - due;
            self.late.lock().unwrap().push(late as f64 / 1e3);
        }
        Ok(run)
    }
}

fn cpu_ms() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let ms = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
    Ok(ms(usage.user_time()) + ms(usage.system_time()))
}

fn rss_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

async fn measure(database: &Path, number: usize, watched: Duration, cron: fn(usize) -> String) -> Result<Value> {
    let store = Store::open(database).await?;
    let project = definitions(number, cron)?;
    let clock = Clock::new(store.clone(), move || vec![(PROJECT.to_owned(), "c1".to_owned(), project.clone())]);
    let recorder = Arc::new(Recorder { store: store.clone(), late: Mutex::default() });
    let (starter, stop): (Arc<dyn Starter>, _) = (recorder.clone(), CancellationToken::new());
    let failures = Arc::new(Mutex::new(Vec::new()));
    let failed = {
        let failures = failures.clone();
        move |error: &windlass_app::error::AppError| failures.lock().unwrap().push(error.to_string())
    };
    let kept = tokio::spawn(run(clock, starter, stop.clone(), failed));
    // Until all of them are known, which is what a server does once.
    let deadline = Instant::now() + Duration::from_secs(120);
    while store.of_project(PROJECT).schedule_list().await?.len() < number {
        if Instant::now() > deadline {
            return Err("the schedules were not taken up".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    recorder.late.lock().unwrap().clear();
    let (begin, before) = (Instant::now(), cpu_ms()?);
    tokio::time::sleep(watched).await;
    let percent = (cpu_ms()? - before) / (begin.elapsed().as_secs_f64() * 1e3) * 100.0;
    let rss_mib = rss_mib()?;
    stop.cancel();
    kept.await?;
    store.close().await;
    if let Some(error) = failures.lock().unwrap().first() {
        return Err(error.clone().into());
    }
    let mut late = std::mem::take(&mut *recorder.late.lock().unwrap());
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late.get(((late.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    Ok(json!({
        "schedules": number, "fired": late.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "cpu_percent": percent,
        "rss_mib": rss_mib,
    }))
}
