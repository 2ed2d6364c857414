use super::*;
use async_trait::async_trait;
use serde_json::{Value, json};

use std::sync::atomic::{AtomicBool, Ordering};
use windlass_model::run::RunState;
use windlass_model::run::{Flow, Repeat, Retry, RunPlan, When, Work};
use windlass_store::{ClaimResult, Durability, Settlement};

/// Answers from a script: per step, one result per attempt; then success. Counts what was executed.
#[derive(Default)]
struct Script {
    results: Mutex<HashMap<String, Vec<StepResult>>>,
    executed: Mutex<Vec<String>>,
    probe: Mutex<Option<Probe>>,
    /// Steps that run until they are cancelled.
    hang: AtomicBool,
    together: Mutex<(usize, usize)>,
    /// Whether something lives elsewhere, one answer per question; then that nothing does.
    elsewhere: Mutex<Vec<bool>>,
    /// What is said when that is to be ended.
    unending: Mutex<Option<String>>,
}

#[async_trait]
impl Executor for Script {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        self.executed.lock().unwrap().push(
            cx.token
                .rsplit_once('/')
                .map(|(rest, _)| format!("{}#{}", rest.split_once('/').unwrap().1, cx.attempt))
                .unwrap(),
        );
        {
            let mut together = self.together.lock().unwrap();
            together.0 += 1;
            together.1 = together.1.max(together.0);
        }
        cx.log(format!("log of {}\n", cx.step).as_bytes()).await;
        if self.hang.load(Ordering::SeqCst) {
            cx.cancel.cancelled().await;
            self.together.lock().unwrap().0 -= 1;
            return StepResult::Cancelled;
        }
        tokio::task::yield_now().await;
        self.together.lock().unwrap().0 -= 1;
        if cx.step.as_str() == "panics" {
            panic!("on purpose");
        }
        let mut results = self.results.lock().unwrap();
        match results.get_mut(cx.step.as_str()) {
            Some(list) if !list.is_empty() => list.remove(0),
            _ => StepResult::Succeeded(json!({ "step": cx.step, "saw": cx.upstream.len() })),
        }
    }
    async fn probe(&self, _cx: &StepContext) -> Probe {
        self.executed.lock().unwrap().push("probe".into());
        self.probe.lock().unwrap().clone().unwrap_or(Probe::Repeat)
    }
    async fn lives(&self, cx: &StepContext) -> Result<bool, String> {
        let mut answers = self.elsewhere.lock().unwrap();
        let lives = !answers.is_empty() && answers.remove(0);
        self.executed.lock().unwrap().push(format!("{}#{} lives: {lives}", cx.step, cx.attempt));
        Ok(lives)
    }
    async fn end(&self, cx: &StepContext, _: Duration) -> Result<(), String> {
        self.executed.lock().unwrap().push(format!("{}#{} is ended", cx.step, cx.attempt));
        self.unending.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

fn step(id: &str, after: &[&str]) -> StepSpec {
    StepSpec {
        id: id.into(),
        title: id.into(),
        after: after.iter().map(|a| (*a).into()).collect(),
        when: When::Succeeded,
        work: Work { driver: "script".into(), input: Value::Null },
        repeat: Repeat::Idempotent,
        timeout: None,
        retry: Retry::NEVER,
        locks: vec![],
        cost: Cost { cpu_milli: 1000, memory_mib: 1 },
        labels: Vec::new(),
        flow: Flow::default(),
    }
}

struct Bench {
    store: Store,
    script: Arc<Script>,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("w.db")).await.unwrap();
        Self { store, script: Arc::default(), _directory: directory }
    }
    async fn engine(&self) -> Engine {
        self.engine_with(&self.script, None).await
    }
    async fn engine_with(&self, script: &Arc<Script>, labels: Option<Labels>) -> Engine {
        let mut executors: HashMap<String, Arc<dyn Executor>> = HashMap::new();
        executors.insert("script".into(), script.clone());
        let options = EngineOptions {
            budget: Cost { cpu_milli: 2000, memory_mib: 100 },
            grace: Duration::from_secs(2),
            labels,
            ..EngineOptions::default()
        };
        Engine::start(self.store.clone(), executors, options).await.unwrap()
    }
    async fn run(&self, steps: Vec<StepSpec>) -> RunId {
        self.store
            .run_create(
                &RunPlan { kind: "t".into(), title: "t".into(), input: Value::Null, steps, ..RunPlan::default() },
                "me",
            )
            .await
            .unwrap()
    }
    fn script(&self, step: &str, results: Vec<StepResult>) {
        self.script.results.lock().unwrap().insert(step.into(), results);
    }
    fn executed(&self) -> Vec<String> {
        let attempt = |done: &String| done.contains('#') && !done.contains(' ');
        self.done().into_iter().filter(attempt).collect()
    }
    /// What was executed, and what recovery asked for and ended.
    fn done(&self) -> Vec<String> {
        self.script.executed.lock().unwrap().clone()
    }
    async fn states(&self, run: &RunId) -> String {
        self.store
            .step_list(run)
            .await
            .unwrap()
            .iter()
            .map(|s| format!("{} {}", s.id, s.state.as_str()))
            .collect::<Vec<_>>()
            .join(", ")
    }
    /// An engine of a process that does not exist any more claims a step and is never heard of again.
    async fn die_during(&self, run: &RunId, spec: &StepSpec) {
        let mut identity = host::identity();
        identity.id = format!("dead-{}", identity.id);
        identity.ticks += 1;
        self.store.engine_register(&identity).await.unwrap();
        assert!(matches!(
            self.store.step_claim(&identity.id, run, spec, 3_600_000_000).await.unwrap(),
            ClaimResult::Claimed(_)
        ));
    }
}

