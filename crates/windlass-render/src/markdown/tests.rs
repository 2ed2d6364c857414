use super::*;
use crate::sample;

#[test]
fn a_review_with_something_of_everything() {
    let comment = render(&sample::document(), &Options { key: "shop".into(), ..Forge::GitHub.options() });
    assert_eq!(comment.cut, Cut::default());
    insta::assert_snapshot!(comment.text);
}

/// Where a text is looked at by a reader of Markdown: kinds of events in order, HTML as it stands, and plain text.
struct Read {
    shape: Vec<String>,
    html: Vec<String>,
    text: String,
}

impl Read {
    /// What ends, in order. A link that is none is told as text and code.
    fn ends(&self) -> Vec<String> {
        self.shape.iter().filter(|kind| kind.starts_with('>') && !kind.contains("Link")).cloned().collect()
    }
}

fn read(markdown: &str) -> Read {
    use pulldown_cmark::{Event, Options as Extensions, Parser, Tag};
    let mut read = Read { shape: Vec::new(), html: Vec::new(), text: String::new() };
    let mut in_code = false;
    for event in Parser::new_ext(
        markdown,
        Extensions::ENABLE_STRIKETHROUGH
            | Extensions::ENABLE_TABLES
            | Extensions::ENABLE_MATH
            | Extensions::ENABLE_TASKLISTS,
    ) {
        match event {
            Event::Start(tag) => {
                in_code |= matches!(tag, Tag::CodeBlock(_));
            }
            Event::End(tag) => {
                in_code &= !matches!(tag, pulldown_cmark::TagEnd::CodeBlock);
                read.shape.push(format!(">{tag:?}"));
            }
            Event::Html(html) | Event::InlineHtml(html) => read.html.push(html.to_string()),
            Event::Text(text) if !in_code => read.text.push_str(&text),
            Event::Text(_) => {}
            Event::SoftBreak | Event::HardBreak => read.text.push('\n'),
            other => read.shape.push(format!("{:?}", std::mem::discriminant(&other))),
        }
    }
    read
}

/// A document in which a text of somebody else stands wherever one can.
fn with_text(text: &str) -> Document {
    use serde_json::json;
    use windlass_model::review::{Finding, Level, Outcome};
    let effect = sample::effect(
        "stack",
        json!([
            sample::change("replace aws_db_instance.x", json!({"name": text, "same": 1}), json!({"name": 1, "same": 1})),
            {"address": format!("aws_db_instance.y[{:?}]", text), "type": "aws_db_instance", "change": {"actions": ["delete"]}},
            {"address": "a.b", "previous_address": text, "type": "t", "change": {"actions": ["no-op"]}},
            {"address": "a.c", "type": "t", "change": {"actions": ["no-op"], "importing": {"id": text}}},
        ]),
        json!({"one": {"actions": ["update"], "before": 1, "after": text}}),
    );
    let mut stack = sample::stack("stack", Outcome::Planned { effect });
    stack.owner = Some(text.into());
    stack.environments = vec![text.into()];
    stack.findings = vec![Finding {
        address: Some(format!("a.{text}")),
        code: Some(windlass_model::diagnostic::Span::file(text)),
        help: Some(format!("https://example.com/{text}")),
        ..Finding::new(Level::Deny, text, text)
    }];
    let diagnostics = vec![windlass_model::diagnostic::Diagnostic::error("WL503", text).detail(text).help(text)];
    let failed = sample::stack("other", Outcome::Failed { stage: windlass_model::review::Stage::Plan, diagnostics });
    let mut review = sample::review(vec![stack, failed], Verdict::Denied);
    review.head.name = text.into();
    review.dirty = vec![text.into()];
    Document::new(&review, Default::default())
}

#[track_caller]
fn means_nothing(text: &str) {
    for forge in [Forge::GitHub, Forge::Bitbucket] {
        let options = Options { note: Some(text.to_owned()), ..forge.options() };
        let markdown = render(&with_text(text), &options).text;
        let found = read(&markdown);
        for html in &found.html {
            // What is ours begins with these, and holds nothing of others but escaped text.
            let inner = html
                .trim()
                .trim_start_matches("<details open>")
                .trim_start_matches("<details>")
                .replace("<!-- windlass:review -->", "")
                .replace("</details>", "");
            let inner = ["<summary>", "</summary>", "<code>", "</code>", "<b>", "</b>"]
                .iter()
                .fold(inner, |inner, tag| inner.replace(tag, ""));
            assert!(!inner.contains(['<', '>']), "{text:?} gives {html:?}\n{markdown}");
        }
        let named =
            found.text.match_indices('@').any(|(at, _)| found.text[at + 1..].starts_with(char::is_alphanumeric));
        assert!(!named, "{text:?} calls somebody\n{markdown}");
        static PLAIN: [std::sync::OnceLock<Vec<String>>; 2] = [const { std::sync::OnceLock::new() }; 2];
        let plain = PLAIN[usize::from(forge == Forge::Bitbucket)].get_or_init(|| {
            let options = Options { note: Some("plain".into()), ..forge.options() };
            read(&render(&with_text("plain"), &options).text).ends()
        });
        assert_eq!(&found.ends(), plain, "{text:?}\n{markdown}");
    }
}

#[test]
fn text_of_others_means_nothing() {
    for text in [
        sample::HOSTILE,
        "# head",
        "- item",
        "1. item",
        "> quote",
        "```",
        "`````",
        "    code",
        "</summary>",
        "<details>",
        "<!--",
        "-->",
        "a|b",
        "[x](http://evil)",
        "![x](http://evil)",
        "@everyone",
        "&lt;b&gt;",
        "\\",
        "\\`",
        "`",
        "` `",
        "$$x$$",
        "***",
        "---",
        "===",
        "[ ] task",
        "\u{202e}gnp.exe",
        "a\u{0}b",
        "a  ",
        "~~~",
        "<https://evil>",
        "+ plus",
        "[^1]: note",
        "\u{1b}[31m",
    ] {
        means_nothing(text);
    }
}

