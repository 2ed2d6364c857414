//! Programs as Kubernetes Jobs: one Job with one pod for each, followed as a child process is.
//!
//! A Job is made suspended. It begins when its variables are in the cluster and no attempt of the same step is left that is older;
//! one that is newer forbids it. Jobs that have ended stay for some minutes, so that an engine which was away finds them.

use crate::process::{Ended, Listener, ProcessError, Spec, Stream, Tail, Token};
use futures_util::TryStreamExt;
use k8s_openapi::api::batch::v1::Job as BatchJob;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config};
use log::Piece;
use manifest::{ATTEMPT, CONTAINER};
use status::Progress;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::place::Job;

mod log;
mod manifest;
mod status;

/// Why a program could not be run in a cluster, or not be followed to its end.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error("no cluster is configured: {0}")]
    NoCluster(#[source] Box<kube::Error>),
    #[error("the cluster cannot be reached to {what}: {source}")]
    Unreachable { what: &'static str, source: Box<kube::Error> },
    #[error("the cluster refuses to {what}: {why}")]
    Refused { what: &'static str, why: String },
    #[error("the program cannot be run as a Job: {0}")]
    Spec(String),
    #[error("the Job {job} did not begin: {why}")]
    NotStarted { job: String, why: String },
    #[error("attempt {newer} of this step is in the cluster already")]
    Superseded { newer: u32 },
    #[error("the Job {job} was asked to end, and its pod is still there: nobody knows whether its program runs")]
    NotEnded { job: String },
    #[error("the Job could not be recorded, so it did not begin: {0}")]
    Recorded(String),
    #[error("cannot prepare a Job: {0}")]
    Io(#[from] std::io::Error),
}

impl KubernetesError {
    /// Key of the diagnostic's page.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCluster(_) | Self::Unreachable { .. } => "WL885",
            Self::Refused { .. } | Self::Spec(_) | Self::Recorded(_) | Self::Io(_) => "WL886",
            Self::NotStarted { .. } => "WL887",
            Self::Superseded { .. } | Self::NotEnded { .. } => "WL888",
        }
    }

    /// With what can be done about it.
    pub fn diagnostic(&self) -> Diagnostic {
        let help = match self {
            Self::NoCluster(_) | Self::Unreachable { .. } => {
                "run this server or worker in the cluster, or set KUBECONFIG for it; `kubectl get jobs` has to answer there"
            }
            Self::Refused { .. } => {
                "give the account of this server or worker the role in packaging/kubernetes/runner-role.yaml, and look at the `job` block"
            }
            Self::Spec(_) | Self::Recorded(_) | Self::Io(_) => {
                "look at the `job` block of the `runner`, then try again"
            }
            Self::NotStarted { .. } => "look at the reason, which is the cluster's, then try again",
            Self::Superseded { .. } => "nothing is to be done: the newer attempt goes on",
            Self::NotEnded { .. } => {
                "look whether the node of its pod answers; nothing begins while the program may run"
            }
        };
        Diagnostic::error(self.code(), self.to_string()).help(help)
    }

    /// The cluster is there and does not run this program.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Spec(_) | Self::NotStarted { .. })
    }

    fn refused(what: &'static str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused { what, why: status.message },
            source => Self::Unreachable { what, source: Box::new(source) },
        }
    }
}

/// Whether asking again can help.
fn is_transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long the cluster may be away when it has to do something.
    pub outage: Duration,
    /// From a Job's release until its program runs: images are pulled and nodes made meanwhile.
    pub start: Duration,
    /// Beyond the grace of a program, until its pod is gone.
    pub stop: Duration,
    /// How often is asked what is not watched.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            outage: Duration::from_secs(300),
            start: Duration::from_secs(900),
            stop: Duration::from_secs(60),
            look: Duration::from_secs(2),
        }
    }
}

