//! What is shown instead of a page: not found, not allowed, broken.

use super::{Frame, link};
use askama::Template;
use windlass_app::error::{AppError, ErrorKind};
use windlass_model::access::Permission;
use windlass_model::diagnostic::Diagnostic;

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct ErrorPage {
    /// The HTTP status that goes with it.
    pub status: u16,
    pub title: String,
    /// One sentence.
    pub summary: String,
    /// The diagnostic's, e.g. `WL612`; empty where there is none.
    pub code: String,
    /// Why not, as the decision says it; empty when there is no more to say.
    pub because: Vec<String>,
    /// What was missing, for the page that explains it; empty when that is not what it is about.
    pub permission: String,
    /// What it is about, e.g. `shop` or `shop:aws/network[tokyo]`; empty for the server.
    pub subject: String,
    /// Finds this request in the server's log; empty when there is nothing to find.
    pub correlation: String,
    /// Everything that is known, where that is more than the sentence.
    pub diagnostics: Vec<Diagnostic>,
    /// The form that was sent, to be mended and sent again.
    pub again: Option<Again>,
}

/// A form with what was typed into it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Again {
    /// Where it was sent to.
    pub action: String,
    /// Names and values; what people type can be changed.
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Field {
    pub name: String,
    pub value: String,
    /// What the field is for; empty for one that nobody typed.
    pub label: String,
}

impl ErrorPage {
    fn new(status: u16, title: &str, summary: impl Into<String>) -> Self {
        Self {
            status,
            title: title.into(),
            summary: summary.into(),
            code: String::new(),
            because: Vec::new(),
            permission: String::new(),
            subject: String::new(),
            correlation: String::new(),
            diagnostics: Vec::new(),
            again: None,
        }
    }

    /// What a use case answered.
    pub fn of(error: &AppError, correlation: &str) -> Self {
        let first = error.diagnostics.first();
        let summary = first.map_or("", |diagnostic| diagnostic.summary.as_str());
        let status = crate::problem::status(error.kind).as_u16();
        let code = first.map_or_else(String::new, |diagnostic| diagnostic.code.clone());
        let page = match error.kind {
            ErrorKind::NotFound => Self { diagnostics: error.diagnostics.clone(), ..Self::not_found() },
            ErrorKind::Internal => Self::internal(correlation),
            ErrorKind::Forbidden => {
                let because = first.into_iter().flat_map(|one| one.detail.lines()).map(str::to_owned).collect();
                // The sentence names the permission; the page that explains it is asked by that name.
                let named = |one: &&Permission| summary.contains(&format!(": {one} on "));
                let permission = Permission::ALL.iter().find(named).map(ToString::to_string).unwrap_or_default();
                Self { because, permission, ..Self::new(status, "You may not do this", summary) }
            }
            _ => Self { diagnostics: error.diagnostics.clone(), ..Self::refused(status, summary) },
        };
        Self { code, ..page }
    }

    /// With the form that was sent to `action`, so that nothing that was typed is lost.
    #[must_use]
    pub fn again(self, action: String, fields: Vec<(String, String)>) -> Self {
        let label = |name: &str| match name {
            "reason" => "Reason",
            "name" => "What it is for",
            "days" => "For how many days",
            _ => "",
        };
        let field = |(name, value): (String, String)| Field { label: label(&name).to_owned(), name, value };
        // Nothing that is typed helps somebody who may not, or what is not there.
        let again = !matches!(self.status, 403 | 404);
        let fields = fields.into_iter().map(field).collect();
        Self { again: again.then_some(Again { action, fields }), ..self }
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
        let typed =
            [("reason", "it is \"urgent\""), ("lock", "stack:aws/db")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let again = ErrorPage::refused(400, "Not now.").again("/actions/unlock".into(), typed.to_vec());
        // Where it is sent to is an address of ours, so the hostile page has none.
        let html = render(&inside, &again);
        super::super::testing::check(&html);
        assert!(html.contains("value=\"it is &#34;urgent&#34;\""), "{html}");
        let refused = ErrorPage::sample().again("/actions/unlock".into(), typed.to_vec());
        assert_eq!(refused.again, None);
    }
}
