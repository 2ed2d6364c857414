//! For comments on forges: Markdown that fits the forge's limit. What is left out is chosen by risk, the lowest first, and
//! counted; the verdict, the findings and what is destroyed stay, in the worst case one short line each, or as a number.

mod change;
mod escape;
mod fit;
mod rows;
mod stack;

use crate::text::{self, count, names, short, shortened};
pub use change::{Words, change};
pub use fit::Size;
use fit::{Fitted, Item, list};
use windlass_model::review::document::{
    Danger, DangerKind, Document, Earlier, Failure, FindingEntry, FindingState, StackEntry,
};
use windlass_model::review::progress::Phase;
use windlass_model::review::{Level, Verdict};

pub(crate) use escape::{code as code_span, fence, is_address, text as plain_text};
pub(crate) use rows::{FULL, block};

/// Where the text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forge {
    GitHub,
    GitLab,
    Gitea,
    Bitbucket,
}

/// What the sink takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub limit: Size,
    /// It shows HTML such as `<details>`; otherwise there are headings, and nothing is folded.
    pub html: bool,
    /// What tells this comment from another one of the same change; see [`marker`].
    pub key: String,
    /// A sentence that is shown below the verdict.
    pub note: Option<String>,
}

impl Forge {
    /// What its comments can hold, with a margin for what the forge adds.
    pub fn options(self) -> Options {
        let (characters, bytes) = match self {
            Self::GitHub => (65_000, 200_000),
            Self::GitLab => (999_000, 999_000),
            Self::Gitea => (500_000, 1_000_000),
            Self::Bitbucket => (32_000, 32_000),
        };
        Options { limit: Size { characters, bytes }, html: self != Self::Bitbucket, key: String::new(), note: None }
    }
}

/// What a comment does not tell because of its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Stacks of which nothing is told.
    pub stacks: usize,
    /// Resources that are not named, in stacks that are.
    pub resources: usize,
    /// Resources that are named, without or with a part of their rows.
    pub rows: usize,
    /// Findings and failures that are only counted.
    pub findings: usize,
    /// Destroyed or replaced resources that are only counted.
    pub dangers: usize,
    /// Findings, failures, and destroyed or replaced resources, that are told in short.
    pub shortened: usize,
    /// Whether other parts are missing: what differs from an earlier review, its history, what is unchanged.
    pub parts: usize,
}

/// A text within its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub text: String,
    pub cut: Cut,
}

/// The line that a comment begins with, invisible to readers, so that it is found again and updated in place.
pub fn marker(options: &Options) -> String {
    let key: String = options
        .key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "/_.".contains(c) { c } else { '_' })
        .take(200)
        .collect();
    let key = if key.is_empty() { String::new() } else { format!(" {key}") };
    if options.html { format!("<!-- windlass:review{key} -->\n") } else { format!("[//]: # (windlass:review{key})\n") }
}

/// The review as one comment, never larger than the limit.
pub fn render(document: &Document, options: &Options) -> Comment {
    let limit = options.limit;
    let mut cut = Cut::default();
    let marker = marker(options);
    let mut head = format!("{marker}{}", headline(document, options, false));
    let footer_room = Size::reserve(700 + document.link.as_ref().map_or(0, String::len)).least(limit.part(4));
    if !Size::of(&head).fits(limit.part(3)) {
        head = format!("{marker}{}", headline(document, options, true));
    }
    if !(Size::of(&head) + footer_room).fits(limit) {
        // Nobody has so small a limit; even so the verdict comes first and nothing is left open.
        cut.stacks = document.stacks.len();
        cut.findings = document.findings.len() + document.failures.len();
        cut.dangers = document.dangers.len();
        return Comment { text: smallest(document, limit), cut };
    }
    let mut room = limit.less(Size::of(&head)).less(footer_room);
    let mut body = String::new();

    // What must be told: each half may use what the other leaves.
    let dangers: Vec<Item> = document.dangers.iter().map(danger).collect();
    let findings: Vec<Item> =
        document.failures.iter().map(failure).chain(document.findings.iter().map(finding)).collect();
    let titles = Size::reserve(240);
    let half = room.less(titles).part(2);
    let need = |items: &[Item]| items.iter().map(|item| Size::of(&item.full)).sum::<Size>();
    let other = need(&findings);
    let for_dangers = if other.fits(half) { room.less(titles).less(other) } else { half };
    let dangers = list(&dangers, for_dangers, |n| rest_of_dangers(document, n));
    let for_findings = room.less(titles).less(Size::of(&dangers.text));
    let findings = list(&findings, for_findings, |n| rest_of_findings(document, n));
    cut.dangers = dangers.left_out;
    cut.findings = findings.left_out;
    cut.shortened = dangers.shortened + findings.shortened;
    body.push_str(&section(dangers_title(document), &dangers));
    body.push_str(&section("Findings", &findings));
    room = room.less(Size::of(&body));

    // What else may be told, the parts around the stacks first as they are small: each at most an eighth.
    let mut part = |full: String, brief: String, room: &mut Size| {
        for (text, is_full) in [(full, true), (brief, false)] {
            if text.is_empty() {
                return text;
            }
            let size = Size::of(&text);
            if size.fits(room.part(if is_full { 8 } else { 2 })) {
                *room = room.less(size);
                cut.parts += usize::from(!is_full);
                return text;
            }
        }
        cut.parts += 1;
        String::new()
    };
    let since = part(since(document, options, usize::MAX), since(document, options, 0), &mut room);
    let fixed = part(fixed(document, options), String::new(), &mut room);
    let unchanged = part(unchanged(document), String::new(), &mut room);
    let history = part(history(&document.history, options), String::new(), &mut room);
    let diagnostics = part(diagnostics(document, options), String::new(), &mut room);
    // What failed stands with the findings, with why.
    let planned: Vec<&StackEntry> = document.stacks.iter().filter(|entry| !text::is_failed(entry)).collect();
    let stacks = stack::render(&planned, options, room, &mut cut);
    for text in [since, fixed, stacks, unchanged, diagnostics, history] {
        body.push_str(&text);
    }
    let footer = footer(document, &cut);
    let footer = if Size::of(&footer).fits(footer_room) { footer } else { String::new() };
    Comment { text: format!("{head}{body}{footer}"), cut }
}

