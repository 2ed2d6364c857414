//! The same decision by the `opa` program that is on the PATH. It is killed when its time is over, and it runs without the
//! builtins that reach outside.

use super::scan::Head;
use super::{Sources, Terms, Values};
use crate::limits::{Broken, Limits};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A gate must not call out, nor read what the machine is.
const OUTSIDE: [&str; 3] = ["http.send", "net.lookup_ip_addr", "opa.runtime"];

pub(super) struct Opa {
    name: String,
    files: Vec<(Arc<str>, String)>,
    data: Vec<(Arc<str>, Value)>,
    scratch: PathBuf,
    /// Asked once.
    capabilities: OnceLock<String>,
}

/// The files that one evaluation reads; gone when it is dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is in a private directory for such files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Opa {
    pub fn new(terms: &Terms, sources: &Sources) -> Self {
        let (files, data) = (sources.files.clone(), sources.data.clone());
        let (name, scratch) = (terms.name.clone(), terms.scratch.clone());
        Self { name, files, data, scratch, capabilities: OnceLock::new() }
    }

    pub fn values(&self, heads: &[Head], input: &Value, limits: &Limits) -> Values {
        let deadline = Instant::now() + limits.time;
        let memory = limits.memory;
        match self.evaluate(heads, input, deadline, memory, false) {
            // It may be written in the older version of the language; what is wrong in both is told of the newer.
            Err(first) if first.1.contains("rego_parse_error") => {
                self.evaluate(heads, input, deadline, memory, true).map_err(|_| first)
            }
            other => other,
        }
    }

    fn evaluate(&self, heads: &[Head], input: &Value, deadline: Instant, memory: u64, v0: bool) -> Values {
        let io = |error: std::io::Error| ("WL453", format!("cannot prepare files for opa: {error}"));
        let directory = self.write().map_err(io)?;
        let capabilities = match self.capabilities.get() {
            Some(known) => known,
            None => {
                let found = capabilities(deadline)?.to_string();
                self.capabilities.get_or_init(|| found)
            }
        };
        let file = directory.0.join("capabilities.json");
        std::fs::write(&file, capabilities).map_err(io)?;
        // One question for all rules; each is a list that is empty where the rule is undefined.
        let parts: Vec<String> = heads.iter().map(|head| format!("[v | v := {}]", reference(head))).collect();
        let query = format!("[{}]", parts.join(", "));
        let mut arguments = vec!["eval", "--format=json", "--stdin-input", "--strict-builtin-errors"];
        if v0 {
            arguments.push("--v0-compatible");
        }
        let (sources, file) = (directory.0.join("sources"), file.to_string_lossy().into_owned());
        let sources = sources.to_string_lossy().into_owned();
        arguments.extend(["--capabilities", &file, "--data", &sources, &query]);
        let output = run(&arguments, input.to_string().as_bytes(), deadline, Some(memory))?;
        if output.err.contains("out of memory") {
            return Err(("WL406", Broken::Memory(memory).to_string()));
        }
        let answer: Value = serde_json::from_slice(&output.out)
            .map_err(|_| ("WL453", format!("opa failed: {}", super::last_line(&output.err))))?;
        if let Some(error) = answer.get("errors").and_then(|errors| errors.get(0)) {
            let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            let line = error.pointer("/location/row").and_then(Value::as_u64).unwrap_or_default();
            let file = error.pointer("/location/file").and_then(Value::as_str).unwrap_or_default();
            // The number before the name says which file it is.
            let number = file.rsplit('/').next().and_then(|name| name.split_once('-')?.0.parse::<usize>().ok());
            let file = number.and_then(|number| self.files.get(number)).map_or(file, |(path, _)| path);
            return Err(("WL453", format!("opa: {} ({}) at {file}:{line}", text("message"), text("code"))));
        }
        let values = answer.pointer("/result/0/expressions/0/value").and_then(Value::as_array);
        let values = values.filter(|values| values.len() == heads.len() && output.success);
        let values =
            values.ok_or_else(|| ("WL453", format!("opa gave no answer: {}", super::last_line(&output.err))))?;
        Ok(values.iter().map(|value| Ok(value.get(0).cloned())).collect())
    }

    fn write(&self) -> std::io::Result<Directory> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = Directory(self.scratch.join(format!("opa-{}-{number}", std::process::id())));
        let sources = directory.0.join("sources");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&sources)?;
        for (index, (path, text)) in self.files.iter().enumerate() {
            // The name is for messages; the number keeps two of them apart.
            let name = path.replace('/', "_");
            std::fs::write(sources.join(format!("{index}-{name}")), text)?;
        }
        // Like the embedded engine, which knows no directories: all documents together.
        let mut data = Value::Object(serde_json::Map::new());
        for (_, value) in &self.data {
            merge(&mut data, value);
        }
        std::fs::write(sources.join("data.json"), data.to_string())?;
        Ok(directory)
    }
}

