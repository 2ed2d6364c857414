use super::*;
use crate::decision::{Decision, Origin, Policy, Sources, Terms};
use crate::document::Document;
use crate::engine::{Options, Rego};
use regorus::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use windlass_model::definition::{DecisionKind, PolicyEngine};

const CHILD: &str = "WINDLASS_POLICY_TEST_WORKER";

/// What the processes of these tests run: this very test.
#[test]
fn worker() {
    if std::env::var_os(CHILD).is_some() {
        serve(io::stdin(), io::stdout()).unwrap();
    }
}

fn ourselves() -> Worker {
    Worker {
        program: std::env::current_exe().unwrap(),
        arguments: ["--exact", "--nocapture", "limits::tests::worker"].map(str::to_owned).into(),
        environment: vec![(CHILD.to_owned(), "1".to_owned())],
    }
}

fn policy(kind: DecisionKind, origin: Origin, body: &str) -> Policy {
    let terms = Terms {
        name: "p".into(),
        kind,
        engine: PolicyEngine::Embedded,
        teams: vec!["dba".into()],
        origin,
        scratch: "/nonexistent".into(),
    };
    let files = vec![("policy/a.rego".into(), format!("package main\nimport rego.v1\n{body}\n"))];
    let data = vec![("policy/a.json".into(), json!({"most": 3}))];
    Policy::load(terms, &Sources { files, data, ..Sources::default() }).unwrap_or_else(|found| panic!("{found:?}")).0
}

fn foreign(worker: Worker, body: &str) -> Policy {
    policy(DecisionKind::Plan, Origin::Elsewhere(Some(worker)), body)
}

fn messages(decision: &Decision) -> Vec<String> {
    decision.findings.iter().map(|f| format!("{:?} {}: {}", f.level, f.source, f.message)).collect()
}

fn limits(milliseconds: u64, mebibytes: u64) -> Limits {
    Limits { time: Duration::from_millis(milliseconds), memory: mebibytes << 20, ..Limits::default() }
}

/// The one is broken with that sentence, the next one is fine.
fn breaks(body: &str, limits: &Limits, want: &str) {
    let start = Instant::now();
    let policy = foreign(ourselves(), &format!("{body}\ndeny contains input.say"));
    let input = json!({"break": true, "resource_changes": []});
    let decision = policy.decide(&input, limits);
    let found = messages(&decision);
    assert!(found.len() == 1 && found[0].starts_with("Broken policy p: [WL406]"), "{body}: {found:?}");
    assert!(found[0].contains(want), "{body}: {found:?}");
    assert!(!decision.is_allowed());
    assert!(start.elapsed() < limits.time + Duration::from_secs(5), "{body}: {:?}", start.elapsed());
    let decision = policy.decide(&json!({"say": "x"}), &Limits { time: Duration::from_secs(20), ..*limits });
    assert_eq!(messages(&decision), ["Deny policy p: x"]);
}

const QUADRATIC: &str = "deny contains \"x\" if {\n  input.break\n  some a in numbers.range(1, 100000)\n  some b in numbers.range(1, 100000)\n  a + b == 0\n}";
/// No step of the engine in between: the clock is not looked at.
const ONE_BUILTIN: &str = "deny contains \"x\" if {\n  input.break\n  count(numbers.range(1, 100000000000)) == 0\n}";
const HUGE: &str = "deny contains \"x\" if {\n  input.break\n  all := [sprintf(\"%1000d\", [i]) | some i in numbers.range(1, 100000000)]\n  count(all) == 0\n}";

/// A value nested as deeply as that power of two says: each is the one before within itself.
fn deep(power: u32) -> String {
    let mut text = String::from("d0 := {\"a\": {}} if input.break\n");
    for n in 1..=power {
        let (before, levels) = (n - 1, 1 << (n - 1));
        text.push_str(&format!(
            "d{n} := json.patch(d{before}, [{{\"op\": \"add\", \"path\": [\"a\" | some _ in numbers.range(1, {levels})], \"value\": d{before}}}])\n"
        ));
    }
    text
}

