//! Steps that run a program: in the place of the step's runner, in a container, or as a Job.

use super::files::{self, Scratch};
use super::{Work, outputs};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::steps::failed;
use crate::steps::terraform::starts_elsewhere;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use windlass_drivers::process::{self, Ended, Listener, OutputFiles, ProcessError, Spec, Stream, Token};
use windlass_engine::{Probe, StepContext, StepFailure, StepResult};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::{Action, Expression, OutputFormat};
use windlass_model::place::{Container, Job, Place};
use windlass_model::run::Repeat;

/// How long a program may take to stop after its interrupt, before all that it started is killed.
pub const GRACE: Duration = Duration::from_secs(10);
/// How much of what a program says last is looked at for a reason, bytes.
const TAIL: usize = 4096;
/// Of this process, for programs in this machine; how a person writes is told everywhere.
const OF_THE_MACHINE: [&str; 3] = ["PATH", "TZ", "SSL_CERT_FILE"];
const EVERYWHERE: [&str; 2] = ["LANG", "LC_ALL"];
/// Where nothing is set, texts are UTF-8 all the same.
const LANG: &str = "C.UTF-8";

/// A program, its arguments, and where it runs.
struct Program {
    argv: Vec<String>,
    place: Place,
    directory: PathBuf,
    scratch: Scratch,
}

/// Runs the program of a step.
///
/// # Errors
/// Its expressions have no value, or its files cannot be made.
pub async fn execute(work: &Work<'_>) -> AppResult<StepResult> {
    let program = program(work).await?;
    let spec = spec(work, &program)?;
    let mut said = Said::new(work.cx, &spec, work.definition.outputs != OutputFormat::None);
    let ended = match process::run(&spec, &work.cx.cancel, &mut said).await {
        Ok(ended) => ended,
        Err(error) => return Ok(unstarted(&program, error)),
    };
    work.cx.flush().await;
    if ended.cancelled {
        tell_left(work.cx, &ended).await;
        return Ok(StepResult::Cancelled);
    }
    let kept = files::keep(work.service, work.cx, &program.directory, &work.definition.artefacts).await;
    if let Some(failure) = refusal(work, &program, &ended, &said) {
        if let Err(error) = kept {
            work.cx.log(format!("windlass: {error}\n").as_bytes()).await;
        }
        return Ok(StepResult::Failed(failure));
    }
    kept?;
    Ok(match outputs_of(work, &said.out, &program.scratch).await {
        Ok(outputs) => StepResult::Succeeded(outputs.into()),
        Err(why) => {
            let message = format!("its outputs cannot be read: {why}");
            StepResult::Failed(StepFailure { code: "WL531".into(), message, retryable: false })
        }
    })
}

/// Asks the probe of a step whether an attempt of it had happened.
pub async fn probe(work: &Work<'_>) -> Probe {
    match ask(work).await {
        Ok(probe) => probe,
        Err(error) => Probe::Unsettled(format!("its probe cannot be asked: {error}")),
    }
}

async fn ask(work: &Work<'_>) -> AppResult<Probe> {
    let Some(probe) = &work.definition.probe else { return Ok(Probe::Unsettled("it has no probe".into())) };
    let argv = work.scope.texts(probe)?;
    let place = place(work).await?;
    let scratch = Scratch::make(work.service, work.cx, "probe")?;
    let program = Program { argv, place, directory: directory(work)?, scratch };
    let mut spec = spec(work, &program)?;
    spec.output = None;
    let mut said = Said::new(work.cx, &spec, false);
    work.cx.log(format!("windlass: asks `{}` whether it had happened\n", program.argv.join(" ")).as_bytes()).await;
    let ended = match process::run(&spec, &work.cx.cancel, &mut said).await {
        Ok(ended) => ended,
        Err(error) => return Ok(Probe::Unsettled(format!("its probe cannot be run: {error}"))),
    };
    Ok(match ended.status.code() {
        Some(0) if !ended.cancelled => {
            let own = Scratch::make(work.service, work.cx, "step")?;
            let out = work.service.directory.output(&work.cx.run, &work.cx.step, work.cx.attempt, "out");
            let outputs = match std::fs::read(out) {
                // What a Job without a volume said is nowhere.
                Err(error) if work.definition.outputs != OutputFormat::None => Err(error.to_string()),
                out => outputs_of(work, &out.unwrap_or_default(), &own).await,
            };
            match outputs {
                Ok(outputs) => Probe::Done(outputs.into()),
                Err(why) => Probe::Unsettled(format!("it had happened, but its outputs are lost: {why}")),
            }
        }
        Some(1) if !ended.cancelled => Probe::Repeat,
        _ => {
            let why = ended.why.or_else(|| last_line(&said.last)).unwrap_or_else(|| ended.status.to_string());
            Probe::Unsettled(format!("its probe does not know whether it had happened: {why}"))
        }
    })
}

