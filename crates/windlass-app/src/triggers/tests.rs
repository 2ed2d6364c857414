#![allow(clippy::unwrap_used, reason = "tests")]

use super::delivery::{alerts, is_signed};
use super::*;
use crate::project::Project;
use crate::schedules::InForce;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use windlass_lang::tree::MemoryTree;
use windlass_model::id::RunId;
use windlass_store::{EventFilter, Started};

/// 2026-01-01T00:00:00Z.
const NOW: Micros = 1_767_225_600_000_000;

#[test]
fn a_delivery_counts_when_the_key_signed_it() {
    let check = |key: &str, headers: &[(&str, &str)], body: &str, want: bool| {
        let headers: BTreeMap<&str, &str> = headers.iter().copied().collect();
        let header = |name: &str| headers.get(name).copied();
        let delivery = Delivery { project: "p", operation: "o", trigger: "t", header: &header, body: body.as_bytes() };
        assert_eq!(is_signed(&delivery, key, NOW), want, "{headers:?}");
    };
    // The example of GitHub's documentation.
    let github = "It's a Secret to Everybody";
    let hub = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    check(github, &[("x-hub-signature-256", hub)], "Hello, World!", true);
    check(github, &[("x-hub-signature-256", hub)], "Hello, World", false);
    check("another", &[("x-hub-signature-256", hub)], "Hello, World!", false);
    check(github, &[("x-hub-signature-256", &hub[7..])], "Hello, World!", false);
    check(github, &[], "Hello, World!", false);
    // Made by the specification's own library for Python.
    let key = "whsec_MfKQ9r8GKYqUwTjUPD8ILPZIo2LaLaSw";
    let id = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
    let at = ("webhook-timestamp", "1767225600");
    let signature = ("webhook-signature", "v1,pFtu4og1xFNjpJ7EN0DRKDibCKUnfLpbRrp9jwtnmV4=");
    let body = "{\"test\": 2432232314}";
    check(key, &[id, at, signature], body, true);
    let two = format!("v1,AAAA {}", signature.1);
    check(key, &[id, at, ("webhook-signature", &two)], body, true);
    check(key, &[("webhook-id", "other"), at, signature], body, false);
    check(key, &[id, ("webhook-timestamp", "1767225601"), signature], body, false);
    check(key, &[id, signature], body, false);
    check("whsec_AAAA", &[id, at, signature], body, false);
}

#[test]
fn a_time_that_was_signed_is_near() {
    let header = |name: &str| match name {
        "webhook-id" => Some("msg_p5jXN8AQM9LWM0D4loKWxJek"),
        "webhook-timestamp" => Some("1767225600"),
        "webhook-signature" => Some("v1,pFtu4og1xFNjpJ7EN0DRKDibCKUnfLpbRrp9jwtnmV4="),
        _ => None,
    };
    let body = b"{\"test\": 2432232314}";
    let delivery = Delivery { project: "p", operation: "o", trigger: "t", header: &header, body };
    let check = |seconds: i64, want: bool| {
        let now = NOW + seconds * 1_000_000;
        assert_eq!(is_signed(&delivery, "whsec_MfKQ9r8GKYqUwTjUPD8ILPZIo2LaLaSw", now), want, "{seconds}");
    };
    check(300, true);
    check(-300, true);
    check(301, false);
    check(-301, false);
}

#[test]
fn each_alert_is_told_by_itself() {
    // As Alertmanager 0.25 sent it.
    let recorded: Value = serde_json::from_str(include_str!("tests/alertmanager.json")).unwrap();
    let check = |body: &Value, resolved: bool, want: &[&str]| {
        let found = alerts(body, resolved).unwrap();
        assert_eq!(found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), want);
        found
    };
    let [first, second] =
        ["9d57072d82ca9e73/2026-11-21T00:00:00Z/firing", "1d67af0b5c5bc75c/2026-11-21T00:00:00Z/firing"];
    let found = check(&recorded, false, &[first, second]);
    let payload = &found[0].1.payload;
    assert_eq!(
        (&payload["labels"]["instance"], &payload["groupLabels"]["alertname"]),
        (&json!("app1"), &json!("DiskFull"))
    );
    assert_eq!(found[0].1.event["kind"], "alert.firing");
    let mut ended = recorded.clone();
    ended["alerts"][1]["status"] = "resolved".into();
    check(&ended, false, &[first]);
    check(&ended, true, &[first, "1d67af0b5c5bc75c/2026-11-21T00:00:00Z/resolved"]);
    let refused = |pointer: &str, value: Value| {
        let mut body = recorded.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        assert!(alerts(&body, false).is_err(), "{pointer}");
    };
    refused("/version", "5".into());
    refused("/alerts", json!({}));
    refused("/alerts/0/fingerprint", "".into());
    refused("/alerts/0/status", "odd".into());
    refused("/alerts/0/labels", json!([]));
    assert!(alerts(&json!([]), false).is_err());
}

