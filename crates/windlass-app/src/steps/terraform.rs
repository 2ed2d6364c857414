//! The terraform driver with a step's context: logs, events and process ids go to the record.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::recover;
use crate::service::Service;
use std::path::{Path, PathBuf};
use std::time::Duration;
use windlass_drivers::process::{OutputFiles, Token};
use windlass_drivers::terraform::cli_configuration::CliConfiguration;
use windlass_drivers::terraform::events::Event;
use windlass_drivers::terraform::version::version_files;
use windlass_drivers::terraform::{Applied, Sink, StackDirectory, TerraformError, ToolBinary, ToolBox, ToolError};
use windlass_engine::{StepContext, StepFailure, StepResult};
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::effect::secrets;
use windlass_model::id::RunId;
use windlass_model::journal::event;
use windlass_model::place::Place;
use windlass_model::stack::Tool;
use windlass_model::stack_plan::StackWork;
use windlass_store::{Store, StoreError};

/// The event that tells which lock at the backend is that of an attempt.
pub const LOCKED: &str = "backend.locked";

/// How long an interrupted terraform may take to stop by itself.
pub const GRACE: Duration = Duration::from_secs(60);

/// How long after a transient error a command that changes nothing is run again.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// Writes what a command says and does into the record of its step.
pub struct Recorder<'a> {
    cx: &'a StepContext,
    /// The first fact that could not be recorded.
    pub failed: Option<String>,
    /// Whose lock of the state is recorded as ours once the work has begun: the lock is held then.
    locks: Option<StackDirectory>,
    /// The artefact of the plan that the command uses up, where that is told, and whether it was used before.
    plan: Option<(&'a str, &'a Store, bool)>,
    /// Facts that were told together: they are recorded together, before more is read.
    facts: Vec<(String, serde_json::Value)>,
}

impl<'a> Recorder<'a> {
    pub fn new(cx: &'a StepContext) -> Self {
        Self { cx, failed: None, locks: None, plan: None, facts: Vec::new() }
    }

    /// Also records the lock that the command holds at its backend.
    pub fn with_lock_of(mut self, stack: &StackDirectory) -> Self {
        self.locks = Some(stack.clone());
        self
    }

    /// Also marks the plan of this artefact as used, before the command begins.
    fn using(mut self, plan: &'a str, store: &'a Store) -> Self {
        self.plan = Some((plan, store, false));
        self
    }

    /// Whether the command did not begin because its plan was used before.
    fn was_used(&self) -> bool {
        self.plan.is_some_and(|(.., used)| used)
    }

    fn marked(&mut self, marked: Result<bool, StoreError>) -> Result<(), String> {
        let fresh = marked.map_err(|error| error.to_string())?;
        if let (false, Some((.., used))) = (fresh, &mut self.plan) {
            *used = true;
            return Err("its plan was used before".into());
        }
        Ok(())
    }
}

impl Sink for Recorder<'_> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        let marked = match self.plan {
            Some((plan, ..)) => self.cx.process_started_using(pid, plan).await,
            None => self.cx.process_started(pid).await.map(|()| true),
        };
        self.marked(marked)
    }

    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        if let Some((plan, store, _)) = self.plan {
            let marked = store.plan_mark_used(plan, &self.cx.run, &self.cx.step).await;
            self.marked(marked)?;
        }
        starts_elsewhere(self.cx, what).await
    }

    async fn log(&mut self, bytes: &[u8]) {
        self.cx.log(bytes).await;
    }

    async fn aside(&mut self, bytes: &[u8]) {
        self.cx.log_aside(bytes).await;
    }

    async fn event(&mut self, event: &Event) {
        if let Some((kind, data)) = fact(event, self.cx.attempt) {
            self.facts.push((kind.to_owned(), data));
        }
    }

    async fn caught_up(&mut self) {
        if self.facts.is_empty() {
            return;
        }
        let mut facts = Vec::new();
        if let Some(stack) = self.locks.take() {
            // Without this fact the lock is never broken; that is all that is lost when the backend does not answer.
            if let Ok(Some(lock)) = stack.lock_holder().await {
                let data = serde_json::json!({ "attempt": self.cx.attempt, "lock": lock });
                facts.push((LOCKED.to_owned(), data));
            }
        }
        facts.append(&mut self.facts);
        if let Err(error) = self.cx.events(&facts).await {
            self.failed.get_or_insert_with(|| error.to_string());
        }
    }
}

