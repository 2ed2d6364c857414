//! Requests to a server, with its answers as values and its refusals as diagnostics.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, http};
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_app::sessions;
use windlass_model::diagnostic::Diagnostic;

/// How long an answer may take to begin.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often something is tried that failed on its way, and the first pause; each is twice as long as the one before.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// Where a server is, and who asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a slash at the end.
    pub url: String,
    pub token_file: Option<PathBuf>,
}

pub struct Client {
    agent: Agent,
    pub url: String,
    token: String,
}

impl Client {
    /// Finds what to show the server: `WINDLASS_TOKEN`, a file with a token, or what the CI gives this job.
    ///
    /// # Errors
    /// There is nothing, or the server does not take it.
    pub fn new(settings: &Settings) -> AppResult<Self> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let host = url.strip_prefix("http://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
        let is_plain = host.is_some_and(|host| !matches!(host, "localhost" | "127.0.0.1"));
        if is_plain || !(url.starts_with("https://") || host.is_some()) {
            let summary = format!("`{url}` is no address of a server: it begins with https://");
            let diagnostic = Diagnostic::error("WL884", summary).help(
                "a token is sent without TLS to this machine alone; set WINDLASS_URL to what the pages are reached at",
            );
            return Err(AppError::new(ErrorKind::Usage, diagnostic));
        }
        let agent = Agent::config_builder()
            .tls_config(tls())
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(TIMEOUT))
            .http_status_as_error(false)
            // Another address gets no token.
            .max_redirects(0)
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let mut client = Self { agent, url, token: String::new() };
        client.token = client.find_token(settings)?;
        Ok(client)
    }

    fn find_token(&self, settings: &Settings) -> AppResult<String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(path) = &settings.token_file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let summary = format!("cannot read the token in {}: {error}", path.display());
                AppError::new(ErrorKind::Usage, Diagnostic::error("WL884", summary))
            })?;
            return Ok(text.trim().to_owned());
        }
        if let Some(token) = variable("WINDLASS_TOKEN") {
            return Ok(token);
        }
        let identity = match (variable("WINDLASS_CI_TOKEN"), variable("ACTIONS_ID_TOKEN_REQUEST_URL")) {
            (Some(token), _) => token,
            (None, Some(address)) => {
                let audience = variable("WINDLASS_CI_AUDIENCE").unwrap_or_else(|| self.url.clone());
                let bearer = variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN").unwrap_or_default();
                let request = self.agent.get(&address).query("audience", &audience);
                let answer = request.header("authorization", format!("Bearer {bearer}")).call();
                let value: Value = self.value(answer.map_err(|error| self.unreachable(&error))?)?;
                value["value"].as_str().unwrap_or_default().to_owned()
            }
            (None, None) => {
                let diagnostic = Diagnostic::error("WL884", format!("there is no token for {}", self.url)).help(
                    "make one on the server's page of tokens and set WINDLASS_TOKEN, or `--token-file FILE`; a job of a CI \
                     needs permission for its identity token (docs/remote.md)",
                );
                return Err(AppError::new(ErrorKind::Unauthenticated, diagnostic));
            }
        };
        let answer: Value =
            self.send("POST", "/api/v1/ci/exchange", Some(&serde_json::json!({ "token": identity })), None)?;
        Ok(answer["token"].as_str().unwrap_or_default().to_owned())
    }

    /// Reads; what fails on its way is tried again.
    ///
    /// # Errors
    /// The server refuses, cannot be reached, or answers what nobody understands.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> AppResult<T> {
        self.send("GET", path, None, None)
    }

    /// All pages of a list.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn list<T: DeserializeOwned>(&self, path: &str) -> AppResult<Vec<T>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let from = cursor.map(|cursor| format!("&cursor={}", segment(&cursor))).unwrap_or_default();
            let page: Page<T> = self.get(&format!("{path}{sign}limit=500{from}"))?;
            all.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Changes something, once: however often it has to be sent.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> AppResult<T> {
        let body = serde_json::to_value(body).map_err(windlass_app::error::internal)?;
        self.send("POST", path, Some(&body), Some(&sessions::secret()?))
    }

    /// As [`Client::post`], for what must not be sent again when nobody knows whether it arrived.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post_once<T: DeserializeOwned>(&self, path: &str, body: &Value) -> AppResult<T> {
        self.send("POST", path, Some(body), None)
    }

    /// # Errors
    /// As [`Client::get`].
    pub fn delete(&self, path: &str) -> AppResult<()> {
        self.send::<Value>("DELETE", path, None, None).map(drop)
    }

    /// A long answer as it comes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn read(&self, path: &str) -> AppResult<impl Read + use<>> {
        let answer = self.ask("GET", path, None, None).map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer.into_body().into_reader());
        }
        Err(self.refusal(answer))
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> AppResult<T> {
        let repeats = method == "GET" || key.is_some();
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match self.ask(method, path, body, key) {
                Err(_) if repeats => {}
                Ok(answer) if repeats && matches!(answer.status().as_u16(), 429 | 502..=504) => {}
                Err(error) => return Err(self.unreachable(&error)),
                Ok(answer) => return self.value(answer),
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        self.value(self.ask(method, path, body, key).map_err(|error| self.unreachable(&error))?)
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<http::Response<Body>, ureq::Error> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header("accept", "application/json");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        match body {
            Some(body) => self.agent.run(request.header("content-type", "application/json").body(body.to_string())?),
            None => self.agent.run(request.body(())?),
        }
    }

    fn value<T: DeserializeOwned>(&self, answer: http::Response<Body>) -> AppResult<T> {
        if !answer.status().is_success() {
            return Err(self.refusal(answer));
        }
        let mut text = Vec::new();
        let read = answer.into_body().into_reader().read_to_end(&mut text);
        read.map_err(|error| self.strange(&format!("its answer broke off: {error}")))?;
        let text: &[u8] = if text.trim_ascii().is_empty() { b"null" } else { &text };
        serde_json::from_slice(text).map_err(|error| self.strange(&format!("its answer is not understood: {error}")))
    }

    /// What the server says against it.
    fn refusal(&self, answer: http::Response<Body>) -> AppError {
        let status = answer.status().as_u16();
        let problem: Option<Problem> = serde_json::from_reader(answer.into_body().into_reader().take(1 << 22)).ok();
        let Some(problem) = problem.filter(|problem| !problem.diagnostics.is_empty()) else {
            return self.strange(&format!("it answers {status}"));
        };
        let kind = match status {
            401 => ErrorKind::Unauthenticated,
            403 => ErrorKind::Forbidden,
            404 => ErrorKind::NotFound,
            // The world moved, or the answer is no.
            409 if matches!(problem.code.as_str(), "WL624" | "WL847" | "WL849") => ErrorKind::Conflict,
            409 => ErrorKind::Refused,
            422 => ErrorKind::Definition,
            429 | 502..=504 => ErrorKind::Unavailable,
            500..=599 => ErrorKind::Internal,
            _ => ErrorKind::Usage,
        };
        AppError::many(kind, problem.diagnostics)
    }

    fn unreachable(&self, error: &ureq::Error) -> AppError {
        let diagnostic = Diagnostic::error("WL880", format!("the server {} cannot be reached: {error}", self.url))
            .help("look whether it runs and whether WINDLASS_URL is right; without WINDLASS_URL commands work in this checkout");
        AppError::new(ErrorKind::Unavailable, diagnostic)
    }

    fn strange(&self, what: &str) -> AppError {
        let diagnostic = Diagnostic::error("WL881", format!("{} does not answer as Windlass does: {what}", self.url))
            .help("look whether WINDLASS_URL is right, and whether server and program are of the same version");
        AppError::new(ErrorKind::Unavailable, diagnostic)
    }
}

