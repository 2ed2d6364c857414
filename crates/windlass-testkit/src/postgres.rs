//! A temporary PostgreSQL of the machine's own installation, on a loopback port.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A server that runs until this is dropped, which also removes its data. Everybody on this machine may connect as the superuser
/// `postgres`; nothing of it survives a crash of the machine (`fsync=off`).
#[derive(Debug)]
pub struct Postgres {
    server: Child,
    port: u16,
    programs: PathBuf,
    user: Option<User>,
    /// Of its configuration.
    settings: &'static [&'static str],
    // Removed last, when the server has ended.
    directory: tempfile::TempDir,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "PostgreSQL is not installed: no initdb on the PATH nor in /usr/lib/postgresql/*/bin; install it, e.g. `apt-get install postgresql` (Debian, Ubuntu), `dnf install postgresql-server` (Fedora), `brew install postgresql`"
    )]
    NotInstalled,
    #[error("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as")]
    NoUser,
    #[error("cannot {what}")]
    Io { what: String, source: std::io::Error },
    #[error("initdb failed ({status}): {output}")]
    Initdb { status: ExitStatus, output: String },
    #[error("the server ended at once ({status}): {log}")]
    Ended { status: ExitStatus, log: String },
    #[error("the server was not ready after {} s: {log}", START.as_secs())]
    NotReady { log: String },
}

/// How long a server may take to accept connections.
const START: Duration = Duration::from_secs(60);

const QUICK: [&str; 5] =
    ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=60"];

/// Everything else is as PostgreSQL has it.
const DURABLE: [&str; 1] = ["max_connections=100"];

