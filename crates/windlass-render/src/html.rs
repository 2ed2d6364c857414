//! For browsers: a fragment to stand in a page, and a page that stands alone. No script, no style in attributes: they work
//! under a strict content policy. Light and dark follow the reader's setting.

mod parts;

use crate::text::{self, count, line, names, short};
use base64::Engine;
use sha2::{Digest, Sha256};
use windlass_model::review::document::{Danger, Document, Failure, FindingEntry, FindingState, StackEntry};
use windlass_model::review::progress::Phase;
use windlass_model::review::{Level, Verdict};

/// The style of fragments; a page that has some includes or links to it once.
pub const STYLE: &str = include_str!("html/style.css");

/// Where a page has its style from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style<'a> {
    /// In the page; its content policy names the digest of it and allows nothing else.
    Inline,
    /// At this address.
    Linked(&'a str),
}

/// A whole page.
pub fn page(document: &Document, style: Style<'_>, note: Option<&str>) -> String {
    let title = format!("{}: {} ({})", document.headline.title, document.project, short(&document.head.commit));
    framed(&title, style, &fragment(document, note))
}

/// A page around a fragment.
pub(crate) fn framed(title: &str, style: Style<'_>, fragment: &str) -> String {
    let (policy, style) = match style {
        Style::Inline => {
            let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
            let policy =
                format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'");
            let meta = format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n");
            (meta, format!("<style>{STYLE}</style>"))
        }
        Style::Linked(address) => (String::new(), format!("<link rel=\"stylesheet\" href=\"{}\">", escape(address))),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{policy}\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n{style}\n</head>\n\
         <body class=\"wl-page\">\n<main>\n{fragment}</main>\n</body>\n</html>\n",
        escape(title)
    )
}

/// The review as `<article class="wl-review">`.
pub fn fragment(document: &Document, note: Option<&str>) -> String {
    format!("<article class=\"wl-review\">\n{}{}</article>\n", headline(document, note), body(document))
}

/// The verdict and what to do, or how its apply goes on: what comes first within the article.
pub fn headline(document: &Document, note: Option<&str>) -> String {
    let mut out = String::new();
    verdict(&mut out, document, note);
    out
}

/// What follows the headline within the article; it does not change with time.
pub fn body(document: &Document) -> String {
    let mut out = String::new();
    dangers(&mut out, &document.dangers);
    findings(&mut out, document);
    since(&mut out, document);
    // What failed stands with the findings, with why.
    let stacks: Vec<&StackEntry> = document.stacks.iter().filter(|entry| !text::is_failed(entry)).collect();
    if !stacks.is_empty() {
        out.push_str("<section aria-labelledby=\"wl-stacks\">\n<h2 id=\"wl-stacks\">Stacks, worst risk first</h2>\n");
        if stacks.len() > 2 {
            parts::contents(&mut out, &stacks);
        }
        for (number, entry) in stacks.iter().enumerate() {
            parts::stack(&mut out, number, entry);
        }
        out.push_str("</section>\n");
    }
    rest(&mut out, document);
    out
}

/// Text within HTML, in elements and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text::clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(&line(text)))
}

fn badge(color: &str, text: &str) -> String {
    format!("<span class=\"badge {color}\">{}</span>", escape(text))
}

