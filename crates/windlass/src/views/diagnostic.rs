//! Diagnostics for the terminal: severity, code, what, where with the line, and the way out.

use crate::terminal::{Terminal, clean};
use windlass_model::diagnostic::{Diagnostic, Label, Severity};

/// All of them, most severe first, with a closing count.
pub fn render_all(terminal: Terminal, diagnostics: &[Diagnostic]) -> String {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|d| d.severity);
    let mut out = String::new();
    for diagnostic in &sorted {
        out.push_str(&render(terminal, diagnostic));
        out.push('\n');
    }
    out
}

/// Errors in full; of the rest one line that counts them, for commands whose subject is something else.
pub fn render_errors(terminal: Terminal, diagnostics: &[Diagnostic]) -> String {
    let (errors, rest): (Vec<_>, Vec<_>) = diagnostics.iter().cloned().partition(|d| d.severity == Severity::Error);
    let mut out = render_all(terminal, &errors);
    if !rest.is_empty() {
        out.push_str(&format!("{}\n", terminal.dim(&format!("{}: `windlass check` shows them", tally(&rest)))));
    }
    out
}

/// `1 error, 2 warnings`; empty when there is nothing to count.
pub fn tally(diagnostics: &[Diagnostic]) -> String {
    let of = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    [(of(Severity::Error), "error"), (of(Severity::Warning), "warning"), (of(Severity::Notice), "notice")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| super::count(number, noun))
        .collect::<Vec<_>>()
        .join(", ")
}

/// One diagnostic, ending in a line feed.
pub fn render(terminal: Terminal, diagnostic: &Diagnostic) -> String {
    let word = match diagnostic.severity {
        Severity::Error => terminal.red_bold("error"),
        Severity::Warning => terminal.yellow("warning"),
        Severity::Notice => terminal.cyan("notice"),
    };
    let mut out = format!("{word}[{}]: {}\n", diagnostic.code, terminal.bold(&clean(&diagnostic.summary)));
    for label in &diagnostic.labels {
        out.push_str(&render_label(terminal, label));
    }
    for line in clean(&diagnostic.detail).lines() {
        out.push_str(&format!("  {line}\n"));
    }
    if let Some(help) = &diagnostic.help {
        for (index, line) in clean(help).lines().enumerate() {
            let lead = if index == 0 { terminal.green("help:") } else { "     ".to_owned() };
            out.push_str(&format!("  {lead} {line}\n"));
        }
    }
    out
}

fn render_label(terminal: Terminal, label: &Label) -> String {
    let Label { span, excerpt, message } = label;
    let mut out = format!("  {} {}:{}:{}\n", terminal.dim("-->"), clean(&span.file), span.line, span.column);
    let bar = terminal.dim("|");
    if !excerpt.is_empty() {
        let number = span.line.to_string();
        let margin = " ".repeat(number.len());
        let line = clean(excerpt).replace('\t', " ");
        let length = line.chars().count() as u32;
        let end = if span.end_line == span.line { span.end_column } else { length + 1 };
        let width = end.min(length + 1).saturating_sub(span.column).max(1) as usize;
        let marks = format!("{}{}", " ".repeat(span.column.saturating_sub(1) as usize), "^".repeat(width));
        out.push_str(&format!("  {} {bar} {line}\n", terminal.dim(&number)));
        out.push_str(format!("  {margin} {bar} {} {message}", terminal.red(&marks)).trim_end());
        out.push('\n');
    } else if !message.is_empty() {
        out.push_str(&format!("  {bar} {}\n", clean(message)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_model::diagnostic::Span;

    #[test]
    fn excerpt_is_marked() {
        let text = "stack \"a\" {\n  ownr = team.sre\n}\n";
        let span = Span::of(&"windlass.hcl".into(), text, 14, 18);
        let diagnostic = Diagnostic::error("WL101", "unknown attribute `ownr`")
            .at_source(span, text, "not expected here")
            .help("did you mean `owner`?");
        insta::assert_snapshot!(render(Terminal::plain(), &diagnostic), @r#"
        error[WL101]: unknown attribute `ownr`
          --> windlass.hcl:2:3
          2 |   ownr = team.sre
            |   ^^^^ not expected here
          help: did you mean `owner`?
        "#);
    }
}
