//! A notice as a message of a chat: one line, and an attachment with the rest, which Slack and Mattermost both draw. What comes from
//! repositories, logs and people is only text there: it mentions nobody and formats nothing.

use serde_json::{Value, json};
use windlass_model::operation::Occasion;
use windlass_model::operation::occasion::Notice;
use windlass_model::run::RunState;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Slack,
    Mattermost,
}

/// Letters of a single value, and of the sentences.
const VALUE: usize = 300;
const TEXT: usize = 2_000;
/// Facts that are shown.
const FACTS: usize = 12;

/// The line, and the attachments.
pub(super) fn draw(dialect: Dialect, notice: &Notice) -> (String, Value) {
    let title = dialect.text(&short(&notice.title, VALUE));
    let links: Vec<String> = notice.links.iter().map(|(label, url)| dialect.link(label, url)).collect();
    let text: Vec<String> = [dialect.text(&short(&notice.text, TEXT)), links.join(" · ")].into_iter().collect();
    let text: Vec<&str> = text.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let fact = |(name, value): &(String, String)| {
        let (title, value) = (dialect.text(&short(name, VALUE)), dialect.text(&short(value, VALUE)));
        json!({ "title": title, "short": value.chars().count() <= 40, "value": value })
    };
    let fields: Vec<Value> = notice.facts.iter().take(FACTS).map(fact).collect();
    if text.is_empty() && fields.is_empty() {
        return (title, json!([]));
    }
    // The fallback is what a telephone shows.
    let attachment = json!({
        "color": colour(notice), "fallback": title, "text": text.join("\n"), "fields": fields,
    });
    (title, json!([attachment]))
}

impl Dialect {
    /// As text that means nothing else.
    fn text(self, text: &str) -> String {
        match self {
            // The three letters that mean something in Slack; `<` begins mentions and links.
            Self::Slack => text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
            Self::Mattermost => {
                let mut out = String::with_capacity(text.len());
                let mut letters = text.chars().peekable();
                while let Some(letter) = letters.next() {
                    if letter.is_ascii_punctuation() && !matches!(letter, '.' | ',' | ':' | '/' | '@' | '\'' | '"') {
                        out.push('\\');
                    }
                    out.push(letter);
                    let names = letters.peek().is_some_and(|next| next.is_alphanumeric() || *next == '_');
                    if names && matches!(letter, '@' | ':') {
                        // Nothing to see, but no name follows the sign.
                        out.push('\u{200b}');
                    }
                }
                out
            }
        }
    }

    fn link(self, label: &str, url: &str) -> String {
        match self {
            Self::Slack => format!("<{}|{}>", self.text(url).replace('|', "%7C"), self.text(label).replace('|', "/")),
            Self::Mattermost => {
                let url = url.replace('(', "%28").replace(')', "%29").replace(' ', "%20");
                format!("[{}]({url})", self.text(label))
            }
        }
    }
}

fn colour(notice: &Notice) -> &'static str {
    let (good, bad, asks) = ("#2e7d32", "#c62828", "#f9a825");
    match (notice.occasion, notice.state) {
        (Some(Occasion::Failure | Occasion::BreakGlass | Occasion::DeadMan | Occasion::Quarantine), _) => bad,
        (Some(Occasion::Waiting | Occasion::Slow | Occasion::Late | Occasion::Drift), _) => asks,
        (Some(Occasion::Success | Occasion::Recovered), _) | (_, Some(RunState::Succeeded)) => good,
        (_, Some(RunState::Failed | RunState::Abandoned)) => bad,
        (_, Some(RunState::Waiting)) => asks,
        _ => "#607d8b",
    }
}

/// The beginning of a text.
pub(super) fn short(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_means_nothing_in_a_chat() {
        let check = |dialect: Dialect, text: &str, want: &str| assert_eq!(dialect.text(text), want);
        check(
            Dialect::Slack,
            "<!channel> a & b <https://evil|here>",
            "&lt;!channel&gt; a &amp; b &lt;https://evil|here&gt;",
        );
        check(Dialect::Mattermost, "@all", "@\u{200b}all");
        check(Dialect::Mattermost, "[a](b) *x* `y` #1", "\\[a\\]\\(b\\) \\*x\\* \\`y\\` \\#1");
        check(Dialect::Mattermost, ":fire:", ":\u{200b}fire:");
        check(Dialect::Mattermost, "backup: it failed", "backup: it failed");
        assert_eq!(Dialect::Slack.link("log", "https://w/a?b&c|d"), "<https://w/a?b&amp;c%7Cd|log>");
        assert_eq!(Dialect::Mattermost.link("the log", "https://w/a(b)"), "[the log](https://w/a%28b%29)");
        assert_eq!((short("äöü", 2), short("äö", 2)), ("äö…".into(), "äö".into()));
    }
}
