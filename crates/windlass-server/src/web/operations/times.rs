//! When operations begin by themselves: schedules, their pauses, starts at a time, and a calendar of them.

use super::Typed;
use crate::pages::common::{Badge, Moment, Tone};
use crate::pages::operations::calendar as cal;
use crate::pages::operations::one::{Due, Schedule};
use crate::pages::{Section, link};
use crate::problem::Failure;
use crate::state::App;
use crate::web::{Asked, Page, Sent, lead};
use axum::extract::{Path, State};
use axum::response::{Html, Response};
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_app::error::{AppError, ErrorKind};
use windlass_app::requests::operations::calendar::{Time, What, calendar as times_of};
use windlass_app::requests::operations::view::{OperationView, ScheduleView};
use windlass_app::requests::schedules as timed;
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::parameter::duration;
use windlass_model::run::RunState;

/// e.g. `year-end: nobody is there, until 2027-01-04T00:00:00Z`.
pub(super) fn frozen(freeze: &windlass_model::operation::trigger::Freeze) -> String {
    format!("{}: {}, until {}", freeze.name, freeze.reason, crate::pages::parts::iso(freeze.to))
}

pub(super) fn schedule(view: ScheduleView, now: Micros) -> Schedule {
    let ScheduleView { definition, pause, next } = view;
    let zone = TimeZone::get(&definition.timezone).unwrap_or(TimeZone::UTC);
    let local = |at: Micros| match jiff::Timestamp::from_microsecond(at) {
        Ok(time) => time.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string(),
        Err(_) => String::new(),
    };
    Schedule {
        enabled: definition.enabled,
        state: match (&pause, definition.enabled) {
            (_, false) => Badge::new(Tone::Plain, "switched off"),
            (Some(_), true) => Badge::new(Tone::Warn, "paused"),
            (None, true) => Badge::new(Tone::Ok, "on"),
        },
        paused: pause.map_or_else(String::new, |pause| {
            let until =
                if pause.until == Micros::MAX { String::new() } else { format!(", until {}", local(pause.until)) };
            format!("{}: {}{until}", pause.by, pause.reason)
        }),
        arguments: definition.arguments.iter().map(|(name, value)| format!("{name} = {}", value.text)).collect(),
        next: next
            .into_iter()
            .map(|due| Due {
                local: local(due.at),
                at: Moment::new(due.at, now),
                frozen: due.frozen.unwrap_or_default(),
            })
            .collect(),
        name: definition.name,
        cron: definition.cron,
        timezone: definition.timezone,
    }
}

fn nonsense(summary: String, help: &str) -> AppError {
    AppError::new(ErrorKind::Usage, Diagnostic::error("WL904", summary).help(help))
}

/// A time as people type it: so long from now, or a date with a zone; µs.
fn time(text: &str, now: Micros) -> Result<Micros, AppError> {
    let text = text.trim();
    let parsed = duration(text).and_then(|length| now.checked_add(length));
    parsed.or_else(|| timed::time(text).ok()).ok_or_else(|| {
        let help = "give a time from now such as 90m or 2h, or one with its zone such as 2026-03-29T02:30:00+01:00";
        nonsense(format!("`{text}` is no time"), help)
    })
}

/// Has it begun at a time.
pub(super) async fn plan(
    app: &Arc<App>,
    sent: &Sent,
    view: &OperationView,
    project: &str,
    typed: &Typed,
    breaks_glass: bool,
) -> Result<(), AppError> {
    let name = &view.listed.name;
    if breaks_glass || !typed.skip.is_empty() {
        let summary = format!("`{name}` cannot begin at a time like this");
        let help = "what passes over steps or breaks the glass is begun by somebody who is there";
        return Err(nonsense(summary, help));
    }
    let at = time(&typed.at, app.installation.common.store.now().await?)?;
    let reason = Some(typed.reason.clone()).filter(|reason| !reason.is_empty());
    // What was left empty is not given.
    let given = |value: &serde_json::Value| value.as_str().is_none_or(|text| !text.is_empty());
    let arguments = typed.arguments.clone().into_iter().filter(|(_, value)| given(value)).collect();
    let request = timed::AtRequest { at, arguments, reason, through: "web".to_owned() };
    timed::start_at(&app.installation, &sent.who.caller, project, name, request).await.map(drop)
}

