//! Webhooks by the Standard Webhooks specification (<https://www.standardwebhooks.com>): `webhook-id`, `webhook-timestamp`, and
//! `webhook-signature` over `id.timestamp.body` with HMAC-SHA256.

use super::http::Http;
use super::{Delivery, SendError, name};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;
use std::collections::BTreeMap;

/// Before a key in Base64.
const PREFIX: &str = "whsec_";

pub struct Signed {
    http: Http,
    keys: Vec<Vec<u8>>,
}

impl Signed {
    pub(super) fn new(url: &str, keys: &str) -> Result<Self, SendError> {
        let key = |text: &str| {
            let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).ok();
            // As long as the specification has it.
            bytes.filter(|bytes| (24..=64).contains(&bytes.len()))
        };
        let read: Option<Vec<_>> = keys.split_whitespace().map(key).collect();
        let keys = read.filter(|keys| !keys.is_empty()).ok_or_else(|| SendError::Settings {
            problem: "`key` is no key of the Standard Webhooks specification: `whsec_` and 24 to 64 bytes in Base64"
                .into(),
        })?;
        Ok(Self { http: Http::new("url", url)?, keys })
    }

    pub(super) fn send(&self, delivery: &Delivery<'_>) -> Result<(), SendError> {
        let notice = delivery.notice;
        let pairs = |list: &[(String, String)]| list.iter().cloned().collect::<BTreeMap<_, _>>();
        let time = Timestamp::from_microsecond(notice.at).unwrap_or_default();
        let body = json!({
            "type": notice.kind(),
            "timestamp": time.to_string(),
            "data": {
                "project": notice.project, "operation": notice.operation, "run": notice.run, "state": notice.state,
                "occasion": notice.occasion, "title": notice.title, "text": notice.text,
                "facts": pairs(&notice.facts), "links": pairs(&notice.links),
            },
        });
        let body = body.to_string();
        let (id, at) = (format!("msg_{}", name(delivery.key)), delivery.at.to_string());
        let signature = self.sign(&id, &at, &body);
        let headers = [
            ("webhook-id", id.as_str()),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        self.http.post(&headers, body.as_bytes())
    }

    fn sign(&self, id: &str, at: &str, body: &str) -> String {
        let one = |key: &Vec<u8>| {
            // HMAC takes a key of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(format!("{id}.{at}.{body}").as_bytes());
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        };
        self.keys.iter().filter_map(one).collect::<Vec<_>>().join(" ")
    }
}
