//! The methods of `tfplugin6.Provider` for one resource type, `depot_item`.

use crate::wire::{Attribute, Message, Object, dynamic, field, from_json, object};
use crate::world::{Behaviour, World};
use serde_json::{Map, Value};
use std::time::{SystemTime, UNIX_EPOCH};

const TYPE: &str = "depot_item";

/// Name, type, and whether it is required, optional, computed, sensitive.
type Column = (&'static str, &'static str, [bool; 4]);

const COLUMNS: [Column; 10] = [
    ("id", "\"string\"", [false, false, true, false]),
    ("name", "\"string\"", [true, false, false, false]),
    // Another zone is another item.
    ("zone", "\"string\"", [false, true, false, false]),
    ("size", "\"number\"", [false, true, false, false]),
    ("labels", "[\"set\",\"string\"]", [false, true, false, false]),
    ("tags", "[\"map\",\"string\"]", [false, true, false, false]),
    ("password", "\"string\"", [false, true, false, true]),
    ("token", "\"string\"", [false, false, true, true]),
    ("updated_by", "\"string\"", [false, false, true, false]),
    ("updated_at", "\"string\"", [false, false, true, false]),
];

/// What a method answers, or that there is no such method.
pub async fn answer(method: &str, request: &[u8]) -> Option<Vec<u8>> {
    let world = World::of_home();
    let message = match method {
        "GetProviderSchema" => schema(),
        "ValidateProviderConfig" | "ValidateResourceConfig" | "ConfigureProvider" | "StopProvider" => {
            Message::default()
        }
        "UpgradeResourceState" => upgrade(request),
        "ReadResource" => read(&world, request),
        "PlanResourceChange" => plan(request),
        "ApplyResourceChange" => apply(&world, request).await,
        "ImportResourceState" => import(request),
        _ => return None,
    };
    Some(message.finish())
}

fn schema() -> Message {
    let mut block = Message::default();
    for (name, kind, flags) in COLUMNS {
        let mut attribute = Message::default().bytes(1, name).bytes(2, kind);
        for (number, flag) in (4..).zip(flags) {
            attribute = attribute.number(number, flag.into());
        }
        block = block.message(2, attribute);
    }
    let of = |block: Message| Message::default().message(2, block);
    let entry = Message::default().bytes(1, TYPE).message(2, of(block));
    Message::default().message(1, of(Message::default())).message(2, entry)
}

fn problem(number: u64, summary: &str, detail: &str) -> Message {
    Message::default().message(number, Message::default().number(1, 1).bytes(2, summary).bytes(3, detail))
}

const UNREADABLE: &str = "a value cannot be read";

fn upgrade(request: &[u8]) -> Message {
    let state = field(&field(request, 3), 1);
    match serde_json::from_slice(&state) {
        Ok(json) => Message::default().message(1, dynamic(&from_json(&json))),
        Err(error) => problem(2, UNREADABLE, &error.to_string()),
    }
}

fn read(world: &World, request: &[u8]) -> Message {
    let Some(Some(state)) = object(&field(request, 2)) else { return problem(2, UNREADABLE, "of a state") };
    let id = match state.get("id") {
        Some(Attribute::Known(Value::String(id))) => id.clone(),
        _ => return problem(2, UNREADABLE, "there is no id"),
    };
    Message::default().message(1, dynamic(&as_object(world.read(&id))))
}

/// An item with all columns; a list in a set's place has every member once.
fn as_object(item: Option<Map<String, Value>>) -> Object {
    let item = item?;
    let column = |name: &str| Attribute::Known(item.get(name).cloned().unwrap_or_default());
    Some(COLUMNS.iter().map(|(name, ..)| ((*name).to_owned(), column(name))).collect())
}

fn plan(request: &[u8]) -> Message {
    let (Some(prior), Some(proposed)) = (object(&field(request, 2)), object(&field(request, 3))) else {
        return problem(4, UNREADABLE, "of a plan");
    };
    let Some(mut planned) = proposed else { return Message::default().message(1, dynamic(&None)) };
    let computed = || COLUMNS.iter().filter(|(.., flags)| flags[2]).map(|(name, ..)| *name);
    let mut replaced = Vec::new();
    match &prior {
        None => planned.extend(computed().map(|name| (name.to_owned(), Attribute::Unknown))),
        Some(prior) if *prior != planned => {
            for name in ["updated_by", "updated_at"] {
                planned.insert(name.into(), Attribute::Unknown);
            }
            if prior.get("zone") != planned.get("zone") {
                replaced.push("zone");
                planned.extend(computed().map(|name| (name.to_owned(), Attribute::Unknown)));
            }
        }
        Some(_) => {}
    }
    let mut answer = Message::default().message(1, dynamic(&Some(planned)));
    for name in replaced {
        answer = answer.message(2, Message::default().message(1, Message::default().bytes(1, name)));
    }
    answer
}

async fn apply(world: &World, request: &[u8]) -> Message {
    let (Some(prior), Some(planned)) = (object(&field(request, 2)), object(&field(request, 3))) else {
        return problem(3, UNREADABLE, "of an apply");
    };
    let text = |object: &Object, name: &str| match object.as_ref().and_then(|o| o.get(name)) {
        Some(Attribute::Known(Value::String(text))) => Some(text.clone()),
        _ => None,
    };
    let name = text(&planned, "name").or_else(|| text(&prior, "name")).unwrap_or_default();
    match world.behaviour(&name) {
        Behaviour::Fail => return problem(3, &format!("{name} cannot be changed"), "it was told to refuse"),
        Behaviour::Crash => std::process::abort(),
        Behaviour::Hang => {
            while world.behaviour(&name) == Behaviour::Hang {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        Behaviour::Well | Behaviour::CrashAfter => {}
    }
    let done = match planned {
        None => world.remove(&text(&prior, "id").unwrap_or_default()).map(|()| None),
        Some(planned) => {
            let id = text(&prior, "id").unwrap_or_else(|| format!("item-{name}-{:x}", now().subsec_nanos()));
            let mut item: Map<String, Value> = planned
                .into_iter()
                .filter_map(|(name, attribute)| match attribute {
                    Attribute::Known(value) => Some((name, value)),
                    Attribute::Unknown => None,
                })
                .collect();
            item.entry("token").or_insert_with(|| format!("token-of-{id}").into());
            item.entry("updated_by").or_insert_with(|| "terraform".into());
            item.entry("updated_at").or_insert_with(|| now().as_secs().to_string().into());
            item.insert("id".into(), id.clone().into());
            world.write(&id, &item).map(|()| as_object(Some(item)))
        }
    };
    if world.behaviour(&name) == Behaviour::CrashAfter {
        std::process::abort();
    }
    match done {
        Ok(object) => Message::default().message(1, dynamic(&object)),
        Err(error) => problem(3, &format!("{name} cannot be kept"), &error.to_string()),
    }
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Only the id is known of what is imported: terraform reads the rest next.
fn import(request: &[u8]) -> Message {
    let id = String::from_utf8_lossy(&field(request, 2)).into_owned();
    let item: Map<String, Value> = [("id".to_owned(), id.into())].into_iter().collect();
    let imported = Message::default().bytes(1, TYPE).message(2, dynamic(&as_object(Some(item))));
    Message::default().message(1, imported)
}
