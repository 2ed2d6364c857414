//! `page-bench DIRECTORY MEMBERS REQUESTS`: how long the pages of a run take to which one of its steps has added so many, for
//! `cargo xtask bench`. The run is in a SQLite file in DIRECTORY and under way; its page and that of what was added are asked for
//! in turn, over HTTP, by somebody who is signed in.
//!
//! Printed is one line of JSON: times in milliseconds, sizes in bytes.

#![allow(clippy::unwrap_used, reason = "a measurement that fails is none")]

use serde_json::{Value, json};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_app::installation::Installation;
use windlass_app::secrets::Hidden;
use windlass_app::service::{Common, tools};
use windlass_app::sessions::{Way, session_create};
use windlass_app::settings::{Settings, StateDirectory};
use windlass_connect::workload::Issuers;
use windlass_model::approval::Actor;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{Cost, Expansion, Flow, Repeat, Retry, RunPlan, RunState, StepSpec, When, Work};
use windlass_server::{App, Limits, Trusted};
use windlass_store::{Claim, ClaimResult, Durability, Finish, Move, StepOutcome, Store, Turn};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const PROJECT: &str = "bench";
/// Members that failed, and that run.
const FAILED: usize = 10;
const RUNNING: usize = 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, members, requests] = arguments.as_slice() else {
        return Err("usage: page-bench DIRECTORY MEMBERS REQUESTS".into());
    };
    let (members, requests) = (members.parse()?, requests.parse()?);
    let measured = tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(
        Path::new(directory),
        members,
        requests,
    ))?;
    println!("{measured}");
    Ok(())
}

fn step(id: &str, after: &[&str]) -> StepSpec {
    StepSpec {
        id: id.into(),
        title: id.into(),
        after: after.iter().map(|id| StepId::new(*id)).collect(),
        when: When::Succeeded,
        // As large as that of a step that runs a program on a host.
        work: Work {
            driver: "nothing".into(),
            input: json!({ "path": [id, "restart"], "each": [{ "key": id, "value": { "address": format!("{id}.hosts.example.com"), "rack": "r1", "labels": ["db", "primary", "eu-west"] } }] }),
        },
        repeat: Repeat::Idempotent,
        timeout: None,
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    }
}

/// A run that is under way, most of whose members are done.
async fn filled(store: &Store, count: usize) -> Result<RunId> {
    const LEASE: i64 = 3_600_000_000;
    let each = step("each", &[]);
    let mut all = step("all", &["each"]);
    all.flow.gathers = Some("each".into());
    let plan =
        RunPlan { kind: "bench".into(), title: "members".into(), steps: vec![each.clone(), all], ..RunPlan::default() };
    let run = store.run_create(&plan, "bench").await?;
    let ClaimResult::Claimed(claim) = store.step_claim("bench", &run, &each, LEASE).await? else {
        return Err("the first step cannot begin".into());
    };
    let members: Vec<StepSpec> = (0..count).map(|n| step(&format!("each[{n}]"), &["each"])).collect();
    let ids: Vec<StepId> = members.iter().map(|step| step.id.clone()).collect();
    let expansion = Arc::new(Expansion { behind: ids.clone(), steps: members, after: Vec::new() });
    let finish = |claim: Claim, outcome: StepOutcome| Finish { claim, outcome, log: b"one line\n".to_vec() };
    let write = async |turn: Turn| store.run_turn("bench", &run, &turn, LEASE, Durability::Lazy).await;
    let moved = Some(Move { from: RunState::Queued, to: RunState::Running, reason: None });
    let first = finish(claim, StepOutcome::Expanded { output: Value::Null, expansion });
    write(Turn { finished: vec![first], moved, ..Turn::default() }).await?;
    let begun = write(Turn {
        claims: ids[..count * 9 / 10].iter().map(|id| (id.clone(), Vec::new())).collect(),
        ..Turn::default()
    })
    .await?
    .claims;
    let ended = begun.into_iter().skip(RUNNING).enumerate().map(|(n, claim)| {
        let failed = StepOutcome::Failed { code: "WL543".into(), reason: "the host does not answer".into() };
        finish(claim, if n < FAILED { failed } else { StepOutcome::Succeeded(json!({ "ok": true })) })
    });
    write(Turn { finished: ended.collect(), ..Turn::default() }).await?;
    Ok(run)
}

/// What a page took, and how long it is.
fn ask(address: SocketAddr, session: &str, path: &str) -> Result<(f64, usize)> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nCookie: windlass={session}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    if !answer.starts_with(b"HTTP/1.1 200") || !answer.windows(7).any(|text| text == b"each[0]" || text == b"members") {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&answer[..answer.len().min(2_000)])).into());
    }
    Ok((ms, answer.len()))
}

async fn measure(directory: &Path, members: usize, requests: usize) -> Result<Value> {
    let state = StateDirectory::create_as(directory.to_owned())?;
    let store = Store::open(&state.database()).await?;
    let run = filled(&store.of_project(PROJECT), members).await?;
    let common = Common {
        settings: Settings::of_process()?,
        store: store.clone(),
        tools: tools(&state),
        key: state.key()?,
        worker: None,
        hidden: Hidden::default(),
    };
    let data = directory.to_owned();
    let admins = vec!["email:anna@example.com".to_owned()];
    let actor = Actor { name: "anna".into(), identities: admins.clone(), verified: true };
    let installation = tokio::task::spawn_blocking(move || Installation::open(&data, common, &[], admins)).await??;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let trusted = Trusted {
        providers: Vec::new(),
        issuers: Arc::new(Issuers::new(Vec::new())?),
        webhook_secrets: Vec::new(),
        proxies: Vec::new(),
    };
    let app = Arc::new(App::new(Arc::new(installation), format!("http://{address}"), Limits::default(), trusted));
    let way = Way { how: "bench", address: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let session = session_create(&store, &actor, way).await?;
    let stop = CancellationToken::new();
    let served = tokio::spawn(windlass_server::serve(app, listener, stop.clone()));
    let asked = move || -> Result<(Vec<f64>, usize)> {
        let paths = [format!("/runs/{run}"), format!("/runs/{run}?each=each")];
        let (mut took, mut largest) = (Vec::new(), 0);
        for path in paths.iter().cycle().take(requests) {
            let (ms, bytes) = ask(address, &session, path)?;
            took.push(ms);
            largest = largest.max(bytes);
        }
        Ok((took, largest))
    };
    let (mut took, largest) = tokio::task::spawn_blocking(asked).await??;
    stop.cancel();
    served.await??;
    store.close().await;
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get(((took.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    Ok(json!({ "members": members, "p50_ms": at(0.5), "p95_ms": at(0.95), "largest": largest }))
}