pub(super) async fn pause(
    State(app): State<Arc<App>>,
    Path((project, operation)): Path<(String, String)>,
    sent: Sent,
) -> Response {
    let done = async {
        let (installation, caller, fields) = (&app.installation, &sent.who.caller, &sent.fields);
        let back = link::operation(&project, &operation);
        let schedule = fields.one("schedule").to_owned();
        let key = windlass_store::ScheduleKey { project: project.clone(), operation: operation.clone(), schedule };
        if fields.one("do") == "resume" {
            timed::resume(installation, caller, &key).await?;
            return Ok(lead(&back, "goes_on"));
        }
        let until = match fields.some("until") {
            Some(text) => Some(time(&text, installation.common.store.now().await?)?),
            None => None,
        };
        timed::pause(installation, caller, &key, until, fields.one("reason")).await?;
        Ok(lead(&back, "paused"))
    };
    let done = done.await;
    sent.answer(&app, done).await
}

pub(super) async fn take_back(
    State(app): State<Arc<App>>,
    Path((project, operation)): Path<(String, String)>,
    sent: Sent,
) -> Response {
    let done = timed::start_cancel(&app.installation, &sent.who.caller, &project, sent.fields.one("id")).await;
    let done = done.map(|()| lead(&link::operation(&project, &operation), "taken_back"));
    sent.answer(&app, done).await
}

/// The days that a calendar shows, the day it is asked for by, and those of the time before and after.
fn days(day: Date, is_week: bool) -> Option<(Vec<Date>, Date, Date, Date)> {
    let monday = |day: Date| day.checked_sub(i64::from(day.weekday().to_monday_zero_offset()).days()).ok();
    let (here, earlier, later, end) = if is_week {
        let here = monday(day)?;
        (here, here.checked_sub(7.days()).ok()?, here.checked_add(7.days()).ok()?, here.checked_add(7.days()).ok()?)
    } else {
        let here = day.first_of_month();
        let later = here.checked_add(1.month()).ok()?;
        let end = monday(later.yesterday().ok()?)?.checked_add(7.days()).ok()?;
        (here, here.checked_sub(1.month()).ok()?, later, end)
    };
    let all = monday(here)?.series(1.day()).take_while(|day| *day < end).collect();
    Some((all, here, earlier, later))
}

pub(super) async fn calendar(State(app): State<Arc<App>>, Path(project): Path<String>, asked: Asked) -> Page {
    let zone_name = asked.query.some("zone").unwrap_or_else(|| "UTC".to_owned());
    let zone = TimeZone::get(&zone_name).map_err(|_| {
        nonsense(format!("there is no time zone `{zone_name}`"), "give a name such as Asia/Tokyo or UTC")
    })?;
    let local = |at: Micros| jiff::Timestamp::from_microsecond(at).map(|at| at.to_zoned(zone.clone()));
    let today = local(asked.now).map_or(Date::ZERO, |now| now.date());
    let is_week = asked.query.one("view") == "week";
    let day = asked.query.one("day").parse::<Date>().unwrap_or(today);
    let Some((shown, here, earlier, later)) = days(day, is_week).or_else(|| days(today, is_week)) else {
        return Err(Failure(nonsense(format!("there is no calendar of {day}"), "give another day")));
    };
    let start = |day: Date| day.to_zoned(zone.clone()).map(|day| day.timestamp().as_microsecond()).unwrap_or_default();
    let from = shown.first().copied().map_or(0, start);
    let to = shown.last().and_then(|last| last.tomorrow().ok()).map_or(from, start);
    let found = times_of(&app.installation, &asked.who.caller, &project, (from - 1, to - 1)).await?;
    let mut by_day: BTreeMap<Date, BTreeMap<(String, String), Vec<Time>>> = BTreeMap::new();
    for time in found.times {
        let Ok(at) = local(time.due) else { continue };
        let key = (time.operation.clone(), time.schedule.clone());
        by_day.entry(at.date()).or_default().entry(key).or_default().push(time);
    }
    let clock = |at: Micros| local(at).map(|at| at.strftime("%H:%M").to_string()).unwrap_or_default();
    let entry = |((operation, schedule), times): ((String, String), Vec<Time>)| {
        let when = match times.as_slice() {
            [one] => clock(one.due),
            many => {
                let (first, last) = (many.first().map_or(0, |t| t.due), many.last().map_or(0, |t| t.due));
                format!("{} times, {}–{}", many.len(), clock(first), clock(last))
            }
        };
        let run = match times.as_slice() {
            [Time { what: What::Began { run, .. }, .. }] => run.to_string(),
            _ => String::new(),
        };
        cal::Entry { operation, schedule, when, run, marks: marks(&times) }
    };
    let page = cal::Calendar {
        title: if is_week { format!("week of {here}") } else { here.strftime("%B %Y").to_string() },
        view: if is_week { "week" } else { "month" }.to_owned(),
        here: here.to_string(),
        earlier: earlier.to_string(),
        later: later.to_string(),
        today: today.to_string(),
        days: shown
            .into_iter()
            .map(|day| cal::Day {
                date: day.to_string(),
                label: day.strftime("%a %-d").to_string(),
                is_of_it: is_week || day.month() == here.month(),
                is_today: day == today,
                entries: by_day.remove(&day).into_iter().flatten().map(entry).collect(),
            })
            .collect(),
        freezes: found
            .freezes
            .iter()
            .map(|freeze| match freeze.environments.is_empty() {
                true => frozen(freeze),
                false => format!("{} (in {})", frozen(freeze), freeze.environments.join(", ")),
            })
            .collect(),
        cut: found.cut.iter().map(|(key, _)| format!("{} of {}", key.schedule, key.operation)).collect(),
        is_any: found.is_any,
        project: project.clone(),
        zone: zone_name,
    };
    let frame = crate::web::frame(&app, &asked.who, &project).await?;
    let frame = crate::pages::Frame { section: Section::Operations, ..frame };
    Ok(Html(cal::render(&frame, &page)))
}

