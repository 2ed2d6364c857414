//! Limits of an evaluation: time, memory, stack. What exceeds one is *broken*, never a pass, and the next evaluation is not
//! harmed. `docs/design/0006-policy-limits.md` says why there are two ways.
//!
//! - [`watched`]: on a thread of this process, for policies that the organisation wrote itself. Time is limited; the engine looks
//!   at the clock between steps when [`arm`] told it to, and then the thread ends too.
//! - [`Worker`]: in a process of its own, for policies that came from elsewhere. Time, memory and stack are limited by the
//!   operating system, and everything ends with the process.

use crate::engine::{Options, Rego};
use nix::sys::resource::{Resource, setrlimit};
use regorus::Value;
use regorus::utils::limits::ExecutionTimerConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What one evaluation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Wall time.
    pub time: Duration,
    /// Bytes of address space beyond what the process has when it starts; for a [`Worker`] only.
    pub memory: u64,
    /// Bytes.
    pub stack: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { time: Duration::from_secs(30), memory: 2 << 30, stack: 64 << 20 }
    }
}

/// Why there is no answer. Never a pass.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the policies took longer than {} s", .0.as_secs_f64())]
    Time(Duration),
    #[error("the policies needed more than {} MiB of memory", .0 >> 20)]
    Memory(u64),
    #[error("the policies made values that are nested too deeply")]
    Stack,
    #[error("the policy engine panicked: {0}")]
    Panicked(String),
    /// With the last words of the process.
    #[error("the policy process ended without an answer ({status}): {words}")]
    Died { status: ExitStatus, words: String },
    #[error("policies cannot be evaluated: {0}")]
    Refused(String),
    #[error("the policy process cannot be started or spoken to")]
    Process(#[source] io::Error),
}

/// Makes an engine end its evaluation with an error when its time is over. It looks at the clock between steps, so not within one
/// builtin.
pub fn arm(engine: &mut regorus::Engine, time: Duration) {
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: time, check_interval: CHECK_INTERVAL });
}

/// Steps of the engine between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// Runs the work on a thread of its own and waits for it, no longer than the time allows. When the work was [`arm`]ed its thread
/// ends about then as well; a builtin that does not end keeps its thread until it does.
///
/// # Errors
/// The time is over, also when the work gave an answer afterwards: an engine whose time is over can have left out what it did
/// not get to. A panic. No thread.
pub fn watched<T: Send + 'static>(bounds: &Bounds, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Broken> {
    let (sender, receiver) = mpsc::channel();
    let start = Instant::now();
    std::thread::Builder::new()
        .name("policy".into())
        .stack_size(bounds.stack)
        .spawn(move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(work));
            // The receiver may have given up.
            let _ = sender.send(result);
        })
        .map_err(Broken::Process)?;
    let result = receiver.recv_timeout(bounds.time).map_err(|_| Broken::Time(bounds.time))?;
    if start.elapsed() >= bounds.time {
        return Err(Broken::Time(bounds.time));
    }
    result.map_err(|panic| Broken::Panicked(panic_text(&*panic)))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}

/// What a [`Worker`] evaluates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Job {
    /// Path and text of each module.
    pub modules: Vec<(String, String)>,
    /// Documents added to `data`.
    pub data: Vec<serde_json::Value>,
    /// As in [`Options`].
    pub strict_builtin_errors: bool,
    /// Paths of rules, e.g. `data.main.deny`.
    pub rules: Vec<String>,
}

/// What became of one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Undefined,
    /// In the order of the engine.
    Set(Vec<serde_json::Value>),
    Value(serde_json::Value),
    /// The engine's sentence.
    Failed(String),
}

/// What parent and child agree on; the input follows as it is.
#[derive(Serialize, Deserialize)]
struct Request {
    bounds: Bounds,
    job: Job,
}

type Reply = Result<BTreeMap<String, Outcome>, String>;

/// The answer stands in a line of its own: something else may write to the same stream.
const ANSWER: &str = "windlass-policy-answer ";

/// A program that calls [`serve`] when it is started with these arguments and this environment, e.g. ourselves.
#[derive(Debug, Clone)]
pub struct Worker {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The whole of it: a policy process inherits nothing.
    pub environment: Vec<(String, String)>,
}

