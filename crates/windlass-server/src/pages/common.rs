//! What several pages show: points in time, badges, lists that were cut, and how one goes on in a long list.

use windlass_model::Micros;

/// A point in time as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Moment {
    /// Microseconds since 1970, UTC.
    pub at: Micros,
    /// How far that is from now, e.g. `3 min ago`.
    pub text: String,
}

impl Moment {
    /// `at` seen from `now`, both microseconds since 1970.
    pub fn new(at: Micros, now: Micros) -> Self {
        let seconds = now.saturating_sub(at) / 1_000_000;
        let (number, unit) = match seconds.unsigned_abs() {
            n @ 0..60 => (n, "s"),
            n @ 60..3_600 => (n / 60, "min"),
            n @ 3_600..172_800 => (n / 3_600, "h"),
            n => (n / 86_400, "days"),
        };
        let text = match seconds {
            -4..=4 => "now".into(),
            5.. => format!("{number} {unit} ago"),
            _ => format!("in {number} {unit}"),
        };
        Self { at, text }
    }

    /// RFC 3339 in UTC; empty for a time that no calendar knows.
    pub fn iso(&self) -> String {
        jiff::Timestamp::from_microsecond(self.at).map(|t| format!("{t:.0}")).unwrap_or_default()
    }
}

/// How a badge or a box is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Tone {
    Plain,
    Info,
    Ok,
    Warn,
    Bad,
    Wait,
}

impl Tone {
    /// The class of the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Info => "info",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Wait => "wait",
        }
    }
}

/// A word or two that say the state of something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct Badge {
    pub tone: Tone,
    pub text: String,
}

impl Badge {
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }

    /// How risky a change is.
    pub fn risk(level: windlass_model::risk::Level) -> Self {
        use windlass_model::risk::Level;
        let tone = match level {
            Level::Low => Tone::Ok,
            Level::Medium => Tone::Warn,
            Level::High | Level::Critical => Tone::Bad,
        };
        Self::new(tone, format!("{} risk", level.as_str()))
    }
}

/// Whether something can be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub enum Offer {
    Possible,
    /// Why not, one sentence; shown in the place of the button.
    Not(String),
}

/// The first items of a list, and how many there are in all.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize, serde::Deserialize))]
pub struct List<T> {
    pub items: Vec<T>,
    pub total: usize,
}

impl<T> List<T> {
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
    /// How many are not shown.
    pub fn more(&self) -> usize {
        self.total.saturating_sub(self.items.len())
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

/// All of them.
impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        Self { total: items.len(), items }
    }
}

/// Where the other pages of a list are. A list is read by cursor: there are no numbers of pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// `None` on the first page.
    pub first: Option<String>,
    /// `None` on the last page.
    pub next: Option<String>,
}

impl Pages {
    /// Pages of the list at `path` with the choices `pairs`: `here` and `next` are cursors, empty on the first and the
    /// last page.
    pub fn new(path: &str, pairs: &[(&str, &str)], here: &str, next: &str) -> Self {
        let with = |cursor| {
            let mut pairs = pairs.to_vec();
            pairs.push(("after", cursor));
            super::link::query(path, &pairs)
        };
        Self { first: (!here.is_empty()).then(|| with("")), next: (!next.is_empty()).then(|| with(next)) }
    }
}

/// `1 stack`, `2 stacks`.
pub fn count(number: impl std::borrow::Borrow<usize>, noun: &str) -> String {
    let number = number.borrow();
    if *number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The present of all samples: 2026-01-15 12:00 UTC.
pub(crate) const SAMPLE_NOW: Micros = 1_768_478_400_000_000;

/// A moment of a sample, so many minutes before its present.
pub(crate) fn minutes_ago(minutes: i64) -> Moment {
    Moment::new(SAMPLE_NOW - minutes * 60_000_000, SAMPLE_NOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_a_distance() {
        let check = |seconds: i64, want: &str| {
            let moment = Moment::new(SAMPLE_NOW - seconds * 1_000_000, SAMPLE_NOW);
            assert_eq!(moment.text, want);
        };
        check(0, "now");
        check(-4, "now");
        check(5, "5 s ago");
        check(60, "1 min ago");
        check(7_200, "2 h ago");
        check(-90, "in 1 min");
        check(86_400 * 2, "2 days ago");
        assert_eq!(Moment::new(SAMPLE_NOW, 0).iso(), "2026-01-15T12:00:00Z");
        assert_eq!(Moment::new(i64::MAX, 0).iso(), "");
        assert_eq!(Moment::new(i64::MIN, i64::MAX).text, "106751991 days ago");
    }

    #[test]
    fn a_list_goes_on_by_cursor() {
        let check = |here: &str, next: &str, want: (Option<&str>, Option<&str>)| {
            let pages = Pages::new("/runs", &[("state", "failed"), ("q", "")], here, next);
            assert_eq!((pages.first.as_deref(), pages.next.as_deref()), want);
        };
        check("", "", (None, None));
        check("", "a/b", (None, Some("/runs?state=failed&after=a%2Fb")));
        check("x", "", (Some("/runs?state=failed"), None));
    }
}
