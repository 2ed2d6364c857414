//! Bundles: Rego and JSON files that lie elsewhere, in a git repository or an OCI registry.

use crate::git::{GitError, GitTree};
use crate::oci::{self, Image, OciError};
use std::path::Path;
use windlass_lang::tree::Tree;

/// Where a bundle lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Git {
        url: String,
        /// Below the root of the repository; empty for all of it.
        directory: String,
        /// A branch, a tag or a full commit.
        reference: String,
    },
    Oci(Image),
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{0}")]
    Syntax(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Oci(#[from] OciError),
    #[error("it holds no .rego file{0}")]
    Empty(String),
    #[error("it holds more than {} MiB of files", LARGEST >> 20)]
    TooLarge,
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What a bundle may hold, bytes.
pub(crate) const LARGEST: u64 = 32 << 20;

impl Source {
    /// Reads `git::https://host/repository.git//directory?ref=v1` or `oci://host/repository:tag@sha256:…`.
    ///
    /// # Errors
    /// [`BundleError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, BundleError> {
        let wrong = |what: &str| BundleError::Syntax(format!("`{text}` {what}"));
        if let Some(rest) = text.strip_prefix("oci://") {
            return Image::parse(rest)
                .map(Self::Oci)
                .ok_or_else(|| wrong("is not oci://HOST/REPOSITORY[:TAG][@sha256:…]"));
        }
        let Some(rest) = text.strip_prefix("git::") else {
            return Err(wrong("begins with neither git:: nor oci://"));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let reference = query.strip_prefix("ref=").filter(|name| !name.is_empty() && !name.contains('&'));
        let reference = reference.ok_or_else(|| wrong("does not say which ?ref=… is meant"))?;
        let (scheme, path) = rest.split_once("://").ok_or_else(|| wrong("has no scheme such as https://"))?;
        if !matches!(scheme, "https" | "ssh" | "file" | "http") {
            return Err(wrong("is fetched over https, ssh, http or file, and nothing else"));
        }
        let (path, directory) = path.split_once("//").unwrap_or((path, ""));
        let person = path.split('/').next().and_then(|authority| Some(authority.rsplit_once('@')?.0));
        if person.is_some_and(|person| person.contains(':') || scheme.starts_with("http")) {
            let what = "it names a user or a password in its address; git asks its credential helper for them";
            return Err(BundleError::Syntax(what.into()));
        }
        let odd = |part: &str| part.starts_with('-') || part.chars().any(|c| c.is_whitespace() || c.is_control());
        if path.is_empty() || [path, directory, reference].into_iter().any(odd) {
            return Err(wrong("is not git::SCHEME://HOST/PATH[//DIRECTORY]?ref=NAME"));
        }
        Ok(Self::Git {
            url: format!("{scheme}://{path}"),
            directory: directory.trim_matches('/').to_owned(),
            reference: reference.to_owned(),
        })
    }

    /// It names its content, which nobody can change: a full commit, or the digest of a manifest.
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Git { reference, .. } => {
                matches!(reference.len(), 40 | 64) && reference.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Self::Oci(image) => image.digest.is_some(),
        }
    }
}

/// Fetches its `.rego` and `.json` files, paths relative to the bundle, sorted. `scratch` is a directory that is empty or missing.
///
/// # Errors
/// It cannot be fetched, is not what its source says, holds no Rego, or too much.
pub fn fetch(source: &Source, scratch: &Path) -> Result<Vec<(String, String)>, BundleError> {
    let mut files: Vec<(String, Vec<u8>)> = match source {
        Source::Git { url, directory, reference } => {
            let (commit, tree) = GitTree::fetch(scratch, url, reference)?;
            if source.is_pinned() && !commit.eq_ignore_ascii_case(reference) {
                return Err(BundleError::Syntax(format!("{reference} is no commit, but names {commit}")));
            }
            let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
            let mut files = Vec::new();
            let mut size = 0;
            for path in tree.paths() {
                let Some(name) = path.strip_prefix(&prefix).filter(|name| is_wanted(name)) else { continue };
                // A link is not followed: what it leads to has a path of its own.
                let Some(content) = tree.read(path)? else { continue };
                size += content.len() as u64;
                if size > LARGEST {
                    return Err(BundleError::TooLarge);
                }
                files.push((name.to_owned(), content));
            }
            files
        }
        Source::Oci(image) => oci::pull(image)?,
    };
    files.retain(|(path, _)| is_wanted(path));
    if !files.iter().any(|(path, _)| path.ends_with(".rego")) {
        let within = match source {
            Source::Git { directory, .. } if !directory.is_empty() => format!(" in {directory}"),
            _ => String::new(),
        };
        return Err(BundleError::Empty(within));
    }
    files.sort();
    files.dedup_by(|a, b| a.0 == b.0);
    let text = |(path, content): (String, Vec<u8>)| match String::from_utf8(content) {
        Ok(text) => Ok((path, text)),
        Err(_) => Err(BundleError::NotText(path)),
    };
    files.into_iter().map(text).collect()
}

fn is_wanted(path: &str) -> bool {
    path.ends_with(".rego") || path.ends_with(".json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read() {
        let check = |text: &str, want: Result<(Source, bool), &str>| match (Source::parse(text), want) {
            (Ok(found), Ok((source, pinned))) => assert_eq!((&found, found.is_pinned()), (&source, pinned), "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (found, want) => panic!("{text}: {found:?} / {want:?}"),
        };
        let git = |url: &str, directory: &str, reference: &str| Source::Git {
            url: url.into(),
            directory: directory.into(),
            reference: reference.into(),
        };
        let commit = "0123456789012345678901234567890123456789";
        check("git::https://h/r.git//a/b?ref=v1", Ok((git("https://h/r.git", "a/b", "v1"), false)));
        check(&format!("git::ssh://git@h/r?ref={commit}"), Ok((git("ssh://git@h/r", "", commit), true)));
        check("git::file:///srv/r?ref=main", Ok((git("file:///srv/r", "", "main"), false)));
        check("git::https://h/r.git", Err("which ?ref="));
        check("git::ext::sh -c true?ref=x", Err("has no scheme"));
        check("git::ext://sh?ref=x", Err("nothing else"));
        check("git::https://h/r?ref=--upload-pack=x", Err("is not git::"));
        check("git::https://-h/r//d?ref=x", Err("is not git::"));
        check("git::https://u:hunter2@h/r?ref=x", Err("it names a user or a password"));
        check("git::https://t0ken@h/r?ref=x", Err("it names a user or a password"));
        check("https://h/r", Err("neither git:: nor oci://"));
        check("oci://h", Err("is not oci://"));
    }
}
