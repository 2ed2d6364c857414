//! The directory Windlass keeps next to the repository's `.git`: `.windlass/`, ignored by git.

use crate::error::{AppError, AppResult, ErrorKind};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use windlass_drivers::terraform::mirror::Mirror;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::{InstanceId, RunId, StepId};
use windlass_policy::Limits;

/// What the environment says about how Windlass works, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `WINDLASS_LOCK_TIMEOUT`: how long to wait for a lock at a backend that somebody else holds, as terraform writes
    /// durations; `60s` when it is not set.
    pub lock_timeout: String,
    /// `WINDLASS_LEASE`, whole seconds: how long an engine keeps its steps without a sign of life; 30 when it is not set.
    pub lease: Duration,
    /// `WINDLASS_POLICY_TIME` and `WINDLASS_POLICY_MEMORY`: what one policy may use for one answer; whole seconds, and MiB where it runs
    /// in a process of its own. 30 s and 2 GiB when they are not set.
    pub policy_limits: Limits,
    /// How people reach the pages, without a slash at the end; `None` in a checkout and where a worker was not told.
    pub url: Option<String>,
}

impl Settings {
    /// The settings of this process.
    pub fn of_process() -> AppResult<Self> {
        Self::new(|name| std::env::var_os(name))
    }

    /// `variable` gives a variable of the environment; an empty one counts as not set. All that are not well formed are told.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> AppResult<Self> {
        let set = |name: &str| {
            variable(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
        };
        let mut wrong = Vec::new();
        let mut refuse = |name: &str, value: &str, help: &str| {
            wrong.push(Diagnostic::error("WL906", format!("{name} is set to `{value}`")).help(help));
        };
        let mut settings = Self {
            lock_timeout: "60s".into(),
            lease: Duration::from_secs(30),
            policy_limits: Limits::default(),
            url: None,
        };
        if let Some(text) = set("WINDLASS_LOCK_TIMEOUT") {
            if is_duration(&text) {
                settings.lock_timeout = text;
            } else {
                let help = "it is how long to wait for the lock of a state, such as `90s`, `5m` or `1h30m`";
                refuse("WINDLASS_LOCK_TIMEOUT", &text, help);
            }
        }
        if let Some(text) = set("WINDLASS_LEASE") {
            match text.parse() {
                Ok(seconds @ 1..=86_400) => settings.lease = Duration::from_secs(seconds),
                _ => refuse("WINDLASS_LEASE", &text, "it is a whole number of seconds from 1 to 86400, such as `30`"),
            }
        }
        if let Some(text) = set("WINDLASS_POLICY_TIME") {
            match text.parse() {
                Ok(seconds @ 1..=3_600) => settings.policy_limits.time = Duration::from_secs(seconds),
                _ => {
                    let help = "it is a whole number of seconds from 1 to 3600, such as `30`";
                    refuse("WINDLASS_POLICY_TIME", &text, help);
                }
            }
        }
        if let Some(text) = set("WINDLASS_POLICY_MEMORY") {
            match text.parse::<u64>() {
                Ok(mebibytes @ 64..=1_048_576) => settings.policy_limits.memory = mebibytes << 20,
                _ => {
                    let help = "it is a whole number of MiB from 64 to 1048576, such as `2048`";
                    refuse("WINDLASS_POLICY_MEMORY", &text, help);
                }
            }
        }
        if wrong.is_empty() { Ok(settings) } else { Err(AppError::many(ErrorKind::Usage, wrong)) }
    }
}

/// Numbers with units, as Go (and so terraform) reads durations: `500ms`, `5m`, `1h30m`, `1.5h`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - unit.len()];
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.parse::<f64>().is_err() {
            return false;
        }
        let Some(after) = ["ms", "s", "m", "h"].iter().find_map(|known| unit.strip_prefix(known)) else { return false };
        rest = after;
    }
    !text.is_empty()
}

