//! A terminal that wants a token: what it asks for, and whether it is to have it.

use super::Frame;
use super::common::{Moment, minutes_ago};
use askama::Template;

#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Terminal {
    /// As it was typed, or came with the link; empty before.
    pub code: String,
    /// What waits with this code.
    pub asked: Option<Asked>,
    /// Why nothing is shown for the code, one sentence.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Asked {
    /// The machine, as it calls itself.
    pub host: String,
    /// Where the request came from.
    pub address: String,
    /// Names of permissions; empty for all that its owner may.
    pub may: Vec<String>,
    /// Names of repositories; empty for all.
    pub only: Vec<String>,
    pub days: u32,
    /// Until when it waits.
    pub until: Moment,
}

impl Terminal {
    pub fn sample() -> Self {
        let asked = Asked {
            host: "build-7.example.com".into(),
            address: "198.51.100.7".into(),
            may: vec!["project.read".into(), "review.create".into()],
            only: vec!["shop".into()],
            days: 30,
            until: minutes_ago(-9),
        };
        Self { code: "BCDF-GHJK".into(), asked: Some(asked), problem: None }
    }

    /// Before a code was typed.
    pub fn sample_empty() -> Self {
        Self::default()
    }
}

#[derive(Template)]
#[template(path = "terminal.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Terminal,
}

/// The whole page.
pub fn render(frame: &Frame, page: &Terminal) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::Section;
    use super::super::testing::check_hostile;
    use super::*;

    #[test]
    fn what_is_asked_for_is_shown_before_it_is_given() {
        let frame = Frame::sample(Section::Settings);
        let check = |page: &Terminal, wanted: &[&str]| {
            check_hostile(page, |page| render(&frame, page));
            let html = render(&frame, page);
            wanted.iter().for_each(|text| assert!(html.contains(text), "{text}: {html}"));
        };
        let sample = Terminal::sample();
        check(&sample, &["BCDF-GHJK", "build-7.example.com", "198.51.100.7", "review.create", "shop", "30 days"]);
        let asked = Asked { may: Vec::new(), only: Vec::new(), days: 1, ..sample.asked.clone().unwrap() };
        check(&Terminal { asked: Some(asked), ..sample.clone() }, &["all that you may do", "1 day"]);
        check(&Terminal::sample_empty(), &["name=\"code\""]);
        let problem = Some("no terminal waits with this code".into());
        check(&Terminal { asked: None, problem, ..sample }, &["no terminal waits", "name=\"code\""]);
    }
}