impl std::fmt::Debug for Opa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opa").field("name", &self.name).finish_non_exhaustive()
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// `data.a["b-c"].deny`
fn reference(head: &Head) -> String {
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    head.package.split('.').chain([head.name.as_str()]).fold("data".to_owned(), |path, part| {
        if plain(part) { format!("{path}.{part}") } else { format!("{path}[{}]", Value::from(part)) }
    })
}

/// What this opa can do, without what reaches outside.
fn capabilities(deadline: Instant) -> Result<Value, (&'static str, String)> {
    let output = run(&["capabilities", "--current"], &[], deadline, None)?;
    let mut found: Value = serde_json::from_slice(&output.out)
        .map_err(|_| ("WL453", format!("this opa does not say what it can do: {}", super::last_line(&output.err))))?;
    if let Some(Value::Array(builtins)) = found.get_mut("builtins") {
        builtins.retain(|builtin| {
            let name = builtin.get("name").and_then(Value::as_str).unwrap_or_default();
            !OUTSIDE.contains(&name)
        });
    }
    if let Value::Object(object) = &mut found {
        object.insert("allow_net".to_owned(), Value::Array(Vec::new()));
    }
    Ok(found)
}

/// Bytes of address space that opa reserves before it does anything.
const RESERVED: u64 = 1 << 30;

struct Output {
    out: Vec<u8>,
    err: String,
    success: bool,
}

/// Limits the address space, in KiB, to its first argument, and becomes opa.
const LIMITED: &str = "ulimit -c 0 && ulimit -v \"$0\" && exec opa \"$@\"";

/// `memory`: bytes it may use beyond what it reserves when it starts.
fn run(
    arguments: &[&str],
    input: &[u8],
    deadline: Instant,
    memory: Option<u64>,
) -> Result<Output, (&'static str, String)> {
    let mut command = match memory {
        None => Command::new("opa"),
        Some(bytes) => {
            let mut command = Command::new("sh");
            command.args(["-c", LIMITED]).arg((bytes.saturating_add(RESERVED) >> 10).to_string());
            command
        }
    };
    command.args(arguments).env_clear().process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ("WL452", "`engine = \"opa\"`, and there is no opa on the PATH".to_owned()),
        _ => ("WL452", format!("opa cannot be started: {error}")),
    })?;
    let (Some(mut to), Some(mut out), Some(mut err)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(("WL452", "the pipes of opa are missing".into()));
    };
    // All three at once: a full pipe would make both sides wait.
    std::thread::scope(|scope| {
        // What it does not read it does not need; whether it answered is seen below.
        scope.spawn(move || drop(to.write_all(input)));
        let errors = scope.spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        });
        let answer = scope.spawn(move || {
            let mut bytes = Vec::new();
            out.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut pause = Duration::from_millis(1);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Ok(None) => break Err(("WL406", "opa did not answer in time".to_owned())),
                Err(error) => break Err(("WL453", format!("cannot follow opa: {error}"))),
            }
        };
        if status.is_err() {
            // It has no children of its own; without it the pipes close.
            let _ = child.kill();
            let _ = child.wait();
        }
        let status = status?;
        let read = |error: std::io::Error| ("WL453", format!("cannot read what opa answers: {error}"));
        let joined = |result: std::thread::Result<std::io::Result<Vec<u8>>>| match result {
            Ok(result) => result.map_err(read),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let err = errors.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(read)?;
        Ok(Output { out: joined(answer.join())?, err, success: status.success() })
    })
}
