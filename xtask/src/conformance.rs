//! `cargo xtask conformance`: the Open Policy Agent project's own cases, asked of our policy engine as a user's policy would be.
//!
//! What is wanted is not only a high number of right answers, but no *silent* difference: a case that is not answered rightly has
//! to end in an error.

use crate::options::Options;
use crate::shell::{Failure, Result, workspace};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use windlass_policy::engine::{self, Rego};

pub const HELP: &str = "\
Usage: cargo xtask conformance opa --cases FILE [--show PATTERN] [--update]

Runs every case of FILE (one JSON object a line: note, query, modules, data, input or input_term, want_result or
want_error, strict_error) through the policy engine and compares. Each case is right, refused (an error when loading
or evaluating), silent (another answer without an error) or broken (panic, no end).

  --show PATTERN   print the cases whose note contains PATTERN, and what became of them
  --only PATTERN   run these cases alone; nothing is judged
  --update         write the list of expected refusals, which may only shrink

Fails when a case is silent or broken, when fewer than 1,780 are right, and when a case is refused that is not in
crates/windlass-policy/conformance/expected-refusals.txt.";

/// Fewer right answers are a failure.
const LEAST_RIGHT: usize = 1_780;
/// Cases whose wanted answer is that of an older version; the current one answers this.
const OUTDATED: [(&str, &str); 1] = [(
    "reachable_paths/cycle_1022_3",
    r#"[{"x":[["one","five","seven","eight","three"],["one","five","six","nine"],
        ["one","five","six","seven","eight","three"],["one","two","four","three"]]}]"#,
)];

/// What one case may take; a debug build is slow.
const TIME: Duration = Duration::from_secs(20);
const STACK: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Right,
    RefusedAtLoad,
    RefusedAtEvaluation,
    Silent,
    Broken,
}

impl Class {
    const ALL: [Self; 5] = [Self::Right, Self::RefusedAtLoad, Self::RefusedAtEvaluation, Self::Silent, Self::Broken];

    fn word(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::RefusedAtLoad => "load",
            Self::RefusedAtEvaluation => "evaluation",
            Self::Silent => "silent",
            Self::Broken => "broken",
        }
    }
}

struct Outcome {
    /// Unique: a note that several cases have is numbered from the second on.
    note: String,
    class: Class,
    detail: String,
}

pub fn command(arguments: Vec<String>) -> Result<()> {
    let usage = |why: &str| Failure::usage(format!("{why}\n\n{HELP}"));
    let (suite, rest) = arguments.split_first().ok_or_else(|| usage("which suite?"))?;
    if suite == "--help" || suite == "-h" {
        println!("{HELP}");
        return Ok(());
    }
    if suite != "opa" {
        return Err(usage(&format!("there is no suite `{suite}`")));
    }
    let options =
        Options::parse(rest.to_vec(), &["--update"], &["--cases", "--show", "--only"]).map_err(|why| usage(&why))?;
    if options.has("--help") {
        println!("{HELP}");
        return Ok(());
    }
    let file = options.value("--cases").ok_or_else(|| usage("`--cases FILE` is needed"))?;
    let text = std::fs::read_to_string(file).map_err(|error| Failure::new(format!("cannot read {file}: {error}")))?;
    let cases = named(&text)?;
    let only = options.value("--only");
    let chosen: Vec<(String, Value)> =
        cases.into_iter().filter(|(note, _)| only.is_none_or(|pattern| note.contains(pattern))).collect();
    let outcomes = run_all(&chosen);
    if let Some(pattern) = options.value("--show").or(only) {
        show(&chosen, &outcomes, pattern);
    }
    println!("{}", table(&outcomes));
    if only.is_some() {
        return Ok(());
    }
    judge(&outcomes, options.has("--update"))
}

fn expected_path() -> PathBuf {
    workspace().join("crates/windlass-policy/conformance/expected-refusals.txt")
}

