//! The list of reviews, newest first.

use super::Frame;
use super::parts::{self, Choice, Moment, Paging, rendered};
use askama::Template;
use windlass_model::review::Verdict;
use windlass_model::risk;

/// What the list shows. Limits are the query of `/reviews`: `search`, `state`, `verdict`, `project`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviews {
    /// The repository it is limited to; empty for all.
    pub project: String,
    /// What was typed: part of a branch, an author, a commit.
    pub search: String,
    /// Made by [`states`].
    pub states: Vec<Choice>,
    /// Made by [`verdicts`].
    pub verdicts: Vec<Choice>,
    /// At most as many as one page shows.
    pub rows: Vec<Row>,
    pub paging: Paging,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The review's id: that of its run.
    pub id: String,
    pub project: String,
    pub branch: String,
    pub commit: String,
    /// As the store says, or `refused`.
    pub state: String,
    pub verdict: Verdict,
    /// The highest of its stacks; `None` where nothing would change.
    pub risk: Option<risk::Level>,
    pub author: String,
    pub made: Moment,
    /// Approvals that are missing, one sentence each; empty once nothing is asked for.
    pub missing: Vec<String>,
}

impl Row {
    fn state_class(&self) -> &'static str {
        state_class(&self.state)
    }
}

/// The badge of a review's state.
pub(super) fn state_class(state: &str) -> &'static str {
    match state {
        "approved" | "applied" => "ok",
        "applying" => "info",
        "refused" => "bad",
        _ => "",
    }
}

/// The states to choose from.
pub fn states(chosen: &str) -> Vec<Choice> {
    Choice::list("any", &["open", "approved", "applying", "applied", "refused", "superseded"], chosen)
}

/// The verdicts to choose from.
pub fn verdicts(chosen: &str) -> Vec<Choice> {
    Choice::list("any", &["nothing", "ready", "needs_approval", "denied", "failed"], chosen)
}

impl Reviews {
    fn is_limited(&self) -> bool {
        let chosen = |choices: &[Choice]| choices.iter().any(|c| c.chosen && !c.value.is_empty());
        !self.search.is_empty() || chosen(&self.states) || chosen(&self.verdicts)
    }

    /// For tests: one of each kind.
    pub fn sample() -> Self {
        let now = 1_763_715_005_000_000;
        let row = |id: &str, branch: &str, state: &str, verdict, risk, minutes: i64| Row {
            id: id.into(),
            project: "shop".into(),
            branch: branch.into(),
            commit: "3f".repeat(20),
            state: state.into(),
            verdict,
            risk,
            author: "Dev <dev@example.com>".into(),
            made: Moment::new(now - minutes * 60_000_000, now),
            missing: Vec::new(),
        };
        let mut waits = row(
            "01k9zzzzzzzzzzzzzzzzzzzzz1",
            "bigger-database",
            "open",
            Verdict::NeedsApproval,
            Some(risk::Level::Critical),
            3,
        );
        waits.missing = vec!["environment production asks for 2 approvals from team data, has 1".into()];
        Self {
            project: String::new(),
            search: String::new(),
            states: states(""),
            verdicts: verdicts(""),
            rows: vec![
                waits,
                row(
                    "01k9zzzzzzzzzzzzzzzzzzzzz2",
                    "public-bucket",
                    "open",
                    Verdict::Denied,
                    Some(risk::Level::High),
                    55,
                ),
                row(
                    "01k9zzzzzzzzzzzzzzzzzzzzz3",
                    "new-region",
                    "applying",
                    Verdict::Ready,
                    Some(risk::Level::Medium),
                    125,
                ),
                row("01k9zzzzzzzzzzzzzzzzzzzzz4", "tags", "applied", Verdict::Ready, Some(risk::Level::Low), 2000),
                row("01k9zzzzzzzzzzzzzzzzzzzzz5", "wrong-region", "superseded", Verdict::Failed, None, 2200),
                row("01k9zzzzzzzzzzzzzzzzzzzzz6", "readme", "refused", Verdict::Nothing, None, 90_000),
            ],
            paging: Paging { first: None, next: Some("/reviews?after=01k9zzzzzzzzzzzzzzzzzzzzz6".into()) },
        }
    }

    /// For tests: before the first review.
    pub fn sample_empty() -> Self {
        Self { rows: Vec::new(), paging: Paging::default(), ..Self::sample() }
    }
}

#[derive(Template)]
#[template(path = "reviews.html")]
struct ReviewsPage<'a> {
    frame: &'a Frame,
    page: &'a Reviews,
}

pub fn render(frame: &Frame, page: &Reviews) -> String {
    rendered(&ReviewsPage { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Section;
    use crate::pages::parts::check;

    #[test]
    fn each_sample_is_a_page() {
        let frame = Frame::sample(Section::Reviews);
        let html = render(&frame, &Reviews::sample());
        check::page(&html);
        for wanted in ["asks for 2 approvals from team data, has 1", "needs approval", "3 min ago", "rel=\"next\""] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        let empty = render(&frame, &Reviews::sample_empty());
        check::page(&empty);
        assert!(empty.contains("There is no review yet"));
        let limited = Reviews { states: states("applied"), ..Reviews::sample_empty() };
        assert!(render(&frame, &limited).contains("No review is like this"));
    }

    #[test]
    fn hostile_values_stay_text() {
        let mut page = Reviews::sample();
        page.search = check::HOSTILE.into();
        for row in &mut page.rows {
            row.id = check::HOSTILE.into();
            row.branch = check::HOSTILE.into();
            row.author = check::HOSTILE.into();
            row.missing = vec![check::HOSTILE.into()];
        }
        check::inert(&render(&Frame::sample(Section::Reviews), &page));
    }
}
