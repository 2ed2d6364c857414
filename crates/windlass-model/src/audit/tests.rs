//! Whole logs, damaged in every way.

use super::damage::{EventDamage, SealDamage};
use super::export::{ExportError, Fault, Header, KeySource, LINE_MAX, verify_export};
use super::seal::{BATCH_MAX, SealError};
use super::*;
use proptest::prelude::*;
use serde_json::json;

const LOG: &str = "acme";

/// A key that is the same each time.
pub fn key(number: u8) -> SigningKey {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    SigningKey::from_pkcs8(&[&head[..], &[number; 32]].concat()).unwrap()
}

fn event(id: i64) -> AuditEvent {
    AuditEvent {
        id,
        project: "shop".into(),
        run: (id % 3 == 0).then(|| format!("run-{id}")),
        step: (id % 6 == 0).then(|| "plan:aws/network".into()),
        kind: ["run.started", "run.ended", "review.approved"][id as usize % 3].into(),
        data: json!({ "n": id, "b": { "text": "\u{1}ü😀", "list": [1.5, null, true] }, "a": id.to_string() }),
        actor: (id % 2 == 0).then(|| "ana@example.com".into()),
        at: 1_763_000_000_000_000 + id * 1_000_000,
        correlation: (id % 4 == 0).then(|| format!("request-{id}")),
        subject: None,
        reason: (id % 5 == 0).then(|| "OPS-512 \"quoted\"".into()),
    }
}

#[derive(Debug, Clone)]
struct Sample {
    events: Vec<AuditEvent>,
    seals: Vec<Seal>,
    /// How many events are sealed.
    sealed: usize,
}

impl Sample {
    /// Events whose ids grow by these gaps, sealed in batches of these sizes; what is left is not sealed.
    fn new(gaps: &[i64], batches: &[usize]) -> Self {
        let mut id = 0;
        let ids = gaps.iter().map(|gap| {
            id += gap;
            id
        });
        let events: Vec<AuditEvent> = ids.map(event).collect();
        let (mut seals, mut sealed): (Vec<Seal>, usize) = (Vec::new(), 0);
        let key = key(1);
        for size in batches {
            let batch = &events[sealed..events.len().min(sealed + size)];
            let Some(last) = batch.last() else { break };
            let sealing = Sealing { log: LOG, previous: seals.last(), at: last.at + 1, key: &key, next_key: None };
            seals.push(sealing.seal(batch).unwrap());
            sealed += batch.len();
        }
        Self { events, seals, sealed }
    }

    fn steady(batches: &[usize]) -> Self {
        Self::new(&vec![2; batches.iter().sum()], batches)
    }

    fn head(&self) -> Option<Seal> {
        self.seals.last().map(Seal::checkpoint)
    }

    /// What both orders of seals and events answer, which is the same.
    #[track_caller]
    fn verify_with(&self, checkpoint: Option<Seal>) -> Report {
        let keys = [key(1).verifying_key()];
        let report = verify(LOG, self.events.clone(), self.seals.clone(), &keys, checkpoint.clone());
        let exported = verify_export(self.export().as_slice(), &[], checkpoint, |_, _| {}).unwrap();
        assert_eq!((exported.damaged_lines, exported.key_source), (0, KeySource::File));
        assert_eq!(exported.intact(), report.damage.is_none());
        assert_eq!(exported.report, report);
        report
    }

    #[track_caller]
    fn verify(&self) -> Report {
        self.verify_with(None)
    }

