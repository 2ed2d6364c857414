//! `policy check|test|fmt|eval|explain`: policies on files, without a review. Exit codes are Conftest's, with one of its own for a gate
//! that broke.

use super::policy_library;
use crate::arguments::{Policy, PolicyCheck, PolicySources, PolicyTest};
use crate::terminal::clean;
use crate::{Context, print, print_json, views};
use std::path::Path;
use windlass_app::error::{AppError, ErrorKind};
use windlass_app::policy_check::query::{Query, eval};
use windlass_app::policy_check::{
    self, BROKEN, Explanation, Flags, Format, Outcome, Settings, Tally, TestRun, Verdict, View, Within,
};
use windlass_model::codes;
use windlass_model::diagnostic::{Diagnostic, Severity};

/// Runs a command and gives its exit code.
pub fn dispatch(cx: &Context, command: Policy) -> Result<u8, AppError> {
    let limits = windlass_app::settings::Settings::of_process()?.policy_limits;
    let within = Within { limits, worker: crate::policy_worker() };
    let answer = match command {
        Policy::Library => return policy_library::list(cx),
        Policy::Init { names, force } => return policy_library::init(cx, &names, force),
        Policy::Check(arguments) => check(cx, *arguments, &within),
        Policy::Test(arguments) => test(cx, arguments, &within),
        Policy::Fmt { files, check } => fmt(cx, &files, check),
        Policy::Eval { query, input, compare, sources } => {
            answer_query(cx, &Query { text: query, input, compare }, sources, &within)
        }
        Policy::Explain { what, sources } => explain(cx, &what, sources),
        // Answered elsewhere: they have the exit codes of all other commands.
        Policy::Decisions(_) => return Err(windlass_app::error::internal("a command without an implementation")),
    };
    // Whatever kept a gate from judging is a gate that broke.
    answer.map_err(|diagnostics| AppError::many(ErrorKind::Unavailable, diagnostics))
}

type Answer = Result<u8, Vec<Diagnostic>>;

fn flags(sources: PolicySources) -> Flags {
    Flags {
        policy: sources.policy,
        data: sources.data,
        rego_version: sources.rego_version,
        config_file: sources.config_file,
        ..Flags::default()
    }
}

fn settings(cx: &Context, mut flags: Flags) -> Result<Settings, Vec<Diagnostic>> {
    if cx.json {
        flags.output = Some("json".into());
    }
    let variable = |name: &str| std::env::var(name).ok();
    let (settings, warnings) = Settings::resolve(&cx.directory, flags, &variable)?;
    eprint!("{}", views::diagnostic::render_all(cx.err, &warnings));
    Ok(settings)
}

fn check(cx: &Context, arguments: PolicyCheck, within: &Within) -> Answer {
    let files = arguments.files;
    let settings = settings(
        cx,
        Flags {
            namespace: arguments.namespace,
            all_namespaces: arguments.all_namespaces,
            combine: arguments.combine,
            parser: arguments.parser,
            ignore: arguments.ignore,
            fail_on_warn: arguments.fail_on_warn,
            no_fail: arguments.no_fail,
            output: arguments.output,
            strict: arguments.strict,
            compatible: arguments.compatible,
            quiet: arguments.quiet,
            show_builtin_errors: arguments.show_builtin_errors,
            suppress_exceptions: arguments.suppress_exceptions,
            trace: arguments.trace,
            github_hide_passed: arguments.github_hide_passed,
            junit_hide_message: arguments.junit_hide_message,
            stdin_filename: arguments.stdin_filename,
            ..flags(arguments.sources)
        },
    )?;
    let mut answer = policy_check::check(&cx.directory, &files, &settings, &mut std::io::stdin().lock(), within);
    let code = answer.exit_code(&settings);
    for outcome in &answer.outcomes {
        prints(cx, &outcome.prints);
        for line in &outcome.trace {
            eprintln!("{} {}: {}", cx.err.dim("trace:"), clean(&outcome.file), clean(line));
        }
        eprint!("{}", views::diagnostic::render_all(cx.err, &outcome.broken));
    }
    let shown = answer.diagnostics.iter().filter(|d| !settings.quiet || d.severity != Severity::Notice);
    eprint!("{}", views::diagnostic::render_all(cx.err, &shown.cloned().collect::<Vec<_>>()));
    answer.outcomes.extend(policy_check::unloaded(&answer.diagnostics));
    let view = View {
        color: cx.out.color,
        quiet: settings.quiet,
        suppress_exceptions: settings.suppress_exceptions,
        hide_passed: settings.github_hide_passed,
        hide_message: settings.junit_hide_message,
        compatible: settings.mode == policy_check::Mode::Compatible,
        exit_code: code,
    };
    print(&policy_check::render(&answer.outcomes, settings.format, &view));
    Ok(code)
}

