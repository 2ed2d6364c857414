//! The directory Windlass keeps next to the repository's `.git`: `.windlass/`, ignored by git.

use crate::error::{AppError, AppResult, ErrorKind};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use windlass_drivers::terraform::mirror::Mirror;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId, StepId};

/// Paths under `.windlass/`.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// Creates `.windlass/` (mode 0700) below `root` where it is missing, with a `.gitignore` that hides all of it.
    pub fn create(root: &Path) -> AppResult<Self> {
        let path = root.join(".windlass");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| {
            let ignore = path.join(".gitignore");
            if ignore.exists() { Ok(()) } else { std::fs::write(&ignore, "*\n") }
        });
        made.map_err(|error| disk(&path, &error))?;
        Ok(Self { path })
    }

    /// The paths below `root`, whether they exist or not.
    pub fn at(root: &Path) -> Self {
        Self { path: root.join(".windlass") }
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("windlass.db")
    }
    /// `TF_DATA_DIR` of an instance.
    pub fn terraform_data(&self, instance: &InstanceId) -> PathBuf {
        self.all_terraform_data().join(instance.file_name())
    }
    /// The directory with the `TF_DATA_DIR`s of all instances.
    pub fn all_terraform_data(&self) -> PathBuf {
        self.path.join("terraform")
    }
    /// Small files that can be made again.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
    /// Plan files and scratch copies of one run; removed when the run has ended.
    pub fn run(&self, run: &RunId) -> PathBuf {
        self.path.join("runs").join(run.as_str())
    }
    /// What of an instance must outlive its runs: sealed states from before each apply, and `errored.tfstate`.
    pub fn kept(&self, instance: &InstanceId) -> PathBuf {
        self.path.join("kept").join(instance.file_name())
    }
    /// Where an attempt of a step writes what it says (`.out`, `.err`).
    pub fn output(&self, run: &RunId, step: &StepId, attempt: u32) -> PathBuf {
        self.run(run).join("output").join(format!("{}.{attempt}", InstanceId::new(step.as_str()).file_name()))
    }

    /// The installation's key for keyed digests: 32 random bytes in a file of mode 0600, made on first use.
    pub fn key(&self) -> AppResult<Vec<u8>> {
        let path = self.path.join("key");
        if let Some(key) = std::fs::read(&path).ok().filter(|key| key.len() == 32) {
            return Ok(key);
        }
        let make = || -> std::io::Result<Vec<u8>> {
            let mut key = vec![0; 32];
            std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
            let draft = self.path.join(format!("key.{}", std::process::id()));
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&key)?;
            file.sync_all()?;
            // A link, not a rename: of two processes that make it at once, one wins and both use its key.
            let linked = std::fs::hard_link(&draft, &path);
            std::fs::remove_file(&draft)?;
            match linked {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            std::fs::read(&path)
        };
        make().map_err(|error| disk(&path, &error))
    }
}

/// The mirror of providers: the user's, for all repositories; of this one where the user has no cache directory.
pub fn provider_mirror(directory: &StateDirectory) -> Mirror {
    Mirror::of_user(|name| std::env::var_os(name), directory.cache().join("providers"))
}

/// A file of ours could not be written or read.
pub fn disk(path: &Path, error: &std::io::Error) -> AppError {
    AppError::new(
        ErrorKind::Unavailable,
        Diagnostic::error("WL901", format!("cannot write {}: {error}", path.display()))
            .help("make room or give this user write access to the directory, then run the same command again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::create(dir.path()).unwrap();
        let key = state.key().unwrap();
        assert_eq!(key.len(), 32);
        assert_eq!(state.key().unwrap(), key);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join(".windlass/key")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(dir.path().join(".windlass/.gitignore")).unwrap(), "*\n");
    }
}
