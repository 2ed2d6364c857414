//! Deliveries over HTTP: signed webhooks, and what Alertmanager sends.

use super::{Happened, put};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::installation::Installation;
use crate::sessions::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::path::Path;
use windlass_lang::expression::{self, Scope};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::trigger::{TriggerDefinition, TriggerSource};
use windlass_model::operation::{Expression, OperationDefinition};

/// How far the clock of a sender may be from ours where it signs the time, seconds: as the Standard Webhooks specification has it.
const TOLERANCE: i64 = 300;

/// How senders number their deliveries; what comes again has the same number.
const NUMBERS: [&str; 7] = [
    "webhook-id",
    "x-github-delivery",
    "x-gitea-delivery",
    "x-forgejo-delivery",
    "x-gitlab-event-uuid",
    "x-request-uuid",
    "x-windlass-delivery",
];

/// What came, to which trigger.
pub struct Delivery<'a> {
    pub project: &'a str,
    pub operation: &'a str,
    pub trigger: &'a str,
    /// A header by its name in lower case.
    pub header: &'a (dyn Fn(&str) -> Option<&'a str> + Send + Sync),
    /// As it came, which is what signatures are over.
    pub body: &'a [u8],
}

/// How many starts were put on record, and how many of what came was there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Delivered {
    pub accepted: usize,
    pub known: usize,
}

/// Takes a delivery: it is on record when this returns, and begun soon after.
///
/// # Errors
/// There is no such trigger or its key did not sign it, which looks the same from outside; it cannot be read; or the key cannot be.
pub async fn deliver(installation: &Installation, delivery: &Delivery<'_>) -> AppResult<Delivered> {
    let good = installation.followed.status(delivery.project).and_then(|status| status.good.clone());
    let operation = good.as_ref().and_then(|good| good.deciding.definitions.operation(delivery.operation));
    let found = operation.and_then(|operation| {
        Some((operation, operation.triggers.iter().find(|trigger| trigger.name == delivery.trigger)?))
    });
    let store = installation.common.store.of_project(delivery.project);
    let now = store.now().await?;
    let (operation, trigger) = found.ok_or_else(unsigned)?;
    let key = match &trigger.source {
        TriggerSource::Webhook { key } | TriggerSource::Alertmanager { key, .. } => key,
        TriggerSource::Event { .. } | TriggerSource::Files { .. } | TriggerSource::Image { .. } => {
            return Err(unsigned());
        }
    };
    let key = key_of(operation, key).await?;
    installation.common.hidden.add([key.clone()]);
    let signed = match &trigger.source {
        TriggerSource::Alertmanager { .. } => bears(delivery, &key),
        _ => is_signed(delivery, &key, now),
    };
    if !signed {
        return Err(unsigned());
    }
    let body: Value =
        serde_json::from_slice(delivery.body).map_err(|error| unreadable(&format!("it is no JSON: {error}")))?;
    let all = match &trigger.source {
        TriggerSource::Alertmanager { resolved, .. } => alerts(&body, *resolved)?,
        _ => vec![webhook(delivery, body)],
    };
    let mut delivered = Delivered::default();
    for (id, happened) in all {
        if put(&store, &operation.name, trigger, &id, now, &happened).await? {
            delivered.accepted += 1;
        } else {
            delivered.known += 1;
        }
    }
    Ok(delivered)
}

fn unsigned() -> AppError {
    let diagnostic = Diagnostic::error("WL720", "there is no such trigger, or its key did not sign this delivery");
    AppError::new(
        ErrorKind::Unauthenticated,
        diagnostic.help("compare the address and the key with what the operation says"),
    )
}

fn unreadable(why: &str) -> AppError {
    let diagnostic = Diagnostic::error("WL721", format!("this delivery cannot be read: {why}"));
    AppError::new(ErrorKind::Usage, diagnostic.help("send JSON; to a trigger of Alertmanager its own notification"))
}

/// The value of a key, with only those secrets read that it names.
async fn key_of(operation: &OperationDefinition, key: &Expression) -> AppResult<String> {
    let unknown = |why: String| {
        let diagnostic =
            Diagnostic::error("WL722", format!("the key of a trigger of `{}` has no value: {why}", operation.name));
        let diagnostic = diagnostic.at(key.span.clone()).help("it is read on the server");
        AppError::new(ErrorKind::Unavailable, diagnostic)
    };
    let named = expression::references(key).map_err(|error| unknown(error.to_string()))?;
    let named: Vec<_> =
        named.into_iter().filter(|named| named.root == "secret").filter_map(|named| named.name).collect();
    let mut secrets = serde_json::Map::new();
    for source in operation.secrets.iter().filter(|source| named.contains(&source.name)) {
        let value = crate::steps::operation::secrets::value(source, Path::new("."), None).await.map_err(unknown)?;
        secrets.insert(source.name.clone(), value.into());
    }
    let key = expression::text(key, &Scope::default().with("secret", secrets.into()));
    let key = key.map_err(|error| unknown(error.to_string()))?;
    // Nothing signs with nothing.
    if key.is_empty() { Err(unknown("it is empty".into())) } else { Ok(key) }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac)
}

