//! Operations of a server's project.

use super::At;
use super::client::segment;
use super::follow::follow;
use super::runs::{conclude, find_run, path};
use crate::commands::operations::{AnswerOptions, How, Operations, Repeat, answered, ask_next, asks, confirmed};
use crate::{Answer, print, print_json, views};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use windlass_app::error::AppResult;
use windlass_app::operations::Arguments;
use windlass_app::operations::again::Compared;
use windlass_app::requests::operations::{Filling, Listed, Shown};
use windlass_model::id::RunId;
use windlass_model::operation::plan::OperationInput;

#[derive(Deserialize)]
struct Started {
    run: RunId,
}

fn address(at: &At, name: &str) -> AppResult<String> {
    Ok(format!("{}/operations/{}", at.project()?, segment(name)))
}

pub(super) fn list(at: &At, options: &Operations) -> Answer {
    match &options.name {
        None => {
            let all: Vec<Listed> = at.client.list(&format!("{}/operations", at.project()?))?;
            if at.cx.json {
                print_json(&all);
            } else {
                print(&views::operations::list(at.cx.out, &all));
            }
        }
        Some(name) => {
            let shown: Shown = at.client.get(&address(at, name)?)?;
            if at.cx.json {
                print_json(&shown);
            } else {
                print(&views::operations::one(at.cx.out, &shown.listed, &shown.definition, &shown.form));
            }
        }
    }
    Ok(true)
}

#[derive(Deserialize)]
struct Planned {
    start: String,
}

/// What is given for an operation in the end: who sits at a terminal is asked for what is missing, and whether to go on. `None` is a
/// no.
fn filled(at: &At, operation: &str, how: &mut How, mut given: Arguments) -> AppResult<Option<Arguments>> {
    let fill =
        |given: &Arguments| at.client.repeat::<Filling>(&format!("{operation}/form"), &json!({ "arguments": given }));
    if asks(at.cx) {
        let (mut filling, mut asked) = (fill(&given)?, BTreeSet::new());
        while ask_next(at.cx, &filling.form, &mut given, &mut asked) {
            filling = fill(&given)?;
        }
        if !confirmed(at.cx, &filling.form, how) {
            print("Nothing was run.\n");
            return Ok(None);
        }
    }
    Ok(Some(given))
}

/// Has an operation begun at a time.
pub(super) fn start_at(at: &At, name: &str, time: &str, how: &How) -> Answer {
    let operation = address(at, name)?;
    let shown: Shown = at.client.get(&operation)?;
    let mut how = how.clone();
    let given = how.given(&shown.definition.parameters)?;
    let Some(given) = filled(at, &operation, &mut how, given)? else { return Ok(false) };
    let body = json!({ "at": time, "arguments": given, "reason": how.reason });
    let Planned { start } = at.client.post(&format!("{operation}/starts"), &body)?;
    if at.cx.json {
        print_json(&json!({ "start": start }));
    } else {
        print(&format!("It begins at {time}: `windlass schedule cancel {start}` takes that back.\n"));
    }
    Ok(true)
}

/// Begins an operation (or a run of one once more, with what is different), and waits for its end.
pub(super) fn run(at: &At, name: &str, how: &How, again: Option<(&RunId, Arguments)>) -> Answer {
    let operation = address(at, name)?;
    let shown: Shown = at.client.get(&operation)?;
    let mut how = how.clone();
    let mut given = Arguments::new();
    if let Some((_, before)) = &again {
        given.clone_from(before);
    }
    given.extend(how.given(&shown.definition.parameters)?);
    let Some(given) = filled(at, &operation, &mut how, given)? else { return Ok(false) };
    let body = json!({
        "arguments": given, "reason": how.reason, "break_glass": how.break_glass, "confirm": how.confirm, "skip": how.skip(),
    });
    let started: Started = match again {
        Some((run, _)) => at.client.post(&format!("{}/repeat", path(run)), &body)?,
        None => at.client.post(&format!("{operation}/runs"), &body)?,
    };
    begun(at, &started.run, how.detach)
}

/// Runs the operation of a run once more.
pub(super) fn repeat(at: &At, options: &Repeat) -> Answer {
    let id = find_run(at, &options.run)?;
    let before: OperationInput = at.client.get(&format!("{}/operation", path(&id)))?;
    run(at, &before.operation.name, &options.how, Some((&id, before.arguments)))
}

/// Waits for the end of a run that has begun.
pub(super) fn begun(at: &At, run: &RunId, detach: bool) -> Answer {
    if detach {
        if at.cx.json {
            print_json(&json!({ "run": run }));
        } else {
            print(&format!("Run {run} goes on on the server: `windlass runs {run} --follow` watches it.\n"));
        }
        return Ok(true);
    }
    if !at.cx.json {
        eprintln!("Running as {run}");
    }
    match follow(at, run, at.cx.json)? {
        Some(record) => conclude(at, &record),
        None => Ok(false),
    }
}

pub(super) fn answer(at: &At, options: &AnswerOptions) -> Answer {
    let id = find_run(at, &options.run)?;
    let body = json!({ "value": options.value, "reason": options.reason });
    let _: Value = at.client.post(&format!("{}/steps/{}/answer", path(&id), segment(&options.step)), &body)?;
    answered(at.cx, &id, options);
    Ok(true)
}

/// Which parameters, definitions and durations of two runs of operations are different.
pub(super) fn compare(at: &At, before: &RunId, after: &RunId) -> Answer {
    let compared: Compared = at.client.get(&format!("{}/compare/{}", path(before), segment(after.as_str())))?;
    if at.cx.json {
        print_json(&compared);
    } else {
        print(&views::operations::compared(at.cx.out, &compared));
    }
    Ok(compared.same_definition && compared.parameters.is_empty())
}

/// Goes on where a run of an operation failed.
pub(super) fn resume(at: &At, id: &RunId, how: &How) -> Answer {
    let before: OperationInput = at.client.get(&format!("{}/operation", path(id)))?;
    let body = json!({
        "arguments": how.given(&before.operation.parameters)?, "reason": how.reason, "break_glass": how.break_glass,
        "skip": how.skip(),
    });
    let started: Started = at.client.post(&format!("{}/go-on", path(id)), &body)?;
    begun(at, &started.run, how.detach)
}