/// Runs a program as a Job to its end, with the contract of [`crate::process::run`]; but the cluster keeps both streams as one,
/// which is told as standard output. The volume of the Job's claim is the one that holds the program's directory here, and is
/// mounted at the same path. The cluster is that of this process's service account or of `KUBECONFIG`.
///
/// # Errors
/// There is no cluster, it refuses, the program does not begin, or its end is not known.
pub async fn run(
    job: &Job,
    spec: &Spec,
    cancel: &CancellationToken,
    listener: &mut impl Listener,
) -> Result<Ended, ProcessError> {
    let cluster = Cluster::inferred(job).await?;
    let data = match &job.volume_claim {
        Some(_) => volume_of(&spec.directory)?,
        None => PathBuf::from("/"),
    };
    Ok(cluster.run(job, spec, &data, cancel, listener).await?)
}

/// Where the volume is mounted that holds the directory.
fn volume_of(directory: &Path) -> Result<PathBuf, KubernetesError> {
    let mounted = mount_of(&std::fs::read_to_string("/proc/self/mountinfo")?, &std::fs::canonicalize(directory)?);
    mounted.filter(|path| path != Path::new("/")).ok_or_else(|| {
        let directory = directory.display();
        let why = format!("{directory} is on no volume of its own here, so it cannot be the one of the `volume_claim`");
        KubernetesError::Spec(why)
    })
}

/// The innermost mount point above a directory, from the text of `mountinfo` (proc(5): the fifth field, with blanks as `\040`).
fn mount_of(mounts: &str, directory: &Path) -> Option<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(|point| PathBuf::from(point.replace("\\040", " ").replace("\\134", "\\")));
    points.filter(|point| directory.starts_with(point)).max_by_key(|point| point.components().count())
}

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    patience: Patience,
}

impl Cluster {
    /// That of this process's service account or of `KUBECONFIG`.
    ///
    /// # Errors
    /// There is none.
    pub async fn inferred(job: &Job) -> Result<Self, KubernetesError> {
        let none = |error| KubernetesError::NoCluster(Box::new(error));
        let config = Config::infer().await.map_err(|error| none(kube::Error::InferConfig(error)))?;
        let namespace = job.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(none)?;
        Ok(Self::new(client, namespace, Patience::default()))
    }

    pub fn new(client: Client, namespace: String, patience: Patience) -> Self {
        Self { client, namespace, patience }
    }

    fn jobs(&self) -> Api<BatchJob> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// As [`run`], here, with the volume at `data`.
    ///
    /// # Errors
    /// See there.
    pub async fn run(
        &self,
        place: &Job,
        spec: &Spec,
        data: &Path,
        cancel: &CancellationToken,
        listener: &mut impl Listener,
    ) -> Result<Ended, KubernetesError> {
        let Some(token) = &spec.token else {
            return Err(KubernetesError::Spec("it is of no step of a run, by which it would be found again".into()));
        };
        let name = manifest::name(token)?;
        let job = manifest::job(place, spec, token, &name, data)?;
        let mut tail = match &spec.output {
            Some(files) => Some(Tail::open(files)?.0),
            None => None,
        };
        let mut left = Left { cluster: self.clone(), job: Some(name.clone()) };
        let released = match cancel.run_until_cancelled(self.release(&job, spec, token, listener)).await {
            Some(released) => released.map(Some),
            None => Ok(None),
        };
        let ended = match released {
            Ok(Some(job)) => match self.attend(&job, spec, cancel, listener, tail.as_mut()).await {
                Err(error) if !matches!(error, KubernetesError::NotEnded { .. }) => {
                    // What is given up must not go on.
                    self.delete(&name).await?;
                    self.gone(&job).await?;
                    Err(error)
                }
                ended => ended,
            },
            Ok(None) => Ok(Ended {
                status: status::stopped(),
                cancelled: true,
                killed: false,
                peak_kib: 0,
                out_of_memory: false,
                why: None,
            }),
            Err(error) => Err(error),
        };
        if matches!(ended, Ok(Ended { cancelled: false, .. })) {
            left.job = None;
            // Its values are not needed any more. With the Job goes what cannot be deleted now.
            let _ = self.secrets().delete(&name, &DeleteParams::default()).await;
        } else if self.delete(&name).await.is_ok() {
            left.job = None;
        }
        ended
    }

