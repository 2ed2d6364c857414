//! One commit of another repository, without a clone of its history.

use super::{GitError, GitTree, run};
use std::path::Path;

impl GitTree {
    /// Fetches what `reference` (a branch, a tag or a full commit) of the repository at `url` names into a bare repository
    /// made in `directory`, which has to be empty or missing. The commit, and its files.
    ///
    /// # Errors
    /// git is missing or failed; nobody is asked for a password.
    pub fn fetch(directory: &Path, url: &str, reference: &str) -> Result<(String, Self), GitError> {
        std::fs::create_dir_all(directory)?;
        run(directory, &["init", "--quiet", "--bare", "."])?;
        // Programs as transports are never meant; a server that says nothing for half a minute is given up.
        let mut settings = vec![
            "protocol.ext.allow=never",
            "core.askPass=true",
            "credential.interactive=false",
            "http.lowSpeedLimit=100",
            "http.lowSpeedTime=30",
        ];
        // ssh asks at the terminal, whatever its input is; who has a command of their own has thought of that.
        if run(directory, &["config", "--get", "core.sshCommand"]).is_err() {
            settings.push("core.sshCommand=ssh -o BatchMode=yes -o ConnectTimeout=15");
        }
        let fetch = ["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-commit-graph", "--", url, reference];
        let arguments = settings.into_iter().flat_map(|setting| ["-c", setting]).chain(fetch);
        let output =
            super::command(directory).env("GIT_TERMINAL_PROMPT", "0").args(arguments).output().map_err(|error| {
                if error.kind() == std::io::ErrorKind::NotFound { GitError::Missing } else { GitError::Io(error) }
            })?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(GitError::Failed { command: "fetch".into(), message });
        }
        let commit = super::text(run(directory, &["rev-parse", "--verify", "FETCH_HEAD^{commit}"])?);
        let tree = Self::open(directory, &commit)?;
        Ok((commit, tree))
    }
}
