//! A mail server on a loopback port: `aiosmtpd` from PyPI, which keeps what it takes.

use crate::pypi::{self, PypiError};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Released under Apache-2.0.
const REQUIREMENT: &str = "aiosmtpd==1.4.6";
const SCRIPT: &str = include_str!("mail/server.py");

/// How it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    Plain,
    StartTls,
    Tls,
}

/// A message that it took.
#[derive(Debug, Clone, Deserialize)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body.
    pub text: String,
    pub encrypted: bool,
    /// Who said who they are.
    pub user: Option<String>,
}

impl Mail {
    /// The value of a header, on one line.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.text.replace("\r\n", "\n");
        let head = head.split("\n\n").next().unwrap_or_default().replace("\n ", " ");
        let pairs = head.lines().filter_map(|line| line.split_once(": "));
        pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct MailServer {
    server: Child,
    port: u16,
    certificate: String,
    directory: tempfile::TempDir,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum MailServerError {
    #[error(transparent)]
    Python(#[from] PypiError),
    #[error("cannot {what}")]
    Io { what: &'static str, source: std::io::Error },
    #[error("no certificate can be made: {0}")]
    Certificate(String),
    #[error("the server did not start: {log}")]
    Ended { log: String },
}

impl MailServer {
    /// Starts it on a free port of `localhost`; with an account it takes nothing from others.
    ///
    /// # Errors
    /// Python is missing, the package cannot be installed, or it does not start.
    pub fn start(encryption: Encryption, account: Option<(&str, &str)>) -> Result<Self, MailServerError> {
        let io = |what| move |source| MailServerError::Io { what, source };
        let python = pypi::environment(REQUIREMENT, "python")?;
        let directory = tempfile::Builder::new().prefix("windlass-mail-").tempdir().map_err(io("make a folder"))?;
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("box")).map_err(io("make a folder"))?;
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let signed = signed.map_err(|error| MailServerError::Certificate(error.to_string()))?;
        let certificate = pem("CERTIFICATE", signed.cert.der());
        std::fs::write(path("cert.pem"), &certificate).map_err(io("write the certificate"))?;
        std::fs::write(path("key.pem"), pem("PRIVATE KEY", &signed.signing_key.serialize_der()))
            .map_err(io("write the key"))?;
        std::fs::write(path("server.py"), SCRIPT).map_err(io("write the script"))?;
        let manner = match encryption {
            Encryption::Plain => "plain",
            Encryption::StartTls => "starttls",
            Encryption::Tls => "tls",
        };
        let mut command = Command::new(python);
        command.arg(path("server.py")).arg(path("box")).arg(manner).arg(path("cert.pem")).arg(path("key.pem"));
        if let Some((user, password)) = account {
            command.args([user, password]);
        }
        let log = File::create(path("log")).map_err(io("make the log"))?;
        let mut server = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(io("start the mail server"))?;
        let mut line = String::new();
        if let Some(said) = server.stdout.take() {
            // Ends with the process, too.
            BufReader::new(said).read_line(&mut line).map_err(io("read what the mail server says"))?;
        }
        let started = Self { server, port: line.trim().parse().unwrap_or(0), certificate, directory };
        if started.port == 0 {
            return Err(MailServerError::Ended {
                log: std::fs::read_to_string(started.directory.path().join("log")).unwrap_or_default(),
            });
        }
        Ok(started)
    }

    /// `localhost:PORT`.
    pub fn place(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// That of the server, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What it took, in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn mails(&self) -> Result<Vec<Mail>, MailServerError> {
        let io = |source| MailServerError::Io { what: "read the box", source };
        let entries = std::fs::read_dir(self.directory.path().join("box")).map_err(io)?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths
            .iter()
            .map(|path| serde_json::from_slice(&std::fs::read(path).map_err(io)?).map_err(|e| io(e.into())))
            .collect()
    }
}

fn pem(label: &str, bytes: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    // All of it is ASCII.
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