/// Paths under `.windlass/`.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// Creates `.windlass/` (mode 0700) below `root` where it is missing, with a `.gitignore` that hides all of it.
    pub fn create(root: &Path) -> AppResult<Self> {
        Self::create_as(root.join(".windlass"))
    }

    /// As [`StateDirectory::create`], under a name of its own.
    pub fn create_as(path: PathBuf) -> AppResult<Self> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| {
            let ignore = path.join(".gitignore");
            if ignore.exists() { Ok(()) } else { std::fs::write(&ignore, "*\n") }
        });
        made.map_err(|error| disk(&path, &error))?;
        Ok(Self { path })
    }

    /// The paths below `root`, whether they exist or not.
    pub fn at(root: &Path) -> Self {
        Self { path: root.join(".windlass") }
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("windlass.db")
    }
    /// Where a server keeps what it has, when it is started in a checkout.
    pub fn server(&self) -> PathBuf {
        self.path.join("server")
    }
    /// `TF_DATA_DIR` of an instance.
    pub fn terraform_data(&self, instance: &InstanceId) -> PathBuf {
        self.all_terraform_data().join(instance.file_name())
    }
    /// The directory with the `TF_DATA_DIR`s of all instances.
    pub fn all_terraform_data(&self) -> PathBuf {
        self.path.join("terraform")
    }
    /// Small files that can be made again.
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
    /// Files of one run that only this machine needs: scratch copies, plans that are open, what commands say; removed when the run has
    /// ended.
    pub fn run(&self, run: &RunId) -> PathBuf {
        self.path.join("runs").join(run.as_str())
    }
    /// What of an instance must outlive its runs: `errored.tfstate`.
    pub fn kept(&self, instance: &InstanceId) -> PathBuf {
        self.path.join("kept").join(instance.file_name())
    }
    /// Bundles of policies, by what they hold.
    pub fn bundles(&self) -> PathBuf {
        self.path.join("bundles")
    }
    /// Our own program for places that are not this machine.
    pub fn programs(&self) -> PathBuf {
        self.path.join("programs")
    }
    /// What steps leave that others may need, where nothing else was said.
    pub fn artefacts(&self) -> PathBuf {
        self.path.join("artefacts")
    }
    /// Where an attempt of a step writes what it says: `stream` is `out` or `err`.
    pub fn output(&self, run: &RunId, step: &StepId, attempt: u32, stream: &str) -> PathBuf {
        // Names may hold dots: an extension is never replaced.
        let name = format!("{}.{attempt}.{stream}", InstanceId::new(step.as_str()).file_name());
        self.run(run).join("output").join(name)
    }

    /// The installation's key for keyed digests: 32 random bytes in a file of mode 0600, made on first use.
    pub fn key(&self) -> AppResult<Vec<u8>> {
        let path = self.path.join("key");
        if let Some(key) = std::fs::read(&path).ok().filter(|key| key.len() == 32) {
            return Ok(key);
        }
        let mut key = vec![0; 32];
        let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key));
        random.map_err(|error| disk(&path, &error))?;
        self.key_adopt(&key)
    }

    /// Makes this the key, where there is none yet; the one that is there then.
    pub fn key_adopt(&self, key: &[u8]) -> AppResult<Vec<u8>> {
        let path = self.path.join("key");
        let make = || -> std::io::Result<Vec<u8>> {
            let draft = self.path.join(format!("key.{}", std::process::id()));
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(key)?;
            file.sync_all()?;
            // A link, not a rename: of two processes that make it at once, one wins and both use its key.
            let linked = std::fs::hard_link(&draft, &path);
            std::fs::remove_file(&draft)?;
            match linked {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            std::fs::read(&path)
        };
        make().map_err(|error| disk(&path, &error))
    }
}

/// The mirror of providers: the user's, for all repositories; of this one where the user has no cache directory.
pub fn provider_mirror(directory: &StateDirectory) -> Mirror {
    Mirror::of_user(|name| std::env::var_os(name), directory.cache().join("providers"))
}

