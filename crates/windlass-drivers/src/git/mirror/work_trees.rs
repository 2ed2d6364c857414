//! Checkouts of commits of a mirror: repositories of their own that share its objects, so that any number of them can be used at
//! once and a fetch moves nothing under a run.

use super::{Mirror, MirrorError};
use crate::git::{GitError, command, run_prepared, text};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What of a checkout stays when it is used again: the state directory of Windlass.
const KEPT: &str = ".windlass";

/// What checkouts of one mirror may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One that nobody used for so long is removed.
    pub idle: Duration,
    /// How many there are at most, used or not.
    pub count: usize,
    /// Bytes on disk of all of them together.
    pub bytes: u64,
    /// Bytes that have to be free on the disk before another one is made.
    pub free: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // A server drives 200 runs at once, and somebody looks at files as well.
        Self { idle: Duration::from_secs(24 * 3600), count: 250, bytes: 20 << 30, free: 1 << 30 }
    }
}

/// What [`Mirror::prune`] left and took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    pub removed: Vec<String>,
    /// How many are left.
    pub count: usize,
    /// Bytes that those take.
    pub bytes: u64,
}

/// A checkout of exactly one commit. Nobody else uses it, in any process, until this is dropped.
#[derive(Debug)]
pub struct WorkTree {
    path: PathBuf,
    name: String,
    commit: String,
    lock: Lock,
}

/// A file that is locked until this is dropped. To close it is not enough: a child that another thread has just forked holds it as
/// well until it is the program that it is to be.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be unlocked is when it is closed.
        let _ = self.0.unlock();
    }
}

impl WorkTree {
    /// The root of the files.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What [`Mirror::reopen`] knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn commit(&self) -> &str {
        &self.commit
    }
}

impl Drop for WorkTree {
    fn drop(&mut self) {
        // Its age counts from here; a clock that cannot be set makes it look older, which is harmless.
        let _ = self.lock.0.set_modified(SystemTime::now());
    }
}

struct Idle {
    name: String,
    lock: Lock,
    used: SystemTime,
    bytes: u64,
}

impl Mirror {
    /// A checkout of `commit` on a local branch `branch` (detached without one), in which `refs/remotes/origin/*` and tags are
    /// as they were at the last fetch. An idle one of that commit is used again, as clean as a new one.
    ///
    /// # Errors
    /// The commit is not here, a limit is reached even after idle checkouts were removed, or a submodule cannot be fetched.
    pub fn checkout(&self, commit: &str, branch: Option<&str>, limits: &Limits) -> Result<WorkTree, MirrorError> {
        let commit = self.commit(commit).ok_or_else(|| GitError::UnknownRevision(commit.to_owned()))?;
        if let Some(branch) = branch {
            run(&self.git, &["check-ref-format", "--branch", branch])?;
        }
        let work = self.work()?;
        let short = &commit[..commit.len().min(16)];
        for number in 0..=limits.count {
            let name = format!("{short}-{number}");
            let (path, Some(lock)) = (work.join(&name), self.own(&name)?) else { continue };
            let tree = WorkTree { path, name, commit: commit.clone(), lock };
            if tree.path.join(".git").exists() && self.fill(&tree, branch).is_ok() {
                return Ok(tree);
            }
            // Nothing, a half of one, or a damaged one.
            remove(&tree.path)?;
            self.make_room(limits, &tree.name)?;
            let disk = |source| MirrorError::Disk { path: tree.path.clone(), source };
            std::fs::create_dir(&tree.path).map_err(disk)?;
            if let Err(error) = self.create(&tree.path).and_then(|()| self.fill(&tree, branch)) {
                remove(&tree.path)?;
                return Err(error);
            }
            return Ok(tree);
        }
        Err(MirrorError::Full(format!("all {} work trees of {} are in use", limits.count, self.remote.url)))
    }

