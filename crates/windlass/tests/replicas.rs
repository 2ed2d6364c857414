//! Three servers on one database and one data directory, behind one address, while they are killed and stopped, and the database is:
//! whoever uses that address notices delays and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod service;

use service::{Client, Keeper, PATIENCE, Service, ends, once_each, patiently};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use windlass_testkit::balancer::Balancer;
use windlass_testkit::postgres::Postgres;
use windlass_testkit::synthetic::Random;

/// Longer than the lease of an engine here.
const PAST_THE_LEASE: Duration = Duration::from_secs(5);

const DEFINITIONS: &str =
    "environment \"all\" {\n  match = [\"**\"]\n  approvals {\n    count = 1\n    from  = [team.admins]\n  }\n}\n";

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// SIGKILL of a server.
    Kill(usize),
    /// SIGSTOP of a server, for longer than its lease.
    Stop(usize),
    Database,
}

/// What the log of an apply said, as it was streamed, and whether it ended.
#[derive(Debug, Default)]
struct Log {
    text: String,
    next: u64,
}

/// How the record and the metrics of a server count what has not ended, by state.
fn counted(metrics: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("windlass_runs{")) {
        let (labels, count) = line.split_once("} ").unwrap();
        let state = labels.split("state=\"").nth(1).unwrap().split('"').next().unwrap();
        *counts.entry(state.to_owned()).or_default() += count.parse::<u64>().unwrap();
    }
    counts.retain(|_, count| *count > 0);
    counts
}

