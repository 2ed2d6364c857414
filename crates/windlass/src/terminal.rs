//! The terminal: whether it wants colour, how wide it is, and the few styles used everywhere.

use anstyle::{AnsiColor, Style};
use std::io::IsTerminal;
pub use windlass_render::clean;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// How one output stream is written to.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    pub color: bool,
    pub interactive: bool,
}

impl Terminal {
    pub fn stdout(choice: ColorChoice) -> Self {
        Self::of(choice, std::io::stdout().is_terminal())
    }

    pub fn stderr(choice: ColorChoice) -> Self {
        Self::of(choice, std::io::stderr().is_terminal())
    }

    /// No colour, whatever the stream.
    pub fn plain() -> Self {
        Self { color: false, interactive: false }
    }

    fn of(choice: ColorChoice, is_terminal: bool) -> Self {
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Self { color, interactive: is_terminal }
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
    pub fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }
    pub fn dim(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }
    pub fn red(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default(), text)
    }
    pub fn red_bold(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }
    pub fn yellow(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }
    pub fn green(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }
    pub fn cyan(self, text: &str) -> String {
        self.paint(AnsiColor::Cyan.on_default(), text)
    }
    pub fn magenta(self, text: &str) -> String {
        self.paint(AnsiColor::Magenta.on_default(), text)
    }
}

/// A table without borders: a bold head, two spaces between columns.
pub fn table(terminal: Terminal, head: &[&str], rows: Vec<Vec<String>>) -> String {
    use comfy_table::{ContentArrangement, Table, presets::NOTHING};
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|h| h.to_uppercase()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell)).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        out.push_str(&if index == 0 { terminal.bold(line) } else { line.to_owned() });
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_made_visible() {
        assert_eq!(clean("a\u{1b}[31mb\tc\n\u{202e}d"), "a\u{fffd}[31mb\tc\n\u{fffd}d");
    }

    #[test]
    fn tables_align_and_leave_no_trailing_space() {
        let text = table(
            Terminal::plain(),
            &["stack", "why"],
            vec![vec!["aws/network".into(), "x".into()], vec!["b".into(), "".into()]],
        );
        assert_eq!(text, "STACK        WHY\naws/network  x\nb\n");
    }
}
