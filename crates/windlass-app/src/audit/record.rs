//! The record, read once from its beginning to where it ends now, in the order of an export and in flat memory.

use super::keys::Trust;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use std::collections::VecDeque;
use windlass_model::audit::export::{ExportReport, Header, KeySource};
use windlass_model::audit::{AuditEvent, Damage, Seal, SealedEvent, Verifier, VerifyingKey};
use windlass_model::diagnostic::Diagnostic;
use windlass_store::{EventFilter, SealRow, Store, StoreError};

/// Before all ids and numbers, also those that only somebody else than Windlass gives.
pub(super) const BEGINNING: i64 = i64::MIN;

/// How many are read at once. A seal can be some hundred kilobytes long.
const EVENTS: u32 = 1000;
const SEALS: u32 = 4;

/// What stands in the record.
#[derive(Debug)]
pub enum Entry {
    Event(Box<AuditEvent>),
    Seal(Box<Seal>),
    /// What stands in place of a seal, and is none.
    Unreadable {
        number: i64,
        body: String,
    },
}

impl Entry {
    /// Its line in an export. What is no seal is kept there as text: a reader names the line.
    ///
    /// # Errors
    /// None that is known.
    pub fn line(&self) -> AppResult<Vec<u8>> {
        match self {
            Self::Event(event) => Ok(event.line()),
            Self::Seal(seal) => seal.line().map_err(internal),
            Self::Unreadable { body, .. } => Ok(format!("{}\n", serde_json::json!({ "seal": body })).into_bytes()),
        }
    }
}

pub struct Record {
    store: Store,
    pub header: Header,
    /// Where it ended when it was opened. What comes later belongs to another reading: events and seals would not fit.
    last_seal: i64,
    last_event: i64,
    seals: VecDeque<SealRow>,
    events: VecDeque<AuditEvent>,
    /// Up to where they were read, and whether there are more.
    seals_after: i64,
    events_after: i64,
    more_seals: bool,
    more_events: bool,
}

