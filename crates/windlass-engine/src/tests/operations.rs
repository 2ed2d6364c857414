//! Undos, handlers, steps that were not needed and steps that were added, with engines that die at every moment.

use super::*;
use windlass_model::run::{Expansion, Flow, NOT_NEEDED, OnFailure, Phase};

fn phased(id: &str, phase: Phase) -> StepSpec {
    StepSpec { when: When::Always, flow: Flow { phase, ..Flow::default() }, ..step(id, &[]) }
}

fn undo(of: &str) -> StepSpec {
    StepSpec { after: vec![of.into()], ..phased(&format!("undo:{of}"), Phase::Undo(of.into())) }
}

fn gather(id: &str, of: &str) -> StepSpec {
    let plain = step(id, &[of]);
    StepSpec { flow: Flow { gathers: Some(of.into()), ..Flow::default() }, ..plain }
}

/// `keys` members of one step each, whose failures are tolerated, with undos.
fn members(of: &str, keys: &[&str]) -> StepResult {
    let mut expansion = Expansion::default();
    for key in keys {
        let id = format!("{of}[{key}]");
        let mut member = step(&id, &[of]);
        member.flow.on_failure = OnFailure::Tolerate;
        expansion.steps.extend([member, undo(&id)]);
        expansion.behind.push(id.into());
    }
    StepResult::Expanded { output: json!({ "keys": keys }), expansion }
}

/// `a`, members of `each`, `all`, `last`, which fails.
fn operation() -> Vec<StepSpec> {
    vec![
        step("a", &[]),
        step("each", &["a"]),
        gather("all", "each"),
        step("last", &["all"]),
        undo("a"),
        undo("last"),
        phased("on_failure:tell", Phase::Failed),
        phased("on_cancel:tell", Phase::Cancelled),
    ]
}

const ALL_OF_IT: &str = "a#1 each#1 each[x]#1 each[y]#1 all#1 last#1 undo:last#1 undo:each[y]#1 undo:each[x]#1 undo:a#1 \
                         on_failure:tell#1";

impl Bench {
    fn script_operation(&self) {
        self.script("each", vec![members("each", &["x", "y"]); 4]);
        self.script("last", vec![failure(false); 4]);
    }
    /// What a step saw of those before it.
    async fn output(&self, run: &RunId, step: &str) -> Value {
        self.store.step_get(run, &step.into()).await.unwrap().output.unwrap()
    }
}

#[tokio::test]
async fn what_was_added_is_part_of_the_run_and_is_taken_back_in_order() {
    let bench = Bench::new().await;
    bench.script_operation();
    let run = bench.run(operation()).await;
    let record = bench.engine().await.run_until_settled(&run).await.unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (RunState::Failed, Some("last failed: it broke")));
    let mut done = bench.executed();
    // Members run at the same time.
    done[2..4].sort();
    assert_eq!(done.join(" "), ALL_OF_IT);
    let ids: Vec<String> = record.plan.steps.iter().map(|step| step.id.to_string()).collect();
    let in_order =
        "a each each[x] undo:each[x] each[y] undo:each[y] all last undo:a undo:last on_failure:tell on_cancel:tell";
    assert_eq!(ids.join(" "), in_order);
    let steps: Vec<String> = bench.store.step_list(&run).await.unwrap().iter().map(|s| s.id.to_string()).collect();
    assert_eq!(steps.join(" "), in_order);
    assert_eq!(bench.output(&run, "all").await["saw"], 3, "the step that added them, and both members");
    assert_eq!(bench.output(&run, "undo:a").await["saw"], 1);
    assert_eq!(bench.store.run_get(&run).await.unwrap().plan, record.plan);
}

#[tokio::test]
async fn a_step_that_adds_what_is_there_fails_and_adds_nothing() {
    let bench = Bench::new().await;
    let Some(StepResult::Expanded { output, mut expansion }) = Some(members("each", &["x"])) else { unreachable!() };
    expansion.steps[0].id = "a".into();
    bench.script("each", vec![StepResult::Expanded { output, expansion }]);
    let run = bench.run(vec![step("a", &[]), step("each", &[]), gather("all", "each")]).await;
    let record = bench.engine().await.run_until_settled(&run).await.unwrap();
    assert!(record.reason.unwrap().contains("it adds the step a, which the run has"));
    assert_eq!(bench.states(&run).await, "a succeeded, each failed, all skipped");
}

