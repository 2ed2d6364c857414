//! What no one delivers: Windlass' own events, pushes to the protected branch, and images behind tags.

use super::{CHAIN, Happened, put};
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::installation::Installation;
use crate::project::Project;
use crate::schedules::InForce;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_drivers::git::Target;
use windlass_drivers::oci::Image;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::operation::plan::{OperationInput, Origin};
use windlass_model::operation::trigger::{TriggerDefinition, TriggerSource};
use windlass_store::{Event, Store};

/// Where it is kept what was looked at last, and who looks at an image.
const SCOPE: &str = "triggers";
const EVENTS: &str = "events";
const ASKED: &str = "image";
/// Events that are read at once.
const PAGE: u32 = 500;
/// The longest pause between two looks, and the shortest: events come in crowds.
const LONGEST: Duration = Duration::from_secs(5);
const CROWD: Duration = Duration::from_millis(50);
/// Paths that a trigger is told.
const PATHS: usize = 1000;

/// Which paths differ between two commits of a project.
type Changes = dyn Fn(&str, &str, &str) -> AppResult<Vec<String>> + Send + Sync;

/// What one server watches.
pub struct Watch {
    store: Store,
    in_force: Box<dyn Fn() -> InForce + Send + Sync>,
    changes: Arc<Changes>,
    /// The last event that was looked at; `None` while nothing waits for any.
    seen: Option<i64>,
    /// Commits whose changes were looked at, by project.
    commits: BTreeMap<String, String>,
    /// When an image is asked for again at the earliest, µs.
    asked: BTreeMap<String, Micros>,
}

impl Watch {
    /// Of an installation.
    pub fn of(installation: &Arc<Installation>) -> Self {
        let (force, git) = (installation.clone(), installation.clone());
        let changes = move |project: &str, old: &str, new: &str| {
            let mirror = git.followed.mirror(project).ok_or_else(|| crate::caller::not_found("project", project))?;
            let changes = mirror.commits().changes(old, &Target::Commit(new.to_owned()));
            let changes = changes.map_err(|error| crate::project::git_error(&error))?;
            Ok(changes.into_iter().flat_map(|change| [Some(change.path), change.old_path]).flatten().collect())
        };
        Self::new(installation.common.store.clone(), move || crate::schedules::in_force(&force), changes)
    }

