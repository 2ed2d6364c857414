//! Requests to a server, with its answers as values and its refusals as diagnostics.

use super::credentials::{self, Credential};
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
/// The pause while an earlier try is at work.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Where a server is, and who asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a slash at the end.
    pub url: String,
    pub token_file: Option<PathBuf>,
}

#[derive(Clone)]
pub struct Client {
    agent: Agent,
    /// Without a slash at the end.
    pub url: String,
    token: String,
    /// The token is that of `windlass login`.
    is_kept: bool,
}

impl Client {
    /// Finds what to show the server: a file with a token, `WINDLASS_TOKEN`, what the CI gives this job, or what `windlass login`
    /// got.
    ///
    /// # Errors
    /// There is nothing, or the server does not take it.
    pub fn new(settings: &Settings) -> AppResult<Self> {
        let mut client = Self::open(&settings.url)?;
        client.token = client.find_token(settings)?;
        Ok(client)
    }

    /// Somebody whom the server does not know yet.
    ///
    /// # Errors
    /// This is no address to which a token may be sent.
    pub fn open(url: &str) -> AppResult<Self> {
        let url = url.trim_end_matches('/').to_owned();
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
        Ok(Self { agent, url, token: String::new(), is_kept: false })
    }

    pub fn use_token(&mut self, token: String) {
        self.token = token;
    }

    fn find_token(&mut self, settings: &Settings) -> AppResult<String> {
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
            (Some(identity), _) => {
                let name = credentials::of_job(&self.url, &identity);
                let now = jiff::Timestamp::now().as_microsecond();
                if let Some(kept) = credentials::find(&name)?.filter(|kept| kept.expires_at > now) {
                    return Ok(kept.token);
                }
                let exchanged = self.exchange(&identity)?;
                // Where it cannot be kept, the next command of the job says so.
                let _ = credentials::keep(&name, Some(exchanged.clone()));
                return Ok(exchanged.token);
            }
            (None, Some(address)) => {
                let audience = variable("WINDLASS_CI_AUDIENCE").unwrap_or_else(|| self.url.clone());
                let bearer = variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN").unwrap_or_default();
                let request = self.agent.get(&address).query("audience", &audience);
                let answer = request.header("authorization", format!("Bearer {bearer}")).call();
                let answer = answer.map_err(|error| self.unreachable(&error))?;
                let status = answer.status().as_u16();
                let value: Value = self.value(status, &self.body(answer)?)?;
                value["value"].as_str().unwrap_or_default().to_owned()
            }
            (None, None) => {
                if let Some(kept) = credentials::find(&self.url)? {
                    self.is_kept = true;
                    return Ok(kept.token);
                }
                let diagnostic = Diagnostic::error("WL884", format!("there is no token for {}", self.url)).help(format!(
                    "get one with `windlass login {}`, or set WINDLASS_TOKEN; a job of a CI needs permission for its identity \
                     token (docs/remote.md)",
                    self.url
                ));
                return Err(AppError::new(ErrorKind::Unauthenticated, diagnostic));
            }
        };
        Ok(self.exchange(&identity)?.token)
    }

    /// What the server gives for an identity token.
    fn exchange(&self, identity: &str) -> AppResult<Credential> {
        let answer: Value =
            self.send("POST", "/api/v1/ci/exchange", Some(&serde_json::json!({ "token": identity })), None)?;
        let token = answer["token"].as_str().unwrap_or_default().to_owned();
        Ok(Credential { token, id: String::new(), expires_at: answer["expires_at"].as_i64().unwrap_or(0) })
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
        self.list_after(path, None)
    }

    /// As [`Client::list`], of what comes after a cursor.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn list_after<T: DeserializeOwned>(&self, path: &str, mut cursor: Option<String>) -> AppResult<Vec<T>> {
        let mut all = Vec::new();
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

    /// As [`Client::get`], for a question whose words have to be in a body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn repeat<T: DeserializeOwned>(&self, path: &str, body: &Value) -> AppResult<T> {
        self.again(true, || self.ask("POST", path, Some(body), &[]))
    }

    /// A long answer as it comes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn read(&self, path: &str) -> AppResult<impl Read + use<>> {
        let answer = self.ask("GET", path, None, &[]).map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer.into_body().into_reader());
        }
        let status = answer.status().as_u16();
        let body = self.body(answer).unwrap_or_default();
        Err(self.refusal(status, &body))
    }

    /// Events as they come, from the one after `last` on; `None` when there are none to be had, at least now.
    pub fn events(&self, path: &str, last: Option<&str>) -> Option<impl Read + Send + use<>> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.map(|last| ("last-event-id", last)));
        let answer = self.ask("GET", path, None, &headers).ok()?;
        answer.status().is_success().then(|| answer.into_body().into_reader())
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> AppResult<T> {
        let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        self.again(method == "GET" || key.is_some(), || self.ask(method, path, body, &headers))
    }

    /// What is answered, to another try where one fails on its way and may be repeated.
    fn again<T: DeserializeOwned>(
        &self,
        repeats: bool,
        ask: impl Fn() -> Result<http::Response<Body>, ureq::Error>,
    ) -> AppResult<T> {
        let mut pause = PAUSE;
        let mut tries = if repeats { TRIES } else { 1 };
        loop {
            let answer = ask().map(|answer| (answer.status().as_u16(), self.body(answer)));
            tries -= 1;
            match answer {
                // What was sent before is at work: the server gives that up after ten minutes.
                Ok((409, Ok(body)))
                    if repeats && Problem::read(&body).is_some_and(|problem| problem.code == "WL872") =>
                {
                    std::thread::sleep(UNDER_WAY);
                    tries += 1;
                    continue;
                }
                Err(_) | Ok((429 | 502..=504, _) | (_, Err(_))) if tries > 0 => {}
                Err(error) => return Err(self.unreachable(&error)),
                Ok((status, body)) => return self.value(status, &body?),
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<http::Response<Body>, ureq::Error> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !headers.iter().any(|(name, _)| *name == "accept") {
            request = request.header("accept", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        match body {
            Some(body) => self.agent.run(request.header("content-type", "application/json").body(body.to_string())?),
            None => self.agent.run(request.body(())?),
        }
    }

    /// All of an answer.
    fn body(&self, answer: http::Response<Body>) -> AppResult<Vec<u8>> {
        let mut text = Vec::new();
        let read = answer.into_body().into_reader().read_to_end(&mut text);
        read.map(|_| text).map_err(|error| self.strange(&format!("its answer broke off: {error}")))
    }

    fn value<T: DeserializeOwned>(&self, status: u16, body: &[u8]) -> AppResult<T> {
        if !(200..300).contains(&status) {
            return Err(self.refusal(status, body));
        }
        let text: &[u8] = if body.trim_ascii().is_empty() { b"null" } else { body };
        serde_json::from_slice(text).map_err(|error| self.strange(&format!("its answer is not understood: {error}")))
    }

    /// What the server says against it.
    fn refusal(&self, status: u16, body: &[u8]) -> AppError {
        let Some(mut problem) = Problem::read(body).filter(|problem| !problem.diagnostics.is_empty()) else {
            return self.strange(&format!("it answers {status}"));
        };
        if status == 401
            && self.is_kept
            && let Some(first) = problem.diagnostics.first_mut()
        {
            first.help = Some(format!("`windlass login {}` gets a new token", self.url));
        }
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

impl Problem {
    fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
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
/// TLS with the machine's own roots.
pub fn tls() -> TlsConfig {
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
