//! The `changes` block of a project, and when an environment is applied.

use super::reader::Reader;
use super::schema::ChangesValues;
use super::{Block, Loader, Span};
use windlass_model::change::MergeMethod;
use windlass_model::change::settings::{ApplyWhen, ChangeSettings, Forks};
use windlass_model::diagnostic::Diagnostic;

impl Loader<'_> {
    pub(super) fn changes(&mut self, file: usize, block: &Block) -> ChangeSettings {
        let mut settings = ChangeSettings::default();
        let blocks: Vec<&Block> = block.body.blocks.iter().filter(|b| b.kind == "changes").collect();
        if let [first, second, ..] = blocks.as_slice() {
            let (path, text) = &self.files[file];
            let place = |block: &Block| Span::of(path, text, block.range.start as usize, block.range.end as usize);
            let diagnostic = Diagnostic::error("WL104", "the project has two `changes` blocks")
                .at_source(place(second), text, "again here")
                .at_source(place(first), text, "first here");
            self.diagnostics.push(diagnostic.help("merge them"));
        }
        let Some(block) = blocks.first() else { return settings };
        let (values, mut reader) = self.read::<ChangesValues>(file, block);
        if let Some(when) = values.apply.and_then(|text| apply_when(&text, &mut reader)) {
            settings.apply = when;
        }
        match values.method.as_deref() {
            None | Some("merge") => {}
            Some("squash") => settings.method = MergeMethod::Squash,
            Some("rebase") => settings.method = MergeMethod::Rebase,
            Some(_) => {
                let what = "`method` is \"merge\", \"squash\" or \"rebase\"";
                reader.mistake("method", "WL106", what, "\"merge\" is the default");
            }
        }
        match values.forks.as_deref() {
            None | Some("ask") => {}
            Some("never") => settings.forks = Forks::Never,
            Some(_) => {
                reader.mistake("forks", "WL106", "`forks` is \"ask\" or \"never\"", "\"ask\" is the default");
            }
        }
        settings.merge = values.merge.unwrap_or(settings.merge);
        settings.delete_branch = values.delete_branch.unwrap_or(settings.delete_branch);
        settings.autoplan = values.autoplan.unwrap_or(settings.autoplan);
        settings.labels = values.labels.unwrap_or(settings.labels);
        settings
    }
}

/// When something is applied; a mistake of `apply` where the text says nothing that is known.
pub(super) fn apply_when(text: &str, reader: &mut Reader<'_>) -> Option<ApplyWhen> {
    let when = ApplyWhen::parse(text);
    if when.is_none() {
        let names: Vec<String> = ApplyWhen::ALL.iter().map(|when| format!("\"{}\"", when.as_str())).collect();
        let help = match crate::suggest(text, ApplyWhen::ALL.iter().map(|when| when.as_str())) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "\"before_merge\" is the default".to_owned(),
        };
        reader.mistake("apply", "WL106", &format!("`apply` is one of {}", names.join(", ")), &help);
    }
    when
}
