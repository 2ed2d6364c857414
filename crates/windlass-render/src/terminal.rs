//! For terminals: as wide as they are, in colour where that is wanted.

use crate::text::{self, clean, count, line, names, short, value};
use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::diff::{Change, Line, Row};
use windlass_model::effect::{Action, Effect, OutputAction, Shown};
use windlass_model::review::Level;
use windlass_model::review::document::{
    Danger, Document, Failure, FindingEntry, OutputEntry, ResourceEntry, StackEntry, Status, Variant,
};
use windlass_model::risk;

/// What the terminal can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub color: bool,
    /// Columns; less than 40 counts as 40.
    pub width: usize,
}

/// Rows shown per resource, lines per text, resources per list before the rest is counted.
const ROWS: usize = 12;
const LINES: usize = 40;
const NAMED: usize = 8;
/// With so many stacks that have something to say, a table of them comes first.
const OVERVIEW: usize = 3;
/// After so many lines the verdict is told again at the end, where a reader's screen stands.
const LONG: usize = 20;

/// The whole review.
pub fn render(document: &Document, options: Options) -> String {
    let mut page = Page::new(options);
    page.headline(document);
    page.line("");
    page.dangers(&document.dangers);
    page.findings(document);
    page.since(document);
    if document.stacks.len() >= OVERVIEW {
        page.overview(&document.stacks);
        page.line("");
    }
    // What failed stands above, with why.
    for entry in document.stacks.iter().filter(|entry| !text::is_failed(entry)) {
        page.stack(entry);
        page.line("");
    }
    if !document.unchanged.is_empty() {
        let number = count(document.unchanged.len(), "instance");
        let head = page.dim(&format!("{number} without changes:"));
        page.hanging(0, &format!("{head} {}", text::instances(&document.unchanged, NAMED)));
        page.line("");
    }
    let (errors, rest): (Vec<_>, Vec<_>) = document.diagnostics.iter().partition(|d| d.severity == Severity::Error);
    for diagnostic in errors {
        page.diagnostic(0, diagnostic);
        page.line("");
    }
    if !rest.is_empty() {
        let warnings = rest.iter().filter(|d| d.severity == Severity::Warning).count();
        let (warnings, notices) = (warnings, rest.len() - warnings);
        let parts: Vec<String> = [(warnings, "warning"), (notices, "notice")]
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, noun)| count(number, noun))
            .collect();
        let told = page.dim(&format!("{}: `windlass check` shows them", parts.join(", ")));
        page.line(&told);
    }
    page.closing(document);
    page.out
}

/// What a single effect would do, indented by two.
pub fn render_effect(effect: &Effect, options: Options) -> String {
    let mut page = Page::new(options);
    let entry = StackEntry::of_effect(effect);
    page.effect(&entry);
    page.out
}

struct Page {
    options: Options,
    out: String,
}