fn verdict(out: &mut String, document: &Document, note: Option<&str>) {
    let headline = &document.headline;
    let waits =
        headline.verdict == Verdict::NeedsApproval && !headline.missing.is_empty() || !document.dirty.is_empty();
    let class = match (headline.phase, headline.verdict) {
        (Some(Phase::Stopped), _) => "bad",
        (Some(Phase::Waiting | Phase::Cancelled), _) => "wait",
        (Some(Phase::Applying), _) => "goes-on",
        (Some(Phase::Applied), _) => "good",
        (None, Verdict::Denied | Verdict::Failed) => "bad",
        (None, _) if waits => "wait",
        (None, _) => "good",
    };
    out.push_str(&format!("<header class=\"verdict {class}\">\n<h1>{}</h1>\n", escape(&headline.title)));
    if !headline.todo.is_empty() {
        let command = headline.command.as_deref().map(|c| format!(": {}", code(c))).unwrap_or_default();
        out.push_str(&format!("<p class=\"next\">Next: {}{command}</p>\n", escape(&headline.todo)));
    }
    if !headline.missing.is_empty() {
        out.push_str("<ul>\n");
        for sentence in &headline.missing {
            out.push_str(&format!("<li>{}</li>\n", escape(sentence)));
        }
        out.push_str("</ul>\n");
    }
    let total = document.summary.effect.to_string();
    let instances = count(document.summary.instances.all, "instance");
    out.push_str(&format!("<p><strong>{}</strong> in {instances}</p>\n", escape(&total)));
    let base = document.base.as_ref();
    let base = base.map(|b| format!(" against {} ({})", code(&b.name), code(short(&b.commit)))).unwrap_or_default();
    let head = format!("{} ({})", code(&document.head.name), code(short(&document.head.commit)));
    let effect = code(short(&document.effect_digest));
    let project = escape(&document.project);
    out.push_str(&format!(
        "<p class=\"soft\">{project}: {head}{base}; {}effect {effect}</p>\n",
        if document.run.as_str().is_empty() {
            String::new()
        } else {
            format!("review {}, ", code(document.run.as_str()))
        }
    ));
    if !document.dirty.is_empty() {
        let files = escape(&names(&document.dirty, 5));
        out.push_str(&format!(
            "<p class=\"amber\">Includes uncommitted changes ({files}): readable, not approvable.</p>\n"
        ));
    }
    if let Some(note) = note {
        out.push_str(&format!("<p class=\"amber\">{}</p>\n", escape(note)));
    }
    out.push_str("</header>\n");
}

fn dangers(out: &mut String, dangers: &[Danger]) {
    if dangers.is_empty() {
        return;
    }
    let data = dangers.iter().any(|d| d.kind.is_data());
    let title = if data { "Destroyed or replaced, with data in it" } else { "Destroyed or replaced" };
    out.push_str(&format!(
        "<section class=\"danger\" aria-labelledby=\"wl-dangers\">\n<h2 id=\"wl-dangers\">{title}</h2>\n<ul>\n"
    ));
    for danger in dangers {
        let verb = text::verb(danger.action);
        let verb = if danger.kind.is_data() { verb.to_uppercase() } else { verb.to_owned() };
        let mut told = format!("<strong class=\"red\">{verb}</strong> {} in ", code(&danger.address));
        told.push_str(&escape(&text::instances(&danger.instances, 12)));
        if let Some(loss) = &danger.loss {
            told.push_str(&format!(": <strong>{}</strong>", escape(loss)));
        }
        if !danger.cause.is_empty() {
            told.push_str(&format!(", because of {}", escape(&names(&danger.cause, 6))));
        }
        if danger.preview {
            told.push_str(&format!(" {}", badge("violet", "preview")));
        }
        out.push_str(&format!("<li>{told}</li>\n"));
    }
    out.push_str("</ul>\n</section>\n");
}

fn findings(out: &mut String, document: &Document) {
    if document.findings.is_empty() && document.failures.is_empty() && document.fixed.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"wl-findings\">\n<h2 id=\"wl-findings\">Findings</h2>\n");
    document.failures.iter().for_each(|failure| self::failure(out, failure));
    document.findings.iter().for_each(|finding| self::finding(out, finding));
    if !document.fixed.is_empty() {
        let title = format!("{} of the last review fixed", count(document.fixed.len(), "finding"));
        out.push_str(&format!("<details><summary>{title}</summary><div class=\"body\"><ul>\n"));
        for finding in &document.fixed {
            out.push_str(&format!("<li>{}</li>\n", escape(&finding.message)));
        }
        out.push_str("</ul></div></details>\n");
    }
    out.push_str("</section>\n");
}

fn failure(out: &mut String, failure: &Failure) {
    let instances = escape(&text::instances(&failure.instances, 12));
    let word = badge("red", &format!("failed at {}", failure.stage.as_str()));
    out.push_str(&format!("<div class=\"finding stops\">\n<p>{word} {instances}</p>\n"));
    for diagnostic in &failure.diagnostics {
        parts::diagnostic(out, diagnostic);
    }
    if !failure.skipped.is_empty() {
        out.push_str(&format!("<p>{}</p>\n", escape(&text::skipped(failure))));
    }
    out.push_str("</div>\n");
}