/// Where the programs of a step run: for one that is a container or a Job there, otherwise as the runner of its label says.
///
/// # Errors
/// The definitions of the commit that decides cannot be read.
pub async fn place(work: &Work<'_>) -> AppResult<Place> {
    let image = |image: &Expression| work.scope.text(image);
    match &work.definition.action {
        Action::Container { image: named, container, .. } => {
            Ok(Place::Container(Container { image: image(named)?, ..container.clone() }))
        }
        Action::Job { image: named, job, .. } => Ok(Place::Job(Job { image: image(named)?, ..job.clone() })),
        _ => super::place_of_runner(work.service, work.input, &work.definition).await,
    }
}

/// The directory that a step works in.
///
/// # Errors
/// It leads out of the repository.
pub fn directory(work: &Work<'_>) -> AppResult<PathBuf> {
    let root = std::path::absolute(&work.service.checkout.root);
    let root = root.map_err(|error| crate::settings::disk(&work.service.checkout.root, &error))?;
    match &work.definition.directory {
        Some(directory) => files::below(&root, &work.scope.text(directory)?),
        None => Ok(root),
    }
}

async fn program(work: &Work<'_>) -> AppResult<Program> {
    let scope = &work.scope;
    let directory = directory(work)?;
    let scratch = Scratch::make(work.service, work.cx, "step")?;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let argv = match &work.definition.action {
        Action::Run { argv } => scope.texts(argv)?,
        Action::Shell { line } => [words(&["/bin/sh", "-ec"]), vec![scope.text(line)?]].concat(),
        Action::Script { interpreter, text, file, arguments } => {
            let path = script(work, &scratch, text.as_ref(), file.as_ref())?;
            let arguments = arguments.as_ref().map(|list| scope.texts(list)).transpose()?.unwrap_or_default();
            [interpreter.clone(), vec![path.display().to_string()], arguments].concat()
        }
        Action::Container { argv, .. } | Action::Job { argv, .. } => {
            let own = argv.as_ref().map(|argv| scope.texts(argv)).transpose()?.unwrap_or_default();
            return Ok(Program { argv: own, place: place(work).await?, directory, scratch });
        }
        _ => return Err(crate::error::internal("a step without a program")),
    };
    if argv.first().is_none_or(String::is_empty) {
        let diagnostic =
            Diagnostic::error("WL532", format!("the step `{}` has no program to run", work.definition.name))
                .at(work.definition.span.clone())
                .help("the first of the list is the program");
        return Err(AppError::new(ErrorKind::Definition, diagnostic));
    }
    Ok(Program { argv, place: place(work).await?, directory, scratch })
}

/// A file of the repository, or a text in a file that only this user can read and run.
fn script(
    work: &Work<'_>,
    scratch: &Scratch,
    text: Option<&Expression>,
    file: Option<&Expression>,
) -> AppResult<PathBuf> {
    if let Some(file) = file {
        let root = std::path::absolute(&work.service.checkout.root);
        let root = root.map_err(|error| crate::settings::disk(&work.service.checkout.root, &error))?;
        return files::below(&root, &work.scope.text(file)?);
    }
    let text = text.map(|text| work.scope.text(text)).transpose()?.unwrap_or_default();
    let path = scratch.own.join("script");
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o700).open(&path)?.write_all(text.as_bytes())
    };
    write().map_err(|error| crate::settings::disk(&path, &error))?;
    Ok(path)
}

