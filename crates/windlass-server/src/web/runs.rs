//! The list of runs and one run.

use super::{Asked, Page, Sent, lead, paging};
use crate::pages::common::count;
use crate::pages::gantt::{Span, SpanKind};
use crate::pages::log::{LogStep, LogView};
use crate::pages::parts::{Choice, Moment, Offer};
use crate::pages::run::{Change, Each, Link, Members, Part, Question, Run, Step};
use crate::pages::{Section, link, run, runs};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::{Html, Response};
use axum::routing::{get, post};
use std::collections::HashMap;
use std::sync::Arc;
use windlass_app::error::AppError;
use windlass_app::operations::{Arguments, StartOptions};
use windlass_app::requests;
use windlass_app::requests::run_view::{RunView, approve_changed, review_of, run_find, run_show, tells_all};
use windlass_model::Micros;
use windlass_model::access::Permission;
use windlass_model::id::{RunId, StackId, StepId};
use windlass_model::operation::plan::Origin;
use windlass_model::run::{Phase, RunState, StepSpec, StepState};
use windlass_store::{Event, RunQuery, StepOrder, StepQuery, StepTally, StepsOf};

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/runs", Guard::SignedIn, get(list))
        .add(Method::GET, "/runs/{run}", Guard::Within(Permission::ProjectRead), get(one))
        .add(Method::POST, "/runs/{run}/cancel", Guard::Within(Permission::RunCancel), post(cancel))
        .add(Method::POST, "/runs/{run}/halt", Guard::Within(Permission::RunCancel), post(halt))
        .add(Method::POST, "/runs/{run}/resume", Guard::Within(Permission::RunResume), post(resume))
        .add(Method::POST, "/runs/{run}/settle", Guard::Within(Permission::RunSettle), post(settle))
        .add(Method::POST, "/runs/{run}/approve", Guard::Within(Permission::ReviewApprove), post(approve))
        .add(Method::POST, "/runs/{run}/answer", Guard::Within(Permission::OperationAnswer), post(answer))
        .add(Method::POST, "/runs/{run}/go-on", Guard::Within(Permission::OperationRun), post(go_on))
        .add(Method::POST, "/runs/{run}/repeat", Guard::Within(Permission::ReviewCreate), post(repeat))
}

/// Rows of one page of a list, and steps of one page of a run.
const PAGE: u32 = 50;
pub(super) const STEPS: u32 = 200;

async fn list(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let (kind, state) = (asked.query.one("kind"), asked.query.one("state"));
    let (here, stack) = (asked.query.one("after"), asked.query.one("stack"));
    let query = RunQuery {
        subject: asked.query.some("operation"),
        text: asked.query.one("search").trim().to_owned(),
        kind: asked.query.some("kind"),
        state: RunState::parse(state),
        active: state == "active",
        stack: Some(stack).filter(|stack| !stack.is_empty()).map(StackId::new),
        before: asked.query.some("after").map(RunId::new),
        since: None,
    };
    let found = run_find(&app.installation, &asked.who.caller, asked.project(), &query, PAGE + 1).await?;
    let next = (found.len() > PAGE as usize).then(|| found[PAGE as usize - 1].id.to_string());
    let row = |run: windlass_store::RunSummary| runs::Row {
        id: run.id.to_string(),
        created: Moment::new(run.created_at, asked.now),
        took: runs::took(run.created_at, run.ended_at, asked.now),
        project: run.project,
        kind: run.kind,
        title: run.title,
        actor: run.actor,
        state: run.state,
        reason: run.reason,
    };
    let pairs =
        [("project", asked.project()), ("search", &query.text), ("kind", kind), ("state", state), ("stack", stack)];
    let page = runs::Runs {
        project: asked.project().to_owned(),
        kinds: Choice::list("any", &["apply", "drift", "operation", "review"], kind),
        states: runs::states(state),
        rows: found.into_iter().take(PAGE as usize).map(row).collect(),
        paging: paging("/runs", &pairs, here, next.as_deref()),
        search: query.text.clone(),
    };
    Ok(Html(runs::render(&asked.frame(Section::Runs), &page)))
}

