//! Seals: one per batch of events, chained by digests and signed.

use super::keys::{Digest, Signature};
use super::{AuditEvent, SealedEvent, SigningKey, VerifyingKey, canonical, digest, domain};
use crate::Micros;
use serde::{Deserialize, Serialize};

/// The most events in one batch. It bounds what a verification keeps in memory.
pub const BATCH_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("there is nothing to seal")]
    Empty,
    #[error("{0} events are more than one seal may cover ({BATCH_MAX})")]
    TooMany(usize),
    #[error("event {id} does not follow event {before}")]
    Order { before: i64, id: i64 },
    #[error("the log is called `{found}`, and its last seal is of `{sealed}`")]
    Log { found: String, sealed: String },
    #[error("the last seal says that {expected} signs after it, not {found}")]
    Key { expected: VerifyingKey, found: VerifyingKey },
}

/// A signed statement about one batch of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Which log it belongs to: the name of the server or project. One key may sign several.
    pub log: String,
    /// From 1, without gaps.
    pub number: u64,
    /// Id of the first event.
    pub first: i64,
    /// Id of the last event.
    pub last: i64,
    /// How many events; at most [`BATCH_MAX`].
    pub count: u64,
    /// [`root`] of `events`.
    pub root: Digest,
    /// [`Seal::digest`] of the seal before; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When it was made.
    pub at: Micros,
    /// Who signed it.
    pub key: VerifyingKey,
    /// Who signs from the next seal on, when that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<VerifyingKey>,
    /// By `key`, over everything above.
    pub signature: Signature,
    /// The events, in order. A checkpoint has none: what was signed is their root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<SealedEvent>,
}

impl Seal {
    /// The seal without the list of its events: small, and all that has to be kept elsewhere.
    #[must_use]
    pub fn checkpoint(&self) -> Self {
        Self { log: self.log.clone(), events: Vec::new(), ..*self }
    }

    /// What the next seal refers to: SHA-256 of the seal with its signature, without the list.
    pub fn digest(&self) -> Digest {
        digest(domain::SEAL, &self.canonical(Some(self.signature)))
    }

    /// Whether `key` signed exactly this.
    pub fn is_signed(&self) -> bool {
        self.key.verify(&self.signed(), &self.signature)
    }

    /// Whether the list is the one that was signed.
    pub fn fits_events(&self) -> bool {
        let ends = self.events.first().map(|e| e.id).zip(self.events.last().map(|e| e.id));
        ends == Some((self.first, self.last))
            && self.count == self.events.len() as u64
            && self.events.is_sorted_by(|a, b| a.id < b.id)
            && self.root == root(&self.events)
    }

    /// The key of the seal that follows.
    pub fn following_key(&self) -> VerifyingKey {
        self.next_key.unwrap_or(self.key)
    }

    /// The bytes that the signature is over.
    fn signed(&self) -> Vec<u8> {
        [domain::SEAL, &self.canonical(None)].concat()
    }

    fn canonical(&self, signature: Option<Signature>) -> Vec<u8> {
        let key = self.key.to_string();
        let (next_key, previous) = (self.next_key.map(String::from), self.previous.map(String::from));
        let mut out = canonical::Object::new(Vec::with_capacity(512));
        out.integer("at", self.at);
        out.value("count", &self.count.into());
        out.integer("first", self.first);
        out.text("key", Some(&key));
        out.integer("last", self.last);
        out.text("log", Some(&self.log));
        out.text("next_key", next_key.as_deref());
        out.value("number", &self.number.into());
        out.text("previous", previous.as_deref());
        out.text("root", Some(&self.root.to_string()));
        out.text("signature", signature.map(String::from).as_deref());
        out.end()
    }
}

/// The digest of a list of events: SHA-256 of its canonical JSON, `[[id, at, kind, digest], …]`.
pub fn root(events: &[SealedEvent]) -> Digest {
    let rows = events.iter().map(|e| serde_json::json!([e.id, e.at, e.kind, e.digest.to_string()]));
    digest(domain::BATCH, &canonical::canonical(&rows.collect()))
}

/// What a new seal is made with.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    pub log: &'a str,
    /// The last seal; its list is not needed. None for a log that begins.
    pub previous: Option<&'a Seal>,
    pub at: Micros,
    pub key: &'a SigningKey,
    /// Hands over to another key from the next seal on.
    pub next_key: Option<VerifyingKey>,
}

impl Sealing<'_> {
    /// Seals events: all that follow the last seal's `last` in the order of their ids, up to [`BATCH_MAX`]. An event that gets an
    /// id below a sealed one later (from a transaction that was open) would count as inserted: the caller seals only what
    /// no open transaction can still precede.
    ///
    /// # Errors
    /// [`SealError`]; nothing is signed that [`super::verify()`] would not accept.
    pub fn seal(&self, events: &[AuditEvent]) -> Result<Seal, SealError> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Err(SealError::Empty) };
        if events.len() > BATCH_MAX {
            return Err(SealError::TooMany(events.len()));
        }
        let key = self.key.verifying_key();
        let mut before = None;
        if let Some(previous) = self.previous {
            if previous.log != self.log {
                return Err(SealError::Log { found: self.log.to_owned(), sealed: previous.log.clone() });
            }
            if previous.following_key() != key {
                return Err(SealError::Key { expected: previous.following_key(), found: key });
            }
            before = Some(previous.last);
        }
        for event in events {
            if let Some(before) = before.filter(|before| event.id <= *before) {
                return Err(SealError::Order { before, id: event.id });
            }
            before = Some(event.id);
        }
        let sealed: Vec<SealedEvent> = events.iter().map(SealedEvent::of).collect();
        let mut seal = Seal {
            log: self.log.to_owned(),
            number: self.previous.map_or(1, |previous| previous.number + 1),
            first: first.id,
            last: last.id,
            count: sealed.len() as u64,
            root: root(&sealed),
            previous: self.previous.map(Seal::digest),
            at: self.at,
            key,
            next_key: self.next_key,
            signature: super::keys::Bytes([0; 64]),
            events: sealed,
        };
        seal.signature = self.key.sign(&seal.signed());
        Ok(seal)
    }
}
