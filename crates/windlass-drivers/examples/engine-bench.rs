//! `engine-bench SCENARIO DATABASE NUMBER [SERVER]`: what the engine and the store take, for `cargo xtask bench`.
//!
//! DATABASE is the path of a file, or the address of a PostgreSQL whose first process is SERVER: what that and its children use is
//! counted too. Scenarios, and what NUMBER is of:
//!
//! - `once`, `idempotent`: runs of three steps that do nothing, one after the other, then 32 at a time; each claim and end of a
//!   step on the disk, or as for steps that may be done again
//! - `processes`: runs of 40 steps that are a process each and say two lines, which are stored at once
//! - `burn`: queued steps that do nothing, in runs of 1,000
//! - `log`: lines of one log with two viewers, one of which comes again and again
//! - `tail`: MiB of one log, whose end is read
//! - `idle`: runs that wait for a person
//! - `each`: steps that do nothing, which one step adds to its run, with places for 20 at a time
//!
//! Printed is one line of JSON: times in milliseconds, memory in MiB.

#![allow(clippy::unwrap_used, reason = "a measurement that fails is none")]

use async_trait::async_trait;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_drivers::process::{self, Listener, Stream};
use windlass_engine::{Engine, EngineOptions, Executor, StepContext, StepResult, Watcher};
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Cost, Expansion, Flow, Repeat, Retry, RunPlan, RunRecord, RunState, StepSpec, When, Work};
use windlass_store::{Store, StoreError};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const AT_ONCE: usize = 32;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, database, number, server @ ..] = arguments.as_slice() else {
        return Err("usage: engine-bench SCENARIO DATABASE NUMBER [SERVER]".into());
    };
    let number: usize = number.parse()?;
    let server = server.first().map(|pid| pid.parse()).transpose()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let store = if database.contains("://") {
            Store::connect(database).await?
        } else {
            Store::open(Path::new(database)).await?
        };
        let bench = Bench { store: store.of_project("bench"), server };
        let measured = match scenario.as_str() {
            "once" => bench.steps(number, Repeat::Once).await,
            "idempotent" => bench.steps(number, Repeat::Idempotent).await,
            "processes" => bench.processes(number).await,
            "burn" => bench.burn(number).await,
            "log" => bench.log(number).await,
            "tail" => bench.tail(number).await,
            "idle" => bench.idle(number).await,
            "each" => bench.each(number).await,
            other => Err(format!("there is no scenario {other}").into()),
        }?;
        println!("{measured}");
        store.close().await;
        Ok(())
    })
}

/// Does nothing.
struct Nothing;

#[async_trait]
impl Executor for Nothing {
    async fn execute(&self, _cx: &StepContext) -> StepResult {
        StepResult::Succeeded(Value::Null)
    }
}

/// Adds as many steps to its run as its input says.
struct Each;

#[async_trait]
impl Executor for Each {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        let number = cx.input.as_u64().unwrap_or_default();
        let cost = Cost { cpu_milli: EngineOptions::default().budget.cpu_milli / 20, memory_mib: 1 };
        let member = |n| step(format!("each[{n}]"), Some("each".into()), "nothing", Repeat::Idempotent, cost);
        let steps: Vec<StepSpec> = (0..number).map(member).collect();
        let behind = steps.iter().map(|step| step.id.clone()).collect();
        StepResult::Expanded { output: Value::Null, expansion: Expansion { steps, after: Vec::new(), behind } }
    }
}

/// Waits for somebody.
struct Gate;

#[async_trait]
impl Executor for Gate {
    async fn execute(&self, _cx: &StepContext) -> StepResult {
        StepResult::Wait { reason: "waits for an approval".into(), until: None }
    }
}

/// A child that says two lines.
struct Child;

struct Live<'a>(&'a StepContext);

