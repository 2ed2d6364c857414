//! What a server is told about the forge of a repository.

use super::address::place;
use super::{Forge, ForgeError, bitbucket, data_center, gitea, github, gitlab};
use openidconnect::url::Url;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How to act at the forge of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgeSettings {
    /// `github`, `gitea`, `forgejo`, `gitlab`, `bitbucket` (Cloud) or `bitbucket_data_center`.
    pub kind: ForgeKind,
    /// Address of its API, such as `https://github.example.com/api/v3`; what follows from the repository's `url` otherwise.
    #[serde(default)]
    pub api: Option<String>,
    /// Name of the repository there, such as `company/infra`; what follows from its `url` otherwise.
    #[serde(default)]
    pub repository: Option<String>,
    /// File with a token; `USER:PASSWORD` is possible for Bitbucket. It is read with every request, so that a new one counts at once.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// App of GitHub to act as, instead of a token.
    #[serde(default)]
    pub app: Option<AppSettings>,
    /// PEM file with certificates that are trusted besides those of this machine.
    #[serde(default)]
    pub root_certificates: Option<PathBuf>,
}

/// An app of GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// Its client id or app id, as text.
    pub id: String,
    /// File with one of its private keys (PEM).
    pub key_file: PathBuf,
    /// Number of its installation; the one that the repository is in otherwise.
    #[serde(default)]
    pub installation: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForgeKind {
    Github,
    Gitea,
    Forgejo,
    Gitlab,
    Bitbucket,
    BitbucketDataCenter,
}

impl ForgeKind {
    /// What stands before a login: `github:anna`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitea | Self::Forgejo => "gitea",
            Self::Gitlab => "gitlab",
            Self::Bitbucket | Self::BitbucketDataCenter => "bitbucket",
        }
    }
}

/// Who asks.
#[derive(Clone)]
pub enum Account {
    /// A file with a token.
    TokenFile(PathBuf),
    /// A token that is known already, such as that of a job of a CI.
    Token(String),
    App(AppSettings),
}

/// Where a repository is at its forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The host that people know.
    pub host: String,
    /// Address of the API.
    pub api: String,
    /// Its full name: `company/infra`, `group/subgroup/infra`.
    pub repository: String,
}

/// The forge of the repository that lies at `url`. Nothing is asked yet; what is made is kept, since it remembers tokens of its
/// own and how much more may be asked.
///
/// # Errors
/// [`ForgeError::Settings`].
pub fn connect(settings: &ForgeSettings, url: &str) -> Result<Box<dyn Forge>, ForgeError> {
    let account = match (&settings.token_file, &settings.app) {
        (Some(file), None) => Account::TokenFile(file.clone()),
        (None, Some(app)) if settings.kind == ForgeKind::Github => Account::App(app.clone()),
        (None, Some(_)) => return Err(unusable("`app` is for kind = \"github\" alone: give a `token_file`")),
        (Some(_), Some(_)) => return Err(unusable("there are both `token_file` and `app`: give one of them")),
        (None, None) => return Err(unusable("there is neither `token_file` nor `app`")),
    };
    connect_as(settings, account, url)
}

/// As [`connect`], with an account that is not in the settings.
///
/// # Errors
/// [`ForgeError::Settings`].
pub fn connect_as(settings: &ForgeSettings, account: Account, url: &str) -> Result<Box<dyn Forge>, ForgeError> {
    let address = address(settings, url)?;
    let roots = settings.root_certificates.as_deref();
    match settings.kind {
        ForgeKind::Github => Ok(Box::new(github::GitHub::new(&address, account, roots)?)),
        ForgeKind::Gitea | ForgeKind::Forgejo => Ok(Box::new(gitea::Gitea::new(&address, account, roots)?)),
        ForgeKind::Gitlab => Ok(Box::new(gitlab::GitLab::new(&address, account, roots)?)),
        ForgeKind::Bitbucket => Ok(Box::new(bitbucket::Bitbucket::new(&address, account, roots)?)),
        ForgeKind::BitbucketDataCenter => Ok(Box::new(data_center::DataCenter::new(&address, account, roots)?)),
    }
}

impl Account {
    /// The token as it is now, which is no file of an app.
    pub(super) fn token(&self) -> Result<String, ForgeError> {
        match self {
            Self::Token(token) => Ok(token.trim().to_owned()),
            Self::TokenFile(file) => read(file).map(|token| token.trim().to_owned()),
            Self::App(_) => Err(unusable("`app` is for kind = \"github\" alone")),
        }
    }
}

