//! With a chat that keeps the rules of Slack and Mattermost, and stores on both engines.

use super::sender::Sender;
use super::*;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use windlass_model::diagnostic::Span;
use windlass_model::id::RunId;
use windlass_model::operation::{Expression, NotifyChannel, NotifyRule};
use windlass_model::run::{RunPlan, RunState, StepSpec};
use windlass_store::{Durability, EventFilter, MessageState, ScheduleKey, StepOutcome};
use windlass_testkit::chat::{CHANNEL, Chat, TOKEN};
use windlass_testkit::postgres::Postgres;

mod changes;

const SECOND: i64 = 1_000_000;
const LEASE: i64 = 90 * SECOND;
const URL: &str = "https://windlass.example";

fn text(text: &str) -> Expression {
    Expression { text: format!("{text:?}"), span: Span::file("windlass.hcl") }
}

fn notifier(name: &str, channel: NotifyChannel) -> Notifier {
    Notifier { name: name.into(), secrets: vec![], channel, span: Span::file("windlass.hcl") }
}

fn bot(name: &str, chat: &Chat) -> Notifier {
    let (api, channel) = (Some(chat.url("/api")), CHANNEL.to_owned());
    notifier(name, NotifyChannel::Bot { api, token: text(TOKEN), channel })
}

fn hook(name: &str, url: &str) -> Notifier {
    notifier(name, NotifyChannel::Webhook { url: text(url) })
}

/// Definitions that a test changes.
#[derive(Default)]
struct Fixed {
    notifiers: Mutex<Vec<Notifier>>,
    rules: Mutex<Vec<NotifyRule>>,
    changes: Mutex<Vec<ChangeNotify>>,
}

impl InForce for Fixed {
    fn projects(&self) -> Vec<String> {
        vec!["shop".into()]
    }
    fn notifiers(&self, _: &str) -> AppResult<Vec<Notifier>> {
        Ok(self.notifiers.lock().unwrap().clone())
    }
    fn rules(&self, _: &str, operation: &str) -> Option<Vec<NotifyRule>> {
        (operation == "backup").then(|| self.rules.lock().unwrap().clone())
    }
    fn change_rules(&self, _: &str) -> Vec<ChangeNotify> {
        self.changes.lock().unwrap().clone()
    }
}

struct World {
    clock: Arc<AtomicI64>,
    path: std::path::PathBuf,
    store: Store,
    fixed: Arc<Fixed>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new(notifiers: Vec<Notifier>, rules: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.db");
        // Now, as chats have a clock of their own.
        let clock = Arc::new(AtomicI64::new(Timestamp::now().as_microsecond()));
        let store = Store::open_with(&path, Some(clock.clone())).await.unwrap();
        // From here on it is read.
        store.notification_cursor().await.unwrap();
        let fixed =
            Fixed { notifiers: Mutex::new(notifiers), rules: Mutex::new(read_rules(rules)), ..Fixed::default() };
        Self { clock, path, store, fixed: Arc::new(fixed), _directory: directory }
    }

    fn server(&self, name: &str) -> Teller {
        server(&self.store, self.fixed.clone(), name)
    }

    async fn run(&self, more: Value) -> Run {
        Run::new(&self.store, &self.fixed, more).await
    }

    fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }

    async fn states(&self, name: &str) -> Vec<MessageState> {
        let list = self.store.message_list("shop", name, 100).await.unwrap();
        list.into_iter().rev().map(|message| message.state).collect()
    }
}

fn read_rules(rules: Value) -> Vec<NotifyRule> {
    let span = Span::file("windlass.hcl");
    let rule = |rule: &Value| json!({ "to": rule[0], "on": rule[1], "span": span });
    rules.as_array().unwrap().iter().map(|one| serde_json::from_value(rule(one)).unwrap()).collect()
}

