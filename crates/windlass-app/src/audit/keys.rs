//! The key that signs, and what is known of the record apart from its database: files in a server's data directory.

use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::settings::disk;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind as Io, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use windlass_model::audit::{Seal, SigningKey, VerifyingKey};
use windlass_model::diagnostic::Diagnostic;

/// What a server remembers of the record, so that its database alone cannot tell another story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Who signed the first seal.
    pub key: VerifyingKey,
    /// The last seal that was made here, without its list.
    pub head: Seal,
}

#[derive(Debug, Clone)]
pub struct Keys {
    directory: PathBuf,
}

impl Keys {
    /// Those in a server's data directory.
    pub fn of(data: &Path) -> Self {
        Self { directory: data.to_owned() }
    }

    fn current_file(&self) -> PathBuf {
        self.directory.join("audit-key.pk8")
    }

    fn next_file(&self) -> PathBuf {
        self.directory.join("audit-key.next.pk8")
    }

    fn trust_file(&self) -> PathBuf {
        self.directory.join("audit-trust.json")
    }

    /// The key that signs.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn current(&self) -> AppResult<Option<SigningKey>> {
        read_key(&self.current_file())
    }

    /// The key that signs, made where there is none.
    ///
    /// # Errors
    /// It can be neither read nor made.
    pub fn current_or_new(&self) -> AppResult<SigningKey> {
        if self.current()?.is_none() {
            create_key(&self.current_file())?;
        }
        self.current()?.ok_or_else(|| internal("the key that was made is not there"))
    }

    /// Takes the key that somebody else keeps in `file` where none is here yet. One that is here goes on: it may be a later one.
    ///
    /// # Errors
    /// It cannot be read, is no key, or cannot be written here.
    pub fn adopt(&self, file: &Path) -> AppResult<()> {
        if self.current()?.is_some() {
            return Ok(());
        }
        let der = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
        SigningKey::from_pkcs8(&der).map_err(|error| unreadable(file, &error))?;
        write_key(&self.current_file(), &der)
    }

    /// The key that is to take over.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn next(&self) -> AppResult<Option<SigningKey>> {
        read_key(&self.next_file())
    }

    /// Makes the key that takes over with the next seal; the one that waits already where this was asked before.
    ///
    /// # Errors
    /// Nothing was signed here yet, or the directory cannot be written.
    pub fn rotate(&self) -> AppResult<VerifyingKey> {
        if self.current()?.is_none() {
            let diagnostic =
                Diagnostic::error("WL828", format!("there is no key for seals in {}", self.directory.display()))
                    .help("name the data directory of a server that ran before: --data DIR");
            return Err(AppError::new(ErrorKind::Usage, diagnostic));
        }
        create_key(&self.next_file())?;
        Ok(self.next()?.ok_or_else(|| internal("the key that was made is not there"))?.verifying_key())
    }

    /// The next key becomes the one that signs. The one before signs nothing any more, and is gone.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn promote(&self) -> AppResult<()> {
        let (next, current) = (self.next_file(), self.current_file());
        let renamed = std::fs::rename(next, &current).and_then(|()| std::fs::File::open(&self.directory)?.sync_all());
        renamed.map_err(|error| disk(&current, &error))
    }

    /// What is remembered; `None` before the first seal.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn trust(&self) -> AppResult<Option<Trust>> {
        let path = self.trust_file();
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == Io::NotFound => return Ok(None),
            text => text.map_err(|error| unreadable(&path, &error))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| unreadable(&path, &error))
    }

    /// Remembers a seal.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn trust_set(&self, trust: &Trust) -> AppResult<()> {
        let path = self.trust_file();
        let text = serde_json::to_vec(trust).map_err(internal)?;
        let write = || -> std::io::Result<()> {
            let mut draft = tempfile::NamedTempFile::new_in(&self.directory)?;
            draft.write_all(&text)?;
            draft.as_file().sync_all()?;
            draft.persist(&path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error| disk(&path, &error))
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> AppError {
    let diagnostic = Diagnostic::error("WL828", format!("cannot read {}: {error}", path.display()))
        .help("give the user that the server runs as access to it, or put it back from a backup");
    AppError::new(ErrorKind::Unavailable, diagnostic)
}

fn read_key(path: &Path) -> AppResult<Option<SigningKey>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == Io::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
        Ok(der) => SigningKey::from_pkcs8(&der).map(Some).map_err(|error| unreadable(path, &error)),
    }
}

fn create_key(path: &Path) -> AppResult<()> {
    write_key(path, &SigningKey::generate_pkcs8(&SystemRandom::new()).map_err(internal)?)
}

/// A key in a file of mode 0600, whole or not at all. One that is there already stays: of two that make it at once, both use one.
fn write_key(path: &Path, der: &[u8]) -> AppResult<()> {
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let make = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(der)?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != Io::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    make().map_err(|error| disk(path, &error))
}
