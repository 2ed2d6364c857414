//! `record-again OURS BARE`: what recording and signing cost an apply, for `cargo xtask bench apply`.
//!
//! OURS is a repository whose newest run is an apply. Everything that run wrote into the database is written once more, into a
//! fresh one, by the same calls and in the same transactions: facts that were recorded together carry the same time. Then the plan
//! files that lie below BARE (`stacks/*/plan.bin` with `plan.json`, what `show -json` made of it) are digested, sealed, opened and
//! their states kept, as an apply does with its own. Printed is the CPU time of all that, without reading what is repeated, and
//! how often each thing was done. A record that does not come out as it was is an error: nothing is measured then.

use nix::sys::resource::{UsageWho, getrusage};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use windlass_app::settings::StateDirectory;
use windlass_drivers::terraform::plan_file::{Opened, seal, state_of};
use windlass_engine::identity;
use windlass_model::Micros;
use windlass_model::effect::{Effect, secrets};
use windlass_model::id::{InstanceId, RunId, StepId};
use windlass_model::journal::event;
use windlass_model::run::{RunRecord, RunState, StepRecord, StepSpec, StepState};
use windlass_model::stack_plan::driver;
use windlass_store::{
    Claim, Durability, Event, Finish, LogChunk, Move, ProcessRow, RunFilter, StepOutcome, Store, Turn,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Microseconds.
const LEASE: Micros = 30_000_000;

/// What an apply tells of resources.
const FACTS: [&str; 4] = [event::STARTED, event::PROGRESS, event::APPLIED, event::FAILED];

/// Everything an apply left in the database.
struct Record {
    run: RunRecord,
    steps: BTreeMap<StepId, StepRecord>,
    events: Vec<Event>,
    logs: BTreeMap<StepId, Vec<LogChunk>>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [ours, bare] = arguments.as_slice() else { return Err("usage: record-again OURS BARE".into()) };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(ours.as_ref(), bare.as_ref()))
}

async fn measure(ours: &Path, bare: &Path) -> Result<()> {
    let recorded = Store::open(&StateDirectory::at(ours).database()).await?;
    let runs = recorded.run_list(&RunFilter { kind: Some("apply".into()), ..RunFilter::default() }, 1).await?;
    let run = runs.into_iter().next().ok_or("there is no apply")?;
    let record = read(&recorded, run).await?;
    recorded.close().await;
    let directory = bare.join("record-again");
    std::fs::create_dir_all(&directory)?;
    let plans = plans(bare, &directory)?;

    // An apply finds a database that has its tables.
    Store::open(&directory.join("windlass.db")).await?.close().await;
    let begin = cpu_ms()?;
    let fresh = Store::open(&directory.join("windlass.db")).await?;
    let opened = cpu_ms()?;
    let run = write(&fresh, &record).await?;
    let written = cpu_ms()?;
    for (file, json) in &plans {
        sign(file, json)?;
    }
    let signed = cpu_ms()?;

    let again = read(&fresh, fresh.run_get(&run).await?).await?;
    fresh.close().await;
    std::fs::remove_dir_all(&directory)?;
    same(&record, &again)?;
    println!(
        "{}",
        serde_json::json!({
            "cpu_ms": signed - begin,
            "open_ms": opened - begin,
            "record_ms": written - opened,
            "sign_ms": signed - written,
            "events": record.events.len(),
            "logs": record.logs.values().map(Vec::len).sum::<usize>(),
            "plans": plans.len(),
        })
    );
    Ok(())
}

/// User and system time of this process, all threads, in milliseconds.
fn cpu_ms() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let ms = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1000.0 + time.tv_usec() as f64 / 1000.0;
    Ok(ms(usage.user_time()) + ms(usage.system_time()))
}

