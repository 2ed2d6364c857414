//! A hermetic environment to run the command line in: own directories, cleared environment, fixed width, fixed git identity.

use crate::git::Git;
use crate::sample::{Sample, write_sample};
use crate::{TestkitError, write_file};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories and variables for one test; everything goes away when it is dropped.
#[derive(Debug)]
pub struct CliEnv {
    temporary: tempfile::TempDir,
    program: PathBuf,
    path: OsString,
    variables: Vec<(String, OsString)>,
}

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl CliEnv {
    /// For `program`, in tests of the binary's crate `env!("CARGO_BIN_EXE_windlass")`.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self, TestkitError> {
        let at = |source| TestkitError::Write { path: std::env::temp_dir(), source };
        let temporary = tempfile::Builder::new().prefix("windlass-test-").tempdir().map_err(at)?;
        let env = Self {
            temporary,
            program: program.into(),
            path: std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            variables: Vec::new(),
        };
        for directory in [env.root(), env.home(), env.temporary.path().join("tmp")] {
            std::fs::create_dir(&directory).map_err(|source| TestkitError::Write { path: directory, source })?;
        }
        write_file(&env.home().join(".gitconfig"), "[user]\n\tname = Test User\n\temail = test@example.com\n")?;
        Ok(env)
    }

    /// Where commands run: an empty directory at first.
    pub fn root(&self) -> PathBuf {
        self.temporary.path().join("repo")
    }

    /// The user's home, with a git identity in it.
    pub fn home(&self) -> PathBuf {
        self.temporary.path().join("home")
    }

    /// Writes a file below [`Self::root`].
    ///
    /// # Errors
    /// [`TestkitError::Write`].
    pub fn write(&self, path: &str, content: &str) -> Result<(), TestkitError> {
        write_file(&self.root().join(path), content)
    }

    /// Makes [`Self::root`] a git work tree on branch `main`.
    ///
    /// # Errors
    /// When git is missing or fails.
    pub fn git_init(&self) -> Result<Git, TestkitError> {
        Git::init(&self.root())
    }

    /// Makes [`Self::root`] the sample company repository.
    ///
    /// # Errors
    /// See [`write_sample`].
    pub fn sample(&self) -> Result<Sample, TestkitError> {
        write_sample(&self.root())
    }

    /// Commits all files with a fixed author and date.
    ///
    /// # Errors
    /// When git fails, also when nothing differs.
    pub fn commit(&self, message: &str) -> Result<(), TestkitError> {
        let git = Git::open(&self.root());
        git.run(&["add", "--all"])?;
        git.commit(("Dev Team", "dev@example.com"), "2026-01-05T09:00:00Z", message)
    }

    /// Sets a variable for the commands that follow.
    pub fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Takes every program off the path, for tests of what is missing; `keep` are linked back by name.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn only_programs(&mut self, keep: &[&str]) -> Result<(), TestkitError> {
        let directory = self.temporary.path().join("only");
        let at = |source| TestkitError::Write { path: directory.clone(), source };
        std::fs::create_dir_all(&directory).map_err(at)?;
        for name in keep {
            if let Some(program) = find_program(name, &self.path) {
                std::os::unix::fs::symlink(program, directory.join(name)).map_err(at)?;
            }
        }
        self.path = directory.into_os_string();
        Ok(())
    }

    /// Puts a `terraform` before the real one which notes each call and then becomes the real one.
    ///
    /// # Errors
    /// When there is neither terraform nor tofu, or the script cannot be written.
    pub fn count_terraform(&mut self) -> Result<TerraformCalls, TestkitError> {
        use std::os::unix::fs::PermissionsExt;
        let real = terraform()?;
        let directory = self.temporary.path().join("counted");
        let log = self.temporary.path().join("terraform-calls");
        let script = directory.join("terraform");
        // One short write to a file opened for appending: calls at the same time do not mix.
        let text =
            format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{}'\nexec '{}' \"$@\"\n", log.display(), real.display());
        write_file(&script, &text)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .map_err(|source| TestkitError::Write { path: script, source })?;
        let mut path = directory.into_os_string();
        path.push(":");
        path.push(&self.path);
        self.path = path;
        Ok(TerraformCalls { log })
    }

    /// The command with its environment, to be run or started in the background.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.root())
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.home())
            .env("TMPDIR", self.temporary.path().join("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("NO_COLOR", "1")
            .env("COLUMNS", "100")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            // A repository around the temporary directory is not ours.
            .env("GIT_CEILING_DIRECTORIES", self.temporary.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Answer, TestkitError> {
        let started = |source| TestkitError::Start { program: self.program.display().to_string(), source };
        let output = self.command(arguments).output().map_err(started)?;
        Ok(Answer {
            code: output.status.code(),
            stdout: self.plain(&output.stdout),
            stderr: self.plain(&output.stderr),
        })
    }

    /// Text with the names of this test's directories replaced, so that it can be compared.
    fn plain(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes).into_owned();
        // The system may show the temporary directory under another name (a symbolic link above it).
        let names = [Some(self.temporary.path().to_owned()), self.temporary.path().canonicalize().ok()];
        names.iter().flatten().fold(text, |text, name| {
            let name = name.to_string_lossy();
            text.replace(&format!("{name}/repo"), "[ROOT]")
                .replace(&format!("{name}/home"), "[HOME]")
                .replace(&*name, "[TMP]")
        })
    }
}

/// The calls of terraform since [`CliEnv::count_terraform`].
#[derive(Debug)]
pub struct TerraformCalls {
    log: PathBuf,
}

impl TerraformCalls {
    /// Arguments of each call, in order of their start.
    pub fn all(&self) -> Vec<String> {
        std::fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// How many calls were of this subcommand, such as `init`.
    pub fn count(&self, subcommand: &str) -> usize {
        self.all().iter().filter(|call| call.split(' ').find(|word| !word.starts_with('-')) == Some(subcommand)).count()
    }
}

/// The real terraform, else tofu, of this machine.
///
/// # Errors
/// [`TestkitError::Start`] when there is neither.
pub fn terraform() -> Result<PathBuf, TestkitError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = || TestkitError::Start {
        program: "terraform".into(),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "neither terraform nor tofu is on the PATH"),
    };
    find_program("terraform", &path).or_else(|| find_program("tofu", &path)).ok_or_else(missing)
}

