//! The sample operations (`examples/operations`) as a repository, for a place of one's own.

use crate::git::Git;
use crate::{TestkitError, write_file};
use std::path::{Path, PathBuf};

/// What `site.windlass.hcl` of the repository says. What an operation does not use may stay as it is.
#[derive(Debug, Clone)]
pub struct Site {
    /// Directory of backups.
    pub backups: PathBuf,
    /// Directory of services under `runsv`.
    pub services: PathBuf,
    /// Port of PostgreSQL at 127.0.0.1, whose user is `postgres`.
    pub postgres: u16,
    pub databases: Vec<String>,
    /// URLs with commas between them.
    pub etcd: String,
    /// Directory of releases of etcd.
    pub releases: PathBuf,
    pub socket: PathBuf,
    pub map: PathBuf,
    pub url: String,
    /// Directory of an [`crate::authority::Authority`].
    pub authority: PathBuf,
    /// Host and port where the certificate is shown.
    pub secure: String,
    /// The area `exports` of `clean-up`.
    pub exports: PathBuf,
}

impl Default for Site {
    fn default() -> Self {
        let nowhere = PathBuf::from("/nonexistent");
        Self {
            backups: nowhere.clone(),
            services: nowhere.clone(),
            postgres: 5432,
            databases: vec!["shop".into()],
            etcd: "http://127.0.0.1:2379".into(),
            releases: nowhere.clone(),
            socket: nowhere.clone(),
            map: nowhere.clone(),
            url: "http://127.0.0.1:8080".into(),
            authority: nowhere.clone(),
            secure: "127.0.0.1:8443".into(),
            exports: nowhere,
        }
    }
}

impl Site {
    fn text(&self) -> String {
        let Self {
            backups,
            services,
            postgres,
            databases,
            etcd,
            releases,
            socket,
            map,
            url,
            authority,
            secure,
            exports,
        } = self;
        format!(
            "locals {{\n  backups  = {backups:?}\n  services = {services:?}\n\n  database = {{\n    host  = \"127.0.0.1\"\n    \
             port  = \"{postgres}\"\n    user  = \"postgres\"\n    names = {databases:?}\n  }}\n\n  etcd = {{\n    \
             endpoints = {etcd:?}\n    releases  = {releases:?}\n  }}\n\n  haproxy = {{\n    socket = {socket:?}\n    \
             map    = {map:?}\n    url    = {url:?}\n  }}\n\n  certificates = {{\n    directory = {authority:?}\n    \
             authority = {authority:?}\n    service   = \"haproxy\"\n    names     = [\"shop.example.com\"]\n    \
             address   = {secure:?}\n  }}\n\n  cleanup = {{\n    areas = {{\n      exports = {exports:?}\n    }}\n  }}\n}}\n"
        )
    }
}

/// Writes the operations into `root`, a git work tree, with the site's file, and commits them.
///
/// # Errors
/// A file cannot be read or written, or git fails.
pub fn write_operations(root: &Path, site: &Site) -> Result<(), TestkitError> {
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/operations"), root)?;
    write_file(&root.join("site.windlass.hcl"), &site.text())?;
    let git = Git::open(root);
    git.run(&["add", "--all"])?;
    git.commit(("SRE Team", "sre@example.com"), "2026-01-05T09:00:00Z", "Operations")
}

/// Writes `clean-up` and `put-back` into the folder `operations` of a repository that has a team `sre`, for the files of `exports`.
///
/// # Errors
/// A file cannot be read or written.
pub fn write_clean_up(root: &Path, exports: &Path) -> Result<(), TestkitError> {
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/operations/cleanup"),
        &root.join("operations/cleanup"),
    )?;
    let file = root.join("operations/cleanup/cleanup.windlass.hcl");
    let at = |source| TestkitError::Write { path: file.clone(), source };
    let text = std::fs::read_to_string(&file).map_err(at)?.replace("\"cleanup", "\"operations/cleanup");
    let site = format!(
        "team \"shop\" {{\n  members = [\"email:shop@example.com\"]\n}}\n\nlocals {{\n  cleanup = {{\n    areas = {{\n      \
         exports = {exports:?}\n    }}\n  }}\n}}\n"
    );
    write_file(&file, &text)?;
    write_file(&root.join("operations/site.windlass.hcl"), &site)
}

/// With the modes of the files.
fn copy(from: &Path, to: &Path) -> Result<(), TestkitError> {
    let at = |source| TestkitError::Write { path: to.to_owned(), source };
    std::fs::create_dir_all(to).map_err(at)?;
    for entry in std::fs::read_dir(from).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(at)?;
        }
    }
    Ok(())
}
