//! Programs in containers, on the socket of Docker or Podman. What a container is for is written on it, so that one whose
//! starter died is found again.

use crate::oci;
use crate::process::{Ended, Listener, OutputFiles, ProcessError, Spec, Stream, Token, group_kib};
use base64::Engine as _;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, HostConfig, HostConfigLogConfig, Mount, MountType,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::place::{Container, Pull, mount};

/// What is written on a container: the attempt it is of, and where what it says is kept.
const RUN: &str = "windlass.run";
const STEP: &str = "windlass.step";
const ATTEMPT: &str = "windlass.attempt";
const OUT: &str = "windlass.out";
const ERR: &str = "windlass.err";

/// How long a request may take, seconds; one that waits for an end is asked again after it.
const TIMEOUT: u64 = 60;
/// How often the memory of a container is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long what a container said may still come after its end.
const DRAIN: Duration = Duration::from_secs(30);
/// How long an engine that was there may be away.
const AWAY: Duration = Duration::from_secs(60);
/// How long a container may be tidied up after its end, and how often that is looked at.
const TIDY: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(20);
/// From one question to the next where an engine is asked again.
const AGAIN: Duration = Duration::from_millis(300);

#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("no container engine answers at {at}: {why}")]
    NoEngine { at: String, why: String },
    #[error("the image {image} is not on this machine, and its runner says `pull = \"never\"`")]
    NoImage { image: String },
    #[error("the image {image} cannot be fetched: {why}")]
    Pull { image: String, why: String },
    #[error("the container engine refuses to run `{program}` in {image}: {why}")]
    Refused { program: String, image: String, why: String },
    #[error("the container engine stopped answering: {0}")]
    Lost(String),
    #[error("what a container said cannot be kept in {}: {source}", .path.display())]
    Keep { path: PathBuf, source: std::io::Error },
}

impl ContainerError {
    pub fn diagnostic(&self) -> Diagnostic {
        let (code, help) = match self {
            Self::NoEngine { .. } => (
                "WL873",
                "start Docker or Podman (`systemctl enable --now podman.socket`) here, give this user access to its socket, or \
                 name the socket in DOCKER_HOST",
            ),
            Self::NoImage { .. } => ("WL874", "load it on this machine, or write `pull = \"missing\"`"),
            Self::Pull { .. } => (
                "WL874",
                "look at the name in the `runner` block, and whether this machine reaches the registry and is signed in to it",
            ),
            Self::Refused { .. } => (
                "WL875",
                "the image needs the program on its PATH; networks and mounts of the `runner` block have to exist on this machine",
            ),
            Self::Lost(_) | Self::Keep { .. } => {
                ("WL875", "look at the container engine of this machine, then try again")
            }
        };
        Diagnostic::error(code, self.to_string()).help(help)
    }
}

fn lost(error: Error) -> ContainerError {
    ContainerError::Lost(error.to_string())
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Asks until the answer can be read. Podman says `stopped` of a container that has ended and is being tidied up, a moment later
/// `exited`; Docker's API has no such word.
async fn readable<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    let until = tokio::time::Instant::now() + TIDY;
    loop {
        match ask().await {
            Err(Error::JsonDataError { .. }) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(GLANCE).await;
            }
            answer => return answer,
        }
    }
}

/// The engine behind a socket.
#[derive(Clone)]
pub struct Engine(Docker);

impl Engine {
    /// The one that `DOCKER_HOST` names, otherwise Docker's or Podman's of this machine.
    ///
    /// # Errors
    /// There is none, or it does not answer.
    pub async fn of_process() -> Result<Self, ContainerError> {
        Self::connect(&host(|name| std::env::var(name).ok(), Path::exists)).await
    }

