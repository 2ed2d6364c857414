//! Tests of policies: the rules that begin with `test_`, each judged on its own, with the line that was not true.

use crate::conftest::{self, Head, Judgement, Outcome, Reader, bounded};
use crate::engine::{Options, Rego};
use crate::limits::{Apart, Ask, Job, Limits, Worker};
use regorus::Value;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_model::diagnostic::{Diagnostic, Span};

/// Lines of a file that were and were not evaluated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub file: Arc<str>,
    pub covered: BTreeSet<u32>,
    pub missed: BTreeSet<u32>,
}

/// Which tests run.
#[derive(Debug, Clone, Default)]
pub struct TestOptions {
    /// Only tests whose path (`data.main.test_x`) this finds something in.
    pub run: Option<regex::Regex>,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Passed,
    /// With the statement that was not true, where it is known.
    Failed {
        line: Option<Line>,
    },
    /// Its name begins with `todo_`.
    Skipped,
    Broken(Box<Diagnostic>),
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub span: Span,
    pub text: String,
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// e.g. `data.main.test_denies_public`.
    pub path: String,
    pub span: Span,
    pub verdict: Verdict,
    pub prints: Vec<String>,
    pub took: Duration,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TestRun {
    /// In the order of files and lines.
    pub tests: Vec<TestResult>,
    /// Of the files that hold no tests, sorted.
    pub coverage: Vec<Coverage>,
}

impl TestRun {
    /// Covered lines in percent of all that could be; 100 when there is none.
    pub fn percent(&self) -> f64 {
        let covered: usize = self.coverage.iter().map(|file| file.covered.len()).sum();
        let missed: usize = self.coverage.iter().map(|file| file.missed.len()).sum();
        if covered + missed == 0 { 100.0 } else { covered as f64 * 100.0 / (covered + missed) as f64 }
    }

    /// In the shape of a check, for the outputs that both have: an outcome for each test.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |test: &TestResult| {
            let mut outcome = Outcome { file: test.span.file.to_string(), ..Outcome::default() };
            let place = match &test.verdict {
                Verdict::Failed { line: Some(line) } => Some((line.span.file.to_string(), Some(line.span.line))),
                _ => None,
            };
            let judgement = Judgement { message: test.path.clone(), place, ..Judgement::default() };
            match &test.verdict {
                Verdict::Passed => outcome.successes = 1,
                Verdict::Failed { .. } => outcome.failures.push(judgement),
                Verdict::Skipped => outcome.skipped.push(judgement),
                Verdict::Broken(diagnostic) => outcome.broken.push((**diagnostic).clone()),
            }
            outcome.prints.clone_from(&test.prints);
            outcome
        };
        self.tests.iter().map(outcome).collect()
    }
}

/// Runs the tests of Rego files (path, text) with data documents; `reader` is what `parse_config_file` reads with.
///
/// # Errors
/// The files or data cannot be loaded.
pub fn test(
    files: &[(Arc<str>, String)],
    data: &[(Arc<str>, Json)],
    options: &TestOptions,
    limits: &Limits,
    reader: Option<Reader>,
) -> Result<TestRun, Vec<Diagnostic>> {
    let rego = load(files, data, reader)?;
    run(files, options, |path| evaluate(&rego, path, limits))
}

/// As [`test()`], in a process of its own: memory and stack are limited there.
///
/// # Errors
/// As [`test()`].
pub fn test_apart(
    files: &[(Arc<str>, String)],
    data: &[(Arc<str>, Json)],
    options: &TestOptions,
    limits: &Limits,
    reader: Reader,
    worker: Worker,
) -> Result<TestRun, Vec<Diagnostic>> {
    let apart = Apart::new(Job::tests(files, data, &reader), Some(worker), false);
    load(files, data, Some(reader))?;
    run(files, options, |path| {
        let ask = Ask::Test { path: path.to_owned() };
        let evaluated = apart.ask(&ask, None, limits, |(holds, _, _): &Evaluated| holds.is_err());
        evaluated.unwrap_or_else(|why| (Err(why.to_string()), Vec::new(), Vec::new()))
    })
}