/// Whether it can be done now, or why not.
pub(super) fn offer(why: Option<String>, action: String) -> Offer {
    match why {
        None => Offer::open(action),
        Some(why) => Offer::closed(why),
    }
}

async fn one(State(app): State<Arc<App>>, Path(id): Path<String>, asked: Asked) -> Page {
    let id = RunId::new(id);
    let (each, text, state) = (asked.query.one("each"), asked.query.one("step"), asked.query.one("step_state"));
    let start = asked.query.one("after").parse::<u32>().unwrap_or_default();
    let query = StepQuery {
        of: if each.is_empty() { StepsOf::Plan } else { StepsOf::Step(StepId::new(each)) },
        state: StepState::parse(state),
        text: text.trim().to_owned(),
        begun: true,
        after: None,
        // The steps of a run are a graph; what one of them has added is many that are alike.
        order: if each.is_empty() { StepOrder::Plan } else { StepOrder::Trouble },
        skip: start,
    };
    let view = run_show(&app.installation, &asked.who.caller, &id, &query, STEPS).await?;
    let (record, now) = (&view.record, asked.now);
    let base = link::run(id.as_str());
    let all = view.steps.iter().chain(&view.before).chain(&view.open);
    let added = all.clone().filter_map(|step| step.spec.as_ref());
    let specs: HashMap<&str, &StepSpec> =
        record.plan.steps.iter().chain(added).map(|spec| (spec.id.as_str(), spec)).collect();
    let title = |step: &str| specs.get(step).map_or_else(|| step.to_owned(), |spec| spec.title.clone());
    let mut spans = spans(&view.events);
    let ended_at: HashMap<&str, Micros> =
        all.filter_map(|step| Some((step.record.id.as_str(), step.record.ended_at?))).collect();
    let folded = Folded { tally: &view.tally, specs: &specs, each };
    let mut members = folded.members(&base);
    let steps: Vec<Step> = view
        .steps
        .iter()
        .map(|row| &row.record)
        .map(|step| {
            let mut did = spans.remove(step.id.as_str()).unwrap_or_default();
            if let Some(from) = step.started_at.filter(|_| did.is_empty() && tells_all(step)) {
                did.push(Span {
                    until: step.ended_at,
                    end: step.ended_at.map(|_| step.state),
                    ..span(SpanKind::Working, 1, from)
                });
            }
            let after: Vec<String> = specs
                .get(step.id.as_str())
                .map(|spec| spec.after.iter().chain(&spec.flow.gathers).map(ToString::to_string).collect())
                .unwrap_or_default();
            if let Some(begun) = did.first().map(|span| span.from) {
                let ready = after.iter().filter_map(|id| ended_at.get(id.as_str()).copied()).max();
                let ready = ready.unwrap_or(record.created_at);
                if begun > ready {
                    let kind = SpanKind::Queued;
                    did.insert(0, Span { kind, attempt: 1, from: ready, until: Some(begun), end: None });
                }
            }
            Step {
                id: step.id.to_string(),
                title: title(step.id.as_str()),
                state: step.state,
                reason: step.reason.clone(),
                code: step.code.clone(),
                after,
                attempts: step.attempt,
                spans: did,
                log_bytes: view.log_sizes.get(&step.id).copied().unwrap_or_default(),
                part: specs.get(step.id.as_str()).map_or(Part::Main, |spec| part(&spec.flow.phase)),
                members: members.remove(step.id.as_str()),
            }
        })
        .collect();
    let next = view.more.then(|| (start + STEPS).to_string());
    let here = if start > 0 { start.to_string() } else { String::new() };
    let active = !record.state.is_final();
    let has_log = |step: &Step| step.log_bytes > 0;
    let logs: Vec<LogStep> = steps
        .iter()
        .filter(|step| has_log(step))
        .map(|step| LogStep { id: step.id.clone(), title: step.title.clone(), bytes: step.log_bytes })
        .collect();
    let of = |state: StepState| steps.iter().find(|step| step.state == state && has_log(step)).map(|s| s.id.clone());
    let chosen = of(StepState::Running).or_else(|| of(StepState::Failed)).or_else(|| logs.last().map(|s| s.id.clone()));
    let open = || view.open.iter().map(|step| &step.record);
    let waiting = open().find(|step| step.state == StepState::Waiting);
    let waits = match record.state {
        _ if view.unserved.is_some() => view.unserved.clone(),
        RunState::Waiting => record.reason.clone().or_else(|| waiting.and_then(|step| step.reason.clone())),
        RunState::Queued => Some("it has just been made, and nobody has taken it yet".to_owned()),
        _ => None,
    };
    let unknown = open().filter(|step| step.state == StepState::Unknown).map(|step| Question {
        step: step.id.to_string(),
        title: title(step.id.as_str()),
        reason: step.reason.clone().unwrap_or_else(|| "its process ended before it could say".to_owned()),
        known: vec![count(usize::try_from(step.attempt).unwrap_or(usize::MAX), "attempt")],
        settle: offer(view.settle.clone(), format!("{base}/settle")),
    });
    let changes = view.changed.iter().map(|changed| Change {
        instance: changed.instance.to_string(),
        differences: changed.differences.clone(),
        effect_digest: changed.effect_digest.clone(),
        approve: offer(view.approve.clone(), format!("{base}/approve")),
    });
    let page = Run {
        id: id.to_string(),
        project: record.project.clone(),
        kind: record.plan.kind.clone(),
        title: record.plan.title.clone(),
        state: record.state,
        cancelling: record.cancel_requested && active,
        actor: record.actor.clone(),
        why: why(&view),
        created: Moment::new(record.created_at, now),
        ended: record.ended_at.map(|at| Moment::new(at, now)),
        now,
        waits,
        reason: record.reason.clone().filter(|_| !active),
        links: links(&view),
        changes: changes.collect(),
        unknown: unknown.collect(),
        cancel: (active && !record.cancel_requested).then(|| offer(view.cancel.clone(), format!("{base}/cancel"))),
        resume: (record.state == RunState::Waiting).then(|| offer(view.resume.clone(), format!("{base}/resume"))),
        rerun: (!active && matches!(record.plan.kind.as_str(), "review" | "drift"))
            .then(|| offer(view.repeat.clone(), format!("{base}/repeat"))),
        total: folded.total(query.state),
        states: states(view.tally.iter()),
        paging: paging(&base, &[("each", each), ("step_state", state), ("step", text)], &here, next.as_deref()),
        search: text.to_owned(),
        step_state: state.to_owned(),
        each: folded.links(&base, state),
        operation: super::operations::run::part(&app, &asked, &view).await?,
        log: LogView { run: id.to_string(), steps: logs, chosen },
        steps,
    };
    let frame = asked.frame(Section::Runs);
    Ok(Html(run::render(&frame, &page)))
}

