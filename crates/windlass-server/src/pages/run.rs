//! One run: what it is, why it waits, its steps in order and over time, their logs, and what can be done.

mod graph;
pub mod operation;
#[cfg(test)]
mod tests;

use super::Frame;
use super::gantt::{self, Span, SpanKind};
use super::log::{LogStep, LogView};
use super::parts::{self, Moment, Offer, Paging, duration, rendered};
use askama::Template;
use windlass_model::Micros;
use windlass_model::run::{RunState, StepState};

/// What the page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: String,
    pub project: String,
    pub kind: String,
    pub title: String,
    pub state: RunState,
    /// Somebody asked for it to be cancelled, and it has not ended.
    pub cancelling: bool,
    /// Who started it.
    pub actor: String,
    /// What made it start, in one sentence, e.g. `review 3f3f… was approved`.
    pub why: String,
    pub created: Moment,
    pub ended: Option<Moment>,
    /// The time of the page, microseconds since 1970, UTC.
    pub now: Micros,
    /// Why it waits, in one sentence; only while it does.
    pub waits: Option<String>,
    /// Why it failed, was cancelled or abandoned.
    pub reason: Option<String>,
    /// Its review, its event log, the run that it repeats.
    pub links: Vec<Link>,
    /// Effects that differ from what was approved.
    pub changes: Vec<Change>,
    /// Steps whose end is unknown.
    pub unknown: Vec<Question>,
    /// `None` where it makes no sense, e.g. when it has ended; so the next two.
    pub cancel: Option<Offer>,
    pub resume: Option<Offer>,
    pub rerun: Option<Offer>,
    /// One page of them.
    pub steps: Vec<Step>,
    /// How many there are in all, before they were searched.
    pub total: usize,
    /// What was searched for in their ids, and the state they have to be in; empty for all.
    pub search: String,
    pub step_state: String,
    /// How many are in which state, of all.
    pub states: Vec<(StepState, usize)>,
    pub paging: Paging,
    /// The step whose additions these steps are; `None` for the run's own.
    pub each: Option<Each>,
    pub log: LogView,
    /// `None` for runs of anything else.
    pub operation: Option<operation::Operation>,
}

/// Steps that another one has added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Each {
    /// Of the one that added them.
    pub id: String,
    /// Title of the one that added them.
    pub title: String,
    /// Where all of them are, with how many there are; and those of each state.
    pub links: Vec<(String, String, bool)>,
}

/// What a step has added to the run, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    pub href: String,
    pub total: usize,
    pub states: Vec<(StepState, usize)>,
}

/// What a step is of an operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    #[default]
    Main,
    /// Takes back what another did.
    Undo,
    /// Handles the end of a run that failed or was cancelled.
    Handler,
}

impl Part {
    fn heading(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Undo => "Taken back",
            Self::Handler => "Afterwards",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// e.g. `Review`.
    pub what: String,
    pub text: String,
    /// Within this site.
    pub href: String,
}

/// The effect of an instance is not what was approved. The form sends `effect` and `reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub instance: String,
    /// One sentence each.
    pub differences: Vec<String>,
    pub effect_digest: String,
    pub approve: Offer,
}

/// A step that was under way when its engine died. The form sends `step`, `answer` (`done`, `failed`, `repeat`) and `reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub step: String,
    pub title: String,
    /// Why nobody knows.
    pub reason: String,
    /// One sentence each: resources begun and not ended, the lock, where the state is.
    pub known: Vec<String>,
    pub settle: Offer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub id: String,
    pub title: String,
    pub state: StepState,
    /// Of a failure, a skip, a wait or an unknown: one sentence.
    pub reason: Option<String>,
    /// Stable code of the failure, e.g. `WL501`.
    pub code: Option<String>,
    /// Ids of the steps before it.
    pub after: Vec<String>,
    /// Started so far.
    pub attempts: u32,
    /// What it did when, in order of time.
    pub spans: Vec<Span>,
    /// Length of its log by now, all attempts.
    pub log_bytes: u64,
    pub part: Part,
    pub members: Option<Members>,
}

impl Step {
    fn waited(&self, now: Micros) -> String {
        self.time(|kind| kind != SpanKind::Working, now)
    }
    fn worked(&self, now: Micros) -> String {
        self.time(|kind| kind == SpanKind::Working, now)
    }
    fn time(&self, of: impl Fn(SpanKind) -> bool, now: Micros) -> String {
        let spans = self.spans.iter().filter(|span| of(span.kind));
        match spans.map(|span| span.lasted(now)).sum::<Micros>() {
            0 => "–".into(),
            sum => duration(sum),
        }
    }
    fn after_told(&self) -> String {
        match self.after.as_slice() {
            many if many.len() > 4 => format!("{} and {} more", many[..3].join(", "), many.len() - 3),
            few => few.join(", "),
        }
    }
    fn size(&self) -> String {
        parts::size(self.log_bytes)
    }
}

