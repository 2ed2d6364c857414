//! The list of runs, newest first.

use super::Frame;
use super::parts::{self, Choice, Moment, Paging, duration, rendered};
use askama::Template;
use windlass_model::Micros;
use windlass_model::run::RunState;

/// What the list shows. Limits are the query of `/runs`: `search`, `kind`, `state`, `project`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// The repository it is limited to; empty for all.
    pub project: String,
    /// What was typed: part of a title, a person, the beginning of an id.
    pub search: String,
    /// Made by [`Choice::list`] of the kinds that there are.
    pub kinds: Vec<Choice>,
    /// Made by [`states`].
    pub states: Vec<Choice>,
    /// At most as many as one page shows.
    pub rows: Vec<Row>,
    pub paging: Paging,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub project: String,
    pub kind: String,
    pub title: String,
    pub actor: String,
    pub state: RunState,
    /// What it waits for, or why it ended as it did, in one sentence.
    pub reason: Option<String>,
    pub created: Moment,
    /// How long it took, or takes by now, e.g. `3 min 20 s`.
    pub took: String,
}

/// The states to choose from; `active` are those that have not ended.
pub fn states(chosen: &str) -> Vec<Choice> {
    let states = ["active", "queued", "running", "waiting", "succeeded", "failed", "cancelled", "abandoned"];
    Choice::list("any", &states, chosen)
}

/// From its start to its end, or to now.
pub fn took(created: Micros, ended: Option<Micros>, now: Micros) -> String {
    duration(ended.unwrap_or(now) - created)
}

impl Runs {
    fn is_limited(&self) -> bool {
        let chosen = |choices: &[Choice]| choices.iter().any(|c| c.chosen && !c.value.is_empty());
        !self.search.is_empty() || chosen(&self.kinds) || chosen(&self.states)
    }

    /// For tests: one in each state.
    pub fn sample() -> Self {
        let now = 1_763_715_005_000_000;
        let row = |id: &str, kind: &str, title: &str, state, minutes: i64, reason: Option<&str>| {
            let created = now - minutes * 60_000_000;
            Row {
                id: id.into(),
                project: "shop".into(),
                kind: kind.into(),
                title: title.into(),
                actor: "Anna <anna@example.com>".into(),
                state,
                reason: reason.map(str::to_owned),
                created: Moment::new(created, now),
                took: took(created, None, now),
            }
        };
        let unclear = "apply:aws/db: nobody knows whether it ended; settle it";
        Self {
            project: String::new(),
            search: String::new(),
            kinds: Choice::list("any", &["apply", "drift", "review"], ""),
            states: states(""),
            rows: vec![
                row("01k9z1", "apply", "bigger-database to production: 4 stacks", RunState::Running, 1, None),
                row("01k9z2", "apply", "new-region: 12 stacks", RunState::Waiting, 12, Some("waits for an approval")),
                row("01k9z3", "apply", "subnets: 2 stacks", RunState::Waiting, 30, Some(unclear)),
                row("01k9z4", "review", "tags against main: 30 stacks", RunState::Queued, 31, None),
                row("01k9z5", "review", "tags against main: 30 stacks", RunState::Succeeded, 90, None),
                row("01k9z6", "drift", "nightly: 240 stacks", RunState::Failed, 600, Some("3 stacks failed at plan")),
                row("01k9z7", "review", "oops", RunState::Cancelled, 700, Some("cancelled by Bob")),
                row("01k9z8", "apply", "old", RunState::Abandoned, 90_000, Some("abandoned by Anna: moved by hand")),
            ],
            paging: Paging { first: Some("/runs".into()), next: Some("/runs?after=01k9z8".into()) },
        }
    }

    /// For tests: before the first run.
    pub fn sample_empty() -> Self {
        Self { rows: Vec::new(), paging: Paging::default(), ..Self::sample() }
    }
}

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage<'a> {
    frame: &'a Frame,
    page: &'a Runs,
}

pub fn render(frame: &Frame, page: &Runs) -> String {
    rendered(&RunsPage { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Section;
    use crate::pages::parts::check;

    #[test]
    fn each_sample_is_a_page() {
        let frame = Frame::sample(Section::Runs);
        let html = render(&frame, &Runs::sample());
        check::page(&html);
        for wanted in ["waits for an approval", "class=\"badge bad\">failed", "12 min", "rel=\"next\"", ">Newest<"] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        let empty = render(&frame, &Runs::sample_empty());
        check::page(&empty);
        assert!(empty.contains("Nothing has run yet"));
        let limited = Runs { search: "x".into(), ..Runs::sample_empty() };
        assert!(render(&frame, &limited).contains("No run is like this"));
    }

    #[test]
    fn hostile_values_stay_text() {
        let mut page = Runs::sample();
        page.search = check::HOSTILE.into();
        for row in &mut page.rows {
            row.id = check::HOSTILE.into();
            row.title = check::HOSTILE.into();
            row.actor = check::HOSTILE.into();
            row.kind = check::HOSTILE.into();
            row.reason = Some(check::HOSTILE.into());
        }
        check::inert(&render(&Frame::sample(Section::Runs), &page));
    }
}