#[tokio::test]
async fn what_was_not_needed_lets_the_rest_go_on_and_is_not_taken_back() {
    let bench = Bench::new().await;
    bench.script("a", vec![StepResult::NotNeeded("its condition is false".into())]);
    bench.script("b", vec![failure(false)]);
    let run = bench.run(vec![step("a", &[]), step("b", &["a"]), undo("a"), undo("b")]).await;
    bench.engine().await.run_until_settled(&run).await.unwrap();
    assert_eq!(bench.states(&run).await, "a skipped, b failed, undo:a skipped, undo:b succeeded");
    let a = bench.store.step_get(&run, &"a".into()).await.unwrap();
    assert_eq!((a.code.as_deref(), a.reason.as_deref()), (Some(NOT_NEEDED), Some("its condition is false")));
}

#[tokio::test]
async fn a_cancel_takes_back_and_a_kill_does_not() {
    for kill in [false, true] {
        let bench = Bench::new().await;
        bench.script.hang.store(true, Ordering::SeqCst);
        let run = bench
            .run(vec![step("a", &[]), step("b", &["a"]), undo("a"), phased("on_cancel:tell", Phase::Cancelled)])
            .await;
        let engine = bench.engine().await;
        let (record, ()) = tokio::join!(engine.run_until_settled(&run), async {
            while bench.executed().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Undos and handlers do not hang.
            bench.script.hang.store(false, Ordering::SeqCst);
            let asked = if kill {
                bench.store.run_kill(&run, "me", None).await
            } else {
                bench.store.run_cancel(&run, "me", None).await
            };
            assert!(asked.unwrap());
        });
        let record = record.unwrap();
        assert_eq!((record.state, record.kill_requested), (RunState::Cancelled, kill));
        let want = if kill {
            "a cancelled, b cancelled, undo:a cancelled, on_cancel:tell cancelled"
        } else {
            "a cancelled, b cancelled, undo:a succeeded, on_cancel:tell succeeded"
        };
        assert_eq!(bench.states(&run).await, want);
    }
}

#[tokio::test]
async fn a_run_whose_time_is_over_takes_back_and_has_failed() {
    let bench = Bench::new().await;
    bench.script.hang.store(true, Ordering::SeqCst);
    let steps = vec![step("a", &[]), step("b", &["a"]), phased("on_failure:tell", Phase::Failed)];
    let plan = RunPlan { kind: "t".into(), title: "t".into(), steps, timeout: Some(200_000), ..RunPlan::default() };
    let run = bench.store.run_create(&plan, "me").await.unwrap();
    let (script, engine) = (bench.script.clone(), bench.engine().await);
    let (record, ()) = tokio::join!(engine.run_until_settled(&run), async {
        while script.executed.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        script.hang.store(false, Ordering::SeqCst);
    });
    let record = record.unwrap();
    assert_eq!(
        (record.state, record.reason.as_deref()),
        (RunState::Failed, Some("it took longer than its time limit"))
    );
    assert_eq!(bench.states(&run).await, "a cancelled, b cancelled, on_failure:tell succeeded");
}

