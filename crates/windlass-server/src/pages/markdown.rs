//! Markdown that people write in their repositories, as HTML: what is HTML in it is shown as text, links lead only where a browser
//! may go, and there are no pictures, which would tell others who reads.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// Safe to stand in a page as it is. Its headings are below those of a section.
pub fn html(text: &str) -> String {
    let mut left_out = Vec::new();
    let events = Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH);
    let events = events.filter_map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock | TagEnd::Image) => None,
        Event::Start(Tag::Image { .. }) => None,
        Event::Start(Tag::Link { ref dest_url, .. }) => {
            let leads = leads_somewhere(dest_url);
            left_out.push(!leads);
            leads.then_some(event)
        }
        Event::End(TagEnd::Link) => (!left_out.pop().unwrap_or_default()).then_some(event),
        Event::Start(Tag::Heading { classes, attrs, level, .. }) => {
            Some(Event::Start(Tag::Heading { level: below(level), id: None, classes, attrs }))
        }
        Event::End(TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(below(level)))),
        other => Some(other),
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

/// Whether an address is one of the web, or of this site.
fn leads_somewhere(address: &str) -> bool {
    let known = ["https://", "http://"].iter().any(|scheme| address.starts_with(scheme));
    let own = address.starts_with('/') && !address.starts_with("//") && !address.starts_with("/\\");
    (known || own) && !address.contains(char::is_control)
}

fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_stays_within_its_place() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            assert_eq!(html(text).trim(), want);
        }
        check("Backs *up* `pg`.", "<p>Backs <em>up</em> <code>pg</code>.</p>");
        check("# Title\n\ntext", "<h3>Title</h3>\n<p>text</p>");
        check("a <b onclick=x>b</b>", "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>");
        check("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;");
        check("![alt](https://example.com/x.png)", "<p>alt</p>");
        check("[no](javascript:alert(1)) [no](//evil.example)", "<p>no no</p>");
        check("[wiki](https://wiki.example/x)", "<p><a href=\"https://wiki.example/x\">wiki</a></p>");
    }
}
