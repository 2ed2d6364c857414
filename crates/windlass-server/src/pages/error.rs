//! What is shown instead of a page: not found, not allowed, broken.

use super::{Frame, link};
use askama::Template;

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct ErrorPage {
    /// The HTTP status that goes with it.
    pub status: u16,
    pub title: String,
    /// One sentence.
    pub summary: String,
    /// Why not, as the decision says it; empty when there is no more to say.
    pub because: Vec<String>,
    /// What was missing, for the page that explains it; empty when that is not what it is about.
    pub permission: String,
    /// What it is about, e.g. `shop` or `shop:aws/network[tokyo]`; empty for the server.
    pub subject: String,
    /// Finds this request in the server's log; empty when there is nothing to find.
    pub correlation: String,
}

impl ErrorPage {
    fn new(status: u16, title: &str, summary: impl Into<String>) -> Self {
        Self {
            status,
            title: title.into(),
            summary: summary.into(),
            because: Vec::new(),
            permission: String::new(),
            subject: String::new(),
            correlation: String::new(),
        }
    }

    /// Also for what this person may not see.
    pub fn not_found() -> Self {
        Self::new(404, "Not found", "There is nothing here, or nothing that you may see.")
    }

    /// `permission` about `subject` is missing, for these reasons.
    pub fn forbidden(permission: &str, subject: &str, because: Vec<String>) -> Self {
        let summary = match subject {
            "" => format!("This needs the permission {permission}."),
            _ => format!("This needs the permission {permission} for {subject}."),
        };
        let page = Self::new(403, "You may not do this", summary);
        Self { because, permission: permission.into(), subject: subject.into(), ..page }
    }

    /// Something broke; the details are in the log only.
    pub fn internal(correlation: &str) -> Self {
        let page = Self::new(500, "Something broke", "This is a mistake of the server, not yours. It is in its log.");
        Self { correlation: correlation.into(), ..page }
    }

    /// Any other refusal, e.g. of a form that was sent with a bad value (400, 409, 422) or too often (429).
    pub fn refused(status: u16, summary: impl Into<String>) -> Self {
        let title = match status {
            409 => "It has changed meanwhile",
            429 => "Too often",
            503 => "Not available at present",
            _ => "This cannot be done",
        };
        Self::new(status, title, summary)
    }

    pub fn sample() -> Self {
        let because = vec![
            "No grant gives you review.apply in production.".into(),
            "Grant `ledger` gives it for ledger/** only. Ask somebody of team sre.".into(),
        ];
        Self::forbidden("review.apply", "shop:aws/network[tokyo]", because)
    }

    pub fn sample_empty() -> Self {
        Self::not_found()
    }

    fn explain_href(&self) -> String {
        link::query("/access", &[("permission", &self.permission), ("subject", &self.subject)])
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a ErrorPage,
}

/// The whole page.
pub fn render(frame: &Frame, page: &ErrorPage) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_hostile;
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn an_error_says_what_why_and_where_to_go() {
        let (inside, outside) = (Frame::sample(Section::Outside), Frame::sample_outside());
        let check = |page: &ErrorPage, want: &str| {
            for frame in [&inside, &outside] {
                check_hostile(page, |page| render(frame, page));
                let html = render(frame, page);
                assert!(html.contains(want) && html.contains(&format!("Error {}", page.status)), "{html}");
            }
        };
        check(&ErrorPage::sample(), "Ask somebody of team sre.");
        check(&ErrorPage::sample(), "/access?permission=review.apply&#38;subject=shop%3Aaws%2Fnetwork%5Btokyo%5D");
        check(&ErrorPage::not_found(), "nothing that you may see");
        check(&ErrorPage::internal("01k9ccc"), "01k9ccc");
        check(&ErrorPage::refused(409, "The review has a newer version."), "The review has a newer version.");
    }
}