/// Says in the log of a step what starts, which only its owner can: one whose step was given to another starts nothing.
pub async fn starts_elsewhere(cx: &StepContext, what: &str) -> Result<(), String> {
    cx.log_owned(format!("windlass: {what}\n").as_bytes()).await.map_err(|error| error.to_string())
}

/// What an event of an apply says about a resource, as it is recorded.
pub fn fact(event: &Event, attempt: u32) -> Option<(&'static str, serde_json::Value)> {
    Some(match event {
        Event::ApplyStart { address, action, id_key, id_value } => (
            event::STARTED,
            serde_json::json!({ "attempt": attempt, "address": address, "action": action, "id_key": id_key, "id_value": id_value }),
        ),
        Event::ApplyProgress { address, action, seconds } => (
            event::PROGRESS,
            serde_json::json!({ "attempt": attempt, "address": address, "action": action, "seconds": seconds }),
        ),
        Event::ApplyComplete { address, action, id_key, id_value, seconds } => (
            event::APPLIED,
            serde_json::json!({ "attempt": attempt, "address": address, "action": action, "id_key": id_key, "id_value": id_value, "seconds": seconds }),
        ),
        Event::ApplyErrored { address, action, seconds } => (
            event::FAILED,
            serde_json::json!({ "attempt": attempt, "address": address, "action": action, "seconds": seconds }),
        ),
        Event::Diagnostic(said) if is_unanswered(said) => {
            (event::UNANSWERED, serde_json::json!({ "attempt": attempt, "address": said["address"] }))
        }
        _ => return None,
    })
}

/// Whether a provider did not answer for a change, because it died or was cut off.
fn is_unanswered(diagnostic: &serde_json::Value) -> bool {
    let text = |name: &str| diagnostic[name].as_str().unwrap_or_default();
    let gone = ["Plugin did not respond", "Plugin error", "Request cancelled"].contains(&text("summary"));
    gone && text("detail").contains("ApplyResourceChange")
}

/// The commands of one instance, in its own directory of the work tree. What it is given is a secret of the step from then on.
pub async fn stack_directory(service: &Service, cx: &StepContext, work: &StackWork) -> AppResult<StackDirectory> {
    let mut stack = placed(service, work, &cx.token).await?;
    if let Some(commit) = &work.source {
        from_commit(service, cx, work, commit, &mut stack)?;
    }
    crate::secrets::hide(service, cx, work, Some(&stack)).await;
    Ok(stack)
}

/// Points `stack` at a copy of its configuration as it was at `commit`. What lies beside it (a local state that git does not
/// track) is linked.
fn from_commit(
    service: &Service,
    cx: &StepContext,
    work: &StackWork,
    commit: &str,
    stack: &mut StackDirectory,
) -> AppResult<()> {
    use windlass_lang::tree::Tree;
    let tree = service.checkout.git()?.tree(commit).map_err(|e| crate::project::git_error(&e))?;
    let below = |path: &str| {
        work.directories
            .iter()
            .any(|d| d.is_empty() || path.strip_prefix(&**d).is_some_and(|rest| rest.starts_with('/')))
    };
    let scratch = service.directory.run(&cx.run).join("source").join(work.instance.id.file_name());
    let io = |error: &std::io::Error| crate::settings::disk(&scratch, error);
    let mut content = std::collections::BTreeMap::new();
    for path in tree.paths().iter().filter(|path| below(path) || work.files.iter().any(|f| f == *path)) {
        if let Some(bytes) = tree.read(path).map_err(|e| io(&e))? {
            content.insert(path.to_string(), bytes);
        }
    }
    // Every directory that gets a file is a real one: nothing is ever written through a link into the work tree.
    let mut directories = vec![directory_of(work)];
    directories.extend(content.keys().map(|path| path.rsplit_once('/').map_or(String::new(), |(d, _)| d.to_owned())));
    stack.directory = windlass_drivers::terraform::preview::prepare(&stack.root, &scratch, &directories, &content)
        .map_err(|e| io(&e))?;
    for directory in &directories {
        unlink_newer(&scratch.join(directory)).map_err(|e| io(&e))?;
    }
    stack.modules = work.directories.iter().map(|directory| scratch.join(&**directory)).collect();
    stack.root = scratch;
    Ok(())
}

