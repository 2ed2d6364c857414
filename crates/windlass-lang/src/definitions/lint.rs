//! `lint` blocks.

use super::schema::{LintValues, ToolValues};
use super::{Block, Loader};
use windlass_model::definition::{Enforcement, LintDefinition, LintTool};

impl Loader<'_> {
    /// The `lint` blocks of a project; several are one.
    pub(super) fn lint(&mut self, file: usize, block: &Block) -> LintDefinition {
        let mut lint = LintDefinition::default();
        for inner in block.body.blocks.iter().filter(|b| b.kind == "lint") {
            let (values, mut reader) = self.read::<LintValues>(file, inner);
            for code in &values.disable {
                let known = code.starts_with("WL7") && windlass_model::codes::explain(code).is_some();
                if !known {
                    let what = format!("`{code}` is no check of `lint`");
                    reader.mistake(
                        "disable",
                        "WL106",
                        &what,
                        "`windlass explain` lists the codes; those of `lint` are WL7xx",
                    );
                }
            }
            lint.disable.extend(values.disable);
            for tool in inner.body.blocks.iter().filter(|b| b.kind == "tool") {
                lint.tools.extend(self.lint_tool(file, tool));
            }
        }
        lint
    }

    fn lint_tool(&mut self, file: usize, block: &Block) -> Option<LintTool> {
        let (name, span) = self.name(file, block, "lint ")?;
        let (values, mut reader) = self.read::<ToolValues>(file, block);
        let enforcement = match values.enforcement.as_deref() {
            None | Some("warn") => Enforcement::Warn,
            Some("deny") => Enforcement::Deny,
            Some(_) => {
                let what = "`enforcement` is \"warn\" or \"deny\"";
                reader.mistake("enforcement", "WL106", what, "\"warn\" is the default");
                Enforcement::Warn
            }
        };
        let command = if values.command.is_empty() { LintTool::known(&name) } else { Some(values.command) };
        let Some(command) = command else {
            let what = format!("how tool \"{name}\" is run is not known");
            let help = "write `command = [\"PROGRAM\", \"ARGUMENT\", …]`; tflint, trivy and checkov are known";
            self.mistake_at(file, block, "WL109", &what, help);
            return None;
        };
        Some(LintTool { name, command, enforcement, runner: values.runner, span })
    }
}
