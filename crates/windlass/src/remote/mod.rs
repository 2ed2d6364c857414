//! Commands that go to a server: the same words, views and exit codes as in a checkout.

pub mod client;
mod credentials;
mod follow;
pub mod login;
pub mod notifiers;
mod operations;
mod records;
mod runs;
mod schedules;
mod stream;

use crate::arguments::Command;
use crate::commands::access::AccessCommand;
use crate::{Answer, Context};
use client::{Client, Settings, segment};
use serde::Deserialize;
use std::process::Stdio;
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_model::diagnostic::Diagnostic;

/// A server, and which of its projects is meant.
pub struct Remote {
    settings: Settings,
    project: Option<String>,
}

/// A project, as lists have it.
#[derive(Deserialize)]
struct Project {
    name: String,
    url: String,
}

impl Remote {
    pub fn new(url: &str, token_file: Option<std::path::PathBuf>, project: Option<String>) -> Self {
        Self { settings: Settings { url: url.to_owned(), token_file }, project }
    }

    /// The answer of the server; `None` for a command that works on the files of the checkout.
    pub fn answer(&self, cx: &Context, command: &Command) -> Option<Answer> {
        let is_remote = match command {
            Command::Review { plan, .. } => plan.is_empty(),
            Command::Stacks
            | Command::Graph { .. }
            | Command::Show { .. }
            | Command::Approve { .. }
            | Command::Apply { .. }
            | Command::Operations(_)
            | Command::Run(_)
            | Command::Repeat(_)
            | Command::Schedule(_)
            | Command::Answer(_)
            | Command::Runs { .. }
            | Command::Logs { .. }
            | Command::Artefacts(_)
            | Command::Cancel { .. }
            | Command::Halt { .. }
            | Command::Resume { .. }
            | Command::Drift { .. }
            | Command::Destroy { .. }
            | Command::Rollback { .. }
            | Command::Waive { .. }
            | Command::Waivers
            | Command::Diff { .. }
            | Command::Locks
            | Command::Unlock { .. }
            | Command::History { .. }
            | Command::Recover { .. }
            | Command::Whoami
            | Command::Notifiers { .. }
            | Command::Token(_) => true,
            Command::Audit(command) => crate::commands::audit::is_remote(command),
            Command::Access(AccessCommand::Explain { work_tree, .. }) => !work_tree,
            _ => false,
        };
        is_remote.then(|| {
            let client = Client::new(&self.settings)?;
            let at = At { cx, remote: self, client: &client };
            match command {
                Command::Operations(options) => operations::list(&at, options),
                Command::Run(options) => match &options.at {
                    Some(time) => operations::start_at(&at, &options.name, time, &options.how),
                    None => operations::run(&at, &options.name, &options.how, None),
                },
                Command::Schedule(command) => schedules::run(&at, command),
                Command::Repeat(options) => operations::repeat(&at, options),
                Command::Answer(options) => operations::answer(&at, options),
                Command::Review { .. }
                | Command::Approve { .. }
                | Command::Apply { .. }
                | Command::Runs { .. }
                | Command::Logs { .. }
                | Command::Artefacts(_)
                | Command::Cancel { .. }
                | Command::Halt { .. }
                | Command::Resume { .. }
                | Command::Drift { .. }
                | Command::Destroy { .. }
                | Command::Rollback { .. }
                | Command::Diff { .. }
                | Command::Waive { .. } => runs::run(&at, command),
                Command::Notifiers { command } => notifiers::run(&at, command.as_ref()),
                _ => records::run(&at, command),
            }
        })
    }
}

/// There is no server to ask.
pub fn none() -> AppError {
    let diagnostic = Diagnostic::error("WL884", "this is asked of a server, and none is named")
        .help("set WINDLASS_URL to the address that its pages have");
    AppError::new(ErrorKind::Usage, diagnostic)
}

/// A command on its way.
pub struct At<'a> {
    cx: &'a Context,
    remote: &'a Remote,
    client: &'a Client,
}

impl At<'_> {
    /// The address of the project that is meant: the one that is named, else the one whose repository this checkout is of.
    fn project(&self) -> AppResult<String> {
        let name = match &self.remote.project {
            Some(name) => name.clone(),
            None => self.find_project()?,
        };
        Ok(format!("/api/v1/projects/{}", segment(&name)))
    }

    fn find_project(&self) -> AppResult<String> {
        let all: Vec<Project> = self.client.list("/api/v1/projects")?;
        let origin = self.git(&["remote", "get-url", "origin"]).or_else(|| self.git(&["rev-parse", "--show-toplevel"]));
        let matching: Vec<&Project> = match &origin {
            Some(origin) => all.iter().filter(|project| repository(&project.url) == repository(origin)).collect(),
            None => all.iter().collect(),
        };
        if let [only] = matching.as_slice() {
            return Ok(only.name.clone());
        }
        let what = match &origin {
            Some(origin) => format!("{} follows no repository at {}", self.client.url, repository(origin)),
            None => format!("this is no checkout, and {} follows {} repositories", self.client.url, all.len()),
        };
        let names = all.iter().map(|project| project.name.as_str()).collect::<Vec<_>>().join(", ");
        let help = match names.as_str() {
            "" => "you see no project there; `windlass whoami` says who you are to it".to_owned(),
            names => format!("name the project with `--project` or WINDLASS_PROJECT: {names}"),
        };
        Err(AppError::new(ErrorKind::Usage, Diagnostic::error("WL882", what).help(help)))
    }

    /// What git says of this checkout; `None` when it does not.
    fn git(&self, arguments: &[&str]) -> Option<String> {
        let mut command = std::process::Command::new("git");
        let output = command.arg("-C").arg(&self.cx.directory).args(arguments).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

/// What is the same in all addresses of one repository: host and path, without user, port, scheme and `.git`.
fn repository(url: &str) -> String {
    let url = url.trim().trim_end_matches('/').trim_end_matches(".git");
    let (host, path) = match url.split_once("://") {
        Some(("file", path)) => ("", path),
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        // As scp writes it: a colon before the first slash.
        None => match url.split_once(':') {
            Some((host, path)) if !host.contains('/') => (host, path),
            _ => ("", url),
        },
    };
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default().to_lowercase();
    if host.is_empty() {
        let path = std::fs::canonicalize(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string());
        return path.trim_end_matches(".git").trim_end_matches('/').to_owned();
    }
    format!("{host}/{}", path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_repository_are_the_same() {
        let check = |url: &str, want: &str| assert_eq!(repository(url), want, "{url}");
        check("https://GitHub.com/acme/infra.git", "github.com/acme/infra");
        check("https://token@github.com/acme/infra/", "github.com/acme/infra");
        check("git@github.com:acme/infra.git", "github.com/acme/infra");
        check("ssh://git@github.com:22/acme/infra", "github.com/acme/infra");
        check("/nowhere/infra.git", "/nowhere/infra");
        check("file:///nowhere/infra", "/nowhere/infra");
    }
}