fn failure(retryable: bool) -> StepResult {
    StepResult::Failed(StepFailure { code: "WL501".into(), message: "it broke".into(), retryable })
}

#[tokio::test]
async fn steps_run_in_order_with_the_outputs_of_what_they_follow() {
    let bench = Bench::new().await;
    let run = bench.run(vec![step("a", &[]), step("b", &["a"]), step("c", &["a", "b"])]).await;
    let record = bench.engine().await.run_until_settled(&run).await.unwrap();
    assert_eq!(record.state, RunState::Succeeded);
    assert_eq!(bench.executed(), ["a#1", "b#1", "c#1"]);
    assert_eq!(bench.store.step_get(&run, &"c".into()).await.unwrap().output.unwrap()["saw"], 2);
    let log = bench.store.log_read(&run, &"b".into(), 0, 10).await.unwrap();
    assert_eq!(log[0].bytes, b"log of b\n");
}

#[tokio::test]
async fn a_failure_stops_what_follows_it_and_nothing_else() {
    let bench = Bench::new().await;
    bench.script("a", vec![failure(false)]);
    let mut last = step("last", &["b", "d"]);
    last.when = When::Always;
    let run = bench
        .run(vec![step("a", &[]), step("b", &["a"]), step("c", &[]), step("d", &["c"]), last, step("panics", &[])])
        .await;
    let record = bench.engine().await.run_until_settled(&run).await.unwrap();
    assert_eq!(record.state, RunState::Failed);
    assert!(record.reason.unwrap().contains("a failed: it broke"));
    assert_eq!(
        bench.states(&run).await,
        "a failed, b skipped, c succeeded, d succeeded, last succeeded, panics failed"
    );
    assert_eq!(bench.store.step_get(&run, &"b".into()).await.unwrap().reason.unwrap(), "a failed");
}

#[tokio::test]
async fn what_may_be_retried_is_and_only_as_often_as_allowed() {
    let bench = Bench::new().await;
    let mut flaky = step("flaky", &[]);
    flaky.retry = Retry { attempts: 3, backoff: 1000, max_backoff: 1000 };
    let mut hopeless = flaky.clone();
    hopeless.id = "hopeless".into();
    bench.script("flaky", vec![failure(true), failure(true)]);
    bench.script("hopeless", vec![failure(true), failure(true), failure(true)]);
    let run = bench.run(vec![flaky, hopeless]).await;
    bench.engine().await.run_until_settled(&run).await.unwrap();
    assert_eq!(bench.states(&run).await, "flaky succeeded, hopeless failed");
    assert_eq!(bench.executed().iter().filter(|e| e.starts_with("hopeless")).count(), 3);
}

