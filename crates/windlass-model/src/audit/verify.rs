//! Verification in one pass and flat memory.

use super::damage::{Damage, EventDamage, SealDamage};
use super::seal::{BATCH_MAX, Seal};
use super::{AuditEvent, SealedEvent, VerifyingKey};
use crate::Micros;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Events that a seal has still to cover. They are no damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsealed {
    pub count: u64,
    /// Id of the first.
    pub first: i64,
    /// Time of the first.
    pub since: Micros,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub log: String,
    /// How many events were read.
    pub events: u64,
    /// How many seals were read.
    pub seals: u64,
    /// The last good seal, without its list: the checkpoint to keep elsewhere.
    pub head: Option<Seal>,
    /// The keys that signed, in order.
    pub keys: Vec<VerifyingKey>,
    /// None also when something is damaged.
    pub unsealed: Option<Unsealed>,
    /// The first damage.
    pub damage: Option<Damage>,
}

/// Verifies a whole log. Both are read once; events come in the order of the log (that of their ids, from a database), seals in
/// that of their numbers. See [`Verifier::new`] for the rest.
pub fn verify(
    log: &str,
    events: impl IntoIterator<Item = AuditEvent>,
    seals: impl IntoIterator<Item = Seal>,
    keys: &[VerifyingKey],
    checkpoint: Option<Seal>,
) -> Report {
    let mut verifier = Verifier::new(log, keys, checkpoint);
    let mut seals = seals.into_iter();
    for event in events {
        while verifier.wants_seal()
            && let Some(seal) = seals.next()
        {
            verifier.seal(seal);
        }
        verifier.event(SealedEvent::of(&event));
    }
    seals.for_each(|seal| verifier.seal(seal));
    verifier.finish()
}

/// Takes events and seals as they come, for callers that cannot give iterators. A seal may come before its events or after them,
/// while no more than [`BATCH_MAX`] events wait for one.
#[derive(Debug)]
pub struct Verifier {
    log: String,
    trusted: Vec<VerifyingKey>,
    checkpoint: Option<Seal>,
    /// The last good seal, without its list.
    head: Option<Seal>,
    keys: Vec<VerifyingKey>,
    events: u64,
    seals: u64,
    /// Sealed, and not seen yet.
    expected: VecDeque<SealedEvent>,
    /// Seen, and in no seal yet.
    pub(super) waiting: VecDeque<SealedEvent>,
    /// How many more wait that are not kept.
    unkept: u64,
    /// Id of the last intact event.
    intact: Option<i64>,
    /// Id of the event that came last.
    last: Option<i64>,
    /// The first event that came after a higher id.
    disorder: Option<SealedEvent>,
    state: State,
}

#[derive(Debug)]
enum State {
    Intact,
    /// An event stands where another was expected. What is the matter shows in what still comes.
    Suspect(Box<Suspect>),
    /// This seal was expected. It may come yet.
    Gap {
        number: u64,
        found: Option<Micros>,
    },
    Damaged(Damage),
}

impl Verifier {
    /// For the log of this name. The first seal must be signed by one of `keys`, each later one by the same key or the one that the
    /// seal before it names. `checkpoint` is a seal that was kept elsewhere (its list is not needed): the log must contain
    /// it, or begin right after it.
    pub fn new(log: &str, keys: &[VerifyingKey], checkpoint: Option<Seal>) -> Self {
        Self {
            log: log.to_owned(),
            trusted: keys.to_vec(),
            checkpoint,
            head: None,
            keys: Vec::new(),
            events: 0,
            seals: 0,
            expected: VecDeque::new(),
            waiting: VecDeque::new(),
            unkept: 0,
            intact: None,
            last: None,
            disorder: None,
            state: State::Intact,
        }
    }

    /// Whether all events of the seals so far were seen: the next seal, if there is one, is best given now.
    pub fn wants_seal(&self) -> bool {
        self.expected.is_empty()
    }

    pub fn event(&mut self, event: SealedEvent) {
        self.events += 1;
        match &mut self.state {
            State::Suspect(suspect) => suspect.event(event),
            State::Gap { .. } | State::Damaged(_) => {}
            State::Intact => {
                if self.disorder.is_none() && self.last.is_some_and(|last| event.id <= last) {
                    self.disorder = Some(event.clone());
                }
                self.last = Some(event.id);
                // Two more than a seal can cover: what stands behind the first difference matters.
                if self.waiting.len() < BATCH_MAX + 2 {
                    self.waiting.push_back(event);
                } else {
                    self.unkept += 1;
                }
                self.compare();
            }
        }
    }

