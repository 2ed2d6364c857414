//! One read-only mirror of unpacked providers for all stacks of a user. Each provider version is fetched once, by
//! `providers mirror`, checked against the lock file that named it, and moved into its place in one step; `init` then links to it
//! instead of unpacking a copy for every stack.

use super::lock_file::{Locked, copy_and_sum, package_hash};
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Read, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use windlass_model::diagnostic::Diagnostic;

#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error("the mirror of providers cannot be written at {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the archive of {provider} cannot be read: {message}")]
    Archive { provider: String, message: String },
    /// What was fetched is not what the lock file allows.
    #[error("{provider} as fetched has the checksums {found}, and the lock file allows neither")]
    Mismatch { provider: String, found: String },
}

impl MirrorError {
    /// What is said of it to the people whose lock file it is; `None` for what is no reason to stop: terraform can do without us.
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        matches!(self, Self::Mismatch { .. }).then(|| {
            Diagnostic::error("WL520", self.to_string())
                .detail("Somebody changed the provider at its source, or the lock file; nothing of it was kept.")
                .help("find out which; `terraform providers lock` writes the checksums anew")
        })
    }
}

/// A package that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its `h1:`.
    pub hash: String,
    /// Size of its archive.
    pub bytes: u64,
}

/// The mirror below one directory: `packages` (as terraform's `filesystem_mirror` has it), `hashes` (the `h1:` of each package),
/// `locks` and `filling`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    root: PathBuf,
    /// `OS_ARCH` as terraform names it.
    platform: String,
}

/// What a mirror takes and what it saves, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub packages: usize,
    pub disk: u64,
    /// Places that link to a package.
    pub links: usize,
    /// What copies instead of the links would take beyond the packages that are linked to.
    pub saved: u64,
}

impl Mirror {
    pub fn new(root: PathBuf) -> Self {
        let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self { root, platform: format!("{os}_{architecture}") }
    }

    /// At `windlass/providers` in the user's cache directory; at `fallback` where there is none. `variable` gives a variable of the
    /// environment.
    pub fn of_user(variable: impl Fn(&str) -> Option<OsString>, fallback: PathBuf) -> Self {
        let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
        Self::new(cache.map_or(fallback, |cache| cache.join("windlass/providers")))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What `filesystem_mirror` is given as its path.
    pub fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    pub fn platform(&self) -> &str {
        &self.platform
    }

    fn place(&self, locked: &Locked) -> PathBuf {
        Path::new(&locked.address).join(&locked.version).join(&self.platform)
    }

    /// Where the package of a provider lies.
    pub fn package(&self, locked: &Locked) -> PathBuf {
        self.packages().join(self.place(locked))
    }

    fn hash_file(&self, locked: &Locked) -> PathBuf {
        self.root.join("hashes").join(self.place(locked))
    }

    /// The `h1:` of the package, as it was when it came; `None` when it is not here.
    pub fn hash(&self, locked: &Locked) -> Option<String> {
        if !self.package(locked).is_dir() {
            return None;
        }
        std::fs::read_to_string(self.hash_file(locked)).ok()
    }

    /// A new directory to fetch into; the same file system as the packages.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn filling(&self) -> Result<Filling, MirrorError> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.root.join("filling").join(format!("{}.{number}", std::process::id()));
        // Left by a process of the same number.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|source| MirrorError::Io { path: path.clone(), source })?;
        Ok(Filling(path))
    }

