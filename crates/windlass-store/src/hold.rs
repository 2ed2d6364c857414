//! Who has a database file: several commands together, or a server alone. A lock of the operating system on a file beside it,
//! which goes with the process that has it, however that ends.

use crate::{Result, StoreError};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use windlass_model::Micros;

/// How long one that wants the file alone waits for commands that end by themselves.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the file is wanted alone for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Alone {
    Server,
    /// A restore, or a move to another database.
    Restore,
}

/// The right to use a file, until this and all that came of it is dropped.
#[derive(Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// What stands in the lock's file while somebody has it alone.
#[derive(Serialize, Deserialize)]
struct Holder {
    what: Alone,
    pid: u32,
    host: String,
    since: Micros,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, end) = match self.what {
            Alone::Server => {
                ("a Windlass server", "set WINDLASS_URL to its address to work through it, or stop the server")
            }
            Alone::Restore => ("a restore", "wait until it has ended"),
        };
        let since = jiff::Timestamp::from_microsecond(self.since)
            .map_or_else(|_| self.since.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        write!(f, "{what} (process {} on {}, since {since}); {end}", self.pid, self.host)
    }
}

impl Hold {
    /// Together with others that ask for the same.
    pub fn shared(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        match file.try_lock_shared() {
            Ok(()) => {
                // Left by a server that was killed.
                if file.metadata().is_ok_and(|found| found.len() > 0) {
                    let _ = file.set_len(0);
                }
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) => Err(in_use(path, &mut file)),
            Err(TryLockError::Error(error)) => Err(disk(path, &error)),
        }
    }

    /// With nobody else.
    pub fn alone(path: &Path, what: Alone) -> Result<Self> {
        let mut file = open(path)?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < PATIENCE && read(&mut file).is_none() => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut file)),
                Err(TryLockError::Error(error)) => return Err(disk(path, &error)),
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let holder = Holder { what, pid: std::process::id(), host, since: now.as_micros() as Micros };
        let text = serde_json::to_vec(&holder).unwrap_or_default();
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(&text))
            .map_err(|e| disk(path, &e))?;
        Ok(Self(file))
    }
}

/// The lock's file: never removed, since two could hold locks on two files of one name then.
fn open(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&name);
    made.map_err(|error| disk(&name, &error))
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    serde_json::from_str(&text).ok()
}

fn in_use(path: &Path, file: &mut File) -> StoreError {
    let by = read(file).map_or_else(
        || "other commands of Windlass; wait until they have ended, or cancel them".to_owned(),
        |holder| holder.to_string(),
    );
    StoreError::InUse { place: path.display().to_string(), by }
}

fn disk(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Disk { path: path.to_owned(), message: error.to_string() }
}