/// A program of this machine, on the `PATH` or where Debian keeps those of administrators.
///
/// # Errors
/// [`TestkitError::Start`] when it is not there.
pub fn program(name: &str) -> Result<PathBuf, TestkitError> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "it is not installed");
    find_program(name, &path).ok_or_else(|| TestkitError::Start { program: name.to_owned(), source: missing() })
}

fn find_program(name: &str, path: &OsString) -> Option<PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_machine_gets_in() {
        let mut env = CliEnv::new("/usr/bin/env").unwrap();
        env.set("WINDLASS_TEST", "yes");
        let answer = env.run(&[]).unwrap();
        let mut names: Vec<&str> = answer.stdout.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        let want = [
            "COLUMNS",
            "GIT_CEILING_DIRECTORIES",
            "GIT_CONFIG_NOSYSTEM",
            "HOME",
            "LC_ALL",
            "NO_COLOR",
            "PATH",
            "TMPDIR",
            "TZ",
            "WINDLASS_TEST",
        ];
        assert_eq!(names, want);
        assert_eq!(answer.code, Some(0));
        assert!(answer.stdout.contains("HOME=[HOME]\n"), "{}", answer.stdout);
    }

    #[test]
    fn programs_can_be_taken_away() {
        let mut env = CliEnv::new("/bin/sh").unwrap();
        env.only_programs(&["git"]).unwrap();
        let answer = env.run(&["-c", "command -v git; command -v cargo || exit 7"]).unwrap();
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(7), "[TMP]/only/git\n"));
    }

    #[test]
    fn calls_of_terraform_are_counted() {
        let mut env = CliEnv::new("/bin/sh").unwrap();
        let calls = env.count_terraform().unwrap();
        let answer = env.run(&["-c", "terraform version && terraform -chdir=. fmt -check"]).unwrap();
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
        assert_eq!(calls.all(), ["version", "-chdir=. fmt -check"]);
        assert_eq!((calls.count("fmt"), calls.count("init")), (1, 0));
    }
}
