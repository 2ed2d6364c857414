//! A temporary MariaDB or MySQL on a loopback port: MariaDB of the machine's own installation (`apt-get install mariadb-server`),
//! MySQL from Debian's archive, whose releases do not have it.

use crate::TestkitError;
use crate::cli::program;
use crate::services::{free_ports, until};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server that runs until this is dropped, which also removes its data. Everybody on this machine may connect as the superuser
/// `root`; nothing of it survives a crash of the machine.
#[derive(Debug)]
pub struct MySqlServer {
    server: Child,
    port: u16,
    // Removed last, when the server has ended.
    directory: tempfile::TempDir,
}

impl MySqlServer {
    /// Makes a MariaDB with the database `test`, starts it on a free port, and returns when it answers.
    ///
    /// # Errors
    /// MariaDB is not installed, or does not start; the message holds what it said.
    pub fn mariadb() -> Result<Self, TestkitError> {
        let directory = directory()?;
        let of = |name| Ok(with_data(Command::new(program(name)?), directory.path()));
        let mut install = of("mariadb-install-db")?;
        done(install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]))?;
        let server = of("mariadbd")?;
        Self::start(server, directory)
    }

    /// As [`Self::mariadb`] for MySQL, which is fetched once into the cache folder of this machine's user: some 80 MB, and 350 MB
    /// unpacked. `None` where it cannot be fetched, which is said: no release of Debian has it, and the archive is not everywhere.
    ///
    /// # Errors
    /// It does not start.
    pub fn mysql() -> Result<Option<Self>, TestkitError> {
        let root = match debian("mysql-server-core") {
            Ok(root) => root,
            Err(error) => {
                eprintln!("MySQL cannot be had here, MariaDB alone is asked: {error}");
                return Ok(None);
            }
        };
        let directory = directory()?;
        let of_root = || {
            // The system that it is of is newer than this one.
            let libraries = root.join("usr/lib/x86_64-linux-gnu");
            let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
            command.arg("--library-path").arg(format!("{0}:{0}/mysql/private", libraries.display()));
            command.arg(root.join("usr/sbin/mysqld"));
            let mut command = with_data(command, directory.path());
            command.arg(format!("--basedir={}", root.join("usr").display()));
            command.arg(format!("--lc-messages-dir={}", root.join("usr/share/mysql").display()));
            command.args(["--secure-file-priv=", "--mysqlx=OFF"]);
            command
        };
        done(of_root().arg("--initialize-insecure"))?;
        let started = Self::start(of_root(), directory)?;
        started.sql("CREATE USER root@'127.0.0.1'; GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION")?;
        Ok(Some(started))
    }

    fn start(mut command: Command, directory: tempfile::TempDir) -> Result<Self, TestkitError> {
        let port = free_ports(1)?[0];
        let log = directory.path().join("log");
        let write = |source| TestkitError::Write { path: log.clone(), source };
        let file = File::create(&log).map_err(write)?;
        command
            .arg(format!("--port={port}"))
            .arg(format!("--socket={}", directory.path().join("socket").display()))
            .arg(format!("--pid-file={}", directory.path().join("pid").display()))
            .args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=8M"])
            .stdout(file.try_clone().map_err(write)?)
            .stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let server = command.spawn().map_err(|source| TestkitError::Start { program: program.clone(), source })?;
        let started = Self { server, port, directory };
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        until(&program, || started.sql("CREATE DATABASE IF NOT EXISTS test").is_ok(), said)?;
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

    /// Has the server do some statements, as MariaDB's client sends them.
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

impl Drop for MySqlServer {
    fn drop(&mut self) {
        // It is one process, and nothing of it is to be kept.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn directory() -> Result<tempfile::TempDir, TestkitError> {
    let at = |source| TestkitError::Write { path: std::env::temp_dir(), source };
    tempfile::Builder::new().prefix("windlass-mysql-").tempdir().map_err(at)
}

/// A command that reads no settings of the machine and keeps its data in the directory.
fn with_data(mut command: Command, directory: &Path) -> Command {
    command.arg("--no-defaults").arg(format!("--datadir={}", directory.join("data").display()));
    command.args(["--innodb-flush-method=nosync", "--loose-innodb-log-file-size=4M", "--skip-name-resolve"]);
    // Only told so does it run as root.
    if directory.metadata().is_ok_and(|found| found.uid() == 0) {
        command.arg("--user=root");
    }
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
fn done(command: &mut Command) -> Result<(), TestkitError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| TestkitError::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Err(TestkitError::Failed { command: program, status: output.status, stderr })
}

/// A folder with a package of Debian's development release and all that it needs, down to the C library; nothing of it is installed.
fn debian(package: &str) -> Result<PathBuf, TestkitError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let problem = || TestkitError::Refused { problem: format!("no XDG_CACHE_HOME or HOME to keep {package} below") };
    let directory = cache.ok_or_else(problem)?.join("windlass").join(package);
    let write = |source| TestkitError::Write { path: directory.clone(), source };
    for name in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(directory.join(name)).map_err(write)?;
    }
    // Several test programs may ask for it at once.
    let alone = File::create(directory.join("lock")).map_err(write)?;
    alone.lock().map_err(write)?;
    let (root, unpacked) = (directory.join("root"), directory.join("unpacked"));
    if unpacked.is_file() {
        return Ok(root);
    }
    let place = directory.display();
    let settings = format!(
        "Dir::State \"{place}\";\nDir::State::status \"{place}/status\";\nDir::Cache \"{place}/cache\";\n\
         Dir::Etc::sourcelist \"{place}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
         APT::Architecture \"amd64\";\nAPT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\n"
    );
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    for (name, content) in [
        ("status", ""),
        ("sources.list", &format!("deb [signed-by={key}] http://deb.debian.org/debian sid main\n")),
        ("settings", &settings),
    ] {
        crate::write_file(&directory.join(name), content)?;
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        done(apt.args(arguments).args(["--yes", "--quiet"]).env("APT_CONFIG", directory.join("settings")))
    };
    apt(&["update"])?;
    apt(&["install", "--download-only", package])?;
    let archives = directory.join("cache/archives");
    for entry in std::fs::read_dir(&archives).map_err(write)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            done(Command::new("dpkg-deb").arg("--extract").arg(entry.path()).arg(&root))?;
        }
    }
    for done_with in [archives, directory.join("lists")] {
        std::fs::remove_dir_all(done_with).map_err(write)?;
    }
    std::fs::write(unpacked, "").map_err(write)?;
    Ok(root)
}
