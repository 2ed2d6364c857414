//! One stack instance and the commands that are run for it.

use super::backend_lock::{self, LockError};
use super::cli_configuration::CliConfiguration;
use super::diagnostics::{from_json, from_text};
use super::events::{Event, Lines, parse};
use super::mirror::{Mirror, directories};
use super::plan_file;
use super::state_writer::state_writer;
use super::tools::ToolBinary;
use super::transient;
use super::version::is_newer;
use crate::process::{Listener, OutputFiles, ProcessError, Spec, Stream, Token, run};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use windlass_lang::terraform::{module::is_configuration, scan};
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::journal::BackendLock;
use windlass_model::place::Place;
use windlass_model::review::Stage;

/// What every command of one instance has in common.
#[derive(Debug, Clone)]
pub struct StackDirectory {
    /// Root of the repository; diagnostics name files relative to it.
    pub root: PathBuf,
    /// Directory terraform runs in.
    pub directory: PathBuf,
    /// Directories of configuration (absolute), its own first: their module and provider blocks decide whether init is due.
    pub modules: Vec<PathBuf>,
    /// `TF_DATA_DIR`.
    pub data: PathBuf,
    pub tool: ToolBinary,
    pub workspace: String,
    /// Backend kind: only hosted ones have to know the workspace at init; the others refuse one that is yet to be made.
    pub backend: String,
    pub var_files: Vec<String>,
    pub variables: BTreeMap<String, serde_json::Value>,
    pub backend_config: BTreeMap<String, String>,
    /// Names of variables passed through from this process.
    pub env: Vec<String>,
    /// How long an interrupted command may take to stop.
    pub grace: Duration,
    /// `run/step/attempt`, handed to the child.
    pub token: String,
    /// Plans are to destroy everything.
    pub destroy: bool,
    /// How long to wait for a lock at the backend that somebody else holds, as terraform writes durations.
    pub lock_timeout: String,
    /// How long after a transient error init and plan are run again the first time; twice as long the next time.
    pub retry_wait: Duration,
    /// The user's CLI configuration.
    pub cli: CliConfiguration,
    /// Where init gets providers from that a lock file names.
    pub mirror: Option<Mirror>,
    /// Where its commands run.
    pub place: Place,
    /// Directories that commands need beside those that are named here, where they run elsewhere.
    pub reach: Vec<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TerraformError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("cannot prepare {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("a result of terraform could not be recorded: {0}")]
    Recorded(String),
}

/// Where output and events go while a command runs.
pub trait Sink: Send {
    /// The child runs; an error ends it.
    fn started(&mut self, pid: u32) -> impl Future<Output = Result<(), String>> + Send;
    /// It is about to run elsewhere, as `what` says; an error keeps it from it.
    fn elsewhere(&mut self, what: &str) -> impl Future<Output = Result<(), String>> + Send {
        let _ = what;
        std::future::ready(Ok(()))
    }
    /// Text for the log.
    fn log(&mut self, bytes: &[u8]) -> impl Future<Output = ()> + Send;
    /// What stands before a line of text and is no part of it.
    fn aside(&mut self, bytes: &[u8]) -> impl Future<Output = ()> + Send {
        self.log(bytes)
    }
    /// A change of the world, in the order in which terraform told of them.
    fn event(&mut self, event: &Event) -> impl Future<Output = ()> + Send;
    /// All that was to be read until now has been handed over; what follows has yet to be said.
    fn caught_up(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// A command's arguments and what it printed.
#[derive(Debug)]
pub struct Invocation {
    pub success: bool,
    pub code: Option<i32>,
    pub cancelled: bool,
    pub peak_kib: u64,
    pub out: Vec<u8>,
    pub err: String,
    pub diagnostics: Vec<Diagnostic>,
}

/// A plan that was made.
#[derive(Debug)]
pub struct Plan {
    pub file: PathBuf,
    /// `show -json` of it.
    pub json: serde_json::Value,
    /// What it was made from.
    pub state: plan_file::PlanState,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
    /// The most memory that planning was seen to take, KiB; 0 when it was too quick to be seen.
    pub peak_kib: u64,
}

#[derive(Debug)]
pub enum PlanResult {
    Done(Box<Plan>),
    Failed { stage: Stage, diagnostics: Vec<Diagnostic> },
    Cancelled,
}

#[derive(Debug)]
pub enum Applied {
    Done { outputs: Option<serde_json::Value> },
    Failed { diagnostics: Vec<Diagnostic> },
    Cancelled,
}

/// A root output of a stack, as it is recorded in its state.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Output {
    pub value: serde_json::Value,
    #[serde(default)]
    pub sensitive: bool,
}

impl StackDirectory {
    /// The commands of the root module in `directory` of the repository at `root`, in the default workspace of a local backend,
    /// without variables, with the CLI configuration and providers that terraform finds by itself, and the waits that suit
    /// real services. `data` becomes `TF_DATA_DIR`.
    pub fn new(root: PathBuf, directory: PathBuf, data: PathBuf, tool: ToolBinary) -> Self {
        Self {
            modules: vec![directory.clone()],
            root,
            directory,
            data,
            tool,
            workspace: "default".into(),
            backend: "local".into(),
            var_files: Vec::new(),
            variables: BTreeMap::new(),
            backend_config: BTreeMap::new(),
            env: Vec::new(),
            grace: Duration::from_secs(60),
            token: String::new(),
            destroy: false,
            lock_timeout: "60s".into(),
            retry_wait: Duration::from_secs(2),
            cli: CliConfiguration::default(),
            mirror: None,
            place: Place::Here,
            reach: Vec::new(),
        }
    }

