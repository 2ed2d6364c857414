//! Ten thousand stacks and a hundred thousand runs: what a page sends does not grow with what there is, and the rest is reached by
//! going on.

use super::{Server, repository_of};
use rusqlite::Connection;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const STACKS: usize = 10_000;
const RUNS: usize = 100_000;
/// The most that a page may have, bytes.
const MOST: usize = 300_000;

fn name(stack: usize) -> String {
    format!("g{:02}/s{stack:05}", stack / 100)
}

fn files(states: &Path) -> Vec<(String, String)> {
    let reads = |other: usize| {
        let path = states.join(format!("s{other:05}.tfstate"));
        format!(
            "data \"terraform_remote_state\" \"up\" {{\n  backend = \"local\"\n  config = {{\n    path = \"{}\"\n  }}\n}}\n",
            path.display()
        )
    };
    let stack = |at: usize| {
        let body = if at.is_multiple_of(100) { String::new() } else { reads(at - 1) };
        (format!("{}/main.tf", name(at)), super::stack(states, &format!("s{at:05}"), &body))
    };
    let windlass = "project \"shop\" {}\nteam \"sre\" { members = [\"email:anna@example.com\"] }\ngrant \"sre\" {\n  to   = [team.sre]\n  role = \"admin\"\n}\n";
    std::iter::once(("windlass.hcl".to_owned(), windlass.to_owned())).chain((0..STACKS).map(stack)).collect()
}

/// The beginning of ids that are made in this millisecond.
fn beginning(milliseconds: u128) -> String {
    const DIGITS: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
    (0..10).rev().map(|place| char::from(DIGITS[(milliseconds >> (5 * place)) as usize & 31])).collect()
}

/// Applies of all stacks, a tenth of which failed, with an event each; and a third of the stacks drifted.
fn fill(database: &Connection) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (id, at) = (beginning(now.as_millis()), now.as_micros());
    let stack = "printf('g%02d/s%05d', n % 10000 / 100, n % 10000)";
    let sql = format!(
        "BEGIN;
         CREATE TEMP TABLE numbers AS WITH RECURSIVE up (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM up WHERE n + 1 < {RUNS})
             SELECT n, '{id}' || printf('%016d', n) AS id, CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'succeeded' END AS state FROM up;
         INSERT INTO runs (id, project, kind, title, plan, state, actor, created_at, ended_at, reason)
             SELECT id, 'shop', 'apply', 'main of review ' || n, '{{\"kind\":\"apply\",\"title\":\"t\",\"input\":null,\"steps\":[]}}',
             state, 'anna', {at}, {at} + 1, CASE WHEN n % 10 = 0 THEN 'it broke' END FROM numbers;
         INSERT INTO steps (run, id, position, state, attempt, started_at, ended_at)
             SELECT id, 'plan:' || {stack}, 0, 'succeeded', 1, {at}, {at} FROM numbers
             UNION ALL SELECT id, 'apply:' || {stack}, 1, state, 1, {at}, {at} + 1 FROM numbers;
         INSERT INTO events (project, run, kind, data, actor, at) SELECT 'shop', id, 'run.' || state, '{{}}', 'anna', {at} FROM numbers;
         INSERT INTO kv (project, scope, name, value)
             SELECT 'shop', 'drift-looked', {stack}, '{{\"instance\":\"' || {stack} || '\",\"looked_at\":' || ({at} + 2) || ',\"since\":'
             || CASE WHEN n % 3 = 0 THEN {at} ELSE 'null' END || '}}' FROM numbers WHERE n < {STACKS};
         COMMIT;"
    );
    database.execute_batch(&sql).unwrap();
}

/// A run of an apply with this many steps, of which one failed and the last waits.
fn long_run(database: &Connection, steps: usize) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (run, at) = (format!("{}0000000000000000", beginning(now.as_millis())), now.as_micros() as i64);
    let spec = |at: usize| {
        serde_json::json!({
            "id": format!("step:{at:05}"), "title": format!("Step {at}"), "after": [], "when": "succeeded",
            "work": { "driver": "other", "input": null }, "repeat": "idempotent", "timeout": null,
            "retry": { "attempts": 1, "backoff": 0, "max_backoff": 0 }, "cost": { "cpu_milli": 0, "memory_mib": 0 },
            "labels": ["nobody"],
        })
    };
    let specs: Vec<_> = (0..steps).map(spec).collect();
    let plan = serde_json::json!({ "kind": "other", "title": "long", "input": null, "steps": specs }).to_string();
    database
        .execute(
            "INSERT INTO runs (id, project, kind, title, plan, state, actor, created_at)
             VALUES (?1, 'shop', 'other', 'long', ?2, 'waiting', 'anna', ?3)",
            rusqlite::params![run, plan, at],
        )
        .unwrap();
    for number in 0..steps {
        let state = match number {
            7 => "failed",
            last if last + 1 == steps => "waiting",
            _ => "succeeded",
        };
        let reason = (state == "waiting").then_some("waits for the tide");
        database
            .execute(
                "INSERT INTO steps (run, id, position, state, attempt, reason) VALUES (?1, ?2, ?3, ?4, 1, ?5)",
                rusqlite::params![run, format!("step:{number:05}"), number as i64, state, reason],
            )
            .unwrap();
    }
    run
}

