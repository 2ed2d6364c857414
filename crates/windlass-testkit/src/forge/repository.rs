//! The bare repositories of a forge that is made up: commits are made in them without a work tree, as merges of a forge are.

use crate::TestkitError;
use crate::git::isolate;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A bare repository.
#[derive(Debug, Clone)]
pub struct Bare {
    path: PathBuf,
}

/// A commit, and the name and mail of those who signed it.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub id: String,
    pub author: [String; 2],
    pub committer: [String; 2],
}

/// What came of a merge.
pub(super) enum Joined {
    Commit(String),
    Conflict,
}

/// How a change comes into its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Merge,
    Squash,
    Rebase,
}

impl Bare {
    pub(super) fn init(path: &Path) -> Result<Self, TestkitError> {
        let bare = Self { path: path.to_owned() };
        let at = |source| TestkitError::Write { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(at)?;
        bare.run(&["init", "--quiet", "--bare", "--initial-branch=main"], "forge")?;
        Ok(bare)
    }

    /// A copy with everything but the references of changes.
    pub(super) fn fork(&self, path: &Path) -> Result<Self, TestkitError> {
        let bare = Self::init(path)?;
        bare.run(&["fetch", "--quiet", &self.path.to_string_lossy(), "refs/heads/*:refs/heads/*"], "forge")?;
        Ok(bare)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commit of a name; `None` when there is none.
    pub fn commit(&self, name: &str) -> Option<String> {
        let name = format!("{name}^{{commit}}");
        self.run(&["rev-parse", "--quiet", "--verify", &name], "forge").ok().filter(|commit| !commit.is_empty())
    }

    /// Branches and their commits.
    pub(super) fn branches(&self) -> Result<Vec<(String, String)>, TestkitError> {
        let listed = self.run(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads/"], "forge")?;
        let pair = |line: &str| {
            let (name, commit) = line.split_once(' ')?;
            Some((name.strip_prefix("refs/heads/")?.to_owned(), commit.to_owned()))
        };
        Ok(listed.lines().filter_map(pair).collect())
    }

    /// The commits that lead to `head` and not to `base`, newest first.
    pub(super) fn between(&self, base: &str, head: &str) -> Result<Vec<Written>, TestkitError> {
        let range = format!("{base}..{head}");
        let listed = self.run(&["log", "--format=%H%x09%an%x09%ae%x09%cn%x09%ce", &range], "forge")?;
        let one = |line: &str| {
            let mut parts = line.split('\t').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            Written { id: part(), author: [part(), part()], committer: [part(), part()] }
        };
        Ok(listed.lines().map(one).collect())
    }

    /// Whether a commit is one of those that lead to another.
    pub(super) fn reaches(&self, tip: &str, commit: &str) -> bool {
        self.run(&["merge-base", "--is-ancestor", commit, tip], "forge").is_ok()
    }

    pub(super) fn point(&self, reference: &str, commit: &str) -> Result<(), TestkitError> {
        self.run(&["update-ref", reference, commit], "forge").map(drop)
    }

    pub(super) fn remove(&self, reference: &str) -> Result<(), TestkitError> {
        self.run(&["update-ref", "-d", reference], "forge").map(drop)
    }

    /// Takes a commit of another repository in, under a reference.
    pub(super) fn take(&self, other: &Self, commit: &str, reference: &str) -> Result<(), TestkitError> {
        if other.path == self.path {
            return self.point(reference, commit);
        }
        let from = other.path.to_string_lossy();
        self.run(&["fetch", "--quiet", "--force", &from, &format!("{commit}:{reference}")], "forge").map(drop)
    }

    /// A commit on top of `parent` with these files written, or taken away where there is no text.
    pub(super) fn write(
        &self,
        login: &str,
        parent: Option<&str>,
        files: &[(&str, Option<&str>)],
        message: &str,
    ) -> Result<String, TestkitError> {
        let index = tempfile::tempdir().map_err(|source| TestkitError::Write { path: "the index".into(), source })?;
        let index = index.path().join("index");
        if let Some(parent) = parent {
            self.run_with(&["read-tree", parent], login, Some(&index), None)?;
        }
        for (path, text) in files {
            match text {
                None => self.run_with(&["update-index", "--force-remove", path], login, Some(&index), None)?,
                Some(text) => {
                    let blob = self.run_with(&["hash-object", "-w", "--stdin"], login, None, Some(text))?;
                    let entry = format!("100644,{blob},{path}");
                    self.run_with(&["update-index", "--add", "--cacheinfo", &entry], login, Some(&index), None)?
                }
            };
        }
        let tree = self.run_with(&["write-tree"], login, Some(&index), None)?;
        self.commit_tree(login, &tree, parent.as_slice(), message)
    }

    /// So many commits on top of another that change nothing.
    pub(super) fn pile(&self, login: &str, parent: &str, count: usize) -> Result<String, TestkitError> {
        let tree = self.run(&["rev-parse", &format!("{parent}^{{tree}}")], login)?;
        (0..count).try_fold(parent.to_owned(), |tip, _| self.commit_tree(login, &tree, &[&tip], "nothing new"))
    }

    /// Makes of `base` and `head` what is to be the tip of the branch that `base` is the tip of.
    pub(super) fn join(
        &self,
        login: &str,
        base: &str,
        head: &str,
        method: Method,
        message: &str,
    ) -> Result<Joined, TestkitError> {
        if method == Method::Rebase {
            return self.rebase(login, base, head);
        }
        let tree = match self.run(&["merge-tree", "--write-tree", base, head], login) {
            Ok(tree) => tree,
            Err(TestkitError::Failed { status, .. }) if status.code() == Some(1) => return Ok(Joined::Conflict),
            Err(error) => return Err(error),
        };
        let parents: &[&str] = if method == Method::Squash { &[base] } else { &[base, head] };
        self.commit_tree(login, &tree, parents, message).map(Joined::Commit)
    }

    fn rebase(&self, login: &str, base: &str, head: &str) -> Result<Joined, TestkitError> {
        let place = tempfile::tempdir().map_err(|source| TestkitError::Write { path: "a work tree".into(), source })?;
        let tree = place.path().join("tree");
        let path = tree.to_string_lossy();
        self.run(&["worktree", "add", "--quiet", "--detach", &path, head], login)?;
        let rebased = self.run(&["-C", &path, "rebase", "--quiet", base], login);
        let tip = Self { path: tree.clone() }.commit("HEAD");
        self.run(&["worktree", "remove", "--force", &path], login)?;
        match (rebased, tip) {
            (Ok(_), Some(tip)) => Ok(Joined::Commit(tip)),
            (Err(TestkitError::Start { program, source }), _) => Err(TestkitError::Start { program, source }),
            _ => Ok(Joined::Conflict),
        }
    }

    fn commit_tree(&self, login: &str, tree: &str, parents: &[&str], message: &str) -> Result<String, TestkitError> {
        let mut arguments = vec!["commit-tree", tree, "-m", message];
        for parent in parents {
            arguments.extend(["-p", parent]);
        }
        self.run(&arguments, login)
    }

    fn run(&self, arguments: &[&str], login: &str) -> Result<String, TestkitError> {
        self.run_with(arguments, login, None, None)
    }

    fn run_with(
        &self,
        arguments: &[&str],
        login: &str,
        index: Option<&Path>,
        input: Option<&str>,
    ) -> Result<String, TestkitError> {
        let started = |source| TestkitError::Start { program: "git".into(), source };
        let mut command = Command::new("git");
        isolate(&mut command);
        let mail = format!("{login}@example.com");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), login).env(format!("GIT_{role}_EMAIL"), &mail);
        }
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        command.args(["-c", "commit.gpgsign=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
        command.args(["-c", "advice.detachedHead=false"]).args(arguments).current_dir(&self.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(started)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read what it gets says why by its end.
            let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
        }
        let output = child.wait_with_output().map_err(started)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(TestkitError::Failed {
            command: format!("git {}", arguments.join(" ")),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}
