//! Reviews as people read them: one [`Document`] drawn for terminals, for comments on forges, for browsers, and as JSON.
//!
//! Everything here is a pure function of the document and of what the sink can take. Text that comes from a repository or a
//! plan is never trusted: each renderer escapes it for its sink.

pub mod html;
pub mod markdown;
pub mod template;
pub mod terminal;
mod text;

pub use text::clean;
use windlass_model::review::document::Document;

/// The whole document, for programs.
pub fn json(document: &Document) -> String {
    // Plain data with text keys: serialising it cannot fail.
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}

/// Labels and counts only, for programs.
pub fn summary(document: &Document) -> String {
    serde_json::to_string_pretty(&document.summary).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod sample;
