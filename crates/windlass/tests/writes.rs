//! A change is reviewed, approved and applied on PostgreSQL, and at one write the server, the worker, the database, or the line to it
//! breaks. Whatever it is and whenever: all goes on to its end, nothing happens twice, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod service;

use service::{Client, Keeper, Service, ends, once_each, patiently};
use std::sync::atomic::{AtomicBool, Ordering};
use windlass_testkit::balancer::Balancer;
use windlass_testkit::postgres::Postgres;
use windlass_testkit::proxy::{Moment, Proxy, port};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// SIGKILL, and another one is started.
    Server,
    /// The same of a worker that does all steps.
    Worker,
    /// It crashes and is started again.
    Database,
    /// All connections break at once.
    Line,
}

/// Who breaks, and on which side of its so manyth commit.
type Fault = (Victim, Moment, u64);

const KINDS: [(Victim, Moment); 8] = [
    (Victim::Server, Moment::Before),
    (Victim::Server, Moment::After),
    (Victim::Worker, Moment::After),
    (Victim::Database, Moment::After),
    (Victim::Line, Moment::After),
    (Victim::Worker, Moment::Before),
    (Victim::Database, Moment::Before),
    (Victim::Line, Moment::Before),
];

/// One story in a database of its own; how many commits it had of the victim (of the server without one), and whether it broke.
fn story(postgres: &mut Postgres, name: &str, victim: Victim, fault: Option<Fault>) -> (u64, bool) {
    let direct = postgres.database(name);
    let by_worker = victim == Victim::Worker;
    let runner = "environment \"all\" {\n  match  = [\"**\"]\n  runner = \"gpu\"\n}\n";
    let service = Service::new(&direct, 1, if by_worker { runner } else { "" });
    let proxy = Proxy::start(port(&direct)).unwrap();
    let behind = proxy.url(&direct);
    let balancer = Balancer::start(1).unwrap();
    if let Some((_, moment, nth)) = fault {
        proxy.hold(nth, moment);
    }
    let server = Keeper::default();
    let worker = Keeper::default();
    let (ended, broke) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // However this ends, the threads do.
        let _end = ends(&ended);
        scope.spawn(|| {
            let database = if by_worker { &direct } else { &behind };
            server.keep(
                &ended,
                || service.serve(database, &balancer.url(), &[]),
                |port| match port {
                    Some(port) => balancer.up(0, port),
                    None => balancer.down(0),
                },
            );
        });
        if by_worker {
            scope.spawn(|| worker.keep(&ended, || service.work(&behind, "gpu"), |_| {}));
        }
        let postgres = &mut *postgres;
        scope.spawn(|| {
            patiently("the fault, or the end", || (proxy.is_held() || ended.load(Ordering::SeqCst)).then_some(()));
            let Some((victim, ..)) = fault.filter(|_| proxy.is_held()) else { return };
            broke.store(true, Ordering::SeqCst);
            match victim {
                Victim::Server => server.kill(),
                Victim::Worker => worker.kill(),
                Victim::Database => postgres.restart("immediate").unwrap(),
                Victim::Line => {}
            }
            // Neither a commit that was not sent nor an answer arrives any more.
            proxy.cut();
            proxy.release();
        });
        let client = Client::new(&balancer.url(), &service.token);
        let runs = client.change(0);
        once_each(&client, &runs, &[]);
        assert_eq!(service.made(), ["s0"]);
        service.check_state(0);
        service.audit(&direct);
    });
    postgres.remove(name);
    (proxy.commits(), broke.into_inner())
}

#[test]
fn a_change_survives_a_break_at_any_write() {
    let mut postgres = Postgres::start_durable().unwrap();
    let wanted: Option<usize> = std::env::var("WINDLASS_TORTURE").ok().map(|points| points.parse().unwrap());
    let (by_server, _) = story(&mut postgres, "plain", Victim::Server, None);
    let (by_worker, _) = story(&mut postgres, "plain_worker", Victim::Worker, None);
    let commits = |victim| if victim == Victim::Worker { by_worker } else { by_server };
    let mut points: Vec<Fault> = Vec::new();
    for (at, (victim, moment)) in KINDS.into_iter().enumerate() {
        let count = commits(victim);
        assert!(count > 10, "{victim:?}: only {count} commits");
        if wanted.is_some() {
            points.extend((1..=count).map(|nth| (victim, moment, nth)));
        } else if at < 5 {
            // Each somewhere else in the story, but for what is written once it has ended.
            points.push((victim, moment, count * (2 * at as u64 + 3) / 16));
        }
    }
    if wanted.is_none() {
        // While the engine makes itself known.
        points.push((Victim::Database, Moment::After, 3));
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted < points.len()) {
        points = (0..wanted).map(|number| points[number * points.len() / wanted]).collect();
    }
    let mut broken = 0;
    for (number, point) in points.iter().enumerate() {
        eprintln!("{}/{}: {point:?}", number + 1, points.len());
        let (_, broke) = story(&mut postgres, &format!("point_{number}"), point.0, Some(*point));
        broken += usize::from(broke);
    }
    // How much is written depends on how long it takes: the last points may not come.
    assert!(broken * 10 >= points.len() * 8, "only {broken} of {} broke", points.len());
}
