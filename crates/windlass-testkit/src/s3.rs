//! A server that speaks as Amazon S3 does, on a loopback port: `moto` from PyPI, with one bucket.
//!
//! Where `moto_server` is not on the `PATH`, the package is installed once, with pip and from its registry, into the cache folder of
//! this machine's user.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Released under Apache-2.0.
const VERSION: &str = "5.2.1";
const BUCKET: &str = "windlass";
/// How long it may take to answer for the first time, also on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that runs until this is dropped. Any access key will do.
#[derive(Debug)]
pub struct S3 {
    server: Child,
    endpoint: String,
    /// Holds what the server said.
    _directory: tempfile::TempDir,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    #[error(
        "`python3` is not installed: tests of object stores run `moto` from PyPI; install it, e.g. `apt-get install python3-venv`"
    )]
    NotInstalled,
    #[error("there is neither XDG_CACHE_HOME nor HOME to install moto {VERSION} below")]
    NoCache,
    #[error("moto {VERSION} cannot be installed in {}: {output}", directory.display())]
    Install { directory: PathBuf, output: String },
    #[error("cannot {what}")]
    Io { what: &'static str, source: std::io::Error },
    #[error("the server does not answer: {log}")]
    Silent { log: String },
}

impl S3 {
    /// Starts it on a free port and returns when its bucket is there.
    ///
    /// # Errors
    /// Python is missing, the package cannot be installed, or it does not start.
    pub fn start() -> Result<Self, S3Error> {
        let program = program()?;
        let io = |what| move |source| S3Error::Io { what, source };
        let directory = tempfile::Builder::new().prefix("windlass-s3-").tempdir().map_err(io("make a folder"))?;
        let log = directory.path().join("log");
        let file = File::create(&log).map_err(io("make the log"))?;
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).map_err(io("find a port"))?;
        let mut server = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(io("start moto_server"))?;
        let since = Instant::now();
        while TcpStream::connect(port).is_err() {
            let ended = server.try_wait().map_err(io("look after moto_server"))?.is_some();
            if ended || since.elapsed() > PATIENCE {
                let _ = server.kill();
                let _ = server.wait();
                return Err(S3Error::Silent { log: std::fs::read_to_string(&log).unwrap_or_default() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let started = Self { server, endpoint: format!("http://{port}"), _directory: directory };
        let made = ureq::put(format!("{}/{BUCKET}", started.endpoint))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request")
            .send_empty();
        match made {
            Ok(_) => Ok(started),
            Err(error) => Err(S3Error::Silent { log: error.to_string() }),
        }
    }

    /// `http://ADDRESS`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// What the environment of a program says to find it.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_ACCESS_KEY_ID", "a".into()),
            ("AWS_SECRET_ACCESS_KEY", "b".into()),
            ("AWS_REGION", "us-east-1".into()),
        ]
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The one on the `PATH`, or our own.
fn program() -> Result<PathBuf, S3Error> {
    let works = Command::new("moto_server").arg("--help").stdin(Stdio::null()).output();
    if works.is_ok_and(|output| output.status.success()) {
        return Ok("moto_server".into());
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).ok_or(S3Error::NoCache)?;
    let directory = cache.join("windlass").join(format!("moto-{VERSION}"));
    let program = directory.join("bin/moto_server");
    if !program.is_file() {
        install(&directory)?;
    }
    Ok(program)
}

/// Programs of a virtual environment name the folder they are in: it is made where it stays.
fn install(directory: &Path) -> Result<(), S3Error> {
    let failed = |output: String| S3Error::Install { directory: directory.to_owned(), output };
    let run = |command: &mut Command| match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(S3Error::NotInstalled),
        Err(error) => Err(failed(error.to_string())),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory))?;
    run(Command::new(directory.join("bin/pip")).args(["install", "--quiet"]).arg(format!("moto[server]=={VERSION}")))
}