fn section(title: &str, fitted: &Fitted) -> String {
    if fitted.text.is_empty() { String::new() } else { format!("#### {title}\n\n{}\n", fitted.text) }
}

fn icon(document: &Document) -> &'static str {
    match document.headline.verdict {
        _ if document.headline.phase == Some(Phase::Stopped) => "❌",
        Verdict::Denied | Verdict::Failed => "❌",
        Verdict::NeedsApproval if !document.headline.missing.is_empty() => "✋",
        Verdict::Ready | Verdict::NeedsApproval if !document.dirty.is_empty() => "✋",
        Verdict::Nothing | Verdict::Ready | Verdict::NeedsApproval => "✅",
    }
}

fn headline(document: &Document, options: &Options, brief: bool) -> String {
    let headline = &document.headline;
    let mut out = format!("### {} {}", icon(document), headline.title);
    if !headline.todo.is_empty() {
        out.push_str(&format!(": {}", escape::text(&headline.todo)));
    }
    out.push_str("\n\n");
    let total = document.summary.effect.to_string();
    let most = if brief { 40 } else { 120 };
    let name = |text: &str| escape::code(&shortened(text, most));
    let mut facts = vec![format!("**{}** in {}", total, count(document.summary.instances.all, "instance"))];
    facts.extend(headline.command.as_ref().map(|command| escape::code(command)));
    let base =
        document.base.as_ref().map(|b| format!(" against {} ({})", name(&b.name), escape::code(short(&b.commit))));
    let head = format!("{} ({})", name(&document.head.name), escape::code(short(&document.head.commit)));
    facts.push(format!("{head}{}", base.unwrap_or_default()));
    out.push_str(&facts.join(" · "));
    out.push('\n');
    if !document.dirty.is_empty() {
        let files: Vec<String> = document.dirty.iter().map(|file| shortened(file, most)).collect();
        let files = if brief { count(files.len(), "file") } else { escape::text(&names(&files, 3)) };
        out.push_str(&format!("\nIncludes uncommitted changes ({files}): readable, not approvable.\n"));
    }
    let told = if brief { 2 } else { 10 };
    if !headline.missing.is_empty() {
        out.push('\n');
        for sentence in headline.missing.iter().take(told) {
            out.push_str(&format!("- {}\n", escape::text(&shortened(sentence, if brief { 100 } else { 400 }))));
        }
        if headline.missing.len() > told {
            out.push_str(&format!("- and {} more\n", headline.missing.len() - told));
        }
    }
    if let Some(note) = &options.note {
        out.push_str(&format!("\n> {}\n", escape::text(&shortened(note, if brief { 100 } else { 500 }))));
    }
    out.push('\n');
    out
}

/// For limits below anything that a forge has.
fn smallest(document: &Document, limit: Size) -> String {
    let headline = &document.headline;
    let counts = format!(
        "{}. {}; {}; {}",
        headline.title,
        document.summary.effect,
        count(document.dangers.len(), "destroyed or replaced resource"),
        count(document.findings.len() + document.failures.len(), "finding")
    );
    let mut out = String::new();
    for c in counts.chars() {
        let with = Size::of(&out) + Size { characters: 1, bytes: c.len_utf8() };
        if !with.fits(limit) {
            break;
        }
        out.push(c);
    }
    out
}