impl Listener for Live<'_> {
    async fn started(&mut self, pid: u32) -> std::result::Result<(), String> {
        self.0.process_started(pid).await.map_err(|error| error.to_string())
    }

    async fn output(&mut self, _stream: Stream, bytes: &[u8]) {
        self.0.log(bytes).await;
        self.0.flush().await;
    }
}

#[async_trait]
impl Executor for Child {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        let arguments = ["-c", "echo begins; echo ends"].map(OsString::from).to_vec();
        let here = process::Spec::here("/bin/sh".into(), arguments, "/".into(), Duration::from_secs(1));
        let spec = process::Spec { environment: [("PATH".into(), "/usr/bin:/bin".into())].into(), ..here };
        match process::run(&spec, &cx.cancel, &mut Live(cx)).await {
            Ok(ended) if ended.status.success() => StepResult::Succeeded(Value::Null),
            other => StepResult::Unknown(format!("{other:?}")),
        }
    }
}

fn step(id: String, after: Option<String>, driver: &str, repeat: Repeat, cost: Cost) -> StepSpec {
    StepSpec {
        title: id.clone(),
        id: id.into(),
        after: after.into_iter().map(StepId::new).collect(),
        when: When::Succeeded,
        work: Work { driver: driver.into(), input: Value::Null },
        repeat,
        timeout: None,
        retry: Retry::NEVER,
        locks: vec![],
        labels: Vec::new(),
        cost,
        flow: Flow::default(),
    }
}

fn plan(steps: Vec<StepSpec>) -> RunPlan {
    RunPlan { kind: "bench".into(), title: "measured".into(), input: Value::Null, steps, ..RunPlan::default() }
}

fn chain(repeat: Repeat) -> RunPlan {
    let after = |n: usize| n.checked_sub(1).map(|before| format!("s{before}"));
    plan((0..3).map(|n| step(format!("s{n}"), after(n), "nothing", repeat, Cost::NONE)).collect())
}

/// What became of runs, for whoever waits for them.
#[derive(Default)]
struct Settled(Mutex<HashMap<RunId, Known>>);

enum Known {
    Waited(oneshot::Sender<RunState>),
    Is(RunState),
}

#[async_trait]
impl Watcher for Settled {
    async fn settled(&self, run: &RunRecord, _: bool) {
        let mut known = self.0.lock().unwrap();
        if let Some(Known::Waited(sender)) = known.insert(run.id.clone(), Known::Is(run.state)) {
            known.remove(&run.id);
            let _ = sender.send(run.state);
        }
    }

    fn failed(&self, run: &RunId, error: &StoreError) {
        eprintln!("run {run}: {error}");
    }
}

impl Settled {
    async fn wait(&self, run: &RunId, wanted: RunState) -> Result<()> {
        let (sender, receiver) = oneshot::channel();
        let already = {
            let mut known = self.0.lock().unwrap();
            match known.remove(run) {
                Some(Known::Is(state)) => Some(state),
                _ => {
                    known.insert(run.clone(), Known::Waited(sender));
                    None
                }
            }
        };
        let state = match already {
            Some(state) => state,
            None => receiver.await?,
        };
        if state == wanted { Ok(()) } else { Err(format!("run {run} is {state:?}").into()) }
    }
}

/// An engine that serves until it is stopped.
struct Served {
    settled: Arc<Settled>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<bool>,
}

impl Served {
    async fn end(self) -> Result<()> {
        self.stop.cancel();
        if self.task.await? { Ok(()) } else { Err("the engine did not stop".into()) }
    }
}

#[derive(Clone)]
struct Bench {
    store: Store,
    server: Option<u32>,
}

