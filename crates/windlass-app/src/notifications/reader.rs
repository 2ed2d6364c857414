//! What happened, as messages: events are read one after the other, and now and then the clock is asked what should have happened.

use super::InForce;
use super::changes::{self, Change, Kind};
use super::words::{Brief, Words};
use crate::error::AppResult;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use windlass_model::id::{InstanceId, RunId, StepId};
use windlass_model::operation::occasion::{Happening, Notice, Past, RUNS, tellings, wanted, wanted_of_changes};
use windlass_model::operation::{NotifyRule, Occasion, plan};
use windlass_model::run::{RunState, StepState};
use windlass_store::{Event, EventFilter, NewMessage, RunQuery, RunSummary, Store, StoreError};

/// Events that are read at once.
const BATCH: u32 = 500;
/// Runs that are known at once; more of them are read again.
const KNOWN: usize = 1_000;
/// Runs that have not ended of which the clock is asked.
const ACTIVE: u32 = 1_000;
/// What tells that an operation, the subject, has missed its intervals.
const MISSED: &str = "operation.overdue";

pub(super) struct Reader {
    store: Store,
    in_force: Arc<dyn InForce>,
    words: Words,
    /// `None` of runs that nobody is told of.
    known: HashMap<RunId, Option<Known>>,
}

/// What is known of a run that somebody may be told of.
#[derive(Clone)]
enum Known {
    Operation(Arc<Brief>),
    Change(Arc<Change>),
}

/// Messages that are to be added, and who is told by them.
#[derive(Default)]
struct Batch {
    messages: Vec<NewMessage>,
    told: HashMap<String, BTreeSet<String>>,
}

impl Reader {
    pub fn new(store: Store, in_force: Arc<dyn InForce>, url: String) -> Self {
        Self { words: Words { store: store.clone(), url }, store, in_force, known: HashMap::new() }
    }

    /// Reads events until there are no more.
    pub async fn read(&mut self) -> AppResult<()> {
        let store = self.store.clone();
        loop {
            let cursor = store.notification_cursor().await?;
            let events = store.event_list(None, cursor, BATCH).await?;
            let Some(last) = events.last().map(|event| event.id) else { return Ok(()) };
            let mut batch = Batch::default();
            for event in &events {
                self.event(event, &mut batch).await?;
            }
            // Who was faster has read the same.
            store.message_add(Some((cursor, last)), &batch.messages).await?;
        }
    }

    /// Asks the clock of runs that have not ended whether they should have begun, or be done by now.
    pub async fn look(&mut self) -> AppResult<()> {
        let store = self.store.clone();
        let now = store.now().await?;
        let query = RunQuery { kind: Some(plan::KIND.to_owned()), active: true, ..RunQuery::default() };
        let mut batch = Batch::default();
        for project in self.in_force.projects() {
            let runs: Vec<RunSummary> = store.of_project(&project).run_find(&query, ACTIVE).await?;
            for run in runs {
                let Some(brief) = self.brief(&run.id, None).await? else { continue };
                if let (Some(due), Some(step)) = (brief.due, &brief.begins) {
                    let begun = self.begun(&run.id, step).await?;
                    let late = Happening::Began(begun.unwrap_or(now) - due);
                    self.happened(&brief, late, None, now, &mut batch).await?;
                }
                if run.state == RunState::Running {
                    let long = Happening::UnderWay(now - run.created_at);
                    self.happened(&brief, long, None, now, &mut batch).await?;
                }
            }
        }
        store.message_add(None, &batch.messages).await?;
        Ok(())
    }