async fn read(store: &Store, run: RunRecord) -> Result<Record> {
    let steps = store.step_list(&run.id).await?;
    let mut logs = BTreeMap::new();
    for step in &steps {
        logs.insert(step.id.clone(), store.log_read(&run.id, &step.id, 0, u32::MAX).await?);
    }
    let events = store.event_list(Some(&run.id), 0, u32::MAX).await?;
    Ok(Record { run, steps: steps.into_iter().map(|step| (step.id.clone(), step)).collect(), events, logs })
}

/// Copies of the plan files, with their renderings.
fn plans(bare: &Path, directory: &Path) -> Result<Vec<(PathBuf, serde_json::Value)>> {
    let mut found = Vec::new();
    for (number, entry) in std::fs::read_dir(bare.join("stacks"))?.enumerate() {
        let stack = entry?.path();
        let copy = directory.join(format!("{number}.tfplan"));
        std::fs::copy(stack.join("plan.bin"), &copy)?;
        found.push((copy, serde_json::from_str(&std::fs::read_to_string(stack.join("plan.json"))?)?));
    }
    Ok(found)
}

/// The run once more, event by event.
async fn write(store: &Store, record: &Record) -> Result<RunId> {
    let engine = identity();
    store.engine_register(&engine).await?;
    let run = store.run_create(&record.run.plan, &record.run.actor).await?;
    let specs: BTreeMap<&StepId, &StepSpec> = record.run.plan.steps.iter().map(|spec| (&spec.id, spec)).collect();
    let mut claims: BTreeMap<StepId, Claim> = BTreeMap::new();
    let mut written: BTreeMap<StepId, usize> = BTreeMap::new();
    let mut state = RunState::Queued;
    let mut events = record.events.as_slice();
    while let Some(first) = events.first() {
        // What was written at once has the same time.
        let (together, rest) = events.split_at(events.iter().take_while(|event| event.at == first.at).count());
        events = rest;
        let facts: Vec<&Event> = together.iter().filter(|event| FACTS.contains(&event.kind.as_str())).collect();
        if let Some(fact) = facts.first() {
            let step = StepId::new(fact.step.as_deref().ok_or("a fact of no step")?);
            let facts: Vec<_> = facts.iter().map(|fact| (fact.kind.clone(), fact.data.clone())).collect();
            let claim = claims.get(&step).ok_or("a fact without a claim")?;
            // Their log was written right after them; the next one, after the next event.
            let next = events.iter().find(|next| next.step.as_deref() == Some(step.as_str()));
            let log = log(record, &mut written, &step, next.map_or(Micros::MAX, |next| next.at));
            store.step_record(claim, &log, &facts).await?;
            continue;
        }
        let (mut turn, mut durability) = (Turn::default(), Durability::Lazy);
        for event in together {
            let Some(step) = event.step.as_deref().map(StepId::new) else {
                let to = event.kind.strip_prefix("run.").and_then(RunState::parse);
                // The first tells that the run was made.
                if let Some(to) = to {
                    let reason = event.data["reason"].as_str().map(str::to_owned);
                    turn.moved = Some(Move { from: state, to, reason });
                    state = to;
                }
                if to.is_some_and(RunState::is_final) {
                    durability = Durability::Durable;
                }
                continue;
            };
            let spec = specs.get(&step).ok_or("an event of no step")?;
            if Durability::of(spec.repeat) == Durability::Durable {
                durability = Durability::Durable;
            }
            match event.kind.as_str() {
                "step.started" => turn.claims.push((step, spec.locks.clone())),
                "step.succeeded" => {
                    let output = record.steps.get(&step).and_then(|step| step.output.clone()).unwrap_or_default();
                    let claim = claims.get(&step).ok_or("an end without a claim")?.clone();
                    let log = log(record, &mut written, &step, Micros::MAX);
                    turn.finished.push(Finish { claim, outcome: StepOutcome::Succeeded(output), log });
                }
                other => return Err(format!("an apply that went well has no {other}").into()),
            }
        }
        if !turn.is_empty() {
            let turned = store.run_turn(&engine.id, &run, &turn, LEASE, durability).await?;
            if let Some(locked) = turned.locked.first() {
                return Err(format!("{} cannot be claimed", locked.step).into());
            }
            for claim in turned.claims {
                let spec = specs.get(&claim.step).ok_or("a claim of no step")?;
                children(store, &claim, spec, &engine).await?;
                claims.insert(claim.step.clone(), claim);
            }
        }
    }
    Ok(run)
}