fn server(store: &Store, fixed: Arc<Fixed>, name: &str) -> Teller {
    let stop = CancellationToken::new();
    let sender = Sender { store: store.clone(), in_force: fixed.clone(), holder: name.into(), lease: LEASE, stop };
    let reader = Reader::new(store.clone(), fixed, URL.into());
    Teller { reader, sender: Arc::new(sender), sending: JoinSet::new() }
}

impl Teller {
    /// A round, until all of it has ended.
    async fn all(&mut self) {
        self.round(true).await.unwrap();
        while let Some(ended) = self.sending.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// A run of `backup`: it is admitted, dumps, and asks somebody.
struct Run {
    store: Store,
    id: RunId,
}

impl Run {
    async fn new(store: &Store, fixed: &Fixed, more: Value) -> Self {
        let span = Span::file("windlass.hcl");
        let step = |id: &str, driver: &str, input: Value| -> StepSpec {
            let step = json!({
                "id": id, "title": id, "after": [], "when": "succeeded", "work": { "driver": driver, "input": input },
                "repeat": "idempotent", "timeout": null, "retry": { "attempts": 1, "backoff": 0, "max_backoff": 0 },
                "cost": { "cpu_milli": 0, "memory_mib": 0 },
            });
            serde_json::from_value(step).unwrap()
        };
        let ask = json!({ "ask": {
            "question": { "text": "\"go on?\"", "span": span }, "choices": [], "from": ["sre", "dba"],
        } });
        let definition = json!({
            "name": "sure", "action": ask, "env": {}, "retry": { "attempts": 1, "backoff": 0, "max_backoff": 0 },
            "repeat": "idempotent", "outputs": "none", "artefacts": [], "mask": [], "locks": [], "may_fail": false,
            "success": [0], "give_up": [], "cost": { "cpu_milli": 0, "memory_mib": 0 }, "span": span,
        });
        let operation = json!({
            "name": "backup", "allow": [], "grants": [], "labels": {}, "parameters": [], "secrets": [],
            "nodes": [{ "step": definition }], "on_failure": [], "on_cancel": [], "schedules": [], "triggers": [],
            "break_glass": [], "locks": [], "notify": *fixed.rules.lock().unwrap(), "locals": {}, "span": span,
        });
        let mut input = json!({
            "head": { "name": "main", "commit": "c" }, "operation": operation, "arguments": { "host": "db1" },
            "secrets": ["password"], "origin": { "by": "person", "through": "web" }, "broke_glass": false, "skipped": {},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            input[name.as_str()] = value.clone();
        }
        let steps = [
            step("admit", "operation.admit", Value::Null),
            step("dump", "operation.step", json!({ "path": ["dump"] })),
            step("sure", "operation.step", json!({ "path": ["sure"] })),
        ];
        let plan =
            json!({ "kind": "operation", "title": "backup", "subject": "backup", "input": input, "steps": steps });
        let plan: RunPlan = serde_json::from_value(plan).unwrap();
        let store = store.of_project("shop");
        let id = store.run_create(&plan, "user:anna (Anna)").await.unwrap();
        store.run_set_state(&id, RunState::Queued, RunState::Running, None).await.unwrap();
        Self { store, id }
    }

    async fn step(&self, step: &str, outcome: StepOutcome) {
        let run = self.store.run_get(&self.id).await.unwrap();
        let spec = run.plan.steps.iter().find(|spec| spec.id.as_str() == step).unwrap();
        if let windlass_store::ClaimResult::Claimed(claim) =
            self.store.step_claim("e", &self.id, spec, 60 * SECOND).await.unwrap()
        {
            self.store.step_finish(&claim, &outcome, b"dumping\nno space left\n\n", Durability::Lazy).await.unwrap();
            return;
        }
        panic!("{step} cannot be begun");
    }

    async fn succeed(&self, step: &str) {
        self.step(step, StepOutcome::Succeeded(Value::Null)).await;
    }

    async fn wait(&self) {
        // Until a time that has come already: it can be begun again at once.
        let until = Some(self.store.now().await.unwrap());
        self.step("sure", StepOutcome::Waiting { reason: "go on?".into(), until }).await;
    }

    async fn end(&self, state: RunState) {
        self.store.run_set_state(&self.id, RunState::Running, state, Some("because")).await.unwrap();
    }
}

fn texts(chat: &Chat) -> Vec<String> {
    chat.posts().into_iter().map(|post| post.text).collect()
}

#[tokio::test]
async fn a_failure_is_told_with_the_line_where_it_failed() {
    let chat = Chat::start().unwrap();
    let world = World::new(vec![bot("ops", &chat)], json!([[["ops"], []]])).await;
    let mut server = world.server("a");
    let run = world.run(json!({ "reason": "the weekly one" })).await;
    run.succeed("admit").await;
    server.all().await;
    assert_eq!(texts(&chat), [""; 0], "nobody asked for more");
    world.pass(65);
    run.step("dump", StepOutcome::Failed { code: "WL1".into(), reason: "exit status 1".into() }).await;
    run.end(RunState::Failed).await;
    server.all().await;
    assert_eq!(texts(&chat), ["backup failed"]);
    let attachment = &chat.posts()[0].attachments[0];
    let (run, said) = (&run.id, attachment["text"].as_str().unwrap());
    assert_eq!(
        said,
        format!("exit status 1\n<{URL}/runs/{run}#step-dump:B8|the log where it failed> · <{URL}/runs/{run}|the run>")
    );
    let fields: Vec<(&str, &str)> = attachment["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["title"].as_str().unwrap(), field["value"].as_str().unwrap()))
        .collect();
    let want = [
        ("failed at", "dump"),
        ("after", "1 min 5 s"),
        ("host", "db1"),
        ("started by", "user:anna (Anna)"),
        ("reason", "the weekly one"),
    ];
    assert_eq!(fields, want);
    server.all().await;
    assert_eq!(world.states("ops").await, [MessageState::Sent], "once");
}

#[tokio::test]
async fn one_message_is_changed_or_the_first_and_the_last_are_sent() {
    let (chat, hooks, signed) = (Chat::start().unwrap(), Chat::start().unwrap(), Chat::start().unwrap());
    let key = text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let signed_by = NotifyChannel::Signed { url: text(&signed.url("/signed")), key };
    let notifiers = vec![bot("ops", &chat), hook("hook", &hooks.hook()), notifier("signed", signed_by)];
    let world = World::new(notifiers, json!([[["ops", "hook", "signed"], ["waiting"]]])).await;
    let mut server = world.server("a");
    let run = world.run(json!({})).await;
    for step in ["admit", "dump"] {
        run.succeed(step).await;
    }
    run.wait().await;
    server.all().await;
    let post = chat.posts()[0].clone();
    assert_eq!((post.text.as_str(), post.changes), ("backup waits for somebody", 0));
    assert_eq!(post.attachments[0]["fields"][0]["value"], "sre, dba");
    assert!(post.attachments[0]["text"].as_str().unwrap().starts_with("go on?\n"));
    // It looks again and still waits: nobody is told twice.
    run.wait().await;
    server.all().await;
    assert_eq!(chat.posts()[0].changes, 0);
    run.succeed("sure").await;
    server.all().await;
    let post = chat.posts()[0].clone();
    assert_eq!((post.text.as_str(), post.changes), ("backup goes on", 1));
    run.end(RunState::Succeeded).await;
    server.all().await;
    let posts = chat.posts();
    assert_eq!((posts.len(), posts[0].text.as_str(), posts[0].changes), (1, "backup succeeded", 2));
    assert_eq!(texts(&hooks), ["backup waits for somebody", "backup succeeded"]);
    let kind = |body: &str| serde_json::from_str::<Value>(body).unwrap()["type"].as_str().unwrap().to_owned();
    let kinds: Vec<String> = signed.heard().iter().map(|heard| kind(&heard.body)).collect();
    assert_eq!(kinds, ["run.waiting", "run.running", "run.succeeded"]);
}

#[tokio::test]
async fn a_server_that_is_killed_after_it_sent_is_no_second_message() {
    for api in ["/api", "/api/v4"] {
        let chat = Chat::start().unwrap();
        let channel = NotifyChannel::Bot { api: Some(chat.url(api)), token: text(TOKEN), channel: CHANNEL.into() };
        let world = World::new(vec![notifier("ops", channel)], json!([[["ops"], []]])).await;
        let run = world.run(json!({})).await;
        run.end(RunState::Failed).await;
        chat.hold();
        let mut first = world.server("first");
        first.round(true).await.unwrap();
        let patience = tokio::time::Instant::now() + Duration::from_secs(60);
        while chat.posts().is_empty() {
            assert!(tokio::time::Instant::now() < patience, "nothing is sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It dies with the message on its way: nothing of it is recorded.
        first.sending.abort_all();
        drop(first);
        chat.release();
        let mut second = world.server("second");
        second.all().await;
        assert_eq!(world.states("ops").await, [MessageState::Queued], "the other may still be at it");
        world.pass(LEASE / SECOND + 1);
        second.all().await;
        assert_eq!(world.states("ops").await, [MessageState::Sent]);
        assert_eq!(texts(&chat), ["backup failed"], "{api}");
    }
}

#[tokio::test]
async fn a_channel_that_is_away_holds_up_nobody_and_gets_what_is_still_news() {
    let (chat, away) = (Chat::start().unwrap(), Chat::start().unwrap());
    let place = away.place().to_owned();
    let world = World::new(
        vec![hook("here", &chat.hook()), hook("away", &away.hook())],
        json!([[["here", "away"], ["waiting", "failure"]]]),
    )
    .await;
    drop(away);
    let mut server = world.server("a");
    let (old, new) = (world.run(json!({})).await, world.run(json!({})).await);
    old.wait().await;
    server.all().await;
    old.succeed("sure").await;
    old.end(RunState::Succeeded).await;
    new.wait().await;
    server.all().await;
    let (waits, good) = ("backup waits for somebody", "backup succeeded");
    assert_eq!(texts(&chat), [waits, good, waits]);
    let row = |list: Vec<NotifierRow>| list.into_iter().find(|row| row.name == "away").unwrap();
    let now = world.store.now().await.unwrap();
    let found = row(world.store.notifier_list().await.unwrap());
    assert_eq!((found.failures, found.not_before, found.queued), (1, now + 5 * SECOND, 4));
    assert!(found.failure.unwrap().contains("cannot be reached"));
    world.pass(5);
    server.all().await;
    let found = row(world.store.notifier_list().await.unwrap());
    assert_eq!((found.failures, found.not_before), (2, now + 15 * SECOND));
    let back = Chat::start_at(&place).unwrap();
    server.all().await;
    assert_eq!(texts(&back), [""; 0], "its time has not come");
    world.pass(10);
    server.all().await;
    // What the old run waited for has come, and it ended well: that is no news.
    assert_eq!(texts(&back), [waits]);
    let found = row(world.store.notifier_list().await.unwrap());
    assert_eq!((found.failures, found.failure, found.queued, found.sent), (0, None, 0, 1));
}

#[tokio::test]
async fn what_nobody_can_be_told_is_given_up_and_says_so() {
    let chat = Chat::start().unwrap();
    let world = World::new(vec![hook("ops", &chat.hook())], json!([[["ops", "gone"], []]])).await;
    let mut server = world.server("a");
    let fail = async || world.run(json!({})).await.end(RunState::Failed).await;
    chat.refuse(1, 400, None);
    fail().await;
    server.all().await;
    assert_eq!(world.states("ops").await, [MessageState::GivenUp]);
    assert_eq!(world.states("gone").await, [MessageState::GivenUp]);
    fail().await;
    server.all().await;
    assert_eq!(world.states("ops").await, [MessageState::GivenUp, MessageState::Sent], "it is the message's fault");
    chat.refuse(1_000, 500, None);
    fail().await;
    server.all().await;
    world.pass(86_401);
    server.all().await;
    let states = [MessageState::GivenUp, MessageState::Sent, MessageState::GivenUp];
    assert_eq!(world.states("ops").await, states, "a day is enough");
    let filter = EventFilter { kind: Some("notification.given_up".into()), ..EventFilter::default() };
    let told = world.store.of_project("shop").event_search(&filter, None, 100).await.unwrap();
    let told: Vec<String> = told
        .iter()
        .rev()
        .filter(|event| event.subject.as_deref() == Some("notifier ops"))
        .map(|event| event.data["reason"].as_str().unwrap().to_owned())
        .collect();
    assert!(told[0].contains("refuses the message: 400 not now"), "{told:?}");
    assert!(told[1].starts_with("it waited for a day; ") && told[1].contains("answers 500"), "{told:?}");
    world.pass(31 * 86_400);
    server.all().await;
    assert_eq!(world.states("ops").await, [], "and forgotten after a month");
}

#[tokio::test]
async fn the_clock_tells_what_is_late_and_slow_once() {
    let chat = Chat::start().unwrap();
    let world = World::new(vec![hook("ops", &chat.hook())], json!([[["ops"], ["late", "slow"]]])).await;
    let mut server = world.server("a");
    for _ in 0..10 {
        let run = world.run(json!({})).await;
        world.pass(10);
        run.end(RunState::Succeeded).await;
    }
    let due = world.store.now().await.unwrap();
    let origin = json!({ "origin": { "by": "schedule", "name": "nightly", "due": due } });
    let run = world.run(origin.clone()).await;
    world.pass(9);
    server.all().await;
    assert_eq!(texts(&chat), [""; 0]);
    world.pass(2);
    server.all().await;
    server.all().await;
    assert_eq!(texts(&chat), ["backup takes longer than usual"]);
    run.succeed("admit").await;
    world.pass(120);
    server.all().await;
    assert_eq!(texts(&chat).len(), 1, "it began in time, and is told to be slow once");
    run.end(RunState::Succeeded).await;
    server.all().await;
    assert_eq!(texts(&chat)[1..], ["backup succeeded"]);
    // One that does not begin, and one that began late and was over before the clock was asked.
    let never = world.run(json!({ "origin": { "by": "schedule", "name": "n", "due": due + 60 * SECOND } })).await;
    server.all().await;
    assert_eq!(texts(&chat)[2..], ["backup is late"]);
    never.end(RunState::Cancelled).await;
    let over = world.run(origin).await;
    over.succeed("admit").await;
    over.end(RunState::Cancelled).await;
    server.all().await;
    assert_eq!(texts(&chat)[3..], ["backup was cancelled", "backup is late", "backup was cancelled"]);
}

#[tokio::test]
async fn a_broken_glass_and_a_missed_interval_are_told_to_everybody() {
    let chat = Chat::start().unwrap();
    let world = World::new(vec![hook("a", &chat.hook()), hook("b", &chat.hook())], json!([])).await;
    let mut server = world.server("a");
    let run = world.run(json!({ "broke_glass": true, "reason": "the shop is down" })).await;
    server.all().await;
    assert_eq!(texts(&chat), ["backup: somebody broke the glass"; 2]);
    let fields = chat.posts()[0].attachments[0]["fields"].to_string();
    assert!(fields.contains("the shop is down") && fields.contains("anna"), "{fields}");
    run.end(RunState::Failed).await;
    server.all().await;
    assert_eq!(texts(&chat)[2..], ["backup failed"; 2]);
    let of = |operation: &str| ScheduleKey {
        project: "shop".into(),
        operation: operation.into(),
        schedule: "nightly".into(),
    };
    let kept = ["backup", "other"].map(|name| (of(name), "digest".to_owned()));
    world.store.schedule_keep("shop", kept.to_vec()).await.unwrap();
    for name in ["backup", "other", "backup"] {
        world.store.schedule_overdue(&of(name), 1, 2).await.unwrap();
    }
    server.all().await;
    assert_eq!(texts(&chat)[4..], ["backup has not succeeded for too long"; 2]);
}

/// Two servers that read the same at the same time.
async fn two_servers(stores: [Store; 2], clock: &AtomicI64) {
    let chat = Chat::start().unwrap();
    let fixed = Arc::new(Fixed::default());
    *fixed.notifiers.lock().unwrap() = vec![bot("ops", &chat), hook("hook", &chat.hook())];
    *fixed.rules.lock().unwrap() = read_rules(json!([[["ops", "hook"], []]]));
    stores[0].notification_cursor().await.unwrap();
    let mut servers = [server(&stores[0], fixed.clone(), "a"), server(&stores[1], fixed.clone(), "b")];
    for number in 0..20 {
        let run = Run::new(&stores[number % 2], &fixed, json!({})).await;
        run.end(RunState::Failed).await;
        let [first, second] = &mut servers;
        tokio::join!(first.all(), second.all());
        clock.fetch_add(SECOND, Ordering::SeqCst);
    }
    for server in &mut servers {
        server.all().await;
    }
    assert_eq!(texts(&chat), ["backup failed"; 40]);
    let rows = stores[1].notifier_list().await.unwrap();
    assert!(rows.iter().all(|row| (row.sent, row.queued, row.failures) == (20, 0, 0)), "{rows:?}");
}

#[tokio::test]
async fn two_servers_tell_once() {
    let world = World::new(vec![], json!([])).await;
    let other = Store::open_with(&world.path, Some(world.clock.clone())).await.unwrap();
    two_servers([world.store.clone(), other], &world.clock).await;
    let postgres = Postgres::start().unwrap();
    let url = postgres.database("notifications");
    let stores = [
        Store::connect_with(&url, Some(world.clock.clone())).await.unwrap(),
        Store::connect_with(&url, Some(world.clock.clone())).await.unwrap(),
    ];
    two_servers(stores, &world.clock).await;
}

#[tokio::test]
async fn secrets_of_a_notifier_are_read_when_it_sends_and_told_to_nobody() {
    let chat = Chat::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let path = file.display().to_string();
    let secret = |from: Value| {
        let secret = json!({ "name": "token", "from": from, "span": Span::file("windlass.hcl") });
        let token = Expression { text: "secret.token".into(), span: Span::file("windlass.hcl") };
        let channel = NotifyChannel::Bot { api: Some(chat.url("/api")), token, channel: CHANNEL.into() };
        Notifier { secrets: vec![serde_json::from_value(secret).unwrap()], ..notifier("ops", channel) }
    };
    let of_file = secret(json!({ "file": path }));
    let missing = send_now(&of_file, "shop", "hello", "k").await.unwrap_err();
    assert_eq!((missing.diagnostics[0].code.as_str(), may_retry(&missing)), ("WL770", true));
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    send_now(&of_file, "shop", "hello\nto all of you", "k").await.unwrap();
    let cat = secret(json!({ "command": ["cat", path] }));
    // The same key: it is the same message.
    send_now(&cat, "shop", "hello\nagain", "k").await.unwrap();
    let post = chat.posts()[0].clone();
    assert_eq!((chat.posts().len(), post.text.as_str()), (1, "hello"));
    assert_eq!(post.attachments[0]["text"], "again");
    std::fs::write(&file, "hunter22hunter22\n").unwrap();
    let wrong = send_now(&cat, "shop", "hello", "k2").await.unwrap_err();
    assert!(wrong.to_string().contains("invalid_auth") && !wrong.to_string().contains("hunter22"), "{wrong}");
    let fails = secret(json!({ "command": ["false"] }));
    assert!(send_now(&fails, "shop", "hello", "k").await.unwrap_err().to_string().contains("`false` ended with"));
}