#[test]
fn a_run_is_answered_in_parts_and_its_steps_are_searched() {
    const STEPS: usize = 2_345;
    let env = repository_of(|states| files(states).into_iter().take(2).collect());
    let server = Server::start(&env);
    let anna = server.person("anna");
    server.says(&anna, "/stacks", "g00/s00000");
    let mut database = Connection::open(server.data.join("windlass.db")).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    let transaction = database.transaction().unwrap();
    let run = long_run(&transaction, STEPS);
    transaction.commit().unwrap();
    let path = format!("/api/v1/runs/{run}");
    let get = |path: &str| -> serde_json::Value {
        serde_json::from_str(&server.page(&anna, path).is(200, &[]).text).unwrap()
    };
    let ids = |answer: &serde_json::Value, list: &str| -> Vec<String> {
        answer[list].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap().to_owned()).collect()
    };
    let answer = get(&path);
    assert_eq!((&answer["waits"], &answer["run"]["state"]), (&"waits for the tide".into(), &"waiting".into()));
    let mut found = ids(&answer, "steps");
    assert_eq!(found.len(), 1_000);
    let mut next = answer["next"].clone();
    while let Some(cursor) = next.as_str() {
        let page = get(&format!("{path}/steps?limit=500&cursor={cursor}"));
        found.extend(ids(&page, "items"));
        next = page["next"].clone();
    }
    assert_eq!(found, (0..STEPS).map(|number| format!("step:{number:05}")).collect::<Vec<_>>());

    let check =
        |query: &str, want: &[&str]| assert_eq!(ids(&get(&format!("{path}/steps?{query}")), "items"), want, "{query}");
    check("state=failed", &["step:00007"]);
    check("search=STEP:0023&state=waiting", &[]);
    check("search=02344", &["step:02344"]);
    check("limit=2&cursor=9", &["step:00010", "step:00011"]);
    check("added_by=step:00001", &[]);
    for wrong in ["state=odd", "cursor=odd"] {
        server.page(&anna, &format!("{path}/steps?{wrong}")).is(400, &["odd"]);
    }

    // The same on its page.
    let page = |query: &str| server.page(&anna, &format!("/runs/{run}{query}")).is(200, &[]).text;
    assert!(page("").contains("Steps, by a part of the id"));
    let searched = page("?step=02344");
    assert!(searched.contains("waits for the tide") && !searched.contains("step:00007"), "{searched}");
}

#[test]
fn a_page_is_as_small_however_much_there_is() {
    let env = repository_of(files);
    let server = Server::start(&env);
    let anna = server.person("anna");
    server.says(&anna, "/stacks", &format!("{STACKS} of {STACKS} instances"));
    let database = Connection::open(server.data.join("windlass.db")).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    fill(&database);
    drop(database);
    for path in [
        "/",
        "/stacks",
        "/stacks?sort=applied&state=drifted",
        "/stacks?view=graph",
        "/stacks?view=graph&turn=g00",
        "/stacks/shop/g00/s00000",
        "/drift",
        "/runs",
        "/runs?state=failed&search=main",
        "/runs?state=waiting",
        "/runs?stack=g42/s04200",
        "/reviews",
        "/events",
        "/events?kind=run.failed",
        "/settings",
    ] {
        let page = server.page(&anna, path);
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(page.text.len() < MOST, "{path} has {} bytes", page.text.len());
    }
    // Each list goes on where it ends: what is on the next page was not on this one.
    for (path, row) in
        [("/stacks", "/stacks/shop/"), ("/drift", "/stacks/shop/"), ("/runs", "/runs/0"), ("/events", "id=\"event-")]
    {
        let of = |text: &str| -> Vec<String> {
            let rows = text.split(row).skip(1).map(|rest| rest.split(['"', '#']).next().unwrap().to_owned());
            rows.collect()
        };
        let first = server.page(&anna, path).text;
        let next =
            first.split(" rel=\"next\"").next().unwrap().rsplit("href=\"").next().unwrap().split('"').next().unwrap();
        let second = server.page(&anna, &next.replace("&#38;", "&")).is(200, &[]).text;
        assert!(second.len() < MOST && !of(&second).is_empty(), "{path}");
        assert!(of(&second).iter().all(|row| !of(&first).contains(row)), "{path}, then {next}");
    }
}