/// What a step had said up to a time and was not written yet.
fn log(record: &Record, written: &mut BTreeMap<StepId, usize>, step: &StepId, until: Micros) -> Vec<u8> {
    let from = written.entry(step.clone()).or_default();
    let chunks = record.logs.get(step).map_or(&[][..], |chunks| &chunks[*from..]);
    let due = chunks.iter().take_while(|chunk| chunk.at < until).count();
    *from += due;
    chunks[..due].iter().flat_map(|chunk| chunk.bytes.iter().copied()).collect()
}

/// What is recorded of a step's children, with the plan that the one of an apply uses up.
async fn children(
    store: &Store,
    claim: &Claim,
    spec: &StepSpec,
    engine: &windlass_store::EngineIdentity,
) -> Result<()> {
    let plan = format!("{:064} {}", 0, claim.step);
    let (pids, uses) = match spec.work.driver.as_str() {
        driver::PREPARE => (2, None),
        driver::APPLY => (1, Some(plan.as_str())),
        _ => (0, None),
    };
    for pid in 0..pids {
        let (host, boot) = (engine.host.clone(), engine.boot.clone());
        store.process_add(claim, &ProcessRow { pid: 100_000 + pid, ticks: 1, host, boot }, uses).await?;
    }
    Ok(())
}

/// A plan's way from the planning step to the apply.
fn sign(file: &Path, json: &serde_json::Value) -> Result<()> {
    let key = [7; 32];
    let instance = InstanceId::new(file.display().to_string());
    let state = state_of(file)?;
    let effect = Effect::from_plan(instance.clone(), json, &key, &secrets(json, |_, _| false))?;
    let purpose = format!("plan of {instance} with effect {}", effect.digest());
    let sealed = seal(&std::fs::read(file)?, &key, &purpose)?;
    let kept = file.with_extension("sealed");
    std::fs::write(&kept, &sealed)?;
    let opened = Opened::new(&std::fs::read(&kept)?, file.with_extension("open"), &key, &purpose)?;
    // As the state from before the apply is kept, where there is one.
    let before = state_of(opened.path())?;
    if before.version.is_some() {
        std::fs::write(file.with_extension("tfstate.sealed"), seal(&state.content, &key, &purpose)?)?;
    }
    Ok(())
}

/// Refuses a repetition that left another record.
fn same(was: &Record, is: &Record) -> Result<()> {
    let kinds = |record: &Record| -> Vec<(String, Option<String>)> {
        record.events.iter().map(|e| (e.kind.clone(), e.step.clone())).collect()
    };
    let log = |record: &Record| -> Vec<(StepId, Vec<u8>)> {
        let joined = |chunks: &Vec<LogChunk>| chunks.iter().flat_map(|chunk| chunk.bytes.iter().copied()).collect();
        record.logs.iter().map(|(step, chunks)| (step.clone(), joined(chunks))).collect()
    };
    let ends = |record: &Record| -> Vec<(StepId, StepState, Option<serde_json::Value>)> {
        record.steps.values().map(|s| (s.id.clone(), s.state, s.output.clone())).collect()
    };
    let differs = [
        ("the state of the run", was.run.state != is.run.state),
        ("the events", kinds(was) != kinds(is)),
        ("the logs", log(was) != log(is)),
        ("the ends of the steps", ends(was) != ends(is)),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        Some((what, _)) => Err(format!("{what}, recorded again, are not what was recorded").into()),
        None => Ok(()),
    }
}
