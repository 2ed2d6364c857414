//! A certificate authority of one's own in a directory, and a host's certificate, by `openssl`.

use crate::TestkitError;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority, `ca.pem` and `ca.key`, and certificates by name: `NAME/live` is a link to `NAME/versions/VERSION`, which holds
/// `key.pem`, `cert.pem` and, with both of them, `full.pem`.
#[derive(Debug)]
pub struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    /// An authority without certificates.
    ///
    /// # Errors
    /// There is no `openssl`, or it fails.
    pub fn new() -> Result<Self, TestkitError> {
        let at = |source| TestkitError::Write { path: std::env::temp_dir(), source };
        let directory = tempfile::Builder::new().prefix("windlass-ca-").tempdir().map_err(at)?;
        let authority = Self { directory };
        openssl(
            authority.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=Test -days 30 -keyout ca.key -out ca.pem",
        )?;
        Ok(authority)
    }

    /// Where `ca.pem` and `ca.key` are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a certificate of `name` that is good for so many days, and makes it live.
    ///
    /// # Errors
    /// `openssl` fails, or a file cannot be written.
    pub fn issue(&self, name: &str, days: u32, version: &str) -> Result<PathBuf, TestkitError> {
        let live = self.path().join(name).join("live");
        let place = self.path().join(name).join("versions").join(version);
        let write = |source| TestkitError::Write { path: place.clone(), source };
        std::fs::create_dir_all(&place).map_err(write)?;
        openssl(
            &place,
            &format!(
                "req -x509 -CA ../../../ca.pem -CAkey ../../../ca.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                 -subj /CN={name} -addext subjectAltName=DNS:{name} -days {days} -keyout key.pem -out cert.pem"
            ),
        )?;
        let read = |file: &str| std::fs::read_to_string(place.join(file)).map_err(write);
        std::fs::write(place.join("full.pem"), read("cert.pem")? + &read("key.pem")?).map_err(write)?;
        symlink(Path::new("versions").join(version), &live).map_err(write)?;
        Ok(live.join("full.pem"))
    }
}

fn openssl(directory: &Path, arguments: &str) -> Result<(), TestkitError> {
    let started = |source| TestkitError::Start { program: "openssl".into(), source };
    let output =
        Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output().map_err(started)?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(TestkitError::Failed { command: format!("openssl {arguments}"), status: output.status, stderr })
}