    /// The lines, each seal behind the place where as many events stand as it and those before cover.
    fn export(&self) -> Vec<u8> {
        let mut out = Header::new(LOG, &[key(1).verifying_key()], 1).line().unwrap();
        let (mut events, mut left) = (self.events.iter(), 0);
        for seal in &self.seals {
            left += seal.count as usize;
            for event in events.by_ref().take(left) {
                out.extend(event.line());
            }
            left = 0;
            out.extend(seal.line().unwrap());
        }
        events.for_each(|event| out.extend(event.line()));
        out
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Change { at: usize, field: usize },
    Remove { at: usize },
    Insert { at: usize, copy_of: Option<usize>, far: bool },
    Move { from: usize, to: usize },
}

/// Does it to the sealed part, and says what has to be found: the kind and the ids that may be named.
fn damage(sample: &mut Sample, deed: &Deed) -> (EventDamage, Vec<i64>) {
    let sealed = sample.sealed;
    let events = &mut sample.events;
    match *deed {
        Deed::Change { at, field } => {
            let event = &mut events[at % sealed];
            match field % 11 {
                0 => event.project.push('x'),
                1 => event.run = event.run.is_none().then(|| "other".into()),
                2 => event.step = Some(String::new()),
                3 => event.kind.push('x'),
                4 => event.data["n"] = json!(event.id + 1),
                5 => event.data["b"]["list"][0] = json!(1.500_000_000_000_000_2),
                6 => event.actor = event.actor.is_none().then(|| "mallory@example.com".into()),
                7 => event.at += 1,
                8 => event.correlation = Some("x".into()),
                9 => event.subject = Some("x".into()),
                _ => event.reason = Some("x".into()),
            }
            (EventDamage::Changed, vec![event.id])
        }
        Deed::Remove { at } => (EventDamage::Removed, vec![events.remove(at % sealed).id]),
        Deed::Insert { at, copy_of, far } => {
            let at = at % sealed;
            let new = match copy_of {
                Some(other) => events[other % sealed].clone(),
                None => {
                    let free = if far { events.iter().map(|e| e.id).max().unwrap() + 9 } else { events[at].id - 1 };
                    AuditEvent { kind: "team.joined".into(), ..event(free) }
                }
            };
            let id = new.id;
            events.insert(at, new);
            (EventDamage::Inserted, vec![id])
        }
        Deed::Move { from, to } => {
            let (from, mut to) = (from % sealed, to % sealed);
            if from == to {
                to = if from == 0 { 1 } else { from - 1 };
            }
            let event = events.remove(from);
            // Of two neighbours that changed places, either one may be named.
            let other = if to + 1 == from { Some(events[to].id) } else { (from + 1 == to).then(|| events[from].id) };
            let ids = [event.id].into_iter().chain(other).collect();
            events.insert(to, event);
            (EventDamage::Reordered, ids)
        }
    }
}

#[track_caller]
fn check(report: &Report, kind: EventDamage, ids: &[i64]) {
    match &report.damage {
        Some(Damage::Event { damage, id, .. }) if *damage == kind && ids.contains(id) => {}
        other => panic!("not {kind:?} of {ids:?} but {other:?}"),
    }
}

fn deeds() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (any::<usize>(), any::<usize>()).prop_map(|(at, field)| Deed::Change { at, field }),
        any::<usize>().prop_map(|at| Deed::Remove { at }),
        (any::<usize>(), proptest::option::of(any::<usize>()), any::<bool>())
            .prop_map(|(at, copy_of, far)| Deed::Insert { at, copy_of, far }),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Deed::Move { from, to }),
    ]
}

