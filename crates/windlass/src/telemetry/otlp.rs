//! Traces over OTLP (http/protobuf). A collector that is slow or away costs a bounded queue of spans, and nobody's time.

use super::wrong;
use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, SdkProvidedResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SamplingDecision,
    SdkTracerProvider, ShouldSample, SpanData, SpanExporter, SpanProcessor,
};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use windlass_app::error::AppResult;
use windlass_app::traces::{Counts, RunTrace, Traces};
use windlass_model::Micros;

/// Spans that may wait for the collector when `OTEL_BSP_MAX_QUEUE_SIZE` does not say it: those of one very long run.
const QUEUE: usize = 16_384;
/// How long what is left may take to be sent at the end.
const LAST: Duration = Duration::from_secs(2);
/// How long one request to the collector may take when `OTEL_EXPORTER_OTLP_TIMEOUT` does not say it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where spans go.
pub struct Otlp {
    provider: SdkTracerProvider,
    sampler: Sampler,
    told: Arc<Told>,
}

/// What became of spans.
#[derive(Debug, Default)]
struct Told {
    waiting: AtomicUsize,
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    /// That the collector cannot be reached was said, and nothing else since.
    is_away: AtomicBool,
}

impl Otlp {
    /// Spans go to `endpoint`, unless OpenTelemetry's own variables name another one; `None` when nothing names one.
    ///
    /// # Errors
    /// WL900: it is no address, or what the variables say cannot be done.
    pub fn new(endpoint: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> AppResult<Option<Self>> {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let named = variable(own).or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let off = variable("OTEL_SDK_DISABLED").is_some_and(|said| said.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|said| said == "none");
        let Some(address) = named.clone().or_else(|| endpoint.map(str::to_owned)).filter(|_| !off) else {
            return Ok(None);
        };
        if !(address.starts_with("http://") || address.starts_with("https://")) {
            let help = "give the address of its http/protobuf receiver, such as `http://127.0.0.1:4318`";
            return Err(wrong(format!("`{address}` is no address of a collector"), help));
        }
        let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or(variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(protocol) = protocol.filter(|protocol| protocol != "http/protobuf") {
            let help = "leave it out: collectors take http/protobuf, at port 4318 when nothing else is said";
            return Err(wrong(format!("traces are sent as http/protobuf, not as `{protocol}`"), help));
        }
        let sampler = sampler(&variable)?;
        let wait = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let wait = wait.iter().find_map(|name| variable(name)?.parse().ok()).map_or(TIMEOUT, Duration::from_millis);
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(wait))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(wait);
        if named.is_none() {
            exporter = exporter.with_endpoint(format!("{}/v1/traces", address.trim_end_matches('/')));
        }
        let built = exporter.build();
        let exporter =
            built.map_err(|error| wrong(format!("traces cannot be sent to {address}: {error}"), "mend it"))?;
        let most = variable("OTEL_BSP_MAX_QUEUE_SIZE").and_then(|most| most.parse().ok()).unwrap_or(QUEUE);
        let told = Arc::<Told>::default();
        let batches = BatchConfigBuilder::default().with_max_queue_size(most).build();
        let telling = Telling { exporter, told: told.clone(), address };
        let queue = BatchSpanProcessor::builder(telling).with_batch_config(batches).build();
        let detectors: [Box<dyn opentelemetry_sdk::resource::ResourceDetector>; 2] =
            [Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())];
        let mut resource = Resource::builder_empty()
            .with_service_name("windlass")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_detectors(&detectors);
        if variable("OTEL_SERVICE_NAME").is_some() {
            resource = resource.with_detector(Box::new(SdkProvidedResourceDetector));
        }
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Bounded { queue, most, told: told.clone() })
            .with_id_generator(Ids::default())
            .with_sampler(sampler.clone())
            .with_resource(resource.build())
            .build();
        opentelemetry::global::set_tracer_provider(provider.clone());
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        Ok(Some(Self { provider, sampler, told }))
    }

    pub fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// Sends what is left, for a short time.
    pub fn end(&self) {
        // What is not sent by then is lost, as it would be with the process.
        let _ = self.provider.shutdown_with_timeout(LAST);
    }
}