#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// RFC 9457, as the server writes it.
#[derive(serde::Deserialize)]
struct Problem {
    code: String,
    diagnostics: Vec<Diagnostic>,
}

/// A text as one segment or value of an address.
pub fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// As [`segment`], with slashes left as they are.
pub fn segments(text: &str) -> String {
    text.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// The roots that this machine trusts (`SSL_CERT_FILE` names others).
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<_> = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(provider)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_segment() {
        let check = |text: &str, want: &str| assert_eq!(segment(text), want);
        check("apply:aws/net[tokyo]", "apply%3Aaws%2Fnet%5Btokyo%5D");
        check("a-b._~", "a-b._~");
        check("ü ", "%C3%BC%20");
        assert_eq!(segments("aws/net[t]"), "aws/net%5Bt%5D");
    }

    #[test]
    fn a_token_goes_over_tls_or_stays_here() {
        let check = |url: &str, good: bool| {
            let made = Client::new(&Settings { url: url.into(), token_file: Some("/nowhere/token".into()) });
            let summary = made.err().unwrap().diagnostics.remove(0).summary;
            assert_eq!(summary.starts_with("cannot read the token"), good, "{summary}");
        };
        check("https://windlass.example.com/", true);
        check("http://127.0.0.1:7670", true);
        check("http://localhost", true);
        check("http://windlass.example.com", false);
        check("http://localhost.example.com", false);
        check("windlass.example.com", false);
        check("ftp://windlass.example.com", false);
    }
}
