//! What pages of reviews and runs share: times as people read them, offers of something to do, links from page to page.

use askama::Template;
use std::fmt;
use windlass_model::Micros;
use windlass_model::review::Verdict;
use windlass_model::risk;
use windlass_model::run::{RunState, StepState};

/// A point in time, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970, UTC.
    pub at: Micros,
    /// As seen from the time of the page, e.g. `3 min ago`, `in 12 min`.
    pub text: String,
}

impl Moment {
    pub fn new(at: Micros, now: Micros) -> Self {
        let distance = duration((now - at).abs());
        let text = match now - at {
            ago if ago.abs() < 1_000_000 => "now".to_owned(),
            ago if ago > 0 => format!("{distance} ago"),
            _ => format!("in {distance}"),
        };
        Self { at, text }
    }

    /// For the `datetime` attribute, e.g. `2026-11-21T09:30:05Z`.
    pub fn iso(&self) -> String {
        iso(self.at)
    }

    /// e.g. `2026-11-21 09:30:05 UTC`.
    pub fn full(&self) -> String {
        match jiff::Timestamp::from_microsecond(self.at) {
            Ok(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            Err(_) => format!("{} µs", self.at),
        }
    }
}

/// As a `<time>` element; the words change with each look at a page, the attributes do not.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = windlass_render::html::escape(&self.text);
        write!(f, "<time datetime=\"{}\" title=\"{}\">{text}</time>", self.iso(), self.full())
    }
}

// Escaped above.
impl askama::filters::HtmlSafe for Moment {}

pub(crate) fn iso(at: Micros) -> String {
    match jiff::Timestamp::from_microsecond(at) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => String::new(),
    }
}

/// Bytes: `640 B`, `12 kB`, `1.5 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// In its two largest units, e.g. `350 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d`.
pub fn duration(of: Micros) -> String {
    const SECOND: Micros = 1_000_000;
    let of = of.max(0);
    let seconds = of / SECOND;
    let pair = |large: Micros, unit: &str, small: Micros, rest: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {rest}"),
    };
    match seconds {
        0 => format!("{} ms", of / 1000),
        1..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// `1 step`, `2 steps`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The first twelve digits of a commit or digest.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Something that can be done here, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Its form posts to this address.
    Open { action: String },
    /// One sentence why it cannot be done now, or not by this person.
    Closed { why: String },
}

impl Offer {
    pub fn open(action: impl Into<String>) -> Self {
        Self::Open { action: action.into() }
    }
    pub fn closed(why: impl Into<String>) -> Self {
        Self::Closed { why: why.into() }
    }
}

/// Where the neighbours of a page of a long list are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paging {
    /// The beginning of the list; `None` on its first page.
    pub first: Option<String>,
    /// The entries after those that are shown.
    pub next: Option<String>,
}

/// One entry of a choice in a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Value in the address; empty for no limit.
    pub value: String,
    pub label: String,
    pub chosen: bool,
}

impl Choice {
    /// `any` first, then each of `values`.
    pub fn list(any: &str, values: &[&str], chosen: &str) -> Vec<Self> {
        let entry = |value: &str, label: &str| Self {
            value: value.to_owned(),
            label: label.replace('_', " "),
            chosen: value == chosen,
        };
        std::iter::once(entry("", any)).chain(values.iter().map(|v| entry(v, v))).collect()
    }
}

/// Classes of badges.
pub fn run_class(state: &RunState) -> &'static str {
    match state {
        RunState::Queued => "",
        RunState::Running => "info",
        RunState::Waiting => "wait",
        RunState::Succeeded => "ok",
        RunState::Failed | RunState::Abandoned => "bad",
        RunState::Cancelled => "warn",
    }
}

pub fn step_class(state: &StepState) -> &'static str {
    match state {
        StepState::Pending | StepState::Skipped => "",
        StepState::Running => "info",
        StepState::Waiting => "wait",
        StepState::Unknown | StepState::Failed => "bad",
        StepState::Succeeded => "ok",
        StepState::Cancelled => "warn",
    }
}

pub fn verdict_class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Nothing | Verdict::Ready => "ok",
        Verdict::NeedsApproval => "wait",
        Verdict::Denied | Verdict::Failed => "bad",
    }
}

pub fn verdict_label(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Nothing => "nothing to do",
        Verdict::Ready => "ready",
        Verdict::NeedsApproval => "needs approval",
        Verdict::Denied => "denied",
        Verdict::Failed => "failed",
    }
}

pub fn risk_class(level: &risk::Level) -> &'static str {
    match level {
        risk::Level::Low => "",
        risk::Level::Medium => "warn",
        risk::Level::High | risk::Level::Critical => "bad",
    }
}

/// One part of an address or of a link within a page; as `urlencode_strict` in templates and `encodeStep` in `log.js`.
pub fn encoded(part: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(part, &KEPT).to_string()
}

/// Address of a file of `assets/`.
pub fn asset(name: &str) -> String {
    super::assets::url(name)
}

