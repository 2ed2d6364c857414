//! The trace of a run: read from its record once it has ended, so that it is whole whichever servers worked on it and whichever of
//! them died. Its ids come from those of the run, its steps and attempts: what happens within an attempt belongs to it before
//! anything of it was sent.

use crate::error::AppResult;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::run::{RunRecord, RunState, StepSpec};
use windlass_store::{Event, EventFilter, Store};

/// Where traces go.
pub trait Traces: Send + Sync {
    /// Sends the spans of a run that has ended, or counts them as lost: it never waits.
    fn send(&self, trace: &RunTrace);
    /// Whether a trace with that id is sent at all.
    fn is_sampled(&self, trace: TraceId) -> bool;
    /// What became of spans so far.
    fn counts(&self) -> Counts;
}

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub sent: u64,
    /// The collector did not take them.
    pub failed: u64,
    /// There was no room for them while the collector was slow or away.
    pub dropped: u64,
}

/// A run as spans.
#[derive(Debug, Clone, PartialEq)]
pub struct RunTrace {
    pub id: TraceId,
    /// The run itself first; each after its parent.
    pub spans: Vec<RunSpan>,
}

/// One span of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpan {
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub name: String,
    pub start: Micros,
    pub end: Micros,
    pub attributes: Vec<KeyValue>,
    /// Why it did not end well.
    pub error: Option<String>,
}

/// Events of steps that one trace is made of: the newest, of a very long run.
const EVENTS: u32 = 5_000;

/// What ends an attempt, or a step that has none under way.
const ENDS: [&str; 8] = [
    "step.succeeded",
    "step.failed",
    "step.retried",
    "step.waiting",
    "step.unknown",
    "step.cancelled",
    "step.skipped",
    "step.settled",
];

fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn span_id(parts: &[&str]) -> SpanId {
    let mut id = [0; 8];
    id.copy_from_slice(&digest(parts)[..8]);
    SpanId::from_bytes(id)
}

/// The trace of a run.
pub fn trace_id(run: &RunId) -> TraceId {
    let mut id = [0; 16];
    id.copy_from_slice(&digest(&["trace", run.as_str()])[..16]);
    TraceId::from_bytes(id)
}

fn root_id(run: &RunId) -> SpanId {
    span_id(&["run", run.as_str()])
}

fn part_id(run: &RunId, step: &StepId, attempt: u32, part: &str) -> SpanId {
    span_id(&[part, run.as_str(), step.as_str(), &attempt.to_string()])
}

