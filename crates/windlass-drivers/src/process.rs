//! Programs, wherever they run: declared environment, streamed output, exactly one interrupt. Those of this machine are child
//! processes in groups of their own.

use crate::container::{self, ContainerError, Engine};
#[cfg(feature = "kubernetes")]
use crate::kubernetes::Cluster;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
#[cfg(feature = "kubernetes")]
use std::io::Seek;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::place::Place;

/// What is run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Empty for what an image does by itself.
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub directory: PathBuf,
    /// All of the environment: nothing is inherited.
    pub environment: BTreeMap<OsString, OsString>,
    /// How long after the interrupt the whole group is killed.
    pub grace: Duration,
    /// Where the child writes to instead of pipes. It does not notice then that this process died, and what it says is there
    /// to be read by the next one.
    pub output: Option<OutputFiles>,
    pub place: Place,
    /// The attempt it is of, for places where it is found again by that.
    pub token: Option<Token>,
    /// Directories and files that it needs beside `directory`, where it runs elsewhere: they are there at the same paths. Those that
    /// do not exist are left out.
    pub reach: Vec<PathBuf>,
}

impl Spec {
    /// In this machine, as no attempt of a step.
    pub fn here(program: PathBuf, arguments: Vec<OsString>, directory: PathBuf, grace: Duration) -> Self {
        let (output, token, reach) = (None, None, Vec::new());
        let environment = BTreeMap::new();
        Self { program, arguments, directory, environment, grace, output, place: Place::Here, token, reach }
    }

    /// The program's name without its directory: how it is found elsewhere.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// How the program is found where what it reaches is there at the same paths; `None` for what an image does by itself.
    pub(crate) fn name_elsewhere(&self) -> Option<String> {
        let is_there = |path: &PathBuf| self.program.starts_with(path);
        let kept = self.program.is_absolute() && self.reach.iter().chain([&self.directory]).any(is_there);
        let name = if kept { self.program.to_string_lossy().into_owned() } else { self.name() };
        (!name.is_empty()).then_some(name)
    }
}

/// Which attempt of which step a program is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub run: String,
    pub step: String,
    /// From 1.
    pub attempt: u32,
}

impl Token {
    /// Reads `run/step/attempt`; a step may hold slashes.
    pub fn parse(text: &str) -> Option<Self> {
        let (run, rest) = text.split_once('/')?;
        let (step, attempt) = rest.rsplit_once('/')?;
        Some(Self { run: run.to_owned(), step: step.to_owned(), attempt: attempt.parse().ok()? })
    }
}

/// Files that take the output of a child.
#[derive(Debug, Clone)]
pub struct OutputFiles {
    pub out: PathBuf,
    pub err: PathBuf,
}

/// Files that grow, and how far they were read.
pub(crate) struct Tail {
    out: std::fs::File,
    err: std::fs::File,
}

impl Tail {
    /// Makes the files and gives the ends that the child writes to.
    pub(crate) fn open(files: &OutputFiles) -> std::io::Result<(Self, Stdio, Stdio)> {
        let make = |path: &PathBuf| -> std::io::Result<(std::fs::File, Stdio)> {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let write = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            Ok((std::fs::File::open(path)?, write.into()))
        };
        let ((out, to_out), (err, to_err)) = (make(&files.out)?, make(&files.err)?);
        Ok((Self { out, err }, to_out, to_err))
    }

    /// The same places of the files as they are now; for files that another machine writes.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn reopen(&mut self, files: &OutputFiles) -> std::io::Result<()> {
        for (file, path) in [(&mut self.out, &files.out), (&mut self.err, &files.err)] {
            let place = file.stream_position()?;
            *file = std::fs::File::open(path)?;
            file.seek(std::io::SeekFrom::Start(place))?;
        }
        Ok(())
    }

    pub(crate) async fn read(&mut self, listener: &mut impl Listener) -> std::io::Result<()> {
        let mut buffer = vec![0; 32 * 1024];
        for (file, stream) in [(&mut self.out, Stream::Out), (&mut self.err, Stream::Err)] {
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    n => listener.output(stream, &buffer[..n]).await,
                }
            }
        }
        Ok(())
    }
}

