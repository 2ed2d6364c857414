//! The list of changes of a forge, newest first.

use super::Frame;
use super::parts::{self, Choice, Moment, Paging, rendered};
use askama::Template;
use windlass_model::change::{ChangeFilter, CheckState};

/// What the list shows. Limits are the query of `/changes`: `project`, `state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Made by [`states`].
    pub states: Vec<Choice>,
    pub rows: Vec<Row>,
    /// What environments run.
    pub environments: Vec<Environment>,
    /// How many requests forges still take, a sentence for each project.
    pub budgets: Vec<String>,
    pub paging: Paging,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub number: u64,
    pub project: String,
    pub title: String,
    /// At the forge.
    pub url: String,
    pub author: String,
    pub commit: String,
    /// `open`, `merged` or `closed`.
    pub state: String,
    pub standing: Option<CheckState>,
    /// How it stands, in one sentence.
    pub says: String,
    pub review: Option<String>,
    pub looked: Moment,
}

/// The commits that an environment runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    pub project: String,
    pub name: String,
    /// Commit, how many instances, and since when.
    pub runs: Vec<(String, usize, Moment)>,
}

impl Row {
    fn class(&self) -> &'static str {
        match self.standing {
            Some(CheckState::Success) => "ok",
            Some(CheckState::Failure | CheckState::Error) => "bad",
            Some(CheckState::Pending) => "info",
            None => "",
        }
    }

    /// Only addresses of the web are links.
    fn is_linked(&self) -> bool {
        self.url.starts_with("https://") || self.url.starts_with("http://")
    }
}

/// The states to choose from.
pub fn states(chosen: &str) -> Vec<Choice> {
    Choice::list("any", &ChangeFilter::ALL.map(ChangeFilter::as_str), chosen)
}

impl Changes {
    /// For tests: one of each kind.
    pub fn sample() -> Self {
        let now = 1_763_715_005_000_000;
        let row = |number, title: &str, state: &str, standing, says: &str| Row {
            number,
            project: "shop".into(),
            title: title.into(),
            url: format!("https://forge.example/shop/pulls/{number}"),
            author: "anna".into(),
            commit: "3f".repeat(20),
            state: state.into(),
            standing,
            says: says.into(),
            review: Some("01k9zzzzzzzzzzzzzzzzzzzzz1".into()),
            looked: Moment::new(now - 60_000_000, now),
        };
        Self {
            states: states(""),
            rows: vec![
                row(14, "A bigger database", "open", Some(CheckState::Pending), "Waits for approval"),
                row(13, "A public bucket", "open", Some(CheckState::Failure), "Denied by policy"),
                row(12, "Tags", "merged", Some(CheckState::Success), "Applied"),
                Row { review: None, ..row(11, "From elsewhere", "closed", None, "") },
            ],
            environments: vec![Environment {
                project: "shop".into(),
                name: "production".into(),
                runs: vec![("3f".repeat(20), 12, Moment::new(now - 60_000_000, now))],
            }],
            budgets: vec!["The forge of shop still takes 4900 of 5000 requests".into()],
            paging: Paging { first: None, next: Some("/changes?after=11".into()) },
        }
    }

    /// For tests: before the first change.
    pub fn sample_empty() -> Self {
        let (rows, environments, budgets) = Default::default();
        Self { states: states(""), rows, environments, budgets, paging: Paging::default() }
    }
}

#[derive(Template)]
#[template(path = "changes.html")]
struct ChangesPage<'a> {
    frame: &'a Frame,
    page: &'a Changes,
}

pub fn render(frame: &Frame, page: &Changes) -> String {
    rendered(&ChangesPage { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Section;
    use crate::pages::parts::check;

    #[test]
    fn each_sample_is_a_page() {
        let frame = Frame::sample(Section::Reviews);
        let html = render(&frame, &Changes::sample());
        check::page(&html);
        for wanted in ["A bigger database", "Denied by policy", "production", "4900 of 5000", "rel=\"next\""] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        let empty = render(&frame, &Changes::sample_empty());
        check::page(&empty);
        assert!(empty.contains("no change"), "{empty}");
    }

    #[test]
    fn hostile_values_stay_text() {
        let mut page = Changes::sample();
        for row in &mut page.rows {
            row.title = check::HOSTILE.into();
            row.author = check::HOSTILE.into();
            row.says = check::HOSTILE.into();
            row.url = format!("javascript:{}", check::HOSTILE);
        }
        check::inert(&render(&Frame::sample(Section::Reviews), &page));
    }
}