fn prints(cx: &Context, lines: &[String]) {
    for line in lines {
        eprintln!("{} {}", cx.err.dim("print:"), clean(line.trim_end()));
    }
}

fn test(cx: &Context, arguments: PolicyTest, within: &Within) -> Answer {
    let settings = settings(cx, Flags { output: arguments.output, ..flags(arguments.sources) })?;
    let options = policy_check::test_options(arguments.run.as_deref())?;
    let run = policy_check::test(&cx.directory, &arguments.paths, &settings, &options, within)?;
    let outcomes = run.outcomes();
    let tally = Tally::of(&outcomes);
    let too_little = arguments.threshold.is_some_and(|threshold| run.percent() < f64::from(threshold));
    let code = match () {
        () if tally.broken > 0 => BROKEN,
        () if tally.failures > 0 || too_little => 1,
        () => 0,
    };
    match settings.format {
        Format::Text => print(&test_text(cx, &run, &tally)),
        Format::Json if arguments.coverage => print_json(&test_json(&run, &outcomes)),
        format => {
            let view = View { color: cx.out.color, exit_code: code, ..View::default() };
            print(&policy_check::render(&outcomes, format, &view));
        }
    }
    if arguments.coverage && settings.format == Format::Text {
        print(&coverage_text(cx, &run));
    }
    if let Some(threshold) = arguments.threshold.filter(|_| too_little) {
        eprintln!(
            "{} {:.1} % of the lines are covered, which is less than {threshold} %",
            cx.err.red_bold("error:"),
            run.percent()
        );
    }
    Ok(code)
}

fn test_text(cx: &Context, run: &TestRun, tally: &Tally) -> String {
    let mut out = String::new();
    for test in &run.tests {
        let place = cx.out.dim(&test.span.to_string());
        let path = clean(&test.path);
        match &test.verdict {
            Verdict::Passed => continue,
            Verdict::Skipped => out.push_str(&format!("{}   {path}  {place}\n", cx.out.yellow("SKIP"))),
            Verdict::Broken(diagnostic) => {
                out.push_str(&format!("{}  {path}  {place}\n", cx.out.red_bold("BROKE")));
                out.push_str(&format!("        {}\n", clean(&diagnostic.summary)));
            }
            Verdict::Failed { line } => {
                out.push_str(&format!("{}   {path}  {place}\n", cx.out.red_bold("FAIL")));
                if let Some(line) = line {
                    let number = line.span.line;
                    out.push_str(&format!(
                        "        {number} | {}   {}\n",
                        clean(line.text.trim()),
                        cx.out.dim("is not true")
                    ));
                }
            }
        }
        for line in &test.prints {
            out.push_str(&format!("        {} {}\n", cx.out.dim("print:"), clean(line.trim_end())));
        }
    }
    let text = tally.to_string();
    let text = match () {
        () if tally.failures + tally.broken > 0 => cx.out.red(&text),
        () => cx.out.green(&text),
    };
    if !out.is_empty() {
        out.push('\n');
    }
    format!("{out}{text}\n")
}

fn coverage_text(cx: &Context, run: &TestRun) -> String {
    let rows = run.coverage.iter().map(|file| {
        let all = file.covered.len() + file.missed.len();
        let percent = if all == 0 { 100.0 } else { file.covered.len() as f64 * 100.0 / all as f64 };
        vec![file.file.to_string(), format!("{percent:.1} %"), ranges(&file.missed)]
    });
    let table = crate::terminal::table(cx.out, &["file", "covered", "lines not covered"], rows.collect());
    format!("\n{table}{:.1} % of the lines are covered\n", run.percent())
}

/// `1, 3-5`.
fn ranges(lines: &std::collections::BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => parts.push((*line, *line)),
        }
    }
    let text =
        parts.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    text.collect::<Vec<_>>().join(", ")
}

