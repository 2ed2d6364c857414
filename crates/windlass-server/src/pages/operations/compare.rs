//! Two runs of operations side by side.

use crate::pages::common::{Badge, List, Tone};
use crate::pages::{Frame, link};
use askama::Template;

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Compare {
    pub before: Side,
    pub after: Side,
    /// Those with other values: the name, and both.
    pub parameters: Vec<(String, String, String)>,
    /// The operation is defined in the same words.
    pub same_definition: bool,
    /// Of very long runs the first that are otherwise.
    pub steps: List<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Side {
    pub run: String,
    pub operation: String,
    pub state: Badge,
    pub actor: String,
    /// Short.
    pub commit: String,
    pub took: String,
}

/// A step that one of them has, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Step {
    pub id: String,
    /// State and duration; `None` where that run has no such step.
    pub before: Option<(String, String)>,
    pub after: Option<(String, String)>,
    /// e.g. `12 s longer`; empty where it cannot be said.
    pub difference: String,
    /// It ended otherwise.
    pub is_other: bool,
}

impl Compare {
    /// For tests.
    pub fn sample() -> Self {
        let side = |run: &str, tone, state: &str| Side {
            run: run.into(),
            operation: "upgrade-store".into(),
            state: Badge::new(tone, state),
            actor: "anna <anna@example.com>".into(),
            commit: "0123456789ab".into(),
            took: "3 min".into(),
        };
        let told = |state: &str, took: &str| Some((state.to_owned(), took.to_owned()));
        Self {
            before: side("01k9x1", Tone::Ok, "succeeded"),
            after: side("01k9z1", Tone::Bad, "failed"),
            parameters: vec![("version".into(), "4.2".into(), String::new())],
            same_definition: false,
            steps: vec![
                Step {
                    id: "dump".into(),
                    before: told("succeeded", "10 s"),
                    after: told("failed", "22 s"),
                    difference: "12 s longer".into(),
                    is_other: true,
                },
                Step {
                    id: "check".into(),
                    before: None,
                    after: told("skipped", ""),
                    difference: String::new(),
                    is_other: false,
                },
            ]
            .into(),
        }
    }
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Compare,
}

pub fn render(frame: &Frame, page: &Compare) -> String {
    crate::pages::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Section, testing};

    #[test]
    fn what_is_different_is_said() {
        let frame = Frame::sample(Section::Runs);
        let html = render(&frame, &Compare::sample());
        testing::check(&html);
        for wanted in ["4.2", "12 s longer", "in other words", "no such step", "upgrade-store"] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        let same = Compare { parameters: Vec::new(), same_definition: true, ..Compare::sample() };
        assert!(render(&frame, &same).contains("The same parameters"));
        testing::check_hostile(&Compare::sample(), |page| render(&frame, page));
    }
}
