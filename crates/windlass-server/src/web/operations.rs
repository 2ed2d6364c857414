//! Operations: the catalogue, one of them, and how one begins.

pub(super) mod run;
mod times;

use super::{Asked, Page, Pairs, Sent, lead, short};
use crate::pages::common::{List, Moment, Offer};
use crate::pages::operations::confirm::{self, Confirm};
use crate::pages::operations::form::{Field, Suggestion, field_name, told};
use crate::pages::operations::one::{self, Operation, Run};
use crate::pages::operations::{By, Catalogue, Group, Last, Row, state};
use crate::pages::{Section, link, operations, runs};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use windlass_app::error::{AppError, ErrorKind};
use windlass_app::operations::{Arguments, StartOptions};
use windlass_app::requests::operations as cases;
use windlass_app::requests::operations::MayAnswer;
use windlass_app::requests::operations::view::{Entry, OperationView, catalogue, operation};
use windlass_model::Micros;
use windlass_model::access::Permission;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::operation::parameter::ParameterKind;
use windlass_model::operation::plan::Origin;
use windlass_model::operation::{Action, MaintenanceWindow, Node, OperationDefinition};
use windlass_model::run::RunState;
use windlass_store::RunFilter;

pub fn routes(routes: Routes) -> Routes {
    let read = Guard::Project(Permission::ProjectRead);
    routes
        .add(Method::GET, "/operations", Guard::SignedIn, get(list))
        .add(Method::GET, "/projects/{project}/operations", read, get(list_of))
        .add(Method::GET, "/projects/{project}/operations/{name}", read, get(show))
        .add(Method::POST, "/projects/{project}/operations/{name}/form", read, post(check))
        .add(
            Method::POST,
            "/projects/{project}/operations/{name}",
            Guard::Within(Permission::OperationRun),
            post(start),
        )
        .add(
            Method::POST,
            "/projects/{project}/operations/{name}/schedules",
            Guard::Project(Permission::ScheduleManage),
            post(times::pause),
        )
        .add(Method::POST, "/projects/{project}/operations/{name}/planned", read, post(times::take_back))
        .add(Method::GET, "/projects/{project}/schedules", read, get(times::calendar))
        .add(Method::GET, "/runs/{run}/compare/{other}", Guard::Within(Permission::ProjectRead), get(run::compared))
}

/// Runs of one page of the history.
const PAGE: u32 = 20;
/// Lines of a description that the catalogue has.
const ABOUT: usize = 160;

/// `key=value` of each label.
fn labels(labels: &BTreeMap<String, String>) -> Vec<String> {
    labels.iter().map(|(key, value)| if value.is_empty() { key.clone() } else { format!("{key}={value}") }).collect()
}