    /// Runs one command. `json` tells whether standard output is the event stream.
    async fn invoke(
        &self,
        arguments: &[OsString],
        json: bool,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Invocation, TerraformError> {
        self.invoke_into(arguments, json, None, cancel, sink).await
    }

    async fn invoke_into(
        &self,
        arguments: &[OsString],
        json: bool,
        output: Option<&OutputFiles>,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Invocation, TerraformError> {
        let spec = Spec {
            program: self.tool.path.clone(),
            arguments: arguments.to_vec(),
            directory: self.directory.clone(),
            environment: self.environment(&arguments[0].to_string_lossy()),
            grace: self.grace,
            output: output.cloned(),
            place: self.place.clone(),
            token: Token::parse(&self.token),
            reach: self.reachable()?,
        };
        let mut adapter = Adapter {
            stack: self,
            sink,
            json,
            lines: Lines::default(),
            out: Vec::new(),
            err: Vec::new(),
            diagnostics: Vec::new(),
            unknown_format: None,
        };
        let name = format!("{} {}", self.tool.name, arguments[0].to_string_lossy());
        let span = tracing::info_span!("terraform", otel.name = name, process.exit.code = tracing::field::Empty);
        let ended = run(&spec, cancel, &mut adapter).instrument(span.clone()).await?;
        span.record("process.exit.code", ended.status.code());
        if let Some(rest) = std::mem::take(&mut adapter.lines).rest() {
            adapter.line(&rest).await;
            adapter.sink.caught_up().await;
        }
        let Adapter { out, err, mut diagnostics, unknown_format, .. } = adapter;
        if let Some(version) = unknown_format {
            let diagnostic = Diagnostic::error(
                "WL512",
                format!(
                    "{} speaks version {version} of its JSON stream, which this release does not know",
                    self.tool.name
                ),
            );
            diagnostics.push(diagnostic.help("use a newer release of Windlass, or an older one of the tool"));
        }
        let err = String::from_utf8_lossy(&err).into_owned();
        let success = ended.status.success();
        if !success && !diagnostics.iter().any(|d| d.severity == Severity::Error) && ended.status.code() != Some(2) {
            let text = if err.trim().is_empty() { String::from_utf8_lossy(&out).into_owned() } else { err.clone() };
            let mut diagnostic = from_text(&text);
            if ended.out_of_memory {
                diagnostic = Diagnostic::error("WL876", format!("{} ran out of memory", self.tool.name))
                    .detail(diagnostic.summary)
                    .help("raise `memory` in the `runner` block, or give the stack a runner of its own");
            } else if ended.status.code().is_none() && !ended.cancelled {
                diagnostic = Diagnostic::error("WL513", format!("{} was killed from outside", self.tool.name))
                    .detail(diagnostic.summary)
                    .help(if self.place.is_here() {
                        "look whether the machine ran out of memory; run the same command again"
                    } else {
                        "look whether the machine ran out of memory, or `memory` of its runner is too little; run the same \
                         command again"
                    });
            }
            diagnostics.push(diagnostic);
        }
        Ok(Invocation {
            success,
            code: ended.status.code(),
            cancelled: ended.cancelled,
            peak_kib: ended.peak_kib,
            out,
            err,
            diagnostics,
        })
    }

    /// [`Self::invoke`] of a command that changes nothing; again after a transient error.
    async fn invoke_again(
        &self,
        arguments: &[OsString],
        json: bool,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Invocation, TerraformError> {
        let mut wait = self.retry_wait;
        for attempt in 1..transient::ATTEMPTS {
            let result = self.invoke(arguments, json, cancel, sink).await?;
            let found =
                if result.success || result.cancelled { None } else { transient::of_errors(&result.diagnostics) };
            let Some(row) = found else { return Ok(result) };
            let note = format!(
                "\nwindlass: `{}` met a transient error ({}: {}); attempt {} of {} follows in {wait:?}\n",
                arguments[0].to_string_lossy(),
                row.pattern,
                row.meaning,
                attempt + 1,
                transient::ATTEMPTS
            );
            sink.log(note.as_bytes()).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => return Ok(Invocation { cancelled: true, ..result }),
            }
            wait *= 2;
        }
        self.invoke(arguments, json, cancel, sink).await
    }

    /// The refusal of a state that a newer release wrote: this one would read it as it can, and write it back as its own.
    async fn refuse_newer_state(&self) -> Option<Diagnostic> {
        let (directory, workspace, recorded) =
            (self.directory.clone(), self.workspace.clone(), self.recorded_backend());
        let asked = tokio::task::spawn_blocking(move || state_writer(&directory, &workspace, recorded.as_ref())).await;
        let writer = asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let ToolBinary { name, version, .. } = &self.tool;
        // A state has the numbers of its writer only, also when that was a pre-release.
        let numbers = version.split('-').next().unwrap_or(version);
        is_newer(&writer, numbers).then(|| {
            let summary = format!("the state was written by version {writer}, and this is {name} {version}");
            let file = if name == "tofu" { ".opentofu-version" } else { ".terraform-version" };
            Diagnostic::error("WL518", summary)
                .detail(format!(
                    "An older {name} may drop what it does not know, and would claim the state for itself."
                ))
                .help(format!("use {name} {writer} or newer: install it, and write {writer} into `{file}`"))
        })
    }

    /// `init`, unless nothing that it depends on has changed since the last one that succeeded here.
    ///
    /// # Errors
    /// The command could not be run. What terraform itself says is in the result: no diagnostics with errors means success.
    pub async fn init(
        &self,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Option<Invocation>, TerraformError> {
        let mark = self.data.join("windlass-init");
        let wanted = self.init_fingerprint();
        if std::fs::read_to_string(&mark).is_ok_and(|found| found == wanted) && self.data_is_whole() {
            return Ok(None);
        }
        std::fs::create_dir_all(&self.data).map_err(|source| TerraformError::Io { path: self.data.clone(), source })?;
        let _ = std::fs::remove_file(&mark);
        let mut arguments: Vec<OsString> =
            ["init", "-input=false", "-no-color", "-reconfigure"].map(OsString::from).to_vec();
        if self.directory.join(".terraform.lock.hcl").exists() {
            arguments.push("-lockfile=readonly".into());
        }
        arguments.extend(
            self.backend_config.iter().map(|(name, value)| OsString::from(format!("-backend-config={name}={value}"))),
        );
        let result = self.init_beside_states(&arguments, cancel, sink).await?;
        if result.success {
            let listing = self.data_listing();
            let written = std::fs::write(self.data.join("windlass-files"), listing)
                .and_then(|()| std::fs::write(&mark, self.init_fingerprint()));
            written.map_err(|source| TerraformError::Io { path: mark, source })?;
        }
        Ok(Some(result))
    }

    /// Everything init depends on: the tool, backend values, lock file, and the `terraform`, `module` and `provider` blocks.
    fn init_fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!(
            "{}\0{}\0{:?}\0{}\0",
            self.tool.path.display(),
            self.tool.version,
            self.backend_config,
            self.workspace
        ));
        hash.update(std::fs::read(self.directory.join(".terraform.lock.hcl")).unwrap_or_default());
        for directory in &self.modules {
            let mut names: Vec<String> = std::fs::read_dir(directory)
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| is_configuration(name))
                .collect();
            names.sort();
            for name in names {
                let text = std::fs::read_to_string(directory.join(&name)).unwrap_or_default();
                hash.update(format!("\0{}/{name}\0", directory.display()));
                match scan::items(&text).filter(|_| !name.ends_with(".json")) {
                    None => hash.update(&text),
                    Some(items) => {
                        for (start, end) in items {
                            let item = &text[start..end];
                            if ["terraform", "module", "provider"].iter().any(|kind| item.starts_with(kind)) {
                                hash.update(item);
                            } else if item.starts_with("resource")
                                || item.starts_with("data")
                                || item.starts_with("ephemeral")
                            {
                                // A new type can mean a new provider that no block names.
                                hash.update(item.split('"').nth(1).unwrap_or_default());
                            }
                        }
                    }
                }
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Names of what init left in the data directory.
    fn data_listing(&self) -> String {
        let wanted = ["modules/modules.json", "terraform.tfstate", "providers"];
        let wanted = wanted.iter().map(|name| self.data.join(name));
        // A package may be a link into the mirror, which can be emptied behind it.
        let all = wanted.chain(directories(&self.data.join("providers"), 5)).filter(|path| path.exists());
        all.filter_map(|path| Some(format!("{}\n", path.strip_prefix(&self.data).ok()?.display()))).collect()
    }

    fn data_is_whole(&self) -> bool {
        std::fs::read_to_string(self.data.join("windlass-files"))
            .is_ok_and(|names| names.lines().all(|name| self.data.join(name).exists()))
    }

    /// Kind and effective configuration of the backend, as init recorded them; empty without a configured backend. It may hold
    /// credentials.
    pub fn backend_identity(&self) -> String {
        self.recorded_backend().map_or_else(String::new, |(kind, config)| format!("{kind} {config}"))
    }

    fn wait_for_lock(&self) -> OsString {
        format!("-lock-timeout={}", self.lock_timeout).into()
    }

    /// The configuration of the backend as init recorded it. It may hold credentials.
    pub fn backend_configuration(&self) -> Option<serde_json::Value> {
        self.recorded_backend().map(|(_, config)| config)
    }

    fn recorded_backend(&self) -> Option<(String, serde_json::Value)> {
        let recorded = std::fs::read(self.data.join("terraform.tfstate")).ok()?;
        let mut recorded: serde_json::Value = serde_json::from_slice(&recorded).ok()?;
        let backend = recorded.get_mut("backend")?;
        let config = backend.get_mut("config").map(serde_json::Value::take)?;
        Some((backend.get("type")?.as_str()?.to_owned(), config))
    }

    /// Who holds the lock of the state, where the backend can be asked.
    ///
    /// # Errors
    /// The backend does not answer.
    pub async fn lock_holder(&self) -> Result<Option<BackendLock>, LockError> {
        let Some((kind, config)) = self.recorded_backend() else { return Ok(None) };
        let asked = tokio::task::spawn_blocking(move || backend_lock::holder(&kind, &config)).await;
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// `force-unlock`: only ever of a lock that is known to be ours, and its holder to be dead.
    ///
    /// # Errors
    /// The command could not be run, or terraform refused: what it says.
    pub async fn force_unlock(
        &self,
        id: &str,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Result<(), Vec<Diagnostic>>, TerraformError> {
        let arguments = ["force-unlock".into(), "-force".into(), id.into()];
        let done = self.invoke(&arguments, false, cancel, sink).await?;
        Ok(if done.success { Ok(()) } else { Err(done.diagnostics) })
    }

    /// Content of the lock file; `None` when there is none.
    pub fn lock_file(&self) -> Option<Vec<u8>> {
        std::fs::read(self.directory.join(".terraform.lock.hcl")).ok()
    }

    /// `plan` into `file`, then `show -json` of it, once.
    ///
    /// # Errors
    /// A command could not be run.
    pub async fn plan(
        &self,
        file: &Path,
        lock: bool,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<PlanResult, TerraformError> {
        self.plan_with(file, lock, &[], cancel, sink).await
    }

    /// The two plans that tell drift, each rendered: what the configuration would do to the state as it is recorded, and (with
    /// `refresh_only`) what the world has otherwise than the state. Nothing is locked.
    ///
    /// # Errors
    /// A command could not be run.
    pub async fn plan_drift(
        &self,
        file: &Path,
        refresh_only: bool,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<PlanResult, TerraformError> {
        let option = if refresh_only { "-refresh-only" } else { "-refresh=false" };
        self.plan_with(file, false, &[option.into()], cancel, sink).await
    }

    /// As [`Self::plan`] without a lock; configuration of what is imported and has none is written into `generated`, which must
    /// not exist. It can be there after a plan that failed, too: what is generated need not be valid.
    ///
    /// # Errors
    /// A command could not be run.
    pub async fn plan_generating(
        &self,
        file: &Path,
        generated: &Path,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<PlanResult, TerraformError> {
        let mut option = OsString::from("-generate-config-out=");
        option.push(generated);
        self.plan_with(file, false, &[option], cancel, sink).await
    }

    async fn plan_with(
        &self,
        file: &Path,
        lock: bool,
        more: &[OsString],
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<PlanResult, TerraformError> {
        if let Some(init) = self.init(cancel, sink).await? {
            if init.cancelled {
                return Ok(PlanResult::Cancelled);
            }
            if !init.success {
                return Ok(PlanResult::Failed { stage: Stage::Init, diagnostics: init.diagnostics });
            }
        }
        if let Some(refused) = self.refuse_newer_state().await {
            return Ok(PlanResult::Failed { stage: Stage::Plan, diagnostics: vec![refused] });
        }
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).map_err(|source| TerraformError::Io { path: parent.to_owned(), source })?;
        }
        let mut arguments: Vec<OsString> =
            ["plan", "-json", "-input=false", "-no-color", "-detailed-exitcode"].map(OsString::from).to_vec();
        arguments.push(if lock { self.wait_for_lock() } else { "-lock=false".into() });
        arguments.extend(self.var_files.iter().map(|file| OsString::from(format!("-var-file={file}"))));
        if self.destroy {
            arguments.push("-destroy".into());
        }
        arguments.extend(more.iter().cloned());
        let mut out = OsString::from("-out=");
        out.push(file);
        arguments.push(out);
        let plan = self.invoke_again(&arguments, true, cancel, sink).await?;
        if plan.cancelled {
            return Ok(PlanResult::Cancelled);
        }
        if !matches!(plan.code, Some(0 | 2)) || plan.diagnostics.iter().any(|d| d.severity == Severity::Error) {
            // What a new module or provider needs may have changed behind the fingerprint: the next attempt inits again.
            let _ = std::fs::remove_file(self.data.join("windlass-init"));
            let stage =
                if plan.diagnostics.iter().any(|d| !d.labels.is_empty()) { Stage::Validate } else { Stage::Plan };
            return Ok(PlanResult::Failed { stage, diagnostics: plan.diagnostics });
        }
        let Some(json) = self.show(file, cancel, sink).await? else {
            if cancel.is_cancelled() {
                return Ok(PlanResult::Cancelled);
            }
            return Ok(PlanResult::Failed {
                stage: Stage::Show,
                diagnostics: vec![Diagnostic::error("WL503", "the plan could not be rendered as JSON")],
            });
        };
        let state = plan_file::state_of(file).map_err(|error| TerraformError::Recorded(error.to_string()))?;
        Ok(PlanResult::Done(Box::new(Plan {
            file: file.to_owned(),
            json,
            state,
            diagnostics: plan.diagnostics,
            peak_kib: plan.peak_kib,
        })))
    }

    /// `show -json` of a plan file; `None` when it could not be rendered.
    ///
    /// # Errors
    /// The command could not be run.
    pub async fn show(
        &self,
        file: &Path,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Option<serde_json::Value>, TerraformError> {
        let show = self
            .invoke(&["show".into(), "-json".into(), "-no-color".into(), file.into()], false, cancel, &mut Quiet(sink))
            .await?;
        Ok(if show.success { serde_json::from_slice(&show.out).ok() } else { None })
    }

    /// `apply` of a saved plan, which writes what it says into `output`. After a cancel the state is what terraform had done
    /// until then.
    ///
    /// # Errors
    /// The command could not be run.
    pub async fn apply(
        &self,
        file: &Path,
        output: &OutputFiles,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Applied, TerraformError> {
        let arguments: [OsString; 6] = [
            "apply".into(),
            "-json".into(),
            "-input=false".into(),
            "-no-color".into(),
            self.wait_for_lock(),
            file.into(),
        ];
        let apply = self.invoke_into(&arguments, true, Some(output), cancel, sink).await?;
        if apply.success && !apply.cancelled {
            return Ok(Applied::Done { outputs: None });
        }
        if apply.cancelled {
            return Ok(Applied::Cancelled);
        }
        Ok(Applied::Failed { diagnostics: apply.diagnostics })
    }

    /// `state pull`: the state as it is now (format version 4); `Null` when there is none.
    ///
    /// # Errors
    /// The command could not be run, or the state not be read: what terraform says.
    pub async fn state(
        &self,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Result<serde_json::Value, Vec<Diagnostic>>, TerraformError> {
        // It holds secrets in the clear: it never reaches the log.
        let pulled = self.invoke(&["state".into(), "pull".into()], false, cancel, &mut Quiet(sink)).await?;
        if !pulled.success {
            return Ok(Err(pulled.diagnostics));
        }
        Ok(Ok(serde_json::from_slice(&pulled.out).unwrap_or_default()))
    }

    /// Root outputs that are plain texts, numbers or bools and not sensitive, as texts.
    ///
    /// # Errors
    /// The command could not be run, or terraform failed: what it says.
    pub async fn outputs(
        &self,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Result<BTreeMap<String, String>, Vec<Diagnostic>>, TerraformError> {
        let plain = |output: Output| match output.value {
            _ if output.sensitive => None,
            serde_json::Value::String(text) => Some(text),
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        };
        let found = self.all_outputs(cancel, sink).await?;
        Ok(found.map(|all| all.into_iter().filter_map(|(name, output)| Some((name, plain(output)?))).collect()))
    }

    /// All root outputs, with the values of sensitive ones.
    ///
    /// # Errors
    /// The command could not be run, or terraform failed: what it says.
    pub async fn all_outputs(
        &self,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Result<BTreeMap<String, Output>, Vec<Diagnostic>>, TerraformError> {
        let arguments = ["output".into(), "-json".into(), "-no-color".into()];
        let answer = self.invoke(&arguments, false, cancel, &mut Quiet(sink)).await?;
        if !answer.success {
            return Ok(Err(answer.diagnostics));
        }
        Ok(Ok(serde_json::from_slice(&answer.out).unwrap_or_default()))
    }

    /// `state push` of a file. terraform refuses one of another lineage, and one that is older than the present state.
    ///
    /// # Errors
    /// The command could not be run, or terraform refused: what it says.
    pub async fn state_push(
        &self,
        file: &Path,
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Result<(), Vec<Diagnostic>>, TerraformError> {
        let arguments = ["state".into(), "push".into(), self.wait_for_lock(), file.into()];
        let pushed = self.invoke(&arguments, false, cancel, sink).await?;
        Ok(if pushed.success { Ok(()) } else { Err(pushed.diagnostics) })
    }

    /// Files among `files` (absolute) that `fmt` would change, as it names them; one command for many files.
    ///
    /// # Errors
    /// The command could not be run.
    pub async fn format_check(
        &self,
        files: &[PathBuf],
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Vec<String>, TerraformError> {
        let mut unformatted = Vec::new();
        // Far below any limit on the length of a command line.
        for chunk in files.chunks(500) {
            let mut arguments: Vec<OsString> =
                ["fmt", "-check", "-list=true", "-write=false", "-no-color"].map(OsString::from).to_vec();
            arguments.extend(chunk.iter().map(|file| file.strip_prefix(&self.directory).unwrap_or(file).into()));
            let result = self.invoke(&arguments, false, cancel, sink).await?;
            unformatted
                .extend(String::from_utf8_lossy(&result.out).lines().filter(|l| !l.is_empty()).map(str::to_owned));
        }
        Ok(unformatted)
    }

    /// Formats files (absolute) in place.
    ///
    /// # Errors
    /// The command could not be run, or terraform does not understand a file: what it says.
    pub async fn format(
        &self,
        files: &[PathBuf],
        cancel: &CancellationToken,
        sink: &mut impl Sink,
    ) -> Result<Result<(), Vec<Diagnostic>>, TerraformError> {
        let mut arguments: Vec<OsString> = ["fmt", "-list=false", "-no-color"].map(OsString::from).to_vec();
        arguments.extend(files.iter().map(|file| file.strip_prefix(&self.directory).unwrap_or(file).into()));
        let done = self.invoke(&arguments, false, cancel, sink).await?;
        Ok(if done.success { Ok(()) } else { Err(done.diagnostics) })
    }
}

struct Adapter<'a, S> {
    stack: &'a StackDirectory,
    sink: &'a mut S,
    json: bool,
    lines: Lines,
    out: Vec<u8>,
    err: Vec<u8>,
    diagnostics: Vec<Diagnostic>,
    unknown_format: Option<u64>,
}

/// Standard error is kept up to this many bytes for the diagnostic; the log has all of it.
const KEPT: usize = 64 * 1024;

impl<S: Sink> Adapter<'_, S> {
    async fn line(&mut self, line: &[u8]) {
        let Some(event) = parse(line) else {
            self.sink.log(line).await;
            self.sink.log(b"\n").await;
            if self.err.len() < KEPT {
                self.err.extend_from_slice(line);
                self.err.push(b'\n');
            }
            return;
        };
        match &event {
            Event::Version(1) => {}
            Event::Version(other) => self.unknown_format = Some(*other),
            Event::Diagnostic(value) => {
                self.diagnostics.push(from_json(value, &self.stack.root, &self.stack.directory));
            }
            // A secret that began in the line before goes on behind who says it.
            Event::Said { who, line } => {
                self.sink.aside(who.as_bytes()).await;
                self.sink.log(format!("{line}\n").as_bytes()).await;
                return self.sink.event(&event).await;
            }
            _ => {}
        }
        self.sink.log(self.stack.text(&event).as_bytes()).await;
        self.sink.event(&event).await;
    }
}

impl<S: Sink> Listener for Adapter<'_, S> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.sink.started(pid).await
    }

    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        self.sink.elsewhere(what).await
    }

    // Not terraform's own words, so not among those that tell why it failed.
    async fn note(&mut self, text: &str) {
        self.sink.log(format!("windlass: {text}\n").as_bytes()).await;
    }

    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Out if self.json => {
                for line in self.lines.push(bytes) {
                    self.line(&line).await;
                }
                self.sink.caught_up().await;
            }
            Stream::Out => {
                self.sink.log(bytes).await;
                self.out.extend_from_slice(bytes);
            }
            Stream::Err => {
                self.sink.log(bytes).await;
                if self.err.len() < KEPT {
                    self.err.extend_from_slice(bytes);
                }
            }
        }
    }
}

mod beside;
mod environment;
mod providers;
mod said;
mod schema;

pub use providers::Provided;

/// The rendering of a plan holds sensitive values in the clear: it never reaches the log.
struct Quiet<'a, S>(&'a mut S);

impl<S: Sink> Sink for Quiet<'_, S> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.0.started(pid).await
    }
    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        self.0.elsewhere(what).await
    }
    async fn log(&mut self, _: &[u8]) {}
    async fn event(&mut self, _: &Event) {}
}

#[cfg(test)]
mod tests;
