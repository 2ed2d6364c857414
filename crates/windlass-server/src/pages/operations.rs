//! Operations: what teams may do by themselves. The catalogue, one operation with its form, and what is asked before it begins.

pub mod calendar;
pub mod compare;
pub mod confirm;
pub mod form;
pub mod one;

use super::common::{Badge, Moment, SAMPLE_NOW, minutes_ago};
use super::{Frame, link};
use askama::Template;
use windlass_model::run::RunState;

/// The catalogue. Limits are its query: `q`, `owner`, `label`, `mine`, `project`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Catalogue {
    /// What was typed: part of a name or a description.
    pub search: String,
    /// The owner it is limited to; empty for all.
    pub owner: String,
    /// `key=value`; empty for all.
    pub label: String,
    /// Only those that this person may run.
    pub mine: bool,
    pub by: By,
    pub owners: Vec<String>,
    pub labels: Vec<String>,
    pub groups: Vec<Group>,
    pub matching: usize,
    pub total: usize,
}

/// What the catalogue is in groups by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum By {
    #[default]
    Owner,
    Label,
}

impl By {
    /// As it stands in the address.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "",
            Self::Label => "label",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Group {
    /// e.g. `sre`, or `area=database`.
    pub name: String,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Row {
    pub project: String,
    pub name: String,
    /// The first line of its description.
    pub about: String,
    pub labels: Vec<String>,
    /// Why this person may not run it; empty when they may, or may with some parameters.
    pub why_not: String,
    /// They may with some parameters.
    pub depends: bool,
    pub last: Option<Last>,
    pub next: Option<Moment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Last {
    pub run: String,
    pub state: Badge,
    pub at: Moment,
}

impl Row {
    fn href(&self) -> String {
        link::operation(&self.project, &self.name)
    }
}

impl Catalogue {
    fn is_limited(&self) -> bool {
        self.mine || !(self.search.is_empty() && self.owner.is_empty() && self.label.is_empty())
    }

    /// The same in other groups.
    fn by_href(&self, frame: &Frame, by: By) -> String {
        let pairs = [
            ("project", frame.project.as_str()),
            ("q", &self.search),
            ("owner", &self.owner),
            ("label", &self.label),
            ("mine", if self.mine { "1" } else { "" }),
            ("by", by.as_str()),
        ];
        link::query("/operations", &pairs)
    }

    /// For tests.
    pub fn sample() -> Self {
        let row = |name: &str, about: &str| Row {
            project: "shop".into(),
            name: name.into(),
            about: about.into(),
            labels: vec!["area=store".into()],
            why_not: String::new(),
            depends: false,
            last: None,
            next: None,
        };
        let mut backup = row("backup-ledger", "Backs the ledger up.");
        let state = Badge::new(super::common::Tone::Bad, "failed");
        backup.last = Some(Last { run: "01k9z1".into(), state, at: minutes_ago(50) });
        backup.next = Some(Moment::new(SAMPLE_NOW + 3_600_000_000, SAMPLE_NOW));
        let mut failover = row("failover", "Another member becomes the first.");
        failover.why_not = "operation `failover` lets team sre, and anna@example.com is not of it".into();
        let mut report = row("report", "");
        report.depends = true;
        Self {
            owners: vec!["sre".into(), "ledger".into()],
            labels: vec!["area=store".into()],
            groups: vec![
                Group { name: "sre".into(), rows: vec![backup, failover] },
                Group { name: String::new(), rows: vec![report] },
            ],
            matching: 3,
            total: 4,
            ..Self::default()
        }
    }
}

/// The state of a run as a badge.
pub fn state(state: RunState) -> Badge {
    use super::common::Tone;
    let tone = match state {
        RunState::Queued => Tone::Plain,
        RunState::Running => Tone::Info,
        RunState::Waiting => Tone::Wait,
        RunState::Succeeded => Tone::Ok,
        RunState::Failed | RunState::Abandoned => Tone::Bad,
        RunState::Cancelled => Tone::Warn,
    };
    Badge::new(tone, state.as_str())
}

#[derive(Template)]
#[template(path = "operations.html")]
struct CataloguePage<'a> {
    frame: &'a Frame,
    page: &'a Catalogue,
}

pub fn render(frame: &Frame, page: &Catalogue) -> String {
    super::rendered(&CataloguePage { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Section, testing};

    #[test]
    fn the_catalogue_says_what_may_be_run() {
        let frame = Frame::sample(Section::Operations);
        let html = render(&frame, &Catalogue::sample());
        testing::check(&html);
        for wanted in ["backup-ledger", "failed", "in 1 h", "is not of it", "3 of 4 operations"] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        let limited = Catalogue { search: "x".into(), total: 4, ..Catalogue::default() };
        assert!(render(&frame, &limited).contains("No operation matches"));
        let empty = render(&frame, &Catalogue::default());
        testing::check(&empty);
        assert!(empty.contains("No operation is defined yet"));
        testing::check_hostile(&Catalogue::sample(), |page| render(&frame, page));
    }
}
