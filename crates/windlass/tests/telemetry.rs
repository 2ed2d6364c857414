//! Traces of the real program, taken by a collector that speaks OTLP; and that one which is slow or away costs nobody anything.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use common::place::{PARENT, Place};
use common::program::{Program, get};
use common::wait;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// What a collector was sent.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

/// A collector, and where it listens.
struct Collector {
    url: String,
    collected: Collected,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let collected = Collected::default();
        let into = collected.clone();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            if headers.get("x-key").is_none_or(|key| key != "k1") {
                return StatusCode::UNAUTHORIZED;
            }
            into.0.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
            StatusCode::OK
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, collected, _runtime: runtime }
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.collected.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).cloned().collect()
    }

    /// An attribute of whatever sends.
    fn resource(&self, name: &str) -> Option<String> {
        let requests = self.collected.0.lock().unwrap();
        let resource = requests.first()?.resource_spans.first()?.resource.clone()?;
        resource.attributes.into_iter().find(|pair| pair.key == name).and_then(|pair| text(pair.value?.value?))
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    text(found.value.clone()?.value?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const NET: &str = "resource \"terraform_data\" \"net\" {}\n";

/// The program, sending to `endpoint`, and where it is reached.
fn serve(place: &Place, endpoint: &str, more: &[(&str, &str)]) -> (Program, String) {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k1"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    place.serve(&[&variables, more].concat())
}

/// Names of the spans from `span` up to the root, as far as they were sent.
fn path(spans: &[Span], span: &Span) -> Vec<String> {
    let mut names = vec![span.name.clone()];
    let mut at = span;
    while let Some(parent) = spans.iter().find(|one| one.trace_id == at.trace_id && one.span_id == at.parent_span_id) {
        names.push(parent.name.clone());
        at = parent;
    }
    names
}

/// The root of a run's trace and the rest of it, once `complete`.
fn trace(collector: &Collector, run: &str, complete: impl Fn(&[Span]) -> bool) -> (Span, Vec<Span>) {
    wait(|| {
        let spans = collector.spans();
        let is_root = |span: &&Span| {
            span.parent_span_id.is_empty() && attribute(span, "windlass.run").is_some_and(|of| of == run)
        };
        let root = spans.iter().find(is_root)?.clone();
        let rest: Vec<Span> = spans.into_iter().filter(|span| span.trace_id == root.trace_id).collect();
        complete(&rest).then_some((root, rest))
    })
}

#[test]
fn a_review_is_one_trace() {
    let collector = Collector::start();
    let place = Place::new(NET);
    let (mut server, url) = serve(&place, &collector.url, &[]);
    let (run, correlation) = place.review(&url);
    let (root, spans) = trace(&collector, &run, |spans| spans.iter().any(|span| span.name == "terraform show"));
    assert_eq!((root.name.as_str(), attribute(&root, "windlass.state").as_deref()), ("run review", Some("succeeded")));
    assert_eq!(attribute(&root, "correlation"), Some(correlation.clone()));
    let one = |name: &str| {
        let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
        found[0]
    };
    assert_eq!(path(&spans, one("terraform plan")), ["terraform plan", "work", "review.plan", "run review"]);
    assert_eq!(attribute(one("review.plan"), "windlass.step").as_deref(), Some("plan:net"));
    let (plan, work) = (one("review.plan"), one("terraform plan"));
    assert!(
        plan.start_time_unix_nano <= work.start_time_unix_nano && work.end_time_unix_nano <= plan.end_time_unix_nano
    );
    assert!(
        root.end_time_unix_nano >= plan.end_time_unix_nano && root.start_time_unix_nano <= plan.start_time_unix_nano
    );
    for attempt in spans.iter().filter(|span| span.parent_span_id == root.span_id) {
        let mut parts: Vec<&str> =
            spans.iter().filter(|span| span.parent_span_id == attempt.span_id).map(|span| span.name.as_str()).collect();
        parts.sort_unstable();
        assert_eq!(parts, ["wait", "work"], "{}", attempt.name);
    }

    // The request is part of what its caller does, and leads to the run.
    let asked = wait(|| collector.spans().into_iter().find(|span| span.name.starts_with("POST ")));
    assert_eq!(asked.name, "POST /api/v1/projects/{project}/reviews");
    assert_eq!((hex(&asked.trace_id), hex(&asked.parent_span_id)), (PARENT[3..35].into(), PARENT[36..52].into()));
    assert_eq!(attribute(&asked, "http.response.status_code").as_deref(), Some("202"));
    assert_eq!(attribute(&asked, "correlation"), Some(correlation));
    let start = wait(|| collector.spans().into_iter().find(|span| span.name == "review_start"));
    assert_eq!(path(&[asked.clone(), start.clone()], &start), ["review_start", &asked.name]);
    let links: Vec<_> = start.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!(links, [(&root.trace_id, &root.span_id)]);
    assert_eq!(collector.resource("service.name").as_deref(), Some("windlass"));
    assert_eq!(collector.resource("deployment.environment.name").as_deref(), Some("test"));

    let sent = wait(|| metric(&url, "sent").filter(|sent| *sent > 0));
    assert!(sent <= collector.spans().len() as u64);
    assert_eq!((metric(&url, "failed"), metric(&url, "dropped")), (Some(0), Some(0)));
    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "{}", server.all());
}

fn metric(url: &str, result: &str) -> Option<u64> {
    let (_, text) = get(&format!("{url}/metrics"), &[]);
    let name = format!("windlass_trace_spans_total{{result=\"{result}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
}

#[test]
fn a_run_that_outlives_its_server_is_one_trace() {
    let collector = Collector::start();
    let place = Place::new(
        "resource \"terraform_data\" \"net\" {\n  provisioner \"local-exec\" {\n    command = \"echo $$ > $HOME/began; sleep 1\"\n  }\n}\n",
    );
    let (mut server, url) = serve(&place, &collector.url, &[]);
    let (review, _) = place.review(&url);
    let (seen, _) = place.ask("GET", &format!("{url}/api/v1/reviews/{review}?format=json"), None, "");
    let seen = serde_json::json!({ "commit": seen["head"]["commit"], "effect": seen["effect_digest"] }).to_string();
    let (made, _) = place.ask("POST", &format!("{url}/api/v1/reviews/{review}/apply"), Some(&seen), PARENT);
    let run = made["run"].as_str().unwrap().to_owned();
    wait(|| place.env.home().join("began").exists().then_some(()));
    server.signal("-KILL");
    assert_eq!(server.code(), None);
    let (_server, url) = serve(&place, &collector.url, &[]);
    place.ended(&url, &run);
    let (root, spans) = trace(&collector, &run, |spans| spans.iter().any(|span| span.name == "apply.finish"));
    assert_eq!(root.name, "run apply");
    let lost: Vec<&Span> =
        spans.iter().filter(|span| attribute(span, "windlass.lost").as_deref() == Some("true")).collect();
    assert_eq!(lost.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["apply.apply"]);
    // What the first server sent before anybody knew the whole belongs to it.
    let plan = spans.iter().find(|span| span.name == "terraform plan").unwrap();
    assert_eq!(path(&spans, plan), ["terraform plan", "work", "apply.plan", "run apply"]);
}

#[test]
fn a_collector_that_is_away_or_slow_costs_nobody_anything() {
    // Nobody listens there any more.
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::new(NET);
    let (mut server, url) = serve(&place, &format!("http://{away}"), &[]);
    place.review(&url);
    let failed = wait(|| metric(&url, "failed").filter(|failed| *failed > 0));
    place.review(&url);
    wait(|| metric(&url, "failed").filter(|now| *now > failed));
    let said = server.all().lines().filter(|line| line.contains("traces cannot be sent to")).count();
    assert_eq!(said, 1, "{}", server.all());
    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "{}", server.all());

    // This one takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let (mut server, url) = serve(&place, &endpoint, &[("OTEL_BSP_MAX_QUEUE_SIZE", "8")]);
    place.review(&url);
    wait(|| metric(&url, "dropped").filter(|dropped| *dropped > 0));
    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "{}", server.all());
}

#[test]
fn what_cannot_be_done_is_refused_at_the_start() {
    let place = Place::new(NET);
    let check = |variables: &[(&str, &str)], want: &str| {
        let mut command = place.env.command(&["serve", "--listen", "127.0.0.1:0", "--data", &place.data]);
        let answer = command.envs(variables.iter().copied()).output().unwrap();
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(answer.status.code(), Some(2), "{said}");
        assert!(said.contains("WL900") && said.contains(want), "{said}");
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")], "is no address of a collector");
    check(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "not as `grpc`");
    check(&[endpoint, ("OTEL_TRACES_SAMPLER", "sometimes")], "set to `sometimes`");
    check(&[endpoint, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")], "set to `2`");
}
