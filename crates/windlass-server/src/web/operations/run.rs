//! What the page of a run has of its operation, and two runs side by side.

use super::window_told;
use crate::pages::common::{Badge, List, Tone};
use crate::pages::operations::form::told;
use crate::pages::operations::{compare, state};
use crate::pages::{Section, link, parts};
use crate::problem::Failure;
use crate::state::App;
use crate::web::{Asked, Page, short};
use axum::extract::{Path, State};
use axum::response::Html;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_app::operations::again::{Side, StepPair, StepSide};
use windlass_app::operations::answers::Asks;
use windlass_app::requests::artefacts::{artefact_list, artefact_why_not};
use windlass_app::requests::operations as cases;
use windlass_app::requests::operations::view::{AskView, asks, may_run};
use windlass_app::requests::run_view::RunView;
use windlass_app::run_artefacts::RunArtefact;
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::ChecklistItem;
use windlass_model::operation::answers::Answer;
use windlass_model::operation::plan::{OperationInput, OperationStep, Origin, word};
use windlass_model::run::{RunRecord, RunState, StepState};
use windlass_store::RunFilter;

/// Steps of a comparison.
const COMPARED: usize = 500;

pub(super) async fn compared(
    State(app): State<Arc<App>>,
    Path((run, other)): Path<(String, String)>,
    asked: Asked,
) -> Page {
    let (before, after) = (RunId::new(run), RunId::new(other));
    let found = cases::compare(&app.installation, &asked.who.caller, &before, &after).await?;
    let took = |took: Option<Micros>| took.map(parts::duration).unwrap_or_default();
    let side = |side: &Side| compare::Side {
        run: side.run.to_string(),
        operation: side.operation.clone(),
        state: RunState::parse(&side.state).map_or_else(|| Badge::new(Tone::Plain, &side.state), state),
        actor: side.actor.clone(),
        commit: short(&side.commit),
        took: took(side.took),
    };
    let step = |pair: &StepPair| {
        let told = |side: &StepSide| (side.state.clone(), took(side.took));
        let both = pair.before.as_ref().zip(pair.after.as_ref());
        let times = both.and_then(|(before, after)| Some(after.took? - before.took?));
        compare::Step {
            id: pair.step.to_string(),
            before: pair.before.as_ref().map(told),
            after: pair.after.as_ref().map(told),
            difference: match times {
                None | Some(0) => String::new(),
                Some(more @ 1..) => format!("{} longer", parts::duration(more)),
                Some(less) => format!("{} shorter", parts::duration(-less)),
            },
            is_other: both.is_some_and(|(before, after)| before.state != after.state),
        }
    };
    let mut steps: Vec<compare::Step> = found.steps.iter().map(step).collect();
    let total = steps.len();
    if total > COMPARED {
        // What is different is not to be looked for.
        steps.sort_by_key(|step| !step.is_other);
        steps.truncate(COMPARED);
    }
    let value =
        |value: &Option<serde_json::Value>| value.as_ref().map(told).map(|text| short_value(&text)).unwrap_or_default();
    let page = compare::Compare {
        before: side(&found.before),
        after: side(&found.after),
        parameters: found
            .parameters
            .iter()
            .map(|one| (one.name.clone(), value(&one.before), value(&one.after)))
            .collect(),
        same_definition: found.same_definition,
        steps: List { items: steps, total },
    };
    Ok(Html(compare::render(&asked.frame(Section::Runs), &page)))
}