/// The engine is gone when this many attempts have been begun: before the last of them did anything, or after it did and before that
/// was recorded. Another goes on; nothing is lost, nothing is taken back too early or twice.
#[tokio::test]
async fn wherever_an_engine_dies_another_goes_on() {
    let mut deaths = 0;
    for number in 1..=11 {
        let bench = Bench::new().await;
        bench.script_operation();
        let run = bench.run(operation()).await;
        // Claims the step that is next when the engine is told to begin nothing more: a dead engine has it.
        let mut engine = bench.engine().await;
        engine.drain = CancellationToken::new();
        let (drain, script) = (engine.drain.clone(), bench.script.clone());
        let begun = || script.executed.lock().unwrap().iter().filter(|done| done.contains('#')).count();
        let settled = tokio::join!(engine.run_until_settled(&run), async {
            while begun() < number {
                tokio::task::yield_now().await;
            }
            drain.cancel();
        });
        settled.0.unwrap();
        let record = bench.store.run_get(&run).await.unwrap();
        let steps: windlass_model::run::Steps =
            bench.store.step_list(&run).await.unwrap().into_iter().map(|s| (s.id.clone(), s)).collect();
        let situation = windlass_model::planner::Situation::of(&record, 0);
        let decisions = windlass_model::planner::next(&record.plan, &steps, &situation);
        let next = decisions.into_iter().find_map(|decision| match decision {
            windlass_model::run::Decision::Start(id) => Some(id),
            _ => None,
        });
        if let Some(next) = next {
            let spec = record.plan.steps.iter().find(|spec| spec.id == next).unwrap();
            bench.die_during(&run, spec).await;
            deaths += 1;
        }
        let record = bench.engine().await.run_until_settled(&run).await.unwrap();
        assert_eq!(record.state, RunState::Failed, "{number}: {:?}", record.reason);
        let done = bench.executed();
        let order = |step: &str| done.iter().position(|done| done.starts_with(&format!("{step}#"))).unwrap();
        let undone = ["undo:last", "undo:each[y]", "undo:each[x]", "undo:a", "on_failure:tell"];
        assert!(undone.is_sorted_by_key(|step| order(step)), "{number}: {done:?}");
        assert!(order("last") < order("undo:last"), "{number}: {done:?}");
        assert_eq!(done.len(), 11, "each of them once: {done:?}");
        let states = bench.states(&run).await;
        assert!(states.contains("each[x] succeeded") && states.contains("on_cancel:tell skipped"), "{states}");
    }
    assert!(deaths > 5, "they died in the middle");
}

#[tokio::test]
async fn two_engines_drive_one_run_that_grows() {
    let bench = Bench::new().await;
    let keys: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    bench.script("each", vec![members("each", &keys)]);
    let run = bench.run(vec![step("each", &[]), gather("all", "each"), step("last", &["all"])]).await;
    let (first, second) = (bench.engine().await, bench.engine().await);
    let (one, two) = tokio::join!(first.run_until_settled(&run), second.run_until_settled(&run));
    assert_eq!((one.unwrap().state, two.unwrap().state), (RunState::Succeeded, RunState::Succeeded));
    let mut done = bench.executed();
    done.sort();
    done.dedup();
    assert_eq!((done.len(), bench.executed().len()), (23, 23), "each of them once");
}

/// Remembers how runs were left.
#[derive(Default)]
struct Left(Mutex<Vec<RunState>>);

#[async_trait]
impl Watcher for Left {
    async fn settled(&self, run: &RunRecord, _: bool) {
        self.0.lock().unwrap().push(run.state);
    }
    fn failed(&self, run: &RunId, error: &StoreError) {
        panic!("{run}: {error}");
    }
}

#[tokio::test]
async fn who_serves_lets_go_of_a_run_that_waits_long_and_finds_it_when_its_time_has_come() {
    let bench = Bench::new().await;
    let hour = bench.store.now().await.unwrap() + 3_600_000_000;
    let wait = |until| StepResult::Wait { reason: "waits".into(), until: Some(until) };
    bench.script("far", vec![wait(hour)]);
    bench.script("near", vec![wait(1)]);
    let far = bench.run(vec![step("far", &[])]).await;
    let (stop, left) = (CancellationToken::new(), Arc::<Left>::default());
    let served = tokio::spawn({
        let (engine, stop, left) = (bench.engine().await, stop.clone(), left.clone());
        async move { engine.serve(stop, Duration::from_secs(20), left).await }
    });
    let until = async |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "{what}: {:?}", left.0.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until("it is let go", &|| *left.0.lock().unwrap() == [RunState::Waiting]).await;
    bench.run(vec![step("near", &[])]).await;
    until("one that waits shortly is not", &|| left.0.lock().unwrap().last() == Some(&RunState::Succeeded)).await;
    assert_eq!(left.0.lock().unwrap().len(), 2);
    bench.store.step_wake(&far).await.unwrap();
    until("it goes on", &|| left.0.lock().unwrap().len() == 3).await;
    assert_eq!(bench.states(&far).await, "far succeeded");
    stop.cancel();
    assert!(served.await.unwrap());
}