/// How long pipes are listened to after the end of the child, where there is nothing in them.
const LINGER: Duration = Duration::from_secs(1);
/// How often files of output are looked at.
const TAIL: Duration = Duration::from_millis(25);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// Hears what a child does. Its futures are awaited: a slow listener slows the child, it never loses bytes.
pub trait Listener: Send {
    /// The child runs; an error ends it at once.
    fn started(&mut self, pid: u32) -> impl Future<Output = Result<(), String>> + Send;
    fn output(&mut self, stream: Stream, bytes: &[u8]) -> impl Future<Output = ()> + Send;
    /// What there is to say about the child that it does not say itself, e.g. why it has not begun; without an end of line.
    fn note(&mut self, text: &str) -> impl Future<Output = ()> + Send {
        async move { self.output(Stream::Err, format!("windlass: {text}\n").as_bytes()).await }
    }

    /// It is about to run where it is no process of ours, which `what` says in words; an error keeps it from it.
    fn elsewhere(&mut self, what: &str) -> impl Future<Output = Result<(), String>> + Send {
        let _ = what;
        std::future::ready(Ok(()))
    }
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub status: ExitStatus,
    /// It was asked to stop, whatever its status says.
    pub cancelled: bool,
    /// It had to be killed.
    pub killed: bool,
    /// The most memory its group was seen to hold, KiB; 0 when it ended before anybody looked.
    pub peak_kib: u64,
    /// It was ended because it wanted more memory than its runner gives.
    pub out_of_memory: bool,
    /// What its place knows of its end beyond the status, e.g. that a cluster took its node away.
    pub why: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start {}: {source}", .program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("the child could not be recorded, so it was ended: {0}")]
    Recorded(String),
    #[error("cannot follow the child: {0}")]
    Io(#[from] std::io::Error),
    #[cfg(feature = "kubernetes")]
    #[error(transparent)]
    Job(#[from] crate::kubernetes::KubernetesError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("this build of Windlass has no Kubernetes in it")]
    NoKubernetes,
}

impl ProcessError {
    /// What is said of a place that cannot run programs; `None` for what is wrong in this machine.
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        match self {
            Self::Container(error) => Some(error.diagnostic()),
            #[cfg(feature = "kubernetes")]
            Self::Job(error) => Some(error.diagnostic()),
            Self::NoKubernetes => Some(
                Diagnostic::error("WL878", self.to_string())
                    .help("use a `container` in the `runner` block, or a build with the feature `kubernetes`"),
            ),
            Self::Start { .. } | Self::Recorded(_) | Self::Io(_) => None,
        }
    }

    /// The place is there and does not run this program.
    pub fn is_refusal(&self) -> bool {
        #[cfg(feature = "kubernetes")]
        if let Self::Job(error) = self {
            return error.is_refusal();
        }
        matches!(self, Self::Start { .. } | Self::Container(ContainerError::Refused { .. }))
    }
}

/// The image of a place, by what is in it where that can be told; fetched where the place fetches it by itself.
///
/// # Errors
/// The place does not answer, or the image is not to be had.
pub async fn image(place: &Place) -> Result<String, ProcessError> {
    match place {
        Place::Here => Ok(String::new()),
        Place::Container(container) => Ok(Engine::of_process().await?.image(container).await?),
        Place::Job(job) => Ok(job.image.clone()),
    }
}

/// Whether something that this or an earlier attempt started runs in a place where it is no process of ours.
///
/// # Errors
/// The place does not answer.
pub async fn lives(place: &Place, token: &Token) -> Result<bool, ProcessError> {
    match place {
        Place::Here => Ok(false),
        Place::Container(_) => Ok(Engine::of_process().await?.lives(token).await?),
        #[cfg(feature = "kubernetes")]
        Place::Job(job) => Ok(Cluster::inferred(job).await?.lives(token).await?),
        #[cfg(not(feature = "kubernetes"))]
        Place::Job(_) => Err(ProcessError::NoKubernetes),
    }
}

/// Ends what this and earlier attempts started in such a place: one interrupt, `grace`, then a kill. It is gone when this comes
/// back, and what it said is in its files.
///
/// # Errors
/// The place does not answer.
pub async fn end(place: &Place, token: &Token, grace: Duration) -> Result<(), ProcessError> {
    match place {
        Place::Here => Ok(()),
        Place::Container(_) => Ok(Engine::of_process().await?.end(token, token.attempt, grace).await?),
        // With the grace that they were made with.
        #[cfg(feature = "kubernetes")]
        Place::Job(job) => Ok(Cluster::inferred(job).await?.end(token).await?),
        #[cfg(not(feature = "kubernetes"))]
        Place::Job(_) => Err(ProcessError::NoKubernetes),
    }
}

/// Kills the group of a child when it is dropped before the child was reaped.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            // An empty group is no error worth telling.
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end, in its place. A cancel sends one interrupt to it, then kills all of it when `grace` is over.
///
/// # Errors
/// It could not be started or recorded.
pub async fn run(spec: &Spec, cancel: &CancellationToken, listener: &mut impl Listener) -> Result<Ended, ProcessError> {
    match &spec.place {
        Place::Here => run_here(spec, cancel, listener).await,
        Place::Container(container) => {
            let engine = Engine::of_process().await?;
            container::run(&engine, container, spec, cancel, listener).await
        }
        #[cfg(feature = "kubernetes")]
        Place::Job(job) => crate::kubernetes::run(job, spec, cancel, listener).await,
        #[cfg(not(feature = "kubernetes"))]
        Place::Job(_) => Err(ProcessError::NoKubernetes),
    }
}

/// Runs a child. What is left of its group when it has ended is killed, too.
async fn run_here(
    spec: &Spec,
    cancel: &CancellationToken,
    listener: &mut impl Listener,
) -> Result<Ended, ProcessError> {
    // A child that may outlive this process begins only when it is recorded: it waits for a word, and ends without one.
    let mut command = if spec.output.is_some() {
        let mut shell = tokio::process::Command::new("/bin/sh");
        shell.args(["-c", "read -r go && exec \"$@\"", "sh"]).arg(&spec.program).stdin(Stdio::piped());
        shell
    } else {
        let mut plain = tokio::process::Command::new(&spec.program);
        plain.stdin(Stdio::null());
        plain
    };
    command.args(&spec.arguments).current_dir(&spec.directory).env_clear().envs(&spec.environment);
    command.process_group(0);
    let mut tail = match &spec.output {
        Some(files) => {
            let (tail, out, err) = Tail::open(files)?;
            command.stdout(out).stderr(err);
            Some(tail)
        }
        None => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
    };
    let mut child = command.spawn().map_err(|source| ProcessError::Start { program: spec.program.clone(), source })?;
    let pid = child.id().unwrap_or_default();
    let group = Group(i32::try_from(pid).ok().filter(|p| *p > 1).map(Pid::from_raw));
    if let Err(why) = listener.started(pid).await {
        group.kill();
        child.wait().await?;
        return Err(ProcessError::Recorded(why));
    }
    if let Some(mut input) = child.stdin.take() {
        // One that has ended already says so itself.
        let _ = input.write_all(b"go\n").await;
    }
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (mut out_buffer, mut err_buffer) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    let mut cancelled = false;
    let mut killed = false;
    let mut status = None;
    let mut peak_kib = 0;
    let mut look = tokio::time::interval(LOOK);
    look.tick().await;
    let mut glance = tokio::time::interval(TAIL);
    let deadline = tokio::time::sleep(Duration::MAX / 4);
    let linger = tokio::time::sleep(Duration::MAX / 4);
    tokio::pin!(deadline, linger);
    // After the child's end its pipes may be held open by a grandchild; the group is killed then, which closes them. One that
    // left the group is a service of its own, and is not listened to for ever.
    while status.is_none() || out.is_some() || err.is_some() {
        tokio::select! {
            biased;
            read = read(&mut out, &mut out_buffer), if out.is_some() => match read {
                0 => out = None,
                n => listener.output(Stream::Out, &out_buffer[..n]).await,
            },
            read = read(&mut err, &mut err_buffer), if err.is_some() => match read {
                0 => err = None,
                n => listener.output(Stream::Err, &err_buffer[..n]).await,
            },
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                group.kill();
                linger.as_mut().reset(tokio::time::Instant::now() + LINGER);
            }
            () = cancel.cancelled(), if !cancelled && status.is_none() => {
                cancelled = true;
                // Exactly one: a second interrupt makes terraform give up its state.
                if let Some(pid) = group.0 {
                    let _ = kill(pid, Signal::SIGINT);
                }
                deadline.as_mut().reset(tokio::time::Instant::now() + spec.grace);
            }
            _ = glance.tick(), if tail.is_some() && status.is_none() => {
                if let Some(tail) = &mut tail {
                    tail.read(listener).await?;
                }
            }
            _ = look.tick(), if status.is_none() => peak_kib = peak_kib.max(group_kib(pid)),
            () = &mut deadline, if cancelled && !killed && status.is_none() => {
                killed = true;
                group.kill();
            }
            () = &mut linger, if status.is_some() => break,
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait().await?,
    };
    if let Some(tail) = &mut tail {
        tail.read(listener).await?;
    }
    Ok(Ended { status, cancelled, killed, peak_kib, out_of_memory: false, why: None })
}

/// Processes of this machine that carry the token of an attempt (`WINDLASS_TOKEN` in their environment): their ids and names. After
/// the end of its program these are what left its process group.
pub fn left(token: &str) -> Vec<(u32, String)> {
    let wanted = format!("WINDLASS_TOKEN={token}").into_bytes();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let carries = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
    };
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let mut found: Vec<(u32, String)> = pids.filter(carries).map(|pid| (pid, name(pid))).collect();
    found.sort();
    found
}

