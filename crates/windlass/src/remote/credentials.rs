//! Tokens that `windlass login` got, by the address of their server, and those of jobs of a CI, in a file that its owner alone reads.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;

/// What stands between the address of a server and the digest of an identity token.
const OF_JOB: &str = "#job-";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub token: String,
    /// As the server lists it; empty for that of a job.
    pub id: String,
    pub expires_at: Micros,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    servers: BTreeMap<String, Credential>,
}

/// Where they are kept.
///
/// # Errors
/// There is no home directory.
pub fn path() -> AppResult<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    directory.map(|directory| directory.join("windlass/credentials")).ok_or_else(|| {
        let diagnostic = Diagnostic::error("WL922", "there is no home directory to keep a token in");
        AppError::new(ErrorKind::Usage, diagnostic.help("set WINDLASS_TOKEN instead"))
    })
}

fn broken(path: &std::path::Path, why: impl std::fmt::Display, help: &str) -> AppError {
    let diagnostic = Diagnostic::error("WL922", format!("{}: {why}", path.display()));
    AppError::new(ErrorKind::Usage, if help.is_empty() { diagnostic } else { diagnostic.help(help) })
}

fn read() -> AppResult<Content> {
    let path = path()?;
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Content::default()),
        file => file.map_err(|error| broken(&path, error, ""))?,
    };
    let mode = file.metadata().map_err(|error| broken(&path, error, ""))?.mode();
    if mode & 0o077 != 0 {
        let help = format!("chmod 600 {}; then get a new token, since somebody may know this one", path.display());
        return Err(broken(&path, "others than its owner may read it", &help));
    }
    let content = std::io::read_to_string(file).map_err(|error| broken(&path, error, ""))?;
    let help = "remove it, and run `windlass login` again";
    serde_json::from_str(&content).map_err(|error| broken(&path, error, help))
}

/// What the token is kept under that a server gave for an identity token of a CI: such a token is taken once, and a job may have many
/// commands.
pub fn of_job(url: &str, identity: &str) -> String {
    let digest: String = Sha256::digest(identity).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{url}{OF_JOB}{digest}")
}

/// The token of a server, when there is one.
///
/// # Errors
/// The file cannot be used.
pub fn find(url: &str) -> AppResult<Option<Credential>> {
    // Without a home there is none.
    if path().is_err() {
        return Ok(None);
    }
    Ok(read()?.servers.remove(url))
}

/// Keeps the token of a server, or forgets it where there is none.
///
/// # Errors
/// The file cannot be used.
pub fn keep(url: &str, credential: Option<Credential>) -> AppResult<()> {
    let path = path()?;
    let failed = |error: std::io::Error| broken(&path, error, "");
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    let new = |path: PathBuf| OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    // One program at a time changes it; whoever reads sees all of it, before or after.
    let lock = new(path.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut content = read()?;
    let now = jiff::Timestamp::now().as_microsecond();
    content.servers.retain(|name, known| !name.contains(OF_JOB) || known.expires_at > now);
    match credential {
        Some(credential) => content.servers.insert(url.to_owned(), credential),
        None => content.servers.remove(url),
    };
    let text = serde_json::to_vec_pretty(&content).map_err(windlass_app::error::internal)?;
    let aside = path.with_extension("new");
    let mut file = new(aside.clone()).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&aside, &path).map_err(failed)
}
