//! Schedules of a server's project, and starts at a time.

use super::At;
use super::client::segment;
use super::operations;
use crate::commands::schedules::{Schedules, Start, Which, show};
use crate::terminal::clean;
use crate::{Answer, print, print_json, views};
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_app::error::AppResult;

#[derive(Deserialize)]
struct Backfilled {
    starts: u64,
}

fn address(at: &At, of: &Which) -> AppResult<String> {
    let (operation, schedule) = (segment(&of.operation), segment(&of.schedule));
    Ok(format!("{}/operations/{operation}/schedules/{schedule}", at.project()?))
}

pub(super) fn run(at: &At, command: &Schedules) -> Answer {
    match command {
        Schedules::List { .. } | Schedules::Next { .. } => {
            let all = at.client.list(&format!("{}/schedules", at.project()?))?;
            return show(at.cx, all, command);
        }
        Schedules::Pause { of, reason, until } => {
            let body = json!({ "reason": reason, "until": until });
            at.client.post::<Value>(&format!("{}/pause", address(at, of)?), &body)?;
            done(at, of, json!({ "paused": true }), "is paused; `windlass schedule resume` ends that");
        }
        Schedules::Resume { of } => {
            at.client.post::<Value>(&format!("{}/resume", address(at, of)?), &json!({}))?;
            done(at, of, json!({ "paused": false }), "goes on");
        }
        Schedules::Backfill { of, after, until, at_once } => {
            let body = json!({ "after": after, "until": until, "at_once": at_once });
            let Backfilled { starts } = at.client.post(&format!("{}/backfill", address(at, of)?), &body)?;
            let said = match starts {
                0 => "has nothing to make up for there".to_owned(),
                _ => format!("makes up for {}", views::count(usize::try_from(starts).unwrap_or(usize::MAX), "time")),
            };
            done(at, of, json!({ "starts": starts }), &said);
        }
        Schedules::At { operation, time, how } => return operations::start_at(at, operation, time, how),
        Schedules::Starts { operation } => {
            let path = format!("{}/operations/{}/starts", at.project()?, segment(operation));
            let all: Vec<Start> = at.client.list(&path)?;
            if at.cx.json {
                print_json(&all);
            } else {
                print(&views::schedules::starts(at.cx.out, &all));
            }
        }
        Schedules::Cancel { start } => {
            at.client.post::<Value>(&format!("{}/starts/{}/cancel", at.project()?, segment(start)), &json!({}))?;
            if at.cx.json {
                print_json(&json!({ "start": start, "cancelled": true }));
            } else {
                print(&format!("{} does not begin any more.\n", clean(start)));
            }
        }
    }
    Ok(true)
}

fn done(at: &At, of: &Which, mut value: Value, said: &str) {
    if at.cx.json {
        value["operation"] = of.operation.as_str().into();
        value["schedule"] = of.schedule.as_str().into();
        print_json(&value);
    } else {
        print(&format!("{} of {} {said}.\n", clean(&of.schedule), clean(&of.operation)));
    }
}