fn context(traces: &dyn Traces, run: &RunId, span: SpanId) -> SpanContext {
    let id = trace_id(run);
    let flags = if traces.is_sampled(id) { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    SpanContext::new(id, span, flags, true, TraceState::default())
}

/// Within which an attempt does its work.
pub fn within(traces: &dyn Traces, run: &RunId, step: &StepId, attempt: u32) -> Context {
    Context::new().with_remote_span_context(context(traces, run, part_id(run, step, attempt, "work")))
}

/// Links what is going on now to the run that it made.
pub fn made(traces: Option<&dyn Traces>, run: &RunId) {
    if let Some(traces) = traces {
        let attributes = vec![KeyValue::new("windlass.run", run.to_string())];
        Context::current().span().add_link(context(traces, run, root_id(run)), attributes);
    }
}

/// Reads the trace of a run that has ended.
///
/// # Errors
/// The database cannot be read.
pub async fn run_trace(store: &Store, record: &RunRecord) -> AppResult<RunTrace> {
    let of = |kind: &str| EventFilter {
        run: Some(record.id.clone()),
        kind: Some(kind.to_owned()),
        ..EventFilter::default()
    };
    let mut events = store.event_search(&of("step."), None, EVENTS).await?;
    events.reverse();
    let created = store.event_search(&of("run.created"), None, 1).await?.pop();
    Ok(tree(record, created.and_then(|event| event.correlation), &events))
}

/// An attempt that was begun.
struct Begun {
    attempt: u32,
    ready: Micros,
    at: Micros,
    lost: bool,
}

/// The spans of a run from the events of its steps, oldest first.
fn tree(record: &RunRecord, correlation: Option<String>, events: &[Event]) -> RunTrace {
    let run = &record.id;
    let end = record.ended_at.unwrap_or(record.created_at);
    let mut attributes = vec![
        KeyValue::new("windlass.run", run.to_string()),
        KeyValue::new("windlass.kind", record.plan.kind.clone()),
        KeyValue::new("windlass.project", record.project.clone()),
        KeyValue::new("windlass.state", record.state.as_str()),
        KeyValue::new("windlass.actor", record.actor.clone()),
    ];
    attributes.extend(correlation.map(|id| KeyValue::new("correlation", id)));
    let mut spans = vec![RunSpan {
        id: root_id(run),
        parent: None,
        name: format!("run {}", record.plan.kind),
        start: record.created_at,
        end,
        attributes,
        error: (record.state != RunState::Succeeded)
            .then(|| record.reason.clone().unwrap_or_else(|| record.state.as_str().to_owned())),
    }];
    let specs: HashMap<&str, &StepSpec> = record.plan.steps.iter().map(|spec| (spec.id.as_str(), spec)).collect();
    // When a step had its last word, whichever it was.
    let mut last: HashMap<&str, Micros> = HashMap::new();
    let mut begun: HashMap<&str, Begun> = HashMap::new();
    for event in events {
        let Some((id, spec)) = event.step.as_deref().and_then(|step| specs.get_key_value(step)) else { continue };
        match event.kind.as_str() {
            "step.started" => {
                let upstream = spec.after.iter().filter_map(|id| last.get(id.as_str())).max();
                let ready = last.get(id).or(upstream).copied().unwrap_or(record.created_at);
                let attempt = event.data["attempt"].as_u64().unwrap_or_default() as u32;
                begun.insert(id, Begun { attempt, ready, at: event.at, lost: false });
            }
            "step.lost" => {
                if let Some(begun) = begun.get_mut(id) {
                    begun.lost = true;
                }
            }
            kind if ENDS.contains(&kind) => {
                last.insert(id, event.at);
                if let Some(begun) = begun.remove(id) {
                    let reason = event.data["reason"].as_str();
                    spans.extend(attempt(run, spec, &begun, kind, event.at, reason));
                }
            }
            _ => {}
        }
    }
    // Those of a run that somebody gave up.
    let mut open: Vec<(&str, Begun)> = begun.into_iter().collect();
    open.sort_by_key(|(_, begun)| begun.at);
    for (id, begun) in open {
        spans.extend(attempt(run, specs[id], &begun, "step.unknown", end, Some("how it ended is not on record")));
    }
    RunTrace { id: trace_id(run), spans }
}

/// An attempt with its waiting apart from its work.
fn attempt(run: &RunId, spec: &StepSpec, begun: &Begun, kind: &str, end: Micros, reason: Option<&str>) -> [RunSpan; 3] {
    let is_bad = begun.lost || matches!(kind, "step.failed" | "step.retried" | "step.unknown" | "step.cancelled");
    let error = is_bad.then(|| reason.unwrap_or(kind.trim_start_matches("step.")).to_owned());
    let id = |part: &str| part_id(run, &spec.id, begun.attempt, part);
    let attributes = vec![
        KeyValue::new("windlass.run", run.to_string()),
        KeyValue::new("windlass.step", spec.id.to_string()),
        KeyValue::new("windlass.attempt", i64::from(begun.attempt)),
        KeyValue::new("windlass.outcome", kind.trim_start_matches("step.").to_owned()),
        KeyValue::new("windlass.lost", begun.lost),
    ];
    // A clock that was set back makes no span of less than nothing.
    let ready = begun.ready.min(begun.at);
    let end = end.max(begun.at);
    let part = |name: &str, start: Micros, end: Micros| RunSpan {
        id: id(name),
        parent: Some(id("attempt")),
        name: name.to_owned(),
        start,
        end,
        attributes: Vec::new(),
        error: None,
    };
    let whole = RunSpan {
        parent: Some(root_id(run)),
        name: spec.work.driver.clone(),
        attributes,
        error,
        ..part("attempt", ready, end)
    };
    [whole, part("wait", ready, begun.at), part("work", begun.at, end)]
}

#[cfg(test)]
mod tests;