/// The cases under unique names.
fn named(text: &str) -> Result<Vec<(String, Value)>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let case: Value =
            serde_json::from_str(line).map_err(|error| Failure::new(format!("line {}: {error}", index + 1)))?;
        let note = case["note"].as_str().ok_or_else(|| Failure::new(format!("line {}: no note", index + 1)))?;
        let note = note.split_whitespace().collect::<Vec<_>>().join(" ");
        let count = seen.entry(note.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { note } else { format!("{note} ({count})") };
        cases.push((name, case));
    }
    Ok(cases)
}

/// Two at a time or as many as there are cores; the order of the result is that of the cases.
fn run_all(cases: &[(String, Value)]) -> Vec<Outcome> {
    // A panic of the engine is counted, its text is of no use.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some((note, case)) = cases.get(index) else { return mine };
                        let (class, detail) = run_watched(case);
                        mine.push((index, Outcome { note: note.clone(), class, detail }));
                    }
                })
            })
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap_or_default()).collect()
    });
    std::panic::set_hook(hook);
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn run_watched(case: &Value) -> (Class, String) {
    let (sender, receiver) = mpsc::channel();
    let case = case.clone();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let result = std::panic::catch_unwind(|| run(&case));
        // Nobody listens any more when it took too long.
        let _ = sender.send(result);
    });
    if let Err(error) = thread {
        return (Class::Broken, format!("no thread: {error}"));
    }
    match receiver.recv_timeout(TIME) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            (Class::Broken, format!("panic: {}", text.unwrap_or_default()))
        }
        Err(_) => (Class::Broken, format!("no end within {} s", TIME.as_secs())),
    }
}

fn run(case: &Value) -> (Class, String) {
    let wants_error = case.get("want_error").is_some() || case.get("want_error_code").is_some();
    match answer(case) {
        Err((_, why)) if wants_error => (Class::Right, why),
        Err((class, why)) => (class, why),
        Ok(rows) if wants_error => {
            (Class::Silent, format!("an error is wanted, the answer was {}", Value::Array(rows)))
        }
        Ok(rows) => {
            let sorted = case["sort_bindings"].as_bool().unwrap_or_default();
            let wanted = case["want_result"].as_array().cloned().unwrap_or_default();
            let known: Option<BTreeSet<String>> = case["ignore_generated_vars"]
                .as_bool()
                .unwrap_or_default()
                .then(|| wanted.iter().filter_map(Value::as_object).flat_map(|row| row.keys().cloned()).collect());
            let rows = rows.into_iter().map(|row| only_known(row, known.as_ref())).collect();
            let (wanted, found) = (canonical(wanted, sorted), canonical(rows, sorted));
            let current = OUTDATED.iter().find(|(note, _)| case["note"] == *note);
            let current = current.and_then(|(_, answer)| serde_json::from_str(answer).ok());
            if same(current.as_ref().unwrap_or(&wanted), &found) {
                return (Class::Right, found.to_string());
            }
            (Class::Silent, format!("wanted {wanted}, found {found}"))
        }
    }
}

/// The answers as JSON, or where and why there are none.
fn answer(case: &Value) -> std::result::Result<Vec<Value>, (Class, String)> {
    let modules: Vec<(Arc<str>, String)> = case["modules"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, text)| (format!("case-{index}.rego").into(), text.as_str().unwrap_or_default().to_owned()))
        .collect();
    #[allow(clippy::needless_update, reason = "further options have their usual values here")]
    let options = engine::Options {
        strict_builtin_errors: case["strict_error"].as_bool().unwrap_or_default(),
        ..engine::Options::default()
    };
    let at_load = |why: String| (Class::RefusedAtLoad, why);
    let at_evaluation = |why: String| (Class::RefusedAtEvaluation, why);
    let mut rego = Rego::load(&modules, &options).map_err(|diagnostics| {
        let texts: Vec<String> = diagnostics.iter().map(|d| format!("{} {}", d.code, d.summary)).collect();
        at_load(texts.join("; "))
    })?;
    if let Some(data) = case.get("data") {
        rego.add_data(data).map_err(at_load)?;
    }
    if let Some(term) = case["input_term"].as_str() {
        let mut terms = Rego::load(&[], &options).map_err(|_| at_load("no empty engine".into()))?;
        let rows = terms.eval_query(&format!("term = {term}")).map_err(|error| at_evaluation(format!("{error:?}")))?;
        let value = rows.into_iter().find_map(|mut row| row.remove("term"));
        rego.set_input(value.ok_or_else(|| at_evaluation("the input term has no value".into()))?);
    } else if let Some(input) = case.get("input") {
        rego.set_input(input.clone().into());
    }
    let query = case["query"].as_str().unwrap_or_default();
    let rows = rego.eval_query(query).map_err(|error| at_evaluation(format!("{error:?}")))?;
    rows.into_iter().map(|row| serde_json::to_value(row).map_err(|error| at_evaluation(error.to_string()))).collect()
}