    /// The one at `unix://PATH` or `tcp://HOST:PORT`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connect(host: &str) -> Result<Self, ContainerError> {
        let away = |error: Error| ContainerError::NoEngine { at: host.to_owned(), why: error.to_string() };
        let version = bollard::API_DEFAULT_VERSION;
        let docker = match host.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, TIMEOUT, version),
            None => Docker::connect_with_http(host, TIMEOUT, version),
        };
        Ok(Self(docker.map_err(away)?.negotiate_version().await.map_err(away)?))
    }

    /// The id of the image, which is fetched as its runner says.
    ///
    /// # Errors
    /// It is not to be had.
    pub async fn image(&self, container: &Container) -> Result<String, ContainerError> {
        let image = &container.image;
        if container.pull == Pull::Always {
            self.pull(image).await?;
        }
        match self.0.inspect_image(image).await {
            Ok(found) => return Ok(found.id.unwrap_or_default()),
            Err(error) if !is_missing(&error) => return Err(lost(error)),
            Err(_) if container.pull == Pull::Never => return Err(ContainerError::NoImage { image: image.clone() }),
            Err(_) => self.pull(image).await?,
        }
        let found = self.0.inspect_image(image).await;
        let why = |error: Error| ContainerError::Pull { image: image.clone(), why: error.to_string() };
        Ok(found.map_err(why)?.id.unwrap_or_default())
    }

    async fn pull(&self, image: &str) -> Result<(), ContainerError> {
        let refused = |why: String| ContainerError::Pull { image: image.to_owned(), why };
        let mut options = CreateImageOptionsBuilder::new().from_image(image);
        // Without a tag an engine would fetch every one of them.
        if !image.contains('@') && !image.rsplit('/').next().is_some_and(|name| name.contains(':')) {
            options = options.tag("latest");
        }
        let mut told = std::pin::pin!(self.0.create_image(Some(options.build()), None, credentials(image)));
        while let Some(progress) = told.next().await {
            let progress = progress.map_err(|error| refused(error.to_string()))?;
            if let Some(error) = progress.error_detail {
                return Err(refused(error.message.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Containers of the attempts of a step, whatever they do.
    async fn of_step(&self, run: &str, step: &str) -> Result<Vec<Found>, ContainerError> {
        let labels = vec![format!("{RUN}={run}"), format!("{STEP}={step}")];
        let filters = HashMap::from([("label", labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = readable(|| self.0.list_containers(Some(options.clone()))).await.map_err(lost)?;
        Ok(listed.into_iter().filter_map(Found::new).collect())
    }

    async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        match readable(|| self.0.inspect_container(id, None)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it has begun and not ended.
    async fn runs(&self, id: &str) -> Result<bool, ContainerError> {
        let state = self.inspect(id).await.map_err(lost)?.and_then(|found| found.state);
        Ok(state.and_then(|state| state.running).unwrap_or(false))
    }

    /// Waits for its end; its exit code.
    async fn exit(&self, id: &str) -> Result<i64, ContainerError> {
        let mut away_since = None;
        loop {
            let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
            let mut waiting = std::pin::pin!(self.0.wait_container(id, Some(options)));
            match waiting.next().await {
                Some(Ok(ended)) => return Ok(ended.status_code),
                Some(Err(Error::DockerContainerWaitError { code, .. })) => return Ok(code),
                // Nobody answers for long, or the answer was cut off: is it still there?
                None | Some(Err(_)) => {}
            }
            match self.inspect(id).await {
                Ok(None) => return Err(ContainerError::Lost("the container was removed by somebody else".into())),
                Ok(Some(found)) => {
                    let state = found.state.unwrap_or_default();
                    if state.running != Some(true) {
                        return Ok(state.exit_code.unwrap_or(-1));
                    }
                    away_since = None;
                }
                Err(error) => {
                    let since = *away_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() > AWAY {
                        return Err(lost(error));
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One that has ended needs no signal.
    async fn signal(&self, id: &str, signal: &str) {
        let _ = self.0.kill_container(id, Some(KillContainerOptionsBuilder::new().signal(signal).build())).await;
    }

    async fn remove(&self, id: &str) -> Result<(), ContainerError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.0.remove_container(id, Some(options)).await {
            Err(error) if !is_missing(&error) => Err(lost(error)),
            _ => Ok(()),
        }
    }

    /// All that a container whose engine keeps it has said.
    async fn said(&self, id: &str) -> Result<(Vec<u8>, Vec<u8>), ContainerError> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut pieces = std::pin::pin!(self.0.logs(id, Some(options)));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(piece) = pieces.next().await {
            let (stream, bytes) = split(piece.map_err(lost)?);
            if stream == Stream::Out { &mut out } else { &mut err }.extend_from_slice(&bytes);
        }
        Ok((out, err))
    }

    /// Whether a container of this or an earlier attempt runs.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn lives(&self, token: &Token) -> Result<bool, ContainerError> {
        Ok(self
            .of_step(&token.run, &token.step)
            .await?
            .iter()
            .any(|found| found.runs && found.attempt <= token.attempt))
    }

    /// Ends the containers of a step up to and with the attempt `last`: one interrupt, `grace`, then a kill. What they said is in
    /// their files when they are gone.
    ///
    /// # Errors
    /// The engine does not answer, or a file cannot be written.
    pub async fn end(&self, token: &Token, last: u32, grace: Duration) -> Result<(), ContainerError> {
        for found in self.of_step(&token.run, &token.step).await?.iter().filter(|found| found.attempt <= last) {
            if self.runs(&found.id).await? {
                // Exactly one: a second interrupt makes terraform give up its state.
                self.signal(&found.id, "SIGINT").await;
                if tokio::time::timeout(grace, self.exit(&found.id)).await.is_err() {
                    self.signal(&found.id, "SIGKILL").await;
                    let gone = tokio::time::timeout(AWAY, self.exit(&found.id)).await;
                    gone.map_err(|_| ContainerError::Lost(format!("container {} does not end", found.id)))??;
                }
            }
            if let Some(files) = &found.files {
                let (out, err) = self.said(&found.id).await?;
                keep_all(&files.out, &out)?;
                keep_all(&files.err, &err)?;
            }
            self.remove(&found.id).await?;
        }
        Ok(())
    }
}

/// A container of an attempt.
struct Found {
    id: String,
    attempt: u32,
    runs: bool,
    files: Option<OutputFiles>,
}

impl Found {
    fn new(listed: ContainerSummary) -> Option<Self> {
        let labels = listed.labels.unwrap_or_default();
        let file = |name: &str| labels.get(name).map(PathBuf::from);
        Some(Self {
            id: listed.id?,
            attempt: labels.get(ATTEMPT)?.parse().ok()?,
            runs: listed.state.is_some_and(|state| state.to_string() == "running"),
            files: file(OUT).zip(file(ERR)).map(|(out, err)| OutputFiles { out, err }),
        })
    }
}

/// Where the engine is asked: as `DOCKER_HOST` or Podman's `CONTAINER_HOST` says, otherwise the first socket that is there.
fn host(variable: impl Fn(&str) -> Option<String>, exists: impl Fn(&Path) -> bool) -> String {
    let named =
        ["DOCKER_HOST", "CONTAINER_HOST"].iter().find_map(|name| variable(name).filter(|host| !host.is_empty()));
    named.unwrap_or_else(|| {
        let own = variable("XDG_RUNTIME_DIR").map(|directory| format!("{directory}/podman/podman.sock"));
        let docker = "/var/run/docker.sock".to_owned();
        let sockets = [Some(docker.clone()), own, Some("/run/podman/podman.sock".to_owned())];
        let found = sockets.into_iter().flatten().find(|path| exists(Path::new(path)));
        format!("unix://{}", found.unwrap_or(docker))
    })
}

/// What `docker login` left for the registry of an image.
fn credentials(image: &str) -> Option<DockerCredentials> {
    let first = image.split_once('/').map(|(first, _)| first);
    let host = first.filter(|name| name.contains(['.', ':']) || *name == "localhost");
    let encoded = oci::credentials(host.unwrap_or("https://index.docker.io/v1/"))?;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(DockerCredentials {
        username: Some(username.to_owned()),
        password: Some(password.to_owned()),
        serveraddress: host.map(str::to_owned),
        ..DockerCredentials::default()
    })
}

fn split(piece: LogOutput) -> (Stream, bytes::Bytes) {
    match piece {
        LogOutput::StdErr { message } => (Stream::Err, message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            (Stream::Out, message)
        }
    }
}

fn open(path: &Path) -> std::io::Result<std::fs::File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Adds what of `all` is not yet in the file: a follower had written the beginning of it.
fn keep_all(path: &Path, all: &[u8]) -> Result<(), ContainerError> {
    let add = || -> std::io::Result<()> {
        let mut file = open(path)?;
        let there = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        file.write_all(all.get(there..).unwrap_or_default())
    };
    add().map_err(|source| ContainerError::Keep { path: path.to_owned(), source })
}

/// The directories and files that a program needs, without what lies in another of them, and what its runner adds.
fn mounts(container: &Container, spec: &Spec) -> Vec<Mount> {
    let named = spec.reach.iter().map(PathBuf::as_path).chain([spec.directory.as_path()]);
    let all: BTreeSet<&Path> = named.filter(|path| path.exists() && path.parent().is_some()).collect();
    let outer = all.iter().filter(|path| path.ancestors().skip(1).all(|above| !all.contains(above)));
    let bind = |host: &str, inside: &str, read_only: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(host.to_owned()),
        target: Some(inside.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let own = outer.map(|path| path.to_string_lossy()).map(|path| bind(&path, &path, false));
    own.chain(container.mounts.iter().filter_map(|text| mount(text)).map(|m| bind(m.host, m.inside, m.read_only)))
        .collect()
}

fn text(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

impl Engine {
    /// A container that is yet to be started; its id.
    async fn create(&self, container: &Container, spec: &Spec) -> Result<String, ContainerError> {
        let user = match &container.user {
            Some(user) => user.clone(),
            None => self.own_user().await?,
        };
        let mut environment: HashMap<String, String> =
            spec.environment.iter().map(|(name, value)| (text(name), text(value))).collect();
        environment.extend(container.environment.clone());
        let mut labels = HashMap::new();
        if let Some(token) = &spec.token {
            labels.insert(RUN.to_owned(), token.run.clone());
            labels.insert(STEP.to_owned(), token.step.clone());
            labels.insert(ATTEMPT.to_owned(), token.attempt.to_string());
        }
        if let Some(files) = &spec.output {
            labels.insert(OUT.to_owned(), text(files.out.as_os_str()));
            labels.insert(ERR.to_owned(), text(files.err.as_os_str()));
        }
        // What is only heard holds secrets (states, rendered plans) and is not written to the engine's disk. What has to
        // outlive us is kept by the engine until it was read.
        let log = if spec.output.is_some() { "json-file" } else { "none" };
        let host_config = HostConfig {
            mounts: Some(mounts(container, spec)),
            network_mode: container.network.clone(),
            memory: container.memory_mib.map(|mib| i64::from(mib) << 20),
            nano_cpus: container.cpu_milli.map(|milli| i64::from(milli) * 1_000_000),
            log_config: Some(HostConfigLogConfig { typ: Some(log.to_owned()), config: None }),
            ..HostConfig::default()
        };
        let program = spec.name_elsewhere();
        let body = ContainerCreateBody {
            image: Some(container.image.clone()),
            entrypoint: program.clone().map(|program| vec![program]),
            cmd: program.is_some().then(|| spec.arguments.iter().map(|argument| text(argument)).collect()),
            env: Some(environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
            working_dir: program.is_some().then(|| text(spec.directory.as_os_str())),
            user: Some(user),
            // A lock at a backend names its holder's machine: it has to be this one for whoever asks whether that lives.
            hostname: nix::unistd::gethostname().ok().map(|name| text(&name)),
            labels: Some(labels),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        };
        let created = self.0.create_container(None, body).await;
        Ok(created.map_err(|error| refused(container, spec, error))?.id)
    }

    /// The user of this process, so that what a program leaves is ours. To an engine without root this user is root.
    async fn own_user(&self) -> Result<String, ContainerError> {
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if !user.is_root() {
            let info = self.0.info().await.map_err(lost)?;
            if info.security_options.unwrap_or_default().iter().any(|option| option.contains("rootless")) {
                return Ok("0:0".into());
            }
        }
        Ok(format!("{user}:{group}"))
    }
}

/// What an engine says to a container that it is to make or start. Podman looks for the program when it is attached to.
fn refused(container: &Container, spec: &Spec, error: Error) -> ContainerError {
    match error {
        Error::DockerResponseServerError { message, .. } => ContainerError::Refused {
            program: spec.name(),
            image: container.image.clone(),
            why: message.trim().to_owned(),
        },
        other => lost(other),
    }
}

/// Removes a container that nobody waits for any more.
struct Kept {
    engine: Engine,
    id: Option<String>,
}

impl Kept {
    async fn remove(mut self) -> Result<(), ContainerError> {
        match self.id.take() {
            Some(id) => self.engine.remove(&id).await,
            None => Ok(()),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) {
            let engine = self.engine.clone();
            // What cannot be removed now is found by its labels before the next attempt.
            runtime.spawn(async move { engine.remove(&id).await });
        }
    }
}

/// Bytes to their listener and into the files that keep them.
struct Heard<'a, L> {
    listener: &'a mut L,
    files: Option<(std::fs::File, std::fs::File)>,
    /// How many of each stream.
    bytes: (usize, usize),
}

impl<L: Listener> Heard<'_, L> {
    async fn hear(&mut self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        let (count, file) = match (stream, &mut self.files) {
            (Stream::Out, files) => (&mut self.bytes.0, files.as_mut().map(|files| &mut files.0)),
            (Stream::Err, files) => (&mut self.bytes.1, files.as_mut().map(|files| &mut files.1)),
        };
        *count += bytes.len();
        if let Some(file) = file {
            file.write_all(bytes)?;
        }
        self.listener.output(stream, bytes).await;
        Ok(())
    }
}

/// Runs a program in a container to its end, with the contract of [`crate::process::run`]. Containers of earlier attempts of the
/// same step are ended before it begins.
///
/// # Errors
/// There is no engine or image, the engine refuses, or it went away.
pub async fn run(
    engine: &Engine,
    container: &Container,
    spec: &Spec,
    cancel: &CancellationToken,
    listener: &mut impl Listener,
) -> Result<Ended, ProcessError> {
    let prepare = async {
        if let Some(token) = spec.token.as_ref().filter(|token| token.attempt > 1) {
            engine.end(token, token.attempt - 1, spec.grace).await?;
        }
        engine.image(container).await
    };
    let Some(prepared) = cancel.run_until_cancelled(prepare).await else {
        let status = ExitStatus::from_raw(nix::sys::signal::Signal::SIGINT as i32);
        return Ok(Ended { status, cancelled: true, killed: false, peak_kib: 0, out_of_memory: false, why: None });
    };
    let image = prepared?;
    let id = engine.create(container, spec).await?;
    let kept = Kept { engine: engine.clone(), id: Some(id.clone()) };
    let short = image.trim_start_matches("sha256:").get(..12).unwrap_or_default();
    let what = format!("{} runs in a container of {} ({short})", spec.name(), container.image);
    if let Err(why) = listener.elsewhere(&what).await {
        kept.remove().await?;
        return Err(ProcessError::Recorded(why));
    }
    let ended = follow(engine, container, &id, spec, cancel, listener).await;
    kept.remove().await?;
    ended
}

/// Starts a container and hears it out.
async fn follow(
    engine: &Engine,
    container: &Container,
    id: &str,
    spec: &Spec,
    cancel: &CancellationToken,
    listener: &mut impl Listener,
) -> Result<Ended, ProcessError> {
    let files = match &spec.output {
        Some(files) => Some((open(&files.out)?, open(&files.err)?)),
        None => None,
    };
    let mut heard = Heard { listener, files, bytes: (0, 0) };
    // Before the start: nothing is missed then.
    let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
    let not_begun = |error| refused(container, spec, error);
    let mut output = engine.0.attach_container(id, Some(options)).await.map_err(not_begun)?.output;
    engine.0.start_container(id, None).await.map_err(not_begun)?;
    let pid = engine.inspect(id).await.map_err(lost)?.and_then(|found| found.state?.pid);
    let pid = pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| is_of(*pid, id));
    let mut exiting = std::pin::pin!(engine.exit(id));
    let (mut code, mut open, mut broken) = (None, true, None);
    let (mut cancelled, mut killed, mut peak_kib) = (false, false, 0);
    let mut look = tokio::time::interval(LOOK);
    let deadline = tokio::time::sleep(Duration::MAX / 4);
    tokio::pin!(deadline);
    while code.is_none() || open {
        tokio::select! {
            biased;
            piece = output.next(), if open => match piece {
                Some(Ok(piece)) => {
                    let (stream, bytes) = split(piece);
                    heard.hear(stream, &bytes).await?;
                }
                Some(Err(error)) => (open, broken) = (false, Some(error)),
                None => open = false,
            },
            ended = &mut exiting, if code.is_none() => {
                code = Some(ended?);
                deadline.as_mut().reset(tokio::time::Instant::now() + DRAIN);
            }
            () = cancel.cancelled(), if !cancelled && code.is_none() => {
                cancelled = true;
                engine.signal(id, "SIGINT").await;
                deadline.as_mut().reset(tokio::time::Instant::now() + spec.grace);
            }
            _ = look.tick(), if code.is_none() => peak_kib = peak_kib.max(pid.map_or(0, group_kib)),
            () = &mut deadline, if code.is_some() || (cancelled && !killed) => {
                if code.is_some() {
                    return Err(ContainerError::Lost("the rest of what the program said did not come".into()).into());
                }
                killed = true;
                engine.signal(id, "SIGKILL").await;
                deadline.as_mut().reset(tokio::time::Instant::now() + Duration::MAX / 4);
            }
        }
    }
    if spec.output.is_some() {
        // What the engine kept is whole, also where the connection was not.
        let (out, err) = engine.said(id).await?;
        let (out_heard, err_heard) = heard.bytes;
        for (stream, rest) in [(Stream::Out, out.get(out_heard..)), (Stream::Err, err.get(err_heard..))] {
            if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
                heard.hear(stream, rest).await?;
            }
        }
    } else if let Some(error) = broken {
        return Err(lost(error).into());
    }
    let state = engine.inspect(id).await.map_err(lost)?.and_then(|found| found.state).unwrap_or_default();
    let out_of_memory = state.oom_killed.unwrap_or(false);
    Ok(Ended { status: status(code.unwrap_or(-1)), cancelled, killed, peak_kib, out_of_memory, why: None })
}

/// Codes above 128 stand for signals, as shells and engines have it.
fn status(code: i64) -> ExitStatus {
    match i32::try_from(code).unwrap_or(-1) {
        code @ 129..=192 => ExitStatus::from_raw(code - 128),
        code => ExitStatus::from_raw((code & 0xff) << 8),
    }
}

/// Whether a process of this machine, as we see it, is the one of the container.
fn is_of(pid: u32, id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(id))
}

#[cfg(test)]
mod tests;