/// The first line of a description, without what makes it Markdown.
fn about(description: Option<&str>) -> String {
    let line = description.unwrap_or_default().lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.trim_start_matches('#').trim().chars().filter(|letter| !"*`".contains(*letter)).collect();
    match line.char_indices().nth(ABOUT) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

async fn list_of(state: State<Arc<App>>, Path(project): Path<String>, asked: Asked) -> Page {
    let frame = super::frame(&state.0, &asked.who, &project).await?;
    list(state, Asked { frame, ..asked }).await
}

async fn list(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let found = catalogue(&app.installation, &asked.who.caller, asked.project()).await?;
    let query = &asked.query;
    let mut page = Catalogue {
        search: query.one("q").trim().to_owned(),
        owner: query.one("owner").to_owned(),
        label: query.one("label").to_owned(),
        mine: query.one("mine") == "1",
        by: if query.one("by") == "label" { By::Label } else { By::Owner },
        total: found.len(),
        ..Catalogue::default()
    };
    let (mut owners, mut all_labels) = (BTreeSet::new(), BTreeSet::new());
    let mut groups: BTreeMap<(bool, String), Vec<Row>> = BTreeMap::new();
    let wanted = page.search.to_lowercase();
    for Entry { project, listed, last, next } in found {
        let labels = labels(&listed.labels);
        owners.extend(listed.owner.clone());
        all_labels.extend(labels.iter().cloned());
        let description = listed.description.as_deref().unwrap_or_default().to_lowercase();
        let matches =
            (wanted.is_empty() || listed.name.to_lowercase().contains(&wanted) || description.contains(&wanted))
                && (page.owner.is_empty() || listed.owner.as_ref() == Some(&page.owner))
                && (page.label.is_empty() || labels.contains(&page.label))
                && (!page.mine || listed.may_run.answer != MayAnswer::No);
        if !matches {
            continue;
        }
        page.matching += 1;
        let names = match page.by {
            By::Owner => listed.owner.iter().cloned().collect(),
            By::Label => labels.clone(),
        };
        let row = Row {
            about: about(listed.description.as_deref()),
            why_not: match listed.may_run.answer {
                MayAnswer::No => listed.may_run.because.join("; "),
                MayAnswer::Yes | MayAnswer::Depends => String::new(),
            },
            depends: listed.may_run.answer == MayAnswer::Depends,
            last: last.map(|run| Last {
                run: run.id.to_string(),
                state: state(run.state),
                at: Moment::new(run.created_at, asked.now),
            }),
            next: next.map(|at| Moment::new(at, asked.now)),
            project,
            name: listed.name,
            labels,
        };
        if names.is_empty() {
            // Behind those that have one.
            groups.entry((true, String::new())).or_default().push(row.clone());
        }
        for name in names {
            groups.entry((false, name)).or_default().push(row.clone());
        }
    }
    page.owners = owners.into_iter().collect();
    page.labels = all_labels.into_iter().collect();
    page.groups = groups.into_iter().map(|((_, name), rows)| Group { name, rows }).collect();
    Ok(Html(operations::render(&asked.frame(Section::Operations), &page)))
}

/// What was typed into the form.
#[derive(Debug, Default)]
struct Typed {
    arguments: Arguments,
    reason: String,
    repeats: String,
    skip: BTreeSet<String>,
    skip_reason: String,
    /// When it is to begin; empty for now.
    at: String,
    /// The history that is shown below.
    state: String,
    actor: String,
    after: String,
    /// Mistakes of what is not given are told.
    is_sent: bool,
}

impl Typed {
    fn of(pairs: &Pairs, is_sent: bool) -> Self {
        let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &pairs.0 {
            if let Some(name) = name.strip_prefix("p.") {
                all.entry(name).or_default().push(value);
            }
        }
        let value = |values: Vec<&str>| match values.as_slice() {
            // A browser ends lines as mail does.
            [one] => one.replace("\r\n", "\n").into(),
            many => many.to_vec().into(),
        };
        Self {
            arguments: all.into_iter().map(|(name, values)| (name.to_owned(), value(values))).collect(),
            reason: pairs.one("reason").trim().to_owned(),
            repeats: pairs.one("repeats").to_owned(),
            skip: pairs.all("skip").into_iter().collect(),
            skip_reason: pairs.one("skip_reason").trim().to_owned(),
            at: pairs.one("at").trim().to_owned(),
            state: pairs.one("state").to_owned(),
            actor: pairs.one("actor").to_owned(),
            after: pairs.one("after").to_owned(),
            is_sent,
        }
    }

    fn runs(&self) -> (RunFilter, u32) {
        let filter = RunFilter {
            state: RunState::parse(&self.state),
            actor: Some(self.actor.clone()).filter(|actor| !actor.is_empty()),
            before: Some(self.after.clone()).filter(|after| !after.is_empty()).map(RunId::new),
            ..RunFilter::default()
        };
        (filter, PAGE + 1)
    }
}

async fn show(State(app): State<Arc<App>>, Path((project, name)): Path<(String, String)>, asked: Asked) -> Page {
    let caller = &asked.who.caller;
    let mut typed = Typed::of(&asked.query, false);
    if !typed.repeats.is_empty() {
        let (_, input) = cases::run_of(&app.installation, caller, &RunId::new(typed.repeats.clone())).await?;
        let given = std::mem::take(&mut typed.arguments);
        typed.arguments = input.arguments.into_iter().filter(|(_, value)| !value.is_null()).collect();
        typed.arguments.extend(given);
    }
    let view = operation(&app.installation, caller, &project, &name, &typed.arguments, typed.runs()).await?;
    let page = page(&project, view, typed, asked.now, Vec::new());
    Ok(Html(one::render(&asked.frame(Section::Operations), &page)))
}

/// The form with what was typed, filled again.
async fn check(
    State(app): State<Arc<App>>,
    Path((project, name)): Path<(String, String)>,
    sent: Sent,
) -> Result<Response, Failure> {
    let typed = Typed::of(&sent.fields, sent.fields.one("do") == "check");
    again(&app, &sent, &project, &name, typed, Vec::new(), StatusCode::OK).await
}

async fn again(
    app: &Arc<App>,
    sent: &Sent,
    project: &str,
    name: &str,
    typed: Typed,
    refused: Vec<Diagnostic>,
    status: StatusCode,
) -> Result<Response, Failure> {
    let caller = &sent.who.caller;
    let view = operation(&app.installation, caller, project, name, &typed.arguments, typed.runs()).await?;
    let now = app.installation.common.store.now().await?;
    let page = page(project, view, typed, now, refused);
    let frame = super::frame(app, &sent.who, "").await?;
    let frame = crate::pages::Frame { section: Section::Operations, ..frame };
    Ok((status, Html(one::render(&frame, &page))).into_response())
}

fn page(project: &str, view: OperationView, typed: Typed, now: Micros, refused: Vec<Diagnostic>) -> Operation {
    let OperationView { filling, listed, definition, schedules, mut runs, .. } = view;
    let next = match runs.len() > PAGE as usize {
        true => runs[PAGE as usize - 1].id.to_string(),
        false => String::new(),
    };
    runs.truncate(PAGE as usize);
    let run = |run: windlass_store::RunSummary| Run {
        id: run.id.to_string(),
        state: state(run.state),
        reason: run.reason.unwrap_or_default(),
        actor: run.actor,
        at: Moment::new(run.created_at, now),
        took: runs::took(run.created_at, run.ended_at, now),
    };
    Operation {
        project: project.to_owned(),
        description: listed.description.unwrap_or_default(),
        owner: listed.owner.unwrap_or_default(),
        labels: labels(&listed.labels),
        place: definition.span.to_string(),
        commit: short(&view.commit),
        who: who(&definition),
        why_not: match filling.may_run.answer {
            MayAnswer::No => filling.may_run.because,
            MayAnswer::Yes | MayAnswer::Depends => Vec::new(),
        },
        depends: filling.may_run.answer == MayAnswer::Depends,
        environment: view.environment.unwrap_or_default(),
        frozen: view.frozen.map(|freeze| times::frozen(&freeze)).unwrap_or_default(),
        before: before(&definition),
        may_break_glass: filling.may_break_glass,
        fields: Field::all(&filling.form, &typed.arguments, &view.depended, typed.is_sent),
        steps: steps(&definition, &typed.skip),
        skip_reason: typed.skip_reason,
        reason: typed.reason,
        repeats: typed.repeats,
        unknown: filling.form.unknown.iter().map(|(name, mistake)| format!("`{name}`: {mistake}")).collect(),
        refused,
        schedules: schedules.into_iter().map(|one| times::schedule(one, now)).collect(),
        manage: view.manage.map_or(Offer::Possible, Offer::Not),
        planned: view
            .planned
            .into_iter()
            .map(|start| one::Planned { id: start.id, at: Moment::new(start.at, now), actor: start.actor })
            .collect(),
        at: typed.at,
        state: typed.state,
        actor: typed.actor,
        runs: List::from(runs.into_iter().map(run).collect::<Vec<_>>()),
        here: typed.after,
        next,
        name: listed.name,
    }
}

fn who(definition: &OperationDefinition) -> Vec<String> {
    let allowed = definition.allow.iter().map(|team| format!("team {team}"));
    let granted = definition.grants.iter().map(|grant| {
        let teams = grant.to.join(" and ");
        match &grant.when {
            Some(when) => format!("team {teams} when {}", when.text),
            None => format!("team {teams}"),
        }
    });
    allowed.chain(granted).collect()
}

/// What has to happen before its first step.
fn before(definition: &OperationDefinition) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(approvals) = &definition.approvals {
        let count = crate::pages::common::count(approvals.count as usize, "approval");
        let from = if approvals.from.is_empty() { "somebody else".to_owned() } else { approvals.from.join(" or ") };
        let when = approvals.when.as_ref().map_or_else(String::new, |when| format!(" when {}", when.text));
        told.push(format!("It waits for {count} of {from}{when}."));
    }
    if let Some(concurrency) = &definition.concurrency {
        let runs = crate::pages::common::count(concurrency.limit as usize, "run");
        told.push(format!(
            "At most {runs} of it at the same time; another one {}.",
            match concurrency.on_conflict {
                windlass_model::operation::OnConflict::Queue => "waits for its turn",
                windlass_model::operation::OnConflict::CancelRunning => "takes the place of the first",
                windlass_model::operation::OnConflict::Reject => "is refused",
            }
        ));
    }
    if let Some(window) = definition.checklist.as_ref().and_then(|checklist| checklist.window.as_ref()) {
        told.push(format!("It begins within its window: {}.", window_told(window)));
    }
    told
}

