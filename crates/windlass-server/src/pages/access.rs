//! "Why may I, or not?": the answer to one question about a permission, and what each role gives.

use super::Frame;
use askama::Template;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Access {
    pub question: Question,
    /// `None` before a question was asked.
    pub answer: Option<Answer>,
    pub permissions: Vec<Permission>,
    /// Names of the roles, least first: the columns of the table.
    pub roles: Vec<String>,
    /// Whether the asker may ask about others.
    pub about_others: bool,
}

/// As in the address: `actor`, `permission`, `subject`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Question {
    /// An identity, e.g. `email:bob@example.com`; empty for the asker.
    pub actor: String,
    pub permission: String,
    /// e.g. `shop` or `shop:aws/network[tokyo]`; empty for the server.
    pub subject: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Answer {
    pub allowed: bool,
    /// Sentences, the deciding one first.
    pub because: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Permission {
    pub name: String,
    pub description: String,
    /// What it is given for: `server`, `repository` or `stacks`.
    pub scope: String,
    /// For each role whether it gives this.
    pub roles: Vec<bool>,
}

impl Access {
    pub fn sample() -> Self {
        let permission = |name: &str, description: &str, scope: &str, from: usize| Permission {
            name: name.into(),
            description: description.into(),
            scope: scope.into(),
            roles: (0..4).map(|role| role >= from).collect(),
        };
        Self {
            question: Question {
                actor: "email:bob@example.com".into(),
                permission: "review.apply".into(),
                subject: "shop:aws/network[tokyo]".into(),
            },
            answer: Some(Answer {
                allowed: false,
                because: vec![
                    "No grant gives email:bob@example.com review.apply for aws/network[tokyo].".into(),
                    "Grant `ledger` (windlass.hcl:14) gives it for ledger/** only.".into(),
                ],
            }),
            permissions: vec![
                permission("project.read", "See stacks, reviews, runs and logs of a repository.", "repository", 0),
                permission("review.create", "Review a change.", "repository", 1),
                permission("review.apply", "Apply a reviewed change.", "stacks", 2),
                permission("server.manage", "Change the server's settings.", "server", 3),
            ],
            roles: ["viewer", "developer", "operator", "admin"].map(String::from).to_vec(),
            about_others: true,
        }
    }

    /// Before a question was asked, by somebody who may ask about themselves only.
    pub fn sample_empty() -> Self {
        Self { question: Question::default(), answer: None, about_others: false, ..Self::sample() }
    }
}

#[derive(Template)]
#[template(path = "access.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Access,
}

/// The whole page.
pub fn render(frame: &Frame, page: &Access) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_hostile;
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn an_answer_has_its_reasons() {
        let frame = Frame::sample(Section::Settings);
        let check = |page: &Access, want: &str, absent: &str| {
            check_hostile(page, |page| render(&frame, page));
            let html = render(&frame, page);
            assert!(html.contains(want) && !html.contains(absent), "{html}");
        };
        check(&Access::sample(), "gives it for ledger/** only.", "class=\"notice ok\"");
        let mut allowed = Access::sample();
        allowed.answer = Some(Answer { allowed: true, because: vec!["Grant `sre` gives it.".into()] });
        check(&allowed, "class=\"notice ok\"", "class=\"notice bad\"");
        check(&Access::sample_empty(), "server.manage", "name=\"actor\"");
    }
}