/// The steps of a run without those that others have added, or those that `each` has added alone.
struct Folded<'a> {
    tally: &'a [StepTally],
    specs: &'a HashMap<&'a str, &'a StepSpec>,
    each: &'a str,
}

impl<'a> Folded<'a> {
    /// Of the page that is looked at: what takes back and what comes afterwards is there once it has its turn.
    fn own(&self) -> impl Iterator<Item = &'a StepTally> {
        let idle = |some: &StepTally| matches!(some.state, StepState::Pending | StepState::Skipped);
        let by = |some: &StepTally| some.added_by.as_ref().map_or("", |step| step.as_str()) == self.each;
        self.tally.iter().filter(move |some| by(some) && (some.main || !idle(some)))
    }

    fn total(&self, state: Option<StepState>) -> usize {
        self.own().filter(|some| state.is_none_or(|state| some.state == state)).map(|some| some.count).sum()
    }

    /// What steps have added, by the step.
    fn members(&self, base: &str) -> HashMap<&'a str, Members> {
        let mut found: HashMap<&str, Members> = HashMap::new();
        for some in self.tally {
            let Some(by) = some.added_by.as_ref().map(|step| step.as_str()) else { continue };
            let members = found.entry(by).or_insert_with(|| Members {
                href: link::query(base, &[("each", by)]),
                total: 0,
                states: Vec::new(),
            });
            members.total += some.count;
            count_states(&mut members.states, some);
        }
        found
    }

    /// Where the page of added steps leads.
    fn links(&self, base: &str, chosen: &str) -> Option<Each> {
        if self.each.is_empty() {
            return None;
        }
        let title = self.specs.get(self.each).map_or_else(|| self.each.to_owned(), |spec| spec.title.clone());
        let of = |state: &str| link::query(base, &[("each", self.each), ("step_state", state)]);
        let mut links = vec![
            ("Steps of the run".to_owned(), base.to_owned(), false),
            (format!("all {}", self.total(None)), of(""), chosen.is_empty()),
        ];
        links.extend(states(self.own()).iter().map(|(state, number)| {
            (format!("{number} {}", state.as_str()), of(state.as_str()), state.as_str() == chosen)
        }));
        Some(Each { id: self.each.to_owned(), title, links })
    }
}

