//! The files that policies may read.

use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Reads the files that policies ask for with `parse_config_file`: those beside the policies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reader {
    directory: PathBuf,
    /// Directories of the policies that ask, below that one.
    bases: Vec<String>,
}

impl Reader {
    /// For modules (path in the directory, text).
    pub fn beside(directory: &Path, modules: &[(Arc<str>, String)]) -> Self {
        let mut bases: Vec<String> = Vec::new();
        for (path, text) in modules {
            if text.contains("parse_config_file") || text.contains("parse_combined_config_files") {
                let base = path.rsplit_once('/').map_or(".", |(base, _)| base).to_owned();
                if !bases.contains(&base) {
                    bases.push(base);
                }
            }
        }
        // Whoever reads may be in another directory.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self { directory, bases }
    }

    /// The path and the text of a file, by its path as a policy says it.
    ///
    /// # Errors
    /// There is none, there are several, it cannot be read: a sentence.
    pub fn read(&self, asked: &str) -> Result<(String, String), String> {
        let mut found: Vec<String> = self
            .bases
            .iter()
            .map(|base| normal(&Path::new(base).join(asked)))
            .filter(|path| self.directory.join(path).is_file())
            .collect();
        found.sort();
        found.dedup();
        match found.as_slice() {
            [path] => {
                let text = std::fs::read_to_string(self.directory.join(path))
                    .map_err(|error| format!("cannot read {path}: {error}"))?;
                Ok((path.clone(), text))
            }
            [] => Err(format!("there is no file {asked} beside the policy")),
            several => Err(format!("{asked} could be {}: name it so that it is one", several.join(" or "))),
        }
    }
}

/// Without `.` and `..` where they can be resolved in the text.
fn normal(path: &Path) -> String {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}
