//! The process that policies are evaluated in: both sides of it.
//!
//! The parent writes messages: what the process may use, then for each question what is asked, and the document that it is about.
//! Each question is answered by one line. The process ends when its input does.

use super::apart::{Ask, Job, Loaded};
use super::framing::{read_message, write_message};
use super::{Broken, Limits};
use crate::document::Document;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
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

/// The first message: bytes.
#[derive(Serialize, Deserialize)]
struct Opening {
    memory: u64,
    stack: usize,
}

/// What is asked.
#[derive(Serialize, Deserialize)]
struct Question<J, A, M> {
    /// How long the answer may take.
    milliseconds: u64,
    /// Policies to load in place of those that there are.
    job: Option<J>,
    ask: A,
    /// With a document of the next message: what to put into it. Without one the question is about the last one.
    document: Option<M>,
}

/// The answer stands in a line of its own: something else may write to the same stream.
const ANSWER: &str = "windlass-policy-answer ";

/// A process that answers one question after the other. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    child: Running,
    to: BufWriter<ChildStdin>,
    /// `None` at the end of what it says.
    answers: Receiver<io::Result<Option<String>>>,
    words: JoinHandle<String>,
    memory: u64,
    stack: usize,
    /// The first message is written.
    opened: bool,
    /// Bytes of the longest document that it was sent.
    read: u64,
}

impl Session {
    /// Starts a process with these limits of memory and stack.
    pub fn start(worker: &Worker, limits: &Limits) -> Result<Self, Broken> {
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
        let (memory, stack) = (limits.memory, limits.stack);
        Ok(Self { child, to: BufWriter::new(to), answers, words, memory, stack, opened: false, read: 0 })
    }

    /// Bytes of the longest document that it was sent.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Itself, when it lives and has these limits.
    pub fn if_ready(mut self, limits: &Limits) -> Option<Self> {
        let fits = (self.memory, self.stack) == (limits.memory, limits.stack);
        (fits && matches!(self.child.0.try_wait(), Ok(None))).then_some(self)
    }

    /// The answer (JSON in one line) of these policies, or those that it has, about this document, or the one that it has; and the
    /// process for the next question. After an error there is no process any more.
    pub fn ask(
        self,
        job: Option<&Job>,
        ask: &Ask,
        input: Option<&Document<'_>>,
        limits: &Limits,
    ) -> Result<(String, Self), Broken> {
        let deadline = Instant::now() + limits.time;
        let question = Question {
            milliseconds: u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX),
            job,
            ask,
            document: input.map(Document::members),
        };
        let Self { mut to, answers, mut child, words, memory, stack, opened, read } = self;
        let (answer, to) = std::thread::scope(|scope| {
            // Ends when the process has read everything, or has ended.
            let writer = scope.spawn(move || {
                let mut write = || -> io::Result<u64> {
                    if !opened {
                        write_message(&mut to, |out| Ok(serde_json::to_writer(out, &Opening { memory, stack })?))?;
                    }
                    write_message(&mut to, |out| Ok(serde_json::to_writer(out, &question)?))?;
                    let length = input.map_or(Ok(0), |input| write_message(&mut to, |out| input.write(out)))?;
                    to.flush()?;
                    Ok(length)
                };
                // One that does not read any more does not answer either.
                let length = write().unwrap_or_default();
                (to, read.max(length))
            });
            let answer = answers.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            if !matches!(answer, Ok(Ok(Some(_)))) {
                child.end(matches!(answer, Ok(Ok(None))), deadline);
            }
            (answer, writer.join())
        });
        match (answer, to) {
            (Ok(Ok(Some(answer))), Ok((to, read))) => {
                let session = Self { child, to, answers, words, memory, stack, opened: true, read };
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
    let opening = read_message(&mut input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let Opening { memory, stack } = serde_json::from_slice(&opening)?;
    // The stack is a limit of its own.
    limit_memory(memory.saturating_add(stack as u64))?;
    // Reads on while a question is answered, and so sees that the parent is gone.
    let (sender, questions) = mpsc::sync_channel(0);
    std::thread::Builder::new().name("input".into()).spawn(move || {
        loop {
            let asked = match next_question(&mut input) {
                Ok(None) => std::process::exit(0),
                Ok(Some(asked)) => sender.send(Ok(asked)),
                Err(error) => sender.send(Err(error)),
            };
            if asked.is_err() {
                return;
            }
        }
    })?;
    let mut loaded: Option<Result<Loaded, String>> = None;
    let mut document: Option<Document<'static>> = None;
    for asked in questions {
        let (question, fresh): (Asked, _) = asked?;
        document = fresh.or(document);
        if let Some(job) = question.job {
            loaded = Some(job.load());
        }
        let time = Duration::from_millis(question.milliseconds);
        let limits = Limits { time, memory, stack };
        let reply = match &loaded {
            Some(Ok(loaded)) => loaded.answer(&question.ask, document.as_ref(), &limits),
            Some(Err(why)) => Err(why.clone()),
            None => Err("their process has no policies".into()),
        };
        let reply = serde_json::to_string(&reply)?;
        writeln!(output, "{ANSWER}{reply}")?;
        output.flush()?;
    }
    Ok(())
}

type Asked = Question<Job, Ask, Vec<(String, Json)>>;

/// A question, and the document that comes with it; `None` at the end.
fn next_question(input: &mut impl Read) -> io::Result<Option<(Asked, Option<Document<'static>>)>> {
    let Some(message) = read_message(input)? else { return Ok(None) };
    let question: Asked = serde_json::from_slice(&message)?;
    // Reading the document counts too.
    limit_processor(Duration::from_millis(question.milliseconds))?;
    let Some(members) = &question.document else { return Ok(Some((question, None))) };
    let text = read_message(input)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let text = String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData)?;
    let document =
        members.iter().fold(Document::text_once(text), |document, (name, value)| document.with(name, value.clone()));
    Ok(Some((question, Some(document))))
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
