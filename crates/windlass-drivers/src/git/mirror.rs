//! A bare copy of a repository elsewhere, kept in a data directory, and checkouts of its commits.
//!
//! ```text
//! DIRECTORY/mirror.git    the copy: branches, tags and what else is asked for, under the names they have there
//! DIRECTORY/fetch.lock    held by whoever fetches, and by the git that does it
//! DIRECTORY/work/         checkouts, each with a lock of its own
//! ```

mod credentials;
mod work_trees;

pub use credentials::{Credentials, Secret};
pub use work_trees::{Limits, Pruned, WorkTree};

use super::{GitError, GitRepository, GitTree, command, run, text};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};
use windlass_model::diagnostic::Diagnostic;

/// How often a lock that somebody else holds is asked for again.
const AGAIN: Duration = Duration::from_millis(50);
/// For how long the remote's word on its default branch is taken.
const DEFAULT_BRANCH_HOLDS: Duration = Duration::from_secs(3600);
/// Each fetch adds a pack; with more than these they are made one.
const MOST_PACKS: usize = 50;

#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error("{0}")]
    Settings(String),
    #[error("cannot read the credentials for {url}: {why}")]
    Credentials { url: String, why: String },
    #[error("cannot fetch {url}: {message}")]
    Fetch { url: String, message: String },
    #[error("git took longer than {} s for {url} and was ended", .after.as_secs())]
    TimedOut { url: String, after: Duration },
    #[error("another process is still fetching into {}", .0.display())]
    Busy(PathBuf),
    #[error("{0}")]
    Full(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("cannot keep {}: {source}", .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
}

impl MirrorError {
    /// As people see it.
    pub fn diagnostic(&self) -> Diagnostic {
        let (code, help) = match self {
            Self::Git(error) => return error.diagnostic(),
            Self::Settings(_) => ("WL830", "correct the settings of this repository"),
            Self::Credentials { .. } => {
                ("WL832", "set what the credentials refer to where the server runs, readable by its user")
            }
            // Not every git says what is wrong with it.
            Self::Fetch { message, .. } if message.contains("certificate") => (
                "WL831",
                "its certificate is not good here: expired, of another name, or of an authority that this machine does not know; `curl -v` of the address says which",
            ),
            Self::Fetch { .. } | Self::TimedOut { .. } => {
                ("WL831", "look whether the machine reaches it and the credentials allow reading; it is tried again")
            }
            Self::Full(_) => ("WL834", "raise the limits on work trees, make room, or wait for runs to end"),
            Self::Busy(_) | Self::Disk { .. } => (
                "WL835",
                "each server needs a data directory of its own, with room and write access; it is tried again",
            ),
        };
        Diagnostic::error(code, self.to_string()).help(help)
    }
}

/// Where a mirror comes from.
#[derive(Debug, Clone)]
pub struct Remote {
    /// `https://…`, `ssh://…`, `git@host:path`, `git://…`, `file://…` or a path. Without a password, and over HTTP without a user.
    pub url: String,
    pub credentials: Option<Credentials>,
    /// References to copy besides branches and tags, such as `refs/pull/*/head`.
    pub references: Vec<String>,
    /// Whether checkouts have the files of submodules.
    pub submodules: bool,
    /// How long one call of git may take.
    pub timeout: Duration,
}

impl Remote {
    /// Branches and tags of `url`, with submodules; ten minutes for each call of git.
    pub fn new(url: impl Into<String>) -> Self {
        let timeout = Duration::from_secs(600);
        Self { url: url.into(), credentials: None, references: Vec::new(), submodules: true, timeout }
    }

    /// Refuses what would be dangerous or cannot work.
    ///
    /// # Errors
    /// [`MirrorError::Settings`], which never repeats a password.
    pub fn check(&self) -> Result<(), MirrorError> {
        let wrong = |why: String| Err(MirrorError::Settings(why));
        if self.url.is_empty() || self.url.starts_with('-') || self.url.contains(|c: char| c.is_control()) {
            return wrong("the address of a repository is missing or no address".into());
        }
        if let Some((scheme, rest)) = self.url.split_once("://") {
            let known = ["https", "http", "ssh", "git", "file"];
            if !known.contains(&scheme) {
                return wrong(format!("repositories are not read by `{scheme}`: it is one of {}", known.join(", ")));
            }
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if let Some((user, host)) = authority.rsplit_once('@')
                && (user.contains(':') || scheme.starts_with("http"))
            {
                return wrong(format!("the address at {host} holds a user or password: name them in `credentials`"));
            }
            if self.credentials.as_ref().is_some_and(Credentials::is_token) && !scheme.starts_with("http") {
                return wrong(format!("a token is for https://, not for {scheme}://"));
            }
        } else if self.url.split_once("::").is_some_and(|(helper, _)| !helper.contains(['/', '@', ':'])) {
            return wrong("helper programs as transports are not used".into());
        }
        for pattern in &self.references {
            let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?[\\+".contains(c);
            let ours = ["refs/heads", "refs/tags"].iter().any(|known| pattern.starts_with(known));
            if !pattern.starts_with("refs/") || pattern.contains(odd) || pattern.matches('*').count() > 1 || ours {
                return wrong(format!(
                    "`{pattern}` is no pattern of further references: write it like `refs/pull/*/head`"
                ));
            }
        }
        Ok(())
    }
}

/// Full name of a reference → commit (or tag object), all digits.
pub type References = BTreeMap<String, String>;

/// A reference that is not where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Such as `refs/heads/main`.
    pub name: String,
    /// `None` when it is new.
    pub old: Option<String>,
    /// `None` when it was deleted.
    pub new: Option<String>,
}

/// What differs, sorted by name.
pub fn moved(old: &References, new: &References) -> Vec<Moved> {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let both = names.into_iter().map(|name| (name, old.get(name), new.get(name)));
    both.filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| Moved { name: name.clone(), old: old.cloned(), new: new.cloned() })
        .collect()
}