    async fn event(&mut self, event: &Event, batch: &mut Batch) -> AppResult<()> {
        if event.kind == MISSED {
            return self.missed(event, batch).await;
        }
        let step = event.step.as_deref().map(StepId::new);
        let Some(run) = event.run.as_deref().map(RunId::new) else { return Ok(()) };
        if let Some(Known::Change(change)) = self.known(&run, None).await? {
            return self.changed(&change, event, batch).await;
        }
        let asks = |brief: &Brief| step.as_ref().is_some_and(|step| brief.asks.contains_key(step));
        let (what, step) = match event.kind.as_str() {
            "run.created" => (Happening::BrokeGlass, None),
            "step.waiting" | "step.unknown" => (Happening::Waits, step.as_ref()),
            "step.succeeded" | "step.settled" => (Happening::WentOn, step.as_ref()),
            kind => match kind.strip_prefix("run.").and_then(RunState::parse).filter(|state| state.is_final()) {
                Some(state) => (Happening::Ended(state), None),
                None => return Ok(()),
            },
        };
        let Some(brief) = self.brief(&run, step).await? else { return Ok(()) };
        match what {
            Happening::BrokeGlass if !brief.broke_glass => return Ok(()),
            Happening::Waits if event.kind == "step.waiting" && !asks(&brief) => return Ok(()),
            Happening::WentOn if event.kind == "step.succeeded" && !asks(&brief) => return Ok(()),
            Happening::Ended(_) => {
                // It may have begun and ended since the clock was asked.
                if let (Some(due), Some(step)) = (brief.due, &brief.begins) {
                    let begun = self.begun(&run, step).await?.unwrap_or(event.at);
                    self.happened(&brief, Happening::Began(begun - due), None, event.at, batch).await?;
                }
            }
            _ => {}
        }
        self.happened(&brief, what, Some(event), event.at, batch).await
    }

    /// Tells of something whoever is to be told.
    async fn happened(
        &self,
        brief: &Brief,
        what: Happening,
        event: Option<&Event>,
        at: i64,
        batch: &mut Batch,
    ) -> AppResult<()> {
        let wanted = self.wanted(&brief.run.project, &brief.input.operation.notify);
        let thread = brief.run.id.as_str();
        let needs_past = match what {
            Happening::UnderWay(_) => wanted.values().any(|on| on.contains(&Occasion::Slow)),
            Happening::Ended(state) => state == RunState::Succeeded,
            _ => false,
        };
        if matches!(what, Happening::UnderWay(_)) && !needs_past {
            return Ok(());
        }
        let past = if needs_past { self.past(brief).await? } else { Past::default() };
        let told = self.told(thread, batch).await?;
        let tellings = tellings(what, &past, &wanted, &told);
        if tellings.is_empty() {
            return Ok(());
        }
        let mut notice = self.words.of_run(brief, what, event, at).await?;
        batch.told.entry(thread.to_owned()).or_insert(told).extend(tellings.iter().map(|(name, _)| name.clone()));
        for (notifier, occasion) in tellings {
            notice.occasion = occasion;
            self.words.title(&mut notice, what);
            // What is told once has a name of its own, whoever reads of it and however often.
            let once = match (occasion, event) {
                (Some(Occasion::Waiting), Some(event)) => {
                    format!("waiting/{}", event.step.as_deref().unwrap_or_default())
                }
                (Some(occasion), _) => occasion.as_str().to_owned(),
                (None, event) => format!("event/{}", event.map_or(0, |event| event.id)),
            };
            batch.messages.push(message(&brief.run.project, &notifier, thread, &once, &notice)?);
        }
        Ok(())
    }

    /// Something happened to a review, an apply, or stacks.
    async fn changed(&self, change: &Change, event: &Event, batch: &mut Batch) -> AppResult<()> {
        let rules = self.in_force.change_rules(&change.run.project);
        let Some(what) = change.happening(event).filter(|_| !rules.is_empty()) else { return Ok(()) };
        let about: BTreeSet<InstanceId> = match change.kind {
            // One message of all that a look found.
            Kind::Drift => {
                let drifted = "stack.drifted".to_owned();
                let filter =
                    EventFilter { run: Some(change.run.id.clone()), kind: Some(drifted), ..EventFilter::default() };
                let found = self.store.of_project(&change.run.project).event_search(&filter, None, BATCH).await?;
                if found.is_empty() {
                    return Ok(());
                }
                found.iter().filter_map(changes::instance_of).collect()
            }
            _ => changes::instance_of(event).into_iter().collect(),
        };
        let environments = change.environments(&about);
        let concerns = |name: &Option<String>| name.as_deref().is_none_or(|name| environments.contains(name));
        let rules = rules.iter().filter(|rule| concerns(&rule.environment)).map(|rule| &rule.rule);
        let mut wanted = wanted_of_changes(rules);
        if change.kind == Kind::Review {
            // That it was applied is told of its apply.
            for occasions in wanted.values_mut() {
                occasions.remove(&Occasion::Success);
            }
        }
        let thread = change.run.id.as_str();
        let told = self.told(thread, batch).await?;
        let tellings = tellings(what, &Past::default(), &wanted, &told);
        if tellings.is_empty() {
            return Ok(());
        }
        let notice = self.words.of_change(change, what, event, &about);
        batch.told.entry(thread.to_owned()).or_insert(told).extend(tellings.iter().map(|(name, _)| name.clone()));
        for (notifier, occasion) in tellings {
            let notice = Notice { occasion, ..notice.clone() };
            let once = changes::once(occasion, event, &about);
            batch.messages.push(message(&change.run.project, &notifier, thread, &once, &notice)?);
        }
        Ok(())
    }

