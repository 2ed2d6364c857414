//! Runs and logs while they go on: told by the server as it happens, or asked for again and again where nothing gets through.

use super::At;
use super::client::segment;
use super::runs::{self, find_run, path, whole};
use super::stream::{self, News};
use crate::terminal::clean;
use crate::views::progress::{Watch, is_over};
use crate::{Answer, print};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::run::{RunRecord, RunState};

/// How often is asked where the server cannot tell.
const LOOK: Duration = Duration::from_millis(500);
/// How often is asked where it can, in case that something was not told.
const ASSURE: Duration = Duration::from_secs(15);
/// How often the time that steps take is drawn.
const TICK: Duration = Duration::from_secs(1);
/// Logs that are read as they are written; those of further steps are asked for.
const LOGS: usize = 16;

/// What somebody who waits hears.
enum Signal {
    Interrupt,
    /// Of the run.
    Run(News),
    /// Of the log of this step.
    Log(String, News),
}

/// Ctrl-C was pressed and not answered yet: the next one ends the program.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Hears of each Ctrl-C from now on; one that comes before the last was answered ends the program, as a negative answer.
fn interrupts(sender: Sender<Signal>) -> AppResult<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    let mut interrupt = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt()).map_err(internal)?
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            while interrupt.recv().await.is_some() {
                // Also when nobody waits any more, but for an answer.
                if ASKED.swap(true, Ordering::Relaxed) || sender.send(Signal::Interrupt).is_err() {
                    eprintln!();
                    std::process::exit(1);
                }
            }
        });
    });
    Ok(())
}

fn told_of_run(at: &At, id: &RunId, sender: &Sender<Signal>) {
    let sender = sender.clone();
    stream::follow(at.client, format!("{}/stream", path(id)), None, move |news| sender.send(Signal::Run(news)).is_ok());
}

/// How a run is waited for.
struct Wait {
    receiver: Receiver<Signal>,
    /// The server tells of the run.
    told: bool,
    looked: Instant,
}

impl Wait {
    /// Returns when it is worth to look again; `true` when Ctrl-C was pressed. `tick` is called now and then.
    fn wait(&mut self, mut tick: impl FnMut()) -> bool {
        let until = self.looked + if self.told { ASSURE } else { LOOK };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(left.min(TICK)) {
                Ok(Signal::Interrupt) => return true,
                Ok(Signal::Run(News::Event(_))) => return false,
                Ok(Signal::Run(News::Gone)) => {
                    self.told = false;
                    return false;
                }
                Ok(Signal::Log(..)) => {}
                Err(_) if left.is_zero() => return false,
                Err(_) => tick(),
            }
        }
    }
}

/// Shows how far a run is until it has ended or waits for somebody; `None` when it is not watched any more, and goes on.
pub(super) fn follow(at: &At, id: &RunId, quiet: bool) -> AppResult<Option<RunRecord>> {
    let (sender, receiver) = channel();
    interrupts(sender.clone())?;
    told_of_run(at, id, &sender);
    let mut wait = Wait { receiver, told: true, looked: Instant::now() };
    let mut watch = Watch::default();
    let mut told = None;
    loop {
        let (record, steps) = whole(at, id)?;
        wait.looked = Instant::now();
        if !quiet {
            watch.look(at.cx.err, &steps);
        }
        if is_over(&record, &steps) {
            watch.clear();
            return Ok(Some(record));
        }
        // A gate, or a person: it is watched on, and said once.
        if record.state == RunState::Waiting && told != record.reason && !quiet {
            watch.clear();
            let why = clean(record.reason.as_deref().unwrap_or("waits for a decision"));
            eprintln!("It {}", if why.starts_with("waits") { why } else { format!("waits: {why}") });
            for how in steps.iter().filter_map(|step| crate::views::runs::answer(&record, step)) {
                eprintln!("  in another terminal: {how}");
            }
            told.clone_from(&record.reason);
        }
        if wait.wait(|| watch.tick()) {
            watch.clear();
            if !goes_on(at, id)? {
                return Ok(None);
            }
        }
    }
}

/// After Ctrl-C: says what becomes of the run, and asks whether to go on watching it.
fn goes_on(at: &At, id: &RunId) -> AppResult<bool> {
    eprintln!(
        "\nRun {id} goes on on the server: `windlass cancel {id}` stops it, `windlass runs {id} --follow` watches it again."
    );
    // Standard output is for one document then.
    if at.cx.json || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let question = "Cancel the run (c), stop watching it (s, or Ctrl-C again), or go on watching (anything else)? ";
    let answer = runs::ask(question);
    ASKED.store(false, Ordering::Relaxed);
    if answer == "c" {
        runs::cancel(at, id, None, false)?;
        eprintln!("It was asked to stop: what runs is interrupted once, what has not begun is not begun.");
    }
    Ok(answer != "s")
}

#[derive(Deserialize)]
struct Part {
    chunks: Vec<Chunk>,
}

