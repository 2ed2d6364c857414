//! Probes: one question to a service, as gates of a rollout and `ready` blocks ask it.
//!
//! An answer is *pass*, *fail* (the service itself says that it is not well) or *hold* (nothing was learned: no answer in time, no
//! such host, a command that could not be run). Nothing but a pass passes.

use crate::process::{self, Ended, Listener, ProcessError, Spec, Stream, Token};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use ureq::tls::RootCerts;
use windlass_model::Micros;
use windlass_model::place::Place;
use windlass_model::rollout::{Answer, Gate};

/// A question. `timeout` is for one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Passes when `host:port` accepts a connection, fails when it refuses.
    Tcp { address: String, timeout: Duration },
    /// `GET`, without following redirects or using a proxy. Passes with a status from `status.0` to `status.1` and, where it is
    /// given, a body whose first MiB contains the text; fails with any other answer and when the connection is refused. Over
    /// https the certificate must be good for this machine's roots (`SSL_CERT_FILE` is honoured).
    Http { url: String, status: (u16, u16), contains: Option<String>, timeout: Duration },
    /// Passes with exit status 0, fails with 1, holds with any other. It runs in a process group of its own, which is killed when
    /// the time is over, and when the command has ended.
    Command {
        argv: Vec<String>,
        around: Box<Surroundings>,
        /// Elsewhere the start of what it runs in is a part of this time.
        timeout: Duration,
    },
}

/// Where commands run, and with what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub directory: PathBuf,
    /// All of it: nothing is inherited.
    pub environment: BTreeMap<OsString, OsString>,
    pub place: Place,
    /// As in [`Spec::token`].
    pub token: Option<Token>,
    /// As in [`Spec::reach`].
    pub reach: Vec<PathBuf>,
    /// How our own program is called there, which asks what is no command: with [`ASK`] and the gate as JSON. Empty where this process
    /// asks.
    pub asker: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    pub answer: Answer,
    /// One sentence, e.g. `10.0.0.5:9042 accepts connections`.
    pub detail: String,
    pub took: Duration,
    /// The last 16 KiB that a command wrote, both streams in order of arrival; else empty. Nothing is redacted.
    pub output: String,
}

/// The first argument of our own program where it asks a gate for another process.
pub const ASK: &str = "__ask";
/// How long what it runs in may take to start.
const START: Duration = Duration::from_secs(60);

/// Asks a gate once for another process: the exit status of a command that would say the same, and what there is to say.
pub async fn ask(gate: &str) -> (u8, String) {
    let probe = serde_json::from_str(gate).ok().and_then(|gate| Probe::of_gate(&gate, &Surroundings::default()));
    let Some(probe) = probe else { return (2, "this release does not know that gate".into()) };
    let answer = attempt(&probe, &CancellationToken::new(), &mut Nobody).await;
    let status = match answer.answer {
        Answer::Pass => 0,
        Answer::Fail => 1,
        Answer::Hold => 2,
    };
    (status, answer.detail)
}

struct Nobody;

impl Listener for Nobody {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
    async fn output(&mut self, _: Stream, _: &[u8]) {}
}

/// How much of a command's output is kept, bytes.
const OUTPUT: usize = 16 * 1024;
/// How much of a body is looked through, bytes.
const BODY: u64 = 1024 * 1024;
/// From the interrupt to the kill of a command whose time is over.
const GRACE: Duration = Duration::from_millis(500);

impl Probe {
    /// The probe of a gate; `None` for gates that are not answered by a probe.
    pub fn of_gate(gate: &Gate, around: &Surroundings) -> Option<Self> {
        let duration = |micros: &Micros| Duration::from_micros(u64::try_from(*micros).unwrap_or(0));
        if let (false, Gate::Tcp { timeout, .. } | Gate::Http { timeout, .. }) = (around.asker.is_empty(), gate) {
            let mut argv = around.asker.clone();
            argv.extend([ASK.to_owned(), serde_json::to_string(gate).ok()?]);
            let timeout = duration(timeout) + START;
            return Some(Self::Command { argv, around: Box::new(around.clone()), timeout });
        }
        match gate {
            Gate::Tcp { address, timeout, .. } => {
                Some(Self::Tcp { address: address.clone(), timeout: duration(timeout) })
            }
            Gate::Http { url, status, contains, timeout, .. } => Some(Self::Http {
                url: url.clone(),
                status: *status,
                contains: contains.clone(),
                timeout: duration(timeout),
            }),
            Gate::Command { argv, timeout, .. } => {
                Some(Self::Command { argv: argv.clone(), around: Box::new(around.clone()), timeout: duration(timeout) })
            }
            Gate::Checks | Gate::ServiceLevel { .. } => None,
        }
    }