    /// Makes the Job with its Secret, ends older attempts, and lets it begin.
    async fn release(
        &self,
        job: &BatchJob,
        spec: &Spec,
        token: &Token,
        listener: &mut impl Listener,
    ) -> Result<BatchJob, KubernetesError> {
        let name = job.metadata.name.clone().unwrap_or_default();
        let jobs = self.jobs();
        // A name that is taken is ours: nobody else knows it, and the answer to an earlier request was lost.
        let made = self
            .ask("make a Job", || async {
                match jobs.create(&PostParams::default(), job).await {
                    Err(kube::Error::Api(status)) if status.is_already_exists() => jobs.get(&name).await,
                    made => made,
                }
            })
            .await?;
        let (secret, secrets) = (manifest::secret(spec, &made)?, self.secrets());
        self.ask("make a Secret", || async {
            match secrets.create(&PostParams::default(), &secret).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                made => made.map(drop),
            }
        })
        .await?;
        // Two attempts that get here at the same time see each other: each has made its Job before it looks.
        self.end_older(token).await?;
        let what = format!("{} runs as the Job {name} in the namespace {}", spec.name(), self.namespace);
        listener.elsewhere(&what).await.map_err(KubernetesError::Recorded)?;
        let begin = Patch::Merge(serde_json::json!({ "spec": { "suspend": false } }));
        self.ask("let a Job begin", || async { jobs.patch(&name, &PatchParams::default(), &begin).await }).await
    }

    /// Ends the Jobs of older attempts of the step and returns when they are gone with their pods.
    ///
    /// # Errors
    /// There is a newer attempt, the cluster does not answer, or a pod does not go.
    pub async fn end_older(&self, token: &Token) -> Result<(), KubernetesError> {
        let found = self.attempts(token).await?;
        if let Some(newer) = found.iter().filter_map(attempt_of).find(|attempt| *attempt > token.attempt) {
            return Err(KubernetesError::Superseded { newer });
        }
        self.end_all(found.iter().filter(|job| attempt_of(job).is_none_or(|attempt| attempt < token.attempt))).await
    }

    /// Ends the Jobs of this and older attempts of the step and returns when they are gone with their pods.
    ///
    /// # Errors
    /// The cluster does not answer, or a pod does not go.
    pub async fn end(&self, token: &Token) -> Result<(), KubernetesError> {
        let found = self.attempts(token).await?;
        self.end_all(found.iter().filter(|job| attempt_of(job).is_none_or(|attempt| attempt <= token.attempt))).await
    }

    /// Whether a program of this or an older attempt runs or may begin.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn lives(&self, token: &Token) -> Result<bool, KubernetesError> {
        let found = self.attempts(token).await?;
        let mut ours = found.iter().filter(|job| attempt_of(job).is_none_or(|attempt| attempt <= token.attempt));
        Ok(ours.any(status::lives))
    }

    /// Jobs of all attempts of a step.
    async fn attempts(&self, token: &Token) -> Result<Vec<BatchJob>, KubernetesError> {
        let (jobs, selected) = (self.jobs(), ListParams::default().labels(&manifest::selector(token)));
        Ok(self.ask("list Jobs", || async { jobs.list(&selected).await }).await?.items)
    }

    async fn end_all(&self, jobs: impl Iterator<Item = &BatchJob> + Clone) -> Result<(), KubernetesError> {
        for job in jobs.clone() {
            self.delete(job.metadata.name.as_deref().unwrap_or_default()).await?;
        }
        for job in jobs {
            self.gone(job).await?;
        }
        Ok(())
    }

    /// Asks that a Job ends: with its pods, which get their grace, and after them.
    async fn delete(&self, name: &str) -> Result<(), KubernetesError> {
        let jobs = self.jobs();
        self.ask("delete a Job", || async {
            match jobs.delete(name, &DeleteParams::foreground()).await {
                Err(error) if is_not_found(&error) => Ok(()),
                deleted => deleted.map(drop),
            }
        })
        .await
    }

    /// Waits until a deleted Job is gone, which it is after its pods.
    async fn gone(&self, job: &BatchJob) -> Result<(), KubernetesError> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let grace = pod.and_then(|pod| pod.termination_grace_period_seconds).unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
        let jobs = self.jobs();
        for wait in [grace + self.patience.stop, self.patience.stop] {
            let deadline = Instant::now() + wait;
            while Instant::now() < deadline {
                let found = self.ask("look at a Job", || async { jobs.get_opt(name).await }).await?;
                // Another one of that name is no longer this one.
                if found.is_none_or(|found| found.metadata.uid != job.metadata.uid) {
                    return Ok(());
                }
                tokio::time::sleep(self.patience.look).await;
            }
            self.hasten(name).await?;
        }
        Err(KubernetesError::NotEnded { job: name.to_owned() })
    }

    /// Takes the rest of their grace from the pods of a Job. None is struck off while its node has not said that it ended (that
    /// would be a grace of 0): a program that nobody sees may still run.
    async fn hasten(&self, job: &str) -> Result<(), KubernetesError> {
        let pods = self.pods();
        let selected = ListParams::default().labels(&pods_of(job));
        let found = self.ask("list pods", || async { pods.list(&selected).await }).await?;
        for pod in &found {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let now = DeleteParams {
                grace_period_seconds: Some(1),
                propagation_policy: Some(PropagationPolicy::Background),
                preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
                ..DeleteParams::default()
            };
            self.ask("delete a pod", || async {
                match pods.delete(name, &now).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                    deleted => deleted.map(drop),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Asks until there is an answer, within the time that the cluster may be away.
    async fn ask<T, F: Future<Output = kube::Result<T>>>(
        &self,
        what: &'static str,
        request: impl Fn() -> F,
    ) -> Result<T, KubernetesError> {
        let deadline = Instant::now() + self.patience.outage;
        let mut wait = Duration::from_millis(200);
        loop {
            let answer = tokio::time::timeout(ANSWER, request());
            let silent = |_| kube::Error::Service(format!("no answer within {} s", ANSWER.as_secs()).into());
            match answer.await.map_err(silent).flatten() {
                Ok(answer) => return Ok(answer),
                Err(error) if !is_transient(&error) => return Err(KubernetesError::refused(what, error)),
                Err(error) if Instant::now() + wait > deadline => {
                    return Err(KubernetesError::Unreachable { what, source: Box::new(error) });
                }
                Err(_) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    /// Follows a Job that was let begin to the end of its program.
    async fn attend(
        &self,
        job: &BatchJob,
        spec: &Spec,
        cancel: &CancellationToken,
        listener: &mut impl Listener,
        mut tail: Option<&mut Tail>,
    ) -> Result<Ended, KubernetesError> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let mut pods =
            std::pin::pin!(watcher(self.pods(), watcher::Config::default().labels(&pods_of(name))).default_backoff());
        let mut state = State::new(name);
        let (ended, ends) = watch::channel(false);
        let (pieces, mut log) = mpsc::channel(16);
        let mut follower: Option<AbortOnDropHandle<Result<(), KubernetesError>>> = None;
        let mut log = Log { pieces: &mut log, over: false };
        let mut look = tokio::time::interval(self.patience.look);
        let mut glance = tokio::time::interval(GLANCE);
        let (mut cancelled, mut hastened) = (false, false);
        let mut deadline = Instant::now() + self.patience.start;
        let mut pieces = Some(pieces);
        loop {
            if state.begun()
                && follower.is_none()
                && let (Some(pod), Some(to)) = (&state.pod, pieces.take())
            {
                let following = log::follow(self.pods(), pod.name.clone(), CONTAINER, ends.clone(), to);
                follower = Some(AbortOnDropHandle::new(tokio::spawn(following)));
            }
            ended.send_if_modified(|ended| std::mem::replace(ended, state.ended()) != *ended);
            if state.ended() && (follower.is_none() || log.over) {
                break;
            }
            if let Some(why) = state.hopeless().filter(|_| !cancelled) {
                return Err(KubernetesError::NotStarted { job: name.to_owned(), why });
            }
            let limited = cancelled || !state.begun();
            tokio::select! {
                piece = log.pieces.recv(), if follower.is_some() && !log.over => match piece {
                    Some(Piece::Said(bytes)) => listener.output(Stream::Out, &bytes).await,
                    Some(Piece::Gap) => {
                        listener.note("lines of the log may be missing: the node threw it away before it was read").await;
                    }
                    None => {
                        log.over = true;
                        if let Some(follower) = follower.as_mut() {
                            follower.await.map_err(std::io::Error::other)??;
                        }
                    }
                },
                event = pods.try_next() => match event {
                    Ok(Some(event)) => state.pod_event(event),
                    Ok(None) => {}
                    Err(error) => state.watch_failed(error)?,
                },
                () = cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.delete(name).await.map_err(|_| KubernetesError::NotEnded { job: name.to_owned() })?;
                    deadline = Instant::now() + spec.grace + self.patience.stop;
                }
                _ = look.tick(), if state.pod.is_none() || cancelled => self.look(job, &mut state).await?,
                _ = glance.tick(), if tail.is_some() => {
                    if let Some(tail) = tail.as_mut() {
                        tail.read(listener).await?;
                    }
                }
                () = tokio::time::sleep_until(deadline), if limited => {
                    if !cancelled {
                        self.look(job, &mut state).await?;
                        if state.begun() || state.ended() {
                            continue;
                        }
                        let why = state.note.take().unwrap_or_else(|| "nothing says why".into());
                        return Err(KubernetesError::NotStarted { job: name.to_owned(), why });
                    }
                    if hastened {
                        return Err(KubernetesError::NotEnded { job: name.to_owned() });
                    }
                    hastened = true;
                    self.hasten(name).await?;
                    deadline = Instant::now() + self.patience.stop;
                }
            }
            if let Some(note) = state.news() {
                listener.note(&note).await;
            }
        }
        if let (Some(tail), Some(files)) = (tail, &spec.output) {
            // A shared file that is open may be shown as it was some time ago.
            tail.reopen(files)?;
            tail.read(listener).await?;
        }
        let (status, why, out_of_memory) = state.end.unwrap_or((status::killed(), None, false));
        let why = why.filter(|_| !cancelled);
        if let Some(why) = &why {
            listener.note(why).await;
        }
        let killed = cancelled && status.signal() == status::killed().signal();
        Ok(Ended { status, cancelled, killed, peak_kib: 0, out_of_memory, why })
    }

    /// Why there is no pod, or none any more.
    async fn look(&self, job: &BatchJob, state: &mut State<'_>) -> Result<(), KubernetesError> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let jobs = self.jobs();
        let Some(job) = self.ask("look at a Job", || async { jobs.get_opt(name).await }).await? else {
            state.job_gone();
            return Ok(());
        };
        // The watch may be behind.
        let (pods, ours) = (self.pods(), ListParams::default().labels(&pods_of(name)));
        for pod in &self.ask("list pods", || async { pods.list(&ours).await }).await? {
            state.pod_is(pod);
        }
        if state.pod.is_some() {
            return Ok(());
        }
        if let Some(why) = status::failure(&job) {
            state.failed(why);
            return Ok(());
        }
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let about = format!("involvedObject.uid={}", job.metadata.uid.as_deref().unwrap_or_default());
        let about = ListParams::default().fields(&about);
        // Who may not read events does without the reason.
        match self.ask("list events", || async { events.list(&about).await }).await {
            Ok(events) => state.wait(status::refusal(&events.items)),
            Err(KubernetesError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How often files of output are looked at.
const GLANCE: Duration = Duration::from_millis(250);

fn attempt_of(job: &BatchJob) -> Option<u32> {
    job.metadata.labels.as_ref()?.get(ATTEMPT)?.parse().ok()
}

/// Selects the pods of a Job by the label that its controller gives them.
fn pods_of(job: &str) -> String {
    format!("batch.kubernetes.io/job-name={job}")
}

/// What a pod's log has said.
struct Log<'a> {
    pieces: &'a mut mpsc::Receiver<Piece>,
    over: bool,
}

/// The first pod of a Job. There is no second one: a Job does not try again.
struct OurPod {
    name: String,
    /// Seen since the watch began anew.
    listed: bool,
}

/// What is known of a Job.
struct State<'a> {
    job: &'a str,
    pod: Option<OurPod>,
    running: bool,
    /// How the program ended, with what there is to say about it, and whether it was for memory.
    end: Option<(std::process::ExitStatus, Option<String>, bool)>,
    /// Why the program has not begun.
    note: Option<String>,
    /// The last note that was told.
    told: Option<String>,
    failed: Option<String>,
}

impl<'a> State<'a> {
    fn new(job: &'a str) -> Self {
        Self { job, pod: None, running: false, end: None, note: None, told: None, failed: None }
    }

    fn begun(&self) -> bool {
        self.running || (self.end.is_some() && self.pod.is_some())
    }

    fn ended(&self) -> bool {
        self.end.is_some()
    }

    fn hopeless(&self) -> Option<String> {
        let invalid = self.note.as_ref().filter(|note| note.starts_with(status::HOPELESS));
        self.failed.clone().or_else(|| invalid.cloned())
    }

    /// What has not been told yet.
    fn news(&mut self) -> Option<String> {
        if self.note.is_none() || self.note == self.told {
            return None;
        }
        self.told.clone_from(&self.note);
        self.note.as_ref().map(|note| format!("the Job {} waits: {note}", self.job))
    }

    fn wait(&mut self, note: Option<String>) {
        if note.is_some() {
            self.note = note;
        }
    }

    fn failed(&mut self, why: String) {
        self.failed = Some(why);
    }

    fn pod_event(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => {
                if let Some(pod) = &mut self.pod {
                    pod.listed = false;
                }
            }
            watcher::Event::InitApply(pod) | watcher::Event::Apply(pod) => self.pod_is(&pod),
            watcher::Event::InitDone => {
                if self.pod.as_ref().is_some_and(|pod| !pod.listed) {
                    self.pod_gone();
                }
            }
            watcher::Event::Delete(pod) => {
                self.pod_is(&pod);
                if self.pod.as_ref().map(|ours| &ours.name) == pod.metadata.name.as_ref() {
                    self.pod_gone();
                }
            }
        }
    }

    fn pod_is(&mut self, pod: &Pod) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let ours = self.pod.get_or_insert_with(|| OurPod { name: name.clone(), listed: true });
        if ours.name != name {
            return;
        }
        ours.listed = true;
        match status::progress(pod) {
            Progress::Waiting(note) => self.wait(note),
            Progress::Running => self.running = true,
            Progress::Ended { status, note, out_of_memory } => {
                self.end.get_or_insert((status, note, out_of_memory));
            }
        }
    }

    fn pod_gone(&mut self) {
        let when = if self.running { "while its program ran" } else { "before its program began" };
        self.end.get_or_insert_with(|| (status::killed(), Some(format!("somebody deleted the pod {when}")), false));
    }

    fn job_gone(&mut self) {
        if self.pod.is_none() {
            self.end.get_or_insert_with(|| {
                (status::stopped(), Some("somebody deleted the Job before its program began".into()), false)
            });
        }
    }

    fn watch_failed(&mut self, error: watcher::Error) -> Result<(), KubernetesError> {
        match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) if matches!(&error, kube::Error::Api(status) if status.is_forbidden()) => {
                Err(KubernetesError::refused("watch pods", error))
            }
            // It goes on by itself.
            _ => Ok(()),
        }
    }
}

/// Deletes a Job whose run was given up.
struct Left {
    cluster: Cluster,
    job: Option<String>,
}

impl Drop for Left {
    fn drop(&mut self) {
        if let (Some(job), Ok(runtime)) = (self.job.take(), tokio::runtime::Handle::try_current()) {
            let cluster = self.cluster.clone();
            // Nobody is left to be told; what fails is ended before the next attempt.
            runtime.spawn(async move { cluster.delete(&job).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_the_innermost_mount_above_a_directory() {
        let mounts = "22 1 0:21 / / rw - overlay overlay rw\n\
                      30 22 0:40 / /var/lib/windlass rw - nfs4 nas:/a rw\n\
                      31 22 0:41 / /var/lib/wind rw - nfs4 nas:/b rw\n\
                      32 22 0:42 /x /with\\040blank rw - ext4 /dev/sda rw\n";
        for (directory, wanted) in [
            ("/var/lib/windlass/checkouts/a", "/var/lib/windlass"),
            ("/var/lib/windlass", "/var/lib/windlass"),
            ("/var/lib/windlasses", "/"),
            ("/with blank/a", "/with blank"),
        ] {
            assert_eq!(mount_of(mounts, Path::new(directory)), Some(wanted.into()), "{directory}");
        }
        assert_eq!(mount_of("", Path::new("/a")), None);
    }
}