/// How often the memory of a child's group is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Resident memory of all processes of a group, KiB: of its leader and what that started, where the kernel names the children
/// of a process; otherwise of every process of the machine that is of the group.
pub(crate) fn group_kib(group: u32) -> u64 {
    let pages = if Path::new("/proc/self/task").join(std::process::id().to_string()).join("children").exists() {
        let (mut pages, mut left) = (0, vec![group]);
        while let Some(pid) = left.pop() {
            pages += pages_of(&format!("/proc/{pid}/stat"), group).unwrap_or(0);
            left.extend(children(pid));
        }
        pages
    } else {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = all.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
        processes.filter_map(|entry| pages_of(&entry.path().join("stat").to_string_lossy(), group)).sum()
    };
    pages * 4
}

/// Resident pages of a process that is of the group (fields 5 and 24 of its `stat`).
fn pages_of(stat: &str, group: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(stat).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    (fields.get(2)?.parse::<u32>().ok()? == group).then(|| fields.get(21)?.parse::<u64>().ok())?
}

/// What the threads of a process have started and is not reaped.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    match pipe {
        // A broken pipe is the end of it.
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        out: String,
        err: String,
        pid: u32,
        cancel_at: Option<(String, CancellationToken)>,
    }

    impl Listener for Seen {
        async fn started(&mut self, pid: u32) -> Result<(), String> {
            self.pid = pid;
            Ok(())
        }
        async fn output(&mut self, stream: Stream, bytes: &[u8]) {
            let text = String::from_utf8_lossy(bytes);
            if let Some((_, cancel)) = self.cancel_at.as_ref().filter(|(needle, _)| text.contains(needle.as_str())) {
                cancel.cancel();
            }
            match stream {
                Stream::Out => self.out.push_str(&text),
                Stream::Err => self.err.push_str(&text),
            }
        }
    }

    async fn shell(script: &str, cancel_at: Option<&str>, grace: Duration) -> (Ended, Seen) {
        shell_into(script, cancel_at, grace, None).await
    }

    async fn shell_into(
        script: &str,
        cancel_at: Option<&str>,
        grace: Duration,
        files: Option<OutputFiles>,
    ) -> (Ended, Seen) {
        let arguments = vec!["-c".into(), script.into()];
        let spec = Spec {
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into()), ("ONLY".into(), "this".into())]),
            output: files.clone(),
            ..Spec::here("/bin/sh".into(), arguments, "/".into(), grace)
        };
        let cancel = CancellationToken::new();
        let mut seen = Seen { cancel_at: cancel_at.map(|n| (n.to_owned(), cancel.clone())), ..Seen::default() };
        let ended = run(&spec, &cancel, &mut seen).await.unwrap();
        (ended, seen)
    }

    /// Waits for a killed process to be gone: the system takes a moment.
    fn goes(pid: &str) -> bool {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let lives =
            || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        !lives()
    }

    #[tokio::test]
    async fn streams_are_apart_and_the_environment_is_declared() {
        let (ended, seen) =
            shell("echo out $ONLY; echo err >&2; env | grep -c HOME; exit 3", None, Duration::from_secs(5)).await;
        assert_eq!((ended.status.code(), ended.cancelled), (Some(3), false));
        assert_eq!((seen.out.as_str(), seen.err.as_str()), ("out this\n0\n", "err\n"));
    }

    #[tokio::test]
    async fn output_in_files_is_heard_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let files = OutputFiles { out: directory.path().join("a/out"), err: directory.path().join("a/err") };
        let script = "echo one; echo bad >&2; sleep 0.2; echo two; exit 4";
        let (ended, seen) = shell_into(script, None, Duration::from_secs(5), Some(files.clone())).await;
        assert_eq!(ended.status.code(), Some(4));
        assert_eq!((seen.out.as_str(), seen.err.as_str()), ("one\ntwo\n", "bad\n"));
        assert_eq!(std::fs::read_to_string(files.out).unwrap(), "one\ntwo\n");
        let files = OutputFiles { out: directory.path().join("b/out"), err: directory.path().join("b/err") };
        let script = "trap 'echo stopped; exit 0' INT; echo ready; while :; do :; done";
        let (ended, seen) = shell_into(script, Some("ready"), Duration::from_secs(20), Some(files)).await;
        assert_eq!((ended.cancelled, ended.killed, seen.out.as_str()), (true, false, "ready\nstopped\n"));
    }

    #[tokio::test]
    async fn a_child_that_cannot_be_recorded_never_begins() {
        struct Refuses;
        impl Listener for Refuses {
            async fn started(&mut self, _: u32) -> Result<(), String> {
                Err("no room".into())
            }
            async fn output(&mut self, _: Stream, _: &[u8]) {}
        }
        let directory = tempfile::tempdir().unwrap();
        let made = directory.path().join("made");
        let arguments = vec!["-c".into(), format!("echo x > {}", made.display()).into()];
        let spec = Spec {
            output: Some(OutputFiles { out: directory.path().join("out"), err: directory.path().join("err") }),
            ..Spec::here("/bin/sh".into(), arguments, "/".into(), Duration::from_secs(5))
        };
        let refused = run(&spec, &CancellationToken::new(), &mut Refuses).await;
        assert!(matches!(refused, Err(ProcessError::Recorded(_))));
        assert!(!made.exists());
    }

    #[tokio::test]
    async fn a_cancel_is_one_interrupt() {
        // Builtins only: a shell that is about to start a program may drop a signal.
        let script = "n=0; trap 'n=$((n+1)); echo got $n' INT; echo ready; while [ $n -eq 0 ]; do :; done; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 0";
        let (ended, seen) = shell(script, Some("ready"), Duration::from_secs(20)).await;
        assert_eq!((ended.status.code(), ended.cancelled, ended.killed), (Some(0), true, false));
        assert_eq!(seen.out, "ready\ngot 1\n");
    }

    #[tokio::test]
    async fn what_does_not_stop_is_killed_with_its_whole_group() {
        let (ended, seen) =
            shell("trap '' INT; sleep 600 & echo $!; wait; sleep 600", Some("\n"), Duration::from_millis(100)).await;
        assert!(ended.cancelled && ended.killed && ended.status.code().is_none());
        assert!(goes(&seen.out));
    }

    #[tokio::test]
    async fn the_memory_of_the_group_is_seen() {
        let (ended, _) = shell("sleep 0.7", None, Duration::from_secs(5)).await;
        assert!((100..100_000).contains(&ended.peak_kib), "{}", ended.peak_kib);
        let (more, _) = shell("sleep 0.7 & (sleep 0.7; :) & wait", None, Duration::from_secs(5)).await;
        assert!(more.peak_kib > ended.peak_kib, "{} with children, {} alone", more.peak_kib, ended.peak_kib);
    }

    #[tokio::test]
    async fn what_left_the_group_is_neither_waited_for_nor_killed_and_can_be_told() {
        // The shell ends when the other one has left its group: what is still in it then is killed.
        let script = "export WINDLASS_TOKEN=left/its/group; setsid sleep 600 & echo $!; \
            group() { cut -d' ' -f5 /proc/$1/stat; }; while [ \"$(group $!)\" = \"$(group $$)\" ]; do :; done; echo last";
        let (ended, seen) = shell(script, None, Duration::from_secs(5)).await;
        let pid = seen.out.lines().next().unwrap().to_owned();
        assert_eq!((ended.status.code(), seen.out.ends_with("last\n")), (Some(0), true));
        // It has its name and its environment when the shell's copy has become it.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while left("left/its/group") != [(pid.parse().unwrap(), "sleep".to_owned())] {
            assert!(std::time::Instant::now() < deadline, "{:?}", left("left/its/group"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        assert!(goes(&pid) && left("left/its/group").is_empty());
    }

    #[tokio::test]
    async fn grandchildren_do_not_outlive_the_child() {
        let (ended, seen) = shell("(trap '' INT TERM HUP; sleep 600) & echo $!", None, Duration::from_secs(5)).await;
        assert_eq!(ended.status.code(), Some(0));
        assert!(goes(&seen.out));
    }
}
