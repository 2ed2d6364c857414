//! A temporary MariaDB of the machine's own installation (`apt-get install mariadb-server`), on a loopback port.

use crate::TestkitError;
use crate::cli::program;
use crate::services::{free_ports, until};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server that runs until this is dropped, which also removes its data. Everybody on this machine may connect as the superuser
/// `root`; nothing of it survives a crash of the machine.
#[derive(Debug)]
pub struct MariaDb {
    server: Child,
    port: u16,
    // Removed last, when the server has ended.
    directory: tempfile::TempDir,
}

impl MariaDb {
    /// Makes a server with the database `test`, starts it on a free port with more `settings` (`--NAME=VALUE`), and returns when it
    /// answers.
    ///
    /// # Errors
    /// MariaDB is not installed, or does not start; the message holds what it said.
    pub fn start(settings: &[String]) -> Result<Self, TestkitError> {
        let at = |source| TestkitError::Write { path: std::env::temp_dir(), source };
        let directory = tempfile::Builder::new().prefix("windlass-mariadb-").tempdir().map_err(at)?;
        let mut install = command("mariadb-install-db", directory.path())?;
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        let output =
            install.output().map_err(|source| TestkitError::Start { program: "mariadb-install-db".into(), source })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            return Err(TestkitError::Failed { command: "mariadb-install-db".into(), status: output.status, stderr });
        }
        let port = free_ports(1)?[0];
        let log = directory.path().join("log");
        let write = |source| TestkitError::Write { path: log.clone(), source };
        let file = File::create(&log).map_err(write)?;
        let mut server = command("mariadbd", directory.path())?;
        server
            .arg(format!("--port={port}"))
            .arg(format!("--socket={}", directory.path().join("socket").display()))
            .arg(format!("--pid-file={}", directory.path().join("pid").display()))
            .args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=8M"])
            .args(settings)
            .stdout(file.try_clone().map_err(write)?)
            .stderr(file);
        let server = server.spawn().map_err(|source| TestkitError::Start { program: "mariadbd".into(), source })?;
        let started = Self { server, port, directory };
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        until("mariadbd", || started.sql("CREATE DATABASE IF NOT EXISTS test").is_ok(), said)?;
        Ok(started)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the database `test`.
    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/test", self.port)
    }

    /// Has the server do some statements, as its own client sends them.
    ///
    /// # Errors
    /// There is no client, or the server refuses one.
    pub fn sql(&self, statements: &str) -> Result<String, TestkitError> {
        let started = |source| TestkitError::Start { program: "mariadb".into(), source };
        let mut client = Command::new(program("mariadb")?);
        client.args(["--no-defaults", "--user=root", "--skip-column-names", "--batch", "--execute", statements]);
        client.arg(format!("--socket={}", self.directory.path().join("socket").display()));
        let output = client.stdin(Stdio::null()).output().map_err(started)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(TestkitError::Failed {
            command: format!("mariadb --execute {statements:?}"),
            status: output.status,
            stderr,
        })
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // It is one process, and nothing of it is to be kept.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// One of the programs, which reads no settings of the machine.
fn command(name: &str, directory: &Path) -> Result<Command, TestkitError> {
    let mut command = Command::new(program(name)?);
    command.arg("--no-defaults").arg(format!("--datadir={}", directory.join("data").display()));
    command.args(["--innodb-flush-method=nosync", "--innodb-log-file-size=4M", "--skip-name-resolve"]);
    // Only told so does it run as root.
    if directory.metadata().is_ok_and(|found| found.uid() == 0) {
        command.arg("--user=root");
    }
    command.current_dir(directory).stdin(Stdio::null());
    Ok(command)
}
