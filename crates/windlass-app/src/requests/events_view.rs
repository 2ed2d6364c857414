//! Events that a caller may search, and how far they are sealed.

use super::run_view::chosen;
use crate::caller::Caller;
use crate::error::AppResult;
use crate::installation::Installation;
use windlass_model::access::{Permission, Subject};
use windlass_store::{Event, EventFilter, SealRow};

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

/// Events of one project, or of all where the caller may search them, before `before` (an id). Those of the server belong to who
/// may do everything.
///
/// # Errors
/// The caller may search nowhere, or the database cannot be read.
pub async fn event_page(
    installation: &Installation,
    caller: &Caller,
    project: &str,
    filter: &EventFilter,
    before: Option<i64>,
    limit: u32,
) -> AppResult<EventPage> {
    let store = &installation.common.store;
    let everything = caller.may(installation, Permission::ServerManage, &Subject::server()).await?.allowed;
    let mut events = Vec::new();
    let mut export = everything;
    if everything && project.is_empty() {
        events = store.of_project("").event_search(filter, before, limit).await?;
    } else {
        let projects = chosen(installation, caller, project).await?;
        let mut refused = None;
        let mut searched = 0;
        export = true;
        for one in &projects {
            let subject = Subject::project(one.name());
            match caller.must(installation, Permission::AuditRead, &subject).await {
                Ok(()) => {}
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            }
            searched += 1;
            export &= caller.may(installation, Permission::AuditExport, &subject).await?.allowed;
            events.extend(installation.store(caller, one.name()).event_search(filter, before, limit).await?);
        }
        if searched == 0 {
            return Err(refused.unwrap_or_else(|| crate::caller::not_found("project", project)));
        }
        events.sort_by_key(|event| std::cmp::Reverse(event.id));
        events.truncate(limit as usize);
    }
    let newest = store.of_project("").event_search(&EventFilter::default(), None, 1).await?;
    Ok(EventPage { events, seal: store.seal_last().await?, newest: newest.first().map_or(0, |event| event.id), export })
}
