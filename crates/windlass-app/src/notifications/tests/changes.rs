//! Of reviews, applies, drift and quarantines.

use super::*;

/// A run with one instance in each of these environments.
async fn run(world: &World, kind: &str, environments: &[&str]) -> RunId {
    let head = json!({ "name": "larger", "commit": "c" });
    let (driver, input) = match kind {
        "review" => {
            let nothing = json!([]);
            let input = json!({ "project": "shop", "base": null, "head": head, "deciding": null, "dirty": nothing,
                "authors": nothing, "deleted": nothing, "diagnostics": nothing });
            ("review.plan", input)
        }
        "apply" => ("apply.plan", json!({ "review": "r1", "head": head, "deciding": null })),
        _ => ("drift.look", json!({ "head": head })),
    };
    let step = |id: String, driver: &str, input: Value| {
        json!({
            "id": id, "title": id, "after": [], "when": "succeeded", "work": { "driver": driver, "input": input },
            "repeat": "idempotent", "timeout": null, "retry": { "attempts": 1, "backoff": 0, "max_backoff": 0 },
            "cost": { "cpu_milli": 0, "memory_mib": 0 },
        })
    };
    let mut steps = vec![step("gate:net".into(), "apply.gate", Value::Null)];
    for name in environments {
        let work = json!({ "instance": { "id": format!("aws/{name}"), "environments": [name] } });
        let work = if kind == "apply" { json!({ "work": work }) } else { work };
        steps.push(step(format!("plan:{name}"), driver, work));
    }
    let plan = json!({ "kind": kind, "title": kind, "input": input, "steps": steps });
    let plan: RunPlan = serde_json::from_value(plan).unwrap();
    let store = world.store.of_project("shop");
    let id = store.run_create(&plan, "user:anna (Anna)").await.unwrap();
    store.run_set_state(&id, RunState::Queued, RunState::Running, None).await.unwrap();
    id
}

/// Something happens in a run, and all of it is told; what a chat then has in addition.
async fn tell(world: &World, server: &mut Teller, chat: &Chat, run: &RunId, kind: &str, data: Value) -> Vec<String> {
    let before = chat.posts().len();
    let store = world.store.of_project("shop");
    store.event_append(run, &"gate:net".into(), &[(kind.to_owned(), data)]).await.unwrap();
    server.all().await;
    texts(chat).split_off(before)
}

async fn end(world: &World, server: &mut Teller, chat: &Chat, run: &RunId, state: RunState) -> Vec<String> {
    let before = chat.posts().len();
    world.store.run_set_state(run, RunState::Running, state, Some("aws/production failed")).await.unwrap();
    server.all().await;
    texts(chat).split_off(before)
}

fn rules(rules: Value) -> Vec<ChangeNotify> {
    let rule = |rule: &Value| {
        let environment = rule[0].as_str().map(str::to_owned);
        ChangeNotify { environment, rule: read_rules(json!([[rule[1], rule[2]]])).remove(0) }
    };
    rules.as_array().unwrap().iter().map(rule).collect()
}

#[tokio::test]
async fn changes_are_told_to_those_who_asked() {
    let chat = Chat::start().unwrap();
    let world = World::new(vec![hook("all", &chat.hook()), hook("releases", &chat.hook())], json!([])).await;
    let mut server = world.server("a");
    let waits = json!({ "verdict": "needs_approval" });

    // Nobody asked.
    let review = run(&world, "review", &["production"]).await;
    assert_eq!(tell(&world, &mut server, &chat, &review, "review.created", waits.clone()).await, [""; 0]);

    *world.fixed.changes.lock().unwrap() =
        rules(json!([[null, ["all"], ["quarantine", "drift", "success"]], ["production", ["releases"], []],]));
    let review = run(&world, "review", &["staging"]).await;
    assert_eq!(tell(&world, &mut server, &chat, &review, "review.created", waits.clone()).await, [""; 0]);
    let review = run(&world, "review", &["staging", "production"]).await;
    let ready = json!({ "verdict": "ready" });
    assert_eq!(tell(&world, &mut server, &chat, &review, "review.created", ready).await, [""; 0]);
    let told = tell(&world, &mut server, &chat, &review, "review.created", waits).await;
    assert_eq!(told, ["The review of larger waits for approval"]);
    let post = chat.posts().pop().unwrap();
    let fields = post.attachments[0]["fields"].to_string();
    assert!(fields.contains("aws/production, aws/staging") && fields.contains("anna"), "{fields}");
    assert!(post.attachments[0].to_string().contains(&format!("{URL}/reviews/{review}")), "{post:?}");
    assert_eq!(tell(&world, &mut server, &chat, &review, "review.approved", Value::Null).await, [""; 0]);
    let told = tell(&world, &mut server, &chat, &review, "review.applied", Value::Null).await;
    assert_eq!(told, ["The review of larger was applied"]);

    let apply = run(&world, "apply", &["production"]).await;
    let told = tell(&world, &mut server, &chat, &apply, "step.waiting", json!({ "reason": "moved" })).await;
    assert_eq!(told, ["The apply of larger waits for somebody"]);
    let data = json!({ "instance": "aws/production", "reason": "it is in no state" });
    let told = tell(&world, &mut server, &chat, &apply, "stack.quarantined", data).await;
    assert_eq!(told, ["aws/production is quarantined"; 2]);
    let post = chat.posts().pop().unwrap();
    assert!(post.attachments[0].to_string().contains(&format!("{URL}/stacks/shop/aws/production")), "{post:?}");
    // One asked for it; the other has heard of it and hears how it ended.
    let told = end(&world, &mut server, &chat, &apply, RunState::Failed).await;
    assert_eq!(told, ["The apply of larger failed"; 2]);
    let apply = run(&world, "apply", &["staging"]).await;
    assert_eq!(end(&world, &mut server, &chat, &apply, RunState::Succeeded).await, ["The apply of larger succeeded"]);

    // All that a look found is one message.
    let drift = run(&world, "drift", &["staging", "other"]).await;
    for instance in ["aws/staging", "aws/other"] {
        let data = json!({ "instance": instance });
        assert_eq!(tell(&world, &mut server, &chat, &drift, "stack.drifted", data).await, [""; 0]);
    }
    assert_eq!(end(&world, &mut server, &chat, &drift, RunState::Succeeded).await, ["2 stacks drifted"]);
    let quiet = run(&world, "drift", &["staging"]).await;
    assert_eq!(end(&world, &mut server, &chat, &quiet, RunState::Succeeded).await, [""; 0]);
}