impl Run {
    fn stream(&self) -> String {
        format!("/api/v1/runs/{}/stream", parts::encoded(&self.id))
    }
    /// There is more than one page of steps.
    fn is_searched(&self) -> bool {
        self.total > self.steps.len() || !self.search.is_empty()
    }
    fn took(&self) -> String {
        super::runs::took(self.created.at, self.ended.as_ref().map(|e| e.at), self.now)
    }
    fn ended_as(&self) -> &'static str {
        match self.state {
            RunState::Failed => "failed",
            RunState::Cancelled => "was cancelled",
            RunState::Abandoned => "was abandoned",
            RunState::Succeeded => "succeeded",
            RunState::Queued | RunState::Running | RunState::Waiting => "is as it is",
        }
    }
    /// The steps, those that undo and those that handle an end apart.
    fn sections(&self) -> Vec<(&'static str, Vec<&Step>)> {
        let of = |part: Part| (part.heading(), self.steps.iter().filter(|step| step.part == part).collect::<Vec<_>>());
        [Part::Main, Part::Undo, Part::Handler].map(of).into_iter().filter(|(_, steps)| !steps.is_empty()).collect()
    }
    fn graph(&self) -> Option<String> {
        let nodes = self.steps.iter().map(|step| {
            let Step { id, title, state, after, .. } = step;
            graph::Node { id, title, state: *state, after, href: anchor(id) }
        });
        graph::svg(&nodes.collect::<Vec<_>>())
    }
    fn gantt(&self) -> String {
        let rows = self.steps.iter().map(|step| {
            let Step { title, state, spans, .. } = step;
            gantt::Row { title, state: *state, spans }
        });
        gantt::svg(&rows.collect::<Vec<_>>(), self.created.at, self.ended.as_ref().map(|e| e.at), self.now)
    }
}

/// The link within the page to a step and its log; a line follows as `:L42`.
pub fn anchor(step: &str) -> String {
    format!("#step-{}", parts::encoded(step))
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage<'a> {
    frame: &'a Frame,
    page: &'a Run,
}

pub fn render(frame: &Frame, page: &Run) -> String {
    rendered(&RunPage { frame, page })
}

const NOW: Micros = 1_763_715_005_000_000;
const S: Micros = 1_000_000;

impl Run {
    /// For tests: an apply at work, one step of which was tried twice.
    pub fn sample() -> Self {
        let span = |kind, attempt, from: i64, until: Option<i64>, end| Span {
            kind,
            attempt,
            from: NOW + from * S,
            until: until.map(|u| NOW + u * S),
            end,
        };
        let step = |id: &str, state, after: &[&str], spans: Vec<Span>| {
            let attempts = spans.iter().filter(|s| s.kind == SpanKind::Working).map(|s| s.attempt).max().unwrap_or(0);
            Step {
                id: id.into(),
                title: id.replace(':', " "),
                state,
                reason: None,
                code: None,
                after: after.iter().map(|a| (*a).to_owned()).collect(),
                attempts,
                spans,
                log_bytes: u64::from(attempts) * 12_345,
                part: Part::Main,
                members: None,
            }
        };
        let (done, failed) = (Some(StepState::Succeeded), Some(StepState::Failed));
        let mut waits = step(
            "gate:aws/db[tokyo]",
            StepState::Waiting,
            &["plan:aws/db[tokyo]"],
            vec![span(SpanKind::Waiting, 1, -20, None, None)],
        );
        waits.reason = Some("waits for an approval of the effect that it has now".into());
        let steps = vec![
            step(
                "plan:aws/network",
                StepState::Succeeded,
                &[],
                vec![
                    span(SpanKind::Queued, 1, -180, Some(-175), None),
                    span(SpanKind::Working, 1, -175, Some(-150), failed),
                    span(SpanKind::Waiting, 2, -150, Some(-140), None),
                    span(SpanKind::Working, 2, -140, Some(-120), done),
                ],
            ),
            step(
                "apply:aws/network",
                StepState::Succeeded,
                &["plan:aws/network"],
                vec![span(SpanKind::Working, 1, -120, Some(-60), done)],
            ),
            step(
                "plan:aws/db[tokyo]",
                StepState::Succeeded,
                &["apply:aws/network"],
                vec![span(SpanKind::Queued, 1, -60, Some(-45), None), span(SpanKind::Working, 1, -45, Some(-20), done)],
            ),
            waits,
            step("apply:aws/db[tokyo]", StepState::Pending, &["gate:aws/db[tokyo]"], Vec::new()),
            step(
                "plan:aws/app",
                StepState::Running,
                &["apply:aws/network"],
                vec![span(SpanKind::Working, 1, -15, None, None)],
            ),
            step("apply:aws/app", StepState::Pending, &["plan:aws/app"], Vec::new()),
            step("finish", StepState::Pending, &["apply:aws/app", "apply:aws/db[tokyo]"], Vec::new()),
        ];
        let log_step = |step: &Step| LogStep { id: step.id.clone(), title: step.title.clone(), bytes: step.log_bytes };
        let run = "01k9zzzzzzzzzzzzzzzzzzzzzz";
        Self {
            id: run.into(),
            project: "shop".into(),
            kind: "apply".into(),
            title: "bigger-database to production: 3 stacks".into(),
            state: RunState::Running,
            cancelling: false,
            actor: "Anna <anna@example.com>".into(),
            why: "its review has all approvals, and Anna asked for it to be applied".into(),
            created: Moment::new(NOW - 181 * S, NOW),
            ended: None,
            now: NOW,
            waits: None,
            reason: None,
            links: vec![Link {
                what: "Review".into(),
                text: "bigger-database at 3f3f3f3f3f3f".into(),
                href: "/reviews/01k9yyyyyyyyyyyyyyyyyyyyyy".into(),
            }],
            changes: Vec::new(),
            unknown: Vec::new(),
            cancel: Some(Offer::open(format!("/runs/{run}/cancel"))),
            resume: None,
            rerun: None,
            total: steps.len(),
            search: String::new(),
            step_state: String::new(),
            states: vec![
                (StepState::Running, 1),
                (StepState::Waiting, 1),
                (StepState::Pending, 3),
                (StepState::Succeeded, 3),
            ],
            paging: Paging::default(),
            each: None,
            operation: None,
            log: LogView {
                run: run.into(),
                steps: steps.iter().filter(|s| s.log_bytes > 0).map(log_step).collect(),
                chosen: Some("plan:aws/app".into()),
            },
            steps,
        }
    }