fn dangers_title(document: &Document) -> &'static str {
    match document.dangers.iter().any(|d| d.kind.is_data()) {
        true => "⚠️ Destroyed or replaced, with data in it",
        false => "Destroyed or replaced",
    }
}

fn danger(danger: &Danger) -> Item {
    let verb = text::verb(danger.action);
    let verb = if danger.kind.is_data() { format!("**{}**", verb.to_uppercase()) } else { format!("**{verb}**") };
    let mut full = format!("- {verb} {} in ", escape::code(&danger.address));
    full.push_str(&escape::text(&text::instances(&danger.instances, 8)));
    if let Some(loss) = &danger.loss {
        full.push_str(&format!(": **{}**", escape::text(loss)));
    }
    if !danger.cause.is_empty() {
        full.push_str(&format!(", because of {}", escape::text(&names(&danger.cause, 4))));
    }
    if danger.preview {
        full.push_str(" (preview)");
    }
    full.push('\n');
    let more = match danger.instances.len() {
        1 => String::new(),
        n => format!(" ×{n}"),
    };
    let short = format!("- {verb} {}{more}\n", escape::code(&shortened(&danger.address, 80)));
    Item { full, short }
}

fn rest_of_dangers(document: &Document, number: usize) -> String {
    let rest = &document.dangers[document.dangers.len() - number..];
    let of = |kind: DangerKind| rest.iter().filter(|d| d.kind == kind).count();
    let parts: Vec<String> = [
        (of(DangerKind::DataDestroyed), "with data destroyed"),
        (of(DangerKind::DataReplaced), "with data replaced"),
        (of(DangerKind::Destroyed), "others destroyed"),
        (of(DangerKind::Replaced), "others replaced"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{number} {what}"))
    .collect();
    format!("- **and {number} more**: {}\n", parts.join(", "))
}

fn rest_of_findings(document: &Document, number: usize) -> String {
    let from = document.findings.len().saturating_sub(number);
    let rest = &document.findings[from..];
    let of = |level: Level| rest.iter().filter(|f| f.level == level).count();
    let failed = number - rest.len();
    let parts: Vec<String> = [
        (failed, "failures"),
        (of(Level::Broken), "of broken gates"),
        (of(Level::Deny), "denied"),
        (of(Level::Warn), "warnings"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{number} {what}"))
    .collect();
    format!("- **and {number} more**: {}\n", parts.join(", "))
}

fn failure(failure: &Failure) -> Item {
    let stage = failure.stage.as_str();
    let mut full = format!("- **failed** at {stage}: {}\n", escape::text(&text::instances(&failure.instances, 8)));
    for diagnostic in &failure.diagnostics {
        full.push_str(&format!(
            "  - **{}** {}\n",
            escape::text(&diagnostic.code),
            escape::text(&shortened(&diagnostic.summary, 600))
        ));
        if !diagnostic.detail.is_empty() {
            full.push_str(&format!("    - {}\n", escape::text(&shortened(&diagnostic.detail, 1_000))));
        }
        for label in diagnostic.labels.iter().take(3) {
            full.push_str(&format!("    - at {}\n", escape::code(&label.span.to_string())));
        }
        if let Some(help) = &diagnostic.help {
            full.push_str(&format!("    - to mend it: {}\n", escape::text(&shortened(help, 600))));
        }
    }
    if !failure.skipped.is_empty() {
        full.push_str(&format!("  - {}\n", escape::text(&text::skipped(failure))));
    }
    let instances = escape::text(&shortened(&text::instances(&failure.instances, 1), 80));
    let summary = failure.diagnostics.first().map_or("", |d| d.summary.as_str());
    let short = format!("- **failed** at {stage}: {instances}: {}\n", escape::text(&shortened(summary, 100)));
    Item { full, short }
}

fn finding(finding: &FindingEntry) -> Item {
    let level = text::finding_word(finding);
    let new = if finding.state == Some(FindingState::New) { " (new)" } else { "" };
    let mut full = format!("- **{level}**{new} {}", escape::text(&shortened(&finding.message, 1_500)));
    let addresses = text::finding_addresses(finding);
    if !addresses.is_empty() {
        let spans: Vec<String> = addresses.iter().take(4).map(|a| escape::code(&shortened(a, 200))).collect();
        full.push_str(&format!(" ({}", spans.join(", ")));
        let more = addresses.len().saturating_sub(4);
        full.push_str(&if more > 0 { format!(" and {more} more)") } else { ")".to_owned() });
    }
    full.push('\n');
    let mut places: Vec<String> = Vec::new();
    places.extend(finding.code.as_ref().map(|span| format!("mend {}", escape::code(&span.to_string()))));
    places.push(escape::text(&shortened(&finding.source, 200)));
    places.extend(finding.policy.as_ref().map(|span| format!("rule {}", escape::code(&span.to_string()))));
    places.extend(finding.severity.map(|s| format!("{} severity", text::severity(s))));
    places.push(escape::text(&text::finding_instances(finding, 6)));
    places.extend(finding.help.as_ref().map(|help| escape::link("more", help)));
    let waived = text::waived(finding).map(|waived| format!("  - {}\n", escape::text(&shortened(&waived, 400))));
    full.extend(waived);
    full.push_str(&format!("  - {}\n", places.join(" · ")));
    let place = finding.code.as_ref().map(|span| format!(" {}", escape::code(&shortened(&span.to_string(), 60))));
    let told = shortened(&finding.message, 100);
    let short = format!("- **{level}** {}{}\n", escape::text(&told), place.unwrap_or_default());
    Item { full, short }
}

/// A list that is folded where it can be.
fn folded(options: &Options, title: &str, items: &str) -> String {
    if options.html {
        format!("<details><summary>{}</summary>\n\n{items}\n</details>\n\n", escape::html(title))
    } else {
        format!("**{}**\n\n{items}\n", escape::text(title))
    }
}

fn since(document: &Document, options: &Options, most: usize) -> String {
    let Some(since) = &document.since else { return String::new() };
    if since.items.is_empty() || most == 0 {
        return format!("{}.\n\n", escape::text(&capital(&since.text)));
    }
    let items: String = since
        .items
        .iter()
        .take(most.min(200))
        .map(|item| {
            let instances = escape::text(&text::instances(&item.instances, 4));
            format!("- {} {} ({instances})\n", escape::code(&item.subject), escape::text(&item.what))
        })
        .collect();
    let more = since.items.len().saturating_sub(200);
    let more = if more > 0 { format!("- and {more} more\n") } else { String::new() };
    folded(options, &capital(&since.text), &format!("{items}{more}"))
}

fn fixed(document: &Document, options: &Options) -> String {
    if document.fixed.is_empty() {
        return String::new();
    }
    let items: String =
        document.fixed.iter().map(|f| format!("- {}\n", escape::text(&shortened(&f.message, 300)))).collect();
    let title =
        format!("{} of the last review {} fixed", count(document.fixed.len(), "finding"), are(document.fixed.len()));
    folded(options, &title, &items)
}

fn are(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

fn unchanged(document: &Document) -> String {
    if document.unchanged.is_empty() {
        return String::new();
    }
    let number = count(document.unchanged.len(), "instance");
    format!("{number} without changes: {}\n\n", escape::text(&text::instances(&document.unchanged, 8)))
}

fn diagnostics(document: &Document, options: &Options) -> String {
    if document.diagnostics.is_empty() {
        return String::new();
    }
    let items: String = document
        .diagnostics
        .iter()
        .take(50)
        .map(|d| format!("- **{}** {}\n", escape::text(&d.code), escape::text(&shortened(&d.summary, 400))))
        .collect();
    folded(options, &format!("{} about the repository", count(document.diagnostics.len(), "notice")), &items)
}

fn history(earlier: &[Earlier], options: &Options) -> String {
    if earlier.is_empty() {
        return String::new();
    }
    let items: String = earlier
        .iter()
        .map(|e| {
            let commit = escape::code(short(&e.commit));
            let told = escape::text(&text::earlier(e));
            format!("- {commit} {}: {}, {told}\n", text::time(e.at), e.verdict.as_str())
        })
        .collect();
    folded(options, &format!("{} before this one", count(earlier.len(), "review")), &items)
}

fn footer(document: &Document, cut: &Cut) -> String {
    let whole = match &document.link {
        Some(link) => escape::link("the whole review", link),
        None => escape::code(&format!("windlass review --show {}", document.run)),
    };
    let parts: Vec<String> = [
        (cut.dangers, "destroyed or replaced resource"),
        (cut.findings, "finding"),
        (cut.stacks, "stack"),
        (cut.resources, "resource"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, noun)| count(number, noun))
    .chain((cut.rows > 0).then(|| format!("attributes of {}", count(cut.rows, "resource"))))
    .chain((cut.shortened > 0).then(|| format!("a part of {}", count(cut.shortened, "line"))))
    .chain((cut.parts > 0).then(|| count(cut.parts, "smaller part")))
    .collect();
    if parts.is_empty() {
        match &document.link {
            Some(_) => format!("{whole} · effect {}\n", escape::code(short(&document.effect_digest))),
            None => format!("effect {}\n", escape::code(short(&document.effect_digest))),
        }
    } else {
        format!("**Left out here to fit, the lowest risk first**: {}. All of it: {whole}\n", parts.join(", "))
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The instances of an entry, as its title.
fn title(entry: &StackEntry) -> String {
    shortened(&entry.title, 300)
}

#[cfg(test)]
mod tests;