    fn timeout(&self) -> Duration {
        match self {
            Self::Tcp { timeout, .. } | Self::Http { timeout, .. } | Self::Command { timeout, .. } => *timeout,
        }
    }
}

/// Asks once. A cancel makes it come back with a hold: at once, or for a command when its processes are gone. What starts for a
/// command is told to the `listener`, what it writes is not.
pub async fn attempt(probe: &Probe, cancel: &CancellationToken, listener: &mut impl Listener) -> ProbeAnswer {
    attempt_within(probe, probe.timeout(), cancel, listener).await
}

/// Asks until it passes, `interval` after each answer, or until `deadline`: then the last answer is given, whatever it was, and it
/// is never a pass. An attempt that is under way at the deadline is cut short. A cancel gives a hold.
pub async fn until(
    probe: &Probe,
    deadline: Instant,
    interval: Duration,
    cancel: &CancellationToken,
    listener: &mut impl Listener,
) -> ProbeAnswer {
    let began = Instant::now();
    let mut attempts = 0u32;
    let mut last: Option<ProbeAnswer> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if !left.is_zero() && !cancel.is_cancelled() {
            attempts += 1;
            let answer = attempt_within(probe, probe.timeout().min(left), cancel, listener).await;
            if answer.answer == Answer::Pass {
                return ProbeAnswer { took: began.elapsed(), ..answer };
            }
            // An attempt that was cut short by the deadline says less than the one before it.
            let cut = answer.answer == Answer::Hold && left < probe.timeout();
            if !cut || last.is_none() {
                last = Some(answer);
            }
        }
        let took = began.elapsed();
        if cancel.is_cancelled() {
            return hold("cancelled".into(), took);
        }
        if Instant::now() + interval >= deadline {
            let last = last.unwrap_or_else(|| hold("there was no time to ask".into(), took));
            let detail = format!("not within {} ({}): {}", seconds(took), times(attempts), last.detail);
            return ProbeAnswer { detail, took, ..last };
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = cancel.cancelled() => {}
        }
    }
}

async fn attempt_within(
    probe: &Probe,
    timeout: Duration,
    cancel: &CancellationToken,
    listener: &mut impl Listener,
) -> ProbeAnswer {
    let began = Instant::now();
    let (answer, detail, output) = match probe {
        Probe::Tcp { address, .. } => tokio::select! {
            answer = tcp(address, timeout) => plain(answer),
            () = cancel.cancelled() => plain((Answer::Hold, "cancelled".into())),
        },
        Probe::Http { url, status, contains, .. } => {
            let (url, status, contains) = (url.clone(), *status, contains.clone());
            let asking = tokio::task::spawn_blocking(move || {
                http(&url, status, contains.as_deref(), timeout, crate::http::system_roots())
            });
            tokio::select! {
                // The request ends by its own timeout; looking names up is the one thing in it that cannot be hurried.
                answer = tokio::time::timeout(timeout + GRACE, asking) => plain(match answer {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) => (Answer::Hold, "the request broke off".into()),
                    Err(_) => (Answer::Hold, no_answer(timeout)),
                }),
                () = cancel.cancelled() => plain((Answer::Hold, "cancelled".into())),
            }
        }
        Probe::Command { argv, around, .. } => command(argv, around, timeout, cancel, listener).await,
    };
    ProbeAnswer { answer, detail, took: began.elapsed(), output }
}

fn plain((answer, detail): (Answer, String)) -> (Answer, String, String) {
    (answer, detail, String::new())
}

fn hold(detail: String, took: Duration) -> ProbeAnswer {
    ProbeAnswer { answer: Answer::Hold, detail, took, output: String::new() }
}

fn no_answer(timeout: Duration) -> String {
    format!("no answer within {}", seconds(timeout))
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn times(attempts: u32) -> String {
    if attempts == 1 { "asked once".into() } else { format!("asked {attempts} times") }
}

async fn tcp(address: &str, timeout: Duration) -> (Answer, String) {
    match tokio::time::timeout(timeout, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => (Answer::Pass, format!("{address} accepts connections")),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            (Answer::Fail, format!("{address} refuses connections"))
        }
        Ok(Err(error)) => (Answer::Hold, format!("cannot connect to {address}: {error}")),
        Err(_) => (Answer::Hold, format!("{address}: {}", no_answer(timeout))),
    }
}

