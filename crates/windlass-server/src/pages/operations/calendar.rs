//! What begins by itself when: a month or a week.

use crate::pages::common::{Badge, Tone};
use crate::pages::{Frame, link};
use askama::Template;

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Calendar {
    pub project: String,
    /// `month` or `week`.
    pub view: String,
    /// e.g. `January 2026`, `Week of 2026-01-12`.
    pub title: String,
    /// IANA name of the zone that its days are of.
    pub zone: String,
    /// Days, `2026-01-15`: one of this time, of that before, of that after, and today.
    pub here: String,
    pub earlier: String,
    pub later: String,
    pub today: String,
    pub days: Vec<Day>,
    /// e.g. `year-end in production: nobody is there, until 2027-01-04`.
    pub freezes: Vec<String>,
    /// Schedules with more times than are shown.
    pub cut: Vec<String>,
    /// There is a schedule in the project at all.
    pub is_any: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Day {
    /// e.g. `2026-01-15`.
    pub date: String,
    /// e.g. `Thu 15`.
    pub label: String,
    /// Of the month that is shown.
    pub is_of_it: bool,
    pub is_today: bool,
    pub entries: Vec<Entry>,
}

/// What a schedule does on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    pub operation: String,
    pub schedule: String,
    /// e.g. `03:00`, or `288 times, 00:00–23:55`.
    pub when: String,
    /// The run of one that is alone; empty for others.
    pub run: String,
    /// What is not as it should be, or will not be: `2 late`, `frozen: year-end`.
    pub marks: Vec<Badge>,
}

impl Calendar {
    fn path(&self) -> String {
        link::schedules(&self.project)
    }
    fn at(&self, view: &str, day: &str) -> String {
        link::query(&self.path(), &[("view", view), ("day", day), ("zone", &self.zone)])
    }
    fn operation(&self, entry: &Entry) -> String {
        link::operation(&self.project, &entry.operation)
    }

    /// For tests.
    pub fn sample() -> Self {
        let entry = |when: &str, run: &str, marks: Vec<Badge>| Entry {
            operation: "backup-ledger".into(),
            schedule: "nightly".into(),
            when: when.into(),
            run: run.into(),
            marks,
        };
        let day = |date: &str, label: &str, entries| Day {
            date: date.into(),
            label: label.into(),
            is_of_it: true,
            is_today: false,
            entries,
        };
        Self {
            project: "shop".into(),
            view: "month".into(),
            title: "January 2026".into(),
            zone: "Asia/Tokyo".into(),
            here: "2026-01-01".into(),
            earlier: "2025-12-01".into(),
            later: "2026-02-01".into(),
            today: "2026-01-15".into(),
            days: vec![
                Day { is_of_it: false, ..day("2025-12-31", "Wed 31", Vec::new()) },
                day("2026-01-01", "Thu 1", vec![entry("03:00", "01k9z1", vec![Badge::new(Tone::Warn, "late")])]),
                Day {
                    is_today: true,
                    ..day(
                        "2026-01-02",
                        "Fri 2",
                        vec![entry("288 times, 00:00–23:55", "", vec![Badge::new(Tone::Bad, "3 missed")])],
                    )
                },
                day("2026-01-03", "Sat 3", vec![entry("03:00", "", vec![Badge::new(Tone::Info, "frozen: year-end")])]),
            ],
            freezes: vec!["year-end in production: nobody is there".into()],
            cut: vec!["poll of backup-ledger".into()],
            is_any: true,
        }
    }
}

#[derive(Template)]
#[template(path = "calendar.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Calendar,
}

pub fn render(frame: &Frame, page: &Calendar) -> String {
    crate::pages::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Section, testing};

    #[test]
    fn what_comes_and_what_did_not_is_marked() {
        let frame = Frame::sample(Section::Operations);
        let html = render(&frame, &Calendar::sample());
        testing::check(&html);
        for wanted in
            ["January 2026", "3 missed", "late", "frozen: year-end", "/runs/01k9z1", "nobody is there", "view=week"]
        {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        let empty = Calendar { is_any: false, days: Vec::new(), cut: Vec::new(), ..Calendar::sample() };
        assert!(render(&frame, &empty).contains("Nothing begins by itself"));
        testing::check_hostile(&Calendar::sample(), |page| render(&frame, page));
    }
}
