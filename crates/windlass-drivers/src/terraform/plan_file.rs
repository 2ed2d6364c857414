//! A saved plan: an unsigned zip with secrets in the clear. It is read where it was made, then sealed: encrypted and bound to
//! what it may be used for, so that what is opened later is what was made, for the same purpose, by this installation.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use windlass_model::binding::{StateVersion, keyed_digest};

#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    #[error("it cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    #[error("it was changed, or made for something else, or by another installation")]
    Changed,
    #[error("it is not a plan of terraform: {0}")]
    NotAPlan(String),
}

/// The state a plan was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanState {
    /// `None` when there was no state.
    pub version: Option<StateVersion>,
    /// The state file as it was before the plan refreshed it.
    pub content: Vec<u8>,
}

/// Reads the state out of a plan file.
///
/// # Errors
/// It is not a plan file.
pub fn state_of(path: &Path) -> Result<PlanState, PlanFileError> {
    let not = |error: &dyn std::fmt::Display| PlanFileError::NotAPlan(error.to_string());
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path)?).map_err(|e| not(&e))?;
    let mut read = |name: &str| -> Result<serde_json::Value, PlanFileError> {
        let entry = archive.by_name(name).map_err(|e| not(&e))?;
        serde_json::from_reader(std::io::BufReader::new(entry)).map_err(|e| not(&e))
    };
    // Only the refreshed state carries lineage and serial, which are those of the state as it was.
    let (refreshed, mut before) = (read("tfstate")?, read("tfstate-prev")?);
    for name in ["lineage", "serial"] {
        before[name] = refreshed.get(name).cloned().unwrap_or_default();
    }
    let text = |name: &str| before.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let lineage = text("lineage");
    let serial = before.get("serial").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let version = (!lineage.is_empty()).then_some(StateVersion { lineage, serial });
    Ok(PlanState { version, content: before.to_string().into_bytes() })
}

/// Encrypts a content; `purpose` has to be given again to open it.
///
/// # Errors
/// There is no randomness.
pub fn seal(content: &[u8], key: &[u8], purpose: &str) -> Result<Vec<u8>, PlanFileError> {
    let mut nonce = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut nonce)?;
    let payload = Payload { msg: content, aad: purpose.as_bytes() };
    let encrypted = cipher(key).encrypt(&XNonce::from(nonce), payload).map_err(|_| PlanFileError::Changed)?;
    Ok([&nonce[..], &encrypted].concat())
}

/// The content that was sealed.
///
/// # Errors
/// [`PlanFileError::Changed`] when it is not what was sealed with this key for this purpose.
pub fn open(sealed: &[u8], key: &[u8], purpose: &str) -> Result<Vec<u8>, PlanFileError> {
    let (nonce, encrypted) = sealed.split_at_checked(24).ok_or(PlanFileError::Changed)?;
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| PlanFileError::Changed)?;
    let payload = Payload { msg: encrypted, aad: purpose.as_bytes() };
    cipher(key).decrypt(&XNonce::from(nonce), payload).map_err(|_| PlanFileError::Changed)
}

/// A sealed plan in the clear for as long as this lives: terraform takes plans as files only.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
}

impl Opened {
    /// Opens what was sealed into the file `path`, whose directory is made where it is missing.
    ///
    /// # Errors
    /// As [`open`]; the file cannot be written.
    pub fn new(sealed: &[u8], path: PathBuf, key: &[u8], purpose: &str) -> Result<Self, PlanFileError> {
        let content = open(sealed, key, purpose)?;
        if let Some(directory) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let opened = Self { path };
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&opened.path)?;
        file.write_all(&content)?;
        Ok(opened)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // The directory of the run is removed with everything in it at the latest.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The installation's key serves several ends; each has a key of its own made from it.
fn cipher(key: &[u8]) -> XChaCha20Poly1305 {
    let own = Sha256::digest(keyed_digest(key, b"windlass plan files v1").as_bytes());
    XChaCha20Poly1305::new(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_as_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let sealed = seal(b"a plan with secret", b"key", "net at commit c").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_ne!(sealed, seal(b"a plan with secret", b"key", "net at commit c").unwrap(), "no two are the same");
        assert_eq!(open(&sealed, b"key", "net at commit c").unwrap(), b"a plan with secret");
        assert!(matches!(open(&sealed, b"key", "app at commit c"), Err(PlanFileError::Changed)));
        assert!(matches!(open(&sealed, b"other", "net at commit c"), Err(PlanFileError::Changed)));
        let clear = directory.path().join("runs/x.tfplan.open");
        let opened = Opened::new(&sealed, clear.clone(), b"key", "net at commit c").unwrap();
        assert_eq!(opened.path(), clear);
        assert_eq!(std::fs::read(&clear).unwrap(), b"a plan with secret");
        drop(opened);
        assert!(!clear.exists());
        for at in [0, 30, sealed.len() - 1] {
            let mut edited = sealed.clone();
            edited[at] ^= 1;
            assert!(matches!(open(&edited, b"key", "net at commit c"), Err(PlanFileError::Changed)), "byte {at}");
        }
        assert!(matches!(open(&sealed[..20], b"key", "net at commit c"), Err(PlanFileError::Changed)));
        std::fs::write(&clear, &sealed).unwrap();
        assert!(matches!(state_of(&clear), Err(PlanFileError::NotAPlan(_))));
    }
}