/// Where a program may write outputs.
fn outputs_file(scratch: &Scratch) -> PathBuf {
    scratch.own.join("outputs")
}

/// All of the environment of a step's programs; those of this machine are given what means something in it only.
///
/// # Errors
/// An expression has no value.
pub fn environment(work: &Work<'_>, place: &Place) -> AppResult<BTreeMap<OsString, OsString>> {
    let cx = work.cx;
    let here = place.is_here();
    let mut environment: BTreeMap<OsString, OsString> = BTreeMap::new();
    let names = EVERYWHERE.iter().chain(OF_THE_MACHINE.iter().filter(|_| here));
    environment.extend(names.filter_map(|name| Some((name.into(), std::env::var_os(name)?))));
    environment.entry("LANG".into()).or_insert_with(|| LANG.into());
    for (name, value) in &work.definition.env {
        environment.insert(name.into(), work.scope.text(value)?.into());
    }
    for (name, value) in [
        ("WINDLASS_RUN", cx.run.as_str()),
        ("WINDLASS_STEP", cx.step.as_str()),
        ("WINDLASS_ATTEMPT", &cx.attempt.to_string()),
        ("WINDLASS_TOKEN", &cx.token),
        ("WINDLASS_PROJECT", work.service.store.project()),
    ] {
        environment.insert(name.into(), value.into());
    }
    Ok(environment)
}

fn spec(work: &Work<'_>, program: &Program) -> AppResult<Spec> {
    let cx = work.cx;
    let mut environment = environment(work, &program.place)?;
    environment.entry("HOME".into()).or_insert_with(|| program.scratch.home.clone().into());
    environment.insert("WINDLASS_OUTPUT".into(), outputs_file(&program.scratch).into());
    // One that is waited for when its engine is gone goes on writing; a Job does that on a volume only.
    let lasting = match &program.place {
        Place::Job(job) => job.volume_claim.is_some(),
        Place::Here | Place::Container(_) => true,
    };
    let file = |stream| work.service.directory.output(&cx.run, &cx.step, cx.attempt, stream);
    let output = (work.definition.repeat == Repeat::Checkable && lasting)
        .then(|| OutputFiles { out: file("out"), err: file("err") });
    let (name, arguments) = match program.argv.split_first() {
        Some((name, arguments)) => {
            (files::program(name, &program.directory), arguments.iter().map(Into::into).collect())
        }
        None => (PathBuf::new(), Vec::new()),
    };
    Ok(Spec {
        environment,
        output,
        place: program.place.clone(),
        token: Token::parse(&cx.token),
        reach: vec![work.service.checkout.root.clone(), program.scratch.own.clone(), program.scratch.home.clone()],
        ..Spec::here(name, arguments, program.directory.clone(), GRACE)
    })
}

fn unstarted(program: &Program, error: ProcessError) -> StepResult {
    let refused = error.is_refusal();
    if let Some(diagnostic) = error.diagnostic() {
        let kind = if refused { ErrorKind::Refused } else { ErrorKind::Unavailable };
        return failed(AppError::new(kind, diagnostic));
    }
    let name = program.argv.first().map_or("", String::as_str);
    let (code, message) = match error {
        ProcessError::Start { source, .. } => ("WL530", format!("`{name}` cannot be started: {source}")),
        other => ("WL514", other.to_string()),
    };
    StepResult::Failed(StepFailure { code: code.into(), message, retryable: !refused })
}

