//! One request over HTTP, with its answer as far as it is wanted.

use std::io::Read;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use ureq::http::{Method, Request as Message};

/// How much of an answer is read, bytes.
pub const LARGEST: u64 = 1024 * 1024;
/// How long a request whose time is over may take to notice.
const GRACE: Duration = Duration::from_secs(1);

/// What is sent. Redirects are not followed; over https the certificate has to be good for the roots of this machine.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    /// From the first byte sent to the last one read.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: Option<String>,
    /// At most [`LARGEST`] bytes.
    pub body: Vec<u8>,
    /// There was more.
    pub cut: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It cannot be sent as it is.
    #[error("{0}")]
    Wrong(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Slow(Duration),
    #[error("cancelled")]
    Cancelled,
}

/// Sends a request. After a cancel nobody waits for the answer; the other side may have got it all the same.
///
/// # Errors
/// There was no answer, and why.
pub async fn send(request: Request, cancel: &CancellationToken) -> Result<Answer, RequestError> {
    let timeout = request.timeout;
    let asking = tokio::task::spawn_blocking(move || ask(request));
    tokio::select! {
        answer = tokio::time::timeout(timeout + GRACE, asking) => match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(RequestError::Unreachable("the request broke off".into())),
            Err(_) => Err(RequestError::Slow(timeout)),
        },
        () = cancel.cancelled() => Err(RequestError::Cancelled),
    }
}

fn ask(request: Request) -> Result<Answer, RequestError> {
    let wrong = |error: &dyn std::fmt::Display| RequestError::Wrong(error.to_string());
    let Request { method, url, headers, body, timeout } = request;
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).map_err(|error| wrong(&error))?;
    let mut message = Message::builder().method(method).uri(&url);
    for (name, value) in &headers {
        message = message.header(name, value);
    }
    let agent = ureq::Agent::config_builder()
        .tls_config(crate::http::tls(crate::http::system_roots()))
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        .user_agent("windlass")
        .build()
        .new_agent();
    let answer = match body {
        Some(body) => agent.run(message.body(body).map_err(|error| wrong(&error))?),
        None => agent.run(message.body(()).map_err(|error| wrong(&error))?),
    };
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(ureq::Error::Timeout(_)) => return Err(RequestError::Slow(timeout)),
        Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => return Err(wrong(&error)),
        Err(error) => return Err(RequestError::Unreachable(error.to_string())),
    };
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    let read = answer.body_mut().as_reader().take(LARGEST + 1).read_to_end(&mut body);
    read.map_err(|error| RequestError::Unreachable(format!("its answer broke off: {error}")))?;
    let cut = body.len() as u64 > LARGEST;
    body.truncate(LARGEST as usize);
    Ok(Answer { status, content_type, body, cut })
}
