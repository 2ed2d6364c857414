//! Formatting of Windlass files.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::Checkout;
use crate::settings::disk;
use std::path::{Path, PathBuf};
use windlass_lang::definitions::is_windlass_file;
use windlass_model::diagnostic::Diagnostic;

/// Formats `files` (or all Windlass files of the repository) and returns those that were, or would be, changed.
pub fn format(directory: &Path, files: &[PathBuf], write: bool) -> AppResult<Vec<String>> {
    let checkout = Checkout::open(directory)?;
    let paths: Vec<PathBuf> = if files.is_empty() {
        checkout.work_tree()?.paths().iter().filter(|p| is_windlass_file(p)).map(|p| checkout.root.join(&**p)).collect()
    } else {
        files.iter().map(|file| directory.join(file)).collect()
    };
    let mut changed = Vec::new();
    let mut mistakes = Vec::new();
    for path in paths {
        let shown = path.strip_prefix(&checkout.root).unwrap_or(&path).to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            AppError::new(ErrorKind::Usage, Diagnostic::error("WL902", format!("cannot read {shown}: {error}")))
        })?;
        match windlass_lang::fmt::format(&shown, &text) {
            Ok(formatted) if formatted != text => {
                if write {
                    std::fs::write(&path, formatted).map_err(|error| disk(&path, &error))?;
                }
                changed.push(shown);
            }
            Ok(_) => {}
            Err(diagnostic) => mistakes.push(*diagnostic),
        }
    }
    if mistakes.is_empty() { Ok(changed) } else { Err(AppError::many(ErrorKind::Definition, mistakes)) }
}
