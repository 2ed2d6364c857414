//! Apps of GitHub: <https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app>. An app signs for itself,
//! and is given tokens of its installations, which end after an hour.

use super::super::ForgeError;
use super::super::api::{Api, Call, micros, now, text};
use super::super::settings::{AppSettings, read, unusable};
use super::{ACCEPT, VERSION};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use ureq::http::Method;
use windlass_model::Micros;

/// How long what an app signs is good, seconds; GitHub takes ten minutes.
const SIGNED: i64 = 540;
/// How far the clocks may be apart, seconds.
const SKEW: i64 = 60;
/// A token that ends so soon is not used any more, µs.
const MARGIN: Micros = 60 * 1_000_000;

/// An app where it is installed.
pub(super) struct Installation {
    app: AppSettings,
    /// The repository that its tokens are for, without its owner.
    repository: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    slug: Option<String>,
    installation: Option<u64>,
    token: Option<Token>,
}

struct Token {
    text: String,
    ends: Micros,
}

impl Installation {
    pub fn new(app: AppSettings, repository: &str) -> Self {
        let known = Known { installation: app.installation, ..Known::default() };
        Self { app, repository: repository.to_owned(), known: Mutex::new(known) }
    }

    /// A token that is good for another minute. `path` is that of the repository: `/repos/OWNER/NAME`.
    pub fn token(&self, api: &Api, path: &str) -> Result<String, ForgeError> {
        // Held while it is asked for: nobody else needs another one.
        let mut known = self.lock();
        if let Some(token) = known.token.as_ref().filter(|token| token.ends - MARGIN > now()) {
            return Ok(token.text.clone());
        }
        let installation = match known.installation {
            Some(installation) => installation,
            None => {
                let what = "find the installation of the app";
                let answer = self.ask(api, Method::GET, &format!("{path}/installation"), None, what)?;
                let Some(found) = answer["id"].as_u64() else { return Err(api.odd(what)) };
                *known.installation.insert(found)
            }
        };
        let what = "give the app a token";
        let body = json!({ "repositories": [self.repository] });
        let path = format!("/app/installations/{installation}/access_tokens");
        let answer = self.ask(api, Method::POST, &path, Some(&body), what)?;
        let token = Token { text: text(&answer["token"]), ends: micros(&answer["expires_at"]) };
        if token.text.is_empty() || token.ends == 0 {
            return Err(api.odd(what));
        }
        Ok(known.token.insert(token).text.clone())
    }

    /// Lets go of the token that is known, and of an installation that was found: the app may have been installed anew.
    pub fn forget(&self) {
        let mut known = self.lock();
        known.token = None;
        known.installation = self.app.installation;
    }

    /// What the app is called in addresses.
    pub fn slug(&self, api: &Api) -> Result<String, ForgeError> {
        let mut known = self.lock();
        if let Some(slug) = &known.slug {
            return Ok(slug.clone());
        }
        let what = "say who we are";
        let answer = self.ask(api, Method::GET, "/app", None, what)?;
        let slug = answer["slug"].as_str().ok_or_else(|| api.odd(what))?;
        Ok(known.slug.insert(slug.to_owned()).clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the app itself.
    fn ask(
        &self,
        api: &Api,
        method: Method,
        path: &str,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Value, ForgeError> {
        let authorization = format!("Bearer {}", sign(&self.app, now())?);
        let headers = [VERSION, ACCEPT, ("authorization", authorization.as_str())];
        let answer = api.ask(&Call::send(method, path, body, what, &headers))?;
        match answer.status {
            404 => Err(api.forbidden(what, "the app is not installed there")),
            _ => api.taken(what, &answer),
        }
    }
}

/// A token by which the app says who it is (RFC 7519, RS256).
fn sign(app: &AppSettings, at: Micros) -> Result<String, ForgeError> {
    let file = app.key_file.display();
    let pem = read(&app.key_file)?;
    let no_key = |problem: &str| unusable(&format!("{file} {problem}"));
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        Ok(PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        _ => return Err(no_key("holds no private key (PEM)")),
    };
    let key = key.map_err(|_| no_key("holds a key that is none of RSA"))?;
    let at = at / 1_000_000;
    let claims = json!({ "iat": at - SKEW, "exp": at + SIGNED - SKEW, "iss": app.id });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(&claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
        .map_err(|_| no_key("holds a key that nothing can be signed with"))?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