fn finding(out: &mut String, finding: &FindingEntry) {
    let stops = finding.level != Level::Warn;
    let (class, color) = if stops { (" stops", "red") } else { ("", "amber") };
    let mut head = badge(color, text::finding_word(finding));
    if finding.state == Some(FindingState::New) {
        head.push_str(&format!(" {}", badge("violet", "new")));
    }
    head.extend(finding.severity.map(|s| format!(" {}", badge(color, text::severity(s)))));
    out.push_str(&format!("<div class=\"finding{class}\">\n<p>{head} {}</p>\n", escape(&finding.message)));
    let addresses = text::finding_addresses(finding);
    if !addresses.is_empty() {
        let spans: Vec<String> = addresses.iter().take(12).map(|address| code(address)).collect();
        let more = addresses.len().saturating_sub(12);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        out.push_str(&format!("<p>{}{more}</p>\n", spans.join(", ")));
    }
    out.extend(text::waived(finding).map(|waived| format!("<p>{}</p>\n", escape(&waived))));
    let mut places = Vec::new();
    places.extend(finding.code.as_ref().map(|span| format!("mend {}", code(&span.to_string()))));
    places.push(escape(&finding.source));
    places.extend(finding.policy.as_ref().map(|span| format!("rule {}", code(&span.to_string()))));
    places.push(escape(&text::finding_instances(finding, 12)));
    if let Some(help) = finding.help.as_ref() {
        let address = escape(help);
        let known = crate::markdown::is_address(help);
        places.push(if known { format!("<a href=\"{address}\" rel=\"noreferrer\">more</a>") } else { address });
    }
    out.push_str(&format!("<p class=\"soft\">{}</p>\n</div>\n", places.join(" · ")));
}

fn since(out: &mut String, document: &Document) {
    let Some(since) = &document.since else { return };
    let mut text = escape(&since.text);
    if let Some(first) = text.get(..1) {
        text = format!("{}{}", first.to_uppercase(), &text[1..]);
    }
    if since.items.is_empty() {
        out.push_str(&format!("<p class=\"soft\">{text}.</p>\n"));
        return;
    }
    out.push_str(&format!(
        "<section aria-labelledby=\"wl-since\">\n<h2 id=\"wl-since\">{text}</h2>\n<details open>\
         <summary>What differs</summary><div class=\"body\"><ul>\n"
    ));
    for item in &since.items {
        let instances = escape(&text::instances(&item.instances, 8));
        out.push_str(&format!("<li>{} {} ({instances})</li>\n", code(&item.subject), escape(&item.what)));
    }
    out.push_str("</ul></div></details>\n</section>\n");
}

fn rest(out: &mut String, document: &Document) {
    let mut folded = |title: String, items: Vec<String>| {
        if items.is_empty() {
            return;
        }
        out.push_str(&format!("<details><summary>{}</summary><div class=\"body\"><ul>\n", escape(&title)));
        items.iter().for_each(|item| out.push_str(&format!("<li>{item}</li>\n")));
        out.push_str("</ul></div></details>\n");
    };
    let unchanged = document.unchanged.iter().map(|id| code(id.as_str())).collect::<Vec<_>>();
    folded(format!("{} without changes", count(unchanged.len(), "instance")), unchanged);
    let diagnostics = document.diagnostics.iter();
    let diagnostics: Vec<String> = diagnostics.map(|d| format!("{} {}", code(&d.code), escape(&d.summary))).collect();
    folded(format!("{} about the repository", count(diagnostics.len(), "notice")), diagnostics);
    let history = document.history.iter();
    let history: Vec<String> = history
        .map(|e| {
            let told = escape(&text::earlier(e));
            format!("{} {}: {}, {told}", code(short(&e.commit)), text::time(e.at), e.verdict.as_str())
        })
        .collect();
    folded(format!("{} before this one", count(history.len(), "review")), history);
}

#[cfg(test)]
mod tests;
