//! One operation: what it does, its form, when it begins by itself, and its runs.

use super::form::{Control, Field, Suggestion};
use crate::pages::common::{Badge, List, Moment, Offer, Pages, SAMPLE_NOW, Tone, minutes_ago};
use crate::pages::{Frame, link, markdown};
use askama::Template;
use windlass_model::diagnostic::Diagnostic;

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Operation {
    pub project: String,
    pub name: String,
    /// As Markdown.
    pub description: String,
    pub owner: String,
    /// `key=value`.
    pub labels: Vec<String>,
    /// Where it is defined, e.g. `windlass.hcl:12`.
    pub place: String,
    /// The commit, short.
    pub commit: String,
    /// Who may run it, one sentence each.
    pub who: Vec<String>,
    /// Why this person may not, as things are in the form; empty when they may.
    pub why_not: Vec<String>,
    /// They may with some parameters; which, depends on what is given.
    pub depends: bool,
    /// Where it would be; empty as long as that is not known, or where it has none.
    pub environment: String,
    /// What holds it back: a freeze with its reason.
    pub frozen: String,
    /// What is to be known before: approvals, its turn, its window; one sentence each.
    pub before: Vec<String>,
    pub may_break_glass: bool,
    pub fields: Vec<Field>,
    /// Names of steps that can be passed over once.
    pub steps: Vec<Suggestion>,
    pub skip_reason: String,
    pub reason: String,
    /// The run that is done once more; empty for none.
    pub repeats: String,
    /// What was given for no parameter.
    pub unknown: Vec<String>,
    /// Why it could not begin.
    pub refused: Vec<Diagnostic>,
    pub schedules: Vec<Schedule>,
    /// Whether this person may pause them.
    pub manage: Offer,
    /// What is to begin at a time.
    pub planned: Vec<Planned>,
    /// When it is to begin, as it was typed; empty for now.
    pub at: String,
    /// The state that the list of runs is limited to; empty for all.
    pub state: String,
    /// Who the list of runs is limited to; empty for all.
    pub actor: String,
    pub runs: List<Run>,
    /// Cursor of the page of runs, and that of the next one; empty on the first and the last.
    pub here: String,
    pub next: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Schedule {
    pub name: String,
    pub cron: String,
    pub timezone: String,
    /// What it starts with, e.g. `cluster = "a"`.
    pub arguments: Vec<String>,
    /// Whether it is on, paused, or held back.
    pub state: Badge,
    /// It is in force: one that is switched off is not paused.
    pub enabled: bool,
    /// Why it is paused, by whom and until when; empty when it is not.
    pub paused: String,
    pub next: Vec<Due>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Due {
    pub at: Moment,
    /// The same in the schedule's zone, e.g. `Mon 2026-03-30 03:00 JST`.
    pub local: String,
    /// The freeze that holds it back; empty for none.
    pub frozen: String,
}

/// What somebody asked to be begun at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Planned {
    pub id: String,
    pub at: Moment,
    pub actor: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Run {
    pub id: String,
    pub state: Badge,
    pub reason: String,
    pub actor: String,
    pub at: Moment,
    pub took: String,
}

/// States that the list of runs can be limited to.
const STATES: [&str; 6] = ["running", "waiting", "succeeded", "failed", "cancelled", "abandoned"];

impl Operation {
    pub fn href(&self) -> String {
        link::operation(&self.project, &self.name)
    }
    /// Where the form goes while it is filled.
    fn check_href(&self) -> String {
        format!("{}/form", self.href())
    }
    fn stream(&self) -> String {
        link::query("/api/v1/events/stream", &[("kind", "run"), ("project", &self.project)])
    }
    fn about(&self) -> String {
        markdown::html(&self.description)
    }
    fn schedules_href(&self) -> String {
        format!("{}/schedules", self.href())
    }
    fn planned_href(&self) -> String {
        format!("{}/planned", self.href())
    }
    fn may_run(&self) -> bool {
        self.why_not.is_empty()
    }
    fn states(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let all = std::iter::once("").chain(STATES);
        all.map(|state| (state, link::query(&self.href(), &[("state", state), ("actor", &self.actor)])))
    }
    /// The runs of one person; of everybody where it is empty.
    fn of_actor(&self, actor: &str) -> String {
        link::query(&self.href(), &[("state", &self.state), ("actor", actor)])
    }
    /// The form with what a run had.
    fn repeat(&self, run: &str) -> String {
        link::query(&self.href(), &[("repeats", run)])
    }
    fn pages(&self) -> Pages {
        Pages::new(&self.href(), &[("state", &self.state), ("actor", &self.actor)], &self.here, &self.next)
    }

    /// For tests.
    pub fn sample() -> Self {
        let field = |name: &str, control| Field {
            name: name.into(),
            description: "Which *one*.".into(),
            required: true,
            control,
            hint: String::new(),
            why_no_choices: String::new(),
            mistakes: Vec::new(),
            depended: false,
        };
        let choice = |value: &str, chosen| Suggestion { value: value.into(), label: value.into(), chosen };
        let mut cluster = field("cluster", Control::Text { value: "A".into(), suggestions: vec![choice("a", false)] });
        cluster.mistakes = vec!["`A` does not match [a-z]+".into()];
        cluster.hint = "like [a-z]+".into();
        cluster.depended = true;
        let mut version = field("version", Control::Select { choices: Vec::new(), may_be_empty: true });
        version.why_no_choices = "it depends on `cluster`: give that first".into();
        let two = vec![choice("one", true), choice("two", false)];
        Self {
            project: "shop".into(),
            name: "upgrade-store".into(),
            description: "Upgrades the store.\n\n- one member at a time".into(),
            owner: "sre".into(),
            labels: vec!["area=store".into()],
            place: "windlass.hcl:12".into(),
            commit: "0123456789ab".into(),
            who: vec!["team sre".into(), "team ledger when param.environment == \"staging\"".into()],
            why_not: Vec::new(),
            depends: true,
            environment: "production".into(),
            frozen: "year-end: nobody is there, until 2027-01-04".into(),
            before: vec!["It waits for 1 approval of team sre.".into()],
            may_break_glass: true,
            fields: vec![
                cluster,
                version,
                field("members", Control::Several { choices: two.clone() }),
                field("mode", Control::Select { choices: two, may_be_empty: false }),
                field("notes", Control::Long { value: "first\n<second>".into() }),
                field("password", Control::Secret),
            ],
            steps: vec![choice("dump", false), choice("upgrade", true)],
            skip_reason: "was done by hand".into(),
            reason: "OPS-12".into(),
            repeats: "01k9z1".into(),
            unknown: vec!["`clutser`: `upgrade-store` has no such parameter".into()],
            refused: vec![Diagnostic::error("WL745", "`store-a` is taken").help("wait for it")],
            schedules: vec![Schedule {
                name: "default".into(),
                cron: "0 3 * * 1".into(),
                timezone: "Asia/Tokyo".into(),
                arguments: vec!["cluster = \"a\"".into()],
                state: Badge::new(Tone::Warn, "paused"),
                enabled: true,
                paused: "anna: moving house, until 2026-02-01".into(),
                next: vec![Due {
                    at: Moment::new(SAMPLE_NOW + 3_600_000_000, SAMPLE_NOW),
                    local: "Thu 2026-01-15 22:00 JST".into(),
                    frozen: "year-end".into(),
                }],
            }],
            manage: Offer::Possible,
            planned: vec![Planned {
                id: "at/shop/upgrade-store/01k9z1".into(),
                at: Moment::new(SAMPLE_NOW + 7_200_000_000, SAMPLE_NOW),
                actor: "anna".into(),
            }],
            at: "2h".into(),
            state: "failed".into(),
            actor: "anna".into(),
            runs: vec![Run {
                id: "01k9z1".into(),
                state: Badge::new(Tone::Bad, "failed"),
                reason: "step dump: it exited with 3".into(),
                actor: "anna <anna@example.com>".into(),
                at: minutes_ago(50),
                took: "3 min".into(),
            }]
            .into(),
            here: "01k9z9".into(),
            next: "01k9z1".into(),
        }
    }
}

#[derive(Template)]
#[template(path = "operation.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Operation,
}

pub fn render(frame: &Frame, page: &Operation) -> String {
    crate::pages::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Section, testing};

    #[test]
    fn an_operation_is_a_form_and_what_became_of_it() {
        let frame = Frame::sample(Section::Operations);
        let html = render(&frame, &Operation::sample());
        testing::check(&html);
        for wanted in [
            "one member at a time</li>",
            "does not match [a-z]+",
            "aria-invalid=\"true\"",
            "give that first",
            "Break the glass",
            "year-end: nobody is there",
            "exited with 3",
            "0 3 * * 1",
            "WL745",
            "asked for on the next page",
            "value=\"resume\"",
            "value=\"at/shop/upgrade-store/01k9z1\"",
        ] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        assert!(!html.contains("type=\"password\""));
        testing::check_hostile(&Operation::sample(), |page| render(&frame, page));
    }

    #[test]
    fn who_may_not_gets_the_reason_instead_of_a_button() {
        let frame = Frame::sample(Section::Operations);
        let page = Operation {
            depends: false,
            why_not: vec!["team sre is let, and you are not of it".into()],
            may_break_glass: false,
            runs: List::default(),
            schedules: Vec::new(),
            planned: Vec::new(),
            ..Operation::sample()
        };
        let html = render(&frame, &page);
        testing::check(&html);
        assert!(
            html.contains("you are not of it")
                && html.contains("value=\"run\" disabled")
                && !html.contains("Break the glass")
        );
        assert!(html.contains("No run is like this"));
    }
}
