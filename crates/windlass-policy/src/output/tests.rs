use super::*;
use serde_json::json;
use windlass_model::diagnostic::{Diagnostic, Span};

fn judgement(rule: &str, message: &str) -> Judgement {
    let mut made = Judgement { message: message.into(), rule: format!("data.main.{rule}"), ..Judgement::default() };
    made.metadata.insert("query".into(), made.rule.clone().into());
    made
}

fn outcomes() -> Vec<Outcome> {
    let mut object = judgement("deny_obj", "object");
    object.metadata.insert("sev".into(), 1.into());
    object.place = Some(("x.tf".into(), Some(7)));
    let of = |file: &str, successes| Outcome {
        file: file.into(),
        namespace: "main".into(),
        successes,
        ..Outcome::default()
    };
    let exception =
        |name: &str| Judgement { message: format!("data.main.exception[_][_] == \"{name}\""), ..Judgement::default() };
    vec![
        Outcome {
            warnings: vec![judgement("warn", "careful")],
            failures: vec![judgement("deny", "is bad"), object, judgement("violation_v", "viol")],
            ..of("t1.json", 1)
        },
        Outcome {
            failures: vec![judgement("deny_name", "t2.json")],
            exceptions: vec![exception("obj"), exception("v")],
            ..of("t2.json", 2)
        },
        of("t3.json", 5),
    ]
}

#[track_caller]
fn check(format: Format, want: &str) {
    let view = View { compatible: true, exit_code: 1, ..View::default() };
    assert_eq!(render(&outcomes(), format, &view), want);
}

#[test]
fn text_is_a_line_per_result() {
    check(
        Format::Text,
        r#"WARN - t1.json - main - careful
FAIL - t1.json - main - is bad
FAIL - t1.json - main - object
FAIL - t1.json - main - viol
FAIL - t2.json - main - t2.json
EXCP - t2.json - main - data.main.exception[_][_] == "obj"
EXCP - t2.json - main - data.main.exception[_][_] == "v"

15 tests, 8 passed, 1 warning, 4 failures, 2 exceptions
"#,
    );
}

#[test]
fn json_is_a_list_of_outcomes() {
    let text = render(&outcomes(), Format::Json, &View { compatible: true, ..View::default() });
    assert!(text.starts_with("[\n\t{\n\t\t\"filename\": \"t1.json\",\n"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value,
        json!([
            {"filename": "t1.json", "namespace": "main", "successes": 1,
                "warnings": [{"msg": "careful", "metadata": {"query": "data.main.warn"}}],
                "failures": [
                    {"msg": "is bad", "metadata": {"query": "data.main.deny"}},
                    {"msg": "object", "loc": {"file": "x.tf", "line": 7}, "metadata": {"query": "data.main.deny_obj", "sev": 1}},
                    {"msg": "viol", "metadata": {"query": "data.main.violation_v"}},
                ]},
            {"filename": "t2.json", "namespace": "main", "successes": 2,
                "failures": [{"msg": "t2.json", "metadata": {"query": "data.main.deny_name"}}],
                "exceptions": [{"msg": "data.main.exception[_][_] == \"obj\""}, {"msg": "data.main.exception[_][_] == \"v\""}]},
            {"filename": "t3.json", "namespace": "main", "successes": 5},
        ])
    );
}

#[test]
fn tap_numbers_its_lines() {
    check(
        Format::Tap,
        r#"1..15
not ok 1 - t1.json - main - is bad
not ok 2 - t1.json - main - object
not ok 3 - t1.json - main - viol
# warnings
not ok 4 - t1.json - main - careful
# successes
ok 5 - t1.json - main - SUCCESS
not ok 6 - t2.json - main - t2.json
# exceptions
ok 7 - t2.json - main - data.main.exception[_][_] == "obj"
ok 8 - t2.json - main - data.main.exception[_][_] == "v"
# successes
ok 9 - t2.json - main - SUCCESS
ok 10 - t2.json - main - SUCCESS
# successes
ok 11 - t3.json - main - SUCCESS
ok 12 - t3.json - main - SUCCESS
ok 13 - t3.json - main - SUCCESS
ok 14 - t3.json - main - SUCCESS
ok 15 - t3.json - main - SUCCESS
"#,
    );
}

#[test]
fn tables_have_a_row_per_result() {
    check(
        Format::Table,
        r#"┌───────────┬─────────┬───────────┬────────────────────────────────────┐
│  RESULT   │  FILE   │ NAMESPACE │              MESSAGE               │
├───────────┼─────────┼───────────┼────────────────────────────────────┤
│ success   │ t1.json │ main      │ SUCCESS                            │
│ warning   │ t1.json │ main      │ careful                            │
│ failure   │ t1.json │ main      │ is bad                             │
│ failure   │ t1.json │ main      │ object                             │
│ failure   │ t1.json │ main      │ viol                               │
│ success   │ t2.json │ main      │ SUCCESS                            │
│ success   │ t2.json │ main      │ SUCCESS                            │
│ exception │ t2.json │ main      │ data.main.exception[_][_] == "obj" │
│ exception │ t2.json │ main      │ data.main.exception[_][_] == "v"   │
│ failure   │ t2.json │ main      │ t2.json                            │
│ success   │ t3.json │ main      │ SUCCESS                            │
│ success   │ t3.json │ main      │ SUCCESS                            │
│ success   │ t3.json │ main      │ SUCCESS                            │
│ success   │ t3.json │ main      │ SUCCESS                            │
│ success   │ t3.json │ main      │ SUCCESS                            │
└───────────┴─────────┴───────────┴────────────────────────────────────┘
"#,
    );
}

#[test]
fn junit_has_a_suite_per_namespace() {
    let passed = "\t\t<testcase classname=\"conftest.main\" name=\"t3.json\" time=\"0.000\"></testcase>\n".repeat(5);
    let failed = |name: &str, message: &str| {
        format!(
            "\t\t<testcase classname=\"conftest.main\" name=\"{name} - {message}\" time=\"0.000\">\n\t\t\t<failure message=\"Failed\" type=\"\">{message}</failure>\n\t\t</testcase>\n"
        )
    };
    let one =
        |name: &str| format!("\t\t<testcase classname=\"conftest.main\" name=\"{name}\" time=\"0.000\"></testcase>\n");
    let want = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\t<testsuite tests=\"13\" failures=\"5\" time=\"0.000\" name=\"conftest.main\">\n{}{}{}{}{}{}{}{}{passed}\t</testsuite>\n</testsuites>\n",
        failed("t1.json", "careful"),
        failed("t1.json", "is bad"),
        failed("t1.json", "object"),
        failed("t1.json", "viol"),
        one("t1.json"),
        failed("t2.json", "t2.json"),
        one("t2.json"),
        one("t2.json"),
    );
    check(Format::Junit, &want);
}

