//! What starts an operation without a person: times and events.

use super::Expression;
use crate::Micros;
use crate::diagnostic::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `schedule "nightly" { cron = "0 9 * * *"  timezone = "Asia/Tokyo" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleDefinition {
    /// `default` where it is not said; unique in its operation.
    pub name: String,
    /// Five fields, or six with seconds first.
    pub cron: String,
    /// IANA name; `UTC` where it is not said.
    pub timezone: String,
    pub missed: Missed,
    /// How late a missed time may still be made up for, microseconds.
    pub within: Micros,
    /// Begins up to this much later, by a number that follows from the operation, the schedule and the time; microseconds.
    pub jitter: Micros,
    pub arguments: BTreeMap<String, Expression>,
    pub enabled: bool,
    pub span: Span,
}

/// What becomes of times at which no server was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    Skip,
    /// The newest of them is made up for.
    #[default]
    Latest,
    /// Each of them is.
    All,
}

/// `trigger "deployed" { webhook { key = secret.hook }  arguments = { version = trigger.payload.version } }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriggerDefinition {
    pub name: String,
    pub source: TriggerSource,
    /// Over `trigger.payload` and `trigger.event`.
    pub when: Option<Expression>,
    pub arguments: BTreeMap<String, Expression>,
    /// What happens twice with the same text within [`Self::window`] starts one run. By default the sender's id of a delivery, or
    /// the id of an event.
    pub deduplicate: Option<Expression>,
    /// Microseconds.
    pub window: Micros,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TriggerSource {
    /// `POST /hooks/operations/PROJECT/OPERATION/TRIGGER`, signed by HMAC-SHA256 with a secret of the operation.
    Webhook { key: Expression },
    /// Events of Windlass itself, by kind, e.g. `run.failed`, `stack.applied`, `drift.found`.
    Event { kinds: Vec<String> },
    /// Prometheus' Alertmanager; once for each alert that fires, or also when it is resolved.
    Alertmanager { key: Expression, resolved: bool },
    /// A push to the protected branch that changes files that match.
    Files { paths: Vec<String> },
    /// The digest behind a tag of an image changed; asked at an interval.
    Image { reference: String, every: Micros },
}

/// `freeze "year-end" { environments = ["production"]  from = "2026-12-20T00:00:00+09:00"  to = "…"  reason = "…" }`: when nothing
/// begins by itself there, and nobody begins anything without breaking the glass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub name: String,
    /// Empty: everywhere.
    pub environments: Vec<String>,
    /// Microseconds since the Unix epoch; the end is exclusive.
    pub from: Micros,
    pub to: Micros,
    pub reason: String,
    pub span: Span,
}
