//! One review: its text, who approved it and who is missing, what can be done with it, and its apply while it goes on.

mod live;
mod sample;
#[cfg(test)]
mod tests;

use super::Frame;
use super::parts::{self, Moment, Offer, rendered};
use askama::Template;
use windlass_model::review::Verdict;
use windlass_model::review::document::Document;

pub use live::{Bar, BarState, Deed, DeedKind, Gate, Live, Soak, Wave, WaveState};

/// The style of the review's text, to be served as `/assets/review.css`.
pub const STYLE: &str = windlass_render::html::STYLE;

/// What the page shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    pub id: String,
    /// The review as all views draw it.
    pub document: Document,
    /// As the store says, or `refused`.
    pub state: String,
    /// e.g. `Dev <dev@example.com> and 2 more`.
    pub authors: String,
    pub made: Moment,
    /// Oldest first.
    pub approvals: Vec<Given>,
    /// Approvals that are missing, one sentence each.
    pub missing: Vec<String>,
    pub refused: Option<Refusal>,
    /// The form sends `effect` and `commit`, those that were seen, and `reason`. `None` where no approval is asked for.
    pub approve: Option<Offer>,
    /// As `approve`, with a reason that is not empty.
    pub refuse: Option<Offer>,
    /// The form sends `effect`, `commit`, and `confirm` for each of [`Self::confirm`]. `None` once it was applied.
    pub apply: Option<Offer>,
    /// Instances that would be destroyed as a whole: each has to be confirmed.
    pub confirm: Vec<String>,
    /// Findings that deny it.
    pub waivable: Vec<Waivable>,
    /// Newest first.
    pub earlier: Vec<Earlier>,
    /// The apply that goes on, or the last one.
    pub live: Option<Live>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub who: String,
    pub at: Moment,
    pub reason: Option<String>,
    /// Why it does not count, e.g. `it was given for commit 3f3f3f3f3f3f`.
    pub not_counted: Option<String>,
}

impl Given {
    fn class(&self) -> &'static str {
        if self.not_counted.is_none() { "ok" } else { "warn" }
    }
    fn word(&self) -> &'static str {
        if self.not_counted.is_none() { "approved" } else { "approved something else" }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub who: String,
    pub at: Moment,
    pub reason: String,
}

/// The form sends `finding`, `reason` and `days`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waivable {
    /// Digits of the finding's fingerprint that are its own.
    pub id: String,
    pub message: String,
    /// e.g. `policy backups`.
    pub source: String,
    /// `None` for the change as a whole.
    pub instance: Option<String>,
    /// How long it may be waived.
    pub most_days: u32,
    pub waive: Offer,
}

impl Waivable {
    fn days(&self) -> u32 {
        self.most_days.min(7)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    pub id: String,
    pub commit: String,
    pub verdict: Verdict,
    pub approved: bool,
    pub made: Moment,
}

impl Review {
    fn state_class(&self) -> &'static str {
        super::reviews::state_class(&self.state)
    }
    fn headline(&self) -> String {
        windlass_render::html::headline(&self.document, None)
    }
    fn body(&self) -> String {
        windlass_render::html::body(&self.document)
    }
}

#[derive(Template)]
#[template(path = "review.html")]
struct ReviewPage<'a> {
    frame: &'a Frame,
    page: &'a Review,
}

pub fn render(frame: &Frame, page: &Review) -> String {
    rendered(&ReviewPage { frame, page })
}
