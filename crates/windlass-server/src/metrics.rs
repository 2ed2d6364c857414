//! `GET /metrics` in the text format of OpenMetrics. What is said of runs, steps and repositories is read when it is asked for, from
//! the record that the pages show; what is said of requests is counted here.

use crate::authentication::{Who, unknown};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Extension;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use windlass_app::health::Readings;
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_store::{RunEnd, Store, StoreError};

pub fn routes(routes: Routes) -> Routes {
    // The handler lets this machine in, and asks everybody else for the permission.
    routes.add(Method::GET, "/metrics", Guard::Public, get(metrics))
}

type Labels = Vec<(&'static str, String)>;
type Whole = Gauge<i64>;
type Seconds = Gauge<f64, AtomicU64>;

/// All that is told, with what was counted so far.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    request_seconds: Family<Labels, Histogram>,
    runs: Family<Labels, Whole>,
    waiting: Family<Labels, Whole>,
    late: Family<Labels, Whole>,
    steps: Family<Labels, Whole>,
    stuck: Family<Labels, Whole>,
    queue_age: Seconds,
    run_seconds: Family<Labels, Histogram>,
    fetched: Family<Labels, Seconds>,
    fetch_failures: Family<Labels, Whole>,
    bad: Family<Labels, Whole>,
    followed: Family<Labels, Whole>,
    workers: Family<Labels, Whole>,
    database_up: Whole,
    database_seconds: Seconds,
    sealed: Family<Labels, Seconds>,
    spans: Family<Labels, Counter>,
    configuration_bad: Whole,
    configuration_restart: Whole,
    artefacts: Family<Labels, Whole>,
    artefact_bytes: Family<Labels, Whole>,
    removed: Family<Labels, Counter>,
    removed_bytes: Family<Labels, Counter>,
    notified: Family<Labels, Counter>,
    given_up: Family<Labels, Counter>,
    notifications: Family<Labels, Whole>,
    notifier_failures: Family<Labels, Whole>,
    /// Until when (µs) runs that ended are in `run_seconds`; the families above are cleared and filled while it is held.
    counted: Mutex<Option<Micros>>,
}

fn request_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

/// From a second to nine hours.
fn run_histogram() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("windlass");
        macro_rules! family {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let build: Family<Labels, Whole> = family!("build_info", "Version of this server", Family::default());
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let requests = family!("http_requests", "Requests that were answered", Family::default());
        let request_seconds = family!(
            "http_request_duration_seconds",
            "How long requests took",
            Family::new_with_constructor(request_histogram as fn() -> Histogram)
        );
        let run_seconds = family!(
            "run_duration_seconds",
            "From the making of a run to its end, of runs that ended since this server started",
            Family::new_with_constructor(run_histogram as fn() -> Histogram)
        );
        Self {
            requests,
            request_seconds,
            runs: family!("runs", "Runs that have not ended, by state", Family::default()),
            waiting: family!(
                "runs_waiting",
                "Runs of which nothing is under way, by what they wait for",
                Family::default()
            ),
            late: family!("runs_late", "Runs that should have gone on more than a minute ago", Family::default()),
            steps: family!("steps", "Steps of runs that have not ended, by state", Family::default()),
            stuck: family!("steps_stuck", "Steps under way whose lease nobody renews", Family::default()),
            queue_age: family!(
                "queue_age_seconds",
                "How long the run that waits longest for a place or a worker does so",
                Seconds::default()
            ),
            run_seconds,
            fetched: family!(
                "repository_fetched_timestamp_seconds",
                "The last fetch of a repository that worked",
                Family::default()
            ),
            fetch_failures: family!(
                "repository_fetch_failures",
                "Fetches that failed, one after another, since the last one that worked",
                Family::default()
            ),
            bad: family!(
                "repository_bad_definitions",
                "1 while the definitions of the newest commit are wrong",
                Family::default()
            ),
            followed: family!("repository_info", "The commit whose definitions are in force", Family::default()),
            workers: family!(
                "workers",
                "Workers that live, by label; an empty one takes everything else",
                Family::default()
            ),
            database_up: family!("database_up", "1 when the database answers", Whole::default()),
            database_seconds: family!(
                "database_answer_seconds",
                "How long the database took to answer one question",
                Seconds::default()
            ),
            sealed: family!(
                "audit_sealed_timestamp_seconds",
                "When the newest seal over the record was made",
                Family::default()
            ),
            spans: family!(
                "trace_spans",
                "Spans that were sent, that the collector did not take, and that there was no room for",
                Family::default()
            ),
            configuration_bad: family!(
                "configuration_bad",
                "1 while what the configuration says is wrong, and what was read before stays in force",
                Whole::default()
            ),
            configuration_restart: family!(
                "configuration_restart_needed",
                "1 while the configuration says what needs a restart",
                Whole::default()
            ),
            artefacts: family!("artefacts", "What steps left and is kept, packed logs among it", Family::default()),
            artefact_bytes: family!("artefact_bytes", "How much that is", Family::default()),
            removed: family!("artefacts_removed", "What was removed because it was old", Family::default()),
            removed_bytes: family!("artefact_removed_bytes", "How much that was", Family::default()),
            notified: family!("notifications_sent", "Messages that a notifier's channel took", Family::default()),
            given_up: family!("notifications_given_up", "Messages that will not be sent any more", Family::default()),
            notifications: family!("notifications_queued", "Messages that wait for a notifier", Family::default()),
            notifier_failures: family!(
                "notifier_failures",
                "Attempts of a notifier that failed, one after another, since the last one that did not",
                Family::default()
            ),
            registry,
            counted: Mutex::default(),
        }
    }
}

fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}

/// Runs that ended so short a time ago (µs) may still be on their way into the record.
const SETTLE: Micros = 5_000_000;

/// A database whose time is so much (µs) before what it was has had its clock set back: what ends now is counted again.
const SET_BACK: Micros = 60_000_000;

impl Metrics {
    /// Counts a request that was answered.
    pub fn request(&self, method: &str, path: &str, status: u16, took: Duration) {
        let method = ("method", method.to_owned());
        let path = ("path", path.to_owned());
        self.requests.get_or_create(&vec![method.clone(), path.clone(), ("status", status.to_string())]).inc();
        self.request_seconds.get_or_create(&vec![method, path]).observe(took.as_secs_f64());
    }

    /// Brings what became of spans up to date.
    fn spans(&self, counts: windlass_app::traces::Counts) {
        for (result, count) in [("sent", counts.sent), ("failed", counts.failed), ("dropped", counts.dropped)] {
            let counter = self.spans.get_or_create_owned(&vec![("result", result.to_owned())]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Runs that ended since the last look, and until when that is.
    async fn ends(&self, store: &Store) -> Result<(Micros, Vec<RunEnd>), StoreError> {
        let until = store.now().await? - SETTLE;
        let from = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = match from {
            Some(from) => store.run_ends(from, until).await?,
            None => Vec::new(),
        };
        Ok((until, ends))
    }

    /// The text, of what was read; without it the database does not answer.
    fn render(
        &self,
        readings: Option<&Readings>,
        ended: Option<(Micros, Vec<RunEnd>)>,
    ) -> Result<String, std::fmt::Error> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, _)) = &ended
            && counted.is_some_and(|counted| *until + SET_BACK < counted)
        {
            *counted = Some(*until);
        }
        // Of two that look at the same time, one counts what ended.
        if let Some((until, ends)) = ended.filter(|(until, _)| counted.is_none_or(|counted| counted < *until)) {
            let from = counted.unwrap_or(until);
            for end in ends.iter().filter(|end| end.ended_at > from) {
                let labels = vec![
                    ("project", end.project.clone()),
                    ("kind", end.kind.clone()),
                    ("state", end.state.as_str().to_owned()),
                ];
                self.run_seconds.get_or_create(&labels).observe(seconds((end.ended_at - end.created_at).max(0)));
            }
            *counted = Some(until);
        }
        for family in [
            &self.runs,
            &self.waiting,
            &self.late,
            &self.steps,
            &self.stuck,
            &self.fetch_failures,
            &self.bad,
            &self.followed,
            &self.workers,
            &self.notifications,
            &self.notifier_failures,
        ] {
            family.clear();
        }
        self.fetched.clear();
        self.sealed.clear();
        self.artefacts.clear();
        self.artefact_bytes.clear();
        self.removed.clear();
        self.removed_bytes.clear();
        self.notified.clear();
        self.given_up.clear();
        self.database_up.set(i64::from(readings.is_some()));
        if let Some(readings) = readings {
            self.fill(readings);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn fill(&self, readings: &Readings) {
        let of = |project: &str, kind: &str, name: &'static str, value: &str| {
            vec![("project", project.to_owned()), ("kind", kind.to_owned()), (name, value.to_owned())]
        };
        let project = |project: &str| vec![("project", project.to_owned())];
        for (project, kind, state, count) in &readings.runs {
            self.runs.get_or_create(&of(project, kind, "state", state.as_str())).set(*count);
        }
        for (project, kind, state, count) in &readings.steps {
            self.steps.get_or_create(&of(project, kind, "state", state.as_str())).set(*count);
        }
        for ((project, kind, class), count) in readings.waiting() {
            self.waiting.get_or_create(&of(project, kind, "for", class.as_str())).set(count);
        }
        for repository in &readings.repositories {
            // Nothing late or stuck is told as 0, so that an alert ends when it is over.
            self.late.get_or_create(&project(&repository.project)).set(0);
            self.stuck.get_or_create(&project(&repository.project)).set(0);
            let labels = project(&repository.project);
            if let Some(at) = repository.fetched {
                self.fetched.get_or_create(&labels).set(seconds(at));
            }
            self.fetch_failures.get_or_create(&labels).set(i64::from(repository.failures));
            self.bad.get_or_create(&labels).set(i64::from(repository.is_bad));
            let info = vec![
                ("project", repository.project.clone()),
                ("branch", repository.branch.clone()),
                ("commit", repository.commit.clone()),
            ];
            self.followed.get_or_create(&info).set(1);
        }
        for wait in readings.late() {
            self.late.get_or_create(&project(&wait.project)).inc();
        }
        for step in &readings.stuck {
            self.stuck.get_or_create(&project(&step.project)).inc();
        }
        for worker in readings.workers.iter().filter(|worker| !worker.draining) {
            let labels = worker.labels.own.iter().map(String::as_str).chain(worker.labels.rest.then_some(""));
            for label in labels {
                self.workers.get_or_create(&vec![("label", label.to_owned())]).inc();
            }
        }
        if let Some(at) = readings.sealed {
            self.sealed.get_or_create(&Labels::new()).set(seconds(at));
        }
        for (kind, stored) in &readings.stored {
            let labels = vec![("kind", kind.clone())];
            self.artefacts.get_or_create(&labels).set(stored.count);
            self.artefact_bytes.get_or_create(&labels).set(stored.bytes);
            self.removed.get_or_create(&labels).inc_by(stored.removed.unsigned_abs());
            self.removed_bytes.get_or_create(&labels).inc_by(stored.removed_bytes.unsigned_abs());
        }
        for notifier in &readings.notifiers {
            let labels = vec![("project", notifier.project.clone()), ("notifier", notifier.name.clone())];
            self.notified.get_or_create(&labels).inc_by(notifier.sent.unsigned_abs());
            self.given_up.get_or_create(&labels).inc_by(notifier.given_up.unsigned_abs());
            self.notifications.get_or_create(&labels).set(notifier.queued);
            self.notifier_failures.get_or_create(&labels).set(notifier.failures);
        }
        self.queue_age.set(seconds(readings.queue_age()));
        self.database_seconds.set(readings.database.as_secs_f64());
    }
}

/// Whether somebody on this machine asks, and not through a proxy on it: the address that is asked for is this machine as well, and
/// no proxy left its name.
fn is_local(peer: Option<SocketAddr>, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    let proxied = ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    peer.is_some_and(|peer| peer.ip().is_loopback()) && matches!(host, "127.0.0.1" | "::1" | "localhost") && !proxied
}

/// What Prometheus reads: with a token that has `metrics.read`, or from this machine.
async fn metrics(
    State(app): State<Arc<App>>,
    Extension(metrics): Extension<Arc<Metrics>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    who: Option<Extension<Who>>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    match who {
        Some(Extension(who)) => {
            who.caller.must(&app.installation, Permission::MetricsRead, &Subject::server()).await?;
        }
        None if is_local(peer.map(|Extension(ConnectInfo(peer))| peer), &headers) => {}
        None => return Err(Failure(unknown())),
    }
    let readings = Readings::take(&app.installation).await.inspect_err(|error| tracing::warn!(%error, "no readings"));
    let configured = app.installation.configured();
    metrics.configuration_bad.set(i64::from(!configured.wrong.is_empty()));
    metrics.configuration_restart.set(i64::from(!configured.restart.is_empty()));
    if let Some(traces) = &app.installation.traces {
        metrics.spans(traces.counts());
    }
    let ended = metrics.ends(&app.installation.common.store).await.ok();
    let text = metrics.render(readings.ok().as_ref(), ended).map_err(windlass_app::error::internal)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

#[cfg(test)]
mod tests;
