//! Services under supervision, as on a host: `runsv` of runit (`apt-get install runit`) looks after each, `sv` steers it.

use crate::{TestkitError, write_file};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything of this may take to come up, also on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of services, each of which runs until this is dropped.
#[derive(Debug)]
pub struct Services {
    /// Each with the directory of its service.
    supervisors: Vec<(PathBuf, Child)>,
    // Removed last, when the services have ended.
    directory: tempfile::TempDir,
}

impl Services {
    /// Without any service.
    ///
    /// # Errors
    /// [`TestkitError::Write`].
    pub fn new() -> Result<Self, TestkitError> {
        let at = |source| TestkitError::Write { path: std::env::temp_dir(), source };
        let directory = tempfile::Builder::new().prefix("windlass-services-").tempdir().map_err(at)?;
        Ok(Self { supervisors: Vec::new(), directory })
    }

    /// Where `sv` finds `NAME`.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a service: `program` is a shell script that becomes it, begun in the service's own directory. What it says is in the
    /// file `log` there.
    ///
    /// # Errors
    /// The files cannot be written, or there is no `runsv`.
    pub fn add(&mut self, name: &str, program: &str) -> Result<(), TestkitError> {
        let directory = self.path().join(name);
        let script = directory.join("run");
        write_file(&script, &format!("#!/bin/sh\nexec >>log 2>&1\n{program}\n"))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .map_err(|source| TestkitError::Write { path: script, source })?;
        let supervisor = Command::new("runsv")
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| TestkitError::Start { program: "runsv".into(), source })?;
        self.supervisors.push((directory, supervisor));
        Ok(())
    }

    /// What a service has said.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name).join("log")).unwrap_or_default()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let directories = self.supervisors.iter().map(|(directory, _)| directory);
        // One that takes long over its end is killed.
        let _ = Command::new("sv").args(["-w", "5", "force-shutdown"]).args(directories).stdout(Stdio::null()).status();
        for (_, supervisor) in &mut self.supervisors {
            let _ = supervisor.wait();
        }
    }
}

/// So many free ports of loopback. Another process may take one before it is used.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, TestkitError> {
    let at = |source| TestkitError::Start { program: "a listener".into(), source };
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(loopback)).collect::<Result<_, _>>().map_err(at)?;
    held.iter().map(|listener| listener.local_addr().map(|address| address.port()).map_err(at)).collect()
}

/// Waits until `ready`; otherwise says what was waited for and what `log` gives.
pub(crate) fn until(what: &str, ready: impl Fn() -> bool, log: impl Fn() -> String) -> Result<(), TestkitError> {
    let begin = Instant::now();
    while !ready() {
        if begin.elapsed() > PATIENCE {
            return Err(TestkitError::Silent { program: what.to_owned(), log: log() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
