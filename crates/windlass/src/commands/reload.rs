//! Reading the configuration again while the program goes on: at SIGHUP, and when its file has changed.

use crate::telemetry::Telemetry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use windlass_app::configuration::Configuration;
use windlass_app::error::{AppError, AppResult, internal};
use windlass_app::installation::{Configured, ITSELF, Installation};
use windlass_model::diagnostic::Diagnostic;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// When the configuration is to be read again.
pub struct Due {
    hangups: Signal,
    file: Option<PathBuf>,
    read: Option<Stamp>,
}

/// What changes with a file; a link that leads elsewhere changes it as well.
type Stamp = (SystemTime, u64);

fn stamp(file: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len()))
}

impl Due {
    /// From now on, a SIGHUP ends nothing.
    ///
    /// # Errors
    /// Signals cannot be had.
    pub fn new(file: Option<&Path>) -> AppResult<Self> {
        let hangups = signal(SignalKind::hangup()).map_err(internal)?;
        Ok(Self { hangups, file: file.map(Path::to_owned), read: file.and_then(stamp) })
    }

    /// Waits for a SIGHUP, or until the file has changed and then stayed as it is for a moment.
    pub async fn wait(&mut self) {
        let mut seen = self.read;
        loop {
            tokio::select! {
                hangup = self.hangups.recv() => match hangup {
                    Some(()) => break,
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep(LOOK), if self.file.is_some() => {}
            }
            let now = self.file.as_deref().and_then(stamp);
            // One that is away is about to be put in place; one that still changes is not whole yet.
            if now.is_some() && now != self.read && now == seen {
                break;
            }
            seen = now;
        }
        self.read = self.file.as_deref().and_then(stamp);
    }
}

/// Puts in force what was read, as far as it can be changed while the program goes on; `trust` takes what was made of it. What is
/// wrong leaves everything as it was. `began` is what the program was started with.
pub async fn apply<T>(
    installation: &Arc<Installation>,
    began: &Configuration,
    read: AppResult<(T, Configuration)>,
    telemetry: &Telemetry,
    admins: impl FnOnce(&Configuration) -> Vec<String>,
    trust: impl FnOnce(T),
) {
    let changed = async {
        let (trusted, new) = read?;
        let (of, repositories, admins) = (installation.clone(), new.repositories.clone(), admins(&new));
        tokio::task::spawn_blocking(move || of.change(&repositories, admins)).await.map_err(internal)??;
        trust(trusted);
        telemetry.log(new.log.as_deref());
        Ok::<_, AppError>(began.restart(&new))
    };
    let configured = match changed.await {
        Ok(restart) => {
            tracing::info!("the configuration was read again and is in force");
            let (store, data) = (&installation.common.store, serde_json::json!({ "restart": restart }));
            if let Err(error) = store.event_tell("server.reloaded", "server", data, ITSELF, None).await {
                tracing::error!(%error, "that the configuration was read again is not on record");
            }
            Configured { restart, ..Configured::default() }
        }
        Err(error) => {
            let wrong: Vec<Diagnostic> = error.diagnostics.into_iter().map(without_excerpt).collect();
            for diagnostic in &wrong {
                tracing::error!(code = diagnostic.code, "the configuration is wrong: {}", diagnostic.summary);
            }
            // What needed a restart still does.
            Configured { wrong, restart: installation.configured().restart }
        }
    };
    if let Some(warning) = configured.warning() {
        tracing::warn!("{warning}");
    }
    installation.set_configured(configured);
}

/// The line of the file that is wrong may hold a secret: where it is and what is wrong with it is enough.
fn without_excerpt(diagnostic: Diagnostic) -> Diagnostic {
    let mut lines = diagnostic.summary.lines();
    let summary = match (lines.next(), lines.next_back()) {
        (Some(place), Some(what)) => format!("{place}: {what}"),
        _ => return diagnostic,
    };
    Diagnostic { summary, ..diagnostic }
}