/// e.g. `Mon, Tue 22:00–02:00 Asia/Tokyo`.
fn window_told(window: &MaintenanceWindow) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let days = window.days.iter().filter_map(|day| DAYS.get(usize::from(*day).checked_sub(1)?)).copied();
    let days = if window.days.len() == 7 { "every day".to_owned() } else { days.collect::<Vec<_>>().join(", ") };
    let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    format!("{days} {}–{} {}", time(window.from), time(window.to), window.zone)
}

/// The steps that a run can pass over.
fn steps(definition: &OperationDefinition, chosen: &BTreeSet<String>) -> Vec<Suggestion> {
    let steps = definition.nodes.iter().filter_map(|node| match node {
        Node::Step(step) if !matches!(step.action, Action::Approval(_)) => Some(step),
        Node::Step(_) | Node::Each(_) | Node::Parallel(_) => None,
    });
    steps
        .map(|step| Suggestion {
            value: step.name.clone(),
            label: match &step.description {
                Some(description) => format!("{}: {description}", step.name),
                None => step.name.clone(),
            },
            chosen: chosen.contains(&step.name),
        })
        .collect()
}

/// Secrets are asked for on the page before it begins: what is wrong with them is told by what begins it.
fn is_filled(view: &OperationView) -> bool {
    let form = &view.filling.form;
    let wrong = |field: &windlass_app::operations::form::Field| {
        field.kind != ParameterKind::Secret && !field.mistakes.is_empty()
    };
    form.unknown.is_empty() && !form.fields.iter().any(wrong)
}