    /// Waits until nobody else fetches this provider version; whoever gets it first fetches it for all.
    ///
    /// # Errors
    /// The lock cannot be made.
    pub fn lock(&self, locked: &Locked) -> Result<Flock<std::fs::File>, MirrorError> {
        let path = self.root.join("locks").join(self.place(locked));
        let open = || -> std::io::Result<std::fs::File> {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)
        };
        let file = open().map_err(|source| MirrorError::Io { path: path.clone(), source })?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| MirrorError::Io { path, source: errno.into() })
    }

    /// Takes in the archive that lies somewhere below `fetched`: checks it against the lock file, unpacks it beside, moves it to its
    /// place in one step.
    ///
    /// # Errors
    /// The archive is missing, damaged or not the locked one; the disk.
    pub fn take_in(&self, locked: &Locked, filling: &Filling, fetched: &Path) -> Result<Taken, MirrorError> {
        let provider = format!("{} {}", locked.address, locked.version);
        let archive = |message: String| MirrorError::Archive { provider: provider.clone(), message };
        let zip = std::fs::read_dir(fetched.join(&locked.address))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "zip"))
            .ok_or_else(|| archive("there is none".into()))?;
        let open = || std::fs::File::open(&zip).map(std::io::BufReader::new).map_err(|e| archive(e.to_string()));
        let (sum, bytes) = copy_and_sum(&mut open()?, &mut std::io::sink()).map_err(|e| archive(e.to_string()))?;
        let of_archive = format!("zh:{sum}");
        let unpacked = filling.0.join("package");
        let of_package = package_hash(&unpack(open()?, &unpacked).map_err(|e| archive(e.to_string()))?);
        if !locked.allows(&of_package) && !locked.allows(&of_archive) {
            return Err(MirrorError::Mismatch { provider, found: format!("{of_package} and {of_archive}") });
        }
        let (package, hash) = (self.package(locked), self.hash_file(locked));
        let publish = || -> std::io::Result<()> {
            for path in [&package, &hash] {
                std::fs::create_dir_all(path.parent().unwrap_or(path))?;
            }
            let draft = filling.0.join("hash");
            std::fs::write(&draft, &of_package)?;
            std::fs::rename(draft, &hash)?;
            std::fs::rename(&unpacked, &package)
        };
        publish().map_err(|source| MirrorError::Io { path: package.clone(), source })?;
        Ok(Taken { hash: of_package, bytes })
    }

    /// Looks at every byte of a package, and moves it out of the way when it is not what it was. `true` when it was damaged.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn drop_if_damaged(&self, locked: &Locked) -> Result<bool, MirrorError> {
        let Some(known) = self.hash(locked) else { return Ok(false) };
        let _lock = self.lock(locked)?;
        let package = self.package(locked);
        let mut files = BTreeMap::new();
        sum_all(&package, &package, &mut files);
        if package_hash(&files) == known {
            return Ok(false);
        }
        let filling = self.filling()?;
        std::fs::rename(&package, filling.0.join("damaged"))
            .map_err(|source| MirrorError::Io { path: package, source })?;
        Ok(true)
    }

    /// What a package takes on the disk, bytes; 0 when it is not here.
    pub fn size(&self, locked: &Locked) -> u64 {
        size(&self.package(locked))
    }

    /// Disk used, and what links below the directories `data` (`TF_DATA_DIR`s) save.
    pub fn usage<'a>(&self, data: impl IntoIterator<Item = &'a Path>) -> Usage {
        let packages: BTreeMap<PathBuf, u64> =
            directories(&self.packages(), 5).into_iter().map(|path| (path.clone(), size(&path))).collect();
        let mut usage = Usage { packages: packages.len(), disk: packages.values().sum(), ..Usage::default() };
        let mut linked = BTreeSet::new();
        for data in data {
            for place in directories(&data.join("providers"), 5) {
                let Some((package, bytes)) =
                    std::fs::read_link(&place).ok().and_then(|target| packages.get_key_value(&target))
                else {
                    continue;
                };
                usage.links += 1;
                // The first link stands for the package itself.
                if !linked.insert(package.clone()) {
                    usage.saved += bytes;
                }
            }
        }
        usage
    }
}

/// A directory that goes when this does.
#[derive(Debug)]
pub struct Filling(PathBuf);

impl Filling {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // What stays is in nobody's way: it lies outside of the packages.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The configuration whose only provider is `locked`.
pub fn configuration_of(locked: &Locked) -> String {
    let (address, version) = (&locked.address, &locked.version);
    format!(
        "terraform {{\n  required_providers {{\n    wanted = {{\n      source  = \"{address}\"\n      version = \"{version}\"\n    }}\n  }}\n}}\n"
    )
}

/// Unpacks an archive; its files can be read and run, and not be written. SHA-256 (hex) of each by name.
fn unpack(archive: impl Read + Seek, to: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let bad = |message: String| std::io::Error::new(std::io::ErrorKind::InvalidData, message);
    let mut zip = zip::ZipArchive::new(archive).map_err(|e| bad(e.to_string()))?;
    let mut files = BTreeMap::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(|e| bad(e.to_string()))?;
        let name = entry.enclosed_name().ok_or_else(|| bad(format!("file {index} leads out of it")))?;
        if entry.is_dir() {
            continue;
        }
        if entry.is_symlink() {
            return Err(bad(format!("`{}` is a link", name.display())));
        }
        let path = to.join(&name);
        std::fs::create_dir_all(path.parent().unwrap_or(to))?;
        let mode = entry.unix_mode().unwrap_or(0o644) & 0o555 | 0o444;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        let (sum, _) = copy_and_sum(&mut entry, &mut file)?;
        files.insert(name.to_string_lossy().into_owned(), sum);
    }
    if files.is_empty() {
        return Err(bad("it is empty".into()));
    }
    Ok(files)
}

fn sum_all(root: &Path, directory: &Path, sums: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sum_all(root, &path, sums);
        } else {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            let sum = std::fs::File::open(&path).and_then(|mut file| copy_and_sum(&mut file, &mut std::io::sink()));
            // What cannot be read has no sum, and so is damaged.
            sums.insert(name, sum.map(|(sum, _)| sum).unwrap_or_default());
        }
    }
}

/// Directories (and links to such) `depth` levels below `root`.
pub(super) fn directories(root: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for _ in 0..depth {
        found = found
            .iter()
            .flat_map(|parent| std::fs::read_dir(parent).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() || path.is_symlink())
            .collect();
    }
    found.sort();
    found
}

/// Bytes on disk of all files below.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests;