fn http(
    url: &str,
    status: (u16, u16),
    contains: Option<&str>,
    timeout: Duration,
    roots: RootCerts,
) -> (Answer, String) {
    let agent = ureq::Agent::config_builder()
        .tls_config(crate::http::tls(roots))
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("windlass")
        .build()
        .new_agent();
    let mut response = match agent.get(url).call() {
        Ok(response) => response,
        Err(ureq::Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return (Answer::Fail, format!("{url} refuses connections"));
        }
        Err(ureq::Error::Timeout(_)) => return (Answer::Hold, format!("{url}: {}", no_answer(timeout))),
        Err(error) => return (Answer::Hold, format!("cannot ask {url}: {error}")),
    };
    let found = response.status().as_u16();
    if !(status.0..=status.1).contains(&found) {
        let wanted = if status.0 == status.1 { status.0.to_string() } else { format!("{} to {}", status.0, status.1) };
        return (Answer::Fail, format!("{url} answers {found}, not {wanted}"));
    }
    let Some(text) = contains else { return (Answer::Pass, format!("{url} answers {found}")) };
    let mut body = Vec::new();
    if let Err(error) = response.body_mut().as_reader().take(BODY).read_to_end(&mut body) {
        return (Answer::Hold, format!("{url} answers {found}, but its body cannot be read: {error}"));
    }
    if text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes()) {
        (Answer::Pass, format!("{url} answers {found} with `{text}`"))
    } else {
        (Answer::Fail, format!("{url} answers {found}, but without `{text}`"))
    }
}

/// Keeps the end of what a command writes.
struct Tail<'a, L> {
    kept: VecDeque<u8>,
    listener: &'a mut L,
}

impl<L: Listener> Listener for Tail<'_, L> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.listener.started(pid).await
    }
    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        self.listener.elsewhere(what).await
    }
    async fn note(&mut self, text: &str) {
        self.listener.note(text).await;
    }
    async fn output(&mut self, _: Stream, bytes: &[u8]) {
        self.kept.extend(&bytes[bytes.len().saturating_sub(OUTPUT)..]);
        self.kept.drain(..self.kept.len().saturating_sub(OUTPUT));
    }
}

async fn command(
    argv: &[String],
    around: &Surroundings,
    timeout: Duration,
    cancel: &CancellationToken,
    listener: &mut impl Listener,
) -> (Answer, String, String) {
    let Some((program, arguments)) = argv.split_first() else {
        return plain((Answer::Hold, "there is no command to run".into()));
    };
    let arguments = arguments.iter().map(Into::into).collect();
    let Surroundings { directory, environment, place, token, reach, asker } = around.clone();
    let of_ours = !asker.is_empty() && argv.starts_with(&asker);
    let spec = Spec { environment, place, token, reach, ..Spec::here(program.into(), arguments, directory, GRACE) };
    let mut tail = Tail { kept: VecDeque::new(), listener };
    let (ended, timed_out) = run_within(&spec, timeout, cancel, &mut tail).await;
    let output = String::from_utf8_lossy(tail.kept.make_contiguous()).into_owned();
    // What we ourselves said there is all there is to say.
    let is_told = of_ours && matches!(&ended, Ok(ended) if matches!(ended.status.code(), Some(0..=2)));
    let (answer, what) = match ended {
        Err(error) => (Answer::Hold, error.to_string()),
        Ok(_) if timed_out => (Answer::Hold, format!("`{program}` did not end within {}", seconds(timeout))),
        Ok(ended) if ended.cancelled => (Answer::Hold, "cancelled".into()),
        Ok(ended) => match ended.status.code() {
            Some(0) => (Answer::Pass, format!("`{program}` succeeds")),
            Some(1) => (Answer::Fail, format!("`{program}` ends with status 1")),
            Some(code) => (Answer::Hold, format!("`{program}` ends with status {code}")),
            None => (Answer::Hold, format!("`{program}`: {}", ended.status)),
        },
    };
    let said: Option<String> =
        output.lines().map(str::trim).rfind(|line| !line.is_empty()).map(|line| line.chars().take(200).collect());
    let detail = match said {
        Some(line) if is_told => return plain((answer, line)),
        Some(line) => format!("{what}: {line}"),
        None => what,
    };
    (answer, detail, output)
}

/// Runs it to its end, or to the end of its time; says whether that was over.
async fn run_within(
    spec: &Spec,
    timeout: Duration,
    cancel: &CancellationToken,
    tail: &mut impl Listener,
) -> (Result<Ended, ProcessError>, bool) {
    let stop = cancel.child_token();
    let running = process::run(spec, &stop, tail);
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return (ended, false),
        () = tokio::time::sleep(timeout) => stop.cancel(),
    }
    (running.await, true)
}

#[cfg(test)]
mod tests;
