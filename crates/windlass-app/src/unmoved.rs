//! Whether the work tree is still exactly what git was asked about, without asking git again: by what the file system says of
//! every file, as git itself does with its index. Anything else than "nothing at all moved" means that git has to be asked.

use crate::project::is_left_by_terraform;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A repository with more files than this is left to git.
const MANY: usize = 20_000;

/// A file that changed less than this before it was looked at could change once more and look the same: file systems tell time in
/// ticks, of up to two seconds.
const TICK: Duration = Duration::from_secs(3);

/// Device, inode, mode, size, and when content and inode changed, nanoseconds.
type Stamp = (u64, u64, u32, u64, i128, i128);

/// The work tree and where git's `HEAD` and index stand, at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmoved {
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

impl Unmoved {
    /// Looks at everything below `root` but git's own files, ours, and what terraform leaves while it works. `None` when that would
    /// prove nothing: too many files, one that cannot be looked at, or one that changed just before `now`.
    pub fn look(root: &Path, now: SystemTime) -> Option<Self> {
        let latest = now.checked_sub(TICK)?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos();
        let mut files = BTreeMap::new();
        for path in git_files(root)? {
            let found = stamp(&path).ok()?;
            files.insert(path, found);
        }
        let mut directories = vec![PathBuf::new()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(root.join(&directory)).ok()? {
                let entry = entry.ok()?;
                let path = directory.join(entry.file_name());
                let hidden = path == Path::new(".windlass") || entry.file_name() == ".git";
                if hidden || is_left_by_terraform(path.to_str()?) {
                    continue;
                }
                if entry.file_type().ok()?.is_dir() {
                    directories.push(path);
                } else {
                    files.insert(path, Some(stamp(&entry.path()).ok()??));
                }
                if files.len() + directories.len() > MANY {
                    return None;
                }
            }
        }
        let settled = |stamp: &Stamp| u128::try_from(stamp.4.max(stamp.5)).is_ok_and(|changed| changed < latest);
        files.values().flatten().all(settled).then_some(Self { files })
    }
}

/// `None` when there is no such file.
fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    match std::fs::symlink_metadata(path) {
        Ok(m) => {
            let (content, inode) = (time(m.mtime(), m.mtime_nsec()), time(m.ctime(), m.ctime_nsec()));
            Ok(Some((m.dev(), m.ino(), m.mode(), m.size(), content, inode)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files one of which changes when another commit is checked out or something is staged, whether they exist or not.
fn git_files(root: &Path) -> Option<Vec<PathBuf>> {
    let dot_git = root.join(".git");
    let own = if dot_git.is_dir() {
        dot_git
    } else {
        // A linked work tree or a submodule.
        root.join(std::fs::read_to_string(dot_git).ok()?.strip_prefix("gitdir: ")?.trim_end())
    };
    let common = match std::fs::read_to_string(own.join("commondir")) {
        Ok(path) => own.join(path.trim_end()),
        Err(_) => own.clone(),
    };
    let head = std::fs::read_to_string(own.join("HEAD")).ok()?;
    let mut files =
        vec![own.join("HEAD"), own.join("index"), common.join("packed-refs"), common.join("reftable/tables.list")];
    files.extend(head.strip_prefix("ref: ").map(|reference| common.join(reference.trim_end())));
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn git(root: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
        let done = Command::new("git").arg("-C").arg(root).args(identity).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Whether a change is noticed, in a clone and in a linked work tree of it.
    fn check(what: &str, change: impl Fn(&Path), noticed: bool) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("main");
        write(&root, "a/main.tf", "one\n");
        write(&root, ".gitignore", "*.tfstate\n");
        git(&root, &["init", "--quiet", "--initial-branch=main"]);
        git(&root, &["add", "--all"]);
        git(&root, &["commit", "--quiet", "--message=one"]);
        git(&root, &["commit", "--quiet", "--allow-empty", "--message=two"]);
        git(&root, &["worktree", "add", "--quiet", "-b", "linked", "../linked"]);
        for root in [root, directory.path().join("linked")] {
            let later = || SystemTime::now() + 2 * TICK;
            let before = Unmoved::look(&root, later()).unwrap();
            assert_eq!(Unmoved::look(&root, later()).as_ref(), Some(&before), "{what}: nothing has moved yet");
            change(&root);
            assert_eq!(Unmoved::look(&root, later()) != Some(before), noticed, "{what} in {}", root.display());
        }
    }

    #[test]
    fn every_change_is_noticed_but_what_terraform_leaves() {
        check("another content of the same size", |root| write(root, "a/main.tf", "two\n"), true);
        check("a new file", |root| write(root, "a/more.tf", ""), true);
        check("a new file in a new directory", |root| write(root, "b/c/more.tf", ""), true);
        check("a file that is gone", |root| std::fs::remove_file(root.join("a/main.tf")).unwrap(), true);
        check(
            "a link in the place of a file",
            |root| {
                std::fs::remove_file(root.join("a/main.tf")).unwrap();
                std::os::unix::fs::symlink("elsewhere", root.join("a/main.tf")).unwrap();
            },
            true,
        );
        check("a commit", |root| git(root, &["commit", "--quiet", "--allow-empty", "--message=three"]), true);
        check("a reset that leaves the files", |root| git(root, &["reset", "--quiet", "--soft", "HEAD~1"]), true);
        check(
            "a reset after the references were packed",
            |root| {
                git(root, &["pack-refs", "--all"]);
                git(root, &["reset", "--quiet", "--soft", "HEAD~1"]);
            },
            true,
        );
        check("a detached head", |root| git(root, &["checkout", "--quiet", "--detach"]), true);
        check("something unstaged", |root| git(root, &["rm", "--quiet", "--cached", "a/main.tf"]), true);
        check(
            "a state and its lock",
            |root| {
                write(root, "a/terraform.tfstate", "{}");
                write(root, "a/.terraform.tfstate.lock.info", "{}");
                write(root, ".windlass/windlass.db", "");
            },
            false,
        );
    }

    #[test]
    fn a_file_that_changed_just_now_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "main.tf", "");
        git(directory.path(), &["init", "--quiet"]);
        assert_eq!(Unmoved::look(directory.path(), SystemTime::now()), None);
        assert!(Unmoved::look(directory.path(), SystemTime::now() + 2 * TICK).is_some());
        assert_eq!(Unmoved::look(&directory.path().join("none"), SystemTime::now() + 2 * TICK), None);
    }
}
