//! Credentials by reference. A token is handed to git through memory: it is on no command line, in no environment, in no file,
//! in no address, and taken out of what git complains about.

use super::{Remote, bounded};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use windlass_model::mask::Mask;

/// How long a command may take to say a secret.
const COMMAND: Duration = Duration::from_secs(30);

/// Where a secret is; white space around it does not belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// A variable of this process' environment.
    Env(String),
    File(PathBuf),
    /// A program with its arguments; what it prints. It is not run by a shell.
    Command(Vec<String>),
}

impl Secret {
    /// The secret as it is now.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the place, without anything that was found there.
    pub fn read(&self) -> Result<String, String> {
        let (place, bytes) = match self {
            Self::Env(name) => {
                let place = format!("the environment variable {name}");
                let value = std::env::var(name).map_err(|_| format!("{place} is not set"))?;
                (place, value.into_bytes())
            }
            Self::File(path) => {
                let place = format!("the file {}", path.display());
                let read = std::fs::read(path).map_err(|error| format!("{place} cannot be read: {error}"))?;
                (place, read)
            }
            Self::Command(words) => {
                let (program, arguments) = words.split_first().ok_or("the command is empty")?;
                let place = format!("the command {program}");
                let mut command = Command::new(program);
                command.args(arguments).stdin(Stdio::null());
                let output = bounded(command, Instant::now() + COMMAND)
                    .map_err(|_| format!("{place} cannot be run"))?
                    .ok_or_else(|| format!("{place} took longer than {} s", COMMAND.as_secs()))?;
                if !output.success {
                    return Err(format!("{place} failed"));
                }
                (place, output.out)
            }
        };
        let secret = String::from_utf8(bytes).map_err(|_| format!("what {place} gives is not text"))?;
        let secret = secret.trim();
        if secret.is_empty() || secret.contains(['\n', '\r', '\0']) {
            return Err(format!("what {place} gives is not one line of text"));
        }
        Ok(secret.to_owned())
    }
}

/// How to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Credentials {
    /// For https://. Given to the host of the repository's address alone, also when a submodule lies there.
    Token {
        /// GitHub, GitLab and Gitea take any for a token of a person; a deploy token of GitLab has its own, Bitbucket's is
        /// `x-token-auth`.
        #[serde(default = "username")]
        username: String,
        secret: Secret,
    },
    /// For ssh://.
    Ssh {
        /// A private key without a passphrase.
        key: PathBuf,
        /// Keys of hosts, as in `~/.ssh/known_hosts`. Others are refused.
        known_hosts: PathBuf,
    },
}

fn username() -> String {
    "x-access-token".into()
}

impl Credentials {
    pub(super) fn is_token(&self) -> bool {
        matches!(self, Self::Token { .. })
    }
}

/// Credentials as read for one call of git; gone when this is dropped.
pub(super) struct Access {
    settings: Vec<String>,
    secret: Option<String>,
    /// What git's helper reads, by way of this process' open files.
    _memory: Option<File>,
}

impl Access {
    pub fn open(remote: &Remote) -> Result<Self, String> {
        match &remote.credentials {
            None => {
                let ssh = ssh(None);
                Ok(Self { settings: vec![ssh], secret: None, _memory: None })
            }
            Some(Credentials::Ssh { key, known_hosts }) => {
                for path in [key, known_hosts] {
                    File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
                }
                Ok(Self {
                    settings: vec![ssh(Some((key.as_path(), known_hosts.as_path())))],
                    secret: None,
                    _memory: None,
                })
            }
            Some(Credentials::Token { username, secret }) => {
                let secret = secret.read()?;
                if username.contains(|c: char| c.is_control()) {
                    return Err("the user name is not one line of text".into());
                }
                let memory = memfd_create("windlass-credentials", MFdFlags::MFD_CLOEXEC);
                let mut memory = memory.map(File::from).map_err(|error| format!("no memory for them: {error}"))?;
                let lines = format!("username={username}\npassword={secret}\n");
                memory.write_all(lines.as_bytes()).map_err(|error| format!("no memory for them: {error}"))?;
                let (pid, number) = (std::process::id(), memory.as_raw_fd());
                // git asks a helper only about addresses with this beginning, wherever it is led.
                let (scheme, rest) = remote.url.split_once("://").unwrap_or(("https", &remote.url));
                let host = rest.split('/').next().unwrap_or_default();
                let helper = format!("!f() {{ test \"$1\" = get && cat /proc/{pid}/fd/{number}; }}; f");
                let settings = vec![
                    "credential.helper=".into(),
                    format!("credential.{scheme}://{host}.helper={helper}"),
                    ssh(None),
                ];
                Ok(Self { settings, secret: Some(secret), _memory: Some(memory) })
            }
        }
    }

    /// `name=value` for git.
    pub fn settings(&self) -> &[String] {
        &self.settings
    }

    /// `message` without the secret, in whatever form.
    pub fn redacted(&self, message: &str) -> String {
        Mask::new(self.secret.as_deref()).text(message)
    }

    /// What git is given.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }
}

/// ssh that asks nobody anything and gives up on a host that is silent.
fn ssh(files: Option<(&Path, &Path)>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut command = "core.sshCommand=ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15".to_owned();
    if let Some((key, known_hosts)) = files {
        let known = format!("UserKnownHostsFile=\"{}\"", known_hosts.display());
        command += &format!(
            " -F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o {} -i {}",
            quoted(&known),
            quoted(&key.to_string_lossy())
        );
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_uses_the_named_files_alone() {
        assert_eq!(
            ssh(Some((Path::new("/a b/it's"), Path::new("/k h")))),
            "core.sshCommand=ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -F none \
             -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"/k h\"' -i '/a b/it'\\''s'"
        );
    }

    #[test]
    fn secrets_come_from_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, " s3cret\n").unwrap();
        let check = |secret: Secret, wanted: Result<&str, &str>| {
            assert_eq!(secret.read().as_deref().map_err(String::as_str), wanted, "{secret:?}");
        };
        let command = |words: &[&str]| Secret::Command(words.iter().map(|w| (*w).to_owned()).collect());
        check(Secret::File(path), Ok("s3cret"));
        check(command(&["echo", "other"]), Ok("other"));
        check(command(&["sh", "-c", "echo s3cret >&2; exit 3"]), Err("the command sh failed"));
        check(command(&["echo", "a\nb"]), Err("what the command echo gives is not one line of text"));
        check(command(&[]), Err("the command is empty"));
        check(
            Secret::Env("WINDLASS_TEST_NOT_SET".into()),
            Err("the environment variable WINDLASS_TEST_NOT_SET is not set"),
        );
    }

    #[test]
    fn a_secret_is_taken_out_of_complaints() {
        let access = Access { settings: vec![], secret: Some("p/w0".into()), _memory: None };
        assert_eq!(
            access.redacted("https://u:p%2Fw0@h p/w0 cC93MA=="),
            "https://u:(sensitive)@h (sensitive) (sensitive)=="
        );
    }
}