/// What is to be seen of times of a day at a glance.
fn marks(times: &[Time]) -> Vec<Badge> {
    let mut counts: BTreeMap<(u8, String), usize> = BTreeMap::new();
    for time in times {
        let (order, text) = match &time.what {
            What::Comes => continue,
            What::Missed(_) => (0, "missed".to_owned()),
            What::Began { late, state, .. } => {
                if late.is_some() {
                    *counts.entry((2, "late".to_owned())).or_default() += 1;
                }
                match state {
                    Some(state @ (RunState::Failed | RunState::Abandoned | RunState::Cancelled)) => {
                        (1, state.as_str().to_owned())
                    }
                    Some(state @ RunState::Succeeded) => (6, state.as_str().to_owned()),
                    Some(state) => (5, state.as_str().to_owned()),
                    None => continue,
                }
            }
            What::Waits => (5, "waiting".to_owned()),
            What::Paused => (3, "paused".to_owned()),
            What::Frozen(freeze) => (4, format!("frozen: {freeze}")),
        };
        *counts.entry((order, text)).or_default() += 1;
    }
    let mark = |((order, text), number): ((u8, String), usize)| {
        let tone = match order {
            0 | 1 => Tone::Bad,
            2 | 3 => Tone::Warn,
            4 | 5 => Tone::Info,
            _ => Tone::Ok,
        };
        Badge::new(tone, if times.len() == 1 { text } else { format!("{number} {text}") })
    };
    counts.into_iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_from_now_or_has_a_zone() {
        let at = |text: &str| time(text, 1_000_000).ok();
        assert_eq!(at("2h"), Some(7_201_000_000));
        assert_eq!(at("1970-01-01T09:00:01+09:00"), Some(1_000_000));
        assert_eq!(at("1970-01-01T09:00:01+09:00[Asia/Tokyo]"), Some(1_000_000));
        assert_eq!((at("tomorrow"), at("2026-03-29T02:30:00")), (None, None));
    }

    #[test]
    fn a_month_has_whole_weeks() {
        #[track_caller]
        fn check(day: &str, is_week: bool, want: (&str, &str, usize, &str, &str)) {
            let (all, _, earlier, later) = days(day.parse().unwrap(), is_week).unwrap();
            let (first, last) = (all.first().unwrap().to_string(), all.last().unwrap().to_string());
            let (earlier, later) = (earlier.to_string(), later.to_string());
            assert_eq!((first.as_str(), last.as_str(), all.len(), earlier.as_str(), later.as_str()), want);
        }
        check("2026-01-15", false, ("2025-12-29", "2026-02-01", 35, "2025-12-01", "2026-02-01"));
        check("2026-02-28", false, ("2026-01-26", "2026-03-01", 35, "2026-01-01", "2026-03-01"));
        check("2026-01-01", true, ("2025-12-29", "2026-01-04", 7, "2025-12-22", "2026-01-05"));
    }
}
