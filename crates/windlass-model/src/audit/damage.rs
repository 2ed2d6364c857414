//! What can be wrong with a log, and how it is said.

use super::VerifyingKey;
use crate::Micros;
use crate::diagnostic::Diagnostic;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventDamage {
    /// Its content is not what was sealed, or another event stands in its place.
    Changed,
    /// It was sealed and is not there.
    Removed,
    /// It stands among sealed events and is in no seal, or it is there a second time.
    Inserted,
    /// It stands in another place than the one it was sealed in.
    Reordered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealDamage {
    /// The numbers have a gap.
    Missing,
    /// There is a second seal of this number.
    Duplicated,
    /// It, or its list of events, is not what was signed.
    Altered,
    /// The signature is good, and of a key that may not sign here.
    Resigned,
    /// It stands in another place than its number says.
    Reordered,
    /// It is signed, but follows another seal than the one before it.
    Unchained,
    /// It is of another log.
    Foreign,
    /// It is signed, and another one than the checkpoint of its number: the log was written anew.
    Rewritten,
}

/// The first thing in a log that is not as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Damage {
    Event {
        damage: EventDamage,
        /// Of the event as it was sealed; as it is found, when it was inserted.
        id: i64,
        at: Micros,
        kind: String,
        /// Id of the last intact event before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<i64>,
    },
    Seal {
        damage: SealDamage,
        number: u64,
        /// When it was made, where it can be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Micros>,
        /// Of a seal that was signed by somebody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<VerifyingKey>,
    },
    /// The log ends before the checkpoint.
    Truncated {
        /// The last seal that is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u64>,
        /// Number and time of the checkpoint.
        checkpoint: u64,
        at: Micros,
    },
}

impl Damage {
    /// For people; `time` says how they write a time.
    pub fn diagnostic(&self, time: &dyn Fn(Micros) -> String) -> Diagnostic {
        match self {
            Self::Event { damage, id, at, kind, after } => {
                let detail = match damage {
                    EventDamage::Changed => "Its content is not what was sealed, or another event stands in its place.",
                    EventDamage::Removed => "It was sealed and is not there any more.",
                    EventDamage::Inserted => "It stands among sealed events, and no seal knows it there.",
                    EventDamage::Reordered => "It stands in another place than the one it was sealed in.",
                };
                let before = match after {
                    Some(id) => format!("Everything up to event {id} is intact"),
                    None => "Nothing stands before it".to_owned(),
                };
                let word = match damage {
                    EventDamage::Changed => "changed",
                    EventDamage::Removed => "removed",
                    EventDamage::Inserted => "inserted",
                    EventDamage::Reordered => "reordered",
                };
                Diagnostic::error("WL825", format!("event {id} ({kind}, {}) was {word}", time(*at)))
                    .detail(format!("{detail}\n{before}; what comes after was not judged."))
                    .help("compare it with an older export or backup, and find out who could write to the log")
            }
            Self::Seal { damage, number, at, key } => {
                let what = match damage {
                    SealDamage::Missing => "is missing",
                    SealDamage::Duplicated => "is there twice",
                    SealDamage::Altered => "was altered",
                    SealDamage::Resigned => "was signed by a key that may not sign it",
                    SealDamage::Reordered => "does not stand in its place",
                    SealDamage::Unchained => "does not follow the seal before it",
                    SealDamage::Foreign => "is of another log",
                    SealDamage::Rewritten => "is not the one of the checkpoint",
                };
                let made = at.map(|at| format!(" ({})", time(at))).unwrap_or_default();
                let key = key.map(|key| format!("The key is {key}.\n")).unwrap_or_default();
                let help = match (damage, number) {
                    (SealDamage::Missing, 1) => {
                        "a log whose beginning was put away is verified with `--checkpoint` and the last seal of what was put away"
                    }
                    (SealDamage::Resigned, _) => {
                        "give the key that began the log; each later one is named by the seal before it"
                    }
                    _ => "compare it with an older export or backup, and find out who could write to the log",
                };
                Diagnostic::error("WL826", format!("seal {number}{made} {what}"))
                    .detail(format!("{key}The events that it covers, and what comes after, were not judged."))
                    .help(help)
            }
            Self::Truncated { last, checkpoint, at } => {
                let ends = last.map_or("it has no seal at all".to_owned(), |last| format!("its last seal is {last}"));
                Diagnostic::error(
                    "WL827",
                    format!("the end of the log was cut off: {ends}, and seal {checkpoint} ({}) was there", time(*at)),
                )
                .detail("What is there is intact.")
                .help("look for a newer export, or restore the log from a backup")
            }
        }
    }
}
