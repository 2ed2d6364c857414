//! What a diagnostic's code means, as `windlass explain` has it; and the list of all codes.

use super::Frame;
use askama::Template;
use pulldown_cmark::{Event, Parser, Tag, TagEnd, html};
use windlass_model::codes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// e.g. `WL612`.
    pub code: &'static str,
    /// One line.
    pub title: &'static str,
    /// Markdown of ours.
    page: &'static str,
}

impl Code {
    /// `None` for what is no code.
    pub fn of(code: &str) -> Option<Self> {
        let at = codes::all().binary_search_by(|(known, _)| (*known).cmp(code)).ok()?;
        Self::all().nth(at)
    }

    /// All of them, sorted.
    pub fn all() -> impl Iterator<Item = Self> {
        codes::all().iter().map(|(code, page)| Self { code, title: codes::title(page), page })
    }

    /// Its page without the heading, as HTML. Should there ever be HTML within, it is shown as text; and so are links to the rest of
    /// the documentation, which is not here.
    fn body(&self) -> String {
        let text = self.page.split_once('\n').map_or("", |(_, text)| text);
        let mut elsewhere = false;
        let events = Parser::new(text).filter_map(|event| match event {
            Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
            Event::Start(Tag::Link { ref dest_url, .. }) if dest_url.starts_with("../") => {
                elsewhere = true;
                None
            }
            Event::End(TagEnd::Link) if std::mem::take(&mut elsewhere) => None,
            other => Some(other),
        });
        let mut out = String::new();
        html::push_html(&mut out, events);
        out
    }
}

#[derive(Template)]
#[template(path = "code.html")]
struct Page<'a> {
    frame: &'a Frame,
    page: &'a Code,
}

/// The page of one code.
pub fn render(frame: &Frame, page: &Code) -> String {
    super::rendered(&Page { frame, page })
}

#[derive(Template)]
#[template(path = "codes.html")]
struct List<'a> {
    frame: &'a Frame,
    codes: Vec<Code>,
}

/// The list of all codes.
pub fn render_list(frame: &Frame) -> String {
    super::rendered(&List { frame, codes: Code::all().collect() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn every_code_has_a_page_that_is_a_page() {
        let frame = Frame::sample_outside();
        for code in Code::all() {
            let html = render(&frame, &code);
            check(&html);
            assert!(html.contains("<strong>To mend it</strong>"), "{html}");
            assert_eq!(Code::of(code.code), Some(code));
        }
        let html = render_list(&frame);
        check(&html);
        assert!(html.contains("<a href=\"/codes/WL612\">WL612</a>") && html.contains("the review is not approved"));
        assert_eq!(Code::of(concat!("WL", "000")), None);
        assert_eq!(Code::of("wl612"), None);
    }

    #[test]
    fn html_within_is_text() {
        let code = Code { code: "none", title: "t", page: "# none: t\n\n<img src=x> `<b>` <i>\n" };
        let html = code.body();
        assert!(!html.contains("<img") && !html.contains("<b>") && !html.contains("<i>"), "{html}");
    }
}
