//! Stacks: the table, the graph, one stack, and drift.

use super::{Asked, Page, Pairs, short};
use crate::pages::common::{Badge, List, Moment, Offer, Tone};
use crate::pages::graph::{Edge, Graph, Node};
use crate::pages::stack::{Apply, Change, Drift, Input, Instance, Lock, Module, Neighbour, Quarantine, Stack, Waiter};
use crate::pages::stacks::{Filter, Row, Sort, StackState, Stacks, View};
use crate::pages::{Section, drift, stack, stacks};
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::Html;
use axum::routing::get;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use windlass_app::error::ErrorKind;
use windlass_app::locks::{Liveness, LockView};
use windlass_app::requests::stacks_view::{AppliedView, StackView, State as Known, States, stack_show, states};
use windlass_app::requests::visible::{visible, why_not};
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject};
use windlass_model::drift::Record;
use windlass_model::effect::Effect;
use windlass_model::id::{InstanceId, StackId};
use windlass_model::journal::import_block;
use windlass_model::run::StepState;
use windlass_model::stack::{Edge as ModelEdge, EdgeKind, GateState, Tool};

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/stacks", Guard::SignedIn, get(list))
        .add(Method::GET, "/stacks/{project}/{*stack}", Guard::Project(Permission::ProjectRead), get(one))
        .add(Method::GET, "/drift", Guard::SignedIn, get(drifted))
}

/// Rows of one page of a table.
const PAGE: usize = 50;

fn state(known: Known) -> StackState {
    match known {
        Known::Quarantined => StackState::Quarantined,
        Known::Failed => StackState::Failed,
        Known::Applying => StackState::Applying,
        Known::Drifted => StackState::Drifted,
        Known::InSync => StackState::InSync,
        Known::Unchecked => StackState::Unchecked,
        Known::NeverApplied => StackState::NeverApplied,
    }
}

/// All projects that are to be shown with what is known of their stacks; one of which nothing good is known has none.
async fn known(app: &App, asked: &Asked) -> Result<Vec<(String, States)>, Failure> {
    let mut found = Vec::new();
    for one in visible(&app.installation, &asked.who.caller).await? {
        if !asked.project().is_empty() && asked.project() != one.name() {
            continue;
        }
        match states(&app.installation, &asked.who.caller, one.name()).await {
            Ok(states) => found.push((one.name().to_owned(), states)),
            Err(error) if error.kind == ErrorKind::Unavailable => {}
            Err(error) => return Err(Failure(error)),
        }
    }
    Ok(found)
}

/// An instance that matches, before it is drawn.
struct Match<'a> {
    project: &'a str,
    states: &'a States,
    stack: &'a windlass_model::stack::Stack,
    instance: &'a windlass_model::stack::Instance,
    state: StackState,
}

impl Match<'_> {
    /// Where the next page goes on; unique among all.
    fn cursor(&self) -> String {
        format!("{}:{}", self.project, self.instance.id)
    }

    fn applied(&self) -> Option<Micros> {
        self.states.applied.get(&self.instance.id).map(|row| row.started_at)
    }
}

fn filter(query: &Pairs, known: &[(String, States)]) -> Filter {
    let (mut owners, mut environments) = (BTreeSet::new(), BTreeSet::new());
    for (_, states) in known {
        let project = &states.good.project;
        owners.extend(project.repository.stacks.iter().filter_map(|stack| stack.owner.clone()));
        environments.extend(project.definitions.environments.iter().map(|environment| environment.name.clone()));
    }
    Filter {
        text: query.one("q").to_owned(),
        owner: query.one("owner").to_owned(),
        environment: query.one("environment").to_owned(),
        state: StackState::parse(query.one("state")),
        sort: Sort::parse(query.one("sort")).unwrap_or_default(),
        owners: owners.into_iter().collect(),
        environments: environments.into_iter().collect(),
    }
}

