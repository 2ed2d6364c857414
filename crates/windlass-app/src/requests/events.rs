//! The record of everything, as far as somebody may read it.

use super::run_planned;
use super::run_view::chosen;
use crate::caller::{Caller, not_found};
use crate::error::AppResult;
use crate::installation::Installation;
use std::collections::BTreeSet;
use windlass_model::access::{Permission, Subject};
use windlass_store::{Event, EventFilter, SealRow};

/// Of which projects somebody may read the events, and of which they may only know that something happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Of all, and of what belongs to none.
    all: bool,
    audited: BTreeSet<String>,
    seen: BTreeSet<String>,
}

impl Reach {
    /// # Errors
    /// The database cannot be read.
    pub async fn of(installation: &Installation, caller: &Caller) -> AppResult<Self> {
        let mut reach = Self {
            all: caller.may(installation, Permission::AuditRead, &Subject::server()).await?.allowed,
            ..Self::default()
        };
        for (repository, _) in installation.followed.list() {
            let subject = Subject::project(&repository.name);
            if caller.may(installation, Permission::AuditRead, &subject).await?.allowed {
                reach.audited.insert(repository.name.clone());
            }
            if caller.may(installation, Permission::ProjectRead, &subject).await?.allowed {
                reach.seen.insert(repository.name.clone());
            }
        }
        Ok(reach)
    }

    /// Whether what an event says may be read.
    pub fn reads(&self, event: &Event) -> bool {
        self.all || self.audited.contains(&event.project)
    }

    /// Whether it may be known that there is one.
    pub fn notices(&self, event: &Event) -> bool {
        self.reads(event) || self.seen.contains(&event.project)
    }
}

/// Events before `before` (an id), newest first. Those of a run are for who may see the run; all others for who may search the
/// audit record of their project: of one, or of all that are.
///
/// # Errors
/// There is no such run or project that the caller may see, or the caller may not.
pub async fn event_search(
    installation: &Installation,
    caller: &Caller,
    project: Option<&str>,
    filter: &EventFilter,
    before: Option<i64>,
    limit: u32,
) -> AppResult<Vec<Event>> {
    if let Some(run) = &filter.run {
        let record = run_planned(installation, caller, run).await?;
        let store = installation.store(caller, &record.project);
        return Ok(store.event_search(filter, before, limit).await?);
    }
    if let Some(project) = project {
        caller.must(installation, Permission::AuditRead, &Subject::project(project)).await?;
        return Ok(installation.store(caller, project).event_search(filter, before, limit).await?);
    }
    let reach = Reach::of(installation, caller).await?;
    if reach.all {
        return Ok(installation.store(caller, "").event_search(filter, before, limit).await?);
    }
    let mut found = Vec::new();
    for project in &reach.audited {
        found.extend(installation.store(caller, project).event_search(filter, before, limit).await?);
    }
    found.sort_by_key(|event| std::cmp::Reverse(event.id));
    found.truncate(limit as usize);
    Ok(found)
}

/// One page of events.
pub struct EventPage {
    /// Newest first.
    pub events: Vec<Event>,
    /// The last seal.
    pub seal: Option<SealRow>,
    /// Id of the newest event of all.
    pub newest: i64,
    /// Whether the caller may take the record of what is shown out.
    pub export: bool,
}

/// As [`event_search`], with what a page shows around it.
///
/// # Errors
/// As [`event_search`]; and where the caller may search nowhere, why not.
pub async fn event_page(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    filter: &EventFilter,
    before: Option<i64>,
    limit: u32,
) -> AppResult<EventPage> {
    let mut searched = Vec::new();
    let mut refused = None;
    for one in chosen(installation, caller, project).await? {
        match caller.must(installation, Permission::AuditRead, &Subject::project(one.name())).await {
            Ok(()) => searched.push(one),
            Err(error) => refused = Some(error),
        }
    }
    let server = caller.may(installation, Permission::AuditRead, &Subject::server()).await?.allowed;
    if searched.is_empty() && filter.run.is_none() && !(server && project.is_empty()) {
        return Err(refused.unwrap_or_else(|| not_found("project", project)));
    }
    let of = (!project.is_empty()).then_some(project);
    let mut export = true;
    for one in &searched {
        let subject = Subject::project(one.name());
        export &= caller.may(installation, Permission::AuditExport, &subject).await?.allowed;
    }
    Ok(EventPage {
        events: event_search(installation, caller, of, filter, before, limit).await?,
        seal: installation.common.store.seal_last().await?,
        newest: event_last(installation).await?,
        export: export && (server || !searched.is_empty()),
    })
}

/// The newest event there is, which nothing takes back any more: where a feed begins.
///
/// # Errors
/// The database cannot be read.
pub async fn event_last(installation: &Installation) -> AppResult<i64> {
    let newest = installation.common.store.event_search(&EventFilter::default(), None, 1).await?;
    installation.common.store.settle().await?;
    Ok(newest.first().map_or(0, |event| event.id))
}