fn part(phase: &Phase) -> Part {
    match phase {
        Phase::Main => Part::Main,
        Phase::Undo(_) => Part::Undo,
        Phase::Failed | Phase::Cancelled => Part::Handler,
    }
}

fn count_states(states: &mut Vec<(StepState, usize)>, some: &StepTally) {
    match states.iter_mut().find(|(known, _)| *known == some.state) {
        Some((_, number)) => *number += some.count,
        None => states.push((some.state, some.count)),
    }
}

fn states<'a>(tally: impl Iterator<Item = &'a StepTally>) -> Vec<(StepState, usize)> {
    let mut states = Vec::new();
    tally.for_each(|some| count_states(&mut states, some));
    states
}

fn why(view: &RunView) -> String {
    match view.record.plan.kind.as_str() {
        "review" => "a review of the change was asked for".into(),
        "apply" => "somebody who may asked for the review to be applied".into(),
        "drift" => "drift was to be looked for".into(),
        "operation" => "somebody, a time or an event began the operation".into(),
        kind => format!("a run of kind {kind} was asked for"),
    }
}

fn links(view: &RunView) -> Vec<Link> {
    let record = &view.record;
    let mut links = Vec::new();
    let review = match record.plan.kind.as_str() {
        "review" if record.state == RunState::Succeeded => Some(record.id.clone()),
        _ => review_of(record),
    };
    if let Some(review) = review {
        links.push(Link {
            what: "Review".into(),
            text: "what it would do".into(),
            href: link::review(review.as_str()),
        });
    }
    let events = link::query("/events", &[("project", &record.project), ("run", record.id.as_str())]);
    links.push(Link { what: "Events".into(), text: "what happened in it".into(), href: events });
    links
}

/// What each step did when, from the events of its attempts.
fn spans(events: &[Event]) -> HashMap<&str, Vec<Span>> {
    let mut all: HashMap<&str, Vec<Span>> = HashMap::new();
    for event in events {
        let Some(step) = event.step.as_deref() else { continue };
        let spans = all.entry(step).or_default();
        let attempt = spans.iter().map(|span| span.attempt).max().unwrap_or(0);
        let open = spans.last_mut().filter(|span| span.until.is_none());
        let kind = event.kind.strip_prefix("step.").unwrap_or_default();
        let end = match kind {
            "retried" | "lost" => Some(StepState::Failed),
            _ => StepState::parse(kind),
        };
        if let Some(open) = open {
            open.until = Some(event.at);
            open.end = end.filter(|_| open.kind == SpanKind::Working);
        }
        match kind {
            "started" => spans.push(span(SpanKind::Working, attempt + 1, event.at)),
            "retried" | "waiting" => spans.push(span(SpanKind::Waiting, attempt.max(1), event.at)),
            _ => {}
        }
    }
    all
}

