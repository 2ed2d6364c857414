//! git, through the `git` program: objects are read directly, and nothing is ever checked out but in [`mirror`].

mod commits;
mod fetch;
pub mod mirror;
mod trees;

pub use trees::{GitTree, WorkTree};

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use windlass_model::affected::{ChangeKind, PathChange};
use windlass_model::diagnostic::Diagnostic;

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("git is not installed")]
    Missing,
    #[error("{0} is not in a git repository")]
    NotARepository(PathBuf),
    #[error("{0} is a bare repository")]
    Bare(PathBuf),
    #[error("git does not know the revision `{0}`")]
    UnknownRevision(String),
    #[error("this clone is shallow: the common ancestor of {0} and {1} is not in it")]
    Shallow(String, String),
    #[error("{0} and {1} have no common ancestor")]
    NoMergeBase(String, String),
    #[error("git {command} failed: {message}")]
    Failed { command: String, message: String },
    #[error("cannot run git: {0}")]
    Io(#[from] std::io::Error),
}

impl GitError {
    /// The request was wrong, as opposed to git or the machine.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NotARepository(_)
                | Self::Bare(_)
                | Self::UnknownRevision(_)
                | Self::NoMergeBase(..)
                | Self::Shallow(..)
        )
    }

    pub fn diagnostic(&self) -> Diagnostic {
        let (code, help) = match self {
            Self::Missing => ("WL302", "install git, e.g. `apt-get install git`"),
            Self::NotARepository(_) => {
                ("WL303", "run this inside a repository, or make one with `git init` and a first commit")
            }
            Self::Bare(_) => ("WL303", "run this in a clone with a work tree"),
            Self::UnknownRevision(_) => (
                "WL304",
                "fetch it first, or name another branch, tag or commit; a new repository needs a first commit",
            ),
            Self::Shallow(..) => {
                ("WL305", "fetch the history: `git fetch --unshallow` (in CI, set the checkout's fetch depth to 0)")
            }
            Self::NoMergeBase(..) => {
                ("WL306", "name a base that shares history with this branch, e.g. `--base HEAD~1`")
            }
            Self::Failed { .. } | Self::Io(_) => ("WL307", "run the same git command by hand to see more"),
        };
        Diagnostic::error(code, self.to_string()).help(help)
    }
}

/// What a comparison goes up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Commit(String),
    /// The files as they are.
    WorkTree,
}

/// A repository with a work tree.
#[derive(Debug, Clone)]
pub struct GitRepository {
    root: PathBuf,
}

/// `git` in `directory` with a clean environment of `GIT_*`, without optional locks.
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(["-c", "core.quotepath=off", "-c", "core.fsmonitor=false"]);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GIT_")
            && !matches!(
                &*text,
                "GIT_AUTHOR_NAME"
                    | "GIT_AUTHOR_EMAIL"
                    | "GIT_COMMITTER_NAME"
                    | "GIT_COMMITTER_EMAIL"
                    | "GIT_CONFIG_GLOBAL"
                    | "GIT_CONFIG_SYSTEM"
            )
        {
            command.env_remove(name);
        }
    }
    command.env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
    run_prepared(command(directory), arguments, None)
}

/// Runs `command` with `arguments` and `input` as its standard input, and gives what it printed.
fn run_prepared(mut command: Command, arguments: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, GitError> {
    command.args(arguments).stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = spawn(&mut command)?;
    let sent = match (input, child.stdin.take()) {
        // Commands that take input read all of it before they answer.
        (Some(input), Some(mut pipe)) => pipe.write_all(input),
        _ => Ok(()),
    };
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(failed(arguments, &output.stderr));
    }
    sent?;
    Ok(output.stdout)
}

/// Starts git with pipes for what it prints.
fn spawn(command: &mut Command) -> Result<Child, GitError> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => GitError::Missing,
        _ => GitError::Io(error),
    })
}

/// The command said no; `complaints` are from its standard error.
fn failed(arguments: &[&str], complaints: &[u8]) -> GitError {
    let message = String::from_utf8_lossy(complaints).trim().to_owned();
    GitError::Failed { command: arguments.first().copied().unwrap_or_default().to_owned(), message }
}

