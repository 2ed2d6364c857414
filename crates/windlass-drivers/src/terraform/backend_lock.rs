//! Who holds the lock of a state, asked of the backend itself: what terraform prints about a held lock may be about the one who
//! asks. Known for the `http` backend; locks of `local` and `pg` end with their holder, and the other backends are left to
//! terraform.

use serde_json::{Value, json};
use std::time::Duration;
use windlass_model::journal::BackendLock;

#[derive(Debug, thiserror::Error)]
#[error("the backend at {address} cannot be asked who holds the lock: {message}")]
pub struct LockError {
    address: String,
    message: String,
}

/// The holder of the lock; `None` when it is free, or when the backend is one that this does not know. `recorded` is the
/// backend as init recorded it (kind, and effective configuration).
///
/// # Errors
/// The backend does not answer, or not as the protocol says.
pub fn holder(kind: &str, config: &Value) -> Result<Option<BackendLock>, LockError> {
    let text = |name: &str| config.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (true, Some(address)) = (kind == "http", text("lock_address")) else { return Ok(None) };
    let method = text("lock_method").unwrap_or("LOCK");
    let failed = |message: String| LockError { address: address.to_owned(), message };
    // The protocol has no question without an attempt: one that succeeds is undone at once.
    let ours = json!({ "ID": format!("windlass-looks-{}", std::process::id()), "Operation": "look", "Info": "", "Who": "windlass", "Version": env!("CARGO_PKG_VERSION"), "Created": "", "Path": "" });
    let (status, body) = send(config, method, address, &ours).map_err(failed)?;
    match status {
        423 | 409 => {
            let info: Value = serde_json::from_slice(&body).unwrap_or_default();
            let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (id, who) = (text("ID"), text("Who"));
            Ok(Some(BackendLock { id, who, operation: text("Operation"), created: text("Created") }))
        }
        200..=299 => {
            let unlock = text("unlock_address").unwrap_or(address);
            let (status, _) = send(config, text("unlock_method").unwrap_or("UNLOCK"), unlock, &ours).map_err(failed)?;
            if (200..=299).contains(&status) { Ok(None) } else { Err(failed(format!("unlocking answered {status}"))) }
        }
        other => Err(failed(format!("it answered {other}"))),
    }
}

fn send(config: &Value, method: &str, address: &str, body: &Value) -> Result<(u16, Vec<u8>), String> {
    let request = ureq::http::Request::builder().method(method).uri(address);
    let request = authorized(config, request).header("Content-Type", "application/json");
    let request = request.body(body.to_string()).map_err(|e| e.to_string())?;
    let mut response = agent().run(request).map_err(|e| e.to_string())?;
    let content = response.body_mut().read_to_vec().map_err(|e| e.to_string())?;
    Ok((response.status().as_u16(), content))
}

/// A client that takes every answer for one.
pub(super) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .tls_config(crate::http::tls(crate::http::system_roots()))
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .build()
        .into()
}

/// `request` with the user and password of an `http` backend, where it has them.
pub(super) fn authorized(config: &Value, request: ureq::http::request::Builder) -> ureq::http::request::Builder {
    use base64::Engine as _;
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("username").is_empty() {
        return request;
    }
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", text("username"), text("password")));
    request.header("Authorization", format!("Basic {pair}"))
}