/// The text of a file that the settings name; it is in no message.
pub(super) fn read(file: &Path) -> Result<String, ForgeError> {
    let problem = |problem: &dyn std::fmt::Display| unusable(&format!("{} {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| problem(&format_args!("cannot be read: {error}")))?;
    if text.trim().is_empty() { Err(problem(&"is empty")) } else { Ok(text) }
}

pub(super) fn unusable(problem: &str) -> ForgeError {
    ForgeError::Settings { problem: problem.to_owned() }
}

fn address(settings: &ForgeSettings, url: &str) -> Result<Address, ForgeError> {
    let given = settings.api.as_deref().zip(settings.repository.as_deref());
    let found = place(url).or_else(|| {
        // Such as a mirror on this machine.
        let (api, repository) = given?;
        Some((place(&format!("{}/", api.trim_end_matches('/')))?.0, repository.to_owned()))
    });
    let problem = "the repository's `url` names no forge: give `api` and `repository`";
    let (host, path) = found.ok_or_else(|| unusable(problem))?;
    let path = match settings.kind {
        // Over HTTP there is a word before the name of the project.
        ForgeKind::BitbucketDataCenter => path.strip_prefix("scm/").unwrap_or(&path).to_owned(),
        _ => path,
    };
    let repository = settings.repository.clone().unwrap_or(path);
    let is_deep = settings.kind == ForgeKind::Gitlab;
    let parts = repository.split('/').filter(|part| !part.is_empty()).count();
    if parts < 2 || (parts > 2 && !is_deep) || repository.starts_with('/') || repository.ends_with('/') {
        return Err(unusable(&format!("`{repository}` is no name of a repository there: give `repository`")));
    }
    let origin = origin(url).unwrap_or_else(|| format!("https://{host}"));
    let api = settings.api.clone().unwrap_or_else(|| match settings.kind {
        ForgeKind::Github if host == "github.com" => "https://api.github.com".into(),
        ForgeKind::Github if host.ends_with(".ghe.com") => format!("https://api.{host}"),
        ForgeKind::Github => format!("{origin}/api/v3"),
        ForgeKind::Gitea | ForgeKind::Forgejo => format!("{origin}/api/v1"),
        ForgeKind::Gitlab => format!("{origin}/api/v4"),
        ForgeKind::Bitbucket => "https://api.bitbucket.org/2.0".into(),
        ForgeKind::BitbucketDataCenter => format!("{origin}/rest/api/latest"),
    });
    Ok(Address { host, api, repository })
}

/// Scheme, host and port of an address that is one of HTTP: over SSH the port is another one.
fn origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|url| url.scheme().starts_with("http"))?;
    Some(url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: ForgeKind) -> ForgeSettings {
        ForgeSettings { kind, api: None, repository: None, token_file: None, app: None, root_certificates: None }
    }

    #[test]
    fn api_and_name_follow_from_the_address() {
        let check = |kind, url: &str, api: &str, repository: &str| {
            let found = address(&settings(kind), url).unwrap();
            assert_eq!((found.api.as_str(), found.repository.as_str()), (api, repository), "{url}");
        };
        use ForgeKind::*;
        check(Github, "https://github.com/Company/infra.git", "https://api.github.com", "Company/infra");
        check(Github, "git@github.com:company/infra", "https://api.github.com", "company/infra");
        check(Github, "https://x@git.example/company/infra", "https://git.example/api/v3", "company/infra");
        check(Github, "https://acme.ghe.com/company/infra", "https://api.acme.ghe.com", "company/infra");
        check(Gitea, "ssh://git@git.example:2222/company/infra.git", "https://git.example/api/v1", "company/infra");
        check(Forgejo, "https://codeberg.org/company/infra.git", "https://codeberg.org/api/v1", "company/infra");
        check(Gitea, "https://git.example:3000/company/infra", "https://git.example:3000/api/v1", "company/infra");
        check(Gitlab, "https://gitlab.com/a/b/infra.git", "https://gitlab.com/api/v4", "a/b/infra");
        check(Bitbucket, "git@bitbucket.org:team/infra.git", "https://api.bitbucket.org/2.0", "team/infra");
        let latest = "https://git.example/rest/api/latest";
        check(BitbucketDataCenter, "https://git.example/scm/OPS/infra.git", latest, "OPS/infra");
        check(BitbucketDataCenter, "ssh://git@git.example:7999/ops/infra.git", latest, "ops/infra");
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let check = |settings: &ForgeSettings, url: &str, want: &str| {
            let error = connect(settings, url).err().unwrap_or_else(|| panic!("{want}: it can be used"));
            assert_eq!(error.code(), "WL780");
            assert!(error.to_string().contains(want), "{error}");
        };
        let token = ForgeSettings { token_file: Some("/run/token".into()), ..settings(ForgeKind::Github) };
        let app = AppSettings { id: "1".into(), key_file: "/run/key".into(), installation: None };
        let url = "https://github.com/company/infra";
        check(&settings(ForgeKind::Github), url, "neither `token_file` nor `app`");
        check(&ForgeSettings { app: Some(app.clone()), ..token.clone() }, url, "both");
        check(&ForgeSettings { app: Some(app), ..settings(ForgeKind::Gitlab) }, url, "`app` is for kind");
        check(&token, "/srv/infra", "give `api` and `repository`");
        check(&token, "https://github.com/infra", "no name of a repository");
        check(&token, "https://github.com/a/b/c", "no name of a repository");
        check(&ForgeSettings { api: Some("http://git.example/api".into()), ..token.clone() }, url, "https://");
        let local =
            ForgeSettings { api: Some("http://127.0.0.1:1".into()), repository: Some("company/infra".into()), ..token };
        assert!(connect(&local, "/srv/infra").is_ok());
        assert!(toml::from_str::<ForgeSettings>("kind = \"github\"\ntoken = \"x\"").is_err());
        let read: ForgeSettings = toml::from_str("kind = \"bitbucket_data_center\"").unwrap();
        assert_eq!(read, settings(ForgeKind::BitbucketDataCenter));
    }
}