/// What the page of a run has besides where it is one of an operation; `None` where it is not.
pub(in crate::web) async fn part(
    app: &App,
    asked: &Asked,
    view: &RunView,
) -> Result<Option<crate::pages::run::operation::Operation>, Failure> {
    use crate::pages::run::operation as shown;
    let record = &view.record;
    let Ok(input) = cases::input(record) else { return Ok(None) };
    let (installation, caller, now) = (&app.installation, &asked.who.caller, asked.now);
    let asks = asks(installation, caller, record, &input, &view.open, ASKS).await?;
    let store = installation.store(caller, &record.project);
    let filter = RunFilter {
        kind: Some(record.plan.kind.clone()),
        subject: Some(input.operation.name.clone()),
        before: Some(record.id.clone()),
        ..RunFilter::default()
    };
    let answer_href = format!("{}/answer", link::run(record.id.as_str()));
    let offer = |ask: &AskView| crate::web::runs::offer(ask.why_not.clone(), answer_href.clone());
    let said = |answer: &Answer| shown::Answer {
        actor: answer.actor.to_string(),
        value: answer.value.clone(),
        reason: answer.reason.clone().unwrap_or_default(),
        at: parts::Moment::new(answer.at, now),
    };
    let (ticks, asks): (Vec<AskView>, Vec<AskView>) =
        asks.into_iter().partition(|ask| matches!(ask.asks, Asks::Tick(_)));
    let ask = |ask: &AskView| shown::Ask {
        step: ask.step.id.to_string(),
        title: match &ask.asks {
            Asks::Approval(_) => "Approvals".to_owned(),
            Asks::Question(_) | Asks::Tick(_) => "A question".to_owned(),
        },
        told: ask.step.reason.clone().unwrap_or_default(),
        choices: match &ask.asks {
            Asks::Approval(_) => {
                vec![(word::APPROVE.to_owned(), "Approve".to_owned()), (word::REFUSE.to_owned(), "Refuse".to_owned())]
            }
            Asks::Question(_) | Asks::Tick(_) => {
                ask.asks.words().into_iter().map(|word| (word.clone(), word)).collect()
            }
        },
        offer: ask.is_open.then(|| offer(ask)),
        answers: ask.answers.iter().map(said).collect(),
    };
    let (origin, before) = began(&input.origin);
    Ok(Some(shown::Operation {
        project: record.project.clone(),
        name: input.operation.name.clone(),
        environment: input.environment.clone().unwrap_or_default(),
        parameters: input.arguments.iter().map(|(name, value)| (name.clone(), short_value(&told(value)))).collect(),
        secrets: input.secrets.clone(),
        origin,
        before,
        reason: input.reason.clone().unwrap_or_default(),
        commit: short(&input.head.commit),
        broke_glass: input.broke_glass,
        skipped: input.skipped.clone().into_iter().collect(),
        asks: asks.iter().filter(|one| one.is_open || !one.answers.is_empty()).map(ask).collect(),
        checklist: checklist(&input, view, &ticks, offer, now),
        go_on: match record.state {
            RunState::Failed | RunState::Cancelled => {
                let why = may_run(installation, caller, record).await?;
                Some(crate::web::runs::offer(why, format!("{}/go-on", link::run(record.id.as_str()))))
            }
            _ => None,
        },
        has_ended: record.state.is_final(),
        artefacts: artefacts(app, asked, record).await?,
        earlier: store.run_search(&filter, 1).await?.pop().map(|run| run.id.to_string()),
    }))
}

/// One page of the files that its steps left.
async fn artefacts(
    app: &App,
    asked: &Asked,
    record: &RunRecord,
) -> Result<crate::pages::run::operation::Artefacts, Failure> {
    use crate::pages::run::operation::{Artefact, Artefacts};
    let (installation, caller, after) = (&app.installation, &asked.who.caller, asked.query.some(AFTER));
    let mut found = artefact_list(installation, caller, &record.id, after.as_deref(), ARTEFACTS + 1).await?;
    let is_more = found.len() > ARTEFACTS as usize;
    found.truncate(ARTEFACTS as usize);
    let closed = if found.is_empty() { None } else { artefact_why_not(installation, caller, record).await? };
    let page = |after: &str| link::query(&link::run(record.id.as_str()), &[(AFTER, after)]) + "#run-artefacts";
    let paging = parts::Paging {
        first: after.map(|_| page("")),
        next: found.last().filter(|_| is_more).map(|last| page(&last.id)),
    };
    let row = |artefact: RunArtefact| Artefact {
        id: artefact.id,
        step: artefact.step.to_string(),
        name: artefact.name,
        attempt: artefact.attempt,
        size: artefact.size,
        at: parts::Moment::new(artefact.at, asked.now),
        removed: artefact.removed,
    };
    Ok(Artefacts { rows: found.into_iter().map(row).collect(), closed, paging })
}

/// Files of one page, and what its address calls the one before the first of them.
const ARTEFACTS: u32 = 100;
const AFTER: &str = "artefacts";

