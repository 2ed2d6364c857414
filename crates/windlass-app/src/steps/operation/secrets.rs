//! Secrets of a run: those that were given as parameters, sealed with the installation's key as a ticket while the run lives, and
//! those that the operation declares, read on the machine that does the step.

use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::service::Service;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_drivers::process::{self, Listener, Spec, Stream};
use windlass_drivers::terraform::plan_file;
use windlass_engine::StepContext;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::operation::{SecretFrom, SecretSource};
use windlass_store::Store;

/// Kind of the tickets, which are named by runs. Backups leave tickets out.
const KIND: &str = "operation.secret";
/// Longest life of a ticket whose run never ended, microseconds: thirty days.
const KEPT: Micros = 30 * 86_400_000_000;
/// A secret is not longer, bytes.
const LONGEST: usize = 256 * 1024;
/// How long a program that tells a secret may take, and how long it is given after an interrupt.
const LIMIT: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(2);

fn purpose(run: &RunId) -> String {
    format!("secret parameters of run {run}")
}

/// Keeps secret parameters, by name, for the steps of a run that is about to be stored. Where a run of that id has some already,
/// those stay.
///
/// # Errors
/// The database cannot be written.
pub async fn seal(store: &Store, key: &[u8], run: &RunId, values: &BTreeMap<String, String>) -> AppResult<()> {
    if values.is_empty() {
        return Ok(());
    }
    let content = serde_json::to_vec(values).map_err(internal)?;
    let sealed = plan_file::seal(&content, key, &purpose(run)).map_err(internal)?;
    let text: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    store.ticket_put(KIND, run.as_str(), &text, store.now().await? + KEPT).await?;
    Ok(())
}

/// The secret parameters of a run.
///
/// # Errors
/// They are not there any more, or were sealed with another key.
pub async fn open(store: &Store, key: &[u8], run: &RunId) -> AppResult<BTreeMap<String, String>> {
    let gone = |why: &str| {
        let diagnostic = Diagnostic::error("WL548", format!("the secret parameters of run {run} {why}"))
            .help("run the operation again: its secrets are asked for anew");
        AppError::new(ErrorKind::Refused, diagnostic)
    };
    let text = store.ticket_get(KIND, run.as_str()).await?.ok_or_else(|| gone("are not kept any more"))?;
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let sealed: Option<Vec<u8>> = text.as_bytes().chunks(2).map(digits).collect();
    let content = plan_file::open(&sealed.unwrap_or_default(), key, &purpose(run));
    let content = content.map_err(|_| gone("were sealed with another key"))?;
    serde_json::from_slice(&content).map_err(internal)
}

/// Forgets the secret parameters of a run that has ended.
///
/// # Errors
/// The database cannot be written.
pub async fn forget(store: &Store, run: &RunId) -> AppResult<()> {
    store.ticket_take(KIND, run.as_str()).await?;
    Ok(())
}

/// Reads a declared secret, which the step hides from then on. `directory` is where programs run.
///
/// # Errors
/// It is not there, or is no text.
pub async fn read(cx: &StepContext, source: &SecretSource, directory: &Path) -> AppResult<String> {
    let value = value(source, directory, Some(cx)).await.map_err(|why| unreadable(source, &why))?;
    cx.hide([value.clone()]).await;
    Ok(value)
}

/// The value of a declared secret on this machine, for an attempt of a step or for the server itself; or why there is none.
pub(crate) async fn value(source: &SecretSource, directory: &Path, cx: Option<&StepContext>) -> Result<String, String> {
    let value = match &source.from {
        SecretFrom::Env(name) => std::env::var(name).map_err(|_| format!("the variable {name} is not set here")),
        SecretFrom::File(path) => match std::fs::read(path) {
            Ok(content) if content.len() > LONGEST => Err(format!("{path} is longer than {LONGEST} bytes")),
            Ok(content) => String::from_utf8(content).map_err(|_| format!("{path} is no text")),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        },
        SecretFrom::Command(argv) => said(cx, argv, directory).await,
    }?;
    Ok(match source.from {
        SecretFrom::Env(_) => value,
        SecretFrom::File(_) | SecretFrom::Command(_) => super::outputs::without_line_end(&value).to_owned(),
    })
}