/// Whether there is something to be asked before it begins.
fn is_grave(view: &OperationView, breaks_glass: bool) -> bool {
    breaks_glass
        || view.is_protected
        || view.definition.confirm.is_some()
        || view.definition.checklist.is_some()
        || view.filling.form.fields.iter().any(|field| field.kind == ParameterKind::Secret)
}

fn confirmation(
    project: &str,
    view: &OperationView,
    typed: &Typed,
    breaks_glass: bool,
    refused: Vec<Diagnostic>,
) -> Confirm {
    let form = &view.filling.form;
    let secret = |name: &str| form.fields.iter().any(|one| one.name == name && one.kind == ParameterKind::Secret);
    let mut hidden = vec![("repeats".to_owned(), typed.repeats.clone())];
    for (name, value) in typed.arguments.iter().filter(|(name, _)| !secret(name)) {
        match value {
            serde_json::Value::Array(items) => hidden.extend(items.iter().map(|item| (field_name(name), told(item)))),
            one => hidden.push((field_name(name), told(one))),
        }
    }
    hidden.extend(typed.skip.iter().map(|step| ("skip".to_owned(), step.clone())));
    hidden.push(("skip_reason".to_owned(), typed.skip_reason.clone()));
    hidden.push(("at".to_owned(), typed.at.clone()));
    let plain = form.fields.iter().filter(|field| field.kind != ParameterKind::Secret);
    let value = |field: &windlass_app::operations::form::Field| {
        let value = field.value.as_ref().or_else(|| typed.arguments.get(&field.name)).map(told).unwrap_or_default();
        match field.kind {
            ParameterKind::File => format!("{} bytes", value.len()),
            _ => value,
        }
    };
    let checklist = view.definition.checklist.clone().unwrap_or_default();
    let items = |when: &'static str, items: &[windlass_model::operation::ChecklistItem]| {
        items.iter().map(|item| format!("{when}: {}", item.text)).collect::<Vec<_>>()
    };
    Confirm {
        project: project.to_owned(),
        name: view.listed.name.clone(),
        environment: view.environment.clone().unwrap_or_default(),
        parameters: plain.map(|field| (field.name.clone(), value(field))).collect(),
        secrets: form
            .fields
            .iter()
            .filter(|field| field.kind == ParameterKind::Secret)
            .map(|field| confirm::Secret {
                name: field.name.clone(),
                description: field.description.clone().unwrap_or_default(),
                required: field.required,
            })
            .collect(),
        hidden,
        skipped: typed.skip.iter().cloned().collect(),
        wanted: form.confirm.clone().unwrap_or_default(),
        reason: typed.reason.clone(),
        breaks_glass,
        window: checklist.window.as_ref().map(window_told).unwrap_or_default(),
        announcement: view.announcement.clone().unwrap_or_default(),
        rollback: view.rollback.clone().unwrap_or_default(),
        checklist: [
            items("before", &checklist.before),
            items("during", &checklist.during),
            items("after", &checklist.after),
        ]
        .concat(),
        refused,
    }
}

