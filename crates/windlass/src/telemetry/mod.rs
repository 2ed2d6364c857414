//! What a server says while it works: one line for each thing, on standard error; and traces, where they are asked for.

mod otlp;

pub use otlp::Otlp;

use clap::ValueEnum;
use opentelemetry::trace::TracerProvider;
use std::sync::Arc;
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};
use windlass_app::configuration::Configuration;
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_app::traces::Traces;
use windlass_model::diagnostic::Diagnostic;

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// What is told when nothing says it.
const FILTER: &str = "info,windlass_drivers=warn";

/// What can be changed of it while it goes on, and what has to be ended.
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
    otlp: Option<Arc<Otlp>>,
}

/// Begins to log, and to send traces when they are to go somewhere. What a filter says that makes no sense is told, and left out.
///
/// # Errors
/// Where traces are to go is no address, or what OpenTelemetry's variables say cannot be done.
pub fn start(format: LogFormat, configuration: &Configuration) -> AppResult<Telemetry> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let otlp = Otlp::new(configuration.otlp_endpoint.as_deref(), variable)?.map(Arc::new);
    let (filter, handle) = reload::Layer::new(filter(configuration.log.as_deref()));
    let spans = otlp.as_ref().map(|otlp| {
        // Our own; what is told in lines stays there.
        let ours = filter_fn(|of| of.is_span() && of.target().starts_with("windlass") && *of.level() <= Level::INFO);
        let layer = tracing_opentelemetry::layer().with_tracer(otlp.provider().tracer("windlass"));
        layer.with_location(false).with_threads(false).with_target(false).with_filter(ours)
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    // A second start, in tests of this program alone, keeps the first.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init();
    Ok(Telemetry { filter: handle, otlp })
}

fn filter(said: Option<&str>) -> EnvFilter {
    said.filter(|said| !said.is_empty()).map_or_else(|| EnvFilter::new(FILTER), EnvFilter::new)
}

impl Telemetry {
    /// Where traces of runs go.
    pub fn traces(&self) -> Option<Arc<dyn Traces>> {
        self.otlp.clone().map(|otlp| otlp as Arc<dyn Traces>)
    }

    /// Logs what `said` selects from now on; what is usual when it is `None`.
    pub fn log(&self, said: Option<&str>) {
        // It lives as long as the program does.
        let _ = self.filter.reload(filter(said));
    }

    /// Sends what is left, for a short time.
    pub fn end(&self) {
        if let Some(otlp) = &self.otlp {
            otlp.end();
        }
    }
}

fn wrong(summary: String, help: &str) -> AppError {
    AppError::new(ErrorKind::Usage, Diagnostic::error("WL900", summary).help(help))
}