impl Page {
    fn new(options: Options) -> Self {
        Self { options: Options { width: options.width.max(40), ..options }, out: String::new() }
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.options.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
    fn bold(&self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }
    fn dim(&self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }
    fn red(&self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default(), text)
    }
    fn alarm(&self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }
    fn yellow(&self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }
    fn green(&self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }
    fn cyan(&self, text: &str) -> String {
        self.paint(AnsiColor::Cyan.on_default(), text)
    }
    fn magenta(&self, text: &str) -> String {
        self.paint(AnsiColor::Magenta.on_default(), text)
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    /// Text that is wrapped at words, with the lines that follow indented by `indent` and two.
    fn hanging(&mut self, indent: usize, text: &str) {
        let mut at = indent;
        let mut out = " ".repeat(indent);
        for (number, word) in text.split(' ').enumerate() {
            let width = visible(word);
            if number > 0 && at + 1 + width > self.options.width && at > indent + 2 {
                self.line(&out);
                out = " ".repeat(indent + 2);
                at = indent + 2;
            } else if number > 0 {
                out.push(' ');
                at += 1;
            }
            out.push_str(word);
            at += width;
        }
        self.line(&out);
    }

    fn headline(&mut self, document: &Document) {
        self.verdict(document);
        let base = match &document.base {
            Some(base) => format!("against {} ({})", line(&base.name), short(&base.commit)),
            None => "of chosen stacks".to_owned(),
        };
        let head = format!("{} ({})", line(&document.head.name), short(&document.head.commit));
        let review = self.bold("Review");
        self.hanging(0, &format!("{review} {head} {base}"));
        let run = format!("{}effect {}", text::kept_as(document, ", "), short(&document.effect_digest));
        let run = self.dim(&run);
        self.line(&run);
        if !document.dirty.is_empty() {
            let files = names(&document.dirty, 3);
            let told = self.yellow(&format!("Includes uncommitted changes ({files}): readable, not approvable."));
            self.hanging(0, &told);
        }
    }

    fn verdict(&mut self, document: &Document) {
        use windlass_model::review::Verdict;
        use windlass_model::review::progress::Phase;
        let headline = &document.headline;
        let title = format!("{}.", headline.title);
        let title = match headline.verdict {
            _ if headline.phase == Some(Phase::Stopped) => self.alarm(&title),
            _ if headline.phase == Some(Phase::Applied) => self.green(&title),
            Verdict::Denied | Verdict::Failed => self.alarm(&title),
            _ if headline.title.starts_with("Ready") || headline.verdict == Verdict::Nothing => self.green(&title),
            _ => self.yellow(&title),
        };
        let todo = match (headline.todo.as_str(), &headline.command) {
            ("", _) => String::new(),
            (todo, None) => format!(" Next: {todo}."),
            (todo, Some(command)) => format!(" Next: {todo}: {}", self.bold(command)),
        };
        self.hanging(0, &format!("{title}{todo}"));
        for sentence in &headline.missing {
            self.hanging(2, &line(sentence));
        }
        if headline.verdict != Verdict::Nothing {
            let instances = count(document.summary.instances.all, "instance");
            self.hanging(0, &format!("{} in {instances}.", capital(&document.summary.effect.to_string())));
        }
    }

    fn closing(&mut self, document: &Document) {
        if self.out.lines().count() > LONG {
            self.verdict(document);
        }
    }

    fn dangers(&mut self, dangers: &[Danger]) {
        if dangers.is_empty() {
            return;
        }
        let data = dangers.iter().filter(|d| d.kind.is_data()).count();
        let head = match data {
            0 => "Destroyed or replaced".to_owned(),
            _ => "Destroyed or replaced, with data in it".to_owned(),
        };
        let head = self.alarm(&head);
        self.line(&head);
        for danger in dangers {
            let sign = text::sign(danger.action);
            let verb = text::verb(danger.action);
            let mut told = if danger.kind.is_data() {
                format!("{} {}", self.alarm(&format!("{sign} {verb:<8}")), self.bold(&line(&danger.address)))
            } else {
                format!("{} {}", self.red(&format!("{sign} {verb:<8}")), line(&danger.address))
            };
            told.push_str(&format!(" in {}", text::instances(&danger.instances, NAMED)));
            if let Some(loss) = &danger.loss {
                told.push_str(&format!(": {}", self.red(loss)));
            }
            if !danger.cause.is_empty() {
                told.push_str(&format!(", because of {}", names(&danger.cause, 4)));
            }
            if danger.preview {
                told.push_str(&format!(" {}", self.magenta("(preview)")));
            }
            self.hanging(2, &told);
        }
        self.line("");
    }

    fn findings(&mut self, document: &Document) {
        for failure in &document.failures {
            self.failure(failure);
            self.line("");
        }
        for finding in &document.findings {
            self.finding(finding);
        }
        for finding in &document.fixed {
            let word = self.green("fixed");
            let places = text::instances(&finding.instances, 3);
            self.hanging(0, &format!("{word} {} ({places})", line(&finding.message)));
        }
        if !document.findings.is_empty() || !document.fixed.is_empty() {
            self.line("");
        }
    }

    fn failure(&mut self, failure: &Failure) {
        let word = self.alarm(&format!("failed at {}", failure.stage.as_str()));
        self.hanging(0, &format!("{word}: {}", text::instances(&failure.instances, NAMED)));
        for diagnostic in &failure.diagnostics {
            self.diagnostic(2, diagnostic);
        }
        if !failure.skipped.is_empty() {
            let told = text::skipped(failure);
            let told = self.yellow(&told);
            self.hanging(2, &told);
        }
    }

    fn finding(&mut self, finding: &FindingEntry) {
        let word = match finding.level {
            Level::Broken | Level::Deny => self.alarm(text::finding_word(finding)),
            Level::Warn => self.yellow(text::finding_word(finding)),
        };
        let mut told = format!("{word} {}", line(&finding.message));
        let addresses = text::finding_addresses(finding);
        if !addresses.is_empty() {
            told.push_str(&format!(" ({})", names(&addresses, 4)));
        }
        self.hanging(0, &told);
        if let Some(waived) = text::waived(finding) {
            self.hanging(5, &waived);
        }
        let mut places = text::finding_places(finding);
        places.push(text::finding_instances(finding, 4));
        let places = places.join(", ");
        let places = places.split(' ').map(|word| self.dim(word)).collect::<Vec<_>>().join(" ");
        self.hanging(5, &places);
        if let Some(help) = &finding.help {
            let help = self.dim(&format!("see {}", line(help)));
            self.hanging(5, &help);
        }
    }

    fn since(&mut self, document: &Document) {
        let Some(since) = &document.since else { return };
        let told = format!("{}.", capital(&since.text));
        let told = if since.items.is_empty() { self.dim(&told) } else { self.bold(&told) };
        self.hanging(0, &told);
        for item in since.items.iter().take(ROWS) {
            let places = text::instances(&item.instances, 3);
            self.hanging(2, &format!("{} {} ({places})", line(&item.subject), line(&item.what)));
        }
        self.rest(2, since.items.len(), ROWS, "difference");
        self.line("");
    }

    /// Says what is left out of a list of which `shown` were told.
    fn rest(&mut self, indent: usize, all: usize, shown: usize, noun: &str) {
        if all > shown {
            let told = format!("and {} more; see them with --format json", count(all - shown, noun));
            let told = self.dim(&told);
            self.line(&format!("{}{told}", " ".repeat(indent)));
        }
    }

    fn overview(&mut self, stacks: &[StackEntry]) {
        let mut rows = vec![["instance", "effect", "risk", "instances"].map(str::to_uppercase).to_vec()];
        for entry in stacks {
            let risk = entry.risk.filter(|level| *level > risk::Level::Low).map(risk::Level::as_str);
            let number = entry.all_instances().count();
            rows.push(vec![
                line(entry.instances[0].as_str()),
                line(&text::status(entry)),
                risk.unwrap_or_default().to_owned(),
                if number > 1 { number.to_string() } else { String::new() },
            ]);
        }
        let mut widths = [0; 4];
        for row in &rows {
            for (at, cell) in row.iter().enumerate() {
                widths[at] = widths[at].max(cell.width());
            }
        }
        for (number, row) in rows.iter().enumerate() {
            let mut told = String::new();
            for (at, cell) in row.iter().enumerate() {
                told.push_str(cell);
                told.push_str(&" ".repeat(widths[at] - cell.width() + 2));
            }
            let told = if number == 0 { self.bold(told.trim_end()) } else { told };
            self.line(&told);
        }
    }

    fn stack(&mut self, entry: &StackEntry) {
        let head = format!("{}  {}", self.bold(&line(&entry.title)), self.dim(&text::about(entry)));
        self.hanging(0, &head);
        for reason in entry.reasons.iter().take(2) {
            let arrow = self.dim("←");
            let chain: String = reason.chain.iter().map(|link| format!(" {arrow} {}", line(link))).collect();
            let change = self.dim(&reason.change);
            self.hanging(2, &format!("{change} {}{chain}", line(&reason.cause)));
        }
        self.rest(2, entry.reasons.len(), 2, "reason");
        if let Some(level) = entry.risk.filter(|level| *level > risk::Level::Low) {
            let word = format!("{} risk", level.as_str());
            let word = if level == risk::Level::Medium { self.yellow(&word) } else { self.alarm(&word) };
            for (at, reason) in entry.risk_reasons.iter().enumerate() {
                let head = if at == 0 { format!("{word}: ") } else { "  and ".to_owned() };
                self.hanging(2, &format!("{head}{}", line(reason)));
            }
        }
        match &entry.status {
            Status::Planned | Status::Unaffected => self.effect(entry),
            Status::Preview { because, values } => {
                let told = self.magenta(&text::preview(because));
                self.hanging(2, &told);
                for used in values {
                    let room = self.options.width.saturating_sub(12 + used.output.width());
                    let from = format!("{}.{}", used.from, used.output);
                    let told = self.magenta(&format!("with {} = {}", line(&from), value(&used.value, room)));
                    self.line(&format!("    {told}"));
                }
                self.effect(entry);
            }
            Status::Failed { .. } | Status::Skipped { .. } => {}
            Status::Deleted => {
                let told = self.yellow(text::DELETED);
                self.hanging(2, &told);
            }
        }
        for variant in &entry.variants {
            self.variant(variant);
        }
        if !entry.reach.is_empty() {
            let told = self.bold("reaches");
            self.line(&format!("  {told}"));
            for branch in text::tree(&entry.reach, entry.reach_more) {
                self.line(&format!("    {branch}"));
            }
        }
    }

    fn effect(&mut self, entry: &StackEntry) {
        let nothing = entry.effect == Default::default();
        if nothing && matches!(entry.status, Status::Planned | Status::Preview { .. }) {
            let told = self.dim("no changes");
            self.line(&format!("  {told}"));
        }
        for resource in &entry.resources {
            self.resource(2, resource);
        }
        for (from, to) in &entry.moved {
            let sign = self.cyan(text::sign(Action::Move));
            self.line(&format!("  {sign} move     {} → {}", line(from), line(to)));
        }
        for (address, id) in &entry.imported {
            let sign = self.cyan(text::sign(Action::Import));
            self.line(&format!("  {sign} import   {}", line(address)));
            self.line(&format!("      imported with id {}", line(id)));
        }
        for address in &entry.forgotten {
            let sign = self.cyan(text::sign(Action::Forget));
            self.line(&format!("  {sign} forget   {} (dropped from the state, not destroyed)", line(address)));
        }
        for output in &entry.outputs {
            self.output(output);
        }
        for check in &entry.checks {
            let sign = self.yellow("!");
            self.line(&format!("  {sign} {}: check {}", line(&check.address), line(&check.status)));
            for problem in &check.problems {
                self.hanging(6, &line(problem));
            }
        }
        if !entry.drift.is_empty() {
            let told = self.bold("drift: changed behind the state, by nobody's plan");
            self.line(&format!("  {told}"));
            for resource in &entry.drift {
                self.resource(4, resource);
            }
        }
    }

    fn resource(&mut self, indent: usize, resource: &ResourceEntry) {
        let (sign, verb) = (text::sign(resource.action), format!("{:<8}", text::verb(resource.action)));
        let head = match resource.action {
            Action::Create => format!("{} {verb}", self.green(sign)),
            Action::Update => format!("{} {verb}", self.yellow(sign)),
            Action::Destroy | Action::Replace | Action::ReplaceCreateFirst if resource.loss.is_some() => {
                format!("{} {}", self.alarm(sign), self.alarm(&verb))
            }
            Action::Destroy | Action::Replace | Action::ReplaceCreateFirst => {
                format!("{} {}", self.red(sign), self.red(&verb))
            }
            Action::Move | Action::Import | Action::Forget => format!("{} {verb}", self.cyan(sign)),
        };
        let order = text::order(resource.action);
        let order = if order.is_empty() { String::new() } else { format!(" ({order})") };
        let new = if resource.new { format!(" {}", self.magenta("not as it was")) } else { String::new() };
        let address = line(&resource.address);
        self.line(&format!("{}{head} {address}{order}{new}", " ".repeat(indent)));
        for note in text::notes(resource) {
            let note =
                if resource.loss.is_some() && note.starts_with("data: ") { self.red(&note) } else { self.dim(&note) };
            self.hanging(indent + 4, &note);
        }
        for row in resource.rows.iter().take(ROWS) {
            self.row(indent + 4, row);
        }
        self.rest(indent + 4, resource.rows.len(), ROWS, "attribute");
        if !resource.unknown.is_empty() {
            let told = format!("(known after apply): {}", names(&resource.unknown, 6));
            let told = self.dim(&told);
            self.hanging(indent + 4, &told);
        }
    }

    fn row(&mut self, indent: usize, row: &Row) {
        let margin = " ".repeat(indent);
        let path = line(&row.path);
        let name = if path.is_empty() { String::new() } else { format!("{path} = ") };
        let mark = if row.forces_replacement { format!("  {}", self.red("forces replacement")) } else { String::new() };
        let room = self.options.width.saturating_sub(indent + 2 + visible(&mark)).max(24);
        match &row.change {
            Change::Lines(lines) if lines.is_empty() => self.line(&format!("{margin}{path}{mark}")),
            Change::Lines(lines) => {
                self.line(&format!("{margin}{path}:{mark}"));
                self.lines(indent + 2, lines);
            }
            Change::Added(after) => {
                self.line(&format!("{margin}{name}{}{mark}", value(after, room.saturating_sub(name.width()).max(16))))
            }
            Change::Removed(before) => {
                let before = value(before, room.saturating_sub(name.width() + 12).max(16));
                self.line(&format!("{margin}{name}{before} → (removed){mark}"));
            }
            Change::Changed { before: Shown::Sensitive(_), after: Shown::Sensitive(_) } => {
                self.line(&format!("{margin}{name}(sensitive) → (sensitive, another one){mark}"));
            }
            Change::Changed { before, after } => {
                let (old, new) = (value(before, usize::MAX), value(after, usize::MAX));
                if name.width() + old.width() + new.width() + 3 <= room {
                    self.line(&format!("{margin}{name}{old} → {new}{mark}"));
                } else {
                    let (old, new) = (value(before, room), value(after, room));
                    self.line(&format!("{margin}{path}{mark}"));
                    let (minus, plus) = (self.red("-"), self.green("+"));
                    self.line(&format!("{margin}  {minus} {old}"));
                    self.line(&format!("{margin}  {plus} {new}"));
                }
            }
        }
    }

    fn lines(&mut self, indent: usize, lines: &[Line]) {
        let margin = " ".repeat(indent);
        let room = self.options.width.saturating_sub(indent + 2).max(24);
        for text_line in lines.iter().take(LINES) {
            let told = match text_line {
                Line::Same(text) => format!("  {}", cut(text, room)),
                Line::Added(text) => self.green(&format!("+ {}", cut(text, room))),
                Line::Removed(text) => self.red(&format!("- {}", cut(text, room))),
                Line::Folded(number) => self.dim(&format!("  … {} unchanged", count(*number, "line"))),
            };
            self.line(&format!("{margin}{told}"));
        }
        self.rest(indent, lines.len(), LINES, "line");
    }

    fn output(&mut self, output: &OutputEntry) {
        let name = line(&output.name);
        let sign = match output.action {
            OutputAction::Create => self.green("+"),
            OutputAction::Update => self.yellow("~"),
            OutputAction::Delete => self.red("-"),
        };
        let room = self.options.width.saturating_sub(14 + name.width()).max(24);
        let told = match output.rows.as_slice() {
            [Row { path, change: Change::Added(after), .. }] if path.is_empty() => value(after, room),
            [Row { path, change: Change::Removed(before), .. }] if path.is_empty() => value(before, room),
            [Row { path, change: Change::Changed { before, after }, .. }] if path.is_empty() => match (before, after) {
                (Shown::Sensitive(_), Shown::Sensitive(_)) => "(sensitive) → (sensitive, another one)".to_owned(),
                _ => format!("{} → {}", value(before, room / 2), value(after, room / 2)),
            },
            rows => {
                self.line(&format!("  {sign} output {name}"));
                for row in rows.iter().take(ROWS) {
                    self.row(6, row);
                }
                self.rest(6, rows.len(), ROWS, "difference");
                String::new()
            }
        };
        if !told.is_empty() {
            self.line(&format!("  {sign} output {name} = {told}"));
        }
        if !output.readers.is_empty() {
            let told = format!("read by {}", text::instances(&output.readers, 4));
            let told = self.dim(&told);
            self.hanging(6, &told);
        }
    }

    fn variant(&mut self, variant: &Variant) {
        let word = self.bold(&format!("differs in {}", text::instances(&variant.instances, NAMED)));
        self.hanging(2, &word);
        for difference in &variant.differences {
            let told = match difference.what.as_str() {
                "" => line(&difference.subject),
                what => format!("{} {}", line(&difference.subject), line(what)),
            };
            self.hanging(4, &told);
            for row in difference.rows.iter().take(ROWS) {
                self.row(8, row);
            }
            self.rest(8, difference.rows.len(), ROWS, "attribute");
        }
    }

    fn diagnostic(&mut self, indent: usize, diagnostic: &Diagnostic) {
        let margin = " ".repeat(indent);
        let word = match diagnostic.severity {
            Severity::Error => self.alarm("error"),
            Severity::Warning => self.yellow("warning"),
            Severity::Notice => self.cyan("notice"),
        };
        let summary = self.bold(&line(&diagnostic.summary));
        // Not wrapped: people look for these words.
        self.line(&format!("{margin}{word}[{}]: {summary}", diagnostic.code));
        for label in &diagnostic.labels {
            let span = &label.span;
            let arrow = self.dim("-->");
            self.line(&format!("{margin}  {arrow} {}:{}:{}", line(&span.file), span.line, span.column));
            let bar = self.dim("|");
            if !label.excerpt.is_empty() {
                let number = self.dim(&span.line.to_string());
                self.line(&format!("{margin}  {number} {bar} {}", line(&label.excerpt)));
            }
            if !label.message.is_empty() {
                self.line(&format!("{margin}    {bar} {}", line(&label.message)));
            }
        }
        for detail in clean(&diagnostic.detail).lines() {
            self.line(&format!("{margin}  {detail}"));
        }
        if let Some(help) = &diagnostic.help {
            for (at, told) in clean(help).lines().enumerate() {
                let lead = if at == 0 { self.green("help:") } else { "     ".to_owned() };
                self.line(&format!("{margin}  {lead} {told}"));
            }
        }
    }
}

/// Columns that a text takes on the screen, without what sets colours.
fn visible(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        width += rest[..at].width();
        rest = rest[at..].split_once('m').map_or("", |(_, after)| after);
    }
    width + rest.width()
}

fn cut(text: &str, most: usize) -> String {
    text::shortened(&line(text), most)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
