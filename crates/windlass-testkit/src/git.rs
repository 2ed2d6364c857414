//! The git program in a repository of ours, untouched by the configuration of the machine.

use crate::TestkitError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A work tree made by [`Git::init`].
#[derive(Debug, Clone)]
pub struct Git {
    root: PathBuf,
}

/// A name and a mail address.
pub type Identity = (&'static str, &'static str);

impl Git {
    /// `git init` with the branch `main` in `root`, which must exist.
    ///
    /// # Errors
    /// When git is missing or fails.
    pub fn init(root: &Path) -> Result<Self, TestkitError> {
        let git = Self::open(root);
        git.run(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(git)
    }

    /// A work tree that is there already.
    pub fn open(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Runs git and gives its standard output.
    ///
    /// # Errors
    /// When git is missing or fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, TestkitError> {
        self.run_in(arguments, &[])
    }

    /// Sets a value for this repository only.
    ///
    /// # Errors
    /// When git is missing or fails.
    pub fn config(&self, name: &str, value: &str) -> Result<(), TestkitError> {
        self.run(&["config", name, value]).map(drop)
    }

    /// Commits what is in the index. `date` is in ISO 8601 and used for author and committer, so that ids repeat.
    ///
    /// # Errors
    /// When git is missing or fails, also when there is nothing to commit.
    pub fn commit(&self, author: Identity, date: &str, message: &str) -> Result<(), TestkitError> {
        let who = [
            ("GIT_AUTHOR_NAME", author.0),
            ("GIT_AUTHOR_EMAIL", author.1),
            ("GIT_AUTHOR_DATE", date),
            ("GIT_COMMITTER_NAME", author.0),
            ("GIT_COMMITTER_EMAIL", author.1),
            ("GIT_COMMITTER_DATE", date),
        ];
        self.run_in(&["commit", "--quiet", "--no-verify", "--message", message], &who).map(drop)
    }

    fn run_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<String, TestkitError> {
        let mut command = Command::new("git");
        isolate(&mut command);
        command.args([
            "-c",
            "commit.gpgsign=false",
            "-c",
            "core.autocrlf=false",
            "-c",
            "gc.auto=0",
            "-c",
            "maintenance.auto=false",
        ]);
        command.args(arguments).current_dir(&self.root).envs(environment.iter().copied());
        let output = command.output().map_err(|source| TestkitError::Start { program: "git".into(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(TestkitError::Failed {
            command: format!("git {}", arguments.join(" ")),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// Takes away what the machine's configuration or a surrounding git command (a hook) would add.
pub(crate) fn isolate(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C.UTF-8");
}
