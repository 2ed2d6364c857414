//! `policy` blocks, and who may waive what they find.

use super::Loader;
use super::schema::{PolicyValues, WaiversValues};
use crate::terraform::syntax::Block;
use windlass_model::definition::{DecisionKind, Enforcement, PolicyDefinition, PolicyEngine, WaiverRule};
use windlass_model::diagnostic::{Diagnostic, Span};

/// How long a waiver may hold where nothing is said, microseconds: 30 days.
const LONGEST: windlass_model::Micros = 30 * 86_400_000_000;

impl Loader<'_> {
    pub(super) fn policy(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.name(file, block, "") else { return };
        let (values, mut reader) = self.read::<PolicyValues>(file, block);
        let enforcement = match values.enforcement.as_deref() {
            None | Some("deny") => Enforcement::Deny,
            Some("warn") => Enforcement::Warn,
            Some(_) => {
                reader.mistake(
                    "enforcement",
                    "WL106",
                    "`enforcement` is \"deny\" or \"warn\"",
                    "\"deny\" is the default",
                );
                Enforcement::Deny
            }
        };
        let engine = match values.engine.as_deref() {
            None | Some("embedded") => PolicyEngine::Embedded,
            Some("opa") => PolicyEngine::Opa,
            Some(_) => {
                reader.mistake("engine", "WL106", "`engine` is \"embedded\" or \"opa\"", "\"embedded\" is the default");
                PolicyEngine::Embedded
            }
        };
        let kinds = DecisionKind::ALL.map(DecisionKind::as_str);
        let decides = match values.decides.as_deref() {
            None => DecisionKind::Plan,
            Some(text) => DecisionKind::parse(text).unwrap_or_else(|| {
                let help = match crate::suggest(text, kinds.into_iter()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "\"plan\" is the default".to_owned(),
                };
                let known = kinds.join(", ");
                reader.mistake("decides", "WL106", &format!("`decides` is one of {known}"), &help);
                DecisionKind::Plan
            }),
        };
        if decides != DecisionKind::Plan && block.body.value("match").is_some() {
            let help = "a whole change, an operation or an event is not in a stack: remove it, and select in the rules";
            reader.mistake("match", "WL107", "`match` is for policies that decide about plans", help);
        }
        if matches!(decides, DecisionKind::Approval | DecisionKind::Access) && enforcement == Enforcement::Warn {
            let help = "nobody would be asked, or anybody let in: remove it";
            reader.mistake("enforcement", "WL107", "a policy of this kind cannot only warn", help);
        }
        if values.source.is_none() {
            if block.body.value("paths").is_none() {
                let help = "add `paths = …`, a list of strings, e.g. [\"x\"]: Rego files or directories, from the root";
                reader.mistake("paths", "WL109", "policy needs `paths`", help);
            }
            if values.checksum.is_some() {
                let help = "files of the repository are taken from the protected branch: remove it, or name a `source`";
                reader.mistake("checksum", "WL107", "`checksum` belongs to a `source`", help);
            }
        }
        let sum = values.checksum.as_deref().map(|sum| sum.strip_prefix("sha256:").unwrap_or_default());
        if sum.is_some_and(|sum| {
            sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        }) {
            let help = "`windlass policy pull` prints the checksum to write here";
            reader.mistake("checksum", "WL106", "`checksum` is \"sha256:\" and 64 hexadecimal digits", help);
        }
        let waivers = self.waivers(file, block);
        self.definitions.policies.push(PolicyDefinition {
            name,
            decides,
            paths: values.paths,
            source: values.source,
            checksum: values.checksum,
            matches: values.matches,
            namespaces: values.namespaces,
            enforcement,
            engine,
            waivers,
            span,
        });
    }

    /// The `waivers` block of a project or a policy. A second one is a mistake.
    pub(super) fn waivers(&mut self, file: usize, block: &Block) -> Option<WaiverRule> {
        let blocks: Vec<&Block> = block.body.blocks.iter().filter(|b| b.kind == "waivers").collect();
        if let [first, second, ..] = blocks.as_slice() {
            let (path, text) = &self.files[file];
            let place = |block: &Block| Span::of(path, text, block.range.start as usize, block.range.end as usize);
            let diagnostic = Diagnostic::error("WL104", format!("this {} has two `waivers` blocks", block.kind))
                .at_source(place(second), text, "again here")
                .at_source(place(first), text, "first here");
            self.diagnostics.push(diagnostic.help("there is one rule: merge them"));
        }
        let inner = blocks.first()?;
        let (values, mut reader) = self.read::<WaiversValues>(file, inner);
        if inner.body.value("from").is_some() && values.from.is_empty() {
            reader.mistake("from", "WL106", "nobody may waive anything", "name a team, or remove the block");
        }
        Some(WaiverRule {
            from: values.from,
            author_may_waive: values.author_may_waive.unwrap_or(false),
            unverified: values.unverified.unwrap_or(false),
            longest: values.longest.unwrap_or(LONGEST),
        })
    }
}
