//! The tamper-evident record: events in sealed batches that are chained and signed, and the verification of all of it.
//!
//! An event has [canonical bytes](AuditEvent::canonical) and a [digest](SealedEvent::of) of them. A [`Seal`] keeps the digests of
//! one batch, the digest of the seal before it and a signature. [`verify::Verifier`] reads events and seals once, in order,
//! and names the first thing that is not as it was sealed. [`export`] is the form that leaves the server.

pub mod canonical;
pub mod damage;
pub mod export;
pub mod keys;
pub mod seal;
#[cfg(test)]
mod tests;
pub mod verify;

use crate::Micros;
use keys::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use damage::Damage;
pub use keys::{SigningKey, VerifyingKey};
pub use seal::{Seal, Sealing};
pub use verify::{Report, Verifier, verify};

/// What is hashed or signed begins with one of these, so that bytes of one purpose are never taken for another's.
mod domain {
    pub const EVENT: &[u8] = b"windlass/audit/event/1\0";
    pub const BATCH: &[u8] = b"windlass/audit/batch/1\0";
    pub const SEAL: &[u8] = b"windlass/audit/seal/1\0";
}

/// One fact, as it is sealed and exported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEvent {
    /// Grows; gaps are possible.
    pub id: i64,
    pub project: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Past tense, e.g. `run.started`.
    pub kind: String,
    pub data: serde_json::Value,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    pub at: Micros,
    /// What belongs together, e.g. the id of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// What it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl AuditEvent {
    /// The event as one JSON object in [canonical form](canonical); what is absent is left out.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = canonical::Object::new(Vec::with_capacity(256));
        out.text("actor", self.actor.as_deref());
        out.integer("at", self.at);
        out.text("correlation", self.correlation.as_deref());
        out.value("data", &self.data);
        out.integer("id", self.id);
        out.text("kind", Some(&self.kind));
        out.text("project", Some(&self.project));
        out.text("reason", self.reason.as_deref());
        out.text("run", self.run.as_deref());
        out.text("step", self.step.as_deref());
        out.text("subject", self.subject.as_deref());
        out.end()
    }
}

/// What a seal keeps of an event: enough to name it when it is gone. In JSON it is `[id, at, kind, digest]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, Micros, String, Digest)", into = "(i64, Micros, String, Digest)")]
pub struct SealedEvent {
    pub id: i64,
    pub at: Micros,
    pub kind: String,
    /// SHA-256 of the event's canonical bytes.
    pub digest: Digest,
}

impl SealedEvent {
    pub fn of(event: &AuditEvent) -> Self {
        Self::of_canonical(event, &event.canonical())
    }

    /// As [`Self::of`], when the event's canonical bytes are at hand.
    fn of_canonical(event: &AuditEvent, bytes: &[u8]) -> Self {
        Self { id: event.id, at: event.at, kind: event.kind.clone(), digest: digest(domain::EVENT, bytes) }
    }
}

impl From<(i64, Micros, String, Digest)> for SealedEvent {
    fn from((id, at, kind, digest): (i64, Micros, String, Digest)) -> Self {
        Self { id, at, kind, digest }
    }
}

impl From<SealedEvent> for (i64, Micros, String, Digest) {
    fn from(event: SealedEvent) -> Self {
        (event.id, event.at, event.kind, event.digest)
    }
}

fn digest(domain: &[u8], bytes: &[u8]) -> Digest {
    keys::Bytes(Sha256::new().chain_update(domain).chain_update(bytes).finalize().into())
}
