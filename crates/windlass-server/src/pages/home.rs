//! Home: what needs the person who is signed in.

use super::common::{List, Moment, minutes_ago};
use super::{Frame, link};
use askama::Template;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::risk::Level;

/// Everything that waits for somebody, worst first within each list.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Home {
    /// Teams that this person belongs to, e.g. `sre of shop`.
    pub teams: Vec<String>,
    /// Reviews whose approval this person may give.
    pub approvals: List<Approval>,
    /// Runs of operations that ask this person: an approval, an answer, an item of a checklist.
    pub asked: List<Waiting>,
    pub quarantines: List<Quarantine>,
    pub failures: List<Failure>,
    pub broken: List<Broken>,
    pub waiting: List<Waiting>,
    pub drift: List<Drifted>,
    /// Changes of a forge that were merged and are not applied.
    pub merged: List<Unapplied>,
    /// Reviews of commits that were merged without a change, and were never applied.
    pub unapplied: List<Unapplied>,
    /// How many stacks are known; with none the page says how to begin.
    pub stacks: usize,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Approval {
    pub project: String,
    pub review: String,
    /// e.g. `bigger-database against main`.
    pub title: String,
    pub author: String,
    /// What it would do, e.g. `1 to replace, 3 to update in 2 stacks`.
    pub effect: String,
    pub risk: Level,
    /// What is missing, e.g. `1 of 2 approvals of team sre for production`.
    pub needs: String,
    pub since: Moment,
}

/// A stack that an apply left in a state that nobody has looked at.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Quarantine {
    pub project: String,
    pub stack: String,
    /// The instance as it is written, e.g. `aws/network[tokyo]`.
    pub instance: String,
    /// What happened, one sentence.
    pub because: String,
    pub since: Moment,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Failure {
    pub project: String,
    pub run: String,
    pub kind: String,
    pub title: String,
    pub actor: String,
    pub because: String,
    pub at: Moment,
}

/// A repository whose newest commit has bad definitions; the last good ones are still in force.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Broken {
    pub project: String,
    /// The newest commit, short.
    pub commit: String,
    /// The last good commit, short; empty when there was none.
    pub good: String,
    pub diagnostics: List<Diagnostic>,
    pub since: Moment,
}

