//! Policies, data and inputs as files.

use super::settings::Settings;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_policy::Mode;
use windlass_policy::input::{self, Parser};

/// Rego files: path as given, and text.
pub type Modules = Vec<(Arc<str>, String)>;
/// Data documents with the file they come from.
pub type Data = Vec<(Arc<str>, Value)>;

/// A file to judge.
pub struct Input {
    /// As it was named.
    pub name: String,
    pub path: PathBuf,
    pub parser: Parser,
    pub contents: Value,
}

/// All files below `paths` that `wanted` wants, in order and each once; a path that is not there is a diagnostic.
fn files(
    directory: &Path,
    paths: &[String],
    wanted: &dyn Fn(&str) -> bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for path in paths {
        let full = directory.join(path);
        if full.is_dir() {
            let mut below = Vec::new();
            walk(&full, path.trim_end_matches('/'), &mut below);
            below.sort();
            found.extend(below.into_iter().filter(|name| wanted(name)));
        } else if full.exists() {
            found.push(path.clone());
        } else {
            diagnostics.push(Diagnostic::error("WL433", format!("there is no file or directory {path}")));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|name| seen.insert(name.clone()));
    found
}

fn walk(directory: &Path, prefix: &str, out: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = match prefix {
            "." | "" => name.clone(),
            prefix => format!("{prefix}/{name}"),
        };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !windlass_lang::tree::is_internal(&name) {
                walk(&entry.path(), &path, out);
            }
        } else if entry.path().is_file() {
            out.push(path);
        }
    }
}

/// All Rego files at `paths`.
///
/// # Errors
/// WL433 for a path that is not there or holds none, WL401 for a file that cannot be read.
pub fn modules(directory: &Path, paths: &[String]) -> Result<Modules, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut modules = Vec::new();
    for path in files(directory, paths, &|name| name.ends_with(".rego"), &mut diagnostics) {
        match std::fs::read_to_string(directory.join(&path)) {
            Ok(text) => modules.push((path.into(), text)),
            Err(error) => diagnostics.push(
                Diagnostic::error("WL401", format!("cannot read policy file {path}: {error}")).at(Span::file(path)),
            ),
        }
    }
    if modules.is_empty() && diagnostics.is_empty() {
        diagnostics.push(
            Diagnostic::error("WL433", format!("there is no Rego file under {}", paths.join(", ")))
                .help("`--policy` says where the policies are"),
        );
    }
    if diagnostics.is_empty() { Ok(modules) } else { Err(diagnostics) }
}

/// All JSON and YAML files at `paths`; below a directory the names of sub-directories become keys.
///
/// # Errors
/// WL433 and WL430.
pub fn data(directory: &Path, paths: &[String]) -> Result<Data, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut data = Vec::new();
    for root in paths {
        let wanted = |name: &str| [".json", ".yaml", ".yml"].iter().any(|end| name.ends_with(end));
        for path in files(directory, std::slice::from_ref(root), &wanted, &mut diagnostics) {
            let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(&path).trim_start_matches('/');
            let below = if root == "." { path.as_str() } else { below };
            let name: Arc<str> = path.as_str().into();
            let parsed = Parser::of_path(&path)
                .map_err(|why| Box::new(Diagnostic::error("WL431", why)))
                .and_then(|parser| input::parse(parser, &name, &read(directory, &path)?));
            match parsed {
                Ok(value) => {
                    let keys = below.rsplit_once('/').map_or("", |(directories, _)| directories);
                    let keys = keys.split('/').filter(|key| !key.is_empty());
                    let value =
                        keys.rev().fold(value, |value, key| Value::Object(Map::from_iter([(key.to_owned(), value)])));
                    data.push((name, value));
                }
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        }
    }
    if diagnostics.is_empty() { Ok(data) } else { Err(diagnostics) }
}

