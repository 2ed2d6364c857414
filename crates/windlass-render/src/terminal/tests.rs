use super::*;
use crate::sample;

const PLAIN: Options = Options { color: false, width: 100 };

#[test]
fn a_review_with_something_of_everything() {
    insta::assert_snapshot!(render(&sample::document(), PLAIN));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let document = sample::document();
    let colored = render(&document, Options { color: true, ..PLAIN });
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        rest = rest[at..].split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&plain), words(&render(&document, PLAIN)));
    assert!(colored.contains("\u{1b}[1m\u{1b}[31m") || colored.contains("\u{1b}["));
}

#[test]
fn prose_keeps_to_the_width() {
    for width in [40, 60, 80, 200] {
        let text = render(&sample::document(), Options { color: false, width });
        let long = text.lines().filter(|line| line.contains("read by") && line.width() > width).count();
        assert_eq!(long, 0, "{text}");
    }
}
