//! Seals: the next batch of events, signed after the last one.

use super::Pace;
use super::keys::{Keys, Trust};
use super::record::{self, BEGINNING};
use crate::error::{AppError, AppResult, ErrorKind, internal};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_model::audit::seal::BATCH_MAX;
use windlass_model::audit::{AuditEvent, Seal, Sealing, SigningKey, VerifyingKey};
use windlass_model::diagnostic::Diagnostic;
use windlass_store::{EventFilter, SealRow, Store};

/// At most so often it is looked how many events wait.
const LOOK: Duration = Duration::from_millis(250);

pub struct Sealer {
    store: Store,
    keys: Keys,
    /// Id of the last event that is known to be sealed.
    sealed: i64,
}

impl Sealer {
    pub fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys, sealed: BEGINNING }
    }

    /// Waits until it is time to seal; whether `stop` was cancelled.
    pub async fn wait(&self, pace: Pace, stop: &CancellationToken) -> bool {
        let mut changes = self.store.changes();
        let enough = async {
            loop {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(LOOK).await;
                // A database that does not answer is for the seal to tell.
                let newest = self.store.event_search(&EventFilter::default(), None, 1).await;
                let newest = newest.ok().and_then(|list| list.first().map(|event| event.id));
                if newest.is_some_and(|newest| newest.saturating_sub(self.sealed) >= pace.events) {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(pace.every) => false,
            () = enough => false,
        }
    }

    /// Seals everything that is there and not sealed; how many seals that took. Another server that is faster at the same is no
    /// error.
    ///
    /// # Errors
    /// The key that is to sign is not here, the last seal is not as it was signed, or the database cannot be used. Nothing is lost:
    /// the next call goes on.
    pub async fn seal(&mut self) -> AppResult<u64> {
        let mut made = 0;
        while let Some(count) = self.batch().await? {
            made += 1;
            if count < BATCH_MAX {
                break;
            }
        }
        Ok(made)
    }

    /// One seal; how many events it has. `None` when there is nothing to seal, or another server did it.
    async fn batch(&mut self) -> AppResult<Option<usize>> {
        let last = self.store.seal_last().await?;
        let last = last.as_ref().map(record::seal).transpose()?;
        if let Some(last) = last.as_ref().filter(|last| !last.is_signed()) {
            return Err(record::altered(last.number));
        }
        let key = self.key(last.as_ref())?;
        let next = self.keys.next()?.map(|next| next.verifying_key());
        let after = last.as_ref().map_or(BEGINNING, |last| last.last);
        let log = last.as_ref().map_or_else(|| name(&key.verifying_key()), |last| last.log.clone());
        if let Some(next) = next {
            let data = serde_json::json!({ "from": key.verifying_key(), "to": next });
            self.store.event_tell("audit.key_rotated", &log, data, crate::installation::ITSELF, None).await?;
        }
        // Events become visible in the order of their ids: nothing comes before the last one that is seen.
        let events = self.store.event_list(None, after, BATCH_MAX as u32).await?;
        let events: Vec<AuditEvent> = events.into_iter().map(super::audit_event).collect();
        if events.is_empty() {
            self.sealed = after;
            return Ok(None);
        }
        let at = self.store.now().await?;
        let sealing = Sealing { log: &log, previous: last.as_ref(), at, key: &key, next_key: next };
        let seal = sealing.seal(&events).map_err(internal)?;
        let row = SealRow {
            number: i64::try_from(seal.number).map_err(internal)?,
            first: seal.first,
            last: seal.last,
            body: serde_json::to_string(&seal).map_err(internal)?,
            at,
        };
        if !self.store.seal_add(&row).await? {
            return Ok(None);
        }
        self.sealed = seal.last;
        if next.is_some() {
            self.keys.promote()?;
        }
        self.remember(last.as_ref(), &seal).await?;
        Ok(Some(events.len()))
    }

    /// The key that signs after `last`.
    fn key(&self, last: Option<&Seal>) -> AppResult<SigningKey> {
        let Some(last) = last else { return self.keys.current_or_new() };
        let wanted = last.following_key();
        let fits = |key: &SigningKey| key.verifying_key() == wanted;
        if let Some(key) = self.keys.current()?.filter(fits) {
            return Ok(key);
        }
        if let Some(key) = self.keys.next()?.filter(fits) {
            // The process ended between the last seal and this.
            self.keys.promote()?;
            return Ok(key);
        }
        let diagnostic = Diagnostic::error("WL828", format!("the key that signs the next seal is not here: {wanted}"))
            .detail("What happens is recorded, and not sealed by this server.")
            .help("servers of one database need the same `audit-key.pk8` in their data directories: copy it from the one that has it");
        Err(AppError::new(ErrorKind::Unavailable, diagnostic))
    }

    /// Remembers the seal, when it follows what was remembered. Where it does not, somebody changed the database: what is
    /// remembered stays, for the proof.
    async fn remember(&self, previous: Option<&Seal>, seal: &Seal) -> AppResult<()> {
        let trust = self.keys.trust()?;
        let first = match &trust {
            None if seal.number == 1 => seal.key,
            None => {
                let first = self.store.seal_list(BEGINNING, 1).await?;
                first.first().map(record::seal).transpose()?.map_or(seal.key, |first| first.key)
            }
            Some(trust) => {
                let known = i64::try_from(trust.head.number).map_err(internal)?;
                let found = match previous {
                    Some(previous) if previous.number == trust.head.number => Some(previous.digest()),
                    _ => {
                        let rows = self.store.seal_list(known - 1, 1).await?;
                        rows.iter().find_map(|row| record::seal(row).ok()).map(|seal| seal.digest())
                    }
                };
                if seal.number <= trust.head.number || found != Some(trust.head.digest()) {
                    let summary = format!("seal {known}, which was made here, is not in the record any more");
                    let diagnostic = Diagnostic::error("WL827", summary).help(
                        "`windlass audit verify` says more; docs/audit.md says what to do after a backup was restored",
                    );
                    return Err(AppError::new(ErrorKind::Refused, diagnostic));
                }
                trust.key
            }
        };
        self.keys.trust_set(&Trust { key: first, head: seal.checkpoint() })
    }
}

/// What the record of an installation is called: no two have the same key.
fn name(key: &VerifyingKey) -> String {
    let text = key.to_string();
    let letters = text.trim_start_matches("ed25519:").chars().filter(char::is_ascii_alphanumeric);
    format!("windlass-{}", letters.take(8).collect::<String>().to_lowercase())
}