impl Bench {
    async fn serve(&self) -> Result<Served> {
        let executors: HashMap<String, Arc<dyn Executor>> = HashMap::from([
            ("nothing".to_owned(), Arc::new(Nothing) as Arc<dyn Executor>),
            ("gate".to_owned(), Arc::new(Gate)),
            ("each".to_owned(), Arc::new(Each)),
            ("child".to_owned(), Arc::new(Child)),
        ]);
        let engine = Engine::start(self.store.clone(), executors, EngineOptions::default()).await?;
        let (settled, stop) = (Arc::<Settled>::default(), CancellationToken::new());
        let (watcher, token) = (settled.clone(), stop.clone());
        let task = tokio::spawn(async move { engine.serve(token, Duration::from_secs(30), watcher).await });
        Ok(Served { settled, stop, task })
    }

    /// CPU milliseconds of this process and of the database's server.
    fn cpu(&self) -> Result<(f64, f64)> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let ms = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
        Ok((
            ms(usage.user_time()) + ms(usage.system_time()),
            self.server.map_or(Ok(0.0), windlass_testkit::cpu::tree_ms)?,
        ))
    }

    async fn once(&self, served: &Served, plan: &RunPlan) -> Result<f64> {
        let begin = Instant::now();
        let run = self.store.run_create(plan, "bench").await?;
        served.settled.wait(&run, RunState::Succeeded).await?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    }

    async fn steps(&self, number: usize, repeat: Repeat) -> Result<Value> {
        let served = Arc::new(self.serve().await?);
        let plan = Arc::new(chain(repeat));
        for _ in 0..20 {
            self.once(&served, &plan).await?;
        }
        let before = self.cpu()?;
        let mut latencies = Vec::new();
        for _ in 0..number {
            latencies.push(self.once(&served, &plan).await?);
        }
        let between = self.cpu()?;
        let (begin, each) = (Instant::now(), number.div_ceil(AT_ONCE) * 4);
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (bench, served, plan) = (self.clone(), served.clone(), plan.clone());
            clients.spawn(async move {
                for _ in 0..each {
                    bench.once(&served, &plan).await?;
                }
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        let (together, seconds, after) = (AT_ONCE * each, begin.elapsed().as_secs_f64(), self.cpu()?);
        Arc::into_inner(served).ok_or("somebody still waits")?.end().await?;
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        Ok(json!({
            "runs": number, "p50_ms": at(0.5), "p99_ms": at(0.99),
            "cpu_ms": (between.0 - before.0) / number as f64, "server_ms": (between.1 - before.1) / number as f64,
            "at_once": AT_ONCE, "per_second": together as f64 / seconds,
            "at_once_cpu_ms": (after.0 - between.0) / together as f64,
            "at_once_server_ms": (after.1 - between.1) / together as f64,
        }))
    }

    async fn processes(&self, number: usize) -> Result<Value> {
        let served = self.serve().await?;
        let cost = Cost { cpu_milli: 1000, memory_mib: 1 };
        let plan = plan((0..40).map(|n| step(format!("p{n:02}"), None, "child", Repeat::Idempotent, cost)).collect());
        let mut times = Vec::new();
        let before = self.cpu()?;
        for _ in 0..number {
            times.push(self.once(&served, &plan).await?);
        }
        let after = self.cpu()?;
        let run = self.store.run_search(&windlass_store::RunFilter::default(), 1).await?.remove(0).id;
        for spec in &plan.steps {
            let read = self.store.log_read(&run, &spec.id, 0, 10).await?;
            let said: Vec<u8> = read.into_iter().flat_map(|chunk| chunk.bytes).collect();
            if said != b"begins\nends\n" {
                return Err(format!("{} said {:?}", spec.id, String::from_utf8_lossy(&said)).into());
            }
        }
        served.end().await?;
        times.sort_by(f64::total_cmp);
        Ok(json!({
            "runs": number, "p50_ms": times[(times.len() - 1) / 2], "max_ms": times[times.len() - 1],
            "cpu_ms": (after.0 - before.0) / number as f64,
        }))
    }

    async fn burn(&self, number: usize) -> Result<Value> {
        let plan =
            plan((0..1000).map(|n| step(format!("s{n}"), None, "nothing", Repeat::Idempotent, Cost::NONE)).collect());
        let begin = Instant::now();
        let mut runs = Vec::new();
        for _ in 0..number.div_ceil(1000) {
            runs.push(self.store.run_create(&plan, "bench").await?);
        }
        let (queued, begin, before) = (begin.elapsed().as_secs_f64(), Instant::now(), self.cpu()?);
        let served = self.serve().await?;
        for run in &runs {
            served.settled.wait(run, RunState::Succeeded).await?;
        }
        let (seconds, after) = (begin.elapsed().as_secs_f64(), self.cpu()?);
        served.end().await?;
        let steps = runs.len() * 1000;
        Ok(json!({
            "steps": steps, "queue_s": queued, "seconds": seconds, "per_second": steps as f64 / seconds,
            "cpu_s": (after.0 - before.0) / 1e3, "server_s": (after.1 - before.1) / 1e3, "peak_mib": peak_mib()?,
        }))
    }

    async fn log(&self, lines: usize) -> Result<Value> {
        const CHUNK: usize = 160;
        let run = self.store.run_create(&chain(Repeat::Idempotent), "bench").await?;
        let step = StepId::new("s0");
        let before = rss_mib()?;
        let begin = Instant::now();
        let mut viewers = JoinSet::new();
        for again in [None, Some(lines / 20)] {
            let (store, run, step) = (self.store.clone(), run.clone(), step.clone());
            viewers.spawn(async move { view(&store, &run, &step, lines, again).await });
        }
        let (mut peak, mut slowest) = (before, 0.0f64);
        let mut text = Vec::new();
        for (chunk, first) in (0..lines).step_by(CHUNK).enumerate() {
            text.clear();
            for number in first..(first + CHUNK).min(lines) {
                text.extend_from_slice(line(number).as_bytes());
            }
            let one = Instant::now();
            self.store.log_append(&run, &step, 1, &text).await?;
            slowest = slowest.max(one.elapsed().as_secs_f64() * 1e3);
            if chunk % 64 == 0 {
                peak = peak.max(rss_mib()?);
            }
        }
        let written = begin.elapsed().as_secs_f64();
        let mut connections = 0;
        while let Some(seen) = viewers.join_next().await {
            connections += seen??;
        }
        let seen = begin.elapsed().as_secs_f64();
        Ok(json!({
            "lines": lines, "write_s": written, "seen_s": seen, "behind_ms": (seen - written) * 1e3,
            "slowest_append_ms": slowest, "connections": connections,
            "before_mib": before, "grown_mib": peak.max(rss_mib()?) - before,
        }))
    }

    async fn tail(&self, mib: usize) -> Result<Value> {
        const CHUNK: usize = 64 * 1024;
        const SHOWN: i64 = 64 * 1024;
        let run = self.store.run_create(&chain(Repeat::Idempotent), "bench").await?;
        let step = StepId::new("s0");
        let chunk: Vec<u8> = (0..).flat_map(|n| line(n).into_bytes()).take(CHUNK).collect();
        let chunks = mib * 1024 * 1024 / CHUNK;
        for _ in 0..chunks {
            self.store.log_append(&run, &step, 1, &chunk).await?;
        }
        let mut times = Vec::new();
        for _ in 0..20 {
            let begin = Instant::now();
            let end = self.store.log_end(&run, &step).await?;
            let read = self.store.log_read(&run, &step, (end - SHOWN).max(0), 64).await?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            let bytes: usize = read.iter().map(|chunk| chunk.bytes.len()).sum();
            if end != (chunks * CHUNK) as i64 || bytes as i64 != SHOWN.min(end) {
                return Err(format!("the log of {end} bytes ends with {bytes}").into());
            }
        }
        Ok(json!({ "mib": mib, "first_ms": times[0], "slowest_ms": times.iter().copied().fold(0.0, f64::max) }))
    }

    async fn each(&self, number: usize) -> Result<Value> {
        let served = self.serve().await?;
        let mut each = step("each".into(), None, "each", Repeat::Idempotent, Cost::NONE);
        each.work.input = number.into();
        let mut all = step("all".into(), Some("each".into()), "nothing", Repeat::Idempotent, Cost::NONE);
        all.flow.gathers = Some("each".into());
        let before = self.cpu()?;
        let ms = self.once(&served, &plan(vec![each, all])).await?;
        let after = self.cpu()?;
        let run = self.store.run_search(&windlass_store::RunFilter::default(), 1).await?.remove(0).id;
        let begin = Instant::now();
        let steps = self.store.run_get(&run).await?.plan.steps.len();
        let read_ms = begin.elapsed().as_secs_f64() * 1e3;
        if steps != number + 2 {
            return Err(format!("the run has {steps} steps").into());
        }
        served.end().await?;
        Ok(json!({
            "items": number, "item_ms": ms / number as f64, "read_ms": read_ms,
            "item_cpu_ms": (after.0 - before.0 + after.1 - before.1) / number as f64,
        }))
    }

    async fn idle(&self, number: usize) -> Result<Value> {
        let served = self.serve().await?;
        let plan = plan(vec![
            step("gate".into(), None, "gate", Repeat::Idempotent, Cost::NONE),
            step("after".into(), Some("gate".into()), "nothing", Repeat::Once, Cost::NONE),
        ]);
        for _ in 0..number {
            let run = self.store.run_create(&plan, "bench").await?;
            served.settled.wait(&run, RunState::Waiting).await?;
        }
        let watched = Duration::from_secs(20);
        let (begin, before) = (Instant::now(), self.cpu()?);
        tokio::time::sleep(watched).await;
        let (after, ms) = (self.cpu()?, begin.elapsed().as_secs_f64() * 1e3);
        served.end().await?;
        Ok(json!({
            "waiting": number, "cpu_percent": (after.0 - before.0) / ms * 100.0,
            "server_percent": (after.1 - before.1) / ms * 100.0, "rss_mib": rss_mib()?,
        }))
    }
}

fn line(number: usize) -> String {
    format!("{number:08} terraform_data.resource[{}]: Still creating... [{}s elapsed]\n", number % 997, number % 61)
}

/// Follows a log to its last line; one that comes `again` after so many lines goes on from the byte it has seen. How often it
/// came.
async fn view(store: &Store, run: &RunId, step: &StepId, lines: usize, again: Option<usize>) -> Result<usize> {
    let (mut from, mut next, mut connections, mut left) = (0, 0, 1, Vec::new());
    let mut changes = store.changes();
    let mut came = next;
    while next < lines {
        changes.mark_unchanged();
        let read = store.log_read(run, step, from, 16).await?;
        if read.is_empty() {
            // As a page does: whatever wakes it, it looks for itself from time to time.
            let _ = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
        }
        for chunk in read {
            if chunk.start != from {
                return Err(format!("byte {from} was asked for, {} came", chunk.start).into());
            }
            from += chunk.bytes.len() as i64;
            left.extend_from_slice(&chunk.bytes);
            let whole = left.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for text in left[..whole].split_inclusive(|byte| *byte == b'\n') {
                if text != line(next).as_bytes() {
                    return Err(format!("line {next} is {:?}", String::from_utf8_lossy(text)).into());
                }
                next += 1;
            }
            left.drain(..whole);
        }
        if again.is_some_and(|again| next - came >= again) {
            // In the middle of a line too: what is left of it is the viewer's.
            (changes, came) = (store.changes(), next);
            connections += 1;
        }
    }
    Ok(connections)
}

fn status_mib(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn rss_mib() -> Result<f64> {
    status_mib("VmRSS:")
}

fn peak_mib() -> Result<f64> {
    status_mib("VmHWM:")
}