fn only_known(row: Value, known: Option<&BTreeSet<String>>) -> Value {
    match (row, known) {
        (Value::Object(row), Some(known)) => {
            Value::Object(row.into_iter().filter(|(name, _)| known.contains(name)).collect())
        }
        (row, _) => row,
    }
}

/// Answers in an order of their own; where the case says so, the elements of every variable's array too.
fn canonical(mut rows: Vec<Value>, sorted: bool) -> Value {
    if sorted {
        for value in rows.iter_mut().filter_map(Value::as_object_mut).flat_map(|row| row.values_mut()) {
            if let Value::Array(items) = value {
                items.sort_by_key(key);
            }
        }
    }
    rows.sort_by_key(key);
    Value::Array(rows)
}

/// A text that is the same for values that are the same.
fn key(value: &Value) -> String {
    match value {
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string()),
        Value::Array(items) => items.iter().map(|item| key(item) + ",").collect::<String>() + "]",
        Value::Object(fields) => {
            let fields: BTreeMap<&String, String> = fields.iter().map(|(name, value)| (name, key(value))).collect();
            format!("{fields:?}")
        }
        other => other.to_string(),
    }
}

/// Equal as JSON: `1` is `1.0`, and objects have no order.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let whole = |n: &serde_json::Number| n.as_i128().or_else(|| n.to_string().parse().ok());
            match (whole(x), whole(y)) {
                (Some(x), Some(y)) => x == y,
                _ => x.as_f64() == y.as_f64(),
            }
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(name, value)| y.get(name).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

fn show(cases: &[(String, Value)], outcomes: &[Outcome], pattern: &str) {
    for ((_, case), outcome) in cases.iter().zip(outcomes) {
        let line = format!("{} {}", outcome.class.word(), outcome.note);
        if outcome.class != Class::Right && (line.contains(pattern) || outcome.detail.contains(pattern)) {
            println!("{line}\n    {}", outcome.detail.replace('\n', "\n    "));
            if let Some(error) = case.get("want_error") {
                println!("    wanted error: {error}");
            }
        }
    }
}

/// Counts by group (what the note says before `/`), the groups that are all right in one line.
fn table(outcomes: &[Outcome]) -> String {
    let mut groups: BTreeMap<&str, [usize; 5]> = BTreeMap::new();
    let mut total = [0; 5];
    for outcome in outcomes {
        let group = outcome.note.split('/').next().unwrap_or_default();
        groups.entry(group).or_default()[outcome.class as usize] += 1;
        total[outcome.class as usize] += 1;
    }
    let mut text = format!("{:<44}", "group");
    for class in Class::ALL {
        text.push_str(&format!("{:>12}", class.word()));
    }
    let row = |name: &str, counts: &[usize; 5]| {
        let counts: String = counts.iter().map(|count| format!("{count:>12}")).collect();
        format!("\n{name:<44}{counts}")
    };
    let all_right = |counts: &[usize; 5]| counts[1..].iter().sum::<usize>() == 0;
    for (group, counts) in groups.iter().filter(|(_, counts)| !all_right(counts)) {
        text.push_str(&row(group, counts));
    }
    let fine = groups.values().filter(|counts| all_right(counts)).count();
    text.push_str(&format!("\n{fine} more groups are all right"));
    text.push_str(&row(&format!("all {} cases", outcomes.len()), &total));
    text
}

/// One line for each refused case: its note and where it was refused.
fn refusals(outcomes: &[Outcome]) -> BTreeMap<String, &'static str> {
    outcomes
        .iter()
        .filter(|outcome| matches!(outcome.class, Class::RefusedAtLoad | Class::RefusedAtEvaluation))
        .map(|outcome| (outcome.note.clone(), outcome.class.word()))
        .collect()
}