/// Questions and items of one page.
const ASKS: usize = 50;
/// The most of a value that a page has, characters.
const VALUE: usize = 500;

fn short_value(value: &str) -> String {
    match value.char_indices().nth(VALUE) {
        Some((at, _)) => format!("{}… ({} bytes)", &value[..at], value.len()),
        None => value.to_owned(),
    }
}

/// What made a run begin, and the run that it follows.
fn began(origin: &Origin) -> (String, Option<String>) {
    match origin {
        Origin::Person { through } => (
            match through.as_str() {
                "web" => "somebody on these pages".to_owned(),
                "cli" => "somebody in the terminal".to_owned(),
                "ci" => "a job of a CI".to_owned(),
                through => format!("somebody by {through}"),
            },
            None,
        ),
        Origin::Schedule { name, due } => {
            (format!("its schedule {name}, due {}", crate::pages::parts::iso(*due)), None)
        }
        Origin::Trigger { name, event, .. } => (format!("its trigger {name}: {event}"), None),
        Origin::Run { run, step } => (format!("step {step} of another run"), Some(run.to_string())),
        Origin::Resumed { run } => ("going on from where another run failed".to_owned(), Some(run.to_string())),
        Origin::Repeated { run } => ("doing it once more".to_owned(), Some(run.to_string())),
    }
}

fn checklist(
    input: &OperationInput,
    view: &RunView,
    ticks: &[AskView],
    offer: impl Fn(&AskView) -> parts::Offer,
    now: Micros,
) -> Option<crate::pages::run::operation::Checklist> {
    use crate::pages::run::operation::{Checklist, Item};
    let list = input.operation.checklist.as_ref()?;
    let path_of = |spec: &windlass_model::run::StepSpec| {
        OperationStep::deserialize(&spec.work.input).ok().map(|step| (step.path, spec.id.clone()))
    };
    let ids: BTreeMap<Vec<String>, StepId> = view.record.plan.steps.iter().take(STEPS).filter_map(path_of).collect();
    let item = |phase: &str, item: &ChecklistItem| {
        let id = ids.get(&vec![phase.to_owned(), item.name.clone()]);
        let step = id.and_then(|id| view.open.iter().map(|step| &step.record).find(|step| step.id == *id));
        let tick = ticks.iter().find(|tick| Some(&tick.step.id) == id);
        let last = tick.and_then(|tick| tick.answers.last());
        let state = step.map_or(StepState::Pending, |step| step.state);
        Item {
            text: item.text.clone(),
            by_itself: item.run.is_some(),
            state: match (state, item.run.is_some()) {
                (StepState::Succeeded, false) => "ticked".to_owned(),
                (StepState::Pending, _) => "not yet".to_owned(),
                (state, _) => state.as_str().to_owned(),
            },
            class: parts::step_class(&state),
            told: match last {
                Some(answer) => {
                    let reason = answer.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                    format!("{} by {}{reason}", answer.value, answer.actor)
                }
                None => step.and_then(|step| step.reason.clone()).unwrap_or_default(),
            },
            at: last
                .map(|answer| answer.at)
                .or_else(|| step.and_then(|step| step.ended_at))
                .map(|at| parts::Moment::new(at, now)),
            tick: tick.filter(|tick| tick.is_open).map(|tick| (tick.step.id.to_string(), offer(tick))),
        }
    };
    let of = |phase: &str, items: &[ChecklistItem]| items.iter().map(|one| item(phase, one)).collect::<Vec<_>>();
    let phases = [
        ("Before", of("before", &list.before)),
        ("During", of("during", &list.during)),
        ("After", of("after", &list.after)),
    ];
    let (announcement, rollback) = windlass_app::operations::checklist_texts(input);
    Some(Checklist {
        window: list.window.as_ref().map(window_told).unwrap_or_default(),
        announcement: announcement.unwrap_or_default(),
        rollback: rollback.unwrap_or_default(),
        phases: phases.into_iter().filter(|(_, items)| !items.is_empty()).collect(),
    })
}

/// Steps of a plan that are looked at for its checklist: those of an `each` come by themselves.
const STEPS: usize = 2_000;