async fn list(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let known = known(&app, &asked).await?;
    let filter = filter(&asked.query, &known);
    let wanted = filter.text.to_lowercase();
    let mut total = 0;
    let mut matching = Vec::new();
    for (project, states) in &known {
        for (stack, instance) in states.good.project.repository.instances() {
            total += 1;
            let state = state(states.of(&instance.id));
            let matches = (wanted.is_empty() || instance.id.as_str().to_lowercase().contains(&wanted))
                && (filter.owner.is_empty() || stack.owner.as_ref() == Some(&filter.owner))
                && (filter.environment.is_empty() || instance.environments.contains(&filter.environment))
                && filter.state.is_none_or(|wanted| wanted == state);
            if matches {
                matching.push(Match { project, states, stack, instance, state });
            }
        }
    }
    let number = matching.len();
    let view = if asked.query.one("view") == "graph" {
        View::Graph(graph(&known, &matching, asked.query.all("turn").into_iter().collect()))
    } else {
        match filter.sort {
            Sort::Name => {}
            Sort::State => matching.sort_by_key(|one| StackState::ALL.iter().position(|state| *state == one.state)),
            Sort::Applied => matching.sort_by_key(|one| std::cmp::Reverse(one.applied())),
        }
        table(&matching, asked.query.one("after"), asked.now)
    };
    let page = Stacks { filter, matching: number, total, view };
    Ok(Html(stacks::render(&asked.frame(Section::Stacks), &page)))
}

fn table(matching: &[Match<'_>], here: &str, now: Micros) -> View {
    let start = match here {
        "" => 0,
        // What is not there any more is read from the beginning.
        _ => matching.iter().position(|one| one.cursor() == here).map_or(0, |at| at + 1),
    };
    let shown = &matching[start..matching.len().min(start + PAGE)];
    let next = match shown.last() {
        Some(last) if start + shown.len() < matching.len() => last.cursor(),
        _ => String::new(),
    };
    let mut degrees: HashMap<(&str, &InstanceId), (usize, usize)> = HashMap::new();
    for one in shown {
        degrees.insert((one.project, &one.instance.id), (0, 0));
    }
    let mut counted = BTreeSet::new();
    for one in shown.iter().filter(|one| counted.insert(one.project)) {
        for edge in &one.states.good.project.repository.edges {
            if let Some((upstreams, _)) = degrees.get_mut(&(one.project, &edge.to)) {
                *upstreams += 1;
            }
            if let Some((_, downstreams)) = degrees.get_mut(&(one.project, &edge.from)) {
                *downstreams += 1;
            }
        }
    }
    let row = |one: &Match<'_>| {
        let (upstreams, downstreams) = degrees.get(&(one.project, &one.instance.id)).copied().unwrap_or_default();
        Row {
            project: one.project.to_owned(),
            stack: one.stack.id.to_string(),
            instance: one.instance.id.to_string(),
            owner: one.stack.owner.clone().unwrap_or_default(),
            environments: one.instance.environments.clone(),
            state: one.state,
            upstreams,
            downstreams,
            applied: one.applied().map(|at| Moment::new(at, now)),
        }
    };
    View::Table { rows: shown.iter().map(row).collect(), here: here.to_owned(), next }
}

