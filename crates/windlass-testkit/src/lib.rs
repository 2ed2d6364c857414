//! What tests, the demo and the benchmarks stand on: repositories to work on and a hermetic environment to run the command line
//! in. Development only; no shipped crate may depend on it.

pub mod authority;
pub mod balancer;
pub mod chat;
pub mod cli;
pub mod cpu;
pub mod depot;
pub mod etcd;
pub mod forge;
pub mod git;
pub mod haproxy;
pub mod kubernetes;
pub mod mail;
pub mod mysql;
pub mod npm;
pub mod oidc;
pub mod operations;
pub mod plan;
pub mod podman;
pub mod postgres;
pub mod proxy;
pub mod pypi;
pub mod registry;
pub mod s3;
pub mod sample;
pub mod services;
pub mod state_server;
pub mod synthetic;

use std::path::{Path, PathBuf};

/// Why a repository or an environment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TestkitError {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error("cannot start {program}")]
    Start { program: String, source: std::io::Error },
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed { command: String, status: std::process::ExitStatus, stderr: String },
    #[error("{program} does not answer: {log}")]
    Silent { program: String, log: String },
    #[error("{problem}")]
    Refused { problem: String },
}

/// Writes a file and the directories above it.
///
/// # Errors
/// [`TestkitError::Write`].
pub fn write_file(path: &Path, content: &str) -> Result<(), TestkitError> {
    let at = |source| TestkitError::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(at)?;
    }
    std::fs::write(path, content).map_err(at)
}

/// Makes the directory, or accepts one that is there and empty.
fn make_empty(path: &Path) -> Result<(), TestkitError> {
    let at = |source| TestkitError::Write { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(at)?;
    match std::fs::read_dir(path).map_err(at)?.next() {
        None => Ok(()),
        Some(_) => Err(TestkitError::NotEmpty { path: path.to_owned() }),
    }
}