    pub fn new(
        store: Store,
        in_force: impl Fn() -> InForce + Send + Sync + 'static,
        changes: impl Fn(&str, &str, &str) -> AppResult<Vec<String>> + Send + Sync + 'static,
    ) -> Self {
        let store = store.of_project("");
        Self {
            store,
            in_force: Box::new(in_force),
            changes: Arc::new(changes),
            seen: None,
            commits: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Watches until `stop` is cancelled. What went wrong is told to `failed`, and tried again.
    pub async fn run(mut self, stop: CancellationToken, failed: impl Fn(&AppError)) {
        let mut changes = self.store.changes();
        while !stop.is_cancelled() {
            changes.mark_unchanged();
            let result = self.look().await;
            if let Err(error) = &result {
                failed(error);
            }
            let news = async {
                tokio::time::sleep(CROWD).await;
                if result.is_err() || changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LONGEST) => {}
                () = news => {}
            }
        }
    }

    /// Looks once at all there is.
    ///
    /// # Errors
    /// Something could not be asked; the rest was looked at.
    pub async fn look(&mut self) -> AppResult<()> {
        let in_force = (self.in_force)();
        let events = self.events(&in_force).await;
        let pushes = self.pushes(&in_force).await;
        let images = self.images(&in_force).await;
        events.and(pushes).and(images)
    }

    async fn events(&mut self, in_force: &InForce) -> AppResult<()> {
        let waits = |trigger: &TriggerDefinition| matches!(trigger.source, TriggerSource::Event { .. });
        if !in_force.iter().any(|(.., project)| triggers(project).any(|(_, trigger)| waits(trigger))) {
            if self.seen.take().is_some() {
                // What happens while nobody waits is not waited for later.
                self.store.kv_remove(SCOPE, EVENTS).await?;
            }
            return Ok(());
        }
        let mut seen = match self.seen {
            Some(seen) => seen,
            None => {
                let newest = self.store.event_search(&windlass_store::EventFilter::default(), None, 1).await?;
                let newest = newest.first().map_or(0, |event| event.id).to_string();
                self.store.kv_first(SCOPE, EVENTS, &newest).await?.parse().map_err(internal)?
            }
        };
        loop {
            let page = self.store.event_list(None, seen, PAGE).await?;
            let mut put_in = false;
            for event in &page {
                let mut causes = None;
                for (_, _, project) in in_force.iter().filter(|(name, ..)| *name == event.project) {
                    for (operation, trigger) in triggers(project) {
                        let TriggerSource::Event { kinds } = &trigger.source else { continue };
                        if !kinds.contains(&event.kind) {
                            continue;
                        }
                        let store = self.store.of_project(&event.project);
                        if causes.is_none() {
                            causes = Some(self.causes(&store, event).await?);
                        }
                        let causes = causes.as_deref().unwrap_or_default();
                        // What an operation tells does not start it. The first one beyond the end of a chain is recorded as
                        // refused, and what is told of that leads nowhere.
                        if causes.last().is_some_and(|last| last == operation) || causes.len() > CHAIN {
                            continue;
                        }
                        let happened = happened(event, causes);
                        put_in |= put(&store, operation, trigger, &format!("event {}", event.id), event.at, &happened)
                            .await?;
                    }
                }
                seen = event.id;
            }
            // After a crash the rest of a page is looked at again, and put in once.
            if put_in || page.len() == PAGE as usize {
                self.store.kv_set(SCOPE, EVENTS, &seen.to_string()).await?;
            }
            self.seen = Some(seen);
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    /// The operations that led to an event, the first one first; the last one is the one that it is of.
    async fn causes(&self, store: &Store, event: &Event) -> AppResult<Vec<String>> {
        let mut causes = Vec::new();
        let mut run = event.run.clone().map(RunId::new);
        if let (None, Some(start), Some(operation)) = (&run, event.data["start"].as_str(), &event.subject) {
            // Of what did not begin.
            let request = store.start_get(start).await?.map(|start| start.request).unwrap_or_default();
            let happened = serde_json::from_value::<Happened>(request);
            causes = happened.map(|happened| happened.causes()).unwrap_or_default();
            causes.push(operation.clone());
        }
        while let Some(id) = run.take() {
            let record = match self.store.run_get(&id).await {
                // It was swept.
                Err(error) if error.is_not_found() => break,
                record => record?,
            };
            let Ok(input) = serde_json::from_value::<OperationInput>(record.plan.input) else { break };
            causes.insert(0, input.operation.name);
            match input.origin {
                Origin::Trigger { causes: before, .. } => drop(causes.splice(0..0, before)),
                Origin::Run { run: caller, .. } => run = Some(caller),
                _ => {}
            }
        }
        Ok(causes)
    }

    async fn pushes(&mut self, in_force: &InForce) -> AppResult<()> {
        for (name, commit, project) in in_force {
            if self.commits.get(name) == Some(commit) {
                continue;
            }
            let store = self.store.of_project(name);
            // A project that was not known has not been pushed to.
            let old = store.kv_first(SCOPE, "commit", commit).await?;
            if old != *commit {
                self.push(&store, name, project, &old, commit).await?;
                store.kv_set(SCOPE, "commit", commit).await?;
            }
            self.commits.insert(name.clone(), commit.clone());
        }
        Ok(())
    }

    async fn push(&self, store: &Store, name: &str, project: &Project, old: &str, new: &str) -> AppResult<()> {
        let waits = |trigger: &TriggerDefinition| matches!(trigger.source, TriggerSource::Files { .. });
        if !triggers(project).any(|(_, trigger)| waits(trigger)) {
            return Ok(());
        }
        let (changes, of) = (self.changes.clone(), (name.to_owned(), old.to_owned(), new.to_owned()));
        let paths = tokio::task::spawn_blocking(move || changes(&of.0, &of.1, &of.2)).await.map_err(internal)??;
        let now = store.now().await?;
        for (operation, trigger) in triggers(project) {
            let TriggerSource::Files { paths: patterns } = &trigger.source else { continue };
            // What cannot be read was refused when the definitions were.
            let globs: Vec<_> = patterns.iter().filter_map(|pattern| windlass_lang::glob(pattern).ok()).collect();
            let matching = paths.iter().filter(|path| globs.iter().any(|glob| glob.is_match(path)));
            let matching: Vec<&String> = matching.take(PATHS).collect();
            if matching.is_empty() {
                continue;
            }
            let event = json!({ "id": new, "kind": "push" });
            let payload = json!({ "commit": new, "before": old, "paths": matching });
            put(store, operation, trigger, &format!("commit {new}"), now, &Happened { event, payload }).await?;
        }
        Ok(())
    }

    async fn images(&mut self, in_force: &InForce) -> AppResult<()> {
        let mut failed = Ok(());
        for (name, _, project) in in_force {
            for (operation, trigger) in triggers(project) {
                let TriggerSource::Image { reference, every } = &trigger.source else { continue };
                let store = self.store.of_project(name);
                let asked = self.image(&store, operation, trigger, reference, *every).await;
                failed = failed.and(asked);
            }
        }
        failed
    }

    /// Asks for the digest behind a tag, if it is time, and no other server does.
    async fn image(
        &mut self,
        store: &Store,
        operation: &str,
        trigger: &TriggerDefinition,
        reference: &str,
        every: Micros,
    ) -> AppResult<()> {
        let key = format!("{operation}/{}/{reference}", trigger.name);
        let now = store.now().await?;
        let ticket = format!("{}/{key}", store.project());
        if self.asked.get(&ticket).is_some_and(|at| *at > now) {
            return Ok(());
        }
        self.asked.insert(ticket.clone(), now.saturating_add(every));
        if !store.ticket_put(ASKED, &ticket, "", now.saturating_add(every)).await? {
            return Ok(());
        }
        let unasked = |why: String| {
            let diagnostic = Diagnostic::error("WL723", format!("the image {reference} cannot be asked for: {why}"));
            let help = "it is asked for again; the server's own credentials are those of `docker login`";
            AppError::new(ErrorKind::Unavailable, diagnostic.help(help))
        };
        let image =
            Image::parse(reference).ok_or_else(|| unasked("it is not of the form `host/repository:tag`".into()))?;
        let asked =
            tokio::task::spawn_blocking(move || windlass_drivers::oci::digest(&image)).await.map_err(internal)?;
        let digest = asked.map_err(|error| unasked(error.to_string()))?;
        // With when it was seen first: what goes back to an earlier one is a change as well, and after a crash the same change is
        // the same.
        let seen = format!("{digest} {now}");
        let last = store.kv_first(SCOPE, &key, &seen).await?;
        let old = last.split(' ').next().unwrap_or_default();
        if old != digest {
            let event = json!({ "id": digest, "kind": "image" });
            let payload = json!({ "image": reference, "digest": digest, "before": old });
            let id = format!("image {last} {digest}");
            put(store, operation, trigger, &id, now, &Happened { event, payload }).await?;
            store.kv_set(SCOPE, &key, &seen).await?;
        }
        Ok(())
    }
}

/// Names of operations, with their triggers.
fn triggers(project: &Project) -> impl Iterator<Item = (&str, &TriggerDefinition)> {
    let operations = project.definitions.operations.iter();
    operations.flat_map(|operation| operation.triggers.iter().map(|trigger| (operation.name.as_str(), trigger)))
}

fn happened(event: &Event, causes: &[String]) -> Happened {
    let mut about = json!({
        "id": event.id.to_string(), "kind": event.kind, "project": event.project, "run": event.run, "step": event.step,
        "subject": event.subject, "actor": event.actor, "reason": event.reason, "at": event.at,
    });
    if !causes.is_empty() {
        about["causes"] = json!(causes);
    }
    Happened {
        event: about,
        payload: if event.data.is_null() { Value::Object(Default::default()) } else { event.data.clone() },
    }
}
