//! A scratch copy of a stack: its files rewritten for a preview plan, or taken from another commit; everything around it is
//! linked.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Makes `scratch` look like the repository at `root` from the point of view of `directories` (relative to the root): these
/// hold copies with the contents of `rewritten` (file path relative to the root → content), everything beside them is a link.
/// Paths such as `../modules/x` and `../network/terraform.tfstate` keep their meaning. Returns the directory of the first.
///
/// # Errors
/// The copy cannot be written.
pub fn prepare(
    root: &Path,
    scratch: &Path,
    directories: &[String],
    rewritten: &BTreeMap<String, Vec<u8>>,
) -> std::io::Result<PathBuf> {
    if scratch.exists() {
        std::fs::remove_dir_all(scratch)?;
    }
    std::fs::create_dir_all(scratch)?;
    // Every directory on the way is real, so that a link beside it does not lead back into the repository.
    let mut real: std::collections::BTreeSet<PathBuf> = std::collections::BTreeSet::from([PathBuf::new()]);
    for directory in directories {
        let mut path = PathBuf::new();
        for segment in directory.split('/').filter(|s| !s.is_empty() && *s != ".") {
            path.push(segment);
            real.insert(path.clone());
        }
    }
    for directory in &real {
        let target = scratch.join(directory);
        std::fs::create_dir_all(&target)?;
        let entries = match std::fs::read_dir(root.join(directory)) {
            Ok(entries) => entries,
            // All of it comes from elsewhere.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if real.contains(&path) || matches!(entry.file_name().to_str(), Some(".git" | ".windlass" | ".terraform")) {
                continue;
            }
            let relative = path.to_string_lossy();
            match rewritten.get(relative.as_ref()) {
                Some(content) => std::fs::write(scratch.join(&path), content)?,
                // The lock file may be renewed by init, which must not reach the repository.
                None if entry.file_name() == ".terraform.lock.hcl" => {
                    std::fs::copy(entry.path(), scratch.join(&path)).map(|_| ())?
                }
                None => std::os::unix::fs::symlink(destination(&entry.path(), directory), scratch.join(&path))?,
            }
        }
    }
    for (path, content) in rewritten {
        let target = scratch.join(path);
        if !target.exists() {
            std::fs::write(target, content)?;
        }
    }
    Ok(directories.first().map_or_else(|| scratch.to_owned(), |first| scratch.join(first)))
}

/// What the link for an entry of `directory` points at. A link within the repository stays one within the copy: what it leads to
/// may be rewritten there.
fn destination(entry: &Path, directory: &Path) -> PathBuf {
    let inside = |target: &PathBuf| {
        let up = target.components().take_while(|part| *part == Component::ParentDir).count();
        up <= directory.components().count()
            && target.components().skip(up).all(|part| matches!(part, Component::Normal(_)))
    };
    std::fs::read_link(entry).ok().filter(inside).unwrap_or_else(|| entry.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_linked_and_files_rewritten() {
        let temp = tempfile::tempdir().unwrap();
        let (root, scratch) = (temp.path().join("r"), temp.path().join("s"));
        for (path, content) in [
            ("aws/db/main.tf", "old"),
            ("aws/db/terraform.tfstate", "state"),
            ("aws/network/x", "n"),
            ("modules/m/a.tf", "m"),
            ("modules/v1/a.tf", "old"),
            (".git/HEAD", "h"),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::write(temp.path().join("outside"), "o").unwrap();
        std::os::unix::fs::symlink("v1", root.join("modules/current")).unwrap();
        std::os::unix::fs::symlink("../../../outside", root.join("aws/db/outside")).unwrap();
        let rewritten = BTreeMap::from([
            ("modules/v1/a.tf".to_owned(), "new".into()),
            ("aws/db/main.tf".to_owned(), "new".into()),
            ("aws/db/windlass_preview.tf".to_owned(), "extra".into()),
        ]);
        let directory = prepare(&root, &scratch, &["aws/db".into(), "modules/v1".into()], &rewritten).unwrap();
        let read = |path: &str| std::fs::read_to_string(directory.join(path)).unwrap();
        assert_eq!(read("main.tf"), "new");
        assert_eq!(read("windlass_preview.tf"), "extra");
        assert_eq!(read("terraform.tfstate"), "state");
        assert_eq!(read("../network/x"), "n");
        assert_eq!(read("../../modules/m/a.tf"), "m");
        assert_eq!(read("../../modules/current/a.tf"), "new");
        assert_eq!(read("outside"), "o");
        assert!(!scratch.join(".git").exists());
        assert_eq!(std::fs::read_to_string(root.join("aws/db/main.tf")).unwrap(), "old");
    }
}
