//! Schedules and starts at a time.

use super::time;
use crate::commands::schedules::{Schedule, Start};
use crate::terminal::{Terminal, clean, table};
use windlass_model::Micros;

const NONE: &str = "There are no schedules here. docs/schedules.md says how one is written.\n";

/// What holds a schedule back; nothing where it is in force.
fn state(schedule: &Schedule) -> String {
    match (&schedule.pause, &schedule.freeze) {
        _ if !schedule.enabled => "not enabled".to_owned(),
        (Some(pause), _) => {
            let until =
                if pause.until == Micros::MAX { String::new() } else { format!(" until {}", time(pause.until)) };
            format!("paused{until} by {}: {}", pause.by, pause.reason)
        }
        (None, Some(freeze)) => format!("frozen by {freeze}"),
        (None, None) => "on".to_owned(),
    }
}

fn outcome(start: &Start) -> String {
    let what = start.run.as_ref().or(start.note.as_ref()).map(|what| format!(": {what}")).unwrap_or_default();
    format!("{}{what}", start.state)
}

pub fn list(terminal: Terminal, all: &[Schedule]) -> String {
    if all.is_empty() {
        return NONE.into();
    }
    let row = |schedule: &Schedule| {
        vec![
            schedule.operation.clone(),
            schedule.name.clone(),
            format!("{} {}", schedule.cron, schedule.timezone),
            schedule.next.first().copied().map(time).unwrap_or_default(),
            schedule.last.as_ref().map(|last| format!("{} {}", time(last.due), outcome(last))).unwrap_or_default(),
            state(schedule),
        ]
    };
    table(terminal, &["operation", "schedule", "when", "next", "last", "state"], all.iter().map(row).collect())
}

pub fn next(terminal: Terminal, all: &[Schedule]) -> String {
    if all.is_empty() {
        return NONE.into();
    }
    let one = |schedule: &Schedule| {
        let head = format!("{} {}", clean(&schedule.operation), clean(&schedule.name));
        let times: String = schedule.next.iter().map(|at| format!("  {}\n", time(*at))).collect();
        let held = match state(schedule) {
            on if on == "on" => String::new(),
            held => format!("  {}\n", terminal.yellow(&clean(&held))),
        };
        format!("{}  {} {}\n{held}{times}", terminal.bold(&head), clean(&schedule.cron), clean(&schedule.timezone))
    };
    all.iter().map(one).collect()
}

pub fn starts(terminal: Terminal, all: &[Start]) -> String {
    if all.is_empty() {
        return "Nothing is to begin at a time.\n".into();
    }
    let row = |start: &Start| vec![start.id.clone(), time(start.due), start.actor.clone(), outcome(start)];
    table(terminal, &["start", "at", "by", "state"], all.iter().map(row).collect())
}
