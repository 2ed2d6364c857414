//! What is asked before an operation begins that has a secret parameter, cannot be taken back, touches what is protected, is
//! planned by a checklist, or breaks the glass: all of it once more, and what has to be typed.

use crate::pages::{Frame, link, markdown};
use askama::Template;
use windlass_model::diagnostic::Diagnostic;

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Confirm {
    pub project: String,
    pub name: String,
    /// Empty where it has none.
    pub environment: String,
    /// Names and values of parameters, as the run would have them.
    pub parameters: Vec<(String, String)>,
    pub secrets: Vec<Secret>,
    /// What is sent as it was: names and values.
    pub hidden: Vec<(String, String)>,
    /// Steps that are passed over.
    pub skipped: Vec<String>,
    /// What has to be typed; empty for nothing.
    pub wanted: String,
    pub reason: String,
    pub breaks_glass: bool,
    /// What comes with the plan; empty where there is none.
    pub window: String,
    /// As Markdown, so the next.
    pub announcement: String,
    pub rollback: String,
    /// Items of its checklist, e.g. `before: Last night's backup is there`.
    pub checklist: Vec<String>,
    /// Why it could not begin.
    pub refused: Vec<Diagnostic>,
}

/// A parameter that is on no record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Secret {
    pub name: String,
    /// As Markdown.
    pub description: String,
    pub required: bool,
}

impl Confirm {
    fn href(&self) -> String {
        link::operation(&self.project, &self.name)
    }
    fn html(text: &str) -> String {
        markdown::html(text)
    }

    /// For tests.
    pub fn sample() -> Self {
        Self {
            project: "shop".into(),
            name: "upgrade-store".into(),
            environment: "production".into(),
            parameters: vec![("cluster".into(), "a".into()), ("members".into(), "one, two".into())],
            secrets: vec![Secret { name: "password".into(), description: "Of the *admin*.".into(), required: true }],
            hidden: vec![("p.cluster".into(), "a".into()), ("p.members".into(), "one".into())],
            skipped: vec!["dump".into()],
            wanted: "a".into(),
            reason: "OPS-12".into(),
            breaks_glass: false,
            window: "Mon, Tue 22:00–02:00 Asia/Tokyo".into(),
            announcement: "The store of **a** is upgraded.".into(),
            rollback: "Run `restore-store`.".into(),
            checklist: vec!["before: Last night's backup is there".into()],
            refused: vec![Diagnostic::error("WL742", "`upgrade-store` has to be confirmed").help("type `a`")],
        }
    }
}

#[derive(Template)]
#[template(path = "operation_confirm.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Confirm,
}

pub fn render(frame: &Frame, page: &Confirm) -> String {
    crate::pages::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Section, testing};

    #[test]
    fn what_is_about_to_happen_is_said_once_more() {
        let frame = Frame::sample(Section::Operations);
        let html = render(&frame, &Confirm::sample());
        testing::check(&html);
        for wanted in [
            "production",
            "one, two",
            "type=\"password\"",
            "Last night",
            "<code>restore-store</code>",
            "name=\"confirm\"",
        ] {
            assert!(html.contains(wanted), "{wanted}: {html}");
        }
        assert!(!html.contains("value=\"break_glass\""));
        let glass = render(&frame, &Confirm { breaks_glass: true, ..Confirm::sample() });
        testing::check(&glass);
        assert!(
            glass.contains("value=\"break_glass\"") && glass.contains("name=\"reason\" maxlength=\"500\" required")
        );
        testing::check_hostile(&Confirm::sample(), |page| render(&frame, page));
    }
}