/// The JSON files among a project's policies, as a review takes them: each is the whole of `data`.
///
/// # Errors
/// WL433 and WL430.
pub fn data_beside(directory: &Path, paths: &[String]) -> Result<Data, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let mut data = Vec::new();
    let found = files(directory, paths, &|name| name.ends_with(".json"), &mut diagnostics);
    for path in found.into_iter().filter(|path| path.ends_with(".json")) {
        let name: Arc<str> = path.as_str().into();
        match read(directory, &path).and_then(|text| input::parse(Parser::Json, &name, &text)) {
            Ok(value) => data.push((name, value)),
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    if diagnostics.is_empty() { Ok(data) } else { Err(diagnostics) }
}

fn read(directory: &Path, path: &str) -> Result<String, Box<Diagnostic>> {
    std::fs::read_to_string(directory.join(path)).map_err(|error| {
        Box::new(Diagnostic::error("WL430", format!("cannot read {path}: {error}")).at(Span::file(path)))
    })
}

/// The files to judge; of directories those whose kind is known. `-` is `stdin`.
///
/// # Errors
/// WL430 to WL433, for all files at once.
pub fn inputs(
    directory: &Path,
    paths: &[String],
    settings: &Settings,
    stdin: &mut dyn std::io::Read,
) -> Result<Vec<Input>, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let ignore = match settings.ignore.as_deref().map(regex::Regex::new).transpose() {
        Ok(ignore) => ignore,
        Err(error) => {
            return Err(vec![Diagnostic::error("WL432", format!("`--ignore` is no regular expression: {error}"))]);
        }
    };
    let ignored = |name: &str| ignore.as_ref().is_some_and(|ignore| ignore.is_match(name));
    let wanted = |name: &str| {
        !ignored(name) && (settings.parser.is_some() || Parser::of_path(name).is_ok_and(|_| has_kind(name)))
    };
    let (standard, named): (Vec<String>, Vec<String>) = paths.iter().cloned().partition(|path| path == "-");
    let names: Vec<String> =
        files(directory, &named, &wanted, &mut diagnostics).into_iter().filter(|name| !ignored(name)).collect();
    if names.is_empty() && standard.is_empty() && diagnostics.is_empty() {
        diagnostics.push(
            Diagnostic::error("WL433", format!("there is nothing to judge in {}", paths.join(", ")))
                .help("a directory is searched for files of known kinds; name the files, or the kind with `--parser`"),
        );
    }
    let mut inputs = Vec::new();
    if !standard.is_empty() {
        let mut bytes = Vec::new();
        let name = settings.stdin_filename.clone().unwrap_or_else(|| "-".into());
        match stdin.read_to_end(&mut bytes) {
            Ok(_) => inputs.push(parse(directory, &name, bytes, settings)),
            Err(error) => diagnostics.push(Diagnostic::error("WL430", format!("cannot read standard input: {error}"))),
        }
    }
    for name in names {
        match std::fs::read(directory.join(&name)) {
            Ok(bytes) => inputs.push(parse(directory, &name, bytes, settings)),
            Err(error) => diagnostics
                .push(Diagnostic::error("WL430", format!("cannot read {name}: {error}")).at(Span::file(name.clone()))),
        }
    }
    let mut read = Vec::new();
    for input in inputs {
        match input {
            Ok(input) => read.push(input),
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    if diagnostics.is_empty() { Ok(read) } else { Err(diagnostics) }
}

/// Whether the name says the kind: a file without an extension in a directory could be anything.
fn has_kind(name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    base.contains('.') || !matches!(Parser::of_path(name), Ok(Parser::Yaml))
}

fn parse(directory: &Path, name: &str, bytes: Vec<u8>, settings: &Settings) -> Result<Input, Box<Diagnostic>> {
    let path = directory.join(name);
    if bytes.starts_with(b"PK\x03\x04") && settings.parser.is_none() {
        let contents = render_plan(&path, name)?;
        return Ok(Input { name: name.to_owned(), path, parser: Parser::Json, contents });
    }
    let parser = match settings.parser {
        Some(parser) => parser,
        None => Parser::of_path(name).map_err(|why| {
            Diagnostic::error("WL431", format!("{name}: {why}")).help("name the kind with `--parser`")
        })?,
    };
    let text = input::decode(name, bytes)?;
    let contents = input::parse(parser, &name.into(), &text)?;
    if settings.mode == Mode::Strict && settings.parser.is_none() && input::is_guess(name, &contents) {
        let summary = format!("{name}: its name does not say what it is, and as YAML it is one plain text");
        return Err(Box::new(
            Diagnostic::error("WL431", summary)
                .at(Span::file(name))
                .help("name the kind with `--parser`, or for standard input a name with `--stdin-filename`"),
        ));
    }
    Ok(Input { name: name.to_owned(), path, parser, contents })
}

/// A binary plan, rendered by the tool that made it, or that is there.
fn render_plan(path: &Path, name: &str) -> Result<Value, Box<Diagnostic>> {
    let fail = |why: String| {
        Box::new(
            Diagnostic::error("WL430", format!("{name} is a saved plan that cannot be rendered: {why}"))
                .at(Span::file(name))
                .help("render it where it was made: terraform show -json PLAN > plan.json"),
        )
    };
    let absolute = std::path::absolute(path).map_err(|error| fail(error.to_string()))?;
    let directory = absolute.parent().unwrap_or(Path::new("."));
    let mut last = "neither terraform nor tofu is on the PATH".to_owned();
    for tool in ["terraform", "tofu"] {
        let output = std::process::Command::new(tool)
            .args(["show", "-json"])
            .arg(&absolute)
            .current_dir(directory)
            .env("CHECKPOINT_DISABLE", "1")
            .stdin(std::process::Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                return serde_json::from_slice(&output.stdout).map_err(|error| fail(error.to_string()));
            }
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                let line =
                    text.lines().map(|line| line.trim_matches(['│', '╷', '╵', ' '])).find(|line| !line.is_empty());
                last = format!("{tool}: {}", line.unwrap_or("it failed"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => last = format!("{tool}: {error}"),
        }
    }
    Err(fail(last))
}
