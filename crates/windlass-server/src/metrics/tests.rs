use super::*;
use axum::http::{HeaderName, HeaderValue};
use windlass_app::health::RepositoryHealth;
use windlass_app::housekeeping::Stored;
use windlass_model::id::RunId;
use windlass_model::run::{Labels as WorkerLabels, RunState, StepState};
use windlass_store::{NotifierRow, RunWait, StuckStep, WaitClass, WorkerRow};

fn readings() -> Readings {
    let wait = |class, created_at, due| RunWait {
        run: RunId::new("r"),
        project: "infra".into(),
        kind: "apply".into(),
        class,
        created_at,
        due,
    };
    Readings {
        at: 500_000_000,
        database: Duration::from_millis(2),
        runs: vec![("infra".into(), "apply".into(), RunState::Waiting, 3)],
        steps: vec![("infra".into(), "apply".into(), StepState::Pending, 4)],
        waits: vec![
            wait(WaitClass::Approval, 1_000_000, None),
            wait(WaitClass::Worker, 100_000_000, None),
            // Its time came 10 s ago.
            wait(WaitClass::Place, 1_000_000, Some(490_000_000)),
        ],
        stuck: vec![StuckStep { project: "infra".into(), run: RunId::new("r"), step: "s".into(), lease_until: 1 }],
        workers: vec![WorkerRow {
            id: "w".into(),
            host: "h".into(),
            labels: WorkerLabels { own: vec!["gpu".into()], rest: true },
            version: "1".into(),
            draining: false,
            started_at: 0,
            seen_at: 0,
        }],
        sealed: Some(400_000_000),
        stored: [("log".to_owned(), Stored { count: 3, bytes: 4000, removed: 2, removed_bytes: 50 })].into(),
        repositories: vec![RepositoryHealth {
            project: "infra".into(),
            branch: "main".into(),
            commit: "abc".into(),
            fetched: Some(499_000_000),
            failures: 2,
            is_bad: true,
        }],
        notifiers: vec![NotifierRow {
            project: "infra".into(),
            name: "ops".into(),
            failures: 2,
            not_before: 0,
            failure: None,
            failed_at: None,
            sent_at: None,
            sent: 7,
            given_up: 1,
            queued: 3,
        }],
    }
}

fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn ended(ended_at: Micros) -> RunEnd {
    RunEnd { project: "infra".into(), kind: "apply".into(), state: RunState::Failed, created_at: 0, ended_at }
}

#[test]
fn a_clock_that_is_set_back_hides_no_run() {
    let metrics = Metrics::default();
    metrics.render(None, Some((7_200_000_000, Vec::new()))).unwrap();
    metrics.render(None, Some((3_600_000_000, Vec::new()))).unwrap();
    let text = metrics.render(None, Some((3_700_000_000, vec![ended(3_650_000_000)]))).unwrap();
    let name = r#"windlass_run_duration_seconds_count{project="infra",kind="apply",state="failed"}"#;
    assert_eq!(line(&text, name), Some("1"), "{text}");
}

