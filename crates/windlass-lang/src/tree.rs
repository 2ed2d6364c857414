//! The files of a repository at one moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A work tree or a commit. Paths are relative to the repository root, `/`-separated, without a leading `./`.
pub trait Tree: Sync + Send {
    /// All files and symbolic links, sorted bytewise. What git ignores and the content of `.git`, `.terraform` and
    /// `.windlass` is left out.
    fn paths(&self) -> &[Arc<str>];
    /// Content of the regular file at exactly this path; `None` when there is none.
    ///
    /// # Errors
    /// What the file system or git answered.
    fn read(&self, path: &str) -> std::io::Result<Option<Vec<u8>>>;
    /// Target text of the symbolic link at exactly this path.
    fn link(&self, path: &str) -> Option<String>;
    /// Whether there are symbolic links at all; most repositories have none, which saves resolving every path.
    fn has_links(&self) -> bool;
}

/// Whether a path lies in a directory that is never part of a repository's definition.
pub fn is_internal(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, ".git" | ".terraform" | ".windlass"))
}

/// Files held in memory.
#[derive(Debug, Default, Clone)]
pub struct MemoryTree {
    paths: Vec<Arc<str>>,
    files: BTreeMap<String, Vec<u8>>,
    links: BTreeMap<String, String>,
}

impl MemoryTree {
    pub fn new<P: Into<String>, C: Into<Vec<u8>>>(files: impl IntoIterator<Item = (P, C)>) -> Self {
        let files: BTreeMap<String, Vec<u8>> =
            files.into_iter().map(|(path, content)| (path.into(), content.into())).collect();
        let mut tree = Self { paths: Vec::new(), files, links: BTreeMap::new() };
        tree.index();
        tree
    }
    #[must_use]
    pub fn with_link(mut self, path: &str, target: &str) -> Self {
        self.links.insert(path.to_owned(), target.to_owned());
        self.index();
        self
    }
    fn index(&mut self) {
        self.paths = self.files.keys().chain(self.links.keys()).map(|path| Arc::from(path.as_str())).collect();
        self.paths.sort();
    }
}

impl Tree for MemoryTree {
    fn paths(&self) -> &[Arc<str>] {
        &self.paths
    }
    fn read(&self, path: &str) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.files.get(path).cloned())
    }
    fn link(&self, path: &str) -> Option<String> {
        self.links.get(path).cloned()
    }
    fn has_links(&self) -> bool {
        !self.links.is_empty()
    }
}

/// A directory that is no git repository, walked once.
#[derive(Debug)]
pub struct DirTree {
    root: PathBuf,
    paths: Vec<Arc<str>>,
    links: BTreeMap<String, String>,
}

impl DirTree {
    /// # Errors
    /// A directory below `root` cannot be listed.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        let mut tree = Self { root: root.to_owned(), paths: Vec::new(), links: BTreeMap::new() };
        let mut queue = vec![(root.to_owned(), String::new())];
        while let Some((directory, prefix)) = queue.pop() {
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                // A name that is not UTF-8 cannot be named by any configuration either.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = format!("{prefix}{name}");
                let kind = entry.file_type()?;
                if is_internal(&name) {
                    continue;
                }
                if kind.is_dir() {
                    queue.push((entry.path(), format!("{path}/")));
                    continue;
                }
                if kind.is_symlink() {
                    tree.links.insert(path.clone(), std::fs::read_link(entry.path())?.to_string_lossy().into_owned());
                }
                tree.paths.push(path.into());
            }
        }
        tree.paths.sort();
        Ok(tree)
    }
}

impl Tree for DirTree {
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

/// Content of a regular file; `None` when there is none.
///
/// # Errors
/// Everything but "not found" and "is a directory".
pub fn read_file(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::{ErrorKind, Read};
    thread_local! {
        /// Kept between files, so that none has to be asked for its size.
        static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(1 << 16, 0);
            let mut length = 0;
            loop {
                match file.read(&mut buffer[length..])? {
                    0 => return Ok(buffer[..length].to_vec()),
                    more => length += more,
                }
                if length == buffer.len() {
                    let mut content = buffer.clone();
                    file.read_to_end(&mut content)?;
                    return Ok(content);
                }
            }
        })
    };
    match read() {
        Ok(content) => Ok(Some(content)),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `base` and `relative` joined and made canonical without looking at the file system: no `.`, no `..`. `None` when it leaves
/// the repository or is absolute. The root is the empty string.
pub fn join(base: &str, relative: &str) -> Option<String> {
    if relative.starts_with('/') {
        return None;
    }
    let mut segments: Vec<&str> = base.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
    for segment in relative.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            segment => segments.push(segment),
        }
    }
    Some(segments.join("/"))
}

/// `path` with symbolic links resolved along all its segments, and the links that were followed. `None` when a link leaves the
/// repository or goes in circles.
pub fn resolve(tree: &dyn Tree, path: &str) -> Option<(String, Vec<String>)> {
    if !tree.has_links() {
        return Some((path.to_owned(), Vec::new()));
    }
    let mut done = String::new();
    let mut followed = Vec::new();
    let mut rest: Vec<String> = path.split('/').filter(|s| !s.is_empty()).rev().map(str::to_owned).collect();
    while let Some(segment) = rest.pop() {
        let candidate = if done.is_empty() { segment } else { format!("{done}/{segment}") };
        let Some(target) = tree.link(&candidate) else {
            done = candidate;
            continue;
        };
        if followed.len() > 40 {
            return None;
        }
        let parent = candidate.rsplit_once('/').map_or("", |(parent, _)| parent);
        let target = join(parent, &target)?;
        followed.push(candidate);
        rest.extend(target.split('/').filter(|s| !s.is_empty()).rev().map(str::to_owned));
        done = String::new();
    }
    Some((done, followed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_join() {
        let check = |base, relative, want: Option<&str>| {
            assert_eq!(join(base, relative).as_deref(), want, "{base} + {relative}")
        };
        check("aws/network", "../modules/x", Some("aws/modules/x"));
        check("aws", "./x/", Some("aws/x"));
        check("aws", "../../x", None);
        check("", "x", Some("x"));
        check("a", "..", Some(""));
        check("a", "/x", None);
    }

    #[test]
    fn links_resolve() {
        let tree = MemoryTree::new([("real/m/a.tf", "")]).with_link("mods", "real").with_link("loop", "loop");
        assert_eq!(resolve(&tree, "mods/m"), Some(("real/m".into(), vec!["mods".into()])));
        assert_eq!(resolve(&tree, "real/m"), Some(("real/m".into(), vec![])));
        assert_eq!(resolve(&tree, "loop/x"), None);
    }
}
