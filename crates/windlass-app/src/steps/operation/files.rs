//! Files of a step: paths below the repository, the directories of a run, and what is kept of what a step leaves.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::Service;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use windlass_engine::StepContext;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::InstanceId;
use windlass_store::{ArtefactKind, NewArtefact};

/// The largest file that is kept, and the most files of a step.
const LARGEST: u64 = 16 << 20;
const MOST: usize = 100;

/// A path below the root of the repository.
///
/// # Errors
/// It leads out of it.
pub fn below(root: &Path, path: &str) -> AppResult<PathBuf> {
    let mut found = root.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => found.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) | Component::RootDir => {
                let summary = format!("`{path}` is no path below the root of the repository");
                let diagnostic = Diagnostic::error("WL534", summary);
                return Err(AppError::new(ErrorKind::Definition, diagnostic.help("write it relative to the root")));
            }
        }
    }
    Ok(found)
}

/// A program as it is found: one that is named with a directory is of the step's directory, another is looked for on the PATH.
pub fn program(name: &str, directory: &Path) -> PathBuf {
    if name.contains('/') { directory.join(name) } else { name.into() }
}

/// What is on the disk for an attempt alone, and its home, which all steps of the run have.
pub struct Scratch {
    /// Of this attempt.
    pub own: PathBuf,
    pub home: PathBuf,
}

impl Scratch {
    /// Makes the directories, which nobody else can read.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn make(service: &Service, cx: &StepContext, what: &str) -> AppResult<Self> {
        let run = std::path::absolute(service.directory.run(&cx.run));
        let run = run.map_err(|error| crate::settings::disk(Path::new("."), &error))?;
        let name = format!("{}.{}.{what}", InstanceId::new(cx.step.as_str()).file_name(), cx.attempt);
        let scratch = Self { own: run.join("steps").join(name), home: run.join("home") };
        for directory in [&scratch.own, &scratch.home] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| crate::settings::disk(directory, &error))?;
        }
        Ok(scratch)
    }
}

/// Keeps the files below `directory` that match. Secrets are taken out of those that are text; links are not followed.
///
/// # Errors
/// A pattern is wrong, there is too much of them, or they cannot be kept.
pub async fn keep(service: &Service, cx: &StepContext, directory: &Path, patterns: &[String]) -> AppResult<usize> {
    if patterns.is_empty() {
        return Ok(0);
    }
    let wrong =
        |summary: String, help: &str| AppError::new(ErrorKind::Refused, Diagnostic::error("WL535", summary).help(help));
    let mut matchers = Vec::new();
    for pattern in patterns {
        let matcher = windlass_lang::glob(pattern.trim_start_matches("./"));
        matchers
            .push(matcher.map_err(|error| wrong(error.to_string(), "`*` is within a directory, `**` over several"))?);
    }
    let found = found(directory, &matchers).map_err(|error| crate::settings::disk(directory, &error))?;
    if found.len() > MOST {
        return Err(wrong(
            format!("the step leaves {} artefacts, more than {MOST}", found.len()),
            "put them into an archive",
        ));
    }
    let mask = cx.mask().await;
    for (name, size) in &found {
        if *size > LARGEST {
            let summary = format!("the artefact {name} is larger than {} MiB", LARGEST >> 20);
            return Err(wrong(summary, "keep large files where they belong, and their place in an output"));
        }
        let path = directory.join(name);
        let content = std::fs::read(&path).map_err(|error| crate::settings::disk(&path, &error))?;
        let content = match String::from_utf8(content) {
            Ok(text) => mask.text(&text).into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        let of = NewArtefact {
            kind: ArtefactKind::File,
            run: cx.run.clone(),
            subject: format!("{}/{name}", cx.step),
            number: i64::from(cx.attempt),
        };
        service.store.artefact_put(&of, content).await?;
        cx.log(format!("windlass: kept {name} ({size} bytes)\n").as_bytes()).await;
    }
    Ok(found.len())
}

/// Names relative to the directory, sorted, with sizes.
fn found(directory: &Path, matchers: &[globset::GlobMatcher]) -> std::io::Result<Vec<(String, u64)>> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(here) = left.pop() {
        let entries = match std::fs::read_dir(&here) {
            // A step may have removed its directory.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let Some(name) = path.strip_prefix(directory).ok().and_then(Path::to_str) else { continue };
            if kind.is_dir() && entry.file_name() != ".git" && entry.file_name() != ".windlass" {
                left.push(path);
            } else if kind.is_file() && matchers.iter().any(|matcher| matcher.is_match(name)) {
                found.push((name.to_owned(), entry.metadata()?.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        let check = |path: &str, want: Option<&str>| {
            assert_eq!(below(Path::new("/r"), path).ok(), want.map(PathBuf::from), "{path}");
        };
        check("", Some("/r"));
        check("./a/./b", Some("/r/a/b"));
        check("a..b", Some("/r/a..b"));
        for wrong in ["..", "a/../b", "/etc"] {
            check(wrong, None);
        }
        assert_eq!(program("./dump", Path::new("/r/a")), Path::new("/r/a/./dump"));
        assert_eq!(program("/bin/sh", Path::new("/r/a")), Path::new("/bin/sh"));
        assert_eq!(program("sh", Path::new("/r/a")), Path::new("sh"));
    }

    #[test]
    fn what_matches_is_found_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("out/deep")).unwrap();
        std::fs::create_dir_all(root.path().join(".git")).unwrap();
        for name in ["out/a.log", "out/deep/b.log", "out/c.txt", ".git/d.log"] {
            std::fs::write(root.path().join(name), "xy").unwrap();
        }
        std::os::unix::fs::symlink("/etc/hostname", root.path().join("out/link.log")).unwrap();
        let names = |pattern: &str| {
            let matcher = windlass_lang::glob(pattern).unwrap();
            found(root.path(), &[matcher]).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("out/*.log"), ["out/a.log"]);
        assert_eq!(names("**/*.log"), ["out/a.log", "out/deep/b.log"]);
    }
}