    /// Who was told of a run before.
    async fn told(&self, thread: &str, batch: &Batch) -> AppResult<BTreeSet<String>> {
        Ok(match batch.told.get(thread) {
            Some(told) => told.clone(),
            None => self.store.message_told(thread).await?,
        })
    }

    /// An operation has missed its intervals.
    async fn missed(&self, event: &Event, batch: &mut Batch) -> AppResult<()> {
        let Some(name) = event.subject.as_deref() else { return Ok(()) };
        let Some(rules) = self.in_force.rules(&event.project, name) else { return Ok(()) };
        let wanted = self.wanted(&event.project, &rules);
        let notice = self.words.missed(event, name);
        let thread = format!("missed/{}/{name}/{}", event.project, event.id);
        for (notifier, occasion) in tellings(Happening::Missed, &Past::default(), &wanted, &BTreeSet::new()) {
            let notice = Notice { occasion, ..notice.clone() };
            batch.messages.push(message(&event.project, &notifier, &thread, "dead_man", &notice)?);
        }
        Ok(())
    }

    fn wanted(&self, project: &str, rules: &[NotifyRule]) -> BTreeMap<String, BTreeSet<Occasion>> {
        let everyone = self.in_force.notifiers(project).unwrap_or_default();
        let everyone: Vec<String> = everyone.into_iter().map(|notifier| notifier.name).collect();
        wanted(rules, &everyone)
    }

    async fn past(&self, brief: &Brief) -> AppResult<Past> {
        let store = self.store.of_project(&brief.run.project);
        // Enough of them that twenty succeeded, if not all fail.
        let runs = store.run_past(&brief.input.operation.name, &brief.run.id, 5 * RUNS as u32).await?;
        let before = runs.first().map(|run| run.state);
        let good = runs.iter().filter(|run| run.state == RunState::Succeeded);
        Ok(Past { before, durations: good.map(|run| run.ended_at - run.created_at).take(RUNS).collect() })
    }

    /// When a step was over that stands before all others.
    async fn begun(&self, run: &RunId, step: &StepId) -> AppResult<Option<i64>> {
        let step = self.store.step_get(run, step).await?;
        Ok(step.ended_at.filter(|_| step.state == StepState::Succeeded))
    }

    /// What is known of a run of an operation; `step` is to be in its plan.
    async fn brief(&mut self, run: &RunId, step: Option<&StepId>) -> AppResult<Option<Arc<Brief>>> {
        Ok(match self.known(run, step).await? {
            Some(Known::Operation(brief)) => Some(brief),
            Some(Known::Change(_)) | None => None,
        })
    }

    async fn known(&mut self, run: &RunId, step: Option<&StepId>) -> AppResult<Option<Known>> {
        if let Some(known) = self.known.get(run) {
            match known {
                Some(Known::Operation(brief)) if step.is_some_and(|step| !brief.steps.contains(step)) => {}
                known => return Ok(known.clone()),
            }
        }
        let known = match self.store.run_get(run).await {
            Ok(record) if record.plan.kind == plan::KIND => {
                Brief::of(record).map(|brief| Known::Operation(Arc::new(brief)))
            }
            Ok(record) => Change::of(record).map(|change| Known::Change(Arc::new(change))),
            // What another release wrote keeps nobody from being told of the rest.
            Err(StoreError::NotFound { .. } | StoreError::Decode { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(run.clone(), known.clone());
        Ok(known)
    }
}

fn message(project: &str, notifier: &str, thread: &str, once: &str, notice: &Notice) -> AppResult<NewMessage> {
    Ok(NewMessage {
        id: format!("{project}/{notifier}/{thread}/{once}"),
        project: project.to_owned(),
        notifier: notifier.to_owned(),
        thread: thread.to_owned(),
        body: serde_json::to_string(notice).map_err(crate::error::internal)?,
    })
}
