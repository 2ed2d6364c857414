//! `windlass serve`.

use super::reload::{self, Due};
use crate::arguments::Serve;
use crate::telemetry::Telemetry;
use crate::{Answer, Context, print};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_app::changes;
use windlass_app::configuration::{Configuration, LISTEN};
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::housekeeping;
use windlass_app::installation::{self, Installation};
use windlass_app::notifications;
use windlass_app::project::Checkout;
use windlass_app::repositories::Repository;
use windlass_app::schedules;
use windlass_app::secrets::Hidden;
use windlass_app::sessions;
use windlass_app::settings::StateDirectory;
use windlass_app::steps::anywhere;
use windlass_app::triggers::Watch;
use windlass_connect::oidc::Provider;
use windlass_connect::workload::Issuers;
use windlass_model::approval::Actor;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::run::Labels;
use windlass_server::{App, Limits, Trusted};

/// How long steps under way may take to end when it is not said.
pub const DRAIN: Duration = Duration::from_secs(60);

pub fn serve(cx: &Context, arguments: Serve) -> Answer {
    let configuration = configuration(cx, &arguments)?;
    let telemetry = crate::telemetry::start(arguments.log_format, &configuration)?;
    until_stopped(&telemetry, run(cx, &arguments, configuration, &telemetry))
}

/// Does `work` until it says whether everything that was under way has ended.
pub fn until_stopped(telemetry: &Telemetry, work: impl Future<Output = AppResult<bool>>) -> Answer {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(crate::STACK)
        .build()
        .map_err(internal)?;
    let ended = runtime.block_on(work);
    telemetry.end();
    let drained = ended?;
    if !drained {
        // What still runs is left as by a crash, which is what recovery is for; to cancel it would be an end of its own.
        std::process::exit(0);
    }
    runtime.shutdown_timeout(Duration::from_millis(500));
    Ok(true)
}

/// Flags go before the environment, which goes before the file. Without a repository it is that of the checkout.
fn configuration(cx: &Context, arguments: &Serve) -> AppResult<Configuration> {
    let mut configuration = Configuration::read(arguments.config.as_deref(), |name| std::env::var_os(name))?;
    configuration.listen = arguments.listen.or(configuration.listen);
    configuration.url = arguments.url.clone().or(configuration.url);
    configuration.data = arguments.data.clone().or(configuration.data);
    configuration.database = arguments.database.clone().or(configuration.database);
    for repository in &arguments.repository {
        let (name, url) = match repository.split_once('=') {
            Some((name, url)) => (name.to_owned(), url.to_owned()),
            None => {
                let last = repository.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
                (last.trim_end_matches(".git").to_lowercase(), repository.clone())
            }
        };
        configuration.repositories.push(Repository::new(name, url));
    }
    if configuration.repositories.is_empty() {
        let checkout = Checkout::open(&cx.directory)?;
        checkout.git()?;
        let name = checkout.root.file_name().map_or_else(String::new, |name| name.to_string_lossy().to_lowercase());
        configuration.repositories.push(Repository::new(name, checkout.root.display().to_string()));
    }
    Ok(configuration)
}

/// Whom the configuration lets in, and what for. Its secrets are hidden from then on.
fn trusted(configuration: &Configuration, hidden: &Hidden) -> AppResult<Trusted> {
    let webhook_secrets = secrets(&configuration.webhook_secrets)?;
    hidden.add(webhook_secrets.iter().map(|secret| String::from_utf8_lossy(secret).into_owned()));
    for provider in &configuration.providers {
        hidden.add(provider.client_secret.iter().map(|secret| secret.secret().clone()));
        // One that cannot be read is told where it is needed.
        let file = provider.client_secret_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        hidden.add(file.map(|secret| secret.trim().to_owned()));
    }
    let wrong = |diagnostic| AppError::new(ErrorKind::Usage, diagnostic);
    let providers = configuration.providers.iter().map(|settings| Provider::new(settings.clone()).map(Arc::new));
    let issuers = Issuers::new(configuration.issuers.clone());
    Ok(Trusted {
        providers: providers.collect::<Result<_, _>>().map_err(|error| wrong(error.diagnostic()))?,
        issuers: Arc::new(issuers.map_err(|error| wrong(error.diagnostic()))?),
        webhook_secrets,
        proxies: configuration.trusted_proxies.clone(),
    })
}

/// Who may do everything.
fn admins(configuration: &Configuration, address: SocketAddr) -> Vec<String> {
    let mut admins = configuration.admins.clone();
    if configuration.providers.is_empty() && address.ip().is_loopback() {
        // Who can read this terminal has everything that the server has.
        admins.extend(windlass_app::actor::local(None).identities);
    }
    admins
}

