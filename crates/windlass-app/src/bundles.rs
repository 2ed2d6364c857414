//! Policies that lie elsewhere: fetched once, kept by what they hold, and never used when that is not what was pinned.

use crate::error::AppResult;
use crate::policy::hex;
use crate::project::Checkout;
use crate::settings::StateDirectory;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use windlass_drivers::bundle::{self, BundleError, Source};
use windlass_model::definition::{Definitions, PolicyDefinition};
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_policy::limits::Worker;

/// Where bundles are kept, and whether those that are not may be fetched.
#[derive(Debug, Clone)]
pub struct Bundles {
    directory: PathBuf,
    /// For what other programs have to read.
    pub scratch: PathBuf,
    /// What policies from elsewhere run in.
    pub worker: Option<Worker>,
    fetch: Fetch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    Missing,
    Never,
}

/// Path and text, sorted by path.
pub type Files = Vec<(String, String)>;

/// A bundle as `windlass policy pull` found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulled {
    pub policy: String,
    pub source: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub checksum: String,
    pub files: usize,
    pub state: PulledState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PulledState {
    /// It is what the definition says.
    AsDeclared,
    /// Its source pins it; a checksum would do so too.
    PinnedBySource,
    /// The definition says something else, or nothing that would pin it.
    NotDeclared,
}

impl Bundles {
    pub fn new(directory: &StateDirectory, fetch: Fetch) -> Self {
        Self { directory: directory.bundles(), scratch: directory.cache(), worker: None, fetch }
    }

    /// Lets what is in them be asked, in such a process.
    pub fn in_worker(self, worker: Option<Worker>) -> Self {
        Self { worker, ..self }
    }

    /// The files of a policy that has a source, checked against what pins it.
    pub fn get(&self, definition: &PolicyDefinition, text: &str) -> Result<Files, Box<Diagnostic>> {
        let source = parse(definition, text)?;
        let declared = definition.checksum.as_deref();
        if declared.is_none() && !source.is_pinned() {
            let summary = format!("policy `{}` comes from a source that can change: {text}", definition.name);
            return Err(found(
                definition,
                "WL471",
                summary,
                "pin it: `windlass policy pull` prints the checksum to write",
            ));
        }
        let name = match declared {
            Some(checksum) => Some(checksum.trim_start_matches("sha256:").to_owned()),
            None => std::fs::read_to_string(self.by_source(text)).ok(),
        };
        if let Some(name) = &name
            && let Ok(content) = std::fs::read(self.by_content(name))
        {
            let files: Files = serde_json::from_slice(&content).unwrap_or_default();
            if checksum(&files) == *name {
                return Ok(files);
            }
            let place = self.by_content(name);
            let summary = format!("the kept bundle of policy `{}` was changed: {}", definition.name, place.display());
            return Err(found(definition, "WL472", summary, "remove that file; it is fetched again"));
        }
        if self.fetch == Fetch::Never {
            let summary = format!("the bundle of policy `{}` is not kept on this machine: {text}", definition.name);
            return Err(found(definition, "WL473", summary, "run `windlass policy pull`"));
        }
        let files = self.fetch(&source).map_err(|error| unavailable(definition, text, &error))?;
        let sum = checksum(&files);
        if declared.is_some_and(|declared| declared.trim_start_matches("sha256:") != sum) {
            let summary =
                format!("the bundle of policy `{}` holds sha256:{sum}, not what its checksum says", definition.name);
            let help = "find out who changed it; after reading it, pin what `windlass policy pull` prints";
            return Err(found(definition, "WL472", summary, help));
        }
        self.keep(text, &sum, &files).map_err(|error| unavailable(definition, text, &BundleError::Io(error)))?;
        Ok(files)
    }