    pub fn seal(&mut self, seal: Seal) {
        self.seals += 1;
        match &mut self.state {
            State::Suspect(suspect) => seal.events.into_iter().for_each(|event| suspect.sealed(event)),
            State::Gap { number, found } => {
                if seal.number == *number && seal.is_signed() {
                    *found = Some(seal.at);
                }
            }
            State::Damaged(_) => {}
            State::Intact => match self.judge(&seal) {
                Some(SealDamage::Missing) => self.state = State::Gap { number: self.next_number(), found: None },
                Some(damage) => self.state = State::Damaged(self.seal_damage(damage, &seal)),
                None => self.accept(seal),
            },
        }
    }

    /// The answer, after the last event and seal.
    pub fn finish(mut self) -> Report {
        if matches!(self.state, State::Intact) && !self.expected.is_empty() {
            self.suspect();
        }
        let damage = match self.state {
            State::Suspect(suspect) => Some(suspect.resolve()),
            State::Gap { number, found } => Some(Damage::Seal {
                damage: if found.is_some() { SealDamage::Reordered } else { SealDamage::Missing },
                number,
                at: found,
                key: None,
            }),
            State::Damaged(damage) => Some(damage),
            State::Intact => {
                let sealed = self.head.as_ref().map(|head| head.last);
                let disorder = self.disorder.map(|event| {
                    let known = sealed.is_some_and(|last| event.id <= last)
                        || self.waiting.iter().filter(|other| other.id == event.id).count() > 1;
                    let damage = if known { EventDamage::Inserted } else { EventDamage::Reordered };
                    event_damage(damage, event, self.intact)
                });
                let last = self.head.as_ref().map(|head| head.number);
                let cut = self.checkpoint.filter(|checkpoint| last.unwrap_or(0) < checkpoint.number);
                disorder.or_else(|| cut.map(|cut| Damage::Truncated { last, checkpoint: cut.number, at: cut.at }))
            }
        };
        let unsealed = self.waiting.front().filter(|_| damage.is_none()).map(|first| Unsealed {
            count: self.waiting.len() as u64 + self.unkept,
            first: first.id,
            since: first.at,
        });
        Report {
            log: self.log,
            events: self.events,
            seals: self.seals,
            head: self.head,
            keys: self.keys,
            unsealed,
            damage,
        }
    }

    fn next_number(&self) -> u64 {
        self.head.as_ref().map_or(1, |head| head.number.saturating_add(1))
    }

    fn judge(&self, seal: &Seal) -> Option<SealDamage> {
        if !seal.is_signed() {
            return Some(SealDamage::Altered);
        }
        // A log may begin where the checkpoint ends.
        let checkpoint = self.checkpoint.as_ref();
        let base = self.head.as_ref().or(checkpoint.filter(|c| c.number.checked_add(1) == Some(seal.number)));
        let number = base.map_or(1, |base| base.number.saturating_add(1));
        let may_sign = match base {
            Some(base) => seal.key == base.following_key(),
            None => self.trusted.contains(&seal.key),
        };
        // A copy of an earlier seal is a copy, also when its key may not sign any more.
        let copy = seal.number < number && self.keys.contains(&seal.key);
        if seal.log != self.log {
            Some(SealDamage::Foreign)
        } else if seal.number > number {
            Some(SealDamage::Missing)
        } else if !(may_sign || copy) {
            Some(SealDamage::Resigned)
        } else if seal.number < number {
            Some(SealDamage::Duplicated)
        } else if seal.previous != base.map(Seal::digest) {
            Some(SealDamage::Unchained)
        } else if !seal.fits_events() || base.is_some_and(|base| seal.first <= base.last) {
            Some(SealDamage::Altered)
        } else if checkpoint.is_some_and(|c| c.number == seal.number && c.digest() != seal.digest()) {
            Some(SealDamage::Rewritten)
        } else {
            None
        }
    }

    fn seal_damage(&self, damage: SealDamage, seal: &Seal) -> Damage {
        match damage {
            // Nothing that it says of itself is to be trusted.
            SealDamage::Altered => Damage::Seal { damage, number: self.next_number(), at: None, key: None },
            SealDamage::Resigned => {
                Damage::Seal { damage, number: seal.number, at: Some(seal.at), key: Some(seal.key) }
            }
            _ => Damage::Seal { damage, number: seal.number, at: Some(seal.at), key: None },
        }
    }

