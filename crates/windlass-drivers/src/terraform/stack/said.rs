//! What commands say, as it is logged.

use super::super::events::{Event, Lines, parse};
use super::StackDirectory;
use crate::terraform::diagnostics::from_json;

impl StackDirectory {
    /// What a command said on its standard output (its JSON stream), as it is logged while somebody listens: the lines of the log.
    pub fn said(&self, output: &[u8]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all = lines.push(output);
        all.extend(lines.rest());
        let text = |line: &Vec<u8>| match parse(line) {
            Some(event) => self.text(&event),
            None => format!("{}\n", String::from_utf8_lossy(line)),
        };
        let said: String = all.iter().map(text).collect();
        said.split_inclusive('\n').map(str::to_owned).collect()
    }

    pub(super) fn text(&self, event: &Event) -> String {
        match event {
            Event::Version(_) => String::new(),
            Event::Diagnostic(value) => {
                let diagnostic = from_json(value, &self.root, &self.directory);
                format!("{:?}: {}\n{}\n", diagnostic.severity, diagnostic.summary, diagnostic.detail)
            }
            Event::Said { who, line } => format!("{who}{line}\n"),
            Event::Message(text) => format!("{text}\n"),
            Event::ApplyStart { address, action, .. } => format!("{address}: {action} started\n"),
            Event::ApplyProgress { address, action, seconds } => format!("{address}: {action} goes on, {seconds}s\n"),
            Event::ApplyComplete { address, action, seconds, .. } => {
                format!("{address}: {action} done after {seconds}s\n")
            }
            Event::ApplyErrored { address, action, .. } => format!("{address}: {action} failed\n"),
        }
    }
}