fn test_json(run: &TestRun, outcomes: &[Outcome]) -> serde_json::Value {
    let tests = run.tests.iter().map(|test| {
        let (verdict, line) = match &test.verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Skipped => ("skipped", None),
            Verdict::Broken(_) => ("broken", None),
            Verdict::Failed { line } => ("failed", line.as_ref().map(|line| line.span.line)),
        };
        serde_json::json!({
            "test": test.path, "file": test.span.file, "line": test.span.line, "verdict": verdict, "failing_line": line,
            "prints": test.prints, "milliseconds": test.took.as_secs_f64() * 1000.0,
        })
    });
    let files = run
        .coverage
        .iter()
        .map(|file| serde_json::json!({ "file": file.file, "covered": file.covered, "not_covered": file.missed }));
    let broken: Vec<&Diagnostic> = outcomes.iter().flat_map(|outcome| &outcome.broken).collect();
    serde_json::json!({
        "tests": tests.collect::<Vec<_>>(), "broken": broken,
        "coverage": { "percent": run.percent(), "files": files.collect::<Vec<_>>() },
    })
}

fn fmt(cx: &Context, files: &[String], only_check: bool) -> Answer {
    let settings = settings(cx, Flags::default())?;
    let changed = policy_check::format(&cx.directory, files, &settings, !only_check)?;
    if cx.json {
        print_json(&serde_json::json!({ "changed": changed }));
    } else {
        print(&changed.iter().map(|file| format!("{file}\n")).collect::<String>());
    }
    Ok(u8::from(only_check && !changed.is_empty()))
}

fn answer_query(cx: &Context, query: &Query, sources: PolicySources, within: &Within) -> Answer {
    let settings = settings(cx, flags(sources))?;
    let answer = eval(&cx.directory, query, &settings, &mut std::io::stdin().lock(), within)?;
    let ours = answer.comparable();
    if cx.json {
        print_json(&answer);
    } else if let Some(theirs) = &answer.opa {
        print(&format!("{}\n{}\n", cx.out.bold("windlass answers"), pretty(&ours)));
        print(&format!("{}\n{}\n", cx.out.bold("opa answers"), pretty(theirs)));
    } else if answer.value.is_none() && answer.rows.is_empty() {
        print("undefined\n");
    } else {
        print(&format!("{}\n", pretty(&ours)));
    }
    let negative = answer.opa.is_some() || (answer.value.is_none() && answer.rows.is_empty());
    Ok(u8::from(negative))
}

fn pretty(value: &serde_json::Value) -> String {
    if value.is_null() { "undefined".into() } else { clean(&format!("{value:#}")) }
}

fn explain(cx: &Context, what: &str, sources: PolicySources) -> Answer {
    if let Some(page) = codes::explain(&what.to_uppercase()) {
        if cx.json {
            print_json(&serde_json::json!({ "code": what.to_uppercase(), "page": page }));
        } else {
            print(page);
        }
        return Ok(0);
    }
    let settings = settings(cx, flags(sources))?;
    let found = policy_check::explain(Path::new(&cx.directory), what, &settings)?;
    if found.is_empty() {
        return Err(vec![
            Diagnostic::error("WL905", format!("there is no rule and no diagnostic `{what}`"))
                .help("name a rule as `deny_public` or `main.deny_public`, a diagnostic as WL434"),
        ]);
    }
    if cx.json {
        print_json(&found);
    } else {
        print(&found.iter().map(|rule| explanation_text(cx, rule)).collect::<Vec<_>>().join("\n"));
    }
    Ok(0)
}

fn explanation_text(cx: &Context, rule: &Explanation) -> String {
    let mut out = format!("{} {}\n", cx.out.bold(&clean(&rule.rule)), rule.effect);
    if let Some(title) = &rule.title {
        out.push_str(&format!("{}\n", clean(title)));
    }
    for line in rule.description.iter().flat_map(|text| text.lines()) {
        out.push_str(&format!("  {}\n", clean(line)));
    }
    let mut row =
        |name: &str, text: String| out.push_str(&format!("{} {}\n", cx.out.dim(&format!("{name}:")), clean(&text)));
    if let Some(severity) = rule.severity {
        row("severity", format!("{severity:?}").to_lowercase());
    }
    rule.places.iter().for_each(|place| row("where", place.to_string()));
    rule.related.iter().for_each(|page| row("see", page.clone()));
    if rule.tests.is_empty() {
        row("tests", "none names it".into());
    }
    rule.tests.iter().for_each(|test| row("test", test.clone()));
    out
}