/// What `OTEL_TRACES_SAMPLER` says.
fn sampler(variable: impl Fn(&str) -> Option<String>) -> AppResult<Sampler> {
    let ratio = || {
        let said = variable("OTEL_TRACES_SAMPLER_ARG").unwrap_or_else(|| "1".to_owned());
        said.parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio))
            .ok_or_else(|| wrong(format!("OTEL_TRACES_SAMPLER_ARG is set to `{said}`"), "it is a number from 0 to 1"))
    };
    let of_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    Ok(match variable("OTEL_TRACES_SAMPLER").as_deref() {
        None | Some("parentbased_always_on") => of_parent(Sampler::AlwaysOn),
        Some("parentbased_always_off") => of_parent(Sampler::AlwaysOff),
        Some("parentbased_traceidratio") => of_parent(Sampler::TraceIdRatioBased(ratio()?)),
        Some("always_on") => Sampler::AlwaysOn,
        Some("always_off") => Sampler::AlwaysOff,
        Some("traceidratio") => Sampler::TraceIdRatioBased(ratio()?),
        Some(other) => {
            let help = "use always_on, always_off, traceidratio, or one of them with `parentbased_` before it";
            return Err(wrong(format!("OTEL_TRACES_SAMPLER is set to `{other}`"), help));
        }
    })
}

fn time(at: Micros) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(at).unwrap_or_default())
}

impl Traces for Otlp {
    fn send(&self, trace: &RunTrace) {
        let tracer = self.provider.tracer("windlass");
        for span in &trace.spans {
            let parent = match span.parent {
                Some(parent) => {
                    let (sampled, state) = (TraceFlags::SAMPLED, TraceState::default());
                    let parent = SpanContext::new(trace.id, parent, sampled, false, state);
                    Context::new().with_remote_span_context(parent)
                }
                None => Context::new(),
            };
            let builder = tracer
                .span_builder(span.name.clone())
                .with_kind(SpanKind::Internal)
                .with_start_time(time(span.start))
                .with_attributes(span.attributes.iter().cloned());
            let mut begun = Ids::given(trace.id, span.id, || builder.start_with_context(&tracer, &parent));
            if let Some(error) = &span.error {
                begun.set_status(Status::error(error.clone()));
            }
            begun.end_with_timestamp(time(span.end));
        }
    }

    fn is_sampled(&self, trace: TraceId) -> bool {
        let sampled = self.sampler.should_sample(None, trace, "run", &SpanKind::Internal, &[], &[]);
        sampled.decision == SamplingDecision::RecordAndSample
    }

    fn counts(&self) -> Counts {
        let told = &self.told;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { sent: count(&told.sent), failed: count(&told.failed), dropped: count(&told.dropped) }
    }
}

thread_local! {
    /// The ids of the span that is begun next on this thread.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Ids by chance, but for spans whose ids are known before.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl Ids {
    fn given<T>(trace: TraceId, span: SpanId, begin: impl FnOnce() -> T) -> T {
        NEXT.set(Some((trace, span)));
        let begun = begin();
        NEXT.set(None);
        begun
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// Takes spans while there is room, and counts the others.
#[derive(Debug)]
struct Bounded {
    queue: BatchSpanProcessor,
    most: usize,
    told: Arc<Told>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        let room = |waiting| (waiting < self.most).then_some(waiting + 1);
        if self.told.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok() {
            self.queue.on_end(span);
        } else {
            self.told.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Sends spans, and says once when that does not work, and once when it works again.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    told: Arc<Told>,
    address: String,
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (told, count) = (&self.told, batch.len());
        let sent = self.exporter.export(batch).await;
        told.waiting.fetch_sub(count, Ordering::Relaxed);
        let counter = if sent.is_ok() { &told.sent } else { &told.failed };
        counter.fetch_add(count as u64, Ordering::Relaxed);
        match &sent {
            Ok(()) if told.is_away.swap(false, Ordering::Relaxed) => {
                tracing::info!("traces are sent to {} again", self.address);
            }
            Err(error) if !told.is_away.swap(true, Ordering::Relaxed) => tracing::warn!(
                "traces cannot be sent to {}: {error}; those of the meantime are lost, and this is said once",
                self.address
            ),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Asks on the thread that sends, which has nothing else to do.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new(wait: Duration) -> Self {
        let agent = ureq::Agent::config_builder()
            .tls_config(crate::remote::client::tls())
            .timeout_global(Some(wait))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self(agent)
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut answer = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let body = answer.body_mut().read_to_vec()?;
        let mut response = Response::new(body.into());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}