/// Begins it, or asks once more.
async fn start(
    State(app): State<Arc<App>>,
    Path((project, name)): Path<(String, String)>,
    sent: Sent,
) -> Result<Response, Failure> {
    let (caller, fields) = (&sent.who.caller, &sent.fields);
    let typed = Typed::of(fields, fields.one("do") != "back");
    let breaks_glass = fields.one("do") == "break_glass";
    if fields.one("do") == "back" {
        return again(&app, &sent, &project, &name, typed, Vec::new(), StatusCode::OK).await;
    }
    let view = operation(&app.installation, caller, &project, &name, &typed.arguments, typed.runs()).await?;
    let is_confirmed = fields.one("confirmed") == "1";
    let may = view.filling.may_run.answer != MayAnswer::No;
    if may && !is_filled(&view) {
        return again(&app, &sent, &project, &name, typed, Vec::new(), StatusCode::BAD_REQUEST).await;
    }
    if may && is_grave(&view, breaks_glass) && !is_confirmed {
        let page = confirmation(&project, &view, &typed, breaks_glass, Vec::new());
        return ask(&app, &sent, &page, StatusCode::OK).await;
    }
    let begun = match typed.at.is_empty() {
        true => begin(&app, &sent, &project, &name, &typed, breaks_glass)
            .await
            .map(|run| lead(&link::run(run.as_str()), "begun")),
        false => times::plan(&app, &sent, &view, &project, &typed, breaks_glass)
            .await
            .map(|()| lead(&link::operation(&project, &name), "planned")),
    };
    match begun {
        Ok(response) => Ok(response),
        // What was typed is not lost; a secret is not sent back.
        Err(error) if matches!(error.kind, ErrorKind::Usage | ErrorKind::Refused | ErrorKind::Conflict) => {
            let status = crate::problem::status(error.kind);
            if is_confirmed {
                let page = confirmation(&project, &view, &typed, breaks_glass, error.diagnostics);
                return ask(&app, &sent, &page, status).await;
            }
            again(&app, &sent, &project, &name, typed, error.diagnostics, status).await
        }
        Err(error) => Err(Failure(error)),
    }
}

async fn ask(app: &App, sent: &Sent, page: &Confirm, status: StatusCode) -> Result<Response, Failure> {
    let frame = super::frame(app, &sent.who, "").await?;
    let frame = crate::pages::Frame { section: Section::Operations, ..frame };
    Ok((status, Html(confirm::render(&frame, page))).into_response())
}

async fn begin(
    app: &Arc<App>,
    sent: &Sent,
    project: &str,
    name: &str,
    typed: &Typed,
    breaks_glass: bool,
) -> Result<RunId, AppError> {
    let skipped = typed.skip.iter().map(|step| (step.clone(), typed.skip_reason.clone()));
    let (installation, caller) = (&app.installation, &sent.who.caller);
    let origin = match typed.repeats.as_str() {
        "" => Origin::Person { through: "web".to_owned() },
        run => {
            let run = RunId::new(run);
            let (record, input) = cases::run_of(installation, caller, &run).await?;
            if record.project != project || input.operation.name != name {
                return Err(windlass_app::caller::not_found("run of this operation", run.as_str()));
            }
            Origin::Repeated { run }
        }
    };
    let options = StartOptions {
        reason: Some(typed.reason.clone()).filter(|reason| !reason.is_empty()),
        break_glass: breaks_glass,
        confirm: sent.fields.some("confirm"),
        skip: skipped.collect(),
        ..StartOptions::new(origin)
    };
    cases::start(installation, caller, project, name, &typed.arguments, options).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_arguments() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pairs = Pairs(vec![
            pair("csrf", "x"),
            pair("p.hosts", "a"),
            pair("p.hosts", "b"),
            pair("p.note", "one\r\ntwo"),
            pair("p.empty", ""),
            pair("reason", " OPS-1 "),
            pair("skip", "dump"),
        ]);
        let typed = Typed::of(&pairs, true);
        let want = serde_json::json!({ "hosts": ["a", "b"], "note": "one\ntwo", "empty": "" });
        assert_eq!(serde_json::to_value(&typed.arguments).unwrap(), want);
        assert_eq!((typed.reason.as_str(), typed.skip.len()), ("OPS-1", 1));
    }

    #[test]
    fn the_first_line_says_what_it_is_about() {
        assert_eq!(about(Some("\n# Backs `up` **all**\n\nmore")), "Backs up all");
        assert_eq!(about(None), "");
        assert_eq!(about(Some(&"ä".repeat(200))).chars().count(), ABOUT + 1);
    }

    #[test]
    fn a_window_reads_as_people_say_it() {
        let window = MaintenanceWindow { days: vec![1, 2], from: 22 * 60, to: 120, zone: "Asia/Tokyo".into() };
        assert_eq!(window_told(&window), "Mon, Tue 22:00–02:00 Asia/Tokyo");
        let daily = MaintenanceWindow { days: (1..=7).collect(), ..window };
        assert_eq!(window_told(&daily), "every day 22:00–02:00 Asia/Tokyo");
    }
}
