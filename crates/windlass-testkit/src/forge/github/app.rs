//! Apps: they sign for themselves, and are given tokens of their installations that end.

use super::super::server::{Asked, Reply};
use super::super::state::{REPOSITORY, Right, State, Token};
use super::{not_found, now, refused};
use crate::TestkitError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

/// How tokens of installations begin.
pub(super) const PREFIX: &str = "ghs_";

/// An app that is installed in the organisation of the followed repository.
#[derive(Debug, Clone)]
pub struct App {
    pub id: String,
    pub slug: String,
    pub installation: u64,
    /// Its private key (PEM, PKCS#1), as it is downloaded.
    pub key: String,
    /// What its tokens may do.
    pub rights: BTreeSet<Right>,
    /// How long a token is good, seconds.
    pub lasts: i64,
    /// How many tokens were given.
    pub given: u64,
    public: Vec<u8>,
}

impl App {
    /// One with a new key, whose tokens last an hour and may do everything.
    ///
    /// # Errors
    /// `openssl` is missing or fails.
    pub fn new(slug: &str) -> Result<Self, TestkitError> {
        let mut command = Command::new("openssl");
        command.args(["genrsa", "-traditional", "2048"]);
        let made = command.output().map_err(|source| TestkitError::Start { program: "openssl".into(), source })?;
        let key = String::from_utf8_lossy(&made.stdout).into_owned();
        let pair = match PrivateKeyDer::from_pem_slice(key.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
            _ => None,
        };
        let pair = pair.ok_or_else(|| TestkitError::Failed {
            command: "openssl genrsa".into(),
            status: made.status,
            stderr: String::from_utf8_lossy(&made.stderr).into_owned(),
        })?;
        Ok(Self {
            id: "Iv23liOfTests4711".into(),
            slug: slug.to_owned(),
            installation: 4_711,
            key,
            rights: Right::ALL.into(),
            lasts: 3_600,
            given: 0,
            public: pair.public().as_ref().to_vec(),
        })
    }

    /// Whether this is a token that the app signed and that is good now.
    fn has_signed(&self, token: &str) -> bool {
        let Some((message, signature)) = token.rsplit_once('.') else { return false };
        let Some((head, claims)) = message.split_once('.') else { return false };
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let json = |text: &str| serde_json::from_slice::<Value>(&decoded(text)).unwrap_or_default();
        let (head, claims, now) = (json(head), json(claims), now());
        let time = |name: &str| claims[name].as_i64().unwrap_or(i64::MAX);
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public);
        head["alg"] == "RS256"
            && claims["iss"] == self.id
            && time("iat") <= now
            && (now..=now + 600).contains(&time("exp"))
            && key.verify(message.as_bytes(), &decoded(signature)).is_ok()
    }
}

pub(super) fn answer(state: &mut State, asked: &Asked, parts: &[&str]) -> Result<Reply, Reply> {
    let token = asked.header("authorization").and_then(|given| given.strip_prefix("Bearer "));
    let app = state.app.as_ref().filter(|app| token.is_some_and(|token| app.has_signed(token)));
    let app = app.cloned().ok_or_else(|| refused(401, "A JSON web token could not be decoded"))?;
    let login = format!("{}[bot]", app.slug);
    match (asked.method.as_str(), parts) {
        ("GET", ["app"]) => {
            Ok(Reply::new(200, json!({ "id": 815, "client_id": app.id, "slug": app.slug, "name": app.slug })))
        }
        ("GET", ["repos", owner, name, "installation"]) if format!("{owner}/{name}") == REPOSITORY => {
            Ok(Reply::new(200, json!({ "id": app.installation, "app_slug": app.slug, "account": { "login": owner } })))
        }
        ("POST", ["app", "installations", id, "access_tokens"]) if *id == app.installation.to_string() => {
            let body = asked.json();
            let wanted = body["repositories"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let name = REPOSITORY.rsplit('/').next().unwrap_or_default();
            if wanted.into_iter().any(|wanted| wanted != name) {
                let message = "There is at least one repository that does not exist or is not accessible to the parent installation.";
                return Err(refused(422, message));
            }
            state.person(&login);
            let text = format!("{PREFIX}{:036}", state.draw());
            let ends_at = now() + app.lasts;
            state.tokens.insert(text.clone(), Token { login, rights: app.rights.clone(), ends_at: Some(ends_at) });
            if let Some(app) = &mut state.app {
                app.given += 1;
            }
            Ok(Reply::new(201, json!({ "token": text, "expires_at": super::time(ends_at * 1_000_000, 0) })))
        }
        _ => Err(not_found()),
    }
}