#[test]
fn runners_get_annotations() {
    check(
        Format::Github,
        r#"::group::Testing "t1.json" against 5 policies in namespace "main"
::error file=t1.json,line=1::is bad
::error file=x.tf,line=7::object
::error file=t1.json,line=1::(ORIGINATING FROM x.tf L7) object
::error file=t1.json,line=1::viol
::warning file=t1.json,line=1::careful
::notice file=t1.json,line=1::Number of successful checks: 1
::endgroup::
::group::Testing "t2.json" against 5 policies in namespace "main"
::error file=t2.json,line=1::t2.json
::notice file=t2.json,line=1::data.main.exception[_][_] == "obj"
::notice file=t2.json,line=1::data.main.exception[_][_] == "v"
::notice file=t2.json,line=1::Number of successful checks: 2
::endgroup::
::group::Testing "t3.json" against 5 policies in namespace "main"
::notice file=t3.json,line=1::Number of successful checks: 5
::endgroup::
15 tests, 8 passed, 1 warning, 4 failures, 2 exceptions
"#,
    );
    check(
        Format::Azuredevops,
        r#"##[section]Testing 't1.json' against 5 policies in namespace 'main'
##[group]See conftest results
##vso[task.logissue type=error] file=t1.json --> is bad
##vso[task.logissue type=error] file=t1.json --> object
##vso[task.logissue type=error] file=t1.json --> viol
##vso[task.logissue type=warning] file=t1.json --> careful
success file=t1.json 1
##[endgroup]
##[section]Testing 't2.json' against 5 policies in namespace 'main'
##[group]See conftest results
##vso[task.logissue type=error] file=t2.json --> t2.json
##vso[task.logissue type=warning] file=t2.json --> data.main.exception[_][_] == "obj"
##vso[task.logissue type=warning] file=t2.json --> data.main.exception[_][_] == "v"
success file=t2.json 2
##[endgroup]
##[section]Testing 't3.json' against 5 policies in namespace 'main'
##[group]See conftest results
success file=t3.json 5
##[endgroup]
15 tests, 8 passed, 1 warning, 4 failures, 2 exceptions
"#,
    );
}

#[test]
fn a_message_cannot_be_a_command_of_the_runner() {
    let mut outcome = outcomes().remove(0);
    outcome.failures = vec![judgement("deny", "a\n::set-output name=x::y\r%0A")];
    outcome.file = "a,b:c\n".into();
    let text = render(&[outcome], Format::Github, &View::default());
    assert!(text.contains("::error file=a%2Cb%3Ac%0A,line=1::a%0A::set-output name=x::y%0D%250A\n"), "{text}");
    assert!(text.lines().all(|line| !line.starts_with("::set-output")), "{text}");
}

#[test]
fn sarif_has_rules_places_and_severities() {
    let mut all = outcomes();
    all[0].failures[0].severity = Some(windlass_model::review::Severity::High);
    all[0].failures[0].policy = Some(Span { line: 3, ..Span::file("policy/a.rego") });
    all[0].failures[0].address = Some("aws_s3_bucket.b".into());
    all[2].broken.push(Diagnostic::error("WL406", "broke").at(Span { line: 9, ..Span::file("policy/b.rego") }));
    let text = render(&all, Format::Sarif, &View { exit_code: 3, ..View::default() });
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let run = &value["runs"][0];
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    assert_eq!(run["invocations"][0]["exitCode"], 3);
    let result = &run["results"][0];
    assert_eq!((result["ruleId"].as_str(), result["level"].as_str()), (Some("main/deny"), Some("error")));
    assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "t1.json");
    assert_eq!(result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "aws_s3_bucket.b");
    assert_eq!(result["relatedLocations"][0]["physicalLocation"]["region"]["startLine"], 3);
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules[0]["properties"]["security-severity"], "8.0");
    for result in run["results"].as_array().unwrap() {
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    assert!(run["results"].as_array().unwrap().iter().any(|result| result["ruleId"] == "WL406"));
}

#[test]
fn what_broke_is_in_every_output() {
    let mut outcome = outcomes().remove(2);
    outcome.broken.push(Diagnostic::error("WL406", "it broke <here>"));
    for (name, format) in Format::NAMES {
        let text = render(std::slice::from_ref(&outcome), format, &View { quiet: true, ..View::default() });
        assert!(text.contains("WL406") && text.contains("it broke"), "{name}: {text}");
    }
    assert_eq!(render(&outcomes()[2..], Format::Text, &View { quiet: true, ..View::default() }), "");
}