    fn accept(&mut self, mut seal: Seal) {
        if self.keys.last() != Some(&seal.key) {
            self.keys.push(seal.key);
        }
        self.expected.extend(std::mem::take(&mut seal.events));
        let late = (self.unkept > 0).then(|| self.seal_damage(SealDamage::Reordered, &seal));
        self.head = Some(seal);
        self.compare();
        if !matches!(self.state, State::Intact) {
            return;
        }
        if let Some(late) = late {
            // More events were waiting than one seal can cover: it stands too late, and not all of them were kept.
            self.state = State::Damaged(late);
        } else if self.expected.len() > 2 * BATCH_MAX {
            self.suspect();
        }
    }

    fn compare(&mut self) {
        while let (Some(expected), Some(found)) = (self.expected.front(), self.waiting.front()) {
            if expected != found {
                self.suspect();
                return;
            }
            self.intact = Some(found.id);
            self.expected.pop_front();
            self.waiting.pop_front();
        }
    }

    /// The event that is expected is not there: looks for the reason in all that is known, and in what still comes.
    fn suspect(&mut self) {
        let Some(expected) = self.expected.pop_front() else { return };
        let mut suspect = Box::new(Suspect {
            highest: expected.id,
            expected,
            follower: None,
            found: self.waiting.pop_front(),
            next: None,
            expected_seen: false,
            found_sealed: false,
            found_again: false,
            after: self.intact,
        });
        self.expected.drain(..).for_each(|event| suspect.sealed(event));
        self.waiting.drain(..).for_each(|event| suspect.event(event));
        self.state = State::Suspect(suspect);
    }
}

/// The first place where events and seals differ, with what tells the kinds of damage apart.
#[derive(Debug)]
struct Suspect {
    /// What was sealed at this place.
    expected: SealedEvent,
    /// What was sealed after it.
    follower: Option<SealedEvent>,
    /// What stands there; none when events ran out.
    found: Option<SealedEvent>,
    /// What stands after that.
    next: Option<SealedEvent>,
    /// `expected` comes later.
    expected_seen: bool,
    /// `found` was sealed at a later place.
    found_sealed: bool,
    /// `found` comes a second time.
    found_again: bool,
    /// The highest id that was sealed.
    highest: i64,
    after: Option<i64>,
}

impl Suspect {
    fn event(&mut self, event: SealedEvent) {
        self.expected_seen |= event == self.expected;
        if self.found.is_some() {
            self.found_again |= self.found.as_ref() == Some(&event);
            self.next.get_or_insert(event);
        }
    }

    fn sealed(&mut self, event: SealedEvent) {
        self.highest = self.highest.max(event.id);
        self.found_sealed |= self.found.as_ref() == Some(&event);
        self.follower.get_or_insert(event);
    }

    /// The explanation by one deed, where there is one.
    fn resolve(self) -> Damage {
        use EventDamage::{Changed, Inserted, Removed, Reordered};
        let Self { expected, found, after, .. } = self;
        let missing = if self.expected_seen { Reordered } else { Removed };
        let Some(found) = found else { return event_damage(missing, expected, after) };
        let next_is_expected = self.next.as_ref() == Some(&expected);
        // With the follower behind it, or nothing to follow, it took the place of what was expected.
        let replaced = !self.expected_seen && (self.follower.is_none() || self.next == self.follower);
        // Genuine, and nowhere else: its place is later.
        let genuine = self.found_sealed && !self.found_again;
        if found.id == expected.id {
            match self.expected_seen {
                true => event_damage(Inserted, found, after),
                false => event_damage(Changed, expected, after),
            }
        } else if genuine {
            match next_is_expected {
                true => event_damage(Reordered, found, after),
                false => event_damage(missing, expected, after),
            }
        } else if self.found_sealed && self.follower.as_ref() == Some(&found) && !next_is_expected {
            // The log goes on behind the gap; the copy is another matter.
            event_damage(missing, expected, after)
        } else if found.id > self.highest && !self.expected_seen && (self.follower.is_none() || !replaced) {
            // What follows is not sealed yet.
            event_damage(Removed, expected, after)
        } else if replaced {
            event_damage(Changed, expected, after)
        } else {
            event_damage(Inserted, found, after)
        }
    }
}

fn event_damage(damage: EventDamage, event: SealedEvent, after: Option<i64>) -> Damage {
    Damage::Event { damage, id: event.id, at: event.at, kind: event.kind, after }
}