impl Record {
    /// From its beginning to where it ends now.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn open(store: &Store) -> AppResult<Self> {
        // Seals first: whatever one covers is there before it.
        let last = store.seal_last().await?;
        let newest = store.event_search(&EventFilter::default(), None, 1).await;
        // One that cannot be read is told when it is reached.
        let last_event = newest.map_or(i64::MAX, |list| list.first().map_or(BEGINNING, |event| event.id));
        let first = store.seal_list(BEGINNING, 1).await?;
        let first = first.iter().find_map(|row| seal(row).ok());
        let log = first.as_ref().map_or("windlass", |seal| &seal.log);
        let keys: Vec<VerifyingKey> = first.iter().map(|seal| seal.key).collect();
        Ok(Self {
            header: Header::new(log, &keys, store.now().await?),
            store: store.clone(),
            more_seals: last.is_some(),
            last_seal: last.map_or(BEGINNING, |row| row.number),
            last_event,
            seals: VecDeque::new(),
            events: VecDeque::new(),
            seals_after: BEGINNING,
            events_after: BEGINNING,
            more_events: last_event != BEGINNING,
        })
    }

    /// What comes next; each seal comes after the last event that it covers.
    ///
    /// # Errors
    /// The database cannot be read, or somebody wrote into it what no event can be.
    pub async fn next(&mut self) -> AppResult<Option<Entry>> {
        if self.seals.is_empty() && self.more_seals {
            let found = self.store.seal_list(self.seals_after, SEALS).await?;
            self.more_seals = found.len() == SEALS as usize;
            self.seals_after = found.last().map_or(self.seals_after, |row| row.number);
            self.seals.extend(found.into_iter().filter(|row| row.number <= self.last_seal));
        }
        if self.events.is_empty() && self.more_events {
            let found = self.page().await?;
            self.more_events = !found.is_empty();
            self.events_after = found.last().map_or(self.events_after, |event| event.id);
            self.events.extend(found.into_iter().filter(|event| event.id <= self.last_event));
        }
        let event = self.events.front().map(|event| event.id);
        let is_seal = match (self.seals.front(), event) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(seal), Some(event)) => event > seal.last,
        };
        if !is_seal {
            return Ok(self.events.pop_front().map(|event| Entry::Event(Box::new(event))));
        }
        Ok(self.seals.pop_front().map(|row| match seal(&row) {
            Ok(seal) => Entry::Seal(Box::new(seal)),
            Err(_) => Entry::Unreadable { number: row.number, body: row.body },
        }))
    }

    async fn page(&self) -> AppResult<Vec<AuditEvent>> {
        let after = self.events_after;
        let found = match self.store.event_list(None, after, EVENTS).await {
            // One of them is the cause: those before it can be read.
            Err(StoreError::Decode { .. }) => self.store.event_list(None, after, 1).await,
            found => found,
        };
        match found {
            Ok(found) => Ok(found.into_iter().map(super::audit_event).collect()),
            Err(StoreError::Decode { message, .. }) => {
                let place = if after == BEGINNING {
                    "the first event".into()
                } else {
                    format!("the event after event {after}")
                };
                let diagnostic = Diagnostic::error("WL825", format!("{place} was changed: it cannot be read any more"))
                    .detail(message)
                    .help("compare it with an older export or backup, and find out who could write to the log");
                Err(AppError::new(ErrorKind::Refused, diagnostic))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Verifies all of it. `keys` may sign the first seal; where none is given, the one that `trust` knows, and otherwise the one
    /// that did. `checkpoint` was kept elsewhere; otherwise the seal that `trust` knows is one.
    ///
    /// # Errors
    /// As [`Record::next`]; damage is an answer.
    pub async fn verify(
        mut self,
        keys: &[VerifyingKey],
        checkpoint: Option<Seal>,
        trust: Option<Trust>,
        mut progress: impl FnMut(u64),
    ) -> AppResult<ExportReport> {
        let known: Vec<VerifyingKey> = trust.iter().map(|trust| trust.key).collect();
        let (trusted, key_source) = match (keys, known.as_slice()) {
            ([], []) => (self.header.keys.clone(), KeySource::File),
            ([], known) => (known.to_vec(), KeySource::Given),
            (given, _) => (given.to_vec(), KeySource::Given),
        };
        let log = trust.as_ref().map_or_else(|| self.header.log.clone(), |trust| trust.head.log.clone());
        let mut verifier = Verifier::new(&log, &trusted, checkpoint.or(trust.map(|trust| trust.head)));
        let (mut unreadable, mut count) = (None, 0);
        while let Some(entry) = self.next().await? {
            match entry {
                Entry::Event(event) => verifier.event(SealedEvent::of(&event)),
                Entry::Seal(seal) if unreadable.is_none() => verifier.seal(*seal),
                Entry::Seal(_) => {}
                Entry::Unreadable { number, .. } => unreadable = unreadable.or(Some(number)),
            }
            count += 1;
            progress(count);
        }
        let mut report = verifier.finish();
        let before = matches!(&report.damage, Some(damage) if !matches!(damage, Damage::Truncated { .. }));
        if let Some(number) = unreadable.filter(|_| !before) {
            let number = u64::try_from(number).unwrap_or_default();
            let damage = windlass_model::audit::damage::SealDamage::Altered;
            report.damage = Some(Damage::Seal { damage, number, at: None, key: None });
            report.unsealed = None;
        }
        Ok(ExportReport { header: self.header, key_source, report, lines: Vec::new(), damaged_lines: 0 })
    }
}

/// The seal in a row of the database.
///
/// # Errors
/// It is none, or not the one that the row says.
pub(super) fn seal(row: &SealRow) -> AppResult<Seal> {
    let number = u64::try_from(row.number).unwrap_or_default();
    let seal: Seal = serde_json::from_str(&row.body).map_err(|_| altered(number))?;
    let same = seal.number == number && (seal.first, seal.last, seal.at) == (row.first, row.last, row.at);
    if same { Ok(seal) } else { Err(altered(number)) }
}

/// A seal is not as it was signed.
pub(super) fn altered(number: u64) -> AppError {
    let diagnostic = Diagnostic::error("WL826", format!("seal {number} was altered"))
        .detail("Nothing is sealed after it: a chain that goes on from it would prove nothing.")
        .help("restore the record from a backup, and find out who could write to it");
    AppError::new(ErrorKind::Refused, diagnostic)
}
