//! A saved plan: an unsigned zip, so its digest is taken where it was made and checked before it is used.

use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("its content was changed (SHA-256 {found}, expected {expected})")]
    Changed { expected: String, found: String },
}

/// Makes the file private and returns its SHA-256, hexadecimal.
///
/// # Errors
/// It cannot be read or its mode set.
pub fn seal(path: &Path) -> Result<String, PlanFileError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    digest(path)
}

/// Refuses a file that is not the one that was sealed.
///
/// # Errors
/// [`PlanFileError::Changed`].
pub fn verify(path: &Path, expected: &str) -> Result<(), PlanFileError> {
    let found = digest(path)?;
    if found == expected { Ok(()) } else { Err(PlanFileError::Changed { expected: expected.to_owned(), found }) }
}

fn digest(path: &Path) -> Result<String, PlanFileError> {
    Ok(Sha256::digest(std::fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan");
        std::fs::write(&path, "a plan").unwrap();
        let sha = seal(&path).unwrap();
        verify(&path, &sha).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert!(matches!(verify(&path, &sha), Err(PlanFileError::Changed { .. })));
    }
}
