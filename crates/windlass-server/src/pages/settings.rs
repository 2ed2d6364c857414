//! Settings: what the server knows of repositories, teams and grants, tokens, workers, and how it is itself.

use super::common::{Badge, List, Moment, Offer, Tone, minutes_ago};
use super::{Frame, link};
use askama::Template;
use windlass_model::diagnostic::Diagnostic;

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Settings {
    pub repositories: Vec<Repository>,
    pub teams: Vec<Team>,
    pub grants: Vec<Grant>,
    pub tokens: Vec<Token>,
    /// Make a token of one's own.
    pub token_create: Offer,
    /// What a token can be limited to; those that its owner has.
    pub scopes: Vec<Scope>,
    /// A token that was just made: shown this once and stored nowhere.
    pub token_new: Option<String>,
    pub workers: Vec<Worker>,
    pub notifiers: Vec<Notifier>,
    pub health: Vec<Health>,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Repository {
    pub name: String,
    /// Without any credential.
    pub url: String,
    /// The protected branch.
    pub branch: String,
    /// The commit in force, short; empty before the first good one.
    pub commit: String,
    pub fetched: Option<Moment>,
    /// Why the last fetch failed.
    pub failure: Option<String>,
    /// The newest commit, short, when its definitions are bad.
    pub bad: Option<String>,
    pub stacks: usize,
    pub diagnostics: List<Diagnostic>,
    pub fetch: Offer,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Team {
    pub project: String,
    pub name: String,
    pub members: Vec<String>,
    /// File and line.
    pub place: String,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Grant {
    pub project: String,
    pub name: String,
    pub to: Vec<String>,
    /// A role, permissions, or both.
    pub gives: Vec<String>,
    /// What stacks and environments it is narrowed to; empty for all.
    pub only: Vec<String>,
    pub place: String,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Token {
    pub id: String,
    pub name: String,
    pub owner: String,
    pub scopes: Vec<String>,
    pub created: Moment,
    /// `None` for never.
    pub used: Option<Moment>,
    pub expires: Moment,
    pub expired: bool,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Scope {
    pub name: String,
    pub description: String,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Worker {
    pub name: String,
    pub labels: Vec<String>,
    pub version: String,
    pub state: Badge,
    pub seen: Moment,
    pub steps: Vec<Working>,
}

/// A step that a worker has under way.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Working {
    pub run: String,
    pub title: String,
    pub since: Moment,
}

/// Where messages go, without its addresses and secrets.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Notifier {
    pub project: String,
    pub name: String,
    /// `webhook`, `bot`, `email` or `signed`.
    pub channel: String,
    /// File and line.
    pub place: String,
    pub state: Badge,
    /// Messages that wait.
    pub queued: i64,
    pub sent: i64,
    pub given_up: i64,
    /// The last message that arrived.
    pub delivered: Option<Moment>,
    /// The last attempt that failed, and why.
    pub failed: Option<(Moment, String)>,
}

#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Health {
    pub name: String,
    pub state: Badge,
    pub detail: String,
}

/// For how many days a token can be made.
pub const TOKEN_DAYS: [u32; 4] = [7, 30, 90, 365];

impl Settings {
    pub fn sample() -> Self {
        let home = super::home::Home::sample();
        let diagnostics = home.broken.items.into_iter().next().map(|b| b.diagnostics).unwrap_or_default();
        let repository = |name: &str| Repository {
            name: name.into(),
            url: format!("https://git.example.com/example/{name}.git"),
            branch: "main".into(),
            commit: "9be01d3".into(),
            fetched: Some(minutes_ago(1)),
            failure: None,
            bad: None,
            stacks: 107,
            diagnostics: List::default(),
            fetch: Offer::Possible,
        };
        let token = |id: &str, name: &str, expires: i64| Token {
            id: id.into(),
            name: name.into(),
            owner: "anna@example.com".into(),
            scopes: vec!["project.read".into(), "review.create".into()],
            created: minutes_ago(60 * 24 * 80),
            used: (expires > 0).then(|| minutes_ago(12)),
            expires: minutes_ago(-expires * 60 * 24),
            expired: expires < 0,
        };
        Self {
            repositories: vec![
                Repository {
                    bad: Some("4f1c2aa".into()),
                    diagnostics,
                    failure: Some("the server did not answer within 30 s".into()),
                    ..repository("data")
                },
                repository("shop"),
            ],
            teams: vec![Team {
                project: "shop".into(),
                name: "sre".into(),
                members: vec!["github:example/sre".into(), "oidc-group:sre".into()],
                place: "windlass.hcl:9".into(),
            }],
            grants: vec![Grant {
                project: "shop".into(),
                name: "ledger".into(),
                to: vec!["team.ledger".into()],
                gives: vec!["developer".into(), "review.apply".into()],
                only: vec!["ledger/**".into(), "staging".into()],
                place: "windlass.hcl:14".into(),
            }],
            tokens: vec![token("01k9ttt1", "laptop", 10), token("01k9ttt2", "old script", -3)],
            token_create: Offer::Possible,
            scopes: vec![
                Scope { name: "project.read".into(), description: "See stacks, reviews, runs and logs.".into() },
                Scope { name: "review.create".into(), description: "Review a change.".into() },
            ],
            token_new: Some("wl_0123456789abcdef".into()),
            workers: vec![
                Worker {
                    name: "server-1".into(),
                    labels: vec!["linux".into(), "aws".into()],
                    version: "0.1.0".into(),
                    state: Badge::new(Tone::Ok, "ready"),
                    seen: minutes_ago(0),
                    steps: vec![Working {
                        run: "01k9yyyyyyyyyyyyyyyyyyyyy2".into(),
                        title: "plan aws/network[tokyo]".into(),
                        since: minutes_ago(2),
                    }],
                },
                Worker {
                    name: "big-machine".into(),
                    labels: Vec::new(),
                    version: "0.1.0".into(),
                    state: Badge::new(Tone::Bad, "lost"),
                    seen: minutes_ago(60),
                    steps: Vec::new(),
                },
            ],
            notifiers: vec![
                Notifier {
                    project: "shop".into(),
                    name: "ops".into(),
                    channel: "bot".into(),
                    place: "windlass.hcl:31".into(),
                    state: Badge::new(Tone::Bad, "fails"),
                    queued: 3,
                    sent: 240,
                    given_up: 1,
                    delivered: Some(minutes_ago(90)),
                    failed: Some((minutes_ago(2), "the channel answers 503".into())),
                },
                Notifier {
                    project: "shop".into(),
                    name: "mail".into(),
                    channel: "email".into(),
                    place: "windlass.hcl:38".into(),
                    state: Badge::new(Tone::Plain, "not used yet"),
                    queued: 0,
                    sent: 0,
                    given_up: 0,
                    delivered: None,
                    failed: None,
                },
            ],
            health: vec![
                Health { name: "database".into(), state: Badge::new(Tone::Ok, "ok"), detail: "SQLite, 1.2 ms".into() },
                Health {
                    name: "disk".into(),
                    state: Badge::new(Tone::Warn, "low"),
                    detail: "1.8 GB left for logs".into(),
                },
            ],
            version: "0.1.0".into(),
        }
    }

    pub fn sample_empty() -> Self {
        Self {
            repositories: Vec::new(),
            teams: Vec::new(),
            grants: Vec::new(),
            tokens: Vec::new(),
            token_create: Offer::Not("Your role here is viewer.".into()),
            scopes: Vec::new(),
            token_new: None,
            workers: Vec::new(),
            notifiers: Vec::new(),
            health: Vec::new(),
            version: "0.1.0".into(),
        }
    }
}

#[derive(Template)]
#[template(path = "settings.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Settings,
}

/// The whole page.
pub fn render(frame: &Frame, page: &Settings) -> String {
    super::rendered(&Page { frame, page })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_hostile;
    use super::super::{Frame, Section};
    use super::*;

    #[test]
    fn settings_tell_what_the_server_knows() {
        let frame = Frame::sample(Section::Settings);
        let check = |page: &Settings, wanted: &[&str], absent: &[&str]| {
            check_hostile(page, |page| render(&frame, page));
            let html = render(&frame, page);
            for want in wanted {
                assert!(html.contains(want), "{want}\n{html}");
            }
            for not in absent {
                assert!(!html.contains(not), "{not}\n{html}");
            }
        };
        let wanted = [
            "the server did not answer within 30 s",
            "did you mean `members`?",
            "oidc-group:sre",
            "only ledger/**, staging",
            "wl_0123456789abcdef",
            "expired",
            "plan aws/network[tokyo]",
            "1.8 GB left for logs",
            "the channel answers 503",
            "not used yet",
            "action=\"/settings/tokens/revoke\"",
        ];
        check(&Settings::sample(), &wanted, &[]);
        let wanted = ["No repository is followed", "No token", "Your role here is viewer.", "No worker", "No notifier"];
        check(&Settings::sample_empty(), &wanted, &["action=\"/settings/", "wl_"]);
    }
}
