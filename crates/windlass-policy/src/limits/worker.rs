//! The process that policies from elsewhere are evaluated in: both sides of it.
//!
//! The parent writes one line with the policies, then one for each input: milliseconds, a space, the input. Each is answered by
//! one line. The process ends when its input does.

use super::{Broken, Limits};
use crate::decision::foreign::Job;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program that calls [`serve`] when it is started with these arguments and this environment, e.g. ourselves.
#[derive(Debug, Clone)]
pub struct Worker {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The whole of it: a policy process inherits nothing.
    pub environment: Vec<(String, String)>,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Opening<J> {
    milliseconds: u64,
    memory: u64,
    stack: usize,
    job: J,
}

/// The answer stands in a line of its own: something else may write to the same stream.
const ANSWER: &str = "windlass-policy-answer ";

/// A process that has its policies, and answers one input after the other. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    child: Running,
    to: ChildStdin,
    /// `None` at the end of what it says.
    answers: Receiver<io::Result<Option<String>>>,
    words: JoinHandle<String>,
    /// The first line, until it is written.
    unsent: Option<Vec<u8>>,
    memory: u64,
    stack: usize,
}

impl Session {
    /// Starts a process for these policies within these limits; the time counts for each input.
    pub fn start(worker: &Worker, job: &Job, limits: &Limits) -> Result<Self, Broken> {
        let (memory, stack) = (limits.memory, limits.stack);
        let opening = Opening { milliseconds: milliseconds(limits.time), memory, stack, job };
        let mut line = serde_json::to_vec(&opening).map_err(|error| Broken::Process(error.into()))?;
        line.push(b'\n');
        let mut command = Command::new(&worker.program);
        command.args(&worker.arguments).env_clear().envs(worker.environment.iter().map(|(name, value)| (name, value)));
        // In a group of its own: the interrupt of a terminal is for us.
        command.current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running(command.spawn().map_err(Broken::Process)?);
        let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        let (Some(to), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(Broken::Process(io::ErrorKind::BrokenPipe.into()));
        };
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let answer = match line {
                    Ok(line) => match line.split_once(ANSWER) {
                        Some((_, answer)) => Ok(Some(answer.to_owned())),
                        None => continue,
                    },
                    Err(error) => Err(error),
                };
                if sender.send(answer).is_err() {
                    return;
                }
            }
            // Nobody waits for an answer to a question that was not asked.
            let _ = sender.send(Ok(None));
        });
        let words = std::thread::spawn(move || last_words(stderr));
        Ok(Self { child, to, answers, words, unsent: Some(line), memory, stack })
    }

    /// Itself, when it lives and has these limits.
    pub fn if_ready(mut self, limits: &Limits) -> Option<Self> {
        let fits = (self.memory, self.stack) == (limits.memory, limits.stack);
        (fits && matches!(self.child.0.try_wait(), Ok(None))).then_some(self)
    }

    /// The answer about one input (JSON in one line), and the process for the next one. After an error there is no process any more.
    pub fn ask(mut self, input: &[u8], limits: &Limits) -> Result<(String, Self), Broken> {
        let deadline = Instant::now() + limits.time;
        let opening = self.unsent.take().unwrap_or_default();
        let prefix = format!("{} ", milliseconds(limits.time));
        let Self { mut to, answers, mut child, words, memory, stack, .. } = self;
        let (answer, to) = std::thread::scope(|scope| {
            // Ends when the process has read everything, or has ended.
            let writer = scope.spawn(move || {
                let parts = [opening.as_slice(), prefix.as_bytes(), input, b"\n"];
                // One that does not read any more does not answer either.
                let _ = parts.into_iter().try_for_each(|part| to.write_all(part)).and_then(|()| to.flush());
                to
            });
            let answer = answers.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            if !matches!(answer, Ok(Ok(Some(_)))) {
                child.end(matches!(answer, Ok(Ok(None))), deadline);
            }
            (answer, writer.join())
        });
        match (answer, to) {
            (Ok(Ok(Some(answer))), Ok(to)) => {
                let session = Self { child, to, answers, words, unsent: None, memory, stack };
                Ok((answer, session))
            }
            (Ok(Ok(Some(_))), Err(_)) => Err(Broken::Process(io::ErrorKind::BrokenPipe.into())),
            (Ok(Ok(None)), _) => {
                let status = child.0.wait().map_err(Broken::Process)?;
                Err(why_it_died(status, words.join().unwrap_or_default(), limits))
            }
            (Ok(Err(error)), _) => Err(Broken::Process(error)),
            (Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected), _) => Err(Broken::Time(limits.time)),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A child that does not outlive us.
#[derive(Debug)]
struct Running(Child);

impl Running {
    /// Ends the child, unless it is ending by itself, which it is given the rest of the time for.
    fn end(&mut self, by_itself: bool, deadline: Instant) {
        while by_itself && Instant::now() < deadline {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended in between.
        let _ = self.0.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The end of what it said, a few lines.
fn last_words(mut stderr: impl Read) -> String {
    const MOST: usize = 2_000;
    let (mut words, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        words.extend_from_slice(&buffer[..count]);
        if words.len() > 2 * MOST {
            words.drain(..words.len() - MOST);
        }
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}

fn why_it_died(status: ExitStatus, words: String, limits: &Limits) -> Broken {
    // Rust's own last words.
    if words.contains("memory allocation of") {
        Broken::Memory(limits.memory)
    } else if words.contains("has overflowed its stack") {
        Broken::Stack
    } else if status.signal() == Some(nix::libc::SIGXCPU) {
        Broken::Time(limits.time)
    } else {
        Broken::Died { status, words }
    }
}

/// The other side of a [`Worker`]: reads policies, limits this process, and answers each input. For a process that does nothing
/// else: when there is no further input it exits, in the middle of an evaluation too, since nobody waits for the answer.
///
/// # Errors
/// What it is sent cannot be read, the process cannot be limited, an answer cannot be written.
pub fn serve(input: impl Read + Send + 'static, mut output: impl Write) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    let Opening::<Job> { milliseconds, memory, stack, job } = serde_json::from_slice(&line)?;
    // Reads on while an input is answered, and so sees that the parent is gone.
    let (sender, lines) = mpsc::sync_channel(0);
    std::thread::Builder::new().name("input".into()).spawn(move || {
        loop {
            let mut line = Vec::new();
            let ended = match input.read_until(b'\n', &mut line) {
                Ok(0) => std::process::exit(0),
                Ok(_) => sender.send(Ok(line)),
                Err(error) => sender.send(Err(error)),
            };
            if ended.is_err() {
                return;
            }
        }
    })?;
    // The stack is a limit of its own.
    limit_memory(memory.saturating_add(stack as u64))?;
    limit_processor(Duration::from_millis(milliseconds))?;
    let policy = job.load();
    for line in lines {
        let (value, time) = question(&line?)?;
        limit_processor(time)?;
        let limits = Limits { time, memory, stack };
        let reply = policy.as_ref().map(|policy| policy.decide(&value, &limits));
        let reply = serde_json::to_string(&reply)?;
        writeln!(output, "{ANSWER}{reply}")?;
        output.flush()?;
    }
    Ok(())
}

/// An input, and the time there is for it.
fn question(line: &[u8]) -> io::Result<(serde_json::Value, Duration)> {
    let space = line.iter().position(|byte| *byte == b' ').unwrap_or_default();
    let milliseconds = std::str::from_utf8(&line[..space]).ok().and_then(|text| text.parse().ok());
    let time = Duration::from_millis(milliseconds.ok_or(io::ErrorKind::InvalidData)?);
    Ok((serde_json::from_slice(&line[space..])?, time))
}

/// Address space on top of what is in use now; no core file.
fn limit_memory(bytes: u64) -> io::Result<()> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")?
        .split_whitespace()
        .next()
        .and_then(|pages| pages.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/statm is not understood"))?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as u64;
    let memory = (pages * page).saturating_add(bytes);
    // Less than that may be set from outside already.
    let memory = memory.min(getrlimit(Resource::RLIMIT_AS)?.1);
    setrlimit(Resource::RLIMIT_AS, memory, memory)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Processor time for one input, as a safeguard for when nobody looks at the clock.
fn limit_processor(time: Duration) -> io::Result<()> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let used = usage.user_time().tv_sec() + usage.system_time().tv_sec();
    let seconds = u64::try_from(used).unwrap_or_default().saturating_add(time.as_secs()).saturating_add(3);
    let hard = getrlimit(Resource::RLIMIT_CPU)?.1;
    setrlimit(Resource::RLIMIT_CPU, seconds.min(hard), hard)?;
    Ok(())
}