fn unreadable(source: &SecretSource, why: &str) -> AppError {
    let diagnostic = Diagnostic::error("WL533", format!("the secret `{}` cannot be read: {why}", source.name))
        .at(source.span.clone())
        .help("it is read on the machine that does the step: set it for the worker with the step's runner");
    AppError::new(ErrorKind::Unavailable, diagnostic)
}

/// Standard output of a program, which nobody else gets to see.
async fn said(cx: Option<&StepContext>, argv: &[String], directory: &Path) -> Result<String, String> {
    let (program, arguments) = argv.split_first().ok_or("it has no command")?;
    let arguments = arguments.iter().map(Into::into).collect();
    let spec = Spec {
        // What talks to a vault finds its own credentials there.
        environment: std::env::vars_os().collect(),
        ..Spec::here(super::files::program(program, directory), arguments, directory.to_owned(), GRACE)
    };
    let stop = cx.map_or_else(CancellationToken::new, |cx| cx.cancel.child_token());
    let mut heard = Heard { cx, out: Vec::new(), err: Vec::new() };
    let late = async {
        tokio::time::sleep(LIMIT).await;
        stop.cancel();
        // It ends with its program.
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = process::run(&spec, &stop, &mut heard) => ended.map_err(|error| error.to_string())?,
        () = late => return Err("it never ended".into()),
    };
    if stop.is_cancelled() {
        return Err(format!("`{program}` did not end within {} s", LIMIT.as_secs()));
    }
    if !ended.status.success() {
        let why = super::programs::last_line(&heard.err).map_or_else(String::new, |line| format!(": {line}"));
        return Err(format!("`{program}` ended with {}{why}", ended.status));
    }
    if heard.out.len() > LONGEST {
        return Err(format!("`{program}` says more than {LONGEST} bytes"));
    }
    String::from_utf8(heard.out).map_err(|_| format!("what `{program}` says is no text"))
}

struct Heard<'a> {
    cx: Option<&'a StepContext>,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Listener for Heard<'_> {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        match self.cx {
            Some(cx) => cx.process_started(pid).await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let to = if stream == Stream::Out { &mut self.out } else { &mut self.err };
        let room = (LONGEST + 1).saturating_sub(to.len()).min(bytes.len());
        to.extend_from_slice(&bytes[..room]);
    }
}

/// Secret parameters and those declared secrets that `named` says are used, by root (`param`, `secret`) and name; hidden.
///
/// # Errors
/// One cannot be read.
pub async fn of_step(
    service: &Service,
    cx: &StepContext,
    parameters: &[String],
    declared: &[&SecretSource],
) -> AppResult<(BTreeMap<String, String>, BTreeMap<String, String>)> {
    let given =
        if parameters.is_empty() { BTreeMap::new() } else { open(&service.store, &service.key, &cx.run).await? };
    // All of them, whether this step uses them or not: what it talks to may know them.
    cx.hide(given.values().cloned()).await;
    let mut secrets = BTreeMap::new();
    for source in declared {
        secrets.insert(source.name.clone(), read(cx, source, &service.checkout.root).await?);
    }
    Ok((given, secrets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sealed_is_of_one_run_and_one_key_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("w.db")).await.unwrap();
        let (run, other) = (RunId::new("r1"), RunId::new("r2"));
        let values = BTreeMap::from([("password".to_owned(), "hunter22".to_owned())]);
        seal(&store, b"key", &run, &values).await.unwrap();
        let kept = store.ticket_get(KIND, "r1").await.unwrap().unwrap();
        assert!(!kept.contains("hunter22"));
        assert_eq!(open(&store, b"key", &run).await.unwrap(), values);
        let code =
            async |key: &[u8], run: &RunId| open(&store, key, run).await.unwrap_err().diagnostics[0].code.clone();
        assert_eq!(code(b"other", &run).await, "WL548");
        assert_eq!(code(b"key", &other).await, "WL548");
        store.ticket_put(KIND, "r2", &kept, Micros::MAX).await.unwrap();
        assert_eq!(code(b"key", &other).await, "WL548", "another run's do not open");
        forget(&store, &run).await.unwrap();
        assert_eq!(code(b"key", &run).await, "WL548");
        seal(&store, b"key", &run, &BTreeMap::new()).await.unwrap();
        assert_eq!(store.ticket_get(KIND, "r1").await.unwrap(), None);
    }
}