#[test]
fn a_secret_is_in_no_rendering() {
    let document = sample::document();
    let forge = Forge::GitHub.options();
    for text in [
        crate::json(&document),
        crate::summary(&document),
        render(&document, &forge).text,
        crate::html::page(&document, crate::html::Style::Inline, None),
        crate::terminal::render(&document, crate::terminal::Options { color: false, width: 100 }),
    ] {
        assert!(!text.contains("hunter2"));
        assert!(text.len() > 500);
    }
    // Nor what tells two secrets apart.
    assert!(
        !serde_json::to_string(&document).unwrap().contains("\"sensitive\":\"")
            || crate::json(&document).contains("\"sensitive\": \"\"")
    );
    let digests = crate::json(&document).matches("\"sensitive\": \"").count();
    assert_eq!(digests, crate::json(&document).matches("\"sensitive\": \"\"").count());
    assert!(digests > 0);
}

/// What has to be there whatever the limit.
#[track_caller]
fn keeps_what_matters(document: &Document, limit: Size) {
    let options = Options { limit, ..Forge::GitHub.options() };
    let Comment { text, cut } = render(document, &options);
    assert!(Size::of(&text).fits(limit), "{} characters for {limit:?}", text.chars().count());
    assert!(text.contains(&document.headline.title), "{limit:?}\n{text}");
    for danger in &document.dangers[..document.dangers.len() - cut.dangers] {
        // A longer one is told in part.
        let address: String = danger.address.chars().take(30).collect();
        assert!(text.contains(&address), "{address} is missing with {limit:?}");
    }
    if cut.dangers > 0 {
        assert!(text.contains(&format!("and {} more", cut.dangers)), "{limit:?}\n{text}");
        // The worst come first.
        let shown = document.dangers.len() - cut.dangers;
        let worst_left = document.dangers[shown..].iter().map(|d| d.kind).min();
        assert!(document.dangers[..shown].iter().all(|d| Some(d.kind) <= worst_left));
    }
    let findings = document.findings.len() + document.failures.len();
    assert!(cut.findings <= findings);
    if cut.findings > 0 {
        assert!(text.contains(&format!("and {} more", cut.findings)), "{limit:?}\n{text}");
    }
    let read = read(&text);
    let number = |tag: &str| read.html.iter().map(|html| html.matches(tag).count()).sum::<usize>();
    assert_eq!(number("<details"), number("</details>"), "{limit:?}\n{text}");
    if cut != Cut::default() {
        assert!(text.contains("Left out here to fit") || limit.characters < 3_000, "{text}");
        assert!(text.contains("windlass review --show") || limit.characters < 3_000, "{text}");
    }
}

#[test]
fn what_matters_fits_every_limit() {
    for document in [sample::document(), sample::large(400), with_text(&sample::HOSTILE.repeat(20))] {
        for characters in [1_500, 2_000, 3_000, 5_000, 8_000, 12_000, 20_000, 32_000, 65_000, 1_000_000] {
            keeps_what_matters(&document, Size { characters, bytes: 200_000 });
            keeps_what_matters(&document, Size { characters: 1_000_000, bytes: characters });
        }
    }
}

#[test]
fn what_is_left_out_has_the_lowest_risk() {
    let options = Options { limit: Size { characters: 8_000, bytes: 200_000 }, ..Forge::GitHub.options() };
    let document = sample::large(400);
    let Comment { text, cut } = render(&document, &options);
    assert_eq!((cut.dangers, cut.findings, cut.stacks), (0, 0, 0));
    assert!(cut.resources > 0 && text.contains("resources more: "), "{text}");
    let listed = text.split("<details").nth(1).unwrap();
    assert!(listed.contains("**destroy** `aws_db_instance.d0`"), "{listed}");
    assert!(!listed.contains("**create**"), "{listed}");
    insta::assert_snapshot!(text.lines().last().unwrap());
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_limit_is_kept(characters in 0usize..70_000, bytes in 0usize..80_000, resources in 0usize..80) {
            let document = sample::large(resources);
            let limit = Size { characters, bytes };
            if characters.min(bytes) >= 1_500 {
                keeps_what_matters(&document, limit);
            } else {
                let text = render(&document, &Options { limit, ..Forge::GitHub.options() }).text;
                prop_assert!(Size::of(&text).fits(limit));
            }
        }

        #[test]
        fn any_text_means_nothing(text in "[ -~\u{a0}-\u{ff}\u{2028}あ]{1,24}") {
            means_nothing(&format!("x{text}"));
        }

        #[test]
        fn any_punctuation_means_nothing(text in "[-`~*_<>/!@#$&|\\\\\\[\\](){}=+.:1a ]{1,16}") {
            means_nothing(&text);
        }
    }
}

#[test]
fn the_marker_cannot_be_broken_out_of() {
    let check = |key: &str, html: bool, want: &str| {
        assert_eq!(marker(&Options { key: key.into(), html, ..Forge::GitHub.options() }), want);
    };
    check("", true, "<!-- windlass:review -->\n");
    check("shop/prod", true, "<!-- windlass:review shop/prod -->\n");
    check("--> <b>", true, "<!-- windlass:review _____b_ -->\n");
    check("a)b", false, "[//]: # (windlass:review a_b)\n");
}