pub(crate) fn load(
    files: &[(Arc<str>, String)],
    data: &[(Arc<str>, Json)],
    reader: Option<Reader>,
) -> Result<Rego, Vec<Diagnostic>> {
    let mut rego = Rego::load(files, &Options::default())?;
    crate::conftest::register_parsers(&mut rego, true, reader)
        .map_err(|error| vec![Diagnostic::error("WL406", format!("the engine refuses parse_config: {error}"))])?;
    for (path, value) in data {
        rego.add_data(value).map_err(|error| {
            let summary = format!("policy data {path} cannot be used: {error}");
            vec![Diagnostic::error("WL401", summary).at(Span::file(path.clone()))]
        })?;
    }
    rego.enable_coverage();
    Ok(rego)
}

fn run(
    files: &[(Arc<str>, String)],
    options: &TestOptions,
    mut evaluate: impl FnMut(&str) -> Evaluated,
) -> Result<TestRun, Vec<Diagnostic>> {
    let texts: BTreeMap<&str, &str> = files.iter().map(|(path, text)| (&**path, text.as_str())).collect();
    let heads: Vec<Head> = conftest::files(files)?.into_iter().flat_map(|file| file.heads).collect();
    let mut run = TestRun::default();
    let mut coverage: BTreeMap<Arc<str>, Coverage> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for head in &heads {
        let is_todo = head.name.starts_with("todo_test_");
        let chosen = options.run.as_ref().is_none_or(|run| run.is_match(&head.path()));
        if !(is_todo || head.name.starts_with("test_")) || head.is_function || !chosen || !seen.insert(head.path()) {
            continue;
        }
        let mut result = TestResult {
            path: head.path(),
            span: head.span.clone(),
            verdict: Verdict::Skipped,
            prints: Vec::new(),
            took: Duration::ZERO,
        };
        if !is_todo {
            let started = Instant::now();
            let (answer, prints, lines) = evaluate(&head.path());
            result.took = started.elapsed();
            result.prints = prints;
            let bodies: Vec<&Head> = heads.iter().filter(|other| other.path() == head.path()).collect();
            result.verdict = match answer {
                Ok(true) => Verdict::Passed,
                Ok(false) => Verdict::Failed { line: failing_line(&bodies, &lines, &texts) },
                Err(why) => {
                    let reason = why.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(&why).to_owned();
                    let summary = format!("test {} could not be evaluated: {reason}", head.path());
                    Verdict::Broken(Box::new(Diagnostic::error("WL437", summary).at(head.span.clone())))
                }
            };
            for file in lines {
                let sum = coverage
                    .entry(file.file.clone())
                    .or_insert_with(|| Coverage { file: file.file.clone(), ..Coverage::default() });
                sum.covered.extend(file.covered);
                sum.missed.extend(file.missed);
            }
        }
        run.tests.push(result);
    }
    let test_files: BTreeSet<&str> = run.tests.iter().map(|test| &*test.span.file).collect();
    run.coverage = coverage
        .into_values()
        .filter(|file| !test_files.contains(&*file.file) && texts.contains_key(&*file.file))
        .map(|mut file| {
            file.missed.retain(|line| !file.covered.contains(line));
            file
        })
        .collect();
    run.tests.sort_by(|a, b| a.span.cmp(&b.span));
    Ok(run)
}

/// Whether a test holds, what was printed, and the lines that were reached.
pub(crate) type Evaluated = (Result<bool, String>, Vec<String>, Vec<Coverage>);

pub(crate) fn evaluate(rego: &Rego, path: &str, limits: &Limits) -> Evaluated {
    let mut rego = rego.clone();
    rego.limit_time(limits.time);
    let path = path.to_owned();
    let work = move || {
        let answer = rego.eval_rule(&path).map(|value| value == Value::Bool(true));
        let prints = conftest::prints(&mut rego);
        let lines = rego.take_coverage().unwrap_or_default().into_iter().map(|(file, lines)| Coverage {
            file: file.into(),
            covered: lines.covered,
            missed: lines.not_covered,
        });
        (answer, prints, lines.collect())
    };
    bounded(limits, work).unwrap_or_else(|why| (Err(why), Vec::new(), Vec::new()))
}

