//! What the page of a run has besides where it is one of an operation.

use crate::pages::link;
use crate::pages::parts::{Moment, Offer, Paging};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub project: String,
    pub name: String,
    /// Empty where it has none.
    pub environment: String,
    /// Names and values.
    pub parameters: Vec<(String, String)>,
    /// Names of secret parameters that were given; their values are nowhere.
    pub secrets: Vec<String>,
    /// What made it begin, one sentence.
    pub origin: String,
    /// The run that it goes on from, or does once more.
    pub before: Option<String>,
    /// Why somebody began it; empty where nobody said.
    pub reason: String,
    /// The commit of its definition, short.
    pub commit: String,
    pub broke_glass: bool,
    /// Steps that were passed over, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Approvals and questions.
    pub asks: Vec<Ask>,
    pub checklist: Option<Checklist>,
    /// Going on where it failed; `None` where there is nothing to go on with. Its form sends `p.NAME` for each secret, and `reason`.
    pub go_on: Option<Offer>,
    /// It has ended: another one with the same parameters can be asked for.
    pub has_ended: bool,
    /// The run of it before this one, to compare it with.
    pub earlier: Option<String>,
    pub artefacts: Artefacts,
}

/// Files that its steps left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artefacts {
    /// By step and name; of many, one page of them.
    pub rows: Vec<Artefact>,
    /// Why they cannot be downloaded; `None` where they can.
    pub closed: Option<String>,
    pub paging: Paging,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    pub id: String,
    pub step: String,
    pub name: String,
    pub attempt: u32,
    /// Bytes.
    pub size: u64,
    pub at: Moment,
    /// Why it is not there any more.
    pub removed: Option<String>,
}

impl Artefacts {
    pub(super) fn by_step(&self) -> Vec<(&str, &[Artefact])> {
        self.rows.chunk_by(|a, b| a.step == b.step).map(|files| (files[0].step.as_str(), files)).collect()
    }
}

/// What is asked of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub step: String,
    pub title: String,
    /// For whom it waits and what it is about, one sentence.
    pub told: String,
    /// Values and what stands on their buttons; none where any text is an answer.
    pub choices: Vec<(String, String)>,
    /// Where it is answered; `None` when it does not ask any more, or not yet.
    pub offer: Option<Offer>,
    pub answers: Vec<Answer>,
}

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub actor: String,
    pub value: String,
    pub reason: String,
    pub at: Moment,
}

/// What makes the run a planned change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checklist {
    /// Empty where it may begin at any time.
    pub window: String,
    /// As Markdown, so the next; empty where there is none.
    pub announcement: String,
    pub rollback: String,
    /// Before, during and after.
    pub phases: Vec<(&'static str, Vec<Item>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// As Markdown.
    pub text: String,
    /// A program decides it.
    pub by_itself: bool,
    /// The state of its step, in words.
    pub state: String,
    pub class: &'static str,
    /// Who said so last, or what the program said.
    pub told: String,
    pub at: Option<Moment>,
    /// The step, and where it is ticked: while that can be done.
    pub tick: Option<(String, Offer)>,
}

impl Operation {
    pub(super) fn href(&self) -> String {
        link::operation(&self.project, &self.name)
    }
    pub(super) fn repeat(&self, run: &str) -> String {
        link::query(&self.href(), &[("repeats", run)])
    }
    pub(super) fn compare(&self, run: &str, with: &str) -> String {
        link::compare(with, run)
    }

    /// For tests.
    pub fn sample() -> Self {
        let now = crate::pages::common::SAMPLE_NOW;
        let answer = |actor: &str, value: &str| Answer {
            actor: actor.into(),
            value: value.into(),
            reason: "looked at it".into(),
            at: Moment::new(now, now),
        };
        let item = |text: &str, state: &str| Item {
            text: text.into(),
            by_itself: false,
            state: state.into(),
            class: "wait",
            told: String::new(),
            at: None,
            tick: None,
        };
        let open = Offer::open("/runs/01k/answer");
        let artefact = |step: &str, name: &str, attempt: u32, removed: Option<&str>| Artefact {
            id: "f1".into(),
            step: step.into(),
            name: name.into(),
            attempt,
            size: 4200,
            at: Moment::new(now, now),
            removed: removed.map(str::to_owned),
        };
        Self {
            project: "shop".into(),
            name: "upgrade-store".into(),
            environment: "production".into(),
            parameters: vec![("cluster".into(), "a".into())],
            secrets: vec!["password".into()],
            origin: "the schedule nightly".into(),
            before: Some("01k9y1".into()),
            reason: "OPS-12".into(),
            commit: "0123456789ab".into(),
            broke_glass: true,
            skipped: vec![("dump".into(), "was done by hand".into())],
            asks: vec![
                Ask {
                    step: "approve".into(),
                    title: "Approvals".into(),
                    told: "waits for 1 approval of sre, has 0".into(),
                    choices: vec![("approve".into(), "Approve".into()), ("refuse".into(), "Refuse".into())],
                    offer: Some(open.clone()),
                    answers: vec![answer("Bob <bob@example.com>", "approve")],
                },
                Ask {
                    step: "which".into(),
                    title: "Which one?".into(),
                    told: "waits for an answer".into(),
                    choices: Vec::new(),
                    offer: Some(open.clone()),
                    answers: Vec::new(),
                },
                Ask {
                    step: "later".into(),
                    title: "Go on?".into(),
                    told: String::new(),
                    choices: Vec::new(),
                    offer: Some(Offer::closed("it asks team sre")),
                    answers: Vec::new(),
                },
            ],
            checklist: Some(Checklist {
                window: "Mon 22:00–02:00 Asia/Tokyo".into(),
                announcement: "The store of **a** is upgraded.".into(),
                rollback: "Run `restore-store`.".into(),
                phases: vec![
                    (
                        "Before",
                        vec![
                            Item { tick: Some(("before:told".into(), open)), ..item("Support was *told*", "waiting") },
                            Item {
                                by_itself: true,
                                told: "it exited with 0".into(),
                                ..item("A backup is there", "done")
                            },
                        ],
                    ),
                    ("After", vec![item("No alerts", "pending")]),
                ],
            }),
            go_on: Some(Offer::open("/runs/01k/go-on")),
            has_ended: true,
            earlier: Some("01k9x1".into()),
            artefacts: Artefacts {
                rows: vec![
                    artefact("dump", "out/dump.sql", 1, None),
                    artefact("dump", "out/<b>.log", 2, None),
                    artefact(
                        "member[a]/stop",
                        "told.txt",
                        1,
                        Some("It was removed on 2026-11-21: files are kept for 1 day."),
                    ),
                ],
                closed: None,
                paging: Paging { first: None, next: Some("/runs/01k?artefacts=f1".into()) },
            },
        }
    }
}
