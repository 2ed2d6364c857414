//! Sign-in: the providers that can be chosen, and what went wrong with the last try.

use super::Frame;
use askama::Template;

/// Why the page is shown again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Problem {
    /// The one-time link was used or is too old.
    LinkExpired,
    /// The session ended.
    SessionEnded,
    /// Somebody signed out.
    SignedOut,
    /// Too many tries; again after so many seconds.
    TooOften(u64),
    /// What the provider answered, one sentence.
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Provider {
    /// As in the settings of the server; sent as `provider`.
    pub id: String,
    /// As people call it, e.g. `GitHub`.
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct SignIn {
    /// With none of them only the one-time link of the server's own terminal leads in.
    pub providers: Vec<Provider>,
    /// Where to go afterwards, a path of this server; sent as `next`.
    pub next: String,
    pub problem: Option<Problem>,
}

impl SignIn {
    pub fn sample() -> Self {
        Self {
            providers: vec![
                Provider { id: "company".into(), name: "Example SSO".into() },
                Provider { id: "github".into(), name: "GitHub".into() },
            ],
            next: "/reviews/01k9zzzzzzzzzzzzzzzzzzzzz1".into(),
            problem: Some(Problem::Refused("the provider answered: access_denied".into())),
        }
    }

    /// The one-time link of a server without providers was used before.
    pub fn sample_empty() -> Self {
        Self { problem: Some(Problem::LinkExpired), ..Self::default() }
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a SignIn,
}

/// The whole page.
pub fn render(frame: &Frame, page: &SignIn) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_hostile;
    use super::*;

    #[test]
    fn providers_are_buttons_and_problems_are_sentences() {
        let frame = Frame::sample_outside();
        let check = |page: &SignIn, want: &str| {
            check_hostile(page, |page| render(&frame, page));
            let html = render(&frame, page);
            assert!(html.contains(want), "{html}");
            assert!(!html.contains("Sign out"));
        };
        check(&SignIn::sample(), "Continue with Example SSO");
        check(&SignIn::sample(), "access_denied");
        check(&SignIn::sample_empty(), "This link was used already or is too old.");
        let with = |problem| SignIn { problem: Some(problem), ..SignIn::sample() };
        check(&with(Problem::TooOften(30)), "Try again in 30 seconds.");
        check(&with(Problem::SessionEnded), "Your session has ended.");
        check(&with(Problem::SignedOut), "You are signed out.");
    }
}
