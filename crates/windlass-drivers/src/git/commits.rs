//! Commits and branches made beside the work tree: neither it nor the index is looked at or touched.

use super::{GitError, GitRepository, command, run, run_prepared, text};
use std::collections::BTreeMap;
use std::path::Path;

/// What `update-ref` takes for "it must not exist".
const NOTHING: &str = "0000000000000000000000000000000000000000";

impl GitRepository {
    /// A commit on top of `base` in which `files` (path relative to the root → content) are added or replaced, signed with the
    /// user's identity. No branch points to it yet. `index` is a file that does not exist, used meanwhile and removed.
    ///
    /// # Errors
    /// git failed, for example because it does not know who the user is.
    pub fn commit_files(
        &self,
        base: &str,
        files: &BTreeMap<String, Vec<u8>>,
        message: &str,
        index: &Path,
    ) -> Result<String, GitError> {
        let made = self.commit_with(base, files, message, index);
        // It is ours alone; one that is left does no harm.
        let _ = std::fs::remove_file(index);
        made
    }

    fn commit_with(
        &self,
        base: &str,
        files: &BTreeMap<String, Vec<u8>>,
        message: &str,
        index: &Path,
    ) -> Result<String, GitError> {
        self.with_index(index, &["read-tree", base], None)?;
        for (path, content) in files {
            let object =
                text(self.with_index(index, &["hash-object", "-w", "--stdin", "--no-filters"], Some(content))?);
            let entry = format!("100644,{object},{path}");
            self.with_index(index, &["update-index", "--add", "--cacheinfo", &entry], None)?;
        }
        let tree = text(self.with_index(index, &["write-tree"], None)?);
        let arguments = ["commit-tree", &tree, "-p", base, "-F", "-"];
        Ok(text(self.with_index(index, &arguments, Some(message.as_bytes()))?))
    }

    /// Whether git would pass over a file at this path (relative to the root, it need not exist) that it does not track.
    ///
    /// # Errors
    /// git cannot be run.
    pub fn is_ignored(&self, path: &str) -> Result<bool, GitError> {
        // It answers by its exit code, and says nothing when there is nothing wrong.
        match run(self.root(), &["check-ignore", "--quiet", "--", &format!("./{path}")]) {
            Ok(_) => Ok(true),
            Err(GitError::Failed { message, .. }) if message.is_empty() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Points a new branch at a commit; `false` when there is a branch of that name already, which stays as it is.
    ///
    /// # Errors
    /// git failed, for example because the name is not one for a branch.
    pub fn branch_create(&self, name: &str, commit: &str) -> Result<bool, GitError> {
        let reference = format!("refs/heads/{name}");
        run(self.root(), &["check-ref-format", &reference])?;
        let nothing = NOTHING.repeat(2);
        let nothing = &nothing[..commit.len().clamp(NOTHING.len(), nothing.len())];
        match run(self.root(), &["update-ref", &reference, commit, nothing]) {
            Ok(_) => Ok(true),
            Err(_) if run(self.root(), &["show-ref", "--verify", "--quiet", &reference]).is_ok() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn with_index(&self, index: &Path, arguments: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, GitError> {
        let mut command = command(self.root());
        command.env("GIT_INDEX_FILE", index.as_os_str());
        run_prepared(command, arguments, input)
    }
}