#[derive(Deserialize)]
struct Chunk {
    /// Offset of its first byte and of the one after it.
    start: u64,
    next: u64,
    attempt: u32,
    at: Micros,
    text: String,
}

/// Logs by the offsets that were read: a connection that breaks loses nothing, and nothing comes twice.
struct Logs<'a> {
    at: &'a At<'a>,
    id: RunId,
    /// The log of one step alone.
    is_one: bool,
    offsets: BTreeMap<String, u64>,
    /// Whose log was printed last.
    last: Option<String>,
}

impl Logs<'_> {
    fn offset(&self, step: &str) -> u64 {
        self.offsets.get(step).copied().unwrap_or_default()
    }

    fn address(&self, step: &str) -> String {
        format!("{}/steps/{}/log", path(&self.id), segment(step))
    }

    /// Prints what is there by now.
    fn catch_up(&mut self, step: &str) -> AppResult<()> {
        loop {
            let from = self.offset(step);
            let part: Part = self.at.client.get(&format!("{}?from={from}", self.address(step)))?;
            if part.chunks.is_empty() {
                return Ok(());
            }
            for chunk in part.chunks {
                self.print(step, &chunk);
            }
        }
    }

    /// Prints what came; where it is not what comes next, that is asked for.
    fn came(&mut self, step: &str, data: &str) -> AppResult<()> {
        match serde_json::from_str::<Chunk>(data) {
            Ok(chunk) if chunk.start == self.offset(step) => {
                self.print(step, &chunk);
                Ok(())
            }
            _ => self.catch_up(step),
        }
    }

    fn print(&mut self, step: &str, chunk: &Chunk) {
        self.offsets.insert(step.to_owned(), chunk.next);
        if self.at.cx.json {
            let line = json!({ "step": step, "attempt": chunk.attempt, "start": chunk.start, "at": chunk.at, "text": chunk.text });
            print(&format!("{line}\n"));
            return;
        }
        if !self.is_one && self.last.as_deref() != Some(step) {
            print(&format!("{}\n", self.at.cx.out.bold(&format!("── {step}"))));
            self.last = Some(step.to_owned());
        }
        print(&clean(&chunk.text));
    }
}

pub(super) fn logs(at: &At, target: &str, follow: bool) -> Answer {
    let (name, only) = target.split_once('/').map_or((target, None), |(run, step)| (run, Some(step)));
    let id = find_run(at, name)?;
    let mut logs = Logs { at, id: id.clone(), is_one: only.is_some(), offsets: BTreeMap::new(), last: None };
    let (sender, receiver) = channel();
    let mut told = None;
    // Steps whose log the server sends, those where it cannot, and the attempts of those that have ended and are printed.
    let (mut sent, mut asked, mut printed) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    loop {
        let (record, mut steps) = whole(at, &id)?;
        steps.retain(|step| only.is_none_or(|only| step.id.as_str() == only));
        if let (Some(only), []) = (only, steps.as_slice()) {
            let diagnostic = Diagnostic::error("WL623", format!("run {id} has no step `{only}`"))
                .help(format!("`windlass runs {id}` lists its steps"));
            return Err(AppError::new(ErrorKind::NotFound, diagnostic));
        }
        let is_last = record.state.is_final() || !follow;
        let mut is_sent = true;
        for step in steps.iter().filter(|step| step.attempt > 0) {
            let name = step.id.to_string();
            let goes_on = !is_last && !step.state.is_final();
            if goes_on && sent.len() < LOGS && !asked.contains(&name) && sent.insert(name.clone()) {
                let (sender, from) = (sender.clone(), logs.offset(&name).to_string());
                let path = format!("{}/stream", logs.address(&name));
                stream::follow(at.client, path, Some(from), move |news| {
                    sender.send(Signal::Log(name.clone(), news)).is_ok()
                });
            } else if is_last || (!sent.contains(&name) && printed.get(&name) != Some(&step.attempt)) {
                logs.catch_up(&name)?;
                is_sent &= !goes_on;
                if step.state.is_final() {
                    printed.insert(name, step.attempt);
                }
            }
        }
        if is_last {
            return Ok(true);
        }
        let is_told = *told.get_or_insert_with(|| {
            told_of_run(at, &id, &sender);
            true
        });
        let pause = if is_told && is_sent { ASSURE } else { LOOK };
        let looked = Instant::now();
        loop {
            match receiver.recv_timeout(pause.saturating_sub(looked.elapsed())) {
                Ok(Signal::Log(step, News::Event(event))) if event.kind != "end" => {
                    logs.came(&step, &event.data)?;
                    continue;
                }
                Ok(Signal::Log(step, news)) => {
                    sent.remove(&step);
                    if news == News::Gone {
                        asked.insert(step);
                    }
                }
                Ok(Signal::Run(News::Gone)) => told = Some(false),
                Ok(_) | Err(_) => {}
            }
            break;
        }
    }
}