/// Whether the key signed it: HMAC-SHA256 of the body (`X-Hub-Signature-256: sha256=HEX`), or of id, time and body as the Standard
/// Webhooks specification says. Compared in constant time.
pub(super) fn is_signed(delivery: &Delivery<'_>, key: &str, now: Micros) -> bool {
    let header = delivery.header;
    if let Some(signatures) = header("webhook-signature") {
        let (Some(id), Some(time)) = (header("webhook-id"), header("webhook-timestamp")) else { return false };
        let near = time.parse().is_ok_and(|time: i64| (now / 1_000_000).abs_diff(time) <= TOLERANCE.unsigned_abs());
        let key = key
            .strip_prefix("whsec_")
            .and_then(|key| STANDARD.decode(key).ok())
            .unwrap_or_else(|| key.as_bytes().to_vec());
        let parts = [id.as_bytes(), b".", time.as_bytes(), b".", delivery.body];
        return near
            && signatures
                .split(' ')
                .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
                .any(|signature| mac(&key, &parts).is_some_and(|mac| mac.verify_slice(&signature).is_ok()));
    }
    let Some(signature) = header("x-hub-signature-256").and_then(|signature| unhex(signature.strip_prefix("sha256=")?))
    else {
        return false;
    };
    mac(key.as_bytes(), &[delivery.body]).is_some_and(|mac| mac.verify_slice(&signature).is_ok())
}

/// Whether it brings the key itself, as `Authorization: Bearer KEY`: Alertmanager signs nothing.
fn bears(delivery: &Delivery<'_>, key: &str) -> bool {
    let given = (delivery.header)("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Digests, so that neither content nor length can be told from the time it takes.
    let (Some(given), Some(own)) = (mac(b"token", &[given.as_bytes()]), mac(b"token", &[key.as_bytes()])) else {
        return false;
    };
    own.verify_slice(&given.finalize().into_bytes()).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let pairs = || text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if digits { pairs().collect() } else { None }
}

/// What comes without a number is told from others by its content.
fn webhook(delivery: &Delivery<'_>, payload: Value) -> (String, Happened) {
    let header = delivery.header;
    let number = NUMBERS.into_iter().find_map(header).map(str::to_owned);
    let id = number.unwrap_or_else(|| digest(&String::from_utf8_lossy(delivery.body)));
    let kind = ["x-github-event", "x-gitea-event", "x-forgejo-event", "x-gitlab-event"].into_iter().find_map(header);
    (id.clone(), Happened { event: json!({ "id": id, "kind": kind.unwrap_or("webhook") }), payload })
}

/// The alerts of a notification of Alertmanager (version 4 of its payload): each by its fingerprint, the time it began, and whether
/// it fires. What they have in common is in the payload of each.
pub(super) fn alerts(body: &Value, resolved: bool) -> AppResult<Vec<(String, Happened)>> {
    if body["version"] != "4" {
        return Err(unreadable("it is no notification of Alertmanager (version 4)"));
    }
    let alerts = body["alerts"].as_array().ok_or_else(|| unreadable("`alerts` is no list"))?;
    let mut found = Vec::new();
    for alert in alerts {
        let text = |name: &str| {
            alert[name]
                .as_str()
                .filter(|text| !text.is_empty())
                .ok_or_else(|| unreadable(&format!("an alert has no `{name}`")))
        };
        let (status, fingerprint, began) = (text("status")?, text("fingerprint")?, text("startsAt")?);
        match status {
            "firing" => {}
            "resolved" if resolved => {}
            "resolved" => continue,
            other => return Err(unreadable(&format!("`{other}` is no status of an alert"))),
        }
        if !alert["labels"].is_object() {
            return Err(unreadable("an alert has no `labels`"));
        }
        let mut payload = alert.clone();
        if let Some(payload) = payload.as_object_mut() {
            for name in ["receiver", "groupKey", "groupLabels", "commonLabels", "commonAnnotations", "externalURL"] {
                payload.insert(name.to_owned(), body[name].clone());
            }
        }
        let id = format!("{fingerprint}/{began}/{status}");
        let event = json!({ "id": id, "kind": format!("alert.{status}") });
        found.push((id, Happened { event, payload }));
    }
    Ok(found)
}

/// The address of a trigger that is delivered to.
pub fn path(project: &str, operation: &str, trigger: &TriggerDefinition) -> Option<String> {
    match trigger.source {
        TriggerSource::Webhook { .. } | TriggerSource::Alertmanager { .. } => {
            Some(format!("/hooks/operations/{project}/{operation}/{}", trigger.name))
        }
        TriggerSource::Event { .. } | TriggerSource::Files { .. } | TriggerSource::Image { .. } => None,
    }
}