#[test]
fn what_could_not_reach_the_record_is_tried_again_where_it_may_be_repeated() {
    let check = |code: &str, repeat: Repeat, attempts: u32, want: u32| {
        let spec = StepSpec { repeat, retry: Retry { attempts, ..Retry::NEVER }, ..step("a", &[]) };
        let failure = StepFailure { code: code.into(), message: String::new(), retryable: true };
        assert_eq!(retry(&spec, &failure).attempts, want, "{code} {repeat:?} {attempts}");
    };
    check(UNREACHABLE, Repeat::Idempotent, 1, 5);
    check(UNREACHABLE, Repeat::Idempotent, 9, 9);
    check(UNREACHABLE, Repeat::Checkable, 1, 1);
    check(UNREACHABLE, Repeat::Once, 1, 1);
    check("WL501", Repeat::Idempotent, 1, 1);
}

#[tokio::test]
async fn what_could_not_begin_tries_again_whatever_is_said_of_its_failures() {
    let bench = Bench::new().await;
    let again = || StepResult::Again { reason: "no room".into(), after: Duration::from_millis(1) };
    bench.script("cramped", vec![again(), again()]);
    let run = bench.run(vec![step("cramped", &[])]).await;
    assert_eq!(bench.engine().await.run_until_settled(&run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(bench.executed(), ["cramped#1", "cramped#2", "cramped#3"]);
}

#[tokio::test]
async fn a_waiting_run_returns_and_goes_on_when_woken() {
    let bench = Bench::new().await;
    bench.script("gate", vec![StepResult::Wait { reason: "needs a person".into(), until: None }]);
    let run = bench.run(vec![step("gate", &[]), step("after", &["gate"])]).await;
    let engine = bench.engine().await;
    let record = engine.run_until_settled(&run).await.unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (RunState::Waiting, Some("needs a person")));
    bench.store.step_wake(&run).await.unwrap();
    assert_eq!(engine.run_until_settled(&run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(bench.executed(), ["gate#1", "gate#2", "after#1"]);
}

#[tokio::test]
async fn nothing_new_begins_in_a_halted_run_until_it_is_resumed() {
    let bench = Bench::new().await;
    bench.script("gate", vec![StepResult::Wait { reason: "needs a person".into(), until: None }]);
    let run = bench.run(vec![step("gate", &[]), step("next", &["gate"]), step("last", &["next"])]).await;
    let engine = bench.engine().await;
    engine.run_until_settled(&run).await.unwrap();
    assert!(bench.store.run_halt(&run, "ana", "lunch").await.unwrap());
    // What waited for something else goes on when that has come.
    bench.store.step_wake(&run).await.unwrap();
    let record = engine.run_until_settled(&run).await.unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (RunState::Waiting, Some("halted by ana: lunch")));
    assert_eq!(bench.states(&run).await, "gate succeeded, next waiting, last waiting");
    bench.store.run_resume(&run, "bob").await.unwrap();
    assert_eq!(engine.run_until_settled(&run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(bench.executed(), ["gate#1", "gate#2", "next#1", "last#1"]);
    assert!(!bench.store.run_halt(&run, "ana", "too late").await.unwrap());
}

#[tokio::test]
async fn a_cancel_from_elsewhere_stops_what_runs_and_what_has_not_begun() {
    let bench = Bench::new().await;
    bench.script.hang.store(true, Ordering::SeqCst);
    let run = bench.run(vec![step("a", &[]), step("b", &["a"])]).await;
    let engine = bench.engine().await;
    let store = bench.store.clone();
    let target = run.clone();
    let (record, ()) = tokio::join!(engine.run_until_settled(&run), async move {
        while store.step_get(&target, &"a".into()).await.unwrap().state != StepState::Running {
            tokio::task::yield_now().await;
        }
        store.run_cancel(&target, "me", None).await.unwrap();
    });
    assert_eq!(record.unwrap().state, RunState::Cancelled);
    assert_eq!(bench.states(&run).await, "a cancelled, b cancelled");
}

#[tokio::test]
async fn what_a_step_says_is_there_while_it_runs() {
    let bench = Bench::new().await;
    bench.script.hang.store(true, Ordering::SeqCst);
    let run = bench.run(vec![step("a", &[])]).await;
    let engine = bench.engine().await;
    let (record, ()) = tokio::join!(engine.run_until_settled(&run), async {
        while bench.store.log_read(&run, &"a".into(), 0, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bench.store.run_cancel(&run, "me", None).await.unwrap();
    });
    assert_eq!(record.unwrap().state, RunState::Cancelled);
    let log = bench.store.log_read(&run, &"a".into(), 0, 10).await.unwrap();
    assert_eq!(log.iter().map(|chunk| &chunk.bytes[..]).collect::<Vec<_>>(), [b"log of a\n"]);
}

#[tokio::test]
async fn a_piece_of_a_log_whose_write_was_not_answered_is_there_once() {
    let bench = Bench::new().await;
    let spec = step("a", &[]);
    let run = bench.run(vec![spec.clone()]).await;
    let ClaimResult::Claimed(claim) = bench.store.step_claim("e", &run, &spec, 60_000_000).await.unwrap() else {
        panic!("free")
    };
    let cx = StepContext::new(bench.store.clone(), claim.clone(), Value::Null, Value::Null);
    let text = async || {
        let chunks = bench.store.log_read(&run, &spec.id, 0, 10).await.unwrap();
        String::from_utf8(chunks.into_iter().flat_map(|chunk| chunk.bytes).collect()).unwrap()
    };
    cx.log(b"one ").await;
    cx.flush().await;
    // As if the answer was lost: it is written, and the context does not know.
    cx.log(b"two ").await;
    bench.store.step_record(&claim, b"two ", &[]).await.unwrap();
    cx.doubt().await;
    cx.log(b"three ").await;
    cx.flush().await;
    assert_eq!(text().await, "one two three ");
    // It was not written after all.
    cx.log(b"four ").await;
    cx.doubt().await;
    cx.flush().await;
    assert_eq!(text().await, "one two three four ");
    // Who has lost the step says nothing any more.
    bench.store.step_take_over("another", &claim, 10).await.unwrap().unwrap();
    cx.log(b"late").await;
    cx.flush().await;
    assert_eq!((text().await.as_str(), cx.take_log().await), ("one two three four ", Vec::new()));
}

#[tokio::test]
async fn a_time_limit_ends_an_attempt() {
    let bench = Bench::new().await;
    bench.script.hang.store(true, Ordering::SeqCst);
    let mut slow = step("slow", &[]);
    slow.timeout = Some(10_000);
    let run = bench.run(vec![slow]).await;
    bench.engine().await.run_until_settled(&run).await.unwrap();
    let record = bench.store.step_get(&run, &"slow".into()).await.unwrap();
    assert_eq!((record.state, record.code.as_deref()), (StepState::Failed, Some("WL616")));
}

#[tokio::test]
async fn the_budget_bounds_what_runs_together() {
    let bench = Bench::new().await;
    let run = bench.run((0..8).map(|n| step(&format!("s{n}"), &[])).collect()).await;
    bench.engine().await.run_until_settled(&run).await.unwrap();
    let most = bench.script.together.lock().unwrap().1;
    assert!((1..=2).contains(&most), "{most}");
    let mut big = step("big", &[]);
    big.cost = Cost { cpu_milli: 64_000, memory_mib: 64_000 };
    let run = bench.run(vec![big]).await;
    assert_eq!(bench.engine().await.run_until_settled(&run).await.unwrap().state, RunState::Succeeded);
}

#[tokio::test]
async fn two_engines_on_one_store_never_run_a_step_twice() {
    let bench = Bench::new().await;
    let run = bench.run((0..20).map(|n| step(&format!("s{n:02}"), &[])).collect()).await;
    let (a, b) = (bench.engine().await, bench.engine().await);
    let (x, y) = tokio::join!(a.run_until_settled(&run), b.run_until_settled(&run));
    assert_eq!((x.unwrap().state, y.unwrap().state), (RunState::Succeeded, RunState::Succeeded));
    let mut executed = bench.executed();
    executed.sort();
    executed.dedup();
    assert_eq!((executed.len(), bench.executed().len()), (20, 20));
}

#[tokio::test]
async fn an_attempt_whose_engine_died_is_repeated_checked_or_unknown() {
    let check = async |repeat: Repeat, probe: Probe, want: &str| {
        let bench = Bench::new().await;
        *bench.script.probe.lock().unwrap() = Some(probe);
        let mut spec = step("s", &[]);
        spec.repeat = repeat;
        let run = bench.run(vec![spec.clone(), step("after", &["s"])]).await;
        bench.die_during(&run, &spec).await;
        bench.engine().await.run_until_settled(&run).await.unwrap();
        assert_eq!(bench.states(&run).await, want, "{repeat:?}");
        (bench, run)
    };
    check(Repeat::Idempotent, Probe::Repeat, "s succeeded, after succeeded").await;
    let (bench, _) = check(Repeat::Checkable, Probe::Done(json!(1)), "s succeeded, after succeeded").await;
    assert_eq!(bench.executed(), ["after#1"]);
    let (bench, _) = check(Repeat::Checkable, Probe::Repeat, "s succeeded, after succeeded").await;
    assert_eq!(bench.executed(), ["s#2", "after#1"]);
    check(Repeat::Checkable, Probe::Unsettled("who knows".into()), "s unknown, after pending").await;
    let (bench, run) = check(Repeat::Once, Probe::Repeat, "s unknown, after pending").await;
    assert!(bench.executed().is_empty());
    bench.store.step_settle(&run, &"s".into(), Settlement::Done, "me", Some("I looked")).await.unwrap();
    assert_eq!(bench.engine().await.run_until_settled(&run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(bench.executed(), ["after#1"]);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_again_by_its_own_engine() {
    let bench = Bench::new().await;
    let engine = bench.engine().await;
    let (mut checked, lonely) = (step("b", &["a"]), step("x", &[]));
    checked.repeat = Repeat::Checkable;
    let run = bench.run(vec![step("a", &[]), checked.clone(), step("c", &["b"])]).await;
    let another = bench.run(vec![lonely.clone()]).await;
    // Both are on record as this engine's, with a lease of an hour, and it has never heard of it.
    for (run, spec) in [(&run, &step("a", &[])), (&another, &lonely)] {
        let claimed = bench.store.step_claim(&engine.identity.id, run, spec, 3_600_000_000).await.unwrap();
        assert!(matches!(claimed, ClaimResult::Claimed(_)));
    }
    assert_eq!(engine.run_until_settled(&run).await.unwrap().state, RunState::Succeeded);
    assert_eq!(bench.executed(), ["a#2", "b#1", "c#1"]);
    assert_eq!(bench.states(&another).await, "x pending", "whoever looks finds those of all runs");
    assert_eq!(engine.run_until_settled(&another).await.unwrap().state, RunState::Succeeded);
    assert!(engine.shared.owned.all().is_empty(), "what has ended is nobody's");
}

#[tokio::test]
async fn what_an_engine_runs_is_not_lost_however_long_it_takes() {
    let bench = Bench::new().await;
    bench.script.hang.store(true, Ordering::SeqCst);
    let engine = bench.engine().await;
    let (first, second) = (bench.run(vec![step("a", &[])]).await, bench.run(vec![step("b", &[])]).await);
    let (one, other, ()) = tokio::join!(engine.run_until_settled(&first), engine.run_until_settled(&second), async {
        while bench.executed().len() < 2 {
            tokio::task::yield_now().await;
        }
        // Each of both has looked at what runs more than once.
        for _ in 0..3 {
            assert_eq!(engine.running().await.unwrap().len(), 0);
            tokio::time::sleep(POLL).await;
        }
        for run in [&first, &second] {
            bench.store.run_cancel(run, "me", None).await.unwrap();
        }
    });
    assert_eq!((one.unwrap().state, other.unwrap().state), (RunState::Cancelled, RunState::Cancelled));
    assert_eq!(bench.executed().len(), 2);
}

#[tokio::test]
async fn a_step_that_kills_its_engines_is_not_tried_for_ever() {
    let bench = Bench::new().await;
    let spec = step("poison", &[]);
    let run = bench.run(vec![spec.clone()]).await;
    for attempt in 1..=3 {
        bench.die_during(&run, &spec).await;
        let engine = bench.engine().await;
        let nobody = RunId::new("");
        let running = bench.store.step_running().await.unwrap();
        assert!(recovery::recover(&engine, &running, &nobody, |_| {}).await.unwrap());
        let want = if attempt < 3 { StepState::Pending } else { StepState::Unknown };
        assert_eq!(bench.store.step_get(&run, &"poison".into()).await.unwrap().state, want);
    }
}

#[tokio::test]
async fn recovery_ends_the_orphans_of_a_dead_engine_first() {
    let bench = Bench::new().await;
    let spec = step("s", &[]);
    let run = bench.run(vec![spec.clone()]).await;
    bench.die_during(&run, &spec).await;
    // A child in its own group that ignores interrupts, with a grandchild.
    let mut command = std::process::Command::new("sh");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command
        .args(["-c", "trap '' INT; sleep 600 & echo ready; wait"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let (host, boot) = host::machine();
    let lost = bench.store.step_running().await.unwrap().remove(0);
    let process = windlass_store::ProcessRow {
        pid: i64::from(child.id()),
        ticks: host::start_ticks(child.id()).unwrap(),
        host,
        boot,
    };
    bench.store.process_add(&lost.claim, &process, None).await.unwrap();
    let record = bench.engine().await.run_until_settled(&run).await.unwrap();
    assert_eq!(record.state, RunState::Succeeded);
    assert!(!child.wait().unwrap().success());
    assert_eq!(host::start_ticks(child.id()), None);
}

#[tokio::test]
async fn what_an_attempt_left_elsewhere_has_ended_before_anything_else() {
    let check = async |repeat: Repeat, lives: &[bool], unending: Option<&str>, want: &[&str], state: &str| {
        let bench = Bench::new().await;
        let mut spec = step("s", &[]);
        spec.repeat = repeat;
        let run = bench.run(vec![spec.clone()]).await;
        bench.die_during(&run, &spec).await;
        *bench.script.elsewhere.lock().unwrap() = lives.to_vec();
        *bench.script.unending.lock().unwrap() = unending.map(str::to_owned);
        bench.engine().await.run_until_settled(&run).await.unwrap();
        assert_eq!(
            (bench.done(), bench.states(&run).await.as_str()),
            (want.iter().map(|w| w.to_string()).collect(), state)
        );
    };
    let (lives, dead, ended) = ("s#1 lives: true", "s#1 lives: false", "s#1 is ended");
    // What must not be torn may finish.
    let finished = [lives, lives, dead, ended, "probe", "s#2"];
    check(Repeat::Checkable, &[true, true], None, &finished, "s succeeded").await;
    check(Repeat::Checkable, &[], None, &[dead, ended, "probe", "s#2"], "s succeeded").await;
    check(Repeat::Idempotent, &[true], None, &[ended, "s#2"], "s succeeded").await;
    // Nobody does it again beside one that may live.
    check(Repeat::Idempotent, &[], Some("no engine"), &[ended], "s unknown").await;
    check(Repeat::Checkable, &[], Some("no engine"), &[dead, ended], "s unknown").await;
}

#[tokio::test]
async fn locks_are_waited_for_and_the_reason_is_told() {
    let bench = Bench::new().await;
    let mut spec = step("s", &[]);
    spec.locks = vec!["stack:a".into()];
    let (first, second) = (bench.run(vec![spec.clone()]).await, bench.run(vec![spec.clone()]).await);
    let holder = bench.engine().await;
    let ClaimResult::Claimed(claim) =
        bench.store.step_claim(&holder.identity.id, &first, &spec, 60_000_000).await.unwrap()
    else {
        panic!("free")
    };
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let engine = bench.engine().await.with_progress(sender);
    let (record, ()) = tokio::join!(engine.run_until_settled(&second), async {
        let told = receiver.recv().await.unwrap();
        assert!(matches!(told, Progress::Held { why, .. } if why.contains("stack:a") && why.contains(first.as_str())));
        bench.store.step_finish(&claim, &StepOutcome::Succeeded(Value::Null), &[], Durability::Durable).await.unwrap();
    });
    assert_eq!(record.unwrap().state, RunState::Succeeded);
}

struct Nobody;

#[async_trait]
impl Watcher for Nobody {
    async fn settled(&self, _: &RunRecord, _: bool) {}
    fn failed(&self, run: &RunId, error: &StoreError) {
        panic!("{run}: {error}");
    }
}

#[tokio::test]
async fn an_engine_serves_all_runs_until_it_is_told_to_stop() {
    let bench = Bench::new().await;
    let engine = bench.engine().await;
    bench.script("gate", vec![StepResult::Wait { reason: "asks".into(), until: None }]);
    let (plain, gated) = (bench.run(vec![step("a", &[])]).await, bench.run(vec![step("gate", &[])]).await);
    let stop = CancellationToken::new();
    let served = tokio::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        async move { engine.serve(stop, Duration::from_secs(20), Arc::new(Nobody)).await }
    });
    let reached = async |run: &RunId, state: RunState| {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while bench.store.run_get(run).await.unwrap().state != state {
            assert!(std::time::Instant::now() < deadline, "{run} is not {state:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    reached(&plain, RunState::Succeeded).await;
    reached(&gated, RunState::Waiting).await;
    assert_eq!(bench.store.run_ready(10).await.unwrap(), [], "what waits for a person is not looked at");
    // One that comes later is noticed, and one that was woken as well.
    let later = bench.run(vec![step("b", &[])]).await;
    bench.store.step_wake(&gated).await.unwrap();
    reached(&later, RunState::Succeeded).await;
    reached(&gated, RunState::Succeeded).await;
    stop.cancel();
    assert!(served.await.unwrap(), "nothing was left");
    let after = bench.run(vec![step("c", &[])]).await;
    assert_eq!(bench.store.run_get(&after).await.unwrap().state, RunState::Queued);
}

#[tokio::test]
async fn an_engine_takes_and_recovers_only_what_its_labels_let_it() {
    let bench = Bench::new().await;
    let scripts = [Arc::<Script>::default(), Arc::<Script>::default()];
    let rest = bench.engine_with(&scripts[0], Some(Labels { own: vec!["tpu".into()], rest: true })).await;
    let gpu = bench.engine_with(&scripts[1], Some(Labels { own: vec!["gpu".into()], rest: false })).await;
    let mut labelled = step("b", &["a"]);
    labelled.labels = vec!["gpu".into()];
    let run = bench.run(vec![step("a", &[]), labelled.clone(), step("c", &["b"])]).await;
    let (one, other) = tokio::join!(rest.run_until_settled(&run), gpu.run_until_settled(&run));
    assert_eq!((one.unwrap().state, other.unwrap().state), (RunState::Succeeded, RunState::Succeeded));
    let executed = |script: &Arc<Script>| script.executed.lock().unwrap().clone();
    assert_eq!(executed(&scripts[0]), ["a#1", "c#1"]);
    assert_eq!(executed(&scripts[1]), ["b#1"]);

    labelled.after = Vec::new();
    let run = bench.run(vec![labelled.clone()]).await;
    bench.die_during(&run, &labelled).await;
    for (engine, want) in [(&rest, "b running"), (&gpu, "b pending")] {
        let running = bench.store.step_running().await.unwrap();
        recovery::recover(engine, &running, &run, |_| {}).await.unwrap();
        assert_eq!(bench.states(&run).await, want);
    }
}

/// Says a secret in pieces, records it, and fails with it.
struct Tells;

#[async_trait]
impl Executor for Tells {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        cx.hide(["hunter22".to_owned()]).await;
        for piece in ["it is hun", "ter", "22, in base64 aHVu", "dGVyMjI=\nline: hunt"] {
            cx.log(piece.as_bytes()).await;
            cx.flush().await;
        }
        cx.events(&[("told".into(), json!({ "secret": "hunter22", "rest": "hunt" }))]).await.unwrap();
        match cx.step.as_str() {
            "fails" => {
                let message = "no hunter22 here".into();
                StepResult::Failed(StepFailure { code: "WL501".into(), message, retryable: false })
            }
            _ => StepResult::Wait { reason: "for hunter22".into(), until: None },
        }
    }
}

#[tokio::test]
async fn what_a_step_hides_is_in_nothing_that_it_leaves() {
    let bench = Bench::new().await;
    let run = bench.run(vec![step("fails", &[]), step("waits", &[])]).await;
    let executors: HashMap<String, Arc<dyn Executor>> = HashMap::from([("script".to_owned(), Arc::new(Tells) as _)]);
    let engine = Engine::start(bench.store.clone(), executors, EngineOptions::default()).await.unwrap();
    engine.run_until_settled(&run).await.unwrap();
    let steps = bench.store.step_list(&run).await.unwrap();
    let reasons: Vec<_> = steps.iter().map(|step| step.reason.clone().unwrap()).collect();
    assert_eq!(reasons, ["no (sensitive) here", "for (sensitive)"]);
    for id in ["fails", "waits"] {
        let log = bench.store.log_read(&run, &id.into(), 0, 100).await.unwrap();
        let said: Vec<u8> = log.into_iter().flat_map(|chunk| chunk.bytes).collect();
        let want = "it is (sensitive), in base64 (sensitive)=\nline: hunt";
        assert_eq!(String::from_utf8(said).unwrap(), want, "{id}");
    }
    let events = bench.store.event_list(Some(&run), 0, 100).await.unwrap();
    let told: Vec<_> = events.iter().filter(|event| event.kind == "told").map(|event| &event.data).collect();
    let want = json!({ "secret": "(sensitive)", "rest": "hunt" });
    assert_eq!(told, [&want, &want]);
    assert!(!format!("{events:?} {steps:?}").contains("hunter"));
}

mod operations;