fn project(text: &str) -> Arc<Project> {
    let project = Project::load(&MemoryTree::new([("windlass.hcl", text)]));
    assert_eq!(project.diagnostics.iter().map(|d| d.summary.as_str()).collect::<Vec<_>>(), [""; 0], "{text}");
    Arc::new(project)
}

fn operation(trigger: &str) -> String {
    format!(
        "operation \"restart\" {{\n  param \"host\" {{ type = string }}\n  step \"s\" {{ run = [\"true\"] }}\n{trigger}\n}}\n"
    )
}

async fn store() -> (Store, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("w.db")).await.unwrap();
    (store, directory)
}

#[tokio::test]
async fn what_is_the_same_within_the_window_starts_once() {
    let (store, _directory) = store().await;
    let shop = store.of_project("shop");
    let text = operation(
        "  trigger \"alerts\" {\n    event { kinds = [\"run.failed\"] }\n    when = trigger.payload.severity == \"page\"\n    \
         deduplicate = trigger.payload.host\n    window = \"1h\"\n    arguments = { host = trigger.payload.host }\n  }",
    );
    let project = project(&text);
    let operation = project.definitions.operation("restart").unwrap();
    let trigger = &operation.triggers[0];
    let now = shop.now().await.unwrap();
    let comes = async |id: &str, payload: Value| {
        let happened = Happened { event: json!({ "id": id, "kind": "test" }), payload };
        let new = put(&shop, "restart", trigger, id, now, &happened).await.unwrap();
        let taken = shop.start_take(60_000_000, 10).await.unwrap();
        let mut found = Vec::new();
        for start in &taken {
            found.push(match intent(&shop, operation, start).await.unwrap() {
                Intent::Start { arguments, origin: Origin::Trigger { event, .. }, .. } => {
                    format!("{event} starts with {}", arguments["host"])
                }
                Intent::Ignore(why) => format!("ignored: {why}"),
                Intent::Refuse(why) => format!("refused: {}", why.rsplit(": ").next().unwrap()),
                Intent::Start { .. } => "another origin".to_owned(),
            });
            // Whoever takes it again decides the same.
            let again = intent(&shop, operation, start).await.unwrap();
            assert_eq!(matches!(again, Intent::Start { .. }), found.last().unwrap().contains("starts"));
        }
        (new, found.join(", "))
    };
    let page = |host: &str| json!({ "severity": "page", "host": host });
    assert_eq!(comes("1", page("app1")).await, (true, "1 starts with \"app1\"".into()));
    assert_eq!(comes("1", page("app1")).await, (false, String::new()), "a delivery that comes again");
    assert_eq!(comes("2", page("app1")).await.1, "ignored: the same (`app1`) has started it shortly before");
    assert_eq!(comes("3", page("app2")).await.1, "3 starts with \"app2\"");
    assert_eq!(comes("4", json!({ "severity": "info", "host": "app3" })).await.1, "ignored: its condition is false");
    assert!(comes("5", json!({ "host": "app3" })).await.1.starts_with("refused: "));
}

fn watch(store: &Store, force: &Arc<Mutex<InForce>>) -> Watch {
    let force = force.clone();
    let changes = |_: &str, old: &str, new: &str| Ok(vec![format!("{old}.sql"), format!("migrations/{new}.sql")]);
    Watch::new(store.clone(), move || force.lock().unwrap().clone(), changes)
}

async fn received(store: &Store) -> usize {
    let filter = EventFilter { kind: Some("trigger.received".into()), ..EventFilter::default() };
    store.event_search(&filter, None, 100).await.unwrap().len()
}

#[tokio::test]
async fn an_event_meets_a_trigger_once_whoever_reads_it() {
    let (store, _directory) = store().await;
    let shop = store.of_project("shop");
    let tell = async |project: &str, kind: &str| {
        store.of_project(project).event_tell(kind, "vpc", json!({ "n": 1 }), "me", None).await.unwrap();
    };
    let force: Arc<Mutex<InForce>> = Arc::default();
    let (mut first, mut second) = (watch(&store, &force), watch(&store, &force));
    tell("shop", "stack.drifted").await;
    first.look().await.unwrap();
    let text = operation(
        "  trigger \"drift\" {\n    event { kinds = [\"stack.drifted\"] }\n    arguments = { host = trigger.event.subject }\n  }",
    );
    force.lock().unwrap().push(("shop".into(), "c1".into(), project(&text)));
    first.look().await.unwrap();
    second.look().await.unwrap();
    assert_eq!(received(&store).await, 0, "what was before it is not its");
    tell("shop", "stack.drifted").await;
    tell("shop", "stack.released").await;
    tell("other", "stack.drifted").await;
    first.look().await.unwrap();
    second.look().await.unwrap();
    assert_eq!(received(&store).await, 1);
    tell("shop", "stack.drifted").await;
    // A server that starts anew goes on where it was left.
    watch(&store, &force).look().await.unwrap();
    second.look().await.unwrap();
    assert_eq!(received(&store).await, 2);
    let start = &shop.start_take(1, 1).await.unwrap()[0];
    assert_eq!(start.request["event"]["subject"], "vpc");
}

