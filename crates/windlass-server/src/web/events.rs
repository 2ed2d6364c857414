//! Events.

use super::{Asked, Page};
use crate::pages::Section;
use crate::pages::common::Moment;
use crate::pages::events::{Event, Events, Filter, Seal, render};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::State;
use axum::http::Method;
use axum::response::Html;
use axum::routing::get;
use std::sync::Arc;
use windlass_app::requests::events::event_page;
use windlass_model::Micros;
use windlass_model::access::Permission;
use windlass_model::id::RunId;
use windlass_store::EventFilter;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/events", Guard::Within(Permission::AuditRead), get(list))
}

/// Rows of one page.
const PAGE: u32 = 100;

/// What can be chosen: kinds, and with a dot at the end all that begin so.
const KINDS: [&str; 27] = [
    "access.",
    "access.refused",
    "approval.given",
    "backend.unlocked",
    "lock.taken_away",
    "project.",
    "resource.",
    "review.",
    "review.created",
    "review.refused",
    "run.",
    "run.cancel_requested",
    "run.halted",
    "run.resumed",
    "run.rollback_asked",
    "run.created",
    "run.failed",
    "session.",
    "stack.",
    "stack.drifted",
    "stack.quarantined",
    "stack.released",
    "step.",
    "step.failed",
    "step.settled",
    "token.",
    "waiver.",
];

/// Microseconds of `YYYY-MM-DDTHH:MM` in UTC; `None` for what is no such time.
fn time(text: &str) -> Option<Micros> {
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

async fn list(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let query = &asked.query;
    let filter = EventFilter {
        run: query.some("run").map(RunId::new),
        actor: query.some("actor"),
        subject: query.some("subject"),
        kind: query.some("kind"),
        from: time(query.one("from")),
        to: time(query.one("until")),
    };
    let here = query.one("after");
    let before = here.parse::<i64>().ok();
    let (caller, project) = (&asked.who.caller, asked.project());
    let mut page = event_page(&app.installation, caller, project, &filter, before, PAGE + 1).await?;
    let more = page.events.len() > PAGE as usize;
    page.events.truncate(PAGE as usize);
    let next = page.events.last().filter(|_| more).map(|event| event.id.to_string()).unwrap_or_default();
    let event = |event: windlass_store::Event| Event {
        id: event.id,
        data: serde_json::to_string_pretty(&event.data).unwrap_or_default(),
        subject: event.subject.or(event.step).unwrap_or_default(),
        actor: event.actor.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        correlation: event.correlation.unwrap_or_default(),
        at: Moment::new(event.at, asked.now),
        kind: event.kind,
        project: event.project,
        run: event.run,
    };
    let seal = page.seal.map_or(Seal::None, |seal| Seal::Sealed {
        number: seal.number,
        last: seal.last,
        open: usize::try_from(page.newest - seal.last).unwrap_or_default(),
        at: Moment::new(seal.at, asked.now),
    });
    let mut kinds: Vec<String> = KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    let kind = query.one("kind").to_owned();
    if !kind.is_empty() && !kinds.contains(&kind) {
        kinds.push(kind.clone());
    }
    let page = Events {
        filter: Filter {
            actor: query.one("actor").to_owned(),
            subject: query.one("subject").to_owned(),
            kind,
            from: query.one("from").to_owned(),
            until: query.one("until").to_owned(),
            run: query.one("run").to_owned(),
            kinds,
        },
        events: page.events.into_iter().map(event).collect(),
        here: here.to_owned(),
        next,
        seal,
        export: page.export,
    };
    Ok(Html(render(&asked.frame(Section::Events), &page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_browsers_write_them() {
        let check = |text: &str, want: Option<Micros>| assert_eq!(time(text), want, "{text}");
        check("2026-01-15T12:00", Some(1_768_478_400_000_000));
        check("2026-01-15T12:00:00", Some(1_768_478_400_000_000));
        check("", None);
        check("yesterday", None);
    }
}
