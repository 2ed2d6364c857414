//! What all HTTP clients here have in common.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The roots that this machine trusts, read once.
pub fn system_roots() -> RootCerts {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        let certificates: Vec<_> =
            found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
        RootCerts::new_with_certs(&certificates)
    };
    ROOTS.get_or_init(read).clone()
}

pub fn tls(roots: RootCerts) -> TlsConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build()
}

/// The body of what an address answers with 200, within these limits on time and bytes; blocks. Redirects are not followed.
///
/// # Errors
/// Why there is none, for people.
pub fn get(url: &str, timeout: Duration, longest: u64) -> Result<Vec<u8>, String> {
    let agent = ureq::Agent::config_builder()
        .tls_config(tls(system_roots()))
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent("windlass")
        .build()
        .new_agent();
    let mut answer = agent.get(url).call().map_err(|error| match error {
        ureq::Error::Timeout(_) => format!("{url} does not answer within {} s", timeout.as_secs()),
        error => format!("cannot ask {url}: {error}"),
    })?;
    if answer.status().as_u16() != 200 {
        return Err(format!("{url} answers {}", answer.status().as_u16()));
    }
    let mut body = Vec::new();
    let read = answer.body_mut().as_reader().take(longest + 1).read_to_end(&mut body);
    read.map_err(|error| format!("{url} answers, but its body cannot be read: {error}"))?;
    if body.len() as u64 > longest {
        return Err(format!("{url} answers more than {} KiB", longest >> 10));
    }
    Ok(body)
}
