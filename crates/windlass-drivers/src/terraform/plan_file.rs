//! A saved plan: an unsigned zip with secrets in the clear. It is read where it was made, then sealed: encrypted and bound to
//! what it may be used for, so that what is opened later is what was made, for the same purpose, by this installation.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
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

/// Encrypts the file at `path` into `path` + `.sealed` and removes it. `purpose` has to be given again to open it. What comes
/// back is the SHA-256 of the sealed file, hexadecimal.
///
/// # Errors
/// It cannot be read, or the sealed one not written.
pub fn seal(path: &Path, key: &[u8], purpose: &str) -> Result<(PathBuf, String), PlanFileError> {
    let sealed = sealed_name(path);
    let digest = seal_bytes(&std::fs::read(path)?, &sealed, key, purpose)?;
    std::fs::remove_file(path)?;
    Ok((sealed, digest))
}

/// Encrypts `content` into a new private file.
///
/// # Errors
/// It cannot be written.
pub fn seal_bytes(content: &[u8], to: &Path, key: &[u8], purpose: &str) -> Result<String, PlanFileError> {
    let mut nonce = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut nonce)?;
    let payload = Payload { msg: content, aad: purpose.as_bytes() };
    let encrypted = cipher(key).encrypt(&XNonce::from(nonce), payload).map_err(|_| PlanFileError::Changed)?;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    file.write_all(&nonce)?;
    file.write_all(&encrypted)?;
    file.sync_all()?;
    let digest = Sha256::new_with_prefix(nonce).chain_update(&encrypted).finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The content of a sealed file.
///
/// # Errors
/// [`PlanFileError::Changed`] when it is not what was sealed with this key for this purpose.
pub fn open(sealed: &Path, key: &[u8], purpose: &str) -> Result<Vec<u8>, PlanFileError> {
    let content = std::fs::read(sealed)?;
    let (nonce, encrypted) = content.split_at_checked(24).ok_or(PlanFileError::Changed)?;
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
    /// # Errors
    /// As [`open`].
    pub fn new(sealed: &Path, key: &[u8], purpose: &str) -> Result<Self, PlanFileError> {
        let content = open(sealed, key, purpose)?;
        let opened = Self { path: sealed.with_extension("open") };
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

fn sealed_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sealed");
    name.into()
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
    fn a_sealed_file_opens_only_as_it_was_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tfplan");
        std::fs::write(&path, "a plan with secret").unwrap();
        let (sealed, _) = seal(&path, b"key", "net at commit c").unwrap();
        assert!(!path.exists());
        let raw = std::fs::read(&sealed).unwrap();
        assert!(!raw.windows(6).any(|w| w == b"secret"));
        assert_eq!(open(&sealed, b"key", "net at commit c").unwrap(), b"a plan with secret");
        assert!(matches!(open(&sealed, b"key", "app at commit c"), Err(PlanFileError::Changed)));
        assert!(matches!(open(&sealed, b"other", "net at commit c"), Err(PlanFileError::Changed)));
        let opened = Opened::new(&sealed, b"key", "net at commit c").unwrap();
        let clear = opened.path().to_owned();
        assert_eq!(std::fs::read(&clear).unwrap(), b"a plan with secret");
        drop(opened);
        assert!(!clear.exists());
        for at in [0, 30, raw.len() - 1] {
            let mut edited = raw.clone();
            edited[at] ^= 1;
            std::fs::write(&sealed, &edited).unwrap();
            assert!(matches!(open(&sealed, b"key", "net at commit c"), Err(PlanFileError::Changed)), "byte {at}");
        }
        std::fs::write(&sealed, &raw[..20]).unwrap();
        assert!(matches!(open(&sealed, b"key", "net at commit c"), Err(PlanFileError::Changed)));
        assert!(matches!(state_of(&sealed), Err(PlanFileError::NotAPlan(_))));
    }
}