#[test]
fn a_process_decides_as_a_thread_does() {
    let check = |kind: DecisionKind, body: &str, input: serde_json::Value, want: &[&str]| {
        let own = policy(kind, Origin::Own(None), body).decide(&input, &Limits::default());
        for origin in [Origin::Own(Some(ourselves())), Origin::Elsewhere(Some(ourselves()))] {
            let apart = policy(kind, origin, body).decide(&input, &Limits::default());
            assert_eq!(apart, own, "{body}");
        }
        assert_eq!(messages(&own), want, "{body}");
        own
    };
    let above = "# METADATA\n# title: t\n# custom:\n#   severity: high\ndeny contains msg if {\n  some n in input.numbers\n  n > data.most\n  msg := sprintf(\"%v\", [n])\n}\nwarn contains {\"msg\": \"w\", \"address\": \"a.b\", \"_loc\": {\"file\": \"m.tf\", \"line\": 3}} if input.numbers";
    let numbers = serde_json::from_str(r#"{"numbers": [1, 5, 4, 9007199254740993]}"#).unwrap();
    let want = ["Deny policy p: 4", "Deny policy p: 5", "Deny policy p: 9007199254740993", "Warn policy p: w"];
    let decision = check(DecisionKind::Plan, above, numbers, &want);
    assert_eq!(decision.findings[3].address.as_deref(), Some("a.b"));
    let broken = "Broken policy p: [WL406] rule data.main.deny could not be evaluated: ";
    let fails = "deny contains \"x\" if 1 / input.zero > 0";
    let found = policy(DecisionKind::Plan, Origin::Own(None), fails).decide(&json!({"zero": 0}), &Limits::default());
    let told = messages(&found);
    assert!(told.len() == 1 && told[0].starts_with(broken), "{told:?}");
    check(DecisionKind::Plan, fails, json!({"zero": 0}), &[&told[0]]);
    let decision = check(
        DecisionKind::Approval,
        "require contains {\"from\": [\"dba\"], \"reason\": \"r\"} if input.risk",
        json!({"risk": "high"}),
        &[],
    );
    assert_eq!(decision.required[0].subject(), "policy p (r)");
    assert!(check(DecisionKind::Access, "allow if input.action", json!({"action": "read"}), &[]).allowed);
}

/// A worker that counts its processes: as many bytes in the file beside it. Each case has a directory of its own.
fn counting(case: &str) -> (Worker, std::path::PathBuf) {
    let directory = std::env::temp_dir().join(format!("windlass-policy-{case}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let starts = directory.join("starts");
    let script = format!("echo >> '{}'; exec \"$@\"", starts.display());
    let own = ourselves();
    let arguments = ["-c".to_owned(), script, "sh".to_owned(), own.program.to_string_lossy().into_owned()];
    let counting = Worker {
        program: "/bin/sh".into(),
        arguments: arguments.into_iter().chain(own.arguments).collect(),
        environment: own.environment,
    };
    (counting, starts)
}

#[test]
fn own_policies_share_a_process_for_a_long_document() {
    let (counting, starts) = counting("shared");
    let text = json!({"say": "a", "risk": "high", "windlass": "theirs", "long": "x".repeat(2 << 20)}).to_string();
    // What a document says after its end is no question of ours.
    let check = |tail: &str, origin: &dyn Fn() -> Origin, want: &[&str], processes: usize| {
        let first = policy(DecisionKind::Plan, origin(), "deny contains input.say\ndeny contains input.windlass");
        let second = policy(DecisionKind::Plan, origin(), &format!("{HUGE}\nwarn contains input.say"));
        let third = policy(DecisionKind::Review, origin(), "deny contains sprintf(\"third %v\", [input.risk])");
        let document = Document::text(Arc::new(format!("{text}{tail}"))).with("windlass", json!("ours"));
        let decide = |policy: &Policy| messages(&policy.decide_document(&document, &limits(20_000, 512)));
        let found = [decide(&first), decide(&second), decide(&third)].concat();
        assert_eq!(found.len(), want.len(), "{found:?}");
        assert!(found.iter().zip(want).all(|(found, want)| found.contains(want)), "{found:?}");
        assert_eq!(std::fs::read_to_string(&starts).unwrap().len(), processes);
    };
    let all = ["Deny policy p: a", "Deny policy p: ours", "Warn policy p: a", "Deny policy p: third high"];
    let own = || Origin::Own(Some(counting.clone()));
    check("", &own, &all, 1);
    let elsewhere = || Origin::Elsewhere(Some(counting.clone()));
    check("\n", &elsewhere, &all, 4);
    check(" {\"milliseconds\": 1}", &own, &["trailing characters"; 3], 7);
    // A process that breaks takes the document with it, and the next policy asks another one.
    let breaking = policy(DecisionKind::Plan, own(), &HUGE.replace("input.break", "input.say"));
    let next = policy(DecisionKind::Plan, own(), "deny contains input.say");
    let document = Document::text(Arc::new(text.clone()));
    let found = messages(&breaking.decide_document(&document, &limits(60_000, 256)));
    assert!(found.len() == 1 && found[0].contains("more than 256 MiB"), "{found:?}");
    assert_eq!(messages(&next.decide_document(&document, &limits(20_000, 256))), ["Deny policy p: a"]);
    std::fs::remove_dir_all(starts.parent().unwrap()).unwrap();
}

#[test]
fn one_process_decides_about_many_inputs() {
    // It is the same one as long as nothing breaks.
    let (counting, starts) = counting("many");
    let policy = foreign(counting, &format!("{QUADRATIC}\ndeny contains input.say"));
    let check = |input: serde_json::Value, want: &str, processes: usize| {
        let found = messages(&policy.decide(&input, &limits(if want.contains("longer") { 500 } else { 20_000 }, 512)));
        assert!(found.len() == 1 && found[0].contains(want), "{found:?}");
        assert_eq!(std::fs::read_to_string(&starts).unwrap().len(), processes, "{want}");
    };
    check(json!({"say": "a"}), "a", 1);
    check(json!({"say": "b"}), "b", 1);
    check(json!({"break": true}), "took longer than 0.5 s", 1);
    check(json!({"say": "c"}), "c", 2);
    // A long input goes, and its process with it.
    check(json!({"say": "d", "long": "x".repeat(2 << 20)}), "d", 2);
    check(json!({"say": "e"}), "e", 3);
    std::fs::remove_dir_all(starts.parent().unwrap()).unwrap();
}

#[test]
fn a_process_without_end_is_ended() {
    breaks(QUADRATIC, &limits(500, 512), "took longer than 0.5 s");
}

#[test]
fn a_process_that_eats_memory_is_ended() {
    breaks(HUGE, &limits(60_000, 256), "more than 256 MiB");
    breaks(ONE_BUILTIN, &limits(60_000, 256), "more than 256 MiB");
}

#[test]
fn values_nested_deeply_break_and_do_not_pass() {
    let body = format!("{}deny contains \"x\" if d14 == {{}}", deep(14));
    breaks(&body, &Limits { stack: 1 << 20, ..limits(60_000, 1024) }, "nested too deeply");
    // On a thread there is stack enough for it, and what would leave the thread is refused.
    let on_a_thread = |body: &str, want: &[&str]| {
        let policy = policy(DecisionKind::Plan, Origin::Own(None), &format!("{}{body}", deep(14)));
        let found = messages(&policy.decide(&json!({"break": true}), &Limits::default()));
        assert_eq!(found, want, "{body}");
    };
    on_a_thread("deny contains \"x\" if d14 != {}", &["Deny policy p: x"]);
    let levels = "Broken policy p: [WL406] rule data.main.deny could not be evaluated: error: json.patch: the value is nested deeper than 20000 levels";
    let patch = "json.patch(d14, [{\"op\": \"add\", \"path\": array.concat([\"a\"], [\"a\" | some _ in numbers.range(1, 9999)]), \"value\": d14}])";
    on_a_thread(&format!("deny contains \"x\" if {patch} == {{}}"), &[levels]);
    // Each rule is evaluated within the one that needs it.
    let chain: String = (15..=499).map(|n| format!("d{n} := [x | x := [d{}]]\n", n - 1)).collect();
    on_a_thread(&format!("{chain}deny contains \"x\" if count(d499) == 1"), &["Deny policy p: x"]);
    let refused = "Broken policy p: [WL406] rule data.main.deny could not be evaluated: its value is nested deeper than 100 levels";
    on_a_thread("deny contains {\"msg\": \"x\", \"more\": d14} if d14", &[refused]);
}

#[test]
fn a_process_that_cannot_be_started_is_told() {
    let check = |worker: Option<Worker>, want: &str| {
        let policy = policy(DecisionKind::Plan, Origin::Elsewhere(worker), "deny contains \"x\" if input.a");
        let found = messages(&policy.decide(&json!({}), &limits(10_000, 512)));
        assert!(found.len() == 1 && found[0].contains(want), "{found:?}");
        assert!(found[0].starts_with("Broken"), "{found:?}");
    };
    check(None, "there is no process to run them in");
    check(Some(Worker { program: "/does/not/exist".into(), ..ourselves() }), "cannot be started");
    check(Some(Worker { program: "/bin/false".into(), ..ourselves() }), "ended without an answer (exit status: 1)");
    let killed = ["-c", "echo last words >&2; kill -9 $$"].map(str::to_owned).into();
    let killed = Worker { program: "/bin/sh".into(), arguments: killed, ..ourselves() };
    check(Some(killed), "ended without an answer (signal: 9 (SIGKILL)): last words");
    let garbled = ["-c", "echo windlass-policy-answer {"].map(str::to_owned).into();
    check(Some(Worker { program: "/bin/sh".into(), arguments: garbled, ..ourselves() }), "garbled");
}

/// Sets its flag when the thread that owns it ends.
struct Ends(Arc<AtomicBool>);
impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_thread_whose_time_is_over_ends() {
    let mut rego =
        Rego::load(&[("a.rego".into(), format!("package main\nimport rego.v1\n{QUADRATIC}\n"))], &Options::default())
            .unwrap();
    let limits = limits(200, 512);
    rego.limit_time(limits.time);
    rego.set_input(Value::from(json!({"break": true})));
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Ends(ended.clone());
    let broken = watched(&limits, move || {
        let result = rego.eval_rule("data.main.deny");
        drop(flag);
        result
    });
    assert!(matches!(broken, Err(Broken::Time(_))), "{broken:?}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ended.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the thread is still at it");
        std::thread::yield_now();
    }
}

#[test]
fn a_thread_that_panics_is_told() {
    let broken = watched(&Limits::default(), || panic!("no {}", 1));
    assert_eq!(broken.unwrap_err().to_string(), "the policy engine panicked: no 1");
    assert_eq!(watched(&Limits::default(), || 1).unwrap(), 1);
}
