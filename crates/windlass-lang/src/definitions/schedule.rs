//! `schedule` and `trigger` blocks of operations, and `freeze`.

use super::operation::{Placed, one_of};
use super::operation_schema::{
    AlertmanagerTriggerValues, EventTriggerValues, FilesTriggerValues, FreezeValues, ImageTriggerValues,
    ScheduleValues, TriggerValues, WebhookTriggerValues,
};
use super::reader::Reader;
use super::{Block, Loader};
use windlass_model::Micros;
use windlass_model::operation::trigger::{Freeze, Missed, ScheduleDefinition, TriggerDefinition, TriggerSource};
use windlass_model::schedule::{self, Times};

const MINUTE: Micros = 60_000_000;
/// Blocks that say what a trigger listens to.
const SOURCES: [&str; 5] = ["webhook", "event", "alertmanager", "files", "image"];

/// The zone of that name; UTC where none is said.
pub(super) fn zone(reader: &mut Reader<'_>, name: Option<String>) -> String {
    let name = name.unwrap_or_else(|| "UTC".to_owned());
    if schedule::zone(&name).is_err() {
        let known: Vec<String> = schedule::zone_names().collect();
        let help = match crate::suggest(&name, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write its IANA name, such as \"Asia/Tokyo\"".to_owned(),
        };
        reader.mistake("timezone", "WL129", &format!("there is no time zone \"{name}\""), &help);
    }
    name
}

impl Loader<'_> {
    pub(super) fn schedule(&mut self, file: usize, block: &Block, within: &str) -> Option<ScheduleDefinition> {
        let name = match block.labels.as_slice() {
            [] => {
                let key = (format!("{within}schedule"), "default".to_owned());
                if self.seen.insert(key, self.head(file, block)).is_some() {
                    let help = "give each a name: schedule \"nightly\" { … }";
                    self.mistake_at(file, block, "WL104", "there are two schedules without a name", help);
                    return None;
                }
                "default".to_owned()
            }
            _ => self.label(file, block, within)?.0,
        };
        let (values, mut reader) = self.read::<ScheduleValues>(file, block);
        let known = [("skip", Missed::Skip), ("latest", Missed::Latest), ("all", Missed::All)];
        let missed = one_of(&mut reader, "missed", values.missed.as_deref(), &known).unwrap_or_default();
        let timezone = zone(&mut reader, values.timezone);
        if let Some(cron) = &values.cron
            && let Err(error) = Times::parse(cron, "UTC")
        {
            let help = "write minute, hour, day, month and day of the week, such as \"0 3 * * 1\"";
            reader.mistake("cron", "WL129", &error.to_string(), help);
        }
        Some(ScheduleDefinition {
            name,
            cron: values.cron?,
            timezone,
            missed,
            within: values.within.unwrap_or(60 * MINUTE),
            jitter: values.jitter.unwrap_or(0),
            arguments: values.arguments,
            enabled: values.enabled.unwrap_or(true),
            span: self.head(file, block),
        })
    }

    pub(super) fn trigger(&mut self, file: usize, block: &Block, within: &str) -> Option<TriggerDefinition> {
        let (name, span) = self.label(file, block, within)?;
        let sources: Vec<Placed<'_>> = block
            .body
            .blocks
            .iter()
            .filter(|inner| SOURCES.contains(&inner.kind.as_str()))
            .map(|inner| (file, inner))
            .collect();
        let source = sources.first().and_then(|(file, inner)| self.trigger_source(*file, inner));
        let (values, mut reader) = self.read::<TriggerValues>(file, block);
        if sources.len() != 1 {
            let what = format!("a trigger listens to one thing, this one to {}", sources.len());
            reader.mistake("", "WL107", &what, &format!("give one of the blocks {}", SOURCES.join(", ")));
        }
        Some(TriggerDefinition {
            name,
            source: source?,
            when: values.when,
            arguments: values.arguments,
            deduplicate: values.deduplicate,
            window: values.window.unwrap_or(60 * MINUTE),
            span,
        })
    }

    fn trigger_source(&mut self, file: usize, block: &Block) -> Option<TriggerSource> {
        Some(match block.kind.as_str() {
            "webhook" => TriggerSource::Webhook { key: self.read::<WebhookTriggerValues>(file, block).0.key? },
            "event" => TriggerSource::Event { kinds: self.read::<EventTriggerValues>(file, block).0.kinds },
            "alertmanager" => {
                let (values, _) = self.read::<AlertmanagerTriggerValues>(file, block);
                TriggerSource::Alertmanager { key: values.key?, resolved: values.resolved.unwrap_or(false) }
            }
            "files" => {
                let (values, mut reader) = self.read::<FilesTriggerValues>(file, block);
                for glob in &values.paths {
                    if let Err(error) = crate::glob(glob) {
                        let help = "`*` stands for anything within a segment, `**` for any number of segments";
                        reader.mistake("paths", "WL106", &format!("pattern `{glob}` is not valid: {error}"), help);
                    }
                }
                TriggerSource::Files { paths: values.paths }
            }
            _ => {
                let (values, mut reader) = self.read::<ImageTriggerValues>(file, block);
                let every = values.every.unwrap_or(5 * MINUTE);
                if every < MINUTE {
                    let help = "registries count questions: ask once a minute at most";
                    reader.mistake("every", "WL106", "`every` is less than a minute", help);
                }
                TriggerSource::Image { reference: values.reference?, every }
            }
        })
    }

    /// A freeze with a mistake in it is left out; nothing of the file is used while there is one.
    pub(super) fn freeze(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.label(file, block, "") else { return };
        let (values, mut reader) = self.read::<FreezeValues>(file, block);
        if reader.has("environments") && values.environments.is_empty() {
            reader.mistake(
                "environments",
                "WL106",
                "`environments` names none",
                "name some, or remove it: everything freezes then",
            );
        }
        let mut moment = |attribute: &str, text: Option<String>| {
            let text = text?;
            let Ok(moment) = text.parse::<jiff::Timestamp>() else {
                let help = "write it with its offset: \"2026-12-20T00:00:00+09:00\"";
                reader.mistake(attribute, "WL106", &format!("`{text}` is no moment"), help);
                return None;
            };
            Some(moment.as_microsecond())
        };
        let (Some(from), Some(to)) = (moment("from", values.from), moment("to", values.to)) else { return };
        if from >= to {
            reader.mistake("to", "WL106", "the freeze ends before it begins", "change one of them");
        }
        let reason = values.reason.unwrap_or_default();
        self.definitions.freezes.push(Freeze { name, environments: values.environments, from, to, reason, span });
    }
}