fn judge(outcomes: &[Outcome], update: bool) -> Result<()> {
    let count = |class: Class| outcomes.iter().filter(|outcome| outcome.class == class).count();
    let refused = refusals(outcomes);
    let path = expected_path();
    let expected: Option<BTreeSet<String>> = std::fs::read_to_string(&path)
        .ok()
        .map(|text| text.lines().filter_map(|line| line.rsplit_once('\t').map(|(note, _)| note.to_owned())).collect());
    let unexpected: Vec<&String> =
        refused.keys().filter(|note| !expected.as_ref().is_some_and(|expected| expected.contains(*note))).collect();
    let mut failures = Vec::new();
    if update && (expected.is_none() || unexpected.is_empty()) {
        let text: String = refused.iter().map(|(note, class)| format!("{note}\t{class}\n")).collect();
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        println!("{} expected refusals in {}", refused.len(), path.display());
    } else if !unexpected.is_empty() {
        let names: Vec<&str> = unexpected.iter().take(20).map(|note| note.as_str()).collect();
        failures.push(format!(
            "{} cases are refused that were not expected to be: {}{}",
            unexpected.len(),
            names.join(", "),
            if unexpected.len() > 20 { ", …" } else { "" }
        ));
    }
    if count(Class::Silent) > 0 {
        failures.push(format!("{} cases differ silently", count(Class::Silent)));
    }
    if count(Class::Broken) > 0 {
        failures.push(format!("{} cases broke the engine", count(Class::Broken)));
    }
    if count(Class::Right) < LEAST_RIGHT {
        failures.push(format!("{} cases are right, fewer than {LEAST_RIGHT}", count(Class::Right)));
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(case: Value, want: Class) {
        let (class, detail) = run_watched(&case);
        assert_eq!(class, want, "{detail}");
    }

    #[test]
    fn a_case_is_right_refused_or_silent() {
        let query = "data.p.x = x";
        let modules = json!(["package p\nx := input.y + 1"]);
        check(json!({"query": query, "modules": modules, "input": {"y": 1}, "want_result": [{"x": 2}]}), Class::Right);
        check(json!({"query": query, "modules": modules, "input": {"y": 1}, "want_result": [{"x": 3}]}), Class::Silent);
        check(json!({"query": query, "modules": modules, "want_result": []}), Class::Right);
        check(json!({"query": query, "modules": modules, "input": {"y": 1}, "want_error": "no"}), Class::Silent);
        check(json!({"query": query, "modules": ["package p\nx :="], "want_result": [{"x": 2}]}), Class::RefusedAtLoad);
        check(json!({"query": query, "modules": ["package p\nx :="], "want_error": "parse"}), Class::Right);
        let divides = json!(["package p\nx := 1 / input.y"]);
        let zero = json!({"y": 0});
        check(json!({"query": query, "modules": divides, "input": zero, "want_result": []}), Class::Right);
        check(
            json!({"query": query, "modules": divides, "input": zero, "want_result": [], "strict_error": true}),
            Class::RefusedAtEvaluation,
        );
        check(
            json!({"query": "data.p.x = x", "modules": ["package p\nx contains input[_]"], "input_term": "{3, 1}",
                "want_result": [{"x": [3, 1]}], "sort_bindings": true}),
            Class::Right,
        );
    }

    #[test]
    fn values_are_compared_as_json() {
        assert!(same(&json!({"a": 1, "b": [1.0]}), &json!({"b": [1], "a": 1.0})));
        assert!(!same(&json!([1, 2]), &json!([2, 1])));
        assert!(!same(&json!({"a": null}), &json!({})));
        assert!(!same(&json!(9007199254740993_i64), &json!(9007199254740992_i64)));
    }

    #[test]
    fn names_are_unique() {
        let cases = named("{\"note\":\"a/b\"}\n{\"note\":\"a/b\"}\n{\"note\":\"a  c\"}\n").unwrap();
        let names: Vec<&str> = cases.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a/b", "a/b (2)", "a c"]);
        assert!(named("{}").is_err());
    }
}
