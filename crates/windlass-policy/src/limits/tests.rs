use super::*;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

fn job(body: &str) -> Job {
    Job {
        modules: vec![("policy/a.rego".into(), format!("package main\nimport rego.v1\n{body}\n"))],
        strict_builtin_errors: true,
        rules: vec!["data.main.deny".into(), "data.main.other".into()],
        ..Job::default()
    }
}

fn bounds(milliseconds: u64, mebibytes: u64) -> Bounds {
    Bounds { time: Duration::from_millis(milliseconds), memory: mebibytes << 20, ..Bounds::default() }
}

/// The next one is fine, whatever the one before it did.
fn still_works() {
    let job = job("deny contains msg if msg := input.a");
    let outcomes = ourselves().evaluate(&job, br#"{"a": "x"}"#, &bounds(20_000, 512)).unwrap();
    assert_eq!(outcomes["data.main.deny"], Outcome::Set(vec![json!("x")]));
}

fn breaks(body: &str, bounds: &Bounds, want: &str) {
    let start = Instant::now();
    let broken = ourselves().evaluate(&job(body), b"{}", bounds).unwrap_err();
    assert!(broken.to_string().contains(want), "{body}: {broken:?}");
    assert!(start.elapsed() < bounds.time + Duration::from_secs(5), "{body}: {:?}", start.elapsed());
    still_works();
}

const QUADRATIC: &str = "deny contains \"x\" if {\n  some a in numbers.range(1, 100000)\n  some b in numbers.range(1, 100000)\n  a + b == 0\n}";
/// No step of the engine in between: the clock is not looked at.
const ONE_BUILTIN: &str = "deny contains \"x\" if count(numbers.range(1, 100000000000)) == 0";
const HUGE: &str = "deny contains \"x\" if {\n  all := [sprintf(\"%1000d\", [i]) | some i in numbers.range(1, 100000000)]\n  count(all) == 0\n}";
/// A chain of patches, each one level deeper than the one before.
const DEEP: &str = "patches := [p | some i in numbers.range(1, 2500); p := {\"op\": \"add\", \"path\": [\"a\" | some _ in numbers.range(1, i)], \"value\": {}}]\ndeny contains \"x\" if json.patch({}, patches) == {}";

#[test]
fn a_process_answers() {
    let job = Job {
        data: vec![json!({"limit": 3})],
        rules: ["data.main.deny", "data.main.count", "data.main.none", "data.main.fails"].map(str::to_owned).into(),
        ..job(
            "deny contains i if {\n  some i in input.a\n  i > data.limit\n}\ncount := 2\nnone := 1 if input.b\nfails := to_number(input.a[0] == 1)\nfails := 1 / (input.a[0] - 1)",
        )
    };
    let outcomes = ourselves().evaluate(&job, br#"{"a": [1, 5, 4]}"#, &bounds(20_000, 512)).unwrap();
    assert_eq!(outcomes["data.main.deny"], Outcome::Set(vec![json!(4), json!(5)]));
    assert_eq!(outcomes["data.main.count"], Outcome::Value(json!(2)));
    assert_eq!(outcomes["data.main.none"], Outcome::Undefined);
    assert!(matches!(&outcomes["data.main.fails"], Outcome::Failed(_)), "{outcomes:?}");
    let refused = ourselves().evaluate(
        &Job { modules: vec![("a.rego".into(), "package".into())], ..job },
        b"{}",
        &bounds(20_000, 512),
    );
    assert!(matches!(refused, Err(Broken::Refused(_))), "{refused:?}");
}

#[test]
fn a_process_without_end_is_ended() {
    breaks(QUADRATIC, &bounds(500, 512), "took longer than 0.5 s");
}

#[test]
fn a_process_that_eats_memory_is_ended() {
    breaks(HUGE, &bounds(60_000, 64), "more than 64 MiB");
    breaks(ONE_BUILTIN, &bounds(60_000, 64), "more than 64 MiB");
}

#[test]
fn a_process_that_cannot_be_started_is_told() {
    let nothing = Worker { program: "/does/not/exist".into(), ..ourselves() };
    let broken = nothing.evaluate(&job(""), b"{}", &bounds(1_000, 128)).unwrap_err();
    assert!(matches!(broken, Broken::Process(_)), "{broken:?}");
    let silent = Worker { program: "/bin/false".into(), ..ourselves() };
    let broken = silent.evaluate(&job(""), b"{}", &bounds(10_000, 128)).unwrap_err();
    assert!(matches!(broken, Broken::Died { .. }), "{broken:?}");
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
    let bounds = bounds(200, 512);
    rego.limit_time(bounds.time);
    rego.set_input(Value::new_object());
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Ends(ended.clone());
    let broken = watched(&bounds, move || {
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
    let broken = watched(&Bounds::default(), || panic!("no {}", 1));
    assert_eq!(broken.unwrap_err().to_string(), "the policy engine panicked: no 1");
    assert_eq!(watched(&Bounds::default(), || 1).unwrap(), 1);
}

#[test]
fn values_nested_deeply_break_and_do_not_pass() {
    let outcome = ourselves().evaluate(&job(DEEP), b"{}", &Bounds { stack: 1 << 20, ..bounds(60_000, 1024) });
    assert!(matches!(outcome, Err(Broken::Stack)), "{outcome:?}");
    still_works();
}