    /// Fetches every bundle anew and keeps it; what came of each, in order of the definitions, and what could not be fetched.
    pub fn pull(&self, definitions: &Definitions) -> (Vec<Pulled>, Vec<Diagnostic>) {
        let (mut pulled, mut failed) = (Vec::new(), Vec::new());
        for definition in &definitions.policies {
            let Some(text) = &definition.source else { continue };
            let fetched = parse(definition, text).and_then(|source| {
                let files = self.fetch(&source).map_err(|error| unavailable(definition, text, &error))?;
                let sum = checksum(&files);
                let state = match &definition.checksum {
                    Some(declared) if declared.trim_start_matches("sha256:") == sum => PulledState::AsDeclared,
                    None if source.is_pinned() => PulledState::PinnedBySource,
                    _ => PulledState::NotDeclared,
                };
                if state != PulledState::NotDeclared {
                    let kept = self.keep(text, &sum, &files);
                    kept.map_err(|error| unavailable(definition, text, &BundleError::Io(error)))?;
                }
                Ok((sum, files.len(), state))
            });
            match fetched {
                Ok((sum, files, state)) => pulled.push(Pulled {
                    policy: definition.name.clone(),
                    source: text.clone(),
                    checksum: format!("sha256:{sum}"),
                    files,
                    state,
                }),
                Err(diagnostic) => failed.push(*diagnostic),
            }
        }
        (pulled, failed)
    }

    fn fetch(&self, source: &Source) -> Result<Files, BundleError> {
        private(&self.directory)?;
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let scratch = self.directory.join(format!("fetch-{}-{number}", std::process::id()));
        // Of an earlier process of that number.
        let _ = std::fs::remove_dir_all(&scratch);
        let files = bundle::fetch(source, &scratch);
        let _ = std::fs::remove_dir_all(&scratch);
        files
    }

    fn keep(&self, source: &str, sum: &str, files: &Files) -> std::io::Result<()> {
        let content = serde_json::to_vec(files).map_err(std::io::Error::other)?;
        for (path, content) in [(self.by_content(sum), content.as_slice()), (self.by_source(source), sum.as_bytes())] {
            // Whole or not at all: another process may read it at the same time.
            let draft = path.with_extension(format!("draft-{}", std::process::id()));
            std::fs::write(&draft, content)?;
            std::fs::rename(&draft, &path)?;
        }
        Ok(())
    }

    fn by_content(&self, sum: &str) -> PathBuf {
        self.directory.join(format!("{sum}.json"))
    }
    fn by_source(&self, source: &str) -> PathBuf {
        self.directory.join(format!("{}.source", hex(&Sha256::digest(source))))
    }
}

/// What the work tree declares.
pub fn definitions(checkout: &Checkout) -> AppResult<(Definitions, Vec<Diagnostic>)> {
    Ok(windlass_lang::definitions::load(&*checkout.work_tree()?))
}

fn private(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Hexadecimal SHA-256 over paths and texts, in order of the paths.
pub fn checksum(files: &Files) -> String {
    let mut hash = Sha256::new();
    for (path, text) in files {
        hash.update(format!("{path}\0{}\0{text}", text.len()));
    }
    hex(&hash.finalize())
}

fn parse(definition: &PolicyDefinition, text: &str) -> Result<Source, Box<Diagnostic>> {
    Source::parse(text).map_err(|error| {
        let help =
            "write \"git::https://HOST/REPOSITORY.git//DIRECTORY?ref=TAG\" or \"oci://HOST/REPOSITORY:TAG@sha256:…\"";
        found(definition, "WL470", format!("the source of policy `{}` cannot be read: {error}", definition.name), help)
    })
}

fn unavailable(definition: &PolicyDefinition, text: &str, error: &BundleError) -> Box<Diagnostic> {
    let summary = format!("the bundle of policy `{}` cannot be fetched from {text}: {error}", definition.name);
    found(
        definition,
        "WL473",
        summary,
        "a policy that cannot be read would pass everything: nothing goes on without it",
    )
}

fn found(definition: &PolicyDefinition, code: &str, summary: String, help: &str) -> Box<Diagnostic> {
    Box::new(Diagnostic::new(Severity::Error, code, summary).at(definition.span.clone()).help(help))
}