/// Runs git and hands on each NUL-terminated entry of its output as it comes.
fn run_by_entry(directory: &Path, arguments: &[&str], mut each: impl FnMut(&[u8])) -> Result<(), GitError> {
    let mut child = spawn(command(directory).args(arguments))?;
    let (Some(output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(GitError::Io(std::io::Error::other("the pipes of git are missing")));
    };
    // Complaints are read beside the output: git would wait with a full pipe.
    let (read, message) = std::thread::scope(|scope| {
        let complaints = scope.spawn(move || {
            let mut message = Vec::new();
            errors.read_to_end(&mut message).map(|_| message)
        });
        let mut output = BufReader::with_capacity(1 << 16, output);
        let mut entry = Vec::new();
        let read = loop {
            entry.clear();
            match output.read_until(0, &mut entry) {
                Ok(0) => break Ok(()),
                Ok(_) => each(entry.strip_suffix(&[0]).unwrap_or(&entry)),
                Err(error) => break Err(error),
            }
        };
        (read, complaints.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let status = child.wait()?;
    read?;
    if status.success() {
        return Ok(());
    }
    Err(failed(arguments, &message?))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned()
}

impl GitRepository {
    /// The repository `directory` lies in.
    ///
    /// # Errors
    /// git is missing, there is no repository, or it is bare.
    pub fn open(directory: &Path) -> Result<Self, GitError> {
        match run(directory, &["rev-parse", "--show-toplevel"]) {
            Ok(root) => Ok(Self { root: PathBuf::from(text(root)) }),
            Err(GitError::Failed { message, .. }) if message.contains("must be run in a work tree") => {
                Err(GitError::Bare(directory.to_owned()))
            }
            Err(GitError::Failed { message, .. }) if message.contains("not a git repository") => {
                Err(GitError::NotARepository(directory.to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Commits alone, of a repository that may have no work tree.
    pub(crate) fn bare(directory: &Path) -> Self {
        Self { root: directory.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn git(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        run(&self.root, arguments)
    }

    /// The commit a revision names, all digits.
    ///
    /// # Errors
    /// [`GitError::UnknownRevision`].
    pub fn resolve(&self, revision: &str) -> Result<String, GitError> {
        let wanted = format!("{revision}^{{commit}}");
        match self.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]) {
            Ok(commit) => Ok(text(commit)),
            Err(GitError::Failed { .. }) => Err(GitError::UnknownRevision(revision.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// The best common ancestor.
    ///
    /// # Errors
    /// There is none, or this clone is too shallow to know.
    pub fn merge_base(&self, a: &str, b: &str) -> Result<String, GitError> {
        if a == b {
            return Ok(a.to_owned());
        }
        match self.git(&["merge-base", "--end-of-options", a, b]) {
            Ok(commit) => Ok(text(commit)),
            Err(GitError::Failed { .. }) if self.is_shallow() => Err(GitError::Shallow(a.to_owned(), b.to_owned())),
            Err(GitError::Failed { .. }) => Err(GitError::NoMergeBase(a.to_owned(), b.to_owned())),
            Err(error) => Err(error),
        }
    }

    pub fn is_shallow(&self) -> bool {
        self.git(&["rev-parse", "--is-shallow-repository"]).is_ok_and(|answer| answer.starts_with(b"true"))
    }

    /// Name of the checked-out branch; `None` when detached.
    pub fn current_branch(&self) -> Option<String> {
        self.git(&["symbolic-ref", "--quiet", "--short", "HEAD"]).ok().map(text)
    }

    /// What origin calls its default branch, else `main` or `master`, whichever exists.
    pub fn default_branch(&self) -> Option<String> {
        if let Ok(name) = self.git(&["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"]) {
            let name = text(name);
            if self.resolve(&name).is_ok() {
                return Some(name);
            }
        }
        ["main", "master"]
            .into_iter()
            .find(|name| self.resolve(&format!("refs/heads/{name}")).is_ok())
            .map(str::to_owned)
    }

    /// The commit that is checked out, and the paths that differ from it or are untracked (and not ignored), sorted.
    ///
    /// # Errors
    /// git failed, or there is no commit yet.
    pub fn status(&self) -> Result<(String, Vec<String>), GitError> {
        let arguments = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames"];
        let output = self.git(&arguments)?;
        let (mut head, mut paths) = (None, Vec::new());
        for entry in output.split(|b| *b == 0).filter(|entry| !entry.is_empty()) {
            let entry = String::from_utf8_lossy(entry);
            // The path is the last field; how many stand before it depends on the kind of entry.
            let fields = match entry.as_bytes()[0] {
                b'#' => {
                    let oid = entry.strip_prefix("# branch.oid ").filter(|oid| *oid != "(initial)");
                    head = oid.map(str::to_owned).or(head);
                    continue;
                }
                b'?' => 2,
                b'u' => 11,
                _ => 9,
            };
            paths.extend(entry.splitn(fields, ' ').last().map(str::to_owned));
        }
        paths.sort();
        Ok((head.ok_or_else(|| GitError::UnknownRevision("HEAD".into()))?, paths))
    }

    /// `Name <mail>` of everyone who wrote a commit between `base` (exclusive) and `head`, also together with others
    /// (`Co-authored-by`), sorted. As the commits have it: a `.mailmap` would be that of the change.
    ///
    /// # Errors
    /// git failed.
    pub fn authors(&self, base: &str, head: &str) -> Result<Vec<String>, GitError> {
        let range = format!("{base}..{head}");
        let format = "--format=%an <%ae>%n%(trailers:key=Co-authored-by,valueonly,unfold)";
        let output = String::from_utf8_lossy(&self.git(&["log", "--no-mailmap", format, &range])?).into_owned();
        let mut authors: Vec<String> = output.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        authors.sort();
        authors.dedup();
        Ok(authors)
    }

    /// `Name <mail>` as git would sign a commit now.
    pub fn user_identity(&self) -> Option<String> {
        let ident = text(self.git(&["-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT"]).ok()?);
        ident.rsplit_once('>').map(|(person, _)| format!("{person}>"))
    }

    /// Tracked paths that differ between `base` and the target, renames found, sorted. Untracked files of a work tree are added by
    /// [`with_untracked`].
    ///
    /// # Errors
    /// git failed.
    pub fn changes(&self, base: &str, target: &Target) -> Result<Vec<PathChange>, GitError> {
        let options = [
            "diff",
            "--raw",
            "-z",
            "--find-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=none",
            base,
        ];
        let mut arguments = options.to_vec();
        if let Target::Commit(commit) = target {
            arguments.push(commit);
        }
        arguments.push("--");
        let output = self.git(&arguments)?;
        let mut fields = output.split(|b| *b == 0);
        let mut changes = Vec::new();
        while let Some(head) = fields.next().filter(|head| !head.is_empty()) {
            let status = head.rsplit(|b| *b == b' ').next().and_then(|s| s.first()).copied().unwrap_or(b'M');
            let mut path = || fields.next().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default();
            let first = path();
            changes.push(match status {
                b'R' | b'C' => {
                    let old_path = Some(first).filter(|_| status == b'R');
                    PathChange {
                        path: path(),
                        kind: if old_path.is_some() { ChangeKind::Renamed } else { ChangeKind::Added },
                        old_path,
                    }
                }
                b'A' => PathChange { path: first, old_path: None, kind: ChangeKind::Added },
                b'D' => PathChange { path: first, old_path: None, kind: ChangeKind::Deleted },
                b'T' => PathChange { path: first, old_path: None, kind: ChangeKind::TypeChanged },
                _ => PathChange { path: first, old_path: None, kind: ChangeKind::Modified },
            });
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    /// Content of one file at a commit; `None` when it is not there.
    pub fn file_at(&self, commit: &str, path: &str) -> Option<Vec<u8>> {
        self.git(&["cat-file", "blob", &format!("{commit}:{path}")]).ok()
    }

    /// The files of a commit.
    ///
    /// # Errors
    /// git failed.
    pub fn tree(&self, commit: &str) -> Result<GitTree, GitError> {
        GitTree::open(&self.root, commit)
    }

    /// The files as they are now.
    ///
    /// # Errors
    /// git failed.
    pub fn work_tree(&self) -> Result<WorkTree, GitError> {
        WorkTree::open(&self.root)
    }
}

/// Adds the untracked files of a work tree to what differs.
pub fn with_untracked(mut changes: Vec<PathChange>, tree: &WorkTree) -> Vec<PathChange> {
    let added =
        |path: &std::sync::Arc<str>| PathChange { path: path.to_string(), old_path: None, kind: ChangeKind::Added };
    changes.extend(tree.untracked().iter().map(added));
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

#[cfg(test)]
mod tests;