/// A page as text. Characters that steer terminals or turn the direction of writing are made visible in all of it.
pub(crate) fn rendered(template: &impl Template) -> String {
    // Writing plain values to a string cannot fail.
    windlass_render::clean(&template.render().unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod check {
    /// Text that wants to be more than text.
    pub const HOSTILE: &str = "</script><img src=x onerror=alert(1)> \"' & \u{202e}gnp.exe \u{1b}[31mred";

    /// What holds for every page: the strict content policy, forms that are protected, controls that have names.
    pub fn page(html: &str) {
        let tags = tags(html);
        assert!(tags.iter().any(|t| t.starts_with("h1")), "no first heading: {html}");
        for tag in &tags {
            let name = tag.split([' ', '/']).next().unwrap();
            // Values of attributes left out: what stands in quotes is text.
            let bare: String = tag.split('"').step_by(2).collect();
            assert!(!bare.contains(" style="), "style in an attribute: {tag}");
            assert!(!bare.contains(" on"), "a script in an attribute: {tag}");
            assert!(name != "style", "a style sheet in the page");
            assert!(name != "script" || tag.contains(" src=\"/"), "a script in the page: {tag}");
            for address in [" href=\"", " action=\"", " src=\""].iter().filter_map(|a| tag.split_once(a)) {
                let address = address.1.split('"').next().unwrap();
                let inside = address.starts_with(['/', '#', '?']) && !address.starts_with("//");
                // To a forge, which is not told from where.
                let outside = name == "a" && address.starts_with("http") && tag.contains(" rel=\"noreferrer\"");
                assert!(inside || outside, "leads elsewhere: {tag}");
            }
        }
        let mut ids: Vec<&str> = tags.iter().filter_map(|t| attribute(t, "id")).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(all, ids.len(), "an id stands twice");
        for form in html.split("<form").skip(1) {
            let form = form.split("</form>").next().unwrap();
            let post = form.split('>').next().unwrap().contains("method=\"post\"");
            assert!(!post || form.contains("name=\"csrf\" value=\"token\""), "not protected: {form}");
        }
        for tag in &tags {
            let control = ["input", "select", "textarea"].contains(&tag.split(' ').next().unwrap());
            if !control || tag.contains("type=\"hidden\"") {
                continue;
            }
            let id = attribute(tag, "id").unwrap_or_else(|| panic!("a control without an id: {tag}"));
            assert!(html.contains(&format!("for=\"{id}\"")), "no label: {tag}");
        }
        for reference in ["aria-labelledby", "aria-describedby", "aria-controls", "for"] {
            for id in tags.iter().filter_map(|t| attribute(t, reference)) {
                assert!(ids.contains(&id), "{reference} names {id}, which is not there");
            }
        }
        balanced(&tags);
    }

    /// Start and end tags without their brackets.
    fn tags(html: &str) -> Vec<&str> {
        html.split('<').skip(1).map(|t| t.split('>').next().unwrap()).collect()
    }

    fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
        tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next())
    }

    fn balanced(tags: &[&str]) {
        const VOID: [&str; 6] = ["!doctype", "meta", "link", "input", "br", "option"];
        let mut open = Vec::new();
        for tag in tags {
            let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
            if VOID.contains(&name) || tag.ends_with('/') {
                continue;
            }
            match tag.strip_prefix('/') {
                Some(_) => assert_eq!(open.pop(), Some(name), "closed out of order"),
                None => open.push(name),
            }
        }
        assert!(open.is_empty(), "never closed: {open:?}");
    }

    /// A page made of hostile values shows them and does nothing with them.
    pub fn inert(html: &str) {
        page(html);
        assert!(html.contains("&#60;img src=x") || html.contains("&lt;img src=x"), "the value is not shown");
        assert!(!html.contains("<img"), "the value became an element");
        assert!(!html.contains(['\u{202e}', '\u{1b}']), "a character that steers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        #[track_caller]
        fn check(of: Micros, want: &str) {
            assert_eq!(duration(of), want);
        }
        check(-5, "0 ms");
        check(350_999, "350 ms");
        check(59_999_999, "59 s");
        check(60_000_000, "1 min");
        check(200_000_000, "3 min 20 s");
        check(7_500_000_000, "2 h 5 min");
        check(4 * 86_400_000_000, "4 d");
        check(100_000_000_000, "1 d 3 h");
    }

    #[test]
    fn a_moment_is_told_from_the_time_of_the_page() {
        let now = 1_763_715_005_000_000;
        #[track_caller]
        fn check(at: Micros, now: Micros, want: &str) {
            assert_eq!(Moment::new(at, now).text, want);
        }
        check(now, now, "now");
        check(now - 180_000_000, now, "3 min ago");
        check(now + 720_000_000, now, "in 12 min");
        assert_eq!(
            Moment::new(now, now).to_string(),
            "<time datetime=\"2025-11-21T08:50:05Z\" title=\"2025-11-21 08:50:05 UTC\">now</time>"
        );
        let never = Moment { at: Micros::MAX, text: "<b>".into() };
        assert_eq!(never.to_string(), format!("<time datetime=\"\" title=\"{} µs\">&lt;b&gt;</time>", Micros::MAX));
    }
}
