use super::*;
use crate::sample;
use windlass_model::review::document::Context;

/// Every element that is opened is closed, in order; what a browser would repair is an error here.
#[track_caller]
fn is_balanced(html: &str) {
    const VOID: [&str; 2] = ["meta", "link"];
    let mut open: Vec<&str> = Vec::new();
    for (at, _) in html.match_indices('<') {
        let rest = &html[at + 1..];
        let tag = &rest[..rest.find('>').unwrap()];
        let name = tag.trim_start_matches('/').split(' ').next().unwrap();
        if name.starts_with('!') || VOID.contains(&name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "…{}", &html[at.saturating_sub(200)..at]);
        } else {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{name}");
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_review_with_something_of_everything() {
    let fragment = fragment(&sample::document(), None);
    is_balanced(&fragment);
    insta::assert_snapshot!(fragment);
}

#[test]
fn a_page_needs_nothing_that_a_strict_policy_forbids() {
    let page = page(&sample::document(), Style::Inline, Some("a <b>note</b>"));
    is_balanced(&page);
    for forbidden in ["<script", " style=\"", " onclick", "javascript:\"", "<img", "<b>note"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style.as_bytes()));
    assert!(page.contains(&format!("style-src 'sha256-{digest}'")));
    assert!(page.contains("<main>") && page.contains("lang=\"en\"") && page.contains("name=\"viewport\""));
    let linked = super::page(&sample::document(), Style::Linked("/a.css?x=\"1\""), None);
    assert!(linked.contains("href=\"/a.css?x=&quot;1&quot;\"") && !linked.contains("<style>"));
}

#[test]
fn headings_go_down_one_step_at_a_time_and_ids_are_single() {
    let page = page(&sample::document(), Style::Inline, None);
    let levels: Vec<u32> = page
        .match_indices("<h")
        .filter_map(|(at, _)| page[at + 2..].chars().next().and_then(|c| c.to_digit(10)))
        .collect();
    assert_eq!(levels[0], 1);
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    for label in page.split("aria-labelledby=\"").skip(1) {
        assert!(ids.contains(&label.split('"').next().unwrap()));
    }
}

/// Contrast of two colours `#rrggbb` (WCAG 2, relative luminance).
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |color: &str| {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_text_can_be_read_in_light_and_dark() {
    let palettes: Vec<std::collections::BTreeMap<&str, &str>> = STYLE
        .split('{')
        .filter(|block| block.contains("--bg:"))
        .map(|block| {
            let rows = block.split('}').next().unwrap().split(';');
            rows.filter_map(|row| row.trim().strip_prefix("--")?.split_once(": ")).collect()
        })
        .collect();
    assert_eq!(palettes.len(), 2);
    for palette in &palettes {
        let color = |name: &str| *palette.get(name).unwrap_or_else(|| &palettes[0][name]);
        for (text, grounds) in [
            ("text", &["bg", "panel", "red-bg"][..]),
            ("soft", &["bg", "panel"]),
            ("link", &["bg", "panel"]),
            ("red", &["bg", "panel", "red-bg"]),
            ("green", &["bg", "panel", "green-bg"]),
            ("amber", &["bg", "panel"]),
            ("violet", &["bg", "panel", "red-bg"]),
        ] {
            for ground in grounds {
                let found = contrast(color(text), color(ground));
                assert!(found >= 4.5, "{text} on {ground}: {found:.2}");
            }
        }
    }
}

#[test]
fn text_of_others_means_nothing() {
    let mut review = sample::rich();
    let fragment_of = |review: &windlass_model::review::Review| {
        let fragment = fragment(&Document::new(review, Context::default()), None);
        is_balanced(&fragment);
        fragment
    };
    review.head.name = sample::HOSTILE.into();
    review.project = "<b>".into();
    review.stacks[0].owner = Some("\" onload=\"x".into());
    for finding in review.stacks.iter_mut().flat_map(|s| &mut s.findings) {
        finding.message = sample::HOSTILE.into();
        finding.help = Some("javascript:alert(1)".into());
    }
    let fragment = fragment_of(&review);
    assert!(!fragment.contains("<script") && !fragment.contains("href=\"javascript"), "{fragment}");
    assert!(fragment.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}