/// Whether everything that was under way has ended.
async fn run(cx: &Context, arguments: &Serve, configuration: Configuration, telemetry: &Telemetry) -> AppResult<bool> {
    let mut due = Due::new(arguments.config.as_deref())?;
    let labels = Labels { own: arguments.label.clone(), rest: true };
    let data = match &configuration.data {
        Some(data) => data.clone(),
        None => StateDirectory::create(&cx.directory)?.server(),
    };
    let data = std::path::absolute(data).map_err(internal)?;
    let listen: SocketAddr = match configuration.listen {
        Some(listen) => listen,
        None => LISTEN.parse().map_err(internal)?,
    };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| {
        let diagnostic = Diagnostic::error("WL908", format!("cannot listen on {listen}: {error}"))
            .help("choose another port with `--listen`, or stop what uses this one");
        AppError::new(ErrorKind::Unavailable, diagnostic)
    })?;
    let address = listener.local_addr().map_err(internal)?;
    let url = configuration.url.clone().unwrap_or_else(|| format!("http://{address}"));
    let url = url.trim_end_matches('/').to_owned();
    let _alone = match configuration.database {
        None => Some(installation::alone(&data)?),
        Some(_) => None,
    };
    let mut common = installation::common(&configuration, &data, crate::policy_worker()).await?;
    common.settings.url = Some(url.clone());
    let store = common.store.clone();
    let installation = {
        let (data, repositories) = (data.clone(), configuration.repositories.clone());
        let admins = admins(&configuration, address);
        let open = move || Installation::open(&data, common, &repositories, admins);
        let opened = tokio::task::spawn_blocking(open).await.map_err(internal)??;
        Arc::new(opened.traced(telemetry.traces()))
    };
    let trusted_now = trusted(&configuration, &installation.common.hidden)?;
    let app = Arc::new(App::new(installation.clone(), url.clone(), Limits::default(), trusted_now));
    let stop = CancellationToken::new();
    let followed = tokio::spawn(installation.followed.clone().run(stop.clone()));
    let sealing = CancellationToken::new();
    let pace = windlass_app::audit::Pace::new(|name| std::env::var_os(name))?;
    let unsealed = |error: &AppError| tracing::error!(%error, "the audit record is not sealed");
    let sealed = tokio::spawn(windlass_app::audit::run(store.clone(), data, pace, sealing.clone(), unsealed));
    let unkept = |error: &AppError| tracing::error!(%error, "logs are not packed, or what is old is not removed");
    let every = housekeeping::pace(|name| std::env::var_os(name))?;
    let kept = housekeeping::run(store.clone(), configuration.retentions(), every, stop.clone(), unkept);
    let kept = tokio::spawn(kept);
    let untold = |error: &AppError| tracing::error!(%error, "nobody is told of what happens");
    let pace = notifications::Pace::default();
    let telling = notifications::run(installation.clone(), url.clone(), pace, stop.clone(), untold);
    let telling = tokio::spawn(telling);
    let unlooked = |error: &AppError| tracing::error!(%error, "changes are not looked at");
    let forges = Arc::new(changes::OfSettings::new(installation.clone()));
    let pace = changes::Pace::default();
    let changing = changes::run(installation.clone(), forges, url.clone(), pace, stop.clone(), unlooked);
    let changing = tokio::spawn(changing);
    let clock = {
        let (store, installation) = (store.clone(), installation.clone());
        schedules::Clock::new(store, move || schedules::in_force(&installation))
    };
    let late = |error: &AppError| tracing::error!(%error, "schedules are not looked at, or what is due does not begin");
    let starter = Arc::new(schedules::Itself(installation.clone()));
    let timed = tokio::spawn(schedules::run(clock, starter, stop.clone(), late));
    let unseen = |error: &AppError| tracing::error!(%error, "triggers are not looked at");
    let watched = tokio::spawn(Watch::of(&installation).run(stop.clone(), unseen));
    let drain = configuration.drain.map_or(DRAIN, Duration::from_secs);
    let told = |run: &windlass_model::id::RunId, why: &str| tracing::error!(%run, "{why}");
    let worked = tokio::spawn(anywhere::work(installation.clone(), labels, stop.clone(), drain, told));
    if app.trusted().providers.is_empty() {
        let actor = Actor { verified: true, ..windlass_app::actor::local(None) };
        let secret = sessions::link_create(&store, &actor).await?;
        print(&format!("Sign in once, within 15 minutes: {url}/sign-in/link/{secret}\n"));
    }
    print(&format!("Listening on {url}\n"));
    about(&url, address, store.place(), &configuration);
    let served = tokio::spawn(windlass_server::serve(app.clone(), listener, stop.clone()));
    let reloading = async {
        loop {
            due.wait().await;
            let read = self::configuration(cx, arguments)
                .and_then(|new| Ok((trusted(&new, &installation.common.hidden)?, new)));
            reload::apply(
                &installation,
                &configuration,
                read,
                telemetry,
                |new| admins(new, address),
                |trusted| {
                    app.trust(trusted);
                },
            )
            .await;
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
    served.await.map_err(internal)?.map_err(internal)?;
    followed.abort();
    kept.await.map_err(internal)?;
    telling.await.map_err(internal)?;
    changing.await.map_err(internal)?;
    timed.await.map_err(internal)?;
    watched.await.map_err(internal)?;
    // Last, so that nothing that happened stays unsealed.
    sealing.cancel();
    sealed.await.map_err(internal)?;
    store.close().await;
    Ok(drained)
}

/// What was started, for whoever reads the log.
fn about(url: &str, address: SocketAddr, database: &str, configuration: &Configuration) {
    tracing::info!(%address, database, "listening");
    for repository in &configuration.repositories {
        tracing::info!(project = repository.name, url = repository.url, "following");
    }
    if !address.ip().is_loopback() && !url.starts_with("https://") {
        tracing::warn!(
            "other machines reach {address} and nothing says that TLS is before it: sessions and tokens can be read on the way; \
             put a proxy with TLS before it and set `url` to its https address"
        );
    }
}

fn secrets(files: &[PathBuf]) -> AppResult<Vec<Vec<u8>>> {
    let read = |file: &PathBuf| {
        let text = std::fs::read(file).map_err(|error| {
            let summary = format!("cannot read the secret {}: {error}", file.display());
            AppError::new(ErrorKind::Usage, Diagnostic::error("WL907", summary))
        })?;
        Ok(text.trim_ascii_end().to_vec())
    };
    files.iter().map(read).collect()
}

/// Ends this process at the next signal to stop, as a crash does: what is under way is recovered by whoever starts next.
pub fn at_once() {
    tokio::spawn(async {
        interrupted().await;
        tracing::warn!("told to stop again: what is under way is left as by a crash");
        std::process::exit(1);
    });
}

/// Waits for the signal to stop.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