/// The last line of a body that was evaluated: what stands there was not true.
fn failing_line(bodies: &[&Head], lines: &[Coverage], texts: &BTreeMap<&str, &str>) -> Option<Line> {
    let (head, line) = bodies.iter().rev().find_map(|head| {
        let file = lines.iter().find(|file| file.file == head.span.file)?;
        let within = |line: &u32| (head.span.line..=head.last_line).contains(line);
        Some((head, file.covered.iter().copied().filter(within).max()?))
    })?;
    let text = texts.get(&*head.span.file)?.lines().nth(line as usize - 1)?;
    let column = (text.len() - text.trim_start().len()) as u32 + 1;
    let end_column = text.trim_end().chars().count() as u32 + 1;
    let span = Span { file: head.span.file.clone(), line, column, end_line: line, end_column };
    Some(Line { span, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(texts: &[(&str, &str)], options: &TestOptions) -> TestRun {
        let files: Vec<(Arc<str>, String)> =
            texts.iter().map(|(path, text)| ((*path).into(), (*text).to_owned())).collect();
        test(&files, &[], options, &Limits::default(), None).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
    }

    const RULE: &str = "package main\nimport rego.v1\ndeny contains \"bad\" if {\n\tinput.bad\n\tinput.worse\n}\nwarn contains \"never\" if {\n\tinput.x\n\tinput.y\n}\n";
    const TEST: &str = "package main\nimport rego.v1\n\ntest_ok if count(deny) == 1 with input as {\"bad\": true, \"worse\": true}\n\ntest_bad if {\n\tx := 1\n\tprint(\"hello\", x)\n\tx == 2\n\tx < 5\n}\n\ntodo_test_x if false\n\ntest_two := 2\n\ntest_broken if {\n\tto_number(\"x\") == 1\n}\n\ntest_one if 1 == 2\n";

    #[test]
    fn tests_pass_fail_skip_and_break() {
        let run = run(&[("a.rego", RULE), ("a_test.rego", TEST)], &TestOptions::default());
        let got: Vec<String> = run
            .tests
            .iter()
            .map(|test| {
                let verdict = match &test.verdict {
                    Verdict::Passed => "passed".to_owned(),
                    Verdict::Failed { line } => format!(
                        "failed {}",
                        line.as_ref().map_or_else(String::new, |line| format!("{} {}", line.span, line.text.trim()))
                    ),
                    Verdict::Skipped => "skipped".to_owned(),
                    Verdict::Broken(diagnostic) => format!("broken {}", diagnostic.code),
                };
                format!("{} {verdict} {}", test.path, test.prints.join(","))
            })
            .collect();
        assert_eq!(got.len(), 6, "{got:?}");
        assert_eq!(got[0], "data.main.test_ok passed ");
        assert!(
            got[1].starts_with("data.main.test_bad failed a_test.rego:9 x == 2 ") && got[1].contains("hello 1"),
            "{got:?}"
        );
        assert_eq!(got[2], "data.main.todo_test_x skipped ");
        assert!(got[3].starts_with("data.main.test_two failed "), "{got:?}");
        assert_eq!(got[4], "data.main.test_broken broken WL437 ");
        assert_eq!(got[5], "data.main.test_one failed a_test.rego:21 test_one if 1 == 2 ");
        let outcomes = run.outcomes();
        assert_eq!(
            crate::output::Tally::of(&outcomes).to_string(),
            "6 tests, 1 passed, 0 warnings, 3 failures, 0 exceptions, 1 skipped, 1 broken"
        );
    }

    #[test]
    fn covered_lines_are_counted_without_the_tests() {
        let all = run(&[("a.rego", RULE), ("a_test.rego", TEST)], &TestOptions::default());
        assert_eq!(all.coverage.len(), 1, "{:?}", all.coverage);
        assert_eq!(&*all.coverage[0].file, "a.rego");
        assert!(all.coverage[0].covered.is_superset(&BTreeSet::from([4, 5])), "{:?}", all.coverage);
        assert!(all.coverage[0].missed.is_superset(&BTreeSet::from([8, 9])), "{:?}", all.coverage);
        assert!(all.percent() > 10.0 && all.percent() < 90.0, "{}", all.percent());
    }

    #[test]
    fn tests_are_chosen_by_a_pattern() {
        let options = TestOptions { run: Some(regex::Regex::new("main.test_o").unwrap()) };
        let run = run(&[("a.rego", RULE), ("a_test.rego", TEST)], &options);
        let paths: Vec<&str> = run.tests.iter().map(|test| test.path.as_str()).collect();
        assert_eq!(paths, ["data.main.test_ok", "data.main.test_one"]);
    }
}
