//! The record of everything, searched and live; and the news of one run or review.

use super::{Asked, Listed, limit, nonsense, of_model};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use crate::streams::{Look, Reader, Source, stream};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::Response;
use axum::response::sse;
use axum::routing::get;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;
use windlass_app::caller::Caller;
use windlass_app::error::{AppResult, internal};
use windlass_app::requests::events::{Reach, event_last, event_search};
use windlass_app::requests::run_planned;
use windlass_model::access::Permission;
use windlass_model::id::RunId;
use windlass_model::stack_plan::ApplyInput;
use windlass_store::EventFilter;

pub fn routes(routes: Routes) -> Routes {
    let read = Guard::Within(Permission::ProjectRead);
    routes
        .add(Method::GET, "/api/v1/events", Guard::Within(Permission::AuditRead), get(list))
        .add(Method::GET, "/api/v1/events/stream", Guard::SignedIn, get(feed))
        .add(Method::GET, "/api/v1/runs/{run}/stream", read, get(run_stream))
        .add(Method::GET, "/api/v1/reviews/{review}/stream", read, get(review_stream))
}

of_model! {
    /// One fact: its `id`, `kind`, time `at` (microseconds since 1970, UTC), `project`, `run`, `step`, `subject`, `actor`,
    /// `reason`, `correlation`, and `data` that depends on its kind.
    Event(windlass_store::Event);
}

/// How many events are looked at in one go.
const BATCH: u32 = 200;

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only those of this project.
    project: Option<String>,
    /// Only those of this run; `project.read` is enough for them.
    run: Option<String>,
    /// Only what this actor did, as the event has it.
    actor: Option<String>,
    /// Only those about this, e.g. `token 01k…`.
    subject: Option<String>,
    /// Only those of this kind, or of all kinds that begin so where it ends with a dot: `step.`.
    kind: Option<String>,
    /// Only those from this time on, microseconds since 1970, UTC.
    from: Option<i64>,
    /// Only those before this time.
    to: Option<i64>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many at most; 50 otherwise, 500 at most.
    limit: Option<u32>,
}

impl EventQuery {
    fn filter(&self) -> EventFilter {
        EventFilter {
            run: self.run.clone().map(RunId::new),
            actor: self.actor.clone(),
            subject: self.subject.clone(),
            kind: self.kind.clone(),
            from: self.from,
            to: self.to,
        }
    }
}

/// Events, newest first: those of the projects whose audit record you may search.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "event_list", params(EventQuery),
    responses((status = 200, body = Listed<Event>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Asked(query): Asked<EventQuery>,
) -> Result<Json<Listed<Event>>, Failure> {
    let limit = limit(query.limit);
    let before = query.cursor.as_ref().map(|cursor| cursor.parse::<i64>());
    let before = before.transpose().map_err(|_| nonsense("its cursor is none of ours"))?;
    let (installation, caller) = (&app.installation, &who.caller);
    let found = event_search(installation, caller, query.project.as_deref(), &query.filter(), before, limit).await?;
    Ok(Json(Listed::read(found, limit, |event| event.id.to_string()).map(Event)))
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FeedQuery {
    /// Only those of this project.
    project: Option<String>,
    /// Only those of this kind, or of all kinds that begin so where it ends with a dot: `step.`.
    kind: Option<String>,
    /// From the event after this id on; `Last-Event-ID` goes before it. From now on otherwise.
    after: Option<u64>,
}

/// What happens from now on. `event`: an event as JSON, where you may search the audit record of its project; `changed`: something
/// happened in a project that you may see. The id of each is that of the last event that it tells of.
#[utoipa::path(
    get, path = "/api/v1/events/stream", tag = "events", operation_id = "event_stream", params(FeedQuery),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "Server-sent events")),
)]
pub async fn feed(
    State(app): State<Arc<App>>,
    reader: Reader,
    Asked(query): Asked<FeedQuery>,
) -> Result<Response, Failure> {
    let reach = Reach::of(&app.installation, &reader.caller).await?;
    let after = start(&app, reader.last.or(query.after)).await?;
    Ok(stream(reader, Feed { reach, query, after }))
}

/// Where a stream begins: after the event that was got last, or now.
async fn start(app: &App, last: Option<u64>) -> AppResult<i64> {
    match last {
        Some(last) => Ok(i64::try_from(last).unwrap_or(i64::MAX)),
        None => event_last(&app.installation).await,
    }
}

/// Events after `after` that nothing takes back any more: whoever was told of one goes on from there.
async fn news_of(app: &App, run: Option<&RunId>, after: i64) -> AppResult<Vec<windlass_store::Event>> {
    let store = &app.installation.common.store;
    let found = store.event_list(run, after, BATCH).await?;
    if !found.is_empty() {
        store.settle().await?;
    }
    Ok(found)
}

struct Feed {
    reach: Reach,
    query: FeedQuery,
    after: i64,
}