fn span(kind: SpanKind, attempt: u32, from: Micros) -> Span {
    Span { kind, attempt, from, until: None, end: None }
}

async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let (run, reason) = (RunId::new(id), sent.fields.some("reason"));
    let kill = sent.fields.one("kill") == "1";
    let done = async {
        let asked = requests::run_cancel(&app.installation, &sent.who.caller, &run, reason.as_deref(), kill).await?;
        Ok::<_, AppError>(lead(&link::run(run.as_str()), if asked { "cancelling" } else { "ended" }))
    };
    let done = done.await;
    sent.answer(&app, done).await
}

async fn halt(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let run = RunId::new(id);
    let done = requests::run_halt(&app.installation, &sent.who.caller, &run, sent.fields.one("reason")).await;
    let done = done.map(|()| lead(&link::run(run.as_str()), "halted"));
    sent.answer(&app, done).await
}

async fn resume(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let run = RunId::new(id);
    let done = requests::run_resume(&app.installation, &sent.who.caller, &run, &[], None).await;
    let done = done.map(|()| lead(&link::run(run.as_str()), "resumed"));
    sent.answer(&app, done).await
}

async fn settle(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let run = RunId::new(id);
    let answer = [format!("{}={}", sent.fields.one("step"), sent.fields.one("answer"))];
    let reason = sent.fields.some("reason");
    let done = requests::run_resume(&app.installation, &sent.who.caller, &run, &answer, reason.as_deref()).await;
    let done = done.map(|()| lead(&link::run(run.as_str()), "settled"));
    sent.answer(&app, done).await
}

async fn approve(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let run = RunId::new(id);
    let reason = sent.fields.some("reason");
    let seen = sent.fields.one("effect");
    let done = approve_changed(&app.installation, &sent.who.caller, &run, seen, reason.as_deref()).await;
    let done = done.map(|()| lead(&link::run(run.as_str()), "approved"));
    sent.answer(&app, done).await
}

async fn answer(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let (run, step) = (RunId::new(id), StepId::new(sent.fields.one("step")));
    let (value, reason) = (sent.fields.one("value"), sent.fields.some("reason"));
    let done = requests::operations::answer(&app.installation, &sent.who.caller, &run, &step, value, reason.as_deref());
    let done = done.await.map(|()| lead(&link::run(run.as_str()), "answered"));
    sent.answer(&app, done).await
}

/// A new run of an operation, which goes on where this one failed.
async fn go_on(State(app): State<Arc<App>>, Path(id): Path<String>, mut sent: Sent) -> Response {
    let run = RunId::new(id);
    // Secrets, which are not sent back with what was wrong.
    let secret = |name: &str| name.starts_with("p.");
    let (secrets, rest) = std::mem::take(&mut sent.fields.0).into_iter().partition(|(name, _)| secret(name));
    sent.fields.0 = rest;
    let secrets: Vec<(String, String)> = secrets;
    let secrets = secrets.into_iter().map(|(name, value)| (name["p.".len()..].to_owned(), value.into())).collect();
    let reason = sent.fields.some("reason");
    let skip = sent.fields.some("skip").map(|step| (step, reason.clone().unwrap_or_default()));
    let options = StartOptions {
        reason,
        skip: skip.into_iter().collect(),
        ..StartOptions::new(Origin::Resumed { run: run.clone() })
    };
    let done = requests::operations::resume(&app.installation, &sent.who.caller, &run, &secrets, options).await;
    let done = done.map(|new| lead(&link::run(new.as_str()), "begun"));
    sent.answer(&app, done).await
}

async fn repeat(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let run = RunId::new(id);
    let options = StartOptions::new(Origin::Person { through: "web".to_owned() });
    let done = requests::run_repeat(&app.installation, &sent.who.caller, &run, &Arguments::new(), options).await;
    let done = done.map(|new| lead(&link::run(new.as_str()), "begun"));
    sent.answer(&app, done).await
}