/// A file of ours could not be written or read.
pub fn disk(path: &Path, error: &std::io::Error) -> AppError {
    AppError::new(
        ErrorKind::Unavailable,
        Diagnostic::error("WL901", format!("cannot write {}: {error}", path.display()))
            .help("make room or give this user write access to the directory, then run the same command again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_once_and_bad_ones_are_all_told() {
        let check = |timeout: &str, lease: &str, want: Result<(&str, u64), &[&str]>| {
            let variable = |name: &str| match name {
                "WINDLASS_LOCK_TIMEOUT" => Some(OsString::from(timeout)),
                "WINDLASS_LEASE" => Some(OsString::from(lease)),
                _ => None,
            };
            let found = Settings::new(variable);
            match want {
                Ok((lock_timeout, seconds)) => {
                    let lease = Duration::from_secs(seconds);
                    assert_eq!(
                        found.unwrap(),
                        Settings {
                            lock_timeout: lock_timeout.into(),
                            lease,
                            policy_limits: Limits::default(),
                            url: None
                        }
                    );
                }
                Err(names) => {
                    let diagnostics = found.unwrap_err().diagnostics;
                    assert!(diagnostics.iter().all(|d| d.code == "WL906" && d.help.is_some()));
                    let told: Vec<&str> = diagnostics.iter().filter_map(|d| d.summary.split(' ').next()).collect();
                    assert_eq!(told, names, "{timeout} {lease}");
                }
            }
        };
        let (timeout, lease) = ("WINDLASS_LOCK_TIMEOUT", "WINDLASS_LEASE");
        check("", "", Ok(("60s", 30)));
        check("5m", "1", Ok(("5m", 1)));
        check("1h30m", "86400", Ok(("1h30m", 86_400)));
        check("500ms", "", Ok(("500ms", 30)));
        check("1.5h", "", Ok(("1.5h", 30)));
        for bad in ["5", "m", "5 m", "-5m", "5d", "1..5s", ".5s", "five"] {
            check(bad, "7", Err(&[timeout]));
        }
        for bad in ["0", "-1", "30s", "86401", "99999999999999999999"] {
            check("7s", bad, Err(&[lease]));
        }
        check("soon", "later", Err(&[timeout, lease]));
    }

    #[test]
    fn policies_have_limits() {
        let check = |time: &str, memory: &str, want: Result<(u64, u64), &[&str]>| {
            let found = Settings::new(|name| match name {
                "WINDLASS_POLICY_TIME" => Some(OsString::from(time)),
                "WINDLASS_POLICY_MEMORY" => Some(OsString::from(memory)),
                _ => None,
            });
            let found = found.map(|settings| {
                let limits = settings.policy_limits;
                (limits.time.as_secs(), limits.memory >> 20)
            });
            let told = found.map_err(|error| {
                let summaries = error.diagnostics.into_iter().map(|diagnostic| diagnostic.summary);
                summaries.filter_map(|summary| summary.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
            });
            assert_eq!(told, want.map_err(|names| names.iter().map(|name| name.to_string()).collect()));
        };
        let (time, memory) = ("WINDLASS_POLICY_TIME", "WINDLASS_POLICY_MEMORY");
        check("", "", Ok((30, 2_048)));
        check("5", "64", Ok((5, 64)));
        check("0", "4096", Err(&[time]));
        check("3600", "63", Err(&[memory]));
        check("5s", "1G", Err(&[time, memory]));
    }

    #[test]
    fn every_attempt_of_every_step_says_it_in_a_file_of_its_own() {
        let state = StateDirectory::at(Path::new("/r"));
        let of = |step: &str, attempt, stream| state.output(&RunId::new("run"), &StepId::new(step), attempt, stream);
        let mut all: Vec<PathBuf> = ["apply:eu.dev", "apply:eu.prod", "apply:eu"]
            .iter()
            .flat_map(|step| [of(step, 1, "out"), of(step, 2, "out"), of(step, 1, "err")])
            .collect();
        let before = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), before, "{all:?}");
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDirectory::create(dir.path()).unwrap();
        let key = state.key().unwrap();
        assert_eq!(key.len(), 32);
        assert_eq!(state.key().unwrap(), key);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join(".windlass/key")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(dir.path().join(".windlass/.gitignore")).unwrap(), "*\n");
    }
}
