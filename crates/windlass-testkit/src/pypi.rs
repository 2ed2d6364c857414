//! Programs from PyPI, each in an environment of its own in the cache folder of this machine's user, where it is installed once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why there is no such program.
#[derive(Debug, thiserror::Error)]
pub enum PypiError {
    #[error(
        "`python3` is not installed: some tests run programs from PyPI; install it, e.g. `apt-get install python3-venv`"
    )]
    NotInstalled,
    #[error("there is neither XDG_CACHE_HOME nor HOME to install {requirement} below")]
    NoCache { requirement: String },
    #[error("{requirement} cannot be installed in {}: {output}", directory.display())]
    Install { requirement: String, directory: PathBuf, output: String },
}

/// A program of the environment in which `requirement`, such as `moto[server]==5.2.1`, is installed; `python` is one of each.
///
/// # Errors
/// Python is missing, or the package cannot be installed.
pub fn environment(requirement: &str, program: &str) -> Result<PathBuf, PypiError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = cache.ok_or_else(|| PypiError::NoCache { requirement: requirement.to_owned() })?;
    let (name, version) = requirement.split_once("==").unwrap_or((requirement, "any"));
    let name = name.split('[').next().unwrap_or(name);
    let directory = cache.join("windlass").join(format!("{name}-{version}"));
    let failed = |error: std::io::Error| PypiError::Install {
        requirement: requirement.to_owned(),
        directory: directory.clone(),
        output: error.to_string(),
    };
    // Several test programs may ask for it at once.
    std::fs::create_dir_all(&directory).map_err(failed)?;
    let alone = File::create(directory.join("lock")).map_err(failed)?;
    alone.lock().map_err(failed)?;
    // It is there when all is installed.
    let done = directory.join("installed");
    if !done.is_file() {
        install(&directory, requirement)?;
        std::fs::write(&done, "").map_err(failed)?;
    }
    Ok(directory.join("bin").join(program))
}

/// Programs of a virtual environment name the folder they are in: it is made where it stays.
fn install(directory: &Path, requirement: &str) -> Result<(), PypiError> {
    let failed = |output: String| PypiError::Install {
        requirement: requirement.to_owned(),
        directory: directory.to_owned(),
        output,
    };
    let run = |command: &mut Command| match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(PypiError::NotInstalled),
        Err(error) => Err(failed(error.to_string())),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
    run(Command::new(directory.join("bin/pip")).args(["install", "--quiet"]).arg(requirement))
}