/// A run that waits.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Waiting {
    pub project: String,
    pub run: String,
    pub title: String,
    /// Why it waits, one sentence.
    pub because: String,
    pub since: Moment,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Drifted {
    pub project: String,
    pub stack: String,
    pub instance: String,
    /// e.g. `2 changed by hand, 1 gone`.
    pub what: String,
    pub since: Moment,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Unapplied {
    pub project: String,
    /// Its review; `None` of a change that was not planned.
    pub review: Option<String>,
    pub title: String,
    /// What it would do, or why it is not applied.
    pub says: String,
    /// When it was merged.
    pub since: Moment,
}

impl Home {
    /// How many things wait.
    pub fn total(&self) -> usize {
        self.approvals.total
            + self.asked.total
            + self.quarantines.total
            + self.failures.total
            + self.broken.total
            + self.waiting.total
            + self.drift.total
            + self.merged.total
            + self.unapplied.total
    }

    pub fn sample() -> Self {
        let file: std::sync::Arc<str> = "windlass.hcl".into();
        let text = "project \"shop\" {}\nteam \"sre\" { member = [] }\n";
        let bad = Diagnostic::error("WL103", "team \"sre\" has no attribute \"member\"")
            .at_source(Span::of(&file, text, 32, 38), text, "here")
            .help("did you mean `members`?");
        Self {
            teams: vec!["sre of shop".into(), "ledger of data".into()],
            asked: vec![Waiting {
                project: "shop".into(),
                run: "01k9z9".into(),
                title: "upgrade-store".into(),
                because: "waits for an answer to: Which way?".into(),
                since: minutes_ago(4),
            }]
            .into(),
            approvals: List {
                items: vec![
                    Approval {
                        project: "shop".into(),
                        review: "01k9zzzzzzzzzzzzzzzzzzzzz1".into(),
                        title: "bigger-database against main".into(),
                        author: "Bob <bob@example.com>".into(),
                        effect: "1 to replace, 3 to update in 2 stacks".into(),
                        risk: Level::Critical,
                        needs: "1 of 2 approvals of team sre for production".into(),
                        since: minutes_ago(42),
                    },
                    Approval {
                        project: "data".into(),
                        review: "01k9zzzzzzzzzzzzzzzzzzzzz2".into(),
                        title: "tags against main".into(),
                        author: "carol@example.com".into(),
                        effect: "12 to update in 1 stack".into(),
                        risk: Level::Low,
                        needs: "1 approval of anybody but its author".into(),
                        since: minutes_ago(300),
                    },
                ],
                total: 5,
            },
            quarantines: vec![Quarantine {
                project: "shop".into(),
                stack: "aws/network".into(),
                instance: "aws/network[tokyo]".into(),
                because: "the apply was killed while aws_nat_gateway.main was being created".into(),
                since: minutes_ago(15),
            }]
            .into(),
            failures: vec![Failure {
                project: "shop".into(),
                run: "01k9yyyyyyyyyyyyyyyyyyyyy1".into(),
                kind: "apply".into(),
                title: "bigger-cache: 3 stacks".into(),
                actor: "carol@example.com".into(),
                because: "aws/cache: InsufficientCacheClusterCapacity".into(),
                at: minutes_ago(90),
            }]
            .into(),
            broken: vec![Broken {
                project: "data".into(),
                commit: "4f1c2aa".into(),
                good: "9be01d3".into(),
                diagnostics: vec![bad].into(),
                since: minutes_ago(7),
            }]
            .into(),
            waiting: vec![Waiting {
                project: "shop".into(),
                run: "01k9yyyyyyyyyyyyyyyyyyyyy2".into(),
                title: "new-subnet: 2 stacks".into(),
                because:
                    "The plan of aws/dns differs from what was approved: 1 more to update. It waits for a new approval."
                        .into(),
                since: minutes_ago(20),
            }]
            .into(),
            drift: vec![Drifted {
                project: "shop".into(),
                stack: "aws/iam".into(),
                instance: "aws/iam".into(),
                what: "2 changed by hand".into(),
                since: minutes_ago(60 * 30),
            }]
            .into(),
            merged: vec![Unapplied {
                project: "shop".into(),
                review: Some("01k9zzzzzzzzzzzzzzzzzzzzz4".into()),
                title: "14 A bigger database".into(),
                says: "Its apply stopped: `windlass apply` tries again".into(),
                since: minutes_ago(60 * 5),
            }]
            .into(),
            unapplied: vec![Unapplied {
                project: "data".into(),
                review: Some("01k9zzzzzzzzzzzzzzzzzzzzz3".into()),
                title: "retention against main".into(),
                says: "1 to update in 1 stack".into(),
                since: minutes_ago(60 * 72),
            }]
            .into(),
            stacks: 214,
        }
    }

    /// Nothing is known yet.
    pub fn sample_empty() -> Self {
        Self::default()
    }

    /// Nothing waits.
    pub fn sample_calm() -> Self {
        Self { stacks: 214, ..Self::default() }
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Home,
}

/// The whole page.
pub fn render(frame: &Frame, page: &Home) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, check_hostile};
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn what_needs_somebody_is_listed_with_its_reason() {
        let frame = Frame::sample(Section::Home);
        let html = render(&frame, &Home::sample());
        check_hostile(&Home::sample(), |page| render(&frame, page));
        for want in [
            "13 things need somebody",
            "Operations that ask you",
            "1 of 2 approvals of team sre for production",
            "critical risk",
            "3 more",
            "the apply was killed while aws_nat_gateway.main was being created",
            "It waits for a new approval.",
            "/stacks/shop/aws/network",
            "did you mean `members`?",
        ] {
            assert!(html.contains(want), "{want}\n{html}");
        }
    }

    #[test]
    fn with_nothing_to_do_it_says_so_and_what_comes_first() {
        let frame = Frame::sample(Section::Home);
        let check = |page: &Home, want: &str| {
            let html = render(&frame, page);
            check(&html);
            assert!(html.contains(want) && !html.contains("<section"), "{html}");
        };
        check(&Home::sample_calm(), "All is well: nothing needs you.");
        check(&Home::sample_empty(), "No repository is followed yet");
    }
}