impl Worker {
    /// Evaluates the rules over the input (JSON) in a new process, which has ended when this returns.
    ///
    /// # Errors
    /// See [`Broken`]; what a single rule fails with is its [`Outcome`].
    pub fn evaluate(&self, job: &Job, input: &[u8], bounds: &Bounds) -> Result<BTreeMap<String, Outcome>, Broken> {
        let mut request = serde_json::to_vec(&Request { bounds: *bounds, job: job.clone() })
            .map_err(|error| Broken::Process(error.into()))?;
        request.push(b'\n');
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running(command.spawn().map_err(Broken::Process)?);
        let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(Broken::Process(io::ErrorKind::BrokenPipe.into()));
        };
        let deadline = Instant::now() + bounds.time;
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            // Ends when the child has read everything, or has ended.
            scope.spawn(move || stdin.write_all(&request).and_then(|()| stdin.write_all(input)));
            scope.spawn(move || sender.send(answer_line(stdout)));
            let words = scope.spawn(move || last_words(stderr));
            let line = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let status = child.end(matches!(line, Ok(Ok(None))), deadline).map_err(Broken::Process)?;
            let words = words.join().unwrap_or_default();
            match line {
                Ok(Ok(Some(line))) => {
                    let reply: Reply = serde_json::from_str(&line)
                        .map_err(|_| Broken::Died { status, words: "its answer is garbled".to_owned() })?;
                    reply.map_err(Broken::Refused)
                }
                Ok(Ok(None)) => Err(why_it_died(status, words, bounds)),
                Ok(Err(error)) => Err(Broken::Process(error)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Broken::Time(bounds.time)),
            }
        })
    }
}

/// A child that does not outlive us.
struct Running(Child);

impl Running {
    /// Ends the child, unless it is ending by itself, which it is given the rest of the time for.
    fn end(&mut self, by_itself: bool, deadline: Instant) -> io::Result<ExitStatus> {
        while by_itself && Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended in between.
        let _ = self.0.kill();
        self.0.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn answer_line(stdout: impl Read) -> io::Result<Option<String>> {
    for line in BufReader::new(stdout).lines() {
        if let Some((_, answer)) = line?.split_once(ANSWER) {
            return Ok(Some(answer.to_owned()));
        }
    }
    Ok(None)
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

fn why_it_died(status: ExitStatus, words: String, bounds: &Bounds) -> Broken {
    // Rust's own last words.
    if words.contains("memory allocation of") {
        Broken::Memory(bounds.memory)
    } else if words.contains("has overflowed its stack") {
        Broken::Stack
    } else if std::os::unix::process::ExitStatusExt::signal(&status) == Some(nix::libc::SIGXCPU) {
        Broken::Time(bounds.time)
    } else {
        Broken::Died { status, words }
    }
}

/// The other side of a [`Worker`]: reads one job, limits this process, evaluates, writes one answer. For a process that does
/// nothing else.
///
/// # Errors
/// The job cannot be read, the process cannot be limited, the answer cannot be written.
pub fn serve(input: impl Read + Send, mut output: impl Write) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let Request { bounds, job } = serde_json::from_str(&line)?;
    let reply = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("policy".into())
            .stack_size(bounds.stack)
            .spawn_scoped(scope, move || {
                limit_process(&bounds)?;
                let mut text = String::new();
                input.read_to_string(&mut text)?;
                let result = std::panic::catch_unwind(AssertUnwindSafe(|| evaluate(&job, &text)));
                Ok(result.unwrap_or_else(|panic| Err(format!("the policy engine panicked: {}", panic_text(&*panic)))))
            })?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread of the policies panicked")))
    })?;
    let reply = serde_json::to_string(&reply)?;
    writeln!(output, "{ANSWER}{reply}")?;
    output.flush()
}

/// Memory on top of what is in use now; processor time as a safeguard for when the parent is gone.
fn limit_process(bounds: &Bounds) -> io::Result<()> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")?
        .split_whitespace()
        .next()
        .and_then(|pages| pages.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/statm is not understood"))?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as u64;
    let memory = (pages * page).saturating_add(bounds.memory);
    setrlimit(Resource::RLIMIT_AS, memory, memory)?;
    let seconds = bounds.time.as_secs().saturating_add(2);
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

fn evaluate(job: &Job, input: &str) -> Reply {
    let modules: Vec<_> = job.modules.iter().map(|(path, text)| (path.as_str().into(), text.clone())).collect();
    #[allow(clippy::needless_update, reason = "further options have their usual values here")]
    let options = Options { strict_builtin_errors: job.strict_builtin_errors, ..Options::default() };
    let mut rego = Rego::load(&modules, &options).map_err(|diagnostics| {
        let texts: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.summary.as_str()).collect();
        texts.join("; ")
    })?;
    for document in &job.data {
        rego.add_data(document)?;
    }
    rego.set_input(Value::from_json_str(input).map_err(|error| format!("the input is no JSON: {error}"))?);
    let outcome = |value: Result<Value, String>| {
        let json = |value: &Value| serde_json::to_value(value).map_err(|error| error.to_string());
        let found = value.and_then(|value| match &value {
            Value::Undefined => Ok(Outcome::Undefined),
            Value::Set(items) => Ok(Outcome::Set(items.iter_sorted().map(json).collect::<Result<_, _>>()?)),
            value => Ok(Outcome::Value(json(value)?)),
        });
        found.unwrap_or_else(Outcome::Failed)
    };
    Ok(job.rules.iter().map(|rule| (rule.clone(), outcome(rego.eval_rule(rule)))).collect())
}

#[cfg(test)]
mod tests;
