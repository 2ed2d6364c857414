//! The step of a review that looks at configuration without a plan: its format, our own checks, and other checkers' reports.

use super::input;
use crate::error::AppResult;
use crate::service::Service;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use windlass_drivers::process::{self, Listener, Spec, Stream, Token};
use windlass_engine::{Executor, StepContext, StepResult};
use windlass_lang::discovery::Modules;
use windlass_model::definition::{Enforcement, LintDefinition, LintTool};
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::place::Place;
use windlass_model::review::{Finding, Level, Severity};
use windlass_model::sarif;
use windlass_model::stack_plan::{ChecksInput, ReviewInput};

/// A report beyond this is not read, bytes.
const REPORT: usize = 64 << 20;
/// From the interrupt to the kill of a checker.
const GRACE: Duration = Duration::from_secs(5);
/// What a checker sees of our environment.
const ENVIRONMENT: [&str; 5] = ["LANG", "LC_ALL", "TZ", "HTTPS_PROXY", "NO_PROXY"];
/// What means something in this machine only.
const OF_THE_MACHINE: [&str; 4] = ["PATH", "HOME", "TMPDIR", "SSL_CERT_FILE"];

/// What the step found; each finding has its place.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ChecksOutput {
    pub findings: Vec<Finding>,
}

pub struct Checks(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Checks {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.check(cx).await {
            Ok(_) if cx.cancel.is_cancelled() => StepResult::Cancelled,
            Ok(output) => super::succeeded(&output),
            Err(error) => super::failed(error),
        }
    }
}

impl Checks {
    async fn check(&self, cx: &StepContext) -> AppResult<ChecksOutput> {
        let service = &self.0;
        let run: ReviewInput = input(&cx.run_input)?;
        let ChecksInput { files, directories, handed, place, .. } = input(&cx.input)?;
        let deciding = service.deciding(run.deciding.as_deref()).await?;
        let lint = &deciding.definitions.lint;
        let mut findings = handed;
        if !files.is_empty() {
            let unformatted = super::terraform::format_check(service, cx, &files, place).await?;
            findings.extend(unformatted.iter().map(|file| {
                let message = format!("{file} is not formatted: run `terraform fmt {file}`");
                let code = Some(Span::file(file.as_str()));
                Finding { code, severity: Some(Severity::Info), ..Finding::new(Level::Warn, "terraform fmt", message) }
            }));
        }
        let tree = service.checkout.work_tree()?;
        let modules = Modules::all(&*tree);
        let wanted = |directory: &str| directories.contains(directory);
        findings.extend(own(&modules, lint, wanted).into_iter().map(finding));
        for tool in &lint.tools {
            let runner = deciding.definitions.runners.iter().find(|runner| tool.runner.as_ref() == Some(&runner.name));
            let place = runner.map_or(Place::Here, |runner| runner.place.clone());
            findings.extend(self.run(cx, tool, place).await?);
        }
        let mask = cx.mask().await;
        findings.iter_mut().for_each(|finding| finding.message = mask.text(&finding.message));
        Ok(ChecksOutput { findings })
    }

    /// What a checker reports. One that cannot be asked has found nothing, which is no pass: it is said, and blocks where the tool
    /// may.
    async fn run(&self, cx: &StepContext, tool: &LintTool, place: Place) -> AppResult<Vec<Finding>> {
        let root = &self.0.checkout.root;
        let (level, blocking) = match tool.enforcement {
            Enforcement::Deny => (Level::Broken, Level::Deny),
            Enforcement::Warn => (Level::Warn, Level::Warn),
        };
        cx.log(format!("{}\n", tool.command.join(" ")).as_bytes()).await;
        let directory = self.0.directory.run(&cx.run).join("reports").join(format!("{}.{}", tool.name, cx.attempt));
        match report(cx, root, tool, &directory, place).await? {
            Ok(mut findings) => {
                let errors = findings.iter_mut().filter(|finding| sarif::is_error(finding));
                errors.for_each(|finding| finding.level = blocking);
                Ok(findings)
            }
            Err(why) => {
                let message = format!("{} could not check: {why}", tool.name);
                let policy = Some(tool.span.clone());
                Ok(vec![Finding { policy, ..Finding::new(level, tool.name.as_str(), message) }])
            }
        }
    }
}