/// What a fetch brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    pub moved: Vec<Moved>,
}

/// The copy. Safe to use from many threads and processes at once.
#[derive(Debug)]
pub struct Mirror {
    directory: PathBuf,
    git: PathBuf,
    remote: Remote,
    /// When the remote was asked for its default branch.
    asked: Mutex<Option<Instant>>,
    /// What git was last let in with.
    secret: Mutex<Option<String>>,
    /// Bytes on disk of checkouts, and when each had been used last.
    sizes: Mutex<HashMap<String, (SystemTime, u64)>>,
}

impl Mirror {
    /// Opens the copy in `directory`, made on first use. Nothing is fetched yet.
    ///
    /// # Errors
    /// The remote's settings are wrong, git is missing, or the directory cannot be written.
    pub fn open(directory: &Path, mut remote: Remote) -> Result<Self, MirrorError> {
        remote.check()?;
        let disk = |source| MirrorError::Disk { path: directory.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(disk)?;
        let directory = directory.canonicalize().map_err(disk)?;
        // git is run in the mirror: a relative path would be another one there.
        if let Some(path) = local_path(&remote.url) {
            remote.url = std::path::absolute(path).map_err(disk)?.to_string_lossy().into_owned();
        }
        let mirror = Self {
            git: directory.join("mirror.git"),
            directory,
            remote,
            asked: Mutex::default(),
            secret: Mutex::default(),
            sizes: Mutex::default(),
        };
        if !mirror.git.join("HEAD").exists() {
            let _lock = mirror.lock(Instant::now() + mirror.remote.timeout)?;
            std::fs::create_dir_all(&mirror.git).map_err(disk)?;
            run(&mirror.git, &["init", "--quiet", "--bare", "--template=", "."])?;
        }
        Ok(mirror)
    }

    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Brings the copy up to the remote: what was deleted there is deleted here, what was forced is forced.
    ///
    /// # Errors
    /// The remote cannot be reached or refuses, the time is over, or another process fetches all the time. The copy stays usable.
    pub fn fetch(&self) -> Result<Fetched, MirrorError> {
        let deadline = Instant::now() + self.remote.timeout;
        let lock = self.lock(deadline)?;
        self.sweep();
        let old = self.references()?;
        let mut arguments = vec!["fetch", "--quiet", "--prune", "--force", "--no-tags", "--update-shallow"];
        arguments.extend(["--no-auto-gc", "--no-write-fetch-head", "--no-write-commit-graph"]);
        arguments.extend(["--no-recurse-submodules", "--", &self.remote.url]);
        let copied =
            ["refs/heads/*", "refs/tags/*"].into_iter().chain(self.remote.references.iter().map(String::as_str));
        let copied: Vec<String> = copied.map(|name| format!("+{name}:{name}")).collect();
        arguments.extend(copied.iter().map(String::as_str));
        self.git_remote(&self.git, &arguments, Some(&lock), deadline)?;
        let new = self.references()?;
        self.ask_default_branch(&new, deadline)?;
        let (is_first, has_many) = (old.is_empty(), self.packs() > MOST_PACKS);
        if has_many {
            // Nothing is dropped: checkouts read their objects here, also those that no branch has any more.
            let repack = ["repack", "-a", "-d", "--keep-unreachable", "--quiet"];
            self.git_bounded(&self.git, &repack, Some(&lock), Instant::now() + self.remote.timeout)?;
        }
        if is_first || has_many {
            // One file instead of one for each: they are read at every fetch.
            self.git_bounded(&self.git, &["pack-refs", "--all"], Some(&lock), Instant::now() + self.remote.timeout)?;
        }
        Ok(Fetched { moved: moved(&old, &new) })
    }

    /// Copies one more reference, such as `refs/pull/12/head`: that of a change whose commit is in another repository.
    ///
    /// # Errors
    /// As [`Mirror::fetch`]; there is none of that name.
    pub fn fetch_reference(&self, name: &str) -> Result<(), MirrorError> {
        let usual = ["refs/heads/", "refs/tags/"].iter().any(|kind| name.starts_with(kind));
        if usual || !name.starts_with("refs/") || name.contains([':', '*', ' ', '^']) {
            return Err(MirrorError::Settings(format!("`{name}` is no further reference")));
        }
        let deadline = Instant::now() + self.remote.timeout;
        let lock = self.lock(deadline)?;
        self.sweep();
        let copied = format!("+{name}:{name}");
        let arguments = [
            "fetch",
            "--quiet",
            "--force",
            "--no-tags",
            "--update-shallow",
            "--no-auto-gc",
            "--no-write-fetch-head",
            "--no-write-commit-graph",
            "--no-recurse-submodules",
            "--",
            &self.remote.url,
            &copied,
        ];
        self.git_remote(&self.git, &arguments, Some(&lock), deadline).map(drop)
    }

    /// Everything that is copied, as of the last fetch.
    ///
    /// # Errors
    /// git failed.
    pub fn references(&self) -> Result<References, MirrorError> {
        let listing = run(&self.git, &["for-each-ref", "--format=%(objectname) %(refname)"])?;
        let listing = String::from_utf8_lossy(&listing);
        Ok(listing.lines().filter_map(|line| line.split_once(' ')).map(|(id, name)| (name.into(), id.into())).collect())
    }

    /// Branches by their short names.
    ///
    /// # Errors
    /// git failed.
    pub fn branches(&self) -> Result<References, MirrorError> {
        let all = self.references()?.into_iter();
        Ok(all.filter_map(|(name, id)| Some((name.strip_prefix("refs/heads/")?.to_owned(), id))).collect())
    }

    /// The short name of the branch that the remote calls its own (of a local checkout: what its origin does, else `main` or
    /// `master`, else what is checked out). `None` before the first fetch, and when there is no such branch.
    pub fn default_branch(&self) -> Option<String> {
        let name = text(run(&self.git, &["symbolic-ref", "--quiet", "HEAD"]).ok()?);
        self.commit(&name)?;
        name.strip_prefix("refs/heads/").map(str::to_owned)
    }

    /// The commit that a full name of a reference or an id names; `None` when it is not here.
    pub fn commit(&self, revision: &str) -> Option<String> {
        let wanted = format!("{revision}^{{commit}}");
        run(&self.git, &["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted]).ok().map(text)
    }

    /// What can be asked about its commits; it has no work tree.
    pub fn commits(&self) -> GitRepository {
        GitRepository::bare(&self.git)
    }

    /// The files of a commit.
    ///
    /// # Errors
    /// git failed, or the commit is not here.
    pub fn tree(&self, commit: &str) -> Result<GitTree, MirrorError> {
        Ok(GitTree::open(&self.git, commit)?)
    }

    /// Waits for whoever fetches now. As the lock is the standard input of each git that writes here, a git that outlives
    /// this process holds it on.
    fn lock(&self, deadline: Instant) -> Result<File, MirrorError> {
        let path = self.directory.join("fetch.lock");
        let disk = |source| MirrorError::Disk { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(disk)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(disk(source)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(MirrorError::Busy(self.directory.clone()));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(AGAIN),
            }
        }
    }

    /// Takes away what a git left that was killed. The lock is ours: no other git of ours writes here.
    fn sweep(&self) {
        fn locks(directory: &Path, below: usize) {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_directory && below > 0 {
                    locks(&entry.path(), below - 1);
                } else if !is_directory && entry.file_name().to_string_lossy().ends_with(".lock") {
                    // One that cannot be removed is told by git.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        }
        locks(&self.git, 0);
        locks(&self.git.join("refs"), 32);
        for directory in [self.git.join("objects"), self.git.join("objects/pack")] {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with("tmp_") {
                    let path = entry.path();
                    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
                }
            }
        }
    }

    fn packs(&self) -> usize {
        let entries = std::fs::read_dir(self.git.join("objects/pack")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack")).count()
    }

    /// Remembers the default branch as the HEAD of the copy. Asked once in a while: it takes a connection of its own.
    fn ask_default_branch(&self, here: &References, deadline: Instant) -> Result<(), MirrorError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|at| at.elapsed() < DEFAULT_BRANCH_HOLDS) && self.default_branch().is_some() {
            return Ok(());
        }
        let checkout = local_path(&self.remote.url).and_then(|path| GitRepository::open(path).ok());
        let of_checkout = checkout
            .and_then(|git| git.default_branch())
            .map(|name| format!("refs/heads/{}", name.strip_prefix("origin/").unwrap_or(&name)));
        let name = match of_checkout.filter(|name| here.contains_key(name)) {
            Some(name) => Some(name),
            None => {
                let arguments = ["ls-remote", "--symref", "--", &self.remote.url, "HEAD"];
                let answer = self.git_remote(&self.git, &arguments, None, deadline)?;
                let answer = String::from_utf8_lossy(&answer).into_owned();
                let line = answer.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
                line.map(str::to_owned)
            }
        };
        if let Some(name) = name.filter(|name| name.starts_with("refs/heads/")) {
            run(&self.git, &["symbolic-ref", "HEAD", &name])?;
        }
        *asked = Some(Instant::now());
        Ok(())
    }

    /// git with what it needs to reach the remote. What it complains about holds no secret.
    /// The token that git was last let in with, which nothing may show.
    pub fn secret(&self) -> Option<String> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn git_remote(
        &self,
        directory: &Path,
        arguments: &[&str],
        lock: Option<&File>,
        deadline: Instant,
    ) -> Result<Vec<u8>, MirrorError> {
        let url = self.remote.url.clone();
        let access = credentials::Access::open(&self.remote)
            .map_err(|why| MirrorError::Credentials { url: url.clone(), why })?;
        *self.secret.lock().unwrap_or_else(PoisonError::into_inner) = access.secret().map(str::to_owned);
        let mut settings: Vec<String> = [
            "protocol.version=2",
            "protocol.ext.allow=never",
            "core.askPass=true",
            "http.lowSpeedLimit=100",
            "http.lowSpeedTime=30",
            "fetch.unpackLimit=1",
        ]
        .map(str::to_owned)
        .into();
        settings.extend(access.settings().iter().cloned());
        let arguments: Vec<&str> =
            settings.iter().flat_map(|setting| ["-c", setting.as_str()]).chain(arguments.iter().copied()).collect();
        self.git_bounded(directory, &arguments, lock, deadline).map_err(|error| match error {
            MirrorError::Git(GitError::Failed { message, .. }) => {
                MirrorError::Fetch { url, message: access.redacted(&message) }
            }
            error => error,
        })
    }

    /// git in a process group of its own, without hooks, that ends at the deadline.
    fn git_bounded(
        &self,
        directory: &Path,
        arguments: &[&str],
        lock: Option<&File>,
        deadline: Instant,
    ) -> Result<Vec<u8>, MirrorError> {
        let stdin = match lock {
            Some(file) => Stdio::from(file.try_clone().map_err(GitError::Io)?),
            None => Stdio::null(),
        };
        let mut git = command(directory);
        git.args(["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
        git.args(["-c", "core.fsync=committed"]).args(arguments).stdin(stdin);
        git.env("GIT_TERMINAL_PROMPT", "0").env_remove("SSH_ASKPASS").env_remove("DISPLAY");
        match bounded(git, deadline)? {
            Some(output) if output.success => Ok(output.out),
            Some(output) => Err(super::failed(arguments, &output.err).into()),
            None => Err(MirrorError::TimedOut { url: self.remote.url.clone(), after: self.remote.timeout }),
        }
    }
}

/// What a child said.
struct Output {
    success: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

/// Runs a child to its end; at the deadline its whole group is killed and the answer is `None`.
fn bounded(mut child: std::process::Command, deadline: Instant) -> Result<Option<Output>, GitError> {
    let mut child = super::spawn(child.process_group(0))?;
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(GitError::Io(std::io::Error::other("the pipes of git are missing")));
    };
    let (sender, receiver) = mpsc::channel();
    let of_err = sender.clone();
    std::thread::scope(|scope| {
        let read = |pipe: &mut dyn Read| {
            let mut all = Vec::new();
            pipe.read_to_end(&mut all).map(|_| all)
        };
        scope.spawn(move || sender.send((true, read(&mut out))));
        scope.spawn(move || of_err.send((false, read(&mut err))));
        let (mut said, mut complaints, mut in_time) = (Vec::new(), Vec::new(), true);
        for _ in 0..2 {
            let left = deadline.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                Ok((true, read)) => said = read?,
                Ok((false, read)) => complaints = read?,
                Err(_) => {
                    in_time = false;
                    break;
                }
            }
        }
        if !in_time && let Ok(group) = i32::try_from(child.id()) {
            // This closes the pipes as well, whoever has them.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        }
        let success = child.wait()?.success();
        Ok(in_time.then_some(Output { success, out: said, err: complaints }))
    })
}

/// The path that an address of this machine means.
fn local_path(url: &str) -> Option<&Path> {
    match url.split_once("://") {
        Some(("file", path)) => Some(Path::new(path)),
        Some(_) => None,
        // As git does: a colon before the first slash means another host.
        None if url.split('/').next().is_some_and(|first| first.contains(':')) => None,
        None => Some(Path::new(url)),
    }
}

#[cfg(test)]
mod tests;