/// Whom the programs run as when this process is root.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Makes a cluster, starts it on a free port and returns when it accepts connections (some seconds, most of them `initdb`).
    /// It ends when it is dropped, also by a panic; a process that is killed leaves it behind.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or did not start; the message holds what it said.
    pub fn start() -> Result<Self, PostgresError> {
        Self::start_with(&QUICK)
    }

    /// As [`Postgres::start`], with what is committed on the disk, as it is for users: to measure.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_durable() -> Result<Self, PostgresError> {
        Self::start_with(&DURABLE)
    }

    /// The server's first process: the parent of all others of it.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    fn start_with(settings: &'static [&'static str]) -> Result<Self, PostgresError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = programs(&path, &installations(&["/usr/lib/postgresql"]))?;
        let directory = tempfile::Builder::new().prefix("windlass-postgres-").tempdir().map_err(io("make a folder"))?;
        // Whoever made the folder is whom this process acts as.
        let root = directory.path().metadata().map_err(io("look at the folder"))?.uid() == 0;
        let user = if root { Some(unprivileged().ok_or(PostgresError::NoUser)?) } else { None };
        if let Some(user) = user {
            chown(directory.path(), Some(user.uid), Some(user.gid)).map_err(io("give the folder to its user"))?;
        }
        let output = command(&programs, "initdb", user, directory.path())
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(directory.path().join("data"))
            .output()
            .map_err(io("start initdb"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            let output_text = String::from_utf8_lossy(&said).into_owned();
            return Err(PostgresError::Initdb { status: output.status, output: output_text });
        }
        // Another process may take the port between our look and the server's.
        for _ in 0..4 {
            match serve(&programs, user, directory.path(), None, settings) {
                Err(PostgresError::Ended { log, .. }) if log.contains("could not bind") => {}
                Err(error) => return Err(error),
                Ok((server, port)) => return Ok(Self { server, port, programs, user, settings, directory }),
            }
        }
        serve(&programs, user, directory.path(), None, settings).map(|(server, port)| Self {
            server,
            port,
            programs,
            user,
            settings,
            directory,
        })
    }

    /// Stops the server as `pg_ctl stop --mode` does (`fast` ends connections, `immediate` is a crash) and starts it again on the
    /// same port.
    ///
    /// # Errors
    /// It did not stop or start.
    pub fn restart(&mut self, mode: &str) -> Result<(), PostgresError> {
        self.stop(mode).map_err(io("stop the server"))?;
        self.server.wait().map_err(io("wait for the server"))?;
        let (server, _) = serve(&self.programs, self.user, self.directory.path(), Some(self.port), self.settings)?;
        self.server = server;
        Ok(())
    }

    fn stop(&self, mode: &str) -> std::io::Result<ExitStatus> {
        command(&self.programs, "pg_ctl", self.user, self.directory.path())
            .args(["stop", "--wait", "--timeout=20", "--mode", mode, "--pgdata"])
            .arg(self.directory.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connection string of the database `postgres`, for terraform's `pg` backend and for clients.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Connection string of a new database.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn database(&self, name: &str) -> String {
        self.database_with(name, "")
    }

    /// As [`Postgres::database`], with options of `CREATE DATABASE`.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn database_with(&self, name: &str, options: &str) -> String {
        self.say(&format!("CREATE DATABASE \"{name}\" {options}"));
        format!("postgres://postgres@127.0.0.1:{}/{name}?sslmode=disable", self.port)
    }

    /// Removes a database that nobody needs any more; who is still connected to it is not. After a crash the server syncs all files of
    /// all that are there.
    ///
    /// # Panics
    /// It cannot be removed.
    pub fn remove(&self, name: &str) {
        self.say(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
    }

    fn say(&self, sql: &str) {
        let said = command(&self.programs, "psql", self.user, self.directory.path())
            .args(["--no-psqlrc", "--quiet", "--command", sql])
            .arg(self.url())
            .output()
            .expect("psql starts");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nothing is to be kept, but its processes and shared memory have to go: only the server itself can do that.
        let stopped = self.stop("immediate");
        if !stopped.is_ok_and(|status| status.success()) {
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }
}

/// Starts the server in the foreground, as our child, on a port (any that is free when `None`), and waits until it is ready.
fn serve(
    programs: &Path,
    user: Option<User>,
    directory: &Path,
    port: Option<u16>,
    settings: &[&str],
) -> Result<(Child, u16), PostgresError> {
    let free = || TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port());
    let port = port.map_or_else(free, Ok).map_err(io("find a free port"))?;
    let log = directory.join("log");
    let file = File::create(&log).map_err(io("make the log"))?;
    let errors = file.try_clone().map_err(io("make the log"))?;
    let mut server = command(programs, "postgres", user, directory)
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(io("start the server"))?;
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let deadline = Instant::now() + START;
    loop {
        // Line 8 of this file tells what the server does.
        let state = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
        if state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Ok((server, port));
        }
        if let Some(status) = server.try_wait().map_err(io("look at the server"))? {
            return Err(PostgresError::Ended { status, log: said() });
        }
        if Instant::now() > deadline {
            let _ = server.kill();
            let _ = server.wait();
            return Err(PostgresError::NotReady { log: said() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> PostgresError {
    let what = what.to_owned();
    |source| PostgresError::Io { what, source }
}

/// One of PostgreSQL's programs, with an environment of its own.
fn command(programs: &Path, name: &str, user: Option<User>, directory: &Path) -> Command {
    let mut command = Command::new(programs.join(name));
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    if let Some(user) = user {
        command.gid(user.gid).uid(user.uid);
    }
    command
}

/// The `bin` folders of packaged versions below these, the newest first.
fn installations(roots: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = roots
        .iter()
        .flat_map(std::fs::read_dir)
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The folder that holds `initdb`, `postgres` and `pg_ctl`. A link to one of them is followed: the others are beside it.
fn programs(path: &OsStr, installed: &[PathBuf]) -> Result<PathBuf, PostgresError> {
    let is_program = |file: PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0).then_some(file)
    };
    std::env::split_paths(path)
        .chain(installed.iter().cloned())
        .filter_map(|folder| is_program(folder.join("initdb"))?.canonicalize().ok()?.parent().map(Path::to_owned))
        .find(|folder| ["postgres", "pg_ctl"].iter().all(|name| is_program(folder.join(name)).is_some()))
        .ok_or(PostgresError::NotInstalled)
}

/// The user `postgres`, else `nobody`, of this machine.
fn unprivileged() -> Option<User> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].iter().find_map(|wanted| {
        let fields: Vec<&str> =
            users.lines().map(|line| line.split(':').collect()).find(|f: &Vec<&str>| f[0] == *wanted)?;
        Some(User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{CliEnv, terraform};
    use std::net::TcpStream;

    fn terraform_environment(server: &Postgres) -> CliEnv {
        let mut env = CliEnv::new(terraform().unwrap()).unwrap();
        env.set("CHECKPOINT_DISABLE", "1");
        let backend = format!("terraform {{\n  backend \"pg\" {{\n    conn_str = \"{}\"\n  }}\n}}\n", server.url());
        env.write("main.tf", &format!("{backend}resource \"terraform_data\" \"a\" {{}}\n")).unwrap();
        env
    }

    fn succeeds(env: &CliEnv, arguments: &[&str]) -> String {
        let answer = env.run(arguments).unwrap();
        assert_eq!(answer.code, Some(0), "{arguments:?}: {}{}", answer.stdout, answer.stderr);
        answer.stdout
    }

    #[test]
    fn terraform_keeps_its_state_here_until_the_server_goes() {
        let server = Postgres::start().unwrap();
        let env = terraform_environment(&server);
        succeeds(&env, &["init", "-input=false", "-no-color"]);
        succeeds(&env, &["apply", "-auto-approve", "-input=false", "-no-color"]);
        // Nothing of it is in the work tree.
        let other = terraform_environment(&server);
        succeeds(&other, &["init", "-input=false", "-no-color"]);
        assert_eq!(succeeds(&other, &["state", "list"]), "terraform_data.a\n");

        let (folder, port) = (server.directory.path().to_owned(), server.port);
        let pid = server.server.id();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        // A panic in a test goes this way, too.
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _server = server;
            std::panic::resume_unwind(Box::new("a test failed"));
        }));
        assert!(unwound.is_err());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(!folder.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_missing_installation_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        // A package of clients only: not enough.
        let clients = empty.path().join("clients");
        std::fs::create_dir(&clients).unwrap();
        std::fs::write(clients.join("initdb"), "").unwrap();
        std::fs::set_permissions(clients.join("initdb"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = programs(empty.path().as_os_str(), &[clients]).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }

    #[test]
    fn the_newest_installation_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "13", "common"] {
            std::fs::create_dir(root.path().join(version)).unwrap();
        }
        let found = installations(&[root.path().to_str().unwrap(), "/nowhere"]);
        let want: Vec<PathBuf> = ["15/bin", "13/bin", "9/bin"].iter().map(|v| root.path().join(v)).collect();
        assert_eq!(found, want);
    }
}
