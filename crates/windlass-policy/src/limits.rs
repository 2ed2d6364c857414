//! Limits of an evaluation: time, memory, stack. What exceeds one is *broken*, never a pass, and the next evaluation is not
//! harmed. `docs/design/0005-policy-limits.md` says how.
//!
//! - [`Worker`]: policies run in a process of their own. Time, memory and stack are limited by the operating system, and
//!   everything ends with the process.
//! - [`watched`]: within it, on a thread. The engine looks at the clock between steps when [`arm`] told it to, and the process lives
//!   on.

mod apart;
mod framing;
mod worker;

pub(crate) use apart::{Apart, Ask, Job};
pub(crate) use worker::Session;
pub use worker::{Worker, serve};

use regorus::utils::limits::ExecutionTimerConfig;
use std::io;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What one evaluation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall time.
    pub time: Duration,
    /// Bytes of address space beyond what the process of a [`Worker`] has when it starts.
    pub memory: u64,
    /// Bytes of the stack that it runs on.
    pub stack: usize,
}

impl Default for Limits {
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
    #[error("no thread can be started for the policies: {0}")]
    Thread(io::Error),
    #[error("the policy process cannot be started or spoken to: {0}")]
    Process(io::Error),
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
pub fn watched<T: Send + 'static>(limits: &Limits, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Broken> {
    let (sender, receiver) = mpsc::channel();
    let start = Instant::now();
    std::thread::Builder::new()
        .name("policy".into())
        .stack_size(limits.stack)
        .spawn(move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(work));
            // The receiver may have given up.
            let _ = sender.send(result);
        })
        .map_err(Broken::Thread)?;
    let result = receiver.recv_timeout(limits.time).map_err(|_| Broken::Time(limits.time))?;
    if start.elapsed() >= limits.time {
        return Err(Broken::Time(limits.time));
    }
    result.map_err(|panic| Broken::Panicked(panic_text(&*panic)))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}

#[cfg(test)]
mod tests;