#[test]
fn three_servers_behind_one_address_are_one_service() {
    let long: Option<usize> = std::env::var("WINDLASS_TORTURE").ok().map(|stacks| stacks.parse().unwrap());
    let stacks = long.unwrap_or(5);
    let mut random = Random::new(20_261_121);
    let mut postgres = Postgres::start_durable().unwrap();
    let database = postgres.database("replicas");
    // The last one is for a worker that does not come.
    let far = format!("environment \"far\" {{\n  match  = [\"s{stacks}\"]\n  runner = \"far\"\n}}\n");
    let service = Service::new(&database, stacks + 1, &format!("{DEFINITIONS}{far}"));
    let balancer = Balancer::start(3).unwrap();
    let servers: [Keeper; 3] = Default::default();
    let (ended, read) = (AtomicBool::new(false), AtomicBool::new(false));
    let acknowledged = AtomicUsize::new(0);
    let feed = Mutex::new(Vec::<u64>::new());
    let client = Client::new(&balancer.url(), &service.token);
    std::thread::scope(|scope| {
        let _ends = (ends(&ended), ends(&read));
        for (number, server) in servers.iter().enumerate() {
            let (service, balancer, database, ended) = (&service, &balancer, &database, &ended);
            scope.spawn(move || {
                server.keep(
                    ended,
                    || service.serve(database, &balancer.url(), &[]),
                    |port| match port {
                        Some(port) => balancer.up(number, port),
                        None => balancer.down(number),
                    },
                );
            });
        }
        let browser = Client::signed_in(&balancer.url(), &servers[0].says("within 15 minutes: "));
        scope.spawn(|| {
            client.follow("/api/v1/events/stream?after=0&project=repo", &read, |sent| {
                if sent.event == "event" {
                    feed.lock().unwrap().push(sent.id.parse().unwrap());
                }
            });
        });

        // Four at once ask for everything, each for other stacks.
        let next = AtomicUsize::new(0);
        let runs = Mutex::new(Vec::new());
        let logs = Mutex::new(BTreeMap::<usize, Log>::new());
        let change = || loop {
            let stack = next.fetch_add(1, Ordering::SeqCst);
            if stack >= stacks {
                return;
            }
            let changed = client.change_and(
                stack,
                || {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                },
                |apply| {
                    let path = format!("/api/v1/runs/{apply}/steps/apply%3As{stack}/log/stream?from=0");
                    let (client, logs) = (client.clone(), &logs);
                    let log = follow_log(&client, &path);
                    logs.lock().unwrap().insert(stack, log);
                },
            );
            runs.lock().unwrap().extend(changed);
        };
        let faults = faults(&mut random, stacks);
        let postgres = &mut postgres;
        std::thread::scope(|inner| {
            for _ in 0..4 {
                inner.spawn(change);
            }
            inner.spawn(|| {
                for (at, fault) in &faults {
                    // What they are done between: answers that somebody got.
                    patiently("more answers", || (acknowledged.load(Ordering::SeqCst) >= *at).then_some(()));
                    eprintln!("after {at} answers: {fault:?}");
                    match fault {
                        Fault::Kill(server) => servers[*server].kill(),
                        Fault::Stop(server) => {
                            servers[*server].signal("-STOP");
                            let since = Instant::now();
                            patiently("its lease", || (since.elapsed() > PAST_THE_LEASE).then_some(()));
                            servers[*server].signal("-CONT");
                        }
                        Fault::Database => postgres.restart("immediate").unwrap(),
                    }
                    // A session of a server that may be dead, and what its pages have to send along.
                    browser.post("/api/v1/projects/repo/fetch", &format!("fetch-{at}"), serde_json::json!({}));
                }
            });
        });

        // One more, which nobody does: what has not ended is the same for all.
        let far = serde_json::json!({ "branch": format!("change-{stacks}") });
        let far = client.post("/api/v1/projects/repo/reviews", "far", far)["run"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/runs/{far}");
        let state = patiently("a wait", || {
            let state = client.get(&path)["run"]["state"].as_str().unwrap().to_owned();
            (state != "queued").then_some(state)
        });
        for server in &servers {
            patiently("the same counts", || {
                let direct = Client::new(&format!("http://127.0.0.1:{}", server.port()?), &service.token);
                let (_, text) = direct.once("GET", "/metrics", None, None)?;
                let text = text.as_str()?;
                let is_same = counted(text) == BTreeMap::from([(state.clone(), 1)])
                    && text.contains("windlass_runs_waiting{project=\"repo\",kind=\"review\",for=\"worker\"} 1\n")
                    && text.contains("windlass_steps_stuck{project=\"repo\"} 0\n")
                    && text.contains("windlass_database_up 1\n");
                is_same.then_some(())
            });
        }

        let mut runs = runs.into_inner().unwrap();
        client.post(&format!("{path}/cancel"), "cancel", serde_json::json!({}));
        patiently("its end", || (!client.get(&path)["run"]["ended_at"].is_null()).then_some(()));
        let cancelled = client.get(&path);
        assert_eq!(cancelled["run"]["state"], "cancelled", "{cancelled:#}");
        once_each(&client, &runs, &[&far]);
        let mut made = service.made();
        made.sort();
        let mut wanted: Vec<String> = (0..stacks).map(|stack| format!("s{stack}")).collect();
        wanted.sort();
        assert_eq!(made, wanted, "each is made once");
        (0..stacks).for_each(|stack| service.check_state(stack));
        for (stack, log) in logs.into_inner().unwrap() {
            for word in ["begin", "end"] {
                let line = format!("(local-exec): {word}");
                assert_eq!(log.text.matches(&line).count(), 1, "s{stack} says {word} once:\n{}", log.text);
            }
        }
        service.audit(&database);

        // The one who followed the feed has it all, once and in order, and nothing that a crash of the database took back.
        runs.push(far);
        let mut all: Vec<u64> = client
            .list("/api/v1/events?project=repo&limit=500")
            .iter()
            .map(|event| event["id"].as_u64().unwrap())
            .collect();
        all.reverse();
        patiently("the end of the feed", || (feed.lock().unwrap().last() >= all.last()).then_some(()));
        let followed = feed.lock().unwrap().clone();
        assert!(followed.is_sorted_by(|a, b| a < b), "{followed:?}");
        let missed: Vec<&u64> = all.iter().filter(|id| followed.binary_search(id).is_err()).collect();
        assert!(missed.is_empty(), "{missed:?} of {all:?} did not come: {followed:?}");
        let taken_back: Vec<&u64> =
            followed.iter().filter(|id| **id <= all[all.len() - 1] && !all.contains(id)).collect();
        assert!(taken_back.is_empty(), "{taken_back:?}");
    });
}

/// A log as it comes, through whatever breaks, until it says that there is no more.
fn follow_log(client: &Client, path: &str) -> Log {
    let (stop, mut log) = (AtomicBool::new(false), Log::default());
    let until = Instant::now() + PATIENCE;
    client.follow(path, &stop, |sent| {
        if sent.event == "end" || Instant::now() > until {
            stop.store(true, Ordering::SeqCst);
            return;
        }
        let chunk: serde_json::Value = serde_json::from_str(&sent.data).unwrap();
        assert_eq!(chunk["start"].as_u64().unwrap(), log.next, "no gap and nothing twice: {chunk}");
        log.next = chunk["next"].as_u64().unwrap();
        log.text.push_str(chunk["text"].as_str().unwrap());
    });
    log
}

/// After how many answers which fault comes: each kind, and more of them the more there is to do.
fn faults(random: &mut Random, stacks: usize) -> Vec<(usize, Fault)> {
    let answers = stacks * 3 - 2;
    let count = (stacks * 3 / 4).max(4);
    let fault = |number: usize, random: &mut Random| match number % 4 {
        2 => Fault::Database,
        1 => Fault::Stop(random.below(3)),
        _ => Fault::Kill(random.below(3)),
    };
    (0..count).map(|number| (1 + number * answers / count, fault(number, random))).collect()
}