    /// For tests: waits for a person to look at a changed effect.
    pub fn sample_waiting() -> Self {
        let run = Self::sample();
        Self {
            state: RunState::Waiting,
            waits: Some("aws/db[tokyo] would do something else than was approved, until somebody approves that".into()),
            changes: vec![Change {
                instance: "aws/db[tokyo]".into(),
                differences: vec![
                    "aws_db_instance.main is replaced now, because engine_version changes".into(),
                    "output endpoint is known after apply only".into(),
                ],
                effect_digest: "e".repeat(64),
                approve: Offer::open(format!("/runs/{}/approve", run.id)),
            }],
            ..run
        }
    }

    /// For tests: a step whose end nobody knows, which this person may not settle.
    pub fn sample_unknown() -> Self {
        let mut run = Self::sample_waiting();
        let question = |settle| Question {
            step: "apply:aws/network".into(),
            title: "apply aws/network".into(),
            reason: "its worker died, and terraform had begun".into(),
            known: vec![
                "aws_vpc.main: creating was begun and not reported to have ended".into(),
                "the lock of the state is held by what died".into(),
            ],
            settle,
        };
        run.waits = Some("apply aws/network was under way when its worker died; somebody has to look".into());
        run.unknown = vec![
            question(Offer::open(format!("/runs/{}/settle", run.id))),
            Question {
                step: "apply:aws/queue".into(),
                title: "apply aws/queue".into(),
                ..question(Offer::closed("only team queues may settle what happened to aws/queue"))
            },
        ];
        run.changes[0].approve = Offer::closed("you are the author of the change");
        run.cancel = Some(Offer::closed("a step is being settled"));
        run.steps[1].state = StepState::Unknown;
        run.steps[1].spans[0].end = Some(StepState::Unknown);
        run
    }

    /// For tests: it failed.
    pub fn sample_failed() -> Self {
        let mut run = Self::sample();
        run.state = RunState::Failed;
        run.reason = Some("plan aws/app failed: Invalid provider configuration".into());
        run.ended = Some(Moment::new(NOW - 5 * S, NOW));
        run.cancel = None;
        run.rerun = Some(Offer::open(format!("/runs/{}/rerun", run.id)));
        run.resume = Some(Offer::closed("it has ended"));
        let app = &mut run.steps[5];
        (app.state, app.code) = (StepState::Failed, Some("WL503".into()));
        app.reason = Some("Invalid provider configuration: no region was given".into());
        app.spans[0].until = Some(NOW - 5 * S);
        app.spans[0].end = Some(StepState::Failed);
        run
    }

    /// For tests: that of an operation, with an undo and a step that has added others.
    pub fn sample_of_operation() -> Self {
        let mut run = Self { kind: "operation".into(), title: "upgrade-store".into(), ..Self::sample_failed() };
        run.steps[6].part = Part::Undo;
        run.steps[7].part = Part::Handler;
        let states = vec![(StepState::Succeeded, 9_990), (StepState::Failed, 10)];
        run.steps[1].members = Some(Members { href: format!("/runs/{}?each=x", run.id), total: 10_000, states });
        Self { operation: Some(operation::Operation::sample()), ..run }
    }

    /// For tests: nothing was to be done.
    pub fn sample_empty() -> Self {
        let run = Self::sample();
        Self {
            state: RunState::Succeeded,
            ended: Some(Moment::new(NOW, NOW)),
            steps: Vec::new(),
            total: 0,
            states: Vec::new(),
            cancel: None,
            log: LogView { steps: Vec::new(), chosen: None, ..run.log },
            ..run
        }
    }
}