impl Feed {
    fn wants(&self, event: &windlass_store::Event) -> bool {
        let kind = self
            .query
            .kind
            .as_deref()
            .is_none_or(|kind| if kind.ends_with('.') { event.kind.starts_with(kind) } else { event.kind == kind });
        kind && self.query.project.as_ref().is_none_or(|project| event.project == *project)
    }
}

impl Source for Feed {
    const PAUSE: Duration = Duration::from_secs(5);
    const BREATH: Duration = Duration::from_millis(50);

    async fn allow(&mut self, app: &App, caller: &Caller) -> AppResult<()> {
        self.reach = Reach::of(&app.installation, caller).await?;
        Ok(())
    }

    async fn look(&mut self, app: &App) -> AppResult<Look> {
        let found = news_of(app, None, self.after).await?;
        let mut look = Look { more: found.len() == BATCH as usize, ..Look::default() };
        let mut noticed = None;
        for event in found {
            self.after = event.id;
            if !self.wants(&event) {
                continue;
            }
            if self.reach.notices(&event) {
                noticed = Some(event.id);
            }
            if self.reach.reads(&event) {
                let sent = sse::Event::default().event("event").id(event.id.to_string());
                look.events.push(sent.json_data(&event).map_err(internal)?);
            }
        }
        if let Some(id) = noticed {
            look.events.push(changed(id));
        }
        Ok(look)
    }
}

fn changed(id: i64) -> sse::Event {
    sse::Event::default().event("changed").id(id.to_string()).data("{}")
}

/// `changed`, whenever something happened in the run.
#[utoipa::path(
    get, path = "/api/v1/runs/{run}/stream", tag = "runs", operation_id = "run_stream",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "Server-sent events")),
)]
pub async fn run_stream(
    State(app): State<Arc<App>>,
    reader: Reader,
    Path(run): Path<String>,
) -> Result<Response, Failure> {
    news(&app, reader, RunId::new(run), false).await
}

/// `changed`, whenever something happened to the review or in a run that applies it.
#[utoipa::path(
    get, path = "/api/v1/reviews/{review}/stream", tag = "reviews", operation_id = "review_stream",
    params(("review" = String, Path, description = "Id of the review")),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "Server-sent events")),
)]
pub async fn review_stream(
    State(app): State<Arc<App>>,
    reader: Reader,
    Path(run): Path<String>,
) -> Result<Response, Failure> {
    news(&app, reader, RunId::new(run), true).await
}

async fn news(app: &App, reader: Reader, run: RunId, applies: bool) -> Result<Response, Failure> {
    let record = run_planned(&app.installation, &reader.caller, &run).await?;
    // Between the page that was drawn and this stream something may have happened.
    let fresh = reader.last.is_none() && (applies || !record.state.is_final());
    let after = start(app, reader.last).await?;
    Ok(stream(reader, News { run, applies: applies.then(HashMap::new), fresh, after }))
}

/// What happens to one run.
struct News {
    run: RunId,
    /// Of a review: whether other runs that were seen apply it.
    applies: Option<HashMap<String, bool>>,
    /// It is to be told at once.
    fresh: bool,
    after: i64,
}

/// How many runs are known to apply a review or not, before all of them are asked again.
const KNOWN: usize = 1000;

impl News {
    async fn concerns(&mut self, app: &App, event: &windlass_store::Event) -> AppResult<bool> {
        let Some(run) = event.run.as_deref() else { return Ok(false) };
        if run == self.run.as_str() {
            return Ok(true);
        }
        let Some(known) = &mut self.applies else { return Ok(false) };
        if let Some(applies) = known.get(run) {
            return Ok(*applies);
        }
        let record = app.installation.common.store.run_planned(&RunId::new(run)).await?;
        let applies = ApplyInput::deserialize(&record.plan.input).is_ok_and(|input| input.review == self.run);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(run.to_owned(), applies);
        Ok(applies)
    }
}

impl Source for News {
    const PAUSE: Duration = Duration::from_secs(5);
    // Many events in a row are one refresh.
    const BREATH: Duration = Duration::from_millis(200);

    async fn allow(&mut self, app: &App, caller: &Caller) -> AppResult<()> {
        run_planned(&app.installation, caller, &self.run).await.map(drop)
    }

    async fn look(&mut self, app: &App) -> AppResult<Look> {
        // A run's own events are found by the index; those of its applies are among all.
        let only = self.applies.is_none().then(|| self.run.clone());
        let found = news_of(app, only.as_ref(), self.after).await?;
        let mut look = Look { more: found.len() == BATCH as usize, ..Look::default() };
        let mut news = std::mem::take(&mut self.fresh);
        for event in found {
            self.after = event.id;
            news = news || self.concerns(app, &event).await?;
        }
        if news {
            look.events.push(changed(self.after));
        }
        Ok(look)
    }
}