/// Gaps of at least two leave room for what is inserted.
fn samples(events: std::ops::Range<usize>, batches: std::ops::Range<usize>) -> impl Strategy<Value = Sample> {
    (proptest::collection::vec(2i64..6, events), proptest::collection::vec(1usize..9, batches))
        .prop_map(|(gaps, batches)| Sample::new(&gaps, &batches))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_intact_log_is_intact(sample in samples(0..50, 1..8)) {
        let report = sample.verify_with(sample.head());
        prop_assert_eq!(&report.damage, &None);
        prop_assert_eq!(report.head, sample.head());
        let unsealed = sample.events.len() - sample.sealed;
        prop_assert_eq!(report.unsealed.as_ref().map_or(0, |u| u.count), unsealed as u64);
        prop_assert_eq!(report.unsealed.map(|u| u.since), sample.events.get(sample.sealed).map(|e| e.at));
    }

    #[test]
    fn one_deed_is_named(sample in samples(2..50, 1..8), deed in deeds()) {
        prop_assume!(sample.sealed >= 2);
        let mut sample = sample;
        let (kind, ids) = damage(&mut sample, &deed);
        check(&sample.verify(), kind, &ids);
    }

    #[test]
    fn of_two_deeds_the_first_is_named(sample in samples(30..60, 24..30), first in deeds(), second in deeds(), span in 0usize..8) {
        // The second is apart from the first, and brings nothing from before it.
        let first = match first {
            Deed::Change { at, field } => Deed::Change { at: at % 8, field },
            Deed::Remove { at } => Deed::Remove { at: at % 8 },
            Deed::Insert { at, copy_of, far } => Deed::Insert { at: at % 8, copy_of: copy_of.map(|other| other % 8), far },
            Deed::Move { from, to } => Deed::Move { from: from % 8, to: to % 8 },
        };
        let place = |at: usize| 12 + at % 8;
        let second = match second {
            Deed::Change { at, field } => Deed::Change { at: place(at), field },
            Deed::Remove { at } => Deed::Remove { at: place(at) },
            Deed::Insert { at, .. } => Deed::Insert { at: place(at), copy_of: None, far: false },
            Deed::Move { from, .. } => Deed::Move { from: place(from), to: place(span) },
        };
        let mut sample = sample;
        damage(&mut sample, &second);
        let (kind, ids) = damage(&mut sample, &first);
        check(&sample.verify(), kind, &ids);
    }

    #[test]
    fn any_other_byte_is_found(sample in samples(4..16, 1..8), at in any::<usize>(), byte in any::<u8>()) {
        let mut sample = sample;
        sample.events.truncate(sample.sealed);
        let mut text = sample.export();
        let header = text.iter().position(|b| *b == b'\n').unwrap() + 1;
        // The last line end may be missing, or be white space.
        let at = header + at % (text.len() - 1 - header);
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let report = verify_export(text.as_slice(), &[key(1).verifying_key()], sample.head(), |_, _| {}).unwrap();
        prop_assert!(!report.intact(), "byte {at} as {byte}: {report:?}");
    }

    #[test]
    fn a_cut_file_is_found(sample in samples(4..16, 1..8), at in any::<usize>()) {
        let text = sample.export();
        let at = at % (text.len() - 1);
        match verify_export(&text[..at], &[], sample.head(), |_, _| {}) {
            Ok(report) => {
                // With the last seal there, only unsealed events can be missing.
                let whole = report.report.head == sample.head();
                prop_assert_eq!(report.intact(), whole && report.damaged_lines == 0);
                prop_assert_eq!(whole, report.report.damage.is_none());
            }
            Err(ExportError::Empty | ExportError::NotAnExport(_)) => prop_assert!(at < text.iter().position(|b| *b == b'\n').unwrap()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn noise_is_no_reason_to_panic(noise in proptest::collection::vec(any::<u8>(), 0..400), lines in proptest::collection::vec(0usize..30, 0..30)) {
        let refused = verify_export(noise.as_slice(), &[], None, |_, _| {}).is_err();
        prop_assert!(refused);
        let text = Sample::steady(&[5, 5, 5]).export();
        let parts: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        let mut mixed = parts[0].to_vec();
        lines.iter().for_each(|line| mixed.extend(parts.get(*line).copied().unwrap_or(&noise)));
        let read = verify_export(mixed.as_slice(), &[], None, |_, _| {}).is_ok();
        prop_assert!(read);
    }

    #[test]
    fn an_event_has_one_form(id in 1i64..i64::MAX) {
        let event = event(id % 1_000_000_000);
        let value = serde_json::to_value(&event).unwrap();
        prop_assert_eq!(event.canonical(), canonical::canonical(&value));
        prop_assert_eq!(serde_json::from_slice::<AuditEvent>(&event.canonical()).unwrap(), event);
    }
}

#[test]
fn events_at_the_edges() {
    // An id that was changed: another event stands in its place.
    let mut sample = Sample::steady(&[3, 3]);
    sample.events[2].id = 99;
    check(&sample.verify(), EventDamage::Changed, &[6]);
    // The last sealed one is gone, with and without others behind it.
    for unsealed in [0, 1, 3] {
        let mut sample = Sample::new(&vec![2; 6 + unsealed], &[3, 3]);
        sample.events.remove(5);
        check(&sample.verify(), EventDamage::Removed, &[12]);
    }
    // Several in a row, and everything.
    let mut sample = Sample::steady(&[3, 3]);
    sample.events.drain(1..5);
    check(&sample.verify(), EventDamage::Removed, &[4]);
    sample.events.clear();
    check(&sample.verify(), EventDamage::Removed, &[2]);
    let mut sample = Sample::steady(&[1; 8]);
    sample.events.splice(4..4, [event(7), event(5), event(3)]);
    check(&sample.verify(), EventDamage::Inserted, &[7]);
    // Behind the last seal: what is older than it, and what is not in order.
    let mut sample = Sample::new(&[2; 8], &[3, 3]);
    sample.events.push(event(3));
    check(&sample.verify(), EventDamage::Inserted, &[3]);
    sample.events.pop();
    sample.events.swap(6, 7);
    check(&sample.verify(), EventDamage::Reordered, &[14]);
}

#[test]
fn what_is_named_is_what_was_sealed() {
    let mut sample = Sample::steady(&[3, 3]);
    let sealed = sample.events[3].clone();
    sample.events[3].kind = "nothing.happened".into();
    sample.events[3].at = 0;
    let want = Damage::Event { damage: EventDamage::Changed, id: 8, at: sealed.at, kind: sealed.kind, after: Some(6) };
    assert_eq!(sample.verify().damage.as_ref(), Some(&want));
    let diagnostic = want.diagnostic(&|at| format!("at {at}"));
    assert_eq!(diagnostic.summary, "event 8 (review.approved, at 1763000008000000) was changed");
    assert!(diagnostic.detail.ends_with("Everything up to event 6 is intact; what comes after was not judged."));
}

#[track_caller]
fn check_seal(sample: &Sample, kind: SealDamage, seal: u64) {
    match sample.verify().damage {
        Some(Damage::Seal { damage, number, .. }) if (damage, number) == (kind, seal) => {}
        other => panic!("not {kind:?} of {seal} but {other:?}"),
    }
}

#[test]
fn seals_that_are_damaged_are_named() {
    let whole = Sample::steady(&[3, 3, 3, 3]);
    let with = |deed: &dyn Fn(&mut Vec<Seal>)| {
        let mut sample = whole.clone();
        deed(&mut sample.seals);
        sample
    };
    for index in 0..3 {
        let number = index as u64 + 1;
        check_seal(&with(&|seals| drop(seals.remove(index))), SealDamage::Missing, number);
        check_seal(&with(&|seals| seals.swap(index, index + 1)), SealDamage::Reordered, number);
        check_seal(&with(&|seals| seals.insert(index + 1, seals[index].clone())), SealDamage::Duplicated, number);
        check_seal(&with(&|seals| seals.push(seals[index].clone())), SealDamage::Duplicated, number);
    }
    type Edit = fn(&mut Seal);
    let edits: [Edit; 11] = [
        |s| s.log.push('x'),
        |s| s.number += 1,
        |s| s.first += 1,
        |s| s.last += 1,
        |s| s.count += 1,
        |s| s.root.0[0] ^= 1,
        |s| s.previous = Some(s.root),
        |s| s.at += 1,
        |s| s.key = key(2).verifying_key(),
        |s| s.next_key = Some(key(2).verifying_key()),
        |s| s.signature.0[0] ^= 1,
    ];
    let lists: [Edit; 4] =
        [|s| s.events[1].digest.0[0] ^= 1, |s| s.events[1].at += 1, |s| drop(s.events.pop()), |s| s.events.clear()];
    for edit in edits.iter().chain(&lists) {
        check_seal(&with(&|seals| edit(&mut seals[2])), SealDamage::Altered, 3);
    }
    // Made anew: by another key, for another log, on another seal.
    let anew = |log: &str, previous: usize, number: u8| {
        with(&|seals| {
            let previous =
                Seal { log: log.into(), next_key: Some(key(number).verifying_key()), ..seals[previous].clone() };
            let sealing = Sealing { log, previous: Some(&previous), at: 1, key: &key(number), next_key: None };
            seals[2] = Seal { number: 3, ..sealing.seal(&whole.events[6..9]).unwrap() };
        })
    };
    check_seal(&anew(LOG, 1, 2), SealDamage::Resigned, 3);
    check_seal(&anew(LOG, 1, 1), SealDamage::Unchained, 3);
    check_seal(&anew("other", 1, 1), SealDamage::Foreign, 3);
    // The last seal can only be missed by who kept it.
    let cut = with(&|seals| drop(seals.pop()));
    let report = cut.verify();
    assert_eq!((report.damage, report.unsealed.map(|u| u.count)), (None, Some(3)));
    let want = Damage::Truncated { last: Some(3), checkpoint: 4, at: whole.seals[3].at };
    assert_eq!(cut.verify_with(whole.head()).damage, Some(want));
}

#[test]
fn a_log_that_was_written_anew_is_not_that_of_the_checkpoint() {
    let whole = Sample::steady(&[3, 3, 3]);
    let mut anew = whole.clone();
    // By somebody who has the key.
    anew.events[4].actor = Some("mallory".into());
    anew.seals.truncate(1);
    for batch in [3..6, 6..9] {
        let sealing = Sealing { log: LOG, previous: anew.seals.last(), at: 1, key: &key(1), next_key: None };
        anew.seals.push(sealing.seal(&anew.events[batch]).unwrap());
    }
    assert_eq!(anew.verify().damage, None, "nothing but the checkpoint can tell");
    for (checkpoint, want) in [(0, None), (1, Some((SealDamage::Rewritten, 2))), (2, Some((SealDamage::Rewritten, 3)))]
    {
        let found = anew.verify_with(Some(whole.seals[checkpoint].checkpoint())).damage.map(|damage| match damage {
            Damage::Seal { damage, number, .. } => (damage, number),
            other => panic!("{other:?}"),
        });
        assert_eq!(found, want);
    }
}

#[test]
fn a_log_may_begin_behind_its_checkpoint() {
    let mut sample = Sample::steady(&[3, 3, 3]);
    let checkpoint = sample.seals[0].checkpoint();
    sample.seals.remove(0);
    sample.events.drain(..3);
    assert_eq!(sample.verify_with(Some(checkpoint.clone())).damage, None);
    check_seal(&sample, SealDamage::Missing, 1);
    // Another checkpoint of that number does not fit.
    let other = Seal { at: 1, ..checkpoint };
    let damage = sample.verify_with(Some(other)).damage;
    assert!(matches!(damage, Some(Damage::Seal { damage: SealDamage::Unchained, number: 2, .. })), "{damage:?}");
}

#[test]
fn keys_hand_over() {
    let events: Vec<AuditEvent> = (1..=6).map(event).collect();
    let (old, new) = (key(1), key(2));
    let sealing = |previous, key, next_key| Sealing { log: LOG, previous, at: 9, key, next_key };
    let first = sealing(None, &old, Some(new.verifying_key())).seal(&events[..2]).unwrap();
    let second = sealing(Some(&first), &new, None).seal(&events[2..4]).unwrap();
    let third = sealing(Some(&second), &new, None).seal(&events[4..]).unwrap();
    let seals = [first.clone(), second.clone(), third];
    let report = verify(LOG, events.clone(), seals.clone(), &[old.verifying_key()], None);
    assert_eq!((report.damage, report.keys), (None, vec![old.verifying_key(), new.verifying_key()]));
    // The key that comes later does not vouch for the beginning, and the one that went signs no more.
    let damage = |seals: &[Seal], key: VerifyingKey| verify(LOG, events.clone(), seals.to_vec(), &[key], None).damage;
    let by = |key: &SigningKey, number| {
        Some(Damage::Seal { damage: SealDamage::Resigned, number, at: Some(9), key: Some(key.verifying_key()) })
    };
    assert_eq!(damage(&seals, new.verifying_key()), by(&old, 1));
    let stolen = Seal { next_key: None, ..second.clone() };
    let stolen = Seal { key: old.verifying_key(), ..stolen };
    let forged = sealing(Some(&stolen), &old, None).seal(&events[4..]).unwrap();
    assert_eq!(damage(&[first.clone(), second.clone(), forged], old.verifying_key()), by(&old, 3));
    // Nothing that cannot be verified is made.
    let errors = [
        (
            sealing(Some(&first), &old, None).seal(&events[2..4]),
            SealError::Key { expected: new.verifying_key(), found: old.verifying_key() },
        ),
        (sealing(Some(&first), &new, None).seal(&events[1..4]), SealError::Order { before: 2, id: 2 }),
        (sealing(None, &old, None).seal(&[event(3), event(3)]), SealError::Order { before: 3, id: 3 }),
        (sealing(None, &old, None).seal(&[]), SealError::Empty),
        (sealing(None, &old, None).seal(&vec![event(1); BATCH_MAX + 1]), SealError::TooMany(BATCH_MAX + 1)),
        (
            Sealing { log: "other", ..sealing(Some(&first), &new, None) }.seal(&events[2..]),
            SealError::Log { found: "other".into(), sealed: LOG.into() },
        ),
    ];
    for (made, want) in errors {
        assert_eq!(made.err(), Some(want));
    }
}

#[test]
fn many_events_without_a_seal_are_counted_and_not_kept() {
    let events = 3 * BATCH_MAX;
    let mut sample = Sample::new(&vec![1; events], &[2]);
    assert_eq!(sample.verify().unsealed.map(|u| (u.count, u.first)), Some((events as u64 - 2, 3)));
    // A seal that comes after more events than it can cover is out of its place; in a database it has none.
    let mut verifier = Verifier::new(LOG, &[key(1).verifying_key()], None);
    sample.events.iter().for_each(|event| verifier.event(SealedEvent::of(event)));
    assert!(verifier.waiting.len() <= BATCH_MAX + 2);
    verifier.seal(sample.seals.remove(0));
    let damage = verifier.finish().damage;
    assert!(matches!(damage, Some(Damage::Seal { damage: SealDamage::Reordered, number: 1, .. })), "{damage:?}");
}

#[test]
fn seals_without_their_events_are_not_kept_either() {
    let sample = Sample::new(&vec![1; 4 * BATCH_MAX], &[BATCH_MAX; 4]);
    let report = verify(LOG, [], sample.seals.clone(), &[key(1).verifying_key()], None);
    check(&report, EventDamage::Removed, &[1]);
    let events = sample.events.into_iter().skip(3 * BATCH_MAX).chain([event(1)]);
    let mut verifier = Verifier::new(LOG, &[key(1).verifying_key()], None);
    sample.seals.into_iter().for_each(|seal| verifier.seal(seal));
    assert!(verifier.wants_seal());
    events.for_each(|event| verifier.event(SealedEvent::of(&event)));
    check(&verifier.finish(), EventDamage::Reordered, &[1]);
}

#[test]
fn lines_that_are_damaged_are_numbered() {
    let text = String::from_utf8(Sample::steady(&[3, 3]).export()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let with = |number: usize, line: &[u8]| {
        let mut out = Vec::new();
        for (index, old) in lines.iter().enumerate() {
            out.extend_from_slice(if index + 1 == number { line } else { old.as_bytes() });
            out.push(b'\n');
        }
        verify_export(out.as_slice(), &[], None, |_, _| {}).unwrap()
    };
    let twice = lines[2].replacen("\"data\":{", "\"data\":{\"n\":7,", 1);
    let long = format!("{{\"event\":\"{}\"}}", "x".repeat(LINE_MAX));
    let deep = format!("{{\"event\":{{\"data\":{}", "[".repeat(100_000));
    type Fits = fn(&Fault) -> bool;
    let cases: [(&[u8], Fits); 8] = [
        (b"{\"event\":\"\xff\"}", |f| *f == Fault::Utf8(11)),
        (b"", |f| matches!(f, Fault::Content(_))),
        (b"{\"event\":{}}", |f| matches!(f, Fault::Content(why) if why.contains("missing field"))),
        (b"{\"other\":{}}", |f| matches!(f, Fault::Content(why) if why.contains("unknown variant"))),
        (long.as_bytes(), |f| *f == Fault::Oversized),
        (deep.as_bytes(), |f| matches!(f, Fault::Content(why) if why.contains("recursion"))),
        (lines[0].as_bytes(), |f| *f == Fault::Header),
        (&lines[2].as_bytes()[..30], |f| matches!(f, Fault::Content(_))),
    ];
    for (line, fits) in cases {
        let report = with(3, line);
        assert!(
            report.lines.len() == 1 && report.lines[0].line == 3 && fits(&report.lines[0].fault),
            "{:?}",
            report.lines
        );
        // What the line held is missed as well.
        check(&report.report, EventDamage::Removed, &[4]);
    }
    // Readers differ in what they take of a member that is there twice.
    let report = with(3, twice.as_bytes());
    assert_eq!((report.lines[0].line, &report.lines[0].fault), (3, &Fault::Form));
    assert_eq!((report.report.damage.clone(), report.intact()), (None, false));
    let member = lines[2].replacen("\"id\":4", "\"id\":4,\"id\":4", 1);
    assert!(matches!(&with(3, member.as_bytes()).lines[0].fault, Fault::Content(why) if why.contains("duplicate")));
    // The end of the file, in the middle of a line and of a character.
    let cut = |bytes: &[u8]| verify_export(bytes, &[], None, |_, _| {}).unwrap().lines;
    let ü = text.find('ü').unwrap();
    for end in [lines[0].len() + 20, ü + 1] {
        let faults = cut(&text.as_bytes()[..end]);
        assert_eq!((faults.len(), faults[0].line, &faults[0].fault), (1, 2, &Fault::Cut));
    }
    // Only the line end is missing.
    assert!(verify_export(text.trim_end().as_bytes(), &[], None, |_, _| {}).unwrap().intact());
}

#[test]
fn what_is_no_export_is_said() {
    let error = |text: &str| verify_export(text.as_bytes(), &[], None, |_, _| {}).err().unwrap().to_string();
    assert_eq!(error(""), "it is empty");
    assert!(error("hello\n").starts_with("it does not begin with the header"));
    let text = String::from_utf8(Sample::steady(&[1]).export()).unwrap();
    assert!(error(text.lines().nth(1).unwrap()).contains("its first line is no header"));
    assert!(error(&text.replacen("\"version\":1", "\"version\":2", 1)).contains("version 2"));
    assert!(error("{\"header\":{\"version\":3,\"chains\":[]}}").contains("version 3"));
    assert!(error(&text.replacen("windlass-audit", "other", 1)).contains("does not begin"));
}
