//! The sample operations on real programs: each works, takes itself back when a step fails, and goes on after a kill.
//!
//! The normal run fails every step (of etcd two, which take long) and takes a sample of the other moments by a fixed seed; `WINDLASS_TORTURE=N` takes N of each
//! kind for each operation (`cargo xtask torture --operations` takes all).

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../common/mod.rs"]
mod common;
mod databases;
mod faults;
mod files;
mod services;
mod story;

use std::path::Path;

/// Every file below a directory: its path, mode, age and content; and every directory and link.
pub fn tree(directory: &Path) -> String {
    let mut lines = Vec::new();
    look(directory, directory, &mut lines);
    lines.sort();
    lines.join("\n")
}

fn look(root: &Path, directory: &Path, lines: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let data = path.symlink_metadata().unwrap();
        if data.is_symlink() {
            lines.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
        } else if data.is_dir() {
            lines.push(format!("{name}/"));
            look(root, &path, lines);
        } else if data.is_file() {
            let content = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            lines.push(format!("{name} {:o} {} {content:?}", data.mode(), data.mtime()));
        }
    }
}
