//! The one way to ask a provider: over TLS with the roots of this machine and those of the settings, without redirects, within
//! limits on time and size.

use crate::error::{IdentityError, plain};
use openidconnect::url::{Host, Url};
use openidconnect::{HttpRequest, HttpResponse};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// From the first byte sent to the last one read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer, bytes. The largest key sets have some tens of thousands.
const LARGEST: u64 = 1 << 20;

/// A client for one provider.
#[derive(Debug)]
pub(crate) struct Http {
    agent: Agent,
    /// The provider is on this machine and speaks without TLS.
    bare: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("it is not an https address")]
    NotHttps,
    #[error("it answers more than {} KiB", LARGEST >> 10)]
    TooLarge,
    #[error("it does not answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("it answers {0}")]
    Status(u16),
    #[error("{0}")]
    Failed(String),
}

impl HttpError {
    pub(crate) fn at(self, provider: &str, url: &str) -> IdentityError {
        let (provider, url, problem) = (provider.to_owned(), plain(url), self.to_string());
        match self {
            Self::NotHttps | Self::TooLarge => IdentityError::Answer { provider, url, problem },
            Self::Slow(_) | Self::Status(_) | Self::Failed(_) => IdentityError::Unreachable { provider, url, problem },
        }
    }
}

/// The address of an issuer: TLS, or on this machine.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn issuer_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`issuer` {text:?} is no address: {error}"))?;
    if url.scheme() != "https" && !is_bare(&url) {
        return Err(format!("`issuer` {text:?} has to begin with https://"));
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(format!("`issuer` {text:?} may have no user, no `?` and no `#`"));
    }
    Ok(url)
}

/// Without TLS on this machine's own loopback.
fn is_bare(url: &Url) -> bool {
    url.scheme() == "http" && is_loopback(url)
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Http {
    /// `roots`: a PEM file with certificates that are trusted besides the machine's own.
    ///
    /// # Errors
    /// That file cannot be used.
    pub(crate) fn new(issuer: &Url, roots: Option<&Path>) -> Result<Self, String> {
        Self::with_timeout(issuer, roots, TIMEOUT)
    }

    fn with_timeout(issuer: &Url, roots: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let mut config = Agent::config_builder()
            .tls_config(tls(roots)?)
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // A provider that sends us elsewhere is not the one that was declared.
            .max_redirects(0)
            .user_agent("windlass");
        if is_loopback(issuer) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().new_agent(), bare: is_bare(issuer) })
    }

    /// One request, whatever the status of its answer.
    pub(crate) fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = Url::parse(&request.uri().to_string()).map_err(|error| HttpError::Failed(error.to_string()))?;
        if url.scheme() != "https" && !(self.bare && is_bare(&url)) {
            return Err(HttpError::NotHttps);
        }
        let failed = |error: ureq::Error| match error {
            ureq::Error::BodyExceedsLimit(_) => HttpError::TooLarge,
            ureq::Error::Timeout(_) => HttpError::Slow(self.agent.config().timeouts().global.unwrap_or(TIMEOUT)),
            other => HttpError::Failed(plain(&other.to_string())),
        };
        let answer =
            if request.body().is_empty() { self.agent.run(request.map(|_| ())) } else { self.agent.run(request) };
        let (parts, mut body) = answer.map_err(failed)?.into_parts();
        let content = body.with_config().limit(LARGEST).read_to_vec().map_err(failed)?;
        Ok(HttpResponse::from_parts(parts, content))
    }

    /// The content of a document.
    pub(crate) fn get(&self, url: &str) -> Result<Vec<u8>, HttpError> {
        let request = openidconnect::http::Request::get(url)
            .header("Accept", "application/json")
            .body(Vec::new())
            .map_err(|error| HttpError::Failed(error.to_string()))?;
        let answer = self.ask(request)?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body()),
            status => Err(HttpError::Status(status)),
        }
    }
}

/// The machine's own roots, and those of a PEM file.
pub(crate) fn tls(roots: Option<&Path>) -> Result<TlsConfig, String> {
    let mut certificates = system_roots().to_vec();
    if let Some(path) = roots {
        let unusable = |why: String| format!("`root_certificates` {} {why}", path.display());
        let before = certificates.len();
        let found =
            CertificateDer::pem_file_iter(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| unusable(format!("is no PEM file: {error}")))?;
            certificates.push(Certificate::from_der(&certificate).to_owned());
        }
        if certificates.len() == before {
            return Err(unusable("holds no certificate".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCerts::new_with_certs(&certificates);
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}

/// The roots that this machine trusts, read once.
fn system_roots() -> &'static [Certificate<'static>] {
    static ROOTS: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    #[test]
    fn an_issuer_is_an_https_address_or_on_this_machine() {
        let check = |text: &str, want: Option<&str>| {
            let found = issuer_url(text).err();
            assert_eq!(found.is_some(), want.is_some(), "{text}: {found:?}");
            assert!(found.unwrap_or_default().contains(want.unwrap_or_default()), "{text}");
        };
        check("https://accounts.google.com", None);
        check("https://login.example.com:8443/realms/company", None);
        check("http://127.0.0.1:4711", None);
        check("http://[::1]:4711/", None);
        check("http://localhost:4711", None);
        check("http://login.example.com", Some("https://"));
        check("http://localhost.example.com", Some("https://"));
        check("file:///etc/passwd", Some("https://"));
        check("login.example.com", Some("no address"));
        check("https://a:b@login.example.com", Some("no user"));
        check("https://login.example.com?tenant=1", Some("no `?`"));
    }

    #[test]
    fn a_provider_elsewhere_is_never_asked_without_tls() {
        let remote = Http::new(&Url::parse("https://login.example.com").unwrap(), None).unwrap();
        assert!(matches!(remote.get("http://login.example.com/keys"), Err(HttpError::NotHttps)));
        assert!(matches!(remote.get("http://127.0.0.1:1/keys"), Err(HttpError::NotHttps)));
        let local = Http::new(&Url::parse("http://127.0.0.1:1").unwrap(), None).unwrap();
        assert!(matches!(local.get("http://login.example.com/keys"), Err(HttpError::NotHttps)));
        assert!(matches!(local.get("http://127.0.0.1:1/keys"), Err(HttpError::Failed(_))));
    }

    /// Both a server that says nothing and one that never ends are given up in time.
    #[test]
    fn one_that_hangs_is_given_up() {
        for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(beginning.as_bytes()).unwrap();
                // Until the client has gone.
                let _ = wait.recv();
            });
            let limit = Duration::from_millis(300);
            let http = Http::with_timeout(&Url::parse(&url).unwrap(), None, limit).unwrap();
            let begun = Instant::now();
            let found = http.get(&url);
            assert!(matches!(found, Err(HttpError::Slow(_))), "{found:?}");
            assert!(begun.elapsed() < Duration::from_secs(5));
            drop(done);
            server.join().unwrap();
        }
    }

    #[test]
    fn root_certificates_have_to_be_certificates() {
        let issuer = Url::parse("https://login.example.com").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let check = |content: Option<&str>, want: &str| {
            let path = folder.path().join("roots.pem");
            let _ = std::fs::remove_file(&path);
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let found = Http::new(&issuer, Some(&path)).unwrap_err();
            assert!(found.contains("root_certificates") && found.contains(want), "{found}");
        };
        check(None, "cannot be read");
        check(Some("nothing of the kind"), "holds no certificate");
        check(Some("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), "is no PEM file");
    }
}