/// Configuration that is only linked is of the work tree, not of the commit.
fn unlink_newer(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let configuration = windlass_model::affected::is_configuration(&name.to_string_lossy());
        if entry.file_type()?.is_symlink() && configuration && name != ".terraform.lock.hcl" {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// As [`stack_directory`], for commands that may belong to no step; `token` is handed to them. They run where the work says: with a
/// tool that is there, and what they need of this machine.
pub async fn placed(service: &Service, work: &StackWork, token: &str) -> AppResult<StackDirectory> {
    if work.place.is_here() {
        return directory_with(service, &service.tools, work, token);
    }
    let tools = super::elsewhere::tools(service, &work.place, token).await?;
    let stack = directory_with(service, &tools, work, token)?;
    let run = Token::parse(token).map(|token| service.directory.run(&RunId::new(token.run)));
    if let Some(run) = &run {
        std::fs::create_dir_all(run).map_err(|e| crate::settings::disk(run, &e))?;
    }
    let mut reach = vec![service.checkout.root.clone(), service.directory.kept(&work.instance.id)];
    reach.extend(run);
    Ok(StackDirectory { place: work.place.clone(), reach, ..stack })
}

fn directory_with(service: &Service, tools: &ToolBox, work: &StackWork, token: &str) -> AppResult<StackDirectory> {
    let root = service.checkout.root.clone();
    let tool = version_files(&root, &root.join(directory_of(work)), work.tool)
        .map_err(ToolError::from)
        .and_then(|files| tools.select(work.tool, &work.required_version, &files))
        .map_err(|error| AppError::new(ErrorKind::Unavailable, error.diagnostic()))?;
    let instance = &work.instance;
    let data = service.directory.terraform_data(&instance.id);
    Ok(StackDirectory {
        modules: work.directories.iter().map(|directory| root.join(&**directory)).collect(),
        workspace: instance.workspace.clone(),
        backend: instance.backend.clone(),
        var_files: instance.var_files.clone(),
        variables: instance.variables.clone(),
        backend_config: instance.backend_config.clone(),
        env: work.env.clone(),
        token: token.to_owned(),
        destroy: work.destroy,
        ..common(service, root.join(directory_of(work)), data, tool)
    })
}

/// What all commands of this installation have in common.
fn common(service: &Service, directory: PathBuf, data: PathBuf, tool: &ToolBinary) -> StackDirectory {
    StackDirectory {
        grace: GRACE,
        lock_timeout: service.settings.lock_timeout.clone(),
        retry_wait: RETRY_WAIT,
        cli: CliConfiguration::of_process(),
        mirror: Some(crate::settings::provider_mirror(&service.directory)),
        ..StackDirectory::new(service.checkout.root.clone(), directory, data, tool.clone())
    }
}

/// Directory of the stack relative to the repository; empty for the root.
pub fn directory_of(work: &StackWork) -> String {
    if work.stack.as_str() == "." { String::new() } else { work.stack.to_string() }
}

/// A driver's failure, which is not terraform's own.
pub fn driver_error(error: &TerraformError) -> AppError {
    if let TerraformError::Process(process) = error
        && let Some(diagnostic) = process.diagnostic()
    {
        return AppError::new(ErrorKind::Unavailable, diagnostic);
    }
    AppError::new(
        ErrorKind::Unavailable,
        Diagnostic::error("WL514", error.to_string())
            .help("check that the program can be run and the disk has room, then run the same command again"),
    )
}

/// Names of the files that `fmt` would change.
pub async fn format_check(
    service: &Service,
    cx: &StepContext,
    files: &[String],
    place: Place,
) -> AppResult<Vec<String>> {
    let there;
    let tools = if place.is_here() {
        &service.tools
    } else {
        there = super::elsewhere::tools(service, &place, &cx.token).await?;
        &*there
    };
    let tool =
        tools.select(Tool::Any, &[], &[]).map_err(|error| AppError::new(ErrorKind::Unavailable, error.diagnostic()))?;
    let root = service.checkout.root.clone();
    let data = service.directory.cache();
    let stack = StackDirectory { token: cx.token.clone(), place, ..common(service, root.clone(), data, tool) };
    let paths: Vec<PathBuf> = files.iter().map(|file| root.join(file)).collect();
    let found = stack.format_check(&paths, &cx.cancel, &mut Recorder::new(cx)).await.map_err(|e| driver_error(&e))?;
    // What it names are lines of text; only files that were asked about are answers.
    Ok(found.into_iter().filter(|file| files.contains(file)).collect())
}

/// Applies a plan file, which the artefact holds and which is used up by that. The state from before is kept; when the end leaves
/// doubts, the instance is quarantined.
pub async fn apply(
    service: &Service,
    cx: &StepContext,
    work: &StackWork,
    plan: &Path,
    artefact: &str,
) -> AppResult<StepResult> {
    let stack = stack_directory(service, cx, work).await?;
    if service.secrets_get(&work.instance.id).is_none() {
        // Another process made the plan: what terraform marked in it is not known here.
        let plan = stack.show(plan, &cx.cancel, &mut Recorder::new(cx)).await.map_err(|e| driver_error(&e))?;
        let marked = plan.map(|plan| secrets(&plan, |data, output| work.is_sensitive(data, output)));
        cx.hide(marked.unwrap_or_default()).await;
    }
    recover::snapshot(service, &work.instance.id, &cx.run, plan).await?;
    let file = |stream| service.directory.output(&cx.run, &cx.step, cx.attempt, stream);
    let output = OutputFiles { out: file("out"), err: file("err") };
    let mut recorder = Recorder::new(cx).with_lock_of(&stack).using(artefact, &service.store);
    let applied = stack.apply(plan, &output, &cx.cancel, &mut recorder).await;
    if recorder.was_used() {
        let summary = format!("the plan of {} was applied before; a plan is used once", work.instance.id);
        let help = "do it again from the beginning, which plans anew";
        return Err(AppError::new(ErrorKind::Conflict, Diagnostic::error("WL605", summary).help(help)));
    }
    let applied = applied.map_err(|error| driver_error(&error))?;
    let unrecorded = recorder.failed.take();
    if let (Applied::Done { .. }, None) = (&applied, &unrecorded) {
        return Ok(StepResult::Succeeded(serde_json::json!({ "applied": true })));
    }
    let applied = match applied {
        Applied::Failed { mut diagnostics } => {
            service.run_alone_next(&work.instance.id, &mut diagnostics).await?;
            Applied::Failed { diagnostics }
        }
        other => other,
    };
    let doubts = recover::look(service, cx, &stack, work).await?;
    if let Some(reason) = doubts {
        return Ok(StepResult::Failed(StepFailure { code: "WL651".into(), message: reason, retryable: false }));
    }
    Ok(match (applied, unrecorded) {
        (Applied::Done { .. }, why) => StepResult::Failed(StepFailure {
            code: "WL622".into(),
            message: format!("applied, but not all of it could be recorded: {}", why.unwrap_or_default()),
            retryable: false,
        }),
        (Applied::Cancelled, _) => StepResult::Cancelled,
        (Applied::Failed { diagnostics }, _) => {
            let errors: Vec<&Diagnostic> = diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
            let code = errors.first().map_or_else(|| "WL503".to_owned(), |d| d.code.clone());
            let message = errors.iter().map(|d| d.summary.as_str()).collect::<Vec<_>>().join("; ");
            StepResult::Failed(StepFailure {
                code,
                message: if message.is_empty() { "terraform failed".into() } else { message },
                retryable: false,
            })
        }
    })
}