/// Why it is no success; `None` when it is one.
fn refusal(work: &Work<'_>, program: &Program, ended: &Ended, said: &Said<'_>) -> Option<StepFailure> {
    let definition = &work.definition;
    let code = ended.status.code();
    let good = match code {
        Some(code) if definition.success.is_empty() => code == 0,
        Some(code) => definition.success.contains(&code),
        None => false,
    };
    if good {
        return None;
    }
    let name = match program.argv.first() {
        Some(name) => format!("`{}`", Path::new(name).file_name().unwrap_or_default().to_string_lossy()),
        None => "the container".to_owned(),
    };
    if ended.out_of_memory {
        let message = format!("{name} ran out of memory");
        return Some(StepFailure { code: "WL876".into(), message, retryable: true });
    }
    let how = match code {
        Some(code) => format!("ended with status {code}"),
        None => format!("was ended by {}", ended.status),
    };
    let why = ended.why.clone().or_else(|| last_line(&said.last)).map_or_else(String::new, |why| format!(": {why}"));
    let retryable = code.is_none_or(|code| !definition.give_up.contains(&code));
    Some(StepFailure { code: "WL530".into(), message: format!("{name} {how}{why}"), retryable })
}

/// What the program said and wrote, without secrets: outputs are stored.
async fn outputs_of(work: &Work<'_>, said: &[u8], scratch: &Scratch) -> Result<Map<String, Value>, String> {
    let mut outputs = outputs::parse(work.definition.outputs, said)?;
    let path = outputs_file(scratch);
    match std::fs::metadata(&path) {
        Ok(found) if found.len() > outputs::LIMIT as u64 => {
            return Err(format!("WINDLASS_OUTPUT holds more than {} MiB", outputs::LIMIT >> 20));
        }
        Ok(_) => {
            let content = std::fs::read(&path).map_err(|error| error.to_string())?;
            outputs.extend(outputs::of_file(&content)?);
        }
        Err(_) => {}
    }
    let mut value = Value::Object(outputs);
    work.cx.mask().await.value(&mut value);
    match value {
        Value::Object(outputs) => Ok(outputs),
        _ => Ok(Map::new()),
    }
}

/// The last line that says something, at most 300 characters of it.
pub fn last_line(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().take(300).collect())
}

/// Says of a program that was cancelled how it ended, and what of it goes on: what left its process group is not ours to kill.
async fn tell_left(cx: &StepContext, ended: &Ended) {
    let how = if ended.killed {
        format!(
            "it did not stop within {} s of the interrupt, and was killed with all that it had started",
            GRACE.as_secs()
        )
    } else {
        "it stopped when it was asked to".to_owned()
    };
    cx.log(format!("windlass: cancelled; {how}\n").as_bytes()).await;
    for (pid, name) in process::left(&cx.token) {
        let line = format!("windlass: still running, apart from what was ended: {name} (process {pid})\n");
        cx.log(line.as_bytes()).await;
    }
}

/// What a program says, on its way to the log.
struct Said<'a> {
    cx: &'a StepContext,
    captures: bool,
    /// Of its standard output, as far as it can be an output.
    out: Vec<u8>,
    /// The end of its standard error, or of both streams where they come as one.
    last: Vec<u8>,
    is_one: bool,
}

impl<'a> Said<'a> {
    fn new(cx: &'a StepContext, spec: &Spec, captures: bool) -> Self {
        let is_one = matches!(spec.place, Place::Job(_)) && spec.output.is_none();
        Self { cx, captures, out: Vec::new(), last: Vec::new(), is_one }
    }
}

impl Listener for Said<'_> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.cx.process_started(pid).await.map_err(|error| error.to_string())
    }
    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        starts_elsewhere(self.cx, what).await
    }
    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Out && self.captures {
            let room = (outputs::LIMIT + 1).saturating_sub(self.out.len()).min(bytes.len());
            self.out.extend_from_slice(&bytes[..room]);
        }
        if stream == Stream::Err || self.is_one {
            self.last.extend_from_slice(bytes);
            let over = self.last.len().saturating_sub(TAIL);
            self.last.drain(..over);
        }
        self.cx.log(bytes).await;
    }
    async fn note(&mut self, text: &str) {
        self.cx.log(format!("windlass: {text}\n").as_bytes()).await;
    }
}