/// Our own checks, without those that the project does not want.
pub fn own(modules: &Modules<'_>, lint: &LintDefinition, wanted: impl Fn(&str) -> bool + Sync) -> Vec<Diagnostic> {
    let mut found = windlass_lang::lint::lint(modules, wanted);
    found.retain(|diagnostic| !lint.disable.contains(&diagnostic.code));
    found
}

fn finding(diagnostic: Diagnostic) -> Finding {
    let message = match &diagnostic.help {
        Some(help) => format!("{}: {help}", diagnostic.summary),
        None => diagnostic.summary.clone(),
    };
    Finding {
        rule: Some(diagnostic.code.clone()),
        code: diagnostic.labels.first().map(|label| label.span.clone()),
        severity: Some(if diagnostic.code == "WL705" { Severity::High } else { Severity::Low }),
        ..Finding::new(Level::Warn, "lint", message)
    }
}

/// Runs the tool and reads its report, or says why there is none.
async fn report(
    cx: &StepContext,
    root: &Path,
    tool: &LintTool,
    directory: &Path,
    place: Place,
) -> AppResult<Result<Vec<Finding>, String>> {
    let Some((program, arguments)) = tool.command.split_first() else { return Ok(Err("it has no command".into())) };
    let disk = |error: &std::io::Error| crate::settings::disk(directory, error);
    std::fs::create_dir_all(directory).map_err(|e| disk(&e))?;
    let reports = directory.display().to_string();
    let arguments = arguments.iter().map(|a| a.replace(LintTool::REPORT, &reports).into()).collect();
    let spec = Spec {
        environment: environment(&place),
        token: Token::parse(&cx.token),
        reach: vec![directory.to_owned()],
        place,
        ..Spec::here(program.into(), arguments, root.to_owned(), GRACE)
    };
    let mut said = Said { cx, out: Vec::new(), err: Vec::new(), overflowed: false };
    let ended = match process::run(&spec, &cx.cancel, &mut said).await {
        Ok(ended) => ended,
        Err(error) => return Ok(Err(error.to_string())),
    };
    cx.log(&said.err).await;
    if said.overflowed {
        return Ok(Err(format!("its report is larger than {} MB", REPORT >> 20)));
    }
    let files = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let text = match files.map(|entry| entry.path()).min() {
        Some(file) => std::fs::read(file).map_err(|e| disk(&e))?,
        None => said.out,
    };
    let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    // Checkers end with a status of their own when they have found something: only the report tells.
    Ok(sarif::findings(&String::from_utf8_lossy(&text), &root.display().to_string()).map_err(|error| {
        let first = String::from_utf8_lossy(&said.err);
        let first: String =
            first.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default().chars().take(200).collect();
        let status = ended.status;
        if first.is_empty() { format!("{error} ({status})") } else { format!("{error} ({status}: {first})") }
    }))
}

fn environment(place: &Place) -> BTreeMap<OsString, OsString> {
    let here = place.is_here();
    let names = ENVIRONMENT.iter().chain(OF_THE_MACHINE.iter().filter(|_| here));
    names.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}

/// Both streams apart.
struct Said<'a> {
    cx: &'a StepContext,
    out: Vec<u8>,
    err: Vec<u8>,
    overflowed: bool,
}

impl Listener for Said<'_> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.cx.process_started(pid).await.map_err(|error| error.to_string())
    }
    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        super::terraform::starts_elsewhere(self.cx, what).await
    }
    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let (to, limit) = match stream {
            Stream::Out => (&mut self.out, REPORT),
            Stream::Err => (&mut self.err, 1 << 20),
        };
        let room = limit.saturating_sub(to.len()).min(bytes.len());
        to.extend_from_slice(&bytes[..room]);
        self.overflowed |= stream == Stream::Out && room < bytes.len();
    }
}
