//! A certified OpenID provider on a loopback port: `oidc-provider` from npm, with users of its own.
//!
//! The package is installed once, with npm and from its registry, into the cache folder of this machine's user.

use crate::npm::{self, NpmError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use ureq::Agent;

/// Released under MIT; needs Node 20 or newer.
const VERSION: &str = "9.13.3";
const ENTRY: &str = "lib/index.js";
const SCRIPT: &str = include_str!("oidc/provider.mjs");

/// The secret of the client [`CONFIDENTIAL`].
pub const SECRET: &str = "the secret of tests";
/// A client that signs in with [`SECRET`].
pub const CONFIDENTIAL: &str = "windlass";
/// The same, which sends its secret in the form of the request.
pub const POSTING: &str = "windlass-post";
/// A client without a secret whose tokens are signed with ES256.
pub const PUBLIC: &str = "windlass-public";

/// A provider that runs until this is dropped. Any password will do for the users `alice` (verified e-mail, groups `sre` and `dev`), `bob`
/// (an e-mail that is not verified, no groups) and `carol` (no e-mail, a single group that is no list). `job-of-ledger` and `job-of-web`
/// have what GitHub says of a job of the workflow `deploy` of `org/ledger`, started by `octocat`, and of `org/web`, started by `hubot`;
/// `job-of-gitlab` what GitLab says of one of pipeline 574 of `group/infra` on `main`, started by `tanuki`.
/// Every loopback address is a redirect address of each client.
#[derive(Debug)]
pub struct OidcProvider {
    server: Child,
    issuer: String,
    agent: Agent,
    /// Holds the script and what the server said.
    _directory: tempfile::TempDir,
}

/// Why there is no provider, or it did not do as it should.
#[derive(Debug, thiserror::Error)]
pub enum OidcProviderError {
    #[error(transparent)]
    Npm(#[from] NpmError),
    #[error("cannot {what}")]
    Io { what: String, source: std::io::Error },
    #[error("the provider ended at once: {log}")]
    Ended { log: String },
    #[error("the provider cannot be asked at {url}")]
    Ask { url: String, source: Box<ureq::Error> },
    #[error("the provider answers {status} at {url}: {body}")]
    Answer { url: String, status: u16, body: String },
}

impl OidcProvider {
    /// Starts it on a free port and returns when it answers: below a second, and some more for the very first.
    ///
    /// # Errors
    /// Node or npm are missing, the package cannot be installed, or it does not start.
    pub fn start() -> Result<Self, OidcProviderError> {
        let entry = npm::package("oidc-provider", VERSION, ENTRY)?.join(ENTRY);
        let directory = tempfile::Builder::new().prefix("windlass-oidc-").tempdir().map_err(io("make a folder"))?;
        let script = directory.path().join("provider.mjs");
        std::fs::write(&script, SCRIPT).map_err(io("write the script"))?;
        let log = directory.path().join("log");
        let mut server = Command::new("node")
            .arg(&script)
            .arg(entry)
            .arg(configuration().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(io("make the log"))?)
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => NpmError::NotInstalled { program: "node" }.into(),
                _ => io("start node")(error),
            })?;
        let mut issuer = String::new();
        if let Some(said) = server.stdout.take() {
            // Ends with the process, too.
            BufReader::new(said).read_line(&mut issuer).map_err(io("read what the provider says"))?;
        }
        let agent =
            Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None).build().new_agent();
        let provider = Self { server, issuer: issuer.trim().to_owned(), agent, _directory: directory };
        if provider.issuer.is_empty() {
            return Err(OidcProviderError::Ended { log: std::fs::read_to_string(&log).unwrap_or_default() });
        }
        Ok(provider)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// From now on it signs with new keys, and knows the old ones no more.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn rotate(&self) -> Result<(), OidcProviderError> {
        self.control("rotate")
    }

    /// From now on identity tokens hold all claims; at first, as by default, most are only for the userinfo endpoint.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn fill_tokens(&self) -> Result<(), OidcProviderError> {
        self.control("full")
    }

    fn control(&self, what: &str) -> Result<(), OidcProviderError> {
        let url = format!("{}/control/{what}", self.issuer);
        let answer = self.agent.post(&url).send_empty().map_err(asked(&url))?;
        answered(&url, answer).map(drop)
    }

    /// Walks through sign-in and consent as a person with a new browser would, from the address where the client sent it.
    /// Returns the address that the browser is sent back to.
    ///
    /// # Errors
    /// The provider shows an error page.
    pub fn sign_in(&self, url: &str, login: &str) -> Result<String, OidcProviderError> {
        self.walk(url, Some(login))
    }

    /// As [`Self::sign_in`], for a person who goes back instead of signing in.
    ///
    /// # Errors
    /// The provider shows an error page.
    pub fn turn_back(&self, url: &str) -> Result<String, OidcProviderError> {
        self.walk(url, None)
    }

    /// An identity token for the audience [`PUBLIC`], as a CI gives its jobs one; with all claims after [`Self::fill_tokens`].
    ///
    /// # Errors
    /// The provider does not give one.
    pub fn identity_token(&self, login: &str) -> Result<String, OidcProviderError> {
        const REDIRECT: &str = "http://127.0.0.1/";
        // Verifier and challenge of RFC 7636, appendix B.
        let there = format!(
            "{}/auth?client_id={PUBLIC}&response_type=code&scope=openid%20job&redirect_uri={REDIRECT}&state=s\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
            self.issuer
        );
        let back = self.sign_in(&there, login)?;
        let code = back.split("code=").nth(1).and_then(|rest| rest.split('&').next()).unwrap_or_default();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", PUBLIC),
            ("redirect_uri", REDIRECT),
            ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ];
        let url = format!("{}/token", self.issuer);
        let body = answered(&url, self.agent.post(&url).send_form(form).map_err(asked(&url))?)?;
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let token = answer["id_token"].as_str().map(str::to_owned);
        token.ok_or(OidcProviderError::Answer { url, status: 200, body })
    }

    fn walk(&self, url: &str, login: Option<&str>) -> Result<String, OidcProviderError> {
        let mut cookies: BTreeMap<String, String> = BTreeMap::new();
        let mut url = url.to_owned();
        let mut form: Option<Vec<(&str, &str)>> = None;
        while url.starts_with(&self.issuer) {
            let cookie: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let cookie = cookie.join("; ");
            let answer = match form.take() {
                Some(form) => self.agent.post(&url).header("Cookie", cookie).send_form(form),
                None => self.agent.get(&url).header("Cookie", cookie).call(),
            };
            let answer = answer.map_err(asked(&url))?;
            for set in answer.headers().get_all("set-cookie") {
                let pair = set.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
                if let Some((name, value)) = pair.split_once('=') {
                    cookies.insert(name.to_owned(), value.to_owned());
                }
            }
            let location = answer.headers().get("location").and_then(|to| to.to_str().ok());
            if let Some(location) = location {
                url =
                    if location.starts_with('/') { format!("{}{location}", self.issuer) } else { location.to_owned() };
                continue;
            }
            let page = answered(&url, answer)?;
            match login {
                None => url.push_str("/abort"),
                Some(login) if page.contains("value=\"login\"") => {
                    form = Some(vec![("prompt", "login"), ("login", login), ("password", "any")]);
                }
                Some(_) => form = Some(vec![("prompt", "consent")]),
            }
        }
        Ok(url)
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What GitHub says of a job.
fn job(repository: &str, actor: &str) -> Value {
    json!({ "repository": repository, "ref": "refs/heads/main", "workflow": "deploy", "actor": actor })
}

fn configuration() -> Value {
    let client = |id: &str, more: Value| {
        let mut client = json!({
            "client_id": id,
            "redirect_uris": ["http://127.0.0.1/"],
            "response_types": ["code"],
            "grant_types": ["authorization_code"],
            "application_type": "native",
            "scope": "openid profile email groups job",
        });
        if let (Value::Object(client), Value::Object(more)) = (&mut client, more) {
            client.extend(more);
        }
        client
    };
    json!({
        "clients": [
            client(CONFIDENTIAL, json!({ "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic" })),
            client(POSTING, json!({ "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post" })),
            client(PUBLIC, json!({ "token_endpoint_auth_method": "none", "id_token_signed_response_alg": "ES256" })),
        ],
        "users": {
            "alice": {
                "name": "Alice Example", "preferred_username": "alice",
                "email": "alice@example.com", "email_verified": true, "groups": ["sre", "dev"],
            },
            "bob": { "name": "Bob Example", "preferred_username": "bob", "email": "alice@example.com", "email_verified": false },
            "carol": { "groups": "ledger" },
            "job-of-ledger": job("org/ledger", "octocat"),
            "job-of-web": job("org/web", "hubot"),
            "job-of-gitlab": {
                "project_path": "group/infra", "ref": "main", "ref_type": "branch", "pipeline_id": "574", "user_login": "tanuki",
            },
        },
    })
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> OidcProviderError {
    let what = what.to_owned();
    |source| OidcProviderError::Io { what, source }
}

fn asked(url: &str) -> impl FnOnce(ureq::Error) -> OidcProviderError {
    let url = url.to_owned();
    |source| OidcProviderError::Ask { url, source: Box::new(source) }
}

fn answered(url: &str, answer: ureq::http::Response<ureq::Body>) -> Result<String, OidcProviderError> {
    let status = answer.status().as_u16();
    let body = answer.into_body().read_to_string().map_err(asked(url))?;
    if status == 200 { Ok(body) } else { Err(OidcProviderError::Answer { url: url.to_owned(), status, body }) }
}
