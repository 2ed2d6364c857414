//! Drift of all stacks: where the world is otherwise than the code.

use super::common::{Moment, Offer, Pages, minutes_ago};
use super::{Frame, link};
use askama::Template;

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Row {
    pub project: String,
    pub stack: String,
    /// As it is written, e.g. `aws/network[tokyo]`.
    pub instance: String,
    pub owner: String,
    /// e.g. `2 changed by hand, 1 gone`.
    pub what: String,
    pub since: Moment,
    pub checked: Moment,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Drift {
    /// Longest first.
    pub rows: Vec<Row>,
    /// Cursors, empty on the first and the last page.
    pub here: String,
    pub next: String,
    /// Instances with drift, without, and never looked at.
    pub drifted: usize,
    pub in_sync: usize,
    pub unchecked: usize,
    /// Look at all stacks of the chosen repository now.
    pub check: Offer,
}

impl Drift {
    pub fn sample() -> Self {
        let row = |instance: &str, what: &str, hours: i64| Row {
            project: "shop".into(),
            stack: "aws/iam".into(),
            instance: instance.into(),
            owner: "sre".into(),
            what: what.into(),
            since: minutes_ago(hours * 60),
            checked: minutes_ago(30),
        };
        Self {
            rows: vec![
                row("aws/iam", "2 changed by hand, 1 gone", 300),
                row("aws/dns[osaka]", "1 changed by hand", 20),
            ],
            here: "x".into(),
            next: "y".into(),
            drifted: 17,
            in_sync: 190,
            unchecked: 7,
            check: Offer::Possible,
        }
    }

    pub fn sample_empty() -> Self {
        let check = Offer::Not("Choose a repository first.".into());
        Self { rows: Vec::new(), here: String::new(), next: String::new(), drifted: 0, in_sync: 0, unchecked: 0, check }
    }

    fn pages(&self, frame: &Frame) -> Pages {
        Pages::new("/drift", &[("project", &frame.project)], &self.here, &self.next)
    }
}

#[derive(Template)]
#[template(path = "drift.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Drift,
}

/// The whole page.
pub fn render(frame: &Frame, page: &Drift) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_hostile;
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn drift_is_listed_with_its_age() {
        let frame = Frame { project: "shop".into(), ..Frame::sample(Section::Stacks) };
        let check = |page: &Drift, want: &str, absent: &str| {
            check_hostile(page, |page| render(&frame, page));
            let html = render(&frame, page);
            assert!(html.contains(want) && !html.contains(absent), "{html}");
        };
        check(&Drift::sample(), "2 changed by hand, 1 gone", "No drift is known");
        check(&Drift::sample(), "/drift?project=shop&#38;after=y", "Choose a repository first.");
        check(&Drift::sample_empty(), "No drift is known", "/actions/drift");
    }
}
