//! `http`, `sql`, `wait`: asked of servers and databases that are there, and of those that are not.

use super::{World, argv, operation, span, step, until, x};
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use windlass_model::run::{RunState, StepState};
use windlass_testkit::mysql::MySqlServer;

async fn serve() -> String {
    let echo = async |headers: HeaderMap, method: axum::http::Method, body: String| {
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("none").to_owned();
        let token = headers.get("x-token").and_then(|token| token.to_str().ok()).unwrap_or("none").to_owned();
        axum::Json(json!({ "method": method.as_str(), "kind": kind, "token": token, "body": body }))
    };
    let status = async |Path(status): Path<u16>| (StatusCode::from_u16(status).unwrap(), "it says so").into_response();
    let slow = async || {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        "late"
    };
    let router = Router::new()
        .route("/echo", any(echo))
        .route("/status/{status}", get(status))
        .route("/plain", get(async || "all is ok"))
        .route("/slow", get(slow));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

fn http(url: &str, more: Value) -> Value {
    let mut action = json!({
        "method": "GET", "url": x(&format!("\"{url}\"")), "headers": {}, "body": null, "status": [200, 299],
        "contains": null, "timeout": 20_000_000,
    });
    super::merge(&mut action, more);
    json!({ "http": action })
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_sent_as_they_are_written_and_judged_by_their_answers() {
    let (world, base) = (World::new(&[]).await, serve().await);
    let post = json!({ "method": "POST", "headers": { "x-token": x("\"t-${param.who}\"") }, "body": x("{ who = param.who }") });
    let steps = vec![
        step("post", http(&format!("{base}/echo"), post), json!({})),
        step("text", http(&format!("{base}/echo"), json!({ "method": "PUT", "body": x("\"as it is\"") })), json!({})),
        step("plain", http(&format!("{base}/plain"), json!({ "contains": x("\"is ok\"") })), json!({})),
        step("redirect", http(&format!("{base}/status/302"), json!({ "status": [302, 302] })), json!({})),
        step("use", super::shell("true"), json!({ "env": { "WHO": x("step.post.outputs.json.body") } })),
    ];
    let ran = world.run(steps, json!({}), json!({ "who": "anna" })).await;
    assert_eq!(ran.state, RunState::Succeeded, "{:?}", ran.steps);
    let body = json!({ "method": "POST", "kind": "application/json", "token": "t-anna", "body": "{\"who\":\"anna\"}" });
    assert_eq!(*ran.output("post"), json!({ "status": 200, "json": body }));
    assert_eq!(ran.output("text")["json"]["body"], "as it is");
    assert_eq!(*ran.output("plain"), json!({ "status": 200, "text": "all is ok" }));
    assert_eq!(ran.output("redirect")["status"], 302);

    let twice = json!({ "retry": { "attempts": 2, "backoff": 1000, "max_backoff": 1000 } });
    let check = async |url: &str, more: Value, want: &str, attempts: u32| {
        let ran = world.run(vec![step("s", http(url, more), twice.clone())], json!({}), json!({})).await;
        let (code, reason) = ran.failure("s");
        assert!(code == "WL536" && reason.contains(want), "{reason} instead of {want}");
        assert_eq!(ran.steps["s"].attempt, attempts, "{want}");
    };
    check(&format!("{base}/status/503"), json!({}), "answers 503, not 200 to 299: it says so", 2).await;
    check(&format!("{base}/status/404"), json!({}), "answers 404", 1).await;
    check(&format!("{base}/plain"), json!({ "contains": x("\"missing\"") }), "answers 200 without `missing`", 2).await;
    check(&format!("{base}/slow"), json!({ "timeout": 200_000 }), "no answer within 0.2 s", 2).await;
    check("http://127.0.0.1:1/", json!({}), "127.0.0.1:1", 2).await;
    check("no address", json!({}), "no address", 1).await;
}

fn sql(url: &str, statement: &str, more: Value) -> Value {
    let mut action = json!({
        "url": x(&serde_json::to_string(url).unwrap()), "statement": x(&serde_json::to_string(statement).unwrap()),
        "values": null, "write": false, "max_rows": 3,
    });
    super::merge(&mut action, more);
    json!({ "sql": action })
}

const NUMBERED: [&str; 3] = ["$1", "no value for $1", "multiple"];

/// What every database does: reads, refuses to write unless it may, binds values, keeps to the limit on rows. `mark` is how it counts
/// values, and the others say that one is missing and that there is more than one statement.
async fn asks(world: &World, url: &str, [mark, missing, multiple]: [&str; 3]) {
    let sql = |statement: &str, more: Value| {
        let statement = if mark == "?" {
            regex::Regex::new("[$][0-9]").unwrap().replace_all(statement, "?").into_owned()
        } else {
            statement.to_owned()
        };
        sql(url, &statement, more)
    };
    let write = |statement: &str, values: &str| sql(statement, json!({ "write": true, "values": x(values) }));
    let steps = vec![
        step(
            "make",
            write("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, weight NUMERIC(10, 2))", "[]"),
            json!({}),
        ),
        step(
            "put",
            write("INSERT INTO things VALUES ($1, $2, $3), (2, $4, NULL)", "[1, param.name, 1.5, param.name]"),
            json!({}),
        ),
        step(
            "read",
            sql(
                "SELECT id, name FROM things WHERE name = $1 AND id <= $2 ORDER BY id",
                json!({ "values": x("[param.name, 2]") }),
            ),
            json!({}),
        ),
        step("use", super::shell("true"), json!({ "env": { "N": x("step.read.outputs.rows[1].name") } })),
    ];
    let ran = world.run(steps, json!({}), json!({ "name": "a'); DROP TABLE things; --" })).await;
    assert_eq!(ran.state, RunState::Succeeded, "{:?}", ran.steps);
    assert_eq!(ran.output("put")["count"], 2);
    let name = "a'); DROP TABLE things; --";
    let rows = json!([{ "id": 1, "name": name }, { "id": 2, "name": name }]);
    assert_eq!(*ran.output("read"), json!({ "rows": rows, "count": 2 }));
    let check = async |action: Value, code: &str, want: &str| {
        let ran = world.run(vec![step("s", action, json!({}))], json!({}), json!({})).await;
        let (found, reason) = ran.failure("s");
        assert!(found == code && reason.to_lowercase().contains(want), "{found} {reason} instead of {want}");
    };
    check(sql("INSERT INTO things VALUES (9, 'x', 1)", json!({})), "WL537", "read").await;
    check(sql("DROP TABLE things", json!({})), "WL537", "read").await;
    check(sql("SELECT * FROM nothing", json!({})), "WL537", "nothing").await;
    check(sql("SELECT * FROM things WHERE id = $1", json!({})), "WL537", missing).await;
    let four = "SELECT 1 AS n UNION SELECT 2 UNION SELECT 3 UNION SELECT 4";
    check(sql(four, json!({})), "WL538", "more than 3 rows").await;
    check(sql("SELECT 1; DELETE FROM things", json!({ "write": true })), "WL537", multiple).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_asked() {
    let world = World::new(&[]).await;
    asks(&world, "sqlite:things.db", NUMBERED).await;
    let ran = world
        .run(vec![step("s", sql("sqlite:missing.db", "SELECT 1", json!({})), json!({}))], json!({}), json!({}))
        .await;
    assert_eq!(ran.failure("s").0, "WL537");
    assert!(!world.path().join("missing.db").exists());
    let ran = world.run(vec![step("s", sql("oracle:x", "SELECT 1", json!({})), json!({}))], json!({}), json!({})).await;
    assert_eq!(ran.failure("s").0, "WL537");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n";
    cancels(&world, sql("sqlite:things.db", endless, json!({}))).await;
}

async fn cancels(world: &World, action: Value) {
    let input = world.input(operation(vec![step("s", action, json!({}))], json!({})), json!({}));
    let run = world.create(&world.chain(&input)).await;
    let engine = world.engine().await;
    let driven = tokio::spawn({
        let run = run.clone();
        async move { engine.run_until_settled(&run).await.unwrap() }
    });
    until("it is asked", async || (!world.log(&run, "s").await.is_empty()).then_some(())).await;
    world.service.store.run_cancel(&run, "os:anna, unverified", None).await.unwrap();
    assert_eq!(driven.await.unwrap().state, RunState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_asked() {
    let (world, server) = (World::new(&[]).await, windlass_testkit::postgres::Postgres::start().unwrap());
    let url = server.url();
    asks(&world, &url, NUMBERED).await;
    let all = "SELECT true AS b, 7::int8 AS i, 1.5::float8 AS f, 1234567.0100::numeric AS n, -0.5::numeric AS m, 10000::numeric AS k,
        '{\"a\": [1]}'::jsonb AS j, DATE '2026-02-28' AS d, TIMESTAMPTZ '2026-02-28T12:00:00.5Z' AS t, ARRAY['x', NULL] AS l,
        '00000000-0000-0000-0000-0000000000ff'::uuid AS u, '\\x0aff'::bytea AS y, NULL::text AS z";
    let typed = "SELECT $1::date + 1 AS next, 'b' = ANY($2::text[]) AS found, $3::jsonb ->> 'k' AS k";
    let steps = vec![
        step("all", sql(&url, all, json!({})), json!({})),
        step(
            "typed",
            sql(&url, typed, json!({ "values": x("[\"2026-02-28\", [\"a\", \"b\"], { k = \"v\" }]") })),
            json!({}),
        ),
    ];
    let ran = world.run(steps, json!({}), json!({})).await;
    let row = json!({
        "b": true, "i": 7, "f": 1.5, "n": "1234567.0100", "m": "-0.5", "k": "10000", "j": { "a": [1] }, "d": "2026-02-28",
        "t": "2026-02-28T12:00:00.5Z", "l": ["x", null], "u": "00000000-0000-0000-0000-0000000000ff", "y": "0aff", "z": null,
    });
    assert_eq!(ran.output("all")["rows"][0], row);
    assert_eq!(ran.output("typed")["rows"][0], json!({ "next": "2026-03-01", "found": true, "k": "v" }));
    let ran = world
        .run(vec![step("s", sql(&url, "SELECT INTERVAL '1 day' AS age", json!({})), json!({}))], json!({}), json!({}))
        .await;
    assert!(ran.failure("s").1.contains("write age::text"));
    let ran = world
        .run(
            vec![step("s", sql("postgres://nobody@127.0.0.1:1/x", "SELECT 1", json!({})), json!({}))],
            json!({}),
            json!({}),
        )
        .await;
    assert_eq!(ran.failure("s").0, "WL537");
    cancels(&world, sql(&url, "SELECT pg_sleep(600) AS slept", json!({}))).await;
    let running = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()";
    until("the query has ended in the server", async || {
        let ran = world.run(vec![step("s", sql(&url, running, json!({})), json!({}))], json!({}), json!({})).await;
        (ran.output("s")["rows"][0]["n"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_asked() {
    let server = MySqlServer::mariadb().unwrap();
    as_mysql(&server, "{\"a\": [1]}".into(), "does not have this capability", "SELECT seq FROM seq_1_to_4000000000")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_asked() {
    let Some(server) = MySqlServer::mysql().unwrap() else { return };
    let endless =
        "SELECT 1 FROM information_schema.columns a, information_schema.columns b, information_schema.columns c";
    as_mysql(&server, json!({ "a": [1] }), "certificate", endless).await;
    assert_eq!(server.sql("SELECT plugin FROM mysql.user WHERE user = 'u'").unwrap(), "caching_sha2_password\n");
}

/// What both do. `document` is how JSON is told, `untrusted` why there is no TLS, and `endless` has more rows than anybody reads.
async fn as_mysql(server: &MySqlServer, document: Value, untrusted: &str, endless: &str) {
    let world = World::new(&[]).await;
    let url = server.url();
    asks(&world, &url, ["?", "no value for the ? number 1", "error in your sql syntax"]).await;
    let all = "SELECT TRUE AS b, CAST(-7 AS SIGNED) AS i, 18446744073709551615 AS huge, 1.5E0 AS f, CAST(1234567.01 AS DECIMAL(12, 4)) AS n,
        document AS j, DATE '2026-02-28' AS d, TIMESTAMP '2026-02-28 12:00:00.5' AS t, stamp, bits, kind,
        TIME '-26:00:01' AS span, 'é' AS e, x'0aff' AS y, NULL AS z FROM types";
    server
        .sql(
            "SET time_zone = '+02:00';
             CREATE TABLE test.types (stamp TIMESTAMP(3), bits BIT(9), kind ENUM('big', 'small'), document JSON);
             INSERT INTO test.types VALUES ('2026-02-28 12:00:00.25', b'100000001', 'small', '{\"a\": [1]}')",
        )
        .unwrap();
    let bound = "SELECT DATE_ADD(?, INTERVAL 1 DAY) AS next, ? + 1 AS more, ? AS huge, ? IS NULL AS nothing, JSON_EXTRACT(?, '$.k') AS k, ? AS yes";
    let values = "[\"2026-02-28\", 1.5, 4294967297, null, { k = \"v\" }, true]";
    let steps = vec![
        step("all", sql(&url, all, json!({})), json!({})),
        step("bound", sql(&url, bound, json!({ "values": x(values) })), json!({})),
        step("shown", sql(&url.replace("mysql", "mariadb"), "SHOW DATABASES LIKE 'test'", json!({})), json!({})),
    ];
    let ran = world.run(steps, json!({}), json!({})).await;
    let row = json!({
        "b": 1, "i": -7, "huge": u64::MAX, "f": 1.5, "n": "1234567.0100", "j": document, "d": "2026-02-28",
        "t": "2026-02-28T12:00:00.5", "stamp": "2026-02-28T10:00:00.25Z", "bits": 257, "kind": "small", "span": "-26:00:01",
        "e": "é", "y": "0aff", "z": null,
    });
    assert_eq!(ran.output("all")["rows"][0], row);
    // A text of JSON is JSON in MySQL only.
    let k = if document.is_string() { "\"v\"" } else { "v" };
    let row = json!({ "next": "2026-03-01", "more": 2.5, "huge": 4_294_967_297_i64, "nothing": 1, "k": k, "yes": 1 });
    assert_eq!(ran.output("bound")["rows"][0], row);
    assert_eq!(ran.output("shown")["rows"][0], json!({ "Database (test)": "test" }));

    // A procedure that ends the transaction writes no more than others, and a server that commits nothing by itself keeps a write.
    server.sql("DELIMITER //\nCREATE PROCEDURE test.sneak() BEGIN COMMIT; DELETE FROM test.things; END//").unwrap();
    server.sql("SET GLOBAL autocommit = 0; CREATE USER u IDENTIFIED BY 'open sesame'").unwrap();
    let check = async |url: &str, statement: &str, code: &str, want: &str| {
        let ran = world.run(vec![step("s", sql(url, statement, json!({})), json!({}))], json!({}), json!({})).await;
        let (found, reason) = ran.failure("s");
        assert!(found == code && reason.contains(want), "{found} {reason} instead of {want}");
        reason
    };
    check(&url, "CALL sneak()", "WL537", "READ ONLY transaction").await;
    let delete = sql(&url, "DELETE FROM things WHERE id = 1", json!({ "write": true }));
    let ran = world.run(vec![step("s", delete, json!({}))], json!({}), json!({})).await;
    assert_eq!(*ran.output("s"), json!({ "rows": [], "count": 1 }));
    assert_eq!(server.sql("SELECT id FROM test.things").unwrap(), "2\n");

    // The first time with all of the proof, the second time with what the server remembers of it.
    server.sql("GRANT SELECT ON test.* TO u").unwrap();
    let port = server.port();
    let of_u = format!("mysql://u:open%20sesame@127.0.0.1:{port}/test");
    for _ in 0..2 {
        let asked = step("s", sql(&of_u, "SELECT id FROM things", json!({})), json!({}));
        let ran = world.run(vec![asked], json!({}), json!({})).await;
        assert_eq!(ran.output("s")["rows"], json!([{ "id": 2 }]));
    }
    let wrong =
        check(&format!("mysql://u:open%20tomatoes@127.0.0.1:{port}/test"), "SELECT 1", "WL537", "Access denied").await;
    assert!(!wrong.contains("tomatoes"), "{wrong}");
    check("mysql://u@127.0.0.1:1/x", "SELECT 1", "WL537", "refused").await;
    check(&format!("{url}?sslmode=require"), "SELECT 1", "WL537", "Unknown connection URL parameter `sslmode'").await;
    check(&format!("{url}?require_ssl=true"), "SELECT 1", "WL537", untrusted).await;

    // A result that never ends is not read to its end, and a query that is cancelled has ended in the server.
    check(&url, endless, "WL538", "more than 3 rows").await;
    cancels(&world, sql(&url, "SELECT SLEEP(600) AS slept", json!({}))).await;
    let running =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND info LIKE 'SELECT %'";
    until("the queries have ended in the server", async || (server.sql(running).unwrap() == "0\n").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifiers_are_told_once_for_all_attempts() {
    // Id, title and text of what came; the first one is not taken.
    let heard: Arc<Mutex<Vec<(String, Value, Value)>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hear = {
        let heard = heard.clone();
        async move |headers: HeaderMap, axum::Json(body): axum::Json<Value>| {
            let mut heard = heard.lock().unwrap();
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            heard.push((id, body["data"]["title"].clone(), body["data"]["text"].clone()));
            if heard.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
        }
    };
    let router = Router::new().route("/hear", axum::routing::post(hear));
    let router = router.route("/deaf", axum::routing::post(async || StatusCode::BAD_REQUEST));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let notifier = |name: &str| {
        format!(
            "notifier \"{name}\" {{\n  secret \"key\" {{ command = [\"echo\", \"whsec_MfKQ9r8GKYqUwTjUPD8ILPZIo2LaLaSw\"] }}\n  \
             signed {{\n    url = \"http://{address}/{name}\"\n    key = secret.key\n  }}\n}}\n"
        )
    };
    let world = World::new(&[("windlass.hcl", &(notifier("hear") + &notifier("deaf")))]).await;
    let tell = |to: &[&str], more: Value| {
        let text = x("\"Ready: ${step.made.outputs.text}\\nby ${param.who}\"");
        step("tell", json!({ "notify": { "to": to, "text": text } }), more)
    };
    let made = || step("made", super::shell("echo 3 hosts"), json!({ "outputs": "text" }));
    let twice = json!({ "retry": { "attempts": 2, "backoff": 1000, "max_backoff": 1000 } });
    let ran = world.run(vec![made(), tell(&["hear"], twice)], json!({}), json!({ "who": "anna" })).await;
    assert_eq!(*ran.output("tell"), json!({ "told": ["hear"] }));
    assert_eq!(ran.steps["tell"].attempt, 2);
    {
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 2);
        assert_eq!(heard[0], heard[1]);
        assert_eq!((&heard[0].1, &heard[0].2), (&json!("Ready: 3 hosts"), &json!("by anna")));
    }
    let check = async |to: &[&str], code: &str, want: &str| {
        let steps = vec![made(), tell(to, json!({ "retry": { "attempts": 3, "backoff": 1000, "max_backoff": 1000 } }))];
        let ran = world.run(steps, json!({}), json!({ "who": "anna" })).await;
        let (found, reason) = ran.failure("tell");
        assert!(found == code && reason.contains(want), "{found} {reason} instead of {want}");
        assert_eq!(ran.steps["tell"].attempt, 1, "what is refused is not tried again");
    };
    check(&["nobody"], "WL545", "no notifier `nobody`").await;
    // Whoever can be told is, although another one cannot.
    check(&["deaf", "hear"], "WL772", "notifier `deaf`").await;
    assert_eq!(heard.lock().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_end_with_their_time_or_their_gates() {
    let world = World::new(&[]).await;
    let wait = |action: Value| json!({ "wait": action });
    let command = |within: i64| {
        let gate = json!({ "kind": "command", "argv": ["\"sh\"", "\"-c\"", "\"test -e open\""], "timeout": 5_000_000, "interval": 20_000 });
        wait(json!({ "gates": [{ "gate": gate, "within": within, "span": span() }] }))
    };
    let time = |text: &str| wait(json!({ "time": { "duration": x(&format!("\"{text}\"")) } }));
    let at = |text: &str| wait(json!({ "until": { "at": x(&format!("\"{text}\"")) } }));
    let steps = vec![
        step("past", at("2020-01-01T00:00:00Z"), json!({})),
        step("zoned", at("2020-01-01T00:00:00+01:00[Europe/Berlin]"), json!({})),
        step("time", time("1s"), json!({})),
        step("open", json!({ "run": { "argv": argv(&["touch", "open"]) } }), json!({})),
        step("gate", command(60_000_000), json!({})),
    ];
    let ran = world.run(steps, json!({}), json!({})).await;
    assert_eq!(ran.state, RunState::Succeeded, "{:?}", ran.steps);
    assert!(ran.output("time")["waited_seconds"].as_i64().unwrap() >= 1);
    std::fs::remove_file(world.path().join("open")).unwrap();
    let ran = world.run(vec![step("s", command(100_000), json!({}))], json!({}), json!({})).await;
    let (code, reason) = ran.failure("s");
    assert!(code == "WL541" && reason.contains("did not pass within 0 s"), "{reason}");
    let ran = world.run(vec![step("s", at("tomorrow"), json!({}))], json!({}), json!({})).await;
    assert_eq!(ran.failure("s").0, "WL532");
    // It waits without a place, and goes on as soon as it may.
    let input = world.input(operation(vec![step("s", command(60_000_000), json!({}))], json!({})), json!({}));
    let run = world.create(&world.chain(&input)).await;
    let engine = world.engine().await;
    let driven = tokio::spawn({
        let run = run.clone();
        async move { engine.run_until_settled(&run).await.unwrap() }
    });
    until("it waits", async || {
        let steps = world.service.store.step_list(&run).await.unwrap();
        (steps[0].state == StepState::Waiting && steps[0].reason.as_ref().unwrap().contains("status 1")).then_some(())
    })
    .await;
    std::fs::write(world.path().join("open"), "").unwrap();
    assert_eq!(driven.await.unwrap().state, RunState::Succeeded);
}
