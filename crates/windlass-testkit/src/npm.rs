//! Packages from npm, installed once into the cache folder of this machine's user.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why there is no such package.
#[derive(Debug, thiserror::Error)]
pub enum NpmError {
    #[error(
        "`{program}` is not installed: some tests use packages from npm; install Node 20 or newer with npm, e.g. `apt-get install nodejs npm` (Debian, Ubuntu), `dnf install nodejs` (Fedora), `brew install node`"
    )]
    NotInstalled { program: &'static str },
    #[error("there is neither XDG_CACHE_HOME nor HOME to install {package} below")]
    NoCache { package: String },
    #[error("`npm install {package}` failed in {}: {output}", directory.display())]
    Install { package: String, directory: PathBuf, output: String },
}

/// The folder of a package, such as `oidc-provider` in its version `9.13.3`, below which `has` is a file.
///
/// # Errors
/// npm is missing, or the package cannot be installed.
pub fn package(name: &str, version: &str, has: &str) -> Result<PathBuf, NpmError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = cache.ok_or_else(|| NpmError::NoCache { package: format!("{name}@{version}") })?;
    install(&cache, "npm", (name, version, has))
}

fn install(cache: &Path, npm: &'static str, package: (&str, &str, &str)) -> Result<PathBuf, NpmError> {
    let (name, version, has) = package;
    let tests = cache.join("windlass-tests");
    let installed = tests.join(format!("{}-{version}", name.replace('/', "-").trim_start_matches('@')));
    let found = installed.join("node_modules").join(name);
    if found.join(has).is_file() {
        return Ok(found);
    }
    let failed = |output: String| NpmError::Install {
        package: format!("{name}@{version}"),
        directory: installed.clone(),
        output,
    };
    let io = |error: std::io::Error| failed(error.to_string());
    std::fs::create_dir_all(&tests).map_err(io)?;
    // Several test programs may do this at once: each in a folder of its own, and the first to be done wins.
    let folder = tempfile::Builder::new().prefix("installing-").tempdir_in(&tests).map_err(io)?;
    let output = Command::new(npm)
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(folder.path())
        .arg(format!("{name}@{version}"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => NpmError::NotInstalled { program: npm },
            _ => io(error),
        })?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    match std::fs::rename(folder.path(), &installed) {
        Err(error) if !found.join(has).is_file() => Err(io(error)),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_npm_says_what_to_install() {
        let cache = tempfile::tempdir().unwrap();
        let package = ("@octokit/none", "1.0.0", "package.json");
        let error = install(cache.path(), "npm-that-is-not-there", package).unwrap_err().to_string();
        assert!(error.starts_with("`npm-that-is-not-there` is not installed"), "{error}");
        assert!(error.contains("apt-get install nodejs npm"), "{error}");
        // Nothing is left of the attempt.
        assert_eq!(std::fs::read_dir(cache.path().join("windlass-tests")).unwrap().count(), 0);
    }
}