/// Runs whatever was met, until nothing more is; the operations of the runs, and why there is none.
async fn rounds(store: &Store, watch: &mut Watch, project: &Project) -> (Vec<String>, Vec<String>) {
    let (mut runs, mut refused) = (Vec::new(), Vec::new());
    loop {
        watch.look().await.unwrap();
        let taken = store.start_take(60_000_000, 10).await.unwrap();
        if taken.is_empty() {
            return (runs, refused);
        }
        for start in taken {
            let operation = project.definitions.operation(&start.operation).unwrap();
            let ended = match intent(store, operation, &start).await.unwrap() {
                Intent::Start { origin, .. } => {
                    runs.push(operation.name.clone());
                    run(store, operation, origin, start.run.as_ref()).await;
                    Started::Run { late: None }
                }
                Intent::Refuse(why) => {
                    refused.push(why.clone());
                    Started::Refused(why)
                }
                Intent::Ignore(why) => panic!("{why}"),
            };
            store.start_end(&start, &ended).await.unwrap();
        }
    }
}

/// A run of an operation.
async fn run(store: &Store, operation: &OperationDefinition, origin: Origin, id: Option<&RunId>) -> RunId {
    let input = json!({
        "head": { "name": "main", "commit": "c1" }, "operation": operation, "arguments": {}, "secrets": [], "environment": null,
        "reason": null, "origin": origin, "broke_glass": false, "skipped": {},
    });
    let plan =
        json!({ "kind": "operation", "title": operation.name, "subject": operation.name, "input": input, "steps": [] });
    let store = id.map_or_else(|| store.clone(), |id| store.creating(id));
    store.run_create(&serde_json::from_value(plan).unwrap(), ITSELF).await.unwrap()
}

#[tokio::test]
async fn operations_that_start_each_other_come_to_an_end() {
    let by = |name: &str, kinds: &str| {
        format!(
            "operation \"{name}\" {{\n  step \"s\" {{ run = [\"true\"] }}\n  trigger \"t\" {{\n    event {{ kinds = [{kinds}] }}\n    \
             when = trigger.event.subject != \"elsewhere\"\n  }}\n}}\n"
        )
    };
    let check = async |kinds: &str, begins: &str, origin: fn(RunId) -> Origin, want: &[&str], end: &str| {
        let (store, _directory) = store().await;
        let store = store.of_project("shop");
        let project = project(&format!("{}{}{}", by("a", kinds), by("b", kinds), by("c", "\"never\"")));
        let force = Arc::new(Mutex::new(vec![("shop".to_owned(), "c1".to_owned(), project.clone())]));
        let mut watch = watch(&store, &force);
        let operation = |name: &str| project.definitions.operation(name).unwrap();
        let first = run(&store, operation("c"), Origin::Person { through: "cli".into() }, None).await;
        watch.look().await.unwrap();
        run(&store, operation(begins), origin(first), None).await;
        let (runs, refused) = rounds(&store, &mut watch, &project).await;
        assert_eq!(runs, want, "{kinds}");
        assert_eq!(refused, [format!("8 runs have started each other, and no more may: of {end}")], "{kinds}");
        let told = EventFilter { kind: Some("operation.not_started".into()), ..EventFilter::default() };
        let told = store.event_search(&told, None, 100).await.unwrap();
        assert_eq!(told.iter().map(|event| event.data["why"].as_str().unwrap()).collect::<Vec<_>>(), refused);
    };
    let person = |_| Origin::Person { through: "cli".into() };
    let all = ["b", "a", "b", "a", "b", "a", "b"];
    check("\"run.created\"", "a", person, &all, "a, b, a, b, a, b, a, b").await;
    // Also where what is refused is told to the other.
    check("\"run.created\", \"operation.not_started\"", "a", person, &all, "a, b, a, b, a, b, a, b").await;
    // What another operation called is of that.
    let called = |run| Origin::Run { run, step: "s".into() };
    check("\"run.created\"", "a", called, &all[..6], "c, a, b, a, b, a, b, a").await;
}

#[tokio::test]
async fn a_push_that_changes_files_meets_a_trigger() {
    let (store, _directory) = store().await;
    let text = operation(
        "  trigger \"migrate\" {\n    files { paths = [\"migrations/**\"] }\n    arguments = { host = trigger.payload.commit }\n  }",
    );
    let at = |commit: &str| vec![("shop".to_owned(), commit.to_owned(), project(&text))];
    let force = Arc::new(Mutex::new(at("c1")));
    let mut first = watch(&store, &force);
    first.look().await.unwrap();
    assert_eq!(received(&store).await, 0);
    *force.lock().unwrap() = at("c2");
    first.look().await.unwrap();
    first.look().await.unwrap();
    watch(&store, &force).look().await.unwrap();
    assert_eq!(received(&store).await, 1);
    let start = &store.start_take(1, 1).await.unwrap()[0];
    assert_eq!(start.request["payload"], json!({ "commit": "c2", "before": "c1", "paths": ["migrations/c2.sql"] }));
}
