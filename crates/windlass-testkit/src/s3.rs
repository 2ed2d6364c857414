//! A server that speaks as Amazon S3 does, on a loopback port: `moto` from PyPI, with one bucket.
//!
//! Where `moto_server` is not on the `PATH`, the package is installed once, with pip and from its registry, into the cache folder of
//! this machine's user.

use crate::pypi::{self, PypiError};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Released under Apache-2.0.
const REQUIREMENT: &str = "moto[server]==5.2.1";
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
    #[error(transparent)]
    Python(#[from] PypiError),
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
    Ok(pypi::environment(REQUIREMENT, "moto_server")?)
}