    /// The checkout of that name just as it was left, for a run that goes on; `None` when it is gone, damaged, or in use.
    ///
    /// # Errors
    /// The disk.
    pub fn reopen(&self, name: &str) -> Result<Option<WorkTree>, MirrorError> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Ok(None);
        }
        let path = self.work()?.join(name);
        if !path.join(".git").exists() {
            return Ok(None);
        }
        let Some(lock) = self.own(name)? else { return Ok(None) };
        let head = run(&path, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]);
        Ok(head.ok().map(|head| WorkTree { path, name: name.to_owned(), commit: text(head), lock }))
    }

    /// Removes checkouts that nobody uses: those idle for too long, then the longest idle ones until the limits hold.
    ///
    /// # Errors
    /// The disk.
    pub fn prune(&self, limits: &Limits) -> Result<Pruned, MirrorError> {
        self.prune_for(limits, None)
    }

    /// `coming` is one that is about to be made: it counts, and is not looked at.
    fn prune_for(&self, limits: &Limits, coming: Option<&str>) -> Result<Pruned, MirrorError> {
        let work = self.work()?;
        let disk = |source| MirrorError::Disk { path: work.clone(), source };
        let mut trees = Vec::new();
        for entry in std::fs::read_dir(&work).map_err(disk)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if coming != Some(name.as_str()) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let bytes = self.size_of(&name);
                trees.push((name, bytes));
            }
        }
        self.sizes().retain(|name, _| trees.iter().any(|(tree, _)| tree == name));
        let _alone = self.alone()?;
        let (mut pruned, mut idle) = (Pruned::default(), Vec::new());
        pruned.count = usize::from(coming.is_some());
        for (name, bytes) in trees {
            if !work.join(&name).is_dir() {
                continue;
            }
            pruned.count += 1;
            pruned.bytes += bytes;
            if let Some(lock) = self.try_own(&name)? {
                let used = lock.0.metadata().and_then(|meta| meta.modified()).map_err(disk)?;
                idle.push(Idle { name, lock, used, bytes });
            }
        }
        idle.sort_by_key(|tree| tree.used);
        for Idle { name, lock, used, bytes } in idle {
            let old = used.elapsed().is_ok_and(|age| age > limits.idle);
            if old || pruned.count > limits.count || pruned.bytes > limits.bytes {
                remove(&work.join(&name))?;
                // While the lock is held: who waits for this file sees that it is another one now.
                std::fs::remove_file(work.join(format!("{name}.lock"))).map_err(disk)?;
                drop(lock);
                pruned.count -= 1;
                pruned.bytes -= bytes;
                pruned.removed.push(name);
            }
        }
        Ok(pruned)
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<String, (SystemTime, u64)>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes on disk of a checkout, as they were after it was used last: to look at all files of all of them for each that is made
    /// takes longer than to make it.
    fn size_of(&self, name: &str) -> u64 {
        let work = self.directory.join("work");
        let used = std::fs::metadata(work.join(format!("{name}.lock"))).and_then(|meta| meta.modified());
        let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
        let known = self.sizes().get(name).copied();
        if let Some((_, bytes)) = known.filter(|(at, _)| *at == used) {
            return bytes;
        }
        let bytes = size(&work.join(name));
        self.sizes().insert(name.to_owned(), (used, bytes));
        bytes
    }

    fn make_room(&self, limits: &Limits, coming: &str) -> Result<(), MirrorError> {
        let left = self.prune_for(limits, Some(coming))?;
        let url = &self.remote.url;
        let full = |why: String| Err(MirrorError::Full(why));
        if left.count > limits.count {
            return full(format!("all {} work trees of {url} are in use", limits.count));
        }
        if left.bytes > limits.bytes {
            let (taken, most) = (left.bytes >> 20, limits.bytes >> 20);
            return full(format!("the work trees of {url} that are in use take {taken} MiB, more than {most} MiB"));
        }
        let room = nix::sys::statvfs::statvfs(&self.directory)
            .map_err(|error| MirrorError::Disk { path: self.directory.clone(), source: error.into() })?;
        // The types of both fields differ between systems.
        #[allow(clippy::unnecessary_cast)]
        let free = room.blocks_available() as u64 * room.fragment_size() as u64;
        if free < limits.free {
            let (free, least) = (free >> 20, limits.free >> 20);
            return full(format!("{free} MiB are free for a work tree of {url}, less than {least} MiB"));
        }
        Ok(())
    }

    /// The directory of all of them.
    fn work(&self) -> Result<PathBuf, MirrorError> {
        let work = self.directory.join("work");
        match std::fs::create_dir_all(&work) {
            Ok(()) => Ok(work),
            Err(source) => Err(MirrorError::Disk { path: work, source }),
        }
    }

    /// Who has this is the only one, in any process, that looks whether checkouts are in use: a look takes the lock of a checkout for
    /// a moment, and would be taken for a use.
    fn alone(&self) -> Result<Lock, MirrorError> {
        let path = self.work()?.join("look.lock");
        let disk = |source| MirrorError::Disk { path: path.clone(), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(disk)?;
        file.lock().map_err(disk)?;
        Ok(Lock(file))
    }

    /// The lock of a checkout, unless somebody uses it.
    fn own(&self, name: &str) -> Result<Option<Lock>, MirrorError> {
        let _alone = self.alone()?;
        self.try_own(name)
    }

    /// The lock of a checkout, unless somebody has it.
    fn try_own(&self, name: &str) -> Result<Option<Lock>, MirrorError> {
        let path = self.directory.join("work").join(format!("{name}.lock"));
        let disk = |source| MirrorError::Disk { path: path.clone(), source };
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(disk)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(disk(source)),
            }
            let file = Lock(file);
            // It may have been removed between the two, with what it was the lock of.
            let ours = file.0.metadata().map_err(disk)?.ino();
            if std::fs::metadata(&path).is_ok_and(|meta| meta.ino() == ours) {
                return Ok(Some(file));
            }
        }
    }

    /// An empty repository that reads the mirror's objects.
    fn create(&self, path: &Path) -> Result<(), MirrorError> {
        let mut init = within(path);
        // As files, whatever is usual here: this writes them.
        init.env("GIT_DEFAULT_REF_FORMAT", "files");
        run_prepared(init, &["init", "--quiet", "--template=", "."], None)?;
        let disk = |source| MirrorError::Disk { path: path.to_owned(), source };
        let information = path.join(".git/objects/info");
        std::fs::create_dir_all(&information).map_err(disk)?;
        let objects = format!("{}\n", self.git.join("objects").display());
        std::fs::write(information.join("alternates"), objects).map_err(disk)?;
        for (name, value) in [
            ("remote.origin.url", self.remote.url.as_str()),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
            ("core.hooksPath", "/dev/null"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
        ] {
            run(path, &["config", name, value])?;
        }
        Ok(())
    }

    /// Gives a checkout, whose `HEAD` is no branch, the references of the mirror and no other. There may be thousands: they are in one
    /// file (gitrepository-layout(5)), and git does not have to make one for each.
    fn refer(&self, path: &Path) -> Result<(), MirrorError> {
        let disk = |source| MirrorError::Disk { path: path.to_owned(), source };
        let all = self.references()?;
        let wanted: super::References = all
            .into_iter()
            .filter_map(|(name, id)| match name.strip_prefix("refs/heads/") {
                Some(branch) => Some((format!("refs/remotes/origin/{branch}"), id)),
                None => name.starts_with("refs/tags/").then_some((name, id)),
            })
            .collect();
        // In order of the bytes of their names, as git has them.
        let lines: String = wanted.iter().map(|(name, id)| format!("{id} {name}\n")).collect();
        // Without `refs` itself it would be no repository.
        for kind in ["refs/heads", "refs/remotes", "refs/tags", "logs/refs"] {
            remove(&path.join(".git").join(kind))?;
        }
        std::fs::write(path.join(".git/packed-refs"), format!("# pack-refs with: sorted \n{lines}")).map_err(disk)
    }

    /// Makes references and files of a checkout what they have to be; an error when they cannot be made so.
    fn fill(&self, tree: &WorkTree, branch: Option<&str>) -> Result<(), MirrorError> {
        let (path, commit) = (&tree.path, tree.commit.as_str());
        let deadline = Instant::now() + self.remote.timeout;
        let shallow = self.git.join("shallow");
        if shallow.exists() {
            let disk = |source| MirrorError::Disk { path: path.clone(), source };
            std::fs::copy(shallow, path.join(".git/shallow")).map_err(disk)?;
        }
        // A git that was killed here is dead: the lock is ours.
        for lock in ["index.lock", "packed-refs.lock"] {
            let _ = std::fs::remove_file(path.join(".git").join(lock));
        }
        run(path, &["update-ref", "--no-deref", "HEAD", commit])?;
        run(path, &["checkout", "--quiet", "--force", "--detach", commit])?;
        self.refer(path)?;
        if let Some(name) = self.default_branch() {
            let target = format!("refs/remotes/origin/{name}");
            run(path, &["symbolic-ref", "refs/remotes/origin/HEAD", &target])?;
        }
        if let Some(branch) = branch {
            let name = format!("refs/heads/{branch}");
            run(path, &["update-ref", &name, commit])?;
            run(path, &["symbolic-ref", "HEAD", &name])?;
        }
        run(path, &["reset", "--quiet", "--hard", commit])?;
        run(path, &["clean", "-ffdxq", "-e", KEPT])?;
        if self.remote.submodules && path.join(".gitmodules").exists() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
            self.git_remote(path, &update, None, deadline)?;
            run(path, &["submodule", "--quiet", "foreach", "--recursive", "git clean -ffdxq"])?;
        }
        let status = ["status", "--porcelain", "--untracked-files=all", "--", ".", &format!(":(exclude){KEPT}")];
        let status = run(path, &status)?;
        if status.is_empty() {
            return Ok(());
        }
        let message = format!("the files differ from the commit: {}", text(status).lines().next().unwrap_or_default());
        Err(GitError::Failed { command: "checkout".into(), message }.into())
    }
}

/// `git` in a checkout. Where that is no repository it does not take one for it that the checkout is in.
fn within(path: &Path) -> Command {
    let mut git = command(path);
    git.env("GIT_CEILING_DIRECTORIES", path.parent().unwrap_or(path));
    git
}

fn run(path: &Path, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
    run_prepared(within(path), arguments, None)
}

fn remove(path: &Path) -> Result<(), MirrorError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(MirrorError::Disk { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Bytes on disk of a directory; what vanishes meanwhile counts nothing.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
