//! What a server says while it works: one line for each thing, on standard error.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// What is told when `WINDLASS_LOG` does not say it.
const FILTER: &str = "info,windlass_drivers=warn";

/// Begins to log; what `WINDLASS_LOG` says that makes no sense is told, and left out.
pub fn start(format: LogFormat) {
    let said = std::env::var("WINDLASS_LOG").unwrap_or_default();
    let filter = if said.is_empty() { EnvFilter::new(FILTER) } else { EnvFilter::new(&said) };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, in tests of this program alone, keeps the first.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
}
