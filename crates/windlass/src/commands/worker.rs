//! `windlass worker`.

use super::reload::{self, Due};
use super::serve::{DRAIN, at_once, interrupted, until_stopped};
use crate::arguments::Worker;
use crate::telemetry::Telemetry;
use crate::{Answer, Context, print};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_app::configuration::Configuration;
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::installation::{self, Installation};
use windlass_app::settings::StateDirectory;
use windlass_app::steps::anywhere;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::run::Labels;

pub fn worker(cx: &Context, arguments: Worker) -> Answer {
    let configuration = Configuration::read(arguments.config.as_deref(), |name| std::env::var_os(name))?;
    let telemetry = crate::telemetry::start(arguments.log_format, &configuration)?;
    until_stopped(&telemetry, run(cx, arguments, configuration, &telemetry))
}

/// Whether everything that was under way has ended.
async fn run(cx: &Context, arguments: Worker, configuration: Configuration, telemetry: &Telemetry) -> AppResult<bool> {
    let config = arguments.config;
    let mut due = Due::new(config.as_deref())?;
    let labels = Labels { rest: arguments.label.is_empty(), own: arguments.label };
    let lacks = |what: &str, help: &str| {
        AppError::new(ErrorKind::Usage, Diagnostic::error("WL909", format!("a worker needs {what}")).help(help))
    };
    let database = arguments.database.or(configuration.database.clone());
    let given = Configuration { database, ..configuration.clone() };
    if given.database.is_none() {
        return Err(lacks(
            "the PostgreSQL of the servers",
            "give it with `--database`, WINDLASS_DATABASE or `database`",
        ));
    }
    if configuration.repositories.is_empty() {
        return Err(lacks("the repositories of the servers", "give it the servers' configuration with `--config`"));
    }
    let data = match arguments.data.as_ref().or(configuration.data.as_ref()) {
        Some(data) => data.clone(),
        None => StateDirectory::create(&cx.directory)?.server(),
    };
    let data = std::path::absolute(data).map_err(internal)?;
    if configuration.key_file.is_none() && !data.join("key").exists() {
        // One of its own would make every effect look different from what was reviewed.
        let help = "name a file with it with `key_file`, or copy the file `key` of the servers' data directory there";
        return Err(lacks(&format!("the servers' key in {}", data.display()), help));
    }
    let common = installation::common(&given, &data, crate::policy_worker()).await?;
    let store = common.store.clone();
    let installation = {
        let repositories = configuration.repositories.clone();
        let admins = configuration.admins.clone();
        let open = move || Installation::open(&data, common, &repositories, admins);
        let opened = tokio::task::spawn_blocking(open).await.map_err(internal)??;
        Arc::new(opened.traced(telemetry.traces()))
    };
    let stop = CancellationToken::new();
    let followed = tokio::spawn(installation.followed.clone().run(stop.clone()));
    let drain = configuration.drain.map_or(DRAIN, Duration::from_secs);
    let names = if labels.own.is_empty() { "no label".to_owned() } else { labels.own.join(", ") };
    let told = |run: &windlass_model::id::RunId, why: &str| tracing::error!(%run, "{why}");
    let worked = tokio::spawn(anywhere::work(installation.clone(), labels, stop.clone(), drain, told));
    print(&format!("Working for {} ({names})\n", store.place()));
    let reloading = async {
        loop {
            due.wait().await;
            let read = Configuration::read(config.as_deref(), |name| std::env::var_os(name));
            let read = read.map(|new| ((), new));
            reload::apply(&installation, &configuration, read, telemetry, |new| new.admins.clone(), drop).await;
        }
    };
    tokio::select! {
        () = interrupted() => {}
        () = reloading => {}
    }
    tracing::info!("stopping: nothing more is begun; what is under way may take {} s to end", drain.as_secs());
    stop.cancel();
    at_once();
    let drained = worked.await.map_err(internal)?;
    followed.abort();
    store.close().await;
    Ok(drained)
}
