//! Events: what happened, by whom and why, searched and read page by page, with the state of the seals.

use super::common::{Moment, Pages, Tone, minutes_ago};
use super::{Frame, link};
use askama::Template;

/// As in the address: `actor`, `subject`, `kind`, `from`, `until`, `run`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Filter {
    pub actor: String,
    pub subject: String,
    pub kind: String,
    /// `YYYY-MM-DDTHH:MM` in UTC, as the control of a browser writes it; empty for no limit.
    pub from: String,
    pub until: String,
    /// Id of a run.
    pub run: String,
    /// Kinds to choose from, e.g. `run.started`.
    pub kinds: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Event {
    pub id: i64,
    pub kind: String,
    pub actor: String,
    pub project: String,
    /// What it is about, e.g. `aws/network[tokyo]`.
    pub subject: String,
    /// Why, in the actor's words; may be empty.
    pub reason: String,
    pub run: Option<String>,
    pub correlation: String,
    /// The data as indented JSON.
    pub data: String,
    pub at: Moment,
}

/// Whether the record can be proved to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Seal {
    /// Nothing is sealed yet.
    None,
    /// All events up to `last` are sealed; so many newer ones wait for the next seal.
    Sealed { number: i64, last: i64, open: usize, at: Moment },
    /// The last verification found damage: what and where, one sentence.
    Damaged(String),
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Events {
    pub filter: Filter,
    /// Newest first.
    pub events: Vec<Event>,
    /// Cursors, empty on the first and the last page.
    pub here: String,
    pub next: String,
    pub seal: Seal,
    /// Whether this person may take the record away as a file.
    pub export: bool,
}

impl Events {
    fn pairs<'a>(&'a self, frame: &'a Frame) -> Vec<(&'a str, &'a str)> {
        let filter = &self.filter;
        vec![
            ("project", &frame.project),
            ("actor", &filter.actor),
            ("subject", &filter.subject),
            ("kind", &filter.kind),
            ("from", &filter.from),
            ("until", &filter.until),
            ("run", &filter.run),
        ]
    }

    fn pages(&self, frame: &Frame) -> Pages {
        Pages::new("/events", &self.pairs(frame), &self.here, &self.next)
    }

    /// The record with the same choice, as JSON lines.
    fn export_href(&self, frame: &Frame) -> String {
        link::query("/api/v1/audit/export", &self.pairs(frame))
    }

    fn is_limited(&self) -> bool {
        let filter = &self.filter;
        [&filter.actor, &filter.subject, &filter.kind, &filter.from, &filter.until, &filter.run]
            .iter()
            .any(|f| !f.is_empty())
    }

    pub fn sample() -> Self {
        let event = |id: i64, kind: &str, actor: &str, subject: &str, reason: &str, minutes: i64| Event {
            id,
            kind: kind.into(),
            actor: actor.into(),
            project: "shop".into(),
            subject: subject.into(),
            reason: reason.into(),
            run: Some("01k9yyyyyyyyyyyyyyyyyyyyy1".into()),
            correlation: format!("01k9ccccccccccccccccccc{id:03}"),
            data: format!("{{\n  \"number\": {id}\n}}"),
            at: minutes_ago(minutes),
        };
        Self {
            filter: Filter {
                kinds: ["lock.taken_away", "review.approved", "run.started", "token.revoked"]
                    .map(String::from)
                    .to_vec(),
                ..Filter::default()
            },
            events: vec![
                event(
                    812,
                    "lock.taken_away",
                    "anna@example.com",
                    "aws/network[tokyo]",
                    "its holder is a dead machine",
                    4,
                ),
                event(810, "review.approved", "bob@example.com", "bigger-database", "", 31),
                event(799, "run.started", "workflow deploy of example/shop by carol", "apply of 3 stacks", "", 95),
            ],
            here: String::new(),
            next: "799".into(),
            seal: Seal::Sealed { number: 41, last: 805, open: 7, at: minutes_ago(9) },
            export: true,
        }
    }

    pub fn sample_empty() -> Self {
        Self {
            filter: Filter::default(),
            events: Vec::new(),
            here: String::new(),
            next: String::new(),
            seal: Seal::None,
            export: false,
        }
    }
}

impl Seal {
    fn tone(&self) -> Tone {
        match self {
            Self::None => Tone::Plain,
            Self::Sealed { .. } => Tone::Ok,
            Self::Damaged(_) => Tone::Bad,
        }
    }
}

#[derive(Template)]
#[template(path = "events.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Events,
}

/// The whole page.
pub fn render(frame: &Frame, page: &Events) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_hostile;
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn events_are_searched_and_their_seals_told() {
        let frame = Frame::sample(Section::Events);
        let check = |page: &Events, want: &str, absent: &str| {
            check_hostile(page, |page| render(&frame, page));
            let html = render(&frame, page);
            assert!(html.contains(want) && !html.contains(absent), "{want}\n{html}");
        };
        check(&Events::sample(), "its holder is a dead machine", "No event");
        check(&Events::sample(), "7 newer events wait for the next seal", "damaged");
        let mut limited = Events::sample();
        limited.filter.actor = "anna@example.com".into();
        limited.filter.kind = "run.started".into();
        check(&limited, "/api/v1/audit/export?actor=anna%40example.com&#38;kind=run.started", "No event");
        check(&limited, "/events?actor=anna%40example.com&#38;kind=run.started&#38;after=799", "No event");
        check(&Events::sample_empty(), "Nothing has happened yet", "/api/v1/audit/export");
        limited.events.clear();
        check(&limited, "No event matches", "Nothing has happened yet");
        let damaged = Seal::Damaged("event 433 was changed".into());
        check(&Events { seal: damaged, ..Events::sample() }, "event 433 was changed", "next seal");
    }
}
