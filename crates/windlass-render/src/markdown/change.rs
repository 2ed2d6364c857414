//! The comment of a change: its review, with what is known of the change around it.

use super::fit::Size;
use super::{Options, escape, marker, render};
use crate::text::shortened;
use windlass_model::change::CheckState;
use windlass_model::review::document::Document;

/// What a comment says beside the review. In texts, what stands between backticks is code; everything else is shown as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    pub state: Option<CheckState>,
    /// One sentence, where there is no review to show.
    pub title: String,
    pub lines: Vec<String>,
    /// A message that is shown as it is.
    pub message: Option<String>,
    /// Whom to ask for an approval.
    pub ask: Vec<String>,
    /// Answers to commands: to whom, and what.
    pub answers: Vec<(String, String)>,
    pub link: Option<String>,
}

/// How many lines, names and lines of a message are shown.
const LINES: usize = 20;
const NAMES: usize = 12;
const MESSAGE: usize = 60;

/// The comment, never larger than the limit.
pub fn change(document: Option<&Document>, words: &Words, options: &Options) -> String {
    let mut below = below(words, options);
    if !Size::of(&below).fits(options.limit.part(3)) {
        below = String::new();
    }
    let Some(document) = document else {
        let title = inline(&shortened(&words.title, 300));
        return format!("{}### {} {title}\n\n{below}", marker(options), icon(words.state));
    };
    let options = Options { limit: options.limit.less(Size::of(&below)), ..options.clone() };
    format!("{}{below}", render(document, &options).text)
}

fn icon(state: Option<CheckState>) -> &'static str {
    match state {
        Some(CheckState::Success) => "✅",
        Some(CheckState::Failure | CheckState::Error) => "❌",
        Some(CheckState::Pending) | None => "⏳",
    }
}

fn below(words: &Words, options: &Options) -> String {
    let mut parts = Vec::new();
    if let Some(message) = &words.message {
        let lines: Vec<String> = message.lines().take(MESSAGE).map(|line| shortened(line, 400)).collect();
        parts.push(escape::fence("text", &lines));
    }
    let mut lines: Vec<String> = words.lines.iter().take(LINES).map(|line| inline(&shortened(line, 600))).collect();
    if words.lines.len() > LINES {
        lines.push(format!("and {} more", words.lines.len() - LINES));
    }
    if !words.ask.is_empty() {
        let names: Vec<String> = words.ask.iter().take(NAMES).map(|name| escape::code(&shortened(name, 100))).collect();
        let more = words.ask.len().saturating_sub(NAMES);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        lines.push(format!("Ask {}{more}.", names.join(", ")));
    }
    if !lines.is_empty() {
        parts.push(lines.iter().map(|line| format!("- {line}\n")).collect());
    }
    for (person, text) in &words.answers {
        let mut said = text.lines().map(|line| inline(&shortened(line, 600)));
        let first = said.next().unwrap_or_default();
        let rest: String = said.map(|line| format!("> {line}\n")).collect();
        let gap = if options.html && !rest.is_empty() { ">\n" } else { "" };
        parts.push(format!("> To {}: {first}\n{gap}{rest}", escape::code(&shortened(person, 100))));
    }
    if let Some(link) = words.link.as_ref().filter(|link| escape::is_address(link)) {
        parts.push(format!("[All of it]({link})\n"));
    }
    if parts.is_empty() { String::new() } else { format!("\n{}", parts.join("\n")) }
}

/// A text in which what is between backticks is code.
fn inline(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let last = parts.len() - 1;
    let part = |(at, part): (usize, &&str)| match at % 2 == 1 && at < last {
        true => escape::code(part),
        false => {
            let space = |is: bool| if is { " " } else { "" };
            match part.trim() {
                "" => space(!part.is_empty()).to_owned(),
                bare => {
                    let (before, after) = (part.starts_with(char::is_whitespace), part.ends_with(char::is_whitespace));
                    format!("{}{}{}", space(before), escape::text(bare), space(after))
                }
            }
        }
    };
    parts.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::markdown::Forge;

    fn words() -> Words {
        Words {
            state: Some(CheckState::Pending),
            title: "Waits: `windlass plan` plans it".into(),
            lines: vec!["`aws/db` waits for #12 <b>".into()],
            ask: vec!["@org/sre".into(), "team dba".into()],
            answers: vec![("eve".into(), "no *such* thing: did you mean `windlass plan`?\nsecond @all".into())],
            link: Some("https://windlass.example/runs/1".into()),
            ..Words::default()
        }
    }

    #[test]
    fn what_is_around_a_review_is_told_and_nothing_of_it_is_markup() {
        let options = Options { key: "change/shop".into(), ..Forge::GitHub.options() };
        let text = change(None, &words(), &options);
        assert!(
            text.starts_with("<!-- windlass:review change/shop -->\n### ⏳ Waits: `windlass plan` plans it\n"),
            "{text}"
        );
        assert!(text.contains("- `aws/db` waits for"), "{text}");
        assert!(!text.contains("<b>") && !text.contains("*such*"), "{text}");
        assert!(text.contains("- Ask `@org/sre`, `team dba`.\n"), "{text}");
        assert!(text.contains("> To `eve`: "), "{text}");
        assert!(text.contains("[All of it](https://windlass.example/runs/1)"), "{text}");
    }

    #[test]
    fn it_stays_within_the_limit() {
        let document = crate::sample::document();
        let long = Words { lines: vec!["x".repeat(5_000); 400], ..words() };
        for limit in [2_000, 10_000, 60_000] {
            let size = Size { characters: limit, bytes: limit };
            let options = Options { limit: size, ..Forge::Gitea.options() };
            for document in [None, Some(&document)] {
                let text = change(document, &long, &options);
                assert!(Size::of(&text).fits(size), "{limit}: {}", text.len());
            }
        }
        let options = Forge::GitHub.options();
        let text = change(Some(&document), &words(), &options);
        assert!(text.starts_with(&marker(&options)) && text.contains("- Ask"), "{text}");
    }
}