/// One node for each stack, which is as its worst instance is.
fn graph(known: &[(String, States)], matching: &[Match<'_>], turned: BTreeSet<String>) -> Graph {
    let (mut nodes, mut at) = (Vec::<Node>::new(), HashMap::new());
    let mut worst: Vec<StackState> = Vec::new();
    let order = |state: StackState| StackState::ALL.iter().position(|one| *one == state);
    for one in matching {
        let index = *at.entry((one.project, one.stack.id.clone())).or_insert_with(|| {
            let id = one.stack.id.as_str();
            let path = if known.len() > 1 { format!("{}/{id}", one.project) } else { id.to_owned() };
            let (project, stack) = (one.project.to_owned(), id.to_owned());
            nodes.push(Node { path, project, stack, tone: one.state.tone(), state: one.state.label().into() });
            worst.push(one.state);
            nodes.len() - 1
        });
        if order(one.state) < order(worst[index]) {
            worst[index] = one.state;
            (nodes[index].tone, nodes[index].state) = (one.state.tone(), one.state.label().into());
        }
    }
    // Several instances read each other one by one: a line is open when one of them is.
    let mut lines: HashMap<(usize, usize), bool> = HashMap::new();
    for (project, states) in known {
        for edge in &states.good.project.repository.edges {
            let ends = at.get(&(project.as_str(), edge.from.stack())).zip(at.get(&(project.as_str(), edge.to.stack())));
            if let Some((from, to)) = ends.filter(|(from, to)| from != to) {
                *lines.entry((*from, *to)).or_insert(true) &= !edge.is_active();
            }
        }
    }
    let mut edges: Vec<Edge> = lines.into_iter().map(|((from, to), closed)| Edge { from, to, closed }).collect();
    edges.sort_by_key(|edge| (edge.from, edge.to));
    Graph { nodes, edges, turned }
}

fn offer(why: Option<String>) -> Offer {
    why.map_or(Offer::Possible, Offer::Not)
}

/// e.g. `2 changed by hand, 1 not applied`.
pub(super) fn drift_told(record: &Record) -> String {
    let Some(drift) = &record.drift else { return "no drift".into() };
    let count = |effect: &Effect, told: &str| {
        let number = effect.changes.len();
        (number > 0).then(|| format!("{number} {told}"))
    };
    let mut told: Vec<String> = count(&drift.refresh, "changed by hand").into_iter().collect();
    told.extend(count(&drift.configuration, "otherwise than the code"));
    if told.is_empty() { "outputs differ".into() } else { told.join(", ") }
}

/// How many lines a long list of a stack has.
const SHOWN: usize = 100;

async fn one(State(app): State<Arc<App>>, Path((project, name)): Path<(String, String)>, asked: Asked) -> Page {
    let caller = &asked.who.caller;
    // An address has no name for the root.
    let id = StackId::new(if name == "_" { "." } else { &name });
    let view = stack_show(&app.installation, caller, &project, &id).await?;
    let good = view.states.good.clone();
    let repository = &good.project.repository;
    let found = repository.stack(&id).ok_or_else(|| windlass_app::caller::not_found("stack", id.as_str()))?;
    let now = asked.now;
    let history: Vec<Apply> = view.history.iter().map(|one| apply(one, now)).collect();
    // Edges that are closed at present are shown, too.
    let own = |instance: &InstanceId| instance.stack() == id;
    let upstreams = repository.edges.iter().filter(|edge| own(&edge.to)).map(|edge| neighbour(edge, &edge.from));
    let downstreams = repository.edges.iter().filter(|edge| own(&edge.from)).map(|edge| neighbour(edge, &edge.to));
    let inputs = [&found.inputs.directories, &found.inputs.files, &found.inputs.trees];
    let inputs: Vec<Input> = inputs
        .into_iter()
        .flatten()
        .map(|input| Input {
            path: input.path.to_string(),
            chain: input.chain.iter().map(|one| format!("{} at {}", one.what, one.span)).collect(),
        })
        .collect();
    let page = Stack {
        project: project.clone(),
        stack: id.to_string(),
        commit: short(&good.commit),
        why: found.why.clone(),
        owner: found.owner.clone().unwrap_or_default(),
        tool: tool(found),
        instances: found.instances.iter().map(|one| instance(one, &view, &history, now)).collect(),
        upstreams: upstreams.collect(),
        downstreams: downstreams.collect(),
        inputs: super::home::first(inputs, SHOWN),
        modules: found
            .inputs
            .remote_modules
            .iter()
            .map(|module| Module {
                source: module.source.clone(),
                reference: module.reference.clone().unwrap_or_default(),
                moving: module.moving,
                evidence: module.span.to_string(),
            })
            .collect(),
        history: List { items: history, total: view.history_total },
        review: offer(view.review),
        check: offer(view.check),
        unlock: offer(view.unlock),
        recover: offer(view.recover),
    };
    let mut frame = asked.frame(Section::Stacks);
    frame.project = project;
    Ok(Html(stack::render(&frame, &page)))
}

fn tool(stack: &windlass_model::stack::Stack) -> String {
    let name = match stack.tool {
        Tool::Any => "terraform or tofu",
        Tool::Terraform => "terraform",
        Tool::Tofu => "tofu",
    };
    match stack.required_version.as_slice() {
        [] => name.to_owned(),
        versions => format!("{name} {}", versions.join(", ")),
    }
}

fn end(state: StepState) -> Badge {
    let tone = match state {
        StepState::Succeeded => Tone::Ok,
        StepState::Failed | StepState::Unknown => Tone::Bad,
        StepState::Cancelled => Tone::Warn,
        StepState::Running => Tone::Info,
        StepState::Waiting => Tone::Wait,
        StepState::Pending | StepState::Skipped => Tone::Plain,
    };
    Badge::new(tone, state.as_str())
}

fn apply(one: &AppliedView, now: Micros) -> Apply {
    let told = one.effect.as_ref().map(|effect| super::home::counted(effect, "to ")).unwrap_or_default();
    Apply {
        run: one.row.run.to_string(),
        instance: one.instance.to_string(),
        effect: if told.is_empty() { "an apply".into() } else { told },
        actor: one.row.actor.clone(),
        end: end(one.row.state),
        at: Moment::new(one.row.ended_at.unwrap_or(one.row.started_at), now),
    }
}

fn neighbour(edge: &ModelEdge, other: &InstanceId) -> Neighbour {
    use windlass_model::stack::ConsumedOutputs;
    let outputs = match &edge.kind {
        EdgeKind::After => "none: only after it".to_owned(),
        EdgeKind::RemoteState { outputs: ConsumedOutputs::All, .. } => "all".to_owned(),
        EdgeKind::RemoteState { outputs: ConsumedOutputs::Named(names), .. } if names.is_empty() => "none".to_owned(),
        EdgeKind::RemoteState { outputs: ConsumedOutputs::Named(names), .. } => {
            names.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
        }
    };
    let gate = edge.gate.as_ref().map(|gate| match &gate.state {
        GateState::Open => format!("{} holds", gate.condition),
        GateState::Closed => format!("{} does not hold", gate.condition),
        GateState::Unknown(why) => format!("{}: {why}", gate.condition),
    });
    Neighbour {
        stack: other.stack().to_string(),
        instance: other.to_string(),
        outputs,
        evidence: edge.evidence.to_string(),
        gate: gate.unwrap_or_default(),
        closed: !edge.is_active(),
    }
}

fn instance(of: &windlass_model::stack::Instance, view: &StackView, history: &[Apply], now: Micros) -> Instance {
    let id = of.id.as_str();
    let record = view.drift.iter().find(|record| record.instance == of.id);
    let address = of.state.as_deref().map(str::to_owned).or_else(|| of.state_unknown.clone());
    Instance {
        id: id.to_owned(),
        state: state(view.states.of(&of.id)),
        environments: of.environments.clone(),
        workspace: of.workspace.clone(),
        address: address.unwrap_or_default(),
        var_files: of.var_files.clone(),
        last: history.iter().find(|apply| apply.instance == id).cloned(),
        drift: record.filter(|_| view.states.of(&of.id) == Known::Drifted).map(|record| drift_of(record, now)),
        quarantine: view.states.quarantines.get(&of.id).map(|one| quarantine(one, now)),
        locks: locks(&view.locks, &format!("stack:{id}"), now),
    }
}

fn drift_of(record: &Record, now: Micros) -> Drift {
    let drift = record.drift.as_ref();
    let changes = drift.into_iter().flat_map(|drift| {
        drift.refresh.changes.iter().chain(&drift.configuration.changes).map(|change| Change {
            address: change.address.clone(),
            action: change.action.as_str().to_owned(),
            attributes: change.attributes.keys().cloned().collect(),
            by: drift.touched.get(&change.address).and_then(|touched| touched.by.clone()).unwrap_or_default(),
        })
    });
    Drift {
        what: drift_told(record),
        since: Moment::new(record.since.unwrap_or(record.looked_at), now),
        changes: super::home::first(changes.collect(), SHOWN),
    }
}

fn quarantine(one: &windlass_model::journal::Quarantine, now: Micros) -> Quarantine {
    let mut steps = Vec::new();
    let id = |entry: &windlass_model::journal::Entry| {
        entry.id_value.as_ref().map(|id| format!(" (its id is {id})")).unwrap_or_default()
    };
    for entry in &one.aftermath.in_flight {
        steps.push(format!("See what became of {}: its {} was begun{}.", entry.address, entry.action, id(entry)));
    }
    for entry in &one.aftermath.lost {
        steps.push(format!("{} was made{} and is in no state: import it, or remove it.", entry.address, id(entry)));
    }
    if one.errored_state.is_some() {
        steps.push(format!("Push the state that could not be written: windlass recover '{}' --push", one.instance));
    }
    if let Some(lock) = &one.lock {
        steps.push(format!(
            "The lock {} at the backend, of {}, may be the dead apply's own: break it when it is.",
            lock.id, lock.who
        ));
    }
    steps.push("Then end the quarantine here, with what you found.".to_owned());
    let imports: String = one.aftermath.lost.iter().map(import_block).collect();
    Quarantine {
        because: one.reason.clone(),
        run: one.run.to_string(),
        since: Moment::new(one.since, now),
        steps,
        imports,
    }
}

fn locks(all: &[LockView], name: &str, now: Micros) -> Vec<Lock> {
    let waiter = |lock: &LockView| Waiter {
        run: lock.run.to_string(),
        title: lock.purpose.clone(),
        actor: lock.owner.clone(),
        since: Moment::new(lock.since, now),
    };
    let mut queue = all.iter().filter(|lock| lock.name == name);
    let Some(holder) = queue.next() else { return Vec::new() };
    vec![Lock {
        name: name.to_owned(),
        holder: waiter(holder),
        alive: !matches!(holder.liveness, Liveness::Dead | Liveness::Silent),
        queue: queue.map(waiter).collect(),
    }]
}

async fn drifted(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let known = known(&app, &asked).await?;
    let (mut found, mut in_sync, mut unchecked) = (Vec::new(), 0, 0);
    for (project, states) in &known {
        for (stack, instance) in states.good.project.repository.instances() {
            let looked = states.looked.get(&instance.id);
            match (states.of(&instance.id), looked) {
                (Known::Drifted, Some(looked)) => found.push((project, stack, looked)),
                (_, Some(looked)) if looked.since.is_none() => in_sync += 1,
                _ => unchecked += 1,
            }
        }
    }
    // Longest first; names make the order one.
    found.sort_by(|a, b| (a.2.since, a.0, &a.2.instance).cmp(&(b.2.since, b.0, &b.2.instance)));
    let cursor =
        |(project, _, looked): &(&String, _, &windlass_app::drift::Looked)| format!("{project}:{}", looked.instance);
    let here = asked.query.one("after");
    let start = found.iter().position(|one| cursor(one) == here).map_or(0, |at| at + 1);
    let shown = &found[start..found.len().min(start + PAGE)];
    let next = shown.last().filter(|_| start + shown.len() < found.len()).map(cursor).unwrap_or_default();
    let mut rows = Vec::new();
    for (project, stack, looked) in shown {
        let of = std::slice::from_ref(&looked.instance);
        let records =
            windlass_app::requests::stacks_view::drift_records(&app.installation, &asked.who.caller, project, of);
        rows.push(drift::Row {
            project: (*project).clone(),
            stack: stack.id.to_string(),
            instance: looked.instance.to_string(),
            owner: stack.owner.clone().unwrap_or_default(),
            what: records.await?.first().map(drift_told).unwrap_or_default(),
            since: Moment::new(looked.since.unwrap_or(looked.looked_at), asked.now),
            checked: Moment::new(looked.looked_at, asked.now),
        });
    }
    let check = match asked.project() {
        "" => Offer::Not("Choose a repository to look for drift in all of its stacks.".into()),
        project => {
            let subject = Subject::project(project);
            offer(why_not(&app.installation, &asked.who.caller, Permission::DriftCheck, &subject).await?)
        }
    };
    let page = drift::Drift { rows, here: here.to_owned(), next, drifted: found.len(), in_sync, unchecked, check };
    Ok(Html(drift::render(&asked.frame(Section::Stacks), &page)))
}