#[test]
fn metrics_say_what_was_read() {
    let metrics = Metrics::default();
    metrics.request("GET", "/runs/{run}", 200, Duration::from_millis(3));
    metrics.render(None, Some((1_000_000, Vec::new()))).unwrap();
    let text = metrics.render(Some(&readings()), Some((9_000_000, vec![ended(5_000_000)]))).unwrap();
    let check = |name: &str, want: &str| assert_eq!(line(&text, name), Some(want), "{name} in\n{text}");
    check(r#"windlass_runs{project="infra",kind="apply",state="waiting"}"#, "3");
    check(r#"windlass_steps{project="infra",kind="apply",state="pending"}"#, "4");
    check(r#"windlass_runs_waiting{project="infra",kind="apply",for="approval"}"#, "1");
    check(r#"windlass_runs_waiting{project="infra",kind="apply",for="worker"}"#, "1");
    check(r#"windlass_runs_waiting{project="infra",kind="apply",for="place"}"#, "1");
    check(r#"windlass_runs_late{project="infra"}"#, "1");
    check(r#"windlass_steps_stuck{project="infra"}"#, "1");
    check("windlass_queue_age_seconds", "400.0");
    check(r#"windlass_workers{label="gpu"}"#, "1");
    check(r#"windlass_workers{label=""}"#, "1");
    check(r#"windlass_repository_fetch_failures{project="infra"}"#, "2");
    check(r#"windlass_repository_bad_definitions{project="infra"}"#, "1");
    check(r#"windlass_repository_fetched_timestamp_seconds{project="infra"}"#, "499.0");
    check(r#"windlass_repository_info{project="infra",branch="main",commit="abc"}"#, "1");
    check("windlass_database_up", "1");
    check("windlass_audit_sealed_timestamp_seconds{}", "400.0");
    check(r#"windlass_artefacts{kind="log"}"#, "3");
    check(r#"windlass_artefact_bytes{kind="log"}"#, "4000");
    check(r#"windlass_artefacts_removed_total{kind="log"}"#, "2");
    check(r#"windlass_artefact_removed_bytes_total{kind="log"}"#, "50");
    check(r#"windlass_notifications_sent_total{project="infra",notifier="ops"}"#, "7");
    check(r#"windlass_notifications_given_up_total{project="infra",notifier="ops"}"#, "1");
    check(r#"windlass_notifications_queued{project="infra",notifier="ops"}"#, "3");
    check(r#"windlass_notifier_failures{project="infra",notifier="ops"}"#, "2");
    check(r#"windlass_run_duration_seconds_count{project="infra",kind="apply",state="failed"}"#, "1");
    check(r#"windlass_run_duration_seconds_sum{project="infra",kind="apply",state="failed"}"#, "5.0");
    check(r#"windlass_http_requests_total{method="GET",path="/runs/{run}",status="200"}"#, "1");

    // Somebody who looked at the same time brings the same ends: they are counted once.
    let text = metrics.render(None, Some((9_000_000, vec![ended(5_000_000)]))).unwrap();
    let check = |name: &str, want: Option<&str>| assert_eq!(line(&text, name), want, "{name} in\n{text}");
    check(r#"windlass_run_duration_seconds_count{project="infra",kind="apply",state="failed"}"#, Some("1"));
    check("windlass_database_up", Some("0"));
    check(r#"windlass_runs{project="infra",kind="apply",state="waiting"}"#, None);
}

#[test]
fn this_machine_is_told_from_a_proxy_on_it() {
    let check = |peer: &str, headers: &[(&'static str, &'static str)], want: bool| {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let map: HeaderMap = headers.iter().map(pair).collect();
        assert_eq!(is_local(peer.parse().ok(), &map), want, "{peer} {headers:?}");
    };
    check("127.0.0.1:5", &[("host", "127.0.0.1:7670")], true);
    check("[::1]:5", &[("host", "[::1]:7670")], true);
    check("127.0.0.1:5", &[("host", "localhost:7670")], true);
    check("127.0.0.1:5", &[("host", "windlass.example.com")], false);
    check("127.0.0.1:5", &[("host", "localhost"), ("x-forwarded-for", "10.0.0.1")], false);
    check("10.0.0.1:5", &[("host", "localhost:7670")], false);
    check("nobody", &[("host", "localhost:7670")], false);
}

#[test]
fn every_metric_is_documented() {
    let metrics = Metrics::default();
    metrics.request("GET", "/", 200, Duration::ZERO);
    let text = metrics.render(Some(&readings()), None).unwrap();
    let documented = include_str!("../../../../docs/metrics.md");
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(|(name, _)| name).collect();
    assert!(names.len() > 15, "{names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !documented.contains(&format!("`{name}`")) && !documented.contains(&format!("`{name}_total`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
}
