//! A commit and the work tree as [`Tree`]s.

use super::{GitError, command, run, run_by_entry};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_lang::terraform::module::is_configuration;
use windlass_lang::tree::{Tree, is_internal, read_file};

const LINK: &[u8] = b"120000";
const SUBMODULE: &[u8] = b"160000";

/// The files of one commit, read from the object database.
#[derive(Debug)]
pub struct GitTree {
    paths: Vec<Arc<str>>,
    objects: HashMap<Arc<str>, String>,
    links: BTreeMap<String, String>,
    reader: Mutex<ObjectReader>,
}

impl GitTree {
    pub(super) fn open(root: &Path, commit: &str) -> Result<Self, GitError> {
        let listing = run(root, &["ls-tree", "-r", "-z", "--full-tree", commit])?;
        let mut reader = ObjectReader::start(root)?;
        let mut tree = (Vec::new(), HashMap::new(), BTreeMap::new());
        for entry in listing.split(|b| *b == 0).filter(|e| !e.is_empty()) {
            // `<mode> <type> <object>\t<path>`; a path that is not UTF-8 cannot be named by configuration.
            let Some(tab) = entry.iter().position(|b| *b == b'\t') else { continue };
            let (Ok(head), Ok(path)) = (std::str::from_utf8(&entry[..tab]), std::str::from_utf8(&entry[tab + 1..]))
            else {
                continue;
            };
            let mut head = head.split(' ');
            let (mode, object) = (head.next().unwrap_or_default().as_bytes(), head.nth(1).unwrap_or_default());
            if mode == SUBMODULE || is_internal(path) {
                continue;
            }
            let path: Arc<str> = path.into();
            if mode == LINK {
                let target = reader.read(object)?.unwrap_or_default();
                tree.2.insert(path.to_string(), String::from_utf8_lossy(&target).into_owned());
            } else {
                tree.1.insert(path.clone(), object.to_owned());
            }
            tree.0.push(path);
        }
        tree.0.sort();
        Ok(Self { paths: tree.0, objects: tree.1, links: tree.2, reader: Mutex::new(reader) })
    }
}

impl Tree for GitTree {
    fn paths(&self) -> &[Arc<str>] {
        &self.paths
    }
    fn read(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        match self.objects.get(path) {
            None => Ok(None),
            // A panic while reading leaves the pipe in an unknown place; the length check of the next answer finds that.
            Some(object) => self.reader.lock().unwrap_or_else(PoisonError::into_inner).read(object),
        }
    }
    fn link(&self, path: &str) -> Option<String> {
        self.links.get(path).cloned()
    }
    fn has_links(&self) -> bool {
        !self.links.is_empty()
    }
}

/// `git cat-file --batch`, asked one object at a time.
#[derive(Debug)]
struct ObjectReader {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl ObjectReader {
    fn start(root: &Path) -> Result<Self, GitError> {
        let mut child = command(root)
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GitError::Failed { command: "cat-file".into(), message: "its pipes are missing".into() });
        };
        Ok(Self { child, input, output: BufReader::with_capacity(1 << 16, output) })
    }

    fn read(&mut self, object: &str) -> std::io::Result<Option<Vec<u8>>> {
        self.input.write_all(format!("{object}\n").as_bytes())?;
        self.input.flush()?;
        let mut head = String::new();
        self.output.read_line(&mut head)?;
        let Some(size) = head.split(' ').nth(2).and_then(|size| size.trim().parse::<usize>().ok()) else {
            return if head.trim_end().ends_with("missing") {
                Err(std::io::Error::other(format!("object {object} is missing from this clone")))
            } else {
                Err(std::io::Error::other(format!("git cat-file answered `{}`", head.trim_end())))
            };
        };
        let mut content = vec![0; size + 1];
        self.output.read_exact(&mut content)?;
        content.pop();
        Ok(Some(content))
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        // It only reads; nothing is lost by ending it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The work tree: what git tracks or does not ignore, read from disk. A configuration file that git lists and that is gone is
/// still among the paths (asking for each would cost as much as reading them); reading it tells.
#[derive(Debug)]
pub struct WorkTree {
    root: PathBuf,
    paths: Vec<Arc<str>>,
    untracked: Vec<Arc<str>>,
    links: BTreeMap<String, String>,
}

impl WorkTree {
    pub(super) fn open(root: &Path) -> Result<Self, GitError> {
        let mut tree = Self { root: root.to_owned(), paths: Vec::new(), untracked: Vec::new(), links: BTreeMap::new() };
        tree.list(root, "")?;
        tree.paths.sort();
        tree.paths.dedup();
        Ok(tree)
    }

    /// Files that git neither tracks nor ignores, outside of submodules.
    pub fn untracked(&self) -> &[Arc<str>] {
        &self.untracked
    }

    fn list(&mut self, directory: &Path, prefix: &str) -> Result<(), GitError> {
        let arguments = ["ls-files", "-z", "-t", "--cached", "--stage", "--others", "--exclude-standard"];
        let mut submodules = Vec::new();
        run_by_entry(directory, &arguments, |entry| {
            if entry.len() < 3 {
                return;
            }
            // `? <path>`, or `H <mode> <object> <stage>\t<path>` with another letter for what is special about it.
            let (tracked, entry) = (entry[0] != b'?', &entry[2..]);
            let start = if tracked { entry.iter().position(|b| *b == b'\t').map_or(0, |tab| tab + 1) } else { 0 };
            let Ok(name) = std::str::from_utf8(&entry[start..]) else { return };
            if is_internal(name) || name.ends_with('/') {
                return;
            }
            let path: Arc<str> = if prefix.is_empty() { name.into() } else { format!("{prefix}{name}").into() };
            if tracked && entry.starts_with(SUBMODULE) {
                submodules.push(path);
                return;
            }
            let read_anyway = tracked && !entry.starts_with(LINK) && is_configuration(file_name(name));
            if !read_anyway && !self.look(&path) {
                return;
            }
            if !tracked && prefix.is_empty() {
                self.untracked.push(path.clone());
            }
            self.paths.push(path);
        })?;
        for path in submodules {
            let inner = self.root.join(&*path);
            // One that is not checked out has no files here.
            if inner.join(".git").exists() {
                self.list(&inner, &format!("{path}/"))?;
            }
        }
        Ok(())
    }

    /// Whether there is something of that name; remembers where a link leads.
    fn look(&mut self, path: &str) -> bool {
        let place = self.root.join(path);
        let Ok(meta) = std::fs::symlink_metadata(&place) else { return false };
        // A tracked link that is a file now was replaced in the work tree.
        if meta.is_symlink()
            && let Ok(target) = std::fs::read_link(&place)
        {
            self.links.insert(path.to_owned(), target.to_string_lossy().into_owned());
        }
        true
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Tree for WorkTree {
    fn paths(&self) -> &[Arc<str>] {
        &self.paths
    }
    fn read(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        if self.links.contains_key(path) {
            return Ok(None);
        }
        read_file(&self.root.join(path))
    }
    fn link(&self, path: &str) -> Option<String> {
        self.links.get(path).cloned()
    }
    fn has_links(&self) -> bool {
        !self.links.is_empty()
    }
}
